// SPDX-License-Identifier: MIT
// References of smear, a gate by columns between a row and the row before it in its sequence, and
// of the gradient of the gate.
#include "src/ref/ref.h"

static double logistic(double x) { return 1 / (1 + exp(-x)); }

void ref_smear(const struct gpu_ref_call *call)
{
    const struct push_smear *p = call->push;
    for (size_t t = 0; t < p->rows; t++) {
        const size_t own = p->first + t, other = p->back ? own + 1 : own - 1;
        const bool shares = p->first || (p->back ? t + 1 : t) % p->seq;
        for (size_t c = 0; c < p->cols; c++) {
            const double g = logistic(ref_load(call, 1, c));
            const double share = shares ? ref_load(call, 0, other * p->cols + c) : 0;
            ref_store(call, 2, t * p->cols + c,
                      (1 - g) * ref_load(call, 0, own * p->cols + c) + g * share);
        }
    }
}

void ref_smear_back_gate(const struct gpu_ref_call *call)
{
    const struct push_smear *p = call->push;
    float *dgate = call->buffer[3];
    for (size_t c = 0; c < p->cols; c++) {
        const double g = logistic(ref_load(call, 1, c));
        double sum = 0;
        for (size_t t = 0; t < p->rows; t++) {
            const double own = ref_load(call, 0, t * p->cols + c),
                         before = t % p->seq ? ref_load(call, 0, (t - 1) * p->cols + c) : 0;
            sum += ref_load(call, 2, t * p->cols + c) * (before - own);
        }
        dgate[c] = (float)((double)dgate[c] + g * (1 - g) * sum);
    }
}
