// SPDX-License-Identifier: MIT
// config -> tensor table: every tensor in the order of the forward pass, with Hugging Face's name,
// its initial distribution and its place in a segment.
#include "src/model.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/log.h"
#include "src/codes.h"

// Names behind "model.layers.N." (layer tensors) or whole names; Mixtral's where it has its own.
static const struct { const char *name, *mixtral; bool vector; } role_names[ROLE_COUNT] = {
    [ROLE_EMBED]          = {"model.embed_tokens.weight"},
    [ROLE_HASH]           = {"model.bigram.embed.weight"},
    [ROLE_HASH_PROJ]      = {"model.bigram.proj.weight"},
    [ROLE_HASH_SCALE]     = {"model.bigram.scale", .vector = true},
    [ROLE_TRIGRAM_HASH]   = {"model.trigram.embed.weight"},
    [ROLE_TRIGRAM_PROJ]   = {"model.trigram.proj.weight"},
    [ROLE_TRIGRAM_SCALE]  = {"model.trigram.scale", .vector = true},
    [ROLE_SMEAR]          = {"model.smear.gate", .vector = true},
    [ROLE_SKIP]           = {"skip_scale", .vector = true},
    [ROLE_MIX_RESIDUAL]   = {"mix_residual", .vector = true},
    [ROLE_MIX_EMBED]      = {"mix_embed", .vector = true},
    [ROLE_NORM_ATTENTION] = {"input_layernorm.weight", .vector = true},
    [ROLE_Q]              = {"self_attn.q_proj.weight"},
    [ROLE_K]              = {"self_attn.k_proj.weight"},
    [ROLE_V]              = {"self_attn.v_proj.weight"},
    [ROLE_Q_BIAS]         = {"self_attn.q_proj.bias", .vector = true},
    [ROLE_K_BIAS]         = {"self_attn.k_proj.bias", .vector = true},
    [ROLE_V_BIAS]         = {"self_attn.v_proj.bias", .vector = true},
    [ROLE_Q_NORM]         = {"self_attn.q_norm.weight", .vector = true},
    [ROLE_K_NORM]         = {"self_attn.k_norm.weight", .vector = true},
    [ROLE_Q_GAIN]         = {"self_attn.q_gain", .vector = true},
    [ROLE_O]              = {"self_attn.o_proj.weight"},
    [ROLE_O_BIAS]         = {"self_attn.o_proj.bias", .vector = true},
    [ROLE_SCALE_ATTENTION] = {"attention_scale", .vector = true},
    [ROLE_NORM_FFN]       = {"post_attention_layernorm.weight", .vector = true},
    [ROLE_GATE]           = {"mlp.gate_proj.weight"},
    [ROLE_UP]             = {"mlp.up_proj.weight"},
    [ROLE_DOWN]           = {"mlp.down_proj.weight"},
    [ROLE_UP_BIAS]        = {"mlp.up_proj.bias", .vector = true},
    [ROLE_DOWN_BIAS]      = {"mlp.down_proj.bias", .vector = true},
    [ROLE_ROUTER_HIDDEN]  = {"mlp.gate.hidden.weight"},
    [ROLE_ROUTER_HIDDEN_BIAS] = {"mlp.gate.hidden.bias", .vector = true},
    [ROLE_ROUTER]         = {"mlp.gate.weight", "block_sparse_moe.gate.weight"},
    [ROLE_ROUTER_BIAS]    = {"mlp.gate.bias", .vector = true},
    [ROLE_ROUTER_DOMAIN]  = {"mlp.gate.domain.weight"},
    [ROLE_ROUTER_DOMAIN_BIAS] = {"mlp.gate.domain.bias", .vector = true},
    [ROLE_ROUTER_CORRECTION] = {"mlp.gate.e_score_correction_bias", .vector = true},
    [ROLE_SHARED_SHARE] = {"mlp.shared_expert_gate.weight"},
    [ROLE_SHARED_GATE] = {"mlp.shared_expert.gate_proj.weight"}, // Qwen2-MoE's names
    [ROLE_SHARED_UP]   = {"mlp.shared_expert.up_proj.weight"},
    [ROLE_SHARED_DOWN] = {"mlp.shared_expert.down_proj.weight"},
    [ROLE_ROUTER_NOISE] = {"mlp.gate.noise.weight"},
    [ROLE_ROUTER_TEMPERATURE] = {"mlp.gate.temperature", .vector = true},
    [ROLE_EXPERT_GATE]    = {"mlp.experts.%u.gate_proj.weight",
                             "block_sparse_moe.experts.%u.w1.weight"},
    [ROLE_EXPERT_UP]      = {"mlp.experts.%u.up_proj.weight",
                             "block_sparse_moe.experts.%u.w3.weight"},
    [ROLE_EXPERT_DOWN]    = {"mlp.experts.%u.down_proj.weight",
                             "block_sparse_moe.experts.%u.w2.weight"},
    [ROLE_EXPERT_UP_BIAS]   = {"mlp.experts.%u.up_proj.bias", .vector = true},
    [ROLE_EXPERT_DOWN_BIAS] = {"mlp.experts.%u.down_proj.bias", .vector = true},
    [ROLE_SCALE_FFN]      = {"mlp_scale", .vector = true},
    [ROLE_NORM_FINAL]     = {"model.norm.weight", .vector = true},
    [ROLE_HEAD]           = {"lm_head.weight"},
    [ROLE_HEAD_BIAS]      = {"lm_head.bias", .vector = true},
};

