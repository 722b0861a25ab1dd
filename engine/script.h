/* engine/script.h -- What the plane asks of scripts: load a strategy, run a rollout. engine/lua implements it. */
#pragma once
#include "base/desc.h"
#include "base/loop.h"

typedef struct cp_scripts cp_scripts;       /* the host */
typedef struct cp_script_run cp_script_run; /* one rollout's state */

/* A loaded strategy: pinned sources and what they declare. Everything is owned. */
typedef struct cp_strategy {
    char *name, *summary;
    char *hash;     /* sha256 of bundle */
    json_t *bundle; /* {"main": path, "prelude": version, "files": {path: source}} */
    json_t *params; /* the declared params table: {name: {type, default, doc, min, max, values}} */
    json_t *guards; /* {surge, unavailable, min_ready ...} when a plain table, else NULL */
    json_t *needs;  /* ["router"] */
    bool has_rollback;
} cp_strategy;
void cp_strategy_free(cp_strategy *strategy);
CP_DEFINE_CLEANUP(cp_strategy, cp_strategy_free)
#define cp_autostrategy CP_CLEANUP(cp_strategy_freep)

typedef enum {
    CP_COMMAND_DONE,    /* *result is the answer (a new reference, may be NULL): at once, or from the journal */
    CP_COMMAND_PENDING, /* cp_script_resume will be called */
    CP_COMMAND_STOP,    /* the run is being ended: the host unwinds and does not call `ended` */
} cp_command_outcome;

typedef struct cp_script_callbacks {
    /* The script issued its next command. number counts from 1. line: "file:line". On an error (negative return) the
     * error is raised in the script (pcall can catch it) unless err->code is `nondeterminism` (unwinds, and the run
     * ends with it). now_wall: what now() returns from here on; set it when a result comes from the journal.
     * Returning from run() issues a last command, `finish`; fail(reason) is the command `fail`. */
    int (*command)(void *userdata, int64_t number, const char *name, const json_t *args, const char *line,
                   cp_command_outcome *outcome, json_t **result, int64_t *now_wall, cp_error *err);
    /* A look at the world by the function of wait_until: synchronous, not journaled. Elsewhere status, replicas and
     * instances are commands that are done at once, so that a replay sees what the run saw. */
    int (*query)(void *userdata, const char *name, const json_t *args, json_t **result, cp_error *err);
    /* The script ended: err NULL after its `finish` was done; otherwise the error that nobody caught: a command's, or
     * `script_error`, with details {where, traceback, source_line}. Called once, in a later turn; the run may be
     * stopped in it. */
    void (*ended)(void *userdata, const cp_error *err);
} cp_script_callbacks;

typedef struct cp_script_class {
    /* Finds a strategy by name (built in or in a strategy folder; "blue-green" is blue_green) or by a path to a file.
     * `not_found` names the nearest; `script_error` says file:line. */
    int (*load)(cp_scripts *scripts, const char *name_or_path, cp_strategy **ret, cp_error *err);
    /* The same from a source text sent over the API (name: for messages). files: path -> source of what it requires;
     * NULL: none. */
    int (*load_text)(cp_scripts *scripts, const char *name, const char *source, const cp_map *files, cp_strategy **ret,
                     cp_error *err);
    int (*load_bundle)(cp_scripts *scripts, const json_t *bundle, cp_strategy **ret, cp_error *err);
    /* Checks params against the declaration, fills defaults: *ret is a new object. `invalid` with field params.<name>
     * and the nearest known name. */
    int (*params)(cp_scripts *scripts, const cp_strategy *strategy, const json_t *params, json_t **ret, cp_error *err);
    /* Starts a run: nothing of the script happens before a later turn. fields: {params, guards, workload, release,
     * previous, id}: plain fields of `rollout`; seed: text that seeds random (the deployment's id). */
    int (*start)(cp_scripts *scripts, const cp_strategy *strategy, const json_t *fields, const char *seed,
                 int64_t now_wall, const cp_script_callbacks *callbacks, void *userdata, cp_script_run **ret,
                 cp_error *err);
    /* Answers the pending command. err != NULL raises it in the script. now_wall: what now() returns from here on. */
    void (*resume)(cp_script_run *run, const json_t *result, const cp_error *err, int64_t now_wall);
    /* For a pending wait_until: calls its function with status. 1 satisfied, 0 not yet, negative: the function failed
     * (the run ends with script_error). */
    int (*test)(cp_script_run *run, const json_t *status, cp_error *err);
    void (*stop)(cp_script_run *run);     /* frees it; no callback after this; NULL is fine */
    json_t *(*list)(cp_scripts *scripts); /* names and summaries of all strategies */
    void (*free)(cp_scripts *scripts);
} cp_script_class;

struct cp_scripts {
    const cp_script_class *class;
    cp_loop *loop;
};

/* engine/lua/host.c. lua_dir: where ctrlplane/strategies and ctrlplane/prelude.lua are; strategy_dirs: NULL-terminated
 * extra folders, or NULL. */
int cp_lua_scripts_new(cp_loop *loop, const char *lua_dir, const char *const *strategy_dirs, cp_scripts **ret,
                       cp_error *err);
