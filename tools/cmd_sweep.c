// SPDX-License-Identifier: MIT
// vkmoe sweep: trains the runs of an experiment one after the other, seeds outermost so that there
// is something to compare early, and reports. What is finished is not trained again.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/base.h"
#include "src/config.h"
#include "tools/cli.h"
#include "tools/inspect.h"
#include "tools/sweep.h"

// A finished run holds this file, with what it was trained from: another answer to the same name
// must not pass for this one.
#define MARK "sweep.txt"

struct place { char folder[4200], mark[4300]; };

static struct place place_of(const struct sweep *sweep, const char *out, uint32_t run,
                             uint32_t seed)
{
    struct place p;
    snprintf(p.folder, sizeof p.folder, "%.4000s/%s/seed-%llu", out, sweep->run[run].name,
             (unsigned long long)sweep->seed[seed]);
    snprintf(p.mark, sizeof p.mark, "%s/" MARK, p.folder);
    return p;
}

static char *settings_of(const struct sweep *sweep, const struct sweep_run *run)
{
    struct bytes text = {0};
    for (uint32_t i = 0; i < run->set_count; i++) bytes_printf(&text, "%s\n", run->set[i]);
    for (int i = 0; i < sweep->data_count; i++) bytes_printf(&text, "data %s\n", sweep->data[i]);
    if (sweep->tokenizer) bytes_printf(&text, "tokenizer %s\n", sweep->tokenizer);
    return (char *)text.data;
}

// 1: finished with these settings, 0: not yet, -1: finished with others (one line).
static int finished(const struct place *place, const char *settings)
{
    void *text;
    uint64_t bytes;
    if (!file_exists(place->mark)) return 0;
    if (!file_read(place->mark, 1 << 20, &text, &bytes)) return -1;
    const bool same = strcmp(text, settings) == 0;
    free(text);
    if (same) return 1;
    log_error("%s holds a run with other settings; choose another --out, or remove it",
              place->folder);
    return -1;
}

static bool mark(const struct place *place, const char *settings)
{
    struct file_writer *writer = file_writer_open(place->mark);
    return writer && file_writer_write(writer, settings, strlen(settings)) &&
           file_writer_commit(&writer);
}

static bool train(const struct cli *cli, const struct sweep *sweep, const struct sweep_run *run,
                  uint64_t seed, const char *folder, bool *interrupted)
{
    char seed_text[40];
    const char **set = malloc((run->set_count + 1) * sizeof *set);
    for (uint32_t i = 0; i < run->set_count; i++) set[i] = run->set[i];
    snprintf(seed_text, sizeof seed_text, "seed=%llu", (unsigned long long)seed);
    set[run->set_count] = seed_text;
    struct vkmoe_train_outcome outcome;
    const struct vkmoe_train_params params = {
        .device = cli->device,
        .config = run->config,
        .set = set,
        .set_count = (int)run->set_count + 1,
        .steps = sweep->steps,
        .data = sweep->data,
        .data_count = sweep->data_count,
        .out = folder,
        .tokenizer = sweep->tokenizer,
        .resume = true,
        .quiet = cli->quiet,
    };
    const bool ok = vkmoe_train(&params, &outcome);
    free(set);
    *interrupted = ok && outcome.interrupted;
    return ok;
}

// A report in the folder of a finished run, where it has experts and none is there yet.
static bool inspect(const struct cli *cli, const struct sweep *sweep, const char *folder)
{
    char out[4300], path[4400];
    struct config config;
    struct inspect_summary summary;
    snprintf(out, sizeof out, "%s/inspect", folder);
    snprintf(path, sizeof path, "%s/" SWEEP_INSPECTED, folder);
    if (!sweep->inspect || inspect_read(path, &summary)) return true;
    snprintf(path, sizeof path, "%s/config.json", folder);
    if (!config_read(&config, path, NULL, 0)) return false;
    return !config_moe_layers(&config) ||
           inspect_run(&(struct inspect_params){.device = cli->device,
                                                .folder = folder,
                                                .data = sweep->data,
                                                .data_count = sweep->data_count,
                                                .out = out},
                       &summary);
}

enum fate { FATE_DONE, FATE_FAILED, FATE_INTERRUPTED };

static enum fate one_run(const struct cli *cli, struct sweep *sweep, const char *out, uint32_t r,
                         uint32_t s)
{
    struct sweep_run *run = &sweep->run[r];
    const struct place place = place_of(sweep, out, r, s);
    char *settings = settings_of(sweep, run);
    const int state = finished(&place, settings);
    bool interrupted = false, ok = state >= 0;
    if (state == 0) {
        log_info("sweep %s: run %u of %u, %s, seed %llu", sweep->name, s * sweep->run_count + r + 1,
                 sweep->run_count * sweep->seed_count, run->name,
                 (unsigned long long)sweep->seed[s]);
        ok = train(cli, sweep, run, sweep->seed[s], place.folder, &interrupted);
        if (ok && !interrupted) ok = mark(&place, settings);
    }
    if (ok && !interrupted) ok = inspect(cli, sweep, place.folder);
    if (ok && !interrupted)
        ok = sweep_result_read(place.folder, run, sweep->steps, &run->result[s]);
    free(settings);
    return interrupted ? FATE_INTERRUPTED : ok ? FATE_DONE : FATE_FAILED;
}

// Nothing is trained or reported where some finished run is another experiment's.
static bool all_ours(const struct sweep *sweep, const char *out)
{
    for (uint32_t r = 0; r < sweep->run_count; r++)
        for (uint32_t s = 0; s < sweep->seed_count; s++) {
            const struct place place = place_of(sweep, out, r, s);
            char *settings = settings_of(sweep, &sweep->run[r]);
            const int state = finished(&place, settings);
            free(settings);
            if (state < 0) return false;
        }
    return true;
}

static int run_all(const struct cli *cli, struct sweep *sweep, const char *out)
{
    uint32_t failed = 0;
    if (!all_ours(sweep, out)) return EXIT_FAILED;
    for (uint32_t s = 0; s < sweep->seed_count; s++)
        for (uint32_t r = 0; r < sweep->run_count; r++) {
            const enum fate fate = one_run(cli, sweep, out, r, s);
            failed += fate == FATE_FAILED;
            if (fate != FATE_INTERRUPTED && !os_interrupted()) continue;
            printf("interrupted; call the same again to go on\n");
            return EXIT_INTERRUPTED;
        }
    if (failed) log_error("sweep %s: %u runs failed; the lines above say why", sweep->name, failed);
    return sweep_report(sweep, out) && !failed ? EXIT_DONE : EXIT_FAILED;
}

int command_sweep(struct cli *cli)
{
    char out[4100];
    if (cli->operand_count != 1) {
        fprintf(stderr, "vkmoe sweep: wants one FILE.json, found %d operands; see vkmoe sweep "
                        "--help\n",
                cli->operand_count);
        return EXIT_USAGE;
    }
    struct sweep *sweep = sweep_read(cli->operand[0]);
    if (!sweep) return EXIT_FAILED;
    if (cli->out) snprintf(out, sizeof out, "%s", cli->out);
    else snprintf(out, sizeof out, "runs/sweep-%s", sweep->name);
    const int status = file_make_folders(out) ? run_all(cli, sweep, out) : EXIT_FAILED;
    sweep_close(&sweep);
    return status;
}
