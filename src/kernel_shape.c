// SPDX-License-Identifier: MIT
// How kernels are shaped for a device: the candidates of each operation and size, of which the
// tuner measures the best and the first is taken untuned.
#include "src/kernel_shape.h"

#include <string.h>

#include "src/base.h"
#include "src/kernel_attention.h"

const char *kernel_variant_name(enum kernel_variant variant)
{
    static const char *const names[KERNEL_VARIANTS] = {"flat", "tile", "coop", "coop_bf16",
                                                        "coop2", "coop2_staged", "texel"};
    return names[variant];
}

bool kernel_is_flat(const struct kernel_shape *shape)
{
    return shape->variant == KERNEL_FLAT || shape->variant == KERNEL_TEXEL;
}

bool kernel_is_matvec(enum kernel_op op)
{
    return op == KERNEL_MATVEC || op == KERNEL_MATVECF;
}

bool kernel_is_grouped(enum kernel_op op)
{
    return op == KERNEL_MOE_MATMUL_UP || op == KERNEL_MOE_MATMUL_ACT ||
           op == KERNEL_MOE_MATMUL_NT || op == KERNEL_MOE_MATMUL_NTF ||
           op == KERNEL_MOE_MATMUL_NN;
}

static bool is_transposed(enum kernel_op op) // loads rows in fours
{
    return op == KERNEL_MATMUL_TN || op == KERNEL_MOE_MATMUL_TN;
}

bool kernel_is_matmul(enum kernel_op op)
{
    return op == KERNEL_MATMUL_NT || op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_NN ||
           op == KERNEL_MATMUL_NNF || is_transposed(op) || kernel_is_grouped(op);
}

enum kernel_form kernel_form_of(enum kernel_op op)
{
    if (is_transposed(op)) return FORM_TN;
    const bool nn = op == KERNEL_MATMUL_NN || op == KERNEL_MATMUL_NNF || op == KERNEL_MOE_MATMUL_NN;
    return nn ? FORM_NN : FORM_NT;
}

bool kernel_is_attention(enum kernel_op op)
{
    return op == KERNEL_ATTENTION || op == KERNEL_ATTENTION_BACK_Q ||
           op == KERNEL_ATTENTION_BACK_KV || op == KERNEL_ATTENTION_DECODE ||
           op == KERNEL_ATTENTION_MERGE || kernel_plain_of(op) != op;
}

enum kernel_op kernel_plain_of(enum kernel_op op)
{
    if (op == KERNEL_ATTENTION_WITHIN) return KERNEL_ATTENTION;
    if (op == KERNEL_ATTENTION_BACK_Q_WITHIN) return KERNEL_ATTENTION_BACK_Q;
    return op == KERNEL_ATTENTION_BACK_KV_WITHIN ? KERNEL_ATTENTION_BACK_KV : op;
}

// ---- flat matmuls

// Rows a lane holds. Every value of B that is loaded serves all of them, so the more the better
// while there are rows; 32 need 128 registers for the sums alone, which CPU drivers keep in the
// first-level cache anyway.
static uint32_t flat_rows(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows)
{
    if (kernel_is_matvec(op)) return 1;
    if (rows >= 48 && caps->type == GPU_TYPE_CPU && !kernel_is_grouped(op)) return 32;
    // moe_matmul_up holds two sums for each element: 16 rows of them spill on AMD's gfx1100
    if (rows >= 6 && caps->type != GPU_TYPE_CPU && kernel_is_grouped(op)) return 8;
    if (rows >= 12) return 16;
    return rows >= 3 || is_transposed(op) ? 4 : 1;
}

static struct kernel_shape flat_shape(const struct gpu_caps *caps, uint32_t rows)
{
    struct kernel_shape shape = {.lanes = max_u32(caps->subgroup_size, 4),
                                 .rows = rows,
                                 .columns = 4,
                                 .spread = 1};
    // without a required size a subgroup may be as small as the smallest: still one a workgroup
    if (!(caps->mask & GPU_CAP_SIZE)) shape.lanes = max_u32(caps->subgroup_min, 4);
    // cards broadcast a load of the same address by all lanes; CPU drivers do it lane by lane
    if (caps->type == GPU_TYPE_CPU) shape.spread = min_u32(shape.lanes, min_u32(shape.rows, 16));
    return shape;
}

static bool flat_holds(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows)
{
    const bool cpu = caps->type == GPU_TYPE_CPU;
    if (rows == 1) return !is_transposed(op);
    if (rows == 8) return !cpu;
    if (rows == 16) return cpu || !kernel_is_grouped(op);
    return rows == 4 || cpu;
}

