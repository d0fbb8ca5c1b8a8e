// SPDX-License-Identifier: MIT
// Storage types: sizes, names, conversion with round to nearest even.
#include "src/dtype.h"

#include <string.h>
#include <strings.h>

static const struct { const char *name, *safetensors, *alias; size_t bytes; } types[DTYPE_COUNT] = {
    [DTYPE_F32]  = {"f32", "F32", "float32", 4},
    [DTYPE_BF16] = {"bf16", "BF16", "bfloat16", 2},
    [DTYPE_F16]  = {"f16", "F16", "float16", 2},
    [DTYPE_U32]  = {"u32", "U32", "uint32", 4},
    [DTYPE_U16]  = {"u16", "U16", "uint16", 2},
    [DTYPE_U8]   = {"u8", "U8", "uint8", 1},
    [DTYPE_I64]  = {"i64", "I64", "int64", 8},
};

size_t dtype_bytes(enum dtype dtype) { return types[dtype].bytes; }
const char *dtype_name(enum dtype dtype) { return types[dtype].name; }
const char *dtype_safetensors(enum dtype dtype) { return types[dtype].safetensors; }

int dtype_from_name(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcasecmp(name, types[i].name) == 0 || strcmp(name, types[i].alias) == 0) return i;
    return -1;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t dtype_bf16_from_f32(float value)
{
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); // a NaN stays one
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float dtype_f32_from_bf16(uint16_t bits) { return float_of((uint32_t)bits << 16); }

// Values under 2^-14 are multiples of 2^-24: adding 0.5 leaves just those bits, rounded by the FPU.
uint16_t dtype_f16_from_f32(float value)
{
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u,
                   magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // rounds to 65536 or more
    if (magnitude < 0x38800000u)
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

float dtype_f32_from_f16(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u,
                   fraction = bits & 0x3ffu;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) {
        const float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

double dtype_load(const void *array, size_t i, enum dtype dtype)
{
    switch ((int)dtype) {
    case DTYPE_BF16: return dtype_f32_from_bf16(((const uint16_t *)array)[i]);
    case DTYPE_F16: return dtype_f32_from_f16(((const uint16_t *)array)[i]);
    }
    return ((const float *)array)[i];
}

void dtype_store(void *array, size_t i, enum dtype dtype, double value)
{
    switch ((int)dtype) {
    case DTYPE_BF16: ((uint16_t *)array)[i] = dtype_bf16_from_f32((float)value); return;
    case DTYPE_F16: ((uint16_t *)array)[i] = dtype_f16_from_f32((float)value); return;
    }
    ((float *)array)[i] = (float)value;
}
