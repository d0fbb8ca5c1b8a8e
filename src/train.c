// SPDX-License-Identifier: MIT
// A training run, read from top to bottom: open everything, resume if asked, then step, evaluate,
// save.
#include "src/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/baseline.h"
#include "src/checkpoint.h"
#include "src/evaluator.h"
#include "src/experts_folder.h"
#include "src/metrics.h"
#include "src/progress.h"
#include "src/routing.h"
#include "src/schedule.h"
#include "src/trace.h"
#include "src/train_checkpoint.h"
#include "src/train_host.h"
#include "src/train_layers.h"
#include "src/train_plan.h"
#include "src/trainer.h"
#include "src/tune.h"

struct run_state {
    const struct train_params *params;
    const struct config       *config;
    struct checkpoint         *folder;
    struct tokenizer          *tokenizer;
    struct data               *data;
    struct gpu                *gpu;
    struct kernels            *kernels;
    struct model              *model;
    struct checkpoint_found    found;   // where it goes on from; step 0 without a path: nowhere
    struct train_store        *store;   // of the experts that come and go; NULL: all stay
    struct trainer            *trainer;
    struct evaluator          *evaluator;
    struct metrics            *metrics;
    struct routing            *routing;
    struct trace_writer       *trace, *residency; // NULL: none is wanted
    bool                       planned; // plan.json is written
    uint32_t                   plan_step; // behind which step, and how long it took
    double                     plan_seconds;
    struct train_told          told;    // of residency
    struct progress           *progress;
    struct metrics_layer      *layers;   // of the last collected step
    struct batch              *batch;    // [gradient_accumulation_steps]
    uint32_t                   step;     // submitted
    uint32_t                   first_step; // done before this process
    uint32_t                   saved;    // step of the newest checkpoint
    uint64_t                   windows;  // windows used since the run began: the place in the data
    uint64_t                   run_tokens; // trained on by this process
    double                     metrics_seconds; // of the host: statistics, lines, trace
    double                     began, last_collect;
    double                     seconds;  // of training in the parts of the run before this one
    uint64_t                   averaged; // steps that are in the mean of the weights
    double                     rate[4];  // of steps in flight, by step
    struct train_outcome      *outcome;
};

// ---- checkpoints

static double seconds_of_training(const struct run_state *r)
{
    return r->seconds + (r->began > 0 ? os_seconds() - r->began : 0);
}

static struct train_values values_of(const struct run_state *r)
{
    return (struct train_values){.params = trainer_params(r->trainer),
                                 .store = r->store,
                                 .averaged = r->averaged > 0};
}

static struct train_state state_of(const struct run_state *r)
{
    return (struct train_state){.config = r->config,
                                .data = r->data,
                                .routing = r->routing,
                                .step = r->step,
                                .windows = r->windows,
                                .averaged = r->averaged,
                                .seconds = seconds_of_training(r)};
}

static bool load_checkpoint(struct run_state *r)
{
    struct train_state state = state_of(r);
    if (!train_state_read(&state, r->found.path)) return false;
    r->step = state.step;
    r->windows = state.windows;
    r->averaged = state.averaged;
    r->seconds = state.seconds;
    const struct train_values values = values_of(r);
    if (!train_values_load(&values, r->found.path)) return false;
    r->saved = r->step;
    log_info("resumed at step %u from %s", r->step, r->found.path);
    return true;
}

static bool write_state(struct run_state *r)
{
    const struct train_state state = state_of(r);
    return train_state_write(&state, r->folder);
}

// No step may be in flight.
static bool save(struct run_state *r)
{
    if (r->saved == r->step) return true;
    const struct train_values values = values_of(r);
    if (!checkpoint_begin(r->folder, r->step)) return false;
    if (!train_values_save(&values, r->folder, r->step) || !write_state(r)) {
        checkpoint_abort(r->folder);
        return false;
    }
    if (!checkpoint_commit(r->folder) || !train_store_keep(r->store)) return false;
    r->saved = r->step;
    return true;
}

// ---- opening

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

