/* engine/plane/operate.c -- Instances get their provider operations: one at a time each, a bounded number per provider,
 * fair between workloads, stops first, with back-off. Operations start after the commit of the turn that wanted them;
 * what they bring about is recorded in the turn of their answer. Must not decide what is wanted. */
#include "plane/reconciler.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int64_t cp_backoff(cp_loop *loop, int64_t failures) {
    int64_t wait = CP_BACKOFF_FIRST;
    for (int64_t i = 1; i < failures && wait < CP_BACKOFF_LAST; i++)
        wait *= 2;
    if (wait > CP_BACKOFF_LAST)
        wait = CP_BACKOFF_LAST;
    return wait - wait / 5 + (int64_t)(cp_loop_random(loop) % (uint64_t)(wait / 5 * 2 + 1)); /* +-20 % */
}

cp_runtime *cp_runtime_of(cp_plane *plane, const cp_inst *inst) {
    for (size_t i = 0; i < plane->reconciler->count; i++)
        if (cp_streq(plane->reconciler->runtimes[i].provider->name, inst->row.provider_name))
            return &plane->reconciler->runtimes[i];
    return NULL;
}

const char *cp_operate_waits(cp_plane *plane, const cp_inst *inst) {
    const cp_runtime *runtime = plane->reconciler ? cp_runtime_of(plane, inst) : NULL;
    return runtime && runtime->down && inst->queued ? runtime->message : NULL;
}

size_t cp_operate_in_flight(const cp_plane *plane) {
    size_t sum = 0;
    for (size_t i = 0; plane->reconciler && i < plane->reconciler->count; i++)
        sum += plane->reconciler->runtimes[i].in_flight;
    return sum;
}

/* States are walked one by one along the state machine; only the last one is told of. */

static bool allowed(int from, int to) {
    return cp_instance_validate_transition(from, to, NULL) == 0;
}

static bool next_step(int from, int to, int *ret) {
    static const int WAYS[] = {CP_INSTANCE_STARTING, CP_INSTANCE_STOPPED, CP_INSTANCE_STOPPING};
    if (allowed(from, to)) {
        *ret = to;
        return true;
    }
    for (size_t i = 0; i < CP_COUNT(WAYS); i++)
        if (WAYS[i] != from && allowed(from, WAYS[i]) && allowed(WAYS[i], to)) {
            *ret = WAYS[i];
            return true;
        }
    return false;
}

static void tell(cp_plane *plane, cp_inst *inst) {
    const char *type = NULL;
    switch ((cp_instance_state)inst->row.state) {
    case CP_INSTANCE_RUNNING:
        type = "instance.started";
        break;
    case CP_INSTANCE_STOPPED:
        type = "instance.stopped";
        break;
    case CP_INSTANCE_FAILED:
        type = "instance.failed";
        break;
    case CP_INSTANCE_DESTROYED:
        type = "instance.deleted";
        break;
    default:
        return;
    }
    json_t *payload = json_pack("{s:I, s:s, s:s}", "replica_index", (json_int_t)inst->row.replica_index, "name",
                                inst->row.name, "release_id", inst->row.release_id);
    if (!cp_is_empty(inst->row.message))
        json_object_set_new(payload, "message", json_string(inst->row.message));
    cp_plane_event(plane, type, NULL, inst->wl, inst, NULL, payload);
}

void cp_instance_set_state(cp_plane *plane, cp_inst *inst, int state, const char *message) {
    bool changed = inst->row.state != state;
    bool said = !cp_streq(inst->row.message, message) && !(cp_is_empty(inst->row.message) && cp_is_empty(message));
    if (!changed && !said)
        return;
    for (int step; inst->row.state != state; inst->row.state = step)
        if (!next_step(inst->row.state, state, &step)) {
            cp_log(CP_LOG_ERROR, "instance %s cannot go from %s to %s", inst->row.id,
                   cp_instance_states[inst->row.state], cp_instance_states[state]);
            return;
        }
    if (said)
        cp_set_string(&inst->row.message, cp_is_empty(message) ? NULL : message);
    if (changed && state == CP_INSTANCE_FAILED)
        cp_readiness_set(plane, inst, false);
    cp_plane_save_instance(plane, inst);
    if (!changed)
        return;
    tell(plane, inst);
    cp_plane_dirty(plane, inst->wl);
    if (state == CP_INSTANCE_FAILED)
        cp_reconcile_gave_up(plane, inst);
}

