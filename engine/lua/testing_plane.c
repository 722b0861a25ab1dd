/* engine/lua/testing_plane.c -- For specs: ends the engine of a plane as by kill -9, in this process. */
#ifdef CP_FAILPOINTS
#include "lua/plane.h"

/* kill(plane): nothing of it happens any more; close it afterwards. */
static int kill_plane(lua_State *L) {
    cp_plane_kill(cp_lua_check_plane(L, 1)->engine.plane);
    return 0;
}

/* crashed(plane): a failpoint ended it. */
static int crashed(lua_State *L) {
    lua_pushboolean(L, cp_plane_crashed(cp_lua_check_plane(L, 1)->engine.plane));
    return 1;
}

void cp_lua_testing_plane(lua_State *L) {
    static const luaL_Reg functions[] = {{"kill", kill_plane}, {"crashed", crashed}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "plane");
}
#endif
