// SPDX-License-Identifier: MIT
// Byte-pair merging of one word (Sennrich et al. 2016): of all neighbours that a merge joins, the
// one of the lowest rank goes first, the leftmost of equal ones; until none is left. A short word
// looks for the lowest rank in an array; a long one keeps candidates in a heap, O(n log n). Words
// that were seen lately are taken from a table: one cache line each, two of them to a place, of
// which the older one leaves.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/tokenizer_internal.h"

enum {
    SHORT_WORD = 96, // symbols
    CACHE_BITS = 16, CACHE_WAYS = 2, CACHE_WORD = 23, CACHE_IDS = 10,
    LONG_BITS = 14, LONG_WORD = 1024, STORE_BYTES = 2 << 20,
};

// key: the word's bytes, its length in the last one; unused ids are TOKENIZER_NONE.
struct cached { uint64_t key[3]; uint32_t id[CACHE_IDS]; };

// A longer word: its text and ids lie in `store`, one behind the other.
struct cached_long { uint64_t hash; uint32_t at, bytes, ids; };

struct merger {
    struct cached *cache;   // [1 << CACHE_BITS]
    struct cached_long *line; // [1 << LONG_BITS]
    uint8_t       *store;   // [STORE_BYTES]
    size_t         stored;
    uint32_t      *id, *next, *before; // [room] of a long word
    uint64_t      *heap;    // rank << 32 | place
    size_t         room, heap_count, heap_room;
    uint64_t      *unknown; // lengths of this word's unknown tokens
    size_t         unknown_count, unknown_room;
};

struct merger *merger_create(void)
{
    return os_alloc(sizeof(struct merger));
}

void merger_destroy(struct merger **merger)
{
    struct merger *m = *merger;
    if (!m) return;
    free(m->cache);
    free(m->line);
    free(m->store);
    free(m->id);
    free(m->next);
    free(m->before);
    free(m->heap);
    free(m->unknown);
    free(m);
    *merger = NULL;
}

const uint64_t *merger_unknown(const struct merger *merger) { return merger->unknown; }

// ---- the first symbols of a word

static void *grow(void *memory, size_t *room, size_t wanted, size_t bytes)
{
    if (wanted <= *room) return memory;
    const size_t next = wanted > 2 * *room ? wanted : 2 * *room;
    memory = os_grow(memory, *room * bytes, next * bytes);
    *room = next;
    return memory;
}

static void note_unknown(struct merger *m, uint64_t bytes, bool fuse)
{
    if (fuse) {
        m->unknown[m->unknown_count - 1] += bytes;
        return;
    }
    m->unknown = grow(m->unknown, &m->unknown_room, m->unknown_count + 1, sizeof *m->unknown);
    m->unknown[m->unknown_count++] = bytes;
}

// A character that is in no token: its bytes' tokens, or the unknown one.
static size_t put_unknown(const struct tokenizer *t, struct merger *m, const uint8_t *text,
                          uint32_t length, uint32_t *id, size_t count)
{
    bool all = t->byte_fallback;
    for (uint32_t i = 0; i < length; i++) all &= t->byte[text[i]] != TOKENIZER_NONE;
    for (uint32_t i = 0; all && i < length; i++) id[count++] = t->byte[text[i]];
    if (all || t->unk == TOKENIZER_NONE) return count;
    const bool fuse = t->fuse_unk && count > 0 && id[count - 1] == t->unk;
    note_unknown(m, length, fuse);
    if (!fuse) id[count++] = t->unk;
    return count;
}

static size_t put_symbols(const struct tokenizer *t, struct merger *m, const uint8_t *word,
                          size_t bytes, uint32_t *id)
{
    size_t count = 0;
    m->unknown_count = 0;
    for (size_t i = 0; t->byte_level && i < bytes; i++) {
        id[count] = t->byte[word[i]];
        count += id[count] != TOKENIZER_NONE;
    }
    for (size_t i = 0; !t->byte_level && i < bytes;) {
        const uint32_t length = utf8_length(word + i, bytes - i), used = length ? length : 1;
        uint32_t one = TOKENIZER_NONE;
        if (length == 1)
            one = t->ascii[word[i]];
        else if (length)
            one = vocab_find(t, (struct slice){word + i, length});
        if (one != TOKENIZER_NONE)
            id[count++] = one;
        else
            count = put_unknown(t, m, word + i, used, id, count);
        i += used;
    }
    return count;
}

// ---- short words

static size_t merge_short(const struct tokenizer *t, uint32_t *id, size_t count)
{
    uint32_t rank[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++) rank[i] = pairs_find(&t->pairs, id[i], id[i + 1]);
    while (count > 1) {
        uint32_t lowest = rank[0];
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            best = rank[i] < lowest ? i : best;
            lowest = rank[i] < lowest ? rank[i] : lowest;
        }
        if (lowest == TOKENIZER_NONE) break;
        id[best] = t->merged[lowest];
        count--;
        for (size_t i = best + 1; i < count; i++) id[i] = id[i + 1];
        for (size_t i = best + 1; i + 1 < count; i++) rank[i] = rank[i + 1];
        if (best + 1 < count) rank[best] = pairs_find(&t->pairs, id[best], id[best + 1]);
        if (best > 0) rank[best - 1] = pairs_find(&t->pairs, id[best - 1], id[best]);
    }
    return count;
}

