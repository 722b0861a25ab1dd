/* engine/plane/plane.c -- The engine: open, load, the loop's hooks (decide, commit, reload), plane time.
 * Turn, commit, act: rows change in a turn, one commit makes them true, and only then does anybody outside see it.
 * Must not know what any operation does. */
#include "plane/internal.h"

#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "net/http.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 8,         /* passes per turn while passes make each other's workload dirty again */
    SAVE_TIME = 1000,   /* ms: plane time is written at least this often while something depends on it */
    RECOVER_FIRST = 50, /* ms until the store is tried again; doubles */
    RECOVER_LAST = 2000,
    RECOVERED = 5000,     /* ms after which a recovered store counts as well */
    UNKNOWN_AFTER = 2000, /* ms until callers are told that nobody knows */
    RETAIN_EVERY = 60000,
    TELL_EVERY = 60000, /* ms between two words about the same failure */
};

/* A store can be broken for hours: what is new about it is said at once, the same again once a minute. */
void cp_plane_tell(cp_plane *plane, cp_tell kind, const char *what, const char *why) {
    struct cp_told *last = &plane->told[kind];
    int64_t now = cp_loop_mono(plane->loop);
    if (last->text && cp_streq(last->text, why ? why : "") && now - last->at < TELL_EVERY)
        return;
    cp_set_string(&last->text, why ? why : "");
    last->at = now;
    cp_log(kind == CP_TELL_AGAIN ? CP_LOG_WARN : CP_LOG_ERROR, "%s%s%s", what, why ? ": " : "", why ? why : "");
}

/* Plane time: what the engine watched, over all its lives. */

int64_t cp_plane_time(const cp_plane *plane) {
    return plane->time_base + cp_loop_watched(plane->loop) - plane->time_watched;
}

static void save_time(cp_plane *plane) {
    cp_autofree char *text = cp_printf("%" PRId64, cp_plane_time(plane));
    cp_error err = {0};
    int r = cp_store_meta_set(plane->store, "plane_time", text, &err);
    cp_plane_written(plane, r, &err);
}

static void on_time(void *userdata) {
    cp_plane *plane = userdata;
    if (cp_plane_stopped(plane))
        return;
    bool needed = plane->waking.count > 0;
    for (size_t i = 0; i < plane->order.count && !needed; i++)
        needed = ((cp_wl *)plane->order.items[i])->rollout != NULL;
    if (!needed)
        return; /* armed again by the next commit */
    save_time(plane);
    cp_timer_start(plane->time_timer, SAVE_TIME);
}

/* Waking workloads at a plane time. */

static void arm_wake(cp_plane *plane) {
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < plane->waking.count; i++) {
        int64_t at = ((cp_wl *)plane->waking.items[i])->wake_at;
        first = at < first ? at : first;
    }
    if (first == INT64_MAX) {
        cp_timer_stop(plane->wake_timer);
        return;
    }
    int64_t wait = first - cp_plane_time(plane);
    cp_timer_start(plane->wake_timer, wait > 0 ? wait : 0);
}

static void on_wake(void *userdata) {
    cp_plane *plane = userdata;
    if (cp_plane_stopped(plane))
        return;
    int64_t now = cp_plane_time(plane);
    for (size_t i = plane->waking.count; i-- > 0;) {
        cp_wl *wl = plane->waking.items[i];
        if (wl->wake_at <= now)
            cp_plane_dirty(plane, wl); /* leaves `waking` when it is decided */
    }
    arm_wake(plane); /* watched time can lag behind the timer */
}

void cp_plane_wake(cp_plane *plane, cp_wl *wl, int64_t at) {
    if (wl->wake_at && wl->wake_at <= at)
        return;
    if (!wl->wake_at)
        cp_vec_push(&plane->waking, wl);
    wl->wake_at = at > 0 ? at : 1;
    arm_wake(plane);
}

void cp_plane_dirty(cp_plane *plane, cp_wl *wl) {
    if (wl->dirty)
        return;
    wl->dirty = true;
    cp_vec_push(&plane->dirty, wl);
}

/* The hooks. */

bool cp_plane_crash(cp_plane *plane, const char *failpoint) {
    if (!plane->crashed && cp_failpoint(failpoint) != 0)
        plane->crashed = true;
    return plane->crashed;
}

static void decide_one(cp_plane *plane, cp_wl *wl) {
    if (wl->wake_at) {
        wl->wake_at = 0; /* everybody who still needs it asks again in this pass */
        cp_vec_drop(&plane->waking, wl);
    }
    cp_rollout_before(plane, wl);
    cp_reconcile_pass(plane, wl);
    cp_rollout_after(plane, wl);
    cp_workload_spec_refresh(plane, wl);
    if (plane->streams.count)
        cp_logs_changed(plane, wl);
    if (!wl->dirty)
        cp_plane_settled(plane, wl);
}

