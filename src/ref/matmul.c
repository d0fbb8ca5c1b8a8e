// SPDX-License-Identifier: MIT
// References of the dense matrix products: matmul_nt, _ntf, _nn, _tn (matvec and matvecf are the
// first two).
#include "src/ref/ref.h"

// c[i][j] = sum over t of a(i, t) b(t, j), with the strides of the two forms of each operand
static void product(const struct gpu_ref_call *call, size_t a_row, size_t a_step, size_t b_column,
                    size_t b_step, enum dtype out)
{
    const struct push_matmul *p = call->push;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            double sum = 0;
            for (size_t t = 0; t < p->k; t++)
                sum += ref_load(call, 0, i * a_row + t * a_step) *
                       ref_load(call, 1, j * b_column + t * b_step);
            if (p->add) sum += dtype_load(call->buffer[2], i * p->n + j, out);
            dtype_store(call->buffer[3], i * p->n + j, out, sum);
        }
}

void ref_matmul_nt(const struct gpu_ref_call *call)
{
    const struct push_matmul *p = call->push;
    product(call, p->k, 1, p->k, 1, (enum dtype)call->tag);
}

void ref_matmul_ntf(const struct gpu_ref_call *call)
{
    const struct push_matmul *p = call->push;
    product(call, p->k, 1, p->k, 1, DTYPE_F32);
}

void ref_matmul_nn(const struct gpu_ref_call *call)
{
    const struct push_matmul *p = call->push;
    product(call, p->k, 1, 1, p->n, (enum dtype)call->tag);
}

void ref_matmul_tn(const struct gpu_ref_call *call)
{
    const struct push_matmul *p = call->push;
    product(call, 1, p->m, 1, p->n, DTYPE_F32);
}
