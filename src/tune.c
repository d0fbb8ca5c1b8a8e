// SPDX-License-Identifier: MIT
// Measures candidates and keeps those that are faster than the default for sure (tune.h). Dense
// products and attention are chosen one by one; the grouped matmuls of a layer share a tile table,
// so a tile is judged by all of them together.
//
// Compiling is what costs: a candidate takes 0.1 to 0.6 s on a CPU driver, timing it some
// milliseconds. So only what takes a share of the step is looked at, the largest first; what lost
// clearly is not compiled for other sizes; and candidates are held against what the default wrote,
// which needs no second pipeline, but the winner goes through the self-test as well.
#include "src/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/base.h"
#include "src/kernel_case.h"
#include "src/kernel_shape.h"
#include "src/progress.h"

enum {
    SCREEN_RUNS = 3,
    PAIRS = 7,          // that confirm a winner, of which it must win
    PAIRS_WON = 6,
    MORE_PAIRS = 21,    // where that is not clear
    MORE_PAIRS_WON = 15,
    MOST_REPEATS = 32,
    MOST_DROPPED = 256,
    MOST_CHOICES = 2048,
    UNIT_ITEMS = TRIAL_MAX_PARTS,
};
#define BUDGET_SECONDS 15.0
#define RUN_MS         1.5  // a measurement takes about so long at least
#define SLOW           3.0  // so many times slower than the default: not tried for other sizes
#define LOST           1.5  // a variant that loses so twice, and never wins, is not tried again
#define LOST_NEAR      1.05 // a shape that loses so is not tried for sizes of about as many rows
#define WORTH          0.95 // of the default's time: what a winner must stay below
#define LEAST_SHARE    0.01 // of the time of all: below, a size keeps its default
#define CPU_FLOPS      1e8  // of one run: sizes are cut down to it
#define CARD_FLOPS     2e10
#define CPU_BYTES      3.2e7 // of one operand, likewise
#define CARD_BYTES     2.5e8

// A size of an operation.
struct item {
    struct kernel_use   use;
    struct kernel_size  size;          // use.size, cut down to a run of milliseconds
    struct kernel_shape base, best;
    struct trial       *trial;         // of the base, while its unit is measured
    double              base_ms, best_ms, weight; // weight: ms of all uses
    uint32_t            repeats, parts;
};

// What is chosen together: one item, or the grouped matmuls of a layer.
struct unit {
    uint32_t item[UNIT_ITEMS], count;
    double   weight;
};

// A shape, or all of its variant, that lost; rows 0: for every size, else for about so many rows.
struct dropped { enum kernel_op op; struct kernel_shape shape; bool variant; uint32_t rows; };

struct tuner {
    struct kernels           *kernels;
    const struct tune_params *params;
    struct tune_report       *report;
    struct gpu               *gpu;
    double                    began, weight;
    uint32_t                  done, total;
    struct item              *item;
    struct unit              *unit;
    uint32_t                  item_count, unit_count;
    struct dropped            dropped[MOST_DROPPED];
    uint32_t                  dropped_count;
    uint32_t                  lost[KERNEL_VARIANTS], won[KERNEL_VARIANTS];
    struct kernel_choice     *choice;
    uint32_t                  choice_count;
};

static bool is_cpu(const struct tuner *t) { return t->gpu->caps.type == GPU_TYPE_CPU; }

static bool is_late(const struct tuner *t)
{
    const double seconds = t->params->seconds > 0 ? t->params->seconds : BUDGET_SECONDS;
    return os_seconds() - t->began > seconds;
}

// ---- sizes

static bool is_measurable(enum kernel_op op)
{
    if (op == KERNEL_MOE_MATMUL_NTF) return false; // goes by the others of its table
    return kernel_is_matmul(op) || kernel_is_matvec(op) || op == KERNEL_ATTENTION ||
           op == KERNEL_ATTENTION_BACK_Q || op == KERNEL_ATTENTION_BACK_KV;
}

// Of the case that kernel_case makes for a size, about.
static double flops_of(enum kernel_op op, const struct kernel_size *s)
{
    const double product = 2.0 * s->rows * s->columns * s->inner;
    if (kernel_is_attention(op)) return 4 * product * s->inner;
    if (op == KERNEL_MOE_MATMUL_TN) return kernel_case_experts(s->inner) * product;
    const uint32_t matrices = op == KERNEL_MOE_MATMUL_UP || op == KERNEL_MOE_MATMUL_NN ? 2 : 1;
    return kernel_is_grouped(op) ? matrices * kernel_case_experts(s->rows) * product : product;
}

