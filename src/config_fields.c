// SPDX-License-Identifier: MIT
// The configuration keys: names, kinds, ranges and defaults. Adding a key is adding a row here and
// a member in config.h; a rule between keys goes into config.c.
#include "src/config_fields.h"

#include <string.h>

#include "src/base.h"

static const char *const family_names[] = {
    [CONFIG_VKMOE] = "vkmoe", [CONFIG_MIXTRAL] = "mixtral", [CONFIG_QWEN3_MOE] = "qwen3_moe", NULL};
static const char *const act_names[] = {
    [CONFIG_SILU] = "silu", [CONFIG_GELU] = "gelu", [CONFIG_GELU_NEW] = "gelu_new",
    [CONFIG_GELU_TANH] = "gelu_pytorch_tanh", [CONFIG_RELU2] = "relu2", NULL};
static const char *const init_names[] = {
    [CONFIG_INIT_NORMAL] = "normal", [CONFIG_INIT_SCALED] = "scaled",
    [CONFIG_INIT_H64LM] = "h64lm", [CONFIG_INIT_ORTHOGONAL] = "orthogonal",
    [CONFIG_INIT_LECUN] = "lecun", NULL};
static const char *const position_names[] = {
    [CONFIG_ROPE] = "rope", [CONFIG_NO_POSITIONS] = "none", NULL};
static const char *const norm_names[] = {
    [CONFIG_RMS_NORM] = "rms", [CONFIG_NO_NORM] = "none", NULL};
static const char *const task_names[] = {
    [CONFIG_NEXT_TOKEN] = "next_token", [CONFIG_COPY] = "copy", NULL};
static const char *const curriculum_names[] = {
    [CONFIG_NO_CURRICULUM] = "none", [CONFIG_FIXED_ORDER] = "fixed",
    [CONFIG_RANDOM_ORDER] = "random", [CONFIG_INTERLEAVED] = "interleaved",
    [CONFIG_DOPAMINE] = "dopamine", NULL};
static const char *const control_names[] = {
    [CONFIG_FCT_AS_IT_IS] = "none", [CONFIG_FCT_SHUFFLE] = "shuffle",
    [CONFIG_FCT_SHUFFLE_ALL] = "shuffle_all", [CONFIG_FCT_TAGS] = "tags", NULL};
static const char *const packing_names[] = {
    [CONFIG_PACKING_AUTO] = "auto", [CONFIG_PACKING_STREAM] = "stream",
    [CONFIG_PACKING_WHOLE] = "whole", NULL};
static const char *const schedule_names[] = {
    [CONFIG_COSINE] = "cosine", [CONFIG_LINEAR] = "linear", [CONFIG_CONSTANT] = "constant",
    [CONFIG_CONSTANT_DECAY] = "constant_with_decay", NULL};
static const char *const router_names[] = {
    [CONFIG_ROUTER_TOPK] = "topk", [CONFIG_ROUTER_SWITCH] = "switch",
    [CONFIG_ROUTER_STRAIGHT_THROUGH] = "straight_through",
    [CONFIG_ROUTER_THRESHOLD] = "threshold", [CONFIG_ROUTER_TOP_P] = "top_p",
    [CONFIG_ROUTER_DYNAMIC] = "dynamic", [CONFIG_ROUTER_GROUP_LIMITED] = "group_limited",
    [CONFIG_ROUTER_SIGMOID_BIAS] = "sigmoid_bias", [CONFIG_ROUTER_DENSE] = "dense",
    [CONFIG_ROUTER_NOISY_TOPK] = "noisy_topk", [CONFIG_ROUTER_HASH] = "hash",
    [CONFIG_ROUTER_EXPERT_CHOICE] = "expert_choice",
    [CONFIG_ROUTER_HIERARCHICAL] = "hierarchical", NULL};
static const char *const body_names[] = {
    [CONFIG_BODY_LINEAR] = "linear", [CONFIG_BODY_MLP] = "mlp", [CONFIG_BODY_COSINE] = "cosine",
    NULL};
