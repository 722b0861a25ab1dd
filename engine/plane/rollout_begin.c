/* engine/plane/rollout_begin.c -- What a deploy means and whether it may: strategy, parameters, guards, what it
 * replaces; then its first rows. Everything is checked before anything is written. Must not know how a rollout goes on.
 */
#include "plane/rollout.h"

#include "base/id.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const ON_FAILURE[] = {"rollback", "pause", "fail", NULL};

#define FIELD(member, kind, ...)                                                                                       \
    { .name = #member, .type = kind, .offset = offsetof(cp_deploy_args, member), __VA_ARGS__ }
static const cp_field deploy_fields[] = {
    FIELD(services, CP_LIST, .desc = &cp_service_deploy_desc, .max = CP_MAX_SERVICES,
          .doc = "the services that change, and what of them; the rest stays"),
    FIELD(release_id, CP_STRING, .doc = "an earlier release to roll out again, instead of services"),
    FIELD(strategy, CP_STRING, .max = 4096, .fallback = "rolling", .doc = "its name, or a path to its file"),
    FIELD(params, CP_JSON, .doc = "the strategy's own parameters"),
    FIELD(surge, CP_SHARE, .fallback = "25%", .doc = "instances above the replica count, at most"),
    FIELD(unavailable, CP_SHARE, .fallback = "0", .doc = "instances below it that may be unavailable by our own act"),
    FIELD(min_ready, CP_DURATION, .max = CP_MAX_DURATION_MS, .fallback = "0s",
          .doc = "how long an instance is ready before it counts as available"),
    FIELD(progress_deadline, CP_DURATION, .min = -1, .max = CP_MAX_DURATION_MS, .fallback = "10m",
          .doc = "time without progress that fails it; \"none\": never"),
    FIELD(on_failure, CP_ENUM, .values = ON_FAILURE, .fallback = "rollback",
          .doc = "rollback, pause, or fail and stay"),
    FIELD(max_failures, CP_INT, .min = 0, .max = 1000000, .fallback = "0", .doc = "new instances that may give up"),
    FIELD(supersede, CP_STRING, .max = 16, .fallback = "reject",
          .doc = "a rollout under way: reject this one, or replace that one"),
    FIELD(notes, CP_STRING, .max = 4096, .doc = "what changes, as people say it"),
    FIELD(commit_sha, CP_STRING, .max = 64, .doc = "the commit it was built from"),
    FIELD(source, CP_STRING, .max = CP_MAX_SCRIPT, .doc = "a strategy's source text; strategy is then only its name"),
    FIELD(files, CP_MAP, .max = CP_MAX_SCRIPT_FILES,
          .doc = "with source: what it requires, such as { \"steps.lua\" = its source text }"),
    FIELD(wait, CP_DURATION, .max = CP_MAX_DURATION_MS, .doc = "answer when settled, or when this has passed"),
};

static void deploy_init(void *object) {
    cp_deploy_args *args = object;
    args->progress_deadline = 600000;
}

const cp_desc cp_deploy_args_desc = {.name = "deploy",
                                     .size = sizeof(cp_deploy_args),
                                     .fields = deploy_fields,
                                     .count = CP_COUNT(deploy_fields),
                                     .present = offsetof(cp_deploy_args, present),
                                     .init = deploy_init,
                                     .doc = "what to roll out, and how"};

/* A deploy as it was understood. */
typedef struct plan {
    cp_strategy *strategy;
    json_t *params;
    cp_share surge, unavailable;
    int64_t min_ready, progress_deadline, max_failures;
    int on_failure;
} plan;

static void plan_clear(plan *p) {
    cp_strategy_free(p->strategy);
    json_decref(p->params);
}
#define autoplan CP_CLEANUP(plan_clear)

static cp_deployment *newest(const cp_wl *wl) {
    return wl->deployments.count ? wl->deployments.items[wl->deployments.count - 1] : NULL;
}

static bool never_good(const cp_wl *wl) {
    return cp_is_empty(wl->row.current_release_id);
}

static bool is_current(const cp_wl *wl, const char *release_id) {
    return !cp_is_empty(release_id) && cp_streq(release_id, wl->row.current_release_id);
}

/* What a deploy over a rollout under way comes to. */
static int check_supersede(const cp_wl *wl, const char *release_id, const cp_deploy_args *args, cp_error *err) {
    static const char *const WORDS[] = {"reject", "replace", "queue"};
    const char *word = cp_is_empty(args->supersede) ? "reject" : args->supersede;
    bool known = false;
    for (size_t i = 0; i < CP_COUNT(WORDS); i++)
        known = known || strcmp(WORDS[i], word) == 0;
    if (!known) {
        const char *near = cp_nearest(word, WORDS, CP_COUNT(WORDS));
        cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
        return cp_fail_at(err, CP_E_INVALID, "supersede", hint, "supersede is '%s'; it must be reject or replace",
                          word);
    }
    if (strcmp(word, "queue") == 0)
        return cp_fail_at(err, CP_E_UNSUPPORTED, "supersede", NULL,
                          "supersede = queue is not supported; use reject or replace");
    const cp_deployment *dep = newest(wl);
    if (!dep || cp_deployment_is_final(dep->state) || strcmp(word, "replace") == 0 || is_current(wl, release_id))
        return 0;
    bool failed = dep->state == CP_DEPLOYMENT_PAUSED && dep->error && cp_is_empty(dep->held_by);
    if (never_good(wl) || failed)
        return 0; /* what has failed, or was the first, is no reason to wait */
    return cp_fail_at(err, CP_E_CONFLICT, "supersede", "wait for it, abort it, or deploy with supersede = \"replace\"",
                      "deployment %s of workload %s is %s", dep->id, wl->row.slug, cp_deployment_states[dep->state]);
}

/* Guards: the request, else the strategy's, else those of the workload's kind. */

static int strategy_guards(const cp_strategy *strategy, cp_deploy_args *ret, cp_error *err) {
    static const char *const GUARDS[] = {"surge",      "unavailable", "min_ready", "progress_deadline",
                                         "on_failure", "max_failures"};
    const char *key;
    json_t *value;
    json_object_foreach(strategy->guards, key, value) {
        bool known = false;
        for (size_t i = 0; i < CP_COUNT(GUARDS); i++)
            known = known || strcmp(GUARDS[i], key) == 0;
        const cp_field *field = cp_desc_field(&cp_deploy_args_desc, key);
        const char *near = known ? NULL : cp_nearest(key, GUARDS, CP_COUNT(GUARDS));
        cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
        cp_autofree char *path = cp_printf("guards.%.60s", key);
        if (!known)
            return cp_fail_at(err, CP_E_INVALID, path, hint, "strategy %s has an unknown guard '%.60s'", strategy->name,
                              key);
        int r = cp_field_parse(field, value, ret, path, err);
        if (r < 0)
            return cp_error_wrap(err, "strategy %s", strategy->name);
        ret->present |= UINT64_C(1) << (field - cp_deploy_args_desc.fields);
    }
    return 0;
}

static bool given(const cp_deploy_args *args, const char *field) {
    return cp_desc_has(&cp_deploy_args_desc, args, field);
}

#define PICK(member, fallback)                                                                                         \
    p->member = given(args, #member) ? args->member : given(&theirs, #member) ? theirs.member : (fallback)

/* More than one unavailable, or any surge, is not what a stateful_set can do. */
static int check_stateful(const cp_wl *wl, const plan *p, bool asked_surge, bool asked_unavailable, cp_error *err) {
    int64_t n = wl->row.replica_count, surge = cp_share_resolve(p->surge, n, true),
            unavailable = cp_share_resolve(p->unavailable, n, false);
    const char *who = asked_surge || asked_unavailable ? "the request" : p->strategy->name;
    if (surge > 0)
        return cp_fail_at(err, CP_E_UNSUPPORTED, "surge", NULL,
                          "%s wants a surge of %" PRId64 "; a stateful_set never has more than its replicas", who,
                          surge);
    if (unavailable > 1)
        return cp_fail_at(err, CP_E_UNSUPPORTED, "unavailable", NULL,
                          "%s wants %" PRId64 " unavailable; a stateful_set changes one replica at a time", who,
                          unavailable);
    return 0;
}

static int resolve_guards(const cp_wl *wl, const cp_list *services, const cp_deploy_args *args, plan *p,
                          cp_error *err) {
    cp_deploy_args theirs;
    cp_desc_init(&cp_deploy_args_desc, &theirs);
    int r = strategy_guards(p->strategy, &theirs, err);
    bool fixed = services && cp_services_fixed_port(services), stateful = wl->row.kind == CP_KIND_STATEFUL_SET;
    cp_share none = {.set = true}, one = {.set = true, .value = 1},
             quarter = {.set = true, .percent = true, .value = 25};
    PICK(surge, fixed || stateful ? none : quarter);
    PICK(unavailable, fixed || stateful ? one : none);
    PICK(min_ready, 0);
    PICK(progress_deadline, 600000);
    PICK(on_failure, CP_ON_FAILURE_ROLLBACK);
    PICK(max_failures, 0);
    bool surges = given(args, "surge") || given(&theirs, "surge"),
         gaps = given(args, "unavailable") || given(&theirs, "unavailable");
    if (r == 0 && stateful && (surges || gaps))
        r = check_stateful(wl, p, given(args, "surge"), given(args, "unavailable"), err);
    if (r == 0 && fixed && p->surge.value > 0)
        r = cp_fail_at(
            err, CP_E_INVALID, "surge", NULL,
            "surge is above 0, but a port has a fixed host port, which one instance only can have; surge must be 0");
    cp_desc_clear(&cp_deploy_args_desc, &theirs);
    return r;
}

static int load_strategy(cp_plane *plane, const cp_deploy_args *args, cp_strategy **ret, cp_error *err) {
    const cp_script_class *class = plane->scripts->class;
    if (!cp_is_empty(args->source))
        return class->load_text(plane->scripts, cp_is_empty(args->strategy) ? "strategy" : args->strategy, args->source,
                                &args->files, ret, err);
    if (args->files.count)
        return cp_fail_at(err, CP_E_INVALID, "files", "give the source that requires them",
                          "files is given without source");
    return class->load(plane->scripts, cp_is_empty(args->strategy) ? "rolling" : args->strategy, ret, err);
}

static int check_needs(const cp_wl *wl, const cp_strategy *strategy, cp_error *err) {
    size_t i;
    const json_t *need;
    json_array_foreach(strategy->needs, i, need) return cp_fail_at(
        err, CP_E_UNSUPPORTED, "strategy", NULL, "strategy %s needs a %s, which workload %s does not have",
        strategy->name, json_is_string(need) ? json_string_value(need) : "thing", wl->row.slug);
    return 0;
}

/* The strategy as asked for is checked even where `initial` runs instead. */
static int make_plan(cp_plane *plane, cp_wl *wl, const cp_list *services, const char *release_id,
                     const cp_deploy_args *args, plan *p, cp_error *err) {
    int r = cp_workload_refuse_deleted(wl, "deploy", err);
    if (r == 0 && wl->row.state == CP_WORKLOAD_PAUSED)
        r = cp_fail(err, CP_E_INVALID_STATE, "workload %s is paused; deploy needs it resumed", wl->row.slug);
    if (r == 0)
        r = check_supersede(wl, release_id, args, err);
    if (r == 0)
        r = load_strategy(plane, args, &p->strategy, err);
    if (r == 0)
        r = check_needs(wl, p->strategy, err);
    if (r == 0)
        r = plane->scripts->class->params(plane->scripts, p->strategy, args->params, &p->params, err);
    if (r < 0)
        return r;
    if (never_good(wl) || is_current(wl, release_id)) { /* nothing to protect, or the fast way back: no steps */
        cp_strategy_free(p->strategy);
        json_decref(p->params);
        p->strategy = NULL;
        p->params = json_object();
        r = plane->scripts->class->load(plane->scripts, "initial", &p->strategy, err);
    }
    return r < 0 ? r : resolve_guards(wl, services, args, p, err);
}

int cp_rollout_check(cp_plane *plane, cp_wl *wl, const cp_deploy_args *args, cp_error *err) {
    autoplan plan p = {0};
    const cp_rel *rel = cp_wl_release(wl, args->release_id);
    const cp_list *services = rel ? &rel->row.services : &wl->row.services; /* a deploy changes no ports */
    return make_plan(plane, wl, services, args->release_id, args, &p, err);
}

/* Every replica runs it already, and nothing is under way. */
static bool is_running_already(const cp_wl *wl, const cp_rel *release) {
    const cp_deployment *dep = newest(wl);
    if (!is_current(wl, release->row.id) || !dep || !cp_deployment_is_final(dep->state) || dep->holding)
        return false;
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        if (inst->row.desired == CP_DESIRED_RUNNING && !cp_streq(inst->row.release_id, release->row.id))
            return false;
    }
    return true;
}

/* Rows. */

static void supersede(cp_wl *wl, const char *by, const char *subject) {
    cp_rollout *r = wl->rollout;
    free(r->dep->message);
    r->dep->message = cp_printf("superseded by %s", by);
    cp_rollout_finish(r, CP_DEPLOYMENT_CANCELLED, NULL, "deploy.cancelled", subject);
}

static int64_t live_of(const cp_wl *wl, const char *release_id) {
    int64_t live = 0;
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        live += inst->row.desired == CP_DESIRED_RUNNING && cp_streq(inst->row.release_id, release_id);
    }
    return live;
}

