/* engine/base/timer.c -- One-shot timers in a binary heap by (watched time, order of arming).
 * A task may free, stop or arm any timer, also its own: it is out of the heap before its task runs. */
#include "base/loop_internal.h"

#include <assert.h>
#include <stdlib.h>

static cp_timer *item(const cp_loop *loop, size_t index) {
    return loop->heap.items[index];
}

static bool before(const cp_timer *a, const cp_timer *b) {
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void place(cp_loop *loop, cp_timer *timer, size_t index) {
    loop->heap.items[index] = timer;
    timer->index = index;
}

static void sift_up(cp_loop *loop, cp_timer *timer, size_t index) {
    while (index > 0 && before(timer, item(loop, (index - 1) / 2))) {
        place(loop, item(loop, (index - 1) / 2), index);
        index = (index - 1) / 2;
    }
    place(loop, timer, index);
}

static void sift_down(cp_loop *loop, cp_timer *timer, size_t index) {
    for (;;) {
        size_t child = 2 * index + 1;
        if (child + 1 < loop->heap.count && before(item(loop, child + 1), item(loop, child)))
            child++;
        if (child >= loop->heap.count || !before(item(loop, child), timer))
            break;
        place(loop, item(loop, child), index);
        index = child;
    }
    place(loop, timer, index);
}

cp_timer *cp_timer_new(cp_loop *loop, cp_task *run, void *userdata) {
    cp_timer *timer = cp_new0(cp_timer);
    *timer = (cp_timer){.loop = loop, .run = run, .userdata = userdata};
    return timer;
}

static void take_out(cp_timer *timer) {
    cp_loop *loop = timer->loop;
    size_t index = timer->index;
    cp_timer *last = item(loop, --loop->heap.count);
    timer->armed = false;
    if (last == timer)
        return;
    if (index > 0 && before(last, item(loop, (index - 1) / 2)))
        sift_up(loop, last, index);
    else
        sift_down(loop, last, index);
}

void cp_timer_start(cp_timer *timer, int64_t ms) {
    cp_loop *loop = timer->loop;
    assert(loop); /* armed after its loop was freed */
    if (timer->armed)
        take_out(timer);
    int64_t now = cp_loop_watched(loop);
    timer->at = ms <= 0 ? now : ms > INT64_MAX - now ? INT64_MAX : now + ms;
    timer->order = ++loop->armed;
    timer->armed = true;
    cp_vec_push(&loop->heap, timer);
    sift_up(loop, timer, loop->heap.count - 1);
    if (timer->index == 0)
        cp_loop_alarm(loop);
}

void cp_timer_stop(cp_timer *timer) {
    if (timer->armed)
        take_out(timer);
}

bool cp_timer_armed(const cp_timer *timer) {
    return timer->armed;
}

void cp_timer_free(cp_timer *timer) {
    if (!timer)
        return;
    cp_timer_stop(timer);
    free(timer);
}

int64_t cp_loop_next_timer(const cp_loop *loop) {
    if (loop->heap.count == 0)
        return -1;
    int64_t left = item(loop, 0)->at - cp_loop_watched(loop);
    return left > 0 ? left : 0;
}

int cp_timers_run(cp_loop *loop, int64_t now, uint64_t limit) {
    int done = 0;
    /* What a task arms for this very instant waits for the next turn; being armed later, it is behind the others. */
    while (loop->heap.count && item(loop, 0)->at <= now && item(loop, 0)->order <= limit) {
        cp_timer *timer = item(loop, 0);
        take_out(timer);
        done++;
        timer->run(timer->userdata);
    }
    return done;
}
