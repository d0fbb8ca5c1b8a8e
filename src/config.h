// SPDX-License-Identifier: MIT
// The configuration of a run: JSON -> struct. One flat object; keys are Hugging Face's where
// Hugging Face has one (model: transformers' config.json; training: TrainingArguments). An unknown
// key, a wrong type or an impossible value is an error that names the file, the key, what was found
// and what was wanted.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dtype.h"

enum {
    CONFIG_MAX_WIDTHS = 256, CONFIG_MAX_LAYERS = 256, CONFIG_MAX_PARAM_GROUPS = 32,
    CONFIG_MAX_DOMAINS = 64
};

enum config_family { CONFIG_VKMOE, CONFIG_MIXTRAL, CONFIG_QWEN3_MOE }; // "model_type": tensor names
enum config_act { CONFIG_SILU, CONFIG_GELU, CONFIG_GELU_NEW, CONFIG_GELU_TANH, CONFIG_RELU2 };
enum config_init {
    CONFIG_INIT_NORMAL, CONFIG_INIT_SCALED, CONFIG_INIT_H64LM,
    CONFIG_INIT_ORTHOGONAL, CONFIG_INIT_LECUN
};
enum config_positions { CONFIG_ROPE, CONFIG_NO_POSITIONS };
enum config_norm { CONFIG_RMS_NORM, CONFIG_NO_NORM };
enum config_task { CONFIG_NEXT_TOKEN, CONFIG_COPY };
enum config_curriculum { // see curriculum.h
    CONFIG_NO_CURRICULUM, CONFIG_FIXED_ORDER, CONFIG_RANDOM_ORDER, CONFIG_INTERLEAVED,
    CONFIG_DOPAMINE
};
// What is done to patterns that are trained on, to see what of them was learnt (fct_source.h).
enum config_fct_control {
    CONFIG_FCT_AS_IT_IS, CONFIG_FCT_SHUFFLE, CONFIG_FCT_SHUFFLE_ALL, CONFIG_FCT_TAGS
};
enum config_packing { // of data.h
    CONFIG_PACKING_AUTO, CONFIG_PACKING_STREAM, CONFIG_PACKING_WHOLE,
};
enum config_optim { CONFIG_ADAMW, CONFIG_MUON, CONFIG_SGD, CONFIG_ADAMW_8BIT };
// What experts without a token do (KERNEL_EXPERT_STEPS): nothing, with t_e steps of their own for
// bias correction; a step like all others, with zero gradients (torch.optim.AdamW on the stacked
// tensor); nothing, with the step of all (TensorFlow's LazyAdam, torch.optim.SparseAdam).
enum config_expert_optimizer { CONFIG_PER_EXPERT, CONFIG_DENSE_EXACT, CONFIG_LAZY_GLOBAL };
enum config_schedule { CONFIG_COSINE, CONFIG_LINEAR, CONFIG_CONSTANT, CONFIG_CONSTANT_DECAY };

enum { CONFIG_MAX_GROUPS = 256 };
enum config_routing {
    CONFIG_ROUTER_TOPK,
    CONFIG_ROUTER_SWITCH,           // top-1, gate p
    CONFIG_ROUTER_STRAIGHT_THROUGH, // top-1, gate 1, gradient as if it were p
    CONFIG_ROUTER_THRESHOLD,        // those above router_threshold, gates divided by their sum
    CONFIG_ROUTER_TOP_P,            // the fewest that have router_top_p of the probability
    CONFIG_ROUTER_DYNAMIC,          // the same between min_ and num_experts_per_tok
    CONFIG_ROUTER_GROUP_LIMITED,    // top-k inside the topk_group best of n_group groups
    CONFIG_ROUTER_SIGMOID_BIAS,     // top-k of sigmoid + balancing bias (DeepSeek-V3)
    CONFIG_ROUTER_DENSE,            // all experts, gates p
    CONFIG_ROUTER_NOISY_TOPK,       // top-k of logits plus learned noise, in training (Shazeer)
    CONFIG_ROUTER_HASH,             // by the token's id: no router weights
    CONFIG_ROUTER_EXPERT_CHOICE,    // each expert takes its best tokens; not causal: an ablation
    CONFIG_ROUTER_HIERARCHICAL,     // domains_per_tok of n_domains, then experts inside each
};

// What makes the logits of n (of the mlp body: of f(W n + b), f the hidden_act): one linear layer,
// or the cosine of the angle between n and each expert's signature.
enum config_router_body { CONFIG_BODY_LINEAR, CONFIG_BODY_MLP, CONFIG_BODY_COSINE };

