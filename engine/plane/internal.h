/* engine/plane/internal.h -- What the files of the plane share; nobody outside plane/ includes it.
 *   plane.c      open, load, hooks (decide, commit, reload), plane time
 *   call.c       the table of operations, calls, waiters, streams        rows.c  lookup, saving rows
 *   workload.c   create, update    lifecycle.c  scale, pause, resume, restart, delete    deploy.c  deploy, rollback
 *   query.c      get, list         view.c  entities as JSON
 *   reconcile.c  decide_workload -> rows    operate.c  decide_instance -> provider operations, back-off
 *   observe.c    observations, adoption, resync
 *   readiness.c  probes    event.c  events and their stream    retain.c  retention    logs.c  log streams
 *   rollout.c    deployments: commands, journal, progress, the way back     verbs.c  pause, resume, abort ... why
 * Memory holds what the store holds: every change of a row goes through cp_plane_save_* in the turn that makes it. */
#pragma once
#include "base/limits.h"
#include "base/table.h"
#include "model/model.h"
#include "plane/plane.h"

typedef struct cp_wl cp_wl;
typedef struct cp_inst cp_inst;
typedef struct cp_rel cp_rel;
typedef struct cp_rollout cp_rollout;

typedef struct cp_deploy_args cp_deploy_args;

struct cp_rel {
    cp_release row;
    cp_wl *wl;
};

struct cp_inst {
    cp_instance row;
    cp_wl *wl;
    cp_rel *release; /* of row.release_id */
    int seen;        /* cp_seen: the last observation newer than the last operation */
    int64_t seen_generation;
    char *seen_release_id;
    cp_provider_op *op; /* in flight */
    int op_kind;
    int64_t attempts, next_try; /* of the operation; loop mono ms */
    bool available, failing;
    void *probes; /* readiness.c */
    bool dirty;
    bool anew; /* made or observed by this run of the engine: its rows are not hearsay */
    /* operate.c */
    int64_t outages;       /* operations in a row that found nobody */
    int64_t op_generation; /* that the operation in flight brings it to */
    cp_timer *retry;       /* armed while it backs off */
    cp_inst *next;         /* in its workload's queue */
    bool queued;
    /* observe.c */
    uint64_t operated; /* the count of operations at its last one's begin or end: older looks are ignored */
    void *looking;     /* the question under way */
    bool look_again;
    int64_t restarts_base; /* restarts when it was last available */
    char *complaint;       /* what its provider last said of it: it says nothing while it runs between two crashes */
};

struct cp_wl {
    cp_workload row;
    cp_plane *plane;
    cp_vec instances;      /* cp_inst *, live ones */
    cp_vec sets;           /* cp_replica_set * */
    cp_vec releases;       /* cp_rel *, by version */
    cp_vec deployments;    /* cp_deployment *, oldest first */
    cp_rollout *rollout;   /* of the newest non-final deployment (or one that holds), NULL when none */
    cp_decide_output last; /* of the last pass: counts and blocks, for why and status */
    json_t *view;          /* the row as JSON, until it is saved again; NULL: not made */
    cp_block *since;       /* reserved for reconcile.c */
    bool dirty;
    int64_t wake_at; /* plane time of the next pass that was asked for, 0 none */
    cp_vec waiting;  /* cp_call *, see cp_call_wait */
    char *spec_of;   /* the release whose services row.services shows; NULL: not looked yet */
    cp_vec slots;    /* reconcile.c: back-off of replicas that gave up */
    /* operate.c: instances that wait for their operation, [0] to stop, [1] to start; and the ring of such workloads */
    cp_inst *queue_head[2], *queue_tail[2];
    cp_wl *ring_next[2];
    bool in_ring[2];
};

typedef enum { CP_TELL_WRITE, CP_TELL_TURN, CP_TELL_READ, CP_TELL_BROKEN, CP_TELL_AGAIN, CP_TELL_KINDS } cp_tell;

