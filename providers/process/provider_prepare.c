/* providers/process/provider_prepare.c -- Copies and hashes images in helpers, a few at a time, for calls that wait:
 * an image can have gigabytes, and nothing else may wait for it. What is known and unchanged is not read again; calls
 * that want the same share one copy. A folder's own times say nothing of what is in it: it is always looked at anew. */
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELPERS = 2 };

/* $1 source, $2 stage, $3 images. Says the hash once it is known; then makes the stage, unless the image is there.
 * A folder is hashed as an archive of names, kinds, the permission to execute and contents, in order. The copy is
 * hashed again: what changed while it was copied is refused, not kept under a wrong name. */
static const char SCRIPT[] =
    "export LC_ALL=C; umask 022; modes=ug-s,a-t,u=rwX,go=rX\n"
    "refuse() { echo \"$1\" >&2; exit 1; }\n"
    "sum() {\n"
    "  if [ -d \"$1\" ]; then\n"
    "    tar --create --file=- --directory=\"$1\" --format=gnu --sort=name --hard-dereference --mtime=@0 --owner=0"
    " --group=0 --numeric-owner --mode=$modes . | sha256sum\n"
    "  else sha256sum < \"$1\"; fi | cut -c1-64\n"
    "}\n"
    "if [ -d \"$1\" ]; then\n"
    "  odd=$(find \"$1\" ! -type f ! -type d ! -type l -print -quit) || exit 1\n"
    "  [ -z \"$odd\" ] || refuse \"invalid $odd: an image holds files, folders and links only\"\n"
    "  odd=$(find \"$1\" ! -type l ! -readable -print -quit) && [ -z \"$odd\" ] || refuse \"invalid $odd cannot be "
    "read\"\n"
    "  [ $(find \"$1\" -printf . | wc -c) -le 100000 ] || refuse 'too_large it has more than 100000 files'\n"
    "  [ $(du -sb -- \"$1\" | cut -f1) -le 8589934592 ] || refuse 'too_large it has more than 8 GiB'\n"
    "fi\n"
    "sum=$(sum \"$1\"); echo \"$sum\"\n"
    "[ ! -e \"$3/$sum\" ] || exit 0\n"
    "mkdir \"$2\" || exit 1\n"
    "if [ -d \"$1\" ]; then\n"
    "  copy=$2/tree; cp -R -P -T --reflink=auto -- \"$1\" \"$copy\" && chmod -R $modes \"$copy\" || exit 1\n"
    "else copy=$2/file; cp --reflink=auto -- \"$1\" \"$copy\" && chmod 555 \"$copy\" || exit 1; fi\n"
    "[ \"$(sum \"$copy\")\" = \"$sum\" ] || refuse 'conflict it changed while it was copied; try again'\n"
    "find \"$copy\" -type f -exec sync -d {} + || exit 1\n"; /* a release in the store must find it after a power cut */

typedef struct job { /* one image */
    cp_process *process;
    char *path, *stamp, *stage; /* stage: a name below images/ */
    cp_child *child;            /* NULL: it has not begun */
    cp_vec waiters;
} job;

typedef struct prepare { /* what a cp_provider_op of a prepare really is */
    cp_handle handle;    /* first */
    cp_process *process;
    size_t waits;
    cp_strings hashes; /* done for it, and to be kept until all is */
    cp_provider_done *done;
    void *userdata;
} prepare;

typedef struct waiter {
    prepare *op;
    char *field, *image;
} waiter;

static void pump(void *userdata);

static void discard_stage(const job *j) {
    cp_autofree char *path = cp_printf("%s/images/%s", j->process->data_dir, j->stage);
    if (access(path, F_OK) == 0)
        cp_image_discard(j->process, j->stage);
}

static void free_job(job *j) {
    cp_vec_drop(&j->process->jobs, j);
    cp_vec_clear(&j->waiters);
    free(j->path);
    free(j->stamp);
    free(j->stage);
    free(j);
}

static void free_waiter(waiter *w) {
    w->op->waits--;
    free(w->field);
    free(w->image);
    free(w);
}

