/* engine/plane/reconcile.c -- One pass over a workload: goals in rows, what is there, decide_workload, rows again.
 * What the actions need from a provider happens after the commit, in operate.c. Must not call providers. */
#include "plane/reconciler.h"

#include "base/id.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_BLOCKS = 50,
    TOGETHER = 100, /* ms: back-offs that end about then end in one pass */
};

/* Back-off of a replica that gave up: its successor under the same index waits, longer each time, so that a release
 * that cannot run does not spin. Kept in memory only: a new engine tries again at once. */
typedef struct slot {
    char *release_id;
    int64_t replica_index, failures, next_at; /* plane time */
} slot;

/* Where it is, or belongs: they are in order, since as many as there are replicas are looked up in one pass. */
static size_t slot_position(const cp_wl *wl, const char *release_id, int64_t index) {
    size_t low = 0, high = wl->slots.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const slot *s = wl->slots.items[middle];
        bool before = s->replica_index == index ? strcmp(s->release_id, release_id) < 0 : s->replica_index < index;
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    return low;
}

static slot *find_slot(const cp_wl *wl, const char *release_id, int64_t index) {
    size_t at = slot_position(wl, release_id, index);
    slot *s = at < wl->slots.count ? wl->slots.items[at] : NULL;
    return s && s->replica_index == index && strcmp(s->release_id, release_id) == 0 ? s : NULL;
}

static slot *add_slot(cp_wl *wl, const char *release_id, int64_t index) {
    slot *s = cp_new0(slot);
    *s = (slot){.release_id = cp_strdup(release_id), .replica_index = index};
    size_t at = slot_position(wl, release_id, index);
    cp_vec_push(&wl->slots, s);
    memmove(&wl->slots.items[at + 1], &wl->slots.items[at], (wl->slots.count - 1 - at) * sizeof(void *));
    wl->slots.items[at] = s;
    return s;
}

static void free_slot(slot *s) {
    free(s->release_id);
    free(s);
}

void cp_wl_clear_slots(cp_wl *wl) {
    for (size_t i = 0; i < wl->slots.count; i++)
        free_slot(wl->slots.items[i]);
    cp_vec_clear(&wl->slots);
}

/* Those that have not given up for long are forgotten. */
static void sweep_slots(cp_wl *wl, int64_t now) {
    size_t kept = 0;
    for (size_t i = 0; i < wl->slots.count; i++) {
        slot *s = wl->slots.items[i];
        if (s->next_at + 10 * CP_BACKOFF_LAST >= now)
            wl->slots.items[kept++] = s;
        else
            free_slot(s);
    }
    wl->slots.count = kept;
}

void cp_reconcile_gave_up(cp_plane *plane, cp_inst *inst) {
    cp_wl *wl = inst->wl;
    cp_plane_dirty(plane, wl);
    if (inst->row.desired != CP_DESIRED_RUNNING)
        return;
    int64_t now = cp_plane_time(plane);
    slot *s = find_slot(wl, inst->row.release_id, inst->row.replica_index);
    if (!s) {
        sweep_slots(wl, now);
        s = add_slot(wl, inst->row.release_id, inst->row.replica_index);
    }
    if (cp_plane_now(plane) - inst->row.created_at > CP_BACKOFF_LAST || s->next_at + 10 * CP_BACKOFF_LAST < now)
        s->failures = 0; /* it held for a while */
    s->failures++;
    s->next_at = now + cp_backoff(plane->loop, s->failures);
    s->next_at += TOGETHER - s->next_at % TOGETHER;
    if (cp_rollout_active(wl))
        cp_rollout_instance_failed(plane, wl, inst);
}

static void add_block(cp_wl *wl, const char *guard, double value, double needed, const char *instance_id,
                      const char *release_id, char *message) {
    cp_block *block = cp_list_add(&wl->last.blocks, &cp_block_desc);
    *block = (cp_block){.guard = cp_strdup(guard),
                        .value = value,
                        .needed = needed,
                        .instance_id = cp_strdup(instance_id),
                        .release_id = cp_strdup(release_id),
                        .message = message};
}

