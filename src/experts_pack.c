// SPDX-License-Identifier: MIT
// A config, or an ordinary checkpoint, to a run folder with a store. experts_unpack.c goes back.
#include "src/experts_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/checkpoint.h"
#include "src/codes.h"
#include "src/experts_folder.h"
#include "src/tokenizer.h"
#include "src/weights_reader.h"

struct pack {
    struct folder_source  from;
    const char           *out;
    struct model         *model;
    struct experts_record record;
    struct weights_reader weights, optimizer; // the latter without files where there is none
    bool                  has_optimizer;
    struct weights_words *words; // of the optimizer: steps of the experts, codes of dense tensors
    uint32_t              steps_count, words_count;
    struct checkpoint    *folder;
    struct store         *store;
    struct arena         *arena;
};

// ---- the folder that is made

static bool open_out(struct pack *p, uint64_t step)
{
    struct checkpoint_found found;
    p->folder = checkpoint_open_keeping(p->out, 0);
    if (!p->folder) return false;
    if (!checkpoint_find(p->out, &found)) return checkpoint_begin(p->folder, step);
    log_error("%s: holds a run at step %llu; choose another --out", p->out,
              (unsigned long long)found.step);
    checkpoint_close(&p->folder); // it is not ours to clean
    return false;
}

static bool open_store(struct pack *p)
{
    struct store_params params;
    char *identity = experts_record_params(&p->record, &params);
    params.folder = arena_printf(p->arena, "%s/" EXPERTS_FOLDER, p->out);
    p->store = store_create(&params);
    free(identity);
    return p->store != NULL;
}

static bool write_config(struct pack *p)
{
    char *text = config_print(&p->model->config);
    const bool ok = checkpoint_run_write(p->folder, "config.json", text);
    free(text);
    return ok;
}

static bool commit(struct pack *p)
{
    char *folder = os_strdup(checkpoint_path(p->folder, "."));
    const bool ok = store_commit(p->store, folder) && checkpoint_commit(p->folder);
    free(folder);
    return ok;
}

// Where it failed nothing of it stays, and all else that lies there does.
static void close_pack(struct pack *p, bool done)
{
    uint32_t count;
    const char **manifest = experts_manifests(p->out, p->arena, &count);
    if (done) store_close(&p->store);
    else store_discard(&p->store, manifest, count);
    checkpoint_close(&p->folder);
    weights_reader_close(&p->weights);
    weights_reader_close(&p->optimizer);
    model_destroy(&p->model);
    folder_source_close(&p->from);
    arena_destroy(&p->arena);
}

static void report_store(const struct pack *p, uint64_t step, struct experts_report *report)
{
    const struct store_stats stats = store_stats(p->store);
    *report = (struct experts_report){.parameters = p->model->parameters,
                                      .experts = p->record.keys,
                                      .records = stats.live,
                                      .step = step,
                                      .record_bytes = p->record.bytes,
                                      .bytes = stats.bytes,
                                      .bytes_after = stats.bytes};
}

static bool write_new_state(struct pack *p)
{
    char text[200];
    snprintf(text, sizeof text,
             "{\"step\": 0, \"windows\": 0, \"seed\": %llu, \"data\": null, \"routing\": null}\n",
             (unsigned long long)p->model->config.seed);
    return checkpoint_write(p->folder, "state.json", text);
}

// ---- init

static bool write_tokenizer(struct pack *p)
{
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    const bool fits = p->model->config.vocab_size >= tokenizer_count(tokenizer);
    const bool ok =
        !fits || tokenizer_save(tokenizer, checkpoint_run_path(p->folder, "tokenizer.json"));
    tokenizer_destroy(&tokenizer);
    return ok;
}

