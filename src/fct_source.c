// SPDX-License-Identifier: MIT
// Patterns -> documents: see fct_source.h.
#include "src/fct_source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/fct_render.h"

static const char prefix[] = "fct:";

static const char *const order[] = {
    "systems", "mathematics", "physics", "biology", "information", "cognition", "energy", "scale",
    "complexity", "time", "economics", "social", "language", "philosophy"};

// One pattern, what is done with it, and what its place among the others depends on.
struct lesson {
    const struct fct_pattern *input, *payload;
    uint64_t rank;     // of the hash that holds patterns out
    uint64_t index;    // in the order of the files
    uint32_t domain;   // number: those of `order`, then as they come
    bool     held_out;
};

struct lessons {
    struct lesson *lesson;
    uint64_t       count;
    uint64_t       seed;
    struct arena  *arena;
};

bool fct_is(const char *path) { return strncmp(path, prefix, sizeof prefix - 1) == 0; }

// ---- domains and what is held out

static uint32_t domain_of(const struct lessons *all, uint64_t count, const char *name,
                          uint32_t *next)
{
    for (uint32_t i = 0; i < COUNT_OF(order); i++)
        if (strcmp(order[i], name) == 0) return i;
    for (uint64_t i = 0; i < count; i++)
        if (strcmp(all->lesson[i].input->field[FCT_DOMAIN], name) == 0)
            return all->lesson[i].domain;
    return (*next)++;
}

static uint64_t hash_of(uint64_t seed, const char *stream, uint64_t index)
{
    const struct rng_block random = rng_philox(seed, index, hash_string(stream));
    return (uint64_t)random.word[0] << 32 | random.word[1];
}

