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
    uint32_t tokens, experts, top_k, pairs, tile_count, range_count;
    uint32_t *order, (*tiles)[4], (*ranges)[4];
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
    r.tiles = calloc(r.pairs + 1, sizeof *r.tiles); // each ends with an entry of no rows
    r.ranges = calloc(r.pairs + 1, sizeof *r.ranges);
    for (uint32_t p = 0; p < r.pairs; p++) ids[p] = pick(t, s);
    uint32_t row = 0;
    for (uint32_t e = 0; e < r.experts; e++) {
        const uint32_t begin = row;
        for (uint32_t p = 0; p < r.pairs; p++)
            if (ids[p] == e) r.order[row++] = p;
        for (uint32_t at = begin; at < row; at += tile_rows) {
            uint32_t *tile = r.tiles[r.tile_count++];
            tile[0] = e, tile[1] = at, tile[2] = min_u32(tile_rows, row - at);
        }
        if (begin == row) continue;
        uint32_t *range = r.ranges[r.range_count++];
        range[0] = e, range[1] = begin, range[2] = row - begin;
    }
    free(ids);
    return r;
}

static void routed_free(struct routed *r)
{
    free(r->order);
    free(r->tiles);
    free(r->ranges);
}

static void begin(struct check *t, enum kernel_op op, const struct size *s,
                  const struct kernel_shape *shape, const char *what)
{
    check_begin(t, op, shape->rows, "E%u k%u T%u %ux%u %s%s", s->experts, s->top_k, s->tokens,
                s->n, s->k, routing_names[s->routing], what);
    check_with(t, shape);
}

struct run {
    struct check              *t;
    const struct size         *s;
    const struct kernel_shape *shape;
    uint32_t                   option; // which of the ways below
    bool                       narrow; // experts have widths of their own
};

// ---- experts of different widths: what is beyond them is zero

static uint32_t width_of(uint32_t expert, uint32_t inner)
{
    return 1 + (uint32_t)(rng_below(5, 0, expert, inner));
}

static void set_widths(struct routed *r, uint32_t inner)
{
    for (uint32_t i = 0; i < r->tile_count; i++)
        r->tiles[i][3] = width_of(r->tiles[i][0], inner);
    for (uint32_t i = 0; i < r->range_count; i++)
        r->ranges[i][3] = width_of(r->ranges[i][0], inner);
}

static void zero(struct check *t, int b, uint64_t at)
{
    dtype_store(t->binding[b].initial, at, t->store, 0);
}

// Of weights [E][rows][cols] the rows, or the columns.
static void cut_weights(const struct run *run, int b, uint32_t rows, uint32_t cols, bool by_rows)
{
    for (uint32_t e = 0; e < run->s->experts; e++)
        for (uint32_t i = 0; i < rows; i++)
            for (uint32_t j = 0; j < cols; j++)
                if ((by_rows ? i : j) >= width_of(e, by_rows ? rows : cols))
                    zero(run->t, b, ((uint64_t)e * rows + i) * cols + j);
}

// Of the sorted rows of their experts.
static void cut_rows(const struct run *run, const struct routed *r, int b, uint32_t cols)
{
    for (uint32_t i = 0; i < r->range_count; i++)
        for (uint32_t row = 0; row < r->ranges[i][2]; row++)
            for (uint32_t j = width_of(r->ranges[i][0], cols); j < cols; j++)
                zero(run->t, b, ((uint64_t)r->ranges[i][1] + row) * cols + j);
}

static struct push_moe_matmul push_of(const struct run *run, const struct routed *r)
{
    return (struct push_moe_matmul){.pairs = r->pairs,
                                    .experts = r->experts,
                                    .n = run->s->n,
                                    .k = run->s->k,
                                    .top_k = r->top_k};
}

static void grid(const struct run *run, enum kernel_op op, const struct routed *r)
{
    check_groups(run->t, kernel_moe_columns(op, run->shape, run->s->n), r->tile_count, 1);
}

