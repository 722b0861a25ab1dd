/* engine/lua/model.c -- ctrlplane.model: the pure functions of engine/model as Lua functions of plain tables. What goes
 * in and comes out is described by descriptors, so a wrong field is answered with its path. Must not know planes. Every
 * function answers nil, err for input that is wrong. */
#include "model/model.h"
#include "lua/lua.h"
#include "model/decide.h"

#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

typedef struct services_args {
    cp_list services, changes;
    int kind;
} services_args;
static const cp_field services_fields[] = {
    {.name = "services", .type = CP_LIST, .offset = offsetof(services_args, services), .desc = &cp_service_desc},
    {.name = "changes", .type = CP_LIST, .offset = offsetof(services_args, changes), .desc = &cp_service_deploy_desc},
    {.name = "kind", .type = CP_ENUM, .offset = offsetof(services_args, kind), .values = cp_kinds},
};
static const cp_desc services_desc = {.name = "options",
                                      .size = sizeof(services_args),
                                      .fields = services_fields,
                                      .count = CP_COUNT(services_fields),
                                      .present = CP_NONE};

typedef struct guards_args {
    int kind;
    int64_t replicas, new_goal, old_goal;
    cp_share surge, unavailable;
} guards_args;
static const cp_field guards_fields[] = {
    {.name = "kind", .type = CP_ENUM, .offset = offsetof(guards_args, kind), .values = cp_kinds},
    {.name = "replicas", .type = CP_INT, .offset = offsetof(guards_args, replicas)},
    {.name = "surge", .type = CP_SHARE, .offset = offsetof(guards_args, surge)},
    {.name = "unavailable", .type = CP_SHARE, .offset = offsetof(guards_args, unavailable)},
    {.name = "new", .type = CP_INT, .offset = offsetof(guards_args, new_goal)},
    {.name = "old", .type = CP_INT, .offset = offsetof(guards_args, old_goal)},
};
static const cp_desc guards_desc = {.name = "guards",
                                    .size = sizeof(guards_args),
                                    .fields = guards_fields,
                                    .count = CP_COUNT(guards_fields),
                                    .present = CP_NONE};

typedef struct expand_args {
    char *text;
    cp_map values;
} expand_args;
static const cp_field expand_fields[] = {
    {.name = "text", .type = CP_STRING, .offset = offsetof(expand_args, text)},
    {.name = "values", .type = CP_MAP, .offset = offsetof(expand_args, values)},
};
static const cp_desc expand_desc = {.name = "expand",
                                    .size = sizeof(expand_args),
                                    .fields = expand_fields,
                                    .count = CP_COUNT(expand_fields),
                                    .present = CP_NONE};

static const cp_field progress_fields[] = {
    {.name = "created", .type = CP_INT, .offset = offsetof(cp_progress, created), .flags = CP_KEEP_EMPTY},
    {.name = "ready", .type = CP_INT, .offset = offsetof(cp_progress, ready), .flags = CP_KEEP_EMPTY},
    {.name = "available", .type = CP_INT, .offset = offsetof(cp_progress, available), .flags = CP_KEEP_EMPTY},
    {.name = "old", .type = CP_INT, .offset = offsetof(cp_progress, old), .flags = CP_KEEP_EMPTY},
};
static const cp_desc progress_desc = {.name = "progress",
                                      .size = sizeof(cp_progress),
                                      .fields = progress_fields,
                                      .count = CP_COUNT(progress_fields),
                                      .present = CP_NONE};

/* A raise (memory) unwinds through these: each struct is cleared by its cleanup. */
#define CLEARED(type, name, desc)                                                                                      \
    static void clear_##name(type *object) {                                                                           \
        cp_desc_clear(&desc, object);                                                                                  \
    }
CLEARED(services_args, services, services_desc)
CLEARED(expand_args, expand, expand_desc)
CLEARED(cp_decide_input, input, cp_decide_input_desc)
CLEARED(cp_decide_output, output, cp_decide_output_desc)
CLEARED(cp_instance_input, instance, cp_instance_input_desc)
CLEARED(cp_instance_decision, decision, cp_instance_decision_desc)

