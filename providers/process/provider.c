/* providers/process/provider.c -- The process provider: real processes on this host, each held by a shim. Opening
 * adopts what is in data_dir; freeing detaches, and everything goes on.
 * Must not know how an operation is done (provider_op.c) or what a state file looks like (provider_look.c). */
#include "base/failpoint.h"
#include "base/log.h"
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

enum {
    LIST_STEP = 64,          /* instances looked at in one turn */
    KEEP_LOGS = 3600,        /* s: logs of destroyed instances */
    PRUNE_EVERY = 60 * 1000, /* ms */
    LOOK = 500,              /* ms between looks where inotify is not to be had */
};

/* ---- instances in memory ---- */

cp_proc *cp_proc_add(cp_process *process, cp_record *record) {
    cp_proc *proc = cp_new0(cp_proc);
    *proc = (cp_proc){.process = process, .record = *record, .watch = -1};
    proc->dir = cp_printf("%s/instances/%s", process->data_dir, record->instance_id);
    *record = (cp_record){0};
    cp_table_set(process->instances, proc->record.instance_id, proc);
    for (size_t i = 0; i < proc->record.endpoints.count; i++) {
        const cp_endpoint *e = CP_LIST_AT(&proc->record.endpoints, cp_endpoint, i);
        cp_autofree char *key = cp_printf("%s:%d", e->protocol, (int)e->port);
        cp_table_set(process->ports, key, proc);
    }
    return proc;
}

void cp_proc_drop(cp_proc *proc) {
    cp_process *process = proc->process;
    if (proc->watch >= 0) {
        cp_autofree char *key = cp_printf("%d", proc->watch);
        inotify_rm_watch(process->notify, proc->watch);
        cp_table_set(process->watches, key, NULL);
    }
    cp_record_release_ports(proc);
    cp_table_set(process->instances, proc->record.instance_id, NULL);
    cp_desc_clear(&cp_record_desc, &proc->record);
    free(proc->dir);
    free(proc);
}

/* ---- hints ---- */

void cp_proc_watch(cp_proc *proc, bool logs) {
    cp_process *process = proc->process;
    /* A state file is moved into its place; a lock file is closed when its shim ends, however it ends. */
    uint32_t mask = IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR | (logs ? IN_MODIFY | IN_CREATE | IN_DELETE : 0);
    int watch = inotify_add_watch(process->notify, proc->dir, mask);
    if (watch < 0)
        return; /* no room for more watches: the engine's regular look finds it, only later */
    proc->watch = watch;
    cp_autofree char *key = cp_printf("%d", watch);
    cp_table_set(process->watches, key, proc);
}

