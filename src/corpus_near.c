// SPDX-License-Identifier: MIT
// Duplicates: see corpus_near.h. Two tables of places: of exact hashes, and of the bands of
// signatures, in which a document has as many places as there are bands.
#include "src/corpus_near.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/os.h"

enum { CHUNK = 1 << 14 }; // bytes that are hashed at once

// ---- text without its white space

struct normal { const uint8_t *at, *end; bool begun; };

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static struct normal normal_of(const struct document *document)
{
    const uint8_t *text = document->start;
    return (struct normal){.at = text, .end = text + document->count};
}

// The next byte of the text in which runs of white space are one space; -1: none is left.
static int normal_next(struct normal *n)
{
    const uint8_t *from = n->at;
    while (n->at < n->end && is_space(*n->at)) n->at++;
    if (n->at == n->end) return -1;
    if (n->at > from && n->begun) return ' ';
    n->begun = true;
    const uint8_t c = *n->at++;
    return c;
}

static uint64_t chain(uint64_t hash, const void *data, uint64_t bytes)
{
    const uint64_t pair[2] = {hash, checksum_xxh64(data, bytes)};
    return checksum_xxh64(pair, sizeof pair);
}

uint64_t corpus_hash(const struct document *document)
{
    uint64_t hash = document->width, held = 0;
    uint8_t chunk[CHUNK];
    if (document->width != 1)
        return chain(hash, document->start, document->count * document->width);
    struct normal n = normal_of(document);
    for (int c; (c = normal_next(&n)) >= 0;) {
        chunk[held++] = (uint8_t)c;
        if (held < CHUNK) continue;
        hash = chain(hash, chunk, held);
        held = 0;
    }
    return chain(hash, chunk, held);
}

static bool equal_ids(const struct document *a, const struct document *b)
{
    if (a->count != b->count || memcmp(a->start, b->start, a->count * a->width) != 0) return false;
    if (!a->scored || !b->scored) return a->scored == b->scored;
    return memcmp(a->scored, b->scored, a->count) == 0;
}

bool corpus_equal(const struct document *a, const struct document *b)
{
    if (a->width != b->width) return false;
    if (a->width != 1) return equal_ids(a, b);
    struct normal left = normal_of(a), right = normal_of(b);
    int c;
    do {
        c = normal_next(&left);
        if (c != normal_next(&right)) return false;
    } while (c >= 0);
    return true;
}

// ---- words in a row

static uint8_t word_byte(uint8_t c)
{
    if ((uint8_t)(c - 'A') < 26) return c | 32;
    return (uint8_t)(c - 'a') < 26 || (uint8_t)(c - '0') < 10 || c >= 0x80 ? c : 0;
}

struct words { const uint8_t *at, *end; uint32_t width; };

