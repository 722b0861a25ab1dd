/* engine/lua/testing.c -- What specs may see of the C half: ctrlplane.core's `testing`, in test builds only. Each area
 * sets a field of its own, from a file of its own (testing_<area>.c); one that has none is left out. */
#ifdef CP_FAILPOINTS
#include "base/failpoint.h"
#include "lua/lua.h"

#define AREAS(X) X(base) X(store) X(model) X(process) X(sim) X(net) X(api) X(plane) X(rollout) X(lua)

#define DECLARE(area) __attribute__((weak)) void cp_lua_testing_##area(lua_State *L);
AREAS(DECLARE)

/* testing.failpoint(function(name) -> true to fail here | nil): called at every pass of a failpoint until
 * testing.failpoint(nil). The function must not call into a plane. */
static lua_State *hook_state;
static int hook_function = LUA_NOREF;

static int call_hook(lua_State *L) {
    const char *name = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, hook_function);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    if (lua_toboolean(L, -1))
        return luaL_error(L, "fail");
    return 0;
}

static int on_failpoint(void *userdata, const char *name) {
    (void)userdata;
    if (lua_cpcall(hook_state, call_hook, (void *)name) == 0)
        return 0;
    lua_pop(hook_state, 1);
    return CP_E_INTERNAL;
}

static int set_failpoint(lua_State *L) {
    if (hook_function != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, hook_function);
    hook_function = LUA_NOREF;
    cp_failpoint_hook(NULL, NULL);
    if (lua_isnoneornil(L, 1))
        return 0;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    hook_function = luaL_ref(L, LUA_REGISTRYINDEX);
    if (!hook_state) { /* a thread of its own: the caller's may be gone by the next pass */
        hook_state = lua_newthread(L);
        luaL_ref(L, LUA_REGISTRYINDEX);
    }
    cp_failpoint_hook(on_failpoint, NULL);
    return 0;
}

int cp_lua_open_testing(lua_State *L) {
    lua_newtable(L);
    lua_pushcfunction(L, set_failpoint);
    lua_setfield(L, -2, "failpoint");
#define OPEN(area)                                                                                                     \
    if (cp_lua_testing_##area)                                                                                         \
        cp_lua_testing_##area(L);
    AREAS(OPEN)
    return 1;
}
#endif
