// SPDX-License-Identifier: MIT
// What must hold whatever a router does, on the reference device: as many picks as experts is dense
// gating, new numbers for the experts change nothing else, one expert is a dense model, and every
// pair is either kept or dropped.
#include "tests/unit_world.h"

static struct world open_ref(const char *keys) { return open_world("ref", keys); }

static void all_picks_are_dense_gating(void **state)
{
    (void)state;
    struct world a = open_ref("\"num_experts\": 5, \"num_experts_per_tok\": 5"),
                 b = open_ref("\"num_experts\": 5, \"router_type\": \"dense\"");
    const struct trainer_result x = step_of(&a, 1, 0), y = step_of(&b, 1, 0);
    unit_assert_near(x.loss, y.loss, 1e-6);
    unit_assert_near(x.grad_norm, y.grad_norm, 1e-5);
    assert_true(x.grad_norm > 0);
    close_world(&a);
    close_world(&b);
}

// Every expert takes as many tokens as it is told to; where that is all, it is dense gating.
static void experts_choose_their_share(void **state)
{
    (void)state;
    struct world all = open_ref("\"num_experts\": 5, \"router_type\": \"expert_choice\", "
                                "\"capacity_factor\": 5"),
                 dense = open_ref("\"num_experts\": 5, \"router_type\": \"dense\", "
                                  "\"router_aux_loss_coef\": 0"),
                 some = open_ref("\"num_experts\": 5, \"router_type\": \"expert_choice\", "
                                 "\"capacity_factor\": 1.3");
    const struct trainer_result x = step_of(&all, 1, 0), y = step_of(&dense, 1, 0);
    unit_assert_near(x.loss, y.loss, 1e-6);
    unit_assert_near(x.grad_norm, y.grad_norm, 1e-5);
    const struct trainer_result z = step_of(&some, 1, 0);
    const double share = ceil(1.3 * TOKENS / 5); // 4
    for (uint32_t layer = 0; layer < 2; layer++) {
        for (uint32_t e = 0; e < 5; e++) assert_true((double)z.load[layer][e] == share);
        assert_true(z.layer[layer].picks == 5 * share && z.layer[layer].kept == 5 * share);
    }
    assert_true(z.grad_norm > 0 && z.loss != x.loss);
    close_world(&all);
    close_world(&dense);
    close_world(&some);
}

// Expert e becomes e + 1, its row of the router with it.
static void turn(struct world *w, enum model_role role, int32_t layer, uint32_t experts)
{
    const struct model_tensor *t = model_find(w->model, role, layer);
    const uint64_t each = t->count / experts;
    float *old = values_of(w, PARAMS_MASTER, t), *turned = calloc(t->count, sizeof *turned);
    for (uint32_t e = 0; e < experts; e++)
        memcpy(turned + (e + 1) % experts * each, old + e * each, each * sizeof *turned);
    write_values(w, t, turned);
    free(old);
    free(turned);
}

static void numbers_of_experts_do_not_matter(void **state)
{
    (void)state;
    static const char *const routers[] = {
        "\"num_experts\": 4, \"num_experts_per_tok\": 2",
        "\"num_experts\": 4, \"router_type\": \"threshold\", \"router_threshold\": 0.2",
        "\"num_experts\": 4, \"router_type\": \"top_p\", \"router_entropy_coef\": 0.1",
        "\"num_experts\": 4, \"scoring_func\": \"sigmoid\", \"router_importance_coef\": 0.1",
        "\"num_experts\": 4, \"router_type\": \"expert_choice\", \"capacity_factor\": 1.5",
        "\"num_experts\": 4, \"router_type\": \"sigmoid_bias\", "
        "\"shared_expert_intermediate_size\": 6, \"shared_expert_gate\": true",
    };
    static const enum model_role roles[] = {ROLE_ROUTER, ROLE_EXPERT_GATE, ROLE_EXPERT_UP,
                                            ROLE_EXPERT_DOWN};
    for (size_t i = 0; i < COUNT_OF(routers); i++) {
        struct world w = open_ref(routers[i]);
        const struct trainer_result before = step_of(&w, 1, 0);
        float load[4];
        memcpy(load, before.load[0], sizeof load);
        for (int32_t layer = 0; layer < 2; layer++)
            for (size_t r = 0; r < COUNT_OF(roles); r++) turn(&w, roles[r], layer, 4);
        const struct trainer_result after = step_of(&w, 1, 0);
        unit_assert_near(after.loss, before.loss, 1e-6);
        unit_assert_near(after.grad_norm, before.grad_norm, 1e-5);
        for (uint32_t e = 0; e < 4; e++) assert_true(after.load[0][(e + 1) % 4] == load[e]);
        close_world(&w);
    }
}

