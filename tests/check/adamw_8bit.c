// SPDX-License-Identifier: MIT
// Check of adamw_8bit: odd counts, bindings that begin inside of the records, experts that do not
// move, the skipped step, blocks of zeros and of values far apart, that no second moment becomes 0,
// and twelve steps in a row that stay near a plain AdamW.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "src/codes.h"

enum { EXPERTS = 3, STRIDE = 5 };
static const uint32_t moves[2 * STRIDE] = {1, 0, 700, 9, 9, 0, 100000, 2, 9, 9};

static struct push_adamw_8bit push_of(uint32_t count, uint32_t matrices, uint32_t record)
{
    struct push_adamw_8bit push = {
        .record = record,
        .each = {.count = count, .matrices = matrices, .copy = count & 1, .rate = 1,
                 .weight_decay = 0.1f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                 .log_beta1 = kernel_log_beta(0.9), .log_beta2 = kernel_log_beta(0.95)}};
    if (matrices > 1)
        push.each.experts = push.each.per_layer = EXPERTS, push.each.stride = STRIDE;
    return push;
}

static uint32_t blocks_of(const struct push_adamw_8bit *push)
{
    return ceil_div(push->each.count, CODES_ELEMENTS);
}

static bool is_moved(const struct push_adamw_8bit *push, uint32_t matrix)
{
    return !push->each.experts || moves[matrix / EXPERTS * STRIDE + matrix % EXPERTS];
}

// Every code somewhere, factors of all sizes; the last block of a part ends in zeros.
static void records(struct check *t, const struct push_adamw_8bit *push, double scale)
{
    const uint32_t blocks = blocks_of(push), all = push->record + blocks * push->each.matrices;
    uint32_t *words = calloc(all, 4 * CODES_WORDS);
    for (uint32_t r = 0; r < all; r++) {
        double values[2][CODES_ELEMENTS] = {{0}};
        const uint32_t block = r < push->record ? 0 : (r - push->record) % blocks,
                       used = min_u32(push->each.count - block * CODES_ELEMENTS, CODES_ELEMENTS);
        for (uint32_t i = 0; i < used; i++) {
            values[0][i] = scale * codes_value((i * 37 + r) & 255, CODES_SIGNED);
            values[1][i] = scale * scale * codes_value((i * 101 + r) & 255, CODES_UNSIGNED);
        }
        for (uint32_t kind = 0; kind < 2; kind++)
            codes_record_fill(words + r * CODES_WORDS, (enum codes_kind)kind, values[kind]);
    }
    check_words(t, 4, words, all * CODES_WORDS);
    free(words);
}

