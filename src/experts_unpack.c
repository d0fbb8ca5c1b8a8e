// SPDX-License-Identifier: MIT
// A run folder with a store to ordinary files, and the compaction of such a folder. The files list
// a stack's matrices expert by expert, so each record is read several times: whole and checked the
// first time, then only the matrix that is wanted.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"
#include "src/experts_folder.h"
#include "src/experts_pack.h"

struct unpack {
    struct folder_source  from;
    struct model         *model;
    struct experts_record record;
    struct weights_reader weights, optimizer; // of the dense tensors
    bool                  has_weights, has_optimizer;
    struct store         *store;
    bool                 *checked; // [keys][STORE_PARTS]
    uint8_t              *bytes;   // a record
    struct arena         *arena;
};

// ---- opening

static bool is_dense(const void *user, const struct model_tensor *t)
{
    (void)user;
    return t->experts == 0;
}

static bool is_dense_m(const void *user, const struct model_tensor *t)
{
    return t->experts == 0 && model_has_m(user, t);
}

static bool is_dense_v(const void *user, const struct model_tensor *t)
{
    return t->experts == 0 && model_has_v(user, t);
}

static bool open_dense(struct unpack *u)
{
    const char *const weights = arena_printf(u->arena, "%s/model.safetensors", u->from.checkpoint),
               *const optimizer =
                   arena_printf(u->arena, "%s/optimizer.safetensors", u->from.checkpoint);
    struct weights_part part[2];
    uint32_t steps, count;
    u->has_weights = file_exists(weights);
    u->has_optimizer = file_exists(optimizer);
    part[0] = (struct weights_part){.prefix = "", .has = is_dense};
    if (u->has_weights &&
        !weights_reader_open(&u->weights, u->model, weights,
                             &(struct weights_state){.part = part, .part_count = 1}))
        return false;
    optimizer_parts(u->model, part);
    part[0].has = is_dense_m;
    part[1].has = is_dense_v;
    const struct weights_words *codes =
        optimizer_words(u->model, &u->optimizer, false, u->arena, &steps, &count);
    return !u->has_optimizer ||
           weights_reader_open(&u->optimizer, u->model, optimizer,
                               &(struct weights_state){part, 2, codes, count});
}

// kept: for writing, with these manifests besides its own.
static bool open_records(struct unpack *u, const char *const *kept, uint32_t kept_count)
{
    struct store_params params;
    char *identity = experts_record_params(&u->record, &params);
    params.folder = arena_printf(u->arena, "%s/" EXPERTS_FOLDER, u->from.folder);
    params.kept = kept;
    params.kept_count = kept_count;
    u->store = store_open(arena_printf(u->arena, "%s/" EXPERTS_MANIFEST, u->from.checkpoint),
                          &params, kept != NULL);
    free(identity);
    return u->store != NULL;
}

static bool open_model(struct unpack *u, const char *dir)
{
    if (!folder_source_open(&u->from, dir)) return false;
    if (!u->from.has_store) {
        log_error("%s: has no store of experts (no checkpoint with " EXPERTS_MANIFEST ")", dir);
        return false;
    }
    u->model = model_create(&u->from.config, UINT64_MAX / 2);
    return u->model && experts_record_init(&u->record, u->model, RECORD_STATE_WHOLE);
}

static void close_unpack(struct unpack *u)
{
    store_close(&u->store);
    weights_reader_close(&u->weights);
    weights_reader_close(&u->optimizer);
    model_destroy(&u->model);
    folder_source_close(&u->from);
    free(u->checked), free(u->bytes);
    arena_destroy(&u->arena);
}

// ---- values

static bool fail_read(const struct unpack *u, uint64_t key)
{
    log_error("%s/" EXPERTS_FOLDER ": cannot read the record of key %" PRIu64 ": %s",
              u->from.folder, key, os_file_reason(errno));
    return false;
}

// `bytes` holds bytes [begin, begin + count) of the record of which `place` is.
static bool read_range(struct unpack *u, const struct store_place *place, uint32_t part,
                       uint64_t begin, uint64_t count)
{
    bool *checked = &u->checked[place->key * STORE_PARTS + part];
    if (!*checked) {
        *checked = true;
        return store_read(u->store, place->key, 1u << part, u->bytes, NULL);
    }
    return os_file_read_all(NULL, place->fd, u->bytes + begin, count, place->offset + begin,
                            NULL) ||
           fail_read(u, place->key);
}

static bool read_elements(struct unpack *u, const struct store_place *place,
                          enum record_array array, uint32_t matrix, uint64_t begin, uint64_t count)
{
    uint64_t bytes;
    const uint64_t at = experts_record_place(&u->record, array, matrix, &bytes),
                   size = array == RECORD_COMPUTE ? dtype_bytes(u->record.store) : sizeof(float);
    return read_range(u, place, array == RECORD_COMPUTE ? RECORD_WEIGHTS : RECORD_STATE,
                      at + begin * size, count * size);
}

