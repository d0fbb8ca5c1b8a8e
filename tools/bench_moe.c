// SPDX-License-Identifier: MIT
// The grouped kernels of the benchmark: expert sort, grouped matmuls, activation, combine; and
// grouped matmuls against the dense one of the same work. Routing is even (token t picks experts
// t*k, t*k + 1, ... modulo E) or skewed (the largest expert gets SKEW times the rows of the
// smallest, in a geometric series, shuffled) and its tables come from the scalar references.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/ref/ref.h"
#include "tools/bench.h"

enum { SKEW = 10 };

struct grouped { uint32_t experts, top_k, tokens, inner, hidden; bool skewed; };

struct routing {
    struct push_moe_sort push;
    uint32_t *ids, *counts, *totals, *offsets, *tiles, *ranges, *grid, *order, *inverse;
};

static uint32_t rows_of(const struct grouped *g)
{
    return max_u32(g->tokens * g->top_k / g->experts, 1);
}

// ---- routing

static struct gpu_ref_call ref_call(const struct routing *r, void *a, void *b, void *c, void *d,
                                    void *e, void *f)
{
    return (struct gpu_ref_call){.buffer = {a, b, c, d, e, f},
                                 .push = &r->push,
                                 .bytes = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                                           UINT64_MAX, UINT64_MAX}};
}

static uint32_t tile_words(const struct push_moe_sort *p) { return 4 * (p->max_tiles + 1); }

static uint32_t range_words(const struct push_moe_sort *p)
{
    return 4 * (min_u32(p->experts, p->pairs) + 1);
}

// Rows of each expert in a geometric series whose sum is all pairs, then shuffled.
static void skew_ids(uint32_t *ids, uint32_t pairs, uint32_t experts)
{
    double sum = 0, until = 0;
    uint32_t p = 0;
    for (uint32_t e = 0; e < experts; e++) sum += pow(SKEW, (double)e / max_u32(experts - 1, 1));
    for (uint32_t e = 0; e < experts; e++) {
        until += pow(SKEW, (double)e / max_u32(experts - 1, 1)) / sum;
        for (; p < pairs && p < until * pairs; p++) ids[p] = e;
    }
    for (; p < pairs; p++) ids[p] = experts - 1;
    for (uint32_t i = pairs - 1; i > 0; i--) {
        const uint32_t other = (uint32_t)rng_below(5, 0, i, i + 1), id = ids[i];
        ids[i] = ids[other];
        ids[other] = id;
    }
}

static struct routing make_routing(struct bench *bench, const struct grouped *g,
                                   enum dtype store)
{
    const struct kernel_moe_size size = {.tokens = g->tokens,
                                         .experts = g->experts,
                                         .top_k = g->top_k,
                                         .hidden = g->hidden,
                                         .inner = g->inner,
                                         .rows = rows_of(g),
                                         .gated = true};
    struct routing r = {.push = kernel_moe_sort(bench->kernels, store, &size)};
    const struct push_moe_sort *p = &r.push;
    r.ids = arena_array(bench->arena, p->pairs, 4);
    r.counts = arena_array(bench->arena, (size_t)p->blocks * p->experts, 4);
    r.totals = arena_array(bench->arena, p->experts, 4);
    r.offsets = arena_array(bench->arena, p->experts + 1, 4);
    r.tiles = arena_array(bench->arena, tile_words(p), 4);
    r.ranges = arena_array(bench->arena, range_words(p), 4);
    r.grid = arena_array(bench->arena, MOE_GRIDS, 16);
    r.order = arena_array(bench->arena, p->pairs, 4);
    r.inverse = arena_array(bench->arena, p->pairs, 4);
    for (uint32_t i = 0; i < p->pairs; i++) r.ids[i] = i % p->experts;
    if (g->skewed) skew_ids(r.ids, p->pairs, p->experts);
    const struct gpu_ref_call count = ref_call(&r, r.ids, r.counts, r.totals, NULL, NULL, NULL);
    ref_moe_count(&count);
    const struct gpu_ref_call scan =
        ref_call(&r, r.counts, r.totals, r.offsets, r.tiles, r.ranges, r.grid);
    ref_moe_scan(&scan);
    const struct gpu_ref_call scatter =
        ref_call(&r, r.ids, r.counts, r.order, r.inverse, NULL, NULL);
    ref_moe_scatter(&scatter);
    return r;
}

