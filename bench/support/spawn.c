/* bench/support/spawn.c -- The floor of starting processes: posix_spawn of the shim for each folder DIR/0 .. DIR/N-1,
 * all at once, until every state file says "running". Prints the milliseconds, then stops them all. Must not know
 * ctrlplane.
 *
 *   spawn SHIM DIR N */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The pid of the shim once its state file has the word; else 0. */
static pid_t state(const char *dir, int i, const char *word) {
    char path[4096], text[2048], wanted[64];
    snprintf(path, sizeof path, "%s/%d/app.state", dir, i);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return 0;
    text[n] = '\0';
    snprintf(wanted, sizeof wanted, "\nstate %s\n", word);
    const char *shim = strstr(text, "\nshim ");
    return strstr(text, wanted) && shim ? (pid_t)atol(shim + 6) : 0;
}

static void wait_for_all(const char *dir, int count, const char *word, pid_t *shims) {
    for (int i = 0; i < count; i++)
        while (!(shims[i] = state(dir, i, word)))
            usleep(500);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int count = atoi(argv[3]);
    pid_t *shims = calloc((size_t)count, sizeof *shims);
    double began = now_ms();
    for (int i = 0; i < count; i++) {
        char dir[4096];
        snprintf(dir, sizeof dir, "%s/%d", argv[2], i);
        char *child[] = {argv[1], "run", dir, "app", NULL};
        posix_spawn_file_actions_t actions;
        pid_t pid;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0); /* its "ok" */
        if (posix_spawn(&pid, child[0], &actions, NULL, child, environ) != 0)
            return 1;
        posix_spawn_file_actions_destroy(&actions);
    }
    while (wait(NULL) > 0) /* each has put itself into the background */
        ;
    wait_for_all(argv[2], count, "running", shims);
    printf("%.1f\n", now_ms() - began);
    for (int i = 0; i < count; i++)
        kill(shims[i], SIGTERM);
    wait_for_all(argv[2], count, "stopped", shims);
    return 0;
}
