// SPDX-License-Identifier: MIT
// References of the elementwise operations: swiglu (Shazeer 2020), its gradient, and cast.
#include "src/ref/ref.h"

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

void ref_swiglu(const struct gpu_ref_call *call)
{
    const struct push_count *p = call->push;
    for (size_t i = 0; i < p->count; i++) {
        const double g = ref_load(call, 0, i);
        ref_store(call, 2, i, g * sigmoid(g) * ref_load(call, 1, i));
    }
}

void ref_swiglu_back(const struct gpu_ref_call *call)
{
    const struct push_count *p = call->push;
    for (size_t i = 0; i < p->count; i++) {
        const double g = ref_load(call, 0, i), u = ref_load(call, 1, i), dh = ref_load(call, 2, i);
        const double s = sigmoid(g);
        ref_store(call, 3, i, dh * u * s * (1.0 + g * (1.0 - s)));
        ref_store(call, 4, i, dh * g * s);
        ref_store(call, 5, i, g * s * u);
    }
}

void ref_cast(const struct gpu_ref_call *call)
{
    const struct push_count *p = call->push;
    const float *from = call->buffer[0];
    for (size_t i = 0; i < p->count; i++) ref_store(call, 1, i, (double)from[i]);
}
