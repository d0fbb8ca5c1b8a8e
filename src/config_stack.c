// SPDX-License-Identifier: MIT
// The keys of what stands around attention and feed-forward: the rules between them, and what they
// say of a layer. config.c reads them.
#include <stdarg.h>
#include <stdio.h>

#include "src/base.h"
#include "src/config_fields.h"

uint32_t config_layer_owner(const struct config *c, uint32_t layer)
{
    const uint32_t end = c->repeat_first + c->repeat_layers * c->repeat_times;
    if (layer < c->repeat_first || layer >= end) return layer;
    return c->repeat_first + (layer - c->repeat_first) % c->repeat_layers;
}

int32_t config_skip_source(const struct config *c, uint32_t layer)
{
    const uint32_t half = c->num_hidden_layers / 2;
    if (!c->unet_skips || layer < half || layer >= 2 * half) return -1;
    return (int32_t)(2 * half - 1 - layer);
}

bool config_is_plain(const struct config *c)
{
    return c->norm == CONFIG_RMS_NORM && c->norm_weight && c->qk_gain == 0 && !c->unet_skips &&
           !c->residual_mix && !c->channel_scales && c->logit_softcap == 0 && !c->smear_gate &&
           c->positions == CONFIG_ROPE && c->causal && !c->attention_bias &&
           c->attention_out_proj && !c->mlp_bias && !c->router_bias &&
           !c->lm_head_bias;
}

static bool fault_of(struct config_fault *fault, const char *key, const char *wanted, ...)
    __attribute__((format(printf, 3, 4)));
static bool fault_of(struct config_fault *fault, const char *key, const char *wanted, ...)
{
    va_list args;
    va_start(args, wanted);
    fault->key = key;
    vsnprintf(fault->wanted, sizeof fault->wanted, wanted, args);
    va_end(args);
    return true;
}

// Keys that a family of transformers does not have, and whose default says nothing (CONFIG_OWN is
// for the others).
static bool family_fault(const struct config *c, struct config_fault *fault)
{
    const char *key = c->family != CONFIG_VKMOE && c->repeat_times           ? "layer_repeats"
                      : c->family == CONFIG_MIXTRAL && c->attention_bias ? "attention_bias"
                                                                         : NULL;
    return key && fault_of(fault, key, "%s for model_type %s, or model_type vkmoe",
                           c->repeat_times ? "null" : "false", config_family_name(c->family));
}

static bool attention_fault(const struct config *c, struct config_fault *fault)
{
    if (!c->causal && c->task != CONFIG_COPY)
        return fault_of(fault, "causal",
                        "true for task \"next_token\" (the next token would be seen)");
    if (!c->causal && c->sliding_window)
        return fault_of(fault, "sliding_window", "null where causal is false");
    if (!c->causal && c->document_boundaries)
        return fault_of(fault, "document_boundaries", "false where causal is false");
    if (!c->attention_out_proj && c->num_attention_heads * c->head_dim != c->hidden_size)
        return fault_of(fault, "attention_out_proj",
                        "true where the heads have %u columns and hidden_size is %u",
                        c->num_attention_heads * c->head_dim, c->hidden_size);
    if (c->qk_gain != 0 && (!c->qk_norm || c->norm_weight))
        return fault_of(fault, "qk_gain", "null, or qk_norm true and norm_weight false");
    return false;
}

bool config_stack_fault(const struct config *c, struct config_fault *fault)
{
    if (family_fault(c, fault) || attention_fault(c, fault)) return true;
    if (c->norm == CONFIG_NO_NORM && c->qk_norm)
        return fault_of(fault, "qk_norm", "false where norm is \"none\"");
    if (c->mlp_bias && c->mlp_gated)
        return fault_of(fault, "mlp_bias", "false where mlp_gated is true");
    if (c->bigram_hash_size == 1 || c->trigram_hash_size == 1)
        return fault_of(fault, c->bigram_hash_size == 1 ? "bigram_hash_size" : "trigram_hash_size",
                        "0 or at least 2");
    const uint64_t end = c->repeat_first + (uint64_t)c->repeat_layers * c->repeat_times;
    if (c->repeat_times && end > c->num_hidden_layers)
        return fault_of(fault, "layer_repeats",
                        "repeats that end by num_hidden_layers, %u, which counts them",
                        c->num_hidden_layers);
    if (c->repeat_times && c->unet_skips)
        return fault_of(fault, "layer_repeats", "null where unet_skips is true");
    return false;
}
