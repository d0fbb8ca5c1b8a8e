// SPDX-License-Identifier: MIT
// The bodies of routers as steps: what a router's last linear layer takes, what its products
// become, and the way back. linear: n, and nothing. mlp: f(W n + b), and nothing. cosine: n / |n|,
// and each column divided by the length of its signature; their gradients are those of directions.
#include <math.h>

#include "src/base.h"
#include "src/plan_model.h"

static enum config_router_body body_of(const struct network *n, int32_t layer)
{
    return network_router(n, layer)->body;
}

uint32_t network_router_width(const struct network *n, int32_t layer)
{
    const uint32_t inner = network_router(n, layer)->hidden_size;
    return inner ? inner : n->config->hidden_size;
}

// ---- mlp

static struct push_activate activate_push(const struct network *n, int32_t layer)
{
    return (struct push_activate){.count = n->tokens * network_router_width(n, layer),
                                  .activation = network_activation(n)};
}

static void mlp_steps(struct network *n, int32_t layer)
{
    const uint32_t inner = network_router_width(n, layer);
    struct layer_values *v = &n->layer[layer];
    const struct push_activate push = activate_push(n, layer);
    v->router_mid = network_temp(n, n->tokens, inner, "router_mid", layer);
    v->router_in = network_temp(n, n->tokens, inner, "router_in", layer);
    network_linear_bias(n, v->n_ffn, network_weight(n, ROLE_ROUTER_HIDDEN, layer),
                        network_weight_if(n, ROLE_ROUTER_HIDDEN_BIAS, layer), v->router_mid, NULL,
                        n->tokens, inner, n->config->hidden_size);
    plan_add(n->plan, KERNEL_ACTIVATE, 0, &push,
             PLAN_BIND(v->router_mid, v->router_mid, v->router_in));
}

static void mlp_back(struct network *n, int32_t layer, struct plan_range din, struct plan_range dn)
{
    const uint32_t inner = network_router_width(n, layer), hidden = n->config->hidden_size;
    const struct layer_values *v = &n->layer[layer];
    const struct push_activate push = activate_push(n, layer);
    // in place: mid becomes its gradient
    plan_add(n->plan, KERNEL_ACTIVATE_BACK, 0, &push,
             PLAN_BIND(v->router_mid, v->router_mid, din));
    network_linear_back_weight(n, v->router_mid, v->n_ffn,
                               network_grad(n, ROLE_ROUTER_HIDDEN, layer), n->tokens, inner,
                               hidden);
    if (n->config->router_bias)
        network_bias_grad(n, v->router_mid, network_grad(n, ROLE_ROUTER_HIDDEN_BIAS, layer),
                          n->tokens, inner);
    network_linear_back_input(n, v->router_mid, network_weight(n, ROLE_ROUTER_HIDDEN, layer), dn,
                              n->tokens, inner, hidden, true);
}

// ---- cosine

// RMSNorm without weight, and with next to no eps: sqrt(hidden) n / |n|.
static struct push_norm unit_push(const struct network *n)
{
    return (struct push_norm){.rows = n->tokens, .cols = n->config->hidden_size, .eps = 1e-12f,
                              .weights = KERNEL_NONE_ID};
}

static struct plan_range lengths(struct network *n, int32_t layer, enum model_role role,
                                 uint32_t rows)
{
    const struct plan_range inverse = network_temp_f32(n, rows, 1, "signature_inverse", layer);
    const uint32_t cols = n->config->hidden_size;
    const uint64_t row = (uint64_t)cols * n->store_bytes;
    const uint32_t window = network_window(n, rows, row);
    for (uint32_t begin = 0; begin < rows; begin += window) {
        const struct push_norm push = {.rows = min_u32(window, rows - begin), .cols = cols};
        plan_add(n->plan, KERNEL_ROW_INVERSE, 0, &push,
                 PLAN_BIND(network_rows(network_weight(n, role, layer), row, begin, push.rows),
                           network_rows(inverse, 4, begin, push.rows)));
    }
    return inverse;
}

