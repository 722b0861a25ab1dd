/* providers/process/provider_image.c -- Images: an executable or a folder, kept by content hash, so that a release is
 * tomorrow what it is today. `image` becomes "<name>@sha256:<hash>"; the content is images/<hash>/file or .../tree.
 * What was hashed before and has not changed is not read again. Must not know instances. */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HASH = 64, MOST_FILES = 100000, DEPTH = 64 };
static const int64_t MOST_BYTES = 8LL << 30;

typedef struct walk {
    cp_process *process;
    const char *image, *field;
    EVP_MD_CTX *sum; /* of the tree: names, modes and hashes, in order */
    int64_t files, bytes;
    cp_error *err;
} walk;

static char *hex(EVP_MD_CTX *sum) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(sum, digest, &size);
    cp_buf text = {0};
    for (unsigned i = 0; i < size; i++)
        cp_buf_printf(&text, "%02x", digest[i]);
    return text.data;
}

static int refuse(walk *w, const char *path, const char *why) {
    return cp_fail_at(w->err, CP_E_INVALID, w->field, NULL, "%s is '%s'; %s: %s", w->field, w->image, path, why);
}

/* The hash of a file's bytes; lent. What is known by inode, size and times is not read again. */
static const char *hash_file(walk *w, const char *path, const struct stat *st) {
    cp_autofree char *key =
        cp_printf("%" PRIu64 ":%" PRIu64 ":%" PRId64 ":%" PRId64 ".%ld:%" PRId64 ".%ld", (uint64_t)st->st_dev,
                  (uint64_t)st->st_ino, (int64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                  (int64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
    const char *known = cp_table_get(w->process->hashes, key);
    if (known)
        return known;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        refuse(w, path, strerror(errno));
        return NULL;
    }
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    EVP_DigestInit_ex(sum, EVP_sha256(), NULL);
    cp_autofree char *bytes = cp_alloc0(1 << 18);
    ssize_t n;
    while ((n = read(fd, bytes, 1 << 18)) > 0)
        EVP_DigestUpdate(sum, bytes, (size_t)n);
    close(fd);
    char *text = n == 0 ? hex(sum) : NULL;
    EVP_MD_CTX_free(sum);
    if (text)
        cp_table_set(w->process->hashes, key, text);
    else
        refuse(w, path, strerror(errno));
    return text;
}

static void note(walk *w, char kind, const char *name, const char *content) {
    EVP_DigestUpdate(w->sum, &kind, 1);
    EVP_DigestUpdate(w->sum, name, strlen(name) + 1);
    EVP_DigestUpdate(w->sum, content, strlen(content) + 1);
}

static int visible(const struct dirent *e) {
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name); /* not by locale: the order is part of the hash */
}

static int hash_tree(walk *w, const char *path, const char *name, int depth);

static int hash_entry(walk *w, const char *path, const char *name, int depth) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return refuse(w, path, strerror(errno));
    w->bytes += st.st_size;
    if (++w->files > MOST_FILES || w->bytes > MOST_BYTES)
        return cp_fail_at(w->err, CP_E_TOO_LARGE, w->field, NULL, "%s is '%s', which has more than %d files or %d GiB",
                          w->field, w->image, MOST_FILES, (int)(MOST_BYTES >> 30));
    if (S_ISDIR(st.st_mode))
        return hash_tree(w, path, name, depth + 1);
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX + 1];
        ssize_t n = readlink(path, target, PATH_MAX);
        if (n < 0)
            return refuse(w, path, strerror(errno));
        target[n] = '\0';
        note(w, 'l', name, target);
        return 0;
    }
    if (!S_ISREG(st.st_mode))
        return refuse(w, path, "an image holds files, folders and links only");
    const char *sum = hash_file(w, path, &st);
    if (!sum)
        return w->err->code;
    note(w, st.st_mode & 0111 ? 'x' : 'f', name, sum);
    return 0;
}

