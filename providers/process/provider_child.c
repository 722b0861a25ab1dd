/* providers/process/provider_child.c -- Helpers of the provider: started, heard to their end, reaped by pid. A library
 * must not touch SIGCHLD, so the end of their output says that they are done. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_OUTPUT = 1 << 20 };

struct cp_child {
    cp_process *process;
    pid_t pid;
    int fds[2], control; /* output, result; -1: closed */
    struct event *events[2];
    cp_buf texts[2];
    bool truncated;
    cp_child_done *done;
    void *userdata;
};

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void end_of(cp_child *child, int i) {
    if (child->events[i])
        event_free(child->events[i]);
    child->events[i] = NULL;
    close_fd(&child->fds[i]);
}

static void free_child(cp_child *child) {
    end_of(child, 0);
    end_of(child, 1);
    close_fd(&child->control);
    cp_buf_clear(&child->texts[0]);
    cp_buf_clear(&child->texts[1]);
    free(child);
}

/* It closed its outputs, which our helpers do by ending: waiting for it is a matter of microseconds. */
static void finish(cp_child *child) {
    int status = -1;
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    cp_vec_drop(&child->process->children, child);
    if (child->done) {
        cp_child_result result = {
            .status = status,
            .output = child->texts[0].data ? child->texts[0].data : "",
            .len = child->texts[0].len,
            .result = child->texts[1].data ? child->texts[1].data : "",
            .truncated = child->truncated,
        };
        child->done(child->userdata, &result);
    }
    free_child(child);
}

static void on_output(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    cp_child *child = userdata;
    int i = child->fds[1] == fd;
    char bytes[16384];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        size_t room = MOST_OUTPUT - child->texts[i].len;
        child->truncated |= (size_t)n > room;
        cp_buf_add(&child->texts[i], bytes, (size_t)n < room ? (size_t)n : room);
        return;
    }
    end_of(child, i);
    if (child->fds[0] < 0 && child->fds[1] < 0)
        finish(child);
}

/* Helpers need no more of our environment than this. */
static char **environment(void) {
    static const char *const names[] = {"PATH", "LANG"};
    char **env = cp_alloc0((CP_COUNT(names) + 1) * sizeof *env);
    for (size_t i = 0, n = 0; i < CP_COUNT(names); i++)
        if (getenv(names[i]))
            env[n++] = cp_printf("%s=%s", names[i], getenv(names[i]));
    return env;
}

static int spawn(const char *const *argv, const int child_fds[3], pid_t *ret) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, child;
    sigemptyset(&none);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD); /* ignored, it would hide the exits of its own children from a helper */
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &child);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    for (int i = 0; i < 3; i++)
        posix_spawn_file_actions_adddup2(&actions, child_fds[i], i);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    char **env = environment();
    int r = posix_spawnp(ret, argv[0], &actions, &attributes, (char *const *)argv, env);
    for (char **e = env; *e; e++)
        free(*e);
    free(env);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return r;
}

/* A pipe whose descriptors are above the three that the child gets, so that dup2 never meets itself. */
static int make_pipe(int ends[2]) {
    int raw[2];
    if (pipe2(raw, O_CLOEXEC) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        ends[i] = raw[i] > 2 ? raw[i] : fcntl(raw[i], F_DUPFD_CLOEXEC, 3);
        if (ends[i] != raw[i])
            close(raw[i]);
    }
    return ends[0] < 0 || ends[1] < 0 ? -1 : 0;
}

int cp_child_start(cp_process *process, const char *const *argv, bool control, cp_child_done *done, void *userdata,
                   cp_child **ret, cp_error *err) {
    int out[2] = {-1, -1}, result[2] = {-1, -1}, in[2] = {-1, -1};
    bool ok = make_pipe(out) == 0;
    if (control) {
        ok = ok && make_pipe(result) == 0 && make_pipe(in) == 0;
    } else {
        in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        ok = ok && in[0] >= 0;
    }
    pid_t pid = -1;
    int code = ok ? spawn(argv, (int[]){in[0], out[1], control ? result[1] : out[1]}, &pid) : errno;
    close_fd(&in[0]);
    close_fd(&out[1]);
    close_fd(&result[1]);
    if (code != 0) {
        close_fd(&in[1]);
        close_fd(&out[0]);
        close_fd(&result[0]);
        errno = code;
        return cp_fs_fail(err, CP_E_PROVIDER_FAILED, "cannot start", argv[0]);
    }
    cp_child *child = cp_new0(cp_child);
    *child = (cp_child){.process = process,
                        .pid = pid,
                        .fds = {out[0], result[0]},
                        .control = in[1],
                        .done = done,
                        .userdata = userdata};
    for (int i = 0; i < 2; i++) {
        if (child->fds[i] < 0)
            continue;
        fcntl(child->fds[i], F_SETFL, O_NONBLOCK);
        child->events[i] =
            event_new(cp_loop_base(process->base.loop), child->fds[i], EV_READ | EV_PERSIST, on_output, child);
        event_add(child->events[i], NULL);
    }
    cp_vec_push(&process->children, child);
    *ret = child;
    return 0;
}

void cp_child_abandon(cp_child *child, bool kill_it) {
    child->done = NULL;
    close_fd(&child->control);
    if (kill_it)
        kill(-child->pid, SIGTERM);
}

void cp_child_free_all(cp_process *process) {
    while (process->children.count) {
        cp_child *child = process->children.items[process->children.count - 1];
        close_fd(&child->control);
        for (int i = 0, tries = 0; (i = waitpid(child->pid, NULL, WNOHANG)) == 0 && tries < 200; tries++) {
            if (tries == 100)
                kill(-child->pid, SIGKILL);
            usleep(5000);
        }
        cp_vec_drop(&process->children, child);
        free_child(child);
    }
    cp_vec_clear(&process->children);
}