// Of the case's largest operand, at most.
static double bytes_of(enum kernel_op op, const struct kernel_size *s)
{
    const double a = (double)s->rows * s->inner, b = (double)s->columns * s->inner,
                 c = (double)s->rows * s->columns;
    if (kernel_is_attention(op)) return 8 * b * s->rows;
    if (op == KERNEL_MOE_MATMUL_TN) return 4 * kernel_case_experts(s->inner) * fmax(fmax(a, b), c);
    return 4 * (kernel_is_grouped(op) ? kernel_case_experts(s->rows) : 1) * fmax(fmax(a, b), c);
}

// Half, with what it is a multiple of: fours, or nothing.
static uint32_t half(uint32_t n) { return n % 4 ? n / 2 | 1 : max_u32(n / 8 * 4, 4); }

static struct kernel_size cut_down(const struct tuner *t, enum kernel_op op, struct kernel_size s)
{
    const double most = is_cpu(t) ? CPU_FLOPS : CARD_FLOPS,
                 bytes = fmin(is_cpu(t) ? CPU_BYTES : CARD_BYTES, (double)t->gpu->caps.max_range);
    while ((flops_of(op, &s) > most || bytes_of(op, &s) > bytes) &&
           max_u32(max_u32(s.rows, s.columns), s.inner) > 16) {
        uint32_t *largest = s.rows >= s.columns ? &s.rows : &s.columns;
        if (s.inner > *largest || kernel_is_attention(op)) largest = &s.inner;
        *largest = half(*largest);
    }
    return s;
}

static bool is_known(const struct tuner *t, const struct kernel_use *use)
{
    for (uint32_t i = 0; i < t->choice_count; i++) {
        const struct kernel_choice *c = &t->choice[i];
        if (c->op == use->op && c->store == use->store && c->ms > 0 &&
            memcmp(&c->size, &use->size, sizeof c->size) == 0)
            return true;
    }
    return false;
}

static void add_item(struct tuner *t, const struct kernel_use *use)
{
    if (use->store != t->params->store || !is_measurable(use->op) || is_known(t, use)) return;
    struct item *item = &t->item[t->item_count];
    *item = (struct item){.use = *use, .size = cut_down(t, use->op, use->size), .repeats = 1};
    item->base = item->best = kernels_shape(t->kernels, use->op, use->store, &use->size);
    if (item->base.lanes && kernel_exists(use->op, use->store, item->base.variant))
        t->item_count++;
}

// Few rows to many, at widths that take a CPU driver milliseconds and keep a card busy.
static uint32_t grid(const struct tuner *t, struct kernel_use *use)
{
    static const uint32_t dense[] = {512, 64, 8}, grouped[] = {64, 8, 1, 512}, few[] = {64, 8};
    static const enum kernel_op ops[] = {KERNEL_MOE_MATMUL_UP, KERNEL_MOE_MATMUL_NT,
                                         KERNEL_MOE_MATMUL_NN};
    const enum dtype store = t->params->store;
    const uint32_t width = is_cpu(t) ? 512 : 2048, expert = is_cpu(t) ? 256 : 1024;
    uint32_t n = 0;
    for (size_t i = 0; i < COUNT_OF(dense); i++) {
        const uint32_t rows = dense[i] * (is_cpu(t) ? 1 : 4);
        use[n++] = (struct kernel_use){KERNEL_MATMUL_NT, store, {rows, width, width}, 0};
        use[n++] = (struct kernel_use){KERNEL_MATMUL_NN, store, {rows, width, width}, 0};
        if (i < 2) use[n++] = (struct kernel_use){KERNEL_MATMUL_TN, store, {rows, width, width}, 0};
    }
    for (size_t i = 0; i < COUNT_OF(grouped); i++)
        for (size_t o = 0; o < COUNT_OF(ops); o++)
            use[n++] = (struct kernel_use){ops[o], store, {grouped[i], expert, expert}, 0};
    for (size_t i = 0; i < COUNT_OF(few); i++)
        use[n++] = (struct kernel_use){KERNEL_MOE_MATMUL_TN, store, {expert, expert, few[i]}, 0};
    for (enum kernel_op op = KERNEL_ATTENTION; op <= KERNEL_ATTENTION_BACK_KV; op++)
        if (op != KERNEL_ATTENTION_DELTA)
            use[n++] = (struct kernel_use){op, store, {64, 2, is_cpu(t) ? 256 : 1024}, 0};
    return n;
}

