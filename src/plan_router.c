// SPDX-License-Identifier: MIT
// Routers as steps: logits -> scores -> what picks go by -> picks and gates, in one step where the
// router is the plain one; the statistics and the auxiliary losses; and the way back. It all works
// on parts of the tokens, for with many experts no binding covers [T][E].
#include "runtime/log.h"
#include "src/base.h"
#include "src/plan_model.h"

enum {
    ROUTER_PART = 64 << 20, // bytes of scores in one part of the tokens
    ROUTER_ROWS = 64,       // parts are multiples, so that ranges stay aligned
    COLUMN_TOKENS = 1 << 18, // that router_columns can count on lavapipe
};

// What KERNEL_ROUTER knows: softmax, the K largest.
static bool is_plain(const struct config_router *router)
{
    const bool top = router->type == CONFIG_ROUTER_TOPK || router->type == CONFIG_ROUTER_SWITCH ||
                     router->type == CONFIG_ROUTER_NOISY_TOPK;
    return top && !router->sigmoid && router->scaling_factor == 1;
}

bool network_router_decodes(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    return is_plain(router) && router->body == CONFIG_BODY_LINEAR && !router->learn_temperature &&
           !n->config->shared_intermediate_size;
}

// ---- push words

static enum kernel_pick pick_of(const struct config_router *router)
{
    switch (router->type) {
    case CONFIG_ROUTER_THRESHOLD: return PICK_THRESHOLD;
    case CONFIG_ROUTER_TOP_P: case CONFIG_ROUTER_DYNAMIC: return PICK_MASS;
    case CONFIG_ROUTER_DENSE: return PICK_ALL;
    case CONFIG_ROUTER_TOPK: case CONFIG_ROUTER_SWITCH: case CONFIG_ROUTER_STRAIGHT_THROUGH:
    case CONFIG_ROUTER_GROUP_LIMITED: case CONFIG_ROUTER_SIGMOID_BIAS:
    case CONFIG_ROUTER_NOISY_TOPK: case CONFIG_ROUTER_HASH: break;
    case CONFIG_ROUTER_EXPERT_CHOICE: break; // router_columns
    case CONFIG_ROUTER_HIERARCHICAL: return router->min_k ? PICK_MASS : PICK_TOP;
    }
    return PICK_TOP;
}

// What coefficients are of: the mean over the MoE layers, or over all.
static float loss_share(const struct network *n, int32_t layer)
{
    const bool all = network_router(n, layer)->loss_layers != 0;
    return 1.0f / (float)(all ? n->config->num_hidden_layers : config_moe_layers(n->config));
}

struct push_router network_router_push(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    const float share = loss_share(n, layer);
    const double limit =
        router->type == CONFIG_ROUTER_THRESHOLD ? router->threshold : router->top_p;
    return (struct push_router){.tokens = n->tokens,
                                .experts = n->config->num_experts,
                                .top_k = router->top_k,
                                .renormalise = router->norm_topk_prob,
                                .inv_temperature =
                                    router->learn_temperature ? 1
                                                              : (float)(1 / router->temperature),
                                .sigmoid = router->sigmoid,
                                .biased = router->type == CONFIG_ROUTER_SIGMOID_BIAS,
                                .groups = router->n_group,
                                .group_picks = router->topk_group,
                                .pick = pick_of(router),
                                .least = router->min_k,
                                .straight = router->type == CONFIG_ROUTER_STRAIGHT_THROUGH,
                                .limit = (float)limit,
                                .scale = (float)router->scaling_factor,
                                .z_coef = (float)router->z_coef * share,
                                .entropy_coef = (float)router->entropy_coef * share,
                                .z_square_coef = (float)router->z_square_coef * share};
}

