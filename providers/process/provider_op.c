/* providers/process/provider_op.c -- The operations. Each is a goal that is brought about step by step from whatever is
 * there: stop what must not run, sweep what a killed shim left, make the working copies, start what is missing. So an
 * operation that was cut short, or is asked again, goes on or has nothing to do. Nothing here waits. */
#include "base/failpoint.h"
#include "model/model.h"
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    RETRY = 20,      /* ms until a shim that is just starting or ending is looked at again */
    PATIENCE = 5000, /* ms beyond the stop timeout, or without a socket, after which a shim counts as hung */
};

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

typedef struct stop { /* one shim that was asked to stop, or will be */
    cp_provider_op *op;
    char *service;
    int fd; /* its socket: at its end the shim is gone; -1: not reached yet */
    struct event *event;
    int64_t deadline; /* loop mono ms */
} stop;

struct cp_provider_op {
    cp_handle handle; /* first */
    cp_process *process;
    cp_proc *proc; /* NULL: there is none (any more) */
    cp_op_kind kind;
    cp_record wanted; /* what was asked for */
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

static void advance(void *userdata);

/* ---- services by name ---- */

static const cp_service *service_at(const cp_proc *proc, size_t index) {
    return CP_LIST_AT(&proc->record.services, cp_service, index);
}

/* Every service that has, or had, a shim here, also of an earlier release; those of the record last and in their order.
 */
static void service_names(const cp_proc *proc, cp_strings *ret) {
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
        cp_strings_add(ret, service_at(proc, i)->name);
}

static bool brings_up(cp_op_kind kind) {
    return kind == CP_OP_PROVISION || kind == CP_OP_START || kind == CP_OP_RESTART || kind == CP_OP_UPDATE;
}

/* ---- the end ---- */

static void free_stop(stop *s) {
    cp_vec_drop(&s->op->stops, s);
    if (s->event)
        event_free(s->event);
    if (s->fd >= 0)
        close(s->fd);
    free(s->service);
    free(s);
}

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
        free_stop(op->stops.items[op->stops.count - 1]);
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
    cp_desc_clear(&cp_record_desc, &op->wanted);
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

static bool fail(cp_provider_op *op) { /* op->failed is filled */
    op->step = STEP_DONE;
    return true;
}

/* ---- helpers ---- */

static void on_job(void *userdata, const cp_child_result *result) {
    job *j = userdata;
    cp_provider_op *op = j->op;
    bool ok = j->shim ? strncmp(result->output, "ok", 2) == 0
                      : result->status == 0 || (result->status == -1 && result->len == 0);
    if (!ok && !op->failed.code)
        cp_fail(&op->failed, CP_E_PROVIDER_FAILED, "%s: %.*s", j->what,
                result->len ? (int)strcspn(result->output, "\n") : 100,
                result->len ? result->output : "its helper ended without a word");
    free_job(j);
    advance(op);
}

static int start_job(cp_provider_op *op, const char *const *argv, bool shim, char *what) {
    job *j = cp_new0(job);
    *j = (job){.op = op, .what = what, .shim = shim};
    int r = cp_child_start(op->process, argv, false, on_job, j, &j->child, &op->failed);
    if (r < 0) {
        if (shim)
            op->failed.code =
                CP_E_PROVIDER_UNAVAILABLE; /* a host without its shim is an outage, no fault of a release */
        free_job(j);
        return r;
    }
    cp_vec_push(&op->jobs, j);
    return 0;
}

static int start_shim(cp_provider_op *op, const char *mode, const char *service) {
    const char *argv[] = {op->process->shim, mode, op->proc->dir, service, NULL};
    return start_job(op, argv, true, cp_printf("service %s", service));
}

static void on_ignored(void *userdata, const cp_child_result *result) {
    (void)userdata;
    (void)result;
}

/* Removes in the background what nothing needs any more. */
static void discard(cp_process *process, const char *path) {
    const char *argv[] = {"rm", "-rf", "--", path, NULL};
    cp_child *child;
    cp_child_start(process, argv, false, on_ignored, NULL, &child, NULL); /* what stays goes with the instance */
}

/* The working copies of the release before, and what engines that were killed had begun. */
static void discard_stages(const cp_proc *proc) {
    DIR *dir = opendir(proc->dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        cp_autofree char *path = cp_printf("%s/%s", proc->dir, e->d_name);
        if (strncmp(e->d_name, "stage-", 6) == 0)
            discard(proc->process, path);
    }
    if (dir)
        closedir(dir);
}

/* Looks again after ms, or sooner when somebody else asked for that. */
static void retry_soon(cp_provider_op *op, int64_t ms) {
    int64_t at = cp_loop_mono(op->process->base.loop) + ms;
    if (cp_timer_armed(op->timer) && op->retry_at <= at)
        return;
    op->retry_at = at;
    cp_timer_start(op->timer, ms);
}

/* ---- stop ---- */

static void on_stopped(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    stop *s = userdata;
    char text[2048];
    ssize_t n = read(fd, text, sizeof text);
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return; /* its state: it has heard */
    cp_provider_op *op = s->op;
    free_stop(s);
    advance(op);
}

/* A shim that does not answer: it is ended by force, and what it held is swept. The pid is the shim's as long as the
 * lock is held; it is looked at again once the process is held by a descriptor. */
static void kill_shim(cp_provider_op *op, const char *service) {
    cp_look look;
    cp_look_service(op->proc, service, &look);
    if (!look.alive || look.shim <= 1)
        return;
    int fd = (int)syscall(SYS_pidfd_open, look.shim, 0);
    cp_autofree char *lock = cp_printf("%s/%s.lock", op->proc->dir, service);
    if (fd >= 0 && cp_fs_locked(lock))
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    if (fd >= 0)
        close(fd);
}

static stop *find_stop(const cp_provider_op *op, const char *service) {
    for (size_t i = 0; i < op->stops.count; i++)
        if (strcmp(((stop *)op->stops.items[i])->service, service) == 0)
            return op->stops.items[i];
    return NULL;
}

static void ask_to_stop(cp_provider_op *op, const char *service) {
    stop *s = find_stop(op, service);
    const int64_t now = cp_loop_mono(op->process->base.loop);
    if (!s) {
        const cp_service *spec = cp_services_find(&op->proc->record.services, service);
        s = cp_new0(stop);
        *s = (stop){.op = op, .service = cp_strdup(service), .fd = -1};
        s->deadline = now + PATIENCE + (spec ? spec->stop_timeout : 10000);
        cp_vec_push(&op->stops, s);
    }
    if (now >= s->deadline) {
        kill_shim(op, service);
        retry_soon(op, RETRY);
    } else if (s->fd < 0) {
        cp_autofree char *name = cp_printf("%s.sock", service);
        s->fd = cp_fs_connect(op->proc->dir, name);
        if (s->fd >= 0 && send(s->fd, "stop\n", 5, MSG_NOSIGNAL) == 5) {
            s->event = event_new(cp_loop_base(op->process->base.loop), s->fd, EV_READ | EV_PERSIST, on_stopped, s);
            event_add(s->event, NULL);
        } else if (s->fd >= 0) {
            close(s->fd);
            s->fd = -1;
        }
        retry_soon(op, s->fd < 0 ? RETRY : s->deadline - now);
    } else {
        retry_soon(op, s->deadline - now);
    }
}

/* Does something that has to stop depend on this service? Then that stops first. */
static bool needed(const cp_proc *proc, const char *service, const cp_strings *stopping) {
    for (size_t i = 0; i < stopping->count; i++) {
        const cp_service *other = cp_services_find(&proc->record.services, stopping->items[i]);
        for (size_t d = 0; other && d < other->depends_on.count; d++)
            if (strcmp(other->depends_on.items[d], service) == 0)
                return true;
    }
    return false;
}

/* True when everything that must not run is gone. */
static bool step_stop(cp_provider_op *op) {
    cp_strings names = {0}, stopping = {0};
    bool wait = false;
    service_names(op->proc, &names);
    for (size_t i = 0; i < names.count; i++) {
        cp_look look;
        cp_look_service(op->proc, names.items[i], &look);
        bool ours = brings_up(op->kind) && cp_services_find(&op->proc->record.services, names.items[i]);
        if (look.alive && ours && !look.known)
            wait = true; /* it has only just begun */
        else if (look.alive && !(ours && look.generation == op->proc->record.generation))
            cp_strings_add(&stopping, names.items[i]);
    }
    for (size_t i = 0; i < stopping.count; i++)
        if (!needed(op->proc, stopping.items[i], &stopping))
            ask_to_stop(op, stopping.items[i]);
    bool busy = wait || stopping.count;
    if (busy)
        retry_soon(op, wait ? RETRY : 1000);
    cp_strings_clear(&names);
    cp_strings_clear(&stopping);
    return !busy;
}

/* ---- sweep ---- */

/* What a killed shim left is ended before anything else is done; `run` does it by itself for what it starts again. */
static bool step_sweep(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->failed.code)
        return fail(op);
    cp_strings names = {0};
    service_names(op->proc, &names);
    int r = 0;
    for (size_t i = 0; i < names.count && r == 0; i++) {
        cp_look look;
        cp_look_service(op->proc, names.items[i], &look);
        bool again = brings_up(op->kind) && cp_services_find(&op->proc->record.services, names.items[i]);
        if (!look.alive && look.known && !cp_look_final(&look) && !again)
            r = start_shim(op, "sweep", names.items[i]);
    }
    cp_strings_clear(&names);
    if (r < 0)
        return fail(op);
    return op->jobs.count == 0;
}

