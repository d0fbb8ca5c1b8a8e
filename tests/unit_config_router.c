// SPDX-License-Identifier: MIT
// config.h, routers and experts: layers with routers of their own, experts with widths of their
// own, what each kind of router makes of the keys it shares with others, and the keys that do not
// go together, each refused in one line that names it.
#include "tests/unit_config.h"

#define FOUR_EXPERTS "{\"model_type\": \"vkmoe\", \"vocab_size\": 9, \"hidden_size\": 32, " \
    "\"intermediate_size\": 8, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, " \
    "\"max_position_embeddings\": 8, \"num_experts\": 4, \"mlp_only_layers\": [1]}"

static void layers_have_routers_of_their_own(void **state)
{
    (void)state;
    struct config config;
    const char *const set[] = {
        "router_temperature=3",
        "layers={\"2\": {\"num_experts_per_tok\": 1, \"router_z_loss_coef\": 0.5}}"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, set, COUNT_OF(set)));
    assert_int_equal(config.layer_router[0].top_k, 2);
    assert_int_equal(config.layer_router[2].top_k, 1);
    assert_true(config.layer_router[0].z_coef == 0 && config.layer_router[2].z_coef == 0.5);
    assert_true(config.layer_router[2].temperature == 3);
    assert_round_trip(&config);
    static const struct { const char *set, *first, *second; } bad[] = {
        {"layers=[]", "layers: found []", "an object"},
        {"layers={\"1\": {}}", "MoE layers as keys", "\"1\""},
        {"layers={\"3\": {}}", "MoE layers as keys", "\"3\""},
        {"layers={\"x\": {}}", "MoE layers as keys", "\"x\""},
        {"layers={\"0\": 2}", "layers", "an object of router keys"},
        {"layers={\"0\": {\"hidden_size\": 2}}", "layers: 0: hidden_size: found 2", "routers"},
        {"layers={\"0\": {\"top\": 2}}", "layers: 0", "unknown key \"top\""},
        {"layers={\"0\": {\"num_experts_per_tok\": 5}}",
         "layers: 0: num_experts_per_tok: found 5", "1 to 4"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(config_parse(&config, "test.json", FOUR_EXPERTS, &bad[i].set, 1));
        unit_assert_line(bad[i].first, bad[i].second);
    }
}

static void experts_have_widths_of_their_own(void **state)
{
    (void)state;
    struct config config;
    const char *const two[] = {"moe_intermediate_size=[8,24]"},
               *const alike[] = {"moe_intermediate_size=[9,9]"},
               *const three[] = {"moe_intermediate_size=[8,24,3]"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, two, 1));
    assert_int_equal(config.moe_intermediate_size, 24); // the widest
    static const uint32_t widths[] = {8, 8, 24, 24}, before[] = {0, 8, 16, 40, 64};
    for (uint32_t e = 0; e <= 4; e++) {
        if (e < 4) assert_int_equal(config_expert_width(&config, e), widths[e]);
        assert_int_equal(config_widths_before(&config, e), before[e]);
    }
    assert_round_trip(&config);
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, alike, 1));
    assert_true(config.width_count == 0 && config.moe_intermediate_size == 9);
    assert_round_trip(&config);
    assert_false(config_parse(&config, "test.json", FOUR_EXPERTS, three, 1));
    unit_assert_line("moe_intermediate_size: found [8,24,3]",
                     "as many widths as divide num_experts, 4 (there are 3)");
}