struct push_router_losses network_losses_push(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    const float share = loss_share(n, layer);
    const bool counts = n->mode == NETWORK_TRAIN;
    return (struct push_router_losses){
        .tokens = n->tokens,
        .experts = n->config->num_experts,
        .count = counts,
        .global = counts && router->balance_global,
        .balance_coef = (float)router->balance_coef * share,
        .variance_coef = (float)router->variance_coef * share,
        .mean_entropy_coef = (float)router->mean_entropy_coef * share,
        .importance_coef = (float)router->importance_coef * share,
    };
}

// ---- parts

struct part { uint32_t index, begin, rows; };

static bool next_part(const struct network *n, struct part *part)
{
    const uint64_t row = 4ull * n->config->num_experts, range = n->plan->gpu->caps.max_range;
    const uint64_t fits = (config_leaks(n->config) ? range : min_u64(ROUTER_PART, range)) / row;
    const uint64_t most = max_u64(fits / ROUTER_ROWS, 1) * ROUTER_ROWS;
    if (part->rows) part->index++;
    part->begin += part->rows;
    part->rows = (uint32_t)min_u64(most, n->tokens - part->begin);
    return part->rows > 0;
}

static struct plan_range rows_of(struct plan_range range, const struct part *part, uint64_t row)
{
    return plan_slice(range, part->begin * row, part->rows * row);
}

static struct push_router part_push(const struct network *n, int32_t layer,
                                    const struct part *part)
{
    struct push_router push = network_router_push(n, layer);
    push.total = push.tokens;
    push.tokens = part->rows;
    push.accumulate = part->begin > 0;
    return push;
}

// Through a linear layer [experts][width] of x: its gradient, and what it is worth to dx.
static void linear_back(struct network *n, int32_t layer, const struct part *part,
                        enum model_role role, struct plan_range dy, uint32_t width,
                        struct plan_range x, struct plan_range dx, bool add)
{
    const uint32_t experts = n->config->num_experts;
    const uint64_t row = (uint64_t)width * n->store_bytes;
    network_linear_back_weight(n, dy, rows_of(x, part, row), network_grad(n, role, layer),
                               part->rows, experts, width);
    network_linear_back_input(n, dy, network_weight(n, role, layer), rows_of(dx, part, row),
                              part->rows, experts, width, add);
}

// ---- noise, jitter and the learned temperature

static struct push_router_noise noise_push(const struct network *n, int32_t layer,
                                           const struct part *part)
{
    const struct config_router *router = network_router(n, layer);
    const bool train = n->mode == NETWORK_TRAIN;
    return (struct push_router_noise){
        .tokens = part->rows, .experts = n->config->num_experts, .total = n->tokens,
        .first = part->begin, .layer = (uint32_t)layer,
        .noisy = train && router->type == CONFIG_ROUTER_NOISY_TOPK,
        .learned = router->learn_temperature, .jitter = train ? (float)router->jitter : 0};
}

static bool is_shaken(const struct push_router_noise *push)
{
    return push->noisy || push->learned || push->jitter != 0;
}

// Anything of the right type stands for a temperature that is not learned.
static struct plan_range temperature(const struct network *n, int32_t layer)
{
    const bool learned = network_router(n, layer)->learn_temperature;
    return network_weight(n, learned ? ROLE_ROUTER_TEMPERATURE : ROLE_ROUTER, layer);
}

static void noise_steps(struct network *n, int32_t layer, const struct part *part,
                        struct plan_range logits)
{
    const struct push_router_noise push = noise_push(n, layer, part);
    if (!is_shaken(&push)) return;
    const uint32_t experts = n->config->num_experts, hidden = n->config->hidden_size;
    const uint64_t row = (uint64_t)hidden * n->store_bytes;
    struct layer_values *v = &n->layer[layer];
    v->noise[part->index] = logits; // not read
    if (push.noisy) {
        v->noise[part->index] = network_temp_f32(n, part->rows, experts, "noise", layer);
        network_linear_f32(n, rows_of(v->n_ffn, part, row),
                           network_weight(n, ROLE_ROUTER_NOISE, layer), v->noise[part->index],
                           part->rows, experts, hidden);
    }
    plan_add(n->plan, KERNEL_ROUTER_NOISE, 0, &push,
             PLAN_BIND(n->io.step, v->noise[part->index], temperature(n, layer), logits));
}

