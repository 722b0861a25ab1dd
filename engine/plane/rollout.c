/* engine/plane/rollout.c -- A rollout's life: the script's start, what a pass does to it, pause, the way back, its
 * ends. The way back is goals in rows like any other, set here at once, so it works whatever became of the script. Must
 * not know what single commands mean. */
#include "plane/rollout.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t cp_rollout_now(const cp_rollout *r) {
    return cp_plane_time(r->plane);
}

const cp_decide_count *cp_rollout_count(const cp_wl *wl, int role) {
    static const cp_decide_count NONE;
    for (size_t i = 0; i < wl->last.sets.count; i++)
        if (CP_LIST_AT(&wl->last.sets, cp_decide_count, i)->role == role)
            return CP_LIST_AT(&wl->last.sets, cp_decide_count, i);
    return &NONE;
}

static cp_deployment *newest(const cp_wl *wl) {
    return wl->deployments.count ? wl->deployments.items[wl->deployments.count - 1] : NULL;
}

bool cp_rollout_active(const cp_wl *wl) {
    const cp_deployment *dep = newest(wl);
    return dep && !cp_deployment_is_final(dep->state);
}

bool cp_rollout_rounds_up(const cp_wl *wl, const cp_replica_set *set) {
    const cp_rollout *r = wl->rollout;
    if (!r || set->role != CP_SET_NEW || r->dep->rolling_back)
        return false;
    for (size_t i = r->journal.count; i-- > 1;) {
        const cp_command *command = r->journal.items[i];
        if (json_object_get(command->result, "error"))
            continue;
        if (strcmp(command->name, "launch") == 0)
            return true;
        if (strcmp(command->name, "replace") == 0 || strcmp(command->name, "finish") == 0)
            return false;
    }
    return false;
}

static void default_guards(const cp_wl *wl, cp_share *surge, cp_share *unavailable) {
    const cp_rel *rel = cp_workload_target(wl);
    bool fixed = rel && cp_services_fixed_port(&rel->row.services);
    *surge = (cp_share){.set = true, .percent = !fixed, .value = fixed ? 0 : 25};
    *unavailable = (cp_share){.set = true, .value = fixed ? 1 : 0};
}

void cp_rollout_guards(cp_wl *wl, cp_share *surge, cp_share *unavailable, int64_t *min_ready, bool *holding,
                       bool *returning) {
    const cp_deployment *dep = newest(wl);
    *holding = dep && dep->holding;
    *returning = dep && dep->rolling_back && dep->state == CP_DEPLOYMENT_RUNNING;
    if (dep && (dep->holding || !cp_deployment_is_final(dep->state))) {
        *surge = dep->surge;
        *unavailable = dep->unavailable;
        *min_ready = dep->min_ready;
        return;
    }
    default_guards(wl, surge, unavailable);
    *min_ready = 0;
}

void cp_rollout_goal(cp_plane *plane, cp_replica_set *set, cp_share goal) {
    set->goal = goal;
    cp_plane_save_set(plane, set);
}

/* The script. */

static void drop_script(cp_rollout *r) {
    r->plane->scripts->class->stop(r->run);
    r->run = NULL;
    r->waiting = false;
}

static void on_ended(void *rollout, const cp_error *err) {
    cp_rollout *r = rollout;
    if (cp_plane_stopped(r->plane))
        return;
    cp_autoerror cp_error why = {0};
    if (err)
        cp_error_copy(&why, err);
    else
        cp_fail(&why, CP_E_INTERNAL, "the script of %s ended before its rollout", r->dep->id);
    if (why.code == CP_E_NONDETERMINISM) { /* nobody knows what the script would do now: a person decides */
        drop_script(r);                    /* the journal stays as it is: a replay may agree with it again */
        cp_rollout_hold(r, NULL, &why, NULL);
        return;
    }
    cp_rollout_stop_script(r, NULL);
    cp_rollout_fail(r, &why);
}

int cp_rollout_start(cp_rollout *r, cp_error *err) {
    static const cp_script_callbacks CALLBACKS = {
        .command = cp_rollout_command, .query = cp_rollout_query, .ended = on_ended};
    if (!r->journal.count)
        return cp_fail(err, CP_E_INTERNAL, "the journal of %s cannot be read", r->dep->id);
    const cp_command *start = r->journal.items[0];
    r->waiting = false;
    return r->plane->scripts->class->start(r->plane->scripts, r->strategy, start->args, r->dep->id, start->done_wall,
                                           &CALLBACKS, r, &r->run, err);
}

