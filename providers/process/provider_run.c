/* providers/process/provider_run.c -- What a shim is told to run: command, environment, user, limits and order; and the
 * files that go into a working copy. Must not start anything. */
#include "model/model.h"
#include "process.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- users ---- */

static bool is_number(const char *text) {
    return *text && strspn(text, "0123456789") == strlen(text);
}

static int find_group(const char *text, gid_t *ret, cp_error *err) {
    if (is_number(text)) {
        *ret = (gid_t)strtoul(text, NULL, 10);
        return 0;
    }
    struct group entry, *found = NULL;
    char space[16384];
    if (getgrnam_r(text, &entry, space, sizeof space, &found) != 0 || !found)
        return cp_fail(err, CP_E_INVALID, "this host has no group '%s'", text);
    *ret = entry.gr_gid;
    return 0;
}

int cp_user_find(const char *text, cp_user *ret, cp_error *err) {
    cp_autofree char *name = cp_strdup(text ? text : "");
    char *group = strchr(name, ':');
    if (group)
        *group++ = '\0';
    struct passwd entry = {0}, *found = NULL;
    char space[16384];
    uid_t uid = *name ? (uid_t)strtoul(name, NULL, 10) : geteuid();
    if (*name && !is_number(name))
        getpwnam_r(name, &entry, space, sizeof space, &found);
    else
        getpwuid_r(uid, &entry, space, sizeof space, &found);
    if (!found && *name && !is_number(name))
        return cp_fail(err, CP_E_INVALID, "this host has no user '%s'", name);
    *ret = (cp_user){.uid = found ? entry.pw_uid : uid, .gid = found ? entry.pw_gid : (gid_t)uid};
    if (group) {
        int r = find_group(group, &ret->gid, err);
        if (r < 0)
            return r;
    }
    if (geteuid() != 0 && ret->uid != geteuid())
        return cp_fail(err, CP_E_INVALID, "the engine does not run as root, so it cannot run a service as '%s'", text);
    if (found) {
        ret->count = (int)CP_COUNT(ret->groups);
        if (getgrouplist(entry.pw_name, ret->gid, ret->groups, &ret->count) < 0)
            ret->count = (int)CP_COUNT(ret->groups); /* in more: the first 256 it is */
        ret->name = cp_strdup(entry.pw_name);
        ret->home = cp_strdup(entry.pw_dir);
    } else {
        ret->groups[0] = ret->gid;
        ret->count = 1;
    }
    return 0;
}

static void user_clear(cp_user *user) {
    free(user->name);
    free(user->home);
}

/* 0 when there is no such signal. */
static int signal_number(const char *text) {
    if (cp_is_empty(text))
        return SIGTERM;
    if (is_number(text))
        return atoi(text) < NSIG ? atoi(text) : 0;
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (int i = 1; i < NSIG; i++)
        if (sigabbrev_np(i) && strcasecmp(sigabbrev_np(i), name) == 0)
            return i;
    return 0;
}

int cp_run_check(cp_process *process, const cp_service *service, size_t index, cp_error *err) {
    (void)process;
    cp_user user = {0};
    cp_error problem = {0};
    cp_autofree char *field = NULL;
    int r = 0;
    if (service->secrets.count) {
        field = cp_printf("services[%zu].secrets", index);
        r = cp_fail_at(err, CP_E_UNSUPPORTED, field, NULL, "%s: this engine keeps no secrets; use env", field);
    } else if (service->resources.gpu) {
        field = cp_printf("services[%zu].resources.gpu", index);
        r = cp_fail_at(err, CP_E_UNSUPPORTED, field, NULL, "%s: the process provider has no GPUs", field);
    } else if (!signal_number(service->stop_signal)) {
        field = cp_printf("services[%zu].stop_signal", index);
        r = cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is '%s'; write it like TERM, INT or QUIT", field,
                       service->stop_signal);
    } else if (cp_user_find(service->user, &user, &problem) < 0) {
        field = cp_printf("services[%zu].user", index);
        r = cp_fail_at(err, problem.code, field, NULL, "%s: %s", field, problem.message);
    }
    cp_error_clear(&problem);
    user_clear(&user);
    return r;
}

/* ---- texts of a service ---- */

typedef struct names { /* what ${...} means in a text of this service */
    const cp_proc *proc;
    const cp_service *service;
    char number[24];
} names;

static const cp_endpoint *endpoint(const cp_record *record, const char *service, const char *port) {
    for (size_t i = 0; i < record->endpoints.count; i++) {
        const cp_endpoint *e = CP_LIST_AT(&record->endpoints, cp_endpoint, i);
        if (cp_streq(e->service, service) && cp_streq(e->name, port))
            return e;
    }
    return NULL;
}

