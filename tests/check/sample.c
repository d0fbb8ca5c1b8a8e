// SPDX-License-Identifier: MIT
// Check of sample: greedy, temperature, top-k, top-p, penalty, ties, vocabularies from 2 to 50,257.
// The token must lie where the exact distribution has the number that is drawn; and over many seeds
// the frequencies must be those of the distribution (chi-square).
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "src/ref/ref.h"

enum logit_kind { LOGITS_NORMAL, LOGITS_EQUAL, LOGITS_FEW, LOGITS_PEAK, LOGITS_KINDS };

struct sample_case {
    struct step_words step;
    uint32_t          vocab;
    float            *logits;
    uint32_t         *seen;
};

static float logit(struct check *t, enum logit_kind kind, uint64_t stream, uint32_t i)
{
    const float x = 3 * (float)rng_normal(t->seed, stream, i);
    switch (kind) {
    case LOGITS_NORMAL: break;
    case LOGITS_EQUAL: return -0.5f;
    case LOGITS_FEW: return roundf(x);
    case LOGITS_PEAK: return i % 17 == 3 ? 1e4f : x - 1e4f;
    case LOGITS_KINDS: break;
    }
    return x;
}

static struct sample_case case_create(struct check *t, uint32_t vocab, enum logit_kind kind)
{
    struct sample_case c = {.vocab = vocab, .logits = malloc(vocab * sizeof(float)),
                            .seen = malloc(vocab * sizeof(uint32_t))};
    const uint64_t stream = t->stream++;
    for (uint32_t i = 0; i < vocab; i++) {
        c.logits[i] = logit(t, kind, stream, i);
        c.seen[i] = rng_below(t->seed, stream + 5555, i, 4) == 0;
    }
    c.step = (struct step_words){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    return c;
}

static void case_free(struct sample_case *c)
{
    free(c->logits), free(c->seen);
}

// Runs the device; returns the token, KERNEL_NONE_ID on failure.
static uint32_t device_token(struct check *t, const struct sample_case *c)
{
    check_begin(t, KERNEL_SAMPLE, 0, "V %u T %g k %u p %g penalty %g seed %u base %u", c->vocab,
                (double)c->step.temperature, c->step.top_k, (double)c->step.top_p,
                (double)c->step.repetition_penalty, c->step.seed_low, c->step.base);
    check_step(t, 0, &c->step);
    check_words(t, 1, (const uint32_t *)c->logits, c->vocab);
    check_words(t, 2, c->seen, c->vocab);
    check_output(t, 3, DTYPE_U32, 2);
    if (!check_run_only(t, &(struct push_loss){1, c->vocab, 0, 0})) return KERNEL_NONE_ID;
    const uint32_t *token = check_result(t, 3), *seen = check_result(t, 2);
    if (token[0] >= c->vocab || token[1] != 0) {
        check_fail(t, "token %u, %u", token[0], token[1]);
        return KERNEL_NONE_ID;
    }
    for (uint32_t i = 0; i < c->vocab; i++)
        if (seen[i] != (i == token[0] ? 1 : c->seen[i]))
            check_fail(t, "seen[%u] is %u", i, seen[i]);
    return token[0];
}

// One case; `slack`: how far from the exact distribution function the drawn number may lie.
static void compare_token(struct check *t, const struct sample_case *c, double slack)
{
    const uint32_t id = device_token(t, c);
    if (id == KERNEL_NONE_ID) return;
    double *prob = malloc(c->vocab * sizeof *prob);
    ref_sample_probabilities(&c->step, c->logits, c->seen, c->vocab, prob);
    const double u = (double)ref_sample_unit(&c->step);
    double below = 0;
    for (uint32_t i = 0; i < id; i++) below += prob[i];
    // with many tokens the last of a top-p prefix is within rounding
    const bool kept = prob[id] > 0 || slack > 1e-5;
    if (!kept || u < below - slack || u > below + prob[id] + slack)
        check_fail(t, "token %u has [%.7g, %.7g], drawn %.7g", id, below, below + prob[id], u);
    free(prob);
}

static void settings(struct check *t, uint32_t vocab, enum logit_kind kind)
{
    static const struct { float temperature; uint32_t top_k; float top_p, penalty; } set[] = {
        {0, 0, 1, 1},      {0, 7, 0.5f, 1.7f}, {1, 0, 1, 1},        {0.7f, 0, 1, 1.3f},
        {1, 1, 1, 1},      {1.5f, 3, 1, 1},    {1, 40, 1, 1.1f},    {1, 0, 0.9001f, 1},
        {1, 0, 0, 1},      {2.5f, 0, 0.3003f, 1.3f}, {0.9f, 20, 0.8002f, 1},
    };
    for (size_t i = 0; i < COUNT_OF(set); i++) {
        struct sample_case c = case_create(t, vocab, kind);
        c.step.temperature = set[i].temperature, c.step.top_k = set[i].top_k;
        c.step.top_p = set[i].top_p, c.step.repetition_penalty = set[i].penalty;
        c.step.seed_low = (uint32_t)check_random(t, 1u << 31), c.step.seed_high = (uint32_t)i;
        c.step.base = (uint32_t)check_random(t, 5000);
        compare_token(t, &c, vocab > 1000 && c.step.top_p < 1 ? 2e-4 : 1e-5);
        case_free(&c);
    }
}

// Equal logits of 2^15 tokens: the token is the first 15 bits of the number drawn, so host and
// device agree on it.
static void same_number(struct check *t)
{
    struct sample_case c = case_create(t, 1u << 15, LOGITS_EQUAL);
    for (uint32_t i = 0; i < 5; i++) {
        c.step.base = i * 1000 + 1;
        c.step.seed_low = 0xfffffff0u + i, c.step.seed_high = i;
        const uint32_t id = device_token(t, &c),
                       want = (uint32_t)((double)ref_sample_unit(&c.step) * (1u << 15));
        if (id != want) check_fail(t, "token %u, the number drawn says %u", id, want);
    }
    case_free(&c);
}

// Ties: top-k keeps exactly k, the lowest ids; greedy takes the lowest id.
static void ties(struct check *t)
{
    struct sample_case c = case_create(t, 1000, LOGITS_EQUAL);
    c.step.top_k = 37;
    uint32_t highest = 0;
    for (c.step.base = 0; c.step.base < 40; c.step.base++)
        highest = max_u32(highest, device_token(t, &c));
    if (highest >= 37 || highest < 30)
        check_fail(t, "of 37 kept ties the highest drawn is %u", highest);
    c.step.top_p = 0.5f; // half of 37 equal ones: 19
    for (c.step.base = 0, highest = 0; c.step.base < 40; c.step.base++)
        highest = max_u32(highest, device_token(t, &c));
    if (highest >= 19 || highest < 15)
        check_fail(t, "of 19 kept ties the highest drawn is %u", highest);
    c.step.temperature = 0;
    if (device_token(t, &c) != 0) check_fail(t, "greedy does not take the lowest id");
    case_free(&c);
}

static void not_a_number(struct check *t)
{
    struct sample_case c = case_create(t, 100, LOGITS_NORMAL);
    c.step.top_k = 5, c.step.top_p = 0.9f;
    for (int i = 0; i < 50; i++) c.logits[i * 2] = NAN;
    if (device_token(t, &c) % 2 == 0) check_fail(t, "a token whose logit is NaN was drawn");
    for (int i = 0; i < 100; i++) c.logits[i] = NAN;
    device_token(t, &c);
    case_free(&c);
}

static double chi_square(const uint32_t *drawn, const double *prob, uint32_t vocab, uint32_t draws)
{
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (prob[i] <= 0) {
            if (drawn[i]) return INFINITY;
            continue;
        }
        const double want = prob[i] * draws;
        sum += (drawn[i] - want) * (drawn[i] - want) / want;
    }
    return sum;
}

