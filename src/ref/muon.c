// SPDX-License-Identifier: MIT
// References of the muon operations: momentum, scale, tables, a Newton-Schulz step's polynomial,
// and the update. The matmuls between them are the grouped ones.
#include "ref.h"

static bool moves(const struct push_muon *push, const uint32_t *words, uint32_t matrix)
{
    return ref_optimizer_step(&push->each, NULL, words, matrix) != 0;
}

void ref_muon_momentum(const struct gpu_ref_call *call)
{
    const struct push_muon *push = call->push;
    const struct push_optimizer *each = &push->each;
    const float *norm = call->buffer[0], *g = call->buffer[1];
    float *m = call->buffer[2], *x = call->buffer[4], *partial = call->buffer[5];
    const uint32_t parts = ceil_div(each->count, MUON_BLOCK);
    const double momentum = (double)each->beta1;
    for (uint32_t matrix = 0; matrix < each->matrices; matrix++) {
        if (!moves(push, call->buffer[3], matrix)) continue;
        for (uint32_t part = 0; part < parts; part++) {
            const uint32_t end = min_u32(each->count, (part + 1) * MUON_BLOCK);
            double sum = 0;
            for (uint32_t at = part * MUON_BLOCK; at < end; at++) {
                const size_t i = (size_t)matrix * each->count + at;
                x[i] = 0;
                if (norm[2] == 0) continue;
                const double gradient = (double)g[i] * (double)norm[1];
                const double mean = momentum * (double)m[i] + gradient;
                const double direction = each->nesterov ? gradient + momentum * mean : mean;
                m[i] = (float)mean;
                x[i] = (float)direction;
                sum += direction * direction;
            }
            partial[(size_t)matrix * parts + part] = (float)sum;
        }
    }
}

void ref_muon_scale(const struct gpu_ref_call *call)
{
    const struct push_muon *push = call->push;
    const struct push_optimizer *each = &push->each;
    const float *partial = call->buffer[0];
    float *x = call->buffer[2];
    const uint32_t parts = ceil_div(each->count, MUON_BLOCK);
    for (uint32_t matrix = 0; matrix < each->matrices; matrix++) {
        if (!moves(push, call->buffer[1], matrix)) continue;
        double sum = 0;
        for (uint32_t i = 0; i < parts; i++) sum += (double)partial[(size_t)matrix * parts + i];
        for (uint32_t at = 0; at < each->count; at++) {
            const size_t i = (size_t)matrix * each->count + at;
            x[i] = (float)((double)x[i] / (sqrt(sum) + 1e-7));
        }
    }
}

static void entry(uint32_t *out, uint32_t a, uint32_t b, uint32_t c)
{
    memcpy(out, (const uint32_t[4]){a, b, c, 0}, 16);
}

void ref_muon_tables(const struct gpu_ref_call *call)
{
    const struct push_muon *push = call->push;
    uint32_t *tiles = call->buffer[1], *ranges = call->buffer[2], *indirect = call->buffer[3];
    uint32_t tile = 0, range = 0;
    for (uint32_t matrix = 0; matrix < push->each.matrices; matrix++) {
        if (!moves(push, call->buffer[0], matrix)) continue;
        const uint32_t row = matrix * push->rows;
        entry(ranges + 4 * range++, matrix, row, push->rows);
        for (uint32_t at = 0; at < push->rows; at += push->tile_rows)
            entry(tiles + 4 * tile++, matrix, row + at, min_u32(push->tile_rows, push->rows - at));
    }
    entry(tiles + 4 * tile, 0, 0, 0);
    entry(ranges + 4 * range, 0, 0, 0);
    entry(indirect, push->columns, tile, 1);
    entry(indirect + 4, push->columns, push->row_groups, range);
}

void ref_muon_mix(const struct gpu_ref_call *call)
{
    const struct push_muon *push = call->push;
    const uint32_t rows = push->rows;
    const float *a = call->buffer[1];
    float *b = call->buffer[2];
    for (uint32_t matrix = 0; matrix < push->each.matrices; matrix++) {
        if (!moves(push, call->buffer[0], matrix)) continue;
        for (uint32_t at = 0; at < rows * rows; at++) {
            const size_t i = (size_t)matrix * rows * rows + at;
            const double diagonal = at / rows == at % rows ? 3.4445 : 0;
            b[i] = (float)(diagonal - 4.7750 * (double)a[i] + 2.0315 * (double)b[i]);
        }
    }
}

void ref_muon_update(const struct gpu_ref_call *call)
{
    const struct push_muon *push = call->push;
    const struct push_optimizer *each = &push->each;
    const struct step_words *step = call->buffer[0];
    const float *norm = call->buffer[1], *x = call->buffer[2];
    float *p = call->buffer[3];
    const double rate = (double)step->learning_rate * (double)each->rate;
    for (size_t i = 0; i < (size_t)each->matrices * each->count; i++) {
        if (!moves(push, call->buffer[5], (uint32_t)(i / each->count))) continue;
        const double decayed = (double)p[i] * (1 - rate * (double)each->weight_decay);
        if (norm[2] != 0) p[i] = (float)(decayed - rate * (double)each->scale * (double)x[i]);
        if (each->copy) ref_store(call, 4, i, (double)p[i]);
    }
}
