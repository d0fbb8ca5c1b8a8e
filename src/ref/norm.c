// SPDX-License-Identifier: MIT
// References of norm, norm_back and norm_back_weight: RMSNorm (Zhang & Sennrich 2019) and its
// gradients. With xhat = x rstd and g = dy weight: dx = rstd (g - xhat mean(g xhat)).
#include "src/ref/ref.h"

// the weight of column c of row r
static double weight_of(const struct gpu_ref_call *call, size_t r, size_t c)
{
    const struct push_norm *p = call->push;
    if (p->weights == KERNEL_NONE_ID) return 1;
    return ref_load(call, 1, p->weights ? r % p->weights : c);
}

void ref_norm(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    float *rstd = call->buffer[3]; // [rows]
    for (size_t r = 0; r < p->rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < p->cols; c++) {
            const double x = ref_load(call, 0, r * p->cols + c);
            sum += x * x;
        }
        const double scale = 1.0 / sqrt(sum / p->cols + (double)p->eps);
        for (size_t c = 0; c < p->cols; c++) {
            const double x = ref_load(call, 0, r * p->cols + c);
            ref_store(call, 2, r * p->cols + c, x * scale * weight_of(call, r, c));
        }
        rstd[r] = (float)scale;
    }
}

void ref_norm_back(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    const float *rstd = call->buffer[2]; // [rows]
    for (size_t r = 0; r < p->rows; r++) {
        const size_t row = r * p->cols;
        double dot = 0; // sum of g xhat
        for (size_t c = 0; c < p->cols; c++) {
            const double xhat = ref_load(call, 0, row + c) * rstd[r];
            dot += ref_load(call, 3, row + c) * weight_of(call, r, c) * xhat;
        }
        const double mean = dot / p->cols;
        for (size_t c = 0; c < p->cols; c++) {
            const double g = ref_load(call, 3, row + c) * weight_of(call, r, c);
            const double xhat = ref_load(call, 0, row + c) * rstd[r];
            const double old = p->accumulate ? ref_load(call, 4, row + c) : 0.0;
            ref_store(call, 4, row + c, old + rstd[r] * (g - xhat * mean));
        }
    }
}

void ref_norm_back_weight(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    const float *rstd = call->buffer[1]; // [rows]
    float *dweight = call->buffer[3];    // [cols]
    for (size_t c = 0; c < p->cols; c++) {
        double sum = dweight[c];
        for (size_t r = 0; r < p->rows; r++) {
            const double xhat = ref_load(call, 0, r * p->cols + c) * rstd[r];
            sum += ref_load(call, 2, r * p->cols + c) * xhat;
        }
        dweight[c] = (float)sum;
    }
}