void cp_instance_decide(cp_inst *inst, cp_instance_decision *decision) {
    cp_instance_input input = {
        .state = inst->row.state,
        .desired = inst->row.desired,
        .seen = inst->seen,
        .generation = inst->row.generation,
        .applied_generation = inst->row.applied_generation,
        .seen_generation = inst->seen_generation,
        .release_id = inst->row.release_id,
        .seen_release_id = inst->seen_release_id,
        .message = inst->row.message,
    };
    cp_decide_instance(&input, decision);
    /* Absent may mean "not yet": what an engine asked for before it died can still be on its way to the provider. Our
     * own deprovision is behind it. */
    if (decision->state == CP_INSTANCE_DESTROYED && inst->op_kind != CP_OP_DEPROVISION) {
        decision->op = CP_OP_DEPROVISION;
        decision->state = CP_INSTANCE_DESTROYING;
    }
}

static void destroyed(cp_plane *plane, cp_inst *inst) {
    cp_wl *wl = inst->wl;
    cp_instance_set_state(plane, inst, CP_INSTANCE_DESTROYED, inst->row.message);
    cp_plane_drop_instance(plane, inst);
    cp_plane_dirty(plane, wl);
}

/* Takes the states that follow from what is seen, and asks for the operation that is due. May free the instance. */
void cp_reconcile_kick(cp_plane *plane, cp_inst *inst) {
    if (inst->op)
        return; /* its answer decides anew */
    for (int i = 0; i < 8; i++) {
        cp_instance_decision decision = {0};
        cp_instance_decide(inst, &decision);
        int op = decision.op, state = decision.state;
        bool moved = state != inst->row.state;
        if (state == CP_INSTANCE_DESTROYED && op == CP_OP_NONE) {
            cp_desc_clear(&cp_instance_decision_desc, &decision);
            destroyed(plane, inst);
            return;
        }
        cp_instance_set_state(plane, inst, state, decision.message);
        cp_desc_clear(&cp_instance_decision_desc, &decision);
        if (op != CP_OP_NONE) {
            cp_operate_queue(plane, inst);
            return;
        }
        if (!moved || inst->row.state != state)
            return;
    }
}

/* The queue. */

static void drain(void *userdata) {
    struct cp_reconciler *reconciler = userdata;
    reconciler->drain_queued = false;
    cp_operate_drain(reconciler->plane);
}

/* Its turn was undone: others may ask again. */
static void not_drained(void *userdata) {
    ((struct cp_reconciler *)userdata)->drain_queued = false;
}

void cp_operate_soon(cp_plane *plane) {
    if (plane->reconciler->drain_queued)
        return;
    plane->reconciler->drain_queued = true;
    cp_loop_effect(plane->loop, drain, not_drained, plane->reconciler);
}

void cp_operate_queue(cp_plane *plane, cp_inst *inst) {
    cp_runtime *runtime = cp_runtime_of(plane, inst);
    if (inst->queued || inst->op || !runtime || (inst->retry && cp_timer_armed(inst->retry)))
        return;
    cp_wl *wl = inst->wl;
    int class = inst->row.desired == CP_DESIRED_RUNNING;
    inst->queued = true;
    inst->next = NULL;
    if (wl->queue_tail[class])
        wl->queue_tail[class]->next = inst;
    else
        wl->queue_head[class] = inst;
    wl->queue_tail[class] = inst;
    if (!wl->in_ring[class]) {
        wl->in_ring[class] = true;
        wl->ring_next[class] = NULL;
        if (runtime->ring_tail[class])
            runtime->ring_tail[class]->ring_next[class] = wl;
        else
            runtime->ring_head[class] = wl;
        runtime->ring_tail[class] = wl;
    }
    cp_operate_soon(plane);
}

/* The next instance in turn: the first of the first workload, which goes to the end of the ring. */
static cp_inst *take(cp_runtime *runtime, int class) {
    cp_wl *wl = runtime->ring_head[class];
    if (!wl)
        return NULL;
    cp_inst *inst = wl->queue_head[class];
    wl->queue_head[class] = inst->next;
    if (!inst->next)
        wl->queue_tail[class] = NULL;
    inst->next = NULL;
    inst->queued = false;
    runtime->ring_head[class] = wl->ring_next[class];
    if (!wl->ring_next[class])
        runtime->ring_tail[class] = NULL;
    wl->ring_next[class] = NULL;
    wl->in_ring[class] = wl->queue_head[class] != NULL;
    if (wl->in_ring[class]) {
        if (runtime->ring_tail[class])
            runtime->ring_tail[class]->ring_next[class] = wl;
        else
            runtime->ring_head[class] = wl;
        runtime->ring_tail[class] = wl;
    }
    return inst;
}

