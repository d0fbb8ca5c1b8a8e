// SPDX-License-Identifier: MIT
// What the optimizer knows beside the weights, as one safetensors file: moments m.NAME and v.NAME,
// named and shaped as the weights, or codes.NAME, U32 [132 a record], where they are in records
// (codes.h); and of each MoE layer steps.model.layers.N.experts,
// U32 [experts], how many steps each expert took (expert_optimizer per-expert and lazy-global). Of
// a streamed model the experts' are not in it: they are in the store's records.
#pragma once

#include "params.h"
#include "weights.h"

// False after one line; on failure nothing is left.
bool optimizer_state_save(struct params *params, const char *path,
                          const struct safetensors_metadata *metadata, uint32_t metadata_count);
bool optimizer_state_load(struct params *params, const char *path);
