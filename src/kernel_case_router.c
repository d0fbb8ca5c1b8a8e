// SPDX-License-Identifier: MIT
// Cases of the routers, of the expert sort and of what else has pairs: few tokens, an expert that
// has none.
#include "src/kernel_case_fill.h"
#include "src/ref/ref.h"

enum { TOKENS = 9, EXPERTS = 5, PICKS = 2, PAIRS = TOKENS * PICKS };

static void router_push(struct kernel_case *c)
{
    PUSH(c, push_router, .tokens = TOKENS, .experts = EXPERTS, .top_k = PICKS, .renormalise = 1,
         .inv_temperature = 0.5f, .scale = 1.5f, .z_coef = 0.01f, .entropy_coef = 0.1f,
         .z_square_coef = 0.1f);
}

// Experts of the pairs: 0 to 3, so that one has no token. Picks of a token differ.
static void picks(uint32_t *ids)
{
    for (uint32_t p = 0; p < PAIRS; p++) ids[p] = p % PICKS == 0 ? p % 3 : 3;
}

static void offsets(uint32_t *at)
{
    uint32_t ids[PAIRS];
    picks(ids);
    for (uint32_t e = 0; e <= EXPERTS; e++) {
        at[e] = 0;
        for (uint32_t p = 0; p < PAIRS; p++) at[e] += ids[p] < e;
    }
}

static void router(struct kernel_case *c)
{
    router_push(c);
    numbers(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 1, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 2, DTYPE_U32, PAIRS);
    output(c, 3, DTYPE_F32, PAIRS);
    output(c, 4, DTYPE_F32, TOKENS);
}

static void router_score(struct kernel_case *c)
{
    router_push(c);
    numbers(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 1, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 2, DTYPE_F32, TOKENS);
}

static void router_choice(struct kernel_case *c)
{
    PUSH(c, push_router, .tokens = 3, .experts = 12, .biased = 1, .groups = 4, .group_picks = 2);
    positive(c, 0, DTYPE_F32, 3 * 12);
    numbers(c, 1, KERNEL_CASE_STORE, 12);
    output(c, 2, DTYPE_F32, 3 * 12);
}

