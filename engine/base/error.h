/* engine/base/error.h -- The one error type and the public codes.
 * An error is the last argument of a function that can fail; the return value is 0 or the negative code.
 * Knows nothing of workloads. */
#pragma once
#include "base/mem.h"
#include <jansson.h>

/* The public codes (model.md, "Errors"). Names in JSON are the lower-case words: "invalid_state". */
typedef enum cp_code {
    CP_OK = 0,
    CP_E_INVALID = -1,
    CP_E_NOT_FOUND = -2,
    CP_E_ALREADY_EXISTS = -3,
    CP_E_INVALID_STATE = -4,
    CP_E_CONFLICT = -5,
    CP_E_UNAUTHORIZED = -6,
    CP_E_FORBIDDEN = -7,
    CP_E_DENIED = -8,
    CP_E_QUOTA_EXCEEDED = -9,
    CP_E_RATE_LIMITED = -10,
    CP_E_PROVIDER_NOT_FOUND = -11,
    CP_E_PROVIDER_UNAVAILABLE = -12,
    CP_E_PROVIDER_FAILED = -13,
    CP_E_UNSUPPORTED = -14,
    CP_E_DEPLOYMENT_FAILED = -15,
    CP_E_HEALTH_CHECK_FAILED = -16,
    CP_E_TIMEOUT = -17,
    CP_E_CANCELLED = -18,
    CP_E_NONDETERMINISM = -19,
    CP_E_SCRIPT_ERROR = -20,
    CP_E_STORAGE_FAILED = -21,
    CP_E_TOO_LARGE = -22,
    CP_E_INTERNAL = -23,
} cp_code;

/* Zero it before use ({0}); cp_error_clear frees what it holds. All pointers are owned. */
typedef struct cp_error {
    int code;
    char *message; /* one line: what is wrong, with which value; what would be right */
    char *field;   /* a path such as services[1].ports[0].container, or NULL */
    char *hint;    /* "did you mean 'strategy'?", or NULL */
    json_t *details;
} cp_error;

/* Fills err (NULL is allowed: only the code is returned then) and returns code. What err held before is freed. */
int cp_fail(cp_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with a field path and a hint; both are copied and may be NULL. */
int cp_fail_at(cp_error *err, int code, const char *field, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Puts "prefix: " before the message; returns err->code. */
int cp_error_wrap(cp_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cp_error_clear(cp_error *err); /* leaves it zeroed */
void cp_error_copy(cp_error *to, const cp_error *from);
void cp_error_move(cp_error *to, cp_error *from); /* from is left zeroed */
#define cp_autoerror CP_CLEANUP(cp_error_clear)

const char *cp_code_name(int code);         /* "invalid_state"; "internal" for what is unknown */
int cp_code_from_name(const char *name);    /* CP_E_INTERNAL for what is unknown */
int cp_code_http_status(int code);          /* 400 for invalid, 404 for not_found ... one table */
json_t *cp_error_json(const cp_error *err); /* {code, message, field?, hint?, details?}; a new reference */
void cp_error_from_json(cp_error *err, const json_t *object); /* the inverse, for clients */

/* The nearest of `names` to `word` when it is near enough to be a slip (edit distance <= 1/3 of the length, at least 1,
 * '-' equals '_'), else NULL. */
const char *cp_nearest(const char *word, const char *const *names, size_t count);