// Of one MoE layer. Losses are of the mean over MoE layers, coefficient 0: off.
struct config_router {
    enum config_routing type;     // router_type
    enum config_router_body body; // router_body
    uint32_t hidden_size;         // router_hidden_size: of the mlp body; default hidden_size
    uint32_t top_k;               // num_experts_per_tok: the most that a token can take
    uint32_t min_k;               // min_experts_per_tok: threshold, top_p, dynamic
    bool     norm_topk_prob;      // divide the picked gates by their sum; mixtral: always
    uint32_t sigmoid;             // scoring_func: "softmax" or "sigmoid"
    double   threshold, top_p;    // router_threshold, router_top_p
    uint32_t n_group, topk_group;
    uint32_t n_domains, domains_per_tok; // hierarchical; 0: no domains
    double   scaling_factor;      // routed_scaling_factor: of all gates
    double   bias_speed;          // router_bias_update_speed
    double   temperature;         // router_temperature: logits are divided by it; default 1
    bool     learn_temperature;   // router_learn_temperature: that is where it starts
    double   jitter;              // router_jitter_noise: logits times 1 +- it, in training
    double   capacity_factor;     // of T k / E rows an expert, in training; 0: none is dropped;
                                  // expert_choice: an expert takes this times T / E tokens
    double   balance_coef;        // router_aux_loss_coef: Switch balance loss, divided by k;
                                  // default 0 for sigmoid_bias and expert_choice
    bool     balance_global;      // router_aux_loss_global: its fractions are of the whole step
    double   pooled_coef;         // router_aux_loss_hf_coef: transformers' balance loss
    double   z_coef;              // router_z_loss_coef
    double   entropy_coef;        // router_entropy_coef: bonus for the entropy of each token
    double   mean_entropy_coef;   // ... for the entropy of the mean probabilities
    double   variance_coef;       // router_variance_coef: variance of the mean probabilities
    double   importance_coef;     // router_importance_coef: CV^2 of the sums of gates
    double   z_square_coef;       // router_z_square_coef: mean square of the logits
    uint32_t loss_layers;         // router_loss_layers: 1 ("all"): divided by all layers instead
};

// Of tensors whose names match a pattern: param_groups, the first that matches.
struct config_group {
    char              match[96];      // as a shell's: * ? [a-z]
    enum config_optim optim;          // default the key optim
    double            learning_rate;  // peak, scheduled as the key learning_rate, the default
    double            weight_decay;   // of all that match; -1: as without the group
    double            beta1, beta2;   // "betas", of AdamW
    double            momentum;       // of the others; -1: muon_momentum, sgd_momentum
};

// A domain of the data, by name: curriculum_domains.
struct config_domain {
    char   name[64];
    bool   held_out; // "hold_out": never trained on
    double bonus;    // of its reward, 0 to 1
};

// Of text: which documents stay (corpus.h), where they lie (corpus_room.h) and what is kept of
// their tokens (corpus_tokens.h).
enum config_dedup { CONFIG_DEDUP_NONE, CONFIG_DEDUP_EXACT, CONFIG_DEDUP_NEAR };
enum config_token_cache { CONFIG_CACHE_AUTO, CONFIG_CACHE_ON, CONFIG_CACHE_OFF };
struct config_corpus {
    uint64_t          min_bytes, max_bytes;        // of a document; max_bytes 0: any
    uint32_t          min_words, min_unique_words;
    double            min_letters;                 // share of what is no white space
    double            max_repeated_lines;          // share of bytes in lines that came before
    enum config_dedup dedup;
    double            dedup_threshold;             // Jaccard index from which on texts are near
    enum config_token_cache token_cache;
    uint32_t          data_memory_mib;             // of text and ids in memory; more lies in files
};

