/* providers/process/provider_record.c -- instance.json: what is wanted of one instance, and the ports that it has. It
 * is what survives the engine; what became of it stands in the state files of the shims. */
#include "model/fields.h"
#include "model/model.h"
#include "process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_PORT = 20000, LAST_PORT = 32000, MOST_RECORD = 64 << 20 }; /* below the range of outgoing connections */

static const char *const wanted_words[] = {"running", "stopped", "destroyed", NULL};

#define STRUCT cp_record
static const cp_field record_fields[] = {
    FIELD(CP_STRING, instance_id, "", FLAGS(CP_REQUIRED)),
    FIELD(CP_STRING, name, ""),
    FIELD(CP_STRING, workload_id, "", FLAGS(CP_REQUIRED)),
    FIELD(CP_STRING, workload_slug, ""),
    FIELD(CP_STRING, workload_name, ""),
    FIELD(CP_STRING, release_id, "", FLAGS(CP_REQUIRED)),
    FIELD(CP_STRING, tenant_id, ""),
    FIELD(CP_STRING, plane_id, "", FLAGS(CP_REQUIRED)),
    FIELD(CP_INT, replica_index, ""),
    FIELD(CP_INT, generation, ""),
    FIELD(CP_ENUM, kind, "", WORDS(cp_kinds)),
    FIELD(CP_ENUM, wanted, "", WORDS(wanted_words)),
    FIELD(CP_STRING, made, ""),
    FIELD(CP_STRING, boot_id, ""),
    FIELD(CP_STRING, warning, ""),
    FIELD(CP_LIST, services, "", OF(cp_service_desc)),
    FIELD(CP_LIST, endpoints, "", OF(cp_endpoint_desc)),
};
DESC(record, CP_NONE, .doc = "What is wanted of one instance.");
#undef STRUCT

void cp_record_fill(cp_record *record, const cp_runtime_spec *spec) {
    const struct {
        char **to;
        const char *from;
    } texts[] = {
        {&record->instance_id, spec->instance_id},     {&record->name, spec->name},
        {&record->workload_id, spec->workload_id},     {&record->workload_slug, spec->workload_slug},
        {&record->workload_name, spec->workload_name}, {&record->release_id, spec->release_id},
        {&record->tenant_id, spec->tenant_id},         {&record->plane_id, spec->plane_id},
    };
    for (size_t i = 0; i < CP_COUNT(texts); i++)
        cp_set_string(texts[i].to, texts[i].from);
    record->replica_index = spec->replica_index;
    record->generation = spec->generation;
    record->kind = spec->kind;
    if (spec->services && spec->services != &record->services) {
        cp_list_clear(&record->services, &cp_service_desc);
        for (size_t i = 0; i < spec->services->count; i++) {
            cp_service *copy = cp_list_add(&record->services, &cp_service_desc);
            cp_desc_clear(&cp_service_desc, copy);
            cp_desc_copy(&cp_service_desc, copy, CP_LIST_AT(spec->services, cp_service, i));
        }
    }
}

int cp_record_save(cp_proc *proc, cp_error *err) {
    cp_autojson json_t *json = cp_desc_json(&cp_record_desc, &proc->record);
    cp_autofree char *text = cp_json_text(json);
    return cp_fs_write(proc->dir, "instance.json", text, strlen(text), 0600, err);
}

int cp_record_load(const char *dir, cp_record *ret, cp_error *err) {
    cp_autofree char *path = cp_printf("%s/instance.json", dir);
    size_t len = 0;
    cp_autofree char *text = cp_fs_read(path, MOST_RECORD, &len);
    if (!text)
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot read", path);
    cp_autojson json_t *json = NULL;
    int r = cp_json_parse(text, len, MOST_RECORD, &json, err);
    if (r == 0)
        r = cp_desc_parse(&cp_record_desc, json, ret, "", err);
    return r < 0 ? cp_error_wrap(err, "%s", path) : 0;
}

static char *port_key(const char *protocol, int64_t port) {
    return cp_printf("%s:%d", cp_streq(protocol, "udp") ? "udp" : "tcp", (int)port);
}

/* A port that nobody has: not given to another instance, and free on the host right now. 0: there is none; -1 and
 * errno: none can be tried, so that all the others are left untried. */