static const char *lookup(void *userdata, const char *name) {
    names *n = userdata;
    const cp_record *record = &n->proc->record;
    if (strncmp(name, "port.", 5) == 0) {
        const cp_service *owner = n->service;
        if (!cp_services_port(&record->services, n->service, name + 5, &owner))
            return NULL;
        const cp_endpoint *e = endpoint(record, owner->name, name + 5);
        snprintf(n->number, sizeof n->number, "%lld", e ? (long long)e->port : 0LL);
        return e ? n->number : NULL;
    }
    if (strcmp(name, "instance.index") == 0) {
        snprintf(n->number, sizeof n->number, "%lld", (long long)record->replica_index);
        return n->number;
    }
    const struct {
        const char *name, *value;
    } texts[] = {
        {"instance.id", record->instance_id},
        {"instance.name", record->name},
        {"workload.name", record->workload_name},
        {"workload.slug", record->workload_slug},
    };
    for (size_t i = 0; i < CP_COUNT(texts); i++)
        if (strcmp(texts[i].name, name) == 0)
            return texts[i].value;
    return NULL;
}

static int expand(const names *known, const char *text, char **ret, cp_error *err) {
    names copy = *known;
    int r = cp_expand(text, lookup, &copy, ret, err);
    if (r < 0)
        err->code = CP_E_PROVIDER_FAILED;
    return r;
}

static char *env_name(const char *prefix, const char *name) { /* PORT_HTTP_ADMIN of port http-admin */
    char *text = cp_printf("%s%s", prefix, name);
    for (char *c = text + strlen(prefix); *c; c++)
        *c = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
    return text;
}

static char *volume_dir(const cp_proc *proc, const char *name) {
    const cp_record *record = &proc->record;
    if (record->kind == CP_KIND_STATEFUL_SET)
        return cp_printf("%s/volumes/%s/%s/%lld", proc->process->data_dir, record->workload_id, name,
                         (long long)record->replica_index);
    return cp_printf("%s/volumes/%s/%s/shared", proc->process->data_dir, record->workload_id, name);
}

static void port_env(const cp_record *record, const char *service, cp_map *env, bool own) {
    bool first = true;
    for (size_t i = 0; i < record->endpoints.count; i++) {
        const cp_endpoint *e = CP_LIST_AT(&record->endpoints, cp_endpoint, i);
        if (cp_streq(e->service, service) != own)
            continue;
        cp_autofree char *name = env_name("PORT_", e->name), *port = cp_printf("%lld", (long long)e->port);
        cp_map_set(env, name, port);
        if (own && first)
            cp_map_set(env, "PORT", port);
        first = false;
    }
}

static int environment(const names *known, const cp_user *user, cp_map *env, cp_error *err) {
    const cp_service *service = known->service;
    const char *path = getenv("PATH"), *lang = getenv("LANG");
    cp_map_set(env, "PATH", path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    cp_map_set(env, "LANG", lang);
    cp_map_set(env, "HOME", user->home);
    cp_map_set(env, "USER", user->name);
    cp_map_set(env, "LOGNAME", user->name);
    port_env(&known->proc->record, service->name, env, false);
    port_env(&known->proc->record, service->name, env, true); /* its own ports win */
    for (size_t i = 0; i < service->volumes.count; i++) {
        const cp_volume *volume = CP_LIST_AT(&service->volumes, cp_volume, i);
        cp_autofree char *name = env_name("VOLUME_", volume->name), *dir = volume_dir(known->proc, volume->name);
        cp_map_set(env, name, dir);
    }
    for (size_t i = 0; i < service->env.count; i++) {
        cp_autofree char *value = NULL;
        int r = expand(known, service->env.items[i].value, &value, err);
        if (r < 0)
            return cp_error_wrap(err, "env.%s of %s", service->env.items[i].key, service->name);
        cp_map_set(env, service->env.items[i].key, value);
    }
    cp_map_set(env, "CTRLPLANE_INSTANCE", known->proc->record.instance_id); /* last: what is left over is found by */
    cp_map_set(env, "CTRLPLANE_SERVICE", service->name);                    /* these two */
    return 0;
}

/* ---- SERVICE.run ---- */

__attribute__((format(printf, 2, 3))) static void record_add(cp_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    cp_buf_add(buf, text, strlen(text) + 1);
    free(text);
}

static void warn(cp_record *record, const char *text) {
    if (record->warning && strstr(record->warning, text))
        return;
    cp_autofree char *both =
        record->warning && *record->warning ? cp_printf("%s; %s", record->warning, text) : cp_strdup(text);
    cp_set_string(&record->warning, both);
}

/* Makes the group of a service below root, for its shim to use. */
static char *make_group(cp_proc *proc, const char *root, const char *leaf, cp_buf *buf) {
    char *path = cp_printf("%s/%s", root, leaf);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        warn(&proc->record, "a control group cannot be made");
    else
        record_add(buf, "cgroup %s", path);
    return path;
}

static void set_limit(cp_proc *proc, const char *group, const char *file, int64_t value) {
    cp_autofree char *path = cp_printf("%s/%s", group, file), *text = cp_printf("%lld", (long long)value);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        cp_autofree char *warning = cp_printf("%s is not in force: %s", file, strerror(errno));
        warn(&proc->record, warning);
    }
    if (fd >= 0)
        close(fd);
}

