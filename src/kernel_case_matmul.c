// SPDX-License-Identifier: MIT
// Cases of the matmuls, dense and grouped. Small, their shapes follow the kernel's tile: one whole
// and a rest. These are what the tuner measures most, so each has cases of a given size.
#include "src/kernel_case_fill.h"
#include "src/kernel_shape.h"

// ---- dense matmuls

static bool wide_output(enum kernel_op op)
{
    return op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_NNF || op == KERNEL_MATMUL_TN ||
           op == KERNEL_MATMUL_SUMF || op == KERNEL_MATVECF;
}

// r, c and bias of the epilogue, from binding b on
static void matmul_end(struct kernel_case *c, uint32_t b, uint32_t m, uint32_t n)
{
    const int out = wide_output(c->kernel->op) ? (int)DTYPE_F32 : KERNEL_CASE_STORE;
    numbers(c, b, out, (uint64_t)m * n);
    output(c, b + 1, out, (uint64_t)m * n);
    numbers(c, b + 2, KERNEL_CASE_STORE, n);
}

// What a size must be a multiple of: kernels that are not ragged take fours where rows of operands
// begin (struct kernel_shape), and eights of k where that is their depth: 39 becomes 40.
static uint32_t whole(const struct kernel_case *c, uint32_t size, bool begins)
{
    const struct kernel_shape *shape = &c->kernel->shape;
    return begins && kernel_is_flat(shape) && !shape->ragged ? (size + 3) / 4 * 4 : size;
}

static bool is_tn(enum kernel_op op) { return kernel_form_of(op) == FORM_TN; }
static bool is_nn(enum kernel_op op) { return kernel_form_of(op) == FORM_NN; }

static struct push_matmul matmul_push(const struct kernel_case *c)
{
    const struct kernel *k = c->kernel;
    if (c->size.rows)
        return (struct push_matmul){.m = c->size.rows, .n = c->size.columns, .k = c->size.inner,
                                    .parts = c->parts};
    const uint32_t columns = kernel_group_columns(k->op, &k->shape) + 3;
    return (struct push_matmul){.m = whole(c, k->shape.rows + 1, is_tn(k->op)),
                                .n = whole(c, columns, is_tn(k->op) || is_nn(k->op)),
                                .k = whole(c, 39, !is_tn(k->op)),
                                .add = 1,
                                .bias = 1,
                                .scale = 0.5f,
                                .activation = ACTIVATION_GELU_TANH};
}

static void matmul(struct kernel_case *c)
{
    const struct push_matmul push = matmul_push(c);
    memcpy(c->push, &push, sizeof push);
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)push.m * push.k);
    numbers(c, 1, KERNEL_CASE_STORE, (uint64_t)push.n * push.k);
    matmul_end(c, 2, max_u32(push.parts, 1) * push.m, push.n);
}

static void matmul_sum(struct kernel_case *c)
{
    if (c->size.rows) {
        const uint32_t m = c->size.rows, n = c->size.columns;
        PUSH(c, push_matmul, .m = m, .n = n, .parts = c->parts);
        numbers(c, 0, DTYPE_F32, (uint64_t)c->parts * m * n);
        matmul_end(c, 1, m, n);
        return;
    }
    PUSH(c, push_matmul, .m = 5, .n = 37, .parts = 3, .add = 1, .bias = 1, .scale = 0.5f,
         .activation = ACTIVATION_RELU2);
    numbers(c, 0, DTYPE_F32, 3 * 5 * 37);
    matmul_end(c, 1, 5, 37);
}

// ---- grouped matmuls. Small: three experts with a tile and a row, none, and two rows. Sized: all
// experts have as many rows as kernel_size says, and there are as many as a small batch has.

enum { SMALL_EXPERTS = 3, MOST_EXPERTS = 32, SIZED_PAIRS = 256 };
struct grouped { uint32_t rows[MOST_EXPERTS], experts, pairs, tokens, m, n, k, tile_count; };

uint32_t kernel_case_experts(uint32_t rows)
{
    return min_u32(max_u32(SIZED_PAIRS / rows, SMALL_EXPERTS), MOST_EXPERTS);
}

static struct grouped grouped_push(struct kernel_case *c, struct push_moe_matmul push)
{
    const struct kernel *k = c->kernel;
    const bool tn = k->op == KERNEL_MOE_MATMUL_TN;
    const uint32_t tile = k->shape.rows, sized = tn ? c->size.inner : c->size.rows;
    struct grouped g = {.experts = sized ? kernel_case_experts(sized) : SMALL_EXPERTS,
                        .k = sized ? c->size.inner : whole(c, 39, true)};
    const uint32_t columns = kernel_group_columns(k->op, &k->shape) + 3;
    g.n = sized ? c->size.columns : whole(c, columns, tn || is_nn(k->op));
    g.m = sized ? c->size.rows : whole(c, tile + 1, true);
    g.tokens = sized ? ceil_div(g.experts * sized, 2) : ceil_div(tile + 3, 2);
    push.pairs = g.pairs = g.tokens * 2;
    const uint32_t last = g.experts - 1;
    g.rows[0] = tile + 1;
    for (uint32_t e = 0; sized && e < last; e++) g.rows[e] = sized;
    g.rows[last] = g.pairs;
    for (uint32_t e = 0; e < last; e++) g.rows[last] -= g.rows[e];
    push.experts = g.experts;
    push.top_k = 2;
    push.m = tn ? g.m : 0;
    push.n = g.n;
    push.k = g.k;
    memcpy(c->push, &push, sizeof push);
    return g;
}