static void noise_back(struct network *n, int32_t layer, const struct part *part,
                       struct plan_range dlogits, struct plan_range dn)
{
    const struct push_router_noise push = noise_push(n, layer, part);
    if (!is_shaken(&push)) return;
    const uint32_t experts = n->config->num_experts;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range partial = network_temp_f32(n, part->rows, 1, "dtemperature", layer),
                            dnoise = network_temp(n, part->rows, experts, "dnoise", layer);
    plan_add(n->plan, KERNEL_ROUTER_NOISE_BACK, 0, &push,
             PLAN_BIND(n->io.step, v->noise[part->index], temperature(n, layer),
                       v->logits[part->index], dlogits, dnoise, partial));
    const struct push_sum sum = {.count = part->rows, .accumulate = 1};
    if (push.learned)
        plan_add(n->plan, KERNEL_SUM, 0, &sum,
                 PLAN_BIND(partial, network_grad(n, ROLE_ROUTER_TEMPERATURE, layer)));
    if (push.noisy)
        linear_back(n, layer, part, ROLE_ROUTER_NOISE, dnoise, n->config->hidden_size, v->n_ffn,
                    dn, true);
}

// ---- forward

// Scores into probs; what picks go by, which is the scores themselves where nothing is added.
static struct plan_range score_steps(struct network *n, int32_t layer, const struct part *part,
                                     const struct push_router *push, struct plan_range logits)
{
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range scores = v->probs[part->index];
    plan_add(n->plan, KERNEL_ROUTER_SCORE, 0, push,
             PLAN_BIND(logits, scores, rows_of(v->router_lse, part, 4)));
    if (!push->biased && push->groups < 2) return scores;
    const struct plan_range choice =
        network_temp_f32(n, part->rows, push->experts, "choice", layer);
    const enum model_role bias = push->biased ? ROLE_ROUTER_CORRECTION : ROLE_ROUTER;
    plan_add(n->plan, KERNEL_ROUTER_CHOICE, 0, push,
             PLAN_BIND(scores, network_weight(n, bias, layer), choice));
    return choice;
}

static bool keeps_logits(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    return router->z_square_coef != 0 || router->learn_temperature;
}

static void hash_part(struct network *n, int32_t layer, const struct part *part)
{
    struct layer_values *v = &n->layer[layer];
    const uint32_t top_k = network_router(n, layer)->top_k;
    const struct plan_range probs = v->probs[part->index];
    const struct push_router_hash push = {part->rows, n->config->num_experts, top_k,
                                          (uint32_t)layer};
    v->logits[part->index] = probs;
    plan_add(n->plan, KERNEL_ROUTER_HASH, 0, &push,
             PLAN_BIND(rows_of(n->io.ids, part, 4), probs, rows_of(v->ids, part, 4ull * top_k),
                       rows_of(v->gates, part, 4ull * top_k), rows_of(v->router_lse, part, 4)));
}

// Expert choice sees all tokens at once.
static void columns_step(struct network *n, int32_t layer, const struct part *part,
                         struct plan_range ids, struct plan_range gates)
{
    const struct config_router *router = network_router(n, layer);
    const struct push_router_columns push = {n->tokens, n->config->num_experts,
                                             network_capacity(n, layer),
                                             (float)router->scaling_factor};
    const bool fits = part->rows == n->tokens && n->tokens <= COLUMN_TOKENS;
    if (!fits && part->begin == 0)
        log_error("router_type expert_choice: scores of %u tokens for %u experts in one batch, "
                  "wanted at most %d tokens and %llu bytes; make batch_size or seq_len smaller",
                  n->tokens, push.experts, COLUMN_TOKENS,
                  (unsigned long long)n->plan->gpu->caps.max_range);
    n->plan->failed |= !fits;
    if (!fits) return;
    plan_add(n->plan, KERNEL_ROUTER_COLUMNS, 0, &push,
             PLAN_BIND(n->layer[layer].probs[part->index], ids, gates));
}

