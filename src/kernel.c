// SPDX-License-Identifier: MIT
// The table of operations and the kernels of one device. A row ties together the reference, the
// binding access, the grid and the cost; the SPIR-V comes from shaders/meson.build by the same
// name.
#include "src/kernel.h"

#include <string.h>

#include "kernel_spirv.h"
#include "src/base.h"
#include "runtime/log.h"
#include "src/ref/ref.h"

// ---- grids. A kernel finds its index as x + y * gridDim.x (lib/head.glsl) and checks it.

enum { GRID_FOLD = 32768 };

static void fold(uint64_t count, uint32_t groups[3])
{
    groups[0] = (uint32_t)min_u64(max_u64(count, 1), GRID_FOLD);
    groups[1] = (uint32_t)((count + groups[0] - 1) / groups[0]);
    groups[1] = max_u32(groups[1], 1);
    groups[2] = 1;
}

// one workgroup a row
#define GROUPS_ROWS(op, type, expression)                                                         \
    static void groups_##op(const void *push, const struct kernel_shape *shape,                  \
                            uint32_t groups[3])                                                  \
    {                                                                                             \
        const struct type *p = push;                                                              \
        (void)shape, (void)p;                                                                     \
        fold((uint64_t)(expression), groups);                                                     \
    }

// elements a lane of an elementwise kernel handles, as vec4 steps of the whole workgroup
enum { ELEMENTS_PER_LANE = 16 };
enum { NORM_COLUMNS = 16 }; // columns of a workgroup of norm_back_weight

// (query, head) rows, or keys, that a workgroup of the attention family holds: lib/attention.glsl
static uint32_t attention_rows(const struct kernel_shape *shape)
{
    return shape->lanes / shape->columns * shape->rows;
}

GROUPS_ROWS(embed, push_embed, p->rows)
GROUPS_ROWS(embed_back, push_embed, (uint64_t)p->rows * ceil_div(p->cols, 4 * shape->lanes))
GROUPS_ROWS(one, push_count, 1)
GROUPS_ROWS(norm, push_norm, p->rows)
GROUPS_ROWS(norm_columns, push_norm, ceil_div(p->cols, NORM_COLUMNS))
GROUPS_ROWS(delta, push_norm, ceil_div(p->rows, shape->lanes))
GROUPS_ROWS(rope, push_rope, p->tokens)
GROUPS_ROWS(cache_write, push_cache_write, p->rows)
GROUPS_ROWS(attention, push_attention,
            (uint64_t)p->batch * p->kv_heads *
                ceil_div(p->seq * (p->heads / p->kv_heads), attention_rows(shape)))
GROUPS_ROWS(attention_kv, push_attention,
            (uint64_t)p->batch * p->kv_heads * ceil_div(p->seq, attention_rows(shape)))
GROUPS_ROWS(attention_decode, push_attention, p->heads)
GROUPS_ROWS(elements, push_count, ceil_div(p->count, shape->lanes * ELEMENTS_PER_LANE))
// up to so many experts a lane has a token, else a workgroup (lib/router.glsl)
enum { ROUTER_NARROW = 32 };
GROUPS_ROWS(router, push_router,
            p->experts <= ROUTER_NARROW ? ceil_div(p->tokens, shape->lanes) : p->tokens)
GROUPS_ROWS(router_stats, push_router, ceil_div(p->experts, shape->lanes) + 1)
GROUPS_ROWS(moe_blocks, push_moe_sort, p->blocks)
GROUPS_ROWS(moe_combine, push_moe_combine, p->tokens)
GROUPS_ROWS(moe_combine_back, push_moe_combine, (uint64_t)p->tokens * p->top_k)
GROUPS_ROWS(loss, push_loss, p->rows)
GROUPS_ROWS(grad_norm, push_sum, ceil_div(p->count, p->block))
GROUPS_ROWS(adamw, push_adamw, ceil_div(p->count, shape->lanes * ELEMENTS_PER_LANE))

static void groups_matmul(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_matmul *p = push;
    groups[0] = ceil_div(p->n, shape->lanes * shape->columns);
    groups[1] = ceil_div(p->m, shape->rows);
    groups[2] = 1;
}