static void router_pick(struct kernel_case *c)
{
    PUSH(c, push_router, .tokens = TOKENS, .experts = EXPERTS, .top_k = 3, .renormalise = 1,
         .pick = PICK_MASS, .least = 1, .limit = 0.9f, .scale = 2);
    numbers(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    positive(c, 1, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 2, DTYPE_U32, TOKENS * 3);
    output(c, 3, DTYPE_F32, TOKENS * 3);
}

static void router_back(struct kernel_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    picks(words(c, 1, PAIRS));
    numbers(c, 2, DTYPE_F32, PAIRS);
    numbers(c, 3, DTYPE_F32, TOKENS);
    numbers(c, 4, DTYPE_F32, 2 * EXPERTS);
    step(c, 5, &(struct step_words){.aux_scale = 0.5f});
    numbers(c, 6, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 7, KERNEL_CASE_STORE, TOKENS * EXPERTS);
}

static void router_stats(struct kernel_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    offsets(words(c, 1, EXPERTS + 1));
    numbers(c, 2, DTYPE_F32, TOKENS);
    numbers(c, 3, DTYPE_F32, TOKENS * EXPERTS);
    numbers(c, 4, DTYPE_F32, ROUTER_STATS_HEAD + 3 * EXPERTS);
    output(c, 5, DTYPE_F32, EXPERTS);
}

static void router_entropy(struct kernel_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    numbers(c, 1, DTYPE_F32, TOKENS);
    output(c, 2, DTYPE_F32, TOKENS);
}

// Rows of three domains of EXPERTS experts: 4, none, and the rest.
static void rows_base(uint32_t *base)
{
    for (uint32_t i = 0; i < TOKENS; i++) base[i] = i < 4 ? 0 : 2 * EXPERTS;
}

static void router_back_within(struct kernel_case *c)
{
    PUSH(c, push_router, .tokens = TOKENS, .experts = EXPERTS, .top_k = PICKS, .renormalise = 1,
         .inv_temperature = 0.5f, .scale = 1.5f, .z_coef = 0.01f, .entropy_coef = 0.1f);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    picks(words(c, 1, PAIRS));
    numbers(c, 2, DTYPE_F32, PAIRS);
    numbers(c, 3, DTYPE_F32, TOKENS);
    numbers(c, 4, DTYPE_F32, 3 * EXPERTS);
    step(c, 5, &(struct step_words){.aux_scale = 0.5f});
    rows_base(words(c, 6, TOKENS));
    output(c, 7, KERNEL_CASE_STORE, TOKENS * EXPERTS);
}

static void router_stats_within(struct kernel_case *c)
{
    PUSH(c, push_router, .tokens = TOKENS, .experts = EXPERTS, .inv_temperature = 1, .domains = 3);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    for (uint32_t i = 0, *at = words(c, 1, 3 * EXPERTS + 1); i <= 3 * EXPERTS; i++) at[i] = i / 2;
    uint32_t *begin = words(c, 2, 4);
    begin[0] = 0, begin[1] = begin[2] = 4, begin[3] = TOKENS;
    numbers(c, 3, DTYPE_F32, ROUTER_STATS_HEAD + 9 * EXPERTS);
    output(c, 4, DTYPE_F32, 3 * EXPERTS);
}

static void turned(uint32_t *inverse)
{
    for (uint32_t p = 0; p < PAIRS; p++) inverse[p] = PAIRS - 1 - p;
}

static void router_base(struct kernel_case *c)
{
    PUSH(c, push_router_join, .pairs = PAIRS, .picks = 1, .size = 7);
    picks(words(c, 0, PAIRS));
    turned(words(c, 1, PAIRS));
    output(c, 2, DTYPE_U32, PAIRS);
}

static void router_join(struct kernel_case *c)
{
    PUSH(c, push_router_join, .pairs = PAIRS, .picks = 2, .size = 7);
    positive(c, 0, DTYPE_F32, PAIRS);
    turned(words(c, 1, PAIRS));
    words_below(c, 2, PAIRS, 50);
    words_below(c, 3, 2 * PAIRS, 7);
    ((uint32_t *)(void *)c->binding[3].data)[5] = KERNEL_NONE_ID;
    positive(c, 4, DTYPE_F32, 2 * PAIRS);
    output(c, 5, DTYPE_U32, 2 * PAIRS);
    output(c, 6, DTYPE_F32, 2 * PAIRS);
}

static void router_join_back(struct kernel_case *c)
{
    PUSH(c, push_router_join, .pairs = PAIRS, .picks = 2, .size = 7);
    positive(c, 0, DTYPE_F32, PAIRS);
    turned(words(c, 1, PAIRS));
    positive(c, 2, DTYPE_F32, 2 * PAIRS);
    numbers(c, 3, DTYPE_F32, 2 * PAIRS);
    output(c, 4, DTYPE_F32, PAIRS);
    output(c, 5, DTYPE_F32, 2 * PAIRS);
}

static void router_gates(struct kernel_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, PAIRS);
    offsets(words(c, 1, EXPERTS + 1));
    uint32_t *order = words(c, 2, PAIRS);
    for (uint32_t i = 0; i < PAIRS; i++) order[i] = PAIRS - 1 - i;
    output(c, 3, DTYPE_F32, EXPERTS);
}

static void router_losses(struct kernel_case *c)
{
    PUSH(c, push_router_losses, .tokens = TOKENS, .experts = EXPERTS, .count = 1, .global = 1,
         .balance_coef = 0.1f, .variance_coef = 3, .mean_entropy_coef = 0.2f,
         .importance_coef = 0.3f);
    numbers(c, 0, DTYPE_F32, TOKENS);
    positive(c, 1, DTYPE_F32, EXPERTS);
    positive(c, 2, DTYPE_F32, EXPERTS);
    offsets(words(c, 3, EXPERTS + 1));
    positive(c, 4, DTYPE_F32, ROUTER_STATS_HEAD + 3 * EXPERTS);
    output(c, 5, DTYPE_F32, 2 * EXPERTS);
    positive(c, 6, DTYPE_F32, TOKENS);
}

