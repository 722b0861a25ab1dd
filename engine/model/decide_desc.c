/* engine/model/decide_desc.c -- Descriptors of the inputs and outputs of the two decisions. */
#include "base/limits.h"
#include "model/decide.h"
#include "model/fields.h"

static const char *const desired_words[] = {"running", "stopped", "destroyed", NULL};
static const char *const act_words[] = {"create", "destroy", "update", "restart", NULL};
static const char *const op_words[] = {"none", "provision", "start", "stop", "restart", "update", "deprovision", NULL};
static const char *const seen_words[] = {"unknown", "absent", "starting", "running", "stopped", "failed", "lost", NULL};

#define KEEP FLAGS(CP_KEEP_EMPTY)

#define STRUCT cp_decide_set
static void set_init(void *object) {
    ((cp_decide_set *)object)->held = -1;
}
static const cp_field decide_set_fields[] = {
    FIELD(CP_STRING, release_id, "the release", FLAGS(CP_REQUIRED)),
    FIELD(CP_ENUM, role, "new, old or abandoned", WORDS(cp_set_roles)),
    FIELD(CP_SHARE, goal, "a count or a share; of an old set without one: what the others leave", FLAGS(CP_NULLABLE)),
    FIELD(CP_INT, held, "held size; -1: none", DEFAULT("-1"), FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_INT, order, "larger: a newer release"),
    FIELD(CP_BOOL, round_up, "the share rounds up"),
};
DESC(decide_set, CP_NONE, .init = set_init, .doc = "A replica set and its goal.");
#undef STRUCT

#define STRUCT cp_decide_replica
static const cp_field decide_replica_fields[] = {
    FIELD(CP_STRING, id, "the instance", FLAGS(CP_REQUIRED)),
    FIELD(CP_STRING, release_id, "the release that it runs", FLAGS(CP_REQUIRED)),
    FIELD(CP_INT, replica_index, "its index", BOUNDS(0, 1e9)),
    FIELD(CP_ENUM, state, "its state", WORDS(cp_instance_states)),
    FIELD(CP_ENUM, desired, "what it is wanted to be", WORDS(desired_words)),
    FIELD(CP_BOOL, ready, "it is ready"),
    FIELD(CP_BOOL, available, "it has been ready for min_ready"),
    FIELD(CP_BOOL, failing, "it keeps crashing without having been available"),
    FIELD(CP_BOOL, seen, "it has been looked at since the engine started and since its last operation"),
    FIELD(CP_INT, generation, "the generation that it is wanted at"),
    FIELD(CP_INT, created_at, "orders instances of the same index"),
};
DESC(decide_replica, CP_NONE, .doc = "An instance as the decision sees it.");
#undef STRUCT

#define STRUCT cp_decide_input
static const cp_field decide_input_fields[] = {
    FIELD(CP_ENUM, kind, "deployment or stateful_set", WORDS(cp_kinds)),
    FIELD(CP_INT, replicas, "N: replicas wanted", BOUNDS(0, CP_MAX_REPLICAS)),
    FIELD(CP_SHARE, surge, "instances above N, at most"),
    FIELD(CP_SHARE, unavailable, "instances below N that may be unavailable by our own act"),
    FIELD(CP_BOOL, stopped, "paused or being deleted: everything goes"),
    FIELD(CP_BOOL, holding, "sets follow their held sizes"),
    FIELD(CP_INT, held_replicas, "N when the sizes were held; 0: unknown"),
    FIELD(CP_BOOL, returning, "on the way back to the old set"),
    FIELD(CP_INT, generation, "the generation that a restart brings instances to; 0: none"),
    FIELD(CP_INT, restart_parallel, "instances restarted at a time; 0 means 1"),
    FIELD(CP_BOOL, restart_stopped, "the restart met a failure: do no more"),
    FIELD(CP_LIST, sets, "replica sets", OF(cp_decide_set_desc)),
    FIELD(CP_LIST, instances, "live instances", OF(cp_decide_replica_desc)),
};
DESC(decide_input, CP_NONE, .doc = "What decide_workload looks at.");
#undef STRUCT

