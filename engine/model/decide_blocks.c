/* engine/model/decide_blocks.c -- What a pass says beside its actions: each set in numbers, whether the goals are
 * reached, and, while they are not, what holds them back: at least one guard or wait, with its value and the value
 * needed. */
#include "model/decide_parts.h"

#include <inttypes.h>

/* Takes message. */
static void block(cp_world *world, const char *guard, int64_t value, int64_t needed, const char *instance_id,
                  const char *release_id, char *message) {
    cp_block *row = cp_list_add(&world->output->blocks, &cp_block_desc);
    row->guard = cp_strdup(guard);
    row->value = (double)value;
    row->needed = (double)needed;
    row->instance_id = cp_strdup(instance_id);
    row->release_id = cp_strdup(release_id);
    row->message = message;
}

/* The kept instance of a side with the lowest index that fails the test, or NULL. */
static const cp_decide_replica *lowest(const cp_world *world, size_t side, bool ready) {
    const cp_decide_replica *found = NULL;
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_member *member = &world->members[i];
        if (member->side == side && member->kept && member->ready == ready && !member->available &&
            (!found || member->row->replica_index < found->replica_index))
            found = member->row;
    }
    return found;
}

/* What is left of sets that should be smaller. */
static int64_t surplus(const cp_world *world, bool *old) {
    int64_t sum = 0;
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        bool in_place = world->input->kind == CP_KIND_STATEFUL_SET;
        int64_t size = in_place ? side->inside : side->kept;
        int64_t over = size > side->goal ? size - side->goal : 0;
        *old = *old || (over && side->role == CP_SET_OLD);
        sum += over + (in_place ? side->kept - side->inside : 0);
    }
    return sum;
}

static void report_guards(cp_world *world) {
    int64_t available = 0;
    for (size_t i = 0; i < world->side_count; i++)
        available += world->sides[i].available;
    if (world->unseen)
        block(world, "unseen", world->unseen_count, 0, world->unseen->id, NULL,
              cp_printf("%" PRId64 " instances have not been looked at yet; until then none is stopped",
                        world->unseen_count));
    bool old = false;
    int64_t over = surplus(world, &old);
    bool unhealthy = old && world->unhealthy && !world->input->returning && !world->input->holding;
    if (over && !world->unseen && (!unhealthy || world->budget <= 0))
        block(world, "unavailable", available, world->floor + 1, NULL, NULL,
              cp_printf("%" PRId64 " instances are to go; %" PRId64 " are available and %" PRId64 " must stay so", over,
                        available, world->floor));
    if (over && unhealthy)
        block(world, "unhealthy", 1, 0, world->unhealthy->id, world->unhealthy->release_id,
              cp_strdup("a new instance is failing; no old one is stopped beside it"));
    if (world->no_room)
        block(world, "ceiling", world->live, world->ceiling - 1, NULL, NULL,
              cp_printf("%" PRId64 " instances are to be made; %" PRId64 " are live and the ceiling is %" PRId64,
                        world->no_room, world->live, world->ceiling));
}

static void report_waits(cp_world *world) {
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        if (side->available >= side->goal)
            continue;
        bool ready = side->ready >= side->goal;
        const cp_decide_replica *row = lowest(world, i, ready);
        block(world, ready ? "min_ready" : "ready", ready ? side->available : side->ready, side->goal,
              row ? row->id : NULL, side->release_id,
              cp_printf("%" PRId64 " of %" PRId64 " instances are %s", ready ? side->available : side->ready,
                        side->goal, ready ? "available" : "ready"));
    }
    int64_t gone = world->stopped;
    for (size_t i = 0; i < world->side_count; i++)
        gone += world->n ? world->sides[i].going : world->sides[i].live;
    if (gone)
        block(world, "stopping", gone, 0, world->first_gone->id, NULL,
              cp_printf("%" PRId64 " instances are on their way out", gone));
}

/* Kept instances that a restart has not reached. */
static int64_t report_restart(cp_world *world) {
    if (world->input->generation <= 0 || world->input->restart_stopped || !world->n)
        return 0;
    const cp_decide_replica *first = NULL;
    int64_t done = 0, left = 0;
    for (size_t i = 0; i < world->member_count; i++) {
        const cp_member *member = &world->members[i];
        bool old = member->kept && member->row->generation < world->input->generation;
        left += old;
        done += member->kept && !old;
        if (old && (!first || member->row->replica_index < first->replica_index))
            first = member->row;
    }
    if (left)
        block(world, "restart", done, done + left, first->id, NULL,
              cp_printf("%" PRId64 " of %" PRId64 " instances are restarted", done, done + left));
    return left;
}

void cp_decide_report(cp_world *world) {
    bool reached = true;
    for (size_t i = 0; i < world->side_count; i++) {
        const cp_side *side = &world->sides[i];
        reached = reached && side->live == side->goal && side->available == side->goal;
        if (!side->set)
            continue;
        cp_decide_count *count = cp_list_add(&world->output->sets, &cp_decide_count_desc);
        *count = (cp_decide_count){
            .release_id = cp_strdup(side->release_id),
            .role = side->role,
            .goal = side->goal,
            .live = side->live,
            .ready = side->ready,
            .available = side->available,
            .healthy = side->healthy,
            .failing = side->failing,
        };
    }
    if (world->n)
        report_guards(world);
    report_waits(world);
    reached = !report_restart(world) && reached;
    world->output->reached = reached;
}
