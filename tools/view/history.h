// SPDX-License-Identifier: MIT
// A run folder as the viewers see it: the one reader of metrics.jsonl and routing.trace behind the
// window, the terminal view and the pictures. It opens a finished run, a run that is being trained
// (what has grown is read by history_poll) and one that is copied here bit by bit: a torn end is
// waited for, a line or record that makes no sense ends what is believed. Not thread-safe.
//
// Numbers of the run lie as columns over the lines' steps; picks stay in the file and are read when
// asked for. A history_map is load over steps as a picture wants it, in the time that a frame has.
#pragma once

#include "src/base.h"
#include "src/trace.h"

#define HISTORY_NONE 0xffffffffu // no such expert, domain, step

// number: in the model; groups: of equally many experts, domains of a hierarchical router, else 1
struct history_layer { uint32_t number, top_k, groups; };
struct history_alarm { uint32_t step, layer, expert; }; // layer: its number in the model

// A key of metrics.jsonl; of an object in it "object.key" (such as "losses.balance"). And from
// residency.trace, of the stream since it was told of before: "stream.hit_rate" (0..1),
// "stream.wait_ms" (that compute did not hide), "stream.load_ms", "stream.bytes", "stream.written".
struct history_series {
    char  *name;
    int    layer; // its number in the model; -1: of the run
    float *value; // [rows], NAN where that line has no such number
};

// To be read by all, written by history_* only. Pointers hold until the next history_poll.
struct history {
    const char *folder;
    // metrics.jsonl; an evaluation has no row of its own but stands in its step's
    uint32_t               rows;
    uint32_t              *row_step;     // [rows], ascending
    uint32_t               series_count;
    struct history_series *series;
    uint32_t               alarms;
    struct history_alarm  *alarm;
    // routing.trace; all zero as long as there is none
    uint32_t               experts, layers; // layers: with experts
    uint32_t               step_tokens, trace_tokens, seq_len;
    struct history_layer  *layer;        // [layers]
    uint32_t               steps;        // that were traced
    uint32_t              *step;         // [steps], ascending
    uint32_t               domains;      // kinds of text the tokens are of; 0: not told
    const char           **domain_name;  // [domains]
    // residency.trace, of runs whose experts come and go
    uint32_t               places;       // steps of which it tells
    uint32_t              *place_step;   // [places], ascending
    struct trace_stream   *stream;       // [places] what the stream did since the one before
    // all of them
    uint32_t               first_step, last_step; // 0: none yet
    uint64_t               version;      // grows with every change of the above
    struct history_own    *own;
};

// NULL after one line: no folder, no run in it, a trace of another version or another config.
// Nothing is read yet but the trace's header.
struct history *history_open(const char *folder);
void            history_close(struct history **history);
// Reads what is there and was not read, for about `ms` milliseconds (0: to the end). True where
// something came. A file that was replaced or cut (a resumed run) is read again from its start.
bool history_poll(struct history *history, double ms);
bool history_complete(const struct history *history); // the last poll saw the end of both files

// The series of a name, NULL where there is none (yet).
const struct history_series *history_find(const struct history *history, const char *name,
                                          int layer);
// The last row at or before a step; HISTORY_NONE: none.
uint32_t history_row(const struct history *history, uint32_t step);
// The last traced step at or before a step, as an index into history.step; HISTORY_NONE: none.
uint32_t history_traced(const struct history *history, uint32_t step);

// Picks of each expert of a layer (counted from 0) in the traced step `at`: [experts]. False where
// the record is not there or damaged (then all are 0).
bool history_counts(struct history *history, uint32_t at, uint32_t layer, uint32_t *picks);

// The step's traced tokens. Arrays hold until the next call.
struct history_tokens {
    uint32_t         count;  // 0: no tokens were traced
    const uint32_t  *id;     // [count]
    const uint32_t **pick;   // [layers] -> [count][top_k], HISTORY_NONE: not taken; NULL: no record
    const float    **gate;   // [layers] -> [count][top_k]; NULL: not told
    const uint32_t  *domain; // [count], HISTORY_NONE: none; NULL: not told
};
bool history_tokens(struct history *history, uint32_t at, struct history_tokens *out);
// The last traced step at or before `at` whose tokens were traced (not every traced step's are);
// HISTORY_NONE: none.
uint32_t history_tokens_at(struct history *history, uint32_t at);

// Where a layer's experts were: enum trace_place [experts], of place_step[at]. False: not told.
bool history_places(struct history *history, uint32_t at, uint32_t layer, uint8_t *place);

// The text of a token id as one printable line: "\n" as a sign, a special token as its number.
// Bytes that are no UTF-8 alone come as \xNN. Returns its length.
size_t history_text(const struct history *history, uint32_t id, char *out, size_t bytes);
// The bytes of a token id as they are, at most `bytes` of them; 0 where they are not known.
size_t history_bytes(const struct history *history, uint32_t id, char *out, size_t bytes);

// ---- load over steps

// What a map shows: a layer's experts as `rows`, steps first..last as `columns`. Of more experts
// than rows (or steps than columns) the mean is shown.
struct history_view { uint32_t layer, first, last, columns, rows; };
struct history_map;

struct history_map *history_map_create(struct history *history);
void                history_map_destroy(struct history_map **map);
// Begins anew where the view is another; true then.
bool history_map_show(struct history_map *map, const struct history_view *view);
// Reads for about `ms` milliseconds (0: to the end): first one step of each column, then all.
// True where something changed.
bool history_map_work(struct history_map *map, double ms);
bool history_map_done(const struct history_map *map);
// Mean picks over the ideal share: 1 is fair. A column in which no step was traced shows the one
// before; NAN where none is.
float history_map_load(const struct history_map *map, uint32_t column, uint32_t row);
// The loads of a whole column: [rows].
void history_map_column(const struct history_map *map, uint32_t column, float *load);
// Share of its experts and steps that had no pick: 1 is dead. NAN as above.
float history_map_idle(const struct history_map *map, uint32_t column, uint32_t row);
// The experts of a row: first, and how many.
uint32_t history_map_first(const struct history_view *view, uint32_t experts, uint32_t row);
