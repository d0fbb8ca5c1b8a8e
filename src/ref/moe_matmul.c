// SPDX-License-Identifier: MIT
// References of the grouped matrix products: moe_matmul_up (gather and SwiGLU inside), _nt, _nn
// over the tile table of moe_scan, and _tn over the row ranges of the experts.
#include "src/ref/ref.h"

struct tile {
    uint32_t expert, first, rows, zero;
};

// How many tiles of the table are this step's. Its length is in the indirect entry, which a
// reference does not see; but tiles cover the sorted rows from 0 on without holes, experts
// ascending.
static size_t tile_count(const struct tile *tile, uint64_t bytes, const struct push_moe_matmul *p)
{
    size_t i = 0;
    for (uint32_t covered = 0; i < bytes / sizeof *tile && covered < p->pairs; i++) {
        const bool next = tile[i].first == covered && tile[i].expert < p->experts &&
                          tile[i].rows > 0 && tile[i].rows <= p->pairs - covered &&
                          (i == 0 || tile[i].expert >= tile[i - 1].expert);
        if (!next) break;
        covered += tile[i].rows;
    }
    return i;
}

// sum over t < k of A[row][t] times the expert's matrix: [n][k] or, transposed, [k][n]
static double product(const struct gpu_ref_call *call, size_t row, int weights, uint32_t expert,
                      size_t column, bool transposed)
{
    const struct push_moe_matmul *p = call->push;
    const size_t base = (size_t)expert * p->n * p->k + (transposed ? column : column * p->k);
    const size_t step = transposed ? p->n : 1;
    double sum = 0;
    for (size_t t = 0; t < p->k; t++)
        sum += ref_load(call, 0, row * p->k + t) * ref_load(call, weights, base + t * step);
    return sum;
}

void ref_moe_matmul_up(const struct gpu_ref_call *call)
{
    const struct push_moe_matmul *p = call->push;
    const uint32_t *order = call->buffer[1];
    const struct tile *tile = call->buffer[2];
    for (size_t i = 0; i < tile_count(tile, call->bytes[2], p); i++)
        for (size_t row = tile[i].first; row < tile[i].first + tile[i].rows; row++)
            for (size_t j = 0; j < p->n; j++) {
                const size_t token = order[row] / p->top_k;
                const double gate = product(call, token, 3, tile[i].expert, j, false);
                const double up = product(call, token, 4, tile[i].expert, j, false);
                ref_store(call, 5, row * p->n + j, gate / (1.0 + exp(-gate)) * up);
                if (!p->save) continue;
                ref_store(call, 6, row * p->n + j, gate);
                ref_store(call, 7, row * p->n + j, up);
            }
}

static void rows_times_expert(const struct gpu_ref_call *call, bool transposed)
{
    const struct push_moe_matmul *p = call->push;
    const struct tile *tile = call->buffer[1];
    for (size_t i = 0; i < tile_count(tile, call->bytes[1], p); i++)
        for (size_t row = tile[i].first; row < tile[i].first + tile[i].rows; row++)
            for (size_t j = 0; j < p->n; j++) {
                const double sum = product(call, row, 2, tile[i].expert, j, transposed);
                const bool add = transposed && p->add;
                ref_store(call, 3, row * p->n + j,
                          sum + (add ? ref_load(call, 3, row * p->n + j) : 0));
            }
}

void ref_moe_matmul_nt(const struct gpu_ref_call *call) { rows_times_expert(call, false); }
void ref_moe_matmul_nn(const struct gpu_ref_call *call) { rows_times_expert(call, true); }

void ref_moe_matmul_tn(const struct gpu_ref_call *call)
{
    const struct push_moe_matmul *p = call->push;
    const uint32_t *order = call->buffer[2], *offsets = call->buffer[3];
    float *c = call->buffer[4];
    for (size_t e = 0; e < p->experts; e++)
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->n && offsets[e] < offsets[e + 1]; j++) {
                const size_t at = (e * p->m + i) * p->n + j;
                double sum = (double)c[at];
                for (size_t row = offsets[e]; row < offsets[e + 1]; row++)
                    sum +=
                        ref_load(call, 0, row * p->m + i) *
                        ref_load(call, 1, (p->gather ? order[row] / p->top_k : row) * p->n + j);
                c[at] = (float)sum;
            }
}
