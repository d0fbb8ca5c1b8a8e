// SPDX-License-Identifier: MIT
// What an optimizer step does to the experts: those without a token in any micro-batch of the step
// stay as they are, bit by bit (per-expert, lazy-global), the others take their own number of
// steps; weight decay is applied; the state survives a file.
#include "tests/unit.h"

#include "src/codes.h"
#include "src/optimizer_state.h"
#include "src/trainer.h"

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 61, \"hidden_size\": 32,"
    " \"intermediate_size\": 40,"
    " \"moe_intermediate_size\": 20, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,"
    " \"num_key_value_heads\": 1, \"head_dim\": 8, \"max_position_embeddings\": 16,"
    " \"num_experts\": 20, \"num_experts_per_tok\": 1, \"initializer_range\": 0.3, \"seq_len\": 8,"
    " \"router_z_loss_coef\": 0.1, \"max_grad_norm\": 0,"
    " \"batch_size\": 1, \"gradient_accumulation_steps\": 2, \"steps\": 9, \"seed\": 5}";

enum { TOKENS = 8, VOCAB = 61, EXPERTS = 20, MICRO = 2, LAYERS = 2, STEPS = 4 };

struct side {
    struct config   config;
    struct model   *model;
    struct trainer *trainer;
    uint32_t        steps[LAYERS][EXPERTS]; // that each expert had a token
    bool            touched[LAYERS][EXPERTS]; // in the last one
    double          loss;
};

// Opened once, since a driver takes a second to make the kernels of a step: the device as it is,
// and one whose bindings are short.
enum { RANGE = 1 << 16 };
static struct device {
    struct gpu     *gpu;
    struct kernels *kernels;
} devices[2];

static int open_devices(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(devices); i++) {
        struct device *d = &devices[i];
        d->gpu = gpu_create(&(struct gpu_params){.device = getenv("VKMOE_DEVICE"),
                                                 .cache_dir = ""});
        if (!d->gpu) return -1;
        if (i == 1) d->gpu->caps.max_range = RANGE;
        d->kernels = kernels_create(d->gpu);
    }
    return 0;
}

static int close_devices(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(devices); i++) {
        kernels_destroy(&devices[i].kernels);
        gpu_destroy(&devices[i].gpu);
    }
    return 0;
}

static void open_side(struct side *s, bool short_bindings, const char *const *set, int set_count)
{
    memset(s, 0, sizeof *s);
    assert_true(config_parse(&s->config, "config", config_text, set, set_count));
    s->model = model_create(&s->config, 1 << 30);
    const struct device *d = &devices[short_bindings];
    s->trainer = trainer_create(d->gpu, d->kernels, s->model);
    assert_non_null(s->trainer);
    assert_true(params_init(trainer_params(s->trainer)));
}

static void close_side(struct side *s)
{
    trainer_destroy(&s->trainer);
    model_destroy(&s->model);
}

static void take_step(struct side *s, uint32_t step, double rate)
{
    static uint32_t ids[MICRO][TOKENS], targets[MICRO][TOKENS];
    struct batch batch[MICRO];
    struct trainer_result result;
    for (uint32_t i = 0; i < MICRO; i++) {
        for (uint32_t t = 0; t < TOKENS; t++) {
            ids[i][t] = (uint32_t)rng_below(11, 10 * step + i, t, VOCAB);
            targets[i][t] = (uint32_t)rng_below(12, 10 * step + i, t, VOCAB);
        }
        batch[i] = (struct batch){ids[i], targets[i]};
    }
    assert_true(trainer_submit(s->trainer, step, rate, batch));
    assert_true(trainer_collect(s->trainer, &result));
    assert_false(result.skipped);
    s->loss = result.loss;
    for (uint32_t l = 0; l < LAYERS; l++)
        for (uint32_t e = 0; e < EXPERTS; e++) {
            s->touched[l][e] = result.load[l][e] > 0; // summed over the micro-batches
            s->steps[l][e] += s->touched[l][e];
        }
}

// Numbers of an expert, or of a whole tensor that is no stack; 0: the class has none of it.
static uint64_t count_of(const struct side *s, enum params_class which,
                         const struct model_tensor *tensor)
{
    const uint32_t parts = max_u32(tensor->experts, 1);
    if (which == PARAMS_RECORDS)
        return model_records(s->model, tensor) / parts * CODES_WORDS;
    if ((which == PARAMS_V && !model_has_v(s->model, tensor)) ||
        (which == PARAMS_M && !model_has_m(s->model, tensor)))
        return 0;
    return tensor->count / parts;
}

