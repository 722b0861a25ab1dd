/* engine/base/mem.c -- Allocation and strings. Running out of memory for something small ends the process. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory, size_t size) {
    if (!memory) {
        fprintf(stderr, "ctrlplane: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

void *cp_alloc0(size_t size) {
    return must(calloc(1, size ? size : 1), size);
}

void *cp_realloc(void *old, size_t size) {
    return must(realloc(old, size ? size : 1), size);
}

char *cp_strdup(const char *text) {
    return text ? cp_strndup(text, strlen(text)) : NULL;
}

char *cp_strndup(const char *text, size_t len) {
    char *copy = must(malloc(len + 1), len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *cp_printf(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int len = vasprintf(&text, format, args);
    va_end(args);
    return len < 0 ? must(NULL, 0) : text;
}

void cp_freep(void *pointer_to_pointer) {
    free(*(void **)pointer_to_pointer);
}

void cp_set_string(char **slot, const char *text) {
    char *copy = cp_strdup(text); /* first: text may be part of the old value */
    free(*slot);
    *slot = copy;
}

bool cp_streq(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool cp_is_empty(const char *text) {
    return !text || !*text;
}
