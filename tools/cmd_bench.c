// SPDX-License-Identifier: MIT
// vkmoe bench: how fast kernels and whole steps are, in % of what the device itself can do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "src/tune.h"
#include "src/vkmoe_internal.h"
#include "tools/bench.h"
#include "tools/bench_stream.h"
#include "tools/cli.h"

enum { BENCH_JSON_MOST = 64 << 20 };

static bool measure(struct bench *bench)
{
    if (!bench_measure_peaks(bench) || !bench_matmuls(bench) || !bench_grouped(bench) ||
        !bench_ratios(bench) || !bench_layers(bench) || !bench_routers(bench) ||
        !bench_kernels(bench) ||
        !bench_steps(bench) || !bench_touched(bench) ||
        (!bench->filter && !bench_measure_peaks(bench)))
        return false;
    if (bench->count || bench->profile_count) return true;
    if (bench->slow + bench->large) {
        log_error("--filter: of what holds \"%s\" %u are too slow and %u too large for this device",
                  bench->filter, bench->slow, bench->large);
        return false;
    }
    log_error("--filter: no benchmark's \"family name shape variant\" holds \"%s\"; without "
              "--filter all names are shown",
              bench->filter);
    return false;
}

bool bench_write_text(const char *text, const char *path)
{
    if (strcmp(path, "-") == 0) return puts(text) >= 0;
    struct file_writer *writer = file_writer_open(path);
    const bool ok = writer && file_writer_write(writer, text, strlen(text)) &&
                    file_writer_write(writer, "\n", 1) && file_writer_commit(&writer);
    if (!ok && writer) file_writer_abort(&writer);
    return ok;
}

// DIR/<device>.json
static bool save_json(const struct bench *bench, const char *text, const char *dir)
{
    const struct gpu_caps *caps = &bench->gpu->caps;
    char *slug = bench_slug(caps->name, caps->driver);
    const char *path = arena_printf(bench->arena, "%s/%s.json", dir, slug);
    free(slug);
    return bench_write_text(text, path);
}

static bool compare(const char *old_path, const char *new_name, const char *new_json,
                    bool filtered, FILE *out)
{
    void *old = NULL;
    uint64_t bytes;
    const bool ok = file_read(old_path, BENCH_JSON_MOST, &old, &bytes) &&
                    bench_compare(old_path, old, new_name, new_json, filtered, out);
    free(old);
    return ok;
}

static bool compare_files(const char *old_path, const char *new_path)
{
    void *now = NULL;
    uint64_t bytes;
    const bool ok = file_read(new_path, BENCH_JSON_MOST, &now, &bytes) &&
                    compare(old_path, new_path, now, false, stdout);
    free(now);
    return ok;
}

// Where the JSON goes to standard output, nothing else does.
static bool output(const struct bench *bench, const struct cli *cli)
{
    char *text = bench_json(bench, BENCH_COMMIT);
    const bool quiet = cli->json_file && strcmp(cli->json_file, "-") == 0;
    if (!quiet) bench_print(bench, stdout);
    bool ok = !cli->json_file || bench_write_text(text, cli->json_file);
    if (ok && cli->save) ok = save_json(bench, text, cli->save);
    if (ok && cli->compare)
        ok = compare(cli->compare, "this run", text, cli->filter != NULL, quiet ? stderr : stdout);
    free(text);
    return ok;
}

// A file that is no earlier result is told before minutes of measuring.
static bool readable(const char *path)
{
    void *data = NULL;
    uint64_t bytes;
    FILE *nowhere = fopen("/dev/null", "w");
    const bool ok = nowhere && file_read(path, BENCH_JSON_MOST, &data, &bytes) &&
                    bench_compare(path, data, path, data, false, nowhere);
    if (nowhere) fclose(nowhere);
    free(data);
    return ok;
}

// What was measured on this device before, of any storage type.
static bool take_tuned(struct kernels *kernels)
{
    uint32_t count;
    tune_is_kept(kernels, &(struct tune_params){.store = DTYPE_F32}); // reads what is kept of all
    kernels_choices(kernels, &count);
    return count > 0;
}

static int wants(const char *what)
{
    fprintf(stderr, "vkmoe bench: %s; see vkmoe bench --help\n", what);
    return EXIT_USAGE;
}

static int bench_of_stream(const struct cli *cli)
{
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (!device) return EXIT_FAILED;
    log_info("%s", vkmoe_device_choice(device));
    const bool ok = bench_stream(device->gpu, cli->file, cli->json_file);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

// vkmoe bench cache, vkmoe bench stream; -1: neither
static int bench_of_streaming(const struct cli *cli)
{
    const char *what = cli->operand_count == 1 && !cli->compare ? cli->operand[0] : "";
    if (strcmp(what, "stream") == 0) return bench_of_stream(cli);
    if (cli->file) return wants("--file belongs to vkmoe bench stream");
    if (strcmp(what, "cache") == 0 && !cli->trace) return wants("cache wants --trace FILE");
    if (strcmp(what, "cache") == 0)
        return bench_cache(cli->trace, cli->json_file) ? EXIT_DONE : EXIT_FAILED;
    return cli->trace ? wants("--trace belongs to vkmoe bench cache") : -1;
}

int command_bench(struct cli *cli)
{
    const int streaming = bench_of_streaming(cli);
    if (streaming >= 0) return streaming;
    const int operands = cli->compare ? 1 : 0;
    if (cli->operand_count > operands) {
        fprintf(stderr, "vkmoe bench: takes %s, found \"%s\"; see vkmoe bench --help\n",
                operands ? "one NEW.json beside --compare" : "cache, stream or no operand",
                cli->operand[operands]);
        return EXIT_USAGE;
    }
    if (cli->operand_count) return compare_files(cli->compare, cli->operand[0]) ? EXIT_DONE
                                                                                : EXIT_FAILED;
    if (cli->compare && !readable(cli->compare)) return EXIT_FAILED;
    struct bench bench;
    struct vkmoe_device *device = vkmoe_device_open(&cli->device);
    if (!device) return EXIT_FAILED;
    log_info("%s", vkmoe_device_choice(device));
    bench_init(&bench, device->gpu, device->kernels, cli->filter);
    bench.tuned = !cli->device.untuned && take_tuned(device->kernels);
    log_info("kernels %s", bench.tuned ? "as vkmoe tune chose them"
                                       : "by rule; vkmoe tune chooses them by measurement");
    bool ok = measure(&bench);
    bench_clear_progress();
    ok = ok && output(&bench, cli);
    bench_finish(&bench);
    vkmoe_device_close(&device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
