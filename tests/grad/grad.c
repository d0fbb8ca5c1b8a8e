// SPDX-License-Identifier: MIT
// Finite differences: see grad.h.
#include "grad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base.h"

enum { DIRECTIONS = 3 };

struct grad_case grad_begin(const char *name, uint64_t seed)
{
    return (struct grad_case){.name = name, .seed = seed, .step = 1e-2, .tolerance = 2e-4};
}

void grad_end(struct grad_case *c)
{
    for (int i = 0; i < c->count; i++) free(c->array[i].data);
    *c = (struct grad_case){0};
}

int grad_zeros(struct grad_case *c, const char *name, uint64_t count)
{
    c->array[c->count] =
        (struct grad_array){.name = name, .count = count, .data = calloc(count + 1, 4)};
    return c->count++;
}

int grad_normal(struct grad_case *c, const char *name, uint64_t count, double scale)
{
    const int index = grad_zeros(c, name, count);
    const uint64_t stream = c->stream++;
    for (uint64_t i = 0; i < count; i++)
        c->array[index].data[i] = (float)(scale * rng_normal(c->seed, stream, i));
    return index;
}

int grad_words(struct grad_case *c, const char *name, const uint32_t *words, uint64_t count)
{
    const int index = grad_zeros(c, name, count);
    c->array[index].words = true;
    if (words) memcpy(c->array[index].data, words, count * 4);
    return index;
}

void grad_run(struct grad_case *c, enum kernel_op op, const void *push, const int *arrays,
              int count)
{
    struct gpu_ref_call call = {.push = push, .tag = DTYPE_F32};
    for (int b = 0; b < count; b++) {
        call.buffer[b] = c->array[arrays[b]].data;
        call.bytes[b] = c->array[arrays[b]].count * 4;
    }
    kernel_info(op)->ref(&call);
}

double grad_dot(const struct grad_case *c, int a, int b)
{
    double sum = 0;
    for (uint64_t i = 0; i < c->array[a].count; i++)
        sum += (double)c->array[a].data[i] * c->array[b].data[i];
    return sum;
}

static double at(struct grad_case *c, int input, const float *base, const double *direction,
                 double h)
{
    struct grad_array *x = &c->array[input];
    for (uint64_t i = 0; i < x->count; i++) x->data[i] = (float)(base[i] + h * direction[i]);
    c->forward(c);
    return c->objective(c);
}

// The step that f32 really takes differs from h * direction: what it is, counts.
static double along(const struct grad_case *c, int gradient, const double *direction)
{
    double sum = 0;
    for (uint64_t i = 0; i < c->array[gradient].count; i++)
        sum += (double)c->array[gradient].data[i] * direction[i];
    return sum;
}

bool grad_compare(struct grad_case *c, int input, int gradient)
{
    const uint64_t count = c->array[input].count;
    float *base = malloc(count * sizeof *base);
    double *direction = malloc(count * sizeof *direction);
    double norm = 0, worst = 0;
    memcpy(base, c->array[input].data, count * sizeof *base);
    for (uint64_t i = 0; i < count; i++)
        norm += (double)c->array[gradient].data[i] * c->array[gradient].data[i];
    for (int d = 0; d < DIRECTIONS; d++) {
        for (uint64_t i = 0; i < count; i++)
            direction[i] = rng_normal(c->seed, 1000 + (uint64_t)d, i);
        const double h = c->step;
        const double slope =
            (8 * (at(c, input, base, direction, h) - at(c, input, base, direction, -h)) -
             (at(c, input, base, direction, 2 * h) - at(c, input, base, direction, -2 * h))) /
            (12 * h);
        const double error = fabs(slope - along(c, gradient, direction)) / fmax(sqrt(norm), 1e-12);
        worst = fmax(worst, error);
    }
    memcpy(c->array[input].data, base, count * sizeof *base);
    c->forward(c);
    const bool ok = norm > 0 && worst <= c->tolerance;
    printf("%-4s %-26s %-10s |gradient| %9.3g  worst error %8.2g\n", ok ? "ok" : "FAIL", c->name,
           c->array[input].name, sqrt(norm), worst);
    free(base);
    free(direction);
    return ok;
}