/* Control groups where they can be had, else a limit of the process, with a warning. */
static void limits(cp_proc *proc, const cp_service *service, cp_buf *buf) {
    const cp_groups *g = &proc->process->groups;
    const int64_t memory = service->resources.memory_mb << 20, cpu = service->resources.cpu_millis * 100;
    cp_autofree char *leaf = cp_printf("%s-%s", proc->record.instance_id, service->name), *group = NULL, *other = NULL;
    if (g->unified)
        group = make_group(proc, g->unified, leaf, buf);
    if (memory && g->unified_memory) {
        set_limit(proc, group, "memory.max", memory);
        set_limit(proc, group, "memory.oom.group", 1);
        record_add(buf, "oom %s/memory.events", group);
    } else if (memory && g->memory) {
        other = make_group(proc, g->memory, leaf, buf);
        set_limit(proc, other, "memory.limit_in_bytes", memory);
        record_add(buf, "oom %s/memory.oom_control", other);
    } else if (memory) {
        record_add(buf, "memory %lld", (long long)memory);
        warn(&proc->record, "memory_mb limits the address space only: no control group can be written");
    }
    if (cpu && g->unified_cpu) {
        set_limit(proc, group, "cpu.max", cpu);
    } else if (cpu && g->cpu) {
        free(other);
        other = make_group(proc, g->cpu, leaf, buf);
        set_limit(proc, other, "cpu.cfs_quota_us", cpu);
    } else if (cpu) {
        warn(&proc->record, "cpu_millis is not in force: no control group can be written");
    }
    if (service->resources.disk_mb)
        warn(&proc->record, "disk_mb is not in force: the process provider does not limit disks");
}

static int command(const names *known, const char *image_name, bool folder, cp_buf *buf, cp_error *err) {
    const cp_service *service = known->service;
    size_t count = 0;
    if (!service->command.count && image_name && !folder) {
        record_add(buf, "arg ./%s", image_name);
        count++;
    }
    for (size_t i = 0; i < service->command.count + service->args.count; i++) {
        bool arg = i >= service->command.count;
        cp_autofree char *text = NULL;
        int r = expand(known, arg ? service->args.items[i - service->command.count] : service->command.items[i], &text,
                       err);
        if (r < 0)
            return cp_error_wrap(err, "%s of %s", arg ? "args" : "command", service->name);
        if (count == 0 && arg)
            break; /* arguments of nothing */
        record_add(buf, "arg %s", text);
        count++;
    }
    if (count)
        return 0;
    return cp_fail(err, CP_E_PROVIDER_FAILED, "service %s has no command; its image is %s", service->name,
                   folder ? "a folder" : "empty");
}

static void order(const cp_proc *proc, const cp_service *service, const char *previous_init, cp_buf *buf) {
    if (previous_init)
        record_add(buf, "done %s", previous_init);
    for (size_t i = 0; i < service->depends_on.count; i++) {
        const cp_service *other = cp_services_find(&proc->record.services, service->depends_on.items[i]);
        if (other)
            record_add(buf, "%s %s", other->role == CP_ROLE_INIT ? "done" : "after", other->name);
    }
}

