// SPDX-License-Identifier: MIT
// Normalizers: text in front, replaced text, and Unicode's composed form (NFC, through utf8proc).
// Along with the bytes goes where in the original each came from, by the rule of the package
// `tokenizers`: what is inserted belongs to the character before it (at the front: behind it), and
// what is put in place of something belongs to the last character of that.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/tokenizer_internal.h"

#ifdef HAVE_UTF8PROC
#include <utf8proc.h>
#endif

// ---- text with origins

static void grow_origin(struct text_buffer *buffer, size_t wanted)
{
    if (wanted <= buffer->origin_capacity) return;
    const size_t next = max_u64(wanted, 2 * buffer->origin_capacity);
    buffer->origin = os_grow(buffer->origin, buffer->origin_capacity * sizeof *buffer->origin,
                             next * sizeof *buffer->origin);
    buffer->origin_capacity = next;
}

void buffer_put(struct text_buffer *buffer, const void *text, size_t count,
                const struct tokenizer_span *origin)
{
    const size_t before = buffer->bytes.count;
    bytes_append(&buffer->bytes, text, count);
    if (!origin) return;
    grow_origin(buffer, before + count);
    for (size_t i = 0; i < count; i++) buffer->origin[before + i] = *origin;
}

void buffer_copy(struct text_buffer *buffer, const struct piece *piece, size_t from, size_t to,
                 bool track)
{
    const size_t before = buffer->bytes.count;
    bytes_append(&buffer->bytes, piece->text.data + from, to - from);
    if (!track) return;
    grow_origin(buffer, before + to - from);
    for (size_t i = from; i < to; i++) buffer->origin[before + i - from] = piece_origin(piece, i);
}

void buffer_free(struct text_buffer *buffer)
{
    bytes_free(&buffer->bytes);
    free(buffer->origin);
    *buffer = (struct text_buffer){0};
}

struct piece buffer_piece(const struct text_buffer *buffer, bool track)
{
    return (struct piece){{buffer->bytes.data, buffer->bytes.count},
                          track ? buffer->origin : NULL, 0};
}

// ---- in front, and in place of

// The origin of the whole character at byte i.
static struct tokenizer_span origin_of(const struct piece *piece, size_t i)
{
    const uint32_t length = utf8_length(piece->text.data + i, piece->text.count - i);
    return (struct tokenizer_span){piece_origin(piece, i).begin,
                                   piece_origin(piece, i + (length ? length : 1) - 1).end};
}

static void prepend(struct slice text, const struct piece *piece, bool track,
                    struct text_buffer *out)
{
    if (piece->text.count == 0) return;
    const struct tokenizer_span first = origin_of(piece, 0);
    buffer_put(out, text.data, text.count, track ? &first : NULL);
    buffer_copy(out, piece, 0, piece->text.count, track);
}

// One byte by a few, without origins: a pass to count, a pass to write.
static void replace_byte(const struct normal_step *step, struct slice text, struct bytes *out)
{
    const uint8_t from = step->from.data[0], *to = step->to.data;
    size_t times = 0;
    for (size_t i = 0; i < text.count; i++) times += text.data[i] == from;
    const size_t wanted = text.count + times * step->to.count;
    while (out->capacity - out->count <= wanted) { // grown once, not for each part
        const size_t before = out->capacity;
        out->capacity = max_u64(2 * before, out->count + wanted + 1);
        out->data = os_grow(out->data, before, out->capacity);
    }
    uint8_t *at = out->data + out->count;
    for (size_t i = 0; i < text.count; i++) {
        if (text.data[i] != from) {
            *at++ = text.data[i];
            continue;
        }
        for (size_t k = 0; k < step->to.count; k++) *at++ = to[k];
    }
    out->count = (size_t)(at - out->data);
    out->data[out->count] = 0;
}

static void replace(const struct normal_step *step, const struct piece *piece, bool track,
                    struct text_buffer *out)
{
    const struct slice text = piece->text;
    if (!track && step->from.count == 1) {
        replace_byte(step, text, &out->bytes);
        return;
    }
    for (size_t at = 0; at < text.count;) {
        const uint8_t *found = step->from.count == 1
            ? memchr(text.data + at, step->from.data[0], text.count - at)
            : memmem(text.data + at, text.count - at, step->from.data, step->from.count);
        const size_t stop = found ? (size_t)(found - text.data) : text.count;
        buffer_copy(out, piece, at, stop, track);
        if (!found) return;
        at = stop + step->from.count;
        const struct tokenizer_span last = {piece_origin(piece, stop).begin,
                                            piece_origin(piece, at - 1).end};
        buffer_put(out, step->to.data, step->to.count, track ? &last : NULL);
    }
}

