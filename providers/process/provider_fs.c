/* providers/process/provider_fs.c -- Files, folders, locks, sockets, ports and control groups, as the process provider
 * needs them. Must not know instances. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Nobody's fault and gone by itself: tried for ever instead of counted. */
static const int passing[] = {EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT, ENOBUFS, EIO};

bool cp_fs_passes(const char *text) {
    for (size_t i = 0; i < CP_COUNT(passing); i++)
        if (strstr(text, strerror(passing[i])))
            return true;
    return false;
}

int cp_fs_fail(cp_error *err, int code, const char *what, const char *path) {
    const int saved = errno;
    for (size_t i = 0; i < CP_COUNT(passing); i++)
        if (saved == passing[i])
            code = CP_E_PROVIDER_UNAVAILABLE;
    return cp_fail(err, code, "%s %s: %s", what, path, strerror(saved));
}

int cp_fs_mkdir(const char *path, mode_t mode, cp_error *err) {
    if (mkdir(path, mode) == 0 || errno == EEXIST)
        return 0;
    const char *slash = strrchr(path, '/');
    if (errno != ENOENT || !slash || slash == path)
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot make the folder", path);
    cp_autofree char *parent = cp_strndup(path, (size_t)(slash - path));
    int r = cp_fs_mkdir(parent, mode, err);
    if (r < 0)
        return r;
    return mkdir(path, mode) == 0 || errno == EEXIST
               ? 0
               : cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot make the folder", path);
}

int cp_fs_write(const char *dir, const char *name, const void *bytes, size_t len, mode_t mode, cp_error *err) {
    cp_autofree char *path = cp_printf("%s/%s", dir, name), *fresh = cp_printf("%s/.%s.new", dir, name);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    size_t done = 0;
    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, (const char *)bytes + done, len - done);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    bool ok = fd >= 0 && done == len && fchmod(fd, mode) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    if (!ok || rename(fresh, path) < 0) {
        saved = errno;
        unlink(fresh);
        errno = saved;
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot write", path);
    }
    return 0;
}

char *cp_fs_read(const char *path, size_t max, size_t *ret_len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) < 0 || st.st_size > (off_t)max) {
        close(fd);
        errno = EFBIG;
        return NULL;
    }
    size_t size = st.st_size ? (size_t)st.st_size : max < 4096 ? max : 4096; /* files of /proc have no size */
    char *text = cp_alloc0(size + 1);
    size_t len = 0;
    for (ssize_t n; len < size && (n = read(fd, text + len, size - len)) > 0;)
        len += (size_t)n;
    close(fd);
    if (ret_len)
        *ret_len = len;
    return text;
}

int cp_fs_folder_below(int root, const char *path, char **ret_last, uid_t uid, gid_t gid) {
    cp_autofree char *parts = cp_strdup(path);
    int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
    char *rest = parts, *part = strsep(&rest, "/");
    for (;;) {
        while (part && (!*part || strcmp(part, ".") == 0))
            part = strsep(&rest, "/");
        char *next = strsep(&rest, "/");
        while (next && (!*next || strcmp(next, ".") == 0))
            next = strsep(&rest, "/");
        if (at < 0 || !part || strcmp(part, "..") == 0) {
            if (at >= 0) {
                close(at);
                errno = EINVAL;
            }
            return -1;
        }
        if (!next) {
            *ret_last = cp_strdup(part);
            return at;
        }
        if (mkdirat(at, part, 0755) == 0)
            (void)!fchownat(at, part, uid, gid, AT_SYMLINK_NOFOLLOW); /* as nobody's root: stays ours, which is right */
        int below = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(at);
        errno = saved;
        at = below;
        part = next;
    }
}

cp_fs_lock cp_fs_lock_of(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? CP_FS_FREE : CP_FS_UNKNOWN;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int r = fcntl(fd, F_OFD_GETLK, &lock);
    close(fd);
    return r < 0 ? CP_FS_UNKNOWN : lock.l_type != F_UNLCK ? CP_FS_HELD : CP_FS_FREE;
}

int cp_fs_connect(const char *dir, const char *name) {
    int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = folder < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, name);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int saved = errno;
        close(fd);
        fd = -1;
        errno = saved;
    }
    int saved = errno;
    if (folder >= 0)
        close(folder);
    errno = saved;
    return fd;
}

int cp_fs_port_free(int port, bool udp) {
    int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (fd < 0)
        return -1;
    bool ok = bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    close(fd);
    return ok;
}

/* ---- control groups ---- */

static bool put(const char *dir, const char *name, const char *text) {
    cp_autofree char *path = cp_printf("%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool has_word(const char *dir, const char *name, const char *word) {
    cp_autofree char *path = cp_printf("%s/%s", dir, name), *text = cp_fs_read(path, 4096, NULL);
    char *rest = text;
    for (char *w; text && (w = strsep(&rest, " \n"));)
        if (strcmp(w, word) == 0)
            return true;
    return false;
}

/* Our own group below root, where we may make more. */
static char *own_group(const char *root) {
    cp_autofree char *procs = cp_printf("%s/cgroup.procs", root);
    if (access(procs, F_OK) < 0)
        return NULL;
    cp_autofree char *own = cp_printf("%s/ctrlplane", root);
    if ((mkdir(own, 0755) < 0 && errno != EEXIST) || access(own, W_OK) < 0)
        return NULL;
    return cp_take(own);
}

static bool enable(const char *root, const char *own, const char *controller) {
    cp_autofree char *word = cp_printf("+%s", controller);
    if (!has_word(root, "cgroup.controllers", controller))
        return false;
    put(root, "cgroup.subtree_control", word);
    put(own, "cgroup.subtree_control", word);
    return has_word(own, "cgroup.subtree_control", controller);
}

void cp_groups_find(cp_groups *groups) {
    *groups = (cp_groups){0};
    const char *root = "/sys/fs/cgroup";
    if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0)
        root = "/sys/fs/cgroup/unified"; /* beside version 1: no controllers, but it kills a whole group at once */
    groups->unified = own_group(root);
    if (groups->unified) {
        groups->unified_cpu = enable(root, groups->unified, "cpu");
        groups->unified_memory = enable(root, groups->unified, "memory");
    }
    groups->cpu = own_group("/sys/fs/cgroup/cpu");
    groups->memory = own_group("/sys/fs/cgroup/memory");
}

void cp_groups_clear(cp_groups *groups) {
    free(groups->unified);
    free(groups->cpu);
    free(groups->memory);
    *groups = (cp_groups){0};
}
