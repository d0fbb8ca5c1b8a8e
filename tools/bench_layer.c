// SPDX-License-Identifier: MIT
// A layer of experts as the model's plan has it, router to combine, forward and forward with
// backward: the steps of src/plan_moe.c on activations of their own.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_models.h"
#include "src/plan_model.h"
#include "tools/bench.h"

struct layer {
    struct bench  *bench;
    const char    *label;
    struct config *config;
    struct params *params;
    struct gpu_buffer *step, *stats, *activations; // activations: x_mid, n_ffn, dx
};

static bool make_buffer(struct layer *l, struct gpu_buffer **buffer, uint64_t bytes)
{
    *buffer = gpu_buffer_create(
        l->bench->gpu, &(struct gpu_buffer_params){.name = "bench layer", .bytes = bytes});
    return *buffer && bench_fill(l->bench, *buffer);
}

static bool make_buffers(struct layer *l)
{
    const struct config *c = l->config;
    const uint64_t values = (uint64_t)c->seq_len * c->hidden_size,
                   bytes = 3 * align_up(values * dtype_bytes(c->torch_dtype), 256);
    const struct step_words step = {.step = 1, .loss_scale = 1, .aux_scale = 1, .unscale = 1};
    if (!make_buffer(l, &l->step, sizeof step) ||
        !make_buffer(l, &l->stats, 4ull * network_stats_stride(c)) ||
        !make_buffer(l, &l->activations, bytes) ||
        !gpu_buffer_write(l->bench->gpu, l->step, 0, &step, sizeof step))
        return false;
    for (uint32_t i = 0; i < l->params->model->segment_count; i++)
        if (!bench_fill(l->bench, l->params->buffer[PARAMS_GRAD][i])) return false;
    return bench_fill_normal(l->bench, l->activations, c->torch_dtype);
}

static struct plan *make_plan(const struct layer *l, bool backward)
{
    const struct config *c = l->config;
    struct plan *plan =
        plan_create(l->bench->gpu, l->bench->kernels, "moe layer", c->torch_dtype);
    const uint64_t one = (uint64_t)c->seq_len * c->hidden_size * dtype_bytes(c->torch_dtype);
    struct plan_range x[3];
    for (uint32_t i = 0; i < COUNT_OF(x); i++)
        x[i] = plan_external(plan, "x", l->activations, i * align_up(one, 256), one);
    const struct network_io io = {
        .step = plan_external(plan, "step", l->step, 0, sizeof(struct step_words)),
        .stats = plan_external(plan, "stats", l->stats, 0, l->stats->params.bytes),
    };
    struct network n =
        network_begin(plan, l->params, NETWORK_TRAIN, 1, c->seq_len, 0, &io);
    n.layer[0].x_mid = n.x = x[0];
    n.layer[0].n_ffn = x[1];
    n.layer[0].y_ffn = network_temp(&n, c->seq_len, c->hidden_size, "x", 0);
    plan_section(plan, "layer 0 moe");
    network_moe_steps(&n, 0);
    n.dx = n.dy = x[2];
    if (backward) network_moe_back(&n, 0, network_temp(&n, c->seq_len, c->hidden_size, "dn", 0));
    if (!plan_finish(plan)) plan_destroy(&plan);
    return plan;
}

// Whether a step is of the experts themselves, and not of the router, the sort or the combine.
static bool is_of_experts(const struct plan_step *step)
{
    const enum kernel_op op = step->op;
    return step->kind == PLAN_DISPATCH &&
           (kernel_is_grouped(op) || op == KERNEL_MOE_MATMUL_TN || op == KERNEL_MOE_ACTIVATE_BACK);
}

// The part of the layer's time that goes to all but its experts, step by step.
static bool routing_share(const struct plan *plan, struct arena *arena, double *share)
{
    double *ms = arena_array(arena, plan->step_count, sizeof *ms), all = 0, routing = 0, wall;
    for (int again = 0; again < 3; again++) // the first run is not like the others
        if (!run_profile((struct plan *)plan, ms, &wall)) return false;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        all += ms[i];
        routing += is_of_experts(&plan->step[i]) ? 0 : ms[i];
    }
    *share = all > 0 ? routing / all : NAN;
    return true;
}