bool experts_init_run(const struct config *config, const char *out, struct experts_report *report)
{
    struct pack p = {.out = out, .arena = arena_create("init")};
    p.model = model_create(config, UINT64_MAX / 2);
    const bool ok = p.model && experts_record_init(&p.record, p.model, RECORD_STATE_WHOLE) &&
                    open_out(&p, 0) && open_store(&p) && write_config(&p) &&
                    write_tokenizer(&p) && write_new_state(&p) && commit(&p);
    if (ok) report_store(&p, 0, report);
    close_pack(&p, ok);
    return ok;
}

// ---- pack

static bool open_files(struct pack *p)
{
    struct weights_part weights = {.prefix = ""}, moments[2];
    const char *path = arena_printf(p->arena, "%s/optimizer.safetensors", p->from.checkpoint);
    if (!weights_reader_open(&p->weights, p->model, p->from.weights,
                             &(struct weights_state){.part = &weights, .part_count = 1}))
        return false;
    if (!p->from.is_folder || !file_exists(path)) return true;
    p->words = optimizer_words(p->model, &p->optimizer, true, p->arena, &p->steps_count,
                               &p->words_count);
    optimizer_parts(p->model, moments);
    p->has_optimizer = weights_reader_open(
        &p->optimizer, p->model, path,
        &(struct weights_state){moments, 2, p->words, p->words_count});
    return p->has_optimizer;
}

// Dense tensors only.
static bool get_weights(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                        float *values)
{
    return weights_reader_get(&((struct pack *)user)->weights, 0, t, begin, count, values);
}

static bool get_m(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    return weights_reader_get(&((struct pack *)user)->optimizer, 0, t, begin, count, values);
}

static bool get_v(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    return weights_reader_get(&((struct pack *)user)->optimizer, 1, t, begin, count, values);
}

static bool is_dense(const void *user, const struct model_tensor *t)
{
    (void)user;
    return t->experts == 0;
}

static bool is_dense_m(const void *user, const struct model_tensor *t)
{
    return t->experts == 0 && model_has_m(((const struct pack *)user)->model, t);
}

static bool is_dense_v(const void *user, const struct model_tensor *t)
{
    return t->experts == 0 && model_has_v(((const struct pack *)user)->model, t);
}

static bool save_dense(struct pack *p, const char *name, const struct weights_reader *from,
                       const struct weights_state *state)
{
    uint32_t count;
    const struct safetensors_metadata *metadata = folder_metadata(from, &count);
    return weights_save_state(p->model, checkpoint_path(p->folder, name), state, metadata, count);
}

static bool pack_dense(struct pack *p)
{
    const struct weights_part weights = {
        .prefix = "", .get = get_weights, .user = p, .has = is_dense};
    const struct weights_part moments[] = {
        {.prefix = "m.", .get = get_m, .user = p, .has = is_dense_m},
        {.prefix = "v.", .get = get_v, .user = p, .has = is_dense_v}};
    uint32_t none, count;
    const struct weights_words *codes =
        optimizer_words(p->model, &p->optimizer, false, p->arena, &none, &count);
    const struct weights_state model = {.part = &weights, .part_count = 1},
                               optimizer = {moments, 2, codes, count};
    return save_dense(p, "model.safetensors", &p->weights, &model) &&
           (!p->has_optimizer ||
            save_dense(p, "optimizer.safetensors", &p->optimizer, &optimizer));
}

static bool gather_codes(struct pack *p, const struct model_tensor *stack, uint32_t expert,
                         uint32_t matrix, void *out)
{
    char name[sizeof stack->name + 16], full[sizeof name + 8];
    uint64_t bytes;
    uint32_t *words = (uint32_t *)(void *)((uint8_t *)out + experts_record_place(
                                               &p->record, RECORD_CODES, matrix, &bytes));
    model_tensor_name(stack, expert, name, sizeof name);
    snprintf(full, sizeof full, "codes.%s", name);
    if (!weights_reader_words(&p->optimizer, full, 0, bytes / 4, words)) return false;
    const uint64_t bad = codes_record_fault(words, 0, bytes / 4);
    if (bad == bytes / 4) return true;
    log_error("%s: word %llu is 0x%08x, which is in no record of codes", full,
              (unsigned long long)bad, words[bad]);
    return false;
}

