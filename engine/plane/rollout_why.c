/* engine/plane/rollout_why.c -- What a rollout waits for, at any time, as rows: guard, condition or person, the value,
 * the value needed, since when, until when. "Stuck without a reason" must not exist. Changes nothing. */
#include "plane/rollout.h"

#include <stdlib.h>
#include <string.h>

/* Since when a reason holds; wall, in memory only: a new engine counts from its start. */
typedef struct since {
    char *key;
    int64_t at;
    bool seen;
} since;

static void free_since(since *s) {
    free(s->key);
    free(s);
}

void cp_rollout_forget_since(cp_rollout *r) {
    for (size_t i = 0; i < r->since.count; i++)
        free_since(r->since.items[i]);
    cp_vec_clear(&r->since);
}

static int64_t since_when(cp_rollout *r, const char *guard, const char *instance, const char *release) {
    cp_autofree char *key = cp_printf("%s/%s/%s", guard, instance ? instance : "", release ? release : "");
    for (size_t i = 0; i < r->since.count; i++) {
        since *s = r->since.items[i];
        if (strcmp(s->key, key) == 0) {
            s->seen = true;
            return s->at;
        }
    }
    since *s = cp_new0(since);
    *s = (since){.key = cp_take(key), .at = cp_plane_now(r->plane), .seen = true};
    cp_vec_push(&r->since, s);
    return s->at;
}