struct config {
    // ---- model
    enum config_family family;          // model_type: "vkmoe", "mixtral", "qwen3_moe"
    uint32_t vocab_size, hidden_size;
    uint32_t intermediate_size;         // of dense layers (and of experts for mixtral)
    uint32_t moe_intermediate_size;     // of experts; default intermediate_size
    // Given as a list, which divides the experts into as many groups of neighbours: of each group;
    // moe_intermediate_size then is the largest. width_count 0: all alike.
    uint32_t expert_width[CONFIG_MAX_WIDTHS], width_count;
    uint32_t num_hidden_layers, num_attention_heads, num_key_value_heads;
    uint32_t head_dim;                  // default hidden_size / num_attention_heads
    uint32_t max_position_embeddings;
    uint32_t sliding_window;            // 0 (null): none
    uint32_t num_experts;               // also read as num_local_experts; 0: dense model
    uint32_t shared_intermediate_size;  // shared_expert_intermediate_size: of a body that every
                                        // token takes beside its experts; 0: none
    bool     shared_expert_gate;        // times the sigmoid of a linear layer (Qwen2-MoE)
    struct config_router router;  // the keys of routers, for all layers ...
    // ... and what "layers": {"3": {"router_temperature": 2}} says of some
    struct config_router layer_router[CONFIG_MAX_LAYERS];
    bool     tie_word_embeddings;
    bool     qk_norm;                   // per-head RMSNorm of q and k; qwen3_moe: always true
    // Resolved from decoder_sparse_step and mlp_only_layers as in Qwen3-MoE: MoE where
    // (i + 1) % step == 0 and i is not in mlp_only_layers; mixtral: all.
    bool     moe_layer[CONFIG_MAX_LAYERS];
    enum config_act hidden_act;         // of feed-forward bodies, dense and experts: "silu",
                                        // "gelu", "gelu_new" and "gelu_pytorch_tanh", "relu2"
    bool     mlp_gated;                 // three matrices, f(gate) * up; else two, f(up); default
                                        // true, and so for mixtral and qwen3_moe
    double   rms_norm_eps, rope_theta;
    enum config_init init;              // "normal" (std initializer_range), "scaled" (o and down
                                        // by 1/sqrt(2 layers)), "h64lm", "orthogonal" (embedding
                                        // normal, what writes into the residual stream, routers and
                                        // hash tables 0), "lecun" (truncated, 1/sqrt(fan_in))
    double   initializer_range;
    enum dtype torch_dtype;             // storage of weights' compute copy and of activations:
                                        // float32, bfloat16, float16
    int32_t  bos_token_id, eos_token_id, pad_token_id; // -1 (null): none; transformers' generate()
    // ---- model: what stands around attention and feed-forward (config_stack.c). As in PR 660 of
    // openai/parameter-golf: https://github.com/openai/parameter-golf/pull/660
    enum config_norm norm;              // "rms" or "none"
    bool     norm_weight;               // false: RMSNorm multiplies by nothing
    double   qk_gain;                   // 0 (null): none; else where a query head's gain begins
    bool     rope_inverse;              // turns the other way round (cos, -sin)
    bool     embedding_norm;            // RMSNorm without weight behind the embeddings
    bool     smear_gate;                // then each token takes a share of the one before
    uint32_t bigram_hash_size, trigram_hash_size; // rows of the tables; 0: none
    uint32_t hash_dim;                  // their columns, projected to hidden_size
    bool     unet_skips;                // the second half of the layers adds the first's outputs
    bool     residual_mix;              // a layer begins with x = a x + b (embedding), by channels
    bool     channel_scales;            // of what attention and feed-forward add
    double   logit_softcap;             // 0 (null): none; else cap * tanh(logits / cap)
    uint32_t repeat_first, repeat_layers, repeat_times; // layer_repeats; 0: none
    // As in SOME
    enum config_positions positions;    // "rope" or "none"
    bool     causal;                    // false: every token sees every token
    bool     attention_bias;            // of q, k, v, and of o where there is one
    bool     attention_out_proj;        // false: no o, what the heads make is added as it is
    bool     mlp_bias;                  // of both matrices of bodies that are not gated
    bool     router_bias, lm_head_bias;
    enum config_task task;              // "next_token", or "copy": targets are the inputs
    bool     document_boundaries;       // attention, smear_gate and hashes end where documents do
    // ---- training
    enum config_packing packing;        // "stream", "whole"; default "auto": see data.h
    uint32_t seq_len, batch_size;       // batch_size sequences of seq_len tokens a micro-batch
    uint32_t gradient_accumulation_steps;
    uint32_t steps;                     // total optimizer steps
    // Which domain each step is of (curriculum.h, dopamine.h)
    enum config_curriculum curriculum;  // "none", "fixed", "random", "interleaved", "dopamine"
    uint32_t curriculum_epochs;         // of a visit
    double   curriculum_stop_loss;      // of an epoch, which ends the visit; 0: none does
    double   dopamine_novelty, dopamine_weakness, dopamine_improvement, dopamine_bonus; // a b c d
    double   dopamine_power;
    struct config_domain domain[CONFIG_MAX_DOMAINS]; // curriculum_domains
    uint32_t domain_count;
    enum config_fct_control fct_control; // "none", "shuffle", "shuffle_all", "tags"
    uint32_t lr_decay_steps;            // horizon of the schedule; default the config file's steps
                                        // (--steps does not move it)
    uint32_t warmup_steps;
    enum config_schedule lr_scheduler_type; // "cosine", "linear", "constant", "constant_with_decay"
    double   decay_fraction;            // constant_with_decay: last part of lr_decay_steps, which
                                        // falls linearly to min_learning_rate
    double   learning_rate, min_learning_rate;
    // By the clock, over all parts of a resumed run: training ends after max_train_seconds (0: by
    // steps alone), and before it the rate falls to 0 over warmdown_seconds, or over the time that
    // warmdown_steps take on average. Such a run is not the same twice.
    double   max_train_seconds, warmdown_seconds;
    uint32_t warmdown_steps;
    double   adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm;
    enum config_optim optim;            // "adamw", "muon", "sgd", "adamw_8bit"
    struct config_group group[CONFIG_MAX_PARAM_GROUPS]; // param_groups
    uint32_t group_count;
    double   muon_momentum, sgd_momentum;
    bool     muon_nesterov, sgd_nesterov;
    enum config_expert_optimizer expert_optimizer; // "per-expert", "dense-exact", "lazy-global"
    bool     master_weights;            // false: weights are in torch_dtype alone, bfloat16
    bool     stochastic_rounding;       // what an update leaves goes to bfloat16 so; else nearest
    // A mean of the weights beside them, of every ema_every-th step (ema_decay: mean += (1 - decay)
    // (weights - mean)) or of every swa_every-th (all alike), from where the scheduled rate falls
    // below average_start times learning_rate (1: the first step) on; the first is taken as it is.
    double   ema_decay, average_start;  // ema_decay 0: none
    uint32_t ema_every, swa_every;      // swa_every 0: none
    bool     embedding_weight_decay;    // embeddings' own choice
    double   loss_scale;                // multiplies the loss before backward; default 1, f16 1024
    uint32_t save_every, eval_every;    // in steps; 0: only at the end / never
    uint32_t eval_batches;              // most batches of an evaluation in training; 0: all
    uint32_t final_eval_batches;        // the same for the one at the end
    uint32_t save_total_limit;          // checkpoints that are kept; 0: all; default 1
    uint32_t trace_mib, trace_tokens;   // routing.trace: most MiB (0: none), tokens whose picks are
                                        // in it, of each traced step
    uint32_t alarm_steps;               // of a collapse in a row, until it is told; 0: never
    double   alarm_share, alarm_entropy; // see src/routing.h
    double   held_out_fraction;         // share of the text that is never trained on; default 0.1
    struct config_corpus corpus;
    uint64_t seed;
};

