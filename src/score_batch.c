// SPDX-License-Identifier: MIT
// Requests as rows of batches. Rows are as long as the next power of two, so that few plans do for
// all, and a request always takes the same one, whatever stands beside it.
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/score_internal.h"

enum { LEAST = 32, BATCH_TOKENS = 1024, BUCKETS = 32 };

struct score_batches {
    struct vkmoe_model *model;
    uint32_t            context;
    struct evaluator   *evaluator[BUCKETS]; // by the logarithm of the row; the last: context
    uint32_t           *ids, *targets;
    float              *losses;
};

struct score_batches *score_batches_create(struct vkmoe_model *model, uint32_t context)
{
    struct score_batches *b = os_alloc(sizeof *b);
    const size_t most = max_u32(BATCH_TOKENS, context);
    *b = (struct score_batches){.model = model, .context = context,
                                .ids = os_alloc(most * sizeof(uint32_t)),
                                .targets = os_alloc(most * sizeof(uint32_t)),
                                .losses = os_alloc(most * sizeof(float))};
    return b;
}

void score_batches_drop(struct score_batches *b)
{
    for (int i = 0; i < BUCKETS; i++) evaluator_destroy(&b->evaluator[i]);
}

void score_batches_destroy(struct score_batches **batches)
{
    struct score_batches *b = *batches;
    if (!b) return;
    score_batches_drop(b);
    free(b->ids);
    free(b->targets);
    free(b->losses);
    free(b);
    *batches = NULL;
}

uint32_t score_bucket(uint32_t tokens, uint32_t context)
{
    uint32_t row = LEAST;
    while (row < tokens && row < context) row *= 2;
    return min_u32(row, context);
}

static uint32_t batch_rows(uint32_t seq) { return max_u32(BATCH_TOKENS / seq, 1); }

// Experts that come and go have slots that one plan at a time may bind.
static struct evaluator *evaluator_of(struct score_batches *b, uint32_t seq)
{
    const int bucket = seq == b->context ? BUCKETS - 1 : 31 - __builtin_clz(seq);
    const struct vkmoe_model *m = b->model;
    if (!b->evaluator[bucket]) {
        if (m->params->experts) score_batches_drop(b);
        b->evaluator[bucket] = evaluator_create_rows(m->device->gpu, m->device->kernels, m->params,
                                                     batch_rows(seq), seq);
    }
    return b->evaluator[bucket];
}

static void put_row(struct score_batches *b, const struct score_request *r, uint32_t row,
                    uint32_t seq)
{
    const uint32_t inputs = r ? r->count - 1 : 0, first = r ? inputs - r->scored : 0;
    uint32_t *ids = b->ids + (size_t)row * seq, *targets = b->targets + (size_t)row * seq;
    for (uint32_t i = 0; i < seq; i++) {
        ids[i] = i < inputs ? r->ids[i] : 0;
        targets[i] = i >= first && i < inputs ? r->ids[i + 1] : DATA_MASKED;
    }
}

static void take_row(const struct score_batches *b, struct score_request *r, uint32_t row,
                     uint32_t seq)
{
    const float *losses = b->losses + (size_t)row * seq;
    r->logp = 0;
    for (uint32_t i = r->count - 1 - r->scored; i < r->count - 1; i++)
        r->logp -= (double)losses[i];
}

static bool run_batch(struct score_batches *b, struct score_request *const *request,
                      uint32_t count, uint32_t seq)
{
    struct evaluator *e = evaluator_of(b, seq);
    const uint32_t rows = batch_rows(seq);
    double sum;
    uint64_t targets;
    for (uint32_t i = 0; i < rows; i++) put_row(b, i < count ? request[i] : NULL, i, seq);
    if (!e || !evaluator_batch(e, &(struct batch){.ids = b->ids, .targets = b->targets}, &sum,
                               &targets) || !evaluator_rows(e, b->losses))
        return false;
    for (uint32_t i = 0; i < count; i++) take_row(b, request[i], i, seq);
    return true;
}

bool score_batches_run(struct score_batches *b, struct score_request *const *request,
                       uint64_t count)
{
    struct score_request **own = os_alloc((count + 1) * sizeof *own);
    bool ok = true;
    for (uint32_t seq = score_bucket(1, b->context), last = 0; ok && seq != last;) {
        const uint32_t rows = batch_rows(seq);
        uint64_t here = 0;
        for (uint64_t i = 0; i < count; i++)
            if (score_bucket(request[i]->count - 1, b->context) == seq) own[here++] = request[i];
        for (uint64_t i = 0; ok && i < here; i += rows)
            ok = !os_interrupted() && run_batch(b, own + i, (uint32_t)min_u64(rows, here - i), seq);
        last = seq;
        seq = score_bucket(seq + 1, b->context);
    }
    free(own);
    return ok;
}
