// SPDX-License-Identifier: MIT
// config.h: what transformers writes is read and what we print is read back, every rule refuses in
// one line that names the key, and the four assets are what their sources say.
#include "tests/unit_config.h"

// as MixtralForCausalLM and Qwen3MoeForCausalLM of transformers 4.57.6 and 5.23.0 save it
static const char mixtral_4[] =
    "{\"architectures\": [\"MixtralForCausalLM\"], \"attention_dropout\": 0.0, \"bos_token_id\": "
    "1, \"dtype\": \"float32\","
    "\"eos_token_id\": 2, \"head_dim\": 8, \"hidden_act\": \"silu\", \"hidden_size\": 32, "
    "\"initializer_range\": 0.02,"
    "\"intermediate_size\": 48, \"max_position_embeddings\": 64, \"model_type\": \"mixtral\", "
    "\"num_attention_heads\": 4,"
    "\"num_experts_per_tok\": 2, \"num_hidden_layers\": 2, \"num_key_value_heads\": 2, "
    "\"num_local_experts\": 4,"
    "\"output_router_logits\": false, \"rms_norm_eps\": 1e-05, \"rope_theta\": 1000000.0, "
    "\"router_aux_loss_coef\": 0.001,"
    "\"router_jitter_noise\": 0.0, \"sliding_window\": null, \"tie_word_embeddings\": false,"
    "\"transformers_version\": \"4.57.6\", \"use_cache\": true, \"vocab_size\": 260}";
static const char mixtral_5[] =
    "{\"architectures\": [\"MixtralForCausalLM\"], \"attention_dropout\": 0.0, \"bos_token_id\": "
    "1, \"dtype\": \"bfloat16\","
    "\"eos_token_id\": [2, 3], \"head_dim\": null, \"hidden_act\": \"silu\", \"hidden_size\": 32, "
    "\"initializer_range\": 0.02,"
    "\"intermediate_size\": 48, \"max_position_embeddings\": 64, \"model_type\": \"mixtral\", "
    "\"num_attention_heads\": 4,"
    "\"num_experts_per_tok\": 2, \"num_hidden_layers\": 2, \"num_key_value_heads\": 2, "
    "\"num_local_experts\": 4,"
    "\"output_router_logits\": false, \"pad_token_id\": null, \"rms_norm_eps\": 1e-05, "
    "\"rope_parameters\":"
    "{\"rope_theta\": 500000.0, \"rope_type\": \"default\"}, \"router_aux_loss_coef\": 0.001, "
    "\"router_jitter_noise\": 0.0,"
    "\"sliding_window\": 16, \"tie_word_embeddings\": false, \"transformers_version\": \"5.23.0\", "
    "\"use_cache\": true,"
    "\"vocab_size\": 260}";
#define QWEN_COMMON                                                                                \
    "\"architectures\": [\"Qwen3MoeForCausalLM\"], \"attention_bias\": false, "                    \
    "\"attention_dropout\": 0.0,"                                                                  \
    "\"decoder_sparse_step\": 1, \"head_dim\": 16, \"hidden_act\": \"silu\", \"hidden_size\": 32," \
    "\"initializer_range\": 0.02, \"intermediate_size\": 48, \"max_position_embeddings\": 64, "    \
    "\"model_type\": \"qwen3_moe\","                                                               \
    "\"moe_intermediate_size\": 24, \"norm_topk_prob\": true, \"num_attention_heads\": 4, "        \
    "\"num_experts_per_tok\": 2,"                                                                  \
    "\"num_hidden_layers\": 3, \"num_key_value_heads\": 2, \"output_router_logits\": false, "      \
    "\"rms_norm_eps\": 1e-06,"                                                                     \
    "\"router_aux_loss_coef\": 0.001, \"tie_word_embeddings\": true, \"use_cache\": true, "        \
    "\"vocab_size\": 260,"
static const char qwen_4[] =
    "{" QWEN_COMMON "\"mlp_only_layers\": [], \"num_experts\": 4, \"rope_scaling\": null,"
    "\"rope_theta\": 10000.0, \"sliding_window\": 4096, \"use_sliding_window\": false, "
    "\"max_window_layers\": 28,"
    "\"torch_dtype\": \"float16\"}";
