// SPDX-License-Identifier: MIT
// The public interface: thin, over gpu, params, session and train.
#include "src/vkmoe_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "src/checkpoint.h"
#include "src/experts.h"
#include "src/experts_folder.h"
#include "src/experts_need.h"
#include "src/export.h"
#include "src/train.h"
#include "src/train_paths.h"
#include "src/tune.h"
#include "src/weights.h"

// ---- log

struct log_target { vkmoe_log_fn *callback; void *user; };
static struct log_target log_target; // process-wide, as the header says

static void forward_log(void *user, enum log_level level, const char *line)
{
    (void)user;
    log_target.callback(log_target.user, (enum vkmoe_log_level)level, line);
}

void vkmoe_log_set(vkmoe_log_fn *callback, void *user, enum vkmoe_log_level max_level)
{
    log_target = (struct log_target){callback, user};
    log_set(callback ? forward_log : NULL, NULL, (enum log_level)max_level);
}

// ---- device

static enum gpu_validation validation_of(const struct vkmoe_device_params *params)
{
    if (params->validate_accesses) return GPU_VALIDATION_ACCESSES;
    return params->validate ? GPU_VALIDATION_HAZARDS : GPU_VALIDATION_NONE;
}

struct vkmoe_device *vkmoe_device_open(const struct vkmoe_device_params *params)
{
    struct vkmoe_device *device = calloc(1, sizeof *device);
    device->gpu = gpu_create(&(struct gpu_params){.device = params->device,
                                                  .caps = params->caps,
                                                  .validate = validation_of(params)});
    device->untuned = params->untuned;
    if (device->gpu) device->kernels = kernels_create(device->gpu);
    else vkmoe_device_close(&device);
    return device;
}

void vkmoe_device_close(struct vkmoe_device **device)
{
    if (!*device) return;
    kernels_destroy(&(*device)->kernels);
    if ((*device)->gpu)
        log_debug("memory: at most %llu bytes of the device, %llu of the host for it",
                  (unsigned long long)gpu_memory_account((*device)->gpu, false).peak,
                  (unsigned long long)gpu_memory_account((*device)->gpu, true).peak);
    gpu_destroy(&(*device)->gpu);
    free(*device);
    *device = NULL;
}

const char *vkmoe_device_choice(const struct vkmoe_device *device) { return device->gpu->choice; }

// ---- model

static bool limited(const struct vkmoe_model_params *limits)
{
    return limits->device_budget || limits->expert_slots || limits->cache_policy;
}

// `whole`: an export, whose experts cannot be had one by one.
static bool make_params(struct vkmoe_model *m, const struct config *config, bool whole)
{
    struct gpu *gpu = m->device->gpu;
    m->model = whole ? model_create(config, gpu->caps.max_allocation)
                     : experts_need_model(gpu, config, false, m->in_store || limited(&m->limits));
    if (m->model && model_is_streamed(m->model) && !m->limits.device_budget) {
        m->limits.device_budget = experts_found_budget(gpu);
        gpu_memory_expect(gpu, m->limits.device_budget);
    }
    m->params = m->model ? params_create(m->device->gpu, m->model, false) : NULL;
    m->untuned = !m->device->untuned &&
                 !tune_is_kept(m->device->kernels,
                               &(struct tune_params){.store = config->torch_dtype});
    return m->params != NULL;
}

// Where there are experts, and a limit or a store.
static bool make_experts(struct vkmoe_model *m, const char *path)
{
    struct experts_source source;
    enum cache_policy policy;
    bool prefetch;
    if (!model_is_streamed(m->model)) return true;
    if (!experts_prefetch_parse(m->limits.prefetch, &prefetch) ||
        !cache_policy_parse(m->limits.cache_policy ? m->limits.cache_policy : "lru", &policy) ||
        !(m->in_store ? experts_source_checkpoint(&source, m->model, path)
                      : experts_source_files(&source, m->model, path)))
        return false;
    const uint32_t slots = m->limits.expert_slots;
    m->params->experts =
        experts_create(&(struct experts_params){.gpu = m->device->gpu,
                                                .model = m->model,
                                                .source = source,
                                                .policy = policy,
                                                .prefetch = prefetch,
                                                .budget = slots ? 0 : m->limits.device_budget,
                                                .slots = slots});
    return m->params->experts != NULL;
}

static bool check_tokenizer(const struct vkmoe_model *m, const char *path)
{
    const uint32_t vocab = m->model->config.vocab_size;
    if (!m->tokenizer || tokenizer_count(m->tokenizer) <= vocab) return m->tokenizer != NULL;
    log_error("%s: the tokenizer has %u ids, but vocab_size of the config is %u; the tokenizer of "
              "another model?", path, tokenizer_count(m->tokenizer), vocab);
    return false;
}

static bool load_weights(struct vkmoe_model *m, const char *folder)
{
    struct params_values all = {m->params, PARAMS_MASTER};
    char *path = checkpoint_weights(folder, m->limits.weights);
    const bool ok = path && weights_load(m->model, path, params_put, &all) &&
                    make_experts(m, path);
    free(path);
    return ok;
}

