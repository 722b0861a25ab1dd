/* engine/plane/args.h -- The option tables of the plane's operations, one struct each; args.c describes them.
 * They are request bodies, Lua options and documentation at once. */
#pragma once
#include "plane/internal.h"

typedef struct cp_none_args {
    uint64_t present;
} cp_none_args;

typedef struct cp_wait_args {
    int64_t wait;
    uint64_t present;
} cp_wait_args;

typedef struct cp_create_args {
    char *name, *datacenter_id, *region, *provider_name;
    int kind;
    cp_list services;
    cp_map labels;
    int64_t replicas, wait;
    cp_deploy_args deploy; /* strategy, params and the other options of a deploy */
    uint64_t present;
} cp_create_args;

typedef struct cp_update_args {
    char *name;
    cp_list services;
    cp_map labels;
    int64_t wait;
    uint64_t present;
} cp_update_args;

typedef struct cp_scale_args {
    int64_t replicas, wait;
    uint64_t present;
} cp_scale_args;

typedef struct cp_restart_args {
    int64_t parallel, wait;
    uint64_t present;
} cp_restart_args;

typedef struct cp_delete_args {
    bool volumes;
    int64_t wait;
    uint64_t present;
} cp_delete_args;

typedef struct cp_list_args {
    int state; /* 0: all but destroyed; else cp_workload_state + 1 */
    char *provider_name, *region, *cursor;
    int64_t limit;
    uint64_t present;
} cp_list_args;

typedef struct cp_page_args {
    char *cursor;
    int64_t limit;
    uint64_t present;
} cp_page_args;

typedef struct cp_events_args {
    cp_strings types;
    char *workload, *cursor;
    int64_t limit, after;
    uint64_t present;
} cp_events_args;

typedef struct cp_logs_args {
    bool follow;
    int64_t since, tail;
    char *after, *service;
    uint64_t present;
} cp_logs_args;

extern const cp_desc cp_none_args_desc, cp_wait_args_desc, cp_update_args_desc, cp_scale_args_desc,
    cp_restart_args_desc, cp_delete_args_desc, cp_list_args_desc, cp_page_args_desc, cp_events_args_desc,
    cp_events_stream_args_desc, cp_logs_args_desc;
/* These repeat fields of cp_deploy_args_desc; cp_args_init fills them in once. */
extern cp_desc cp_create_args_desc, cp_rollback_args_desc;
void cp_args_init(void);
/* What of a deploy was in a request that was parsed by `desc`: carries the bits of `present` over by name. */
void cp_args_deploy_present(const cp_desc *desc, uint64_t present, cp_deploy_args *deploy);

/* The operations. */
int cp_run_create(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_update(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_scale(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_pause(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_resume(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_restart(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_delete(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_deploy(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_rollback(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_get(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_get_by_slug(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_list(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_list_instances(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_list_releases(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_list_deployments(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_instance_get(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_release_get(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_events_list(cp_plane *plane, cp_call *call, cp_error *err);
int cp_run_providers_list(cp_plane *plane, cp_call *call, cp_error *err);

extern const cp_operation cp_deployment_operations[]; /* verbs.c: deployments.*, strategies.* */
extern const size_t cp_deployment_operation_count;
