/* engine/plane/rollout_kinds.c -- What each command of a strategy asks for: goals as rows, timers in plane time, lines
 * for people; and when it is done. Must not know Lua, the journal, or how goals are reached. */
#include "plane/rollout_kinds.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define FIELD(member, kind, ...)                                                                                       \
    { .name = #member, .type = kind, .offset = offsetof(cp_command_args, member), __VA_ARGS__ }
#define TIMEOUT                                                                                                        \
    FIELD(timeout, CP_DURATION, .min = 1, .max = CP_MAX_DURATION_MS, .doc = "fails with `timeout` when it has passed")
#define DESC(name_, fields_)                                                                                           \
    static const cp_desc name_##_desc = {.name = #name_,                                                               \
                                         .size = sizeof(cp_command_args),                                              \
                                         .fields = fields_,                                                            \
                                         .count = CP_COUNT(fields_),                                                   \
                                         .present = offsetof(cp_command_args, present)}

static const cp_field share_fields[] = {
    FIELD(share, CP_SHARE, .flags = CP_REQUIRED, .doc = "a count, or a share of the replicas"), TIMEOUT};
static const cp_field retire_fields[] = {FIELD(share, CP_SHARE, .fallback = "100%", .doc = "what old gives up"),
                                         TIMEOUT};
static const cp_field bake_fields[] = {
    FIELD(duration, CP_DURATION, .flags = CP_REQUIRED, .max = CP_MAX_DURATION_MS, .doc = "how long to watch"),
    FIELD(max_unhealthy, CP_INT, .min = 0, .max = CP_MAX_REPLICAS, .doc = "new instances that may be unhealthy"),
    FIELD(max_restarts, CP_INT, .min = 0, .max = 1000000, .doc = "restarts of new instances in this time"), TIMEOUT};
static const cp_field sleep_fields[] = {
    FIELD(duration, CP_DURATION, .flags = CP_REQUIRED, .max = CP_MAX_DURATION_MS, .doc = "how long"), TIMEOUT};
static const cp_field wait_fields[] = {TIMEOUT};
static const cp_field log_fields[] = {FIELD(text, CP_STRING, .max = 4096, .doc = "a line for people"),
                                      FIELD(fields, CP_JSON, .doc = "values beside it")};
static const cp_field phase_fields[] = {
    FIELD(name, CP_STRING, .flags = CP_REQUIRED, .max = 200, .doc = "what the rollout does now")};
static const cp_field progress_fields[] = {
    FIELD(percent, CP_DOUBLE, .flags = CP_REQUIRED, .min = 0, .max = 100, .doc = "how far it is"),
    FIELD(text, CP_STRING, .max = 4096, .doc = "a line for people")};
static const cp_field fail_fields[] = {FIELD(reason, CP_STRING, .max = 4096, .doc = "why")};
static const cp_field instances_fields[] = {FIELD(set, CP_STRING, .doc = "new, old or abandoned; all without it")};
DESC(share, share_fields);
DESC(retire, retire_fields);
DESC(bake, bake_fields);
DESC(sleep, sleep_fields);
DESC(wait, wait_fields);
DESC(log, log_fields);
DESC(phase, phase_fields);
DESC(progress, progress_fields);
DESC(fail, fail_fields);
DESC(instances, instances_fields);
static const cp_desc none_desc = {
    .name = "none", .size = sizeof(cp_command_args), .present = offsetof(cp_command_args, present)};

void cp_command_remember(cp_command *command, const char *key, json_t *value) {
    if (!json_is_object(command->result)) {
        json_decref(command->result);
        command->result = json_object();
    }
    json_object_set_new(command->result, key, value);
}

int64_t cp_command_recall(const cp_command *command, const char *key) {
    return json_integer_value(json_object_get(command->result, key));
}

/* Goals. */

static cp_share percent(double value) {
    return (cp_share){.set = true, .percent = true, .value = value};
}

static cp_share number(int64_t value) {
    return (cp_share){.set = true, .value = (double)value};
}

/* The nearest whole number of N, halves up: what a split of two sides comes to. */
static int64_t nearest(cp_share share, int64_t n) {
    return share.percent ? (int64_t)floor((double)n * share.value / 100 + 0.5 + 1e-9) : (int64_t)share.value;
}

/* The goal of the old set in numbers, for the guards: its own, else what new leaves of N. */
static int64_t old_goal(const cp_wl *wl) {
    const cp_replica_set *set = cp_wl_set_by_role((cp_wl *)wl, CP_SET_OLD),
                         *new = cp_wl_set_by_role((cp_wl *)wl, CP_SET_NEW);
    if (!set)
        return 0;
    int64_t n = wl->row.replica_count, taken = new ? nearest(new->goal, n) : 0;
    return set->goal.set ? nearest(set->goal, n) : n > taken ? n - taken : 0;
}