static void on_decide(void *userdata) {
    cp_plane *plane = userdata;
    for (int round = 0; round < ROUNDS && plane->dirty.count && !cp_plane_stopped(plane) && !plane->turn_failed;
         round++) {
        cp_vec now = plane->dirty;
        plane->dirty = (cp_vec){0};
        for (size_t i = 0; i < now.count; i++)
            ((cp_wl *)now.items[i])->dirty = false;
        for (size_t i = 0; i < now.count; i++)
            decide_one(plane, now.items[i]);
        cp_vec_clear(&now);
    }
}

static bool on_pending(void *userdata) {
    cp_plane *plane = userdata;
    return !cp_plane_stopped(plane) && (plane->dirty.count > 0 || plane->turn_failed || cp_store_dirty(plane->store));
}

static int commit(cp_plane *plane, cp_error *err) {
    if (plane->crashed) /* its effects are dropped; a turn without any is a turn in which nothing happened */
        return cp_loop_effect_mark(plane->loop) ? CP_E_CANCELLED : 0;
    if (plane->broken || (!cp_store_dirty(plane->store) && !plane->turn_failed))
        return 0;
    if (!plane->turn_failed)
        save_time(plane);
    /* After a write that failed the store refuses the commit itself, and wants its marker before it takes others. */
    if (plane->turn_failed && !plane->write_failed)
        return cp_fail(err, CP_E_STORAGE_FAILED, "a request failed half way");
    if (cp_plane_crash(plane, "before_commit"))
        return CP_E_CANCELLED;
    int r = cp_store_commit(plane->store, err);
    if (r < 0)
        return r;
    plane->commits++;
    if (cp_plane_crash(plane, "after_commit"))
        return CP_E_CANCELLED;
    if (!cp_timer_armed(plane->time_timer))
        cp_timer_start(plane->time_timer, SAVE_TIME);
    return 0;
}

static int on_commit(void *userdata) {
    cp_plane *plane = userdata;
    cp_autoerror cp_error err = {0};
    int r = commit(plane, &err);
    plane->writes = 0;
    if (r == 0) {
        plane->turn++;
        return 0;
    }
    if (!plane->crashed) {
        plane->failed_commits++;
        cp_plane_tell(plane, CP_TELL_TURN, "a turn was not committed and is undone", err.message);
    }
    return r;
}

/* Loading: at a start and after a failed commit. */

static int add_workload(void *userdata, void *row) {
    cp_plane_add_workload(userdata, row);
    return 0;
}
static int add_release(void *userdata, void *row) {
    cp_release *release = row;
    cp_wl *wl = cp_wl_of(userdata, release->workload_id);
    if (wl)
        cp_plane_add_release(userdata, wl, release);
    return 0;
}
static int add_set(void *userdata, void *row) {
    cp_replica_set *set = row;
    cp_wl *wl = cp_wl_of(userdata, set->workload_id);
    if (wl) {
        cp_replica_set *mine = cp_new0(cp_replica_set);
        *mine = *set;
        *set = (cp_replica_set){0};
        cp_vec_push(&wl->sets, mine);
    }
    return 0;
}
static int add_instance(void *userdata, void *row) {
    cp_instance *instance = row;
    cp_wl *wl = cp_wl_of(userdata, instance->workload_id);
    if (wl)
        cp_plane_add_instance(userdata, wl, instance);
    return 0;
}
static int add_deployment(void *userdata, void *row) {
    cp_deployment *dep = row;
    cp_wl *wl = cp_wl_of(userdata, dep->workload_id);
    if (wl)
        cp_plane_add_deployment(userdata, wl, dep);
    return 0;
}

static int load(cp_plane *plane, cp_error *err) {
    cp_store *store = plane->store;
    int r = cp_store_each(store, &cp_workload_desc, NULL, NULL, NULL, 0, add_workload, plane, err);
    if (r == 0)
        r = cp_store_each(store, &cp_release_desc, NULL, NULL, "version, id", 0, add_release, plane, err);
    if (r == 0)
        r = cp_store_each(store, &cp_replica_set_desc, NULL, NULL, "created_at, id", 0, add_set, plane, err);
    if (r == 0)
        r = cp_store_each(store, &cp_instance_desc, "state <> 'destroyed'", NULL, NULL, 0, add_instance, plane, err);
    if (r == 0)
        r = cp_store_each(store, &cp_deployment_desc, NULL, NULL, NULL, 0, add_deployment, plane, err);
    if (r < 0)
        return r;
    cp_autofree char *time = cp_store_meta_get(store, "plane_time");
    plane->time_base = time ? strtoll(time, NULL, 10) : 0;
    plane->time_watched = cp_loop_watched(plane->loop);
    return 0;
}

