/* engine/lua/task.c -- Tasks: coroutines that wait by suspending. How they start, end, fail, are waited for and
 * cancelled. Knows the scheduler; must not know operations. */
#include "base/log.h"
#include "lua/plane.h"

#include <stdlib.h>
#include <string.h>

static const char ANCHOR_KEY; /* registry: light userdata of a task -> the task */

/* What an ended task leaves on its coroutine: its results; or the error and the traceback. */
enum { ERROR_AT = 1, TRACEBACK_AT };

static void push_anchors(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&ANCHOR_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)&ANCHOR_KEY);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static void push_task(lua_State *L, cp_lua_task *task) { /* an anchored one */
    push_anchors(L);
    lua_pushlightuserdata(L, task);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

static void release(lua_State *L, cp_lua_task *task) {
    push_anchors(L);
    lua_pushlightuserdata(L, task);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static int push_nothing(lua_State *L, cp_lua_wait *wait) {
    (void)L;
    (void)wait;
    return 0;
}

cp_lua_task *cp_lua_task_spawn(lua_State *L, cp_lua_plane *scope, int n) {
    int function = lua_gettop(L) - n;
    cp_lua_sched *sched = cp_lua_sched_of(L);
    cp_lua_task *task = lua_newuserdata(L, sizeof *task);
    *task = (cp_lua_task){.sched = sched, .scope = scope, .state = CP_TASK_WAITING};
    luaL_getmetatable(L, CP_LUA_TASK);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* its environment anchors the thread */
    task->co = lua_newthread(L);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    push_anchors(L);
    lua_pushlightuserdata(L, task);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    cp_vec_push(&sched->tasks, task);

    lua_insert(L, function); /* the task goes below what it is to run */
    luaL_checkstack(task->co, n + 1, "too many arguments");
    lua_xmove(L, task->co, n + 1);
    cp_lua_wait *start = cp_new0(cp_lua_wait); /* it starts in the next round, like every resume */
    *start = (cp_lua_wait){.sched = sched, .task = task, .push = push_nothing, .what = cp_strdup("the start")};
    task->wait = start;
    cp_lua_wait_finish(start, NULL, NULL);
    return task;
}

static void end(lua_State *L, cp_lua_task *task, cp_task_state state) {
    task->state = state;
    cp_vec_drop(&task->sched->tasks, task);
    task->seen |= task->joiners.count > 0;
    bool keep = state == CP_TASK_FAILED && !task->seen && !task->ending;
    if (keep)
        cp_vec_push(&task->sched->failed, task);
    while (task->joiners.count) {
        cp_lua_wait *joiner = task->joiners.items[0];
        cp_vec_remove(&task->joiners, 0);
        cp_lua_wait_finish(joiner, NULL, NULL);
    }
    if (!keep)
        release(L, task); /* who waits for it holds it on its stack */
}

/* An error value that was raised knows no place: the innermost line of Lua is its `where`. */
static void add_where(lua_State *co) {
    lua_Debug frame;
    if (!lua_istable(co, -1) || !lua_checkstack(co, 4))
        return;
    lua_pushliteral(co, "where");
    lua_rawget(co, -2);
    bool known = !lua_isnil(co, -1);
    lua_pop(co, 1);
    for (int level = 0; !known && lua_getstack(co, level, &frame); level++) {
        if (!lua_getinfo(co, "Sl", &frame) || frame.currentline <= 0)
            continue;
        lua_pushliteral(co, "where");
        lua_pushfstring(co, "%s:%d", frame.short_src, frame.currentline);
        lua_rawset(co, -3);
        known = true;
    }
}

static void fail(lua_State *L, cp_lua_task *task) { /* the error is on top of the coroutine */
    add_where(task->co);
    luaL_traceback(L, task->co, NULL, 0);
    lua_xmove(task->co, L, 1);
    lua_insert(L, -2);
    lua_settop(task->co, 0);
    lua_xmove(L, task->co, 2);
    push_task(L, task); /* `end` may release it */
    end(L, task, CP_TASK_FAILED);
    lua_pop(L, 1);
}

static bool yielded_by_us(lua_State *L, cp_lua_task *task) {
    cp_lua_suspension(L);
    bool ours = task->wait && lua_gettop(task->co) == 1 && lua_touserdata(task->co, 1) == lua_touserdata(L, -1);
    lua_pop(L, 1);
    return ours;
}

void cp_lua_task_resume(lua_State *L, cp_lua_task *task, int n) {
    if (lua_status(task->co) == LUA_YIELD)
        lua_settop(task->co, 0);
    else
        n = lua_gettop(task->co) - 1; /* the start: function and arguments are there already */
    if (lua_status(task->co) == LUA_YIELD && n) {
        lua_checkstack(task->co, n);
        lua_xmove(L, task->co, n);
    }
    cp_lua_task *outer = task->sched->current;
    task->sched->current = task;
    task->state = CP_TASK_RUNNING;
    int status = lua_resume(task->co, n);
    task->sched->current = outer;
    cp_lua_back(L);
    if (status == 0) {
        end(L, task, CP_TASK_DONE);
    } else if (status != LUA_YIELD) {
        fail(L, task);
    } else if (yielded_by_us(L, task)) {
        task->state = CP_TASK_WAITING;
    } else {
        lua_settop(task->co, 0);
        lua_pushliteral(L, "a task called coroutine.yield, and nobody resumes it; plane:sleep(0) lets others run");
        lua_xmove(L, task->co, 1);
        fail(L, task);
    }
}

static cp_lua_task *check_task(lua_State *L) {
    return luaL_checkudata(L, 1, CP_LUA_TASK);
}

/* From co to L, which may be the same when a task looks at another: it never is its own. */
static void push_copy(lua_State *L, cp_lua_task *task, int at) {
    lua_pushvalue(task->co, at);
    lua_xmove(task->co, L, 1);
}

static void mark_seen(lua_State *L, cp_lua_task *task) {
    task->seen = true;
    if (cp_vec_drop(&task->sched->failed, task))
        release(L, task);
}

/* How a task ended, pushed: its results; nil and the error. */
static int push_end(lua_State *L, cp_lua_task *task) {
    mark_seen(L, task);
    if (task->state == CP_TASK_DONE) {
        int n = lua_gettop(task->co);
        luaL_checkstack(L, n, "too many results");
        for (int i = 1; i <= n; i++)
            push_copy(L, task, i);
        return n;
    }
    cp_autoerror cp_error err = {0};
    if (task->state == CP_TASK_CANCELLED) {
        cp_fail(&err, CP_E_CANCELLED, "the task was cancelled");
        return cp_lua_fail(L, &err);
    }
    lua_pushnil(L);
    push_copy(L, task, ERROR_AT);
    bool ours = false;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        ours = !lua_isnil(L, -1);
        lua_pop(L, 1);
    }
    if (!ours) {
        cp_lua_read_error(L, -1, &err);
        lua_pop(L, 1);
        push_copy(L, task, TRACEBACK_AT);
        err.details = json_pack("{s:s?}", "traceback", lua_tostring(L, -1));
        lua_pop(L, 1);
        cp_lua_push_error(L, &err);
    }
    return 2;
}

static void stop_waiting(cp_lua_wait *wait) {
    cp_vec_drop(&((cp_lua_task *)wait->work)->joiners, wait);
}

static int push_joined(lua_State *L, cp_lua_wait *wait) {
    return push_end(L, wait->work); /* alive: the waiting call has it as its argument */
}

static bool has_ended(const cp_lua_task *task) {
    return task->state >= CP_TASK_DONE;
}

/* task:wait({ timeout = }?) -> what its function returned | nil, err */
static int task_wait(lua_State *L) {
    static const char *const KEYS[] = {"timeout"};
    cp_lua_task *task = check_task(L);
    cp_lua_check_keys(L, 2, "wait", KEYS, 1);
    int64_t timeout = -1;
    cp_autoerror cp_error err = {0};
    if (cp_lua_duration_option(L, 2, "timeout", &timeout, &err) < 0)
        return cp_lua_fail(L, &err);
    if (has_ended(task))
        return push_end(L, task);
    if (task->sched->current == task)
        return cp_lua_misuse(L, "a task cannot wait for itself");
    cp_lua_wait *wait = cp_lua_wait_new(L, task->scope, "the task");
    wait->work = task;
    wait->cancel = stop_waiting;
    wait->push = push_joined;
    cp_vec_push(&task->joiners, wait);
    cp_lua_wait_timeout(wait, timeout);
    return cp_lua_wait_for(L, wait);
}

static void cancel(lua_State *L, cp_lua_task *task) {
    cp_lua_wait *wait = task->wait;
    if (has_ended(task) || !wait)
        return;
    if (lua_status(task->co) != LUA_YIELD) { /* not started: it never will be */
        task->wait = NULL;
        task->generation++;
        end(L, task, CP_TASK_CANCELLED);
        return;
    }
    if (wait->done)
        return; /* it is about to go on */
    if (wait->cancel)
        wait->cancel(wait);
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_CANCELLED, "%s was cancelled", wait->what);
    cp_lua_wait_finish(wait, NULL, &err);
}

