// SPDX-License-Identifier: MIT
// The tuner on the grouped matmuls of a layer, which share a tile table: for each number of rows
// that it may have the best shapes, and the best of these ways is held against the defaults as a
// whole.
#include "src/tune_internal.h"

#include <math.h>
#include <string.h>

struct layer_way { struct kernel_shape shape[TRIAL_MAX_PARTS]; double ms; };

// The best of an item's shapes with so many rows; false where there is none.
static bool best_with_rows(struct tuner *t, struct tuner_item *item, uint32_t rows,
                           struct kernel_shape *shape, double *ratio)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, item->use.op, item->use.store,
                                             &item->use.size, list);
    *ratio = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        const bool base = !memcmp(&list[i], &item->base, sizeof *list);
        if (list[i].rows != rows || (!base && tuner_is_hopeless(t, item, &list[i]))) continue;
        const double own = base ? 1 : tuner_screen(t, item, &list[i], 0);
        t->done++;
        if (own >= *ratio * (base || *ratio == INFINITY ? 1 : TUNE_WORTH)) continue;
        *ratio = own;
        *shape = list[i];
    }
    return isfinite(*ratio);
}

static struct layer_way best_way(struct tuner *t, const struct tuner_unit *unit, uint32_t rows)
{
    struct layer_way way = {.ms = 0};
    for (uint32_t i = 0; i < unit->count; i++) {
        struct tuner_item *item = &t->item[unit->item[i]];
        double ratio;
        if (!best_with_rows(t, item, rows, &way.shape[i], &ratio) || ratio > TUNE_LOST) {
            way.ms = INFINITY;
            return way;
        }
        way.ms += ratio * item->base_ms;
    }
    return way;
}

static struct trial *layer_trial(struct tuner *t, const struct tuner_unit *unit,
                                 const struct layer_way *way)
{
    struct trial_part part[TRIAL_MAX_PARTS];
    for (uint32_t i = 0; i < unit->count; i++) {
        const struct tuner_item *item = &t->item[unit->item[i]];
        const struct kernel_shape *shape = way ? &way->shape[i] : &item->base;
        const struct kernel *kernel =
            kernels_make(t->kernels, item->use.op, item->use.store, shape);
        part[i] = (struct trial_part){.kernel = kernel, .size = item->size};
        if (!kernel) return NULL;
    }
    return trial_create(t->gpu, part, unit->count);
}

static bool way_is_right(struct tuner *t, const struct tuner_unit *unit,
                         const struct layer_way *way)
{
    bool right = true;
    for (uint32_t i = 0; right && i < unit->count; i++) {
        const struct tuner_item *item = &t->item[unit->item[i]];
        right = kernels_right(t->kernels, item->use.op, item->use.store, &way->shape[i]);
    }
    return right;
}

static void take_way_if_confirmed(struct tuner *t, const struct tuner_unit *unit,
                                  const struct layer_way *way)
{
    uint32_t repeats = TUNE_MOST_REPEATS;
    double ratio = 1;
    for (uint32_t i = 0; i < unit->count; i++)
        repeats = min_u32(repeats, t->item[unit->item[i]].repeats);
    struct trial *base = layer_trial(t, unit, NULL), *other = layer_trial(t, unit, way);
    if (base) tuner_get_ready(t, base, repeats);
    if (other) tuner_get_ready(t, other, repeats);
    const bool ok = base && other && tuner_confirm(base, other, &ratio) &&
                    way_is_right(t, unit, way);
    trial_destroy(&base);
    trial_destroy(&other);
    for (uint32_t i = 0; ok && i < unit->count; i++) {
        struct tuner_item *item = &t->item[unit->item[i]];
        item->best = way->shape[i];
        item->best_ms = item->base_ms * ratio;
    }
}

uint32_t tuner_layer_rows(const struct tuner *t, const struct tuner_item *item,
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

void tuner_layer(struct tuner *t, const struct tuner_unit *unit)
{
    struct kernel_shape rows[KERNEL_MAX_CANDIDATES];
    struct layer_way best = {.ms = INFINITY};
    double base_ms = 0;
    bool open = true;
    for (uint32_t i = 0; i < unit->count; i++) {
        struct tuner_item *item = &t->item[unit->item[i]];
        base_ms += item->base_ms;
        open = open && tuner_open_base(t, item);
    }
    const uint32_t count = tuner_layer_rows(t, &t->item[unit->item[0]], rows);
    for (uint32_t i = 0; open && i < count; i++) {
        const struct layer_way way = best_way(t, unit, rows[i].rows);
        if (way.ms < best.ms) best = way;
    }
    for (uint32_t i = 0; i < unit->count; i++) trial_destroy(&t->item[unit->item[i]].trial);
    if (best.ms < TUNE_WORTH * base_ms) take_way_if_confirmed(t, unit, &best);
}
