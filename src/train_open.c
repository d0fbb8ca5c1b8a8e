// SPDX-License-Identifier: MIT
// What a training run opens, in the order that it needs it: data, device, folder, model, plans
// within the budget and with the fastest kernels, files; and what of it it closes.
#include "src/train_run.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/corpus_mix.h"
#include "src/data_chat.h"
#include "src/experts_fit.h"
#include "src/experts_folder.h"
#include "src/experts_need.h"
#include "src/fct_render.h"
#include "src/fct_source.h"
#include "src/train_host.h"
#include "src/train_paths.h"
#include "src/tune.h"

// The one that was asked for, that of the run that goes on, or bytes.
static struct tokenizer *choose_tokenizer(const struct train_params *p, bool *bytes)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/tokenizer.json", p->out);
    *bytes = false;
    if (p->tokenizer) return tokenizer_load(p->tokenizer);
    if (p->resume && file_exists(path)) return tokenizer_load(path);
    *bytes = true;
    return tokenizer_create_bytes();
}

static void extend(struct run_state *r, const char *const *tags, uint32_t count)
{
    struct tokenizer *tagged = tokenizer_extend(r->tokenizer, tags, count);
    tokenizer_destroy(&r->tokenizer);
    r->tokenizer = tagged;
}

// With the tags that the documents of some path are rendered with, where it lacks them.
static void add_tags(struct run_state *r)
{
    for (int i = 0; r->tokenizer && i < r->params->data_count; i++) {
        const char *path = corpus_path(r->params->data[i]);
        if (chat_is_there(path) && chat_tag_missing(r->tokenizer))
            extend(r, chat_tags, CHAT_TAGS);
        if (fct_is(path) && fct_tag_missing(r->tokenizer))
            extend(r, fct_tags, FCT_TAG_TOKENS);
    }
}

// The tokenizer, where the vocabulary has room for it; ids do without.
static bool open_tokenizer(struct run_state *r)
{
    const struct train_params *p = r->params;
    bool text = p->data_count == 0, bytes;
    for (int i = 0; i < p->data_count; i++) text |= !data_without_text(corpus_path(p->data[i]));
    r->tokenizer = choose_tokenizer(p, &bytes);
    add_tags(r);
    if (!r->tokenizer) return false;
    const uint32_t least = tokenizer_count(r->tokenizer);
    if (r->config->vocab_size >= least) {
        if (!bytes) log_info("tokenizer: %s", tokenizer_summary(r->tokenizer));
        return true;
    }
    tokenizer_destroy(&r->tokenizer);
    if (!text && bytes) return true;
    log_error("vocab_size: found %u, wanted at least %u, the %s; or ids as --data, which need no "
              "tokenizer: ids:random, .bin shards", r->config->vocab_size, least,
              bytes ? "byte-level tokenizer's 256 bytes, special tokens and tags"
                    : "ids of the tokenizer");
    return false;
}

struct data_params train_data_params(const struct run_state *r)
{
    const struct config *c = r->config;
    return (struct data_params){.path = r->params->data,
                                .path_count = r->params->data_count,
                                .tokenizer = r->tokenizer,
                                .vocab_size = c->vocab_size,
                                .seq_len = c->seq_len,
                                .copy = c->task == CONFIG_COPY,
                                .packing = (enum data_packing)c->packing,
                                .boundaries = c->document_boundaries,
                                .fct_control = c->fct_control,
                                .held_out_fraction = c->held_out_fraction,
                                .seed = c->seed,
                                .corpus = &c->corpus};
}

static bool open_data(struct run_state *r)
{
    if (!open_tokenizer(r)) return false;
    const struct data_params params = train_data_params(r);
    r->data = data_open(&params);
    if (r->data) log_info("%s", data_summary(r->data));
    return r->data && train_curriculum_open(r);
}

// What a resumed run computed with, so that it computes the same bytes: true where it could be
// taken. Else what was measured on this device before, if anything.
static bool take_kernels(struct run_state *r)
{
    char path[4200];
    void *text = NULL;
    uint64_t bytes;
    snprintf(path, sizeof path, "%s/kernels.json", r->params->out);
    if (r->params->resume && file_exists(path) && file_read(path, 1 << 20, &text, &bytes)) {
        const bool taken = tune_take(r->kernels, text, bytes);
        free(text);
        if (taken) return true;
        log_info("%s: of another device or version: from here on results may differ in rounding",
                 path);
    }
    if (!r->params->untuned)
        tune_is_kept(r->kernels, &(struct tune_params){.store = r->config->torch_dtype});
    return false;
}

