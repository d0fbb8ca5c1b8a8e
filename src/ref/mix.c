// SPDX-License-Identifier: MIT
// References of mix, and of the sums that are gradients of biases and of factors of columns:
// column_sum (column_sumf), moe_column_sum, moe_bias_back.
#include "src/ref/ref.h"

static double factor(const struct gpu_ref_call *call, int b, uint32_t is, size_t column)
{
    switch ((enum kernel_factor)is) {
    case FACTOR_ONE: return 1;
    case FACTOR_COLUMN: return ref_load(call, b, column);
    case FACTOR_NUMBER: return ref_load(call, b, 0);
    case FACTOR_ABSENT: return 0;
    }
    return NAN;
}

void ref_mix(const struct gpu_ref_call *call)
{
    const struct push_mix *p = call->push;
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->cols; c++) {
            const size_t at = r * p->cols + c;
            double y = ref_load(call, 0, at) * factor(call, 2, p->a, c);
            if (p->b != FACTOR_ABSENT) y += ref_load(call, 1, at) * factor(call, 3, p->b, c);
            ref_store(call, 4, at, y);
        }
}

void ref_column_sum(const struct gpu_ref_call *call)
{
    const struct push_column_sum *p = call->push;
    float *out = call->buffer[2];
    for (size_t c = 0; c < p->cols; c++) {
        double sum = (double)out[c];
        for (size_t r = 0; r < p->rows; r++) {
            const size_t at = r * p->cols + c;
            sum += ref_load(call, 0, at) * (p->product ? ref_load(call, 1, at) : 1);
        }
        out[c] = (float)sum;
    }
}

void ref_moe_column_sum(const struct gpu_ref_call *call)
{
    const struct push_moe_column_sum *p = call->push;
    const uint32_t *order = call->buffer[1], *offsets = call->buffer[2];
    const float *gates = call->buffer[3];
    float *out = call->buffer[4];
    for (size_t e = 0; e < p->experts; e++)
        for (size_t c = 0; c < p->cols; c++) {
            double sum = (double)out[e * p->cols + c];
            for (size_t i = offsets[e]; i < offsets[e + 1]; i++) {
                const size_t row = p->gather ? order[i] / p->top_k : i;
                const double weight = p->gather ? (double)gates[order[i]] : 1;
                sum += weight * ref_load(call, 0, row * p->cols + c);
            }
            if (offsets[e] < offsets[e + 1]) out[e * p->cols + c] = (float)sum;
        }
}

void ref_moe_bias_back(const struct gpu_ref_call *call)
{
    const struct push_moe_bias_back *p = call->push;
    const uint32_t *ids = call->buffer[1];
    float *dgates = call->buffer[3];
    for (size_t i = 0; i < p->pairs; i++) {
        double sum = (double)dgates[i];
        if (ids[i] >= p->experts) continue;
        for (size_t c = 0; c < p->cols; c++)
            sum += ref_load(call, 0, i / p->top_k * p->cols + c) *
                   ref_load(call, 2, (size_t)ids[i] * p->cols + c);
        dgates[i] = (float)sum;
    }
}