// ---- NFC

#ifdef HAVE_UTF8PROC

enum { CODES = 0x110000 };

// A bit for each code point that normalization may touch, or join with the one before it.
struct nfc { uint64_t touched[CODES / 64]; };

static void touch(struct nfc *nfc, uint32_t code) { nfc->touched[code / 64] |= 1ull << code % 64; }

static bool is_touched(const struct nfc *nfc, uint32_t code)
{
    return nfc->touched[code / 64] >> code % 64 & 1;
}

static bool composes_to_itself(int32_t code)
{
    int32_t out[16];
    int boundary = 0;
    int count = utf8proc_decompose_char(code, out, 16, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE,
                                        &boundary);
    if (count <= 1) return count == 1 && out[0] == code;
    count = (int)utf8proc_normalize_utf32(out, count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return count == 1 && out[0] == code;
}

static void note_code(struct nfc *nfc, int32_t code)
{
    int32_t parts[16];
    int boundary = 0;
    if (utf8proc_get_property(code)->combining_class || !composes_to_itself(code))
        touch(nfc, (uint32_t)code);
    const int count = utf8proc_decompose_char(code, parts, 16,
                                              UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    for (int i = 1; i < count && i < 16; i++) touch(nfc, (uint32_t)parts[i]); // may compose back
}

bool nfc_create(struct tokenizer *t, const char *name)
{
    (void)name;
    struct nfc *nfc = os_alloc(sizeof *nfc);
    for (int32_t code = 0x80; code < CODES; code++) {
        if (code >= 0xac00 && code < 0xd7a4) continue; // Hangul syllables stay
        if (code >= 0xd800 && code < 0xe000) continue;
        if (utf8proc_category(code) != UTF8PROC_CATEGORY_CN) note_code(nfc, code);
    }
    for (uint32_t code = 0x1161; code <= 0x11ff; code++) touch(nfc, code); // Hangul vowels, tails
    t->nfc = nfc;
    return true;
}

void nfc_destroy(struct tokenizer *t)
{
    free(t->nfc);
    t->nfc = NULL;
}

// Codes [0, count) composed in place; returns how many are left.
static size_t compose(int32_t *code, size_t count, int32_t **room, size_t *room_count)
{
    const size_t most = 18 * count + 16;
    if (most > *room_count) {
        *room = os_grow(*room, *room_count * sizeof **room, most * sizeof **room);
        *room_count = most;
    }
    size_t decomposed = 0;
    for (size_t i = 0; i < count; i++) {
        int boundary = 0;
        const ptrdiff_t made = utf8proc_decompose_char(code[i], *room + decomposed,
                                                       (ptrdiff_t)(most - decomposed),
                                                       UTF8PROC_DECOMPOSE | UTF8PROC_STABLE,
                                                       &boundary);
        decomposed += made > 0 ? (size_t)made : 0;
    }
    // canonical order: a stable insertion sort of each run of marks
    for (size_t i = 1; i < decomposed; i++) {
        const int32_t mark = (*room)[i];
        const int rank = utf8proc_get_property(mark)->combining_class;
        size_t at = i;
        for (; rank && at > 0; at--) {
            const int before = utf8proc_get_property((*room)[at - 1])->combining_class;
            if (before <= rank) break;
            (*room)[at] = (*room)[at - 1];
        }
        (*room)[at] = mark;
    }
    return (size_t)utf8proc_normalize_utf32(*room, (ptrdiff_t)decomposed,
                                            UTF8PROC_COMPOSE | UTF8PROC_STABLE);
}

// One cluster: the last character before a touched one, and all touched ones behind it.
struct cluster { int32_t *code, *room; size_t *place; size_t count, capacity, room_count; };

static void cluster_add(struct cluster *c, int32_t code, size_t place)
{
    if (c->count == c->capacity) {
        const size_t next = c->capacity ? 2 * c->capacity : 64;
        c->code = os_grow(c->code, c->capacity * sizeof *c->code, next * sizeof *c->code);
        c->place = os_grow(c->place, c->capacity * sizeof *c->place, next * sizeof *c->place);
        c->capacity = next;
    }
    c->code[c->count] = code;
    c->place[c->count++] = place;
}

// The canonical decomposition of a code.
static size_t decompose(int32_t code, int32_t parts[16])
{
    int boundary = 0;
    const ptrdiff_t count = utf8proc_decompose_char(
        code, parts, 16, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    return count > 0 && count <= 16 ? (size_t)count : 0;
}

// For each composed character how many of the original ones it used up, by the package's count: one
// for itself, one for each part beyond the first that it took in, less what decomposing had added.
// 0: it was inserted. Long clusters are counted as if all went to the first.
static void count_used(const struct cluster *c, size_t made, int32_t *used)
{
    struct { int32_t code; bool added, taken; } part[256];
    size_t parts = 0;
    for (size_t i = 0; i < made; i++)
        used[i] = i == 0 && c->count > made ? (int32_t)(c->count - made + 1) : i < c->count;
    for (size_t i = 0; i < c->count; i++) {
        int32_t own[16];
        const size_t count = decompose(c->code[i], own);
        if (parts + count > COUNT_OF(part)) return;
        for (size_t p = 0; p < count; p++) {
            part[parts].code = own[p];
            part[parts].added = p > 0;
            part[parts++].taken = false;
        }
    }
    for (size_t i = 0; i < made; i++) {
        int32_t own[16];
        const size_t count = decompose(c->room[i], own);
        used[i] = (int32_t)count;
        for (size_t p = 0; p < count; p++)
            for (size_t k = 0; k < parts; k++) {
                if (part[k].taken || part[k].code != own[p]) continue;
                part[k].taken = true;
                used[i] -= part[k].added;
                break;
            }
    }
}

static void cluster_put(struct cluster *c, const struct piece *piece, bool track,
                        struct text_buffer *out)
{
    if (c->count == 0) return;
    const size_t made = compose(c->code, c->count, &c->room, &c->room_count);
    int32_t *used = track ? os_alloc((made + 1) * sizeof *used) : NULL;
    size_t next = 0; // original character
    if (track) count_used(c, made, used);
    for (size_t i = 0; i < made; i++) {
        uint8_t text[4];
        const ptrdiff_t bytes = utf8proc_encode_char(c->room[i], text);
        const size_t from = track && used[i] == 0 && next > 0 ? next - 1 : next;
        const size_t place = c->place[min_u64(from, c->count - 1)];
        const struct tokenizer_span origin = origin_of(piece, place);
        buffer_put(out, text, (size_t)bytes, track ? &origin : NULL);
        if (track) next += (size_t)(used[i] > 0 ? used[i] : 0);
    }
    free(used);
    c->count = 0;
}

static void nfc(const struct tokenizer *t, const struct piece *piece, bool track,
                struct text_buffer *out)
{
    const struct slice text = piece->text;
    struct cluster c = {0};
    size_t last = 0, copied = 0; // begin of the last character that may be joined with
    bool open = false;           // a cluster has begun at `last`
    for (size_t at = 0; at < text.count;) {
        uint64_t eight;
        while (!open && text.count - at > 8 && text.data[at] < 0xcc &&
               (memcpy(&eight, text.data + at, 8), !(eight & 0x8080808080808080u)))
            at += 8, last = at - 1;
        const uint32_t length = utf8_length(text.data + at, text.count - at);
        const uint32_t code = length ? utf8_code(text.data + at, length) : 0;
        const bool touched = length && is_touched(t->nfc, code);
        if (touched && !open) {
            open = true;
            buffer_copy(out, piece, copied, at > copied ? last : at, track);
            const uint32_t before = at > copied ? utf8_length(text.data + last, at - last) : 0;
            if (before && before == at - last)
                cluster_add(&c, (int32_t)utf8_code(text.data + last, before), last);
            else
                buffer_copy(out, piece, at > copied ? last : at, at, track);
        }
        if (touched) {
            cluster_add(&c, (int32_t)code, at);
            copied = at + length;
        } else if (open) {
            open = false;
            cluster_put(&c, piece, track, out);
        }
        last = at;
        at += length ? length : 1;
    }
    cluster_put(&c, piece, track, out);
    buffer_copy(out, piece, copied, text.count, track);
    free(c.code);
    free(c.place);
    free(c.room);
}

#else

bool nfc_create(struct tokenizer *t, const char *name)
{
    (void)t;
    log_error("%s: normalizer: NFC needs libutf8proc, without which this vkmoe was built", name);
    return false;
}

void nfc_destroy(struct tokenizer *t) { (void)t; }

static void nfc(const struct tokenizer *t, const struct piece *piece, bool track,
                struct text_buffer *out)
{
    (void)t;
    buffer_copy(out, piece, 0, piece->text.count, track);
}

#endif

void normal_apply(const struct tokenizer *t, const struct normal_step *step,
                  const struct piece *piece, bool track, struct text_buffer *out)
{
    switch (step->kind) {
    case NORMAL_PREPEND: prepend(step->to, piece, track, out); break;
    case NORMAL_REPLACE: replace(step, piece, track, out); break;
    case NORMAL_NFC: nfc(t, piece, track, out); break;
    }
}
