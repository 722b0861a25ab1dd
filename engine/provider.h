/* engine/provider.h -- What the plane asks of a runtime. A provider runs one instance at a time (one replica: all its
 * services together); replicas, rollouts and retries are the engine's.
 * Every operation is asynchronous: `done` is called once, in a later turn, never after cp_provider_op_cancel or after
 * the provider was freed. Every operation takes (instance id, generation), stamps it on what it makes, and asked again
 * does nothing again. Errors: `provider_unavailable` (nobody answers: the engine retries for ever),
 * `provider_failed` (it said no: counted), `unsupported`. */
#pragma once
#include "base/loop.h"
#include "model/decide.h"

typedef struct cp_provider cp_provider;
typedef struct cp_provider_op cp_provider_op;

enum {
    CP_CAN_LOGS = 1 << 0,
    CP_CAN_EXEC = 1 << 1,
    CP_CAN_VOLUMES = 1 << 2,
    CP_CAN_UPDATE = 1 << 3,
    CP_CAN_RESTART_POLICY = 1 << 4,
    CP_CAN_RESOURCES = 1 << 5,
    CP_CAN_WATCH = 1 << 6,
    CP_CAN_PROBE = 1 << 7, /* services[].ready of an observation is the whole answer: the plane probes nothing */
};

/* The instance as a provider needs it; everything is lent for the call: a provider copies what it keeps. */
typedef struct cp_runtime_spec {
    const char *instance_id, *name, *workload_id, *workload_slug, *workload_name, *release_id, *tenant_id, *plane_id;
    int64_t replica_index, generation;
    int kind;
    const cp_list *services; /* cp_service, images resolved */
    const cp_map *labels;    /* the workload's plus ctrlplane.* */
    bool remove_volumes;     /* deprovision: volumes too */
} cp_runtime_spec;

/* What is seen of one instance. Described like every struct; cleared with cp_desc_clear(&cp_observation_desc, ...). */
typedef struct cp_observation {
    char *instance_id;
    int seen; /* cp_seen */
    int64_t generation;
    char *release_id, *workload_id, *plane_id, *provider_ref, *message;
    int64_t started_at; /* wall ms */
    int64_t restarts;
    cp_list services;  /* cp_service_status */
    cp_list endpoints; /* cp_endpoint */
} cp_observation;
extern const cp_desc cp_observation_desc; /* in engine/model/entity.c */

typedef void cp_provider_done(void *userdata, const cp_error *err); /* err NULL: done */
typedef void cp_provider_seen(void *userdata, const cp_observation *observation, const cp_error *err);
typedef void cp_provider_listed(void *userdata, const cp_observation *items, size_t count, const cp_error *err);
typedef void cp_provider_hint(void *userdata, const char *instance_id); /* something changed there; NULL: look at all */

/* A line of a log. text is lent for the call. offset: position behind this line, to go on from. */
typedef struct cp_log_line {
    int64_t at_ns; /* wall, ns */
    bool stderr_stream, partial;
    const char *text;
    size_t len;
    const char *cursor; /* opaque to others; resumes behind this line */
} cp_log_line;
typedef struct cp_log_options {
    bool follow;
    int64_t since;     /* wall ms; 0 all */
    int64_t tail;      /* -1: all */
    const char *after; /* cursor, or NULL */
} cp_log_options;
typedef struct cp_log_source cp_log_source;
/* line NULL: the end (err says why when not a plain end). Called from the loop; never after cp_log_source_free. */
typedef void cp_log_sink(void *userdata, const cp_log_line *line, const cp_error *err);

typedef struct cp_exec_result {
    int64_t exit_code;
    const char *output;
    size_t len;
} cp_exec_result;
typedef void cp_exec_done(void *userdata, const cp_exec_result *result, const cp_error *err);

typedef struct cp_provider_class {
    const char *type;                    /* "process", "sim" */
    unsigned capabilities;               /* CP_CAN_* */
    void (*free)(cp_provider *provider); /* detaches: what runs goes on */
    /* Does what takes time before `resolve`: copies, hashes. *ret NULL: there is nothing to wait for, and done is not
     * called. Else *ret is a handle for `cancel`. Fails as resolve does. NULL: resolve needs nothing. */
    int (*prepare)(cp_provider *provider, const cp_list *services, cp_provider_done *done, void *userdata,
                   cp_provider_op **ret, cp_error *err);
    /* Before a release is recorded: resolves images so that a release is tomorrow what it is today (a copy by content
     * hash, a digest). Changes services[].image in place. Fails with `invalid` and a field for what cannot exist, with
     * `conflict` for what changed since it was prepared. At once. NULL: nothing to resolve. */
    int (*resolve)(cp_provider *provider, cp_list *services, cp_error *err);
    /* images: every resolved image that a release names. What else is stored may be removed, but nothing that was
     * prepared or resolved in the last minute or that an instance still needs. NULL: nothing is stored. */
    void (*retain)(cp_provider *provider, const cp_strings *images);
    /* One operation. On success *ret is a handle that is valid until done was called. */
    int (*operate)(cp_provider *provider, cp_op_kind kind, const cp_runtime_spec *spec, cp_provider_done *done,
                   void *userdata, cp_provider_op **ret, cp_error *err);
    void (*cancel)(cp_provider *provider, cp_provider_op *op);
    /* Looks at one; an unknown id is answered with CP_SEEN_ABSENT. */
    int (*status)(cp_provider *provider, const char *instance_id, cp_provider_seen *seen, void *userdata,
                  cp_error *err);
    /* Everything that carries this plane's label. */
    int (*list)(cp_provider *provider, cp_provider_listed *listed, void *userdata, cp_error *err);
    /* hint NULL: stop. Then the plane goes: answers to status and list that are still due are dropped as well. */
    void (*watch)(cp_provider *provider, cp_provider_hint *hint, void *userdata);
    int (*logs)(cp_provider *provider, const char *instance_id, const char *service, const cp_log_options *options,
                cp_log_sink *sink, void *userdata, cp_log_source **ret, cp_error *err);
    void (*logs_free)(cp_provider *provider, cp_log_source *source);
    int (*exec)(cp_provider *provider, const char *instance_id, const char *service, const cp_strings *command,
                int64_t timeout, cp_exec_done *done, void *userdata, cp_provider_op **ret, cp_error *err);
    json_t *(*info)(cp_provider *provider); /* for `doctor` and `provider` */
} cp_provider_class;

struct cp_provider {
    const cp_provider_class *class;
    char *name; /* the name it is registered under; owned */
    cp_loop *loop;
};

/* providers/process: data_dir holds instances/, images/, volumes/; shim_path: the ctrlplane-shim binary. */
int cp_process_provider_new(cp_loop *loop, const char *name, const char *data_dir, const char *shim_path,
                            const char *plane_id, cp_provider **ret, cp_error *err);
/* providers/sim: scenario is JSON (see providers/sim/sim.h), NULL for the defaults. Lives outside the plane so that a
 * simulated engine crash keeps the world: it is freed by its owner only. */
int cp_sim_provider_new(cp_loop *loop, const char *name, const json_t *scenario, uint64_t seed, cp_provider **ret,
                        cp_error *err);
