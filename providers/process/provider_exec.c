/* providers/process/provider_exec.c -- Runs a command as a service would run it, beside the service: for `exec` and for
 * command health checks. A helper of the shim's binary does it; closing its descriptor 0, as our own death does, ends
 * the command and all that it started. */
#include "process.h"

#include <stdlib.h>
#include <string.h>

typedef struct exec { /* what a cp_provider_op of an exec really is */
    cp_handle handle; /* first */
    cp_process *process;
    cp_child *child;
    cp_timer *timer;
    int64_t timeout;
    cp_exec_done *done;
    void *userdata;
} exec;

static void free_exec(exec *e) {
    cp_vec_drop(&e->process->execs, e);
    cp_timer_free(e->timer);
    free(e);
}

static void on_end(void *userdata, const cp_child_result *child) {
    exec *e = userdata;
    cp_exec_done *done = e->done;
    void *theirs = e->userdata;
    free_exec(e);
    cp_autoerror cp_error problem = {0};
    long long code = 0;
    if (strncmp(child->result, "exit ", 5) == 0) {
        code = strtoll(child->result + 5, NULL, 10);
        cp_exec_result result = {.exit_code = code, .output = child->output, .len = child->len};
        done(theirs, &result, NULL);
        return;
    }
    const char *text = strncmp(child->result, "error ", 6) == 0 ? child->result + 6 : child->result;
    if (*text)
        cp_fail(&problem, CP_E_PROVIDER_FAILED, "%.*s", (int)strcspn(text, "\n"), text);
    else
        cp_fail(&problem, CP_E_PROVIDER_FAILED, "the command ended without a result");
    done(theirs, NULL, &problem);
}

static void on_timeout(void *userdata) {
    exec *e = userdata;
    cp_exec_done *done = e->done;
    void *theirs = e->userdata;
    cp_autoerror cp_error problem = {0};
    cp_fail(&problem, CP_E_TIMEOUT, "the command did not end within %lld ms", (long long)e->timeout);
    cp_child_abandon(e->child, false); /* its helper ends it */
    free_exec(e);
    done(theirs, NULL, &problem);
}

void cp_exec_cancel(cp_provider_op *op) {
    exec *e = (exec *)(void *)op;
    cp_child_abandon(e->child, false);
    free_exec(e);
}

void cp_exec_drop_all(cp_process *process) {
    while (process->execs.count)
        cp_exec_cancel(process->execs.items[process->execs.count - 1]);
    cp_vec_clear(&process->execs);
}

int cp_process_exec(cp_provider *provider, const char *instance_id, const char *service, const cp_strings *command,
                    int64_t timeout, cp_exec_done *done, void *userdata, cp_provider_op **ret, cp_error *err) {
    cp_process *process = (cp_process *)provider;
    const cp_proc *proc = cp_table_get(process->instances, instance_id);
    if (!proc)
        return cp_fail(err, CP_E_NOT_FOUND, "there is no instance %s", instance_id);
    if (!command->count)
        return cp_fail(err, CP_E_INVALID, "command is empty; give a command");
    cp_look look;
    const char *name = service;
    for (size_t i = 0; !name && i < proc->record.services.count; i++)
        if (CP_LIST_AT(&proc->record.services, cp_service, i)->role == CP_ROLE_MAIN)
            name = CP_LIST_AT(&proc->record.services, cp_service, i)->name;
    if (!name || strchr(name, '/'))
        return cp_fail(err, CP_E_INVALID, "service is '%s'; name one of the instance", name ? name : "");
    cp_look_service(proc, name, &look);
    if (!look.alive || strcmp(look.word, "running") != 0)
        return cp_fail(err, CP_E_PROVIDER_FAILED, "service %s of %s does not run", name, proc->record.name);
    cp_autofree const char **argv = cp_alloc0((command->count + 5) * sizeof *argv);
    const char *head[] = {process->shim, "exec", proc->dir, name};
    memcpy(argv, head, sizeof head);
    for (size_t i = 0; i < command->count; i++)
        argv[4 + i] = command->items[i];
    exec *e = cp_new0(exec);
    *e = (exec){.handle = CP_HANDLE_EXEC, .process = process, .timeout = timeout, .done = done, .userdata = userdata};
    int r = cp_child_start(process, argv, true, on_end, e, &e->child, err);
    if (r < 0) {
        free(e);
        return r;
    }
    cp_vec_push(&process->execs, e);
    if (timeout > 0) {
        e->timer = cp_timer_new(provider->loop, on_timeout, e);
        cp_timer_start(e->timer, timeout);
    }
    *ret = (cp_provider_op *)(void *)e;
    return 0;
}
