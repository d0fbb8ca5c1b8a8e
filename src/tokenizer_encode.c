// SPDX-License-Identifier: MIT
// The way of a text: added tokens are found in it; what lies between goes through the normalizer;
// normalized added tokens are found in that; the rest is split into words, step by step; each word
// is merged. With spans each step knows where its bytes came from.
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/tokenizer_pattern.h"

struct encoder {
    struct merger          *merger;
    struct pattern_scratch *scratch;
    struct text_buffer      normal[2], split[STEPS_MOST];
};

struct job {
    const struct tokenizer *t;
    struct encoder         *e;
    unsigned                flags;
    struct encoding        *out;
};

// ---- scratch memory and results

static struct encoder *encoder_create(void)
{
    struct encoder *e = os_alloc(sizeof *e);
    e->merger = merger_create();
    e->scratch = pattern_scratch_create();
    return e;
}

void encoder_destroy(struct encoder **encoder)
{
    struct encoder *e = *encoder;
    if (!e) return;
    merger_destroy(&e->merger);
    pattern_scratch_destroy(&e->scratch);
    for (size_t i = 0; i < COUNT_OF(e->normal); i++) buffer_free(&e->normal[i]);
    for (size_t i = 0; i < COUNT_OF(e->split); i++) buffer_free(&e->split[i]);
    free(e);
    *encoder = NULL;
}

void encoding_reserve(struct encoding *encoding, size_t more)
{
    if (encoding->capacity - encoding->count >= more) return;
    const size_t next = max_u64(2 * encoding->capacity, encoding->count + more + 256);
    encoding->id = os_grow(encoding->id, encoding->capacity * sizeof *encoding->id,
                           next * sizeof *encoding->id);
    if (encoding->with_spans)
        encoding->span = os_grow(encoding->span, encoding->capacity * sizeof *encoding->span,
                                 next * sizeof *encoding->span);
    encoding->capacity = next;
}

void encoding_free(struct encoding *encoding)
{
    free(encoding->id);
    free(encoding->span);
    *encoding = (struct encoding){.with_spans = encoding->with_spans};
}

static void put_id(const struct job *job, uint32_t id, uint64_t begin, uint64_t end)
{
    struct encoding *out = job->out;
    encoding_reserve(out, 1);
    if (out->with_spans) out->span[out->count] = (struct tokenizer_span){begin, end};
    out->id[out->count++] = id;
}

// ---- words

// Whether merges made the unknown token out of its own text here, which begins with a known
// character.
static bool is_spelled(const struct tokenizer *t, const struct piece *piece, size_t at)
{
    const struct slice text = t->token[t->unk].model;
    return t->unk_merged && piece->text.count - at >= text.count &&
           memcmp(piece->text.data + at, text.data, text.count) == 0;
}

// Spans of the ids from `first` on, which are those of the piece from byte `at` on.
static void put_spans(const struct job *job, const struct piece *piece, size_t at, size_t first)
{
    const struct tokenizer *t = job->t;
    const uint64_t *unknown = merger_unknown(job->e->merger);
    for (size_t i = first; i < job->out->count; i++) {
        const uint32_t id = job->out->id[i];
        const bool is_unknown = id == t->unk && !is_spelled(t, piece, at);
        const uint64_t bytes = is_unknown ? *unknown++ : t->token[id].span;
        if (bytes == 0 || at + bytes > piece->text.count) continue; // of a file that is not sound
        job->out->span[i] = (struct tokenizer_span){piece_origin(piece, at).begin,
                                                    piece_origin(piece, at + bytes - 1).end};
        at += bytes;
    }
}

static bool put_word(const struct job *job, const struct piece *piece, size_t begin, size_t end)
{
    const uint8_t *text = piece->text.data;
    const size_t first = job->out->count;
    if (begin == end) return true;
    if (!merge_word(job->t, job->e->merger, text + begin, end - begin, text + piece->text.count,
                    job->out))
        return false;
    if (job->out->with_spans) put_spans(job, piece, begin, first);
    return true;
}

static bool is_space_at(const struct tokenizer *t, const uint8_t *text, size_t at, size_t end)
{
    return t->cut_at_space && text[at] == t->space.data[0] && end - at >= t->space.count &&
           memcmp(text + at, t->space.data, t->space.count) == 0;
}

