// SPDX-License-Identifier: MIT
// Long texts -> ids: see corpus_text.h. Merging never joins what lies on two sides of a place that
// is a boundary in the end, so from a common boundary on two encodings differ only by what is
// around it: the tokens that must be equal before and behind it show that nothing is.
#include "src/corpus_text.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/corpus_room.h"

enum { SAME_TOKENS = 64 }; // on each side of the place where one encoding goes on for the other

// A part of the text and its encoding, with spans from the text's begin.
struct part { uint64_t begin, end; struct encoding encoding; size_t from; };

static bool encode_part(struct part *part, uint64_t begin, uint64_t end, const char *text,
                        const struct tokenizer *tokenizer)
{
    part->begin = begin;
    part->end = end;
    part->from = 0;
    part->encoding.count = 0;
    part->encoding.with_spans = true;
    if (!tokenizer_encode(tokenizer, text + begin, end - begin, 0, &part->encoding)) return false;
    for (size_t i = 0; i < part->encoding.count; i++) {
        part->encoding.span[i].begin += begin;
        part->encoding.span[i].end += begin;
    }
    return true;
}

static bool same_token(const struct encoding *a, size_t i, const struct encoding *b, size_t j)
{
    return a->id[i] == b->id[j] && a->span[i].begin == b->span[j].begin &&
           a->span[i].end == b->span[j].end;
}

// A place in the overlap of two parts with SAME_TOKENS equal ones on each side: *i in the first,
// *j in the second.
static bool find_seam(const struct part *a, const struct part *b, size_t *i, size_t *j)
{
    const struct encoding *left = &a->encoding, *right = &b->encoding;
    size_t same = 0;
    *i = left->count;
    while (*i > a->from && left->span[*i - 1].begin >= b->begin) --*i;
    for (*j = 0; *i < left->count && *j < right->count;) {
        if (same_token(left, *i, right, *j)) {
            if (++same == 2 * SAME_TOKENS) {
                *i -= SAME_TOKENS - 1;
                *j -= SAME_TOKENS - 1;
                return true;
            }
            ++*i;
            ++*j;
            continue;
        }
        same = 0;
        const uint64_t l = left->span[*i].begin, r = right->span[*j].begin;
        *i += l <= r;
        *j += r <= l;
    }
    return false;
}

// Not through a character, and behind white space where there is some near.
static uint64_t good_begin(const char *text, uint64_t at, uint64_t least)
{
    uint64_t from = at;
    while (from > least && at - from < 256 && text[from - 1] != '\n') from--;
    if (from > least && text[from - 1] == '\n') return from;
    // a character has at most three bytes that are no first one; what has more is broken
    for (from = at; from > least && at - from < 4; from--)
        if (((uint8_t)text[from] & 0xc0) != 0x80) return from;
    return at;
}

static bool give(const struct part *part, size_t to, corpus_take_ids *take, void *user)
{
    return take(user, part->encoding.id + part->from, to - part->from);
}

bool corpus_text_encode_parts(const struct document *document, uint64_t part_bytes,
                              uint64_t overlap, const struct tokenizer *tokenizer,
                              struct corpus_room *room, corpus_take_ids *take, void *user)
{
    const char *text = document->start;
    const uint64_t bytes = document->count;
    struct part part[2] = {0}, *now = &part[0], *next = &part[1];
    const uint64_t first = part_bytes < bytes ? good_begin(text, part_bytes, 0) : bytes;
    bool ok = encode_part(now, 0, first, text, tokenizer);
    while (ok && now->end < bytes) {
        const uint64_t begin = good_begin(text, now->end - overlap, now->begin + 1);
        uint64_t end = begin + part_bytes;
        size_t i = 0, j = 0;
        end = end < bytes ? good_begin(text, end, begin + overlap) : bytes;
        if (room) corpus_room_touch(room, now->end - now->begin);
        ok = encode_part(next, begin, end, text, tokenizer);
        if (ok && !find_seam(now, next, &i, &j)) { // from what is given already on, at once
            const uint64_t from = now->from < now->encoding.count
                                      ? now->encoding.span[now->from].begin : now->begin;
            log_debug("data: %llu bytes of text at once", (unsigned long long)(bytes - from));
            ok = encode_part(now, now->begin, bytes, text, tokenizer);
            now->from = 0;
            while (now->from < now->encoding.count && now->encoding.span[now->from].begin < from)
                now->from++;
            break;
        }
        ok = ok && give(now, i, take, user);
        next->from = j;
        struct part *const done = now;
        now = next;
        next = done;
    }
    ok = ok && give(now, now->encoding.count, take, user);
    if (room) corpus_room_touch(room, now->end - now->begin);
    encoding_free(&part[0].encoding);
    encoding_free(&part[1].encoding);
    return ok;
}

bool corpus_text_encode(const struct document *document, const struct tokenizer *tokenizer,
                        struct corpus_room *room, corpus_take_ids *take, void *user)
{
    if (document->count > CORPUS_TEXT_PART)
        return corpus_text_encode_parts(document, CORPUS_TEXT_PART, CORPUS_TEXT_OVERLAP, tokenizer,
                                        room, take, user);
    struct encoding encoding = {0};
    const bool ok = tokenizer_encode(tokenizer, document->start, document->count, 0, &encoding) &&
                    take(user, encoding.id, encoding.count);
    corpus_room_touch(room, document->count);
    encoding_free(&encoding);
    return ok;
}
