// SPDX-License-Identifier: MIT
// Check of loss: vocabularies from 1 to 32,000, masked targets, in place gradient, logits of +-1e4,
// and a row that is not a number and must say so.
#include <math.h>
#include <stdlib.h>

#include "check.h"

static void targets(struct check *t, uint32_t rows, uint32_t vocab, bool masks)
{
    uint32_t *words = malloc(rows * sizeof *words);
    for (uint32_t r = 0; r < rows; r++)
        words[r] = masks && r % 3 == 1 ? KERNEL_NONE_ID : (uint32_t)check_random(t, vocab);
    check_words(t, 2, words, rows);
    free(words);
}

static void run_case(struct check *t, uint32_t rows, uint32_t vocab, uint32_t back, double scale,
                     float softcap)
{
    check_begin(t, softcap != 0 ? KERNEL_LOSS_CAPPED : KERNEL_LOSS, 0,
                "rows %u vocab %u backward %u scale %g cap %g", rows, vocab, back, scale,
                (double)softcap);
    check_step(t, 0, &(struct step_words){.loss_scale = 0.37f});
    check_normal(t, 1, CHECK_STORE, (uint64_t)rows * vocab, scale);
    targets(t, rows, vocab, rows > 2);
    check_output(t, 3, DTYPE_F32, rows);
    // e^x of a large distance is exact to the last bits of x only; f16 rounds what is below 6e-8
    check_run(t, &(struct push_loss){rows, vocab, back, softcap},
              t->store == DTYPE_F16 ? 1e-5 : 1e-10);
}

static void loss_case(struct check *t, uint32_t rows, uint32_t vocab, uint32_t back, double scale)
{
    run_case(t, rows, vocab, back, scale, 0);
}

static void not_a_number(struct check *t)
{
    enum { ROWS = 3, VOCAB = 37 };
    double x[ROWS * VOCAB] = {0};
    x[VOCAB + 11] = NAN;
    check_begin(t, KERNEL_LOSS, 0, "NaN");
    check_step(t, 0, &(struct step_words){.loss_scale = 1});
    check_values(t, 1, CHECK_STORE, x, COUNT_OF(x));
    check_words(t, 2, (uint32_t[ROWS]){1, 2, 3}, ROWS);
    check_output(t, 3, DTYPE_F32, ROWS);
    if (!check_run_only(t, &(struct push_loss){ROWS, VOCAB, 1, 0})) return;
    const float *loss = check_result(t, 3);
    if (!isnan(loss[1]) || isnan(loss[0]) || isnan(loss[2]))
        check_fail(t, "NaN lost, or in the wrong row");
    if (!isnan(dtype_load(check_result(t, 1), VOCAB + 11, t->store)))
        check_fail(t, "NaN lost in the gradient");
}

void check_loss(struct check *t)
{
    static const uint32_t vocab[] = {1, 2, 3, 31, 32, 33, 257, 260, 32000};
    for (size_t i = 0; i < COUNT_OF(vocab); i++)
        for (uint32_t back = 0; back < 2; back++) {
            loss_case(t, vocab[i] > 1000 ? 2 : 7, vocab[i], back, 2);
            loss_case(t, 4, vocab[i], back, 1e4);
            run_case(t, vocab[i] > 1000 ? 2 : 7, vocab[i], back, 5, i % 2 ? 30 : 4);
        }
    loss_case(t, 1, 50257, 1, 1);
    not_a_number(t);
}
