// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_BACK (src/kernel.h). One workgroup or one lane a token, as in router.comp. With q
// the scores divided by their sum, A_e = d auxiliary losses / d q_e, d_e the gradient that reaches
// a picked score s_e through its gate, w = 1 (softmax) or 1 - s_e (sigmoid):
//     softmax: dz_e = q_e (A_e + d_e - sum_j q_j (A_j + d_j)), s = q
//     sigmoid: dz_e = (1 - s_e) (q_e (A_e - sum_j q_j A_j) + s_e d_e)
// plus what z itself is charged with; dlogits = dz / temperature. All experts are written as if not
// picked; then the lane that owns a picked one writes it again. WITHIN: slopes are those of the
// experts from base[t] on.
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

layout(binding = 0) readonly buffer Scores { float scores[]; };
layout(binding = 1) readonly buffer Ids { uint ids[]; };
layout(binding = 2) readonly buffer Dgates { float dgates[]; };
layout(binding = 3) readonly buffer Lse { float lse[]; };
layout(binding = 4) readonly buffer Slope { float slope[]; };
layout(binding = 5) readonly buffer Step { step_words step; };
#ifdef WITHIN
layout(binding = 6) readonly buffer Base { uint base[]; };
uint first_slope;
#else
layout(binding = 6) readonly buffer Logits { float logits[]; };
const uint first_slope = 0;
#endif
layout(binding = 7) writeonly buffer Dlogits { STORE dlogits[]; };
float mean, to_q, shift; // to_q: q / score; shift: what is subtracted from every A_e

float aux(uint e, float q)
{
    const float a = mean * slope[first_slope + e];
    return entropy_coef == 0.0 ? a : a + mean * entropy_coef * log(max(q, 1e-38));
}

void write(uint row, uint e, float pick)
{
    const float s = scores[row + e], q = s * to_q;
    float dz = q * (aux(e, q) - shift);
    if (sigmoid != 0) dz = (1.0 - s) * (dz + s * pick);
    else dz += s * pick;
#ifndef WITHIN
    if (z_square_coef != 0.0)
        dz += mean * z_square_coef * 2.0 / float(experts) * logits[row + e] * inv_temperature;
#endif
    dlogits[row + e] = SAVE(dz * inv_temperature);
}

// d objective / d gate
float gate_slope(uint pair, uint e)
{
#ifdef WITHIN
    return dgates[pair];
#else
    return dgates[pair] + step.aux_scale * slope[experts + e];
#endif
}

void main()
{
    const uint t = router_token();
    if (t >= tokens) return;
#ifdef WITHIN
    first_slope = base[t];
#endif
    const uint row = t * experts, picks = t * top_k;
    mean = step.aux_scale / all_tokens();
    to_q = sigmoid != 0 ? exp(-lse[t]) : 1.0;

    // through the gates: d_i = dgate_i, or (dgate_i - sum_j dgate_j s_j / S) / S, S = sum of the
    // picked scores; times scale
    float picked = 0.0, dot_picked = 0.0;
    for (uint k = 0; k < top_k; k++) {
        const uint e = ids[picks + k];
        if (e >= experts) continue;
        const float s = scores[row + e];
        picked += s;
        dot_picked += gate_slope(picks + k, e) * s;
    }
    const float factor = straight != 0 ? 1.0 : renormalise != 0 ? scale / (picked + 1e-20) : scale;
    const bool divided = renormalise != 0 && straight == 0;
    const float subtract = divided ? dot_picked / (picked + 1e-20) : 0.0;
    dot_picked = factor * (dot_picked - subtract * picked);

    float dot_aux = 0.0;
    for (uint e = FIRST; e < experts; e += STRIDE) {
        const float q = scores[row + e] * to_q;
        dot_aux += q * aux(e, q);
    }
    if (!NARROW) dot_aux = reduce_add(dot_aux);
    shift = dot_aux - mean * z_coef * 2.0 * lse[t] + (sigmoid != 0 ? 0.0 : dot_picked);

    for (uint e = FIRST; e < experts; e += STRIDE) write(row, e, 0.0);
    for (uint k = 0; k < top_k; k++) {
        const uint e = ids[picks + k];
        if (e >= experts || e % STRIDE != FIRST) continue;
        write(row, e, factor * (gate_slope(picks + k, e) - subtract));
    }
}
