// SPDX-License-Identifier: MIT
// Streams weights between safetensors files and callbacks, in chunks of at most WEIGHTS_CHUNK
// elements, f32 on the host's side. What is not finite never passes, in either direction.
#include "src/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/weights_match.h"

// ---- values

// Index of the first value that is not finite, or `count`. The loop over all is free of branches:
// the rule is that there is none.
static uint64_t find_not_finite(const float *values, uint64_t count)
{
    const uint32_t infinite = 0x7f800000u;
    uint32_t bits, bad = 0;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&bits, &values[i], sizeof bits);
        bad |= (bits & infinite) == infinite;
    }
    for (uint64_t i = 0; bad && i < count; i++) {
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & infinite) == infinite) return i;
    }
    return count;
}

static bool check_finite(const char *file, const char *tensor, uint64_t begin, const float *values,
                         uint64_t count)
{
    const uint64_t bad = find_not_finite(values, count);
    if (bad == count) return true;
    log_error("%s: tensor %s: element %llu is %g, wanted finite numbers", file, tensor,
              (unsigned long long)(begin + bad), values[bad]);
    return false;
}

static void to_f32(float *out, const uint8_t *from, uint64_t count, int dtype)
{
    if (dtype == DTYPE_F32) memcpy(out, from, count * sizeof *out);
    for (uint64_t i = 0; dtype != DTYPE_F32 && i < count; i++) {
        uint16_t bits;
        memcpy(&bits, from + 2 * i, sizeof bits);
        out[i] = dtype == DTYPE_BF16 ? dtype_f32_from_bf16(bits) : dtype_f32_from_f16(bits);
    }
}

// ---- loading

bool weights_values(const struct weights_piece *piece, uint64_t begin, uint64_t count, float *out)
{
    const struct safetensors_tensor *source = piece->source;
    const uint64_t from = piece->source_begin + begin;
    to_f32(out, piece->file->data + source->begin + from * dtype_bytes((enum dtype)source->dtype),
           count, source->dtype);
    return check_finite(piece->file->name, source->name, from, out, count);
}

static bool load_piece(const struct weights_piece *piece, const struct weights_part *part,
                       float *chunk)
{
    for (uint64_t done = 0; done < piece->count;) {
        const uint64_t count = min_u64(piece->count - done, WEIGHTS_CHUNK);
        if (!weights_values(piece, done, count, chunk) ||
            !part->put(part->user, piece->tensor, piece->begin + done, count, chunk))
            return false;
        done += count;
    }
    return true;
}

bool weights_load_state(const struct model *model, const char *path,
                        const struct weights_state *state)
{
    struct weights_files files;
    struct weights_pieces pieces;
    if (!weights_files_open(&files, path)) return false;
    bool ok = weights_match(model, &files, state, &pieces);
    float *chunk = os_alloc(WEIGHTS_CHUNK * sizeof *chunk);
    for (uint64_t i = 0; ok && i < pieces.count; i++)
        ok = pieces.piece[i].tensor->streamed ||
             load_piece(&pieces.piece[i], &state->part[pieces.piece[i].part], chunk);
    free(chunk);
    weights_files_close(&files);
    return ok;
}

bool weights_load_parts(const struct model *model, const char *path,
                        const struct weights_part *part, uint32_t part_count)
{
    return weights_load_state(
        model, path, &(struct weights_state){.part = part, .part_count = part_count});
}

bool weights_load(const struct model *model, const char *path, weights_put_fn *put, void *user)
{
    return weights_load_parts(model, path,
                              &(struct weights_part){.prefix = "", .put = put, .user = user}, 1);
}

static bool is_dense(const void *user, const struct model_tensor *tensor)
{
    (void)user;
    return !tensor->streamed;
}

bool weights_load_dense(const struct model *model, const char *path, weights_put_fn *put,
                        void *user)
{
    const struct weights_part part = {.prefix = "", .put = put, .user = user, .has = is_dense};
    return weights_load_parts(model, path, &part, 1);
}

// ---- saving

static bool part_has(const struct weights_part *part, const struct model_tensor *tensor)
{
    return !part->has || part->has(part->user, tensor);
}

// Weights that have no masters are of their storage type; all else is f32.
static enum dtype saved_dtype(const struct model *model, const struct weights_part *part)
{
    return *part->prefix || model->config.master_weights ? DTYPE_F32 : model->config.torch_dtype;
}

