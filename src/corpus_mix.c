// SPDX-License-Identifier: MIT
// The order of windows, and sources by weight: see corpus_mix.h.
#include "src/corpus_mix.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "src/base.h"

enum { FEISTEL_ROUNDS = 6 };

// A Feistel network over the next even power of two, walked until the value is inside again (Black
// & Rogaway 2002). It takes less than four walks on average.
uint64_t corpus_permute(uint64_t index, uint64_t count, uint64_t key, uint64_t epoch)
{
    uint32_t half = 1;
    while (half < 32 && (count - 1) >> (2 * half) != 0) half++;
    const uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
            const uint64_t mixed = left ^ rng_philox(key, right | round << 32, epoch).word[0];
            left = right;
            right = mixed & mask;
        }
        index = left << half | right;
    } while (index >= count);
    return index;
}

// ---- weights

// Where the number of "3*PATH" ends; NULL: no weight stands there.
static const char *weight_end(const char *path, double *weight)
{
    char *end;
    *weight = strtod(path, &end);
    return end != path && *end == '*' ? end : NULL;
}

const char *corpus_path(const char *path)
{
    double weight;
    const char *end = weight_end(path, &weight);
    return end ? end + 1 : path;
}

bool corpus_weight(const char *path, const char **rest, double *weight)
{
    const char *end = weight_end(path, weight);
    *rest = end ? end + 1 : path;
    if (!end) {
        *weight = 0;
        return true;
    }
    if (!(*weight > 0 && *weight <= CORPUS_WEIGHT_MOST)) {
        log_error("--data %s: a weight of %g; wanted a number above 0, at most %g", path, *weight,
                  CORPUS_WEIGHT_MOST);
        return false;
    }
    if (**rest) return true;
    log_error("--data %s: no path behind the weight; wanted %g*PATH", path, *weight);
    return false;
}

// ---- a mix

bool corpus_mix_add(struct corpus_mix *mix, const char *path, double weight, uint64_t windows)
{
    const uint64_t draws = (uint64_t)llround(weight * (double)windows);
    if (mix->sources == CORPUS_MOST_SOURCES) {
        log_error("--data: more than %d sources, and some have weights; wanted fewer (a folder is "
                  "one source)", CORPUS_MOST_SOURCES);
        return false;
    }
    if (windows == 0) {
        log_error("--data %s: a weight of %g, but nothing of it is left to train on; wanted more "
                  "text, or looser filters", path, weight);
        return false;
    }
    if (draws == 0) {
        log_error("--data %s: a weight of %g gives none of its %llu windows an epoch; wanted more "
                  "text or a weight of at least %.3g", path, weight, (unsigned long long)windows,
                  0.5 / (double)windows);
        return false;
    }
    mix->share[mix->sources++] = (struct corpus_share){
        .first = mix->windows, .windows = windows, .begin = mix->epoch, .draws = draws};
    mix->windows += windows;
    mix->epoch += draws;
    return true;
}

uint32_t corpus_mix_source(const struct corpus_mix *mix, uint64_t index)
{
    uint32_t source = 0;
    while (source + 1 < mix->sources && index >= mix->share[source + 1].first) source++;
    return source;
}

uint64_t corpus_mix_index(const struct corpus_mix *mix, uint64_t position)
{
    const uint64_t epoch = position / mix->epoch;
    const uint64_t slot = corpus_permute(position % mix->epoch, mix->epoch, mix->key, epoch);
    uint32_t source = 0;
    while (source + 1 < mix->sources && slot >= mix->share[source + 1].begin) source++;
    const struct corpus_share *share = &mix->share[source];
    const uint64_t draw = epoch * share->draws + (slot - share->begin);
    return share->first + corpus_permute(draw % share->windows, share->windows,
                                         mix->key + source + 1, draw / share->windows);
}