void cp_rollout_stop_script(cp_rollout *r, const char *reason) {
    if (r->pending) {
        cp_autoerror cp_error why = {0};
        cp_fail(&why, CP_E_CANCELLED, "%s", reason ? reason : "the script ended");
        cp_journal_done(r, r->pending, NULL, &why);
    }
    drop_script(r);
}

cp_rollout *cp_rollout_make(cp_plane *plane, cp_wl *wl, cp_deployment *dep) {
    cp_rollout *r = cp_new0(cp_rollout);
    *r = (cp_rollout){.plane = plane, .wl = wl, .dep = dep};
    wl->rollout = r;
    return r;
}

void cp_rollout_free(cp_rollout *r) {
    if (!r)
        return;
    r->plane->scripts->class->stop(r->run);
    cp_strategy_free(r->strategy);
    cp_journal_clear(r);
    cp_rollout_forget_since(r);
    free(r->tested);
    if (r->wl->rollout == r)
        r->wl->rollout = NULL;
    free(r);
}

void cp_rollout_drop(cp_wl *wl) {
    cp_rollout_free(wl->rollout);
}

/* The script has ended in a way that no resume can mend. */
static bool script_is_dead(const cp_rollout *r) {
    if (r->dep->rolling_back)
        return true;
    const char *code = json_string_value(json_object_get(r->dep->error, "code"));
    return code && !r->pending && strcmp(code, "nondeterminism") != 0 && strcmp(code, "unsupported") != 0;
}

static int load_script(cp_rollout *r, cp_error *err) {
    cp_script_row row = {0};
    int failed = cp_store_get(r->plane->store, &cp_script_row_desc, r->dep->strategy_hash, &row, err);
    if (failed < 0)
        return failed;
    failed = r->plane->scripts->class->load_bundle(r->plane->scripts, row.bundle, &r->strategy, err);
    cp_desc_clear(&cp_script_row_desc, &row);
    return failed < 0 ? failed : cp_rollout_start(r, err);
}

void cp_rollout_load(cp_plane *plane, cp_wl *wl) {
    if (!cp_rollout_active(wl))
        return;
    cp_rollout *r = cp_rollout_make(plane, wl, newest(wl));
    cp_journal_load(r);
    if (script_is_dead(r))
        return;
    cp_autoerror cp_error err = {0};
    if (load_script(r, &err) == 0)
        return;
    /* Another version of the engine may run it: nothing of it is touched until somebody decides. */
    cp_log(CP_LOG_ERROR, "the strategy of %s does not start: %s", r->dep->id, err.message);
    if (r->dep->state == CP_DEPLOYMENT_RUNNING)
        cp_rollout_hold(r, NULL, &err, NULL);
}

/* Ends. */

static void set_error(cp_deployment *dep, const cp_error *why) {
    json_decref(dep->error);
    dep->error = why ? cp_error_json(why) : NULL;
    const char *where = why ? json_string_value(json_object_get(why->details, "where")) : NULL;
    if (!why)
        return;
    free(dep->message);
    dep->message =
        where && !strstr(why->message, where) ? cp_printf("%s: %s", where, why->message) : cp_strdup(why->message);
}

void cp_rollout_services(cp_rollout *r, const char *state) {
    const cp_rel *rel = cp_wl_release(r->wl, r->dep->release_id);
    for (size_t i = 0; rel && i < rel->row.services.count; i++)
        cp_map_set(&r->dep->service_progress, CP_LIST_AT(&rel->row.services, cp_service, i)->name, state);
}

static void set_state(cp_rollout *r, int state) {
    cp_autoerror cp_error err = {0};
    if (cp_deployment_validate_transition(r->dep->state, state, &err) < 0)
        cp_log(CP_LOG_ERROR, "%s: %s", r->dep->id, err.message);
    r->dep->state = state;
}

/* Without a release that was ever good a workload whose rollout ended badly is failed. */
static void settle_workload(cp_rollout *r, bool well) {
    cp_wl *wl = r->wl;
    if (wl->row.state == CP_WORKLOAD_PAUSED || cp_wl_deleted(wl))
        return;
    bool failed = !well && cp_is_empty(wl->row.current_release_id);
    cp_set_string(&wl->row.message, well ? NULL : r->dep->message);
    int state = failed ? CP_WORKLOAD_FAILED : CP_WORKLOAD_ACTIVE;
    cp_plane_set_workload_state(r->plane, wl, state);
    if (failed)
        cp_plane_event(r->plane, "workload.failed", NULL, wl, NULL, r->dep->id,
                       json_pack("{s:s}", "message", r->dep->message ? r->dep->message : ""));
}

