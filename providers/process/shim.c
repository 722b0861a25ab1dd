/* providers/process/shim.c -- ctrlplane-shim: holds one service of the process provider, so that it outlives the
 * engine. ctrlplane-shim run DIR SERVICE            daemonises; holds DIR/SERVICE.lock for as long as it lives
 *   ctrlplane-shim sweep DIR SERVICE          ends what a killed shim left behind, and says so in the state file
 *   ctrlplane-shim exec DIR SERVICE ARG...    runs a command as the service would run; ends when fd 0 is closed
 * What to run is in DIR/SERVICE.run (NUL-terminated "key value" records, written by the provider); what became of it is
 * in DIR/SERVICE.state (lines of "key value", replaced atomically) and DIR/SERVICE.log (CRI log format, rotated);
 * DIR/SERVICE.sock takes the words status, stop, restart, kill, and stays open until the shim ends.
 * Plain C and libc in one process of well under a megabyte; must not know the engine, Lua, JSON or SQLite. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE = 16 << 10,    /* bytes of a line in one log record; longer lines are several records, flagged P */
    BATCH = 32 << 10,    /* bytes of log written at once */
    LOG_SLACK = 2 << 20, /* a log file may be this much over its size while a line is unfinished */
    LOG_KEEP = 3,        /* rotated files beside the current one */
    CLIENTS = 4,
    NOFILE = 1024,   /* soft limit of descriptors that a service starts with */
    STACK = 8 << 20, /* soft limit of its stack */
};

/* ---- small things ---- */

typedef struct list { /* NULL-terminated once anything was added */
    char **items;
    size_t count;
} list;

static const char *service;
static long backoff_first = 1000, log_max = 10 << 20; /* test builds may shorten both */
static int report = -1; /* where the one answer to whoever started us goes, until it was given */

static void answer(const char *text) {
    if (report < 0)
        return;
    while (write(report, text, strlen(text)) < 0 && errno == EINTR)
        ;
    close(report);
    report = -1;
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    answer(text);
    exit(1);
}

static void add(list *to, char *item) {
    to->items = realloc(to->items, (to->count + 2) * sizeof *to->items);
    if (!to->items)
        die("out of memory");
    to->items[to->count++] = item;
    to->items[to->count] = NULL;
}

static int64_t mono(void) { /* ms */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char *file(const char *suffix) { /* SERVICE.suffix; lent until the fourth next call */
    static char names[4][96];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof names[0], "%s.%s", service, suffix);
    return name;
}

/* Reads a small file whole; false when it cannot be. */
static bool slurp(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n >= 0;
}

static bool put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return ok;
}

/* The value of "key value" in lines of text, copied; false when absent. */
static bool field(const char *text, const char *key, char *value, size_t size) {
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            snprintf(value, size, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
            return true;
        }
    return false;
}

static long number(const char *text, const char *key) {
    char value[32];
    return field(text, key, value, sizeof value) ? atol(value) : 0;
}

/* ---- what to run ---- */

static struct {
    list argv, env, after, done, cgroups, sets, groups;
    const char *instance, *generation, *workdir, *restart, *oom;
    bool init, has_user;
    int stop_signal;
    long stop_timeout, umask;
    uid_t uid;
    gid_t gid;
    rlim_t memory; /* RLIMIT_AS; 0: not limited this way */
} run = {.generation = "0",
         .instance = "",
         .restart = "always",
         .stop_signal = SIGTERM,
         .stop_timeout = 10000,
         .umask = 022};

static void set(const char *key, char *value) {
    static const struct {
        const char *key;
        list *to;
    } lists[] = {{"arg", &run.argv}, {"env", &run.env},        {"after", &run.after}, {"done", &run.done},
                 {"set", &run.sets}, {"cgroup", &run.cgroups}, {"group", &run.groups}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(key, lists[i].key) == 0)
            add(lists[i].to, value);
    static const struct {
        const char *key;
        const char **to;
    } texts[] = {{"instance", &run.instance},
                 {"generation", &run.generation},
                 {"workdir", &run.workdir},
                 {"restart", &run.restart},
                 {"oom", &run.oom}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(key, texts[i].key) == 0)
            *texts[i].to = value;
    if (strcmp(key, "init") == 0)
        run.init = true;
    else if (strcmp(key, "uid") == 0)
        run.has_user = true, run.uid = (uid_t)atol(value);
    else if (strcmp(key, "gid") == 0)
        run.gid = (gid_t)atol(value);
    else if (strcmp(key, "umask") == 0)
        run.umask = strtol(value, NULL, 8);
    else if (strcmp(key, "memory") == 0)
        run.memory = (rlim_t)atoll(value);
    else if (strcmp(key, "stop_signal") == 0)
        run.stop_signal = atoi(value);
    else if (strcmp(key, "stop_timeout") == 0)
        run.stop_timeout = atol(value);
}

