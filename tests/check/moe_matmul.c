// SPDX-License-Identifier: MIT
// Grouped matrix products over made-up routings: even, skewed, all to one expert, experts without
// rows, one token; tiles that do not divide the rows. The sort itself is checked in moe_sort.c.
#include <math.h>
#include <stdlib.h>

#include "check.h"

// Rows past the end of an output that must stay as they were: drivers hide writes past the end of
// a binding.
enum { SLACK_ROWS = 16 };

enum routing { EVEN, SKEW, ONE_EXPERT, HALF_EMPTY };

struct routed {
    uint32_t tokens, experts, top_k, pairs, tile_count;
    uint32_t *order, *offsets, (*tiles)[4];
};

struct size {
    uint32_t tokens, experts, top_k, n, k;
    enum routing routing;
};

static const struct size sizes[] = {
    {1, 2, 1, 4, 4, EVEN},
    {1, 8, 2, 32, 16, EVEN},
    {1, 64, 8, 33, 20, EVEN},
    {5, 3, 1, 31, 33, SKEW},
    {31, 4, 2, 36, 12, SKEW},
    {33, 8, 2, 130, 7, HALF_EMPTY},
    {61, 7, 2, 5, 61, ONE_EXPERT},
    {40, 16, 8, 32, 32, SKEW},
    {16, 300, 2, 8, 8, EVEN},
    {128, 8, 2, 96, 64, SKEW},
    {130, 4, 1, 64, 130, HALF_EMPTY},
};

static const char *const routing_names[] = {"even", "skewed", "one expert", "half empty"};

static uint32_t pick(struct check *t, const struct size *s)
{
    switch (s->routing) {
    case EVEN: return (uint32_t)check_random(t, s->experts);
    case SKEW: return (uint32_t)min_u64(check_random(t, s->experts), check_random(t, s->experts));
    case ONE_EXPERT: return s->experts - 1;
    case HALF_EMPTY: return (uint32_t)check_random(t, (s->experts + 1) / 2) * 2 % s->experts;
    }
    return 0;
}

// The sort, the ranges and the tiles of a random routing.
static struct routed route(struct check *t, const struct size *s, uint32_t tile_rows)
{
    struct routed r = {.tokens = s->tokens,
                       .experts = s->experts,
                       .top_k = s->top_k,
                       .pairs = s->tokens * s->top_k};
    uint32_t *ids = calloc(r.pairs, sizeof *ids);
    r.order = calloc(r.pairs, sizeof *r.order);
    r.offsets = calloc(r.experts + 1, sizeof *r.offsets);
    r.tiles = calloc(r.pairs + 1, sizeof *r.tiles); // ends with a tile of no rows
    for (uint32_t p = 0; p < r.pairs; p++) ids[p] = pick(t, s);
    uint32_t row = 0;
    for (uint32_t e = 0; e < r.experts; e++) {
        for (uint32_t p = 0; p < r.pairs; p++)
            if (ids[p] == e) r.order[row++] = p;
        r.offsets[e + 1] = row;
        for (uint32_t at = r.offsets[e]; at < row; at += tile_rows) {
            uint32_t *tile = r.tiles[r.tile_count++];
            tile[0] = e, tile[1] = at, tile[2] = min_u32(tile_rows, row - at);
        }
    }
    free(ids);
    return r;
}

static void routed_free(struct routed *r)
{
    free(r->order);
    free(r->offsets);
    free(r->tiles);
}

static void begin(struct check *t, enum kernel_op op, const struct size *s,
                  const struct kernel_shape *shape, const char *what)
{
    check_begin(t, op, shape->rows, "E%u k%u T%u %ux%u %s%s", s->experts, s->top_k, s->tokens,
                s->n, s->k, routing_names[s->routing], what);
    check_with(t, shape);
}

