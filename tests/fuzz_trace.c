// SPDX-License-Identifier: MIT
// The reader of routing.trace against damaged files. A case is a file. The checks of most records
// are put right again, else nothing behind them would be tried. What must hold for any input: no
// access outside, one log line if the file is refused and none else; a record has as many values as
// the shape says, and each names something that is there; the index is in order, inside the file,
// and finds what reading in order finds.
#define FUZZ_NAME "fuzz_trace"
#define FUZZ_WORDS "vkmoetrc", "\377\377", "\200\200\200\200\200\200", "\1", "\2"
#include "tests/fuzz.h"

#include <math.h>

#include "src/trace_format.h"
#include "tests/fuzz_trace.h"

static uint32_t top_k_of(const struct trace_shape *s, uint16_t layer)
{
    for (uint32_t i = 0; i < s->layers; i++)
        if (s->layer[i].number == layer) return s->layer[i].top_k;
    require(false, "a record of a layer that is not there");
    return 0;
}

static void check_values(const struct trace_shape *s, const struct trace_record *r)
{
    uint32_t count = s->trace_tokens, below = UINT32_MAX, none = 0;
    switch (r->kind) {
    case TRACE_COUNTS: count = s->experts; break;
    case TRACE_IDS: break;
    case TRACE_DOMAINS: below = s->domains, none = TRACE_NO_DOMAIN; break;
    case TRACE_PICKS:
        count *= top_k_of(s, r->layer), below = s->experts, none = TRACE_NO_PICK;
        break;
    case TRACE_GATES: count *= top_k_of(s, r->layer); break;
    case TRACE_RESIDENCY: count = s->experts, below = TRACE_PLACES; break;
    case TRACE_STREAM: count = 1; break;
    }
    require(r->count == count && count > 0, "not as many values as the shape says");
    for (uint32_t i = 0; i < count && r->kind != TRACE_STREAM; i++)
        if (r->kind == TRACE_GATES)
            require(isfinite(r->gate[i]) && r->gate[i] >= 0, "a gate that is none");
        else
            require(r->value[i] < below || below == UINT32_MAX || (none && r->value[i] == none),
                    "a value that names nothing");
}

// What reading in order found, against the index; `sum` of the first value of each record.
static void check_index(struct trace_reader *r, size_t size, uint64_t records)
{
    const struct trace_step *steps;
    struct trace_record record;
    const uint32_t count = trace_index(r, &steps);
    uint64_t end = 0, found = 0;
    for (uint32_t i = 0; i < count; i++) {
        require(steps[i].at >= end && steps[i].bytes >= TRACE_RECORD, "steps overlap");
        require(i == 0 || steps[i].step > steps[i - 1].step, "steps are not in order");
        end = steps[i].at + steps[i].bytes;
        for (uint32_t l = 0; l <= trace_shape(r)->layers; l++)
            for (uint32_t kind = TRACE_COUNTS; kind <= TRACE_STREAM; kind++) {
                const uint16_t layer = l < trace_shape(r)->layers
                                           ? trace_shape(r)->layer[l].number : TRACE_NO_LAYER;
                if (!trace_find(r, i, layer, (enum trace_kind)kind, &record)) continue;
                check_values(trace_shape(r), &record);
                require(record.step == steps[i].step, "a record of another step");
                found++;
            }
    }
    require(end <= size, "the index is longer than the file");
    require(records == 0 || found > 0, "the index finds nothing");
    if (count) trace_seek(r, count - 1);
    if (count && trace_next(r, &record))
        require(record.step >= steps[count - 1].step, "sought one step and got another");
}

// Returns 1 where it was taken and held a record (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    char path[40];
    const int file = fuzz_file(data, size, path);
    lines = 0;
    struct trace_reader *r = trace_open(path);
    require(lines == !r, "not exactly one line for a refused trace, none for a good one");
    struct trace_record record;
    uint64_t records = 0;
    for (; r && trace_next(r, &record); records++) {
        require(records < size / TRACE_RECORD, "more records than there is room for");
        check_values(trace_shape(r), &record);
    }
    if (r) check_index(r, size, records);
    require(lines <= 1, "reading says something");
    trace_finish(&r);
    close(file);
    return records > 0;
}

#ifndef VKMOE_LIBFUZZER

static void put_step(struct trace_writer *w, uint32_t step, bool residency)
{
    const uint32_t ids[] = {1, 300, 70000}, domains[] = {0, 1, 9}, picks[] = {0, 4, 1, 2, 9, 3};
    const float counts[] = {2, 0, 0, 200, 4}, gates[] = {0.5f, 0.5f, 1, 0, 0.25f, 0.75f};
    const uint8_t place[] = {3, 3, 0, 1, 5};
    trace_ids(w, step, ids);
    trace_domains(w, step, domains);
    for (uint32_t i = 0; i < 2 && residency; i++) trace_residency(w, step, i, place);
    for (uint32_t i = 0; i < 2 && !residency; i++) {
        trace_counts(w, step, i, counts);
        trace_picks(w, step, i, picks);
        trace_gates(w, step, i, gates);
    }
    if (residency) trace_stream(w, step, &(struct trace_stream){1, 2, 3, 1ull << 40, 5, 6, 7});
    require(trace_flush(w), "cannot write");
}

static size_t make_seed(uint8_t *out, uint64_t which)
{
    struct config c = {.num_experts = 5, .num_hidden_layers = 3, .batch_size = 1, .seq_len = 8,
                       .gradient_accumulation_steps = 1, .steps = 9, .trace_mib = 1,
                       .trace_tokens = which == 2 ? 0 : 3};
    static const char *const names[] = {"c", "markdown"};
    char path[] = "/tmp/fuzz_trace_XXXXXX";
    const int file = mkstemp(path);
    require(file >= 0, "no temporary file");
    for (uint32_t i = 1; i < 3; i++) c.moe_layer[i] = true, c.layer_router[i].top_k = 2;
    struct trace_writer *w = trace_create(&(struct trace_params){
        .path = path, .config = &c, .domain = names, .domains = 2, .residency = which == 1});
    require(w != NULL, "cannot begin");
    for (uint32_t step = 1; step <= 3; step++) put_step(w, step, which == 1);
    trace_close(&w);
    FILE *in = fopen(path, "rb");
    require(in != NULL, "cannot read");
    const size_t size = fread(out, 1, MOST_BYTES, in);
    require(size > TRACE_HEADER && size < MOST_BYTES, "a strange corpus");
    fclose(in), close(file), unlink(path);
    return size;
}

static int attempt(struct mutator *m, uint8_t *data, size_t size, uint64_t which, size_t whole)
{
    (void)which, (void)whole;
    if (m && pick(m, 4) > 0) fuzz_trace_checks(data, size);
    return try_one(data, size);
}

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"traces", "with records", 3, 4, 1, make_seed, attempt};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
