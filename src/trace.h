// SPDX-License-Identifier: MIT
// routing.trace: which experts were taken, step by step; binary, append-only, readable while it
// grows. Little-endian. Written by `vkmoe train`, read by anything: a viewer, a cache simulator.
//
//   header   char magic[8] "vkmoetrc", u32 version (1), u32 header bytes, u32 experts, u32 MoE
//            layers, u32 tokens a step, u32 trace_tokens, u32 seq_len, u32 0, then for each MoE
//            layer u16 number in the model, u16 K (most picks a token)
//   records  u32 bytes of the payload, u32 check (FNV-1a 32 of the 8 bytes that follow and of the
//            payload), u32 step, u16 layer, u8 kind, u8 0, payload of LEB128 numbers:
//     1      picks of each expert in order; behind a 0 stands how many more zeros follow it
//     2      (layer 0xffff) the step's first trace_tokens token ids, inputs of its first sequences
//     3      their picks: [trace_tokens][K], expert + 1, 0 where a pick was not taken
//
// A record whose bytes are not all there, or whose check fails, ends the file. Steps grow; each
// traced step has its records side by side, written at once. Bounded: every n-th step is traced
// (and the first), n so that the whole run fits trace_mib at the most bytes a step can take; where
// a longer run does not fit after all, one line says so and the trace ends.
#pragma once

#include <stdio.h>

#include "base.h"
#include "config.h"

enum { TRACE_VERSION = 1, TRACE_NO_LAYER = 0xffff };
enum trace_kind { TRACE_COUNTS = 1, TRACE_IDS = 2, TRACE_PICKS = 3 };

struct trace_writer;
// Opens for appending; what belongs to steps after last_step, and a torn end, is dropped first
// (last_step 0: an empty trace). A trace of another shape is begun anew. NULL after one line.
struct trace_writer *trace_create(const char *path, const struct config *config,
                                  uint32_t last_step);
void trace_close(struct trace_writer **writer);
bool trace_wants(const struct trace_writer *writer, uint32_t step); // whether a step is traced
// Records of the step; MoE layers counted from 0; in the order of the kinds above.
void trace_counts(struct trace_writer *writer, uint32_t step, uint32_t index, const float *counts);
void trace_ids(struct trace_writer *writer, uint32_t step, const uint32_t *ids);
void trace_picks(struct trace_writer *writer, uint32_t step, uint32_t index,
                 const uint32_t *picks); // of trace_tokens tokens
// Writes the step's records, all at once. False once the file cannot be written (logged once).
bool trace_flush(struct trace_writer *writer);

struct trace_layer { uint16_t number, top_k; };
struct trace_shape {
    uint32_t            experts, layers, step_tokens, trace_tokens, seq_len;
    struct trace_layer *layer; // [layers]
};
struct trace_record {
    uint32_t        step;
    uint16_t        layer;     // number in the model
    enum trace_kind kind;
    uint32_t        count;     // values
    uint32_t       *value;     // [experts], [trace_tokens], [trace_tokens][K]; picks: an expert, or
                               // 0xffffffff
};
struct trace_reader;
struct trace_reader *trace_open(const char *path); // NULL after one line
const struct trace_shape *trace_shape(const struct trace_reader *reader);
// The next record; its values hold until the next call. False at the end of what is there: ask
// again later where the file still grows.
bool trace_next(struct trace_reader *reader, struct trace_record *out);
void trace_finish(struct trace_reader **reader);