/* old = 100%, new = 0, abandoned = 0, all weight on old. Where new is the last good release it has all of it at once;
 * where it has instances already (a retry, the same release again) they stay until the first command. */
static void set_roles(cp_plane *plane, cp_wl *wl, const cp_rel *release) {
    static const cp_share ALL = {.set = true, .percent = true, .value = 100}, NONE = {.set = true};
    const char *current = wl->row.current_release_id;
    bool back = is_current(wl, release->row.id);
    int64_t n = wl->row.replica_count, live = live_of(wl, release->row.id);
    if (!never_good(wl) && !back)
        cp_wl_set_make(plane, wl, current, CP_SET_OLD);
    cp_wl_set_make(plane, wl, release->row.id, CP_SET_NEW);
    for (size_t i = 0; i < wl->sets.count; i++) {
        cp_replica_set *set = wl->sets.items[i];
        bool new = cp_streq(set->release_id, release->row.id), old = !back &&is_current(wl, set->release_id);
        cp_share goal = NONE;
        if (new)
            goal = back ? ALL : (cp_share){.set = true, .value = (double)(live < n ? live : n)};
        else if (old)
            goal = live > 0 ? (cp_share){0} : ALL; /* unset: what new leaves */
        set->role = new ? CP_SET_NEW : old ? CP_SET_OLD : CP_SET_ABANDONED;
        set->held = -1;
        set->weight = old || (new &&back) ? 100 : 0;
        cp_rollout_goal(plane, set, goal);
    }
}

