// SPDX-License-Identifier: MIT
// Gradients against finite differences, through the scalar references alone: no device takes part.
//
// A case holds named arrays. Its objective is L = sum_i w_i y_i with fixed random weights w over
// the forward outputs; the backward references turn w into gradients of the inputs. For random
// directions d, <gradient, d> must equal dL/dh of x + h d, taken with the fourth-order central
// difference.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "src/kernel_device.h"

enum { GRAD_MAX_ARRAYS = 48 };

struct grad_array {
    const char *name;
    uint64_t    count;
    bool        words;   // u32, else f32
    float      *data;
};

struct grad_case {
    const char       *name;
    uint64_t          seed, stream;
    struct grad_array array[GRAD_MAX_ARRAYS];
    int               count;
    double            step;       // h, relative to the direction's unit elements; 0: 1e-2
    double            tolerance;  // relative; 0: 2e-4
    void            (*forward)(struct grad_case *c);
    double          (*objective)(struct grad_case *c); // of the forward outputs
};

struct grad_case grad_begin(const char *name, uint64_t seed);
void grad_end(struct grad_case *c);
int grad_normal(struct grad_case *c, const char *name, uint64_t count,
                double scale); // returns the array's index
int  grad_zeros(struct grad_case *c, const char *name, uint64_t count);
int  grad_words(struct grad_case *c, const char *name, const uint32_t *words, uint64_t count);
// Runs the reference of `op` with these arrays as bindings.
void grad_run(struct grad_case *c, enum kernel_op op, const void *push, const int *arrays,
              int count);
#define GRAD_RUN(c, op, push, ...)                    \
    grad_run(c, op, push, (const int[]){__VA_ARGS__}, \
             (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))
double grad_dot(const struct grad_case *c, int a, int b);
// Compares array `gradient` with finite differences of the objective over array `input`. Prints a
// line; false on a mismatch.
bool grad_compare(struct grad_case *c, int input, int gradient);