void cp_process_hint(cp_process *process, const char *instance_id) {
    if (process->hint)
        process->hint(process->hint_userdata, instance_id);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void on_event(cp_process *process, const struct inotify_event *event, cp_proc **hinted) {
    if (event->mask & IN_Q_OVERFLOW) {
        cp_process_hint(process, NULL);
        cp_process_logs_wake(process, NULL, false);
        return;
    }
    char key[16];
    snprintf(key, sizeof key, "%d", event->wd);
    cp_proc *proc = cp_table_get(process->watches, key);
    if (!proc)
        return;
    if (event->mask & IN_IGNORED) { /* the folder is gone */
        cp_table_set(process->watches, key, NULL);
        proc->watch = -1;
        cp_process_hint(process, proc->record.instance_id);
        return;
    }
    const char *name = event->len ? event->name : "";
    if (strstr(name, ".log")) {
        cp_process_logs_wake(process, proc->record.instance_id, false);
    } else if ((ends_with(name, ".state") || ends_with(name, ".lock")) && proc != *hinted) {
        *hinted = proc;
        cp_process_hint(process, proc->record.instance_id);
    }
}

static void on_notify(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    cp_process *process = userdata;
    _Alignas(struct inotify_event) char bytes[16384];
    ssize_t n = read(fd, bytes, sizeof bytes);
    cp_proc *hinted = NULL;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const void *)(bytes + at);
        on_event(process, event, &hinted);
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* Without inotify: whoever waits for something looks by himself. */
static void on_look(void *userdata) {
    cp_process *process = userdata;
    cp_timer_start(process->look, LOOK);
    cp_process_hint(process, NULL);
    cp_process_logs_wake(process, NULL, false);
}

/* ---- status and list ---- */

typedef struct reply { /* an answer that is due in a later turn */
    cp_process *process;
    char *instance_id; /* of status */
    cp_provider_seen *seen;
    cp_provider_listed *listed;
    void *userdata;
    cp_vec ids;    /* of list: char *, still to be looked at */
    cp_list items; /* cp_observation */
} reply;

static void free_reply(reply *r) {
    cp_loop_forget(r->process->base.loop, r);
    cp_vec_drop(&r->process->replies, r);
    for (size_t i = 0; i < r->ids.count; i++)
        free(r->ids.items[i]);
    cp_vec_clear(&r->ids);
    cp_list_clear(&r->items, &cp_observation_desc);
    free(r->instance_id);
    free(r);
}

static reply *add_reply(cp_process *process, void *userdata) {
    reply *r = cp_new0(reply);
    r->process = process;
    r->userdata = userdata;
    cp_vec_push(&process->replies, r);
    return r;
}

/* Who stops watching wants no answers any more either. */
static void process_watch(cp_provider *provider, cp_provider_hint *hint, void *userdata) {
    cp_process *process = (cp_process *)provider;
    process->hint = hint;
    process->hint_userdata = userdata;
    while (!hint && process->replies.count)
        free_reply(process->replies.items[process->replies.count - 1]);
}

static void answer_status(void *userdata) {
    reply *r = userdata;
    const cp_proc *proc = cp_table_get(r->process->instances, r->instance_id);
    cp_observation seen = {0};
    if (proc) {
        cp_look_instance(proc, &seen);
    } else {
        seen.seen = CP_SEEN_ABSENT;
        cp_set_string(&seen.instance_id, r->instance_id);
    }
    cp_provider_seen *function = r->seen;
    void *theirs = r->userdata;
    free_reply(r);
    function(theirs, &seen, NULL);
    cp_desc_clear(&cp_observation_desc, &seen);
}

static int process_status(cp_provider *provider, const char *instance_id, cp_provider_seen *seen, void *userdata,
                          cp_error *err) {
    (void)err;
    reply *r = add_reply((cp_process *)provider, userdata);
    r->seen = seen;
    r->instance_id = cp_strdup(instance_id);
    cp_loop_defer(provider->loop, answer_status, r);
    return 0;
}

static void answer_list(void *userdata) {
    reply *r = userdata;
    for (int i = 0; i < LIST_STEP && r->ids.count; i++) {
        cp_autofree char *id = r->ids.items[--r->ids.count];
        const cp_proc *proc = cp_table_get(r->process->instances, id);
        if (proc)
            cp_look_instance(proc, cp_list_add(&r->items, &cp_observation_desc));
    }
    if (r->ids.count) {
        cp_loop_defer(r->process->base.loop, answer_list, r);
        return;
    }
    cp_list items = r->items;
    r->items = (cp_list){0};
    cp_provider_listed *function = r->listed;
    void *theirs = r->userdata;
    free_reply(r);
    function(theirs, items.items, items.count, NULL);
    cp_list_clear(&items, &cp_observation_desc);
}

static int process_list(cp_provider *provider, cp_provider_listed *listed, void *userdata, cp_error *err) {
    (void)err;
    cp_process *process = (cp_process *)provider;
    reply *r = add_reply(process, userdata);
    r->listed = listed;
    const char *id;
    size_t cursor = 0;
    while (cp_table_next(process->instances, &cursor, &id, NULL))
        cp_vec_push(&r->ids, cp_strdup(id));
    cp_loop_defer(provider->loop, answer_list, r);
    return 0;
}

static json_t *process_info(cp_provider *provider) {
    const cp_process *process = (cp_process *)provider;
    const cp_groups *g = &process->groups;
    return json_pack("{s:s, s:s, s:s, s:b, s:I, s:b, s:b, s:b}", "type", "process", "data_dir", process->data_dir,
                     "shim", process->shim, "shim_found", access(process->shim, X_OK) == 0, "instances",
                     (json_int_t)cp_table_count(process->instances), "group_kill", g->unified != NULL, "limits_cpu",
                     g->unified_cpu || g->cpu, "limits_memory", g->unified_memory || g->memory);
}

/* ---- opening and closing ---- */

static void ignore(void *userdata, const cp_child_result *result) {
    (void)userdata;
    (void)result;
}

static void discard(cp_process *process, const char *path) {
    const char *argv[] = {"rm", "-rf", "--", path, NULL};
    cp_child *child;
    cp_child_start(process, argv, false, ignore, NULL, &child, NULL);
}

/* Logs of destroyed instances, once they are old enough. */
static void prune(void *userdata) {
    cp_process *process = userdata;
    cp_autofree char *path = cp_printf("%s/gone", process->data_dir);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            st.st_mtime > time(NULL) - KEEP_LOGS)
            continue;
        cp_autofree char *old = cp_printf("%s/%s", path, e->d_name);
        discard(process, old);
    }
    if (dir)
        closedir(dir);
    cp_timer_start(process->prune, PRUNE_EVERY);
}

