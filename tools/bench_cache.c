// SPDX-License-Identifier: MIT
// A recorded routing.trace, replayed over caches of several sizes: hits of each policy of
// runtime/cache.h, and of Belady's optimum, which knows what comes ("A study of replacement
// algorithms for a virtual-storage computer", IBM Systems Journal 1966). A key is an expert of a
// layer. Two ways of using them:
//     train     the experts that a traced step touched, layers forward, then backward
//     generate  the picks of each traced token, one token behind the other (trace_tokens > 0)
// The experts that a layer wants at once are a visit: what is there computes first, then what is
// missing is loaded, and may take the place of what has computed.
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cache.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/base.h"
#include "src/trace.h"
#include "tools/bench_stream.h"

enum { SIZES = 6, COLUMNS = CACHE_POLICIES + 1, OPTIMUM = CACHE_POLICIES };
static const double shares[SIZES] = {1.0 / 16, 1.0 / 8, 1.0 / 4, 1.0 / 2, 3.0 / 4, 1};

// Uses in order. A visit's are side by side, its keys differ; `turn` is its place in the sweep.
struct visit { uint64_t first, count; uint32_t turn; };
struct uses {
    const char   *name;
    uint32_t     *key;
    struct visit *visit;
    uint64_t      count, capacity, distinct, visits, visit_capacity;
    uint32_t    sweep[1024], turns; // groups (layers) in order
};

struct replay {
    struct trace_shape shape; // the reader's
    struct uses        train, generate;
    uint32_t           steps, tokens;
};

struct outcome { uint64_t hits; double ns; }; // ns: of a use, the host's time

static void add_visit(struct uses *uses, uint32_t turn)
{
    if (uses->visits == uses->visit_capacity) {
        const uint64_t old = uses->visit_capacity, grown = old ? 2 * old : 4096;
        const uint64_t size = sizeof *uses->visit;
        uses->visit = os_grow(uses->visit, old * size, grown * size);
        uses->visit_capacity = grown;
    }
    uses->visit[uses->visits++] = (struct visit){uses->count, 0, turn};
}

// Of the last visit.
static void add_use(struct uses *uses, uint32_t key)
{
    if (uses->count == uses->capacity) {
        const uint64_t old = uses->capacity, grown = old ? 2 * old : 4096;
        uses->key = os_grow(uses->key, old * 4, grown * 4);
        uses->capacity = grown;
    }
    uses->key[uses->count++] = key;
    uses->visit[uses->visits - 1].count++;
}

// ---- the trace

// What one traced step holds, by MoE layer; NULL where there was no such record.
struct step { uint32_t **counts, **picks; };

static void add_step(struct replay *r, const struct step *step)
{
    const uint32_t layers = r->shape.layers, experts = r->shape.experts;
    bool counted = true, picked = r->shape.trace_tokens > 0;
    for (uint32_t l = 0; l < layers; l++) {
        counted = counted && step->counts[l];
        picked = picked && step->picks[l];
    }
    for (uint32_t i = 0; counted && i < 2 * layers; i++) {
        const uint32_t l = i < layers ? i : 2 * layers - 1 - i;
        add_visit(&r->train, i);
        for (uint32_t e = 0; e < experts; e++)
            if (step->counts[l][e]) add_use(&r->train, l * experts + e);
    }
    for (uint32_t t = 0; picked && t < r->shape.trace_tokens; t++)
        for (uint32_t l = 0; l < layers; l++) {
            add_visit(&r->generate, l);
            for (uint32_t k = 0; k < r->shape.layer[l].top_k; k++) {
                const uint32_t e = step->picks[l][t * r->shape.layer[l].top_k + k];
                if (e < experts) add_use(&r->generate, l * experts + e);
            }
        }
    r->steps += counted;
    r->tokens += picked ? r->shape.trace_tokens : 0;
}