static float *values_of(struct side *s, enum params_class which, const struct model_tensor *tensor)
{
    const uint64_t count = count_of(s, which, tensor) * max_u32(tensor->experts, 1);
    float *values = count ? malloc(count * sizeof *values) : NULL;
    if (which == PARAMS_RECORDS && count)
        assert_true(params_read_records(trainer_params(s->trainer), tensor, 0, count,
                                        (uint32_t *)(void *)values));
    if (which == PARAMS_RECORDS || !count) return values;
    assert_true(params_read(trainer_params(s->trainer), which, tensor, 0, tensor->count, values));
    return values;
}

// ---- which experts move

static const enum params_class state[] = {PARAMS_MASTER, PARAMS_M, PARAMS_V, PARAMS_COMPUTE,
                                          PARAMS_RECORDS};
enum { CLASSES = COUNT_OF(state) };

struct snapshot { float *values[64][CLASSES]; };

static void take_snapshot(struct side *s, struct snapshot *shot)
{
    for (uint32_t t = 0; t < s->model->tensor_count; t++)
        for (int c = 0; c < CLASSES; c++)
            shot->values[t][c] = values_of(s, state[c], &s->model->tensor[t]);
}

static void free_snapshot(struct side *s, struct snapshot *shot)
{
    for (uint32_t t = 0; t < s->model->tensor_count; t++)
        for (int c = 0; c < CLASSES; c++) free(shot->values[t][c]);
}

static bool expert_moved(const struct snapshot *a, const struct snapshot *b, uint32_t t, int which,
                         uint64_t count, uint32_t expert)
{
    return memcmp(a->values[t][which] + expert * count, b->values[t][which] + expert * count,
                  count * sizeof(float)) != 0;
}

// How many experts of the last step did not move.
static uint32_t compare_experts(struct side *s, const struct snapshot *a, const struct snapshot *b)
{
    uint32_t still = 0;
    for (uint32_t t = 0; t < s->model->tensor_count; t++) {
        const struct model_tensor *tensor = &s->model->tensor[t];
        for (uint32_t e = 0; e < tensor->experts; e++)
            for (int c = 0; c < CLASSES; c++) {
                if (!a->values[t][c]) continue;
                const bool moved = expert_moved(a, b, t, c, count_of(s, state[c], tensor), e);
                if (moved != s->touched[tensor->layer][e])
                    fail_msg("%s, expert %u, class %d: %s", tensor->name, e, (int)state[c],
                             moved ? "moved without a token" : "did not move");
                still += !moved && c == 0;
            }
    }
    return still;
}

static void compare_steps(struct side *s, bool own)
{
    uint32_t steps[EXPERTS];
    for (uint32_t l = 0; l < LAYERS; l++) {
        assert_true(params_read_steps(trainer_params(s->trainer), l, steps));
        for (uint32_t e = 0; e < EXPERTS; e++)
            assert_int_equal(steps[e], own ? s->steps[l][e] : 0);
    }
}

static void experts_case(const char *mode, const char *dtype, const char *optim,
                         const char *masters)
{
    char optimizer[80], store[80];
    snprintf(optimizer, sizeof optimizer, "expert_optimizer=%s", mode);
    snprintf(store, sizeof store, "torch_dtype=%s", dtype);
    const char *const set[] = {optimizer, store, optim, masters};
    struct side s;
    struct snapshot before, after;
    uint32_t still = 0;
    open_side(&s, false, set, masters ? 4 : 3);
    for (uint32_t step = 1; step <= STEPS; step++) {
        take_snapshot(&s, &before);
        take_step(&s, step, 0.05); // large: what moves is seen in 16 bits too
        take_snapshot(&s, &after);
        still += compare_experts(&s, &before, &after);
        free_snapshot(&s, &before);
        free_snapshot(&s, &after);
    }
    compare_steps(&s, strcmp(mode, "per-expert") == 0);
    assert_true(still > STEPS * LAYERS * EXPERTS / 5); // there was something to see
    close_side(&s);
}

