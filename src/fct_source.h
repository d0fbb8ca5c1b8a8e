// SPDX-License-Identifier: MIT
// "fct:PATH" as a source of documents: the patterns of a file or folder (fct_read.h), four
// documents each (fct_render.h), with their domains. The order is that of ARCHE3's list (systems,
// mathematics, physics, biology, information, cognition, energy, scale, complexity, time,
// economics, social, language, philosophy), then other domains as they come.
//
// What is held out is held out by pattern, all four documents of it, and of each domain: the share
// held_out_fraction of its patterns, at least one where it has two, chosen by a seeded hash.
//
// Controls change what is trained on, never what is held out, so that all runs are measured on the
// same text:
//
//   shuffle  the payload is that of another pattern of the domain, the same for its four tasks:
//            what can be learnt is tags, style, the domain's words, and nothing of what follows
//            from what
//   shuffle_all  that of another pattern of any domain: so words of domains that were not visited
//            yet, and of those that are held out, are seen in payloads
//   tags     each letter and digit of each text is another at random, by case: what can be learnt
//            is tags, spaces, punctuation and lengths of words
//
// And the held-out patterns may exchange their payloads, which shows whether a model makes use of
// the inputs: the same payloads, behind the wrong ones, in the domain of the payload.
#pragma once

#include "config.h"
#include "data_source.h"

bool fct_is(const char *path);
// Appends the documents. False after one line.
bool fct_documents(struct documents *out, const struct data_params *params, const char *path);