static void drop_plans(void *user)
{
    struct run_state *r = user;
    evaluator_destroy(&r->evaluator);
    trainer_destroy(&r->trainer);
}

static bool make_plans_for(void *user, uint32_t slots, bool state_out)
{
    struct run_state *r = user;
    const struct train_streaming *s = &r->params->streaming;
    const struct experts_params experts = {
        .source = r->store ? train_store_source(r->store) : (struct experts_source){0},
        .policy = s->policy,
        .prefetch = s->prefetch,
        .slots = slots,
        .state_out = state_out,
        .budget = r->slots_budget};
    r->trainer = r->store ? trainer_create_streamed(r->gpu, r->kernels, r->model, &experts)
                          : trainer_create(r->gpu, r->kernels, r->model);
    if (!r->trainer) return false;
    r->evaluator = evaluator_create(r->gpu, r->kernels, trainer_params(r->trainer),
                                    r->config->batch_size, r->config->seq_len);
    return r->evaluator != NULL;
}

static bool plans_fit(void *user, uint32_t *slots)
{
    const struct run_state *r = user;
    return experts_fit(trainer_params(r->trainer)->experts, slots);
}

static uint64_t plans_held(void *user)
{
    const struct run_state *r = user;
    return gpu_memory_account(r->gpu, false).held;
}

static bool make_plans(struct run_state *r)
{
    const struct experts_fit_plans plans = {.budget = r->slots_budget,
                                            .make = make_plans_for,
                                            .drop = drop_plans,
                                            .fits = plans_fit,
                                            .held = plans_held,
                                            .user = r};
    return experts_fit_plans(&plans, r->params->streaming.slots);
}

// Plans, and the kernels that are the fastest for what they ask for.
static bool make_tuned_plans(struct run_state *r, bool settled)
{
    bool changed = false;
    if (!make_plans(r)) return false;
    if (settled || r->params->untuned) return true;
    if (!tune_at_start(r->kernels, r->config->torch_dtype, r->params->quiet, &changed))
        return false;
    if (!changed) return true;
    drop_plans(r);
    return make_plans(r);
}

static bool open_device(struct run_state *r)
{
    r->gpu = gpu_create(&r->params->gpu);
    if (!r->gpu) return false;
    log_info("%s", r->gpu->choice);
    gpu_memory_expect(r->gpu, r->params->streaming.device_budget);
    r->kernels = kernels_create(r->gpu);
    return true;
}

static bool open_folder(struct run_state *r)
{
    const char *out = r->params->out;
    r->folder = checkpoint_open_keeping(out, r->config->save_total_limit);
    if (!r->folder) return false;
    const bool there = checkpoint_find(out, &r->found);
    if (!there) r->found.path[0] = 0;
    if (there && !r->params->resume) {
        log_error("%s holds a run at step %llu; go on with --resume or choose another --out", out,
                  (unsigned long long)r->found.step);
        return false;
    }
    if (r->params->resume && !there) log_info("%s: nothing to resume, starting at step 0", out);
    return true;
}

// The tensor table, and where experts come and go the store that they do it from.
static bool open_model(struct run_state *r)
{
    const char *from = r->found.path[0] ? r->found.path : NULL;
    const bool stored = from && experts_in_store(from),
               asked = stored || r->params->streaming.asked;
    if (asked && from && !stored) {
        log_error("%s: its experts lie in model.safetensors, so they cannot come and go; make a "
                  "folder whose experts lie in a store with vkmoe pack %s --out DIR, and resume "
                  "that", from, r->params->out);
        return false;
    }
    r->model = from && !stored ? model_create(r->config, r->gpu->caps.max_allocation)
                               : experts_need_model(r->gpu, r->config, true, asked);
    if (!r->model) return false;
    log_info("%llu parameters, %llu active a token", (unsigned long long)r->model->parameters,
             (unsigned long long)r->model->active);
    if (!asked && !model_is_streamed(r->model)) return true;
    const struct train_streaming *s = &r->params->streaming;
    const uint64_t budget = s->device_budget ? s->device_budget : experts_found_budget(r->gpu);
    gpu_memory_expect(r->gpu, budget);
    if (!s->slots) r->slots_budget = budget;
    r->store = train_store_open(r->model, r->params->out, from);
    return r->store != NULL;
}

