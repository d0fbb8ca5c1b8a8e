// SPDX-License-Identifier: MIT
// One run of a task: the model opened, its answers (those that are there read, the rest computed),
// and the table at the end. See eval_task.h.
#include "tools/eval_task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts.h"
#include "src/progress.h"

struct task *eval_task_open(const struct cli *cli)
{
    return task_open(&(struct task_params){.path = cli->task, .dev = cli->dev,
                                           .format = (enum task_format)cli->format,
                                           .limit = cli->limit, .shots = cli->shots});
}

// ---- the run

struct going {
    struct eval_run  *run;
    struct eval_file *file;
    struct progress  *progress;
    uint64_t          done;
};

static void show(const struct going *g)
{
    if (g->progress)
        progress_update(g->progress, &(struct progress_state){.step = g->done, .loss = NAN,
                                                              .bits_per_byte = NAN});
}

static bool take_answer(void *user, uint64_t index)
{
    struct going *g = user;
    if (g->file && !eval_file_add(g->file, g->run, index)) return false;
    g->done++;
    show(g);
    return g->done == g->run->task->count || !os_interrupted();
}

static void tell_interrupt(const struct going *g, const char *out)
{
    if (out)
        log_warn("interrupted: %llu of %llu answers are in %s.answers.jsonl; the same command goes "
                 "on", (unsigned long long)g->done, (unsigned long long)g->run->task->count, out);
    else
        log_warn("interrupted; with --out FILE the same command would go on");
}

static bool answer_all(struct eval_run *run, struct vkmoe_model *model, const char *out,
                       const char *fingerprint)
{
    struct going g = {.run = run};
    if (out && !(g.file = eval_file_open(out, fingerprint, run))) return false;
    g.done = run->resumed;
    if (run->resumed)
        log_info("%llu of %llu answers are there", (unsigned long long)run->resumed,
                 (unsigned long long)run->task->count);
    if (!run->cli->quiet)
        g.progress = progress_create(&(struct progress_params){
            .verb = "eval", .out = stderr, .first = run->resumed, .total = run->task->count});
    show(&g); // items come some at a time: the first of them is no measure of the others
    bool ok = score_task(model, run->task, &run->settings, run->answers, take_answer, &g);
    progress_destroy(&g.progress);
    if (os_interrupted() && g.done < run->task->count) {
        ok = false;
        run->interrupted = true;
        tell_interrupt(&g, out);
    }
    if (ok && g.file) ok = eval_file_commit(&g.file, run);
    eval_file_close(&g.file);
    return ok;
}

static void print_task_fingerprint(struct eval_run *run)
{
    char text[200];
    const struct score_settings *s = &run->settings;
    const int length =
        snprintf(text, sizeof text, "%016llx %u %llu %u %u%s",
                 (unsigned long long)run->task->fingerprint, s->shots, (unsigned long long)s->seed,
                 s->max_tokens, s->stride, s->template ? " template" : "");
    snprintf(run->task_fingerprint, sizeof run->task_fingerprint, "%016llx",
             (unsigned long long)checksum_xxh64(text, (size_t)length));
}

static bool run_model(struct eval_run *run, const char *out)
{
    const struct cli *cli = run->cli;
    char fingerprint[64];
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (device) log_info("%s", vkmoe_device_choice(device));
    struct vkmoe_model *model =
        device ? vkmoe_model_open_with(device, run->model_path, &cli->model) : NULL;
    bool ok = model && eval_model_fingerprint(run->model_path, cli, device->gpu->caps.name,
                                              run->model_fingerprint);
    if (ok) run->vocab_size = model->model->config.vocab_size;
    snprintf(fingerprint, sizeof fingerprint, "%s-%s-%u", run->task_fingerprint,
             run->model_fingerprint, cli->context);
    ok = ok && answer_all(run, model, out, fingerprint);
    if (ok) experts_tell(model->params->experts);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
    return ok;
}

bool eval_task_run(struct eval_run *run, const struct cli *cli, const struct task *task,
                   const char *model_path, const char *out)
{
    *run = (struct eval_run){
        .cli = cli, .task = task, .model_path = model_path,
        .settings = {.shots = cli->shots, .seed = cli->sampling.seed,
                     .max_tokens = cli->max_tokens, .stride = cli->stride,
                     .context = cli->context, .template = cli->template}};
    run->answers = score_answers_create(task);
    print_task_fingerprint(run);
    return eval_file_is(model_path) ? eval_file_read(model_path, run) : run_model(run, out);
}

