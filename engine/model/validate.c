/* engine/model/validate.c -- The rules for one service that its descriptor cannot say: names, paths, ports, probes,
 * files. Rules between services are in validate_all.c. Each error carries the path of its field. */
#include "model/validate.h"
#include "base/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Not empty, and no longer than a descriptor lets it be. */
bool cp_is_dns_label(const char *text) {
    size_t len = strlen(text);
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && text[0] != '-' && text[len - 1] != '-';
}

/* Lower case, and runs of anything else as one dash: what the user probably meant. NULL when nothing is left. */
static char *as_label(const char *text) {
    char *slug = NULL;
    cp_autoerror cp_error ignored = {0};
    if (strpbrk(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == NULL ||
        cp_slug_make(text, &slug, &ignored) < 0)
        return NULL;
    return slug;
}

static int check_label(const char *text, const char *field, cp_error *err) {
    if (cp_is_dns_label(text))
        return 0;
    cp_autofree char *label = as_label(text);
    cp_autofree char *hint = label ? cp_printf("'%s' would do", label) : NULL;
    return cp_refuse(err, field, hint, "is '%.80s'; it must be a DNS label: a-z, 0-9 and inner dashes, at most %d",
                     text, CP_MAX_NAME);
}

/* A control character in a one-line text. */
static int check_line(const char *text, const char *field, cp_error *err) {
    for (const char *c = text; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return cp_refuse(err, field, NULL, "contains the control character 0x%02x", (unsigned)(unsigned char)*c);
    return 0;
}

/* A path that cannot lead out of where it is put. */
static int check_path(const char *text, const char *field, cp_error *err) {
    if (text[strspn(text, "/.")] == '\0')
        return cp_refuse(err, field, NULL, "is '%.80s'; it must name something inside the working copy", text);
    for (const char *part = text; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strcspn(part, "/") == 2 && strncmp(part, "..", 2) == 0)
            return cp_refuse(err, field, NULL, "is '%.80s'; '..' would lead out of the working copy", text);
    }
    return check_line(text, field, err);
}

static int check_env(const cp_service *service, const char *path, cp_error *err) {
    for (size_t i = 0; i < service->env.count; i++) {
        const char *key = service->env.items[i].key, *value = service->env.items[i].value;
        cp_autofree char *field = cp_printf("%s.env.%s", path, key);
        if (!*key || strpbrk(key, "= "))
            return cp_refuse(err, field, NULL, "has a name that no environment variable can have: no '=', no blanks");
        int r = check_line(key, field, err);
        if (r < 0)
            return r;
        if (strncmp(key, "CTRLPLANE_", 10) == 0)
            return cp_refuse(err, field, NULL, "is reserved: names starting CTRLPLANE_ are set by the engine");
        if (strlen(value) > CP_MAX_ENV_VALUE)
            return cp_refuse(err, field, "a config file holds more", "has %zu bytes; at most %d", strlen(value),
                             CP_MAX_ENV_VALUE);
    }
    return 0;
}

static int check_words(const cp_strings *words, const char *path, const char *name, cp_error *err) {
    for (size_t i = 0; i < words->count; i++) {
        cp_autofree char *field = cp_printf("%s.%s[%zu]", path, name, i);
        if (strlen(words->items[i]) > CP_MAX_ARG)
            return cp_refuse(err, field, NULL, "has %zu bytes; at most %d", strlen(words->items[i]), CP_MAX_ARG);
        if (i == 0 && !*words->items[0] && strcmp(name, "args") != 0)
            return cp_refuse(err, field, NULL, "is \"\"; give the program to run");
    }
    return 0;
}

static int check_ports(const cp_service *service, const char *path, cp_error *err) {
    for (size_t i = 0; i < service->ports.count; i++) {
        const cp_port *port = CP_LIST_AT(&service->ports, cp_port, i);
        cp_autofree char *name = cp_printf("%s.ports[%zu].name", path, i);
        cp_autofree char *protocol = cp_printf("%s.ports[%zu].protocol", path, i);
        int r = check_label(port->name, name, err);
        if (r < 0)
            return r;
        if (port->name[strspn(port->name, "0123456789")] == '\0')
            return cp_refuse(err, name, NULL, "is '%s'; a name needs a letter, else it reads as a number", port->name);
        if (!cp_streq(port->protocol, "tcp") && !cp_streq(port->protocol, "udp"))
            return cp_refuse(err, protocol, NULL, "is '%.40s'; it must be tcp or udp",
                             port->protocol ? port->protocol : "");
        for (size_t other = 0; other < i; other++)
            if (strcmp(port->name, CP_LIST_AT(&service->ports, cp_port, other)->name) == 0)
                return cp_refuse(err, name, NULL, "is '%s', as is %s.ports[%zu].name; names of ports are unique",
                                 port->name, path, other);
    }
    return 0;
}

static int check_volumes(const cp_service *service, const char *path, cp_error *err) {
    for (size_t i = 0; i < service->volumes.count; i++) {
        const cp_volume *volume = CP_LIST_AT(&service->volumes, cp_volume, i);
        cp_autofree char *name = cp_printf("%s.volumes[%zu].name", path, i);
        cp_autofree char *mount = cp_printf("%s.volumes[%zu].mount_path", path, i);
        cp_autofree char *type = cp_printf("%s.volumes[%zu].type", path, i);
        int r = check_label(volume->name, name, err);
        r = r < 0 ? r : check_path(volume->mount_path, mount, err);
        if (r < 0)
            return r;
        if (!cp_streq(volume->type, "persistent"))
            return cp_refuse(err, type, NULL, "is '%.40s'; the only type is persistent",
                             volume->type ? volume->type : "");
        for (size_t other = 0; other < i; other++) {
            const cp_volume *before = CP_LIST_AT(&service->volumes, cp_volume, other);
            if (strcmp(volume->name, before->name) == 0)
                return cp_refuse(err, name, NULL, "is '%s', as is %s.volumes[%zu].name; names of volumes are unique",
                                 volume->name, path, other);
            if (strcmp(volume->mount_path, before->mount_path) == 0)
                return cp_refuse(err, mount, NULL, "is '%.80s', as is %s.volumes[%zu].mount_path", volume->mount_path,
                                 path, other);
        }
    }
    return 0;
}

static int check_mode(const char *mode, const char *field, cp_error *err) {
    if (mode && strlen(mode) >= 3 && mode[strspn(mode, "01234567")] == '\0' && strtol(mode, NULL, 8) <= 07777)
        return 0;
    return cp_refuse(err, field, NULL, "is '%.20s'; write the permissions in octal, like \"0644\"", mode ? mode : "");
}

static int check_config_files(const cp_service *service, const char *path, cp_error *err) {
    for (size_t i = 0; i < service->config_files.count; i++) {
        const cp_config_file *file = CP_LIST_AT(&service->config_files, cp_config_file, i);
        cp_autofree char *name = cp_printf("%s.config_files[%zu].name", path, i);
        cp_autofree char *where = cp_printf("%s.config_files[%zu].path", path, i);
        cp_autofree char *mode = cp_printf("%s.config_files[%zu].mode", path, i);
        int r = check_line(file->name, name, err);
        r = r < 0 ? r : check_path(file->path, where, err);
        r = r < 0 ? r : check_mode(file->mode, mode, err);
        if (r < 0)
            return r;
        for (size_t other = 0; other < i; other++) {
            const cp_config_file *before = CP_LIST_AT(&service->config_files, cp_config_file, other);
            if (strcmp(file->name, before->name) == 0)
                return cp_refuse(err, name, NULL, "is '%s', as is %s.config_files[%zu].name; names are unique",
                                 file->name, path, other);
            if (strcmp(file->path, before->path) == 0)
                return cp_refuse(err, where, NULL, "is '%.80s', as is %s.config_files[%zu].path", file->path, path,
                                 other);
        }
    }
    return 0;
}

/* The port of a check: a name of this service's, a number, or nothing for the first. */
static int check_probe_port(const cp_service *service, const char *field, cp_error *err) {
    const char *port = service->health_check->port;
    if (cp_is_empty(port)) {
        if (service->ports.count)
            return 0;
        return cp_refuse(err, field, NULL, "is missing and service %s has no port to take; name one", service->name);
    }
    if (port[strspn(port, "0123456789")] == '\0') {
        errno = 0;
        long number = strtol(port, NULL, 10);
        return errno == 0 && number >= 1 && number <= 65535
                   ? 0
                   : cp_refuse(err, field, NULL, "is %.40s; it must be 1..65535", port);
    }
    cp_autofree const char **names = cp_alloc0((service->ports.count + 1) * sizeof *names);
    for (size_t i = 0; i < service->ports.count; i++) {
        names[i] = CP_LIST_AT(&service->ports, cp_port, i)->name;
        if (strcmp(names[i], port) == 0)
            return 0;
    }
    const char *near = cp_nearest(port, names, service->ports.count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return cp_refuse(err, field, hint, "is '%.63s'; service %s has no such port", port, service->name);
}

static int check_health(const cp_service *service, const char *path, cp_error *err) {
    const cp_health_check *check = service->health_check;
    if (!check)
        return 0;
    cp_autofree char *self = cp_printf("%s.health_check", path);
    cp_autofree char *type = cp_printf("%s.type", self);
    cp_autofree char *command = cp_printf("%s.command", self);
    cp_autofree char *url = cp_printf("%s.path", self);
    cp_autofree char *port = cp_printf("%s.port", self);
    if (service->role == CP_ROLE_INIT)
        return cp_refuse(err, self, NULL, "is given, but %s is an init: it is done when it exits with 0",
                         service->name);
    if (check->type == CP_CHECK_GRPC)
        return cp_fail_at(err, CP_E_UNSUPPORTED, type, "use tcp or command",
                          "%s is grpc, which this engine cannot probe yet", type);
    if (check->type == CP_CHECK_COMMAND) {
        if (!check->command.count)
            return cp_refuse(err, command, NULL, "is missing; a check of type command needs one");
        return check_words(&check->command, self, "command", err);
    }
    if (check->command.count)
        return cp_refuse(err, command, "set type to command", "is given, but the type is %s",
                         check->type == CP_CHECK_TCP ? "tcp" : "http");
    if (check->type == CP_CHECK_HTTP && (check->path[0] != '/' || strpbrk(check->path, " #")))
        return cp_refuse(err, url, NULL, "is '%.80s'; it must start with / and have no blanks or #", check->path);
    int r = check_line(check->path, url, err);
    return r < 0 ? r : check_probe_port(service, port, err);
}

static int check_stop_signal(const cp_service *service, const char *path, cp_error *err) {
    static const char *const KNOWN[] = {"TERM", "INT", "HUP", "QUIT", "KILL", "USR1", "USR2", "WINCH"};
    const char *name = service->stop_signal ? service->stop_signal : "";
    for (size_t i = 0; i < CP_COUNT(KNOWN); i++)
        if (strcmp(name, KNOWN[i]) == 0)
            return 0;
    const char *near = cp_nearest(strncmp(name, "SIG", 3) == 0 ? name + 3 : name, KNOWN, CP_COUNT(KNOWN));
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    cp_autofree char *field = cp_printf("%s.stop_signal", path);
    return cp_refuse(err, field, hint, "is '%.20s'; known: TERM, INT, HUP, QUIT, KILL, USR1, USR2, WINCH", name);
}

static int check_texts(const cp_service *service, const char *path, cp_error *err) {
    const struct {
        const char *name, *text;
    } lines[] = {{"image", service->image}, {"user", service->user}, {"workdir", service->workdir}};
    for (size_t i = 0; i < CP_COUNT(lines); i++) {
        cp_autofree char *field = cp_printf("%s.%s", path, lines[i].name);
        int r = check_line(lines[i].text, field, err);
        if (r < 0)
            return r;
    }
    cp_autofree char *image = cp_printf("%s.image", path);
    if (cp_is_empty(service->image))
        return service->command.count ? 0 : cp_refuse(err, image, NULL, "is empty; give an image, or a command");
    if (service->image[strspn(service->image, " ")] == '\0')
        return cp_refuse(err, image, NULL, "is blank; give an image");
    return 0;
}

int cp_service_check(const cp_service *service, const char *path, cp_error *err) {
    cp_autofree char *name = cp_printf("%s.name", path);
    cp_autofree char *annotations = cp_printf("%s.annotations", path);
    cp_autofree char *secrets = cp_printf("%s.secrets", path);
    int r = check_label(service->name, name, err);
    r = r < 0 ? r : check_texts(service, path, err);
    r = r < 0 ? r : check_env(service, path, err);
    r = r < 0 ? r : check_words(&service->command, path, "command", err);
    r = r < 0 ? r : check_words(&service->args, path, "args", err);
    r = r < 0 ? r : check_ports(service, path, err);
    r = r < 0 ? r : check_volumes(service, path, err);
    r = r < 0 ? r : check_config_files(service, path, err);
    r = r < 0 ? r : check_health(service, path, err);
    r = r < 0 ? r : check_stop_signal(service, path, err);
    r = r < 0 ? r : cp_labels_check(&service->annotations, annotations, err);
    if (r >= 0 && service->secrets.count)
        return cp_fail_at(err, CP_E_UNSUPPORTED, secrets, "use env", "%s is given; this engine keeps no secrets yet",
                          secrets);
    return r;
}

int cp_labels_check(const cp_map *labels, const char *path, cp_error *err) {
    for (size_t i = 0; i < labels->count; i++) {
        const char *key = labels->items[i].key, *value = labels->items[i].value;
        cp_autofree char *field = cp_printf("%s.%s", path, key);
        size_t len = strlen(key);
        if (strncmp(key, "ctrlplane.", 10) == 0)
            return cp_refuse(err, field, NULL, "is reserved: labels starting ctrlplane. are set by the engine");
        if (len < 1 || len > CP_MAX_LABEL_KEY ||
            strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != len)
            return cp_refuse(err, field, NULL, "has a key that is not 1..%d of letters, digits, '.', '_', '-' and '/'",
                             CP_MAX_LABEL_KEY);
        if (strlen(value) > CP_MAX_LABEL_VALUE)
            return cp_refuse(err, field, NULL, "has %zu bytes; at most %d", strlen(value), CP_MAX_LABEL_VALUE);
        int r = check_line(value, field, err);
        if (r < 0)
            return r;
    }
    return 0;
}
