// SPDX-License-Identifier: MIT
// References of what lies between the two levels of a router: router_base, router_join,
// router_join_back.
#include "ref.h"

void ref_router_base(const struct gpu_ref_call *call)
{
    const struct push_router_join *push = call->push;
    const uint32_t *ids = call->buffer[0], *inverse = call->buffer[1];
    for (uint32_t p = 0; p < push->pairs; p++)
        ((uint32_t *)call->buffer[2])[inverse[p]] = ids[p] * push->size;
}

void ref_router_join(const struct gpu_ref_call *call)
{
    const struct push_router_join *push = call->push;
    const float *domain_gates = call->buffer[0], *row_gates = call->buffer[4];
    const uint32_t *inverse = call->buffer[1], *base = call->buffer[2], *row_ids = call->buffer[3];
    uint32_t *ids = call->buffer[5];
    float *gates = call->buffer[6];
    for (size_t p = 0; p < push->pairs; p++)
        for (size_t k = 0; k < push->picks; k++) {
            const size_t at = p * push->picks + k, from = (size_t)inverse[p] * push->picks + k;
            const uint32_t e = row_ids[from];
            ids[at] = e == KERNEL_NONE_ID ? e : base[inverse[p]] + e;
            gates[at] = domain_gates[p] * row_gates[from];
        }
}

void ref_router_join_back(const struct gpu_ref_call *call)
{
    const struct push_router_join *push = call->push;
    const float *domain_gates = call->buffer[0], *row_gates = call->buffer[2],
                *dgates = call->buffer[3];
    const uint32_t *inverse = call->buffer[1];
    float *ddomain = call->buffer[4], *drow = call->buffer[5];
    for (size_t p = 0; p < push->pairs; p++) {
        double sum = 0;
        for (size_t k = 0; k < push->picks; k++) {
            const size_t from = (size_t)inverse[p] * push->picks + k;
            const float d = dgates[p * push->picks + k];
            sum += (double)d * (double)row_gates[from];
            drow[from] = d * domain_gates[p];
        }
        ddomain[p] = (float)sum;
    }
}