static const char qwen_5[] =
    "{" QWEN_COMMON "\"mlp_only_layers\": [0], \"num_local_experts\": 4, \"bos_token_id\": null,"
    "\"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"}, "
    "\"sliding_window\": 8,"
    "\"use_sliding_window\": true, \"dtype\": \"float32\"}";

static const char *const configs[] = {mixtral_4, mixtral_5, qwen_4, qwen_5};

static struct config read_text(const char *json)
{
    struct config config;
    assert_true(config_parse(&config, "test.json", json, NULL, 0));
    unit_assert_silent();
    return config;
}

static struct config read_asset(const char *name)
{
    char path[4096];
    struct config config;
    snprintf(path, sizeof path, "%s/assets/%s", UNIT_SOURCE_ROOT, name);
    assert_true(config_read(&config, path, NULL, 0));
    unit_assert_silent();
    return config;
}

static void transformers_files_are_read(void **state)
{
    (void)state;
    const struct config a = read_text(mixtral_4), b = read_text(mixtral_5), c = read_text(qwen_4),
                        d = read_text(qwen_5);
    assert_int_equal(a.family, CONFIG_MIXTRAL);
    assert_int_equal(a.num_experts, 4);
    assert_int_equal(a.head_dim, 8);
    assert_int_equal(a.sliding_window, 0);
    assert_int_equal(a.moe_intermediate_size, 48);
    assert_int_equal(a.torch_dtype, DTYPE_F32);
    assert_true(a.router.norm_topk_prob && !a.qk_norm);
    assert_true(a.rope_theta == 1e6 && a.rms_norm_eps == 1e-5);
    assert_int_equal(config_moe_layers(&a), 2);
    assert_int_equal(b.head_dim, 8);
    assert_int_equal(b.sliding_window, 16);
    assert_int_equal(b.torch_dtype, DTYPE_BF16);
    assert_int_equal(b.eos_token_id, 2);
    assert_int_equal(b.pad_token_id, -1);
    assert_true(b.rope_theta == 5e5);
    assert_int_equal(c.family, CONFIG_QWEN3_MOE);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.sliding_window, 0); // not in use
    assert_int_equal(c.torch_dtype, DTYPE_F16);
    assert_true(c.qk_norm && c.tie_word_embeddings && c.rms_norm_eps == 1e-6 &&
                c.loss_scale == 1024);
    assert_int_equal(config_moe_layers(&c), 3);
    assert_int_equal(d.num_experts, 4);
    assert_int_equal(d.sliding_window, 8);
    assert_true(!d.moe_layer[0] && d.moe_layer[1] && d.moe_layer[2]);
}

static void what_is_printed_reads_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        struct config config = read_text(configs[i]);
        assert_round_trip(&config);
        config.seed = 9007199254740991u; // nothing is lost on the way
        config.learning_rate = 0.1 + 0.2;
        config.warmup_steps = 7;
        config.sliding_window = 0;
        assert_round_trip(&config);
        char *text = config_print(&config);
        assert_non_null(strstr(text, config.family == CONFIG_MIXTRAL ? "\"num_local_experts\": 4"
                                                                     : "\"num_experts\": 4"));
        assert_non_null(strstr(text, config.family == CONFIG_MIXTRAL
                                         ? "[\"MixtralForCausalLM\"]"
                                         : "[\"Qwen3MoeForCausalLM\"]"));
        assert_non_null(strstr(text, "\"learning_rate\": 0.30000000000000004"));
        assert_non_null(strstr(text, "\"seed\": 9007199254740991"));
        assert_non_null(strstr(text, "\"rope_theta\": ")); // a float, for transformers checks types
        assert_null(strstr(text, "\"rope_theta\": 10000,"));
        free(text);
    }
}

static void settings_replace_what_the_file_says(void **state)
{
    (void)state;
    struct config config;
    const char *const set[] = {"num_experts=8",      "torch_dtype=bfloat16",
                               "learning_rate=1e-3", "lr_scheduler_type=linear",
                               "rope_theta=20000",   "head_dim=null",
                               "steps=77",           "sliding_window=0"};
    assert_true(config_parse(&config, "test.json", mixtral_5, set, COUNT_OF(set)));
    assert_int_equal(config.num_experts, 8); // the file calls it num_local_experts
    assert_int_equal(config.torch_dtype, DTYPE_BF16);
    assert_int_equal(config.lr_scheduler_type, CONFIG_LINEAR);
    assert_int_equal(config.steps, 77);
    assert_int_equal(config.lr_decay_steps, 77);
    assert_int_equal(config.warmup_steps, 7);
    assert_int_equal(config.sliding_window, 0);
    assert_true(config.learning_rate == 1e-3 && config.min_learning_rate == 0 &&
                config.rope_theta == 20000);
}

