// SPDX-License-Identifier: MIT
// Linear layers as steps: y = x W^T and its two gradients. Weights are [out][in]; T tokens. A
// weight that is larger than what one binding may cover is taken in windows of its rows: columns of
// y, rows of the gradient, and shares of the sum of dx. A product whose sums were measured to be
// faster in parts is split (kernels_parts).
#include "src/base.h"
#include "src/plan_model.h"

enum {
    MATVEC_ROWS = 1,   // up to here a linear layer is a matvec (2 to 4 rows: 4x slower so)
    WINDOW_ROWS = 128, // windows are multiples, so that every range begins aligned
};

uint32_t network_window(const struct network *n, uint32_t rows, uint64_t row_bytes)
{
    const uint64_t most = n->plan->gpu->caps.max_range / row_bytes;
    if (most >= rows) return rows;
    return (uint32_t)max_u64(most / WINDOW_ROWS * WINDOW_ROWS, WINDOW_ROWS);
}

struct plan_range network_rows(struct plan_range range, uint64_t row_bytes, uint32_t begin,
                               uint32_t rows)
{
    return plan_slice(range, begin * row_bytes, rows * row_bytes);
}

// All from `begin` bytes on.
static struct plan_range rest(struct plan_range range, uint64_t begin)
{
    return plan_slice(range, begin, range.bytes - begin);
}

// In `parts` shares of the sum, which fill a device that c alone leaves idle; then their sum.
static void split(struct network *n, enum kernel_op op, const struct push_matmul *push,
                  uint32_t parts, struct plan_range a, struct plan_range b, struct plan_range r,
                  struct plan_range c, struct plan_range bias)
{
    const bool wide = op != KERNEL_MATMUL_NT && op != KERNEL_MATMUL_NN; // f32 c
    const struct plan_range partial =
        plan_temp(n->plan, 4ull * parts * push->m * push->n, "partial");
    struct push_matmul share = {.m = push->m, .n = push->n, .k = push->k, .lda = push->lda,
                                .ldb = push->ldb, .parts = parts};
    struct push_matmul sum = *push;
    sum.parts = parts;
    if (op == KERNEL_MATMUL_NT) op = KERNEL_MATMUL_NTF;
    if (op == KERNEL_MATMUL_NN) op = KERNEL_MATMUL_NNF;
    plan_add(n->plan, op, share.m, &share, PLAN_BIND(a, b, partial, partial, a));
    plan_add(n->plan, wide ? KERNEL_MATMUL_SUMF : KERNEL_MATMUL_SUM, sum.m, &sum,
             PLAN_BIND(partial, r, c, bias));
}

static void matmul(struct network *n, enum kernel_op op, const struct push_matmul *push,
                   struct plan_range a, struct plan_range b, struct plan_range r,
                   struct plan_range c, struct plan_range bias)
{
    const struct kernel_size size = kernel_size_of(op, push->m, push);
    const uint32_t parts = kernels_parts(n->plan->kernels, op, n->plan->store, &size);
    const uint64_t bytes = 4ull * parts * push->m * push->n;
    if (parts > 1 && bytes <= n->plan->gpu->caps.max_range)
        split(n, op, push, parts, a, b, r, c, bias);
    else plan_add(n->plan, op, push->m, push, PLAN_BIND(a, b, r, c, bias));
}

// Where there is one window, strides stay 0: dense.
static uint32_t stride(uint32_t window, uint32_t out) { return window < out ? out : 0; }

