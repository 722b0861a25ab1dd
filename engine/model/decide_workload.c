/* engine/model/decide_workload.c -- From goals and what is there to the next actions of a workload: new up first within
 * the ceiling, then old down within the floor; what gave up is replaced under its index; restarts one at a time.
 * Pure. Must not know traffic, providers or time. decide_stateful.c has the kind whose replicas change in place. */
#include "model/decide_parts.h"

#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- the world ---- */

static size_t side_of(const cp_world *world, const char *release_id) {
    size_t i = 0;
    while (i + 1 < world->side_count && !cp_streq(world->sides[i].release_id, release_id))
        i++;
    return i; /* the last one is for releases that have no set */
}

static void add_member(cp_world *world, const cp_decide_replica *row) {
    size_t index = side_of(world, row->release_id);
    cp_side *side = &world->sides[index];
    cp_member *member = &world->members[world->member_count++];
    bool going = row->desired == CP_DESIRED_DESTROYED || row->state == CP_INSTANCE_DESTROYING;
    bool gave_up = row->state == CP_INSTANCE_FAILED;
    *member = (cp_member){.row = row, .side = index, .role = side->role, .kept = !going && !gave_up};
    member->ready = member->kept && row->ready;
    member->available = member->kept && row->seen && row->available;
    side->live++;
    world->live++;
    side->failing += row->failing || gave_up;
    if ((row->failing || gave_up) && side->role == CP_SET_NEW && !going && !world->unhealthy)
        world->unhealthy = row;
    if (!member->kept) {
        side->going++;
        if (!world->first_gone)
            world->first_gone = row;
        return;
    }
    side->kept++;
    side->inside += row->replica_index < world->n;
    side->ready += row->ready;
    side->healthy += row->ready && !row->failing;
    side->available += member->available;
    if (!row->seen && row->state != CP_INSTANCE_PROVISIONING) { /* one being made is surely not available yet */
        world->unseen_count++;
        if (!world->unseen)
            world->unseen = row;
    }
}

static void build(cp_world *world) {
    const cp_decide_input *input = world->input;
    world->side_count = input->sets.count + 1;
    world->sides = cp_alloc0(world->side_count * sizeof *world->sides);
    for (size_t i = 0; i < input->sets.count; i++) {
        const cp_decide_set *set = CP_LIST_AT(&input->sets, cp_decide_set, i);
        world->sides[i] = (cp_side){.set = set, .release_id = set->release_id, .role = set->role, .order = set->order};
    }
    world->sides[input->sets.count] = (cp_side){.role = CP_SET_ABANDONED, .order = INT64_MIN};
    world->members = cp_alloc0((input->instances.count + 1) * sizeof *world->members);
    for (size_t i = 0; i < input->instances.count; i++)
        add_member(world, CP_LIST_AT(&input->instances, cp_decide_replica, i));
}

/* ---- actions ---- */

static void add_action(cp_world *world, int act, const char *instance_id, const char *release_id, int64_t index,
                       const char *reason) {
    cp_decide_action *action = cp_list_add(&world->output->actions, &cp_decide_action_desc);
    *action = (cp_decide_action){
        .act = act,
        .instance_id = cp_strdup(instance_id),
        .release_id = cp_strdup(release_id),
        .replica_index = index,
        .reason = cp_strdup(reason),
    };
}

void cp_decide_create(cp_world *world, size_t side, int64_t index) {
    add_action(world, CP_ACT_CREATE, NULL, world->sides[side].release_id, index, "goal");
    world->sides[side].live++;
    world->sides[side].kept++;
    world->sides[side].inside++;
    world->live++;
    world->created++;
}

bool cp_decide_may_stop(const cp_world *world, const cp_member *member) {
    if (member->available && world->available_budget <= 0)
        return false;
    bool replacing = !world->input->returning && !world->input->holding;
    return !(replacing && world->unhealthy && world->sides[member->side].role == CP_SET_OLD);
}

void cp_decide_stop(cp_world *world, cp_member *member, int act, const char *release_id, const char *reason) {
    cp_side *side = &world->sides[member->side];
    add_action(world, act, member->row->id, release_id, member->row->replica_index, reason);
    side->kept--;
    side->inside -= member->row->replica_index < world->n;
    side->ready -= member->ready;
    side->healthy -= member->ready && !member->row->failing;
    side->available -= member->available;
    world->budget--;
    world->available_budget -= member->available;
    if (act == CP_ACT_DESTROY) {
        world->stopped++;
        if (!world->first_gone)
            world->first_gone = member->row;
    }
    member->kept = member->ready = member->available = false;
}

