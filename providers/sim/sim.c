/* providers/sim/sim.c -- The simulated runtime as a provider: operations with latency, errors and outages, questions,
 * hints. What is done to it from outside stands in acts.c. Must not know the plane. */
#include "providers/sim/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const OPERATIONS[] = {
    [CP_OP_NONE] = "none",
    [CP_OP_PROVISION] = "provision",
    [CP_OP_START] = "start",
    [CP_OP_STOP] = "stop",
    [CP_OP_RESTART] = "restart",
    [CP_OP_UPDATE] = "update",
    [CP_OP_DEPROVISION] = "deprovision",
};

const char *sim_operation_name(int kind) {
    return OPERATIONS[kind];
}

bool sim_is_down(const sim *s) {
    int64_t age = cp_loop_mono(s->provider.loop) - s->born;
    for (size_t i = 0; i < s->scenario.outages.count; i++) {
        const cp_sim_outage *outage = CP_LIST_AT(&s->scenario.outages, const cp_sim_outage, i);
        if (age >= outage->from && age < outage->from + outage->length)
            return true;
    }
    return s->outage;
}

static int unavailable(const sim *s, cp_error *err) {
    return cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "nobody answers (outage of %s)", s->provider.name);
}

static void trace(sim *s, const sim_release *release, int64_t index, const char *what) {
    if (!s->scenario.trace)
        return;
    int64_t age = cp_loop_mono(s->provider.loop) - s->born;
    cp_vec_push(&s->trace, cp_printf("%" PRId64 ".%03d %s/%" PRId64 "/%" PRId64 " %s", age / 1000, (int)(age % 1000),
                                     release->workload->slug, release->order, index, what));
}

static void hint(sim *s, const char *instance_id) {
    if (s->hint && !sim_is_down(s))
        s->hint(s->hint_userdata, instance_id);
}

void sim_changed(sim_instance *instance, const char *what) {
    trace(instance->sim, instance->release, instance->index, what);
    hint(instance->sim, instance->id);
}

/* Whoever watched was cut off; what it missed is for it to find out. */
static void outage_ended(void *userdata) {
    sim *s = userdata;
    int64_t age = cp_loop_mono(s->provider.loop) - s->born, next = -1;
    for (size_t i = 0; i < s->scenario.outages.count; i++) {
        const cp_sim_outage *outage = CP_LIST_AT(&s->scenario.outages, const cp_sim_outage, i);
        int64_t end = outage->from + outage->length - age;
        if (end > 0 && (next < 0 || end < next))
            next = end;
    }
    if (next >= 0)
        cp_timer_start(s->outage_end, next);
    hint(s, NULL);
}

/* Slots: who runs as the index-th replica of a release. */
static char *slot_key(const sim_release *release, int64_t index) {
    return cp_printf("%s/%" PRId64, release->id, index);
}

static void take_slot(sim_instance *instance) {
    sim *s = instance->sim;
    cp_autofree char *key = slot_key(instance->release, instance->index);
    if (cp_table_get(s->slots, key))
        s->twins++;
    cp_table_set(s->slots, key, instance);
}

static void leave_slot(sim_instance *instance) {
    cp_autofree char *key = slot_key(instance->release, instance->index);
    if (cp_table_get(instance->sim->slots, key) == instance)
        cp_table_set(instance->sim->slots, key, NULL);
}

static bool runs(const sim_instance *instance) {
    return instance->phase == SIM_STARTING || instance->phase == SIM_RUNNING || instance->phase == SIM_BACKOFF;
}

static int no_instance(const cp_provider_op *op, cp_error *err) {
    return cp_fail(err, CP_E_PROVIDER_FAILED, "%s: there is no instance %s", OPERATIONS[op->kind], op->instance_id);
}

static void begin(sim *s, cp_provider_op *op) {
    s->received[op->kind]++;
    sim_operation_count(op->release, op->index);
    trace(s, op->release, op->index, OPERATIONS[op->kind]);
}

static void repeated(sim *s, cp_provider_op *op) {
    s->repeated++;
    trace(s, op->release, op->index, "nothing to do");
}

