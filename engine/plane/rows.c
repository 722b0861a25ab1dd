/* engine/plane/rows.c -- The plane's memory of rows: what belongs to what, how it is found, how it is written.
 * Memory holds what the store holds. Must not decide anything. */
#include "plane/internal.h"

#include "base/id.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int64_t cp_plane_now(const cp_plane *plane) {
    return cp_loop_wall(plane->loop);
}

char *cp_plane_slug_key(const char *tenant, const char *slug) {
    return cp_printf("%s/%s", tenant ? tenant : "", slug);
}

bool cp_wl_deleted(const cp_wl *wl) {
    return wl->row.state == CP_WORKLOAD_DESTROYING || wl->row.state == CP_WORKLOAD_DESTROYED;
}

/* Where an id belongs among workloads ordered by id. New ids are larger than all before, so it is nearly always last.
 */
static size_t order_position(const cp_plane *plane, const char *id) {
    size_t low = 0, high = plane->order.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(((cp_wl *)plane->order.items[middle])->row.id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

cp_wl *cp_plane_add_workload(cp_plane *plane, cp_workload *row) {
    cp_wl *wl = cp_new0(cp_wl);
    wl->plane = plane;
    wl->row = *row;
    *row = (cp_workload){0};
    cp_table_set(plane->workloads, wl->row.id, wl);
    if (wl->row.state != CP_WORKLOAD_DESTROYED) {
        cp_autofree char *key = cp_plane_slug_key(wl->row.tenant_id, wl->row.slug);
        cp_table_set(plane->slugs, key, wl);
    }
    size_t at = order_position(plane, wl->row.id);
    cp_vec_push(&plane->order, wl);
    memmove(&plane->order.items[at + 1], &plane->order.items[at], (plane->order.count - 1 - at) * sizeof(void *));
    plane->order.items[at] = wl;
    return wl;
}

cp_rel *cp_plane_add_release(cp_plane *plane, cp_wl *wl, cp_release *row) {
    cp_rel *rel = cp_new0(cp_rel);
    rel->row = *row;
    *row = (cp_release){0};
    rel->wl = wl;
    cp_vec_push(&wl->releases, rel);
    cp_table_set(plane->releases, rel->row.id, rel);
    return rel;
}

cp_deployment *cp_plane_add_deployment(cp_plane *plane, cp_wl *wl, cp_deployment *row) {
    cp_deployment *dep = cp_new0(cp_deployment);
    *dep = *row;
    *row = (cp_deployment){0};
    cp_vec_push(&wl->deployments, dep);
    cp_table_set(plane->deployments, dep->id, dep);
    return dep;
}

cp_inst *cp_plane_add_instance(cp_plane *plane, cp_wl *wl, cp_instance *row) {
    cp_inst *inst = cp_new0(cp_inst);
    inst->row = *row;
    *row = (cp_instance){0};
    inst->wl = wl;
    inst->release = cp_wl_release(wl, inst->row.release_id);
    inst->restarts_base = inst->row.ready ? inst->row.restarts : 0;
    cp_vec_push(&wl->instances, inst);
    cp_table_set(plane->instances, inst->row.id, inst);
    return inst;
}

void cp_plane_drop_instance(cp_plane *plane, cp_inst *inst) {
    cp_operate_drop(plane, inst);
    cp_readiness_free(inst);
    cp_table_set(plane->instances, inst->row.id, NULL);
    cp_vec_drop(&inst->wl->instances, inst);
    cp_timer_free(inst->retry);
    free(inst->seen_release_id);
    free(inst->complaint);
    cp_desc_clear(&cp_instance_desc, &inst->row);
    free(inst);
}

void cp_plane_drop_release(cp_plane *plane, cp_rel *rel) {
    cp_vec_drop(&rel->wl->releases, rel);
    cp_table_set(plane->releases, rel->row.id, NULL);
    cp_desc_clear(&cp_release_desc, &rel->row);
    free(rel);
}

void cp_plane_drop_deployment(cp_plane *plane, cp_wl *wl, cp_deployment *dep) {
    cp_vec_drop(&wl->deployments, dep);
    cp_table_set(plane->deployments, dep->id, NULL);
    cp_desc_clear(&cp_deployment_desc, dep);
    free(dep);
}

void cp_plane_drop_workload(cp_plane *plane, cp_wl *wl) {
    cp_rollout_drop(wl);
    while (wl->instances.count)
        cp_plane_drop_instance(plane, wl->instances.items[wl->instances.count - 1]);
    for (size_t i = 0; i < wl->sets.count; i++) {
        cp_desc_clear(&cp_replica_set_desc, wl->sets.items[i]);
        free(wl->sets.items[i]);
    }
    while (wl->releases.count)
        cp_plane_drop_release(plane, wl->releases.items[wl->releases.count - 1]);
    while (wl->deployments.count)
        cp_plane_drop_deployment(plane, wl, wl->deployments.items[wl->deployments.count - 1]);
    cp_vec_clear(&wl->instances);
    cp_vec_clear(&wl->sets);
    cp_vec_clear(&wl->releases);
    cp_vec_clear(&wl->deployments);
    cp_vec_clear(&wl->waiting);
    cp_wl_clear_slots(wl);
    cp_desc_clear(&cp_decide_output_desc, &wl->last);
    cp_vec_drop(&plane->dirty, wl);
    cp_vec_drop(&plane->waking, wl);
    cp_autofree char *key = cp_plane_slug_key(wl->row.tenant_id, wl->row.slug);
    if (cp_table_get(plane->slugs, key) == wl)
        cp_table_set(plane->slugs, key, NULL);
    cp_table_set(plane->workloads, wl->row.id, NULL);
    size_t at = order_position(plane, wl->row.id);
    if (at < plane->order.count && plane->order.items[at] == wl)
        cp_vec_remove(&plane->order, at);
    cp_desc_clear(&cp_workload_desc, &wl->row);
    json_decref(wl->view);
    free(wl->spec_of);
    free(wl);
}

/* Lookup. An id of another tenant is not_found, never forbidden. */

cp_wl *cp_wl_of(cp_plane *plane, const char *workload_id) {
    return cp_table_get(plane->workloads, workload_id);
}

cp_wl *cp_plane_workload(cp_plane *plane, const char *tenant_id, const char *id_or_slug, cp_error *err) {
    if (cp_is_empty(id_or_slug)) {
        cp_fail_at(err, CP_E_INVALID, "id", NULL, "the workload's id or slug is empty");
        return NULL;
    }
    if (strchr(id_or_slug, '_')) { /* no slug has one */
        if (cp_id_check(id_or_slug, "wkl", err) < 0)
            return NULL;
        cp_wl *wl = cp_table_get(plane->workloads, id_or_slug);
        if (wl && cp_streq(wl->row.tenant_id, tenant_id))
            return wl;
        cp_fail(err, CP_E_NOT_FOUND, "there is no workload %s", id_or_slug);
        return NULL;
    }
    cp_autofree char *key = cp_plane_slug_key(tenant_id, id_or_slug);
    cp_wl *wl = cp_table_get(plane->slugs, key);
    if (wl)
        return wl;
    cp_vec names = {0};
    for (size_t i = 0; i < plane->order.count; i++) {
        cp_wl *other = plane->order.items[i];
        if (other->row.state != CP_WORKLOAD_DESTROYED && cp_streq(other->row.tenant_id, tenant_id))
            cp_vec_push(&names, other->row.slug);
    }
    const char *near = cp_nearest(id_or_slug, (const char *const *)names.items, names.count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    cp_vec_clear(&names);
    cp_fail_at(err, CP_E_NOT_FOUND, NULL, hint, "there is no workload '%.80s'", id_or_slug);
    return NULL;
}

int cp_lookup_failed(const cp_error *err) {
    return err && err->code ? err->code : CP_E_NOT_FOUND;
}

cp_deployment *cp_plane_deployment(cp_plane *plane, const char *tenant_id, const char *id, cp_error *err) {
    if (cp_is_empty(id)) {
        cp_fail_at(err, CP_E_INVALID, "id", NULL, "the deployment's id is empty");
        return NULL;
    }
    if (cp_id_check(id, "dep", err) < 0)
        return NULL;
    cp_deployment *dep = cp_table_get(plane->deployments, id);
    if (dep && cp_streq(dep->tenant_id, tenant_id))
        return dep;
    cp_fail(err, CP_E_NOT_FOUND, "there is no deployment %s", id);
    return NULL;
}

cp_rel *cp_wl_release(cp_wl *wl, const char *release_id) {
    for (size_t i = wl->releases.count; i-- > 0;)
        if (cp_streq(((cp_rel *)wl->releases.items[i])->row.id, release_id))
            return wl->releases.items[i];
    return NULL;
}

cp_deployment *cp_wl_deployment(cp_wl *wl, const char *id) {
    for (size_t i = wl->deployments.count; i-- > 0;)
        if (cp_streq(((cp_deployment *)wl->deployments.items[i])->id, id))
            return wl->deployments.items[i];
    return NULL;
}

cp_replica_set *cp_wl_set(cp_wl *wl, const char *release_id) {
    for (size_t i = 0; i < wl->sets.count; i++)
        if (cp_streq(((cp_replica_set *)wl->sets.items[i])->release_id, release_id))
            return wl->sets.items[i];
    return NULL;
}

cp_replica_set *cp_wl_set_by_role(cp_wl *wl, int role) {
    for (size_t i = 0; i < wl->sets.count; i++)
        if (((cp_replica_set *)wl->sets.items[i])->role == role)
            return wl->sets.items[i];
    return NULL;
}

cp_replica_set *cp_wl_set_make(cp_plane *plane, cp_wl *wl, const char *release_id, int role) {
    cp_replica_set *set = cp_wl_set(wl, release_id);
    if (!set) {
        set = cp_new0(cp_replica_set);
        cp_desc_init(&cp_replica_set_desc, set);
        set->id = cp_strdup(release_id);
        set->release_id = cp_strdup(release_id);
        set->workload_id = cp_strdup(wl->row.id);
        set->created_at = cp_plane_now(plane);
        set->held = -1;
        cp_vec_push(&wl->sets, set);
    }
    set->role = role;
    cp_plane_save_set(plane, set);
    return set;
}

cp_provider *cp_plane_provider(cp_plane *plane, const char *name) {
    if (cp_is_empty(name))
        return plane->providers.count ? plane->providers.items[0] : NULL;
    for (size_t i = 0; i < plane->providers.count; i++)
        if (cp_streq(((cp_provider *)plane->providers.items[i])->name, name))
            return plane->providers.items[i];
    return NULL;
}

/* Writing. A write that fails makes the turn's commit fail: one place handles it. */

void cp_plane_written(cp_plane *plane, int r, cp_error *err) {
    plane->writes++;
    if (r < 0 && !plane->write_failed) {
        plane->turn_failed = plane->write_failed = true;
        cp_plane_tell(plane, CP_TELL_WRITE, "a write failed, the turn will be undone", err->message);
    }
    cp_error_clear(err);
}

void cp_plane_save(cp_plane *plane, const cp_desc *desc, const void *row) {
    cp_error err = {0};
    cp_plane_written(plane, cp_store_put(plane->store, desc, row, &err), &err);
}

void cp_plane_delete(cp_plane *plane, const cp_desc *desc, const char *id) {
    cp_error err = {0};
    cp_plane_written(plane, cp_store_delete(plane->store, desc, id, &err), &err);
}

bool cp_plane_turn_failed(const cp_plane *plane) {
    return plane->turn_failed;
}

void cp_plane_save_workload(cp_plane *plane, cp_wl *wl) {
    wl->row.updated_at = cp_plane_now(plane);
    json_decref(wl->view);
    wl->view = NULL;
    cp_plane_save(plane, &cp_workload_desc, &wl->row);
}

void cp_plane_save_instance(cp_plane *plane, cp_inst *inst) {
    inst->row.updated_at = cp_plane_now(plane);
    cp_plane_save(plane, &cp_instance_desc, &inst->row);
}

void cp_plane_save_release(cp_plane *plane, cp_rel *rel) {
    rel->row.updated_at = cp_plane_now(plane);
    cp_plane_save(plane, &cp_release_desc, &rel->row);
}

void cp_plane_save_set(cp_plane *plane, cp_replica_set *set) {
    set->updated_at = cp_plane_now(plane);
    cp_plane_save(plane, &cp_replica_set_desc, set);
}

void cp_plane_save_deployment(cp_plane *plane, cp_deployment *dep) {
    dep->updated_at = cp_plane_now(plane);
    cp_plane_save(plane, &cp_deployment_desc, dep);
}

void cp_plane_drop_set(cp_plane *plane, cp_replica_set *set) {
    cp_wl *wl = cp_wl_of(plane, set->workload_id);
    cp_plane_delete(plane, &cp_replica_set_desc, set->id);
    if (wl)
        cp_vec_drop(&wl->sets, set);
    cp_desc_clear(&cp_replica_set_desc, set);
    free(set);
}

void cp_plane_set_workload_state(cp_plane *plane, cp_wl *wl, int state) {
    cp_error err = {0};
    if (cp_workload_validate_transition(wl->row.state, state, &err) < 0) {
        cp_log(CP_LOG_ERROR, "%s", err.message);
        assert(false && "a workload's state machine was left");
    }
    wl->row.state = state;
    cp_plane_save_workload(plane, wl);
}
