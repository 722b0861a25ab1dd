/* engine/api/internal.h -- What the files of the HTTP server share.
 *   server.c   socket, lifetime, one exchange: from request to call to reply
 *   route.c    paths to operations; query parameters and bodies to arguments       sse.c  streams */
#pragma once
#include "api/server.h"
#include "base/table.h"
#include <event2/http.h>

typedef struct exchange exchange;

typedef struct route {
    const cp_operation *op;
    char *segments[4]; /* of the path under /v1; "{id}" stands for any */
    size_t count;
} route;

/* The text of a value that was answered before. The reference keeps the value, and so its address, for itself. */
typedef struct answer_text {
    json_t *value;
    cp_buf text;
    char etag[CP_ETAG_SIZE];
} answer_text;
#define ANSWER_TEXTS 64

struct cp_server {
    cp_plane *plane;
    cp_loop *loop;
    struct evhttp *http;
    struct evconnlistener *listener; /* of http */
    cp_timer *reopen;                /* accepts again after descriptors ran out */
    char *path;
    unsigned long long device, inode; /* of the socket, so that only ours is removed */
    route *routes;
    size_t route_count;
    answer_text texts[ANSWER_TEXTS]; /* of workloads, by their address: most are asked for again before they change */
    cp_vec exchanges;
    cp_task *stop;
    void *stop_userdata;
    char boot[9]; /* of request ids */
    unsigned long requests;
    unsigned user; /* of the last peer, with its name */
    char *user_name;
};

/* One request on its way. */
struct exchange {
    cp_server *server;
    struct evhttp_request *request;
    const cp_operation *op;
    cp_call *call;
    /* streams */
    cp_stream *stream;
    cp_timer *heartbeat;
    bool plain, paused;
};

/* route.c */
void cp_routes_new(cp_server *server);
void cp_routes_free(cp_server *server);
/* Finds the operation of a request and the id in its path (the caller frees; NULL when there is none). A path that
 * nothing answers is `not_found`; one with other methods `unsupported`, with *allow set (the caller frees). */
int cp_route_find(const cp_server *server, const char *method, const char *path, bool stream, const cp_operation **ret,
                  char **ret_id, char **allow, cp_error *err);
/* Query and body as one object; *ret is a new reference, NULL when a call was given nothing. */
int cp_route_args(const cp_operation *op, struct evhttp_request *request, json_t **ret, cp_error *err);

/* server.c */
void cp_exchange_free(exchange *x); /* the request is answered, or not ours any more */
void cp_exchange_fail(exchange *x, const cp_error *err);
struct evkeyvalq *cp_exchange_headers(const exchange *x);            /* of the answer */
const char *cp_exchange_header(const exchange *x, const char *name); /* of the request; NULL when absent */

/* sse.c */
void cp_sse_start(exchange *x, const char *id, json_t *args, const cp_claims *claims); /* takes the exchange */
void cp_sse_close(exchange *x);