static void one_expert_is_a_dense_model(void **state)
{
    (void)state;
    static const enum model_role pairs[][2] = {{ROLE_EXPERT_GATE, ROLE_GATE},
                                               {ROLE_EXPERT_UP, ROLE_UP},
                                               {ROLE_EXPERT_DOWN, ROLE_DOWN}};
    struct world moe = open_ref("\"num_experts\": 1"), dense = open_ref("\"num_experts\": 0");
    for (int32_t layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < COUNT_OF(pairs); i++) {
            float *values = values_of(&moe, PARAMS_MASTER,
                                      model_find(moe.model, pairs[i][0], layer));
            write_values(&dense, model_find(dense.model, pairs[i][1], layer), values);
            free(values);
        }
    const struct trainer_result x = step_of(&moe, 1, 0), y = step_of(&dense, 1, 0);
    unit_assert_near(x.loss, y.loss, 1e-6);
    unit_assert_near(x.grad_norm, y.grad_norm, 1e-5);
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        const struct model_tensor *t = model_find(moe.model, pairs[i][0], 1);
        float *a = values_of(&moe, PARAMS_GRAD, t),
              *b = values_of(&dense, PARAMS_GRAD, model_find(dense.model, pairs[i][1], 1));
        for (uint64_t j = 0; j < t->count; j++) unit_assert_near(a[j], b[j], 1e-6);
        free(a);
        free(b);
    }
    close_world(&moe);
    close_world(&dense);
}

// Of a router whose weights are all 0 every token is undecided; else none is less sure than the
// mean says.
static void the_surest_token_is_known(void **state)
{
    (void)state;
    struct world w = open_ref("\"num_experts\": 4, \"gradient_accumulation_steps\": 1");
    const struct trainer_result some = step_of(&w, 1, 0);
    for (uint32_t layer = 0; layer < 2; layer++) {
        const double mean = some.layer[layer].loss[ROUTER_ENTROPY];
        assert_true(some.layer[layer].least_entropy > 0);
        assert_true(some.layer[layer].least_entropy < mean && mean < log(4));
        const struct model_tensor *t = model_find(w.model, ROLE_ROUTER, (int32_t)layer);
        float *zero = calloc(t->count, sizeof *zero);
        write_values(&w, t, zero);
        free(zero);
    }
    const struct trainer_result none = step_of(&w, 1, 0);
    for (uint32_t layer = 0; layer < 2; layer++) {
        unit_assert_near(none.layer[layer].least_entropy, log(4), 1e-6);
        unit_assert_near(none.layer[layer].loss[ROUTER_ENTROPY], log(4), 1e-6);
    }
    close_world(&w);
}

static void pairs_are_kept_or_dropped(void **state)
{
    (void)state;
    struct world free_world = open_ref("\"num_experts\": 4, \"num_experts_per_tok\": 3"),
                 tight = open_ref("\"num_experts\": 4, \"num_experts_per_tok\": 3, "
                                  "\"capacity_factor\": 1");
    const struct trainer_result all = step_of(&free_world, 1, 0), some = step_of(&tight, 1, 0);
    const double capacity = ceil(1.0 * TOKENS * 3 / 4);
    double dropped = 0;
    for (uint32_t layer = 0; layer < 2; layer++) {
        double wanted = 0, kept = 0;
        for (uint32_t e = 0; e < 4; e++) {
            wanted += (double)some.load[layer][e];
            kept += fmin((double)some.load[layer][e], capacity);
        }
        assert_true(all.layer[layer].picks == TOKENS * 3 && all.layer[layer].kept == TOKENS * 3);
        assert_true(some.layer[layer].picks == TOKENS * 3 && wanted == TOKENS * 3);
        assert_true(some.layer[layer].kept == kept);
        dropped += some.layer[layer].picks - some.layer[layer].kept;
    }
    assert_true(dropped > 0 && isfinite(some.loss) && some.loss != all.loss);
    close_world(&free_world);
    close_world(&tight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(all_picks_are_dense_gating),
        UNIT(experts_choose_their_share),
        UNIT(numbers_of_experts_do_not_matter),
        UNIT(one_expert_is_a_dense_model),
        UNIT(the_surest_token_is_known),
        UNIT(pairs_are_kept_or_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