static void groups_matvec(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_matmul *p = push;
    groups[0] = ceil_div(p->n, shape->columns);
    groups[1] = ceil_div(p->m, shape->rows);
    groups[2] = 1;
}

static void groups_moe_tn(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_moe_matmul *p = push;
    groups[0] = ceil_div(p->n, shape->lanes * shape->columns);
    groups[1] = ceil_div(p->m, shape->rows);
    groups[2] = p->experts;
}

// ---- costs

#define COST(name, type, flop_expression, byte_expression)                                        \
    static double flops_##name(const void *push)                                                  \
    {                                                                                             \
        const struct type *p = push;                                                              \
        (void)p;                                                                                  \
        return (double)(flop_expression);                                                         \
    }                                                                                             \
    static double bytes_##name(const void *push, uint32_t store)                                  \
    {                                                                                             \
        const struct type *p = push;                                                              \
        (void)p, (void)store;                                                                     \
        return (double)(byte_expression);                                                         \
    }

#define D(x) ((double)(x))
COST(embed, push_embed, 0, 2 * D(p->rows) * p->cols * store)
COST(embed_back, push_embed, D(p->rows) * p->cols, D(p->rows) * p->cols * (store + 8))
COST(select_row, push_embed, 0, 2 * D(p->cols) * store)
COST(norm, push_norm, 4 * D(p->rows) * p->cols, 2 * D(p->rows) * p->cols * store)
COST(norm_back, push_norm, 8 * D(p->rows) * p->cols, 3 * D(p->rows) * p->cols * store)
COST(norm_back_weight, push_norm, 3 * D(p->rows) * p->cols, 2 * D(p->rows) * p->cols * store)
COST(matmul, push_matmul, 2 * D(p->m) * p->n * p->k,
     (D(p->m) * p->k + D(p->n) * p->k + D(p->m) * p->n) * store)
COST(matmul_tn, push_matmul, 2 * D(p->m) * p->n * p->k,
     (D(p->m) * p->k + D(p->n) * p->k) * store + D(p->m) * p->n * 8)
COST(rope, push_rope, 3 * D(p->tokens) * p->heads * p->head_dim,
     2 * D(p->tokens) * p->heads * p->head_dim * store)
COST(cache_write, push_cache_write, 0, 2 * D(p->rows) * p->cols * store)
// causal: half of the square
COST(attention, push_attention, 2 * D(p->batch) * p->seq * p->seq * p->heads * p->head_dim,
     D(p->batch) * p->seq * (2 * p->heads + 2 * p->kv_heads) * p->head_dim * store)
COST(attention_back_q, push_attention, 3 * D(p->batch) * p->seq * p->seq * p->heads * p->head_dim,
     D(p->batch) * p->seq * (3 * p->heads + 2 * p->kv_heads) * p->head_dim * store)
COST(attention_back_kv, push_attention, 4 * D(p->batch) * p->seq * p->seq * p->heads * p->head_dim,
     D(p->batch) * p->seq * (2 * p->heads + 4 * p->kv_heads) * p->head_dim * store)
COST(attention_decode, push_attention, 4 * D(p->stride) * p->heads * p->head_dim,
     2 * D(p->stride) * p->kv_heads * p->head_dim * store)
COST(swiglu, push_count, 4 * D(p->count), 3 * D(p->count) * store)
COST(swiglu_back, push_count, 10 * D(p->count), 6 * D(p->count) * store)
COST(cast, push_count, 0, D(p->count) * (4 + store))
COST(router, push_router, 5 * D(p->tokens) * p->experts, 8 * D(p->tokens) * p->experts)
COST(router_back, push_router, 6 * D(p->tokens) * p->experts,
     (4 + store) * D(p->tokens) * p->experts)
COST(router_stats, push_router, 4 * D(p->tokens) * p->experts, 4 * D(p->tokens) * p->experts)
COST(moe_count, push_moe_sort, 0, 4 * D(p->pairs) + 4 * D(p->blocks) * p->experts)
COST(moe_scan, push_moe_sort, 0, 8 * D(p->blocks) * p->experts)
COST(moe_scatter, push_moe_sort, 0, 12 * D(p->pairs))
COST(moe_matmul_up, push_moe_matmul, 4 * D(p->pairs) * p->n * p->k,
     (D(p->pairs) / p->top_k * p->k + 2 * D(p->experts) * p->n * p->k +
      D(p->pairs) * p->n * (p->save ? 3 : 1)) *
         store)