static const char *const scoring_names[] = {"softmax", "sigmoid", NULL};
static const char *const loss_layer_names[] = {"moe", "all", NULL};
static const char *const optim_names[] = {
    [CONFIG_ADAMW] = "adamw", [CONFIG_MUON] = "muon", [CONFIG_SGD] = "sgd",
    [CONFIG_ADAMW_8BIT] = "adamw_8bit", NULL};
static const char *const expert_optimizer_names[] = {
    [CONFIG_PER_EXPERT] = "per-expert", [CONFIG_DENSE_EXACT] = "dense-exact",
    [CONFIG_LAZY_GLOBAL] = "lazy-global", NULL};
static const char *const dtype_names[] = {
    [DTYPE_F32] = "float32", [DTYPE_BF16] = "bfloat16", [DTYPE_F16] = "float16", NULL};
static const char *const dedup_names[] = {
    [CONFIG_DEDUP_NONE] = "none", [CONFIG_DEDUP_EXACT] = "exact", [CONFIG_DEDUP_NEAR] = "near",
    NULL};
static const char *const token_cache_names[] = {
    [CONFIG_CACHE_AUTO] = "auto", [CONFIG_CACHE_ON] = "on", [CONFIG_CACHE_OFF] = "off", NULL};
static const char *const is_zero[] = {"0", NULL}, *const is_one[] = {"1", NULL};
static const char *const is_null[] = {"null", NULL};

#define AT(member) offsetof(struct config, member)
#define ROUTER (CONFIG_MODEL | CONFIG_LAYER | CONFIG_OWN)
#define MOST_U32 4294967295.0
#define MOST_EXACT 9007199254740992.0 // 2^53: JSON numbers are doubles

