/* providers/process/provider_make.c -- Steps of an operation: make the working copies, and start what is missing. */
#include "base/failpoint.h"
#include "model/model.h"
#include "provider_op.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- make ---- */

/* Copies the image of one service into the stage; false while a helper does it. */
static bool make_service(cp_provider_op *op, const cp_service *service) {
    cp_autofree char *to = cp_printf("%s/%s", op->stage, service->name), *image = NULL, *name = NULL;
    bool folder = false;
    cp_user user = {0};
    if (cp_image_find(op->process, service->image, &image, &folder, &name, &op->failed) < 0 ||
        cp_fs_mkdir(to, 0755, &op->failed) < 0)
        return cp_op_fail(op);
    if (!image)
        return true;
    if (!folder) { /* the same file for all instances: it is not writable, and replacing it does not change the store */
        cp_autofree char *file = cp_printf("%s/%s", to, name);
        if (link(image, file) == 0)
            return true;
        const char *argv[] = {"cp", "--reflink=auto", "-p", "--", image, file, NULL};
        if (cp_op_job(op, argv, false, cp_printf("copying the image of service %s", service->name)) < 0)
            return cp_op_fail(op);
        return false;
    }
    if (cp_user_find(service->user, &user, &op->failed) < 0)
        return cp_op_fail(op);
    cp_autofree char *owner = cp_printf("%u:%u", user.uid, user.gid);
    free(user.name);
    free(user.home);
    const char *script = geteuid() == 0 ? "cp -a --reflink=auto -- \"$1/.\" \"$2\" && chown -hR \"$3\" -- \"$2\""
                                        : "cp -a --reflink=auto -- \"$1/.\" \"$2\"";
    const char *argv[] = {"sh", "-c", script, "sh", image, to, owner, NULL};
    if (cp_op_job(op, argv, false, cp_printf("copying the image of service %s", service->name)) < 0)
        return cp_op_fail(op);
    return false;
}

bool cp_op_make(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->failed.code)
        return cp_op_fail(op);
    if (cp_streq(op->proc->record.made, op->proc->record.release_id)) {
        op->step = STEP_STOP;
        return true;
    }
    if (!op->stage) {
        /* A name of its own: a helper of an engine that was killed may still be writing into its own. */
        op->stage = cp_printf("%s/stage-%016" PRIx64, op->proc->dir, cp_loop_random(op->process->base.loop));
        if (cp_fs_mkdir(op->stage, 0755, &op->failed) < 0)
            return cp_op_fail(op);
    }
    while (op->index < op->proc->record.services.count)
        if (!make_service(op, cp_op_service(op->proc, op->index++)))
            return false;
        else if (op->step == STEP_DONE)
            return true;
    for (size_t i = 0; i < op->proc->record.services.count; i++) {
        const cp_service *service = cp_op_service(op->proc, i);
        cp_autofree char *dir = cp_printf("%s/%s", op->stage, service->name);
        if (cp_run_files(op->proc, service, dir, &op->failed) < 0)
            return cp_op_fail(op);
    }
    op->step = STEP_STOP; /* only now: what runs goes on until the new is complete */
    return true;
}

/* The working copies of the release before, and what engines that were killed had begun. */
static void discard_stages(const cp_proc *proc) {
    DIR *dir = opendir(proc->dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        cp_autofree char *path = cp_printf("%s/%s", proc->dir, e->d_name);
        if (strncmp(e->d_name, "stage-", 6) == 0)
            cp_op_discard(proc->process, path);
    }
    if (dir)
        closedir(dir);
}

bool cp_op_finish_make(cp_provider_op *op) {
    cp_proc *proc = op->proc;
    cp_autofree char *work = cp_printf("%s/work", proc->dir), *old = cp_printf("%s.old", op->stage);
    if ((rename(work, old) < 0 && errno != ENOENT) || rename(op->stage, work) < 0) {
        cp_fs_fail(&op->failed, CP_E_PROVIDER_FAILED, "cannot make", work);
        return cp_op_fail(op);
    }
    discard_stages(proc);
    cp_set_string(&proc->record.made, proc->record.release_id); /* saved by the next step, which follows at once */
    if (cp_failpoint("process_made")) {
        cp_fail(&op->failed, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_made");
        return cp_op_fail(op);
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
    cp_op_names(proc, &names);
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

bool cp_op_start(cp_provider_op *op) {
    cp_proc *proc = op->proc;
    size_t count = proc->record.services.count, missing = 0;
    if (proc->record.wanted != CP_WANTED_RUNNING || !cp_streq(proc->record.boot_id, op->process->boot_id))
        forget_states(proc);
    for (size_t i = 0; i < count; i++)
        missing += !may_stay(proc, cp_op_service(proc, i)->name);
    cp_autofree size_t *order = cp_alloc0((count + 1) * sizeof *order);
    cp_services_order(&proc->record.services, order);
    const char *init = NULL; /* each init waits for the one before it, everything else for the last */
    if (missing)
        cp_set_string(&proc->record.warning, NULL);
    for (size_t i = 0; missing && i < count; i++) {
        const cp_service *service = cp_op_service(proc, order[i]);
        if (cp_run_write(proc, service, init, &op->failed) < 0)
            return cp_op_fail(op);
        if (service->role == CP_ROLE_INIT)
            init = service->name;
    }
    proc->record.wanted = CP_WANTED_RUNNING;
    cp_set_string(&proc->record.boot_id, op->process->boot_id);
    if (cp_record_save(proc, &op->failed) < 0)
        return cp_op_fail(op);
    for (size_t i = 0; i < count; i++)
        if (!may_stay(proc, cp_op_service(proc, order[i])->name) &&
            cp_op_shim(op, "run", cp_op_service(proc, order[i])->name) < 0)
            return cp_op_fail(op);
    op->step = STEP_DONE;
    return true;
}
