// SPDX-License-Identifier: MIT
// An experiment: a list of configs, trained with equal data, steps and seeds, as `vkmoe sweep` runs
// it. The file is one JSON object:
//
//   {"about": "one sentence", "config": "tiny.json", "data": ["toy:all"], "steps": 300,
//    "seeds": [1, 2, 3], "tokenizer": "tokenizer.json", "inspect": false,
//    "optimizer_state": false, "equal": "parameters",
//    "set": {"key": value ... for all},
//    "runs": [{"name": "none", "config": "other.json", "set": {"router_aux_loss_coef": 0}}, ...]}
//
// Paths of configs are relative to the file, those of data and of the tokenizer (without: bytes) to
// the current folder as in train. Each run lies in OUT/NAME/seed-S; "inspect": true inspects it too
// (tools/inspect.h), with a report in its folder and the information of its experts on the domains
// in the table. "optimizer_state": true adds its bytes and how many experts it was needed for.
// "equal": "parameters" or "active" (those of a token) refuses a list whose runs differ in that by
// more than 3 %. A run that is finished is not trained again, one that was stopped goes on from its
// checkpoint.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SWEEP_INSPECTED "inspect/report.json" // in the folder of a run

enum { SWEEP_MAX_RUNS = 64, SWEEP_MAX_SEEDS = 32, SWEEP_POINTS = 100 };

// What a finished run came to; read back from its metrics.jsonl.
struct sweep_result {
    bool     done;
    double   held_out_loss, bpb;           // NAN where the data gives none
    double   loss, entropy, max_share, dead; // means over the last tenth of the steps; dead: share
    double   tokens_per_s;                 // median
    // bits, means over MoE layers; NAN where not inspected (struct inspect_summary)
    double   information, shuffled, documents, given_token, given_documents;
    // of the experts: share with a token in a step, mean; with one ever; and MiB of the optimizer's
    // state, as stored, and without that of experts that never had one
    double   touched, ever, state_mib, needed_mib;
    uint64_t device_bytes;                 // most
    // by hundredths of the run: loss, entropy and largest share
    double   curve[SWEEP_POINTS], entropies[SWEEP_POINTS], shares[SWEEP_POINTS];
};

struct sweep_run {
    const char *name, *config;
    char      **set;              // "key=value": of all runs, then its own
    uint32_t    set_count;
    uint64_t    parameters, active, expert_parameters;
    uint32_t    experts;
    struct sweep_result result[SWEEP_MAX_SEEDS];
};

enum sweep_equal { SWEEP_EQUAL_NOTHING, SWEEP_EQUAL_PARAMETERS, SWEEP_EQUAL_ACTIVE };

struct sweep {
    const char *path, *name, *about; // name: of the file, without folder and extension
    const char *data[64];
    int         data_count;
    const char *tokenizer;             // NULL: bytes
    uint32_t    steps, run_count, seed_count;
    bool        inspect, optimizer_state;
    enum sweep_equal equal;
    uint64_t    seed[SWEEP_MAX_SEEDS];
    struct sweep_run run[SWEEP_MAX_RUNS];
    struct arena *arena;
};

// How far apart the runs are in what shall be equal: largest over smallest, less 1.
double sweep_unequal(const struct sweep *sweep);

// Reads the file and every config that it makes. NULL after one line that names file and key.
struct sweep *sweep_read(const char *path);
void          sweep_close(struct sweep **sweep);

// The numbers of a run's folder; `done` where it was evaluated at its last step.
bool sweep_result_read(const char *folder, const struct sweep_run *run, uint32_t steps,
                       struct sweep_result *result);

// table.md, sweep.json and sweep.png in the folder, and the table on stdout.
bool sweep_report(const struct sweep *sweep, const char *folder);