static int check_goals(const cp_rollout *r, int64_t new_goal, int64_t old, cp_error *err) {
    return cp_goals_check(r->wl->row.kind, r->wl->row.replica_count, r->dep->surge, r->dep->unavailable, new_goal, old,
                          err);
}

static cp_replica_set *set_of(cp_rollout *r, int role) {
    return cp_wl_set_by_role(r->wl, role);
}

static int begin_launch(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                        cp_error *err) {
    (void)command;
    (void)value;
    int64_t goal = cp_share_resolve(args->share, r->wl->row.replica_count, true), old = old_goal(r->wl);
    int failed = check_goals(r, goal, old, err);
    if (failed < 0)
        return failed;
    cp_replica_set *previous = set_of(r, CP_SET_OLD);
    if (previous && !previous->goal.set) /* a replace left it the rest; from now on it stays as it is */
        cp_rollout_goal(r->plane, previous, number(old));
    cp_rollout_goal(r->plane, set_of(r, CP_SET_NEW), args->share);
    return 0;
}

static int begin_replace(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                         cp_error *err) {
    (void)command;
    (void)value;
    int64_t n = r->wl->row.replica_count, goal = nearest(args->share, n);
    cp_share share = args->share;
    if (!share.percent && goal > n)
        share = number(goal = n); /* old keeps the rest, and there is none */
    int failed = check_goals(r, goal, n - goal, err);
    if (failed < 0)
        return failed;
    cp_rollout_goal(r->plane, set_of(r, CP_SET_NEW), share);
    cp_replica_set *old = set_of(r, CP_SET_OLD);
    if (old)
        cp_rollout_goal(r->plane, old, share.percent ? percent(100 - share.value) : (cp_share){0});
    return 0;
}

static int begin_retire(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                        cp_error *err) {
    (void)command;
    (void)value;
    cp_replica_set *new = set_of(r, CP_SET_NEW), *old = set_of(r, CP_SET_OLD);
    if (!old)
        return 0;
    int64_t n = r->wl->row.replica_count, new_goal = cp_share_resolve(new->goal, n, true), has = old_goal(r->wl);
    cp_share gives = args->share.set ? args->share : percent(100), left;
    if (gives.percent && old->goal.set && old->goal.percent)
        left = percent(old->goal.value > gives.value ? old->goal.value - gives.value : 0);
    else
        left = number(has > nearest(gives, n) ? has - nearest(gives, n) : 0);
    int failed = check_goals(r, new_goal, nearest(left, n), err);
    if (failed < 0)
        return failed;
    cp_rollout_goal(r->plane, old, left);
    return 0;
}

static int begin_finish(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                        cp_error *err) {
    (void)command;
    (void)args;
    (void)value;
    (void)err;
    cp_rollout_goal(r->plane, set_of(r, CP_SET_NEW), percent(100));
    for (size_t i = 0; i < r->wl->sets.count; i++) {
        cp_replica_set *set = r->wl->sets.items[i];
        if (set->role != CP_SET_NEW)
            cp_rollout_goal(r->plane, set, number(0));
    }
    return 0;
}

static json_t *reached(const cp_rollout *r) {
    return json_pack("{s:I, s:I, s:I}", "replicas", (json_int_t)r->wl->row.replica_count, "new",
                     (json_int_t)cp_rollout_count(r->wl, CP_SET_NEW)->goal, "old",
                     (json_int_t)cp_rollout_count(r->wl, CP_SET_OLD)->goal);
}

static int look_launch(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)command;
    (void)err;
    const cp_decide_count *new = cp_rollout_count(r->wl, CP_SET_NEW);
    if (new->available < new->goal)
        return 0;
    *value = reached(r);
    return 1;
}

static int look_replace(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)command;
    (void)err;
    const cp_decide_count *new = cp_rollout_count(r->wl, CP_SET_NEW), *old = cp_rollout_count(r->wl, CP_SET_OLD);
    if (new->available < new->goal || new->live > new->goal || old->live > old->goal)
        return 0;
    *value = reached(r);
    return 1;
}

static int look_retire(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)command;
    (void)err;
    const cp_decide_count *old = cp_rollout_count(r->wl, CP_SET_OLD);
    if (old->live > old->goal)
        return 0;
    *value = reached(r);
    return 1;
}

static int look_finish(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)command;
    (void)value;
    (void)err;
    return r->wl->last.reached;
}

/* Time. */

