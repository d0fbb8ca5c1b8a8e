// SPDX-License-Identifier: MIT
// Cases of the optimizers and of what stands before them: the norm of the gradients, which experts
// had a token and where they move to.
#include "src/codes.h"
#include "src/kernel_case_fill.h"

static void grad_norm(struct kernel_case *c)
{
    PUSH(c, push_sum, .count = 309, .index = 1, .block = 128);
    numbers(c, 0, DTYPE_F32, 309);
    numbers(c, 1, DTYPE_F32, 4);
}

static void expert_norm(struct kernel_case *c)
{
    static const uint32_t places[] = {1, 3, KERNEL_NONE_ID, 7, 0};
    PUSH(c, push_expert_norm, .count = 308, .block = 128, .matrices = 4, .mapped = 1, .index = 1);
    numbers(c, 0, DTYPE_F32, 4 * 308);
    memcpy(words(c, 1, 5), places, sizeof places);
    numbers(c, 2, DTYPE_F32, 12);
}

static void expert_moves(struct kernel_case *c)
{
    static const uint32_t moves[] = {5, 0, 9, 7}, places[] = {3, KERNEL_NONE_ID, 0, 1, 2};
    PUSH(c, push_count, .count = 5);
    memcpy(words(c, 0, 4), moves, sizeof moves);
    memcpy(words(c, 1, 5), places, sizeof places);
    output(c, 2, DTYPE_U32, 5);
}

static void grad_clip(struct kernel_case *c)
{
    PUSH(c, push_sum, .count = 37);
    step(c, 0, &(struct step_words){.unscale = 0.5f, .max_grad_norm = 1});
    positive(c, 1, DTYPE_F32, 37);
    output(c, 2, DTYPE_F32, 4);
}

static void expert_touch(struct kernel_case *c)
{
    static const uint32_t offsets[] = {0, 0, 3, 3, 4, 9, 9}, touched[] = {0, 0, 0, 1, 0, 1};
    PUSH(c, push_count, .count = 6);
    memcpy(words(c, 0, 7), offsets, sizeof offsets);
    memcpy(words(c, 1, 6), touched, sizeof touched);
}

static void expert_steps(struct kernel_case *c)
{
    PUSH(c, push_expert_steps, .count = 37);
    step(c, 0, &(struct step_words){.step = 9});
    positive(c, 1, DTYPE_F32, 4);
    words_below(c, 2, 37, 9);
    words_below(c, 3, 37, 2);
}

// Two layers of two stacks of three matrices each; expert 1 of the second layer does not move.
static const uint32_t optimizer_moves[] = {3, 1, 7, 99, 5, 0, 2, 99};

static void optimizer(struct kernel_case *c, uint32_t moves_at)
{
    PUSH(c, push_optimizer, .count = 137, .matrices = 11, .first = 1, .experts = 3, .per_layer = 6,
         .stride = 4, .copy = 1, .nesterov = 1, .rate = 0.5f, .weight_decay = 0.1f, .beta1 = 0.9f,
         .beta2 = 0.99f, .eps = 1e-6f, .log_beta1 = kernel_log_beta(0.9),
         .log_beta2 = kernel_log_beta(0.99));
    memcpy(words(c, moves_at, 8), optimizer_moves, sizeof optimizer_moves);
}

static void adamw(struct kernel_case *c)
{
    enum { ALL = 11 * 137 };
    optimizer(c, 7);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4); // norm: a factor, and finite
    for (uint32_t b = 2; b < 5; b++) numbers(c, b, DTYPE_F32, ALL);
    positive(c, 5, DTYPE_F32, ALL);
    output(c, 6, KERNEL_CASE_STORE, ALL);
}

enum { CODES_COUNT = 301, CODES_PARTS = 7 };

// Two records a part, the second one for the rest; one is in front.
static void codes(struct kernel_case *c, uint32_t b)
{
    enum { BLOCKS = 2 * CODES_PARTS + 1 };
    uint32_t *record = words(c, b, BLOCKS * CODES_WORDS);
    c->binding[b].records = true;
    for (uint32_t i = 0; i < BLOCKS; i++, record += CODES_WORDS) {
        const float factor[4] = {0.5f + 0.1f * (float)i, 0.1f, 0, 0};
        const uint32_t used = i & 1 ? CODES_ELEMENTS : CODES_COUNT - CODES_ELEMENTS;
        for (uint32_t e = 0; e < 2 * CODES_ELEMENTS; e++)
            if (e % CODES_ELEMENTS < used) // 0 behind them
                record[e / 4] |= (uint32_t)rng_below(7, 4, i * 512 + e, 256) << 8 * (e % 4);
        memcpy(record + CODES_FACTOR, factor, sizeof factor);
    }
}

static struct push_optimizer codes_push(void)
{
    return (struct push_optimizer){
        .count = CODES_COUNT, .matrices = CODES_PARTS, .first = 1, .experts = 3, .per_layer = 6,
        .stride = 4, .copy = 1, .rate = 0.5f, .weight_decay = 0.1f, .beta1 = 0.9f, .beta2 = 0.99f,
        .eps = 1e-6f, .log_beta1 = kernel_log_beta(0.9), .log_beta2 = kernel_log_beta(0.99)};
}

