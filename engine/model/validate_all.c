/* engine/model/validate_all.c -- The rules between the services of a workload: one main, dependencies without a
 * cycle, ports that do not collide, and references that mean something. */
#include "base/limits.h"
#include "base/table.h"
#include "model/validate.h"

#include <inttypes.h>
#include <string.h>

static const cp_service *at(const cp_list *services, size_t index) {
    return CP_LIST_AT(services, cp_service, index);
}

static size_t find(const cp_list *services, const char *name) {
    for (size_t i = 0; i < services->count; i++)
        if (strcmp(at(services, i)->name, name) == 0)
            return i;
    return services->count;
}

static int check_names(const cp_list *services, const char *path, cp_error *err) {
    for (size_t i = 0; i < services->count; i++) {
        size_t first = find(services, at(services, i)->name);
        if (first == i)
            continue;
        cp_autofree char *field = cp_printf("%s[%zu].name", path, i);
        return cp_refuse(err, field, NULL, "is '%s', as is %s[%zu].name; names of services are unique",
                         at(services, i)->name, path, first);
    }
    return 0;
}

static int check_main(const cp_list *services, const char *path, cp_error *err) {
    size_t first = services->count;
    for (size_t i = 0; i < services->count; i++) {
        if (at(services, i)->role != CP_ROLE_MAIN)
            continue;
        if (first < services->count) {
            cp_autofree char *field = cp_printf("%s[%zu].role", path, i);
            return cp_refuse(err, field, "give the others the role sidecar or init",
                             "is main, as is that of '%s'; exactly one service is main", at(services, first)->name);
        }
        first = i;
    }
    if (first == services->count)
        return cp_refuse(err, path, NULL, "has no service with the role main; exactly one is");
    return 0;
}

static int check_dependency(const cp_list *services, size_t index, size_t d, const char *path, cp_error *err) {
    const cp_service *service = at(services, index);
    const char *name = service->depends_on.items[d];
    cp_autofree char *field = cp_printf("%s[%zu].depends_on[%zu]", path, index, d);
    size_t target = find(services, name);
    if (target == services->count) {
        cp_autofree const char **names = cp_alloc0(services->count * sizeof *names);
        for (size_t i = 0; i < services->count; i++)
            names[i] = i == index ? NULL : at(services, i)->name;
        const char *near = cp_nearest(name, names, services->count);
        cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
        return cp_refuse(err, field, hint, "is '%.63s'; there is no such service", name);
    }
    if (service->role == CP_ROLE_INIT && at(services, target)->role != CP_ROLE_INIT)
        return cp_refuse(err, field, NULL,
                         "is '%s', which starts only after every init has ended; an init can depend "
                         "on an init only",
                         name);
    return 0;
}

/* Depth first; trail holds the way from the start to here. The first edge that leads back into it is the cycle. */
static int walk(const cp_list *services, size_t index, size_t *trail, size_t depth, bool *done, const char *path,
                cp_error *err) {
    trail[depth] = index;
    const cp_strings *depends = &at(services, index)->depends_on;
    for (size_t d = 0; d < depends->count; d++) {
        size_t target = find(services, depends->items[d]);
        for (size_t i = 0; i <= depth; i++) {
            if (trail[i] != target)
                continue;
            cp_autobuf cp_buf cycle = {0};
            for (; i <= depth; i++)
                cp_buf_printf(&cycle, "%s -> ", at(services, trail[i])->name);
            cp_autofree char *field = cp_printf("%s[%zu].depends_on[%zu]", path, index, d);
            return cp_refuse(err, field, NULL, "closes a cycle: %s%s", cycle.data, at(services, target)->name);
        }
        int r = done[target] ? 0 : walk(services, target, trail, depth + 1, done, path, err);
        if (r < 0)
            return r;
    }
    done[index] = true;
    return 0;
}

