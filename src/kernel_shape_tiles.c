// SPDX-License-Identifier: MIT
// Shapes of the matmuls that go through shared memory (tile) and cooperative matrices (coop,
// coop2), from what the device says of itself: matrices, subgroups, shared memory, invocations. No
// vendors.
#include "src/base.h"
#include "src/kernel_shape.h"

// Tiles of a workgroup and what of them one subgroup (coop) or lane (tile) holds.
struct tile {
    uint32_t rows, columns, depth, part_rows, part_columns;
};

enum { SHARED_MOST = 32768 }; // always enough, so that two workgroups share a multiprocessor
// Workgroups that fill a large card about once: below, smaller tiles are worth their traffic.
enum { GROUPS_ENOUGH = 96 };

static uint64_t group_count(const struct kernel_shape *shape, const struct kernel_size *size)
{
    return (uint64_t)ceil_div(max_u32(size->rows, 1), shape->rows) *
           ceil_div(max_u32(size->columns, 1), shape->columns);
}

// How much a shape costs untuned: what it computes, needed or not, where there are workgroups
// enough, and more where some of the card would idle; smaller tiles load more for each product.
static double shape_cost(const struct kernel_shape *shape, const struct kernel_size *size,
                         bool grouped)
{
    const double groups = (double)group_count(shape, size);
    const double area = (double)shape->rows * shape->columns;
    // of grouped matmuls the size is one expert's: the others fill the card
    const double idle = !grouped && groups < GROUPS_ENOUGH ? GROUPS_ENOUGH / groups : 1;
    const double traffic = 1 + 24.0 / shape->rows + 24.0 / shape->columns;
    return groups * area * idle * traffic;
}

// The cheapest first, the others in their order.
static void best_first(struct kernel_shape *shape, uint32_t count, const struct kernel_size *size,
                       enum kernel_op op)
{
    const bool grouped = kernel_is_grouped(op) || op == KERNEL_MOE_MATMUL_TN;
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (shape_cost(&shape[i], size, grouped) < shape_cost(&shape[best], size, grouped))
            best = i;
    const struct kernel_shape first = count ? shape[best] : (struct kernel_shape){0};
    for (uint32_t i = best; count && i > 0; i--) shape[i] = shape[i - 1];
    if (count) shape[0] = first;
}

// ---- coop

// The matrix to use: the largest product of the types, of subgroup scope; NULL where there is none.
const struct gpu_matrix *kernel_matrix_of(const struct gpu_caps *caps, enum gpu_scalar in)
{
    const struct gpu_matrix *best = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < caps->matrix_count; i++) {
        const struct gpu_matrix *m = &caps->matrix[i];
        const bool known = m->in == in && m->out == GPU_SCALAR_F32 && m->m <= 16 && m->n <= 16 &&
                           m->k <= 32 && (m->m | m->n | m->k) % 8 == 0;
        if (known && m->scope == GPU_SCOPE_SUBGROUP && m->m * m->n * m->k > most)
            best = m, most = m->m * m->n * m->k;
    }
    return best;
}

// Lanes of a subgroup for a matrix. Where matrices of 8 rows come with a choice of sizes, one lane
// has one column (Intel); else the planned size. 0: a subgroup may have any size.
uint32_t kernel_matrix_subgroup(const struct gpu_caps *caps, const struct gpu_matrix *matrix)
{
    if (!(caps->mask & GPU_CAP_SIZE) && caps->subgroup_min != caps->subgroup_max) return 0;
    const bool fits = matrix->n >= caps->subgroup_min && matrix->n <= caps->subgroup_max;
    return matrix->m == 8 && fits ? matrix->n : caps->subgroup_size;
}

// Bytes of shared memory: `stage` of lib/coop.glsl and the maxima of its bf16 in f16 tiles. A
// panel's lines are at most as many, and so their padding, as it has rows.
static uint32_t coop_shared(const struct tile *t, const struct gpu_matrix *matrix, uint32_t pairs)
{
    const uint32_t columns = pairs * t->columns, part_columns = pairs * t->part_columns;
    const uint32_t lines = max_u32(t->rows, t->depth) + max_u32(columns, t->depth);
    const uint32_t panels = 2 * t->depth * (t->rows + columns) + 16 * lines;
    const uint32_t parts = t->rows / t->part_rows * (t->columns / t->part_columns);
    return max_u32(panels, parts * matrix->m * (4 * part_columns + 16)) + 8 * parts;
}

static bool coop_fits(const struct gpu_caps *caps, const struct tile *t,
                      const struct gpu_matrix *matrix, uint32_t subgroup, uint32_t pairs)
{
    const uint32_t parts = t->rows / t->part_rows * (t->columns / t->part_columns);
    return t->part_rows % matrix->m == 0 && pairs * t->part_columns % (matrix->n * pairs) == 0 &&
           t->depth % matrix->k == 0 && parts * subgroup <= caps->max_workgroup &&
           coop_shared(t, matrix, pairs) <= min_u32(SHARED_MOST, caps->shared_bytes);
}

