// SPDX-License-Identifier: MIT
// Statistics of picks: see routing_stats.h. Mutual information of a group of pairs is
// sum n log n over cells - over rows - over columns + n log n of all, so that a group costs what
// its pairs cost, however many experts there are.
#include "src/routing_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

struct table {
    uint32_t *cell, *row, *column;        // [experts][domains], [experts], [domains]: zero between
    uint32_t *touched_cell, *touched_row; // indices, each once
    uint32_t  experts, domains;
};

static double n_log_n(uint32_t n) { return n ? n * log2(n) : 0; }

static void table_create(struct table *t, const struct routing_sample *s)
{
    const size_t cells = (size_t)s->experts * s->domains;
    const size_t most = (size_t)s->tokens * s->top_k;
    *t = (struct table){.experts = s->experts, .domains = s->domains};
    t->cell = os_alloc((cells + 1) * sizeof(uint32_t));
    t->row = os_alloc((s->experts + 1) * sizeof(uint32_t));
    t->column = os_alloc((s->domains + 1) * sizeof(uint32_t));
    t->touched_cell = os_alloc((min_u64(cells, most) + 1) * sizeof(uint32_t));
    t->touched_row = os_alloc((min_u64(s->experts, most) + 1) * sizeof(uint32_t));
}

static void table_free(struct table *t)
{
    free(t->cell), free(t->row), free(t->column), free(t->touched_cell), free(t->touched_row);
}

// pairs * information of the positions order[begin .. end); empties the table. *pairs: how many,
// *spread: pairs * H(domain).
static double group_bits(struct table *t, const struct routing_sample *s, const uint32_t *order,
                         const uint32_t *domain, uint32_t count, uint32_t *pairs, double *spread)
{
    uint32_t cells = 0, rows = 0, all = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *own = s->picks + (size_t)order[i] * s->top_k, d = domain[order[i]];
        for (uint32_t k = 0; k < s->top_k; k++) {
            if (own[k] >= t->experts) continue;
            const uint32_t at = own[k] * t->domains + d;
            if (t->cell[at]++ == 0) t->touched_cell[cells++] = at;
            if (t->row[own[k]]++ == 0) t->touched_row[rows++] = own[k];
            t->column[d]++;
            all++;
        }
    }
    double bits = n_log_n(all), columns = 0;
    for (uint32_t i = 0; i < cells; i++) {
        bits += n_log_n(t->cell[t->touched_cell[i]]);
        t->cell[t->touched_cell[i]] = 0;
    }
    for (uint32_t i = 0; i < rows; i++) {
        bits -= n_log_n(t->row[t->touched_row[i]]);
        t->row[t->touched_row[i]] = 0;
    }
    for (uint32_t d = 0; d < t->domains; d++) columns += n_log_n(t->column[d]);
    memset(t->column, 0, t->domains * sizeof *t->column);
    *pairs = all;
    *spread = n_log_n(all) - columns;
    return fmax(bits - columns, 0); // not below by rounding
}

// Positions that have a domain, those of a key (token id, document) side by side, in order of
// position.
struct keyed { uint32_t id, position; };

static int by_id(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

static uint32_t sort_positions(const struct routing_sample *s, const uint32_t *key,
                               uint32_t *order)
{
    struct keyed *keyed = os_alloc((s->tokens + 1ull) * sizeof *keyed);
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->tokens; i++)
        if (s->domain[i] < s->domains) keyed[count++] = (struct keyed){key[i], i};
    qsort(keyed, count, sizeof *keyed, by_id);
    for (uint32_t i = 0; i < count; i++) order[i] = keyed[i].position;
    free(keyed);
    return count;
}

static uint32_t group_end(const struct routing_sample *s, const uint32_t *order, uint32_t count,
                          uint32_t begin)
{
    uint32_t end = begin;
    while (end < count && s->ids[order[end]] == s->ids[order[begin]]) end++;
    return end;
}

