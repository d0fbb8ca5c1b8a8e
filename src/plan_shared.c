// SPDX-License-Identifier: MIT
// The shared expert as steps (DeepSeek-MoE, 2401.06066; Qwen2-MoE's names, without its gate): a
// feed-forward body that every token takes beside the experts its router picks.
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

void network_shared_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->shared_intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    if (!inner) return;
    const struct plan_range dh = network_temp(n, n->tokens, inner, "shared_dh", layer);
    network_linear_back_input(n, n->dy, network_weight(n, ROLE_SHARED_DOWN, layer), dh, n->tokens,
                              hidden, inner, false);
    // in place: gate and up become their gradients, dh becomes h
    const struct push_activate push = activate_push(n);
    plan_add(n->plan, KERNEL_ACTIVATE_BACK, 0, &push, PLAN_BIND(v->shared_gate, v->shared_up, dh));
    network_linear_back_weight(n, n->dy, dh, network_grad(n, ROLE_SHARED_DOWN, layer), n->tokens,
                               hidden, inner);
    back_through(n, layer, ROLE_SHARED_UP, v->shared_up, dn);
    if (c->mlp_gated) back_through(n, layer, ROLE_SHARED_GATE, v->shared_gate, dn);
}