static void experts_without_tokens_stay(void **unused)
{
    (void)unused;
    experts_case("per-expert", "float32", "optim=adamw", NULL);
    experts_case("per-expert", "bfloat16", "optim=adamw", NULL);
    experts_case("lazy-global", "float32", "optim=adamw", NULL);
    experts_case("per-expert", "float32", "optim=adamw_8bit", NULL);
    experts_case("per-expert", "bfloat16", "optim=adamw_8bit", NULL);
    experts_case("lazy-global", "float16", "optim=adamw_8bit", NULL);
    experts_case("per-expert", "bfloat16", "optim=muon", NULL);
    experts_case("per-expert", "float32", "optim=sgd", NULL);
    experts_case("per-expert", "bfloat16", "optim=adamw", "master_weights=false");
    experts_case("lazy-global", "bfloat16", "optim=adamw_8bit", "master_weights=false");
}

// torch.optim.AdamW on the stacked tensor: weight decay moves every expert.
static void dense_exact_case(const char *optim)
{
    struct side s;
    open_side(&s, false, (const char *const[]){"expert_optimizer=dense-exact", optim}, 2);
    assert_null(trainer_params(s.trainer)->moves);
    struct snapshot before, after;
    take_snapshot(&s, &before);
    take_step(&s, 1, 0.05);
    take_snapshot(&s, &after);
    const struct model_tensor *up = model_find(s.model, ROLE_EXPERT_UP, 1);
    for (uint32_t e = 0; e < EXPERTS; e++)
        assert_true(expert_moved(&before, &after, (uint32_t)(up - s.model->tensor), 0,
                                 up->count / EXPERTS, e));
    free_snapshot(&s, &before);
    free_snapshot(&s, &after);
    close_side(&s);
}

static void dense_exact_moves_all(void **unused)
{
    (void)unused;
    dense_exact_case("optim=adamw");
    dense_exact_case("optim=adamw_8bit");
}

// A stack goes in parts where no binding covers it: 16 experts at a time.
static void stacks_case(const char *optim, const char *mode, bool masters)
{
    struct side whole, parts;
    const char *const set[] = {optim, mode, "torch_dtype=bfloat16", "master_weights=false"};
    open_side(&whole, false, set, masters ? 2 : 4);
    open_side(&parts, true, set, masters ? 2 : 4);
    const struct plan *a = trainer_plan(whole.trainer, "update"),
                      *b = trainer_plan(parts.trainer, "update");
    assert_true(b->step_count > a->step_count && plan_verify(b));
    for (uint32_t step = 1; step <= 2; step++) {
        take_step(&whole, step, 0.05);
        take_step(&parts, step, 0.05);
    }
    for (uint32_t t = 0; t < whole.model->tensor_count; t++) {
        const struct model_tensor *tensor = &whole.model->tensor[t];
        float *x = values_of(&whole, PARAMS_MASTER, tensor),
              *y = values_of(&parts, PARAMS_MASTER, tensor);
        assert_memory_equal(x, y, tensor->count * sizeof *x);
        free(x), free(y);
    }
    close_side(&whole);
    close_side(&parts);
}

static void stacks_in_parts(void **unused)
{
    (void)unused;
    for (int masters = 0; masters < 2; masters++) { // without: the same random numbers
        stacks_case("optim=adamw", "expert_optimizer=per-expert", masters);
        stacks_case("optim=adamw", "expert_optimizer=dense-exact", masters);
        stacks_case("optim=adamw_8bit", "expert_optimizer=per-expert", masters);
        stacks_case("optim=adamw_8bit", "expert_optimizer=dense-exact", masters);
    }
}

// ---- the mean of the weights

static const double shares[STEPS + 1] = {0, 0, 1, 0.25, 0.002}; // of steps 1 to 4

// mean += share (weights - mean) on the host, in double
static void follow(struct side *s, double **mean, double share)
{
    for (uint32_t t = 0; t < s->model->tensor_count; t++) {
        float *values = values_of(s, PARAMS_MASTER, &s->model->tensor[t]);
        for (uint64_t i = 0; i < s->model->tensor[t].count; i++)
            mean[t][i] += share * ((double)values[i] - mean[t][i]);
        free(values);
    }
}

