// SPDX-License-Identifier: MIT
// Routers of two levels as steps: a router over the domains; its pairs (token, domain), sorted by
// domain, are rows; a router over the experts of a row's domain, whose logits are one grouped
// product; the picks of the rows become those of tokens, gate = domain gate * row gate. Experts of
// other domains cost nothing but their gradient's memory. Both levels have the same body,
// temperature, jitter and coefficients of losses; losses are those of the two routers, added.
//
// The domain's gate is its probability, divided by those of the token's other domains where
// norm_topk_prob; where it is the only one it stays as it is, for else no gradient would reach it.
#include "runtime/log.h"
#include "src/base.h"
#include "src/plan_model.h"

struct levels { uint32_t domains, picked, size, picks, rows, width; };

// size: experts of a domain; picks: of a row
static struct levels levels_of(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    return (struct levels){.domains = router->n_domains,
                           .picked = router->domains_per_tok,
                           .size = n->config->num_experts / router->n_domains,
                           .picks = router->top_k / router->domains_per_tok,
                           .rows = n->tokens * router->domains_per_tok,
                           .width = network_router_width(n, layer)};
}

// ---- push words

static struct push_router domain_push(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    struct push_router push = network_router_push(n, layer);
    push.experts = l.domains;
    push.top_k = l.picked;
    push.renormalise &= l.picked > 1;
    push.pick = PICK_TOP;
    push.scale = 1;
    return push;
}

static struct push_router row_push(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    struct push_router push = network_router_push(n, layer);
    push.tokens = l.rows;
    push.experts = l.size;
    push.top_k = l.picks;
    push.least /= l.picked;
    push.domains = l.domains;
    return push;
}

static struct push_router_join join_push(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    return (struct push_router_join){l.rows, l.picks, l.size};
}

// The grids as if each domain were a body with its experts for outputs.
static struct push_moe_sort sort_push(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    const struct kernel_moe_size size = {.tokens = n->tokens, .experts = l.domains,
                                         .top_k = l.picked, .hidden = l.size, .inner = l.width,
                                         .rows = max_u32(l.rows / l.domains, 1), .logits = true};
    return kernel_moe_sort(n->plan->kernels, n->plan->store, &size);
}

static struct plan_range grid(const struct sort_values *sort, enum kernel_moe_grid entry)
{
    return plan_slice(sort->indirect, entry * 16ull, 12);
}

// ---- windows: some domains, whose experts' rows of a table one binding may cover

struct window { uint32_t first, count; struct sort_values sort; };

// Domains of a window, whose rows begin at multiples of what any binding's offset must be.
static uint32_t window_domains(const struct network *n, const struct levels *l, uint64_t row_bytes)
{
    enum { ROWS = 128 };
    const uint64_t range = n->plan->gpu->caps.max_range, domain = l->size * row_bytes;
    if (l->domains * domain <= range) return l->domains;
    uint32_t whole = 1;
    while (whole * l->size % ROWS) whole *= 2;
    const uint64_t most = range / domain / whole * whole;
    if (most == 0)
        log_error("router_type hierarchical: %u experts of %u domains are rows of %llu bytes, and "
                  "the device binds %llu bytes at once; wanted more n_domains",
                  l->size, whole, (unsigned long long)row_bytes, (unsigned long long)range);
    n->plan->failed |= most == 0;
    return (uint32_t)min_u64(most, l->domains);
}

// The rows of some domains, numbered from the first of them.
static struct sort_values window_sort(struct network *n, int32_t layer, uint32_t first,
                                      uint32_t count)
{
    const struct push_moe_sort sort = sort_push(n, layer);
    const struct sort_values *all = &n->layer[layer].domains.sort;
    struct push_moe_place push = kernel_moe_place(&sort, first, count);
    push.own = 1;
    struct sort_values own = *all;
    own.tiles = network_temp_f32(n, push.max_tiles + 1, 4, "tiles_window", layer);
    own.ranges = network_temp_f32(n, push.ranges + 1, 4, "ranges_window", layer);
    own.indirect = network_temp_f32(n, MOE_GRIDS, 4, "indirect_window", layer);
    plan_add(n->plan, KERNEL_MOE_PLACE, 0, &push,
             PLAN_BIND(all->ranges, all->offsets, own.tiles, own.ranges, own.indirect));
    return own;
}

