// SPDX-License-Identifier: MIT
// Checks of expert_touch and expert_steps: touched by any micro-batch, each expert's own count and
// the step of all, and the step that is not taken.
#include "check.h"

enum { MOST = 300 };

static void touch(struct check *t, uint32_t experts)
{
    uint32_t offsets[MOST + 1] = {0}, touched[MOST];
    check_begin(t, KERNEL_EXPERT_TOUCH, 0, "touch, E %u", experts);
    for (uint32_t e = 0; e < experts; e++) {
        offsets[e + 1] = offsets[e] + (e % 3 == 1 ? 0 : (uint32_t)check_random(t, 3));
        touched[e] = e % 4 == 1; // of an earlier micro-batch
    }
    check_words(t, 0, offsets, experts + 1);
    check_words(t, 1, touched, experts);
    if (!check_run(t, &(struct push_count){experts}, 0)) return;
    const uint32_t *now = check_result(t, 1);
    for (uint32_t e = 0; e < experts; e++)
        if (now[e] != (offsets[e + 1] > offsets[e] || e % 4 == 1))
            check_fail(t, "expert %u: %u", e, now[e]);
}

static void steps(struct check *t, uint32_t count, uint32_t global, double finite)
{
    uint32_t steps[MOST], touched[MOST];
    check_begin(t, KERNEL_EXPERT_STEPS, 0, "n %u global %u finite %g", count, global, finite);
    for (uint32_t i = 0; i < count; i++) {
        steps[i] = (uint32_t)check_random(t, 1000);
        touched[i] = (uint32_t)check_random(t, 2);
    }
    check_step(t, 0, &(struct step_words){.step = 1234});
    check_values(t, 1, DTYPE_F32, (double[4]){1, 1, finite, 0}, 4);
    check_words(t, 2, steps, count);
    check_words(t, 3, touched, count);
    if (!check_run(t, &(struct push_expert_steps){count, global}, 0)) return;
    const uint32_t *own = check_result(t, 2), *now = check_result(t, 3);
    for (uint32_t i = 0; i < count; i++) {
        const bool moves = touched[i] && finite > 0;
        if (own[i] != steps[i] + (moves && !global) ||
            now[i] != (!moves ? 0 : global ? 1234 : steps[i] + 1))
            check_fail(t, "expert %u: %u steps, now %u", i, own[i], now[i]);
    }
}

void check_expert_steps(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 31, 32, 33, 127, MOST};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        touch(t, counts[i]);
        for (uint32_t global = 0; global < 2; global++) {
            steps(t, counts[i], global, 1);
            steps(t, counts[i], global, 0);
        }
    }
}
