/* providers/process/shim.c -- ctrlplane-shim: holds one service of the process provider, so that it outlives the
 * engine.
 *
 *   ctrlplane-shim run DIR SERVICE            daemonises; holds DIR/SERVICE.lock for as long as it lives
 *   ctrlplane-shim sweep DIR SERVICE          ends what a killed shim left behind, and says so in the state file
 *   ctrlplane-shim exec DIR SERVICE ARG...    runs a command as the service would run; ends when fd 0 is closed
 *
 * What to run is in DIR/SERVICE.run (NUL-terminated "key value" records, written by the provider); what became of it is
 * in DIR/SERVICE.state (lines of "key value", replaced atomically) and DIR/SERVICE.log (CRI log format, rotated);
 * DIR/SERVICE.sock takes the words status, stop and restart, and stays open until the shim ends. */
#include "providers/process/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CLIENTS = 4,
    STATE = 1200, /* bytes that a state file can have */
};

static char boot_id[64];
static int notices = -1; /* inotify of the folder while we wait for others; a user may have few of these */

/* ---- the state file ---- */

static struct {
    const char *word; /* waiting running backoff stopping exited failed stopped */
    char message[300];
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
                            "restarts %ld\nexit_code %d\nmessage %s\nend .\n",
                            boot_id, shim_run.instance, shim_run.generation, state.word, (int)getpid(), (int)state.pid,
                            (long long)state.started_ms, state.restarts, state.exit_code, state.message);
}

