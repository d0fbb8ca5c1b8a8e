// SPDX-License-Identifier: MIT
// References of gate_rows, rows times the sigmoid of a number each, and of that gate's gradient.
#include "ref.h"

void ref_gate_rows(const struct gpu_ref_call *call)
{
    const struct push_gate_rows *push = call->push;
    const float *logits = call->buffer[0];
    for (uint32_t r = 0; r < push->rows; r++) {
        const double gate = 1 / (1 + exp(-(double)logits[r]));
        for (uint32_t c = 0; c < push->cols; c++) {
            const size_t at = (size_t)r * push->cols + c;
            ref_store(call, 1, at, gate * ref_load(call, 1, at));
        }
        ((float *)call->buffer[2])[r] = (float)gate;
        ((uint32_t *)call->buffer[3])[r] = r;
    }
}

void ref_gate_rows_back(const struct gpu_ref_call *call)
{
    const struct push_count *push = call->push;
    const float *dgates = call->buffer[0], *gates = call->buffer[1];
    for (uint32_t r = 0; r < push->count; r++) {
        const double gate = (double)gates[r];
        ref_store(call, 2, r, (double)dgates[r] * gate * (1 - gate));
    }
}
