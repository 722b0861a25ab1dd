/* engine/lua/core.c -- The C half of the Lua module: build/lua/ctrlplane/core.so. Puts the parts together and adds the
 * few functions that need none: ids, durations, the nearest word. Must not know how any part works. */
#include "base/id.h"
#include "compose.h"
#include "lua/lua.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#ifndef CP_VERSION
#define CP_VERSION "0.0.0"
#endif

/* id.check(id, prefix?) -> true | nil, err */
static int id_check(lua_State *L) {
    cp_autoerror cp_error err = {0};
    if (cp_id_check(luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL), &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

/* duration(text or number) -> seconds | nil, err */
static int duration(lua_State *L) {
    if (lua_type(L, 1) == LUA_TNUMBER) {
        lua_settop(L, 1);
        return 1;
    }
    int64_t ms;
    cp_autoerror cp_error err = {0};
    if (cp_duration_parse(luaL_checkstring(L, 1), &ms, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushnumber(L, (lua_Number)ms / 1000);
    return 1;
}

/* nearest(word, list) -> the word of the list that was probably meant | nil */
static int nearest(lua_State *L) {
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t count = lua_objlen(L, 2);
    const char **names = lua_newuserdata(L, (count + 1) * sizeof *names);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        names[i] = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL; /* lives in the list */
        lua_pop(L, 1);
    }
    const char *found = cp_nearest(word, names, count);
    if (!found)
        return 0;
    lua_pushstring(L, found);
    return 1;
}

/* owner(path) -> the pid of the process that owns the store | nil */
static int owner(lua_State *L) {
    int64_t pid = cp_store_owner(luaL_checkstring(L, 1));
    if (pid <= 0)
        return 0;
    lua_pushnumber(L, (lua_Number)pid);
    return 1;
}

/* paths() -> { lua =, shim = }: where the Lua half and the shim are */
static int paths(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, cp_lua_dir());
    lua_setfield(L, -2, "lua");
    lua_pushstring(L, cp_shim_path());
    lua_setfield(L, -2, "shim");
    return 1;
}

static int remove_readonly(lua_State *L) {
    return cp_lua_misuse(L, "ctrlplane.remove is a constant; it cannot be changed");
}

static int remove_tostring(lua_State *L) {
    lua_pushliteral(L, "ctrlplane.remove");
    return 1;
}

/* { "$remove": true } in JSON. */
static void push_remove(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_pushboolean(L, true);
    lua_setfield(L, -2, "$remove");
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, remove_readonly);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, remove_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
}

static void set_part(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_call(L, 0, 1);
    lua_setfield(L, -2, name);
}

int luaopen_ctrlplane_core(lua_State *L) {
    lua_newtable(L);
    set_part(L, "json", cp_lua_open_json);
    set_part(L, "errors", cp_lua_open_error);
    set_part(L, "model", cp_lua_open_model);
    set_part(L, "plane", cp_lua_open_plane);
    lua_pushcfunction(L, cp_lua_open_operations);
    lua_call(L, 0, 2);
    lua_setfield(L, -3, "descriptors");
    lua_setfield(L, -2, "operations");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, id_check);
    lua_setfield(L, -2, "check");
    lua_setfield(L, -2, "id");
    lua_pushcfunction(L, duration);
    lua_setfield(L, -2, "duration");
    lua_pushcfunction(L, nearest);
    lua_setfield(L, -2, "nearest");
    lua_pushcfunction(L, owner);
    lua_setfield(L, -2, "owner");
    lua_pushcfunction(L, paths);
    lua_setfield(L, -2, "paths");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    push_remove(L);
    lua_setfield(L, -2, "remove");
    lua_pushliteral(L, CP_VERSION);
    lua_setfield(L, -2, "version");
#ifdef CP_FAILPOINTS
    set_part(L, "testing", cp_lua_open_testing);
#endif
    return 1;
}
