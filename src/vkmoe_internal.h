// SPDX-License-Identifier: MIT
// What stands behind the handles of vkmoe.h, for the tools of this tree (info, eval, bench) and the
// tests.
#pragma once

#include "kernel_device.h"
#include "params.h"
#include "session.h"
#include "tokenizer.h"
#include "vkmoe.h"

struct vkmoe_device {
    struct gpu     *gpu;
    struct kernels *kernels;
    bool            untuned;
};

struct vkmoe_model {
    struct vkmoe_device *device;
    struct model        *model;
    struct params       *params;
    struct tokenizer    *tokenizer; // NULL where the folder has none
    bool                 untuned;   // nothing of its type was measured on this device yet
    struct vkmoe_model_params limits;
    bool                 in_store;  // its experts
    uint32_t             sessions;  // open
};

struct vkmoe_session {
    struct vkmoe_model *model;
    struct session     *session;
};
