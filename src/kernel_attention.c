// SPDX-License-Identifier: MIT
// How the attention family is cut up for a device (kernel_attention.h).
#include "src/kernel_attention.h"

#include "src/base.h"
#include "src/kernel_shape.h"

enum {
    TURNS = 61440,          // of a loop, with room below the 65,535 of CPU drivers
    PASS_LEAST = 1024,      // keys of a pass are a multiple on other devices
    CPU_GROUPS = 4,         // workgroups that attention_decode wants at least
    CARD_GROUPS = 1024,
    MOST_PARTS = 64,
    CPU_LEAST_KEYS = 512,   // keys of a part that pay for merging it
    VALUES = 32,            // of rows that a lane holds in one array
    TILE_SUBGROUPS = 4,
    TILE_BYTES = 16384,
    MOST_TILED = 64,
    TILE_LEAST_ROWS = 16,   // below, a row to itself is as good
    COOP_MOST_DIM = 128,    // sums and queries of a row of matrices are in registers
    COOP_SHARED = 32768,
};

static const double pass_flops = 3e11; // tens of milliseconds on a card, one second on a small one

static uint32_t power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least) power *= 2;
    return power;
}

// In one subgroup. CPU drivers: as many lanes a row as it has vec4s. Cards: 16 elements of a row a
// lane, fewer where it holds many rows: the kernels keep up to four such arrays in registers.
static struct kernel_shape shape_of(const struct gpu_caps *caps, uint32_t head_dim, uint32_t held,
                                    uint32_t values)
{
    const uint32_t sure = caps->mask & GPU_CAP_SIZE
                              ? caps->subgroup_size
                              : min_u32(caps->subgroup_size, caps->subgroup_min);
    const bool cpu = caps->type == GPU_TYPE_CPU;
    struct kernel_shape shape = {max_u32(sure, 4), .rows = held, .spread = 1, .depth = head_dim};
    const uint32_t each = cpu ? 4 : max_u32(min_u32(values / held, 16), 4);
    shape.columns = min_u32(power_of_two(ceil_div(head_dim, each)), shape.lanes);
    return shape;
}

// CPU drivers: as many rows a team as compile within a second. One load of 25 ns serves them all.
static uint32_t most_held(const struct gpu_caps *caps, enum kernel_op op, uint32_t head_dim)
{
    if (op == KERNEL_ATTENTION_DECODE) return head_dim <= 128 ? 8 : 4;
    if (caps->type != GPU_TYPE_CPU) return 1;
    return head_dim <= 64 ? 16 : head_dim <= 128 ? 8 : 4;
}

// Rows of attention_decode are the heads of a group.
static uint32_t decode_held(const struct gpu_caps *caps, uint32_t head_dim, uint32_t group)
{
    return min_u32(power_of_two(group), most_held(caps, KERNEL_ATTENTION_DECODE, head_dim));
}

// Through shared memory: four subgroups, and as many rows of the other side at a time as 16 KiB of
// both operands are. False where the shader cannot.
static bool tile_shape(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                       uint32_t head_dim, struct kernel_shape *shape)
{
    const bool forward = kernel_plain_of(op) == KERNEL_ATTENTION; // backward keeps more of each row
    const uint32_t row = 2 * head_dim * (uint32_t)dtype_bytes(store);
    const uint32_t tiled = min_u32(TILE_BYTES / row / 4 * 4, MOST_TILED);
    *shape = forward ? shape_of(caps, head_dim, 4, 32) : shape_of(caps, head_dim, 2, 16);
    shape->lanes = TILE_SUBGROUPS * shape->lanes;
    shape->part_rows = tiled;
    shape->variant = KERNEL_TILE;
    return op != KERNEL_ATTENTION_DECODE && op != KERNEL_ATTENTION_MERGE && head_dim % 4 == 0 &&
           shape->lanes <= caps->max_workgroup &&
           (caps->mask & GPU_CAP_SIZE || caps->subgroup_min == caps->subgroup_max) &&
           tiled * (row + 8) <= caps->shared_bytes;
}

