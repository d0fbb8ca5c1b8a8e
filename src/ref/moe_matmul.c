// SPDX-License-Identifier: MIT
// References of the grouped matrix products: moe_matmul_up and _act (gather and activation inside),
// _nt, _ntf, _nn over the tile table of moe_scan, and _tn over its ranges.
#include "src/ref/ref.h"

struct tile {
    uint32_t expert, first, rows, zero;
};

// The length of a tile or range table is in the indirect entry, which a reference does not see; but
// an entry without rows ends it.
static size_t tile_count(const struct tile *tile, uint64_t bytes)
{
    size_t i = 0;
    while (i < bytes / sizeof *tile && tile[i].rows > 0) i++;
    return i;
}

// sum over t < k of a[row][t] times the expert's matrix: [n][k] or, transposed, [k][n]; a and the
// matrices are bindings
static double product(const struct gpu_ref_call *call, int a, size_t row, int weights,
                      uint32_t expert, size_t column, bool transposed)
{
    const struct push_moe_matmul *p = call->push;
    const size_t base = (size_t)expert * p->n * p->k + (transposed ? column : column * p->k);
    const size_t step = transposed ? p->n : 1;
    double sum = 0;
    for (size_t t = 0; t < p->k; t++)
        sum += ref_load(call, a, row * p->k + t) * ref_load(call, weights, base + t * step);
    return sum;
}

// Calls back for each element of C that a tile has.
typedef void element_fn(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j);

static void each_element(const struct gpu_ref_call *call, int tiles, element_fn *element)
{
    const struct push_moe_matmul *p = call->push;
    const struct tile *tile = call->buffer[tiles];
    for (size_t i = 0; i < tile_count(tile, call->bytes[tiles]); i++)
        for (size_t row = tile[i].first; row < tile[i].first + tile[i].rows; row++)
            for (size_t j = 0; j < p->n; j++) element(call, tile[i].expert, row, j);
}

static size_t token_of(const struct gpu_ref_call *call, int order, size_t row)
{
    const struct push_moe_matmul *p = call->push;
    return ((const uint32_t *)call->buffer[order])[row] / p->top_k;
}

static void up_element(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    const size_t token = token_of(call, 1, row), at = row * p->n + j;
    const double gate = product(call, 0, token, 3, expert, j, false);
    const double up = product(call, 0, token, 4, expert, j, false);
    ref_store(call, 5, at, ref_activation((enum kernel_activation)p->activation, gate) * up);
    if (!p->save) return;
    ref_store(call, 6, at, gate);
    ref_store(call, 7, at, up);
}

static double bias_of(const struct gpu_ref_call *call, int b, uint32_t expert, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    return p->bias ? ref_load(call, b, (size_t)expert * p->n + j) : 0;
}

static void act_element(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    const double gate = product(call, 0, token_of(call, 1, row), 3, expert, j, false) +
                        bias_of(call, 6, expert, j);
    ref_store(call, 4, row * p->n + j, ref_activation((enum kernel_activation)p->activation, gate));
    if (p->save) ref_store(call, 5, row * p->n + j, gate);
}

static void nt_element(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    ref_store(call, 3, row * p->n + j,
              product(call, 0, row, 2, expert, j, false) + bias_of(call, 4, expert, j));
}

static void ntf_element(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    ((float *)call->buffer[3])[row * p->n + j] =
        (float)(product(call, 0, token_of(call, 5, row), 2, expert, j, false) +
                bias_of(call, 4, expert, j));
}

static void nn_element(const struct gpu_ref_call *call, uint32_t expert, size_t row, size_t j)
{
    const struct push_moe_matmul *p = call->push;
    const size_t from = p->gather ? token_of(call, 1, row) : row;
    double sum = product(call, 0, from, 3, expert, j, true);
    if (p->second) sum += product(call, 5, row, 6, expert, j, true);
    ref_store(call, 4, row * p->n + j, sum);
}

void ref_moe_matmul_up(const struct gpu_ref_call *call) { each_element(call, 2, up_element); }
void ref_moe_matmul_act(const struct gpu_ref_call *call) { each_element(call, 2, act_element); }
void ref_moe_matmul_nt(const struct gpu_ref_call *call) { each_element(call, 1, nt_element); }
void ref_moe_matmul_ntf(const struct gpu_ref_call *call) { each_element(call, 1, ntf_element); }
void ref_moe_matmul_nn(const struct gpu_ref_call *call) { each_element(call, 2, nn_element); }

static void add_expert(const struct gpu_ref_call *call, const struct tile *range)
{
    const struct push_moe_matmul *p = call->push;
    float *c = (float *)call->buffer[4] + (size_t)range->expert * p->m * p->n;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            double sum = (double)c[i * p->n + j];
            for (size_t row = range->first; row < range->first + range->rows; row++) {
                const size_t a = p->gather & 2 ? token_of(call, 2, row) : row;
                const size_t b = p->gather & 1 ? token_of(call, 2, row) : row;
                sum += ref_load(call, 0, a * p->m + i) * ref_load(call, 1, b * p->n + j);
            }
            c[i * p->n + j] = (float)sum;
        }
}

void ref_moe_matmul_tn(const struct gpu_ref_call *call)
{
    const struct tile *range = call->buffer[3];
    for (size_t i = 0; i < tile_count(range, call->bytes[3]); i++) add_expert(call, &range[i]);
}