static json_t *release_field(const cp_rel *rel) {
    json_t *field = json_pack("{s:s, s:I}", "id", rel->row.id, "version", (json_int_t)rel->row.version);
    if (!cp_is_empty(rel->row.notes))
        json_object_set_new(field, "notes", json_string(rel->row.notes));
    if (!cp_is_empty(rel->row.commit_sha))
        json_object_set_new(field, "commit_sha", json_string(rel->row.commit_sha));
    return field;
}

/* The plain fields of `rollout`, journaled as line 0: a replay has to see the same. */
static json_t *script_fields(const cp_wl *wl, const cp_deployment *dep, const cp_rel *release) {
    json_t *fields = json_object(), *guards = json_object();
    static const char *const GUARDS[] = {"surge",      "unavailable", "min_ready", "progress_deadline",
                                         "on_failure", "max_failures"};
    for (size_t i = 0; i < CP_COUNT(GUARDS); i++) {
        json_t *value = cp_field_json(cp_desc_field(&cp_deployment_desc, GUARDS[i]), dep);
        if (value)
            json_object_set_new(guards, GUARDS[i], value);
    }
    json_object_set_new(fields, "id", json_string(dep->id));
    json_object_set(fields, "params", dep->params);
    json_object_set_new(fields, "guards", guards);
    json_t *labels = cp_field_json(cp_desc_field(&cp_workload_desc, "labels"), &wl->row);
    json_object_set_new(fields, "workload",
                        json_pack("{s:s, s:s, s:s, s:s, s:I, s:o*}", "id", wl->row.id, "name", wl->row.name, "slug",
                                  wl->row.slug, "kind", cp_kinds[wl->row.kind], "replicas",
                                  (json_int_t)wl->row.replica_count, "labels", labels));
    json_object_set_new(fields, "release", release_field(release));
    const cp_rel *previous = cp_wl_release((cp_wl *)wl, wl->row.current_release_id);
    if (previous)
        json_object_set_new(fields, "previous", release_field(previous));
    return fields;
}

