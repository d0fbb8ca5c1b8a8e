// SPDX-License-Identifier: MIT
// What the answers to a task are worth: each score with its interval, its chance level and a test
// against it; and two sets of answers to the same task, item by item.
#pragma once

#include "score.h"
#include "score_stats.h"

enum score_measure {
    MEASURE_PAIRS,    // mean log-probability a token: the good one's is larger
    MEASURE_SUM,      // choice by log-probability; ties go to the first
    MEASURE_BYTES,    // choice by log-probability a byte, a space in front not counted
    MEASURE_GENERATE, // what was generated is right
    MEASURE_TEXT,     // bits per byte
    MEASURES,
};
const char *score_measure_name(enum score_measure measure);

struct score_metric {
    uint64_t count, right, ties; // items; ties: the right one and another are worth the same
    double   value;              // share that is right; of text: bits per byte
    struct interval interval;    // nan: a single text has none
    double   chance, p;          // p: nan where chance is 0, and of text
    bool     mixed;              // the items' chances differ: p is of the Poisson-binomial
    double   perplexity;         // of text, a token
};

// Of the items of a domain (NULL: of all) that the measure is for. count 0: there are none.
struct score_metric score_measure(const struct task *task, const struct score_answer *answers,
                                  enum score_measure measure, const char *domain,
                                  uint32_t vocab_size);
// Whether the item is right by that measure.
bool     score_right(const struct task_item *item, const struct score_answer *answer,
                     enum score_measure measure);
uint32_t score_picked(const struct task_item *item, const struct score_answer *answer,
                      enum score_measure measure);
// "not distinguishable from chance (p = 0.82)", "above chance (p < 0.0001)", ...; "" where there
// is no chance to be compared with.
void     score_verdict(const struct score_metric *metric, enum score_measure measure, char out[80]);

// The domains that the items name, in their order: at most task->count. Returns how many.
uint64_t score_domains(const struct task *task, const char **list);

// B against A.
struct score_difference {
    uint64_t count, only_a, only_b; // items; right by one of the two alone
    double   a, b, p;               // scores; McNemar's exact test
    // of what the measure compares, B's minus A's: pairs: nats a token by which the good one leads;
    // choice: nats a byte of the right one; text: bits a byte (less is better)
    struct ratio margin;
};
struct score_difference score_compare(const struct task *task, const struct score_answer *a,
                                      const struct score_answer *b, enum score_measure measure,
                                      uint64_t seed);
