// SPDX-License-Identifier: MIT
// The table of operations. A row ties together the reference, the binding access, the grid and the
// cost; shapes are in kernel_shape.c, the kernels of a device in kernel.c.
#include <string.h>

#include "src/base.h"
#include "src/codes.h"
#include "src/kernel_device.h"
#include "src/kernel_shape.h"
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
enum { ELEMENTS_PER_LANE = 16, OPTIMIZER_PER_LANE = 64 };
enum { SUM_COLUMNS = 16 }; // columns of a workgroup of lib/columns.glsl

// (query, head) rows, or keys, that a workgroup of the attention family holds: lib/attention.glsl
static uint32_t attention_rows(const struct kernel_shape *shape)
{
    if (shape->variant == KERNEL_COOP) return shape->rows;
    return shape->lanes / shape->columns * shape->rows;
}

GROUPS_ROWS(embed, push_embed, p->rows)
GROUPS_ROWS(embed_back, push_embed, (uint64_t)p->rows * ceil_div(p->cols, 4 * shape->lanes))
GROUPS_ROWS(one, push_count, 1)
GROUPS_ROWS(norm, push_norm, p->rows)
GROUPS_ROWS(norm_columns, push_norm, ceil_div(p->cols, SUM_COLUMNS))
GROUPS_ROWS(mix, push_mix, p->rows)
GROUPS_ROWS(column_sum, push_column_sum, ceil_div(p->cols, SUM_COLUMNS))
GROUPS_ROWS(column_scale, push_column_scale, p->rows)
GROUPS_ROWS(smear, push_smear, p->rows)
GROUPS_ROWS(smear_columns, push_smear, ceil_div(p->cols, SUM_COLUMNS))
GROUPS_ROWS(moe_column_sum, push_moe_column_sum,
            (uint64_t)p->experts * ceil_div(p->cols, SUM_COLUMNS))
GROUPS_ROWS(moe_bias_back, push_moe_bias_back, p->pairs)
GROUPS_ROWS(delta, push_norm, ceil_div(p->rows, shape->lanes))
GROUPS_ROWS(rope, push_rope, p->tokens)
GROUPS_ROWS(cache_write, push_cache_write, p->rows)
GROUPS_ROWS(attention, push_attention,
            (uint64_t)p->batch * p->kv_heads *
                ceil_div(p->seq * (p->heads / p->kv_heads), attention_rows(shape)))
GROUPS_ROWS(attention_kv, push_attention,
            (uint64_t)p->batch * p->kv_heads * ceil_div(p->seq, attention_rows(shape)))
GROUPS_ROWS(attention_decode, push_attention,
            (uint64_t)p->kv_heads * ceil_div(p->heads / p->kv_heads, shape->rows) * p->parts)
GROUPS_ROWS(attention_merge, push_attention, p->heads)
GROUPS_ROWS(elements, push_count, ceil_div(p->count, shape->lanes * ELEMENTS_PER_LANE))
// up to so many experts a lane has a token, else a workgroup (lib/router.glsl)
enum { ROUTER_NARROW = 32 };
GROUPS_ROWS(router, push_router,
            p->experts <= ROUTER_NARROW ? ceil_div(p->tokens, shape->lanes) : p->tokens)
GROUPS_ROWS(router_wide, push_router, p->tokens)
GROUPS_ROWS(router_stats, push_router, ceil_div(p->experts, shape->lanes))
GROUPS_ROWS(router_stats_within, push_router, ceil_div(p->domains * p->experts, shape->lanes))
GROUPS_ROWS(router_join, push_router_join, ceil_div(p->pairs, shape->lanes))
GROUPS_ROWS(router_noise, push_router_noise, p->tokens)
GROUPS_ROWS(router_hash, push_router_hash, p->tokens)
GROUPS_ROWS(moe_capacity, push_moe_capacity, ceil_div(p->pairs, shape->lanes * ELEMENTS_PER_LANE))
GROUPS_ROWS(moe_widths, push_moe_widths, ceil_div(p->count, shape->lanes))
GROUPS_ROWS(router_gates, push_router, p->experts)
GROUPS_ROWS(router_columns, push_router_columns, p->experts)
GROUPS_ROWS(gate_rows, push_gate_rows, p->rows)
GROUPS_ROWS(moe_blocks, push_moe_sort, p->blocks)
GROUPS_ROWS(moe_combine, push_moe_combine, p->tokens)
GROUPS_ROWS(moe_scan, push_moe_sort, p->slices)
GROUPS_ROWS(moe_activate_back, push_moe_activate, p->pairs)
GROUPS_ROWS(loss, push_loss, p->rows)
GROUPS_ROWS(grad_norm, push_sum, ceil_div(p->count, p->block))
GROUPS_ROWS(expert_norm, push_expert_norm, (uint64_t)p->matrices * ceil_div(p->count, p->block))
GROUPS_ROWS(words, push_count, ceil_div(p->count, shape->lanes))
GROUPS_ROWS(optimizer, push_optimizer,
            (uint64_t)p->matrices * ceil_div(p->count, shape->lanes * OPTIMIZER_PER_LANE))

