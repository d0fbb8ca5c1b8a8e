// SPDX-License-Identifier: MIT
// The statistics of a router: enum kernel_router_stats of src/kernel.h, and what is behind it.
// The includer has `experts`, or says of how many they are.
#ifndef STAT_EXPERTS
#define STAT_EXPERTS experts
#endif
const uint STAT_BALANCE = 0, STAT_Z = 1, STAT_ENTROPY = 2, STAT_POOLED = 3, STAT_VARIANCE = 4,
           STAT_MEAN_ENTROPY = 5, STAT_IMPORTANCE = 6, STAT_Z_SQUARE = 7, STAT_PICKS = 8,
           STAT_KEPT = 9, STAT_LEAST_ENTROPY = 10, STAT_HEAD = 16;
uint stat_count(uint e) { return STAT_HEAD + e; }
uint stat_mean(uint e) { return STAT_HEAD + STAT_EXPERTS + e; }
uint stat_step(uint e) { return STAT_HEAD + 2 * STAT_EXPERTS + e; }
