/* providers/process/shim_log.c -- The log of a service: CRI records of whole lines where they fit, rotated, never a
 * reason for the service to wait. What cannot be written is counted, and said when it can be again.
 * Must not know what runs. */
#include "providers/process/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BATCH = 32 << 10,    /* bytes of log written at once */
    LOG_SLACK = 2 << 20, /* a log file may be this much over its size while a line is unfinished */
    LOG_KEEP = 3,        /* rotated files beside the current one */
};

shim_stream shim_out = {.fd = -1, .name = "stdout"}, shim_err = {.fd = -1, .name = "stderr"};

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
    if (logs.stuck && logs.size > 2 * (int64_t)shim_run.log_max + LOG_SLACK)
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

void shim_log_open(void) {
    struct stat st;
    char text[4096], last = '\n';
    logs.fd = open(shim_file("log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
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
    if (logs.fd >= 0 && (stat(shim_file("log"), &st) < 0 || st.st_ino != logs.inode)) {
        gone = logs.lines;
        close(logs.fd);
        logs.fd = -1;
    }
    if (logs.fd < 0)
        shim_log_open();
    if (logs.fd < 0)
        return errno;
    return gone >= 0 ? log_notice("the log file was removed with %lld lines in it", gone) : 0;
}

static void log_rotate(void) {
    bool within = shim_out.open || shim_err.open;
    if (logs.size < shim_run.log_max + (within ? LOG_SLACK : 0) || logs.size < logs.stuck + shim_run.log_max / 8)
        return;
    for (int i = LOG_KEEP; i > 0; i--) {
        char from[96], to[96];
        snprintf(to, sizeof to, "%s.log.%d", shim_service, i);
        snprintf(from, sizeof from, i > 1 ? "%s.log.%d" : "%s.log", shim_service, i - 1);
        if (rename(from, to) < 0 && errno != ENOENT) {
            logs.stuck = logs.size; /* goes on in this file, and tries again later */
            logs.why = errno;
            return;
        }
    }
    close(logs.fd);
    shim_log_open();
}

void shim_log_flush(void) {
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
        shim_out.skip |= shim_out.open;
        shim_err.skip |= shim_err.open;
    } else {
        logs.lines += logs.whole;
        log_rotate();
    }
    logs.used = 0;
    logs.whole = 0;
    stamp();
}

static void log_record(shim_stream *s, char flag, const char *text, size_t len) {
    if (s->skip) { /* the beginning of this line is lost */
        logs.lost += flag == 'F';
        s->skip = flag != 'F';
        return;
    }
    if (logs.used + len + 64 > sizeof logs.batch)
        shim_log_flush();
    int n = snprintf(logs.batch + logs.used, 64, "%s %s %c ", logs.at, s->name, flag);
    memcpy(logs.batch + logs.used + n, text, len);
    logs.used += (size_t)n + len;
    logs.batch[logs.used++] = '\n';
    logs.whole += flag == 'F';
    s->open = flag == 'P';
}

/* Reads what there is, once. False when there is nothing now, or no more. */
bool shim_log_read(shim_stream *s) {
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
    shim_log_flush();
    return true;
}

/* All who could write are gone: what is still in the pipe belongs to the log; then nobody's pipe is waited for. */
void shim_log_end(shim_stream *s) {
    for (int i = 0; i < 128 && shim_log_read(s); i++)
        ;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    stamp();
    if (s->len || s->open || s->skip)
        log_record(s, 'F', s->text, s->len); /* a last line without its newline */
    s->len = 0;
    shim_log_flush();
}

bool shim_log_owes(void) {
    return logs.lost > 0;
}
