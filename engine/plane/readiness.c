/* engine/plane/readiness.c -- Is an instance ready? Providers that can probe answer themselves (CP_CAN_PROBE); for the
 * others each service's health check is run here. A service without one is ready when it has run for a second: one that
 * dies as soon as it starts would else count as available, between two restarts, and a rollout of it succeed.
 * Until a check passes for the first time it is tried often; then every interval, and `retries` failures in a row make
 * it not ready. Time in which the loop stalled is not held against anybody. Must not know rollouts. */
#include "plane/internal.h"

#include "net/probe.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST = 50,    /* ms after a service was seen running */
    EAGER = 1000,  /* between tries until the first success, at most */
    SETTLE = 1000, /* how long a service without a check has to run */
};

typedef struct check {
    cp_plane *plane;
    cp_inst *inst;
    char *service; /* its name */
    cp_timer *timer;
    cp_probe *probe;
    cp_provider_op *exec;
    bool healthy, passed; /* passed: once since it runs */
    int64_t failures, restarts;
    int64_t begun_mono, begun_watched, since; /* since: watched time when it was first seen running */
    char *message;
} check;

typedef struct checks {
    check *items;
    size_t count;
} checks;

static const cp_service *service_of(const check *c) {
    return cp_services_find(&c->inst->release->row.services, c->service);
}

static cp_service_status *status_of(cp_inst *inst, const char *service) {
    for (size_t i = 0; i < inst->row.service_status.count; i++) {
        cp_service_status *status = CP_LIST_AT(&inst->row.service_status, cp_service_status, i);
        if (cp_streq(status->name, service))
            return status;
    }
    return NULL;
}

void cp_readiness_set(cp_plane *plane, cp_inst *inst, bool ready) {
    if (inst->row.ready == ready)
        return;
    int64_t now = cp_plane_time(plane);
    inst->row.ready = ready;
    inst->row.ready_at = !ready ? 0 : now > 0 ? now : 1;
    cp_plane_save_instance(plane, inst);
    cp_plane_dirty(plane, inst->wl);
}

/* Ends what is under way of a check. */
static void quiet(check *c) {
    cp_probe_free(c->probe);
    c->probe = NULL;
    if (c->exec) {
        cp_provider *provider = cp_plane_provider(c->plane, c->inst->row.provider_name);
        provider->class->cancel(provider, c->exec);
    }
    c->exec = NULL;
    cp_timer_stop(c->timer);
}

void cp_readiness_free(cp_inst *inst) {
    checks *all = inst->probes;
    if (!all)
        return;
    for (size_t i = 0; i < all->count; i++) {
        quiet(&all->items[i]);
        cp_timer_free(all->items[i].timer);
        free(all->items[i].service);
        free(all->items[i].message);
    }
    free(all->items);
    free(all);
    inst->probes = NULL;
}

static void sum_up(cp_plane *plane, cp_inst *inst);

static void schedule(check *c, bool first) {
    const cp_health_check *spec = service_of(c)->health_check;
    if (!spec) {
        cp_timer_start(c->timer, SETTLE);
        return;
    }
    int64_t wait = first ? FIRST : spec->interval;
    if (!first && !c->passed && wait > EAGER)
        wait = EAGER;
    int64_t spread = wait / 5 + 1; /* +-10 % */
    cp_timer_start(c->timer, wait - spread / 2 + (int64_t)(cp_loop_random(c->plane->loop) % (uint64_t)spread));
}

static void tell(check *c, const char *type) {
    json_t *payload = json_pack("{s:s}", "service", c->service);
    if (c->message)
        json_object_set_new(payload, "message", json_string(c->message));
    cp_plane_event(c->plane, type, NULL, c->inst->wl, c->inst, NULL, payload);
}

static void result(check *c, bool healthy, const char *message) {
    cp_plane *plane = c->plane;
    if (cp_plane_stopped(plane))
        return;
    const cp_health_check *spec = service_of(c)->health_check;
    int64_t passed_mono = cp_loop_mono(plane->loop) - c->begun_mono;
    int64_t watched = cp_loop_watched(plane->loop);
    bool stalled = passed_mono - (watched - c->begun_watched) > 0;
    schedule(c, false);
    if (healthy) {
        bool was = c->healthy;
        const char *type = c->passed ? "health.recovered" : "health.passed";
        c->failures = 0;
        c->healthy = c->passed = true;
        cp_set_string(&c->message, NULL);
        if (!was)
            tell(c, type);
    } else {
        if (stalled || (!c->passed && watched - c->since < spec->start_period))
            return;
        cp_set_string(&c->message, message);
        if (++c->failures >= (spec->retries > 0 ? spec->retries : 1) && c->healthy) {
            c->healthy = false;
            tell(c, "health.failed");
        }
    }
    sum_up(plane, c->inst);
}

