// SPDX-License-Identifier: MIT
// The forward pass as steps: embedding, layers (attention, then dense or MoE feed-forward), final
// norm, and what the mode asks for: the loss of a batch, all logits, or the logits of the last
// token behind a KV cache.
#include <math.h>

#include "src/base.h"
#include "src/kernel_attention.h"
#include "src/plan_model.h"

enum {
    LOGITS_CHUNK = 16 << 20,    // bytes of logits that exist at once in training
    CHUNK_ROWS = 64,            // chunks are multiples, so that ranges stay aligned
};

struct network network_begin(struct plan *plan, struct params *params, enum network_mode mode,
                             uint32_t batch, uint32_t seq, uint32_t capacity,
                             const struct network_io *io)
{
    const struct config *config = &params->model->config;
    return (struct network){
        .plan = plan,
        .model = params->model,
        .config = config,
        .params = params,
        .io = *io,
        .mode = mode,
        .batch = batch,
        .seq = seq,
        .tokens = batch * seq,
        .capacity = capacity,
        .store_bytes = (uint32_t)dtype_bytes(plan->store),
        .stats_stride = network_stats_stride(config),
        .layer = arena_array(plan->arena, config->num_hidden_layers, sizeof(struct layer_values)),
    };
}

// ---- helpers

static const struct model_tensor *find_weight(const struct network *n, enum model_role role,
                                              int32_t layer)
{
    if (role == ROLE_HEAD && n->config->tie_word_embeddings)
        return model_find(n->model, ROLE_EMBED, -1);
    return model_find(n->model, role, layer);
}

struct plan_range network_weight(const struct network *n, enum model_role role, int32_t layer)
{
    return params_range(n->params, n->plan, PARAMS_COMPUTE, find_weight(n, role, layer));
}

struct plan_range network_weight_qkv(const struct network *n, int32_t layer)
{
    const struct model_tensor *const qkv[] = {find_weight(n, ROLE_Q, layer),
                                              find_weight(n, ROLE_K, layer),
                                              find_weight(n, ROLE_V, layer)};
    return params_range_of(n->params, n->plan, PARAMS_COMPUTE, qkv, 3);
}

struct plan_range network_grad(const struct network *n, enum model_role role, int32_t layer)
{
    return params_range(n->params, n->plan, PARAMS_GRAD, find_weight(n, role, layer));
}

static struct plan_range temp(const struct network *n, uint64_t bytes, const char *name,
                              int32_t layer)
{
    if (layer < 0) return plan_temp(n->plan, bytes, "%s", name);
    return plan_temp(n->plan, bytes, "%s.%d", name, layer);
}

struct plan_range network_temp(const struct network *n, uint64_t rows, uint64_t cols,
                               const char *name, int32_t layer)
{
    return temp(n, rows * cols * n->store_bytes, name, layer);
}

struct plan_range network_temp_f32(const struct network *n, uint64_t rows, uint64_t cols,
                                   const char *name, int32_t layer)
{
    return temp(n, rows * cols * 4, name, layer);
}

struct plan_range network_weight_if(const struct network *n, enum model_role role, int32_t layer)
{
    return find_weight(n, role, layer) ? network_weight(n, role, layer) : (struct plan_range){0};
}

void network_norm(struct network *n, struct plan_range x, const struct plan_range *weight,
                  struct plan_range y, struct plan_range rstd, uint32_t rows, uint32_t cols)
{
    const struct push_norm push = {.rows = rows,
                                   .cols = cols,
                                   .eps = (float)n->config->rms_norm_eps,
                                   .weights = weight ? 0 : KERNEL_NONE_ID};
    plan_add(n->plan, KERNEL_NORM, 0, &push, PLAN_BIND(x, weight ? *weight : x, y, rstd));
}

// The norm before a section, or x itself where there is none.
static struct plan_range norm(struct network *n, struct plan_range x, enum model_role role,
                              int32_t layer, const char *name, struct plan_range *rstd,
                              uint32_t rows)
{
    if (n->config->norm == CONFIG_NO_NORM) return x;
    const uint32_t cols = n->config->hidden_size;
    const struct plan_range y = network_temp(n, rows, cols, name, layer);
    const struct plan_range weight = network_weight_if(n, role, layer);
    *rstd = network_temp_f32(n, rows, 1, "rstd", layer);
    network_norm(n, x, weight.tensor ? &weight : NULL, y, *rstd, rows, cols);
    return y;
}