/* available, failing: what follows from ready and restarts, and from time. */
static void refresh(cp_plane *plane, cp_wl *wl, cp_inst *inst, int64_t min_ready) {
    int64_t now = cp_plane_time(plane), at = inst->row.ready_at + min_ready;
    inst->available = inst->row.ready && now >= at;
    if (inst->row.ready && !inst->available)
        cp_plane_wake(plane, wl, at);
    if (inst->available)
        inst->restarts_base = inst->row.restarts;
    inst->failing = !inst->row.ready && inst->row.restarts - inst->restarts_base >= 3;
}

/* A restart stops at the first replica that it broke. */
static void watch_restart(cp_plane *plane, cp_wl *wl) {
    if (wl->row.restart_parallel <= 0)
        return;
    const cp_inst *left = NULL, *broken = NULL;
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        if (inst->row.desired != CP_DESIRED_RUNNING && inst->row.state != CP_INSTANCE_FAILED)
            continue;
        if (inst->row.generation < wl->row.generation)
            left = inst;
        else if (inst->row.state == CP_INSTANCE_FAILED || inst->failing)
            broken = inst;
    }
    if (!left || !broken)
        return;
    wl->row.restart_parallel = -wl->row.restart_parallel;
    free(wl->row.message);
    wl->row.message = cp_printf("the restart stopped at %s: %s", broken->row.name,
                                cp_is_empty(broken->row.message) ? "it failed" : broken->row.message);
    cp_plane_save_workload(plane, wl);
}

static void build_input(cp_plane *plane, cp_wl *wl, cp_decide_input *input) {
    int64_t min_ready = 0;
    cp_rollout_guards(wl, &input->surge, &input->unavailable, &min_ready, &input->holding, &input->returning);
    for (size_t i = 0; i < wl->instances.count; i++)
        refresh(plane, wl, wl->instances.items[i], min_ready);
    watch_restart(plane, wl);
    const cp_deployment *dep = wl->deployments.count ? wl->deployments.items[wl->deployments.count - 1] : NULL;
    input->kind = wl->row.kind;
    input->replicas = wl->row.replica_count;
    input->stopped = wl->row.state == CP_WORKLOAD_PAUSED || wl->row.state == CP_WORKLOAD_DESTROYING;
    input->held_replicas = dep ? dep->held_replicas : 0;
    input->generation = wl->row.generation;
    input->restart_parallel = llabs(wl->row.restart_parallel);
    input->restart_stopped = wl->row.restart_parallel < 0;

    input->sets.count = wl->sets.count;
    input->sets.items = cp_alloc0(wl->sets.count * sizeof(cp_decide_set));
    for (size_t i = 0; i < wl->sets.count; i++) {
        const cp_replica_set *set = wl->sets.items[i];
        const cp_rel *rel = cp_wl_release(wl, set->release_id);
        *CP_LIST_AT(&input->sets, cp_decide_set, i) = (cp_decide_set){.release_id = set->release_id,
                                                                      .role = set->role,
                                                                      .goal = set->goal,
                                                                      .held = set->held,
                                                                      .order = rel ? rel->row.version : 0,
                                                                      .round_up = cp_rollout_rounds_up(wl, set)};
    }
    input->instances.count = wl->instances.count;
    input->instances.items = cp_alloc0(wl->instances.count * sizeof(cp_decide_replica));
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        *CP_LIST_AT(&input->instances, cp_decide_replica, i) =
            (cp_decide_replica){.id = inst->row.id,
                                .release_id = inst->row.release_id,
                                .replica_index = inst->row.replica_index,
                                .state = inst->row.state,
                                .desired = inst->row.desired,
                                .ready = inst->row.ready,
                                .available = inst->available,
                                .failing = inst->failing,
                                .seen = inst->anew,
                                .generation = inst->row.generation,
                                .created_at = inst->row.created_at};
    }
}