struct cp_plane {
    cp_loop *loop;
    cp_store *store;
    cp_scripts *scripts;
    cp_vec providers; /* cp_provider * */
    bool own_providers;
    char *id, *tenant_id; /* the plane's, and the default tenant's */
    cp_table *workloads, *slugs, *instances, *releases,
        *deployments;                /* by id; values cp_wl, cp_wl, cp_inst, cp_rel, cp_deployment */
    cp_vec dirty;                    /* cp_wl * to be decided in this turn */
    int64_t time_base, time_watched; /* plane time: base + (loop watched - time_watched) */
    struct cp_event_hub *events;
    struct cp_waiters *waiters;
    struct cp_reconciler *reconciler;
    bool closing;
    /* plane.c, call.c, rows.c */
    cp_vec order;          /* cp_wl * by id, for lists */
    cp_vec waking;         /* cp_wl * with wake_at */
    cp_vec calls, unknown; /* cp_call *: all; those whose outcome a failed commit left open */
    cp_vec streams;        /* cp_stream * */
    cp_timer *wake_timer, *time_timer, *recover_timer, *unknown_timer, *retain_timer;
    int64_t recover_delay;
    struct cp_told {
        char *text;
        int64_t at; /* loop mono */
    } told[CP_TELL_KINDS];
    bool turn_failed;     /* this turn must not be committed */
    bool write_failed;    /* because the store failed */
    int64_t recovered_at; /* loop mono: when the store could be trusted again */
    bool broken;          /* after a failed commit, until the store can be trusted again */
    bool unreadable;      /* broken, and memory holds nothing */
    bool crashed;         /* a failpoint ended this engine: nothing happens any more (specs) */
    uint64_t turn, commits, failed_commits;
    size_t writes;        /* of this turn */
    struct cp_http *http; /* readiness.c: made by the first check */
};

/* A call in an operation's `run`. Answer with cp_call_answer (after the commit) or, for `wait`, cp_call_wait. */
struct cp_call {
    cp_plane *plane;
    const cp_operation *op;
    const char *id;     /* as given */
    void *args;         /* op->args struct, parsed */
    const json_t *json; /* the raw args */
    const char *tenant_id, *subject;
    /* the rest belongs to call.c */
    cp_reply *reply;
    void *userdata;
    bool answered, cancelled;
    json_t *result;
    void *state;
    cp_error error;
    char *own_id, *own_tenant, *own_subject, *own_match, *wait_workload, *wait_deployment;
    cp_timer *timer;
    size_t index;  /* in plane->calls */
    uint64_t turn; /* in which it ran */
    bool waiting, waited;
    bool counts;           /* it waits for the numbers, not for a rollout under way */
    cp_provider *preparer; /* that prepares images for it: it runs again when they are there */
    cp_provider_op *preparing;
    bool prepared;
};
/* Before an operation resolves images. 0: they are there; 1: they will be, and then the call runs again: return. */
int cp_call_prepare(cp_call *call, cp_provider *provider, const cp_list *services, cp_error *err);
void cp_call_answer(cp_call *call, json_t *result); /* takes result; delivered after this turn's commit */
void cp_call_fail(cp_call *call, const cp_error *err);
/* Answers when the workload (deployment_id NULL) or the deployment is settled, or when `timeout` ms of loop time have
 * passed (then with what is so far). Settled deployment: final, or paused, or awaiting a person. */
void cp_call_wait(cp_call *call, const char *workload_id, const char *deployment_id, int64_t timeout);

void cp_call_run(void *call);            /* a task: runs it */
void cp_call_drop_turn(cp_plane *plane); /* after a failed commit: which calls' outcome is unknown now */
void cp_call_settle_unknown(cp_plane *plane, bool known); /* answers them `storage_failed` */
void cp_call_free_all(cp_plane *plane);                   /* answers `cancelled` */
void cp_call_attach(cp_plane *plane);                     /* after a load: the waiters find their workloads again */

/* A stream: its source pumps events into it while it is not paused. */
struct cp_stream {
    cp_plane *plane; /* NULL once the plane was freed or the stream has ended */
    cp_stream_sink *sink;
    void *userdata;
    bool paused, ended;
    void (*pump)(cp_stream *stream); /* deliver what there is, until paused */
    void (*free)(void *state);
    void *state;
};
cp_stream *cp_stream_new(cp_plane *plane, cp_stream_sink *sink, void *userdata);
void cp_stream_end(cp_stream *stream, const cp_error *err); /* tells the sink; it stays until cp_stream_free */
int cp_events_stream(cp_plane *plane, const char *id, const void *args, const char *tenant, cp_stream *stream,
                     cp_error *err);