// By domain, inside of it by rank or by place in the files.
static int by_rank(const void *a, const void *b)
{
    const struct lesson *x = a, *y = b;
    if (x->domain != y->domain) return x->domain < y->domain ? -1 : 1;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_index(const void *a, const void *b)
{
    const struct lesson *x = a, *y = b;
    if (x->domain != y->domain) return x->domain < y->domain ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static uint64_t domain_end(const struct lessons *all, uint64_t from)
{
    uint64_t end = from + 1;
    while (end < all->count && all->lesson[end].domain == all->lesson[from].domain) end++;
    return end;
}

static uint64_t held_out_of(uint64_t patterns, double fraction)
{
    if (fraction <= 0 || fraction >= 1) return fraction >= 1 ? patterns : 0;
    if (patterns < 2) return 0;
    const uint64_t wanted = (uint64_t)(fraction * (double)patterns + 0.5);
    return min_u64(max_u64(wanted, 1), patterns - 1);
}

static struct lessons lessons_of(const struct fct_patterns *patterns,
                                 const struct data_params *params, struct arena *arena)
{
    struct lessons all = {.count = patterns->count, .seed = params->seed, .arena = arena};
    uint32_t next = COUNT_OF(order);
    all.lesson = arena_array(arena, all.count, sizeof *all.lesson);
    for (uint64_t i = 0; i < all.count; i++) {
        const struct fct_pattern *p = &patterns->pattern[i];
        all.lesson[i] = (struct lesson){
            .input = p, .payload = p, .index = i,
            .rank = hash_of(params->seed, "held-out patterns", i),
            .domain = domain_of(&all, i, p->field[FCT_DOMAIN], &next)};
    }
    qsort(all.lesson, all.count, sizeof *all.lesson, by_rank);
    for (uint64_t from = 0, end; from < all.count; from = end) {
        end = domain_end(&all, from);
        const uint64_t count = held_out_of(end - from, params->held_out_fraction);
        for (uint64_t i = 0; i < count; i++) all.lesson[from + i].held_out = true;
    }
    qsort(all.lesson, all.count, sizeof *all.lesson, by_index);
    return all;
}

// ---- controls

// Of the lessons in [from, to) that are held out or not: each takes the payload of the next one,
// the last one that of the first, in a seeded order.
static void exchange(struct lessons *all, uint64_t from, uint64_t to, bool held_out)
{
    uint64_t *own = arena_array(all->arena, to - from, sizeof *own), count = 0;
    for (uint64_t i = from; i < to; i++)
        if (all->lesson[i].held_out == held_out) own[count++] = i;
    for (uint64_t i = count; i > 1; i--) {
        const uint64_t at = rng_below(all->seed, hash_string("exchanged payloads"), from + i, i),
                       other = own[at];
        own[at] = own[i - 1];
        own[i - 1] = other;
    }
    for (uint64_t i = 0; i < count; i++)
        all->lesson[own[i]].payload = all->lesson[own[(i + 1) % count]].input;
}

// Letters and digits of ASCII become others; what else there is stays.
static const char *scramble(const struct lessons *all, const char *text, uint64_t stream)
{
    char *own = arena_strdup(all->arena, text);
    for (uint64_t i = 0; own[i]; i++) {
        const bool low = own[i] >= 'a' && own[i] <= 'z', high = own[i] >= 'A' && own[i] <= 'Z',
                   digit = own[i] >= '0' && own[i] <= '9';
        const uint64_t bound = digit ? 10 : 26;
        if (low || high || digit)
            own[i] = (char)((low ? 'a' : high ? 'A' : '0') +
                            (char)rng_below(all->seed, stream, i, bound));
    }
    return own;
}

static void scramble_lesson(const struct lessons *all, struct lesson *lesson)
{
    struct fct_pattern *own = arena_alloc(all->arena, sizeof *own);
    *own = *lesson->input;
    for (enum fct_field f = 0; f < FCT_FIELDS; f++)
        own->field[f] = scramble(all, own->field[f],
                                 hash_string("letters") + FCT_FIELDS * lesson->index + f);
    lesson->input = lesson->payload = own;
}

static void apply_controls(struct lessons *all, const struct data_params *params)
{
    if (params->fct_control == CONFIG_FCT_SHUFFLE_ALL) exchange(all, 0, all->count, false);
    if (params->fct_exchange == DATA_EXCHANGE_ALL) exchange(all, 0, all->count, true);
    for (uint64_t from = 0, end; from < all->count; from = end) {
        end = domain_end(all, from);
        if (params->fct_control == CONFIG_FCT_SHUFFLE) exchange(all, from, end, false);
        if (params->fct_exchange == DATA_EXCHANGE_IN_DOMAIN) exchange(all, from, end, true);
    }
}

// ---- documents

static bool add_lesson(struct documents *out, const struct data_params *params,
                       const struct lessons *all, const struct lesson *lesson,
                       struct fct_sequence *sequence)
{
    struct lesson own = *lesson;
    const char *domain = (own.held_out ? own.payload : own.input)->field[FCT_DOMAIN];
    if (params->fct_control == CONFIG_FCT_TAGS && !own.held_out) scramble_lesson(all, &own);
    for (enum fct_task task = 0; task < FCT_TASKS; task++) {
        if (!fct_render(params->tokenizer, own.input, own.payload, task, sequence) ||
            !document_add(out, sequence->encoding.id, sequence->scored, sequence->encoding.count,
                          domain))
            return false;
        out->document[out->count - 1].split =
            (uint8_t)(1 + (own.held_out ? DATA_HELD_OUT : DATA_TRAIN));
    }
    return true;
}

static bool check_tags(const struct data_params *params, const char *path)
{
    if (!params->tokenizer) {
        log_error("%s: patterns are text, but there is no tokenizer", path);
        return false;
    }
    const char *missing = fct_tag_missing(params->tokenizer);
    if (missing)
        log_error("%s: the tokenizer has no special token %s; wanted that of a run that was "
                  "trained on fct:PATH", path, missing);
    return !missing;
}

bool fct_documents(struct documents *out, const struct data_params *params, const char *path)
{
    struct arena *arena = arena_create("patterns");
    struct fct_patterns patterns = {0};
    struct fct_sequence sequence = {0};
    bool ok = check_tags(params, path) && fct_read(path + sizeof prefix - 1, arena, &patterns);
    if (ok) {
        struct lessons all = lessons_of(&patterns, params, arena);
        apply_controls(&all, params);
        for (uint64_t i = 0; ok && i < all.count; i++)
            ok = add_lesson(out, params, &all, &all.lesson[i], &sequence);
    }
    fct_sequence_free(&sequence);
    arena_destroy(&arena);
    return ok;
}
