/* engine/base/limits.h -- Every bound on what comes from outside, with its reason. Knows nothing else. */
#pragma once

#define CP_MAX_BODY (1 << 20)       /* request body, bytes */
#define CP_MAX_JSON_DEPTH 32        /* nesting of JSON from outside */
#define CP_MAX_SERVICES 32          /* per workload */
#define CP_MAX_ENV 512              /* entries per service */
#define CP_MAX_ENV_VALUE (32 << 10) /* bytes per value: several fit in execve's 128 KiB per string */
#define CP_MAX_LABELS 64
#define CP_MAX_REPLICAS 10000         /* per workload */
#define CP_MAX_NAME 63                /* a DNS label */
#define CP_MAX_SLUG 48                /* leaves room for -<index>-<5> within a DNS label */
#define CP_MAX_LOG_LINE (1 << 20)     /* longer lines are split and flagged partial */
#define CP_MAX_STREAM_BUFFER 1024     /* events a consumer may lag; then its source waits */
#define CP_MAX_STREAM_BYTES (8 << 20) /* the same, for long lines */
#define CP_MAX_OPERATIONS 64          /* instance operations in flight per provider */
#define CP_MAX_RETRIES 5              /* of a failed operation */
#define CP_BACKOFF_FIRST 1000         /* ms, doubles */
#define CP_BACKOFF_LAST 60000         /* ms */
#define CP_MAX_JOURNAL 10000          /* commands per deployment */
#define CP_MAX_JOURNAL_BYTES (16 << 20)
#define CP_MAX_SCRIPT_FILES 64          /* sources of one strategy */
#define CP_MAX_SCRIPT (1 << 20)         /* bytes of one source */
#define CP_SCRIPT_MEMORY (16 << 20)     /* bytes per rollout state */
#define CP_SCRIPT_BUDGET 50000000       /* VM instructions between two commands */
#define CP_SCRIPT_SLICE 100000          /* VM instructions before the loop gets its turn */
#define CP_MAX_LIST 500                 /* items per page */
#define CP_PAGE 50                      /* items per page by default */
#define CP_MAX_PROBE_TIMEOUT 300000     /* ms */
#define CP_MAX_DURATION_MS 315360000000 /* ten years */
#define CP_MAX_PATH 4096                /* bytes of a path, an image or a URL path: PATH_MAX */
#define CP_MAX_ARGS 1024                /* words of a command */
#define CP_MAX_ARG (128 << 10)          /* bytes of one word: execve's own limit per string */
#define CP_MAX_PORTS 64                 /* per service */
#define CP_MAX_VOLUMES 64               /* per service */
#define CP_MAX_CONFIG_FILES 64          /* per service */
#define CP_MAX_CONFIG_FILE (256 << 10)  /* bytes of one: several fit in a request */
#define CP_MAX_LABEL_KEY 128            /* bytes */
#define CP_MAX_LABEL_VALUE 256          /* bytes */
#define CP_MAX_INTERVAL 86400000        /* ms: check intervals, stop timeouts; a day */
#define CP_KEEP_RELEASES 10             /* per workload, plus any in use */
#define CP_KEEP_DEPLOYMENTS 100         /* finished ones with their journals, per workload */
#define CP_KEEP_EVENTS_DAYS 7
#define CP_KEEP_DESTROYED_DAYS 7   /* rows of what was destroyed */
#define CP_MAX_BODY_READ (8 << 20) /* bytes of a body over CP_MAX_BODY that are read only to say how long it is */
#define CP_MAX_HEADERS (64 << 10)  /* bytes of a request's head */
#define CP_MAX_IDLE 60             /* s: a connection that asks nothing */
#define CP_MAX_BEHIND (256 << 10)  /* bytes that a stream's client may leave unread before the stream waits for it */
