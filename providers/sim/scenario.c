/* providers/sim/scenario.c -- What a scenario and a release's environment say, and the luck that is drawn from them.
 * Pure but for the count of operations per slot; must not know the clock or what runs. */
#include "model/model.h"
#include "providers/sim/internal.h"

#include <stdlib.h>
#include <string.h>

static void behaviour_init(void *object) {
    *(cp_sim_behaviour *)object = (cp_sim_behaviour){.start_delay = 1000, .crash_after = 5000};
}

#define DELAY(name, text, fallback_text)                                                                               \
    {                                                                                                                  \
#name, CP_DURATION, offsetof(cp_sim_behaviour, name), .min = 0, .max = CP_MAX_DELAY, .doc = text,              \
                                                              .fallback = fallback_text                                \
    }
#define RATE(type, name, text)                                                                                         \
    { #name, CP_DOUBLE, offsetof(type, name), .min = 0, .max = 1, .doc = text, .fallback = "0" }
#define CP_MAX_DELAY 86400000

static const cp_field behaviour_fields[] = {
    DELAY(start_delay, "from made to running", "1s"),
    DELAY(ready_delay, "from running to ready", "0s"),
    DELAY(crash_after, "how long a start that crashes runs", "5s"),
    RATE(cp_sim_behaviour, crash_rate, "share of starts that crash"),
    RATE(cp_sim_behaviour, never_ready_rate, "share of instances that run and never get ready"),
    RATE(cp_sim_behaviour, start_failure_rate, "share of instances that give up while starting"),
};
const cp_desc cp_sim_behaviour_desc = {
    .name = "behaviour",
    .size = sizeof(cp_sim_behaviour),
    .fields = behaviour_fields,
    .count = CP_COUNT(behaviour_fields),
    .present = CP_NONE,
    .init = behaviour_init,
    .doc = "How the instances of a release behave in the simulated runtime.",
};

static const cp_field outage_fields[] = {
    {"from", CP_DURATION, offsetof(cp_sim_outage, from), .doc = "since the world's birth", .fallback = "0s"},
    {"for", CP_DURATION, offsetof(cp_sim_outage, length), CP_REQUIRED, .doc = "how long nobody answers"},
};
const cp_desc cp_sim_outage_desc = {
    .name = "outage",
    .size = sizeof(cp_sim_outage),
    .fields = outage_fields,
    .count = CP_COUNT(outage_fields),
    .present = CP_NONE,
    .doc = "A time in which the simulated runtime does not answer.",
};

static void scenario_init(void *object) {
    ((cp_sim_scenario *)object)->latency = 50;
}

static const cp_field scenario_fields[] = {
    {"latency", CP_DURATION, offsetof(cp_sim_scenario, latency), .min = 0, .max = CP_MAX_DELAY,
     .doc = "from an operation's call to its answer", .fallback = "50ms"},
    RATE(cp_sim_scenario, jitter, "every delay is drawn from delay * (1 +- jitter)"),
    RATE(cp_sim_scenario, error_rate, "share of operations that answer provider_failed"),
    {"trace", CP_BOOL, offsetof(cp_sim_scenario, trace), .doc = "keep a line per operation and change"},
    {"old", CP_OBJECT, offsetof(cp_sim_scenario, old_release), .desc = &cp_sim_behaviour_desc,
     .doc = "instances of a workload's first release"},
    {"new", CP_OBJECT, offsetof(cp_sim_scenario, new_release), .desc = &cp_sim_behaviour_desc,
     .doc = "instances of every later release"},
    {"outages", CP_LIST, offsetof(cp_sim_scenario, outages), .desc = &cp_sim_outage_desc,
     .doc = "times in which nobody answers"},
};
const cp_desc cp_sim_scenario_desc = {
    .name = "scenario",
    .size = sizeof(cp_sim_scenario),
    .fields = scenario_fields,
    .count = CP_COUNT(scenario_fields),
    .present = CP_NONE,
    .init = scenario_init,
    .doc = "Delays and faults of the simulated runtime.",
};

/* One descriptor to copy a list of services by. */
static const cp_field services_fields[] = {
    {"items", CP_LIST, offsetof(sim_services, items), .desc = &cp_service_desc},
};
static const cp_desc services_desc = {
    .name = "services",
    .size = sizeof(sim_services),
    .fields = services_fields,
    .count = CP_COUNT(services_fields),
    .present = CP_NONE,
};

static int marked_delay(const cp_map *env, const char *name, int64_t *slot, cp_error *err) {
    const char *text = cp_map_get(env, name);
    if (!text)
        return 0;
    int64_t ms;
    int r = cp_duration_parse(text, &ms, err);
    if (r < 0)
        return cp_error_wrap(err, "%s", name);
    *slot = ms;
    return 0;
}

static bool marked(const cp_map *env, const char *name) {
    const char *text = cp_map_get(env, name);
    return !cp_is_empty(text) && strcmp(text, "0") != 0;
}

static int read_markers(const cp_map *env, sim_release *release, cp_error *err) {
    cp_sim_behaviour *b = &release->behaviour;
    int r = marked_delay(env, "SIM_START_DELAY", &b->start_delay, err);
    if (r == 0)
        r = marked_delay(env, "SIM_READY_DELAY", &b->ready_delay, err);
    if (r == 0)
        r = marked_delay(env, "SIM_CRASH_AFTER", &b->crash_after, err);
    if (r < 0)
        return r;
    if (cp_map_get(env, "SIM_CRASH_AFTER"))
        b->crash_rate = 1;
    if (marked(env, "SIM_NEVER_READY"))
        b->never_ready_rate = 1;
    if (marked(env, "SIM_FAIL_START"))
        b->start_failure_rate = 1;
    release->fail_provision = marked(env, "SIM_FAIL_PROVISION");
    return 0;
}

static sim_workload *workload_of(sim *s, const cp_runtime_spec *spec) {
    sim_workload *workload = cp_table_get(s->workloads, spec->workload_id);
    if (!workload) {
        workload = cp_new0(sim_workload);
        workload->slug = cp_strdup(spec->workload_slug);
        cp_table_set(s->workloads, spec->workload_id, workload);
    }
    return workload;
}

int sim_release_of(sim *s, const cp_runtime_spec *spec, sim_release **ret, cp_error *err) {
    sim_release *release = cp_table_get(s->releases, spec->release_id);
    if (release) {
        *ret = release;
        return 0;
    }
    const cp_service *main = cp_services_main(spec->services);
    if (!main)
        return cp_fail(err, CP_E_PROVIDER_FAILED, "release %s has no main service", spec->release_id);

    sim_workload *workload = workload_of(s, spec);
    release = cp_new0(sim_release);
    release->behaviour = workload->releases == 0 ? s->scenario.old_release : s->scenario.new_release;
    int r = read_markers(&main->env, release, err);
    if (r < 0) {
        free(release);
        cp_error_wrap(err, "env of service %s", main->name);
        return err ? err->code = CP_E_PROVIDER_FAILED : CP_E_PROVIDER_FAILED;
    }
    release->id = cp_strdup(spec->release_id);
    release->workload_id = cp_strdup(spec->workload_id);
    release->plane_id = cp_strdup(spec->plane_id);
    release->workload = workload;
    release->order = ++workload->releases;
    release->main = (size_t)(main - (const cp_service *)spec->services->items);
    cp_desc_copy(&services_desc, &release->services, &(sim_services){.items = *spec->services});
    cp_table_set(s->releases, release->id, release);
    *ret = release;
    return 0;
}

void sim_release_free(sim_release *release) {
    cp_desc_clear(&services_desc, &release->services);
    free(release->operations);
    free(release->id);
    free(release->workload_id);
    free(release->plane_id);
    free(release);
}

uint32_t sim_operations(sim_release *release, int64_t index) {
    return (size_t)index < release->slots ? release->operations[index] : 0;
}

void sim_operation_count(sim_release *release, int64_t index) {
    size_t slot = (size_t)index;
    if (slot >= release->slots) {
        size_t slots = slot + 1 > release->slots * 2 ? slot + 1 : release->slots * 2;
        release->operations = cp_realloc(release->operations, slots * sizeof(uint32_t));
        memset(release->operations + release->slots, 0, (slots - release->slots) * sizeof(uint32_t));
        release->slots = slots;
    }
    release->operations[slot]++;
}

/* splitmix64: its output for consecutive inputs is as good as independent. */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

double sim_draw(sim *s, const sim_release *release, int64_t index, int64_t round, sim_luck what) {
    uint64_t x = mix(s->seed);
    for (const char *c = release->workload->slug; c && *c; c++)
        x = mix(x ^ (unsigned char)*c);
    x = mix(x ^ (uint64_t)release->order);
    x = mix(x ^ (uint64_t)index);
    x = mix(x ^ (uint64_t)round);
    x = mix(x ^ (uint64_t)what);
    return (double)(x >> 11) * 0x1p-53;
}

int64_t sim_delay(sim *s, const sim_release *release, int64_t index, int64_t round, sim_luck what, int64_t ms) {
    if (s->scenario.jitter <= 0)
        return ms;
    double factor = 1 + s->scenario.jitter * (2 * sim_draw(s, release, index, round, what) - 1);
    return (int64_t)((double)ms * factor);
}