static void read_run(void) {
    int fd = open(file("run"), O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        die("%s: %s", file("run"), strerror(errno));
    size_t size = (size_t)st.st_size;
    char *text = malloc(size + 1); /* kept: the lists point into it */
    if (!text || read(fd, text, size) != (ssize_t)size)
        die("%s cannot be read", file("run"));
    close(fd);
    text[size] = '\0';
    for (char *record = text, *next; record < text + size; record = next) {
        next = record + strlen(record) + 1;
        char *value = strchr(record, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        set(record, value);
    }
    if (!run.argv.count)
        die("%s names no command", file("run"));
}

/* ---- the state file ---- */

static struct {
    const char *word; /* waiting running backoff stopping exited failed stopped */
    char message[400], warning[200];
    pid_t pid;
    int64_t started_ms;
    long restarts;
    int exit_code; /* of the last exit; -1: none */
    bool unsaved;  /* the disk was full: written again later */
} state = {.word = "waiting", .exit_code = -1};

__attribute__((format(printf, 2, 3))) static void say(char text[static 200], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, 200, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

static int state_text(char *text, size_t size) {
    static char boot[64];
    if (!boot[0] && slurp("/proc/sys/kernel/random/boot_id", boot, sizeof boot))
        boot[strcspn(boot, "\n")] = '\0';
    return snprintf(text, size,
                    "boot %s\ninstance %s\ngeneration %s\nstate %s\nshim %d\npid %d\nstarted_ms %lld\nrestarts %ld\n"
                    "exit_code %d\nmessage %s\nwarning %s\nend .\n",
                    boot, run.instance, run.generation, state.word, (int)getpid(), (int)state.pid,
                    (long long)state.started_ms, state.restarts, state.exit_code, state.message, state.warning);
}

static void save(void) {
    char text[1400];
    int n = state_text(text, sizeof text);
    int fd = open(file("new"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (fd >= 0)
        close(fd);
    state.unsaved = !ok || rename(file("new"), file("state")) < 0;
}

/* ---- the log ---- */

typedef struct stream {
    int fd;
    const char *name;
    size_t len;
    bool open; /* the last record of it in the file is a piece of an unfinished line */
    bool skip; /* a piece of this line was lost: the rest of it is dropped, too */
    char text[PIECE];
} stream;

static stream out = {.fd = -1, .name = "stdout"}, err = {.fd = -1, .name = "stderr"};

static struct {
    int fd;
    ino_t inode;
    int64_t size, tried, last_ns; /* tried: size at which rotation failed last */
    long long lines, lost;        /* in the current file; not written since the last notice */
    int why;                      /* errno of the loss */
    char batch[BATCH];
    size_t used, whole; /* bytes in the batch; lines that it completes */
    char at[40];        /* the time of the records of this batch */
} logfile = {.fd = -1};

static void stamp(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t ns = t.tv_sec * 1000000000LL + t.tv_nsec;
    if (ns == logfile.last_ns) { /* readers know a file by the time of its first record: no two are equal */
        t.tv_nsec = (t.tv_nsec + 1) % 1000000000;
        ns++;
    }
    logfile.last_ns = ns;
    struct tm tm;
    gmtime_r(&t.tv_sec, &tm);
    size_t n = strftime(logfile.at, sizeof logfile.at, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(logfile.at + n, sizeof logfile.at - n, ".%09ldZ", t.tv_nsec);
}

static void log_open(void) {
    logfile.fd = open(file("log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    struct stat st;
    if (logfile.fd < 0 || fstat(logfile.fd, &st) < 0)
        return;
    logfile.inode = st.st_ino;
    logfile.size = st.st_size;
    logfile.lines = logfile.tried = 0;
    char text[4096];
    char last = '\n';
    for (int64_t at = 0; at < logfile.size;) { /* of an earlier shim: how many lines, and is the last one whole? */
        ssize_t n = pread(logfile.fd, text, sizeof text, at);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            logfile.lines += text[i] == '\n';
        last = text[n - 1];
        at += n;
    }
    if (last != '\n' && write(logfile.fd, "\n", 1) == 1)
        logfile.size++;
}

/* Somebody may have removed the file: then there is a new one, which says how many lines went with the old. */
static int log_ready(long long *removed) {
    struct stat st;
    if (logfile.fd >= 0 && (stat(file("log"), &st) < 0 || st.st_ino != logfile.inode)) {
        *removed = logfile.lines;
        close(logfile.fd);
        logfile.fd = -1;
    }
    if (logfile.fd < 0)
        log_open();
    return logfile.fd < 0 ? -errno : 0;
}

static void log_rotate(void) {
    bool between = !out.open && !err.open;
    if (logfile.size < log_max || (!between && logfile.size < log_max + LOG_SLACK) ||
        logfile.size < logfile.tried + log_max / 8)
        return;
    char from[96], to[96];
    for (int i = LOG_KEEP; i > 0; i--) {
        snprintf(to, sizeof to, "%s.log.%d", service, i);
        snprintf(from, sizeof from, i > 1 ? "%s.log.%d" : "%s.log", service, i - 1);
        if (rename(from, to) < 0 && errno != ENOENT) {
            logfile.tried = logfile.size; /* goes on in this file, and tries again later */
            logfile.why = errno;
            return;
        }
    }
    close(logfile.fd);
    logfile.fd = -1;
    log_open();
}

/* Appends, or leaves the file as it was. */
static int log_append(const char *text, size_t len) {
    if (logfile.tried && logfile.size > 2 * (int64_t)log_max + LOG_SLACK)
        return -logfile.why; /* it cannot be rotated: it must not fill the disk either */
    ssize_t n = write(logfile.fd, text, len);
    if (n == (ssize_t)len) {
        logfile.size += n;
        return 0;
    }
    int r = n < 0 ? -errno : -ENOSPC;
    if (n > 0 && ftruncate(logfile.fd, logfile.size) < 0)
        logfile.size += n;
    return r;
}

static void log_flush(void) {
    if (!logfile.used && !logfile.lost)
        return;
    long long removed = -1;
    int r = log_ready(&removed);
    char notice[300];
    stamp();
    if (r == 0 && removed >= 0) {
        int n =
            snprintf(notice, sizeof notice, "%s stderr F ctrlplane: the log file was removed with %lld lines in it\n",
                     logfile.at, removed);
        r = log_append(notice, (size_t)n);
        out.open = err.open = false;
    }
    if (r == 0 && logfile.lost) {
        int n = snprintf(notice, sizeof notice, "%s stderr F ctrlplane: %lld lines could not be written: %s\n",
                         logfile.at, logfile.lost, strerror(logfile.why));
        r = log_append(notice, (size_t)n);
        if (r == 0)
            logfile.lost = 0;
    }
    if (r == 0 && logfile.used)
        r = log_append(logfile.batch, logfile.used);
    if (r == 0) {
        logfile.lines += (long long)logfile.whole;
    } else {
        logfile.lost += (long long)logfile.whole;
        logfile.why = -r;
        out.skip |= out.open;
        err.skip |= err.open;
    }
    logfile.used = logfile.whole = 0;
    if (r == 0)
        log_rotate();
    stamp();
}

static void log_record(stream *s, char flag, const char *text, size_t len) {
    if (s->skip) { /* the beginning of this line is lost */
        logfile.lost += flag == 'F';
        s->skip = flag != 'F';
        return;
    }
    if (logfile.used + len + 64 > sizeof logfile.batch)
        log_flush();
    int n = snprintf(logfile.batch + logfile.used, 64, "%s %s %c ", logfile.at, s->name, flag);
    memcpy(logfile.batch + logfile.used + n, text, len);
    logfile.used += (size_t)n + len;
    logfile.batch[logfile.used++] = '\n';
    logfile.whole += flag == 'F';
    s->open = flag == 'P';
}

/* Reads what there is, once. False when there is nothing now, or no more. */
static bool stream_read(stream *s) {
    if (s->fd < 0)
        return false;
    ssize_t n = read(s->fd, s->text + s->len, sizeof s->text - s->len);
    if (n < 0)
        return false;
    if (n == 0) {
        close(s->fd);
        s->fd = -1;
        return false;
    }
    stamp();
    s->len += (size_t)n;
    char *line = s->text, *end = s->text + s->len, *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
        log_record(s, 'F', line, (size_t)(newline - line));
        line = newline + 1;
    }
    s->len = (size_t)(end - line);
    if (s->len == sizeof s->text) {
        log_record(s, 'P', line, s->len);
        s->len = 0;
    }
    memmove(s->text, line, s->len);
    log_flush();
    return true;
}

/* All who could write are gone: what is still in the pipe belongs to the log; then nobody's pipe is waited for. */
static void stream_end(stream *s) {
    for (int i = 0; i < 128 && stream_read(s); i++)
        ;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    stamp();
    if (s->len || s->open || s->skip)
        log_record(s, 'F', s->text, s->len); /* a last line without its newline */
    s->len = 0;
    log_flush();
}

/* ---- the child ---- */

typedef struct failure { /* what a child could not do before it became the service */
    int code;
    char what[200];
} failure;

static void child_fail(int fd, const char *what, const char *subject) {
    failure f = {.code = errno};
    snprintf(f.what, sizeof f.what, "%s%s%s", what, subject ? " " : "", subject ? subject : "");
    _exit(write(fd, &f, sizeof f) < 0 ? 126 : 127);
}

static void default_signals(void) {
    const uint64_t standard[8] = {0}; /* the kernel's struct, all zero: SIG_DFL */
    for (int i = 1; i <= 64; i++)     /* directly: libc keeps 32 and 33 to itself, and posix_spawn leaves them ignored */
        syscall(SYS_rt_sigaction, i, standard, NULL, 8);
}

static void limit(__rlimit_resource_t what, rlim_t soft) {
    struct rlimit r;
    if (getrlimit(what, &r) == 0) {
        r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
        setrlimit(what, &r);
    }
}

static void find_and_exec(int status_fd) {
    const char *command = run.argv.items[0], *path = "/usr/local/bin:/usr/bin:/bin";
    for (size_t i = 0; i < run.env.count; i++)
        if (strncmp(run.env.items[i], "PATH=", 5) == 0)
            path = run.env.items[i] + 5;
    int code = ENOENT;
    if (strchr(command, '/')) {
        execve(command, run.argv.items, run.env.items);
        code = errno;
    } else {
        char full[4096];
        for (const char *p = path; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
            snprintf(full, sizeof full, "%.*s/%s", (int)strcspn(p, ":"), p, command);
            execve(full, run.argv.items, run.env.items);
            if (errno != ENOENT && errno != ENOTDIR)
                code = errno;
        }
    }
    errno = code;
    child_fail(status_fd, "exec", command);
}

__attribute__((noreturn)) static void child(pid_t shim, int out_fd, int err_fd, int status_fd) {
    sigset_t none;
    sigemptyset(&none);
    default_signals();
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int zero = open("/dev/null", O_RDONLY);
    int status = fcntl(status_fd, F_DUPFD_CLOEXEC, 10);
    int o = fcntl(out_fd, F_DUPFD, 10), e = fcntl(err_fd, F_DUPFD, 10);
    if (zero < 0 || o < 0 || e < 0 || status < 0)
        child_fail(status_fd, "descriptors", NULL);
    dup2(zero, 0);
    dup2(o, 1);
    dup2(e, 2);
    dup2(status, 3);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    for (size_t i = 0; i < run.cgroups.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.procs", run.cgroups.items[i]);
        put(path, "0"); /* whether the group can be used was seen when it was made */
    }
    put("/proc/self/oom_score_adj", "0");
    umask((mode_t)run.umask);
    limit(RLIMIT_NOFILE, NOFILE);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_STACK, STACK);
    if (run.memory)
        limit(RLIMIT_AS, run.memory);
    if (run.has_user) {
        gid_t groups[256];
        size_t n = 0;
        for (; n < run.groups.count && n < 256; n++)
            groups[n] = (gid_t)atol(run.groups.items[n]);
        if (setgroups(n, groups) < 0 || setresgid(run.gid, run.gid, run.gid) < 0 ||
            setresuid(run.uid, run.uid, run.uid) < 0)
            child_fail(3, "taking on the user", NULL);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the user: a change of user clears it */
    if (getppid() != shim)
        _exit(127); /* the shim is gone already */
    if (run.workdir && chdir(run.workdir) < 0)
        child_fail(3, "workdir", run.workdir);
    find_and_exec(3);
    _exit(127);
}

/* Starts the command; *f tells why not. Comes back when it was exec'ed. */
static pid_t start(int out_fd, int err_fd, failure *f) {
    int status[2];
    *f = (failure){0};
    if (pipe2(status, O_CLOEXEC) < 0) {
        *f = (failure){errno, "pipe"};
        return -1;
    }
    pid_t shim = getpid(), pid = fork();
    if (pid == 0)
        child(shim, out_fd, err_fd, status[1]);
    int code = errno;
    close(status[1]);
    if (pid < 0)
        *f = (failure){code, "fork"};
    ssize_t n = 0;
    while (pid > 0 && (n = read(status[0], f, sizeof *f)) < 0 && errno == EINTR)
        ;
    close(status[0]);
    if (pid > 0 && n > 0) {
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}

/* ---- control groups ---- */

static void cgroups_make(void) {
    for (size_t i = 0; i < run.cgroups.count; i++)
        if (mkdir(run.cgroups.items[i], 0755) < 0 && errno != EEXIST)
            say(state.warning, "no control group: %.100s: %s", run.cgroups.items[i], strerror(errno));
    for (size_t i = 0; i < run.sets.count; i++) { /* "path value" */
        char path[512], *space = strrchr(run.sets.items[i], ' ');
        if (!space)
            continue;
        snprintf(path, sizeof path, "%.*s", (int)(space - run.sets.items[i]), run.sets.items[i]);
        if (!put(path, space + 1))
            say(state.warning, "limit not in force: %.120s: %s", path, strerror(errno));
    }
}

static void cgroups_kill(void) {
    for (size_t i = 0; i < run.cgroups.count; i++) {
        char path[512], *line = NULL;
        size_t size = 0;
        snprintf(path, sizeof path, "%s/cgroup.kill", run.cgroups.items[i]);
        if (put(path, "1"))
            continue;
        snprintf(path, sizeof path, "%s/cgroup.procs", run.cgroups.items[i]);
        FILE *f = fopen(path, "re");
        while (f && getline(&line, &size, f) > 0)
            if (atol(line) > 1)
                kill((pid_t)atol(line), SIGKILL);
        if (f)
            fclose(f);
        free(line);
    }
}

static void cgroups_remove(void) {
    for (size_t i = 0; i < run.cgroups.count; i++)
        for (int tries = 0; tries < 20 && rmdir(run.cgroups.items[i]) < 0 && errno == EBUSY; tries++)
            usleep(2000); /* the last process was reaped, and is on its way out of the group */
}

static long oom_kills(void) {
    char text[2048];
    return run.oom && slurp(run.oom, text, sizeof text) ? number(text, "oom_kill") : 0;
}

/* ---- what is left over ---- */

static pid_t parent_of(pid_t pid) {
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *end = slurp(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    return end && strlen(end) > 4 ? (pid_t)atol(end + 4) : 0;
}

/* Kills every child, and what descends from us becomes a child as its parents die: we are the subreaper. */
static void kill_children(void) {
    char path[64], *line = NULL;
    size_t size = 0;
    cgroups_kill();
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    if (f) {
        while (getdelim(&line, &size, ' ', f) > 0)
            if (atol(line) > 1)
                kill((pid_t)atol(line), SIGKILL);
        fclose(f);
        free(line);
        return;
    }
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));)
        if (atol(e->d_name) > 1 && parent_of((pid_t)atol(e->d_name)) == getpid())
            kill((pid_t)atol(e->d_name), SIGKILL);
    if (proc)
        closedir(proc);
}

static bool lock_held(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    return held;
}

/* The living shims of this instance's other services: what descends from them is theirs. */
static size_t living_shims(pid_t *pids, size_t max) {
    size_t n = 0;
    DIR *dir = opendir(".");
    for (struct dirent *e; dir && (e = readdir(dir)) && n < max;) {
        char lock[300], state_file[300], text[1400];
        char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".lock") != 0)
            continue;
        snprintf(lock, sizeof lock, "%s", e->d_name);
        snprintf(state_file, sizeof state_file, "%.*s.state", (int)(dot - e->d_name), e->d_name);
        if (strcmp(lock, file("lock")) != 0 && lock_held(lock) && slurp(state_file, text, sizeof text))
            pids[n++] = (pid_t)number(text, "shim");
    }
    if (dir)
        closedir(dir);
    return n;
}

static bool environ_has(pid_t pid, const char *entry) {
    char path[40], *item = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && getdelim(&item, &size, '\0', f) > 0)
        found = strcmp(item, entry) == 0;
    if (f)
        fclose(f);
    free(item);
    return found;
}

/* Ends what a killed shim of this service left: its control group, and whoever carries this instance in the environment
 * without descending from a living shim. A pid alone proves nothing; it is held while it is looked at. */
static void sweep(void) {
    char entry[160];
    snprintf(entry, sizeof entry, "CTRLPLANE_INSTANCE=%s", run.instance);
    for (int round = 0; round < 100; round++) {
        pid_t shims[64];
        size_t count = living_shims(shims, 64);
        int found = 0;
        cgroups_kill();
        DIR *proc = opendir("/proc");
        for (struct dirent *e; proc && (e = readdir(proc));) {
            pid_t pid = (pid_t)atol(e->d_name);
            if (pid <= 1 || pid == getpid())
                continue;
            int held = (int)syscall(SYS_pidfd_open, pid, 0);
            bool ours = held >= 0 && environ_has(pid, entry);
            for (pid_t p = pid; ours && p > 1; p = parent_of(p)) {
                ours = p != getpid();
                for (size_t i = 0; i < count; i++)
                    ours &= p != shims[i];
            }
            if (ours && syscall(SYS_pidfd_send_signal, held, SIGKILL, NULL, 0) == 0)
                found++;
            if (held >= 0)
                close(held);
        }
        if (proc)
            closedir(proc);
        if (!found)
            return;
        usleep(20000);
    }
}

/* ---- the life of a service ---- */

static struct {
    enum { WAITING, RUNNING, CLEANING, BACKOFF, DONE } phase;
    int64_t deadline, began; /* mono ms; deadline 0: none */
    int64_t delay;           /* of the next back-off */
    long ooms;
    bool stopping, again, killed;
    const char *then; /* after the clean-up: a final word, or "backoff" */
    int quick;        /* ms until the next look at leftovers */
} life;

static void finish(const char *word) {
    state.word = word;
    life.phase = DONE;
}

static void clean_then(const char *word) {
    life.then = word;
    life.phase = CLEANING;
    life.quick = 1;
    life.deadline = 0;
    kill_children();
}

static void begin(void) {
    int o[2] = {-1, -1}, e[2] = {-1, -1};
    failure f = {0};
    pid_t pid = -1;
    cgroups_make();
    life.ooms = oom_kills();
    if (pipe2(o, O_CLOEXEC) < 0 || pipe2(e, O_CLOEXEC) < 0)
        f = (failure){errno, "pipe"};
    else
        pid = start(o[1], e[1], &f);
    if (o[1] >= 0)
        close(o[1]);
    if (e[1] >= 0)
        close(e[1]);
    out = (stream){.fd = o[0], .name = "stdout"};
    err = (stream){.fd = e[0], .name = "stderr"};
    life.began = mono();
    if (pid < 0) {
        bool passing = f.code == EAGAIN || f.code == ENOMEM || f.code == ETXTBSY || f.code == EMFILE ||
                       f.code == ENFILE || f.code == EIO;
        say(state.message, "%.150s: %s", f.what, strerror(f.code));
        state.exit_code = 127;
        clean_then(passing ? "backoff" : "failed"); /* a command that does not exist is not tried for ever */
        return;
    }
    fcntl(out.fd, F_SETFL, O_NONBLOCK); /* our ends; the service's are apart */
    fcntl(err.fd, F_SETFL, O_NONBLOCK);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    state.started_ms = t.tv_sec * 1000 + t.tv_nsec / 1000000;
    state.pid = pid;
    state.word = "running";
    life.phase = RUNNING;
    life.deadline = 0;
    save();
}

static void stop(bool again) {
    life.stopping = true;
    life.again = again;
    if (life.phase == WAITING || life.phase == BACKOFF) {
        clean_then("stopped");
    } else if (life.phase == RUNNING && !life.deadline) {
        state.word = "stopping";
        life.deadline = mono() + run.stop_timeout;
        save();
        if (kill(-state.pid, run.stop_signal) < 0)
            kill(state.pid, run.stop_signal);
        kill(-state.pid, SIGCONT); /* one that was halted could not obey */
    } else if (life.phase == CLEANING && strcmp(life.then, "backoff") == 0) {
        life.then = "stopped";
    }
}

static void exited(int status) {
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool good = status == 0;
    state.exit_code = sig ? 128 + sig : WEXITSTATUS(status);
    if (sig == SIGKILL && oom_kills() > life.ooms)
        say(state.message, "killed: out of memory");
    else if (life.killed)
        say(state.message, "killed after its stop timeout of %ld ms", run.stop_timeout);
    else if (sig)
        say(state.message, "killed by signal %d (%s)", sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
    else
        say(state.message, "exited with code %d", state.exit_code);
    state.pid = 0;
    bool retry = run.init ? !good && strcmp(run.restart, "on_failure") == 0
                          : strcmp(run.restart, "always") == 0 || (!good && strcmp(run.restart, "on_failure") == 0);
    const char *then = life.stopping ? "stopped" : retry ? "backoff" : good ? "exited" : "failed";
    if (strcmp(then, "backoff") == 0) {
        state.word = then; /* told at once; a final word only once nothing is left */
        save();
    }
    clean_then(then);
}

/* Nothing of the run is left. */
static void cleaned(void) {
    stream_end(&out);
    stream_end(&err);
    state.pid = 0;
    if (life.again && life.stopping) {
        life.stopping = life.again = life.killed = false;
        state.restarts++;
        begin();
    } else if (strcmp(life.then, "backoff") == 0) {
        if (mono() - life.began >= 10 * backoff_first)
            life.delay = 0; /* it ran a while: the next failure is a new story */
        life.delay = life.delay ? life.delay * 2 : backoff_first;
        if (life.delay > 60 * backoff_first)
            life.delay = 60 * backoff_first;
        life.deadline = mono() + life.delay;
        life.phase = BACKOFF;
        state.word = "backoff";
        save();
    } else {
        finish(life.then);
    }
}

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == state.pid && life.phase == RUNNING)
            exited(status);
    if (pid < 0 && errno == ECHILD && life.phase == CLEANING)
        cleaned();
}

/* 1: that service is where we wait for it to be; 0: not yet; -1: it never will be. */
static int look(const char *other, bool done) {
    char path[96], text[1400], word[32] = "", generation[32] = "";
    snprintf(path, sizeof path, "%s.state", other);
    if (!slurp(path, text, sizeof text) || !field(text, "generation", generation, sizeof generation) ||
        strcmp(generation, run.generation) != 0)
        return 0; /* not started yet, or what is left of an earlier generation */
    field(text, "state", word, sizeof word);
    if (strcmp(word, "failed") == 0 || strcmp(word, "stopped") == 0) {
        say(state.message, "%.63s %s, and this waits for it", other, word);
        return -1;
    }
    return strcmp(word, "exited") == 0 || (!done && strcmp(word, "running") == 0);
}

static void wait_for_others(void) {
    for (size_t i = 0; i < run.done.count + run.after.count; i++) {
        bool done = i < run.done.count;
        int r = look(done ? run.done.items[i] : run.after.items[i - run.done.count], done);
        if (r < 0)
            finish("failed");
        if (r <= 0)
            return;
    }
    begin();
}

static void on_time(void) {
    if (life.phase == CLEANING) {
        kill_children();
        life.quick = life.quick < 100 ? life.quick * 2 : 100;
    } else if (life.deadline && mono() >= life.deadline) {
        life.deadline = 0;
        if (life.phase == BACKOFF) {
            state.restarts++;
            begin();
        } else if (life.phase == RUNNING && life.stopping) {
            life.killed = true;
            kill(-state.pid, SIGKILL);
            kill(state.pid, SIGKILL);
            kill_children();
        }
    }
    if (state.unsaved)
        save();
    if (logfile.lost)
        log_flush();
}

static int patience(void) { /* ms until on_time has something to do */
    int64_t left = state.unsaved || logfile.lost ? 1000 : -1;
    if (life.deadline) {
        int64_t until = life.deadline - mono();
        until = until < 0 ? 0 : until > 3600000 ? 3600000 : until;
        left = left < 0 || until < left ? until : left;
    }
    return life.phase == CLEANING ? life.quick : (int)left;
}

static void command(int fd, const char *word) {
    char text[1400];
    if (strncmp(word, "stop", 4) == 0)
        stop(false);
    else if (strncmp(word, "restart", 7) == 0)
        stop(true);
    else if (strncmp(word, "kill", 4) == 0) {
        stop(false);
        if (life.phase == RUNNING)
            life.deadline = mono();
    }
    int n = state_text(text, sizeof text);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* who asked does not listen */
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, CLIENTS) < 0)
        die("%s: %s", path, strerror(errno));
    return fd;
}

