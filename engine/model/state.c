/* engine/model/state.c -- The three state machines as tables: which state may follow which. */
#include "base/table.h"
#include "model/model.h"

#define BIT(state) (1u << (state))

static const unsigned workload_next[] = {
    [CP_WORKLOAD_PROVISIONING] = BIT(CP_WORKLOAD_ACTIVE) | BIT(CP_WORKLOAD_FAILED) | BIT(CP_WORKLOAD_DEPLOYING) |
                                 BIT(CP_WORKLOAD_SCALING) | BIT(CP_WORKLOAD_PAUSED) | BIT(CP_WORKLOAD_DESTROYING),
    [CP_WORKLOAD_ACTIVE] = BIT(CP_WORKLOAD_SCALING) | BIT(CP_WORKLOAD_DEPLOYING) | BIT(CP_WORKLOAD_PAUSED) |
                           BIT(CP_WORKLOAD_DESTROYING) | BIT(CP_WORKLOAD_FAILED),
    [CP_WORKLOAD_SCALING] = BIT(CP_WORKLOAD_ACTIVE) | BIT(CP_WORKLOAD_DEPLOYING) | BIT(CP_WORKLOAD_PAUSED) |
                            BIT(CP_WORKLOAD_FAILED) | BIT(CP_WORKLOAD_DESTROYING),
    [CP_WORKLOAD_DEPLOYING] =
        BIT(CP_WORKLOAD_ACTIVE) | BIT(CP_WORKLOAD_PAUSED) | BIT(CP_WORKLOAD_FAILED) | BIT(CP_WORKLOAD_DESTROYING),
    [CP_WORKLOAD_PAUSED] =
        BIT(CP_WORKLOAD_SCALING) | BIT(CP_WORKLOAD_ACTIVE) | BIT(CP_WORKLOAD_DEPLOYING) | BIT(CP_WORKLOAD_DESTROYING),
    [CP_WORKLOAD_FAILED] = BIT(CP_WORKLOAD_DESTROYING) | BIT(CP_WORKLOAD_PROVISIONING) | BIT(CP_WORKLOAD_SCALING) |
                           BIT(CP_WORKLOAD_DEPLOYING) | BIT(CP_WORKLOAD_ACTIVE) | BIT(CP_WORKLOAD_PAUSED),
    [CP_WORKLOAD_DESTROYING] = BIT(CP_WORKLOAD_DESTROYED) | BIT(CP_WORKLOAD_FAILED),
    [CP_WORKLOAD_DESTROYED] = 0,
};

static const unsigned instance_next[] = {
    [CP_INSTANCE_PROVISIONING] = BIT(CP_INSTANCE_STARTING) | BIT(CP_INSTANCE_FAILED) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_STARTING] =
        BIT(CP_INSTANCE_RUNNING) | BIT(CP_INSTANCE_FAILED) | BIT(CP_INSTANCE_STOPPING) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_RUNNING] =
        BIT(CP_INSTANCE_STOPPING) | BIT(CP_INSTANCE_STOPPED) | BIT(CP_INSTANCE_FAILED) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_STOPPING] = BIT(CP_INSTANCE_STOPPED) | BIT(CP_INSTANCE_FAILED) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_STOPPED] = BIT(CP_INSTANCE_STARTING) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_FAILED] = BIT(CP_INSTANCE_STARTING) | BIT(CP_INSTANCE_PROVISIONING) | BIT(CP_INSTANCE_DESTROYING),
    [CP_INSTANCE_DESTROYING] = BIT(CP_INSTANCE_DESTROYED) | BIT(CP_INSTANCE_FAILED),
    [CP_INSTANCE_DESTROYED] = 0,
};

static const unsigned deployment_next[] = {
    [CP_DEPLOYMENT_PENDING] = BIT(CP_DEPLOYMENT_RUNNING) | BIT(CP_DEPLOYMENT_FAILED) | BIT(CP_DEPLOYMENT_CANCELLED),
    [CP_DEPLOYMENT_RUNNING] = BIT(CP_DEPLOYMENT_PAUSED) | BIT(CP_DEPLOYMENT_SUCCEEDED) | BIT(CP_DEPLOYMENT_FAILED) |
                              BIT(CP_DEPLOYMENT_ROLLED_BACK) | BIT(CP_DEPLOYMENT_CANCELLED),
    [CP_DEPLOYMENT_PAUSED] = BIT(CP_DEPLOYMENT_RUNNING) | BIT(CP_DEPLOYMENT_SUCCEEDED) |
                             BIT(CP_DEPLOYMENT_ROLLED_BACK) | BIT(CP_DEPLOYMENT_CANCELLED) | BIT(CP_DEPLOYMENT_FAILED),
    [CP_DEPLOYMENT_SUCCEEDED] = 0,
    [CP_DEPLOYMENT_FAILED] = 0,
    [CP_DEPLOYMENT_ROLLED_BACK] = 0,
    [CP_DEPLOYMENT_CANCELLED] = 0,
};

static int check(const char *entity, const char *const *words, const unsigned *next, int from, int to, cp_error *err) {
    if (from == to || next[from] & BIT(to))
        return 0;
    if (!next[from])
        return cp_fail(err, CP_E_INVALID_STATE, "%s is %s and cannot become %s; %s is final", entity, words[from],
                       words[to], words[from]);
    cp_autobuf cp_buf allowed = {0};
    for (int state = 0; words[state]; state++)
        if (next[from] & BIT(state))
            cp_buf_printf(&allowed, "%s%s", allowed.len ? ", " : "", words[state]);
    return cp_fail(err, CP_E_INVALID_STATE, "%s is %s and cannot become %s; allowed: %s", entity, words[from],
                   words[to], allowed.data);
}

int cp_workload_validate_transition(int from, int to, cp_error *err) {
    return check("workload", cp_workload_states, workload_next, from, to, err);
}

int cp_instance_validate_transition(int from, int to, cp_error *err) {
    return check("instance", cp_instance_states, instance_next, from, to, err);
}

int cp_deployment_validate_transition(int from, int to, cp_error *err) {
    return check("deployment", cp_deployment_states, deployment_next, from, to, err);
}

bool cp_deployment_is_final(int state) {
    return !deployment_next[state];
}
