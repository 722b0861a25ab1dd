/* engine/lua/host_sandbox.c -- Builds a contained state: our library and prelude, in Lua, on a few primitives in C; and
 * coroutines that let our suspensions through. Whitelist, not blacklist: see lua/ctrlplane/library.lua. */
#include "base/limits.h"
#include "lua/host.h"

#include <stdlib.h>
#include <string.h>

static const char ENVIRONMENT_KEY;

/* load(path) -> function | nil: compiles a pinned source as text, in the script's environment. */
static int raw_load(lua_State *L) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    const char *path = luaL_checkstring(L, 1);
    const json_t *source = json_object_get(sandbox->files, path);
    if (!source)
        return 0;
    lua_pushfstring(L, "@%s", path);
    cp_sandbox_charge(L, (int64_t)json_string_length(source));
    if (luaL_loadbufferx(L, json_string_value(source), json_string_length(source), lua_tostring(L, -1), "t") != 0)
        return lua_error(L);
    lua_pushlightuserdata(L, (void *)&ENVIRONMENT_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setfenv(L, -2);
    return 1;
}

static int raw_environment(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushlightuserdata(L, (void *)&ENVIRONMENT_KEY);
    lua_pushvalue(L, 1);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 0;
}

/* where() -> "file:line" of the script's innermost frame */
static int raw_where(lua_State *L) {
    cp_autofree char *line = cp_sandbox_line(L);
    lua_pushstring(L, line);
    return 1;
}

/* Coroutines. resume(co, ...) -> "ours" | "yield", values... | "done", values... | "error", value */

typedef struct resumption {
    lua_State *co;
    int arguments, status;
} resumption;

/* Inside a protected call, which puts the hook's state back when the coroutine died in a hook. */
static int resume_protected(lua_State *L) {
    resumption *r = lua_touserdata(L, 1);
    r->status = lua_resume(r->co, r->arguments);
    if (r->status > LUA_YIELD)
        lua_error(L);
    return 0;
}

static int raw_resume(lua_State *L) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    lua_State *co = lua_tothread(L, 1);
    luaL_argcheck(L, co, 1, "coroutine expected");
    int arguments = lua_gettop(L) - 1;
    bool fresh = lua_status(co) == 0 && lua_gettop(co) > 0;
    if (co == L || (lua_status(co) != LUA_YIELD && !fresh)) {
        lua_pushliteral(L, "error");
        lua_pushstring(L, co == L ? "cannot resume the running coroutine" : "cannot resume a dead coroutine");
        return 2;
    }
    lua_Debug ar;
    if (lua_status(co) == 0 && lua_getstack(co, 0, &ar)) { /* it resumed us */
        lua_pushliteral(L, "error");
        lua_pushliteral(L, "cannot resume a coroutine that is not suspended");
        return 2;
    }
    if (sandbox->depth >= CP_SANDBOX_DEPTH)
        return luaL_error(L, "more than %d coroutines are resumed inside one another", CP_SANDBOX_DEPTH);
    if (!lua_checkstack(co, arguments + 1))
        return luaL_error(L, "too many arguments to resume");
    lua_xmove(L, co, arguments);
    bool blocked = !lua_isyieldable(L);
    sandbox->depth++;
    sandbox->unyieldable += blocked;
    resumption r = {.co = co, .arguments = arguments, .status = LUA_ERRRUN};
    lua_cpcall(L, resume_protected, &r);
    lua_settop(L, 1);
    sandbox->depth--;
    sandbox->unyieldable -= blocked;
    /* A kill inside goes on outside, whatever became of its hook. */
    cp_sandbox_charge(L, r.status > LUA_YIELD ? 2 * CP_SANDBOX_UNWIND : 0);
    if (r.status > LUA_YIELD) {
        lua_pushliteral(L, "error");
        if (lua_gettop(co) > 0)
            lua_xmove(co, L, 1);
        else
            lua_pushnil(L);
        return 2;
    }
    if (r.status == LUA_YIELD && sandbox->suspending) {
        lua_pushliteral(L, "ours");
        return 1;
    }
    int results = lua_gettop(co);
    if (!lua_checkstack(L, results + 2))
        return luaL_error(L, "too many results of a coroutine");
    lua_pushstring(L, r.status == LUA_YIELD ? "yield" : "done");
    lua_xmove(co, L, results);
    return results + 1;
}

/* yield(...): the script's own. suspend(): ours, handed on by an outer coroutine; it gets what the inner one is owed.
 */
static int raw_yield(lua_State *L) {
    return lua_yield(L, lua_gettop(L));
}

