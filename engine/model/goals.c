/* engine/model/goals.c -- Guards and goals as numbers: what surge, unavailable, shares, counts and held sizes are for
 * today's N. Must not know instances. */
#include "base/limits.h"
#include "model/decide_parts.h"

#include <inttypes.h>
#include <math.h>

#define EPSILON 1e-9 /* 33.3 + 66.7 percent is a hair above 100 */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void cp_guards_resolve(int kind, int64_t replicas, cp_share surge, cp_share unavailable, int64_t *ret_surge,
                       int64_t *ret_unavailable) {
    if (kind == CP_KIND_STATEFUL_SET) {
        *ret_surge = 0;
        *ret_unavailable = 1;
        return;
    }
    *ret_surge = least(cp_share_resolve(surge, replicas, true), CP_MAX_REPLICAS);
    *ret_unavailable = least(cp_share_resolve(unavailable, replicas, false), most(replicas, 0));
    if (*ret_surge == 0 && *ret_unavailable == 0)
        *ret_unavailable = 1; /* else nothing could ever move */
}

int cp_goals_check(int kind, int64_t replicas, cp_share surge, cp_share unavailable, int64_t new_goal, int64_t old_goal,
                   cp_error *err) {
    int64_t up, down;
    cp_guards_resolve(kind, replicas, surge, unavailable, &up, &down);
    int64_t sum = new_goal + old_goal;
    if (sum > replicas + up)
        return cp_fail(err, CP_E_DENIED,
                       "new %" PRId64 " + old %" PRId64 " = %" PRId64 " instances; the guards allow %" PRId64
                       " replicas + surge %" PRId64 " = %" PRId64,
                       new_goal, old_goal, sum, replicas, up, replicas + up);
    if (sum < replicas - down)
        return cp_fail(err, CP_E_DENIED,
                       "new %" PRId64 " + old %" PRId64 " = %" PRId64 " instances; the guards want at least %" PRId64
                       " replicas - unavailable %" PRId64 " = %" PRId64,
                       new_goal, old_goal, sum, replicas, down, replicas - down);
    return 0;
}

/* a goes before b: the newer release; of equal ones new, old, abandoned. */
static bool newer(const cp_side *a, const cp_side *b) {
    return a->order != b->order ? a->order > b->order : a->role < b->role;
}

/* Gives `extra` more, one each, to the sides with the largest remainder; equal ones: the newer. used: what takes part.
 */
static void spread(cp_world *world, const double *remainder, const bool *used, int64_t extra) {
    cp_autofree bool *given = cp_alloc0(world->side_count);
    for (; extra > 0; extra--) {
        size_t best = world->side_count;
        for (size_t i = 0; i < world->side_count; i++) {
            if (!used[i] || given[i])
                continue;
            double ahead = best < world->side_count ? remainder[i] - remainder[best] : 1;
            if (ahead > EPSILON || (ahead > -EPSILON && newer(&world->sides[i], &world->sides[best])))
                best = i;
        }
        given[best] = true;
        world->sides[best].goal++;
    }
}

/* Sizes as they were held, scaled when N has changed since. False when nothing was held (N was 0 then). */
static bool held_goals(cp_world *world) {
    int64_t sum = 0, n = world->n, was = world->input->held_replicas;
    for (size_t i = 0; i < world->side_count; i++) {
        cp_side *side = &world->sides[i];
        side->goal = side->set ? most(side->set->held, 0) : 0;
        sum += side->goal;
    }
    if (sum == 0)
        return false;
    int64_t target;
    if (was == n)
        target = least(sum, world->ceiling);
    else if (was > 0)
        target = sum > was ? world->ceiling : n; /* a mix above N stays above N */
    else
        target = sum < n ? n : least(sum, world->ceiling);
    if (target == sum)
        return true;
    cp_autofree double *remainder = cp_alloc0(world->side_count * sizeof *remainder);
    cp_autofree bool *used = cp_alloc0(world->side_count);
    int64_t given = 0;
    for (size_t i = 0; i < world->side_count; i++) {
        int64_t held = world->sides[i].goal;
        used[i] = held > 0;
        remainder[i] = (double)(held * target % sum) / (double)sum;
        world->sides[i].goal = held * target / sum;
        given += world->sides[i].goal;
    }
    spread(world, remainder, used, target - given);
    return true;
}

