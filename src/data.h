// SPDX-License-Identifier: MIT
// Text and token shards -> documents -> two splits -> windows of token ids.
//
// A document is a text file, a line of a .jsonl, or the tokens up to an end-of-text in a .bin
// shard; an end-of-text token is appended to each. A split is its documents one after the other,
// with one end-of-text in front as the context of the first token, so that EVERY token of the
// split is a target exactly once an epoch. Window i has the targets [i*seq_len, (i+1)*seq_len);
// the last one is padded, its padding targets are DATA_MASKED. The order of windows in an epoch
// is a seeded bijection that is computed, not stored, so a place in the run is one integer and a
// resumed run goes on exactly.
//
// Some documents say which of their tokens are scored (chat: what the assistant says): the other
// targets are DATA_MASKED too. Such documents keep together (DATA_WHOLE): one that does not fit in
// what is left of a window begins the next one, and what is left is padding.
//
// Document boundaries: attention may be kept within a document (data_window_begins). An end-of-text
// as an input stands in front of the document that follows it, so each first token is predicted
// from it alone, and every token still is a target; where documents have no end (ids), the first
// token's context is another document and it is masked.
//
// Held-out text: whole documents, in the order of a seeded hash of their index, until the wanted
// share of the bytes is reached (one that would overshoot by more than a quarter of it is passed
// over; where none fits, the smallest goes). A single document is cut at (1 - fraction) of its
// bytes instead: the front is trained (without an end-of-text: the text does not end there), the
// tail is held out. Where sources have weights this is done source by source, and their windows
// are of one source each; what is held out is in it once, whatever the weight.
//
// In a folder these are passed over: hidden names, files that are not text, .jsonl whose first
// line has no "text", builds (meson-private) and runs (metrics.jsonl or model.safetensors) in
// folders below it. Order: by name, bytewise.
// Files up to 16 MiB are read at once, so that an edit during training changes nothing; larger
// ones are mapped. Reading is thread-safe once opened.
#pragma once

#include "base.h"
#include "tokenizer.h"

#define DATA_MASKED 0xffffffffu // KERNEL_NONE_ID: a target that is not scored

enum data_split { DATA_TRAIN, DATA_HELD_OUT, DATA_SPLIT_COUNT };

// How documents follow each other: back to back, or kept together; auto: whole where a document
// says which of its tokens are scored.
enum data_packing { DATA_PACKING_AUTO, DATA_STREAM, DATA_WHOLE };

struct config_corpus; // config.h

// What patterns that are held out (fct_source.h) have as payload: their own, or that of another
// one, of their domain or of all.
enum data_exchange { DATA_EXCHANGE_NONE, DATA_EXCHANGE_IN_DOMAIN, DATA_EXCHANGE_ALL };

struct data_params {
    // text files, folders, .jsonl with "text" or "messages", WikiText files, .bin shards, patterns
    // (fct_source.h), toy tasks and ids (data_toy.h); each with a weight in front of it or none:
    // "3*PATH" (corpus_mix.h)
    const char *const *path;
    int                path_count;
    // Kept by reference. NULL: shards only, cut at 50256 (16-bit ids) or 128000 (32-bit ids).
    const struct tokenizer *tokenizer;
    uint32_t vocab_size;        // every id is below it, or data_open says which is not and fails
    uint32_t seq_len;
    bool     text_only;         // no ids: a conversation is the texts of its messages
    bool     copy;              // targets are the inputs, place by place
    enum data_packing packing;
    bool     boundaries;        // a token whose only context is another document is no target
    uint32_t fct_control;       // enum config_fct_control, of patterns that are trained on
    enum data_exchange fct_exchange;
    double   held_out_fraction; // 0: all is trained on; 1: all is held out (eval); else both exist
    uint64_t seed;
    const struct config_corpus *corpus; // filters, duplicates, caching; NULL: none
};

// Whether a path is of ids and needs no tokenizer, by its name: .bin, ids:
bool data_without_text(const char *path);

struct data;
// NULL after one line that names the file (and line or position): missing, unreadable, empty, ...
struct data *data_open(const struct data_params *params);
void         data_close(struct data **data);
// The documents of one domain alone, in the same two splits; either may be empty. `data` must
// outlive it. To be closed like another. Numbers of domains are those of `data`.
struct data *data_of_domain(const struct data *data, uint32_t domain);

uint32_t data_seq_len(const struct data *data);
uint64_t data_documents(const struct data *data, enum data_split split);
uint64_t data_windows(const struct data *data, enum data_split split); // 0: empty split
// How many windows an epoch shows: all, once; where sources have weights, as often as these say.
uint64_t data_epoch(const struct data *data, enum data_split split);
uint64_t data_tokens(const struct data *data, enum data_split split); // of one epoch, no padding
uint64_t data_scored(const struct data *data, enum data_split split); // of these; never 0 of some
// Bytes of text that the scored ones stand for (end-of-text counts 0): bits per byte =
// sum of losses / ln 2 / bytes. 0 where unknown (shards without a tokenizer).
uint64_t data_bytes(const struct data *data, enum data_split split);
// Changes when documents, split, window length or seed do: a resumed run compares it.
uint64_t data_fingerprint(const struct data *data);
// "37 documents (c 20, markdown 17): 612345 tokens to train on, 68123 held out"
uint64_t data_mapped_bytes(const struct data *data); // of files, at most in memory
const char *data_summary(const struct data *data);

// inputs and targets are u32[seq_len]. `position` counts windows since the run began, from 0:
// epoch = position / data_epoch.
void data_window(const struct data *data, enum data_split split, uint64_t position,
                 uint32_t *inputs, uint32_t *targets);
// Window `index` (< data_windows) in natural order. Without first_token_too the first token of
// the split, which has no real context, is masked.
void data_window_at(const struct data *data, enum data_split split, uint64_t index,
                    uint32_t *inputs, uint32_t *targets, bool first_token_too);
// The index that data_window shows at `position`.
uint64_t data_window_index(const struct data *data, enum data_split split, uint64_t position);
// Bytes of text that the scored targets of one window stand for, 0 where unknown.
uint64_t data_window_bytes(const struct data *data, enum data_split split, uint64_t index);

// For each input of `windows` windows in a row the place among them where its document begins: the
// first input that it may see. Of what continues from before them: 0. Padding sees itself alone.
// begins: u32[windows * seq_len].
void data_window_begins(const struct data *data, enum data_split split, uint64_t index,
                        uint32_t windows, uint32_t *begins);

// The kinds of text that are there (by file extension: "c", "glsl", "markdown", ...; or as their
// source names them), from 0.
uint32_t    data_domain_count(const struct data *data);
const char *data_domain_name(const struct data *data, uint32_t domain);
// The kind that most targets of window `index` belong to.
uint32_t    data_window_domain(const struct data *data, enum data_split split, uint64_t index);

// The kind that each INPUT of window `index` belongs to: [seq_len]; an end-of-text is its
// document's; DATA_MASKED is what has none: the context of the split's first token, and padding.
// documents: the same for the number of the document in the split; NULL: not wanted.
void data_window_domains(const struct data *data, enum data_split split, uint64_t index,
                         uint32_t *domains, uint32_t *documents);

// Segments for KERNEL_EMBED_BACK: a stable sort of positions 0..count-1 by id: order[count],
// segment_begin[count + 1], segment_id[count]. Returns the number of segments. Allocates nothing
// (segment_begin is its scratch). Positions whose id is DATA_MASKED are left out.
uint32_t data_segments(const uint32_t *ids, uint32_t count, uint32_t *order,
                       uint32_t *segment_begin, uint32_t *segment_id);
