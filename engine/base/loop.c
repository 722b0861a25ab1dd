/* engine/base/loop.c -- The turn: dispatch, decide, commit, act; the clock; stalls.
 * Timers are in timer.c: a heap of our own, so that the virtual clock is exact. Knows libevent and time; must not know
 * SQLite or workloads. */
#include "base/loop_internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    HEARTBEAT = 1000, /* the longest single wait: bounds how much of a stop counts as watched */
    LATE = 1000,      /* what a turn may be late before time stops being watched */
};

static int64_t clock_ms(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t cp_loop_mono(const cp_loop *loop) {
    if (loop->virtual_clock)
        return loop->now;
    /* Never back, whatever the system's clock does under a debugger or a faked time. */
    cp_loop *mine = (cp_loop *)loop;
    int64_t raw = clock_ms(CLOCK_MONOTONIC);
    if (raw + mine->mono_shift < mine->mono_last)
        mine->mono_shift = mine->mono_last - raw;
    mine->mono_last = raw + mine->mono_shift;
    return mine->mono_last;
}

int64_t cp_loop_wall(const cp_loop *loop) {
    return loop->virtual_clock ? CP_VIRTUAL_START + loop->now : clock_ms(CLOCK_REALTIME);
}

/* Since the last checkpoint the loop was allowed to be away for `allowed` ms; what is more than LATE beyond that does
 * not count. It grows steadily and never steps back. */
int64_t cp_loop_watched(const cp_loop *loop) {
    if (loop->virtual_clock)
        return loop->now;
    int64_t away = cp_loop_mono(loop) - loop->checked_at;
    int64_t most = loop->allowed == INT64_MAX ? INT64_MAX : loop->allowed + LATE;
    return loop->watched + (away < most ? away : most);
}

int64_t cp_loop_stall_max(const cp_loop *loop) {
    return loop->stall_max;
}

/* Books the time since the last checkpoint; until the next one the loop may be away for `allowed` ms. */
static void checkpoint(cp_loop *loop, int64_t allowed) {
    if (loop->virtual_clock)
        return;
    loop->watched = cp_loop_watched(loop);
    int64_t now = loop->mono_last;
    int64_t late = loop->allowed == INT64_MAX ? 0 : now - loop->checked_at - loop->allowed;
    if (late > loop->stall_max)
        loop->stall_max = late;
    loop->checked_at = now;
    loop->allowed = allowed;
}

/* ---- opening ---- */

/* libevent does not hand out its epoll descriptor: it is the one that appears with the base. */
static void list_epolls(bool seen[], size_t size, int *ret_new) {
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int fd = atoi(entry->d_name);
        char target[64];
        ssize_t len = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        if (len <= 0 || fd < 0 || (size_t)fd >= size)
            continue;
        target[len] = '\0';
        if (strcmp(target, "anon_inode:[eventpoll]") != 0)
            continue;
        if (ret_new && !seen[fd])
            *ret_new = fd;
        seen[fd] = true;
    }
    closedir(folder);
}

static void on_alarm(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    cp_loop *loop = userdata;
    uint64_t count;
    if (read(fd, &count, sizeof count) > 0)
        loop->alarm_at = -1;
    loop->woken++;
}

static void on_wake(evutil_socket_t fd, short what, void *userdata) {
    (void)fd;
    (void)what;
    ((cp_loop *)userdata)->woken++;
}

int cp_loop_new(bool virtual_clock, cp_loop **ret, cp_error *err) {
    enum { MOST = 65536 };
    cp_autofree bool *seen = cp_alloc0(MOST * sizeof *seen);
    cp_autoloop cp_loop *loop = cp_new0(cp_loop);
    *loop = (cp_loop){.virtual_clock = virtual_clock, .epoll = -1, .alarm = -1, .alarm_at = -1, .allowed = INT64_MAX};
    list_epolls(seen, MOST, NULL);
    loop->base = event_base_new();
    if (!loop->base)
        return cp_fail(err, CP_E_INTERNAL, "cannot make an event loop: %s", strerror(errno));
    list_epolls(seen, MOST, &loop->epoll);
    if (loop->epoll < 0)
        return cp_fail(err, CP_E_INTERNAL, "the event loop uses %s; it must be epoll, visible in /proc/self/fd",
                       event_base_get_method(loop->base));
    loop->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->alarm < 0)
        return cp_fail(err, CP_E_INTERNAL, "cannot make a timer descriptor: %s", strerror(errno));
    loop->alarm_event = event_new(loop->base, loop->alarm, EV_READ | EV_PERSIST, on_alarm, loop);
    loop->wake_event = event_new(loop->base, -1, 0, on_wake, loop);
    if (!loop->alarm_event || !loop->wake_event || event_add(loop->alarm_event, NULL) < 0)
        return cp_fail(err, CP_E_INTERNAL, "cannot watch a timer descriptor: %s", strerror(errno));
    loop->random = 1;
    if (!virtual_clock && getrandom(&loop->random, sizeof loop->random, 0) != sizeof loop->random)
        return cp_fail(err, CP_E_INTERNAL, "the system gives no random numbers: %s", strerror(errno));
    loop->checked_at = cp_loop_mono(loop);
    *ret = cp_take(loop);
    return 0;
}

