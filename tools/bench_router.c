// SPDX-License-Identifier: MIT
// Routers as the model's plan has them: logits, scores, picks, the sort, the losses (forward), and
// the way back to the router's weights and its input. Every type at one size; and two levels over
// 20,480 experts against one over as many as one of their domains has.
#include <stdio.h>
#include <string.h>

#include "src/plan_model.h"
#include "tools/bench.h"

// "type" stands for the shape; `keys` are what its config has beside the common ones.
struct router {
    const char *label;
    uint32_t    experts, top_k, tokens, hidden;
    const char *keys;
};

#define COSINE "\"router_body\": \"cosine\", \"router_temperature\": 0.1, " \
               "\"router_learn_temperature\": true"
#define OF_64 64, 8, 512, 256
static const struct router types[] = {
    {"topk", OF_64, "\"norm_topk_prob\": true"},
    {"switch", 64, 1, 512, 256, "\"router_type\": \"switch\""},
    {"straight_through", 64, 1, 512, 256, "\"router_type\": \"straight_through\""},
    {"noisy_topk", OF_64, "\"router_type\": \"noisy_topk\""},
    {"threshold", OF_64, "\"router_type\": \"threshold\", \"router_threshold\": 0.014"},
    {"top_p", OF_64, "\"router_type\": \"top_p\", \"router_top_p\": 0.1"},
    {"dynamic", OF_64, "\"router_type\": \"dynamic\", \"min_experts_per_tok\": 2"},
    {"group_limited", OF_64, "\"router_type\": \"group_limited\", \"n_group\": 8, "
                             "\"topk_group\": 4"},
    {"sigmoid_bias", OF_64, "\"router_type\": \"sigmoid_bias\""},
    {"dense", 64, 64, 512, 256, "\"router_type\": \"dense\""},
    {"hash", OF_64, "\"router_type\": \"hash\""},
    {"mlp body", OF_64, "\"router_body\": \"mlp\""},
    {"cosine body", OF_64, COSINE},
    {"hierarchical", OF_64, "\"router_type\": \"hierarchical\", \"n_domains\": 8, " COSINE},
};
static const struct router flat = {"topk, cosine", 2560, 4, 1024, 512, COSINE},
                           levels = {"hierarchical, cosine", 20480, 4, 1024, 512,
                                     "\"router_type\": \"hierarchical\", \"n_domains\": 8, "
                                     COSINE};

struct subject {
    struct bench        *bench;
    const struct router *router;
    struct config       *config;
    struct model        *model;
    struct params       *params;
    struct gpu_buffer   *step, *stats, *ids, *activations; // activations: n_ffn, dn
    struct plan         *plan;
    struct run          *run;
    double               ms[BENCH_RUNS];
};

static bool make_config(const struct router *r, struct config *config)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\": \"vkmoe\", \"vocab_size\": 260, \"hidden_size\": %u, "
             "\"intermediate_size\": 1, \"moe_intermediate_size\": 1, \"num_hidden_layers\": 1, "
             "\"num_attention_heads\": 1, \"head_dim\": 2, \"max_position_embeddings\": %u, "
             "\"mlp_gated\": false, \"hidden_act\": \"relu2\", \"num_experts\": %u, "
             "\"num_experts_per_tok\": %u, \"router_entropy_coef\": 0.01, \"seq_len\": %u, "
             "\"batch_size\": 1, %s}",
             r->hidden, r->tokens, r->experts, r->top_k, r->tokens, r->keys);
    return config_parse(config, "bench router", text, NULL, 0);
}

static bool make_buffer(struct subject *s, struct gpu_buffer **buffer, uint64_t bytes)
{
    *buffer = gpu_buffer_create(
        s->bench->gpu, &(struct gpu_buffer_params){.name = "bench router", .bytes = bytes});
    return *buffer && bench_fill(s->bench, *buffer);
}

static bool make_buffers(struct subject *s)
{
    const struct config *c = s->config;
    const uint64_t values = (uint64_t)c->seq_len * c->hidden_size;
    const struct step_words step = {.step = 1, .aux_scale = 1, .unscale = 1};
    return make_buffer(s, &s->step, sizeof step) && make_buffer(s, &s->ids, 4ull * c->seq_len) &&
           make_buffer(s, &s->stats, 4ull * network_stats_stride(c)) &&
           make_buffer(s, &s->activations, 2 * align_up(4 * values, 256)) &&
           gpu_buffer_write(s->bench->gpu, s->step, 0, &step, sizeof step) &&
           bench_fill_normal(s->bench, s->activations, DTYPE_F32);
}

static bool make_params(struct subject *s)
{
    s->model = model_create(s->config, s->bench->gpu->caps.max_allocation);
    s->params = s->model ? params_create(s->bench->gpu, s->model, true) : NULL;
    if (!s->params || !bench_fill_params(s->bench, s->params)) return false;
    for (uint32_t i = 0; i < s->model->segment_count; i++)
        if (!bench_fill(s->bench, s->params->buffer[PARAMS_GRAD][i])) return false;
    return true;
}

