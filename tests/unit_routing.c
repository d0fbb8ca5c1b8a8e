// SPDX-License-Identifier: MIT
// What is said of routing: the statistics by cases computed by hand, the collapse alarm on planted
// counts, what a checkpoint keeps of it.
#include "tests/unit.h"

#include "src/routing.h"
#include "src/routing_stats.h"

// ---- statistics

static struct routing_sample sample(uint32_t tokens, uint32_t top_k, uint32_t experts,
                                    uint32_t domains)
{
    uint32_t *all = calloc((size_t)tokens * (top_k + 2), sizeof *all);
    return (struct routing_sample){tokens, top_k, experts, domains, all, all + tokens * top_k,
                                   all + tokens * (top_k + 1), NULL};
}

static void put(const struct routing_sample *s, uint32_t token, uint32_t expert, uint32_t domain,
                uint32_t id)
{
    ((uint32_t *)s->picks)[token * s->top_k] = expert;
    ((uint32_t *)s->domain)[token] = domain;
    ((uint32_t *)s->ids)[token] = id;
}

static void a_perfect_assignment_has_all_bits(void **state)
{
    (void)state;
    struct routing_sample s = sample(4000, 1, 8, 4);
    for (uint32_t t = 0; t < s.tokens; t++) put(&s, t, t % 4 + 2, t % 4, t % 7);
    const struct routing_information i = routing_information(&s, 20, 5);
    unit_assert_near(i.domain.value, 2, 1e-9);
    unit_assert_near(i.domain_bits, 2, 1e-9);
    unit_assert_near(i.given_token.value, 2, 2e-3); // 4 domains by 7 tokens, nearly even
    // the bias of a plug-in estimate: (rows - 1)(columns - 1) / (2 N ln 2) = 0.0016 bits
    unit_assert_near(i.domain.mean, 9 / (2 * 4000 * log(2)), 0.0012);
    assert_true(i.domain.deviation > 0 && i.domain.deviation < 0.002);
    assert_true(i.given_token.mean < 0.03);
    free((void *)s.picks);
}

static void an_independent_assignment_has_none(void **state)
{
    (void)state;
    struct routing_sample s = sample(6400, 2, 4, 4); // each expert with each domain 400 times
    for (uint32_t t = 0; t < s.tokens; t++) {
        put(&s, t, t / 4 % 4, t % 4, 1);
        ((uint32_t *)s.picks)[2 * t + 1] = 4; // not taken
    }
    struct routing_information i = routing_information(&s, 4, 1);
    unit_assert_near(i.domain.value, 0, 1e-9);
    unit_assert_near(i.given_token.value, 0, 1e-9);
    unit_assert_near(i.pairs, 6400, 0);
    // by hand: two experts, two domains, 3 1 1 3 of 8: 1 - H(1/4) bits
    struct routing_sample hand = sample(9, 1, 2, 2);
    static const uint32_t experts[] = {0, 0, 0, 1, 0, 1, 1, 1, 1};
    static const uint32_t domains[] = {0, 0, 0, 0, 1, 1, 1, 1, 2}; // the last is left out
    for (uint32_t t = 0; t < 9; t++) put(&hand, t, experts[t], domains[t], t % 2);
    i = routing_information(&hand, 3, 1);
    unit_assert_near(i.domain.value, 1 + 0.25 * log2(0.25) + 0.75 * log2(0.75), 1e-12);
    unit_assert_near(i.domain_bits, 1, 1e-12);
    free((void *)hand.picks);
    free((void *)s.picks);
}

static void a_router_that_knows_the_token_only_is_told_from_one_that_knows_more(void **state)
{
    (void)state;
    struct routing_sample s = sample(4096, 1, 2, 2);
    for (uint32_t t = 0; t < s.tokens; t++) { // token 0 is mostly of domain 0
        const uint32_t id = t % 2, domain = t / 2 % 8 == 0 ? !id : id;
        put(&s, t, id, domain, id);
    }
    const struct routing_information i = routing_information(&s, 5, 3);
    assert_true(i.domain.value > 0.4);
    unit_assert_near(i.given_token.value, 0, 1e-12);
    const struct routing_information again = routing_information(&s, 5, 3);
    assert_memory_equal(&i, &again, sizeof i); // the same bytes for the same seed
    free((void *)s.picks);
}

