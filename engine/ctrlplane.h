/* ctrlplane.h -- The engine as a C library. Options and answers are JSON text: the words of the HTTP API and of Lua.
 *
 * One engine owns one store. Nothing happens but inside ctrlplane_step (or ctrlplane_wait): call it when
 * ctrlplane_fd is readable or ctrlplane_timeout has passed, from one thread. The library sets no signal handler and
 * starts no thread. Functions return 0 or a negative CP_E_ code; `ret` is untouched on failure; err may be NULL. */
#ifndef CTRLPLANE_H
#define CTRLPLANE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef CTRLPLANE_INTERNAL /* inside the library the same names come from where they are defined */
typedef enum cp_code {
    CP_OK = 0,
    CP_E_INVALID = -1,
    CP_E_NOT_FOUND = -2,
    CP_E_ALREADY_EXISTS = -3,
    CP_E_INVALID_STATE = -4,
    CP_E_CONFLICT = -5,
    CP_E_UNAUTHORIZED = -6,
    CP_E_FORBIDDEN = -7,
    CP_E_DENIED = -8,
    CP_E_QUOTA_EXCEEDED = -9,
    CP_E_RATE_LIMITED = -10,
    CP_E_PROVIDER_NOT_FOUND = -11,
    CP_E_PROVIDER_UNAVAILABLE = -12,
    CP_E_PROVIDER_FAILED = -13,
    CP_E_UNSUPPORTED = -14,
    CP_E_DEPLOYMENT_FAILED = -15,
    CP_E_HEALTH_CHECK_FAILED = -16,
    CP_E_TIMEOUT = -17,
    CP_E_CANCELLED = -18,
    CP_E_NONDETERMINISM = -19,
    CP_E_SCRIPT_ERROR = -20,
    CP_E_STORAGE_FAILED = -21,
    CP_E_TOO_LARGE = -22,
    CP_E_INTERNAL = -23
} cp_code;

typedef enum cp_workload_state {
    CP_WORKLOAD_PROVISIONING,
    CP_WORKLOAD_ACTIVE,
    CP_WORKLOAD_SCALING,
    CP_WORKLOAD_DEPLOYING,
    CP_WORKLOAD_PAUSED,
    CP_WORKLOAD_FAILED,
    CP_WORKLOAD_DESTROYING,
    CP_WORKLOAD_DESTROYED
} cp_workload_state;

typedef struct cp_error cp_error;
#endif

/* Errors. The texts are lent until the error is used again or freed; NULL where there is none. */
cp_error *cp_error_new(void);
void cp_error_free(cp_error *err); /* NULL is fine */
int cp_error_code(const cp_error *err);
const char *cp_error_message(const cp_error *err); /* one line: what is wrong, with which value */
const char *cp_error_field(const cp_error *err);   /* a path such as services[1].image */
const char *cp_error_hint(const cp_error *err);
const char *cp_code_name(int code); /* "invalid_state" */

typedef struct ctrlplane ctrlplane;

const char *ctrlplane_version(void);

/* Opens a store and runs its engine.
 *   options  {"store": path or ":memory:", "provider": "process" | "sim", "data_dir", "clock": "real" | "virtual",
 *            "seed", "scenario", "strategies": [folders]}
 * Fails with `conflict`, naming the pid, where another process owns the store. */
int ctrlplane_open(const char *options, ctrlplane **ret, cp_error *err);
void ctrlplane_close(ctrlplane *plane); /* detaches: workloads go on. No callback afterwards. NULL is fine */

/* The loop. */
int ctrlplane_fd(const ctrlplane *plane);                 /* readable when a step has something to do */
int64_t ctrlplane_timeout(const ctrlplane *plane);        /* ms until a step is due, -1: none is */
int ctrlplane_step(ctrlplane *plane, int64_t timeout_ms); /* one turn, waiting up to timeout_ms; things done */
int ctrlplane_advance(ctrlplane *plane, int64_t ms, cp_error *err); /* a virtual clock only, else `unsupported` */

/* json is lent for the call, NULL with err. Called once, in a later step. */
typedef void cp_done(void *userdata, const char *json, const cp_error *err);

/* Calls an operation by its name, such as "workloads.scale" (the reference of the HTTP API lists them).
 *   id       of what the operation works on: id, or slug of a workload; NULL where it takes none
 *   options  a JSON object; NULL is {}
 * What the engine refuses comes through `done`; the call itself fails for an unknown name and for text that is no
 * JSON object. */
int ctrlplane_call(ctrlplane *plane, const char *operation, const char *id, const char *options, cp_done *done,
                   void *userdata, cp_error *err);
/* The same, turning the loop until it is answered or timeout_ms have passed (`timeout`; -1: no limit).
 *   ret  may be NULL; the caller frees it with ctrlplane_free */
int ctrlplane_wait(ctrlplane *plane, const char *operation, const char *id, const char *options, int64_t timeout_ms,
                   char **ret, cp_error *err);
void ctrlplane_free(void *text); /* NULL is fine */

/* Events of a stream such as "workloads.stream_logs"; json NULL is the end, err says why when it is not a plain one.
 * *ret must be freed, also after the end and before the plane is closed; no callback afterwards. */
typedef struct ctrlplane_events ctrlplane_events;
int ctrlplane_stream(ctrlplane *plane, const char *operation, const char *id, const char *options, cp_done *event,
                     void *userdata, ctrlplane_events **ret, cp_error *err);
void ctrlplane_events_pause(ctrlplane_events *events); /* nothing is delivered, and nothing lost, until resumed */
void ctrlplane_events_resume(ctrlplane_events *events);
void ctrlplane_events_free(ctrlplane_events *events); /* NULL is fine */

/* The operations of workloads by name: cp_workload_scale(plane, "web", "{\"replicas\": 5}", done, userdata, err). */
#define CP_WORKLOAD_OPERATIONS(X)                                                                                      \
    X(create)                                                                                                          \
    X(list)                                                                                                            \
    X(get)                                                                                                             \
    X(get_by_slug)                                                                                                     \
    X(update)                                                                                                          \
    X(scale)                                                                                                           \
    X(pause)                                                                                                           \
    X(resume)                                                                                                          \
    X(restart)                                                                                                         \
    X(deploy)                                                                                                          \
    X(rollback)                                                                                                        \
    X(delete)                                                                                                          \
    X(list_instances)                                                                                                  \
    X(list_releases)                                                                                                   \
    X(list_deployments)
#define CP_DECLARE_WORKLOAD_OPERATION(name)                                                                            \
    int cp_workload_##name(ctrlplane *plane, const char *id, const char *options, cp_done *done, void *userdata,       \
                           cp_error *err);
CP_WORKLOAD_OPERATIONS(CP_DECLARE_WORKLOAD_OPERATION)
#undef CP_DECLARE_WORKLOAD_OPERATION

/* 0, or CP_E_INVALID_STATE: the message names both states and what is allowed. States are cp_workload_state. */
int cp_workload_validate_transition(int from, int to, cp_error *err);

#ifdef __cplusplus
}
#endif

#endif