static void router_pool(struct kernel_case *c)
{
    PUSH(c, push_router_pool, .tokens = TOKENS, .experts = EXPERTS, .layers = 3, .stride = 37,
         .layer = 1, .coef = 0.5f);
    positive(c, 0, DTYPE_F32, 3 * 37);
    numbers(c, 1, DTYPE_F32, 2 * EXPERTS);
}

static void router_bias(struct kernel_case *c)
{
    PUSH(c, push_router_bias, .experts = EXPERTS, .copy = 1, .speed = 0.01f);
    positive(c, 0, DTYPE_F32, ROUTER_STATS_HEAD + 3 * EXPERTS);
    positive(c, 1, DTYPE_F32, 4);
    numbers(c, 2, DTYPE_F32, EXPERTS);
    output(c, 3, KERNEL_CASE_STORE, EXPERTS);
}

static void router_bias_stochastic(struct kernel_case *c)
{
    PUSH(c, push_router_bias_stochastic, .experts = EXPERTS, .draw = 3, .speed = 0.01f);
    step(c, 0, &(struct step_words){.step = 3, .seed_low = 9});
    positive(c, 1, DTYPE_F32, ROUTER_STATS_HEAD + 3 * EXPERTS);
    positive(c, 2, DTYPE_F32, 4);
    numbers(c, 3, KERNEL_CASE_STORE, EXPERTS);
}

static const struct push_moe_sort sort = {.pairs = PAIRS, .experts = EXPERTS, .block = 7,
                                          .blocks = 3, .slices = 1, .tile_rows = 4,
                                          .max_tiles = 9, .columns = {1, 2, 3, 4, 5, 6},
                                          .rows = {7, 8}};

static void moe_count(struct kernel_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    picks(words(c, 0, PAIRS));
    output(c, 1, DTYPE_U32, 3 * EXPERTS);
    words(c, 2, EXPERTS);
}

// counts of the sort, or where each block's pairs go
static void block_counts(uint32_t *counts, bool scanned)
{
    uint32_t ids[PAIRS], at[EXPERTS + 1], tiles[10][4], ranges[PAIRS + 1][4], grid[MOE_GRIDS][4];
    picks(ids);
    const struct gpu_ref_call count = {.push = &sort, .buffer = {ids, counts, counts}};
    ref_moe_count(&count);
    const struct gpu_ref_call scan = {.push = &sort,
                                      .buffer = {counts, counts, at, tiles, ranges, grid}};
    if (scanned) ref_moe_scan(&scan);
}

static void moe_scan(struct kernel_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    block_counts(words(c, 0, 3 * EXPERTS), false);
    words(c, 1, EXPERTS);
    output(c, 2, DTYPE_U32, EXPERTS + 1);
    words(c, 3, 10 * 4);
    words(c, 4, 4 * (min_u32(EXPERTS, PAIRS) + 1));
    output(c, 5, DTYPE_U32, 4 * MOE_GRIDS);
}

// some of the experts, from slot 2 on
static void moe_place(struct kernel_case *c)
{
    enum { RANGES = 5 };
    static const uint32_t ranges[RANGES + 1][4] = {{0, 0, 3}, {2, 3, 9}, {3, 12, 1}, {5, 13, 4},
                                                   {7, 17, 1}},
                          slots[RANGES] = {3, 1, KERNEL_NONE_ID, 2, 7};
    PUSH(c, push_moe_place, .ranges = RANGES, .first = 2, .count = 6, .tile_rows = 2,
         .max_tiles = 9, .columns = {1, 2, 3, 4, 5, 6}, .rows = {7, 8});
    memcpy(words(c, 0, 4 * (RANGES + 1)), ranges, sizeof ranges);
    memcpy(words(c, 1, RANGES), slots, sizeof slots);
    words(c, 2, 10 * 4);
    words(c, 3, 4 * (RANGES + 1));
    output(c, 4, DTYPE_U32, 4 * MOE_GRIDS);
}

static void moe_scatter(struct kernel_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    picks(words(c, 0, PAIRS));
    block_counts(words(c, 1, 3 * EXPERTS), true);
    output(c, 2, DTYPE_U32, PAIRS);
    output(c, 3, DTYPE_U32, PAIRS);
}

