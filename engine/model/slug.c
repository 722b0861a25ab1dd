/* engine/model/slug.c -- From a workload's name to its slug: a DNS label for URLs and instance names. */
#include "base/limits.h"
#include "model/hash.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

static bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int check_name(const char *name, cp_error *err) {
    size_t len = strlen(name);
    if (len > CP_MAX_NAME)
        return cp_fail_at(err, CP_E_INVALID, "name", NULL, "name has %zu bytes; it must have 1..%d", len, CP_MAX_NAME);
    if (!cp_utf8_valid(name, len))
        return cp_fail_at(err, CP_E_INVALID, "name", NULL, "name is not UTF-8");
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return cp_fail_at(err, CP_E_INVALID, "name", NULL, "name contains the control character 0x%02x",
                              (unsigned)(unsigned char)*c);
    if (strspn(name, " ") == len)
        return cp_fail_at(err, CP_E_INVALID, "name", NULL, "name is %s; give the workload a name",
                          len ? "blank" : "empty");
    return 0;
}

int cp_slug_make(const char *name, char **ret, cp_error *err) {
    int r = check_name(name, err);
    if (r < 0)
        return r;
    char slug[CP_MAX_SLUG + 1];
    size_t len = 0;
    bool gap = false;
    for (const char *c = name; *c; c++) {
        char lower = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        if (!is_plain(lower)) {
            gap = true;
            continue;
        }
        size_t need = gap && len ? 2 : 1;
        if (len + need > CP_MAX_SLUG)
            break; /* a cut never leaves a dash at the end */
        if (need == 2)
            slug[len++] = '-';
        slug[len++] = lower;
        gap = false;
    }
    slug[len] = '\0';
    if (len) {
        *ret = cp_strdup(slug);
        return 0;
    }
    cp_autofree char *hash = cp_sha256(name, strlen(name)); /* no Latin letter or digit: still one slug per name */
    *ret = cp_printf("w-%.8s", hash);
    return 0;
}
