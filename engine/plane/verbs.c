/* engine/plane/verbs.c -- What people say to a deployment, and strategies to look at: the operations deployments.* and
 * strategies.*. Each verb is accepted while a deployment is not final, or answers with what is possible. */
#include "plane/args.h"
#include "plane/rollout.h"

#include <inttypes.h>
#include <string.h>

typedef struct wait_args {
    int64_t timeout;
    uint64_t present;
} wait_args;
static const cp_field wait_fields[] = {{.name = "timeout",
                                        .type = CP_DURATION,
                                        .offset = offsetof(wait_args, timeout),
                                        .min = 0,
                                        .max = CP_MAX_DURATION_MS,
                                        .fallback = "10m",
                                        .doc = "answer with what is so far when this has passed"}};
static void wait_init(void *object) {
    ((wait_args *)object)->timeout = 600000;
}
static const cp_desc wait_args_desc = {.name = "deployment_wait",
                                       .size = sizeof(wait_args),
                                       .fields = wait_fields,
                                       .count = CP_COUNT(wait_fields),
                                       .present = offsetof(wait_args, present),
                                       .init = wait_init,
                                       .doc = "how long to wait"};

/* The deployment that the call names, its workload, and its rollout, which a final one does not have. */
static int find(cp_plane *plane, const cp_call *call, cp_deployment **dep, cp_wl **wl, cp_error *err) {
    *dep = cp_plane_deployment(plane, call->tenant_id, call->id, err);
    if (!*dep)
        return cp_lookup_failed(err);
    *wl = cp_wl_of(plane, (*dep)->workload_id);
    return *wl ? 0 : cp_fail(err, CP_E_NOT_FOUND, "the workload of %s is gone", (*dep)->id);
}

static const char *who(const cp_call *call) {
    return cp_is_empty(call->subject) ? "somebody" : call->subject;
}

static int find_live(cp_plane *plane, const cp_call *call, const char *verb, cp_rollout **ret, cp_error *err) {
    cp_deployment *dep;
    cp_wl *wl;
    int r = find(plane, call, &dep, &wl, err);
    if (r < 0)
        return r;
    if (!wl->rollout || wl->rollout->dep != dep)
        return cp_fail(err, CP_E_INVALID_STATE, "deployment %s is %s, which is final; %s is not possible, retry is",
                       dep->id, cp_deployment_states[dep->state], verb);
    *ret = wl->rollout;
    return 0;
}

/* The rollout may be gone by now; the deployment is not. */
static int answer(cp_plane *plane, cp_call *call, cp_deployment *dep) {
    const cp_wait_args *args = call->args;
    if (args->wait > 0)
        cp_call_wait(call, dep->workload_id, dep->id, args->wait);
    else
        cp_call_answer(call, cp_view_deployment(plane, dep));
    return 0;
}

static int run_get(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deployment *dep = cp_plane_deployment(plane, call->tenant_id, call->id, err);
    if (!dep)
        return cp_lookup_failed(err);
    cp_call_answer(call, cp_view_deployment(plane, dep));
    return 0;
}

static int run_why(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deployment *dep;
    cp_wl *wl;
    int r = find(plane, call, &dep, &wl, err);
    if (r < 0)
        return r;
    json_t *rows = cp_rollout_why(plane, wl, dep);
    cp_call_answer(call, json_pack("{s:o, s:I}", "items", rows, "total", (json_int_t)json_array_size(rows)));
    return 0;
}

static int run_journal(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deployment *dep = cp_plane_deployment(plane, call->tenant_id, call->id, err);
    json_t *items = dep ? cp_journal_json(plane, dep, err) : NULL;
    if (!items)
        return cp_lookup_failed(err);
    cp_call_answer(call, json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)json_array_size(items)));
    return 0;
}

static int run_pause(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_rollout *r;
    int failure = find_live(plane, call, "pause", &r, err);
    if (failure < 0)
        return failure;
    cp_deployment *dep = r->dep;
    if (dep->state == CP_DEPLOYMENT_PAUSED && !dep->resume_after_pause && !cp_is_empty(dep->held_by))
        return answer(plane, call, dep); /* it is held already */
    cp_rollout_hold(r, who(call), NULL, call->subject);
    return answer(plane, call, dep);
}

static int run_resume(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_rollout *r;
    int failure = find_live(plane, call, "resume", &r, err);
    if (failure < 0)
        return failure;
    cp_deployment *dep = r->dep;
    if (dep->resume_after_pause)
        return cp_fail(err, CP_E_INVALID_STATE, "deployment %s waits for its workload %s, which is paused; resume that",
                       dep->id, r->wl->row.slug);
    if (dep->state != CP_DEPLOYMENT_PAUSED)
        return cp_fail(err, CP_E_INVALID_STATE,
                       "deployment %s is %s; resume needs paused; pause, abort and cancel are possible", dep->id,
                       cp_deployment_states[dep->state]);
    failure = cp_rollout_go_on(r, call->subject, err);
    return failure < 0 ? failure : answer(plane, call, dep);
}

static int run_abort(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_rollout *r;
    int failure = find_live(plane, call, "abort", &r, err);
    if (failure < 0)
        return failure;
    cp_deployment *dep = r->dep;
    if (dep->rolling_back && dep->state == CP_DEPLOYMENT_RUNNING)
        return answer(plane, call, dep); /* it is on its way already */
    cp_autoerror cp_error why = {0};
    cp_fail(&why, CP_E_CANCELLED, "aborted by %s", who(call));
    cp_rollout_go_back(r, &why, call->subject);
    return answer(plane, call, dep);
}

