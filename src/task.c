// SPDX-License-Identifier: MIT
// Files and folders -> a task, and the prompts of its items with examples in front: see task.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/task_internal.h"

enum { PATH_BYTES = 4096 };

const char *task_format_name(enum task_format format)
{
    static const char *const name[TASK_FORMATS] = {"auto", "vkmoe", "mmlu", "arc", "hellaswag",
                                                   "gsm8k", "humaneval", "text"};
    return name[format];
}

enum task_format task_format_from_name(const char *name)
{
    for (int f = 0; f < TASK_FORMATS; f++)
        if (!strcmp(name, task_format_name((enum task_format)f))) return (enum task_format)f;
    return TASK_FORMATS;
}

// ---- files

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), own = strlen(end);
    return length >= own && strcmp(name + length - own, end) == 0;
}

// "high school physics" of DIR/high_school_physics_test.csv
static const char *subject_of(struct arena *arena, const char *path)
{
    static const char *const ends[] = {".csv", "_test", "_dev", "_val"};
    const char *slash = strrchr(path, '/');
    char *name = arena_strdup(arena, slash ? slash + 1 : path);
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (ends_with(name, ends[i])) name[strlen(name) - strlen(ends[i])] = 0;
    for (char *at = name; *at; at++)
        if (*at == '_') *at = ' ';
    return name;
}

static bool read_file(struct task_reader *r, const char *path)
{
    struct file_map map;
    if (!file_map(path, &map)) return false;
    r->name = arena_strdup(r->arena, path);
    r->subject = ends_with(path, ".csv") ? subject_of(r->arena, path) : NULL;
    const bool ok = task_read(r, map.data ? (const char *)map.data : "", map.bytes);
    file_unmap(&map);
    return ok;
}

static bool is_task_file(const char *name)
{
    return ends_with(name, ".csv") || ends_with(name, ".jsonl") || ends_with(name, ".parquet");
}

static bool read_folder(struct task_reader *r, const char *path)
{
    struct folder folder;
    char full[PATH_BYTES];
    uint32_t files = 0;
    bool ok = folder_list(path, &folder);
    if (!ok) return false;
    for (uint32_t i = 0; ok && i < folder.count; i++) {
        if (folder.entry[i].is_folder || !is_task_file(folder.entry[i].name)) continue;
        snprintf(full, sizeof full, "%s/%s", path, folder.entry[i].name);
        ok = read_file(r, full);
        files++;
    }
    folder_free(&folder);
    if (ok && files == 0) {
        log_error("%s: no .csv and no .jsonl in this folder; wanted a task", path);
        return false;
    }
    return ok;
}

static bool read_path(struct task_reader *r, const char *path)
{
    return folder_is(path) ? read_folder(r, path) : read_file(r, path);
}

// PATH/NAME where that is a folder, else PATH.
static const char *part_of(const char *path, const char *name, char *room)
{
    snprintf(room, PATH_BYTES, "%s/%s", path, name);
    return folder_is(path) && folder_is(room) ? room : path;
}

// ---- where examples are

// The last `from` of the path becomes `to`, and it is there.
static bool replaced(const char *path, const char *from, const char *to, char *room)
{
    const char *at = NULL;
    for (const char *next = path; (next = strstr(next, from)); next++) at = next;
    if (!at) return false;
    snprintf(room, PATH_BYTES, "%.*s%s%s", (int)(at - path), path, to, at + strlen(from));
    return file_exists(room);
}

// DIR/dev of a folder; ../dev/X_dev.csv of DIR/test/X_test.csv; else the file whose name says dev
// or train where this one says test or val. NULL: there is none.
static const char *find_dev(const char *path, char *room)
{
    static const char *const name[][2] = {
        {"test", "dev"}, {"test", "train"}, {"Test", "Dev"}, {"Test", "Train"},
        {"validation", "train"}, {"val", "dev"}, {"val", "train"}};
    char once[PATH_BYTES];
    if (folder_is(path)) {
        snprintf(room, PATH_BYTES, "%s/dev", path);
        return folder_is(room) ? room : NULL;
    }
    for (size_t i = 0; i < COUNT_OF(name); i++)
        if (replaced(path, name[i][0], name[i][1], room)) return room;
    for (const char *at = strstr(path, "test/"); at; at = NULL) {
        snprintf(once, sizeof once, "%.*sdev/%s", (int)(at - path), path, at + 5);
        if (replaced(once, "_test", "_dev", room)) return room;
    }
    return NULL;
}

static bool read_dev(struct task_reader *r, const struct task_params *params)
{
    char room[PATH_BYTES];
    const char *path = params->dev ? params->dev : find_dev(params->path, room);
    if (!params->dev && r->dev_count) return true; // the file has its own
    if (!path) {
        log_error("%s: no examples for --shots beside it; name their file with --dev",
                  params->path);
        return false;
    }
    struct task_reader own = {.arena = r->arena, .format = r->format};
    const bool ok = read_path(&own, path);
    for (uint64_t i = 0; i < own.dev_count; i++) task_pattern_destroy(&own.dev[i].pattern);
    free(own.dev);
    for (uint64_t i = 0; i < r->dev_count; i++) task_pattern_destroy(&r->dev[i].pattern);
    free(r->dev);
    r->dev = own.item;
    r->dev_count = own.count;
    return ok;
}

