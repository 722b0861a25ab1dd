/* engine/base/loop.h -- The one loop: turn, commit, act; timers; the clock, real or virtual.
 * A turn is: (1) dispatch I/O events and due timers, (2) the decide hook, (3) the commit hook, (4) if the commit held,
 * run the queued effects; if not, drop them and call the reload hook. Writes made by effects belong to the next turn,
 * which follows at once. Knows libevent and time; must not know SQLite or workloads.
 * No other code asks the time. */
#pragma once
#include "base/error.h"
#include <event2/event.h>

typedef struct cp_loop cp_loop;
typedef struct cp_timer cp_timer;
typedef void cp_task(void *userdata);

typedef struct cp_loop_hooks {
    void (*decide)(void *userdata);  /* before the commit; may write, may queue effects */
    int (*commit)(void *userdata);   /* 0: everything of this turn is durable (or there was nothing to write) */
    void (*failed)(void *userdata);  /* the commit failed: effects of the turn were dropped; reload from the store */
    bool (*pending)(void *userdata); /* true when a turn must follow at once (uncommitted writes, dirty rows) */
    void *userdata;
} cp_loop_hooks;

/* virtual_clock: time stands still until cp_loop_advance moves it; wall time starts at 2026-01-01T00:00:00Z. */
int cp_loop_new(bool virtual_clock, cp_loop **ret, cp_error *err);
void cp_loop_free(cp_loop *loop);
CP_DEFINE_CLEANUP(cp_loop, cp_loop_free)
void cp_loop_set_hooks(cp_loop *loop, const cp_loop_hooks *hooks); /* NULL clears */
struct event_base *cp_loop_base(cp_loop *loop);
bool cp_loop_is_virtual(const cp_loop *loop);
/* Readable when a turn has something to do: I/O, a due timer, queued work. For foreign loops, which turn the loop then
 * (and once a second while an HTTP exchange is open: libevent's own time-outs do not show). */
int cp_loop_fd(const cp_loop *loop);

int64_t cp_loop_wall(const cp_loop *loop); /* ms since the epoch */
int64_t cp_loop_mono(const cp_loop *loop); /* ms, monotonic; stalls (see below) included */
/* Watched time: like mono, but time in which the loop was stalled or stopped (more than 1 s late) is left out.
 * The plane builds plane time on it, and timers count it: a stop of the process is not held against whom they wait for.
 */
int64_t cp_loop_watched(const cp_loop *loop);
int64_t cp_loop_stall_max(const cp_loop *loop); /* ms: the longest lateness seen; exported */

/* One turn. timeout_ms: how long to wait for something to happen (0: not at all, -1: until something does). On a
 * virtual clock nothing is waited for. Returns the number of things done (events, timers, effects). */
int cp_loop_turn(cp_loop *loop, int64_t timeout_ms);
/* Runs turns until `until` returns true or cp_loop_stop is called; timeout_ms -1 = for ever. On a virtual clock time
 * jumps to the next timer whenever a turn did nothing. True when `until` held. until NULL: until stopped. */
bool cp_loop_run(cp_loop *loop, bool (*until)(void *userdata), void *userdata, int64_t timeout_ms);
void cp_loop_stop(cp_loop *loop); /* ends the run under way, or the next one */
/* Virtual clock: runs everything that is due up to now + ms, in order of time, then of arming. */
void cp_loop_advance(cp_loop *loop, int64_t ms);
/* ms until the next timer, -1 when there is none. */
int64_t cp_loop_next_timer(const cp_loop *loop);

/* Queues an effect: runs once after the commit of this turn; dropped when the commit fails. Queued while effects run:
 * in the next turn's act phase (after its commit). drop (may be NULL) frees userdata when the effect is dropped. */
void cp_loop_effect(cp_loop *loop, cp_task *run, cp_task *drop, void *userdata);
size_t cp_loop_effect_mark(const cp_loop *loop);
void cp_loop_effect_rewind(cp_loop *loop, size_t mark); /* drops the effects queued since the mark: a request failed */
/* Runs a task in the next turn's dispatch phase: "a callback fires in a later turn than its call". Not dropped by a
 * failed commit. cancel with cp_loop_forget. */
void cp_loop_defer(cp_loop *loop, cp_task *run, void *userdata);
void cp_loop_forget(cp_loop *loop, void *userdata); /* removes every deferred task and effect with this userdata */

/* A timer is one-shot: re-arm it in its callback when wanted. Timers due at once run in order of their time, then of
 * their arming; what is armed in a turn runs in a later one. A task may free or stop any timer, also its own. */
cp_timer *cp_timer_new(cp_loop *loop, cp_task *run, void *userdata);
void cp_timer_start(cp_timer *timer, int64_t ms); /* from now; re-arms an armed one */
void cp_timer_stop(cp_timer *timer);
bool cp_timer_armed(const cp_timer *timer);
void cp_timer_free(cp_timer *timer); /* NULL is fine */
CP_DEFINE_CLEANUP(cp_timer, cp_timer_free)

/* Pseudo-random numbers for jitter; from the system, or from the seed once set (virtual clocks start with seed 1). */
void cp_loop_seed(cp_loop *loop, uint64_t seed);
uint64_t cp_loop_random(cp_loop *loop);
