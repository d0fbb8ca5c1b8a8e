// SPDX-License-Identifier: MIT
// Reference of sample: repetition penalty (Keskar et al. 2019), temperature, top-k, top-p (Holtzman
// et al. 2020) over the sorted values, then the inverse CDF in index order. Ties go to the lowest
// id everywhere.
#include "ref.h"

enum { SAMPLE_STREAM = 0x73616d70 }; // "samp", the stream of shaders/sample.comp

struct candidate { float value; uint32_t id; };

static int by_value_then_id(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

// The values that are numbers, in falling order; returns how many.
static uint32_t sorted_values(const struct step_words *step, const float *logits,
                              const uint32_t *seen, uint32_t vocab, struct candidate *list)
{
    const float penalty = step->repetition_penalty > 0 ? step->repetition_penalty : 1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (isnan(logits[i])) continue;
        const float penalised = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
        list[count++] = (struct candidate){seen[i] ? penalised : logits[i], i};
    }
    qsort(list, count, sizeof *list, by_value_then_id);
    return count;
}

static double weight(const struct step_words *step, const struct candidate *list, uint32_t i)
{
    if (list[i].value == list[0].value) return 1;
    return exp(((double)list[i].value - (double)list[0].value) / (double)step->temperature);
}

static double weight_sum(const struct step_words *step, const struct candidate *list,
                         uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += weight(step, list, i);
    return sum;
}

// the shortest prefix whose weights reach top_p of all of them
static uint32_t nucleus(const struct step_words *step, const struct candidate *list, uint32_t count)
{
    const double goal = (double)step->top_p * weight_sum(step, list, count);
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((sum += weight(step, list, i)) >= goal) return i + 1;
    return count;
}

void ref_sample_probabilities(const struct step_words *step, const float *logits,
                              const uint32_t *seen, uint32_t vocab, double *prob)
{
    struct candidate *list = malloc(vocab * sizeof *list);
    uint32_t count = sorted_values(step, logits, seen, vocab, list);
    memset(prob, 0, vocab * sizeof *prob);
    if (count == 0) prob[0] = 1;
    if (step->temperature <= 0) count = min_u32(count, 1);
    if (step->top_k > 0) count = min_u32(count, step->top_k);
    if (step->top_p < 1 && count > 1) count = nucleus(step, list, count);
    const double sum = count == 1 ? 1 : weight_sum(step, list, count);
    for (uint32_t i = 0; i < count; i++)
        prob[list[i].id] = count == 1 ? 1 : weight(step, list, i) / sum;
    free(list);
}

float ref_sample_unit(const struct step_words *step)
{
    const uint64_t seed = (uint64_t)step->seed_high << 32 | step->seed_low;
    return (float)(rng_philox(seed, step->base, SAMPLE_STREAM).word[0] >> 9) * 0x1p-23f + 0x1p-24f;
}

void ref_sample(const struct gpu_ref_call *call)
{
    const struct push_loss *push = call->push;
    const struct step_words *step = call->buffer[0];
    uint32_t *seen = call->buffer[2], *token = call->buffer[3];
    double *prob = malloc(push->vocab * sizeof *prob);
    ref_sample_probabilities(step, call->buffer[1], seen, push->vocab, prob);
    const double goal = (double)ref_sample_unit(step);
    double sum = 0;
    uint32_t id = 0;
    for (uint32_t i = 0; i < push->vocab; i++) {
        if (prob[i] <= 0) continue;
        id = i;
        if ((sum += prob[i]) > goal) break;
    }
    free(prob);
    token[0] = id;
    token[1] = 0;
    seen[id] = 1;
}
