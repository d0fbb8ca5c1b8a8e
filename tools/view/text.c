// SPDX-License-Identifier: MIT
// vkmoe-view DIR --text PATH: the model reads the text, window by window, and what its routers pick
// is written as a run's folder is, some windows a step, in a folder of its own that goes away with
// the viewer. So every panel shows it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/data.h"
#include "src/evaluator.h"
#include "src/vkmoe_internal.h"
#include "tools/view/main.h"

enum { MOST_WINDOWS = 1 << 16, STEP_TOKENS = 1024 };

struct reading {
    const struct view_options *options;
    const char          *folder; // that is written
    struct vkmoe_device *device;
    struct vkmoe_model  *model;
    struct config        config; // of the trace
    uint32_t             windows, seq;
    struct data         *data;
    struct evaluator    *evaluator;
    struct trace_writer *trace;
    FILE                *metrics;
    uint32_t            *ids, *targets, *domains, *documents, *begins, *picks;
    float               *gates, *counts;
};

static const char *path_in(const struct reading *r, char path[4200], const char *name)
{
    snprintf(path, 4200, "%.4100s/%s", r->folder, name);
    return path;
}

static bool open_model(struct reading *r)
{
    const struct view_options *o = r->options;
    r->device = vkmoe_device_open(&(struct vkmoe_device_params){.device = o->device});
    r->model = r->device ? vkmoe_model_open(r->device, o->folder) : NULL;
    if (!r->model) return false;
    r->config = r->model->model->config;
    if (config_moe_layers(&r->config)) return true;
    log_error("%s: a dense model (no MoE layer): there is no routing to see", o->folder);
    return false;
}

static bool open_text(struct reading *r)
{
    const struct config *c = &r->config;
    const uint32_t seq = min_u32(c->seq_len, c->max_position_embeddings);
    r->data = data_open(&(struct data_params){.path = r->options->text,
                                              .path_count = r->options->texts,
                                              .tokenizer = r->model->tokenizer,
                                              .vocab_size = c->vocab_size,
                                              .seq_len = seq,
                                              .packing = (enum data_packing)c->packing,
                                              .boundaries = c->document_boundaries,
                                              .held_out_fraction = 1});
    if (!r->data) return false;
    const uint64_t windows = data_windows(r->data, DATA_HELD_OUT);
    if (windows > MOST_WINDOWS)
        log_info("the first %u of %llu windows of %u tokens are read", MOST_WINDOWS,
                 (unsigned long long)windows, seq);
    r->windows = (uint32_t)min_u64(windows, MOST_WINDOWS), r->seq = seq;
    const uint32_t batch = min_u32(max_u32(STEP_TOKENS / seq, 1), r->windows);
    r->config.seq_len = seq, r->config.batch_size = batch, r->config.trace_tokens = batch * seq;
    r->config.gradient_accumulation_steps = 1;
    r->config.steps = ceil_div(r->windows, batch);
    r->config.trace_mib = 1 << 20;
    r->evaluator = evaluator_create_picks(r->device->gpu, r->device->kernels, r->model->params,
                                          batch, seq);
    return r->evaluator != NULL;
}

static bool open_files(struct reading *r)
{
    const char *domain[TRACE_DOMAINS_MOST];
    char path[4200];
    const uint32_t domains = min_u32(data_domain_count(r->data), COUNT_OF(domain));
    for (uint32_t d = 0; d < domains; d++) domain[d] = data_domain_name(r->data, d);
    if (!tokenizer_save(r->model->tokenizer, path_in(r, path, "tokenizer.json"))) return false;
    r->trace = trace_create(&(struct trace_params){.path = path_in(r, path, "routing.trace"),
                                                   .config = &r->config, .domain = domain,
                                                   .domains = domains});
    r->metrics = r->trace ? fopen(path_in(r, path, "metrics.jsonl"), "wb") : NULL;
    return r->metrics != NULL;
}