static void groups_matmul(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_matmul *p = push;
    groups[0] = ceil_div(p->n, kernel_group_columns(KERNEL_MATMUL_NT, shape));
    groups[1] = ceil_div(p->m, shape->rows);
    groups[2] = max_u32(p->parts, 1);
}

// a workgroup has MATMUL_SUM_QUADS * lanes groups of four neighbours
enum { MATMUL_SUM_QUADS = 4 };
GROUPS_ROWS(matmul_sum, push_matmul,
            ((uint64_t)p->m * ceil_div(p->n, 4) + shape->lanes * MATMUL_SUM_QUADS - 1) /
                (shape->lanes * MATMUL_SUM_QUADS))

static void groups_matvec(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_matmul *p = push;
    groups[0] = ceil_div(p->n, kernel_group_columns(KERNEL_MATVEC, shape));
    groups[1] = ceil_div(p->m, shape->rows);
    groups[2] = max_u32(p->parts, 1);
}

GROUPS_ROWS(token_linear, push_token_linear, ceil_div(p->n, shape->columns))
GROUPS_ROWS(heads, push_heads, (uint64_t)p->tokens * (p->heads + 2 * p->kv_heads))

static void groups_token_up(const void *push, const struct kernel_shape *shape, uint32_t groups[3])
{
    const struct push_token_moe *p = push;
    groups[0] = ceil_div(p->n, shape->columns / 2); // gate and up
    groups[1] = p->top_k;
    groups[2] = 1;
}

GROUPS_ROWS(token_down, push_token_moe, ceil_div(p->n, shape->columns))

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
COST(mix, push_mix, 3 * D(p->rows) * p->cols,
     D(p->rows) * p->cols * (p->b == FACTOR_ABSENT ? 2 : 3) * store)
COST(column_sum, push_column_sum, 2 * D(p->rows) * p->cols,
     D(p->rows) * p->cols * (p->product ? 2 : 1) * store)
COST(column_scale, push_column_scale, D(p->rows) * p->cols, 2 * D(p->rows) * p->cols * store)
COST(column_scalef, push_column_scale, D(p->rows) * p->cols, 8 * D(p->rows) * p->cols)
COST(row_inverse, push_norm, 2 * D(p->rows) * p->cols, D(p->rows) * p->cols * store)
COST(row_project, push_norm, 4 * D(p->rows) * p->cols, D(p->rows) * p->cols * (store + 8))
COST(smear, push_smear, 3 * D(p->rows) * p->cols, 3 * D(p->rows) * p->cols * store)
COST(smear_back_gate, push_smear, 2 * D(p->rows) * p->cols, 3 * D(p->rows) * p->cols * store)
#define PARTS(p) D(max_u32((p)->parts, 1))
COST(matmul, push_matmul, 2 * D(p->m) * p->n * p->k,
     (D(p->m) * p->k + D(p->n) * p->k + D(p->m) * p->n * (p->add ? 2 : 1)) * store)
COST(matmul_f32, push_matmul, 2 * D(p->m) * p->n * p->k,
     (D(p->m) * p->k + D(p->n) * p->k) * store +
         4 * D(p->m) * p->n * (PARTS(p) + (p->add && p->parts < 2)))
COST(matmul_sum, push_matmul, D(p->m) * p->n * PARTS(p),
     D(p->m) * p->n * (4 * PARTS(p) + (p->add ? 2 : 1) * store))
COST(matmul_sumf, push_matmul, D(p->m) * p->n * PARTS(p),
     4 * D(p->m) * p->n * (PARTS(p) + (p->add ? 2 : 1)))
