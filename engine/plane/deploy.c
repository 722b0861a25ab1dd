/* engine/plane/deploy.c -- deploy and rollback: which release a request means. From there on it is the rollout's.
 * Everything is checked before anything changes. */
#include "plane/args.h"

#include "base/id.h"

#include <inttypes.h>
#include <string.h>

static int check_state(const cp_wl *wl, const char *what, cp_error *err) {
    int r = cp_workload_refuse_deleted(wl, what, err);
    if (r == 0 && wl->row.state == CP_WORKLOAD_PAUSED)
        r = cp_fail(err, CP_E_INVALID_STATE, "workload %s is paused; %s needs it resumed", wl->row.slug, what);
    return r;
}

/* Names or numbers of releases, for people who mistyped one. */
static int no_release(const cp_wl *wl, const char *id, cp_error *err) {
    int r = cp_id_check(id, "rel", err);
    if (r < 0) {
        cp_set_string(&err->field, "release_id");
        return r;
    }
    return cp_fail_at(err, CP_E_NOT_FOUND, "release_id", NULL, "workload %s has no release %s", wl->row.slug, id);
}

/* The services that a deploy without release_id means: the draft, else what runs, with the changes laid over. */
static int wanted_services(const cp_wl *wl, const cp_deploy_args *args, cp_list *ret, cp_error *err) {
    cp_list base = {0};
    cp_rel *target = cp_workload_target(wl);
    if (!wl->row.staged && target)
        cp_release_asked(target, &base);
    const cp_list *from = wl->row.staged || !target ? &wl->row.services : &base;
    int r = cp_services_apply(from, &args->services, ret, err);
    cp_list_clear(&base, &cp_service_desc);
    if (r < 0)
        return r;
    r = cp_services_check(ret, wl->row.kind, "services", err);
    if (r == 0 && wl->row.replica_count > 1 && cp_services_fixed_port(ret))
        r = cp_fail_at(err, CP_E_INVALID, "services", "leave out ports[].host to get a free port per replica",
                       "a fixed host port needs one replica; workload %s has %" PRId64, wl->row.slug,
                       wl->row.replica_count);
    return r;
}

/* A release that says the same: the one on its way, or the current one. "The same spec" is no new release. */
static cp_rel *same_release(cp_wl *wl, const char *hash) {
    cp_rel *target = cp_workload_target(wl), *current = cp_wl_release(wl, wl->row.current_release_id);
    if (target && cp_streq(target->row.spec_hash, hash))
        return target;
    return current && cp_streq(current->row.spec_hash, hash) ? current : NULL;
}

/* Begins the rollout and answers. A deploy of what every replica runs already is none, and says so. */
static int begin(cp_plane *plane, cp_call *call, cp_wl *wl, cp_rel *rel, const cp_deploy_args *args, cp_error *err) {
    cp_deployment *dep = NULL;
    cp_claims claims = {.tenant_id = call->tenant_id, .subject = call->subject};
    int r = cp_rollout_begin(plane, wl, rel, args, &claims, &dep, err);
    if (r < 0)
        return r;
    if (!dep) {
        for (size_t i = wl->deployments.count; i-- > 0 && !dep;)
            if (cp_streq(((cp_deployment *)wl->deployments.items[i])->release_id, rel->row.id))
                dep = wl->deployments.items[i];
        json_t *view = dep ? cp_view_deployment(plane, dep) : json_object();
        cp_autofree char *message = cp_printf("nothing to do: every replica of %s runs release %" PRId64 " already",
                                              wl->row.slug, rel->row.version);
        json_object_set_new(view, "message", json_string(message));
        json_object_set_new(view, "unchanged", json_true());
        cp_call_answer(call, view);
        return 0;
    }
    cp_plane_event(plane, "workload.deployed", call->subject, wl, NULL, dep->id,
                   json_pack("{s:s, s:I}", "release_id", rel->row.id, "version", (json_int_t)rel->row.version));
    cp_plane_dirty(plane, wl);
    if (args->wait > 0)
        cp_call_wait(call, wl->row.id, dep->id, args->wait);
    else
        cp_call_answer(call, cp_view_deployment(plane, dep));
    return 0;
}