static void drop_jobs(cp_jobs *jobs, size_t from) {
    for (; jobs->count > from; jobs->count--) {
        cp_job job = jobs->items[jobs->count - 1];
        if (job.drop)
            job.drop(job.userdata);
    }
}

void cp_loop_free(cp_loop *loop) {
    if (!loop)
        return;
    assert(!loop->turning);
    drop_jobs(&loop->effects, 0);
    free(loop->effects.items);
    free(loop->deferred.items);
    free(loop->running.items);
    for (size_t i = 0; i < loop->heap.count; i++) /* their owners free them later */
        *(cp_timer *)loop->heap.items[i] = (cp_timer){0};
    cp_vec_clear(&loop->heap);
    if (loop->alarm_event)
        event_free(loop->alarm_event);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->alarm >= 0)
        close(loop->alarm);
    if (loop->base)
        event_base_free(loop->base);
    free(loop);
}

void cp_loop_set_hooks(cp_loop *loop, const cp_loop_hooks *hooks) {
    loop->hooks = hooks ? *hooks : (cp_loop_hooks){0};
}

struct event_base *cp_loop_base(cp_loop *loop) {
    return loop->base;
}

bool cp_loop_is_virtual(const cp_loop *loop) {
    return loop->virtual_clock;
}

int cp_loop_fd(const cp_loop *loop) {
    return loop->epoll;
}

void cp_loop_seed(cp_loop *loop, uint64_t seed) {
    loop->random = seed;
}

uint64_t cp_loop_random(cp_loop *loop) { /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t value = (loop->random += 0x9e3779b97f4a7c15u);
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* ---- effects and deferred tasks ---- */

static void add_job(cp_loop *loop, cp_jobs *jobs, cp_job job) {
    if (jobs->count == jobs->capacity) {
        jobs->capacity = jobs->capacity ? jobs->capacity * 2 : 16;
        jobs->items = cp_realloc(jobs->items, jobs->capacity * sizeof *jobs->items);
    }
    jobs->items[jobs->count++] = job;
    cp_loop_alarm(loop);
}

void cp_loop_effect(cp_loop *loop, cp_task *run, cp_task *drop, void *userdata) {
    add_job(loop, &loop->effects, (cp_job){.run = run, .drop = drop, .userdata = userdata});
}

size_t cp_loop_effect_mark(const cp_loop *loop) {
    return loop->effects.count;
}

void cp_loop_effect_rewind(cp_loop *loop, size_t mark) {
    drop_jobs(&loop->effects, mark);
}

void cp_loop_defer(cp_loop *loop, cp_task *run, void *userdata) {
    add_job(loop, &loop->deferred, (cp_job){.run = run, .userdata = userdata});
}

/* Marks instead of moving: a mark of effects that somebody holds stays right. */
static void forget_jobs(cp_jobs *jobs, const void *userdata) {
    for (size_t i = 0; i < jobs->count; i++)
        if (jobs->items[i].userdata == userdata)
            jobs->items[i] = (cp_job){0};
}

void cp_loop_forget(cp_loop *loop, void *userdata) {
    if (!userdata)
        return;
    forget_jobs(&loop->effects, userdata);
    forget_jobs(&loop->deferred, userdata);
    forget_jobs(&loop->running, userdata);
}

/* Runs what is queued now; what these tasks queue stays for the next turn. */
static int run_jobs(cp_loop *loop, cp_jobs *jobs) {
    assert(loop->running.count == 0);
    int done = 0;
    cp_jobs spare = loop->running;
    loop->running = *jobs; /* in the loop, where cp_loop_forget finds them */
    *jobs = spare;
    for (size_t i = 0; i < loop->running.count; i++) {
        cp_job job = loop->running.items[i];
        loop->running.items[i] = (cp_job){0};
        if (job.run) {
            job.run(job.userdata);
            done++;
        }
    }
    loop->running.count = 0;
    return done;
}

/* ---- turns ---- */

static bool has_work(const cp_loop *loop) {
    return loop->effects.count || loop->deferred.count ||
           (loop->hooks.pending && loop->hooks.pending(loop->hooks.userdata));
}

/* Is somebody else's event in the base? Ours is one. */
static bool has_io(const cp_loop *loop) {
    return event_base_get_num_events(loop->base,
                                     EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_VIRTUAL) > 1;
}

void cp_loop_alarm(cp_loop *loop) {
    if (loop->turning)
        return; /* the turn sees to it at its end */
    int64_t next = cp_loop_next_timer(loop);
    bool now = has_work(loop) || next == 0;
    if (loop->virtual_clock && !now)
        next = -1; /* time stands still: only cp_loop_advance brings it about */
    int64_t at = now ? 0 : next < 0 ? -1 : cp_loop_watched(loop) + next;
    if (at == loop->alarm_at)
        return;
    struct itimerspec spec = {0};
    if (at >= 0) {
        spec.it_value.tv_sec = now ? 0 : next / 1000;
        spec.it_value.tv_nsec = now ? 1 : next % 1000 * 1000000;
    }
    timerfd_settime(loop->alarm, 0, &spec, NULL);
    loop->alarm_at = at;
}

/* Waits at most ms and dispatches what libevent has. Returns 1 when something but our own two events was there: it
 * tells by the most events that were active at a time. */
static int dispatch_events(cp_loop *loop, int64_t ms) {
    loop->woken = 0;
    event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1);
    if (ms == 0) {
        event_base_loop(loop->base, EVLOOP_NONBLOCK);
    } else {
        struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
        event_add(loop->wake_event, &limit);
        event_base_loop(loop->base, EVLOOP_ONCE);
        event_del(loop->wake_event);
    }
    return event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1) > loop->woken;
}

