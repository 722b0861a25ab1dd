/* engine/lua/host_run.c -- One rollout's script: a coroutine that gives commands and waits for their answers. The plane
 * journals and answers; here nothing is decided and nothing is remembered. */
#include "lua/host_run.h"
#include "base/limits.h"
#include "lua/host.h"

#include <stdlib.h>
#include <string.h>

enum { COMMANDS_PER_SLICE = 50 };

struct cp_script_run {
    cp_scripts *scripts;
    cp_sandbox *sandbox;
    lua_State *co;
    json_t *bundle;
    cp_script_callbacks callbacks;
    void *userdata;
    int64_t number;                 /* of the last command */
    int function;                   /* registry reference of a pending wait_until's, LUA_NOREF none */
    bool pending, answered;         /* a command waits; its answer is here */
    bool in_step, testing, stopped; /* stopped: to be freed once the script has unwound */
    bool unwinding;                 /* the plane said stop: nobody is told of the end */
    int arguments;                  /* of the first resume */
    json_t *result;
    cp_error error;
};

static void run_free(cp_script_run *run) {
    if (!run)
        return;
    cp_loop_forget(run->scripts->loop, run);
    cp_sandbox_free(run->sandbox);
    json_decref(run->bundle);
    json_decref(run->result);
    cp_error_clear(&run->error);
    free(run);
}
CP_DEFINE_CLEANUP(cp_script_run, run_free)

static void push_answer(lua_State *L, const json_t *result, const cp_error *err) {
    lua_pushboolean(L, err == NULL);
    if (err)
        cp_lua_push_error(L, err);
    else if (result && !json_is_null(result))
        cp_lua_push_json(L, result);
    else
        lua_pushnil(L);
}

/* command(name, arguments, function?) -> true, result | false, error */
int cp_host_command(lua_State *L) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    cp_script_run *run = sandbox->owner;
    const char *name = luaL_checkstring(L, 1);
    if (!run)
        return luaL_error(L, "%s outside of run(): a strategy file only returns its table", name);
    if (run->testing)
        return luaL_error(L, "%s inside the function of wait_until, which may only look", name);
    if (sandbox->unyieldable || !lua_isyieldable(L))
        return luaL_error(L, "%s in a place that cannot wait", name);
    cp_autojson json_t *args = NULL, *result = NULL;
    cp_autoerror cp_error err = {0};
    cp_autofree char *line = cp_sandbox_line(L);
    int r = cp_lua_to_json(L, 2, NULL, &args, &err);
    if (r == 0) {
        cp_command_outcome outcome = CP_COMMAND_DONE;
        int64_t now = sandbox->now_wall;
        r = run->callbacks.command(run->userdata, ++run->number, name, args, line, &outcome, &result, &now, &err);
        if (run->stopped || (r == 0 && outcome == CP_COMMAND_STOP)) {
            run->unwinding = true;
            cp_sandbox_kill(L, CP_E_CANCELLED, "stopped");
        } else if (r == CP_E_NONDETERMINISM || r == CP_E_TOO_LARGE) { /* too_large: the journal is full */
            cp_sandbox_locate(sandbox, L, &err);
            cp_sandbox_kill_with(L, &err);
        } else if (r == 0 && outcome == CP_COMMAND_PENDING) {
            if (lua_isfunction(L, 3)) {
                lua_settop(L, 3);
                run->function = luaL_ref(L, LUA_REGISTRYINDEX);
            }
            run->pending = true;
            sandbox->suspending = true;
            return lua_yield(L, 0);
        }
        cp_sandbox_charge(L, 0);
        sandbox->now_wall = now;
        int64_t slice = sandbox->slice + CP_SCRIPT_SLICE / COMMANDS_PER_SLICE;
        cp_sandbox_arm(sandbox);
        sandbox->slice = slice; /* commands that answer at once do not keep the loop either */
    }
    if (r < 0 && !cp_is_empty(line)) {
        if (!err.details)
            err.details = json_object();
        json_object_set_new(err.details, "where", json_string(line));
    }
    push_answer(L, result, r < 0 ? &err : NULL);
    return 2;
}