// Whether rows of A or B begin at elements that are no multiples of four, or k ends there.
static bool is_ragged(enum kernel_op op, const struct kernel_size *size)
{
    switch (kernel_form_of(op)) {
    case FORM_NT: return size->inner % 4 != 0;
    case FORM_NN: return (size->inner | size->columns) % 4 != 0;
    case FORM_TN: return (size->rows | size->columns) % 4 != 0;
    }
    return true;
}

// Two quads of k in a turn of the loop are 1.1 to 1.2 times as fast on CPU drivers
// (lib/matmul.glsl) and take twice as long to compile: where the work is about a millisecond.
static uint32_t flat_depth(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows,
                           const struct kernel_size *size)
{
    static const double much = 1 << 24;
    const double work = (double)size->rows * size->columns * size->inner;
    if (caps->type != GPU_TYPE_CPU || rows < 16 || work < much || is_ragged(op, size)) return 4;
    return kernel_form_of(op) == FORM_TN || size->inner % 8 == 0 ? 8 : 4;
}

static uint32_t flat_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                                const struct kernel_size *size,
                                struct kernel_shape shape[KERNEL_MAX_CANDIDATES])
{
    static const uint32_t rows[] = {32, 16, 8, 4, 1};
    const uint32_t first = flat_rows(caps, op, size->rows);
    uint32_t count = 0;
    shape[count++] = flat_shape(caps, first);
    for (size_t i = 0; i < COUNT_OF(rows) && !kernel_is_matvec(op); i++)
        if (rows[i] != first && flat_holds(caps, op, rows[i]))
            shape[count++] = flat_shape(caps, rows[i]);
    for (uint32_t i = 0; i < count; i++) {
        shape[i].ragged = is_ragged(op, size);
        shape[i].depth = flat_depth(caps, op, shape[i].rows, size);
    }
    // CPU drivers: each as texel, and the first as it is
    if (caps->type == GPU_TYPE_CPU && caps->mask & GPU_CAP_TEXEL &&
        kernel_exists(op, store, KERNEL_TEXEL)) {
        const struct kernel_shape plain = shape[0];
        for (uint32_t i = 0; i < count; i++) shape[i].variant = KERNEL_TEXEL;
        shape[count++] = plain;
    }
    return count;
}

// CPU drivers: flat first, the rest for the checks. Cards: flat last, but where there are few rows.
static uint32_t matmul_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                                  const struct kernel_size *size,
                                  struct kernel_shape shape[KERNEL_MAX_CANDIDATES])
{
    struct kernel_shape flat[KERNEL_MAX_CANDIDATES], tile[KERNEL_MAX_CANDIDATES];
    const uint32_t flats = flat_candidates(caps, op, store, size, flat);
    const uint32_t tiles =
        kernel_tile_candidates(caps, op, store, size, tile, KERNEL_MAX_CANDIDATES - flats);
    const bool first = caps->type == GPU_TYPE_CPU || size->rows < 8;
    memcpy(shape + (first ? 0 : tiles), flat, flats * sizeof *flat);
    memcpy(shape + (first ? flats : 0), tile, tiles * sizeof *tile);
    return flats + tiles;
}

uint32_t kernel_texels(enum kernel_op op, enum kernel_variant variant)
{
    if (variant != KERNEL_TEXEL) return 0;
    switch ((int)op) {
    case KERNEL_MOE_MATMUL_UP: return 1 << 0 | 1 << 3 | 1 << 4;
    case KERNEL_MOE_MATMUL_ACT: return 1 << 0 | 1 << 3;
    case KERNEL_MOE_MATMUL_NT: case KERNEL_MOE_MATMUL_NTF: return 1 << 0 | 1 << 2;
    case KERNEL_MOE_MATMUL_NN: return 1 << 0 | 1 << 3 | 1 << 5 | 1 << 6;
    case KERNEL_TOKEN_LINEAR:
    case KERNEL_TOKEN_LINEARF:
    case KERNEL_TOKEN_ROUTER: return 1 << 0 | 1 << 1 | 1 << 2;
    case KERNEL_TOKEN_UP: return 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4;
    case KERNEL_TOKEN_DOWN: return 1 << 0 | 1 << 3;
    }
    return 1 << 0 | 1 << 1;
}

// ---- all

