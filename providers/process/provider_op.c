/* providers/process/provider_op.c -- The operations. Each is a goal that is brought about step by step from whatever is
 * there: make the working copies, stop what must not run, sweep what a killed shim left, start what is missing. So an
 * operation that was cut short, or is asked again, goes on or has nothing to do. Nothing here waits. */
#include "provider_op.h"
#include "base/failpoint.h"
#include "model/model.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- services by name ---- */

const cp_service *cp_op_service(const cp_proc *proc, size_t index) {
    return CP_LIST_AT(&proc->record.services, cp_service, index);
}

void cp_op_names(const cp_proc *proc, cp_strings *ret) {
    DIR *dir = opendir(proc->dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char *dot = strrchr(e->d_name, '.');
        if (!dot || dot == e->d_name || strcmp(dot, ".lock") != 0)
            continue;
        *dot = '\0';
        if (!cp_services_find(&proc->record.services, e->d_name))
            cp_strings_add(ret, e->d_name);
    }
    if (dir)
        closedir(dir);
    for (size_t i = 0; i < proc->record.services.count; i++)
        cp_strings_add(ret, cp_op_service(proc, i)->name);
}

bool cp_op_brings_up(cp_op_kind kind) {
    return kind == CP_OP_PROVISION || kind == CP_OP_START || kind == CP_OP_RESTART || kind == CP_OP_UPDATE;
}

/* ---- the end ---- */

typedef struct job { /* a helper that this operation waits for */
    cp_provider_op *op;
    cp_child *child;
    char *what; /* for the message: "service app", "copying ..." */
    bool shim;  /* answers "ok" */
} job;

static void free_job(job *j) {
    cp_vec_drop(&j->op->jobs, j);
    free(j->what);
    free(j);
}

static void free_op(cp_provider_op *op) {
    cp_loop_forget(op->process->base.loop, op);
    while (op->stops.count)
        cp_op_free_stop(op->stops.items[op->stops.count - 1]);
    while (op->jobs.count) { /* a shim that was started stays: it is found again */
        job *j = op->jobs.items[op->jobs.count - 1];
        cp_child_abandon(j->child, false);
        free_job(j);
    }
    cp_vec_clear(&op->stops);
    cp_vec_clear(&op->jobs);
    cp_timer_free(op->timer);
    if (op->proc && op->proc->op == op)
        op->proc->op = NULL;
    free(op->workload_id);
    free(op->workload_slug);
    cp_error_clear(&op->failed);
    free(op->stage);
    free(op);
}

static void finish(cp_provider_op *op) {
    cp_provider_done *done = op->done;
    void *userdata = op->userdata;
    cp_autoerror cp_error failed = {0};
    cp_error_move(&failed, &op->failed);
    free_op(op);
    done(userdata, failed.code ? &failed : NULL);
}

bool cp_op_fail(cp_provider_op *op) { /* op->failed is filled */
    op->step = STEP_DONE;
    return true;
}

/* ---- helpers ---- */

static void on_job(void *userdata, const cp_child_result *result) {
    job *j = userdata;
    cp_provider_op *op = j->op;
    bool ok = j->shim ? strncmp(result->output, "ok", 2) == 0
                      : result->status == 0 || (result->status == -1 && result->len == 0);
    int code = cp_fs_passes(result->output) ? CP_E_PROVIDER_UNAVAILABLE : CP_E_PROVIDER_FAILED;
    if (!ok && !op->failed.code)
        cp_fail(&op->failed, code, "%s: %.*s", j->what, result->len ? (int)strcspn(result->output, "\n") : 100,
                result->len ? result->output : "its helper ended without a word");
    free_job(j);
    cp_op_advance(op);
}

int cp_op_job(cp_provider_op *op, const char *const *argv, bool shim, char *what) {
    job *j = cp_new0(job);
    *j = (job){.op = op, .what = what, .shim = shim};
    int r = cp_child_start(op->process, argv, false, on_job, j, &j->child, &op->failed);
    if (r < 0) {
        if (shim) /* a host without its shim is an outage, no fault of a release */
            op->failed.code = CP_E_PROVIDER_UNAVAILABLE;
        free_job(j);
        return r;
    }
    cp_vec_push(&op->jobs, j);
    return 0;
}

int cp_op_shim(cp_provider_op *op, const char *mode, const char *service) {
    const char *argv[] = {op->process->shim, mode, op->proc->dir, service, NULL};
    return cp_op_job(op, argv, true, cp_printf("service %s", service));
}

static void on_ignored(void *userdata, const cp_child_result *result) {
    (void)userdata;
    (void)result;
}

void cp_op_discard(cp_process *process, const char *path) {
    const char *argv[] = {"rm", "-rf", "--", path, NULL};
    cp_child *child;
    cp_child_start(process, argv, false, on_ignored, NULL, &child, NULL); /* what stays goes with the instance */
}

void cp_op_retry(cp_provider_op *op, int64_t ms) {
    int64_t at = cp_loop_mono(op->process->base.loop) + ms;
    if (cp_timer_armed(op->timer) && op->retry_at <= at)
        return;
    op->retry_at = at;
    cp_timer_start(op->timer, ms);
}

/* ---- driving ---- */

