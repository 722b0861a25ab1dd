/* engine/plane/rollout_command.c -- Commands of a strategy as such: issued, answered from the journal, completed, and
 * their clocks. Must not know what a single one means, nor Lua. */
#include "plane/rollout_kinds.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Clocks of the pending command: plane times while it runs, what is left of them while it is paused. */
static const char *const CLOCKS[][2] = {{"due", "due_left"}, {"deadline", "deadline_left"}};

void cp_rollout_stop_clocks(cp_rollout *r) {
    if (!r->pending)
        return;
    for (size_t i = 0; i < CP_COUNT(CLOCKS); i++) {
        int64_t at = cp_command_recall(r->pending, CLOCKS[i][0]), now = cp_rollout_now(r);
        if (!at)
            continue;
        cp_command_remember(r->pending, CLOCKS[i][1], json_integer(at > now ? at - now : 0));
        json_object_del(r->pending->result, CLOCKS[i][0]);
    }
    cp_journal_save(r, r->pending);
}

void cp_rollout_start_clocks(cp_rollout *r) {
    if (!r->pending)
        return;
    for (size_t i = 0; i < CP_COUNT(CLOCKS); i++) {
        if (!json_object_get(r->pending->result, CLOCKS[i][1]))
            continue;
        cp_command_remember(r->pending, CLOCKS[i][0],
                            json_integer(cp_rollout_now(r) + cp_command_recall(r->pending, CLOCKS[i][1])));
        json_object_del(r->pending->result, CLOCKS[i][1]);
    }
    cp_journal_save(r, r->pending);
}

int64_t cp_rollout_due(const cp_rollout *r) {
    int64_t first = 0;
    for (size_t i = 0; r->pending && i < CP_COUNT(CLOCKS); i++) {
        int64_t at = cp_command_recall(r->pending, CLOCKS[i][0]);
        if (at && (!first || at < first))
            first = at;
    }
    return first;
}

bool cp_rollout_clocked(const cp_rollout *r) {
    if (r->dep->rolling_back)
        return true;
    const cp_command_kind *kind = r->pending ? cp_command_find(r->pending->name) : NULL;
    return kind && kind->clocked;
}

int cp_rollout_query(void *rollout, const char *name, const json_t *args, json_t **result, cp_error *err) {
    const cp_command_kind *kind = cp_command_find(name);
    if (!kind || kind->look || strcmp(name, "fail") == 0)
        return cp_fail(err, CP_E_INVALID,
                       "the function of wait_until may look with status, replicas and instances only");
    cp_command_args parsed = {0};
    int r = args ? cp_desc_parse(kind->args, args, &parsed, "", err) : 0;
    if (r == 0) {
        r = kind->begin(rollout, NULL, &parsed, result, err);
        cp_desc_clear(kind->args, &parsed);
    }
    return r;
}

/* Issuing. */

/* An answer from the journal. */
static int answer(cp_rollout *r, cp_command *command, cp_command_outcome *outcome, json_t **result, int64_t *now_wall,
                  cp_error *err) {
    if (!command->done) {
        r->waiting = true; /* the script is back at the line where the engine died */
        *outcome = CP_COMMAND_PENDING;
        cp_plane_dirty(r->plane, r->wl);
        return 0;
    }
    *now_wall = command->done_wall;
    const json_t *failed = json_object_get(command->result, "error");
    if (failed) {
        cp_error_from_json(err, failed);
        return err->code;
    }
    *result = json_incref(json_object_get(command->result, "value"));
    return 0;
}

/* Parses the arguments and begins; everything that this writes is in one transaction with the journal's line. */
static int begin(cp_rollout *r, const cp_command_kind *kind, cp_command *command, json_t **value, cp_error *err) {
    cp_command_args parsed = {0};
    int failed = cp_desc_parse(kind->args, command->args, &parsed, "", err);
    if (failed < 0)
        return cp_error_wrap(err, "%s", kind->name);
    failed = kind->begin(r, command, &parsed, value, err);
    if (failed == 0 && kind->look && parsed.timeout > 0)
        cp_command_remember(command, "deadline", json_integer(cp_rollout_now(r) + parsed.timeout));
    cp_desc_clear(kind->args, &parsed);
    return failed < 0 ? cp_error_wrap(err, "%s", kind->name) : 0;
}

int cp_rollout_command(void *rollout, int64_t number, const char *name, const json_t *args, const char *line,
                       cp_command_outcome *outcome, json_t **result, int64_t *now_wall, cp_error *err) {
    cp_rollout *r = rollout;
    if (cp_plane_stopped(r->plane)) {
        *outcome = CP_COMMAND_STOP; /* this engine decides nothing any more; the next one runs the script again */
        return 0;
    }
    cp_command *command;
    int failed = cp_journal_replay(r, number, name, args, line, &command, err);
    if (failed < 0)
        return failed;
    if (command)
        return answer(r, command, outcome, result, now_wall, err);
    const cp_command_kind *kind = cp_command_find(name);
    if (!kind)
        return cp_fail(err, CP_E_UNSUPPORTED, "this engine has no command '%s'", name);
    failed = cp_journal_add(r, name, args, line, &command, err);
    if (failed < 0)
        return failed;
    json_t *value = NULL;
    failed = begin(r, kind, command, &value, err);
    if (failed < 0 || !kind->look) {
        *result = json_incref(value);
        cp_journal_done(r, command, value, failed < 0 ? err : NULL);
        *now_wall = command->done_wall;
        if (failed == 0 && strcmp(name, "fail") == 0) {
            cp_autoerror cp_error why = {0};
            cp_fail(&why, CP_E_DEPLOYMENT_FAILED, "%s", json_string_value(*result));
            why.details = json_pack("{s:s}", "where", line);
            *outcome = CP_COMMAND_STOP;
            cp_rollout_stop_script(r, NULL);
            cp_rollout_fail(r, &why); /* r may be gone now */
        }
        return failed;
    }
    r->pending = command;
    r->waiting = true;
    if (r->dep->state == CP_DEPLOYMENT_PAUSED)
        cp_rollout_stop_clocks(r); /* the script was between two commands when somebody paused */
    cp_journal_save(r, command);
    *outcome = cp_plane_crash(r->plane, "command") ? CP_COMMAND_STOP : CP_COMMAND_PENDING;
    cp_plane_dirty(r->plane, r->wl);
    return 0;
}

