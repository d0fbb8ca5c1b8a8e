// SPDX-License-Identifier: MIT
// Whether the experts of a model have to come and go on a device: where somebody asks for it, or
// where they do not fit.
#pragma once

#include "model.h"
#include "runtime/gpu.h"

// What experts that come and go may take together with all else, where nobody says: what is left on
// the device, less a sixteenth for what the driver takes beside buffers; two thirds of it where the
// device's memory is the host's, which needs some too.
uint64_t experts_found_budget(const struct gpu *gpu);

// The tensor table, streamed where `asked`, or where the weights (in training: with gradients and
// the optimizer's state) take more than three quarters of what gpu_memory_budget gives (the rest is
// for activations), or one stack of experts more than an allocation: said in one line then. NULL
// after one line.
struct model *experts_need_model(const struct gpu *gpu, const struct config *config, bool train,
                                 bool asked);
