// SPDX-License-Identifier: MIT
// Weights in few bits, for exports: matrix -> scales and packed integers -> matrix, and pruning by
// magnitude. Nothing here knows about models or files.
//
// Bytes of a matrix [rows][cols] of kind intB (2 to 8 bits), nothing aligned:
//     f16[rows]   scales, little-endian
//     integers    packing "bits": two's complement of B bits, row after row in one stream of bits:
//                 bit j of element i is bit (i B + j) % 8 of byte (i B + j) / 8; rows are not
//                 padded, the last byte is, with zeros. Packing "bytes": those B bits are the low
//                 ones of a byte each, above them zeros.
// and a weight is scale * integer. f16 and f32 are the values, little-endian, and no scales.
#pragma once

#include "base.h"

enum quant_kind {
    QUANT_INT2, QUANT_INT3, QUANT_INT4, QUANT_INT5, QUANT_INT6, QUANT_INT7, QUANT_INT8,
    QUANT_F16, QUANT_F32, QUANT_COUNT
};

const char *quant_name(enum quant_kind kind);      // "int5", "f16"
int         quant_from_name(const char *name);     // -1 if unknown
enum quant_packing { QUANT_BITS, QUANT_BYTES };
uint32_t    quant_bits(enum quant_kind kind);      // of an element, without scales
bool        quant_is_integer(enum quant_kind kind);
// Bytes of a matrix; false where they do not fit 64 bits.
bool quant_bytes(enum quant_kind kind, enum quant_packing packing, uint64_t rows, uint64_t cols,
                 uint64_t *bytes);

// `count` integers of `bits` bits each (2 to 8), `width` (bits or more) apart, to and from
// ceil(count * width / 8) bytes.
void quant_pack(const int8_t *integer, uint64_t count, uint32_t bits, uint32_t width, uint8_t *out);
void quant_unpack(const uint8_t *in, uint64_t count, uint32_t bits, uint32_t width,
                  int8_t *integer);

// intB below 8: scale = max |row| / (2^(B-1) - 1), integers from -2^(B-1). int8: a row is clipped
// at the 99.99984 % quantile of its magnitudes first, integers from -127 (parameter-golf's int8).
// The scale is rounded to f16 before the division, up where that would clip. False where a scale or
// an f16 value is above f16's 65504: *bad is the element.
bool quant_encode(enum quant_kind kind, enum quant_packing packing, const float *values,
                  uint64_t rows, uint64_t cols, uint8_t *out, uint64_t *bad);
// False where a scale or a value is not finite: *bad is the row.
bool quant_decode(enum quant_kind kind, enum quant_packing packing, const uint8_t *in,
                  uint64_t rows, uint64_t cols, float *values, uint64_t *bad);

// The q-quantile (0 to 1) of count > 0 values, linear between neighbours as in numpy and PyTorch.
// Reorders the values.
double quant_quantile(float *values, uint64_t count, double q);
// Sets to 0 what is below the q-quantile of the magnitudes; returns how many values changed.
uint64_t quant_prune(float *values, uint64_t count, double q);
