/* providers/process/provider_logs.c -- Reads the log files of a service in order, over rotation, and follows them.
 * A file is known by the time of its first record, which no two files share: a cursor is "<that time in ns>.<offset>",
 * and where the other stream was in the middle of a line, "-<time>.<offset>" of that line's beginning as well; reading
 * starts there then, and what lies before the cursor is not delivered again.
 * Must not know how the files are written but for their format (shim.c). */
#include "base/limits.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 64 << 10,  /* bytes read in one turn */
    STAMP = 30,        /* characters of a record's time */
    HEAD = STAMP + 10, /* " stdout F " */
    OLDEST = 3,        /* SERVICE.log.3 */
};

typedef struct place { /* behind, or at, a record: a file by its first time, and an offset */
    int64_t file, offset;
} place;

typedef struct half { /* a line whose end has not come yet */
    cp_buf text;
    bool open;
    place start;
    int64_t at_ns;
} half;

typedef struct mark { /* where to go on: reading starts at `from`; delivering behind `to` */
    place from, to;
} mark;

struct cp_log_source {
    cp_process *process;
    char *instance_id, *dir, *service;
    bool follow, ended, gone, calling, freed, followed;
    int64_t since_ns;
    cp_log_sink *sink;
    void *userdata;
    int fd;
    place at; /* of the next byte to read; file 0: its first record has not come yet */
    ino_t inode;
    cp_buf bytes; /* read, and not yet a whole record */
    half halves[2];
    place muted; /* nothing is delivered up to here; file 0: everything is */
    bool starting;
    /* tail: a first pass only counts */
    int64_t tail; /* -1: no (more) */
    int tail_age; /* the oldest file of this pass */
    mark *marks;  /* ring of tail + 1 */
    int64_t seen;
};

static void pump(void *userdata);

/* ---- times and places ---- */

static int64_t parse_stamp(const char *text) { /* 2026-11-25T17:22:42.927321269Z; 0: it is none */
    struct tm tm = {0};
    long ns = 0;
    char copy[STAMP + 1];
    memcpy(copy, text, STAMP);
    copy[STAMP] = '\0';
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d.%9ldZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &ns) != 7)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm) * 1000000000 + ns;
}

static int64_t first_time(int fd) {
    char head[STAMP];
    return pread(fd, head, STAMP, 0) == STAMP ? parse_stamp(head) : 0;
}

static bool parse_place(const char **text, place *ret) {
    int used = 0;
    if (sscanf(*text, "%" SCNd64 ".%" SCNd64 "%n", &ret->file, &ret->offset, &used) != 2 || ret->file < 0 ||
        ret->offset < 0)
        return false;
    *text += used;
    return true;
}

static int parse_cursor(const char *text, mark *ret, cp_error *err) {
    const char *rest = text;
    bool ok = parse_place(&rest, &ret->to);
    ret->from = ret->to;
    if (ok && *rest == '-') {
        rest++;
        ok = parse_place(&rest, &ret->from);
    }
    if (!ok || *rest)
        return cp_fail(err, CP_E_INVALID, "after is '%.80s', which is no cursor of this log", text);
    return 0;
}

/* ---- files ---- */

