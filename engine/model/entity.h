/* engine/model/entity.h -- The entities of the model as C structs, each with its descriptor.
 * Field names, JSON keys and SQL columns are the same words (the seed's). No I/O, no clock, no store.
 * Every struct is cleared with cp_desc_clear(&cp_<name>_desc, object). Times are ms since the epoch. */
#pragma once
#include "base/desc.h"

/* Enum words stand in entity.c in the same order; index 0 is the default. */
typedef enum { CP_KIND_DEPLOYMENT, CP_KIND_STATEFUL_SET } cp_kind;
typedef enum { CP_ROLE_MAIN, CP_ROLE_SIDECAR, CP_ROLE_INIT } cp_service_role;
typedef enum { CP_RESTART_ALWAYS, CP_RESTART_ON_FAILURE, CP_RESTART_NEVER } cp_restart_policy;
typedef enum { CP_CHECK_HTTP, CP_CHECK_TCP, CP_CHECK_GRPC, CP_CHECK_COMMAND } cp_check_type;
typedef enum {
    CP_WORKLOAD_PROVISIONING,
    CP_WORKLOAD_ACTIVE,
    CP_WORKLOAD_SCALING,
    CP_WORKLOAD_DEPLOYING,
    CP_WORKLOAD_PAUSED,
    CP_WORKLOAD_FAILED,
    CP_WORKLOAD_DESTROYING,
    CP_WORKLOAD_DESTROYED,
} cp_workload_state;
typedef enum {
    CP_INSTANCE_PROVISIONING,
    CP_INSTANCE_STARTING,
    CP_INSTANCE_RUNNING,
    CP_INSTANCE_STOPPING,
    CP_INSTANCE_STOPPED,
    CP_INSTANCE_FAILED,
    CP_INSTANCE_DESTROYING,
    CP_INSTANCE_DESTROYED,
} cp_instance_state;
typedef enum { CP_DESIRED_RUNNING, CP_DESIRED_STOPPED, CP_DESIRED_DESTROYED } cp_desired;
typedef enum {
    CP_DEPLOYMENT_PENDING,
    CP_DEPLOYMENT_RUNNING,
    CP_DEPLOYMENT_PAUSED,
    CP_DEPLOYMENT_SUCCEEDED,
    CP_DEPLOYMENT_FAILED,
    CP_DEPLOYMENT_ROLLED_BACK,
    CP_DEPLOYMENT_CANCELLED,
} cp_deployment_state;
typedef enum { CP_SET_NEW, CP_SET_OLD, CP_SET_ABANDONED } cp_set_role;
typedef enum { CP_ON_FAILURE_ROLLBACK, CP_ON_FAILURE_PAUSE, CP_ON_FAILURE_FAIL } cp_on_failure;

typedef struct cp_resources {
    int64_t cpu_millis, memory_mb, disk_mb, gpu;
} cp_resources;
typedef struct cp_port {
    char *name;
    int64_t container, host;
    char *protocol;
} cp_port;
typedef struct cp_volume {
    char *name, *mount_path;
    int64_t size_mb;
    char *type;
} cp_volume;
typedef struct cp_secret_ref {
    char *key, *env;
} cp_secret_ref;
typedef struct cp_config_file {
    char *name, *path, *format, *content, *mode;
} cp_config_file; /* mode: octal text "0644" */
typedef struct cp_health_check {
    int type;   /* cp_check_type */
    char *port; /* a name or a number; NULL: the first port */
    char *path;
    cp_strings command;
    int64_t interval, timeout, retries, start_period; /* ms, ms, count, ms */
} cp_health_check;

typedef struct cp_service {
    char *name, *image;
    int role; /* cp_service_role */
    cp_strings depends_on;
    cp_resources resources;
    cp_map env;
    cp_list ports;                 /* cp_port */
    cp_list volumes;               /* cp_volume */
    cp_health_check *health_check; /* NULL: ready when it has run for a second */
    cp_list secrets;               /* cp_secret_ref */
    cp_list config_files;          /* cp_config_file */
    cp_map annotations;
    cp_strings command, args;
    int restart; /* cp_restart_policy */
    char *user, *workdir, *stop_signal;
    int64_t stop_timeout; /* ms */
    uint64_t present;
} cp_service;

/* What a deploy may change of a service; absent keeps. */
typedef struct cp_service_deploy {
    char *name, *image;
    cp_map env; /* replaces whole when present */
    cp_health_check *health_check;
    cp_strings command, args;
    uint64_t present;
} cp_service_deploy;

typedef struct cp_workload {
    char *id;
    int64_t created_at, updated_at;
    char *tenant_id, *name, *slug, *datacenter_id, *provider_name, *region;
    int kind;
    cp_list services; /* cp_service: the draft; what runs is the current release */
    cp_map labels;
    char *current_release_id;
    int64_t replica_count, ready_replicas;
    int state;
    int64_t paused_at, previous_replicas;
    char *template_id;
    bool staged;              /* column only: services differ from the current release by an update */
    int64_t generation;       /* column only: raised by restart */
    int64_t restart_parallel; /* column only */
    char *message;            /* why it is failed, or what an operation warned of */
    bool remove_volumes;      /* column only: delete --volumes */
} cp_workload;