static void unqueue(cp_plane *plane, cp_inst *inst) {
    for (int class = 0; class < 2 && inst->queued; class ++) {
        cp_wl *wl = inst->wl;
        cp_inst *before = NULL, *at = wl->queue_head[class];
        while (at && at != inst) {
            before = at;
            at = at->next;
        }
        if (!at)
            continue;
        if (before)
            before->next = inst->next;
        else
            wl->queue_head[class] = inst->next;
        if (wl->queue_tail[class] == inst)
            wl->queue_tail[class] = before;
        inst->queued = false;
        if (wl->queue_head[class])
            continue;
        cp_runtime *runtime = cp_runtime_of(plane, inst);
        cp_wl *last = NULL;
        for (cp_wl *r = runtime->ring_head[class]; r; last = r, r = r->ring_next[class])
            if (r == wl) {
                if (last)
                    last->ring_next[class] = wl->ring_next[class];
                else
                    runtime->ring_head[class] = wl->ring_next[class];
                if (runtime->ring_tail[class] == wl)
                    runtime->ring_tail[class] = last;
                break;
            }
        wl->in_ring[class] = false;
        wl->ring_next[class] = NULL;
    }
}

/* One operation. */

static void done(void *userdata, const cp_error *err);

static void fill_spec(cp_plane *plane, const cp_inst *inst, const cp_map *labels, cp_runtime_spec *spec) {
    const cp_workload *wl = &inst->wl->row;
    *spec = (cp_runtime_spec){
        .instance_id = inst->row.id,
        .name = inst->row.name,
        .workload_id = wl->id,
        .workload_slug = wl->slug,
        .workload_name = wl->name,
        .release_id = inst->row.release_id,
        .tenant_id = inst->row.tenant_id,
        .plane_id = plane->id,
        .replica_index = inst->row.replica_index,
        .generation = inst->row.generation,
        .kind = inst->row.kind,
        .services = &inst->release->row.services,
        .labels = labels,
        .remove_volumes = wl->remove_volumes || wl->kind == CP_KIND_DEPLOYMENT,
    };
}

static void start(cp_plane *plane, cp_runtime *runtime, cp_inst *inst) {
    cp_instance_decision decision = {0};
    cp_instance_decide(inst, &decision);
    int kind = decision.op;
    cp_desc_clear(&cp_instance_decision_desc, &decision);
    if (kind == CP_OP_NONE || !inst->release || cp_plane_crash(plane, "effect"))
        return;
    cp_map labels = {0};
    cp_instance_labels(plane, inst, &labels);
    cp_runtime_spec spec;
    fill_spec(plane, inst, &labels, &spec);
    inst->op_kind = kind;
    inst->op_generation = inst->row.generation;
    inst->operated = ++plane->reconciler->operations;
    inst->seen = CP_SEEN_UNKNOWN;
    runtime->in_flight++;
    cp_autoerror cp_error err = {0};
    cp_provider *provider = runtime->provider;
    int r = provider->class->operate(provider, (cp_op_kind)kind, &spec, done, inst, &inst->op, &err);
    cp_map_clear(&labels);
    if (r < 0)
        done(inst, &err);
    else
        cp_plane_crash(plane, "effect_done");
}

void cp_operate_drain(cp_plane *plane) {
    for (size_t i = 0; i < plane->reconciler->count; i++) {
        cp_runtime *runtime = &plane->reconciler->runtimes[i];
        for (int class = 0; class < 2; class ++) {
            while (runtime->in_flight < CP_MAX_OPERATIONS && !runtime->down && !cp_plane_stopped(plane)) {
                cp_inst *inst = take(runtime, class);
                if (!inst)
                    break;
                if (!inst->op)
                    start(plane, runtime, inst);
            }
        }
    }
}

static cp_plane *plane_of(const cp_inst *inst) {
    return inst->wl->plane;
}

static void retry(void *userdata) {
    cp_inst *inst = userdata;
    cp_plane *plane = plane_of(inst);
    if (cp_plane_stopped(plane))
        return;
    if (inst->seen == CP_SEEN_UNKNOWN)
        cp_observe_look(plane, inst);
    cp_reconcile_kick(plane, inst);
}