// The hash of the next word, or id. False: none is left.
static bool next_word(struct words *w, uint64_t *hash)
{
    if (w->width != 1) {
        if (w->at == w->end) return false;
        *hash = checksum_xxh64(w->at, w->width);
        w->at += w->width;
        return true;
    }
    while (w->at < w->end && !word_byte(*w->at)) w->at++;
    if (w->at == w->end) return false;
    *hash = 0xcbf29ce484222325u; // FNV-1a, whatever the case
    for (uint8_t c; w->at < w->end && (c = word_byte(*w->at)); w->at++)
        *hash = (*hash ^ c) * 0x100000001b3u;
    return true;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort_unique(uint64_t *hash, uint64_t count)
{
    uint64_t kept = 0;
    if (count) qsort(hash, count, sizeof *hash, by_value);
    for (uint64_t i = 0; i < count; i++)
        if (kept == 0 || hash[i] != hash[kept - 1]) hash[kept++] = hash[i];
    return kept;
}

uint64_t *corpus_shingles(const struct document *document, uint64_t *count)
{
    const uint64_t bytes = document->count * document->width;
    struct words words = {.at = document->start, .width = document->width};
    words.end = words.at + bytes;
    // a word and what ends it are two bytes at least
    uint64_t *out = os_alloc((bytes / 2 + 1) * sizeof *out), last[CORPUS_SHINGLE] = {0}, n = 0;
    *count = 0;
    while (next_word(&words, &last[CORPUS_SHINGLE - 1])) {
        if (++n >= CORPUS_SHINGLE) out[(*count)++] = checksum_xxh64(last, sizeof last);
        memmove(last, last + 1, sizeof last - sizeof *last);
    }
    if (n > 0 && n < CORPUS_SHINGLE) out[(*count)++] = checksum_xxh64(last, sizeof last);
    *count = sort_unique(out, *count);
    return out;
}

double corpus_jaccard(const uint64_t *a, uint64_t a_count, const uint64_t *b, uint64_t b_count)
{
    uint64_t both = 0, i = 0, j = 0;
    while (i < a_count && j < b_count) {
        both += a[i] == b[j];
        const bool left = a[i] <= b[j], right = b[j] <= a[i];
        i += left;
        j += right;
    }
    return both ? (double)both / (double)(a_count + b_count - both) : 0;
}

// ---- signatures

struct corpus_bands corpus_bands(double threshold)
{
    for (uint32_t rows = CORPUS_HASHES / 2; rows > 1; rows--) {
        const uint32_t bands = CORPUS_HASHES / rows;
        if (pow(1 - pow(threshold, rows), bands) < 1e-3)
            return (struct corpus_bands){bands, rows};
    }
    return (struct corpus_bands){CORPUS_HASHES, 1};
}

// The least of each of CORPUS_HASHES mixings of the shingles.
static void sign(const uint64_t *shingle, uint64_t count, const uint32_t *factor,
                 uint32_t signature[CORPUS_HASHES])
{
    memset(signature, 0xff, CORPUS_HASHES * sizeof *signature);
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t low = (uint32_t)shingle[i], high = (uint32_t)(shingle[i] >> 32);
        for (uint32_t h = 0; h < CORPUS_HASHES; h++) {
            const uint32_t value = (low ^ factor[2 * h]) * factor[2 * h + 1] ^ high;
            signature[h] = value < signature[h] ? value : signature[h];
        }
    }
}

// ---- tables

// A hash and a document's number + 1 (0: an empty place). Several documents may have one hash.
struct place { uint64_t hash, document; };
struct table { struct place *place; uint64_t count, capacity; };

struct corpus_seen {
    const struct document *document;
    double                 threshold;
    struct corpus_bands    bands;
    struct table           exact, near;
    uint32_t              *shingles; // [capacity] of each that stayed
    uint64_t               capacity;
    uint32_t               factor[2 * CORPUS_HASHES];
};

static void table_put(struct table *table, const struct place *place)
{
    uint64_t at = place->hash & (table->capacity - 1);
    while (table->place[at].document) at = (at + 1) & (table->capacity - 1);
    table->place[at] = *place;
    table->count++;
}

static void table_add(struct table *table, uint64_t hash, uint64_t document)
{
    if (3 * table->count >= 2 * table->capacity) {
        const struct table old = *table;
        table->capacity = old.capacity ? 2 * old.capacity : 1024;
        table->place = os_alloc(table->capacity * sizeof *table->place);
        table->count = 0;
        for (uint64_t i = 0; i < old.capacity; i++)
            if (old.place[i].document) table_put(table, &old.place[i]);
        free(old.place);
    }
    table_put(table, &(struct place){hash, document + 1});
}

// The next document with this hash, from *at on; false: there is no other. *at begins as the hash.
static bool table_next(const struct table *table, uint64_t hash, uint64_t *at, uint64_t *document)
{
    while (table->capacity) {
        const struct place *place = &table->place[*at & (table->capacity - 1)];
        ++*at;
        if (!place->document) return false;
        if (place->hash != hash) continue;
        *document = place->document - 1;
        return true;
    }
    return false;
}

struct corpus_seen *corpus_seen_create(const struct document *document, double threshold)
{
    struct corpus_seen *seen = os_alloc(sizeof *seen);
    seen->document = document;
    seen->threshold = threshold;
    if (threshold > 0) seen->bands = corpus_bands(threshold);
    for (uint32_t h = 0; h < CORPUS_HASHES; h++) {
        const struct rng_block random = rng_philox(hash_string("minhash"), h, 0);
        seen->factor[2 * h] = random.word[0];
        seen->factor[2 * h + 1] = random.word[1] | 1;
    }
    return seen;
}