static void drop(cp_plane *plane) {
    cp_reconcile_free(plane);
    while (plane->order.count)
        cp_plane_drop_workload(plane, plane->order.items[plane->order.count - 1]);
    cp_vec_clear(&plane->dirty);
    cp_vec_clear(&plane->waking);
    cp_timer_stop(plane->wake_timer);
    cp_timer_stop(plane->time_timer);
}

/* What follows a load once the store can be trusted: rollouts go on, the world is looked at. */
static int go_on(cp_plane *plane, cp_error *err) {
    for (size_t i = 0; i < plane->order.count; i++) {
        cp_wl *wl = plane->order.items[i];
        if (wl->row.state == CP_WORKLOAD_DESTROYED)
            continue;
        cp_rollout_load(plane, wl);
        cp_plane_dirty(plane, wl);
    }
    cp_call_attach(plane);
    return cp_reconcile_start(plane, err);
}

static int64_t longer(int64_t delay) {
    return delay * 2 < RECOVER_LAST ? delay * 2 : RECOVER_LAST;
}

static void on_recover(void *userdata) {
    cp_plane *plane = userdata;
    cp_autoerror cp_error err = {0};
    if (plane->crashed)
        return;
    int r = cp_store_failed(plane->store) ? cp_store_recover(plane->store, &err) : 0;
    if (r == 0) {
        drop(plane);
        r = load(plane, &err);
    }
    if (r == 0) {
        plane->broken = plane->unreadable = false;
        r = go_on(plane, &err);
    }
    if (r < 0) {
        plane->broken = true;
        plane->recover_delay = longer(plane->recover_delay);
        cp_timer_start(plane->recover_timer, plane->recover_delay);
        cp_plane_tell(plane, CP_TELL_BROKEN, "the store cannot be trusted yet; it is tried again and again",
                      err.message);
        return;
    }
    plane->recovered_at = cp_loop_mono(plane->loop);
    cp_timer_stop(plane->unknown_timer);
    cp_call_settle_unknown(plane, true);
    cp_plane_tell(plane, CP_TELL_AGAIN, "the store takes writes again", NULL);
}

static void on_unknown(void *userdata) {
    cp_call_settle_unknown(userdata, false);
}

static void on_failed(void *userdata) {
    cp_plane *plane = userdata;
    if (plane->crashed)
        return;
    cp_call_drop_turn(plane);
    cp_store_rollback(plane->store);
    plane->turn_failed = plane->write_failed = false;
    plane->broken = true;
    plane->turn++;
    drop(plane);
    cp_autoerror cp_error err = {0};
    if (load(plane, &err) < 0) {
        drop(plane); /* half of it would be a lie */
        plane->unreadable = true;
        cp_plane_tell(plane, CP_TELL_READ, "the store cannot be read", err.message);
    }
    /* One that fails again soon after it recovered is not asked in a hurry. */
    bool again = plane->recovered_at && cp_loop_mono(plane->loop) - plane->recovered_at < RECOVERED;
    plane->recover_delay = again ? longer(plane->recover_delay) : RECOVER_FIRST;
    cp_timer_start(plane->recover_timer, again ? plane->recover_delay : 0);
    if (!cp_timer_armed(plane->unknown_timer))
        cp_timer_start(plane->unknown_timer, UNKNOWN_AFTER);
}

static void on_retain(void *userdata) {
    cp_plane *plane = userdata;
    if (!cp_plane_stopped(plane)) {
        cp_retain(plane);
        cp_retain_images(plane);
    }
    cp_timer_start(plane->retain_timer, RETAIN_EVERY);
}

/* Open and close. */

static int default_tenant(cp_plane *plane, cp_error *err) {
    plane->tenant_id = cp_store_meta_get(plane->store, "tenant_id");
    if (plane->tenant_id)
        return 0;
    plane->tenant_id = cp_id_new("ten", cp_plane_now(plane));
    return cp_store_meta_set(plane->store, "tenant_id", plane->tenant_id, err);
}

