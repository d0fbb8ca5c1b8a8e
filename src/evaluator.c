// SPDX-License-Identifier: MIT
// Held-out loss: see evaluator.h.
#include "src/evaluator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts.h"
#include "src/rope.h"

struct evaluator {
    struct gpu         *gpu;
    struct batch_layout layout;
    struct gpu_buffer *input, *result,
        *rope; // the host writes the inputs where the device reads them
    struct plan        *plan;
    struct run         *run;
    uint32_t            batch, seq;
    uint32_t           *ids, *targets, *begins; // NULL: documents are not kept apart
};

enum wanted { LOSS, PICKS, ROWS }; // of a batch

static bool make_plan(struct evaluator *e, struct kernels *kernels, struct params *params)
{
    e->plan = plan_create(e->gpu, kernels, "eval", params->store);
    const struct network_io io = batch_io(&e->layout, e->plan, e->input, e->result, e->rope);
    struct network network = network_begin(e->plan, params, NETWORK_EVAL, e->batch, e->seq, 0, &io);
    network_forward(&network);
    if (!plan_finish(e->plan)) return false;
    e->run = run_create(e->plan);
    return e->run != NULL;
}

static struct evaluator *create_once(struct gpu *gpu, struct kernels *kernels,
                                     struct params *params, uint32_t batch, uint32_t seq,
                                     enum wanted wanted)
{
    const struct config *config = &params->model->config;
    struct evaluator *e = calloc(1, sizeof *e);
    if (config_leaks(config))
        log_warn("router_type expert_choice: what a token gets depends on the tokens behind it, so "
                 "losses are too good; an ablation");
    *e = (struct evaluator){.gpu = gpu,
                            .layout = batch_layout(config, batch * seq, seq),
                            .batch = batch,
                            .seq = seq};
    if (wanted == PICKS) batch_layout_picks(&e->layout, config, batch * seq, true);
    if (wanted == ROWS) batch_layout_rows(&e->layout);
    e->ids = calloc(e->layout.tokens, sizeof *e->ids);
    e->targets = calloc(e->layout.tokens, sizeof *e->targets);
    if (config->document_boundaries) e->begins = calloc(e->layout.tokens, sizeof *e->begins);
    const struct gpu_buffer_params in = {.name = "inputs of eval", .bytes = e->layout.input_bytes,
                                         .memory = GPU_MEMORY_UPLOAD};
    const struct gpu_buffer_params out = {.name = "results of eval",
                                          .bytes = e->layout.result_bytes};
    if (!(e->input = gpu_buffer_create(gpu, &in)) || !(e->result = gpu_buffer_create(gpu, &out)) ||
        !(e->rope = rope_table(gpu, config, seq)) || !make_plan(e, kernels, params))
        evaluator_destroy(&e);
    return e;
}

static struct evaluator *create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                                uint32_t batch, uint32_t seq, enum wanted wanted)
{
    struct evaluator *e = create_once(gpu, kernels, params, batch, seq, wanted);
    uint32_t slots;
    // in training other plans bind the slots too: who made them all looks after the budget
    if (!e || params->training || experts_fit(params->experts, &slots)) return e;
    evaluator_destroy(&e);
    if (!experts_resize(params->experts, slots)) return NULL;
    return create_once(gpu, kernels, params, batch, seq, wanted);
}

struct evaluator *evaluator_create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                                   uint32_t batch, uint32_t seq)
{
    return create(gpu, kernels, params, batch, seq, LOSS);
}

struct evaluator *evaluator_create_picks(struct gpu *gpu, struct kernels *kernels,
                                         struct params *params, uint32_t batch, uint32_t seq)
{
    return create(gpu, kernels, params, batch, seq, PICKS);
}

struct evaluator *evaluator_create_rows(struct gpu *gpu, struct kernels *kernels,
                                        struct params *params, uint32_t batch, uint32_t seq)
{
    return create(gpu, kernels, params, batch, seq, ROWS);
}

void evaluator_destroy(struct evaluator **evaluator)
{
    struct evaluator *e = *evaluator;
    if (!e) return;
    run_destroy(&e->run);
    plan_destroy(&e->plan);
    gpu_buffer_destroy(e->gpu, &e->input);
    gpu_buffer_destroy(e->gpu, &e->result);
    gpu_buffer_destroy(e->gpu, &e->rope);
    free(e->ids);
    free(e->targets);
    free(e->begins);
    free(e);
    *evaluator = NULL;
}

struct plan *evaluator_plan(struct evaluator *e) { return e->plan; }