// ---- cases

struct at {
    struct bench    *bench;
    struct grouped   g;
    enum dtype       store;
    enum bench_level level;
    const char      *model;
    bool             against_dense;
};

static bool begin(struct bench_case *c, const struct at *at, const char *name, enum kernel_op op,
                  const void *push, double bytes)
{
    const struct grouped *g = &at->g;
    char rows[32] = "";
    if (at->against_dense)
        snprintf(rows, sizeof rows, " r%u %s", rows_of(g), g->skewed ? "10:1" : "even");
    return bench_case_begin(c, at->bench,
                            &(struct bench_case_params){.level = at->level,
                                                        .family = at->against_dense
                                                                      ? "grouped/dense"
                                                                      : "grouped",
                                                        .name = name,
                                                        .model = at->model,
                                                        .op = op,
                                                        .store = at->store,
                                                        .rows = rows_of(g),
                                                        .push = push,
                                                        .bytes = bytes},
                            "E%u k%u T%u %ux%u%s", g->experts, g->top_k, g->tokens, g->inner,
                            g->hidden, rows);
}

// The dense matmul of the same operations: all pairs times one matrix.
static bool run(const struct at *at, struct bench_case *c, enum kernel_op dense, uint32_t m,
                uint32_t n, uint32_t k)
{
    if (!at->against_dense) return bench_case_run(c);
    const struct push_matmul push = {.m = m, .n = n, .k = k};
    struct bench_case other;
    bench_case_init(&other, at->bench,
                    &(struct bench_case_params){.family = c->params.family, .op = dense,
                                                .store = at->store, .rows = m, .push = &push});
    bench_dense_steps(&other, dense, m, n, k);
    return bench_case_run_against(c, &other);
}

static struct push_moe_matmul matmul_push(const struct grouped *g, uint32_t n, uint32_t k)
{
    return (struct push_moe_matmul){
        .pairs = g->tokens * g->top_k, .experts = g->experts, .n = n, .k = k, .top_k = g->top_k,
        .activation = ACTIVATION_SILU};
}

static bool matmul_up(const struct at *at)
{
    const struct grouped *g = &at->g;
    const struct push_moe_matmul push = matmul_push(g, g->inner, g->hidden);
    const uint64_t weights = (uint64_t)g->experts * g->inner * g->hidden;
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_MATMUL_UP, &push, 0))
        return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, (uint64_t)g->tokens * g->hidden, 1);
    const uint32_t order = bench_case_words(&c, r.order, push.pairs);
    const uint32_t tiles = bench_case_words(&c, r.tiles, tile_words(&r.push)),
                   grid = bench_case_words(&c, r.grid + 4 * MOE_GRID_UP, 4);
    const uint32_t gate = bench_case_normal(&c, BENCH_STORE, weights, 0.05);
    const uint32_t up = bench_case_normal(&c, BENCH_STORE, weights, 0.05);
    const uint32_t h = bench_case_zero(&c, BENCH_STORE, (uint64_t)push.pairs * g->inner);
    bench_case_step(&c, BENCH_BIND(x, order, tiles, gate, up, h, h, h), (int32_t)grid);
    return run(at, &c, KERNEL_MATMUL_NT, push.pairs, 2 * g->inner, g->hidden);
}

