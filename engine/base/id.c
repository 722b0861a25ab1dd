/* engine/base/id.c -- TypeIDs (TypeID 0.3, jetify-com/typeid spec: 26 characters, the first at most '7'). */
#include "base/id.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char ALPHABET[] = "0123456789abcdefghjkmnpqrstvwxyz";
static const char *const PREFIXES[] = {"wkl", "inst", "rel", "dep", "tmpl", "chk", "hres", "dom",
                                       "rte", "evt",  "ten", "tok", "sec",  "aud", "hook", "plane"};

static uint64_t seeded; /* 0: the system's randomness */
static uint64_t last_ms;
static uint64_t last_tail[2]; /* the 74 bits behind the time: 12 and 62 */

static uint64_t next_random(void) {
    uint64_t value;
    if (seeded) { /* splitmix64 (Steele, Lea, Flood 2014) */
        value = (seeded += 0x9e3779b97f4a7c15u);
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
        value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
        return value ^ (value >> 31);
    }
    if (getrandom(&value, sizeof value, 0) != sizeof value)
        value = (uint64_t)(uintptr_t)&value * 0x9e3779b97f4a7c15u;
    return value;
}

void cp_id_seed(uint64_t seed) {
    seeded = seed;
    last_ms = 0;
}

char *cp_id_new(const char *prefix, int64_t now_ms) {
    uint64_t ms = now_ms > 0 ? (uint64_t)now_ms : 0;
    if (ms > last_ms) {
        last_ms = ms;
        last_tail[0] = next_random() & 0x7ff; /* one bit kept free, so that counting up has room */
        last_tail[1] = next_random() & 0x3fffffffffffffffu;
    } else { /* the same millisecond, or a clock that went back: count up */
        last_tail[1] += 1 + (next_random() & 0xffffffffu);
        if (last_tail[1] >> 62) {
            last_tail[1] &= 0x3fffffffffffffffu;
            if (++last_tail[0] > 0xfff) {
                last_tail[0] = 0;
                last_ms++;
            }
        }
    }
    uint64_t high = last_ms << 16 | 0x7000u | last_tail[0]; /* version 7 */
    uint64_t low = 0x8000000000000000u | last_tail[1];      /* variant 10 */
    char text[27];
    for (int i = 25; i >= 0; i--) { /* 128 bits, five at a time from the end */
        text[i] = ALPHABET[low & 31];
        low = low >> 5 | high << 59;
        high >>= 5;
    }
    text[26] = '\0';
    return cp_printf("%s_%s", prefix, text);
}

int cp_id_check(const char *id, const char *prefix, cp_error *err) {
    const char *bar = strrchr(id, '_');
    if (!bar || bar == id)
        return cp_fail(err, CP_E_INVALID, "id '%.80s' has no prefix; an id looks like %s_01h455vb4pex5vsknk084sn02q",
                       id, prefix ? prefix : "wkl");
    size_t len = (size_t)(bar - id);
    if (prefix && (strlen(prefix) != len || strncmp(id, prefix, len) != 0))
        return cp_fail(err, CP_E_INVALID, "id '%.80s' has the prefix '%.*s'; it must be '%s'", id,
                       (int)(len > 20 ? 20 : len), id, prefix);
    bool known = prefix != NULL;
    for (size_t i = 0; i < CP_COUNT(PREFIXES) && !known; i++)
        known = strlen(PREFIXES[i]) == len && strncmp(id, PREFIXES[i], len) == 0;
    if (!known)
        return cp_fail(err, CP_E_INVALID, "id '%.80s' has the unknown prefix '%.*s'", id, (int)(len > 20 ? 20 : len),
                       id);
    const char *suffix = bar + 1;
    if (strlen(suffix) != 26)
        return cp_fail(err, CP_E_INVALID, "id '%.80s' has %zu characters behind its prefix; it must have 26", id,
                       strlen(suffix));
    for (const char *c = suffix; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            return cp_fail(err, CP_E_INVALID, "id '%.80s' has the capital '%c'; ids are lower case", id, *c);
        if (!strchr(ALPHABET, *c))
            return cp_fail(err, CP_E_INVALID,
                           "id '%.80s' has the byte 0x%02x outside the alphabet of ids (no i, l, o, u)", id,
                           (unsigned char)*c);
    }
    if (suffix[0] > '7')
        return cp_fail(err, CP_E_INVALID, "id '%.80s' overflows 128 bits: it begins with '%c'; at most 7", id,
                       suffix[0]);
    return 0;
}

bool cp_id_looks_like(const char *text, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 && text[len] == '_';
}
