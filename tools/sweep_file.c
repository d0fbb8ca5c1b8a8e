// SPDX-License-Identifier: MIT
// The file of a sweep -> struct sweep (sweep.h). Every config is resolved here, so that a wrong key
// in the last run is found before the first is trained.
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/model.h"
#include "tools/sweep.h"

struct reader {
    struct sweep *sweep;
    const cJSON  *root;
    const char   *config; // of runs that name none
};

static bool refuse(const struct reader *r, const char *where, const char *wanted)
{
    log_error("%s: %s: wanted %s", r->sweep->path, where, wanted);
    return false;
}

static bool known_keys(const struct reader *r, const cJSON *object, const char *const *known)
{
    for (const cJSON *item = object->child; item; item = item->next) {
        bool found = false;
        char wanted[200] = "one of";
        for (int i = 0; known[i]; i++) {
            const size_t used = strlen(wanted);
            found |= strcmp(item->string, known[i]) == 0;
            snprintf(wanted + used, sizeof wanted - used, " %s", known[i]);
        }
        if (!found) return refuse(r, item->string, wanted);
    }
    return true;
}

static const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

// A config's path as it stands in the file, from where the file lies.
static const char *beside(const struct reader *r, const char *config)
{
    const char *slash = strrchr(r->sweep->path, '/');
    if (config[0] == '/' || !slash) return arena_strdup(r->sweep->arena, config);
    return arena_printf(r->sweep->arena, "%.*s/%s", (int)(slash - r->sweep->path), r->sweep->path,
                        config);
}

// ---- lists

static bool read_data(struct reader *r)
{
    struct sweep *s = r->sweep;
    const cJSON *data = get(r->root, "data"), *item;
    if (!data) s->data[s->data_count++] = ".";
    if (data && !cJSON_IsArray(data)) return refuse(r, "data", "an array of paths");
    cJSON_ArrayForEach(item, data)
    {
        if (!cJSON_IsString(item) || s->data_count == (int)COUNT_OF(s->data))
            return refuse(r, "data", "an array of at most 64 paths");
        s->data[s->data_count++] = arena_strdup(s->arena, item->valuestring);
    }
    return s->data_count > 0 || refuse(r, "data", "at least one path");
}

static bool read_seeds(struct reader *r)
{
    struct sweep *s = r->sweep;
    const cJSON *seeds = get(r->root, "seeds"), *item;
    if (seeds && !cJSON_IsArray(seeds)) return refuse(r, "seeds", "an array of whole numbers");
    cJSON_ArrayForEach(item, seeds)
    {
        const double seed = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (seed < 0 || seed > 9e15 || seed != (double)(uint64_t)seed ||
            s->seed_count == SWEEP_MAX_SEEDS)
            return refuse(r, "seeds", "at most 32 whole numbers");
        for (uint32_t i = 0; i < s->seed_count; i++)
            if (s->seed[i] == (uint64_t)seed) return refuse(r, "seeds", "each only once");
        s->seed[s->seed_count++] = (uint64_t)seed;
    }
    if (!s->seed_count) s->seed[s->seed_count++] = 42;
    return true;
}

// "key=value" of each member; those that the sweep itself decides are refused.
static bool read_set(struct reader *r, struct sweep_run *run, const cJSON *set)
{
    if (!set) return true;
    if (!cJSON_IsObject(set)) return refuse(r, "set", "an object of config keys");
    for (const cJSON *item = set->child; item; item = item->next) {
        if (strcmp(item->string, "seed") == 0 || strcmp(item->string, "steps") == 0)
            return refuse(r, item->string, "it beside \"runs\", for all runs are equal in it");
        char *value = cJSON_PrintUnformatted(item);
        run->set[run->set_count++] =
            arena_printf(r->sweep->arena, "%s=%s", item->string, value);
        cJSON_free(value);
    }
    return true;
}

// ---- runs

static bool resolve(struct reader *r, struct sweep_run *run)
{
    struct config config;
    if (!config_read(&config, run->config, (const char *const *)run->set, (int)run->set_count)) {
        log_error("%s: run \"%s\": its config is refused", r->sweep->path, run->name);
        return false;
    }
    struct model *model = model_create(&config, UINT64_MAX);
    if (!model) return false;
    run->parameters = model->parameters;
    run->active = model->active;
    run->experts = config.num_experts;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (model->tensor[i].experts) run->expert_parameters += model->tensor[i].count;
    model_destroy(&model);
    return true;
}

static bool good_name(const char *name)
{
    const size_t length = strlen(name);
    return length > 0 && length < 60 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '|');
}

static bool read_run(struct reader *r, const cJSON *item)
{
    static const char *const known[] = {"name", "config", "set", NULL};
    struct sweep *s = r->sweep;
    if (!cJSON_IsObject(item) || s->run_count == SWEEP_MAX_RUNS)
        return refuse(r, "runs", "an array of at most 64 objects");
    if (!known_keys(r, item, known)) return false;
    const char *name = cJSON_GetStringValue(get(item, "name"));
    const char *config = cJSON_GetStringValue(get(item, "config"));
    if (!name || !good_name(name)) return refuse(r, "runs: name", "a name that a folder may have");
    for (uint32_t i = 0; i < s->run_count; i++)
        if (strcmp(s->run[i].name, name) == 0) return refuse(r, name, "each run's name only once");
    if (!config && !r->config) return refuse(r, name, "a config, here or for all runs");
    const int sets = cJSON_GetArraySize(get(r->root, "set")) + cJSON_GetArraySize(get(item, "set"));
    struct sweep_run *run = &s->run[s->run_count++];
    run->name = arena_strdup(s->arena, name);
    run->config = beside(r, config ? config : r->config);
    run->set = arena_array(s->arena, (size_t)sets + 1, sizeof *run->set);
    run->set[run->set_count++] = arena_printf(s->arena, "steps=%u", s->steps);
    if (!read_set(r, run, get(r->root, "set")) || !read_set(r, run, get(item, "set"))) return false;
    return resolve(r, run);
}