#undef PARTS
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
COST(attention_merge, push_attention, 2 * D(p->parts) * p->heads * p->head_dim,
     D(p->heads) * p->head_dim * (4 * D(p->parts) + store))
COST(activate, push_activate, 4 * D(p->count), (p->gated ? 3 : 2) * D(p->count) * store)
COST(activate_back, push_activate, 10 * D(p->count), (p->gated ? 6 : 4) * D(p->count) * store)
COST(cast, push_count, 0, D(p->count) * (4 + store))
COST(router, push_router, 5 * D(p->tokens) * p->experts, 8 * D(p->tokens) * p->experts)
COST(router_back, push_router, 6 * D(p->tokens) * p->experts,
     (4 + store) * D(p->tokens) * p->experts)
COST(router_stats, push_router, 4 * D(p->tokens) * p->experts, 4 * D(p->tokens) * p->experts)
COST(router_base, push_router_join, 0, 12 * D(p->pairs))
COST(router_join, push_router_join, D(p->pairs) * p->picks, D(p->pairs) * (12 + 16 * p->picks))
COST(router_score, push_router, 4 * D(p->tokens) * p->experts, 8 * D(p->tokens) * p->experts)
COST(router_choice, push_router, D(p->tokens) * p->experts, 8 * D(p->tokens) * p->experts)
COST(router_pick, push_router, D(p->tokens) * p->top_k, 4 * D(p->tokens) * p->experts)
COST(router_noise, push_router_noise, 20 * D(p->tokens) * p->experts,
     (p->noisy ? 12 : 8) * D(p->tokens) * p->experts)
COST(router_noise_back, push_router_noise, 20 * D(p->tokens) * p->experts,
     (3 * store + 4) * D(p->tokens) * p->experts)
COST(router_hash, push_router_hash, 0, 4 * D(p->tokens) * (p->experts + 2 * p->top_k))
COST(router_columns, push_router_columns, 0, 4 * 20 * D(p->tokens) * p->experts)
COST(gate_rows, push_gate_rows, D(p->rows) * p->cols, 2 * D(p->rows) * p->cols * store)
COST(gate_rows_back, push_count, 3 * D(p->count), D(p->count) * (8 + store))
COST(moe_widths, push_moe_widths, 0, 24 * D(p->count))
COST(moe_capacity, push_moe_capacity, 0, 12 * D(p->pairs))
COST(router_gates, push_router, D(p->tokens) * p->top_k, 8 * D(p->tokens) * p->top_k)
COST(router_losses, push_router_losses, 2 * D(p->tokens) + 20 * D(p->experts),
     4 * D(p->tokens) + 40 * D(p->experts))
COST(router_pool, push_router_pool, 4 * D(p->experts) * p->layers,
     4 * D(p->experts) * (p->layers + 3))
COST(router_bias, push_router_bias, 2 * D(p->experts), D(p->experts) * (12 + store))
COST(router_bias_stochastic, push_router_bias_stochastic, 30 * D(p->experts),
     D(p->experts) * (8 + store))
COST(moe_count, push_moe_sort, 0, 4 * D(p->pairs) + 4 * D(p->blocks) * p->experts)
COST(moe_scan, push_moe_sort, 0, 8 * D(p->blocks) * p->experts)
COST(moe_place, push_moe_place, 0, 52 * D(p->ranges))
COST(moe_scatter, push_moe_sort, 0, 12 * D(p->pairs))
// few pairs touch few experts: no weights are read but those
#define TOUCHED(p) D(min_u32((p)->experts, (p)->pairs))
COST(moe_matmul_up, push_moe_matmul, 4 * D(p->pairs) * p->n * p->k,
     (D(p->pairs) / p->top_k * p->k + 2 * TOUCHED(p) * p->n * p->k +
      D(p->pairs) * p->n * (p->save ? 3 : 1)) *
         store)
COST(moe_matmul_act, push_moe_matmul, 2 * D(p->pairs) * p->n * p->k,
     (D(p->pairs) / p->top_k * p->k + TOUCHED(p) * p->n * p->k +
      D(p->pairs) * p->n * (p->save ? 2 : 1)) *
         store)
COST(moe_matmul, push_moe_matmul, (p->second ? 4 : 2) * D(p->pairs) * p->n * p->k,
     (D(p->pairs) / (p->gather ? p->top_k : 1) * p->k +
      (p->second ? 2 : 1) * TOUCHED(p) * p->n * p->k + (p->second ? D(p->pairs) * p->k : 0) +
      D(p->pairs) * p->n) *
         store)
