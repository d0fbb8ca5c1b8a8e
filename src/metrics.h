// SPDX-License-Identifier: MIT
// metrics.jsonl: one JSON object a line, appended after every step, readable while it grows.
//
//   {"step", "loss", "lr", "grad_norm", "tokens_per_s", "device_bytes", "host_bytes",
//    "device_peak_bytes", "host_peak_bytes", "experts": {"slots", "hits", "misses", "hit_rate",
//    "prefetched", "prefetched_used", "read_bytes", "written_bytes", "spilled_bytes", "load_ms",
//    "wait_ms", "load_gbps", "read_peak_gbps", "copy_peak_gbps"}, "layers":
//    [{"layer", "load": [...], "entropy", "max_share", "dead", "balance_loss", "z_loss",
//      "losses": {name: value}, "experts_per_token", "dropped", "token_entropy",
//      "least_entropy", "max_expert",
//      "active", "used", "kept", "together": [[expert, expert, share], ...]}]}
//   and "skipped": true where the step was; after an evaluation {"step", "eval_loss", "bpb"}
//
// Where there is a curriculum a step has "turn": {"domain", "visit", "epoch"}, and where it was
// drawn "reward", "novelty", "weakness", "improvement", "bonus" as the visit began (dopamine.h);
// domains are evaluated as train_curriculum.h says: {"step", "domain", "at", "domain_loss", "bpb",
// "targets"}.
//
// device_peak_bytes is the most of the device's memory that was ever held, host_peak_bytes the most
// of the process that was ever resident (VmHWM). experts, where they come and go: of those that had
// rows in a layer's turn how many had a slot (hits) and how many were loaded (misses), in load_ms,
// for wait_ms of which the device had nothing to do; load_gbps is what that came to (where there
// was any), read_peak_gbps what the disk gave at the start when nothing else went on (where it was
// measured: not where the page cache has room for all), copy_peak_gbps what copies from the host's
// memory to a slot gave; prefetched were loaded before a router asked,
// prefetched_used of them had rows; read_bytes in this step, written_bytes since
// the step before (what a checkpoint wrote is in the next line), spilled_bytes of gradients that
// waited in host memory.
//
// load is the expert's share of the picks divided by the ideal share 1/E: 1 is fair, 0 is dead.
// losses are the auxiliary losses that are on, before their coefficients; dropped, where there is a
// capacity, counts pairs above it. A number that is not finite is written as null, so that every
// line stays valid JSON.
//
// token_entropy is the mean over the tokens of the entropy of their router probabilities, over log
// E; max_expert has the largest share; active is the share of the experts with a pick in this step,
// used counts those that ever had one; kept counts pairs (token, expert); together: the experts
// most often taken by the same token, with the share of the tokens that did, of up to 256 tokens a
// step. "alarm": true stands where the routing of a layer was found collapsed (routing.h).
//
// A layer of more than METRICS_LOADS experts has no list of them: "load_top" holds the largest
// loads as [expert, load], and "load_histogram" how many experts had 0, 1, 2-3, 4-7, ... picks.
// All picks of all experts are in routing.trace (trace.h).
#pragma once

#include "base.h"
#include "dopamine.h"

enum { METRICS_MAX_LOSSES = 12 };
struct metrics_loss { const char *name; double value; };
enum { METRICS_PAIRS = 4, METRICS_LOADS = 256, METRICS_TOP = 8 };
struct metrics_pair { uint32_t low, high; double share; };

struct metrics_layer {
    uint32_t     layer;
    const float *load;        // counts [experts], kept by reference until written
    uint32_t     experts;
    double       total;       // sum of the counts
    double       entropy;     // of the shares, over log(experts): 1 is balanced, 0 is one expert
    double       max_share;   // largest share of the picks, 0..1
    uint32_t     dead;        // experts without a pick
    uint32_t     max_expert;  // that has it
    double       token_entropy; // of a token's probabilities, over log(experts); NAN: unknown
    double       least_entropy; // the smallest of these, of a token of the step
    // by routing_observe
    uint32_t     used;        // experts that ever had a pick
    struct metrics_pair pair[METRICS_PAIRS];
    uint32_t     pairs;
    bool         alarm;       // found collapsed
    double       balance_loss, z_loss;
    struct metrics_loss loss[METRICS_MAX_LOSSES]; // those that are on
    uint32_t     losses;
    double       experts_per_token; // 0: not written
    double       dropped;           // pairs above the capacity; negative: there is none
};

// Of experts that come and go, in one step.
struct metrics_experts {
    uint32_t slots; // 0: all stay
    uint64_t hits, misses, prefetched, prefetched_used;
    uint64_t read_bytes, written_bytes, spilled_bytes;
    double   load_ms, wait_ms;
    double   load_gbps, read_peak_gbps, copy_peak_gbps; // 0: not known, and not written
};
double metrics_hit_rate(const struct metrics_experts *experts); // 1 where nothing was asked for

// Whose turn a step was.
struct metrics_turn {
    const char *domain;       // NULL: there is no curriculum
    uint32_t    visit, epoch; // from 1
    bool        drawn;        // by these
    struct dopamine_terms terms;
};

// A domain's held-out text, evaluated.
struct metrics_domain {
    uint32_t    step;
    const char *domain, *at;
    double      loss, bits_per_byte;
    uint64_t    targets;
};

struct metrics_step {
    uint32_t step;            // from 1
    double   loss, lr, grad_norm, tokens_per_s;
    uint64_t device_bytes, host_bytes, device_peak, host_peak;
    struct metrics_experts experts;
    struct metrics_turn turn;
    bool     skipped;         // loss or norm was not finite, nothing moved
};

// Fills everything from the counts of one step (sums over its micro-batches) and the two losses.
void metrics_layer_fill(struct metrics_layer *out, uint32_t layer, const float *counts,
                        uint32_t experts, double balance_loss, double z_loss);

struct metrics;
// Opens for appending. Lines of steps after last_step, and a torn last line, are dropped first
// (written beside, synced, renamed); last_step 0 begins an empty file. NULL after one line.
struct metrics *metrics_open(const char *path, uint32_t last_step);
void            metrics_close(struct metrics **metrics);
// One write a line. False once the file cannot be written (logged once); training may go on.
bool metrics_write_step(struct metrics *metrics, const struct metrics_step *step,
                        const struct metrics_layer *layer, uint32_t layer_count);
// The same of the mean of the weights: {"step", "average_eval_loss", "average_bpb"}.
bool metrics_write_average(struct metrics *metrics, uint32_t step, double eval_loss,
                           double bits_per_byte);
bool metrics_write_eval(struct metrics *metrics, uint32_t step, double eval_loss,
                        double bits_per_byte);
bool metrics_write_domain(struct metrics *metrics, const struct metrics_domain *domain);