static void probed(void *userdata, const cp_probe_result *of) {
    check *c = userdata;
    cp_autofree char *message = cp_strdup(of->message);
    bool healthy = of->healthy;
    cp_probe_free(c->probe);
    c->probe = NULL;
    result(c, healthy, message);
}

static void ran(void *userdata, const cp_exec_result *of, const cp_error *err) {
    check *c = userdata;
    c->exec = NULL;
    cp_autofree char *message =
        err ? cp_strdup(err->message) : cp_printf("the command ended with %" PRId64, of->exit_code);
    result(c, !err && of->exit_code == 0, message);
}

/* The port that a check asks: by name, by the number that the service gave it, or the first. */
static const cp_endpoint *endpoint_of(const check *c, const char *wanted) {
    const cp_service *service = service_of(c);
    const char *name = NULL;
    for (size_t i = 0; i < service->ports.count && !name; i++) {
        const cp_port *port = CP_LIST_AT(&service->ports, cp_port, i);
        char number[24];
        snprintf(number, sizeof number, "%" PRId64, port->container);
        if (cp_is_empty(wanted) || cp_streq(wanted, port->name) || cp_streq(wanted, number))
            name = port->name;
    }
    for (size_t i = 0; name && i < c->inst->row.endpoints.count; i++) {
        const cp_endpoint *endpoint = CP_LIST_AT(&c->inst->row.endpoints, cp_endpoint, i);
        if (cp_streq(endpoint->service, c->service) && cp_streq(endpoint->name, name))
            return endpoint;
    }
    return NULL;
}

static int begin_request(check *c, const cp_health_check *spec, cp_error *err) {
    const cp_endpoint *endpoint = endpoint_of(c, spec->port);
    char *end = NULL;
    int64_t number = spec->port ? strtoll(spec->port, &end, 10) : 0;
    bool plain = !endpoint && number > 0 && end && !*end; /* a port that the service does not declare */
    if (!endpoint && !plain)
        return cp_fail(err, CP_E_INVALID, "there is no port %s to ask", spec->port ? spec->port : "at all");
    const char *host = endpoint && !cp_is_empty(endpoint->host) ? endpoint->host : "127.0.0.1";
    bool v6 = strchr(host, ':') != NULL;
    cp_autofree char *target = cp_printf("%s://%s%s%s:%" PRId64 "%s", spec->type == CP_CHECK_TCP ? "tcp" : "http",
                                         v6 ? "[" : "", host, v6 ? "]" : "", endpoint ? endpoint->port : number,
                                         spec->type == CP_CHECK_TCP ? ""
                                         : cp_is_empty(spec->path)  ? "/"
                                                                    : spec->path);
    if (!c->plane->http) {
        int r = cp_http_new(c->plane->loop, &c->plane->http, err);
        if (r < 0)
            return r;
    }
    return cp_probe_start(c->plane->http, target, spec->timeout, probed, c, &c->probe, err);
}

static void begin(void *userdata) {
    check *c = userdata;
    if (cp_plane_stopped(c->plane) || c->probe || c->exec)
        return;
    const cp_health_check *spec = service_of(c)->health_check;
    if (!spec) { /* it has run for long enough */
        c->healthy = c->passed = true;
        sum_up(c->plane, c->inst);
        return;
    }
    cp_provider *provider = cp_plane_provider(c->plane, c->inst->row.provider_name);
    c->begun_mono = cp_loop_mono(c->plane->loop);
    c->begun_watched = cp_loop_watched(c->plane->loop);
    cp_autoerror cp_error err = {0};
    int r = spec->type == CP_CHECK_COMMAND
                ? provider->class->exec(provider, c->inst->row.id, c->service, &spec->command, spec->timeout, ran, c,
                                        &c->exec, &err)
                : begin_request(c, spec, &err);
    if (r < 0)
        result(c, false, err.message);
}