// Down (NT, [P][inner] -> [P][hidden]) and its gradient (NN, [P][hidden] -> [P][inner])
static bool matmul_down(const struct at *at, enum kernel_op op)
{
    const struct grouped *g = &at->g;
    const bool nt = op == KERNEL_MOE_MATMUL_NT;
    const struct push_moe_matmul push =
        nt ? matmul_push(g, g->hidden, g->inner) : matmul_push(g, g->inner, g->hidden);
    struct bench_case c;
    if (!begin(&c, at, NULL, op, &push, 0)) return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t a = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.pairs * push.k, 1);
    const uint32_t order = bench_case_words(&c, r.order, push.pairs);
    const uint32_t tiles = bench_case_words(&c, r.tiles, tile_words(&r.push));
    const enum kernel_moe_grid entry = nt ? MOE_GRID_DOWN : MOE_GRID_BACK_H;
    const uint32_t grid = bench_case_words(&c, r.grid + 4 * entry, 4);
    const uint32_t w =
        bench_case_normal(&c, BENCH_STORE, (uint64_t)g->experts * push.n * push.k, 0.05);
    const uint32_t out = bench_case_zero(&c, BENCH_STORE, (uint64_t)push.pairs * push.n);
    if (nt) bench_case_step(&c, BENCH_BIND(a, tiles, w, out, w), (int32_t)grid);
    else bench_case_step(&c, BENCH_BIND(a, order, tiles, w, out, a, w), (int32_t)grid);
    return run(at, &c, nt ? KERNEL_MATMUL_NT : KERNEL_MATMUL_NN, push.pairs, push.n, push.k);
}

static bool matmul_nt(const struct at *at) { return matmul_down(at, KERNEL_MOE_MATMUL_NT); }
static bool matmul_nn(const struct at *at) { return matmul_down(at, KERNEL_MOE_MATMUL_NN); }

// The weight gradient of gate or up: [inner][hidden] of each expert, x gathered.
static bool matmul_tn(const struct at *at)
{
    const struct grouped *g = &at->g;
    struct push_moe_matmul push = matmul_push(g, g->hidden, 0);
    push.m = g->inner;
    push.gather = 1;
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_MATMUL_TN, &push, 0))
        return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t a = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.pairs * push.m, 1e-3);
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, (uint64_t)g->tokens * g->hidden, 1);
    const uint32_t order = bench_case_words(&c, r.order, push.pairs);
    const uint32_t ranges = bench_case_words(&c, r.ranges, range_words(&r.push));
    const uint32_t grid = bench_case_words(&c, r.grid + 4 * MOE_GRID_UP_WEIGHT, 4);
    const uint32_t out = bench_case_zero(&c, DTYPE_F32, (uint64_t)g->experts * push.m * push.n);
    bench_case_step(&c, BENCH_BIND(a, x, order, ranges, out), (int32_t)grid);
    return run(at, &c, KERNEL_MATMUL_TN, push.m, push.n, push.pairs);
}

// ---- sort: the scan works in place, so it is timed behind the count that makes its input

