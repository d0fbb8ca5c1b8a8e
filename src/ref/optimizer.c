// SPDX-License-Identifier: MIT
// References of sum, grad_norm, grad_clip, of the experts' steps, adamw, adamw_8bit, both without
// masters, sgd and average: from gradients to the next parameters.
#include "src/codes.h"
#include "ref.h"

void ref_sum(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    const float *x = call->buffer[0];
    float *out = (float *)call->buffer[1] + push->index;
    double sum = push->accumulate ? (double)*out : 0;
    for (uint32_t i = 0; i < push->count; i++) sum += (double)x[i];
    *out = (float)sum;
}

static void sum_squares(const float *g, uint32_t count, uint32_t block, float *partial)
{
    for (uint32_t b = 0; b < ceil_div(count, block); b++) {
        double sum = 0;
        for (uint32_t i = b * block; i < min_u64(count, (b + UINT64_C(1)) * block); i++)
            sum += (double)g[i] * (double)g[i];
        partial[b] = (float)sum;
    }
}

void ref_grad_norm(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    sum_squares(call->buffer[0], push->count, push->block,
                (float *)call->buffer[1] + push->index);
}

void ref_expert_norm(const struct gpu_ref_call *call)
{
    const struct push_expert_norm *push = call->push;
    const float *g = call->buffer[0];
    const uint32_t *places = call->buffer[1], blocks = ceil_div(push->count, push->block);
    float *partial = call->buffer[2];
    for (uint32_t i = 0; i < push->matrices; i++) {
        const uint32_t place = push->mapped ? places[push->index + i] : push->index + i * blocks;
        if (place == KERNEL_NONE_ID) continue;
        sum_squares(g + (size_t)i * push->count, push->count, push->block, partial + place);
    }
}

void ref_expert_moves(const struct gpu_ref_call *call)
{
    const struct push_count *push = call->push;
    const uint32_t *moves = call->buffer[0], *places = call->buffer[1];
    uint32_t *own = call->buffer[2];
    for (uint32_t i = 0; i < push->count; i++)
        own[i] = places[i] == KERNEL_NONE_ID ? 0 : moves[places[i]];
}

void ref_grad_clip(const struct gpu_ref_call *call)
{
    const struct push_sum *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *partial = call->buffer[1];
    float *norm = call->buffer[2];
    double sum = 0;
    for (uint32_t i = 0; i < push->count; i++) sum += (double)partial[i];
    const bool finite = isfinite((float)sum); // the device adds in f32
    const double scaled = sqrt(finite ? sum : (double)(float)sum) * (double)step->unscale;
    const double limit = (double)step->max_grad_norm;
    const double factor = limit > 0 ? fmin(1, limit / (scaled + 1e-6)) : 1;
    norm[0] = (float)scaled;
    norm[1] = finite ? (float)(factor * (double)step->unscale) : 0;
    norm[2] = finite;
    norm[3] = 0;
}

void ref_expert_touch(const struct gpu_ref_call *call)
{
    const struct push_count *push = call->push;
    const uint32_t *offsets = call->buffer[0];
    uint32_t *touched = call->buffer[1];
    for (uint32_t e = 0; e < push->count; e++)
        if (offsets[e + 1] > offsets[e]) touched[e] = 1;
}

void ref_expert_steps(const struct gpu_ref_call *call)
{
    const struct push_expert_steps *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *norm = call->buffer[1];
    uint32_t *steps = call->buffer[2], *touched = call->buffer[3];
    for (uint32_t i = 0; i < push->count; i++) {
        const bool moves = touched[i] != 0 && norm[2] != 0;
        if (moves && !push->global) steps[i]++;
        touched[i] = !moves ? 0 : push->global ? step->step : steps[i];
    }
}

uint32_t ref_optimizer_step(const struct push_optimizer *push, const struct step_words *step,
                            const uint32_t *moves, uint32_t matrix)
{
    const uint32_t index = push->first + matrix;
    if (!push->experts) return step ? max_u32(step->step, 1) : 1;
    return moves[index / push->per_layer * push->stride + index % push->experts];
}

struct adamw { double p, m, v; };