static void forward(struct network *n)
{
    struct layer_values *v = &n->layer[0];
    network_route(n, 0);
    const struct push_moe_sort push = network_moe_sort(n, 0);
    const struct sort_values sort = network_sort(n, 0, &push, v->ids);
    v->offsets = v->wanted = sort.offsets;
    v->order = v->wanted_order = sort.order;
    network_route_stats(n, 0);
}

static bool make_plan(struct subject *s, bool backward)
{
    const struct config *c = s->config;
    const uint64_t one = 4ull * c->seq_len * c->hidden_size, step = sizeof(struct step_words);
    s->plan = plan_create(s->bench->gpu, s->bench->kernels, "router", DTYPE_F32);
    const struct network_io io = {
        .step = plan_external(s->plan, "step", s->step, 0, step),
        .ids = plan_external(s->plan, "ids", s->ids, 0, 4ull * c->seq_len),
        .stats = plan_external(s->plan, "stats", s->stats, 0, s->stats->params.bytes),
    };
    struct network n = network_begin(s->plan, s->params, NETWORK_TRAIN, 1, c->seq_len, 0, &io);
    n.layer[0].n_ffn = plan_external(s->plan, "n", s->activations, 0, one);
    const struct plan_range dn =
        plan_external(s->plan, "dn", s->activations, align_up(one, 256), one);
    plan_section(s->plan, "router");
    forward(&n);
    const struct plan_range dgates = network_temp_f32(&n, c->seq_len, c->router.top_k, "dgates", 0);
    if (backward) {
        plan_fill(s->plan, dgates, 0x3a83126f); // 1e-3
        network_route_back(&n, 0, dgates, dn);
    }
    s->run = plan_finish(s->plan) ? run_create(s->plan) : NULL;
    return s->run && bench_settle(s->bench, s->run, &s->ms[0]);
}

static void drop_plan(struct subject *s)
{
    run_destroy(&s->run);
    plan_destroy(&s->plan);
}

static struct bench_result *add_result(struct subject *s, bool backward)
{
    const struct router *r = s->router;
    struct bench_work work = {0};
    bench_add_work(&work, s->plan, 1);
    return bench_add(s->bench, &(struct bench_result){
        .family = "router",
        .name = backward ? "router forward+backward" : "router forward",
        .shape = arena_printf(s->bench->arena, "E%u k%u T%u %u", r->experts, r->top_k, r->tokens,
                              r->hidden),
        .variant = "f32", .model = r->label, .time = bench_median(s->ms, BENCH_RUNS),
        .flops = work.flops, .bytes = work.bytes});
}

// In turns where there is another, whose time its result then names.
static bool measure(struct subject *s, struct subject *base, bool backward)
{
    bool ok = make_plan(s, backward) && (!base || make_plan(base, backward));
    for (uint32_t i = 0; i < BENCH_RUNS && ok; i++)
        ok = bench_run_once(s->bench, s->run, &s->ms[i]) &&
             (!base || bench_run_once(s->bench, base->run, &base->ms[i]));
    if (ok && base) add_result(base, backward);
    if (ok) {
        struct bench_result *result = add_result(s, backward);
        if (base)
            bench_field(result, "of_flat",
                        result->time.ms / bench_median(base->ms, BENCH_RUNS).ms);
    }
    drop_plan(s);
    if (base) drop_plan(base);
    return ok;
}

static bool open_subject(struct subject *s, struct bench *bench, const struct router *router,
                         struct config *config)
{
    *s = (struct subject){.bench = bench, .router = router, .config = config};
    return make_config(router, config) && make_params(s) && make_buffers(s);
}

static void close_subject(struct subject *s)
{
    gpu_buffer_destroy(s->bench->gpu, &s->step);
    gpu_buffer_destroy(s->bench->gpu, &s->ids);
    gpu_buffer_destroy(s->bench->gpu, &s->stats);
    gpu_buffer_destroy(s->bench->gpu, &s->activations);
    params_destroy(&s->params);
    model_destroy(&s->model);
}

static bool wanted(struct bench *bench, const struct router *r)
{
    char shape[64];
    snprintf(shape, sizeof shape, "E%u k%u T%u %u", r->experts, r->top_k, r->tokens, r->hidden);
    return bench_wants(bench, BENCH_ASKED, "router", "router forward+backward", shape, r->label,
                       "f32");
}

static bool one_or_two(struct bench *bench, const struct router *router,
                       const struct router *against)
{
    struct config config[2];
    struct subject s, base = {.bench = bench};
    if (!wanted(bench, router)) return true;
    bool ok = open_subject(&s, bench, router, &config[0]) &&
              (!against || open_subject(&base, bench, against, &config[1]));
    for (int backward = 0; backward < 2 && ok; backward++)
        ok = measure(&s, against ? &base : NULL, backward);
    close_subject(&s);
    if (against) close_subject(&base);
    return ok;
}

bool bench_routers(struct bench *bench)
{
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (!one_or_two(bench, &types[i], NULL)) return false;
    return one_or_two(bench, &levels, &flat);
}
