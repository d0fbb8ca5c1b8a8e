// SPDX-License-Identifier: MIT
// Measures candidates and keeps those that are faster than the default for sure (tune.h). Dense
// products and attention are chosen one by one; the grouped matmuls of a layer share a tile table,
// so a tile is judged by all of them together (tune_layer.c).
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
#include "src/kernel_case.h"
#include "src/progress.h"
#include "src/tune_internal.h"

enum { MOST_CHOICES = 2048 };
#define LEAST_SHARE 0.01  // of the time of all: below, a size keeps its default
#define CPU_FLOPS   1e8   // of one run: sizes are cut down to it
#define CARD_FLOPS  2e10
#define CPU_BYTES   3.2e7 // of one operand, likewise
#define CARD_BYTES  2.5e8

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
    const bool cpu = tuner_is_cpu(t);
    const double most = cpu ? CPU_FLOPS : CARD_FLOPS,
                 bytes = fmin(cpu ? CPU_BYTES : CARD_BYTES, (double)t->gpu->caps.max_range);
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
    struct tuner_item *item = &t->item[t->item_count];
    *item = (struct tuner_item){.use = *use, .size = cut_down(t, use->op, use->size), .repeats = 1};
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
    const uint32_t width = tuner_is_cpu(t) ? 512 : 2048, expert = tuner_is_cpu(t) ? 256 : 1024;
    uint32_t n = 0;
    for (size_t i = 0; i < COUNT_OF(dense); i++) {
        const uint32_t rows = dense[i] * (tuner_is_cpu(t) ? 1 : 4);
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
            use[n++] = (struct kernel_use){op, store, {64, 2, tuner_is_cpu(t) ? 256 : 1024}, 0};
    return n;
}

// ---- units

static bool same_layer(const struct tuner_item *a, const struct tuner_item *b)
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
                                  t->unit[u].count < TRIAL_MAX_PARTS))
        u++;
    if (u == t->unit_count) t->unit[t->unit_count++] = (struct tuner_unit){.weight = 0};
    t->unit[u].item[t->unit[u].count++] = index;
    t->unit[u].weight += t->item[index].weight;
}

static int by_weight(const void *a, const void *b)
{
    const struct tuner_unit *x = a, *y = b;
    return x->weight > y->weight ? -1 : x->weight < y->weight;
}

// ---- one item

struct ranked { struct kernel_shape shape; double ratio; };

static int by_ratio(const void *a, const void *b)
{
    const double x = ((const struct ranked *)a)->ratio, y = ((const struct ranked *)b)->ratio;
    return x < y ? -1 : x > y;
}

static bool take_if_confirmed(struct tuner *t, struct tuner_item *item,
                              const struct kernel_shape *shape, uint32_t parts)
{
    double ratio;
    struct trial *trial = tuner_trial(t, item, shape, parts);
    if (!trial) return false;
    tuner_get_ready(t, trial, item->repeats);
    const bool ok = tuner_confirm(item->trial, trial, &ratio) &&
                    kernels_right(t->kernels, item->use.op, item->use.store, shape);
    trial_destroy(&trial);
    if (!ok) return false;
    item->best = *shape;
    item->parts = parts;
    item->best_ms = item->base_ms * ratio;
    return true;
}

static void tune_shapes(struct tuner *t, struct tuner_item *item)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    struct ranked ranked[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, item->use.op, item->use.store,
                                             &item->use.size, list);
    uint32_t tried = 0;
    for (uint32_t i = 0; i < count; i++, t->done++) {
        if (!memcmp(&list[i], &item->base, sizeof *list) || tuner_is_hopeless(t, item, &list[i]))
            continue;
        ranked[tried++] = (struct ranked){list[i], tuner_screen(t, item, &list[i], 0)};
    }
    qsort(ranked, tried, sizeof *ranked, by_ratio);
    for (uint32_t i = 0; i < min_u32(tried, 2) && ranked[i].ratio < TUNE_WORTH; i++) {
        if (take_if_confirmed(t, item, &ranked[i].shape, 0)) return;
        tuner_drop(t, item->use.op, &ranked[i].shape, false, item->use.size.rows);
    }
}