static int64_t pick_port(cp_process *process, const char *protocol) {
    const int span = LAST_PORT - FIRST_PORT;
    int start = (int)(cp_loop_random(process->base.loop) % (uint64_t)span);
    for (int i = 0; i < span; i++) {
        int port = FIRST_PORT + (start + i) % span;
        cp_autofree char *key = port_key(protocol, port);
        int is_free = cp_table_get(process->ports, key) ? 0 : cp_fs_port_free(port, cp_streq(protocol, "udp"));
        if (is_free)
            return is_free < 0 ? -1 : port;
    }
    return 0;
}

static const cp_endpoint *kept(const cp_list *endpoints, const char *service, const cp_port *port) {
    for (size_t i = 0; i < endpoints->count; i++) {
        const cp_endpoint *e = CP_LIST_AT(endpoints, cp_endpoint, i);
        if (cp_streq(e->service, service) && cp_streq(e->name, port->name) && cp_streq(e->protocol, port->protocol))
            return e;
    }
    return NULL;
}

int cp_record_ports(cp_process *process, cp_proc *proc, const cp_list *services, cp_error *err) {
    cp_list old = proc->record.endpoints, fresh = {0};
    int r = 0;
    for (size_t s = 0; s < services->count && r == 0; s++) {
        const cp_service *service = CP_LIST_AT(services, cp_service, s);
        for (size_t p = 0; p < service->ports.count && r == 0; p++) {
            const cp_port *port = CP_LIST_AT(&service->ports, cp_port, p);
            const cp_endpoint *before = kept(&old, service->name, port);
            int64_t number = port->host ? port->host : before ? before->port : pick_port(process, port->protocol);
            cp_autofree char *key = port_key(port->protocol, number);
            cp_proc *owner = cp_table_get(process->ports, key);
            if (number < 0)
                r = cp_fs_fail(err, CP_E_PROVIDER_UNAVAILABLE, "cannot look for a port for", service->name);
            else if (number == 0)
                r = cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "no port is free between %d and %d", FIRST_PORT, LAST_PORT);
            else if (owner && owner != proc)
                r = cp_fail(err, CP_E_PROVIDER_FAILED, "port %d of %s is taken by %s", (int)number, service->name,
                            owner->record.name);
            if (r < 0)
                break;
            cp_table_set(process->ports, key, proc);
            cp_endpoint *e = cp_list_add(&fresh, &cp_endpoint_desc);
            cp_set_string(&e->service, service->name);
            cp_set_string(&e->name, port->name);
            cp_set_string(&e->host, "127.0.0.1");
            cp_set_string(&e->protocol, cp_streq(port->protocol, "udp") ? "udp" : "tcp");
            e->port = number;
        }
    }
    if (r == 0) {
        cp_record_release_ports(proc); /* those that the new release does not have any more */
        proc->record.endpoints = fresh;
        for (size_t i = 0; i < fresh.count; i++) {
            cp_autofree char *key =
                port_key(CP_LIST_AT(&fresh, cp_endpoint, i)->protocol, CP_LIST_AT(&fresh, cp_endpoint, i)->port);
            cp_table_set(process->ports, key, proc);
        }
        return 0;
    }
    for (size_t i = 0; i < fresh.count; i++) { /* gives back what only this attempt took */
        const cp_endpoint *e = CP_LIST_AT(&fresh, cp_endpoint, i);
        bool had = false;
        for (size_t o = 0; o < old.count; o++)
            had |= CP_LIST_AT(&old, cp_endpoint, o)->port == e->port;
        cp_autofree char *key = port_key(e->protocol, e->port);
        if (!had)
            cp_table_set(process->ports, key, NULL);
    }
    cp_list_clear(&fresh, &cp_endpoint_desc);
    return r;
}

void cp_record_release_ports(cp_proc *proc) {
    for (size_t i = 0; i < proc->record.endpoints.count; i++) {
        const cp_endpoint *e = CP_LIST_AT(&proc->record.endpoints, cp_endpoint, i);
        cp_autofree char *key = port_key(e->protocol, e->port);
        if (cp_table_get(proc->process->ports, key) == proc)
            cp_table_set(proc->process->ports, key, NULL);
    }
    cp_list_clear(&proc->record.endpoints, &cp_endpoint_desc);
}
