// SPDX-License-Identifier: MIT
// routing.trace: which experts were taken, step by step; residency.trace: where they were, of runs
// whose experts come and go. Both binary, append-only, readable while they grow, little-endian,
// written by `vkmoe train`, read by anything: a viewer, a cache simulator. The first holds the same
// bytes on every run of the same step; the second tells of one run on one machine.
//
//   header   char magic[8] "vkmoetrc", u32 version (2), u32 header bytes, u32 experts, u32 MoE
//            layers, u32 tokens a step, u32 trace_tokens, u32 seq_len, u32 domains, then for each
//            MoE layer u16 number in the model, u16 K (most picks a token), then for each domain
//            (kind of text) u8 bytes of its name and the name
//   records  u32 bytes of the payload, u32 check (FNV-1a 32 of the 8 bytes that follow and of the
//            payload), u32 step, u16 layer, u8 kind, u8 0, payload of LEB128 numbers:
//     1      picks of each expert in order; behind a 0 stands how many more zeros follow it
//     2      (layer 0xffff) the step's first trace_tokens token ids, inputs of its first sequences
//     3      their picks: [trace_tokens][K], expert + 1, 0 where a pick was not taken
//     4      (layer 0xffff) their domains, a byte each, 0xff: none
//     5      the gates of their picks: f32 g, then a byte each: b stands for b / 255 * g
//     6      where the layer's experts are, in runs: 6 * (experts - 1) + enum trace_place
//     7      (layer 0xffff) counts since the record 7 before it: struct trace_stream in order
//
// Version 1 has no domains, and of the kinds only 1 to 3. A record whose bytes are not all there,
// or whose check fails, ends the file. Steps grow; each traced step has its records side by side,
// written at once. Bounded: every n-th step is traced (and the first), what is told of single
// tokens every m-th of these, so that the whole run fits trace_mib at the most bytes a step can
// take, tokens at most half of it; where a longer run does not fit after all, one line says so and
// the trace ends.
#pragma once

#include <stdio.h>

#include "base.h"
#include "config.h"

enum {
    TRACE_VERSION = 2,
    TRACE_NO_LAYER = 0xffff,
    TRACE_DOMAINS_MOST = 255, // and what is told of those that are more is TRACE_NO_DOMAIN
    TRACE_NO_DOMAIN = 0xff,
};
#define TRACE_NO_PICK 0xffffffffu

enum trace_kind {
    TRACE_COUNTS = 1, TRACE_IDS, TRACE_PICKS, TRACE_DOMAINS, TRACE_GATES, TRACE_RESIDENCY,
    TRACE_STREAM,
};
enum trace_place {
    TRACE_NEVER,   // nothing has ever asked for it: it is what the seed makes of it
    TRACE_DISK, TRACE_HOST,
    TRACE_DEVICE,
    TRACE_DIRTY,   // on the device, and not as it is on the disk
    TRACE_LOADING,
    TRACE_PLACES,
};
struct trace_stream {
    uint64_t hits, misses, prefetched; // experts that had rows: resident, loaded; loaded early
    uint64_t bytes, written;           // read, written back
    uint64_t load_us, wait_us;         // of loading; of these the device did not hide
};

// ---- writing

struct trace_params {
    const char          *path;
    const struct config *config;
    const char *const   *domain;  // names, of which 255 bytes are kept
    uint32_t             domains;
    // What belongs to later steps, and a torn end, is dropped first; 0: an empty trace. A trace of
    // another shape or version is begun anew.
    uint32_t             last_step;
    bool                 residency; // kinds 6 and 7, else 1 to 5
};
struct trace_writer;
struct trace_writer *trace_create(const struct trace_params *params); // NULL after one line
void trace_close(struct trace_writer **writer);
bool trace_wants(const struct trace_writer *writer, uint32_t step); // whether a step is traced
// Whether single tokens of it are: kinds 2 to 5.
bool trace_wants_tokens(const struct trace_writer *writer, uint32_t step);
uint32_t trace_tokens(const struct trace_writer *writer); // how many
// Records of the step; MoE layers counted from 0. Token records say nothing where the step's
// tokens are not wanted; `tokens` is trace_tokens.
void trace_counts(struct trace_writer *writer, uint32_t step, uint32_t index, const float *counts);
void trace_ids(struct trace_writer *writer, uint32_t step, const uint32_t *ids);
void trace_domains(struct trace_writer *writer, uint32_t step,
                   const uint32_t *domains); // one that has no name: none
void trace_picks(struct trace_writer *writer, uint32_t step, uint32_t index,
                 const uint32_t *picks); // [tokens][K]
void trace_gates(struct trace_writer *writer, uint32_t step, uint32_t index, const float *gates);
void trace_residency(struct trace_writer *writer, uint32_t step, uint32_t index,
                     const uint8_t *place); // enum trace_place [experts]
void trace_stream(struct trace_writer *writer, uint32_t step, const struct trace_stream *stream);
// Writes the step's records, all at once. False once the file cannot be written (logged once).
bool trace_flush(struct trace_writer *writer);

// ---- reading: trace_reader.c

struct trace_layer { uint16_t number, top_k; };
struct trace_shape {
    uint32_t            version;
    uint32_t            experts, layers, step_tokens, trace_tokens, seq_len, domains;
    struct trace_layer *layer;  // [layers]
    char              **domain; // [domains]
};
struct trace_record {
    uint32_t        step;
    uint16_t        layer;     // number in the model
    enum trace_kind kind;
    uint32_t        count;     // values
    uint32_t       *value;     // [experts], [trace_tokens], [trace_tokens][K]; TRACE_NO_PICK,
                               // TRACE_NO_DOMAIN; residency: enum trace_place [experts]. Picks are
                               // below experts, domains below domains
    const float    *gate;      // of kind 5, in place of value
    struct trace_stream stream; // of kind 7
};
struct trace_reader;
struct trace_reader *trace_open(const char *path); // NULL after one line
void trace_finish(struct trace_reader **reader);
const struct trace_shape *trace_shape(const struct trace_reader *reader);
// The next record; its values hold until the next call of any of these. False at the end of what is
// there: ask again later where the file still grows. Records of kinds that are not known are passed
// over.
bool trace_next(struct trace_reader *reader, struct trace_record *out);

// The index: one entry for each traced step, found by walking over the heads of records; 16 bytes
// of memory each. Looks for what has been appended since, and returns how many there are. The last
// one's bytes may grow later.
struct trace_step { uint64_t at; uint32_t bytes, step; };
uint32_t trace_index(struct trace_reader *reader, const struct trace_step **steps);
void trace_seek(struct trace_reader *reader, uint32_t index); // trace_next goes on from there
// The record of that kind and layer (TRACE_NO_LAYER: of the whole step) in one step. False: none,
// or it is damaged.
bool trace_find(struct trace_reader *reader, uint32_t index, uint16_t layer, enum trace_kind kind,
                struct trace_record *out);
// Whether the path is another file by now (a run that was resumed or begun anew): open it again.
bool trace_replaced(const struct trace_reader *reader);
