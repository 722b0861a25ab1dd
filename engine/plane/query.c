/* engine/plane/query.c -- Reading: get and list. Changes nothing. */
#include "plane/args.h"

#include "base/id.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cursors: the list's name, the id of the last row shown, and a check over both and the owner, so that a cut one, or
 * one of another list or tenant, is refused instead of starting anew. Ids order rows, so the row itself may be gone. */

static uint32_t check(const char *list, const char *owner, const char *id) {
    const char *const parts[] = {list, owner, id};
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < CP_COUNT(parts); i++)
        for (const char *c = parts[i]; c && *c; c++)
            h = (h ^ (unsigned char)*c) * 16777619u;
    return h;
}

static char *make_cursor(const char *list, const char *owner, const char *id) {
    return cp_printf("%s.%s.%08x", list, id, check(list, owner, id));
}

/* *ret: the id, or NULL when there is no cursor. */
static int read_cursor(const char *cursor, const char *list, const char *owner, char **ret, cp_error *err) {
    *ret = NULL;
    if (cp_is_empty(cursor))
        return 0;
    const char *first = strchr(cursor, '.'), *last = strrchr(cursor, '.');
    if (first && last && last > first && strlen(list) == (size_t)(first - cursor) &&
        strncmp(cursor, list, strlen(list)) == 0) {
        cp_autofree char *id = cp_strndup(first + 1, (size_t)(last - first - 1));
        cp_autofree char *right = make_cursor(list, owner, id);
        if (strcmp(right, cursor) == 0) {
            *ret = cp_take(id);
            return 0;
        }
    }
    return cp_fail_at(err, CP_E_INVALID, "cursor", NULL, "'%.80s' is not a cursor of this list; take next_cursor",
                      cursor);
}

int cp_run_get(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    cp_call_answer(call, cp_view_workload(plane, wl));
    return 0;
}

int cp_run_get_by_slug(cp_plane *plane, cp_call *call, cp_error *err) {
    if (strchr(call->id, '_'))
        return cp_fail_at(err, CP_E_INVALID, "id", NULL, "'%.80s' is not a slug: slugs have a-z, 0-9 and '-'",
                          call->id);
    return cp_run_get(plane, call, err);
}

static bool listed(const cp_wl *wl, const cp_list_args *args, const char *tenant) {
    bool state = args->state ? wl->row.state == args->state - 1 : wl->row.state != CP_WORKLOAD_DESTROYED;
    return state && cp_streq(wl->row.tenant_id, tenant) &&
           (cp_is_empty(args->provider_name) || cp_streq(args->provider_name, wl->row.provider_name)) &&
           (cp_is_empty(args->region) || cp_streq(args->region, wl->row.region));
}

/* Newest first. total: how many match now. */
int cp_run_list(cp_plane *plane, cp_call *call, cp_error *err) {
    const cp_list_args *args = call->args;
    cp_autofree char *after = NULL;
    int r = read_cursor(args->cursor, "workloads", call->tenant_id, &after, err);
    if (r < 0)
        return r;
    int64_t limit = args->limit ? args->limit : CP_PAGE, total = 0;
    json_t *items = json_array();
    const cp_wl *shown = NULL;
    bool more = false;
    for (size_t i = plane->order.count; i-- > 0;) {
        cp_wl *wl = plane->order.items[i];
        if (!listed(wl, args, call->tenant_id))
            continue;
        total++;
        if (after && strcmp(wl->row.id, after) >= 0)
            continue;
        if ((int64_t)json_array_size(items) == limit) {
            more = true;
            continue;
        }
        json_array_append_new(items, cp_view_workload(plane, wl));
        shown = wl;
    }
    json_t *result = json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)total);
    if (more) {
        cp_autofree char *cursor = make_cursor("workloads", call->tenant_id, shown->row.id);
        json_object_set_new(result, "next_cursor", json_string(cursor));
    }
    cp_call_answer(call, result);
    return 0;
}

static int by_index(const void *a, const void *b) {
    const cp_instance *x = &(*(cp_inst *const *)a)->row, *y = &(*(cp_inst *const *)b)->row;
    if (x->replica_index != y->replica_index)
        return x->replica_index < y->replica_index ? -1 : 1;
    if (x->created_at != y->created_at)
        return x->created_at < y->created_at ? -1 : 1;
    return strcmp(x->id, y->id);
}

int cp_run_list_instances(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    size_t count = wl->instances.count;
    cp_autofree cp_inst **sorted = cp_alloc0(count * sizeof *sorted);
    if (count)
        memcpy(sorted, wl->instances.items, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_index);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, cp_view_instance(plane, sorted[i]));
    cp_call_answer(call, json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)count));
    return 0;
}

/* Releases and deployments: vectors with the newest last. */
typedef struct page {
    const char *list;
    const cp_vec *rows;
    const char *(*id)(const void *row);
    json_t *(*view)(cp_plane *plane, void *row);
} page;

