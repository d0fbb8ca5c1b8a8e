// SPDX-License-Identifier: MIT
// The grouped kernels of the benchmark: expert sort, grouped matmuls, activation, combine. Routing
// is even (token t picks experts t*k, t*k + 1, ... modulo E) and its tables come from the scalar
// references of the sort.
#include <stdlib.h>

#include "src/ref/ref.h"
#include "tools/bench.h"

struct grouped { uint32_t experts, top_k, tokens, inner, hidden; };

struct routing {
    struct push_moe_sort push;
    uint32_t *ids, *counts, *totals, *offsets, *tiles, *ranges, *grid, *order, *inverse;
};

static const struct { uint32_t experts, top_k, inner, hidden; } layers[] = {
    {8, 2, 512, 512}, {64, 8, 256, 512}, {8, 2, 64, 128}, {8, 2, 3072, 768},
};
static const uint32_t token_counts[] = {1, 8, 32, 128, 512, 1024};

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

struct at { struct bench *bench; struct grouped g; enum dtype store; enum bench_level level; };

static bool begin(struct bench_case *c, const struct at *at, const char *name, enum kernel_op op,
                  const void *push, double bytes)
{
    const struct grouped *g = &at->g;
    return bench_case_begin(c, at->bench,
                            &(struct bench_case_params){.level = at->level,
                                                        .family = "grouped",
                                                        .name = name,
                                                        .op = op,
                                                        .store = at->store,
                                                        .rows = rows_of(g),
                                                        .push = push,
                                                        .bytes = bytes},
                            "E%u k%u T%u %ux%u", g->experts, g->top_k, g->tokens, g->inner,
                            g->hidden);
}

static struct push_moe_matmul matmul_push(const struct grouped *g, uint32_t n, uint32_t k)
{
    return (struct push_moe_matmul){
        .pairs = g->tokens * g->top_k, .experts = g->experts, .n = n, .k = k, .top_k = g->top_k,
        .activation = ACTIVATION_SILU};
}

// Few tokens touch few experts: only their weights count.
static double touched_bytes(const struct at *at, enum kernel_op op, struct push_moe_matmul push)
{
    push.experts = min_u32(push.experts, push.pairs);
    return kernel_info(op)->bytes(&push, (uint32_t)dtype_bytes(at->store));
}

static bool matmul_up(const struct at *at)
{
    const struct grouped *g = &at->g;
    const struct push_moe_matmul push = matmul_push(g, g->inner, g->hidden);
    const uint64_t weights = (uint64_t)g->experts * g->inner * g->hidden;
    struct bench_case c;
    if (!begin(&c, at, NULL, KERNEL_MOE_MATMUL_UP, &push,
               touched_bytes(at, KERNEL_MOE_MATMUL_UP, push)))
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
    return bench_case_run(&c);
}

// Down (NT, [P][inner] -> [P][hidden]) and its gradient (NN, [P][hidden] -> [P][inner])
static bool matmul_down(const struct at *at, enum kernel_op op)
{
    const struct grouped *g = &at->g;
    const bool nt = op == KERNEL_MOE_MATMUL_NT;
    const struct push_moe_matmul push =
        nt ? matmul_push(g, g->hidden, g->inner) : matmul_push(g, g->inner, g->hidden);
    struct bench_case c;
    if (!begin(&c, at, NULL, op, &push, touched_bytes(at, op, push))) return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t a = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.pairs * push.k, 1);
    const uint32_t order = bench_case_words(&c, r.order, push.pairs);
    const uint32_t tiles = bench_case_words(&c, r.tiles, tile_words(&r.push));
    const enum kernel_moe_grid entry = nt ? MOE_GRID_DOWN : MOE_GRID_BACK_H;
    const uint32_t grid = bench_case_words(&c, r.grid + 4 * entry, 4);
    const uint32_t w =
        bench_case_normal(&c, BENCH_STORE, (uint64_t)g->experts * push.n * push.k, 0.05);
    const uint32_t out = bench_case_zero(&c, BENCH_STORE, (uint64_t)push.pairs * push.n);
    if (nt) bench_case_step(&c, BENCH_BIND(a, tiles, w, out), (int32_t)grid);
    else bench_case_step(&c, BENCH_BIND(a, order, tiles, w, out, a, w), (int32_t)grid);
    return bench_case_run(&c);
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
    if (!begin(&c, at, NULL, KERNEL_MOE_MATMUL_TN, &push,
               touched_bytes(at, KERNEL_MOE_MATMUL_TN, push)))
        return true;
    const struct routing r = make_routing(at->bench, g, at->store);
    const uint32_t a = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.pairs * push.m, 1e-3);
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, (uint64_t)g->tokens * g->hidden, 1);
    const uint32_t order = bench_case_words(&c, r.order, push.pairs);
    const uint32_t ranges = bench_case_words(&c, r.ranges, range_words(&r.push));
    const uint32_t grid = bench_case_words(&c, r.grid + 4 * MOE_GRID_UP_WEIGHT, 4);
    const uint32_t out = bench_case_zero(&c, DTYPE_F32, (uint64_t)g->experts * push.m * push.n);
    bench_case_step(&c, BENCH_BIND(a, x, order, ranges, out), (int32_t)grid);
    return bench_case_run(&c);
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

enum use {
    USE_ALL = 1,
    USE_LARGE = 2
}; // token counts that run without a filter: all, or from 512 on

static const struct { bool (*run)(const struct at *at); enum use use; } kernels[] = {
    {matmul_up, USE_ALL}, {matmul_nt, USE_ALL}, {matmul_nn, USE_LARGE}, {matmul_tn, USE_LARGE},
    {sort, USE_LARGE}, {combine, USE_LARGE}, {activate_back, USE_LARGE},
};

// tiny's layer only at its own 1024 tokens, h64lm's only where asked for, 16-bit storage at 128
// tokens.
static enum bench_level level_of(size_t kernel, size_t layer, uint32_t tokens, enum dtype store)
{
    const bool tiny = layer == 2, h64lm = layer == 3;
    if (h64lm || tiny != (tokens == 1024)) return BENCH_ASKED;
    if (store != DTYPE_F32)
        return tokens == 128 && store == DTYPE_BF16 ? BENCH_DEFAULT : BENCH_ASKED;
    return kernels[kernel].use == USE_ALL || tokens >= 512 ? BENCH_DEFAULT : BENCH_ASKED;
}

bool bench_grouped(struct bench *bench)
{
    for (size_t k = 0; k < COUNT_OF(kernels); k++)
        for (size_t l = 0; l < COUNT_OF(layers); l++)
            for (size_t t = 0; t < COUNT_OF(token_counts); t++)
                for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
                    const struct at at = {.bench = bench,
                                          .store = store,
                                          .level = level_of(k, l, token_counts[t], store),
                                          .g = {layers[l].experts, layers[l].top_k, token_counts[t],
                                                layers[l].inner, layers[l].hidden}};
                    if (!kernels[k].run(&at)) return false;
                }
    return true;
}
