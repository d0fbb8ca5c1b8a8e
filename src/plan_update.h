// SPDX-License-Identifier: MIT
// What plan_update.c and plan_muon.c share: spans of the flat space that one dispatch updates.
#pragma once

#include "plan_model.h"

// Elements [begin, end) of a segment, from `tensor` on. Where it is made of parts, `matrices` of
// `count` elements each, from part `first` of MoE layer `layer` on, `stacks` tensors a layer; a
// span of several layers has all of theirs.
struct span {
    const struct model_tensor *tensor;
    uint32_t segment, group;
    uint64_t begin, end;
    uint64_t count;
    uint32_t matrices, first, layer, tensors, stacks;
};

struct plan_range span_range(struct plan *plan, const struct params *params,
                             enum params_class which, const struct span *span);
struct push_optimizer span_push(const struct params *params, const struct span *span);
// The steps of the parts of experts; anything where all move.
struct plan_range span_moves(struct plan *plan, const struct params *params,
                             const struct network_io *io, const struct span *span);
// plan_stream.c: the same for what lies in slots
void network_stream_update(struct plan *plan, const struct params *params,
                           const struct network_io *io);
// plan_muon.c: one tensor, whole matrices.
void muon_steps(struct plan *plan, const struct params *params, const struct network_io *io,
                const struct span *span);