/* ---- make ---- */

/* Copies the image of one service into the stage; false while a helper does it. */
static bool make_service(cp_provider_op *op, const cp_service *service) {
    cp_autofree char *to = cp_printf("%s/%s", op->stage, service->name), *image = NULL, *name = NULL;
    bool folder = false;
    cp_user user = {0};
    if (cp_image_find(op->process, service->image, &image, &folder, &name, &op->failed) < 0 ||
        cp_fs_mkdir(to, 0755, &op->failed) < 0)
        return fail(op);
    if (!image)
        return true;
    if (!folder) { /* the same file for all instances: it is not writable, and replacing it does not change the store */
        cp_autofree char *file = cp_printf("%s/%s", to, name);
        if (link(image, file) == 0)
            return true;
        const char *argv[] = {"cp", "--reflink=auto", "-p", "--", image, file, NULL};
        if (start_job(op, argv, false, cp_printf("copying the image of service %s", service->name)) < 0)
            return fail(op);
        return false;
    }
    if (cp_user_find(service->user, &user, &op->failed) < 0)
        return fail(op);
    cp_autofree char *owner = cp_printf("%u:%u", user.uid, user.gid);
    free(user.name);
    free(user.home);
    const char *script = geteuid() == 0 ? "cp -a --reflink=auto -- \"$1/.\" \"$2\" && chown -hR \"$3\" -- \"$2\""
                                        : "cp -a --reflink=auto -- \"$1/.\" \"$2\"";
    const char *argv[] = {"sh", "-c", script, "sh", image, to, owner, NULL};
    if (start_job(op, argv, false, cp_printf("copying the image of service %s", service->name)) < 0)
        return fail(op);
    return false;
}

