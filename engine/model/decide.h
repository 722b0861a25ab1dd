/* engine/model/decide.h -- The two pure decisions that close the gap between goals and the world.
 * Reachable from Lua as ctrlplane.model.decide_workload / decide_instance: inputs and outputs have descriptors. No I/O,
 * no clock, no store. */
#pragma once
#include "model/entity.h"

typedef struct cp_decide_set {
    char *release_id;
    int role;      /* cp_set_role */
    cp_share goal; /* an old set without one (set == false): what the other sets leave of N */
    int64_t held;  /* -1: none */
    int64_t order; /* larger = newer release */
    bool round_up; /* the goal was set by launch: its share rounds up */
} cp_decide_set;

typedef struct cp_decide_replica {
    char *id, *release_id;
    int64_t replica_index;
    int state;   /* cp_instance_state; destroyed ones are not passed in */
    int desired; /* cp_desired */
    bool ready, available, failing;
    bool seen; /* observed anew since the engine started and since its last operation */
    int64_t generation, created_at;
} cp_decide_replica;

typedef struct cp_decide_input {
    int kind;
    int64_t replicas; /* N */
    cp_share surge, unavailable;
    bool stopped;          /* paused, or being deleted: nothing is started, everything goes */
    bool holding;          /* sets follow their held sizes instead of goals */
    int64_t held_replicas; /* N when the sizes were held: another N scales them; 0: unknown */
    bool returning;        /* on the way back: old is the set returned to */
    int64_t generation;    /* wanted by restart; 0: none */
    int64_t restart_parallel;
    bool restart_stopped; /* a restart that met a failure: do no more */
    cp_list sets;         /* cp_decide_set */
    cp_list instances;    /* cp_decide_replica */
} cp_decide_input;

typedef enum { CP_ACT_CREATE, CP_ACT_DESTROY, CP_ACT_UPDATE, CP_ACT_RESTART } cp_act;

typedef struct cp_decide_action {
    int act;               /* cp_act */
    char *instance_id;     /* not for create */
    char *release_id;      /* create, update: the release to run */
    int64_t replica_index; /* create */
    char *reason;          /* "goal", "failed", "scale_down", "replaced", "stopped", "restart" */
} cp_decide_action;

typedef struct cp_decide_count {
    char *release_id;
    int role;
    int64_t goal, live, ready, available, healthy, failing;
} cp_decide_count;

/* What holds something back: a guard or a wait. Rows of `why`. */
typedef struct cp_block {
    char *guard; /* ceiling | unavailable | unhealthy | unseen | ready | min_ready | stopping | restart */
    double value, needed;
    char *instance_id, *release_id;
    char *message; /* one line for people */
} cp_block;

typedef struct cp_decide_output {
    int64_t ceiling, floor;     /* N + surge, N - unavailable, resolved */
    int64_t surge, unavailable; /* resolved */
    cp_list actions;            /* cp_decide_action, in the order to carry out */
    cp_list sets;               /* cp_decide_count */
    cp_list blocks;             /* cp_block */
    bool reached;               /* every set is at its goal with available instances, nothing else is live */
} cp_decide_output;

extern const cp_desc cp_decide_set_desc, cp_decide_replica_desc, cp_decide_input_desc, cp_decide_action_desc,
    cp_decide_count_desc, cp_block_desc, cp_decide_output_desc;

/* Rules behind it: rollouts, "Goals, not orders". What a caller must know:
 *   - generation of a restart must be above that of every instance (an update in place raises an instance's own)
 *   - an action is an order to write rows: create a row, set desired = destroyed, raise the generation (restart: to
 *     input->generation) and for an update set the release as well
 *   - an instance that is not seen counts as not available, and nothing available is stopped beside it
 * Never fails: input that validation let through has an answer. output must be zeroed; clear it with
 * cp_desc_clear(&cp_decide_output_desc, output). O(n log n) in instances: 10,000 in under 2 ms. */
void cp_decide_workload(const cp_decide_input *input, cp_decide_output *output);

/* Surge rounds up, unavailable down; both zero: unavailable 1. stateful_set: 0 and 1. */
void cp_guards_resolve(int kind, int64_t replicas, cp_share surge, cp_share unavailable, int64_t *ret_surge,
                       int64_t *ret_unavailable);
/* The best that a rollout has reached: a row of the deployment. Progress is a new best only -- more new created, ready
 * or available, or fewer old -- so that flapping is none. Updates *best; true when this was progress. */
typedef struct cp_progress {
    int64_t created, ready, available, old; /* start: {0, 0, 0, INT64_MAX} */
} cp_progress;
bool cp_decide_progress(cp_progress *best, const cp_decide_output *now);
/* `denied`, with the numbers, for goals that the guards can never allow. */
int cp_goals_check(int kind, int64_t replicas, cp_share surge, cp_share unavailable, int64_t new_goal, int64_t old_goal,
                   cp_error *err);

/* One instance: what the provider last saw -> one operation. */
typedef enum {
    CP_OP_NONE,
    CP_OP_PROVISION, /* make and run */
    CP_OP_START,     /* run what is made */
    CP_OP_STOP,
    CP_OP_RESTART,     /* in place, to the generation */
    CP_OP_UPDATE,      /* in place, to another release; same volumes */
    CP_OP_DEPROVISION, /* stop if needed, and remove */
} cp_op_kind;

/* What a provider sees of an instance. The plane looks after every operation, done or failed, and at start; until then
 * it is unknown, and nothing is decided but the first provision and the first deprovision. */
typedef enum {
    CP_SEEN_UNKNOWN, /* not looked at since the engine started or since the last operation */
    CP_SEEN_ABSENT,
    CP_SEEN_STARTING, /* inits under way, or a service in back-off */
    CP_SEEN_RUNNING,
    CP_SEEN_STOPPED,
    CP_SEEN_FAILED, /* gave up: a failed init, a command that does not exist, restart "never" and exit != 0 */
    CP_SEEN_LOST,   /* made once, and the runtime went away under it (reboot): start again, not a failure */
} cp_seen;

typedef struct cp_instance_input {
    int state, desired;
    int seen; /* cp_seen */
    int64_t generation, applied_generation, seen_generation;
    char *release_id, *seen_release_id;
    char *message; /* of the provider */
} cp_instance_input;

typedef struct cp_instance_decision {
    int op;    /* cp_op_kind */
    int state; /* the instance's next state (may be the same) */
    char *message;
} cp_instance_decision;

extern const cp_desc cp_instance_input_desc, cp_instance_decision_desc;
/* Decide again at once when the state changed and op is none: states are walked one by one. */
void cp_decide_instance(const cp_instance_input *input, cp_instance_decision *decision);