static void route_part(struct network *n, int32_t layer, const struct part *part)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const struct push_router push = part_push(n, layer, part);
    const uint32_t width = network_router_width(n, layer);
    const uint64_t picks = 4ull * push.top_k, row = (uint64_t)width * n->store_bytes;
    const struct plan_range logits =
        network_temp_f32(n, part->rows, c->num_experts, "router_logits", layer);
    const struct plan_range probs =
        network_temp_f32(n, part->rows, c->num_experts, "probs", layer);
    const struct plan_range ids = rows_of(v->ids, part, picks),
                            gates = rows_of(v->gates, part, picks);
    const struct router_products products = {part->rows, c->num_experts, v->router_inverse, {0}};
    v->probs[part->index] = probs;
    if (network_router(n, layer)->type == CONFIG_ROUTER_HASH) {
        hash_part(n, layer, part);
        return;
    }
    v->logits[part->index] = keeps_logits(n, layer) ? logits : probs; // else nobody reads them
    network_linear_bias_f32(n, rows_of(v->router_in, part, row),
                            network_weight(n, ROLE_ROUTER, layer),
                            network_weight_if(n, ROLE_ROUTER_BIAS, layer), logits, part->rows,
                            c->num_experts, width);
    network_router_scale(n, layer, &products, logits, false);
    noise_steps(n, layer, part, logits);
    if (is_plain(network_router(n, layer))) {
        plan_add(n->plan, KERNEL_ROUTER, 0, &push,
                 PLAN_BIND(logits, probs, ids, gates, rows_of(v->router_lse, part, 4)));
        return;
    }
    const struct plan_range choice = score_steps(n, layer, part, &push, logits);
    if (network_router(n, layer)->type == CONFIG_ROUTER_EXPERT_CHOICE)
        columns_step(n, layer, part, ids, gates);
    else
        plan_add(n->plan, KERNEL_ROUTER_PICK, 0, &push, PLAN_BIND(choice, probs, ids, gates));
}

void network_route(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    v->ids = network_temp_f32(n, n->tokens, network_router(n, layer)->top_k, "picks", layer);
    v->gates = network_temp_f32(n, n->tokens, network_router(n, layer)->top_k, "gates", layer);
    if (network_router(n, layer)->n_domains) {
        network_hierarchy(n, layer);
        return;
    }
    v->router_lse = network_temp_f32(n, n->tokens, 1, "router_lse", layer);
    uint32_t parts = 0;
    for (struct part part = {0}; next_part(n, &part);) parts++;
    v->probs = arena_array(n->plan->arena, parts, sizeof *v->probs);
    v->logits = arena_array(n->plan->arena, parts, sizeof *v->logits);
    v->noise = arena_array(n->plan->arena, parts, sizeof *v->noise);
    network_router_body(n, layer);
    for (struct part part = {0}; next_part(n, &part);) route_part(n, layer, &part);
}

// ---- statistics and losses

static uint64_t stats_bytes(const struct network *n)
{
    return 4ull * (ROUTER_STATS_HEAD + 3ull * n->config->num_experts);
}

uint32_t network_domain_stats(const struct config *config)
{
    return (uint32_t)align_up(ROUTER_STATS_HEAD + 3ull * config->num_experts, 64);
}

uint32_t network_stats_stride(const struct config *config)
{
    uint32_t domains = 0;
    for (uint32_t i = 0; i < config->num_hidden_layers; i++)
        if (config->moe_layer[i]) domains = max_u32(domains, config->layer_router[i].n_domains);
    const uint64_t more = domains ? ROUTER_STATS_HEAD + 3ull * domains : 0;
    return network_domain_stats(config) + (uint32_t)align_up(more, 64);
}

