// SPDX-License-Identifier: MIT
// Folder -> file: the weights stream through, matrix by matrix: prune, quantise, pack, compress.
// What each matrix lost is measured on the bytes that were written.
#include "src/export.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/checkpoint.h"

enum { MOST_TEXT = 1 << 28, OWN_BLOCK = 1024 };

struct job {
    const struct export_params *params;
    struct export_report       *report;
    struct arena               *arena;
    struct model               *model;
    struct export_rules        *rules;
    struct export_table         table;
    struct export_writer       *writer;
    struct bytes                text[2];      // config.json, tokenizer.json
    uint32_t                    at;           // the matrix being filled, in the table
    uint64_t                    filled;       // its values so far
    float                      *values, *again;
    uint8_t                    *packed;
};

// ---- what is written

static bool read_text(struct job *job, const char *name, bool needed, struct bytes *out)
{
    void *data;
    uint64_t bytes;
    const char *path = arena_printf(job->arena, "%s/%s", job->params->dir, name);
    if (!needed && !file_exists(path)) return true;
    if (!file_read(path, MOST_TEXT, &data, &bytes)) return false;
    *out = (struct bytes){data, bytes, bytes};
    return true;
}

// Indentation is no information: config.json in half of its bytes.
static bool minify(struct bytes *text)
{
    if (text->count == 0) return true;
    cJSON_Minify((char *)text->data); // file_read put a zero behind it
    text->count = strlen((char *)text->data);
    return true;
}

static bool read_model(struct job *job)
{
    struct config config;
    const char *path = arena_printf(job->arena, "%s/config.json", job->params->dir);
    if (!config_read(&config, path, NULL, 0)) return false;
    job->model = model_create(&config, UINT64_MAX / 2);
    return job->model && read_text(job, "config.json", true, &job->text[0]) &&
           read_text(job, "tokenizer.json", false, &job->text[1]) && minify(&job->text[0]) &&
           minify(&job->text[1]);
}

static void add_tensor(struct job *job, const struct model_tensor *tensor, uint32_t expert)
{
    char name[sizeof tensor->name + 16];
    model_tensor_name(tensor, expert, name, sizeof name);
    const struct model_matrix matrix = model_matrix(job->model, tensor, expert);
    const uint64_t elements = (uint64_t)matrix.rows * matrix.cols;
    job->table.tensor[job->table.count++] = (struct export_tensor){
        .name = arena_strdup(job->arena, name),
        .rank = model_tensor_rank(tensor),
        .rows = matrix.rows,
        .cols = matrix.cols,
        .kind = export_rules_kind(job->rules, name, model_tensor_rank(tensor), elements,
                                  job->model->config.num_hidden_layers)};
}

static bool make_table(struct job *job)
{
    const struct model *model = job->model;
    uint64_t count = 0, values = 0, packed = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        count += max_u32(model->tensor[i].experts, 1);
    job->table = (struct export_table){
        .tensor = arena_array(job->arena, count, sizeof *job->table.tensor),
        .config_bytes = job->text[0].count,
        .tokenizer_bytes = job->text[1].count,
        .prune = job->params->prune,
        .packing = job->params->packing};
    for (uint32_t i = 0; i < model->tensor_count; i++)
        for (uint32_t e = 0; e < max_u32(model->tensor[i].experts, 1); e++)
            add_tensor(job, &model->tensor[i], e);
    if (!export_table_place(&job->table, job->params->dir)) return false;
    for (uint32_t i = 0; i < job->table.count; i++) {
        values = max_u64(values, job->table.tensor[i].rows * job->table.tensor[i].cols);
        packed = max_u64(packed, job->table.tensor[i].bytes);
    }
    job->values = os_alloc(values * sizeof *job->values);
    job->again = os_alloc(values * sizeof *job->again);
    job->packed = os_alloc(packed);
    return true;
}

// ---- the weights, one matrix at a time

static double sum_squares(const float *a, const float *b, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        const double difference = a[i] - (b ? (double)b[i] : 0);
        sum += difference * difference;
    }
    return sum;
}