// ---- units

static bool same_layer(const struct item *a, const struct item *b)
{
    const struct kernel_size *x = &a->use.size, *y = &b->use.size;
    return kernel_is_grouped(a->use.op) && kernel_is_grouped(b->use.op) && x->rows == y->rows &&
           min_u32(x->columns, x->inner) == min_u32(y->columns, y->inner) &&
           max_u32(x->columns, x->inner) == max_u32(y->columns, y->inner);
}

static void add_to_unit(struct tuner *t, uint32_t index)
{
    uint32_t u = 0;
    while (u < t->unit_count && !(same_layer(&t->item[t->unit[u].item[0]], &t->item[index]) &&
                                  t->unit[u].count < UNIT_ITEMS))
        u++;
    if (u == t->unit_count) t->unit[t->unit_count++] = (struct unit){.weight = 0};
    t->unit[u].item[t->unit[u].count++] = index;
    t->unit[u].weight += t->item[index].weight;
}

static int by_weight(const void *a, const void *b)
{
    const double x = ((const struct unit *)a)->weight, y = ((const struct unit *)b)->weight;
    return x > y ? -1 : x < y;
}

// ---- one measurement

static struct trial *item_trial(struct tuner *t, const struct item *item,
                                const struct kernel_shape *shape, uint32_t parts)
{
    static const enum kernel_op whole[] = {KERNEL_MATMUL_NT, KERNEL_MATMUL_NN};
    static const enum kernel_op wide[] = {KERNEL_MATMUL_NTF, KERNEL_MATMUL_NNF};
    const enum dtype store = item->use.store;
    enum kernel_op op = item->use.op, sum_op = KERNEL_MATMUL_SUMF;
    for (size_t i = 0; parts > 1 && i < COUNT_OF(whole); i++)
        if (op == whole[i]) op = wide[i], sum_op = KERNEL_MATMUL_SUM;
    struct trial_part part = {.size = item->size, .parts = parts};
    part.kernel = kernels_make(t->kernels, op, store, shape);
    if (parts > 1) {
        const struct kernel_shape sum = kernels_shape(t->kernels, sum_op, store, &item->size);
        part.sum = kernels_make(t->kernels, sum_op, store, &sum);
        if (!part.sum) return NULL;
    }
    return part.kernel ? trial_create(t->gpu, &part, 1) : NULL;
}

static void get_ready(struct tuner *t, struct trial *trial, uint32_t repeats)
{
    trial_repeat(trial, repeats);
    if (t->params->pretend) trial_set_pretend(trial, t->params->pretend, t->params->pretend_user);
}

static bool open_base(struct tuner *t, struct item *item)
{
    item->trial = item_trial(t, item, &item->base, 0);
    if (item->trial) get_ready(t, item->trial, item->repeats);
    return item->trial != NULL;
}

// How long the default takes: what tells where to look first.
static void time_base(struct tuner *t, struct item *item)
{
    if (is_late(t)) t->report->late++;
    if (is_late(t) || !open_base(t, item)) return;
    double ms = trial_run(item->trial);
    item->repeats = (uint32_t)fmin(fmax(ceil(RUN_MS / fmax(ms, 1e-3)), 1), MOST_REPEATS);
    get_ready(t, item->trial, item->repeats);
    for (int i = 0; i < SCREEN_RUNS; i++) ms = fmin(ms, trial_run(item->trial));
    item->base_ms = item->best_ms = ms;
    item->weight = item->use.count ? ms * item->use.flops / trial_flops(item->trial) : 1;
    t->weight += item->weight;
    trial_destroy(&item->trial);
}

static void drop(struct tuner *t, enum kernel_op op, const struct kernel_shape *shape,
                 bool variant, uint32_t rows)
{
    if (t->dropped_count < MOST_DROPPED)
        t->dropped[t->dropped_count++] = (struct dropped){op, *shape, variant, rows};
}

