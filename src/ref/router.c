// SPDX-License-Identifier: MIT
// References of router, router_back, router_stats and router_totals: softmax over the experts, k
// times argmax, gates; its gradient with the auxiliary losses (Switch balance, Fedus et al. 2021;
// z-loss, Zoph et al. 2022); statistics.
#include "ref.h"

// Order of the picks: the larger logit, then the lower id; NaN after every number.
static bool comes_before(const float *logits, uint32_t a, uint32_t b)
{
    if (isnan(logits[a]) || isnan(logits[b]))
        return isnan(logits[a]) == isnan(logits[b]) ? a < b : !isnan(logits[a]);
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

static bool is_picked(const uint32_t *ids, uint32_t count, uint32_t e)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == e) return true;
    return false;
}

static uint32_t best_of_rest(const float *logits, uint32_t experts, const uint32_t *ids,
                             uint32_t count)
{
    uint32_t best = KERNEL_NONE_ID;
    for (uint32_t e = 0; e < experts; e++)
        if (!is_picked(ids, count, e) && (best == KERNEL_NONE_ID || comes_before(logits, e, best)))
            best = e;
    return best;
}

void ref_router(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const uint32_t experts = push->experts, top_k = push->top_k;
    double *part = malloc(experts * sizeof *part); // exp(z - largest z)
    for (uint32_t t = 0; t < push->tokens; t++) {
        const float *logits = (const float *)call->buffer[0] + (size_t)t * experts;
        float *probs = (float *)call->buffer[1] + (size_t)t * experts;
        uint32_t *ids = (uint32_t *)call->buffer[2] + (size_t)t * top_k;
        float *gates = (float *)call->buffer[3] + (size_t)t * top_k;
        for (uint32_t k = 0; k < top_k; k++) ids[k] = best_of_rest(logits, experts, ids, k);

        const double temper = (double)push->inv_temperature, top = (double)logits[ids[0]] * temper;
        double sum = 0, picked = 0;
        for (uint32_t e = 0; e < experts; e++)
            sum += part[e] = exp((double)logits[e] * temper - top);
        for (uint32_t e = 0; e < experts; e++) probs[e] = (float)(part[e] / sum);
        ((float *)call->buffer[4])[t] = (float)(top + log(sum));
        for (uint32_t k = 0; k < top_k; k++) picked += part[ids[k]];
        for (uint32_t k = 0; k < top_k; k++)
            gates[k] = (float)(part[ids[k]] / (push->renormalise ? picked : sum));
    }
    free(part);
}

static double all_tokens(const struct push_router *push)
{
    return push->total ? push->total : push->tokens;
}

// d objective / d probability of every expert: through the gates and the balance loss
static void probability_gradient(const struct gpu_ref_call *call, const struct push_router *push,
                                 uint32_t t, double *dp)
{
    const float *probs = (const float *)call->buffer[0] + (size_t)t * push->experts;
    const uint32_t *ids = (const uint32_t *)call->buffer[1] + (size_t)t * push->top_k;
    const float *gates = (const float *)call->buffer[2] + (size_t)t * push->top_k;
    const float *dgates = (const float *)call->buffer[3] + (size_t)t * push->top_k;
    const uint32_t *offsets = call->buffer[5];
    const struct step_words *step = call->buffer[6];

    for (uint32_t e = 0; e < push->experts; e++) {
        const double f = (offsets[e + 1] - offsets[e]) / (all_tokens(push) * push->top_k);
        dp[e] = (double)step->aux_scale * (double)push->balance_coef * push->experts * f /
                all_tokens(push);
    }
    double picked = 0, dot = 0;
    for (uint32_t k = 0; k < push->top_k; k++) {
        if (ids[k] >= push->experts) continue;
        picked += (double)probs[ids[k]];
        dot += (double)dgates[k] * (double)gates[k];
    }
    for (uint32_t k = 0; k < push->top_k; k++) {
        if (ids[k] >= push->experts) continue;
        dp[ids[k]] += push->renormalise ? ((double)dgates[k] - dot) / picked : (double)dgates[k];
    }
}

void ref_router_back(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const struct step_words *step = call->buffer[6];
    const float *lse = call->buffer[4];
    double *dp = malloc(push->experts * sizeof *dp);
    for (uint32_t t = 0; t < push->tokens; t++) {
        const float *probs = (const float *)call->buffer[0] + (size_t)t * push->experts;
        probability_gradient(call, push, t, dp);
        double mean = 0;
        for (uint32_t e = 0; e < push->experts; e++) mean += (double)probs[e] * dp[e];
        const double dlse =
            (double)step->aux_scale * (double)push->z_coef * 2 * (double)lse[t] / all_tokens(push);
        for (uint32_t e = 0; e < push->experts; e++)
            ref_store(call, 7, (size_t)t * push->experts + e,
                      (double)probs[e] * (dp[e] - mean + dlse) * (double)push->inv_temperature);
    }
    free(dp);
}

void ref_router_stats(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *probs = call->buffer[0];
    const uint32_t *offsets = call->buffer[1], experts = push->experts;
    float *count = (float *)call->buffer[2] + 4, *mean = count + experts;
    float *entropy = call->buffer[3];
    for (uint32_t e = 0; e < experts; e++) {
        double sum = push->accumulate ? (double)mean[e] * all_tokens(push) : 0;
        double own = push->accumulate ? (double)entropy[e] : 0;
        for (uint32_t t = 0; t < push->tokens; t++) {
            const double p = (double)probs[(size_t)t * experts + e];
            sum += p;
            own -= p > 0 ? p * log(p) : p;
        }
        count[e] = (float)(offsets[e + 1] - offsets[e]);
        mean[e] = (float)(sum / all_tokens(push));
        entropy[e] = (float)own;
    }
}

void ref_router_totals(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const float *lse = call->buffer[0], *entropy = call->buffer[1];
    float *stats = call->buffer[2], *count = stats + 4, *mean = count + push->experts;
    double balance = 0, square = 0, all = 0;
    for (uint32_t e = 0; e < push->experts; e++) {
        balance += (double)mean[e] * (double)count[e];
        all += (double)entropy[e];
    }
    for (uint32_t t = 0; t < push->tokens; t++) square += (double)lse[t] * (double)lse[t];
    stats[0] = (float)(balance * push->experts / ((double)push->tokens * push->top_k));
    stats[1] = (float)(square / push->tokens);
    stats[2] = (float)(all / push->tokens / log(push->experts));
    stats[3] = 0;
}