static bool measure(const struct layer *l, const char *name, bool backward)
{
    struct bench *bench = l->bench;
    const struct config *c = l->config;
    double ms[BENCH_RUNS];
    struct plan *plan = make_plan(l, backward);
    struct run *run = plan ? run_create(plan) : NULL;
    bool ok = run && bench_settle(bench, run, &ms[0]);
    for (uint32_t i = 0; i < BENCH_RUNS && ok; i++) ok = bench_run_once(bench, run, &ms[i]);
    double share = NAN;
    ok = ok && routing_share(plan, bench->arena, &share);
    if (ok) {
        struct bench_work work = {0};
        bench_add_work(&work, plan, 1);
        const char *shape = arena_printf(bench->arena, "E%u k%u T%u %ux%u", c->num_experts,
                                         c->router.top_k, c->seq_len,
                                         c->moe_intermediate_size, c->hidden_size);
        const struct bench_time time = bench_median(ms, BENCH_RUNS);
        struct bench_result *r =
            bench_add(bench, &(struct bench_result){.family = "layer",
                                                    .name = name,
                                                    .shape = shape,
                                                    .variant = dtype_name(c->torch_dtype),
                                                    .model = l->label,
                                                    .time = time,
                                                    .flops = work.flops,
                                                    .bytes = work.bytes});
        bench_field(r, "tokens_per_s", 1e3 * c->seq_len / time.ms);
        bench_field(r, "dispatches", work.dispatches);
        bench_field(r, "submits", run_submits(run));
        if (!isnan(share)) bench_field(r, "routing_share", share);
    }
    run_destroy(&run);
    plan_destroy(&plan);
    return ok;
}

static bool run_layer(struct bench *bench, const char *label, struct config *config)
{
    struct model *model = model_create(config, bench->gpu->caps.max_allocation);
    if (!model) return false;
    struct layer l = {.bench = bench, .label = label, .config = config};
    l.params = params_create(bench->gpu, model, true);
    const bool ok = l.params && bench_fill_params(bench, l.params) && make_buffers(&l) &&
                    measure(&l, "moe_layer forward", false) &&
                    measure(&l, "moe_layer forward+backward", true);
    gpu_buffer_destroy(bench->gpu, &l.step);
    gpu_buffer_destroy(bench->gpu, &l.stats);
    gpu_buffer_destroy(bench->gpu, &l.activations);
    params_destroy(&l.params);
    model_destroy(&model);
    return ok;
}

// assets/tiny.json with this layer.
static bool make_config(struct config *config, const struct bench_layer *layer, uint32_t tokens,
                        enum dtype store)
{
    static const char *const dtypes[] = {"float32", "bfloat16", "float16"};
    char text[8][48];
    const char *set[COUNT_OF(text)];
    snprintf(text[0], sizeof text[0], "hidden_size=%u", layer->hidden);
    snprintf(text[1], sizeof text[1], "intermediate_size=%u", layer->inner);
    snprintf(text[2], sizeof text[2], "num_local_experts=%u", layer->experts);
    snprintf(text[3], sizeof text[3], "num_experts_per_tok=%u", layer->top_k);
    snprintf(text[4], sizeof text[4], "seq_len=%u", tokens);
    snprintf(text[5], sizeof text[5], "max_position_embeddings=%u", tokens);
    snprintf(text[6], sizeof text[6], "num_hidden_layers=1");
    snprintf(text[7], sizeof text[7], "torch_dtype=%s", dtypes[store]);
    for (size_t i = 0; i < COUNT_OF(text); i++) set[i] = text[i];
    return config_parse(config, "bench layer", BENCH_TINY_JSON, set, COUNT_OF(text));
}

static bool layer(struct bench *bench, const struct bench_layer *layer, uint32_t tokens,
                  enum dtype store, enum bench_level level)
{
    struct config config;
    const double weights = 3.0 * layer->experts * layer->inner * layer->hidden;
    const double flops = 18.0 * tokens * layer->top_k * layer->inner * layer->hidden;
    const char *label = layer->model ? layer->model : "";
    char shape[64];
    snprintf(shape, sizeof shape, "E%u k%u T%u %ux%u", layer->experts, layer->top_k, tokens,
             layer->inner, layer->hidden);
    if (!bench_has_store(bench, store) ||
        !bench_wants(bench, bench_level_of(level, store), "layer", "moe_layer forward+backward",
                     shape, label, dtype_name(store)) ||
        !bench_affordable(bench, flops, 30 * weights, BENCH_RUNS + 2))
        return true;
    if (weights * 18 > (double)bench->gpu->caps.heap_bytes / 2 ||
        weights / 3 * 4 > (double)bench->gpu->caps.max_range) {
        bench->large++;
        return true;
    }
    return make_config(&config, layer, tokens, store) && run_layer(bench, label, &config);
}

bool bench_layers(struct bench *bench)
{
    const struct bench_layer peer = {NULL, 8, 2, 512, 512}, fine = {NULL, 64, 8, 256, 512};
    for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++)
        if (!layer(bench, &peer, 512, store, BENCH_DEFAULT) ||
            !layer(bench, &fine, 512, store, BENCH_DEFAULT))
            return false;
    for (size_t m = 0; m < BENCH_MODELS; m++)
        for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
            const struct bench_model *model = &bench_models[m];
            struct bench_layer fit;
            if (!bench_layer_fit(bench, model, store, &fit)) continue;
            const enum bench_level level = m == BENCH_TINY ? BENCH_DEFAULT : BENCH_CARD;
            const uint64_t tokens = (uint64_t)model->batch * model->seq * model->top_k *
                                    fit.experts / model->experts / fit.top_k;
            if (!layer(bench, &fit, max_u32((uint32_t)tokens, 1), store, level)) return false;
        }
    return true;
}
