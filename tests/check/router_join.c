// SPDX-License-Identifier: MIT
// Checks of routers of two levels: router_base, router_join and its way back over sorted pairs,
// picks that were not taken; router_back_within and router_stats_within, the latter against
// router_stats of the whole table that the rows are parts of.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

// Pairs (token, domain) sorted by domain; a domain without pairs where there are more than two.
struct sorted { uint32_t pairs, domains, size, *ids, *inverse, *begin, *base; };

static struct sorted sort(struct check *t, uint32_t pairs, uint32_t domains, uint32_t size)
{
    struct sorted s = {pairs, domains, size, calloc(pairs, 4), calloc(pairs, 4),
                       calloc(domains + 1, 4), calloc(pairs, 4)};
    uint32_t row = 0;
    for (uint32_t p = 0; p < pairs; p++)
        s.ids[p] = (uint32_t)check_random(t, domains > 2 ? domains - 1 : domains);
    for (uint32_t d = 0; d < domains; d++) {
        s.begin[d] = row;
        for (uint32_t p = 0; p < pairs; p++)
            if (s.ids[p] == d) s.base[row] = d * size, s.inverse[p] = row++;
    }
    s.begin[domains] = row;
    return s;
}

static void sorted_free(struct sorted *s)
{
    free(s->ids), free(s->inverse), free(s->begin), free(s->base);
}

static void base(struct check *t, const struct sorted *s)
{
    check_begin(t, KERNEL_ROUTER_BASE, 0, "P %u", s->pairs);
    check_words(t, 0, s->ids, s->pairs);
    check_words(t, 1, s->inverse, s->pairs);
    check_output(t, 2, DTYPE_U32, s->pairs);
    check_run(t, &(struct push_router_join){s->pairs, 1, s->size}, 0);
    const uint32_t *out = check_result(t, 2);
    if (out && memcmp(out, s->base, s->pairs * sizeof *out) != 0)
        check_fail(t, "rows have other domains");
}

static uint32_t *row_picks(struct check *t, uint32_t pairs, uint32_t picks, uint32_t size)
{
    uint32_t *ids = calloc((size_t)pairs * picks, 4);
    for (uint32_t i = 0; i < pairs * picks; i++)
        ids[i] = i % picks && i % 5 == 4 ? KERNEL_NONE_ID : (uint32_t)check_random(t, size);
    return ids;
}

static void join(struct check *t, const struct sorted *s, uint32_t picks)
{
    const struct push_router_join push = {s->pairs, picks, s->size};
    const uint64_t cells = (uint64_t)s->pairs * picks;
    uint32_t *ids = row_picks(t, s->pairs, picks, s->size);
    check_begin(t, KERNEL_ROUTER_JOIN, 0, "P %u K %u", s->pairs, picks);
    check_normal(t, 0, DTYPE_F32, s->pairs, 1);
    check_words(t, 1, s->inverse, s->pairs);
    check_words(t, 2, s->base, s->pairs);
    check_words(t, 3, ids, cells);
    check_normal(t, 4, DTYPE_F32, cells, 1);
    check_output(t, 5, DTYPE_U32, cells);
    check_output(t, 6, DTYPE_F32, cells);
    check_run(t, &push, 1e-12);
    check_begin(t, KERNEL_ROUTER_JOIN_BACK, 0, "P %u K %u", s->pairs, picks);
    check_normal(t, 0, DTYPE_F32, s->pairs, 1);
    check_words(t, 1, s->inverse, s->pairs);
    check_normal(t, 2, DTYPE_F32, cells, 1);
    check_normal(t, 3, DTYPE_F32, cells, 1);
    check_output(t, 4, DTYPE_F32, s->pairs);
    check_output(t, 5, DTYPE_F32, cells);
    check_run(t, &push, 1e-11);
    free(ids);
}

// Probabilities of each row, their logarithm's sum, from normal logits.
static float *probabilities(struct check *t, uint32_t rows, uint32_t size)
{
    float *q = malloc((size_t)rows * size * sizeof *q);
    const uint64_t stream = t->stream++;
    for (uint32_t r = 0; r < rows; r++) {
        double sum = 0;
        for (uint32_t e = 0; e < size; e++)
            sum += exp(rng_normal(t->seed, stream, (uint64_t)r * size + e));
        for (uint32_t e = 0; e < size; e++)
            q[r * size + e] =
                (float)(exp(rng_normal(t->seed, stream, (uint64_t)r * size + e)) / sum);
    }
    return q;
}