int cp_run_write(cp_proc *proc, const cp_service *service, const char *previous_init, cp_error *err) {
    names known = {.proc = proc, .service = service};
    cp_user user = {0};
    cp_autofree char *image = NULL, *image_name = NULL;
    bool folder = false;
    static const char *const restarts[] = {"always", "on_failure", "never"};
    int r = cp_image_find(proc->process, service->image, &image, &folder, &image_name, err);
    if (r < 0)
        return r;
    r = cp_user_find(service->user, &user, err);
    if (r < 0) {
        err->code = CP_E_PROVIDER_FAILED;
        return r;
    }
    cp_autobuf cp_buf buf = {0};
    cp_map env = {0};
    r = environment(&known, &user, &env, err);
    if (r == 0) {
        record_add(&buf, "instance %s", proc->record.instance_id);
        record_add(&buf, "generation %lld", (long long)proc->record.generation);
        bool once = service->role == CP_ROLE_INIT && service->restart == CP_RESTART_ALWAYS; /* `always` is no init's */
        record_add(&buf, "restart %s", once ? "never" : restarts[service->restart]);
#ifdef CP_FAILPOINTS /* what specs shorten: ms of the first back-off, bytes of a log file */
        if (getenv("CTRLPLANE_TEST_BACKOFF_MS"))
            record_add(&buf, "backoff %s", getenv("CTRLPLANE_TEST_BACKOFF_MS"));
        if (getenv("CTRLPLANE_TEST_LOG_MAX"))
            record_add(&buf, "log_max %s", getenv("CTRLPLANE_TEST_LOG_MAX"));
#endif
        record_add(&buf, "stop_signal %d", signal_number(service->stop_signal));
        record_add(&buf, "stop_timeout %lld", (long long)service->stop_timeout);
        cp_autofree char *work = cp_printf("%s/work/%s", proc->dir, service->name);
        const char *dir = service->workdir;
        if (cp_is_empty(dir))
            record_add(&buf, "workdir %s", work);
        else
            record_add(&buf, "workdir %s%s%s", *dir == '/' ? "" : work, *dir == '/' ? "" : "/", dir);
        if (geteuid() == 0) {
            record_add(&buf, "uid %u", user.uid);
            record_add(&buf, "gid %u", user.gid);
            for (int i = 0; i < user.count; i++)
                record_add(&buf, "group %u", user.groups[i]);
        }
        limits(proc, service, &buf);
        order(proc, service, previous_init, &buf);
        for (size_t i = 0; i < env.count; i++)
            record_add(&buf, "env %s=%s", env.items[i].key, env.items[i].value);
        r = command(&known, image_name, folder, &buf, err);
    }
    cp_autofree char *file = cp_printf("%s.run", service->name);
    if (r == 0)
        r = cp_fs_write(proc->dir, file, buf.data, buf.len, 0600, err);
    cp_map_clear(&env);
    user_clear(&user);
    return r;
}

/* ---- the working copy ---- */

static int config_file(const names *known, int root, const cp_config_file *file, uid_t uid, gid_t gid, cp_error *err) {
    cp_autofree char *text = NULL, *last = NULL;
    int r = expand(known, file->content ? file->content : "", &text, err);
    if (r < 0)
        return r;
    mode_t mode = (mode_t)strtoul(cp_is_empty(file->mode) ? "0644" : file->mode, NULL, 8);
    int folder = cp_fs_folder_below(root, file->path, &last, uid, gid);
    int fd = -1;
    if (folder >= 0) {
        unlinkat(folder, last, 0); /* of the image: this one takes its place; a link is not followed */
        fd = openat(folder, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
              (geteuid() != 0 || fchown(fd, uid, gid) == 0) && fchmod(fd, mode) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (folder >= 0)
        close(folder);
    errno = saved;
    return ok ? 0 : cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot write the configuration file", file->path);
}

static int volume(const cp_proc *proc, int root, const cp_volume *v, uid_t uid, gid_t gid, cp_error *err) {
    cp_autofree char *dir = volume_dir(proc, v->name), *last = NULL;
    bool fresh = access(dir, F_OK) < 0;
    int r = cp_fs_mkdir(dir, 0755, err);
    if (r < 0)
        return r;
    if (fresh && geteuid() == 0 && chown(dir, uid, gid) < 0)
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot give away the volume", dir);
    int folder = cp_fs_folder_below(root, v->mount_path, &last, uid, gid);
    int saved = errno;
    bool ok = folder >= 0;
    if (ok) {
        unlinkat(folder, last, AT_REMOVEDIR); /* an empty folder of the image makes room */
        ok = symlinkat(dir, folder, last) == 0;
        saved = errno;
        close(folder);
    }
    errno = saved;
    return ok ? 0 : cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot link the volume at", v->mount_path);
}

int cp_run_files(cp_proc *proc, const cp_service *service, const char *dir, cp_error *err) {
    names known = {.proc = proc, .service = service};
    cp_user user = {0};
    int r = cp_user_find(service->user, &user, err);
    if (r < 0) {
        err->code = CP_E_PROVIDER_FAILED;
        return r;
    }
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0)
        r = cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot open", dir);
    else if (geteuid() == 0 && fchown(root, user.uid, user.gid) < 0)
        r = cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot give away", dir);
    for (size_t i = 0; i < service->volumes.count && r == 0; i++)
        r = volume(proc, root, CP_LIST_AT(&service->volumes, cp_volume, i), user.uid, user.gid, err);
    for (size_t i = 0; i < service->config_files.count && r == 0; i++)
        r = config_file(&known, root, CP_LIST_AT(&service->config_files, cp_config_file, i), user.uid, user.gid, err);
    if (root >= 0)
        close(root);
    user_clear(&user);
    return r < 0 ? cp_error_wrap(err, "service %s", service->name) : 0;
}