// moe_matmul_up and _act. Options: saved or not, two functions (_act: without and with bias).
static void up(const struct run *run, enum kernel_op op)
{
    struct check *t = run->t;
    const struct size *s = run->s;
    const bool gated = op == KERNEL_MOE_MATMUL_UP, save = run->option % 2;
    struct routed r = route(t, s, run->shape->rows);
    struct push_moe_matmul push = push_of(run, &r);
    push.save = save;
    push.bias = !gated && run->option / 2;
    push.activation = gated ? 1 + run->option / 2 * 2 : 2 + run->option / 2 * 2;
    begin(t, op, s, run->shape,
          run->narrow ? " narrow" : push.bias ? " bias" : save ? " save" : "");
    if (run->narrow) set_widths(&r, s->n);
    const uint64_t weights = (uint64_t)s->experts * s->n * s->k,
                   out = ((uint64_t)r.pairs + SLACK_ROWS) * s->n;
    check_normal(t, 0, CHECK_STORE, (uint64_t)s->tokens * s->k, 1);
    check_words(t, 1, r.order, r.pairs);
    check_words(t, 2, r.tiles[0], (r.tile_count + 1) * 4ull);
    for (int b = 3; b < 4 + gated; b++)
        check_normal(t, b, CHECK_STORE, weights, 1.0 / sqrt(s->k));
    for (int b = 4 + gated; b < 6 + 2 * gated; b++)
        check_output(t, b, CHECK_STORE, save || b == 4 + gated ? out : 1);
    if (!gated) check_normal(t, 6, CHECK_STORE, (uint64_t)s->experts * s->n, 1);
    for (int b = 3; run->narrow && b < 4 + gated; b++) cut_weights(run, b, s->n, s->k, true);
    if (run->narrow && !gated) cut_weights(run, 6, s->n, 1, true);
    grid(run, op, &r);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

static void down(const struct run *run, enum kernel_op op)
{
    struct check *t = run->t;
    const struct size *s = run->s;
    struct routed r = route(t, s, run->shape->rows);
    struct push_moe_matmul push = push_of(run, &r);
    push.bias = run->option;
    begin(t, op, s, run->shape, run->narrow ? " narrow" : push.bias ? " bias" : "");
    if (run->narrow) set_widths(&r, s->k);
    check_normal(t, 0, CHECK_STORE, (uint64_t)r.pairs * s->k, 1);
    check_words(t, 1, r.tiles[0], (r.tile_count + 1) * 4ull);
    check_normal(t, 2, CHECK_STORE, (uint64_t)s->experts * s->n * s->k, 1.0 / sqrt(s->k));
    check_output(t, 3, CHECK_STORE, ((uint64_t)r.pairs + SLACK_ROWS) * s->n);
    check_normal(t, 4, CHECK_STORE, (uint64_t)s->experts * s->n, 1);
    if (run->narrow) cut_weights(run, 2, s->n, s->k, false), cut_rows(run, &r, 0, s->k);
    grid(run, op, &r);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

// moe_matmul_ntf. Options: without and with bias, with its own tile table and one of more rows.
static void logits(const struct run *run, enum kernel_op op)
{
    struct check *t = run->t;
    const struct size *s = run->s;
    const bool larger = run->option / 2;
    struct routed r = route(t, s, larger ? 2 * run->shape->rows + 1 : run->shape->rows);
    struct push_moe_matmul push = push_of(run, &r);
    push.bias = run->option % 2;
    begin(t, op, s, run->shape, larger ? " larger tiles" : push.bias ? " bias" : "");
    check_normal(t, 0, CHECK_STORE, (uint64_t)s->tokens * s->k, 1);
    check_words(t, 1, r.tiles[0], (r.tile_count + 1) * 4ull);
    check_normal(t, 2, CHECK_STORE, (uint64_t)s->experts * s->n * s->k, 1.0 / sqrt(s->k));
    check_output(t, 3, DTYPE_F32, ((uint64_t)r.pairs + SLACK_ROWS) * s->n);
    check_normal(t, 4, CHECK_STORE, (uint64_t)s->experts * s->n, 1);
    check_words(t, 5, r.order, r.pairs);
    grid(run, op, &r);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

// moe_matmul_nn. Options: gather, second.
static void back(const struct run *run, enum kernel_op op)
{
    struct check *t = run->t;
    const struct size *s = run->s;
    struct routed r = route(t, s, run->shape->rows);
    struct push_moe_matmul push = push_of(run, &r);
    push.gather = run->option % 2;
    push.second = run->option / 2;
    char what[40];
    snprintf(what, sizeof what, "%s%s%s", push.gather ? " gather" : "",
             push.second ? " second" : "", run->narrow ? " narrow" : "");
    begin(t, op, s, run->shape, what);
    if (run->narrow) set_widths(&r, push.gather ? s->n : s->k);
    const uint64_t weights = (uint64_t)s->experts * s->n * s->k;
    check_normal(t, 0, CHECK_STORE, (uint64_t)(push.gather ? s->tokens : r.pairs) * s->k, 1);
    check_words(t, 1, r.order, r.pairs);
    check_words(t, 2, r.tiles[0], (r.tile_count + 1) * 4ull);
    check_normal(t, 3, CHECK_STORE, weights, 1.0 / sqrt(s->k));
    check_output(t, 4, CHECK_STORE, ((uint64_t)r.pairs + SLACK_ROWS) * s->n);
    if (push.second) {
        check_normal(t, 5, CHECK_STORE, (uint64_t)r.pairs * s->k, 1);
        check_normal(t, 6, CHECK_STORE, weights, 1.0 / sqrt(s->k));
    }
    for (int b = 3; run->narrow && b < 7; b += push.second ? 3 : 4)
        cut_weights(run, b, s->k, s->n, !push.gather);
    if (run->narrow && !push.gather) cut_rows(run, &r, 0, s->k);
    if (run->narrow && push.second) cut_rows(run, &r, 5, s->k);
    grid(run, op, &r);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

// moe_matmul_tn. Options: which of the two is gathered.
static void weight_gradient(const struct run *run, enum kernel_op op)
{
    struct check *t = run->t;
    const struct size *s = run->s;
    struct routed r = route(t, s, 16);
    struct push_moe_matmul push = push_of(run, &r);
    push.m = s->k;
    push.k = 0;
    push.gather = run->option;
    char what[40];
    snprintf(what, sizeof what, "%s%s",
             push.gather == 1 ? " gather b" : push.gather ? " gather a" : "",
             run->narrow ? " narrow" : "");
    begin(t, op, s, run->shape, what);
    if (run->narrow) set_widths(&r, push.gather & 2 ? s->n : push.m);
    check_normal(t, 0, CHECK_STORE, (uint64_t)(push.gather & 2 ? s->tokens : r.pairs) * s->k, 1);
    check_normal(t, 1, CHECK_STORE, (uint64_t)(push.gather & 1 ? s->tokens : r.pairs) * s->n, 1);
    check_words(t, 2, r.order, r.pairs);
    check_words(t, 3, r.ranges[0], (r.range_count + 1) * 4ull);
    check_normal(t, 4, DTYPE_F32, (uint64_t)s->experts * s->k * s->n, 1);
    if (run->narrow && push.gather & 2) cut_rows(run, &r, 1, s->n);
    else if (run->narrow) cut_rows(run, &r, 0, push.m);
    check_groups(t, kernel_moe_columns(op, run->shape, s->n), ceil_div(s->k, run->shape->rows),
                 r.range_count);
    check_run(t, &push, 1e-11);
    routed_free(&r);
}

static struct kernel_size size_of(enum kernel_op op, const struct size *s)
{
    const uint32_t rows = max_u32(s->tokens * s->top_k / s->experts, 1);
    if (op == KERNEL_MOE_MATMUL_TN) return (struct kernel_size){s->k, s->n, rows};
    return (struct kernel_size){rows, s->n, s->k};
}

// The default shape in all ways at all sizes; every other candidate at a third of them, in one way
// that changes (flat ones only at small sizes): all of it takes minutes.
static void all_shapes(struct check *t, enum kernel_op op, uint32_t options, const struct size *s,
                       void (*check)(const struct run *run, enum kernel_op op))
{
    const struct kernel_size size = size_of(op, s);
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, op, t->store, &size, shape);
    // as at sizes that take a thousand times as long to compute
    if (s->tokens == 128 && kernel_is_flat(&shape[0]) && !shape[0].ragged) shape[0].depth = 8;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t option = 0; option < options; option++) {
            const uint32_t turn = (uint32_t)(s - sizes) + i;
            if (i > 0 && (turn % 3 || option != turn / 3 % options)) continue;
            if (s->tokens > 100 && i > 0 && kernel_is_flat(&shape[i])) continue;
            if (t->brief && i == 0 && option != turn % options) continue;
            if (!check_chooses(t, op, &shape[i])) continue;
            check(&(struct run){t, s, &shape[i], option, false}, op);
            // what gathers has no second operand
            if (turn % 3 == 1 || (op == KERNEL_MOE_MATMUL_NN && option == 3)) continue;
            if (!check_has(t, op, &shape[i])) continue;
            check(&(struct run){t, s, &shape[i], option, true}, op);
        }
}

void check_moe_matmul(struct check *t)
{
    for (size_t i = COUNT_OF(sizes); i-- > 0;) {
        all_shapes(t, KERNEL_MOE_MATMUL_UP, 4, &sizes[i], up);
        all_shapes(t, KERNEL_MOE_MATMUL_ACT, 4, &sizes[i], up);
        all_shapes(t, KERNEL_MOE_MATMUL_NT, 2, &sizes[i], down);
        all_shapes(t, KERNEL_MOE_MATMUL_NTF, 4, &sizes[i], logits);
        all_shapes(t, KERNEL_MOE_MATMUL_NN, 4, &sizes[i], back);
        all_shapes(t, KERNEL_MOE_MATMUL_TN, 3, &sizes[i], weight_gradient);
    }
}