void corpus_seen_destroy(struct corpus_seen **seen)
{
    if (!*seen) return;
    free((*seen)->exact.place);
    free((*seen)->near.place);
    free((*seen)->shingles);
    free(*seen);
    *seen = NULL;
}

static bool find_exact(const struct corpus_seen *seen, uint64_t index, uint64_t hash, uint64_t *of)
{
    uint64_t at = hash;
    while (table_next(&seen->exact, hash, &at, of))
        if (corpus_equal(&seen->document[*of], &seen->document[index])) return true;
    return false;
}

static bool is_near(const struct corpus_seen *seen, const uint64_t *shingle, uint64_t count,
                    uint64_t other)
{
    const uint64_t own = seen->shingles[other];
    if ((double)min_u64(own, count) < seen->threshold * (double)max_u64(own, count)) return false;
    uint64_t other_count, *others = corpus_shingles(&seen->document[other], &other_count);
    const bool near = corpus_jaccard(shingle, count, others, other_count) >= seen->threshold;
    free(others);
    return near;
}

static uint64_t band_hash(const struct corpus_seen *seen, const uint32_t *signature, uint32_t band)
{
    uint32_t words[CORPUS_HASHES + 1] = {band};
    memcpy(words + 1, signature + band * seen->bands.rows, seen->bands.rows * sizeof *words);
    return checksum_xxh64(words, (seen->bands.rows + 1) * sizeof *words);
}

static bool has(const struct bytes *list, uint64_t document)
{
    for (size_t at = 0; at < list->count; at += sizeof document)
        if (memcmp(list->data + at, &document, sizeof document) == 0) return true;
    return false;
}

// Documents that share several bands with this one are compared once.
static bool find_near(const struct corpus_seen *seen, const uint32_t *signature,
                      const uint64_t *shingle, uint64_t count, uint64_t *of)
{
    struct bytes tried = {0};
    bool found = false;
    for (uint32_t band = 0; !found && band < seen->bands.bands; band++) {
        const uint64_t hash = band_hash(seen, signature, band);
        for (uint64_t at = hash; !found && table_next(&seen->near, hash, &at, of);) {
            if (has(&tried, *of)) continue;
            bytes_append(&tried, of, sizeof *of);
            found = is_near(seen, shingle, count, *of);
        }
    }
    bytes_free(&tried);
    return found;
}

static void remember(struct corpus_seen *seen, uint64_t index, uint64_t shingles)
{
    if (index >= seen->capacity) {
        const uint64_t capacity = max_u64(2 * seen->capacity, index + 64);
        seen->shingles = os_grow(seen->shingles, seen->capacity * sizeof *seen->shingles,
                                 capacity * sizeof *seen->shingles);
        seen->capacity = capacity;
    }
    seen->shingles[index] = (uint32_t)shingles;
}

static enum corpus_twin add_near(struct corpus_seen *seen, uint64_t index, uint64_t *of)
{
    uint32_t signature[CORPUS_HASHES];
    uint64_t count, *shingle = corpus_shingles(&seen->document[index], &count);
    sign(shingle, count, seen->factor, signature);
    const bool near = count > 0 && find_near(seen, signature, shingle, count, of);
    free(shingle);
    if (near) return CORPUS_NEAR_TWIN;
    remember(seen, index, count);
    for (uint32_t band = 0; count > 0 && band < seen->bands.bands; band++)
        table_add(&seen->near, band_hash(seen, signature, band), index);
    return CORPUS_NEW;
}

enum corpus_twin corpus_seen_add(struct corpus_seen *seen, uint64_t index, uint64_t *of)
{
    const struct document *document = &seen->document[index];
    const uint64_t hash = corpus_hash(document);
    if (find_exact(seen, index, hash, of)) return CORPUS_EXACT_TWIN;
    const bool near = seen->threshold > 0 && !document->scored &&
                      document->count * document->width <= CORPUS_NEAR_MOST;
    if (near && add_near(seen, index, of) == CORPUS_NEAR_TWIN) return CORPUS_NEAR_TWIN;
    table_add(&seen->exact, hash, index);
    return CORPUS_NEW;
}
