// SPDX-License-Identifier: MIT
// Weights, optimizer, store and the loop's state in and out of a checkpoint: see
// train_checkpoint.h.
#include "src/train_checkpoint.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"
#include "src/experts_folder.h"
#include "src/optimizer_state.h"
#include "src/weights.h"

// ---- the store

enum { TIDY_BYTES = 64 << 20, TIDY_SHARE = 4 }; // moved at once; spare places: a share of the live

struct train_store {
    struct experts_record record;
    struct store         *store;
    char                 *dir, *folder; // of the run, of the segments
    bool                  committed;    // a checkpoint names it
};

static const char **manifests_of(const struct train_store *s, struct arena *arena,
                                 uint32_t *count)
{
    return experts_manifests(s->dir, arena, count);
}

// The store of the newest checkpoint, or a new one.
static bool open_records(struct train_store *s, const char *from)
{
    struct arena *arena = arena_create("manifests");
    struct store_params params;
    char *identity = experts_record_params(&s->record, &params);
    params.folder = s->folder;
    params.kept = manifests_of(s, arena, &params.kept_count);
    s->store = from ? store_open(arena_printf(arena, "%s/" EXPERTS_MANIFEST, from), &params, true)
                    : store_create(&params);
    free(identity);
    arena_destroy(&arena);
    return s->store != NULL;
}

struct train_store *train_store_open(const struct model *model, const char *dir, const char *from)
{
    struct train_store *s = os_alloc(sizeof *s);
    struct bytes folder = {0};
    bytes_printf(&folder, "%s/" EXPERTS_FOLDER, dir);
    s->dir = os_strdup(dir);
    s->folder = (char *)folder.data;
    s->committed = from != NULL;
    if (!experts_record_init(&s->record, model, RECORD_STATE_WHOLE) || !open_records(s, from))
        train_store_close(&s);
    return s;
}

void train_store_close(struct train_store **store)
{
    struct train_store *s = *store;
    if (!s) return;
    struct arena *arena = arena_create("manifests");
    uint32_t count;
    const char **manifest = manifests_of(s, arena, &count);
    if (s->committed) store_close(&s->store);
    else store_discard(&s->store, manifest, count);
    arena_destroy(&arena);
    free(s->dir), free(s->folder);
    free(s);
    *store = NULL;
}

struct experts_source train_store_source(struct train_store *s)
{
    struct experts_source source;
    experts_source_store(&source, s->store);
    source.close = NULL; // it is ours
    return source;
}

// Between two checkpoints every record may be written once more, into the places that the one
// before has left: so many free places are no waste. What is more goes back to the file system, a
// bounded part of it at each checkpoint.
static bool tidy(struct train_store *s)
{
    const struct store_stats stats = store_stats(s->store);
    const uint64_t spare = stats.free - min_u64(stats.free, stats.live),
                   most = max_u64(TIDY_BYTES / store_record_bytes(s->store), 1);
    uint32_t moved = 0;
    if (spare * TIDY_SHARE < stats.live) return true;
    return store_compact(s->store, (uint32_t)min_u64(spare, most), &moved) && store_trim(s->store);
}

struct store *train_store_records(struct train_store *s) { return s ? s->store : NULL; }

bool train_store_keep(struct train_store *s)
{
    if (!s) return true;
    struct arena *arena = arena_create("manifests");
    uint32_t count;
    const char **manifest = manifests_of(s, arena, &count);
    const bool ok = store_protect(s->store, manifest, count) && tidy(s);
    s->committed = true;
    arena_destroy(&arena);
    return ok;
}

// How many steps each expert took stands on the device for all of them. Only these words are read:
// the record is checked when the expert is loaded.
static bool read_steps(const struct train_store *s, uint64_t first, uint64_t count,
                       uint32_t *steps)
{
    for (uint64_t i = 0; i < count; i++) {
        struct store_place place;
        uint64_t own = 0;
        steps[i] = 0;
        if (!store_find(s->store, first + i, &place) || !(place.parts >> RECORD_STATE & 1))
            continue;
        if (!os_file_read_all(NULL, place.fd, &own, sizeof own, place.offset + s->record.steps,
                              NULL)) {
            log_error("%s: cannot read the steps of key %llu: %s", s->folder,
                      (unsigned long long)(first + i), os_file_reason(errno));
            return false;
        }
        steps[i] = (uint32_t)min_u64(own, UINT32_MAX);
    }
    return true;
}

static bool load_steps(const struct train_values *v)
{
    const uint32_t experts = v->params->model->config.num_experts;
    const uint64_t layers = v->store->record.keys / experts;
    uint32_t *steps = os_alloc(experts * sizeof *steps);
    bool ok = true;
    for (uint32_t layer = 0; ok && layer < layers; layer++)
        ok = read_steps(v->store, (uint64_t)layer * experts, experts, steps) &&
             params_write_steps(v->params, layer, steps);
    free(steps);
    return ok;
}

// ---- loading

// A model that was never trained has no files but those of its store.
static bool load_beside_store(const struct train_values *v, const char *weights,
                              const char *optimizer)
{
    struct params_values master = {v->params, PARAMS_MASTER};
    return (file_exists(weights)
                ? weights_load_dense(v->params->model, weights, params_put, &master)
                : params_init(v->params)) &&
           (!file_exists(optimizer) || optimizer_state_load(v->params, optimizer)) &&
           load_steps(v);
}

