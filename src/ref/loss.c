// SPDX-License-Identifier: MIT
// References of loss (softmax cross-entropy of each row against one target, and its gradient in
// place; loss_capped shares it) and of softcap.
#include "ref.h"

static double capped(const struct push_loss *push, double x)
{
    return push->softcap != 0 ? (double)push->softcap * tanh(x / (double)push->softcap) : x;
}

static void loss_row(const struct gpu_ref_call *call, size_t row, uint32_t target, double scale)
{
    const struct push_loss *push = call->push;
    double top = -INFINITY, sum = 0;
    for (uint32_t c = 0; c < push->vocab; c++)
        top = fmax(top, capped(push, ref_load(call, 1, row * push->vocab + c)));
    for (uint32_t c = 0; c < push->vocab; c++)
        sum += exp(capped(push, ref_load(call, 1, row * push->vocab + c)) - top);
    const double log_sum = top + log(sum);
    ((float *)call->buffer[3])[row] =
        (float)(log_sum - capped(push, ref_load(call, 1, row * push->vocab + target)));
    for (uint32_t c = 0; c < push->vocab && push->backward; c++) {
        const double x = capped(push, ref_load(call, 1, row * push->vocab + c));
        const double cap = (double)push->softcap, slope = cap != 0 ? 1 - x * x / (cap * cap) : 1;
        const double p = exp(x - log_sum);
        ref_store(call, 1, row * push->vocab + c, scale * slope * (p - (c == target)));
    }
}

void ref_loss(const struct gpu_ref_call *call)
{
    const struct push_loss *push = call->push;
    const struct step_words *step = call->buffer[0];
    const uint32_t *targets = call->buffer[2];
    for (uint32_t r = 0; r < push->rows; r++) {
        if (targets[r] < push->vocab) {
            loss_row(call, r, targets[r], (double)step->loss_scale);
            continue;
        }
        ((float *)call->buffer[3])[r] = 0;
        for (uint32_t c = 0; c < push->vocab && push->backward; c++)
            ref_store(call, 1, (size_t)r * push->vocab + c, 0);
    }
}

void ref_softcap(const struct gpu_ref_call *call)
{
    const struct push_softcap *p = call->push;
    float *x = call->buffer[0];
    for (size_t i = 0; i < p->count; i++)
        x[i] = (float)((double)p->cap * tanh((double)x[i] / (double)p->cap));
}