// Moments of one matrix out of the files into a record.
static bool gather_moments(struct pack *p, const struct model_tensor *stack, uint32_t expert,
                           uint32_t matrix, void *out, float *values)
{
    const struct experts_record *r = &p->record;
    const uint64_t count = r->matrix[matrix].count, begin = expert * count;
    if (model_has_m(p->model, stack)) {
        if (!weights_reader_get(&p->optimizer, 0, stack, begin, count, values)) return false;
        experts_record_put(r, out, RECORD_M, matrix, 0, count, values);
    }
    if (model_has_v(p->model, stack)) {
        if (!weights_reader_get(&p->optimizer, 1, stack, begin, count, values)) return false;
        experts_record_put(r, out, RECORD_V, matrix, 0, count, values);
    }
    return !model_records(p->model, stack) || gather_codes(p, stack, expert, matrix, out);
}

// One expert out of the files into a record.
static bool gather(struct pack *p, uint32_t moe_layer, uint32_t expert, void *out, float *values)
{
    const struct experts_record *r = &p->record;
    memset(out, 0, r->bytes);
    for (uint32_t i = 0; i < r->matrix_count; i++) {
        const struct model_tensor *stack = experts_record_stack(r, moe_layer, i);
        const uint64_t count = r->matrix[i].count, begin = expert * count;
        if (!weights_reader_get(&p->weights, 0, stack, begin, count, values)) return false;
        experts_record_put(r, out, RECORD_MASTER, i, 0, count, values);
        if (p->has_optimizer && !gather_moments(p, stack, expert, i, out, values)) return false;
    }
    if (p->steps_count) experts_record_set_steps(r, out, p->words[moe_layer].values[expert]);
    return true;
}

static bool pack_experts(struct pack *p)
{
    const struct experts_record *r = &p->record;
    uint8_t *record = os_alloc(r->bytes), *scratch = os_alloc(r->bytes);
    float *values = os_alloc(r->elements * sizeof *values);
    const uint32_t experts = p->model->config.num_experts, layers = (uint32_t)(r->keys / experts);
    bool ok = true;
    for (uint32_t layer = 0; ok && layer < layers; layer++)
        for (uint32_t e = 0; ok && e < experts; e++) {
            const uint64_t key = experts_record_key(r, layer, e);
            if (key != (uint64_t)layer * experts + e) break; // a repeat
            ok = gather(p, layer, e, record, values);
            const uint32_t parts = ok ? experts_record_parts(r, key, record, scratch) : 0;
            ok = ok && (!parts || store_write(p->store, key, parts, record));
        }
    free(record), free(scratch), free(values);
    return ok;
}

static bool copy_files(struct pack *p)
{
    return folder_copy_run(&p->from, p->folder, p->arena) &&
           (folder_copy_state(&p->from, p->folder, p->arena) || write_new_state(p));
}

bool experts_pack(const char *in, const char *out, struct experts_report *report)
{
    struct pack p = {.out = out, .arena = arena_create("pack")};
    bool ok = folder_source_open(&p.from, in);
    if (ok && p.from.has_store) {
        log_error("%s: its experts lie in a store already", p.from.checkpoint);
        ok = false;
    }
    if (ok && p.from.has_average) {
        log_error("%s/average.safetensors: a mean of the weights has no place in a store; export "
                  "it, or train without ema_decay and swa_every", p.from.checkpoint);
        ok = false;
    }
    ok = ok && (p.model = model_create(&p.from.config, UINT64_MAX / 2)) &&
         experts_record_init(&p.record, p.model, RECORD_STATE_WHOLE) && open_files(&p) &&
         open_out(&p, p.from.step) && open_store(&p) && pack_dense(&p) && pack_experts(&p) &&
         write_config(&p) && copy_files(&p) && commit(&p);
    if (ok) report_store(&p, p.from.step, report);
    close_pack(&p, ok);
    return ok;
}
