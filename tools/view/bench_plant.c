// SPDX-License-Identifier: MIT
// Run folders for --bench: long, wide, large; planted through the writers that training uses.
#include <stdio.h>
#include <stdlib.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/trace.h"
#include "tools/view/bench.h"

static uint32_t next(uint64_t *state) // xorshift64*: fast, and good enough to look like loads
{
    *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
    return (uint32_t)(*state * 0x2545f4914f6cdd1dull >> 32);
}

static struct config config_of(const struct planted *p)
{
    struct config c = {.num_experts = p->experts, .num_hidden_layers = p->layers, .batch_size = 8,
                       .seq_len = 1024, .gradient_accumulation_steps = 1, .steps = p->steps,
                       .trace_mib = 1 << 20, .trace_tokens = p->tokens};
    for (uint32_t i = 0; i < p->layers; i++) {
        c.moe_layer[i] = true;
        c.layer_router[i].top_k = p->top_k;
    }
    return c;
}

struct writer {
    const struct planted *p;
    struct trace_writer  *trace, *residency;
    float                *counts, *gates;
    uint32_t             *ids, *domains, *picks;
    uint8_t              *place;
    uint64_t              random;
};

// Loads about even that drift, an expert in 64 dead; of very many experts most have none.
static void make_counts(struct writer *w, uint32_t step, uint32_t layer)
{
    const struct planted *p = w->p;
    const uint32_t fair = 8192 * p->top_k / p->experts;
    for (uint32_t e = 0; e < p->experts; e++) {
        const uint32_t drift = (e * 37 + layer * 11 + step / 64) % 64;
        const uint32_t noise = next(&w->random);
        w->counts[e] = fair ? (float)(drift == 0 ? 0 : fair * drift / 32 + noise % (fair / 4 + 1))
                            : (float)(noise % 8 == 0 ? 1 + noise % 5 : 0);
    }
}

static void make_tokens(struct writer *w)
{
    const struct planted *p = w->p;
    for (uint32_t t = 0; t < p->tokens; t++) {
        w->ids[t] = 32 + next(&w->random) % 90;
        w->domains[t] = t * 4 / p->tokens;
        for (uint32_t i = 0; i < p->top_k; i++) {
            w->picks[t * p->top_k + i] = (next(&w->random) + w->domains[t]) % p->experts;
            w->gates[t * p->top_k + i] = 1.0f / (float)(i + 2);
        }
    }
}

static bool put_step(struct writer *w, uint32_t step)
{
    const struct planted *p = w->p;
    if (p->tokens) {
        make_tokens(w);
        trace_ids(w->trace, step, w->ids);
        trace_domains(w->trace, step, w->domains);
    }
    for (uint32_t l = 0; l < p->layers; l++) {
        make_counts(w, step, l);
        trace_counts(w->trace, step, l, w->counts);
        if (!p->tokens) continue;
        trace_picks(w->trace, step, l, w->picks);
        trace_gates(w->trace, step, l, w->gates);
    }
    if (!trace_flush(w->trace) || !w->residency) return !w->residency;
    const struct trace_stream s = {.hits = 900 + next(&w->random) % 100, .misses = 40,
                                   .bytes = 40ull << 20, .wait_us = next(&w->random) % 4000};
    trace_stream(w->residency, step, &s);
    for (uint32_t l = 0; l < p->layers; l++) {
        for (uint32_t e = 0; e < p->experts; e++)
            w->place[e] = (uint8_t)((e + step) / 7 % 11 % TRACE_PLACES);
        trace_residency(w->residency, step, l, w->place);
    }
    return trace_flush(w->residency);
}

// The lines that training writes, with their lists of loads.
static bool put_metrics(const struct planted *p, const char *path)
{
    struct bytes loads = {0};
    struct file_writer *out = file_writer_open(path);
    struct bytes line = {0};
    uint64_t random = 7;
    const uint32_t listed = p->experts > 256 ? 0 : p->experts;
    for (uint32_t e = 0; e < listed; e++) bytes_printf(&loads, "%s1.0%02u", e ? ", " : "", e);
    for (uint32_t step = 1; out && step <= p->steps; step++) {
        line.count = 0;
        bytes_printf(&line, "{\"step\": %u, \"loss\": %.6f, \"lr\": %.3e, \"grad_norm\": %.4f, "
                            "\"tokens_per_s\": %u, \"device_bytes\": 41597440, \"host_bytes\": "
                            "227958784, \"layers\": [", step,
                     2 + 3.0 / (1 + step * 1e-3) + next(&random) * 1e-10, 1e-3 / (1 + step * 1e-4),
                     1 + next(&random) * 1e-9, 1500 + next(&random) % 400);
        for (uint32_t l = 0; l < p->layers; l++) {
            bytes_printf(&line, "%s{\"layer\": %u, \"load\": [", l ? ", " : "", l);
            bytes_append(&line, loads.data, loads.count);
            bytes_printf(&line, "], \"entropy\": 0.95%u, \"max_share\": 0.2%u, \"dead\": 1, "
                                "\"token_entropy\": 0.82%u}", step % 10, step % 7, step % 9);
        }
        bytes_printf(&line, "]}\n");
        if (!file_writer_write(out, line.data, line.count)) file_writer_abort(&out);
    }
    bytes_free(&loads), bytes_free(&line);
    return out && file_writer_commit(&out);
}

static void make_rooms(struct writer *w)
{
    const struct planted *p = w->p;
    const size_t tokens = p->tokens + 1, picks = tokens * p->top_k;
    w->counts = os_alloc(p->experts * sizeof *w->counts);
    w->place = os_alloc(p->experts);
    w->ids = os_alloc(tokens * sizeof *w->ids);
    w->domains = os_alloc(tokens * sizeof *w->domains);
    w->picks = os_alloc(picks * sizeof *w->picks);
    w->gates = os_alloc(picks * sizeof *w->gates);
}

bool bench_plant(const struct planted *p, const char *folder)
{
    static const char *const domains[] = {"c", "glsl", "json", "markdown"};
    const struct config config = config_of(p);
    char path[4200];
    struct writer w = {.p = p, .random = 42};
    snprintf(path, sizeof path, "%.4000s/routing.trace", folder);
    struct trace_params params = {.path = path, .config = &config, .domain = domains,
                                  .domains = COUNT_OF(domains)};
    if (!file_make_folders(folder) || !(w.trace = trace_create(&params))) return false;
    snprintf(path, sizeof path, "%.4000s/residency.trace", folder);
    params.residency = true;
    if (p->residency) w.residency = trace_create(&params);
    make_rooms(&w);
    bool ok = !p->residency || w.residency;
    for (uint32_t step = 1; step <= p->steps && ok; step++) ok = put_step(&w, step);
    trace_close(&w.trace);
    trace_close(&w.residency);
    free(w.counts), free(w.place), free(w.ids), free(w.domains), free(w.picks), free(w.gates);
    snprintf(path, sizeof path, "%.4000s/metrics.jsonl", folder);
    return ok && put_metrics(p, path);
}
