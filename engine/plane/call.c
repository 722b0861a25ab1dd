/* engine/plane/call.c -- The table of operations, calls from request to reply, waiters, streams.
 * A call runs in a savepoint of a turn; its reply goes out after the commit. When the commit fails nobody knows yet
 * whether it was done: such calls wait here until the store can be trusted again. Must not know what operations do. */
#include "plane/args.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITE CP_OPERATION_MUTATES
#define ID CP_OPERATION_ID
static const cp_operation OWN[] = {
    {"workloads.create", "POST", "/workloads", WRITE, &cp_create_args_desc, NULL, "workload",
     "Creates a workload and rolls out its first release.", cp_run_create},
    {"workloads.list", "GET", "/workloads", 0, &cp_list_args_desc, NULL, "list of workload",
     "Lists workloads, newest first.", cp_run_list},
    {"workloads.get", "GET", "/workloads/{id}", ID, &cp_none_args_desc, "workload", "workload",
     "One workload by id or slug.", cp_run_get},
    {"workloads.get_by_slug", "GET", "/workloads/{id}", ID, &cp_none_args_desc, "workload", "workload",
     "One workload by its slug.", cp_run_get_by_slug},
    {"workloads.update", "PATCH", "/workloads/{id}", WRITE | ID, &cp_update_args_desc, "workload", "workload",
     "Changes name and labels at once; services become the draft of the next deploy.", cp_run_update},
    {"workloads.scale", "POST", "/workloads/{id}/scale", WRITE | ID, &cp_scale_args_desc, "workload", "workload",
     "Changes how many replicas run.", cp_run_scale},
    {"workloads.pause", "POST", "/workloads/{id}/pause", WRITE | ID, &cp_wait_args_desc, "workload", "workload",
     "Stops every replica and remembers how many there were.", cp_run_pause},
    {"workloads.resume", "POST", "/workloads/{id}/resume", WRITE | ID, &cp_wait_args_desc, "workload", "workload",
     "Starts what pause stopped.", cp_run_resume},
    {"workloads.restart", "POST", "/workloads/{id}/restart", WRITE | ID, &cp_restart_args_desc, "workload", "workload",
     "Restarts every replica in place, a few at a time.", cp_run_restart},
    {"workloads.deploy", "POST", "/workloads/{id}/deploy", WRITE | ID, &cp_deploy_args_desc, "workload", "deployment",
     "Rolls out changed services, a release, or the draft.", cp_run_deploy},
    {"workloads.rollback", "POST", "/workloads/{id}/rollback", WRITE | ID, &cp_rollback_args_desc, "workload",
     "deployment", "Rolls out an earlier release again.", cp_run_rollback},
    {"workloads.delete", "DELETE", "/workloads/{id}", WRITE | ID, &cp_delete_args_desc, "workload", "workload",
     "Ends any rollout, destroys every replica, then the workload.", cp_run_delete},
    {"workloads.list_instances", "GET", "/workloads/{id}/instances", ID, &cp_none_args_desc, "workload",
     "list of instance", "Its replicas, by index.", cp_run_list_instances},
    {"workloads.list_releases", "GET", "/workloads/{id}/releases", ID, &cp_page_args_desc, "workload",
     "list of release", "Its releases, newest first.", cp_run_list_releases},
    {"workloads.list_deployments", "GET", "/workloads/{id}/deployments", ID, &cp_page_args_desc, "workload",
     "list of deployment", "Its rollouts, newest first.", cp_run_list_deployments},
    {"workloads.stream_logs", "GET", "/workloads/{id}/logs", ID | CP_OPERATION_STREAM, &cp_logs_args_desc, "workload",
     "stream of log_event", "Log lines of all replicas.", NULL},
    {"instances.get", "GET", "/instances/{id}", ID, &cp_none_args_desc, "instance", "instance",
     "One replica; also after it was destroyed.", cp_run_instance_get},
    {"releases.get", "GET", "/releases/{id}", ID, &cp_none_args_desc, "release", "release", "One release.",
     cp_run_release_get},
    {"events.list", "GET", "/events", 0, &cp_events_args_desc, NULL, "list of event", "Past events, newest first.",
     cp_run_events_list},
    {"events.stream", "GET", "/events", CP_OPERATION_STREAM, &cp_events_stream_args_desc, NULL, "stream of event",
     "Events as they are committed, from any position.", NULL},
    {"providers.list", "GET", "/providers", 0, &cp_none_args_desc, NULL, "list of provider",
     "The runtimes and what they can.", cp_run_providers_list},
};