// The end of what merges can join, from `at` on.
static size_t next_cut(const struct tokenizer *t, const uint8_t *text, size_t at, size_t end)
{
    while (at < end && is_space_at(t, text, at, end)) at += t->space.count;
    for (at += at < end; at < end; at++) {
        const uint8_t before = text[at - 1], here = text[at];
        if ((before | here) < 0x80 && !t->joins[before][here]) return at;
        if (here >= 0x80 && is_space_at(t, text, at, end)) return at;
    }
    return end;
}

// A word, or in it the parts that no merge joins.
static bool put_words(const struct job *job, const struct piece *piece, size_t begin, size_t end)
{
    if (!job->t->cuts) return put_word(job, piece, begin, end);
    while (begin < end) {
        const size_t stop = next_cut(job->t, piece->text.data, begin, end);
        if (!put_word(job, piece, begin, stop)) return false;
        begin = stop;
    }
    return true;
}

// ---- splitting

static bool split_from(const struct job *job, const struct piece *piece, uint32_t step,
                       size_t begin, size_t end);

// Segments of a split, as they come: matches and what is between them. Some wait for the next one.
struct segments {
    const struct job   *job;
    const struct piece *piece;
    uint32_t            step;
    size_t              begin, end;   // what waits
    bool                waits, match; // and whether it is a match
};

static bool flush(struct segments *s)
{
    const bool had = s->waits;
    s->waits = false;
    return !had || split_from(s->job, s->piece, s->step + 1, s->begin, s->end);
}

static bool hold(struct segments *s, size_t begin, size_t end, bool match)
{
    if (!flush(s)) return false;
    s->begin = begin;
    s->end = end;
    s->match = match;
    return s->waits = true;
}

static bool put_segment(struct segments *s, size_t begin, size_t end, bool match)
{
    if (begin == end) return true;
    switch (s->job->t->split[s->step].behavior) {
    case SPLIT_REMOVED:
        return match || split_from(s->job, s->piece, s->step + 1, begin, end);
    case SPLIT_ISOLATED:
        return split_from(s->job, s->piece, s->step + 1, begin, end);
    case SPLIT_PREVIOUS: // a match joins what is not one, and waits no longer
        if (!match || !s->waits || s->match) return hold(s, begin, end, match);
        s->end = end;
        return flush(s);
    case SPLIT_NEXT: // what is not a match joins the match before it
        if (match || !s->waits || !s->match) return hold(s, begin, end, match);
        s->end = end;
        return flush(s);
    case SPLIT_CONTIGUOUS:
        if (!s->waits || s->match != match) return hold(s, begin, end, match);
        s->end = end;
        return true;
    }
    return false;
}

static bool split_valid(const struct job *job, const struct piece *piece, uint32_t step,
                        size_t begin, size_t end)
{
    const struct split_step *split = &job->t->split[step];
    const struct slice text = {piece->text.data + begin, end - begin};
    struct segments s = {.job = job, .piece = piece, .step = step};
    size_t at = 0;
    while (at < text.count) {
        size_t from, to;
        const int found = pattern_next(split->pattern, job->e->scratch, text, at, &from, &to);
        if (found < 0) return false;
        if (found == 0) from = to = text.count;
        if (!put_segment(&s, begin + at, begin + from, split->invert) ||
            !put_segment(&s, begin + from, begin + to, !split->invert))
            return false;
        at = to;
    }
    return flush(&s);
}

// Expressions see valid UTF-8; a run of other bytes is a word.
static bool split_pattern(const struct job *job, const struct piece *piece, uint32_t step,
                          size_t begin, size_t end)
{
    const uint8_t *text = piece->text.data;
    while (begin < end) {
        const size_t valid = begin + utf8_valid(text + begin, end - begin);
        if (valid > begin && !split_valid(job, piece, step, begin, valid)) return false;
        size_t broken = valid;
        while (broken < end && utf8_length(text + broken, end - broken) == 0) broken++;
        if (!put_words(job, piece, valid, broken)) return false;
        begin = broken;
    }
    return true;
}

static bool starts_with(struct slice text, struct slice with)
{
    return text.count >= with.count && memcmp(text.data, with.data, with.count) == 0;
}

