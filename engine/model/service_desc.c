/* engine/model/service_desc.c -- Descriptors of what a user writes about a service, with defaults and bounds.
 * Rules that look at more than one field are in validate.c. */
#include "base/limits.h"
#include "model/entity.h"
#include "model/fields.h"

#define BIG 1e12 /* resources: no machine has more; keeps sums of them exact */

const char *const cp_kinds[] = {"deployment", "stateful_set", NULL};
const char *const cp_service_roles[] = {"main", "sidecar", "init", NULL};
static const char *const restart_policies[] = {"always", "on_failure", "never", NULL};
static const char *const check_types[] = {"http", "tcp", "grpc", "command", NULL};

#define STRUCT cp_resources
static const cp_field resources_fields[] = {
    FIELD(CP_INT, cpu_millis, "CPU in thousandths of a core; 0: no limit", BOUNDS(0, BIG)),
    FIELD(CP_INT, memory_mb, "memory in MiB; 0: no limit", BOUNDS(0, BIG)),
    FIELD(CP_INT, disk_mb, "disk in MiB; 0: no limit", BOUNDS(0, BIG)),
    FIELD(CP_INT, gpu, "number of GPUs", BOUNDS(0, 1024)),
};
DESC(resources, CP_NONE, .doc = "What a service may use.");
#undef STRUCT

#define STRUCT cp_port
static void port_init(void *object) {
    cp_port *port = object;
    port->protocol = cp_strdup("tcp");
}
static const cp_field port_fields[] = {
    FIELD(CP_STRING, name, "name of the port: ${port.<name>}, PORT_<NAME>", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_NAME)),
    FIELD(CP_INT, container, "port inside a container, where the runtime has containers", BOUNDS(1, 65535)),
    FIELD(CP_INT, host, "fixed port on the host; without it each instance gets a free one", BOUNDS(1, 65535)),
    FIELD(CP_STRING, protocol, "tcp or udp", DEFAULT("tcp")),
};
DESC(port, CP_NONE, .init = port_init, .doc = "A port that a service listens on.");
#undef STRUCT

#define STRUCT cp_volume
static void volume_init(void *object) {
    cp_volume *volume = object;
    volume->type = cp_strdup("persistent");
}
static const cp_field volume_fields[] = {
    FIELD(CP_STRING, name, "name of the volume, unique in the service", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_NAME)),
    FIELD(CP_STRING, mount_path, "where the service finds it", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_PATH)),
    FIELD(CP_INT, size_mb, "size in MiB, where the runtime can limit it", BOUNDS(0, BIG)),
    FIELD(CP_STRING, type, "persistent", DEFAULT("persistent")),
};
DESC(volume, CP_NONE, .init = volume_init, .doc = "A folder that outlives the process that writes to it.");
#undef STRUCT

#define STRUCT cp_secret_ref
static const cp_field secret_ref_fields[] = {
    FIELD(CP_STRING, key, "name of the secret", FLAGS(CP_REQUIRED), BOUNDS(0, 255)),
    FIELD(CP_STRING, env, "environment variable that receives it", FLAGS(CP_REQUIRED), BOUNDS(0, 255)),
};
DESC(secret_ref, CP_NONE, .doc = "A secret by reference.");
#undef STRUCT

#define STRUCT cp_config_file
static void config_file_init(void *object) {
    cp_config_file *file = object;
    file->mode = cp_strdup("0644");
}
static const cp_field config_file_fields[] = {
    FIELD(CP_STRING, name, "name, unique in the service", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_NAME)),
    FIELD(CP_STRING, path, "where the file is written, inside the working copy", FLAGS(CP_REQUIRED),
          BOUNDS(0, CP_MAX_PATH)),
    FIELD(CP_STRING, format, "what the content is, for people and tools: json, yaml, ini ...", BOUNDS(0, 32)),
    FIELD(
        CP_STRING, content,
        "the text; ${port.<name>}, ${instance.id|name|index} and ${workload.name|slug} are replaced, $${ is a literal "
        "${, everything else stays as it is",
        BOUNDS(0, CP_MAX_CONFIG_FILE)),
    FIELD(CP_STRING, mode, "permissions as octal text", DEFAULT("0644"), BOUNDS(0, 5)),
};
DESC(config_file, CP_NONE, .init = config_file_init, .doc = "A file that is written before the service starts.");
#undef STRUCT