static uint32_t coop_shapes(const struct gpu_caps *caps, enum kernel_op op, enum gpu_scalar in,
                            enum kernel_variant variant, const struct kernel_size *size,
                            struct kernel_shape *shape, uint32_t room)
{
    // the first two are for CPU drivers, which run them for the checks alone: lavapipe needs 16 s
    // to compile 64x64x32
    static const struct tile tiles[] = {
        {32, 32, 16, 16, 16},   {16, 32, 16, 8, 16},
        {128, 128, 32, 64, 64}, {128, 128, 32, 64, 32}, {128, 64, 32, 64, 32},
        {64, 128, 32, 32, 64},  {64, 64, 32, 32, 32},   {32, 64, 32, 16, 32},
        {32, 32, 32, 16, 16},   {16, 64, 64, 16, 16},
    };
    const struct gpu_matrix *matrix = kernel_matrix_of(caps, in);
    const uint32_t subgroup = matrix ? kernel_matrix_subgroup(caps, matrix) : 0;
    const uint32_t pairs = op == KERNEL_MOE_MATMUL_UP ? 2 : 1;
    uint32_t count = 0;
    for (size_t i = 0; i < COUNT_OF(tiles) && subgroup && count < room; i++) {
        const struct tile *t = &tiles[i];
        if ((caps->type == GPU_TYPE_CPU) != (i < 2)) continue;
        if (!coop_fits(caps, t, matrix, subgroup, pairs)) continue;
        shape[count++] = (struct kernel_shape){
            .lanes = t->rows / t->part_rows * (t->columns / t->part_columns) * subgroup,
            .rows = t->rows, .columns = t->columns, .spread = subgroup, .depth = t->depth,
            .part_rows = t->part_rows, .part_columns = t->part_columns,
            .coop = {matrix->m, matrix->n, matrix->k}, .variant = variant};
    }
    best_first(shape, count, size, op);
    return count;
}

// ---- coop2

// A tile of a workgroup, and its lanes.
struct coop2_tile { uint32_t rows, columns, depth, lanes; };

enum {
    COOP2_ALIGN = 16,    // tensors begin at multiples of so many bytes
    COOP2_LANE_SUMS = 128, // f32 sums a lane holds in registers
};

// The flexible matrix whose multiples a tile is; NULL where there is none.
static const struct gpu_matrix *flexible_of(const struct gpu_caps *caps, enum gpu_scalar in,
                                            enum gpu_scope scope, const struct coop2_tile *t)
{
    const uint32_t longest = max_u32(max_u32(t->rows, t->columns), t->depth);
    if (caps->flexible_max && longest > caps->flexible_max) return NULL;
    for (uint32_t i = 0; i < caps->flexible_count; i++) {
        const struct gpu_matrix *m = &caps->flexible[i];
        const bool whole = m->m && m->n && m->k && t->rows % m->m == 0 &&
                           t->columns % m->n == 0 && t->depth % m->k == 0;
        const bool lanes = scope == GPU_SCOPE_SUBGROUP || m->invocations == t->lanes;
        if (m->in == in && m->out == GPU_SCALAR_F32 && m->scope == scope && whole && lanes)
            return m;
    }
    return NULL;
}

static uint32_t coop2_add(const struct gpu_caps *caps, const struct gpu_matrix *matrix,
                          const struct coop2_tile *t, enum kernel_variant variant,
                          struct kernel_shape *shape)
{
    if (!matrix) return 0;
    *shape = (struct kernel_shape){
        .lanes = t->lanes, .rows = t->rows, .columns = t->columns, .spread = caps->subgroup_size,
        .depth = t->depth, .part_rows = t->rows, .part_columns = t->columns,
        .coop = {matrix->m, matrix->n, matrix->k}, .variant = variant};
    return 1;
}

// lib/coop2.glsl for CPU drivers: one subgroup, matrices of any size, no tensors.
static uint32_t staged_shapes(const struct gpu_caps *caps, enum gpu_scalar in,
                              struct kernel_shape *shape)
{
    const bool sized = caps->mask & GPU_CAP_SIZE || caps->subgroup_min == caps->subgroup_max;
    const struct coop2_tile tile = {16, 32, 16, caps->subgroup_size};
    if (caps->type != GPU_TYPE_CPU || !(caps->mask & GPU_CAP_COOP2) || !sized) return 0;
    return coop2_add(caps, flexible_of(caps, in, GPU_SCOPE_SUBGROUP, &tile), &tile,
                     KERNEL_COOP2_STAGED, shape);
}

