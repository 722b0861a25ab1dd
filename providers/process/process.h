/* providers/process/process.h -- What the files of the process provider share; nobody outside this folder includes it.
 *   provider.c          open, adopt, list, status, watch        provider_op.c     the operations, step by step
 *   provider_record.c   instance.json: what is wanted of one    provider_run.c    what a shim is told to run
 *   provider_look.c     what the shims say of one               provider_image.c  images by content hash
 *   provider_prepare.c  copying and hashing them                provider_retain.c removing those that nobody needs
 *   provider_logs.c     reading log files                       provider_exec.c   commands beside a service
 *   provider_child.c    helpers: started, heard, reaped         provider_fs.c     files, folders, ports, groups
 * data_dir holds instances/<id>/, images/<sha256>/, volumes/<workload id>/<name>/ and gone/<id>/ (logs, for an hour).
 * What runs is found again through the folder: a lock, not a pid, says that a shim lives. */
#pragma once
#include "base/table.h"
#include "provider.h"

#include <sys/stat.h>
#include <sys/types.h>

typedef enum { CP_WANTED_RUNNING, CP_WANTED_STOPPED, CP_WANTED_DESTROYED } cp_wanted;

/* instance.json. */
typedef struct cp_record {
    char *instance_id, *name, *workload_id, *workload_slug, *workload_name, *release_id, *tenant_id, *plane_id;
    int64_t replica_index, generation;
    int kind;
    int wanted;        /* cp_wanted */
    char *made;        /* the release whose working copies are complete */
    char *boot_id;     /* of the boot in which its services were started last */
    char *warning;     /* what is not in force here */
    cp_list services;  /* cp_service */
    cp_list endpoints; /* cp_endpoint: every port, in the order of services; host 127.0.0.1 */
} cp_record;
extern const cp_desc cp_record_desc;

typedef struct cp_groups { /* control groups that we may make groups below; NULL: not there or not writable */
    char *unified, *cpu, *memory;
    bool unified_cpu, unified_memory;
} cp_groups;

typedef struct cp_process {
    cp_provider base; /* first */
    char *data_dir, *shim, *plane_id, *boot_id;
    cp_groups groups;
    cp_table *instances; /* id -> cp_proc */
    cp_table *watches;   /* inotify descriptor as text -> cp_proc */
    cp_table *hashes;    /* what was hashed: path -> "dev:ino:size:mtime:ctime sha256 hex", owned */
    cp_table *touched;   /* sha256 hex -> int64_t *: when somebody asked for that image last (loop mono ms) */
    cp_table *ports;     /* "tcp:8080" -> cp_proc: given out */
    int notify;          /* -1: the user has no inotify instance left, so `look` looks again and again */
    cp_timer *look;
    struct event *notify_event;
    cp_provider_hint *hint;
    void *hint_userdata;
    cp_vec children, replies, sources, execs; /* cp_child, pending replies, cp_log_source, execs under way */
    cp_vec jobs, prepares;                    /* provider_prepare.c */
    cp_vec doomed;                            /* provider_retain.c: names below images/ that are to go, owned */
    bool removing, shared; /* a helper removes one of them; another plane's instances are in our folder */
    cp_timer *prune;
} cp_process;

typedef struct cp_proc { /* one instance */
    cp_process *process;
    cp_record record;
    char *dir;
    int watch; /* inotify descriptor, -1: none */
    int followers;
    cp_provider_op *op; /* the operation in flight */
} cp_proc;

/* What is seen of one service. */
typedef struct cp_look {
    bool alive;    /* a shim holds the lock */
    bool known;    /* there is a state file of this boot */
    char word[16]; /* waiting running backoff stopping exited failed stopped; "" when not known */
    int64_t generation, started_ms, restarts;
    int shim, exit_code;
    char message[400];
} cp_look;

/* provider.c */
cp_proc *cp_proc_add(cp_process *process, cp_record *record); /* moves the record in */
void cp_proc_drop(cp_proc *proc);                             /* out of memory; the folder is not touched */
void cp_proc_watch(cp_proc *proc, bool logs);                 /* (again) watch its folder */
void cp_process_hint(cp_process *process, const char *instance_id);

/* provider_record.c */
void cp_record_fill(cp_record *record, const cp_runtime_spec *spec); /* everything but endpoints and made */
int cp_record_save(cp_proc *proc, cp_error *err);
int cp_record_load(const char *dir, cp_record *ret, cp_error *err);
/* Gives every port a number: kept where the port of that name had one. */
int cp_record_ports(cp_process *process, cp_proc *proc, const cp_list *services, cp_error *err);
void cp_record_release_ports(cp_proc *proc);

/* provider_run.c */
int cp_run_write(cp_proc *proc, const cp_service *service, const char *previous_init, cp_error *err);
/* Fills the working copy: configuration files, volume links. dir: the copy; uid, gid -1: leave the owner. */
int cp_run_files(cp_proc *proc, const cp_service *service, const char *dir, cp_error *err);
int cp_run_check(cp_process *process, const cp_service *service, size_t index, cp_error *err); /* at resolve */
typedef struct cp_user {
    uid_t uid;
    gid_t gid;
    char *name, *home;
    gid_t groups[256];
    int count;
} cp_user;
int cp_user_find(const char *text, cp_user *ret, cp_error *err); /* text NULL or "": ourselves. Free name and home */

/* provider_look.c */
void cp_look_service(const cp_proc *proc, const char *service, cp_look *ret);
void cp_look_instance(const cp_proc *proc, cp_observation *ret); /* ret zeroed; cleared by the caller */
bool cp_look_final(const cp_look *look);                         /* exited, failed or stopped */