#define STRUCT cp_decide_action
static const cp_field decide_action_fields[] = {
    FIELD(CP_ENUM, act, "create, destroy, update or restart", WORDS(act_words)),
    FIELD(CP_STRING, instance_id, "the instance; a create has none"),
    FIELD(CP_STRING, release_id, "create, update: the release to run"),
    FIELD(CP_INT, replica_index, "the index", KEEP),
    FIELD(CP_STRING, reason, "stopped, failed, scale_down, goal or restart"),
};
DESC(decide_action, CP_NONE, .doc = "One step toward the goals.");
#undef STRUCT

#define STRUCT cp_decide_count
static const cp_field decide_count_fields[] = {
    FIELD(CP_STRING, release_id, "the release"),
    FIELD(CP_ENUM, role, "new, old or abandoned", WORDS(cp_set_roles)),
    FIELD(CP_INT, goal, "the goal resolved for N", KEEP),
    FIELD(CP_INT, live, "not yet destroyed", KEEP),
    FIELD(CP_INT, ready, "ready", KEEP),
    FIELD(CP_INT, available, "ready for min_ready", KEEP),
    FIELD(CP_INT, healthy, "ready and not failing", KEEP),
    FIELD(CP_INT, failing, "crashing again and again, or given up", KEEP),
};
DESC(decide_count, CP_NONE, .doc = "A replica set in numbers.");
#undef STRUCT

#define STRUCT cp_block
static const cp_field block_fields[] = {
    FIELD(CP_STRING, guard, "what holds back"),
    FIELD(CP_DOUBLE, value, "its value", KEEP),
    FIELD(CP_DOUBLE, needed, "the value needed", KEEP),
    FIELD(CP_STRING, instance_id, "the instance it is about"),
    FIELD(CP_STRING, release_id, "the release it is about"),
    FIELD(CP_STRING, message, "one line for people"),
};
DESC(block, CP_NONE, .doc = "A guard or a wait that holds something back.");
#undef STRUCT

#define STRUCT cp_decide_output
static const cp_field decide_output_fields[] = {
    FIELD(CP_INT, ceiling, "live instances, at most", KEEP),
    FIELD(CP_INT, floor, "available instances below which we stop none", KEEP),
    FIELD(CP_INT, surge, "surge as a count", KEEP),
    FIELD(CP_INT, unavailable, "unavailable as a count", KEEP),
    FIELD(CP_LIST, actions, "what to do, in this order", OF(cp_decide_action_desc), KEEP),
    FIELD(CP_LIST, sets, "each replica set in numbers", OF(cp_decide_count_desc), KEEP),
    FIELD(CP_LIST, blocks, "what holds back", OF(cp_block_desc), KEEP),
    FIELD(CP_BOOL, reached, "every set is at its goal, nothing else is live", KEEP),
};
DESC(decide_output, CP_NONE, .doc = "What decide_workload says.");
#undef STRUCT

#define STRUCT cp_instance_input
static const cp_field instance_input_fields[] = {
    FIELD(CP_ENUM, state, "state of the instance", WORDS(cp_instance_states)),
    FIELD(CP_ENUM, desired, "what it is wanted to be", WORDS(desired_words)),
    FIELD(CP_ENUM, seen, "what the provider last saw", WORDS(seen_words)),
    FIELD(CP_INT, generation, "the generation wanted"),
    FIELD(CP_INT, applied_generation, "what the last finished operation brought it to"),
    FIELD(CP_INT, seen_generation, "the generation that the provider saw"),
    FIELD(CP_STRING, release_id, "the release wanted"),
    FIELD(CP_STRING, seen_release_id, "the release that the provider saw"),
    FIELD(CP_STRING, message, "what the provider says of it"),
};
DESC(instance_input, CP_NONE, .doc = "What decide_instance looks at.");
#undef STRUCT

#define STRUCT cp_instance_decision
static const cp_field instance_decision_fields[] = {
    FIELD(CP_ENUM, op, "the operation to ask of the provider", WORDS(op_words)),
    FIELD(CP_ENUM, state, "the next state", WORDS(cp_instance_states)),
    FIELD(CP_STRING, message, "one line for people"),
};
DESC(instance_decision, CP_NONE, .doc = "What decide_instance says.");
#undef STRUCT
