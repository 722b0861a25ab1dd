/* engine/model/decide_stateful.c -- The kind whose replicas have an identity: an index belongs to one instance at a
 * time, whatever its release; a new release comes to an instance in place, one at a time; scaling down always removes
 * the highest index. Pure. */
#include "model/decide_parts.h"

#include <stdlib.h>

static int64_t total_inside(const cp_world *world) {
    int64_t sum = 0;
    for (size_t i = 0; i < world->side_count; i++)
        sum += world->sides[i].inside;
    return sum;
}

static int64_t total_goal(const cp_world *world) {
    int64_t sum = 0;
    for (size_t i = 0; i < world->side_count; i++)
        sum += world->sides[i].goal;
    return sum;
}

/* As for a deployment; what lies outside 0..N-1 shrinks as well. */
static void count_budget(cp_world *world) {
    int64_t there = 0, available = 0;
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        there += side->inside > side->goal ? side->kept : side->available + side->kept - side->inside;
        available += side->available;
    }
    world->budget = there - world->floor;
    world->available_budget = available - world->floor;
}

static int by_index(const void *x, const void *y) {
    return cp_decide_by_index(*(cp_member *const *)x, *(cp_member *const *)y);
}

static int by_worth(const void *x, const void *y) {
    const cp_member *a = *(cp_member *const *)x, *b = *(cp_member *const *)y;
    if (a->ready != b->ready)
        return a->ready ? 1 : -1;
    return by_index(x, y);
}

/* The highest index first, and nothing beside it while it has to wait. */
static void cut(cp_world *world, cp_member **members, size_t count) {
    qsort(members, count, sizeof *members, by_index);
    for (size_t i = 0; i < count && members[i]->row->replica_index >= world->n; i++) {
        if (world->budget <= 0 || (members[i]->available && world->available_budget <= 0))
            return;
        cp_decide_stop(world, members[i], CP_ACT_DESTROY, NULL, "scale_down");
    }
}

/* Surplus of one release is updated to the release that lacks; what nobody lacks is let go. */
static void exchange(cp_world *world, cp_member **members, size_t count, const size_t *order) {
    qsort(members, count, sizeof *members, by_worth);
    for (size_t i = 0; i < count && world->budget > 0; i++) {
        const cp_side *side = &world->sides[members[i]->side];
        if (!members[i]->kept || members[i]->row->replica_index >= world->n || side->inside <= side->goal ||
            !cp_decide_may_stop(world, members[i]))
            continue;
        size_t target = cp_decide_next_to_grow(world, order);
        if (target < world->side_count) {
            cp_decide_stop(world, members[i], CP_ACT_UPDATE, world->sides[target].release_id, "replaced");
            world->sides[target].kept++;
            world->sides[target].inside++;
            world->sides[target].live++;
            world->sides[members[i]->side].live--;
        } else {
            cp_decide_stop(world, members[i], CP_ACT_DESTROY, NULL, "replaced");
        }
    }
}

void cp_decide_stateful(cp_world *world) {
    cp_autofree size_t *order = cp_alloc0(world->side_count * sizeof *order);
    cp_decide_order(world, order);
    cp_decide_fill(world, NULL, world->n, total_goal(world) - total_inside(world), order);
    if (world->unseen)
        return;
    cp_autofree cp_member **members = cp_alloc0((world->member_count + 1) * sizeof *members);
    size_t count = 0;
    for (size_t i = 0; i < world->member_count; i++)
        if (world->members[i].kept)
            members[count++] = &world->members[i];
    count_budget(world);
    cut(world, members, count);
    exchange(world, members, count, order);
}
