// SPDX-License-Identifier: MIT
// vkmoe eval: loss, perplexity and bits per byte of a text under a model.
#include <math.h>
#include <stdio.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"
#include "tools/eval.h"

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
                                                        .held_out_fraction = 1});
    if (!data) return false;
    struct evaluator *e = evaluator_create(device->gpu, device->kernels, m->params,
                                           max_u32(BATCH_TOKENS / seq, 1), seq);
    const bool ok = e && evaluator_run(e, data, DATA_HELD_OUT, 0, out);
    evaluator_destroy(&e);
    data_close(&data);
    return ok;
}

int command_eval(struct cli *cli)
{
    if (cli->operand_count != 1 || cli->data_count == 0) {
        fprintf(stderr, "vkmoe eval: wants one DIR or FILE and --data PATH...; see vkmoe eval "
                        "--help\n");
        return EXIT_USAGE;
    }
    os_interrupt_catch();
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
