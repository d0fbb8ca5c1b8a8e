// SPDX-License-Identifier: MIT
// Answers -> scores: see score_measure.h.
#include "src/score_measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

#define LEVEL 0.05 // of the tests: 95 % intervals

const char *score_measure_name(enum score_measure measure)
{
    static const char *const name[MEASURES] = {"pairs", "choice, sum", "choice, per byte",
                                               "generation", "bits per byte"};
    return name[measure];
}

static bool applies(enum score_measure measure, const struct task_item *item)
{
    switch (measure) {
    case MEASURE_PAIRS: return item->kind == TASK_PAIRS;
    case MEASURE_SUM: case MEASURE_BYTES: return item->kind == TASK_CHOICE;
    case MEASURE_GENERATE: return item->kind == TASK_GENERATE && item->match != TASK_SAMPLE;
    case MEASURE_TEXT: return item->kind == TASK_TEXT;
    case MEASURES: break;
    }
    return false;
}

static double bytes_of(const struct task_item *item, uint32_t choice)
{
    const char *text = item->choice[choice];
    const size_t bytes = strlen(text);
    const bool space = item->kind != TASK_TEXT && *text == ' ' && bytes > 1;
    return (double)(bytes - space);
}

static double worth(const struct task_item *item, const struct score_answer *answer,
                    enum score_measure measure, uint32_t choice)
{
    const double logp = answer->logp[choice];
    if (measure == MEASURE_PAIRS) return logp / fmax(1, answer->tokens[choice]);
    return measure == MEASURE_BYTES ? logp / bytes_of(item, choice) : logp;
}

uint32_t score_picked(const struct task_item *item, const struct score_answer *answer,
                      enum score_measure measure)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < item->choice_count; i++)
        if (worth(item, answer, measure, i) > worth(item, answer, measure, best)) best = i;
    return best;
}

static bool is_tied(const struct task_item *item, const struct score_answer *answer,
                    enum score_measure measure)
{
    const uint32_t best = score_picked(item, answer, measure);
    for (uint32_t i = 0; i < item->choice_count; i++)
        if (i != best && worth(item, answer, measure, i) == worth(item, answer, measure, best))
            return i == item->answer || best == item->answer;
    return false;
}

// A pair that is worth the same is not right; a NaN is never right.
bool score_right(const struct task_item *item, const struct score_answer *answer,
                 enum score_measure measure)
{
    if (measure == MEASURE_GENERATE)
        return answer->text && task_matches(item, answer->text, strlen(answer->text));
    for (uint32_t i = 0; i < item->choice_count; i++)
        if (isnan(worth(item, answer, measure, i))) return false;
    if (measure == MEASURE_PAIRS)
        return worth(item, answer, measure, 0) > worth(item, answer, measure, 1);
    return score_picked(item, answer, measure) == item->answer;
}

// ---- one set of answers

static struct score_metric measure_texts(const struct task *task,
                                         const struct score_answer *answers, const bool *taken,
                                         uint32_t vocab_size)
{
    struct score_metric m = {.p = NAN};
    double *bits = os_alloc((task->count + 1) * sizeof *bits),
           *bytes = os_alloc((task->count + 1) * sizeof *bytes), tokens = 0, all = 0, nats = 0;
    for (uint64_t i = 0; i < task->count; i++) {
        if (!taken[i]) continue;
        bits[m.count] = -answers[i].logp[0] / log(2.0);
        bytes[m.count] = bytes_of(&task->item[i], 0);
        nats -= answers[i].logp[0];
        tokens += answers[i].tokens[0];
        all += bytes[m.count++];
    }
    const struct ratio ratio = stats_bootstrap(bits, bytes, m.count, 0);
    m.value = ratio.value;
    m.interval = ratio.interval;
    m.perplexity = exp(nats / fmax(1, tokens));
    m.chance = log2(vocab_size) * tokens / fmax(1, all);
    free(bits);
    free(bytes);
    return m;
}

static void measure_shares(const struct task *task, const struct score_answer *answers,
                           const bool *taken, enum score_measure measure, struct score_metric *m)
{
    double *chance = os_alloc((task->count + 1) * sizeof *chance), sum = 0;
    for (uint64_t i = 0; i < task->count; i++) {
        const struct task_item *item = &task->item[i];
        if (!taken[i]) continue;
        chance[m->count] = measure == MEASURE_GENERATE ? 0 : 1.0 / item->choice_count;
        m->mixed |= chance[m->count] != chance[0];
        sum += chance[m->count++];
        m->right += score_right(item, &answers[i], measure);
        m->ties += measure != MEASURE_GENERATE && is_tied(item, &answers[i], measure);
    }
    if (m->count) {
        m->value = (double)m->right / (double)m->count;
        m->chance = sum / (double)m->count;
        m->interval = stats_wilson(m->right, m->count);
        m->p = measure == MEASURE_GENERATE ? NAN
               : m->mixed                  ? stats_test(chance, m->count, m->right)
                          : stats_binomial(m->right, m->count, chance[0]);
    }
    free(chance);
}

