// SPDX-License-Identifier: MIT
// What a training step tells of the MoE layers: see train_layers.h.
#include "src/train_layers.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/os.h"
#include "src/base.h"

// The auxiliary losses that are on in a layer, by name.
static void name_losses(struct metrics_layer *out, const struct config_router *router,
                        const double *loss)
{
    const struct { const char *name; double coef; enum kernel_router_stats at; } all[] = {
        {"balance", router->balance_coef, ROUTER_BALANCE},
        {"balance_hf", router->pooled_coef, ROUTER_POOLED},
        {"z", router->z_coef, ROUTER_Z},
        {"entropy", router->entropy_coef, ROUTER_ENTROPY},
        {"mean_entropy", router->mean_entropy_coef, ROUTER_MEAN_ENTROPY},
        {"variance", router->variance_coef, ROUTER_VARIANCE},
        {"importance", router->importance_coef, ROUTER_IMPORTANCE},
        {"z_square", router->z_square_coef, ROUTER_Z_SQUARE},
    };
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (all[i].coef != 0)
            out->loss[out->losses++] = (struct metrics_loss){all[i].name, loss[all[i].at]};
}

// The tokens of the step that are traced, and the kinds of text that they are of.
static void trace_texts(const struct train_layers *to, const struct trainer_result *result)
{
    const struct config *c = to->config;
    const uint32_t seq = c->seq_len, windows = ceil_div(trace_tokens(to->trace), seq);
    if (!trace_wants_tokens(to->trace, result->step)) return;
    uint32_t *domains = os_alloc((size_t)windows * seq * sizeof *domains);
    for (uint32_t w = 0; w < windows; w++)
        data_window_domains(to->data, DATA_TRAIN,
                            data_window_index(to->data, DATA_TRAIN, to->first + w),
                            domains + (size_t)w * seq, NULL);
    trace_ids(to->trace, result->step, result->ids);
    trace_domains(to->trace, result->step, domains);
    free(domains);
}

// What the run knows of layer `index` beyond the step's counts, and the step's part of the trace.
static void observe_routing(const struct train_layers *to, const struct trainer_result *result,
                            uint32_t index)
{
    const struct config *c = to->config;
    routing_observe(to->routing,
                    &(struct routing_step){
                        .step = result->step,
                        .index = index,
                        .tokens = (double)c->batch_size * c->seq_len *
                                  c->gradient_accumulation_steps,
                        .picks = result->picks[index],
                        .pick_tokens = result->pick_tokens,
                    },
                    &to->layer[index]);
    if (!to->trace || !trace_wants(to->trace, result->step)) return;
    if (index == 0) trace_texts(to, result);
    trace_counts(to->trace, result->step, index, result->load[index]);
    if (!trace_wants_tokens(to->trace, result->step)) return;
    trace_picks(to->trace, result->step, index, result->picks[index]);
    trace_gates(to->trace, result->step, index, result->gates[index]);
}

// Where the experts are now, a step later; and what was counted since it was told last.
static void trace_experts(const struct train_layers *to, uint32_t step)
{
    const struct experts *x = to->experts;
    if (!x || !to->residency || !trace_wants(to->residency, step)) return;
    const struct experts_counts c = experts_counts_since(x, &to->told->counts);
    to->told->counts = x->counts;
    trace_stream(to->residency, step,
                 &(struct trace_stream){.hits = c.hits, .misses = c.misses,
                                        .prefetched = c.guessed, .bytes = c.bytes,
                                        .written = c.written,
                                        .load_us = (uint64_t)(1e6 * c.load_seconds),
                                        .wait_us = (uint64_t)(1e6 * c.wait_seconds)});
    uint8_t *place = os_alloc(to->config->num_experts);
    for (uint32_t i = 0; i < config_moe_layers(to->config); i++) {
        experts_residency(x, i, place);
        trace_residency(to->residency, step, i, place);
    }
    free(place);
    trace_flush(to->residency);
}

void train_layers_observe(const struct train_layers *to, const struct trainer_result *result)
{
    const struct config *c = to->config;
    const double tokens =
        (double)c->seq_len * c->batch_size * c->gradient_accumulation_steps;
    uint32_t index = 0;
    for (uint32_t layer = 0; layer < c->num_hidden_layers; layer++) {
        if (!c->moe_layer[layer]) continue;
        const struct trainer_layer *own = &result->layer[index];
        struct metrics_layer *out = &to->layer[index];
        metrics_layer_fill(out, layer, result->load[index], c->num_experts,
                           own->loss[ROUTER_BALANCE], own->loss[ROUTER_Z]);
        name_losses(out, &c->layer_router[layer], own->loss);
        out->experts_per_token = own->kept / tokens;
        out->token_entropy =
            c->num_experts > 1 ? own->loss[ROUTER_ENTROPY] / log(c->num_experts) : 1;
        out->least_entropy = c->num_experts > 1 ? own->least_entropy / log(c->num_experts) : 1;
        const struct config_router *router = &c->layer_router[layer];
        if (router->capacity_factor > 0 && router->type != CONFIG_ROUTER_EXPERT_CHOICE)
            out->dropped = own->picks - own->kept;
        observe_routing(to, result, index);
        index++;
    }
    if (to->trace) trace_flush(to->trace);
    trace_experts(to, result->step);
}