// torch.optim.AdamW's order: decay first, then the moments, then the step.
static void adamw_element(const struct push_optimizer *push, const struct step_words *step,
                          uint32_t t, double gradient, struct adamw *x)
{
    const double rate = (double)step->learning_rate * (double)push->rate,
                 beta1 = (double)push->beta1, beta2 = (double)push->beta2;
    const double correction1 = -expm1(t * (double)push->log_beta1),
                 correction2 = -expm1(t * (double)push->log_beta2);
    x->m = beta1 * x->m + (1 - beta1) * gradient;
    x->v = beta2 * x->v + (1 - beta2) * gradient * gradient;
    const double divisor = sqrt(x->v) / sqrt(correction2) + (double)push->eps;
    x->p *= 1 - rate * (double)push->weight_decay;
    x->p -= rate / correction1 * x->m / divisor;
}

void ref_adamw(const struct gpu_ref_call *call)
{
    const struct push_optimizer *push = call->push;
    const float *norm = call->buffer[1], *g = call->buffer[3];
    float *p = call->buffer[2], *m = call->buffer[4], *v = call->buffer[5];
    for (uint32_t matrix = 0; matrix < push->matrices; matrix++) {
        const uint32_t t = ref_optimizer_step(push, call->buffer[0], call->buffer[7], matrix);
        for (uint32_t at = 0; t && at < push->count; at++) {
            const size_t i = (size_t)matrix * push->count + at;
            struct adamw x = {(double)p[i], (double)m[i], (double)v[i]};
            if (norm[2] != 0) {
                adamw_element(push, call->buffer[0], t, (double)g[i] * (double)norm[1], &x);
                p[i] = (float)x.p, m[i] = (float)x.m, v[i] = (float)x.v;
            }
            if (push->copy) ref_store(call, 6, i, (double)p[i]);
        }
    }
}

// Elements [first, first + count) and their record.
static void adamw_block(const struct gpu_ref_call *call, uint32_t t, size_t first, uint32_t count,
                        uint32_t *record)
{
    const struct push_optimizer *push = call->push;
    const float *norm = call->buffer[1], *g = call->buffer[3];
    float *p = call->buffer[2];
    double m[CODES_ELEMENTS] = {0}, v[CODES_ELEMENTS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct adamw x = {(double)p[first + i], codes_record_value(record, CODES_SIGNED, i),
                          codes_record_value(record, CODES_UNSIGNED, i)};
        if (norm[2] != 0) {
            adamw_element(push, call->buffer[0], t, (double)g[first + i] * (double)norm[1], &x);
            p[first + i] = (float)x.p, m[i] = x.m, v[i] = x.v;
        }
        if (push->copy) ref_store(call, 5, first + i, (double)p[first + i]);
    }
    if (norm[2] == 0) return;
    codes_record_fill(record, CODES_SIGNED, m);
    codes_record_fill(record, CODES_UNSIGNED, v);
}

void ref_adamw_8bit(const struct gpu_ref_call *call)
{
    const struct push_adamw_8bit *push = call->push;
    const uint32_t count = push->each.count, blocks = ceil_div(count, CODES_ELEMENTS);
    uint32_t *records = (uint32_t *)call->buffer[4] + (size_t)push->record * CODES_WORDS;
    for (uint32_t matrix = 0; matrix < push->each.matrices; matrix++) {
        const uint32_t t =
            ref_optimizer_step(&push->each, call->buffer[0], call->buffer[6], matrix);
        for (uint32_t b = 0; t && b < blocks; b++)
            adamw_block(call, t, (size_t)matrix * count + (size_t)b * CODES_ELEMENTS,
                        min_u32(CODES_ELEMENTS, count - b * CODES_ELEMENTS),
                        records + ((size_t)matrix * blocks + b) * CODES_WORDS);
    }
}

// ---- without masters

uint16_t ref_round_bf16(float value, uint32_t half)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + half) >> 16);
}

uint32_t ref_random_half(const struct step_words *step, uint32_t draw, uint32_t element)
{
    const struct rng_block block =
        rng_philox((uint64_t)step->seed_high << 32 | step->seed_low, draw + element / 8,
                   (uint64_t)KERNEL_ROUNDING << 32 | step->step);
    return block.word[element / 2 % 4] >> 16 * (element % 2) & 0xffff;
}

static void store_rounded(const struct gpu_ref_call *call, const uint32_t *places, uint32_t matrix,
                          uint32_t element, double value)
{
    const struct push_adamw_stochastic *push = call->push;
    const uint32_t count = push->each.count,
                   draw = push->mapped ? places[push->each.first + matrix]
                                       : push->draw + matrix * ceil_div(count, 8);
    ((uint16_t *)call->buffer[2])[(size_t)matrix * count + element] =
        push->nearest ? dtype_bf16_from_f32((float)value)
                      : ref_round_bf16((float)value,
                                       ref_random_half(call->buffer[0], draw, element));
}

