// SPDX-License-Identifier: MIT
// What the tokenizer knows of text: UTF-8, white space, and the printable characters that stand for
// bytes in byte-level files (the map of GPT-2's bytes_to_unicode: bytes that print stand for
// themselves, the other 68 for the code points from 256 on, in order).
#include <string.h>

#include "src/tokenizer_internal.h"

bool prints_itself(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static uint32_t byte_to_code(uint32_t byte)
{
    if (prints_itself(byte)) return byte;
    uint32_t hidden = 0;
    for (uint32_t b = 0; b < byte; b++) hidden += !prints_itself(b);
    return 256 + hidden;
}

// UTF-8 of the byte's character (all are below U+0800), zero-terminated.
void byte_to_text(uint32_t byte, char out[3])
{
    const uint32_t code = byte_to_code(byte);
    out[0] = code < 0x80 ? (char)code : (char)(0xc0 | code >> 6);
    out[1] = code < 0x80 ? 0 : (char)(0x80 | (code & 0x3f));
    out[2] = 0;
}

// The byte of a character, 256: none.
static uint32_t code_to_byte(uint32_t code)
{
    if (code < 256) return prints_itself(code) ? code : 256;
    uint32_t hidden = code - 256;
    for (uint32_t b = 0; b < 256; b++)
        if (!prints_itself(b) && hidden-- == 0) return b;
    return 256;
}

// False where a character stands for no byte. `out` has room for strlen(text) bytes.
bool text_to_bytes(const char *text, uint8_t *out, size_t *count)
{
    const uint8_t *at = (const uint8_t *)text;
    for (size_t left = strlen(text); left > 0;) {
        const uint32_t length = utf8_length(at, left);
        const uint32_t byte = length ? code_to_byte(utf8_code(at, length)) : 256;
        if (byte > 255) return false;
        out[(*count)++] = (uint8_t)byte;
        at += length;
        left -= length;
    }
    return true;
}

static bool is_tail(uint8_t byte) { return (byte & 0xc0) == 0x80; }

// By the table of well-formed sequences (Unicode 3-7): no overlong ones, no surrogates.
uint32_t utf8_length(const uint8_t *text, size_t count)
{
    const uint8_t first = text[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || count < 2 || !is_tail(text[1])) return 0;
    if (first < 0xe0) return 2;
    if (count < 3 || !is_tail(text[2])) return 0;
    if (first == 0xe0 && text[1] < 0xa0) return 0;
    if (first == 0xed && text[1] > 0x9f) return 0;
    if (first < 0xf0) return 3;
    if (first > 0xf4 || count < 4 || !is_tail(text[3])) return 0;
    if (first == 0xf0 && text[1] < 0x90) return 0;
    return first == 0xf4 && text[1] > 0x8f ? 0 : 4;
}

size_t utf8_valid(const uint8_t *text, size_t count)
{
    size_t i = 0;
    while (i < count) {
        uint64_t eight;
        while (count - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u)))
            i += 8;
        if (i == count) break;
        const uint32_t length = utf8_length(text + i, count - i);
        if (length == 0) break;
        i += length;
    }
    return i;
}

bool json_has_zero(const char *text, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) {
        if (text[i] != '\\') continue;
        if (count - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0) return true;
        i++; // what follows a backslash is no backslash of its own
    }
    return false;
}

uint32_t utf8_code(const uint8_t *text, uint32_t length)
{
    if (length == 1) return text[0];
    uint32_t code = text[0] & (0xffu >> (length + 1));
    for (uint32_t i = 1; i < length; i++) code = code << 6 | (text[i] & 0x3f);
    return code;
}

// Unicode's White_Space.
bool is_white_space(uint32_t code)
{
    return code == ' ' || (code >= 9 && code <= 13) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

// A text of a file may hold newlines, which would make two lines of one.
const char *shown_text(char out[104], const char *text)
{
    size_t i = 0;
    for (; i < 100 && text[i]; i++)
        out[i] = (uint8_t)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
    if (text[i]) memcpy(out + i, "...", 4);
    return out;
}

uint64_t text_hash(const uint8_t *text, size_t count)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ count;
    for (; count >= 8; count -= 8, text += 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    if (count) memcpy(&rest, text, count);
    hash = (hash ^ rest) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 29;
}
