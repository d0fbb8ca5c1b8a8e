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
    const struct plan_range weight = network_weight_if(n, role, layer);
    const struct push_norm push = {.rows = rows,
                                   .cols = cols,
                                   .accumulate = accumulate,
                                   .eps = (float)n->config->rms_norm_eps,
                                   .weights = weight.tensor ? 0 : KERNEL_NONE_ID};
    if (weight.tensor)
        plan_add(n->plan, KERNEL_NORM_BACK_WEIGHT, 0, &push,
                 PLAN_BIND(x, rstd, dy, network_grad(n, role, layer)));
    plan_add(n->plan, KERNEL_NORM_BACK, 0, &push,
             PLAN_BIND(x, weight.tensor ? weight : x, rstd, dy, dx));
}

// dx += the gradient dn of a section's norm, or of x itself where there is none
static void section_norm_back(struct network *n, struct plan_range x, enum model_role role,
                              int32_t layer, struct plan_range rstd, struct plan_range dn)
{
    if (n->config->norm == CONFIG_NO_NORM) network_add(n, n->dx, dn, n->dx);
    else norm_back(n, x, role, layer, rstd, dn, n->dx, n->tokens, n->config->hidden_size, true);
}

static void bias_back(struct network *n, struct plan_range dy, enum model_role role, int32_t layer,
                      uint32_t cols)
{
    if (network_weight_if(n, role, layer).tensor)
        network_bias_grad(n, dy, network_grad(n, role, layer), n->tokens, cols);
}

// ---- feed-forward

static void dense_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dh = network_temp(n, n->tokens, inner, "dh", layer);
    linear_back_input(n, n->dy, ROLE_DOWN, layer, dh, hidden, inner, false);
    // in place: gate and up become their gradients, dh becomes h
    const struct push_activate push = {n->tokens * inner, network_activation(n), c->mlp_gated};
    plan_add(n->plan, KERNEL_ACTIVATE_BACK, 0, &push, PLAN_BIND(v->gate, v->up, dh));
    linear_back_weight(n, n->dy, dh, ROLE_DOWN, layer, hidden, inner);
    bias_back(n, n->dy, ROLE_DOWN_BIAS, layer, hidden);
    bias_back(n, v->up, ROLE_UP_BIAS, layer, inner);
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
    network_leave_back(n, layer);
    network_scaled_back(n, layer, ROLE_SCALE_FFN, v->y_ffn);
    const struct plan_range dn = network_temp(n, n->tokens, hidden, "dn_ffn", layer);
    if (n->config->moe_layer[layer]) network_moe_back(n, layer, dn);
    else dense_back(n, layer, dn);
    section_norm_back(n, v->x_mid, ROLE_NORM_FFN, layer, v->rstd_ffn, dn);
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
        .scale = (float)(1.0 / sqrt((double)c->head_dim)), .bidirectional = !c->causal,
    };
    const struct attention_grads g = {.dq = network_temp(n, n->tokens, q_cols, "dq", layer),
                                      .dk = network_temp(n, n->tokens, kv_cols, "dk", layer),
                                      .dv = network_temp(n, n->tokens, kv_cols, "dv", layer)};
    const struct plan_range delta =
        network_temp_f32(n, n->tokens, c->num_attention_heads, "delta", layer);
    const struct push_norm rows = {.rows = n->tokens * c->num_attention_heads, .cols = c->head_dim};
    plan_add(n->plan, KERNEL_ATTENTION_DELTA, 0, &rows, PLAN_BIND(v->o, d_o, delta));
    if (n->io.begins.tensor) {
        network_attention(
            n, KERNEL_ATTENTION_BACK_Q_WITHIN, push, n->seq,
            PLAN_BIND(v->q, v->k, v->v, d_o, v->lse, delta, g.dq, n->io.begins));
        network_attention(
            n, KERNEL_ATTENTION_BACK_KV_WITHIN, push, n->seq,
            PLAN_BIND(v->q, v->k, v->v, d_o, v->lse, delta, g.dk, g.dv, n->io.begins));
        return g;
    }
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
    if (n->config->positions == CONFIG_NO_POSITIONS) return;
    plan_add(n->plan, KERNEL_ROPE, 0, &push, PLAN_BIND(n->io.step, n->io.rope, x, x));
}

