// SPDX-License-Identifier: MIT
// Storage types: sizes, names, and conversion between them and double, round to nearest even.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_U32,
    DTYPE_U16,
    DTYPE_U8,
    DTYPE_I64,
    DTYPE_COUNT
};

size_t      dtype_bytes(enum dtype dtype);
const char *dtype_name(enum dtype dtype);             // "f32", "bf16", "f16", "u32", ...
const char *dtype_safetensors(enum dtype dtype);      // "F32", "BF16", "F16", "U32", ...
int dtype_from_name(const char *name); // also "float32", "bfloat16", "F16", ...; -1 if unknown

uint16_t dtype_bf16_from_f32(float value);
float    dtype_f32_from_bf16(uint16_t bits);
uint16_t dtype_f16_from_f32(float value);             // overflow becomes infinity
float    dtype_f32_from_f16(uint16_t bits);

// Element `i` of an array of f32, bf16 or f16.
double dtype_load(const void *array, size_t i, enum dtype dtype);
void   dtype_store(void *array, size_t i, enum dtype dtype, double value);
