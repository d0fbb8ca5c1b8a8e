// SPDX-License-Identifier: MIT
// Backward references of the experts against finite differences: bodies with everything around
// them, and a shared expert's gate.
#include <math.h>
#include <string.h>

#include "operations.h"
#include "src/base.h"

// ---- a shared expert's gate: down of gated rows, as src/plan_shared.c

static void gate_rows_forward(struct grad_case *c)
{
    memcpy(c->array[s.y].data, c->array[s.x].data, c->array[s.x].count * sizeof(float));
    GRAD_RUN(c, KERNEL_ACTIVATE, &s.push, s.x, s.v, s.y);
    const struct push_gate_rows rows = {5, 7};
    GRAD_RUN(c, KERNEL_GATE_ROWS, &rows, s.logits, s.y, s.gates, s.order);
}

static void gate_rows(void)
{
    enum { ROWS = 5, COLS = 7, COUNT = ROWS * COLS };
    struct grad_case c = grad_begin("gate_rows", 12);
    s.push.activate = (struct push_activate){COUNT, ACTIVATION_SILU, 1};
    s.x = grad_normal(&c, "gate", COUNT, 1);
    s.v = grad_normal(&c, "up", COUNT, 1);
    s.logits = grad_normal(&c, "logits", ROWS, 1);
    s.y = grad_zeros(&c, "h", COUNT);
    s.gates = grad_zeros(&c, "gates", ROWS);
    s.order = grad_words(&c, "rows", NULL, ROWS);
    s.weight = grad_normal(&c, "dh", COUNT, 1);
    c.forward = gate_rows_forward;
    c.objective = weighted;
    c.forward(&c);
    const int dgate = grad_zeros(&c, "dgate", COUNT), dup = grad_zeros(&c, "dup", COUNT),
              dh = grad_zeros(&c, "dh", COUNT), dgates = grad_zeros(&c, "dgates", ROWS),
              dlogits = grad_zeros(&c, "dlogits", ROWS);
    memcpy(c.array[dgate].data, c.array[s.x].data, COUNT * sizeof(float));
    memcpy(c.array[dup].data, c.array[s.v].data, COUNT * sizeof(float));
    memcpy(c.array[dh].data, c.array[s.weight].data, COUNT * sizeof(float));
    const struct push_moe_activate rows = {ROWS, COLS, ACTIVATION_SILU, 1};
    const struct push_count count = {ROWS};
    GRAD_RUN(&c, KERNEL_MOE_ACTIVATE_BACK, &rows, dgate, dup, dh, s.order, s.gates, dgates);
    GRAD_RUN(&c, KERNEL_GATE_ROWS_BACK, &count, dgates, s.gates, dlogits);
    tally(grad_compare(&c, s.x, dgate));
    tally(grad_compare(&c, s.v, dup));
    tally(grad_compare(&c, s.logits, dlogits));
    // dh has become what the gradient of the down matrix takes: the gated h
    for (uint32_t i = 0; i < COUNT; i++)
        tally(fabs((double)(c.array[dh].data[i] - c.array[s.y].data[i])) < 1e-6);
    grad_end(&c);
}

// ---- experts: gather, body, down, weighted combine, and back as src/plan_moe.c does it: one case
// for the whole chain

enum { TOKENS = 7, EXPERTS = 4, PICKS = 2, HIDDEN = 6, INNER = 5, PAIRS = TOKENS * PICKS };

static struct {
    int x, wgate, wup, wdown, bup, bdown, h, gate, up, pairs, residual;
    struct push_moe_matmul up_push, down_push;
    bool gated;
} m;

static void experts_forward(struct grad_case *c)
{
    if (m.gated)
        GRAD_RUN(c, KERNEL_MOE_MATMUL_UP, &m.up_push, m.x, s.order, s.tiles, m.wgate, m.wup, m.h,
                 m.gate, m.up);
    else
        GRAD_RUN(c, KERNEL_MOE_MATMUL_ACT, &m.up_push, m.x, s.order, s.tiles, m.wup, m.h, m.gate,
                 m.bup);
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NT, &m.down_push, m.h, s.tiles, m.wdown, m.pairs, m.bdown);
    GRAD_RUN(c, KERNEL_MOE_COMBINE, &s.push, m.pairs, s.inverse, s.gates, m.residual, s.y);
}

