// SPDX-License-Identifier: MIT
// Initial values of weights, from the counter-based generator: normal, truncated, orthogonal.
#include <math.h>
#include <string.h>

#include "src/model.h"

// Normal between -2 and 2, as long as it takes, by counters far apart; its deviation is 1.
static double truncated(uint64_t seed, uint64_t stream, uint64_t index)
{
    for (uint64_t turn = 0;; turn++) {
        const double x = rng_normal(seed, stream, index + (turn << 48));
        if (fabs(x) <= 2) return x / 0.87962566103423978;
    }
}

// ---- orthogonal: modified Gram-Schmidt by blocks (Golub & Van Loan, 5.2.8). Of a matrix of
// normal numbers that is a uniformly distributed frame; the rounding that its condition costs
// stays below what a float keeps. The sums have a fixed order.

enum { BLOCK = 16, LANES = 4 };

static double dot(const double *a, const double *b, size_t n)
{
    double sum[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) rest += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]) + rest;
}

// row -= its parts along `count` rows of q, `LANES` at a time
static void project(double *row, const double *q, size_t count, size_t n)
{
    for (size_t first = 0; first < count; first += LANES) {
        const double *q0 = q + first * n;
        double part[LANES] = {0};
        const size_t held = count - first < LANES ? count - first : LANES;
        for (size_t k = 0; k < held; k++) part[k] = dot(row, q0 + k * n, n);
        if (held == LANES) {
            const double *q1 = q0 + n, *q2 = q1 + n, *q3 = q2 + n;
            for (size_t i = 0; i < n; i++)
                row[i] -= (part[0] * q0[i] + part[1] * q1[i]) +
                          (part[2] * q2[i] + part[3] * q3[i]);
            continue;
        }
        for (size_t k = 0; k < held; k++)
            for (size_t i = 0; i < n; i++) row[i] -= part[k] * q0[k * n + i];
    }
}

// A row of the block: against the rows before it, twice, and to length 1.
static void own_row(double *block, size_t index, size_t n)
{
    double *row = block + index * n;
    for (int again = 0; again < 2; again++) project(row, block, index, n);
    const double length = sqrt(dot(row, row, n));
    for (size_t i = 0; i < n; i++) row[i] /= length;
}

// `rows` <= n
static void orthonormalise(double *a, size_t rows, size_t n)
{
    for (size_t first = 0; first < rows; first += BLOCK) {
        double *block = a + first * n;
        const size_t held = rows - first < BLOCK ? rows - first : BLOCK;
        for (size_t r = 0; r < held; r++) own_row(block, r, n);
        for (size_t r = first + held; r < rows; r++) project(a + r * n, block, held, n);
    }
}

// A whole matrix of a tensor, times init_std: its rows are orthonormal, or its columns where it has
// fewer of these.
static void orthogonal(const struct model *model, const struct model_tensor *t,
                       const struct model_matrix *matrix, float *out)
{
    const size_t rows = matrix->rows, cols = matrix->cols, few = rows < cols ? rows : cols,
                 many = rows < cols ? cols : rows;
    const uint64_t stream = hash_string(t->name), first = matrix->begin;
    struct arena *arena = arena_create("orthogonal");
    double *a = arena_array(arena, few * many, sizeof *a);
    for (size_t i = 0; i < few * many; i++)
        a[i] = rng_normal(model->config.seed, stream, first + i);
    orthonormalise(a, few, many);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[r * cols + c] =
                (float)(t->init_std * (rows <= cols ? a[r * many + c] : a[c * many + r]));
    arena_destroy(&arena);
}

static void orthogonal_part(const struct model *model, const struct model_tensor *t, uint64_t begin,
                            uint64_t count, float *out)
{
    const uint64_t size = (uint64_t)t->rows * t->cols;
    struct arena *arena = arena_create("orthogonal");
    float *whole = arena_array(arena, size, sizeof *whole);
    for (uint64_t at = begin; at < begin + count;) {
        const uint32_t expert = t->experts ? model_expert_at(model, t, at) : 0;
        const struct model_matrix matrix = model_matrix(model, t, expert);
        const uint64_t own = (uint64_t)matrix.rows * matrix.cols,
                       end = min_u64(matrix.begin + own, begin + count);
        orthogonal(model, t, &matrix, whole);
        memcpy(out + (at - begin), whole + (at - matrix.begin), (end - at) * sizeof *out);
        at = end;
    }
    arena_destroy(&arena);
}

static void fill(const struct model *model, const struct model_tensor *tensor, uint64_t begin,
                 uint64_t count, double std, float *out)
{
    const uint64_t stream = hash_string(tensor->name), seed = model->config.seed;
    const double mean = tensor->init_value;
    for (uint64_t i = 0; i < count; i++) {
        double random = 0;
        if (std != 0 && tensor->init == MODEL_TRUNCATED)
            random = std * truncated(seed, stream, begin + i);
        else if (std != 0) random = std * rng_normal(seed, stream, begin + i);
        out[i] = (float)(mean + random);
    }
}

static void columns_part(const struct model *model, const struct model_tensor *t, uint64_t begin,
                         uint64_t count, float *out)
{
    for (uint64_t at = begin; at < begin + count;) {
        const struct model_matrix m = model_matrix(model, t, model_expert_at(model, t, at));
        const uint64_t end = min_u64(m.begin + (uint64_t)m.rows * m.cols, begin + count);
        fill(model, t, at, end - at, t->init_std * sqrt((double)t->cols / m.cols),
             out + (at - begin));
        at = end;
    }
}

void model_init_values(const struct model *model, const struct model_tensor *tensor, uint64_t begin,
                       uint64_t count, float *out)
{
    const double std = tensor->init_std;
    if (std != 0 && tensor->init == MODEL_ORTHOGONAL) {
        orthogonal_part(model, tensor, begin, count, out);
        return;
    }
    // deviations that go by the columns of a matrix are those of the widest expert's
    const bool by_columns = model_is_uneven(model, tensor) && tensor->role == ROLE_EXPERT_DOWN &&
                            (model->config.init == CONFIG_INIT_LECUN ||
                             model->config.init == CONFIG_INIT_H64LM);
    if (by_columns) {
        columns_part(model, tensor, begin, count, out);
        return;
    }
    fill(model, tensor, begin, count, std, out);
}