static uint32_t moe_index(const struct network *n, int32_t layer)
{
    uint32_t index = 0;
    for (int32_t i = 0; i < layer; i++) index += n->config->moe_layer[i];
    return index;
}

static struct plan_range layer_stats(const struct network *n, int32_t layer)
{
    const uint64_t stride = 4ull * n->stats_stride;
    return plan_slice(n->io.stats, moe_index(n, layer) * stride, stride);
}

static struct plan_range stats_of(const struct network *n, int32_t layer)
{
    return plan_slice(layer_stats(n, layer), 0, stats_bytes(n));
}

// How much weight each expert was given, where a loss asks.
static struct plan_range gate_sums(struct network *n, int32_t layer, struct plan_range other)
{
    const struct layer_values *v = &n->layer[layer];
    if (network_router(n, layer)->importance_coef == 0) return other;
    const struct plan_range sums =
        network_temp_f32(n, n->config->num_experts, 1, "gate_sums", layer);
    const struct push_router push = network_router_push(n, layer);
    plan_add(n->plan, KERNEL_ROUTER_GATES, 0, &push,
             PLAN_BIND(v->gates, v->wanted, v->wanted_order, sums));
    return sums;
}

void network_route_stats(struct network *n, int32_t layer)
{
    if (n->mode != NETWORK_TRAIN && n->mode != NETWORK_EVAL) return;
    struct layer_values *v = &n->layer[layer];
    const uint32_t experts = n->config->num_experts;
    if (network_router(n, layer)->n_domains) {
        network_hierarchy_stats(n, layer, layer_stats(n, layer));
        return;
    }
    const struct plan_range stats = stats_of(n, layer),
                            sums = network_temp_f32(n, experts, 1, "sums", layer),
                            entropy = network_temp_f32(n, n->tokens, 1, "entropy", layer);
    for (struct part part = {0}; next_part(n, &part);) {
        const struct push_router push = part_push(n, layer, &part);
        plan_add(n->plan, KERNEL_ROUTER_ENTROPY, 0, &push,
                 PLAN_BIND(v->probs[part.index], rows_of(v->router_lse, &part, 4),
                           rows_of(entropy, &part, 4)));
        plan_add(n->plan, KERNEL_ROUTER_STATS, 0, &push,
                 PLAN_BIND(v->probs[part.index], v->wanted, rows_of(v->router_lse, &part, 4),
                           v->logits[part.index], stats, sums));
    }
    const struct push_router_losses push = network_losses_push(n, layer);
    v->slope = network_temp_f32(n, experts, 2, "slope", layer);
    plan_add(n->plan, KERNEL_ROUTER_LOSSES, 0, &push,
             PLAN_BIND(v->router_lse, sums, gate_sums(n, layer, sums), v->offsets, stats,
                       v->slope, entropy));
}

void network_route_pool(struct network *n)
{
    for (int32_t layer = 0; layer < (int32_t)n->config->num_hidden_layers; layer++) {
        if (!n->config->moe_layer[layer] || network_router(n, layer)->pooled_coef == 0) continue;
        const struct push_router_pool push = {
            .tokens = n->tokens, .experts = n->config->num_experts,
            .layers = config_moe_layers(n->config), .stride = n->stats_stride,
            .layer = moe_index(n, layer),
            .coef = (float)network_router(n, layer)->pooled_coef * loss_share(n, layer)};
        plan_add(n->plan, KERNEL_ROUTER_POOL, 0, &push,
                 PLAN_BIND(n->io.stats, n->layer[layer].slope));
    }
}

// ---- backward