static void destroy_all(cp_world *world) {
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_decide_replica *row = world->members[i].row;
        world->first_gone = world->members[0].row;
        if (row->desired != CP_DESIRED_DESTROYED)
            add_action(world, CP_ACT_DESTROY, row->id, NULL, row->replica_index,
                       world->input->stopped ? "stopped" : "scale_down");
    }
}

/* What gave up is let go at once: it serves nobody. Its index is free again when it is gone. */
static void destroy_failed(cp_world *world) {
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_decide_replica *row = world->members[i].row;
        if (row->state == CP_INSTANCE_FAILED && row->desired != CP_DESIRED_DESTROYED)
            add_action(world, CP_ACT_DESTROY, row->id, NULL, row->replica_index, "failed");
    }
}

/* ---- deployment: up ---- */

size_t cp_decide_next_to_grow(const cp_world *world, const size_t *order) {
    for (size_t i = 0; i < world->side_count; i++)
        if (world->sides[order[i]].inside < world->sides[order[i]].goal)
            return order[i];
    return world->side_count;
}

void cp_decide_fill(cp_world *world, const cp_side *of, int64_t size, int64_t missing, const size_t *order) {
    if (missing <= 0)
        return;
    enum { FREE, KEPT, LEAVING };
    cp_autofree char *used = cp_alloc0((size_t)size);
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_member *member = &world->members[i];
        uint64_t at = (uint64_t)member->row->replica_index;
        if ((!of || &world->sides[member->side] == of) && at < (uint64_t)size)
            used[at] = member->kept || used[at] == KEPT ? KEPT : LEAVING;
    }
    for (int64_t at = 0; at < size && missing > 0; at++) {
        if (used[at] == KEPT)
            continue;
        missing--;
        if (used[at] == LEAVING)
            world->waiting++;
        else if (world->live >= world->ceiling)
            world->no_room++;
        else
            cp_decide_create(world, of ? (size_t)(of - world->sides) : cp_decide_next_to_grow(world, order), at);
    }
}

static void grow(cp_world *world, const cp_side *side) {
    cp_decide_fill(world, side, side->goal, side->goal - side->kept, NULL);
}

/* ---- deployment: down ---- */

/* In one pass at most: what is there, less the floor, less what is not available of the sets that do not shrink. */
static void count_budget(cp_world *world) {
    int64_t there = 0, available = 0;
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        there += side->kept > side->goal ? side->kept : side->available;
        available += side->available;
    }
    world->budget = there - world->floor;
    world->available_budget = available - world->floor;
}

int cp_decide_by_index(const cp_member *a, const cp_member *b) {
    if (a->row->replica_index != b->row->replica_index)
        return a->row->replica_index > b->row->replica_index ? -1 : 1;
    if (a->row->created_at != b->row->created_at)
        return a->row->created_at > b->row->created_at ? -1 : 1;
    return strcmp(b->row->id, a->row->id);
}

static int by_worth(const void *x, const void *y) {
    static const int RANK[] = {[CP_SET_ABANDONED] = 0, [CP_SET_NEW] = 1, [CP_SET_OLD] = 2};
    const cp_member *a = *(cp_member *const *)x, *b = *(cp_member *const *)y;
    if (a->ready != b->ready)
        return a->ready ? 1 : -1;
    if (a->available != b->available)
        return a->available ? 1 : -1;
    if (a->role != b->role) /* abandoned before new before old: new shrinks on the way back, or when held */
        return RANK[a->role] - RANK[b->role];
    return cp_decide_by_index(a, b);
}

static void shrink(cp_world *world) {
    cp_autofree cp_member **victims = cp_alloc0((world->member_count + 1) * sizeof *victims);
    size_t count = 0;
    int64_t wanted = 0;
    for (size_t i = 0; i < world->side_count; i++)
        wanted += world->sides[i].goal;
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_side *side = &world->sides[world->members[i].side];
        if (world->members[i].kept && side->kept > side->goal)
            victims[count++] = &world->members[i];
    }
    if (!count || world->unseen)
        return;
    count_budget(world);
    qsort(victims, count, sizeof *victims, by_worth);
    for (size_t i = 0; i < count && world->budget > 0; i++) {
        const cp_side *side = &world->sides[victims[i]->side];
        bool alone = side->goal == wanted; /* no other release is to have anything */
        if (side->kept > side->goal && cp_decide_may_stop(world, victims[i]))
            cp_decide_stop(world, victims[i], CP_ACT_DESTROY, NULL, alone ? "scale_down" : "replaced");
    }
}