const cp_operation *cp_operations(size_t *count) {
    static cp_operation *all;
    if (!all) {
        cp_args_init();
        all = cp_alloc0((CP_COUNT(OWN) + cp_deployment_operation_count) * sizeof *all);
        memcpy(all, OWN, sizeof OWN);
        memcpy(all + CP_COUNT(OWN), cp_deployment_operations, cp_deployment_operation_count * sizeof *all);
    }
    *count = CP_COUNT(OWN) + cp_deployment_operation_count;
    return all;
}

const cp_operation *cp_operation_find(const char *name) {
    size_t count;
    const cp_operation *all = cp_operations(&count);
    for (size_t i = 0; i < count; i++)
        if (cp_streq(all[i].name, name))
            return &all[i];
    return NULL;
}

/* One call. */

static void free_call(cp_call *call) {
    cp_plane *plane = call->plane;
    cp_call *last = plane->calls.items[--plane->calls.count];
    plane->calls.items[call->index] = last;
    last->index = call->index;
    if (call->waiting) {
        cp_wl *wl = cp_wl_of(plane, call->wait_workload);
        if (wl)
            cp_vec_drop(&wl->waiting, call);
    }
    if (call->preparing)
        call->preparer->class->cancel(call->preparer, call->preparing);
    cp_loop_forget(plane->loop, call);
    cp_timer_free(call->timer);
    if (call->args) {
        cp_desc_clear(call->op->args, call->args);
        free(call->args);
    }
    json_decref((json_t *)call->json);
    json_decref(call->result);
    cp_error_clear(&call->error);
    free(call->own_id);
    free(call->own_tenant);
    free(call->own_subject);
    free(call->own_match);
    free(call->wait_workload);
    free(call->wait_deployment);
    free(call);
}

/* Hands the answer over. The owner may do anything in its callback, so the call is gone before it. */
static void deliver(void *userdata) {
    cp_call *call = userdata;
    cp_reply *reply = call->cancelled ? NULL : call->reply;
    void *owner = call->userdata;
    cp_autojson json_t *result = json_incref(call->result);
    cp_autoerror cp_error error = {0};
    cp_error_move(&error, &call->error);
    free_call(call);
    if (reply)
        reply(owner, error.code ? NULL : result, error.code ? &error : NULL);
}

/* The commit failed under the answer; cp_call_drop_turn sorts these calls out. */
static void undelivered(void *userdata) {
    cp_call *call = userdata;
    call->answered = false;
}

void cp_call_answer(cp_call *call, json_t *result) {
    if (call->answered) {
        json_decref(result);
        return;
    }
    call->answered = true;
    json_decref(call->result);
    call->result = result;
    cp_loop_effect(call->plane->loop, deliver, undelivered, call);
}

void cp_call_fail(cp_call *call, const cp_error *err) {
    if (call->answered)
        return;
    cp_error_copy(&call->error, err);
    cp_call_answer(call, NULL);
}

static json_t *waited_result(cp_call *call) {
    if (call->wait_deployment) {
        cp_deployment *dep = cp_table_get(call->plane->deployments, call->wait_deployment);
        return dep ? cp_view_deployment(call->plane, dep) : NULL;
    }
    cp_wl *wl = cp_wl_of(call->plane, call->wait_workload);
    return wl ? cp_view_workload(call->plane, wl) : NULL;
}

static void stop_waiting(cp_call *call) {
    cp_wl *wl = cp_wl_of(call->plane, call->wait_workload);
    if (wl)
        cp_vec_drop(&wl->waiting, call);
    call->waiting = false;
    if (call->timer)
        cp_timer_stop(call->timer);
    json_t *result = waited_result(call);
    if (result) {
        cp_call_answer(call, result);
        return;
    }
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_NOT_FOUND, "%s was removed while it was waited for",
            call->wait_deployment ? call->wait_deployment : call->wait_workload);
    cp_call_fail(call, &err);
}

static void wait_elapsed(void *userdata) {
    stop_waiting(userdata);
}