/* task:cancel(): what it waits for answers nil, `cancelled`; one that has not started never does. */
static int task_cancel(lua_State *L) {
    cancel(L, check_task(L));
    return 0;
}

/* task:status() -> "ready" | "waiting" | "running" | "done" | "failed" | "cancelled" */
static int task_status(lua_State *L) {
    static const char *const STATES[] = {"ready", "waiting", "running", "done", "failed", "cancelled"};
    const cp_lua_task *task = check_task(L);
    bool ready = task->state == CP_TASK_WAITING && task->wait && task->wait->done;
    lua_pushstring(L, STATES[ready ? CP_TASK_READY : task->state]);
    return 1;
}

static int task_gc(lua_State *L) {
    cp_lua_task *task = check_task(L);
    cp_vec_drop(&task->sched->tasks, task);
    cp_vec_drop(&task->sched->failed, task);
    cp_vec_clear(&task->joiners);
    return 0;
}

static int task_tostring(lua_State *L) {
    task_status(L);
    lua_pushfstring(L, "task (%s)", lua_tostring(L, -1));
    return 1;
}

static bool all_ended(void *userdata) {
    const cp_lua_plane *plane = userdata;
    for (size_t i = 0; i < plane->sched->tasks.count; i++)
        if (((cp_lua_task *)plane->sched->tasks.items[i])->scope == plane)
            return false;
    return true;
}

