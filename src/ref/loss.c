// SPDX-License-Identifier: MIT
// Reference of loss: softmax cross-entropy of each row against one target, and its gradient in
// place.
#include "ref.h"

static void loss_row(const struct gpu_ref_call *call, size_t row, uint32_t target, double scale)
{
    const struct push_loss *push = call->push;
    double top = -INFINITY, sum = 0;
    for (uint32_t c = 0; c < push->vocab; c++)
        top = fmax(top, ref_load(call, 1, row * push->vocab + c));
    for (uint32_t c = 0; c < push->vocab; c++)
        sum += exp(ref_load(call, 1, row * push->vocab + c) - top);
    const double log_sum = top + log(sum);
    ((float *)call->buffer[3])[row] =
        (float)(log_sum - ref_load(call, 1, row * push->vocab + target));
    for (uint32_t c = 0; c < push->vocab && push->backward; c++) {
        const double p = exp(ref_load(call, 1, row * push->vocab + c) - log_sum);
        ref_store(call, 1, row * push->vocab + c, scale * (p - (c == target)));
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
