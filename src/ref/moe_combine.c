// SPDX-License-Identifier: MIT
// Reference of moe_combine: each token gathers the rows of its own picks.
#include "ref.h"

void ref_moe_combine(const struct gpu_ref_call *call)
{
    const struct push_moe_combine *push = call->push;
    const uint32_t *inverse = call->buffer[1];
    const float *gates = call->buffer[2];
    for (uint32_t t = 0; t < push->tokens; t++)
        for (uint32_t c = 0; c < push->cols; c++) {
            const size_t at = (size_t)t * push->cols + c;
            double sum = push->add ? ref_load(call, 3, at) : 0;
            for (uint32_t p = t * push->top_k; p < (t + 1) * push->top_k; p++) {
                if (inverse[p] == KERNEL_NONE_ID) continue;
                const double y = ref_load(call, 0, (size_t)inverse[p] * push->cols + c);
                sum += push->weighted ? (double)gates[p] * y : y;
            }
            ref_store(call, 4, at, sum);
        }
}
