// SPDX-License-Identifier: MIT
// The backward pass as steps, mirroring plan_forward.c section by section. network.dx [T][H] is the
// gradient of the residual stream; each section adds its part to it in place.
#include <math.h>

#include "src/base.h"
#include "src/plan_model.h"

// weight gradient dW [out][in] += dy^T x
static void linear_back_weight(struct network *n, struct plan_range dy, struct plan_range x,
                               enum model_role role, int32_t layer, uint32_t out, uint32_t in)
{
    network_linear_back_weight(n, dy, x, network_grad(n, role, layer), n->tokens, out, in);
}

// dx [T][in] = dy [T][out] W (+ dx where add)
static void linear_back_input(struct network *n, struct plan_range dy, enum model_role role,
                              int32_t layer, struct plan_range dx, uint32_t out, uint32_t in,
                              bool add)
{
    network_linear_back_input(n, dy, network_weight(n, role, layer), dx, n->tokens, out, in, add);
}

static void norm_back(struct network *n, struct plan_range x, enum model_role role, int32_t layer,
                      struct plan_range rstd, struct plan_range dy, struct plan_range dx,
                      uint32_t rows, uint32_t cols, bool accumulate)
{
    const struct push_norm push = {.rows = rows,
                                   .cols = cols,
                                   .accumulate = accumulate,
                                   .eps = (float)n->config->rms_norm_eps};
    plan_add(n->plan, KERNEL_NORM_BACK_WEIGHT, 0, &push,
             PLAN_BIND(x, rstd, dy, network_grad(n, role, layer)));
    plan_add(n->plan, KERNEL_NORM_BACK, 0, &push,
             PLAN_BIND(x, network_weight(n, role, layer), rstd, dy, dx));
}

// ---- feed-forward

static void dense_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dh = network_temp(n, n->tokens, inner, "dh", layer);
    linear_back_input(n, n->dx, ROLE_DOWN, layer, dh, hidden, inner, false);
    // in place: gate and up become their gradients, dh becomes h
    const struct push_activate push = {n->tokens * inner, network_activation(n), c->mlp_gated};
    plan_add(n->plan, KERNEL_ACTIVATE_BACK, 0, &push, PLAN_BIND(v->gate, v->up, dh));
    linear_back_weight(n, n->dx, dh, ROLE_DOWN, layer, hidden, inner);
    if (c->mlp_gated) linear_back_weight(n, v->gate, v->n_ffn, ROLE_GATE, layer, inner, hidden);
    linear_back_weight(n, v->up, v->n_ffn, ROLE_UP, layer, inner, hidden);
    linear_back_input(n, v->up, ROLE_UP, layer, dn, inner, hidden, false);
    if (c->mlp_gated) linear_back_input(n, v->gate, ROLE_GATE, layer, dn, inner, hidden, true);
}

static void ffn_back(struct network *n, int32_t layer)
{
    const struct layer_values *v = &n->layer[layer];
    const uint32_t hidden = n->config->hidden_size;
    plan_section(n->plan, "layer %d %s back", layer, n->config->moe_layer[layer] ? "moe" : "ffn");
    const struct plan_range dn = network_temp(n, n->tokens, hidden, "dn_ffn", layer);
    if (n->config->moe_layer[layer]) network_moe_back(n, layer, dn);
    else dense_back(n, layer, dn);
    norm_back(n, v->x_mid, ROLE_NORM_FFN, layer, v->rstd_ffn, dn, n->dx, n->tokens, hidden, true);
}

// ---- attention

struct attention_grads { struct plan_range dq, dk, dv; };

static struct attention_grads attend_back(struct network *n, int32_t layer, struct plan_range d_o)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t q_cols = c->num_attention_heads * c->head_dim,
                   kv_cols = c->num_key_value_heads * c->head_dim;
    const struct push_attention push = {
        .batch = n->batch, .seq = n->seq, .stride = n->seq, .heads = c->num_attention_heads,
        .kv_heads = c->num_key_value_heads, .head_dim = c->head_dim, .window = c->sliding_window,
        .scale = (float)(1.0 / sqrt((double)c->head_dim)),
    };
    const struct attention_grads g = {.dq = network_temp(n, n->tokens, q_cols, "dq", layer),
                                      .dk = network_temp(n, n->tokens, kv_cols, "dk", layer),
                                      .dv = network_temp(n, n->tokens, kv_cols, "dv", layer)};
    const struct plan_range delta =
        network_temp_f32(n, n->tokens, c->num_attention_heads, "delta", layer);
    const struct push_norm rows = {.rows = n->tokens * c->num_attention_heads, .cols = c->head_dim};
    plan_add(n->plan, KERNEL_ATTENTION_DELTA, 0, &rows, PLAN_BIND(v->o, d_o, delta));
    network_attention(n, KERNEL_ATTENTION_BACK_Q, push, n->seq,
                      PLAN_BIND(v->q, v->k, v->v, d_o, v->lse, delta, g.dq));
    network_attention(n, KERNEL_ATTENTION_BACK_KV, push, n->seq,
                      PLAN_BIND(v->q, v->k, v->v, d_o, v->lse, delta, g.dk, g.dv));
    return g;
}

