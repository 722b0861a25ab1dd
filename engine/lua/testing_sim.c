/* engine/lua/testing_sim.c -- For specs: a simulated world on a virtual clock, driven from outside and, without a
 * plane, as a provider. Answers are kept as values; no Lua runs in a callback. */
#ifdef CP_FAILPOINTS
#include "base/id.h"
#include "lua/lua.h"
#include "providers/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct world {
    cp_lua_world shared; /* first */
    cp_vec asked;        /* operation *: operate, logs */
    json_t *hints;
} world;

/* One thing that was asked, and what came back. */
typedef struct operation {
    world *w;
    cp_provider_op *op;
    cp_log_source *source;
    json_t *lines; /* logs */
    bool done;
    cp_error err;
    json_t *result;
} operation;

typedef struct spec_services {
    cp_list services;
} spec_services;
static const cp_field spec_fields[] = {
    {"services", CP_LIST, offsetof(spec_services, services), .desc = &cp_service_desc},
};
static const cp_desc spec_desc = {
    .name = "spec", .size = sizeof(spec_services), .fields = spec_fields, .count = 1, .present = CP_NONE};

static world *check(lua_State *L) {
    world *w = luaL_checkudata(L, 1, CP_LUA_WORLD);
    if (!w->shared.provider)
        luaL_error(L, "this world is closed");
    return w;
}

static int push_new(lua_State *L, json_t *value) {
    cp_autojson json_t *owned = value;
    cp_lua_push_json(L, owned);
    return 1;
}

static int close_world(lua_State *L) {
    world *w = luaL_checkudata(L, 1, CP_LUA_WORLD);
    if (!w->shared.provider)
        return 0;
    for (size_t i = 0; i < w->asked.count; i++) {
        operation *asked = w->asked.items[i];
        w->shared.provider->class->logs_free(w->shared.provider, asked->source);
        cp_error_clear(&asked->err);
        json_decref(asked->result);
        json_decref(asked->lines);
        free(asked);
    }
    cp_vec_clear(&w->asked);
    json_decref(w->hints);
    cp_id_seed(0);
    w->shared.provider->class->free(w->shared.provider);
    cp_loop_free(w->shared.loop);
    w->shared = (cp_lua_world){0};
    return 0;
}

/* open { scenario?, seed? } -> world | nil, err */
static int open_world(lua_State *L) {
    static const char *const keys[] = {"scenario", "seed"};
    cp_lua_check_keys(L, 1, "sim.open", keys, CP_COUNT(keys));
    cp_autojson json_t *scenario = NULL;
    cp_autoerror cp_error err = {0};
    uint64_t seed = 1;
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "seed");
        seed = (uint64_t)luaL_optinteger(L, -1, 1);
        lua_getfield(L, 1, "scenario");
        if (!lua_isnil(L, -1) && cp_lua_to_json(L, -1, &cp_sim_scenario_desc, &scenario, &err) < 0)
            return cp_lua_fail(L, &err);
    }
    world *w = lua_newuserdata(L, sizeof *w);
    *w = (world){0};
    if (cp_loop_new(true, &w->shared.loop, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_loop_seed(w->shared.loop, seed);
    cp_id_seed(seed); /* once a world: seeded again by each of its engines, ids would come again */
    if (cp_sim_provider_new(w->shared.loop, "sim", scenario, seed, &w->shared.provider, &err) < 0) {
        cp_loop_free(w->shared.loop);
        return cp_lua_fail(L, &err);
    }
    w->hints = json_array();
    luaL_getmetatable(L, CP_LUA_WORLD);
    lua_setmetatable(L, -2);
    return 1;
}

/* advance(duration): everything that is due until then */
static int advance(lua_State *L) {
    world *w = check(L);
    int64_t ms;
    cp_autoerror cp_error err = {0};
    if (lua_type(L, 2) == LUA_TNUMBER)
        ms = (int64_t)(lua_tonumber(L, 2) * 1000);
    else if (cp_duration_parse(luaL_checkstring(L, 2), &ms, &err) < 0)
        return luaL_error(L, "%s", err.message);
    cp_loop_advance(w->shared.loop, ms);
    return 0;
}

static int now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)cp_loop_mono(check(L)->shared.loop) / 1000);
    return 1;
}

static int result(lua_State *L, int r, const cp_error *err) {
    if (r < 0)
        return cp_lua_fail(L, err);
    lua_pushboolean(L, true);
    return 1;
}

