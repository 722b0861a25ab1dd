/* engine/plane/observe.c -- What providers say: adoption at a start, looks at one instance, a resync of all.
 * Hints only make it look sooner. What is older than an instance's last operation is ignored. Must not decide. */
#include "plane/reconciler.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    RESYNC = 45000, /* ms, with a watch; +-20 % */
    RESYNC_UNWATCHED = 5000,
};

/* A question about one instance. The provider drops its answer when the plane stops watching. */
typedef struct look {
    cp_plane *plane;
    cp_inst *inst; /* NULL: forgotten */
    uint64_t operated;
} look;

static void ask_list(cp_runtime *runtime);

/* What readiness.c found out about a service stays until it finds out something else. */
static void keep_readiness(const cp_instance *row, cp_list *services) {
    for (size_t i = 0; i < services->count && i < row->service_status.count; i++) {
        cp_service_status *now = CP_LIST_AT(services, cp_service_status, i);
        const cp_service_status *old = CP_LIST_AT(&row->service_status, cp_service_status, i);
        if (!cp_streq(now->name, old->name) || !cp_streq(now->state, old->state) || now->restarts != old->restarts)
            continue;
        now->ready = old->ready;
        if (cp_is_empty(now->message))
            cp_set_string(&now->message, old->message);
    }
}

/* Copies what was seen into the row; true when something of it changed. */
static bool take_over(cp_inst *inst, const cp_observation *seen, bool probes) {
    cp_instance *row = &inst->row;
    cp_observation old = {.services = row->service_status,
                          .endpoints = row->endpoints,
                          .restarts = row->restarts,
                          .started_at = row->started_at,
                          .provider_ref = row->provider_ref};
    cp_observation lent = {.services = seen->services,
                           .endpoints = seen->endpoints,
                           .restarts = seen->restarts,
                           .started_at = seen->started_at,
                           .provider_ref = seen->provider_ref};
    cp_observation now = {0};
    cp_desc_copy(&cp_observation_desc, &now, &lent);
    if (!probes)
        keep_readiness(row, &now.services);
    bool changed = !cp_desc_equal(&cp_observation_desc, &old, &now);
    if (changed) {
        cp_list_clear(&row->service_status, &cp_service_status_desc);
        cp_list_clear(&row->endpoints, &cp_endpoint_desc);
        row->service_status = now.services;
        row->endpoints = now.endpoints;
        now.services = now.endpoints = (cp_list){0};
        row->restarts = now.restarts;
        row->started_at = now.started_at;
        cp_set_string(&row->provider_ref, now.provider_ref);
    }
    cp_desc_clear(&cp_observation_desc, &now);
    return changed;
}

/* An answer that counts. May free the instance. */
static void observe(cp_plane *plane, cp_inst *inst, const cp_observation *seen) {
    bool first = !inst->anew;
    inst->anew = true;
    inst->seen = seen->seen;
    inst->seen_generation = seen->generation;
    cp_set_string(&inst->seen_release_id, seen->release_id);
    int64_t restarts = inst->row.restarts;
    bool there = seen->seen != CP_SEEN_ABSENT && seen->seen != CP_SEEN_UNKNOWN;
    bool probes = cp_runtime_of(plane, inst)->provider->class->capabilities & CP_CAN_PROBE;
    bool changed = there && take_over(inst, seen, probes);
    if (first && inst->row.restarts != restarts)
        cp_readiness_set(plane, inst, false);                       /* another run than the one that our rows tell of */
    if (there && seen->generation > inst->row.applied_generation) { /* done by an engine that could not record it */
        inst->row.applied_generation = seen->generation;
        changed = true;
    }
    if (seen->seen == CP_SEEN_RUNNING && seen->generation >= inst->row.generation)
        cp_operate_reached(inst); /* whatever went wrong on the way here */
    bool said =
        !cp_is_empty(seen->message) || (inst->row.desired == CP_DESIRED_RUNNING && !inst->attempts && !inst->outages);
    if (there && said && !cp_streq(inst->row.message, seen->message) &&
        !(cp_is_empty(inst->row.message) && cp_is_empty(seen->message))) {
        cp_set_string(&inst->row.message, seen->message);
        changed = true;
    }
    if (!cp_is_empty(seen->message))
        cp_set_string(&inst->complaint, seen->message);
    if (changed)
        cp_plane_save_instance(plane, inst);
    if (changed || first)
        cp_plane_dirty(plane, inst->wl);
    if (there && inst->row.restarts > restarts && !first)
        cp_plane_event(plane, "instance.restarted", NULL, inst->wl, inst, NULL,
                       json_pack("{s:I, s:s}", "restarts", (json_int_t)inst->row.restarts, "message",
                                 inst->row.message ? inst->row.message : "crashed"));
    cp_readiness_update(plane, inst);
    cp_reconcile_kick(plane, inst);
}

