// SPDX-License-Identifier: MIT
// vkmoe eval: loss, perplexity and bits per byte of a text under a model; with --task, its answers
// (eval_task.c).
#include <math.h>
#include <stdio.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"
#include "tools/eval.h"
#include "tools/eval_task.h"

enum { BATCH_TOKENS = 1024 };

static void print_result(const struct evaluation *e, bool json)
{
    char bpb[32] = "null";
    if (isfinite(e->bits_per_byte)) snprintf(bpb, sizeof bpb, "%.6f", e->bits_per_byte);
    if (json) {
        printf("{\"loss\": %.6f, \"perplexity\": %.6f, \"bpb\": %s, \"tokens\": %llu, \"bytes\": "
               "%llu}\n",
               e->loss, e->perplexity, bpb, (unsigned long long)e->tokens,
               (unsigned long long)e->bytes);
        return;
    }
    printf("loss           %10.4f nats per token\nperplexity     %10.2f\n", e->loss,
           e->perplexity);
    if (e->bytes) printf("bits per byte  %10.4f\n", e->bits_per_byte);
    printf("tokens         %10llu\n", (unsigned long long)e->tokens);
    if (e->bytes) printf("bytes          %10llu\n", (unsigned long long)e->bytes);
}

bool eval_model(const struct cli *cli, struct vkmoe_device *device, struct vkmoe_model *m,
                struct evaluation *out)
{
    const struct config *c = &m->model->config;
    const uint32_t seq = min_u32(c->seq_len, c->max_position_embeddings),
                   stride = cli->stride ? cli->stride : seq;
    if (seq % stride) {
        log_error("--stride: found %u, wanted a divisor of the model's seq_len %u", stride, seq);
        return false;
    }
    struct data *data = data_open(&(struct data_params){.path = cli->data,
                                                        .path_count = cli->data_count,
                                                        .tokenizer = m->tokenizer,
                                                        .vocab_size = c->vocab_size,
                                                        .seq_len = stride,
                                                        .copy = c->task == CONFIG_COPY,
                                                        .packing = (enum data_packing)c->packing,
                                                        .boundaries = c->document_boundaries,
                                                        .held_out_fraction = 1});
    if (!data) return false;
    if (data_scored(data, DATA_HELD_OUT) < data_tokens(data, DATA_HELD_OUT))
        log_info("%llu tokens, %llu of them scored",
                 (unsigned long long)data_tokens(data, DATA_HELD_OUT),
                 (unsigned long long)data_scored(data, DATA_HELD_OUT));
    struct evaluator *e = evaluator_create(device->gpu, device->kernels, m->params,
                                           max_u32(BATCH_TOKENS / seq, 1), seq);
    const bool ok = e && evaluator_run(e, data, DATA_HELD_OUT, 0, out);
    evaluator_destroy(&e);
    data_close(&data);
    return ok;
}

// What generates samples for another program needs a place for them.
static bool wants_out(const struct task *task, const struct cli *cli)
{
    if (cli->out || task->format != TASK_HUMANEVAL) return false;
    log_error("%s: HumanEval's answers are for its own scorer; give --out FILE.json, and they go "
              "to FILE.samples.jsonl", cli->task);
    return true;
}

static int eval_task(const struct cli *cli)
{
    struct eval_run run = {0};
    struct task *task = eval_task_open(cli);
    const bool ok = task && !wants_out(task, cli) &&
                    eval_task_run(&run, cli, task, cli->operand[0], cli->out);
    if (ok && cli->json) eval_task_json(&run);
    else if (ok) eval_task_print(&run);
    eval_task_finish(&run);
    task_close(&task);
    return ok ? EXIT_DONE : run.interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
}

int command_eval(struct cli *cli)
{
    if (cli->operand_count != 1 || (cli->data_count == 0) == (cli->task == NULL)) {
        fprintf(stderr, "vkmoe eval: wants one DIR or FILE, and --data PATH... or --task FILE; see "
                        "vkmoe eval --help\n");
        return EXIT_USAGE;
    }
    os_interrupt_catch();
    if (cli->task) return eval_task(cli);
    struct evaluation result;
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (device) log_info("%s", vkmoe_device_choice(device));
    struct vkmoe_model *model =
        device ? vkmoe_model_open_with(device, cli->operand[0], &cli->model) : NULL;
    const bool ok = model && eval_model(cli, device, model, &result);
    if (ok) print_result(&result, cli->json);
    if (ok) experts_tell(model->params->experts);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