static void frequencies(struct check *t)
{
    enum { VOCAB = 12, DEVICE_DRAWS = 300, HOST_DRAWS = 50000 };
    struct sample_case c = case_create(t, VOCAB, LOGITS_NORMAL);
    for (int i = 0; i < VOCAB; i++) c.logits[i] *= 0.3f;
    c.step.temperature = 0.8f, c.step.top_k = 9, c.step.top_p = 0.95f,
    c.step.repetition_penalty = 1.3f;
    double prob[VOCAB];
    ref_sample_probabilities(&c.step, c.logits, c.seen, VOCAB, prob);
    uint32_t device[VOCAB] = {0}, host[VOCAB] = {0};
    for (uint32_t i = 0; i < DEVICE_DRAWS; i++) {
        c.step.seed_low = i % 20, c.step.base = i / 20;
        const uint32_t id = device_token(t, &c);
        if (id == KERNEL_NONE_ID) break;
        device[id]++;
    }
    for (uint32_t i = 0; i < HOST_DRAWS; i++) {
        uint32_t seen[VOCAB], token[2];
        memcpy(seen, c.seen, sizeof seen);
        c.step.seed_low = i % 50, c.step.base = 1000 + i / 50;
        const struct push_loss push = {1, VOCAB, 0};
        ref_sample(
            &(struct gpu_ref_call){.buffer = {&c.step, c.logits, seen, token}, .push = &push});
        host[token[0]]++;
    }
    // 8 degrees of freedom: 32 is exceeded once in ten thousand
    const double on_device = chi_square(device, prob, VOCAB, DEVICE_DRAWS);
    const double on_host = chi_square(host, prob, VOCAB, HOST_DRAWS);
    if (on_device > 32 || on_host > 32)
        check_fail(t, "chi-square %.1f on the device, %.1f on the host", on_device, on_host);
    case_free(&c);
}

void check_sample(struct check *t)
{
    static const uint32_t vocab[] = {2, 3, 31, 32, 33, 257, 1000, 32000, 50257};
    for (size_t i = 0; i < COUNT_OF(vocab); i++)
        for (int kind = vocab[i] > 40000 ? LOGITS_FEW : 0; kind < LOGITS_KINDS; kind++)
            settings(t, vocab[i], (enum logit_kind)kind);
    same_number(t);
    ties(t);
    not_a_number(t);
    frequencies(t);
}
