// SPDX-License-Identifier: MIT
// Run folders whose loads are known: what the tests of the viewer open.
#pragma once

#include "src/trace.h"
#include "tests/unit.h"

// The shape of the traces below: every layer is MoE.
UNIT_HELPER struct config planted_config(uint32_t layers, uint32_t experts, uint32_t top_k,
                                         uint32_t tokens)
{
    struct config c = {.num_experts = experts, .num_hidden_layers = layers, .batch_size = 2,
                       .seq_len = max_u32(tokens, 16), .gradient_accumulation_steps = 1,
                       .steps = 100, .trace_mib = 64, .trace_tokens = tokens};
    for (uint32_t i = 0; i < layers; i++) {
        c.moe_layer[i] = true;
        c.layer_router[i].top_k = top_k;
    }
    return c;
}

// An empty trace in the test's folder, of tokens of two domains.
UNIT_HELPER struct trace_writer *planted_trace(const struct config *c)
{
    static const char *const domains[] = {"prose", "code"};
    struct trace_writer *w =
        trace_create(&(struct trace_params){.path = unit_path("routing.trace"), .config = c,
                                            .domain = domains, .domains = COUNT_OF(domains)});
    assert_non_null(w);
    return w;
}

// A step's picks in every layer; ids are 'a', 'b' ..., token t takes experts t, t + 1 ...
UNIT_HELPER void planted_step(struct trace_writer *w, const struct config *c, uint32_t step,
                              const float *counts)
{
    const uint32_t k = c->layer_router[0].top_k;
    uint32_t *ids = calloc(c->trace_tokens + 1, sizeof *ids);
    uint32_t *domains = calloc(c->trace_tokens + 1, sizeof *domains);
    uint32_t *picks = calloc(c->trace_tokens * k + 1, sizeof *picks);
    float *gates = calloc(c->trace_tokens * k + 1, sizeof *gates);
    for (uint32_t t = 0; t < c->trace_tokens; t++) {
        ids[t] = 'a' + t % 26;
        domains[t] = t % 3 % 2;
        for (uint32_t i = 0; i < k; i++) picks[t * k + i] = (t + i) % c->num_experts;
        for (uint32_t i = 0; i < k; i++) gates[t * k + i] = 1 / (float)(i + 2);
    }
    trace_ids(w, step, ids);
    trace_domains(w, step, domains);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        trace_counts(w, step, i, counts);
        trace_picks(w, step, i, picks);
        trace_gates(w, step, i, gates);
    }
    assert_true(trace_flush(w));
    free(ids), free(domains), free(picks), free(gates);
}