static void unstage(cp_plane *plane, cp_wl *wl) {
    wl->row.staged = false;
    cp_set_string(&wl->spec_of, NULL); /* services show the release again */
    cp_plane_save_workload(plane, wl);
}

static int deploy_services(cp_plane *plane, cp_call *call, cp_wl *wl, cp_deploy_args *args, cp_error *err) {
    cp_list asked = {0}, resolved = {0};
    cp_provider *provider = cp_plane_provider(plane, wl->row.provider_name);
    int r = wanted_services(wl, args, &asked, err);
    if (r == 0)
        r = cp_services_supported(provider, &asked, wl->row.kind, err);
    if (r == 0)
        r = cp_services_resolved(call, provider, &asked, &resolved, err);
    cp_autofree char *hash = r == 0 ? cp_services_hash(&resolved) : NULL;
    cp_rel *rel = hash ? same_release(wl, hash) : NULL;
    if (rel && cp_streq(rel->row.id, wl->row.current_release_id))
        cp_set_string(&args->release_id, rel->row.id); /* the last good one is always accepted */
    if (r == 0)
        r = cp_rollout_check(plane, wl, args, err);
    if (r == 0) {
        if (!rel)
            rel = cp_release_record(plane, wl, &resolved, &asked, cp_take(hash), args);
        if (wl->row.staged)
            unstage(plane, wl);
        r = begin(plane, call, wl, rel, args, err);
    }
    cp_list_clear(&asked, &cp_service_desc);
    cp_list_clear(&resolved, &cp_service_desc);
    return r;
}

int cp_run_deploy(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deploy_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = check_state(wl, "deploy", err);
    if (r < 0)
        return r;
    if (cp_is_empty(args->release_id))
        return deploy_services(plane, call, wl, args, err);
    if (args->services.count)
        return cp_fail_at(err, CP_E_INVALID, "release_id", NULL,
                          "release_id and services are given; a release is whole: give one of them");
    cp_rel *rel = cp_wl_release(wl, args->release_id);
    if (!rel)
        return no_release(wl, args->release_id, err);
    r = cp_rollout_check(plane, wl, args, err);
    return r < 0 ? r : begin(plane, call, wl, rel, args, err);
}

/* The last good release before the current one; while nothing else is current, before the one that is rolled out. */
static cp_rel *previous_good(cp_wl *wl) {
    cp_rel *from = cp_wl_release(wl, wl->row.current_release_id);
    for (size_t i = wl->releases.count; from && i-- > 0;) {
        cp_rel *rel = wl->releases.items[i];
        if (rel->row.good && rel->row.version < from->row.version && !cp_streq(rel->row.spec_hash, from->row.spec_hash))
            return rel;
    }
    return NULL;
}

int cp_run_rollback(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deploy_args *args = call->args;
    cp_args_deploy_present(&cp_rollback_args_desc, args->present, args);
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = check_state(wl, "rollback", err);
    if (r < 0)
        return r;
    cp_rel *rel;
    if (!cp_is_empty(args->release_id)) {
        rel = cp_wl_release(wl, args->release_id);
        if (!rel)
            return no_release(wl, args->release_id, err);
    } else {
        rel = cp_rollout_active(wl) ? cp_wl_release(wl, wl->row.current_release_id) : previous_good(wl);
        if (!rel)
            return cp_fail(err, CP_E_INVALID_STATE,
                           "workload %s has no good release to go back to; give release_id or deploy", wl->row.slug);
    }
    cp_set_string(&args->release_id, rel->row.id); /* the last good one is always accepted */
    r = cp_rollout_check(plane, wl, args, err);
    if (r < 0)
        return r;
    if (wl->row.staged)
        unstage(plane, wl);
    return begin(plane, call, wl, rel, args, err);
}