int cp_logs_stream(cp_plane *plane, const char *id, const void *args, const char *tenant, cp_stream *stream,
                   cp_error *err);

/* plane.c */
void cp_plane_tell(cp_plane *plane, cp_tell kind, const char *what, const char *why); /* logs; why NULL: none */
void cp_plane_load_rows(cp_plane *plane, cp_error *err);
bool cp_plane_crash(cp_plane *plane, const char *failpoint); /* passes a failpoint; true: this engine is dead now */
#define cp_plane_stopped(plane) ((plane)->crashed || (plane)->broken || (plane)->closing)

/* rows.c */
cp_wl *cp_plane_add_workload(cp_plane *plane, cp_workload *row); /* moves row in */
cp_inst *cp_plane_add_instance(cp_plane *plane, cp_wl *wl, cp_instance *row);
cp_rel *cp_plane_add_release(cp_plane *plane, cp_wl *wl, cp_release *row);
cp_deployment *cp_plane_add_deployment(cp_plane *plane, cp_wl *wl,
                                       cp_deployment *row);  /* moves row in; does not save */
void cp_plane_drop_instance(cp_plane *plane, cp_inst *inst); /* out of memory: destroyed, or a reload */
void cp_plane_drop_workload(cp_plane *plane, cp_wl *wl);
void cp_plane_drop_release(cp_plane *plane, cp_rel *rel); /* memory only */
void cp_plane_drop_deployment(cp_plane *plane, cp_wl *wl, cp_deployment *dep);
void cp_plane_drop_set(cp_plane *plane, cp_replica_set *set); /* memory and store */
void cp_plane_delete(cp_plane *plane, const cp_desc *desc, const char *id);
char *cp_plane_slug_key(const char *tenant, const char *slug); /* the caller frees */
int64_t cp_plane_now(const cp_plane *plane);                   /* wall, ms */
bool cp_wl_deleted(const cp_wl *wl);                           /* destroying or destroyed */
cp_wl *cp_wl_of(cp_plane *plane, const char *workload_id);     /* by id alone; NULL when unknown */
cp_wl *cp_plane_workload(cp_plane *plane, const char *tenant_id, const char *id_or_slug, cp_error *err);
cp_deployment *cp_plane_deployment(cp_plane *plane, const char *tenant_id, const char *id, cp_error *err);
int cp_lookup_failed(const cp_error *err);                    /* the code, after a lookup that gave NULL */
cp_rel *cp_wl_release(cp_wl *wl, const char *release_id);     /* NULL when unknown */
cp_replica_set *cp_wl_set(cp_wl *wl, const char *release_id); /* NULL when absent */
cp_replica_set *cp_wl_set_by_role(cp_wl *wl, int role);       /* NULL when absent */
cp_replica_set *cp_wl_set_make(cp_plane *plane, cp_wl *wl, const char *release_id, int role); /* find or create */
cp_deployment *cp_wl_deployment(cp_wl *wl, const char *id);
cp_provider *cp_plane_provider(cp_plane *plane, const char *name); /* NULL or "": the default; NULL when unknown */
void cp_plane_dirty(cp_plane *plane, cp_wl *wl);                   /* decide it in this turn (or the next) */
void cp_plane_wake(cp_plane *plane, cp_wl *wl, int64_t at);        /* make it dirty when plane time reaches at */
void cp_plane_settled(cp_plane *plane, cp_wl *wl);                 /* look at the waiters of this workload */
/* Write a row; a storage failure marks the turn as failed (its commit will fail) and is not reported here. */
void cp_plane_save_workload(cp_plane *plane, cp_wl *wl);
void cp_plane_save_instance(cp_plane *plane, cp_inst *inst);
void cp_plane_save_release(cp_plane *plane, cp_rel *rel);
void cp_plane_save_set(cp_plane *plane, cp_replica_set *set);
void cp_plane_save_deployment(cp_plane *plane, cp_deployment *dep);
void cp_plane_save(cp_plane *plane, const cp_desc *desc, const void *row);
void cp_plane_written(cp_plane *plane, int r, cp_error *err); /* r: of a store's write; clears err */
bool cp_plane_turn_failed(const cp_plane *plane);
void cp_plane_set_workload_state(cp_plane *plane, cp_wl *wl, int state); /* asserts the transition; saves */

