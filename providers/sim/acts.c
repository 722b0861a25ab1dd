/* providers/sim/acts.c -- What a spec or a scenario does to the simulated world from outside, and what it may know of
 * it. Must not know the plane. */
#include "providers/sim/internal.h"

#include <stdlib.h>
#include <string.h>

static sim_instance *find(sim *s, const char *instance_id, cp_error *err) {
    sim_instance *instance = cp_table_get(s->instances, instance_id);
    if (!instance)
        cp_fail(err, CP_E_NOT_FOUND, "the simulated world has no instance '%s'", instance_id);
    return instance;
}

int cp_sim_kill(cp_provider *provider, const char *instance_id, cp_error *err) {
    sim_instance *instance = find((sim *)provider, instance_id, err);
    if (!instance)
        return CP_E_NOT_FOUND;
    if (instance->phase != SIM_RUNNING)
        return cp_fail(err, CP_E_INVALID_STATE, "instance %s is %s; only one that runs can be killed", instance_id,
                       sim_phase_name(instance));
    sim_instance_crash(instance, "killed by signal 9");
    return 0;
}

void cp_sim_reboot(cp_provider *provider) {
    size_t count;
    cp_autofree sim_instance **sorted = sim_sorted((sim *)provider, &count);
    for (size_t i = 0; i < count; i++)
        if (sorted[i]->phase <= SIM_BACKOFF)
            sim_instance_stop(sorted[i], SIM_LOST);
}

void cp_sim_outage_set(cp_provider *provider, bool on) {
    sim *s = (sim *)provider;
    bool ended = s->outage && !on;
    s->outage = on;
    if (ended && s->hint && !sim_is_down(s))
        s->hint(s->hint_userdata, NULL);
}

static void calm(cp_sim_behaviour *behaviour) {
    behaviour->crash_rate = behaviour->never_ready_rate = behaviour->start_failure_rate = 0;
}

void cp_sim_calm(cp_provider *provider) {
    sim *s = (sim *)provider;
    s->scenario.error_rate = 0;
    calm(&s->scenario.old_release);
    calm(&s->scenario.new_release);
    size_t cursor = 0, count;
    void *release;
    while (cp_table_next(s->releases, &cursor, NULL, &release)) {
        calm(&((sim_release *)release)->behaviour);
        ((sim_release *)release)->fail_provision = false;
    }
    cp_autofree sim_instance **sorted = sim_sorted(s, &count);
    for (size_t i = 0; i < count; i++)
        sim_instance_calm(sorted[i]);
}

int cp_sim_write(cp_provider *provider, const char *instance_id, const char *service, bool stderr_stream,
                 const char *text, cp_error *err) {
    sim_instance *instance = find((sim *)provider, instance_id, err);
    if (!instance)
        return CP_E_NOT_FOUND;
    size_t index;
    int r = sim_service_index(instance, service, &index, err);
    if (r < 0)
        return r;
    sim_log(instance, index, stderr_stream, text);
    return 0;
}

static void set_int(json_t *object, const char *key, int64_t value) {
    json_object_set_new(object, key, json_integer(value));
}

json_t *cp_sim_counts(cp_provider *provider) {
    sim *s = (sim *)provider;
    json_t *counts = json_object(), *workloads = json_object();
    for (int kind = CP_OP_PROVISION; kind <= CP_OP_DEPROVISION; kind++)
        set_int(counts, sim_operation_name(kind), s->received[kind]);
    set_int(counts, "repeated", s->repeated);
    set_int(counts, "refused", s->refused);
    set_int(counts, "failed", s->failed);
    set_int(counts, "live", s->live);
    set_int(counts, "peak_live", s->peak_live);
    set_int(counts, "twins", s->twins);
    size_t cursor = 0;
    void *value;
    while (cp_table_next(s->workloads, &cursor, NULL, &value)) {
        const sim_workload *workload = value;
        json_t *one = json_object();
        set_int(one, "live", workload->live);
        set_int(one, "peak_live", workload->peak_live);
        set_int(one, "ready", workload->ready);
        json_object_set_new(workloads, workload->slug, one);
    }
    json_object_set_new(counts, "workloads", workloads);
    return counts;
}

static int by_slot(const void *a, const void *b) {
    const sim_instance *x = *(sim_instance *const *)a, *y = *(sim_instance *const *)b;
    int order = strcmp(x->release->workload->slug, y->release->workload->slug);
    if (order == 0)
        order = (x->release->order > y->release->order) - (x->release->order < y->release->order);
    if (order == 0)
        order = (x->index > y->index) - (x->index < y->index);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

json_t *cp_sim_instances(cp_provider *provider) {
    size_t count;
    cp_autofree sim_instance **sorted = sim_sorted((sim *)provider, &count);
    qsort(sorted, count, sizeof *sorted, by_slot);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const sim_instance *instance = sorted[i];
        json_t *one = json_object();
        json_object_set_new(one, "id", json_string(instance->id));
        json_object_set_new(one, "workload", json_string(instance->release->workload->slug));
        set_int(one, "release", instance->release->order);
        set_int(one, "index", instance->index);
        set_int(one, "generation", instance->generation);
        json_object_set_new(one, "state", json_string(sim_phase_name(instance)));
        json_object_set_new(one, "ready", json_boolean(instance->ready));
        set_int(one, "restarts", instance->restarts);
        json_array_append_new(list, one);
    }
    return list;
}

json_t *cp_sim_trace(cp_provider *provider) {
    sim *s = (sim *)provider;
    json_t *list = json_array();
    for (size_t i = 0; i < s->trace.count; i++)
        json_array_append_new(list, json_string(s->trace.items[i]));
    return list;
}
