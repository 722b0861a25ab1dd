/* engine/lua/host_bundle.c -- Finds strategies and pins their sources: the file itself and whatever it requires, by
 * path. Editing a file changes the next rollout, never one under way. Must not run anything. */
#include "base/limits.h"
#include "lua/host.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int cp_bundle_read(const char *path, char **ret, size_t *len, cp_error *err) {
    FILE *file = fopen(path, "re");
    struct stat info;
    if (!file)
        return cp_fail(err, CP_E_NOT_FOUND, "%s cannot be read: %s", path, strerror(errno));
    if (fstat(fileno(file), &info) < 0 || !S_ISREG(info.st_mode)) {
        fclose(file);
        return cp_fail(err, CP_E_INVALID, "%s is not a file", path);
    }
    cp_autobuf cp_buf text = {0};
    cp_buf_puts(&text, "");
    char block[8192];
    for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0 && text.len <= CP_MAX_SCRIPT;)
        cp_buf_add(&text, block, n);
    fclose(file);
    if (text.len > CP_MAX_SCRIPT)
        return cp_fail(err, CP_E_TOO_LARGE, "%s is longer than %d bytes", path, CP_MAX_SCRIPT);
    *len = text.len;
    *ret = cp_take(text.data);
    return 0;
}

static int add_source(json_t *files, const char *key, const char *text, size_t len, cp_error *err) {
    if (len > CP_MAX_SCRIPT)
        return cp_fail(err, CP_E_TOO_LARGE, "%s has %zu bytes; a script has at most %d", key, len, CP_MAX_SCRIPT);
    if (len && text[0] == '\033')
        return cp_fail(err, CP_E_SCRIPT_ERROR, "%s:1: this is compiled code; only source text is loaded", key);
    if (!cp_utf8_valid(text, len) || memchr(text, 0, len))
        return cp_fail(err, CP_E_SCRIPT_ERROR, "%s:1: the file is not UTF-8 text; only source text is loaded", key);
    json_object_set_new(files, key, json_stringn_nocheck(text, len));
    return 0;
}

