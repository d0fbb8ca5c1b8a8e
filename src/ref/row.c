// SPDX-License-Identifier: MIT
// References of what the cosine body of a router is made of: column_scale, row_inverse,
// row_project.
#include "ref.h"

void ref_column_scale(const struct gpu_ref_call *call)
{
    const struct push_column_scale *p = call->push;
    const float *factor = call->buffer[0];
    const uint32_t *base = call->buffer[1];
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->cols; c++) {
            const size_t at = r * p->cols + c, first = p->based ? base[r] : 0;
            ref_store(call, 2, at,
                      ref_load(call, 2, at) * (double)p->scale * (double)factor[first + c]);
        }
}

void ref_row_inverse(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    for (size_t r = 0; r < p->rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < p->cols; c++) {
            const double x = ref_load(call, 0, r * p->cols + c);
            sum += x * x;
        }
        ((float *)call->buffer[1])[r] = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    }
}

void ref_row_project(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    const float *inverse = call->buffer[1];
    float *g = call->buffer[2];
    for (size_t r = 0; r < p->rows; r++) {
        const size_t row = r * p->cols;
        double dot = 0;
        for (size_t c = 0; c < p->cols; c++)
            dot += (double)g[row + c] * ref_load(call, 0, row + c);
        const double along = dot * (double)inverse[r] * (double)inverse[r];
        for (size_t c = 0; c < p->cols; c++)
            g[row + c] = (float)((double)g[row + c] - along * ref_load(call, 0, row + c));
    }
}
