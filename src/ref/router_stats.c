// SPDX-License-Identifier: MIT
// References of what the auxiliary losses of a router are made of: statistics of each expert, the
// losses' values and slopes, Hugging Face's pooled loss, and the balancing bias.
#include "ref.h"

static float *counts_of(float *stats) { return stats + ROUTER_STATS_HEAD; }
static float *means_of(float *stats, uint32_t experts) { return counts_of(stats) + experts; }
static float *step_of(float *stats, uint32_t experts) { return counts_of(stats) + 2 * experts; }

void ref_router_entropy(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *scores = call->buffer[0], *lse = call->buffer[1];
    for (uint32_t t = 0; t < push->tokens; t++) {
        double entropy = 0;
        for (uint32_t e = 0; e < push->experts; e++) {
            const double q = (double)scores[(size_t)t * push->experts + e] *
                             (push->sigmoid ? exp(-(double)lse[t]) : 1);
            entropy -= q > 0 ? q * log(q) : -q;
        }
        ((float *)call->buffer[2])[t] = (float)entropy;
    }
}

void ref_router_stats(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *scores = call->buffer[0], *lse = call->buffer[2], *logits = call->buffer[3];
    const uint32_t *offsets = call->buffer[1], experts = push->experts;
    float *stats = call->buffer[4], *sums = call->buffer[5];
    const double total = push->total ? push->total : push->tokens;
    for (uint32_t e = 0; e < experts; e++) {
        double sum = 0, square = 0;
        for (uint32_t t = 0; t < push->tokens; t++) {
            const size_t i = (size_t)t * experts + e;
            sum += (double)scores[i] * (push->sigmoid ? exp(-(double)lse[t]) : 1);
            if (push->z_square_coef != 0)
                square += pow((double)logits[i] * (double)push->inv_temperature, 2);
        }
        float *mean = &means_of(stats, experts)[e];
        counts_of(stats)[e] = (float)(offsets[e + 1] - offsets[e]);
        *mean = (float)(sum / total + (push->accumulate ? (double)*mean : 0));
        sums[e] = (float)(square + (push->accumulate ? (double)sums[e] : 0));
    }
}

void ref_router_stats_within(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *scores = call->buffer[0];
    const uint32_t *offsets = call->buffer[1], *begin = call->buffer[2],
                   all = push->domains * push->experts;
    float *stats = call->buffer[3], *sums = call->buffer[4];
    const double total = push->total ? push->total : push->tokens;
    for (uint32_t e = 0; e < all; e++) {
        const uint32_t domain = e / push->experts, own = e % push->experts;
        double sum = 0;
        for (uint32_t row = begin[domain]; row < begin[domain + 1]; row++)
            sum += (double)scores[(size_t)row * push->experts + own];
        float *mean = &means_of(stats, all)[e];
        counts_of(stats)[e] = (float)(offsets[e + 1] - offsets[e]);
        *mean = (float)(sum / total + (push->accumulate ? (double)*mean : 0));
        if (!push->accumulate) sums[e] = 0;
    }
}

void ref_router_gates(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *gates = call->buffer[0];
    const uint32_t *offsets = call->buffer[1], *order = call->buffer[2];
    for (uint32_t e = 0; e < push->experts; e++) {
        double sum = 0;
        for (uint32_t i = offsets[e]; i < offsets[e + 1]; i++) sum += (double)gates[order[i]];
        ((float *)call->buffer[3])[e] = (float)sum;
    }
}

// The losses are sums over the experts of what this takes from their statistics.
struct losses { double picks, all, load, variance, mean_entropy, entropy, least, z_square, z; };

static struct losses losses_of(const struct push_router_losses *push, float *stats,
                               const float *sums, const float *load, const float *lse,
                               const float *entropy)
{
    struct losses l = {.least = INFINITY};
    const uint32_t experts = push->experts;
    for (uint32_t e = 0; e < experts; e++) {
        const double p = (double)means_of(stats, experts)[e];
        l.picks += (double)counts_of(stats)[e];
        l.all += (double)load[e];
        l.load += (double)load[e] * p;
        l.variance += pow(p - 1.0 / experts, 2) / experts;
        l.mean_entropy -= p * log(p + 1e-9);
        l.z_square += (double)sums[e] / push->tokens / experts;
    }
    for (uint32_t t = 0; t < push->tokens; t++) {
        l.z += pow((double)lse[t], 2) / push->tokens;
        l.entropy += (double)entropy[t] / push->tokens;
        l.least = fmin(l.least, (double)entropy[t]);
    }
    l.all = fmax(l.all, 1);
    return l;
}

struct importance { double mean, variance, divisor; };