static bool step_make(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->failed.code)
        return fail(op);
    if (cp_streq(op->proc->record.made, op->proc->record.release_id)) {
        op->step = STEP_START;
        return true;
    }
    if (!op->stage) {
        /* A name of its own: a helper of an engine that was killed may still be writing into its own. */
        op->stage = cp_printf("%s/stage-%016" PRIx64, op->proc->dir, cp_loop_random(op->process->base.loop));
        if (cp_fs_mkdir(op->stage, 0755, &op->failed) < 0)
            return fail(op);
    }
    while (op->index < op->proc->record.services.count)
        if (!make_service(op, service_at(op->proc, op->index++)))
            return false;
        else if (op->step == STEP_DONE)
            return true;
    op->step = STEP_FINISH_MAKE;
    return true;
}

static bool step_finish_make(cp_provider_op *op) {
    cp_proc *proc = op->proc;
    for (size_t i = 0; i < proc->record.services.count; i++) {
        cp_autofree char *dir = cp_printf("%s/%s", op->stage, service_at(proc, i)->name);
        if (cp_run_files(proc, service_at(proc, i), dir, &op->failed) < 0)
            return fail(op);
    }
    cp_autofree char *work = cp_printf("%s/work", proc->dir), *old = cp_printf("%s.old", op->stage);
    if ((rename(work, old) < 0 && errno != ENOENT) || rename(op->stage, work) < 0) {
        cp_fs_fail(&op->failed, CP_E_PROVIDER_FAILED, "cannot make", work);
        return fail(op);
    }
    discard_stages(proc);
    cp_set_string(&proc->record.made, proc->record.release_id); /* saved by the next step, which follows at once */
    if (cp_failpoint("process_made")) {
        cp_fail(&op->failed, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_made");
        return fail(op);
    }
    op->step = STEP_START;
    return true;
}

/* ---- start ---- */

static void remove_file(const cp_proc *proc, const char *service, const char *suffix) {
    cp_autofree char *path = cp_printf("%s/%s.%s", proc->dir, service, suffix);
    unlink(path);
}

/* After a stop or a reboot everything is started anew, inits included. */
static void forget_states(cp_proc *proc) {
    cp_strings names = {0};
    service_names(proc, &names);
    for (size_t i = 0; i < names.count; i++) {
        cp_look look;
        cp_look_service(proc, names.items[i], &look);
        if (!look.alive && (!look.known || cp_look_final(&look)))
            remove_file(proc, names.items[i], "state");
        if (!look.alive && !cp_services_find(&proc->record.services, names.items[i]))
            for (size_t s = 0; s < 4; s++) /* of an earlier release; its log stays */
                remove_file(proc, names.items[i], (const char *[]){"run", "lock", "sock", "state"}[s]);
    }
    cp_strings_clear(&names);
}

static bool may_stay(const cp_proc *proc, const char *service) {
    cp_look look;
    cp_look_service(proc, service, &look);
    return look.alive || (look.known && strcmp(look.word, "exited") == 0 && look.generation == proc->record.generation);
}

static bool step_start(cp_provider_op *op) {
    cp_proc *proc = op->proc;
    size_t count = proc->record.services.count, missing = 0;
    if (proc->record.wanted != CP_WANTED_RUNNING || !cp_streq(proc->record.boot_id, op->process->boot_id))
        forget_states(proc);
    for (size_t i = 0; i < count; i++)
        missing += !may_stay(proc, service_at(proc, i)->name);
    cp_autofree size_t *order = cp_alloc0((count + 1) * sizeof *order);
    cp_services_order(&proc->record.services, order);
    const char *init = NULL; /* each init waits for the one before it, everything else for the last */
    if (missing)
        cp_set_string(&proc->record.warning, NULL);
    for (size_t i = 0; missing && i < count; i++) {
        const cp_service *service = service_at(proc, order[i]);
        if (cp_run_write(proc, service, init, &op->failed) < 0)
            return fail(op);
        if (service->role == CP_ROLE_INIT)
            init = service->name;
    }
    proc->record.wanted = CP_WANTED_RUNNING;
    cp_set_string(&proc->record.boot_id, op->process->boot_id);
    if (cp_record_save(proc, &op->failed) < 0)
        return fail(op);
    for (size_t i = 0; i < count; i++)
        if (!may_stay(proc, service_at(proc, order[i])->name) &&
            start_shim(op, "run", service_at(proc, order[i])->name) < 0)
            return fail(op);
    op->step = STEP_DONE;
    return true;
}

/* ---- remove ---- */

/* The logs of a destroyed instance stay for an hour. */
static void keep_logs(const cp_proc *proc) {
    cp_autofree char *gone = cp_printf("%s/gone/%s", proc->process->data_dir, proc->record.instance_id);
    if (cp_fs_mkdir(gone, 0755, NULL) < 0)
        return;
    DIR *dir = opendir(proc->dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strstr(e->d_name, ".log") || e->d_name[0] == '.')
            continue;
        cp_autofree char *from = cp_printf("%s/%s", proc->dir, e->d_name), *to = cp_printf("%s/%s", gone, e->d_name);
        (void)!rename(from, to);
    }
    if (dir)
        closedir(dir);
}

