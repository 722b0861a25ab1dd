/* engine/lua/testing_api.c -- For specs: the HTTP server of a plane in this process, on a socket of the spec's. */
#ifdef CP_FAILPOINTS
#include "api/server.h"
#include "lua/plane.h"

#define SERVER "ctrlplane.testing.server"

typedef struct testing_server {
    cp_server *server;
    bool stopped;
} testing_server;

static void on_stop(void *userdata) {
    ((testing_server *)userdata)->stopped = true;
}

/* serve(plane, path) -> server | nil, err */
static int serve(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    const char *path = luaL_checkstring(L, 2);
    testing_server *s = lua_newuserdata(L, sizeof *s);
    *s = (testing_server){0};
    luaL_getmetatable(L, SERVER);
    lua_setmetatable(L, -2);
    cp_autoerror cp_error err = {0};
    if (cp_server_new(plane->engine.plane, path, &s->server, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_server_on_stop(s->server, on_stop, s);
    return 1;
}

/* server:close(): before its plane is closed */
static int close_server(lua_State *L) {
    testing_server *s = luaL_checkudata(L, 1, SERVER);
    cp_server_free(cp_take(s->server));
    return 0;
}

static int stopped(lua_State *L) {
    lua_pushboolean(L, ((testing_server *)luaL_checkudata(L, 1, SERVER))->stopped);
    return 1;
}

void cp_lua_testing_api(lua_State *L) {
    static const luaL_Reg methods[] = {{"close", close_server}, {"stopped", stopped}, {NULL, NULL}};
    luaL_newmetatable(L, SERVER);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, serve);
    lua_setfield(L, -2, "serve");
    lua_setfield(L, -2, "api");
}
#endif