static void save(void) {
    char text[STATE];
    size_t n = state_text(text);
    int fd = open(shim_file("new"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    state.unsaved = !ok || rename(shim_file("new"), shim_file("state")) < 0;
}

/* ---- the life of a service ---- */

static struct {
    enum { WAITING, RUNNING, CLEANING, BACKOFF, DONE } phase;
    int64_t deadline, began; /* monotonic ms; deadline 0: none */
    int64_t delay, look;     /* ms: of the last back-off; until the next look at what is left over */
    long ooms;
    bool stopping, again, killed;
    const char *then; /* after the clean-up: a final word, or "backoff" */
} life;

static void clean_then(const char *word) {
    life.then = word;
    life.phase = CLEANING;
    life.look = 1;
    life.deadline = shim_ms(CLOCK_MONOTONIC) + life.look;
    shim_kill_children(true);
}

static void begin(void) {
    int o[2] = {-1, -1}, e[2] = {-1, -1};
    shim_failure f = {0};
    life.ooms = shim_oom_kills();
    life.began = shim_ms(CLOCK_MONOTONIC);
    state.started_ms = shim_ms(CLOCK_REALTIME);
    bool piped = pipe2(o, O_CLOEXEC) == 0 && pipe2(e, O_CLOEXEC) == 0;
    if (!piped)
        f = (shim_failure){errno, "pipe"};
    pid_t pid = piped ? shim_start(o[1], e[1], &f) : -1;
    close(o[1]);
    close(e[1]);
    shim_out = (shim_stream){.fd = o[0], .name = "stdout"};
    shim_err = (shim_stream){.fd = e[0], .name = "stderr"};
    fcntl(shim_out.fd, F_SETFL, O_NONBLOCK); /* our ends; the service's are apart */
    fcntl(shim_err.fd, F_SETFL, O_NONBLOCK);
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
        life.deadline = shim_ms(CLOCK_MONOTONIC) + shim_run.stop_timeout;
        save();
        if (kill(-state.pid, (int)shim_run.stop_signal) < 0)
            kill(state.pid, (int)shim_run.stop_signal);
        kill(-state.pid, SIGCONT); /* one that was halted could not obey */
    } else if (life.phase == CLEANING && shim_is(life.then, "backoff")) {
        life.then = "stopped";
    }
}

static void exited(int status) {
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    state.exit_code = sig ? 128 + sig : WEXITSTATUS(status);
    state.pid = 0;
    if (sig == SIGKILL && shim_oom_kills() > life.ooms)
        say(state.message, "killed: out of memory");
    else if (life.killed)
        say(state.message, "killed after its stop timeout of %ld ms", shim_run.stop_timeout);
    else if (sig)
        say(state.message, "killed by signal %d (%s)", sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
    else
        say(state.message, "exited with code %d", state.exit_code);
    bool retry = shim_is(shim_run.restart, "always") || (shim_is(shim_run.restart, "on_failure") && status != 0);
    const char *then = life.stopping ? "stopped" : retry ? "backoff" : status == 0 ? "exited" : "failed";
    if (shim_is(then, "backoff")) {
        state.word = then; /* told at once; a final word only once nothing is left */
        save();
    }
    clean_then(then);
}

/* Nothing of the run is left. */
static void cleaned(void) {
    shim_log_end(&shim_out);
    shim_log_end(&shim_err);
    if (life.again) {
        life.stopping = life.again = life.killed = false;
        state.restarts++;
        begin();
    } else if (shim_is(life.then, "backoff")) {
        int64_t now = shim_ms(CLOCK_MONOTONIC);
        const int64_t least = shim_run.backoff, most = 60 * least;
        bool first = !life.delay || now - life.began >= 10 * least; /* it ran a while: a new story */
        life.delay = first ? least : life.delay * 2 < most ? life.delay * 2 : most;
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
    if (!shim_slurp(path, text, sizeof text) || !shim_is(shim_value(text, "generation", ""), shim_run.generation))
        return 0; /* not started yet, or what is left of an earlier generation */
    const char *word = shim_value(text, "state", "");
    if (shim_is(word, "failed") || shim_is(word, "stopped")) {
        say(state.message, "%.63s %s, and this waits for it", other, word);
        return -1;
    }
    return shim_is(word, "exited") || (!done && shim_is(word, "running"));
}

static void wait_for_others(void) {
    for (int done = 1; done >= 0; done--)
        for (char **other = done ? shim_run.done : shim_run.after; *other; other++) {
            int r = look(*other, done);
            if (r < 0)
                clean_then("failed");
            if (r <= 0)
                return;
        }
    begin();
}

static void on_time(void) {
    int64_t now = shim_ms(CLOCK_MONOTONIC);
    if (life.deadline && now >= life.deadline) {
        life.deadline = 0;
        if (life.phase == BACKOFF) {
            state.restarts++;
            begin();
        } else if (life.phase == RUNNING) { /* it was asked to stop, and did not */
            life.killed = true;
            kill(-state.pid, SIGKILL);
            shim_kill_children(true);
        } else {
            shim_kill_children(true);
            life.look = life.look < 100 ? life.look * 2 : 100;
            life.deadline = now + life.look;
        }
    }
    if (state.unsaved)
        save();
    if (shim_log_owes())
        shim_log_flush();
}

static int patience(void) { /* ms until on_time has something to do */
    bool soon = life.deadline || state.unsaved || shim_log_owes() || (life.phase == WAITING && notices < 0);
    int64_t left = life.deadline ? life.deadline - shim_ms(CLOCK_MONOTONIC) : 1000;
    return !soon ? -1 : left < 0 ? 0 : left < 1000 ? (int)left : 1000;
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

static void serve(int signals, int door) {
    int clients[CLIENTS] = {-1, -1, -1, -1};
    while (life.phase != DONE) {
        if (life.phase == WAITING)
            wait_for_others();
        if (life.phase != WAITING && notices >= 0) {
            close(notices);
            notices = -1;
        }
        struct pollfd fds[5 + CLIENTS] = {
            {.fd = signals}, {.fd = shim_out.fd}, {.fd = shim_err.fd}, {.fd = notices}, {.fd = -1}};
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
            shim_log_read(&shim_out);
        if (fds[2].revents)
            shim_log_read(&shim_err);
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

/* Takes the lock: it says that we live. False when another shim has it. */
static bool take_lock(void) {
    int fd = open(shim_file("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        shim_die("%s: %s", shim_file("lock"), strerror(errno));
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* What the shim before us knew; true when it was killed in the middle, so that a run of it may still be there. */
static bool inherit(void) {
    char text[STATE];
    shim_slurp("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    if (!shim_slurp(shim_file("state"), text, sizeof text) || !shim_is(shim_value(text, "boot", ""), boot_id))
        return false;
    const char *word = shim_value(text, "state", "");
    if (shim_is(word, "exited") || shim_is(word, "failed") || shim_is(word, "stopped"))
        return false;
    bool ran = !shim_is(word, "waiting");
    if (shim_is(shim_value(text, "generation", ""), shim_run.generation))
        state.restarts = atol(shim_value(text, "restarts", "0")) + ran;
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
    shim_enter(dir);
    if (!take_lock()) {
        dprintf(2, "ok: it runs already\n");
        return 0;
    }
    if (inherit())
        shim_sweep();
    int signals = shim_signals(), door = listen_at(shim_file("sock"));
    if (signals < 0 || door < 0)
        shim_die("cannot serve %s: %s", shim_file("sock"), strerror(errno));
    if (shim_run.done[0] || shim_run.after[0])
        notices = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notices >= 0)
        inotify_add_watch(notices, ".", IN_MOVED_TO);
    shim_log_open();
    save();
    if (state.unsaved) /* nobody could see what becomes of it */
        shim_die("%s: %s", shim_file("state"), strerror(errno));
    dprintf(2, "ok\n");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    serve(signals, door);
    shim_groups_remove();
    unlink(shim_file("sock"));
    for (save(); state.unsaved && errno != ENOENT; save())
        sleep(1); /* a full disk: how it ended must not be lost; a folder that is gone has nobody who would ask */
    return 0;
}

static int mode_sweep(const char *dir) {
    shim_enter(dir);
    if (!take_lock())
        shim_die("%s is still held by a shim", shim_service);
    inherit();
    shim_sweep();
    shim_groups_remove();
    state.word = "stopped";
    say(state.message, "its shim was killed");
    save();
    if (state.unsaved)
        shim_die("%s cannot be written: %s", shim_file("state"), strerror(errno));
    dprintf(2, "ok\n");
    return 0;
}

int main(int argc, char **argv) {
    shim_service = argc > 3 ? argv[3] : "";
    if (argc == 4 && shim_is(argv[1], "run"))
        return mode_run(argv[2]);
    if (argc == 4 && shim_is(argv[1], "sweep"))
        return mode_sweep(argv[2]);
    if (argc > 4 && shim_is(argv[1], "exec"))
        return shim_mode_exec(argv[2], argv + 4);
    dprintf(2, "ctrlplane-shim is started by ctrlplane: run|sweep DIR SERVICE, exec DIR SERVICE COMMAND...\n");
    return 2;
}
