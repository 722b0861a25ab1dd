/* engine/plane/workload.c -- create and update, and what a workload's services are. Everything is checked before
 * anything changes. Must not know how a rollout goes on. */
#include "plane/args.h"

#include "base/id.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What runs or is on its way: the release of the newest deployment while that is under way, else the current one, else
 * the newest (nothing was ever good). */
cp_rel *cp_workload_target(const cp_wl *wl) {
    cp_wl *mine = (cp_wl *)wl;
    if (cp_rollout_active(wl)) {
        cp_deployment *dep = wl->deployments.items[wl->deployments.count - 1];
        if (!dep->rolling_back)
            return cp_wl_release(mine, dep->release_id);
    }
    cp_rel *current = cp_wl_release(mine, wl->row.current_release_id);
    return current ? current : wl->releases.count ? wl->releases.items[wl->releases.count - 1] : NULL;
}

/* The services of a release as they were asked for: its images by the names that people gave them. */
void cp_release_asked(const cp_rel *rel, cp_list *ret) {
    cp_release copy = {0};
    cp_desc_copy(&cp_release_desc, &copy, &rel->row);
    *ret = copy.services;
    copy.services = (cp_list){0};
    for (size_t i = 0; i < ret->count; i++) {
        cp_service *service = CP_LIST_AT(ret, cp_service, i);
        const char *image = cp_map_get(&copy.images, service->name);
        if (image)
            cp_set_string(&service->image, image);
    }
    cp_desc_clear(&cp_release_desc, &copy);
}

void cp_workload_spec_refresh(cp_plane *plane, cp_wl *wl) {
    if (wl->row.staged || wl->row.state == CP_WORKLOAD_DESTROYED)
        return;
    cp_rel *target = cp_workload_target(wl);
    if (!target || cp_streq(wl->spec_of, target->row.id))
        return;
    cp_set_string(&wl->spec_of, target->row.id);
    cp_workload fresh = {0};
    cp_release_asked(target, &fresh.services);
    cp_autofree char *now = cp_services_hash(&wl->row.services), *then = cp_services_hash(&fresh.services);
    if (!cp_streq(now, then)) {
        cp_list old = wl->row.services;
        wl->row.services = fresh.services;
        fresh.services = old;
        cp_plane_save_workload(plane, wl);
    }
    cp_desc_clear(&cp_workload_desc, &fresh);
}

/* What a spec asks of its provider, said when it is asked for and not at midnight. */
int cp_services_supported(const cp_provider *provider, const cp_list *services, int kind, cp_error *err) {
    if (!provider)
        return cp_fail(err, CP_E_PROVIDER_NOT_FOUND,
                       "its provider is not open in this engine; providers list says which are");
    unsigned can = provider->class->capabilities;
    if (kind == CP_KIND_STATEFUL_SET && !(can & CP_CAN_UPDATE))
        return cp_fail_at(err, CP_E_UNSUPPORTED, "kind", NULL,
                          "provider %s cannot update in place, which stateful_set needs", provider->name);
    for (size_t i = 0; i < services->count; i++) {
        const cp_service *service = CP_LIST_AT(services, cp_service, i);
        cp_autofree char *at = cp_printf("services[%zu]", i);
        cp_autofree char *volumes = cp_printf("%s.volumes", at), *secrets = cp_printf("%s.secrets", at);
        cp_autofree char *check = cp_printf("%s.health_check.type", at);
        if (service->volumes.count && !(can & CP_CAN_VOLUMES))
            return cp_fail_at(err, CP_E_UNSUPPORTED, volumes, NULL, "provider %s has no volumes", provider->name);
        if (service->secrets.count)
            return cp_fail_at(err, CP_E_UNSUPPORTED, secrets, NULL, "secrets are not supported; use env");
        if (!service->health_check || (can & CP_CAN_PROBE))
            continue;
        if (service->health_check->type == CP_CHECK_GRPC)
            return cp_fail_at(err, CP_E_UNSUPPORTED, check, "use http, tcp or command",
                              "grpc checks are not supported");
        if (service->health_check->type == CP_CHECK_COMMAND && !(can & CP_CAN_EXEC))
            return cp_fail_at(err, CP_E_UNSUPPORTED, check, "use http or tcp",
                              "provider %s cannot run a command in an instance", provider->name);
    }
    return 0;
}

