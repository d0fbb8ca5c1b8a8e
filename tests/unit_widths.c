// SPDX-License-Identifier: MIT
// Experts of different widths: counted, saved and loaded by their own sizes; zero beyond them
// whatever a training step does; the same loss as wide experts whose other neurons are silent.
#include "tests/unit_world.h"

#include "src/optimizer_state.h"
#include "src/safetensors.h"
#include "src/weights.h"

static const uint32_t widths[] = {3, 11, 6, 1};

#define FOUR   "\"num_experts\": 4, "
#define UNEVEN FOUR "\"moe_intermediate_size\": [3, 11, 6, 1]"

static void sizes_are_their_own(void **state)
{
    (void)state;
    struct model *own = make_model(UNEVEN),
                 *even = make_model(FOUR "\"moe_intermediate_size\": 11");
    const uint64_t missing = 4 * 11 - (3 + 11 + 6 + 1); // of neurons, three vectors each
    assert_int_equal(even->parameters - own->parameters, 2 * 3 * HIDDEN * missing);
    // two of four experts are active: half of what all have
    assert_int_equal(even->active - own->active, 2 * 3 * HIDDEN * missing / 2);
    const struct model_tensor *down = model_find(own, ROLE_EXPERT_DOWN, 1);
    assert_int_equal(down->count, HIDDEN * 21);
    assert_int_equal(down->space, HIDDEN * 44);
    for (uint32_t e = 0; e < 4; e++) {
        const struct model_matrix m = model_matrix(own, down, e);
        assert_true(m.rows == HIDDEN && m.cols == widths[e] && m.place == e * HIDDEN * 11);
        assert_int_equal(model_expert_at(own, down, m.begin), e);
        assert_int_equal(model_place(own, down, m.begin), m.place);
        assert_int_equal(model_place(own, down, m.begin + m.cols), m.place + 11); // second row
    }
    model_destroy(&own);
    model_destroy(&even);
    assert_null(make_model(UNEVEN ", \"optim\": \"muon\""));
    unit_assert_line("optim muon", "different widths");
}

// Nothing but zero beyond an expert's own, in any class.
static void assert_padding(struct world *w)
{
    static const enum params_class classes[] = {PARAMS_MASTER, PARAMS_GRAD, PARAMS_M, PARAMS_V};
    const struct params *params = trainer_params(w->trainer);
    for (uint32_t i = 0; i < w->model->tensor_count; i++)
        for (size_t c = 0; c < COUNT_OF(classes); c++) {
            const struct model_tensor *t = &w->model->tensor[i];
            if (!model_is_uneven(w->model, t)) continue;
            if (classes[c] == PARAMS_M && !model_has_m(w->model, t)) continue;
            if (classes[c] == PARAMS_V && !model_has_v(w->model, t)) continue;
            float *space = calloc(t->space, sizeof *space);
            uint8_t *own = calloc(t->space, 1);
            for (uint64_t e = 0; e < t->count; e++) own[model_place(w->model, t, e)] = 1;
            assert_true(gpu_buffer_read(w->gpu, params->buffer[classes[c]][t->segment],
                                        4 * params_offset(classes[c], t), space, 4 * t->space));
            for (uint64_t e = 0; e < t->space; e++) assert_true(own[e] || space[e] == 0);
            free(space);
            free(own);
        }
}

static void training_stays_inside(void **state)
{
    (void)state;
    static const char *const kinds[] = {
        UNEVEN, UNEVEN ", \"optim\": \"sgd\", \"init\": \"orthogonal\"",
        UNEVEN ", \"mlp_gated\": false, \"mlp_bias\": true, \"hidden_act\": \"gelu\"",
        UNEVEN ", \"router_type\": \"expert_choice\", \"expert_optimizer\": \"dense-exact\"",
        UNEVEN ", \"optim\": \"adamw_8bit\", \"ema_decay\": 0.9"};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct world device = open_world(NULL, kinds[k]), ref = open_world("ref", kinds[k]);
        for (uint32_t step = 1; step <= 4; step++) {
            const struct trainer_result x = step_of(&device, step, 0.01),
                                        y = step_of(&ref, step, 0.01);
            unit_assert_near(x.loss, y.loss, 2e-5);
            unit_assert_near(x.grad_norm, y.grad_norm, 1e-3 * y.grad_norm);
        }
        assert_padding(&device);
        assert_padding(&ref);
        close_world(&device);
        close_world(&ref);
    }
}

