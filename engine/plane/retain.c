/* engine/plane/retain.c -- Retention: what is older, or more, than the limits say goes, a bounded piece at a time.
 * Called at most once a minute. Must not know why anything was kept. */
#include "plane/internal.h"

#include <inttypes.h>

#define DAY (INT64_C(24) * 3600 * 1000)

enum { PIECE = 500, MOST = 20000 }; /* rows per table and call */

static void prune(cp_plane *plane, const cp_desc *desc, const char *where, const char *const *values) {
    cp_error err = {0};
    int r = cp_store_prune(plane->store, desc, where, values, &err);
    cp_plane_written(plane, r, &err);
}

/* More where more is due, so that they do not come faster than they go. */
static void prune_piece(cp_plane *plane, const cp_desc *desc, const char *where, const char *before, int64_t due) {
    int64_t piece = PIECE + due / 10;
    cp_autofree char *limit = cp_printf("%" PRId64, piece < MOST ? piece : MOST);
    const char *const values[] = {before, limit, NULL};
    if (due)
        prune(plane, desc, where, values);
}

static bool is_rolled_out(const cp_wl *wl, const char *release_id) {
    for (size_t i = 0; i < wl->deployments.count; i++) {
        const cp_deployment *dep = wl->deployments.items[i];
        if (!cp_deployment_is_final(dep->state) &&
            (cp_streq(dep->release_id, release_id) || cp_streq(dep->previous_release_id, release_id)))
            return true;
    }
    return false;
}

/* In use: current, the last good one (the way back), of a set, of an instance, or of a rollout under way. */
static bool in_use(cp_wl *wl, const cp_rel *rel, const cp_rel *last_good) {
    const char *id = rel->row.id;
    if (rel == last_good || cp_streq(wl->row.current_release_id, id) || cp_wl_set(wl, id) || is_rolled_out(wl, id))
        return true;
    for (size_t i = 0; i < wl->instances.count; i++)
        if (cp_streq(((cp_inst *)wl->instances.items[i])->row.release_id, id))
            return true;
    return false;
}

static size_t trim_releases(cp_plane *plane, cp_wl *wl) {
    size_t gone = 0;
    const cp_rel *last_good = NULL;
    for (size_t i = wl->releases.count; i-- > 0 && !last_good;) {
        const cp_rel *rel = wl->releases.items[i];
        if (rel->row.good && !cp_streq(rel->row.id, wl->row.current_release_id))
            last_good = rel;
    }
    for (size_t i = 0; wl->releases.count > CP_KEEP_RELEASES && i < wl->releases.count - CP_KEEP_RELEASES;) {
        cp_rel *rel = wl->releases.items[i];
        if (in_use(wl, rel, last_good)) {
            i++;
            continue;
        }
        cp_plane_delete(plane, &cp_release_desc, rel->row.id);
        cp_plane_drop_release(plane, rel);
        gone++;
    }
    return gone;
}

static void drop_deployment(cp_plane *plane, cp_wl *wl, cp_deployment *dep) {
    const char *const values[] = {dep->id, NULL};
    prune(plane, &cp_command_desc, "deployment_id = ?", values);
    cp_plane_delete(plane, &cp_deployment_desc, dep->id);
    cp_plane_drop_deployment(plane, wl, dep);
}

static size_t trim_deployments(cp_plane *plane, cp_wl *wl) {
    size_t gone = 0;
    while (wl->deployments.count > CP_KEEP_DEPLOYMENTS &&
           cp_deployment_is_final(((cp_deployment *)wl->deployments.items[0])->state)) {
        drop_deployment(plane, wl, wl->deployments.items[0]);
        gone++;
    }
    return gone;
}

/* A destroyed workload, its history and all. */
static void drop_workload(cp_plane *plane, cp_wl *wl) {
    const char *const values[] = {wl->row.id, NULL};
    while (wl->deployments.count)
        drop_deployment(plane, wl, wl->deployments.items[wl->deployments.count - 1]);
    prune(plane, &cp_release_desc, "workload_id = ?", values);
    prune(plane, &cp_instance_desc, "workload_id = ?", values);
    cp_plane_delete(plane, &cp_workload_desc, wl->row.id);
    cp_plane_drop_workload(plane, wl);
}

void cp_retain(cp_plane *plane) {
    int64_t now = cp_plane_now(plane);
    size_t gone = 0;
    for (size_t i = plane->order.count; i-- > 0 && gone < PIECE;) {
        cp_wl *wl = plane->order.items[i];
        if (wl->row.state == CP_WORKLOAD_DESTROYED && wl->row.updated_at < now - CP_KEEP_DESTROYED_DAYS * DAY) {
            drop_workload(plane, wl);
            gone++;
            continue;
        }
        gone += trim_releases(plane, wl) + trim_deployments(plane, wl);
    }
    if (gone) /* strategies that no journal needs any more */
        prune(plane, &cp_script_row_desc, "id NOT IN (SELECT strategy_hash FROM deployment)",
              (const char *const[]){NULL});
    cp_autofree char *events = cp_printf("%" PRId64, now - CP_KEEP_EVENTS_DAYS * DAY);
    cp_autofree char *destroyed = cp_printf("%" PRId64, now - CP_KEEP_DESTROYED_DAYS * DAY);
    int64_t count = 0;
    cp_autoerror cp_error err = {0};
    /* Asked before it is written: nothing to prune must be no commit. */
    if (cp_store_count(plane->store, &cp_event_desc, "at < CAST(? AS INTEGER)", (const char *const[]){events, NULL},
                       &count, &err) == 0)
        prune_piece(
            plane, &cp_event_desc,
            "seq IN (SELECT seq FROM event WHERE at < CAST(? AS INTEGER) ORDER BY seq LIMIT CAST(? AS INTEGER))",
            events, count);
    if (cp_store_count(plane->store, &cp_instance_desc, "state = 'destroyed' AND updated_at < CAST(? AS INTEGER)",
                       (const char *const[]){destroyed, NULL}, &count, &err) == 0)
        prune_piece(plane, &cp_instance_desc,
                    "id IN (SELECT id FROM instance WHERE state = 'destroyed' AND updated_at < CAST(? AS INTEGER) "
                    "LIMIT CAST(? AS INTEGER))",
                    destroyed, count);
}

/* Only after the commit: a release whose end was not committed is back, and needs its images. */
static void tell_images(void *userdata) {
    cp_plane *plane = userdata;
    for (size_t i = 0; i < plane->providers.count && !cp_plane_stopped(plane); i++) {
        cp_provider *provider = plane->providers.items[i];
        if (!provider->class->retain)
            continue;
        cp_strings images = {0};
        void *item;
        for (size_t cursor = 0; cp_table_next(plane->releases, &cursor, NULL, &item);) {
            const cp_rel *rel = item;
            for (size_t k = 0;
                 k < rel->row.services.count && provider == cp_plane_provider(plane, rel->wl->row.provider_name); k++) {
                const char *image = CP_LIST_AT(&rel->row.services, cp_service, k)->image;
                if (!cp_is_empty(image))
                    cp_strings_add(&images, image);
            }
        }
        provider->class->retain(provider, &images);
        cp_strings_clear(&images);
    }
}

void cp_retain_images(cp_plane *plane) {
    cp_loop_effect(plane->loop, tell_images, NULL, plane);
}
