/* engine/lua/plane.c -- `open`, and the plane as Lua sees it: namespaces, tasks, the clock, close.
 * Knows the engine through compose.h; must not know operations (call.c makes the methods of the table). */
#include "lua/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

cp_lua_plane *cp_lua_check_plane(lua_State *L, int index) {
    cp_lua_plane *plane = luaL_checkudata(L, index, CP_LUA_PLANE);
    if (!plane->open)
        cp_lua_misuse(L, "this plane is closed");
    return plane;
}

cp_lua_plane *cp_lua_plane_new(lua_State *L) {
    cp_lua_sched *sched = cp_lua_sched_of(L);
    cp_lua_plane *plane = lua_newuserdata(L, sizeof *plane);
    *plane = (cp_lua_plane){.sched = sched};
    luaL_getmetatable(L, CP_LUA_PLANE);
    lua_setmetatable(L, -2);
    lua_newtable(L); /* its namespaces, once asked for */
    lua_setfenv(L, -2);
    return plane;
}

void cp_lua_plane_opened(cp_lua_plane *plane) {
    plane->open = true;
    cp_vec_push(&plane->sched->planes, plane);
}

void cp_lua_plane_close(lua_State *L, cp_lua_plane *plane) {
    if (!plane->open)
        return;
    plane->open = false;
    cp_vec_drop(&plane->sched->planes, plane);
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_CANCELLED, "the plane was closed; what was asked of it may have been done");
    while (plane->streams.count)
        cp_lua_stream_close(plane->streams.items[0], &err);
    while (plane->waits.count) {
        cp_lua_wait *wait = plane->waits.items[0];
        if (wait->cancel)
            wait->cancel(wait);
        cp_lua_wait_finish(wait, NULL, &err);
    }
    cp_lua_tasks_end(L, plane);
    cp_vec_clear(&plane->waits);
    cp_vec_clear(&plane->streams);
    if (plane->http) {
        cp_http_free(cp_take(plane->http));
        cp_loop_free(cp_take(plane->loop));
    } else {
        cp_engine_close(&plane->engine);
    }
    free(cp_take(plane->url));
    free(cp_take(plane->socket));
}

int cp_lua_duration_at(lua_State *L, int index, const char *what, int64_t *ret, cp_error *err) {
    if (lua_type(L, index) == LUA_TNUMBER) {
        double ms = lua_tonumber(L, index) * 1000;
        if (!(ms >= 0 && ms <= 315360000000.0))
            return cp_fail_at(err, CP_E_INVALID, what, NULL, "%s is %.14g s; it must be between 0 and ten years", what,
                              ms / 1000);
        *ret = (int64_t)ceil(ms);
        return 0;
    }
    if (lua_type(L, index) != LUA_TSTRING)
        return cp_lua_misuse(L, "%s is a %s; give a duration such as \"30s\" or a number of seconds", what,
                             luaL_typename(L, index));
    int r = cp_duration_parse(lua_tostring(L, index), ret, err);
    if (r < 0 && err && !err->field)
        err->field = cp_strdup(what);
    return r;
}

int cp_lua_duration_option(lua_State *L, int index, const char *key, int64_t *ret, cp_error *err) {
    if (!lua_istable(L, index))
        return 0;
    lua_getfield(L, index, key);
    int r = lua_isnil(L, -1) ? 0 : cp_lua_duration_at(L, lua_gettop(L), key, ret, err);
    lua_pop(L, 1);
    return r;
}