int cp_plane_new(const cp_plane_parts *parts, cp_plane **ret, cp_error *err) {
    cp_plane *plane = cp_new0(cp_plane);
    plane->loop = parts->loop;
    plane->store = parts->store;
    plane->scripts = parts->scripts;
    plane->own_providers = parts->own_providers;
    for (cp_provider **p = parts->providers; p && *p; p++)
        cp_vec_push(&plane->providers, *p);
    plane->id = cp_strdup(parts->plane_id);
    plane->workloads = cp_table_new();
    plane->slugs = cp_table_new();
    plane->instances = cp_table_new();
    plane->releases = cp_table_new();
    plane->deployments = cp_table_new();
    plane->turn = 1;
    plane->wake_timer = cp_timer_new(plane->loop, on_wake, plane);
    plane->time_timer = cp_timer_new(plane->loop, on_time, plane);
    plane->recover_timer = cp_timer_new(plane->loop, on_recover, plane);
    plane->unknown_timer = cp_timer_new(plane->loop, on_unknown, plane);
    plane->retain_timer = cp_timer_new(plane->loop, on_retain, plane);
    cp_events_new(plane);
    cp_loop_hooks hooks = {
        .decide = on_decide, .commit = on_commit, .failed = on_failed, .pending = on_pending, .userdata = plane};
    cp_loop_set_hooks(plane->loop, &hooks);

    int r = default_tenant(plane, err);
    if (r == 0)
        r = load(plane, err);
    if (r == 0)
        r = go_on(plane, err);
    if (r < 0) {
        cp_plane_free(plane);
        return r;
    }
    cp_timer_start(plane->retain_timer, RETAIN_EVERY);
    cp_retain_images(plane);
    *ret = plane;
    return 0;
}

void cp_plane_free(cp_plane *plane) {
    if (!plane)
        return;
    plane->closing = true;
    while (plane->streams.count) {
        cp_autoerror cp_error err = {0};
        cp_fail(&err, CP_E_CANCELLED, "the engine was closed");
        cp_stream_end(plane->streams.items[plane->streams.count - 1], &err);
    }
    cp_call_free_all(plane);
    cp_loop_set_hooks(plane->loop, NULL);
    /* What the last turn wrote is true unless its commit failed; an open transaction is a turn that nobody was told of.
     */
    if (!plane->crashed && !plane->broken && !plane->turn_failed && cp_store_dirty(plane->store)) {
        cp_autoerror cp_error err = {0};
        save_time(plane);
        if (cp_store_commit(plane->store, &err) < 0)
            cp_log(CP_LOG_ERROR, "the last turn was not committed: %s", err.message);
    }
    drop(plane);
    cp_events_free(plane);
    for (size_t i = 0; plane->own_providers && i < plane->providers.count; i++) {
        cp_provider *provider = plane->providers.items[i];
        provider->class->free(provider);
    }
    cp_vec_clear(&plane->providers);
    cp_http_free(plane->http);
    if (plane->scripts)
        plane->scripts->class->free(plane->scripts);
    cp_timer_free(plane->wake_timer);
    cp_timer_free(plane->time_timer);
    cp_timer_free(plane->recover_timer);
    cp_timer_free(plane->unknown_timer);
    cp_timer_free(plane->retain_timer);
    cp_loop_forget(plane->loop, plane);
    cp_store_close(plane->store);
    cp_table_free(plane->workloads);
    cp_table_free(plane->slugs);
    cp_table_free(plane->instances);
    cp_table_free(plane->releases);
    cp_table_free(plane->deployments);
    cp_vec_clear(&plane->order);
    cp_vec_clear(&plane->streams);
    free(plane->id);
    free(plane->tenant_id);
    for (size_t i = 0; i < CP_COUNT(plane->told); i++)
        free(plane->told[i].text);
    free(plane);
}

cp_loop *cp_plane_loop(cp_plane *plane) {
    return plane->loop;
}

const char *cp_plane_id(const cp_plane *plane) {
    return plane->id;
}

bool cp_plane_ready(const cp_plane *plane, cp_error *err) {
    if (plane->broken)
        return cp_fail(err, CP_E_STORAGE_FAILED, "the store does not take writes") == 0;
    if (plane->crashed || plane->closing)
        return cp_fail(err, CP_E_CANCELLED, "the engine is ending") == 0;
    if (!cp_observe_adopted(plane))
        return cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "not every provider has said yet what runs") == 0;
    return true;
}

#ifdef CP_FAILPOINTS
void cp_plane_kill(cp_plane *plane) {
    plane->crashed = true;
}

bool cp_plane_crashed(const cp_plane *plane) {
    return plane->crashed;
}
#endif

json_t *cp_plane_stats(cp_plane *plane) {
    size_t ready = 0, instances = 0;
    for (size_t i = 0; i < plane->order.count; i++) {
        cp_wl *wl = plane->order.items[i];
        instances += wl->instances.count;
        ready += (size_t)wl->row.ready_replicas;
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "plane_id", plane->id, "plane_time",
                     (json_int_t)cp_plane_time(plane), "workloads", (json_int_t)plane->order.count, "instances",
                     (json_int_t)instances, "ready", (json_int_t)ready, "operations_in_flight",
                     (json_int_t)cp_operate_in_flight(plane), "calls", (json_int_t)plane->calls.count, "commits",
                     (json_int_t)plane->commits, "failed_commits", (json_int_t)plane->failed_commits, "stall_max_ms",
                     (json_int_t)cp_loop_stall_max(plane->loop), "store_trusted", !plane->broken);
}
