// SPDX-License-Identifier: MIT
// WikiText's files -> documents: see data_wiki.h.
#include "src/data_wiki.h"

#include <string.h>

const char *wiki_path(const char *path)
{
    return strncmp(path, "wiki:", 5) == 0 ? path + 5 : NULL;
}

struct line { const char *begin; size_t length; }; // without what ends it

static struct line line_at(const char *text, const char *end)
{
    const char *stop = text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
    return (struct line){text, (size_t)((stop ? stop : end) - text)};
}

static const char *next_line(struct line line, const char *end)
{
    const char *stop = line.begin + line.length;
    return stop < end ? stop + 1 : end;
}

static struct line trimmed(struct line line)
{
    while (line.length && line.begin[0] == ' ') line.begin++, line.length--;
    while (line.length && memchr(" \r", line.begin[line.length - 1], 2)) line.length--;
    return line;
}

static bool is_blank(struct line line) { return trimmed(line).length == 0; }

// "= Title =" with one sign at each end, and something between.
static bool is_title(struct line line)
{
    const struct line t = trimmed(line);
    if (t.length < 5 || memcmp(t.begin, "= ", 2) || memcmp(t.begin + t.length - 2, " =", 2))
        return false;
    const struct line inside = trimmed((struct line){t.begin + 2, t.length - 4});
    return inside.length && inside.begin[0] != '=' && inside.begin[inside.length - 1] != '=';
}

static void add(struct documents *out, const char *begin, const char *end)
{
    const char *text = begin;
    while (text < end && memchr(" \r\n", *text, 3)) text++;
    if (text < end) documents_add_text(out, KIND_WIKI, begin, (uint64_t)(end - begin));
}

uint64_t wiki_documents(struct documents *out, const char *text, uint64_t bytes)
{
    const char *const end = text + bytes, *article = text;
    uint64_t articles = 0;
    bool blank = true; // the line before
    for (const char *at = text; at < end;) {
        const struct line line = line_at(at, end);
        const char *next = next_line(line, end);
        if (blank && is_title(line) && is_blank(line_at(next, end))) {
            if (at > article) add(out, article, at);
            article = at;
            articles++;
        }
        blank = is_blank(line);
        at = next;
    }
    if (articles) add(out, article, end);
    return articles;
}
