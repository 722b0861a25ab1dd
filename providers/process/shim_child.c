/* providers/process/shim_child.c -- What is to run; how a child becomes the service, with nothing inherited that it
 * should not have; and how everything that came of it is ended. Also `exec`: the same for a command beside the service.
 * Must not know states, restarts or logs. */
#include "providers/process/shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NOFILE = 1024,   /* soft limit of descriptors that a service starts with */
    STACK = 8 << 20, /* soft limit of its stack */
};

const char *shim_service;
shim_run_spec shim_run;

/* ---- small things ---- */

bool shim_is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

int64_t shim_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *shim_file(const char *suffix) { /* SERVICE.suffix; lent until the fourth next call */
    static char names[4][96];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof names[0], "%s.%s", shim_service, suffix);
    return name;
}

/* Writes a word to a file of the kernel. */
static bool put(const char *folder, const char *file, const char *word) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, word, strlen(word)) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- records: "key value", each ended by a NUL, the last by two ---- */

bool shim_slurp(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 2);
    if (fd >= 0)
        close(fd);
    memset(text + (n > 0 ? n : 0), 0, 2);
    for (char *line = text; (line = strchr(line, '\n'));)
        *line++ = '\0';
    return n >= 0;
}

/* The value of the next record of that key; NULL: there is none. */
static char *next(char **records, const char *key) {
    size_t n = strlen(key);
    while (**records) {
        char *record = *records;
        *records += strlen(record) + 1;
        if (strncmp(record, key, n) == 0 && record[n] == ' ')
            return record + n + 1;
    }
    return NULL;
}

const char *shim_value(const char *records, const char *key, const char *otherwise) {
    char *at = (char *)(uintptr_t)records, *value = next(&at, key);
    return value ? value : otherwise;
}

static char **values(char *records, const char *key) {
    char **all = NULL;
    size_t count = 0;
    do {
        all = realloc(all, (count + 1) * sizeof *all);
        if (!all)
            shim_die("out of memory");
    } while ((all[count++] = next(&records, key)));
    return all;
}

static void read_run(void) {
    struct stat st;
    int fd = open(shim_file("run"), O_RDONLY | O_CLOEXEC);
    size_t size = fd >= 0 && fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
    char *text = calloc(1, size + 2); /* kept: what is to run points into it */
    if (!text || !size || read(fd, text, size) != (ssize_t)size)
        shim_die("%s cannot be read: %s", shim_file("run"), strerror(errno));
    close(fd);
    shim_run = (shim_run_spec){
        .argv = values(text, "arg"),
        .env = values(text, "env"),
        .after = values(text, "after"),
        .done = values(text, "done"),
        .cgroups = values(text, "cgroup"),
        .groups = values(text, "group"),
        .instance = shim_value(text, "instance", ""),
        .generation = shim_value(text, "generation", "0"),
        .restart = shim_value(text, "restart", "always"),
        .workdir = shim_value(text, "workdir", NULL),
        .oom = shim_value(text, "oom", NULL),
        .uid = atol(shim_value(text, "uid", "-1")),
        .gid = atol(shim_value(text, "gid", "0")),
        .memory = atol(shim_value(text, "memory", "0")),
        .stop_signal = atol(shim_value(text, "stop_signal", "15")),
        .stop_timeout = atol(shim_value(text, "stop_timeout", "10000")),
        .backoff = atol(shim_value(text, "backoff", "1000")),
        .log_max = atol(shim_value(text, "log_max", "10485760")),
    };
    if (!shim_run.argv[0])
        shim_die("%s names no command", shim_file("run"));
}

/* ---- the child ---- */

