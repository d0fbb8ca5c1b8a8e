// SPDX-License-Identifier: MIT
// Checkpoints in any order: see weights_reader.h.
#include "src/weights_reader.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"

enum { FORGET_BYTES = 4 << 20 };

static int by_element(const void *a, const void *b)
{
    const struct weights_piece *x = a, *y = b;
    if (x->part != y->part) return x->part < y->part ? -1 : 1;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

bool weights_reader_open(struct weights_reader *reader, const struct model *model,
                         const char *path, const struct weights_state *state)
{
    *reader = (struct weights_reader){0};
    if (!weights_files_open(&reader->files, path)) return false;
    if (!weights_match(model, &reader->files, state, &reader->pieces)) {
        weights_reader_close(reader);
        return false;
    }
    qsort(reader->pieces.piece, reader->pieces.count, sizeof *reader->pieces.piece, by_element);
    return true;
}

void weights_reader_close(struct weights_reader *reader)
{
    weights_files_close(&reader->files);
    *reader = (struct weights_reader){0};
}

// The last piece that begins at or before the element.
static const struct weights_piece *find(const struct weights_reader *reader, uint32_t part,
                                        const struct model_tensor *tensor, uint64_t begin)
{
    const struct weights_piece key = {.tensor = tensor, .begin = begin, .part = part};
    uint64_t low = 0, high = reader->pieces.count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (by_element(&reader->pieces.piece[middle], &key) <= 0) low = middle + 1;
        else high = middle;
    }
    return &reader->pieces.piece[low - 1];
}

static void forget(struct weights_reader *reader, uint64_t bytes)
{
    reader->touched += bytes;
    if (reader->touched < FORGET_BYTES) return;
    reader->touched = 0;
    for (uint32_t i = 0; i < reader->files.count; i++)
        file_map_forget(&reader->files.file[i]->map);
}

bool weights_reader_get(struct weights_reader *reader, uint32_t part,
                        const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                        float *out)
{
    while (count) {
        const struct weights_piece *piece = find(reader, part, tensor, begin);
        const uint64_t from = begin - piece->begin, some = min_u64(count, piece->count - from);
        if (!weights_values(piece, from, some, out)) return false;
        begin += some, count -= some, out += some;
        forget(reader, some * sizeof *out);
    }
    return true;
}

bool weights_reader_words(struct weights_reader *reader, const char *name, uint64_t begin,
                          uint64_t count, uint32_t *out)
{
    for (uint32_t i = 0; i < reader->files.count; i++) {
        const struct safetensors *file = reader->files.file[i];
        const struct safetensors_tensor *tensor = safetensors_find(file, name);
        if (!tensor) continue;
        memcpy(out, file->data + tensor->begin + begin * sizeof *out, count * sizeof *out);
        forget(reader, count * sizeof *out);
        return true;
    }
    log_error("%s: not in the files of the optimizer", name);
    return false;
}
