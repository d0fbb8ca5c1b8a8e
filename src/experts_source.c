// SPDX-License-Identifier: MIT
// Where experts come from: see experts.h. Which bytes of a checkpoint's files are whose was found
// by weights_match; they are converted where the file's type is not the model's.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/experts.h"
#include "src/experts_folder.h"
#include "src/weights_match.h"

// The elements of one matrix in a file.
struct place { const struct safetensors *file; const struct safetensors_tensor *tensor;
               uint64_t begin; };

struct files {
    struct weights_files files;
    const struct model  *model;
    struct place       **place; // [tensor of the model][expert]; NULL: not streamed
};

static void note_piece(struct files *f, const struct weights_piece *piece)
{
    const struct model_tensor *tensor = piece->tensor;
    const uint64_t size = (uint64_t)tensor->rows * tensor->cols;
    struct place **list = &f->place[tensor - f->model->tensor];
    if (!tensor->streamed) return;
    if (!*list) *list = arena_array(f->files.arena, tensor->experts, sizeof **list);
    for (uint64_t at = 0; at < piece->count; at += size)
        (*list)[(piece->begin + at) / size] =
            (struct place){piece->file, piece->source, piece->source_begin + at};
}

static bool refuse(const struct place *place, uint64_t index, double value)
{
    log_error("%s: tensor %s: element %llu is %g, wanted finite numbers", place->file->name,
              place->tensor->name, (unsigned long long)(place->begin + index), value);
    return false;
}

// The first value that is not finite, or `count`.
static uint64_t find_not_finite(const void *values, uint64_t count, enum dtype dtype)
{
    const uint16_t infinite16 = dtype == DTYPE_BF16 ? 0x7f80 : 0x7c00;
    uint32_t bad = 0;
    for (uint64_t i = 0; dtype == DTYPE_F32 && i < count; i++) {
        const uint32_t bits = ((const uint32_t *)values)[i];
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    for (uint64_t i = 0; dtype != DTYPE_F32 && i < count; i++)
        bad |= (((const uint16_t *)values)[i] & infinite16) == infinite16;
    for (uint64_t i = 0; bad && i < count; i++)
        if (!isfinite(dtype_load(values, i, dtype))) return i;
    return count;
}

static bool read_matrix(const struct place *place, enum dtype store, uint64_t count, void *out)
{
    const enum dtype dtype = (enum dtype)place->tensor->dtype;
    const uint8_t *from =
        place->file->data + place->tensor->begin + place->begin * dtype_bytes(dtype);
    void *values = dtype == store ? out : malloc(count * dtype_bytes(dtype));
    memcpy(values, from, count * dtype_bytes(dtype)); // a file's bytes need not be aligned
    const uint64_t bad = find_not_finite(values, count, dtype);
    for (uint64_t i = 0; values != out && i < count; i++)
        dtype_store(out, i, store, dtype_load(values, i, dtype));
    const bool ok = bad == count || refuse(place, bad, dtype_load(values, bad, dtype));
    if (values != out) free(values);
    return ok;
}

static bool read_files(void *user, const struct experts_record *record, uint64_t key, bool whole,
                       void *out)
{
    const struct files *f = user;
    const uint32_t experts = f->model->config.num_experts;
    for (uint32_t i = 0; i < record->matrix_count; i++) {
        const struct record_matrix *m = &record->matrix[i];
        const struct model_tensor *stack =
            experts_record_stack(record, (uint32_t)(key / experts), i);
        if (!read_matrix(&f->place[stack - f->model->tensor][key % experts], record->store,
                         m->count, (uint8_t *)out + m->begin * dtype_bytes(record->store)))
            return false;
    }
    if (whole) experts_record_complete(record, key, 1u << RECORD_WEIGHTS, out);
    return true;
}

static void close_files(void *user)
{
    struct files *f = user;
    weights_files_close(&f->files);
    free(f->place);
    free(f);
}

static bool put_nothing(void *user, const struct model_tensor *tensor, uint64_t begin,
                        uint64_t count, const float *values)
{
    (void)user, (void)tensor, (void)begin, (void)count, (void)values;
    return true;
}

bool experts_source_files(struct experts_source *source, const struct model *model,
                          const char *path)
{
    const struct weights_part part = {.prefix = "", .put = put_nothing};
    struct weights_pieces pieces;
    struct files *f = calloc(1, sizeof *f);
    f->model = model;
    f->place = calloc(model->tensor_count, sizeof *f->place);
    if (!weights_files_open(&f->files, path)) {
        free(f->place);
        free(f);
        return false;
    }
    if (!weights_match(model, &f->files, &(struct weights_state){.part = &part, .part_count = 1},
                       &pieces)) {
        close_files(f);
        return false;
    }
    for (uint64_t i = 0; i < pieces.count; i++) note_piece(f, &pieces.piece[i]);
    *source = (struct experts_source){
        .read = read_files, .close = close_files, .user = f, .threads = true};
    return true;
}

// ---- initial values

static bool read_initial(void *user, const struct experts_record *record, uint64_t key, bool whole,
                         void *out)
{
    (void)user, (void)whole;
    experts_record_initial(record, key, out);
    return true;
}

void experts_source_initial(struct experts_source *source)
{
    *source = (struct experts_source){.read = read_initial, .threads = true};
}

// ---- a store

static bool read_store(void *user, const struct experts_record *record, uint64_t key, bool whole,
                       void *out)
{
    const uint32_t all = 1u << RECORD_WEIGHTS | 1u << RECORD_STATE,
                   parts = whole ? all : 1u << RECORD_WEIGHTS;
    uint32_t held;
    if (!store_read(user, key, parts, out, &held)) return false;
    experts_record_complete(record, key, whole ? held : held | 1u << RECORD_STATE, out);
    return true;
}

static bool write_store(void *user, const struct experts_record *record, uint64_t key,
                        const void *from)
{
    (void)record;
    return store_write(user, key, 1u << RECORD_WEIGHTS | 1u << RECORD_STATE, from);
}

static void close_store(void *user)
{
    struct store *store = user;
    store_close(&store);
}

void experts_source_store(struct experts_source *source, struct store *store)
{
    *source = (struct experts_source){
        .read = read_store, .write = write_store, .close = close_store, .user = store,
        .store = store};
}

bool experts_source_checkpoint(struct experts_source *source, const struct model *model,
                               const char *checkpoint)
{
    struct arena *arena = arena_create("store");
    const char *slash = strrchr(checkpoint, '/');
    struct experts_record record;
    struct store_params params;
    struct store *store = NULL;
    if (experts_record_init(&record, model, RECORD_STATE_NONE)) {
        char *identity = experts_record_params(&record, &params);
        params.folder = arena_printf(arena, "%.*s" EXPERTS_FOLDER,
                                     slash ? (int)(slash - checkpoint) + 1 : 0, checkpoint);
        store = store_open(arena_printf(arena, "%s/" EXPERTS_MANIFEST, checkpoint), &params, false);
        free(identity);
    }
    arena_destroy(&arena);
    if (!store) return false;
    experts_source_store(source, store);
    source->write = NULL;
    return true;
}