// The next window of a table whose rows have so many bytes; {0} before the first.
static bool next_window(struct network *n, int32_t layer, uint64_t row_bytes, struct window *w)
{
    const struct levels l = levels_of(n, layer);
    const uint32_t most = window_domains(n, &l, row_bytes);
    w->first += w->count;
    w->count = min_u32(most, l.domains - w->first);
    if (w->count == 0) return false;
    w->sort = w->count == l.domains ? n->layer[layer].domains.sort
                                    : window_sort(n, layer, w->first, w->count);
    return true;
}

static struct plan_range window_rows(const struct levels *l, const struct window *w,
                                     struct plan_range range, uint64_t row_bytes)
{
    return network_rows(range, row_bytes, w->first * l->size, w->count * l->size);
}

static struct push_moe_matmul product_push(const struct levels *l, uint32_t cols, uint32_t inner)
{
    return (struct push_moe_matmul){.pairs = l->rows, .experts = l->domains, .n = cols,
                                    .k = inner, .top_k = l->picked};
}

static struct router_products domain_products(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    return (struct router_products){n->tokens, l.domains, n->layer[layer].domains.inverse, {0}};
}

static struct router_products row_products(const struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    return (struct router_products){l.rows, l.size, v->router_inverse, v->domains.base};
}

// ---- jitter and temperature: each level has random numbers of its own

enum { DOMAIN_LEVEL = 1 << 16 }; // added to the layer's number

static struct push_router_noise noise_push(const struct network *n, int32_t layer, bool domains)
{
    const struct config_router *router = network_router(n, layer);
    const struct levels l = levels_of(n, layer);
    const uint32_t rows = domains ? n->tokens : l.rows;
    return (struct push_router_noise){
        .tokens = rows, .experts = domains ? l.domains : l.size, .total = rows,
        .layer = (uint32_t)layer + (domains ? DOMAIN_LEVEL : 0),
        .learned = router->learn_temperature,
        .jitter = n->mode == NETWORK_TRAIN ? (float)router->jitter : 0};
}

static struct plan_range temperature(const struct network *n, int32_t layer)
{
    const bool learned = network_router(n, layer)->learn_temperature;
    return network_weight(n, learned ? ROLE_ROUTER_TEMPERATURE : ROLE_ROUTER_DOMAIN, layer);
}

static void noise_steps(struct network *n, int32_t layer, bool domains, struct plan_range logits)
{
    const struct push_router_noise push = noise_push(n, layer, domains);
    if (!push.learned && push.jitter == 0) return;
    plan_add(n->plan, KERNEL_ROUTER_NOISE, 0, &push,
             PLAN_BIND(n->io.step, logits, temperature(n, layer), logits));
}

static void noise_back(struct network *n, int32_t layer, bool domains, struct plan_range logits,
                       struct plan_range dlogits)
{
    const struct push_router_noise push = noise_push(n, layer, domains);
    if (!push.learned && push.jitter == 0) return;
    const struct plan_range partial = network_temp_f32(n, push.tokens, 1, "dtemperature", layer);
    plan_add(n->plan, KERNEL_ROUTER_NOISE_BACK, 0, &push,
             PLAN_BIND(n->io.step, logits, temperature(n, layer), logits, dlogits, dlogits,
                       partial));
    const struct push_sum sum = {.count = push.tokens, .accumulate = 1};
    if (push.learned)
        plan_add(n->plan, KERNEL_SUM, 0, &sum,
                 PLAN_BIND(partial, network_grad(n, ROLE_ROUTER_TEMPERATURE, layer)));
}

// ---- forward

