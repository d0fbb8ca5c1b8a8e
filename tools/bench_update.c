// SPDX-License-Identifier: MIT
// The kernels of an optimizer step in the benchmark: the gradients' norm, AdamW in all of its
// forms, the weights' mean, the compute copy.
#include "src/codes.h"
#include "tools/bench_kernels.h"

enum { NORM_BLOCK = 1 << 14 }; // as in src/plan_update.c

bool bench_grad_norm(const struct at *at)
{
    const struct push_sum push = {.count = at->shape->parameters, .block = NORM_BLOCK};
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_GRAD_NORM, 0, &push, "%u", push.count)) return true;
    const uint32_t g = bench_case_normal(&c, DTYPE_F32, push.count, 1e-3);
    const uint32_t partial = bench_case_zero(&c, DTYPE_F32, ceil_div(push.count, push.block));
    bench_case_step(&c, BENCH_BIND(g, partial), BENCH_DIRECT);
    return bench_case_run(&c);
}

bool bench_grad_clip(const struct at *at)
{
    const struct push_sum push = {.count = ceil_div(at->shape->parameters, NORM_BLOCK)};
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_GRAD_CLIP, 0, &push, "%u", push.count)) return true;
    const uint32_t step = at_words(&c, &(struct step_words){.unscale = 1, .max_grad_norm = 1});
    const uint32_t partial = at_constant(&c, push.count, 0.01f),
                   out = bench_case_zero(&c, DTYPE_F32, 4);
    bench_case_step(&c, BENCH_BIND(step, partial, out), BENCH_DIRECT);
    return bench_case_run(&c);
}

static struct push_optimizer adamw_push(const struct at *at, bool copy)
{
    return (struct push_optimizer){.count = at->shape->parameters,
                                   .matrices = 1,
                                   .copy = copy,
                                   .rate = 1,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .log_beta1 = kernel_log_beta(0.9),
                                   .log_beta2 = kernel_log_beta(0.95),
                                   .weight_decay = 0.1f};
}

struct adamw { uint32_t step, clip, p, g, m, v, codes; };

static struct adamw adamw_bindings(struct bench_case *c, uint32_t count, int weights, bool codes)
{
    static const float norm_values[4] = {1, 1, 1, 0};
    struct adamw a;
    a.step = at_words(
        c, &(struct step_words){.step = 100, .learning_rate = 1e-4f, .unscale = 1});
    a.clip = bench_case_words(c, norm_values, 4);
    a.p = bench_case_normal(c, weights, count, 1);
    a.g = bench_case_normal(c, DTYPE_F32, count, 1e-3);
    a.codes = codes ? bench_case_zero(c, DTYPE_U32, CODES_WORDS * ceil_div(count, CODES_ELEMENTS))
                    : 0;
    a.m = codes ? 0 : bench_case_zero(c, DTYPE_F32, count);
    a.v = codes ? 0 : bench_case_zero(c, DTYPE_F32, count);
    return a;
}

bool bench_adamw(const struct at *at)
{
    const bool copy = at->store != DTYPE_F32;
    const struct push_optimizer push = adamw_push(at, copy);
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_ADAMW, 0, &push, "%u", push.count)) return true;
    const struct adamw a = adamw_bindings(&c, push.count, DTYPE_F32, false);
    const uint32_t to = copy ? bench_case_zero(&c, BENCH_STORE, push.count) : a.p;
    bench_case_step(&c, BENCH_BIND(a.step, a.clip, a.p, a.g, a.m, a.v, to, a.clip), BENCH_DIRECT);
    return bench_case_run(&c);
}

bool bench_adamw_8bit(const struct at *at)
{
    const bool copy = at->store != DTYPE_F32;
    const struct push_adamw_8bit push = {.each = adamw_push(at, copy)};
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_ADAMW_8BIT, 0, &push, "%u", push.each.count))
        return true;
    const struct adamw a = adamw_bindings(&c, push.each.count, DTYPE_F32, true);
    const uint32_t to = copy ? bench_case_zero(&c, BENCH_STORE, push.each.count) : a.p;
    bench_case_step(&c, BENCH_BIND(a.step, a.clip, a.p, a.g, a.codes, to, a.clip), BENCH_DIRECT);
    return bench_case_run(&c);
}

// Weights in bf16 alone.
bool bench_adamw_stochastic(const struct at *at)
{
    const struct push_adamw_stochastic push = {.each = adamw_push(at, false)};
    struct bench_case c;
    if (at->store != DTYPE_BF16 ||
        !at_begin(&c, at, "update", KERNEL_ADAMW_STOCHASTIC, 0, &push, "%u", push.each.count))
        return true;
    const struct adamw a = adamw_bindings(&c, push.each.count, BENCH_STORE, false);
    bench_case_step(&c, BENCH_BIND(a.step, a.clip, a.p, a.g, a.m, a.v, a.clip, a.clip),
                    BENCH_DIRECT);
    return bench_case_run(&c);
}

bool bench_adamw_8bit_stochastic(const struct at *at)
{
    const struct push_adamw_stochastic push = {.each = adamw_push(at, false)};
    struct bench_case c;
    if (at->store != DTYPE_BF16 ||
        !at_begin(&c, at, "update", KERNEL_ADAMW_8BIT_STOCHASTIC, 0, &push, "%u", push.each.count))
        return true;
    const struct adamw a = adamw_bindings(&c, push.each.count, BENCH_STORE, true);
    bench_case_step(&c, BENCH_BIND(a.step, a.clip, a.p, a.g, a.codes, a.clip, a.clip),
                    BENCH_DIRECT);
    return bench_case_run(&c);
}

bool bench_average(const struct at *at)
{
    const struct push_count push = {at->shape->parameters};
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_AVERAGE, 0, &push, "%u", push.count)) return true;
    const uint32_t step = at_words(&c, &(struct step_words){.average = 0.002f});
    const uint32_t p = bench_case_normal(&c, DTYPE_F32, push.count, 1),
                   mean = bench_case_zero(&c, DTYPE_F32, push.count);
    bench_case_step(&c, BENCH_BIND(step, p, mean), BENCH_DIRECT);
    return bench_case_run(&c);
}

bool bench_cast(const struct at *at)
{
    const struct push_count push = {at->shape->parameters};
    struct bench_case c;
    if (!at_begin(&c, at, "update", KERNEL_CAST, 0, &push, "%u", push.count)) return true;
    const uint32_t from = bench_case_normal(&c, DTYPE_F32, push.count, 1);
    const uint32_t to = bench_case_zero(&c, BENCH_STORE, push.count);
    bench_case_step(&c, BENCH_BIND(from, to), BENCH_DIRECT);
    return bench_case_run(&c);
}
