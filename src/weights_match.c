// SPDX-License-Identifier: MIT
// Opens the files of a checkpoint and matches their tensors with the model's table by name and
// shape: every tensor of the model is found, and none of the files is left over.
#include "src/weights_match.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/log.h"

#define WRONG_CONFIG "wrong checkpoint for this config?"
enum { NAME_BYTES = 160, MOST_INDEX_BYTES = 256 << 20, MOST_SHARDS = 100000 };

// ---- files

static bool open_one(struct weights_files *files, const char *path)
{
    files->file = arena_array(files->arena, 1, sizeof *files->file);
    files->file[0] = safetensors_open(path);
    files->count = files->file[0] != NULL;
    return files->count == 1;
}

static const struct safetensors_tensor *find(const struct weights_files *files, const char *name,
                                             const struct safetensors **file)
{
    for (uint32_t i = 0; i < files->count; i++) {
        const struct safetensors_tensor *tensor = safetensors_find(files->file[i], name);
        if (tensor) {
            *file = files->file[i];
            return tensor;
        }
    }
    return NULL;
}

// Shards lie beside their index: a name that leads elsewhere is not followed.
static bool open_shard(struct weights_files *files, const char *index, const cJSON *item)
{
    const char *name = cJSON_GetStringValue(item), *slash = strrchr(index, '/');
    if (!name || !*name || strchr(name, '/') || name[0] == '.') {
        log_error("%s: tensor %.200s: its shard's name is not a plain file name", index,
                  item->string);
        return false;
    }
    char *path =
        arena_printf(files->arena, "%.*s%s", slash ? (int)(slash - index) + 1 : 0, index, name);
    for (uint32_t i = files->count; i-- > 0;) // neighbours share a shard
        if (strcmp(files->file[i]->name, path) == 0) return true;
    if (files->count == MOST_SHARDS) {
        log_error("%s: more than %d shards", index, MOST_SHARDS);
        return false;
    }
    if ((files->count & (files->count - 1)) == 0) { // full at each power of two
        struct safetensors **more =
            arena_array(files->arena, files->count ? 2 * (size_t)files->count : 1, sizeof *more);
        if (files->count) memcpy(more, files->file, files->count * sizeof *more);
        files->file = more;
    }
    files->file[files->count] = safetensors_open(path);
    return files->file[files->count] && ++files->count;
}

static bool check_twice(const struct weights_files *files)
{
    for (uint32_t i = 1; i < files->count; i++)
        for (uint32_t t = 0; t < files->file[i]->count; t++) {
            const struct safetensors *first = NULL;
            find(files, files->file[i]->tensor[t].name, &first);
            if (first != files->file[i]) {
                log_error("%s: tensor %.200s: is in %s too", files->file[i]->name,
                          files->file[i]->tensor[t].name, first->name);
                return false;
            }
        }
    return true;
}

static bool open_shards(struct weights_files *files, const char *index, const cJSON *map)
{
    if (!cJSON_IsObject(map) || !map->child) {
        log_error("%s: no object \"weight_map\" that names the shard of each tensor", index);
        return false;
    }
    for (const cJSON *item = map->child; item; item = item->next)
        if (!open_shard(files, index, item)) return false;
    for (const cJSON *item = map->child; item; item = item->next) {
        const struct safetensors *file = NULL;
        if (find(files, item->string, &file)) continue;
        log_error("%s: tensor %.200s: %s does not hold it", index, item->string, item->valuestring);
        return false;
    }
    return check_twice(files);
}