// Reads FILE, applies `set` ("key=value", value as JSON or bare string) as if it stood in the file,
// and resolves defaults. NULL path: defaults only, a small dense model. A failure is one logged
// line.
bool config_read(struct config *config, const char *path, const char *const *set, int set_count);
// The same from text; `name` stands for the file in messages.
bool config_parse(struct config *config, const char *name, const char *json, const char *const *set,
                  int set_count);
// The resolved configuration as JSON, so that transformers and this program read it back the same.
// Caller frees.
char *config_print(const struct config *config);
// The layer whose weights a layer has: itself, but for repeats.
uint32_t    config_layer_owner(const struct config *config, uint32_t layer);
// The layer whose output this one adds (unet_skips), -1: none.
int32_t     config_skip_source(const struct config *config, uint32_t layer);
// How wide an expert is, and how wide those before it are together.
uint32_t    config_expert_width(const struct config *config, uint32_t expert);
uint64_t    config_widths_before(const struct config *config, uint32_t expert);
// Whether a router lets tokens see what is behind them (expert_choice).
bool        config_leaks(const struct config *config);
// Whether nothing of the stack differs from a plain transformer, embeddings aside.
bool        config_is_plain(const struct config *config);
// The first rule of the stack that is broken: the key and what was wanted; false where none is.
struct config_fault { const char *key; char wanted[160]; };
bool        config_stack_fault(const struct config *config, struct config_fault *fault);
const char *config_family_name(enum config_family family);
bool        config_averages(const struct config *config); // ema_decay or swa_every
uint32_t    config_moe_layers(const struct config *config); // how many layers are MoE
