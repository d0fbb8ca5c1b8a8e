// SPDX-License-Identifier: MIT
// Training: text -> unique words with their counts -> pairs with their counts and the words they
// are in -> merges. A merge touches only the words that have its pair; the counts of the pairs next
// to it move by what changed. The largest count comes from a heap whose entries may be out of date:
// one that is goes back with its present count.
#include "src/tokenizer_train.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/tokenizer_pattern.h"
#include "src/tokenizer_print.h"

#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define REST " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"

static const char *const standard_special[] = {"<|endoftext|>", "<|bos|>", "<|pad|>"};

struct word { uint64_t begin, hash, count; uint32_t length; };

struct pair {
    uint32_t  left, right;
    int64_t   count;
    uint32_t *word; // [words] that have it, or had it
    uint32_t  words, room;
};

// Which item of an array has a hash: open addressing, at most half full.
struct table { uint32_t *slot; uint64_t slots; };

struct tokenizer_trainer {
    struct tokenizer_training params;
    struct pattern           *pattern;
    struct pattern_scratch   *scratch;
    uint64_t                  bytes, total; // of text; words in it
    // unique words
    struct bytes  text;
    struct word  *word;
    struct table  by_text;
    uint64_t      words, room;
    // their symbols, one after the other; a word's get fewer
    uint32_t     *symbol;
    // pairs
    struct pair  *pair;
    struct table  by_pair;
    uint32_t      pairs, pair_room;
    uint32_t     *heap, heap_count; // of pairs
    int64_t      *heap_value;       // [heap_count] the count an entry was put in with
    uint32_t      heap_room;
    // what came out
    char        **entry;
    uint32_t     *left, *right;
    uint32_t      entries, merges;
    struct arena *arena;
};

const char *tokenizer_expression(const char *name)
{
    static const struct { const char *name, *expression; } known[] = {
        {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                 "\\s+(?!\\S)|\\s+"},
        {"llama3", ENDINGS LETTERS "|\\p{N}{1,3}|" REST},
        {"qwen2", ENDINGS LETTERS "|\\p{N}|" REST},
    };
    if (!name) name = "llama3";
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (strcmp(name, known[i].name) == 0) return known[i].expression;
    return name;
}

static uint32_t special_count(const struct tokenizer_trainer *t)
{
    return (uint32_t)COUNT_OF(standard_special) + t->params.special_count;
}

struct tokenizer_trainer *tokenizer_trainer_create(const struct tokenizer_training *params)
{
    struct tokenizer_trainer *t = os_alloc(sizeof *t);
    t->params = *params;
    t->params.expression = tokenizer_expression(params->expression);
    t->arena = arena_create("tokenizer training");
    t->scratch = pattern_scratch_create();
    const uint32_t least = 256 + special_count(t);
    if (params->vocab_size < least || params->vocab_size > TOKENIZER_ID_LIMIT) {
        log_error("vocab: found %u, wanted %u (bytes and special tokens) to %u", params->vocab_size,
                  least, TOKENIZER_ID_LIMIT);
        tokenizer_trainer_destroy(&t);
        return NULL;
    }
    t->pattern = pattern_create("tokenizer training", "pattern", t->params.expression);
    if (!t->pattern) tokenizer_trainer_destroy(&t);
    return t;
}

void tokenizer_trainer_destroy(struct tokenizer_trainer **trainer)
{
    struct tokenizer_trainer *t = *trainer;
    if (!t) return;
    for (uint32_t i = 0; i < t->pairs; i++) free(t->pair[i].word);
    pattern_destroy(&t->pattern);
    pattern_scratch_destroy(&t->scratch);
    bytes_free(&t->text);
    free(t->word);
    free(t->by_text.slot);
    free(t->symbol);
    free(t->pair);
    free(t->by_pair.slot);
    free(t->heap);
    free(t->heap_value);
    arena_destroy(&t->arena);
    free(t);
    *trainer = NULL;
}

// ---- words

// Twice the slots, and all of them free. Returns how many items there may be.
static uint64_t table_grow(struct table *table)
{
    table->slots = table->slots ? 2 * table->slots : 1 << 16;
    free(table->slot);
    table->slot = os_alloc(table->slots * sizeof *table->slot);
    memset(table->slot, 0xff, table->slots * sizeof *table->slot); // TOKENIZER_NONE
    return table->slots / 2;
}