// ---- the task

static void add_text(struct bytes *all, const char *text)
{
    bytes_append(all, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void add_item(struct bytes *all, const struct task_item *item)
{
    bytes_printf(all, "%d %u %u %d %u %u:", (int)item->kind, item->choice_count, item->answer,
                 (int)item->match, item->stop_count, item->max_tokens);
    add_text(all, item->domain);
    add_text(all, item->header);
    add_text(all, item->prompt);
    add_text(all, item->solution);
    add_text(all, item->wanted);
    for (uint32_t i = 0; i < item->choice_count; i++) add_text(all, item->choice[i]);
    for (uint32_t i = 0; i < item->stop_count; i++) add_text(all, item->stop[i]);
}

static uint64_t fingerprint(const struct task *t)
{
    struct bytes all = {0};
    add_text(&all, task_format_name(t->format));
    for (uint64_t i = 0; i < t->count; i++) add_item(&all, &t->item[i]);
    add_text(&all, "dev");
    for (uint64_t i = 0; i < t->dev_count; i++) add_item(&all, &t->dev[i]);
    const uint64_t hash = checksum_xxh64(all.data, all.count);
    bytes_free(&all);
    return hash;
}

static struct task *finish(struct task_reader *r, bool ok, uint64_t limit)
{
    struct task *t = arena_alloc(r->arena, sizeof *t);
    *t = (struct task){.format = r->format, .item = r->item, .dev = r->dev, .count = r->count,
                       .dev_count = r->dev_count, .arena = r->arena};
    if (ok && t->count == 0) {
        log_error("%s: examples alone (\"dev\": true), nothing to score", r->name);
        ok = false;
    }
    if (!ok) {
        task_close(&t);
        return NULL;
    }
    for (; limit && t->count > limit; t->count--)
        task_pattern_destroy(&t->item[t->count - 1].pattern);
    t->fingerprint = fingerprint(t);
    return t;
}

struct task *task_open(const struct task_params *params)
{
    char room[PATH_BYTES];
    struct task_reader r = {.arena = arena_create("task"), .format = params->format};
    const bool ok = read_path(&r, part_of(params->path, "test", room)) &&
                    (params->shots == 0 || read_dev(&r, params));
    return finish(&r, ok, params->limit);
}

struct task *task_parse(const char *name, const char *text, uint64_t bytes,
                        enum task_format format)
{
    struct task_reader r = {.arena = arena_create("task"), .format = format, .name = name};
    return finish(&r, task_read(&r, text, bytes), 0);
}

void task_close(struct task **task)
{
    struct task *t = *task;
    if (!t) return;
    for (uint64_t i = 0; i < t->count; i++) task_pattern_destroy(&t->item[i].pattern);
    for (uint64_t i = 0; i < t->dev_count; i++) task_pattern_destroy(&t->dev[i].pattern);
    free(t->item);
    free(t->dev);
    struct arena *arena = t->arena;
    arena_destroy(&arena);
    *task = NULL;
}

// ---- prompts

static bool is_example(const struct task_item *example, const struct task_item *item)
{
    return example->solution && example->kind == item->kind &&
           (!*item->domain || !strcmp(example->domain, item->domain));
}

// Without a seed the first ones, as the papers do; else drawn without repetition.
static bool add_shots(const struct task *t, const struct task_item *item, uint64_t index,
                      uint32_t shots, uint64_t seed, struct bytes *out)
{
    uint64_t *fit = os_alloc((t->dev_count + 1) * sizeof *fit), count = 0;
    for (uint64_t i = 0; i < t->dev_count; i++)
        if (is_example(&t->dev[i], item)) fit[count++] = i;
    for (uint32_t i = 0; i < shots && i < count; i++) {
        const uint64_t other = seed ? i + rng_below(seed, index, i, count - i) : i;
        const uint64_t own = fit[other];
        fit[other] = fit[i];
        fit[i] = own;
        bytes_printf(out, "%s%s\n\n", t->dev[own].prompt, t->dev[own].solution);
    }
    free(fit);
    if (count >= shots) return true;
    log_error("%s:%llu: --shots %u: found %llu examples of kind %s%s%s", item->file,
              (unsigned long long)item->line, shots, (unsigned long long)count,
              task_kind_name(item->kind), *item->domain ? " in " : "", item->domain);
    return false;
}

bool task_prompt(const struct task *t, uint64_t index, uint32_t shots, uint64_t seed,
                 struct bytes *out)
{
    const struct task_item *item = &t->item[index];
    bytes_printf(out, "%s", item->header);
    if (item->kind != TASK_TEXT && shots && !add_shots(t, item, index, shots, seed, out))
        return false;
    bytes_printf(out, "%s", item->prompt);
    return true;
}
