// SPDX-License-Identifier: MIT
// References of embed, embed_back and select_row: rows of a table, gathered and scattered.
#include "src/ref/ref.h"

void ref_embed(const struct gpu_ref_call *call)
{
    const struct push_embed *p = call->push;
    const uint32_t *ids = call->buffer[0];
    for (size_t t = 0; t < p->rows; t++) {
        const uint32_t id = ids[t] - p->first; // below `first` it wraps to a large number
        if (p->first && id >= p->vocab) continue;
        for (size_t c = 0; c < p->cols; c++)
            ref_store(call, 2, t * p->cols + c,
                      id < p->vocab ? ref_load(call, 1, (size_t)id * p->cols + c) : 0.0);
    }
}

void ref_embed_back(const struct gpu_ref_call *call)
{
    const struct push_embed *p = call->push;
    const struct step_words *step = call->buffer[0];
    const uint32_t *order = call->buffer[1], *begin = call->buffer[2], *id = call->buffer[3];
    float *dtable = call->buffer[5]; // [vocab][cols]
    for (size_t s = 0; s < min_u32(step->segments, p->rows); s++) {
        const uint32_t row = id[s] - p->first;
        if (row >= p->vocab) continue;
        for (size_t c = 0; c < p->cols; c++) {
            double sum = dtable[row * (size_t)p->cols + c];
            for (uint32_t i = begin[s]; i < begin[s + 1]; i++)
                sum += ref_load(call, 4, (size_t)order[i] * p->cols + c);
            dtable[row * (size_t)p->cols + c] = (float)sum;
        }
    }
}

void ref_select_row(const struct gpu_ref_call *call)
{
    const struct push_embed *p = call->push;
    const struct step_words *step = call->buffer[0];
    const size_t row = min_u32(max_u32(step->length, 1), p->rows) - 1;
    for (size_t c = 0; c < p->cols; c++)
        ref_store(call, 2, c, ref_load(call, 1, row * p->cols + c));
}