static cp_inst *create(cp_plane *plane, cp_wl *wl, const cp_decide_action *action) {
    char *id = cp_id_new("inst", cp_plane_now(plane));
    cp_instance row = {
        .id = id,
        .created_at = cp_plane_now(plane),
        .tenant_id = cp_strdup(wl->row.tenant_id),
        .workload_id = cp_strdup(wl->row.id),
        .replica_index = action->replica_index,
        .release_id = cp_strdup(action->release_id),
        .name = cp_printf("%s-%" PRId64 "-%s", wl->row.slug, action->replica_index, id + strlen(id) - 5),
        .kind = wl->row.kind,
        .provider_name = cp_strdup(wl->row.provider_name),
        .region = cp_strdup(wl->row.region),
        .state = CP_INSTANCE_PROVISIONING,
        .desired = CP_DESIRED_RUNNING,
        .generation = wl->row.generation > 0 ? wl->row.generation : 1,
    };
    cp_inst *inst = cp_plane_add_instance(plane, wl, &row);
    inst->anew = true;
    inst->seen = CP_SEEN_ABSENT;
    cp_plane_save_instance(plane, inst);
    cp_plane_event(
        plane, "instance.created", NULL, wl, inst, NULL,
        json_pack("{s:I, s:s}", "replica_index", (json_int_t)action->replica_index, "release_id", action->release_id));
    return inst;
}

static void destroy(cp_plane *plane, cp_inst *inst, const char *reason) {
    inst->row.desired = CP_DESIRED_DESTROYED;
    cp_operate_reached(inst); /* the tries of its start are not those of its removal */
    cp_readiness_set(plane, inst, false);
    cp_readiness_free(inst);
    cp_instance_set_state(plane, inst, CP_INSTANCE_DESTROYING, inst->row.message ? inst->row.message : reason);
}

static void bring(cp_plane *plane, cp_inst *inst, int64_t generation) {
    inst->row.generation = generation;
    cp_readiness_set(plane, inst, false);
    cp_readiness_free(inst); /* they asked what ran before, and speak of its release */
    cp_plane_save_instance(plane, inst);
}

/* False when the successor of one that gave up has to wait. */
static bool may_create(cp_plane *plane, cp_wl *wl, const cp_decide_action *action) {
    const slot *s = find_slot(wl, action->release_id, action->replica_index);
    int64_t now = cp_plane_time(plane);
    if (!s || s->next_at <= now)
        return true;
    cp_plane_wake(plane, wl, s->next_at);
    if (wl->last.blocks.count >= MOST_BLOCKS)
        return false; /* more than anybody is shown */
    add_block(wl, "backoff", (double)(s->next_at - now) / 1000, 0, NULL, action->release_id,
              cp_printf("replica %" PRId64 " gave up %" PRId64 " times; the next try is in %.1f s",
                        action->replica_index, s->failures, (double)(s->next_at - now) / 1000));
    return false;
}

static void act(cp_plane *plane, cp_wl *wl, const cp_decide_action *action) {
    cp_inst *inst = cp_table_get(plane->instances, action->instance_id);
    switch ((cp_act)action->act) {
    case CP_ACT_CREATE:
        if (!may_create(plane, wl, action))
            return;
        inst = create(plane, wl, action);
        break;
    case CP_ACT_DESTROY:
        destroy(plane, inst, action->reason);
        break;
    case CP_ACT_UPDATE:
        cp_set_string(&inst->row.release_id, action->release_id);
        inst->release = cp_wl_release(wl, action->release_id);
        bring(plane, inst, inst->row.generation + 1);
        break;
    case CP_ACT_RESTART:
        bring(plane, inst, wl->row.generation);
        break;
    }
    cp_reconcile_kick(plane, inst);
}

static void count(cp_plane *plane, cp_wl *wl) {
    int64_t ready = 0;
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        ready += inst->row.ready && inst->row.desired == CP_DESIRED_RUNNING;
    }
    if (ready != wl->row.ready_replicas) {
        wl->row.ready_replicas = ready;
        cp_plane_save_workload(plane, wl);
    }
    for (size_t i = 0; i < wl->last.sets.count; i++) {
        const cp_decide_count *of = CP_LIST_AT(&wl->last.sets, cp_decide_count, i);
        cp_replica_set *set = cp_wl_set(wl, of->release_id);
        if (set && set->desired != of->goal) {
            set->desired = of->goal;
            cp_plane_save_set(plane, set);
        }
    }
}

