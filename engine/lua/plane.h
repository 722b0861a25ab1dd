/* engine/lua/plane.h -- What the files behind `plane` share: the scheduler of a Lua state, its planes, tasks, waits and
 * streams. Nobody outside lua/ includes it.
 *   task.c    the scheduler, tasks, waits      plane.c   open, close, the plane and its clock
 *   call.c    operations as methods            stream.c  iterators          remote.c  the same over HTTP
 * The one rule: callbacks of the engine touch no Lua; they finish a wait and queue it. Tasks are resumed by the
 * scheduler between the turns of the loops, so a task may open, close and call whatever it likes. */
#pragma once
#include "base/table.h"
#include "compose.h"
#include "lua/lua.h"
#include "net/http.h"

typedef struct cp_lua_sched cp_lua_sched;
typedef struct cp_lua_plane cp_lua_plane;
typedef struct cp_lua_task cp_lua_task;
typedef struct cp_lua_wait cp_lua_wait;
typedef struct cp_lua_stream cp_lua_stream;

/* One per Lua state. Owned by a userdata in the registry, made first and so finalised last. */
struct cp_lua_sched {
    cp_vec planes;        /* cp_lua_plane *, open ones */
    cp_vec ready;         /* cp_lua_wait *: done; their tasks are to be resumed, in this order */
    cp_vec tasks;         /* cp_lua_task *, not ended; each anchored in the registry */
    cp_vec failed;        /* cp_lua_task * that ended with an error nobody has looked at; anchored */
    cp_lua_task *current; /* the task that runs now */
    bool turning;         /* a loop is being turned: this is a callback of the engine */
    bool passing;         /* coroutine.resume and wrap pass suspensions through */
};

struct cp_lua_plane {
    cp_lua_sched *sched;
    cp_loop *loop;    /* of the engine, or the remote's own */
    cp_engine engine; /* a plane of this process; engine.plane NULL: a remote */
    cp_http *http;    /* a remote */
    char *url, *socket;
    cp_vec waits;   /* cp_lua_wait *, pending */
    cp_vec streams; /* cp_lua_stream *, open */
    bool open;
};

typedef enum {
    CP_TASK_READY,
    CP_TASK_WAITING,
    CP_TASK_RUNNING,
    CP_TASK_DONE,
    CP_TASK_FAILED,
    CP_TASK_CANCELLED
} cp_task_state;

/* A userdata whose environment holds the thread. An ended one has its results on the coroutine, or error, traceback. */
struct cp_lua_task {
    cp_lua_sched *sched;
    cp_lua_plane *scope; /* the plane it was spawned on; NULL: none, or closed */
    lua_State *co;
    cp_task_state state;
    uint64_t generation; /* raised with each wait: the completion of an earlier one is refused */
    cp_lua_wait *wait;
    cp_vec joiners; /* cp_lua_wait *: those who wait for its end */
    bool seen;      /* somebody looked at how it ended */
    bool ending;    /* its plane was closed: an error is no news */
};

/* One suspended call. Heap: it outlives raises; freed when delivered, refused, or cancelled with its plane. */
struct cp_lua_wait {
    cp_lua_sched *sched;
    cp_lua_plane *plane; /* whose list it is in; NULL: none */
    cp_lua_task *task;   /* NULL: plain code turns the loops */
    uint64_t generation;
    bool done, failed;
    json_t *result; /* NULL: true */
    cp_error err;
    cp_timer *timer; /* of `timeout` */
    int64_t timeout;
    char *what;                                   /* "workloads:scale": for messages */
    void *work;                                   /* what cancel ends: a cp_call, a request, a stream, a task */
    void (*cancel)(cp_lua_wait *wait);            /* ends the work behind it: no finish after this */
    int (*push)(lua_State *L, cp_lua_wait *wait); /* NULL: the result, or nil and the error */
};

/* task.c. Functions that raise do so at the line of the caller. */
cp_lua_sched *cp_lua_sched_of(lua_State *L);
/* Raises where this code cannot wait: in a callback, in a coroutine of a task's own, below a C function. */
void cp_lua_check_wait(lua_State *L, const char *what);
cp_lua_wait *cp_lua_wait_new(lua_State *L, cp_lua_plane *plane, const char *what);
void cp_lua_wait_timeout(cp_lua_wait *wait, int64_t ms); /* ms < 0: none. Fires `timeout` */
/* From callbacks: takes result, copies err. The first finish counts. */
void cp_lua_wait_finish(cp_lua_wait *wait, json_t *result, const cp_error *err);
int cp_lua_wait_for(lua_State *L, cp_lua_wait *wait);            /* return what it returns */
void cp_lua_wait_free(cp_lua_wait *wait);                        /* cancels first when pending */
void cp_lua_task_resume(lua_State *L, cp_lua_task *task, int n); /* pops n values and hands them over */
int cp_lua_stuck(lua_State *L, const char *what);                /* raises what run_until found */
/* After another coroutine of this Lua state ran: LuaJIT remembers it as the one that runs until the next call or
 * return. A raise is neither, and would leave through the wrong one. */
