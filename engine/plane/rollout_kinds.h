/* engine/plane/rollout_kinds.h -- The kinds of commands, between rollout_kinds.c, which has them, and
 * rollout_command.c, which carries them out. */
#pragma once
#include "plane/rollout.h"

typedef struct cp_command_args {
    cp_share share;
    int64_t duration, timeout, max_unhealthy, max_restarts;
    char *text, *name, *reason, *set;
    json_t *fields;
    double percent;
    uint64_t present;
} cp_command_args;

typedef struct cp_command_kind {
    const char *name;
    const cp_desc *args;
    /* Sets goals and rows. A command without `look` is done at once with *value. */
    int (*begin)(cp_rollout *r, cp_command *command, const cp_command_args *args, json_t **value, cp_error *err);
    /* 1: done, with *value. 0: not yet. Negative: it failed, which is raised in the script. */
    int (*look)(cp_rollout *r, cp_command *command, json_t **value, cp_error *err);
    bool clocked; /* it waits for readiness: the progress deadline runs */
} cp_command_kind;

const cp_command_kind *cp_command_find(const char *name); /* NULL when there is none */

/* What a command remembers while it waits stands in its result until there is one. */
void cp_command_remember(cp_command *command, const char *key, json_t *value);
int64_t cp_command_recall(const cp_command *command, const char *key); /* 0 when there is nothing */
