// SPDX-License-Identifier: MIT
// Check of moe_place: against its reference, and over all windows of slots together each row of
// each expert that has a slot exactly once, of those that have none never.
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

enum { WINDOWS = 3 };

struct placed {
    struct push_moe_place push;
    uint32_t             *ranges, *slots, *seen; // seen: how often each sorted row was placed
    uint32_t              used, rows;            // entries before the one that ends; sorted rows
};

// Rows of `used` experts, one behind the other; expert ids leave gaps.
static void make_ranges(struct check *t, struct placed *p, uint32_t most)
{
    p->ranges = malloc(4 * (p->push.ranges + 1) * sizeof *p->ranges);
    for (uint32_t i = 0; i < 4 * (p->push.ranges + 1); i++) // left over behind the one that ends
        p->ranges[i] = i / 4 == p->used ? 0 : 1 + i;
    for (uint32_t i = 0; i < p->used; i++) {
        uint32_t *range = p->ranges + 4 * i;
        range[0] = 3 * i + 1;
        range[1] = p->rows;
        range[2] = 1 + (uint32_t)check_random(t, most);
        p->rows += range[2];
    }
    p->push.max_tiles = p->rows / p->push.tile_rows + p->used;
}

// Each slot at most once, in no order; every `out`-th expert has none. Where own, experts' numbers.
static void make_slots(struct check *t, struct placed *p, uint32_t out)
{
    p->slots = calloc(p->push.ranges + 1, sizeof *p->slots);
    for (uint32_t i = 0; p->push.own && i < p->used; i++) p->slots[i] = p->ranges[4 * i];
    if (p->push.own) return;
    for (uint32_t i = 0; i < p->push.ranges; i++) p->slots[i] = i;
    for (uint32_t i = p->push.ranges; i-- > 1;) {
        const uint32_t j = (uint32_t)check_random(t, i + 1), slot = p->slots[i];
        p->slots[i] = p->slots[j];
        p->slots[j] = slot;
    }
    for (uint32_t i = 0; out && i < p->push.ranges; i += out) p->slots[i] = KERNEL_NONE_ID;
}

static const uint32_t *range_of_slot(const struct placed *p, uint32_t slot)
{
    for (uint32_t i = 0; i < p->used; i++)
        if (p->slots[i] == slot) return p->ranges + 4 * i;
    return NULL;
}

static uint32_t count_entries(struct check *t, const struct placed *p, const char *what,
                              const uint32_t *table, uint32_t *seen)
{
    uint32_t count = 0;
    for (const uint32_t *entry = table; entry[2] > 0; entry += 4, count++) {
        const uint32_t *range = range_of_slot(p, entry[0] + p->push.first);
        if (!range || entry[1] < range[1] || entry[1] + entry[2] > range[1] + range[2]) {
            check_fail(t, "%s %u: slot %u row %u rows %u", what, count, entry[0], entry[1],
                       entry[2]);
            return count;
        }
        for (uint32_t row = 0; seen && row < entry[2]; row++) seen[entry[1] + row]++;
    }
    return count;
}

static void window(struct check *t, struct placed *p, const char *label)
{
    check_begin(t, KERNEL_MOE_PLACE, 0, "%s slots from %u", label, p->push.first);
    check_words(t, 0, p->ranges, 4 * ((uint64_t)p->push.ranges + 1));
    uint32_t *none = calloc(p->push.ranges, sizeof *none);
    check_words(t, 1, p->push.own ? none : p->slots, p->push.ranges);
    free(none);
    check_output(t, 2, DTYPE_U32, 4 * ((uint64_t)p->push.max_tiles + 1));
    check_output(t, 3, DTYPE_U32, 4 * ((uint64_t)p->push.ranges + 1));
    check_output(t, 4, DTYPE_U32, 4 * MOE_GRIDS);
    if (!check_run(t, &p->push, 0)) return;
    const uint32_t tiles = count_entries(t, p, "tile", check_result(t, 2), p->seen);
    const uint32_t ranges = count_entries(t, p, "range", check_result(t, 3), NULL);
    const uint32_t *indirect = check_result(t, 4);
    if (indirect[1] != tiles || indirect[4 * MOE_GRID_DOWN_WEIGHT + 2] != ranges)
        check_fail(t, "grids of %u tiles and %u ranges, found %u and %u", indirect[1],
                   indirect[4 * MOE_GRID_DOWN_WEIGHT + 2], tiles, ranges);
}

static void place_case(struct check *t, uint32_t ranges, uint32_t used, uint32_t most,
                       uint32_t tile_rows, uint32_t out, bool own)
{
    struct placed p = {.push = {.ranges = ranges, .tile_rows = tile_rows,
                                .columns = {3, 5, 0, 70, 9, 1}, .rows = {7, 2}, .own = own},
                       .used = used};
    char label[120];
    snprintf(label, sizeof label, "R %u of %u, up to %u rows, tile %u, every %u out%s", used,
             ranges, most, tile_rows, out, own ? ", own numbers" : "");
    make_ranges(t, &p, most);
    make_slots(t, &p, out);
    p.seen = calloc(p.rows + 1, sizeof *p.seen);
    p.push.count = ceil_div(own ? 3 * ranges : ranges, WINDOWS);
    for (uint32_t w = 0; w < WINDOWS; w++, p.push.first += p.push.count) window(t, &p, label);
    for (uint32_t i = 0; i < used; i++)
        for (uint32_t row = 0; row < p.ranges[4 * i + 2]; row++)
            if (p.seen[p.ranges[4 * i + 1] + row] != (p.slots[i] != KERNEL_NONE_ID)) {
                check_fail(t, "expert %u, slot %u: row %u was placed %u times", p.ranges[4 * i],
                           p.slots[i], row, p.seen[p.ranges[4 * i + 1] + row]);
                break;
            }
    free(p.ranges), free(p.slots), free(p.seen);
}

void check_moe_place(struct check *t)
{
    static const struct { uint32_t ranges, used, most, tile_rows, out; } sizes[] = {
        {33, 31, 40, 16, 3}, {1, 1, 1, 1, 0},    {1, 0, 1, 16, 0},  {8, 8, 300, 16, 0},
        {64, 64, 9, 4, 2},   {64, 17, 90, 64, 0}, {1000, 999, 5, 8, 7}, {20480, 20480, 3, 1, 5},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int own = 0; own < 2; own++)
            place_case(t, sizes[i].ranges, sizes[i].used, sizes[i].most, sizes[i].tile_rows,
                       sizes[i].out, own);
}
