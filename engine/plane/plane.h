/* engine/plane/plane.h -- The engine as its users see it: open, call an operation, follow a stream, close.
 * The table of operations is the one list behind the HTTP routes, the Lua methods, the C names, the docs and the
 * stubs. Knows runtimes and scripts only through provider.h and script.h. */
#pragma once
#include "base/desc.h"
#include "base/loop.h"
#include "provider.h"
#include "script.h"
#include "store/store.h"

typedef struct cp_plane cp_plane;

typedef struct cp_plane_parts {
    cp_loop *loop;           /* lent; outlives the plane */
    cp_store *store;         /* taken: closed by cp_plane_free */
    cp_scripts *scripts;     /* taken */
    cp_provider **providers; /* NULL-terminated; the first is the default. Taken when own_providers */
    bool own_providers;      /* false: the owner keeps them (a simulated crash keeps the sim's world) */
    const char *plane_id;    /* from the store's meta; the providers were opened with it */
} cp_plane_parts;

/* Loads everything from the store, adopts what runs, and goes on. The loop's hooks become the plane's. */
int cp_plane_new(const cp_plane_parts *parts, cp_plane **ret, cp_error *err);
void cp_plane_free(cp_plane *plane); /* detaches: pending replies are answered `cancelled`; workloads go on */
CP_DEFINE_CLEANUP(cp_plane, cp_plane_free)
cp_loop *cp_plane_loop(cp_plane *plane);
const char *cp_plane_id(const cp_plane *plane);
int64_t cp_plane_time(const cp_plane *plane);              /* plane time, ms */
bool cp_plane_ready(const cp_plane *plane, cp_error *err); /* for /readyz: store trusted, adoption done */
#ifdef CP_FAILPOINTS
/* For crash specs. kill: as by kill -9, it does nothing any more and writes nothing when it is freed. */
void cp_plane_kill(cp_plane *plane);
bool cp_plane_crashed(const cp_plane *plane); /* killed, or ended by a failpoint */
#endif
json_t *cp_plane_stats(cp_plane *plane); /* workloads, instances, stall, commits, in-flight operations ... */

/* Who asks. */
typedef struct cp_claims {
    const char *tenant_id; /* NULL: the default tenant */
    const char *subject;   /* becomes actor_id of events and initiator of deployments */
    const char
        *if_match; /* a mutation of a workload only when this is its ETag, else `conflict`; NULL: whatever it is */
} cp_claims;

/* The ETag of a workload's JSON text, with its quotes. */
#define CP_ETAG_SIZE 20
void cp_plane_etag(const char *workload_json, char ret[CP_ETAG_SIZE]);

/* Called once, in a later turn, after the commit. result is lent (NULL when err). */
typedef void cp_reply(void *userdata, const json_t *result, const cp_error *err);
typedef struct cp_call cp_call; /* one call under way */

enum {
    CP_OPERATION_MUTATES = 1 << 0,
    CP_OPERATION_ID = 1 << 1,     /* takes an id (or slug where a workload is meant) */
    CP_OPERATION_STREAM = 1 << 2, /* answered by cp_plane_stream, not cp_plane_call */
};

typedef struct cp_operation {
    const char *name;   /* "workloads.scale": namespace and method in Lua; cp_workload_scale in C */
    const char *method; /* "POST" */
    const char *path;   /* "/workloads/{id}/scale", under /v1 */
    unsigned flags;
    const cp_desc *args; /* the options table = request body or query */
    const char *id_of;   /* what {id} means: "workload" (id or slug), "deployment", "release", "instance" */
    const char *returns; /* "workload", "list of instance" ...: for docs and stubs */
    const char *doc;     /* one line */
    int (*run)(cp_plane *plane, cp_call *call, cp_error *err); /* internal: see plane/internal.h */
} cp_operation;
const cp_operation *cp_operations(size_t *count);
const cp_operation *cp_operation_find(const char *name); /* NULL when unknown */

/* Starts a call. args: an object (NULL = empty), parsed by op->args: unknown keys are `invalid` with the nearest.
 * Every failure comes through reply as well, so that one path handles it; the function itself never fails.
 * *ret (may be NULL) cancels: after cp_call_cancel reply is not called (the work goes on). */
void cp_plane_call(cp_plane *plane, const cp_operation *op, const char *id, const json_t *args, const cp_claims *claims,
                   cp_reply *reply, void *userdata, cp_call **ret);
void cp_call_cancel(cp_call *call);

/* Streams: workloads.stream_logs, events.stream. event is lent; NULL is the end (err says why, NULL = a plain end).
 * A consumer that is not ready calls cp_stream_pause: nothing is delivered until cp_stream_resume. */
typedef struct cp_stream cp_stream;
typedef void cp_stream_sink(void *userdata, const json_t *event, const cp_error *err);
int cp_plane_stream(cp_plane *plane, const cp_operation *op, const char *id, const json_t *args,
                    const cp_claims *claims, cp_stream_sink *sink, void *userdata, cp_stream **ret, cp_error *err);
void cp_stream_pause(cp_stream *stream);
void cp_stream_resume(cp_stream *stream);
void cp_stream_free(cp_stream *stream); /* NULL is fine */
