// SPDX-License-Identifier: MIT
// Reference of cast: f32 to the storage type.
#include "src/ref/ref.h"

void ref_cast(const struct gpu_ref_call *call)
{
    const struct push_count *p = call->push;
    const float *from = call->buffer[0];
    for (size_t i = 0; i < p->count; i++) ref_store(call, 1, i, (double)from[i]);
}