#define STRUCT cp_health_check
static void health_check_init(void *object) {
    cp_health_check *check = object;
    check->path = cp_strdup("/");
    check->interval = 10000;
    check->timeout = 5000;
    check->retries = 3;
}
static const cp_field health_check_fields[] = {
    FIELD(CP_ENUM, type, "how to ask", WORDS(check_types), DEFAULT("http")),
    FIELD(CP_STRING, port, "name or number of the port", FLAGS(CP_NUMBER_OK), DEFAULT("the first port"),
          BOUNDS(0, CP_MAX_NAME)),
    FIELD(CP_STRING, path, "path of the request (http)", DEFAULT("/"), BOUNDS(1, CP_MAX_PATH)),
    FIELD(CP_STRINGS, command, "command that exits with 0 when the service is healthy (command)",
          BOUNDS(0, CP_MAX_ARGS)),
    FIELD(CP_DURATION, interval, "time between two checks", DEFAULT("10s"), BOUNDS(10, CP_MAX_INTERVAL)),
    FIELD(CP_DURATION, timeout, "time that a check may take", DEFAULT("5s"), BOUNDS(1, CP_MAX_PROBE_TIMEOUT)),
    FIELD(CP_INT, retries, "failures in a row that make it unhealthy", DEFAULT("3"), BOUNDS(1, 100)),
    FIELD(CP_DURATION, start_period, "time after a start in which failures do not count", DEFAULT("0s"),
          BOUNDS(0, CP_MAX_INTERVAL)),
};
DESC(health_check, CP_NONE, .init = health_check_init, .doc = "How to tell that a service is ready.");
#undef STRUCT

#define STRUCT cp_service
static void service_init(void *object) {
    cp_service *service = object;
    service->stop_signal = cp_strdup("TERM");
    service->stop_timeout = 10000;
}
static const cp_field service_fields[] = {
    FIELD(CP_STRING, name, "a DNS label, unique in the workload", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_NAME)),
    FIELD(
        CP_STRING, image,
        "what to run: an executable or a folder (process), an image reference (containers); absent: the command is one "
        "of the host",
        BOUNDS(0, CP_MAX_PATH)),
    FIELD(CP_ENUM, role, "main, sidecar or init; exactly one service is main", WORDS(cp_service_roles),
          DEFAULT("main")),
    FIELD(CP_STRINGS, depends_on, "services that must run (an init: must have ended well) before this one starts",
          BOUNDS(0, CP_MAX_SERVICES)),
    FIELD(CP_OBJECT, resources, "what the service may use", OF(cp_resources_desc)),
    FIELD(CP_MAP, env, "environment variables; ${port.<name>} and the like are replaced", BOUNDS(0, CP_MAX_ENV)),
    FIELD(CP_LIST, ports, "ports that the service listens on", OF(cp_port_desc), BOUNDS(0, CP_MAX_PORTS)),
    FIELD(CP_LIST, volumes, "folders that outlive the process", OF(cp_volume_desc), BOUNDS(0, CP_MAX_VOLUMES)),
    FIELD(CP_POINTER, health_check, "how to tell that it is ready; without one when it has run for a second",
          OF(cp_health_check_desc), FLAGS(CP_NULLABLE)),
    FIELD(CP_LIST, secrets, "secrets by reference", OF(cp_secret_ref_desc), BOUNDS(0, CP_MAX_ENV)),
    FIELD(CP_LIST, config_files, "files that are written before it starts", OF(cp_config_file_desc),
          BOUNDS(0, CP_MAX_CONFIG_FILES)),
    FIELD(CP_MAP, annotations, "notes for people and tools; the engine does not read them", BOUNDS(0, CP_MAX_LABELS)),
    FIELD(CP_STRINGS, command, "command to run instead of the image's own", BOUNDS(0, CP_MAX_ARGS)),
    FIELD(CP_STRINGS, args, "arguments behind the command", BOUNDS(0, CP_MAX_ARGS)),
    FIELD(CP_ENUM, restart, "when the runtime starts it again after an exit", WORDS(restart_policies),
          DEFAULT("always")),
    FIELD(CP_STRING, user, "user to run as: a name or a number", FLAGS(CP_NUMBER_OK), BOUNDS(0, 256)),
    FIELD(CP_STRING, workdir, "working directory", BOUNDS(0, CP_MAX_PATH)),
    FIELD(CP_STRING, stop_signal, "signal that asks it to end", DEFAULT("TERM"), BOUNDS(0, 16)),
    FIELD(CP_DURATION, stop_timeout, "time between that signal and the kill", FLAGS(CP_KEEP_EMPTY), DEFAULT("10s"),
          BOUNDS(0, CP_MAX_INTERVAL)),
};
DESC(service, offsetof(STRUCT, present), .init = service_init, .doc = "One process of a replica.");
#undef STRUCT

#define STRUCT cp_service_deploy
static const cp_field service_deploy_fields[] = {
    FIELD(CP_STRING, name, "the service to change", FLAGS(CP_REQUIRED), BOUNDS(0, CP_MAX_NAME)),
    FIELD(CP_STRING, image, "the new image", BOUNDS(1, CP_MAX_PATH)),
    FIELD(CP_MAP, env, "replaces all environment variables", BOUNDS(0, CP_MAX_ENV)),
    FIELD(CP_POINTER, health_check, "replaces the health check; null removes it", OF(cp_health_check_desc),
          FLAGS(CP_NULLABLE)),
    FIELD(CP_STRINGS, command, "replaces the command", BOUNDS(0, CP_MAX_ARGS)),
    FIELD(CP_STRINGS, args, "replaces the arguments", BOUNDS(0, CP_MAX_ARGS)),
};
DESC(service_deploy, offsetof(STRUCT, present),
     .doc = "What a deploy changes of a service; what it does not name stays.");
#undef STRUCT