static bool is_of_one_token(enum kernel_op op)
{
    return op == KERNEL_TOKEN_LINEAR || op == KERNEL_TOKEN_LINEARF || op == KERNEL_TOKEN_ROUTER ||
           op == KERNEL_TOKEN_UP || op == KERNEL_TOKEN_DOWN;
}

// The more columns share the loads of the token, the better; cards have registers for fewer. CPU
// drivers gather texels where rows are whole texels.
static uint32_t token_candidates(const struct gpu_caps *caps, const struct kernel_size *size,
                                 struct kernel_shape shape[KERNEL_MAX_CANDIDATES])
{
    static const uint32_t columns[] = {16, 8};
    const bool cpu = caps->type == GPU_TYPE_CPU, whole = size->inner > 0 && size->inner % 4 == 0;
    uint32_t count = 0;
    for (int texel = cpu && whole && caps->mask & GPU_CAP_TEXEL; texel >= 0; texel--)
        for (int i = cpu ? 0 : 1; i < 2; i++) {
            struct kernel_shape *s = &shape[count++];
            *s = flat_shape(caps, 1);
            s->columns = columns[i];
            s->variant = texel ? KERNEL_TEXEL : KERNEL_FLAT;
            s->depth = whole;
        }
    return count;
}

static struct kernel_shape plain_shape(const struct gpu_caps *caps, enum kernel_op op)
{
    if (op == KERNEL_HEADS) return flat_shape(caps, 1); // one subgroup
    struct kernel_shape shape = {.lanes = max_u32(caps->subgroup_size, 4),
                                 .rows = 1,
                                 .columns = 4,
                                 .spread = 1};
    if (op == KERNEL_NORM_BACK_WEIGHT && caps->type != GPU_TYPE_CPU) // rows across lanes
        shape.lanes = min_u32(4 * shape.lanes, min_u32(caps->max_workgroup, 256));
    return shape;
}

uint32_t kernel_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                           const struct kernel_size *size,
                           struct kernel_shape shape[KERNEL_MAX_CANDIDATES])
{
    if (kernel_is_attention(op)) return kernel_attention_candidates(caps, op, store, size, shape);
    if (kernel_is_matmul(op) || kernel_is_matvec(op))
        return matmul_candidates(caps, op, store, size, shape);
    if (is_of_one_token(op)) return token_candidates(caps, size, shape);
    return shape[0] = plain_shape(caps, op), 1;
}

uint32_t kernel_group_columns(enum kernel_op op, const struct kernel_shape *shape)
{
    if (!kernel_is_flat(shape)) return shape->columns;
    // K across the lanes: lib/matvec.glsl
    const bool lanes_share = kernel_is_matvec(op) ||
                             (shape->rows == 1 && kernel_is_grouped(op) &&
                              op != KERNEL_MOE_MATMUL_NN);
    return lanes_share ? shape->columns : shape->lanes * shape->columns;
}

uint32_t kernel_moe_columns(enum kernel_op op, const struct kernel_shape *shape, uint32_t cols)
{
    return ceil_div(cols, kernel_group_columns(op, shape));
}

static struct kernel_size token_size(enum kernel_op op, const void *push)
{
    const struct push_token_linear *linear = push;
    const struct push_token_router *router = push;
    const struct push_token_moe *moe = push;
    if (op == KERNEL_TOKEN_ROUTER) return (struct kernel_size){1, router->experts, router->k};
    if (op == KERNEL_TOKEN_UP || op == KERNEL_TOKEN_DOWN)
        return (struct kernel_size){1, moe->n, moe->k};
    return (struct kernel_size){1, linear->n, linear->k};
}

struct kernel_size kernel_size_of(enum kernel_op op, uint32_t rows, const void *push)
{
    if (kernel_is_grouped(op) || op == KERNEL_MOE_MATMUL_TN) {
        const struct push_moe_matmul *p = push;
        if (op == KERNEL_MOE_MATMUL_TN) return (struct kernel_size){p->m, p->n, rows};
        return (struct kernel_size){rows, p->n, p->k};
    }
    if (kernel_is_matmul(op) || kernel_is_matvec(op)) {
        const struct push_matmul *p = push;
        const uint32_t odd = (p->lda | p->ldb) % 4 != 0;
        return (struct kernel_size){p->m | odd, p->n | odd, p->k | odd};
    }
    if (kernel_is_attention(op)) {
        const struct push_attention *p = push;
        return (struct kernel_size){p->head_dim, p->heads / p->kv_heads, p->seq};
    }
    if (is_of_one_token(op)) return token_size(op, push);
    return (struct kernel_size){.rows = rows};
}
