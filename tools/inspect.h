// SPDX-License-Identifier: MIT
// `vkmoe inspect`: what the experts of a trained model do, on a text: gathered here into one
// struct, then written as report.md, report.json and pictures. A text whose kinds are known (file
// kinds, toy tasks) is what shows specialisation; routing_stats.h says how each number is defined.
#pragma once

#include "src/routing_stats.h"
#include "src/vkmoe.h"

enum {
    INSPECT_SHOWN = 32,       // experts of a layer in tables and pictures: those with most picks
    INSPECT_TOP = 6,          // tokens of an expert
    INSPECT_CHECKPOINTS = 16, // of a run that keeps more: these, evenly chosen
    INSPECT_SHUFFLES = 20,
    INSPECT_TOKENS = 32768,   // of the text, in windows evenly chosen
    INSPECT_POINTS = 100,     // of a curve over the run
    INSPECT_PANELS = 8,       // layers in a picture
    INSPECT_ALARMS = 32,
    INSPECT_CONTEXT = 16,     // tokens on each side of a snippet
};

struct inspect_params {
    struct vkmoe_device_params device;
    const char        *folder;   // of a run
    const char *const *data;
    int                data_count;
    const char        *out;      // made if missing
    uint32_t           max_tokens; // 0: INSPECT_TOKENS
};

// A token that an expert takes more often than chance: `lift` times as often.
struct inspect_token { uint32_t id, count, at; double lift; }; // at: where its gate was largest
struct inspect_expert {
    uint32_t expert, tokens;
    struct inspect_token token[INSPECT_TOP];
};

struct inspect_layer {
    uint32_t  number, top_k;                    // number: in the model
    uint32_t *picks;                            // [tokens][top_k]
    float    *gates;
    double   *counts, *by_domain;               // [experts], [experts][domains]
    double    kept, entropy, max_share;         // entropy of the load over log(experts)
    uint32_t  dead, max_expert, shown;
    uint32_t  ever;                             // experts with a pick in training
    uint32_t *show;                             // [shown] experts, most picks first
    struct inspect_expert *expert;              // [shown]
    double   *together;                         // [shown][shown]
    double    saturation[INSPECT_CHECKPOINTS];  // [checkpoints]
    struct routing_information information;
    // over the run, by hundredths
    double    entropies[INSPECT_POINTS], shares[INSPECT_POINTS], idle[INSPECT_POINTS],
        used[INSPECT_POINTS];
};

struct inspect {
    const char *folder;
    struct vkmoe_model *model;
    const char *source;              // "the run's held-out text" ...
    uint32_t  experts, layers, domains, seq_len, tokens; // tokens: positions, some without domain
    uint32_t  counted;               // positions that have one: what all numbers are of
    double    loss;                  // nats a token
    uint32_t *ids, *domain, *document; // [tokens]
    const char **domain_name;
    double   *domain_tokens;         // [domains]
    struct inspect_layer *layer;     // [layers] MoE layers
    uint32_t  checkpoints;
    uint64_t  checkpoint[INSPECT_CHECKPOINTS]; // steps, ascending
    // over the run
    uint32_t  steps, alarms;
    double    losses[INSPECT_POINTS];
    struct inspect_alarm { uint32_t step, layer, expert; } alarm[INSPECT_ALARMS];
    struct arena *arena;
};

// Means over the MoE layers: what a sweep compares.
// documents: with the domains of whole documents shuffled.
struct inspect_summary {
    double information, shuffled, documents, given_token, given_shuffled, given_documents,
        domain_bits;
};

// All of it: runs the text through the model on the device, reads the run's metrics. False after
// one line (a dense model, no run folder, no text).
bool inspect_run(const struct inspect_params *params, struct inspect_summary *summary);
struct inspect_summary inspect_summarise(const struct inspect *inspect);
// The summary of a report.json that inspect_run wrote. False where there is none.
bool inspect_read(const char *report, struct inspect_summary *summary);

// The parts, in this order.
bool inspect_gather(struct inspect *inspect, const struct inspect_params *params,
                    struct vkmoe_device *device);    // inspect_gather.c: ids, domains, picks
bool inspect_history(struct inspect *inspect);       // inspect_history.c: metrics.jsonl
void inspect_count(struct inspect *inspect);         // inspect_gather.c: the statistics
bool inspect_pictures(const struct inspect *inspect, const char *out); // inspect_plots.c
bool inspect_report(const struct inspect *inspect, const char *out);   // inspect_report.c
