// SPDX-License-Identifier: MIT
// KERNEL_SAMPLE (src/kernel.h): the next token, in one workgroup. Top-k and top-p each keep a
// prefix of the order (value falling, id rising), so what is kept is one threshold and one index:
// everything above the threshold, and of what equals it the indices below `cut`. Thresholds are
// found by a search with PROBES probes a pass, first over the value, then over the ordered bits of
// the float, which must end: nothing is sorted. Once at most CAPACITY candidates are left they move
// to shared memory, in their order, and all that follows looks at them alone. Loops take TURN *
// LANES values a turn, so that loads overlap, and because lavapipe ends all loops of an invocation
// after 65,535 turns.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
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
#define NAN uintBitsToFloat(NONE)
const uint LOWEST_KEY = 0x007fffffu; // -inf; only NaN is below
const uint STREAM = 0x73616d70u;     // "samp", the stream of src/ref/sample.c
const uint TURN = 8, PROBES = 3, CAPACITY = 1024;
const uint VALUE_PASSES = 8;         // logits rarely need more
const float REACH = 32.0;            // how far below the best threshold the first probes look

shared float candidate[CAPACITY];
shared uint  candidate_id[CAPACITY];

bool  penalise, gathered; // gathered: the candidates are the source, else the logits
uint  total_count;        // values of the source
float top, inv_temperature; // the largest value, 1 / temperature
// what is kept
uint  threshold, cut, kept; // key, first id at the threshold that is not kept, how many
float mass;                 // sum of the weights

float value(uint i)
{
    if (gathered) return candidate[i];
    const float x = logits[i];
    if (!penalise || seen[i] == 0) return x;
    return x > 0.0 ? x / step.repetition_penalty : x * step.repetition_penalty;
}

float weight(float x) { return x == top ? 1.0 : exp((x - top) * inv_temperature); }

bool keep(uint i, float x, float bound) { return x > bound || (x == bound && i < cut); }

// What the ordered walk below adds up: the kept weights, or the number of values at the threshold.
float part(uint i, float bound, bool ties)
{
    if (i >= total_count) return 0.0;
    const float x = value(i);
    if (ties) return x == bound ? 1.0 : 0.0;
    return keep(i, x, bound) ? weight(x) : 0.0;
}

float total(bool ties)
{
    const float bound = order_value(threshold);
    float sum = 0.0;
    for (uint base = LANE; base < total_count; base += TURN * LANES)
        [[unroll]] for (uint i = 0; i < TURN; i++) sum += part(base + i * LANES, bound, ties);
    return reduce_add(sum);
}

