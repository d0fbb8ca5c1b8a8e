// SPDX-License-Identifier: MIT
// vkmoe tune: measures again which kernels are fastest on a device, for a model or for common
// sizes, and shows what was chosen.
#include <stdio.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/terminal.h"
#include "src/trainer.h"
#include "src/tune.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"

static void show(void *user, const char *kernel, uint32_t done, uint32_t total)
{
    const char *store = user;
    if (terminal_is(stderr))
        fprintf(stderr, "\r\033[Ktune %s  %u/%u  %s", store, done, total, kernel);
}

static void print_choice(const struct kernel_choice *c)
{
    char size[48], tile[32];
    const uint32_t columns = kernel_group_columns(c->op, &c->shape);
    snprintf(size, sizeof size, "%ux%ux%u", c->size.rows, c->size.columns, c->size.inner);
    snprintf(tile, sizeof tile, "%ux%u", c->shape.rows, columns);
    printf("%-18s %-8s %14s  %-6s %8s %5u %10.3f %8.2f\n", kernel_info(c->op)->name,
           dtype_name(c->store), size, kernel_variant_name(c->shape.variant), tile,
           c->parts > 1 ? c->parts : 1, c->ms, c->ms > 0 ? c->default_ms / c->ms : 0);
}

static bool tune_store(struct kernels *kernels, enum dtype store, bool of_model,
                       struct tune_report *sum)
{
    struct tune_report report;
    struct tune_params params = {.store = store, .again = true, .seconds = 60, .progress = show,
                                 .user = (void *)(uintptr_t)dtype_name(store)};
    if (of_model) params.use = kernels_uses(kernels, &params.use_count);
    const bool ok = tune(kernels, &params, &report);
    if (terminal_is(stderr)) fprintf(stderr, "\r\033[K");
    sum->measured += report.measured;
    sum->changed += report.changed;
    sum->wrong += report.wrong;
    sum->late += report.late;
    sum->seconds += report.seconds;
    snprintf(sum->path, sizeof sum->path, "%s", report.path);
    return ok;
}

static void print_all(const struct kernels *kernels, const struct tune_report *sum)
{
    uint32_t count;
    const struct kernel_choice *choice = kernels_choices(kernels, &count);
    printf("%-18s %-8s %14s  %-6s %8s %5s %10s %8s\n", "kernel", "type", "size", "chosen", "tile",
           "parts", "ms", "speed-up");
    for (uint32_t i = 0; i < count; i++)
        if (choice[i].ms > 0) print_choice(&choice[i]);
    printf("%u candidates measured in %.1f s, %u faster than the default, %u wrong, %u left out of "
           "time%s%s\n",
           sum->measured, sum->seconds, sum->changed, sum->wrong, sum->late,
           sum->path[0] ? "; kept in " : "", sum->path);
}

// Without a model: a general grid of sizes in every type.
static bool tune_grid(struct vkmoe_device *device, struct tune_report *sum)
{
    const bool storage16 = device->gpu->caps.mask & GPU_CAP_STORAGE16;
    const enum dtype last = storage16 ? DTYPE_F16 : DTYPE_F32;
    bool ok = true;
    for (enum dtype store = DTYPE_F32; ok && store <= last; store++)
        ok = tune_store(device->kernels, store, false, sum);
    return ok;
}

// The sizes of a training step and of held-out loss.
static bool tune_model(struct vkmoe_device *device, const char *path, struct tune_report *sum)
{
    struct config config;
    char file[4096];
    snprintf(file, sizeof file, folder_is(path) ? "%s/config.json" : "%s", path);
    if (!config_read(&config, file, NULL, 0)) return false;
    struct model *model = model_create(&config, device->gpu->caps.max_allocation);
    struct trainer *trainer =
        model ? trainer_create(device->gpu, device->kernels, model) : NULL;
    bool ok = trainer != NULL;
    trainer_destroy(&trainer);
    ok = ok && tune_store(device->kernels, config.torch_dtype, true, sum);
    model_destroy(&model);
    return ok;
}

int command_tune(struct cli *cli)
{
    if (cli->operand_count > 1) {
        fprintf(stderr,
                "vkmoe tune: takes one model at most, found \"%s\"; see vkmoe tune --help\n",
                cli->operand[1]);
        return EXIT_USAGE;
    }
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (!device) return EXIT_FAILED;
    log_info("%s", vkmoe_device_choice(device));
    struct tune_report sum = {0};
    const bool ok = cli->operand_count ? tune_model(device, cli->operand[0], &sum)
                                       : tune_grid(device, &sum);
    if (ok) print_all(device->kernels, &sum);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