static bool open_index(struct weights_files *files, const char *index)
{
    void *text;
    uint64_t bytes;
    if (!file_read(index, MOST_INDEX_BYTES, &text, &bytes)) return false;
    cJSON *object = cJSON_Parse(text);
    free(text);
    if (!object) log_error("%s: not valid JSON", index);
    const bool ok =
        object && open_shards(files, index, cJSON_GetObjectItemCaseSensitive(object, "weight_map"));
    cJSON_Delete(object);
    return ok;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool open_path(struct weights_files *files, const char *path)
{
    if (ends_with(path, ".json")) return open_index(files, path);
    if (!folder_is(path)) return open_one(files, path);
    const char *file = arena_printf(files->arena, "%s/model.safetensors", path);
    const char *index = arena_printf(files->arena, "%s.index.json", file);
    if (file_exists(file)) return open_one(files, file);
    if (file_exists(index)) return open_index(files, index);
    log_error("%s: holds neither model.safetensors nor model.safetensors.index.json", path);
    return false;
}

bool weights_files_open(struct weights_files *files, const char *path)
{
    *files = (struct weights_files){.arena = arena_create("weights")};
    files->name = arena_strdup(files->arena, path);
    if (open_path(files, files->name)) return true;
    weights_files_close(files);
    return false;
}

void weights_files_close(struct weights_files *files)
{
    for (uint32_t i = 0; i < files->count; i++) safetensors_close(&files->file[i]);
    if (files->arena) arena_destroy(&files->arena);
    *files = (struct weights_files){0};
}

// ---- matching

struct matcher {
    const struct model    *model;
    struct weights_files  *files;
    const char            *prefix;
    uint32_t               part;
    struct weights_pieces *out;
    bool                 **used;      // [file][tensor]
    uint64_t               missing;
    char                   first_missing[NAME_BYTES];
};

static bool take(struct matcher *m, const char *name, const struct safetensors **file,
                 const struct safetensors_tensor **source)
{
    *source = find(m->files, name, file);
    if (!*source) return false;
    for (uint32_t i = 0; i < m->files->count; i++)
        if (m->files->file[i] == *file) m->used[i][*source - (*file)->tensor] = true;
    return true;
}

static bool same_shape(const struct safetensors_tensor *source, const uint64_t *shape,
                       uint32_t rank)
{
    return source->rank == rank && memcmp(source->shape, shape, rank * sizeof *shape) == 0;
}

static bool check_source(const struct safetensors *file, const struct safetensors_tensor *source,
                         const uint64_t *shape, uint32_t rank)
{
    if (!same_shape(source, shape, rank)) {
        char found[200], wanted[200];
        safetensors_shape(source->shape, source->rank, found, sizeof found);
        safetensors_shape(shape, rank, wanted, sizeof wanted);
        log_error("%s: tensor %s: shape %s, config wants %s; " WRONG_CONFIG, file->name,
                  source->name, found, wanted);
        return false;
    }
    if (source->dtype == DTYPE_F32 || source->dtype == DTYPE_BF16 || source->dtype == DTYPE_F16)
        return true;
    log_error("%s: tensor %s: dtype %s, only F32, BF16 and F16 are read", file->name, source->name,
              source->dtype_name);
    return false;
}

static void add_piece(struct matcher *m, const struct model_tensor *tensor, uint64_t begin,
                      uint64_t count, const struct safetensors *file,
                      const struct safetensors_tensor *source, uint64_t source_begin)
{
    m->out->piece[m->out->count++] =
        (struct weights_piece){tensor, begin, count, file, source, source_begin, m->part};
}

static void note_missing(struct matcher *m, const char *name)
{
    if (!m->missing++) snprintf(m->first_missing, sizeof m->first_missing, "%s", name);
}

// Writes PREFIX + NAME with the expert's number for "%u".
static void file_name(const struct matcher *m, const char *name, uint32_t expert, char *out)
{
    const char *place = strstr(name, "%u");
    if (!place) snprintf(out, NAME_BYTES, "%s%s", m->prefix, name);
    else
        snprintf(out, NAME_BYTES, "%s%.*s%u%s", m->prefix, (int)(place - name), name, expert,
                 place + 2);
}

// Mixtral's files name the MoE block differently, and transformers 5 has one name for all families
// in memory: either is taken, the model's own first. Returns the name under which expert 0 is
// there.
static const char *choose_name(const struct matcher *m, const struct model_tensor *tensor,
                               char *other)
{
    char name[NAME_BYTES];
    const struct safetensors *file;
    file_name(m, tensor->name, 0, name);
    if (find(m->files, name, &file)) return tensor->name;
    const enum config_family family =
        m->model->config.family == CONFIG_MIXTRAL ? CONFIG_VKMOE : CONFIG_MIXTRAL;
    model_role_name(tensor->role, tensor->layer, family, other, NAME_BYTES);
    file_name(m, other, 0, name);
    return find(m->files, name, &file) ? other : NULL;
}

static bool match_matrices(struct matcher *m, const struct model_tensor *tensor, const char *chosen)
{
    const uint32_t rank = model_tensor_rank(tensor), copies = max_u32(tensor->experts, 1);
    for (uint32_t expert = 0; expert < copies; expert++) {
        const struct model_matrix matrix = model_matrix(m->model, tensor, expert);
        const uint64_t shape[] = {matrix.rows, matrix.cols};
        const struct safetensors *file;
        const struct safetensors_tensor *source;
        char name[NAME_BYTES];
        file_name(m, chosen ? chosen : tensor->name, expert, name);
        if (!take(m, name, &file, &source)) note_missing(m, name);
        else if (!check_source(file, source, rank == 1 ? shape + 1 : shape, rank)) return false;
        else
            add_piece(m, tensor, matrix.begin, shape[0] * shape[1], file, source, 0);
    }
    return true;
}

// experts.gate_up_proj [E][2 I][H] with the gate first (not gated: up_proj [E][I][H]),
// experts.down_proj [E][H][I].
static bool match_batched(struct matcher *m, const struct model_tensor *tensor,
                          const struct safetensors *file, const struct safetensors_tensor *source)
{
    const bool whole = tensor->role == ROLE_EXPERT_DOWN || !m->model->config.mlp_gated;
    const uint64_t shape[] = {tensor->experts, (whole ? 1u : 2u) * (uint64_t)tensor->rows,
                              tensor->cols};
    const uint64_t size = (uint64_t)tensor->rows * tensor->cols;
    if (!check_source(file, source, shape, 3)) return false;
    if (whole) {
        add_piece(m, tensor, 0, tensor->count, file, source, 0);
        return true;
    }
    for (uint64_t expert = 0; expert < tensor->experts; expert++)
        add_piece(m, tensor, expert * size, size, file, source,
                  (2 * expert + (tensor->role == ROLE_EXPERT_UP)) * size);
    return true;
}

static bool match_tensor(struct matcher *m, const struct model_tensor *tensor)
{
    char other[NAME_BYTES], batched[NAME_BYTES];
    const char *chosen = choose_name(m, tensor, other);
    const struct safetensors *file;
    const struct safetensors_tensor *source;
    const char *first = m->model->config.mlp_gated ? "gate_up_proj" : "up_proj";
    snprintf(batched, sizeof batched, "%smodel.layers.%d.mlp.experts.%s", m->prefix, tensor->layer,
             tensor->role == ROLE_EXPERT_DOWN ? "down_proj" : first);
    if (!chosen && tensor->experts && !model_is_uneven(m->model, tensor) &&
        model_tensor_rank(tensor) == 2 && take(m, batched, &file, &source))
        return match_batched(m, tensor, file, source);
    return match_matrices(m, tensor, chosen);
}

static bool take_words(const struct weights_words *words, const uint8_t *from)
{
    const uint64_t bytes = words->count * sizeof(uint32_t);
    if (words->values) {
        memcpy(words->values, from, bytes);
        return true;
    }
    if (!words->put) return true;
    uint32_t *chunk = malloc(min_u64(bytes, WEIGHTS_CHUNK * sizeof *chunk) + 1);
    bool ok = chunk != NULL;
    for (uint64_t done = 0; ok && done < words->count; done += WEIGHTS_CHUNK) {
        const uint64_t count = min_u64(words->count - done, WEIGHTS_CHUNK);
        memcpy(chunk, from + done * sizeof *chunk, count * sizeof *chunk);
        ok = words->put(words, done, count, chunk);
    }
    free(chunk);
    return ok;
}

// Read here and now, before the elements.
static bool match_words(struct matcher *m, const struct weights_words *words)
{
    const struct safetensors *file;
    const struct safetensors_tensor *source;
    const uint64_t shape[] = {words->count};
    if (!take(m, words->name, &file, &source)) {
        note_missing(m, words->name);
        return true;
    }
    if (source->dtype != DTYPE_U32 || !same_shape(source, shape, 1)) {
        log_error("%s: tensor %s: wanted U32 [%llu]; " WRONG_CONFIG, file->name, source->name,
                  (unsigned long long)words->count);
        return false;
    }
    return take_words(words, file->data + source->begin);
}

// What may be there without being needed: a tied head's copy, the buffers of old checkpoints.
static bool is_spare(const struct matcher *m, const struct weights_part *part, uint32_t part_count,
                     const char *name)
{
    for (uint32_t i = 0; i < part_count && m->model->config.tie_word_embeddings; i++) {
        const size_t length = strlen(part[i].prefix);
        if (strncmp(name, part[i].prefix, length) == 0 &&
            strcmp(name + length, "lm_head.weight") == 0)
            return true;
    }
    return ends_with(name, ".rotary_emb.inv_freq");
}

static bool check_left(const struct matcher *m, const struct weights_part *part,
                       uint32_t part_count)
{
    for (uint32_t i = 0; i < m->files->count; i++)
        for (uint32_t t = 0; t < m->files->file[i]->count; t++) {
            const struct safetensors_tensor *tensor = &m->files->file[i]->tensor[t];
            if (m->used[i][t] || is_spare(m, part, part_count, tensor->name)) continue;
            char shape[200];
            safetensors_shape(tensor->shape, tensor->rank, shape, sizeof shape);
            log_error("%s: tensor %.200s %s: the model has no such tensor; " WRONG_CONFIG,
                      m->files->file[i]->name, tensor->name, shape);
            return false;
        }
    return true;
}

static bool check_missing(const struct matcher *m)
{
    char others[64] = "";
    if (!m->missing) return true;
    if (m->missing > 1)
        snprintf(others, sizeof others, " (and %llu more)", (unsigned long long)m->missing - 1);
    log_error("%s: tensor %s%s: missing; " WRONG_CONFIG, m->files->name, m->first_missing, others);
    return false;
}

bool weights_match(const struct model *model, struct weights_files *files,
                   const struct weights_state *state, struct weights_pieces *out)
{
    const struct weights_part *const part = state->part;
    const uint32_t part_count = state->part_count;
    struct matcher m = {.model = model, .files = files, .out = out};
    uint64_t most = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) most += max_u32(model->tensor[i].experts, 1);
    *out = (struct weights_pieces){arena_array(files->arena, most * part_count, sizeof *out->piece),
                                   0};
    m.used = arena_array(files->arena, files->count, sizeof *m.used);
    for (uint32_t i = 0; i < files->count; i++)
        m.used[i] = arena_array(files->arena, files->file[i]->count, sizeof **m.used);
    for (m.part = 0; m.part < part_count; m.part++) {
        m.prefix = part[m.part].prefix;
        for (uint32_t i = 0; i < model->tensor_count; i++)
            if ((!part[m.part].has || part[m.part].has(part[m.part].user, &model->tensor[i])) &&
                !match_tensor(&m, &model->tensor[i]))
                return false;
    }
    for (uint32_t i = 0; i < state->words_count; i++)
        if (!match_words(&m, &state->words[i])) return false;
    return check_missing(&m) && check_left(&m, part, part_count);
}
