/* engine/model/entity.c -- Descriptors of the entities: the rows of the store, the JSON of the API, what a provider
 * sees. The words of each enum stand here in the order of entity.h. No rules, no behaviour. */
#include "model/entity.h"
#include "base/limits.h"
#include "model/fields.h"
#include "provider.h"

const char *const cp_workload_states[] = {"provisioning", "active",     "scaling",   "deploying", "paused",
                                          "failed",       "destroying", "destroyed", NULL};
const char *const cp_instance_states[] = {"provisioning", "starting",   "running",   "stopping", "stopped",
                                          "failed",       "destroying", "destroyed", NULL};
const char *const cp_deployment_states[] = {"pending", "running",     "paused",    "succeeded",
                                            "failed",  "rolled_back", "cancelled", NULL};
const char *const cp_set_roles[] = {"new", "old", "abandoned", NULL};
static const char *const desired_words[] = {"running", "stopped", "destroyed", NULL};
static const char *const on_failure_words[] = {"rollback", "pause", "fail", NULL};
static const char *const seen_words[] = {"unknown", "absent", "starting", "running", "stopped", "failed", "lost", NULL};

#define SET FLAGS(CP_READ_ONLY)                  /* by the engine */
#define KEPT FLAGS(CP_READ_ONLY | CP_KEEP_EMPTY) /* the same, and written even when empty */
#define COLUMN FLAGS(CP_READ_ONLY | CP_NO_JSON)  /* the engine's own memory */
#define IDENTITY                                                                                                       \
    FIELD(CP_STRING, id, "TypeID", SET), FIELD(CP_TIME, created_at, "when it was made", SET),                          \
        FIELD(CP_TIME, updated_at, "when it last changed", SET)

#define STRUCT cp_workload
static const cp_field workload_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, tenant_id, "the tenant that owns it", SET),
    FIELD(CP_STRING, name, "name as people write it", FLAGS(CP_KEEP_EMPTY), BOUNDS(1, CP_MAX_NAME)),
    FIELD(CP_STRING, slug, "name for URLs, unique among the live workloads of the tenant", KEPT),
    FIELD(CP_STRING, datacenter_id, "a label that providers may use for placement"),
    FIELD(CP_STRING, provider_name, "the provider that runs it", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_STRING, region, "region", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_ENUM, kind, "deployment or stateful_set; immutable", WORDS(cp_kinds), DEFAULT("deployment")),
    FIELD(CP_LIST, services, "the draft; what runs is the current release", OF(cp_service_desc), FLAGS(CP_KEEP_EMPTY),
          BOUNDS(1, CP_MAX_SERVICES)),
    FIELD(CP_MAP, labels, "labels for people and tools", BOUNDS(0, CP_MAX_LABELS)),
    FIELD(CP_STRING, current_release_id, "the release in effect", SET),
    FIELD(CP_INT, replica_count, "replicas wanted", KEPT),
    FIELD(CP_INT, ready_replicas, "replicas that are ready", KEPT),
    FIELD(CP_ENUM, state, "state of the whole", WORDS(cp_workload_states), SET),
    FIELD(CP_TIME, paused_at, "since when it is paused", SET),
    FIELD(CP_INT, previous_replicas, "what resume brings back", SET),
    FIELD(CP_STRING, template_id, "the template it was made from", SET),
    FIELD(CP_BOOL, staged, "services differ from the current release by an update", COLUMN),
    FIELD(CP_INT, generation, "raised by restart", COLUMN),
    FIELD(CP_INT, restart_parallel, "replicas restarted at a time", COLUMN),
    FIELD(CP_STRING, message, "why it failed, or what an operation warned of", SET),
    FIELD(CP_BOOL, remove_volumes, "deleted with its volumes", COLUMN),
};
DESC(workload, CP_NONE, .table = "workload", .doc = "Services that run together in N replicas.");
#undef STRUCT