// attention_coop.comp: rows of one matrix a subgroup. False where the device or the head cannot.
static bool coop_shape(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                       uint32_t head_dim, struct kernel_shape *shape)
{
    if (store == DTYPE_F32 || !kernel_exists(op, store, KERNEL_COOP)) return false;
    const struct gpu_matrix *const x = kernel_matrix_of(caps, GPU_SCALAR_F16);
    const uint32_t subgroup = x ? kernel_matrix_subgroup(caps, x) : 0;
    if (!subgroup || subgroup % x->m || head_dim > COOP_MOST_DIM) return false;
    const bool cpu = caps->type == GPU_TYPE_CPU; // only checks run it there: quick to compile
    const uint32_t parts = cpu ? 2 : 4, keys = cpu ? 16 : 32, rows = parts * x->m;
    const uint32_t tiles = max_u32(2 * keys, rows) * (2 * head_dim + 16);
    const uint32_t slots = parts * x->m * 4 * (keys + 4 + x->n + 4);
    *shape = (struct kernel_shape){.lanes = parts * subgroup, .rows = rows, .columns = keys,
                                   .spread = subgroup, .depth = head_dim, .part_rows = x->m,
                                   .coop = {x->m, x->n, x->k}, .variant = KERNEL_COOP};
    return head_dim % x->n == 0 && head_dim % x->k == 0 && head_dim % 8 == 0 &&
           keys % x->n == 0 && keys % x->k == 0 && keys / (subgroup / x->m) % 8 == 0 &&
           shape->lanes <= caps->max_workgroup &&
           tiles + slots + 8 * parts <= min_u32(caps->shared_bytes, COOP_SHARED);
}

uint32_t kernel_attention_candidates(const struct gpu_caps *caps, enum kernel_op op,
                                     enum dtype store, const struct kernel_size *size,
                                     struct kernel_shape shape[KERNEL_MAX_CANDIDATES])
{
    const uint32_t most = most_held(caps, op, size->rows);
    uint32_t count = 0;
    if (op != KERNEL_ATTENTION_DECODE) {
        const struct kernel_shape flat = shape_of(caps, size->rows, most, VALUES);
        struct kernel_shape tile, coop;
        const bool matrices = coop_shape(caps, op, store, size->rows, &coop);
        const bool tiled = caps->type != GPU_TYPE_CPU &&
                           tile_shape(caps, op, store, size->rows, &tile);
        const bool few = size->columns * size->inner < TILE_LEAST_ROWS;
        const bool cpu = caps->type == GPU_TYPE_CPU;
        if (matrices && !few && !cpu) shape[count++] = coop;
        if (tiled && !few) shape[count++] = tile;
        shape[count++] = flat;
        if (tiled && few) shape[count++] = tile;
        // fewer rows where the self-test finds these wrong: CPU drivers miscompile long kernels
        // (attention_back_q.comp had a branch too many for Mesa 26.1.6's lavapipe)
        if (most > 1) shape[count++] = shape_of(caps, size->rows, most / 2, VALUES);
        if (matrices && (few || cpu)) shape[count++] = coop;
        return count;
    }
    const uint32_t first = decode_held(caps, size->rows, size->columns);
    shape[count++] = shape_of(caps, size->rows, first, VALUES);
    for (uint32_t held = most; held; held /= 2)
        if (held != first) shape[count++] = shape_of(caps, size->rows, held, VALUES);
    return count;
}

uint32_t kernel_decode_parts(const struct gpu_caps *caps, const struct push_attention *p)
{
    const bool cpu = caps->type == GPU_TYPE_CPU;
    const uint32_t group = p->heads / p->kv_heads;
    const uint32_t each = p->kv_heads * ceil_div(group, decode_held(caps, p->head_dim, group));
    const uint32_t keys = p->window ? min_u32(p->window, p->stride) : p->stride;
    const uint32_t fill = min_u32(ceil_div(cpu ? CPU_GROUPS : CARD_GROUPS, each), MOST_PARTS);
    const uint32_t worth = ceil_div(keys, cpu ? CPU_LEAST_KEYS : KERNEL_DECODE_LEAST);
    return max_u32(max_u32(min_u32(fill, worth), ceil_div(keys, TURNS)), 1);
}

uint32_t kernel_attention_span(const struct gpu_caps *caps, enum kernel_op op,
                               const struct push_attention *p)
{
    const bool kv = kernel_plain_of(op) == KERNEL_ATTENTION_BACK_KV;
    if (caps->type == GPU_TYPE_CPU)
        return kv ? max_u32(TURNS / (p->heads / p->kv_heads), 1) : TURNS;
    const double flops = kv ? 8 : kernel_plain_of(op) == KERNEL_ATTENTION ? 4 : 6;
    const double each = flops * p->batch * p->seq * p->heads * p->head_dim; // of a key
    return (uint32_t)(1 + (uint64_t)(pass_flops / each) / PASS_LEAST) * PASS_LEAST;
}