/* provider_op.c */
int cp_process_operate(cp_provider *provider, cp_op_kind kind, const cp_runtime_spec *spec, cp_provider_done *done,
                       void *userdata, cp_provider_op **ret, cp_error *err);
void cp_process_cancel(cp_provider *provider, cp_provider_op *op);

/* provider_image.c */
enum { CP_IMAGE_HASH = 64 };
typedef struct cp_image_source { /* what the image of a service names; path NULL: nothing that has to be copied */
    char *field, *path, *stamp;
    bool folder;
} cp_image_source;
/* Checks a service as it was asked for. ret: to be cleared, also after a failure. */
int cp_image_source_of(cp_process *process, const cp_service *service, size_t index, cp_image_source *ret,
                       cp_error *err);
void cp_image_source_clear(cp_image_source *source);
int cp_process_resolve(cp_provider *provider, cp_list *services, cp_error *err);
/* Where a resolved image is: its folder or file in the store. *folder: which of both. NULL image: *ret NULL. */
int cp_image_find(cp_process *process, const char *image, char **ret, bool *folder, char **ret_name, cp_error *err);
bool cp_image_is_hash(const char *text);
const char *cp_image_hash(const char *image); /* in "<name>@sha256:<hash>", lent; NULL: not such a name */
bool cp_image_stored(const cp_process *process, const char *hash);
char *cp_image_stamp(const struct stat *st);                                          /* the caller frees */
const char *cp_image_known(cp_process *process, const char *path, const char *stamp); /* the hash, lent; or NULL */
void cp_image_learn(cp_process *process, const char *path, const char *stamp, const char *hash);

/* provider_prepare.c */
int cp_process_prepare(cp_provider *provider, const cp_list *services, cp_provider_done *done, void *userdata,
                       cp_provider_op **ret, cp_error *err);
void cp_prepare_cancel(cp_provider_op *op);
void cp_prepare_drop_all(cp_process *process);
void cp_prepare_keep(const cp_process *process, cp_table *kept); /* adds names below images/ that calls wait for */

/* provider_retain.c */
void cp_process_retain(cp_provider *provider, const cp_strings *images);
void cp_image_touch(cp_process *process, const char *hash);   /* it is not removed in the next minute */
void cp_image_discard(cp_process *process, const char *name); /* a name below images/ that is no image */
void cp_retain_drop(cp_process *process);

/* provider_logs.c */
int cp_process_logs(cp_provider *provider, const char *instance_id, const char *service, const cp_log_options *options,
                    cp_log_sink *sink, void *userdata, cp_log_source **ret, cp_error *err);
void cp_process_logs_free(cp_provider *provider, cp_log_source *source);
void cp_process_logs_wake(cp_process *process, const char *instance_id, bool gone); /* NULL: all followers look again */

/* provider_exec.c */
int cp_process_exec(cp_provider *provider, const char *instance_id, const char *service, const cp_strings *command,
                    int64_t timeout, cp_exec_done *done, void *userdata, cp_provider_op **ret, cp_error *err);
void cp_exec_cancel(cp_provider_op *op);
void cp_exec_drop_all(cp_process *process);

/* Handles share their first member, so that one `cancel` serves all. */
typedef enum { CP_HANDLE_OPERATION, CP_HANDLE_EXEC, CP_HANDLE_PREPARE } cp_handle;

/* provider_child.c: helpers. done is called once from the loop, when the child closed its outputs and was reaped.
 * status: of waitpid, -1 when somebody else reaped it. output: what it wrote on 1 and 2, or with `result` on 1 only. */
typedef struct cp_child cp_child;
typedef struct cp_child_result {
    int status;
    const char *output;
    size_t len;
    const char *result;
    bool truncated;
} cp_child_result;
typedef void cp_child_done(void *userdata, const cp_child_result *result);
/* control: the child's descriptor 0 is a pipe that is closed by cp_child_abandon; else /dev/null. */
int cp_child_start(cp_process *process, const char *const *argv, bool control, cp_child_done *done, void *userdata,
                   cp_child **ret, cp_error *err);
/* done is not called any more; it is still reaped. kill_it: it and its own helpers, which are its process group. */
void cp_child_abandon(cp_child *child, bool kill_it);
void cp_child_free_all(cp_process *process);

/* provider_fs.c */
int cp_fs_fail(cp_error *err, int code, const char *what,
               const char *path);                              /* errno: passing troubles are `unavailable` */
bool cp_fs_passes(const char *text);                           /* does a helper's message tell of such a trouble? */
int cp_fs_mkdir(const char *path, mode_t mode, cp_error *err); /* with its parents; exists: fine */
int cp_fs_write(const char *dir, const char *name, const void *bytes, size_t len, mode_t mode,
                cp_error *err);                                  /* atomic */
char *cp_fs_read(const char *path, size_t max, size_t *ret_len); /* NULL: cannot be read (errno) or larger */
/* Opens the folder that `path` names below root without following any link, making what is missing; -1 and errno. */
int cp_fs_folder_below(int root, const char *path, char **ret_last, uid_t uid, gid_t gid);
typedef enum cp_fs_lock { CP_FS_FREE, CP_FS_HELD, CP_FS_UNKNOWN } cp_fs_lock;
cp_fs_lock cp_fs_lock_of(const char *path); /* unknown: short of descriptors, say; nobody may be taken for dead then */
int cp_fs_connect(const char *dir, const char *name); /* a unix socket by a path of any length; -1 and errno */
int cp_fs_port_free(int port, bool udp);              /* 1: free; 0: taken; -1 and errno: it cannot be tried */
void cp_groups_find(cp_groups *groups);
void cp_groups_clear(cp_groups *groups);
