/* engine/lua/host.h -- What the files of the script host share: one contained lua_State (a sandbox), its budget and its
 * end. Knows Lua and the loop; must not know workloads, journals or goals. */
#pragma once
#include "lua/lua.h"
#include "script.h"

#define CP_SANDBOX_BLOCK (2 << 20)  /* bytes of one block: one operation on it takes well under a millisecond */
#define CP_SANDBOX_UNBROKEN 2000000 /* instructions or matching steps where the script cannot be interrupted */
#define CP_SANDBOX_UNWIND 1000      /* instructions that an error costs when it is caught: about its time */
#define CP_SANDBOX_DEPTH 100        /* coroutines resumed inside one another */

typedef struct cp_sandbox {
    lua_State *L;
    const json_t *files; /* lent: path -> source, what `require` may load */
    size_t used, cap;    /* bytes */
    size_t large[16];    /* live blocks of 64 KiB << n and more */
    int64_t spent;       /* instructions since the last command */
    int64_t budget;
    int64_t slice;          /* since the loop had its turn */
    int64_t unbroken;       /* since the last point where the script could have been interrupted */
    int step;               /* instructions per call of the hook */
    int depth, unyieldable; /* coroutines inside one another; of these, entered where nobody may yield */
    bool armed;             /* false while the state is built and after it ended */
    bool may_yield;         /* somebody resumes it: a run, not a load or a test */
    bool suspending;        /* the yield under way is ours, not the script's */
    bool finished;          /* unwinding because the strategy said so */
    bool refused;           /* an allocation was refused: the end */
    bool killed;            /* raises at every instruction */
    cp_error end;           /* why it was killed */
    uint64_t random[2];
    int64_t now_wall;
    void *owner; /* the run, for the primitives `command` and `query` */
} cp_sandbox;

/* A state with the whitelist and nothing else; files is lent and outlives it. The prelude's table is left on the stack
 * of sandbox->L. `script_error` when our own Lua does not load. */
int cp_sandbox_new(cp_scripts *scripts, const json_t *files, const char *seed, cp_sandbox **ret, cp_error *err);
void cp_sandbox_free(cp_sandbox *sandbox); /* NULL is fine */
CP_DEFINE_CLEANUP(cp_sandbox, cp_sandbox_free)
#define cp_autosandbox CP_CLEANUP(cp_sandbox_freep)
cp_sandbox *cp_sandbox_of(lua_State *L);

/* host_budget.c */
lua_State *cp_sandbox_state(cp_sandbox *sandbox); /* a state whose memory is the sandbox's; NULL: no memory */
void cp_sandbox_arm(cp_sandbox *sandbox);         /* counting starts, from zero */
void cp_sandbox_disarm(cp_sandbox *sandbox);
void cp_sandbox_charge(lua_State *L, int64_t instructions); /* raises when the budget is spent */
void cp_sandbox_unbroken(lua_State *L, int64_t steps); /* charges what one C call takes; raises when it is too long */
/* Ends the script: it unwinds whatever it catches. The first reason stays. Does not raise by itself. */
void cp_sandbox_kill(lua_State *L, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void cp_sandbox_kill_with(lua_State *L, cp_error *reason); /* reason is moved out */
/* Adds where (file:line), source_line and traceback of L to err's details, as far as they are known. */
void cp_sandbox_locate(cp_sandbox *sandbox, lua_State *L, cp_error *err);
/* "file:line" of the script's innermost frame (not of our own Lua); "" when there is none. The caller frees. */
char *cp_sandbox_line(lua_State *L);
/* The error of a dead coroutine L: the kill's, else the value on its stack; always with its place. */
void cp_sandbox_error(cp_sandbox *sandbox, lua_State *L, cp_error *ret);

/* host_sandbox.c, host_match.c, host_library.c: parts of the table of primitives at the stack top. */
void cp_sandbox_primitives(lua_State *L);
void cp_sandbox_open_match(lua_State *L);
void cp_sandbox_open_library(lua_State *L);

/* host_bundle.c: finds and pins sources. */
typedef struct cp_lua_scripts {
    cp_scripts base;
    char *lua_dir;
    cp_strings dirs;
    char *library, *prelude; /* our own Lua, as text */
    int64_t prelude_version;
    cp_table *known; /* cp_strategy * by hash: what a source declares does not change */
} cp_lua_scripts;
int cp_bundle_find(cp_lua_scripts *scripts, const char *name, json_t **ret_bundle, cp_error *err);
int cp_bundle_text(cp_lua_scripts *scripts, const char *name, const char *source, const cp_map *files,
                   json_t **ret_bundle, cp_error *err);
void cp_bundle_names(cp_lua_scripts *scripts, cp_strings *ret); /* of all strategies, sorted */
int cp_bundle_read(const char *path, char **ret, size_t *len, cp_error *err);

/* host_params.c: declarations of parameters, and values against them. */
int cp_params_declared(const json_t *declared, cp_error *err); /* `invalid`: a bad type, bound or default */
int cp_params_check(const json_t *declared, const json_t *params, json_t **ret, cp_error *err);

/* host_run.c: the primitives of a run. */
int cp_host_command(lua_State *L);
int cp_host_query(lua_State *L);