static bool is_norm(enum model_role role)
{
    return role == ROLE_NORM_ATTENTION || role == ROLE_Q_NORM || role == ROLE_K_NORM ||
           role == ROLE_NORM_FFN || role == ROLE_NORM_FINAL;
}

// What a vector is filled with: factors 1, biases and gates 0.
static double vector_value(const struct config *c, enum model_role role)
{
    if (role == ROLE_Q_GAIN) return c->qk_gain;
    if (role == ROLE_HASH_SCALE || role == ROLE_TRIGRAM_SCALE) return 0.05; // PR 660's
    return is_norm(role) || role == ROLE_SKIP || role == ROLE_MIX_RESIDUAL ||
           role == ROLE_SCALE_ATTENTION || role == ROLE_SCALE_FFN;
}

static bool is_hash(enum model_role role)
{
    return role == ROLE_HASH || role == ROLE_TRIGRAM_HASH;
}

static bool is_hash_proj(enum model_role role)
{
    return role == ROLE_HASH_PROJ || role == ROLE_TRIGRAM_PROJ;
}

// Rows that are directions: they cannot begin as 0.
static bool is_signature(const struct config *c, const struct model_tensor *tensor)
{
    return (tensor->role == ROLE_ROUTER || tensor->role == ROLE_ROUTER_DOMAIN) &&
           c->layer_router[tensor->layer].body == CONFIG_BODY_COSINE;
}

// Standard deviation of the initial values.
// "scaled": what writes into the residual stream is divided by sqrt(2 layers) (GPT-2).
// "h64lm": initializer_range * sqrt(2 / (depth + 1)) / sqrt(fan_in), depth = layer + 1, 0 for the
// head; the embedding initializer_range / sqrt(hidden) (Haiderkhan64/H64LM).
// "orthogonal": PR 660's, see config.h; the hash tables' projections by 1 / sqrt(2 layers).
// "lecun": Flax's defaults, 1 / sqrt(fan_in) truncated; the embedding normal, 1 / sqrt(hidden).
static double init_std(const struct config *c, const struct model_tensor *tensor)
{
    const double depth = tensor->layer + 1;
    const bool out =
        tensor->role == ROLE_O || tensor->role == ROLE_DOWN || tensor->role == ROLE_EXPERT_DOWN ||
        tensor->role == ROLE_SHARED_DOWN;
    switch (c->init) {
    case CONFIG_INIT_NORMAL: return c->initializer_range;
    case CONFIG_INIT_SCALED:
        return c->initializer_range / (out ? sqrt(2.0 * c->num_hidden_layers) : 1);
    case CONFIG_INIT_H64LM:
        if (tensor->role == ROLE_EMBED) return c->initializer_range / sqrt(c->hidden_size);
        return c->initializer_range * sqrt(2 / (depth + 1)) / sqrt(tensor->cols);
    case CONFIG_INIT_ORTHOGONAL:
        if (tensor->role == ROLE_EMBED) return c->initializer_range;
        if (is_signature(c, tensor)) return 1;
        if (is_hash_proj(tensor->role)) return 1 / sqrt(2.0 * c->num_hidden_layers);
        return out || is_hash(tensor->role) || tensor->role == ROLE_ROUTER ||
                       tensor->role == ROLE_ROUTER_DOMAIN ||
                       tensor->role == ROLE_ROUTER_NOISE ||
                       tensor->role == ROLE_HEAD
                   ? 0
                   : 1;
    case CONFIG_INIT_LECUN: return 1 / sqrt(tensor->cols);
    }
    return 0;
}