static json_t *asked_services(const cp_deploy_args *args) {
    if (!args || args->services.count == 0)
        return NULL;
    json_t *all = cp_desc_json(&cp_deploy_args_desc, args);
    json_t *services = json_incref(json_object_get(all, "services"));
    json_decref(all);
    return services;
}

static cp_deployment *new_deployment(cp_plane *plane, cp_wl *wl, const cp_rel *release, const plan *p,
                                     const char *subject) {
    cp_deployment row = {
        .id = cp_id_new("dep", cp_plane_now(plane)),
        .created_at = cp_plane_now(plane),
        .started_at = cp_plane_now(plane),
        .tenant_id = cp_strdup(wl->row.tenant_id),
        .workload_id = cp_strdup(wl->row.id),
        .release_id = cp_strdup(release->row.id),
        .previous_release_id = cp_strdup(wl->row.current_release_id),
        .state = CP_DEPLOYMENT_RUNNING,
        .strategy = cp_strdup(p->strategy->name),
        .strategy_hash = cp_strdup(p->strategy->hash),
        .params = json_incref(p->params),
        .surge = p->surge,
        .unavailable = p->unavailable,
        .min_ready = p->min_ready,
        .progress_deadline = p->progress_deadline,
        .on_failure = p->on_failure,
        .max_failures = p->max_failures,
        .initiator = cp_strdup(subject),
        .progress_at = cp_plane_time(plane),
        .least_old = INT64_MAX,
    };
    for (size_t i = 0; i < release->row.services.count; i++)
        cp_map_set(&row.service_progress, CP_LIST_AT(&release->row.services, cp_service, i)->name, "pending");
    return cp_plane_add_deployment(plane, wl, &row);
}