static bool is_settled(cp_call *call, cp_wl *wl) {
    if (call->wait_deployment) {
        cp_deployment *dep = cp_wl_deployment(wl, call->wait_deployment);
        return !dep || cp_deployment_is_final(dep->state) || dep->state == CP_DEPLOYMENT_PAUSED ||
               !cp_is_empty(dep->awaiting);
    }
    return call->counts ? cp_reconcile_counted(call->plane, wl) : cp_reconcile_settled(call->plane, wl);
}

void cp_call_wait(cp_call *call, const char *workload_id, const char *deployment_id, int64_t timeout) {
    cp_plane *plane = call->plane;
    cp_deployment *dep = cp_table_get(plane->deployments, deployment_id);
    cp_set_string(&call->wait_deployment, deployment_id);
    cp_set_string(&call->wait_workload, workload_id ? workload_id : dep ? dep->workload_id : "");
    cp_wl *wl = cp_wl_of(plane, call->wait_workload);
    if (timeout <= 0 || !wl || (!wl->dirty && is_settled(call, wl))) {
        stop_waiting(call);
        return;
    }
    call->waiting = true;
    cp_vec_push(&wl->waiting, call);
    if (!call->timer)
        call->timer = cp_timer_new(plane->loop, wait_elapsed, call);
    cp_timer_start(call->timer, timeout);
}

void cp_plane_settled(cp_plane *plane, cp_wl *wl) {
    (void)plane;
    for (size_t i = wl->waiting.count; i-- > 0;)
        if (is_settled(wl->waiting.items[i], wl))
            stop_waiting(wl->waiting.items[i]);
}

void cp_plane_etag(const char *workload_json, char ret[CP_ETAG_SIZE]) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *workload_json; workload_json++)
        hash = (hash ^ (unsigned char)*workload_json) * 1099511628211u;
    snprintf(ret, CP_ETAG_SIZE, "\"%016" PRIx64 "\"", hash);
}

/* If-Match, in the turn that changes: nobody comes in between. */
static int check_match(cp_plane *plane, const cp_call *call, cp_error *err) {
    if (!call->own_match || strcmp(call->own_match, "*") == 0)
        return 0;
    if (!cp_streq(call->op->id_of, "workload"))
        return cp_fail_at(err, CP_E_UNSUPPORTED, "If-Match", NULL, "%s has no ETag; only a workload has one",
                          call->op->name);
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return CP_E_NOT_FOUND;
    cp_autojson json_t *view = cp_view_workload(plane, wl);
    cp_autofree char *text = cp_json_text(view);
    char etag[CP_ETAG_SIZE];
    cp_plane_etag(text, etag);
    if (strstr(call->own_match, etag))
        return 0;
    return cp_fail_at(err, CP_E_CONFLICT, "If-Match", NULL, "workload %s has changed: its ETag is %s, not %s",
                      wl->row.slug, etag, call->own_match);
}

static int run(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_operation *op = call->op;
    if (op->flags & CP_OPERATION_STREAM)
        return cp_fail(err, CP_E_INVALID, "%s is a stream; follow it, do not call it", op->name);
    if ((op->flags & CP_OPERATION_MUTATES) && plane->broken)
        return cp_fail(err, CP_E_STORAGE_FAILED,
                       "the store does not take writes; nothing was changed; it is tried again by itself");
    if (plane->unreadable)
        return cp_fail(err, CP_E_STORAGE_FAILED, "the store cannot be read; it is tried again by itself");
    if ((op->flags & CP_OPERATION_ID) && cp_is_empty(call->id))
        return cp_fail_at(err, CP_E_INVALID, "id", NULL, "%s needs an id", op->name);
    if (!call->args) {
        call->args = cp_alloc0(op->args->size);
        cp_desc_init(op->args, call->args);
        cp_autojson json_t *empty = call->json || !op->args->count ? NULL : json_object();
        const json_t *given = call->json ? call->json : empty;
        int r = given ? cp_desc_parse(op->args, given, call->args, "", err) : 0;
        if (r < 0) {
            free(call->args); /* cleared by the parser */
            call->args = NULL;
            return r;
        }
    }
    if (!(op->flags & CP_OPERATION_MUTATES))
        return op->run(plane, call, err);

    int r = check_match(plane, call, err);
    if (r < 0)
        return r;
    r = cp_store_savepoint(plane->store, err);
    if (r < 0) {
        plane->turn_failed = true;
        return r;
    }
    size_t mark = cp_loop_effect_mark(plane->loop), writes = plane->writes;
    r = op->run(plane, call, err);
    if (r >= 0 && !plane->turn_failed) {
        cp_store_release(plane->store);
        return 0;
    }
    /* An operation checks everything before it changes anything. One that failed in between has changed memory as well:
     * the turn is given up and memory comes back from the store. */
    cp_store_undo(plane->store);
    cp_loop_effect_rewind(plane->loop, mark);
    if (plane->writes != writes)
        plane->turn_failed = true;
    if (r >= 0)
        r = cp_fail(err, CP_E_STORAGE_FAILED, "%s could not be written", op->name);
    return r;
}

