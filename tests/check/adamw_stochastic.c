// SPDX-License-Identifier: MIT
// Check of adamw_stochastic and adamw_8bit_stochastic: odd counts, experts that do not move, the
// skipped step, to nearest; every bit where the update is exact; that parts in another order and
// dispatches split elsewhere give the same bits; and the statistics: rounding is unbiased, and what
// two elements, parts or steps do has nothing to do with each other.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "src/codes.h"
#include "src/ref/ref.h"

enum { EXPERTS = 3, STRIDE = 5 };
static const uint32_t moves[2 * STRIDE] = {1, 0, 700, 9, 9, 0, 100000, 2, 9, 9};
static const enum kernel_op ops[] = {KERNEL_ADAMW_STOCHASTIC, KERNEL_ADAMW_8BIT_STOCHASTIC};

static struct push_adamw_stochastic push_of(uint32_t count, uint32_t matrices)
{
    struct push_adamw_stochastic push = {
        .draw = 77,
        .each = {.count = count, .matrices = matrices, .rate = 1, .weight_decay = 0.0625f,
                 .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .log_beta1 = kernel_log_beta(0.9),
                 .log_beta2 = kernel_log_beta(0.95)}};
    if (matrices > 1)
        push.each.experts = push.each.per_layer = EXPERTS, push.each.stride = STRIDE;
    return push;
}

static bool is_8bit(const struct check *t) { return t->op == KERNEL_ADAMW_8BIT_STOCHASTIC; }

static uint32_t blocks_of(const struct push_adamw_stochastic *push)
{
    return ceil_div(push->each.count, CODES_ELEMENTS);
}

static bool is_moved(const struct push_adamw_stochastic *push, uint32_t matrix)
{
    return !push->each.experts || moves[matrix / EXPERTS * STRIDE + matrix % EXPERTS];
}

// Second moments that are not negative, or records; zeros where scale is 0.
static void moments(struct check *t, const struct push_adamw_stochastic *push, double scale)
{
    const uint32_t all = push->each.count * push->each.matrices,
                   blocks = push->record + blocks_of(push) * push->each.matrices;
    double *v = calloc(all, sizeof *v);
    uint32_t *words = calloc(blocks, 4 * CODES_WORDS);
    for (uint32_t i = 0; i < all; i++) v[i] = pow(scale * rng_normal(t->seed, t->stream, i), 2);
    for (uint32_t b = push->record; b < blocks; b++) {
        double values[2][CODES_ELEMENTS] = {{0}};
        const uint32_t first = (b - push->record) % blocks_of(push) * CODES_ELEMENTS;
        for (uint32_t i = 0; i < min_u32(CODES_ELEMENTS, push->each.count - first); i++) {
            values[0][i] = scale * rng_normal(t->seed, t->stream + 1, b * CODES_ELEMENTS + i);
            values[1][i] = pow(values[0][i], 2);
        }
        for (uint32_t kind = 0; kind < 2; kind++)
            codes_record_fill(words + b * CODES_WORDS, (enum codes_kind)kind, values[kind]);
    }
    if (is_8bit(t)) check_words(t, 4, words, blocks * CODES_WORDS);
    else {
        check_normal(t, 4, DTYPE_F32, all, scale);
        check_values(t, 5, DTYPE_F32, v, all);
    }
    free(v);
    free(words);
}

static void bindings(struct check *t, const struct push_adamw_stochastic *push, uint32_t step,
                     double finite, double scale)
{
    const uint32_t all = push->each.count * push->each.matrices, at = is_8bit(t) ? 5 : 6;
    check_step(t, 0, &(struct step_words){.step = step, .learning_rate = 0.015625f,
                                          .seed_low = 0x23456789, .seed_high = (uint32_t)t->seed});
    check_values(t, 1, DTYPE_F32, (double[4]){2, 0.3, finite, 0}, 4);
    check_normal(t, 2, CHECK_STORE, all, 1);
    check_normal(t, 3, DTYPE_F32, all, scale);
    moments(t, push, scale);
    check_words(t, at, moves, COUNT_OF(moves));
    check_words(t, at + 1, (const uint32_t[1]){0}, 1);
}

// ---- against the reference

static double difference(float a, float b) { return fabs((double)a - (double)b); }

