/* providers/process/provider_remove.c -- Steps of an operation: remove an instance, and the volumes of its workload. */
#include "base/failpoint.h"
#include "provider_op.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    cp_op_names(proc, &names);
    for (size_t i = 0; i < names.count; i++)
        for (size_t r = 0; r < CP_COUNT(roots); r++) {
            cp_autofree char *group =
                roots[r] ? cp_printf("%s/%s-%s", roots[r], proc->record.instance_id, names.items[i]) : NULL;
            if (group)
                rmdir(group);
        }
    cp_strings_clear(&names);
}

bool cp_op_remove(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (!op->stage) { /* once: the name says that the helper was started */
        if (cp_failpoint("process_remove")) {
            cp_fail(&op->failed, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_remove");
            return cp_op_fail(op);
        }
        keep_logs(op->proc);
        remove_groups(op->proc);
        op->stage = cp_strdup(op->proc->dir);
        const char *argv[] = {"rm", "-rf", "--", op->stage, NULL};
        return cp_op_job(op, argv, false, cp_printf("removing instance %s", op->proc->record.name)) < 0 &&
               cp_op_fail(op);
    }
    if (op->failed.code || access(op->stage, F_OK) == 0) {
        if (!op->failed.code)
            cp_fail(&op->failed, CP_E_PROVIDER_FAILED, "%s cannot be removed", op->stage);
        return cp_op_fail(op);
    }
    cp_proc *proc = op->proc;
    op->proc = NULL;
    cp_process_logs_wake(op->process, proc->record.instance_id, true);
    cp_proc_drop(proc);
    cp_set_string(&op->stage, NULL);
    op->step = STEP_VOLUMES;
    return true;
}

bool cp_op_volumes(cp_provider_op *op) {
    if (op->jobs.count)
        return false;
    if (op->stage || op->failed.code || !op->remove_volumes || cp_is_empty(op->workload_id)) {
        if (!op->failed.code && op->stage && access(op->stage, F_OK) == 0)
            cp_fail(&op->failed, CP_E_PROVIDER_FAILED, "the volumes in %s cannot be removed", op->stage);
        op->step = STEP_DONE;
        return true;
    }
    op->stage = cp_printf("%s/volumes/.%s", op->process->data_dir, op->workload_id);
    size_t cursor = 0;
    for (void *proc; cp_table_next(op->process->instances, &cursor, NULL, &proc);)
        if (cp_streq(((cp_proc *)proc)->record.workload_id, op->workload_id)) {
            op->step = STEP_DONE; /* the last instance of the workload takes them with it */
            return true;
        }
    /* Out of the way first: a new instance of the workload makes its own while these are removed. */
    cp_autofree char *volumes = cp_printf("%s/volumes/%s", op->process->data_dir, op->workload_id);
    bool moved = rename(volumes, op->stage) == 0 || errno == ENOENT; /* else a removal that failed left its own there */
    const char *argv[] = {"rm", "-rf", "--", op->stage, moved ? NULL : volumes, NULL};
    return cp_op_job(op, argv, false, cp_printf("removing the volumes of %s", op->workload_slug)) < 0 && cp_op_fail(op);
}
