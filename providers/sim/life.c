/* providers/sim/life.c -- One simulated instance: it starts, gets ready, crashes, backs off, stops. All its services
 * come and go together with the main one. Must not know operations or who watches. */
#include "providers/sim/internal.h"

#include <stdlib.h>

#define STEADY 10000 /* ms: a service that ran so long starts its back-off anew */

static void step(void *userdata);

sim_instance *sim_instance_new(sim *s, sim_release *release, const char *id, int64_t index, int64_t generation) {
    sim_instance *instance = cp_new0(sim_instance);
    *instance = (sim_instance){
        .sim = s,
        .id = cp_strdup(id),
        .release = release,
        .index = index,
        .generation = generation,
        .number = ++s->numbers,
        .phase = SIM_STOPPED,
    };
    instance->timer = cp_timer_new(s->provider.loop, step, instance);
    sim_workload *workload = release->workload;
    if (++s->live > s->peak_live)
        s->peak_live = s->live;
    if (++workload->live > workload->peak_live)
        workload->peak_live = workload->live;
    return instance;
}

static void set_ready(sim_instance *instance, bool ready) {
    instance->release->workload->ready += ready - instance->ready;
    instance->ready = ready;
}

void sim_instance_free(sim_instance *instance) {
    set_ready(instance, false);
    instance->sim->live--;
    instance->release->workload->live--;
    cp_timer_free(instance->timer);
    sim_lines_free(instance);
    free(instance->id);
    free(instance);
}

/* The luck of this start; a restart in place is another one. */
static int64_t luck_round(const sim_instance *instance) {
    return (int64_t)sim_operations(instance->release, instance->index) + (instance->restarts << 32);
}

static bool unlucky(const sim_instance *instance, sim_luck what, double rate) {
    return rate > 0 && sim_draw(instance->sim, instance->release, instance->index, luck_round(instance), what) < rate;
}

static int64_t delay(const sim_instance *instance, sim_luck what, int64_t ms) {
    return sim_delay(instance->sim, instance->release, instance->index, luck_round(instance), what, ms);
}

void sim_instance_start(sim_instance *instance) {
    const cp_sim_behaviour *b = &instance->release->behaviour;
    set_ready(instance, false);
    instance->phase = SIM_STARTING;
    instance->will_fail = unlucky(instance, SIM_LUCK_START, b->start_failure_rate);
    cp_timer_start(instance->timer, delay(instance, SIM_LUCK_START_DELAY, b->start_delay));
    sim_changed(instance, "starting");
}

void sim_instance_stop(sim_instance *instance, sim_phase phase) {
    set_ready(instance, false);
    instance->phase = phase;
    instance->started_at = 0;
    instance->backoffs = 0;
    cp_timer_stop(instance->timer);
    sim_changed(instance, sim_phase_name(instance));
}

/* Arms the timer for what comes next to a running instance. */
static void arm(sim_instance *instance) {
    int64_t next = instance->ready ? -1 : instance->ready_at;
    if (instance->crash_at >= 0 && (next < 0 || instance->crash_at < next))
        next = instance->crash_at;
    if (next >= 0)
        cp_timer_start(instance->timer, next - cp_loop_mono(instance->sim->provider.loop));
}

static void run(sim_instance *instance) {
    const cp_sim_behaviour *b = &instance->release->behaviour;
    cp_loop *loop = instance->sim->provider.loop;
    instance->phase = SIM_RUNNING;
    instance->started_at = cp_loop_wall(loop);
    instance->running_at = cp_loop_mono(loop);
    instance->ready_at = unlucky(instance, SIM_LUCK_READY, b->never_ready_rate)
                             ? -1
                             : instance->running_at + delay(instance, SIM_LUCK_READY_DELAY, b->ready_delay);
    instance->crash_at = unlucky(instance, SIM_LUCK_CRASH, b->crash_rate)
                             ? instance->running_at + delay(instance, SIM_LUCK_CRASH_AFTER, b->crash_after)
                             : -1;
    sim_log(instance, instance->release->main, false, "started");
    if (instance->ready_at == instance->running_at)
        set_ready(instance, true);
    sim_changed(instance, instance->ready ? "ready" : "running");
    arm(instance);
}

void sim_instance_calm(sim_instance *instance) {
    instance->will_fail = false;
    if (instance->phase != SIM_RUNNING)
        return;
    instance->crash_at = -1;
    if (!instance->ready && instance->ready_at < 0)
        instance->ready_at = cp_loop_mono(instance->sim->provider.loop);
    cp_timer_stop(instance->timer);
    arm(instance);
}

static const cp_service *main_service(const sim_instance *instance) {
    return CP_LIST_AT(&instance->release->services.items, const cp_service, instance->release->main);
}

