// SPDX-License-Identifier: MIT
// vkmoe bench: how fast kernels and whole steps are, in % of what the device itself can do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "src/vkmoe_internal.h"
#include "tools/bench.h"
#include "tools/cli.h"

static bool measure(struct bench *bench)
{
    if (!bench_measure_peaks(bench) || !bench_matmuls(bench) || !bench_grouped(bench) ||
        !bench_kernels(bench) || !bench_steps(bench))
        return false;
    if (bench->count || bench->profile_count) return true;
    log_error("--filter: no benchmark's \"family name shape variant\" holds \"%s\"; without "
              "--filter all names are shown",
              bench->filter);
    return false;
}

// FILE is replaced as a whole; "-" is standard output.
static bool write_json(const struct bench *bench, const char *path)
{
    char *text = bench_json(bench, BENCH_COMMIT);
    if (!text) abort();
    bool ok = true;
    if (strcmp(path, "-") == 0) {
        puts(text);
    } else {
        struct file_writer *writer = file_writer_open(path);
        ok = writer && file_writer_write(writer, text, strlen(text)) &&
             file_writer_write(writer, "\n", 1) && file_writer_commit(&writer);
        if (!ok && writer) file_writer_abort(&writer);
    }
    free(text);
    return ok;
}

int command_bench(struct cli *cli)
{
    if (cli->operand_count != 0) {
        fprintf(stderr, "vkmoe bench: takes no operands, found \"%s\"; see vkmoe bench --help\n",
                cli->operand[0]);
        return EXIT_USAGE;
    }
    struct bench bench;
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (!device) return EXIT_FAILED;
    log_info("%s", vkmoe_device_choice(device));
    bench_init(&bench, device->gpu, device->kernels, cli->filter);
    bool ok = measure(&bench);
    const bool table = !cli->json_file || strcmp(cli->json_file, "-") != 0;
    bench_clear_progress();
    if (ok && table) bench_print(&bench, stdout);
    if (ok && cli->json_file) ok = write_json(&bench, cli->json_file);
    bench_finish(&bench);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
