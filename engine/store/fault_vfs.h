/* engine/store/fault_vfs.h -- A disk in memory for tests, as an SQLite VFS: what is not synced can be lost, torn or
 * reordered by a crash, and calls can be made to fail. Test builds only. Must not know stores or rows. */
#pragma once
#ifdef CP_FAILPOINTS
#include "base/error.h"

typedef struct cp_disk cp_disk;

typedef enum {
    CP_DISK_OPEN,
    CP_DISK_READ,
    CP_DISK_WRITE,
    CP_DISK_SYNC,
    CP_DISK_TRUNCATE,
    CP_DISK_DELETE,
    CP_DISK_ANY
} cp_disk_call;
extern const char *const cp_disk_calls[]; /* the words, NULL-terminated */

cp_disk *cp_disk_new(uint64_t seed);
void cp_disk_free(cp_disk *disk);             /* every store on it must be closed */
const char *cp_disk_vfs(const cp_disk *disk); /* the name for cp_store_open; lent */

/* Power loss: of what was written since its file's last sync, each 512-byte sector is there or not, in any order; how
 * much, the seed decides. Files that are open from before answer with I/O errors from now on. */
void cp_disk_crash(cp_disk *disk, uint64_t seed);
/* A copy of the disk as it is, with what is not synced yet. */
cp_disk *cp_disk_clone(const cp_disk *disk);
/* The n-th call of the kind from now on (1 is the next) fails, and `times` - 1 that follow; times 0: all that follow.
 * full: ENOSPC (half of a write is done) instead of EIO. A sync that fails leaves each unsynced sector safe or lost for
 * good, and later syncs do not know of it. n 0: nothing fails any more. */
void cp_disk_fail(cp_disk *disk, cp_disk_call call, int64_t n, int64_t times, bool full);
bool cp_disk_failing(const cp_disk *disk); /* the failure that was asked for last has come at least once */
int64_t cp_disk_count(const cp_disk *disk, cp_disk_call call); /* calls so far */
/* Called before each sync takes effect. */
void cp_disk_on_sync(cp_disk *disk, void (*hook)(void *userdata, cp_disk *disk), void *userdata);
#endif