// ---- what shall be equal

static bool read_equal(struct reader *r)
{
    const cJSON *equal = get(r->root, "equal");
    const char *name = equal ? cJSON_GetStringValue(equal) : "";
    if (name && strcmp(name, "parameters") == 0) r->sweep->equal = SWEEP_EQUAL_PARAMETERS;
    else if (name && strcmp(name, "active") == 0) r->sweep->equal = SWEEP_EQUAL_ACTIVE;
    else if (equal) return refuse(r, "equal", "\"parameters\" or \"active\"");
    return true;
}

static uint64_t equal_of(const struct sweep *sweep, const struct sweep_run *run)
{
    return sweep->equal == SWEEP_EQUAL_ACTIVE ? run->active : run->parameters;
}

// The runs with least and most of it.
static void extremes(const struct sweep *s, const struct sweep_run **least,
                     const struct sweep_run **most)
{
    *least = *most = s->run;
    for (uint32_t r = 1; r < s->run_count; r++) {
        if (equal_of(s, &s->run[r]) < equal_of(s, *least)) *least = &s->run[r];
        if (equal_of(s, &s->run[r]) > equal_of(s, *most)) *most = &s->run[r];
    }
}

double sweep_unequal(const struct sweep *sweep)
{
    const struct sweep_run *least, *most;
    extremes(sweep, &least, &most);
    return (double)equal_of(sweep, most) / (double)equal_of(sweep, least) - 1;
}

static bool equal_enough(const struct sweep *s)
{
    const struct sweep_run *least, *most;
    if (!s->equal || sweep_unequal(s) <= 0.03) return true;
    extremes(s, &least, &most);
    log_error("%s: equal: wanted runs within 3 %% of each other, found %llu of \"%s\" and %llu of "
              "\"%s\"",
              s->path, (unsigned long long)equal_of(s, least), least->name,
              (unsigned long long)equal_of(s, most), most->name);
    return false;
}

static bool read_switch(struct reader *r, const char *key, bool *value)
{
    const cJSON *item = get(r->root, key);
    *value = cJSON_IsTrue(item);
    return !item || cJSON_IsBool(item) || refuse(r, key, "true or false");
}

static bool read_all(struct reader *r)
{
    static const char *const known[] = {"about", "config", "data", "steps", "seeds", "inspect",
                                        "optimizer_state", "equal", "tokenizer", "set", "runs",
                                        NULL};
    struct sweep *s = r->sweep;
    if (!known_keys(r, r->root, known)) return false;
    const char *about = cJSON_GetStringValue(get(r->root, "about"));
    s->about = arena_strdup(s->arena, about ? about : "");
    r->config = cJSON_GetStringValue(get(r->root, "config"));
    const char *tokenizer = cJSON_GetStringValue(get(r->root, "tokenizer"));
    if (get(r->root, "tokenizer") && !tokenizer) return refuse(r, "tokenizer", "a path");
    s->tokenizer = tokenizer ? arena_strdup(s->arena, tokenizer) : NULL;
    const cJSON *steps = get(r->root, "steps"), *runs = get(r->root, "runs"), *item;
    const double count = cJSON_IsNumber(steps) ? steps->valuedouble : 0;
    if (!(count >= 1 && count <= 1e9 && count == (double)(uint32_t)count))
        return refuse(r, "steps", "a whole number above 0");
    s->steps = (uint32_t)count;
    if (!cJSON_IsArray(runs) || !runs->child) return refuse(r, "runs", "an array of runs");
    if (!read_switch(r, "inspect", &s->inspect)) return false;
    if (!read_switch(r, "optimizer_state", &s->optimizer_state)) return false;
    if (!read_equal(r) || !read_data(r) || !read_seeds(r)) return false;
    cJSON_ArrayForEach(item, runs) if (!read_run(r, item)) return false;
    return equal_enough(s);
}

static const char *name_of(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return arena_printf(arena, "%.*s", dot && dot != name ? (int)(dot - name) : (int)strlen(name),
                        name);
}

struct sweep *sweep_read(const char *path)
{
    void *text;
    uint64_t bytes;
    if (!file_read(path, 1 << 20, &text, &bytes)) return NULL;
    struct arena *arena = arena_create("sweep");
    struct sweep *sweep = arena_alloc(arena, sizeof *sweep);
    sweep->arena = arena;
    sweep->path = arena_strdup(arena, path);
    sweep->name = name_of(arena, path);
    cJSON *root = cJSON_ParseWithLengthOpts(text, bytes + 1, NULL, true);
    struct reader r = {.sweep = sweep, .root = root};
    const bool ok = cJSON_IsObject(root) ? read_all(&r) : refuse(&r, "the file", "a JSON object");
    cJSON_Delete(root);
    free(text);
    if (!ok) sweep_close(&sweep);
    return sweep;
}

void sweep_close(struct sweep **sweep)
{
    if (!*sweep) return;
    struct arena *arena = (*sweep)->arena;
    arena_destroy(&arena);
    *sweep = NULL;
}