static void bindings(struct check *t, const struct push_adamw_8bit *push, double finite,
                     double scale)
{
    const uint32_t all = push->each.count * push->each.matrices;
    check_step(t, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    check_values(t, 1, DTYPE_F32, (double[4]){2, 0.3, finite, 0}, 4);
    check_normal(t, 2, DTYPE_F32, all, 1);
    check_normal(t, 3, DTYPE_F32, all, scale);
    records(t, push, scale);
    if (push->each.copy) check_output(t, 5, CHECK_STORE, all);
    check_words(t, 6, moves, COUNT_OF(moves));
}

// The place of a code among those of its kind, by value.
static int rank_of(uint32_t code, uint32_t kind)
{
    if (kind == CODES_UNSIGNED) return code == 0 ? 1 : code == 1 ? 256 : (int)code;
    return code == 128 ? 128 : code & 128 ? -(int)(code & 127) : (int)code;
}

// Where a value is at the border of two cells, rounding decides: neighbours, and few of them, for
// cells are at least 1/128 of a value wide and rounding is 1e-7 of it.
static void compare_records(struct check *t, const uint32_t *want, uint32_t count)
{
    const uint32_t *got = check_result(t, 4);
    uint32_t other = 0;
    for (uint32_t r = 0; r < count; r++, got += CODES_WORDS, want += CODES_WORDS)
        for (uint32_t kind = 0; kind < 2; kind++) {
            float x, y;
            memcpy(&x, &got[CODES_FACTOR + kind], sizeof x);
            memcpy(&y, &want[CODES_FACTOR + kind], sizeof y);
            if (fabsf(x - y) > 2e-6f * y) check_fail(t, "record %u: factor %g not %g", r, x, y);
            for (uint32_t i = 0; i < CODES_ELEMENTS; i++) {
                const uint32_t a = codes_record_code(got, (enum codes_kind)kind, i),
                               b = codes_record_code(want, (enum codes_kind)kind, i);
                other += a != b;
                if (abs(rank_of(a, kind) - rank_of(b, kind)) > 1)
                    check_fail(t, "record %u, %s %u: code %u, reference %u", r, kind ? "v" : "m",
                               i, a, b);
            }
        }
    if (other > count * CODES_ELEMENTS / 250 + 2)
        check_fail(t, "%u of %u codes are not the reference's", other,
                   2 * count * CODES_ELEMENTS);
}

static double error_of(const float *got, const float *want, uint32_t count)
{
    double error = 0, square = 1e-30;
    for (uint32_t i = 0; i < count; i++) {
        error += pow((double)got[i] - (double)want[i], 2);
        square += pow((double)want[i], 2);
    }
    return error / square;
}

// p as the reference's, records too, the copy is p rounded; what does not move keeps every byte.
static bool run(struct check *t, const struct push_adamw_8bit *push)
{
    if (!check_run_only(t, push)) return false;
    struct gpu_ref_call call = {.push = push, .tag = (int)t->store};
    for (int b = 0; b < 7; b++) {
        call.buffer[b] = malloc(t->binding[b].bytes);
        memcpy(call.buffer[b], t->binding[b].initial, t->binding[b].bytes);
    }
    kernel_info(KERNEL_ADAMW_8BIT)->ref(&call);
    const uint32_t all = push->each.count * push->each.matrices;
    const double error = error_of(check_result(t, 2), call.buffer[2], all);
    t->worst = fmax(t->worst, error / 1e-12);
    if (!(error <= 1e-12)) check_fail(t, "p: normalised mean square error %.3g", error);
    compare_records(t, call.buffer[4], push->record + blocks_of(push) * push->each.matrices);
    for (int b = 0; b < 7; b++) free(call.buffer[b]);
    for (uint32_t i = 0; push->each.copy && i < all; i++) {
        uint8_t want[8];
        const size_t size = dtype_bytes(t->store);
        const uint32_t matrix = i / push->each.count;
        dtype_store(want, 0, t->store, (double)((const float *)check_result(t, 2))[i]);
        if (!is_moved(push, matrix)) memset(want, 0xff, sizeof want);
        if (memcmp(want, (const uint8_t *)check_result(t, 5) + i * size, size) != 0) {
            check_fail(t, "copy of element %u", i);
            break;
        }
    }
    return !t->failed;
}

static void compare_still(struct check *t, const struct push_adamw_8bit *push)
{
    const size_t part = 4 * (size_t)push->each.count, front = push->record * CODES_WORDS * 4,
                 bytes = (size_t)blocks_of(push) * CODES_WORDS * 4;
    const uint8_t *p = check_result(t, 2), *r = check_result(t, 4);
    if (memcmp(r, t->binding[4].initial, front) != 0) check_fail(t, "wrote before its records");
    for (uint32_t i = 0; i < push->each.matrices; i++)
        if (!is_moved(push, i) &&
            (memcmp(p + i * part, t->binding[2].initial + i * part, part) != 0 ||
             memcmp(r + front + i * bytes, t->binding[4].initial + front + i * bytes, bytes) != 0))
            check_fail(t, "part %u moved", i);
}

static void one_case(struct check *t, uint32_t count, uint32_t matrices, uint32_t record,
                     double finite, double scale)
{
    const struct push_adamw_8bit push = push_of(count, matrices, record);
    check_begin(t, KERNEL_ADAMW_8BIT, 0, "%u of %u from record %u, finite %g, scale %g", matrices,
                count, record, finite, scale);
    bindings(t, &push, finite, scale);
    if (!run(t, &push)) return;
    compare_still(t, &push);
    if (finite == 0 &&
        (memcmp(check_result(t, 2), t->binding[2].initial, t->binding[2].bytes) != 0 ||
         memcmp(check_result(t, 4), t->binding[4].initial, t->binding[4].bytes) != 0))
        check_fail(t, "moved in a skipped step");
}

// A block whose gradients are twelve decades apart: no v above 0 becomes 0, so none that has a
// gradient divides by eps alone; and zeros stay zeros.
static void far_apart(struct check *t)
{
    enum { COUNT = 2 * CODES_ELEMENTS };
    const struct push_adamw_8bit push = push_of(COUNT, 1, 0);
    double g[COUNT] = {0};
    for (int i = 0; i < CODES_ELEMENTS; i++)
        g[i] = (i & 1 ? -1 : 1) * pow(10, -12.0 * i / CODES_ELEMENTS);
    g[7] = 0;
    check_begin(t, KERNEL_ADAMW_8BIT, 0, "gradients far apart, and a block of zeros");
    bindings(t, &push, 1, 1);
    check_values(t, 3, DTYPE_F32, g, COUNT);
    check_words(t, 4, (const uint32_t[2 * CODES_WORDS]){0}, 2 * CODES_WORDS);
    if (!run(t, &push)) return;
    const uint32_t *record = check_result(t, 4);
    for (uint32_t i = 0; i < CODES_ELEMENTS; i++)
        if ((codes_record_value(record, CODES_UNSIGNED, i) > 0) != (i != 7))
            check_fail(t, "v of element %u is %g", i,
                       codes_record_value(record, CODES_UNSIGNED, i));
    for (uint32_t i = 0; i < CODES_WORDS; i++)
        if (record[CODES_WORDS + i]) check_fail(t, "word %u of a block of zeros", i);
}

struct plain { double p, m, v; };

static void plain_step(struct plain *x, double g, uint32_t step, double rate)
{
    x->m = 0.9 * x->m + 0.1 * g;
    x->v = 0.95 * x->v + 0.05 * g * g;
    x->p -= rate * 0.1 * x->p;
    x->p -= rate / (1 - pow(0.9, step)) * x->m / (sqrt(x->v / (1 - pow(0.95, step))) + 1e-8);
}

// Gradients of a bowl with noise: after twelve steps of 0.01 codes have cost less than a step in
// the mean square.
static void many_steps(struct check *t)
{
    enum { COUNT = 3 * CODES_ELEMENTS - 5, STEPS = 12 };
    static struct plain plain[COUNT];
    static double p[COUNT], g[COUNT];
    uint32_t words[3 * CODES_WORDS] = {0};
    const struct push_adamw_8bit push = push_of(COUNT, 1, 0);
    for (int i = 0; i < COUNT; i++) {
        p[i] = (double)(float)rng_normal(t->seed, 99, (uint64_t)i);
        plain[i] = (struct plain){.p = p[i]};
    }
    for (uint32_t step = 1; step <= STEPS; step++) {
        check_begin(t, KERNEL_ADAMW_8BIT, 0, "step %u of %d", step, STEPS);
        for (int i = 0; i < COUNT; i++)
            g[i] = (double)(float)(rng_normal(t->seed, 100 + step, (uint64_t)i) + p[i]);
        check_step(t, 0, &(struct step_words){.step = step, .learning_rate = 0.01f});
        check_values(t, 1, DTYPE_F32, (double[4]){1, 1, 1, 0}, 4);
        check_values(t, 2, DTYPE_F32, p, COUNT);
        check_values(t, 3, DTYPE_F32, g, COUNT);
        check_words(t, 4, words, COUNT_OF(words));
        check_output(t, 5, CHECK_STORE, COUNT);
        if (!run(t, &push)) return;
        memcpy(words, check_result(t, 4), sizeof words);
        for (int i = 0; i < COUNT; i++) {
            plain_step(&plain[i], g[i], step, 0.01);
            p[i] = (double)((const float *)check_result(t, 2))[i];
        }
    }
    double square = 0;
    for (int i = 0; i < COUNT; i++) square += pow(p[i] - plain[i].p, 2) / COUNT;
    if (sqrt(square) > 0.01 || sqrt(square) < 1e-6)
        check_fail(t, "%g from a plain AdamW after %d steps", sqrt(square), STEPS);
}

// Every code is in the cell of its own value, and cells are in order.
static void codes(struct check *t)
{
    check_begin(t, KERNEL_ADAMW_8BIT, 0, "codes");
    for (uint32_t kind = 0; kind < 2; kind++) {
        double before = -2;
        for (int rank = kind ? 1 : -127; rank <= (kind ? 256 : 128); rank++) {
            uint32_t code = 0;
            while (code < 255 && rank_of(code, kind) != rank) code++;
            const double value = codes_value(code, (enum codes_kind)kind);
            if (codes_of(value, (enum codes_kind)kind) != code || value <= before)
                check_fail(t, "%s code %u: %g behind %g", kind ? "unsigned" : "signed", code,
                           value, before);
            before = value;
        }
    }
}

void check_adamw_8bit(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 31, 255, 256, 257, 259, 1000, 1024, 10007};
    codes(t);
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        one_case(t, counts[i], 1, i % 4, 1, 0.1);
        one_case(t, counts[i], 6, i % 3, 1, 0.1);
    }
    one_case(t, 513, 6, 2, 0, 0.1);
    one_case(t, 513, 1, 2, 0, 0.1);
    one_case(t, 600, 6, 0, 1, 1e-9);
    one_case(t, 600, 6, 0, 1, 1e4);
    far_apart(t);
    many_steps(t);
}