// The record of a stack's expert; false: there is none.
static bool find_expert(const struct unpack *u, const struct model_tensor *t, uint32_t expert,
                        uint32_t *matrix, struct store_place *place)
{
    const struct experts_record *r = &u->record;
    const uint64_t key =
        experts_record_key(r, model_moe_index(u->model, (uint32_t)t->layer), expert);
    *matrix = 0;
    while (r->matrix[*matrix].role != t->role) ++*matrix;
    return store_find(u->store, key, place);
}

static bool get_codes(const struct weights_words *words, uint64_t begin, uint64_t count,
                      uint32_t *values)
{
    struct unpack *u = words->user;
    struct store_place place;
    uint32_t matrix;
    uint64_t bytes;
    if (!find_expert(u, words->of, words->index, &matrix, &place) ||
        !(place.parts >> RECORD_STATE & 1)) {
        memset(values, 0, count * sizeof *values);
        return true;
    }
    const uint64_t at = 4 * begin + experts_record_place(&u->record, RECORD_CODES, matrix, &bytes);
    if (!read_range(u, &place, RECORD_STATE, at, 4 * count)) return false;
    memcpy(values, u->bytes + at, 4 * count);
    return true;
}

static bool get_expert(struct unpack *u, const struct model_tensor *t, uint32_t expert,
                       enum record_array array, uint64_t begin, uint64_t count, float *values)
{
    const struct experts_record *r = &u->record;
    struct store_place place;
    uint32_t matrix;
    if (!find_expert(u, t, expert, &matrix, &place)) {
        if (array == RECORD_MASTER)
            model_init_values(u->model, t, expert * r->matrix[matrix].count + begin, count, values);
        else memset(values, 0, count * sizeof *values);
        return true;
    }
    const bool has_state = place.parts >> RECORD_STATE & 1;
    if (array == RECORD_MASTER && (!has_state || !r->array[RECORD_MASTER])) array = RECORD_COMPUTE;
    if (array != RECORD_COMPUTE && (!has_state || !r->array[array])) {
        memset(values, 0, count * sizeof *values);
        return true;
    }
    if (!read_elements(u, &place, array, matrix, begin, count)) return false;
    experts_record_get(r, u->bytes, array, matrix, begin, count, values);
    return true;
}

static bool get_experts(struct unpack *u, const struct model_tensor *t, enum record_array array,
                        uint64_t begin, uint64_t count, float *values)
{
    const uint64_t size = (uint64_t)t->rows * t->cols;
    while (count) {
        const uint64_t from = begin % size, some = min_u64(count, size - from);
        if (!get_expert(u, t, (uint32_t)(begin / size), array, from, some, values)) return false;
        begin += some, count -= some, values += some;
    }
    return true;
}

static bool get_weights(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                        float *values)
{
    struct unpack *u = user;
    if (t->experts) return get_experts(u, t, RECORD_MASTER, begin, count, values);
    if (u->has_weights) return weights_reader_get(&u->weights, 0, t, begin, count, values);
    model_init_values(u->model, t, begin, count, values);
    return true;
}

static bool get_m(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    struct unpack *u = user;
    return t->experts ? get_experts(u, t, RECORD_M, begin, count, values)
                      : weights_reader_get(&u->optimizer, 0, t, begin, count, values);
}

static bool get_v(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    struct unpack *u = user;
    return t->experts ? get_experts(u, t, RECORD_V, begin, count, values)
                      : weights_reader_get(&u->optimizer, 1, t, begin, count, values);
}

// ---- files

static bool save_weights(struct unpack *u, const char *path)
{
    uint32_t count;
    const struct weights_part part = {.prefix = "", .get = get_weights, .user = u};
    const struct safetensors_metadata *metadata = folder_metadata(&u->weights, &count);
    return weights_save_parts(u->model, path, &part, 1, metadata, count);
}

// Each record's state is read whole for its last word, and so checked.
static bool read_steps(struct unpack *u, struct weights_words *words, uint32_t layers)
{
    for (uint32_t layer = 0; layer < layers; layer++)
        for (uint32_t e = 0; e < words[layer].count; e++) {
            const uint64_t key = experts_record_key(&u->record, layer, e);
            uint32_t held;
            if (!store_read(u->store, key, 1u << RECORD_STATE, u->bytes, &held)) return false;
            if (!held) continue;
            u->checked[key * STORE_PARTS + RECORD_STATE] = true;
            const uint64_t steps = experts_record_steps(&u->record, u->bytes);
            if (steps > UINT32_MAX) log_warn("key %" PRIu64 ": %" PRIu64 " steps", key, steps);
            words[layer].values[e] = (uint32_t)min_u64(steps, UINT32_MAX);
        }
    return true;
}

