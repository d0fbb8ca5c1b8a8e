// SPDX-License-Identifier: MIT
// References of the dense matrix products: matmul_nt, _ntf, _nn, _nnf, _tn, their split sums
// (matmul_sum, _sumf), and the epilogue of all of them. matvec and matvecf are the first two.
#include "src/ref/ref.h"

// Where the epilogue's bindings lie: r, c and bias follow the operands.
enum { PRODUCT_R = 2, SUM_R = 1 };

static void finish(const struct gpu_ref_call *call, int r, size_t i, size_t j, enum dtype out,
                   double sum)
{
    const struct push_matmul *p = call->push;
    const size_t at = i * (p->ldc ? p->ldc : p->n) + j;
    if (p->scale != 0) sum *= p->scale;
    if (p->bias) sum += ref_load(call, r + 2, j);
    sum = ref_activation((enum kernel_activation)p->activation, sum);
    if (p->add) sum += dtype_load(call->buffer[r], at, out);
    dtype_store(call->buffer[r + 1], at, out, sum);
}

// sum over t of [begin, end) of a(i, t) b(t, j), with the strides of the two forms of each operand
struct strides { size_t a_row, a_step, b_column, b_step; };

static double dot(const struct gpu_ref_call *call, const struct strides *s, size_t i, size_t j,
                  size_t begin, size_t end)
{
    double sum = 0;
    for (size_t t = begin; t < end; t++)
        sum += ref_load(call, 0, i * s->a_row + t * s->a_step) *
               ref_load(call, 1, j * s->b_column + t * s->b_step);
    return sum;
}

static void product(const struct gpu_ref_call *call, const struct strides *s, enum dtype out)
{
    const struct push_matmul *p = call->push;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++)
            finish(call, PRODUCT_R, i, j, out, dot(call, s, i, j, 0, p->k));
}

static void shares(const struct gpu_ref_call *call, const struct strides *s)
{
    const struct push_matmul *p = call->push;
    const size_t share = KERNEL_SHARE((size_t)p->k, p->parts);
    float *partial = call->buffer[PRODUCT_R + 1];
    for (size_t part = 0; part < p->parts; part++)
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->n; j++) {
                const size_t end = (part + 1) * share < p->k ? (part + 1) * share : p->k;
                *partial++ = (float)dot(call, s, i, j, part * share, end);
            }
}

static void product_f32(const struct gpu_ref_call *call, const struct strides *s)
{
    const struct push_matmul *p = call->push;
    if (p->parts > 1) shares(call, s);
    else product(call, s, DTYPE_F32);
}

static size_t or_dense(uint32_t given, uint32_t dense) { return given ? given : dense; }

static struct strides strides_nt(const struct push_matmul *p)
{
    return (struct strides){or_dense(p->lda, p->k), 1, or_dense(p->ldb, p->k), 1};
}

static struct strides strides_nn(const struct push_matmul *p)
{
    return (struct strides){or_dense(p->lda, p->k), 1, 1, or_dense(p->ldb, p->n)};
}

void ref_matmul_nt(const struct gpu_ref_call *call)
{
    const struct strides s = strides_nt(call->push);
    product(call, &s, (enum dtype)call->tag);
}

void ref_matmul_ntf(const struct gpu_ref_call *call)
{
    const struct strides s = strides_nt(call->push);
    product_f32(call, &s);
}

void ref_matmul_nn(const struct gpu_ref_call *call)
{
    const struct strides s = strides_nn(call->push);
    product(call, &s, (enum dtype)call->tag);
}

void ref_matmul_nnf(const struct gpu_ref_call *call)
{
    const struct strides s = strides_nn(call->push);
    product_f32(call, &s);
}

void ref_matmul_tn(const struct gpu_ref_call *call)
{
    const struct push_matmul *p = call->push;
    product_f32(call, &(struct strides){1, or_dense(p->lda, p->m), 1, or_dense(p->ldb, p->n)});
}

static void sum(const struct gpu_ref_call *call, enum dtype out)
{
    const struct push_matmul *p = call->push;
    const float *partial = call->buffer[0];
    const size_t step = (size_t)p->m * p->n;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            double total = 0;
            for (size_t part = 0; part < p->parts; part++)
                total += partial[part * step + i * p->n + j];
            finish(call, SUM_R, i, j, out, total);
        }
}

void ref_matmul_sum(const struct gpu_ref_call *call) { sum(call, (enum dtype)call->tag); }

void ref_matmul_sumf(const struct gpu_ref_call *call) { sum(call, DTYPE_F32); }