static bool any_lock(const char *path) {
    DIR *dir = opendir(path);
    bool held = !dir && errno != ENOENT;
    for (struct dirent *e; dir && !held && (e = readdir(dir));) {
        cp_autofree char *lock = cp_printf("%s/%s", path, e->d_name);
        held = ends_with(e->d_name, ".lock") && cp_fs_lock_of(lock) != CP_FS_FREE;
    }
    if (dir)
        closedir(dir);
    return held;
}

/* What has no record was made, or removed, only by half. What is another plane's is left alone. */
static void adopt(cp_process *process, const char *id) {
    cp_autofree char *path = cp_printf("%s/instances/%s", process->data_dir, id);
    cp_record record = {0};
    cp_autoerror cp_error problem = {0};
    if (cp_record_load(path, &record, &problem) < 0 || !cp_streq(record.instance_id, id)) {
        cp_desc_clear(&cp_record_desc, &record);
        if (!any_lock(path))
            discard(process, path);
        return;
    }
    if (!cp_streq(record.plane_id, process->plane_id)) {
        process->shared = true;
        cp_desc_clear(&cp_record_desc, &record);
        return;
    }
    cp_proc_watch(cp_proc_add(process, &record), false);
}

static int adopt_all(cp_process *process, cp_error *err) {
    cp_autofree char *path = cp_printf("%s/instances", process->data_dir);
    DIR *dir = opendir(path);
    if (!dir)
        return cp_fs_fail(err, CP_E_PROVIDER_UNAVAILABLE, "cannot read", path);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            adopt(process, e->d_name);
    closedir(dir);
    return 0;
}

static void process_free(cp_provider *provider) {
    cp_process *process = (cp_process *)provider;
    if (!process)
        return;
    process_watch(provider, NULL, NULL);
    while (process->sources.count)
        cp_process_logs_free(provider, process->sources.items[process->sources.count - 1]);
    cp_exec_drop_all(process);
    cp_prepare_drop_all(process);
    size_t cursor = 0;
    void *item;
    while (process->instances && cp_table_next(process->instances, &cursor, NULL, &item)) {
        cp_proc *proc = item;
        if (proc->op)
            cp_process_cancel(provider, proc->op);
        cp_proc_drop(proc);
    }
    cp_child_free_all(process);
    if (process->notify_event)
        event_free(process->notify_event);
    cp_timer_free(process->look);
    if (process->notify >= 0)
        close(process->notify);
    cursor = 0;
    while (process->hashes && cp_table_next(process->hashes, &cursor, NULL, &item))
        free(item);
    cp_retain_drop(process);
    cp_timer_free(process->prune);
    cp_table_free(process->instances);
    cp_table_free(process->watches);
    cp_table_free(process->hashes);
    cp_table_free(process->ports);
    cp_vec_clear(&process->replies);
    cp_vec_clear(&process->sources);
    cp_groups_clear(&process->groups);
    free(process->base.name);
    free(process->data_dir);
    free(process->shim);
    free(process->plane_id);
    free(process->boot_id);
    free(process);
}