// Each changes mixtral_4 (m), qwen_4 (q) or the dense defaults (d), and is refused with both texts.
static const struct { char base; const char *set, *first, *second; } refused[] = {
    {'m', "hiden_size=3", "unknown key \"hiden_size\"", "\"hidden_size\""},
    {'m', "num_exprts_per_tok=3", "unknown key", "\"num_experts_per_tok\""},
    {'m', "hidden_size=\"32\"", "hidden_size: found \"32\"", "a whole number"},
    {'m', "hidden_size=32.5", "found 32.5", "a whole number"},
    {'m', "hidden_size=0", "hidden_size: found 0", "from 1"},
    {'m', "hidden_size=-32", "hidden_size: found -32", "from 1"},
    {'m', "hidden_size=null", "hidden_size: found null", "from 1"},
    {'m', "hidden_size=[32]", "hidden_size: found [32]", "a whole number"},
    {'m', "learning_rate=1e999", "learning_rate: found a number too large", "a number"},
    {'m', "expert_optimizer=lazy", "expert_optimizer: found \"lazy\"", "\"per-expert\""},
    {'m', "optim=adam", "optim: found \"adam\"",
     "\"adamw\" or \"muon\" or \"sgd\" or \"adamw_8bit\""},
    {'m', "master_weights=false", "master_weights: found false", "torch_dtype bfloat16"},
    {'m', "stochastic_rounding=false", "stochastic_rounding: found false", "master_weights"},
    {'m', "ema_decay=1", "ema_decay: found 1", "from 0"},
    {'m', "ema_every=3", "ema_decay: found nothing", "more than 0"},
    {'m', "average_start=0.4", "average_start: found 0.4", "ema_decay"},
    {'m', "curriculum=dopamin", "curriculum: found \"dopamin\"", "\"interleaved\""},
    {'m', "curriculum_domains=[]", "curriculum_domains: found []", "an object"},
    {'m', "curriculum_domains={\"a\":1}", "curriculum_domains", "an object for each"},
    {'m', "curriculum_domains={\"a\":{\"bonus\":2}}", "curriculum_domains", "0 to 1 of \"a\""},
    {'m', "curriculum_domains={\"\":{}}", "curriculum_domains", "1 to 63 bytes"},
    {'m', "curriculum_domains={\"a\":{}}", "curriculum_domains", "a curriculum beside it"},
    {'m', "param_groups=3", "param_groups: found 3", "a list"},
    {'m', "param_groups=[3]", "param_groups: found [3]", "objects"},
    {'m', "param_groups=[{\"optim\":\"sgd\"}]", "param_groups", "\"match\""},
    {'m', "param_groups=[{\"match\":\"*\",\"lr\":1}]", "param_groups", "not \"lr\""},
    {'m', "param_groups=[{\"match\":\"*\",\"optim\":\"lion\"}]", "optim", "\"muon\""},
    {'m', "param_groups=[{\"match\":\"*\",\"learning_rate\":-1}]", "param_groups", "from 0"},
    {'m', "param_groups=[{\"match\":\"*\",\"weight_decay\":11}]", "param_groups", "from 0"},
    {'m', "param_groups=[{\"match\":\"*\",\"betas\":[0.9]}]", "param_groups", "two numbers"},
    {'m', "param_groups=[{\"match\":\"*\",\"momentum\":1}]", "param_groups", "below 1"},
    {'m', "warmdown_seconds=5", "max_train_seconds: found nothing", "warmdown_seconds"},
    {'m', "warmdown_steps=5", "max_train_seconds", "constant_with_decay"},
    {'m', "learning_rate=fast", "learning_rate: found \"fast\"", "a number"},
    {'m', "vocab_size=4294967297", "vocab_size: found 4294967297", "16777216"},
    {'m', "vocab_size=0", "vocab_size: found 0", "from 1"},
    {'m', "num_hidden_layers=257", "num_hidden_layers: found 257", "256"},
    {'m', "num_local_experts=0", "num_local_experts: found 0", "at least 1"},
    {'q', "num_experts=0", "num_experts: found 0", "at least 1"},
    {'d', "num_experts_per_tok=2", "num_experts: found nothing", "at least num_experts_per_tok, 2"},
    {'m', "num_experts_per_tok=5", "num_experts_per_tok: found 5", "1 to 4"},
    {'m', "layers={\"0\": {\"num_experts_per_tok\": 1}}", "layers: found", "model_type mixtral"},
    {'m', "num_experts_per_tok=0", "num_experts_per_tok: found 0", "1 to 4"},
    {'m', "num_key_value_heads=3", "num_key_value_heads: found 3",
     "divisor of num_attention_heads, 4"},
    {'m', "num_key_value_heads=8", "num_key_value_heads: found 8",
     "divisor of num_attention_heads, 4"},
    {'m', "head_dim=7", "head_dim: found 7", "even"},
    {'d', "hidden_size=100", "num_attention_heads: found nothing", "divisor of hidden_size, 100"},
    {'m', "seq_len=65", "seq_len: found 65", "max_position_embeddings, 64"},
    {'m', "batch_size=1000000", "batch_size: found 1000000", "tokens a micro-batch"},
    {'m', "model_type=llama", "model_type: found \"llama\"", "\"mixtral\""},
    {'m', "norm_topk_prob=1", "norm_topk_prob: found 1", "true or false"},
    {'m', "norm_topk_prob=false", "norm_topk_prob: found false", "true for model_type mixtral"},
    {'m', "qk_norm=true", "qk_norm: found true", "false for model_type mixtral"},
    {'q', "qk_norm=false", "qk_norm: found false", "true for model_type qwen3_moe"},
    {'m', "router_temperature=2", "router_temperature: found 2", "1 for model_type mixtral"},
    {'m', "router_type=switch", "router_type: found \"switch\"", "model_type mixtral"},
    {'q', "router_entropy_coef=0.1", "router_entropy_coef: found 0.1", "model_type qwen3_moe"},
    {'m', "moe_intermediate_size=24", "moe_intermediate_size: found 24", "intermediate_size, 48"},
    {'q', "moe_intermediate_size=[8,9]", "moe_intermediate_size: found [8,9]",
     "one number for model_type qwen3_moe"},
    {'d', "moe_intermediate_size=[8,9]", "moe_intermediate_size: found [8,9]",
     "as many widths as divide num_experts, 0"},
    {'d', "moe_intermediate_size=[]", "moe_intermediate_size: found []", "at least one width"},
    {'d', "moe_intermediate_size=[8,0]", "moe_intermediate_size: found [8,0]",
     "a whole number from 1 to 1048576, or a list of up to 256"},
    {'d', "moe_intermediate_size=[8,\"x\"]", "moe_intermediate_size: found [8,\"x\"]", "a list"},
    {'m', "mlp_only_layers=[1]", "mlp_only_layers: found [1]", "MoE in every layer"},
    {'m', "decoder_sparse_step=2", "decoder_sparse_step: found 2", "MoE in every layer"},
    {'q', "decoder_sparse_step=0", "decoder_sparse_step: found 0", "from 1"},
    {'q', "decoder_sparse_step=4", "mlp_only_layers", "a layer left for the 4 experts"},
    {'q', "mlp_only_layers=[3]", "mlp_only_layers: found [3]", "from 0 to 2"},
    {'q', "mlp_only_layers=1", "mlp_only_layers: found 1", "an array"},
    {'q', "mlp_only_layers=[0,1,2]", "mlp_only_layers", "a layer left"},
    {'q', "use_sliding_window=1", "use_sliding_window: found 1", "true or false"},
    {'m', "hidden_act=relu", "hidden_act: found \"relu\"", "\"relu2\""},
    {'m', "hidden_act=3", "hidden_act: found 3", "\"gelu_pytorch_tanh\""},
    {'m', "mlp_gated=false", "mlp_gated: found false", "true for model_type mixtral"},
    {'q', "mlp_gated=false", "mlp_gated: found false", "true for model_type qwen3_moe"},
    {'m', "attention_dropout=0.1", "attention_dropout: found 0.1", "0"},
    {'m', "attention_bias=true", "attention_bias: found true", "false"},
    {'m', "router_jitter_noise=0.01", "router_jitter_noise: found 0.01", "0"},
    {'m', "rope_scaling={\"type\":\"linear\",\"factor\":2}",
     "rope_scaling: found {\"type\":\"linear\"", "scaled RoPE"},
    {'m', "rope_parameters={\"rope_type\":\"yarn\",\"rope_theta\":1e4}", "rope_parameters: found",
     "scaled RoPE"},
    {'m', "rope_parameters={\"rope_type\":\"default\",\"rope_theta\":1e4}",
     "rope_parameters: found", "the same rope_theta"},
    {'m', "rope_parameters=[]", "rope_parameters: found []", "an object"},
    {'m', "quantization_config={\"bits\":4}", "quantization_config: found {\"bits\":4}", "null"},
    {'q', "shared_expert_intermediate_size=64", "shared_expert_intermediate_size: found 64",
     "model_type vkmoe"},
    {'m', "torch_dtype=int8", "torch_dtype: found \"int8\"", "\"bfloat16\""},
    {'m', "init=zeros", "init: found \"zeros\"", "\"h64lm\""},
    {'m', "eos_token_id=260", "eos_token_id: found 260", "under vocab_size, 260"},
    {'m', "eos_token_id=two", "eos_token_id: found \"two\"", "a token id or null"},
    {'m', "warmup_steps=1001", "warmup_steps: found 1001", "lr_decay_steps, 1000"},
    {'m', "min_learning_rate=1", "min_learning_rate: found 1", "at most learning_rate"},
    {'m', "adam_beta2=1", "adam_beta2: found 1", "a number from 0"},
    {'m', "norm=none", "norm: found \"none\"", "model_type mixtral"},
    {'m', "norm=layer", "norm: found \"layer\"", "\"rms\" or \"none\""},
    {'q', "norm_weight=false", "norm_weight: found false", "model_type qwen3_moe"},
    {'q', "unet_skips=true", "unet_skips: found true", "model_type vkmoe"},
    {'q', "layer_repeats=[0,0,2]", "layer_repeats: found [0,0,2]", "null for model_type qwen3_moe"},
    {'d', "layer_repeats=[1,2]", "layer_repeats: found [1,2]", "[first layer, last layer, times"},
    {'d', "layer_repeats=[2,1,2]", "layer_repeats: found [2,1,2]", "[first layer, last layer,"},
    {'d', "layer_repeats=[1,2,3]", "layer_repeats: found [1,2,3]", "by num_hidden_layers, 4"},
    {'d', "causal=false", "causal: found false", "true for task \"next_token\""},
    {'d', "task=sort", "task: found \"sort\"", "\"copy\""},
    {'d', "qk_gain=1.5", "qk_gain: found 1.5", "qk_norm true and norm_weight false"},
    {'d', "qk_gain=-1", "qk_gain: found -1", "from 0 to 100"},
    {'d', "mlp_bias=true", "mlp_bias: found true", "false where mlp_gated is true"},
    {'d', "bigram_hash_size=1", "bigram_hash_size: found 1", "0 or at least 2"},
    {'d', "trigram_hash_size=1", "trigram_hash_size: found 1", "0 or at least 2"},
    {'d', "positions=alibi", "positions: found \"alibi\"", "\"rope\" or \"none\""},
    {'d', "logit_softcap=-1", "logit_softcap: found -1", "from 0"},
    {'m', "steps=0", "steps: found 0", "from 1"},
    {'m', "seed=-1", "seed: found -1", "from 0"},
    {'m', "seed=1e17", "seed: found 1e+17", "9007199254740992"},
    {'m', "alarm_share=1.5", "alarm_share: found 1.5", "1"},
    {'m', "alarm_entropy=-1", "alarm_entropy: found -1", "0"},
    {'m', "alarm_steps=0.5", "alarm_steps: found 0.5", "whole"},
    {'m', "trace_tokens=-1", "trace_tokens: found -1", "whole"},
    {'m', "trace_mib=2000000", "trace_mib: found 2000000", "1048576"},
    {'m', "save_total_limit=null", "save_total_limit: found null", "whole"},
    {'m', "held_out_fraction=1", "held_out_fraction: found 1", "0.9"},
    {'m', "steps", "--set steps", "key=value"},
    {'m', "=3", "--set =3", "key=value"},
};