// A checkpoint whose experts lie in the run's store; one that was never trained has no file.
static bool load_store(struct vkmoe_model *m, const char *checkpoint)
{
    char path[4200];
    struct params_values all = {m->params, PARAMS_MASTER};
    snprintf(path, sizeof path, "%s/model.safetensors", checkpoint);
    return (file_exists(path) ? weights_load_dense(m->model, path, params_put, &all)
                              : params_init(m->params)) &&
           make_experts(m, checkpoint);
}

static bool load_folder(struct vkmoe_model *m, const char *folder)
{
    char path[4096];
    struct config config;
    struct checkpoint_found found;
    m->in_store = checkpoint_is_model(m->limits.weights) && checkpoint_find(folder, &found) &&
                  experts_in_store(found.path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    if (!config_read(&config, path, NULL, 0) || !make_params(m, &config, false) ||
        !(m->in_store ? load_store(m, found.path) : load_weights(m, folder)))
        return false;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (!file_exists(path)) return true;
    m->tokenizer = tokenizer_load(path);
    return check_tokenizer(m, path);
}

static bool load_texts(struct vkmoe_model *m, const char *path, const char *config_text,
                       const char *tokenizer_text)
{
    struct config config;
    char name[4096];
    snprintf(name, sizeof name, "%s: config", path);
    if (!config_parse(&config, name, config_text, NULL, 0) || !make_params(m, &config, true))
        return false;
    if (!tokenizer_text) return true;
    snprintf(name, sizeof name, "%s: tokenizer", path);
    m->tokenizer = tokenizer_parse(name, tokenizer_text, strlen(tokenizer_text));
    return check_tokenizer(m, name);
}

static bool load_export(struct vkmoe_model *m, const char *path)
{
    char *config = NULL, *tokenizer = NULL;
    struct export_file *file = export_file_open(path);
    bool ok = file && export_read_texts(file, &config, &tokenizer) &&
              load_texts(m, path, config, tokenizer);
    struct params_values all = {m->params, PARAMS_MASTER};
    ok = ok && export_read_weights(file, m->model, params_put, &all);
    free(config);
    free(tokenizer);
    export_file_close(&file);
    return ok;
}

struct vkmoe_model *vkmoe_model_open(struct vkmoe_device *device, const char *path)
{
    return vkmoe_model_open_with(device, path, &(struct vkmoe_model_params){0});
}

struct vkmoe_model *vkmoe_model_open_with(struct vkmoe_device *device, const char *path,
                                          const struct vkmoe_model_params *params)
{
    struct vkmoe_model *m = calloc(1, sizeof *m);
    m->device = device;
    m->limits = *params;
    gpu_memory_expect(device->gpu, params->device_budget);
    const bool file = file_exists(path) && !folder_is(path);
    if (file && limited(params)) {
        log_error("%s: an export has its experts compressed, so they cannot be loaded one by one; "
                  "give the run folder, or no device budget", path);
        free(m);
        return NULL;
    }
    if (file && !checkpoint_is_model(params->weights)) {
        log_error("%s: an export holds one set of weights; give the run's folder for \"%s\"", path,
                  params->weights);
        free(m);
        return NULL;
    }
    if (!(file ? load_export(m, path) : load_folder(m, path))) vkmoe_model_close(&m);
    return m;
}

void vkmoe_model_close(struct vkmoe_model **model)
{
    if (!*model) return;
    tokenizer_destroy(&(*model)->tokenizer);
    params_destroy(&(*model)->params);
    model_destroy(&(*model)->model);
    free(*model);
    *model = NULL;
}

struct vkmoe_model_info vkmoe_model_info(const struct vkmoe_model *m)
{
    const struct config *c = &m->model->config;
    return (struct vkmoe_model_info){
        .parameters = m->model->parameters,
        .active_parameters = m->model->active,
        .vocab_size = c->vocab_size,
        .max_tokens = c->max_position_embeddings,
        .layers = c->num_hidden_layers,
        .moe_layers = config_moe_layers(c),
        .experts = c->num_experts,
        .experts_per_token = c->router.top_k,
    };
}

size_t vkmoe_model_encode(const struct vkmoe_model *m, const char *text, uint32_t *ids,
                          size_t capacity)
{
    if (!m->tokenizer) return 0;
    struct encoding all = {0};
    const bool ok = tokenizer_encode(m->tokenizer, text, strlen(text), 0, &all);
    const size_t count = ok ? all.count : 0;
    const size_t taken = min_u64(count, capacity);
    if (taken) memcpy(ids, all.id, taken * sizeof *ids);
    encoding_free(&all);
    return count;
}

size_t vkmoe_model_decode(const struct vkmoe_model *m, const uint32_t *ids, size_t count,
                          char *text, size_t capacity)
{
    if (!m->tokenizer) return 0;
    struct bytes out = {0};
    tokenizer_decode(m->tokenizer, ids, count, &out);
    const size_t bytes = out.count;
    if (bytes) memcpy(text, out.data, min_u64(bytes, capacity));
    bytes_free(&out);
    return bytes;
}

uint32_t vkmoe_model_stop_id(const struct vkmoe_model *m)
{
    return m->tokenizer ? tokenizer_eot(m->tokenizer) : TOKENIZER_NONE;
}

static bool check_ids(const struct vkmoe_model *m, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] >= m->model->config.vocab_size) {
            log_error("id %u at position %u is not below vocab_size %u", ids[i], i,
                      m->model->config.vocab_size);
            return false;
        }
    return true;
}

