// SPDX-License-Identifier: MIT
// Expert choice: tokens and experts in odd numbers, capacities from one token to all, equal scores,
// NaN; what each expert took is counted too.
#include <math.h>
#include <stdlib.h>

#include "check.h"

enum kind { NORMAL, EQUAL, FEW, NANS, KINDS };

static float score(struct check *t, enum kind kind, uint64_t stream, uint64_t i)
{
    const double u = rng_uniform(t->seed, stream, i);
    switch (kind) {
    case NORMAL: break;
    case EQUAL: return 0.25f;
    case FEW: return (float)((int)(u * 5) - 2) * 0.5f; // -1, -0.5, 0 ...
    case NANS: return u < 0.4 ? NAN : (float)u;
    case KINDS: break;
    }
    return (float)exp(3 * rng_normal(t->seed, stream, i));
}

static void columns(struct check *t, uint32_t tokens, uint32_t experts, uint32_t capacity,
                    enum kind kind)
{
    const struct push_router_columns push = {tokens, experts, capacity, 2.5f};
    const uint64_t cells = (uint64_t)tokens * experts, stream = t->stream++;
    float *scores = malloc(cells * sizeof *scores);
    for (uint64_t i = 0; i < cells; i++) scores[i] = score(t, kind, stream, i);
    check_begin(t, KERNEL_ROUTER_COLUMNS, 0, "T %u E %u C %u kind %d", tokens, experts, capacity,
                (int)kind);
    check_words(t, 0, (const uint32_t *)scores, cells);
    check_output(t, 1, DTYPE_U32, cells);
    check_output(t, 2, DTYPE_F32, cells);
    const bool same = kind == NANS ? check_run_only(t, &push) : check_run(t, &push, 1e-12);
    const uint32_t *ids = check_result(t, 1);
    const float *gates = check_result(t, 2);
    for (uint32_t e = 0; same && e < experts; e++) {
        uint32_t taken = 0;
        for (uint64_t at = e; at < cells; at += experts) {
            if (ids[at] != e && ids[at] != KERNEL_NONE_ID) check_fail(t, "expert %u", ids[at]);
            if (ids[at] != e && !(gates[at] == 0)) check_fail(t, "a gate that is not taken");
            taken += ids[at] == e;
        }
        if (taken != capacity) check_fail(t, "expert %u took %u tokens", e, taken);
    }
    free(scores);
}

void check_router_columns(struct check *t)
{
    static const uint32_t tokens[] = {1, 2, 3, 7, 31, 32, 33, 101, 257, 1030},
                          experts[] = {1, 2, 3, 5, 8, 31, 32, 33, 64};
    for (size_t i = 0; i < COUNT_OF(tokens); i++)
        for (size_t j = 0; j < COUNT_OF(experts); j++) {
            const uint32_t n = tokens[i], e = experts[j];
            const uint32_t some = 1 + (uint32_t)check_random(t, n);
            columns(t, n, e, some, (enum kind)((i + j) % KINDS));
        }
    for (int kind = 0; kind < KINDS; kind++) {
        columns(t, 77, 6, 1, (enum kind)kind);
        columns(t, 77, 6, 26, (enum kind)kind);
        columns(t, 77, 6, 77, (enum kind)kind);
    }
    columns(t, 20000, 3, 13333, FEW);
}