static void domain_steps(struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    struct layer_values *v = &n->layer[layer];
    struct hierarchy_values *d = &v->domains;
    const struct push_router push = domain_push(n, layer);
    const struct router_products products = domain_products(n, layer);
    d->logits = network_temp_f32(n, n->tokens, l.domains, "domain_logits", layer);
    d->probs = network_temp_f32(n, n->tokens, l.domains, "domain_probs", layer);
    d->ids = network_temp_f32(n, n->tokens, l.picked, "domain_picks", layer);
    d->gates = network_temp_f32(n, n->tokens, l.picked, "domain_gates", layer);
    d->lse = network_temp_f32(n, n->tokens, 1, "domain_lse", layer);
    network_linear_bias_f32(n, v->router_in, network_weight(n, ROLE_ROUTER_DOMAIN, layer),
                            network_weight_if(n, ROLE_ROUTER_DOMAIN_BIAS, layer), d->logits,
                            n->tokens, l.domains, l.width);
    network_router_scale(n, layer, &products, d->logits, false);
    noise_steps(n, layer, true, d->logits);
    plan_add(n->plan, KERNEL_ROUTER, 0, &push,
             PLAN_BIND(d->logits, d->probs, d->ids, d->gates, d->lse));
}

static void row_logits(struct network *n, int32_t layer, struct plan_range logits)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range weight = network_weight(n, ROLE_ROUTER, layer),
                            bias = network_weight_if(n, ROLE_ROUTER_BIAS, layer);
    const struct router_products products = row_products(n, layer);
    const uint64_t row = (uint64_t)l.width * n->store_bytes;
    struct push_moe_matmul push = product_push(&l, l.size, l.width);
    push.bias = n->config->router_bias;
    for (struct window w = {0}; next_window(n, layer, row, &w);) {
        const struct plan_range own = window_rows(&l, &w, weight, row);
        push.experts = w.count;
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NTF, max_u32(l.rows / l.domains, 1), &push,
                          PLAN_BIND(v->router_in, w.sort.tiles, own, logits,
                                    push.bias ? window_rows(&l, &w, bias, n->store_bytes) : own,
                                    w.sort.order),
                          grid(&w.sort, MOE_GRID_DOWN));
    }
    network_router_scale(n, layer, &products, logits, false);
    noise_steps(n, layer, false, logits);
}

static void row_steps(struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    struct layer_values *v = &n->layer[layer];
    struct hierarchy_values *d = &v->domains;
    const struct push_router push = row_push(n, layer);
    const struct plan_range logits = network_temp_f32(n, l.rows, l.size, "router_logits", layer),
                            probs = network_temp_f32(n, l.rows, l.size, "probs", layer);
    v->logits[0] = logits;
    v->probs[0] = probs;
    v->router_lse = network_temp_f32(n, l.rows, 1, "router_lse", layer);
    d->row_ids = network_temp_f32(n, l.rows, l.picks, "row_picks", layer);
    d->row_gates = network_temp_f32(n, l.rows, l.picks, "row_gates", layer);
    row_logits(n, layer, logits);
    if (push.pick == PICK_TOP && push.scale == 1) {
        plan_add(n->plan, KERNEL_ROUTER, 0, &push,
                 PLAN_BIND(logits, probs, d->row_ids, d->row_gates, v->router_lse));
        return;
    }
    plan_add(n->plan, KERNEL_ROUTER_SCORE, 0, &push, PLAN_BIND(logits, probs, v->router_lse));
    plan_add(n->plan, KERNEL_ROUTER_PICK, 0, &push,
             PLAN_BIND(probs, probs, d->row_ids, d->row_gates));
}

void network_hierarchy(struct network *n, int32_t layer)
{
    const struct levels l = levels_of(n, layer);
    struct layer_values *v = &n->layer[layer];
    struct hierarchy_values *d = &v->domains;
    const struct push_moe_sort sort = sort_push(n, layer);
    const struct push_router_join join = join_push(n, layer);
    v->probs = arena_array(n->plan->arena, 1, sizeof *v->probs);
    v->logits = arena_array(n->plan->arena, 1, sizeof *v->logits);
    network_router_body(n, layer);
    domain_steps(n, layer);
    d->sort = network_sort(n, layer, &sort, d->ids);
    d->base = network_temp_f32(n, l.rows, 1, "base", layer);
    plan_add(n->plan, KERNEL_ROUTER_BASE, 0, &join, PLAN_BIND(d->ids, d->sort.inverse, d->base));
    row_steps(n, layer);
    plan_add(n->plan, KERNEL_ROUTER_JOIN, 0, &join,
             PLAN_BIND(d->gates, d->sort.inverse, d->base, d->row_ids, d->row_gates, v->ids,
                       v->gates));
}