static json_t *outcome(const cp_deployment *dep) {
    json_t *payload = json_pack("{s:s, s:s}", "state", cp_deployment_states[dep->state], "release_id", dep->release_id);
    if (dep->message)
        json_object_set_new(payload, "message", json_string(dep->message));
    if (dep->error)
        json_object_set(payload, "error", dep->error);
    return payload;
}

void cp_rollout_finish(cp_rollout *r, int state, const cp_error *why, const char *event, const char *actor) {
    cp_plane *plane = r->plane;
    cp_wl *wl = r->wl;
    cp_deployment *dep = r->dep;
    cp_rollout_stop_script(r, why ? why->message : "the rollout ended");
    if (why)
        set_error(dep, why);
    set_state(r, state);
    dep->finished_at = cp_plane_now(plane);
    dep->resume_after_pause = false;
    cp_set_string(&dep->held_by, NULL);
    cp_set_string(&dep->awaiting, NULL);
    cp_set_string(&dep->phase, NULL);
    cp_plane_save_deployment(plane, dep);
    cp_plane_event(plane, event, actor, wl, NULL, dep->id, outcome(dep));
    cp_rollout_free(r);
    cp_plane_dirty(plane, wl);
    cp_plane_crash(plane, "rollout_end");
}

static void note_sizes(cp_rollout *r, int64_t replicas) {
    for (size_t i = 0; i < r->wl->sets.count; i++) {
        cp_replica_set *set = r->wl->sets.items[i];
        set->held = 0;
        for (size_t n = 0; n < r->wl->instances.count; n++) {
            const cp_inst *inst = r->wl->instances.items[n];
            set->held += inst->row.desired == CP_DESIRED_RUNNING && cp_streq(inst->row.release_id, set->release_id);
        }
        cp_plane_save_set(r->plane, set);
    }
    r->dep->held_replicas = replicas;
}

/* Each set keeps what it has: its goal is that number until somebody says otherwise. While the workload is paused that
 * is what it had before, which was noted then. */
static void hold_sizes(cp_rollout *r) {
    if (r->wl->row.state != CP_WORKLOAD_PAUSED)
        note_sizes(r, r->wl->row.replica_count);
    r->dep->holding = true;
}

static void release_sizes(cp_rollout *r) {
    bool paused = r->wl->row.state == CP_WORKLOAD_PAUSED; /* they may be held again before it is resumed */
    for (size_t i = 0; i < r->wl->sets.count && !paused; i++) {
        cp_replica_set *set = r->wl->sets.items[i];
        if (set->held < 0)
            continue;
        set->held = -1;
        cp_plane_save_set(r->plane, set);
    }
    r->dep->holding = false;
}

void cp_rollout_succeed(cp_rollout *r) {
    cp_wl *wl = r->wl;
    for (size_t i = 0; i < wl->releases.count; i++) {
        cp_rel *rel = wl->releases.items[i];
        bool ours = cp_streq(rel->row.id, r->dep->release_id);
        if (rel->row.active == ours && (rel->row.good || !ours))
            continue;
        rel->row.active = ours;
        rel->row.good = rel->row.good || ours;
        cp_plane_save_release(r->plane, rel);
    }
    for (size_t i = 0; i < wl->sets.count; i++) {
        cp_replica_set *set = wl->sets.items[i];
        bool ours = cp_streq(set->release_id, r->dep->release_id);
        set->role = ours ? CP_SET_OLD : CP_SET_ABANDONED; /* what is good now is what the next one comes from */
        set->weight = ours ? 100 : 0;
        set->held = -1;
        cp_rollout_goal(r->plane, set, (cp_share){.set = true, .percent = ours, .value = ours ? 100 : 0});
    }
    cp_set_string(&wl->row.current_release_id, r->dep->release_id);
    cp_rollout_services(r, "succeeded");
    r->dep->percent = 100;
    cp_set_string(&r->dep->message, NULL);
    settle_workload(r, true);
    cp_rollout_finish(r, CP_DEPLOYMENT_SUCCEEDED, NULL, "deploy.succeeded", NULL);
}

/* Pause: sizes are held and the clocks stop. */