static int kill_instance(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return result(L, cp_sim_kill(check(L)->shared.provider, luaL_checkstring(L, 2), &err), &err);
}

static int reboot(lua_State *L) {
    cp_sim_reboot(check(L)->shared.provider);
    return 0;
}

static int calm(lua_State *L) {
    cp_sim_calm(check(L)->shared.provider);
    return 0;
}

static int outage(lua_State *L) {
    cp_sim_outage_set(check(L)->shared.provider, lua_toboolean(L, 2));
    return 0;
}

/* write(instance id, service | nil, text, stderr?) */
static int write_line(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return result(L,
                  cp_sim_write(check(L)->shared.provider, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL),
                               lua_toboolean(L, 5), luaL_checkstring(L, 4), &err),
                  &err);
}

static int counts(lua_State *L) {
    return push_new(L, cp_sim_counts(check(L)->shared.provider));
}

static int instances(lua_State *L) {
    return push_new(L, cp_sim_instances(check(L)->shared.provider));
}

static int trace(lua_State *L) {
    return push_new(L, cp_sim_trace(check(L)->shared.provider));
}

/* As a provider, without a plane. */

static operation *ask(world *w) {
    operation *asked = cp_new0(operation);
    asked->w = w;
    cp_vec_push(&w->asked, asked);
    return asked;
}

static void on_done(void *userdata, const cp_error *err) {
    operation *asked = userdata;
    asked->done = true;
    asked->op = NULL;
    if (err)
        cp_error_copy(&asked->err, err);
}

static const char *text_of(const json_t *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : otherwise;
}

/* operate(kind, { id, workload?, release?, index?, generation?, services?, plane? }) -> number of the operation | nil,
 * err */
static int operate(lua_State *L) {
    static const char *const kinds[] = {"none", "provision", "start", "stop", "restart", "update", "deprovision", NULL};
    world *w = check(L);
    int kind = luaL_checkoption(L, 2, NULL, kinds);
    cp_autojson json_t *json = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_lua_to_json(L, 3, NULL, &json, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autojson json_t *given = json_object();
    json_t *wanted = json_object_get(json, "services");
    json_object_set_new(given, "services",
                        wanted ? json_incref(wanted) : json_pack("[{s:s, s:s}]", "name", "app", "image", "app"));
    spec_services services = {0};
    if (cp_desc_parse(&spec_desc, given, &services, "", &err) < 0)
        return cp_lua_fail(L, &err);
    const char *slug = text_of(json, "workload", "web");
    cp_map labels = {0};
    json_t *generation = json_object_get(json, "generation");
    cp_runtime_spec spec = {
        .instance_id = text_of(json, "id", "inst"),
        .name = text_of(json, "id", "inst"),
        .workload_id = slug,
        .workload_slug = slug,
        .workload_name = slug,
        .release_id = text_of(json, "release", "r1"),
        .tenant_id = "ten",
        .plane_id = text_of(json, "plane", "plane"),
        .replica_index = json_integer_value(json_object_get(json, "index")),
        .generation = generation ? json_integer_value(generation) : 1,
        .services = &services.services,
        .labels = &labels,
    };
    operation *asked = ask(w);
    int r = w->shared.provider->class->operate(w->shared.provider, (cp_op_kind)kind, &spec, on_done, asked, &asked->op,
                                               &err);
    cp_desc_clear(&spec_desc, &services);
    if (r < 0)
        return cp_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)w->asked.count);
    return 1;
}

static operation *check_asked(lua_State *L, world *w) {
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 1 && (size_t)n <= w->asked.count, 2, "nothing with this number was asked");
    return w->asked.items[n - 1];
}

/* answer(number) -> "pending" | true | nil, err */
static int answer(lua_State *L) {
    operation *asked = check_asked(L, check(L));
    if (!asked->done) {
        lua_pushliteral(L, "pending");
        return 1;
    }
    return result(L, asked->err.code, &asked->err);
}

static int cancel(lua_State *L) {
    world *w = check(L);
    operation *asked = check_asked(L, w);
    luaL_argcheck(L, asked->op, 2, "it is not under way");
    w->shared.provider->class->cancel(w->shared.provider, asked->op);
    asked->op = NULL;
    return 0;
}

static void on_seen(void *userdata, const cp_observation *observation, const cp_error *err) {
    operation *asked = userdata;
    on_done(asked, err);
    if (observation)
        asked->result = cp_desc_json(&cp_observation_desc, observation);
}