/* Each shim removes its groups; those of one that was killed are still there. */
static void remove_groups(const cp_proc *proc) {
    const cp_groups *g = &proc->process->groups;
    const char *roots[] = {g->unified, g->cpu, g->memory};
    cp_strings names = {0};
    service_names(proc, &names);
    for (size_t i = 0; i < names.count; i++)
        for (size_t r = 0; r < CP_COUNT(roots); r++) {
            cp_autofree char *group =
                roots[r] ? cp_printf("%s/%s-%s", roots[r], proc->record.instance_id, names.items[i]) : NULL;
            if (group)
                rmdir(group);
        }
    cp_strings_clear(&names);
}

static bool step_remove(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (!op->stage) { /* once: the name says that the helper was started */
        if (cp_failpoint("process_remove")) {
            cp_fail(&op->failed, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_remove");
            return fail(op);
        }
        keep_logs(op->proc);
        remove_groups(op->proc);
        op->stage = cp_strdup(op->proc->dir);
        const char *argv[] = {"rm", "-rf", "--", op->stage, NULL};
        return start_job(op, argv, false, cp_printf("removing instance %s", op->proc->record.name)) < 0 && fail(op);
    }
    if (op->failed.code || access(op->stage, F_OK) == 0) {
        if (!op->failed.code)
            cp_fail(&op->failed, CP_E_PROVIDER_FAILED, "%s cannot be removed", op->stage);
        return fail(op);
    }
    cp_proc *proc = op->proc;
    op->proc = NULL;
    cp_process_logs_wake(op->process, proc->record.instance_id, true);
    cp_proc_drop(proc);
    cp_set_string(&op->stage, NULL);
    op->step = STEP_VOLUMES;
    return true;
}

static bool step_volumes(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->stage || op->failed.code || !op->remove_volumes || cp_is_empty(op->wanted.workload_id)) {
        if (!op->failed.code && op->stage && access(op->stage, F_OK) == 0)
            cp_fail(&op->failed, CP_E_PROVIDER_FAILED, "the volumes in %s cannot be removed", op->stage);
        op->step = STEP_DONE;
        return true;
    }
    op->stage = cp_printf("%s/volumes/%s", op->process->data_dir, op->wanted.workload_id);
    size_t cursor = 0;
    for (void *proc; cp_table_next(op->process->instances, &cursor, NULL, &proc);)
        if (cp_streq(((cp_proc *)proc)->record.workload_id, op->wanted.workload_id)) {
            op->step = STEP_DONE; /* the last instance of the workload takes them with it */
            return true;
        }
    const char *argv[] = {"rm", "-rf", "--", op->stage, NULL};
    return start_job(op, argv, false, cp_printf("removing the volumes of %s", op->wanted.workload_slug)) < 0 &&
           fail(op);
}

