/* engine/compose.c -- The one place where plane, store, providers and scripts are wired together. */
#include "compose.h"

#include "base/id.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where our other half is: what was asked for, else beside this library or program, else where it was installed. */

/* The folder of this code; of the program where the two are one. NULL when nobody knows. The caller frees. */
static char *own_folder(void) {
    char path[PATH_MAX];
    Dl_info info;
    bool found = dladdr((const void *)&cp_engine_open, &info) && info.dli_fname && strchr(info.dli_fname, '/') &&
                 realpath(info.dli_fname, path);
    if (!found) {
        ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
        if (len <= 0)
            return NULL;
        path[len] = '\0';
    }
    char *last = strrchr(path, '/');
    if (!last)
        return NULL;
    *last = '\0';
    return cp_strdup(path);
}

/* The first of the candidates that has `probe` in it (access mode), else NULL. */
static char *first_of(char *const *candidates, size_t count, const char *probe, int mode) {
    for (size_t i = 0; i < count; i++) {
        if (!candidates[i])
            continue;
        cp_autofree char *path = cp_printf("%s%s", candidates[i], probe);
        if (access(path, mode) == 0)
            return cp_strdup(candidates[i]);
    }
    return NULL;
}

static const char *locate(const char *variable, const char *const *beside, const char *source, const char *installed,
                          const char *probe, int mode) {
    const char *asked = getenv(variable);
    if (!cp_is_empty(asked))
        return asked;
    cp_autofree char *folder = own_folder();
    char *candidates[8] = {0};
    size_t count = 0;
    for (size_t i = 0; folder && beside[i]; i++)
        candidates[count++] = cp_printf("%s/%s", folder, beside[i]);
    candidates[count++] = cp_strdup(source);
    candidates[count++] = cp_strdup(installed);
    char *found = first_of(candidates, count, probe, mode);
    for (size_t i = 0; i < count; i++)
        free(candidates[i]);
    return found ? found : installed; /* kept for the process's life: asked for once */
}

const char *cp_lua_dir(void) {
    /* the last two: from bin or lib, and from lib/lua/5.1/ctrlplane, of an installation wherever it was put */
    static const char *const BESIDE[] = {"lua", "..", "../share/lua/5.1", "../../../../share/lua/5.1", NULL};
    static const char *dir;
    if (!dir)
        dir = locate("CTRLPLANE_LUA", BESIDE, CP_SOURCE_LUA, CP_INSTALLED_LUA, "/ctrlplane/prelude.lua", R_OK);
    return dir;
}

const char *cp_shim_path(void) {
    static const char *const BESIDE[] = {"ctrlplane-shim", "../../ctrlplane-shim", "../libexec/ctrlplane-shim",
                                         "../../../../libexec/ctrlplane-shim", NULL};
    static const char *path;
    if (!path)
        path = locate("CTRLPLANE_SHIM", BESIDE, NULL, CP_INSTALLED_SHIM, "", X_OK);
    return path;
}

static int plane_id(cp_store *store, cp_loop *loop, char **ret, cp_error *err) {
    *ret = cp_store_meta_get(store, "plane_id");
    if (*ret)
        return 0;
    cp_autofree char *id = cp_id_new("plane", cp_loop_wall(loop));
    int r = cp_store_meta_set(store, "plane_id", id, err);
    if (r == 0)
        r = cp_store_commit(store, err); /* before anything is made under it */
    if (r == 0)
        *ret = cp_take(id);
    return r;
}

