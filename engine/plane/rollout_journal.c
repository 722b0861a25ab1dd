/* engine/plane/rollout_journal.c -- The journal of a deployment: a command's intent goes in with the goal it sets, its
 * result with what completes it. Must not know what commands mean. */
#include "plane/rollout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void free_command(cp_command *command) {
    cp_desc_clear(&cp_command_desc, command);
    free(command);
}

void cp_journal_clear(cp_rollout *r) {
    for (size_t i = 0; i < r->journal.count; i++)
        free_command(r->journal.items[i]);
    cp_vec_clear(&r->journal);
    r->journal_bytes = 0;
    r->pending = NULL;
}

static size_t weight(const cp_command *command) {
    cp_autofree char *args = command->args ? cp_json_text(command->args) : NULL;
    cp_autofree char *result = command->result ? cp_json_text(command->result) : NULL;
    return 256 + (args ? strlen(args) : 0) + (result ? strlen(result) : 0);
}

static int load_one(void *userdata, void *row) {
    cp_rollout *r = userdata;
    cp_command *command = cp_new0(cp_command);
    *command = *(cp_command *)row;
    *(cp_command *)row = (cp_command){0};
    cp_vec_push(&r->journal, command);
    r->journal_bytes += weight(command);
    return 0;
}

void cp_journal_load(cp_rollout *r) {
    cp_autoerror cp_error err = {0};
    const char *const values[] = {r->dep->id, NULL};
    cp_journal_clear(r);
    if (cp_store_each(r->plane->store, &cp_command_desc, "deployment_id = ?", values, "number", 0, load_one, r, &err) <
        0)
        cp_journal_clear(r); /* the deployment is then run from nothing it could trust: start refuses */
    for (size_t i = 1; i < r->journal.count; i++) {
        cp_command *command = r->journal.items[i];
        r->pending = command->done ? NULL : command;
    }
}

void cp_journal_save(cp_rollout *r, cp_command *command) {
    command->updated_at = cp_plane_now(r->plane);
    cp_plane_save(r->plane, &cp_command_desc, command);
}

int cp_journal_add(cp_rollout *r, const char *name, const json_t *args, const char *line, cp_command **ret,
                   cp_error *err) {
    if (r->journal.count > CP_MAX_JOURNAL || r->journal_bytes > CP_MAX_JOURNAL_BYTES)
        return cp_fail(
            err, CP_E_TOO_LARGE,
            "the journal of %s is full: a strategy has at most %d commands and %d MiB of arguments and results",
            r->dep->id, CP_MAX_JOURNAL, CP_MAX_JOURNAL_BYTES >> 20);
    cp_command *command = cp_new0(cp_command);
    int64_t number = (int64_t)r->journal.count;
    *command = (cp_command){
        .id = cp_printf("%s/%06" PRId64, r->dep->id, number),
        .created_at = cp_plane_now(r->plane),
        .deployment_id = cp_strdup(r->dep->id),
        .number = number,
        .name = cp_strdup(name),
        .args = json_deep_copy(args),
        .line = cp_strdup(line),
        .issued_at = cp_plane_time(r->plane),
    };
    cp_vec_push(&r->journal, command);
    r->journal_bytes += weight(command);
    *ret = command;
    return 0;
}

void cp_journal_done(cp_rollout *r, cp_command *command, json_t *value, const cp_error *err) {
    json_t *result = json_object();
    if (err)
        json_object_set_new(result, "error", cp_error_json(err));
    else if (value)
        json_object_set_new(result, "value", value);
    json_decref(command->result);
    command->result = result;
    command->done = true;
    command->done_at = cp_plane_time(r->plane);
    command->done_wall = cp_plane_now(r->plane);
    r->journal_bytes += weight(command);
    if (r->pending == command)
        r->pending = NULL;
    cp_journal_save(r, command);
}

int cp_journal_replay(cp_rollout *r, int64_t number, const char *name, const json_t *args, const char *line,
                      cp_command **ret, cp_error *err) {
    *ret = NULL;
    if (number >= (int64_t)r->journal.count)
        return 0;
    cp_command *command = r->journal.items[number];
    cp_autofree char *ours = cp_json_sorted(command->args), *theirs = cp_json_sorted(args);
    if (!cp_streq(command->name, name) || !cp_streq(ours, theirs))
        return cp_fail(err, CP_E_NONDETERMINISM,
                       "command %" PRId64 " was %s %.200s (%s) when it ran first, and is %s %.200s (%s) now", number,
                       command->name, ours, command->line, name, theirs, line);
    *ret = command;
    return 0;
}

static int to_json(void *userdata, void *row) {
    cp_command *command = row;
    if (command->number == 0)
        return 0; /* not a command of the script's */
    json_t *view = cp_desc_json(&cp_command_desc, command);
    if (!command->done)
        json_object_del(view, "result"); /* what it remembers while it waits is ours */
    json_array_append_new(userdata, view);
    return 0;
}

json_t *cp_journal_json(cp_plane *plane, const cp_deployment *dep, cp_error *err) {
    cp_autojson json_t *items = json_array();
    const char *const values[] = {dep->id, NULL};
    if (cp_store_each(plane->store, &cp_command_desc, "deployment_id = ?", values, "number", 0, to_json, items, err) <
        0)
        return NULL;
    return cp_take(items);
}