/* Sets that nobody wants and that have no instance are gone. */
static void sweep_sets(cp_plane *plane, cp_wl *wl) {
    for (size_t i = wl->sets.count; i-- > 0;) {
        cp_replica_set *set = wl->sets.items[i];
        bool wanted = set->role != CP_SET_ABANDONED || set->held > 0;
        for (size_t n = 0; n < wl->instances.count && !wanted; n++)
            wanted = cp_streq(((cp_inst *)wl->instances.items[n])->row.release_id, set->release_id);
        if (!wanted)
            cp_plane_drop_set(plane, set);
    }
}

static void destroyed(cp_plane *plane, cp_wl *wl) {
    while (wl->sets.count)
        cp_plane_drop_set(plane, wl->sets.items[wl->sets.count - 1]);
    cp_autofree char *key = cp_plane_slug_key(wl->row.tenant_id, wl->row.slug);
    if (cp_table_get(plane->slugs, key) == wl)
        cp_table_set(plane->slugs, key, NULL);
    wl->row.ready_replicas = 0;
    cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_DESTROYED);
    cp_plane_event(plane, "workload.deleted", NULL, wl, NULL, NULL, NULL);
}

/* One that cannot be removed makes the delete fail; the engine goes on trying, and a person may ask again. */
static void watch_delete(cp_plane *plane, cp_wl *wl) {
    if (wl->instances.count == 0) {
        destroyed(plane, wl);
        return;
    }
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        if (inst->row.state != CP_INSTANCE_FAILED || inst->row.desired != CP_DESIRED_DESTROYED)
            continue;
        free(wl->row.message);
        wl->row.message = cp_printf("%s cannot be removed: %s", inst->row.name, inst->row.message);
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_FAILED);
        cp_plane_event(plane, "workload.failed", NULL, wl, NULL, NULL, json_pack("{s:s}", "message", wl->row.message));
        return;
    }
}

void cp_reconcile_pass(cp_plane *plane, cp_wl *wl) {
    if (wl->row.state == CP_WORKLOAD_DESTROYED)
        return;
    cp_decide_input input = {0};
    build_input(plane, wl, &input);
    cp_desc_clear(&cp_decide_output_desc, &wl->last);
    cp_decide_workload(&input, &wl->last);
    free(input.sets.items); /* its texts are lent */
    free(input.instances.items);
    for (size_t i = 0; i < wl->last.actions.count; i++)
        act(plane, wl, CP_LIST_AT(&wl->last.actions, cp_decide_action, i));
    count(plane, wl);
    sweep_sets(plane, wl);
    /* A delete that failed leaves no replicas wanted; once the last one could be removed it is done. */
    if (wl->row.state == CP_WORKLOAD_FAILED && wl->row.replica_count == 0 && wl->instances.count == 0)
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_DESTROYING);
    if (wl->row.state == CP_WORKLOAD_DESTROYING)
        watch_delete(plane, wl);
    else if (wl->row.state == CP_WORKLOAD_SCALING && wl->last.reached && !cp_rollout_active(wl))
        cp_plane_set_workload_state(plane, wl, CP_WORKLOAD_ACTIVE);
}

bool cp_reconcile_counted(cp_plane *plane, cp_wl *wl) {
    bool rolls = wl->row.state != CP_WORKLOAD_PAUSED && cp_rollout_active(wl);
    return cp_reconcile_settled(plane, wl) ||
           (rolls && wl->last.reached && wl->row.ready_replicas >= wl->row.replica_count);
}

bool cp_reconcile_settled(cp_plane *plane, cp_wl *wl) {
    (void)plane;
    if (wl->row.state == CP_WORKLOAD_DESTROYED)
        return true;
    if (wl->row.state == CP_WORKLOAD_PAUSED)
        return wl->instances.count == 0;
    if (cp_rollout_active(wl)) {
        const cp_deployment *dep = wl->deployments.items[wl->deployments.count - 1];
        return dep->state == CP_DEPLOYMENT_PAUSED || !cp_is_empty(dep->awaiting);
    }
    if (wl->row.state == CP_WORKLOAD_FAILED)
        return true;
    if (wl->row.state != CP_WORKLOAD_ACTIVE)
        return false;
    if (wl->row.restart_parallel < 0)
        return true; /* a restart that stopped: it says so */
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        if (inst->row.desired != CP_DESIRED_RUNNING || inst->row.generation < wl->row.generation || !inst->row.ready)
            return false;
    }
    return wl->last.reached;
}