static int check_dependencies(const cp_list *services, const char *path, cp_error *err) {
    for (size_t i = 0; i < services->count; i++)
        for (size_t d = 0; d < at(services, i)->depends_on.count; d++) {
            int r = check_dependency(services, i, d, path, err);
            if (r < 0)
                return r;
        }
    size_t trail[CP_MAX_SERVICES + 1];
    bool done[CP_MAX_SERVICES] = {false};
    for (size_t i = 0; i < services->count; i++) {
        int r = done[i] ? 0 : walk(services, i, trail, 0, done, path, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Services of a replica share one network: no two may want the same port of it, nor of the host. */
static int check_port_numbers(const cp_list *services, const char *path, cp_error *err) {
    struct {
        int64_t number;
        const char *protocol, *kind, *field;
    } seen[2 * CP_MAX_SERVICES * CP_MAX_PORTS];
    size_t count = 0;
    int r = 0;
    for (size_t s = 0; s < services->count && r == 0; s++)
        for (size_t p = 0; p < at(services, s)->ports.count && r == 0; p++) {
            const cp_port *port = CP_LIST_AT(&at(services, s)->ports, cp_port, p);
            for (int host = 0; host <= 1 && r == 0; host++) {
                int64_t number = host ? port->host : port->container;
                const char *kind = host ? "host" : "container";
                if (!number)
                    continue;
                char *field = cp_printf("%s[%zu].ports[%zu].%s", path, s, p, kind);
                for (size_t i = 0; i < count && r == 0; i++)
                    if (seen[i].number == number && seen[i].kind == kind &&
                        strcmp(seen[i].protocol, port->protocol) == 0)
                        r = cp_refuse(err, field, NULL, "is %" PRId64 ", as is %s", number, seen[i].field);
                seen[count].number = number;
                seen[count].protocol = port->protocol;
                seen[count].kind = kind;
                seen[count++].field = field;
            }
        }
    for (size_t i = 0; i < count; i++)
        cp_freep(&seen[i].field);
    return r;
}

/* A lookup for validation: knows which names exist, not what they stand for. */
typedef struct checked {
    const cp_list *services;
    const cp_service *own;
    char *unknown;
} checked;

static const char *const FIXED[] = {"instance.id", "instance.name", "instance.index", "workload.name", "workload.slug"};

static const char *lookup(void *userdata, const char *name) {
    checked *check = userdata;
    for (size_t i = 0; i < CP_COUNT(FIXED); i++)
        if (strcmp(name, FIXED[i]) == 0)
            return "";
    const cp_service *owner;
    if (strncmp(name, "port.", 5) == 0 && cp_services_port(check->services, check->own, name + 5, &owner))
        return "";
    check->unknown = cp_strdup(name);
    return NULL;
}

static int unknown_reference(const checked *check, const char *field, cp_error *err) {
    cp_vec names = {0};
    for (size_t i = 0; i < CP_COUNT(FIXED); i++)
        cp_vec_push(&names, cp_strdup(FIXED[i]));
    for (size_t s = 0; s < check->services->count; s++)
        for (size_t p = 0; p < at(check->services, s)->ports.count; p++)
            cp_vec_push(&names, cp_printf("port.%s", CP_LIST_AT(&at(check->services, s)->ports, cp_port, p)->name));
    const char *near = cp_nearest(check->unknown, (const char *const *)names.items, names.count);
    cp_autofree char *hint =
        near ? cp_printf("did you mean '%s'? ($${ is a literal ${)", near) : cp_strdup("write $${ for a literal ${");
    int r = cp_refuse(err, field, hint, "refers to ${%.80s}, which is not known", check->unknown);
    for (size_t i = 0; i < names.count; i++)
        cp_freep(&names.items[i]);
    cp_vec_clear(&names);
    return r;
}

/* Takes field. */
static int check_text(const cp_list *services, const cp_service *own, const char *text, char *field, cp_error *err) {
    cp_autofree char *where = field, *out = NULL;
    checked check = {.services = services, .own = own};
    cp_autoerror cp_error ignored = {0};
    if (!text || cp_expand(text, lookup, &check, &out, &ignored) == 0)
        return 0;
    int r = unknown_reference(&check, where, err);
    cp_freep(&check.unknown);
    return r;
}

static int check_references(const cp_list *services, size_t index, const char *path, cp_error *err) {
    const cp_service *own = at(services, index);
    int r = 0;
    for (size_t i = 0; i < own->env.count && r == 0; i++)
        r = check_text(services, own, own->env.items[i].value,
                       cp_printf("%s[%zu].env.%s", path, index, own->env.items[i].key), err);
    for (size_t i = 0; i < own->command.count && r == 0; i++)
        r = check_text(services, own, own->command.items[i], cp_printf("%s[%zu].command[%zu]", path, index, i), err);
    for (size_t i = 0; i < own->args.count && r == 0; i++)
        r = check_text(services, own, own->args.items[i], cp_printf("%s[%zu].args[%zu]", path, index, i), err);
    for (size_t i = 0; i < own->config_files.count && r == 0; i++)
        r = check_text(services, own, CP_LIST_AT(&own->config_files, cp_config_file, i)->content,
                       cp_printf("%s[%zu].config_files[%zu].content", path, index, i), err);
    return r;
}

int cp_services_check(const cp_list *services, int kind, const char *path, cp_error *err) {
    (void)kind; /* both kinds take the same services */
    if (services->count < 1 || services->count > CP_MAX_SERVICES)
        return cp_refuse(err, path, NULL, "has %zu services; it must have 1..%d", services->count, CP_MAX_SERVICES);
    int r = 0;
    for (size_t i = 0; i < services->count && r == 0; i++) {
        cp_autofree char *each = cp_printf("%s[%zu]", path, i);
        r = cp_service_check(at(services, i), each, err);
    }
    r = r < 0 ? r : check_names(services, path, err);
    r = r < 0 ? r : check_main(services, path, err);
    r = r < 0 ? r : check_dependencies(services, path, err);
    r = r < 0 ? r : check_port_numbers(services, path, err);
    for (size_t i = 0; i < services->count && r == 0; i++)
        r = check_references(services, i, path, err);
    return r;
}
