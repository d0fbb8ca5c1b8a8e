// SPDX-License-Identifier: MIT
// vkmoe tune: measures again which kernels are fastest on a device, and shows what was chosen.
#include <stdio.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/terminal.h"
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
    printf("%-15s %-8s %14s  %-6s %8s %10.3f %8.2f\n", kernel_info(c->op)->name,
           dtype_name(c->store), size, kernel_variant_name(c->shape.variant), tile, c->ms,
           c->ms > 0 ? c->default_ms / c->ms : 0);
}

static bool tune_store(struct kernels *kernels, enum dtype store, struct tune_report *sum)
{
    struct tune_report report;
    const struct tune_params params = {.store = store, .again = true, .progress = show,
                                       .user = (void *)(uintptr_t)dtype_name(store)};
    const bool ok = tune(kernels, &params, &report);
    if (terminal_is(stderr)) fprintf(stderr, "\r\033[K");
    sum->measured += report.measured;
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
    printf("%-15s %-8s %14s  %-6s %8s %10s %8s\n", "kernel", "type", "size", "chosen", "tile",
           "ms", "speed-up");
    for (uint32_t i = 0; i < count; i++) print_choice(&choice[i]);
    printf("%u kernels measured in %.1f s, %u wrong, %u left out of time%s%s\n", sum->measured,
           sum->seconds, sum->wrong, sum->late, sum->path[0] ? "; kept in " : "", sum->path);
}

int command_tune(struct cli *cli)
{
    if (cli->operand_count != 0) {
        fprintf(stderr, "vkmoe tune: takes no operands, found \"%s\"; see vkmoe tune --help\n",
                cli->operand[0]);
        return EXIT_USAGE;
    }
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (!device) return EXIT_FAILED;
    log_info("%s", vkmoe_device_choice(device));
    struct tune_report sum = {0};
    const bool storage16 = device->gpu->caps.mask & GPU_CAP_STORAGE16;
    const enum dtype last = storage16 ? DTYPE_F16 : DTYPE_F32;
    bool ok = true;
    for (enum dtype store = DTYPE_F32; ok && store <= last; store++)
        ok = tune_store(device->kernels, store, &sum);
    if (ok) print_all(device->kernels, &sum);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