struct score_metric score_measure(const struct task *task, const struct score_answer *answers,
                                  enum score_measure measure, const char *domain,
                                  uint32_t vocab_size)
{
    bool *taken = os_alloc((task->count + 1) * sizeof *taken);
    struct score_metric m = {0};
    for (uint64_t i = 0; i < task->count; i++)
        taken[i] = applies(measure, &task->item[i]) && answers[i].done &&
                   (!domain || !strcmp(domain, task->item[i].domain));
    if (measure == MEASURE_TEXT) m = measure_texts(task, answers, taken, vocab_size);
    else measure_shares(task, answers, taken, measure, &m);
    free(taken);
    return m;
}

uint64_t score_domains(const struct task *task, const char **list)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < task->count; i++) {
        const char *own = task->item[i].domain;
        bool is_new = *own != 0;
        for (uint64_t j = 0; is_new && j < count; j++) is_new = strcmp(list[j], own) != 0;
        if (is_new) list[count++] = own;
    }
    return count;
}

static void print_p(double p, char out[32])
{
    if (p < 1e-4) snprintf(out, 32, "p < 0.0001");
    else snprintf(out, 32, p < 0.1 ? "p = %.4f" : "p = %.2f", p);
}

void score_verdict(const struct score_metric *m, enum score_measure measure, char out[80])
{
    char p[32];
    *out = 0;
    if (measure == MEASURE_TEXT) {
        if (isnan(m->interval.low)) snprintf(out, 80, "one text: no interval");
        else if (m->interval.low <= m->chance && m->chance <= m->interval.high)
            snprintf(out, 80, "not distinguishable from chance");
        return;
    }
    if (isnan(m->p)) return;
    print_p(m->p, p);
    if (m->p >= LEVEL) snprintf(out, 80, "not distinguishable from chance (%s)", p);
    else snprintf(out, 80, "%s chance (%s)", m->value > m->chance ? "above" : "below", p);
}

// ---- two sets

// What an item adds to the ratio of score_difference.
static double margin(const struct task_item *item, const struct score_answer *answer,
                     enum score_measure measure)
{
    if (measure == MEASURE_PAIRS)
        return worth(item, answer, measure, 0) - worth(item, answer, measure, 1);
    if (measure == MEASURE_TEXT) return -answer->logp[0] / log(2.0);
    return answer->logp[item->answer];
}

static double weight(const struct task_item *item, enum score_measure measure)
{
    return measure == MEASURE_PAIRS ? 1 : bytes_of(item, item->answer);
}

struct score_difference score_compare(const struct task *task, const struct score_answer *a,
                                      const struct score_answer *b, enum score_measure measure,
                                      uint64_t seed)
{
    struct score_difference d = {.p = NAN, .margin = {NAN, {NAN, NAN}, NAN}};
    double *values = os_alloc((task->count + 1) * sizeof *values),
           *weights = os_alloc((task->count + 1) * sizeof *weights), of_a = 0, of_b = 0, all = 0;
    for (uint64_t i = 0; i < task->count; i++) {
        const struct task_item *item = &task->item[i];
        if (!applies(measure, item) || !a[i].done || !b[i].done) continue;
        const uint64_t at = d.count++;
        if (measure != MEASURE_TEXT) {
            const bool right_a = score_right(item, &a[i], measure),
                       right_b = score_right(item, &b[i], measure);
            of_a += right_a, of_b += right_b, all += 1;
            d.only_a += right_a && !right_b;
            d.only_b += right_b && !right_a;
        }
        if (measure == MEASURE_GENERATE) continue;
        values[at] = margin(item, &b[i], measure) - margin(item, &a[i], measure);
        weights[at] = weight(item, measure);
        if (measure != MEASURE_TEXT) continue;
        of_a += margin(item, &a[i], measure), of_b += margin(item, &b[i], measure);
        all += weights[at];
    }
    d.a = of_a / all;
    d.b = of_b / all;
    if (d.count && measure != MEASURE_TEXT) d.p = stats_mcnemar(d.only_a, d.only_b);
    if (d.count && measure != MEASURE_GENERATE)
        d.margin = stats_bootstrap(values, weights, d.count, seed);
    free(values);
    free(weights);
    return d;
}