/* Records the services as the workload's next release. They are moved in; images as asked are kept beside. */
cp_rel *cp_release_record(cp_plane *plane, cp_wl *wl, cp_list *resolved, const cp_list *asked, char *hash,
                          const cp_deploy_args *args) {
    cp_release row = {
        .id = cp_id_new("rel", cp_plane_now(plane)),
        .created_at = cp_plane_now(plane),
        .tenant_id = cp_strdup(wl->row.tenant_id),
        .workload_id = cp_strdup(wl->row.id),
        .version = wl->releases.count ? ((cp_rel *)wl->releases.items[wl->releases.count - 1])->row.version + 1 : 1,
        .services = *resolved,
        .notes = cp_strdup(args->notes),
        .commit_sha = cp_strdup(args->commit_sha),
        .spec_hash = hash,
    };
    *resolved = (cp_list){0};
    for (size_t i = 0; i < asked->count; i++)
        cp_map_set(&row.images, CP_LIST_AT(asked, cp_service, i)->name, CP_LIST_AT(asked, cp_service, i)->image);
    cp_rel *rel = cp_plane_add_release(plane, wl, &row);
    cp_plane_save_release(plane, rel);
    return rel;
}

/* A copy whose images are what they will be tomorrow. */
int cp_services_resolved(cp_call *call, cp_provider *provider, const cp_list *services, cp_list *ret, cp_error *err) {
    int r = cp_call_prepare(call, provider, services, err);
    if (r != 0)
        return r;
    cp_release copy = {0}, from = {.services = *services};
    cp_desc_copy(&cp_release_desc, &copy, &from);
    r = provider->class->resolve ? provider->class->resolve(provider, &copy.services, err) : 0;
    if (r == 0) {
        *ret = copy.services;
        copy.services = (cp_list){0};
    }
    cp_desc_clear(&cp_release_desc, &copy);
    return r;
}