static int64_t smaller(int64_t a, int64_t b) { /* -1: no limit */
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

/* (1) of a turn: deferred tasks, then I/O, then timers -- an answer that is there beats its own time-out. */
static int dispatch(cp_loop *loop, int64_t timeout_ms) {
    int64_t wait = has_work(loop) ? 0 : smaller(timeout_ms, cp_loop_next_timer(loop));
    if (loop->virtual_clock) {
        wait = loop->linger;
        loop->linger = 0;
    }
    wait = smaller(wait, HEARTBEAT);
    uint64_t armed = loop->armed;
    int done = run_jobs(loop, &loop->deferred);
    if (!loop->virtual_clock || has_io(loop)) {
        checkpoint(loop, wait);
        done += dispatch_events(loop, wait);
    }
    checkpoint(loop, 0);
    return done + cp_timers_run(loop, cp_loop_watched(loop), armed);
}

static int one_turn(cp_loop *loop, int64_t timeout_ms) {
    assert(!loop->turning); /* a task that turns the loop would commit half a turn */
    checkpoint(loop, 0);
    loop->turning = true;
    int done = dispatch(loop, timeout_ms);
    const cp_loop_hooks *hooks = &loop->hooks;
    if (hooks->decide)
        hooks->decide(hooks->userdata);
    if (!hooks->commit || hooks->commit(hooks->userdata) == 0) {
        done += run_jobs(loop, &loop->effects);
    } else {
        drop_jobs(&loop->effects, 0);
        if (hooks->failed)
            hooks->failed(hooks->userdata);
        done++;
    }
    loop->turning = false;
    int64_t next = cp_loop_next_timer(loop);
    bool busy = has_work(loop);
    checkpoint(loop, busy ? 0 : next < 0 ? INT64_MAX : next);
    cp_loop_alarm(loop);
    return done;
}

int cp_loop_turn(cp_loop *loop, int64_t timeout_ms) {
    int64_t end = timeout_ms < 0 ? -1 : cp_loop_mono(loop) + timeout_ms, left = timeout_ms;
    for (;;) {
        int done = one_turn(loop, left);
        if (done || loop->stopped || loop->virtual_clock || has_work(loop))
            return done;
        if (end >= 0) {
            left = end - cp_loop_mono(loop);
            if (left <= 0)
                return 0;
        }
    }
}

void cp_loop_stop(cp_loop *loop) {
    loop->stopped = true;
}

static bool take_stop(cp_loop *loop) {
    bool stopped = loop->stopped;
    loop->stopped = false;
    return stopped;
}

/* Nothing to do at this instant of a virtual clock: jump to the next timer, at most to end (-1: no limit). False when
 * nothing can ever happen, or the end is reached. */
static bool jump(cp_loop *loop, int64_t end) {
    int64_t next = cp_loop_next_timer(loop);
    int64_t at = next < 0 ? -1 : loop->now + next;
    if (at < 0 && end < 0) {
        loop->linger = 10; /* only the real world can go on: give it real time in the next turn */
        return has_io(loop);
    }
    bool reached = end >= 0 && (at < 0 || at > end);
    if ((reached ? end : at) > loop->now)
        loop->now = reached ? end : at;
    return !reached;
}

bool cp_loop_run(cp_loop *loop, bool (*until)(void *userdata), void *userdata, int64_t timeout_ms) {
    int64_t end = timeout_ms < 0 ? -1 : cp_loop_mono(loop) + timeout_ms;
    while (!(until && until(userdata))) {
        if (take_stop(loop))
            return false;
        int64_t left = end < 0 ? -1 : end - cp_loop_mono(loop);
        if (!loop->virtual_clock && end >= 0 && left <= 0)
            return false;
        int done = one_turn(loop, left);
        if (loop->virtual_clock && !done && !has_work(loop) && !jump(loop, end))
            return until && until(userdata);
    }
    return true;
}

void cp_loop_advance(cp_loop *loop, int64_t ms) {
    assert(loop->virtual_clock && ms >= 0);
    int64_t end = loop->now + ms;
    do
        while (cp_loop_turn(loop, 0) || has_work(loop))
            ;
    while (jump(loop, end));
}