static bool count_case(const struct at *at, const struct routing *r)
{
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_COUNT, &r->push, 0)) return true;
    const uint32_t ids = bench_case_words(&c, r->ids, r->push.pairs);
    const uint32_t counts =
        bench_case_zero(&c, DTYPE_U32, (uint64_t)r->push.blocks * r->push.experts);
    const uint32_t totals = bench_case_zero(&c, DTYPE_U32, r->push.experts);
    bench_case_step(&c, BENCH_BIND(ids, counts, totals), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool scatter_case(const struct at *at, const struct routing *r)
{
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_SCATTER, &r->push, 0)) return true;
    const uint32_t ids = bench_case_words(&c, r->ids, r->push.pairs);
    const uint32_t counts =
        bench_case_words(&c, r->counts, (uint64_t)r->push.blocks * r->push.experts);
    const uint32_t order = bench_case_zero(&c, DTYPE_U32, r->push.pairs);
    const uint32_t inverse = bench_case_zero(&c, DTYPE_U32, r->push.pairs);
    bench_case_step(&c, BENCH_BIND(ids, counts, order, inverse), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool scan_case(const struct at *at, const struct routing *r, bool scatter)
{
    struct bench_case c;
    const char *name = scatter ? "moe_sort" : "moe_count+moe_scan";
    if (!begin(&c, at, name, KERNEL_MOE_COUNT, &r->push, 0)) return true;
    const uint32_t ids = bench_case_words(&c, r->ids, r->push.pairs);
    const uint32_t counts =
        bench_case_zero(&c, DTYPE_U32, (uint64_t)r->push.blocks * r->push.experts);
    const uint32_t totals = bench_case_zero(&c, DTYPE_U32, r->push.experts),
                   offsets = bench_case_zero(&c, DTYPE_U32, r->push.experts + 1);
    const uint32_t tiles = bench_case_zero(&c, DTYPE_U32, tile_words(&r->push)),
                   ranges = bench_case_zero(&c, DTYPE_U32, range_words(&r->push)),
                   grid = bench_case_zero(&c, DTYPE_U32, 4 * MOE_GRIDS);
    const uint32_t order = bench_case_zero(&c, DTYPE_U32, r->push.pairs);
    const uint32_t inverse = bench_case_zero(&c, DTYPE_U32, r->push.pairs);
    bench_case_step(&c, BENCH_BIND(ids, counts, totals), BENCH_DIRECT);
    bench_case_step_of(&c, KERNEL_MOE_SCAN, &r->push,
                       BENCH_BIND(counts, totals, offsets, tiles, ranges, grid));
    if (scatter)
        bench_case_step_of(&c, KERNEL_MOE_SCATTER, &r->push,
                           BENCH_BIND(ids, counts, order, inverse));
    return bench_case_run(&c);
}

static bool sort(const struct at *at)
{
    if (at->store != DTYPE_F32) return true;
    const struct routing r = make_routing(at->bench, &at->g, at->store);
    return count_case(at, &r) && scan_case(at, &r, false) && scatter_case(at, &r) &&
           scan_case(at, &r, true);
}

// ---- combine

static bool combine(const struct at *at)
{
    const struct grouped *g = &at->g;
    const struct push_moe_combine push = {.tokens = g->tokens,
                                          .cols = g->hidden,
                                          .top_k = g->top_k,
                                          .weighted = 1,
                                          .add = 1};
    const uint64_t pairs = (uint64_t)g->tokens * g->top_k, count = (uint64_t)g->tokens * g->hidden;
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_COMBINE, &push, 0)) return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t y = bench_case_normal(&c, BENCH_STORE, pairs * g->hidden, 1);
    const uint32_t inverse = bench_case_words(&c, r.inverse, pairs),
                   gates = bench_case_normal(&c, DTYPE_F32, pairs, 1);
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, count, 1);
    const uint32_t out = bench_case_zero(&c, BENCH_STORE, count);
    bench_case_step(&c, BENCH_BIND(y, inverse, gates, x, out), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool activate_back(const struct at *at)
{
    const struct grouped *g = &at->g;
    const struct push_moe_activate push = {g->tokens * g->top_k, g->inner, ACTIVATION_SILU, 1};
    const uint64_t cells = (uint64_t)push.pairs * g->inner;
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_ACTIVATE_BACK, &push, 0)) return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t gate = bench_case_normal(&c, BENCH_STORE, cells, 1),
                   up = bench_case_normal(&c, BENCH_STORE, cells, 1),
                   dh = bench_case_normal(&c, BENCH_STORE, cells, 1e-3);
    const uint32_t inverse = bench_case_words(&c, r.inverse, push.pairs),
                   gates = bench_case_normal(&c, DTYPE_F32, push.pairs, 0.5),
                   dgates = bench_case_zero(&c, DTYPE_F32, push.pairs);
    bench_case_step(&c, BENCH_BIND(gate, up, dh, inverse, gates, dgates), BENCH_DIRECT);
    return bench_case_run(&c);
}

// ---- the list

static bool (*const matmuls[])(const struct at *at) = {matmul_up, matmul_nt, matmul_nn, matmul_tn};
static bool (*const others[])(const struct at *at) = {sort, combine, activate_back};
enum { FORWARD = 2 }; // of matmuls: used at every number of tokens, the rest where many are

// The layers that peers are measured on (shared with no model), at the numbers of tokens there.
static const struct { uint32_t experts, top_k, inner, hidden; } layers[] = {
    {8, 2, 512, 512}, {64, 8, 256, 512},
};

static enum bench_level layer_level(uint32_t tokens, enum dtype store, bool forward)
{
    if (store != DTYPE_F32) // one in 16 bits on CPU drivers
        return tokens == 128 && store == DTYPE_BF16 && forward ? BENCH_DEFAULT
                                                               : bench_level_of(BENCH_CARD, store);
    return forward || tokens == 512 ? BENCH_DEFAULT : BENCH_ASKED;
}

