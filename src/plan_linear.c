// SPDX-License-Identifier: MIT
// Linear layers as steps: y = x W^T and its two gradients. Weights are [out][in]; T tokens.
#include "src/base.h"
#include "src/plan_model.h"

enum { MATVEC_ROWS = 1 }; // up to here a linear layer is a matvec (2 to 4 rows: 4x slower so)

void network_matmul(struct network *n, enum kernel_op op, const struct push_matmul *push,
                    struct plan_range a, struct plan_range b, struct plan_range r,
                    struct plan_range c)
{
    plan_add(n->plan, op, push->m, push, PLAN_BIND(a, b, r, c, a));
}

void network_linear(struct network *n, struct plan_range x, struct plan_range weight,
                    struct plan_range y, const struct plan_range *residual, uint32_t rows,
                    uint32_t out, uint32_t in)
{
    const struct push_matmul push = {.m = rows, .n = out, .k = in, .add = residual != NULL};
    const enum kernel_op op = rows <= MATVEC_ROWS ? KERNEL_MATVEC : KERNEL_MATMUL_NT;
    network_matmul(n, op, &push, x, weight, residual ? *residual : y, y);
}

void network_linear_f32(struct network *n, struct plan_range x, struct plan_range weight,
                        struct plan_range y, uint32_t rows, uint32_t out, uint32_t in)
{
    const struct push_matmul push = {.m = rows, .n = out, .k = in};
    const enum kernel_op op = rows <= MATVEC_ROWS ? KERNEL_MATVECF : KERNEL_MATMUL_NTF;
    network_matmul(n, op, &push, x, weight, y, y);
}

void network_linear_back_weight(struct network *n, struct plan_range dy, struct plan_range x,
                                struct plan_range grad, uint32_t rows, uint32_t out, uint32_t in)
{
    const struct push_matmul push = {.m = out, .n = in, .k = rows, .add = 1};
    network_matmul(n, KERNEL_MATMUL_TN, &push, dy, x, grad, grad);
}

void network_linear_back_input(struct network *n, struct plan_range dy, struct plan_range weight,
                               struct plan_range dx, uint32_t rows, uint32_t out, uint32_t in,
                               bool add)
{
    const struct push_matmul push = {.m = rows, .n = in, .k = out, .add = add};
    network_matmul(n, KERNEL_MATMUL_NN, &push, dy, weight, dx, dx);
}
