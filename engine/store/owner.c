/* engine/store/owner.c -- One process owns a store's file, whatever path, symbolic or hard link it came by.
 * flock on the file itself keeps others out; a POSIX lock on a byte of it names the pid, since only those tell it.
 * Closing any descriptor of the file ends this process's POSIX locks on it, SQLite's too: a file that is open here is
 * never opened a second time. Knows files; must not know SQL. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { OWNER_BYTE = 0x3fffff00 }; /* in no page that SQLite locks; locks need no content */

struct cp_owner {
    int fd;
    dev_t device;
    ino_t inode;
    cp_owner *next;
};

static cp_owner *owners; /* of this process */

static bool owned_here(const struct stat *info) {
    for (const cp_owner *o = owners; o; o = o->next)
        if (o->device == info->st_dev && o->inode == info->st_ino)
            return true;
    return false;
}

/* The pid that holds a POSIX lock in the range; 0: nobody. */
static int64_t holder(int fd, off_t start, off_t len) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
}

int64_t cp_store_owner(const char *path) {
    struct stat info;
    if (stat(path, &info) < 0)
        return 0;
    if (owned_here(&info))
        return getpid();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int64_t pid = holder(fd, OWNER_BYTE, 1);
    close(fd);
    return pid;
}

static int conflict(const char *path, int64_t pid, cp_error *err) {
    if (pid <= 0)
        return cp_fail(err, CP_E_CONFLICT, "store %s is owned by another process; stop it first", path);
    return cp_fail(err, CP_E_CONFLICT, "store %s is owned by process %" PRId64 "; stop it first", path, pid);
}

int cp_owner_busy(const cp_owner *owner, const char *path, cp_error *err) {
    int64_t pid = owner ? holder(owner->fd, 0, 0) : 0;
    if (pid <= 0)
        return cp_fail(err, CP_E_CONFLICT, "store %s is locked by another program; end it first", path);
    return cp_fail(err, CP_E_CONFLICT, "store %s is locked by process %" PRId64 ", which has it open; end it first",
                   path, pid);
}

int cp_owner_take(const char *path, cp_owner **ret, char **ret_path, cp_error *err) {
    struct stat info;
    if (stat(path, &info) == 0 && owned_here(&info))
        return conflict(path, getpid(), err);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return cp_fail(err, CP_E_STORAGE_FAILED, "cannot open store %s: %s", path, strerror(errno));
    cp_owner *owner = cp_new0(cp_owner);
    *owner = (cp_owner){.fd = fd, .next = owners};
    owners = owner;
    int r = 0;
    struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = OWNER_BYTE, .l_len = 1};
    char real[PATH_MAX];
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        r = errno == EWOULDBLOCK ? conflict(path, holder(fd, OWNER_BYTE, 1), err)
                                 : cp_fail(err, CP_E_STORAGE_FAILED, "cannot lock store %s: %s", path, strerror(errno));
    else if (fcntl(fd, F_SETLK, &mark) < 0 || fstat(fd, &info) < 0 || !realpath(path, real))
        r = cp_fail(err, CP_E_STORAGE_FAILED, "cannot lock store %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        r = cp_fail(err, CP_E_INVALID, "store %s is not a file", path);
    if (r < 0) {
        cp_owner_free(owner);
        return r;
    }
    owner->device = info.st_dev;
    owner->inode = info.st_ino;
    *ret = owner;
    *ret_path = cp_strdup(real);
    return 0;
}

void cp_owner_free(cp_owner *owner) {
    if (!owner)
        return;
    for (cp_owner **link = &owners; *link; link = &(*link)->next)
        if (*link == owner) {
            *link = owner->next;
            break;
        }
    close(owner->fd);
    free(owner);
}

int cp_owner_header(const cp_owner *owner, unsigned char *header, size_t size, size_t *ret_size, cp_error *err) {
    ssize_t got = pread(owner->fd, header, size, 0);
    if (got < 0)
        return cp_fail(err, CP_E_STORAGE_FAILED, "cannot read the store: %s", strerror(errno));
    *ret_size = (size_t)got;
    return 0;
}

int cp_owner_check_name(const cp_owner *owner, const char *path, const char *last, cp_error *err) {
    struct stat info, journal;
    if (!last || strcmp(last, path) == 0 || stat(last, &info) < 0 || info.st_dev != owner->device ||
        info.st_ino != owner->inode)
        return 0; /* moved or copied: its journal came along or was not there */
    cp_autofree char *wal = cp_printf("%s-wal", last);
    if (stat(wal, &journal) < 0 || journal.st_size == 0)
        return 0;
    return cp_fail(err, CP_E_CONFLICT, "store %s is another name of %s, whose journal %s holds commits; open it as %s",
                   path, last, wal, last);
}
