// SPDX-License-Identifier: MIT
// What the writer and the reader of a trace share: the heads of files and records (trace.h).
#pragma once

#include "trace.h"

enum { TRACE_HEADER = 40, TRACE_RECORD = 16, TRACE_GATE_LEVELS = 255 }; // bytes, and a byte's most

struct trace_head { uint32_t bytes, check, step; uint16_t layer; uint8_t kind, zero; };

static const char trace_magic[8] = {'v', 'k', 'm', 'o', 'e', 't', 'r', 'c'};

static inline uint32_t trace_check(const struct trace_head *head, const uint8_t *payload)
{
    uint32_t hash = 0x811c9dc5u;
    const uint8_t *own = (const uint8_t *)head + 8;
    for (int i = 0; i < 8; i++) hash = (hash ^ own[i]) * 0x01000193u;
    for (uint32_t i = 0; i < head->bytes; i++) hash = (hash ^ payload[i]) * 0x01000193u;
    return hash;
}
