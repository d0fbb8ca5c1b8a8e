// SPDX-License-Identifier: MIT
// vkmoe compare: two models (or results that eval wrote) on the same items. Accuracies by
// McNemar's exact test, log-probabilities by a paired bootstrap; says which is better, or that they
// cannot be told apart.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/os.h"
#include "tools/eval_task.h"

#define LEVEL 0.05

static const char *winner(double b_minus_a, double p, bool less_is_better)
{
    if (!(p < LEVEL)) return "cannot be told apart";
    return (b_minus_a > 0) != less_is_better ? "B is better" : "A is better";
}

static void print_p(double p)
{
    if (p < 1e-4) printf("p < 0.0001");
    else printf("p = %.4f", p);
}

static void print_shares(const struct score_difference *d, const char *name)
{
    printf("%-28s  %6llu  %8.1f %%  %8.1f %%  %+8.1f %%  %s: only A %llu, only B %llu, ", name,
           (unsigned long long)d->count, 100 * d->a, 100 * d->b, 100 * (d->b - d->a),
           winner(d->b - d->a, d->p, false), (unsigned long long)d->only_a,
           (unsigned long long)d->only_b);
    print_p(d->p);
    printf(" (McNemar, exact)\n");
}

static void print_margin(const struct score_difference *d, enum score_measure measure)
{
    static const char *const unit[MEASURES] = {
        "  lead, nats a token", "  right one, nats a byte", "", "", "bits per byte"};
    const bool text = measure == MEASURE_TEXT;
    char a[24] = "-", b[24] = "-";
    if (text) snprintf(a, sizeof a, "%.4f", d->a);
    if (text) snprintf(b, sizeof b, "%.4f", d->b);
    printf("%-28s  %6llu  %10s  %10s  %+10.4f  ", unit[measure], (unsigned long long)d->count, a, b,
           d->margin.value);
    if (isnan(d->margin.p)) {
        printf("one item: no interval\n");
        return;
    }
    printf("%s: %+.4f to %+.4f, ", winner(d->margin.value, d->margin.p, text),
           d->margin.interval.low, d->margin.interval.high);
    print_p(d->margin.p);
    printf(" (paired bootstrap, %d draws)\n", STATS_DRAWS);
}

static void print_json(const struct score_difference *d, enum score_measure measure, bool first)
{
    const bool text = measure == MEASURE_TEXT, generated = measure == MEASURE_GENERATE;
    printf("%s{\"score\": \"%s\", \"items\": %llu, \"a\": %.17g, \"b\": %.17g", first ? "" : ", ",
           score_measure_name(measure), (unsigned long long)d->count, d->a, d->b);
    if (!text)
        printf(", \"only_a\": %llu, \"only_b\": %llu, \"p\": %.17g", (unsigned long long)d->only_a,
               (unsigned long long)d->only_b, d->p);
    if (!generated && isfinite(d->margin.p))
        printf(", \"margin\": {\"value\": %.17g, \"low\": %.17g, \"high\": %.17g, \"p\": %.17g}",
               d->margin.value, d->margin.interval.low, d->margin.interval.high, d->margin.p);
    printf("}");
}

static void print_all(const struct eval_run *a, const struct eval_run *b, const struct cli *cli)
{
    bool first = true;
    if (cli->json) printf("{\"task_fingerprint\": \"%s\", \"scores\": [", a->task_fingerprint);
    else
        printf("A: %s\nB: %s\n%-28s  %6s  %10s  %10s  %10s\n", a->model_path, b->model_path,
               "score", "items", "A", "B", "B - A");
    for (int m = 0; m < MEASURES; m++) {
        const enum score_measure measure = (enum score_measure)m;
        const struct score_difference d =
            score_compare(a->task, a->answers, b->answers, measure, cli->sampling.seed);
        if (d.count == 0) continue;
        if (cli->json) print_json(&d, measure, first);
        first = false;
        if (cli->json) continue;
        if (measure != MEASURE_TEXT) print_shares(&d, score_measure_name(measure));
        if (measure != MEASURE_GENERATE && measure != MEASURE_BYTES) print_margin(&d, measure);
    }
    if (cli->json) printf("]}\n");
}

int command_compare(struct cli *cli)
{
    if (cli->operand_count != 2 || !cli->task) {
        fprintf(stderr, "vkmoe compare: wants two of DIR, FILE or RESULT.json, and --task FILE; "
                        "see vkmoe compare --help\n");
        return EXIT_USAGE;
    }
    os_interrupt_catch();
    struct eval_run a = {0}, b = {0};
    struct task *task = eval_task_open(cli);
    const bool ok = task && eval_task_run(&a, cli, task, cli->operand[0], NULL) &&
                    eval_task_run(&b, cli, task, cli->operand[1], NULL);
    if (ok) print_all(&a, &b, cli);
    const bool interrupted = a.interrupted || b.interrupted;
    eval_task_finish(&a);
    eval_task_finish(&b);
    task_close(&task);
    return ok ? EXIT_DONE : interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
}