void cp_rollout_hold(cp_rollout *r, const char *person, const cp_error *why, const char *actor) {
    if (r->dep->state != CP_DEPLOYMENT_PAUSED)
        cp_rollout_stop_clocks(r);
    set_state(r, CP_DEPLOYMENT_PAUSED);
    r->dep->resume_after_pause = false;
    hold_sizes(r);
    cp_set_string(&r->dep->held_by, person);
    if (why)
        set_error(r->dep, why);
    cp_plane_save_deployment(r->plane, r->dep);
    cp_plane_event(r->plane, "deploy.paused", actor, r->wl, NULL, r->dep->id, outcome(r->dep));
    cp_plane_dirty(r->plane, r->wl);
}

static void run_again(cp_rollout *r) {
    r->dep->resume_after_pause = false;
    r->dep->progress_at = cp_rollout_now(r); /* the deadline starts afresh */
    cp_rollout_start_clocks(r);
    cp_plane_save_deployment(r->plane, r->dep);
    cp_plane_dirty(r->plane, r->wl);
}

int cp_rollout_go_on(cp_rollout *r, const char *actor, cp_error *err) {
    if (!r->dep->rolling_back && script_is_dead(r))
        return cp_fail(
            err, CP_E_INVALID_STATE,
            "the script of %s has ended, there is nothing to resume: %s; abort, cancel, retry or another deploy "
            "are possible",
            r->dep->id, r->dep->message ? r->dep->message : "");
    if (!r->dep->rolling_back && !r->run) { /* another replay may agree with the journal again */
        cp_strategy_free(r->strategy);
        r->strategy = NULL;
        cp_journal_load(r);
        int failed = load_script(r, err);
        if (failed < 0)
            return failed;
    }
    if (!r->dep->rolling_back) {
        set_error(r->dep, NULL);
        cp_set_string(&r->dep->message, NULL);
    }
    r->dep->failures = 0;
    cp_set_string(&r->dep->held_by, NULL);
    release_sizes(r);
    if (r->wl->row.state == CP_WORKLOAD_PAUSED) {
        r->dep->resume_after_pause = true; /* it goes on when the workload does */
        cp_plane_save_deployment(r->plane, r->dep);
        return 0;
    }
    set_state(r, CP_DEPLOYMENT_RUNNING);
    run_again(r);
    cp_plane_event(r->plane, "deploy.progress", actor, r->wl, NULL, r->dep->id, json_pack("{s:b}", "resumed", 1));
    return 0;
}

void cp_rollout_freeze(cp_plane *plane, cp_wl *wl) {
    cp_rollout *r = wl->rollout;
    if (!r || r->dep->state != CP_DEPLOYMENT_RUNNING)
        return;
    cp_rollout_stop_clocks(r);
    note_sizes(r, wl->row.previous_replicas); /* if it is held meanwhile */
    set_state(r, CP_DEPLOYMENT_PAUSED);
    r->dep->resume_after_pause = true;
    cp_plane_save_deployment(plane, r->dep);
    cp_plane_event(plane, "deploy.paused", NULL, wl, NULL, r->dep->id,
                   json_pack("{s:s}", "message", "the workload was paused; it goes on when the workload is resumed"));
}

void cp_rollout_thaw(cp_plane *plane, cp_wl *wl) {
    (void)plane;
    cp_rollout *r = wl->rollout;
    if (!r || !r->dep->resume_after_pause)
        return;
    release_sizes(r);
    set_state(r, CP_DEPLOYMENT_RUNNING);
    run_again(r);
}

void cp_rollout_end(cp_plane *plane, cp_wl *wl, const char *reason) {
    (void)plane;
    if (!wl->rollout)
        return;
    cp_set_string(&wl->rollout->dep->message, reason);
    cp_rollout_finish(wl->rollout, CP_DEPLOYMENT_CANCELLED, NULL, "deploy.cancelled", NULL);
}

/* Failure and the way back. */

/* The last release that was ever good, with a different spec: the current one, else the newest. */
static cp_rel *way_back(const cp_rollout *r) {
    const cp_rel *from = cp_wl_release(r->wl, r->dep->release_id);
    cp_rel *current = cp_wl_release(r->wl, r->wl->row.current_release_id);
    if (current && current->row.good && !(from && cp_streq(from->row.spec_hash, current->row.spec_hash)))
        return current;
    for (size_t i = r->wl->releases.count; i-- > 0;) {
        cp_rel *rel = r->wl->releases.items[i];
        if (rel->row.good && !(from && cp_streq(from->row.spec_hash, rel->row.spec_hash)))
            return rel;
    }
    return NULL;
}

