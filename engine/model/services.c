/* engine/model/services.c -- What can be said about the services of a workload: which is main, in which order they
 * start, what they are after a deploy, whether two specs are the same. */
#include "base/table.h"
#include "model/hash.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

static const cp_service *at(const cp_list *services, size_t index) {
    return CP_LIST_AT(services, cp_service, index);
}

const cp_service *cp_services_main(const cp_list *services) {
    for (size_t i = 0; i < services->count; i++)
        if (at(services, i)->role == CP_ROLE_MAIN)
            return at(services, i);
    return NULL;
}

const cp_service *cp_services_find(const cp_list *services, const char *name) {
    for (size_t i = 0; i < services->count; i++)
        if (cp_streq(at(services, i)->name, name))
            return at(services, i);
    return NULL;
}

bool cp_services_fixed_port(const cp_list *services) {
    for (size_t i = 0; i < services->count; i++)
        for (size_t p = 0; p < at(services, i)->ports.count; p++)
            if (CP_LIST_AT(&at(services, i)->ports, cp_port, p)->host)
                return true;
    return false;
}

const cp_port *cp_services_port(const cp_list *services, const cp_service *own, const char *name,
                                const cp_service **owner) {
    for (size_t i = 0; i <= services->count; i++) { /* own first, then every service in order */
        const cp_service *service = i ? at(services, i - 1) : own;
        for (size_t p = 0; p < service->ports.count; p++) {
            const cp_port *port = CP_LIST_AT(&service->ports, cp_port, p);
            if (strcmp(port->name, name) != 0)
                continue;
            *owner = service;
            return port;
        }
    }
    return NULL;
}

/* May start now: everything that it depends on and that is in the same round has been placed. */
static bool startable(const cp_list *services, size_t index, const bool *placed) {
    const cp_service *service = at(services, index);
    for (size_t d = 0; d < service->depends_on.count; d++)
        for (size_t i = 0; i < services->count; i++)
            if (!placed[i] && i != index && strcmp(at(services, i)->name, service->depends_on.items[d]) == 0)
                return false;
    return true;
}

void cp_services_order(const cp_list *services, size_t *order) {
    cp_autofree bool *placed = cp_alloc0(services->count + 1);
    size_t count = 0;
    while (count < services->count) {
        size_t pick = services->count; /* the first that may start; an init before everything else */
        for (size_t i = 0; i < services->count; i++) {
            if (placed[i] || !startable(services, i, placed))
                continue;
            if (pick == services->count ||
                (at(services, i)->role == CP_ROLE_INIT && at(services, pick)->role != CP_ROLE_INIT))
                pick = i;
        }
        for (size_t i = 0; pick == services->count; i++) /* a cycle, which validation refuses: any order is as good */
            if (!placed[i])
                pick = i;
        placed[pick] = true;
        order[count++] = pick;
    }
}

static void overlay(cp_service *service, const cp_service_deploy *change) {
    const cp_desc *desc = &cp_service_deploy_desc;
    if (cp_desc_has(desc, change, "image"))
        cp_set_string(&service->image, change->image);
    if (cp_desc_has(desc, change, "env")) {
        cp_map_clear(&service->env);
        for (size_t i = 0; i < change->env.count; i++)
            cp_map_set(&service->env, change->env.items[i].key, change->env.items[i].value);
    }
    if (cp_desc_has(desc, change, "health_check")) {
        if (service->health_check)
            cp_desc_clear(&cp_health_check_desc, service->health_check);
        free(service->health_check);
        service->health_check = change->health_check ? cp_new0(cp_health_check) : NULL;
        if (change->health_check)
            cp_desc_copy(&cp_health_check_desc, service->health_check, change->health_check);
    }
    const struct {
        const char *field;
        cp_strings *to;
        const cp_strings *from;
    } words[] = {{"command", &service->command, &change->command}, {"args", &service->args, &change->args}};
    for (size_t w = 0; w < CP_COUNT(words); w++) {
        if (!cp_desc_has(desc, change, words[w].field))
            continue;
        cp_strings_clear(words[w].to);
        for (size_t i = 0; i < words[w].from->count; i++)
            cp_strings_add(words[w].to, words[w].from->items[i]);
    }
}

static int unknown_service(const cp_list *services, const char *name, size_t index, cp_error *err) {
    cp_autofree const char **names = cp_alloc0((services->count + 1) * sizeof *names);
    for (size_t i = 0; i < services->count; i++)
        names[i] = at(services, i)->name;
    const char *near = cp_nearest(name, names, services->count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    cp_autofree char *field = cp_printf("services[%zu].name", index);
    return cp_fail_at(err, CP_E_INVALID, field, hint, "%s is '%.63s'; the workload has no such service", field, name);
}

int cp_services_apply(const cp_list *base, const cp_list *changes, cp_list *ret, cp_error *err) {
    for (size_t c = 0; c < changes->count; c++) {
        const char *name = CP_LIST_AT(changes, cp_service_deploy, c)->name;
        if (!cp_services_find(base, name))
            return unknown_service(base, name, c, err);
        for (size_t other = 0; other < c; other++)
            if (strcmp(CP_LIST_AT(changes, cp_service_deploy, other)->name, name) == 0) {
                cp_autofree char *field = cp_printf("services[%zu].name", c);
                return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is '%s', as is services[%zu].name; name it once",
                                  field, name, other);
            }
    }
    cp_list result = {.items = cp_alloc0((base->count + 1) * sizeof(cp_service)), .count = base->count};
    for (size_t i = 0; i < base->count; i++) {
        cp_service *service = CP_LIST_AT(&result, cp_service, i);
        cp_desc_copy(&cp_service_desc, service, at(base, i));
        for (size_t c = 0; c < changes->count; c++)
            if (strcmp(CP_LIST_AT(changes, cp_service_deploy, c)->name, service->name) == 0)
                overlay(service, CP_LIST_AT(changes, cp_service_deploy, c));
    }
    *ret = result;
    return 0;
}

char *cp_services_hash(const cp_list *services) {
    cp_autojson json_t *array = json_array();
    for (size_t i = 0; i < services->count; i++)
        json_array_append_new(array, cp_desc_json(&cp_service_desc, at(services, i)));
    cp_autofree char *text = cp_json_sorted(array);
    return cp_sha256(text, strlen(text));
}