COST(moe_matmul, push_moe_matmul, 2 * D(p->pairs) * p->n * p->k,
     (D(p->pairs) * p->k + D(p->experts) * p->n * p->k + D(p->pairs) * p->n) * store)
COST(moe_matmul_tn, push_moe_matmul, 2 * D(p->pairs) * p->n * p->m,
     D(p->pairs) * (D(p->m) + p->n) * store + 8 * D(p->experts) * p->m * p->n)
COST(moe_combine, push_moe_combine, 2 * D(p->tokens) * p->top_k * p->cols,
     D(p->tokens) * (p->top_k + 2) * p->cols * store)
COST(moe_combine_back, push_moe_combine, 3 * D(p->tokens) * p->top_k * p->cols,
     D(p->tokens) * (2 * D(p->top_k) + 1) * p->cols * store)
COST(loss, push_loss, 5 * D(p->rows) * p->vocab,
     D(p->rows) * p->vocab * store * (p->backward ? 2 : 1))
COST(sum, push_sum, D(p->count), 4 * D(p->count))
COST(grad_norm, push_sum, 2 * D(p->count), 4 * D(p->count))
COST(adamw, push_adamw, 12 * D(p->count), D(p->count) * (28 + (p->copy ? store : 0)))
COST(sample, push_loss, 10 * D(p->vocab), 8 * D(p->vocab))
#undef D