/* Completing. */

static void complete(cp_rollout *r, json_t *value, const cp_error *err) {
    cp_command *command = r->pending;
    bool waiting = r->waiting;
    r->waiting = false;
    cp_journal_done(r, command, value, err);
    r->dep->progress_at = cp_rollout_now(r); /* a command done is progress */
    if (cp_plane_crash(r->plane, "command_done"))
        return;
    if (!err && strcmp(command->name, "finish") == 0) {
        cp_rollout_succeed(r);
        return;
    }
    cp_autofree char *text = cp_rollout_command_text(command);
    cp_rollout_tell(
        r, json_pack("{s:s, s:I, s:b}", "command", text, "number", (json_int_t)command->number, "failed", err != NULL));
    if (waiting) /* else the script, which is on its way here, finds it in the journal */
        r->plane->scripts->class->resume(r->run, json_object_get(command->result, "value"), err, command->done_wall);
}

void cp_rollout_look(cp_rollout *r) {
    const cp_command_kind *kind = r->pending ? cp_command_find(r->pending->name) : NULL;
    if (!kind || !kind->look || !r->run)
        return;
    json_t *value = NULL;
    cp_autoerror cp_error err = {0};
    int verdict = kind->look(r, r->pending, &value, &err);
    int64_t deadline = cp_command_recall(r->pending, "deadline");
    if (verdict == 0 && deadline && cp_rollout_now(r) >= deadline) {
        cp_autofree char *text = cp_rollout_command_text(r->pending);
        cp_autojson json_t *row = cp_rollout_command_row(r);
        verdict = cp_fail(&err, CP_E_TIMEOUT, "%s was not done within its timeout: %s", text,
                          json_string_value(json_object_get(row, "message")));
    }
    if (verdict == 0)
        return;
    if (verdict < 0 && !cp_is_empty(r->pending->line)) {
        if (!err.details)
            err.details = json_object();
        if (!json_object_get(err.details, "where"))
            json_object_set_new(err.details, "where", json_string(r->pending->line));
    }
    complete(r, value, verdict < 0 ? &err : NULL);
}

/* For people. */

char *cp_rollout_command_text(const cp_command *command) {
    cp_buf out = {0};
    cp_buf_puts(&out, command->name);
    static const char *const SHOWN[] = {"share", "duration", "name", "percent"};
    for (size_t i = 0; i < CP_COUNT(SHOWN); i++) {
        const json_t *value = json_object_get(command->args, SHOWN[i]);
        if (json_is_string(value))
            cp_buf_printf(&out, " %.60s", json_string_value(value));
        else if (json_is_number(value))
            cp_buf_printf(&out, " %.10g%s", json_number_value(value), strcmp(SHOWN[i], "duration") == 0 ? " s" : "");
    }
    return out.data;
}

json_t *cp_rollout_command_row(cp_rollout *r) {
    cp_command *command = r->pending;
    const cp_command_kind *kind = cp_command_find(command->name);
    const cp_decide_count *new = cp_rollout_count(r->wl, CP_SET_NEW), *old = cp_rollout_count(r->wl, CP_SET_OLD);
    cp_autofree char *text = cp_rollout_command_text(command);
    cp_autobuf cp_buf message = {0};
    double value = 0, needed = 0;
    if (!cp_is_empty(command->line))
        cp_buf_printf(&message, "%s at %s: ", text, command->line);
    else
        cp_buf_printf(&message, "%s: ", text);
    int64_t due = cp_command_recall(command, "due"), now = cp_rollout_now(r);
    if (due || json_object_get(command->result, "due_left")) {
        double left = (double)(due ? due - now : cp_command_recall(command, "due_left")) / 1000;
        value = (double)(now - command->issued_at) / 1000;
        needed = due ? (double)(due - command->issued_at) / 1000 : value + left;
        cp_buf_printf(&message, "%.1f s to go", left > 0 ? left : 0);
    } else if (strcmp(command->name, "wait_until") == 0) {
        cp_buf_puts(&message, "its condition does not hold yet");
    } else if (kind && strcmp(command->name, "retire") == 0) {
        value = (double)old->live;
        needed = (double)old->goal;
        cp_buf_printf(&message, "%" PRId64 " old instances, %" PRId64 " wanted", old->live, old->goal);
    } else {
        value = (double)new->available;
        needed = (double)new->goal;
        cp_buf_printf(&message, "%" PRId64 " of %" PRId64 " new instances available", new->available, new->goal);
        if (old->live > old->goal)
            cp_buf_printf(&message, ", %" PRId64 " old ones where %" PRId64 " are wanted", old->live, old->goal);
    }
    return json_pack("{s:s, s:f, s:f, s:s, s:s}", "guard", command->name, "value", value, "needed", needed, "message",
                     message.data, "release_id", r->dep->release_id);
}