static void each_rule_refuses_in_one_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct config config;
        const char *base = refused[i].base == 'm' ? mixtral_4 : qwen_4;
        const bool ok = refused[i].base == 'd'
                            ? config_read(&config, NULL, &refused[i].set, 1)
                            : config_parse(&config, "test.json", base, &refused[i].set, 1);
        if (ok) fail_msg("--set %s was taken", refused[i].set);
        unit_assert_line(refused[i].first, refused[i].second);
    }
    static const struct { const char *set[3], *first, *second; } pairs[] = {
        {{"min_bytes=9", "max_bytes=8"}, "max_bytes: found 8", "at least min_bytes, 9"},
        {{"layer_repeats=[0,1,2]", "unet_skips=true"}, "layer_repeats: found [0,1,2]",
         "null where unet_skips is true"},
        {{"norm=none", "qk_norm=true"}, "qk_norm: found true", "false where norm is \"none\""},
        {{"causal=false", "task=copy", "document_boundaries=true"},
         "document_boundaries: found true", "false where causal is false"},
        {{"attention_out_proj=false", "head_dim=16"}, "attention_out_proj: found false",
         "the heads have 48 columns and hidden_size is 96"},
        {{"torch_dtype=float16", "master_weights=false"}, "master_weights: found false",
         "torch_dtype bfloat16"},
        {{"master_weights=false", "torch_dtype=bfloat16", "optim=muon"},
         "master_weights: found false", "adamw or adamw_8bit"},
        {{"master_weights=false", "torch_dtype=bfloat16",
          "param_groups=[{\"match\": \"*\", \"optim\": \"sgd\"}]"},
         "master_weights: found false", "adamw or adamw_8bit"},
        {{"master_weights=false", "torch_dtype=bfloat16", "ema_decay=0.9"},
         "master_weights: found false", "ema_decay"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct config config;
        assert_false(config_read(&config, NULL, pairs[i].set, pairs[i].set[2] ? 3 : 2));
        unit_assert_line(pairs[i].first, pairs[i].second);
    }
    struct config config;
    const char *const window[] = {"causal=false", "task=copy", "sliding_window=8"};
    assert_false(config_read(&config, NULL, window, COUNT_OF(window)));
    unit_assert_line("sliding_window: found 8", "null where causal is false");
    // overflows 64 bits where it is multiplied out
    const char *const absurd[] = {"hidden_size=262144", "num_experts=1048576",
                                  "num_hidden_layers=256", "intermediate_size=1048576"};
    assert_false(config_parse(&config, "test.json", mixtral_4, absurd, COUNT_OF(absurd)));
    unit_assert_line("hidden_size 262144", "parameters, wanted at most");
}