static bool is_dropped(const struct tuner *t, enum kernel_op op, const struct kernel_shape *shape,
                       uint32_t rows)
{
    for (uint32_t i = 0; i < t->dropped_count; i++) {
        const struct dropped *d = &t->dropped[i];
        const bool here = !d->rows || (rows <= 2 * d->rows && d->rows <= 2 * rows);
        if (here && d->op == op &&
            (d->variant ? d->shape.variant == shape->variant
                        : memcmp(&d->shape, shape, sizeof *shape) == 0))
            return true;
    }
    return t->lost[shape->variant] >= 2 && !t->won[shape->variant];
}

// What need not be compiled to know that it loses.
static bool is_hopeless(const struct tuner *t, const struct item *item,
                        const struct kernel_shape *shape)
{
    const uint32_t rows = item->use.size.rows, base_rows = item->base.rows;
    const bool flat = kernel_is_flat(shape);
    if (is_dropped(t, item->use.op, shape, rows)) return true;
    if (kernel_is_attention(item->use.op)) return is_cpu(t) && !flat;
    // shared memory and matrices are emulated there: 8 to 20 times slower, for the checks alone
    if (is_cpu(t) && !flat) return true;
    // mostly padding, or every value of b loaded again and again
    return shape->rows > 2 * rows ||
           (flat && shape->rows * 16 <= rows && shape->rows * 4 <= base_rows);
}

// A kernel that wrote something else: named by the self-test, or here where that is happy with it.
static void tell_wrong(struct tuner *t, const struct item *item, const struct kernel_shape *shape,
                       uint32_t parts)
{
    const enum kernel_op op = item->use.op;
    t->report->wrong++;
    if (!parts) drop(t, op, shape, false, 0);
    if (kernels_right(t->kernels, op, item->use.store, shape))
        log_warn("device %s computes %s (%s, %u rows a tile, %u parts) of %ux%ux%u unlike the "
                 "default: it is not used",
                 t->gpu->caps.name, kernel_info(op)->name, kernel_variant_name(shape->variant),
                 shape->rows, max_u32(parts, 1), item->size.rows, item->size.columns,
                 item->size.inner);
}

// Least of some runs of a candidate over that of the default, in turn: neighbours only ever make a
// run longer. INFINITY: wrong, or out of time.
static double screen(struct tuner *t, struct item *item, const struct kernel_shape *shape,
                     uint32_t parts)
{
    const struct tune_params *p = t->params;
    const enum kernel_variant variant = shape->variant;
    if (is_late(t)) return t->report->late++, INFINITY;
    if (p->progress) p->progress(p->user, kernel_info(item->use.op)->name, t->done, t->total);
    struct trial *trial = item_trial(t, item, shape, parts);
    if (!trial) return INFINITY;
    t->report->measured++;
    if (!trial_agree(item->trial, trial)) {
        tell_wrong(t, item, shape, parts);
        trial_destroy(&trial);
        return INFINITY;
    }
    get_ready(t, trial, item->repeats);
    double base = item->base_ms, least = INFINITY;
    for (int i = 0; i < SCREEN_RUNS; i++) {
        base = fmin(base, trial_run(item->trial));
        least = fmin(least, trial_run(trial));
    }
    trial_destroy(&trial);
    const double ratio = least / base;
    const bool other = variant != item->base.variant;
    if (other && !parts && ratio > LOST) t->lost[variant]++;
    if (other && ratio < WORTH) t->won[variant]++;
    if (ratio > SLOW && !parts)
        drop(t, item->use.op, shape, other && !kernel_is_flat(shape), 0);
    else if (ratio > LOST_NEAR && !parts)
        drop(t, item->use.op, shape, false, item->use.size.rows);
    log_debug("tune: %s %ux%ux%u %s %u rows, %u parts: %.3f of %.3f ms",
              kernel_info(item->use.op)->name, item->size.rows, item->size.columns,
              item->size.inner, kernel_variant_name(variant), shape->rows, max_u32(parts, 1), ratio,
              base);
    return ratio;
}