static void grouped_order(struct kernel_case *c, uint32_t b, const struct grouped *g)
{
    uint32_t *order = words(c, b, g->pairs);
    for (uint32_t i = 0; i < g->pairs; i++) order[i] = g->pairs - 1 - i;
}

static void grouped_tiles(struct kernel_case *c, uint32_t b, struct grouped *g)
{
    const struct kernel *k = c->kernel;
    uint32_t (*tile)[4] = (uint32_t (*)[4])words(c, b, 4ull * (g->pairs + 1)), first = 0;
    for (uint32_t e = 0; e < g->experts; e++)
        for (uint32_t left = g->rows[e]; left;) {
            const uint32_t take = min_u32(left, k->shape.rows);
            uint32_t *t = tile[g->tile_count++];
            t[0] = e, t[1] = first, t[2] = take;
            first += take, left -= take;
        }
    c->groups[0] = kernel_moe_columns(k->op, &k->shape, g->n);
    c->groups[1] = g->tile_count;
    c->groups[2] = 1;
}

// moe_matmul_up and _act
static void moe_matmul_up(struct kernel_case *c)
{
    const uint32_t matrices = c->kernel->op == KERNEL_MOE_MATMUL_UP ? 2 : 1, h = 3 + matrices;
    struct grouped g =
        grouped_push(c, (struct push_moe_matmul){
                            .save = 1, .activation = ACTIVATION_SILU, .bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_order(c, 1, &g);
    grouped_tiles(c, 2, &g);
    for (uint32_t b = 3; b < h; b++)
        numbers(c, b, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    for (uint32_t b = h; b <= h + matrices; b++)
        output(c, b, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    if (matrices == 1) numbers(c, 6, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
}

static void moe_matmul_nt(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.k);
    grouped_tiles(c, 1, &g);
    numbers(c, 2, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 3, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    numbers(c, 4, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
}

static void moe_matmul_ntf(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_tiles(c, 1, &g);
    numbers(c, 2, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 3, DTYPE_F32, (uint64_t)g.pairs * g.n);
    numbers(c, 4, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
    grouped_order(c, 5, &g);
}

static void moe_matmul_nn(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.gather = 1, .second = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_order(c, 1, &g);
    grouped_tiles(c, 2, &g);
    numbers(c, 3, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 4, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    numbers(c, 5, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.k);
    numbers(c, 6, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
}

static void moe_matmul_tn(struct kernel_case *c)
{
    const struct kernel *k = c->kernel;
    const struct grouped g = grouped_push(c, (struct push_moe_matmul){.gather = 1});
    uint32_t (*range)[4] = (uint32_t (*)[4])words(c, 3, 4 * (g.experts + 1)), ranges = 0, first = 0;
    for (uint32_t e = 0; e < g.experts; first += g.rows[e++])
        if (g.rows[e])
            memcpy(range[ranges++], (uint32_t[4]){e, first, g.rows[e]}, sizeof *range);
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.m);
    numbers(c, 1, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.n);
    grouped_order(c, 2, &g);
    numbers(c, 4, DTYPE_F32, (uint64_t)g.experts * g.m * g.n);
    c->groups[0] = kernel_moe_columns(k->op, &k->shape, g.n);
    c->groups[1] = ceil_div(g.m, k->shape.rows);
    c->groups[2] = ranges;
}

// ----

kernel_case_fn *kernel_case_matmul(enum kernel_op op)
{
    static kernel_case_fn *const fills[KERNEL_COUNT] = {
        [KERNEL_MATMUL_NT] = matmul,
        [KERNEL_MATMUL_NTF] = matmul,
        [KERNEL_MATMUL_NN] = matmul,
        [KERNEL_MATMUL_NNF] = matmul,
        [KERNEL_MATMUL_TN] = matmul,
        [KERNEL_MATMUL_SUM] = matmul_sum,
        [KERNEL_MATMUL_SUMF] = matmul_sum,
        [KERNEL_MATVEC] = matmul,
        [KERNEL_MATVECF] = matmul,
        [KERNEL_MOE_MATMUL_UP] = moe_matmul_up,
        [KERNEL_MOE_MATMUL_ACT] = moe_matmul_up,
        [KERNEL_MOE_MATMUL_NT] = moe_matmul_nt,
        [KERNEL_MOE_MATMUL_NTF] = moe_matmul_ntf,
        [KERNEL_MOE_MATMUL_NN] = moe_matmul_nn,
        [KERNEL_MOE_MATMUL_TN] = moe_matmul_tn,
    };
    return fills[op];
}