static uint32_t coop2_shapes(const struct gpu_caps *caps, enum kernel_op op, enum gpu_scalar in,
                             const struct kernel_size *size, struct kernel_shape *shape,
                             uint32_t room)
{
    static const struct coop2_tile tiles[] = {
        {128, 256, 64, 256}, {256, 128, 64, 256}, {128, 128, 64, 256}, {128, 64, 64, 128},
        {64, 128, 64, 128},  {64, 64, 64, 128},   {32, 128, 64, 128},  {32, 64, 64, 128},
    };
    // gathering rows one by one needs addresses (lib/coop2.glsl)
    const uint32_t needed = GPU_CAP_COOP2 | GPU_CAP_TENSOR | GPU_CAP_ADDRESS;
    const uint32_t pairs = op == KERNEL_MOE_MATMUL_UP ? 2 : 1;
    uint32_t count = 0;
    if ((caps->mask & needed) != needed || caps->offset_alignment % COOP2_ALIGN) return 0;
    for (size_t i = 0; i < COUNT_OF(tiles) && count < room; i++) {
        const struct coop2_tile *t = &tiles[i];
        const uint32_t own = kernel_is_grouped(op) ? 4 * t->rows : 0;
        if (t->lanes > caps->max_workgroup || own + caps->reserved_shared > caps->shared_bytes ||
            pairs * t->rows * t->columns > COOP2_LANE_SUMS * t->lanes)
            continue;
        count += coop2_add(caps, flexible_of(caps, in, GPU_SCOPE_WORKGROUP, t), t, KERNEL_COOP2,
                           &shape[count]);
    }
    best_first(shape, count, size, op);
    return count;
}

// ---- tile

static uint32_t tile_shapes(const struct gpu_caps *caps, enum kernel_op op,
                            const struct kernel_size *size, struct kernel_shape *shape,
                            uint32_t room)
{
    static const struct tile tiles[] = {
        {32, 32, 16, 8, 4}, {16, 32, 8, 4, 4}, // CPU drivers
        {128, 128, 16, 8, 8}, {128, 64, 16, 8, 4}, {64, 128, 16, 8, 8}, {64, 64, 16, 8, 4},
        {64, 64, 32, 4, 4},   {32, 64, 32, 4, 4},  {32, 32, 32, 4, 4},  {16, 64, 16, 4, 4},
    };
    const uint32_t pairs = op == KERNEL_MOE_MATMUL_UP ? 2 : 1;
    uint32_t count = 0;
    for (size_t i = 0; i < COUNT_OF(tiles) && count < room; i++) {
        const struct tile *t = &tiles[i];
        const uint32_t lanes = t->rows / t->part_rows * (t->columns / t->part_columns);
        const uint32_t shared = 4 * t->depth * (t->rows + pairs * t->columns + 8);
        if ((caps->type == GPU_TYPE_CPU) != (i < 2) || lanes > caps->max_workgroup ||
            shared > min_u32(SHARED_MOST, caps->shared_bytes) ||
            pairs * t->part_rows * t->part_columns > 64)
            continue;
        shape[count++] = (struct kernel_shape){
            .lanes = lanes, .rows = t->rows, .columns = t->columns, .spread = 1,
            .depth = t->depth, .part_rows = t->part_rows, .part_columns = t->part_columns,
            .variant = KERNEL_TILE};
    }
    best_first(shape, count, size, op);
    return count;
}

uint32_t kernel_tile_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                                const struct kernel_size *size, struct kernel_shape *shape,
                                uint32_t room)
{
    uint32_t count = 0;
    if (store == DTYPE_BF16 && kernel_exists(op, store, KERNEL_COOP_BF16))
        count += coop_shapes(caps, op, GPU_SCALAR_BF16, KERNEL_COOP_BF16, size, shape, room);
    if (store != DTYPE_F32 && kernel_exists(op, store, KERNEL_COOP))
        count += coop_shapes(caps, op, GPU_SCALAR_F16, KERNEL_COOP, size, shape + count,
                             room - count);
    // behind coop, which it has to beat in the tuner: it has never run on a card
    const enum gpu_scalar in = store == DTYPE_BF16 ? GPU_SCALAR_BF16 : GPU_SCALAR_F16;
    if (store != DTYPE_F32 && kernel_exists(op, store, KERNEL_COOP2))
        count += coop2_shapes(caps, op, in, size, shape + count, room - count);
    if (store != DTYPE_F32 && kernel_exists(op, store, KERNEL_COOP2_STAGED) && count < room)
        count += staged_shapes(caps, in, shape + count);
    if (kernel_exists(op, store, KERNEL_TILE))
        count += tile_shapes(caps, op, size, shape + count, room - count);
    return count;
}
