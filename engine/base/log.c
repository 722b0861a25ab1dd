/* engine/base/log.c -- The engine's own log, on stderr. */
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static const char *const LEVELS[] = {"debug", "info", "warn", "error", "none"};
static int current = -1;

static int threshold(void) {
    if (current >= 0)
        return current;
    current = CP_LOG_WARN;
    const char *wanted = getenv("CP_LOG");
    for (int i = 0; wanted && i < (int)CP_COUNT(LEVELS); i++)
        if (cp_streq(wanted, LEVELS[i]))
            current = i;
    return current;
}

void cp_log_set_level(cp_log_level level) {
    if (!getenv("CP_LOG"))
        current = (int)level;
}

void cp_log(cp_log_level level, const char *format, ...) {
    if ((int)level < threshold())
        return;
    struct timeval now;
    struct tm utc;
    gettimeofday(&now, NULL); /* for people only: nothing decides by it */
    gmtime_r(&now.tv_sec, &utc);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    va_list args;
    va_start(args, format);
    flockfile(stderr);
    fprintf(stderr, "%s.%03dZ %s ", stamp, (int)(now.tv_usec / 1000), LEVELS[level]);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(args);
}