#define STRUCT cp_replica_set
static void replica_set_init(void *object) {
    ((cp_replica_set *)object)->held = -1;
}
static const cp_field replica_set_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, workload_id, "the workload", SET),
    FIELD(CP_STRING, release_id, "the release that its instances run", SET),
    FIELD(CP_SHARE, goal, "wanted: a count, or a share of the workload's replicas", SET),
    FIELD(CP_INT, held, "held size; -1: none", KEPT),
    FIELD(CP_INT, desired, "the goal resolved for today's replicas", KEPT),
    FIELD(CP_DOUBLE, weight, "share of the traffic, 0..100", KEPT),
    FIELD(CP_ENUM, role, "new, old or abandoned", WORDS(cp_set_roles), SET),
};
DESC(replica_set, CP_NONE, .init = replica_set_init, .table = "replica_set",
     .doc = "The instances of one release of a workload.");
#undef STRUCT

#define STRUCT cp_service_status
static void service_status_init(void *object) {
    ((cp_service_status *)object)->exit_code = -1;
}
static const cp_field service_status_fields[] = {
    FIELD(CP_STRING, name, "the service"),
    FIELD(CP_STRING, state, "waiting, running, backoff, exited or failed"),
    FIELD(CP_BOOL, ready, "its health check passes", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_INT, restarts, "restarts by the runtime", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_STRING, message, "what is wrong with it"),
    FIELD(CP_STRING, provider_ref, "what the provider calls it"),
    FIELD(CP_INT, exit_code, "of the last exit; absent: none yet", FLAGS(CP_MINUS_NONE)),
};
DESC(service_status, CP_NONE, .init = service_status_init, .doc = "What is seen of one service of an instance.");
#undef STRUCT

#define STRUCT cp_endpoint
static const cp_field endpoint_fields[] = {
    FIELD(CP_STRING, service, "the service"), FIELD(CP_STRING, name, "name of the port"),
    FIELD(CP_STRING, host, "address"),        FIELD(CP_INT, port, "port"),
    FIELD(CP_STRING, protocol, "tcp or udp"),
};
DESC(endpoint, CP_NONE, .doc = "Where a port of an instance is reached.");
#undef STRUCT

#define STRUCT cp_instance
static const cp_field instance_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, tenant_id, "the tenant that owns it", SET),
    FIELD(CP_STRING, workload_id, "its workload", SET),
    FIELD(CP_INT, replica_index, "unique among the live instances of its release", KEPT),
    FIELD(CP_STRING, release_id, "the release it runs", SET),
    FIELD(CP_STRING, name, "<slug>-<index>-<last 5 of id>", SET),
    FIELD(CP_ENUM, kind, "its workload's kind", WORDS(cp_kinds), SET),
    FIELD(CP_STRING, provider_name, "the provider that runs it", SET),
    FIELD(CP_STRING, provider_ref, "what the provider calls it", SET),
    FIELD(CP_STRING, region, "region", SET),
    FIELD(CP_ENUM, state, "its state", WORDS(cp_instance_states), SET),
    FIELD(CP_ENUM, desired, "what it is wanted to be", WORDS(desired_words), SET),
    FIELD(CP_INT, generation, "wanted: raised by restart and by an update in place", KEPT),
    FIELD(CP_INT, applied_generation, "what the last finished operation brought it to", COLUMN),
    FIELD(CP_BOOL, ready, "every service of it is ready", KEPT),
    FIELD(CP_STRING, message, "what is wrong with it", SET),
    FIELD(CP_INT, restarts, "restarts of its services by the runtime", KEPT),
    FIELD(CP_TIME, started_at, "when it started", SET),
    FIELD(CP_INT, ready_at, "plane time since when it is ready; 0: it is not", COLUMN),
    FIELD(CP_LIST, endpoints, "where its ports are reached", OF(cp_endpoint_desc), SET),
    FIELD(CP_LIST, service_status, "what is seen of each service", OF(cp_service_status_desc), SET),
};
DESC(instance, CP_NONE, .table = "instance", .doc = "One replica: all services of a release, running together.");
#undef STRUCT