static int begin_sleep(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    (void)value;
    (void)err;
    cp_command_remember(command, "due", json_integer(cp_rollout_now(r) + (args->duration > 0 ? args->duration : 1)));
    return 0;
}

static bool is_due(const cp_rollout *r, const cp_command *command) {
    int64_t due = cp_command_recall(command, "due");
    return due && cp_rollout_now(r) >= due;
}

static int look_sleep(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)value;
    (void)err;
    return is_due(r, command);
}

static bool is_new(const cp_rollout *r, const cp_inst *inst) {
    return cp_streq(inst->row.release_id, r->dep->release_id) && inst->row.desired == CP_DESIRED_RUNNING;
}

static int begin_bake(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    json_t *restarts = json_object();
    for (size_t i = 0; i < r->wl->instances.count; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        if (is_new(r, inst))
            json_object_set_new(restarts, inst->row.id, json_integer(inst->row.restarts));
    }
    cp_command_remember(command, "restarts", restarts);
    cp_command_remember(command, "failures", json_integer(r->dep->failures));
    cp_command_remember(command, "max_unhealthy", json_integer(args->max_unhealthy));
    cp_command_remember(command, "max_restarts", json_integer(args->max_restarts));
    return begin_sleep(r, command, args, value, err);
}

/* Instances that were there when the bake began must stay healthy; one that scaling adds may start first. */
static int look_bake(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)value;
    const json_t *before = json_object_get(command->result, "restarts");
    int64_t unhealthy = 0, restarts = 0, may_fail = cp_command_recall(command, "max_unhealthy"),
            may_restart = cp_command_recall(command, "max_restarts");
    const cp_inst *worst = NULL;
    if (r->dep->failures < cp_command_recall(command, "failures")) /* a resume counts from none again */
        cp_command_remember(command, "failures", json_integer(0));
    unhealthy += r->dep->failures - cp_command_recall(command, "failures"); /* those are being replaced already */
    for (size_t i = 0; i < r->wl->instances.count; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        if (!is_new(r, inst))
            continue;
        const json_t *had = json_object_get(before, inst->row.id);
        int64_t more = inst->row.restarts - json_integer_value(had);
        bool ill = inst->failing || inst->row.state == CP_INSTANCE_FAILED || (had && !inst->row.ready);
        restarts += more > 0 ? more : 0;
        unhealthy += ill;
        if (ill || (more > 0 && !worst))
            worst = inst;
    }
    if (unhealthy > may_fail)
        return cp_fail(err, CP_E_HEALTH_CHECK_FAILED,
                       "%" PRId64 " of the new instances are unhealthy; the bake allows %" PRId64 ": %s%s%s", unhealthy,
                       may_fail, worst ? worst->row.name : "", worst ? ": " : "",
                       worst && !cp_is_empty(worst->row.message) ? worst->row.message
                       : worst                                   ? "not ready"
                       : r->dep->message                         ? r->dep->message
                                                                 : "it gave up");
    if (restarts > may_restart)
        return cp_fail(err, CP_E_HEALTH_CHECK_FAILED,
                       "the new instances restarted %" PRId64 " times; the bake allows %" PRId64 ": %s: %s", restarts,
                       may_restart, worst ? worst->row.name : "",
                       worst && worst->row.message ? worst->row.message : "");
    return is_due(r, command);
}

/* fn is asked when the status has changed, never polled; the journal keeps the status that satisfied it. */
static int look_wait_until(cp_rollout *r, cp_command *command, json_t **value, cp_error *err) {
    (void)command;
    if (!r->waiting)
        return 0; /* after a start the script is not there yet */
    cp_autojson json_t *status = cp_rollout_status(r->wl, r->dep);
    cp_autofree char *text = cp_json_text(status);
    if (cp_streq(r->tested, text))
        return 0;
    cp_set_string(&r->tested, text);
    int verdict = r->plane->scripts->class->test(r->run, status, err);
    if (verdict > 0)
        *value = json_incref(status);
    return verdict;
}

static int begin_wait(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    (void)command;
    (void)args;
    (void)value;
    (void)err;
    cp_set_string(&r->tested, NULL);
    return 0;
}

/* What people see. */

void cp_rollout_tell(cp_rollout *r, json_t *payload) {
    cp_plane_save_deployment(r->plane, r->dep);
    cp_plane_event(r->plane, "deploy.progress", NULL, r->wl, NULL, r->dep->id, payload);
}

static int begin_log(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    (void)command;
    (void)value;
    (void)err;
    cp_set_string(&r->dep->message, args->text);
    json_t *payload = json_pack("{s:s}", "log", args->text ? args->text : "");
    if (args->fields)
        json_object_set(payload, "fields", args->fields);
    cp_rollout_tell(r, payload);
    return 0;
}