static void rope(struct network *n, struct plan_range x, uint32_t heads)
{
    const struct push_rope push = {.tokens = n->tokens,
                                   .heads = heads,
                                   .head_dim = n->config->head_dim,
                                   .seq = n->seq};
    if (n->config->positions == CONFIG_NO_POSITIONS) return;
    plan_add(n->plan, KERNEL_ROPE, 0, &push, PLAN_BIND(n->io.step, n->io.rope, x, x));
}

// ---- attention

static struct plan_range qk_norm(struct network *n, int32_t layer, enum model_role role,
                                 struct plan_range raw, uint32_t heads, const char *name,
                                 struct plan_range *rstd)
{
    const uint32_t rows = n->tokens * heads, cols = n->config->head_dim;
    const struct plan_range y = network_temp(n, rows, cols, name, layer);
    const bool gain = role == ROLE_Q_NORM && n->config->qk_gain != 0;
    const struct plan_range weight =
        network_weight_if(n, gain ? ROLE_Q_GAIN : role, layer);
    const struct push_norm push = {.rows = rows, .cols = cols,
                                   .eps = (float)n->config->rms_norm_eps,
                                   .weights = gain ? heads : weight.tensor ? 0 : KERNEL_NONE_ID};
    *rstd = network_temp_f32(n, rows, 1, name, layer);
    plan_add(n->plan, KERNEL_NORM, 0, &push,
             PLAN_BIND(raw, weight.tensor ? weight : raw, y, *rstd));
    return y;
}

static void queries_keys_values(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const uint32_t q_cols = c->num_attention_heads * c->head_dim,
                   kv_cols = c->num_key_value_heads * c->head_dim;
    v->q_raw = network_temp(n, n->tokens, q_cols, "q", layer);
    v->k_raw = network_temp(n, n->tokens, kv_cols, "k", layer);
    v->v = network_temp(n, n->tokens, kv_cols, "v", layer);
    network_linear_bias(n, v->n_attention, network_weight(n, ROLE_Q, layer),
                        network_weight_if(n, ROLE_Q_BIAS, layer), v->q_raw, NULL, n->tokens,
                        q_cols, c->hidden_size);
    network_linear_bias(n, v->n_attention, network_weight(n, ROLE_K, layer),
                        network_weight_if(n, ROLE_K_BIAS, layer), v->k_raw, NULL, n->tokens,
                        kv_cols, c->hidden_size);
    network_linear_bias(n, v->n_attention, network_weight(n, ROLE_V, layer),
                        network_weight_if(n, ROLE_V_BIAS, layer), v->v, NULL, n->tokens,
                        kv_cols, c->hidden_size);
    v->q = v->q_raw;
    v->k = v->k_raw;
    if (c->qk_norm) {
        v->q =
            qk_norm(n, layer, ROLE_Q_NORM, v->q_raw, c->num_attention_heads, "q_norm", &v->rstd_q);
        v->k =
            qk_norm(n, layer, ROLE_K_NORM, v->k_raw, c->num_key_value_heads, "k_norm", &v->rstd_k);
    }
    rope(n, v->q, c->num_attention_heads);
    rope(n, v->k, c->num_key_value_heads);
}

static void cache_write(struct network *n, struct plan_range x, struct plan_range cache)
{
    const uint32_t cols = n->config->num_key_value_heads * n->config->head_dim;
    const struct push_cache_write push = {.rows = n->tokens, .cols = cols, .capacity = n->capacity};
    plan_add(n->plan, KERNEL_CACHE_WRITE, 0, &push, PLAN_BIND(n->io.step, x, cache));
}

void network_attention(struct network *n, enum kernel_op op, struct push_attention push,
                       uint32_t keys, const struct plan_range *bind, uint32_t bind_count)
{
    const uint32_t span = kernel_attention_span(&n->plan->gpu->caps, op, &push);
    if (span < keys) push.count = span;
    for (uint64_t first = 0; first < keys; first += span) {
        push.first = (uint32_t)first;
        plan_add(n->plan, op, push.head_dim, &push, bind, bind_count);
    }
}