typedef struct cp_replica_set {
    char *id; /* the release's id */
    int64_t created_at, updated_at;
    char *workload_id, *release_id;
    cp_share goal;
    int64_t held;    /* held size while a deployment is paused, cancelled or failed; -1: none */
    int64_t desired; /* the goal resolved for today's N */
    double weight;
    int role; /* cp_set_role */
} cp_replica_set;

typedef struct cp_service_status {
    char *name, *state; /* state: waiting|running|backoff|exited|failed */
    bool ready;
    int64_t restarts;
    char *message, *provider_ref;
    int64_t exit_code; /* of the last exit; -1 none */
} cp_service_status;

typedef struct cp_endpoint {
    char *service, *name, *host;
    int64_t port;
    char *protocol;
} cp_endpoint;

typedef struct cp_instance {
    char *id;
    int64_t created_at, updated_at;
    char *tenant_id, *workload_id;
    int64_t replica_index;
    char *release_id, *name;
    int kind;
    char *provider_name, *provider_ref, *region;
    int state;
    int desired;                /* cp_desired */
    int64_t generation;         /* wanted: raised by restart and by update in place */
    int64_t applied_generation; /* column only: what the last finished operation brought it to */
    bool ready;
    char *message;
    int64_t restarts, started_at, ready_at; /* ready_at: plane time since when it is ready, 0 = not; column only */
    cp_list endpoints;                      /* cp_endpoint */
    cp_list service_status;                 /* cp_service_status */
    /* JSON adds services (of its release) and labels; they are not stored per row. */
} cp_instance;

typedef struct cp_release {
    char *id;
    int64_t created_at, updated_at;
    char *tenant_id, *workload_id;
    int64_t version;
    cp_list services; /* cp_service, images resolved */
    char *notes, *commit_sha;
    bool active, good; /* good (column only): a deployment of it succeeded */
    cp_map images;     /* column only: service -> image as it was asked for */
    char *spec_hash;   /* column only: sha256 of the sorted services JSON, to tell "the same spec" */
} cp_release;

typedef struct cp_deployment {
    char *id;
    int64_t created_at, updated_at;
    char *tenant_id, *workload_id, *release_id, *previous_release_id;
    int state;
    char *strategy, *strategy_hash;
    json_t *params;
    cp_share surge, unavailable;
    int64_t min_ready, progress_deadline; /* ms; progress_deadline -1: none */
    int on_failure;
    int64_t max_failures;
    json_t *services; /* as asked */
    cp_map service_progress;
    char *phase;
    double percent;
    char *message, *held_by, *awaiting, *initiator, *notes;
    json_t *error; /* cp_error_json */
    int64_t started_at, finished_at;
    /* Columns only: what a crash must not forget. Plane times in ms. */
    int64_t progress_at; /* plane time of the last progress, or of the deadline's restart */
    int64_t best_ready, best_created, least_old, failures;
    bool rolling_back, holding; /* on the way back; goals are held sizes */
    int64_t held_replicas;      /* the workload's replica count when the sizes were held */
    bool resume_after_pause;    /* frozen by a workload pause */
    char *replaces;             /* the deployment that this one superseded */
} cp_deployment;

/* One line of a rollout's journal. */
typedef struct cp_command {
    char *id; /* <deployment>/<number, 6 digits> */
    int64_t created_at, updated_at;
    char *deployment_id;
    int64_t number;
    char *name;
    json_t *args, *result;
    bool done;
    char *line;                 /* file:line that issued it */
    int64_t issued_at, done_at; /* plane time, ms */
    int64_t done_wall;          /* ms since the epoch: what now() returns after it */
} cp_command;

/* A pinned strategy: all its sources by path. */
typedef struct cp_script_row {
    char *id; /* sha256 */
    int64_t created_at, updated_at;
    json_t *bundle;
} cp_script_row;

typedef struct cp_event {
    char *id;
    int64_t seq;
    char *type, *tenant_id, *actor_id, *workload_id, *instance_id, *deployment_id;
    json_t *payload;
    int64_t at;
} cp_event;

extern const cp_desc cp_resources_desc, cp_port_desc, cp_volume_desc, cp_secret_ref_desc, cp_config_file_desc,
    cp_health_check_desc, cp_service_desc, cp_service_deploy_desc, cp_workload_desc, cp_replica_set_desc,
    cp_service_status_desc, cp_endpoint_desc, cp_instance_desc, cp_release_desc, cp_deployment_desc, cp_command_desc,
    cp_script_row_desc, cp_event_desc;

extern const char *const cp_workload_states[],
    *const cp_instance_states[], *const cp_deployment_states[], *const cp_set_roles[], *const cp_kinds[],
                                                                                           *const cp_service_roles[];