static void back(struct check *t, const struct sorted *s, uint32_t picks, uint32_t mode)
{
    const struct push_router push = {
        .tokens = s->pairs, .experts = s->size, .top_k = picks, .renormalise = mode & 1,
        .inv_temperature = 0.7f, .scale = 1.5f, .z_coef = mode & 2 ? 0.01f : 0,
        .entropy_coef = mode & 2 ? 0.1f : 0};
    const uint64_t cells = (uint64_t)s->pairs * s->size;
    float *q = probabilities(t, s->pairs, s->size);
    uint32_t *ids = row_picks(t, s->pairs, picks, s->size);
    for (uint32_t i = 1; i < s->pairs * picks; i++) // no expert twice
        if (i % picks && ids[i] != KERNEL_NONE_ID)
            ids[i] = (ids[i - i % picks] + i % picks) % s->size;
    check_begin(t, KERNEL_ROUTER_BACK_WITHIN, 0, "R %u E %u K %u mode %u", s->pairs, s->size,
                picks, mode);
    check_words(t, 0, (const uint32_t *)q, cells);
    check_words(t, 1, ids, (uint64_t)s->pairs * picks);
    check_normal(t, 2, DTYPE_F32, (uint64_t)s->pairs * picks, 1);
    check_normal(t, 3, DTYPE_F32, s->pairs, 1);
    check_normal(t, 4, DTYPE_F32, (uint64_t)s->domains * s->size, 0.3);
    check_step(t, 5, &(struct step_words){.aux_scale = 3});
    check_words(t, 6, s->base, s->pairs);
    check_output(t, 7, CHECK_STORE, cells);
    check_run(t, &push, 1e-9);
    free(q), free(ids);
}

// As router_stats has it of rows that are 0 outside of their domain.
static void against_whole(struct check *t, const struct sorted *s, const float *q,
                          const uint32_t *offsets)
{
    const uint32_t all = s->domains * s->size;
    float *whole = calloc((size_t)s->pairs * all, sizeof *whole), *lse = calloc(s->pairs, 4),
          *stats = calloc(ROUTER_STATS_HEAD + 3 * (size_t)all, 4), *sums = calloc(all, 4);
    for (uint32_t r = 0; r < s->pairs; r++)
        memcpy(whole + (size_t)r * all + s->base[r], q + (size_t)r * s->size,
               s->size * sizeof *q);
    const struct push_router push = {.tokens = s->pairs, .experts = all, .inv_temperature = 1};
    const struct gpu_ref_call call = {.push = &push,
                                      .buffer = {whole, (void *)offsets, lse, whole, stats, sums}};
    kernel_info(KERNEL_ROUTER_STATS)->ref(&call);
    const float *got = check_result(t, 3), *got_sums = check_result(t, 4);
    for (uint32_t e = 0; got && e < all; e++) {
        const uint32_t at = ROUTER_STATS_HEAD + all + e;
        if (fabsf(got[at] - stats[at]) > 1e-6f || got[at - all] != stats[at - all] ||
            got_sums[e] != 0)
            check_fail(t, "expert %u: mean %g, of the whole table %g", e, (double)got[at],
                       (double)stats[at]);
    }
    free(whole), free(lse), free(stats), free(sums);
}

static void stats(struct check *t, const struct sorted *s)
{
    const uint32_t all = s->domains * s->size;
    const struct push_router push = {.tokens = s->pairs, .experts = s->size, .top_k = 1,
                                     .inv_temperature = 1, .domains = s->domains};
    float *q = probabilities(t, s->pairs, s->size);
    uint32_t *offsets = calloc(all + 1, 4);
    for (uint32_t e = 0; e < all; e++) offsets[e + 1] = offsets[e] + e % 3;
    check_begin(t, KERNEL_ROUTER_STATS_WITHIN, 0, "R %u domains %u of %u", s->pairs, s->domains,
                s->size);
    check_words(t, 0, (const uint32_t *)q, (uint64_t)s->pairs * s->size);
    check_words(t, 1, offsets, all + 1);
    check_words(t, 2, s->begin, s->domains + 1);
    check_normal(t, 3, DTYPE_F32, ROUTER_STATS_HEAD + 3 * (uint64_t)all, 1);
    check_output(t, 4, DTYPE_F32, all);
    check_run(t, &push, 1e-10);
    against_whole(t, s, q, offsets);
    free(q), free(offsets);
}

void check_router_join(struct check *t)
{
    static const struct { uint32_t pairs, domains, size, picks; } sizes[] = {
        {1, 2, 1, 1},   {5, 2, 3, 2},  {33, 3, 7, 3}, {64, 8, 32, 4},
        {97, 5, 33, 1}, {50, 8, 65, 4}, {13, 8, 2560, 4},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct sorted s = sort(t, sizes[i].pairs, sizes[i].domains, sizes[i].size);
        base(t, &s);
        join(t, &s, sizes[i].picks);
        for (uint32_t mode = 0; mode < 4; mode++) back(t, &s, sizes[i].picks, mode);
        if (sizes[i].size < 1000) stats(t, &s);
        sorted_free(&s);
    }
}