/* The operations' args: see args.h. */
/* event.c */
void cp_events_new(cp_plane *plane);
void cp_events_free(cp_plane *plane);
void cp_retain(cp_plane *plane);        /* retain.c: removes what is older than the limits say; bounded work */
void cp_retain_images(cp_plane *plane); /* after this commit each provider hears which images releases name */

/* workload.c: what row.services shows while nothing is staged: the release being rolled out, else the current one. */
void cp_workload_spec_refresh(cp_plane *plane, cp_wl *wl);
cp_rel *cp_workload_target(const cp_wl *wl); /* the release a change builds on; NULL when there is none */
int cp_workload_refuse_deleted(const cp_wl *wl, const char *what, cp_error *err);
int cp_workload_check_replicas(const cp_wl *wl, int64_t replicas, cp_error *err);
void cp_release_asked(const cp_rel *rel, cp_list *ret);
cp_rel *cp_release_record(cp_plane *plane, cp_wl *wl, cp_list *resolved, const cp_list *asked, char *hash,
                          const cp_deploy_args *args);
int cp_services_supported(const cp_provider *provider, const cp_list *services, int kind, cp_error *err);
/* 1: the call waits for its images, as cp_call_prepare. */
int cp_services_resolved(cp_call *call, cp_provider *provider, const cp_list *services, cp_list *ret, cp_error *err);

void cp_logs_changed(cp_plane *plane, const cp_wl *wl); /* logs.c: replicas came or went: streams look again */
/* payload is taken (NULL is fine). */
void cp_plane_event(cp_plane *plane, const char *type, const char *actor, cp_wl *wl, cp_inst *inst,
                    const char *deployment_id, json_t *payload);

/* view.c. New references. */
json_t *cp_view_workload(cp_plane *plane, cp_wl *wl);
json_t *cp_view_instance(cp_plane *plane, cp_inst *inst);
json_t *cp_view_deployment(cp_plane *plane, cp_deployment *dep);
json_t *cp_view_release(cp_plane *plane, cp_rel *rel);
void cp_instance_labels(const cp_plane *plane, const cp_inst *inst, cp_map *labels); /* adds; the caller clears */

/* reconcile.c */
int cp_reconcile_start(cp_plane *plane, cp_error *err); /* adoption: list of every provider, then resyncs */
void cp_reconcile_free(cp_plane *plane);
/* One pass over a dirty workload: builds the input (sets, guards of the active deployment or the kind's defaults),
 * decides, writes rows, marks instances for their operations after the commit. Leaves wl->last. */
void cp_reconcile_pass(cp_plane *plane, cp_wl *wl);
void cp_reconcile_kick(cp_plane *plane,
                       cp_inst *inst); /* decide_instance; its operation after the commit. May free it */
bool cp_reconcile_counted(cp_plane *plane, cp_wl *wl); /* as many as wanted are ready, whatever else goes on */
bool cp_reconcile_settled(cp_plane *plane, cp_wl *wl); /* nothing left to do but wait for the outside */
void cp_wl_clear_slots(cp_wl *wl);
void cp_reconcile_gave_up(cp_plane *plane, cp_inst *inst); /* it is failed: its successor waits a little */
int64_t cp_backoff(cp_loop *loop, int64_t failures);       /* ms, with jitter */
/* operate.c */
void cp_operate_queue(cp_plane *plane, cp_inst *inst); /* let it have its operation when its turn comes */
void cp_operate_again(cp_plane *plane, cp_inst *inst); /* a person asked: failed and waiting ones try at once */
void cp_operate_drop(cp_plane *plane, cp_inst *inst);  /* forget it: cancels what is in flight */
void cp_operate_drain(cp_plane *plane);
void cp_instance_decide(cp_inst *inst, cp_instance_decision *decision);
void cp_instance_set_state(cp_plane *plane, cp_inst *inst, int state, const char *message); /* saves, tells */
const char *cp_operate_waits(cp_plane *plane, const cp_inst *inst); /* its provider is down: why; else NULL. Lent */
size_t cp_operate_in_flight(const cp_plane *plane);
json_t *cp_reconcile_blocks(cp_plane *plane, cp_wl *wl); /* what the provider side waits for: retries, outages */
/* observe.c */
void cp_observe_look(cp_plane *plane, cp_inst *inst); /* ask the provider about it */
bool cp_observe_adopted(const cp_plane *plane);       /* each provider has answered once, or said why not */

