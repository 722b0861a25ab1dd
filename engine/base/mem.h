/* engine/base/mem.h -- Allocation, ownership and cleanup helpers.
 * Small allocations that fail end the process with a message; sizes that come from outside are bounded in limits.h
 * before they reach here. Knows nothing but the C library. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *cp_alloc0(size_t size);             /* zeroed; never NULL */
void *cp_realloc(void *old, size_t size); /* never NULL for size > 0 */
char *cp_strdup(const char *text);        /* NULL gives NULL */
char *cp_strndup(const char *text, size_t len);
char *cp_printf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* the caller frees */

#define cp_new0(type) ((type *)cp_alloc0(sizeof(type)))

/* Hands over what a cleanup variable owns: returns it and leaves NULL behind. */
#define cp_take(var)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(var) cp_taken = (var);                                                                              \
        (var) = NULL;                                                                                                  \
        cp_taken;                                                                                                      \
    })

#define CP_CLEANUP(function) __attribute__((cleanup(function)))
#define CP_DEFINE_CLEANUP(type, free_function)                                                                         \
    static inline __attribute__((unused)) void free_function##p(type **pointer) {                                      \
        free_function(*pointer);                                                                                       \
    }

void cp_freep(void *pointer_to_pointer);
#define cp_autofree CP_CLEANUP(cp_freep)

#define CP_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Replaces an owned string: frees the old one, copies the new one (NULL clears). */
void cp_set_string(char **slot, const char *text);
bool cp_streq(const char *a, const char *b); /* NULL equals NULL only */
bool cp_is_empty(const char *text);          /* NULL or "" */