// The file's table: parts in order, tensors in the model's order, experts ascending, so a stack's
// bytes are one run; then the words.
static struct safetensors_tensor *make_table(const struct model *model,
                                             const struct weights_state *state,
                                             struct arena *arena, uint32_t *count)
{
    const struct weights_part *const part = state->part;
    const uint32_t part_count = state->part_count;
    uint64_t most = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) most += max_u32(model->tensor[i].experts, 1);
    struct safetensors_tensor *table =
        arena_array(arena, state->words_count + most * part_count, sizeof *table);
    *count = 0;
    for (uint32_t p = 0; p < part_count; p++)
        for (uint32_t i = 0; i < model->tensor_count; i++)
            for (uint32_t expert = 0; expert < max_u32(model->tensor[i].experts, 1); expert++) {
                const struct model_tensor *tensor = &model->tensor[i];
                if (!part_has(&part[p], tensor)) break;
                const bool vector = model_tensor_rank(tensor) == 1;
                const struct model_matrix matrix = model_matrix(model, tensor, expert);
                char name[sizeof tensor->name + 16];
                model_tensor_name(tensor, expert, name, sizeof name);
                table[(*count)++] = (struct safetensors_tensor){
                    .name = arena_printf(arena, "%s%s", part[p].prefix, name),
                    .dtype = saved_dtype(model, &part[p]),
                    .rank = vector ? 1 : 2,
                    .shape = {vector ? matrix.cols : matrix.rows, vector ? 0 : matrix.cols}};
            }
    for (uint32_t i = 0; i < state->words_count; i++)
        table[(*count)++] = (struct safetensors_tensor){.name = state->words[i].name,
                                                        .dtype = DTYPE_U32,
                                                        .rank = 1,
                                                        .shape = {state->words[i].count}};
    return table;
}

// In a stack the expert is named and the element counted within it, as in the file.
static bool check_tensor(const struct model *model, const char *path,
                         const struct model_tensor *tensor, uint64_t begin, const float *values,
                         uint64_t count)
{
    const uint64_t at = begin + find_not_finite(values, count);
    char name[sizeof tensor->name + 16];
    if (at == begin + count) return true;
    const uint32_t expert = tensor->experts ? model_expert_at(model, tensor, at) : 0;
    model_tensor_name(tensor, expert, name, sizeof name);
    return check_finite(path, name, at - model_matrix(model, tensor, expert).begin,
                        values + (at - begin), 1);
}

static bool write_values(struct safetensors_writer *writer, enum dtype dtype, float *values,
                         uint64_t count)
{
    for (uint64_t i = 0; dtype != DTYPE_F32 && i < count; i++) // in place: behind what is read
        dtype_store(values, i, dtype, (double)values[i]);
    return safetensors_writer_write(writer, values, count * dtype_bytes(dtype));
}

static bool save_tensor(const struct model *model, struct safetensors_writer *writer,
                        const char *path, const struct model_tensor *tensor,
                        const struct weights_part *part,
                        float *chunk)
{
    for (uint64_t done = 0; done < tensor->count;) {
        const uint64_t count = min_u64(tensor->count - done, WEIGHTS_CHUNK);
        if (!part->get(part->user, tensor, done, count, chunk) ||
            !check_tensor(model, path, tensor, done, chunk, count) ||
            !write_values(writer, saved_dtype(model, part), chunk, count))
            return false;
        done += count;
    }
    return true;
}

static bool save_words(struct safetensors_writer *writer, const struct weights_words *words,
                       void *chunk)
{
    if (words->values)
        return safetensors_writer_write(writer, words->values, words->count * sizeof(uint32_t));
    for (uint64_t done = 0; done < words->count;) {
        const uint64_t count = min_u64(words->count - done, WEIGHTS_CHUNK);
        if (!words->get(words, done, count, chunk) ||
            !safetensors_writer_write(writer, chunk, count * sizeof(uint32_t)))
            return false;
        done += count;
    }
    return true;
}

bool weights_save_state(const struct model *model, const char *path,
                        const struct weights_state *state,
                        const struct safetensors_metadata *metadata, uint32_t metadata_count)
{
    struct arena *arena = arena_create("weights");
    struct safetensors_metadata *all = arena_array(arena, (size_t)metadata_count + 1, sizeof *all);
    all[0] = (struct safetensors_metadata){"format", "pt"}; // transformers asks for it
    if (metadata_count) memcpy(all + 1, metadata, metadata_count * sizeof *all);
    uint32_t count;
    const struct safetensors_tensor *table = make_table(model, state, arena, &count);
    struct safetensors_writer *writer =
        safetensors_writer_open(path, table, count, all, metadata_count + 1);
    float *chunk = os_alloc(WEIGHTS_CHUNK * sizeof *chunk);
    bool ok = writer != NULL;
    for (uint32_t p = 0; p < state->part_count; p++)
        for (uint32_t i = 0; ok && i < model->tensor_count; i++)
            ok = !part_has(&state->part[p], &model->tensor[i]) ||
                 save_tensor(model, writer, path, &model->tensor[i], &state->part[p], chunk);
    for (uint32_t i = 0; ok && i < state->words_count; i++)
        ok = save_words(writer, &state->words[i], chunk);
    if (ok) ok = safetensors_writer_commit(&writer);
    else safetensors_writer_abort(&writer);
    free(chunk);
    arena_destroy(&arena);
    return ok;
}

bool weights_save_parts(const struct model *model, const char *path,
                        const struct weights_part *part, uint32_t part_count,
                        const struct safetensors_metadata *metadata, uint32_t metadata_count)
{
    return weights_save_state(model, path,
                              &(struct weights_state){.part = part, .part_count = part_count},
                              metadata, metadata_count);
}

bool weights_save(const struct model *model, const char *path, weights_get_fn *get, void *user,
                  const struct safetensors_metadata *metadata, uint32_t metadata_count)
{
    const struct weights_part part = {.prefix = "", .get = get, .user = user};
    return weights_save_parts(model, path, &part, 1, metadata, metadata_count);
}
