// SPDX-License-Identifier: MIT
// vkmoe export: a model's folder in one small file. Says what each kind of number took and lost,
// and with --data what it cost: bits per byte of the folder and of the file, opened again.
#include <math.h>
#include <stdio.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/export.h"
#include "tools/eval.h"

struct measured { struct evaluation before, after; };

// Of a folder or of an export: they open alike.
static bool measure(struct cli *cli, struct vkmoe_device *device, const char *path,
                    const char *weights, struct evaluation *out)
{
    struct vkmoe_model *model =
        vkmoe_model_open_with(device, path, &(struct vkmoe_model_params){.weights = weights});
    const bool ok = model && eval_model(cli, device, model, out);
    vkmoe_model_close(&model);
    return ok;
}

static double error_of(const struct export_sum *sum)
{
    return sum->squares > 0 ? sqrt(sum->error_squares / sum->squares) : 0;
}

static double bits_per_weight(uint64_t bytes, uint64_t elements)
{
    return elements ? 8.0 * (double)bytes / (double)elements : 0;
}

static void print_table(const struct export_report *r)
{
    printf("kind    tensors      weights        bytes  bits/weight  relative error\n");
    for (int kind = 0; kind < QUANT_COUNT; kind++) {
        const struct export_sum *sum = &r->kind[kind];
        if (sum->tensors)
            printf("%-6s %8llu %12llu %12llu %12.3f %15.4f\n", quant_name((enum quant_kind)kind),
                   (unsigned long long)sum->tensors, (unsigned long long)sum->elements,
                   (unsigned long long)sum->bytes, bits_per_weight(sum->bytes, sum->elements),
                   error_of(sum));
    }
    printf("config, tokenizer              %12llu\n"
           "before compression             %12llu %12.3f\n"
           "file                           %12llu %12.3f\n",
           (unsigned long long)r->text_bytes, (unsigned long long)r->data_bytes,
           bits_per_weight(r->data_bytes, r->parameters), (unsigned long long)r->file_bytes,
           bits_per_weight(r->file_bytes, r->parameters));
    if (r->pruned) printf("pruned                 %20llu weights\n", (unsigned long long)r->pruned);
}

static void print_measured(const struct measured *m)
{
    printf("bits per byte before %22.4f\nbits per byte after  %22.4f (%+.4f)\n",
           m->before.bits_per_byte, m->after.bits_per_byte,
           m->after.bits_per_byte - m->before.bits_per_byte);
    printf("loss before          %22.4f\nloss after           %22.4f (%+.4f nats per token)\n",
           m->before.loss, m->after.loss, m->after.loss - m->before.loss);
}

static void print_number(const char *key, double value)
{
    if (isfinite(value)) printf(", \"%s\": %.6f", key, value);
    else printf(", \"%s\": null", key);
}

static void print_json(const struct export_report *r, const struct measured *m)
{
    printf("{\"parameters\": %llu, \"pruned\": %llu, \"header_bytes\": %llu, \"text_bytes\": %llu, "
           "\"data_bytes\": %llu, \"file_bytes\": %llu, \"kinds\": {",
           (unsigned long long)r->parameters, (unsigned long long)r->pruned,
           (unsigned long long)r->header_bytes, (unsigned long long)r->text_bytes,
           (unsigned long long)r->data_bytes, (unsigned long long)r->file_bytes);
    bool first = true;
    for (int kind = 0; kind < QUANT_COUNT; kind++) {
        const struct export_sum *sum = &r->kind[kind];
        if (!sum->tensors) continue;
        printf("%s\"%s\": {\"tensors\": %llu, \"weights\": %llu, \"bytes\": %llu, "
               "\"relative_error\": %.6f}", first ? "" : ", ", quant_name((enum quant_kind)kind),
               (unsigned long long)sum->tensors, (unsigned long long)sum->elements,
               (unsigned long long)sum->bytes, error_of(sum));
        first = false;
    }
    printf("}");
    print_number("bits_per_weight", bits_per_weight(r->file_bytes, r->parameters));
    if (m) {
        print_number("bpb_before", m->before.bits_per_byte);
        print_number("bpb_after", m->after.bits_per_byte);
        print_number("loss_before", m->before.loss);
        print_number("loss_after", m->after.loss);
    }
    printf("}\n");
}

static bool export_model(struct cli *cli, struct export_report *report, struct measured *m)
{
    const struct export_params params = {.dir = cli->operand[0],
                                         .out = cli->out,
                                         .weights = cli->model.weights,
                                         .bits = cli->bits,
                                         .prune = cli->prune,
                                         .level = (int)cli->level,
                                         .packing = cli->unpacked ? QUANT_BYTES : QUANT_BITS};
    if (cli->data_count == 0) return export_run(&params, report);
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (device) log_info("%s", vkmoe_device_choice(device));
    const bool ok = device && measure(cli, device, params.dir, cli->model.weights, &m->before) &&
                    export_run(&params, report) &&
                    measure(cli, device, params.out, NULL, &m->after);
    vkmoe_device_close(&device);
    return ok;
}

int command_export(struct cli *cli)
{
    if (cli->operand_count != 1 || !cli->out) {
        fprintf(stderr, "vkmoe export: wants one DIR and --out FILE; see vkmoe export --help\n");
        return EXIT_USAGE;
    }
    struct export_report report;
    struct measured measured;
    os_interrupt_catch();
    if (!export_model(cli, &report, &measured)) return EXIT_FAILED;
    if (cli->json) print_json(&report, cli->data_count ? &measured : NULL);
    else print_table(&report);
    if (!cli->json && cli->data_count) print_measured(&measured);
    return EXIT_DONE;
}