// one query: the parts of the cache side by side, then what they add up to
static void decode(struct network *n, int32_t layer, struct push_attention push,
                   struct plan_range k, struct plan_range values)
{
    const struct layer_values *v = &n->layer[layer];
    push.parts = kernel_decode_parts(&n->plan->gpu->caps, &push);
    const uint32_t rows = push.heads * push.parts;
    struct plan_range part = v->lse, sum = v->lse; // of one part: not written
    if (push.parts > 1) {
        part = network_temp_f32(n, rows, push.head_dim, "o_part", layer);
        sum = network_temp_f32(n, rows, 2, "sum_part", layer);
    }
    plan_add(n->plan, KERNEL_ATTENTION_DECODE, push.head_dim, &push,
             PLAN_BIND(n->io.step, v->q, k, values, v->o, part, sum));
    if (push.parts > 1)
        plan_add(n->plan, KERNEL_ATTENTION_MERGE, push.head_dim, &push,
                 PLAN_BIND(n->io.step, part, sum, v->o));
}

void network_attend(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const bool cached = n->mode == NETWORK_CACHED;
    const struct plan_range k = cached ? n->io.cache_k[layer] : v->k,
                            values = cached ? n->io.cache_v[layer] : v->v;
    const struct push_attention push = {
        .batch = n->batch, .seq = n->seq, .stride = cached ? n->capacity : n->seq,
        .heads = c->num_attention_heads, .kv_heads = c->num_key_value_heads,
        .head_dim = c->head_dim, .window = c->sliding_window,
        .scale = (float)(1.0 / sqrt((double)c->head_dim)), .bidirectional = !c->causal,
    };
    v->o = network_temp(n, n->tokens, (uint64_t)c->num_attention_heads * c->head_dim, "o", layer);
    v->lse = network_temp_f32(n, n->tokens, c->num_attention_heads, "lse", layer);
    if (cached && n->tokens == 1) {
        decode(n, layer, push, k, values);
        return;
    }
    if (n->io.begins.tensor)
        network_attention(n, KERNEL_ATTENTION_WITHIN, push, push.stride,
                          PLAN_BIND(n->io.step, v->q, k, values, v->o, v->lse, n->io.begins));
    else
        network_attention(n, KERNEL_ATTENTION, push, push.stride,
                          PLAN_BIND(n->io.step, v->q, k, values, v->o, v->lse));
}

// Through the cache: the three weights lie side by side, so one product gives all, and one step
// rotates queries and keys and fills the cache.
static bool queries_to_cache(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t cols =
        (c->num_attention_heads + 2 * c->num_key_value_heads) * c->head_dim;
    if (!config_is_plain(c)) return false;
    const struct plan_range weight = network_weight_qkv(n, layer);
    if (!weight.tensor) return false;
    const struct plan_range qkv = network_temp(n, n->tokens, cols, "qkv", layer);
    network_linear(n, n->layer[layer].n_attention, weight, qkv, NULL, n->tokens, cols,
                   c->hidden_size);
    network_heads(n, layer, qkv);
    return true;
}

// x_in + what the heads make, through their output matrix where there is one
static struct plan_range attention_out(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    v->y_attention = v->o;
    if (c->attention_out_proj) {
        v->y_attention = network_temp(n, n->tokens, c->hidden_size,
                                      c->channel_scales ? "y_attention" : "x_mid", layer);
        network_linear_bias(n, v->o, network_weight(n, ROLE_O, layer),
                            network_weight_if(n, ROLE_O_BIAS, layer), v->y_attention,
                            c->channel_scales ? NULL : &v->x_in, n->tokens, c->hidden_size,
                            c->num_attention_heads * c->head_dim);
        if (!c->channel_scales) return v->y_attention;
    }
    return network_scaled(n, layer, ROLE_SCALE_ATTENTION, v->x_in, v->y_attention, "x_mid");
}

static void attention_section(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    plan_section(n->plan, "layer %d attention", layer);
    network_enter(n, layer);
    v->x_in = n->x;
    v->n_attention = norm(n, v->x_in, ROLE_NORM_ATTENTION, layer, "n_attention",
                          &v->rstd_attention, n->tokens);
    if (n->mode != NETWORK_CACHED || !queries_to_cache(n, layer)) {
        queries_keys_values(n, layer);
        if (n->mode == NETWORK_CACHED) {
            cache_write(n, v->k, n->io.cache_k[layer]);
            cache_write(n, v->v, n->io.cache_v[layer]);
        }
    }
    network_attend(n, layer);
    v->x_mid = n->x = attention_out(n, layer);
}

