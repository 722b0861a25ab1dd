/* providers/process/shim.h -- What the three files of ctrlplane-shim share.
 *   shim.c        the life of a service: order, restarts, stop, state file, socket, lock; main
 *   shim_log.c    its log file              shim_child.c  becoming the service, and ending what it left
 * Plain C and libc in one process of less than a megabyte; must not know the engine, Lua, JSON or SQLite. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

enum { SHIM_PIECE = 16 << 10 }; /* bytes of a line in one log record; longer lines are several records, flagged P */

typedef struct shim_run_spec { /* SERVICE.run; lists end with NULL */
    char **argv, **env, **after, **done, **cgroups, **groups;
    const char *instance, *generation, *workdir, *restart, *oom; /* workdir, oom: may be NULL */
    long uid, gid, memory, stop_signal, stop_timeout;            /* memory: RLIMIT_AS, 0: not limited this way */
    long backoff, log_max;                                       /* ms, of the first; bytes of a log file */
} shim_run_spec;
extern shim_run_spec shim_run;

typedef struct shim_stream {
    int fd;
    const char *name;
    size_t len;
    bool open; /* the last record of it is a piece of an unfinished line */
    bool skip; /* a piece of this line was lost: the rest of it is dropped, too */
    char text[SHIM_PIECE];
} shim_stream;

typedef struct shim_failure { /* what a child could not do before it became the service */
    int code;
    char what[200];
} shim_failure;

extern const char *shim_service;
extern shim_stream shim_out, shim_err;

/* shim_child.c */
#define shim_die(...) (dprintf(2, __VA_ARGS__), exit(1)) /* 2: to whoever started us, until it was answered */
bool shim_is(const char *a, const char *b);
int64_t shim_ms(clockid_t clock);
const char *shim_file(const char *suffix);                  /* SERVICE.suffix; lent until the fourth next call */
bool shim_slurp(const char *path, char *text, size_t size); /* a small file, lines as records; false: not readable */
const char *shim_value(const char *records, const char *key, const char *otherwise); /* lent: it points into them */
void shim_enter(const char *dir);                          /* a clean process, in dir, that knows what to run */
int shim_signals(void);                                    /* all blocked; a descriptor that tells of them */
pid_t shim_start(int out_fd, int err_fd, shim_failure *f); /* comes back when it was exec'ed; -1: see *f */
void shim_kill_children(bool groups);                      /* and whatever is in the control groups */
void shim_groups_remove(void);
long shim_oom_kills(void);
void shim_sweep(void);
int shim_mode_exec(const char *dir, char **argv);

/* shim_log.c */
void shim_log_open(void);
void shim_log_flush(void);
bool shim_log_read(shim_stream *s); /* once; false when there is nothing now, or no more */
void shim_log_end(shim_stream *s);  /* what is left belongs to the log; nobody's pipe is waited for */
bool shim_log_owes(void);           /* lines were lost, and the log does not say so yet */
