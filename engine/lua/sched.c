/* engine/lua/sched.c -- The scheduler of a Lua state: waits that callbacks finish, and the rounds that turn the loops
 * and resume tasks in between. Knows loops and coroutines; must not know operations. */
#include "lua/plane.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

static const char SCHED_KEY; /* its address is the registry key; what it holds is also what suspensions yield */

static int sched_gc(lua_State *L) {
    cp_lua_sched *sched = lua_touserdata(L, 1);
    while (sched->ready.count) {
        cp_lua_wait *wait = sched->ready.items[0];
        cp_vec_remove(&sched->ready, 0);
        cp_lua_wait_free(wait);
    }
    cp_vec_clear(&sched->ready);
    cp_vec_clear(&sched->planes);
    cp_vec_clear(&sched->tasks);
    cp_vec_clear(&sched->failed);
    return 0;
}

cp_lua_sched *cp_lua_sched_of(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&SCHED_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    cp_lua_sched *sched = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (sched)
        return sched;
    lua_pushlightuserdata(L, (void *)&SCHED_KEY);
    sched = lua_newuserdata(L, sizeof *sched);
    *sched = (cp_lua_sched){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, sched_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return sched;
}

bool cp_lua_is_open(const cp_lua_sched *sched, const cp_lua_plane *plane) {
    for (size_t i = 0; i < sched->planes.count; i++)
        if (sched->planes.items[i] == plane)
            return true;
    return false;
}

int cp_lua_suspension(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&SCHED_KEY);
    return 1;
}

int cp_lua_pass_suspensions(lua_State *L) {
    cp_lua_sched_of(L)->passing = true;
    return 0;
}

void cp_lua_check_wait(lua_State *L, const char *what) {
    cp_lua_sched *sched = cp_lua_sched_of(L);
    if (sched->turning) {
        cp_lua_misuse(
            L, "%s cannot wait inside a callback of the engine; do it in a task: plane:spawn(function() ... end)",
            what);
        return;
    }
    if (!sched->current)
        return;
    if (sched->current->co != L && !sched->passing)
        cp_lua_misuse(L,
                      "%s cannot wait inside a coroutine of the task's own; call it from the task itself, or give the "
                      "coroutine a task of its own: plane:spawn(function() ... end)",
                      what);
    if (!lua_isyieldable(L))
        cp_lua_misuse(L, "%s cannot wait below a C function such as table.sort or string.gsub; call it outside of it",
                      what);
}

cp_lua_wait *cp_lua_wait_new(lua_State *L, cp_lua_plane *plane, const char *what) {
    cp_lua_check_wait(L, what);
    cp_lua_sched *sched = cp_lua_sched_of(L);
    cp_lua_wait *wait = cp_new0(cp_lua_wait);
    *wait = (cp_lua_wait){.sched = sched, .plane = plane, .task = sched->current, .what = cp_strdup(what)};
    if (plane)
        cp_vec_push(&plane->waits, wait);
    return wait;
}

static void on_timeout(void *userdata) {
    cp_lua_wait *wait = userdata;
    if (wait->done)
        return;
    if (wait->cancel)
        wait->cancel(wait);
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_TIMEOUT, "%s was not done after %.10g s", wait->what, (double)wait->timeout / 1000);
    cp_lua_wait_finish(wait, NULL, &err);
}

void cp_lua_wait_timeout(cp_lua_wait *wait, int64_t ms) {
    if (ms < 0 || !wait->plane || wait->done)
        return;
    wait->timeout = ms;
    wait->timer = cp_timer_new(wait->plane->loop, on_timeout, wait);
    cp_timer_start(wait->timer, ms);
}

void cp_lua_wait_finish(cp_lua_wait *wait, json_t *result, const cp_error *err) {
    if (wait->done) {
        json_decref(result);
        return;
    }
    wait->done = true;
    wait->cancel = NULL; /* the work has ended */
    wait->result = result;
    if (err) {
        wait->failed = true;
        cp_error_copy(&wait->err, err);
    }
    cp_timer_free(cp_take(wait->timer));
    if (wait->plane)
        cp_vec_drop(&wait->plane->waits, wait);
    wait->plane = NULL;
    if (wait->task)
        cp_vec_push(&wait->sched->ready, wait);
}

void cp_lua_wait_free(cp_lua_wait *wait) {
    if (!wait)
        return;
    if (!wait->done && wait->cancel)
        wait->cancel(wait);
    if (wait->plane)
        cp_vec_drop(&wait->plane->waits, wait);
    cp_timer_free(wait->timer);
    json_decref(wait->result);
    cp_error_clear(&wait->err);
    free(wait->what);
    free(wait);
}

static int push_result(lua_State *L, cp_lua_wait *wait) {
    if (wait->failed)
        return cp_lua_fail(L, &wait->err);
    if (wait->push)
        return wait->push(L, wait);
    if (wait->result)
        cp_lua_push_json(L, wait->result);
    else
        lua_pushboolean(L, true);
    return 1;
}

static bool is_done(void *userdata) {
    return ((cp_lua_wait *)userdata)->done;
}

int cp_lua_wait_for(lua_State *L, cp_lua_wait *wait) {
    cp_lua_task *task = wait->task;
    if (!task) {
        if (!cp_lua_run_until(L, wait->plane, is_done, wait)) {
            cp_autofree char *what = cp_take(wait->what);
            cp_lua_wait_free(wait);
            return cp_lua_stuck(L, what);
        }
        int n = push_result(L, wait);
        cp_lua_wait_free(wait);
        return n;
    }
    wait->generation = ++task->generation;
    task->wait = wait;
    task->state = CP_TASK_WAITING;
    cp_lua_suspension(L);
    return lua_yield(L, 1);
}

