// SPDX-License-Identifier: MIT
// One token behind a KV cache as steps: seven dispatches a layer, each norm inside the linear layer
// that follows it. A router of many weights is read by many workgroups and picked from in one more
// step. The prompt takes plan_forward.c's way.
#include "src/base.h"
#include "src/plan_model.h"

enum { ROUTER_ONE_GROUP = 1 << 14 }; // weights of a router that one workgroup reads

// y = weight norm(x), `rows` rows of weight
static void token_linear(struct network *n, enum kernel_op op, struct plan_range x,
                         struct plan_range norm, struct plan_range weight, uint32_t rows,
                         struct plan_range y)
{
    const struct push_token_linear push = {n->config->hidden_size, rows,
                                           (float)n->config->rms_norm_eps};
    plan_add(n->plan, op, 1, &push, PLAN_BIND(x, norm, weight, y));
}

// ---- attention

void network_heads(struct network *n, int32_t layer, struct plan_range qkv)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const struct push_heads push = {.tokens = n->tokens, .heads = c->num_attention_heads,
                                    .kv_heads = c->num_key_value_heads, .head_dim = c->head_dim,
                                    .capacity = n->capacity, .normalise = c->qk_norm,
                                    .eps = (float)c->rms_norm_eps};
    // without a norm any weight may be bound
    const enum model_role q_norm = c->qk_norm ? ROLE_Q_NORM : ROLE_NORM_ATTENTION,
                          k_norm = c->qk_norm ? ROLE_K_NORM : ROLE_NORM_ATTENTION;
    v->q = network_temp(n, n->tokens, c->num_attention_heads * c->head_dim, "q", layer);
    plan_add(n->plan, KERNEL_HEADS, 1, &push,
             PLAN_BIND(n->io.step, n->io.rope, qkv, network_weight(n, q_norm, layer),
                       network_weight(n, k_norm, layer), v->q, n->io.cache_k[layer],
                       n->io.cache_v[layer]));
}

static void queries_keys_values(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t q_cols = c->num_attention_heads * c->head_dim,
                   kv_cols = c->num_key_value_heads * c->head_dim;
    const struct plan_range norm = network_weight(n, ROLE_NORM_ATTENTION, layer),
                            qkv = network_temp(n, 1, q_cols + 2 * kv_cols, "qkv", layer);
    token_linear(n, KERNEL_TOKEN_LINEAR, n->x, norm, network_weight_qkv(n, layer),
                 q_cols + 2 * kv_cols, qkv);
    network_heads(n, layer, qkv);
}

static void attention_section(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    plan_section(n->plan, "layer %d attention", layer);
    queries_keys_values(n, layer);
    network_attend(n, layer);
    v->x_mid = network_temp(n, 1, c->hidden_size, "x_mid", layer);
    network_linear(n, v->o, network_weight(n, ROLE_O, layer), v->x_mid, &n->x, 1, c->hidden_size,
                   c->num_attention_heads * c->head_dim);
}

// ---- feed-forward

static void pick_in_two_steps(struct network *n, int32_t layer, struct plan_range logits)
{
    const struct config *c = n->config;
    const struct config_router *router = network_router(n, layer);
    struct layer_values *v = &n->layer[layer];
    const struct plan_range probs = network_temp_f32(n, 1, c->num_experts, "probs", layer);
    v->router_lse = network_temp_f32(n, 1, 1, "router_lse", layer);
    token_linear(n, KERNEL_TOKEN_LINEARF, v->x_mid, network_weight(n, ROLE_NORM_FFN, layer),
                 network_weight(n, ROLE_ROUTER, layer), c->num_experts, logits);
    const struct push_router push = {.tokens = 1, .total = 1, .experts = c->num_experts,
                                     .top_k = router->top_k,
                                     .renormalise = router->norm_topk_prob,
                                     .inv_temperature = (float)(1.0 / router->temperature)};
    plan_add(n->plan, KERNEL_ROUTER, 1, &push,
             PLAN_BIND(logits, probs, v->ids, v->gates, v->router_lse));
}