// Every weight's mean is exact, of experts without a token too: they count as they stay.
static void mean_case(const char *mode, const char *ema)
{
    struct side s;
    double *mean[64] = {0};
    open_side(&s, false, (const char *const[]){mode, ema, "torch_dtype=bfloat16"}, 3);
    for (uint32_t t = 0; t < s.model->tensor_count; t++)
        mean[t] = calloc(s.model->tensor[t].count, sizeof *mean[t]);
    for (uint32_t step = 1; step <= STEPS; step++) {
        trainer_average(s.trainer, shares[step]);
        take_step(&s, step, 0.05);
        follow(&s, mean, shares[step]);
    }
    double worst = 0;
    for (uint32_t t = 0; t < s.model->tensor_count; t++) {
        float *values = values_of(&s, PARAMS_AVERAGE, &s.model->tensor[t]);
        for (uint64_t i = 0; i < s.model->tensor[t].count; i++)
            worst = fmax(worst, fabs((double)values[i] - mean[t][i]));
        free(values);
    }
    unit_assert_near(worst, 0, 1e-6);
    assert_true(params_take_average(trainer_params(s.trainer)));
    for (uint32_t t = 0; t < s.model->tensor_count; t++) {
        float *a = values_of(&s, PARAMS_AVERAGE, &s.model->tensor[t]),
              *b = values_of(&s, PARAMS_MASTER, &s.model->tensor[t]),
              *c = values_of(&s, PARAMS_COMPUTE, &s.model->tensor[t]);
        assert_memory_equal(a, b, s.model->tensor[t].count * sizeof *a);
        for (uint64_t i = 0; i < s.model->tensor[t].count; i++)
            assert_true(c[i] == dtype_f32_from_bf16(dtype_bf16_from_f32(a[i])));
        free(a), free(b), free(c), free(mean[t]);
    }
    close_side(&s);
}

static void mean_of_the_weights(void **unused)
{
    (void)unused;
    mean_case("expert_optimizer=per-expert", "ema_decay=0.998");
    mean_case("expert_optimizer=dense-exact", "swa_every=2");
    struct side s;
    open_side(&s, false, NULL, 0);
    assert_null(trainer_params(s.trainer)->buffer[PARAMS_AVERAGE]); // no bytes where there is none
    close_side(&s);
}

// ---- weight decay

static double largest_difference(struct side *a, struct side *b, uint32_t t, double rate)
{
    const struct model_tensor *tensor = &a->model->tensor[t];
    float *x = values_of(a, PARAMS_MASTER, tensor),
          *y = values_of(b, PARAMS_MASTER, &b->model->tensor[t]); // which lies elsewhere
    float *initial = malloc(tensor->count * sizeof *initial);
    double worst = 0;
    model_init_values(a->model, tensor, 0, tensor->count, initial);
    const uint64_t count = tensor->count / max_u32(tensor->experts, 1);
    for (uint64_t i = 0; i < tensor->count; i++) {
        const bool stays = tensor->experts && !a->touched[tensor->layer][i / count];
        const double decayed = stays || !tensor->decay ? 0 : rate * 0.5 * (double)initial[i];
        worst = fmax(worst, fabs((double)y[i] - ((double)x[i] - decayed)));
    }
    free(x), free(y), free(initial);
    return worst;
}

// One step with and without: every element that moves differs by rate * weight_decay * p.
static void weight_decay_is_applied(void **unused)
{
    (void)unused;
    struct side without, with;
    open_side(&without, false, (const char *const[]){"weight_decay=0"}, 1);
    open_side(&with, false, (const char *const[]){"weight_decay=0.5"}, 1);
    take_step(&without, 1, 0.1);
    take_step(&with, 1, 0.1);
    for (uint32_t t = 0; t < with.model->tensor_count; t++)
        unit_assert_near(largest_difference(&without, &with, t, 0.1), 0, 1e-6);
    close_side(&without);
    close_side(&with);
}

// ---- groups

