/* providers/process/provider_retain.c -- Removes images that nobody needs: no release, no instance, no call under way.
 * One at a time: out of the way in the loop, where images are also put in their place, then off the disk by a helper.
 * Must not know why a release was kept. */
#include "process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRESH = 60 * 1000 }; /* ms: who asked for an image has recorded his release by then */

static void remove_next(void *userdata);

void cp_image_touch(cp_process *process, const char *hash) {
    int64_t *at = cp_table_get(process->touched, hash);
    if (!at)
        cp_table_set(process->touched, hash, at = cp_new0(int64_t));
    *at = cp_loop_mono(process->base.loop);
    for (size_t i = process->doomed.count; i-- > 0;)
        if (strcmp(process->doomed.items[i], hash) == 0) {
            free(process->doomed.items[i]);
            cp_vec_remove(&process->doomed, i);
        }
}

static void forget_doomed(cp_process *process) {
    for (size_t i = 0; i < process->doomed.count; i++)
        free(process->doomed.items[i]);
    cp_vec_clear(&process->doomed);
}

static void on_removed(void *userdata, const cp_child_result *result) {
    (void)result; /* what is left is found the next time */
    cp_process *process = userdata;
    process->removing = false;
    remove_next(process);
}

static void remove_next(void *userdata) {
    cp_process *process = userdata;
    if (process->removing || !process->doomed.count)
        return;
    cp_autofree char *name = process->doomed.items[--process->doomed.count];
    cp_autofree char *path = cp_printf("%s/images/%s", process->data_dir, name);
    if (cp_image_is_hash(name)) { /* by halves it is no image */
        cp_autofree char *aside =
            cp_printf("%s/images/old-%016" PRIx64, process->data_dir, cp_loop_random(process->base.loop));
        if (rename(path, aside) == 0) {
            free(path);
            path = cp_take(aside);
        }
    }
    const char *argv[] = {"rm", "-rf", "--", path, NULL};
    cp_child *child;
    process->removing = cp_child_start(process, argv, false, on_removed, process, &child, NULL) == 0;
    if (!process->removing)
        forget_doomed(process); /* a host without room: the next minute */
}

void cp_image_discard(cp_process *process, const char *name) {
    cp_vec_push(&process->doomed, cp_strdup(name));
    cp_loop_defer(process->base.loop, remove_next, process);
}

static void keep(cp_table *kept, const char *image) {
    const char *hash = cp_image_hash(image);
    if (hash)
        cp_table_set(kept, hash, kept);
}

static void keep_touched(cp_process *process, cp_table *kept) {
    int64_t now = cp_loop_mono(process->base.loop);
    const char *hash;
    void *at;
    for (size_t cursor = 0; cp_table_next(process->touched, &cursor, &hash, &at);) {
        if (now - *(int64_t *)at < FRESH) {
            cp_table_set(kept, hash, kept);
        } else {
            free(at);
            cp_table_set(process->touched, hash, NULL);
        }
    }
}

void cp_process_retain(cp_provider *provider, const cp_strings *images) {
    cp_process *process = (cp_process *)provider;
    if (process->shared || process->doomed.count || process->removing)
        return; /* who shares our folder has releases that we do not know; what is under way comes first */
    cp_table *kept = cp_table_new();
    for (size_t i = 0; i < images->count; i++)
        keep(kept, images->items[i]);
    void *item;
    for (size_t cursor = 0; cp_table_next(process->instances, &cursor, NULL, &item);) {
        const cp_list *services = &((cp_proc *)item)->record.services;
        for (size_t i = 0; i < services->count; i++)
            keep(kept, CP_LIST_AT(services, cp_service, i)->image);
    }
    cp_prepare_keep(process, kept);
    keep_touched(process, kept);
    cp_autofree char *path = cp_printf("%s/images", process->data_dir);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        bool ours = cp_image_is_hash(e->d_name) || strncmp(e->d_name, "new-", 4) == 0 ||
                    strncmp(e->d_name, "old-", 4) == 0; /* the latter: begun and not ended */
        if (ours && !cp_table_get(kept, e->d_name))
            cp_vec_push(&process->doomed, cp_strdup(e->d_name));
    }
    if (dir)
        closedir(dir);
    cp_table_free(kept);
    if (process->doomed.count)
        cp_loop_defer(provider->loop, remove_next, process);
}

void cp_retain_drop(cp_process *process) {
    cp_loop_forget(process->base.loop, process);
    forget_doomed(process);
    void *at;
    for (size_t cursor = 0; process->touched && cp_table_next(process->touched, &cursor, NULL, &at);)
        free(at);
    cp_table_free(process->touched);
    process->touched = NULL;
}