static int hash_tree(walk *w, const char *path, const char *name, int depth) {
    if (depth > DEPTH)
        return refuse(w, path, "folders are nested too deeply");
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, visible, by_name), r = 0;
    if (count < 0)
        return refuse(w, path, strerror(errno));
    note(w, 'd', name, "");
    for (int i = 0; i < count; i++) {
        cp_autofree char *below = cp_printf("%s/%s", path, entries[i]->d_name);
        if (r == 0)
            r = hash_entry(w, below, entries[i]->d_name, depth);
        free(entries[i]);
    }
    free(entries);
    note(w, 'e', "", "");
    return r;
}

/* ---- copying into the store ---- */

static int copy_file(const char *from, const char *to, mode_t mode, cp_error *err) {
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t n = -1;
    if (in >= 0 && out >= 0)
        while ((n = copy_file_range(in, NULL, out, NULL, 1 << 26, 0)) > 0) /* shares blocks where the disk can */
            ;
    if (n < 0 && in >= 0 && out >= 0 && lseek(in, 0, SEEK_SET) == 0 && ftruncate(out, 0) == 0 &&
        lseek(out, 0, SEEK_SET) == 0) {
        cp_autofree char *bytes = cp_alloc0(1 << 18); /* between file systems that cannot */
        while ((n = read(in, bytes, 1 << 18)) > 0)
            if (write(out, bytes, (size_t)n) != n) {
                n = -1;
                break;
            }
    }
    bool ok = n == 0 && fchmod(out, mode) == 0;
    int saved = errno;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    errno = saved;
    return ok ? 0 : cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot copy", from);
}

static int copy_tree(const char *from, const char *to, cp_error *err) {
    if (mkdir(to, 0755) < 0)
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot make", to);
    DIR *dir = opendir(from);
    if (!dir)
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot read", from);
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(dir));) {
        if (!visible(e))
            continue;
        cp_autofree char *source = cp_printf("%s/%s", from, e->d_name), *target = cp_printf("%s/%s", to, e->d_name);
        struct stat st;
        char link[PATH_MAX + 1];
        ssize_t n = -1;
        if (lstat(source, &st) < 0)
            r = cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot read", source);
        else if (S_ISDIR(st.st_mode))
            r = copy_tree(source, target, err);
        else if (!S_ISLNK(st.st_mode))
            r = copy_file(source, target, st.st_mode & 0111 ? 0755 : 0644, err);
        else if ((n = readlink(source, link, PATH_MAX)) < 0 || (link[n] = '\0', symlink(link, target)) < 0)
            r = cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot copy", source);
    }
    closedir(dir);
    return r;
}

static void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        cp_autofree char *below = cp_printf("%s/%s", path, e->d_name);
        if (visible(e) && unlink(below) < 0)
            remove_tree(below);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

static int hash_image(walk *w, const char *path, bool folder, char **ret) {
    struct stat st;
    if (!folder) {
        const char *sum = stat(path, &st) == 0 ? hash_file(w, path, &st) : NULL;
        *ret = cp_strdup(sum);
        return sum ? 0 : w->err->code;
    }
    w->sum = EVP_MD_CTX_new();
    EVP_DigestInit_ex(w->sum, EVP_sha256(), NULL);
    int r = hash_tree(w, path, "", 0);
    *ret = r == 0 ? hex(w->sum) : NULL;
    EVP_MD_CTX_free(w->sum);
    return r;
}

/* The copy is hashed again: what changed while it was copied is refused, not recorded under a wrong name. */
static int store_image(walk *w, const char *path, bool folder, const char *hash) {
    cp_autofree char *final = cp_printf("%s/images/%s", w->process->data_dir, hash);
    if (access(final, F_OK) == 0)
        return 0;
    cp_autofree char *fresh = cp_printf("%s.new", final),
                     *content = cp_printf("%s/%s", fresh, folder ? "tree" : "file");
    remove_tree(fresh); /* of an engine that was killed here */
    int r = cp_fs_mkdir(fresh, 0755, w->err);
    if (r == 0)
        r = folder ? copy_tree(path, content, w->err) : copy_file(path, content, 0555, w->err);
    cp_autofree char *copied = NULL;
    w->files = w->bytes = 0;
    if (r == 0)
        r = hash_image(w, content, folder, &copied);
    if (r == 0 && strcmp(copied, hash) != 0)
        r = cp_fail_at(w->err, CP_E_CONFLICT, w->field, NULL,
                       "%s is '%s', which changed while it was copied; try again", w->field, w->image);
    if (r == 0 && rename(fresh, final) < 0)
        r = cp_fs_fail(w->err, CP_E_PROVIDER_FAILED, "cannot keep", final);
    if (r < 0)
        remove_tree(fresh);
    return r;
}