bool vkmoe_model_logits(struct vkmoe_model *m, const uint32_t *ids, uint32_t count, float *logits)
{
    return check_ids(m, ids, count) &&
           session_all_logits(m->device->gpu, m->device->kernels, m->params, ids, count, logits);
}

// ---- session

struct vkmoe_session *vkmoe_session_open(struct vkmoe_model *model, uint32_t capacity)
{
    if (model->params->experts && model->sessions) {
        log_error("a model with experts that come and go has one session at a time");
        return NULL;
    }
    struct vkmoe_session *s = calloc(1, sizeof *s);
    struct kernels *kernels = model->device->kernels;
    bool changed = false, ok = true;
    s->model = model;
    model->sessions++;
    s->session = session_create(model->device->gpu, kernels, model->params, capacity);
    if (s->session && model->untuned) { // the first use of this device
        ok = tune_at_start(kernels, model->params->store, false, &changed);
        model->untuned = false;
    }
    if (ok && changed) {
        session_destroy(&s->session);
        s->session = session_create(model->device->gpu, kernels, model->params, capacity);
    }
    if (!ok || !s->session) vkmoe_session_close(&s);
    return s;
}

void vkmoe_session_close(struct vkmoe_session **session)
{
    if (!*session) return;
    (*session)->model->sessions--;
    session_destroy(&(*session)->session);
    free(*session);
    *session = NULL;
}

bool vkmoe_session_feed(struct vkmoe_session *s, const uint32_t *ids, uint32_t count)
{
    return check_ids(s->model, ids, count) && session_feed(s->session, ids, count);
}

bool vkmoe_session_sample(struct vkmoe_session *s, const struct vkmoe_sampling *sampling,
                          uint32_t *id)
{
    if (session_position(s->session) == 0) {
        log_error("nothing was fed to the session yet: the first id needs a context (feed the stop "
                  "id to begin a text)");
        return false;
    }
    const struct session_sampling full = {
        .temperature = sampling->temperature,
        .top_k = sampling->top_k,
        .top_p = sampling->top_p > 0 ? sampling->top_p : 1,
        .repetition_penalty = sampling->repetition_penalty > 0 ? sampling->repetition_penalty : 1,
        .seed = sampling->seed,
    };
    return session_sample(s->session, &full, id);
}

bool vkmoe_session_logits(struct vkmoe_session *s, float *logits)
{
    return session_read_logits(s->session, logits);
}
uint32_t vkmoe_session_position(const struct vkmoe_session *s)
{
    return session_position(s->session);
}
void vkmoe_session_reset(struct vkmoe_session *s) { session_reset(s->session); }

// ---- training

// What was given, else that of the run that goes on, else the text of the current folder.
static bool train_on_paths(struct train_params *params, struct train_outcome *done)
{
    static const char *const here[] = {"."};
    struct train_paths own = {0};
    bool ok = params->data_count || !params->resume || train_paths_read(params->out, &own);
    if (params->data_count == 0) {
        params->data = own.count ? own.path : here;
        params->data_count = own.count ? own.count : 1;
    }
    ok = ok && train_run(params, done);
    train_paths_free(&own);
    return ok;
}

bool vkmoe_train(const struct vkmoe_train_params *p, struct vkmoe_train_outcome *outcome)
{
    struct config config;
    struct train_outcome done;
    if (!config_read(&config, p->config, p->set, p->set_count)) return false;
    if (p->steps) config.steps = p->steps;
    struct train_streaming streaming = {
        .asked = p->device_budget || p->expert_slots || p->cache_policy ||
                 (p->host_budget && config_moe_layers(&config)),
        .device_budget = p->device_budget,
        .host_budget = p->host_budget,
        .slots = p->expert_slots};
    if (!cache_policy_parse(p->cache_policy ? p->cache_policy : "least-stale", &streaming.policy) ||
        !experts_prefetch_parse(p->prefetch, &streaming.prefetch))
        return false;
    struct train_params params = {
        .config = &config,
        .data = p->data,
        .data_count = p->data_count,
        .out = p->out,
        .tokenizer = p->tokenizer,
        .resume = p->resume,
        .gpu = {.device = p->device.device,
                .caps = p->device.caps,
                .validate = validation_of(&p->device)},
        .check = p->check,
        .quiet = p->quiet,
        .untuned = p->device.untuned,
        .streaming = streaming,
    };
    if (!train_on_paths(&params, &done)) return false;
    *outcome = (struct vkmoe_train_outcome){
        .steps = done.steps,
        .interrupted = done.interrupted,
        .loss = done.loss,
        .held_out_bpb = done.held_out_bpb,
        .order0_bpb = done.order0_bpb,
        .bigram_bpb = done.bigram_bpb,
    };
    return true;
}