/* query(name, arguments?) -> true, value | false, error. Journaled like a command, so that a replay sees what the run
 * saw; only the function of wait_until looks at the world as it is. */
int cp_host_query(lua_State *L) {
    cp_script_run *run = cp_sandbox_of(L)->owner;
    if (!run || !run->testing)
        return cp_host_command(L);
    cp_autojson json_t *args = NULL, *result = NULL;
    cp_autoerror cp_error err = {0};
    int r = cp_lua_to_json(L, 2, NULL, &args, &err);
    if (r == 0)
        r = run->callbacks.query(run->userdata, luaL_checkstring(L, 1), args, &result, &err);
    push_answer(L, result, r < 0 ? &err : NULL);
    return 2;
}

typedef struct pushing {
    const cp_script_run *run;
    const json_t *value;
} pushing;

static int push_protected(lua_State *L) {
    const pushing *p = lua_touserdata(L, 1);
    push_answer(L, p->run->result, p->run->error.code ? &p->run->error : NULL);
    return 2;
}

/* lua_cpcall throws results away; this keeps what `function` leaves. False: no memory. */
static bool protected(lua_State *L, lua_CFunction function, void *argument, int results) {
    if (!lua_checkstack(L, 4 + results))
        return false;
    lua_pushcfunction(
        L, function); /* light in LuaJIT's sense only: it may allocate, so it is made before memory is short */
    lua_pushlightuserdata(L, argument);
    return lua_pcall(L, 1, results, 0) == 0;
}

static void ended(cp_script_run *run, bool failed) {
    if (run->sandbox->finished || !failed) {
        run->callbacks.ended(run->userdata, NULL);
        return;
    }
    cp_autoerror cp_error err = {0};
    cp_sandbox_error(run->sandbox, run->co, &err);
    run->callbacks.ended(run->userdata, &err);
}

static void step(void *userdata) {
    cp_script_run *run = userdata;
    cp_sandbox *sandbox = run->sandbox;
    int arguments = run->arguments;
    run->arguments = 0;
    sandbox->suspending = false;
    if (run->answered) {
        run->answered = false;
        cp_sandbox_arm(sandbox);
        if (!protected(sandbox->L, push_protected, &(pushing){.run = run}, 2) || !lua_checkstack(run->co, 4)) {
            ended(run, true);
            return;
        }
        lua_xmove(sandbox->L, run->co, 2);
        arguments = 2;
        json_decref(run->result);
        run->result = NULL;
        cp_error_clear(&run->error);
    }
    sandbox->slice = sandbox->unbroken = 0;
    run->in_step = true;
    int status = lua_resume(run->co, arguments);
    run->in_step = false;
    if (run->stopped)
        run_free(run);
    else if (run->unwinding)
        return;
    else if (status != LUA_YIELD)
        ended(run, status != 0);
    else if (!run->pending)
        cp_loop_defer(run->scripts->loop, step, run); /* a slice is over: others have their turn */
}

static int push_start(lua_State *L) {
    const pushing *p = lua_touserdata(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "ctrlplane.prelude");
    lua_getfield(L, -1, "run");
    lua_pushstring(L, json_string_value(json_object_get(p->run->bundle, "main")));
    cp_lua_push_json(L, p->value);
    return 3;
}

