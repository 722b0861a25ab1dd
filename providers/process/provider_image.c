/* providers/process/provider_image.c -- Images: an executable or a folder, kept by content hash, so that a release is
 * tomorrow what it is today. `image` becomes "<name>@sha256:<hash>"; the content is images/<hash>/file or .../tree.
 * What takes time was done before (provider_prepare.c); here is only what is known. Must not know instances. */
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cp_image_is_hash(const char *text) {
    return strlen(text) == CP_IMAGE_HASH && strspn(text, "0123456789abcdef") == CP_IMAGE_HASH;
}

const char *cp_image_hash(const char *image) {
    const char *at = image ? strrchr(image, '@') : NULL;
    return at && strncmp(at, "@sha256:", 8) == 0 && cp_image_is_hash(at + 8) ? at + 8 : NULL;
}

int cp_image_find(cp_process *process, const char *image, char **ret, bool *folder, char **ret_name, cp_error *err) {
    if (cp_is_empty(image))
        return 0;
    const char *hash = cp_image_hash(image);
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

bool cp_image_stored(const cp_process *process, const char *hash) {
    cp_autofree char *path = cp_printf("%s/images/%s", process->data_dir, hash);
    return access(path, F_OK) == 0;
}

/* ---- what was hashed ---- */

/* What a path was when it was hashed: any change of it gives another text. */
char *cp_image_stamp(const struct stat *st) {
    return cp_printf("%" PRIu64 ":%" PRIu64 ":%" PRId64 ":%" PRId64 ".%ld:%" PRId64 ".%ld ", (uint64_t)st->st_dev,
                     (uint64_t)st->st_ino, (int64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                     (int64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

const char *cp_image_known(cp_process *process, const char *path, const char *stamp) {
    const char *known = cp_table_get(process->hashes, path);
    if (!known || strncmp(known, stamp, strlen(stamp)) != 0)
        return NULL;
    const char *hash = known + strlen(stamp);
    return cp_image_stored(process, hash) ? hash : NULL;
}

void cp_image_learn(cp_process *process, const char *path, const char *stamp, const char *hash) {
    free(cp_table_get(process->hashes, path));
    cp_table_set(process->hashes, path, cp_printf("%s%s", stamp, hash));
}

/* ---- services ---- */

static int check_source(const cp_service *service, cp_image_source *ret, cp_error *err) {
    const char *image = service->image, *field = ret->field;
    struct stat st;
    ret->path = realpath(image, NULL);
    if (!ret->path || stat(ret->path, &st) < 0)
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is '%s': %s; an image is an executable or a folder",
                          field, image, strerror(errno));
    ret->folder = S_ISDIR(st.st_mode);
    if (!ret->folder && (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)))
        return cp_fail_at(err, CP_E_INVALID, field, NULL,
                          "%s is '%s', which cannot be executed; an image is an executable or a folder", field, image);
    if (ret->folder && !service->command.count)
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is the folder '%s'; say what to run in it with command",
                          field, image);
    ret->stamp = cp_image_stamp(&st);
    return 0;
}

void cp_image_source_clear(cp_image_source *source) {
    free(source->field);
    free(source->path);
    free(source->stamp);
    *source = (cp_image_source){0};
}

int cp_image_source_of(cp_process *process, const cp_service *service, size_t index, cp_image_source *ret,
                       cp_error *err) {
    *ret = (cp_image_source){.field = cp_printf("services[%zu].image", index)};
    int r = cp_run_check(process, service, index, err);
    if (r == 0 && cp_is_empty(service->image) && !service->command.count)
        r = cp_fail_at(err, CP_E_INVALID, ret->field, NULL, "%s is empty and there is no command; give one of them",
                       ret->field);
    if (r < 0 || cp_is_empty(service->image))
        return r;
    const char *hash = cp_image_hash(service->image);
    if (!hash)
        return check_source(service, ret, err);
    cp_autofree char *path = NULL, *name = NULL;
    bool folder;
    cp_autoerror cp_error problem = {0};
    if (cp_image_find(process, service->image, &path, &folder, &name, &problem) < 0)
        return cp_fail_at(err, CP_E_INVALID, ret->field, NULL, "%s: %s", ret->field, problem.message);
    cp_image_touch(process, hash);
    return 0;
}

static int resolve_one(cp_process *process, cp_service *service, const cp_image_source *source, cp_error *err) {
    const char *image = service->image, *hash = cp_image_known(process, source->path, source->stamp);
    if (!hash)
        return cp_fail_at(err, CP_E_CONFLICT, source->field, NULL,
                          "%s is '%s', which changed while it was copied; try again", source->field, image);
    cp_image_touch(process, hash);
    const char *named =
        strchr("/.", image[strlen(image) - 1]) ? source->path : image; /* the name it was given, but for "build/.." */
    const char *slash = strrchr(named, '/');
    char *full = cp_printf("%.200s@sha256:%s", slash ? slash + 1 : named, hash);
    free(service->image);
    service->image = full;
    return 0;
}

int cp_process_resolve(cp_provider *provider, cp_list *services, cp_error *err) {
    cp_process *process = (cp_process *)provider;
    int r = 0;
    for (size_t i = 0; i < services->count && r == 0; i++) {
        cp_service *service = CP_LIST_AT(services, cp_service, i);
        cp_image_source source;
        r = cp_image_source_of(process, service, i, &source, err);
        if (r == 0 && source.path)
            r = resolve_one(process, service, &source, err);
        cp_image_source_clear(&source);
    }
    return r;
}