void cp_call_run(void *userdata) {
    cp_call *call = userdata;
    cp_plane *plane = call->plane;
    if (plane->crashed)
        return;
    call->turn = plane->turn;
    cp_autoerror cp_error err = {0};
    if (run(plane, call, &err) < 0) {
        call->answered = false;
        cp_call_fail(call, &err);
    }
}

static void on_prepared(void *userdata, const cp_error *err) {
    cp_call *call = userdata;
    call->preparing = NULL;
    call->prepared = true;
    if (!err) {
        cp_call_run(call);
        return;
    }
    call->turn = call->plane->turn;
    cp_call_fail(call, err);
}

int cp_call_prepare(cp_call *call, cp_provider *provider, const cp_list *services, cp_error *err) {
    if (!provider->class->prepare || call->prepared)
        return 0;
    int r = provider->class->prepare(provider, services, on_prepared, call, &call->preparing, err);
    if (r < 0 || !call->preparing)
        return r;
    call->preparer = provider;
    call->turn = 0; /* it has written nothing: a commit that fails meanwhile is not its */
    return 1;
}

void cp_plane_call(cp_plane *plane, const cp_operation *op, const char *id, const json_t *args, const cp_claims *claims,
                   cp_reply *reply, void *userdata, cp_call **ret) {
    cp_call *call = cp_new0(cp_call);
    *call = (cp_call){.plane = plane, .op = op, .reply = reply, .userdata = userdata, .index = plane->calls.count};
    call->own_id = cp_strdup(id);
    call->own_tenant = cp_strdup(claims && claims->tenant_id ? claims->tenant_id : plane->tenant_id);
    call->own_subject = cp_strdup(claims && !cp_is_empty(claims->subject) ? claims->subject : "local");
    call->own_match = cp_strdup(claims ? claims->if_match : NULL);
    call->id = call->own_id;
    call->tenant_id = call->own_tenant;
    call->subject = call->own_subject;
    call->json = json_incref((json_t *)args);
    cp_vec_push(&plane->calls, call);
    cp_loop_defer(plane->loop, cp_call_run, call);
    if (ret)
        *ret = call;
}

void cp_call_cancel(cp_call *call) {
    if (!call)
        return;
    call->cancelled = true;
    if (call->waiting) /* nobody waits any more: nothing but the call itself is left to do */
        free_call(call);
}

/* After a failed commit. */

void cp_call_drop_turn(cp_plane *plane) {
    for (size_t i = 0; i < plane->calls.count; i++) {
        cp_call *call = plane->calls.items[i];
        call->waiting = false; /* its workload is about to be dropped */
        if (call->answered)
            continue;
        bool ran = call->turn == plane->turn;
        json_decref(call->result);
        call->result = NULL;
        if (ran && call->error.code && call->error.code != CP_E_STORAGE_FAILED) {
            call->answered = true; /* it was refused: that stays true */
            cp_loop_defer(plane->loop, deliver, call);
        } else if (ran && (call->op->flags & CP_OPERATION_MUTATES)) {
            cp_error_clear(&call->error);
            cp_timer_free(call->timer);
            call->timer = NULL;
            call->answered = true; /* so that nothing else answers it */
            cp_vec_push(&plane->unknown, call);
        } else if (ran) { /* it may have read what was undone: again */
            cp_error_clear(&call->error);
            cp_set_string(&call->wait_workload, NULL);
            cp_loop_defer(plane->loop, cp_call_run, call);
        } /* else it has not run yet, or it waits since an earlier turn: cp_call_attach */
    }
}