static void groups_keep_what_they_need(void **unused)
{
    (void)unused;
    struct config config;
    const char *const set[] = {"optim=muon", "param_groups=[{\"match\":\"*down_proj*\",\"optim\":"
                                             "\"sgd\"},{\"match\":\"*experts.#.up_proj*\","
                                             "\"optim\":\"adamw\",\"learning_rate\":6e-4}]"};
    assert_true(config_parse(&config, "config", config_text, set, 2));
    struct model *model = model_create(&config, 1 << 30);
    uint64_t second = 0;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        const struct model_group *group = &model->group[tensor->group];
        const bool down = tensor->role == ROLE_EXPERT_DOWN, up = tensor->role == ROLE_EXPERT_UP,
                   matrix = strstr(tensor->name, "_proj") != NULL;
        assert_int_equal(group->optim, down ? CONFIG_SGD
                                            : up || !matrix ? CONFIG_ADAMW : CONFIG_MUON);
        unit_assert_near(group->rate, up ? 2 : 1, 1e-12);
        if (group->optim == CONFIG_ADAMW) second += align_up(tensor->count, MODEL_ALIGN);
    }
    assert_int_equal(model->segment_v[0], second); // nothing for Muon and SGD
    assert_true(second < model->segment_elements[0] / 2);
    model_destroy(&model);
    const char *const nothing[] = {"param_groups=[{\"match\":\"*\"},{\"match\":\"*up*\"}]"};
    assert_true(config_parse(&config, "config", config_text, nothing, 1));
    assert_null(model_create(&config, 1 << 30));
    unit_assert_line("param_groups: \"*up*\" matches no tensor", "model.layers.0");
}

// ---- files

static void state_case(const char *optim)
{
    struct side a, b;
    struct snapshot x, y;
    open_side(&a, false, &optim, 1);
    open_side(&b, false, &optim, 1);
    for (uint32_t step = 1; step <= 2; step++) take_step(&a, step, 0.05);
    const char *path = unit_path("optimizer.safetensors");
    assert_true(optimizer_state_save(trainer_params(a.trainer), path, NULL, 0));
    assert_true(optimizer_state_load(trainer_params(b.trainer), path));
    memcpy(b.steps, a.steps, sizeof b.steps);
    compare_steps(&b, true);
    take_snapshot(&a, &x);
    take_snapshot(&b, &y);
    for (uint32_t t = 0; t < a.model->tensor_count; t++)
        for (int c = 1; c < CLASSES; c++) {
            const struct model_tensor *tensor = &a.model->tensor[t];
            const uint64_t count = count_of(&a, state[c], tensor) * max_u32(tensor->experts, 1);
            if (count && state[c] != PARAMS_COMPUTE)
                assert_memory_equal(x.values[t][c], y.values[t][c], count * 4);
        }
    free_snapshot(&a, &x);
    free_snapshot(&b, &y);
    close_side(&b);
    open_side(&b, false, (const char *const[]){"expert_optimizer=dense-exact", optim}, 2);
    assert_false(optimizer_state_load(trainer_params(b.trainer), path));
    unit_assert_line("steps.model.layers.0.experts", "the model has no such tensor");
    close_side(&a);
    close_side(&b);
}

static void state_survives_a_file(void **unused)
{
    (void)unused;
    state_case("optim=adamw");
    state_case("optim=adamw_8bit");
}

// Moments in codes for all but small tensors and the embedding, a quarter of the bytes; and a run
// with them stays near one without.
static void codes_cost_little(void **unused)
{
    (void)unused;
    enum { RUN = 40 };
    struct side f32, codes;
    double loss[2] = {0};
    open_side(&f32, false, (const char *const[]){"optim=adamw"}, 1);
    open_side(&codes, false, (const char *const[]){"optim=adamw_8bit"}, 1);
    uint64_t elements = 0;
    for (uint32_t t = 0; t < codes.model->tensor_count; t++)
        if (!model_has_m(codes.model, &codes.model->tensor[t])) {
            assert_int_not_equal(codes.model->tensor[t].experts, 0);
            elements += codes.model->tensor[t].count;
        }
    const uint64_t left = codes.model->segment_m[0], all = f32.model->segment_m[0];
    assert_int_equal(all - left, elements);
    // 640 elements an expert, three records for two and a half
    assert_int_equal(codes.model->segment_records[0] * 256, elements / 640 * 768);
    for (uint32_t step = 1; step <= RUN; step++) {
        take_step(&f32, step, 0.003);
        take_step(&codes, step, 0.003);
        if (step > RUN - 8) loss[0] += f32.loss / 8, loss[1] += codes.loss / 8;
    }
    unit_assert_near(loss[1], loss[0], 0.02 * loss[0]);
    assert_true(loss[0] != loss[1]);
    close_side(&f32);
    close_side(&codes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(experts_without_tokens_stay),
        UNIT(dense_exact_moves_all),
        UNIT(stacks_in_parts),
        UNIT(mean_of_the_weights),
        UNIT(weight_decay_is_applied),
        UNIT(groups_keep_what_they_need),
        UNIT(state_survives_a_file),
        UNIT(codes_cost_little),
    };
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
