// SPDX-License-Identifier: MIT
// References of smear, a gate by columns between a row and the row before it in its sequence (or,
// where `begins` is given, in its document), and of the gradient of the gate.
#include "src/ref/ref.h"

static double logistic(double x) { return 1 / (1 + exp(-x)); }

// whether row t takes a share of the row before it
static bool shares(const struct push_smear *p, const uint32_t *begins, size_t t)
{
    if (t % p->seq == 0) return false;
    return !begins || begins[t] < t % p->seq;
}

static void smear(const struct gpu_ref_call *call, const uint32_t *begins)
{
    const struct push_smear *p = call->push;
    for (size_t t = 0; t < p->rows; t++) {
        const size_t own = p->first + t, other = p->back ? own + 1 : own - 1;
        const bool has = p->first || shares(p, begins, p->back ? t + 1 : t);
        for (size_t c = 0; c < p->cols; c++) {
            const double g = logistic(ref_load(call, 1, c));
            const double share = has ? ref_load(call, 0, other * p->cols + c) : 0;
            ref_store(call, 2, t * p->cols + c,
                      (1 - g) * ref_load(call, 0, own * p->cols + c) + g * share);
        }
    }
}

void ref_smear(const struct gpu_ref_call *call) { smear(call, NULL); }
void ref_smear_within(const struct gpu_ref_call *call) { smear(call, call->buffer[3]); }

static void back_gate(const struct gpu_ref_call *call, const uint32_t *begins)
{
    const struct push_smear *p = call->push;
    float *dgate = call->buffer[3];
    for (size_t c = 0; c < p->cols; c++) {
        const double g = logistic(ref_load(call, 1, c));
        double sum = 0;
        for (size_t t = 0; t < p->rows; t++) {
            const double own = ref_load(call, 0, t * p->cols + c),
                         before = shares(p, begins, t) ? ref_load(call, 0, (t - 1) * p->cols + c)
                                                       : 0;
            sum += ref_load(call, 2, t * p->cols + c) * (before - own);
        }
        dgate[c] = (float)((double)dgate[c] + g * (1 - g) * sum);
    }
}

void ref_smear_back_gate(const struct gpu_ref_call *call) { back_gate(call, NULL); }
void ref_smear_back_gate_within(const struct gpu_ref_call *call)
{
    back_gate(call, call->buffer[4]);
}