static void step_clear(struct step *step, uint32_t layers)
{
    for (uint32_t l = 0; l < layers; l++) {
        free(step->counts[l]);
        free(step->picks[l]);
        step->counts[l] = step->picks[l] = NULL;
    }
}

static void keep_record(struct replay *r, struct step *step, const struct trace_record *record)
{
    for (uint32_t l = 0; l < r->shape.layers; l++) {
        if (r->shape.layer[l].number != record->layer || record->kind == TRACE_IDS) continue;
        uint32_t **place = record->kind == TRACE_COUNTS ? &step->counts[l] : &step->picks[l];
        free(*place);
        *place = os_alloc(record->count * sizeof **place);
        memcpy(*place, record->value, record->count * sizeof **place);
    }
}

static void read_all(struct replay *r, struct trace_reader *reader)
{
    struct trace_record record;
    struct step step = {os_alloc(r->shape.layers * sizeof *step.counts),
                        os_alloc(r->shape.layers * sizeof *step.picks)};
    uint32_t number = 0;
    while (trace_next(reader, &record)) {
        if (record.step != number) {
            add_step(r, &step);
            step_clear(&step, r->shape.layers);
            number = record.step;
        }
        keep_record(r, &step, &record);
    }
    add_step(r, &step);
    step_clear(&step, r->shape.layers);
    free(step.counts);
    free(step.picks);
}

static void count_distinct(struct uses *uses, uint32_t keys)
{
    bool *seen = os_alloc(keys * sizeof *seen);
    for (uint64_t i = 0; i < uses->count; i++) {
        uses->distinct += !seen[uses->key[i]];
        seen[uses->key[i]] = true;
    }
    free(seen);
}

// ---- replays

static struct outcome replay_policy(const struct uses *uses, const struct trace_shape *shape,
                                    enum cache_policy policy, uint32_t slots)
{
    struct cache *cache = cache_create(&(struct cache_params){
        .keys = shape->experts * shape->layers, .slots = slots, .policy = policy,
        .group_keys = shape->experts, .turn = uses->sweep, .turns = uses->turns});
    uint32_t *miss = os_alloc(shape->experts * sizeof *miss);
    struct cache_victim victim;
    const uint64_t began = os_time_ns();
    for (const struct visit *v = uses->visit; v < uses->visit + uses->visits; v++) {
        cache_turn(cache, v->turn);
        uint32_t missing = 0;
        for (uint64_t i = v->first; i < v->first + v->count; i++)
            if (cache_find(cache, uses->key[i]) >= 0) cache_get(cache, uses->key[i]);
            else miss[missing++] = uses->key[i];
        for (uint32_t i = 0; i < missing; i++) {
            cache_get(cache, miss[i]);
            cache_take(cache, miss[i], false, &victim);
        }
    }
    const double ns = (double)(os_time_ns() - began) / (double)uses->count;
    const struct outcome outcome = {cache->stats.hits, ns};
    cache_destroy(&cache);
    free(miss);
    return outcome;
}

// A heap of (next use, key), the furthest on top. A key that was used again has a newer entry: the
// older one is passed over.
struct far { uint64_t next; uint32_t key; };
struct heap { struct far *item; uint64_t count, capacity; };

static void heap_push(struct heap *heap, struct far item)
{
    if (heap->count == heap->capacity) {
        const uint64_t old = heap->capacity, grown = old ? 2 * old : 4096;
        heap->item = os_grow(heap->item, old * sizeof item, grown * sizeof item);
        heap->capacity = grown;
    }
    uint64_t at = heap->count++;
    for (; at && heap->item[(at - 1) / 2].next < item.next; at = (at - 1) / 2)
        heap->item[at] = heap->item[(at - 1) / 2];
    heap->item[at] = item;
}