// The tokenizer, where the vocabulary has room for it; ids do without.
static bool open_tokenizer(struct run_state *r)
{
    const struct train_params *p = r->params;
    bool text = p->data_count == 0, bytes;
    for (int i = 0; i < p->data_count; i++) text |= !data_without_text(p->data[i]);
    r->tokenizer = choose_tokenizer(p, &bytes);
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
              bytes ? "byte-level tokenizer's 256 bytes and special tokens"
                    : "ids of the tokenizer");
    return false;
}

static bool open_data(struct run_state *r)
{
    const struct train_params *p = r->params;
    if (!open_tokenizer(r)) return false;
    r->data = data_open(&(struct data_params){.path = p->data,
                                              .path_count = p->data_count,
                                              .tokenizer = r->tokenizer,
                                              .vocab_size = r->config->vocab_size,
                                              .seq_len = r->config->seq_len,
                                              .copy = r->config->task == CONFIG_COPY,
                                              .held_out_fraction = r->config->held_out_fraction,
                                              .seed = r->config->seed});
    if (r->data) log_info("%s", data_summary(r->data));
    return r->data != NULL;
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

static void drop_plans(struct run_state *r)
{
    evaluator_destroy(&r->evaluator);
    trainer_destroy(&r->trainer);
}

static bool make_plans_for(struct run_state *r, uint32_t slots, bool state_out)
{
    const struct train_streaming *s = &r->params->streaming;
    const struct experts_params experts = {
        .source = r->store ? train_store_source(r->store) : (struct experts_source){0},
        .policy = s->policy,
        .prefetch = s->prefetch,
        .slots = slots,
        .state_out = state_out,
        .budget = s->slots          ? 0
                  : s->device_budget ? s->device_budget
                                     : r->gpu->caps.heap_bytes};
    r->trainer = r->store ? trainer_create_streamed(r->gpu, r->kernels, r->model, &experts)
                          : trainer_create(r->gpu, r->kernels, r->model);
    if (!r->trainer) return false;
    r->evaluator = evaluator_create(r->gpu, r->kernels, trainer_params(r->trainer),
                                    r->config->batch_size, r->config->seq_len);
    return r->evaluator != NULL;
}

static bool is_over(const struct run_state *r, uint64_t budget)
{
    return budget && gpu_memory_account(r->gpu, false).held > budget;
}

// What all else takes is known once it is there, and some of it grows with the slots: with one slot
// first, then with a few less than seem to fit, then with as many as the first two tell; from then
// on fewer, if any other number. Where not even one has room the optimizer's state makes some.
static bool make_plans(struct run_state *r)
{
    uint32_t slots = max_u32(r->params->streaming.slots, 1);
    uint64_t least = 0; // held with one slot
    bool state_out = false;
    for (uint32_t round = 0;; round++) {
        uint32_t fit = 0;
        if (!make_plans_for(r, slots, state_out)) return false;
        const struct experts *x = trainer_params(r->trainer)->experts;
        if (round == 0 && x && !state_out && is_over(r, x->budget)) {
            drop_plans(r);
            state_out = true;
            if (!make_plans_for(r, slots, state_out)) return false;
            x = trainer_params(r->trainer)->experts;
        }
        if (experts_fit(x, &fit) || (round > 1 && fit >= slots)) return true;
        const uint64_t held = gpu_memory_account(r->gpu, false).held, most = x->budget;
        const bool two = slots > 1 && held > least && most > least;
        drop_plans(r);
        if (fit == 0) return false;
        if (round == 0) least = held;
        if (two) fit = (uint32_t)(1 + (most - least) * (slots - 1) / (held - least));
        slots = round == 0 ? max_u32(fit - fit / 8, 1) : round > 1 ? min_u32(fit, slots - 1) : fit;
    }
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
    const uint64_t most = r->gpu->caps.max_allocation;
    const char *from = r->found.path[0] ? r->found.path : NULL;
    const bool stored = from && experts_in_store(from),
               streamed = stored || r->params->streaming.asked;
    if (streamed && from && !stored) {
        log_error("%s: its experts lie in model.safetensors, so they cannot come and go; make a "
                  "folder whose experts lie in a store with vkmoe pack %s --out DIR, and resume "
                  "that", from, r->params->out);
        return false;
    }
    r->model = streamed ? model_create_streamed(r->config, most) : model_create(r->config, most);
    if (!r->model) return false;
    log_info("%llu parameters, %llu active a token", (unsigned long long)r->model->parameters,
             (unsigned long long)r->model->active);
    if (streamed) r->store = train_store_open(r->model, r->params->out, from);
    return !streamed || r->store;
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
    return r->found.path[0] ? load_checkpoint(r) : params_init(trainer_params(r->trainer));
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

// Where it was asked for, what came of it.
static void tell_host(const struct run_state *r)
{
    const uint64_t budget = r->params->streaming.host_budget;
    if (!budget || !r->gpu) return;
    const uint64_t peak = train_host_peak(r->gpu);
    (peak <= budget ? log_info : log_warn)("host memory: %.1f MiB at most, of a budget of %.1f MiB",
                                           (double)peak / 1048576, (double)budget / 1048576);
}

static bool open_all(struct run_state *r)
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

static void close_all(struct run_state *r)
{
    progress_destroy(&r->progress);
    for (uint32_t i = 0; r->batch && i < r->config->gradient_accumulation_steps; i++) {
        free((void *)r->batch[i].ids);
        free((void *)r->batch[i].targets);
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
    kernels_destroy(&r->kernels);
    model_destroy(&r->model);
    gpu_destroy(&r->gpu);
    data_close(&r->data);
    tokenizer_destroy(&r->tokenizer);
    checkpoint_close(&r->folder);
}

// ---- steps

static void fill_batches(struct run_state *r)
{
    const uint32_t seq = r->config->seq_len;
    for (uint32_t i = 0; i < r->config->gradient_accumulation_steps; i++)
        for (uint32_t b = 0; b < r->config->batch_size; b++)
            data_window(r->data, DATA_TRAIN, r->windows++,
                        (uint32_t *)r->batch[i].ids + (size_t)b * seq,
                        (uint32_t *)r->batch[i].targets + (size_t)b * seq);
}

static struct metrics_experts experts_of(const struct run_state *r,
                                         const struct trainer_result *result)
{
    const struct experts *x = trainer_params(r->trainer)->experts;
    const struct experts_counts *c = &result->experts;
    return (struct metrics_experts){.slots = x ? x->slots : 0,
                                    .hits = c->hits,
                                    .misses = c->misses,
                                    .prefetched = c->guessed,
                                    .prefetched_used = c->used,
                                    .read_bytes = c->bytes,
                                    .written_bytes = c->written,
                                    .spilled_bytes = c->spilled,
                                    .load_ms = 1e3 * c->load_seconds,
                                    .wait_ms = 1e3 * c->wait_seconds};
}

static void show_progress(struct run_state *r, const struct trainer_result *result,
                          double tokens_per_s)
{
    const struct metrics_experts experts = experts_of(r, result);
    struct progress_state state = {.step = result->step,
                                   .loss = result->loss,
                                   .bits_per_byte = r->outcome->held_out_bpb,
                                   .tokens_per_s = tokens_per_s,
                                   .slots = experts.slots,
                                   .hit_rate = metrics_hit_rate(&experts),
                                   .wait_ms = experts.wait_ms,
                                   .experts = (uint64_t)result->layers * r->config->num_experts};
    state.experts_in_use = state.experts;
    for (uint32_t i = 0; i < result->layers; i++) state.experts_in_use -= r->layers[i].dead;
    if (r->progress) progress_update(r->progress, &state);
}

static bool collect(struct run_state *r)
{
    struct trainer_result result;
    if (!trainer_collect(r->trainer, &result)) return false;
    const double now = result.finished,
                 between = result.step == r->plan_step + 1 ? r->plan_seconds : 0,
                 took = now - r->last_collect - between;
    r->last_collect = now;
    r->run_tokens += result.targets;
    const double tokens_per_s = (double)r->run_tokens / (now - r->began);
    const double metrics_began = os_seconds();
    const struct train_layers layers = {.config = r->config, .data = r->data, .layer = r->layers,
                                        .routing = r->routing, .trace = r->trace,
                                        .residency = r->residency, .told = &r->told,
                                        .experts = trainer_params(r->trainer)->experts};
    train_layers_observe(&layers, &result);
    if (result.skipped)
        log_warn("step %u skipped: the gradient norm is not finite (loss %g); nothing moved",
                 result.step, result.loss);
    const struct metrics_step step = {.step = result.step,
                                      .loss = result.loss,
                                      .lr = r->rate[result.step % COUNT_OF(r->rate)],
                                      .grad_norm = result.grad_norm,
                                      .tokens_per_s =
                                          (double)result.targets / (took > 0 ? took : 1e-9),
                                      .device_bytes = gpu_memory_bytes(r->gpu),
                                      .host_bytes = os_resident_bytes(),
                                      .device_peak = gpu_memory_account(r->gpu, false).peak,
                                      .host_peak = os_resident_peak(),
                                      .experts = experts_of(r, &result),
                                      .skipped = result.skipped};
    metrics_write_step(r->metrics, &step, r->layers, result.layers);
    r->metrics_seconds += os_seconds() - metrics_began;
    r->outcome->steps = result.step;
    r->outcome->loss = result.loss;
    show_progress(r, &result, tokens_per_s);
    return true;
}

// plan.json, once the plans are cut by what was measured: then nothing is in flight. A run goes on
// without it. What a device has peaks in is more memory than a budget leaves.
static void tell_plan(struct run_state *r)
{
    struct peaks peaks = {0};
    if (r->planned || !trainer_step_ms(r->trainer, "update")) return;
    r->planned = true;
    const double plan_began = os_seconds();
    if (!r->store) peaks_measure(&r->params->gpu, &peaks);
    char *text = train_plan_print(r->trainer, r->gpu, r->config, &peaks);
    if (text) checkpoint_run_write(r->folder, "plan.json", text);
    free(text);
    r->plan_seconds = os_seconds() - plan_began;
    r->plan_step = r->step;
    r->began += r->plan_seconds; // no time of training
    log_debug("plan.json: %.0f ms", 1e3 * r->plan_seconds);
}

static bool drain(struct run_state *r)
{
    while (trainer_in_flight(r->trainer))
        if (!collect(r)) return false;
    return true;
}

static bool evaluate(struct run_state *r, uint32_t max_batches)
{
    struct evaluation e;
    if (data_windows(r->data, DATA_HELD_OUT) == 0) return true;
    if (!evaluator_run(r->evaluator, r->data, DATA_HELD_OUT, max_batches, &e))
        return os_interrupted() && !gpu_lost(r->gpu);
    r->outcome->held_out_bpb = e.bits_per_byte;
    metrics_write_eval(r->metrics, r->step, e.loss, e.bits_per_byte);
    if (r->progress) progress_pause(r->progress);
    char bpb[40] = "";
    if (e.bytes) snprintf(bpb, sizeof bpb, ", %.4f bits per byte", e.bits_per_byte);
    log_info("step %u: held-out loss %.4f, perplexity %.2f%s", r->step, e.loss, e.perplexity, bpb);
    r->last_collect = os_seconds();
    return true;
}

// Of the mean of the weights, when all is done and saved: it takes their place.
static bool evaluate_average(struct run_state *r)
{
    struct evaluation e;
    if (!r->averaged || data_windows(r->data, DATA_HELD_OUT) == 0) return true;
    if (!params_take_average(trainer_params(r->trainer)) ||
        !evaluator_run(r->evaluator, r->data, DATA_HELD_OUT, r->config->final_eval_batches, &e))
        return os_interrupted() && !gpu_lost(r->gpu);
    metrics_write_average(r->metrics, r->step, e.loss, e.bits_per_byte);
    log_info("step %u: held-out loss %.4f of the mean over %llu steps, perplexity %.2f, %.4f bits "
             "per byte",
             r->step, e.loss, (unsigned long long)r->averaged, e.perplexity, e.bits_per_byte);
    return true;
}

static bool due(uint32_t step, uint32_t every) { return every && step % every == 0; }

// The rate of the step after r->step.
static double next_rate(const struct run_state *r)
{
    return schedule_learning_rate(r->config, r->step + 1) *
           schedule_warmdown(r->config, seconds_of_training(r), r->step);
}

// How far the mean of the weights goes towards those of the step after r->step, whose rate this is.
static double next_average(struct run_state *r, double rate)
{
    const struct config *c = r->config;
    const uint32_t step = r->step + 1, every = c->swa_every ? c->swa_every : c->ema_every;
    const bool falls = step > c->warmup_steps && rate < c->average_start * c->learning_rate;
    if (!config_averages(c) || step % every || !(r->averaged || falls || c->average_start >= 1))
        return 0;
    r->averaged++;
    if (r->averaged == 1) return 1;
    return c->swa_every ? 1 / (double)r->averaged : 1 - c->ema_decay;
}

static bool is_time_left(const struct run_state *r)
{
    const double most = r->config->max_train_seconds;
    return !(most > 0) || seconds_of_training(r) < most;
}

static bool train_loop(struct run_state *r)
{
    const struct config *c = r->config;
    r->began = r->last_collect = os_seconds();
    r->first_step = r->step;
    while (r->step < c->steps && is_time_left(r) && !os_interrupted()) {
        fill_batches(r);
        const double rate = next_rate(r);
        trainer_average(r->trainer, next_average(r, rate));
        r->step++;
        r->rate[r->step % COUNT_OF(r->rate)] = rate;
        if (!trainer_submit(r->trainer, r->step, rate, r->batch))
            return false;
        tell_plan(r);
        if (trainer_in_flight(r->trainer) == 2 && !collect(r)) return false;
        const bool eval_now = due(r->step, c->eval_every) && r->step < c->steps,
                   save_now = due(r->step, c->save_every);
        if ((eval_now || save_now) && !drain(r)) return false;
        if (eval_now && !evaluate(r, c->eval_batches)) return false;
        if (save_now && !save(r)) return false;
    }
    const bool ok = drain(r);
    if (r->step > r->first_step)
        log_debug("metrics: %.3f ms a step on the host, %.2f %% of the time",
                  1e3 * r->metrics_seconds / (r->step - r->first_step),
                  100 * r->metrics_seconds / (os_seconds() - r->began));
    return ok && save(r);
}

static void measure_baselines(struct run_state *r)
{
    struct baseline b;
    if (data_bytes(r->data, DATA_HELD_OUT) == 0 || !baseline_measure(r->data, &b)) return;
    r->outcome->order0_bpb = b.order0;
    r->outcome->bigram_bpb = b.bigram;
}

static bool check_plan(struct run_state *r)
{
    const uint64_t windows = r->windows;
    fill_batches(r);
    r->windows = windows;
    const double tolerance = r->config->torch_dtype == DTYPE_F32 ? 1e-9 : 1e-4;
    if (!trainer_check(r->trainer, &r->batch[0], tolerance)) return false;
    log_info("all %u steps of the plan agree with their references",
             trainer_plan(r->trainer, "train")->step_count);
    return true;
}

bool train_run(const struct train_params *params, struct train_outcome *outcome)
{
    struct run_state r = {.params = params, .config = params->config, .outcome = outcome};
    *outcome = (struct train_outcome){.loss = NAN,
                                      .held_out_bpb = NAN,
                                      .order0_bpb = NAN,
                                      .bigram_bpb = NAN};
    os_interrupt_catch();
    bool ok = open_all(&r);
    outcome->steps = r.step;
    ok = ok && (!params->check || check_plan(&r)) && train_loop(&r);
    outcome->interrupted = os_interrupted();
    progress_destroy(&r.progress); // its last line comes before the evaluation's
    if (ok && !outcome->interrupted)
        ok = evaluate(&r, params->config->final_eval_batches) && evaluate_average(&r);
    if (ok && !outcome->interrupted) measure_baselines(&r);
    if (ok) tell_host(&r);
    close_all(&r);
    return ok;
}