// Whether a winner wins again, run in turn with the default.
static bool confirm(struct trial *base, struct trial *winner, double *ratio)
{
    uint32_t won;
    *ratio = trial_compare(base, winner, PAIRS, &won);
    log_debug("tune: in pairs %.3f of the default, %u of %d won", *ratio, won, PAIRS);
    if (*ratio >= WORTH || 2 * won < PAIRS) return false;
    if (won >= PAIRS_WON) return true;
    *ratio = trial_compare(base, winner, MORE_PAIRS, &won);
    log_debug("tune: in more pairs %.3f of the default, %u of %d won", *ratio, won, MORE_PAIRS);
    return *ratio < WORTH && won >= MORE_PAIRS_WON;
}

// ---- one item

struct ranked { struct kernel_shape shape; double ratio; };

static int by_ratio(const void *a, const void *b)
{
    const double x = ((const struct ranked *)a)->ratio, y = ((const struct ranked *)b)->ratio;
    return x < y ? -1 : x > y;
}

static bool take_if_confirmed(struct tuner *t, struct item *item, const struct kernel_shape *shape,
                              uint32_t parts)
{
    double ratio;
    struct trial *trial = item_trial(t, item, shape, parts);
    if (!trial) return false;
    get_ready(t, trial, item->repeats);
    const bool ok = confirm(item->trial, trial, &ratio) &&
                    kernels_right(t->kernels, item->use.op, item->use.store, shape);
    trial_destroy(&trial);
    if (!ok) return false;
    item->best = *shape;
    item->parts = parts;
    item->best_ms = item->base_ms * ratio;
    return true;
}

static void tune_shapes(struct tuner *t, struct item *item)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    struct ranked ranked[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, item->use.op, item->use.store,
                                             &item->use.size, list);
    uint32_t tried = 0;
    for (uint32_t i = 0; i < count; i++, t->done++) {
        if (!memcmp(&list[i], &item->base, sizeof *list) || is_hopeless(t, item, &list[i]))
            continue;
        ranked[tried++] = (struct ranked){list[i], screen(t, item, &list[i], 0)};
    }
    qsort(ranked, tried, sizeof *ranked, by_ratio);
    for (uint32_t i = 0; i < min_u32(tried, 2) && ranked[i].ratio < WORTH; i++) {
        if (take_if_confirmed(t, item, &ranked[i].shape, 0)) return;
        drop(t, item->use.op, &ranked[i].shape, false, item->use.size.rows);
    }
}

// Thin products with long sums leave a device idle: then shares of the sum are added up behind.
static void tune_parts(struct tuner *t, struct item *item)
{
    enum { LEAST_SHARE_OF_SUM = 128, CPU_GROUPS = 4, CARD_GROUPS = 256 };
    const struct kernel_size *size = &item->use.size;
    const enum kernel_op op = item->use.op;
    const uint32_t fill = is_cpu(t) ? CPU_GROUPS : CARD_GROUPS;
    const uint64_t groups =
        (uint64_t)ceil_div(size->columns, kernel_group_columns(op, &item->best)) *
        ceil_div(size->rows, item->best.rows);
    if (!kernel_is_matmul(op) || kernel_is_grouped(op) || op == KERNEL_MOE_MATMUL_TN ||
        memcmp(size, &item->size, sizeof *size) != 0)
        return;
    struct ranked best = {item->best, WORTH * item->best_ms / item->base_ms};
    uint32_t best_parts = 0;
    for (uint32_t parts = 2; groups * parts <= fill && size->inner >= LEAST_SHARE_OF_SUM * parts;
         parts *= 2) {
        const double ratio = screen(t, item, &best.shape, parts);
        if (ratio < best.ratio) best.ratio = ratio, best_parts = parts;
    }
    if (best_parts) take_if_confirmed(t, item, &best.shape, best_parts);
}

static void tune_item(struct tuner *t, struct item *item)
{
    if (!open_base(t, item)) return;
    tune_shapes(t, item);
    tune_parts(t, item);
    trial_destroy(&item->trial);
}

// ---- the grouped matmuls of a layer

struct layer_way { struct kernel_shape shape[UNIT_ITEMS]; double ms; };

// The best of an item's shapes with so many rows; false where there is none.
static bool best_with_rows(struct tuner *t, struct item *item, uint32_t rows,
                           struct kernel_shape *shape, double *ratio)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, item->use.op, item->use.store,
                                             &item->use.size, list);
    *ratio = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        const bool base = !memcmp(&list[i], &item->base, sizeof *list);
        if (list[i].rows != rows || (!base && is_hopeless(t, item, &list[i]))) continue;
        const double own = base ? 1 : screen(t, item, &list[i], 0);
        t->done++;
        if (own >= *ratio * (base || *ratio == INFINITY ? 1 : WORTH)) continue;
        *ratio = own;
        *shape = list[i];
    }
    return isfinite(*ratio);
}

