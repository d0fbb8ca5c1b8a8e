// SPDX-License-Identifier: MIT
// Packing, scales and quantiles: see quantize.h.
#include "src/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/dtype.h"

#define CLIP_QUANTILE 0.9999984 // of int8 rows

static const struct { const char *name; uint32_t bits; bool integer; } kinds[QUANT_COUNT] = {
    [QUANT_INT2] = {"int2", 2, true},  [QUANT_INT3] = {"int3", 3, true},
    [QUANT_INT4] = {"int4", 4, true},  [QUANT_INT5] = {"int5", 5, true},
    [QUANT_INT6] = {"int6", 6, true},  [QUANT_INT7] = {"int7", 7, true},
    [QUANT_INT8] = {"int8", 8, true},  [QUANT_F16] = {"f16", 16, false},
    [QUANT_F32] = {"f32", 32, false},
};

const char *quant_name(enum quant_kind kind) { return kinds[kind].name; }
uint32_t quant_bits(enum quant_kind kind) { return kinds[kind].bits; }
bool quant_is_integer(enum quant_kind kind) { return kinds[kind].integer; }

int quant_from_name(const char *name)
{
    for (int kind = 0; kind < QUANT_COUNT; kind++)
        if (strcmp(kinds[kind].name, name) == 0) return kind;
    return -1;
}

// Bits that an element takes.
static uint32_t width_of(enum quant_kind kind, enum quant_packing packing)
{
    return kinds[kind].integer && packing == QUANT_BYTES ? 8 : kinds[kind].bits;
}

bool quant_bytes(enum quant_kind kind, enum quant_packing packing, uint64_t rows, uint64_t cols,
                 uint64_t *bytes)
{
    uint64_t bits, scales = 0;
    if (!checked_mul(rows, cols, &bits) || !checked_mul(bits, width_of(kind, packing), &bits))
        return false;
    if (kinds[kind].integer && !checked_mul(rows, 2, &scales)) return false;
    return checked_add(bits / 8 + (bits % 8 != 0), scales, bytes);
}

// ---- bits

void quant_pack(const int8_t *integer, uint64_t count, uint32_t bits, uint32_t width, uint8_t *out)
{
    const uint32_t mask = (1u << bits) - 1;
    uint32_t held = 0, held_bits = 0;
    for (uint64_t i = 0; i < count; i++) {
        held |= ((uint32_t)integer[i] & mask) << held_bits;
        for (held_bits += width; held_bits >= 8; held_bits -= 8, held >>= 8) *out++ = (uint8_t)held;
    }
    if (held_bits) *out = (uint8_t)held;
}

void quant_unpack(const uint8_t *in, uint64_t count, uint32_t bits, uint32_t width,
                  int8_t *integer)
{
    const uint32_t mask = (1u << bits) - 1, sign = 1u << (bits - 1);
    uint32_t held = 0, held_bits = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (held_bits < width) {
            held |= (uint32_t)*in++ << held_bits;
            held_bits += 8;
        }
        integer[i] = (int8_t)((int32_t)((held & mask) ^ sign) - (int32_t)sign);
        held >>= width;
        held_bits -= width;
    }
}

static void put_u16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

static uint16_t get_u16(const uint8_t *in) { return (uint16_t)(in[0] | in[1] << 8); }

static bool is_finite_f16(uint16_t bits) { return (bits & 0x7c00u) != 0x7c00u; }

// ---- quantiles

// Hoare's selection: afterwards values[k] is the k-th smallest, none before it is larger, none
// behind it smaller.
static void select_nth(float *values, uint64_t count, uint64_t k)
{
    uint64_t low = 0, high = count - 1;
    while (low < high) {
        const float pivot = values[low + (high - low) / 2];
        uint64_t i = low, j = high;
        for (;;) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i >= j) break;
            const float swap = values[i];
            values[i++] = values[j];
            values[j--] = swap;
        }
        if (k <= j) high = j;
        else low = j + 1;
    }
}

double quant_quantile(float *values, uint64_t count, double q)
{
    const double place = q * (double)(count - 1);
    const uint64_t k = min_u64((uint64_t)place, count - 1);
    select_nth(values, count, k);
    if (k + 1 == count) return values[k];
    float next = values[k + 1];
    for (uint64_t i = k + 2; i < count; i++) next = values[i] < next ? values[i] : next;
    return values[k] + (place - (double)k) * ((double)next - values[k]);
}

uint64_t quant_prune(float *values, uint64_t count, double q)
{
    if (count == 0 || !(q > 0)) return 0;
    uint64_t changed = 0;
    float *magnitude = os_alloc(count * sizeof *magnitude);
    for (uint64_t i = 0; i < count; i++) magnitude[i] = fabsf(values[i]);
    const double below = quant_quantile(magnitude, count, q);
    free(magnitude);
    for (uint64_t i = 0; i < count; i++) {
        if (values[i] == 0 || !(fabsf(values[i]) < below)) continue;
        values[i] = 0;
        changed++;
    }
    return changed;
}