static const char *text_option(lua_State *L, const char *key) { /* of the table at 1, which keeps it alive */
    lua_getfield(L, 1, key);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        cp_lua_misuse(L, "%s is a %s; it must be a text", key, luaL_typename(L, -1));
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

/* The list of folders as a NULL-terminated array in a userdata that is left on the stack. */
static const char *const *folders_option(lua_State *L, const char *key) {
    lua_getfield(L, 1, key);
    if (lua_isnil(L, -1))
        return NULL;
    if (!lua_istable(L, -1)) {
        cp_lua_misuse(L, "%s is a %s; it must be a list of folders", key, luaL_typename(L, -1));
        return NULL;
    }
    size_t count = lua_objlen(L, -1);
    const char **folders = lua_newuserdata(L, (count + 1) * sizeof *folders);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -2, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            cp_lua_misuse(L, "%s[%d] is a %s; it must be the path of a folder", key, (int)i + 1, luaL_typename(L, -1));
        folders[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    folders[count] = NULL;
    return folders;
}

int cp_lua_read_compose(lua_State *L, cp_compose *ret, json_t **scenario, cp_error *err) {
    *ret = (cp_compose){.store = text_option(L, "store"),
                        .data_dir = text_option(L, "data_dir"),
                        .vfs = text_option(L, "vfs"),
                        .provider = text_option(L, "provider"),
                        .strategy_dirs = folders_option(L, "strategies")};
    if (!ret->store)
        return cp_fail_at(err, CP_E_INVALID, "store", NULL, "no store is given; name a file, or \":memory:\"");
    const char *clock = text_option(L, "clock");
    if (clock && strcmp(clock, "virtual") != 0 && strcmp(clock, "real") != 0)
        return cp_fail_at(err, CP_E_INVALID, "clock", NULL, "clock is '%s'; it is \"real\" or \"virtual\"", clock);
    ret->virtual_clock = clock && strcmp(clock, "virtual") == 0;
    lua_getfield(L, 1, "seed");
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            return cp_lua_misuse(L, "seed is a %s; it must be a number", luaL_typename(L, -1));
        double seed = lua_tonumber(L, -1);
        if (!(seed >= 0 && seed <= 9007199254740992.0))
            return cp_fail_at(err, CP_E_INVALID, "seed", NULL, "seed is %.14g; it must be 0 to 2^53", seed);
        ret->seed = (uint64_t)seed;
    }
    lua_getfield(L, 1, "scenario");
    if (!lua_isnil(L, -1)) {
        int r = cp_lua_to_json(L, -1, NULL, scenario, err);
        if (r < 0)
            return cp_error_wrap(err, "scenario");
        ret->scenario = *scenario;
    }
    return 0;
}

#ifdef CP_FAILPOINTS
/* `world`: a loop and a simulated provider that outlive the plane, and so a crash of it. */
static void use_world(lua_State *L, cp_compose *options) {
    lua_getfield(L, 1, "world");
    if (!lua_isnil(L, -1)) {
        const cp_lua_world *world = luaL_checkudata(L, -1, CP_LUA_WORLD);
        options->loop = world->loop;
        options->world = world->provider;
        lua_getfenv(L, -2); /* of the plane: it must not outlive its world */
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, " world");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}
#endif

/* open { store =, provider =, ... } -> plane | nil, err */
static int open_plane(lua_State *L) {
    static const char *const KEYS[] = {
        "store", "provider", "data_dir", "clock", "seed", "scenario", "strategies",
#ifdef CP_FAILPOINTS
        "vfs",   "world",
#endif
    };
    if (cp_lua_sched_of(L)->turning)
        return cp_lua_misuse(L, "open cannot be called inside a callback of the engine");
    if (!lua_istable(L, 1))
        return cp_lua_misuse(L, "open takes a table of options, such as { store = \"plane.db\" }; got a %s",
                             luaL_typename(L, 1));
    cp_lua_check_keys(L, 1, "open", KEYS, CP_COUNT(KEYS));
    cp_autojson json_t *scenario = NULL;
    cp_autoerror cp_error err = {0};
    cp_compose options;
    if (cp_lua_read_compose(L, &options, &scenario, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_lua_plane *plane = cp_lua_plane_new(L);
#ifdef CP_FAILPOINTS
    use_world(L, &options);
#endif
    if (cp_engine_open(&options, &plane->engine, &err) < 0)
        return cp_lua_fail(L, &err);
    plane->loop = plane->engine.loop;
    cp_lua_plane_opened(plane);
    return 1;
}

/* plane:close(): detaches. Waits that are in flight answer nil, `cancelled`; workloads go on. */
static int plane_close(lua_State *L) {
    cp_lua_plane *plane = luaL_checkudata(L, 1, CP_LUA_PLANE);
    if (plane->sched->turning)
        return cp_lua_misuse(L, "a plane cannot be closed inside a callback of the engine");
    if (!plane->open)
        return 0;
    cp_lua_plane_close(L, plane);
    while (!plane->sched->current && plane->sched->ready.count)
        cp_lua_run_ready(L, plane->sched); /* its tasks see that it is over */
    return 0;
}

static int plane_gc(lua_State *L) {
    cp_lua_plane_close(L, lua_touserdata(L, 1));
    return 0;
}

static int plane_tostring(lua_State *L) {
    const cp_lua_plane *plane = luaL_checkudata(L, 1, CP_LUA_PLANE);
    if (!plane->open)
        lua_pushliteral(L, "plane (closed)");
    else if (plane->http)
        lua_pushfstring(L, "plane (%s)", plane->socket ? plane->socket : plane->url);
    else
        lua_pushfstring(L, "plane (%s)", cp_plane_id(plane->engine.plane));
    return 1;
}

/* plane:spawn(fn, ...) -> task */
static int plane_spawn(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    if (!lua_isfunction(L, 2))
        return cp_lua_misuse(L, "spawn takes a function and its arguments; got a %s", luaL_typename(L, 2));
    cp_lua_task_spawn(L, plane, lua_gettop(L) - 2);
    return 1;
}

/* plane:run(fn, ...) -> what it returns; plane:run(): until every task of this plane has ended */
static int plane_run(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    if (plane->sched->turning || plane->sched->current)
        return cp_lua_misuse(
            L, "plane:run turns the loop, and it is being turned already; in a task call the function, or "
               "spawn it and wait: plane:spawn(fn):wait()");
    if (lua_isnoneornil(L, 2)) {
        cp_lua_tasks_run(L, plane);
        return 0;
    }
    if (!lua_isfunction(L, 2))
        return cp_lua_misuse(L, "run takes a function and its arguments; got a %s", luaL_typename(L, 2));
    return cp_lua_task_run(L, plane, lua_gettop(L) - 2);
}

/* plane:step(seconds?) -> how many things were done. One turn; waits up to `seconds` for something to do. */
static int plane_step(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    double seconds = luaL_optnumber(L, 2, 0);
    if (!(seconds >= 0 && seconds <= 1e9))
        return cp_lua_misuse(L, "step waits %.14g seconds; it must be 0 or more", seconds);
    if (plane->sched->turning || plane->sched->current)
        return cp_lua_misuse(L, "plane:step turns the loop, and it is being turned already; in a task use plane:sleep");
    lua_pushinteger(L, cp_lua_turn(L, plane, (int64_t)ceil(seconds * 1000)));
    return 1;
}

/* plane:fd() -> a descriptor that is readable when plane:step() has something to do */
static int plane_fd(lua_State *L) {
    lua_pushinteger(L, cp_loop_fd(cp_lua_check_plane(L, 1)->loop));
    return 1;
}

static void on_slept(void *wait) {
    cp_lua_wait_finish(wait, NULL, NULL);
}

/* plane:sleep(duration) -> true */
static int plane_sleep(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    int64_t ms = 0;
    cp_autoerror cp_error err = {0};
    if (cp_lua_duration_at(L, 2, "the duration", &ms, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_lua_wait *wait = cp_lua_wait_new(L, plane, "sleep");
    wait->timer = cp_timer_new(plane->loop, on_slept, wait);
    cp_timer_start(wait->timer, ms);
    return cp_lua_wait_for(L, wait);
}

/* plane:pending() -> { tasks =, calls =, streams = }: what is still open; for specs and shutdowns */
static int plane_pending(lua_State *L) {
    const cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    int tasks = 0;
    for (size_t i = 0; i < plane->sched->tasks.count; i++)
        tasks += ((cp_lua_task *)plane->sched->tasks.items[i])->scope == plane;
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, tasks);
    lua_setfield(L, -2, "tasks");
    lua_pushinteger(L, (int)plane->waits.count);
    lua_setfield(L, -2, "calls");
    lua_pushinteger(L, (int)plane->streams.count);
    lua_setfield(L, -2, "streams");
    return 1;
}

typedef struct cp_lua_namespace {
    cp_lua_plane *plane;
} cp_lua_namespace;

cp_lua_plane *cp_lua_check_namespace(lua_State *L, const char *what) {
    if (lua_type(L, 1) != LUA_TUSERDATA) {
        cp_lua_misuse(L, "call it with a colon, on its plane: plane.%s(...)", what);
        return NULL;
    }
    const cp_lua_namespace *namespace = luaL_checkudata(L, 1, CP_LUA_NAMESPACE);
    if (!namespace->plane->open)
        cp_lua_misuse(L, "this plane is closed");
    return namespace->plane;
}

static cp_lua_plane *check_clock(lua_State *L) {
    return cp_lua_check_namespace(L, "clock:advance");
}

/* plane.clock:advance(duration): moves the time of a plane that was opened with clock = "virtual" */
static int clock_advance(lua_State *L) {
    cp_lua_plane *plane = check_clock(L);
    int64_t ms = 0;
    cp_autoerror cp_error err = {0};
    if (cp_lua_duration_at(L, 2, "the duration", &ms, &err) < 0)
        return cp_lua_fail(L, &err);
    if (!cp_loop_is_virtual(plane->loop))
        return cp_lua_misuse(L, "the clock of this plane is real; open it with clock = \"virtual\" to move it");
    if (plane->sched->turning || plane->sched->current)
        return cp_lua_misuse(L, "the clock cannot be moved while it is moving; in a task use plane:sleep");
    cp_lua_advance(L, plane, ms);
    return 0;
}

/* plane.clock:now() -> seconds since 1970, with milliseconds */
static int clock_now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)cp_loop_wall(check_clock(L)->loop) / 1000);
    return 1;
}

static bool push_methods(lua_State *L, const char *name) {
    static const luaL_Reg CLOCK[] = {{"advance", clock_advance}, {"now", clock_now}, {NULL, NULL}};
    if (strcmp(name, "clock") != 0)
        return cp_lua_push_namespace(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, CLOCK, 0);
    return true;
}

/* Raises for a name that is not there, with the nearest of a table's keys (at `methods`) and of `more`. */
static int unknown_name(lua_State *L, const char *what, int methods, const char *const *more, size_t count) {
    const char *names[160];
    size_t n = 0;
    for (size_t i = 0; i < count && n < CP_COUNT(names); i++)
        names[n++] = more[i];
    lua_pushnil(L);
    while (lua_next(L, methods)) {
        if (n < CP_COUNT(names))
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    const char *nearest = cp_nearest(name, names, n);
    return nearest ? cp_lua_misuse(L, "%s has no '%s'; did you mean '%s'?", what, name, nearest)
                   : cp_lua_misuse(L, "%s has no '%s'", what, name);
}

/* Upvalue: the table of methods. */
static int plane_index(lua_State *L) {
    cp_lua_plane *plane = luaL_checkudata(L, 1, CP_LUA_PLANE);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1))
        return 1;
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1))
        return 1;
    if (lua_type(L, 2) != LUA_TSTRING || !push_methods(L, lua_tostring(L, 2))) {
        const char *names[32] = {"clock"};
        int count = 1 + cp_lua_list_namespaces(names + 1, (int)CP_COUNT(names) - 1);
        return unknown_name(L, "a plane", lua_upvalueindex(1), names, (size_t)count);
    }
    int methods = lua_gettop(L);
    cp_lua_namespace *namespace = lua_newuserdata(L, sizeof *namespace);
    namespace->plane = plane;
    luaL_getmetatable(L, CP_LUA_NAMESPACE);
    lua_setmetatable(L, -2);
    lua_createtable(L, 2, 1); /* its environment: the plane, so that it lives; the methods; the name */
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, methods);
    lua_rawseti(L, -2, 2);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "name");
    lua_setfenv(L, -2);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return 1;
}