static int provision(sim *s, cp_provider_op *op, sim_instance *instance, cp_error *err) {
    if (op->release->fail_provision)
        return cp_fail(err, CP_E_PROVIDER_FAILED, "SIM_FAIL_PROVISION is set");
    if (instance && instance->generation >= op->generation && runs(instance)) {
        repeated(s, op);
        return 0;
    }
    begin(s, op);
    if (!instance) {
        instance = sim_instance_new(s, op->release, op->instance_id, op->index, op->generation);
        cp_table_set(s->instances, instance->id, instance);
        take_slot(instance);
    }
    instance->generation = op->generation;
    sim_instance_start(instance);
    return 0;
}

static void deprovision(sim *s, cp_provider_op *op, sim_instance *instance) {
    if (!instance) {
        repeated(s, op);
        return;
    }
    begin(s, op);
    leave_slot(instance);
    cp_table_set(s->instances, instance->id, NULL);
    sim_logs_end(instance);
    sim_changed(instance, "gone");
    sim_instance_free(instance);
}

static void change(cp_provider_op *op, sim_instance *instance) {
    if (instance->release != op->release) {
        leave_slot(instance);
        instance->release = op->release;
        take_slot(instance);
    }
    instance->generation = op->generation;
    sim_instance_start(instance);
}

/* What the operation does to the world. */
static int apply(sim *s, cp_provider_op *op, cp_error *err) {
    sim_instance *instance = cp_table_get(s->instances, op->instance_id);
    if (op->kind == CP_OP_PROVISION)
        return provision(s, op, instance, err);
    if (op->kind == CP_OP_DEPROVISION) {
        deprovision(s, op, instance);
        return 0;
    }
    if (!instance && op->kind != CP_OP_STOP)
        return no_instance(op, err);
    bool done = op->kind == CP_OP_STOP ? !instance || !runs(instance)
                : op->kind == CP_OP_START
                    ? runs(instance) && instance->generation >= op->generation
                    : runs(instance) && instance->generation >= op->generation && instance->release == op->release;
    if (done) {
        repeated(s, op);
        return 0;
    }
    begin(s, op);
    if (op->kind == CP_OP_STOP)
        sim_instance_stop(instance, SIM_STOPPED);
    else
        change(op, instance);
    return 0;
}

static bool lucky(sim *s, const cp_provider_op *op, sim_luck what, double rate) {
    return sim_draw(s, op->release, op->index, (int64_t)sim_operations(op->release, op->index), what) >= rate;
}

static void op_free(cp_provider_op *op) {
    cp_timer_free(op->timer);
    free(op->instance_id);
    free(op);
}

/* The answer of an operation is due. */
static void finish(void *userdata) {
    cp_provider_op *op = userdata;
    sim *s = op->sim;
    cp_autoerror cp_error err = {0};
    int r = 0;
    cp_vec_drop(&s->operations, op);
    if (op->refused) {
        s->refused++;
        r = unavailable(s, &err);
    } else if (!lucky(s, op, SIM_LUCK_ERROR, s->scenario.error_rate)) {
        sim_operation_count(op->release, op->index);
        trace(s, op->release, op->index, "failed");
        r = cp_fail(&err, CP_E_PROVIDER_FAILED, "%s of %s failed (scenario)", OPERATIONS[op->kind], op->instance_id);
        s->failed++;
    } else if (sim_is_down(s) && !lucky(s, op, SIM_LUCK_LOST, 0.5)) {
        r = unavailable(s, &err); /* it was lost on the way */
        s->refused++;
    } else {
        r = apply(s, op, &err);
        s->failed += r < 0;
        if (r == 0 && sim_is_down(s))
            r = unavailable(s, &err); /* it was done, and the answer was lost */
    }
    cp_provider_done *done = op->done;
    void *done_userdata = op->userdata;
    op_free(op);
    if (done)
        done(done_userdata, r < 0 ? &err : NULL);
}

/* Operations on one instance are carried out in the order of their calls. */
static int64_t due_at(const sim *s, const char *instance_id, int64_t due) {
    for (size_t i = 0; i < s->operations.count; i++) {
        const cp_provider_op *other = s->operations.items[i];
        if (other->due > due && cp_streq(other->instance_id, instance_id))
            due = other->due;
    }
    return due;
}