static struct far heap_pop(struct heap *heap)
{
    const struct far top = heap->item[0], last = heap->item[--heap->count];
    uint64_t at = 0;
    for (uint64_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->item[child + 1].next > heap->item[child].next)
            child++;
        if (heap->item[child].next <= last.next) break;
        heap->item[at] = heap->item[child];
    }
    heap->item[at] = last;
    return top;
}

// next[i]: the use of the same key after use i; `count` + key where there is none.
static uint64_t *next_uses(const struct uses *uses, uint32_t keys)
{
    uint64_t *next = os_alloc(uses->count * sizeof *next), *coming = os_alloc(keys * sizeof *next);
    for (uint32_t k = 0; k < keys; k++) coming[k] = uses->count + k;
    for (uint64_t i = uses->count; i-- > 0;) {
        next[i] = coming[uses->key[i]];
        coming[uses->key[i]] = i;
    }
    free(coming);
    return next;
}

struct optimum {
    uint64_t   *resident; // [keys] next use + 1, 0 where it is not there
    struct heap heap;
    uint32_t    used, slots;
};

// There from now on, in place of what is used furthest away.
static void optimum_load(struct optimum *o, struct far item)
{
    if (o->used++ >= o->slots) {
        struct far victim = heap_pop(&o->heap);
        while (o->resident[victim.key] != victim.next + 1) victim = heap_pop(&o->heap);
        o->resident[victim.key] = 0;
        o->used--;
    }
    o->resident[item.key] = item.next + 1;
    heap_push(&o->heap, item);
}

static int compare_far(const void *a, const void *b)
{
    const uint64_t x = ((const struct far *)a)->next, y = ((const struct far *)b)->next;
    return (x < y) - (x > y);
}

// What is loaded last stays for sure: so that comes last which is used again first.
static struct outcome replay_optimum(const struct uses *uses, uint32_t keys, uint32_t slots)
{
    struct optimum o = {.resident = os_alloc(keys * sizeof *o.resident), .slots = slots};
    uint64_t   *next = next_uses(uses, keys);
    struct far *miss = os_alloc(keys * sizeof *miss);
    struct outcome outcome = {0};
    const uint64_t began = os_time_ns();
    for (const struct visit *v = uses->visit; v < uses->visit + uses->visits; v++) {
        uint32_t missing = 0;
        for (uint64_t i = v->first; i < v->first + v->count; i++) {
            const struct far item = {next[i], uses->key[i]};
            if (o.resident[item.key]) {
                o.resident[item.key] = item.next + 1;
                heap_push(&o.heap, item);
                outcome.hits++;
            } else {
                miss[missing++] = item;
            }
        }
        qsort(miss, missing, sizeof *miss, compare_far);
        for (uint32_t i = 0; i < missing; i++) optimum_load(&o, miss[i]);
    }
    outcome.ns = (double)(os_time_ns() - began) / (double)uses->count;
    free(o.heap.item);
    free(o.resident);
    free(next);
    free(miss);
    return outcome;
}

// ---- output

static const char *column_name(int column)
{
    return column == OPTIMUM ? "optimum" : cache_policy_name((enum cache_policy)column);
}

static void add_json(cJSON *results, const struct uses *uses, int column, uint32_t slots,
                     double share, const struct outcome *o)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "uses", uses->name);
    cJSON_AddStringToObject(json, "policy", column_name(column));
    cJSON_AddNumberToObject(json, "slots", slots);
    cJSON_AddNumberToObject(json, "share", share);
    cJSON_AddNumberToObject(json, "hits", (double)o->hits);
    cJSON_AddNumberToObject(json, "misses", (double)(uses->count - o->hits));
    cJSON_AddNumberToObject(json, "hit_rate", (double)o->hits / (double)uses->count);
    cJSON_AddNumberToObject(json, "ns_per_use", o->ns);
    cJSON_AddItemToArray(results, json);
}