static struct layer_way best_way(struct tuner *t, const struct unit *unit, uint32_t rows)
{
    struct layer_way way = {.ms = 0};
    for (uint32_t i = 0; i < unit->count; i++) {
        struct item *item = &t->item[unit->item[i]];
        double ratio;
        if (!best_with_rows(t, item, rows, &way.shape[i], &ratio) || ratio > LOST) {
            way.ms = INFINITY;
            return way;
        }
        way.ms += ratio * item->base_ms;
    }
    return way;
}

static struct trial *layer_trial(struct tuner *t, const struct unit *unit,
                                 const struct layer_way *way)
{
    struct trial_part part[UNIT_ITEMS];
    for (uint32_t i = 0; i < unit->count; i++) {
        const struct item *item = &t->item[unit->item[i]];
        const struct kernel_shape *shape = way ? &way->shape[i] : &item->base;
        const struct kernel *kernel =
            kernels_make(t->kernels, item->use.op, item->use.store, shape);
        part[i] = (struct trial_part){.kernel = kernel, .size = item->size};
        if (!kernel) return NULL;
    }
    return trial_create(t->gpu, part, unit->count);
}

static bool way_is_right(struct tuner *t, const struct unit *unit, const struct layer_way *way)
{
    bool right = true;
    for (uint32_t i = 0; right && i < unit->count; i++) {
        const struct item *item = &t->item[unit->item[i]];
        right = kernels_right(t->kernels, item->use.op, item->use.store, &way->shape[i]);
    }
    return right;
}

static void take_way_if_confirmed(struct tuner *t, const struct unit *unit,
                                  const struct layer_way *way)
{
    uint32_t repeats = MOST_REPEATS;
    double ratio = 1;
    for (uint32_t i = 0; i < unit->count; i++)
        repeats = min_u32(repeats, t->item[unit->item[i]].repeats);
    struct trial *base = layer_trial(t, unit, NULL), *other = layer_trial(t, unit, way);
    if (base) get_ready(t, base, repeats);
    if (other) get_ready(t, other, repeats);
    const bool ok = base && other && confirm(base, other, &ratio) &&
                    way_is_right(t, unit, way);
    trial_destroy(&base);
    trial_destroy(&other);
    for (uint32_t i = 0; ok && i < unit->count; i++) {
        struct item *item = &t->item[unit->item[i]];
        item->best = way->shape[i];
        item->best_ms = item->base_ms * ratio;
    }
}

// The rows that a layer's tile table may have: those of moe_matmul_up, which stands for the layer
// (kernels_shape), the default's first.
static uint32_t layer_rows(const struct tuner *t, const struct item *item,
                           struct kernel_shape list[KERNEL_MAX_CANDIDATES])
{
    const struct kernel_size *s = &item->use.size;
    const struct kernel_size up = {s->rows, min_u32(s->columns, s->inner),
                                   max_u32(s->columns, s->inner)};
    const uint32_t count = kernel_candidates(&t->gpu->caps, KERNEL_MOE_MATMUL_UP, item->use.store,
                                             &up, list);
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < distinct; j++) seen |= list[j].rows == list[i].rows;
        if (!seen) list[distinct++] = list[i];
    }
    return distinct;
}

static void tune_layer(struct tuner *t, const struct unit *unit)
{
    struct kernel_shape rows[KERNEL_MAX_CANDIDATES];
    struct layer_way best = {.ms = INFINITY};
    double base_ms = 0;
    bool open = true;
    for (uint32_t i = 0; i < unit->count; i++) {
        struct item *item = &t->item[unit->item[i]];
        base_ms += item->base_ms;
        open = open && open_base(t, item);
    }
    const uint32_t count = layer_rows(t, &t->item[unit->item[0]], rows);
    for (uint32_t i = 0; open && i < count; i++) {
        const struct layer_way way = best_way(t, unit, rows[i].rows);
        if (way.ms < best.ms) best = way;
    }
    for (uint32_t i = 0; i < unit->count; i++) trial_destroy(&t->item[unit->item[i]].trial);
    if (best.ms < WORTH * base_ms) take_way_if_confirmed(t, unit, &best);
}