// ---- statistics and losses of both levels: each as a router's

static void domain_stats(struct network *n, int32_t layer, struct plan_range stats)
{
    const struct levels l = levels_of(n, layer);
    struct hierarchy_values *d = &n->layer[layer].domains;
    const struct push_router push = domain_push(n, layer);
    struct push_router_losses losses = network_losses_push(n, layer);
    const struct plan_range sums = network_temp_f32(n, l.domains, 1, "domain_sums", layer),
                            entropy = network_temp_f32(n, n->tokens, 1, "domain_entropy", layer);
    losses.experts = l.domains;
    d->slope = network_temp_f32(n, l.domains, 2, "domain_slope", layer);
    plan_add(n->plan, KERNEL_ROUTER_ENTROPY, 0, &push, PLAN_BIND(d->probs, d->lse, entropy));
    plan_add(n->plan, KERNEL_ROUTER_STATS, 0, &push,
             PLAN_BIND(d->probs, d->sort.offsets, d->lse, d->logits, stats, sums));
    plan_add(n->plan, KERNEL_ROUTER_LOSSES, 0, &losses,
             PLAN_BIND(d->lse, sums, sums, d->sort.offsets, stats, d->slope, entropy));
}

void network_hierarchy_stats(struct network *n, int32_t layer, struct plan_range stats)
{
    const struct levels l = levels_of(n, layer);
    struct layer_values *v = &n->layer[layer];
    const uint32_t experts = n->config->num_experts;
    const struct push_router push = row_push(n, layer);
    struct push_router_losses losses = network_losses_push(n, layer);
    const struct plan_range sums = network_temp_f32(n, experts, 1, "sums", layer),
                            entropy = network_temp_f32(n, l.rows, 1, "entropy", layer),
                            own = plan_slice(stats, 0, 4 * (ROUTER_STATS_HEAD + 3ull * experts));
    losses.tokens = l.rows;
    v->slope = network_temp_f32(n, experts, 2, "slope", layer);
    plan_add(n->plan, KERNEL_ROUTER_ENTROPY, 0, &push,
             PLAN_BIND(v->probs[0], v->router_lse, entropy));
    plan_add(n->plan, KERNEL_ROUTER_STATS_WITHIN, 0, &push,
             PLAN_BIND(v->probs[0], v->wanted, v->domains.sort.offsets, own, sums));
    plan_add(n->plan, KERNEL_ROUTER_LOSSES, 0, &losses,
             PLAN_BIND(v->router_lse, sums, sums, v->offsets, own, v->slope, entropy));
    domain_stats(n, layer, plan_slice(stats, 4ull * network_domain_stats(n->config),
                                      4 * (ROUTER_STATS_HEAD + 3ull * l.domains)));
}

// ---- backward

static void row_weights_back(struct network *n, int32_t layer, struct plan_range dlogits)
{
    const struct levels l = levels_of(n, layer);
    const struct plan_range grad = network_grad(n, ROLE_ROUTER, layer);
    struct push_moe_matmul push = product_push(&l, l.width, 0);
    push.m = l.size;
    push.gather = 1; // of b
    for (struct window w = {0}; next_window(n, layer, 4ull * l.width, &w);) {
        push.experts = w.count;
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_TN, max_u32(l.rows / l.domains, 1), &push,
                          PLAN_BIND(dlogits, n->layer[layer].router_in, w.sort.order,
                                    w.sort.ranges, window_rows(&l, &w, grad, 4ull * l.width)),
                          grid(&w.sort, MOE_GRID_DOWN_WEIGHT));
    }
}