// Each document has an expert of its own: that says all of the domain, and says nothing where a
// domain is one document; where it is many, it says something.
static void a_document_is_told_from_its_domain(void **state)
{
    (void)state;
    struct routing_sample s = sample(4000, 1, 4, 4);
    uint32_t *document = calloc(s.tokens, sizeof *document);
    for (uint32_t t = 0; t < s.tokens; t++) put(&s, t, t % 4, t % 4, t % 7);
    struct routing_information i = routing_information(&s, 20, 5);
    assert_true(isnan(i.domain.documents) && isnan(i.given_token.documents)); // not known
    s.document = document;
    for (uint32_t t = 0; t < s.tokens; t++) document[t] = 100 - t % 4;
    i = routing_information(&s, 20, 5);
    unit_assert_near(i.domain.value, 2, 1e-9);
    assert_true(i.domain.mean < 0.01);
    unit_assert_near(i.domain.documents, 2, 1e-9); // another name for each domain
    unit_assert_near(i.domain.documents_deviation, 0, 1e-9);
    unit_assert_near(i.given_token.documents, i.given_token.value, 1e-9);
    for (uint32_t t = 0; t < s.tokens; t++) document[t] = t % 400; // 100 of each domain
    i = routing_information(&s, 20, 5);
    // (rows - 1)(columns - 1) / (2 documents ln 2) = 0.016 bits, ten times that of positions
    unit_assert_near(i.domain.documents, 9 / (2 * 400 * log(2)), 0.006);
    assert_true(i.domain.documents > 5 * i.domain.mean && i.domain.documents_deviation > 0);
    free(document);
    free((void *)s.picks);
}

static void saturation_and_co_activation_by_hand(void **state)
{
    (void)state;
    static const uint32_t first[] = {0, 1, 2, 3, 1, 0, 9, 2}, last[] = {0, 1, 3, 1, 0, 9, 1, 9};
    static const uint32_t zero[4] = {0};
    const struct routing_sample a = {4, 2, 4, 1, first, zero, zero, NULL};
    const struct routing_sample b = {4, 2, 4, 1, last, zero, zero, NULL};
    unit_assert_near(routing_saturation(&a, &b), 4.0 / 6, 1e-12); // 2 of 2, 1 of 2, 1 of 1, 0 of 1
    unit_assert_near(routing_saturation(&b, &b), 1, 1e-12);
    double together[9], counts[4];
    static const uint32_t shown[] = {1, 0, 3};
    routing_together(&a, shown, 3, together);
    static const double wanted[] = {0, 1, 0, 1, 0, 0, 0, 0, 0}; // 2, beside 3, is not shown
    for (int i = 0; i < 9; i++) unit_assert_near(together[i], wanted[i], 1e-12);
    routing_counts(&a, counts, NULL);
    assert_true(counts[0] == 2 && counts[1] == 2 && counts[2] == 2 && counts[3] == 1);
}

// ---- from step to step

static struct config make_config(uint32_t experts, uint32_t top_k)
{
    struct config c = {.num_experts = experts, .num_hidden_layers = 3, .batch_size = 2,
                       .seq_len = 16, .gradient_accumulation_steps = 1, .steps = 100,
                       .alarm_steps = 3, .alarm_share = 0.9,
                       .alarm_entropy = 0.1};
    c.moe_layer[1] = c.moe_layer[2] = true;
    c.layer_router[1].top_k = c.layer_router[2].top_k = top_k;
    return c;
}

static struct metrics_layer observe(struct routing *r, uint32_t step, uint32_t index,
                                    const float *counts, uint32_t experts, double tokens)
{
    struct metrics_layer layer;
    metrics_layer_fill(&layer, index + 1, counts, experts, 0, 0);
    routing_observe(r, &(struct routing_step){.step = step, .index = index, .tokens = tokens},
                    &layer);
    return layer;
}

static const float even4[] = {8, 8, 8, 8}, one4[] = {0, 0, 32, 0}, most4[] = {1, 1, 30, 0};

static void the_alarm_is_told_once_and_again_after_recovery(void **state)
{
    (void)state;
    const struct config c = make_config(4, 1);
    struct routing *r = routing_create(&c);
    uint32_t step = 0;
    for (int i = 0; i < 2; i++) observe(r, ++step, 1, one4, 4, 32);
    unit_assert_silent(); // two in a row are not three
    assert_true(observe(r, ++step, 1, one4, 4, 32).alarm);
    unit_assert_line("layer 2, step 3", "expert 2 takes 100 %");
    for (int i = 0; i < 5; i++) assert_false(observe(r, ++step, 1, most4, 4, 32).alarm);
    observe(r, ++step, 1, even4, 4, 32);
    for (int i = 0; i < 5; i++) observe(r, ++step, 1, one4, 4, 32);
    unit_assert_silent(); // one good step is no recovery
    for (int i = 0; i < 3; i++) observe(r, ++step, 1, even4, 4, 32);
    for (int i = 0; i < 3; i++) observe(r, ++step, 1, one4, 4, 32);
    unit_assert_line("layer 2", "3 steps in a row");
    for (int i = 0; i < 9; i++) observe(r, ++step, 0, even4, 4, 32); // another layer
    unit_assert_silent();
    routing_destroy(&r);
}