static int operate(cp_provider *provider, cp_op_kind kind, const cp_runtime_spec *spec, cp_provider_done *done,
                   void *userdata, cp_provider_op **ret, cp_error *err) {
    sim *s = (sim *)provider;
    sim_release *release;
    int r = sim_release_of(s, spec, &release, err);
    if (r < 0)
        return r;
    int64_t now = cp_loop_mono(provider->loop);
    int64_t latency = sim_delay(s, release, spec->replica_index, (int64_t)sim_operations(release, spec->replica_index),
                                SIM_LUCK_LATENCY, s->scenario.latency);
    cp_provider_op *op = cp_new0(cp_provider_op);
    *op = (cp_provider_op){
        .sim = s,
        .kind = kind,
        .instance_id = cp_strdup(spec->instance_id),
        .release = release,
        .index = spec->replica_index,
        .generation = spec->generation,
        .due = due_at(s, spec->instance_id, now + latency),
        .refused = sim_is_down(s),
        .done = done,
        .userdata = userdata,
    };
    op->timer = cp_timer_new(provider->loop, finish, op);
    cp_timer_start(op->timer, op->due - now);
    cp_vec_push(&s->operations, op);
    *ret = op;
    return 0;
}

/* Nobody waits for the answer any more; the runtime cannot know, and goes on. */
static void cancel(cp_provider *provider, cp_provider_op *op) {
    (void)provider;
    op->done = NULL;
}

static int by_number(const void *a, const void *b) {
    int64_t x = (*(sim_instance *const *)a)->number, y = (*(sim_instance *const *)b)->number;
    return (x > y) - (x < y);
}

sim_instance **sim_sorted(const sim *s, size_t *count) {
    sim_instance **sorted = cp_alloc0(cp_table_count(s->instances) * sizeof(sim_instance *));
    size_t cursor = 0;
    void *instance;
    *count = 0;
    while (cp_table_next(s->instances, &cursor, NULL, &instance))
        sorted[(*count)++] = instance;
    qsort(sorted, *count, sizeof *sorted, by_number);
    return sorted;
}

static void answer_list(sim *s, cp_provider_listed *listed, void *userdata) {
    size_t count;
    cp_autofree sim_instance **sorted = sim_sorted(s, &count);
    cp_autofree cp_observation *items = cp_alloc0(count * sizeof(cp_observation));
    for (size_t i = 0; i < count; i++)
        sim_instance_observe(sorted[i], &items[i]);
    listed(userdata, items, count, NULL);
    for (size_t i = 0; i < count; i++)
        cp_desc_clear(&cp_observation_desc, &items[i]);
}

static void answer_status(sim *s, const sim_query *query) {
    const sim_instance *instance = cp_table_get(s->instances, query->instance_id);
    cp_observation observation = {0};
    if (instance)
        sim_instance_observe(instance, &observation);
    else
        observation = (cp_observation){.instance_id = cp_strdup(query->instance_id), .seen = CP_SEEN_ABSENT};
    query->seen(query->userdata, &observation, NULL);
    cp_desc_clear(&cp_observation_desc, &observation);
}

static void answer(sim *s, const sim_query *query) {
    cp_autoerror cp_error err = {0};
    if (!sim_is_down(s) && query->listed) {
        answer_list(s, query->listed, query->userdata);
    } else if (!sim_is_down(s)) {
        answer_status(s, query);
    } else {
        unavailable(s, &err);
        if (query->listed)
            query->listed(query->userdata, NULL, 0, &err);
        else
            query->seen(query->userdata, NULL, &err);
    }
}

static void query_free(sim_query *query) {
    free(query->instance_id);
    free(query);
}

static void answer_all(void *userdata) {
    sim *s = userdata;
    s->answering = false;
    sim_query **batch_end = s->queries_end; /* what is asked meanwhile waits for the next turn */
    while (s->queries) {
        sim_query *query = s->queries;
        bool last = &query->next == batch_end;
        s->queries = query->next;
        if (!s->queries)
            s->queries_end = &s->queries;
        answer(s, query);
        query_free(query);
        if (last)
            break;
    }
    if (s->queries && !s->answering) {
        s->answering = true;
        cp_loop_defer(s->provider.loop, answer_all, s);
    }
}

static int ask(sim *s, sim_query query) {
    sim_query *kept = cp_new0(sim_query);
    *kept = query;
    *s->queries_end = kept;
    s->queries_end = &kept->next;
    if (!s->answering) {
        s->answering = true;
        cp_loop_defer(s->provider.loop, answer_all, s);
    }
    return 0;
}

