/* providers/process/shim_child.c -- How the shim's child becomes the service, with nothing inherited that it should not
 * have, and how everything that came of it is ended. Also `exec`: the same for a command beside the service.
 * Must not know states, restarts or logs. */
#include "providers/process/shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
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
int shim_report = -1;

/* ---- small things ---- */

__attribute__((format(printf, 1, 2))) void shim_answer(const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (shim_report >= 0) {
        vdprintf(shim_report, format, args);
        close(shim_report);
    }
    va_end(args);
    shim_report = -1;
}

static void add(shim_list *to, char *item) {
    to->items = realloc(to->items, (to->count + 2) * sizeof *to->items);
    if (!to->items)
        shim_die("out of memory");
    to->items[to->count++] = item;
    to->items[to->count] = NULL;
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

/* Reads a small file whole; false when it cannot be. */
bool shim_slurp(const char *path, char *text, size_t size) {
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
const char *shim_field(const char *text, const char *key) {
    static char value[64];
    size_t n = strlen(key);
    value[0] = '\0';
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
    return value;
}

const char *shim_boot_id(void) {
    static char boot[64];
    if (!boot[0] && shim_slurp("/proc/sys/kernel/random/boot_id", boot, sizeof boot))
        boot[strcspn(boot, "\n")] = '\0';
    return boot;
}

/* ---- what to run ---- */

shim_run_spec shim_run = {
    .instance = "", .generation = "0", .restart = "always", .uid = -1, .stop_signal = SIGTERM, .stop_timeout = 10000};

static const struct {
    const char *key;
    shim_list *many;
    const char **text;
    long *number;
} keys[] = {
    {"arg", .many = &shim_run.argv},
    {"env", .many = &shim_run.env},
    {"after", .many = &shim_run.after},
    {"done", .many = &shim_run.done},
    {"cgroup", .many = &shim_run.cgroups},
    {"group", .many = &shim_run.groups},
    {"instance", .text = &shim_run.instance},
    {"restart", .text = &shim_run.restart},
    {"generation", .text = &shim_run.generation},
    {"oom", .text = &shim_run.oom},
    {"workdir", .text = &shim_run.workdir},
    {"init", .number = &shim_run.init},
    {"uid", .number = &shim_run.uid},
    {"gid", .number = &shim_run.gid},
    {"memory", .number = &shim_run.memory},
    {"stop_signal", .number = &shim_run.stop_signal},
    {"stop_timeout", .number = &shim_run.stop_timeout},
};

static void read_run(void) {
    struct stat st;
    int fd = open(shim_file("run"), O_RDONLY | O_CLOEXEC);
    char *text =
        fd >= 0 && fstat(fd, &st) == 0 ? calloc(1, (size_t)st.st_size + 1) : NULL; /* kept: lists point into it */
    if (!text || read(fd, text, (size_t)st.st_size) != st.st_size)
        shim_die("%s cannot be read: %s", shim_file("run"), strerror(errno));
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
    if (!shim_run.argv.count)
        shim_die("%s names no command", shim_file("run"));
}

/* ---- the child ---- */

static void child_fail(const char *what, const char *subject) {
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
    for (; n < shim_run.groups.count && n < 256; n++)
        groups[n] = (gid_t)atol(shim_run.groups.items[n]);
    gid_t gid = (gid_t)shim_run.gid;
    uid_t uid = (uid_t)shim_run.uid;
    if (setgroups(n, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        child_fail("taking on", "the user");
}

static void find_and_exec(void) {
    const char *command = shim_run.argv.items[0], *path = "/usr/local/bin:/usr/bin:/bin";
    for (size_t i = 0; i < shim_run.env.count; i++)
        if (strncmp(shim_run.env.items[i], "PATH=", 5) == 0)
            path = shim_run.env.items[i] + 5;
    int code = ENOENT;
    if (strchr(command, '/')) {
        execve(command, shim_run.argv.items, shim_run.env.items);
        code = errno;
        path = NULL;
    }
    for (char full[4096]; path; path = strchr(path, ':') ? strchr(path, ':') + 1 : NULL) {
        snprintf(full, sizeof full, "%.*s/%s", (int)strcspn(path, ":"), path, command);
        execve(full, shim_run.argv.items, shim_run.env.items);
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
    for (size_t i = 0; i < shim_run.cgroups.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.procs", shim_run.cgroups.items[i]);
        put(path, "0"); /* whether the group can be used was seen when it was made */
    }
    put("/proc/self/oom_score_adj", "0");
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
    _exit(127);
}

/* Starts the command, and comes back when it was exec'ed; -1 and *f when it was not. */
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

static void kill_listed(const char *path) { /* a file of pids, as the kernel writes them */
    FILE *f = fopen(path, "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        if (pid > 1)
            kill(pid, SIGKILL);
    if (f)
        fclose(f);
}

static void shim_groups_kill(void) {
    for (size_t i = 0; i < shim_run.cgroups.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.kill", shim_run.cgroups.items[i]);
        if (put(path, "1"))
            continue;
        snprintf(path, sizeof path, "%s/cgroup.procs", shim_run.cgroups.items[i]);
        kill_listed(path);
    }
}

void shim_groups_remove(void) {
    for (size_t i = 0; i < shim_run.cgroups.count; i++)
        for (int tries = 0; tries < 20 && rmdir(shim_run.cgroups.items[i]) < 0 && errno == EBUSY; tries++)
            usleep(2000); /* the last process was reaped, and is on its way out of the group */
}

long shim_oom_kills(void) {
    char text[2048];
    return shim_run.oom && shim_slurp(shim_run.oom, text, sizeof text) ? atol(shim_field(text, "oom_kill")) : 0;
}

/* Kills every child, and what descends from us becomes a child as its parents die: we are the subreaper. */
void shim_kill_children(bool groups) {
    char path[64];
    if (groups)
        shim_groups_kill();
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    kill_listed(path);
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

/* Ends what a killed shim of this service left. A pid alone proves nothing: the process is held while it is looked at.
 */
void shim_sweep(void) {
    for (int round = 0, found = 1; found && round < 100; round++) {
        found = 0;
        shim_groups_kill();
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
    shim_report = 2;
    shim_enter(dir);
    shim_run.argv = (shim_list){0};
    for (; *argv; argv++)
        add(&shim_run.argv, *argv);
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
        shim_answer("exit %d\n", code);
    return 0;
}
