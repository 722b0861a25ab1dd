/* providers/process/provider_stop.c -- Steps of an operation: stop what must not run, in the order of dependence, and
 * sweep what a killed shim left. */
#include "model/model.h"
#include "provider_op.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    RETRY = 20,      /* ms until a shim that is just starting or ending is looked at again */
    PATIENCE = 5000, /* ms beyond the stop timeout, or without a socket, after which a shim counts as hung */
};

/* ---- stop ---- */

void cp_op_free_stop(cp_stop *s) {
    cp_vec_drop(&s->op->stops, s);
    if (s->event)
        event_free(s->event);
    if (s->fd >= 0)
        close(s->fd);
    free(s->service);
    free(s);
}

static void on_stopped(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    cp_stop *s = userdata;
    char text[2048];
    ssize_t n = read(fd, text, sizeof text);
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return; /* its state: it has heard */
    cp_provider_op *op = s->op;
    cp_op_free_stop(s);
    cp_op_advance(op);
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
    if (fd >= 0 && cp_fs_lock_of(lock) == CP_FS_HELD)
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    if (fd >= 0)
        close(fd);
}

static cp_stop *find_stop(const cp_provider_op *op, const char *service) {
    for (size_t i = 0; i < op->stops.count; i++)
        if (strcmp(((cp_stop *)op->stops.items[i])->service, service) == 0)
            return op->stops.items[i];
    return NULL;
}

static void ask_to_stop(cp_provider_op *op, const char *service) {
    cp_stop *s = find_stop(op, service);
    const int64_t now = cp_loop_mono(op->process->base.loop);
    if (!s) {
        const cp_service *spec = cp_services_find(&op->proc->record.services, service);
        s = cp_new0(cp_stop);
        *s = (cp_stop){.op = op, .service = cp_strdup(service), .fd = -1};
        s->deadline = now + PATIENCE + (spec ? spec->stop_timeout : 10000);
        cp_vec_push(&op->stops, s);
    }
    if (now >= s->deadline) {
        kill_shim(op, service);
        cp_op_retry(op, RETRY);
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
        cp_op_retry(op, s->fd < 0 ? RETRY : s->deadline - now);
    } else {
        cp_op_retry(op, s->deadline - now);
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
bool cp_op_stop(cp_provider_op *op) {
    cp_strings names = {0}, stopping = {0};
    bool wait = false;
    cp_op_names(op->proc, &names);
    for (size_t i = 0; i < names.count; i++) {
        cp_look look;
        cp_look_service(op->proc, names.items[i], &look);
        bool ours = cp_op_brings_up(op->kind) && cp_services_find(&op->proc->record.services, names.items[i]);
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
        cp_op_retry(op, wait ? RETRY : 1000);
    cp_strings_clear(&names);
    cp_strings_clear(&stopping);
    return !busy;
}

/* ---- sweep ---- */

/* What a killed shim left is ended before anything else is done; `run` does it by itself for what it starts again. */
bool cp_op_sweep(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->failed.code)
        return cp_op_fail(op);
    cp_strings names = {0};
    cp_op_names(op->proc, &names);
    int r = 0;
    for (size_t i = 0; i < names.count && r == 0; i++) {
        cp_look look;
        cp_look_service(op->proc, names.items[i], &look);
        bool again = cp_op_brings_up(op->kind) && cp_services_find(&op->proc->record.services, names.items[i]);
        if (!look.alive && look.known && !cp_look_final(&look) && !again)
            r = cp_op_shim(op, "sweep", names.items[i]);
    }
    cp_strings_clear(&names);
    if (r < 0)
        return cp_op_fail(op);
    return op->jobs.count == 0;
}
