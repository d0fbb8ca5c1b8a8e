// SPDX-License-Identifier: MIT
// Records: the two moments of a block of 256 elements in 132 words, after the block-wise dynamic
// quantisation of Dettmers et al. 2022 (2110.02861, bitsandbytes). A value is a code of 8 bits
// times the largest magnitude of its kind in the block; codes have seven decades from 1e-7 to 1,
// each of the decades 10^(i-7) to 10^(i-6), i = 0 .. 6, cut into 2^i equal cells (unsigned:
// 2^(i+1)), a cell's value is its middle. A value takes the code of the cell that it lies in
// (bitsandbytes: the nearest middle, which differs where decades meet). KERNEL_ADAMW_8BIT reads and
// writes them on the device (shaders/lib/codes.glsl), m signed, v unsigned.
//
// A record: 64 words of codes of m, 64 of v, element i in byte i % 4 of word i / 4; the f32 factors
// of m and of v; two words of 0, so that records stay aligned. Bytes for 8 of f32: 2.0625.
//
// Signed codes: bit 7 is the sign, 2^i + j of a magnitude is cell j of decade i; 0 is 0, 128 is 1.
// Unsigned codes: 2^(i+1) + j; 0 is 0, and no value above 0 takes it; 1 is 1.
#pragma once

#include <stdint.h>

// Of a record: its elements, words, words of codes of one kind, where the factors begin.
enum { CODES_ELEMENTS = 256, CODES_WORDS = 132, CODES_KIND_WORDS = 64, CODES_FACTOR = 128 };
enum codes_kind { CODES_SIGNED, CODES_UNSIGNED }; // of m; of v: which is where in a record

#define CODES_LEAST 1e-30 // a block whose largest magnitude is not above it is all 0

double   codes_value(uint32_t code, enum codes_kind kind);   // -1 .. 1
uint32_t codes_of(double value, enum codes_kind kind);       // of -1 .. 1
// Element `i` of a record.
double   codes_record_value(const uint32_t *record, enum codes_kind kind, uint32_t i);
uint32_t codes_record_code(const uint32_t *record, enum codes_kind kind, uint32_t i);
// The first of words [begin, begin + count) of records that is none a record may have (a factor
// that is not finite or negative, no zero behind the factors); count: none.
uint64_t codes_record_fault(const uint32_t *words, uint64_t begin, uint64_t count);
// All CODES_ELEMENTS elements of one kind: codes and factor.
void     codes_record_fill(uint32_t *record, enum codes_kind kind, const double *values);