// I(expert; domain | token) in bits a pair.
static double bits_given_token(struct table *t, const struct routing_sample *s,
                               const uint32_t *order, const uint32_t *domain, uint32_t count)
{
    double bits = 0, pairs = 0;
    for (uint32_t begin = 0, end; begin < count; begin = end) {
        uint32_t own;
        double spread;
        end = group_end(s, order, count, begin);
        bits += group_bits(t, s, order + begin, domain, end - begin, &own, &spread);
        pairs += own;
    }
    return pairs > 0 ? bits / pairs : 0;
}

// Permutes the domains of the positions order[0 .. count) (Fisher-Yates).
static void shuffle(const uint32_t *order, uint32_t count, uint32_t *domain, uint64_t seed,
                    uint64_t stream)
{
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = (uint32_t)rng_below(seed, stream, i, i);
        const uint32_t own = domain[order[i - 1]];
        domain[order[i - 1]] = domain[order[j]];
        domain[order[j]] = own;
    }
}

static void shuffle_groups(const struct routing_sample *s, const uint32_t *order, uint32_t count,
                           uint32_t *domain, uint64_t seed, uint64_t stream)
{
    for (uint32_t begin = 0, end; begin < count; begin = end) {
        end = group_end(s, order, count, begin);
        shuffle(order + begin, end - begin, domain, seed, stream + ((uint64_t)begin << 20));
    }
}

// ---- documents

// Those that have a position with a domain, numbered from 0.
struct documents { uint32_t *number, *domain, count; }; // [tokens], [count]

static void documents_create(struct documents *d, const struct routing_sample *s, uint32_t *order)
{
    *d = (struct documents){.number = os_alloc((s->tokens + 1ull) * sizeof(uint32_t)),
                            .domain = os_alloc((s->tokens + 1ull) * sizeof(uint32_t))};
    const uint32_t count = s->document ? sort_positions(s, s->document, order) : 0;
    for (uint32_t i = 0; i < count; i++) {
        const bool next = i == 0 || s->document[order[i]] != s->document[order[i - 1]];
        if (next) d->domain[d->count++] = s->domain[order[i]];
        d->number[order[i]] = d->count - 1;
    }
}

static void shuffle_documents(const struct routing_sample *s, const struct documents *d,
                              uint32_t *domain, uint64_t seed, uint64_t stream)
{
    uint32_t *order = os_alloc((d->count + 1ull) * sizeof *order);
    for (uint32_t i = 0; i < d->count; i++) order[i] = i;
    shuffle(order, d->count, d->domain, seed, stream);
    for (uint32_t t = 0; t < s->tokens; t++)
        if (s->domain[t] < s->domains) domain[t] = d->domain[d->number[t]];
    free(order);
}

// ---- information

struct sums { double sum, squares; };

static void add(struct sums *s, double value)
{
    s->sum += value;
    s->squares += value * value;
}

static void settle(const struct sums *s, uint32_t count, double *mean, double *deviation)
{
    *mean = count ? s->sum / count : NAN;
    const double rest = s->squares - count * *mean * *mean;
    *deviation = count > 1 ? sqrt(fmax(rest, 0) / (count - 1)) : 0;
}

static double bits_of(struct table *t, const struct routing_sample *s, const uint32_t *order,
                      const uint32_t *domain, uint32_t count)
{
    uint32_t pairs;
    double spread;
    const double bits = group_bits(t, s, order, domain, count, &pairs, &spread);
    return bits / max_u32(pairs, 1);
}