static void make_rooms(struct reading *r)
{
    const size_t tokens = r->config.trace_tokens;
    uint32_t most = 1;
    for (uint32_t i = 0; i < r->config.num_hidden_layers; i++)
        if (r->config.moe_layer[i]) most = max_u32(most, r->config.layer_router[i].top_k);
    r->ids = os_alloc(tokens * sizeof *r->ids);
    r->targets = os_alloc(tokens * sizeof *r->targets);
    r->domains = os_alloc(tokens * sizeof *r->domains);
    r->documents = os_alloc(tokens * sizeof *r->documents);
    r->begins = os_alloc(tokens * sizeof *r->begins);
    r->picks = os_alloc(tokens * most * sizeof *r->picks);
    r->gates = os_alloc(tokens * most * sizeof *r->gates);
    r->counts = os_alloc(r->config.num_experts * sizeof *r->counts);
}

// What the routers picked in the windows that were just read.
static bool put_step(struct reading *r, uint32_t step)
{
    const struct config *c = &r->config;
    trace_ids(r->trace, step, r->ids);
    trace_domains(r->trace, step, r->domains);
    for (uint32_t i = 0, index = 0; i < c->num_hidden_layers; i++) {
        if (!c->moe_layer[i]) continue;
        const size_t count = (size_t)c->trace_tokens * c->layer_router[i].top_k;
        if (!evaluator_picks(r->evaluator, index, r->picks, r->gates)) return false;
        memset(r->counts, 0, c->num_experts * sizeof *r->counts);
        for (size_t p = 0; p < count; p++)
            if (r->picks[p] < c->num_experts) r->counts[r->picks[p]]++;
        trace_counts(r->trace, step, index, r->counts);
        trace_picks(r->trace, step, index, r->picks);
        trace_gates(r->trace, step, index, r->gates);
        index++;
    }
    return trace_flush(r->trace);
}

// The last step has as many windows as the others: it begins a little earlier.
static bool read_step(struct reading *r, uint32_t step)
{
    const uint32_t count = r->config.batch_size;
    const uint32_t first = min_u32((step - 1) * count, r->windows - count);
    const struct batch batch = {r->ids, r->targets, r->begins};
    double sum;
    uint64_t targets;
    for (uint32_t w = 0; w < count; w++) {
        const size_t at = (size_t)w * r->seq;
        data_window_at(r->data, DATA_HELD_OUT, first + w, r->ids + at, r->targets + at, true);
        data_window_domains(r->data, DATA_HELD_OUT, first + w, r->domains + at,
                            r->documents + at);
        data_window_begins(r->data, DATA_HELD_OUT, first + w, 1, r->begins + at);
    }
    if (!evaluator_batch(r->evaluator, &batch, &sum, &targets)) return false;
    fprintf(r->metrics, "{\"step\": %u, \"loss\": %.9g}\n", step,
            sum / (double)max_u64(targets, 1));
    return put_step(r, step);
}

static bool read_all(struct reading *r)
{
    if (!open_model(r) || !open_text(r) || !open_files(r)) return false;
    make_rooms(r);
    for (uint32_t step = 1; step <= r->config.steps; step++)
        if (os_interrupted() || !read_step(r, step)) return false;
    return true;
}

bool view_read_text(const struct view_options *o, char *folder, size_t bytes)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, bytes, "%.3900s/vkmoe-view-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        log_error("%s: no folder can be made there for what the model picks", folder);
        return false;
    }
    struct reading r = {.options = o, .folder = folder};
    os_interrupt_catch();
    const bool ok = read_all(&r);
    trace_close(&r.trace);
    if (r.metrics) fclose(r.metrics);
    evaluator_destroy(&r.evaluator);
    data_close(&r.data);
    vkmoe_model_close(&r.model);
    vkmoe_device_close(&r.device);
    free(r.ids), free(r.targets), free(r.domains), free(r.documents), free(r.begins);
    free(r.picks), free(r.gates), free(r.counts);
    if (!ok) view_forget_text(folder);
    return ok;
}

void view_forget_text(const char *folder)
{
    static const char *const names[] = {"routing.trace", "metrics.jsonl", "tokenizer.json"};
    char path[4200];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%.4100s/%s", folder, names[i]);
        remove(path);
    }
    remove(folder);
}
