/* engine/plane/args.c -- Descriptors of the option tables. Must not know what the operations do. */
#include "plane/args.h"

#include "base/limits.h"

#include <string.h>

#define FIELD(type_, member, kind, ...)                                                                                \
    { .name = #member, .type = kind, .offset = offsetof(type_, member), __VA_ARGS__ }
#define WAIT(type_)                                                                                                    \
    FIELD(type_, wait, CP_DURATION, .min = 0, .max = CP_MAX_DURATION_MS,                                               \
          .doc = "answer when settled, or when this has passed")
#define PAGE(type_)                                                                                                    \
    FIELD(type_, limit, CP_INT, .min = 1, .max = CP_MAX_LIST, .fallback = "50", .doc = "items per page"),              \
        FIELD(type_, cursor, CP_STRING, .doc = "next_cursor of the page before")
#define DESC(name_, type_, fields_, doc_, ...)                                                                         \
    {                                                                                                                  \
        .name = name_, .size = sizeof(type_), .fields = fields_, .count = CP_COUNT(fields_),                           \
        .present = offsetof(type_, present), .doc = doc_, __VA_ARGS__                                                  \
    }

const cp_desc cp_none_args_desc = {
    .name = "none", .size = sizeof(cp_none_args), .present = offsetof(cp_none_args, present), .doc = "no options"};

static const cp_field wait_fields[] = {WAIT(cp_wait_args)};
const cp_desc cp_wait_args_desc = DESC("wait", cp_wait_args, wait_fields, "how long to wait");

static const cp_field update_fields[] = {
    FIELD(cp_update_args, name, CP_STRING, .max = CP_MAX_NAME, .doc = "a new name; the slug stays"),
    FIELD(cp_update_args, services, CP_LIST, .desc = &cp_service_desc, .max = CP_MAX_SERVICES,
          .doc = "the draft: what the next deploy rolls out"),
    FIELD(cp_update_args, labels, CP_MAP, .max = CP_MAX_LABELS, .doc = "replaces all labels"),
    WAIT(cp_update_args),
};
const cp_desc cp_update_args_desc = DESC("update", cp_update_args, update_fields, "what to change of a workload");

static const cp_field scale_fields[] = {
    FIELD(cp_scale_args, replicas, CP_INT, .flags = CP_REQUIRED, .min = 0, .max = CP_MAX_REPLICAS,
          .doc = "how many replicas to run; 0 is pause"),
    WAIT(cp_scale_args),
};
const cp_desc cp_scale_args_desc = DESC("scale", cp_scale_args, scale_fields, "how many");

static const cp_field restart_fields[] = {
    FIELD(cp_restart_args, parallel, CP_INT, .min = 1, .max = CP_MAX_REPLICAS, .fallback = "1",
          .doc = "replicas at a time"),
    WAIT(cp_restart_args),
};
const cp_desc cp_restart_args_desc = DESC("restart", cp_restart_args, restart_fields, "how to restart");

static const cp_field delete_fields[] = {
    FIELD(cp_delete_args, volumes, CP_BOOL, .doc = "remove its volumes as well"),
    WAIT(cp_delete_args),
};
const cp_desc cp_delete_args_desc = DESC("delete", cp_delete_args, delete_fields, "what to remove");

static const char *const LIST_STATES[] = {"live",   "provisioning", "active",     "scaling",   "deploying",
                                          "paused", "failed",       "destroying", "destroyed", NULL};
static const cp_field list_fields[] = {
    FIELD(cp_list_args, state, CP_ENUM, .values = LIST_STATES, .fallback = "live",
          .doc = "only those in this state; live: all but destroyed"),
    FIELD(cp_list_args, provider_name, CP_STRING, .doc = "only those on this provider"),
    FIELD(cp_list_args, region, CP_STRING, .doc = "only those in this region"),
    PAGE(cp_list_args),
};
const cp_desc cp_list_args_desc = DESC("list", cp_list_args, list_fields, "which workloads, newest first");

static const cp_field page_fields[] = {PAGE(cp_page_args)};
const cp_desc cp_page_args_desc = DESC("page", cp_page_args, page_fields, "which page");

static const cp_field events_fields[] = {
    FIELD(cp_events_args, types, CP_STRINGS, .max = 64, .doc = "only these types; \"deploy.*\" is all of a kind"),
    FIELD(cp_events_args, workload, CP_STRING, .doc = "only of this workload (id or slug)"),
    PAGE(cp_events_args),
};
const cp_desc cp_events_args_desc = DESC("events", cp_events_args, events_fields, "which events, newest first");

static const cp_field events_stream_fields[] = {
    FIELD(cp_events_args, types, CP_STRINGS, .max = 64, .doc = "only these types; \"deploy.*\" is all of a kind"),
    FIELD(cp_events_args, workload, CP_STRING, .doc = "only of this workload (id or slug)"),
    FIELD(cp_events_args, after, CP_INT, .min = 0, .max = 9007199254740991.0,
          .doc = "begin behind this seq; without it: with what comes from now on"),
};
const cp_desc cp_events_stream_args_desc =
    DESC("events_stream", cp_events_args, events_stream_fields, "which events, as they come");

static const cp_field logs_fields[] = {
    FIELD(cp_logs_args, follow, CP_BOOL, .doc = "go on with what comes"),
    FIELD(cp_logs_args, since, CP_TIME,
          .doc = "only lines from this time on, also of replicas that are gone (for an hour)"),
    FIELD(cp_logs_args, after, CP_STRING, .doc = "begin behind the line with this cursor"),
    FIELD(cp_logs_args, tail, CP_INT, .min = 0, .max = 1000000, .doc = "only the last lines of each replica"),
    FIELD(cp_logs_args, service, CP_STRING, .doc = "only this service"),
};
const cp_desc cp_logs_args_desc = DESC("logs", cp_logs_args, logs_fields, "which lines");

/* create and rollback take the options of a deploy: the same fields at other offsets. */

enum { CREATE_OWN = 9, DEPLOY_MOST = 32 };
static cp_field create_fields[CREATE_OWN + DEPLOY_MOST] = {
    FIELD(cp_create_args, name, CP_STRING, .flags = CP_REQUIRED, .doc = "its name; the slug is made of it"),
    FIELD(cp_create_args, services, CP_LIST, .flags = CP_REQUIRED, .desc = &cp_service_desc, .min = 1,
          .max = CP_MAX_SERVICES, .doc = "what each replica runs, together"),
    FIELD(cp_create_args, replicas, CP_INT, .min = -CP_MAX_REPLICAS, .max = CP_MAX_REPLICAS, .fallback = "1",
          .doc = "how many; zero or less means 1"),
    FIELD(cp_create_args, kind, CP_ENUM, .values = cp_kinds, .fallback = "deployment",
          .doc = "deployment, or stateful_set: stable identity and volumes"),
    FIELD(cp_create_args, labels, CP_MAP, .max = CP_MAX_LABELS, .doc = "your own marks on it"),
    FIELD(cp_create_args, provider_name, CP_STRING, .doc = "the runtime; default: the first"),
    FIELD(cp_create_args, datacenter_id, CP_STRING, .max = CP_MAX_NAME, .doc = "a label for placement"),
    FIELD(cp_create_args, region, CP_STRING, .max = CP_MAX_NAME, .doc = "a label for placement"),
    WAIT(cp_create_args),
};
static void create_init(void *object) {
    cp_create_args *args = object;
    cp_desc_init(&cp_deploy_args_desc, &args->deploy);
}
cp_desc cp_create_args_desc = {.name = "create",
                               .size = sizeof(cp_create_args),
                               .fields = create_fields,
                               .count = CREATE_OWN,
                               .present = offsetof(cp_create_args, present),
                               .init = create_init,
                               .doc = "a new workload"};

static cp_field rollback_fields[DEPLOY_MOST];
static void rollback_init(void *object) {
    cp_desc_init(&cp_deploy_args_desc, object);
}
cp_desc cp_rollback_args_desc = {.name = "rollback",
                                 .size = sizeof(cp_deploy_args),
                                 .fields = rollback_fields,
                                 .present = offsetof(cp_deploy_args, present),
                                 .init = rollback_init,
                                 .doc = "which release to go back to, and how"};

static bool among(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

void cp_args_init(void) {
    static bool done;
    if (done)
        return;
    done = true;
    static const char *const NOT_OF_CREATE[] = {"services", "release_id", "supersede", "wait", NULL};
    static const char *const NOT_OF_ROLLBACK[] = {"services", NULL};
    for (size_t i = 0; i < cp_deploy_args_desc.count; i++) {
        cp_field field = cp_deploy_args_desc.fields[i];
        if (!among(field.name, NOT_OF_ROLLBACK))
            rollback_fields[cp_rollback_args_desc.count++] = field;
        field.offset += offsetof(cp_create_args, deploy);
        if (!among(field.name, NOT_OF_CREATE))
            create_fields[cp_create_args_desc.count++] = field;
    }
}

void cp_args_deploy_present(const cp_desc *desc, uint64_t present, cp_deploy_args *deploy) {
    deploy->present = 0;
    for (size_t i = 0; i < desc->count; i++) {
        if (!(present >> i & 1))
            continue;
        const cp_field *field = cp_desc_field(&cp_deploy_args_desc, desc->fields[i].name);
        if (field)
            deploy->present |= UINT64_C(1) << (field - cp_deploy_args_desc.fields);
    }
}