void cp_call_attach(cp_plane *plane) {
    for (size_t i = plane->calls.count; i-- > 0;) {
        cp_call *call = plane->calls.items[i];
        if (!call->wait_workload || call->answered || call->waiting)
            continue;
        cp_wl *wl = cp_wl_of(plane, call->wait_workload);
        if (!wl) {
            stop_waiting(call);
            continue;
        }
        call->waiting = true;
        cp_vec_push(&wl->waiting, call);
        if (call->timer && !cp_timer_armed(call->timer))
            cp_timer_start(call->timer, 1000);
        cp_plane_dirty(plane, wl);
    }
}

void cp_call_settle_unknown(cp_plane *plane, bool known) {
    for (size_t i = 0; i < plane->unknown.count; i++) {
        cp_call *call = plane->unknown.items[i];
        if (known)
            cp_fail(&call->error, CP_E_STORAGE_FAILED, "the store could not write %s; nothing was changed",
                    call->op->name);
        else
            cp_fail(&call->error, CP_E_STORAGE_FAILED,
                    "outcome unknown: the store failed while it wrote %s and does not take writes; look before asking "
                    "again",
                    call->op->name);
        call->error.details = json_pack("{s:s}", "outcome", known ? "not_done" : "unknown");
        cp_loop_defer(plane->loop, deliver, call);
    }
    plane->unknown.count = 0;
}

void cp_call_free_all(cp_plane *plane) {
    while (plane->calls.count) {
        cp_call *call = plane->calls.items[plane->calls.count - 1];
        cp_error_clear(&call->error);
        cp_fail(&call->error, CP_E_CANCELLED, "the engine was closed before %s was answered", call->op->name);
        deliver(call);
    }
    cp_vec_clear(&plane->calls);
    cp_vec_clear(&plane->unknown);
}

/* Streams. */

static void pump(void *userdata) {
    cp_stream *stream = userdata;
    if (!stream->ended && !stream->paused && stream->pump)
        stream->pump(stream);
}

cp_stream *cp_stream_new(cp_plane *plane, cp_stream_sink *sink, void *userdata) {
    cp_stream *stream = cp_new0(cp_stream);
    *stream = (cp_stream){.plane = plane, .sink = sink, .userdata = userdata};
    cp_vec_push(&plane->streams, stream);
    return stream;
}

static void detach(cp_stream *stream) {
    if (stream->plane) {
        cp_vec_drop(&stream->plane->streams, stream);
        cp_loop_forget(stream->plane->loop, stream);
    }
    if (stream->state)
        stream->free(stream->state);
    stream->state = NULL;
    stream->plane = NULL;
}

void cp_stream_end(cp_stream *stream, const cp_error *err) {
    if (stream->ended)
        return;
    stream->ended = true;
    detach(stream);
    stream->sink(stream->userdata, NULL, err); /* last: the owner may free the stream in it */
}

void cp_stream_free(cp_stream *stream) {
    if (!stream)
        return;
    detach(stream);
    free(stream);
}

void cp_stream_pause(cp_stream *stream) {
    stream->paused = true;
}

void cp_stream_resume(cp_stream *stream) {
    if (!stream->paused || stream->ended)
        return;
    stream->paused = false;
    cp_loop_defer(stream->plane->loop, pump, stream);
}

int cp_plane_stream(cp_plane *plane, const cp_operation *op, const char *id, const json_t *args,
                    const cp_claims *claims, cp_stream_sink *sink, void *userdata, cp_stream **ret, cp_error *err) {
    if (!(op->flags & CP_OPERATION_STREAM))
        return cp_fail(err, CP_E_INVALID, "%s is no stream; call it", op->name);
    cp_autofree void *options = cp_alloc0(op->args->size);
    cp_desc_init(op->args, options);
    cp_autojson json_t *empty = json_object();
    int r = cp_desc_parse(op->args, args ? args : empty, options, "", err);
    if (r < 0)
        return r;
    const char *tenant = claims && claims->tenant_id ? claims->tenant_id : plane->tenant_id;
    cp_stream *stream = cp_stream_new(plane, sink, userdata);
    r = (op->flags & CP_OPERATION_ID ? cp_logs_stream : cp_events_stream)(plane, id, options, tenant, stream, err);
    cp_desc_clear(op->args, options);
    if (r < 0) {
        cp_stream_free(stream);
        return r;
    }
    cp_loop_defer(plane->loop, pump, stream);
    *ret = stream;
    return 0;
}
