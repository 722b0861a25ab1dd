/* engine/model/model.h -- Rules of the model that are not decisions: validation, slugs, state machines, merging a
 * deploy into services, spec hashes. Pure. */
#pragma once
#include "model/entity.h"

/* Validates the services of a workload completely (model.md, "ServiceSpec"): names, exactly one main, known
 * depends_on without a cycle (reported as its path), ports, volumes, bounds, ${...} names ... path: "services".
 * Whether there may be several instances is not looked at: cp_services_fixed_port. */
int cp_services_check(const cp_list *services, int kind, const char *path, cp_error *err);
const cp_service *cp_services_main(const cp_list *services);
const cp_service *cp_services_find(const cp_list *services, const char *name);
bool cp_services_fixed_port(const cp_list *services); /* some port has a fixed host */
/* The port that ${port.<name>} means in a text of `own`: its own port of that name, else the first other service's.
 * NULL when there is none. owner: whose port it is. */
const cp_port *cp_services_port(const cp_list *services, const cp_service *own, const char *name,
                                const cp_service **owner);
/* Start order: every init in dependency order, then main and sidecars, each after what it depends on. order: array of
 * services->count indices, filled. */
void cp_services_order(const cp_list *services, size_t *order);
/* A copy of base with the changes laid over; `invalid` names an unknown service with the nearest. ret must be zeroed.
 */
int cp_services_apply(const cp_list *base, const cp_list *changes /* cp_service_deploy */, cp_list *ret, cp_error *err);
char *cp_services_hash(const cp_list *services); /* sha256 hex of the sorted JSON; the caller frees */
/* Labels of a user: keys and values (how many is the descriptor's to say), and `invalid` for what starts with
 * "ctrlplane.". */
int cp_labels_check(const cp_map *labels, const char *path, cp_error *err);

/* Slug of a name by model.md; never empty: a name without Latin letters or digits gives "w-" + 8 hex digits of its
 * hash. `invalid` for blank, NUL or over-long names. The caller frees. */
int cp_slug_make(const char *name, char **ret, cp_error *err);

/* 0, or `invalid_state` naming entity, states and what is allowed. entity: "workload", "instance", "deployment". */
int cp_workload_validate_transition(int from, int to, cp_error *err);
int cp_instance_validate_transition(int from, int to, cp_error *err);
int cp_deployment_validate_transition(int from, int to, cp_error *err);
bool cp_deployment_is_final(int state);

/* Replaces ${port.<name>}, ${instance.id|name|index}, ${workload.name|slug} in text ($${ is a literal ${; every other
 * ${...} and $ stays). lookup is asked for "port.http", "instance.id" ...; NULL for unknown names is `invalid`. Never
 * expands twice. The caller frees. */
typedef const char *cp_lookup(void *userdata, const char *name);
int cp_expand(const char *text, cp_lookup *lookup, void *userdata, char **ret, cp_error *err);
