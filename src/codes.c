// SPDX-License-Identifier: MIT
// Codes of 8 bits and records of them: see codes.h.
#include "src/codes.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "src/base.h"

static const double power[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1}; // the end of each decade

double codes_value(uint32_t code, enum codes_kind kind)
{
    const uint32_t c = kind == CODES_SIGNED ? code & 127 : code;
    if (c <= (uint32_t)kind) return code ? 1 : 0;
    const int bits = ilogb(c), decade = bits - (int)kind;
    const double place = (c + 0.5) / (double)(1u << bits) - 1; // 0 .. 1
    const double size = power[decade] * (0.1 + 0.9 * place);
    return kind == CODES_SIGNED && code & 128 ? -size : size;
}

static double top_of(enum codes_kind kind) // half way from the largest cell's middle to 1
{
    return (1 + codes_value(kind == CODES_SIGNED ? 127 : 255, kind)) / 2;
}

uint32_t codes_of(double value, enum codes_kind kind)
{
    const double size = fabs(value);
    if (value >= top_of(kind)) return kind == CODES_SIGNED ? 128 : 1;
    if (kind == CODES_SIGNED ? size < codes_value(1, kind) / 2 : size <= 0) return 0;
    int decade = 0;
    while (decade < 6 && size >= power[decade]) decade++;
    const double cells = (double)(1u << (decade + (int)kind));
    const double place = (size / power[decade] - 0.1) / 0.9;
    const double cell = fmin(fmax(floor(place * cells), 0), cells - 1);
    return (uint32_t)(cells + cell) | (kind == CODES_SIGNED && value < 0 ? 128 : 0);
}

uint32_t codes_record_code(const uint32_t *record, enum codes_kind kind, uint32_t i)
{
    return record[CODES_KIND_WORDS * (uint32_t)kind + i / 4] >> 8 * (i % 4) & 255;
}

double codes_record_value(const uint32_t *record, enum codes_kind kind, uint32_t i)
{
    float factor;
    memcpy(&factor, &record[CODES_FACTOR + kind], sizeof factor);
    return (double)factor * codes_value(codes_record_code(record, kind, i), kind);
}

void codes_record_fill(uint32_t *record, enum codes_kind kind, const double *values)
{
    double most = 0;
    for (uint32_t i = 0; i < CODES_ELEMENTS; i++) most = fmax(most, fabs(values[i]));
    const float factor = most > CODES_LEAST ? (float)most : 0;
    uint32_t *words = record + CODES_KIND_WORDS * (uint32_t)kind;
    memset(words, 0, CODES_KIND_WORDS * sizeof *words);
    for (uint32_t i = 0; factor > 0 && i < CODES_ELEMENTS; i++)
        words[i / 4] |= codes_of(values[i] / (double)factor, kind) << 8 * (i % 4);
    memcpy(&record[CODES_FACTOR + kind], &factor, sizeof factor);
    if (kind == CODES_UNSIGNED) memset(&record[CODES_FACTOR + 2], 0, 2 * sizeof *record);
}

uint64_t codes_record_fault(const uint32_t *words, uint64_t begin, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = (begin + i) % CODES_WORDS;
        float factor;
        memcpy(&factor, &words[i], sizeof factor);
        const bool good = at < CODES_FACTOR || (at < CODES_FACTOR + 2
                                                    ? isfinite(factor) && factor >= 0
                                                    : words[i] == 0);
        if (!good) return i;
    }
    return count;
}
