/* providers/process/shim.c -- ctrlplane-shim: holds one service of the process provider, so that it outlives the
 * engine. ctrlplane-shim run DIR SERVICE            daemonises; holds DIR/SERVICE.lock for as long as it lives
 *   ctrlplane-shim sweep DIR SERVICE          ends what a killed shim left behind, and says so in the state file
 *   ctrlplane-shim exec DIR SERVICE ARG...    runs a command as the service would run; ends when fd 0 is closed
 * What to run is in DIR/SERVICE.run (NUL-terminated "key value" records, written by the provider); what became of it is
 * in DIR/SERVICE.state (lines of "key value", replaced atomically) and DIR/SERVICE.log (CRI log format, rotated);
 * DIR/SERVICE.sock takes the words status, stop and restart, and stays open until the shim ends.
 * Plain C and libc in one process of less than a megabyte; must not know the engine, Lua, JSON or SQLite. */
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
    STATE = 1400,    /* bytes that a state file can have */
};

typedef struct list { /* NULL-terminated once anything was added */
    char **items;
    size_t count;
} list;

static const char *service;
static long backoff_first = 1000, log_max = 10 << 20; /* test builds may shorten both */
static int report = -1; /* where the one answer to whoever started us goes, until it was given */

/* ---- small things ---- */

__attribute__((format(printf, 1, 2))) static void answer(const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (report >= 0) {
        vdprintf(report, format, args);
        close(report);
    }
    va_end(args);
    report = -1;
}
#define die(...) (answer(__VA_ARGS__), exit(1))

static void add(list *to, char *item) {
    to->items = realloc(to->items, (to->count + 2) * sizeof *to->items);
    if (!to->items)
        die("out of memory");
    to->items[to->count++] = item;
    to->items[to->count] = NULL;
}

static int64_t now_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
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
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n >= 0;
}

static bool put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The value of "key value" in lines of text, lent until the next call; "" when absent. */
static const char *field(const char *text, const char *key) {
    static char value[64];
    size_t n = strlen(key);
    value[0] = '\0';
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
    return value;
}

static const char *boot_id(void) {
    static char boot[64];
    if (!boot[0] && slurp("/proc/sys/kernel/random/boot_id", boot, sizeof boot))
        boot[strcspn(boot, "\n")] = '\0';
    return boot;
}

/* ---- what to run ---- */

static struct {
    list argv, env, after, done, cgroups, sets, groups;
    const char *instance, *generation, *workdir, *restart, *oom;
    long init, uid, gid, memory, stop_signal, stop_timeout; /* memory: RLIMIT_AS, 0: not limited this way */
} run = {
    .instance = "", .generation = "0", .restart = "always", .uid = -1, .stop_signal = SIGTERM, .stop_timeout = 10000};

static const struct {
    const char *key;
    list *many;
    const char **text;
    long *number;
} keys[] = {
    {"arg", .many = &run.argv},
    {"env", .many = &run.env},
    {"after", .many = &run.after},
    {"done", .many = &run.done},
    {"cgroup", .many = &run.cgroups},
    {"set", .many = &run.sets},
    {"group", .many = &run.groups},
    {"instance", .text = &run.instance},
    {"restart", .text = &run.restart},
    {"generation", .text = &run.generation},
    {"oom", .text = &run.oom},
    {"workdir", .text = &run.workdir},
    {"init", .number = &run.init},
    {"uid", .number = &run.uid},
    {"gid", .number = &run.gid},
    {"memory", .number = &run.memory},
    {"stop_signal", .number = &run.stop_signal},
    {"stop_timeout", .number = &run.stop_timeout},
};

static void read_run(void) {
    struct stat st;
    int fd = open(file("run"), O_RDONLY | O_CLOEXEC);
    char *text =
        fd >= 0 && fstat(fd, &st) == 0 ? calloc(1, (size_t)st.st_size + 1) : NULL; /* kept: lists point into it */
    if (!text || read(fd, text, (size_t)st.st_size) != st.st_size)
        die("%s cannot be read: %s", file("run"), strerror(errno));
    close(fd);
    for (char *record = text, *next; record < text + st.st_size; record = next) {
        next = record + strlen(record) + 1;
        char *value = strchr(record, ' ');
        if (value)
            *value++ = '\0';
        for (size_t i = 0; value && i < sizeof keys / sizeof keys[0]; i++) {
            if (strcmp(keys[i].key, record) != 0)
                continue;
            if (keys[i].many)
                add(keys[i].many, value);
            else if (keys[i].text)
                *keys[i].text = value;
            else
                *keys[i].number = atol(value);
        }
    }
    if (!run.argv.count)
        die("%s names no command", file("run"));
}

