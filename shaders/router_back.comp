// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_BACK (src/kernel.h). One workgroup or one lane a token, as in router.comp. With
// a_e = aux_scale * balance_coef * E f_e / T and d_e the gradient that reaches a picked probability
// through its gate: dp = a + d, dlogits = dz / temperature and
//     dz_e = p_e (dp_e - sum_j p_j dp_j) + aux_scale * z_coef * 2 lse / T * p_e.
// All experts are written as if not picked; then the lane that owns a picked one writes it again.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Probs { float probs[]; };
layout(binding = 1) readonly buffer Ids { uint ids[]; };
layout(binding = 2) readonly buffer Gates { float gates[]; };
layout(binding = 3) readonly buffer Dgates { float dgates[]; };
layout(binding = 4) readonly buffer Lse { float lse[]; };
layout(binding = 5) readonly buffer Offsets { uint offsets[]; };
layout(binding = 6) readonly buffer Step { step_words step; };
layout(binding = 7) writeonly buffer Dlogits { STORE dlogits[]; };
float balance_scale, shift; // shift: what is subtracted from every dp_e

// a_e: the gradient of the balance loss
float balance(uint e)
{
    return balance_coef == 0.0 ? 0.0 : balance_scale * float(offsets[e + 1] - offsets[e]);
}

void write(uint row, uint e, float pick)
{
    dlogits[row + e] = SAVE(probs[row + e] * (balance(e) + pick - shift) * inv_temperature);
}

void main()
{
    const uint t = router_token();
    if (t >= tokens) return;
    const uint row = t * experts, picks = t * top_k;
    const float mean = step.aux_scale / all_tokens();
    balance_scale = mean * balance_coef * float(experts) / (all_tokens() * float(top_k));

    // through the gates: d_i = dgate_i, or (dgate_i - sum_j dgate_j gate_j) / (sum of picked p)
    float dot_gates = 0.0, picked = 0.0, dot_picked = 0.0;
    for (uint k = 0; k < top_k; k++) {
        const uint e = ids[picks + k];
        if (e >= experts) continue;
        const float p = probs[row + e];
        picked += p;
        dot_gates += dgates[picks + k] * gates[picks + k];
        dot_picked += dgates[picks + k] * p;
    }
    const float subtract = renormalise != 0 ? dot_gates : 0.0;
    const float scale = renormalise != 0 ? 1.0 / picked : 1.0;
    dot_picked = scale * (dot_picked - subtract * picked);

    float dot_balance = 0.0;
    if (balance_coef != 0.0) {
        for (uint e = FIRST; e < experts; e += STRIDE) dot_balance += probs[row + e] * balance(e);
        if (!NARROW) dot_balance = reduce_add(dot_balance);
    }
    shift = dot_picked + dot_balance - mean * z_coef * 2.0 * lse[t];

    for (uint e = FIRST; e < experts; e += STRIDE) write(row, e, 0.0);
    for (uint k = 0; k < top_k; k++) {
        const uint e = ids[picks + k];
        if (e >= experts || e % STRIDE != FIRST) continue;
        write(row, e, scale * (dgates[picks + k] - subtract));
    }
}