/* The next `require "name"` at or behind *at, with the file it stands for. */
static char *next_required(const char **at) {
    while ((*at = strstr(*at, "require"))) {
        const char *p = *at + strlen("require");
        *at = p;
        p += strspn(p, " \t(");
        char quote = *p;
        if (quote != '"' && quote != '\'')
            continue;
        const char *end = strchr(++p, quote);
        if (!end || end == p || (size_t)(end - p) > CP_MAX_NAME * 4u ||
            strspn(p, "abcdefghijklmnopqrstuvwxyz"
                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") < (size_t)(end - p))
            continue;
        char *path = cp_printf("%.*s.lua", (int)(end - p), p);
        for (char *c = path; c < path + (end - p); c++)
            if (*c == '.')
                *c = '/';
        return path;
    }
    return NULL;
}

/* Where what a strategy requires is found: ctrlplane's helpers in its own folder, everything else beside the file or in
 * what was sent with the text; both NULL: nowhere. */
typedef struct shelf {
    const char *lua_dir, *folder;
    const cp_map *sent;
} shelf;

/* The source that `name` stands for. *ret stays NULL when there is none. */
static int find_source(const shelf *from, const char *name, char **ret, size_t *len, cp_error *err) {
    bool own = strncmp(name, "ctrlplane/", 10) == 0;
    if (!own && from->sent) {
        *ret = cp_strdup(cp_map_get(from->sent, name));
        *len = *ret ? strlen(*ret) : 0;
        return 0;
    }
    const char *base = own ? from->lua_dir : from->folder;
    if (!base)
        return 0;
    cp_autofree char *path = cp_printf("%s/%s", base, name);
    cp_autoerror cp_error missing = {0};
    if (cp_bundle_read(path, ret, len, &missing) == 0 || missing.code == CP_E_NOT_FOUND)
        return 0;
    cp_error_move(err, &missing);
    return err->code;
}

/* Adds what the source of `key` requires, and what that requires. A file that is not there is not an error here: the
 * name may stand in a comment. */
static int add_required(const shelf *from, json_t *files, const char *key, cp_error *err) {
    const char *at = json_string_value(json_object_get(files, key));
    for (char *next; (next = next_required(&at));) {
        cp_autofree char *name = next;
        if (json_object_get(files, name) || strstr(name, "//") || name[0] == '/')
            continue;
        cp_autofree char *text = NULL;
        size_t len;
        int r = find_source(from, name, &text, &len, err);
        if (r < 0)
            return r;
        if (!text)
            continue;
        if (json_object_size(files) >= CP_MAX_SCRIPT_FILES)
            return cp_fail(err, CP_E_TOO_LARGE, "%s requires more than %d files", key, CP_MAX_SCRIPT_FILES);
        r = add_source(files, name, text, len, err);
        if (r == 0)
            r = add_required(from, files, name, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int make_bundle(cp_lua_scripts *scripts, const char *key, const shelf *from, const char *text, size_t len,
                       json_t **ret, cp_error *err) {
    cp_autojson json_t *files = json_object();
    int r = add_source(files, key, text, len, err);
    if (r == 0)
        r = add_required(from, files, key, err);
    if (r < 0)
        return r;
    *ret = json_pack("{s:s, s:I, s:O}", "main", key, "prelude", (json_int_t)scripts->prelude_version, "files", files);
    return 0;
}

int cp_bundle_text(cp_lua_scripts *scripts, const char *name, const char *source, const cp_map *files,
                   json_t **ret_bundle, cp_error *err) {
    for (size_t i = 0; files && i < files->count; i++) {
        const char *path = files->items[i].key;
        size_t end = strlen(path);
        if (path[0] == '/' || end <= 4 || strcmp(path + end - 4, ".lua") != 0)
            return cp_fail_at(err, CP_E_INVALID, "files", "write it like steps.lua, or lib/steps.lua for \"lib.steps\"",
                              "files has '%.80s'", path);
    }
    cp_autofree char *key = NULL;
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, ".lua") == 0)
        key = cp_strdup(name);
    else
        key = cp_printf("%s.lua", len ? name : "strategy");
    return make_bundle(scripts, key, &(shelf){.lua_dir = scripts->lua_dir, .sent = files}, source, strlen(source),
                       ret_bundle, err);
}

static int add_names(const char *folder, cp_strings *names) {
    DIR *dir = opendir(folder);
    if (!dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        size_t len = strlen(entry->d_name);
        if (len <= 4 || strcmp(entry->d_name + len - 4, ".lua") != 0 || entry->d_name[0] == '.')
            continue;
        cp_autofree char *name = cp_strndup(entry->d_name, len - 4);
        bool known = false;
        for (size_t i = 0; i < names->count; i++)
            known = known || strcmp(names->items[i], name) == 0;
        if (!known)
            cp_strings_add(names, name);
    }
    closedir(dir);
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void cp_bundle_names(cp_lua_scripts *scripts, cp_strings *ret) {
    for (size_t i = 0; i < scripts->dirs.count; i++)
        add_names(scripts->dirs.items[i], ret);
    cp_autofree char *own = cp_printf("%s/ctrlplane/strategies", scripts->lua_dir);
    add_names(own, ret);
    if (ret->count)
        qsort(ret->items, ret->count, sizeof *ret->items, by_text);
}

static int bundle_file(cp_lua_scripts *scripts, const char *path, const char *key, json_t **ret, cp_error *err) {
    cp_autofree char *text = NULL;
    size_t len;
    int r = cp_bundle_read(path, &text, &len, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/');
    cp_autofree char *folder = slash ? cp_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : cp_strdup(".");
    return make_bundle(scripts, key, &(shelf){.lua_dir = scripts->lua_dir, .folder = folder}, text, len, ret, err);
}

int cp_bundle_find(cp_lua_scripts *scripts, const char *name, json_t **ret_bundle, cp_error *err) {
    size_t len = strlen(name);
    if (strchr(name, '/') || (len > 4 && strcmp(name + len - 4, ".lua") == 0)) {
        const char *slash = strrchr(name, '/');
        return bundle_file(scripts, name, slash ? slash + 1 : name, ret_bundle, err);
    }
    cp_autofree char *plain = cp_strdup(name);
    for (char *c = plain; *c; c++)
        if (*c == '-')
            *c = '_';
    for (size_t i = 0; i <= scripts->dirs.count && len > 0 && len <= CP_MAX_NAME; i++) {
        bool own = i == scripts->dirs.count;
        cp_autofree char *path = own ? cp_printf("%s/ctrlplane/strategies/%s.lua", scripts->lua_dir, plain)
                                     : cp_printf("%s/%s.lua", scripts->dirs.items[i], plain);
        struct stat info;
        if (stat(path, &info) < 0)
            continue;
        cp_autofree char *key = own ? cp_printf("ctrlplane/strategies/%s.lua", plain) : cp_printf("%s.lua", plain);
        return bundle_file(scripts, path, key, ret_bundle, err);
    }
    cp_strings names = {0};
    cp_bundle_names(scripts, &names);
    const char *near = len <= CP_MAX_NAME ? cp_nearest(plain, (const char *const *)names.items, names.count) : NULL;
    cp_autobuf cp_buf known = {0};
    for (size_t i = 0; i < names.count; i++)
        cp_buf_printf(&known, "%s%s", i ? ", " : "", names.items[i]);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    int r = cp_fail_at(err, CP_E_NOT_FOUND, "strategy", hint,
                       "there is no strategy '%.63s'; there are %s, or give a path to a file", name,
                       known.len ? known.data : "none");
    cp_strings_clear(&names);
    return r;
}