bool evaluator_batch(struct evaluator *e, const struct batch *batch, double *loss_sum,
                     uint64_t *targets)
{
    *targets = batch_scored(&e->layout, batch);
    batch_fill(&e->layout, e->input->data, batch,
               (struct step_words){.step = 1, .length = e->layout.tokens});
    float loss = 0;
    if (!gpu_buffer_write(e->gpu, e->result, e->layout.loss, &loss, sizeof loss)) return false;
    const uint64_t ticket = run_submit(e->run);
    if (!ticket || !gpu_wait(e->gpu, ticket) || !run_settle(e->run)) return false;
    if (!gpu_buffer_read(e->gpu, e->result, e->layout.loss, &loss, sizeof loss)) return false;
    *loss_sum = loss;
    return true;
}

bool evaluator_picks(struct evaluator *e, uint32_t index, uint32_t *ids, float *gates)
{
    const struct batch_layout *l = &e->layout;
    const uint64_t own = batch_picks_bytes(l, index);
    return gpu_buffer_read(e->gpu, e->result, batch_picks(l, index, false), ids, own) &&
           gpu_buffer_read(e->gpu, e->result, batch_picks(l, index, true), gates, own);
}

bool evaluator_rows(struct evaluator *e, float *losses)
{
    return gpu_buffer_read(e->gpu, e->result, e->layout.rows, losses, 4ull * e->layout.tokens);
}

// How often a window of seq tokens begins, one of the data's windows after the other, until the end
// of the text is reached.
static uint64_t count_rows(const struct evaluator *e, const struct data *data,
                           enum data_split split)
{
    const uint64_t windows = data_windows(data, split), group = e->seq / data_seq_len(data);
    return windows > group ? windows - group + 1 : min_u64(windows, 1);
}

// Where the documents of row `b` begin, whose windows are those from `first` on; what is behind the
// last of them begins by itself.
static void load_begins(struct evaluator *e, const struct data *data, enum data_split split,
                        uint32_t b, uint64_t first)
{
    const uint64_t windows = data_windows(data, split), group = e->seq / data_seq_len(data);
    uint32_t *begins = e->begins + (size_t)b * e->seq;
    for (uint32_t i = 0; i < e->seq; i++) begins[i] = i;
    if (first < windows)
        data_window_begins(data, split, first, (uint32_t)min_u64(group, windows - first), begins);
}

// Row `b` of the batch: as many windows as fit, from window `first` on. The first row scores all of
// its windows, any other the last alone, behind the others as its context: every token once. Rows
// beyond the end are masked. Returns the bytes of text that are scored.
static uint64_t load_row(struct evaluator *e, const struct data *data, enum data_split split,
                         uint32_t b, uint64_t first)
{
    const uint32_t stride = data_seq_len(data), group = e->seq / stride;
    const uint64_t windows = data_windows(data, split);
    uint32_t *ids = e->ids + (size_t)b * e->seq, *targets = e->targets + (size_t)b * e->seq;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < group; i++, ids += stride, targets += stride) {
        const bool there = first < count_rows(e, data, split) && first + i < windows;
        if (there) data_window_at(data, split, first + i, ids, targets, true);
        else memset(ids, 0, stride * sizeof *ids);
        if (there && (first == 0 || i + 1 == group))
            bytes += data_window_bytes(data, split, first + i);
        else
            for (uint32_t j = 0; j < stride; j++) targets[j] = KERNEL_NONE_ID;
    }
    return bytes;
}

static void tell_passed(const struct evaluation *e)
{
    if (e->tokens == 0) log_warn("no target of this text is scored: there is nothing to measure");
    else if (e->passed)
        log_info("%llu batches without a scored target were passed over",
                 (unsigned long long)e->passed);
}

bool evaluator_run(struct evaluator *e, const struct data *data, enum data_split split,
                   uint32_t max_batches, struct evaluation *out)
{
    *out = (struct evaluation){0};
    uint64_t end = count_rows(e, data, split);
    if (max_batches) end = min_u64(end, (uint64_t)max_batches * e->batch);
    for (uint64_t first = 0; first < end; first += e->batch) {
        if (os_interrupted()) return false;
        const struct batch batch = {e->ids, e->targets, e->begins};
        double loss_sum;
        uint64_t targets;
        for (uint32_t b = 0; b < e->batch; b++) {
            out->bytes += load_row(e, data, split, b, first + b);
            if (e->begins) load_begins(e, data, split, b, first + b);
        }
        if (batch_scored(&e->layout, &batch) == 0) {
            out->passed++;
            continue;
        }
        if (!evaluator_batch(e, &batch, &loss_sum, &targets)) return false;
        out->loss_sum += loss_sum;
        out->tokens += targets;
    }
    tell_passed(out);
    out->loss = out->tokens ? out->loss_sum / (double)out->tokens : NAN;
    out->perplexity = exp(out->loss);
    out->bits_per_byte = out->bytes ? out->loss_sum / log(2.0) / (double)out->bytes : NAN;
    return true;
}
