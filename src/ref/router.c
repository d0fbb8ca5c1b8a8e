// SPDX-License-Identifier: MIT
// References of the routers: scores, what picks go by, picks and gates, and the way back through
// them. What the losses are made of is in router_stats.c.
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

static double score_sum(const struct push_router *push, const float *logits, double *score,
                        double *lse)
{
    const double temper = (double)push->inv_temperature;
    double top = -INFINITY, sum = 0;
    for (uint32_t e = 0; e < push->experts; e++) top = fmax(top, (double)logits[e] * temper);
    if (push->sigmoid) top = 0;
    for (uint32_t e = 0; e < push->experts; e++) {
        const double z = (double)logits[e] * temper;
        sum += score[e] = push->sigmoid ? 1 / (1 + exp(-z)) : exp(z - top);
    }
    *lse = top + log(sum);
    return push->sigmoid ? 1 : sum;
}

void ref_router_score(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    double *score = malloc(push->experts * sizeof *score), lse;
    for (uint32_t t = 0; t < push->tokens; t++) {
        const float *logits = (const float *)call->buffer[0] + (size_t)t * push->experts;
        float *out = (float *)call->buffer[1] + (size_t)t * push->experts;
        const double divisor = score_sum(push, logits, score, &lse);
        for (uint32_t e = 0; e < push->experts; e++) out[e] = (float)(score[e] / divisor);
        ((float *)call->buffer[2])[t] = (float)lse;
    }
    free(score);
}

static double choice_of(const struct gpu_ref_call *call, const struct push_router *push,
                        uint32_t t, uint32_t e)
{
    const float *scores = call->buffer[0];
    // in f32, as a device has it: the order of near ties is part of the result
    const float bias = push->biased ? (float)ref_load(call, 1, e) : 0;
    return (double)(scores[(size_t)t * push->experts + e] + bias);
}

static float group_score(const struct gpu_ref_call *call, const struct push_router *push,
                         uint32_t t, uint32_t group)
{
    const uint32_t size = push->experts / push->groups;
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < size; i++) {
        const float x = (float)choice_of(call, push, t, group * size + i);
        second = fmaxf(second, fminf(first, x));
        first = fmaxf(first, x);
    }
    return size > 1 ? first + second : first;
}

static bool group_is_kept(const struct gpu_ref_call *call, const struct push_router *push,
                          uint32_t t, uint32_t group)
{
    uint32_t before = 0;
    const float own = group_score(call, push, t, group);
    for (uint32_t g = 0; g < push->groups; g++) {
        const float other = group_score(call, push, t, g);
        before += other > own || (other == own && g < group);
    }
    return before < push->group_picks;
}

void ref_router_choice(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    const uint32_t groups = max_u32(push->groups, 1), size = push->experts / groups;
    for (uint32_t t = 0; t < push->tokens; t++)
        for (uint32_t g = 0; g < groups; g++) {
            const bool kept = groups == 1 || group_is_kept(call, push, t, g);
            for (uint32_t e = g * size; e < (g + 1) * size; e++)
                ((float *)call->buffer[2])[(size_t)t * push->experts + e] =
                    kept ? (float)choice_of(call, push, t, e) : -INFINITY;
        }
}

// Whether the k-th pick is taken, where those before it were and have this sum.
static bool takes(const struct push_router *push, uint32_t k, double score, double before)
{
    if (k < push->least) return true;
    switch ((enum kernel_pick)push->pick) {
    case PICK_TOP: case PICK_ALL: return true;
    case PICK_THRESHOLD: return score > (double)push->limit;
    case PICK_MASS: return before < (double)push->limit;
    }
    return true;
}

void ref_router_pick(const struct gpu_ref_call *call)
{
    const struct push_router *push = call->push;
    for (uint32_t t = 0; t < push->tokens; t++) {
        const float *choice = (const float *)call->buffer[0] + (size_t)t * push->experts;
        const float *scores = (const float *)call->buffer[1] + (size_t)t * push->experts;
        uint32_t *ids = (uint32_t *)call->buffer[2] + (size_t)t * push->top_k, count = 0;
        float *gates = (float *)call->buffer[3] + (size_t)t * push->top_k;
        double sum = 0;
        for (; count < push->top_k; count++) {
            ids[count] = push->pick == PICK_ALL
                             ? count : best_of_rest(choice, push->experts, ids, count);
            if (ids[count] >= push->experts) break;
            const double score = (double)scores[ids[count]];
            if (!takes(push, count, score, sum)) break;
            sum += score;
        }
        const double factor = (double)push->scale / (push->renormalise ? sum + 1e-20 : 1);
        for (uint32_t k = 0; k < count; k++)
            gates[k] = push->straight ? 1 : (float)((double)scores[ids[k]] * factor);
        for (uint32_t k = count; k < push->top_k; k++) ids[k] = KERNEL_NONE_ID, gates[k] = 0;
    }
}