// `reference`: the operation whose reference this one shares
#define ROW_OF(op, field, reference, grid, cost, push, letters)                                  \
    [KERNEL_##op] = {.name = #field, .ref = ref_##reference, .access = letters,                  \
                     .push_bytes = sizeof(struct push), .groups = grid,                          \
                     .flops = flops_##cost, .bytes = bytes_##cost}
#define ROW(op, field, grid, cost, push, letters)                                                \
    ROW_OF(op, field, field, grid, cost, push, letters)

static const struct kernel_info table[KERNEL_COUNT] = {
    ROW(EMBED, embed, groups_embed, embed, push_embed, "rrw"),
    ROW(EMBED_BACK, embed_back, groups_embed_back, embed_back, push_embed, "rrrrrm"),
    ROW(NORM, norm, groups_norm, norm, push_norm, "rrww"),
    ROW(NORM_BACK, norm_back, groups_norm, norm_back, push_norm, "rrrrm"),
    ROW(NORM_BACK_WEIGHT, norm_back_weight, groups_norm_columns, norm_back_weight, push_norm,
        "rrrm"),
    ROW(MATMUL_NT, matmul_nt, groups_matmul, matmul, push_matmul, "rrrw"),
    ROW(MATMUL_NTF, matmul_ntf, groups_matmul, matmul, push_matmul, "rrrw"),
    ROW(MATMUL_NN, matmul_nn, groups_matmul, matmul, push_matmul, "rrrw"),
    ROW(MATMUL_TN, matmul_tn, groups_matmul, matmul_tn, push_matmul, "rrrw"),
    ROW_OF(MATVEC, matvec, matmul_nt, groups_matvec, matmul, push_matmul, "rrrw"),
    ROW_OF(MATVECF, matvecf, matmul_ntf, groups_matvec, matmul, push_matmul, "rrrw"),
    ROW(ROPE, rope, groups_rope, rope, push_rope, "rrrw"),
    ROW(CACHE_WRITE, cache_write, groups_cache_write, cache_write, push_cache_write, "rrm"),
    ROW(SELECT_ROW, select_row, groups_one, select_row, push_embed, "rrw"),
    ROW(ATTENTION, attention, groups_attention, attention, push_attention, "rrrrww"),
    ROW(ATTENTION_DELTA, attention_delta, groups_delta, norm, push_norm, "rrw"),
    ROW(ATTENTION_BACK_Q, attention_back_q, groups_attention, attention_back_q, push_attention,
        "rrrrrrw"),
    ROW(ATTENTION_BACK_KV, attention_back_kv, groups_attention_kv, attention_back_kv,
        push_attention, "rrrrrrww"),
    ROW(ATTENTION_DECODE, attention_decode, groups_attention_decode, attention_decode,
        push_attention, "rrrrw"),
    ROW(SWIGLU, swiglu, groups_elements, swiglu, push_count, "rrw"),
    ROW(SWIGLU_BACK, swiglu_back, groups_elements, swiglu_back, push_count, "rrrwww"),
    ROW(ROUTER, router, groups_router, router, push_router, "rwwww"),
    ROW(ROUTER_BACK, router_back, groups_router, router_back, push_router, "rrrrrrrw"),
    ROW(ROUTER_STATS, router_stats, groups_router_stats, router_stats, push_router, "rrrw"),
    ROW(MOE_COUNT, moe_count, groups_moe_blocks, moe_count, push_moe_sort, "rw"),
    ROW(MOE_SCAN, moe_scan, groups_one, moe_scan, push_moe_sort, "mwww"),
    ROW(MOE_SCATTER, moe_scatter, groups_moe_blocks, moe_scatter, push_moe_sort, "rrww"),
    ROW(MOE_MATMUL_UP, moe_matmul_up, NULL, moe_matmul_up, push_moe_matmul, "rrrrrwww"),
    ROW(MOE_MATMUL_NT, moe_matmul_nt, NULL, moe_matmul, push_moe_matmul, "rrrw"),
    ROW(MOE_MATMUL_NN, moe_matmul_nn, NULL, moe_matmul, push_moe_matmul, "rrrm"),
    ROW(MOE_MATMUL_TN, moe_matmul_tn, groups_moe_tn, moe_matmul_tn, push_moe_matmul, "rrrrm"),
    ROW(MOE_COMBINE, moe_combine, groups_moe_combine, moe_combine, push_moe_combine, "rrrrw"),
    ROW(MOE_COMBINE_BACK, moe_combine_back, groups_moe_combine_back, moe_combine_back,
        push_moe_combine, "rrrrww"),
    ROW(LOSS, loss, groups_loss, loss, push_loss, "rmrw"),
    ROW(SUM, sum, groups_one, sum, push_sum, "rm"),
    ROW(GRAD_NORM, grad_norm, groups_grad_norm, grad_norm, push_sum, "rm"),
    ROW(GRAD_CLIP, grad_clip, groups_one, sum, push_sum, "rrw"),
    ROW(ADAMW, adamw, groups_adamw, adamw, push_adamw, "rrmrmmw"),
    ROW(CAST, cast, groups_elements, cast, push_count, "rw"),
    ROW(SAMPLE, sample, groups_one, sample, push_loss, "rrmw"),
};

const struct kernel_info *kernel_info(enum kernel_op op) { return &table[op]; }

int kernel_op_from_name(const char *name)
{
    for (int op = 0; op < KERNEL_COUNT; op++)
        if (strcmp(table[op].name, name) == 0) return op;
    return -1;
}

// ---- SPIR-V by name

struct blob { const uint32_t *words; size_t bytes; };

#define KERNEL_SPIRV(op, store, array) \
    [KERNEL_##op][DTYPE_##store] = {spirv_##array, sizeof spirv_##array},
static const struct blob blobs[KERNEL_COUNT][3] = {KERNEL_SPIRV_TABLE};
#undef KERNEL_SPIRV

// ---- shapes

static bool is_matvec(enum kernel_op op) { return op == KERNEL_MATVEC || op == KERNEL_MATVECF; }

static bool is_grouped(enum kernel_op op)
{
    return op == KERNEL_MOE_MATMUL_UP || op == KERNEL_MOE_MATMUL_NT || op == KERNEL_MOE_MATMUL_NN;
}

static bool is_matmul(enum kernel_op op)
{
    switch ((int)op) {
    case KERNEL_MATMUL_NT: case KERNEL_MATMUL_NTF: case KERNEL_MATMUL_NN: case KERNEL_MATMUL_TN:
    case KERNEL_MOE_MATMUL_UP:
    case KERNEL_MOE_MATMUL_NT:
    case KERNEL_MOE_MATMUL_NN:
    case KERNEL_MOE_MATMUL_TN:
        return true;
    }
    return false;
}

// Rows a lane holds. Every value of B that is loaded serves all of them, so the more the better
// while there are rows; 32 need 128 registers for the sums alone, which CPU drivers keep in the
// first-level cache anyway.
static uint32_t matmul_rows(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows)
{
    if (is_matvec(op)) return 1;
    if (rows >= 48 && caps->type == GPU_TYPE_CPU && !is_grouped(op)) return 32;
    // moe_matmul_up holds two sums for each element: 16 rows of them spill on AMD's gfx1100
    if (rows >= 6 && caps->type != GPU_TYPE_CPU && is_grouped(op)) return 8;
    if (rows >= 12) return 16;
    const bool transposed =
        op == KERNEL_MATMUL_TN || op == KERNEL_MOE_MATMUL_TN; // loads rows in fours
    return rows >= 3 || transposed ? 4 : 1;
}

static bool is_attention(enum kernel_op op)
{
    return op == KERNEL_ATTENTION || op == KERNEL_ATTENTION_BACK_Q ||
           op == KERNEL_ATTENTION_BACK_KV || op == KERNEL_ATTENTION_DECODE;
}

static uint32_t power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least) power *= 2;
    return power;
}

