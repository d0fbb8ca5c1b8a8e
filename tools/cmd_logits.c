// SPDX-License-Identifier: MIT
// vkmoe logits: f32 logits of all positions of a sequence, as .npy, to compare with other engines.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "src/npy.h"
#include "tools/cli.h"

static bool parse_ids(const char *text, uint32_t **ids, uint32_t *count)
{
    const char *at = text;
    uint32_t capacity = 0;
    for (*count = 0; ; at++) {
        char *end;
        errno = 0;
        const unsigned long long value = strtoull(at, &end, 10);
        if (end == at || errno || *at == '-' || value > UINT32_MAX || (*end && *end != ',')) {
            fprintf(stderr,
                    "vkmoe logits: --ids: found \"%s\" at position %u, wanted numbers with commas "
                    "between\n",
                    at, *count);
            return false;
        }
        if (*count == capacity)
            *ids = realloc(*ids, (capacity = capacity ? 2 * capacity : 64) * sizeof **ids);
        (*ids)[(*count)++] = (uint32_t)value;
        at = end;
        if (!*at) return true;
    }
}

static bool write_logits(struct cli *cli, struct vkmoe_model *model, const uint32_t *ids,
                         uint32_t count)
{
    const uint32_t vocab = vkmoe_model_info(model).vocab_size;
    float *logits = malloc((size_t)count * vocab * sizeof *logits);
    const bool ok = logits && vkmoe_model_logits(model, ids, count, logits) &&
                    npy_write_f32(cli->out, logits, count, vocab);
    free(logits);
    if (ok) printf("%s: f32 [%u][%u]\n", cli->out, count, vocab);
    return ok;
}

int command_logits(struct cli *cli)
{
    if (cli->operand_count != 1 || !cli->ids || !cli->out) {
        fprintf(stderr, "vkmoe logits: wants one DIR, --ids and --out; see vkmoe logits --help\n");
        return EXIT_USAGE;
    }
    uint32_t *ids = NULL, count;
    if (!parse_ids(cli->ids, &ids, &count)) {
        free(ids);
        return EXIT_USAGE;
    }
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (device) log_info("%s", vkmoe_device_choice(device));
    struct vkmoe_model *model =
        device ? vkmoe_model_open_with(device, cli->operand[0], &cli->model) : NULL;
    const bool ok = model && write_logits(cli, model, ids, count);
    free(ids);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