// ---- long words: a list of symbols and a heap of candidates, of which some are out of date

static void heap_push(struct merger *m, uint32_t rank, uint32_t place)
{
    if (rank == TOKENIZER_NONE) return;
    m->heap = grow(m->heap, &m->heap_room, m->heap_count + 1, sizeof *m->heap);
    const uint64_t value = (uint64_t)rank << 32 | place;
    size_t at = m->heap_count++;
    for (; at > 0 && m->heap[(at - 1) / 2] > value; at = (at - 1) / 2)
        m->heap[at] = m->heap[(at - 1) / 2];
    m->heap[at] = value;
}

static uint64_t heap_pop(struct merger *m)
{
    const uint64_t top = m->heap[0], value = m->heap[--m->heap_count];
    size_t at = 0;
    for (size_t child = 1; child < m->heap_count; child = 2 * at + 1) {
        child += child + 1 < m->heap_count && m->heap[child + 1] < m->heap[child];
        if (m->heap[child] >= value) break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = value;
    return top;
}

static void try_pair(const struct tokenizer *t, struct merger *m, uint32_t place)
{
    const uint32_t next = m->next[place];
    if (next != TOKENIZER_NONE)
        heap_push(m, pairs_find(&t->pairs, m->id[place], m->id[next]), place);
}

// Joins `place` with its right neighbour, which dies.
static void join(const struct tokenizer *t, struct merger *m, uint32_t place, uint32_t id)
{
    const uint32_t dead = m->next[place], after = m->next[dead];
    m->id[place] = id;
    m->id[dead] = TOKENIZER_NONE;
    m->next[place] = after;
    if (after != TOKENIZER_NONE) m->before[after] = place;
    try_pair(t, m, place);
    if (m->before[place] != TOKENIZER_NONE) try_pair(t, m, m->before[place]);
}

static size_t merge_long(const struct tokenizer *t, struct merger *m, size_t count)
{
    m->heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        m->before[i] = i ? (uint32_t)i - 1 : TOKENIZER_NONE;
        m->next[i] = i + 1 < count ? (uint32_t)i + 1 : TOKENIZER_NONE;
    }
    for (size_t i = 0; i < count; i++) try_pair(t, m, (uint32_t)i);
    while (m->heap_count) {
        const uint64_t top = heap_pop(m);
        const uint32_t rank = (uint32_t)(top >> 32), place = (uint32_t)top, next = m->next[place];
        if (m->id[place] == TOKENIZER_NONE || next == TOKENIZER_NONE) continue;
        if (pairs_find(&t->pairs, m->id[place], m->id[next]) != rank) continue;
        join(t, m, place, t->merged[rank]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (m->id[i] != TOKENIZER_NONE) m->id[kept++] = m->id[i];
    return kept;
}

static bool encode_long(const struct tokenizer *t, struct merger *m, const uint8_t *word,
                        size_t bytes, struct encoding *out)
{
    if (bytes >= TOKENIZER_NONE) {
        log_error("tokenizer: a word of %zu bytes without a place to cut; at most %u are possible",
                  bytes, TOKENIZER_NONE - 1);
        return false;
    }
    size_t room = m->room, other = m->room;
    m->id = grow(m->id, &room, bytes, sizeof *m->id);
    room = m->room;
    m->next = grow(m->next, &room, bytes, sizeof *m->next);
    m->before = grow(m->before, &other, bytes, sizeof *m->before);
    m->room = room;
    const size_t count = merge_long(t, m, put_symbols(t, m, word, bytes, m->id));
    encoding_reserve(out, count);
    memcpy(out->id + out->count, m->id, count * sizeof *m->id);
    out->count += count;
    return true;
}

// ---- words

static size_t encode_short(const struct tokenizer *t, struct merger *m, const uint8_t *word,
                           size_t bytes, struct encoding *out)
{
    encoding_reserve(out, bytes);
    uint32_t *id = out->id + out->count;
    const uint32_t whole = t->ignore_merges ? vocab_find(t, (struct slice){word, bytes})
                                            : TOKENIZER_NONE;
    size_t count = 1;
    if (whole != TOKENIZER_NONE)
        id[0] = whole;
    else
        count = merge_short(t, id, put_symbols(t, m, word, bytes, id));
    out->count += count;
    return count;
}

// The bytes of a word with zeros behind; `end`: so far memory may be read.
static void load_key(const uint8_t *word, size_t count, const uint8_t *end, uint64_t key[3])
{
    if (end - word >= 24) {
        memcpy(key, word, 24);
        const uint64_t mask = (1ull << (count & 7) * 8) - 1;
        key[0] = count >= 8 ? key[0] : key[0] & mask;
        key[1] = count >= 16 ? key[1] : count >= 8 ? key[1] & mask : 0;
        key[2] = count >= 16 ? key[2] & mask : 0;
    } else {
        key[0] = key[1] = key[2] = 0;
        memcpy(key, word, count);
    }
    key[2] |= (uint64_t)count << 56;
}

// The two lines of a word's place.
static struct cached *cache_place(struct merger *m, const uint64_t key[3])
{
    if (!m->cache) m->cache = os_alloc(sizeof *m->cache << CACHE_BITS);
    uint64_t hash = key[0] * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32 ^ key[1]) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 32 ^ key[2]) * 0x9e3779b97f4a7c15u;
    return &m->cache[(hash >> (64 - CACHE_BITS)) & ~1ull];
}

