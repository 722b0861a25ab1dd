/* engine/lua/testing_rollout.c -- The script host without a plane, for specs: a strategy's text is run against a Lua
 * function that answers its commands. */
#ifdef CP_FAILPOINTS
#include "base/limits.h"
#include "compose.h"
#include "lua/host.h"

#include <stdlib.h>
#include <string.h>

typedef struct drive {
    lua_State *L;
    cp_scripts *scripts;
    cp_script_run *run;
    json_t *answer; /* of a pending command, given in a later turn */
    cp_error error;
    json_t *status; /* of wait_until: asked until it holds */
    bool pending, ended;
    cp_error end;
    int64_t turns;
} drive;

/* answer(number, name, args, line) -> "done"|"pending", result | "error", error | "stop" | "test", status */
static int call_answer(lua_State *L) {
    lua_call(L, 4, 2);
    return 2;
}

static int command(void *userdata, int64_t number, const char *name, const json_t *args, const char *line,
                   cp_command_outcome *outcome, json_t **result, int64_t *now_wall, cp_error *err) {
    drive *d = userdata;
    lua_State *L = d->L;
    *now_wall += 1000;
    int top = lua_gettop(L);
    lua_pushcfunction(L, call_answer);
    lua_pushvalue(L, 2);
    lua_pushnumber(L, (lua_Number)number);
    lua_pushstring(L, name);
    cp_lua_push_json(L, args);
    lua_pushstring(L, line);
    int r = 0;
    if (lua_pcall(L, 5, 2, 0) != 0) {
        r = cp_fail(err, CP_E_INTERNAL, "the spec's answer: %s", lua_tostring(L, -1));
    } else {
        const char *how = lua_isnil(L, -2) ? "done" : lua_tostring(L, -2);
        json_t *value = NULL;
        if (strcmp(how, "error") == 0)
            cp_lua_read_error(L, -1, err), r = err->code;
        else if (!lua_isnil(L, -1))
            r = cp_lua_to_json(L, -1, NULL, &value, err);
        if (r == 0 && strcmp(how, "done") == 0) {
            *outcome = CP_COMMAND_DONE;
            *result = value;
        } else if (r == 0 && strcmp(how, "stop") == 0) {
            *outcome = CP_COMMAND_STOP;
            d->ended = true;
            cp_fail(&d->end, CP_E_CANCELLED, "stopped");
        } else if (r == 0) {
            *outcome = CP_COMMAND_PENDING;
            d->pending = true;
            if (strcmp(how, "test") == 0)
                d->status = value;
            else
                d->answer = value;
        }
    }
    lua_settop(L, top);
    return r;
}

static int query(void *userdata, const char *name, const json_t *args, json_t **result, cp_error *err) {
    (void)userdata;
    (void)args;
    (void)err;
    *result = json_pack("{s:s}", "query", name);
    return 0;
}

static void ended(void *userdata, const cp_error *err) {
    drive *d = userdata;
    d->ended = true;
    if (err)
        cp_error_copy(&d->end, err);
    d->scripts->class->stop(d->run);
    d->run = NULL;
}

static void answer_pending(drive *d) {
    d->pending = false;
    cp_autoerror cp_error err = {0};
    if (d->status) {
        int r = d->scripts->class->test(d->run, d->status, &err);
        if (r == 0) {
            cp_fail(&err, CP_E_TIMEOUT, "wait_until did not hold");
            r = CP_E_TIMEOUT;
        }
        d->scripts->class->resume(d->run, r > 0 ? d->status : NULL, r > 0 ? NULL : &err, 0);
        json_decref(d->status);
        d->status = NULL;
        return;
    }
    d->scripts->class->resume(d->run, d->answer, NULL, 0);
    json_decref(d->answer);
    d->answer = NULL;
}

static int commit(void *userdata) {
    (void)userdata;
    return 0;
}

/* run(source, answer, { params =, seed =, fields =, ticker = fn }?) -> { ended = true, error =?, turns = } | nil, err
 */
static int run(lua_State *L) {
    size_t len;
    const char *source = luaL_checklstring(L, 1, &len);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 3);
    cp_autojson json_t *options = NULL, *values = NULL, *fields = NULL;
    cp_autoerror cp_error err = {0};
    cp_autostrategy cp_strategy *strategy = NULL;
    if (lua_istable(L, 3) && cp_lua_to_json(L, 3, NULL, &options, &err) < 0)
        return cp_lua_fail(L, &err);
    drive d = {.L = L};
    CP_CLEANUP(cp_loop_freep) cp_loop *loop = NULL;
    if (cp_loop_new(true, &loop, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_loop_set_hooks(loop, &(cp_loop_hooks){.commit = commit});
    int r = cp_lua_scripts_new(loop, cp_lua_dir(), NULL, &d.scripts, &err);
    if (r < 0)
        return cp_lua_fail(L, &err);
    r = len > 5 && strcmp(source + len - 4, ".lua") == 0 ? d.scripts->class->load(d.scripts, source, &strategy, &err)
        : strlen(source) == len ? d.scripts->class->load_text(d.scripts, "test.lua", source, NULL, &strategy, &err)
                                : cp_fail(&err, CP_E_SCRIPT_ERROR, "test.lua:1: NUL in the source");
    if (r == 0)
        r = d.scripts->class->params(d.scripts, strategy, json_object_get(options, "params"), &values, &err);
    const char *seed = json_string_value(json_object_get(options, "seed"));
    if (r == 0) {
        fields = json_pack("{s:O, s:o}", "params", values, "workload",
                           json_pack("{s:s, s:i}", "name", "web", "replicas", 3));
        static const cp_script_callbacks callbacks = {.command = command, .query = query, .ended = ended};
        r = d.scripts->class->start(d.scripts, strategy, fields, seed ? seed : "seed", 1000000, &callbacks, &d, &d.run,
                                    &err);
    }
    for (; r == 0 && !d.ended && d.turns < 100000; d.turns++) {
        cp_loop_turn(loop, 0);
        if (d.pending && !d.ended)
            answer_pending(&d);
    }
    if (d.run && !json_is_true(json_object_get(options, "leave")))
        d.scripts->class->stop(d.run);
    cp_loop_turn(loop, 0);
    d.scripts->class->free(d.scripts);
    json_decref(d.answer);
    json_decref(d.status);
    if (r < 0)
        return cp_lua_fail(L, &err);
    lua_newtable(L);
    lua_pushboolean(L, d.ended);
    lua_setfield(L, -2, "ended");
    lua_pushnumber(L, (lua_Number)d.turns);
    lua_setfield(L, -2, "turns");
    lua_pushstring(L, strategy->hash);
    lua_setfield(L, -2, "hash");
    if (d.end.code) {
        cp_lua_push_error(L, &d.end);
        lua_setfield(L, -2, "error");
    }
    cp_error_clear(&d.end);
    return 1;
}

/* params(declared, given) -> values | nil, err */
static int params(lua_State *L) {
    cp_autojson json_t *declared = NULL, *given = NULL, *values = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_lua_to_json(L, 1, NULL, &declared, &err) < 0 || cp_lua_to_json(L, 2, NULL, &given, &err) < 0 ||
        cp_params_declared(declared, &err) < 0 || cp_params_check(declared, given, &values, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_lua_push_json(L, values);
    return 1;
}

void cp_lua_testing_rollout(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, run);
    lua_setfield(L, -2, "run");
    lua_pushcfunction(L, params);
    lua_setfield(L, -2, "params");
    lua_setfield(L, -2, "rollout");
}
#endif
