// SPDX-License-Identifier: MIT
// How attention_decode cuts the visible keys into parts: src/kernel_attention.h has the same.
// After lib/attention.glsl and the step buffer `words`.
uint decode_end() { return min(words.base + 1, stride); }

uint decode_chunk(uint keys) { return ((keys + parts - 1) / parts + 63) / 64 * 64; }
