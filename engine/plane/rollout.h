/* engine/plane/rollout.h -- What the files of rollouts share; nobody else includes it.
 *   rollout.c          a rollout's life: start, pause, the way back, its ends
 *   rollout_pass.c     what a pass does to it: failures, progress, deadline
 *   rollout_begin.c    what a deploy means and may: strategy, guards, supersede; the first rows
 *   rollout_kinds.c    what each command asks for, and when it is done
 *   rollout_command.c  commands as such: issue, answer, complete; their clocks
 *   rollout_journal.c  the journal: intent, result, replay
 *   rollout_why.c      what it waits for      verbs.c  what people say to it */
#pragma once
#include "plane/internal.h"

struct cp_rollout {
    cp_plane *plane;
    cp_wl *wl;
    cp_deployment *dep;
    cp_strategy *strategy; /* NULL while it only holds or goes back */
    cp_script_run *run;    /* NULL once the script is of no more use */
    cp_vec journal;        /* cp_command *, by number; [0] holds the fields that the script sees */
    size_t journal_bytes;
    cp_command *pending;    /* the last of the journal, while it is not done */
    bool waiting;           /* the script is there and waits for it; after a start it takes a moment */
    char *tested;           /* the status that wait_until saw last */
    int64_t best_available; /* of progress; in memory only */
    cp_vec since;           /* since when each reason of `why` holds */
};

/* rollout.c */
int64_t cp_rollout_now(const cp_rollout *r);                        /* plane time */
const cp_decide_count *cp_rollout_count(const cp_wl *wl, int role); /* of the last pass; never NULL */
cp_rollout *cp_rollout_make(cp_plane *plane, cp_wl *wl, cp_deployment *dep);
int cp_rollout_start(cp_rollout *r, cp_error *err); /* the script, from the top; journaled commands answer at once */
void cp_rollout_free(cp_rollout *r);
void cp_rollout_goal(cp_plane *plane, cp_replica_set *set, cp_share goal);
void cp_rollout_fail(cp_rollout *r, const cp_error *why); /* does what on_failure says */
void cp_rollout_go_back(cp_rollout *r, const cp_error *why,
                        const char *actor); /* to the last good release, or failed */
void cp_rollout_hold(cp_rollout *r, const char *person, const cp_error *why,
                     const char *actor);                               /* paused, sizes held */
int cp_rollout_go_on(cp_rollout *r, const char *actor, cp_error *err); /* after a pause */
void cp_rollout_succeed(cp_rollout *r);
void cp_rollout_went_back(cp_rollout *r);
void cp_rollout_services(cp_rollout *r, const char *state); /* of service_progress */
void cp_rollout_finish(cp_rollout *r, int state, const cp_error *why, const char *event,
                       const char *actor);                      /* final; frees r */
void cp_rollout_stop_script(cp_rollout *r, const char *reason); /* the pending command is journaled as interrupted */
void cp_rollout_cancel(cp_rollout *r, const char *person);      /* ends here, sizes held; frees r */

/* rollout_begin.c */
int cp_rollout_retry(cp_plane *plane, cp_wl *wl, const cp_deployment *of, const char *subject, cp_deployment **ret,
                     cp_error *err);

/* rollout_kinds.c */
void cp_rollout_tell(cp_rollout *r,
                     json_t *payload); /* saves the deployment, and an event deploy.progress; takes payload */

/* rollout_command.c */
int cp_rollout_command(void *rollout, int64_t number, const char *name, const json_t *args, const char *line,
                       cp_command_outcome *outcome, json_t **result, int64_t *now_wall, cp_error *err);
int cp_rollout_query(void *rollout, const char *name, const json_t *args, json_t **result, cp_error *err);
void cp_rollout_look(cp_rollout *r);          /* is the pending command done? */
bool cp_rollout_clocked(const cp_rollout *r); /* the progress deadline runs: readiness is waited for */
int64_t cp_rollout_due(const cp_rollout *r);  /* plane time of the next thing to look at; 0 none */
void cp_rollout_stop_clocks(cp_rollout *r);   /* of the pending command */
void cp_rollout_start_clocks(cp_rollout *r);
json_t *cp_rollout_status(const cp_wl *wl, const cp_deployment *dep);
char *cp_rollout_command_text(const cp_command *command); /* `replace 50%`: for people */
json_t *cp_rollout_command_row(cp_rollout *r);            /* a row of why: what the pending command waits for */

/* rollout_why.c */
void cp_rollout_note_since(cp_rollout *r); /* after a pass: what holds now, and what does not any more */
void cp_rollout_forget_since(cp_rollout *r);

/* rollout_journal.c */
void cp_journal_load(cp_rollout *r);
void cp_journal_clear(cp_rollout *r);
/* The next line. `too_large` beyond the limits. *ret is lent. */
int cp_journal_add(cp_rollout *r, const char *name, const json_t *args, const char *line, cp_command **ret,
                   cp_error *err);
void cp_journal_save(cp_rollout *r, cp_command *command);
void cp_journal_done(cp_rollout *r, cp_command *command, json_t *value, const cp_error *err); /* takes value */
/* Finds number in the journal: NULL when it is the next one. `nondeterminism` when the line there is another. */
int cp_journal_replay(cp_rollout *r, int64_t number, const char *name, const json_t *args, const char *line,
                      cp_command **ret, cp_error *err);
json_t *cp_journal_json(cp_plane *plane, const cp_deployment *dep, cp_error *err);