static void print_head(FILE *out, const struct replay *r, const struct uses *uses)
{
    const bool train = uses == &r->train;
    fprintf(out, "\n%s: %u %s, %llu uses of %llu of %u experts in %u layers; hits in %%\n",
            uses->name, train ? r->steps : r->tokens,
            train ? "steps, layers forward and backward" : "tokens, one by one",
            (unsigned long long)uses->count, (unsigned long long)uses->distinct,
            r->shape.experts * r->shape.layers, r->shape.layers);
    fprintf(out, "%8s %9s", "slots", "of all");
    for (int c = 0; c < COLUMNS; c++) fprintf(out, " %12s", column_name(c));
    fprintf(out, "\n");
}

static void replay_all(const struct replay *r, const struct uses *uses, FILE *out, cJSON *results)
{
    const uint32_t keys = r->shape.experts * r->shape.layers;
    double ns = 0;
    if (!uses->count) return;
    if (out) print_head(out, r, uses);
    for (int s = 0; s < SIZES; s++) {
        const uint32_t slots = max_u32(1, (uint32_t)(shares[s] * keys));
        if (out) fprintf(out, "%8u %7.1f %%", slots, 100 * shares[s]);
        for (int c = 0; c < COLUMNS; c++) {
            const struct outcome o =
                c == OPTIMUM ? replay_optimum(uses, keys, slots)
                             : replay_policy(uses, &r->shape, (enum cache_policy)c, slots);
            if (out) fprintf(out, " %12.2f", 100 * (double)o.hits / (double)uses->count);
            if (c != OPTIMUM && o.ns > ns) ns = o.ns;
            add_json(results, uses, c, slots, shares[s], &o);
        }
        if (out) fprintf(out, "\n");
    }
    if (out) fprintf(out, "the slowest of these took %.0f ns of the host a use\n", ns);
}

static void sweeps_fill(struct replay *r)
{
    const uint32_t layers = r->shape.layers;
    r->train.name = "train";
    r->generate.name = "generate";
    r->train.turns = 2 * layers;
    r->generate.turns = layers;
    for (uint32_t l = 0; l < layers; l++) {
        r->generate.sweep[l] = r->train.sweep[l] = l;
        r->train.sweep[2 * layers - 1 - l] = l;
    }
}

static bool output(const struct replay *r, const char *trace, const char *json_file)
{
    FILE *out = json_file && strcmp(json_file, "-") == 0 ? NULL : stdout;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "trace", trace);
    cJSON_AddNumberToObject(json, "experts", r->shape.experts);
    cJSON_AddNumberToObject(json, "layers", r->shape.layers);
    cJSON_AddNumberToObject(json, "steps", r->steps);
    cJSON_AddNumberToObject(json, "tokens", r->tokens);
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    replay_all(r, &r->train, out, results);
    replay_all(r, &r->generate, out, results);
    if (out && !r->generate.count)
        fprintf(out, "\ngenerate: the trace has no picks of tokens; train with trace_tokens > 0\n");
    char *text = cJSON_Print(json);
    const bool ok = !json_file || bench_write_text(text, json_file);
    cJSON_free(text);
    cJSON_Delete(json);
    return ok;
}

bool bench_cache(const char *trace, const char *json_file)
{
    struct trace_reader *reader = trace_open(trace);
    if (!reader) return false;
    struct replay r = {.shape = *trace_shape(reader)};
    const uint32_t keys = r.shape.experts * r.shape.layers;
    bool ok = 2 * r.shape.layers <= COUNT_OF(r.train.sweep);
    if (ok) {
        sweeps_fill(&r);
        read_all(&r, reader);
        count_distinct(&r.train, keys);
        count_distinct(&r.generate, keys);
        ok = r.train.count > 0;
    }
    if (!ok)
        log_error("%s: no whole step of %u layers is in it", trace, r.shape.layers);
    ok = ok && output(&r, trace, json_file);
    free(r.train.key), free(r.train.visit);
    free(r.generate.key), free(r.generate.visit);
    trace_finish(&reader);
    return ok;
}