static void part_back(struct network *n, int32_t layer, const struct part *part,
                      struct plan_range dgates, struct plan_range din, struct plan_range dn)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t experts = c->num_experts;
    const uint64_t picks = 4ull * network_router(n, layer)->top_k;
    const struct plan_range dlogits = network_temp(n, part->rows, experts, "drouter", layer);
    const struct push_router push = part_push(n, layer, part);
    const struct router_products products = {part->rows, experts, v->router_inverse, {0}};
    plan_add(n->plan, KERNEL_ROUTER_BACK, 0, &push,
             PLAN_BIND(v->probs[part->index], rows_of(v->ids, part, picks),
                       rows_of(dgates, part, picks), rows_of(v->router_lse, part, 4), v->slope,
                       n->io.step, v->logits[part->index], dlogits));
    noise_back(n, layer, part, dlogits, dn);
    if (n->config->router_bias)
        network_bias_grad(n, dlogits, network_grad(n, ROLE_ROUTER_BIAS, layer), part->rows,
                          experts);
    network_router_scale(n, layer, &products, dlogits, true);
    linear_back(n, layer, part, ROLE_ROUTER, dlogits, network_router_width(n, layer), v->router_in,
                din, din.tensor == dn.tensor);
}

void network_route_back(struct network *n, int32_t layer, struct plan_range dgates,
                        struct plan_range dn)
{
    if (network_router(n, layer)->type == CONFIG_ROUTER_HASH) return;
    if (network_router(n, layer)->n_domains) {
        network_hierarchy_back(n, layer, dgates, dn);
        return;
    }
    const struct plan_range din = network_router_din(n, layer, dn);
    for (struct part part = {0}; next_part(n, &part);) part_back(n, layer, &part, dgates, din, dn);
    network_router_body_back(n, layer, din, dn);
}

// ---- after the step

static void bias_step(struct plan *plan, const struct params *params, const struct network_io *io,
                      struct plan_range stats, const struct model_tensor *bias, int32_t layer)
{
    const struct config *c = &params->model->config;
    const bool copy = params->buffer[PARAMS_COMPUTE] != NULL;
    const struct push_router_bias push = {.experts = c->num_experts, .copy = copy,
                                          .speed = (float)c->layer_router[layer].bias_speed};
    const struct plan_range master = params_range(params, plan, PARAMS_MASTER, bias);
    plan_add(plan, KERNEL_ROUTER_BIAS, 0, &push,
             PLAN_BIND(stats, io->norm, master,
                       copy ? params_range(params, plan, PARAMS_COMPUTE, bias) : master));
}

static void stochastic_bias_step(struct plan *plan, const struct params *params,
                                 const struct network_io *io, struct plan_range stats,
                                 const struct model_tensor *bias, int32_t layer)
{
    const struct config *c = &params->model->config;
    const struct push_router_bias_stochastic push = {
        .experts = c->num_experts,
        .draw = (uint32_t)bias->draw,
        .nearest = !c->stochastic_rounding,
        .speed = (float)c->layer_router[layer].bias_speed};
    plan_add(plan, KERNEL_ROUTER_BIAS_STOCHASTIC, 0, &push,
             PLAN_BIND(io->step, stats, io->norm,
                       params_range(params, plan, PARAMS_COMPUTE, bias)));
}

void network_route_update(struct plan *plan, struct params *params, const struct network_io *io)
{
    const struct model *model = params->model;
    const struct config *c = &model->config;
    uint32_t index = 0;
    for (int32_t layer = 0; layer < (int32_t)c->num_hidden_layers; layer++) {
        if (!c->moe_layer[layer]) continue;
        const uint64_t row = 4ull * network_stats_stride(c);
        const struct plan_range stats = plan_slice(io->stats, index++ * row, row);
        const struct model_tensor *bias = model_find(model, ROLE_ROUTER_CORRECTION, layer);
        if (!bias) continue;
        if (c->master_weights) bias_step(plan, params, io, stats, bias, layer);
        else stochastic_bias_step(plan, params, io, stats, bias, layer);
    }
}
