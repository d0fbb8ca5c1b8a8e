// SPDX-License-Identifier: MIT
// Experts that come and go (src/experts.h) against the same model on the device: the same bytes for
// any number of slots, in one window or in several, for all bodies and types; who is loaded, and
// how often.
#include "tests/unit.h"

#include "src/experts.h"
#include "src/session.h"

#define SIZES \
    "\"model_type\": \"vkmoe\", \"vocab_size\": 61, \"hidden_size\": 32, " \
    "\"intermediate_size\": 40, \"moe_intermediate_size\": 24, \"num_hidden_layers\": 3, " \
    "\"num_attention_heads\": 2, " \
    "\"num_key_value_heads\": 1, \"head_dim\": 16, \"max_position_embeddings\": 64, " \
    "\"num_experts\": 9, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [1], " \
    "\"initializer_range\": 0.3, \"seed\": 5"

enum { TOKENS = 40, VOCAB = 61, EXPERTS = 9, LAYERS = 2, SLOT_ELEMENTS = 3 * 24 * 32 };

struct host {
    struct gpu     *gpu;
    struct kernels *kernels;
    struct config   config;
    uint32_t        ids[TOKENS];
};

static void host_open(struct host *h, const char *device, const char *config)
{
    assert_true(config_parse(&h->config, "config", config, NULL, 0));
    h->gpu = gpu_create(&(struct gpu_params){.device = device, .cache_dir = ""});
    assert_non_null(h->gpu);
    h->kernels = kernels_create(h->gpu);
    for (uint32_t i = 0; i < TOKENS; i++) h->ids[i] = (uint32_t)rng_below(11, 0, i, VOCAB);
}

static void host_close(struct host *h)
{
    kernels_destroy(&h->kernels);
    gpu_destroy(&h->gpu);
}

static bool put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values)
{
    return params_write(user, PARAMS_MASTER, tensor, begin, count, values);
}

static void initialise(struct params *params)
{
    const struct model *model = params->model;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        float *values = malloc(tensor->count * sizeof *values);
        if (!tensor->streamed) {
            model_init_values(model, tensor, 0, tensor->count, values);
            assert_true(put(params, tensor, 0, tensor->count, values));
        }
        free(values);
    }
}

static float *logits_of(struct host *h, struct params *params)
{
    float *logits = calloc((size_t)TOKENS * VOCAB, sizeof *logits);
    assert_true(session_all_logits(h->gpu, h->kernels, params, h->ids, TOKENS, logits));
    return logits;
}

static float *resident(struct host *h)
{
    struct model *model = model_create(&h->config, 1 << 30);
    struct params *params = params_create(h->gpu, model, false);
    initialise(params);
    float *logits = logits_of(h, params);
    params_destroy(&params);
    model_destroy(&model);
    return logits;
}

// `window`: most slots of one; 0: any
static float *streamed(struct host *h, uint32_t slots, uint32_t window,
                       struct experts_counts *counts)
{
    struct experts_source source;
    const uint64_t range = h->gpu->caps.max_range;
    struct model *model = model_create_streamed(&h->config, 1 << 30);
    struct params *params = params_create(h->gpu, model, false);
    initialise(params);
    experts_source_initial(&source, model);
    if (window)
        h->gpu->caps.max_range =
            (uint64_t)window * SLOT_ELEMENTS / 3 * dtype_bytes(params->store);
    params->experts = experts_create(h->gpu, model, params->store, &source, slots);
    h->gpu->caps.max_range = range;
    assert_non_null(params->experts);
    if (window) assert_int_equal(params->experts->windows, ceil_div(slots, window));
    float *logits = logits_of(h, params);
    free(logits);
    logits = logits_of(h, params); // once more, with what is there
    *counts = params->experts->counts;
    params_destroy(&params);
    model_destroy(&model);
    return logits;
}

static void compare(const char *device, const char *config)
{
    static const uint32_t slots[] = {1, 2, 3, EXPERTS, LAYERS * EXPERTS};
    struct host h;
    host_open(&h, device, config);
    float *want = resident(&h);
    for (size_t i = 0; i < COUNT_OF(slots); i++)
        for (uint32_t window = 0; window <= slots[i]; window += 1 + window) {
            struct experts_counts counts;
            float *got = streamed(&h, slots[i], window, &counts);
            assert_memory_equal(got, want, sizeof *got * TOKENS * VOCAB);
            free(got);
            assert_true(counts.misses > 0);
        }
    free(want);
    host_close(&h);
}

static void test_bodies(void **state)
{
    static const char *const configs[] = {
        "{" SIZES "}",
        "{" SIZES ", \"torch_dtype\": \"bfloat16\"}",
        "{" SIZES ", \"torch_dtype\": \"float16\", \"hidden_act\": \"relu2\", "
        "\"mlp_gated\": false}",
        "{" SIZES ", \"hidden_act\": \"gelu\", \"mlp_gated\": false, \"mlp_bias\": true}",
        "{" SIZES ", \"router_type\": \"threshold\", \"router_threshold\": 0.1}",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        compare("ref", configs[i]);
        compare(NULL, configs[i]);
    }
}

// All that have rows are loaded once where there is a slot for each, and found the second time.
static void test_counts(void **state)
{
    struct host h;
    struct experts_counts all, one;
    (void)state;
    host_open(&h, "ref", "{" SIZES "}");
    free(streamed(&h, LAYERS * EXPERTS, 0, &all));
    free(streamed(&h, 1, 0, &one));
    assert_true(all.misses > LAYERS && all.misses <= LAYERS * EXPERTS);
    assert_int_equal(all.hits, all.misses); // the second pass
    assert_int_equal(all.bytes, all.misses * SLOT_ELEMENTS * 4);
    assert_int_equal(one.hits + one.misses, all.hits + all.misses);
    assert_true(one.misses > all.misses && one.turns >= one.misses);
    host_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