static int raw_suspend(lua_State *L) {
    cp_sandbox_of(L)->suspending = true;
    return lua_yield(L, 0);
}

/* caught(): pays for the unwinding of an error. */
static int raw_caught(lua_State *L) {
    cp_sandbox_charge(L, CP_SANDBOX_UNWIND);
    return 0;
}

/* unwind(): the strategy ends here, well. */
static int raw_unwind(lua_State *L) {
    cp_sandbox_of(L)->finished = true;
    cp_sandbox_kill(L, CP_E_CANCELLED, "finished");
    cp_sandbox_charge(L, 0);
    return 0;
}

void cp_sandbox_primitives(lua_State *L) {
    static const luaL_Reg functions[] = {{"load", raw_load},
                                         {"environment", raw_environment},
                                         {"where", raw_where},
                                         {"resume", raw_resume},
                                         {"yield", raw_yield},
                                         {"suspend", raw_suspend},
                                         {"unwind", raw_unwind},
                                         {"caught", raw_caught},
                                         {"command", cp_host_command},
                                         {"query", cp_host_query},
                                         {NULL, NULL}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    cp_lua_open_error(L);
    lua_setfield(L, -2, "errors");
    cp_sandbox_open_match(L);
    cp_sandbox_open_library(L);
}

typedef struct building {
    const cp_lua_scripts *scripts;
    cp_sandbox *sandbox;
} building;

static void run_own(lua_State *L, const char *text, const char *name, int arguments) {
    if (luaL_loadbufferx(L, text, strlen(text), name, "t") != 0)
        lua_error(L);
    lua_insert(L, -1 - arguments);
    lua_call(L, arguments, 1);
}

static int build(lua_State *L) {
    static const luaL_Reg libraries[] = {{"", luaopen_base},
                                         {LUA_STRLIBNAME, luaopen_string},
                                         {LUA_TABLIBNAME, luaopen_table},
                                         {LUA_MATHLIBNAME, luaopen_math},
                                         {"bit", luaopen_bit},
                                         {NULL, NULL}};
    const building *b = lua_touserdata(L, 1);
    for (const luaL_Reg *library = libraries; library->name; library++) {
        lua_pushcfunction(L, library->func);
        lua_pushstring(L, library->name);
        lua_call(L, 1, 0);
    }
    cp_sandbox_primitives(L);
    lua_pushvalue(L, -1);
    run_own(L, b->scripts->library, "=ctrlplane/library.lua", 1); /* raw -> raw.lib and the environment */
    lua_pop(L, 1);
    run_own(L, b->scripts->prelude, "=ctrlplane/prelude.lua", 1); /* raw -> prelude */
    lua_setfield(L, LUA_REGISTRYINDEX, "ctrlplane.prelude");
    return 0;
}

/* Two words from the seed: FNV-1a twice, from different offsets. */
static void seed_random(cp_sandbox *sandbox, const char *seed) {
    for (int i = 0; i < 2; i++) {
        uint64_t hash = i ? 0x9e3779b97f4a7c15u : 0xcbf29ce484222325u;
        for (const char *c = seed; c && *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        hash ^= hash >> 31;
        hash *= 0xbf58476d1ce4e5b9u;
        sandbox->random[i] = (hash ^ (hash >> 27)) | 1;
    }
}

int cp_sandbox_new(cp_scripts *scripts, const json_t *files, const char *seed, cp_sandbox **ret, cp_error *err) {
    cp_autosandbox cp_sandbox *sandbox = cp_new0(cp_sandbox);
    sandbox->files = files;
    seed_random(sandbox, seed);
    if (!cp_sandbox_state(sandbox))
        return cp_fail(err, CP_E_INTERNAL, "no memory for a script's state");
    building b = {.scripts = (const cp_lua_scripts *)scripts, .sandbox = sandbox};
    if (lua_cpcall(sandbox->L, build, &b) != 0)
        return cp_fail(err, CP_E_INTERNAL, "the script host's own Lua does not load: %s", lua_tostring(sandbox->L, -1));
    lua_getfield(sandbox->L, LUA_REGISTRYINDEX, "ctrlplane.prelude");
    *ret = cp_take(sandbox);
    return 0;
}

void cp_sandbox_free(cp_sandbox *sandbox) {
    if (!sandbox)
        return;
    if (sandbox->L) {
        cp_sandbox_disarm(sandbox);
        lua_close(sandbox->L);
    }
    cp_error_clear(&sandbox->end);
    free(sandbox);
}