static void cosine_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    const struct push_norm push = unit_push(n);
    v->router_in = network_temp(n, n->tokens, push.cols, "router_in", layer);
    v->router_rstd = network_temp_f32(n, n->tokens, 1, "router_rstd", layer);
    plan_add(n->plan, KERNEL_NORM, 0, &push,
             PLAN_BIND(v->n_ffn, v->n_ffn, v->router_in, v->router_rstd));
    v->router_inverse = lengths(n, layer, ROLE_ROUTER, n->config->num_experts);
    const uint32_t domains = network_router(n, layer)->n_domains;
    if (domains) v->domains.inverse = lengths(n, layer, ROLE_ROUTER_DOMAIN, domains);
}

static void project(struct network *n, int32_t layer, enum model_role role, uint32_t rows,
                    struct plan_range inverse)
{
    const uint32_t cols = n->config->hidden_size, window = network_window(n, rows, 4ull * cols);
    for (uint32_t begin = 0; begin < rows; begin += window) {
        const struct push_norm push = {.rows = min_u32(window, rows - begin), .cols = cols};
        plan_add(n->plan, KERNEL_ROW_PROJECT, 0, &push,
                 PLAN_BIND(network_rows(network_weight(n, role, layer),
                                        (uint64_t)cols * n->store_bytes, begin, push.rows),
                           network_rows(inverse, 4, begin, push.rows),
                           network_rows(network_grad(n, role, layer), 4ull * cols, begin,
                                        push.rows)));
    }
}

static void cosine_back(struct network *n, int32_t layer, struct plan_range din,
                        struct plan_range dn)
{
    const struct layer_values *v = &n->layer[layer];
    struct push_norm push = unit_push(n);
    push.accumulate = 1;
    plan_add(n->plan, KERNEL_NORM_BACK, 0, &push,
             PLAN_BIND(v->n_ffn, v->n_ffn, v->router_rstd, din, dn));
    project(n, layer, ROLE_ROUTER, n->config->num_experts, v->router_inverse);
    const uint32_t domains = network_router(n, layer)->n_domains;
    if (domains) project(n, layer, ROLE_ROUTER_DOMAIN, domains, v->domains.inverse);
}

// ---- all

void network_router_body(struct network *n, int32_t layer)
{
    switch (body_of(n, layer)) {
    case CONFIG_BODY_LINEAR: n->layer[layer].router_in = n->layer[layer].n_ffn; break;
    case CONFIG_BODY_MLP: mlp_steps(n, layer); break;
    case CONFIG_BODY_COSINE: cosine_steps(n, layer); break;
    }
}

void network_router_scale(struct network *n, int32_t layer, const struct router_products *p,
                          struct plan_range x, bool gradient)
{
    if (body_of(n, layer) != CONFIG_BODY_COSINE) return;
    const struct push_column_scale push = {
        .rows = p->rows, .cols = p->cols, .based = p->base.tensor != 0,
        .scale = 1 / sqrtf((float)n->config->hidden_size)};
    plan_add(n->plan, gradient ? KERNEL_COLUMN_SCALE : KERNEL_COLUMN_SCALEF, 0, &push,
             PLAN_BIND(p->inverse, p->base.tensor ? p->base : p->inverse, x));
}

struct plan_range network_router_din(struct network *n, int32_t layer, struct plan_range dn)
{
    if (body_of(n, layer) == CONFIG_BODY_LINEAR) return dn;
    return network_temp(n, n->tokens, network_router_width(n, layer), "drouter_in", layer);
}

void network_router_body_back(struct network *n, int32_t layer, struct plan_range din,
                              struct plan_range dn)
{
    switch (body_of(n, layer)) {
    case CONFIG_BODY_LINEAR: break;
    case CONFIG_BODY_MLP: mlp_back(n, layer, din, dn); break;
    case CONFIG_BODY_COSINE: cosine_back(n, layer, din, dn); break;
    }
}