// ---- rows

// f16 has 24 steps below 2^-14 and few near zero: rounding down there would clip the row's largest.
static uint16_t make_scale(double most, uint32_t top)
{
    uint16_t scale = dtype_f16_from_f32((float)(most / top));
    if (most > (top + 0.5) * dtype_f32_from_f16(scale)) scale++;
    return scale;
}

static double clip_of(enum quant_kind kind, const float *row, uint64_t cols, float *scratch)
{
    double most = 0;
    if (kind == QUANT_INT8) {
        for (uint64_t i = 0; i < cols; i++) scratch[i] = fabsf(row[i]);
        return quant_quantile(scratch, cols, CLIP_QUANTILE);
    }
    for (uint64_t i = 0; i < cols; i++) most = fmax(most, fabsf(row[i]));
    return most;
}

static bool encode_row(enum quant_kind kind, const float *row, uint64_t cols, float *scratch,
                       int8_t *integer, uint16_t *scale)
{
    const int top = (1 << (kinds[kind].bits - 1)) - 1, low = kind == QUANT_INT8 ? -top : -top - 1;
    *scale = make_scale(clip_of(kind, row, cols, scratch), (uint32_t)top);
    if (!is_finite_f16(*scale)) return false;
    const double step = dtype_f32_from_f16(*scale);
    for (uint64_t i = 0; i < cols; i++) {
        const double place = step > 0 ? rint(row[i] / step) : 0; // ties to even, as PyTorch's round
        integer[i] = (int8_t)fmin(fmax(place, low), top);
    }
    return true;
}

static bool encode_integers(enum quant_kind kind, uint32_t width, const float *values,
                            uint64_t rows, uint64_t cols, uint8_t *out, uint64_t *bad)
{
    int8_t *integer = os_alloc(max_u64(rows * cols, 1));
    float *scratch = os_alloc(max_u64(cols, 1) * sizeof *scratch);
    bool ok = true;
    for (uint64_t row = 0; ok && cols && row < rows; row++) {
        uint16_t scale;
        *bad = row * cols;
        ok = encode_row(kind, values + row * cols, cols, scratch, integer + row * cols, &scale);
        put_u16(out + 2 * row, scale);
    }
    if (ok) quant_pack(integer, rows * cols, kinds[kind].bits, width, out + 2 * rows);
    free(scratch);
    free(integer);
    return ok;
}

bool quant_encode(enum quant_kind kind, enum quant_packing packing, const float *values,
                  uint64_t rows, uint64_t cols, uint8_t *out, uint64_t *bad)
{
    if (kinds[kind].integer)
        return encode_integers(kind, width_of(kind, packing), values, rows, cols, out, bad);
    if (kind == QUANT_F32) {
        memcpy(out, values, rows * cols * sizeof *values);
        return true;
    }
    for (*bad = 0; *bad < rows * cols; ++*bad) {
        const uint16_t half = dtype_f16_from_f32(values[*bad]);
        if (!is_finite_f16(half)) return false;
        put_u16(out + 2 * *bad, half);
    }
    return true;
}

static bool decode_integers(enum quant_kind kind, uint32_t width, const uint8_t *in,
                            uint64_t rows, uint64_t cols, float *values, uint64_t *bad)
{
    int8_t *integer = os_alloc(max_u64(rows * cols, 1));
    bool ok = true;
    quant_unpack(in + 2 * rows, rows * cols, kinds[kind].bits, width, integer);
    for (uint64_t row = 0; ok && row < rows; row++) {
        const uint16_t half = get_u16(in + 2 * row);
        const float scale = dtype_f32_from_f16(half);
        *bad = row;
        ok = is_finite_f16(half);
        for (uint64_t i = row * cols; i < (row + 1) * cols; i++) values[i] = scale * integer[i];
    }
    free(integer);
    return ok;
}

bool quant_decode(enum quant_kind kind, enum quant_packing packing, const uint8_t *in,
                  uint64_t rows, uint64_t cols, float *values, uint64_t *bad)
{
    if (kinds[kind].integer)
        return decode_integers(kind, width_of(kind, packing), in, rows, cols, values, bad);
    if (kind == QUANT_F32) memcpy(values, in, rows * cols * sizeof *values);
    for (uint64_t i = 0; kind == QUANT_F16 && i < rows * cols; i++)
        values[i] = dtype_f32_from_f16(get_u16(in + 2 * i));
    for (uint64_t i = 0; i < rows * cols; i++)
        if (!isfinite(values[i])) return *bad = i / cols, false;
    return true;
}
