// SPDX-License-Identifier: MIT
// What a run remembers of its routing from step to step, a MoE layer at a time: which experts were
// ever used, which of them tokens took together, and whether the routing has collapsed. Goes into
// metrics.jsonl with the rest of the layer, and into each checkpoint, so that a resumed run says
// what it would have said.
//
// The alarm. k experts a token on average: an even share is k/E of the tokens. A layer is collapsed
// where the expert with most picks has taken (f - k/E) / (1 - k/E) >= alarm_share, f its share of
// the tokens, or where the load's entropy lies below alarm_entropy on a scale from log k (all
// tokens take the same k experts) to log E (even). After alarm_steps such steps in a row a warning
// names layer, step and expert; the next comes only after as many steps without.
#pragma once

#include <cjson/cJSON.h>

#include "config.h"
#include "metrics.h"

struct routing;

// What a step did in a layer.
struct routing_step {
    uint32_t        step, index;   // index: of the MoE layer, from 0
    double          tokens;        // of the step
    const uint32_t *picks;         // [pick_tokens][K] of some of them; an id >= E was not taken
    uint32_t        pick_tokens;
};

struct routing *routing_create(const struct config *config);
void            routing_destroy(struct routing **routing);
// Fills used, together and alarm of a layer that metrics_layer_fill has filled; warns.
void routing_observe(struct routing *routing, const struct routing_step *step,
                     struct metrics_layer *layer);
// A JSON array for state.json, and back. Caller frees. An array of another model: false, no line.
char *routing_print(const struct routing *routing);
bool  routing_parse(struct routing *routing, const cJSON *json);