void ref_adamw_stochastic(const struct gpu_ref_call *call)
{
    const struct push_adamw_stochastic *push = call->push;
    const float *norm = call->buffer[1], *g = call->buffer[3];
    float *m = call->buffer[4], *v = call->buffer[5];
    for (uint32_t matrix = 0; norm[2] != 0 && matrix < push->each.matrices; matrix++) {
        const uint32_t t =
            ref_optimizer_step(&push->each, call->buffer[0], call->buffer[6], matrix);
        for (uint32_t at = 0; t && at < push->each.count; at++) {
            const size_t i = (size_t)matrix * push->each.count + at;
            struct adamw x = {ref_load(call, 2, i), (double)m[i], (double)v[i]};
            adamw_element(&push->each, call->buffer[0], t, (double)g[i] * (double)norm[1], &x);
            m[i] = (float)x.m, v[i] = (float)x.v;
            store_rounded(call, call->buffer[7], matrix, at, x.p);
        }
    }
}

void ref_adamw_8bit_stochastic(const struct gpu_ref_call *call)
{
    const struct push_adamw_stochastic *push = call->push;
    const uint32_t count = push->each.count, blocks = ceil_div(count, CODES_ELEMENTS);
    const float *norm = call->buffer[1], *g = call->buffer[3];
    uint32_t *record = (uint32_t *)call->buffer[4] + (size_t)push->record * CODES_WORDS;
    for (uint32_t part = 0; norm[2] != 0 && part < push->each.matrices * blocks; part++) {
        const uint32_t matrix = part / blocks, begin = part % blocks * CODES_ELEMENTS,
                       t = ref_optimizer_step(&push->each, call->buffer[0], call->buffer[5],
                                              matrix);
        uint32_t *own = record + (size_t)part * CODES_WORDS;
        double m[CODES_ELEMENTS] = {0}, v[CODES_ELEMENTS] = {0};
        for (uint32_t i = 0; t && i < min_u32(CODES_ELEMENTS, count - begin); i++) {
            const size_t at = (size_t)matrix * count + begin + i;
            struct adamw x = {ref_load(call, 2, at), codes_record_value(own, CODES_SIGNED, i),
                              codes_record_value(own, CODES_UNSIGNED, i)};
            adamw_element(&push->each, call->buffer[0], t, (double)g[at] * (double)norm[1], &x);
            m[i] = x.m, v[i] = x.v;
            store_rounded(call, call->buffer[6], matrix, begin + i, x.p);
        }
        if (!t) continue;
        codes_record_fill(own, CODES_SIGNED, m);
        codes_record_fill(own, CODES_UNSIGNED, v);
    }
}

void ref_average(const struct gpu_ref_call *call)
{
    const struct push_count *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *p = call->buffer[1];
    float *mean = call->buffer[2];
    for (uint32_t i = 0; step->average != 0 && i < push->count; i++)
        mean[i] = step->average == 1
                      ? p[i]
                      : (float)((double)mean[i] +
                                (double)step->average * ((double)p[i] - (double)mean[i]));
}

void ref_sgd(const struct gpu_ref_call *call)
{
    const struct push_optimizer *push = call->push;
    const struct step_words *step = call->buffer[0];
    const float *norm = call->buffer[1], *g = call->buffer[3];
    float *p = call->buffer[2], *m = call->buffer[4];
    const double rate = (double)step->learning_rate * (double)push->rate,
                 momentum = (double)push->beta1;
    for (size_t i = 0; i < (size_t)push->matrices * push->count; i++) {
        const uint32_t matrix = (uint32_t)(i / push->count);
        if (!ref_optimizer_step(push, step, call->buffer[6], matrix)) continue;
        if (norm[2] != 0) {
            const double gradient = (double)g[i] * (double)norm[1];
            const double mean = momentum * (double)m[i] + gradient;
            const double direction = push->nesterov ? gradient + momentum * mean : mean;
            p[i] = (float)((double)p[i] * (1 - rate * (double)push->weight_decay) -
                           rate * direction);
            m[i] = (float)mean;
        }
        if (push->copy) ref_store(call, 5, i, (double)p[i]);
    }
}