// One byte an integer: in blocks of their own zstd stores scales and integers in what the entropy
// of each asks for. Packed bits have no such byte to count; nor are small tensors worth a block.
static bool write_parts(struct job *job, const struct export_tensor *tensor)
{
    const uint64_t scales = quant_is_integer(tensor->kind) ? 2 * tensor->rows : 0;
    const bool own = job->params->packing == QUANT_BYTES && tensor->bytes >= OWN_BLOCK;
    if (own && !export_writer_block(job->writer)) return false;
    if (!export_writer_put(job->writer, job->packed, scales)) return false;
    if (own && scales && !export_writer_block(job->writer)) return false;
    return export_writer_put(job->writer, job->packed + scales, tensor->bytes - scales) &&
           (!own || export_writer_block(job->writer));
}

static bool write_matrix(struct job *job)
{
    const struct export_tensor *tensor = &job->table.tensor[job->at];
    const uint64_t count = tensor->rows * tensor->cols;
    const enum quant_packing packing = job->params->packing;
    struct export_sum *sum = &job->report->kind[tensor->kind];
    uint64_t bad = 0;
    memcpy(job->again, job->values, count * sizeof *job->again);
    if (export_is_pruned(tensor->name, tensor->rank, count))
        job->report->pruned += quant_prune(job->again, count, job->params->prune);
    if (!quant_encode(tensor->kind, packing, job->again, tensor->rows, tensor->cols, job->packed,
                      &bad) ||
        !quant_decode(tensor->kind, packing, job->packed, tensor->rows, tensor->cols, job->again,
                      &bad)) {
        log_error("%s: tensor %s: element %llu or its row's scale is above 65504, too large for "
                  "%s; export it with --bits %s=f32",
                  job->params->dir, tensor->name, (unsigned long long)bad,
                  quant_name(tensor->kind), tensor->name);
        return false;
    }
    sum->tensors++;
    sum->elements += count;
    sum->bytes += tensor->bytes;
    sum->squares += sum_squares(job->values, NULL, count);
    sum->error_squares += sum_squares(job->values, job->again, count);
    job->report->parameters += count;
    job->filled = 0;
    job->at++;
    return write_parts(job, tensor);
}

// Pieces come in the model's order, front to back: a matrix is whole when its last value is there.
static bool put_values(void *user, const struct model_tensor *model_tensor, uint64_t begin,
                       uint64_t count, const float *values)
{
    struct job *job = user;
    (void)model_tensor, (void)begin;
    while (count > 0) {
        const struct export_tensor *tensor = &job->table.tensor[job->at];
        const uint64_t size = tensor->rows * tensor->cols;
        const uint64_t part = min_u64(count, size - job->filled);
        memcpy(job->values + job->filled, values, part * sizeof *values);
        job->filled += part;
        values += part;
        count -= part;
        if (job->filled == size && !write_matrix(job)) return false;
    }
    if (!os_interrupted()) return true;
    log_error("%s: interrupted; nothing was written", job->params->out);
    return false;
}

static bool write_all(struct job *job)
{
    struct export_report *report = job->report;
    job->writer = export_writer_open(job->params->out, &job->table, job->params->level);
    if (!job->writer) return false;
    report->header_bytes = export_writer_header(job->writer);
    report->text_bytes = job->table.config_bytes + job->table.tokenizer_bytes;
    report->data_bytes = job->table.data_bytes;
    for (int i = 0; i < 2; i++)
        if (!export_writer_put(job->writer, job->text[i].data, job->text[i].count)) return false;
    char *path = checkpoint_weights(job->params->dir, job->params->weights);
    const bool ok = path && weights_load(job->model, path, put_values, job) &&
                    export_writer_commit(&job->writer, &report->file_bytes);
    free(path);
    return ok;
}

bool export_run(const struct export_params *params, struct export_report *report)
{
    struct job job = {.params = params, .report = report, .arena = arena_create("export")};
    *report = (struct export_report){0};
    if (!folder_is(params->dir)) log_error("%s: no folder of a model", params->dir);
    const bool ok = folder_is(params->dir) && codec_available(params->out) &&
                    (job.rules = export_rules_create(params->bits)) && read_model(&job) &&
                    make_table(&job) && write_all(&job);
    export_writer_abort(&job.writer);
    export_rules_destroy(&job.rules);
    model_destroy(&job.model);
    for (int i = 0; i < 2; i++) bytes_free(&job.text[i]);
    free(job.values), free(job.again), free(job.packed);
    arena_destroy(&job.arena);
    return ok;
}