// Spaces become the replacement, one goes in front; then perhaps each begins a word.
static bool split_metaspace(const struct job *job, const struct piece *piece, uint32_t step,
                            size_t begin, size_t end)
{
    const struct split_step *split = &job->t->split[step];
    const bool track = job->out->with_spans;
    const struct piece part = {
        {piece->text.data + begin, end - begin}, piece->origin ? piece->origin + begin : NULL,
        piece->base + begin};
    struct text_buffer *buffer = &job->e->split[step];
    const struct normal_step replace = {NORMAL_REPLACE, slice_of(" "), split->replacement},
                             front = {NORMAL_PREPEND, {0}, split->replacement};
    const bool spaced = part.text.data[0] == ' ' || starts_with(part.text, split->replacement);
    const bool first = split->prepend == PREPEND_ALWAYS ||
                       (split->prepend == PREPEND_FIRST && piece_origin(&part, 0).begin == 0);
    struct piece whole = part;
    buffer->bytes.count = 0;
    if (!spaced && first) { // `front` in two parts, to go over the text once
        const struct piece one = {{part.text.data, 1}, part.origin, part.base};
        struct tokenizer_span origin = piece_origin(&one, 0);
        const uint32_t length = utf8_length(part.text.data, part.text.count);
        origin.end = piece_origin(&part, (length ? length : 1) - 1).end;
        buffer_put(buffer, front.to.data, front.to.count, track ? &origin : NULL);
    }
    normal_apply(job->t, &replace, &part, track, buffer);
    whole = buffer_piece(buffer, track);
    for (size_t at = 0; split->split && at < whole.text.count;) {
        const uint8_t *next = at + 1 < whole.text.count
            ? memmem(whole.text.data + at + 1, whole.text.count - at - 1,
                     split->replacement.data, split->replacement.count) : NULL;
        const size_t stop = next ? (size_t)(next - whole.text.data) : whole.text.count;
        if (!split_from(job, &whole, step + 1, at, stop)) return false;
        at = stop;
    }
    return split->split || split_from(job, &whole, step + 1, 0, whole.text.count);
}

// ByteLevel's add_prefix_space.
static bool split_prefix(const struct job *job, const struct piece *piece, uint32_t step,
                         size_t begin, size_t end)
{
    const bool track = job->out->with_spans;
    const struct piece part = {
        {piece->text.data + begin, end - begin}, piece->origin ? piece->origin + begin : NULL,
        piece->base + begin};
    const struct normal_step front = {NORMAL_PREPEND, {0}, slice_of(" ")};
    struct text_buffer *buffer = &job->e->split[step];
    if (part.text.data[0] == ' ') return split_from(job, piece, step + 1, begin, end);
    buffer->bytes.count = 0;
    normal_apply(job->t, &front, &part, track, buffer);
    const struct piece whole = buffer_piece(buffer, track);
    return split_from(job, &whole, step + 1, 0, whole.text.count);
}

static bool split_from(const struct job *job, const struct piece *piece, uint32_t step,
                       size_t begin, size_t end)
{
    if (begin == end) return true;
    if (step == job->t->split_count) return put_words(job, piece, begin, end);
    switch (job->t->split[step].kind) {
    case SPLIT_PATTERN: return split_pattern(job, piece, step, begin, end);
    case SPLIT_METASPACE: return split_metaspace(job, piece, step, begin, end);
    case SPLIT_PREFIX: return split_prefix(job, piece, step, begin, end);
    }
    return false;
}

// ---- added tokens

static size_t spaces_before(const uint8_t *text, size_t begin, size_t least)
{
    while (begin > least) {
        size_t at = begin - 1;
        while (at > least && (text[at] & 0xc0) == 0x80) at--;
        const uint32_t length = utf8_length(text + at, begin - at);
        if (length != begin - at || !is_white_space(utf8_code(text + at, length))) break;
        begin = at;
    }
    return begin;
}

static size_t spaces_behind(const uint8_t *text, size_t end, size_t most)
{
    while (end < most) {
        const uint32_t length = utf8_length(text + end, most - end);
        if (length == 0 || !is_white_space(utf8_code(text + end, length))) break;
        end += length;
    }
    return end;
}

// The longest added token here, NULL: none.
static const struct added_token *added_at(const struct added_tokens *added, const uint8_t *text,
                                          size_t count)
{
    const uint32_t begin = added->first[text[0]], end = added->first[text[0] + 1];
    for (uint32_t i = begin; i < end; i++) {
        const struct slice content = added->token[i].content;
        if (content.count <= count && memcmp(content.data, text, content.count) == 0)
            return &added->token[i];
    }
    return NULL;
}

typedef bool part_fn(const struct job *job, const struct piece *piece);

static bool put_part(const struct job *job, const struct piece *piece, size_t begin, size_t end,
                     part_fn *next)
{
    const struct piece part = {
        {piece->text.data + begin, end - begin}, piece->origin ? piece->origin + begin : NULL,
        piece->base + begin};
    return begin == end || next(job, &part);
}

