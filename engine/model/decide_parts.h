/* engine/model/decide_parts.h -- The world as cp_decide_workload sorts it, shared by its files; nobody else includes
 * it. Words: live = not yet destroyed; going = we have let it go; lost = it gave up; kept = neither. */
#pragma once
#include "model/decide.h"

typedef struct cp_side {
    const cp_decide_set *set;
    const char *release_id;
    int role;
    int64_t order, goal;
    int64_t live, kept, going; /* going counts what gave up as well */
    int64_t ready, available, healthy, failing;
    int64_t inside; /* kept with an index below N: what a stateful_set counts */
} cp_side;

typedef struct cp_member {
    const cp_decide_replica *row;
    size_t side;
    int role;                    /* of the side */
    bool kept, ready, available; /* kept and seen to be so */
} cp_member;

typedef struct cp_world {
    const cp_decide_input *input;
    cp_decide_output *output;
    int64_t n, ceiling, floor;
    cp_side *sides; /* the sets, and one more for instances of releases that have none */
    size_t side_count;
    cp_member *members;
    size_t member_count;
    int64_t live, created;
    int64_t budget;                              /* instances that may still be stopped in this pass */
    int64_t available_budget;                    /* available ones among them */
    const cp_decide_replica *unseen, *unhealthy; /* the first that holds stops back, or NULL */
    int64_t unseen_count, stopped;
    int64_t waiting, no_room; /* creates that wait for an index, for room under the ceiling */
    const cp_decide_replica *first_gone;
} cp_world;

/* goals.c: fills side->goal of every set. */
void cp_decide_goals(cp_world *world);
/* The sides in the order in which they grow: the set returned to, then the newest first. order: side_count indices. */
void cp_decide_order(const cp_world *world, size_t *order);
/* decide_workload.c */
void cp_decide_create(cp_world *world, size_t side, int64_t index);
/* The side that grows next, or side_count when none is below its goal. */
size_t cp_decide_next_to_grow(const cp_world *world, const size_t *order);
/* Makes what is missing under the lowest indices below `size` that the kept ones leave. One that somebody on the way
 * out still has is waited for, so that a replacement comes under the same index. of: the side that has the indices and
 * grows; NULL: they are everybody's, and the sides grow in `order`. */
void cp_decide_fill(cp_world *world, const cp_side *of, int64_t size, int64_t missing, const size_t *order);
/* While there is budget: may this one go? */
bool cp_decide_may_stop(const cp_world *world, const cp_member *member);
void cp_decide_stop(cp_world *world, cp_member *member, int act, const char *release_id, const char *reason);
/* The highest index first, of equal ones the younger: an order without ties. */
int cp_decide_by_index(const cp_member *a, const cp_member *b);
/* decide_stateful.c */
void cp_decide_stateful(cp_world *world);
/* decide_blocks.c: counts, blocks, reached. */
void cp_decide_report(cp_world *world);