static void rope_back(struct network *n, struct plan_range x, uint32_t heads)
{
    const struct push_rope push = {.tokens = n->tokens,
                                   .heads = heads,
                                   .head_dim = n->config->head_dim,
                                   .seq = n->seq,
                                   .inverse = 1};
    plan_add(n->plan, KERNEL_ROPE, 0, &push, PLAN_BIND(n->io.step, n->io.rope, x, x));
}

static void queries_keys_back(struct network *n, int32_t layer, const struct attention_grads *g)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    rope_back(n, g->dq, c->num_attention_heads);
    rope_back(n, g->dk, c->num_key_value_heads);
    if (!c->qk_norm) return;
    norm_back(n, v->q_raw, ROLE_Q_NORM, layer, v->rstd_q, g->dq, g->dq,
              n->tokens * c->num_attention_heads, c->head_dim, false);
    norm_back(n, v->k_raw, ROLE_K_NORM, layer, v->rstd_k, g->dk, g->dk,
              n->tokens * c->num_key_value_heads, c->head_dim, false);
}

static void attention_back(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t hidden = c->hidden_size, q_cols = c->num_attention_heads * c->head_dim,
                   kv_cols = c->num_key_value_heads * c->head_dim;
    plan_section(n->plan, "layer %d attention back", layer);
    const struct plan_range d_o = network_temp(n, n->tokens, q_cols, "do", layer);
    linear_back_weight(n, n->dx, v->o, ROLE_O, layer, hidden, q_cols);
    linear_back_input(n, n->dx, ROLE_O, layer, d_o, hidden, q_cols, false);
    const struct attention_grads g = attend_back(n, layer, d_o);
    queries_keys_back(n, layer, &g);
    linear_back_weight(n, g.dq, v->n_attention, ROLE_Q, layer, q_cols, hidden);
    linear_back_weight(n, g.dk, v->n_attention, ROLE_K, layer, kv_cols, hidden);
    linear_back_weight(n, g.dv, v->n_attention, ROLE_V, layer, kv_cols, hidden);
    const struct plan_range dn = network_temp(n, n->tokens, hidden, "dn_attention", layer);
    linear_back_input(n, g.dq, ROLE_Q, layer, dn, q_cols, hidden, false);
    linear_back_input(n, g.dk, ROLE_K, layer, dn, kv_cols, hidden, true);
    linear_back_input(n, g.dv, ROLE_V, layer, dn, kv_cols, hidden, true);
    norm_back(n, v->x_in, ROLE_NORM_ATTENTION, layer, v->rstd_attention, dn, n->dx, n->tokens,
              hidden, true);
}

static void embed_back(struct network *n)
{
    const uint32_t vocab = n->config->vocab_size, cols = n->config->hidden_size;
    const uint32_t window = network_window(n, vocab, 4ull * cols);
    const struct plan_range grad = network_grad(n, ROLE_EMBED, -1);
    for (uint32_t first = 0; first < vocab; first += window) {
        const struct push_embed push = {.rows = n->tokens,
                                        .cols = cols,
                                        .vocab = min_u32(window, vocab - first),
                                        .first = first};
        plan_add(n->plan, KERNEL_EMBED_BACK, 0, &push,
                 PLAN_BIND(n->io.step, n->io.order, n->io.segment_begin, n->io.segment_id, n->dx,
                           network_rows(grad, 4ull * cols, first, push.vocab)));
    }
}

void network_backward(struct network *n)
{
    const struct config *c = n->config;
    plan_section(n->plan, "head back");
    network_route_pool(n);
    n->dx = network_temp(n, n->tokens, c->hidden_size, "dx", -1);
    norm_back(n, n->x, ROLE_NORM_FINAL, -1, n->rstd_final, n->dn_final, n->dx, n->tokens,
              c->hidden_size, false);
    for (int32_t layer = (int32_t)c->num_hidden_layers - 1; layer >= 0; layer--) {
        ffn_back(n, layer);
        attention_back(n, layer);
    }
    plan_section(n->plan, "embed back");
    embed_back(n);
}
