/* engine/net/http.h -- Async HTTP client: libcurl multi on the loop. Addresses, localhost and unix sockets only:
 * libcurl would resolve names in a thread of its own.
 * Knows sockets and the loop; must not know who is asked or why. */
#pragma once
#include "base/loop.h"

typedef struct cp_http cp_http; /* a client with its connection pool */
typedef struct cp_http_request cp_http_request;

typedef struct cp_http_options {
    const char *method;      /* "GET" */
    const char *url;         /* http://host:port/path */
    const char *unix_socket; /* NULL: TCP */
    const char *body;        /* NULL: none */
    size_t body_len;
    const char *const *headers; /* NULL-terminated "Name: value" */
    int64_t timeout;            /* ms for the whole exchange; 0: none (streams) */
    size_t max_body;            /* bytes; over it: too_large */
    bool no_reuse;              /* a connection of its own, closed afterwards: health probes */
    /* streams: called with each piece of the body instead of collecting it; may be NULL */
    void (*chunk)(void *userdata, const char *bytes, size_t len);
} cp_http_options;
typedef struct cp_http_response {
    long status;
    const char *body; /* NUL-terminated */
    size_t len;
    const char *content_type; /* "" when absent */
} cp_http_response;
/* err: provider_unavailable (nobody answers), timeout, too_large. */
typedef void cp_http_done(void *userdata, const cp_http_response *response, const cp_error *err);

int cp_http_new(cp_loop *loop, cp_http **ret, cp_error *err);
void cp_http_free(cp_http *http); /* cancels everything */
cp_loop *cp_http_loop(const cp_http *http);
int cp_http_send(cp_http *http, const cp_http_options *options, cp_http_done *done, void *userdata,
                 cp_http_request **ret, cp_error *err);
void cp_http_cancel(cp_http_request *request); /* done is not called; not after it was; NULL is fine */
/* Streams: nothing more is read until resumed, so that a slow reader holds up the sender, not our memory. A piece that
 * is on its way may still be handed on. */
void cp_http_pause(cp_http_request *request);
void cp_http_resume(cp_http_request *request);