// Weights: where the f32 values differ by a rounding the sum may carry in one alone, so neighbours,
// and few of them; none where `exact`.
static void compare_weights(struct check *t, const uint16_t *want, uint32_t count, bool exact)
{
    const uint16_t *got = check_result(t, 2);
    uint32_t other = 0;
    for (uint32_t i = 0; i < count; i++) {
        other += got[i] != want[i];
        const float x = dtype_f32_from_bf16(got[i]), y = dtype_f32_from_bf16(want[i]);
        if (!(difference(x, y) <= ldexp(fmax(fabs((double)x), fabs((double)y)), -7) + 1e-30))
            check_fail(t, "element %u is %g, reference %g", i, (double)x, (double)y);
    }
    if (other > (exact ? 0 : count / 1000 + 2))
        check_fail(t, "%u of %u weights are not the reference's", other, count);
}

// Moments: in f32 as the reference's, in codes as their values.
static void compare_moments(struct check *t, const void *const *want)
{
    double error[2] = {0}, square[2] = {1e-30, 1e-30};
    const uint64_t words = t->binding[4].bytes / 4;
    for (uint64_t i = 0; i < (is_8bit(t) ? words / CODES_WORDS * CODES_ELEMENTS : words); i++)
        for (int kind = 0; kind < 2; kind++) {
            const uint64_t at = i / CODES_ELEMENTS * CODES_WORDS;
            const uint32_t in = i % CODES_ELEMENTS;
            const enum codes_kind k = (enum codes_kind)kind;
            const double x = is_8bit(t) ? codes_record_value((const uint32_t *)check_result(t, 4) +
                                                                 at, k, in)
                                        : (double)((const float *)check_result(t, 4 + kind))[i],
                         y = is_8bit(t) ? codes_record_value((const uint32_t *)want[4] + at, k, in)
                                        : (double)((const float *)want[4 + kind])[i];
            error[kind] += (x - y) * (x - y);
            square[kind] += y * y;
        }
    for (int kind = 0; kind < 2; kind++)
        if (!(error[kind] <= (is_8bit(t) ? 1e-5 : 1e-12) * square[kind]))
            check_fail(t, "%s: normalised mean square error %.3g", kind ? "v" : "m",
                       error[kind] / square[kind]);
}

static bool run(struct check *t, const struct push_adamw_stochastic *push, bool exact)
{
    if (!check_run_only(t, push)) return false;
    struct gpu_ref_call call = {.push = push, .tag = (int)t->store};
    const size_t count = strlen(kernel_info(t->op)->access);
    for (size_t b = 0; b < count; b++) {
        call.buffer[b] = malloc(t->binding[b].bytes);
        memcpy(call.buffer[b], t->binding[b].initial, t->binding[b].bytes);
    }
    kernel_info(t->op)->ref(&call);
    compare_weights(t, call.buffer[2], push->each.count * push->each.matrices, exact);
    compare_moments(t, (const void *const *)call.buffer);
    for (size_t b = 0; b < count; b++) free(call.buffer[b]);
    return !t->failed;
}

static void compare_still(struct check *t, const struct push_adamw_stochastic *push, bool all)
{
    const size_t weights = 2 * (size_t)push->each.count,
                 moment = is_8bit(t) ? (size_t)blocks_of(push) * CODES_WORDS * 4 : 2 * weights,
                 front = push->record * CODES_WORDS * 4;
    for (uint32_t i = 0; i < push->each.matrices; i++) {
        if (!all && is_moved(push, i)) continue;
        const uint8_t *p = check_result(t, 2), *m = check_result(t, 4);
        if (memcmp(p + i * weights, t->binding[2].initial + i * weights, weights) != 0 ||
            memcmp(m + front + i * moment, t->binding[4].initial + front + i * moment, moment) != 0)
            check_fail(t, "part %u moved", i);
    }
}

static void one_case(struct check *t, enum kernel_op op, uint32_t count, uint32_t matrices,
                     double finite, uint32_t nearest)
{
    struct push_adamw_stochastic push = push_of(count, matrices);
    push.nearest = nearest;
    push.record = op == KERNEL_ADAMW_8BIT_STOCHASTIC ? count % 3 : 0;
    check_begin(t, op, 0, "%u of %u, finite %g%s", matrices, count, finite,
                nearest ? ", to nearest" : "");
    bindings(t, &push, 3, finite, 0.1);
    if (run(t, &push, false)) compare_still(t, &push, finite == 0);
}

// ---- every bit

