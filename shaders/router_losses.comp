// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_LOSSES (src/kernel.h): the values of the auxiliary losses, and the slopes that
// router_back multiplies with. One workgroup: first the sums over the experts and the tokens, then
// each expert's slopes.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer Lse { float lse[]; };
layout(binding = 1) readonly buffer Sums { float sums[]; };
layout(binding = 2) readonly buffer GateSums { float gate_sums[]; };
layout(binding = 3) readonly buffer Kept { uint kept[]; };
layout(binding = 4) buffer Stats { float stats[]; };
layout(binding = 5) writeonly buffer Slope { float slope[]; };
layout(binding = 6) readonly buffer Entropy { float entropies[]; };
layout(push_constant) uniform Push {
    uint tokens, experts, count, global;
    float balance_coef, variance_coef, mean_entropy_coef, importance_coef;
};
#include "lib/router_stats.glsl"

const float TINY = 1e-9;    // in the logarithm of a mean probability, as H64LM's
const float CV_TINY = 1e-10; // beside a squared mean, as tensor2tensor's cv_squared

float load_of(uint e) { return stats[global != 0 ? stat_step(e) : stat_count(e)]; }

// sum and sum of squares about `about` of the gate sums
vec2 importance(float about)
{
    vec2 sum = vec2(0.0);
    if (importance_coef == 0.0) return sum;
    for (uint e = LANE; e < experts; e += LANES) {
        const float x = gate_sums[e] - about;
        sum += vec2(x, x * x);
    }
    return vec2(reduce_add(sum.x), reduce_add(sum.y));
}

void main()
{
    const float mean = 1.0 / float(tokens), share = 1.0 / float(experts);
    if (count != 0)
        for (uint e = LANE; e < experts; e += LANES) stats[stat_step(e)] += stats[stat_count(e)];
    // each lane reads what it wrote
    float picks = 0.0, all = 0.0, load = 0.0, variance = 0.0, flat_entropy = 0.0;
    float squares = 0.0;
    for (uint e = LANE; e < experts; e += LANES) {
        const float p = stats[stat_mean(e)];
        picks += stats[stat_count(e)];
        all += load_of(e);
        load += load_of(e) * p;
        variance += (p - share) * (p - share);
        flat_entropy -= p * log(p + TINY);
        squares += sums[e];
    }
    float square = 0.0, entropy = 0.0, sharpest = -3.4e38; // the largest -entropy
    for (uint t = LANE; t < tokens; t += LANES) {
        square += lse[t] * lse[t];
        entropy += entropies[t];
        sharpest = max(sharpest, -entropies[t]);
    }
    picks = reduce_add(picks);
    all = max(reduce_add(all), 1.0);
    load = reduce_add(load);
    variance = reduce_add(variance) * share;
    flat_entropy = reduce_add(flat_entropy);
    square = reduce_add(square) * mean;
    entropy = reduce_add(entropy) * mean;
    const float least_entropy = -reduce_max(sharpest),
                z_square = reduce_add(squares) * mean * share;
    const float middle = importance(0.0).x * share, spread = importance(middle).y * share;
    const float divisor = middle * middle + CV_TINY;

    for (uint e = LANE; e < experts; e += LANES) {
        const float p = stats[stat_mean(e)];
        slope[e] = balance_coef * float(experts) * load_of(e) / all +
                   variance_coef * 2.0 * share * (p - share) +
                   mean_entropy_coef * (log(p + TINY) + p / (p + TINY));
        slope[experts + e] = 0.0;
        if (importance_coef == 0.0) continue;
        const float above = (gate_sums[e] - middle) * divisor - spread * middle;
        slope[experts + e] = importance_coef * 2.0 * share * above / (divisor * divisor);
    }
    if (LANE != 0) return;
    stats[STAT_BALANCE] = load * float(experts) / all;
    stats[STAT_Z] = square;
    stats[STAT_ENTROPY] = entropy;
    stats[STAT_POOLED] = 0.0;
    stats[STAT_VARIANCE] = variance;
    stats[STAT_MEAN_ENTROPY] = flat_entropy;
    stats[STAT_IMPORTANCE] = spread / divisor;
    stats[STAT_Z_SQUARE] = z_square;
    stats[STAT_PICKS] = picks;
    stats[STAT_KEPT] = float(kept[experts]);
    stats[STAT_LEAST_ENTROPY] = least_entropy;
}