/* Looks. */

static void looked(void *userdata, const cp_observation *seen, const cp_error *err) {
    look *l = userdata;
    cp_plane *plane = l->plane;
    cp_inst *inst = l->inst;
    uint64_t operated = l->operated;
    cp_vec_drop(&plane->reconciler->looks, l);
    free(l);
    if (inst)
        inst->looking = NULL;
    if (!inst || cp_plane_stopped(plane))
        return;
    if (inst->look_again) {
        inst->look_again = false;
        cp_observe_look(plane, inst);
        if (operated != inst->operated || inst->op)
            return;
    }
    if (inst->op || operated != inst->operated)
        return; /* older than its last operation, whose end asks anew */
    if (err) {
        cp_observe_doubt(plane, cp_runtime_of(plane, inst)); /* a list brings the news once somebody answers */
        return;
    }
    observe(plane, inst, seen);
}

void cp_observe_look(cp_plane *plane, cp_inst *inst) {
    cp_runtime *runtime = cp_runtime_of(plane, inst);
    if (!runtime || inst->op || cp_plane_stopped(plane))
        return;
    if (inst->looking) {
        inst->look_again = true;
        return;
    }
    look *l = cp_new0(look);
    *l = (look){.plane = plane, .inst = inst, .operated = inst->operated};
    cp_autoerror cp_error err = {0};
    cp_provider *provider = runtime->provider;
    if (provider->class->status(provider, inst->row.id, looked, l, &err) < 0) {
        free(l);
        cp_observe_doubt(plane, runtime);
        return;
    }
    inst->looking = l;
    cp_vec_push(&plane->reconciler->looks, l);
}

void cp_observe_forget(cp_plane *plane, cp_inst *inst) {
    (void)plane;
    if (inst->looking)
        ((look *)inst->looking)->inst = NULL;
    inst->looking = NULL;
}

static void hinted(void *userdata, const char *instance_id) {
    cp_runtime *runtime = userdata;
    if (cp_plane_stopped(runtime->plane))
        return;
    if (!instance_id) {
        ask_list(runtime);
        return;
    }
    cp_inst *inst = cp_table_get(runtime->plane->instances, instance_id);
    if (inst)
        cp_observe_look(runtime->plane, inst);
}

/* Lists: adoption and resync. */

static void report_orphan(cp_runtime *runtime, const cp_observation *item) {
    cp_plane *plane = runtime->plane;
    if (!cp_streq(item->plane_id, plane->id) || cp_table_get(runtime->orphans, item->instance_id))
        return;
    cp_table_set(runtime->orphans, item->instance_id, runtime);
    cp_log(CP_LOG_WARN, "%s runs %s, which this plane does not know; it is left alone", runtime->provider->name,
           item->instance_id);
    cp_plane_event(plane, "instance.orphaned", NULL, NULL, NULL, NULL,
                   json_pack("{s:s, s:s, s:s}", "instance_id", item->instance_id, "provider_name",
                             runtime->provider->name, "workload_id", item->workload_id ? item->workload_id : ""));
}

static int by_id(const void *a, const void *b) {
    return strcmp((*(const cp_observation *const *)a)->instance_id, (*(const cp_observation *const *)b)->instance_id);
}

