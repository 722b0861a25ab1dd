/* engine/api/server.h -- The HTTP server: routes of cp_operations() on evhttp, over the owner's unix socket.
 * Must not know entities: it passes JSON to cp_plane_call and back. */
#pragma once
#include "plane/plane.h"

typedef struct cp_server cp_server;
/* socket_path: created with mode 0600, removed when the server is freed; a stale one is replaced. */
int cp_server_new(cp_plane *plane, const char *socket_path, cp_server **ret, cp_error *err);
void cp_server_free(cp_server *server);
/* Called when POST /v1/stop was asked (from the unix socket only). */
void cp_server_on_stop(cp_server *server, cp_task *stop, void *userdata);