static bool cut_added(const struct job *job, const struct added_tokens *added,
                      const struct piece *piece, part_fn *next)
{
    const uint8_t *text = piece->text.data;
    const size_t count = piece->text.count;
    size_t done = 0;
    for (size_t at = 0; added->count && at < count;) {
        const struct added_token *token = added_at(added, text + at, count - at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token->content.count;
        at = end;
        if (token->special && !(job->flags & TOKENIZER_SPECIAL)) continue;
        if (token->left) begin = spaces_before(text, begin, done);
        if (token->right) end = spaces_behind(text, end, count);
        if (begin < done) begin = done;
        if (!put_part(job, piece, done, begin, next)) return false;
        put_id(job, token->id, piece_origin(piece, begin).begin, piece_origin(piece, end - 1).end);
        done = end;
        if (at < end) at = end;
    }
    return put_part(job, piece, done, count, next);
}

// ---- the whole way

static bool split_piece(const struct job *job, const struct piece *piece)
{
    return split_from(job, piece, 0, 0, piece->text.count);
}

static bool normalize_piece(const struct job *job, const struct piece *piece)
{
    const bool track = job->out->with_spans;
    struct piece now = *piece;
    for (uint32_t i = 0; i < job->t->normal_count; i++) {
        struct text_buffer *buffer = &job->e->normal[i % 2];
        buffer->bytes.count = 0;
        normal_apply(job->t, &job->t->normalizer[i], &now, track, buffer);
        now = buffer_piece(buffer, track);
    }
    return cut_added(job, &job->t->normal, &now, split_piece);
}

// `count` characters on, and back (a space that was put in front counts one, too).
static uint64_t walk(const uint8_t *text, uint64_t at, uint64_t end, uint64_t count)
{
    while (count-- > 0 && at < end) {
        const uint32_t length = utf8_length(text + at, end - at);
        at += length ? length : 1;
    }
    return at;
}

static uint64_t walk_back(const uint8_t *text, uint64_t at, uint64_t count)
{
    while (count-- > 0 && at > 0)
        do at--; while (at > 0 && (text[at] & 0xc0) == 0x80);
    return at;
}

// What ByteLevel's post-processor leaves of a span: not the spaces at its ends.
static void trim(const struct job *job, size_t from, struct slice original)
{
    for (size_t i = from; i < job->out->count; i++) {
        const struct slice text = job->t->token[job->out->id[i]].decoded;
        struct tokenizer_span *span = &job->out->span[i];
        uint64_t left = 0, right = 0;
        while (left < text.count && text.data[left] == ' ') left++;
        while (right < text.count && text.data[text.count - 1 - right] == ' ') right++;
        if ((i == from || span->begin == 0) && job->t->trim_prefix) left = 0;
        if (left + right == 0) continue;
        while (span->end < original.count && (original.data[span->end] & 0xc0) == 0x80) span->end++;
        span->begin = walk(original.data, span->begin, span->end, left);
        span->end = max_u64(walk_back(original.data, span->end, right), span->begin);
    }
}

static bool encode(const struct job *job, const char *text, size_t bytes)
{
    const struct tokenizer *t = job->t;
    const bool template = job->flags & TOKENIZER_TEMPLATE;
    const struct piece piece = {{(const uint8_t *)text, bytes}, NULL, 0};
    for (uint32_t i = 0; template && i < t->before_count; i++) put_id(job, t->before[i], 0, 0);
    const size_t first = job->out->count;
    if (bytes && !cut_added(job, &t->raw, &piece, normalize_piece)) return false;
    if (t->trim_spans && job->out->with_spans) trim(job, first, piece.text);
    for (uint32_t i = 0; template && i < t->after_count; i++) put_id(job, t->after[i], 0, 0);
    return true;
}

bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                      unsigned flags, struct encoding *out)
{
    struct tokenizer *t = (struct tokenizer *)tokenizer; // its scratch memory is guarded
    const bool shared = !atomic_flag_test_and_set_explicit(&t->shared_taken, memory_order_acquire);
    if (shared && !t->shared) t->shared = encoder_create();
    struct encoder *own = shared ? NULL : encoder_create();
    const struct job job = {tokenizer, shared ? t->shared : own, flags, out};
    const bool ok = encode(&job, text, bytes);
    encoder_destroy(&own);
    if (shared) atomic_flag_clear_explicit(&t->shared_taken, memory_order_release);
    return ok;
}