#define STRUCT cp_release
static const cp_field release_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, tenant_id, "the tenant that owns it", SET),
    FIELD(CP_STRING, workload_id, "its workload", SET),
    FIELD(CP_INT, version, "1, 2, 3 ... per workload", KEPT),
    FIELD(CP_LIST, services, "the whole snapshot, images resolved", OF(cp_service_desc), KEPT),
    FIELD(CP_STRING, notes, "what changed, as people say it"),
    FIELD(CP_STRING, commit_sha, "the commit it was built from"),
    FIELD(CP_BOOL, active, "it is the current release of its workload", KEPT),
    FIELD(CP_BOOL, good, "a deployment of it succeeded", COLUMN),
    FIELD(CP_MAP, images, "the images as they were asked for, by service", COLUMN),
    FIELD(CP_STRING, spec_hash, "SHA-256 of the sorted services", COLUMN),
};
DESC(release, CP_NONE, .table = "release", .doc = "An immutable snapshot of a workload's services.");
#undef STRUCT

#define STRUCT cp_deployment
static const cp_field deployment_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, tenant_id, "the tenant that owns it", SET),
    FIELD(CP_STRING, workload_id, "its workload", SET),
    FIELD(CP_STRING, release_id, "the release that is rolled out", SET),
    FIELD(CP_STRING, previous_release_id, "the last good release before it", SET),
    FIELD(CP_ENUM, state, "its state", WORDS(cp_deployment_states), SET),
    FIELD(CP_STRING, strategy, "name of the strategy", SET),
    FIELD(CP_STRING, strategy_hash, "SHA-256 of the pinned sources", SET),
    FIELD(CP_JSON, params, "parameters of the strategy, defaults filled in", SET),
    FIELD(CP_SHARE, surge, "instances above the replica count, at most", KEPT),
    FIELD(CP_SHARE, unavailable, "instances below it that may be unavailable by our own act", KEPT),
    FIELD(CP_DURATION, min_ready, "how long an instance is ready before it counts as available", KEPT),
    FIELD(CP_DURATION, progress_deadline, "time without progress that fails it, or none", KEPT),
    FIELD(CP_ENUM, on_failure, "rollback, pause or fail", WORDS(on_failure_words), SET),
    FIELD(CP_INT, max_failures, "instances that may give up", KEPT),
    FIELD(CP_JSON, services, "the changes as they were asked for", SET),
    FIELD(CP_MAP, service_progress, "per service: pending, running, succeeded or failed", SET),
    FIELD(CP_STRING, phase, "what it is doing", SET),
    FIELD(CP_DOUBLE, percent, "how far it is, 0..100", KEPT),
    FIELD(CP_STRING, message, "one line for people", SET),
    FIELD(CP_STRING, held_by, "who paused it", SET),
    FIELD(CP_STRING, awaiting, "what it waits for a person to do", SET),
    FIELD(CP_STRING, initiator, "who asked for it", SET),
    FIELD(CP_STRING, notes, "what changed, as people say it", SET),
    FIELD(CP_JSON, error, "why it failed", SET),
    FIELD(CP_TIME, started_at, "when it began", SET),
    FIELD(CP_TIME, finished_at, "when it ended", SET),
    FIELD(CP_INT, progress_at, "plane time of the last progress", COLUMN),
    FIELD(CP_INT, best_ready, "most new instances ready so far", COLUMN),
    FIELD(CP_INT, best_created, "most new instances made so far", COLUMN),
    FIELD(CP_INT, least_old, "fewest old instances so far", COLUMN),
    FIELD(CP_INT, failures, "instances that gave up", COLUMN),
    FIELD(CP_BOOL, rolling_back, "it is on the way back", COLUMN),
    FIELD(CP_BOOL, holding, "goals are held sizes", COLUMN),
    FIELD(CP_INT, held_replicas, "the replica count when the sizes were held", COLUMN),
    FIELD(CP_BOOL, resume_after_pause, "frozen by a pause of the workload", COLUMN),
    FIELD(CP_STRING, replaces, "the deployment that it superseded", COLUMN),
};
DESC(deployment, CP_NONE, .table = "deployment", .doc = "One rollout of a release to a workload.");
#undef STRUCT

