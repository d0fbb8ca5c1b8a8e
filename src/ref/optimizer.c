// SPDX-License-Identifier: MIT
// References of sum, grad_norm, grad_clip and adamw: from gradients to the next parameters.
#include "ref.h"

void ref_sum(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    const float *x = call->buffer[0];
    float *out = (float *)call->buffer[1] + push->index;
    double sum = push->accumulate ? (double)*out : 0;
    for (uint32_t i = 0; i < push->count; i++) sum += (double)x[i];
    *out = (float)sum;
}

void ref_grad_norm(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    const float *g = call->buffer[0];
    float *partial = (float *)call->buffer[1] + push->index;
    for (uint32_t b = 0; b < ceil_div(push->count, push->block); b++) {
        double sum = 0;
        for (uint32_t i = b * push->block;
             i < min_u64(push->count, (b + UINT64_C(1)) * push->block); i++)
            sum += (double)g[i] * (double)g[i];
        partial[b] = (float)sum;
    }
}

void ref_grad_clip(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *partial = call->buffer[1];
    float *norm = call->buffer[2];
    double sum = 0;
    for (uint32_t i = 0; i < push->count; i++) sum += (double)partial[i];
    const bool finite = isfinite((float)sum); // the device adds in f32
    const double scaled = sqrt(finite ? sum : (double)(float)sum) * (double)step->unscale;
    const double limit = (double)step->max_grad_norm;
    const double factor = limit > 0 ? fmin(1, limit / (scaled + 1e-6)) : 1;
    norm[0] = (float)scaled;
    norm[1] = finite ? (float)(factor * (double)step->unscale) : 0;
    norm[2] = finite;
    norm[3] = 0;
}

// torch.optim.AdamW's order: decay first, then the moments, then the step.
void ref_adamw(const struct gpu_ref_call *call)
{
    const struct push_adamw *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *norm = call->buffer[1], *g = call->buffer[3];
    float *p = call->buffer[2], *m = call->buffer[4], *v = call->buffer[5];
    const double rate = (double)step->learning_rate, beta1 = (double)push->beta1,
                 beta2 = (double)push->beta2;
    for (uint32_t i = 0; i < push->count; i++) {
        if (norm[2] != 0) {
            const double gradient = (double)g[i] * (double)norm[1];
            const double mean = beta1 * (double)m[i] + (1 - beta1) * gradient;
            const double square = beta2 * (double)v[i] + (1 - beta2) * gradient * gradient;
            const double divisor =
                sqrt(square) / sqrt((double)step->correction2) + (double)push->eps;
            const double decayed = (double)p[i] * (1 - rate * (double)push->weight_decay);
            p[i] = (float)(decayed - rate / (double)step->correction1 * mean / divisor);
            m[i] = (float)mean;
            v[i] = (float)square;
        }
        if (push->copy) ref_store(call, 6, i, (double)p[i]);
    }
}
