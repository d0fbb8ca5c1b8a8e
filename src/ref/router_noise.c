// SPDX-License-Identifier: MIT
// References of router_noise, its way back, router_hash and moe_capacity.
#include "ref.h"

static struct rng_block block_of(const struct gpu_ref_call *call, uint32_t t, uint32_t e)
{
    const struct push_router_noise *push = call->push;
    const struct step_words *step = call->buffer[0];
    const uint32_t token = step->micro * push->total + push->first + t;
    return rng_philox((uint64_t)step->seed_high << 32 | step->seed_low, (uint64_t)token << 32 | e,
                      (uint64_t)step->step << 32 | push->layer);
}

// As rng_unit of shaders/lib/rng.glsl: every step is exact.
static double unit(uint32_t word) { return (word >> 9) * 0x1p-23 + 0x1p-24; }

static double normal(struct rng_block block)
{
    return sqrt(-2 * log(unit(block.word[0]))) * cos(6.283185307179586 * unit(block.word[1]));
}

static double factor(const struct push_router_noise *push, struct rng_block block)
{
    return 1 + (double)push->jitter * (2 * unit(block.word[2]) - 1);
}

static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double logistic(double x) { return 1 / (1 + exp(-x)); }

void ref_router_noise(const struct gpu_ref_call *call)
{
    const struct push_router_noise *push = call->push;
    const float *noise = call->buffer[1];
    float *logits = call->buffer[3];
    const double divisor = push->learned ? softplus(ref_load(call, 2, 0)) : 1;
    for (uint32_t t = 0; t < push->tokens; t++)
        for (uint32_t e = 0; e < push->experts; e++) {
            const size_t i = (size_t)t * push->experts + e;
            const struct rng_block block = block_of(call, t, e);
            const double extra = push->noisy ? normal(block) * softplus((double)noise[i]) : 0;
            logits[i] = (float)(((double)logits[i] * factor(push, block) + extra) / divisor);
        }
}

void ref_router_noise_back(const struct gpu_ref_call *call)
{
    const struct push_router_noise *push = call->push;
    const float *noise = call->buffer[1], *logits = call->buffer[3];
    const double theta = push->learned ? ref_load(call, 2, 0) : 0,
                 divisor = push->learned ? softplus(theta) : 1;
    for (uint32_t t = 0; t < push->tokens; t++) {
        double sum = 0;
        for (uint32_t e = 0; e < push->experts; e++) {
            const size_t i = (size_t)t * push->experts + e;
            const struct rng_block block = block_of(call, t, e);
            const double dz = ref_load(call, 4, i);
            sum += dz * (double)logits[i];
            if (push->noisy)
                ref_store(call, 5, i, dz / divisor * normal(block) * logistic((double)noise[i]));
            ref_store(call, 4, i, dz / divisor * factor(push, block));
        }
        if (push->learned)
            ((float *)call->buffer[6])[t] = (float)(-sum / divisor * logistic(theta));
    }
}

static uint32_t mixed(uint32_t x) // MurmurHash3's finalizer
{
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

void ref_router_hash(const struct gpu_ref_call *call)
{
    const struct push_router_hash *push = call->push;
    const uint32_t *ids = call->buffer[0], apart = push->experts / push->top_k;
    for (uint32_t t = 0; t < push->tokens; t++) {
        float *scores = (float *)call->buffer[1] + (size_t)t * push->experts;
        uint32_t *picks = (uint32_t *)call->buffer[2] + (size_t)t * push->top_k;
        float *gates = (float *)call->buffer[3] + (size_t)t * push->top_k;
        memset(scores, 0, push->experts * sizeof *scores);
        for (uint32_t k = 0; k < push->top_k; k++) {
            picks[k] = (mixed(ids[t] + push->layer * 0x9e3779b9u) % push->experts + k * apart) %
                       push->experts;
            scores[picks[k]] = gates[k] = 1.0f / (float)push->top_k;
        }
        ((float *)call->buffer[4])[t] = 0;
    }
}

void ref_moe_capacity(const struct gpu_ref_call *call)
{
    const struct push_moe_capacity *push = call->push;
    const uint32_t *ids = call->buffer[0], *inverse = call->buffer[1], *offsets = call->buffer[2];
    uint32_t *kept = call->buffer[3];
    for (uint32_t p = 0; p < push->pairs; p++) {
        const bool has = ids[p] < push->experts && inverse[p] - offsets[ids[p]] < push->capacity;
        kept[p] = has ? ids[p] : KERNEL_NONE_ID;
    }
}
