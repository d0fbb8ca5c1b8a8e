// SPDX-License-Identifier: MIT
// A training run, read from top to bottom: open everything (train_open.c), resume if asked, then
// step, evaluate, save.
#include "src/train_run.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/baseline.h"
#include "src/schedule.h"
#include "src/train_host.h"
#include "src/train_plan.h"

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
                                .curriculum = train_curriculum_state(r->curriculum),
                                .step = r->step,
                                .windows = r->windows,
                                .averaged = r->averaged,
                                .seconds = seconds_of_training(r)};
}

bool train_load(struct run_state *r)
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

// ---- steps

// The window at a place in the run, to the tokens from `to` on.
static void fill_row(const struct data *data, uint64_t at, const struct batch *batch, size_t to)
{
    data_window(data, DATA_TRAIN, at, (uint32_t *)batch->ids + to,
                (uint32_t *)batch->targets + to);
    if (batch->begins)
        data_window_begins(data, DATA_TRAIN, data_window_index(data, DATA_TRAIN, at), 1,
                           (uint32_t *)batch->begins + to);
}

// How many of the targets are scored.
static uint64_t fill_windows(struct run_state *r, const struct train_part *part)
{
    const uint32_t seq = r->config->seq_len, tokens = r->config->batch_size * seq;
    uint64_t scored = 0, at = part->first;
    for (uint32_t i = 0; i < r->config->gradient_accumulation_steps; i++) {
        for (uint32_t b = 0; b < r->config->batch_size; b++)
            fill_row(part->data, at++, &r->batch[i], (size_t)b * seq);
        for (uint32_t t = 0; t < tokens; t++) scored += r->batch[i].targets[t] != DATA_MASKED;
    }
    return scored;
}

// Of the step after r->step. Windows without a scored target teach nothing, and no epoch is without
// one (data_scored).
static void fill_batches(struct run_state *r)
{
    const uint32_t step = r->step + 1;
    const uint64_t windows = train_step_windows(r->config);
    struct train_part *part = &r->part[step % COUNT_OF(r->part)];
    for (r->windows += windows; fill_windows(r, part) == 0; r->windows += windows) {
        log_info("step %u: none of the targets of windows %llu to %llu is scored: passed over",
                 step, (unsigned long long)part->first,
                 (unsigned long long)(part->first + windows - 1));
        part->first += windows;
    }
}

static struct metrics_experts experts_of(const struct run_state *r,
                                         const struct trainer_result *result)
{
    const struct experts *x = trainer_params(r->trainer)->experts;
    const struct experts_counts *c = &result->experts;
    const struct experts_peaks peaks = experts_peaks(x);
    return (struct metrics_experts){.slots = x ? x->slots : 0,
                                    .hits = c->hits,
                                    .misses = c->misses,
                                    .prefetched = c->guessed,
                                    .prefetched_used = c->used,
                                    .read_bytes = c->bytes,
                                    .written_bytes = c->written,
                                    .spilled_bytes = c->spilled,
                                    .load_ms = 1e3 * c->load_seconds,
                                    .wait_ms = 1e3 * c->wait_seconds,
                                    .load_gbps = experts_load_gbps(c),
                                    .read_peak_gbps = peaks.read_gbps,
                                    .copy_peak_gbps = peaks.copy_gbps};
}

static void show_progress(struct run_state *r, const struct trainer_result *result,
                          double tokens_per_s)
{
    const struct metrics_experts experts = experts_of(r, result);
    struct progress_state state = {.step = result->step,
                                   .domain = r->part[result->step % COUNT_OF(r->part)].domain,
                                   .loss = result->loss,
                                   .bits_per_byte = r->outcome->held_out_bpb,
                                   .tokens_per_s = tokens_per_s,
                                   .slots = experts.slots,
                                   .hit_rate = metrics_hit_rate(&experts),
                                   .wait_ms = experts.wait_ms,
                                   .load_gbps = experts.load_gbps,
                                   .peak_gbps = experts.read_peak_gbps > 0
                                                    ? experts.read_peak_gbps
                                                    : experts.copy_peak_gbps,
                                   .experts = (uint64_t)result->layers * r->config->num_experts};
    state.experts_in_use = state.experts;
    for (uint32_t i = 0; i < result->layers; i++) state.experts_in_use -= r->layers[i].dead;
    if (r->progress) progress_update(r->progress, &state);
}