const struct config_field config_fields[] = {
    // key, alias, kind, flags, offset, least, most, names
    {"model_type", NULL, CONFIG_CHOICE, CONFIG_NEEDED | CONFIG_MODEL, AT(family),
     .names = family_names},
    {"vocab_size", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL, AT(vocab_size), 1, 1 << 24},
    {"hidden_size", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL, AT(hidden_size), 1, 1 << 18},
    {"intermediate_size", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL,
     AT(intermediate_size), 1, 1 << 20},
    {"moe_intermediate_size", NULL, CONFIG_U32, CONFIG_MODEL | CONFIG_NULLABLE,
     AT(moe_intermediate_size), 1, 1 << 20},
    {"num_hidden_layers", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL,
     AT(num_hidden_layers), 1, CONFIG_MAX_LAYERS},
    {"num_attention_heads", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL,
     AT(num_attention_heads), 1, 1 << 16},
    {"num_key_value_heads", NULL, CONFIG_U32, CONFIG_NEEDED_HF | CONFIG_MODEL | CONFIG_NULLABLE,
     AT(num_key_value_heads), 1, 1 << 16},
    {"head_dim", NULL, CONFIG_U32, CONFIG_MODEL | CONFIG_NULLABLE, AT(head_dim), 2, 1 << 13},
    {"max_position_embeddings", NULL, CONFIG_U32, CONFIG_NEEDED | CONFIG_MODEL,
     AT(max_position_embeddings), 1, 1 << 24},
    {"sliding_window", NULL, CONFIG_U32, CONFIG_MODEL | CONFIG_NULLABLE,
     AT(sliding_window), 0, MOST_U32},
    {"num_experts", "num_local_experts", CONFIG_U32, CONFIG_NEEDED_HF | CONFIG_MODEL,
     AT(num_experts), 0, 1 << 20},
    {"shared_expert_intermediate_size", NULL, CONFIG_U32, CONFIG_MODEL | CONFIG_OWN,
     AT(shared_intermediate_size), 0, 1 << 20},
    {"shared_expert_gate", NULL, CONFIG_BOOL, CONFIG_MODEL | CONFIG_OWN, AT(shared_expert_gate)},
    {"num_experts_per_tok", NULL, CONFIG_U32, CONFIG_NEEDED_HF | CONFIG_MODEL | CONFIG_LAYER,
     AT(router.top_k), 0, 1 << 10},
    {"norm_topk_prob", NULL, CONFIG_BOOL, CONFIG_MODEL | CONFIG_LAYER,
     AT(router.norm_topk_prob)},
    {"decoder_sparse_step", NULL, CONFIG_SPECIAL, CONFIG_MODEL},
    {"mlp_only_layers", NULL, CONFIG_SPECIAL, CONFIG_MODEL},
    {"layers", NULL, CONFIG_SPECIAL, CONFIG_MODEL},
    {"tie_word_embeddings", NULL, CONFIG_BOOL, CONFIG_MODEL, AT(tie_word_embeddings)},
    {"qk_norm", NULL, CONFIG_BOOL, CONFIG_MODEL, AT(qk_norm)},
    {"hidden_act", NULL, CONFIG_CHOICE, CONFIG_MODEL, AT(hidden_act), .names = act_names},
    {"mlp_gated", NULL, CONFIG_BOOL, CONFIG_MODEL, AT(mlp_gated)},
    {"rms_norm_eps", NULL, CONFIG_F64, CONFIG_MODEL, AT(rms_norm_eps), 1e-12, 0.1},
    {"rope_theta", NULL, CONFIG_F64, CONFIG_MODEL, AT(rope_theta), 1, 1e12},
    {"router_temperature", NULL, CONFIG_F64, CONFIG_MODEL | CONFIG_LAYER,
     AT(router.temperature), 1e-3, 1e3},
    {"router_aux_loss_coef", NULL, CONFIG_F64, CONFIG_MODEL | CONFIG_LAYER,
     AT(router.balance_coef), 0, 1e3},
    {"router_z_loss_coef", NULL, CONFIG_F64, CONFIG_MODEL | CONFIG_LAYER,
     AT(router.z_coef), 0, 1e3},
    {"router_type", NULL, CONFIG_CHOICE, ROUTER, AT(router.type), .names = router_names},
    {"router_body", NULL, CONFIG_CHOICE, ROUTER, AT(router.body), .names = body_names},
    {"router_hidden_size", NULL, CONFIG_U32, ROUTER, AT(router.hidden_size), 0, 1 << 18},
    {"scoring_func", NULL, CONFIG_CHOICE, ROUTER, AT(router.sigmoid), .names = scoring_names},
    {"min_experts_per_tok", NULL, CONFIG_U32, ROUTER, AT(router.min_k), 0, 1 << 10},
    {"router_threshold", NULL, CONFIG_F64, ROUTER, AT(router.threshold), 0, 1},
    {"router_top_p", NULL, CONFIG_F64, ROUTER, AT(router.top_p), 1e-6, 1},
    {"n_group", NULL, CONFIG_U32, ROUTER, AT(router.n_group), 1, CONFIG_MAX_GROUPS},
    {"topk_group", NULL, CONFIG_U32, ROUTER, AT(router.topk_group), 1, CONFIG_MAX_GROUPS},
    {"n_domains", NULL, CONFIG_U32, ROUTER, AT(router.n_domains), 0, 1 << 16},
    {"domains_per_tok", NULL, CONFIG_U32, ROUTER, AT(router.domains_per_tok), 0, 1 << 10},
    {"routed_scaling_factor", NULL, CONFIG_F64, ROUTER, AT(router.scaling_factor), 1e-3, 1e3},
    {"router_bias_update_speed", NULL, CONFIG_F64, ROUTER, AT(router.bias_speed), 0, 1},
    {"router_learn_temperature", NULL, CONFIG_BOOL, ROUTER, AT(router.learn_temperature)},
    {"router_jitter_noise", NULL, CONFIG_F64, ROUTER, AT(router.jitter), 0, 0.99},
    {"capacity_factor", NULL, CONFIG_F64, ROUTER, AT(router.capacity_factor), 0, 1e6},
    {"router_aux_loss_hf_coef", NULL, CONFIG_F64, ROUTER, AT(router.pooled_coef), 0, 1e3},
    {"router_aux_loss_global", NULL, CONFIG_BOOL, ROUTER, AT(router.balance_global)},
    {"router_entropy_coef", NULL, CONFIG_F64, ROUTER, AT(router.entropy_coef), -1e3, 1e3},
    {"router_mean_entropy_coef", NULL, CONFIG_F64, ROUTER, AT(router.mean_entropy_coef), -1e3,
     1e3},
    {"router_variance_coef", NULL, CONFIG_F64, ROUTER, AT(router.variance_coef), 0, 1e3},
    {"router_importance_coef", NULL, CONFIG_F64, ROUTER, AT(router.importance_coef), 0, 1e3},
    {"router_z_square_coef", NULL, CONFIG_F64, ROUTER, AT(router.z_square_coef), 0, 1e3},
    {"router_loss_layers", NULL, CONFIG_CHOICE, ROUTER, AT(router.loss_layers),
     .names = loss_layer_names},
    {"norm", NULL, CONFIG_CHOICE, CONFIG_STACK, AT(norm), .names = norm_names},
    {"norm_weight", NULL, CONFIG_BOOL, CONFIG_STACK, AT(norm_weight)},
    {"qk_gain", NULL, CONFIG_F64, CONFIG_STACK | CONFIG_NULLABLE, AT(qk_gain), 0, 100},
    {"rope_inverse", NULL, CONFIG_BOOL, CONFIG_STACK, AT(rope_inverse)},
    {"embedding_norm", NULL, CONFIG_BOOL, CONFIG_STACK, AT(embedding_norm)},
    {"smear_gate", NULL, CONFIG_BOOL, CONFIG_STACK, AT(smear_gate)},
    {"bigram_hash_size", NULL, CONFIG_U32, CONFIG_STACK, AT(bigram_hash_size), 0, 1 << 24},
    {"trigram_hash_size", NULL, CONFIG_U32, CONFIG_STACK, AT(trigram_hash_size), 0, 1 << 24},
    {"hash_dim", NULL, CONFIG_U32, CONFIG_STACK, AT(hash_dim), 1, 1 << 16},
    {"unet_skips", NULL, CONFIG_BOOL, CONFIG_STACK, AT(unet_skips)},
    {"residual_mix", NULL, CONFIG_BOOL, CONFIG_STACK, AT(residual_mix)},
    {"channel_scales", NULL, CONFIG_BOOL, CONFIG_STACK, AT(channel_scales)},
    {"logit_softcap", NULL, CONFIG_F64, CONFIG_STACK | CONFIG_NULLABLE, AT(logit_softcap), 0,
     1e4},
    {"layer_repeats", NULL, CONFIG_SPECIAL, CONFIG_MODEL},
    {"positions", NULL, CONFIG_CHOICE, CONFIG_STACK, AT(positions), .names = position_names},
    {"causal", NULL, CONFIG_BOOL, CONFIG_STACK, AT(causal)},
    {"attention_bias", NULL, CONFIG_BOOL, CONFIG_MODEL, AT(attention_bias)},
    {"attention_out_proj", NULL, CONFIG_BOOL, CONFIG_STACK, AT(attention_out_proj)},
    {"mlp_bias", NULL, CONFIG_BOOL, CONFIG_STACK, AT(mlp_bias)},
    {"router_bias", NULL, CONFIG_BOOL, CONFIG_STACK, AT(router_bias)},
    {"lm_head_bias", NULL, CONFIG_BOOL, CONFIG_STACK, AT(lm_head_bias)},
    {"init", NULL, CONFIG_CHOICE, CONFIG_MODEL, AT(init), .names = init_names},
    {"initializer_range", NULL, CONFIG_F64, CONFIG_MODEL, AT(initializer_range), 0, 10},
    {"torch_dtype", "dtype", CONFIG_CHOICE, CONFIG_MODEL | CONFIG_NULLABLE, AT(torch_dtype),
     .names = dtype_names},
    {"bos_token_id", NULL, CONFIG_TOKEN, CONFIG_MODEL, AT(bos_token_id)},
    {"eos_token_id", NULL, CONFIG_TOKEN, CONFIG_MODEL, AT(eos_token_id)},
    {"pad_token_id", NULL, CONFIG_TOKEN, CONFIG_MODEL, AT(pad_token_id)},

    {"task", NULL, CONFIG_CHOICE, 0, AT(task), .names = task_names},
    {"document_boundaries", NULL, CONFIG_BOOL, 0, AT(document_boundaries)},
    {"seq_len", NULL, CONFIG_U32, 0, AT(seq_len), 1, 1 << 24},
    {"packing", NULL, CONFIG_CHOICE, 0, AT(packing), .names = packing_names},
    {"batch_size", NULL, CONFIG_U32, 0, AT(batch_size), 1, 1 << 20},
    {"gradient_accumulation_steps", NULL, CONFIG_U32, 0, AT(gradient_accumulation_steps), 1,
     1 << 20},
    {"steps", NULL, CONFIG_U32, 0, AT(steps), 1, 1e9},
    {"curriculum", NULL, CONFIG_CHOICE, 0, AT(curriculum), .names = curriculum_names},
    {"curriculum_epochs", NULL, CONFIG_U32, 0, AT(curriculum_epochs), 1, 1e6},
    {"curriculum_stop_loss", NULL, CONFIG_F64, 0, AT(curriculum_stop_loss), 0, 1e3},
    {"curriculum_domains", NULL, CONFIG_SPECIAL, 0},
    {"dopamine_novelty", NULL, CONFIG_F64, 0, AT(dopamine_novelty), 0, 1e3},
    {"dopamine_weakness", NULL, CONFIG_F64, 0, AT(dopamine_weakness), 0, 1e3},
    {"dopamine_improvement", NULL, CONFIG_F64, 0, AT(dopamine_improvement), 0, 1e3},
    {"dopamine_bonus", NULL, CONFIG_F64, 0, AT(dopamine_bonus), 0, 1e3},
    {"dopamine_power", NULL, CONFIG_F64, 0, AT(dopamine_power), 0, 1e3},
    {"fct_control", NULL, CONFIG_CHOICE, 0, AT(fct_control), .names = control_names},
    {"lr_decay_steps", NULL, CONFIG_U32, 0, AT(lr_decay_steps), 1, 1e9},
    {"warmup_steps", NULL, CONFIG_U32, 0, AT(warmup_steps), 0, 1e9},
    {"lr_scheduler_type", NULL, CONFIG_CHOICE, 0, AT(lr_scheduler_type), .names = schedule_names},
    {"decay_fraction", NULL, CONFIG_F64, 0, AT(decay_fraction), 0, 1},
    {"learning_rate", NULL, CONFIG_F64, 0, AT(learning_rate), 0, 10},
    {"min_learning_rate", NULL, CONFIG_F64, 0, AT(min_learning_rate), 0, 10},
    {"max_train_seconds", NULL, CONFIG_F64, 0, AT(max_train_seconds), 0, 1e9},
    {"warmdown_seconds", NULL, CONFIG_F64, 0, AT(warmdown_seconds), 0, 1e9},
    {"warmdown_steps", NULL, CONFIG_U32, 0, AT(warmdown_steps), 0, 1e9},
    {"adam_beta1", NULL, CONFIG_F64, 0, AT(adam_beta1), 0, 0.999999},
    {"adam_beta2", NULL, CONFIG_F64, 0, AT(adam_beta2), 0, 0.9999999},
    {"adam_epsilon", NULL, CONFIG_F64, 0, AT(adam_epsilon), 1e-20, 1},
    {"weight_decay", NULL, CONFIG_F64, 0, AT(weight_decay), 0, 10},
    {"max_grad_norm", NULL, CONFIG_F64, 0, AT(max_grad_norm), 0, 1e9},
    {"optim", NULL, CONFIG_CHOICE, 0, AT(optim), .names = optim_names},
    {"param_groups", NULL, CONFIG_SPECIAL, 0},
    {"muon_momentum", NULL, CONFIG_F64, 0, AT(muon_momentum), 0, 0.999999},
    {"muon_nesterov", NULL, CONFIG_BOOL, 0, AT(muon_nesterov)},
    {"sgd_momentum", NULL, CONFIG_F64, 0, AT(sgd_momentum), 0, 0.999999},
    {"sgd_nesterov", NULL, CONFIG_BOOL, 0, AT(sgd_nesterov)},
    {"expert_optimizer", NULL, CONFIG_CHOICE, 0, AT(expert_optimizer),
     .names = expert_optimizer_names},
    {"master_weights", NULL, CONFIG_BOOL, 0, AT(master_weights)},
    {"stochastic_rounding", NULL, CONFIG_BOOL, 0, AT(stochastic_rounding)},
    {"ema_decay", NULL, CONFIG_F64, 0, AT(ema_decay), 0, 0.9999999},
    {"ema_every", NULL, CONFIG_U32, 0, AT(ema_every), 1, 1e9},
    {"swa_every", NULL, CONFIG_U32, 0, AT(swa_every), 0, 1e9},
    {"average_start", NULL, CONFIG_F64, 0, AT(average_start), 1e-6, 1},
    {"embedding_weight_decay", NULL, CONFIG_BOOL, 0, AT(embedding_weight_decay)},
    {"loss_scale", NULL, CONFIG_F64, 0, AT(loss_scale), 1e-6, 1e9},
    {"save_every", NULL, CONFIG_U32, 0, AT(save_every), 0, 1e9},
    {"eval_every", NULL, CONFIG_U32, 0, AT(eval_every), 0, 1e9},
    {"eval_batches", NULL, CONFIG_U32, 0, AT(eval_batches), 0, 1e9},
    {"final_eval_batches", NULL, CONFIG_U32, 0, AT(final_eval_batches), 0, 1e9},
    {"save_total_limit", NULL, CONFIG_U32, 0, AT(save_total_limit), 0, 1e9},
    {"trace_mib", NULL, CONFIG_U32, 0, AT(trace_mib), 0, 1 << 20},
    {"trace_tokens", NULL, CONFIG_U32, 0, AT(trace_tokens), 0, 1 << 20},
    {"alarm_steps", NULL, CONFIG_U32, 0, AT(alarm_steps), 0, 1e9},
    {"alarm_share", NULL, CONFIG_F64, 0, AT(alarm_share), 0, 1},
    {"alarm_entropy", NULL, CONFIG_F64, 0, AT(alarm_entropy), 0, 1},
    {"held_out_fraction", NULL, CONFIG_F64, 0, AT(held_out_fraction), 0, 0.9},
    {"min_bytes", NULL, CONFIG_U64, 0, AT(corpus.min_bytes), 0, MOST_EXACT},
    {"max_bytes", NULL, CONFIG_U64, 0, AT(corpus.max_bytes), 0, MOST_EXACT},
    {"min_words", NULL, CONFIG_U32, 0, AT(corpus.min_words), 0, MOST_U32},
    {"min_unique_words", NULL, CONFIG_U32, 0, AT(corpus.min_unique_words), 0, MOST_U32},
    {"min_letters", NULL, CONFIG_F64, 0, AT(corpus.min_letters), 0, 1},
    {"max_repeated_lines", NULL, CONFIG_F64, 0, AT(corpus.max_repeated_lines), 0, 1},
    {"dedup", NULL, CONFIG_CHOICE, 0, AT(corpus.dedup), .names = dedup_names},
    {"dedup_threshold", NULL, CONFIG_F64, 0, AT(corpus.dedup_threshold), 0.3, 1},
    {"token_cache", NULL, CONFIG_CHOICE, 0, AT(corpus.token_cache), .names = token_cache_names},
    {"data_memory_mib", NULL, CONFIG_U32, 0, AT(corpus.data_memory_mib), 1, 1 << 24},
    {"seed", NULL, CONFIG_U64, 0, AT(seed), 0, MOST_EXACT},

    // Hugging Face's, resolved in config.c
    {"use_sliding_window", NULL, CONFIG_SPECIAL, 0},
    {"rope_parameters", NULL, CONFIG_SPECIAL, 0},
    {"rope_scaling", NULL, CONFIG_SPECIAL, 0},
    // Hugging Face's, of no effect on the mathematics here
    {"architectures", NULL, CONFIG_NEUTRAL}, {"transformers_version", NULL, CONFIG_NEUTRAL},
    {"use_cache", NULL, CONFIG_NEUTRAL}, {"output_router_logits", NULL, CONFIG_NEUTRAL},
    {"max_window_layers", NULL, CONFIG_NEUTRAL}, // Qwen3-MoE's model never reads it
    {"_name_or_path", NULL, CONFIG_NEUTRAL}, {"output_attentions", NULL, CONFIG_NEUTRAL},
    {"output_hidden_states", NULL, CONFIG_NEUTRAL}, {"return_dict", NULL, CONFIG_NEUTRAL},
    {"use_return_dict", NULL, CONFIG_NEUTRAL}, {"pretraining_tp", NULL, CONFIG_NEUTRAL},
    {"attn_implementation", NULL, CONFIG_NEUTRAL}, {"_attn_implementation", NULL, CONFIG_NEUTRAL},
    {"_attn_implementation_autoset", NULL, CONFIG_NEUTRAL}, {"id2label", NULL, CONFIG_NEUTRAL},
    {"label2id", NULL, CONFIG_NEUTRAL}, {"auto_map", NULL, CONFIG_NEUTRAL},
    // Hugging Face's, supported at one value only
    {"attention_dropout", NULL, CONFIG_FIXED, .names = is_zero},
    {"partial_rotary_factor", NULL, CONFIG_FIXED, .names = is_one},
    {"quantization_config", NULL, CONFIG_FIXED, .names = is_null},
    {"num_shared_experts", NULL, CONFIG_FIXED, .names = is_zero},
    {"n_shared_experts", NULL, CONFIG_FIXED, .names = is_zero},
};
const int config_field_count = COUNT_OF(config_fields);