static int run_cancel(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_rollout *r;
    int failure = find_live(plane, call, "cancel", &r, err);
    if (failure < 0)
        return failure;
    cp_deployment *dep = r->dep;
    cp_rollout_cancel(r, who(call));
    return answer(plane, call, dep);
}

static int run_retry(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_deployment *dep, *another = NULL;
    cp_wl *wl;
    int r = find(plane, call, &dep, &wl, err);
    if (r < 0)
        return r;
    bool paused_by_failure = dep->state == CP_DEPLOYMENT_PAUSED && dep->error && cp_is_empty(dep->held_by);
    if (!cp_deployment_is_final(dep->state) && !paused_by_failure)
        return cp_fail(err, CP_E_INVALID_STATE,
                       "deployment %s is %s; retry needs one that has ended; pause, abort and cancel are possible",
                       dep->id, cp_deployment_states[dep->state]);
    if (wl->rollout && wl->rollout->dep != dep)
        return cp_fail(err, CP_E_CONFLICT, "deployment %s of workload %s is under way; retry %s when it has ended",
                       wl->rollout->dep->id, wl->row.slug, dep->id);
    r = cp_rollout_retry(plane, wl, dep, call->subject, &another, err);
    return r < 0 ? r : answer(plane, call, another);
}

static int run_wait(cp_plane *plane, cp_call *call, cp_error *err) {
    const wait_args *args = call->args;
    cp_deployment *dep = cp_plane_deployment(plane, call->tenant_id, call->id, err);
    if (!dep)
        return cp_lookup_failed(err);
    cp_call_wait(call, dep->workload_id, dep->id, args->timeout > 0 ? args->timeout : 1);
    return 0;
}

static int run_strategies(cp_plane *plane, cp_call *call, cp_error *err) {
    (void)err;
    json_t *items = plane->scripts->class->list(plane->scripts);
    cp_call_answer(call, json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)json_array_size(items)));
    return 0;
}

static int run_strategy(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_autostrategy cp_strategy *strategy = NULL;
    if (strchr(call->id, '/') || strstr(call->id, ".lua"))
        return cp_fail_at(err, CP_E_INVALID, "id", NULL,
                          "'%.80s' is not the name of a strategy; paths are not looked up", call->id);
    int r = plane->scripts->class->load(plane->scripts, call->id, &strategy, err);
    if (r < 0)
        return r;
    json_t *view = json_pack("{s:s, s:s, s:O, s:s, s:O}", "name", strategy->name, "summary",
                             strategy->summary ? strategy->summary : "", "params", strategy->params, "hash",
                             strategy->hash, "sources", json_object_get(strategy->bundle, "files"));
    if (strategy->guards)
        json_object_set(view, "guards", strategy->guards);
    if (strategy->needs)
        json_object_set(view, "needs", strategy->needs);
    cp_call_answer(call, view);
    return 0;
}

#define WRITE CP_OPERATION_MUTATES
#define ID CP_OPERATION_ID
const cp_operation cp_deployment_operations[] = {
    {"deployments.get", "GET", "/deployments/{id}", ID, &cp_none_args_desc, "deployment", "deployment",
     "One rollout of a release.", run_get},
    {"deployments.why", "GET", "/deployments/{id}/why", ID, &cp_none_args_desc, "deployment", "list of why",
     "What it waits for: guard, condition or person, with the numbers.", run_why},
    {"deployments.journal", "GET", "/deployments/{id}/journal", ID, &cp_none_args_desc, "deployment", "list of command",
     "What its strategy has done, command by command.", run_journal},
    {"deployments.pause", "POST", "/deployments/{id}/pause", WRITE | ID, &cp_wait_args_desc, "deployment", "deployment",
     "Holds it: sizes stay as they are, its clocks stop.", run_pause},
    {"deployments.resume", "POST", "/deployments/{id}/resume", WRITE | ID, &cp_wait_args_desc, "deployment",
     "deployment", "Lets a paused one go on.", run_resume},
    {"deployments.abort", "POST", "/deployments/{id}/abort", WRITE | ID, &cp_wait_args_desc, "deployment", "deployment",
     "Goes back to the last good release.", run_abort},
    {"deployments.cancel", "POST", "/deployments/{id}/cancel", WRITE | ID, &cp_wait_args_desc, "deployment",
     "deployment", "Stops here and keeps what is there, old and new.", run_cancel},
    {"deployments.retry", "POST", "/deployments/{id}/retry", WRITE | ID, &cp_wait_args_desc, "deployment", "deployment",
     "Rolls the same release out again, as a new deployment.", run_retry},
    {"deployments.wait", "GET", "/deployments/{id}/wait", ID, &wait_args_desc, "deployment", "deployment",
     "Answers when it is final, paused, or waits for a person.", run_wait},
    {"strategies.list", "GET", "/strategies", 0, &cp_none_args_desc, NULL, "list of strategy_info",
     "The strategies that can be named.", run_strategies},
    {"strategies.get", "GET", "/strategies/{id}", ID, &cp_none_args_desc, "strategy", "strategy_info",
     "One strategy: its parameters, guards and source.", run_strategy},
};
const size_t cp_deployment_operation_count = CP_COUNT(cp_deployment_operations);