static bool open_trainer(struct run_state *r)
{
    if (!make_tuned_plans(r, take_kernels(r))) return false;
    if (trainer_params(r->trainer)->state_memory != GPU_MEMORY_DEVICE)
        log_info("the device budget leaves no room for what the optimizer keeps of the weights "
                 "beside the experts: it lies in host memory, and the device reads it there");
    const struct kernels_report report = kernels_report(r->kernels);
    log_debug("self-test: %u kernels in %.0f ms, %u wrong", report.tested, report.test_ms,
              report.wrong);
    return r->found.path[0] ? train_load(r) : params_init(trainer_params(r->trainer));
}

static bool open_trace(struct run_state *r)
{
    const char *domain[TRACE_DOMAINS_MOST];
    const uint32_t domains = min_u32(data_domain_count(r->data), COUNT_OF(domain));
    for (uint32_t d = 0; d < domains; d++) domain[d] = data_domain_name(r->data, d);
    struct trace_params params = {.path = checkpoint_run_path(r->folder, "routing.trace"),
                                  .config = r->config, .domain = domain, .domains = domains,
                                  .last_step = r->step};
    r->trace = trace_create(&params);
    if (!r->trace || !r->store) return r->trace != NULL;
    params.path = checkpoint_run_path(r->folder, "residency.trace");
    params.residency = true;
    r->residency = trace_create(&params);
    return r->residency != NULL;
}

static bool write_run_files(struct run_state *r)
{
    char *config = config_print(r->config);
    bool ok = checkpoint_run_write(r->folder, "config.json", config) &&
              (!r->tokenizer ||
               tokenizer_save(r->tokenizer, checkpoint_run_path(r->folder, "tokenizer.json")));
    free(config);
    char *kernels = tune_print(r->kernels);
    ok = ok && checkpoint_run_write(r->folder, "kernels.json", kernels);
    free(kernels);
    char *paths = train_paths_print(r->params->data, r->params->data_count);
    ok = ok && checkpoint_run_write(r->folder, "data.json", paths);
    free(paths);
    if (!ok) return false;
    r->metrics = metrics_open(checkpoint_run_path(r->folder, "metrics.jsonl"), r->step);
    if (!r->metrics || !config_moe_layers(r->config) || !r->config->trace_mib)
        return r->metrics != NULL;
    return open_trace(r);
}

static void make_batch(struct run_state *r)
{
    const size_t tokens = (size_t)r->config->batch_size * r->config->seq_len;
    r->batch = calloc(r->config->gradient_accumulation_steps, sizeof *r->batch);
    for (uint32_t i = 0; i < r->config->gradient_accumulation_steps; i++) {
        r->batch[i].ids = calloc(tokens, sizeof(uint32_t));
        r->batch[i].targets = calloc(tokens, sizeof(uint32_t));
        if (r->config->document_boundaries) r->batch[i].begins = calloc(tokens, sizeof(uint32_t));
    }
    r->layers = calloc(config_moe_layers(r->config) + 1, sizeof *r->layers);
}

// All is open, and no step was made yet.
static bool host_fits(const struct run_state *r)
{
    const uint64_t budget = r->params->streaming.host_budget;
    return train_host_fits(&(struct train_host){.gpu = r->gpu,
                                                .params = trainer_params(r->trainer),
                                                .data = r->data,
                                                .store = train_store_records(r->store),
                                                .budget = budget,
                                                .given = budget > 0});
}

bool train_open(struct run_state *r)
{
    r->routing = routing_create(r->config);
    if (!open_data(r) || !open_device(r) || !open_folder(r) || !open_model(r) ||
        !open_trainer(r) || !host_fits(r) || !write_run_files(r))
        return false;
    make_batch(r);
    r->progress = r->params->quiet ? NULL : progress_create(&(struct progress_params){
        .verb = "train", .out = stderr, .first = r->step, .total = r->config->steps});
    return true;
}

void train_close(struct run_state *r)
{
    progress_destroy(&r->progress);
    for (uint32_t i = 0; r->batch && i < r->config->gradient_accumulation_steps; i++) {
        free((void *)r->batch[i].ids);
        free((void *)r->batch[i].targets);
        free((void *)r->batch[i].begins);
    }
    free(r->batch);
    free(r->layers);
    metrics_close(&r->metrics);
    trace_close(&r->trace);
    trace_close(&r->residency);
    routing_destroy(&r->routing);
    evaluator_destroy(&r->evaluator);
    trainer_destroy(&r->trainer);
    train_store_close(&r->store);
    train_curriculum_close(&r->curriculum);
    kernels_destroy(&r->kernels);
    model_destroy(&r->model);
    gpu_destroy(&r->gpu);
    data_close(&r->data);
    tokenizer_destroy(&r->tokenizer);
    checkpoint_close(&r->folder);
}