static void make_checks(cp_plane *plane, cp_inst *inst) {
    const cp_list *services = &inst->release->row.services;
    checks *all = inst->probes = cp_new0(checks);
    all->items = cp_alloc0(services->count * sizeof *all->items);
    for (size_t i = 0; i < services->count; i++) {
        const cp_service *service = CP_LIST_AT(services, cp_service, i);
        if (service->role == CP_ROLE_INIT)
            continue;
        check *c = &all->items[all->count++];
        /* An engine that starts over running instances believes its predecessor until the checks say otherwise. */
        *c = (check){.plane = plane,
                     .inst = inst,
                     .service = cp_strdup(service->name),
                     .restarts = -1,
                     .healthy = inst->row.ready,
                     .passed = inst->row.ready};
        c->timer = cp_timer_new(plane->loop, begin, c);
    }
}

static check *check_of(const cp_inst *inst, const char *service) {
    const checks *all = inst->probes;
    for (size_t i = 0; all && i < all->count; i++)
        if (cp_streq(all->items[i].service, service))
            return &all->items[i];
    return NULL;
}

/* A check follows its service: it runs while that does, and begins anew when that was restarted. */
static void follow(check *c, const cp_service_status *status) {
    bool running = status && cp_streq(status->state, "running");
    bool again = running && c->restarts >= 0 && status->restarts != c->restarts;
    if (!running || again) {
        quiet(c);
        c->healthy = c->passed = false;
        c->failures = 0;
    }
    if (!running) {
        c->restarts = -1;
        return;
    }
    bool first = c->restarts < 0 || again;
    c->restarts = status->restarts;
    if (first) {
        c->since = cp_loop_watched(c->plane->loop);
        schedule(c, true);
    }
}

/* From its services to the instance. */
static void sum_up(cp_plane *plane, cp_inst *inst) {
    const cp_list *services = &inst->release->row.services;
    bool ready = true, changed = false;
    for (size_t i = 0; i < services->count; i++) {
        const cp_service *service = CP_LIST_AT(services, cp_service, i);
        if (service->role == CP_ROLE_INIT)
            continue;
        cp_service_status *status = status_of(inst, service->name);
        const check *c = check_of(inst, service->name);
        bool one = status && cp_streq(status->state, "running") && c && c->healthy;
        ready = ready && one;
        if (!status)
            continue;
        bool checked = c && service->health_check; /* without a check the provider's message stays */
        const char *message = checked && !one ? c->message : NULL;
        if (status->ready != one || (checked && !cp_streq(status->message, message))) {
            status->ready = one;
            if (checked)
                cp_set_string(&status->message, message);
            changed = true;
        }
    }
    if (changed && inst->row.ready == ready)
        cp_plane_save_instance(plane, inst);
    cp_readiness_set(plane, inst, ready);
}

static bool all_ready(const cp_inst *inst) {
    for (size_t i = 0; i < inst->row.service_status.count; i++) {
        const cp_service_status *status = CP_LIST_AT(&inst->row.service_status, cp_service_status, i);
        const cp_service *service = cp_services_find(&inst->release->row.services, status->name);
        if (service && service->role != CP_ROLE_INIT && !status->ready)
            return false;
    }
    return inst->row.service_status.count > 0;
}

void cp_readiness_update(cp_plane *plane, cp_inst *inst) {
    bool runs = inst->seen == CP_SEEN_RUNNING || inst->seen == CP_SEEN_STARTING;
    if (!runs || inst->row.desired != CP_DESIRED_RUNNING || inst->row.state == CP_INSTANCE_FAILED ||
        inst->seen_generation < inst->row.generation || !inst->release) {
        cp_readiness_free(inst);
        cp_readiness_set(plane, inst, false);
        return;
    }
    const cp_provider *provider = cp_plane_provider(plane, inst->row.provider_name);
    if (provider->class->capabilities & CP_CAN_PROBE) {
        cp_readiness_set(plane, inst, inst->seen == CP_SEEN_RUNNING && all_ready(inst));
        return;
    }
    if (!inst->probes)
        make_checks(plane, inst);
    const checks *all = inst->probes;
    for (size_t i = 0; i < all->count; i++)
        follow(&all->items[i], status_of(inst, all->items[i].service));
    sum_up(plane, inst);
}