// The same weights in a model whose experts are all as wide as the widest, zero beyond.
static void narrow_is_wide_with_silent_neurons(void **state)
{
    (void)state;
    struct world own = open_world("ref", UNEVEN),
                 wide = open_world("ref", FOUR "\"moe_intermediate_size\": 11");
    for (uint32_t i = 0; i < own.model->tensor_count; i++) {
        const struct model_tensor *t = &own.model->tensor[i],
                                  *other = model_find(wide.model, t->role, t->layer);
        float *values = values_of(&own, PARAMS_MASTER, t),
              *space = calloc(other->count, sizeof *space);
        for (uint64_t e = 0; e < t->count; e++) space[model_place(own.model, t, e)] = values[e];
        write_values(&wide, other, space);
        free(values);
        free(space);
    }
    const struct trainer_result x = step_of(&own, 1, 0), y = step_of(&wide, 1, 0);
    unit_assert_near(x.loss, y.loss, 1e-9);
    close_world(&own);
    close_world(&wide);
}

static void assert_same(struct world *a, struct world *b, enum params_class which)
{
    for (uint32_t i = 0; i < a->model->tensor_count; i++) {
        const struct model_tensor *t = &a->model->tensor[i];
        float *x = values_of(a, which, t), *y = values_of(b, which, t);
        assert_memory_equal(x, y, t->count * sizeof *x);
        free(x);
        free(y);
    }
}

static void files_hold_their_own_sizes(void **state)
{
    (void)state;
    struct world a = open_world(NULL, UNEVEN), b = open_world(NULL, UNEVEN);
    struct params_values from = {trainer_params(a.trainer), PARAMS_MASTER},
                         to = {trainer_params(b.trainer), PARAMS_MASTER};
    char *path = strdup(unit_path("model.safetensors")), name[120];
    for (uint32_t step = 1; step <= 3; step++) step_of(&a, step, 0.01);
    assert_true(weights_save(a.model, path, params_get, &from, NULL, 0));
    struct safetensors *file = safetensors_open(path);
    for (uint32_t e = 0; e < 4; e++) {
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.%u.up_proj.weight", e);
        const struct safetensors_tensor *up = safetensors_find(file, name);
        assert_true(up && up->shape[0] == widths[e] && up->shape[1] == HIDDEN);
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.%u.down_proj.weight", e);
        const struct safetensors_tensor *down = safetensors_find(file, name);
        assert_true(down && down->shape[0] == HIDDEN && down->shape[1] == widths[e]);
    }
    safetensors_close(&file);
    assert_true(weights_load(b.model, path, params_put, &to));
    assert_same(&a, &b, PARAMS_MASTER);
    assert_padding(&b);
    assert_true(optimizer_state_save(trainer_params(a.trainer), path, NULL, 0));
    assert_true(optimizer_state_load(trainer_params(b.trainer), path));
    assert_same(&a, &b, PARAMS_M);
    assert_same(&a, &b, PARAMS_V);
    // and both go on alike, bit by bit
    const struct trainer_result x = step_of(&a, 4, 0.01), y = step_of(&b, 4, 0.01);
    assert_true(x.loss == y.loss && x.grad_norm == y.grad_norm);
    assert_same(&a, &b, PARAMS_MASTER);
    // another model's experts are refused
    struct world c = open_world(NULL, FOUR "\"moe_intermediate_size\": [3, 11, 6, 2]");
    assert_true(weights_save(a.model, path, params_get, &from, NULL, 0));
    to.params = trainer_params(c.trainer);
    assert_false(weights_load(c.model, path, params_put, &to));
    unit_assert_line("experts.3", "[2][12]");
    close_world(&a);
    close_world(&b);
    close_world(&c);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(sizes_are_their_own),
        UNIT(training_stays_inside),
        UNIT(narrow_is_wide_with_silent_neurons),
        UNIT(files_hold_their_own_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