static void retry_in(cp_plane *plane, cp_inst *inst, int64_t ms) {
    if (!inst->retry)
        inst->retry = cp_timer_new(plane->loop, retry, inst);
    cp_timer_start(inst->retry, ms);
    inst->next_try = cp_loop_mono(plane->loop) + ms;
}

void cp_operate_reached(cp_inst *inst) {
    inst->attempts = 0;
    inst->outages = 0;
    if (inst->retry)
        cp_timer_stop(inst->retry);
}

void cp_operate_again(cp_plane *plane, cp_inst *inst) {
    cp_operate_reached(inst);
    if (inst->row.desired == CP_DESIRED_DESTROYED && inst->row.state == CP_INSTANCE_FAILED)
        cp_instance_set_state(plane, inst, CP_INSTANCE_DESTROYING, NULL);
    if (!inst->op && inst->seen == CP_SEEN_UNKNOWN)
        cp_observe_look(plane, inst);
    cp_reconcile_kick(plane, inst);
}

static void operation_failed(cp_plane *plane, cp_runtime *runtime, cp_inst *inst, int kind, const cp_error *err) {
    if (err->code == CP_E_PROVIDER_UNAVAILABLE) { /* never a failure: nobody knows anything about the instance */
        inst->outages++;
        cp_instance_set_state(plane, inst, inst->row.state, err->message);
        retry_in(plane, inst, cp_backoff(plane->loop, inst->outages));
        cp_observe_doubt(plane, runtime);
        return;
    }
    inst->outages = 0;
    inst->attempts++;
    cp_autofree char *message =
        cp_printf("%s (try %" PRId64 " of %d)", err->message,
                  inst->attempts < CP_MAX_RETRIES ? inst->attempts : CP_MAX_RETRIES, CP_MAX_RETRIES);
    if (inst->attempts < CP_MAX_RETRIES) {
        cp_instance_set_state(plane, inst, inst->row.state, message);
    } else if (inst->attempts == CP_MAX_RETRIES) {
        cp_instance_set_state(plane, inst, CP_INSTANCE_FAILED, message);
    }
    /* What cannot be removed is tried for ever; what cannot be started is replaced by the next pass. */
    if (inst->attempts < CP_MAX_RETRIES || kind == CP_OP_DEPROVISION)
        retry_in(plane, inst, cp_backoff(plane->loop, inst->attempts));
    cp_observe_look(plane, inst);
}

static void operation_done(cp_plane *plane, cp_inst *inst, int kind) {
    inst->attempts = 0;
    inst->outages = 0;
    if (kind == CP_OP_DEPROVISION) {
        destroyed(plane, inst);
        return;
    }
    if (inst->op_generation > inst->row.applied_generation)
        inst->row.applied_generation = inst->op_generation;
    cp_set_string(&inst->row.message, NULL);
    cp_plane_save_instance(plane, inst);
    if (kind == CP_OP_RESTART || kind == CP_OP_UPDATE) {
        inst->restarts_base = inst->row.restarts;
        cp_plane_event(plane, "instance.restarted", NULL, inst->wl, inst, NULL,
                       json_pack("{s:I}", "generation", (json_int_t)inst->op_generation));
    }
    cp_observe_look(plane, inst);
    cp_plane_dirty(plane, inst->wl);
}

static void done(void *userdata, const cp_error *err) {
    cp_inst *inst = userdata;
    cp_plane *plane = plane_of(inst);
    cp_runtime *runtime = cp_runtime_of(plane, inst);
    int kind = inst->op_kind;
    inst->op = NULL;
    inst->operated = ++plane->reconciler->operations;
    runtime->in_flight--;
    if (cp_plane_stopped(plane) || cp_plane_crash(plane, "record"))
        return;
    cp_operate_soon(plane);
    if (err)
        operation_failed(plane, runtime, inst, kind, err);
    else
        operation_done(plane, inst, kind);
}

void cp_operate_drop(cp_plane *plane, cp_inst *inst) {
    cp_runtime *runtime = plane->reconciler ? cp_runtime_of(plane, inst) : NULL;
    if (inst->op) {
        runtime->provider->class->cancel(runtime->provider, inst->op);
        inst->op = NULL;
        runtime->in_flight--;
    }
    if (inst->queued)
        unqueue(plane, inst);
    cp_observe_forget(plane, inst);
}
