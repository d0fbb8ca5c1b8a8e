// SPDX-License-Identifier: MIT
// The rotary position table: see rope.h.
#include "src/rope.h"

#include <math.h>
#include <stdlib.h>

struct gpu_buffer *rope_table(struct gpu *gpu, const struct config *config, uint32_t positions)
{
    const uint32_t half = config->head_dim / 2;
    const uint64_t bytes = (uint64_t)positions * half * 2 * sizeof(float);
    struct gpu_buffer *buffer =
        gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = "rope table", .bytes = bytes});
    float *table = buffer ? malloc(bytes) : NULL;
    if (!table) {
        gpu_buffer_destroy(gpu, &buffer);
        return NULL;
    }
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t i = 0; i < half; i++) {
            const double angle = p * pow(config->rope_theta, -2.0 * i / config->head_dim);
            table[2 * ((size_t)p * half + i)] = (float)cos(angle);
            table[2 * ((size_t)p * half + i) + 1] =
                (float)(config->rope_inverse ? -sin(angle) : sin(angle));
        }
    const bool ok = gpu_buffer_write(gpu, buffer, 0, table, bytes);
    free(table);
    if (!ok) gpu_buffer_destroy(gpu, &buffer);
    return buffer;
}
