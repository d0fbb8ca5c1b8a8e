// SPDX-License-Identifier: MIT
// File -> tensor table: names and shapes of all tensors are compared with the model's before the
// first value, then each is unpacked as it comes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/export.h"

enum { MOST_TEXT = 1 << 28 };

static bool read_text(struct export_file *file, const char *key, uint64_t bytes, char **text)
{
    *text = NULL;
    if (bytes == 0) return true;
    if (bytes > MOST_TEXT) {
        log_error("%s: header: %s: found %llu, at most %d are read", file->name, key,
                  (unsigned long long)bytes, MOST_TEXT);
        return false;
    }
    char *out = os_alloc(bytes + 1);
    if (!export_file_read(file, out, bytes)) return free(out), false;
    *text = out;
    return true;
}

bool export_read_texts(struct export_file *file, char **config, char **tokenizer)
{
    *config = *tokenizer = NULL;
    if (!file->table.config_bytes) {
        log_error("%s: header: config_bytes: found 0, wanted a config", file->name);
        return false;
    }
    if (read_text(file, "config_bytes", file->table.config_bytes, config) &&
        read_text(file, "tokenizer_bytes", file->table.tokenizer_bytes, tokenizer))
        return true;
    free(*config);
    *config = NULL;
    return false;
}

// Where a tensor of the file goes.
struct target { const struct model_tensor *tensor; uint64_t begin; };

struct named { const char *name; uint32_t index; };

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static bool refuse(const struct export_file *file, const char *tensor, const char *what)
{
    log_error("%s: tensor %.100s: %s; the export of another model or version?", file->name, tensor,
              what);
    return false;
}

static struct named *sort_names(const struct export_file *file, struct arena *arena)
{
    const struct export_table *table = &file->table;
    struct named *names = arena_array(arena, (size_t)table->count + 1, sizeof *names);
    for (uint32_t i = 0; i < table->count; i++) names[i] = (struct named){table->tensor[i].name, i};
    qsort(names, table->count, sizeof *names, by_name);
    for (uint32_t i = 1; i < table->count; i++)
        if (by_name(&names[i - 1], &names[i]) == 0)
            return refuse(file, names[i].name, "is there twice"), NULL;
    return names;
}

static bool match_one(const struct export_file *file, const struct named *names,
                      const struct model *model, const struct model_tensor *tensor,
                      uint32_t expert, struct target *target)
{
    char name[sizeof tensor->name + 16], text[160];
    model_tensor_name(tensor, expert, name, sizeof name);
    const struct named key = {name, 0}, *found =
        bsearch(&key, names, file->table.count, sizeof *names, by_name);
    if (!found) return refuse(file, name, "missing");
    const struct export_tensor *source = &file->table.tensor[found->index];
    const struct model_matrix matrix = model_matrix(model, tensor, expert);
    target[found->index] = (struct target){tensor, matrix.begin};
    if (source->rank == model_tensor_rank(tensor) && source->rows == matrix.rows &&
        source->cols == matrix.cols)
        return true;
    snprintf(text, sizeof text, "shape [%llu][%llu], its config wants [%u][%u]",
             (unsigned long long)source->rows, (unsigned long long)source->cols, matrix.rows,
             matrix.cols);
    return refuse(file, name, text);
}

static bool match(const struct export_file *file, const struct model *model, struct arena *arena,
                  struct target *target)
{
    const struct named *names = sort_names(file, arena);
    if (!names) return false;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        for (uint32_t e = 0; e < max_u32(model->tensor[i].experts, 1); e++)
            if (!match_one(file, names, model, &model->tensor[i], e, target)) return false;
    for (uint32_t i = 0; i < file->table.count; i++)
        if (!target[i].tensor)
            return refuse(file, file->table.tensor[i].name, "the model has no such tensor");
    return true;
}

static bool load_one(struct export_file *file, const struct export_tensor *source,
                     const struct target *target, weights_put_fn *put, void *user)
{
    const uint64_t size = source->rows * source->cols;
    uint64_t bad = 0;
    uint8_t *packed = os_alloc(max_u64(source->bytes, 1));
    float *values = os_alloc(max_u64(size, 1) * sizeof *values);
    bool ok = export_file_read(file, packed, source->bytes);
    if (ok && !quant_decode(source->kind, file->table.packing, packed, source->rows, source->cols,
                            values, &bad)) {
        log_error("%s: tensor %s: row %llu is not finite", file->name, source->name,
                  (unsigned long long)bad);
        ok = false;
    }
    for (uint64_t done = 0; ok && done < size;) {
        const uint64_t part = min_u64(size - done, WEIGHTS_CHUNK);
        ok = put(user, target->tensor, target->begin + done, part, values + done);
        done += part;
    }
    free(packed);
    free(values);
    return ok;
}

bool export_read_weights(struct export_file *file, const struct model *model, weights_put_fn *put,
                         void *user)
{
    struct arena *arena = arena_create("export");
    struct target *target = arena_array(arena, (size_t)file->table.count + 1, sizeof *target);
    bool ok = match(file, model, arena, target);
    for (uint32_t i = 0; ok && i < file->table.count; i++)
        ok = load_one(file, &file->table.tensor[i], &target[i], put, user);
    arena_destroy(&arena);
    return ok && export_file_end(file);
}