// Through the norm of q with a gain a head, in place; the gain's gradient first.
static void gain_back(struct network *n, int32_t layer, struct plan_range dq)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t heads = c->num_attention_heads;
    const struct push_norm push = {.rows = n->tokens * heads, .cols = c->head_dim,
                                   .eps = (float)c->rms_norm_eps, .weights = heads};
    const struct push_column_sum sum = {n->tokens, heads, 1};
    const struct plan_range dot = network_temp_f32(n, n->tokens, heads, "dgain", layer);
    plan_add(n->plan, KERNEL_ATTENTION_DELTA, 0, &push, PLAN_BIND(dq, v->q_raw, dot));
    plan_add(n->plan, KERNEL_COLUMN_SUMF, 0, &sum,
             PLAN_BIND(dot, v->rstd_q, network_grad(n, ROLE_Q_GAIN, layer)));
    plan_add(n->plan, KERNEL_NORM_BACK, 0, &push,
             PLAN_BIND(v->q_raw, network_weight(n, ROLE_Q_GAIN, layer), v->rstd_q, dq, dq));
}

static void queries_keys_back(struct network *n, int32_t layer, const struct attention_grads *g)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    rope_back(n, g->dq, c->num_attention_heads);
    rope_back(n, g->dk, c->num_key_value_heads);
    if (!c->qk_norm) return;
    if (c->qk_gain != 0) gain_back(n, layer, g->dq);
    else norm_back(n, v->q_raw, ROLE_Q_NORM, layer, v->rstd_q, g->dq, g->dq,
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
    network_scaled_back(n, layer, ROLE_SCALE_ATTENTION, v->y_attention);
    struct plan_range d_o = n->dy;
    if (c->attention_out_proj) {
        d_o = network_temp(n, n->tokens, q_cols, "do", layer);
        linear_back_weight(n, n->dy, v->o, ROLE_O, layer, hidden, q_cols);
        bias_back(n, n->dy, ROLE_O_BIAS, layer, hidden);
        linear_back_input(n, n->dy, ROLE_O, layer, d_o, hidden, q_cols, false);
    }
    const struct attention_grads g = attend_back(n, layer, d_o);
    queries_keys_back(n, layer, &g);
    linear_back_weight(n, g.dq, v->n_attention, ROLE_Q, layer, q_cols, hidden);
    linear_back_weight(n, g.dk, v->n_attention, ROLE_K, layer, kv_cols, hidden);
    linear_back_weight(n, g.dv, v->n_attention, ROLE_V, layer, kv_cols, hidden);
    bias_back(n, g.dq, ROLE_Q_BIAS, layer, q_cols);
    bias_back(n, g.dk, ROLE_K_BIAS, layer, kv_cols);
    bias_back(n, g.dv, ROLE_V_BIAS, layer, kv_cols);
    const struct plan_range dn = network_temp(n, n->tokens, hidden, "dn_attention", layer);
    linear_back_input(n, g.dq, ROLE_Q, layer, dn, q_cols, hidden, false);
    linear_back_input(n, g.dk, ROLE_K, layer, dn, kv_cols, hidden, true);
    linear_back_input(n, g.dv, ROLE_V, layer, dn, kv_cols, hidden, true);
    section_norm_back(n, v->x_in, ROLE_NORM_ATTENTION, layer, v->rstd_attention, dn);
    network_enter_back(n, layer);
}

void network_backward(struct network *n)
{
    const struct config *c = n->config;
    plan_section(n->plan, "head back");
    network_route_pool(n);
    n->dx = network_temp(n, n->tokens, c->hidden_size, "dx", -1);
    if (c->norm == CONFIG_NO_NORM) n->dx = n->dn_final;
    else
        norm_back(n, n->x, ROLE_NORM_FINAL, -1, n->rstd_final, n->dn_final, n->dx, n->tokens,
                  c->hidden_size, false);
    for (int32_t layer = (int32_t)c->num_hidden_layers - 1; layer >= 0; layer--) {
        ffn_back(n, layer);
        attention_back(n, layer);
    }
    network_embed_back(n);
}