static void tiled(struct check *t, enum kernel_op op, const struct size *s,
                  const struct kernel_shape *shape, bool option)
{
    struct routed r = route(t, s, shape->rows);
    const uint64_t pairs = r.pairs, weights = (uint64_t)s->experts * s->n * s->k;
    const bool up = op == KERNEL_MOE_MATMUL_UP;
    struct push_moe_matmul push = {
        .pairs = r.pairs, .experts = s->experts, .n = s->n, .k = s->k, .top_k = s->top_k};
    begin(t, op, s, shape, option ? up ? " save" : " add" : "");
    const double scale = 1.0 / sqrt(s->k);
    if (up) {
        push.save = option;
        check_normal(t, 0, CHECK_STORE, (uint64_t)s->tokens * s->k, 1);
        check_words(t, 1, r.order, pairs);
        check_words(t, 2, r.tiles[0], (r.tile_count + 1) * 4ull);
        check_normal(t, 3, CHECK_STORE, weights, scale);
        check_normal(t, 4, CHECK_STORE, weights, scale);
        check_output(t, 5, CHECK_STORE, (pairs + SLACK_ROWS) * s->n);
        check_output(t, 6, CHECK_STORE, option ? (pairs + SLACK_ROWS) * s->n : 1);
        check_output(t, 7, CHECK_STORE, option ? (pairs + SLACK_ROWS) * s->n : 1);
    } else {
        push.add = option;
        check_normal(t, 0, CHECK_STORE, pairs * s->k, 1);
        check_words(t, 1, r.tiles[0], (r.tile_count + 1) * 4ull);
        check_normal(t, 2, CHECK_STORE, weights, scale);
        if (option)
            check_normal(t, 3, CHECK_STORE, pairs * s->n, 1);
        else
            check_output(t, 3, CHECK_STORE, (pairs + SLACK_ROWS) * s->n);
    }
    check_groups(t, kernel_moe_columns(op, shape, s->n), r.tile_count, 1);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

static void weight_gradient(struct check *t, const struct size *s,
                            const struct kernel_shape *shape, bool gather)
{
    struct routed r = route(t, s, 16);
    const struct push_moe_matmul push = {.pairs = r.pairs,
                                         .experts = s->experts,
                                         .m = s->k,
                                         .n = s->n,
                                         .top_k = s->top_k,
                                         .gather = gather};
    begin(t, KERNEL_MOE_MATMUL_TN, s, shape, gather ? " gather" : "");
    check_normal(t, 0, CHECK_STORE, (uint64_t)r.pairs * s->k, 1);
    check_normal(t, 1, CHECK_STORE, (uint64_t)(gather ? s->tokens : r.pairs) * s->n, 1);
    check_words(t, 2, r.order, r.pairs);
    check_words(t, 3, r.offsets, r.experts + 1);
    check_normal(t, 4, DTYPE_F32, (uint64_t)s->experts * s->k * s->n, 1);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

// Both ways in each candidate shape; at the real sizes only the default and what is not flat.
static void all_shapes(struct check *t, enum kernel_op op, const struct size *s, int options)
{
    const struct kernel_size size = {max_u32(s->tokens * s->top_k / s->experts, 1), s->n, s->k};
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, op, t->store, &size, shape);
    for (uint32_t i = 0; i < count; i++)
        for (int option = 0; option < options; option++) {
            if (s->tokens > 100 && i > 0 && shape[i].variant == KERNEL_FLAT) continue;
            if (op == KERNEL_MOE_MATMUL_TN) weight_gradient(t, s, &shape[i], option);
            else tiled(t, op, s, &shape[i], option);
        }
}

void check_moe_matmul(struct check *t)
{
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        all_shapes(t, KERNEL_MOE_MATMUL_UP, &sizes[i], 2);
        all_shapes(t, KERNEL_MOE_MATMUL_NT, &sizes[i], 1);
        all_shapes(t, KERNEL_MOE_MATMUL_NN, &sizes[i], 2);
        all_shapes(t, KERNEL_MOE_MATMUL_TN, &sizes[i], 2);
    }
}
