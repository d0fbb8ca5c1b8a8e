// SPDX-License-Identifier: MIT
// A model whose embedding, head and gradients are larger than what one binding may cover: its plan
// takes them in windows, and a training step gives the loss and the gradients of one without.
#include "tests/unit.h"

#include "src/trainer.h"

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 301, \"hidden_size\": 128, \"intermediate_size\": "
    "40, \"moe_intermediate_size\": 24,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
    "\"head_dim\": 16,"
    " \"max_position_embeddings\": 16, \"num_experts\": 4, \"num_experts_per_tok\": 2, "
    "\"mlp_only_layers\": [1], \"initializer_range\": 0.3,"
    " \"seq_len\": 8, \"batch_size\": 2, \"max_grad_norm\": 0, \"steps\": 1, \"seed\": 5}";

enum { TOKENS = 16, VOCAB = 301, HIDDEN = 128 };
enum { RANGE = 150 * HIDDEN * 4 }; // bytes: windows of 128, 128 and 45 rows

struct step {
    struct gpu     *gpu;
    struct kernels *kernels;
    struct model   *model;
    struct trainer *trainer;
    double          loss;
};

static void step_run(struct step *s, const char *device, bool windows)
{
    static uint32_t ids[TOKENS], targets[TOKENS];
    struct config config;
    struct trainer_result result;
    assert_true(config_parse(&config, "config", config_text, NULL, 0));
    for (uint32_t i = 0; i < TOKENS; i++) {
        ids[i] = (uint32_t)rng_below(11, 0, i, VOCAB);
        targets[i] = (uint32_t)rng_below(11, 1, i, VOCAB);
    }
    ids[1] = 127, ids[2] = 128, ids[3] = VOCAB - 1; // ends of windows
    s->gpu = gpu_create(&(struct gpu_params){.device = device, .cache_dir = ""});
    assert_non_null(s->gpu);
    if (windows) s->gpu->caps.max_range = RANGE;
    s->kernels = kernels_create(s->gpu);
    s->model = model_create(&config, 1 << 30);
    s->trainer = trainer_create(s->gpu, s->kernels, s->model);
    assert_non_null(s->trainer);
    assert_true(params_init(trainer_params(s->trainer)));
    assert_true(trainer_submit(s->trainer, 1, 0, &(struct batch){ids, targets}));
    assert_true(trainer_collect(s->trainer, &result));
    s->loss = result.loss;
}

static void step_finish(struct step *s)
{
    trainer_destroy(&s->trainer);
    model_destroy(&s->model);
    kernels_destroy(&s->kernels);
    gpu_destroy(&s->gpu);
}

static void assert_same_gradient(const struct step *a, const struct step *b, uint32_t t)
{
    const struct model_tensor *tensor = &a->model->tensor[t];
    float *x = malloc(tensor->count * sizeof *x), *y = malloc(tensor->count * sizeof *y);
    double square = 0, error = 0;
    assert_true(params_read(trainer_params(a->trainer), PARAMS_GRAD, tensor, 0, tensor->count, x));
    assert_true(params_read(trainer_params(b->trainer), PARAMS_GRAD, &b->model->tensor[t], 0,
                            tensor->count, y));
    for (uint64_t i = 0; i < tensor->count; i++) {
        square += (double)x[i] * x[i];
        error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    }
    assert_true(square > 0 && error <= 1e-10 * square);
    free(x);
    free(y);
}

static void windows_change_nothing(void **state)
{
    const char *device = *state;
    struct step whole, windows;
    step_run(&whole, device, false);
    step_run(&windows, device, true);
    assert_true(fabs(whole.loss - windows.loss) <= 1e-5);
    for (uint32_t t = 0; t < whole.model->tensor_count; t++)
        assert_same_gradient(&whole, &windows, t);
    step_finish(&windows);
    step_finish(&whole);
}

int main(void)
{
    static char ref[] = "ref";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(windows_change_nothing, ref),
        cmocka_unit_test_prestate(windows_change_nothing, NULL),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
