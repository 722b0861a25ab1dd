/* engine/compose.h -- The one place where plane, store, providers and scripts are wired together. */
#pragma once
#include "plane/plane.h"

typedef struct cp_compose {
    const char *store;    /* path, or ":memory:" */
    const char *data_dir; /* of the process provider; NULL: <store>.d beside the store, a temporary folder for memory */
    const char *vfs;      /* SQLite VFS, NULL: the default */
    const char *provider; /* the default provider: "process" (default) or "sim" */
    const json_t *scenario; /* of the sim provider */
    uint64_t seed;          /* of the sim provider and of ids on a virtual clock */
    bool virtual_clock;
    cp_provider *world;               /* a sim provider of an earlier engine, to go on with (crash tests); lent */
    cp_loop *loop;                    /* an existing loop, or NULL to make one */
    const char *const *strategy_dirs; /* NULL-terminated */
} cp_compose;

typedef struct cp_engine {
    cp_loop *loop;
    cp_plane *plane;
    cp_provider *world; /* the sim provider, when there is one */
    bool own_loop, own_world;
} cp_engine;

int cp_engine_open(const cp_compose *options, cp_engine *ret, cp_error *err);
void cp_engine_close(cp_engine *engine); /* detaches */
/* Where the Lua half and the shim are: CTRLPLANE_LUA / CTRLPLANE_SHIM, else beside the library (build tree), else the
 * installed place. Lent, never NULL. */
const char *cp_lua_dir(void);
const char *cp_shim_path(void);