static uint32_t *table_slot(const struct table *table, uint64_t hash)
{
    return &table->slot[hash & (table->slots - 1)];
}

static void table_put(struct table *table, uint64_t hash, uint32_t item)
{
    while (*table_slot(table, hash) != TOKENIZER_NONE) hash++;
    *table_slot(table, hash) = item;
}

static void grow_words(struct tokenizer_trainer *t)
{
    const uint64_t room = table_grow(&t->by_text);
    t->word = os_grow(t->word, t->room * sizeof *t->word, room * sizeof *t->word);
    t->room = room;
    for (uint64_t w = 0; w < t->words; w++)
        table_put(&t->by_text, t->word[w].hash, (uint32_t)w);
}

static bool add_word(struct tokenizer_trainer *t, const uint8_t *text, size_t length)
{
    if (length == 0) return true;
    if (t->words == t->room) grow_words(t);
    t->total++;
    const uint64_t hash = text_hash(text, length);
    for (uint64_t at = hash;; at++) {
        uint32_t *slot = table_slot(&t->by_text, at);
        if (*slot == TOKENIZER_NONE) {
            if (t->words + 1 >= TOKENIZER_NONE || length >= TOKENIZER_NONE) {
                log_error("tokenizer training: too many words, or one of 4 GiB");
                return false;
            }
            *slot = (uint32_t)t->words;
            t->word[t->words++] = (struct word){t->text.count, hash, 1, (uint32_t)length};
            bytes_append(&t->text, text, length);
            return true;
        }
        struct word *word = &t->word[*slot];
        if (word->hash == hash && word->length == length &&
            memcmp(t->text.data + word->begin, text, length) == 0) {
            word->count++;
            return true;
        }
    }
}

static bool add_valid(struct tokenizer_trainer *t, struct slice text)
{
    for (size_t at = 0; at < text.count;) {
        size_t begin, end;
        const int found = pattern_next(t->pattern, t->scratch, text, at, &begin, &end);
        if (found < 0) return false;
        if (found == 0) begin = end = text.count;
        if (!add_word(t, text.data + at, begin - at) ||
            !add_word(t, text.data + begin, end - begin))
            return false;
        at = end;
    }
    return true;
}

bool tokenizer_trainer_add(struct tokenizer_trainer *t, const char *text, size_t bytes)
{
    const uint8_t *data = (const uint8_t *)text;
    t->bytes += bytes;
    for (size_t at = 0; at < bytes;) { // as in encoding: broken UTF-8 is a word
        const size_t valid = at + utf8_valid(data + at, bytes - at);
        if (!add_valid(t, (struct slice){data + at, valid - at})) return false;
        size_t broken = valid;
        while (broken < bytes && utf8_length(data + broken, bytes - broken) == 0) broken++;
        if (!add_word(t, data + valid, broken - valid)) return false;
        at = broken;
    }
    return true;
}

// ---- pairs

static uint64_t hash_pair(uint32_t left, uint32_t right)
{
    const uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return key ^ key >> 32;
}

static void grow_pairs(struct tokenizer_trainer *t)
{
    const uint64_t room = table_grow(&t->by_pair);
    t->pair = os_grow(t->pair, t->pair_room * sizeof *t->pair, room * sizeof *t->pair);
    t->pair_room = (uint32_t)room;
    for (uint32_t p = 0; p < t->pairs; p++)
        table_put(&t->by_pair, hash_pair(t->pair[p].left, t->pair[p].right), p);
}

static uint32_t find_pair(struct tokenizer_trainer *t, uint32_t left, uint32_t right)
{
    if (t->pairs == t->pair_room) grow_pairs(t);
    for (uint64_t at = hash_pair(left, right);; at++) {
        uint32_t *slot = table_slot(&t->by_pair, at);
        if (*slot == TOKENIZER_NONE) {
            *slot = t->pairs;
            t->pair[t->pairs] = (struct pair){.left = left, .right = right};
            return t->pairs++;
        }
        if (t->pair[*slot].left == left && t->pair[*slot].right == right) return *slot;
    }
}

