/* engine/base/loop_internal.h -- What loop.c and timer.c share; nobody else includes it. */
#pragma once
#include "base/loop.h"
#include "base/table.h"

#define CP_VIRTUAL_START INT64_C(1767225600000) /* 2026-01-01T00:00:00Z */

typedef struct cp_job {
    cp_task *run, *drop; /* run NULL: forgotten */
    void *userdata;
} cp_job;

typedef struct cp_jobs {
    cp_job *items;
    size_t count, capacity;
} cp_jobs;

struct cp_timer {
    cp_loop *loop; /* NULL once the loop is gone */
    cp_task *run;
    void *userdata;
    int64_t at;     /* watched time */
    uint64_t order; /* of arming */
    size_t index;   /* in the heap, when armed */
    bool armed;
};

struct cp_loop {
    struct event_base *base;
    int epoll, alarm; /* libevent's descriptor; a timerfd in it, so that it is readable when a timer is due */
    int64_t alarm_at; /* what the timerfd is set to: watched time, 0 at once, -1 not at all */
    struct event *alarm_event, *wake_event;
    bool virtual_clock, turning, stopped;
    int woken;      /* how many of our own two events ran in this dispatch */
    int64_t linger; /* virtual clock: real ms that the next turn may wait for I/O */
    cp_loop_hooks hooks;
    cp_jobs effects, deferred, running;
    cp_vec heap;    /* cp_timer *, by (at, order) */
    uint64_t armed; /* counts armings */
    uint64_t random;
    int64_t now;                   /* virtual */
    int64_t mono_last, mono_shift; /* real */
    int64_t watched, checked_at, allowed, stall_max;
};

void cp_loop_alarm(cp_loop *loop); /* sets the timerfd by what is queued and armed, outside of turns */
/* Runs the timers that are due at `now` and were armed before `limit`; returns how many. */
int cp_timers_run(cp_loop *loop, int64_t now, uint64_t limit);
#define cp_autoloop CP_CLEANUP(cp_loop_freep)
