// SPDX-License-Identifier: MIT
// Filters, and what they leave: see corpus.h.
#include "src/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/corpus_near.h"
#include "src/corpus_room.h"

// ---- hashes that were seen in a document

struct seen { uint64_t *key; uint64_t count, capacity; };

static bool seen_put(struct seen *seen, uint64_t key)
{
    uint64_t at = key & (seen->capacity - 1);
    while (seen->key[at] && seen->key[at] != key) at = (at + 1) & (seen->capacity - 1);
    if (seen->key[at]) return false;
    seen->key[at] = key;
    seen->count++;
    return true;
}

// True where the hash is new; 0 stands for an empty place.
static bool seen_add(struct seen *seen, uint64_t hash)
{
    if (2 * seen->count >= seen->capacity) {
        const struct seen old = *seen;
        seen->capacity = old.capacity ? 4 * old.capacity : 256;
        seen->key = os_alloc(seen->capacity * sizeof *seen->key);
        seen->count = 0;
        for (uint64_t i = 0; i < old.capacity; i++)
            if (old.key[i]) seen_put(seen, old.key[i]);
        free(old.key);
    }
    return seen_put(seen, hash ? hash : 1);
}

// ---- filters

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_letter(uint8_t c)
{
    return (uint8_t)((c | 32) - 'a') < 26 || c >= 0x80;
}

// Counts words until both numbers are reached.
static enum corpus_reason filter_words(const struct config_corpus *rules, const uint8_t *text,
                                       uint64_t bytes)
{
    struct seen seen = {0};
    uint64_t words = 0;
    for (uint64_t i = 0, begin; i < bytes;) {
        while (i < bytes && is_space(text[i])) i++;
        for (begin = i; i < bytes && !is_space(text[i]);) i++;
        if (i == begin) break;
        words++;
        if (seen.count < rules->min_unique_words)
            seen_add(&seen, checksum_xxh64(text + begin, i - begin));
        if (words >= rules->min_words && seen.count >= rules->min_unique_words) break;
    }
    const bool enough = seen.count >= rules->min_unique_words;
    free(seen.key);
    return words < rules->min_words ? CORPUS_WORDS : enough ? CORPUS_KEPT : CORPUS_UNIQUE_WORDS;
}

static enum corpus_reason filter_letters(const struct config_corpus *rules, const uint8_t *text,
                                         uint64_t bytes)
{
    uint64_t letters = 0, all = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        letters += is_letter(text[i]);
        all += !is_space(text[i]);
    }
    return (double)letters < rules->min_letters * (double)all ? CORPUS_LETTERS : CORPUS_KEPT;
}

// Lines count without the white space around them, those with nothing else not at all.
static enum corpus_reason filter_lines(const struct config_corpus *rules, const uint8_t *text,
                                       uint64_t bytes)
{
    struct seen seen = {0};
    uint64_t again = 0, all = 0;
    for (uint64_t i = 0; i < bytes;) {
        const uint8_t *stop = memchr(text + i, '\n', bytes - i);
        uint64_t from = i, to = stop ? (uint64_t)(stop - text) : bytes;
        i = to + 1;
        while (from < to && is_space(text[from])) from++;
        while (from < to && is_space(text[to - 1])) to--;
        if (from == to) continue;
        all += to - from;
        if (!seen_add(&seen, checksum_xxh64(text + from, to - from))) again += to - from;
    }
    free(seen.key);
    return (double)again > rules->max_repeated_lines * (double)all ? CORPUS_LINES : CORPUS_KEPT;
}

enum corpus_reason corpus_filter(const struct config_corpus *rules, const struct document *document)
{
    const uint8_t *text = document->start;
    enum corpus_reason reason = CORPUS_KEPT;
    if (document->bytes < rules->min_bytes) return CORPUS_SHORT;
    if (rules->max_bytes && document->bytes > rules->max_bytes) return CORPUS_LONG;
    if (document->width != 1) return CORPUS_KEPT;
    if (rules->min_words || rules->min_unique_words)
        reason = filter_words(rules, text, document->count);
    if (reason == CORPUS_KEPT && rules->min_letters > 0)
        reason = filter_letters(rules, text, document->count);
    if (reason == CORPUS_KEPT && rules->max_repeated_lines < 1)
        reason = filter_lines(rules, text, document->count);
    return reason;
}