static void moe_widths(struct kernel_case *c)
{
    PUSH(c, push_moe_widths, .count = 13, .tiles = 8, .experts = EXPERTS);
    words_below(c, 0, EXPERTS, 100);
    words_below(c, 1, 8 * 4, EXPERTS + 1);
    words_below(c, 2, 5 * 4, EXPERTS + 1);
}

static void moe_capacity(struct kernel_case *c)
{
    PUSH(c, push_moe_capacity, .pairs = PAIRS, .experts = EXPERTS, .capacity = 2);
    picks(words(c, 0, PAIRS));
    uint32_t *inverse = words(c, 1, PAIRS);
    for (uint32_t p = 0; p < PAIRS; p++) inverse[p] = PAIRS - 1 - p;
    offsets(words(c, 2, EXPERTS + 1));
    output(c, 3, DTYPE_U32, PAIRS);
}

static void router_noise_push(struct kernel_case *c)
{
    PUSH(c, push_router_noise, .tokens = TOKENS, .experts = EXPERTS, .total = 20, .first = 3,
         .layer = 1, .noisy = 1, .learned = 1, .jitter = 0.1f);
    step(c, 0, &(struct step_words){.step = 7, .seed_low = 5, .seed_high = 6, .micro = 1});
    numbers(c, 1, DTYPE_F32, TOKENS * EXPERTS);
    numbers(c, 2, KERNEL_CASE_STORE, 1);
    numbers(c, 3, DTYPE_F32, TOKENS * EXPERTS);
}

static void router_noise_back(struct kernel_case *c)
{
    router_noise_push(c);
    numbers(c, 4, KERNEL_CASE_STORE, TOKENS * EXPERTS);
    output(c, 5, KERNEL_CASE_STORE, TOKENS * EXPERTS);
    output(c, 6, DTYPE_F32, TOKENS);
}

static void router_hash(struct kernel_case *c)
{
    PUSH(c, push_router_hash, .tokens = TOKENS, .experts = 7, .top_k = 3, .layer = 2);
    words_below(c, 0, TOKENS, 1000);
    output(c, 1, DTYPE_F32, TOKENS * 7);
    output(c, 2, DTYPE_U32, TOKENS * 3);
    output(c, 3, DTYPE_F32, TOKENS * 3);
    output(c, 4, DTYPE_F32, TOKENS);
}

static void column_scale(struct kernel_case *c)
{
    PUSH(c, push_column_scale, .rows = 5, .cols = 11, .based = 1, .scale = 0.3f);
    positive(c, 0, DTYPE_F32, 3 * 11);
    for (uint32_t i = 0, *base = words(c, 1, 5); i < 5; i++) base[i] = i % 3 * 11;
    numbers(c, 2, KERNEL_CASE_STORE, 5 * 11);
}

static void row_inverse(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75);
    numbers(c, 0, KERNEL_CASE_STORE, 3 * 75);
    output(c, 1, DTYPE_F32, 3);
}

static void row_project(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75);
    numbers(c, 0, KERNEL_CASE_STORE, 3 * 75);
    fill(c, 1, DTYPE_F32, 3, 0.2, 0.01);
    numbers(c, 2, DTYPE_F32, 3 * 75);
}

static void router_columns(struct kernel_case *c)
{
    PUSH(c, push_router_columns, .tokens = 21, .experts = EXPERTS, .capacity = 8, .scale = 1.5f);
    float *scores = bind(c, 0, DTYPE_F32, 21 * EXPERTS);
    for (uint32_t i = 0; i < 21 * EXPERTS; i++) scores[i] = (float)rng_below(7, 0, i, 9) / 8;
    output(c, 1, DTYPE_U32, 21 * EXPERTS);
    output(c, 2, DTYPE_F32, 21 * EXPERTS);
}

static void gate_rows(struct kernel_case *c)
{
    PUSH(c, push_gate_rows, .rows = TOKENS, .cols = 37);
    numbers(c, 0, DTYPE_F32, TOKENS);
    numbers(c, 1, KERNEL_CASE_STORE, TOKENS * 37);
    output(c, 2, DTYPE_F32, TOKENS);
    output(c, 3, DTYPE_U32, TOKENS);
}