void eval_task_finish(struct eval_run *run)
{
    if (run->answers) score_answers_destroy(&run->answers, run->task);
}

// ---- the table

enum { NAME_WIDTH = 16 };

static void print_row(const char *name, int width, const struct score_metric *m,
                      enum score_measure measure)
{
    char value[32], interval[40] = "-", chance[32], verdict[80];
    const bool text = measure == MEASURE_TEXT;
    const double unit = text ? 1 : 100;
    const char *sign = text ? "" : " %";
    snprintf(value, sizeof value, text ? "%.4f%s" : "%.1f%s", unit * m->value, sign);
    snprintf(chance, sizeof chance, text ? "%.4f%s" : "%.1f%s", unit * m->chance, sign);
    if (!isnan(m->interval.low))
        snprintf(interval, sizeof interval, text ? "%.4f - %.4f%s" : "%.1f - %.1f%s",
                 unit * m->interval.low, unit * m->interval.high, sign);
    score_verdict(m, measure, verdict);
    printf("%-*s  %6llu  %8s  %17s  %8s%s%s\n", width, name, (unsigned long long)m->count, value,
           interval, chance, *verdict ? "  " : "", verdict);
}

static void print_head(const char *name, int width)
{
    printf("%-*s  %6s  %8s  %17s  %8s\n", width, name, "items", "value", "95 % interval", "chance");
}

// Where the items are of more than one domain.
static void print_domains(const struct eval_run *run, enum score_measure measure)
{
    const char **list = os_alloc((run->task->count + 1) * sizeof *list);
    const uint64_t all = score_domains(run->task, list);
    struct score_metric *metric = os_alloc((all + 1) * sizeof *metric);
    uint64_t count = 0;
    int width = NAME_WIDTH;
    for (uint64_t i = 0; i < all; i++) {
        metric[count] = score_measure(run->task, run->answers, measure, list[i], run->vocab_size);
        if (metric[count].count == 0) continue;
        list[count++] = list[i];
        width = (int)max_u64((uint64_t)width, strlen(list[i]));
    }
    if (count > 1) putchar('\n');
    if (count > 1) print_head(score_measure_name(measure), width);
    for (uint64_t i = 0; count > 1 && i < count; i++)
        print_row(list[i], width, &metric[i], measure);
    free(metric);
    free(list);
}

static void print_notes(const struct eval_run *run, const struct score_metric *metric)
{
    uint64_t cut = 0, tokens = 0;
    for (uint64_t i = 0; i < run->task->count; i++) {
        cut += run->answers[i].cut > 0;
        tokens += run->answers[i].cut;
    }
    if (cut)
        printf("%llu of %llu prompts were longer than the context: %llu tokens were cut off at "
               "their front\n", (unsigned long long)cut, (unsigned long long)run->task->count,
               (unsigned long long)tokens);
    for (int m = 0; m < MEASURES; m++) {
        if (metric[m].ties)
            printf("%s: %llu ties between the right answer and another\n",
                   score_measure_name((enum score_measure)m), (unsigned long long)metric[m].ties);
        if (metric[m].mixed)
            printf("%s: items differ in their choices; chance is the mean of 1 / choices, p of "
                   "the Poisson-binomial distribution\n",
                   score_measure_name((enum score_measure)m));
    }
    if (metric[MEASURE_TEXT].count)
        printf("perplexity %.4f a token\n", metric[MEASURE_TEXT].perplexity);
}

void eval_task_print(const struct eval_run *run)
{
    struct score_metric metric[MEASURES];
    uint64_t items = 0;
    printf("%s: %s, %llu items, %u shots\n", run->cli->task, task_format_name(run->task->format),
           (unsigned long long)run->task->count, run->settings.shots);
    for (int m = 0; m < MEASURES; m++) {
        metric[m] = score_measure(run->task, run->answers, (enum score_measure)m, NULL,
                                  run->vocab_size);
        if (items == 0 && metric[m].count) print_head("score", NAME_WIDTH);
        if (metric[m].count)
            print_row(score_measure_name((enum score_measure)m), NAME_WIDTH, &metric[m],
                      (enum score_measure)m);
        items += metric[m].count;
    }
    if (items == 0) printf("nothing to score: the samples are for the task's own scorer\n");
    print_notes(run, metric);
    for (int m = 0; m < MEASURES; m++)
        if (metric[m].count && m != MEASURE_BYTES) print_domains(run, (enum score_measure)m);
}