/* ---- driving ---- */

static bool after_sweep(cp_provider_op *op) {
    if (op->kind == CP_OP_DEPROVISION) {
        op->step = STEP_REMOVE;
    } else if (op->kind == CP_OP_STOP) {
        op->proc->record.wanted = CP_WANTED_STOPPED;
        cp_record_save(op->proc, &op->failed); /* not saved: failed, and asked again */
        op->step = STEP_DONE;
    } else {
        op->step = STEP_MAKE;
    }
    return true;
}

static void advance(void *userdata) {
    cp_provider_op *op = userdata;
    bool more = true;
    while (more) {
        switch (op->step) {
        case STEP_STOP:
            more = step_stop(op);
            if (more)
                op->step = STEP_SWEEP;
            break;
        case STEP_SWEEP:
            more = step_sweep(op);
            if (more && op->step == STEP_SWEEP)
                more = after_sweep(op);
            break;
        case STEP_MAKE:
            more = step_make(op);
            break;
        case STEP_FINISH_MAKE:
            more = step_finish_make(op);
            break;
        case STEP_START:
            more = step_start(op);
            break;
        case STEP_REMOVE:
            more = step_remove(op);
            break;
        case STEP_VOLUMES:
            more = step_volumes(op);
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
    if (brings_up(kind)) {
        int r = begin_up(process, &proc, spec, err);
        if (r < 0)
            return r;
    } else if (proc) {
        proc->record.wanted = kind == CP_OP_DEPROVISION ? CP_WANTED_DESTROYED : proc->record.wanted;
        proc->record.generation =
            spec->generation > proc->record.generation ? spec->generation : proc->record.generation;
        if (kind == CP_OP_STOP)
            proc->record.wanted = CP_WANTED_STOPPED;
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
                           .remove_volumes = spec->remove_volumes,
                           .step = proc                        ? STEP_STOP
                                   : kind == CP_OP_DEPROVISION ? STEP_VOLUMES
                                                               : STEP_DONE,
                           .done = done,
                           .userdata = userdata};
    cp_set_string(&op->wanted.workload_id, spec->workload_id);
    cp_set_string(&op->wanted.workload_slug, spec->workload_slug);
    op->timer = cp_timer_new(process->base.loop, advance, op);
    if (proc)
        proc->op = op;
    cp_loop_defer(process->base.loop, advance, op);
    *ret = op;
    return 0;
}

void cp_process_cancel(cp_provider *provider, cp_provider_op *op) {
    (void)provider;
    if (op->handle == CP_HANDLE_EXEC)
        cp_exec_cancel(op);
    else
        free_op(op);
}