static bool has_m(const void *user, const struct model_tensor *t)
{
    return model_has_m(((const struct unpack *)user)->model, t);
}

static bool has_v(const void *user, const struct model_tensor *t)
{
    return model_has_v(((const struct unpack *)user)->model, t);
}

static bool save_optimizer(struct unpack *u, const char *path)
{
    uint32_t steps, words_count, count;
    struct weights_words *words =
        optimizer_words(u->model, &u->optimizer, true, u->arena, &steps, &words_count);
    for (uint32_t i = steps; i < words_count; i++)
        if (((const struct model_tensor *)words[i].of)->experts)
            words[i].get = get_codes, words[i].user = u;
    const struct weights_part part[] = {
        {.prefix = "m.", .get = get_m, .user = u, .has = has_m},
        {.prefix = "v.", .get = get_v, .user = u, .has = has_v}};
    const struct weights_state state = {part, 2, words, words_count};
    const struct safetensors_metadata *metadata = folder_metadata(&u->optimizer, &count);
    return read_steps(u, words, steps) &&
           weights_save_state(u->model, path, &state, metadata, count);
}

static bool save_run(struct unpack *u, struct checkpoint *folder)
{
    char *config = config_print(&u->from.config);
    bool ok = checkpoint_run_write(folder, "config.json", config) &&
              folder_copy_run(&u->from, folder, u->arena) &&
              checkpoint_begin(folder, u->from.step) &&
              save_weights(u, checkpoint_path(folder, "model.safetensors"));
    free(config);
    if (ok && u->has_optimizer)
        ok = save_optimizer(u, checkpoint_path(folder, "optimizer.safetensors"));
    if (ok) folder_copy_state(&u->from, folder, u->arena);
    return ok && checkpoint_commit(folder);
}

static bool unpack_folder(struct unpack *u, const char *out)
{
    struct checkpoint_found found;
    struct checkpoint *folder = checkpoint_open_keeping(out, 0);
    bool ok = folder != NULL;
    if (ok && checkpoint_find(out, &found)) {
        log_error("%s: holds a run at step %llu; choose another --out", out,
                  (unsigned long long)found.step);
        ok = false;
    }
    ok = ok && save_run(u, folder);
    checkpoint_close(&folder);
    return ok;
}

static bool is_file_name(const char *out)
{
    static const char end[] = ".safetensors";
    const size_t length = strlen(out);
    return length > sizeof end - 1 && strcmp(out + length - (sizeof end - 1), end) == 0;
}

static void report_store(const struct unpack *u, const struct store_stats *before,
                         struct experts_report *report)
{
    const struct store_stats stats = store_stats(u->store);
    *report = (struct experts_report){.parameters = u->model->parameters,
                                      .experts = u->record.keys,
                                      .records = stats.live,
                                      .step = u->from.step,
                                      .record_bytes = u->record.bytes,
                                      .bytes = before->bytes,
                                      .bytes_after = stats.bytes,
                                      .dead = stats.kept};
}

bool experts_unpack(const char *dir, const char *out, struct experts_report *report)
{
    struct unpack u = {.arena = arena_create("unpack")};
    bool ok = open_model(&u, dir) && open_dense(&u) && open_records(&u, NULL, 0);
    if (ok) {
        u.checked = os_alloc(u.record.keys * STORE_PARTS * sizeof *u.checked);
        u.bytes = os_alloc(u.record.bytes);
        ok = is_file_name(out) ? save_weights(&u, out) : unpack_folder(&u, out);
    }
    if (ok) report_store(&u, &(struct store_stats){0}, report);
    close_unpack(&u);
    return ok;
}

// ---- compaction

enum { MOVED_AT_ONCE = 64 };

static bool compact_all(struct unpack *u, const char *const *manifest, uint32_t count)
{
    uint32_t moved;
    do {
        if (!store_compact(u->store, MOVED_AT_ONCE, &moved)) return false;
    } while (moved);
    return store_commit(u->store, u->from.checkpoint) &&
           store_protect(u->store, manifest, count) && store_trim(u->store);
}

bool experts_compact(const char *dir, struct experts_report *report)
{
    struct unpack u = {.arena = arena_create("compact")};
    struct store_stats before = {0};
    struct checkpoint *folder = NULL;
    uint32_t count = 0;
    bool ok = open_model(&u, dir) && (folder = checkpoint_open_keeping(dir, 0));
    const char **manifest = ok ? experts_manifests(u.from.folder, u.arena, &count) : NULL;
    ok = ok && open_records(&u, manifest, count - 1);
    if (ok) before = store_stats(u.store);
    ok = ok && compact_all(&u, manifest, count);
    if (ok) report_store(&u, &before, report);
    close_unpack(&u);
    checkpoint_close(&folder);
    return ok;
}