static void routers_are_resolved(void **state)
{
    (void)state;
    struct config config;
    const char *const set[] = {
        "layers={\"0\": {\"router_type\": \"sigmoid_bias\", \"n_group\": 2, \"topk_group\": 2, "
        "\"router_bias_update_speed\": 0.01}, \"2\": {\"router_type\": \"dense\", "
        "\"router_mean_entropy_coef\": -0.002, \"router_loss_layers\": \"all\"}}"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, set, COUNT_OF(set)));
    assert_true(config.layer_router[0].sigmoid && config.layer_router[0].norm_topk_prob);
    assert_int_equal(config.layer_router[0].top_k, 2);
    assert_int_equal(config.layer_router[2].top_k, 4); // all of them
    assert_true(config.layer_router[2].mean_entropy_coef == -0.002);
    assert_round_trip(&config);
    const char *const bodies[] = {
        "layers={\"0\": {\"router_body\": \"mlp\"}, \"2\": {\"router_body\": \"cosine\"}}"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, bodies, COUNT_OF(bodies)));
    assert_int_equal(config.layer_router[0].hidden_size, 32); // the model's
    assert_int_equal(config.layer_router[2].hidden_size, 0);
    assert_round_trip(&config);
    const char *const domains[] = {"router_type=hierarchical", "n_domains=2",
                                   "domains_per_tok=2", "min_experts_per_tok=2"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, domains, COUNT_OF(domains)));
    assert_int_equal(config.router.top_k, 4); // two in each
    assert_round_trip(&config);
    const char *const own[] = {"router_type=hierarchical", "n_domains=2", "router_body=mlp",
                               "layers={\"2\": {\"router_type\": \"topk\", "
                               "\"router_body\": \"cosine\"}}"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, own, COUNT_OF(own)));
    assert_true(config.layer_router[0].n_domains == 2 && config.layer_router[2].n_domains == 0);
    assert_int_equal(config.layer_router[2].hidden_size, 0);
    assert_round_trip(&config);
    const char *const uneven[] = {"router_type=hierarchical", "n_domains=2", "domains_per_tok=2",
                                  "num_experts_per_tok=3"};
    assert_false(config_parse(&config, "test.json", FOUR_EXPERTS, uneven, COUNT_OF(uneven)));
    unit_assert_line("num_experts_per_tok: found 3", "a multiple of domains_per_tok, 2");
    const char *const least[] = {"router_type=hierarchical", "n_domains=2", "domains_per_tok=2",
                                 "min_experts_per_tok=1"};
    assert_false(config_parse(&config, "test.json", FOUR_EXPERTS, least, COUNT_OF(least)));
    unit_assert_line("min_experts_per_tok: found 1", "a multiple of domains_per_tok, 2");
    const char *const threshold[] = {"router_type=threshold", "router_threshold=0.3",
                                     "min_experts_per_tok=1"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, threshold, COUNT_OF(threshold)));
    assert_int_equal(config.router.top_k, 3); // four cannot be above 0.3
    assert_true(config.router.norm_topk_prob);
    assert_round_trip(&config);
}

// No balance loss where something else balances, unless it is asked for.
static void balance_is_left_to_what_balances(void **state)
{
    (void)state;
    struct config config;
    const char *const biased[] = {"router_type=sigmoid_bias"},
               *const asked[] = {"router_type=sigmoid_bias", "router_aux_loss_coef=0.5"},
               *const some[] = {"layers={\"0\": {\"router_type\": \"sigmoid_bias\"}, "
                                "\"2\": {\"router_type\": \"expert_choice\"}}"},
               *const of_all[] = {"router_aux_loss_coef=0.25",
                                  "layers={\"0\": {\"router_type\": \"sigmoid_bias\"}}"},
               *const back[] = {"router_type=expert_choice",
                                "layers={\"2\": {\"router_type\": \"topk\"}}"};
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, biased, COUNT_OF(biased)));
    assert_true(config.router.balance_coef == 0 && config.layer_router[0].balance_coef == 0);
    assert_round_trip(&config);
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, asked, COUNT_OF(asked)));
    assert_true(config.layer_router[2].balance_coef == 0.5);
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, some, COUNT_OF(some)));
    assert_true(config.router.balance_coef == 0.01 && config.layer_router[0].balance_coef == 0 &&
                config.layer_router[2].balance_coef == 0);
    assert_true(config.layer_router[2].capacity_factor == 2 && config.layer_router[2].top_k == 4);
    assert_true(config_leaks(&config));
    assert_round_trip(&config);
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, of_all, COUNT_OF(of_all)));
    assert_true(config.layer_router[0].balance_coef == 0.25 && !config_leaks(&config));
    assert_true(config_parse(&config, "test.json", FOUR_EXPERTS, back, COUNT_OF(back)));
    assert_true(config.layer_router[0].balance_coef == 0 &&
                config.layer_router[2].balance_coef == 0.01 &&
                config.layer_router[2].capacity_factor == 0 && config.layer_router[2].top_k == 2);
    assert_round_trip(&config);
}