static int open_file(const cp_log_source *s, int age) { /* 0: the current one */
    char suffix[16] = "";
    if (age)
        snprintf(suffix, sizeof suffix, ".%d", age);
    cp_autofree char *path = cp_printf("%s/%s.log%s", s->dir, s->service, suffix);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void take_file(cp_log_source *s, int fd, int64_t offset) {
    if (s->fd >= 0)
        close(s->fd);
    struct stat st = {0};
    fstat(fd, &st);
    s->fd = fd;
    s->inode = st.st_ino;
    s->at = (place){.file = first_time(fd), .offset = offset};
    cp_buf_clear(&s->bytes);
}

/* The next file behind the current one; false when there is none (yet). The names move while they are looked at: a
 * second look follows until two agree. */
static bool next_file(cp_log_source *s) {
    for (int tries = 0; tries < 10; tries++) {
        int fds[OLDEST + 1], found = -1, oldest = -1, newer = -1;
        struct stat first, last, st;
        cp_autofree char *current = cp_printf("%s/%s.log", s->dir, s->service);
        if (stat(current, &first) < 0)
            return false; /* between two names, or removed */
        for (int age = OLDEST; age >= 0; age--) {
            fds[age] = open_file(s, age);
            if (fds[age] < 0 || fstat(fds[age], &st) < 0)
                continue;
            oldest = oldest < 0 ? age : oldest;
            if (s->fd >= 0 && st.st_ino == s->inode) /* we hold it open: nobody else has that number */
                found = age;
            else if (newer < 0 && s->at.file && first_time(fds[age]) > s->at.file)
                newer = age; /* the oldest of those behind a file that is gone */
        }
        int pick = s->fd < 0 ? oldest : found > 0 ? found - 1 : found == 0 ? -1 : newer >= 0 ? newer : 0;
        while (pick > 0 && fds[pick] < 0)
            pick--;
        bool stable = stat(current, &last) == 0 && last.st_ino == first.st_ino;
        bool took =
            stable && pick >= 0 && fds[pick] >= 0 && (found >= 0 || s->fd < 0 || pick > 0 || last.st_ino != s->inode);
        for (int age = OLDEST; age >= 0; age--)
            if (fds[age] >= 0 && !(took && age == pick))
                close(fds[age]);
        if (took)
            take_file(s, fds[pick], 0);
        if (stable)
            return took;
    }
    return false;
}

/* Is the current file still the one that is written? */
static bool is_current(const cp_log_source *s) {
    cp_autofree char *path = cp_printf("%s/%s.log", s->dir, s->service);
    struct stat st;
    return stat(path, &st) < 0 || st.st_ino == s->inode; /* none: a new one may come */
}

/* Goes to the place, or to the first file behind it when it is gone. */
static void go_to(cp_log_source *s, place p) {
    for (int age = OLDEST; age >= 0; age--) {
        int fd = open_file(s, age);
        int64_t time = fd >= 0 ? first_time(fd) : 0;
        if (fd >= 0 && time >= p.file && (time || age == 0)) {
            take_file(s, fd, time == p.file ? p.offset : 0);
            if (time != p.file)
                s->muted = (place){0};
            return;
        }
        if (fd >= 0)
            close(fd);
    }
    next_file(s);
}

/* ---- records ---- */

static bool before(place a, place b) {
    return a.file < b.file || (a.file == b.file && a.offset < b.offset);
}

/* Where to go on behind everything that was read so far. */
static mark here(const cp_log_source *s) {
    mark m = {.from = s->at, .to = s->at};
    for (int i = 0; i < 2; i++)
        if (s->halves[i].open && before(s->halves[i].start, m.from))
            m.from = s->halves[i].start;
    return m;
}

static bool is_muted(const cp_log_source *s) {
    return s->muted.file && !before(s->muted, s->at);
}

static void deliver(cp_log_source *s, int stream, bool partial) {
    half *h = &s->halves[stream];
    if (s->tail >= 0) {
        if (s->tail > 0)
            s->marks[s->seen % (s->tail + 1)] = here(s);
        s->seen++;
        return;
    }
    if (is_muted(s) || h->at_ns < s->since_ns)
        return;
    mark m = here(s);
    char cursor[96];
    int n = snprintf(cursor, sizeof cursor, "%" PRId64 ".%" PRId64, m.to.file, m.to.offset);
    if (before(m.from, m.to))
        snprintf(cursor + n, sizeof cursor - (size_t)n, "-%" PRId64 ".%" PRId64, m.from.file, m.from.offset);
    cp_log_line line = {
        .at_ns = h->at_ns,
        .stderr_stream = stream == 1,
        .partial = partial,
        .text = h->text.data ? h->text.data : "",
        .len = h->text.len,
        .cursor = cursor,
    };
    s->sink(s->userdata, &line, NULL);
}

static void record(cp_log_source *s, const char *text, size_t len, place start) {
    int64_t at_ns = len >= HEAD ? parse_stamp(text) : 0;
    if (!at_ns || text[STAMP] != ' ' || text[HEAD - 1] != ' ')
        return; /* not ours: torn by a power cut, or written by somebody else */
    int stream = strncmp(text + STAMP + 1, "stderr", 6) == 0;
    half *h = &s->halves[stream];
    if (!h->open) {
        h->open = true;
        h->start = start;
        h->at_ns = at_ns;
    }
    bool final = text[HEAD - 2] == 'F';
    const char *body = text + HEAD;
    size_t left = len - HEAD;
    if (h->text.len + left > CP_MAX_LOG_LINE) { /* longer than a line may be: in parts, each flagged but the last */
        size_t fits = CP_MAX_LOG_LINE - h->text.len;
        cp_buf_add(&h->text, body, fits);
        deliver(s, stream, true);
        h->text.len = 0;
        h->at_ns = at_ns;
        h->start = start;
        body += fits;
        left -= fits;
        if (s->freed)
            return;
    }
    cp_buf_add(&h->text, body, left);
    if (!final)
        return;
    h->open = false;
    deliver(s, stream, false);
    if (h->text.capacity > CHUNK)
        cp_buf_clear(&h->text); /* one long line must not cost memory for ever */
    h->text.len = 0;
}

/* Takes the whole records out of what was read. */
static void records(cp_log_source *s) {
    size_t used = 0;
    char *newline;
    while (!s->freed && s->bytes.len > used && (newline = memchr(s->bytes.data + used, '\n', s->bytes.len - used))) {
        size_t len = (size_t)(newline - s->bytes.data) - used;
        if (!s->at.file && len >= STAMP)
            s->at.file = parse_stamp(s->bytes.data + used);
        place start = s->at;
        s->at.offset += (int64_t)len + 1;
        record(s, s->bytes.data + used, len, start);
        used += len + 1;
    }
    cp_buf_consume(&s->bytes, used);
    if (s->bytes.len > CP_MAX_LOG_LINE) { /* no record of ours is that long */
        s->at.offset += (int64_t)s->bytes.len;
        cp_buf_clear(&s->bytes);
    }
}

/* ---- the pump ---- */

static void end(cp_log_source *s) {
    s->ended = true;
    s->sink(s->userdata, NULL, NULL);
}

/* The counting pass is over: begin at the mark, or count further back. */
static void end_of_count(cp_log_source *s) {
    if (s->seen < s->tail + 1 && s->tail_age < OLDEST && s->tail > 0) {
        int age = s->tail_age + 1, fd = -1;
        while (age <= OLDEST && (fd = open_file(s, age)) < 0)
            age++;
        s->tail_age = age;
        if (fd >= 0) {
            s->seen = 0;
            s->halves[0].open = s->halves[1].open = false;
            s->halves[0].text.len = s->halves[1].text.len = 0;
            take_file(s, fd, 0);
            return;
        }
    }
    bool all = s->seen <= s->tail, none = s->tail == 0;
    /* The ring holds the places behind the last tail + 1 lines: the oldest is where the wanted ones begin. */
    mark m = none || all ? (mark){{0}, {0}} : s->marks[s->seen % (s->tail + 1)];
    free(s->marks);
    s->marks = NULL;
    s->tail = -1;
    if (none)
        return; /* go on from the end */
    s->halves[0].open = s->halves[1].open = false;
    s->halves[0].text.len = s->halves[1].text.len = 0;
    if (all) { /* there are no more: from the oldest on */
        if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
        s->at = (place){0};
        cp_buf_clear(&s->bytes);
        return;
    }
    s->muted = m.to;
    go_to(s, m.from);
}

static void start(cp_log_source *s) {
    s->starting = false;
    if (s->tail >= 0) {
        int fd = open_file(s, 0);
        if (fd >= 0)
            take_file(s, fd, 0);
    } else if (s->muted.file) {
        place from = {.file = s->at.file, .offset = s->at.offset};
        go_to(s, from);
    } else {
        next_file(s);
    }
}

/* One turn's worth. True when there is more to do at once. */
static bool step(cp_log_source *s) {
    if (s->starting)
        start(s);
    if (s->fd < 0 && !next_file(s))
        return false;
    bool current = is_current(s); /* before reading: what was written before the rotation is read below */
    char *chunk = cp_alloc0(CHUNK);
    ssize_t n = pread(s->fd, chunk, CHUNK, s->at.offset + (int64_t)s->bytes.len);
    if (n > 0)
        cp_buf_add(&s->bytes, chunk, (size_t)n);
    free(chunk);
    if (n > 0) {
        records(s);
        return true;
    }
    return !current && next_file(s);
}

static void pump(void *userdata) {
    cp_log_source *s = userdata;
    if (s->ended)
        return;
    s->calling = true;
    bool more = step(s);
    if (!more && !s->freed && s->tail >= 0) {
        end_of_count(s);
        more = true;
    } else if (!more && !s->freed && (!s->follow || s->gone)) {
        end(s);
    }
    s->calling = false;
    if (s->freed)
        cp_process_logs_free(&s->process->base, s);
    else if (more) {
        cp_loop_forget(s->process->base.loop, s);
        cp_loop_defer(s->process->base.loop, pump, s);
    }
}

void cp_process_logs_wake(cp_process *process, const char *instance_id, bool gone) {
    for (size_t i = 0; i < process->sources.count; i++) {
        cp_log_source *s = process->sources.items[i];
        if (s->ended || (instance_id && strcmp(s->instance_id, instance_id) != 0))
            continue;
        if (gone && !s->gone) { /* its files were moved there */
            s->gone = true;
            s->followed = false;
            free(s->dir);
            s->dir = cp_printf("%s/gone/%s", process->data_dir, s->instance_id);
        }
        cp_loop_forget(process->base.loop, s);
        cp_loop_defer(process->base.loop, pump, s);
    }
}

/* ---- opening and closing ---- */

static void unfollow(cp_log_source *s) {
    cp_proc *proc = s->followed ? cp_table_get(s->process->instances, s->instance_id) : NULL;
    if (proc && --proc->followers == 0)
        cp_proc_watch(proc, false);
    s->followed = false;
}

void cp_process_logs_free(cp_provider *provider, cp_log_source *source) {
    cp_process *process = (cp_process *)provider;
    if (!source)
        return;
    if (source->calling) { /* its sink frees it: the pump does it */
        source->freed = source->ended = true;
        return;
    }
    unfollow(source);
    cp_loop_forget(process->base.loop, source);
    cp_vec_drop(&process->sources, source);
    if (source->fd >= 0)
        close(source->fd);
    cp_buf_clear(&source->bytes);
    cp_buf_clear(&source->halves[0].text);
    cp_buf_clear(&source->halves[1].text);
    free(source->marks);
    free(source->instance_id);
    free(source->dir);
    free(source->service);
    free(source);
}

static const char *main_service(const cp_record *record) {
    for (size_t i = 0; i < record->services.count; i++)
        if (CP_LIST_AT(&record->services, cp_service, i)->role == CP_ROLE_MAIN)
            return CP_LIST_AT(&record->services, cp_service, i)->name;
    return NULL;
}

int cp_process_logs(cp_provider *provider, const char *instance_id, const char *service, const cp_log_options *options,
                    cp_log_sink *sink, void *userdata, cp_log_source **ret, cp_error *err) {
    enum { MOST_TAIL = 1000000 };
    cp_process *process = (cp_process *)provider;
    cp_proc *proc = cp_table_get(process->instances, instance_id);
    cp_autofree char *dir =
        proc ? cp_strdup(proc->dir)
             : cp_printf("%s/gone/%s", process->data_dir, strchr(instance_id, '/') ? "" : instance_id);
    const char *name = service ? service : proc ? main_service(&proc->record) : NULL;
    if (!proc && access(dir, F_OK) < 0)
        return cp_fail(err, CP_E_NOT_FOUND, "there are no logs of instance %s", instance_id);
    if (!name || !*name || strchr(name, '/'))
        return cp_fail(err, CP_E_INVALID, "service is '%s'; name one of the instance", name ? name : "");
    mark after = {{0}, {0}};
    if (!cp_is_empty(options->after)) {
        int r = parse_cursor(options->after, &after, err);
        if (r < 0)
            return r;
    }
    cp_log_source *s = cp_new0(cp_log_source);
    *s = (cp_log_source){
        .process = process,
        .instance_id = cp_strdup(instance_id),
        .dir = cp_take(dir),
        .service = cp_strdup(name),
        .follow = options->follow,
        .gone = !proc,
        .since_ns = options->since < INT64_MAX / 1000000 ? options->since * 1000000 : INT64_MAX, /* the year 2999 */
        .sink = sink,
        .userdata = userdata,
        .fd = -1,
        .at = after.from,
        .muted = after.to,
        .starting = true,
        .tail = !cp_is_empty(options->after) || options->tail < 0 ? -1 : options->tail,
    };
    if (s->tail > MOST_TAIL)
        s->tail = MOST_TAIL;
    if (s->tail > 0)
        s->marks = cp_alloc0((size_t)(s->tail + 1) * sizeof *s->marks);
    if (s->follow && proc) {
        s->followed = true;
        if (proc->followers++ == 0)
            cp_proc_watch(proc, true);
    }
    cp_vec_push(&process->sources, s);
    cp_loop_defer(provider->loop, pump, s);
    *ret = s;
    return 0;
}