static int begin_phase(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    (void)command;
    (void)value;
    (void)err;
    cp_set_string(&r->dep->phase, args->name);
    cp_rollout_tell(r, json_pack("{s:s}", "phase", args->name));
    return 0;
}

static int begin_progress(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                          cp_error *err) {
    (void)command;
    (void)value;
    (void)err;
    r->dep->percent = args->percent;
    if (!cp_is_empty(args->text))
        cp_set_string(&r->dep->message, args->text);
    cp_rollout_tell(r, json_pack("{s:f, s:s}", "percent", args->percent, "message", args->text ? args->text : ""));
    return 0;
}

static int begin_fail(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err) {
    (void)command;
    (void)r;
    (void)err;
    *value = json_string(args->reason ? args->reason : "the strategy said so");
    return 0;
}

/* Looks at the world that are journaled: a replay sees what the run saw. */

static json_t *one_set(const cp_wl *wl, int role) {
    const cp_decide_count *count = cp_rollout_count(wl, role);
    const cp_replica_set *set = cp_wl_set_by_role((cp_wl *)wl, role);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "goal", (json_int_t)count->goal, "live", (json_int_t)count->live,
                     "ready", (json_int_t)count->ready, "available", (json_int_t)count->available, "healthy",
                     (json_int_t)count->healthy, "weight", set ? set->weight : 0.0);
}

json_t *cp_rollout_status(const cp_wl *wl, const cp_deployment *dep) {
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "replicas", (json_int_t)wl->row.replica_count, "failures",
                     (json_int_t)dep->failures, "new", one_set(wl, CP_SET_NEW), "old", one_set(wl, CP_SET_OLD),
                     "abandoned", one_set(wl, CP_SET_ABANDONED));
}

static json_t *instances(const cp_rollout *r, int role) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->wl->instances.count; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        const cp_replica_set *set = cp_wl_set(r->wl, inst->row.release_id);
        if (role >= 0 && (!set || set->role != role))
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:s, s:b, s:b, s:I, s:s}", "id", inst->row.id, "name",
                                              inst->row.name, "replica_index", (json_int_t)inst->row.replica_index,
                                              "state", cp_instance_states[inst->row.state], "ready", inst->row.ready,
                                              "available", inst->available, "restarts", (json_int_t)inst->row.restarts,
                                              "set", cp_set_roles[set ? set->role : CP_SET_ABANDONED]));
    }
    return list;
}

static int begin_status(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                        cp_error *err) {
    (void)command;
    (void)args;
    (void)err;
    *value = cp_rollout_status(r->wl, r->dep);
    return 0;
}

static int begin_replicas(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                          cp_error *err) {
    (void)command;
    (void)args;
    (void)err;
    *value = json_integer(r->wl->row.replica_count);
    return 0;
}

static int begin_instances(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value,
                           cp_error *err) {
    (void)command;
    int role = -1;
    for (int i = 0; args->set && cp_set_roles[i]; i++)
        if (strcmp(cp_set_roles[i], args->set) == 0)
            role = i;
    if (args->set && role < 0)
        return cp_fail_at(err, CP_E_INVALID, "set", NULL, "set is '%.40s'; it must be new, old or abandoned",
                          args->set);
    *value = instances(r, role);
    return 0;
}

static const cp_command_kind KINDS[] = {
    {"launch", &share_desc, begin_launch, look_launch, true},
    {"replace", &share_desc, begin_replace, look_replace, true},
    {"retire", &retire_desc, begin_retire, look_retire, true},
    {"finish", &wait_desc, begin_finish, look_finish, true},
    {"bake", &bake_desc, begin_bake, look_bake, false},
    {"sleep", &sleep_desc, begin_sleep, look_sleep, false},
    {"wait_until", &wait_desc, begin_wait, look_wait_until, true},
    {"log", &log_desc, begin_log, NULL, false},
    {"phase", &phase_desc, begin_phase, NULL, false},
    {"progress", &progress_desc, begin_progress, NULL, false},
    {"fail", &fail_desc, begin_fail, NULL, false},
    {"status", &none_desc, begin_status, NULL, false},
    {"replicas", &none_desc, begin_replicas, NULL, false},
    {"instances", &instances_desc, begin_instances, NULL, false},
};

const cp_command_kind *cp_command_find(const char *name) {
    for (size_t i = 0; i < CP_COUNT(KINDS); i++)
        if (strcmp(KINDS[i].name, name) == 0)
            return &KINDS[i];
    return NULL;
}
