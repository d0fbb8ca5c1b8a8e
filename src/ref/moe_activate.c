// SPDX-License-Identifier: MIT
// Reference of moe_activate_back: the gradient of weight * f(gate) up by pairs, in place.
#include "src/ref/ref.h"

void ref_moe_activate_back(const struct gpu_ref_call *call)
{
    const struct push_moe_activate *p = call->push;
    const enum kernel_activation f = (enum kernel_activation)p->activation;
    const uint32_t *inverse = call->buffer[3];
    const float *gates = call->buffer[4];
    float *dgates = call->buffer[5];
    for (uint32_t pair = 0; pair < p->pairs; pair++) {
        double dot = 0;
        for (uint32_t c = 0; c < p->cols && inverse[pair] != KERNEL_NONE_ID; c++) {
            const size_t at = (size_t)inverse[pair] * p->cols + c;
            const double g = ref_load(call, 0, at), dh = ref_load(call, 2, at);
            const double u = p->gated ? ref_load(call, 1, at) : 1, weight = (double)gates[pair];
            const double y = ref_activation(f, g);
            ref_store(call, 0, at, weight * dh * u * ref_activation_slope(f, g));
            if (p->gated) ref_store(call, 1, at, weight * dh * y);
            ref_store(call, 2, at, weight * y * u);
            dot += dh * y * u;
        }
        dgates[pair] = (float)dot;
    }
}