static const cp_provider_class process_class = {
    .type = "process",
    .capabilities = CP_CAN_LOGS | CP_CAN_EXEC | CP_CAN_VOLUMES | CP_CAN_UPDATE | CP_CAN_RESTART_POLICY | CP_CAN_WATCH,
    .free = process_free,
    .prepare = cp_process_prepare,
    .resolve = cp_process_resolve,
    .retain = cp_process_retain,
    .operate = cp_process_operate,
    .cancel = cp_process_cancel,
    .status = process_status,
    .list = process_list,
    .watch = process_watch,
    .logs = cp_process_logs,
    .logs_free = cp_process_logs_free,
    .exec = cp_process_exec,
    .info = process_info,
};

/* Services run as other users, who must get to their own folder and see no other's: nobody can list. */
static int make_folders(cp_process *process, const char *data_dir, cp_error *err) {
    static const char *const parts[] = {"instances", "images", "volumes", "gone"};
    int r = cp_fs_mkdir(data_dir, 0711, err);
    if (r < 0)
        return r;
    process->data_dir = realpath(data_dir, NULL); /* shims and links outlive our working directory */
    if (!process->data_dir)
        return cp_fs_fail(err, CP_E_PROVIDER_UNAVAILABLE, "cannot find", data_dir);
    for (size_t i = 0; i < CP_COUNT(parts) && r == 0; i++) {
        cp_autofree char *path = cp_printf("%s/%s", process->data_dir, parts[i]);
        r = cp_fs_mkdir(path, 0711, err);
    }
    return r;
}

int cp_process_provider_new(cp_loop *loop, const char *name, const char *data_dir, const char *shim_path,
                            const char *plane_id, cp_provider **ret, cp_error *err) {
    cp_process *process = cp_new0(cp_process);
    process->base = (cp_provider){.class = &process_class, .name = cp_strdup(name), .loop = loop};
    process->instances = cp_table_new();
    process->watches = cp_table_new();
    process->hashes = cp_table_new();
    process->touched = cp_table_new();
    process->ports = cp_table_new();
    process->plane_id = cp_strdup(plane_id);
    process->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (process->notify < 0)
        cp_log(CP_LOG_WARN, "no inotify (%s); states are looked at every %d ms", strerror(errno), LOOK);
    process->look = cp_timer_new(loop, on_look, process);
    process->prune = cp_timer_new(loop, prune, process);
    process->shim = realpath(shim_path, NULL);
    if (!process->shim)
        process->shim = cp_strdup(shim_path); /* said by the first operation that needs it, and by doctor */
    process->boot_id = cp_fs_read("/proc/sys/kernel/random/boot_id", 64, NULL);
    int r = 0;
    if (!process->boot_id)
        r = cp_fs_fail(err, CP_E_PROVIDER_UNAVAILABLE, "cannot read", "/proc/sys/kernel/random/boot_id");
    if (r == 0) {
        process->boot_id[strcspn(process->boot_id, "\n")] = '\0';
        r = make_folders(process, data_dir, err);
    }
    if (r == 0) {
        cp_groups_find(&process->groups);
        if (process->notify >= 0) {
            process->notify_event =
                event_new(cp_loop_base(loop), process->notify, EV_READ | EV_PERSIST, on_notify, process);
            event_add(process->notify_event, NULL);
        } else {
            cp_timer_start(process->look, LOOK);
        }
        r = adopt_all(process, err);
    }
    if (r == 0 && cp_failpoint("process_adopt"))
        r = cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "failpoint process_adopt");
    if (r < 0) {
        process_free(&process->base);
        return r;
    }
    cp_timer_start(process->prune, 0);
    *ret = &process->base;
    return 0;
}