static enum model_init init_of(const struct config *c, enum model_role role)
{
    const bool table = role == ROLE_EMBED || is_hash(role);
    if (c->init == CONFIG_INIT_ORTHOGONAL && !table) return MODEL_ORTHOGONAL;
    return c->init == CONFIG_INIT_LECUN && !table ? MODEL_TRUNCATED : MODEL_NORMAL;
}

// Of a stack, those that a token touches: of experts of different widths the mean.
static uint64_t active_of(const struct config *c, const struct model_tensor *tensor)
{
    const struct config_router *router = &c->layer_router[tensor->layer];
    const bool chosen = router->type == CONFIG_ROUTER_EXPERT_CHOICE;
    const double picks = chosen ? router->capacity_factor : router->top_k;
    return (uint64_t)((double)tensor->count * picks / tensor->experts);
}

static void add(struct model *model, enum model_role role, int32_t layer, uint32_t experts,
                uint32_t rows, uint32_t cols)
{
    const struct config *c = &model->config;
    struct model_tensor *tensor = &model->tensor[model->tensor_count++];
    *tensor = (struct model_tensor){
        .role = role, .layer = layer, .experts = experts, .rows = rows, .cols = cols};
    model_role_name(role, layer, c->family, tensor->name, sizeof tensor->name);
    // fits, for config limits the sum to 2^42
    tensor->space = tensor->count = (uint64_t)max_u32(experts, 1) * rows * cols;
    if (model_is_uneven(model, tensor)) // the matrix behind the last one begins at the end
        tensor->count = model_matrix(model, tensor, experts).begin;
    tensor->ruled = role == ROLE_ROUTER_CORRECTION;
    const bool vector = role_names[role].vector;
    tensor->decay = !vector && (role != ROLE_EMBED || c->embedding_weight_decay);
    tensor->init_value = vector ? vector_value(c, role) : 0;
    if (role == ROLE_ROUTER_TEMPERATURE) // softplus of it is the configured temperature
        tensor->init_value = log(expm1(c->layer_router[layer].temperature));
    tensor->init_std = vector ? 0 : init_std(c, tensor);
    tensor->init = init_of(c, role);
    model->parameters += tensor->count;
    model->active += experts ? active_of(c, tensor) : tensor->count;
}

static void add_shared(struct model *model, int32_t layer)
{
    const struct config *c = &model->config;
    const uint32_t inner = c->shared_intermediate_size, h = c->hidden_size;
    if (!inner) return;
    if (c->shared_expert_gate) add(model, ROLE_SHARED_SHARE, layer, 0, 1, h);
    if (c->mlp_gated) add(model, ROLE_SHARED_GATE, layer, 0, inner, h);
    add(model, ROLE_SHARED_UP, layer, 0, inner, h);
    add(model, ROLE_SHARED_DOWN, layer, 0, h, inner);
}

static void add_router(struct model *model, int32_t layer)
{
    const struct config *c = &model->config;
    const struct config_router *router = &c->layer_router[layer];
    const uint32_t experts = c->num_experts, h = c->hidden_size, inner = router->hidden_size;
    if (router->type == CONFIG_ROUTER_HASH) return;
    if (inner) add(model, ROLE_ROUTER_HIDDEN, layer, 0, inner, h);
    if (inner && c->router_bias) add(model, ROLE_ROUTER_HIDDEN_BIAS, layer, 0, 1, inner);
    const uint32_t width = inner ? inner : h, domains = router->n_domains;
    if (domains) add(model, ROLE_ROUTER_DOMAIN, layer, 0, domains, width);
    if (domains && c->router_bias) add(model, ROLE_ROUTER_DOMAIN_BIAS, layer, 0, 1, domains);
    add(model, ROLE_ROUTER, layer, 0, experts, width);
    if (c->router_bias) add(model, ROLE_ROUTER_BIAS, layer, 0, 1, experts);
    if (router->type == CONFIG_ROUTER_SIGMOID_BIAS)
        add(model, ROLE_ROUTER_CORRECTION, layer, 0, 1, experts);
    if (router->type == CONFIG_ROUTER_NOISY_TOPK)
        add(model, ROLE_ROUTER_NOISE, layer, 0, experts, h);
    if (router->learn_temperature) add(model, ROLE_ROUTER_TEMPERATURE, layer, 0, 1, 1);
}