/* The source is pinned: this rollout runs it, whatever becomes of the file. */
static void pin(cp_plane *plane, const cp_strategy *strategy) {
    cp_script_row row = {.id = strategy->hash,
                         .created_at = cp_plane_now(plane),
                         .updated_at = cp_plane_now(plane),
                         .bundle = strategy->bundle};
    cp_plane_save(plane, &cp_script_row_desc, &row); /* everything in row is lent */
}

static int begin(cp_plane *plane, cp_wl *wl, cp_rel *release, plan *p, json_t *services, const char *notes,
                 const char *subject, cp_deployment **ret, cp_error *err) {
    cp_deployment *before = newest(wl);
    cp_deployment *dep = new_deployment(plane, wl, release, p, subject);
    dep->services = services;
    cp_set_string(&dep->notes, notes);
    if (wl->rollout) {
        cp_set_string(&dep->replaces, wl->rollout->dep->id);
        supersede(wl, dep->id, subject);
    }
    if (before && before->holding) {
        before->holding = false;
        cp_plane_save_deployment(plane, before);
    }
    cp_rollout *r = cp_rollout_make(plane, wl, dep);
    r->strategy = cp_take(p->strategy);
    pin(plane, r->strategy);
    cp_autojson json_t *fields = script_fields(wl, dep, release);
    cp_command *start;
    int failed = cp_journal_add(r, "start", fields, "", &start, err);
    if (failed == 0) {
        cp_journal_done(r, start, NULL, NULL);
        failed = cp_rollout_start(r, err);
    }
    if (failed < 0)
        return failed; /* something was written: the turn is given up */
    set_roles(plane, wl, release);
    if (wl->row.state != CP_WORKLOAD_PROVISIONING || before)
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_DEPLOYING);
    cp_set_string(&wl->row.message, NULL);
    cp_plane_save_workload(plane, wl);
    cp_plane_save_deployment(plane, dep);
    cp_plane_event(plane, "deploy.started", subject, wl, NULL, dep->id,
                   json_pack("{s:s, s:s, s:I}", "strategy", dep->strategy, "release_id", release->row.id, "version",
                             (json_int_t)release->row.version));
    cp_plane_dirty(plane, wl);
    cp_plane_crash(plane, "rollout_begin");
    *ret = dep;
    return 0;
}

