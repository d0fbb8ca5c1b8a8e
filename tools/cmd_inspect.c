// SPDX-License-Identifier: MIT
// vkmoe inspect: a trained run and a text -> what its experts do, as a report.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"
#include "tools/inspect.h"

static bool is_run(const char *folder)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4100s/metrics.jsonl", folder);
    if (file_exists(path)) return true;
    log_error("%s: no such file; inspect wants the folder of a run that vkmoe trained", path);
    return false;
}

static bool is_moe(const struct vkmoe_model *model, const char *folder)
{
    if (config_moe_layers(&model->model->config)) return true;
    log_error("%s: a dense model (num_experts 0, or no MoE layer): there is no routing to inspect",
              folder);
    return false;
}

static bool inspect_model(struct inspect *in, const struct inspect_params *params,
                          struct vkmoe_device *device)
{
    in->model = vkmoe_model_open(device, params->folder);
    if (!in->model || !is_moe(in->model, params->folder)) return false;
    if (!inspect_gather(in, params, device)) return false;
    inspect_count(in);
    return inspect_history(in) && file_make_folders(params->out) &&
           inspect_pictures(in, params->out) && inspect_report(in, params->out);
}

bool inspect_run(const struct inspect_params *params, struct inspect_summary *summary)
{
    if (!is_run(params->folder)) return false;
    struct vkmoe_device *device = vkmoe_device_open(&params->device);
    if (!device) return false;
    log_info("%s", vkmoe_device_choice(device));
    struct arena *arena = arena_create("inspect");
    struct inspect *in = arena_alloc(arena, sizeof *in);
    *in = (struct inspect){.folder = params->folder, .arena = arena};
    const bool ok = inspect_model(in, params, device);
    if (ok) *summary = inspect_summarise(in);
    vkmoe_model_close(&in->model);
    arena_destroy(&arena);
    vkmoe_device_close(&device);
    return ok;
}

// The report, as it was written.
static bool show(const char *out, const char *name)
{
    char path[4300];
    void *text;
    uint64_t bytes;
    snprintf(path, sizeof path, "%.4200s/%s", out, name);
    if (!file_read(path, 0, &text, &bytes)) return false;
    fwrite(text, 1, bytes, stdout);
    free(text);
    return true;
}

int command_inspect(struct cli *cli)
{
    char out[4200];
    struct inspect_summary summary;
    if (cli->operand_count != 1 || cli->data_count == 0) {
        fprintf(stderr, "vkmoe inspect: wants one DIR and --data PATH...; see vkmoe inspect "
                        "--help\n");
        return EXIT_USAGE;
    }
    if (cli->out) snprintf(out, sizeof out, "%.4100s", cli->out);
    else snprintf(out, sizeof out, "%.4100s/inspect", cli->operand[0]);
    os_interrupt_catch();
    const struct inspect_params params = {.device = cli->device,
                                          .folder = cli->operand[0],
                                          .data = cli->data,
                                          .data_count = cli->data_count,
                                          .out = out,
                                          .max_tokens = cli->max_tokens};
    if (!inspect_run(&params, &summary)) return EXIT_FAILED;
    if (cli->json) return show(out, "report.json") ? EXIT_DONE : EXIT_FAILED;
    printf("information of experts on domains: %.4f bits (shuffled %.4f, documents shuffled %.4f) "
           "of %.4f; beyond the token %.4f (%.4f, %.4f)\nreport.md, report.json and pictures in "
           "%s\n",
           summary.information, summary.shuffled, summary.documents, summary.domain_bits,
           summary.given_token, summary.given_shuffled, summary.given_documents, out);
    return EXIT_DONE;
}