static void add_embeddings(struct model *model)
{
    const struct config *c = &model->config;
    const uint32_t sizes[] = {c->bigram_hash_size, c->trigram_hash_size};
    add(model, ROLE_EMBED, -1, 0, c->vocab_size, c->hidden_size);
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t first = i * (ROLE_TRIGRAM_HASH - ROLE_HASH);
        if (!sizes[i]) continue;
        add(model, ROLE_HASH + first, -1, 0, sizes[i], c->hash_dim);
        add(model, ROLE_HASH_PROJ + first, -1, 0, c->hidden_size, c->hash_dim);
        add(model, ROLE_HASH_SCALE + first, -1, 0, 1, 1);
    }
    if (c->smear_gate) add(model, ROLE_SMEAR, -1, 0, 1, c->hidden_size);
}

static void add_attention(struct model *model, int32_t n)
{
    const struct config *c = &model->config;
    const uint32_t h = c->hidden_size, d = c->head_dim;
    const uint32_t heads = c->num_attention_heads * d, kv = c->num_key_value_heads * d;
    const bool weights = c->norm == CONFIG_RMS_NORM && c->norm_weight;
    if (weights) add(model, ROLE_NORM_ATTENTION, n, 0, 1, h);
    add(model, ROLE_Q, n, 0, heads, h);
    add(model, ROLE_K, n, 0, kv, h);
    add(model, ROLE_V, n, 0, kv, h);
    if (c->attention_bias) {
        add(model, ROLE_Q_BIAS, n, 0, 1, heads);
        add(model, ROLE_K_BIAS, n, 0, 1, kv);
        add(model, ROLE_V_BIAS, n, 0, 1, kv);
    }
    if (c->qk_norm && weights) add(model, ROLE_Q_NORM, n, 0, 1, d);
    if (c->qk_norm && weights) add(model, ROLE_K_NORM, n, 0, 1, d);
    if (c->qk_gain != 0) add(model, ROLE_Q_GAIN, n, 0, 1, c->num_attention_heads);
    if (c->attention_out_proj) add(model, ROLE_O, n, 0, h, heads);
    if (c->attention_out_proj && c->attention_bias) add(model, ROLE_O_BIAS, n, 0, 1, h);
    if (c->channel_scales) add(model, ROLE_SCALE_ATTENTION, n, 0, 1, h);
}

static void add_ffn(struct model *model, int32_t n)
{
    const struct config *c = &model->config;
    const uint32_t h = c->hidden_size, i = c->intermediate_size, m = c->moe_intermediate_size;
    if (c->norm == CONFIG_RMS_NORM && c->norm_weight) add(model, ROLE_NORM_FFN, n, 0, 1, h);
    if (c->moe_layer[n]) {
        add_router(model, n);
        add_shared(model, n);
        if (c->mlp_gated) add(model, ROLE_EXPERT_GATE, n, c->num_experts, m, h);
        add(model, ROLE_EXPERT_UP, n, c->num_experts, m, h);
        add(model, ROLE_EXPERT_DOWN, n, c->num_experts, h, m);
        if (c->mlp_bias) add(model, ROLE_EXPERT_UP_BIAS, n, c->num_experts, 1, m);
        if (c->mlp_bias) add(model, ROLE_EXPERT_DOWN_BIAS, n, c->num_experts, 1, h);
    } else {
        if (c->mlp_gated) add(model, ROLE_GATE, n, 0, i, h);
        add(model, ROLE_UP, n, 0, i, h);
        add(model, ROLE_DOWN, n, 0, h, i);
        if (c->mlp_bias) add(model, ROLE_UP_BIAS, n, 0, 1, i);
        if (c->mlp_bias) add(model, ROLE_DOWN_BIAS, n, 0, 1, h);
    }
    if (c->channel_scales) add(model, ROLE_SCALE_FFN, n, 0, 1, h);
}

static void add_layer(struct model *model, uint32_t index)
{
    const struct config *c = &model->config;
    const uint32_t h = c->hidden_size;
    const int32_t n = (int32_t)index;
    if (config_layer_owner(c, index) != index) return; // a repeat
    if (config_skip_source(c, index) >= 0) add(model, ROLE_SKIP, n, 0, 1, h);
    if (c->residual_mix) add(model, ROLE_MIX_RESIDUAL, n, 0, 1, h);
    if (c->residual_mix) add(model, ROLE_MIX_EMBED, n, 0, 1, h);
    add_attention(model, n);
    add_ffn(model, n);
}

