// SPDX-License-Identifier: MIT
// Muon (Jordan et al. 2024) as steps: momentum, five steps of Newton-Schulz in f32, the update.
// Each matrix of a stack is its own; the products go through the grouped matmuls, whose tiles are
// those of the matrices that move, so that experts without a token cost nothing. Of rows and
// columns the fewer are multiplied out: a = x x^T, or x^T x where there are more rows, so nothing
// is transposed.
#include "src/base.h"
#include "src/plan_update.h"

enum { NEWTON_SCHULZ_STEPS = 5 };

// One matmul of every matrix: rows of a and c (tn: what is summed over), columns of c, k or m.
struct product { enum kernel_op op; uint32_t rows, n, k; };

struct tables { struct product of; struct plan_range tiles, ranges, grid; };

struct muon {
    struct plan      *plan;
    struct push_muon  push;
    struct plan_range moves, x, y, a, b;
    uint32_t          rows, cols, least; // of a matrix; the fewer of both
};

static struct push_moe_matmul product_push(const struct muon *m, const struct product *of)
{
    const uint32_t matrices = m->push.each.matrices;
    struct push_moe_matmul push = {.pairs = matrices * of->rows, .experts = matrices, .n = of->n,
                                   .top_k = 1};
    if (of->op == KERNEL_MOE_MATMUL_TN) push.m = of->k;
    else push.k = of->k;
    return push;
}

static struct tables make_tables(const struct muon *m, struct product of)
{
    const uint32_t matrices = m->push.each.matrices;
    const struct push_moe_matmul product = product_push(m, &of);
    const struct kernel_size size = kernel_size_of(of.op, of.rows, &product);
    const struct kernel_shape shape = kernels_shape(m->plan->kernels, of.op, DTYPE_F32, &size);
    struct push_muon push = m->push;
    push.rows = of.rows;
    push.tile_rows = max_u32(shape.rows, 1);
    push.columns = shape.lanes ? kernel_moe_columns(of.op, &shape, of.n) : 1;
    push.row_groups = ceil_div(of.k, push.tile_rows);
    const uint64_t tiles = (uint64_t)matrices * ceil_div(of.rows, push.tile_rows) + 1;
    const struct tables tables = {.of = of,
                                  .tiles = plan_temp(m->plan, 16 * tiles, "muon tiles"),
                                  .ranges = plan_temp(m->plan, 16ull * (matrices + 1),
                                                      "muon ranges"),
                                  .grid = plan_temp(m->plan, 32, "muon grids")};
    plan_add(m->plan, KERNEL_MUON_TABLES, 0, &push,
             PLAN_BIND(m->moves, tables.tiles, tables.ranges, tables.grid));
    return tables;
}

// c = a w^T (nt), a w (nn), a^T w (tn), matrix by matrix
static void multiply(const struct muon *m, const struct tables *t, struct plan_range a,
                     struct plan_range w, struct plan_range c)
{
    const struct push_moe_matmul push = product_push(m, &t->of);
    const struct plan_range tiles = plan_slice(t->grid, 0, 12),
                            ranges = plan_slice(t->grid, 16, 12);
    if (t->of.op == KERNEL_MOE_MATMUL_NT)
        plan_add_indirect(m->plan, t->of.op, t->of.rows, &push, PLAN_BIND(a, t->tiles, w, c, w),
                          tiles);
    else if (t->of.op == KERNEL_MOE_MATMUL_NN)
        plan_add_indirect(m->plan, t->of.op, t->of.rows, &push,
                          PLAN_BIND(a, t->tiles, t->tiles, w, c, a, w), tiles);
    else {
        plan_fill(m->plan, c, 0); // it adds
        plan_add_indirect(m->plan, t->of.op, t->of.rows, &push,
                          PLAN_BIND(a, w, t->tiles, t->ranges, c), ranges);
    }
}

static void orthogonalise(struct muon *m)
{
    const bool tall = m->rows > m->cols;
    const struct tables gram = make_tables(
        m, (struct product){tall ? KERNEL_MOE_MATMUL_TN : KERNEL_MOE_MATMUL_NT, m->rows, m->least,
                            m->cols});
    const struct tables square =
        make_tables(m, (struct product){KERNEL_MOE_MATMUL_NT, m->least, m->least, m->least});
    const struct tables next =
        make_tables(m, (struct product){KERNEL_MOE_MATMUL_NN, m->rows, m->cols, m->least});
    struct push_muon mix = m->push;
    mix.rows = m->least;
    mix.each.count = m->least * m->least;
    for (int i = 0; i < NEWTON_SCHULZ_STEPS; i++) {
        multiply(m, &gram, m->x, m->x, m->a);
        multiply(m, &square, m->a, m->a, m->b);
        plan_add(m->plan, KERNEL_MUON_MIX, 0, &mix, PLAN_BIND(m->moves, m->a, m->b));
        if (tall) multiply(m, &next, m->x, m->b, m->y);
        else multiply(m, &next, m->b, m->x, m->y);
        const struct plan_range x = m->x;
        m->x = m->y;
        m->y = x;
    }
}

void muon_steps(struct plan *plan, const struct params *params, const struct network_io *io,
                const struct span *span)
{
    struct muon m = {.plan = plan,
                     .push = {.each = span_push(params, span)},
                     .moves = span_moves(plan, params, io, span),
                     .rows = span->tensor->rows,
                     .cols = span->tensor->cols,
                     .least = min_u32(span->tensor->rows, span->tensor->cols)};
    const struct push_optimizer *each = &m.push.each;
    const uint64_t bytes = 4ull * each->matrices * each->count,
                   small = 4ull * each->matrices * m.least * m.least;
    m.push.each.scale = sqrtf(fmaxf(1, (float)m.rows / (float)m.cols));
    const enum dtype store = plan->store;
    plan->store = DTYPE_F32; // but for the copy all is
    m.x = plan_temp(plan, bytes, "muon x"), m.y = plan_temp(plan, bytes, "muon y");
    m.a = plan_temp(plan, small, "muon a"), m.b = plan_temp(plan, small, "muon b");
    const struct plan_range partial = plan_temp(
        plan, 4ull * each->matrices * ceil_div(each->count, MUON_BLOCK), "muon squares");
    plan_add(plan, KERNEL_MUON_MOMENTUM, 0, &m.push,
             PLAN_BIND(io->norm, span_range(plan, params, PARAMS_GRAD, span),
                       span_range(plan, params, PARAMS_M, span), m.moves, m.x, partial));
    plan_add(plan, KERNEL_MUON_SCALE, 0, &m.push, PLAN_BIND(partial, m.moves, m.x));
    orthogonalise(&m);
    plan->store = store;
    const struct plan_range p = span_range(plan, params, PARAMS_MASTER, span);
    plan_add(plan, KERNEL_MUON_UPDATE, 0, &m.push,
             PLAN_BIND(io->step, io->norm, m.x, p,
                       each->copy ? span_range(plan, params, PARAMS_COMPUTE, span) : p, m.moves));
}