/* Resumes the task of a finished wait with what it waited for. */
static void deliver(lua_State *L, cp_lua_wait *wait) {
    cp_lua_task *task = wait->task;
    if (task->wait != wait || task->generation != wait->generation || task->state != CP_TASK_WAITING) {
        cp_lua_wait_free(wait); /* stale: the task goes on from elsewhere */
        return;
    }
    task->wait = NULL;
    task->generation++;
    int n = push_result(L, wait);
    cp_lua_wait_free(wait);
    cp_lua_task_resume(L, task, n);
}

int cp_lua_run_ready(lua_State *L, cp_lua_sched *sched) {
    int n = 0;
    for (size_t left = sched->ready.count; left && sched->ready.count; left--, n++) {
        cp_lua_wait *wait = sched->ready.items[0];
        cp_vec_remove(&sched->ready, 0);
        deliver(L, wait);
    }
    return n;
}

static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

void cp_lua_back(lua_State *L) {
    lua_pushcfunction(L, do_nothing);
    lua_call(L, 0, 0);
}

static int turn(lua_State *L, cp_lua_sched *sched, cp_lua_plane *plane, int64_t timeout) {
    sched->turning = true;
    int n = cp_loop_turn(plane->loop, timeout);
    sched->turning = false;
    cp_lua_back(L); /* hooks of specs run in states of their own */
    return n;
}

static void jump(lua_State *L, cp_lua_sched *sched, cp_lua_plane *plane, int64_t ms) {
    sched->turning = true;
    cp_loop_advance(plane->loop, ms);
    sched->turning = false;
    cp_lua_back(L);
}

static int turn_all(lua_State *L, cp_lua_sched *sched) {
    int n = cp_lua_run_ready(L, sched);
    for (size_t i = 0; i < sched->planes.count; i++)
        n += turn(L, sched, sched->planes.items[i], 0);
    return n + (int)sched->ready.count;
}

/* Waits until one of several real loops has something to do. */
static void poll_loops(cp_lua_sched *sched, int64_t timeout) {
    struct pollfd fds[64];
    nfds_t count = 0;
    for (size_t i = 0; i < sched->planes.count && count < CP_COUNT(fds); i++) {
        cp_lua_plane *plane = sched->planes.items[i];
        if (cp_loop_is_virtual(plane->loop))
            continue;
        fds[count++] = (struct pollfd){.fd = cp_loop_fd(plane->loop), .events = POLLIN};
        int64_t next = cp_loop_next_timer(plane->loop);
        if (next >= 0 && (timeout < 0 || next < timeout))
            timeout = next;
    }
    poll(fds, count, timeout > INT32_MAX ? INT32_MAX : (int)timeout);
}

enum { STUCK = -1 };

/* One round when nobody else drives: what is ready, what is due; when there is neither, time passes. */
static int round_once(lua_State *L, cp_lua_sched *sched, cp_lua_plane *focus) {
    cp_lua_plane *only = sched->planes.count == 1 ? sched->planes.items[0] : NULL;
    if (only &&
        !cp_loop_is_virtual(only->loop)) { /* the usual case, without a look at the loop that waits for nothing */
        int n = cp_lua_run_ready(L, sched);
        if (n || sched->ready.count || sched->planes.count != 1)
            return 1;
        return turn(L, sched, only, -1), 1;
    }
    if (turn_all(L, sched))
        return 1;
    /* Virtual time passes where somebody waits: in each such plane up to its next timer, so that none starves another.
     */
    bool real = false, jumped = false;
    for (size_t i = 0; i < sched->planes.count; i++) {
        cp_lua_plane *plane = sched->planes.items[i];
        if (!cp_loop_is_virtual(plane->loop)) {
            real = true;
        } else if ((plane == focus || plane->waits.count) && cp_loop_next_timer(plane->loop) >= 0) {
            jump(L, sched, plane, cp_loop_next_timer(plane->loop));
            jumped = true;
        }
    }
    if (jumped)
        return 1;
    if (!real)
        return STUCK;
    poll_loops(sched, -1);
    return 1;
}

bool cp_lua_run_until(lua_State *L, cp_lua_plane *focus, bool (*done)(void *userdata), void *userdata) {
    cp_lua_sched *sched = cp_lua_sched_of(L);
    while (!done(userdata)) {
        if (focus && !cp_lua_is_open(sched, focus))
            focus = NULL; /* a task closed it */
        if (round_once(L, sched, focus) == STUCK)
            return false;
    }
    return true;
}

int cp_lua_stuck(lua_State *L, const char *what) {
    return cp_lua_misuse(L, "%s would wait for ever: no timer is set, and nothing is in flight", what);
}

int cp_lua_turn(lua_State *L, cp_lua_plane *plane, int64_t timeout) {
    cp_lua_sched *sched = cp_lua_sched_of(L);
    int n = cp_lua_run_ready(L, sched);
    if (!cp_lua_is_open(sched, plane))
        return n;
    n += turn(L, sched, plane, n || sched->ready.count ? 0 : timeout);
    return n + cp_lua_run_ready(L, sched);
}

void cp_lua_advance(lua_State *L, cp_lua_plane *plane, int64_t ms) {
    cp_lua_sched *sched = cp_lua_sched_of(L);
    for (;;) {
        while (turn_all(L, sched))
            continue;
        if (!cp_lua_is_open(sched, plane)) /* a task closed it */
            return;
        int64_t next = cp_loop_next_timer(plane->loop);
        int64_t step = next >= 0 && next < ms ? next : ms;
        jump(L, sched, plane, step); /* never past a timer: a task that it wakes must run at its time */
        ms -= step;
        if (ms == 0 && step == 0)
            return;
    }
}