/* The share that old keeps when new has one and old was given none: a replace. */
static cp_share share_of(const cp_world *world, size_t index) {
    const cp_side *side = &world->sides[index];
    if (!side->set || side->role == CP_SET_ABANDONED)
        return (cp_share){.set = true};
    if (side->set->goal.set || side->role == CP_SET_NEW)
        return side->set->goal;
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *other = &world->sides[i];
        if (other->role == CP_SET_NEW && other->set->goal.percent && !other->set->round_up)
            return (cp_share){.set = true, .percent = true, .value = 100 - other->set->goal.value};
    }
    return side->set->goal; /* not set: the rest */
}

/* A share strictly between none and all leaves neither side empty where there are two to share, or room for two. */
static void empty_neither(cp_world *world, const bool *between) {
    for (size_t i = 0; i < world->side_count; i++) {
        cp_side *side = &world->sides[i], *other = NULL;
        for (size_t k = 0; k < world->side_count; k++)
            if (k != i && between[k])
                other = &world->sides[k];
        if (!between[i] || side->goal > 0 || (world->n < 2 && (!other || world->ceiling < 2)))
            continue;
        side->goal = 1;
        if (other && other->goal >= 2)
            other->goal--;
    }
    for (size_t i = 0; i < world->side_count; i++)
        if (between[i] && world->n >= 2 && world->sides[i].goal >= world->n)
            world->sides[i].goal = world->n - 1; /* what was retired is one at least */
}

/* Splits shares by largest remainder; what was launched rounds up; counts stay. */
static void share_goals(cp_world *world) {
    size_t count = world->side_count;
    cp_autofree cp_share *shares = cp_alloc0(count * sizeof *shares);
    cp_autofree double *remainder = cp_alloc0(count * sizeof *remainder);
    cp_autofree bool *split = cp_alloc0(count), *between = cp_alloc0(count);
    double exact_sum = 0;
    int64_t given = 0, sum = 0;
    size_t rest = count;
    for (size_t i = 0; i < count; i++) {
        cp_side *side = &world->sides[i];
        shares[i] = share_of(world, i);
        side->goal = 0;
        split[i] = shares[i].set && shares[i].percent && !side->set->round_up;
        between[i] = split[i] && shares[i].value > 0 && shares[i].value < 100;
        if (split[i]) {
            double exact = (double)world->n * shares[i].value / 100;
            exact_sum += exact;
            side->goal = (int64_t)floor(exact + EPSILON);
            remainder[i] = exact - (double)side->goal;
            given += side->goal;
        } else if (shares[i].set) {
            side->goal = least(cp_share_resolve(shares[i], world->n, true), world->ceiling);
        } else if (side->role == CP_SET_OLD) {
            rest = i;
        }
    }
    int64_t total = (int64_t)floor(exact_sum + 0.5 + EPSILON);
    spread(world, remainder, split, total - given);
    empty_neither(world, between);
    for (size_t i = 0; i < count; i++)
        sum += world->sides[i].goal;
    if (rest < count)
        world->sides[rest].goal = most(world->n - sum, 0);
}

/* The sum stays within N + surge: what grows waits, what serves stays. */
static void cut_to_ceiling(cp_world *world) {
    static const int ORDER[] = {CP_SET_ABANDONED, CP_SET_NEW, CP_SET_OLD};
    int64_t over = -world->ceiling;
    for (size_t i = 0; i < world->side_count; i++)
        over += world->sides[i].goal;
    for (size_t o = 0; o < CP_COUNT(ORDER); o++)
        for (size_t i = 0; i < world->side_count && over > 0; i++) {
            if (world->sides[i].role != ORDER[o])
                continue;
            int64_t cut = least(over, world->sides[i].goal);
            world->sides[i].goal -= cut;
            over -= cut;
        }
}

void cp_decide_goals(cp_world *world) {
    if (world->n == 0)
        return; /* paused, being deleted or scaled to none: every goal is 0 */
    if (!world->input->holding || !held_goals(world))
        share_goals(world);
    cut_to_ceiling(world);
}

void cp_decide_order(const cp_world *world, size_t *order) {
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        size_t at = i;
        for (; at > 0; at--) { /* insertion: there are a handful */
            const cp_side *before = &world->sides[order[at - 1]];
            bool home = world->input->returning && side->role == CP_SET_OLD;
            bool before_home = world->input->returning && before->role == CP_SET_OLD;
            if (before_home || (!home && !newer(side, before)))
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
}