int cp_rollout_begin(cp_plane *plane, cp_wl *wl, cp_rel *release, const cp_deploy_args *args, const cp_claims *claims,
                     cp_deployment **ret, cp_error *err) {
    *ret = NULL;
    autoplan plan p = {0};
    int r = make_plan(plane, wl, &release->row.services, release->row.id, args, &p, err);
    if (r < 0 || is_running_already(wl, release))
        return r;
    return begin(plane, wl, release, &p, asked_services(args), args->notes, claims ? claims->subject : NULL, ret, err);
}

/* The same release, strategy, parameters and guards once more; the source as it was pinned. */
int cp_rollout_retry(cp_plane *plane, cp_wl *wl, const cp_deployment *of, const char *subject, cp_deployment **ret,
                     cp_error *err) {
    *ret = NULL;
    cp_rel *release = cp_wl_release(wl, of->release_id);
    if (!release)
        return cp_fail(err, CP_E_NOT_FOUND, "release %s of %s is not kept any more; deploy its services again",
                       of->release_id, of->id);
    cp_script_row row = {0};
    autoplan plan p = {.params = json_incref(of->params),
                       .surge = of->surge,
                       .unavailable = of->unavailable,
                       .min_ready = of->min_ready,
                       .progress_deadline = of->progress_deadline,
                       .on_failure = of->on_failure,
                       .max_failures = of->max_failures};
    int r = cp_workload_refuse_deleted(wl, "retry", err);
    if (r == 0 && wl->row.state == CP_WORKLOAD_PAUSED)
        r = cp_fail(err, CP_E_INVALID_STATE, "workload %s is paused; retry needs it resumed", wl->row.slug);
    if (r == 0 && is_running_already(wl, release))
        r = cp_fail(err, CP_E_INVALID_STATE, "every replica of %s runs release %" PRId64 " already", wl->row.slug,
                    release->row.version);
    if (r == 0 && (never_good(wl) || is_current(wl, release->row.id))) {
        r = plane->scripts->class->load(plane->scripts, "initial", &p.strategy, err);
    } else if (r == 0) {
        r = cp_store_get(plane->store, &cp_script_row_desc, of->strategy_hash, &row, err);
        if (r == 0)
            r = plane->scripts->class->load_bundle(plane->scripts, row.bundle, &p.strategy, err);
        cp_desc_clear(&cp_script_row_desc, &row);
    }
    if (r < 0)
        return r;
    return begin(plane, wl, release, &p, json_incref(of->services), of->notes, subject, ret, err);
}
