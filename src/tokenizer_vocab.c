// SPDX-License-Identifier: MIT
// The tables of the vocabulary: string -> id, and (left, right) -> rank of the merge. Both are open
// addressing with at least half of the slots empty.
#include <string.h>

#include "src/tokenizer_internal.h"

static uint32_t power_of_two(uint64_t least)
{
    uint32_t bits = 4;
    while (1ull << bits < least) bits++;
    return bits;
}

uint32_t vocab_find(const struct tokenizer *t, struct slice model)
{
    for (uint64_t at = text_hash(model.data, model.count);; at++) {
        const uint32_t id = t->string[at & t->string_mask];
        if (id == TOKENIZER_NONE) return id;
        const struct slice own = t->token[id].model;
        if (own.count == model.count && memcmp(own.data, model.data, own.count) == 0) return id;
    }
}

// Of equal strings the first id stays; the reader has refused them before.
void vocab_index(struct tokenizer *t)
{
    const uint32_t bits = power_of_two(2ull * t->count);
    t->string_mask = (1u << bits) - 1;
    t->string = arena_array(t->arena, 1ull << bits, sizeof *t->string);
    memset(t->string, 0xff, sizeof *t->string << bits);
    for (uint32_t id = 0; id < t->count; id++) {
        const struct slice model = t->token[id].model;
        if (model.count == 0 || vocab_find(t, model) != TOKENIZER_NONE) continue;
        uint64_t at = text_hash(model.data, model.count);
        while (t->string[at & t->string_mask] != TOKENIZER_NONE) at++;
        t->string[at & t->string_mask] = id;
    }
}

void pairs_create(struct pair_table *pairs, uint32_t count, struct arena *arena)
{
    const uint32_t bits = power_of_two(2ull * count);
    *pairs = (struct pair_table){.shift = 64 - bits, .mask = (1ull << bits) - 1};
    pairs->slot = arena_array(arena, 1ull << bits, sizeof *pairs->slot);
    memset(pairs->slot, 0xff, sizeof *pairs->slot << bits);
}

// False where the pair is there.
bool pairs_add(struct pair_table *pairs, uint32_t left, uint32_t right, uint32_t rank)
{
    const uint64_t key = pair_key(left, right);
    uint64_t at = (key >> 24) * 0x9e3779b97f4a7c15u >> pairs->shift;
    for (; pairs->slot[at & pairs->mask] != UINT64_MAX; at++)
        if ((pairs->slot[at & pairs->mask] ^ key) < 1u << 24) return false;
    pairs->slot[at & pairs->mask] = key | rank;
    return true;
}