COST(moe_matmul_ntf, push_moe_matmul, 2 * D(p->pairs) * p->n * p->k,
     (D(p->pairs) / p->top_k * p->k + TOUCHED(p) * p->n * p->k) * store +
         4 * D(p->pairs) * p->n)
COST(moe_matmul_tn, push_moe_matmul, 2 * D(p->pairs) * p->n * p->m,
     D(p->pairs) * (D(p->m) / (p->gather & 2 ? p->top_k : 1) +
                    D(p->n) / (p->gather & 1 ? p->top_k : 1)) *
             store +
         8 * TOUCHED(p) * p->m * p->n)
#undef TOUCHED
COST(moe_activate_back, push_moe_activate, 12 * D(p->pairs) * p->cols,
     (p->gated ? 6 : 4) * D(p->pairs) * p->cols * store)
COST(moe_combine, push_moe_combine, 2 * D(p->tokens) * p->top_k * p->cols,
     D(p->tokens) * (p->top_k + 2) * p->cols * store)
COST(moe_column_sum, push_moe_column_sum, D(p->experts) * p->cols,
     D(p->experts) * p->cols * (4 + store))
COST(moe_bias_back, push_moe_bias_back, 2 * D(p->pairs) * p->cols,
     2 * D(p->pairs) * p->cols * store)
COST(softcap, push_softcap, 10 * D(p->count), 8 * D(p->count))
COST(loss, push_loss, 5 * D(p->rows) * p->vocab,
     D(p->rows) * p->vocab * store * (p->backward ? 2 : 1))
COST(sum, push_sum, D(p->count), 4 * D(p->count))
COST(grad_norm, push_sum, 2 * D(p->count), 4 * D(p->count))
COST(expert_norm, push_expert_norm, 2 * D(p->count) * p->matrices, 4 * D(p->count) * p->matrices)
GROUPS_ROWS(muon_blocks, push_muon,
            (uint64_t)p->each.matrices * ceil_div(p->each.count, MUON_BLOCK))
COST(words, push_count, 0, 12 * D(p->count))
COST(adamw, push_optimizer, 12 * D(p->count) * p->matrices,
     D(p->count) * p->matrices * (28 + (p->copy ? store : 0)))
GROUPS_ROWS(records, push_adamw_8bit,
            (uint64_t)p->each.matrices * ceil_div(p->each.count, CODES_ELEMENTS))
COST(adamw_8bit, push_adamw_8bit, 50 * D(p->each.count) * p->each.matrices,
     D(p->each.count) * p->each.matrices * (16.125 + (p->each.copy ? store : 0)))
COST(adamw_stochastic, push_adamw_stochastic, 30 * D(p->each.count) * p->each.matrices,
     24 * D(p->each.count) * p->each.matrices)
COST(adamw_8bit_stochastic, push_adamw_stochastic, 68 * D(p->each.count) * p->each.matrices,
     12.125 * D(p->each.count) * p->each.matrices)
GROUPS_ROWS(average, push_count, ceil_div(p->count, shape->lanes * OPTIMIZER_PER_LANE))
COST(average, push_count, 3 * D(p->count), 12 * D(p->count))
COST(sgd, push_optimizer, 8 * D(p->count) * p->matrices,
     D(p->count) * p->matrices * (20 + (p->copy ? store : 0)))
COST(muon, push_muon, 6 * D(p->each.count) * p->each.matrices,
     12 * D(p->each.count) * p->each.matrices)
COST(sample, push_loss, 10 * D(p->vocab), 8 * D(p->vocab))
COST(token_linear, push_token_linear, 2 * D(p->n) * p->k, D(p->n) * (p->k + 1) * store)
COST(heads, push_heads, 5 * D(p->tokens) * (p->heads + p->kv_heads) * p->head_dim,
     2 * D(p->tokens) * (p->heads + 2 * p->kv_heads) * p->head_dim * store)