static void adamw_8bit(struct kernel_case *c)
{
    PUSH(c, push_adamw_8bit, .record = 1, .each = codes_push());
    memcpy(words(c, 6, 8), optimizer_moves, sizeof optimizer_moves);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 4; b++) numbers(c, b, DTYPE_F32, CODES_COUNT * CODES_PARTS);
    codes(c, 4);
    output(c, 5, KERNEL_CASE_STORE, CODES_COUNT * CODES_PARTS);
}

static void adamw_stochastic(struct kernel_case *c)
{
    enum { ALL = 11 * 137 };
    struct push_optimizer each;
    optimizer(c, 6);
    memcpy(&each, c->push, sizeof each);
    PUSH(c, push_adamw_stochastic, .each = each, .draw = 5);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f, .seed_low = 9});
    positive(c, 1, DTYPE_F32, 4);
    numbers(c, 2, KERNEL_CASE_STORE, ALL);
    for (uint32_t b = 3; b < 5; b++) numbers(c, b, DTYPE_F32, ALL);
    positive(c, 5, DTYPE_F32, ALL);
    words(c, 7, 1);
}

static void adamw_8bit_stochastic(struct kernel_case *c)
{
    PUSH(c, push_adamw_stochastic, .record = 1, .mapped = 1, .each = codes_push());
    memcpy(words(c, 5, 8), optimizer_moves, sizeof optimizer_moves);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f, .seed_low = 9});
    positive(c, 1, DTYPE_F32, 4);
    numbers(c, 2, KERNEL_CASE_STORE, CODES_COUNT * CODES_PARTS);
    numbers(c, 3, DTYPE_F32, CODES_COUNT * CODES_PARTS);
    codes(c, 4);
    words_below(c, 6, CODES_PARTS + 1, 1 << 20);
}

static void average(struct kernel_case *c)
{
    PUSH(c, push_count, .count = 1003);
    step(c, 0, &(struct step_words){.average = 0.25f});
    numbers(c, 1, DTYPE_F32, 1003);
    numbers(c, 2, DTYPE_F32, 1003);
}

static void sgd(struct kernel_case *c)
{
    enum { ALL = 11 * 137 };
    optimizer(c, 6);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 5; b++) numbers(c, b, DTYPE_F32, ALL);
    output(c, 5, KERNEL_CASE_STORE, ALL);
}

// Seven matrices of 13 x 13 of the same layers.
enum { MUON_ALL = 7 * 169 };

static void muon(struct kernel_case *c, uint32_t moves_at)
{
    PUSH(c, push_muon,
         .each = {.count = 169, .matrices = 7, .first = 2, .experts = 3, .per_layer = 6,
                  .stride = 4, .copy = 1, .nesterov = 1, .rate = 0.5f, .weight_decay = 0.1f,
                  .beta1 = 0.9f, .scale = 1.5f},
         .rows = 13, .tile_rows = 4, .columns = 5, .row_groups = 3);
    memcpy(words(c, moves_at, 8), optimizer_moves, sizeof optimizer_moves);
}

static void muon_momentum(struct kernel_case *c)
{
    muon(c, 3);
    positive(c, 0, DTYPE_F32, 4);
    for (uint32_t b = 1; b < 3; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
    output(c, 4, DTYPE_F32, MUON_ALL);
    output(c, 5, DTYPE_F32, 7);
}

static void muon_scale(struct kernel_case *c)
{
    muon(c, 1);
    positive(c, 0, DTYPE_F32, 7);
    numbers(c, 2, DTYPE_F32, MUON_ALL);
}

static void muon_tables(struct kernel_case *c)
{
    muon(c, 0);
    output(c, 1, DTYPE_U32, 29 * 4);
    output(c, 2, DTYPE_U32, 8 * 4);
    output(c, 3, DTYPE_U32, 8);
}

static void muon_mix(struct kernel_case *c)
{
    muon(c, 0);
    for (uint32_t b = 1; b < 3; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
}

static void muon_update(struct kernel_case *c)
{
    muon(c, 5);
    step(c, 0, &(struct step_words){.learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 4; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
    output(c, 4, KERNEL_CASE_STORE, MUON_ALL);
}

// ----

kernel_case_fn *kernel_case_optimizer(enum kernel_op op)
{
    static kernel_case_fn *const fills[KERNEL_COUNT] = {
        [KERNEL_GRAD_NORM] = grad_norm,
        [KERNEL_GRAD_CLIP] = grad_clip,
        [KERNEL_EXPERT_NORM] = expert_norm,
        [KERNEL_EXPERT_MOVES] = expert_moves,
        [KERNEL_EXPERT_TOUCH] = expert_touch,
        [KERNEL_EXPERT_STEPS] = expert_steps,
        [KERNEL_ADAMW] = adamw,
        [KERNEL_ADAMW_8BIT] = adamw_8bit,
        [KERNEL_ADAMW_STOCHASTIC] = adamw_stochastic,
        [KERNEL_ADAMW_8BIT_STOCHASTIC] = adamw_8bit_stochastic,
        [KERNEL_AVERAGE] = average,
        [KERNEL_SGD] = sgd,
        [KERNEL_MUON_MOMENTUM] = muon_momentum,
        [KERNEL_MUON_SCALE] = muon_scale,
        [KERNEL_MUON_TABLES] = muon_tables,
        [KERNEL_MUON_MIX] = muon_mix,
        [KERNEL_MUON_UPDATE] = muon_update,
    };
    return fills[op];
}
