// SPDX-License-Identifier: MIT
// Statistics of what routers picked for a text: do experts specialise on kinds of text, which are
// taken together, how far has routing settled. Pure functions of arrays; `vkmoe inspect` shows what
// they give.
#pragma once

#include "base.h"

// What one MoE layer picked at each position of a text.
struct routing_sample {
    uint32_t        tokens, top_k, experts, domains;
    const uint32_t *picks;  // [tokens][top_k]; an id >= experts was not taken
    const uint32_t *domain; // [tokens] kind of text; >= domains: left out
    const uint32_t *ids;    // [tokens] token ids
    const uint32_t *document; // [tokens] a number each document has alone; NULL: not known
};

// A value, and what it is where there is nothing to see: mean and standard deviation of the same
// over shuffled domains, of single positions and of whole documents (NAN where not known). Tokens
// of a document go with each other, whatever its domain is, so that a few documents seem to tell
// more of their domains than they do: what is above `documents` is of the domain.
struct routing_control { double value, mean, deviation, documents, documents_deviation; };

// In bits, of (pick, position) pairs: I(expert; domain), and I(expert; domain | token id), which a
// router that knows nothing but the token cannot have. Controls: the domains permuted over all
// positions, and over the positions of each token id; for both, the domains of documents permuted
// over the documents (random numbers: base.h, keyed by seed).
struct routing_information {
    struct routing_control domain, given_token;
    double domain_bits; // H(domain) of those pairs: the most that I(expert; domain) can be
    double pairs;       // that were counted
};
struct routing_information routing_information(const struct routing_sample *sample,
                                               uint32_t shuffles, uint64_t seed);

// Router saturation (OLMoE, Muennighoff et al. 2024, 5.1): of the experts that the last checkpoint
// picks, the share that an earlier one picks at the same positions.
double routing_saturation(const struct routing_sample *sample, const struct routing_sample *last);
// Co-activation (OLMoE, 5.2) of `count` experts: out[i * count + j] = of the positions that take
// shown[i], the share that take shown[j] too; 0 on the diagonal and where i is never taken.
void routing_together(const struct routing_sample *sample, const uint32_t *shown, uint32_t count,
                      double *out);
// Picks of each expert: [experts]; and by domain: [experts][domains], which may be NULL.
void routing_counts(const struct routing_sample *sample, double *counts, double *by_domain);