static void forward(struct network *n, enum kernel_op op, struct plan_range x,
                    struct plan_range weight, struct plan_range bias, struct plan_range y,
                    const struct plan_range *residual, uint32_t rows, uint32_t out, uint32_t in,
                    uint64_t y_bytes)
{
    const uint64_t row = (uint64_t)in * n->store_bytes;
    const uint32_t window = network_window(n, out, row);
    for (uint32_t begin = 0; begin < out; begin += window) {
        const uint32_t count = min_u32(window, out - begin);
        const struct push_matmul push = {.m = rows, .n = count, .k = in, .add = residual != NULL,
                                         .bias = bias.tensor != 0,
                                         .ldc = stride(window, out)};
        const struct plan_range c = rest(y, begin * y_bytes);
        matmul(n, op, &push, x, network_rows(weight, row, begin, count),
               residual ? rest(*residual, begin * y_bytes) : c, c,
               bias.tensor ? rest(bias, (uint64_t)begin * n->store_bytes) : x);
    }
}

void network_linear(struct network *n, struct plan_range x, struct plan_range weight,
                    struct plan_range y, const struct plan_range *residual, uint32_t rows,
                    uint32_t out, uint32_t in)
{
    network_linear_bias(n, x, weight, (struct plan_range){0}, y, residual, rows, out, in);
}

void network_linear_bias(struct network *n, struct plan_range x, struct plan_range weight,
                         struct plan_range bias, struct plan_range y,
                         const struct plan_range *residual, uint32_t rows, uint32_t out,
                         uint32_t in)
{
    forward(n, rows <= MATVEC_ROWS ? KERNEL_MATVEC : KERNEL_MATMUL_NT, x, weight, bias, y,
            residual, rows, out, in, n->store_bytes);
}

void network_linear_f32(struct network *n, struct plan_range x, struct plan_range weight,
                        struct plan_range y, uint32_t rows, uint32_t out, uint32_t in)
{
    network_linear_bias_f32(n, x, weight, (struct plan_range){0}, y, rows, out, in);
}

void network_linear_bias_f32(struct network *n, struct plan_range x, struct plan_range weight,
                             struct plan_range bias, struct plan_range y, uint32_t rows,
                             uint32_t out, uint32_t in)
{
    forward(n, rows <= MATVEC_ROWS ? KERNEL_MATVECF : KERNEL_MATMUL_NTF, x, weight, bias, y, NULL,
            rows, out, in, 4);
}

void network_bias_grad(struct network *n, struct plan_range dy, struct plan_range grad,
                       uint32_t rows, uint32_t cols)
{
    const struct push_column_sum push = {.rows = rows, .cols = cols};
    plan_add(n->plan, KERNEL_COLUMN_SUM, 0, &push, PLAN_BIND(dy, dy, grad));
}

void network_linear_back_weight(struct network *n, struct plan_range dy, struct plan_range x,
                                struct plan_range grad, uint32_t rows, uint32_t out, uint32_t in)
{
    const uint64_t row = 4ull * in;
    const uint32_t window = network_window(n, out, row);
    for (uint32_t begin = 0; begin < out; begin += window) {
        const uint32_t count = min_u32(window, out - begin);
        const struct push_matmul push = {.m = count, .n = in, .k = rows, .add = 1,
                                         .lda = stride(window, out)};
        const struct plan_range c = network_rows(grad, row, begin, count);
        matmul(n, KERNEL_MATMUL_TN, &push, rest(dy, (uint64_t)begin * n->store_bytes), x, c, c,
               x);
    }
}

void network_linear_back_input(struct network *n, struct plan_range dy, struct plan_range weight,
                               struct plan_range dx, uint32_t rows, uint32_t out, uint32_t in,
                               bool add)
{
    const uint64_t row = (uint64_t)in * n->store_bytes;
    const uint32_t window = network_window(n, out, row);
    for (uint32_t begin = 0; begin < out; begin += window) {
        const uint32_t count = min_u32(window, out - begin);
        const struct push_matmul push = {.m = rows, .n = in, .k = count, .add = add || begin > 0,
                                         .lda = stride(window, out)};
        matmul(n, KERNEL_MATMUL_NN, &push, rest(dy, (uint64_t)begin * n->store_bytes),
               network_rows(weight, row, begin, count), dx, dx, dx);
    }
}