// `by` more of the pair, in the word.
static void count_pair(struct tokenizer_trainer *t, uint32_t left, uint32_t right, int64_t by,
                       uint32_t word)
{
    const uint32_t index = find_pair(t, left, right); // may move the table
    struct pair *pair = &t->pair[index];
    pair->count += by;
    if (by < 0 || (pair->words && pair->word[pair->words - 1] == word)) return;
    if (pair->words == pair->room) {
        const uint32_t room = pair->room ? 2 * pair->room : 4;
        pair->word = os_grow(pair->word, pair->room * sizeof *pair->word,
                             room * sizeof *pair->word);
        pair->room = room;
    }
    pair->word[pair->words++] = word;
}

// ---- the largest pair

// Whether entry a comes before b.
static bool is_before(const struct tokenizer_trainer *t, uint32_t a, int64_t a_value, uint32_t b,
                      int64_t b_value)
{
    if (a_value != b_value) return a_value > b_value;
    const struct pair *x = &t->pair[a], *y = &t->pair[b];
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static void heap_push(struct tokenizer_trainer *t, uint32_t pair)
{
    const int64_t value = t->pair[pair].count;
    if (value < 1) return;
    if (t->heap_count == t->heap_room) {
        const uint32_t room = t->heap_room ? 2 * t->heap_room : 1 << 16;
        t->heap = os_grow(t->heap, t->heap_room * sizeof *t->heap, room * sizeof *t->heap);
        t->heap_value = os_grow(t->heap_value, t->heap_room * sizeof *t->heap_value,
                                room * sizeof *t->heap_value);
        t->heap_room = room;
    }
    uint32_t at = t->heap_count++;
    for (; at > 0; at = (at - 1) / 2) {
        const uint32_t up = (at - 1) / 2;
        if (!is_before(t, pair, value, t->heap[up], t->heap_value[up])) break;
        t->heap[at] = t->heap[up];
        t->heap_value[at] = t->heap_value[up];
    }
    t->heap[at] = pair;
    t->heap_value[at] = value;
}

static uint32_t heap_pop(struct tokenizer_trainer *t, int64_t *value)
{
    const uint32_t top = t->heap[0], last = t->heap[--t->heap_count];
    const int64_t last_value = t->heap_value[t->heap_count];
    *value = t->heap_value[0];
    uint32_t at = 0;
    for (uint32_t child = 1; child < t->heap_count; child = 2 * at + 1) {
        if (child + 1 < t->heap_count &&
            is_before(t, t->heap[child + 1], t->heap_value[child + 1], t->heap[child],
                      t->heap_value[child]))
            child++;
        if (is_before(t, last, last_value, t->heap[child], t->heap_value[child])) break;
        t->heap[at] = t->heap[child];
        t->heap_value[at] = t->heap_value[child];
        at = child;
    }
    t->heap[at] = last;
    t->heap_value[at] = last_value;
    return top;
}

// The pair that comes next, TOKENIZER_NONE: none is there at least twice.
static uint32_t largest_pair(struct tokenizer_trainer *t)
{
    while (t->heap_count) {
        int64_t value;
        const uint32_t pair = heap_pop(t, &value);
        if (value == t->pair[pair].count) return value > 1 ? pair : TOKENIZER_NONE;
        heap_push(t, pair);
    }
    return TOKENIZER_NONE;
}

// ---- merging

// Joins the pair in one word; the counts of its neighbours move.
static void merge_in_word(struct tokenizer_trainer *t, uint32_t w, uint32_t left, uint32_t right,
                          uint32_t joined)
{
    struct word *word = &t->word[w];
    uint32_t *symbol = t->symbol + word->begin;
    const int64_t count = (int64_t)word->count;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < word->length; i++) {
        if (i + 1 == word->length || symbol[i] != left || symbol[i + 1] != right) {
            symbol[kept++] = symbol[i];
            continue;
        }
        if (kept > 0) {
            count_pair(t, symbol[kept - 1], left, -count, w);
            count_pair(t, symbol[kept - 1], joined, count, w);
        }
        if (i + 2 < word->length) {
            count_pair(t, right, symbol[i + 2], -count, w);
            count_pair(t, joined, symbol[i + 2], count, w);
        }
        symbol[kept++] = joined;
        i++;
    }
    word->length = kept;
}

static void merge_pair(struct tokenizer_trainer *t, uint32_t index, uint32_t joined)
{
    struct pair pair = t->pair[index]; // the table may move
    const uint32_t before = t->pairs;
    t->pair[index].word = NULL;
    t->pair[index].words = t->pair[index].room = 0;
    t->pair[index].count = 0;
    for (uint32_t i = 0; i < pair.words; i++)
        merge_in_word(t, pair.word[i], pair.left, pair.right, joined);
    t->pair[index].count = 0; // neighbours of its own kind were counted down
    for (uint32_t p = before; p < t->pairs; p++) heap_push(t, p);
    free(pair.word);
}

