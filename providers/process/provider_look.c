/* providers/process/provider_look.c -- What is seen of an instance: state files and locks, put together. */
#include "model/model.h"
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void field(const char *text, const char *key, char *value, size_t size) {
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            snprintf(value, size, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
            return;
        }
}

static int64_t number(const char *text, const char *key) {
    char value[32] = "";
    field(text, key, value, sizeof value);
    return strtoll(value, NULL, 10);
}

void cp_look_service(const cp_proc *proc, const char *service, cp_look *ret) {
    *ret = (cp_look){.exit_code = -1};
    cp_autofree char *lock = cp_printf("%s/%s.lock", proc->dir, service);
    cp_autofree char *path = cp_printf("%s/%s.state", proc->dir, service);
    ret->alive = cp_fs_lock_of(lock) != CP_FS_FREE;
    cp_autofree char *text = cp_fs_read(path, 8192, NULL); /* after the lock: it is saved before the lock is let go */
    char boot[64] = "";
    if (!text || !strstr(text, "\nend .\n"))
        return; /* never written, or torn by a power cut */
    field(text, "boot", boot, sizeof boot);
    if (strcmp(boot, proc->process->boot_id) != 0)
        return;
    ret->known = true;
    field(text, "state", ret->word, sizeof ret->word);
    field(text, "message", ret->message, sizeof ret->message);
    ret->generation = number(text, "generation");
    ret->started_ms = number(text, "started_ms");
    ret->restarts = number(text, "restarts");
    ret->shim = (int)number(text, "shim");
    ret->exit_code = (int)number(text, "exit_code");
}

bool cp_look_final(const cp_look *look) {
    return look->known && (strcmp(look->word, "exited") == 0 || strcmp(look->word, "failed") == 0 ||
                           strcmp(look->word, "stopped") == 0);
}

static void service_status(const cp_service *service, const cp_look *look, cp_service_status *ret) {
    bool lost = !look->alive && !cp_look_final(look);
    const char *word = lost ? "waiting" : strcmp(look->word, "stopped") == 0 ? "exited" : look->word;
    if (strcmp(word, "stopping") == 0)
        word = "running";
    cp_set_string(&ret->name, service->name);
    cp_set_string(&ret->state, *word ? word : "waiting");
    ret->ready = look->alive && strcmp(look->word, "running") == 0;
    ret->restarts = look->restarts;
    ret->exit_code = look->exit_code;
    if (strcmp(ret->state, "running") != 0 && *look->message)
        cp_set_string(&ret->message, look->message);
    if (look->shim) {
        free(ret->provider_ref);
        ret->provider_ref = cp_printf("shim %d", look->shim);
    }
}

static void add_message(cp_observation *to, const char *service, const char *text) {
    if (!*text)
        return;
    char *old = to->message;
    cp_autofree char *named = service ? cp_printf("%s: %s", service, text) : cp_strdup(text);
    to->message = old && *old ? cp_printf("%s; %s", old, named) : cp_strdup(named);
    free(old);
}

/* Counts over the services of an instance. */
typedef struct counts {
    size_t alive, lost, failed, starting;
    bool ended; /* the main service came to its own end */
} counts;

static void look_at(const cp_proc *proc, const cp_service *service, counts *n, cp_observation *ret) {
    cp_look look;
    cp_look_service(proc, service->name, &look);
    service_status(service, &look, cp_list_add(&ret->services, &cp_service_status_desc));
    ret->restarts += look.restarts;
    if (look.alive && look.known && look.generation < ret->generation)
        ret->generation = look.generation; /* an operation was cut short: this one is still the old */
    bool main = service->role == CP_ROLE_MAIN, final = cp_look_final(&look);
    bool exited = final && strcmp(look.word, "exited") == 0, failed = final && strcmp(look.word, "failed") == 0;
    bool back = strcmp(look.word, "backoff") == 0, waits = strcmp(look.word, "waiting") == 0 || !*look.word;
    if (main)
        ret->started_at = look.started_ms;
    n->alive += look.alive;
    n->failed += failed;
    n->lost += !look.alive && !exited && !failed; /* killed; or stopped by a signal that was not ours */
    n->starting += back || waits || (service->role == CP_ROLE_INIT && !final);
    n->ended |= main && exited;
    add_message(ret, service->name, failed || back || (main && exited) ? look.message : "");
}

void cp_look_instance(const cp_proc *proc, cp_observation *ret) {
    const cp_record *record = &proc->record;
    cp_set_string(&ret->instance_id, record->instance_id);
    cp_set_string(&ret->workload_id, record->workload_id);
    cp_set_string(&ret->plane_id, record->plane_id);
    cp_set_string(&ret->release_id, record->made ? record->made : record->release_id);
    cp_set_string(&ret->provider_ref, proc->dir);
    ret->generation = record->generation;
    counts n = {0};
    for (size_t i = 0; i < record->services.count; i++)
        look_at(proc, CP_LIST_AT(&record->services, cp_service, i), &n, ret);
    for (size_t i = 0; i < record->endpoints.count; i++) {
        cp_endpoint *e = cp_list_add(&ret->endpoints, &cp_endpoint_desc);
        cp_desc_clear(&cp_endpoint_desc, e);
        cp_desc_copy(&cp_endpoint_desc, e, CP_LIST_AT(&record->endpoints, cp_endpoint, i));
    }
    add_message(ret, NULL, record->warning ? record->warning : "");
    if (record->wanted == CP_WANTED_STOPPED && cp_streq(record->made, record->release_id))
        ret->seen = n.alive ? CP_SEEN_RUNNING : CP_SEEN_STOPPED;
    else if (record->wanted == CP_WANTED_DESTROYED)
        ret->seen = n.alive ? CP_SEEN_RUNNING : CP_SEEN_STOPPED;
    else if (n.failed)
        ret->seen = CP_SEEN_FAILED;
    else if (n.lost)
        ret->seen = CP_SEEN_LOST; /* half made counts as lost: the next operation goes on with it */
    else if (n.ended)
        ret->seen = CP_SEEN_STOPPED;
    else
        ret->seen = n.starting ? CP_SEEN_STARTING : CP_SEEN_RUNNING;
}
