// SPDX-License-Identifier: MIT
// The shared expert as steps (DeepSeek-MoE, 2401.06066; Qwen2-MoE's names): a feed-forward body
// that every token takes beside the experts its router picks; with shared_expert_gate as in
// Qwen2-MoE (2407.10671), y = sigmoid(w x) body(x).
#include "src/base.h"
#include "src/plan_model.h"

static struct push_activate activate_push(const struct network *n)
{
    return (struct push_activate){n->tokens * n->config->shared_intermediate_size,
                                  network_activation(n), n->config->mlp_gated};
}

static struct plan_range product(struct network *n, int32_t layer, enum model_role role,
                                 const char *name)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->shared_intermediate_size;
    const struct plan_range y = network_temp(n, n->tokens, inner, name, layer);
    network_linear(n, n->layer[layer].n_ffn, network_weight(n, role, layer), y, NULL, n->tokens,
                   inner, hidden);
    return y;
}

// h times its token's gate: down(g h) is g down(h), for there is no bias.
static void gate_steps(struct network *n, int32_t layer, struct plan_range h)
{
    struct layer_values *v = &n->layer[layer];
    const struct push_gate_rows push = {n->tokens, n->config->shared_intermediate_size};
    const struct plan_range logits = network_temp_f32(n, n->tokens, 1, "shared_logits", layer);
    v->shared_share = network_temp_f32(n, n->tokens, 1, "shared_share", layer);
    v->shared_rows = network_temp_f32(n, n->tokens, 1, "shared_rows", layer);
    network_linear_f32(n, v->n_ffn, network_weight(n, ROLE_SHARED_SHARE, layer), logits, n->tokens,
                       1, n->config->hidden_size);
    plan_add(n->plan, KERNEL_GATE_ROWS, 0, &push,
             PLAN_BIND(logits, h, v->shared_share, v->shared_rows));
}

void network_shared_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t inner = c->shared_intermediate_size;
    struct layer_values *v = &n->layer[layer];
    if (!inner) return;
    v->shared_up = product(n, layer, ROLE_SHARED_UP, "shared_up");
    v->shared_gate = c->mlp_gated ? product(n, layer, ROLE_SHARED_GATE, "shared_gate")
                                  : v->shared_up;
    const struct plan_range h = network_temp(n, n->tokens, inner, "shared_h", layer);
    const struct push_activate push = activate_push(n);
    plan_add(n->plan, KERNEL_ACTIVATE, 0, &push, PLAN_BIND(v->shared_gate, v->shared_up, h));
    if (c->shared_expert_gate) gate_steps(n, layer, h);
    network_linear(n, h, network_weight(n, ROLE_SHARED_DOWN, layer), v->y_ffn, &v->y_ffn,
                   n->tokens, c->hidden_size, inner);
}

static void back_through(struct network *n, int32_t layer, enum model_role role,
                         struct plan_range dy, struct plan_range dn)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->shared_intermediate_size;
    network_linear_back_weight(n, dy, n->layer[layer].n_ffn, network_grad(n, role, layer),
                               n->tokens, inner, hidden);
    network_linear_back_input(n, dy, network_weight(n, role, layer), dn, n->tokens, inner, hidden,
                              true);
}

// In place: gate and up become their gradients, dh becomes h, times the gate where there is one;
// that then is one more linear layer with one row.
static void body_back(struct network *n, int32_t layer, struct plan_range dh, struct plan_range dn)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const struct push_activate push = activate_push(n);
    if (!c->shared_expert_gate) {
        plan_add(n->plan, KERNEL_ACTIVATE_BACK, 0, &push,
                 PLAN_BIND(v->shared_gate, v->shared_up, dh));
        return;
    }
    const struct push_moe_activate rows = {n->tokens, c->shared_intermediate_size,
                                           push.activation, push.gated};
    const struct push_count count = {n->tokens};
    const struct plan_range dgates = network_temp_f32(n, n->tokens, 1, "shared_dgates", layer),
                            dlogits = network_temp(n, n->tokens, 1, "shared_dlogits", layer);
    plan_add(n->plan, KERNEL_MOE_ACTIVATE_BACK, 0, &rows,
             PLAN_BIND(v->shared_gate, v->shared_up, dh, v->shared_rows, v->shared_share, dgates));
    plan_add(n->plan, KERNEL_GATE_ROWS_BACK, 0, &count,
             PLAN_BIND(dgates, v->shared_share, dlogits));
    network_linear_back_weight(n, dlogits, v->n_ffn, network_grad(n, ROLE_SHARED_SHARE, layer),
                               n->tokens, 1, c->hidden_size);
    network_linear_back_input(n, dlogits, network_weight(n, ROLE_SHARED_SHARE, layer), dn,
                              n->tokens, 1, c->hidden_size, true);
}

void network_shared_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->shared_intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    if (!inner) return;
    const struct plan_range dh = network_temp(n, n->tokens, inner, "shared_dh", layer);
    network_linear_back_input(n, n->dy, network_weight(n, ROLE_SHARED_DOWN, layer), dh, n->tokens,
                              hidden, inner, false);
    body_back(n, layer, dh, dn);
    network_linear_back_weight(n, n->dy, dh, network_grad(n, ROLE_SHARED_DOWN, layer), n->tokens,
                               hidden, inner);
    back_through(n, layer, ROLE_SHARED_UP, v->shared_up, dn);
    if (c->mlp_gated) back_through(n, layer, ROLE_SHARED_GATE, v->shared_gate, dn);
}