/* readiness.c: starts and stops the probes of an instance as it runs or not; sets row.ready and marks it dirty. */
void cp_readiness_update(cp_plane *plane, cp_inst *inst);
void cp_readiness_free(cp_inst *inst);
void cp_readiness_set(cp_plane *plane, cp_inst *inst, bool ready); /* the row; saves */

/* rollout.c: the boundary between operations/reconcile and rollouts. */
struct cp_deploy_args {
    cp_list services; /* cp_service_deploy */
    char *release_id, *strategy;
    json_t *params;
    cp_share surge, unavailable;
    int64_t min_ready, progress_deadline; /* -1 in progress_deadline: "none" */
    int on_failure;
    int64_t max_failures;
    char *supersede, *notes, *commit_sha;
    char *source; /* a strategy's source text instead of a name (over the API) */
    cp_map files; /* what it requires: path -> source text */
    int64_t wait;
    uint64_t present;
};
extern const cp_desc cp_deploy_args_desc; /* deploy; create embeds the same option fields */

/* Begins a deployment of `release` (already recorded, or the current one being re-rolled). Chooses `initial` where
 * the workload has no good release; resolves strategy, params and guards; refuses by the supersede rules; writes the
 * deployment and its replica sets, sets the workload's state, emits deploy.started. *ret is lent.
 * A deploy of what every replica already runs is not begun: *ret NULL and 0. */
int cp_rollout_begin(cp_plane *plane, cp_wl *wl, cp_rel *release, const cp_deploy_args *args, const cp_claims *claims,
                     cp_deployment **ret, cp_error *err);
/* Checks everything that cp_rollout_begin would refuse, before a release is recorded. */
int cp_rollout_check(cp_plane *plane, cp_wl *wl, const cp_deploy_args *args, cp_error *err);
void cp_rollout_load(cp_plane *plane, cp_wl *wl);   /* at start and reload: resumes the newest non-final deployment */
void cp_rollout_before(cp_plane *plane, cp_wl *wl); /* in a pass, before decide_workload: due timers, deadline, goals */
void cp_rollout_after(cp_plane *plane,
                      cp_wl *wl); /* after it, with wl->last: completion, progress, failure, wake-ups */
/* A new instance of the rollout's release gave up for good (its provider said failed, retries spent). */
void cp_rollout_instance_failed(cp_plane *plane, cp_wl *wl, cp_inst *inst);
void cp_rollout_freeze(cp_plane *plane, cp_wl *wl);                    /* workload pause: hold, clock stops */
void cp_rollout_thaw(cp_plane *plane, cp_wl *wl);                      /* workload resume */
void cp_rollout_end(cp_plane *plane, cp_wl *wl, const char *reason);   /* workload delete: cancelled, script stopped */
void cp_rollout_drop(cp_wl *wl);                                       /* frees memory only: reload, close */
bool cp_rollout_active(const cp_wl *wl);                               /* a non-final deployment exists */
bool cp_rollout_rounds_up(const cp_wl *wl, const cp_replica_set *set); /* its goal was set by launch */
/* Guards in force now: of the newest deployment, or the kind's defaults. */
void cp_rollout_guards(cp_wl *wl, cp_share *surge, cp_share *unavailable, int64_t *min_ready, bool *holding,
                       bool *returning);
/* Rows of `why`: [{guard, value, needed, instance_id?, release_id?, message, since, deadline?}]; never empty while the
 * deployment is not final. */
json_t *cp_rollout_why(cp_plane *plane, cp_wl *wl, cp_deployment *dep);