// The first index where the sum in rising order exceeds the goal; the last one that adds anything
// where rounding never lets it. Chunks of 4 * LANES are summed across lanes, the chunk itself by
// every lane alike.
uint walk(float goal, bool ties)
{
    const float bound = order_value(threshold);
    float sum = 0.0, before = 0.0; // before: the sum at the last chunk that adds anything
    uint last = NONE;
    for (uint base = 0; base < total_count; base += 4 * LANES) {
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
    uint index = NONE;
    sum = before;
    for (uint i = last; i < min(total_count, last + 4 * LANES); i++) {
        const float own = part(i, bound, ties);
        if (own > 0.0) index = i;
        sum += own;
        if (own > 0.0 && sum > goal) break;
    }
    return index;
}

struct search {
    uint  low, high; // keys: measure(>= low) reaches the goal, measure(>= high) does not
    uint  low_count, high_count;
    float low_measure, high_measure;
};

// Where probe i of a pass stands, strictly between low and high.
uint probe(search s, uint pass, uint i)
{
    const uint span = s.high - s.low;
    uint key = s.low + max(span / (PROBES + 1), 1) * (i + 1);
    if (pass < VALUE_PASSES) {
        const float high = order_value(s.high), low = max(order_value(s.low), high - REACH);
        key = order_key(low + (high - low) * (float(i + 1) / float(PROBES + 1)));
    }
    return clamp(key, s.low + 1, s.high - 1);
}

void narrow(inout search s, uint pass, float goal, bool by_weight)
{
    float bound[PROBES], measure[PROBES];
    uint count[PROBES];
    [[unroll]] for (uint i = 0; i < PROBES; i++) {
        bound[i] = order_value(probe(s, pass, i));
        measure[i] = 0.0;
        count[i] = 0;
    }
    for (uint base = LANE; base < total_count; base += TURN * LANES)
        [[unroll]] for (uint j = 0; j < TURN; j++) {
            const uint at = base + j * LANES;
            const float x = at < total_count ? value(at) : NAN; // is above nothing
            const float own = by_weight ? weight(x) : 0.0;
            [[unroll]] for (uint i = 0; i < PROBES; i++) {
                const bool above = x >= bound[i];
                count[i] += uint(above);
                measure[i] += above ? own : 0.0;
            }
        }
    const search before = s;
    bool below = true; // all probes so far reach the goal
    [[unroll]] for (uint i = 0; i < PROBES; i++) {
        const uint key = probe(before, pass, i), all = reduce_add(count[i]);
        const float sum = by_weight ? reduce_add(measure[i]) : float(all);
        if (below && sum >= goal) {
            s.low = key, s.low_count = all, s.low_measure = sum;
        } else if (below) {
            s.high = key, s.high_count = all, s.high_measure = sum;
            below = false;
        }
    }
}

// Moves everything from `low` up, of which there are at most CAPACITY, to shared memory.
void gather(uint low)
{
    const float bound = order_value(low);
    if (low != threshold) cut = NONE;
    uint count = 0;
    for (uint base = 0; base < vocab; base += LANES) {
        const uint id = base + LANE;
        const float x = id < vocab ? value(id) : NAN;
        const bool chosen = keep(id, x, bound);
        uint all;
        const uint at = count + scan_add(uint(chosen), all);
        if (chosen && at < CAPACITY) {
            candidate[at] = x;
            candidate_id[at] = id;
        }
        count += all;
    }
    group_sync();
    gathered = true;
    total_count = min(count, CAPACITY);
    cut = NONE;
}

// Shrinks what is kept to the shortest prefix whose measure (its weight, or its count) reaches the
// goal.
void shrink(float goal, bool by_weight)
{
    search s = search(threshold, order_key(top) + 1, kept, 0, by_weight ? mass : float(kept), 0.0);
    uint pass = 0;
    while (s.high - s.low > 1 && s.low_count - s.high_count > 1 && s.low_measure != goal) {
        narrow(s, pass++, goal, by_weight);
        if (!gathered && s.low_count <= CAPACITY) gather(s.low);
    }
    if (s.low != threshold) cut = NONE;
    threshold = s.low;
    kept = s.low_count;
    mass = s.low_measure;
    if (s.high - s.low > 1 || s.low_measure == goal) return;
    // everything between is one value; of equal ones the lowest ids stay
    const float each = by_weight ? weight(order_value(s.low)) : 1.0;
    const uint ties = s.low_count - s.high_count;
    const uint wanted = uint(clamp(ceil((goal - s.high_measure) / each), 1.0, float(ties)));
    if (wanted == ties) return;
    cut = walk(float(wanted) - 0.5, true) + 1;
    kept = s.high_count + wanted;
}

// The index of the token in the source.
uint draw()
{
    threshold = LOWEST_KEY;
    cut = NONE;
    if (step.top_k > 0 && step.top_k < kept) shrink(float(step.top_k), false);
    if (step.top_p < 1.0) {
        mass = total(false);
        shrink(step.top_p * mass, true);
    }
    const uvec2 seed = uvec2(step.seed_low, step.seed_high);
    const float drawn = rng_unit(rng_philox(seed, uvec4(step.base, 0, STREAM, 0)).x);
    return walk(drawn * total(false), false);
}

void main()
{
    if (group_index() != 0) return;
    gathered = false;
    total_count = vocab;
    penalise = step.repetition_penalty > 0.0 && step.repetition_penalty != 1.0;
    uvec2 best = uvec2(0, NONE);
    uint numbers = 0; // values that are not NaN
    for (uint base = LANE; base < vocab; base += TURN * LANES)
        [[unroll]] for (uint i = 0; i < TURN; i++) {
            const uint id = base + i * LANES, key = id < vocab ? order_key(value(id)) : 0;
            numbers += uint(key > 0);
            if (key > best.x) best = uvec2(key, id);
        }
    const uint top_key = reduce_max(best.x);
    const uint greedy = reduce_min(best.x == top_key ? best.y : NONE);
    numbers = reduce_add(numbers);
    kept = numbers;
    top = order_value(top_key);
    inv_temperature = 1.0 / step.temperature;
    uint id = greedy;
    if (kept > 0 && step.temperature > 0.0) {
        id = draw();
        if (gathered && id < CAPACITY) id = candidate_id[id];
    }
    if (id >= vocab) id = numbers > 0 ? greedy : 0;
    if (LANE == 0) {
        token[0] = id;
        token[1] = 0;
        seen[id] = 1;
    }
}