static void serve(int signals, int door, int notices) {
    int clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    while (life.phase != DONE) {
        if (life.phase == WAITING)
            wait_for_others();
        if (life.phase == DONE)
            break;
        struct pollfd fds[5 + CLIENTS] = {{signals, POLLIN, 0},
                                          {out.fd, POLLIN, 0},
                                          {err.fd, POLLIN, 0},
                                          {life.phase == WAITING ? notices : -1, POLLIN, 0},
                                          {-1, POLLIN, 0}};
        for (int i = 0; i < CLIENTS; i++) {
            fds[5 + i] = (struct pollfd){clients[i], POLLIN, 0};
            if (clients[i] < 0)
                fds[4].fd = door; /* no room: they wait in the backlog */
        }
        int n = poll(fds, 5 + CLIENTS, patience());
        char buf[1024];
        if (fds[1].revents)
            stream_read(&out);
        if (fds[2].revents)
            stream_read(&err);
        if (fds[3].revents && read(notices, buf, sizeof buf) < 0)
            notices = -1;
        for (int i = 0; i < CLIENTS; i++) {
            if (!fds[5 + i].revents)
                continue;
            ssize_t got = read(clients[i], buf, sizeof buf - 1);
            if (got <= 0) {
                close(clients[i]);
                clients[i] = -1;
                continue;
            }
            buf[got] = '\0';
            command(clients[i], buf);
        }
        if (fds[4].revents)
            for (int i = 0, fd = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); fd >= 0 && i < CLIENTS; i++)
                if (clients[i] < 0) {
                    clients[i] = fd;
                    fd = -1;
                }
        if (fds[0].revents) {
            struct signalfd_siginfo info;
            while (read(signals, &info, sizeof info) == sizeof info)
                if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
                    stop(false);
        }
        reap();
        if (n == 0 || life.deadline || state.unsaved)
            on_time();
    }
}