/* The table at index into *object. */
static int read(lua_State *L, int index, const cp_desc *desc, void *object, cp_error *err) {
    cp_autojson json_t *json = NULL;
    cp_desc_init(desc, object);
    int r = cp_lua_to_json(L, index, desc, &json, err);
    return r < 0 ? r : cp_desc_parse(desc, json, object, "", err);
}

static int push(lua_State *L, const cp_desc *desc, const void *object) {
    cp_autojson json_t *json = cp_desc_json(desc, object);
    cp_lua_push_json(L, json);
    return 1;
}

/* Puts the options at index 2 (or a new table) on the stack's top, with the value at index 1 under `key`. */
static void with_first(lua_State *L, const char *key) {
    lua_settop(L, 2);
    lua_newtable(L);
    if (lua_istable(L, 2)) {
        lua_pushnil(L);
        while (lua_next(L, 2)) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 3);
        }
    }
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, key);
}

/* ---- decisions ---- */

/* decide_workload(input) -> output */
static int decide_workload(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_input) cp_decide_input input = {0};
    CP_CLEANUP(clear_output) cp_decide_output output = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    if (read(L, 1, &cp_decide_input_desc, &input, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_decide_workload(&input, &output);
    return push(L, &cp_decide_output_desc, &output);
}

/* decide_instance(input) -> { op, state, message? } */
static int decide_instance(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_instance) cp_instance_input input = {0};
    CP_CLEANUP(clear_decision) cp_instance_decision decision = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    if (read(L, 1, &cp_instance_input_desc, &input, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_decide_instance(&input, &decision);
    return push(L, &cp_instance_decision_desc, &decision);
}

/* guards { kind?, replicas, surge?, unavailable? } -> surge, unavailable as counts */
static int guards(lua_State *L) {
    cp_autoerror cp_error err = {0};
    guards_args args;
    luaL_checktype(L, 1, LUA_TTABLE);
    if (read(L, 1, &guards_desc, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    int64_t surge, unavailable;
    cp_guards_resolve(args.kind, args.replicas, args.surge, args.unavailable, &surge, &unavailable);
    lua_pushnumber(L, (lua_Number)surge);
    lua_pushnumber(L, (lua_Number)unavailable);
    return 2;
}

/* check_goals { kind?, replicas, surge?, unavailable?, new, old } -> true | nil, `denied` */
static int check_goals(lua_State *L) {
    cp_autoerror cp_error err = {0};
    guards_args args;
    luaL_checktype(L, 1, LUA_TTABLE);
    if (read(L, 1, &guards_desc, &args, &err) < 0 ||
        cp_goals_check(args.kind, args.replicas, args.surge, args.unavailable, args.new_goal, args.old_goal, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

/* progress(best?, output) -> was this progress, the new best */
static int progress(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_output) cp_decide_output output = {0};
    cp_progress best = {.old = INT64_MAX};
    lua_settop(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    if ((lua_istable(L, 1) && read(L, 1, &progress_desc, &best, &err) < 0) ||
        read(L, 2, &cp_decide_output_desc, &output, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, cp_decide_progress(&best, &output));
    return 1 + push(L, &progress_desc, &best);
}

/* ---- services ---- */

/* validate(services, { kind? }) -> true | nil, err */
static int validate(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_services) services_args args = {0};
    with_first(L, "services");
    int r = read(L, 3, &services_desc, &args, &err);
    r = r < 0 ? r : cp_services_check(&args.services, args.kind, "services", &err);
    if (r < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

/* apply(services, changes) -> the services after a deploy of the changes */
static int apply(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_services) services_args args = {0};
    CP_CLEANUP(clear_services) services_args result = {0};
    lua_settop(L, 2);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, "services");
    lua_pushvalue(L, 2);
    lua_setfield(L, 3, "changes");
    if (read(L, 3, &services_desc, &args, &err) < 0 ||
        cp_services_apply(&args.services, &args.changes, &result.services, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autojson json_t *json = cp_field_json(&services_fields[0], &result);
    cp_lua_push_json(L, json);
    return 1;
}

/* hash(services) -> SHA-256 in hex */
static int hash(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_services) services_args args = {0};
    with_first(L, "services");
    if (read(L, 3, &services_desc, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autofree char *text = cp_services_hash(&args.services);
    lua_pushstring(L, text);
    return 1;
}

/* order(services) -> names in the order of their start, name of the main one */
static int order(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_services) services_args args = {0};
    with_first(L, "services");
    if (read(L, 3, &services_desc, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autofree size_t *places = cp_alloc0((args.services.count + 1) * sizeof *places);
    cp_services_order(&args.services, places);
    lua_createtable(L, (int)args.services.count, 0);
    for (size_t i = 0; i < args.services.count; i++) {
        lua_pushstring(L, CP_LIST_AT(&args.services, cp_service, places[i])->name);
        lua_rawseti(L, -2, (int)i + 1);
    }
    const cp_service *main = cp_services_main(&args.services);
    lua_pushstring(L, main ? main->name : NULL);
    return 2;
}

/* fixed_port(services) -> does a port have a fixed host port, so that one host can have one instance only? */
static int fixed_port(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_services) services_args args = {0};
    with_first(L, "services");
    if (read(L, 3, &services_desc, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, cp_services_fixed_port(&args.services));
    return 1;
}

/* ---- words ---- */

/* slug(name) -> slug | nil, err */
static int slug(lua_State *L) {
    cp_autoerror cp_error err = {0};
    cp_autofree char *text = NULL;
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    if (strlen(name) != len)
        cp_fail_at(&err, CP_E_INVALID, "name", NULL, "name contains a NUL byte");
    if (err.code || cp_slug_make(name, &text, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushstring(L, text);
    return 1;
}

static const char *lookup(void *userdata, const char *name) {
    return cp_map_get(userdata, name);
}

/* expand(text, { ["port.http"] = "8080", ... }) -> text | nil, err */
static int expand(lua_State *L) {
    cp_autoerror cp_error err = {0};
    CP_CLEANUP(clear_expand) expand_args args = {0};
    cp_autofree char *text = NULL;
    lua_settop(L, 2);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, "text");
    lua_pushvalue(L, 2);
    lua_setfield(L, 3, "values");
    if (read(L, 3, &expand_desc, &args, &err) < 0 ||
        cp_expand(args.text ? args.text : "", lookup, &args.values, &text, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushstring(L, text);
    return 1;
}

static int word(lua_State *L, int index, const char *const *words, const char *what) {
    const char *text = luaL_checkstring(L, index);
    size_t count = 0;
    for (; words[count]; count++)
        if (strcmp(words[count], text) == 0)
            return (int)count;
    const char *near = cp_nearest(text, words, count);
    return cp_lua_misuse(L, "'%s' is no %s%s%s%s", text, what, near ? "; did you mean '" : "", near ? near : "",
                         near ? "'?" : "");
}

/* transition("workload" | "instance" | "deployment", from, to) -> true | nil, `invalid_state` */
static int transition(lua_State *L) {
    static const char *const ENTITIES[] = {"workload", "instance", "deployment", NULL};
    const char *const *const states[] = {cp_workload_states, cp_instance_states, cp_deployment_states};
    int (*const checks[])(int, int, cp_error *) = {cp_workload_validate_transition, cp_instance_validate_transition,
                                                   cp_deployment_validate_transition};
    cp_autoerror cp_error err = {0};
    int entity = word(L, 1, ENTITIES, "entity with states");
    int from = word(L, 2, states[entity], "state"), to = word(L, 3, states[entity], "state");
    if (checks[entity](from, to, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

static void push_words(lua_State *L, const char *name, const char *const *words) {
    lua_newtable(L);
    for (int i = 0; words[i]; i++) {
        lua_pushstring(L, words[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, name);
}

int cp_lua_open_model(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"decide_workload", decide_workload},
        {"decide_instance", decide_instance},
        {"guards", guards},
        {"check_goals", check_goals},
        {"progress", progress},
        {"validate", validate},
        {"apply", apply},
        {"hash", hash},
        {"order", order},
        {"fixed_port", fixed_port},
        {"slug", slug},
        {"expand", expand},
        {"transition", transition},
    };
    lua_createtable(L, 0, CP_COUNT(functions) + 1);
    for (size_t i = 0; i < CP_COUNT(functions); i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
    lua_createtable(L, 0, 3); /* model.states.workload = {"provisioning", ...} */
    push_words(L, "workload", cp_workload_states);
    push_words(L, "instance", cp_instance_states);
    push_words(L, "deployment", cp_deployment_states);
    lua_setfield(L, -2, "states");
    return 1;
}
