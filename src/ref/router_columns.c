// SPDX-License-Identifier: MIT
// Reference of router_columns: the tokens of an expert in order of (score, then token).
#include "ref.h"

struct scored { float score; uint32_t token; };

static int falling(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (isnan(x->score) != isnan(y->score)) return isnan(x->score) ? 1 : -1;
    if (!isnan(x->score) && x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

void ref_router_columns(const struct gpu_ref_call *call)
{
    const struct push_router_columns *push = call->push;
    const float *scores = call->buffer[0];
    uint32_t *ids = call->buffer[1];
    float *gates = call->buffer[2];
    struct scored *column = malloc(push->tokens * sizeof *column);
    for (uint32_t e = 0; e < push->experts; e++) {
        for (uint32_t t = 0; t < push->tokens; t++)
            column[t] = (struct scored){scores[(size_t)t * push->experts + e], t};
        qsort(column, push->tokens, sizeof *column, falling);
        for (uint32_t i = 0; i < push->tokens; i++) {
            const size_t at = (size_t)column[i].token * push->experts + e;
            const bool taken = i < push->capacity;
            ids[at] = taken ? e : KERNEL_NONE_ID;
            gates[at] = taken ? (float)((double)push->scale * (double)column[i].score) : 0;
        }
    }
    free(column);
}
