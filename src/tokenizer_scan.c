// SPDX-License-Identifier: MIT
// GPT-2's, Llama 3's and Qwen 2's expressions for ASCII: see the header. Each function is one
// alternative; they are tried in the order of the expression. END: where a class ends in front of a
// character that is not ASCII, whose class is not known here.
#include "src/tokenizer_scan.h"

#include <string.h>

#include "src/tokenizer_train.h"

enum class { LETTER = 1, DIGIT = 2, LINE = 4, BLANK = 8, OTHER = 16, HIGH = 32 };
enum { SPACE = LINE | BLANK };

#define C4(c) c, c, c, c
#define C8(c) C4(c), C4(c)
#define C16(c) C8(c), C8(c)
static const uint8_t class_of[256] = {
    C8(OTHER), OTHER, BLANK, LINE, BLANK, BLANK, LINE, OTHER, OTHER, // tab, newline, ..., return
    C16(OTHER),
    BLANK, C8(OTHER), C4(OTHER), OTHER, OTHER, OTHER,
    C8(DIGIT), DIGIT, DIGIT, C4(OTHER), OTHER, OTHER,
    OTHER, C16(LETTER), C8(LETTER), LETTER, LETTER, C4(OTHER), OTHER,
    OTHER, C16(LETTER), C8(LETTER), LETTER, LETTER, C4(OTHER), OTHER,
    C16(HIGH), C16(HIGH), C16(HIGH), C16(HIGH), C16(HIGH), C16(HIGH), C16(HIGH), C16(HIGH),
};

enum scan_kind scan_kind_of(const char *expression)
{
    static const char *const names[] = {[SCAN_GPT2] = "gpt2", [SCAN_LLAMA3] = "llama3",
                                        [SCAN_QWEN2] = "qwen2"};
    for (enum scan_kind kind = SCAN_GPT2; kind <= SCAN_QWEN2; kind++)
        if (strcmp(expression, tokenizer_expression(names[kind])) == 0) return kind;
    return SCAN_NONE;
}

// The end of the run of these classes; `*high`: a character stops it that is not ASCII.
static size_t run(const uint8_t *text, size_t at, size_t count, uint8_t classes, bool *high)
{
    while (at < count && (class_of[text[at]] & classes)) at++;
    *high |= at < count && text[at] >= 0x80;
    return at;
}

static uint8_t class_at(const uint8_t *text, size_t at, size_t count)
{
    return at < count ? class_of[text[at]] : 0;
}

// 's 't 'm 'd 're 've 'll: its length, 0: none. `lower`: a bit that makes letters small.
static size_t ending(const uint8_t *text, size_t at, size_t count, uint8_t lower)
{
    const uint8_t a = at + 1 < count ? text[at + 1] | lower : 0,
                  b = at + 2 < count ? text[at + 2] | lower : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// Spaces: with `lines` up to the last newline in them, else all but the one that a word takes.
static size_t spaces(const uint8_t *text, size_t at, size_t count, bool lines)
{
    bool high = false;
    const size_t end = run(text, at, count, SPACE, &high);
    if (high) return 0;
    for (size_t last = end; lines && last > at; last--)
        if (class_of[text[last - 1]] == LINE) return last;
    return end == count || end == at + 1 ? end : end - 1;
}

static size_t gpt2(const uint8_t *text, size_t at, size_t count)
{
    const size_t short_form = text[at] == '\'' ? ending(text, at, count, 0) : 0;
    if (short_form) return at + short_form;
    const size_t from = at + (text[at] == ' ');
    const uint8_t class = class_at(text, from, count);
    bool high = class == HIGH;
    if (class & SPACE || class == 0) return spaces(text, at, count, false);
    const size_t end = run(text, from, count, class, &high);
    return high ? 0 : end;
}

static size_t llama3(const uint8_t *text, size_t at, size_t count, size_t digits)
{
    const uint8_t first = class_of[text[at]], second = class_at(text, at + 1, count);
    bool high = first == HIGH || (second == HIGH && !(first & (LETTER | DIGIT)));
    if (high) return 0;
    const size_t short_form = text[at] == '\'' ? ending(text, at, count, 0x20) : 0;
    if (short_form) return at + short_form;
    size_t end;
    if (first == LETTER || (second == LETTER && first & (BLANK | OTHER))) {
        end = run(text, at + 1, count, LETTER, &high);
    } else if (first == DIGIT) {
        const size_t most = count - at < digits ? count : at + digits;
        end = run(text, at, most, DIGIT, &high);
    } else if (first == OTHER || (text[at] == ' ' && second == OTHER)) {
        end = run(text, at + 1, count, OTHER, &high);
        while (end < count && class_of[text[end]] == LINE) end++;
    } else {
        return spaces(text, at, count, true);
    }
    return high ? 0 : end;
}

size_t scan_match(enum scan_kind kind, const uint8_t *text, size_t at, size_t count)
{
    switch (kind) {
    case SCAN_GPT2: return gpt2(text, at, count);
    case SCAN_LLAMA3: return llama3(text, at, count, 3);
    case SCAN_QWEN2: return llama3(text, at, count, 1);
    case SCAN_NONE: return 0;
    }
    return 0;
}