// ---- all of them

static enum corpus_reason twin(struct corpus_seen *seen, uint64_t index)
{
    uint64_t of;
    switch (corpus_seen_add(seen, index, &of)) {
    case CORPUS_EXACT_TWIN: return CORPUS_SAME;
    case CORPUS_NEAR_TWIN: return CORPUS_NEAR;
    case CORPUS_NEW: break;
    }
    return CORPUS_KEPT;
}

// What the counts say about each reason.
static void print_reasons(const struct corpus_counts *counts, const struct config_corpus *rules,
                          struct bytes *out)
{
    char text[CORPUS_KEPT][64] = {[CORPUS_SAME] = "the same as another"};
    snprintf(text[CORPUS_SHORT], 64, "under min_bytes %llu", (unsigned long long)rules->min_bytes);
    snprintf(text[CORPUS_LONG], 64, "over max_bytes %llu", (unsigned long long)rules->max_bytes);
    snprintf(text[CORPUS_WORDS], 64, "under min_words %u", rules->min_words);
    snprintf(text[CORPUS_UNIQUE_WORDS], 64, "under min_unique_words %u", rules->min_unique_words);
    snprintf(text[CORPUS_LETTERS], 64, "under min_letters %g", rules->min_letters);
    snprintf(text[CORPUS_LINES], 64, "over max_repeated_lines %g", rules->max_repeated_lines);
    snprintf(text[CORPUS_NEAR], 64, "near another (%g)", rules->dedup_threshold);
    const char *comma = "";
    for (int i = 0; i < CORPUS_KEPT; i++) {
        if (!counts->by[i]) continue;
        bytes_printf(out, "%s%llu %s", comma, (unsigned long long)counts->by[i], text[i]);
        comma = ", ";
    }
}

void corpus_print(const struct corpus_counts *counts, const struct config_corpus *rules,
                  struct bytes *out)
{
    const uint64_t dropped = counts->documents - counts->by[CORPUS_KEPT];
    if (dropped == 0) return;
    bytes_printf(out, "dropped %llu of %llu documents: ", (unsigned long long)dropped,
                 (unsigned long long)counts->documents);
    print_reasons(counts, rules, out);
}

static bool refuse_nothing(const struct corpus_counts *counts, const struct config_corpus *rules)
{
    struct bytes text = {0};
    print_reasons(counts, rules, &text);
    log_error("data: the filters leave none of %llu documents: %s; wanted some that pass",
              (unsigned long long)counts->documents, (const char *)text.data);
    bytes_free(&text);
    return false;
}

bool corpus_select(struct documents *documents, const struct config_corpus *rules,
                   struct corpus_counts *counts)
{
    *counts = (struct corpus_counts){.documents = documents->count};
    counts->by[CORPUS_KEPT] = documents->count;
    if (!rules) return true;
    struct corpus_seen *seen = NULL;
    if (rules->dedup != CONFIG_DEDUP_NONE)
        seen = corpus_seen_create(documents->document,
                                  rules->dedup == CONFIG_DEDUP_NEAR ? rules->dedup_threshold : 0);
    uint64_t kept = 0;
    for (uint64_t i = 0; i < documents->count; i++) {
        enum corpus_reason reason = corpus_filter(rules, &documents->document[i]);
        documents->document[kept] = documents->document[i];
        if (reason == CORPUS_KEPT && seen) reason = twin(seen, kept);
        counts->by[reason]++;
        corpus_room_touch(documents->room, documents->document[kept].bytes);
        kept += reason == CORPUS_KEPT;
    }
    counts->by[CORPUS_KEPT] = kept;
    documents->count = kept;
    corpus_seen_destroy(&seen);
    return kept > 0 || refuse_nothing(counts, rules);
}