static void take_line(const struct cached *line, struct encoding *out)
{
    encoding_reserve(out, CACHE_IDS);
    uint32_t *id = out->id + out->count;
    memcpy(id, line->id, sizeof line->id);
    size_t count = 0;
    while (count < CACHE_IDS && id[count] != TOKENIZER_NONE) count++;
    out->count += count;
}

static void encode_cached(const struct tokenizer *t, struct merger *m, const uint8_t *word,
                          size_t bytes, const uint8_t *end, struct encoding *out)
{
    uint64_t key[3];
    load_key(word, bytes, end, key);
    struct cached *line = cache_place(m, key);
    for (size_t way = 0; way < CACHE_WAYS; way++)
        if (line[way].key[2] == key[2] && line[way].key[0] == key[0] &&
            line[way].key[1] == key[1]) {
            take_line(&line[way], out);
            return;
        }
    const size_t count = encode_short(t, m, word, bytes, out);
    if (count > CACHE_IDS) return;
    line[1] = line[0];
    memset(line->id, 0xff, sizeof line->id);
    memcpy(line->id, out->id + out->count - count, count * sizeof *line->id);
    memcpy(line->key, key, sizeof line->key);
}

static struct cached_long *long_line(struct merger *m, uint64_t hash)
{
    if (!m->line) {
        m->line = os_alloc(sizeof *m->line << LONG_BITS);
        m->store = os_alloc(STORE_BYTES);
    }
    return &m->line[hash >> (64 - LONG_BITS)];
}

static bool take_long(const struct merger *m, const struct cached_long *line, uint64_t hash,
                      const uint8_t *word, size_t bytes, struct encoding *out)
{
    if (line->hash != hash || line->bytes != bytes ||
        memcmp(m->store + line->at, word, bytes) != 0)
        return false;
    encoding_reserve(out, line->ids);
    memcpy(out->id + out->count, m->store + line->at + bytes, line->ids * sizeof *out->id);
    out->count += line->ids;
    return true;
}

static void keep_long(struct merger *m, struct cached_long *line, uint64_t hash,
                      const uint8_t *word, size_t bytes, const uint32_t *id, size_t ids)
{
    const size_t room = bytes + ids * sizeof *id;
    if (m->stored + room > STORE_BYTES) { // begin again
        memset(m->line, 0, sizeof *m->line << LONG_BITS);
        m->stored = 0;
    }
    *line = (struct cached_long){hash, (uint32_t)m->stored, (uint32_t)bytes, (uint32_t)ids};
    memcpy(m->store + m->stored, word, bytes);
    memcpy(m->store + m->stored + bytes, id, ids * sizeof *id);
    m->stored += room;
}

static bool encode_uncached(const struct tokenizer *t, struct merger *m, const uint8_t *word,
                            size_t bytes, struct encoding *out)
{
    if (bytes <= SHORT_WORD) {
        encode_short(t, m, word, bytes, out);
        return true;
    }
    const uint32_t whole = t->ignore_merges ? vocab_find(t, (struct slice){word, bytes})
                                            : TOKENIZER_NONE;
    if (whole == TOKENIZER_NONE) return encode_long(t, m, word, bytes, out);
    encoding_reserve(out, 1);
    out->id[out->count++] = whole;
    return true;
}

bool merge_word(const struct tokenizer *t, struct merger *m, const uint8_t *word, size_t count,
                const uint8_t *end, struct encoding *out)
{
    const bool unknown = out->with_spans && t->unk != TOKENIZER_NONE; // lengths are in no table
    if (unknown || count > LONG_WORD) return encode_uncached(t, m, word, count, out);
    if (count <= CACHE_WORD) {
        encode_cached(t, m, word, count, end, out);
        return true;
    }
    const uint64_t hash = text_hash(word, count);
    const size_t before = out->count;
    struct cached_long *line = long_line(m, hash);
    if (take_long(m, line, hash, word, count, out)) return true;
    if (!encode_uncached(t, m, word, count, out)) return false;
    keep_long(m, line, hash, word, count, out->id + before, out->count - before);
    return true;
}