static const char *text_of(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

static void forget_unseen(cp_rollout *r) {
    for (size_t i = r->since.count; i-- > 0;) {
        since *s = r->since.items[i];
        if (s->seen) {
            s->seen = false;
            continue;
        }
        cp_vec_remove(&r->since, i);
        free_since(s);
    }
}

void cp_rollout_note_since(cp_rollout *r) {
    const cp_list *blocks = &r->wl->last.blocks;
    if (r->dep->rolling_back)
        since_when(r, "rolling_back", NULL, r->dep->previous_release_id);
    else if (!r->pending)
        since_when(r, "script", NULL, NULL);
    for (size_t i = 0; i < blocks->count && i < 50; i++) {
        const cp_block *block = CP_LIST_AT(blocks, cp_block, i);
        since_when(r, block->guard, block->instance_id, block->release_id);
    }
    cp_autojson json_t *provider = cp_reconcile_blocks(r->plane, r->wl);
    size_t i;
    const json_t *row;
    json_array_foreach(provider, i, row)
        since_when(r, text_of(row, "guard"), text_of(row, "instance_id"), text_of(row, "release_id"));
    for (i = 0; i < r->wl->instances.count && r->since.count < 100; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        if (!inst->row.ready && !cp_is_empty(inst->row.message))
            since_when(r, "instance", inst->row.id, inst->row.release_id);
    }
    forget_unseen(r);
}

static void stamp(json_t *row, const char *key, int64_t at) {
    char text[32];
    cp_time_format(at, text);
    json_object_set_new(row, key, json_string(text));
}

static void add(json_t *rows, cp_rollout *r, json_t *row, int64_t at) {
    stamp(row, "since",
          at ? at : since_when(r, text_of(row, "guard"), text_of(row, "instance_id"), text_of(row, "release_id")));
    json_array_append_new(rows, row);
}

static json_t *row_of(const char *guard, const char *message) {
    return json_pack("{s:s, s:f, s:f, s:s}", "guard", guard, "value", 0.0, "needed", 0.0, "message", message);
}

static void add_failure(json_t *rows, const cp_deployment *dep) {
    const char *text = dep->message ? dep->message : json_string_value(json_object_get(dep->error, "message"));
    json_t *row = row_of("failure", text ? text : "");
    stamp(row, "since", dep->finished_at ? dep->finished_at : dep->updated_at);
    json_object_set_new(row, "release_id", json_string(dep->release_id));
    json_object_set(row, "error", dep->error);
    json_array_append_new(rows, row);
}

static void add_pause(json_t *rows, cp_rollout *r) {
    const cp_deployment *dep = r->dep;
    cp_autofree char *text = NULL;
    if (dep->resume_after_pause)
        text = cp_strdup("the workload is paused; resume it and the rollout goes on");
    else if (!cp_is_empty(dep->held_by))
        text = cp_printf("%s paused it; resume, abort or cancel it", dep->held_by);
    else if (dep->rolling_back)
        text =
            cp_strdup("the way back failed; resume tries it again, cancel keeps what is there, a deploy replaces it");
    else
        text = cp_strdup(
            "a failure paused it; abort goes back, cancel keeps what is there, retry or a deploy replaces it");
    add(rows, r, row_of("person", text), dep->updated_at);
}

static void add_command(json_t *rows, cp_rollout *r) {
    const cp_deployment *dep = r->dep;
    if (dep->rolling_back) {
        const cp_decide_count *old = cp_rollout_count(r->wl, CP_SET_OLD);
        cp_autofree char *text = cp_printf("going back: %lld of %lld instances of the good release available",
                                           (long long)old->available, (long long)old->goal);
        json_t *row = json_pack("{s:s, s:f, s:f, s:s, s:s*}", "guard", "rolling_back", "value", (double)old->available,
                                "needed", (double)old->goal, "message", text, "release_id", dep->previous_release_id);
        add(rows, r, row, 0);
        return;
    }
    if (!r->pending) {
        add(rows, r, row_of("script", "the strategy's script is working towards its next command"), 0);
        return;
    }
    json_t *row = cp_rollout_command_row(r);
    int64_t due = cp_rollout_due(r), now = cp_rollout_now(r);
    if (cp_rollout_clocked(r) && dep->progress_deadline > 0 && dep->state == CP_DEPLOYMENT_RUNNING) {
        int64_t deadline = dep->progress_at + dep->progress_deadline;
        due = !due || deadline < due ? deadline : due;
    }
    if (due)
        stamp(row, "deadline", cp_plane_now(r->plane) + due - now);
    add(rows, r, row, r->pending->created_at);
}

static void add_blocks(json_t *rows, cp_rollout *r) {
    const cp_list *blocks = &r->wl->last.blocks;
    for (size_t i = 0; i < blocks->count && i < 50; i++) {
        json_t *row = cp_desc_json(&cp_block_desc, CP_LIST_AT(blocks, cp_block, i));
        add(rows, r, row, 0);
    }
    json_t *provider = cp_reconcile_blocks(r->plane, r->wl);
    size_t i;
    json_t *row;
    json_array_foreach(provider, i, row) add(rows, r, json_incref(row), 0);
    json_decref(provider);
}

/* What the growing instances themselves say. */
static void add_instances(json_t *rows, cp_rollout *r) {
    const char *release = r->dep->rolling_back ? r->dep->previous_release_id : r->dep->release_id;
    int shown = 0;
    for (size_t i = 0; i < r->wl->instances.count && shown < 10; i++) {
        const cp_inst *inst = r->wl->instances.items[i];
        if (inst->row.ready && !inst->available && cp_streq(inst->row.release_id, release)) {
            double had = (double)(cp_rollout_now(r) - inst->row.ready_at) / 1000,
                   needed = (double)r->dep->min_ready / 1000;
            cp_autofree char *text = cp_printf("%s is ready for %.1f s; it is available after %.10g s (min_ready)",
                                               inst->row.name, had, needed);
            json_t *row =
                json_pack("{s:s, s:f, s:f, s:s, s:s, s:s}", "guard", "min_ready", "value", had, "needed", needed,
                          "message", text, "instance_id", inst->row.id, "release_id", inst->row.release_id);
            add(rows, r, row, 0);
            shown++;
        }
        if (inst->row.ready || cp_is_empty(inst->row.message) || !cp_streq(inst->row.release_id, release))
            continue;
        cp_autofree char *text = cp_printf("%s: %s", inst->row.name, inst->row.message);
        json_t *row = row_of("instance", text);
        json_object_set_new(row, "instance_id", json_string(inst->row.id));
        json_object_set_new(row, "release_id", json_string(inst->row.release_id));
        add(rows, r, row, 0);
        shown++;
    }
}

json_t *cp_rollout_why(cp_plane *plane, cp_wl *wl, cp_deployment *dep) {
    (void)plane;
    json_t *rows = json_array();
    cp_rollout *r = wl->rollout && wl->rollout->dep == dep ? wl->rollout : NULL;
    if (r && dep->state == CP_DEPLOYMENT_PAUSED)
        add_pause(rows, r);
    if (dep->error)
        add_failure(rows, dep);
    if (r) {
        if (r->pending || dep->rolling_back || dep->state == CP_DEPLOYMENT_RUNNING)
            add_command(rows, r);
        if (dep->state == CP_DEPLOYMENT_RUNNING) {
            add_blocks(rows, r);
            add_instances(rows, r);
        }
    } else if (!cp_deployment_is_final(dep->state)) { /* between a failed commit and the reload */
        json_t *row = row_of("store", "the engine is reading its store again");
        stamp(row, "since", dep->updated_at);
        json_array_append_new(rows, row);
    }
    return rows;
}
