// SPDX-License-Identifier: MIT
// What a plan may be built with and must not show: windows, where the embedding, head and gradients
// are larger than what one binding may cover, and split sums, where these were measured to be
// faster. A training step gives the loss and the gradients of one without, and the same bytes when
// it is run again.
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

enum { WINDOWS = 1, SPLITS = 2, PARTS = 3 };

static bool is_dense(enum kernel_op op)
{
    return op == KERNEL_MATMUL_NT || op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_NN ||
           op == KERNEL_MATMUL_TN;
}

// As if every dense product of the plan had been measured to be faster in parts.
static void choose_splits(struct step *s)
{
    uint32_t count, chosen = 0;
    const struct kernel_use *use = kernels_uses(s->kernels, &count);
    struct kernel_choice *choice = calloc(count, sizeof *choice);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_dense(use[i].op)) continue;
        const struct kernel_shape shape =
            kernels_shape(s->kernels, use[i].op, use[i].store, &use[i].size);
        choice[chosen++] =
            (struct kernel_choice){use[i].op, use[i].store, use[i].size, shape, PARTS, 1, 2};
    }
    assert_true(chosen > 0);
    kernels_choose(s->kernels, choice, chosen);
    free(choice);
}

static uint32_t count_steps(struct step *s, enum kernel_op a, enum kernel_op b)
{
    const struct plan *plan = trainer_plan(s->trainer, "train");
    uint32_t found = 0;
    assert_true(plan_verify(plan));
    for (uint32_t i = 0; i < plan->step_count; i++)
        found += plan->step[i].kind == PLAN_DISPATCH &&
                 (plan->step[i].op == a || plan->step[i].op == b);
    return found;
}

static void step_run(struct step *s, const char *device, int how)
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
    if (how & WINDOWS) s->gpu->caps.max_range = RANGE;
    s->kernels = kernels_create(s->gpu);
    s->model = model_create(&config, 1 << 30);
    s->trainer = trainer_create(s->gpu, s->kernels, s->model);
    assert_non_null(s->trainer);
    if (how & SPLITS) {
        choose_splits(s);
        trainer_destroy(&s->trainer);
        s->trainer = trainer_create(s->gpu, s->kernels, s->model);
        assert_non_null(s->trainer);
    }
    assert_true(!(how & SPLITS) ==
                !count_steps(s, KERNEL_MATMUL_SUM, KERNEL_MATMUL_SUMF));
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

// `allowed`: of the mean square error; 0: the same bytes.
static void assert_same_gradient(const struct step *a, const struct step *b, uint32_t t,
                                 double allowed)
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
    if (!(square > 0 && error <= allowed * square))
        fail_msg("%s: error %.3g of %.3g, allowed %.3g", tensor->name, error, square, allowed);
    free(x);
    free(y);
}

static void compare(const char *device, int how)
{
    // sums in another order; the device differs from `ref` by 4e-10
    const double allowed = how & SPLITS ? 2e-9 : 1e-10;
    struct step whole, other, again;
    step_run(&whole, device, 0);
    step_run(&other, device, how);
    step_run(&again, device, how);
    assert_true(fabs(whole.loss - other.loss) <= 1e-5);
    for (uint32_t t = 0; t < whole.model->tensor_count; t++) {
        assert_same_gradient(&whole, &other, t, allowed);
        assert_same_gradient(&other, &again, t, 0);
    }
    step_finish(&again);
    step_finish(&other);
    step_finish(&whole);
}

static void windows_change_nothing(void **state) { compare(*state, WINDOWS); }
static void splits_change_nothing(void **state) { compare(*state, SPLITS); }
static void both_change_nothing(void **state) { compare(*state, WINDOWS | SPLITS); }

int main(void)
{
    static char ref[] = "ref";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(windows_change_nothing, ref),
        cmocka_unit_test_prestate(windows_change_nothing, NULL),
        cmocka_unit_test_prestate(splits_change_nothing, ref),
        cmocka_unit_test_prestate(splits_change_nothing, NULL),
        cmocka_unit_test_prestate(both_change_nothing, NULL),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
