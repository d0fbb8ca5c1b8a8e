// SPDX-License-Identifier: MIT
// One measurement of the tuner (tune_internal.h): what is tried at all, whether it writes what the
// default wrote, and how long it takes beside it.
#include "src/tune_internal.h"

#include <math.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum {
    SCREEN_RUNS = 3,
    PAIRS = 7,          // that confirm a winner, of which it must win
    PAIRS_WON = 6,
    MORE_PAIRS = 21,    // where that is not clear
    MORE_PAIRS_WON = 15,
};
#define BUDGET_SECONDS 15.0
#define RUN_MS         1.5  // a measurement takes about so long at least
#define SLOW           3.0  // so many times slower than the default: not tried for other sizes
#define LOST_NEAR      1.05 // a shape that loses so is not tried for sizes of about as many rows

static bool is_late(const struct tuner *t)
{
    const double seconds = t->params->seconds > 0 ? t->params->seconds : BUDGET_SECONDS;
    return os_seconds() - t->began > seconds;
}

struct trial *tuner_trial(struct tuner *t, const struct tuner_item *item,
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

void tuner_get_ready(struct tuner *t, struct trial *trial, uint32_t repeats)
{
    trial_repeat(trial, repeats);
    if (t->params->pretend) trial_set_pretend(trial, t->params->pretend, t->params->pretend_user);
}

bool tuner_open_base(struct tuner *t, struct tuner_item *item)
{
    item->trial = tuner_trial(t, item, &item->base, 0);
    if (item->trial) tuner_get_ready(t, item->trial, item->repeats);
    return item->trial != NULL;
}

void tuner_time_base(struct tuner *t, struct tuner_item *item)
{
    if (is_late(t)) t->report->late++;
    if (is_late(t) || !tuner_open_base(t, item)) return;
    double ms = trial_run(item->trial);
    item->repeats = (uint32_t)fmin(fmax(ceil(RUN_MS / fmax(ms, 1e-3)), 1), TUNE_MOST_REPEATS);
    tuner_get_ready(t, item->trial, item->repeats);
    for (int i = 0; i < SCREEN_RUNS; i++) ms = fmin(ms, trial_run(item->trial));
    item->base_ms = item->best_ms = ms;
    item->weight = item->use.count ? ms * item->use.flops / trial_flops(item->trial) : 1;
    t->weight += item->weight;
    trial_destroy(&item->trial);
}

void tuner_drop(struct tuner *t, enum kernel_op op, const struct kernel_shape *shape, bool variant,
                uint32_t rows)
{
    if (t->dropped_count < TUNE_MOST_DROPPED)
        t->dropped[t->dropped_count++] = (struct tuner_dropped){op, *shape, variant, rows};
}

static bool is_dropped(const struct tuner *t, enum kernel_op op, const struct kernel_shape *shape,
                       uint32_t rows)
{
    for (uint32_t i = 0; i < t->dropped_count; i++) {
        const struct tuner_dropped *d = &t->dropped[i];
        const bool here = !d->rows || (rows <= 2 * d->rows && d->rows <= 2 * rows);
        if (here && d->op == op &&
            (d->variant ? d->shape.variant == shape->variant
                        : memcmp(&d->shape, shape, sizeof *shape) == 0))
            return true;
    }
    return t->lost[shape->variant] >= 2 && !t->won[shape->variant];
}

bool tuner_is_hopeless(const struct tuner *t, const struct tuner_item *item,
                       const struct kernel_shape *shape)
{
    const uint32_t rows = item->use.size.rows, base_rows = item->base.rows;
    const bool flat = kernel_is_flat(shape);
    if (is_dropped(t, item->use.op, shape, rows)) return true;
    if (kernel_is_attention(item->use.op)) return tuner_is_cpu(t) && !flat;
    // shared memory and matrices are emulated there: 8 to 20 times slower, for the checks alone
    if (tuner_is_cpu(t) && !flat) return true;
    // mostly padding, or every value of b loaded again and again
    return shape->rows > 2 * rows ||
           (flat && shape->rows * 16 <= rows && shape->rows * 4 <= base_rows);
}

// A kernel that wrote something else: named by the self-test, or here where that is happy with it.
static void tell_wrong(struct tuner *t, const struct tuner_item *item,
                       const struct kernel_shape *shape, uint32_t parts)
{
    const enum kernel_op op = item->use.op;
    t->report->wrong++;
    if (!parts) tuner_drop(t, op, shape, false, 0);
    if (kernels_right(t->kernels, op, item->use.store, shape))
        log_warn("device %s computes %s (%s, %u rows a tile, %u parts) of %ux%ux%u unlike the "
                 "default: it is not used",
                 t->gpu->caps.name, kernel_info(op)->name, kernel_variant_name(shape->variant),
                 shape->rows, max_u32(parts, 1), item->size.rows, item->size.columns,
                 item->size.inner);
}

double tuner_screen(struct tuner *t, struct tuner_item *item, const struct kernel_shape *shape,
                    uint32_t parts)
{
    const struct tune_params *p = t->params;
    const enum kernel_variant variant = shape->variant;
    if (is_late(t)) return t->report->late++, INFINITY;
    if (p->progress) p->progress(p->user, kernel_info(item->use.op)->name, t->done, t->total);
    struct trial *trial = tuner_trial(t, item, shape, parts);
    if (!trial) return INFINITY;
    t->report->measured++;
    if (!trial_agree(item->trial, trial)) {
        tell_wrong(t, item, shape, parts);
        trial_destroy(&trial);
        return INFINITY;
    }
    tuner_get_ready(t, trial, item->repeats);
    double base = item->base_ms, least = INFINITY;
    for (int i = 0; i < SCREEN_RUNS; i++) {
        base = fmin(base, trial_run(item->trial));
        least = fmin(least, trial_run(trial));
    }
    trial_destroy(&trial);
    const double ratio = least / base;
    const bool other = variant != item->base.variant;
    if (other && !parts && ratio > TUNE_LOST) t->lost[variant]++;
    if (other && ratio < TUNE_WORTH) t->won[variant]++;
    if (ratio > SLOW && !parts)
        tuner_drop(t, item->use.op, shape, other && !kernel_is_flat(shape), 0);
    else if (ratio > LOST_NEAR && !parts)
        tuner_drop(t, item->use.op, shape, false, item->use.size.rows);
    log_debug("tune: %s %ux%ux%u %s %u rows, %u parts: %.3f of %.3f ms",
              kernel_info(item->use.op)->name, item->size.rows, item->size.columns,
              item->size.inner, kernel_variant_name(variant), shape->rows, max_u32(parts, 1), ratio,
              base);
    return ratio;
}

bool tuner_confirm(struct trial *base, struct trial *winner, double *ratio)
{
    uint32_t won;
    *ratio = trial_compare(base, winner, PAIRS, &won);
    log_debug("tune: in pairs %.3f of the default, %u of %d won", *ratio, won, PAIRS);
    if (*ratio >= TUNE_WORTH || 2 * won < PAIRS) return false;
    if (won >= PAIRS_WON) return true;
    *ratio = trial_compare(base, winner, MORE_PAIRS, &won);
    log_debug("tune: in more pairs %.3f of the default, %u of %d won", *ratio, won, MORE_PAIRS);
    return *ratio < TUNE_WORTH && won >= MORE_PAIRS_WON;
}
