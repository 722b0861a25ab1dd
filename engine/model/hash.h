/* engine/model/hash.h -- SHA-256 as lower-case hex, for slugs, releases and pinned scripts. */
#pragma once
#include <stddef.h>

char *cp_sha256(const void *bytes, size_t len); /* 64 characters; the caller frees */