#define STRUCT cp_command
static const cp_field command_fields[] = {
    IDENTITY,
    FIELD(CP_STRING, deployment_id, "the deployment", SET),
    FIELD(CP_INT, number, "1, 2, 3 ... in the deployment", KEPT),
    FIELD(CP_STRING, name, "the command", SET),
    FIELD(CP_JSON, args, "its arguments", SET),
    FIELD(CP_JSON, result, "its result", SET),
    FIELD(CP_BOOL, done, "the result is known", KEPT),
    FIELD(CP_STRING, line, "file:line that issued it", SET),
    FIELD(CP_INT, issued_at, "plane time when it was issued", COLUMN),
    FIELD(CP_INT, done_at, "plane time when it was done", COLUMN),
    FIELD(CP_TIME, done_wall, "when it was done", SET),
};
DESC(command, CP_NONE, .table = "command", .doc = "One line of a deployment's journal.");
#undef STRUCT

#define STRUCT cp_script_row
static const cp_field script_row_fields[] = {
    IDENTITY,
    FIELD(CP_JSON, bundle, "all sources by path", SET),
};
const cp_desc cp_script_row_desc = {.name = "script",
                                    .table = "script",
                                    .size = sizeof(STRUCT),
                                    .fields = script_row_fields,
                                    .count = CP_COUNT(script_row_fields),
                                    .present = CP_NONE,
                                    .doc = "A pinned strategy."};
#undef STRUCT

#define STRUCT cp_event
static const cp_field event_fields[] = {
    FIELD(CP_STRING, id, "TypeID", SET),
    FIELD(CP_INT, seq, "grows without gaps in commit order", KEPT),
    FIELD(CP_STRING, type, "what happened: workload.created, instance.failed ...", SET),
    FIELD(CP_STRING, tenant_id, "the tenant it belongs to", SET),
    FIELD(CP_STRING, actor_id, "who did it", SET),
    FIELD(CP_STRING, workload_id, "the workload it tells of", SET),
    FIELD(CP_STRING, instance_id, "the instance it tells of", SET),
    FIELD(CP_STRING, deployment_id, "the deployment it tells of", SET),
    FIELD(CP_JSON, payload, "details", SET),
    FIELD(CP_TIME, at, "when it happened", SET),
};
DESC(event, CP_NONE, .table = "event", .doc = "A change, written in the transaction that made it.");
#undef STRUCT

#define STRUCT cp_observation
static const cp_field observation_fields[] = {
    FIELD(CP_STRING, instance_id, "the instance"),
    FIELD(CP_ENUM, seen, "what the provider sees", WORDS(seen_words)),
    FIELD(CP_INT, generation, "the generation stamped on it", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_STRING, release_id, "the release stamped on it"),
    FIELD(CP_STRING, workload_id, "the workload stamped on it"),
    FIELD(CP_STRING, plane_id, "the plane stamped on it"),
    FIELD(CP_STRING, provider_ref, "what the provider calls it"),
    FIELD(CP_STRING, message, "what is wrong with it"),
    FIELD(CP_TIME, started_at, "when it started"),
    FIELD(CP_INT, restarts, "restarts by the runtime", FLAGS(CP_KEEP_EMPTY)),
    FIELD(CP_LIST, services, "each service", OF(cp_service_status_desc)),
    FIELD(CP_LIST, endpoints, "where its ports are reached", OF(cp_endpoint_desc)),
};
DESC(observation, CP_NONE, .doc = "What a provider sees of one instance.");
#undef STRUCT