static void gate_rows_back(struct kernel_case *c)
{
    PUSH(c, push_count, .count = TOKENS);
    numbers(c, 0, DTYPE_F32, TOKENS);
    positive(c, 1, DTYPE_F32, TOKENS);
    output(c, 2, KERNEL_CASE_STORE, TOKENS);
}

static void moe_column_sum(struct kernel_case *c)
{
    PUSH(c, push_moe_column_sum, .experts = EXPERTS, .cols = 37, .top_k = PICKS, .gather = 1);
    numbers(c, 0, KERNEL_CASE_STORE, TOKENS * 37);
    uint32_t *order = words(c, 1, PAIRS);
    for (uint32_t p = 0; p < PAIRS; p++) order[p] = PAIRS - 1 - p;
    offsets(words(c, 2, EXPERTS + 1));
    positive(c, 3, DTYPE_F32, PAIRS);
    numbers(c, 4, DTYPE_F32, EXPERTS * 37);
}

static void moe_bias_back(struct kernel_case *c)
{
    PUSH(c, push_moe_bias_back, .pairs = PAIRS, .experts = EXPERTS, .cols = 37, .top_k = PICKS);
    numbers(c, 0, KERNEL_CASE_STORE, TOKENS * 37);
    picks(words(c, 1, PAIRS));
    numbers(c, 2, KERNEL_CASE_STORE, EXPERTS * 37);
    numbers(c, 3, DTYPE_F32, PAIRS);
}

// ----

kernel_case_fn *kernel_case_router(enum kernel_op op)
{
    static kernel_case_fn *const fills[KERNEL_COUNT] = {
        [KERNEL_ROUTER] = router,
        [KERNEL_ROUTER_BACK] = router_back,
        [KERNEL_ROUTER_ENTROPY] = router_entropy,
        [KERNEL_ROUTER_STATS] = router_stats,
        [KERNEL_ROUTER_BACK_WITHIN] = router_back_within,
        [KERNEL_ROUTER_STATS_WITHIN] = router_stats_within,
        [KERNEL_ROUTER_BASE] = router_base,
        [KERNEL_ROUTER_JOIN] = router_join,
        [KERNEL_ROUTER_JOIN_BACK] = router_join_back,
        [KERNEL_ROUTER_SCORE] = router_score,
        [KERNEL_ROUTER_CHOICE] = router_choice,
        [KERNEL_ROUTER_PICK] = router_pick,
        [KERNEL_COLUMN_SCALE] = column_scale,
        [KERNEL_COLUMN_SCALEF] = column_scale,
        [KERNEL_ROW_INVERSE] = row_inverse,
        [KERNEL_ROW_PROJECT] = row_project,
        [KERNEL_MOE_COLUMN_SUM] = moe_column_sum,
        [KERNEL_MOE_BIAS_BACK] = moe_bias_back,
        [KERNEL_MOE_CAPACITY] = moe_capacity,
        [KERNEL_ROUTER_NOISE] = router_noise_push,
        [KERNEL_ROUTER_NOISE_BACK] = router_noise_back,
        [KERNEL_ROUTER_HASH] = router_hash,
        [KERNEL_ROUTER_COLUMNS] = router_columns,
        [KERNEL_GATE_ROWS] = gate_rows,
        [KERNEL_GATE_ROWS_BACK] = gate_rows_back,
        [KERNEL_ROUTER_GATES] = router_gates,
        [KERNEL_ROUTER_LOSSES] = router_losses,
        [KERNEL_ROUTER_POOL] = router_pool,
        [KERNEL_ROUTER_BIAS] = router_bias,
        [KERNEL_ROUTER_BIAS_STOCHASTIC] = router_bias_stochastic,
        [KERNEL_MOE_COUNT] = moe_count,
        [KERNEL_MOE_SCAN] = moe_scan,
        [KERNEL_MOE_WIDTHS] = moe_widths,
        [KERNEL_MOE_SCATTER] = moe_scatter,
        [KERNEL_MOE_PLACE] = moe_place,
    };
    return fills[op];
}