// What the rows are worth to the body's output [T][width].
static void row_input_back(struct network *n, int32_t layer, struct plan_range dlogits,
                           struct plan_range din, bool add)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range matrix = network_weight(n, ROLE_ROUTER, layer),
                            dx = network_temp(n, l.rows, l.width, "drows", layer);
    const uint64_t row = (uint64_t)l.width * n->store_bytes;
    struct push_moe_matmul push = product_push(&l, l.width, l.size);
    for (struct window w = {0}; next_window(n, layer, row, &w);) {
        const struct plan_range own = window_rows(&l, &w, matrix, row);
        push.experts = w.count;
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, max_u32(l.rows / l.domains, 1), &push,
                          PLAN_BIND(dlogits, w.sort.order, w.sort.tiles, own, dx, dlogits, own),
                          grid(&w.sort, MOE_GRID_BACK_H));
    }
    const struct push_moe_combine combine = {
        .tokens = n->tokens, .cols = l.width, .top_k = l.picked, .add = add};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &combine,
             PLAN_BIND(dx, v->domains.sort.inverse, v->domains.gates, din, din));
}

static void row_back(struct network *n, int32_t layer, struct plan_range drow,
                     struct plan_range din, bool add)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct hierarchy_values *d = &v->domains;
    const struct push_router push = row_push(n, layer);
    const struct router_products products = row_products(n, layer);
    const struct plan_range dlogits = network_temp(n, l.rows, l.size, "drouter", layer);
    plan_add(n->plan, KERNEL_ROUTER_BACK_WITHIN, 0, &push,
             PLAN_BIND(v->probs[0], d->row_ids, drow, v->router_lse, v->slope, n->io.step, d->base,
                       dlogits));
    noise_back(n, layer, false, v->logits[0], dlogits);
    const struct push_moe_column_sum bias = {l.domains, l.size, l.picked, 0};
    if (n->config->router_bias)
        plan_add(n->plan, KERNEL_MOE_COLUMN_SUM, 0, &bias,
                 PLAN_BIND(dlogits, d->sort.order, d->sort.offsets, d->gates,
                           network_grad(n, ROLE_ROUTER_BIAS, layer)));
    network_router_scale(n, layer, &products, dlogits, true);
    row_weights_back(n, layer, dlogits);
    row_input_back(n, layer, dlogits, din, add);
}

static void domain_back(struct network *n, int32_t layer, struct plan_range dgates,
                        struct plan_range din)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct hierarchy_values *d = &v->domains;
    const struct push_router push = domain_push(n, layer);
    const struct router_products products = domain_products(n, layer);
    const struct plan_range dlogits = network_temp(n, n->tokens, l.domains, "ddomains", layer);
    plan_add(n->plan, KERNEL_ROUTER_BACK, 0, &push,
             PLAN_BIND(d->probs, d->ids, dgates, d->lse, d->slope, n->io.step, d->logits,
                       dlogits));
    noise_back(n, layer, true, d->logits, dlogits);
    if (n->config->router_bias)
        network_bias_grad(n, dlogits, network_grad(n, ROLE_ROUTER_DOMAIN_BIAS, layer), n->tokens,
                          l.domains);
    network_router_scale(n, layer, &products, dlogits, true);
    network_linear_back_weight(n, dlogits, v->router_in,
                               network_grad(n, ROLE_ROUTER_DOMAIN, layer), n->tokens, l.domains,
                               l.width);
    network_linear_back_input(n, dlogits, network_weight(n, ROLE_ROUTER_DOMAIN, layer), din,
                              n->tokens, l.domains, l.width, true);
}

void network_hierarchy_back(struct network *n, int32_t layer, struct plan_range dgates,
                            struct plan_range dn)
{
    const struct levels l = levels_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct hierarchy_values *d = &v->domains;
    const struct push_router_join join = join_push(n, layer);
    const struct plan_range din = network_router_din(n, layer, dn),
                            ddomain = network_temp_f32(n, l.rows, 1, "ddomain_gates", layer),
                            drow = network_temp_f32(n, l.rows, l.picks, "drow_gates", layer);
    plan_add(n->plan, KERNEL_ROUTER_JOIN_BACK, 0, &join,
             PLAN_BIND(d->gates, d->sort.inverse, d->row_gates, dgates, ddomain, drow));
    row_back(n, layer, drow, din, din.tensor == dn.tensor);
    domain_back(n, layer, ddomain, din);
    network_router_body_back(n, layer, din, dn);
}
