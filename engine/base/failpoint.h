/* engine/base/failpoint.h -- Named failpoints: CP_FAILPOINT=name:n:exit|error|sleep stops the n-th pass of a name.
 * Compiled in when CP_FAILPOINTS is defined (test builds); free otherwise.
 *   before_commit  a turn's rows are written, not committed (twice a commit: the plane's pass, then the store's)
 *   after_commit   committed; no effect ran, nobody was told (twice as well)
 *   effect         before a provider is asked to do an operation      effect_done   it was asked
 *   record         its answer is here, not recorded                   adopt         a provider's list is here, not
 * taken before_marker, after_marker   a store recovers from a failed commit migrate_*      a store is migrated
 * process_*     see providers/process In the plane an `error` ends the engine as by kill -9, in this process
 * (cp_plane_crashed); in the store it fails the commit. A name that no spec reaches fails the tests. */
#pragma once
#include "base/error.h"

#ifdef CP_FAILPOINTS
/* 0, or CP_E_INTERNAL when this pass is told to fail. exit leaves by _exit(99), without cleaning up. */
int cp_failpoint(const char *name);
/* A spec's own handler instead of the environment: called at every pass; its return value is the result. NULL clears.
 */
void cp_failpoint_hook(int (*hook)(void *userdata, const char *name), void *userdata);
#else
static inline int cp_failpoint(const char *name) {
    (void)name;
    return 0;
}
#endif
