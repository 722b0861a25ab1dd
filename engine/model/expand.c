/* engine/model/expand.c -- ${port.http} and the like in texts of a service. Only the names port.*, instance.* and
 * workload.* are ours: every other ${...} and every other $ stays as it is, so that shell text, password hashes and
 * templates of other programs come through. $${ stands for a literal ${. What is put in is never looked at again. */
#include "base/table.h"
#include "model/model.h"

#include <string.h>

static const char *const NAMESPACES[] = {"port.", "instance.", "workload."};

/* The name in a reference that starts at text ("${..."), lent; NULL when it is not one of ours. */
static const char *reference(const char *text, size_t *len) {
    const char *name = text + 2;
    for (size_t i = 0; i < CP_COUNT(NAMESPACES); i++) {
        if (strncmp(name, NAMESPACES[i], strlen(NAMESPACES[i])) != 0)
            continue;
        *len = strcspn(name, "}\n");
        return name[*len] == '}' ? name : NULL;
    }
    return NULL;
}

int cp_expand(const char *text, cp_lookup *lookup, void *userdata, char **ret, cp_error *err) {
    cp_autobuf cp_buf out = {0};
    for (const char *dollar; (dollar = strchr(text, '$'));) {
        cp_buf_add(&out, text, (size_t)(dollar - text));
        size_t len = 0;
        const char *name = dollar[1] == '{' ? reference(dollar, &len) : NULL;
        if (name) {
            cp_autofree char *key = cp_strndup(name, len);
            const char *value = lookup(userdata, key);
            if (!value)
                return cp_fail(err, CP_E_INVALID, "${%.80s} is not known; write $${ for a literal ${", key);
            cp_buf_puts(&out, value);
            text = name + len + 1;
        } else if (dollar[1] == '$' && dollar[2] == '{') {
            cp_buf_puts(&out, "${");
            text = dollar + 3;
        } else {
            cp_buf_puts(&out, "$");
            text = dollar + 1;
        }
    }
    cp_buf_puts(&out, text);
    *ret = cp_take(out.data);
    return 0;
}
