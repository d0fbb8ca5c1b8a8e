// SPDX-License-Identifier: MIT
// References of decoding's own operations: token_linear, token_linearf, heads, token_router,
// token_up and token_down. Each is the chain of the plain operations that it stands for, without
// the rounding between them.
#include "src/ref/ref.h"

// RMSNorm of `count` elements from `from` of binding x, times binding weight.
static double *normed(const struct gpu_ref_call *call, int x, int weight, size_t from, size_t count,
                      double eps)
{
    double *out = malloc(count * sizeof *out), square = 0;
    for (size_t i = 0; i < count; i++) {
        out[i] = ref_load(call, x, from + i);
        square += out[i] * out[i];
    }
    const double scale = 1 / sqrt(square / (double)count + eps);
    for (size_t i = 0; i < count; i++) out[i] *= scale * ref_load(call, weight, i);
    return out;
}

// Row `row` of binding b, of k elements, times x.
static double row_times(const struct gpu_ref_call *call, int b, size_t row, const double *x,
                        size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++) sum += ref_load(call, b, row * k + i) * x[i];
    return sum;
}

static void linear(const struct gpu_ref_call *call, enum dtype out)
{
    const struct push_token_linear *p = call->push;
    double *x = normed(call, 0, 1, 0, p->k, (double)p->eps);
    for (size_t i = 0; i < p->n; i++)
        dtype_store(call->buffer[3], i, out, row_times(call, 2, i, x, p->k));
    free(x);
}

void ref_token_linear(const struct gpu_ref_call *call) { linear(call, (enum dtype)call->tag); }

void ref_token_linearf(const struct gpu_ref_call *call) { linear(call, DTYPE_F32); }

// ---- heads

// A head of x, normalised and rotated, to element `to` of binding `out`.
static void turn(const struct gpu_ref_call *call, size_t position, size_t from, int norm, int out,
                 size_t to)
{
    const struct push_heads *p = call->push;
    const float *table = call->buffer[1];
    const size_t half = p->head_dim / 2;
    double *x = malloc(p->head_dim * sizeof *x);
    for (size_t i = 0; i < p->head_dim; i++) x[i] = ref_load(call, 2, from + i);
    if (p->normalise) {
        free(x);
        x = normed(call, 2, norm, from, p->head_dim, (double)p->eps);
    }
    for (size_t i = 0; i < half; i++) {
        const double c = (double)table[(position * half + i) * 2],
                     s = (double)table[(position * half + i) * 2 + 1];
        ref_store(call, out, to + i, x[i] * c - x[half + i] * s);
        ref_store(call, out, to + half + i, x[half + i] * c + x[i] * s);
    }
    free(x);
}

void ref_heads(const struct gpu_ref_call *call)
{
    const struct push_heads *p = call->push;
    const struct step_words *step = call->buffer[0];
    const size_t rows = p->heads + 2 * (size_t)p->kv_heads, dim = p->head_dim;
    for (size_t t = 0; t < p->tokens; t++) {
        const size_t position = step->base + t;
        for (size_t h = 0; h < p->heads; h++)
            turn(call, position, (t * rows + h) * dim, 3, 5, (t * p->heads + h) * dim);
        if (t >= step->length || position >= p->capacity) continue;
        for (size_t h = 0; h < p->kv_heads; h++) {
            const size_t from = (t * rows + p->heads + h) * dim,
                         to = (position * p->kv_heads + h) * dim;
            turn(call, position, from, 4, 6, to);
            for (size_t i = 0; i < dim; i++)
                ref_store(call, 7, to + i, ref_load(call, 2, from + p->kv_heads * dim + i));
        }
    }
}

// ---- experts

void ref_token_router(const struct gpu_ref_call *call)
{
    const struct push_token_router *p = call->push;
    double *x = normed(call, 0, 1, 0, p->k, (double)p->eps);
    float *logits = call->buffer[3], *probs = malloc(p->experts * sizeof *probs), lse;
    for (size_t e = 0; e < p->experts; e++) logits[e] = (float)row_times(call, 2, e, x, p->k);
    const struct push_router router = {.tokens = 1, .experts = p->experts, .top_k = p->top_k,
                                       .renormalise = p->renormalise,
                                       .inv_temperature = p->inv_temperature};
    ref_router(&(struct gpu_ref_call){
        .buffer = {logits, probs, call->buffer[4], call->buffer[5], &lse}, .push = &router});
    free(probs);
    free(x);
}

void ref_token_up(const struct gpu_ref_call *call)
{
    const struct push_token_moe *p = call->push;
    const uint32_t *ids = call->buffer[2];
    double *x = normed(call, 0, 1, 0, p->k, (double)p->eps);
    for (size_t j = 0; j < p->top_k; j++)
        for (size_t i = 0; i < p->n; i++) {
            const size_t row = (size_t)min_u32(ids[j], p->experts - 1) * p->n + i;
            const double gate = row_times(call, 3, row, x, p->k),
                         up = row_times(call, 4, row, x, p->k);
            ref_store(call, 5, j * p->n + i,
                      ref_activation((enum kernel_activation)p->activation, gate) * up);
        }
    free(x);
}

void ref_token_down(const struct gpu_ref_call *call)
{
    const struct push_token_moe *p = call->push;
    const uint32_t *ids = call->buffer[1];
    const float *gates = call->buffer[2];
    double *h = malloc(p->k * sizeof *h);
    double *sum = malloc(p->n * sizeof *sum);
    for (size_t i = 0; i < p->n; i++) sum[i] = ref_load(call, 4, i);
    for (size_t j = 0; j < p->top_k; j++) {
        for (size_t i = 0; i < p->k; i++) h[i] = ref_load(call, 0, j * p->k + i);
        const size_t first = (size_t)min_u32(ids[j], p->experts - 1) * p->n;
        for (size_t i = 0; i < p->n; i++)
            sum[i] += (double)gates[j] * row_times(call, 3, first + i, h, p->k);
    }
    for (size_t i = 0; i < p->n; i++) ref_store(call, 5, i, sum[i]);
    free(h);
    free(sum);
}
