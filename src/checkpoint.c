// SPDX-License-Identifier: MIT
// The order of steps that keeps a run folder good: all is written and synced under a name that
// nobody reads, then one rename makes it the newest, then its weights get their second name, and
// only then the older ones go.
#include "src/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "runtime/os.h"

#define UNFINISHED "checkpoint.tmp"
#define MODEL "model.safetensors"
#define AVERAGE "average.safetensors"
// behind the name of a checkpoint that is being replaced by one of the same step
static const char replaced[] = ".old";

struct checkpoint {
    char               *dir;
    struct folder_lock *lock;
    struct bytes        path; // the last one handed out
    uint64_t            step;
    uint32_t            keep; // 0: all
    bool                begun;
    bool                made; // the folder, by this process
};

// ---- names

static const char *path_of(struct checkpoint *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const char *path_of(struct checkpoint *c, const char *format, ...)
{
    char    name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    c->path.count = 0;
    bytes_printf(&c->path, "%s/%s", c->dir, name);
    return (const char *)c->path.data;
}

static void checkpoint_name(uint64_t step, const char *suffix, char out[64])
{
    snprintf(out, 64, "checkpoint-%08llu%s", (unsigned long long)step, suffix);
}

// "checkpoint-00000120" or, with *old, "checkpoint-00000120.old"
static bool parse_name(const char *name, uint64_t *step, bool *old)
{
    static const char begin[] = "checkpoint-";
    char again[64];
    if (strncmp(name, begin, sizeof begin - 1) != 0) return false;
    *step = strtoull(name + sizeof begin - 1, NULL, 10);
    *old = false;
    checkpoint_name(*step, "", again);
    if (strcmp(name, again) == 0) return true;
    *old = true;
    checkpoint_name(*step, replaced, again);
    return strcmp(name, again) == 0;
}

static bool is_newest(const struct folder *folder, uint64_t *step, bool *old)
{
    bool found = false;
    for (uint32_t i = 0; i < folder->count; i++) {
        uint64_t s;
        bool o;
        if (!folder->entry[i].is_folder || !parse_name(folder->entry[i].name, &s, &o)) continue;
        if (found && (s < *step || (s == *step && o))) continue;
        *step = s, *old = o;
        found = true;
    }
    return found;
}

bool checkpoint_find(const char *dir, struct checkpoint_found *out)
{
    struct folder folder;
    char name[64];
    bool old;
    if (!folder_is(dir) || !folder_list(dir, &folder)) return false;
    const bool found = is_newest(&folder, &out->step, &old);
    folder_free(&folder);
    if (!found) return false;
    checkpoint_name(out->step, old ? replaced : "", name);
    const int length = snprintf(out->path, sizeof out->path, "%s/%s", dir, name);
    return length > 0 && (size_t)length < sizeof out->path;
}

bool checkpoint_is_model(const char *weights)
{
    return !weights || strcmp(weights, "model") == 0;
}

char *checkpoint_weights(const char *dir, const char *weights)
{
    struct checkpoint_found found;
    if (checkpoint_is_model(weights)) return os_strdup(dir);
    if (strcmp(weights, "average") != 0) {
        log_error("weights: found \"%s\", wanted \"model\" or \"average\"", weights);
        return NULL;
    }
    struct bytes path = {0};
    bytes_printf(&path, "%s/" AVERAGE, checkpoint_find(dir, &found) ? found.path : dir);
    if (file_exists((const char *)path.data)) return (char *)path.data;
    log_error("%s: there is none; training keeps a mean of the weights with ema_decay or "
              "swa_every, from average_start on", (const char *)path.data);
    bytes_free(&path);
    return NULL;
}

static int by_step(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint32_t checkpoint_list(const char *dir, uint64_t *step, uint32_t capacity)
{
    struct folder folder;
    uint32_t count = 0;
    if (!folder_is(dir) || !folder_list(dir, &folder)) return 0;
    for (uint32_t i = 0; i < folder.count && count < capacity; i++) {
        bool old;
        count += folder.entry[i].is_folder &&
                 parse_name(folder.entry[i].name, &step[count], &old) && !old;
    }
    folder_free(&folder);
    qsort(step, count, sizeof *step, by_step);
    return count;
}

// ---- cleaning

// Renamed first: a folder half removed must not pass for a checkpoint.
static bool remove_checkpoint(struct checkpoint *c, const char *name)
{
    char *from = os_strdup(path_of(c, "%s", name));
    const char *to = path_of(c, UNFINISHED);
    const bool ok = file_rename(from, to) && folder_remove(to);
    free(from);
    return ok;
}

static uint32_t newer_than(const struct folder *folder, uint64_t step)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < folder->count; i++) {
        uint64_t s;
        bool old;
        count += folder->entry[i].is_folder && parse_name(folder->entry[i].name, &s, &old) &&
                 !old && s > step;
    }
    return count;
}

// But for the newest, as many as are kept.
static bool remove_others(struct checkpoint *c)
{
    struct folder folder;
    if (!folder_list(c->dir, &folder)) return false;
    bool ok = true;
    for (uint32_t i = 0; i < folder.count; i++) {
        uint64_t s;
        bool old;
        if (folder.entry[i].is_folder && parse_name(folder.entry[i].name, &s, &old) &&
            (old || (c->keep && newer_than(&folder, s) >= c->keep)))
            ok &= remove_checkpoint(c, folder.entry[i].name);
    }
    folder_free(&folder);
    return ok;
}

// What file_writer left when its process was killed: NAME.tmp-PID of the run's own files.
static bool is_left_over(const char *name)
{
    static const char *const files[] = {MODEL, "config.json", "tokenizer.json", "metrics.jsonl",
                                        "kernels.json", "data.json", "routing.trace",
                                        "residency.trace", "plan.json"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        const size_t length = strlen(files[i]);
        if (strncmp(name, files[i], length) == 0 && strncmp(name + length, ".tmp-", 5) == 0)
            return true;
    }
    return false;
}