static bool peer_layers(struct bench *bench)
{
    static const uint32_t tokens[] = {1, 8, 32, 128, 512};
    const size_t kernels = COUNT_OF(matmuls) + COUNT_OF(others);
    for (size_t k = 0; k < kernels; k++)
        for (size_t l = 0; l < COUNT_OF(layers); l++)
            for (size_t t = 0; t < COUNT_OF(tokens); t++)
                for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
                    const struct at at = {.bench = bench,
                                          .store = store,
                                          .level = layer_level(tokens[t], store, k < FORWARD),
                                          .g = {layers[l].experts, layers[l].top_k, tokens[t],
                                                layers[l].inner, layers[l].hidden}};
                    if (!(k < COUNT_OF(matmuls) ? matmuls[k] : others[k - COUNT_OF(matmuls)])(&at))
                        return false;
                }
    return true;
}

// tiny at its own tokens; h64lm's experts are too slow for a CPU to be asked without a filter.
static bool model_layer(struct bench *bench, const struct bench_model *model, uint32_t tokens,
                        bool step, enum dtype store)
{
    struct bench_layer layer;
    if (!bench_layer_fit(bench, model, store, &layer)) return true;
    const enum bench_level level = model == &bench_models[BENCH_TINY] && step ? BENCH_DEFAULT
                                                                              : BENCH_CARD;
    const uint64_t pairs = (uint64_t)tokens * model->top_k * layer.experts / model->experts;
    const struct at at = {.bench = bench, .store = store, .model = layer.model,
                          .level = bench_level_of(level, store),
                          .g = {layer.experts, layer.top_k,
                                max_u32((uint32_t)(pairs / layer.top_k), 1), layer.inner,
                                layer.hidden}};
    for (size_t i = 0; i < (step ? COUNT_OF(matmuls) : FORWARD); i++)
        if (!matmuls[i](&at)) return false;
    for (size_t i = 0; i < COUNT_OF(others) && step; i++)
        if (!others[i](&at)) return false;
    return true;
}

static bool model_layers(struct bench *bench)
{
    for (size_t m = 0; m < BENCH_MODELS; m++)
        for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
            const struct bench_model *model = &bench_models[m];
            const uint32_t tokens[] = {1, 512, model->batch * model->seq};
            for (size_t t = 0; t < COUNT_OF(tokens); t++) {
                const bool step = t == COUNT_OF(tokens) - 1;
                if (!step && tokens[t] >= tokens[COUNT_OF(tokens) - 1]) continue;
                if (!model_layer(bench, model, tokens[t], step, store)) return false;
            }
        }
    return true;
}

bool bench_grouped(struct bench *bench)
{
    return peer_layers(bench) && model_layers(bench);
}

// ---- grouped against dense

static bool ratio(struct bench *bench, const struct bench_layer *layer, uint32_t rows, bool skewed,
                  enum dtype store, bool small)
{
    const struct grouped g = {layer->experts, layer->top_k, rows * layer->experts / layer->top_k,
                              layer->inner, layer->hidden, skewed};
    for (size_t i = 0; i < COUNT_OF(matmuls); i++) {
        const bool usual = small && matmuls[i] == matmul_nt; // on CPU drivers
        const struct at at = {.bench = bench, .g = g, .store = store, .model = layer->model,
                              .level = bench_level_of(usual ? BENCH_DEFAULT : BENCH_CARD, store),
                              .against_dense = true};
        if (!matmuls[i](&at)) return false;
    }
    return true;
}

bool bench_ratios(struct bench *bench)
{
    static const uint32_t rows[] = {8, 64, 256, 1024};
    static const int models[] = {-1, BENCH_H64LM, BENCH_OLMOE, BENCH_QWEN3, BENCH_MIXTRAL};
    for (size_t m = 0; m < COUNT_OF(models); m++)
        for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
            struct bench_layer layer = {NULL, 8, 2, 256, 512};
            if (models[m] >= 0 && !bench_layer_fit(bench, &bench_models[models[m]], store, &layer))
                continue;
            for (size_t r = 0; r < COUNT_OF(rows); r++)
                for (int skewed = 0; skewed < 2; skewed++)
                    if (!ratio(bench, &layer, rows[r], skewed, store, models[m] < 0)) return false;
        }
    return true;
}
