// SPDX-License-Identifier: MIT
// KERNEL_SAMPLE (src/kernel.h): the next token, in one workgroup. Top-k and top-p each keep a prefix of the
// order (value falling, id rising), so what is kept is one threshold and one id: everything above the
// threshold, and of what equals it the ids below `cut`. Thresholds are found by a search over the ordered
// bits of the float, three probes a pass, so nothing is sorted and no scratch memory is needed.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/group.glsl"
#include "lib/order.glsl"
#include "lib/rng.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Logits { float logits[]; };
layout(binding = 2) buffer Seen { uint seen[]; };
layout(binding = 3) writeonly buffer Token { uint token[2]; };
layout(push_constant) uniform Push { uint rows, vocab, backward; };

const uint NONE = 0xffffffffu;
const uint LOWEST_KEY = 0x007fffffu; // -inf; only NaN is below
const uint STREAM = 0x73616d70u;     // "samp", the stream of src/ref/sample.c

bool  penalise;
float top, inv_temperature; // the largest value, 1 / temperature
// what is kept
uint  threshold, cut, kept; // key, first id at the threshold that is not kept, how many
float mass;                 // sum of the weights

float value(uint i)
{
    const float x = logits[i];
    if (!penalise || seen[i] == 0) return x;
    return x > 0.0 ? x / step.repetition_penalty : x * step.repetition_penalty;
}

float weight(float x) { return x == top ? 1.0 : exp((x - top) * inv_temperature); }

bool keep(uint i, float x, float bound) { return x > bound || (x == bound && i < cut); }

// What the ordered walk below adds up: the kept weights, or the number of values at the threshold.
float part(uint i, float bound, bool ties)
{
    if (i >= vocab) return 0.0;
    const float x = value(i);
    if (ties) return x == bound ? 1.0 : 0.0;
    return keep(i, x, bound) ? weight(x) : 0.0;
}

float total(bool ties)
{
    const float bound = order_value(threshold);
    float sum = 0.0;
    for (uint i = LANE; i < vocab; i += LANES) sum += part(i, bound, ties);
    return reduce_add(sum);
}

// The first id where the sum over ids in rising order exceeds the goal; the last one that adds anything where
// rounding never lets it. Chunks of 4 * LANES are summed across lanes, the chunk itself by every lane alike.
uint walk(float goal, bool ties)
{
    const float bound = order_value(threshold);
    float sum = 0.0, before = 0.0; // before: the sum at the last chunk that adds anything
    uint last = NONE;
    for (uint base = 0; base < vocab; base += 4 * LANES) {
        float own = 0.0;
        for (uint i = 0; i < 4; i++) own += part(base + i * LANES + LANE, bound, ties);
        const float chunk = reduce_add(own);
        if (chunk > 0.0) {
            last = base;
            before = sum;
        }
        sum += chunk;
        if (sum > goal) break;
    }
    if (last == NONE) return NONE;
    uint id = NONE;
    sum = before;
    for (uint i = last; i < min(vocab, last + 4 * LANES); i++) {
        const float own = part(i, bound, ties);
        if (own > 0.0) id = i;
        sum += own;
        if (own > 0.0 && sum > goal) break;
    }
    return id;
}

// Shrinks what is kept to the shortest prefix whose measure (its weight, or its count) reaches the goal.
void shrink(float goal, bool by_weight)
{
    uint low = threshold, high = order_key(top) + 1; // measure(>= low) reaches the goal, measure(>= high) does not
    uint low_count = kept, high_count = 0;
    float low_measure = by_weight ? mass : float(kept), high_measure = 0.0;
    while (high - low > 1 && low_count - high_count > 1 && low_measure != goal) {
        const uint span = high - low;
        const uvec3 key = low + uvec3(max(span / 4, 1), span / 2, span - max(span / 4, 1));
        const vec3 bound = vec3(order_value(key.x), order_value(key.y), order_value(key.z));
        vec3 measure = vec3(0.0);
        uvec3 count = uvec3(0);
        for (uint i = LANE; i < vocab; i += LANES) {
            const float x = value(i);
            const bvec3 above = greaterThanEqual(vec3(x), bound);
            count += uvec3(above);
            if (by_weight) measure += mix(vec3(0.0), vec3(weight(x)), above);
        }
        count = uvec3(reduce_add(count.x), reduce_add(count.y), reduce_add(count.z));
        measure = by_weight ? vec3(reduce_add(measure.x), reduce_add(measure.y), reduce_add(measure.z)) : vec3(count);
        for (int i = 0; i < 3; i++) {
            if (measure[i] >= goal) {
                low = key[i], low_count = count[i], low_measure = measure[i];
            } else {
                high = key[i], high_count = count[i], high_measure = measure[i];
                break;
            }
        }
    }
    if (low != threshold) cut = NONE;
    threshold = low;
    kept = low_count;
    mass = low_measure;
    if (high - low > 1 || low_measure == goal) return;
    // everything between is one value; of equal ones the lowest ids stay
    const float each = by_weight ? weight(order_value(low)) : 1.0;
    const uint ties = low_count - high_count;
    const uint wanted = uint(clamp(ceil((goal - high_measure) / each), 1.0, float(ties)));
    if (wanted == ties) return;
    cut = walk(float(wanted) - 0.5, true) + 1;
    kept = high_count + wanted;
}

uint draw()
{
    threshold = LOWEST_KEY;
    cut = NONE;
    if (step.top_k > 0 && step.top_k < kept) shrink(float(step.top_k), false);
    if (step.top_p < 1.0) {
        mass = total(false);
        shrink(step.top_p * mass, true);
    }
    const uvec4 random = rng_philox(uvec2(step.seed_low, step.seed_high), uvec4(step.base, 0, STREAM, 0));
    return walk(rng_unit(random.x) * total(false), false);
}

void main()
{
    if (group_index() != 0) return;
    penalise = step.repetition_penalty > 0.0 && step.repetition_penalty != 1.0;
    uvec2 best = uvec2(0, NONE);
    uint numbers = 0; // values that are not NaN
    for (uint i = LANE; i < vocab; i += LANES) {
        const uint key = order_key(value(i));
        numbers += uint(key > 0);
        if (key > best.x) best = uvec2(key, i);
    }
    const uint top_key = reduce_max(best.x);
    const uint greedy = reduce_min(best.x == top_key ? best.y : NONE);
    kept = reduce_add(numbers);
    top = order_value(top_key);
    inv_temperature = 1.0 / step.temperature;
    uint id = greedy;
    if (kept > 0 && step.temperature > 0.0) id = draw();
    if (id >= vocab) id = kept > 0 ? greedy : 0;
    if (LANE == 0) {
        token[0] = id;
        token[1] = 0;
        seen[id] = 1;
    }
}
