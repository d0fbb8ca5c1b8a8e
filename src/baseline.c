// SPDX-License-Identifier: MIT
// Order-0 and bigram statistics of the training split, measured on the held-out split. Both read
// the same windows as the model, so that the three numbers score the very same targets.
#include "src/baseline.h"

#include <math.h>
#include <string.h>

#include "runtime/log.h"

// Goes through the pairs (context, scored target) of a split in natural order.
struct reader {
    const struct data *data;
    enum data_split    split;
    uint64_t           window, limit; // next window to read; pairs still to give
    uint32_t           at, seq_len;   // next pair of the window that was read
    uint32_t          *inputs, *targets;
};

static struct reader reader_create(const struct data *data, enum data_split split, uint64_t limit,
                                   struct arena *arena)
{
    const uint32_t seq_len = data_seq_len(data);
    return (struct reader){
        .data = data, .split = split, .limit = min_u64(limit, data_scored(data, split)),
        .at = seq_len, .seq_len = seq_len,
        .inputs = arena_array(arena, seq_len, sizeof(uint32_t)),
        .targets = arena_array(arena, seq_len, sizeof(uint32_t)),
    };
}

static bool reader_next(struct reader *r, uint32_t *context, uint32_t *target)
{
    if (r->limit == 0) return false;
    while (r->at == r->seq_len || r->targets[r->at] == DATA_MASKED) {
        if (r->at < r->seq_len) {
            r->at++;
            continue;
        }
        data_window_at(r->data, r->split, r->window++, r->inputs, r->targets, true);
        r->at = 0;
    }
    *context = r->inputs[r->at];
    *target = r->targets[r->at++];
    r->limit--;
    return true;
}

struct counts {
    uint32_t  vocab;       // one more than the largest id
    uint64_t  total;       // targets
    uint32_t  kinds;       // distinct targets
    uint64_t *unigram;     // [vocab]
    uint64_t *context;     // [vocab] targets after this id
    uint32_t *successors;  // [vocab] distinct targets after this id
    uint32_t *pair;        // [vocab][vocab], NULL where only order 0 is wanted
};

static struct counts counts_create(uint32_t vocab, bool pairs, struct arena *arena)
{
    return (struct counts){
        .vocab = vocab,
        .unigram = arena_array(arena, vocab, sizeof(uint64_t)),
        .context = arena_array(arena, vocab, sizeof(uint64_t)),
        .successors = arena_array(arena, vocab, sizeof(uint32_t)),
        .pair = pairs ? arena_array(arena, (size_t)vocab * vocab, sizeof(uint32_t)) : NULL,
    };
}

static void counts_add(struct counts *counts, uint32_t context, uint32_t target)
{
    counts->total++;
    counts->kinds += counts->unigram[target]++ == 0;
    if (!counts->pair) return;
    counts->context[context]++;
    counts->successors[context] +=
        counts->pair[(size_t)context * counts->vocab + target]++ == 0;
}

static double probability0(const struct counts *c, uint32_t target)
{
    const double seen = (double)c->unigram[target];
    return (seen + (double)c->kinds / c->vocab) / (double)(c->total + c->kinds);
}

static double probability(const struct counts *c, uint32_t context, uint32_t target)
{
    const double back = probability0(c, target);
    if (c->context[context] == 0) return back;
    const double seen = c->pair[(size_t)context * c->vocab + target];
    const double kinds = c->successors[context];
    return (seen + kinds * back) / ((double)c->context[context] + kinds);
}

// Bits of coding every counted target with the counts' own shares.
static double entropy_bits(const struct counts *c)
{
    double bits = 0;
    for (uint32_t id = 0; id < c->vocab; id++) {
        const double n = (double)c->unigram[id];
        if (n > 0) bits -= n * log2(n / (double)c->total);
    }
    return bits;
}

static uint32_t largest_id(struct reader reader)
{
    uint32_t context, target, largest = 0;
    while (reader_next(&reader, &context, &target))
        largest = max_u32(largest, max_u32(context, target));
    return largest;
}

static void measure(const struct data *data, uint32_t vocab, struct baseline *out,
                    struct arena *arena)
{
    struct counts train = counts_create(vocab, true, arena);
    struct counts held_out = counts_create(vocab, false, arena);
    uint32_t context, target;
    struct reader reader = reader_create(data, DATA_TRAIN, BASELINE_MAX_TOKENS, arena);
    while (reader_next(&reader, &context, &target)) counts_add(&train, context, target);

    double bits0 = 0, bits1 = 0;
    reader = reader_create(data, DATA_HELD_OUT, UINT64_MAX, arena);
    while (reader_next(&reader, &context, &target)) {
        counts_add(&held_out, context, target);
        bits0 -= log2(probability0(&train, target));
        bits1 -= log2(probability(&train, context, target));
    }
    const double bytes = (double)data_bytes(data, DATA_HELD_OUT);
    *out = (struct baseline){
        .entropy = entropy_bits(&held_out) / bytes,
        .order0 = bits0 / bytes,
        .bigram = bits1 / bytes,
        .train_tokens = train.total,
        .tokens = held_out.total,
        .bytes = data_bytes(data, DATA_HELD_OUT),
    };
}

bool baseline_measure(const struct data *data, struct baseline *out)
{
    *out = (struct baseline){0};
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++) {
        if (data_tokens(data, split) > 0 && data_bytes(data, DATA_HELD_OUT) > 0) continue;
        log_error("baseline: wants text to train on and held-out text whose bytes are known; "
                  "has %s", data_summary(data));
        return false;
    }
    struct arena *arena = arena_create("baseline");
    const uint32_t largest =
        max_u32(largest_id(reader_create(data, DATA_TRAIN, BASELINE_MAX_TOKENS, arena)),
                largest_id(reader_create(data, DATA_HELD_OUT, UINT64_MAX, arena)));
    const bool fits = largest < BASELINE_MAX_VOCAB;
    if (fits)
        measure(data, largest + 1, out, arena);
    else
        log_info("no baseline: token id %u, a table of pairs is made for ids under %d", largest,
                 BASELINE_MAX_VOCAB);
    arena_destroy(&arena);
    return fits;
}