static void the_alarm_knows_what_k_experts_allow(void **state)
{
    (void)state;
    const struct config c = make_config(8, 2);
    static const float two[] = {0, 16, 0, 0, 0, 16, 0, 0}; // all tokens take the same two
    static const float fair[] = {16, 3, 3, 2, 2, 2, 2, 2}, spread[] = {4, 4, 4, 4, 4, 4, 4, 4};
    struct routing *r = routing_create(&c);
    for (uint32_t step = 1; step <= 3; step++) observe(r, step, 0, two, 8, 16);
    unit_assert_line("layer 1, step 3", "expert 1 takes 100 % of the tokens (even: 25 %)");
    for (uint32_t step = 1; step <= 3; step++) observe(r, step, 1, fair, 8, 16);
    unit_assert_line("layer 2, step 3", "expert 0"); // one is in every token
    routing_destroy(&r);
    // a threshold that lets nearly all through: one expert in every token is nothing to tell
    static const float most[] = {16, 15, 15, 14, 16, 15, 13, 16};
    const struct config few = make_config(8, 8), two_only = make_config(2, 1);
    r = routing_create(&few);
    for (uint32_t step = 1; step <= 9; step++) observe(r, step, 0, most, 8, 16);
    unit_assert_silent();
    routing_destroy(&r);
    static const float one[] = {97, 3}; // of two experts even one of top-1 is
    r = routing_create(&two_only);
    for (uint32_t step = 1; step <= 3; step++) observe(r, step, 0, one, 2, 100);
    unit_assert_line("layer 1, step 3", "expert 0 takes 97 %");
    routing_destroy(&r);
    const struct config dense = make_config(8, 8); // everybody takes all: nothing to tell
    r = routing_create(&dense);
    for (uint32_t step = 1; step <= 9; step++) observe(r, step, 0, spread, 8, 4);
    unit_assert_silent();
    routing_destroy(&r);
}

static void a_resumed_run_knows_what_it_knew(void **state)
{
    (void)state;
    const struct config c = make_config(12, 1), other = make_config(20, 1);
    static const float a[12] = {[3] = 30, [9] = 2}, b[12] = {[3] = 31, [11] = 1};
    struct routing *r = routing_create(&c), *again = routing_create(&c);
    observe(r, 1, 0, a, 12, 32);
    assert_int_equal(observe(r, 2, 0, b, 12, 32).used, 3);
    char *text = routing_print(r);
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    assert_true(routing_parse(again, json));
    char *second = routing_print(again);
    assert_string_equal(text, second);
    const struct metrics_layer layer = observe(again, 3, 0, b, 12, 32);
    assert_true(layer.used == 3 && layer.alarm);
    unit_assert_line("layer 1, step 3", "expert 3");
    struct routing *wrong = routing_create(&other);
    assert_false(routing_parse(wrong, json));
    unit_assert_silent();
    routing_destroy(&wrong);
    routing_destroy(&r);
    routing_destroy(&again);
    cJSON_Delete(json);
    free(text), free(second);
}

static void experts_taken_together_are_counted(void **state)
{
    (void)state;
    const struct config c = make_config(300, 3);
    static const uint32_t picks[] = {7, 250, 299, 250, 7, 1, 300, 7, 250, 1, 2, 3};
    float counts[300] = {[7] = 3, [250] = 3, [299] = 1, [1] = 2, [2] = 1, [3] = 1};
    struct routing *r = routing_create(&c);
    struct metrics_layer layer;
    metrics_layer_fill(&layer, 1, counts, 300, 0, 0);
    routing_observe(r, &(struct routing_step){.step = 1, .tokens = 4, .picks = picks,
                                              .pick_tokens = 4}, &layer);
    assert_int_equal(layer.pairs, METRICS_PAIRS);
    assert_true(layer.pair[0].low == 7 && layer.pair[0].high == 250);
    unit_assert_near(layer.pair[0].share, 0.75, 1e-12);
    assert_true(layer.pair[1].low == 1 && layer.pair[1].high == 2); // the lower ids first
    unit_assert_near(layer.pair[1].share, 0.25, 1e-12);

    // more experts than a line lists: the largest, and how many had how much
    struct metrics *metrics = metrics_open(unit_path("m.jsonl"), 0);
    assert_true(metrics_write_step(metrics, &(struct metrics_step){.step = 1}, &layer, 1));
    metrics_close(&metrics);
    char *text = unit_read(unit_path("m.jsonl"), NULL);
    assert_null(strstr(text, "\"load\""));
    assert_non_null(strstr(text, "\"load_top\": [[7, 81.82], [250, 81.82], [1, 54.55], "
                                 "[2, 27.27]"));
    assert_non_null(strstr(text, "\"load_histogram\": [294, 3, 3]"));
    assert_non_null(strstr(text, "\"together\": [[7, 250, 0.75], [1, 2, 0.25]"));
    assert_non_null(strstr(text, "\"used\": 6, \"kept\": 11,"));
    free(text);
    routing_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_perfect_assignment_has_all_bits),
        UNIT(an_independent_assignment_has_none),
        UNIT(a_router_that_knows_the_token_only_is_told_from_one_that_knows_more),
        UNIT(a_document_is_told_from_its_domain),
        UNIT(saturation_and_co_activation_by_hand),
        UNIT(the_alarm_is_told_once_and_again_after_recovery),
        UNIT(the_alarm_knows_what_k_experts_allow),
        UNIT(a_resumed_run_knows_what_it_knew),
        UNIT(experts_taken_together_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