// ---- groups

// The matrices between activations; embedding, head, router and what is smaller stay with AdamW.
static bool is_for_muon(const struct model_tensor *tensor)
{
    switch ((int)tensor->role) {
    case ROLE_Q: case ROLE_K: case ROLE_V: case ROLE_O: case ROLE_GATE: case ROLE_UP:
    case ROLE_DOWN: case ROLE_EXPERT_GATE: case ROLE_EXPERT_UP: case ROLE_EXPERT_DOWN:
    case ROLE_SHARED_GATE: case ROLE_SHARED_UP: case ROLE_SHARED_DOWN: case ROLE_HASH_PROJ:
    case ROLE_TRIGRAM_PROJ: return true;
    }
    return false;
}

// Where codes would save little the moments stay in f32: vectors and small matrices, as in
// bitsandbytes; and so do, but for what a group says, tables of embeddings, whose rows are seldom
// hit, as Hugging Face's Trainer has it.
static bool is_for_8bit(const struct model_tensor *tensor, const struct config_group *own)
{
    enum { LEAST = 4096 };
    const bool table = tensor->role == ROLE_EMBED || is_hash(tensor->role),
               asked = own && own->optim == CONFIG_ADAMW_8BIT;
    return model_tensor_rank(tensor) == 2 && tensor->count >= LEAST && (!table || asked);
}

// The first of param_groups that its name matches; a stack's name has # for the expert.
static const struct config_group *match(const struct config *c, const struct model_tensor *tensor,
                                        bool *matched)
{
    char name[sizeof tensor->name + 1];
    const char *place = strstr(tensor->name, "%u");
    snprintf(name, sizeof name, "%s", tensor->name);
    if (place)
        snprintf(name, sizeof name, "%.*s#%s", (int)(place - tensor->name), tensor->name,
                 place + 2);
    for (uint32_t i = 0; i < c->group_count; i++)
        if (fnmatch(c->group[i].match, name, 0) == 0) {
            matched[i] = true;
            return &c->group[i];
        }
    return NULL;
}

static struct model_group group_of(const struct config *c, const struct model_tensor *tensor,
                                   const struct config_group *own)
{
    struct model_group group = {
        .weight_decay = tensor->decay ? c->weight_decay : 0,
        .rate = own && c->learning_rate > 0 ? own->learning_rate / c->learning_rate : 1,
        .optim = own ? own->optim : c->optim,
        .by_expert = tensor->experts > 0 && c->expert_optimizer != CONFIG_DENSE_EXACT};
    if ((group.optim == CONFIG_MUON && !is_for_muon(tensor)) ||
        (group.optim == CONFIG_ADAMW_8BIT && !is_for_8bit(tensor, own)))
        group.optim = CONFIG_ADAMW;
    const bool given = own && own->momentum >= 0;
    switch (group.optim) {
    case CONFIG_ADAMW: case CONFIG_ADAMW_8BIT:
        group.beta1 = own ? own->beta1 : c->adam_beta1;
        group.beta2 = own ? own->beta2 : c->adam_beta2;
        break;
    case CONFIG_MUON:
        group.beta1 = given ? own->momentum : c->muon_momentum;
        group.nesterov = c->muon_nesterov;
        break;
    case CONFIG_SGD:
        group.beta1 = given ? own->momentum : c->sgd_momentum;
        group.nesterov = c->sgd_nesterov;
        break;
    }
    if (own && own->weight_decay >= 0) group.weight_decay = own->weight_decay;
    return group;
}

static bool same_group(const struct model_group *a, const struct model_group *b)
{
    return a->weight_decay == b->weight_decay && a->beta1 == b->beta1 && a->beta2 == b->beta2 &&
           a->rate == b->rate && a->by_expert == b->by_expert && a->optim == b->optim &&
           a->nesterov == b->nesterov;
}