/* ---- the three modes ---- */

static void enter(const char *dir) {
    syscall(SYS_close_range, 3u, ~0u, 0u);
    default_signals(); /* an ignored SIGCHLD would hide exits */
    umask(077);
    if (chdir(dir) < 0)
        die("%s: %s", dir, strerror(errno));
    read_run();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static int signal_fd(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGINT);
    return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Takes the lock: it says that we live. False when another shim has it. */
static bool take_lock(void) {
    int fd = open(file("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        die("%s: %s", file("lock"), strerror(errno));
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* What the shim before us knew; true when it was killed in the middle, so that a run of it may still be there. */
static bool inherit(void) {
    char text[1400], word[32] = "", value[64] = "", boot[64] = "";
    if (!slurp(file("state"), text, sizeof text) || !field(text, "state", word, sizeof word))
        return false;
    bool same = field(text, "generation", value, sizeof value) && strcmp(value, run.generation) == 0;
    if (slurp("/proc/sys/kernel/random/boot_id", boot, sizeof boot))
        boot[strcspn(boot, "\n")] = '\0';
    bool this_boot = field(text, "boot", value, sizeof value) && strcmp(value, boot) == 0;
    bool final = strcmp(word, "exited") == 0 || strcmp(word, "failed") == 0 || strcmp(word, "stopped") == 0;
    if (same && this_boot && !final)
        state.restarts = number(text, "restarts") + (strcmp(word, "waiting") != 0);
    return this_boot && !final;
}

static int mode_run(const char *dir) {
    pid_t pid = fork(); /* nobody has to reap us */
    if (pid != 0)
        return pid < 0;
    setsid();
    enter(dir);
    if (!take_lock()) {
        answer("ok: it runs already\n");
        return 0;
    }
    if (inherit())
        sweep();
    int signals = signal_fd(), door = listen_at(file("sock"));
    int notices = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (signals < 0 || notices < 0 || inotify_add_watch(notices, ".", IN_MOVED_TO) < 0)
        die("descriptors: %s", strerror(errno));
    log_open();
    stamp();
    save();
    answer("ok\n");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    serve(signals, door, notices);
    cgroups_remove();
    unlink(file("sock"));
    for (save(); state.unsaved && errno != ENOENT; save())
        sleep(1); /* a full disk: how it ended must not be lost; a folder that is gone has nobody who would ask */
    return 0;
}

static int mode_sweep(const char *dir) {
    enter(dir);
    if (!take_lock())
        die("%s is still held by a shim", service);
    inherit();
    sweep();
    cgroups_remove();
    state.word = "stopped";
    snprintf(state.message, sizeof state.message, "its shim was killed");
    save();
    if (state.unsaved)
        die("%s cannot be written", file("state"));
    answer("ok\n");
    return 0;
}

static int mode_exec(const char *dir, char **argv) {
    report = 2;
    enter(dir);
    run.argv = (list){0};
    for (; *argv; argv++)
        add(&run.argv, *argv);
    int signals = signal_fd();
    failure f;
    pid_t pid = start(1, 1, &f);
    if (pid < 0)
        die("error %.190s: %s\n", f.what, strerror(f.code));
    close(1); /* the output ends with those who write it */
    char text[64] = "";
    for (int quick = -1;; quick = pid ? -1 : 5) {
        struct pollfd fds[2] = {{signals, POLLIN, 0}, {0, POLLIN, 0}};
        poll(fds, 2, quick);
        struct signalfd_siginfo info;
        while (read(signals, &info, sizeof info) > 0)
            ;
        if (fds[1].revents)
            pid = 0; /* nobody waits for the result any more */
        int status;
        pid_t got;
        while ((got = waitpid(-1, &status, WNOHANG)) > 0)
            if (got == pid) {
                pid = 0;
                snprintf(text, sizeof text, "exit %d\n",
                         WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
            }
        if (got < 0)
            break;
        if (!pid) { /* not kill_children: the service itself may be in the control group */
            run.cgroups.count = 0;
            kill_children();
        }
    }
    answer(text);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "ctrlplane-shim is started by ctrlplane: run|sweep DIR SERVICE, exec DIR SERVICE COMMAND...\n");
        return 2;
    }
#ifdef CP_FAILPOINTS
    backoff_first = getenv("CTRLPLANE_TEST_BACKOFF_MS") ? atol(getenv("CTRLPLANE_TEST_BACKOFF_MS")) : backoff_first;
    log_max = getenv("CTRLPLANE_TEST_LOG_MAX") ? atol(getenv("CTRLPLANE_TEST_LOG_MAX")) : log_max;
#endif
    service = argv[3];
    report = 1;
    if (strcmp(argv[1], "run") == 0)
        return mode_run(argv[2]);
    if (strcmp(argv[1], "sweep") == 0)
        return mode_sweep(argv[2]);
    if (strcmp(argv[1], "exec") == 0 && argc > 4)
        return mode_exec(argv[2], argv + 4);
    fprintf(stderr, "ctrlplane-shim: unknown mode '%s'\n", argv[1]);
    return 2;
}