static int id_of(const void *key, const void *item) {
    return strcmp(key, (*(const cp_observation *const *)item)->instance_id);
}

/* back: nobody answered before. */
static void take_list(cp_runtime *runtime, const cp_observation *items, size_t count, bool back) {
    cp_plane *plane = runtime->plane;
    cp_autofree const cp_observation **sorted = cp_alloc0(count * sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &items[i];
    qsort(sorted, count, sizeof *sorted, by_id);
    for (size_t i = 0; i < count; i++)
        if (!cp_table_get(plane->instances, items[i].instance_id))
            report_orphan(runtime, &items[i]);
    for (size_t w = 0; w < plane->order.count; w++) {
        cp_wl *wl = plane->order.items[w];
        for (size_t i = wl->instances.count; i-- > 0;) { /* from the end: one that is gone is dropped on the way */
            cp_inst *inst = wl->instances.items[i];
            if (inst->op || inst->operated > runtime->list_operations || cp_runtime_of(plane, inst) != runtime)
                continue;
            const cp_observation **found = bsearch(inst->row.id, sorted, count, sizeof *sorted, id_of);
            cp_observation absent = {.instance_id = inst->row.id, .seen = CP_SEEN_ABSENT};
            if (back && inst->outages) { /* somebody answers again: no need to wait any longer */
                inst->outages = 0;
                cp_timer_stop(inst->retry);
                cp_plane_dirty(plane, wl);
            }
            observe(plane, inst, found ? *found : &absent);
        }
    }
}

static void resync_in(cp_runtime *runtime, int64_t ms) {
    cp_timer_start(runtime->resync, ms);
}

static void listed(void *userdata, const cp_observation *items, size_t count, const cp_error *err) {
    cp_runtime *runtime = userdata;
    cp_plane *plane = runtime->plane;
    runtime->listing = false;
    if (cp_plane_stopped(plane) || cp_plane_crash(plane, "adopt"))
        return;
    runtime->listed = true;
    if (err) {
        runtime->outages++;
        if (!runtime->down)
            cp_log(CP_LOG_WARN, "provider %s: %s; it is asked for ever", runtime->provider->name, err->message);
        runtime->down = true;
        cp_set_string(&runtime->message, err->message);
        resync_in(runtime, cp_backoff(plane->loop, runtime->outages));
        return;
    }
    bool was_down = runtime->down;
    runtime->down = false;
    runtime->outages = 0;
    int64_t every = runtime->provider->class->capabilities & CP_CAN_WATCH ? RESYNC : RESYNC_UNWATCHED;
    resync_in(runtime, every - every / 5 + (int64_t)(cp_loop_random(plane->loop) % (uint64_t)(every / 5 * 2)));
    take_list(runtime, items, count, was_down);
    if (was_down) {
        cp_log(CP_LOG_WARN, "provider %s answers again", runtime->provider->name);
        for (size_t i = 0; i < plane->order.count; i++)
            cp_plane_dirty(plane, plane->order.items[i]);
    }
    cp_operate_soon(plane);
    if (runtime->list_again) {
        runtime->list_again = false;
        ask_list(runtime);
    }
}

static void ask_list(cp_runtime *runtime) {
    if (runtime->listing) {
        runtime->list_again = true;
        return;
    }
    cp_autoerror cp_error err = {0};
    runtime->listing = true;
    runtime->list_operations = runtime->plane->reconciler->operations;
    cp_provider *provider = runtime->provider;
    if (provider->class->list(provider, listed, runtime, &err) < 0)
        listed(runtime, NULL, 0, &err);
}

void cp_observe_doubt(cp_plane *plane, cp_runtime *runtime) {
    (void)plane;
    if (!runtime->down && !runtime->listing)
        ask_list(runtime);
}

static void on_resync(void *userdata) {
    cp_runtime *runtime = userdata;
    if (!cp_plane_stopped(runtime->plane))
        ask_list(runtime);
}

bool cp_observe_adopted(const cp_plane *plane) {
    if (!plane->reconciler)
        return false;
    for (size_t i = 0; i < plane->reconciler->count; i++)
        if (!plane->reconciler->runtimes[i].listed)
            return false;
    return true;
}

json_t *cp_reconcile_blocks(cp_plane *plane, cp_wl *wl) {
    json_t *rows = json_array();
    if (!cp_plane_provider(plane, wl->row.provider_name)) {
        cp_autofree char *message = cp_printf("its provider %s is not open in this engine", wl->row.provider_name);
        json_array_append_new(
            rows, json_pack("{s:s, s:i, s:i, s:s}", "guard", "provider", "value", 0, "needed", 1, "message", message));
    }
    for (size_t i = 0; plane->reconciler && i < plane->reconciler->count; i++) {
        const cp_runtime *runtime = &plane->reconciler->runtimes[i];
        if (runtime->down && cp_streq(runtime->provider->name, wl->row.provider_name))
            json_array_append_new(rows,
                                  json_pack("{s:s, s:I, s:i, s:s}", "guard", "provider", "value",
                                            (json_int_t)runtime->outages, "needed", 0, "message", runtime->message));
    }
    int64_t now = cp_loop_mono(plane->loop);
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        bool waits = inst->retry && cp_timer_armed(inst->retry);
        if (!waits && inst->row.state != CP_INSTANCE_FAILED)
            continue;
        json_t *row = json_pack("{s:s, s:I, s:i, s:s, s:s}", "guard", waits ? "retry" : "failed", "value",
                                (json_int_t)inst->attempts, "needed", 0, "instance_id", inst->row.id, "message",
                                inst->row.message ? inst->row.message : "");
        if (waits)
            json_object_set_new(row, "next_try_in", json_real((double)(inst->next_try - now) / 1000));
        json_array_append_new(rows, row);
    }
    return rows;
}