static double all_tokens(const struct push_router *push)
{
    return push->total ? push->total : push->tokens;
}

// Where the slopes of a row begin: router_back_within has experts of one of several domains.
static uint32_t first_slope(const struct gpu_ref_call *call, uint32_t t, bool within)
{
    return within ? ((const uint32_t *)call->buffer[6])[t] : 0;
}

// d objective / d gate
static double gate_slope(const struct gpu_ref_call *call, const struct push_router *push,
                         size_t pair, uint32_t e, bool within)
{
    const float *dgates = call->buffer[2], *slope = call->buffer[4];
    const struct step_words *step = call->buffer[5];
    const double aux = within ? 0 : (double)step->aux_scale * (double)slope[push->experts + e];
    return (double)dgates[pair] + aux;
}

// d objective / d score of every expert, through the gates
static void gate_gradient(const struct gpu_ref_call *call, const struct push_router *push,
                          uint32_t t, bool within, double *ds)
{
    const float *scores = (const float *)call->buffer[0] + (size_t)t * push->experts;
    const uint32_t *ids = (const uint32_t *)call->buffer[1] + (size_t)t * push->top_k;
    const size_t pair = (size_t)t * push->top_k;
    const bool divided = push->renormalise && !push->straight;
    double picked = 0, dot = 0;
    for (uint32_t k = 0; k < push->top_k; k++) {
        if (ids[k] >= push->experts) continue;
        picked += (double)scores[ids[k]];
        dot += gate_slope(call, push, pair + k, ids[k], within) * (double)scores[ids[k]];
    }
    const double scale = push->straight ? 1 : (double)push->scale;
    for (uint32_t e = 0; e < push->experts; e++) ds[e] = 0;
    for (uint32_t k = 0; k < push->top_k; k++) {
        if (ids[k] >= push->experts) continue;
        const double d = gate_slope(call, push, pair + k, ids[k], within);
        ds[ids[k]] += scale * (divided ? (d - dot / (picked + 1e-20)) / (picked + 1e-20) : d);
    }
}

// d auxiliary losses / d q_e, without its constant part
static double aux_gradient(const struct gpu_ref_call *call, const struct push_router *push,
                           uint32_t e, double q)
{
    const float *slope = call->buffer[4];
    const struct step_words *step = call->buffer[5];
    const double entropy = push->entropy_coef != 0
                               ? (double)push->entropy_coef * log(fmax(q, 1e-38)) : 0;
    return (double)step->aux_scale / all_tokens(push) * ((double)slope[e] + entropy);
}

static void token_back(const struct gpu_ref_call *call, const struct push_router *push, uint32_t t,
                       bool within, const double *ds)
{
    const size_t row = (size_t)t * push->experts;
    const float *scores = (const float *)call->buffer[0] + row, *lse = call->buffer[3];
    const float *logits = call->buffer[6];
    const uint32_t first = first_slope(call, t, within);
    const struct step_words *step = call->buffer[5];
    const double temper = (double)push->inv_temperature;
    const double mean = (double)step->aux_scale / all_tokens(push);
    const double to_q = push->sigmoid ? exp(-(double)lse[t]) : 1;
    double dot_aux = 0, dot_gates = 0;
    for (uint32_t e = 0; e < push->experts; e++) {
        const double s = (double)scores[e];
        dot_aux += s * to_q * aux_gradient(call, push, first + e, s * to_q);
        dot_gates += s * ds[e];
    }
    for (uint32_t e = 0; e < push->experts; e++) {
        const double s = (double)scores[e], q = s * to_q;
        double dz = q * (aux_gradient(call, push, first + e, q) - dot_aux +
                         mean * (double)push->z_coef * 2 * (double)lse[t]);
        if (push->sigmoid) dz = (1 - s) * (dz + s * ds[e]);
        else dz += s * (ds[e] - dot_gates);
        if (push->z_square_coef != 0 && !within)
            dz += mean * (double)push->z_square_coef * 2 * (double)logits[row + e] * temper /
                  push->experts;
        ref_store(call, 7, row + e, dz * temper);
    }
}

static void back(const struct gpu_ref_call *call, bool within)
{
    const struct push_router *push = call->push;
    double *ds = malloc(push->experts * sizeof *ds);
    for (uint32_t t = 0; t < push->tokens; t++) {
        gate_gradient(call, push, t, within, ds);
        token_back(call, push, t, within, ds);
    }
    free(ds);
}

void ref_router_back(const struct gpu_ref_call *call) { back(call, false); }
void ref_router_back_within(const struct gpu_ref_call *call) { back(call, true); }