// Thin products with long sums leave a device idle: then shares of the sum are added up behind.
static void tune_parts(struct tuner *t, struct tuner_item *item)
{
    enum { LEAST_SHARE_OF_SUM = 128, CPU_GROUPS = 4, CARD_GROUPS = 256 };
    const struct kernel_size *size = &item->use.size;
    const enum kernel_op op = item->use.op;
    const uint32_t fill = tuner_is_cpu(t) ? CPU_GROUPS : CARD_GROUPS;
    const uint64_t groups =
        (uint64_t)ceil_div(size->columns, kernel_group_columns(op, &item->best)) *
        ceil_div(size->rows, item->best.rows);
    if (!kernel_is_matmul(op) || kernel_is_grouped(op) || op == KERNEL_MOE_MATMUL_TN ||
        memcmp(size, &item->size, sizeof *size) != 0)
        return;
    struct ranked best = {item->best, TUNE_WORTH * item->best_ms / item->base_ms};
    uint32_t best_parts = 0;
    for (uint32_t parts = 2; groups * parts <= fill && size->inner >= LEAST_SHARE_OF_SUM * parts;
         parts *= 2) {
        const double ratio = tuner_screen(t, item, &best.shape, parts);
        if (ratio < best.ratio) best.ratio = ratio, best_parts = parts;
    }
    if (best_parts) take_if_confirmed(t, item, &best.shape, best_parts);
}

static void tune_item(struct tuner *t, struct tuner_item *item)
{
    if (!tuner_open_base(t, item)) return;
    tune_shapes(t, item);
    tune_parts(t, item);
    trial_destroy(&item->trial);
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
static void add_companion(struct tuner *t, const struct tuner_item *item, enum kernel_op op,
                          struct kernel_size size, const struct kernel_shape *shape)
{
    if (kernel_exists(op, item->use.store, shape->variant))
        add_choice(t, &(struct kernel_choice){op, item->use.store, size, *shape, 0, 0, 0});
}

// The tile table of a layer without gate follows moe_matmul_up all the same.
static void add_layer_rows(struct tuner *t, const struct tuner_item *item)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const struct kernel_size *s = &item->use.size;
    const uint32_t count = tuner_layer_rows(t, item, list);
    for (uint32_t i = 0; i < count; i++)
        if (list[i].rows == item->best.rows)
            add_companion(t, item, KERNEL_MOE_MATMUL_UP,
                          (struct kernel_size){s->rows, min_u32(s->columns, s->inner),
                                               max_u32(s->columns, s->inner)},
                          &list[i]);
}

static void choose(struct tuner *t, const struct tuner_item *item)
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

static void tune_unit(struct tuner *t, const struct tuner_unit *unit)
{
    struct tuner_item *first = &t->item[unit->item[0]];
    if (unit->weight < LEAST_SHARE * t->weight) return;
    for (uint32_t i = 0; i < unit->count; i++)
        if (t->item[unit->item[i]].base_ms <= 0) return; // out of time
    if (kernel_is_grouped(first->use.op)) tuner_layer(t, unit);
    else tune_item(t, first);
}

static void tune_all(struct tuner *t)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    for (uint32_t i = 0; i < t->item_count; i++) tuner_time_base(t, &t->item[i]);
    log_debug("tune: %u defaults timed in %.2f s", t->item_count, os_seconds() - t->began);
    for (uint32_t i = 0; i < t->item_count; i++) {
        const struct tuner_item *item = &t->item[i];
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

// With what is kept already taken.
static bool tune_rest(struct kernels *kernels, const struct tune_params *params,
                      struct tune_report *report)
{
    const struct gpu *gpu = kernels_gpu(kernels);
    *report = (struct tune_report){0};
    if (gpu_is_reference(gpu)) return true; // one way to compute each
    struct arena *arena = arena_create("tuner");
    const bool keep = tune_path(params, &gpu->caps, report->path, sizeof report->path);
    struct tuner *t = tuner_create(arena, kernels, params, report);
    tune_all(t);
    report->seconds = os_seconds() - t->began;
    const bool ok = !gpu_lost(gpu);
    kernels_choose(kernels, t->choice, t->choice_count);
    if (ok && keep && t->item_count) tune_write(kernels, report->path);
    arena_destroy(&arena);
    return ok;
}

bool tune(struct kernels *kernels, const struct tune_params *params, struct tune_report *report)
{
    tune_is_kept(kernels, params);
    return tune_rest(kernels, params, report);
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
    const bool ok = tune_rest(kernels, &params, &report);
    progress_destroy(&shown.progress);
    *changed = report.changed > 0;
    if (ok && report.sizes)
        log_info("tuned for this model: %u candidates of %u sizes measured in %.1f s, %u faster "
                 "than the default, %u left out of time%s%s",
                 report.measured, report.sizes, report.seconds, report.changed, report.late,
                 report.path[0] ? "; kept in " : "", report.path);
    return ok;
}