/* ---- names ---- */

/* The hash in "<name>@sha256:<hash>", lent; NULL when it is not such a name. */
static const char *resolved(const char *image) {
    const char *at = strrchr(image, '@');
    if (!at || strncmp(at, "@sha256:", 8) != 0 || strlen(at + 8) != HASH || strspn(at + 8, "0123456789abcdef") != HASH)
        return NULL;
    return at + 8;
}

int cp_image_find(cp_process *process, const char *image, char **ret, bool *folder, char **ret_name, cp_error *err) {
    if (cp_is_empty(image))
        return 0;
    const char *hash = resolved(image);
    if (!hash)
        return cp_fail(err, CP_E_PROVIDER_FAILED, "image '%s' was not resolved", image);
    cp_autofree char *file = cp_printf("%s/images/%s/file", process->data_dir, hash);
    cp_autofree char *tree = cp_printf("%s/images/%s/tree", process->data_dir, hash);
    *folder = access(tree, F_OK) == 0;
    if (!*folder && access(file, F_OK) < 0)
        return cp_fail(err, CP_E_PROVIDER_FAILED, "image '%s' is not in %s/images any more; deploy it again", image,
                       process->data_dir);
    *ret = *folder ? cp_take(tree) : cp_take(file);
    *ret_name = cp_strndup(image, (size_t)(strrchr(image, '@') - image));
    return 0;
}

static int resolve_one(cp_process *process, cp_service *service, const char *field, cp_error *err) {
    const char *image = service->image;
    struct stat st;
    cp_autofree char *path = NULL, *hash = NULL, *name = NULL;
    bool folder;
    if (resolved(image)) {
        cp_autoerror cp_error problem = {0};
        if (cp_image_find(process, image, &path, &folder, &name, &problem) == 0)
            return 0;
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s: %s", field, problem.message);
    }
    path = realpath(image, NULL);
    if (!path || stat(path, &st) < 0)
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is '%s': %s; an image is an executable or a folder",
                          field, image, strerror(errno));
    folder = S_ISDIR(st.st_mode);
    if (!folder && (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)))
        return cp_fail_at(err, CP_E_INVALID, field, NULL,
                          "%s is '%s', which cannot be executed; an image is an executable or a folder", field, image);
    if (folder && !service->command.count)
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is the folder '%s'; say what to run in it with command",
                          field, image);
    walk w = {.process = process, .image = image, .field = field, .err = err};
    int r = hash_image(&w, path, folder, &hash);
    if (r == 0)
        r = store_image(&w, path, folder, hash);
    if (r < 0)
        return r;
    const char *named =
        strchr("/.", image[strlen(image) - 1]) ? path : image; /* the name it was given, but for "build/.." */
    const char *slash = strrchr(named, '/');
    char *full = cp_printf("%.200s@sha256:%s", slash ? slash + 1 : named, hash);
    free(service->image);
    service->image = full;
    return 0;
}

int cp_process_resolve(cp_provider *provider, cp_list *services, cp_error *err) {
    cp_process *process = (cp_process *)provider;
    for (size_t i = 0; i < services->count; i++) {
        cp_service *service = CP_LIST_AT(services, cp_service, i);
        cp_autofree char *field = cp_printf("services[%zu].image", i);
        int r = cp_run_check(process, service, i, err);
        if (r == 0 && cp_is_empty(service->image) && !service->command.count)
            r = cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is empty and there is no command; give one of them",
                           field);
        else if (r == 0 && !cp_is_empty(service->image))
            r = resolve_one(process, service, field, err);
        if (r < 0)
            return r;
    }
    return 0;
}
