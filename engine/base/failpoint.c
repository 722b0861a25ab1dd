/* engine/base/failpoint.c -- Named failpoints of test builds. */
#include "base/failpoint.h"

#ifdef CP_FAILPOINTS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int (*hook)(void *userdata, const char *name);
static void *hook_userdata;

void cp_failpoint_hook(int (*function)(void *userdata, const char *name), void *userdata) {
    hook = function;
    hook_userdata = userdata;
}

/* CP_FAILPOINT=name:n:action, read once. */
static struct {
    bool read;
    char name[64];
    long n;
    char action[16];
} wanted;

static void read_environment(void) {
    wanted.read = true;
    const char *text = getenv("CP_FAILPOINT");
    if (text && sscanf(text, "%63[^:]:%ld:%15s", wanted.name, &wanted.n, wanted.action) != 3) {
        fprintf(stderr, "ctrlplane: CP_FAILPOINT is '%s'; write it like before_commit:3:exit\n", text);
        exit(2);
    }
}

int cp_failpoint(const char *name) {
    if (hook)
        return hook(hook_userdata, name);
    if (!wanted.read)
        read_environment();
    if (!wanted.name[0] || strcmp(wanted.name, name) != 0 || --wanted.n != 0)
        return 0;
    if (strcmp(wanted.action, "exit") == 0)
        _exit(99);
    if (strcmp(wanted.action, "sleep") == 0) {
        fprintf(stderr, "ctrlplane: hangs at the failpoint %s\n", name);
        pause(); /* until it is killed */
        return 0;
    }
    return CP_E_INTERNAL;
}
#endif