static void make_symbols(struct tokenizer_trainer *t, const uint32_t *byte_id)
{
    t->symbol = os_alloc((t->text.count + 1) * sizeof *t->symbol);
    for (size_t i = 0; i < t->text.count; i++) t->symbol[i] = byte_id[t->text.data[i]];
    for (uint32_t w = 0; w < t->words; w++) {
        const uint32_t *symbol = t->symbol + t->word[w].begin;
        for (uint32_t i = 0; i + 1 < t->word[w].length; i++)
            count_pair(t, symbol[i], symbol[i + 1], (int64_t)t->word[w].count, w);
    }
    for (uint32_t p = 0; p < t->pairs; p++) heap_push(t, p);
}

// Ids of bytes in the order of their characters.
static void make_bytes(struct tokenizer_trainer *t, uint32_t byte_id[256])
{
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t b = 0; b < 256; b++) {
            char text[3];
            if (prints_itself(b) != (pass == 0)) continue;
            byte_to_text(b, text);
            byte_id[b] = t->entries;
            t->entry[t->entries++] = arena_strdup(t->arena, text);
        }
}

// Two merges may spell the same: the second gives the id of the first.
static uint32_t entry_of(struct tokenizer_trainer *t, uint32_t *slot, uint32_t slots,
                         const char *text)
{
    for (uint64_t at = text_hash((const uint8_t *)text, strlen(text));; at++) {
        uint32_t *id = &slot[at & (slots - 1)];
        if (*id == TOKENIZER_NONE) {
            *id = t->entries;
            t->entry[t->entries] = (char *)text;
            return t->entries++;
        }
        if (strcmp(t->entry[*id], text) == 0) return *id;
    }
}

static void make_merges(struct tokenizer_trainer *t, uint32_t wanted)
{
    uint32_t slots = 1 << 10;
    while (slots < 2 * wanted) slots *= 2;
    uint32_t *slot = arena_array(t->arena, slots, sizeof *slot);
    memset(slot, 0xff, slots * sizeof *slot);
    uint32_t room = 0;
    while (t->entries < wanted) {
        const uint32_t index = largest_pair(t);
        if (index == TOKENIZER_NONE) break;
        const struct pair pair = t->pair[index];
        if (t->merges == room) {
            t->left = os_grow(t->left, room * sizeof(uint32_t), (room + 4096) * sizeof(uint32_t));
            t->right = os_grow(t->right, room * sizeof(uint32_t), (room + 4096) * sizeof(uint32_t));
            room += 4096;
        }
        const char *text = arena_printf(t->arena, "%s%s", t->entry[pair.left],
                                        t->entry[pair.right]);
        t->left[t->merges] = pair.left;
        t->right[t->merges++] = pair.right;
        merge_pair(t, index, entry_of(t, slot, slots, text));
    }
}

struct tokenizer *tokenizer_trainer_finish(struct tokenizer_trainer *t,
                                           struct tokenizer_trained *report)
{
    uint32_t byte_id[256];
    const uint32_t wanted = t->params.vocab_size - special_count(t);
    t->entry = arena_array(t->arena, wanted, sizeof *t->entry);
    make_bytes(t, byte_id);
    make_symbols(t, byte_id);
    make_merges(t, wanted);
    const char **special = arena_array(t->arena, special_count(t), sizeof *special);
    for (uint32_t i = 0; i < special_count(t); i++)
        special[i] = i < COUNT_OF(standard_special)
            ? standard_special[i] : t->params.special[i - COUNT_OF(standard_special)];
    char *json = tokenizer_print(&(struct tokenizer_contents){
        .entry = (const char *const *)t->entry, .entry_count = t->entries, .left = t->left,
        .right = t->right, .merge_count = t->merges, .special = special,
        .special_count = special_count(t), .expression = t->params.expression});
    struct tokenizer *tokenizer = tokenizer_parse("the trained tokenizer", json, strlen(json));
    cJSON_free(json);
    free(t->left);
    free(t->right);
    t->left = t->right = NULL;
    *report = (struct tokenizer_trained){t->bytes, t->total, t->words, t->merges};
    return tokenizer;
}