// ---- feed-forward

uint32_t network_activation(const struct network *n)
{
    static const uint32_t kernel[] = {[CONFIG_SILU] = ACTIVATION_SILU,
                                      [CONFIG_GELU] = ACTIVATION_GELU,
                                      [CONFIG_GELU_NEW] = ACTIVATION_GELU_TANH,
                                      [CONFIG_GELU_TANH] = ACTIVATION_GELU_TANH,
                                      [CONFIG_RELU2] = ACTIVATION_RELU2};
    return kernel[n->config->hidden_act];
}

// gate: what the activation is taken of, the up matrix's product where the body is not gated
static void dense_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->intermediate_size;
    struct layer_values *v = &n->layer[layer];
    const struct plan_range up = network_weight(n, ROLE_UP, layer);
    v->gate = network_temp(n, n->tokens, inner, "gate", layer);
    v->up = c->mlp_gated ? network_temp(n, n->tokens, inner, "up", layer) : v->gate;
    const struct plan_range h = network_temp(n, n->tokens, inner, "h", layer);
    if (c->mlp_gated)
        network_linear(n, v->n_ffn, network_weight(n, ROLE_GATE, layer), v->gate, NULL, n->tokens,
                       inner, hidden);
    network_linear_bias(n, v->n_ffn, up, network_weight_if(n, ROLE_UP_BIAS, layer), v->up, NULL,
                        n->tokens, inner, hidden);
    const struct push_activate push = {n->tokens * inner, network_activation(n), c->mlp_gated};
    plan_add(n->plan, KERNEL_ACTIVATE, 0, &push, PLAN_BIND(v->gate, v->up, h));
    network_linear_bias(n, h, network_weight(n, ROLE_DOWN, layer),
                        network_weight_if(n, ROLE_DOWN_BIAS, layer), v->y_ffn,
                        c->channel_scales ? NULL : &v->x_mid, n->tokens, hidden, inner);
}

static void ffn_section(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    plan_section(n->plan, "layer %d %s", layer, c->moe_layer[layer] ? "moe" : "ffn");
    v->n_ffn = norm(n, v->x_mid, ROLE_NORM_FFN, layer, "n_ffn", &v->rstd_ffn, n->tokens);
    v->y_ffn =
        network_temp(n, n->tokens, c->hidden_size, c->channel_scales ? "y_ffn" : "x", layer);
    if (c->moe_layer[layer]) network_moe_steps(n, layer);
    else dense_steps(n, layer);
    n->x = v->y_ffn;
    if (c->channel_scales)
        n->x = network_scaled(n, layer, ROLE_SCALE_FFN, v->x_mid, v->y_ffn, "x");
    v->x_out = n->x;
}

// ---- head

static uint32_t logits_rows(const struct network *n)
{
    const uint64_t row = (uint64_t)n->config->vocab_size * n->store_bytes;
    const uint64_t rows = max_u64(LOGITS_CHUNK / row / CHUNK_ROWS, 1) * CHUNK_ROWS;
    return (uint32_t)min_u64(rows, n->tokens);
}

// Rows [begin, begin + rows) of the loss: logits live only here; in training they turn into their
// gradient, which is used up at once, so that no [T][V] array ever exists.
static void loss_chunk(struct network *n, uint32_t begin, uint32_t rows, struct plan_range losses)
{
    const uint32_t hidden = n->config->hidden_size, vocab = n->config->vocab_size;
    const uint64_t row = (uint64_t)hidden * n->store_bytes;
    const bool train = n->mode == NETWORK_TRAIN;
    const struct plan_range x = plan_slice(n->n_final, begin * row, rows * row);
    const struct plan_range head = network_weight(n, ROLE_HEAD, -1);
    const struct plan_range logits =
        network_temp(n, rows, vocab, "logits", (int32_t)(begin / CHUNK_ROWS));
    network_linear_bias(n, x, head, network_weight_if(n, ROLE_HEAD_BIAS, -1), logits, NULL, rows,
                        vocab, hidden);
    const struct push_loss push = {.rows = rows, .vocab = vocab, .backward = train,
                                   .softcap = (float)n->config->logit_softcap};
    plan_add(n->plan, push.softcap != 0 ? KERNEL_LOSS_CAPPED : KERNEL_LOSS, 0, &push,
             PLAN_BIND(n->io.step, logits, plan_slice(n->io.targets, begin * 4ull, rows * 4ull),
                       plan_slice(losses, begin * 4ull, rows * 4ull)));
    if (!train) return;
    const struct plan_range grad = network_grad(n, ROLE_HEAD, -1);
    const struct plan_range dx = plan_slice(n->dn_final, begin * row, rows * row);
    network_linear_back_input(n, logits, head, dx, rows, vocab, hidden, false);
    network_linear_back_weight(n, logits, x, grad, rows, vocab, hidden);
    if (n->config->lm_head_bias)
        network_bias_grad(n, logits, network_grad(n, ROLE_HEAD_BIAS, -1), rows, vocab);
}