static void sort_pairs(struct grad_case *c)
{
    s.sort = (struct push_moe_sort){.pairs = PAIRS,
                                    .experts = EXPERTS,
                                    .block = 4,
                                    .blocks = 4,
                                    .slices = 1,
                                    .tile_rows = 4,
                                    .max_tiles = PAIRS / 4 + EXPERTS};
    // expert 2 gets nothing, expert 3 is one token's first pick
    const uint32_t ids[PAIRS] = {0, 1, 1, 0, 0, 1, 3, 0, 1, 0, 0, 1, 1, 0};
    s.ids = grad_words(c, "ids", ids, PAIRS);
    s.counts = grad_words(c, "counts", NULL, 4 * EXPERTS);
    s.offsets = grad_words(c, "offsets", NULL, EXPERTS + 1);
    s.tiles = grad_words(c, "tiles", NULL, 4 * (PAIRS / 4 + EXPERTS + 1));
    s.ranges = grad_words(c, "ranges", NULL, 4 * (EXPERTS + 1));
    s.indirect = grad_words(c, "indirect", NULL, 4 * MOE_GRIDS);
    s.order = grad_words(c, "order", NULL, PAIRS);
    s.inverse = grad_words(c, "inverse", NULL, PAIRS);
    GRAD_RUN(c, KERNEL_MOE_COUNT, &s.sort, s.ids, s.counts, s.counts);
    GRAD_RUN(c, KERNEL_MOE_SCAN, &s.sort, s.counts, s.counts, s.offsets, s.tiles, s.ranges,
             s.indirect);
    GRAD_RUN(c, KERNEL_MOE_SCATTER, &s.sort, s.ids, s.counts, s.order, s.inverse);
}

static void expert_arrays(struct grad_case *c)
{
    sort_pairs(c);
    m.x = grad_normal(c, "x", TOKENS * HIDDEN, 1);
    m.wgate = grad_normal(c, "wgate", EXPERTS * INNER * HIDDEN, 0.5);
    m.wup = grad_normal(c, "wup", EXPERTS * INNER * HIDDEN, 0.5);
    m.wdown = grad_normal(c, "wdown", EXPERTS * HIDDEN * INNER, 0.5);
    m.bup = grad_normal(c, "bup", EXPERTS * INNER, 1);
    m.bdown = grad_normal(c, "bdown", EXPERTS * HIDDEN, 1);
    m.h = grad_zeros(c, "h", PAIRS * INNER);
    m.gate = grad_zeros(c, "gate", PAIRS * INNER);
    m.up = grad_zeros(c, "up", PAIRS * INNER);
    m.pairs = grad_zeros(c, "y pairs", PAIRS * HIDDEN);
    s.gates = grad_normal(c, "gates", PAIRS, 1);
    m.residual = grad_normal(c, "residual", TOKENS * HIDDEN, 1);
    s.y = grad_zeros(c, "y", TOKENS * HIDDEN);
    s.weight = grad_normal(c, "dy", TOKENS * HIDDEN, 1);
}

static int expert_weight_grad(struct grad_case *c, const char *name, int a, int b, bool down)
{
    const struct push_moe_matmul push = {.pairs = PAIRS,
                                         .experts = EXPERTS,
                                         .m = down ? HIDDEN : INNER,
                                         .n = down ? INNER : HIDDEN,
                                         .top_k = PICKS,
                                         .gather = down ? 2 : 1};
    const int grad = grad_zeros(c, name, EXPERTS * HIDDEN * INNER);
    GRAD_RUN(c, KERNEL_MOE_MATMUL_TN, &push, a, b, s.order, s.ranges, grad);
    return grad;
}

