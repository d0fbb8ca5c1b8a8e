// SPDX-License-Identifier: MIT
// rope: positions from a base, several sequences, forward and back; back undoes forward.
#include "check.h"

#include <math.h>
#include <stdlib.h>

struct shape { uint32_t tokens, seq, heads, head_dim, base; };

static void fill_table(struct check *t, uint32_t positions, uint32_t head_dim)
{
    const uint32_t half = head_dim / 2;
    double *table = calloc((size_t)positions * half * 2, sizeof *table);
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t i = 0; i < half; i++) {
            const double angle = p * pow(10000, -2.0 * i / head_dim);
            table[(p * half + i) * 2] = cos(angle);
            table[(p * half + i) * 2 + 1] = sin(angle);
        }
    check_values(t, 1, DTYPE_F32, table, (uint64_t)positions * half * 2);
    free(table);
}

static void check_case(struct check *t, struct shape s, uint32_t inverse)
{
    const uint64_t count = (uint64_t)s.tokens * s.heads * s.head_dim;
    check_begin(t, KERNEL_ROPE, 0, "tokens %u seq %u heads %u head_dim %u base %u%s", s.tokens,
                s.seq, s.heads, s.head_dim, s.base, inverse ? " inverse" : "");
    check_step(t, 0, &(struct step_words){.base = s.base});
    fill_table(t, s.base + s.seq, s.head_dim);
    check_normal(t, 2, CHECK_STORE, count, 1);
    check_output(t, 3, CHECK_STORE, count);
    check_run(t, &(struct push_rope){s.tokens, s.heads, s.head_dim, s.seq, inverse}, 1e-12);
}

void check_rope(struct check *t)
{
    static const struct shape shapes[] = {
        {1, 1, 1, 2, 0},      {3, 3, 1, 4, 0},     {5, 5, 3, 6, 2},     {12, 6, 4, 16, 0},
        {7, 7, 3, 32, 5},     {33, 11, 5, 64, 0},  {1, 1, 12, 64, 777}, {2, 2, 2, 128, 31},
        {4, 2, 1, 256, 0},    {3, 3, 2, 10, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        for (uint32_t inverse = 0; inverse < 2; inverse++) check_case(t, shapes[i], inverse);
}
