/* engine/base/failpoint.h -- Named failpoints: CP_FAILPOINT=name:n:exit|error|sleep stops the n-th pass of a name.
 * Compiled in when CP_FAILPOINTS is defined (test builds); free otherwise. */
#pragma once
#include "base/error.h"

#ifdef CP_FAILPOINTS
/* 0, or CP_E_INTERNAL when this pass is told to fail. exit leaves by _exit(99), without cleaning up. */
int cp_failpoint(const char *name);
/* A spec's own handler instead of the environment: called at every pass; its return value is the result. NULL clears. */
void cp_failpoint_hook(int (*hook)(void *userdata, const char *name), void *userdata);
#else
static inline int cp_failpoint(const char *name) {
    (void)name;
    return 0;
}
#endif
