/* engine/store/fault_vfs.c -- The disk in memory. Each file has what is durable, and the calls since its last sync in
 * order; what a reader sees is kept beside them. Without shared memory: WAL works in exclusive locking mode only. */
#ifdef CP_FAILPOINTS
#include "store/fault_vfs.h"
#include "base/table.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512 };
const char *const cp_disk_calls[] = {"open", "read", "write", "sync", "truncate", "delete", "any", NULL};

typedef struct change {
    int64_t offset; /* of a write; the new size of a truncate */
    size_t len;
    bool truncate;
    unsigned char bytes[];
} change;

typedef struct file {
    char *name;
    cp_buf seen, durable;
    cp_vec changes; /* change *, since the last sync */
    bool linked;    /* its name is there */
    bool safe;      /* ... also after a crash: it was synced once */
    bool unlinked;  /* deleted, but the folder was not synced */
} file;

struct cp_disk {
    sqlite3_vfs vfs;
    char name[32];
    cp_vec files; /* file *; kept until the disk goes, so that handles never dangle */
    uint64_t random;
    int64_t generation; /* counts crashes */
    cp_disk_call fail_call;
    int64_t fail_in, fail_times; /* fail_in: calls until the first that fails; 0: armed off */
    bool fail_full, fail_ever, fail_came;
    int64_t counts[CP_DISK_ANY + 1];
    void (*hook)(void *userdata, cp_disk *disk);
    void *userdata;
};

typedef struct handle {
    sqlite3_file base;
    cp_disk *disk;
    file *file;
    int64_t generation;
    bool delete_on_close;
    bool folder; /* the next sync syncs the folder, too: the first one of a journal, as SQLite's own VFS does */
} handle;