int cp_reconcile_start(cp_plane *plane, cp_error *err) {
    if (plane->providers.count == 0)
        return cp_fail(err, CP_E_INVALID, "a plane needs a provider");
    struct cp_reconciler *reconciler = plane->reconciler = cp_new0(struct cp_reconciler);
    reconciler->plane = plane;
    reconciler->count = plane->providers.count;
    reconciler->runtimes = cp_alloc0(reconciler->count * sizeof *reconciler->runtimes);
    for (size_t i = 0; i < reconciler->count; i++) {
        cp_runtime *runtime = &reconciler->runtimes[i];
        runtime->plane = plane;
        runtime->provider = plane->providers.items[i];
        runtime->orphans = cp_table_new();
        runtime->resync = cp_timer_new(plane->loop, on_resync, runtime);
        if (runtime->provider->class->watch)
            runtime->provider->class->watch(runtime->provider, hinted, runtime);
        ask_list(runtime);
    }
    return 0;
}

/* Stops watching; the instances are dropped after this, so their operations must be cancelled here. */
void cp_reconcile_free(cp_plane *plane) {
    struct cp_reconciler *reconciler = plane->reconciler;
    if (!reconciler)
        return;
    for (size_t w = 0; w < plane->order.count; w++) {
        cp_wl *wl = plane->order.items[w];
        for (size_t i = 0; i < wl->instances.count; i++)
            cp_operate_drop(plane, wl->instances.items[i]);
    }
    for (size_t i = 0; i < reconciler->count; i++) {
        cp_runtime *runtime = &reconciler->runtimes[i];
        if (runtime->provider->class->watch)
            runtime->provider->class->watch(runtime->provider, NULL, NULL);
        cp_timer_free(runtime->resync);
        cp_table_free(runtime->orphans);
        free(runtime->message);
    }
    for (size_t i = 0; i < reconciler->looks.count; i++)
        free(reconciler->looks.items[i]);
    cp_vec_clear(&reconciler->looks);
    cp_loop_forget(plane->loop, reconciler); /* a queued drain */
    free(reconciler->runtimes);
    free(reconciler);
    plane->reconciler = NULL;
}