bool train_values_load(const struct train_values *v, const char *checkpoint)
{
    const struct model *model = v->params->model;
    struct arena *arena = arena_create("checkpoint");
    const char *weights = arena_printf(arena, "%s/model.safetensors", checkpoint),
               *optimizer = arena_printf(arena, "%s/optimizer.safetensors", checkpoint),
               *average = arena_printf(arena, "%s/average.safetensors", checkpoint);
    struct params_values master = {v->params, PARAMS_MASTER}, mean = {v->params, PARAMS_AVERAGE};
    const bool ok = (v->store ? load_beside_store(v, weights, optimizer)
                              : weights_load(model, weights, params_put, &master) &&
                                    optimizer_state_load(v->params, optimizer)) &&
                    (!v->averaged || weights_load(model, average, params_put, &mean));
    arena_destroy(&arena);
    return ok;
}

// ---- saving

static bool is_here(const void *user, const struct model_tensor *t)
{
    (void)user;
    return !t->streamed;
}

static bool save_store(const struct train_values *v, struct checkpoint *folder)
{
    if (!v->store) return true;
    char *path = os_strdup(checkpoint_path(folder, "."));
    const bool ok = experts_flush(v->params->experts) && store_commit(v->store->store, path);
    free(path);
    return ok;
}

bool train_values_save(const struct train_values *v, struct checkpoint *folder, uint32_t step)
{
    const struct model *model = v->params->model;
    char text[16];
    snprintf(text, sizeof text, "%u", step);
    const struct safetensors_metadata metadata[] = {{"format", "pt"}, {"step", text}};
    struct params_values master = {v->params, PARAMS_MASTER}, mean = {v->params, PARAMS_AVERAGE};
    const struct weights_part part = {
        .prefix = "", .get = params_get, .user = &master, .has = is_here};
    return weights_save_parts(model, checkpoint_path(folder, "model.safetensors"), &part, 1,
                              metadata, 2) &&
           optimizer_state_save(v->params, checkpoint_path(folder, "optimizer.safetensors"),
                                metadata, 2) &&
           (!v->averaged ||
            weights_save(model, checkpoint_path(folder, "average.safetensors"), params_get,
                         &mean, metadata, 2)) &&
           save_store(v, folder);
}

// ---- the loop

bool train_state_write(const struct train_state *state, struct checkpoint *folder)
{
    char *routing = routing_print(state->routing);
    struct bytes text = {0};
    bytes_printf(&text,
                 "{\"step\": %u, \"windows\": %llu, \"seed\": %llu, \"data\": \"%016llx\", "
                 "\"routing\": %s}\n",
                 state->step, (unsigned long long)state->windows,
                 (unsigned long long)state->config->seed,
                 (unsigned long long)data_fingerprint(state->data), routing);
    text.count -= 2; // "}\n"
    if (state->config->max_train_seconds > 0) // the clock of the whole run
        bytes_printf(&text, ", \"seconds\": %.3f", state->seconds);
    if (state->averaged)
        bytes_printf(&text, ", \"averaged\": %llu", (unsigned long long)state->averaged);
    if (state->curriculum) {
        char *curriculum = curriculum_print(state->curriculum);
        bytes_printf(&text, ", \"curriculum\": %s", curriculum);
        free(curriculum);
    }
    bytes_printf(&text, "}\n");
    const bool ok = checkpoint_write(folder, "state.json", (const char *)text.data);
    bytes_free(&text);
    free(routing);
    return ok;
}

// One that begins on top of steps without any begins afresh.
static bool parse_curriculum(struct train_state *state, const char *path, const cJSON *json)
{
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(json, "curriculum");
    return !state->curriculum || !own || curriculum_parse(state->curriculum, path, own);
}

static bool parse_state(struct train_state *state, const char *path, const cJSON *json)
{
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(json, "step");
    const cJSON *windows = cJSON_GetObjectItemCaseSensitive(json, "windows");
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(json, "data");
    const bool untrained = cJSON_IsNull(data); // vkmoe init or pack made it
    if (!cJSON_IsNumber(step) || !cJSON_IsNumber(windows) ||
        !(cJSON_IsString(data) || untrained)) {
        log_error("%s: not a training state (step, windows and data are wanted)", path);
        return false;
    }
    state->step = (uint32_t)step->valuedouble;
    state->windows = (uint64_t)windows->valuedouble;
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(json, "seconds");
    if (cJSON_IsNumber(seconds)) state->seconds = fmax(seconds->valuedouble, 0);
    const cJSON *averaged = cJSON_GetObjectItemCaseSensitive(json, "averaged");
    if (cJSON_IsNumber(averaged) && config_averages(state->config))
        state->averaged = (uint64_t)fmax(averaged->valuedouble, 0);
    const cJSON *routing = cJSON_GetObjectItemCaseSensitive(json, "routing");
    const bool any = routing && !cJSON_IsNull(routing);
    if (any && !routing_parse(state->routing, routing))
        log_warn("%s: \"routing\" is of another model; experts count as never used", path);
    if (untrained || strtoull(data->valuestring, NULL, 16) == data_fingerprint(state->data))
        return parse_curriculum(state, path, json);
    log_error("%s: the run was trained on other data, another split or another seq_len; give "
              "--data as in the first part of the run",
              path);
    return false;
}

bool train_state_read(struct train_state *state, const char *checkpoint)
{
    char path[4200];
    void *text;
    uint64_t bytes;
    snprintf(path, sizeof path, "%s/state.json", checkpoint);
    if (!file_read(path, 64 << 20, &text, &bytes)) return false;
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const bool ok = parse_state(state, path, json);
    cJSON_Delete(json);
    free(text);
    return ok;
}