void cp_lua_back(lua_State *L);
bool cp_lua_is_open(const cp_lua_sched *sched, const cp_lua_plane *plane);
/* The function and its n arguments are popped; pushes the task. */
cp_lua_task *cp_lua_task_spawn(lua_State *L, cp_lua_plane *scope, int n);
int cp_lua_task_run(lua_State *L, cp_lua_plane *scope, int n); /* to its end: pushes its results, or raises its error */
void cp_lua_tasks_run(lua_State *L, cp_lua_plane *plane); /* all of a plane; raises the first error nobody looked at */
/* Of a plane that is being closed: what they wait for answers `cancelled`; the ones not started never run. */
void cp_lua_tasks_end(lua_State *L, cp_lua_plane *plane);
/* Turns until done. focus (may be NULL): whose virtual time may jump first. False when nothing is left that could make
 * it true. */
bool cp_lua_run_until(lua_State *L, cp_lua_plane *focus, bool (*done)(void *userdata), void *userdata);
int cp_lua_run_ready(lua_State *L, cp_lua_sched *sched);             /* resumes the tasks whose wait is over */
int cp_lua_turn(lua_State *L, cp_lua_plane *plane, int64_t timeout); /* one turn; the number of things done */
void cp_lua_advance(lua_State *L, cp_lua_plane *plane, int64_t ms);
int cp_lua_run_task(lua_State *L);   /* run_task(fn, ...) -> what it returned | nil, err: a script, on no plane */
void cp_lua_open_task(lua_State *L); /* the metatable of tasks */
int cp_lua_suspension(lua_State *L); /* pushes what a suspension yields: for coroutine libraries that pass it through */
int cp_lua_pass_suspensions(
    lua_State *L); /* from now on coroutines of a task may wait: their library passes it through */

/* plane.c */
#define CP_LUA_PLANE "ctrlplane.Plane"
#define CP_LUA_NAMESPACE "ctrlplane.Namespace"
#define CP_LUA_TASK "ctrlplane.Task"
#define CP_LUA_STREAM "ctrlplane.Stream"
cp_lua_plane *cp_lua_check_plane(lua_State *L, int index); /* raises when it is no plane, or closed */
cp_lua_plane *cp_lua_plane_new(lua_State *L);              /* pushes a userdata that is not open yet */
void cp_lua_plane_opened(
    cp_lua_plane *plane); /* loop, and engine or http, are set: the scheduler turns it from here on */
void cp_lua_plane_close(lua_State *L, cp_lua_plane *plane);
/* A duration option of the table at index. ret is left as it was when it is absent; raises for a wrong type. */
int cp_lua_duration_option(lua_State *L, int index, const char *key, int64_t *ret, cp_error *err);
int cp_lua_duration_at(lua_State *L, int index, const char *what, int64_t *ret, cp_error *err);
void cp_lua_open_planes(lua_State *L); /* the metatables */

/* The plane of the namespace at 1; raises when it is none, or its plane is closed. what: "workloads:scale". */
cp_lua_plane *cp_lua_check_namespace(lua_State *L, const char *what);
/* Reads the options of `open` at 1; what is lent lives as long as that table and the stack. */
int cp_lua_read_compose(lua_State *L, cp_compose *ret, json_t **scenario, cp_error *err);

/* call.c: pushes the methods of a namespace as a table; false when there is no such namespace. */
bool cp_lua_push_namespace(lua_State *L, const char *name);
int cp_lua_list_namespaces(const char **names, int max); /* distinct; lent */

/* stream.c */
struct cp_lua_stream {
    cp_lua_plane *plane;
    cp_stream *source;        /* here */
    cp_http_request *request; /* there */
    cp_buf text;              /* there: bytes of the event stream that are not an event yet */
    cp_vec queue;             /* json_t * */
    size_t bytes;             /* about, in the queue */
    cp_lua_wait *waiting;
    cp_timer *deadline;
    cp_error err;
    bool failed, ended, paused;
    char *what;
};
cp_lua_stream *cp_lua_stream_new(lua_State *L, int plane_index, cp_lua_plane *plane, const char *what); /* pushes it */
void cp_lua_stream_deadline(cp_lua_stream *stream, int64_t ms);
void cp_lua_stream_event(void *stream, const json_t *event, const cp_error *err); /* a cp_stream_sink */
void cp_lua_stream_close(cp_lua_stream *stream, const cp_error *err);             /* err NULL: a plain end */
void cp_lua_open_stream(lua_State *L);

/* remote.c: the request of an operation; answers come by cp_lua_wait_finish. */
int cp_lua_remote_call(cp_lua_plane *plane, const cp_operation *op, const char *id, const json_t *args,
                       cp_lua_wait *wait, cp_error *err);
int cp_lua_remote_stream(cp_lua_stream *stream, const cp_operation *op, const char *id, const json_t *args,
                         cp_error *err);
int cp_lua_ping(lua_State *L);        /* plane:ping() */
int cp_lua_stats(lua_State *L);       /* plane:stats() */
int cp_lua_stop_server(lua_State *L); /* plane:stop_server() */
int cp_lua_connect(lua_State *L);     /* connect { socket = | url = } -> plane */