static uint64_t next_random(uint64_t *state) { /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t value = (*state += 0x9e3779b97f4a7c15u);
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* ---- what a file holds ---- */

static void set_size(cp_buf *content, size_t size) {
    static const unsigned char ZEROES[4096];
    while (content->len < size)
        cp_buf_add(content, ZEROES, size - content->len < sizeof ZEROES ? size - content->len : sizeof ZEROES);
    content->len = size;
}

static void set_bytes(cp_buf *content, int64_t offset, const void *bytes, size_t len) {
    if (content->len < (size_t)offset + len)
        set_size(content, (size_t)offset + len);
    memcpy(content->data + offset, bytes, len);
}

static void copy_content(cp_buf *to, const cp_buf *from) {
    cp_buf_clear(to);
    if (from->len)
        cp_buf_add(to, from->data, from->len);
}

static void drop_changes(file *f) {
    for (size_t i = 0; i < f->changes.count; i++)
        free(f->changes.items[i]);
    cp_vec_clear(&f->changes);
}

static void note_change(file *f, bool truncate, int64_t offset, const void *bytes, size_t len) {
    change *c = cp_alloc0(sizeof *c + len);
    *c = (change){.offset = offset, .len = len, .truncate = truncate};
    if (len)
        memcpy(c->bytes, bytes, len);
    cp_vec_push(&f->changes, c);
}

/* Only what was written since the last sync: what a failed sync lost stays lost. */
static void make_durable(file *f) {
    for (size_t i = 0; i < f->changes.count; i++) {
        const change *c = f->changes.items[i];
        if (c->truncate)
            set_size(&f->durable, (size_t)c->offset);
        else
            set_bytes(&f->durable, c->offset, c->bytes, c->len);
    }
    drop_changes(f);
}

/* Applies each sector of the changes with the probability share / 4; what is left is forgotten. */
static void settle(file *f, uint64_t share, uint64_t *random) {
    cp_vec *changes = &f->changes;
    for (size_t i = changes->count; i > 1; i--) { /* in any order */
        size_t j = next_random(random) % i;
        void *other = changes->items[j];
        changes->items[j] = changes->items[i - 1];
        changes->items[i - 1] = other;
    }
    for (size_t i = 0; i < changes->count; i++) {
        const change *c = changes->items[i];
        if (c->truncate && next_random(random) % 4 < share)
            set_size(&f->durable, (size_t)c->offset);
        for (size_t done = 0, part; done < c->len; done += part) {
            int64_t at = c->offset + (int64_t)done;
            part = SECTOR - (size_t)(at % SECTOR);
            part = part < c->len - done ? part : c->len - done;
            if (next_random(random) % 4 < share)
                set_bytes(&f->durable, at, c->bytes + done, part);
        }
    }
    drop_changes(f);
}

static file *find_file(const cp_disk *disk, const char *name) {
    for (size_t i = 0; i < disk->files.count; i++) {
        file *f = disk->files.items[i];
        if (f->linked && strcmp(f->name, name) == 0)
            return f;
    }
    return NULL;
}

static file *add_file(cp_disk *disk, const char *name) {
    file *f = cp_new0(file);
    f->name = cp_strdup(name);
    f->linked = true;
    cp_vec_push(&disk->files, f);
    return f;
}

void cp_disk_crash(cp_disk *disk, uint64_t seed) {
    uint64_t random = seed;
    disk->generation++;
    disk->fail_in = disk->fail_times = 0;
    disk->fail_ever = false;
    for (size_t i = 0; i < disk->files.count; i++) {
        file *f = disk->files.items[i];
        if (f->unlinked) /* the folder may have forgotten that it is gone, unless the name was taken anew */
            f->linked = f->safe && !find_file(disk, f->name) && next_random(&random) % 2;
        else
            f->linked = f->linked && (f->safe || next_random(&random) % 2);
        f->unlinked = false;
        settle(f, next_random(&random) % 5, &random);
        copy_content(&f->seen, &f->durable);
        f->safe = f->linked;
    }
}

/* ---- faults ---- */

/* True when this call fails. */
static bool fails(cp_disk *disk, cp_disk_call call) {
    disk->counts[call]++;
    disk->counts[CP_DISK_ANY]++;
    if (disk->fail_in == 0 || (disk->fail_call != CP_DISK_ANY && disk->fail_call != call))
        return false;
    if (disk->fail_in > 1) {
        disk->fail_in--;
        return false;
    }
    disk->fail_came = true;
    if (!disk->fail_ever && --disk->fail_times == 0)
        disk->fail_in = 0;
    return true;
}

void cp_disk_fail(cp_disk *disk, cp_disk_call call, int64_t n, int64_t times, bool full) {
    disk->fail_call = call;
    disk->fail_in = n;
    disk->fail_times = times;
    disk->fail_ever = n > 0 && times == 0;
    disk->fail_full = full;
    disk->fail_came = disk->fail_came && n == 0;
}

bool cp_disk_failing(const cp_disk *disk) {
    return disk->fail_came;
}

int64_t cp_disk_count(const cp_disk *disk, cp_disk_call call) {
    return disk->counts[call];
}

void cp_disk_on_sync(cp_disk *disk, void (*hook)(void *userdata, cp_disk *disk), void *userdata) {
    disk->hook = hook;
    disk->userdata = userdata;
}

static int failure(const cp_disk *disk, int io_error) {
    return disk->fail_full ? SQLITE_FULL : io_error;
}

/* ---- the file's methods ---- */

static bool gone(const handle *h) {
    return h->generation != h->disk->generation; /* from before the crash */
}

static int file_close(sqlite3_file *base) {
    handle *h = (handle *)base;
    if (h->delete_on_close && !gone(h))
        h->file->linked = false;
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *target, int amount, sqlite3_int64 offset) {
    handle *h = (handle *)base;
    if (gone(h) || fails(h->disk, CP_DISK_READ))
        return SQLITE_IOERR_READ; /* no ENOSPC in reading */
    const cp_buf *seen = &h->file->seen;
    size_t have = (size_t)offset < seen->len ? seen->len - (size_t)offset : 0, want = (size_t)amount;
    size_t len = have < want ? have : want;
    if (len)
        memcpy(target, seen->data + offset, len);
    memset((char *)target + len, 0, want - len);
    return len < want ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int file_write(sqlite3_file *base, const void *bytes, int amount, sqlite3_int64 offset) {
    handle *h = (handle *)base;
    if (gone(h))
        return SQLITE_IOERR_WRITE;
    size_t len = (size_t)amount;
    bool failed = fails(h->disk, CP_DISK_WRITE);
    if (failed)
        len = h->disk->fail_full ? len / 2 : 0;
    if (len) {
        set_bytes(&h->file->seen, offset, bytes, len);
        note_change(h->file, false, offset, bytes, len);
    }
    return failed ? failure(h->disk, SQLITE_IOERR_WRITE) : SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
    handle *h = (handle *)base;
    if (gone(h) || fails(h->disk, CP_DISK_TRUNCATE))
        return SQLITE_IOERR_TRUNCATE;
    set_size(&h->file->seen, (size_t)size);
    note_change(h->file, true, size, NULL, 0);
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags) {
    (void)flags;
    handle *h = (handle *)base;
    if (gone(h))
        return SQLITE_IOERR_FSYNC;
    if (h->disk->hook)
        h->disk->hook(h->disk->userdata, h->disk);
    if (fails(h->disk, CP_DISK_SYNC)) {
        settle(h->file, next_random(&h->disk->random) % 5,
               &h->disk->random); /* as Linux does: the pages are clean now, wherever they are */
        return failure(h->disk, SQLITE_IOERR_FSYNC);
    }
    make_durable(h->file);
    h->file->safe = true;
    for (size_t i = 0; h->folder && i < h->disk->files.count; i++)
        ((file *)h->disk->files.items[i])->unlinked = false;
    h->folder = false;
    return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret) {
    handle *h = (handle *)base;
    if (gone(h))
        return SQLITE_IOERR_FSTAT;
    *ret = (sqlite3_int64)h->file->seen.len;
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level) {
    (void)level; /* one connection per file: SQLite's own bookkeeping is enough */
    return gone((handle *)base) ? SQLITE_IOERR_LOCK : SQLITE_OK;
}

static int file_check_lock(sqlite3_file *base, int *ret) {
    (void)base;
    *ret = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *arg) {
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *base) {
    (void)base;
    return 4096; /* as SQLite's own VFS says; the tearing at 512 is ours */
}

static int file_traits(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* as SQLite's own VFS says */
}

static const sqlite3_io_methods METHODS = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_traits,
};

/* ---- the disk's methods ---- */

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags) {
    cp_disk *disk = vfs->pAppData;
    handle *h = (handle *)base;
    *h = (handle){.disk = disk, .generation = disk->generation};
    if (fails(disk, CP_DISK_OPEN))
        return failure(disk, SQLITE_CANTOPEN);
    h->file = name ? find_file(disk, name) : NULL;
    if (!h->file && !(flags & SQLITE_OPEN_CREATE))
        return SQLITE_CANTOPEN;
    if (!h->file)
        h->file = add_file(disk, name ? name : "");
    h->delete_on_close = !name || flags & SQLITE_OPEN_DELETEONCLOSE;
    h->folder = (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
    h->base.pMethods = &METHODS;
    if (ret_flags)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int disk_delete(sqlite3_vfs *vfs, const char *name, int sync_folder) {
    cp_disk *disk = vfs->pAppData;
    if (fails(disk, CP_DISK_DELETE))
        return SQLITE_IOERR_DELETE;
    file *f = find_file(disk, name);
    if (!f)
        return SQLITE_IOERR_DELETE_NOENT;
    f->linked = false;
    f->unlinked = !sync_folder;
    return SQLITE_OK;
}

static int disk_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret) {
    (void)flags;
    const file *f = find_file(vfs->pAppData, name);
    *ret = f && f->seen.len > 0; /* SQLite takes an empty journal for none */
    return SQLITE_OK;
}

static int disk_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret) {
    (void)vfs;
    sqlite3_snprintf(size, ret, "%s", name);
    return SQLITE_OK;
}