static int status(cp_provider *provider, const char *instance_id, cp_provider_seen *seen, void *userdata,
                  cp_error *err) {
    (void)err;
    return ask((sim *)provider, (sim_query){.instance_id = cp_strdup(instance_id), .seen = seen, .userdata = userdata});
}

static int list(cp_provider *provider, cp_provider_listed *listed, void *userdata, cp_error *err) {
    (void)err;
    return ask((sim *)provider, (sim_query){.listed = listed, .userdata = userdata});
}

static void drop_queries(sim *s) {
    while (s->queries) {
        sim_query *query = s->queries;
        s->queries = query->next;
        query_free(query);
    }
    s->queries_end = &s->queries;
}

static void watch(cp_provider *provider, cp_provider_hint *on_hint, void *userdata) {
    sim *s = (sim *)provider;
    s->hint = on_hint;
    s->hint_userdata = userdata;
    if (!on_hint)
        drop_queries(s); /* the plane goes, and what it asked must not find it gone */
}

static json_t *info(cp_provider *provider) {
    sim *s = (sim *)provider;
    return json_pack("{s:s, s:I, s:b}", "type", "sim", "instances", (json_int_t)s->live, "available", !sim_is_down(s));
}

static void sim_free(cp_provider *provider) {
    sim *s = (sim *)provider;
    cp_loop_forget(provider->loop, s);
    drop_queries(s);
    for (size_t i = 0; i < s->operations.count; i++)
        op_free(s->operations.items[i]);
    cp_vec_clear(&s->operations);
    size_t cursor = 0;
    void *value;
    while (cp_table_next(s->instances, &cursor, NULL, &value))
        sim_instance_free(value);
    cursor = 0;
    while (cp_table_next(s->releases, &cursor, NULL, &value))
        sim_release_free(value);
    cursor = 0;
    while (cp_table_next(s->workloads, &cursor, NULL, &value)) {
        free(((sim_workload *)value)->slug);
        free(value);
    }
    for (size_t i = 0; i < s->trace.count; i++)
        free(s->trace.items[i]);
    cp_vec_clear(&s->trace);
    cp_vec_clear(&s->sources); /* each belongs to who follows it */
    cp_table_free(s->instances);
    cp_table_free(s->releases);
    cp_table_free(s->workloads);
    cp_table_free(s->slots);
    cp_timer_free(s->outage_end);
    cp_desc_clear(&cp_sim_scenario_desc, &s->scenario);
    free(s->provider.name);
    free(s);
}

static const cp_provider_class CLASS = {
    .type = "sim",
    .capabilities = CP_CAN_LOGS | CP_CAN_VOLUMES | CP_CAN_UPDATE | CP_CAN_RESTART_POLICY | CP_CAN_WATCH | CP_CAN_PROBE,
    .free = sim_free,
    .operate = operate,
    .cancel = cancel,
    .status = status,
    .list = list,
    .watch = watch,
    .logs = sim_logs,
    .logs_free = sim_logs_free,
    .info = info,
};

bool cp_sim_is(const cp_provider *provider) {
    return provider->class == &CLASS;
}

int cp_sim_provider_new(cp_loop *loop, const char *name, const json_t *scenario, uint64_t seed, cp_provider **ret,
                        cp_error *err) {
    sim *s = cp_new0(sim);
    cp_desc_init(&cp_sim_scenario_desc, &s->scenario);
    int r = scenario ? cp_desc_parse(&cp_sim_scenario_desc, scenario, &s->scenario, "scenario", err) : 0;
    if (r < 0) {
        free(s);
        return r;
    }
    s->provider = (cp_provider){.class = &CLASS, .name = cp_strdup(name), .loop = loop};
    s->seed = seed;
    s->born = cp_loop_mono(loop);
    s->instances = cp_table_new();
    s->releases = cp_table_new();
    s->workloads = cp_table_new();
    s->slots = cp_table_new();
    s->queries_end = &s->queries;
    s->outage_end = cp_timer_new(loop, outage_ended, s);
    outage_ended(s); /* arms the timer for the first */
    *ret = &s->provider;
    return 0;
}