static struct metrics_turn turn_of(const struct run_state *r, const struct train_part *part)
{
    return (struct metrics_turn){.domain = part->domain,
                                 .visit = part->step.visit,
                                 .epoch = part->step.epoch,
                                 .drawn = r->config->curriculum == CONFIG_DOPAMINE,
                                 .terms = part->step.terms};
}

// What a step computes, whether it is scored or not.
static uint64_t step_tokens(const struct config *c)
{
    return train_step_windows(c) * c->seq_len;
}

static bool collect(struct run_state *r)
{
    struct trainer_result result;
    if (!trainer_collect(r->trainer, &result)) return false;
    const double now = result.finished,
                 between = result.step == r->plan_step + 1 ? r->plan_seconds : 0,
                 took = now - r->last_collect - between;
    r->last_collect = now;
    r->run_tokens += step_tokens(r->config);
    // what ended before plan.json was made took none of the time that r->began leaves out
    const double left_out = result.step <= r->plan_step ? r->plan_seconds : 0;
    const double tokens_per_s = (double)r->run_tokens / (now - r->began + left_out);
    const double metrics_began = os_seconds();
    const struct train_part *part = &r->part[result.step % COUNT_OF(r->part)];
    train_part_observe(r, result.step, result.skipped ? NAN : result.loss, result.targets);
    const struct train_layers layers = {.config = r->config, .data = part->data,
                                        .first = part->first, .layer = r->layers,
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
                                          (double)step_tokens(r->config) / (took > 0 ? took : 1e-9),
                                      .device_bytes = gpu_memory_bytes(r->gpu),
                                      .host_bytes = os_resident_bytes(),
                                      .device_peak = gpu_memory_account(r->gpu, false).peak,
                                      .host_peak = os_resident_peak(),
                                      .experts = experts_of(r, &result),
                                      .turn = turn_of(r, part),
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

bool train_drain(struct run_state *r)
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
        if (!train_part_next(r)) return false;
        fill_batches(r);
        const double rate = next_rate(r);
        trainer_average(r->trainer, next_average(r, rate));
        r->step++;
        r->rate[r->step % COUNT_OF(r->rate)] = rate;
        if (!trainer_submit(r->trainer, r->step, rate, r->batch))
            return false;
        tell_plan(r);
        if (trainer_in_flight(r->trainer) == 2 && !collect(r)) return false;
        if (!train_part_end(r)) return false;
        const bool eval_now = due(r->step, c->eval_every) && r->step < c->steps,
                   save_now = due(r->step, c->save_every);
        if ((eval_now || save_now) && !train_drain(r)) return false;
        if (eval_now && !evaluate(r, c->eval_batches)) return false;
        if (save_now && !save(r)) return false;
    }
    const bool ok = train_drain(r);
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
    const struct train_part part = {.data = r->data, .first = r->windows};
    fill_windows(r, &part);
    const double tolerance = r->config->torch_dtype == DTYPE_F32 ? 1e-9 : 1e-4;
    if (!trainer_check(r->trainer, &r->batch[0], tolerance)) return false;
    log_info("all %u steps of the plan agree with their references",
             trainer_plan(r->trainer, "train")->step_count);
    return true;
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

bool train_run(const struct train_params *params, struct train_outcome *outcome)
{
    struct run_state r = {.params = params, .config = params->config, .outcome = outcome};
    *outcome = (struct train_outcome){.loss = NAN,
                                      .held_out_bpb = NAN,
                                      .order0_bpb = NAN,
                                      .bigram_bpb = NAN};
    os_interrupt_catch();
    bool ok = train_open(&r);
    outcome->steps = r.step;
    ok = ok && (!params->check || check_plan(&r)) && train_loop(&r);
    outcome->interrupted = os_interrupted();
    progress_destroy(&r.progress); // its last line comes before the evaluation's
    if (ok && !outcome->interrupted)
        ok = evaluate(&r, params->config->final_eval_batches) && train_parts_final(&r) &&
             evaluate_average(&r);
    if (ok && !outcome->interrupted) measure_baselines(&r);
    if (ok) tell_host(&r);
    train_close(&r);
    return ok;
}