/* ---- the state file ---- */

static struct {
    const char *word; /* waiting running backoff stopping exited failed stopped */
    char message[300], warning[300];
    pid_t pid;
    int64_t started_ms;
    long restarts;
    int exit_code; /* of the last exit; -1: none */
    bool unsaved;  /* the disk was full: written again later */
} state = {.word = "waiting", .exit_code = -1};

__attribute__((format(printf, 2, 3))) static void say(char text[static 300], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, 300, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

static size_t state_text(char text[static STATE]) {
    return (size_t)snprintf(text, STATE,
                            "boot %s\ninstance %s\ngeneration %s\nstate %s\nshim %d\npid %d\nstarted_ms %lld\n"
                            "restarts %ld\nexit_code %d\nmessage %s\nwarning %s\nend .\n",
                            boot_id(), run.instance, run.generation, state.word, (int)getpid(), (int)state.pid,
                            (long long)state.started_ms, state.restarts, state.exit_code, state.message, state.warning);
}

static void save(void) {
    char text[STATE];
    size_t n = state_text(text);
    int fd = open(file("new"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    state.unsaved = !ok || rename(file("new"), file("state")) < 0;
}

/* ---- the log ---- */

typedef struct stream {
    int fd;
    const char *name;
    size_t len;
    bool open; /* the last record of it is a piece of an unfinished line */
    bool skip; /* a piece of this line was lost: the rest of it is dropped, too */
    char text[PIECE];
} stream;

static stream out = {.fd = -1, .name = "stdout"}, err = {.fd = -1, .name = "stderr"};

static struct {
    int fd;
    ino_t inode;
    int64_t size, stuck, last_ns; /* stuck: the size at which it could not be rotated */
    long long lines, lost;        /* in the current file; not written since the last notice */
    int why;                      /* errno of the loss */
    char batch[BATCH];
    size_t used;     /* bytes in the batch */
    long long whole; /* lines that it completes */
    char at[40];     /* the time of the records of this batch */
} logs = {.fd = -1};

static void stamp(void) {
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    if (t.tv_sec * 1000000000LL + t.tv_nsec ==
        logs.last_ns) /* readers know a file by its first time: no two are equal */
        t.tv_nsec = (t.tv_nsec + 1) % 1000000000;
    logs.last_ns = t.tv_sec * 1000000000LL + t.tv_nsec;
    gmtime_r(&t.tv_sec, &tm);
    size_t n = strftime(logs.at, sizeof logs.at, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(logs.at + n, sizeof logs.at - n, ".%09ldZ", t.tv_nsec);
}

/* Appends, or leaves the file as it was; 0 or the errno. */
static int log_append(const char *text, size_t len) {
    if (logs.stuck && logs.size > 2 * (int64_t)log_max + LOG_SLACK)
        return logs.why; /* it cannot be rotated: it must not fill the disk either */
    ssize_t n = write(logs.fd, text, len);
    int why = n < 0 ? errno : ENOSPC;
    if (n == (ssize_t)len || (n > 0 && ftruncate(logs.fd, logs.size) < 0))
        logs.size += n;
    return n == (ssize_t)len ? 0 : why;
}

__attribute__((format(printf, 1, 2))) static int log_notice(const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    int n = snprintf(text, sizeof text, "%s stderr F ctrlplane: ", logs.at);
    n += vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    text[n] = '\n';
    return log_append(text, (size_t)n + 1);
}

static void log_open(void) {
    struct stat st;
    char text[4096], last = '\n';
    logs.fd = open(file("log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (logs.fd < 0 || fstat(logs.fd, &st) < 0)
        return;
    logs.inode = st.st_ino;
    logs.size = st.st_size;
    logs.lines = logs.stuck = 0;
    ssize_t n; /* of an earlier shim: how many lines, and is the last one whole? */
    for (int64_t at = 0; (n = pread(logs.fd, text, sizeof text, at)) > 0; at += n) {
        for (ssize_t i = 0; i < n; i++)
            logs.lines += text[i] == '\n';
        last = text[n - 1];
    }
    if (last != '\n')
        log_append("\n", 1);
}

/* Somebody may have removed the file: then there is a new one, which says how many lines went with the old. */
static int log_ready(void) {
    struct stat st;
    long long gone = -1;
    if (logs.fd >= 0 && (stat(file("log"), &st) < 0 || st.st_ino != logs.inode)) {
        gone = logs.lines;
        close(logs.fd);
        logs.fd = -1;
    }
    if (logs.fd < 0)
        log_open();
    if (logs.fd < 0)
        return errno;
    return gone >= 0 ? log_notice("the log file was removed with %lld lines in it", gone) : 0;
}

static void log_rotate(void) {
    bool within = out.open || err.open;
    if (logs.size < log_max + (within ? LOG_SLACK : 0) || logs.size < logs.stuck + log_max / 8)
        return;
    for (int i = LOG_KEEP; i > 0; i--) {
        char from[96], to[96];
        snprintf(to, sizeof to, "%s.log.%d", service, i);
        snprintf(from, sizeof from, i > 1 ? "%s.log.%d" : "%s.log", service, i - 1);
        if (rename(from, to) < 0 && errno != ENOENT) {
            logs.stuck = logs.size; /* goes on in this file, and tries again later */
            logs.why = errno;
            return;
        }
    }
    close(logs.fd);
    log_open();
}

static void log_flush(void) {
    if (!logs.used && !logs.lost)
        return;
    stamp();
    int why = log_ready();
    if (!why && logs.lost && !(why = log_notice("%lld lines could not be written: %s", logs.lost, strerror(logs.why))))
        logs.lost = 0;
    if (!why && logs.used)
        why = log_append(logs.batch, logs.used);
    if (why) {
        logs.lost += logs.whole;
        logs.why = why;
        out.skip |= out.open;
        err.skip |= err.open;
    } else {
        logs.lines += logs.whole;
        log_rotate();
    }
    logs.used = 0;
    logs.whole = 0;
    stamp();
}

static void log_record(stream *s, char flag, const char *text, size_t len) {
    if (s->skip) { /* the beginning of this line is lost */
        logs.lost += flag == 'F';
        s->skip = flag != 'F';
        return;
    }
    if (logs.used + len + 64 > sizeof logs.batch)
        log_flush();
    int n = snprintf(logs.batch + logs.used, 64, "%s %s %c ", logs.at, s->name, flag);
    memcpy(logs.batch + logs.used + n, text, len);
    logs.used += (size_t)n + len;
    logs.batch[logs.used++] = '\n';
    logs.whole += flag == 'F';
    s->open = flag == 'P';
}

/* Reads what there is, once. False when there is nothing now, or no more. */
static bool stream_read(stream *s) {
    ssize_t n = s->fd < 0 ? -1 : read(s->fd, s->text + s->len, sizeof s->text - s->len);
    if (n == 0) {
        close(s->fd);
        s->fd = -1;
    }
    if (n <= 0)
        return false;
    stamp();
    char *line = s->text, *end = s->text + s->len + n, *newline;
    for (; (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1)
        log_record(s, 'F', line, (size_t)(newline - line));
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

static void child_fail(const char *what, const char *subject) {
    failure f = {.code = errno};
    snprintf(f.what, sizeof f.what, "%s %s", what, subject);
    _exit(write(3, &f, sizeof f) < 0 ? 126 : 127);
}

static void default_signals(void) {
    const uint64_t standard[8] = {0}; /* the kernel's struct, all zero: SIG_DFL */
    for (int i = 1; i <= 64; i++) /* directly: libc keeps 32 and 33 to itself, and posix_spawn leaves them ignored */
        syscall(SYS_rt_sigaction, i, standard, NULL, 8);
}

static void limit(__rlimit_resource_t what, rlim_t soft) {
    struct rlimit r;
    if (getrlimit(what, &r) == 0) {
        r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
        setrlimit(what, &r);
    }
}

static void take_user(void) {
    gid_t groups[256];
    size_t n = 0;
    for (; n < run.groups.count && n < 256; n++)
        groups[n] = (gid_t)atol(run.groups.items[n]);
    gid_t gid = (gid_t)run.gid;
    uid_t uid = (uid_t)run.uid;
    if (setgroups(n, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        child_fail("taking on", "the user");
}

static void find_and_exec(void) {
    const char *command = run.argv.items[0], *path = "/usr/local/bin:/usr/bin:/bin";
    for (size_t i = 0; i < run.env.count; i++)
        if (strncmp(run.env.items[i], "PATH=", 5) == 0)
            path = run.env.items[i] + 5;
    int code = ENOENT;
    if (strchr(command, '/')) {
        execve(command, run.argv.items, run.env.items);
        code = errno;
        path = NULL;
    }
    for (char full[4096]; path; path = strchr(path, ':') ? strchr(path, ':') + 1 : NULL) {
        snprintf(full, sizeof full, "%.*s/%s", (int)strcspn(path, ":"), path, command);
        execve(full, run.argv.items, run.env.items);
        code = errno == ENOENT || errno == ENOTDIR ? code : errno;
    }
    errno = code;
    child_fail("exec", command);
}

__attribute__((noreturn)) static void child(pid_t shim, int out_fd, int err_fd, int status_fd) {
    sigset_t none;
    sigemptyset(&none);
    default_signals();
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    const int from[4] = {open("/dev/null", O_RDONLY), out_fd, err_fd, status_fd};
    int high[4];
    for (int i = 0; i < 4; i++)
        high[i] = fcntl(from[i], F_DUPFD, 10);
    for (int i = 0; i < 4; i++)
        dup2(high[i], i);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    for (size_t i = 0; i < run.cgroups.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.procs", run.cgroups.items[i]);
        put(path, "0"); /* whether the group can be used was seen when it was made */
    }
    put("/proc/self/oom_score_adj", "0");
    umask(022);
    limit(RLIMIT_NOFILE, NOFILE);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_STACK, STACK);
    if (run.memory)
        limit(RLIMIT_AS, (rlim_t)run.memory);
    if (run.uid >= 0)
        take_user();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the user: a change of user clears it */
    if (getppid() != shim)
        _exit(127); /* the shim is gone already */
    if (run.workdir && chdir(run.workdir) < 0)
        child_fail("workdir", run.workdir);
    find_and_exec();
    _exit(127);
}

/* Starts the command, and comes back when it was exec'ed; -1 and *f when it was not. */
static pid_t start(int out_fd, int err_fd, failure *f) {
    int status[2] = {-1, -1};
    pid_t shim = getpid(), pid = pipe2(status, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid == 0)
        child(shim, out_fd, err_fd, status[1]);
    *f = (failure){.code = errno, .what = "fork"};
    close(status[1]);
    bool failed = pid < 0 || read(status[0], f, sizeof *f) > 0; /* all signals are blocked: not interrupted */
    close(status[0]);
    if (failed && pid > 0)
        waitpid(pid, NULL, 0);
    return failed ? -1 : pid;
}

/* ---- control groups, and what is left over ---- */

static void cgroups_make(void) {
    for (size_t i = 0; i < run.cgroups.count; i++)
        if (mkdir(run.cgroups.items[i], 0755) < 0 && errno != EEXIST)
            say(state.warning, "no control group: %.150s: %s", run.cgroups.items[i], strerror(errno));
    for (size_t i = 0; i < run.sets.count; i++) { /* "path value" */
        char path[512];
        snprintf(path, sizeof path, "%s", run.sets.items[i]);
        char *value = strrchr(path, ' ');
        if (value)
            *value++ = '\0';
        if (value && !put(path, value))
            say(state.warning, "a limit is not in force: %.150s: %s", path, strerror(errno));
    }
}

static void kill_listed(const char *path) { /* a file of pids, as the kernel writes them */
    FILE *f = fopen(path, "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        if (pid > 1)
            kill(pid, SIGKILL);
    if (f)
        fclose(f);
}

static void cgroups_kill(void) {
    for (size_t i = 0; i < run.cgroups.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.kill", run.cgroups.items[i]);
        if (put(path, "1"))
            continue;
        snprintf(path, sizeof path, "%s/cgroup.procs", run.cgroups.items[i]);
        kill_listed(path);
    }
}

static void cgroups_remove(void) {
    for (size_t i = 0; i < run.cgroups.count; i++)
        for (int tries = 0; tries < 20 && rmdir(run.cgroups.items[i]) < 0 && errno == EBUSY; tries++)
            usleep(2000); /* the last process was reaped, and is on its way out of the group */
}

static long oom_kills(void) {
    char text[2048];
    return run.oom && slurp(run.oom, text, sizeof text) ? atol(field(text, "oom_kill")) : 0;
}

/* Kills every child, and what descends from us becomes a child as its parents die: we are the subreaper. */
static void kill_children(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    kill_listed(path);
}

/* Does the process carry this instance and this service in its environment? */
static bool is_ours(pid_t pid) {
    char path[64], wanted[2][160], *item = NULL;
    size_t size = 0;
    int found = 0;
    snprintf(wanted[0], sizeof wanted[0], "CTRLPLANE_INSTANCE=%s", run.instance);
    snprintf(wanted[1], sizeof wanted[1], "CTRLPLANE_SERVICE=%s", service);
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && getdelim(&item, &size, '\0', f) > 0)
        found |= strcmp(item, wanted[0]) == 0 ? 1 : strcmp(item, wanted[1]) == 0 ? 2 : 0;
    if (f)
        fclose(f);
    free(item);
    return found == 3;
}

/* Ends what a killed shim of this service left. A pid alone proves nothing: the process is held while it is looked at.
 */
static void sweep(void) {
    for (int round = 0, found = 1; found && round < 100; round++) {
        found = 0;
        cgroups_kill();
        DIR *proc = opendir("/proc");
        for (struct dirent *e; proc && (e = readdir(proc));) {
            pid_t pid = (pid_t)atol(e->d_name);
            int held = pid > 1 && pid != getpid() ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
            if (held >= 0 && is_ours(pid) && syscall(SYS_pidfd_send_signal, held, SIGKILL, NULL, 0) == 0)
                found++;
            if (held >= 0)
                close(held);
        }
        if (proc)
            closedir(proc);
        if (found)
            usleep(20000);
    }
}

/* ---- the life of a service ---- */

static struct {
    enum { WAITING, RUNNING, CLEANING, BACKOFF, DONE } phase;
    int64_t deadline, began; /* monotonic ms; deadline 0: none */
    int64_t delay;           /* of the last back-off */
    long ooms;
    bool stopping, again, killed;
    const char *then; /* after the clean-up: a final word, or "backoff" */
    int quick;        /* ms until the next look at what is left over */
} life;

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static void clean_then(const char *word) {
    life.then = word;
    life.phase = CLEANING;
    life.quick = 1;
    life.deadline = 0;
    cgroups_kill();
    kill_children();
}

static void begin(void) {
    int o[2] = {-1, -1}, e[2] = {-1, -1};
    failure f = {0};
    cgroups_make();
    life.ooms = oom_kills();
    life.began = now_ms(CLOCK_MONOTONIC);
    state.started_ms = now_ms(CLOCK_REALTIME);
    bool piped = pipe2(o, O_CLOEXEC) == 0 && pipe2(e, O_CLOEXEC) == 0;
    if (!piped)
        f = (failure){errno, "pipe"};
    pid_t pid = piped ? start(o[1], e[1], &f) : -1;
    close(o[1]);
    close(e[1]);
    out = (stream){.fd = o[0], .name = "stdout"};
    err = (stream){.fd = e[0], .name = "stderr"};
    fcntl(out.fd, F_SETFL, O_NONBLOCK); /* our ends; the service's are apart */
    fcntl(err.fd, F_SETFL, O_NONBLOCK);
    if (pid < 0) {
        const int passing[] = {EAGAIN, ENOMEM, ETXTBSY, EMFILE, ENFILE, EIO};
        bool passes = false;
        for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++)
            passes |= f.code == passing[i];
        say(state.message, "%.200s: %s", f.what, strerror(f.code));
        state.exit_code = 127;
        clean_then(passes ? "backoff" : "failed"); /* a command that does not exist is not tried for ever */
        return;
    }
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
        life.deadline = now_ms(CLOCK_MONOTONIC) + run.stop_timeout;
        save();
        if (kill(-state.pid, (int)run.stop_signal) < 0)
            kill(state.pid, (int)run.stop_signal);
        kill(-state.pid, SIGCONT); /* one that was halted could not obey */
    } else if (life.phase == CLEANING && is(life.then, "backoff")) {
        life.then = "stopped";
    }
}

static void exited(int status) {
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    state.exit_code = sig ? 128 + sig : WEXITSTATUS(status);
    state.pid = 0;
    if (sig == SIGKILL && oom_kills() > life.ooms)
        say(state.message, "killed: out of memory");
    else if (life.killed)
        say(state.message, "killed after its stop timeout of %ld ms", run.stop_timeout);
    else if (sig)
        say(state.message, "killed by signal %d (%s)", sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
    else
        say(state.message, "exited with code %d", state.exit_code);
    bool retry = (is(run.restart, "always") && !run.init) || (is(run.restart, "on_failure") && status != 0);
    const char *then = life.stopping ? "stopped" : retry ? "backoff" : status == 0 ? "exited" : "failed";
    if (is(then, "backoff")) {
        state.word = then; /* told at once; a final word only once nothing is left */
        save();
    }
    clean_then(then);
}

/* Nothing of the run is left. */
static void cleaned(void) {
    stream_end(&out);
    stream_end(&err);
    if (life.again) {
        life.stopping = life.again = life.killed = false;
        state.restarts++;
        begin();
    } else if (is(life.then, "backoff")) {
        int64_t now = now_ms(CLOCK_MONOTONIC);
        bool first = !life.delay || now - life.began >= 10 * backoff_first; /* it ran a while: a new story */
        life.delay = first ? backoff_first : life.delay * 2 < 60 * backoff_first ? life.delay * 2 : 60 * backoff_first;
        life.deadline = now + life.delay;
        life.phase = BACKOFF;
        state.word = "backoff";
        save();
    } else {
        state.word = life.then;
        life.phase = DONE;
    }
}

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == state.pid && life.phase == RUNNING)
            exited(status);
    if (pid < 0 && life.phase == CLEANING)
        cleaned();
}

/* 1: that service is where we wait for it to be; 0: not yet; -1: it never will be. */
static int look(const char *other, bool done) {
    char path[96], text[STATE];
    snprintf(path, sizeof path, "%s.state", other);
    if (!slurp(path, text, sizeof text) || !is(field(text, "generation"), run.generation))
        return 0; /* not started yet, or what is left of an earlier generation */
    const char *word = field(text, "state");
    if (is(word, "failed") || is(word, "stopped")) {
        say(state.message, "%.63s %s, and this waits for it", other, word);
        return -1;
    }
    return is(word, "exited") || (!done && is(word, "running"));
}

static void wait_for_others(void) {
    for (size_t i = 0; i < run.done.count + run.after.count; i++) {
        bool done = i < run.done.count;
        int r = look(done ? run.done.items[i] : run.after.items[i - run.done.count], done);
        if (r < 0)
            clean_then("failed");
        if (r <= 0)
            return;
    }
    begin();
}

static void on_time(void) {
    if (life.phase == CLEANING) {
        cgroups_kill();
        kill_children();
        life.quick = life.quick < 100 ? life.quick * 2 : 100;
    } else if (life.deadline && now_ms(CLOCK_MONOTONIC) >= life.deadline) {
        life.deadline = 0;
        if (life.phase == BACKOFF) {
            state.restarts++;
            begin();
        } else if (life.phase == RUNNING) { /* it was asked to stop, and did not */
            life.killed = true;
            kill(-state.pid, SIGKILL);
            kill_children();
        }
    }
    if (state.unsaved)
        save();
    if (logs.lost)
        log_flush();
}

static int patience(void) { /* ms until on_time has something to do */
    int64_t left = state.unsaved || logs.lost ? 1000 : -1;
    if (life.deadline) {
        int64_t until = life.deadline - now_ms(CLOCK_MONOTONIC);
        until = until < 0 ? 0 : until > 3600000 ? 3600000 : until;
        left = left < 0 || until < left ? until : left;
    }
    return life.phase == CLEANING ? life.quick : (int)left;
}

static void command(int *client) {
    char text[STATE];
    ssize_t n = read(*client, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (strncmp(text, "stop", 4) == 0)
        stop(false);
    else if (strncmp(text, "restart", 7) == 0)
        stop(true);
    if (n <= 0 || send(*client, text, state_text(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        close(*client);
        *client = -1;
    }
}

static void serve(int signals, int door, int notices) {
    int clients[CLIENTS] = {-1, -1, -1, -1};
    while (life.phase != DONE) {
        if (life.phase == WAITING)
            wait_for_others();
        struct pollfd fds[5 + CLIENTS] = {{.fd = signals}, {.fd = out.fd}, {.fd = err.fd}, {.fd = notices}, {.fd = -1}};
        for (int i = 0; i < CLIENTS; i++) {
            fds[5 + i].fd = clients[i];
            if (clients[i] < 0)
                fds[4].fd = door; /* without room they wait in the backlog */
        }
        for (int i = 0; i < 5 + CLIENTS; i++)
            fds[i].events = POLLIN;
        int n = poll(fds, 5 + CLIENTS, patience());
        char ignored[1024];
        if (fds[1].revents)
            stream_read(&out);
        if (fds[2].revents)
            stream_read(&err);
        if (fds[3].revents && read(notices, ignored, sizeof ignored) < 0)
            notices = -1;
        for (int i = 0; i < CLIENTS; i++)
            if (fds[5 + i].revents)
                command(&clients[i]);
        for (int i = 0; i < CLIENTS && fds[4].revents; i++)
            if (clients[i] < 0) {
                clients[i] = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                break;
            }
        for (struct signalfd_siginfo info; fds[0].revents && read(signals, &info, sizeof info) > 0;)
            if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
                stop(false);
        reap();
        if (n == 0 || life.deadline)
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
    sigset_t some;
    sigfillset(&some);
    sigprocmask(SIG_SETMASK, &some, NULL);
    sigemptyset(&some);
    sigaddset(&some, SIGCHLD);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGINT);
    return signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK);
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
    char text[STATE];
    if (!slurp(file("state"), text, sizeof text) || !is(field(text, "boot"), boot_id()))
        return false;
    const char *word = field(text, "state");
    if (is(word, "exited") || is(word, "failed") || is(word, "stopped"))
        return false;
    bool ran = !is(word, "waiting");
    if (is(field(text, "generation"), run.generation))
        state.restarts = atol(field(text, "restarts")) + ran;
    return true;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, CLIENTS) < 0 ? -1 : fd;
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
    int signals = signal_fd(), door = listen_at(file("sock")), notices = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (signals < 0 || door < 0 || notices < 0)
        die("cannot serve %s: %s", file("sock"), strerror(errno));
    if (run.done.count + run.after.count && inotify_add_watch(notices, ".", IN_MOVED_TO) < 0)
        die("cannot watch %s: %s", dir, strerror(errno));
    log_open();
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
    say(state.message, "its shim was killed");
    save();
    if (state.unsaved)
        die("%s cannot be written: %s", file("state"), strerror(errno));
    answer("ok\n");
    return 0;
}

static int mode_exec(const char *dir, char **argv) {
    report = 2;
    enter(dir);
    run.argv = (list){0};
    for (; *argv; argv++)
        add(&run.argv, *argv);
    int signals = signal_fd(), status, code = -1;
    failure f;
    pid_t pid = start(1, 1, &f), got;
    if (pid < 0)
        die("error %.190s: %s\n", f.what, strerror(f.code));
    close(1); /* the output ends with those who write it */
    do {
        struct pollfd fds[2] = {{signals, POLLIN, 0}, {0, POLLIN, 0}};
        struct signalfd_siginfo info;
        poll(fds, pid ? 2 : 1, pid ? -1 : 5);
        while (read(signals, &info, sizeof info) > 0)
            ;
        if (fds[1].revents)
            pid = 0; /* nobody waits for the result any more */
        while ((got = waitpid(-1, &status, WNOHANG)) > 0)
            if (got == pid) {
                code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
                pid = 0;
            }
        if (!pid)
            kill_children(); /* not the control group: the service itself is in it */
    } while (got >= 0);
    if (code >= 0)
        answer("exit %d\n", code);
    return 0;
}

int main(int argc, char **argv) {
#ifdef CP_FAILPOINTS
    backoff_first = getenv("CTRLPLANE_TEST_BACKOFF_MS") ? atol(getenv("CTRLPLANE_TEST_BACKOFF_MS")) : backoff_first;
    log_max = getenv("CTRLPLANE_TEST_LOG_MAX") ? atol(getenv("CTRLPLANE_TEST_LOG_MAX")) : log_max;
#endif
    service = argc > 3 ? argv[3] : "";
    report = 1;
    if (argc == 4 && is(argv[1], "run"))
        return mode_run(argv[2]);
    if (argc == 4 && is(argv[1], "sweep"))
        return mode_sweep(argv[2]);
    if (argc > 4 && is(argv[1], "exec"))
        return mode_exec(argv[2], argv + 4);
    fprintf(stderr, "ctrlplane-shim is started by ctrlplane: run|sweep DIR SERVICE, exec DIR SERVICE COMMAND...\n");
    return 2;
}
