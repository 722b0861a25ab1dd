/* engine/lua/host.c -- The script host: loads strategies, says what they declare, and starts their runs.
 * Implements script.h; must not know workloads, journals or goals. */
#include "lua/host.h"
#include "base/limits.h"
#include "lua/host_run.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#define MOST_KNOWN 64

void cp_strategy_free(cp_strategy *strategy) {
    if (!strategy)
        return;
    free(strategy->name);
    free(strategy->summary);
    free(strategy->hash);
    json_decref(strategy->bundle);
    json_decref(strategy->params);
    json_decref(strategy->guards);
    json_decref(strategy->needs);
    free(strategy);
}

static char *hash_of(const json_t *bundle) {
    cp_autofree char *text = cp_json_sorted(bundle);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL);
    cp_buf out = {0};
    for (unsigned int i = 0; i < len; i++)
        cp_buf_printf(&out, "%02x", digest[i]);
    return out.data;
}

static int push_describe(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "ctrlplane.prelude");
    lua_getfield(L, -1, "describe");
    lua_pushstring(L, json_string_value(lua_touserdata(L, 1)));
    return 2;
}

/* Runs the file, which returns its table, in a state of its own; reads what the table declares. */
static int describe(cp_scripts *scripts, const json_t *bundle, json_t **ret, cp_error *err) {
    cp_autosandbox cp_sandbox *sandbox = NULL;
    int r = cp_sandbox_new(scripts, json_object_get(bundle, "files"), "load", &sandbox, err);
    if (r < 0)
        return r;
    lua_State *L = sandbox->L;
    lua_State *co = lua_newthread(L);
    lua_pushcfunction(L, push_describe);
    lua_pushlightuserdata(L, json_object_get(bundle, "main"));
    if (lua_pcall(L, 1, 2, 0) != 0)
        return cp_fail(err, CP_E_INTERNAL, "%s", lua_tostring(L, -1));
    lua_xmove(L, co, 2);
    cp_sandbox_arm(sandbox);
    if (lua_resume(co, 1) != 0) {
        cp_sandbox_error(sandbox, co, err);
        return err->code;
    }
    cp_sandbox_disarm(sandbox);
    lua_xmove(co, L, 1);
    r = cp_lua_to_json(L, -1, NULL, ret, err);
    return r < 0 ? cp_error_wrap(err, "the table of the strategy") : 0;
}

static char *stem(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? cp_strndup(name, (size_t)(dot - name)) : cp_strdup(name);
}

static json_t *keep(json_t *table, const char *key) {
    json_t *value = json_object_get(table, key);
    return value && !json_is_null(value) ? json_incref(value) : NULL;
}

static cp_strategy *copy_of(const cp_strategy *strategy) {
    cp_strategy *copy = cp_new0(cp_strategy);
    *copy = (cp_strategy){.name = cp_strdup(strategy->name),
                          .summary = cp_strdup(strategy->summary),
                          .hash = cp_strdup(strategy->hash),
                          .bundle = json_incref(strategy->bundle),
                          .params = json_incref(strategy->params),
                          .guards = json_incref(strategy->guards),
                          .needs = json_incref(strategy->needs),
                          .has_rollback = strategy->has_rollback};
    return copy;
}

static void forget_known(cp_lua_scripts *scripts) {
    size_t cursor = 0;
    const char *hash;
    void *strategy;
    while (scripts->known && cp_table_next(scripts->known, &cursor, &hash, &strategy))
        cp_strategy_free(strategy);
    cp_table_free(scripts->known);
    scripts->known = NULL;
}

static void remember_known(cp_lua_scripts *scripts, const cp_strategy *strategy) {
    if (scripts->known && cp_table_count(scripts->known) >= MOST_KNOWN)
        forget_known(scripts);
    if (!scripts->known)
        scripts->known = cp_table_new();
    cp_table_set(scripts->known, strategy->hash, copy_of(strategy));
}

/* What the bundle's table declares. */
static int read_strategy(cp_scripts *scripts, const json_t *bundle, const char *file, cp_strategy **ret,
                         cp_error *err) {
    cp_autojson json_t *table = NULL;
    int r = describe(scripts, bundle, &table, err);
    if (r < 0)
        return r;
    cp_autostrategy cp_strategy *strategy = cp_new0(cp_strategy);
    const char *name = json_string_value(json_object_get(table, "name"));
    strategy->name = name ? cp_strdup(name) : stem(file);
    strategy->summary = cp_strdup(json_string_value(json_object_get(table, "summary")));
    strategy->params = json_object_size(json_object_get(table, "params")) ? keep(table, "params") : json_object();
    strategy->guards = keep(table, "guards");
    strategy->needs = keep(table, "needs");
    strategy->has_rollback = json_is_true(json_object_get(table, "has_rollback"));
    cp_autoerror cp_error wrong = {0};
    if (cp_params_declared(strategy->params, &wrong) < 0)
        return cp_fail_at(err, CP_E_SCRIPT_ERROR, wrong.field, wrong.hint, "%s: %s", file, wrong.message);
    strategy->bundle = json_deep_copy(bundle);
    *ret = cp_take(strategy);
    return 0;
}

