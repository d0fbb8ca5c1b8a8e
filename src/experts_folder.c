// SPDX-License-Identifier: MIT
// Folders of pack and unpack: see experts_folder.h.
#include "src/experts_folder.h"

#include <stdio.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "src/codes.h"
#include "src/experts_pack.h"

static const char *folder_of(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? arena_printf(arena, "%.*s", (int)(slash - path), path) : ".";
}

static void find_checkpoint(struct folder_source *s)
{
    struct checkpoint_found found;
    s->has_checkpoint = s->is_folder && checkpoint_find(s->folder, &found);
    if (!s->has_checkpoint) return;
    s->checkpoint = arena_strdup(s->arena, found.path);
    s->weights = s->checkpoint;
    s->step = found.step;
    s->has_store = file_exists(arena_printf(s->arena, "%s/" EXPERTS_MANIFEST, s->checkpoint));
    s->has_average =
        file_exists(arena_printf(s->arena, "%s/average.safetensors", s->checkpoint));
}

bool folder_source_open(struct folder_source *s, const char *path)
{
    *s = (struct folder_source){.arena = arena_create("source")};
    if (!file_exists(path)) {
        log_error("%s: no such file or folder", path);
        return false;
    }
    s->is_folder = folder_is(path);
    s->weights = arena_strdup(s->arena, path);
    s->folder = s->is_folder ? s->weights : folder_of(s->arena, path);
    s->checkpoint = s->folder;
    find_checkpoint(s);
    return config_read(&s->config, arena_printf(s->arena, "%s/config.json", s->folder), NULL, 0);
}

void folder_source_close(struct folder_source *s)
{
    if (s->arena) arena_destroy(&s->arena);
    *s = (struct folder_source){0};
}

bool folder_copy_run(const struct folder_source *s, struct checkpoint *to, struct arena *arena)
{
    static const char *const names[] = {"tokenizer.json", "kernels.json", "data.json",
                                        "metrics.jsonl", "routing.trace"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *path = arena_printf(arena, "%s/%s", s->folder, names[i]);
        if (file_exists(path) && !checkpoint_run_copy(to, path, names[i])) return false;
    }
    return true;
}

bool folder_copy_state(const struct folder_source *s, struct checkpoint *to, struct arena *arena)
{
    const char *path = arena_printf(arena, "%s/state.json", s->checkpoint);
    return s->has_checkpoint && file_exists(path) &&
           file_copy(path, checkpoint_path(to, "state.json"));
}

const struct safetensors_metadata *folder_metadata(const struct weights_reader *reader,
                                                   uint32_t *count)
{
    const struct safetensors *file = reader->files.count ? reader->files.file[0] : NULL;
    const uint32_t skip = file && file->metadata_count &&
                          strcmp(file->metadata[0].key, "format") == 0;
    *count = file ? file->metadata_count - skip : 0;
    return file ? file->metadata + skip : NULL;
}

static bool has_m(const void *user, const struct model_tensor *tensor)
{
    return model_has_m(user, tensor);
}

static bool has_v(const void *user, const struct model_tensor *tensor)
{
    return model_has_v(user, tensor);
}

void optimizer_parts(const struct model *model, struct weights_part part[2])
{
    void *user = (void *)(uintptr_t)model;
    part[0] = (struct weights_part){.prefix = "m.", .user = user, .has = has_m};
    part[1] = (struct weights_part){.prefix = "v.", .user = user, .has = has_v};
}

static bool get_codes(const struct weights_words *words, uint64_t begin, uint64_t count,
                      uint32_t *values)
{
    return weights_reader_words(words->user, words->name, begin, count, values);
}

static void add_steps(const struct model *model, struct arena *arena,
                      struct weights_words *words, uint32_t *count)
{
    const struct config *c = &model->config;
    bool wanted = false;
    for (uint32_t g = 0; g < model->group_count; g++) wanted |= model->group[g].by_expert;
    for (uint32_t layer = 0; wanted && layer < c->num_hidden_layers; layer++) {
        if (!c->moe_layer[layer]) continue;
        words[(*count)++] = (struct weights_words){
            .name = arena_printf(arena, "steps.model.layers.%u.experts", layer),
            .values = arena_array(arena, c->num_experts, sizeof(uint32_t)),
            .count = c->num_experts};
    }
}

// One entry a matrix, as optimizer_state.c has them.
static void add_codes(const struct model *model, struct weights_reader *from, bool experts,
                      struct arena *arena, struct weights_words *words, uint32_t *count)
{
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensor[i];
        const uint32_t parts = max_u32(tensor->experts, 1);
        const uint64_t records = model_records(model, tensor);
        for (uint32_t e = 0; records && (experts || !tensor->experts) && e < parts; e++) {
            char name[sizeof tensor->name + 16];
            model_tensor_name(tensor, e, name, sizeof name);
            words[(*count)++] =
                (struct weights_words){.name = arena_printf(arena, "codes.%s", name),
                                       .count = CODES_WORDS * records / parts,
                                       .get = get_codes,
                                       .user = from,
                                       .of = tensor,
                                       .index = e};
        }
    }
}

struct weights_words *optimizer_words(const struct model *model, struct weights_reader *from,
                                      bool experts, struct arena *arena, uint32_t *steps_count,
                                      uint32_t *count)
{
    uint64_t most = config_moe_layers(&model->config);
    for (uint32_t i = 0; i < model->tensor_count; i++)
        most += experts ? max_u32(model->tensor[i].experts, 1) : 1;
    struct weights_words *words = arena_array(arena, most, sizeof *words);
    *count = 0;
    if (experts) add_steps(model, arena, words, count);
    *steps_count = *count;
    add_codes(model, from, experts, arena, words, count);
    return words;
}

bool experts_in_store(const char *checkpoint)
{
    char path[4200];
    const int length = snprintf(path, sizeof path, "%s/" EXPERTS_MANIFEST, checkpoint);
    return length > 0 && (size_t)length < sizeof path && file_exists(path);
}

const char **experts_manifests(const char *dir, struct arena *arena, uint32_t *count)
{
    uint32_t capacity = 64, all;
    uint64_t *step;
    do { // a list that is full may lack some
        capacity *= 2;
        step = arena_array(arena, capacity, sizeof *step);
        all = checkpoint_list(dir, step, capacity);
    } while (all == capacity);
    const char **manifest = arena_array(arena, (size_t)all + 1, sizeof *manifest);
    *count = 0;
    for (uint32_t i = 0; i < all; i++) {
        const char *path =
            arena_printf(arena, "%s/checkpoint-%08llu/" EXPERTS_MANIFEST, dir,
                         (unsigned long long)step[i]);
        if (file_exists(path)) manifest[(*count)++] = path;
    }
    return manifest;
}

bool experts_find_manifest(const char *dir, char *path, size_t bytes, uint64_t *step)
{
    struct checkpoint_found found;
    if (!checkpoint_find(dir, &found)) return false;
    *step = found.step;
    const int length = snprintf(path, bytes, "%s/" EXPERTS_MANIFEST, found.path);
    return length > 0 && (size_t)length < bytes && file_exists(path);
}