static int namespace_index(lua_State *L) {
    luaL_checkudata(L, 1, CP_LUA_NAMESPACE);
    lua_getfenv(L, 1);
    lua_rawgeti(L, -1, 2);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1))
        return 1;
    lua_getfield(L, 3, "name");
    lua_pushfstring(L, "plane.%s", lua_tostring(L, -1));
    return unknown_name(L, lua_tostring(L, -1), 4, NULL, 0);
}

static void hide(lua_State *L, const char *what) { /* the metatable on top */
    lua_pushstring(L, what);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void cp_lua_open_planes(lua_State *L) {
    static const luaL_Reg METHODS[] = {{"close", plane_close},
                                       {"spawn", plane_spawn},
                                       {"run", plane_run},
                                       {"step", plane_step},
                                       {"fd", plane_fd},
                                       {"sleep", plane_sleep},
                                       {"stats", cp_lua_stats},
                                       {"pending", plane_pending},
                                       {"ping", cp_lua_ping},
                                       {"stop_server", cp_lua_stop_server},
                                       {NULL, NULL}};
    if (luaL_newmetatable(L, CP_LUA_PLANE)) {
        lua_newtable(L);
        luaL_setfuncs(L, METHODS, 0);
        lua_pushcclosure(L, plane_index, 1);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, plane_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, plane_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    hide(L, "a plane");
    if (luaL_newmetatable(L, CP_LUA_NAMESPACE)) {
        lua_pushcfunction(L, namespace_index);
        lua_setfield(L, -2, "__index");
    }
    hide(L, "a namespace of a plane");
}

/* methods() -> { plane = {names}, task = ..., stream = ..., clock = ... }: for the stubs */
static int list_methods(lua_State *L) {
    static const struct {
        const char *class, *metatable;
    } CLASSES[] = {{"plane", CP_LUA_PLANE}, {"task", CP_LUA_TASK}, {"stream", CP_LUA_STREAM}, {"clock", NULL}};
    lua_createtable(L, 0, CP_COUNT(CLASSES));
    for (size_t i = 0; i < CP_COUNT(CLASSES); i++) {
        lua_newtable(L);
        int names = lua_gettop(L), n = 0;
        if (CLASSES[i].metatable) {
            luaL_getmetatable(L, CLASSES[i].metatable);
            lua_getfield(L, -1, "__index");
            if (lua_iscfunction(L, -1))
                lua_getupvalue(L, -1, 1);
        } else {
            push_methods(L, CLASSES[i].class);
        }
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            lua_rawseti(L, names, ++n);
        }
        lua_settop(L, names);
        lua_setfield(L, -2, CLASSES[i].class);
    }
    return 1;
}

int cp_lua_open_plane(lua_State *L) {
    static const luaL_Reg FUNCTIONS[] = {{"open", open_plane},
                                         {"connect", cp_lua_connect},
                                         {"methods", list_methods},
                                         {"run_task", cp_lua_run_task},
                                         {"suspension", cp_lua_suspension},
                                         {"pass_suspensions", cp_lua_pass_suspensions},
                                         {NULL, NULL}};
    cp_lua_sched_of(L); /* before any plane: it is finalised last */
    cp_lua_open_planes(L);
    cp_lua_open_task(L);
    cp_lua_open_stream(L);
    lua_newtable(L);
    luaL_setfuncs(L, FUNCTIONS, 0);
    return 1;
}