/* ---- restart ---- */

static int by_restart(const void *x, const void *y) {
    const cp_member *a = *(cp_member *const *)x, *b = *(cp_member *const *)y;
    if (a->ready != b->ready)
        return a->ready ? 1 : -1;
    return cp_decide_by_index(b, a);
}

/* One that is not ready costs nothing more: it only has to find a place among those being restarted. A ready one goes
 * down while, with all that is missing or not ready for whatever reason, no more than `parallel` are. */
static void restart(cp_world *world) {
    const cp_decide_input *input = world->input;
    if (input->generation <= 0 || input->restart_stopped)
        return;
    int64_t parallel = input->restart_parallel > 1 ? input->restart_parallel : 1;
    int64_t under_way = 0, kept = 0, serving = 0;
    cp_autofree cp_member **waiting = cp_alloc0((world->member_count + 1) * sizeof *waiting);
    size_t count = 0;
    for (size_t i = 0; i < world->member_count; i++) {
        cp_member *member = &world->members[i];
        if (!member->kept)
            continue;
        kept++;
        serving += member->ready && member->row->seen;
        if (member->row->generation >= input->generation)
            under_way += !(member->ready && member->row->seen);
        else if (member->row->seen)
            waiting[count++] = member;
    }
    int64_t down = (kept > world->n ? kept : world->n) - serving;
    qsort(waiting, count, sizeof *waiting, by_restart);
    for (size_t i = 0; i < count && under_way < parallel; i++) {
        if (waiting[i]->ready && down >= parallel)
            break;
        down += waiting[i]->ready;
        under_way++;
        add_action(world, CP_ACT_RESTART, waiting[i]->row->id, NULL, waiting[i]->row->replica_index, "restart");
    }
}

/* ---- all of it ---- */

static void decide(cp_world *world) {
    if (world->n == 0) {
        destroy_all(world);
        return;
    }
    destroy_failed(world);
    if (world->input->kind == CP_KIND_STATEFUL_SET) {
        cp_decide_stateful(world);
    } else {
        cp_autofree size_t *order = cp_alloc0(world->side_count * sizeof *order);
        cp_decide_order(world, order);
        for (size_t i = 0; i < world->side_count; i++)
            grow(world, &world->sides[order[i]]);
        shrink(world);
    }
    restart(world);
}

void cp_decide_workload(const cp_decide_input *input, cp_decide_output *output) {
    cp_world world = {.input = input, .output = output, .n = input->stopped ? 0 : input->replicas};
    cp_guards_resolve(input->kind, world.n, input->surge, input->unavailable, &output->surge, &output->unavailable);
    world.ceiling = output->ceiling = world.n + output->surge;
    world.floor = output->floor = world.n - least(output->unavailable, world.n);
    build(&world);
    cp_decide_goals(&world);
    decide(&world);
    cp_decide_report(&world);
    cp_freep(&world.sides);
    cp_freep(&world.members);
}

static bool more(int64_t *best, int64_t now) {
    if (now <= *best)
        return false;
    *best = now;
    return true;
}

bool cp_decide_progress(cp_progress *best, const cp_decide_output *now) {
    cp_progress sum = {0};
    for (size_t i = 0; i < now->sets.count; i++) {
        const cp_decide_count *set = CP_LIST_AT(&now->sets, cp_decide_count, i);
        bool fresh = set->role == CP_SET_NEW;
        sum.created += fresh ? set->live : 0;
        sum.ready += fresh ? set->ready : 0;
        sum.available += fresh ? set->available : 0;
        sum.old += fresh ? 0 : set->live;
    }
    bool made = more(&best->created, sum.created);
    made = more(&best->ready, sum.ready) || made;
    made = more(&best->available, sum.available) || made;
    if (sum.old < best->old) {
        best->old = sum.old;
        made = true;
    }
    return made;
}