static void broken_files_are_refused_in_one_line(void **state)
{
    (void)state;
    struct config config;
    static const struct { const char *json, *first, *second; } broken[] = {
        {"", "test.json", "not valid JSON"},
        {"[1]", "test.json", "one JSON object"},
        {"{\"hidden_size\": 32,\n \"vocab_size\" 260}", "not valid JSON", "line 2"},
        {"{\"hidden_size\": 32} x", "test.json", "not valid JSON"},
        {"{\"hidden_size\": 32, \"hidden_size\": 32}", "hidden_size", "only once"},
        {"{\"num_experts\": 4, \"num_local_experts\": 8}", "num_experts: found 4",
         "the same value as \"num_local_experts\""},
        {"{\"hidden_sise\": 32}", "config test.json: unknown key \"hidden_sise\"",
         "\"hidden_size\""},
        {"{\"model_type\": \"mixtral\"}", "vocab_size: found nothing", "the key in a mixtral file"},
        {"{\"hidden_size\": 32}", "model_type: found nothing", "the key"},
    };
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        assert_false(config_parse(&config, "test.json", broken[i].json, NULL, 0));
        unit_assert_line(broken[i].first, broken[i].second);
    }
    assert_false(config_read(&config, unit_path("none.json"), NULL, 0));
    unit_assert_line("none.json", "no such file");
    assert_false(config_read(&config, unit_folder, NULL, 0));
    unit_assert_line(unit_folder, "folder");
    assert_false(config_read(&config, unit_write_text("bad.json", "{\"steps\": true}"), NULL, 0));
    unit_assert_line("bad.json", "steps: found true");
}

