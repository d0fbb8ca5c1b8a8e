// SPDX-License-Identifier: MIT
// Target-only loss in the real training step: what stands at places whose targets are not scored,
// and behind the last one that is, has a gradient of exactly zero. Two batches that differ in
// nothing but that give the same loss, the same bytes of every gradient, and (dense) of every
// weight.
//     unit_masks DEVICE
#include "tests/unit.h"

#include "src/trainer.h"

enum { SEQ = 24, BATCH = 3, TOKENS = SEQ * BATCH, VOCAB = 61, SCORED = 9 };

static const char *device;

// What a step leaves: gradients and weights of all tensors, one behind the other.
struct left { float *gradients, *weights; uint64_t count; double loss, norm; uint64_t targets; };

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 61, \"hidden_size\": 24,"
    "\"intermediate_size\": 40, \"moe_intermediate_size\": 12, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 3,"
    "\"num_key_value_heads\": 1, \"head_dim\": 8, \"max_position_embeddings\": 64, \"seq_len\": 24,"
    "\"batch_size\": 3, \"router_aux_loss_coef\": 0, \"qk_norm\": true,"
    "\"router_z_loss_coef\": 0, \"initializer_range\": 0.2, \"smear_gate\": true, \"steps\": 4}";

static void read_all(const struct model *model, struct params *params, enum params_class which,
                     float *to)
{
    for (uint32_t t = 0; t < model->tensor_count; to += model->tensor[t++].count)
        assert_true(params_read(params, which, &model->tensor[t], 0, model->tensor[t].count, to));
}

static struct left take_step(const char *experts, const struct batch *batch)
{
    const char *set[] = {experts, "num_experts_per_tok=2"};
    const int count = strcmp(experts, "num_experts=0") ? 2 : 1;
    struct config config;
    assert_true(config_parse(&config, "masks", config_text, set, count));
    struct model *model = model_create(&config, 1 << 30);
    struct gpu *gpu = gpu_create(&(struct gpu_params){.device = device});
    struct kernels *kernels = kernels_create(gpu);
    struct trainer *trainer = trainer_create(gpu, kernels, model);
    struct trainer_result result;
    struct left left = {0};
    assert_true(params_init(trainer_params(trainer)));
    assert_true(trainer_submit(trainer, 1, 0.01, batch) && trainer_collect(trainer, &result));
    for (uint32_t t = 0; t < model->tensor_count; t++) left.count += model->tensor[t].count;
    left.gradients = malloc(2 * left.count * sizeof(float));
    left.weights = left.gradients + left.count;
    left.loss = result.loss, left.norm = result.grad_norm, left.targets = result.targets;
    read_all(model, trainer_params(trainer), PARAMS_GRAD, left.gradients);
    read_all(model, trainer_params(trainer), PARAMS_MASTER, left.weights);
    trainer_destroy(&trainer);
    kernels_destroy(&kernels);
    gpu_destroy(&gpu);
    model_destroy(&model);
    return left;
}

// Sequence 0 is scored in places 3 to 7 and 10 to 13, the others not at all. Ids follow `seed`
// behind the last scored target, and everywhere in the others.
static void fill(uint64_t seed, uint32_t *ids, uint32_t *targets)
{
    for (uint32_t i = 0; i < TOKENS; i++) {
        const bool seen = i < SEQ && i <= 13, scored = seen && i >= 3 && i != 8 && i != 9;
        ids[i] = (uint32_t)rng_below(seen ? 1 : seed, 2, i, VOCAB);
        targets[i] = scored ? (uint32_t)rng_below(3, 4, i, VOCAB) : KERNEL_NONE_ID;
    }
}

static void compare(const char *experts, bool weights)
{
    uint32_t ids[3][TOKENS], targets[3][TOKENS];
    struct left left[3];
    for (int i = 0; i < 3; i++) {
        fill(10 + (uint64_t)i, ids[i], targets[i]);
        if (i == 2) targets[i][SEQ + 5] = 7; // one that is scored: the test can fail
        left[i] = take_step(experts, &(struct batch){ids[i], targets[i]});
    }
    const size_t bytes = left[0].count * sizeof(float);
    assert_int_equal(left[0].targets, SCORED);
    assert_true(left[0].norm > 1e-3);
    assert_true(left[0].loss == left[1].loss && left[0].norm == left[1].norm);
    assert_memory_equal(left[0].gradients, left[1].gradients, bytes);
    if (weights) assert_memory_equal(left[0].weights, left[1].weights, bytes);
    assert_true(memcmp(left[0].gradients, left[2].gradients, bytes) != 0);
    assert_true(left[2].loss != left[0].loss && left[2].targets == SCORED + 1);
    for (int i = 0; i < 3; i++) free(left[i].gradients);
}

static void masked_places_move_nothing_of_a_dense_model(void **state)
{
    (void)state;
    compare("num_experts=0", true);
}

// Which experts are touched follows from all tokens, and touched ones decay: gradients alone.
static void masked_places_have_no_gradient_in_experts(void **state)
{
    (void)state;
    compare("num_experts=4", false);
}

// The mean is over the scored targets: a batch of two copies of one sequence has the loss and the
// gradient of one, wherever the copy that is not scored stands.
static void the_mean_is_over_scored_targets(void **state)
{
    (void)state;
    uint32_t ids[TOKENS], targets[TOKENS];
    struct left left[2];
    for (int i = 0; i < 2; i++) {
        fill(10, ids, targets);
        for (uint32_t t = 0; i == 1 && t < SEQ; t++) {
            ids[SEQ + t] = ids[t];
            targets[SEQ + t] = targets[t];
        }
        left[i] = take_step("num_experts=0", &(struct batch){ids, targets});
    }
    assert_int_equal(left[1].targets, 2 * SCORED);
    unit_assert_near(left[1].loss, left[0].loss, 1e-6 * left[0].loss);
    unit_assert_near(left[1].norm, left[0].norm, 1e-5 * left[0].norm);
    for (int i = 0; i < 2; i++) free(left[i].gradients);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        UNIT(masked_places_move_nothing_of_a_dense_model),
        UNIT(masked_places_have_no_gradient_in_experts),
        UNIT(the_mean_is_over_scored_targets),
    };
    device = argc > 1 && strcmp(argv[1], "default") ? argv[1] : getenv("VKMOE_DEVICE");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
