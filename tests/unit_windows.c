// SPDX-License-Identifier: MIT
// What a plan may be built with and must not show: windows, where the embedding, head and gradients
// are larger than what one binding may cover, and split sums, where these were measured to be
// faster. A training step gives the loss and the gradients of one without, and the same bytes when
// it is run again.
#include "tests/unit.h"

#include "src/experts.h"
#include "src/trainer.h"

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 301, \"hidden_size\": 128, \"intermediate_size\": "
    "40, \"moe_intermediate_size\": 24,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
    "\"head_dim\": 16,"
    " \"max_position_embeddings\": 16, \"num_experts\": 4, \"num_experts_per_tok\": 2, "
    "\"mlp_only_layers\": [1], \"initializer_range\": 0.3,"
    " \"seq_len\": 8, \"batch_size\": 2, \"max_grad_norm\": 0, \"steps\": 1, \"seed\": 5}";

// Four domains of 64 experts: their signatures are windows of two domains where RANGE is the limit,
// and nothing else but the experts' slots is.
static const char domains_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 140, \"hidden_size\": 128, \"intermediate_size\": "
    "40, \"moe_intermediate_size\": 24,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
    "\"head_dim\": 16,"
    " \"max_position_embeddings\": 16, \"num_experts\": 256, \"num_experts_per_tok\": 2, "
    "\"router_type\": \"hierarchical\", \"n_domains\": 4, \"router_body\": \"%s\", "
    "\"router_bias\": %s, "
    "\"router_temperature\": 0.5, \"router_learn_temperature\": true, "
    "\"router_aux_loss_coef\": 0.1, "
    "\"mlp_only_layers\": [1], \"initializer_range\": 0.3, \"torch_dtype\": \"%s\", "
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

enum { WINDOWS = 1, SPLITS = 2, DOMAINS = 4, LINEAR = 8, HALF = 16, PARTS = 3 };

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

static void read_config(struct config *config, int how)
{
    char text[sizeof domains_text + 64];
    const bool linear = how & LINEAR;
    snprintf(text, sizeof text, domains_text, linear ? "linear" : "cosine",
             linear ? "true" : "false", how & HALF ? "bfloat16" : "float32");
    assert_true(config_parse(config, "config", how & DOMAINS ? text : config_text, NULL, 0));
}

static void make_trainer(struct step *s, int how)
{
    struct experts_params experts = {.slots = 2 * TOKENS};
    if (how & DOMAINS) experts_source_initial(&experts.source);
    s->trainer = how & DOMAINS
                     ? trainer_create_streamed(s->gpu, s->kernels, s->model, &experts)
                     : trainer_create(s->gpu, s->kernels, s->model);
    assert_non_null(s->trainer);
}

static void step_run(struct step *s, const char *device, int how)
{
    static uint32_t ids[TOKENS], targets[TOKENS];
    struct config config;
    struct trainer_result result;
    read_config(&config, how);
    for (uint32_t i = 0; i < TOKENS; i++) {
        ids[i] = (uint32_t)rng_below(11, 0, i, config.vocab_size);
        targets[i] = (uint32_t)rng_below(11, 1, i, config.vocab_size);
    }
    ids[1] = 127, ids[2] = 128, ids[3] = config.vocab_size - 1; // ends of windows
    s->gpu = gpu_create(&(struct gpu_params){.device = device, .cache_dir = ""});
    assert_non_null(s->gpu);
    if (how & WINDOWS) s->gpu->caps.max_range = RANGE;
    s->kernels = kernels_create(s->gpu);
    s->model = (how & DOMAINS ? model_create_streamed : model_create)(&config, 1 << 30);
    assert_non_null(s->model);
    make_trainer(s, how);
    if (how & SPLITS) {
        choose_splits(s);
        trainer_destroy(&s->trainer);
        make_trainer(s, how);
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

// Windows of domains: every row is of one domain, so nothing is summed in another order.
static void compare_domains(const char *device, int how)
{
    struct step whole, other;
    step_run(&whole, device, how);
    step_run(&other, device, how | WINDOWS);
    assert_int_equal(count_steps(&whole, KERNEL_ROW_PROJECT, KERNEL_ROW_INVERSE),
                     how & LINEAR ? 0 : 4);
    const uint32_t places = count_steps(&whole, KERNEL_MOE_PLACE, KERNEL_MOE_PLACE),
                   more = count_steps(&other, KERNEL_MOE_PLACE, KERNEL_MOE_PLACE);
    assert_true(more >= places + (how & HALF ? 2 : 6)); // and those of the slots
    assert_true(whole.loss == other.loss);
    for (uint32_t t = 0; t < whole.model->tensor_count; t++)
        if (!whole.model->tensor[t].streamed) assert_same_gradient(&whole, &other, t, 0);
    step_finish(&other);
    step_finish(&whole);
}

static void domains_change_nothing(void **state)
{
    compare_domains(*state, DOMAINS);
    compare_domains(*state, DOMAINS | LINEAR);
    compare_domains(*state, DOMAINS | HALF);
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
        cmocka_unit_test_prestate(domains_change_nothing, ref),
        cmocka_unit_test_prestate(domains_change_nothing, NULL),
        cmocka_unit_test_prestate(splits_change_nothing, ref),
        cmocka_unit_test_prestate(splits_change_nothing, NULL),
        cmocka_unit_test_prestate(both_change_nothing, NULL),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
