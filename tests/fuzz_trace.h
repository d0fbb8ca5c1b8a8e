// SPDX-License-Identifier: MIT
// Damaged traces, for the fuzzers of those who read them.
#pragma once

#include <string.h>

#include "src/trace_format.h"

// The checks of mutated records put right, as far as their sizes lead on: else nothing behind them
// would be tried.
static inline void fuzz_trace_checks(uint8_t *data, size_t size)
{
    uint32_t at = 0;
    if (size < TRACE_HEADER) return;
    memcpy(&at, data + 12, sizeof at);
    for (struct trace_head head; at <= size && size - at >= TRACE_RECORD;) {
        memcpy(&head, data + at, TRACE_RECORD);
        if (head.bytes > size - at - TRACE_RECORD) return;
        head.check = trace_check(&head, data + at + TRACE_RECORD);
        memcpy(data + at, &head, TRACE_RECORD);
        at += TRACE_RECORD + head.bytes;
    }
}