static struct importance importance_of(const struct push_router_losses *push, const float *gates)
{
    struct importance i = {.divisor = 1e-10};
    if (push->importance_coef == 0) return i;
    for (uint32_t e = 0; e < push->experts; e++) i.mean += (double)gates[e] / push->experts;
    for (uint32_t e = 0; e < push->experts; e++)
        i.variance += pow((double)gates[e] - i.mean, 2) / push->experts;
    i.divisor += i.mean * i.mean;
    return i;
}

void ref_router_losses(const struct gpu_ref_call *call)
{
    const struct push_router_losses *push = call->push;
    const float *gates = call->buffer[2];
    const uint32_t experts = push->experts;
    float *stats = call->buffer[4], *slope = call->buffer[5];
    if (push->count)
        for (uint32_t e = 0; e < experts; e++) step_of(stats, experts)[e] += counts_of(stats)[e];
    const float *load = push->global ? step_of(stats, experts) : counts_of(stats);
    const struct losses l = losses_of(push, stats, call->buffer[1], load, call->buffer[0],
                                      call->buffer[6]);
    const struct importance i = importance_of(push, gates);
    for (uint32_t e = 0; e < experts; e++) {
        const double p = (double)means_of(stats, experts)[e];
        slope[e] = (float)((double)push->balance_coef * experts * (double)load[e] / l.all +
                           (double)push->variance_coef * 2 * (p - 1.0 / experts) / experts +
                           (double)push->mean_entropy_coef * (log(p + 1e-9) + p / (p + 1e-9)));
        slope[experts + e] = 0;
        if (push->importance_coef == 0) continue;
        const double above = ((double)gates[e] - i.mean) * i.divisor - i.variance * i.mean;
        slope[experts + e] =
            (float)((double)push->importance_coef * 2 * above / experts / pow(i.divisor, 2));
    }
    const double head[ROUTER_KEPT] = {
        [ROUTER_BALANCE] = l.load * experts / l.all, [ROUTER_Z] = l.z,
        [ROUTER_ENTROPY] = l.entropy, [ROUTER_VARIANCE] = l.variance,
        [ROUTER_MEAN_ENTROPY] = l.mean_entropy, [ROUTER_IMPORTANCE] = i.variance / i.divisor,
        [ROUTER_Z_SQUARE] = l.z_square, [ROUTER_PICKS] = l.picks,
    };
    for (int h = 0; h < ROUTER_KEPT; h++) stats[h] = (float)head[h];
    stats[ROUTER_LEAST_ENTROPY] = (float)l.least;
    stats[ROUTER_KEPT] = (float)((const uint32_t *)call->buffer[3])[experts];
}

void ref_router_pool(const struct gpu_ref_call *call)
{
    const struct push_router_pool *push = call->push;
    float *stats = call->buffer[0], *slope = call->buffer[1];
    float *own = stats + (size_t)push->layer * push->stride;
    double sum = 0;
    for (uint32_t e = 0; e < push->experts; e++) {
        double picks = 0;
        for (uint32_t i = 0; i < push->layers; i++)
            picks += (double)counts_of(stats + (size_t)i * push->stride)[e];
        const double part = push->experts * picks / ((double)push->layers * push->tokens);
        sum += part * (double)means_of(own, push->experts)[e];
        slope[e] = (float)((double)slope[e] + (double)push->coef * part);
    }
    own[ROUTER_POOLED] = (float)sum;
}

void ref_router_bias(const struct gpu_ref_call *call)
{
    const struct push_router_bias *push = call->push;
    const float *load = step_of(call->buffer[0], push->experts), *norm = call->buffer[1];
    float *bias = call->buffer[2];
    double all = 0;
    for (uint32_t e = 0; e < push->experts; e++) all += (double)load[e];
    for (uint32_t e = 0; e < push->experts; e++) {
        const double missing = all / push->experts - (double)load[e];
        if (norm[2] != 0 && missing != 0)
            bias[e] = (float)((double)bias[e] + copysign((double)push->speed, missing));
        if (push->copy) ref_store(call, 3, e, (double)bias[e]);
    }
}

void ref_router_bias_stochastic(const struct gpu_ref_call *call)
{
    const struct push_router_bias_stochastic *push = call->push;
    const float *load = step_of(call->buffer[1], push->experts), *norm = call->buffer[2];
    uint16_t *bias = call->buffer[3];
    double all = 0;
    for (uint32_t e = 0; e < push->experts; e++) all += (double)load[e];
    for (uint32_t e = 0; norm[2] != 0 && e < push->experts; e++) {
        const double missing = all / push->experts - (double)load[e];
        double value = ref_load(call, 3, e);
        if (missing != 0) value += copysign((double)push->speed, missing);
        bias[e] = push->nearest ? dtype_bf16_from_f32((float)value)
                                : ref_round_bf16((float)value,
                                                 ref_random_half(call->buffer[0], push->draw, e));
    }
}
