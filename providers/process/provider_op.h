/* providers/process/provider_op.h -- What the files of an operation share.
 *   provider_op.c       begin, drive, end; helpers     provider_stop.c    stop what must not run, sweep what is left
 *   provider_make.c     working copies; start          provider_remove.c  remove an instance, and volumes
 * A step returns false when it waits for something that will call cp_op_advance. */
#pragma once
#include "process.h"

typedef enum {
    STEP_STOP,
    STEP_SWEEP,
    STEP_MAKE,
    STEP_FINISH_MAKE,
    STEP_START,
    STEP_REMOVE,
    STEP_VOLUMES,
    STEP_DONE
} step;

typedef struct cp_stop { /* one shim that was asked to stop, or will be */
    cp_provider_op *op;
    char *service;
    int fd; /* its socket: at its end the shim is gone; -1: not reached yet */
    struct event *event;
    int64_t deadline; /* loop mono ms */
} cp_stop;

struct cp_provider_op {
    cp_handle handle; /* first */
    cp_process *process;
    cp_proc *proc; /* NULL: there is none (any more) */
    cp_op_kind kind;
    char *workload_id, *workload_slug;
    bool remove_volumes;
    step step;
    size_t index; /* of the service that is being made */
    char *stage;  /* the folder in which the working copies grow */
    cp_vec stops, jobs;
    cp_timer *timer;
    int64_t retry_at; /* loop mono ms: when the timer is due */
    cp_error failed;
    cp_provider_done *done;
    void *userdata;
};

void cp_op_advance(void *op);
bool cp_op_fail(cp_provider_op *op); /* op->failed is filled: it ends; true */
/* Starts a helper that the operation waits for; what (taken) names it in messages. shim: it answers "ok". Fills
 * op->failed. */
int cp_op_job(cp_provider_op *op, const char *const *argv, bool shim, char *what);
int cp_op_shim(cp_provider_op *op, const char *mode, const char *service);
void cp_op_discard(cp_process *process, const char *path); /* removes in the background what nothing needs any more */
void cp_op_retry(cp_provider_op *op, int64_t ms); /* looks again after ms, or sooner when somebody else asked */
const cp_service *cp_op_service(const cp_proc *proc, size_t index);
/* Every service that has, or had, a shim here, also of an earlier release; those of the record last, in their order. */
void cp_op_names(const cp_proc *proc, cp_strings *ret);
bool cp_op_brings_up(cp_op_kind kind);

/* The steps. */
bool cp_op_make(cp_provider_op *op);
bool cp_op_stop(cp_provider_op *op);
void cp_op_free_stop(cp_stop *stop);
bool cp_op_sweep(cp_provider_op *op);
bool cp_op_finish_make(cp_provider_op *op);
bool cp_op_start(cp_provider_op *op);
bool cp_op_remove(cp_provider_op *op);
bool cp_op_volumes(cp_provider_op *op);
