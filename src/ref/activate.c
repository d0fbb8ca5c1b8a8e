// SPDX-License-Identifier: MIT
// References of activate and activate_back, and the functions themselves, for the epilogues of all
// matmuls too.
#include "src/ref/ref.h"

static double normal_distribution(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }

static double logistic(double x) { return 1.0 / (1.0 + exp(-x)); }

double ref_activation(enum kernel_activation activation, double x)
{
    switch (activation) {
    case ACTIVATION_SILU: return x * logistic(x);
    case ACTIVATION_GELU: return x * normal_distribution(x);
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_RELU2: return x > 0 ? x * x : 0;
    case ACTIVATION_NONE: return x;
    case ACTIVATION_COUNT: break;
    }
    return NAN;
}

double ref_activation_slope(enum kernel_activation activation, double x)
{
    const double s = logistic(x), inner = sqrt(M_2_PI) * (x + 0.044715 * x * x * x),
                 t = tanh(inner), d = sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x);
    switch (activation) {
    case ACTIVATION_SILU: return s * (1 + x * (1 - s));
    case ACTIVATION_GELU:
        return normal_distribution(x) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
    case ACTIVATION_GELU_TANH: return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * d;
    case ACTIVATION_RELU2: return x > 0 ? 2 * x : 0;
    case ACTIVATION_NONE: return 1;
    case ACTIVATION_COUNT: break;
    }
    return NAN;
}

void ref_activate(const struct gpu_ref_call *call)
{
    const struct push_activate *p = call->push;
    const enum kernel_activation f = (enum kernel_activation)p->activation;
    for (size_t i = 0; i < p->count; i++) {
        const double y = ref_activation(f, ref_load(call, 0, i));
        ref_store(call, 2, i, p->gated ? y * ref_load(call, 1, i) : y);
    }
}

void ref_activate_back(const struct gpu_ref_call *call)
{
    const struct push_activate *p = call->push;
    const enum kernel_activation f = (enum kernel_activation)p->activation;
    for (size_t i = 0; i < p->count; i++) {
        const double g = ref_load(call, 0, i), dh = ref_load(call, 2, i);
        const double u = p->gated ? ref_load(call, 1, i) : 1;
        const double y = ref_activation(f, g);
        ref_store(call, 0, i, dh * u * ref_activation_slope(f, g));
        if (p->gated) ref_store(call, 1, i, dh * y);
        ref_store(call, 2, i, y * u);
    }
}