// Without gradient and moments a weight is multiplied by 1 - 2^-10, which f32 has exactly.
static bool decay_only(struct check *t, const struct push_adamw_stochastic *push, uint32_t step,
                       const double *values)
{
    const uint32_t all = push->each.count * push->each.matrices;
    bindings(t, push, step, 1, 0);
    if (values) check_values(t, 2, CHECK_STORE, values, all);
    return run(t, push, true);
}

// Parts that lie in another order, told apart by places, get the same bits.
static void mapped(struct check *t, enum kernel_op op, uint32_t count)
{
    enum { PARTS = 5 };
    struct push_adamw_stochastic push = push_of(count, PARTS);
    push.each.experts = 0;
    double *values = calloc(2 * PARTS, count * sizeof *values);
    uint16_t *straight = calloc(PARTS, count * sizeof *straight);
    for (uint32_t i = 0; i < PARTS * count; i++) {
        values[i] = rng_normal(t->seed, t->stream, i);
        values[((2 * PARTS - 1 - i / count) * count) + i % count] = values[i];
    }
    check_begin(t, op, 0, "%d of %u in order", PARTS, count);
    if (decay_only(t, &push, 3, values)) {
        memcpy(straight, check_result(t, 2), PARTS * count * sizeof *straight);
        uint32_t places[PARTS + 2];
        for (uint32_t i = 0; i < PARTS; i++)
            places[2 + i] = push.draw + (PARTS - 1 - i) * ceil_div(count, 8);
        push.mapped = 1, push.each.first = 2;
        check_begin(t, op, 0, "%d of %u, turned round", PARTS, count);
        bindings(t, &push, 3, 1, 0);
        check_values(t, 2, CHECK_STORE, values + PARTS * count, PARTS * count);
        check_words(t, is_8bit(t) ? 6 : 7, places, COUNT_OF(places));
        if (run(t, &push, true))
            for (uint32_t i = 0; i < PARTS; i++)
                if (memcmp((const uint16_t *)check_result(t, 2) + i * count,
                           straight + (PARTS - 1 - i) * count, count * sizeof *straight) != 0)
                    check_fail(t, "part %u has other bits elsewhere", i);
    }
    free(values);
    free(straight);
}

// The second half of a run of elements alone.
static void split(struct check *t, enum kernel_op op)
{
    enum { COUNT = 512, HALF = COUNT / 2 };
    struct push_adamw_stochastic push = push_of(COUNT, 1);
    double values[COUNT];
    uint16_t whole[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) values[i] = rng_normal(t->seed, t->stream, i);
    check_begin(t, op, 0, "%d at once", COUNT);
    if (!decay_only(t, &push, 3, values)) return;
    memcpy(whole, check_result(t, 2), sizeof whole);
    push.each.count = HALF, push.draw += HALF / 8;
    check_begin(t, op, 0, "the second half of %d", COUNT);
    if (decay_only(t, &push, 3, values + HALF) &&
        memcmp(check_result(t, 2), whole + HALF, sizeof whole / 2) != 0)
        check_fail(t, "other bits than in the whole");
}

// ---- statistics

enum { SAMPLE = 40000 };

static double value_of(uint32_t i) { return 1 + (i * 37 % 128) / 128.0; }

// What rounding added to each element, in units of the last place, over its own deviation.
static void deviations(const uint16_t *got, double *out)
{
    for (uint32_t i = 0; i < SAMPLE; i++) {
        const double x = value_of(i), exact = x * (1 - ldexp(1, -10)),
                     unit = exact < 1 ? ldexp(1, -8) : ldexp(1, -7),
                     up = exact / unit - floor(exact / unit);
        out[i] = ((double)dtype_f32_from_bf16(got[i]) - exact) / unit / sqrt(up * (1 - up));
    }
}

// The mean of n numbers of mean 0 and deviation 1 is below 5 / sqrt(n) but once in two million.
static void is_zero(struct check *t, const char *what, double sum, double n)
{
    if (!(fabs(sum) < 5 * sqrt(n)))
        check_fail(t, "%s: a mean of %.4g deviations, below %.4g is what chance makes", what,
                   sum / n, 5 / sqrt(n));
}

static bool sample(struct check *t, enum kernel_op op, uint32_t step, uint32_t draw,
                   uint32_t nearest, double *out)
{
    struct push_adamw_stochastic push = push_of(SAMPLE, 1);
    double *values = malloc(SAMPLE * sizeof *values);
    push.draw = draw, push.nearest = nearest;
    for (uint32_t i = 0; i < SAMPLE; i++) values[i] = value_of(i);
    check_begin(t, op, 0, "statistics, step %u, draw %u, nearest %u", step, draw, nearest);
    const bool ok = decay_only(t, &push, step, values);
    if (ok) deviations(check_result(t, 2), out);
    free(values);
    return ok;
}