static void assets_are_what_their_sources_say(void **state)
{
    (void)state;
    const struct config tiny = read_asset("tiny.json"), h64lm = read_asset("h64lm.json"),
                        dense = read_asset("shakespeare-dense.json"),
                        moe = read_asset("shakespeare-moe.json");
    assert_int_equal(tiny.family, CONFIG_MIXTRAL);
    assert_int_equal(tiny.num_experts, 8);
    assert_int_equal(tiny.router.top_k, 2);
    assert_int_equal(h64lm.vocab_size, 32000);
    assert_int_equal(config_moe_layers(&h64lm), 3);
    for (uint32_t i = 0; i < 6; i++) assert_int_equal(h64lm.moe_layer[i], i % 2);
    assert_true(h64lm.router.temperature == 2 && !h64lm.router.norm_topk_prob &&
                h64lm.init == CONFIG_INIT_H64LM);
    assert_true(h64lm.learning_rate == 3e-4 && h64lm.weight_decay == 0.01 &&
                h64lm.lr_scheduler_type == CONFIG_LINEAR);
    const struct config *const shakespeare[] = {&dense, &moe};
    for (size_t i = 0; i < COUNT_OF(shakespeare); i++) { // nanoGPT's CPU preset
        const struct config *c = shakespeare[i];
        assert_int_equal(c->num_hidden_layers, 4);
        assert_int_equal(c->num_attention_heads, 4);
        assert_int_equal(c->hidden_size, 128);
        assert_int_equal(c->seq_len, 64);
        assert_int_equal(c->batch_size, 12);
        assert_int_equal(c->steps, 2000);
        assert_int_equal(c->lr_decay_steps, 2000);
        assert_int_equal(c->warmup_steps, 100);
        assert_true(c->learning_rate == 1e-3 && c->min_learning_rate == 1e-4 &&
                    c->adam_beta2 == 0.99 && c->weight_decay == 0.1);
    }
    const struct config softmoe = read_asset("softmoe.json"), some = read_asset("some.json");
    assert_true(softmoe.unet_skips && softmoe.qk_gain == 1.5 && softmoe.logit_softcap == 30);
    assert_true(!some.causal && some.task == CONFIG_COPY && some.router_bias);
    const struct config arche3[] = {read_asset("arche3-small.json"), read_asset("arche3.json")};
    for (size_t i = 0; i < COUNT_OF(arche3); i++) {
        const struct config_router *hive = &arche3[i].layer_router[5];
        assert_true(config_moe_layers(&arche3[i]) == 1 && arche3[i].moe_layer[5]);
        assert_true(hive->n_domains == 8 && arche3[i].num_experts == 8 * 2560);
        assert_true(hive->min_k == 2 && hive->top_k == 4 && hive->body == CONFIG_BODY_COSINE &&
                    hive->learn_temperature && hive->jitter == 0.01);
        assert_round_trip(&arche3[i]);
    }
    assert_true(arche3[1].hidden_size == 2048 && arche3[1].vocab_size == 32000);
    assert_round_trip(&softmoe), assert_round_trip(&some);
    const char *const set[] = {"layer_repeats=[1,2,2]", "num_hidden_layers=6"};
    struct config repeats;
    assert_true(config_read(&repeats, NULL, set, COUNT_OF(set)));
    assert_true(config_layer_owner(&repeats, 0) == 0 && config_layer_owner(&repeats, 3) == 1 &&
                config_layer_owner(&repeats, 4) == 2 && config_layer_owner(&repeats, 5) == 5);
    assert_round_trip(&repeats);
    assert_int_equal(dense.num_experts, 0);
    assert_int_equal(moe.moe_intermediate_size * moe.router.top_k, dense.intermediate_size);
    assert_round_trip(&tiny), assert_round_trip(&h64lm), assert_round_trip(&dense),
        assert_round_trip(&moe);
    struct config defaults;
    assert_true(config_read(&defaults, NULL, NULL, 0));
    assert_round_trip(&defaults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(transformers_files_are_read),
        UNIT(what_is_printed_reads_back),
        UNIT(settings_replace_what_the_file_says),
        UNIT(each_rule_refuses_in_one_line),
        UNIT(broken_files_are_refused_in_one_line),
        UNIT(assets_are_what_their_sources_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