// HELD, SPLIT and HEAD_DIM of lib/attention.glsl, in one subgroup. CPU drivers: as many lanes a row
// as it has vec4s, and as many rows a team as compile within a second; cards: one row a team, four
// vec4s of it a lane.
static struct kernel_shape attention_shape(const struct gpu_caps *caps, enum kernel_op op,
                                           uint32_t head_dim)
{
    const uint32_t sure = caps->mask & GPU_CAP_SIZE
                              ? caps->subgroup_size
                              : min_u32(caps->subgroup_size, caps->subgroup_min);
    const bool cpu = caps->type == GPU_TYPE_CPU;
    struct kernel_shape shape = {max_u32(sure, 4), .rows = 1, .spread = 1, .depth = head_dim};
    shape.columns = min_u32(power_of_two(ceil_div(head_dim, cpu ? 4 : 16)), shape.lanes);
    if (cpu && op != KERNEL_ATTENTION_DECODE)
        shape.rows = head_dim <= 32 ? 16 : head_dim <= 128 ? 8 : 4;
    return shape;
}

struct kernel_shape kernel_shape_for(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows)
{
    if (is_attention(op)) return attention_shape(caps, op, rows);
    struct kernel_shape shape = {.lanes = max_u32(caps->subgroup_size, 4),
                                 .rows = 1,
                                 .columns = 4,
                                 .spread = 1};
    if (op == KERNEL_NORM_BACK_WEIGHT && caps->type != GPU_TYPE_CPU)
        shape.lanes =
            min_u32(4 * shape.lanes, min_u32(caps->max_workgroup, 256)); // rows across lanes
    if (!is_matmul(op) && !is_matvec(op)) return shape;
    // without a required size a subgroup may be as small as the smallest: still one a workgroup
    if (!(caps->mask & GPU_CAP_SIZE)) shape.lanes = max_u32(caps->subgroup_min, 4);
    shape.rows = matmul_rows(caps, op, rows);
    // cards broadcast a load of the same address by all lanes; CPU drivers do it lane by lane
    if (caps->type == GPU_TYPE_CPU) shape.spread = min_u32(shape.lanes, min_u32(shape.rows, 16));
    return shape;
}

static bool columns_only(enum kernel_op op, const struct kernel_shape *shape)
{
    return is_matvec(op) ||
           (shape->rows == 1 && (op == KERNEL_MOE_MATMUL_UP || op == KERNEL_MOE_MATMUL_NT));
}

uint32_t kernel_moe_columns(enum kernel_op op, const struct kernel_shape *shape, uint32_t cols)
{
    return ceil_div(cols, columns_only(op, shape) ? shape->columns : shape->lanes * shape->columns);
}

// ---- kernels of a device, made on first use

struct slot {
    struct kernel kernel;
    struct slot  *next;
};

struct kernels {
    struct gpu   *gpu;
    struct arena *arena;
    struct slot  *slot[KERNEL_COUNT][3]; // one of each shape
};

struct kernels *kernels_create(struct gpu *gpu)
{
    struct arena *arena = arena_create("kernels");
    struct kernels *kernels = arena_alloc(arena, sizeof *kernels);
    kernels->gpu = gpu;
    kernels->arena = arena;
    return kernels;
}