// Two settings that do not go together, and the key that is named.
static void routers_refuse_in_one_line(void **state)
{
    (void)state;
    struct config config;
    static const struct { const char *set[3], *first, *second; } bad[] = {
        {{"router_type=top"}, "router_type: found \"top\"", "\"sigmoid_bias\""},
        {{"scoring_func=tanh"}, "scoring_func: found \"tanh\"", "\"softmax\" or \"sigmoid\""},
        {{"router_type=switch", "num_experts_per_tok=2"}, "num_experts_per_tok: found 2",
         "1 for router_type switch"},
        {{"router_type=straight_through", "norm_topk_prob=true"}, "norm_topk_prob: found true",
         "false for router_type straight_through"},
        {{"router_type=dense", "num_experts_per_tok=3"}, "num_experts_per_tok: found 3", "4"},
        {{"router_type=threshold", "router_threshold=0.25"}, "router_threshold: found 0.25",
         "under 1/num_experts, 0.25"},
        {{"router_type=threshold", "norm_topk_prob=false"}, "norm_topk_prob: found false",
         "true for router_type threshold"},
        {{"router_threshold=1.5"}, "router_threshold: found 1.5", "from 0 to 1"},
        {{"router_type=top_p", "router_top_p=0"}, "router_top_p: found 0", "to 1"},
        {{"router_type=top_p", "scoring_func=sigmoid"}, "scoring_func: found \"sigmoid\"",
         "softmax"},
        {{"min_experts_per_tok=1"}, "min_experts_per_tok: found 1", "top_p, dynamic or hier"},
        {{"router_type=dynamic", "num_experts_per_tok=2", "min_experts_per_tok=3"},
         "min_experts_per_tok: found 3", "at most num_experts_per_tok, 2"},
        {{"router_type=group_limited"}, "n_group: found nothing", "2 or more"},
        {{"router_type=group_limited", "n_group=3"}, "n_group: found 3",
         "a divisor of num_experts, 4"},
        {{"n_group=2"}, "n_group: found 2", "group_limited or sigmoid_bias"},
        {{"router_type=group_limited", "n_group=2", "topk_group=3"}, "topk_group: found 3",
         "at most n_group, 2"},
        {{"router_type=group_limited", "n_group=4", "topk_group=1"}, "num_experts_per_tok",
         "at most the 1 experts"},
        {{"router_type=sigmoid_bias", "scoring_func=softmax"}, "scoring_func: found \"softmax\"",
         "sigmoid"},
        {{"router_body=conv"}, "router_body: found \"conv\"", "\"cosine\""},
        {{"router_hidden_size=8"}, "router_hidden_size: found 8", "router_body mlp"},
        {{"router_body=cosine", "router_bias=true"}, "router_bias: found true", "cosine"},
        {{"router_type=hash", "router_body=mlp"}, "router_body: found \"mlp\"", "no logits"},
        {{"router_type=hierarchical"}, "n_domains: found nothing", "a divisor of num_experts, 4"},
        {{"router_type=hierarchical", "n_domains=3"}, "n_domains: found 3", "num_experts, 4"},
        {{"n_domains=2"}, "n_domains: found 2", "router_type hierarchical"},
        {{"domains_per_tok=2"}, "domains_per_tok: found 2", "router_type hierarchical"},
        {{"router_type=hierarchical", "n_domains=2", "domains_per_tok=3"},
         "domains_per_tok: found 3", "1 to 2, n_domains"},
        {{"router_type=hierarchical", "n_domains=4", "num_experts_per_tok=2"},
         "num_experts_per_tok: found 2", "up to 1"},
        {{"router_type=hierarchical", "n_domains=2", "scoring_func=sigmoid"},
         "scoring_func: found \"sigmoid\"", "softmax"},
        {{"router_type=hierarchical", "n_domains=2", "router_importance_coef=1"},
         "router_importance_coef: found 1", "0 for router_type hierarchical"},
        {{"router_type=hierarchical", "n_domains=2", "router_z_square_coef=1"},
         "router_z_square_coef: found 1", "0 for router_type hierarchical"},
        {{"capacity_factor=0.5"}, "capacity_factor: found 0.5", "0 (no token is dropped) or 1"},
        {{"capacity_factor=-1"}, "capacity_factor: found -1", "from 0"},
        {{"router_type=expert_choice", "capacity_factor=4.5"}, "capacity_factor: found 4.5",
         "at most num_experts, 4"},
        {{"router_type=expert_choice", "capacity_factor=0"}, "capacity_factor: found 0",
         "above 0"},
        {{"router_type=expert_choice", "num_experts_per_tok=2"}, "num_experts_per_tok: found 2",
         "num_experts, 4, for router_type expert_choice"},
        {{"router_type=expert_choice", "norm_topk_prob=true"}, "norm_topk_prob: found true",
         "false for router_type expert_choice"},
        {{"shared_expert_gate=true"}, "shared_expert_gate: found true",
         "false without shared_expert_intermediate_size"},
        {{"router_jitter_noise=1"}, "router_jitter_noise: found 1", "to 0.99"},
        {{"router_type=hash", "router_jitter_noise=0.1"}, "router_jitter_noise: found 0.1",
         "no logits"},
        {{"router_type=hash", "router_learn_temperature=true"}, "router_learn_temperature",
         "no logits"},
        {{"router_type=noisy_topk", "norm_topk_prob=false"}, "norm_topk_prob: found false",
         "true for router_type noisy_topk"},
        {{"scoring_func=sigmoid", "router_z_loss_coef=1"}, "router_z_loss_coef: found 1",
         "0 with scoring_func sigmoid"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int count = 0;
        while (count < 3 && bad[i].set[count]) count++;
        assert_false(config_parse(&config, "test.json", FOUR_EXPERTS, bad[i].set, count));
        unit_assert_line(bad[i].first, bad[i].second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(layers_have_routers_of_their_own),
        UNIT(experts_have_widths_of_their_own),
        UNIT(routers_are_resolved),
        UNIT(balance_is_left_to_what_balances),
        UNIT(routers_refuse_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
