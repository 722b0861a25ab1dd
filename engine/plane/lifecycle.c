/* engine/plane/lifecycle.c -- scale, pause, resume, restart, delete: each changes goals in rows, reconciling does the
 * rest. Everything is checked before anything changes. Must not know providers. */
#include "plane/args.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *state_name(const cp_wl *wl) {
    return cp_workload_states[wl->row.state];
}

int cp_workload_refuse_deleted(const cp_wl *wl, const char *what, cp_error *err) {
    if (!cp_wl_deleted(wl))
        return 0;
    return cp_fail(err, CP_E_INVALID_STATE, "workload %s is %s; %s needs one that is not being deleted", wl->row.slug,
                   state_name(wl), what);
}

int cp_workload_check_replicas(const cp_wl *wl, int64_t replicas, cp_error *err) {
    cp_rel *release = cp_workload_target(wl);
    const cp_list *services = release ? &release->row.services : &wl->row.services;
    if (replicas > 1 && cp_services_fixed_port(services))
        return cp_fail_at(err, CP_E_INVALID, "replicas", "leave out ports[].host to get a free port per replica",
                          "replicas is %" PRId64 ", but a port has a fixed host port, which one replica only can have",
                          replicas);
    return 0;
}

static int answer(cp_plane *plane, cp_call *call, cp_wl *wl, int64_t wait) {
    if (wait > 0)
        cp_call_wait(call, wl->row.id, NULL, wait);
    else
        cp_call_answer(call, cp_view_workload(plane, wl));
    return 0;
}

static void pause(cp_plane *plane, cp_wl *wl, const char *actor) {
    if (wl->row.state == CP_WORKLOAD_PAUSED)
        return; /* a second pause keeps what the first remembers */
    wl->row.previous_replicas = wl->row.replica_count;
    wl->row.replica_count = 0;
    wl->row.paused_at = cp_plane_now(plane);
    cp_set_string(&wl->row.message, NULL);
    if (cp_rollout_active(wl))
        cp_rollout_freeze(plane, wl);
    cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_PAUSED);
    cp_plane_event(plane, "workload.paused", actor, wl, NULL, NULL,
                   json_pack("{s:I}", "previous_replicas", (json_int_t)wl->row.previous_replicas));
    cp_plane_dirty(plane, wl);
}

int cp_run_pause(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_wait_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = cp_workload_refuse_deleted(wl, "pause", err);
    if (r < 0)
        return r;
    pause(plane, wl, call->subject);
    return answer(plane, call, wl, args->wait);
}

int cp_run_resume(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_wait_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    if (wl->row.state != CP_WORKLOAD_PAUSED)
        return cp_fail(err, CP_E_INVALID_STATE, "workload %s is %s; resume needs paused", wl->row.slug, state_name(wl));
    if (wl->row.previous_replicas > 0)
        wl->row.replica_count = wl->row.previous_replicas;
    else if (wl->row.replica_count < 1)
        wl->row.replica_count = 1;
    wl->row.previous_replicas = 0;
    wl->row.paused_at = 0;
    if (cp_rollout_active(wl)) {
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_DEPLOYING);
        cp_rollout_thaw(plane, wl);
    } else {
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_SCALING);
    }
    cp_plane_event(plane, "workload.resumed", call->subject, wl, NULL, NULL,
                   json_pack("{s:I}", "replicas", (json_int_t)wl->row.replica_count));
    cp_plane_dirty(plane, wl);
    return answer(plane, call, wl, args->wait);
}

static void scaled(cp_plane *plane, cp_call *call, cp_wl *wl, int64_t from, int64_t to) {
    cp_plane_save_workload(plane, wl);
    cp_plane_event(plane, "workload.scaled", call->subject, wl, NULL, NULL,
                   json_pack("{s:I, s:I}", "from", (json_int_t)from, "to", (json_int_t)to));
    cp_plane_dirty(plane, wl);
}

int cp_run_scale(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_scale_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = cp_workload_refuse_deleted(wl, "scale", err);
    if (r == 0)
        r = cp_workload_check_replicas(wl, args->replicas, err);
    if (r < 0)
        return r;
    int64_t from = wl->row.replica_count;
    if (wl->row.state == CP_WORKLOAD_PAUSED) { /* says what resume brings back */
        from = wl->row.previous_replicas;
        if (args->replicas > 0 && args->replicas != from) {
            wl->row.previous_replicas = args->replicas;
            scaled(plane, call, wl, from, args->replicas);
        }
    } else if (args->replicas == 0) {
        pause(plane, wl, call->subject);
    } else if (args->replicas != from) {
        wl->row.replica_count = args->replicas;
        cp_set_string(&wl->row.message, NULL);
        if (!cp_rollout_active(wl))
            cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_SCALING);
        scaled(plane, call, wl, from, args->replicas);
    }
    call->counts = true;
    return answer(plane, call, wl, args->wait);
}

int cp_run_restart(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_restart_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = cp_workload_refuse_deleted(wl, "restart", err);
    if (r < 0)
        return r;
    if (wl->row.state == CP_WORKLOAD_PAUSED || cp_rollout_active(wl))
        return cp_fail(err, CP_E_INVALID_STATE,
                       "workload %s is %s; restart needs one that runs and is not being deployed", wl->row.slug,
                       state_name(wl));
    /* An update in place raises an instance's generation as well: ours must be above all of them. */
    for (size_t i = 0; i < wl->instances.count; i++) {
        int64_t theirs = ((cp_inst *)wl->instances.items[i])->row.generation;
        if (theirs > wl->row.generation)
            wl->row.generation = theirs;
    }
    wl->row.generation++;
    wl->row.restart_parallel = args->parallel > 0 ? args->parallel : 1;
    cp_set_string(&wl->row.message, NULL);
    cp_plane_save_workload(plane, wl);
    cp_plane_event(plane, "workload.restarted", call->subject, wl, NULL, NULL,
                   json_pack("{s:I, s:I}", "generation", (json_int_t)wl->row.generation, "parallel",
                             (json_int_t)wl->row.restart_parallel));
    cp_plane_dirty(plane, wl);
    return answer(plane, call, wl, args->wait);
}

/* Asked again it tries those again that could not be removed. */
int cp_run_delete(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_delete_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    if (wl->row.state == CP_WORKLOAD_DESTROYED)
        return answer(plane, call, wl, 0);
    cp_rollout_end(plane, wl, "the workload was deleted");
    wl->row.remove_volumes = wl->row.remove_volumes || args->volumes;
    wl->row.replica_count = 0;
    wl->row.previous_replicas = 0;
    cp_set_string(&wl->row.message, NULL);
    cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_DESTROYING);
    for (size_t i = 0; i < wl->instances.count; i++)
        cp_operate_again(plane, wl->instances.items[i]);
    cp_plane_dirty(plane, wl);
    return answer(plane, call, wl, args->wait);
}