struct routing_information routing_information(const struct routing_sample *s, uint32_t shuffles,
                                               uint64_t seed)
{
    struct routing_information out = {0};
    struct table table;
    struct documents documents;
    struct sums all = {0}, given = {0}, by_document = {0}, given_by_document = {0};
    uint32_t *order = os_alloc((s->tokens + 1ull) * sizeof *order), pairs;
    uint32_t *domain = os_alloc((s->tokens + 1ull) * sizeof *domain);
    double spread;
    table_create(&table, s);
    documents_create(&documents, s, order);
    const uint32_t count = sort_positions(s, s->ids, order);
    const double bits = group_bits(&table, s, order, s->domain, count, &pairs, &spread);
    out.pairs = pairs;
    out.domain_bits = pairs ? spread / pairs : 0;
    out.domain.value = pairs ? bits / pairs : 0;
    out.given_token.value = bits_given_token(&table, s, order, s->domain, count);
    for (uint32_t i = 0; i < shuffles; i++) {
        memcpy(domain, s->domain, s->tokens * sizeof *domain);
        shuffle(order, count, domain, seed, 3 * i);
        add(&all, bits_of(&table, s, order, domain, count));
        memcpy(domain, s->domain, s->tokens * sizeof *domain);
        shuffle_groups(s, order, count, domain, seed, 3 * i + 1);
        add(&given, bits_given_token(&table, s, order, domain, count));
        if (!s->document) continue;
        shuffle_documents(s, &documents, domain, seed, 3 * i + 2);
        add(&by_document, bits_of(&table, s, order, domain, count));
        add(&given_by_document, bits_given_token(&table, s, order, domain, count));
    }
    const uint32_t times = s->document ? shuffles : 0;
    settle(&all, shuffles, &out.domain.mean, &out.domain.deviation);
    settle(&given, shuffles, &out.given_token.mean, &out.given_token.deviation);
    settle(&by_document, times, &out.domain.documents, &out.domain.documents_deviation);
    settle(&given_by_document, times, &out.given_token.documents,
           &out.given_token.documents_deviation);
    table_free(&table);
    free(order), free(domain), free(documents.number), free(documents.domain);
    return out;
}

// ---- the rest

static bool takes(const struct routing_sample *s, uint32_t token, uint32_t expert)
{
    const uint32_t *own = s->picks + (size_t)token * s->top_k;
    for (uint32_t k = 0; k < s->top_k; k++)
        if (own[k] == expert) return true;
    return false;
}

double routing_saturation(const struct routing_sample *s, const struct routing_sample *last)
{
    uint64_t equal = 0, all = 0;
    for (uint32_t t = 0; t < last->tokens; t++)
        for (uint32_t k = 0; k < last->top_k; k++) {
            const uint32_t expert = last->picks[(size_t)t * last->top_k + k];
            if (expert >= last->experts) continue;
            all++;
            equal += takes(s, t, expert);
        }
    return all ? (double)equal / (double)all : 0;
}

void routing_together(const struct routing_sample *s, const uint32_t *shown, uint32_t count,
                      double *out)
{
    uint32_t *place = os_alloc((s->experts + 1ull) * sizeof *place); // + 1; 0: not shown
    double *own = os_alloc((count + 1ull) * sizeof *own);
    for (uint32_t i = 0; i < count; i++) place[shown[i]] = i + 1;
    memset(out, 0, (size_t)count * count * sizeof *out);
    for (uint32_t t = 0; t < s->tokens; t++) {
        const uint32_t *picks = s->picks + (size_t)t * s->top_k;
        for (uint32_t i = 0; i < s->top_k; i++) {
            const uint32_t a = picks[i] < s->experts ? place[picks[i]] : 0;
            if (!a) continue;
            own[a - 1]++;
            for (uint32_t j = 0; j < s->top_k; j++) {
                const uint32_t b = j != i && picks[j] < s->experts ? place[picks[j]] : 0;
                if (b) out[(size_t)(a - 1) * count + b - 1]++;
            }
        }
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < count; j++)
            if (own[i] > 0) out[(size_t)i * count + j] /= own[i];
    free(place), free(own);
}

void routing_counts(const struct routing_sample *s, double *counts, double *by_domain)
{
    memset(counts, 0, s->experts * sizeof *counts);
    if (by_domain) memset(by_domain, 0, (size_t)s->experts * s->domains * sizeof *by_domain);
    for (uint32_t t = 0; t < s->tokens; t++)
        for (uint32_t k = 0; k < s->top_k; k++) {
            const uint32_t e = s->picks[(size_t)t * s->top_k + k];
            if (e >= s->experts) continue;
            counts[e]++;
            if (by_domain && s->domain[t] < s->domains)
                by_domain[(size_t)e * s->domains + s->domain[t]]++;
        }
}