// 0 in a member that config.c resolves means: follows from the others.
const struct config config_defaults = {
    .family = CONFIG_VKMOE, .vocab_size = 260, .hidden_size = 96, .intermediate_size = 128,
    .num_hidden_layers = 4, .num_attention_heads = 3, .max_position_embeddings = 256,
    .rope_theta = 10000,
    .router = {.temperature = 1, .balance_coef = 0.01, .threshold = 0.05, .top_p = 0.9,
               .n_group = 1, .topk_group = 1, .scaling_factor = 1, .bias_speed = 1e-3},
    .mlp_gated = true, .init = CONFIG_INIT_NORMAL, .initializer_range = 0.02,
    .torch_dtype = DTYPE_F32,
    .norm_weight = true, .hash_dim = 128, .causal = true, .attention_out_proj = true,
    .bos_token_id = -1, .eos_token_id = -1, .pad_token_id = -1,
    .batch_size = 8, .gradient_accumulation_steps = 1, .steps = 1000,
    .curriculum_epochs = 3, .curriculum_stop_loss = 0.35, .dopamine_novelty = 1,
    .dopamine_weakness = 1, .dopamine_improvement = 1, .dopamine_bonus = 1, .dopamine_power = 1,
    .lr_scheduler_type = CONFIG_COSINE, .decay_fraction = 0.2, .learning_rate = 3e-4,
    .adam_beta1 = 0.9, .adam_beta2 = 0.95, .adam_epsilon = 1e-8, .weight_decay = 0.1,
    .muon_momentum = 0.95, .muon_nesterov = true, .sgd_momentum = 0.9,
    .max_grad_norm = 1, .master_weights = true, .stochastic_rounding = true, .ema_every = 1,
    .average_start = 1, .embedding_weight_decay = true,
    .save_every = 500, .eval_every = 250,
    .eval_batches = 16, .save_total_limit = 1, .trace_mib = 64, .trace_tokens = 128,
    .alarm_steps = 20, .alarm_share = 0.95, .alarm_entropy = 0.15,
    .held_out_fraction = 0.1, .seed = 42,
    .corpus = {.max_repeated_lines = 1, .dedup_threshold = 0.8, .data_memory_mib = 1024},
};

int config_field_find(const char *key)
{
    for (int i = 0; i < config_field_count; i++) {
        const struct config_field *field = &config_fields[i];
        const bool alias = field->alias && strcmp(key, field->alias) == 0;
        if (alias || strcmp(key, field->key) == 0) return i;
    }
    return -1;
}

const char *config_field_key(const struct config_field *field, enum config_family family)
{
    const bool experts = field->offset == AT(num_experts) && field->kind == CONFIG_U32;
    return experts && family == CONFIG_MIXTRAL ? field->alias : field->key;
}

size_t config_field_bytes(const struct config_field *field)
{
    if (field->kind == CONFIG_BOOL) return sizeof(bool);
    const bool wide = field->kind == CONFIG_F64 || field->kind == CONFIG_U64;
    return wide ? sizeof(double) : sizeof(uint32_t);
}