static int disk_randomness(sqlite3_vfs *vfs, int size, char *ret) {
    cp_disk *disk = vfs->pAppData;
    for (int i = 0; i < size; i++)
        ret[i] = (char)next_random(&disk->random);
    return size;
}

static int disk_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return microseconds;
}

static int disk_time(sqlite3_vfs *vfs, double *ret) {
    (void)vfs;
    *ret = 2461041.5; /* 2026-01-01: nothing in a store asks SQLite for the time */
    return SQLITE_OK;
}

cp_disk *cp_disk_new(uint64_t seed) {
    static int64_t made;
    cp_disk *disk = cp_new0(cp_disk);
    disk->random = seed;
    sqlite3_snprintf(sizeof disk->name, disk->name, "cp-disk-%lld", (long long)++made);
    disk->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(handle),
        .mxPathname = 1024,
        .zName = disk->name,
        .pAppData = disk,
        .xOpen = disk_open,
        .xDelete = disk_delete,
        .xAccess = disk_access,
        .xFullPathname = disk_full_path,
        .xRandomness = disk_randomness,
        .xSleep = disk_sleep,
        .xCurrentTime = disk_time,
    };
    sqlite3_vfs_register(&disk->vfs, 0);
    return disk;
}

void cp_disk_free(cp_disk *disk) {
    if (!disk)
        return;
    sqlite3_vfs_unregister(&disk->vfs);
    for (size_t i = 0; i < disk->files.count; i++) {
        file *f = disk->files.items[i];
        drop_changes(f);
        cp_buf_clear(&f->seen);
        cp_buf_clear(&f->durable);
        free(f->name);
        free(f);
    }
    cp_vec_clear(&disk->files);
    free(disk);
}

const char *cp_disk_vfs(const cp_disk *disk) {
    return disk->name;
}

cp_disk *cp_disk_clone(const cp_disk *disk) {
    cp_disk *copy = cp_disk_new(disk->random);
    for (size_t i = 0; i < disk->files.count; i++) {
        const file *f = disk->files.items[i];
        file *g = add_file(copy, f->name);
        copy_content(&g->seen, &f->seen);
        copy_content(&g->durable, &f->durable);
        for (size_t j = 0; j < f->changes.count; j++) {
            const change *c = f->changes.items[j];
            note_change(g, c->truncate, c->offset, c->bytes, c->len);
        }
        g->linked = f->linked;
        g->safe = f->safe;
        g->unlinked = f->unlinked;
    }
    return copy;
}
#endif