static bool task_ended(void *userdata) {
    return has_ended(userdata);
}

int cp_lua_task_run(lua_State *L, cp_lua_plane *scope, int n) {
    cp_lua_task *task = cp_lua_task_spawn(L, scope, n); /* stays on the stack, and so alive */
    if (!cp_lua_run_until(L, scope, task_ended, task)) {
        cancel(L, task);
        return cp_lua_stuck(L, "the task");
    }
    if (task->state != CP_TASK_FAILED)
        return push_end(L, task);
    mark_seen(L, task);
    push_copy(L, task, ERROR_AT);
    return lua_error(L);
}

static bool none_left(void *userdata) {
    return ((cp_lua_sched *)userdata)->tasks.count == 0;
}

int cp_lua_run_task(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    cp_lua_sched *sched = cp_lua_sched_of(L);
    if (sched->turning || sched->current)
        return cp_lua_misuse(L, "a script is running already");
    cp_lua_task *task = cp_lua_task_spawn(L, NULL, lua_gettop(L) - 1);
    bool ended = cp_lua_run_until(L, NULL, task_ended, task);
    if (ended && task->state == CP_TASK_DONE)
        ended = cp_lua_run_until(L, NULL, none_left, sched);
    if (!ended) {
        cancel(L, task);
        return cp_lua_stuck(L, "the script");
    }
    if (task->state == CP_TASK_DONE && sched->failed.count) { /* a task that it started, and did not wait for */
        task = sched->failed.items[0];
        push_task(L, task);
    }
    return push_end(L, task);
}

void cp_lua_tasks_run(lua_State *L, cp_lua_plane *plane) {
    if (!cp_lua_run_until(L, plane, all_ended, plane)) {
        cp_lua_stuck(L, "plane:run");
        return;
    }
    for (size_t i = 0; i < plane->sched->failed.count; i++) {
        cp_lua_task *task = plane->sched->failed.items[i];
        if (task->scope != plane)
            continue;
        push_task(L, task);
        mark_seen(L, task);
        push_copy(L, task, ERROR_AT);
        lua_error(L);
    }
}

/* Names what nobody looked at, so that it is not lost without a word: the first few, and how many more. */
static void report_failed(lua_State *L, cp_lua_plane *plane) {
    enum { FEW = 3 };
    cp_vec *failed = &plane->sched->failed;
    int count = 0;
    for (size_t i = 0; i < failed->count;) {
        cp_lua_task *task = failed->items[i];
        if (task->scope != plane) {
            i++;
            continue;
        }
        push_task(L, task);
        mark_seen(L, task); /* takes it out of the list */
        push_copy(L, task, TRACEBACK_AT);
        push_copy(L, task, ERROR_AT);
        cp_autoerror cp_error err = {0};
        cp_lua_read_error(L, -1, &err);
        if (++count <= FEW)
            cp_log(CP_LOG_ERROR, "a task failed, and nobody waited for it: %s\n%s", err.message, lua_tostring(L, -2));
        lua_pop(L, 3);
    }
    if (count > FEW)
        cp_log(CP_LOG_ERROR, "%d more tasks failed, and nobody waited for them", count - FEW);
}

void cp_lua_tasks_end(lua_State *L, cp_lua_plane *plane) {
    report_failed(L, plane);
    cp_lua_sched *sched = plane->sched;
    for (size_t i = sched->tasks.count; i-- > 0;) {
        cp_lua_task *task = sched->tasks.items[i];
        if (task->scope != plane)
            continue;
        task->scope = NULL;
        if (task == sched->current)
            continue; /* the one that closes it */
        task->ending = true;
        cancel(L, task);
    }
}

void cp_lua_open_task(lua_State *L) {
    static const luaL_Reg METHODS[] = {
        {"wait", task_wait}, {"cancel", task_cancel}, {"status", task_status}, {NULL, NULL}};
    if (!luaL_newmetatable(L, CP_LUA_TASK)) {
        lua_pop(L, 1);
        return;
    }
    lua_newtable(L);
    luaL_setfuncs(L, METHODS, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, task_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, task_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "a task");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