void sim_instance_crash(sim_instance *instance, const char *why) {
    int64_t now = cp_loop_mono(instance->sim->provider.loop);
    sim_log(instance, instance->release->main, true, why);
    if (main_service(instance)->restart == CP_RESTART_NEVER) {
        sim_instance_stop(instance, SIM_FAILED);
        return;
    }
    if (now - instance->running_at >= STEADY)
        instance->backoffs = 0;
    int64_t wait = CP_BACKOFF_FIRST;
    for (int64_t i = 0; i < instance->backoffs && wait < CP_BACKOFF_LAST; i++)
        wait *= 2;
    instance->backoffs++;
    instance->restarts++;
    set_ready(instance, false);
    instance->phase = SIM_BACKOFF;
    cp_timer_start(instance->timer, wait < CP_BACKOFF_LAST ? wait : CP_BACKOFF_LAST);
    sim_changed(instance, "crashed");
}

/* The timer: the next thing in the life of the instance is due. */
static void step(void *userdata) {
    sim_instance *instance = userdata;
    if (instance->phase == SIM_STARTING && instance->will_fail) {
        sim_log(instance, instance->release->main, true, "cannot start");
        sim_instance_stop(instance, SIM_FAILED);
    } else if (instance->phase == SIM_STARTING || instance->phase == SIM_BACKOFF) {
        run(instance);
    } else if (instance->phase == SIM_RUNNING) {
        int64_t now = cp_loop_mono(instance->sim->provider.loop);
        if (instance->crash_at >= 0 && instance->crash_at <= now) {
            sim_instance_crash(instance, "exit 1");
        } else if (!instance->ready && instance->ready_at >= 0 && instance->ready_at <= now) {
            set_ready(instance, true);
            sim_changed(instance, "ready");
            arm(instance);
        } else {
            arm(instance);
        }
    }
}

const char *sim_phase_name(const sim_instance *instance) {
    static const char *const names[] = {"starting", "running", "backoff", "stopped", "failed", "lost"};
    return names[instance->phase];
}

static const struct {
    int seen;
    const char *main, *init; /* states of the services */
    const char *message;
} SEEN[] = {
    [SIM_STARTING] = {CP_SEEN_STARTING, "waiting", "running", NULL},
    [SIM_RUNNING] = {CP_SEEN_RUNNING, "running", "exited", NULL},
    [SIM_BACKOFF] = {CP_SEEN_STARTING, "backoff", "exited", "exit 1; waits to be started again"},
    [SIM_STOPPED] = {CP_SEEN_STOPPED, "exited", "exited", NULL},
    [SIM_FAILED] = {CP_SEEN_FAILED, "failed", "exited", "gave up"},
    [SIM_LOST] = {CP_SEEN_LOST, "waiting", "waiting", "lost when the host went away"},
};

static void observe_service(const sim_instance *instance, size_t index, cp_observation *ret) {
    const cp_service *service = CP_LIST_AT(&instance->release->services.items, const cp_service, index);
    bool is_main = index == instance->release->main, init = service->role == CP_ROLE_INIT;
    cp_service_status *status = cp_list_add(&ret->services, &cp_service_status_desc);
    cp_set_string(&status->name, service->name);
    cp_set_string(&status->state, init ? SEEN[instance->phase].init : SEEN[instance->phase].main);
    status->ready = init ? instance->phase == SIM_RUNNING : instance->ready;
    status->restarts = is_main ? instance->restarts : 0;
    bool exited = instance->phase == SIM_BACKOFF || instance->phase == SIM_FAILED || instance->restarts > 0;
    status->exit_code = is_main && exited ? 1 : -1;
    if (is_main)
        cp_set_string(&status->message, SEEN[instance->phase].message);
    for (size_t i = 0; i < service->ports.count; i++) {
        const cp_port *port = CP_LIST_AT(&service->ports, const cp_port, i);
        cp_endpoint *endpoint = cp_list_add(&ret->endpoints, &cp_endpoint_desc);
        endpoint->service = cp_strdup(service->name);
        endpoint->name = cp_strdup(port->name);
        endpoint->protocol = cp_strdup(port->protocol);
        endpoint->port = port->container;
        int64_t n = instance->number;
        endpoint->host = cp_printf("10.%d.%d.%d", (int)(n >> 16 & 255), (int)(n >> 8 & 255), (int)(n & 255));
    }
}

void sim_instance_observe(const sim_instance *instance, cp_observation *ret) {
    cp_desc_init(&cp_observation_desc, ret);
    ret->instance_id = cp_strdup(instance->id);
    ret->seen = SEEN[instance->phase].seen;
    ret->generation = instance->generation;
    ret->release_id = cp_strdup(instance->release->id);
    ret->workload_id = cp_strdup(instance->release->workload_id);
    ret->plane_id = cp_strdup(instance->release->plane_id);
    ret->provider_ref = cp_printf("sim-%lld", (long long)instance->number);
    cp_set_string(&ret->message, SEEN[instance->phase].message);
    ret->started_at = instance->started_at;
    ret->restarts = instance->restarts;
    for (size_t i = 0; i < instance->release->services.items.count; i++)
        observe_service(instance, i, ret);
}