// ---- all

static void add_choice(struct tuner *t, const struct kernel_choice *choice)
{
    for (uint32_t i = 0; i < t->choice_count; i++) {
        struct kernel_choice *c = &t->choice[i];
        if (c->op != choice->op || c->store != choice->store ||
            memcmp(&c->size, &choice->size, sizeof c->size))
            continue;
        if (choice->ms > 0 || c->ms <= 0) *c = *choice; // what was measured stays
        return;
    }
    if (t->choice_count < MOST_CHOICES) t->choice[t->choice_count++] = *choice;
}

// A choice for an operation that was not itself measured at this size: ms 0 says so.
static void add_companion(struct tuner *t, const struct item *item, enum kernel_op op,
                          struct kernel_size size, const struct kernel_shape *shape)
{
    if (kernel_exists(op, item->use.store, shape->variant))
        add_choice(t, &(struct kernel_choice){op, item->use.store, size, *shape, 0, 0, 0});
}

// The tile table of a layer without gate follows moe_matmul_up all the same.
static void add_layer_rows(struct tuner *t, const struct item *item)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const struct kernel_size *s = &item->use.size;
    const uint32_t count = layer_rows(t, item, list);
    for (uint32_t i = 0; i < count; i++)
        if (list[i].rows == item->best.rows)
            add_companion(t, item, KERNEL_MOE_MATMUL_UP,
                          (struct kernel_size){s->rows, min_u32(s->columns, s->inner),
                                               max_u32(s->columns, s->inner)},
                          &list[i]);
}

static void choose(struct tuner *t, const struct item *item)
{
    const enum kernel_op op = item->use.op;
    if (item->base_ms <= 0) return; // out of time
    add_choice(t, &(struct kernel_choice){op, item->use.store, item->use.size, item->best,
                                          item->parts, item->best_ms, item->base_ms});
    t->report->changed += item->parts > 1 || memcmp(&item->best, &item->base, sizeof item->best);
    // the same kernel, but for the type of its output: of split sums, and where nothing was asked
    const bool twin = item->parts > 1 || !item->use.count;
    if (twin && op == KERNEL_MATMUL_NT)
        add_companion(t, item, KERNEL_MATMUL_NTF, item->use.size, &item->best);
    if (twin && op == KERNEL_MATMUL_NN)
        add_companion(t, item, KERNEL_MATMUL_NNF, item->use.size, &item->best);
    if (kernel_is_grouped(op)) add_layer_rows(t, item);
}

static void tune_unit(struct tuner *t, const struct unit *unit)
{
    struct item *first = &t->item[unit->item[0]];
    if (unit->weight < LEAST_SHARE * t->weight) return;
    for (uint32_t i = 0; i < unit->count; i++)
        if (t->item[unit->item[i]].base_ms <= 0) return; // out of time
    if (kernel_is_grouped(first->use.op)) tune_layer(t, unit);
    else tune_item(t, first);
}

static void tune_all(struct tuner *t)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    for (uint32_t i = 0; i < t->item_count; i++) time_base(t, &t->item[i]);
    log_debug("tune: %u defaults timed in %.2f s", t->item_count, os_seconds() - t->began);
    for (uint32_t i = 0; i < t->item_count; i++) {
        const struct item *item = &t->item[i];
        add_to_unit(t, i);
        t->total += kernel_candidates(&t->gpu->caps, item->use.op, item->use.store,
                                      &item->use.size, list);
    }
    qsort(t->unit, t->unit_count, sizeof *t->unit, by_weight);
    for (uint32_t i = 0; i < t->unit_count && !gpu_lost(t->gpu); i++) tune_unit(t, &t->unit[i]);
    if (t->params->progress && t->report->measured) // what was skipped is done as well
        t->params->progress(t->params->user, "", t->total, t->total);
    for (uint32_t i = 0; i < t->item_count; i++) choose(t, &t->item[i]);
}

static bool has_store(const struct kernels *kernels, enum dtype store)
{
    uint32_t count;
    const struct kernel_choice *choice = kernels_choices(kernels, &count);
    for (uint32_t i = 0; i < count; i++)
        if (choice[i].store == store) return true;
    return false;
}

