// SPDX-License-Identifier: MIT
// Checks of grad_norm, expert_norm, expert_moves and grad_clip: blocks with odd ends, matrices in
// any place, clipping on and off, what is not finite.
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

// Some matrices of a pool: the same bytes as one after the other, wherever they lie.
static void experts_case(struct check *t, uint32_t count, uint32_t block, bool mapped)
{
    enum { MATRICES = 5 };
    const uint32_t blocks = ceil_div(count, block);
    const uint32_t places[2 + MATRICES] = {0, 0, 2 * blocks, KERNEL_NONE_ID, 0, 4 * blocks, blocks};
    check_begin(t, KERNEL_EXPERT_NORM, 0, "n %u block %u mapped %d", count, block, mapped);
    check_normal(t, 0, DTYPE_F32, MATRICES * (uint64_t)count, 3);
    check_words(t, 1, places, 2 + MATRICES);
    check_normal(t, 2, DTYPE_F32, MATRICES * (uint64_t)blocks + 4, 1);
    check_run(t, &(struct push_expert_norm){.count = count, .block = block, .matrices = MATRICES,
                                            .mapped = mapped, .index = 2}, 1e-12);
}

static void moves_case(struct check *t, uint32_t count)
{
    uint32_t moves[300], places[300];
    for (uint32_t i = 0; i < count; i++) {
        moves[i] = 1 + i;
        places[i] = i % 3 == 1 ? KERNEL_NONE_ID : (7 * i) % count;
    }
    check_begin(t, KERNEL_EXPERT_MOVES, 0, "n %u", count);
    check_words(t, 0, moves, count);
    check_words(t, 1, places, count);
    check_output(t, 2, DTYPE_U32, count);
    check_run(t, &(struct push_count){.count = count}, 0);
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
    for (size_t i = 0; i < COUNT_OF(counts) - 1; i++)
        for (size_t j = 1; j < COUNT_OF(blocks); j++) {
            experts_case(t, counts[i], blocks[j], false);
            experts_case(t, counts[i], blocks[j], true);
        }
    experts_case(t, 49152, 16384, true);
    for (uint32_t n = 1; n <= 300; n = n * 3 + 1) moves_case(t, n);
    static const double values[] = {0, 4, 1e30, INFINITY, NAN};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        for (uint32_t n = 1; n < 1000; n = n * 5 + 2) {
            clip_case(t, n, values[i], 1, 1);
            clip_case(t, n, values[i], 1.0f / 1024, 0);
            clip_case(t, n, values[i], 1.0f / 1024, 0.25f);
        }
    zero_gradient(t);
}
