// SPDX-License-Identifier: MIT
// Check of sgd: odd counts, plain and Nesterov momentum, the skipped step, experts that do not
// move.
#include <string.h>

#include "check.h"

static const uint32_t moves[] = {1, 0, 3, 9, 0, 1, 1, 9};

static void compare(struct check *t, const struct push_optimizer *push, bool finite)
{
    for (uint32_t i = 0; i < push->matrices; i++) {
        const uint32_t at = push->first + i;
        const bool moved = !push->experts ||
                           moves[at / push->per_layer * push->stride + at % push->experts] != 0;
        for (int b = 2; b < 5; b++) {
            const size_t bytes = 4 * (size_t)push->count;
            const bool same = memcmp((const uint8_t *)check_result(t, b) + i * bytes,
                                     t->binding[b].initial + i * bytes, bytes) == 0;
            if (same != (b == 3 || !finite || !moved))
                check_fail(t, "part %u: binding %d %s", i, b, same ? "did not move" : "moved");
        }
    }
}

static void one(struct check *t, uint32_t count, uint32_t matrices, uint32_t nesterov,
                double finite)
{
    struct push_optimizer push = {.count = count, .matrices = matrices, .copy = nesterov,
                                  .nesterov = nesterov, .rate = 2, .weight_decay = 0.1f,
                                  .beta1 = 0.9f};
    if (matrices > 1) push.first = 1, push.experts = 3, push.per_layer = 6, push.stride = 4;
    const uint32_t all = count * matrices;
    check_begin(t, KERNEL_SGD, 0, "n %u x %u nesterov %u finite %g", matrices, count, nesterov,
                finite);
    check_step(t, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    check_values(t, 1, DTYPE_F32, (double[4]){2, 0.3, finite, 0}, 4);
    for (int b = 2; b < 5; b++) check_normal(t, b, DTYPE_F32, all, 1);
    if (push.copy) check_normal(t, 5, CHECK_STORE, all, 1);
    check_words(t, 6, moves, COUNT_OF(moves));
    // a few elements may all but cancel: 0.9 m + g
    if (check_run(t, &push, all < 8 ? 1e-8 : 1e-12)) compare(t, &push, finite > 0);
}

void check_sgd(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 31, 32, 33, 127, 128, 129, 1000, 10007};
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (uint32_t nesterov = 0; nesterov < 2; nesterov++) {
            one(t, counts[i], 1, nesterov, 1);
            one(t, counts[i], 1, nesterov, 0);
            if (counts[i] < 1001) one(t, counts[i], 10, nesterov, 1);
        }
}
