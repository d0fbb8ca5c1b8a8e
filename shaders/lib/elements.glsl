// SPDX-License-Identifier: MIT
// The walk of elementwise kernels: a workgroup has LANES * 16 elements (ELEMENTS_PER_LANE of
// src/kernel_table.c), a lane four vec4s of them. The includer calls EACH_QUAD { uses q } for whole
// vec4s and EACH_LEFT { uses e } for the count % 4 elements of the end. MORE_WORDS: push words
// behind the count.
#ifndef MORE_WORDS
#define MORE_WORDS
#endif
layout(push_constant, scalar) uniform push_words { uint count; MORE_WORDS };
const uint QUADS_PER_LANE = 4;
#define QUAD0 (group_index() * LANES * QUADS_PER_LANE)
#define EACH_QUAD                                                                                  \
    for (uint step = 0, q = QUAD0 + LANE; step < QUADS_PER_LANE; step++, q += LANES)               \
        if (q < count / 4)
#define EACH_LEFT                                                                                  \
    for (uint e = QUAD0 <= count / 4 && count / 4 < QUAD0 + LANES * QUADS_PER_LANE                 \
                      ? count / 4 * 4 + LANE : count; e < count; e += LANES)
