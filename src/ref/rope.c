// SPDX-License-Identifier: MIT
// References of rope (Su et al. 2021, half-split pairs) and of cache_write, which comes after it.
#include "src/ref/ref.h"

void ref_rope(const struct gpu_ref_call *call)
{
    const struct push_rope *p = call->push;
    const struct step_words *step = call->buffer[0];
    const float *table = call->buffer[1]; // [positions][half][2]
    const size_t half = p->head_dim / 2;
    for (size_t t = 0; t < p->tokens; t++)
        for (size_t h = 0; h < p->heads; h++)
            for (size_t i = 0; i < half; i++) {
                const size_t position = step->base + t % p->seq;
                const double c = table[(position * half + i) * 2];
                const double s = table[(position * half + i) * 2 + 1] * (p->inverse ? -1.0 : 1.0);
                const size_t at = (t * p->heads + h) * p->head_dim + i;
                const double x1 = ref_load(call, 2, at), x2 = ref_load(call, 2, at + half);
                ref_store(call, 3, at, x1 * c - x2 * s);
                ref_store(call, 3, at + half, x2 * c + x1 * s);
            }
}

void ref_cache_write(const struct gpu_ref_call *call)
{
    const struct push_cache_write *p = call->push;
    const struct step_words *step = call->buffer[0];
    for (size_t t = 0; t < min_u32(p->rows, step->length); t++) {
        const size_t row = step->base + t;
        if (row >= p->capacity) return;
        for (size_t c = 0; c < p->cols; c++)
            ref_store(call, 2, row * p->cols + c, ref_load(call, 1, t * p->cols + c));
    }
}
