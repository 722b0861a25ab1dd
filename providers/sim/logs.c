/* providers/sim/logs.c -- Log lines of simulated services, kept in memory, and who follows them.
 * A cursor is the number of the next line of the instance. */
#include "providers/sim/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINES 1000 /* per instance; the oldest go */

static void deliver(void *userdata);

int sim_service_index(const sim_instance *instance, const char *service, size_t *ret, cp_error *err) {
    const cp_list *services = &instance->release->services.items;
    if (!service) {
        *ret = instance->release->main;
        return 0;
    }
    for (size_t i = 0; i < services->count; i++)
        if (cp_streq(CP_LIST_AT(services, const cp_service, i)->name, service)) {
            *ret = i;
            return 0;
        }
    return cp_fail(err, CP_E_NOT_FOUND, "instance %s has no service '%s'", instance->id, service);
}

static void wake_followers(sim_instance *instance) {
    sim *s = instance->sim;
    for (size_t i = 0; i < s->sources.count; i++) {
        cp_log_source *source = s->sources.items[i];
        if (source->follow && !source->scheduled && cp_streq(source->instance_id, instance->id)) {
            source->scheduled = true;
            cp_loop_defer(s->provider.loop, deliver, source);
        }
    }
}

void sim_log(sim_instance *instance, size_t service, bool stderr_stream, const char *text) {
    if (instance->line_count == MAX_LINES) {
        free(instance->lines[0].text);
        memmove(instance->lines, instance->lines + 1, (MAX_LINES - 1) * sizeof(sim_line));
        instance->line_count--;
        instance->line_base++;
    }
    if (instance->line_count == instance->line_capacity) {
        instance->line_capacity = instance->line_capacity ? instance->line_capacity * 2 : 1;
        instance->lines = cp_realloc(instance->lines, instance->line_capacity * sizeof(sim_line));
    }
    instance->lines[instance->line_count++] = (sim_line){
        .at = cp_loop_wall(instance->sim->provider.loop),
        .service = service,
        .stderr_stream = stderr_stream,
        .text = cp_strdup(text),
    };
    wake_followers(instance);
}

void sim_lines_free(sim_instance *instance) {
    for (size_t i = 0; i < instance->line_count; i++)
        free(instance->lines[i].text);
    free(instance->lines);
}

void sim_logs_end(sim_instance *instance) {
    wake_followers(instance); /* they find it gone in the next turn */
}

static bool wanted(const cp_log_source *source, const sim_line *line) {
    return line->service == source->service && line->at >= source->since;
}

static void send_line(cp_log_source *source, const sim_line *line) {
    char cursor[24];
    snprintf(cursor, sizeof cursor, "%zu", source->next);
    cp_log_line out = {
        .at_ns = line->at * 1000000,
        .stderr_stream = line->stderr_stream,
        .text = line->text,
        .len = strlen(line->text),
        .cursor = cursor,
    };
    source->sink(source->userdata, &out, NULL);
}

/* Sends everything that is there. The sink may free the source: `alive` tells. */
static void deliver(void *userdata) {
    cp_log_source *source = userdata;
    sim *s = source->sim;
    bool alive = true;
    source->scheduled = false;
    source->alive = &alive;
    sim_instance *instance = cp_table_get(s->instances, source->instance_id);
    while (instance && source->next < instance->line_base + instance->line_count) {
        if (source->next < instance->line_base)
            source->next = instance->line_base;
        const sim_line *line = &instance->lines[source->next++ - instance->line_base];
        if (wanted(source, line))
            send_line(source, line);
        if (!alive)
            return;
    }
    source->alive = NULL;
    if (!instance || !source->follow) {
        source->follow = false; /* nothing more comes */
        source->sink(source->userdata, NULL, NULL);
    }
}

/* The number of the first of the last `tail` lines that the source wants. */
static size_t tail_start(const cp_log_source *source, const sim_instance *instance, int64_t tail) {
    size_t i = instance->line_count;
    for (; i > 0 && tail > 0; i--)
        tail -= wanted(source, &instance->lines[i - 1]);
    return instance->line_base + i;
}

int sim_logs(cp_provider *provider, const char *instance_id, const char *service, const cp_log_options *options,
             cp_log_sink *sink, void *userdata, cp_log_source **ret, cp_error *err) {
    sim *s = (sim *)provider;
    sim_instance *instance = cp_table_get(s->instances, instance_id);
    if (!instance)
        return cp_fail(err, CP_E_NOT_FOUND, "instance %s is gone, and its logs with it", instance_id);
    cp_log_source *source = cp_new0(cp_log_source);
    *source = (cp_log_source){.sim = s,
                              .since = options->since,
                              .follow = options->follow,
                              .sink = sink,
                              .userdata = userdata,
                              .next = instance->line_base};
    int r = sim_service_index(instance, service, &source->service, err);
    if (r == 0 && options->after) {
        char *end;
        errno = 0;
        unsigned long long next = strtoull(options->after, &end, 10);
        if (errno || *end || end == options->after)
            r = cp_fail_at(err, CP_E_INVALID, "after", NULL, "'%s' is not a cursor of a log", options->after);
        source->next = (size_t)next;
    } else if (r == 0 && options->tail >= 0) {
        source->next = tail_start(source, instance, options->tail);
    }
    if (r < 0) {
        free(source);
        return r;
    }
    source->instance_id = cp_strdup(instance_id);
    source->scheduled = true;
    cp_vec_push(&s->sources, source);
    cp_loop_defer(provider->loop, deliver, source);
    *ret = source;
    return 0;
}

void sim_logs_free(cp_provider *provider, cp_log_source *source) {
    sim *s = (sim *)provider;
    if (!source)
        return;
    if (source->alive)
        *source->alive = false;
    cp_loop_forget(provider->loop, source);
    cp_vec_drop(&s->sources, source);
    free(source->instance_id);
    free(source);
}