static bool after_sweep(cp_provider_op *op) {
    if (op->kind == CP_OP_DEPROVISION) {
        op->step = STEP_REMOVE;
    } else if (op->kind == CP_OP_STOP) {
        op->step = STEP_DONE;
    } else {
        op->step = op->stage ? STEP_FINISH_MAKE : STEP_START;
    }
    return true;
}

void cp_op_advance(void *userdata) {
    cp_provider_op *op = userdata;
    bool more = true;
    while (more) {
        switch (op->step) {
        case STEP_STOP:
            more = cp_op_stop(op);
            if (more)
                op->step = STEP_SWEEP;
            break;
        case STEP_SWEEP:
            more = cp_op_sweep(op);
            if (more && op->step == STEP_SWEEP)
                more = after_sweep(op);
            break;
        case STEP_MAKE:
            more = cp_op_make(op);
            break;
        case STEP_FINISH_MAKE:
            more = cp_op_finish_make(op);
            break;
        case STEP_START:
            more = cp_op_start(op);
            break;
        case STEP_REMOVE:
            more = cp_op_remove(op);
            break;
        case STEP_VOLUMES:
            more = cp_op_volumes(op);
            break;
        case STEP_DONE:
            if (op->jobs.count)
                return; /* the shims have still to say that they run */
            finish(op);
            return;
        }
    }
}

static int begin_up(cp_process *process, cp_proc **ret, const cp_runtime_spec *spec, cp_error *err) {
    cp_proc *proc = *ret;
    bool fresh = !proc;
    if (fresh) {
        cp_record record = {.wanted = CP_WANTED_STOPPED}; /* nothing runs yet */
        cp_record_fill(&record, spec);
        proc = cp_proc_add(process, &record);
        int r = cp_fs_mkdir(proc->dir, 0755, err);
        if (r == 0)
            r = cp_record_ports(process, proc, spec->services, err);
        if (r == 0)
            r = cp_record_save(proc, err); /* before anything runs: a crash leaves nothing that is not found again */
        if (r < 0) {
            cp_autofree char *dir = cp_strdup(proc->dir);
            cp_proc_drop(proc);
            rmdir(dir);
            return r;
        }
        cp_proc_watch(proc, false);
        *ret = proc;
        return 0;
    }
    if (proc->record.wanted == CP_WANTED_DESTROYED)
        cp_set_string(&proc->record.made, NULL); /* who knows what is left of it */
    int r = cp_record_ports(process, proc, spec->services, err);
    if (r < 0)
        return r;
    if (proc->record.wanted == CP_WANTED_DESTROYED)
        proc->record.wanted = CP_WANTED_STOPPED;
    cp_record_fill(&proc->record, spec);
    return cp_record_save(proc, err);
}

int cp_process_operate(cp_provider *provider, cp_op_kind kind, const cp_runtime_spec *spec, cp_provider_done *done,
                       void *userdata, cp_provider_op **ret, cp_error *err) {
    cp_process *process = (cp_process *)provider;
    if (cp_is_empty(spec->instance_id) ||
        spec->instance_id[strspn(spec->instance_id, "abcdefghijklmnopqrstuvwxyz0123456789_-")])
        return cp_fail(err, CP_E_INVALID, "the instance id is '%s'; it must be a TypeID",
                       spec->instance_id ? spec->instance_id : "");
    cp_proc *proc = cp_table_get(process->instances, spec->instance_id);
    if (proc && proc->op)
        return cp_fail(err, CP_E_CONFLICT, "an operation on instance %s is under way", spec->instance_id);
    if (cp_failpoint("process_operate"))
        return cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_operate");
    if (cp_op_brings_up(kind)) {
        int r = begin_up(process, &proc, spec, err);
        if (r < 0)
            return r;
    } else if (proc) {
        proc->record.wanted = kind == CP_OP_DEPROVISION ? CP_WANTED_DESTROYED : CP_WANTED_STOPPED;
        if (spec->generation > proc->record.generation)
            proc->record.generation = spec->generation;
        int r = cp_record_save(proc, err);
        if (r < 0 && kind == CP_OP_STOP)
            return r;
        cp_error_clear(err); /* a full disk must not keep what is on it */
    }
    cp_provider_op *op = cp_new0(cp_provider_op);
    *op = (cp_provider_op){.handle = CP_HANDLE_OPERATION,
                           .process = process,
                           .proc = proc,
                           .kind = kind,
                           .workload_id = cp_strdup(spec->workload_id),
                           .workload_slug = cp_strdup(spec->workload_slug),
                           .remove_volumes = spec->remove_volumes,
                           .step = proc && cp_op_brings_up(kind) ? STEP_MAKE
                                   : proc                        ? STEP_STOP
                                   : kind == CP_OP_DEPROVISION   ? STEP_VOLUMES
                                                                 : STEP_DONE,
                           .done = done,
                           .userdata = userdata};
    op->timer = cp_timer_new(process->base.loop, cp_op_advance, op);
    if (proc)
        proc->op = op;
    cp_loop_defer(process->base.loop, cp_op_advance, op);
    *ret = op;
    return 0;
}

void cp_process_cancel(cp_provider *provider, cp_provider_op *op) {
    (void)provider;
    if (op->handle == CP_HANDLE_EXEC)
        cp_exec_cancel(op);
    else if (op->handle == CP_HANDLE_PREPARE)
        cp_prepare_cancel(op);
    else
        free_op(op);
}