static void statistics(struct check *t, enum kernel_op op)
{
    static double one[SAMPLE], next[SAMPLE], part[SAMPLE], nearest[SAMPLE];
    if (!sample(t, op, 3, 77, 0, one) || !sample(t, op, 4, 77, 0, next) ||
        !sample(t, op, 3, 77 + SAMPLE / 8, 0, part) || !sample(t, op, 3, 77, 1, nearest))
        return;
    double all = 0, lost = 0, place[8] = {0}, neighbour = 0, eighth = 0, steps = 0, parts = 0;
    for (uint32_t i = 0; i < SAMPLE; i++) {
        all += one[i];
        lost += nearest[i];
        place[i % 8] += one[i];
        neighbour += one[i] * one[(i + 1) % SAMPLE];
        eighth += one[i] * one[(i + 8) % SAMPLE];
        steps += one[i] * next[i];
        parts += one[i] * part[i];
    }
    is_zero(t, "bias", all, SAMPLE);
    for (int i = 0; i < 8; i++) is_zero(t, "bias of a place", place[i], SAMPLE / 8);
    is_zero(t, "neighbours", neighbour, SAMPLE);
    is_zero(t, "eighth neighbours", eighth, SAMPLE);
    is_zero(t, "two steps", steps, SAMPLE);
    is_zero(t, "two parts", parts, SAMPLE);
    if (!(lost > 50 * sqrt(SAMPLE))) check_fail(t, "to nearest the decay is not lost");
}

// ---- the reference itself

// Of all 2^16 halves exactly as many carry as the value is above the one below it: no bias at all.
static void carries(struct check *t)
{
    check_begin(t, KERNEL_ADAMW_STOCHASTIC, 0, "carries");
    for (uint32_t i = 0; i < 60; i++) {
        const float value = (float)(rng_normal(t->seed, t->stream, i) * pow(10, (int)i % 60 - 40));
        uint32_t bits, up = 0;
        memcpy(&bits, &value, sizeof bits);
        for (uint32_t half = 0; half < 1 << 16; half++) {
            const uint16_t got = ref_round_bf16(value, half);
            if (got != bits >> 16 && got != (bits >> 16) + 1)
                check_fail(t, "%g becomes %g", (double)value, (double)dtype_f32_from_bf16(got));
            up += got != bits >> 16;
        }
        if (up != (bits & 0xffff)) check_fail(t, "%g: %u of 65536 go up", (double)value, up);
    }
    if (dtype_f32_from_bf16(ref_round_bf16(INFINITY, 0xffff)) != INFINITY ||
        !isnan(dtype_f32_from_bf16(ref_round_bf16(-NAN, 0xffff))))
        check_fail(t, "infinity or NaN became a number");
}

// From another implementation of Philox, which gives Random123's known answers.
static void halves(struct check *t)
{
    static const uint16_t known[16] = {
        0xfb38, 0xcda0, 0x6fa6, 0x3f7d, 0xdb16, 0x7863, 0x193f, 0x2e4f,
        0x60ba, 0x3212, 0x9063, 0x5fe8, 0x226e, 0x92ae, 0x8fba, 0x260f};
    const struct step_words step = {.step = 7, .seed_low = 0x23456789, .seed_high = 1};
    check_begin(t, KERNEL_ADAMW_STOCHASTIC, 0, "halves");
    for (uint32_t i = 0; i < COUNT_OF(known); i++)
        if (ref_random_half(&step, 0xffffffff, i) != known[i])
            check_fail(t, "element %u: 0x%04x, wanted 0x%04x", i,
                       ref_random_half(&step, 0xffffffff, i), known[i]);
}

void check_adamw_stochastic(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 7, 8, 31, 255, 256, 257, 260, 1000, 1024, 10007};
    carries(t);
    halves(t);
    for (size_t o = 0; t->store == DTYPE_BF16 && o < COUNT_OF(ops); o++) {
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            one_case(t, ops[o], counts[i], 1, 1, 0);
            one_case(t, ops[o], counts[i], 6, 1, i & 1);
            mapped(t, ops[o], counts[i]);
        }
        one_case(t, ops[o], 513, 6, 0, 0);
        one_case(t, ops[o], 513, 1, 0, 0);
        split(t, ops[o]);
        statistics(t, ops[o]);
    }
}