static bool link_model(struct checkpoint *c, uint64_t step)
{
    char name[64], target[96];
    checkpoint_name(step, "", name);
    snprintf(target, sizeof target, "%s/" MODEL, name);
    return !file_exists(path_of(c, "%s", target)) || folder_link(c->dir, target, MODEL);
}

static bool clean_files(struct checkpoint *c)
{
    struct folder folder;
    if (!folder_list(c->dir, &folder)) return false;
    bool ok = true;
    for (uint32_t i = 0; i < folder.count; i++)
        if (!folder.entry[i].is_folder && is_left_over(folder.entry[i].name))
            ok &= file_remove(path_of(c, "%s", folder.entry[i].name));
    folder_free(&folder);
    return ok;
}

// Brings a folder that a crash left to where the commit would have brought it.
static bool recover(struct checkpoint *c)
{
    struct folder folder;
    uint64_t step;
    bool old;
    char name[64], old_name[64];
    if (!folder_remove(path_of(c, UNFINISHED)) || !clean_files(c) || !folder_list(c->dir, &folder))
        return false;
    const bool found = is_newest(&folder, &step, &old);
    folder_free(&folder);
    if (!found) return true;
    if (old) {
        checkpoint_name(step, "", name);
        checkpoint_name(step, replaced, old_name);
        char *from = os_strdup(path_of(c, "%s", old_name));
        const bool renamed = file_rename(from, path_of(c, "%s", name));
        free(from);
        if (!renamed) return false;
    }
    return link_model(c, step) && remove_others(c);
}

// ---- the object

struct checkpoint *checkpoint_open(const char *dir) { return checkpoint_open_keeping(dir, 1); }

struct checkpoint *checkpoint_open_keeping(const char *dir, uint32_t keep)
{
    struct checkpoint *c = os_alloc(sizeof *c);
    c->keep = keep;
    c->dir = os_strdup(dir);
    c->made = !folder_is(dir);
    if (!file_make_folders(dir) || !(c->lock = folder_lock(dir)) || !recover(c))
        checkpoint_close(&c);
    return c;
}

// Nothing but the lock is in it: a run that could not begin leaves no folder.
static bool is_unused(const struct checkpoint *c)
{
    struct folder folder;
    bool unused = true;
    if (!folder_list(c->dir, &folder)) return false;
    for (uint32_t i = 0; i < folder.count; i++)
        unused &= strcmp(folder.entry[i].name, ".lock") == 0;
    folder_free(&folder);
    return unused;
}

void checkpoint_close(struct checkpoint **checkpoint)
{
    struct checkpoint *c = *checkpoint;
    if (!c) return;
    checkpoint_abort(c);
    if (c->made && c->lock && is_unused(c)) folder_give_up(&c->lock, c->dir);
    folder_unlock(&c->lock);
    bytes_free(&c->path);
    free(c->dir);
    free(c);
    *checkpoint = NULL;
}

bool checkpoint_begin(struct checkpoint *c, uint64_t step)
{
    struct checkpoint_found found;
    if (checkpoint_find(c->dir, &found) && found.step > step) {
        log_error("%s: holds a checkpoint of step %llu, newer than step %llu; resume that run or "
                  "choose another folder",
                  c->dir, (unsigned long long)found.step, (unsigned long long)step);
        return false;
    }
    c->begun = folder_remove(path_of(c, UNFINISHED)) && folder_make(path_of(c, UNFINISHED));
    c->step = step;
    return c->begun;
}

const char *checkpoint_path(struct checkpoint *c, const char *name)
{
    return path_of(c, UNFINISHED "/%s", name);
}

const char *checkpoint_run_path(struct checkpoint *c, const char *name)
{
    return path_of(c, "%s", name);
}

static bool write_text(const char *path, const char *text)
{
    struct file_writer *writer = file_writer_open(path);
    if (writer && file_writer_write(writer, text, strlen(text))) return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}

bool checkpoint_write(struct checkpoint *c, const char *name, const char *text)
{
    return write_text(checkpoint_path(c, name), text);
}

bool checkpoint_run_write(struct checkpoint *c, const char *name, const char *text)
{
    return write_text(path_of(c, "%s", name), text);
}

bool checkpoint_run_copy(struct checkpoint *c, const char *from, const char *name)
{
    return file_copy(from, path_of(c, "%s", name));
}

// The unfinished folder gets the checkpoint's name. One of the same step (Ctrl-C right behind a
// regular save) steps aside first.
static bool publish(struct checkpoint *c)
{
    char name[64], old_name[64];
    checkpoint_name(c->step, "", name);
    checkpoint_name(c->step, replaced, old_name);
    char *to = os_strdup(path_of(c, "%s", name)), *aside = os_strdup(path_of(c, "%s", old_name));
    const bool twice = folder_is(to);
    bool ok = !twice || file_rename(to, aside);
    if (ok && !file_rename(path_of(c, UNFINISHED), to)) {
        if (twice && !folder_is(to)) file_rename(aside, to);
        ok = false;
    }
    free(to), free(aside);
    return ok;
}

bool checkpoint_commit(struct checkpoint *c)
{
    if (!c->begun) return false;
    if (!folder_sync(path_of(c, UNFINISHED)) || !publish(c)) {
        checkpoint_abort(c);
        return false;
    }
    c->begun = false;
    return link_model(c, c->step) && remove_others(c);
}

void checkpoint_abort(struct checkpoint *c)
{
    if (!c || !c->begun) return;
    c->begun = false;
    folder_remove(path_of(c, UNFINISHED)); // if it cannot be now, the next open does it
}