// Groups in the order in which their first tensors stand, those with weight decay in front.
static bool group_tensors(struct model *model)
{
    const struct config *c = &model->config;
    bool matched[CONFIG_MAX_PARAM_GROUPS] = {false};
    model->group = arena_array(model->arena, model->tensor_count, sizeof *model->group);
    for (uint32_t i = 0; i < 2 * model->tensor_count; i++) {
        struct model_tensor *tensor = &model->tensor[i % model->tensor_count];
        if (tensor->decay != (i < model->tensor_count)) continue;
        const struct model_group own = group_of(c, tensor, match(c, tensor, matched));
        if (own.optim == CONFIG_MUON && model_is_uneven(model, tensor)) {
            log_error("optim muon: tensor %s is of experts of different widths, whose scale it "
                      "does not know; wanted one moe_intermediate_size, or param_groups "
                      "[{\"match\": \"*experts*\", \"optim\": \"adamw\"}]", tensor->name);
            return false;
        }
        uint32_t at = 0;
        while (at < model->group_count && !same_group(&own, &model->group[at])) at++;
        if (at == model->group_count) model->group[model->group_count++] = own;
        tensor->group = at;
    }
    for (uint32_t i = 0; i < c->group_count; i++)
        if (!matched[i]) {
            log_error("param_groups: \"%s\" matches no tensor that an earlier pattern left; names "
                      "are such as model.layers.0.self_attn.q_proj.weight, and # stands for the "
                      "number of an expert",
                      c->group[i].match);
            return false;
        }
    return true;
}

bool model_has_m(const struct model *model, const struct model_tensor *tensor)
{
    return model->group[tensor->group].optim != CONFIG_ADAMW_8BIT;
}

bool model_has_v(const struct model *model, const struct model_tensor *tensor)
{
    return model->group[tensor->group].optim == CONFIG_ADAMW;
}

uint64_t model_records(const struct model *model, const struct model_tensor *tensor)
{
    const uint64_t parts = max_u32(tensor->experts, 1), each = tensor->space / parts;
    return model_has_m(model, tensor) ? 0 : parts * (align_up(each, CODES_ELEMENTS) /
                                                     CODES_ELEMENTS);
}

// ---- places

// Of an expert's own where it is a part of its own (plan_update.c).
static uint64_t draws_of(const struct model *model, const struct model_tensor *tensor)
{
    const bool own = model->group[tensor->group].by_expert || !model_has_m(model, tensor);
    const uint64_t parts = own ? max_u32(tensor->experts, 1) : 1, each = tensor->space / parts;
    return align_up(parts * (align_up(each, DRAW_ELEMENTS) / DRAW_ELEMENTS),
                    MODEL_ALIGN / DRAW_ELEMENTS);
}

// First fit in order: a tensor that does not fit behind the last one opens the next segment.
static bool place_group(struct model *model, uint32_t group, uint64_t *draw)
{
    const uint64_t limit = model->bytes_limit / sizeof(float);
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        struct model_tensor *tensor = &model->tensor[i];
        const uint64_t padded = align_up(tensor->space, MODEL_ALIGN);
        if (tensor->group != group) continue;
        tensor->draw = *draw;
        *draw += draws_of(model, tensor);
        if (tensor->streamed) continue;
        if (padded > limit) {
            log_error("tensor %s%s: %llu bytes in f32, a segment of the device takes %llu; make "
                      "the model's parts smaller",
                      tensor->name, tensor->experts ? " (all experts)" : "",
                      (unsigned long long)(tensor->space * sizeof(float)),
                      (unsigned long long)model->bytes_limit);
            return false;
        }
        uint32_t *const count = &model->segment_count;
        if (*count == 0 || model->segment_elements[*count - 1] + padded > limit) (*count)++;
        tensor->segment = *count - 1;
        tensor->offset = model->segment_elements[*count - 1];
        model->segment_elements[*count - 1] += padded;
        tensor->m_offset = model->segment_m[*count - 1];
        tensor->v_offset = model->segment_v[*count - 1];
        tensor->record = model->segment_records[*count - 1];
        if (model_has_m(model, tensor)) model->segment_m[*count - 1] += padded;
        model->segment_records[*count - 1] += model_records(model, tensor);
        if (model_has_v(model, tensor)) model->segment_v[*count - 1] += padded;
    }
    return true;
}