static int load_bundle(cp_scripts *base, const json_t *bundle, cp_strategy **ret, cp_error *err) {
    cp_lua_scripts *scripts = (cp_lua_scripts *)base;
    const char *file = json_string_value(json_object_get(bundle, "main"));
    int64_t prelude = json_integer_value(json_object_get(bundle, "prelude"));
    if (!file || !json_is_object(json_object_get(bundle, "files")))
        return cp_fail(err, CP_E_INVALID, "a strategy's bundle needs main and files");
    if (prelude != scripts->prelude_version)
        return cp_fail(err, CP_E_UNSUPPORTED,
                       "%s was pinned with version %lld of the rollout object; this engine has %lld", file,
                       (long long)prelude, (long long)scripts->prelude_version);
    cp_autofree char *hash = hash_of(bundle);
    const cp_strategy *known = scripts->known ? cp_table_get(scripts->known, hash) : NULL;
    if (known) {
        *ret = copy_of(known);
        return 0;
    }
    int r = read_strategy(base, bundle, file, ret, err);
    if (r < 0)
        return r;
    (*ret)->hash = cp_take(hash);
    remember_known(scripts, *ret);
    return 0;
}

static int load(cp_scripts *scripts, const char *name_or_path, cp_strategy **ret, cp_error *err) {
    cp_autojson json_t *bundle = NULL;
    int r = cp_bundle_find((cp_lua_scripts *)scripts, name_or_path, &bundle, err);
    return r < 0 ? r : load_bundle(scripts, bundle, ret, err);
}

static int load_text(cp_scripts *scripts, const char *name, const char *source, const cp_map *files, cp_strategy **ret,
                     cp_error *err) {
    cp_autojson json_t *bundle = NULL;
    int r = cp_bundle_text((cp_lua_scripts *)scripts, name, source, files, &bundle, err);
    return r < 0 ? r : load_bundle(scripts, bundle, ret, err);
}

static int params(cp_scripts *scripts, const cp_strategy *strategy, const json_t *given, json_t **ret, cp_error *err) {
    (void)scripts;
    return cp_params_check(strategy->params, given, ret, err);
}

static json_t *list(cp_scripts *scripts) {
    json_t *items = json_array();
    cp_strings names = {0};
    cp_bundle_names((cp_lua_scripts *)scripts, &names);
    for (size_t i = 0; i < names.count; i++) {
        cp_autostrategy cp_strategy *strategy = NULL;
        cp_autoerror cp_error err = {0};
        json_t *item = json_pack("{s:s}", "name", names.items[i]);
        if (load(scripts, names.items[i], &strategy, &err) == 0) {
            json_object_set_new(item, "summary", json_string(strategy->summary ? strategy->summary : ""));
            json_object_set(item, "params", strategy->params);
        } else { /* a broken file is shown with its error: it is there, and somebody will ask for it */
            json_object_set_new(item, "error", cp_error_json(&err));
        }
        json_array_append_new(items, item);
    }
    cp_strings_clear(&names);
    return items;
}

static void scripts_free(cp_scripts *base) {
    cp_lua_scripts *scripts = (cp_lua_scripts *)base;
    if (!scripts)
        return;
    forget_known(scripts);
    free(scripts->lua_dir);
    free(scripts->library);
    free(scripts->prelude);
    cp_strings_clear(&scripts->dirs);
    free(scripts);
}

static const cp_script_class CLASS = {
    .load = load,
    .load_text = load_text,
    .load_bundle = load_bundle,
    .params = params,
    .start = cp_host_start,
    .resume = cp_host_resume,
    .test = cp_host_test,
    .stop = cp_host_stop,
    .list = list,
    .free = scripts_free,
};

static int read_own(const cp_lua_scripts *scripts, const char *name, char **ret, cp_error *err) {
    cp_autofree char *path = cp_printf("%s/ctrlplane/%s", scripts->lua_dir, name);
    size_t len;
    return cp_bundle_read(path, ret, &len, err);
}

/* Builds a state once: our own Lua is known to load from here on. */
static int read_version(cp_lua_scripts *scripts, cp_error *err) {
    cp_autosandbox cp_sandbox *sandbox = NULL;
    int r = cp_sandbox_new(&scripts->base, NULL, "version", &sandbox, err);
    if (r < 0)
        return r;
    lua_getfield(sandbox->L, -1, "version");
    scripts->prelude_version = lua_tointeger(sandbox->L, -1);
    return 0;
}

int cp_lua_scripts_new(cp_loop *loop, const char *lua_dir, const char *const *strategy_dirs, cp_scripts **ret,
                       cp_error *err) {
    cp_lua_scripts *scripts = cp_new0(cp_lua_scripts);
    scripts->base = (cp_scripts){.class = &CLASS, .loop = loop};
    scripts->lua_dir = cp_strdup(lua_dir);
    for (size_t i = 0; strategy_dirs && strategy_dirs[i]; i++)
        cp_strings_add(&scripts->dirs, strategy_dirs[i]);
    int r = read_own(scripts, "library.lua", &scripts->library, err);
    if (r == 0)
        r = read_own(scripts, "prelude.lua", &scripts->prelude, err);
    if (r == 0)
        r = read_version(scripts, err);
    if (r < 0) {
        scripts_free(&scripts->base);
        return r;
    }
    *ret = &scripts->base;
    return 0;
}