__attribute__((noreturn)) static void child_fail(const char *what, const char *subject) {
    shim_failure f = {.code = errno};
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
    for (; shim_run.groups[n] && n < 256; n++)
        groups[n] = (gid_t)atol(shim_run.groups[n]);
    gid_t gid = (gid_t)shim_run.gid;
    uid_t uid = (uid_t)shim_run.uid;
    if (setgroups(n, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        child_fail("taking on", "the user");
}

__attribute__((noreturn)) static void find_and_exec(void) {
    const char *command = shim_run.argv[0], *path = "/usr/local/bin:/usr/bin:/bin";
    for (char **e = shim_run.env; *e; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            path = *e + 5;
    int code = ENOENT;
    if (strchr(command, '/')) {
        execve(command, shim_run.argv, shim_run.env);
        code = errno;
        path = NULL;
    }
    for (char full[4096]; path; path = strchr(path, ':') ? strchr(path, ':') + 1 : NULL) {
        snprintf(full, sizeof full, "%.*s/%s", (int)strcspn(path, ":"), path, command);
        execve(full, shim_run.argv, shim_run.env);
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
    dup2(open("/dev/null", O_RDONLY), 0); /* what was below 3 is open: all of these are above, or where they belong */
    dup2(out_fd, 1);
    dup2(err_fd, 2);
    dup2(status_fd, 3);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    for (char **group = shim_run.cgroups; *group; group++)
        put(*group, "cgroup.procs", "0"); /* whether the group can be used was seen when it was made */
    put("/proc/self", "oom_score_adj", "0");
    umask(022);
    limit(RLIMIT_NOFILE, NOFILE);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_STACK, STACK);
    if (shim_run.memory)
        limit(RLIMIT_AS, (rlim_t)shim_run.memory);
    if (shim_run.uid >= 0)
        take_user();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the user: a change of user clears it */
    if (getppid() != shim)
        _exit(127); /* the shim is gone already */
    if (shim_run.workdir && chdir(shim_run.workdir) < 0)
        child_fail("workdir", shim_run.workdir);
    find_and_exec();
}

pid_t shim_start(int out_fd, int err_fd, shim_failure *f) {
    int status[2] = {-1, -1};
    pid_t shim = getpid(), pid = pipe2(status, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid == 0)
        child(shim, out_fd, err_fd, status[1]);
    *f = (shim_failure){.code = errno, .what = "fork"};
    close(status[1]);
    bool failed = pid < 0 || read(status[0], f, sizeof *f) > 0; /* all signals are blocked: not interrupted */
    close(status[0]);
    if (failed && pid > 0)
        waitpid(pid, NULL, 0);
    return failed ? -1 : pid;
}

/* ---- what is left over ---- */

static void kill_listed(const char *folder, const char *file) { /* of pids, as the kernel writes them */
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        if (pid > 1)
            kill(pid, SIGKILL);
    if (f)
        fclose(f);
}

static void kill_groups(void) {
    for (char **group = shim_run.cgroups; *group; group++)
        if (!put(*group, "cgroup.kill", "1"))
            kill_listed(*group, "cgroup.procs");
}

void shim_groups_remove(void) {
    for (char **group = shim_run.cgroups; *group; group++)
        for (int tries = 0; tries < 20 && rmdir(*group) < 0 && errno == EBUSY; tries++)
            usleep(2000); /* the last process was reaped, and is on its way out of the group */
}

long shim_oom_kills(void) {
    char text[2048];
    return shim_run.oom && shim_slurp(shim_run.oom, text, sizeof text) ? atol(shim_value(text, "oom_kill", "0")) : 0;
}

/* Kills every child, and what descends from us becomes a child as its parents die: we are the subreaper. */
void shim_kill_children(bool groups) {
    char path[64];
    if (groups)
        kill_groups();
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)getpid());
    kill_listed(path, "children");
}

/* Does the process carry this instance and this service in its environment? */
static bool is_ours(pid_t pid) {
    char path[64], wanted[2][160], *item = NULL;
    size_t size = 0;
    int found = 0;
    snprintf(wanted[0], sizeof wanted[0], "CTRLPLANE_INSTANCE=%s", shim_run.instance);
    snprintf(wanted[1], sizeof wanted[1], "CTRLPLANE_SERVICE=%s", shim_service);
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && getdelim(&item, &size, '\0', f) > 0)
        found |= strcmp(item, wanted[0]) == 0 ? 1 : strcmp(item, wanted[1]) == 0 ? 2 : 0;
    if (f)
        fclose(f);
    free(item);
    return found == 3;
}

/* Ends what a killed shim of this service left. A pid alone proves nothing: a process is held while it is looked at. */
void shim_sweep(void) {
    for (int round = 0, found = 1; found && round < 100; round++) {
        found = 0;
        kill_groups();
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

/* ---- a process of ours ---- */

void shim_enter(const char *dir) {
    syscall(SYS_close_range, 3u, ~0u, 0u);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would hide exits */
    umask(077);
    if (chdir(dir) < 0)
        shim_die("%s: %s", dir, strerror(errno));
    read_run();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int shim_signals(void) {
    sigset_t some;
    sigfillset(&some);
    sigprocmask(SIG_SETMASK, &some, NULL);
    sigemptyset(&some);
    sigaddset(&some, SIGCHLD);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGINT);
    return signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK);
}

int shim_mode_exec(const char *dir, char **argv) {
    shim_enter(dir);
    free(shim_run.argv); /* of the service */
    shim_run.argv = argv;
    int signals = shim_signals(), status, code = -1;
    shim_failure f;
    pid_t pid = shim_start(1, 1, &f), got;
    if (pid < 0)
        shim_die("error %.190s: %s\n", f.what, strerror(f.code));
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
            shim_kill_children(false); /* not the control group: the service itself is in it */
    } while (got >= 0);
    if (code >= 0)
        dprintf(2, "exit %d\n", code);
    return 0;
}
