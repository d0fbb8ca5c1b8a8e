// SPDX-License-Identifier: MIT
// The keys that query i of attention sees; after attention_push.glsl and the step buffer `words`
// (WITHIN: and begins, DOCUMENTS).
// One past the last one:
uint keys_end(uint i)
{
    const uint valid = words.tokens == 0 ? seq : words.tokens;
    return min(words.base + (bidirectional != 0 ? valid : min(i + 1, valid)), stride);
}

// whether it has keys in this pass, and whether it has some before it
bool is_seen(uint i)
{
    const uint end = keys_end(i);
    return max(KEYS_BEGIN(i, end), first) < pass_end(end);
}
bool is_old(uint i) { return KEYS_BEGIN(i, keys_end(i)) < first; }