static void loss_section(struct network *n)
{
    const uint32_t chunk = logits_rows(n);
    const struct plan_range losses =
        n->io.losses.tensor ? n->io.losses : network_temp_f32(n, n->tokens, 1, "losses", -1);
    if (n->mode == NETWORK_TRAIN)
        n->dn_final = network_temp(n, n->tokens, n->config->hidden_size, "dn_final", -1);
    plan_section(n->plan, "loss");
    for (uint32_t begin = 0; begin < n->tokens; begin += chunk)
        loss_chunk(n, begin, min_u32(chunk, n->tokens - begin), losses);
    if (!n->io.loss.tensor) return;
    const struct push_sum push = {.count = n->tokens, .accumulate = 1};
    plan_add(n->plan, KERNEL_SUM, 0, &push, PLAN_BIND(losses, n->io.loss));
}

// f32 logits of `rows` rows of x into `out`
static void logits_steps(struct network *n, struct plan_range x, struct plan_range out,
                         uint32_t rows)
{
    const struct push_softcap push = {.count = rows * n->config->vocab_size,
                                      .cap = (float)n->config->logit_softcap};
    network_linear_bias_f32(n, x, network_weight(n, ROLE_HEAD, -1),
                            network_weight_if(n, ROLE_HEAD_BIAS, -1), out, rows,
                            n->config->vocab_size, n->config->hidden_size);
    if (push.cap != 0) plan_add(n->plan, KERNEL_SOFTCAP, 0, &push, PLAN_BIND(out));
}

static void final_norm(struct network *n, struct plan_range x, uint32_t rows)
{
    n->n_final = norm(n, x, ROLE_NORM_FINAL, -1, "n_final", &n->rstd_final, rows);
}

static void all_logits_section(struct network *n)
{
    const uint64_t row = (uint64_t)n->config->hidden_size * n->store_bytes,
                   out_row = (uint64_t)n->config->vocab_size * 4;
    const uint32_t chunk = logits_rows(n);
    for (uint32_t begin = 0; begin < n->tokens; begin += chunk) {
        const uint32_t rows = min_u32(chunk, n->tokens - begin);
        logits_steps(n, plan_slice(n->n_final, begin * row, rows * row),
                     plan_slice(n->io.logits, begin * out_row, rows * out_row), rows);
    }
}

static void last_logits_section(struct network *n)
{
    struct plan_range last = n->x;
    if (n->tokens > 1) {
        last = network_temp(n, 1, n->config->hidden_size, "x_last", -1);
        const struct push_embed push = {.rows = n->tokens, .cols = n->config->hidden_size};
        plan_add(n->plan, KERNEL_SELECT_ROW, 0, &push, PLAN_BIND(n->io.step, n->x, last));
    }
    final_norm(n, last, 1);
    logits_steps(n, n->n_final, n->io.logits, 1);
}

void network_forward(struct network *n)
{
    const struct config *c = n->config;
    network_embed(n);
    if (network_decodes(n)) {
        network_decode(n);
        return;
    }
    for (int32_t layer = 0; layer < (int32_t)c->num_hidden_layers; layer++) {
        attention_section(n, layer);
        ffn_section(n, layer);
    }
    plan_section(n->plan, "head");
    if (n->mode == NETWORK_CACHED && !n->io.losses.tensor) {
        last_logits_section(n);
        return;
    }
    final_norm(n, n->x, n->tokens);
    if (n->mode == NETWORK_LOGITS) all_logits_section(n);
    else loss_section(n);
}