static void on_listed(void *userdata, const cp_observation *items, size_t count, const cp_error *err) {
    operation *asked = userdata;
    on_done(asked, err);
    asked->result = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(asked->result, cp_desc_json(&cp_observation_desc, &items[i]));
}

static bool is_done(void *userdata) {
    return ((operation *)userdata)->done;
}

/* Turns, but never moves the clock: an answer is due in the next turn. */
static int wait_for(lua_State *L, world *w, operation *asked) {
    for (int turns = 0; turns < 3 && !is_done(asked); turns++)
        cp_loop_turn(w->shared.loop, 0);
    if (!asked->done)
        return luaL_error(L, "the question was not answered in the next turn");
    if (asked->err.code)
        return cp_lua_fail(L, &asked->err);
    cp_lua_push_json(L, asked->result);
    return 1;
}

/* status(instance id) -> observation | nil, err */
static int status(lua_State *L) {
    world *w = check(L);
    operation *asked = ask(w);
    w->shared.provider->class->status(w->shared.provider, luaL_checkstring(L, 2), on_seen, asked, NULL);
    return wait_for(L, w, asked);
}

static int list(lua_State *L) {
    world *w = check(L);
    operation *asked = ask(w);
    w->shared.provider->class->list(w->shared.provider, on_listed, asked, NULL);
    return wait_for(L, w, asked);
}

static void on_hint(void *userdata, const char *instance_id) {
    json_array_append_new(((world *)userdata)->hints, json_string(instance_id ? instance_id : "all"));
}

static int watch(lua_State *L) {
    world *w = check(L);
    w->shared.provider->class->watch(w->shared.provider, lua_toboolean(L, 2) ? on_hint : NULL, w);
    return 0;
}

/* hints() -> ids since the last call */
static int hints(lua_State *L) {
    world *w = check(L);
    json_t *told = w->hints;
    w->hints = json_array();
    return push_new(L, told);
}

static void on_line(void *userdata, const cp_log_line *line, const cp_error *err) {
    operation *asked = userdata;
    if (!line) {
        on_done(asked, err);
        return;
    }
    json_array_append_new(asked->lines, json_pack("{s:s%, s:b, s:s}", "text", line->text, line->len, "stderr",
                                                  line->stderr_stream, "cursor", line->cursor));
}

/* logs(instance id, service | nil, { follow?, since?, tail?, after? }) -> number | nil, err */
static int logs(lua_State *L) {
    world *w = check(L);
    const char *id = luaL_checkstring(L, 2), *service = luaL_optstring(L, 3, NULL);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_getfield(L, 4, "follow");
    lua_getfield(L, 4, "since");
    lua_getfield(L, 4, "tail");
    lua_getfield(L, 4, "after");
    cp_log_options options = {
        .follow = lua_toboolean(L, 5),
        .since = (int64_t)(luaL_optnumber(L, 6, 0) * 1000),
        .tail = luaL_optinteger(L, 7, -1),
        .after = luaL_optstring(L, 8, NULL),
    };
    operation *asked = ask(w);
    asked->lines = json_array();
    cp_autoerror cp_error err = {0};
    if (w->shared.provider->class->logs(w->shared.provider, id, service, &options, on_line, asked, &asked->source,
                                        &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)w->asked.count);
    return 1;
}

/* lines(number) -> list of { text, stderr, cursor }, ended */
static int lines(lua_State *L) {
    operation *asked = check_asked(L, check(L));
    cp_lua_push_json(L, asked->lines);
    lua_pushboolean(L, asked->done);
    return 2;
}

void cp_lua_testing_sim(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"close", close_world}, {"advance", advance},     {"now", now},       {"kill", kill_instance},
        {"reboot", reboot},     {"calm", calm},           {"outage", outage}, {"write", write_line},
        {"counts", counts},     {"instances", instances}, {"trace", trace},   {"operate", operate},
        {"answer", answer},     {"cancel", cancel},       {"status", status}, {"list", list},
        {"watch", watch},       {"hints", hints},         {"logs", logs},     {"lines", lines},
        {NULL, NULL},
    };
    luaL_newmetatable(L, CP_LUA_WORLD);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close_world);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, open_world);
    lua_setfield(L, -2, "open");
    lua_setfield(L, -2, "sim");
}
#endif