/* Its waiters leave; what nobody waits for any more is given up. */
static void free_prepare(prepare *op) {
    cp_process *process = op->process;
    for (size_t i = process->jobs.count; i-- > 0;) {
        job *j = process->jobs.items[i];
        bool mine = false;
        for (size_t k = j->waiters.count; k-- > 0;) {
            waiter *w = j->waiters.items[k];
            if (w->op != op)
                continue;
            mine = true;
            cp_vec_remove(&j->waiters, k);
            free_waiter(w);
        }
        if (!mine || j->waiters.count)
            continue;
        if (j->child) {
            cp_child_abandon(j->child, true);
            cp_loop_defer(process->base.loop, pump, process);
        }
        free_job(j); /* its stage is nobody's now: it goes with the images that nobody needs */
    }
    cp_vec_drop(&process->prepares, op);
    cp_strings_clear(&op->hashes);
    free(op);
}

void cp_prepare_cancel(cp_provider_op *op) {
    free_prepare((prepare *)(void *)op);
}

void cp_prepare_drop_all(cp_process *process) {
    while (process->prepares.count)
        free_prepare(process->prepares.items[process->prepares.count - 1]);
    cp_loop_forget(process->base.loop, process);
    cp_vec_clear(&process->prepares);
    cp_vec_clear(&process->jobs);
}

void cp_prepare_keep(const cp_process *process, cp_table *kept) {
    for (size_t i = 0; i < process->jobs.count; i++)
        cp_table_set(kept, ((job *)process->jobs.items[i])->stage, kept);
    for (size_t i = 0; i < process->prepares.count; i++) {
        const cp_strings *hashes = &((prepare *)process->prepares.items[i])->hashes;
        for (size_t k = 0; k < hashes->count; k++)
            cp_table_set(kept, hashes->items[k], kept);
    }
}

static void finish(prepare *op, const cp_error *err) {
    cp_provider_done *done = op->done;
    void *userdata = op->userdata;
    for (size_t i = 0; i < op->hashes.count; i++)
        cp_image_touch(op->process, op->hashes.items[i]);
    free_prepare(op);
    done(userdata, err);
}

/* code 0: done, and `text` is the hash; else what is wrong. */
static void end_job(job *j, int code, const char *text) {
    cp_process *process = j->process;
    cp_vec_drop(&process->jobs, j);
    if (code == 0)
        cp_image_learn(process, j->path, j->stamp, text);
    while (j->waiters.count) {
        waiter *w = j->waiters.items[j->waiters.count - 1];
        cp_vec_remove(&j->waiters, j->waiters.count - 1);
        prepare *op = w->op;
        cp_autoerror cp_error problem = {0};
        if (code)
            cp_fail_at(&problem, code, w->field, NULL, "%s is '%s'; %.*s", w->field, w->image, (int)strcspn(text, "\n"),
                       text);
        else
            cp_strings_add(&op->hashes, text);
        free_waiter(w);
        for (size_t k = j->waiters.count; code && k-- > 0;) { /* it hears of one failure only */
            w = j->waiters.items[k];
            if (w->op == op) {
                cp_vec_remove(&j->waiters, k);
                free_waiter(w);
            }
        }
        if (code || !op->waits)
            finish(op, code ? &problem : NULL);
    }
    free_job(j);
    pump(process);
}

static int code_of(const char **text, bool copying) {
    static const struct {
        const char *word;
        int code;
    } words[] = {{"invalid ", CP_E_INVALID}, {"too_large ", CP_E_TOO_LARGE}, {"conflict ", CP_E_CONFLICT}};
    for (size_t i = 0; i < CP_COUNT(words); i++) {
        size_t n = strlen(words[i].word);
        if (strncmp(*text, words[i].word, n) == 0) {
            *text += n;
            return words[i].code;
        }
    }
    return cp_fs_passes(*text) ? CP_E_PROVIDER_UNAVAILABLE : copying ? CP_E_PROVIDER_FAILED : CP_E_INVALID;
}