int cp_host_start(cp_scripts *scripts, const cp_strategy *strategy, const json_t *fields, const char *seed,
                  int64_t now_wall, const cp_script_callbacks *callbacks, void *userdata, cp_script_run **ret,
                  cp_error *err) {
    CP_CLEANUP(run_freep) cp_script_run *run = cp_new0(cp_script_run);
    run->scripts = scripts;
    run->bundle = json_incref(strategy->bundle);
    run->callbacks = *callbacks;
    run->userdata = userdata;
    run->function = LUA_NOREF;
    int r = cp_sandbox_new(scripts, json_object_get(strategy->bundle, "files"), seed, &run->sandbox, err);
    if (r < 0)
        return r;
    lua_State *L = run->sandbox->L;
    run->sandbox->owner = run;
    run->sandbox->now_wall = now_wall;
    run->co = lua_newthread(L); /* stays on the stack of L, which holds it */
    if (!protected(L, push_start, &(pushing){.run = run, .value = fields}, 3))
        return cp_fail(err, CP_E_SCRIPT_ERROR, "the rollout's fields do not fit in a script's memory: %s",
                       lua_tostring(L, -1));
    lua_xmove(L, run->co, 3);
    run->arguments = 2;
    run->sandbox->may_yield = true;
    cp_sandbox_arm(run->sandbox);
    cp_loop_defer(scripts->loop, step, run);
    *ret = cp_take(run);
    return 0;
}

void cp_host_resume(cp_script_run *run, const json_t *result, const cp_error *err, int64_t now_wall) {
    if (!run->pending || run->stopped || run->unwinding)
        return;
    run->pending = false;
    run->answered = true;
    run->result = json_deep_copy(result);
    if (err)
        cp_error_copy(&run->error, err);
    if (run->function != LUA_NOREF) {
        luaL_unref(run->sandbox->L, LUA_REGISTRYINDEX, run->function);
        run->function = LUA_NOREF;
    }
    run->sandbox->now_wall = now_wall;
    cp_loop_effect(run->scripts->loop, step, NULL, run);
}

static int push_test(lua_State *L) {
    const pushing *p = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->run->function);
    cp_lua_push_json(L, p->value);
    lua_State *co = lua_newthread(L);
    lua_insert(L, 2);
    lua_xmove(L, co, 2);
    return 1;
}

static int resume_test(lua_State *L) {
    lua_State *co = lua_touserdata(L, 1);
    int status = lua_resume(co, 1);
    if (status == LUA_YIELD)
        return luaL_error(L, "the function of wait_until yields; it may only look");
    if (status != 0) {
        lua_pushnil(L);
        lua_error(L);
    }
    lua_pushboolean(L, lua_gettop(co) > 0 && lua_toboolean(co, 1));
    return 1;
}

int cp_host_test(cp_script_run *run, const json_t *status, cp_error *err) {
    if (run->function == LUA_NOREF)
        return cp_fail(err, CP_E_SCRIPT_ERROR, "wait_until has no function to ask");
    cp_sandbox *sandbox = run->sandbox;
    lua_State *L = sandbox->L;
    int top = lua_gettop(L), r = 0;
    cp_sandbox_arm(sandbox);
    sandbox->may_yield = false;
    run->testing = true;
    lua_State *co = NULL;
    if (protected(L, push_test, &(pushing){.run = run, .value = status}, 1)) {
        co = lua_tothread(L, -1);
        if (protected(L, resume_test, co, 1)) {
            r = lua_toboolean(L, -1);
        } else if (lua_isnil(L, -1) || sandbox->killed || sandbox->refused) {
            cp_sandbox_error(sandbox, co, err);
            r = err->code;
            cp_sandbox_arm(sandbox); /* a plain error may be caught where wait_until was called */
        } else {
            r = cp_fail(err, CP_E_SCRIPT_ERROR, "%s", lua_tostring(L, -1));
        }
    } else {
        r = cp_fail(err, CP_E_SCRIPT_ERROR, "the status does not fit in the script's memory");
    }
    lua_settop(L, top);
    run->testing = false;
    sandbox->may_yield = true;
    return r;
}

void cp_host_stop(cp_script_run *run) {
    if (!run)
        return;
    if (!run->in_step) {
        run_free(run);
        return;
    }
    run->stopped = true;
}
