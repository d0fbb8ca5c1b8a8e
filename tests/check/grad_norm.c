// SPDX-License-Identifier: MIT
// Checks of grad_norm and grad_clip: blocks with odd ends, clipping on and off, what is not finite.
#include <math.h>

#include "check.h"

static void norm_case(struct check *t, uint32_t count, uint32_t block)
{
    const uint32_t blocks = ceil_div(count, block);
    check_begin(t, KERNEL_GRAD_NORM, 0, "n %u block %u", count, block);
    check_normal(t, 0, DTYPE_F32, count, 3);
    check_normal(t, 1, DTYPE_F32, blocks + 4, 1); // neighbours stay as they are
    check_run(t, &(struct push_sum){.count = count, .index = 2, .block = block}, 1e-12);
}

static void clip_case(struct check *t, uint32_t count, double value, float unscale, float limit)
{
    double partial[1000];
    for (uint32_t i = 0; i < count; i++) partial[i] = i == count / 2 ? value : 0.5 + i % 7;
    check_begin(t, KERNEL_GRAD_CLIP, 0, "n %u value %g unscale %g limit %g", count, value,
                (double)unscale, (double)limit);
    check_step(t, 0, &(struct step_words){.unscale = unscale, .max_grad_norm = limit});
    check_values(t, 1, DTYPE_F32, partial, count);
    check_output(t, 2, DTYPE_F32, 4);
    if (!check_run(t, &(struct push_sum){.count = count}, 1e-11)) return;
    const float *norm = check_result(t, 2);
    const float finite = isfinite((float)value) ? 1 : 0;
    if (norm[2] != finite || (finite == 0 && norm[1] != 0))
        check_fail(t, "finite %g", (double)norm[2]);
    if (limit > 0 && finite > 0 && (double)(norm[1] / unscale * norm[0]) > (double)limit * 1.00001)
        check_fail(t, "norm after clipping is above the limit");
}

static void zero_gradient(struct check *t)
{
    check_begin(t, KERNEL_GRAD_CLIP, 0, "all gradients zero");
    check_step(t, 0, &(struct step_words){.unscale = 0.5f, .max_grad_norm = 1});
    check_values(t, 1, DTYPE_F32, (double[3]){0}, 3);
    check_output(t, 2, DTYPE_F32, 4);
    if (!check_run(t, &(struct push_sum){.count = 3}, 0)) return;
    const float *norm = check_result(t, 2);
    if (norm[0] != 0 || norm[1] != 0.5f || norm[2] != 1)
        check_fail(t, "factor %g", (double)norm[1]);
}

void check_grad_norm(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 31, 32, 33, 255, 256, 257, 1000, 70001};
    static const uint32_t blocks[] = {1, 7, 256, 65536};
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (size_t j = 0; j < COUNT_OF(blocks); j++)
            if (counts[i] / blocks[j] < 2000) norm_case(t, counts[i], blocks[j]);
    static const double values[] = {0, 4, 1e30, INFINITY, NAN};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        for (uint32_t n = 1; n < 1000; n = n * 5 + 2) {
            clip_case(t, n, values[i], 1, 1);
            clip_case(t, n, values[i], 1.0f / 1024, 0);
            clip_case(t, n, values[i], 1.0f / 1024, 0.25f);
        }
    zero_gradient(t);
}
