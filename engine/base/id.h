/* engine/base/id.h -- TypeIDs: prefix_ + 26 characters of lower-case Crockford base32 of a UUIDv7 (TypeID 0.3).
 * Strictly monotonic within a process, also within one millisecond. */
#pragma once
#include "base/error.h"

/* A new id. now_ms: wall clock; a clock that steps back does not make ids go back. The caller frees. */
char *cp_id_new(const char *prefix, int64_t now_ms);
/* For simulations: makes the random part of all following ids a function of the seed; 0 goes back to the system's. */
void cp_id_seed(uint64_t seed);
/* 0 or `invalid`, saying which of length, case, alphabet, overflow or prefix is wrong. prefix NULL: any known prefix.
 */
int cp_id_check(const char *id, const char *prefix, cp_error *err);
bool cp_id_looks_like(const char *text, const char *prefix); /* starts with "prefix_" */
