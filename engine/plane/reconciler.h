/* engine/plane/reconciler.h -- What reconcile.c, operate.c and observe.c share. */
#pragma once
#include "plane/internal.h"

/* One provider as the plane uses it. */
typedef struct cp_runtime {
    cp_plane *plane;
    cp_provider *provider;
    size_t in_flight;
    cp_wl *ring_head[2], *ring_tail[2]; /* workloads with queued instances: [0] to stop, [1] to start */
    bool listing, list_again, listed;   /* list() is under way; is to be asked again; has answered once */
    bool down;                          /* list() found nobody: nothing is started until somebody answers */
    int64_t outages;                    /* lists in a row that found nobody */
    char *message;                      /* why it is down */
    uint64_t list_operations;           /* the count of operations when list() was asked */
    cp_timer *resync;
    cp_table *orphans; /* what was reported */
} cp_runtime;

struct cp_reconciler {
    cp_plane *plane;
    cp_runtime *runtimes;
    size_t count;
    uint64_t operations; /* begun and ended */
    bool drain_queued;
    cp_vec looks; /* observe.c: questions under way */
};

cp_runtime *cp_runtime_of(cp_plane *plane, const cp_inst *inst);
void cp_operate_soon(cp_plane *plane);
void cp_operate_reached(cp_inst *inst);                      /* it is where it should be: no retries, no back-off */
void cp_observe_doubt(cp_plane *plane, cp_runtime *runtime); /* an operation found nobody: is the provider there? */
void cp_observe_forget(cp_plane *plane, cp_inst *inst);
