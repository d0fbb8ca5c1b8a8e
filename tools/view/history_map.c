// SPDX-License-Identifier: MIT
// Load over steps as a picture wants it: sums of columns x rows, filled a little in each frame, the
// middle step of every column first, so that there is something to see at once.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/history.h"

struct history_map {
    struct history     *history;
    struct history_view view;
    uint64_t            trace;     // steps of the trace when it began
    uint32_t            low, high; // traced steps [low, high) of the view
    uint32_t            column, next; // what is read next; column == columns: the rest, in order
    uint32_t           *seen;      // [columns] steps
    uint32_t           *from;      // [columns] the column that is shown here; HISTORY_NONE
    float              *load, *idle; // [columns][rows] sums over steps of means over experts
    uint32_t           *picks;     // [experts]
};

uint32_t history_map_first(const struct history_view *view, uint32_t experts, uint32_t row)
{
    return (uint32_t)((uint64_t)row * experts / view->rows);
}

struct history_map *history_map_create(struct history *history)
{
    struct history_map *map = os_alloc(sizeof *map);
    map->history = history;
    return map;
}

static void free_rooms(struct history_map *map)
{
    free(map->seen), free(map->from), free(map->load), free(map->idle), free(map->picks);
}

void history_map_destroy(struct history_map **map)
{
    if (!*map) return;
    free_rooms(*map);
    free(*map);
    *map = NULL;
}

static void make_rooms(struct history_map *map)
{
    const size_t cells = (size_t)map->view.columns * map->view.rows + 1;
    free_rooms(map);
    map->seen = os_alloc((map->view.columns + 1) * sizeof *map->seen);
    map->from = os_alloc((map->view.columns + 1) * sizeof *map->from);
    map->load = os_alloc(cells * sizeof *map->load);
    map->idle = os_alloc(cells * sizeof *map->idle);
    map->picks = os_alloc((map->history->experts + 1ull) * sizeof *map->picks);
    memset(map->from, 0xff, map->view.columns * sizeof *map->from);
}

bool history_map_show(struct history_map *map, const struct history_view *view)
{
    struct history *h = map->history;
    struct history_view v = *view;
    v.rows = min_u32(v.rows, h->experts);
    if (v.last < v.first || v.layer >= h->layers || !h->steps) v.columns = v.rows = 0;
    else v.columns = min_u32(v.columns, v.last - v.first + 1);
    if (memcmp(&v, &map->view, sizeof v) == 0 && map->trace == h->steps && map->seen) return false;
    map->view = v;
    map->trace = h->steps;
    map->low = v.first ? history_traced(h, v.first - 1) + 1 : 0; // NONE + 1 is 0
    map->high = history_traced(h, v.last) + 1;
    map->column = 0, map->next = map->low;
    make_rooms(map);
    return true;
}

bool history_map_done(const struct history_map *map)
{
    return !map->view.columns || (map->column >= map->view.columns && map->next >= map->high);
}

// ---- reading

static uint32_t column_of(const struct history_view *v, uint32_t step)
{
    return (uint32_t)((uint64_t)(step - v->first) * v->columns / (v->last - v->first + 1ull));
}

// Of a column the traced step in its middle; HISTORY_NONE where it has none.
static uint32_t middle_of(const struct history_map *map, uint32_t column)
{
    const struct history_view *v = &map->view;
    const uint64_t span = v->last - v->first + 1ull;
    // the first and the last step whose column this is
    const uint32_t first = v->first + (uint32_t)((column * span + v->columns - 1) / v->columns);
    const uint32_t last =
        v->first + (uint32_t)(((column + 1) * span + v->columns - 1) / v->columns) - 1;
    const uint32_t at = history_traced(map->history, first + (last - first) / 2);
    if (at != HISTORY_NONE && map->history->step[at] >= first) return at;
    const uint32_t end = history_traced(map->history, last);
    return end != HISTORY_NONE && map->history->step[end] >= first ? end : HISTORY_NONE;
}

static void add_step(struct history_map *map, uint32_t at)
{
    const struct history_view *v = &map->view;
    const uint32_t column = column_of(v, map->history->step[at]), experts = map->history->experts;
    float *load = map->load + (size_t)column * v->rows;
    float *idle = map->idle + (size_t)column * v->rows;
    uint64_t total = 0;
    if (!history_counts(map->history, at, v->layer, map->picks)) return;
    for (uint32_t e = 0; e < experts; e++) total += map->picks[e];
    const float scale = total ? (float)experts / (float)total : 0;
    for (uint32_t row = 0, e = 0; row < v->rows; row++) {
        const uint32_t end = history_map_first(v, experts, row + 1), count = end - e;
        uint64_t sum = 0, none = 0;
        for (; e < end; e++) sum += map->picks[e], none += !map->picks[e];
        load[row] += (float)sum * scale / (float)count;
        idle[row] += (float)none / (float)count;
    }
    map->seen[column]++;
}

// Columns without a step of their own show the one before.
static void hold(struct history_map *map)
{
    for (uint32_t c = 0, last = HISTORY_NONE; c < map->view.columns; c++) {
        if (map->seen[c]) last = c;
        map->from[c] = last;
    }
}

bool history_map_work(struct history_map *map, double ms)
{
    const double deadline = os_seconds() + ms / 1000;
    const uint32_t columns = map->view.columns;
    bool more = !history_map_done(map);
    if (!more) return false;
    while (more && (ms <= 0 || os_seconds() < deadline)) {
        if (map->column < columns) {
            const uint32_t at = middle_of(map, map->column++);
            if (at != HISTORY_NONE) add_step(map, at);
        } else {
            const uint32_t at = map->next++;
            if (at != middle_of(map, column_of(&map->view, map->history->step[at])))
                add_step(map, at);
        }
        more = !history_map_done(map);
    }
    hold(map);
    return true;
}

// ---- asking

static float value(const struct history_map *map, const float *sums, uint32_t column, uint32_t row)
{
    if (column >= map->view.columns || row >= map->view.rows) return NAN;
    const uint32_t from = map->from[column];
    if (from == HISTORY_NONE) return NAN;
    return sums[(size_t)from * map->view.rows + row] / (float)map->seen[from];
}

float history_map_load(const struct history_map *map, uint32_t column, uint32_t row)
{
    return value(map, map->load, column, row);
}

void history_map_column(const struct history_map *map, uint32_t column, float *load)
{
    const uint32_t rows = map->view.rows;
    const uint32_t from = column < map->view.columns ? map->from[column] : HISTORY_NONE;
    const float *sums = from == HISTORY_NONE ? NULL : map->load + (size_t)from * rows;
    const float scale = sums ? 1 / (float)map->seen[from] : 0;
    for (uint32_t row = 0; row < rows; row++) load[row] = sums ? sums[row] * scale : NAN;
}

float history_map_idle(const struct history_map *map, uint32_t column, uint32_t row)
{
    return value(map, map->idle, column, row);
}