static void stop_here(cp_rollout *r, const cp_error *why, const char *actor) {
    hold_sizes(r);
    cp_rollout_services(r, "failed");
    set_error(r->dep, why);
    settle_workload(r, false);
    cp_rollout_finish(r, CP_DEPLOYMENT_FAILED, why, "deploy.failed", actor);
}

void cp_rollout_cancel(cp_rollout *r, const char *person) {
    hold_sizes(r);
    free(r->dep->message);
    r->dep->message = cp_printf("cancelled by %s; what was there stays", person);
    settle_workload(r, false);
    cp_rollout_finish(r, CP_DEPLOYMENT_CANCELLED, NULL, "deploy.cancelled", person);
}

void cp_rollout_go_back(cp_rollout *r, const cp_error *why, const char *actor) {
    cp_rel *target = way_back(r);
    cp_rollout_stop_script(r, why->message);
    if (!target) {
        cp_autoerror cp_error nowhere = {0};
        cp_error_copy(&nowhere, why);
        free(nowhere.message);
        nowhere.message =
            cp_printf("%s; there is no earlier good release with another spec to go back to", why->message);
        stop_here(r, &nowhere, actor);
        return;
    }
    cp_wl_set_make(r->plane, r->wl, target->row.id, CP_SET_OLD);
    for (size_t i = 0; i < r->wl->sets.count; i++) {
        cp_replica_set *set = r->wl->sets.items[i];
        bool home = cp_streq(set->release_id, target->row.id);
        set->role = home ? CP_SET_OLD : cp_streq(set->release_id, r->dep->release_id) ? CP_SET_NEW : CP_SET_ABANDONED;
        set->weight = home ? 100 : 0;
        set->held = -1;
        cp_rollout_goal(r->plane, set, (cp_share){.set = true, .percent = home, .value = home ? 100 : 0});
    }
    cp_deployment *dep = r->dep;
    dep->rolling_back = true;
    dep->holding = false;
    dep->failures = 0;
    dep->best_created = dep->best_ready = r->best_available = 0;
    dep->least_old = INT64_MAX;
    dep->progress_at = cp_rollout_now(r);
    cp_set_string(&dep->previous_release_id, target->row.id);
    cp_set_string(&dep->phase, "rolling_back");
    cp_set_string(&dep->held_by, NULL);
    set_error(dep, why);
    cp_rollout_services(r, "failed");
    if (r->wl->row.state != CP_WORKLOAD_PAUSED)
        set_state(r, CP_DEPLOYMENT_RUNNING);
    else
        dep->resume_after_pause = true;
    cp_plane_save_deployment(r->plane, dep);
    json_t *payload = outcome(dep);
    json_object_set_new(payload, "phase", json_string("rolling_back"));
    json_object_set_new(payload, "to_release_id", json_string(target->row.id));
    cp_plane_event(r->plane, "deploy.progress", actor, r->wl, NULL, dep->id, payload);
    cp_plane_dirty(r->plane, r->wl);
}

void cp_rollout_fail(cp_rollout *r, const cp_error *why) {
    if (r->dep->state == CP_DEPLOYMENT_PAUSED) { /* nothing moves while it is paused, the way back neither; there is */
        cp_rollout_hold(r, NULL, why, NULL);     /* nothing to resume any more, so it is the failure that holds it */
        return;
    }
    if (r->dep->rolling_back) { /* a rollback is never rolled back */
        cp_autoerror cp_error stuck = {0};
        cp_error_copy(&stuck, why);
        cp_error_wrap(&stuck, "the way back failed (it began because: %s)", r->dep->message ? r->dep->message : "");
        cp_rollout_hold(r, NULL, &stuck, NULL);
        return;
    }
    switch ((cp_on_failure)r->dep->on_failure) {
    case CP_ON_FAILURE_ROLLBACK:
        cp_rollout_go_back(r, why, NULL);
        break;
    case CP_ON_FAILURE_PAUSE:
        cp_rollout_hold(r, NULL, why, NULL);
        break;
    case CP_ON_FAILURE_FAIL:
        stop_here(r, why, NULL);
        break;
    }
}

void cp_rollout_went_back(cp_rollout *r) {
    settle_workload(r, true);
    cp_rollout_finish(r, CP_DEPLOYMENT_ROLLED_BACK, NULL, "deploy.rolled_back", NULL);
}
