/* providers/sim/sim.h -- A runtime that exists in memory only, on the loop's clock, with the delays and faults of a
 * scenario. What a spec or a simulation does to the world from outside stands here; the rest is provider.h.
 * It lives outside the plane, so a simulated crash of the engine keeps it. Must not know the plane.
 *
 * A scenario is a JSON object, all of it optional (durations as everywhere: "250ms", "3s", or seconds):
 *   latency      50ms   from an operation's call to its answer; what it changes changes then
 *   jitter       0      0..1: every delay is drawn from delay * (1 +- jitter)
 *   error_rate   0      0..1: share of operations that answer provider_failed and change nothing
 *   trace        false  keep a line per operation and change for cp_sim_trace
 *   old, new            how instances of a workload's first release, and of every later one, behave:
 *     start_delay 1s    from made to running            ready_delay  0s    from running to ready
 *     crash_rate  0     share of starts that crash      crash_after  5s    after running so long
 *     never_ready_rate 0    share of instances that run and never get ready
 *     start_failure_rate 0  share of instances that give up while starting
 *   outages      []     of {from, for}: nobody answers between from and from + for, counted from the world's birth
 * The environment of a release's main service overrides it for that release, so that a deploy decides what happens:
 *   SIM_START_DELAY=3s SIM_READY_DELAY=1s SIM_CRASH_AFTER=5s SIM_NEVER_READY=1 SIM_FAIL_START=1 SIM_FAIL_PROVISION=1
 *
 * Luck is a function of (seed, workload slug, release order, replica index, operation number): neither ids nor a crash
 * of the engine shift anybody else's. */
#pragma once
#include "provider.h"

typedef struct cp_sim_behaviour {
    int64_t start_delay, ready_delay, crash_after; /* ms */
    double crash_rate, never_ready_rate, start_failure_rate;
} cp_sim_behaviour;

typedef struct cp_sim_outage {
    int64_t from, length; /* ms */
} cp_sim_outage;

typedef struct cp_sim_scenario {
    int64_t latency; /* ms */
    double jitter, error_rate;
    bool trace;
    cp_sim_behaviour old_release, new_release;
    cp_list outages; /* cp_sim_outage */
} cp_sim_scenario;
extern const cp_desc cp_sim_scenario_desc, cp_sim_behaviour_desc, cp_sim_outage_desc;

/* Each of these takes a provider that cp_sim_provider_new made. */
bool cp_sim_is(const cp_provider *provider);
/* The main service of the instance dies now, as by kill -9. `not_found`; `invalid_state` when it does not run. */
int cp_sim_kill(cp_provider *provider, const char *instance_id, cp_error *err);
/* The host reboots: everything that ran is lost (CP_SEEN_LOST) until it is started again. */
void cp_sim_reboot(cp_provider *provider);
/* Nobody answers until it is ended; beside the scenario's own outages. What runs goes on. */
void cp_sim_outage_set(cp_provider *provider, bool on);
/* Faults stop: no more errors and failures, and what would never have been ready gets ready. Outages stay as they are.
 */
void cp_sim_calm(cp_provider *provider);
/* A service writes a line to its log. `not_found`. */
int cp_sim_write(cp_provider *provider, const char *instance_id, const char *service, bool stderr_stream,
                 const char *text, cp_error *err);
/* {provision, start, stop, restart, update, deprovision: operations carried out, repeated: asked again and nothing to
 * do, refused: in an outage, failed, live, peak_live, twins: instances made in a slot that was taken,
 * workloads: {slug: {live, peak_live, ready}}}. A new reference. */
json_t *cp_sim_counts(cp_provider *provider);
/* [{id, workload, release, index, generation, state, ready, restarts}], by workload, release, index. A new reference.
 */
json_t *cp_sim_instances(cp_provider *provider);
/* What happened so far, a line each: "1.050 web/2/0 provision". Without ids, so that runs compare. A new reference. */
json_t *cp_sim_trace(cp_provider *provider);