bool tune_is_kept(struct kernels *kernels, const struct tune_params *params)
{
    char path[4096];
    if (!has_store(kernels, params->store) &&
        tune_path(params, &kernels_gpu(kernels)->caps, path, sizeof path))
        tune_read(kernels, path);
    return has_store(kernels, params->store);
}

// Whether a choice is to be made anew: of this type and, where sizes are given, of one of them.
static bool is_outdated(const struct tune_params *p, const struct kernel_choice *c)
{
    bool asked = !p->use;
    for (uint32_t i = 0; i < p->use_count && !asked; i++)
        asked = p->use[i].op == c->op && !memcmp(&p->use[i].size, &c->size, sizeof c->size);
    return p->again && c->store == p->store && asked;
}

static void take_old_choices(struct tuner *t)
{
    uint32_t count;
    const struct kernel_choice *old = kernels_choices(t->kernels, &count);
    for (uint32_t i = 0; i < count && t->choice_count < MOST_CHOICES; i++)
        if (!is_outdated(t->params, &old[i])) t->choice[t->choice_count++] = old[i];
}

static struct tuner *tuner_create(struct arena *arena, struct kernels *kernels,
                                  const struct tune_params *params, struct tune_report *report)
{
    enum { GRID_MOST = 64 };
    struct tuner *t = arena_alloc(arena, sizeof *t);
    struct kernel_use general[GRID_MOST];
    *t = (struct tuner){.kernels = kernels, .params = params, .report = report,
                        .gpu = kernels_gpu(kernels), .began = os_seconds()};
    t->choice = arena_array(arena, MOST_CHOICES, sizeof *t->choice);
    take_old_choices(t);
    kernels_choose(kernels, NULL, 0); // so that shapes are the defaults
    const uint32_t count = params->use ? params->use_count : grid(t, general);
    t->item = arena_array(arena, count + 1, sizeof *t->item);
    t->unit = arena_array(arena, count + 1, sizeof *t->unit);
    for (uint32_t i = 0; i < count; i++) add_item(t, params->use ? &params->use[i] : &general[i]);
    report->sizes = t->item_count;
    return t;
}

bool tune(struct kernels *kernels, const struct tune_params *params, struct tune_report *report)
{
    const struct gpu *gpu = kernels_gpu(kernels);
    *report = (struct tune_report){0};
    if (gpu_is_reference(gpu)) return true; // one way to compute each
    struct arena *arena = arena_create("tuner");
    const bool keep = tune_path(params, &gpu->caps, report->path, sizeof report->path);
    tune_is_kept(kernels, params);
    struct tuner *t = tuner_create(arena, kernels, params, report);
    tune_all(t);
    report->seconds = os_seconds() - t->began;
    const bool ok = !gpu_lost(gpu);
    kernels_choose(kernels, t->choice, t->choice_count);
    if (ok && keep && t->item_count) tune_write(kernels, report->path);
    arena_destroy(&arena);
    return ok;
}

// ---- at the start of a run

struct shown { struct progress *progress; bool quiet; };

static void show(void *user, const char *kernel, uint32_t done, uint32_t total)
{
    struct shown *s = user;
    (void)kernel;
    if (s->quiet) return;
    if (!s->progress)
        s->progress = progress_create(
            &(struct progress_params){.verb = "tune", .out = stderr, .total = total});
    progress_update(s->progress, &(struct progress_state){.step = done, .loss = NAN,
                                                          .bits_per_byte = NAN});
}

bool tune_at_start(struct kernels *kernels, enum dtype store, bool quiet, bool *changed)
{
    struct shown shown = {.quiet = quiet};
    struct tune_params params = {.store = store, .progress = show, .user = &shown};
    struct tune_report report;
    *changed = false;
    params.use = kernels_uses(kernels, &params.use_count);
    const bool ok = tune(kernels, &params, &report);
    progress_destroy(&shown.progress);
    *changed = report.changed > 0;
    if (ok && report.sizes)
        log_info("tuned for this model: %u candidates of %u sizes measured in %.1f s, %u faster "
                 "than the default, %u left out of time%s%s",
                 report.measured, report.sizes, report.seconds, report.changed, report.late,
                 report.path[0] ? "; kept in " : "", report.path);
    return ok;
}