/* The stage becomes the image here, in the loop, as images are removed in it: neither meets the other half way. */
static void on_job(void *userdata, const cp_child_result *result) {
    job *j = userdata;
    cp_process *process = j->process;
    cp_autofree char *hash = cp_strndup(result->output, strcspn(result->output, "\n"));
    const char *text = result->result;
    j->child = NULL;
    bool hashed = cp_image_is_hash(hash), failed = *text || !hashed || (result->status != 0 && result->status != -1);
    if (failed) {
        discard_stage(j);
        int code = code_of(&text, hashed);
        end_job(j, code, *text ? text : "the helper that copies it ended without a word");
        return;
    }
    cp_autofree char *stage = cp_printf("%s/images/%s", process->data_dir, j->stage);
    cp_autofree char *final = cp_printf("%s/images/%s", process->data_dir, hash);
    bool there = cp_image_stored(process, hash);
    if (!there && rename(stage, final) < 0) {
        if (errno == ENOENT) { /* it was there when the helper looked, and was removed since: again */
            cp_loop_defer(process->base.loop, pump, process);
            return;
        }
        cp_autoerror cp_error problem = {0};
        int code = cp_fs_fail(&problem, CP_E_PROVIDER_FAILED, "cannot keep", final);
        discard_stage(j);
        end_job(j, code, problem.message);
        return;
    }
    if (there)
        discard_stage(j);
    end_job(j, 0, hash);
}

/* Begins what waits, while there is room. */
static void pump(void *userdata) {
    cp_process *process = userdata;
    size_t running = 0;
    for (size_t i = 0; i < process->jobs.count; i++)
        running += ((job *)process->jobs.items[i])->child != NULL;
    for (size_t i = 0; i < process->jobs.count && running < HELPERS; i++) {
        job *j = process->jobs.items[i];
        if (j->child)
            continue;
        cp_autofree char *images = cp_printf("%s/images", process->data_dir);
        cp_autofree char *stage = cp_printf("%s/%s", images, j->stage);
        const char *argv[] = {"sh", "-c", SCRIPT, "sh", j->path, stage, images, NULL};
        cp_autoerror cp_error problem = {0};
        int r = cp_child_start(process, argv, true, on_job, j, &j->child, &problem);
        if (r < 0) {
            end_job(j, r, problem.message); /* pumps what is left */
            return;
        }
        running++;
    }
}

static job *job_for(cp_process *process, const cp_image_source *source) {
    for (size_t i = 0; i < process->jobs.count; i++) {
        job *j = process->jobs.items[i];
        bool fresh = !source->folder || !j->child; /* else what is in it may have been read already */
        if (fresh && cp_streq(j->path, source->path) && cp_streq(j->stamp, source->stamp))
            return j;
    }
    job *j = cp_new0(job);
    *j = (job){.process = process, .path = cp_strdup(source->path), .stamp = cp_strdup(source->stamp)};
    j->stage = cp_printf("new-%016" PRIx64, cp_loop_random(process->base.loop));
    cp_vec_push(&process->jobs, j);
    return j;
}

int cp_process_prepare(cp_provider *provider, const cp_list *services, cp_provider_done *done, void *userdata,
                       cp_provider_op **ret, cp_error *err) {
    cp_process *process = (cp_process *)provider;
    prepare *op = cp_new0(prepare);
    *op = (prepare){.handle = CP_HANDLE_PREPARE, .process = process, .done = done, .userdata = userdata};
    cp_vec_push(&process->prepares, op);
    int r = 0;
    for (size_t i = 0; i < services->count && r == 0; i++) {
        const cp_service *service = CP_LIST_AT(services, cp_service, i);
        cp_image_source source;
        r = cp_image_source_of(process, service, i, &source, err);
        const char *known =
            r == 0 && source.path && !source.folder ? cp_image_known(process, source.path, source.stamp) : NULL;
        if (known) {
            cp_image_touch(process, known);
            cp_strings_add(&op->hashes, known);
        } else if (r == 0 && source.path) {
            waiter *w = cp_new0(waiter);
            *w = (waiter){.op = op, .field = cp_take(source.field), .image = cp_strdup(service->image)};
            cp_vec_push(&job_for(process, &source)->waiters, w);
            op->waits++;
        }
        cp_image_source_clear(&source);
    }
    if (r < 0 || !op->waits) {
        free_prepare(op);
        *ret = r < 0 ? *ret : NULL;
        return r;
    }
    cp_loop_defer(provider->loop, pump, process);
    *ret = (cp_provider_op *)(void *)op;
    return 0;
}