/* Instances' folders: beside the store, or a temporary one for a store in memory. */
static int data_dir(const cp_compose *options, char **ret, cp_error *err) {
    if (options->data_dir) {
        *ret = cp_strdup(options->data_dir);
    } else if (strcmp(options->store, ":memory:") != 0) {
        *ret = cp_printf("%s.d", options->store);
    } else {
        const char *tmp = getenv("TMPDIR");
        cp_autofree char *path = cp_printf("%s/ctrlplane-XXXXXX", cp_is_empty(tmp) ? "/tmp" : tmp);
        if (!mkdtemp(path))
            return cp_fail(err, CP_E_STORAGE_FAILED, "cannot make a folder %s: %s", path, strerror(errno));
        *ret = cp_take(path);
        return 0;
    }
    const mode_t mode = geteuid() == 0 ? 0711 : 0700; /* services of other users have to get to their folders */
    if (mkdir(*ret, mode) < 0 && errno != EEXIST) {
        int r = cp_fail(err, CP_E_STORAGE_FAILED, "cannot make the folder %s: %s", *ret, strerror(errno));
        free(*ret);
        *ret = NULL;
        return r;
    }
    return 0;
}

static int make_provider(const cp_compose *options, cp_engine *engine, const char *id, cp_provider **ret,
                         cp_error *err) {
    const char *type = cp_is_empty(options->provider) ? "process" : options->provider;
    if (options->world) {
        *ret = engine->world = options->world;
        return 0;
    }
    if (strcmp(type, "sim") == 0) {
        int r = cp_sim_provider_new(engine->loop, "sim", options->scenario, options->seed, &engine->world, err);
        engine->own_world = r == 0;
        *ret = engine->world;
        return r;
    }
    if (strcmp(type, "process") != 0)
        return cp_fail_at(err, CP_E_PROVIDER_NOT_FOUND, "provider", "there are 'process' and 'sim'",
                          "there is no provider '%.80s'", type);
    cp_autofree char *folder = NULL;
    int r = data_dir(options, &folder, err);
    return r < 0 ? r : cp_process_provider_new(engine->loop, "process", folder, cp_shim_path(), id, ret, err);
}

static int open_plane(const cp_compose *options, cp_engine *engine, cp_store **store, cp_error *err) {
    cp_autofree char *id = NULL;
    int r = cp_store_open(options->store, options->vfs, store, err);
    if (r == 0)
        r = plane_id(*store, engine->loop, &id, err);
    if (r < 0)
        return r;
    cp_provider *providers[2] = {0};
    r = make_provider(options, engine, id, &providers[0], err);
    if (r < 0)
        return r;
    bool own = !engine->world; /* a simulated world outlives its engines */
    cp_scripts *scripts = NULL;
    r = cp_lua_scripts_new(engine->loop, cp_lua_dir(), options->strategy_dirs, &scripts, err);
    if (r < 0) {
        if (own)
            providers[0]->class->free(providers[0]);
        return r;
    }
    cp_plane_parts parts = {.loop = engine->loop,
                            .store = cp_take(*store),
                            .scripts = scripts,
                            .providers = providers,
                            .own_providers = own,
                            .plane_id = id};
    return cp_plane_new(&parts, &engine->plane, err);
}

int cp_engine_open(const cp_compose *options, cp_engine *ret, cp_error *err) {
    cp_engine engine = {.loop = options->loop};
    if (!engine.loop) {
        int r = cp_loop_new(options->virtual_clock, &engine.loop, err);
        if (r < 0)
            return r;
        engine.own_loop = true;
        if (options->virtual_clock) {
            cp_loop_seed(engine.loop, options->seed ? options->seed : 1);
            cp_id_seed(options->seed ? options->seed : 1);
        }
    }
    cp_store *store CP_CLEANUP(cp_store_closep) = NULL;
    int r = open_plane(options, &engine, &store, err);
    if (r < 0) {
        cp_engine_close(&engine);
        return r;
    }
    *ret = engine;
    return 0;
}

void cp_engine_close(cp_engine *engine) {
    cp_plane_free(engine->plane);
    if (engine->own_world && engine->world)
        engine->world->class->free(engine->world);
    if (engine->own_loop)
        cp_loop_free(engine->loop);
    *engine = (cp_engine){0};
}
