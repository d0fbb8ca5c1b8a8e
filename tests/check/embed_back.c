// SPDX-License-Identifier: MIT
// embed_back: rows of dx summed by token id onto a table that already holds something.
#include "check.h"

#include <stdlib.h>

struct segments { uint32_t *order, *begin, *id, count; };

// What the host makes of a batch: positions sorted by id, stable, and where each id begins.
static struct segments segments_create(const uint32_t *ids, uint32_t rows, uint32_t vocab)
{
    struct segments s = {calloc(rows, 4), calloc(rows + 1, 4), calloc(rows, 4), 0};
    uint32_t at = 0;
    for (uint32_t v = 0; v < vocab; v++) {
        const uint32_t from = at;
        for (uint32_t i = 0; i < rows; i++)
            if (ids[i] == v) s.order[at++] = i;
        if (at == from) continue;
        s.id[s.count] = v;
        s.begin[s.count++] = from;
        s.begin[s.count] = at;
    }
    return s;
}

// spread: how many distinct ids the tokens are drawn from
static void check_case(struct check *t, uint32_t rows, uint32_t cols, uint32_t vocab,
                       uint32_t spread, uint32_t first)
{
    uint32_t *ids = calloc(rows, 4);
    for (uint32_t i = 0; i < rows; i++) ids[i] = vocab - 1 - (uint32_t)check_random(t, spread);
    struct segments s = segments_create(ids, rows, vocab);
    check_begin(t, KERNEL_EMBED_BACK, 0, "rows %u cols %u vocab %u, %u distinct", rows, cols, vocab,
                s.count);
    check_step(t, 0, &(struct step_words){.segments = s.count});
    check_words(t, 1, s.order, rows);
    check_words(t, 2, s.begin, rows + 1);
    check_words(t, 3, s.id, rows);
    check_normal(t, 4, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 5, DTYPE_F32, (uint64_t)(vocab - first) * cols, 1);
    check_run(t, &(struct push_embed){rows, cols, vocab - first, first},
              rows > 10000 ? 1e-9 : 1e-12);
    free(s.order), free(s.begin), free(s.id), free(ids);
}

void check_embed_back(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 4, 31, 32, 33, 64, 127, 128, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_case(t, 37, cols[i], 11, 11, i % 2 * 4);
    check_case(t, 1, 64, 5, 5, 0);
    check_case(t, 512, 64, 259, 1, 0); // one id has every row
    check_case(t, 512, 128, 1000, 1000, 256);
    check_case(t, 20000, 132, 2, 1, 0); // more than 65,535 turns, were it one loop over all columns
}