static void compare_biases(struct grad_case *c, int dup)
{
    const int dbup = grad_zeros(c, "dbup", EXPERTS * INNER),
              dbdown = grad_zeros(c, "dbdown", EXPERTS * HIDDEN);
    const struct push_moe_column_sum up = {EXPERTS, INNER, PICKS, 0},
                                     down = {EXPERTS, HIDDEN, PICKS, 1};
    GRAD_RUN(c, KERNEL_MOE_COLUMN_SUM, &up, dup, s.order, s.offsets, s.gates, dbup);
    GRAD_RUN(c, KERNEL_MOE_COLUMN_SUM, &down, s.weight, s.order, s.offsets, s.gates, dbdown);
    tally(grad_compare(c, m.bup, dbup));
    tally(grad_compare(c, m.bdown, dbdown));
}

static void compare_experts(struct grad_case *c)
{
    const int dgates = grad_zeros(c, "dgates", PAIRS), dh = grad_zeros(c, "dh", PAIRS * INNER),
              dgate = copy_of(c, "dgate", m.gate), dup = m.gated ? copy_of(c, "dup", m.up) : dgate,
              dx_pairs = grad_zeros(c, "dx pairs", PAIRS * HIDDEN),
              dx = grad_zeros(c, "dx", TOKENS * HIDDEN);
    struct push_moe_matmul push = m.up_push;
    push.gather = 1;
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NN, &push, s.weight, s.order, s.tiles, m.wdown, dh, s.weight,
             m.wdown);
    const struct push_moe_activate activate = {PAIRS, INNER, m.up_push.activation, m.gated};
    GRAD_RUN(c, KERNEL_MOE_ACTIVATE_BACK, &activate, dgate, dup, dh, s.inverse, s.gates, dgates);
    if (m.down_push.bias) {
        const struct push_moe_bias_back gates = {PAIRS, EXPERTS, HIDDEN, PICKS};
        GRAD_RUN(c, KERNEL_MOE_BIAS_BACK, &gates, s.weight, s.ids, m.bdown, dgates);
        compare_biases(c, dup);
    }
    const int dwdown = expert_weight_grad(c, "dwdown", s.weight, dh, true),
              dwup = expert_weight_grad(c, "dwup", dup, m.x, false),
              dwgate = m.gated ? expert_weight_grad(c, "dwgate", dgate, m.x, false) : -1;
    push = m.down_push;
    push.second = m.gated;
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NN, &push, dgate, s.order, s.tiles, m.gated ? m.wgate : m.wup,
             dx_pairs, dup, m.wup);
    const struct push_moe_combine plain = {.tokens = TOKENS, .cols = HIDDEN, .top_k = PICKS};
    GRAD_RUN(c, KERNEL_MOE_COMBINE, &plain, dx_pairs, s.inverse, s.gates, dx, dx);
    tally(grad_compare(c, m.x, dx));
    if (m.gated) tally(grad_compare(c, m.wgate, dwgate));
    tally(grad_compare(c, m.wup, dwup));
    tally(grad_compare(c, m.wdown, dwdown));
    tally(grad_compare(c, s.gates, dgates));
    tally(grad_compare(c, m.residual, s.weight));
}

static void experts(const char *name, uint32_t function, bool gated)
{
    struct grad_case c = grad_begin(name, 7);
    if (function == ACTIVATION_RELU2) corner(&c);
    expert_arrays(&c);
    m.gated = gated;
    s.push.combine = (struct push_moe_combine){
        .tokens = TOKENS, .cols = HIDDEN, .top_k = PICKS, .weighted = 1, .add = 1};
    m.up_push = (struct push_moe_matmul){.pairs = PAIRS,
                                         .experts = EXPERTS,
                                         .n = INNER,
                                         .k = HIDDEN,
                                         .top_k = PICKS,
                                         .save = 1,
                                         .activation = function,
                                         .bias = !gated};
    m.down_push = (struct push_moe_matmul){
        .pairs = PAIRS, .experts = EXPERTS, .n = HIDDEN, .k = INNER, .top_k = PICKS,
        .bias = !gated};
    c.forward = experts_forward;
    c.objective = weighted;
    c.forward(&c);
    compare_experts(&c);
    grad_end(&c);
}

void expert_cases(void)
{
    gate_rows();
    experts("experts, silu, gated", ACTIVATION_SILU, true);
    experts("experts, gelu, gated", ACTIVATION_GELU, true);
    experts("experts, gelu_tanh", ACTIVATION_GELU_TANH, false);
    experts("experts, relu2", ACTIVATION_RELU2, false);
}