static void pick_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const struct config_router *router = network_router(n, layer);
    struct layer_values *v = &n->layer[layer];
    const struct plan_range logits =
        network_temp_f32(n, 1, c->num_experts, "router_logits", layer);
    v->ids = network_temp_f32(n, 1, router->top_k, "picks", layer);
    v->gates = network_temp_f32(n, 1, router->top_k, "gates", layer);
    if ((uint64_t)c->num_experts * c->hidden_size > ROUTER_ONE_GROUP) {
        pick_in_two_steps(n, layer, logits);
        return;
    }
    const struct push_token_router push = {.k = c->hidden_size, .experts = c->num_experts,
                                           .top_k = router->top_k,
                                           .renormalise = router->norm_topk_prob,
                                           .inv_temperature = (float)(1.0 / router->temperature),
                                           .eps = (float)c->rms_norm_eps};
    plan_add(n->plan, KERNEL_TOKEN_ROUTER, 1, &push,
             PLAN_BIND(v->x_mid, network_weight(n, ROLE_NORM_FFN, layer),
                       network_weight(n, ROLE_ROUTER, layer), logits, v->ids, v->gates));
}

static void moe_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const struct config_router *router = network_router(n, layer);
    struct layer_values *v = &n->layer[layer];
    const uint32_t inner = c->moe_intermediate_size;
    pick_steps(n, layer);
    const struct plan_range h = network_temp(n, router->top_k, inner, "h", layer);
    const struct push_token_moe up = {c->num_experts, router->top_k, inner,
                                      c->hidden_size, network_activation(n),
                                      (float)c->rms_norm_eps};
    plan_add(n->plan, KERNEL_TOKEN_UP, 1, &up,
             PLAN_BIND(v->x_mid, network_weight(n, ROLE_NORM_FFN, layer), v->ids,
                       network_weight(n, ROLE_EXPERT_GATE, layer),
                       network_weight(n, ROLE_EXPERT_UP, layer), h));
    const struct push_token_moe down = {c->num_experts, router->top_k, c->hidden_size,
                                        inner, 0, 0};
    n->x = network_temp(n, 1, c->hidden_size, "x", layer);
    plan_add(n->plan, KERNEL_TOKEN_DOWN, 1, &down,
             PLAN_BIND(h, v->ids, v->gates, network_weight(n, ROLE_EXPERT_DOWN, layer),
                       v->x_mid, n->x));
}

// The one expert of a layer that has no router: any ids name it.
static void dense_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const uint32_t inner = c->intermediate_size;
    const struct plan_range h = network_temp(n, 1, inner, "h", layer);
    const struct push_token_moe up = {1, 1, inner, c->hidden_size, network_activation(n),
                                      (float)c->rms_norm_eps};
    plan_add(n->plan, KERNEL_TOKEN_UP, 1, &up,
             PLAN_BIND(v->x_mid, network_weight(n, ROLE_NORM_FFN, layer), n->io.ids,
                       network_weight(n, ROLE_GATE, layer), network_weight(n, ROLE_UP, layer),
                       h));
    n->x = network_temp(n, 1, c->hidden_size, "x", layer);
    network_linear(n, h, network_weight(n, ROLE_DOWN, layer), n->x, &v->x_mid, 1,
                   c->hidden_size, inner);
}

// ----

bool network_decodes(const struct network *n)
{
    if (n->mode != NETWORK_CACHED || n->tokens > 1 || !n->config->mlp_gated ||
        !config_is_plain(n->config))
        return false;
    if (n->params->experts) return false; // what the token takes may have to be loaded first
    for (uint32_t i = 0; i < n->model->tensor_count; i++) // no windows of a weight here
        if (n->model->tensor[i].space * n->store_bytes > n->plan->gpu->caps.max_range) return false;
    for (int32_t layer = 0; layer < (int32_t)n->config->num_hidden_layers; layer++)
        if (!network_weight_qkv(n, layer).tensor ||
            (n->config->moe_layer[layer] && !network_router_decodes(n, layer)))
            return false;
    return true;
}

void network_decode(struct network *n)
{
    const struct config *c = n->config;
    for (int32_t layer = 0; layer < (int32_t)c->num_hidden_layers; layer++) {
        attention_section(n, layer);
        plan_section(n->plan, "layer %d %s", layer, c->moe_layer[layer] ? "moe" : "ffn");
        if (c->moe_layer[layer]) moe_steps(n, layer);
        else dense_steps(n, layer);
    }
    plan_section(n->plan, "head");
    token_linear(n, KERNEL_TOKEN_LINEARF, n->x, network_weight(n, ROLE_NORM_FINAL, -1),
                 network_weight(n, ROLE_HEAD, -1), c->vocab_size, n->io.logits);
}
