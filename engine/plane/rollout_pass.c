/* engine/plane/rollout_pass.c -- What a pass over a workload does to its rollout: instances that give up, progress and
 * its deadline, whether the pending command or the way back is done. Must not know what commands mean. */
#include "plane/rollout.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The release whose instances have to come up: the new one, or the one that is gone back to. */
static const char *growing(const cp_rollout *r) {
    return r->dep->rolling_back ? r->dep->previous_release_id : r->dep->release_id;
}

void cp_rollout_instance_failed(cp_plane *plane, cp_wl *wl, cp_inst *inst) {
    cp_rollout *r = wl->rollout;
    if (!r || r->dep->state != CP_DEPLOYMENT_RUNNING || !cp_streq(inst->row.release_id, growing(r)))
        return;
    r->dep->failures++;
    if (!r->dep->rolling_back) {
        free(r->dep->message);
        r->dep->message =
            cp_printf("%s failed: %s", inst->row.name, inst->row.message ? inst->row.message : "no reason given");
    }
    cp_plane_save_deployment(plane, r->dep);
    cp_plane_dirty(plane, wl);
}

/* What is wrong with one that only ever restarts, in its provider's words. */
static char *complaint_of(const cp_inst *inst) {
    const char *said = cp_is_empty(inst->row.message) ? inst->complaint : inst->row.message;
    for (size_t i = 0; i < inst->row.service_status.count && cp_is_empty(said); i++) {
        const cp_service_status *status = CP_LIST_AT(&inst->row.service_status, cp_service_status, i);
        if (!status->ready && !cp_is_empty(status->message))
            return cp_printf("%s: %s", status->name, status->message);
        if (!status->ready && status->exit_code > 0)
            return cp_printf("%s exited with code %" PRId64, status->name, status->exit_code);
    }
    return cp_strdup(cp_is_empty(said) ? "no reason given" : said);
}

/* Those that gave up, and those that only ever restart. */
static void check_failures(cp_rollout *r) {
    int64_t failures = r->dep->failures;
    const cp_inst *failing = NULL;
    for (size_t i = 0; i < r->wl->instances.count; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        if (!inst->failing || inst->row.desired != CP_DESIRED_RUNNING || !cp_streq(inst->row.release_id, growing(r)))
            continue;
        failures++;
        failing = inst;
    }
    if (failures <= r->dep->max_failures)
        return;
    cp_autoerror cp_error why = {0};
    cp_autofree char *complaint = failing ? complaint_of(failing) : NULL;
    cp_autofree char *last = failing ? cp_printf("%s restarts again and again: %s", failing->row.name, complaint)
                                     : cp_strdup(r->dep->message ? r->dep->message : "no reason given");
    if (r->dep->max_failures == 0)
        cp_fail(&why, CP_E_DEPLOYMENT_FAILED, "%s", last);
    else
        cp_fail(&why, CP_E_DEPLOYMENT_FAILED,
                "%" PRId64 " instances gave up, %" PRId64 " may (max_failures); the last: %s", failures,
                r->dep->max_failures, last);
    cp_rollout_fail(r, &why);
}

void cp_rollout_before(cp_plane *plane, cp_wl *wl) {
    (void)plane;
    if (wl->rollout && wl->rollout->dep->state == CP_DEPLOYMENT_RUNNING)
        check_failures(wl->rollout); /* before the pass: its goals are the way back already */
}

/* On the way back what grows is old and what shrinks is new: the same rule with the roles changed. */
static bool progressed(cp_rollout *r) {
    cp_deployment *dep = r->dep;
    size_t count = r->wl->last.sets.count;
    cp_autofree cp_decide_count *counts = cp_alloc0((count + 1) * sizeof *counts);
    for (size_t i = 0; i < count; i++) {
        counts[i] = *CP_LIST_AT(&r->wl->last.sets, cp_decide_count, i);
        if (dep->rolling_back)
            counts[i].role = counts[i].role == CP_SET_OLD ? CP_SET_NEW : CP_SET_OLD;
    }
    cp_decide_output now = {.sets = {.items = counts, .count = count}};
    cp_progress best = {
        .created = dep->best_created, .ready = dep->best_ready, .available = r->best_available, .old = dep->least_old};
    if (!cp_decide_progress(&best, &now))
        return false;
    dep->best_created = best.created;
    dep->best_ready = best.ready;
    r->best_available = best.available;
    dep->least_old = best.old;
    return true;
}

static bool says_percent(const cp_rollout *r) {
    for (size_t i = r->journal.count; i-- > 1;)
        if (strcmp(((cp_command *)r->journal.items[i])->name, "progress") == 0)
            return true;
    return false;
}

static void take_progress(cp_rollout *r) {
    if (!progressed(r))
        return;
    r->dep->progress_at = cp_rollout_now(r);
    const cp_decide_count *new = cp_rollout_count(r->wl, CP_SET_NEW);
    int64_t n = r->wl->row.replica_count;
    if (!r->dep->rolling_back && n > 0) {
        if (new->live > 0)
            cp_rollout_services(r, "running");
        double percent = floor(99.0 * (double)(new->available < n ? new->available : n) / (double)n);
        if (percent > r->dep->percent && !says_percent(r))
            r->dep->percent = percent;
    }
    cp_plane_save_deployment(r->plane, r->dep);
}

static int64_t deadline_of(const cp_rollout *r) {
    return r->dep->progress_deadline > 0 && cp_rollout_clocked(r) ? r->dep->progress_at + r->dep->progress_deadline : 0;
}

static void check_deadline(cp_rollout *r) {
    int64_t at = deadline_of(r);
    if (!at || cp_rollout_now(r) < at)
        return;
    cp_autojson json_t *why_rows = cp_rollout_why(r->plane, r->wl, r->dep);
    cp_autobuf cp_buf reasons = {0};
    size_t i;
    const json_t *row;
    json_array_foreach(why_rows, i, row) {
        const char *message = json_string_value(json_object_get(row, "message"));
        if (message && i < 3 && !cp_streq(json_string_value(json_object_get(row, "guard")), "failure"))
            cp_buf_printf(&reasons, "%s%s", reasons.len ? "; " : "", message);
    }
    cp_autoerror cp_error why = {0};
    cp_fail(&why, CP_E_TIMEOUT, "no progress for %.10g s (progress_deadline): %s",
            (double)r->dep->progress_deadline / 1000, reasons.len ? reasons.data : "nothing moved");
    cp_rollout_fail(r, &why);
}

void cp_rollout_after(cp_plane *plane, cp_wl *wl) {
    cp_rollout *r = wl->rollout;
    if (!r || r->dep->state != CP_DEPLOYMENT_RUNNING)
        return;
    take_progress(r);
    cp_rollout_note_since(r);
    if (r->dep->rolling_back && wl->last.reached) {
        cp_rollout_went_back(r);
        return;
    }
    if (!r->dep->rolling_back)
        cp_rollout_look(r);
    if (wl->rollout == r && r->dep->state == CP_DEPLOYMENT_RUNNING)
        check_deadline(r);
    if (wl->rollout != r || r->dep->state != CP_DEPLOYMENT_RUNNING)
        return;
    int64_t due = cp_rollout_due(r), deadline = deadline_of(r);
    if (due)
        cp_plane_wake(plane, wl, due);
    if (deadline)
        cp_plane_wake(plane, wl, deadline);
}
