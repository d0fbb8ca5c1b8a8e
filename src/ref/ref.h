// SPDX-License-Identifier: MIT
// Scalar references of all operations: obvious, one element at a time, accumulating in double. Each
// does a whole dispatch. They are the truth for tests/check, the `ref` device, and readers.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/gpu.h"
#include "src/base.h"
#include "src/dtype.h"
#include "src/kernel.h"

// STORE element i of binding b, as double; the storage type is the call's tag.
static inline double ref_load(const struct gpu_ref_call *call, int b, size_t i)
{
    return dtype_load(call->buffer[b], i, (enum dtype)call->tag);
}

static inline void ref_store(const struct gpu_ref_call *call, int b, size_t i, double value)
{
    dtype_store(call->buffer[b], i, (enum dtype)call->tag, value);
}

#define REF_DECLARE(name) void ref_##name(const struct gpu_ref_call *call);
REF_DECLARE(embed)
REF_DECLARE(embed_back)
REF_DECLARE(norm)
REF_DECLARE(norm_back)
REF_DECLARE(norm_back_weight)
REF_DECLARE(matmul_nt)
REF_DECLARE(matmul_ntf)
REF_DECLARE(matmul_nn)
REF_DECLARE(matmul_nnf)
REF_DECLARE(matmul_tn)
REF_DECLARE(matmul_sum)
REF_DECLARE(matmul_sumf)
REF_DECLARE(rope)
REF_DECLARE(cache_write)
REF_DECLARE(select_row)
REF_DECLARE(attention)
REF_DECLARE(attention_delta)
REF_DECLARE(attention_back_q)
REF_DECLARE(attention_back_kv)
REF_DECLARE(attention_within)
REF_DECLARE(attention_back_q_within)
REF_DECLARE(attention_back_kv_within)
REF_DECLARE(attention_decode)
REF_DECLARE(attention_merge)
REF_DECLARE(activate)
REF_DECLARE(activate_back)
REF_DECLARE(router)
REF_DECLARE(router_back)
REF_DECLARE(router_entropy)
REF_DECLARE(router_stats)
REF_DECLARE(router_back_within)
REF_DECLARE(router_stats_within)
REF_DECLARE(router_base)
REF_DECLARE(router_join)
REF_DECLARE(router_join_back)
REF_DECLARE(router_score)
REF_DECLARE(router_choice)
REF_DECLARE(router_pick)
REF_DECLARE(router_gates)
REF_DECLARE(router_losses)
REF_DECLARE(router_pool)
REF_DECLARE(router_bias)
REF_DECLARE(router_bias_stochastic)
REF_DECLARE(router_noise)
REF_DECLARE(router_noise_back)
REF_DECLARE(router_hash)
REF_DECLARE(router_columns)
REF_DECLARE(gate_rows)
REF_DECLARE(gate_rows_back)
REF_DECLARE(moe_capacity)
REF_DECLARE(moe_count)
REF_DECLARE(moe_scan)
REF_DECLARE(moe_widths)
REF_DECLARE(moe_scatter)
REF_DECLARE(moe_place)
REF_DECLARE(moe_matmul_up)
REF_DECLARE(moe_matmul_act)
REF_DECLARE(moe_matmul_nt)
REF_DECLARE(moe_matmul_ntf)
REF_DECLARE(moe_matmul_nn)
REF_DECLARE(moe_matmul_tn)
REF_DECLARE(moe_combine)
REF_DECLARE(moe_activate_back)
REF_DECLARE(loss)
REF_DECLARE(softcap)
REF_DECLARE(mix)
REF_DECLARE(column_sum)
REF_DECLARE(column_scale)
REF_DECLARE(row_inverse)
REF_DECLARE(row_project)
REF_DECLARE(smear)
REF_DECLARE(smear_back_gate)
REF_DECLARE(smear_within)
REF_DECLARE(smear_back_gate_within)
REF_DECLARE(moe_column_sum)
REF_DECLARE(moe_bias_back)
REF_DECLARE(sum)
REF_DECLARE(grad_norm)
REF_DECLARE(expert_norm)
REF_DECLARE(expert_moves)
REF_DECLARE(grad_clip)
REF_DECLARE(expert_touch)
REF_DECLARE(expert_steps)
REF_DECLARE(adamw)
REF_DECLARE(adamw_8bit)
REF_DECLARE(adamw_stochastic)
REF_DECLARE(adamw_8bit_stochastic)
REF_DECLARE(sgd)
REF_DECLARE(muon_momentum)
REF_DECLARE(muon_scale)
REF_DECLARE(muon_tables)
REF_DECLARE(muon_mix)
REF_DECLARE(muon_update)
REF_DECLARE(cast)
REF_DECLARE(average)
REF_DECLARE(token_linear)
REF_DECLARE(token_linearf)
REF_DECLARE(heads)
REF_DECLARE(token_router)
REF_DECLARE(token_up)
REF_DECLARE(token_down)
REF_DECLARE(sample)
#undef REF_DECLARE

// The step that a part of an optimizer's dispatch takes; 0: none.
uint32_t ref_optimizer_step(const struct push_optimizer *push, const struct step_words *step,
                            const uint32_t *moves, uint32_t matrix);

// Without masters (KERNEL_ADAMW_STOCHASTIC): 16 random bits for an element of a part, and the value
// in bf16 after they are added to the 16 that go.
uint32_t ref_random_half(const struct step_words *step, uint32_t draw, uint32_t element);
uint16_t ref_round_bf16(float value, uint32_t half);

// f(x) and f'(x): the same for the dense and the grouped products (activate.c).
double ref_activation(enum kernel_activation activation, double x);
double ref_activation_slope(enum kernel_activation activation, double x);

// Of sample, for its check: the exact distribution (prob[vocab]) and the number in (0, 1) that is
// drawn.
void ref_sample_probabilities(const struct step_words *step, const float *logits,
                              const uint32_t *seen, uint32_t vocab, double *prob);
float ref_sample_unit(const struct step_words *step);
