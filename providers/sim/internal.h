/* providers/sim/internal.h -- What the files of the simulated runtime share.
 *   sim.c       the provider: operations, status, list, watch      acts.c  what is done to the world from outside
 *   life.c      one instance: start, ready, crash, back-off, stop; what is seen of it
 *   scenario.c  scenario, environment markers, keyed luck          logs.c   log lines and their followers */
#pragma once
#include "base/limits.h"
#include "base/table.h"
#include "providers/sim/sim.h"

typedef struct sim sim;

typedef struct sim_workload {
    char *slug;
    int64_t releases; /* seen so far: the order of the next one */
    int64_t live, peak_live, ready;
} sim_workload;

typedef struct sim_services {
    cp_list items; /* cp_service */
} sim_services;

/* A release as the world knows it; shared by its instances, kept for the world's life. */
typedef struct sim_release {
    char *id, *workload_id, *plane_id;
    sim_workload *workload;
    int64_t order; /* 1: the workload's first */
    sim_services services;
    size_t main; /* index in services */
    cp_sim_behaviour behaviour;
    bool fail_provision;
    uint32_t *operations; /* per replica index: how many so far */
    size_t slots;
} sim_release;

typedef enum { SIM_STARTING, SIM_RUNNING, SIM_BACKOFF, SIM_STOPPED, SIM_FAILED, SIM_LOST } sim_phase;

typedef struct sim_line {
    int64_t at; /* wall ms */
    size_t service;
    bool stderr_stream;
    char *text;
} sim_line;

typedef struct sim_instance {
    sim *sim;
    char *id;
    sim_release *release;
    int64_t index, generation, number;
    sim_phase phase;
    bool ready, will_fail;
    int64_t restarts, backoffs;             /* backoffs: crashes in a row */
    int64_t started_at;                     /* wall ms */
    int64_t running_at, ready_at, crash_at; /* loop mono ms; ready_at, crash_at -1: never */
    cp_timer *timer;
    sim_line *lines;
    size_t line_count, line_capacity, line_base; /* base: lines dropped before the first */
} sim_instance;

struct cp_provider_op {
    sim *sim;
    cp_op_kind kind;
    char *instance_id;
    sim_release *release;
    int64_t index, generation, due;
    bool refused;           /* came in an outage */
    cp_provider_done *done; /* NULL: cancelled; the operation goes on, as it would on a real runtime */
    void *userdata;
    cp_timer *timer;
};

struct cp_log_source {
    sim *sim;
    char *instance_id;
    size_t service, next; /* number of the next line */
    int64_t since;
    bool follow, scheduled;
    bool *alive; /* while it delivers: set to false when it is freed */
    cp_log_sink *sink;
    void *userdata;
};

/* A question that is answered in the next turn. */
typedef struct sim_query {
    struct sim_query *next;
    char *instance_id; /* NULL: list */
    cp_provider_seen *seen;
    cp_provider_listed *listed;
    void *userdata;
} sim_query;

struct sim {
    cp_provider provider; /* first: a cp_provider * is a sim * */
    cp_sim_scenario scenario;
    uint64_t seed;
    int64_t born; /* loop mono ms */
    bool outage;
    cp_table *instances, *releases, *workloads; /* by id */
    cp_table *slots;                            /* "<workload id>/<order>/<index>" -> the live instance there */
    cp_vec operations, sources;
    sim_query *queries, **queries_end;
    bool answering; /* the next turn answers the queries */
    cp_timer *outage_end;
    cp_provider_hint *hint;
    void *hint_userdata;
    int64_t received[CP_OP_DEPROVISION + 1];
    int64_t repeated, refused, failed, live, peak_live, twins, numbers;
    cp_vec trace; /* char * */
};

/* scenario.c */
int sim_release_of(sim *s, const cp_runtime_spec *spec, sim_release **ret, cp_error *err);
void sim_release_free(sim_release *release);
typedef enum {
    SIM_LUCK_LATENCY,
    SIM_LUCK_ERROR,
    SIM_LUCK_LOST,
    SIM_LUCK_START,
    SIM_LUCK_START_DELAY,
    SIM_LUCK_READY,
    SIM_LUCK_READY_DELAY,
    SIM_LUCK_CRASH,
    SIM_LUCK_CRASH_AFTER
} sim_luck;
uint32_t sim_operations(sim_release *release, int64_t index);  /* done in this slot so far */
void sim_operation_count(sim_release *release, int64_t index); /* one more */
double sim_draw(sim *s, const sim_release *release, int64_t index, int64_t round, sim_luck what); /* [0, 1) */
int64_t sim_delay(sim *s, const sim_release *release, int64_t index, int64_t round, sim_luck what, int64_t ms);

/* life.c */
sim_instance *sim_instance_new(sim *s, sim_release *release, const char *id, int64_t index, int64_t generation);
void sim_instance_free(sim_instance *instance);  /* takes it out of the counts, not out of the tables */
void sim_instance_start(sim_instance *instance); /* from the beginning: start delay, ready delay */
void sim_instance_stop(sim_instance *instance, sim_phase phase);
void sim_instance_crash(sim_instance *instance, const char *why);
void sim_instance_calm(sim_instance *instance); /* it will not fail by itself any more */
void sim_instance_observe(const sim_instance *instance, cp_observation *ret);
const char *sim_phase_name(const sim_instance *instance);

/* sim.c */
void sim_changed(sim_instance *instance, const char *what); /* trace, hint */
bool sim_is_down(const sim *s);
const char *sim_operation_name(int kind);
sim_instance **sim_sorted(const sim *s, size_t *count); /* by age; the caller frees the array */

/* logs.c */
/* service NULL: the main one. `not_found`. */
int sim_service_index(const sim_instance *instance, const char *service, size_t *ret, cp_error *err);
void sim_log(sim_instance *instance, size_t service, bool stderr_stream, const char *text);
void sim_logs_end(sim_instance *instance); /* its followers get the end */
void sim_lines_free(sim_instance *instance);
int sim_logs(cp_provider *provider, const char *instance_id, const char *service, const cp_log_options *options,
             cp_log_sink *sink, void *userdata, cp_log_source **ret, cp_error *err);
void sim_logs_free(cp_provider *provider, cp_log_source *source);