static const char *release_id(const void *row) {
    return ((const cp_rel *)row)->row.id;
}
static json_t *release_view(cp_plane *plane, void *row) {
    return cp_view_release(plane, row);
}
static const char *deployment_id(const void *row) {
    return ((const cp_deployment *)row)->id;
}
static json_t *deployment_view(cp_plane *plane, void *row) {
    return cp_view_deployment(plane, row);
}

static int answer_page(cp_plane *plane, cp_call *call, const cp_wl *wl, const page *of, cp_error *err) {
    const cp_page_args *args = call->args;
    cp_autofree char *after = NULL;
    int r = read_cursor(args->cursor, of->list, wl->row.id, &after, err);
    if (r < 0)
        return r;
    int64_t limit = args->limit ? args->limit : CP_PAGE;
    json_t *items = json_array();
    const char *shown = NULL;
    bool more = false;
    for (size_t i = of->rows->count; i-- > 0 && !more;) {
        void *row = of->rows->items[i];
        if (after && strcmp(of->id(row), after) >= 0)
            continue;
        more = (int64_t)json_array_size(items) == limit;
        if (more)
            break;
        json_array_append_new(items, of->view(plane, row));
        shown = of->id(row);
    }
    json_t *result = json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)of->rows->count);
    if (more) {
        cp_autofree char *cursor = make_cursor(of->list, wl->row.id, shown);
        json_object_set_new(result, "next_cursor", json_string(cursor));
    }
    cp_call_answer(call, result);
    return 0;
}

int cp_run_list_releases(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    return answer_page(plane, call, wl, &(page){"releases", &wl->releases, release_id, release_view}, err);
}

int cp_run_list_deployments(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    return answer_page(plane, call, wl, &(page){"deployments", &wl->deployments, deployment_id, deployment_view}, err);
}

int cp_run_instance_get(cp_plane *plane, cp_call *call, cp_error *err) {
    int r = cp_id_check(call->id, "inst", err);
    if (r < 0)
        return r;
    cp_inst *inst = cp_table_get(plane->instances, call->id);
    if (inst && cp_streq(inst->row.tenant_id, call->tenant_id)) {
        cp_call_answer(call, cp_view_instance(plane, inst));
        return 0;
    }
    cp_instance gone = {0}; /* destroyed ones are kept in the store only */
    r = inst ? CP_E_NOT_FOUND : cp_store_get(plane->store, &cp_instance_desc, call->id, &gone, err);
    if (r < 0 && r != CP_E_NOT_FOUND)
        return r;
    if (r < 0 || !cp_streq(gone.tenant_id, call->tenant_id)) {
        cp_desc_clear(&cp_instance_desc, &gone);
        return cp_fail(err, CP_E_NOT_FOUND, "there is no instance %s", call->id);
    }
    cp_call_answer(call, cp_desc_json(&cp_instance_desc, &gone));
    cp_desc_clear(&cp_instance_desc, &gone);
    return 0;
}

int cp_run_release_get(cp_plane *plane, cp_call *call, cp_error *err) {
    int r = cp_id_check(call->id, "rel", err);
    if (r < 0)
        return r;
    cp_rel *rel = cp_table_get(plane->releases, call->id);
    if (!rel || !cp_streq(rel->row.tenant_id, call->tenant_id))
        return cp_fail(err, CP_E_NOT_FOUND, "there is no release %s", call->id);
    cp_call_answer(call, cp_view_release(plane, rel));
    return 0;
}

static const struct {
    unsigned bit;
    const char *name;
} CAPABILITIES[] = {
    {CP_CAN_LOGS, "logs"},     {CP_CAN_EXEC, "exec"},           {CP_CAN_VOLUMES, "volumes"},
    {CP_CAN_UPDATE, "update"}, {CP_CAN_WATCH, "watch"},         {CP_CAN_RESTART_POLICY, "restart_policy"},
    {CP_CAN_PROBE, "probe"},   {CP_CAN_RESOURCES, "resources"},
};

int cp_run_providers_list(cp_plane *plane, cp_call *call, cp_error *err) {
    (void)err;
    json_t *items = json_array();
    for (size_t i = 0; i < plane->providers.count; i++) {
        cp_provider *provider = plane->providers.items[i];
        json_t *capabilities = json_array();
        for (size_t c = 0; c < CP_COUNT(CAPABILITIES); c++)
            if (provider->class->capabilities & CAPABILITIES[c].bit)
                json_array_append_new(capabilities, json_string(CAPABILITIES[c].name));
        json_t *view = json_pack("{s:s, s:s, s:b, s:o}", "name", provider->name, "type", provider->class->type,
                                 "default", i == 0, "capabilities", capabilities);
        if (provider->class->info)
            json_object_set_new(view, "info", provider->class->info(provider));
        json_array_append_new(items, view);
    }
    cp_call_answer(call, json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)plane->providers.count));
    return 0;
}