void kernels_destroy(struct kernels **kernels)
{
    if (!*kernels) return;
    struct kernels *k = *kernels;
    for (int op = 0; op < KERNEL_COUNT; op++)
        for (int store = 0; store < 3; store++)
            for (struct slot *slot = k->slot[op][store]; slot; slot = slot->next)
                gpu_kernel_destroy(k->gpu, &slot->kernel.gpu);
    struct arena *arena = k->arena;
    arena_destroy(&arena);
    *kernels = NULL;
}

static bool kernel_make(struct kernels *kernels, struct kernel *kernel)
{
    const struct kernel_info *info = &table[kernel->op];
    const struct blob *blob = &blobs[kernel->op][kernel->store];
    kernel->name = arena_printf(kernels->arena, "%s_%s", info->name, dtype_name(kernel->store));
    const struct gpu_caps *caps = &kernels->gpu->caps;
    kernel->gpu = gpu_kernel_create(
        kernels->gpu, &(struct gpu_kernel_params){
                          .name = kernel->name,
                          .spirv = blob->words,
                          .spirv_bytes = blob->bytes,
                          .spec = {kernel->shape.lanes, kernel->shape.rows, kernel->shape.columns,
                                   kernel->shape.spread, kernel->shape.depth},
                          .spec_count = 5,
                          .binding_count = (uint32_t)strlen(info->access),
                          .push_bytes = info->push_bytes,
                          .subgroup_size = caps->mask & GPU_CAP_SIZE ? caps->subgroup_size : 0,
                          .ref = info->ref,
                          .tag = (int)kernel->store,
                      });
    return kernel->gpu != NULL;
}

const struct kernel *kernels_get(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                 uint32_t rows)
{
    if (!blobs[op][store].words) store = DTYPE_F32; // operations without STORE bindings
    if (is_attention(op) && (rows == 0 || rows > KERNEL_MAX_HEAD_DIM)) {
        log_error("%s: head_dim %u is not between 1 and %d", table[op].name, rows,
                  KERNEL_MAX_HEAD_DIM);
        return NULL;
    }
    const struct kernel_shape shape = kernel_shape_for(&kernels->gpu->caps, op, rows);
    struct slot **at = &kernels->slot[op][store];
    for (; *at; at = &(*at)->next)
        if (memcmp(&(*at)->kernel.shape, &shape, sizeof shape) == 0) return &(*at)->kernel;
    if (store != DTYPE_F32 && !(kernels->gpu->caps.mask & GPU_CAP_STORAGE16)) {
        log_error("device %s: no 16-bit storage; use torch_dtype float32", kernels->gpu->caps.name);
        return NULL;
    }
    struct slot *slot = arena_alloc(kernels->arena, sizeof *slot);
    slot->kernel = (struct kernel){.op = op, .store = store, .shape = shape};
    if (!kernel_make(kernels, &slot->kernel)) return NULL;
    *at = slot;
    return &slot->kernel;
}

// The rows, or head_dim, that between them bring out every shape an operation has.
static uint32_t shape_sizes(enum kernel_op op, const uint32_t **sizes)
{
    static const uint32_t tiles[] = {1, 4, 16, 64}, head_dims[] = {32, 64, 128, 256}, any[] = {1};
    if (is_attention(op)) return *sizes = head_dims, (uint32_t)COUNT_OF(head_dims);
    if (is_matmul(op) || is_matvec(op)) return *sizes = tiles, (uint32_t)COUNT_OF(tiles);
    return *sizes = any, 1;
}

bool kernels_each(struct kernels *kernels, bool (*visit)(void *user, const struct kernel *kernel),
                  void *user)
{
    for (enum kernel_op op = 0; op < KERNEL_COUNT; op++)
        for (enum dtype store = 0; store < 3; store++) {
            const uint32_t *size, count = shape_sizes(op, &size);
            const struct kernel *last = NULL;
            if (!blobs[op][store].words) continue;
            if (store && !(kernels->gpu->caps.mask & GPU_CAP_STORAGE16)) continue;
            for (uint32_t i = 0; i < count; i++) {
                const struct kernel *kernel = kernels_get(kernels, op, store, size[i]);
                if (!kernel || (kernel != last && !visit(user, kernel))) return false;
                last = kernel;
            }
        }
    return true;
}
