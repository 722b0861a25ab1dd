/* engine/main.c -- The `ctrlplane` program: LuaJIT with the module built in, which runs the command line in Lua, and
 * the process that serves a store. Everything that is the process's own stands here: signals, limits, exit codes. Must
 * not know commands or operations. */
#include "api/server.h"
#include "compose.h"
#include "lua/lua.h"
#include "lua/plane.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct serving {
    cp_engine engine;
    cp_server *server;
    struct event *signals[2];
    bool stop;
} serving;

static void on_signal(evutil_socket_t number, short what, void *userdata) {
    (void)number;
    (void)what;
    ((serving *)userdata)->stop = true;
}

static void on_stop(void *userdata) {
    ((serving *)userdata)->stop = true;
}

static bool stopped(void *userdata) {
    return ((serving *)userdata)->stop;
}

static void serving_clear(serving *s) {
    for (size_t i = 0; i < CP_COUNT(s->signals); i++)
        if (s->signals[i])
            event_free(s->signals[i]);
    cp_server_free(s->server);
    if (s->engine.plane)
        cp_engine_close(&s->engine);
}

/* A replica may need a descriptor or two; the usual 1,024 are few. */
static void raise_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    rlim_t wanted = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted;
        setrlimit(RLIMIT_NOFILE, &limit); /* refused: it goes on with what there is */
    }
}

static int serve_until_stopped(const cp_compose *options, const char *socket, cp_error *err) {
    CP_CLEANUP(serving_clear) serving s = {0};
    int r = cp_engine_open(options, &s.engine, err);
    if (r < 0)
        return r;
    r = cp_server_new(s.engine.plane, socket, &s.server, err);
    if (r < 0)
        return r;
    cp_server_on_stop(s.server, on_stop, &s);
    static const int NUMBERS[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < CP_COUNT(NUMBERS); i++) {
        s.signals[i] = evsignal_new(cp_loop_base(s.engine.loop), NUMBERS[i], on_signal, &s);
        if (!s.signals[i] || event_add(s.signals[i], NULL) != 0)
            return cp_fail(err, CP_E_INTERNAL, "signal %d cannot be watched", NUMBERS[i]);
    }
    fprintf(stderr, "ctrlplane: serving %s on %s (pid %ld)\n", options->store, socket, (long)getpid());
    cp_loop_run(s.engine.loop, stopped, &s, -1);
    fprintf(stderr, "ctrlplane: stopping; workloads go on\n");
    return 0;
}

/* core.serve { store =, socket =, and what `open` takes } -> true | nil, err. Returns once SIGTERM, SIGINT or a request
 * to stop has come. */
static int serve(lua_State *L) {
    static const char *const KEYS[] = {"store", "socket", "provider", "data_dir", "strategies"};
    luaL_checktype(L, 1, LUA_TTABLE);
    cp_lua_check_keys(L, 1, "serve", KEYS, CP_COUNT(KEYS));
    lua_getfield(L, 1, "socket");
    const char *socket = luaL_checkstring(L, -1);
    cp_autojson json_t *scenario = NULL;
    cp_autoerror cp_error err = {0};
    cp_compose options;
    if (cp_lua_read_compose(L, &options, &scenario, &err) < 0)
        return cp_lua_fail(L, &err);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    if (serve_until_stopped(&options, socket, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

/* The module, with what only this program may do. */
static int open_core(lua_State *L) {
    luaopen_ctrlplane_core(L);
    lua_pushcfunction(L, serve);
    lua_setfield(L, -2, "serve");
    return 1;
}

static void prepare(lua_State *L, int argc, char **argv) {
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open_core);
    lua_setfield(L, -2, "ctrlplane.core");
    lua_pop(L, 1);
    lua_getfield(L, -1, "path");
    const char *dir = cp_lua_dir();
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", dir, dir, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

static int add_traceback(lua_State *L) {
    if (lua_type(L, 1) != LUA_TSTRING && luaL_callmeta(L, 1, "__tostring"))
        lua_replace(L, 1);
    luaL_traceback(L, L, lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "an error that is no text", 1);
    return 1;
}

static int run_main(lua_State *L) {
    char **argv = lua_touserdata(L, 2);
    int argc = (int)lua_tointeger(L, 1);
    luaL_openlibs(L);
    prepare(L, argc, argv);
    lua_pushcfunction(L, add_traceback);
    lua_pushfstring(L, "%s/ctrlplane/cli/main.lua", cp_lua_dir());
    if (luaL_loadfile(L, lua_tostring(L, -1)) != 0)
        return lua_error(L);
    for (int i = 1; i < argc; i++)
        lua_pushstring(L, argv[i]);
    if (lua_pcall(L, argc - 1, 1, 3) != 0)
        return lua_error(L);
    return 1;
}

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "ctrlplane: no memory for Lua\n");
        return 1;
    }
    lua_pushcfunction(L, run_main);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int code = 1;
    if (lua_pcall(L, 2, 1, 0) == 0)
        code = lua_isnumber(L, -1) ? (int)lua_tointeger(L, -1) : 0;
    else
        fprintf(stderr, "ctrlplane: %s\n", lua_tostring(L, -1));
    lua_close(L);
    return code;
}
