/* engine/plane/view.c -- Entities as the JSON that users see. Must not know requests. */
#include "plane/internal.h"

#include <inttypes.h>

/* One value for all who ask until the row is saved again: nobody may change it. */
json_t *cp_view_workload(cp_plane *plane, cp_wl *wl) {
    (void)plane;
    if (!wl->view)
        wl->view = cp_desc_json(&cp_workload_desc, &wl->row);
    return json_incref(wl->view);
}

/* The labels that everything made for an instance carries: the user's and ours. The caller clears them. */
void cp_instance_labels(const cp_plane *plane, const cp_inst *inst, cp_map *labels) {
    const cp_map *own = &inst->wl->row.labels;
    for (size_t i = 0; i < own->count; i++)
        cp_map_set(labels, own->items[i].key, own->items[i].value);
    cp_autofree char *generation = cp_printf("%" PRId64, inst->row.generation);
    cp_autofree char *index = cp_printf("%" PRId64, inst->row.replica_index);
    cp_map_set(labels, "ctrlplane.plane", plane->id);
    cp_map_set(labels, "ctrlplane.workload", inst->row.workload_id);
    cp_map_set(labels, "ctrlplane.instance", inst->row.id);
    cp_map_set(labels, "ctrlplane.generation", generation);
    cp_map_set(labels, "ctrlplane.replica_index", index);
    cp_map_set(labels, "ctrlplane.release", inst->row.release_id);
    cp_map_set(labels, "ctrlplane.tenant", inst->row.tenant_id);
}

/* Services and labels are those of its release and workload; a row does not repeat them. */
json_t *cp_view_instance(cp_plane *plane, cp_inst *inst) {
    json_t *view = cp_desc_json(&cp_instance_desc, &inst->row);
    const char *waits = cp_is_empty(inst->row.message) ? cp_operate_waits(plane, inst) : NULL;
    if (waits)
        json_object_set_new(view, "message", json_string(waits));
    if (inst->release) {
        cp_autojson json_t *release = cp_desc_json(&cp_release_desc, &inst->release->row);
        json_object_set(view, "services", json_object_get(release, "services"));
    }
    cp_map labels = {0};
    cp_instance_labels(plane, inst, &labels);
    json_t *object = json_object();
    for (size_t i = 0; i < labels.count; i++)
        json_object_set_new(object, labels.items[i].key, json_string(labels.items[i].value));
    json_object_set_new(view, "labels", object);
    cp_map_clear(&labels);
    return view;
}

json_t *cp_view_deployment(cp_plane *plane, cp_deployment *dep) {
    (void)plane;
    return cp_desc_json(&cp_deployment_desc, dep);
}

json_t *cp_view_release(cp_plane *plane, cp_rel *rel) {
    (void)plane;
    return cp_desc_json(&cp_release_desc, &rel->row);
}
