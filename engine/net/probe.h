/* engine/net/probe.h -- One health probe: ask a target once and say how it went.
 * Knows sockets and the loop; must not know instances, retries or schedules. */
#pragma once
#include "net/http.h"

typedef struct cp_probe cp_probe;
typedef struct cp_probe_result {
    bool healthy;
    int64_t latency_us;
    long status_code;    /* http only, else 0 */
    const char *message; /* why it is not healthy: "HTTP 503", "connection refused", "no answer in 5 s" */
} cp_probe_result;
typedef void cp_probe_done(void *userdata, const cp_probe_result *result); /* result: lent for the call */

/* Starts a probe.
 *   http     lent; its loop is used
 *   target   "http://host:port/path" (healthy: 200..399) or "tcp://host:port"; copied. host is an address
 *   timeout  milliseconds, 1..CP_MAX_PROBE_TIMEOUT
 *   done     called once, in a later turn of the loop; never after cp_probe_free
 *   ret      set on success only; the caller owns it, and freeing it cancels the probe
 * Fails with `invalid` (target, timeout). */
int cp_probe_start(cp_http *http, const char *target, int64_t timeout, cp_probe_done *done, void *userdata,
                   cp_probe **ret, cp_error *err);
void cp_probe_free(cp_probe *probe); /* NULL is fine */
CP_DEFINE_CLEANUP(cp_probe, cp_probe_free)
#define cp_autoprobe CP_CLEANUP(cp_probe_freep)