static struct model *create(const struct config *config, uint64_t segment_bytes, bool streamed)
{
    enum { MOST_A_LAYER = 48, OTHERS = 12 };
    struct arena *arena = arena_create("model");
    struct model *model = arena_alloc(arena, sizeof *model);
    model->arena = arena;
    model->config = *config;
    model->bytes_limit = segment_bytes;
    model->tensor = arena_array(arena, (size_t)config->num_hidden_layers * MOST_A_LAYER + OTHERS,
                                sizeof *model->tensor);
    add_embeddings(model);
    for (uint32_t i = 0; i < config->num_hidden_layers; i++) add_layer(model, i);
    if (config->norm == CONFIG_RMS_NORM && config->norm_weight)
        add(model, ROLE_NORM_FINAL, -1, 0, 1, config->hidden_size);
    if (!config->tie_word_embeddings)
        add(model, ROLE_HEAD, -1, 0, config->vocab_size, config->hidden_size);
    if (config->lm_head_bias) add(model, ROLE_HEAD_BIAS, -1, 0, 1, config->vocab_size);
    model->segment_elements =
        arena_array(arena, model->tensor_count, sizeof *model->segment_elements);
    model->segment_m = arena_array(arena, model->tensor_count, sizeof *model->segment_m);
    model->segment_records =
        arena_array(arena, model->tensor_count, sizeof *model->segment_records);
    model->segment_v = arena_array(arena, model->tensor_count, sizeof *model->segment_v);
    for (uint32_t i = 0; i < model->tensor_count; i++)
        model->tensor[i].streamed = streamed && model->tensor[i].experts > 0;
    bool ok = group_tensors(model);
    uint64_t draw = 0;
    for (uint32_t g = 0; ok && g < model->group_count; g++) ok = place_group(model, g, &draw);
    if (!ok) model_destroy(&model);
    return model;
}

struct model *model_create(const struct config *config, uint64_t segment_bytes)
{
    return create(config, segment_bytes, false);
}

struct model *model_create_streamed(const struct config *config, uint64_t segment_bytes)
{
    return create(config, segment_bytes, true);
}

struct model_memory model_memory(const struct model *model)
{
    const struct config *c = &model->config;
    uint64_t elements = 0, optimizer = 0;
    for (uint32_t s = 0; s < model->segment_count; s++) {
        elements += model->segment_elements[s];
        optimizer += 4 * (model->segment_m[s] + model->segment_v[s]) + // as the optimizers want
                     4 * CODES_WORDS * model->segment_records[s];
    }
    const uint64_t wide = elements * 4, copy = elements * dtype_bytes(c->torch_dtype);
    struct model_memory m = {.weights = copy,
                             .master = c->master_weights ? wide : 0,
                             .copy = c->torch_dtype != DTYPE_F32 ? copy : 0,
                             .gradients = wide,
                             .optimizer = optimizer,
                             .average = config_averages(c) ? wide : 0};
    m.train = m.master + m.copy + m.gradients + m.optimizer + m.average;
    return m;
}

bool model_is_streamed(const struct model *model)
{
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (model->tensor[i].streamed) return true;
    return false;
}

void model_destroy(struct model **model)
{
    if (!*model) return;
    struct arena *arena = (*model)->arena;
    arena_destroy(&arena);
    *model = NULL;
}

const struct model_tensor *model_find(const struct model *model, enum model_role role,
                                      int32_t layer)
{
    if (layer >= 0) layer = (int32_t)config_layer_owner(&model->config, (uint32_t)layer);
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (model->tensor[i].role == role && model->tensor[i].layer == layer)
            return &model->tensor[i];
    return NULL;
}

uint32_t model_moe_index(const struct model *model, uint32_t layer)
{
    uint32_t index = 0;
    for (uint32_t i = 0; i < layer; i++) index += model->config.moe_layer[i];
    return index;
}

bool model_role_name(enum model_role role, int32_t layer, enum config_family family, char *out,
                     size_t bytes)
{
    const char *name = role_names[role].name;
    if (family == CONFIG_MIXTRAL && role_names[role].mixtral) name = role_names[role].mixtral;
    const int length = layer < 0 ? snprintf(out, bytes, "%s", name)
                                 : snprintf(out, bytes, "model.layers.%d.%s", layer, name);
    return length >= 0 && (size_t)length < bytes;
}

uint32_t model_tensor_rank(const struct model_tensor *tensor)
{
    return role_names[tensor->role].vector ? 1 : 2;
}

void model_tensor_name(const struct model_tensor *tensor, uint32_t expert, char *out, size_t bytes)
{
    const char *place = tensor->experts ? strstr(tensor->name, "%u") : NULL;
    if (!place) snprintf(out, bytes, "%s", tensor->name);
    else
        snprintf(out, bytes, "%.*s%u%s", (int)(place - tensor->name), tensor->name, expert,
                 place + 2);
}