COST(token_router, push_token_router, 2 * D(p->experts) * p->k, D(p->experts) * p->k * store)
COST(token_up, push_token_moe, 4 * D(p->top_k) * p->n * p->k, 2 * D(p->top_k) * p->n * p->k * store)
COST(token_down, push_token_moe, 2 * D(p->top_k) * p->n * p->k, D(p->top_k) * p->n * p->k * store)
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
    ROW(MATMUL_NT, matmul_nt, groups_matmul, matmul, push_matmul, "rrrwr"),
    ROW(MATMUL_NTF, matmul_ntf, groups_matmul, matmul_f32, push_matmul, "rrrwr"),
    ROW(MATMUL_NN, matmul_nn, groups_matmul, matmul, push_matmul, "rrrwr"),
    ROW(MATMUL_NNF, matmul_nnf, groups_matmul, matmul_f32, push_matmul, "rrrwr"),
    ROW(MATMUL_TN, matmul_tn, groups_matmul, matmul_f32, push_matmul, "rrrwr"),
    ROW(MATMUL_SUM, matmul_sum, groups_matmul_sum, matmul_sum, push_matmul, "rrwr"),
    ROW(MATMUL_SUMF, matmul_sumf, groups_matmul_sum, matmul_sumf, push_matmul, "rrwr"),
    ROW_OF(MATVEC, matvec, matmul_nt, groups_matvec, matmul, push_matmul, "rrrwr"),
    ROW_OF(MATVECF, matvecf, matmul_ntf, groups_matvec, matmul_f32, push_matmul, "rrrwr"),
    ROW(ROPE, rope, groups_rope, rope, push_rope, "rrrw"),
    ROW(CACHE_WRITE, cache_write, groups_cache_write, cache_write, push_cache_write, "rrm"),
    ROW(SELECT_ROW, select_row, groups_one, select_row, push_embed, "rrw"),
    ROW(ATTENTION, attention, groups_attention, attention, push_attention, "rrrrmm"),
    ROW(ATTENTION_DELTA, attention_delta, groups_delta, norm, push_norm, "rrw"),
    ROW(ATTENTION_BACK_Q, attention_back_q, groups_attention, attention_back_q, push_attention,
        "rrrrrrm"),
    ROW(ATTENTION_BACK_KV, attention_back_kv, groups_attention_kv, attention_back_kv,
        push_attention, "rrrrrrmm"),
    ROW(ATTENTION_WITHIN, attention_within, groups_attention, attention, push_attention,
        "rrrrmmr"),
    ROW(ATTENTION_BACK_Q_WITHIN, attention_back_q_within, groups_attention, attention_back_q,
        push_attention, "rrrrrrmr"),
    ROW(ATTENTION_BACK_KV_WITHIN, attention_back_kv_within, groups_attention_kv,
        attention_back_kv, push_attention, "rrrrrrmmr"),
    ROW(ATTENTION_DECODE, attention_decode, groups_attention_decode, attention_decode,
        push_attention, "rrrrwww"),
    ROW(ATTENTION_MERGE, attention_merge, groups_attention_merge, attention_merge, push_attention,
        "rrrw"),
    ROW(ACTIVATE, activate, groups_elements, activate, push_activate, "rrw"),
    ROW(ACTIVATE_BACK, activate_back, groups_elements, activate_back, push_activate, "mmm"),
    ROW(ROUTER, router, groups_router, router, push_router, "rwwww"),
    ROW(ROUTER_SCORE, router_score, groups_router, router_score, push_router, "rww"),
    ROW(ROUTER_CHOICE, router_choice, groups_router_wide, router_choice, push_router, "rrw"),
    ROW(ROUTER_PICK, router_pick, groups_router, router_pick, push_router, "rrww"),
    ROW(ROUTER_BACK, router_back, groups_router, router_back, push_router, "rrrrrrrw"),
    ROW(ROUTER_ENTROPY, router_entropy, groups_router, router_stats, push_router, "rrw"),
    ROW(ROUTER_STATS, router_stats, groups_router_stats, router_stats, push_router, "rrrrmm"),
    ROW(ROUTER_BACK_WITHIN, router_back_within, groups_router, router_back, push_router,
        "rrrrrrrw"),
    ROW(ROUTER_STATS_WITHIN, router_stats_within, groups_router_stats_within, router_stats,
        push_router, "rrrmm"),
    ROW(ROUTER_BASE, router_base, groups_router_join, router_base, push_router_join, "rrw"),
    ROW(ROUTER_JOIN, router_join, groups_router_join, router_join, push_router_join, "rrrrrww"),
    ROW(ROUTER_JOIN_BACK, router_join_back, groups_router_join, router_join, push_router_join,
        "rrrrww"),
    ROW(ROUTER_NOISE, router_noise, groups_router_noise, router_noise, push_router_noise, "rrrm"),
    ROW(ROUTER_NOISE_BACK, router_noise_back, groups_router_noise, router_noise_back,
        push_router_noise, "rrrrmww"),
    ROW(ROUTER_HASH, router_hash, groups_router_hash, router_hash, push_router_hash, "rwwww"),
    ROW(ROUTER_COLUMNS, router_columns, groups_router_columns, router_columns,
        push_router_columns, "rww"),
    ROW(GATE_ROWS, gate_rows, groups_gate_rows, gate_rows, push_gate_rows, "rmww"),
    ROW(GATE_ROWS_BACK, gate_rows_back, groups_elements, gate_rows_back, push_count, "rrw"),
    ROW(MOE_CAPACITY, moe_capacity, groups_moe_capacity, moe_capacity, push_moe_capacity, "rrrw"),
    ROW(ROUTER_GATES, router_gates, groups_router_gates, router_gates, push_router, "rrrw"),
    ROW(ROUTER_LOSSES, router_losses, groups_one, router_losses, push_router_losses, "rrrrmwr"),
    ROW(ROUTER_POOL, router_pool, groups_one, router_pool, push_router_pool, "mm"),
    ROW(ROUTER_BIAS, router_bias, groups_one, router_bias, push_router_bias, "rrmw"),
    ROW(ROUTER_BIAS_STOCHASTIC, router_bias_stochastic, groups_one, router_bias_stochastic,
        push_router_bias_stochastic, "rrrm"),
    ROW(MOE_COUNT, moe_count, groups_moe_blocks, moe_count, push_moe_sort, "rwm"),
    ROW(MOE_SCAN, moe_scan, groups_moe_scan, moe_scan, push_moe_sort, "mrwwww"),
    ROW(MOE_WIDTHS, moe_widths, groups_moe_widths, moe_widths, push_moe_widths, "rmm"),
    ROW(MOE_SCATTER, moe_scatter, groups_moe_blocks, moe_scatter, push_moe_sort, "rrww"),
    ROW(MOE_PLACE, moe_place, groups_one, moe_place, push_moe_place, "rrwww"),
    ROW(MOE_MATMUL_UP, moe_matmul_up, NULL, moe_matmul_up, push_moe_matmul, "rrrrrwww"),
    ROW(MOE_MATMUL_ACT, moe_matmul_act, NULL, moe_matmul_act, push_moe_matmul, "rrrrwwr"),
    ROW(MOE_MATMUL_NT, moe_matmul_nt, NULL, moe_matmul, push_moe_matmul, "rrrwr"),
    ROW(MOE_MATMUL_NTF, moe_matmul_ntf, NULL, moe_matmul_ntf, push_moe_matmul, "rrrwrr"),
    ROW(MOE_MATMUL_NN, moe_matmul_nn, NULL, moe_matmul, push_moe_matmul, "rrrrwrr"),
    ROW(MOE_MATMUL_TN, moe_matmul_tn, NULL, moe_matmul_tn, push_moe_matmul, "rrrrm"),
    ROW(MOE_ACTIVATE_BACK, moe_activate_back, groups_moe_activate_back, moe_activate_back,
        push_moe_activate, "mmmrrw"),
    ROW(MOE_COMBINE, moe_combine, groups_moe_combine, moe_combine, push_moe_combine, "rrrrw"),
    ROW(MOE_COLUMN_SUM, moe_column_sum, groups_moe_column_sum, moe_column_sum,
        push_moe_column_sum, "rrrrm"),
    ROW(MOE_BIAS_BACK, moe_bias_back, groups_moe_bias_back, moe_bias_back, push_moe_bias_back,
        "rrrm"),
    ROW(LOSS, loss, groups_loss, loss, push_loss, "rmrw"),
    ROW_OF(LOSS_CAPPED, loss_capped, loss, groups_loss, loss, push_loss, "rmrw"),
    ROW(SOFTCAP, softcap, groups_elements, softcap, push_softcap, "m"),
    ROW(MIX, mix, groups_mix, mix, push_mix, "rrrrw"),
    ROW(COLUMN_SUM, column_sum, groups_column_sum, column_sum, push_column_sum, "rrm"),
    ROW_OF(COLUMN_SUMF, column_sumf, column_sum, groups_column_sum, column_sum, push_column_sum,
           "rrm"),
    ROW(COLUMN_SCALE, column_scale, groups_column_scale, column_scale, push_column_scale, "rrm"),
    ROW_OF(COLUMN_SCALEF, column_scalef, column_scale, groups_column_scale, column_scalef,
           push_column_scale, "rrm"),
    ROW(ROW_INVERSE, row_inverse, groups_norm, row_inverse, push_norm, "rw"),
    ROW(ROW_PROJECT, row_project, groups_norm, row_project, push_norm, "rrm"),
    ROW(SMEAR, smear, groups_smear, smear, push_smear, "rrw"),
    ROW(SMEAR_BACK_GATE, smear_back_gate, groups_smear_columns, smear_back_gate, push_smear,
        "rrrm"),
    ROW(SMEAR_WITHIN, smear_within, groups_smear, smear, push_smear, "rrwr"),
    ROW(SMEAR_BACK_GATE_WITHIN, smear_back_gate_within, groups_smear_columns, smear_back_gate,
        push_smear, "rrrmr"),
    ROW(SUM, sum, groups_one, sum, push_sum, "rm"),
    ROW(GRAD_NORM, grad_norm, groups_grad_norm, grad_norm, push_sum, "rm"),
    ROW(EXPERT_NORM, expert_norm, groups_expert_norm, expert_norm, push_expert_norm, "rrm"),
    ROW(GRAD_CLIP, grad_clip, groups_one, sum, push_sum, "rrw"),
    ROW(EXPERT_TOUCH, expert_touch, groups_words, words, push_count, "rm"),
    ROW(EXPERT_STEPS, expert_steps, groups_words, words, push_expert_steps, "rrmm"),
    ROW(EXPERT_MOVES, expert_moves, groups_words, words, push_count, "rrw"),
    ROW(ADAMW, adamw, groups_optimizer, adamw, push_optimizer, "rrmrmmwr"),
    ROW(ADAMW_8BIT, adamw_8bit, groups_records, adamw_8bit, push_adamw_8bit, "rrmrmwr"),
    ROW(ADAMW_STOCHASTIC, adamw_stochastic, groups_optimizer, adamw_stochastic,
        push_adamw_stochastic, "rrmrmmrr"),
    ROW(ADAMW_8BIT_STOCHASTIC, adamw_8bit_stochastic, groups_records, adamw_8bit_stochastic,
        push_adamw_stochastic, "rrmrmrr"),
    ROW(SGD, sgd, groups_optimizer, sgd, push_optimizer, "rrmrmwr"),
    ROW(MUON_MOMENTUM, muon_momentum, groups_muon_blocks, muon, push_muon, "rrmrww"),
    ROW(MUON_SCALE, muon_scale, groups_muon_blocks, muon, push_muon, "rrm"),
    ROW(MUON_TABLES, muon_tables, groups_one, words, push_muon, "rwww"),
    ROW(MUON_MIX, muon_mix, groups_optimizer, muon, push_muon, "rrm"),
    ROW(MUON_UPDATE, muon_update, groups_optimizer, muon, push_muon, "rrrmwr"),
    ROW(AVERAGE, average, groups_average, average, push_count, "rrm"),
    ROW(CAST, cast, groups_elements, cast, push_count, "rw"),
    ROW(TOKEN_LINEAR, token_linear, groups_token_linear, token_linear, push_token_linear, "rrrw"),
    ROW(TOKEN_LINEARF, token_linearf, groups_token_linear, token_linear, push_token_linear, "rrrw"),
    ROW(HEADS, heads, groups_heads, heads, push_heads, "rrrrrwmm"),
    ROW(TOKEN_ROUTER, token_router, groups_one, token_router, push_token_router, "rrrwww"),
    ROW(TOKEN_UP, token_up, groups_token_up, token_up, push_token_moe, "rrrrrw"),
    ROW(TOKEN_DOWN, token_down, groups_token_down, token_down, push_token_moe, "rrrrrw"),
    ROW(SAMPLE, sample, groups_one, sample, push_loss, "rrmw"),
};

const struct kernel_info *kernel_info(enum kernel_op op) { return &table[op]; }

int kernel_op_from_name(const char *name)
{
    for (int op = 0; op < KERNEL_COUNT; op++)
        if (strcmp(table[op].name, name) == 0) return op;
    return -1;
}