static int find_provider(cp_plane *plane, const char *name, cp_provider **ret, cp_error *err) {
    *ret = cp_plane_provider(plane, name);
    if (*ret)
        return 0;
    const char *names[64];
    size_t count = 0;
    for (; count < plane->providers.count && count < CP_COUNT(names); count++)
        names[count] = ((cp_provider *)plane->providers.items[count])->name;
    const char *near = cp_nearest(name, names, count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : cp_printf("there is '%s'", names[0]);
    return cp_fail_at(err, CP_E_PROVIDER_NOT_FOUND, "provider_name", hint, "there is no provider '%.80s'", name);
}

static int check_create(cp_plane *plane, const cp_create_args *args, const char *tenant, cp_provider **provider,
                        char **slug, cp_error *err) {
    int r = cp_slug_make(args->name, slug, err);
    if (r < 0)
        return r;
    r = find_provider(plane, args->provider_name, provider, err);
    if (r == 0)
        r = cp_labels_check(&args->labels, "labels", err);
    if (r == 0)
        r = cp_services_check(&args->services, args->kind, "services", err);
    if (r == 0)
        r = cp_services_supported(*provider, &args->services, args->kind, err);
    if (r < 0)
        return r;
    if (args->replicas > 1 && cp_services_fixed_port(&args->services))
        return cp_fail_at(err, CP_E_INVALID, "replicas", "leave out ports[].host to get a free port per replica",
                          "replicas is %" PRId64 ", but a port has a fixed host port, which one replica only can have",
                          args->replicas);
    cp_autofree char *key = cp_plane_slug_key(tenant, *slug);
    const cp_wl *taken = cp_table_get(plane->slugs, key);
    if (taken)
        return cp_fail_at(err, CP_E_ALREADY_EXISTS, "name", NULL,
                          "the name '%s' gives the slug %s, which workload %s has", args->name, *slug, taken->row.id);
    return 0;
}

static cp_wl *new_workload(cp_plane *plane, cp_create_args *args, const char *tenant, const cp_provider *provider,
                           char *slug) {
    cp_workload row = {
        .id = cp_id_new("wkl", cp_plane_now(plane)),
        .created_at = cp_plane_now(plane),
        .tenant_id = cp_strdup(tenant),
        .name = cp_take(args->name),
        .slug = slug,
        .datacenter_id = cp_take(args->datacenter_id),
        .provider_name = cp_strdup(provider->name),
        .region = cp_take(args->region),
        .kind = args->kind,
        .services = args->services,
        .labels = args->labels,
        .replica_count = args->replicas > 0 ? args->replicas : 1,
        .state = CP_WORKLOAD_PROVISIONING,
        .generation = 1,
        .restart_parallel = 1,
    };
    args->services = (cp_list){0};
    args->labels = (cp_map){0};
    return cp_plane_add_workload(plane, &row);
}

int cp_run_create(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_create_args *args = call->args;
    cp_args_deploy_present(&cp_create_args_desc, args->present, &args->deploy);
    cp_provider *provider = NULL;
    cp_autofree char *slug = NULL;
    int r = check_create(plane, args, call->tenant_id, &provider, &slug, err);
    cp_list resolved = {0};
    if (r == 0)
        r = cp_services_resolved(call, provider, &args->services, &resolved, err);
    if (r != 0)
        return r;
    cp_wl *wl = new_workload(plane, args, call->tenant_id, provider, cp_take(slug));
    r = cp_rollout_check(plane, wl, &args->deploy, err);
    if (r < 0) { /* nothing was written yet */
        cp_list_clear(&resolved, &cp_service_desc);
        cp_plane_drop_workload(plane, wl);
        return r;
    }
    cp_plane_save_workload(plane, wl);
    cp_plane_event(plane, "workload.created", call->subject, wl, NULL, NULL,
                   json_pack("{s:s, s:I}", "name", wl->row.name, "replicas", (json_int_t)wl->row.replica_count));
    cp_rel *rel =
        cp_release_record(plane, wl, &resolved, &wl->row.services, cp_services_hash(&resolved), &args->deploy);
    cp_deployment *dep = NULL;
    cp_claims claims = {.tenant_id = call->tenant_id, .subject = call->subject};
    r = cp_rollout_begin(plane, wl, rel, &args->deploy, &claims, &dep, err);
    if (r < 0)
        return r;
    cp_plane_dirty(plane, wl);
    if (args->wait > 0)
        cp_call_wait(call, wl->row.id, NULL, args->wait);
    else
        cp_call_answer(call, cp_view_workload(plane, wl));
    return 0;
}

static int check_update(cp_plane *plane, const cp_wl *wl, const cp_update_args *args, cp_error *err) {
    int r = cp_workload_refuse_deleted(wl, "update", err);
    if (r < 0)
        return r;
    if (cp_desc_has(&cp_update_args_desc, args, "name")) {
        cp_autofree char *slug = NULL; /* kept on rename; this checks the name */
        r = cp_slug_make(args->name ? args->name : "", &slug, err);
    }
    if (r == 0)
        r = cp_labels_check(&args->labels, "labels", err);
    if (r < 0 || !cp_desc_has(&cp_update_args_desc, args, "services"))
        return r;
    r = cp_services_check(&args->services, wl->row.kind, "services", err);
    if (r == 0)
        r = cp_services_supported(cp_plane_provider(plane, wl->row.provider_name), &args->services, wl->row.kind, err);
    if (r == 0 && wl->row.replica_count > 1 && cp_services_fixed_port(&args->services))
        r = cp_fail_at(err, CP_E_INVALID, "services", "leave out ports[].host to get a free port per replica",
                       "a fixed host port needs one replica; workload %s has %" PRId64, wl->row.slug,
                       wl->row.replica_count);
    return r;
}

int cp_run_update(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_update_args *args = call->args;
    cp_wl *wl = cp_plane_workload(plane, call->tenant_id, call->id, err);
    if (!wl)
        return cp_lookup_failed(err);
    int r = check_update(plane, wl, args, err);
    if (r < 0)
        return r;
    json_t *changed = json_array();
    if (cp_desc_has(&cp_update_args_desc, args, "name")) {
        cp_set_string(&wl->row.name, args->name);
        json_array_append_new(changed, json_string("name"));
    }
    if (cp_desc_has(&cp_update_args_desc, args, "labels")) {
        cp_map_clear(&wl->row.labels);
        wl->row.labels = args->labels;
        args->labels = (cp_map){0};
        json_array_append_new(changed, json_string("labels"));
    }
    if (cp_desc_has(&cp_update_args_desc, args, "services")) {
        cp_list_clear(&wl->row.services, &cp_service_desc);
        wl->row.services = args->services;
        args->services = (cp_list){0};
        cp_list asked = {0};
        cp_rel *target = cp_workload_target(wl);
        if (target)
            cp_release_asked(target, &asked);
        cp_autofree char *draft = cp_services_hash(&wl->row.services), *runs = cp_services_hash(&asked);
        wl->row.staged = !target || !cp_streq(draft, runs);
        cp_list_clear(&asked, &cp_service_desc);
        json_array_append_new(changed, json_string("services"));
    }
    cp_plane_save_workload(plane, wl);
    cp_plane_event(plane, "workload.updated", call->subject, wl, NULL, NULL, json_pack("{s:o}", "changed", changed));
    if (args->wait > 0)
        cp_call_wait(call, wl->row.id, NULL, args->wait);
    else
        cp_call_answer(call, cp_view_workload(plane, wl));
    return 0;
}
