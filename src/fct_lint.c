// SPDX-License-Identifier: MIT
// The linter of patterns: see fct_lint.h. Texts are compared as words: letters of one case, digits
// and what is beyond ASCII, all else between them. Equal texts, and those that share most of their
// runs of five words, are found by sorting, so that a large set costs no more than its length.
#include "src/fct_lint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

enum { RUN_MOST = 64 }; // texts with one run of words in common that are compared with each other

struct linter {
    struct arena           *arena;
    fct_fault_fn           *finding;
    void                   *user;
    struct fct_patterns     patterns;
    struct fct_lint_report *report;
};

static void tell(void *user, const struct fct_fault *fault)
{
    struct linter *l = user;
    l->report->findings++;
    l->finding(l->user, fault);
}

static void find(struct linter *l, const struct fct_pattern *at, enum fct_field field,
                 const char *found, const char *wanted)
{
    tell(l, &(struct fct_fault){at->file, at->line, fct_field_name(field), found, wanted});
}

static bool is_payload(uint32_t field)
{
    return field != FCT_PATTERN && field != FCT_DOMAIN;
}

// ---- one pattern

static void check_length(struct linter *l, const struct fct_pattern *p, enum fct_field field)
{
    const size_t bytes = strlen(p->field[field]);
    const size_t least = is_payload(field) ? FCT_PAYLOAD_LEAST : FCT_NAME_LEAST;
    const size_t most = is_payload(field) ? FCT_PAYLOAD_MOST : FCT_NAME_MOST;
    char found[40], wanted[40];
    if (bytes >= least && bytes <= most) return;
    snprintf(found, sizeof found, "%zu bytes", bytes);
    snprintf(wanted, sizeof wanted, "%zu to %zu", least, most);
    find(l, p, field, found, wanted);
}

static void check_blanks(struct linter *l, const struct fct_pattern *p, enum fct_field field)
{
    const char *text = p->field[field];
    const size_t bytes = strlen(text);
    for (size_t i = 0; i < bytes; i++) {
        char found[40];
        if ((uint8_t)text[i] >= ' ' && text[i] != 127) continue;
        snprintf(found, sizeof found, "a control character (0x%02x)", (uint8_t)text[i]);
        find(l, p, field, found, "one line of text");
        return;
    }
    if (text[0] == ' ' || text[bytes - 1] == ' ' || strstr(text, "  "))
        find(l, p, field, "spaces at an end or side by side", "one space between words");
}

// The name of the file without its folder and its ending.
static const char *stem(struct arena *arena, const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    const char *dot = strrchr(name, '.');
    return arena_printf(arena, "%.*s", dot ? (int)(dot - name) : (int)strlen(name), name);
}

static void check_domain(struct linter *l, const struct fct_pattern *p, const char *wanted)
{
    if (strcmp(p->field[FCT_DOMAIN], wanted) == 0) return;
    find(l, p, FCT_DOMAIN, arena_printf(l->arena, "\"%.60s\"", p->field[FCT_DOMAIN]),
         arena_printf(l->arena, "\"%s\", the name of the file", wanted));
}

static void check_patterns(struct linter *l)
{
    const char *file = NULL, *name = NULL;
    for (uint64_t i = 0; i < l->patterns.count; i++) {
        const struct fct_pattern *p = &l->patterns.pattern[i];
        if (p->file != file) name = stem(l->arena, file = p->file);
        for (uint32_t f = 0; f < FCT_FIELDS; f++) {
            check_length(l, p, (enum fct_field)f);
            check_blanks(l, p, (enum fct_field)f);
        }
        check_domain(l, p, name);
    }
}

// ---- texts as words

struct words {
    const char *text;  // words with one space between; zero-ended
    uint32_t    count, grams;
    uint32_t    index; // in the order of patterns and fields
    const struct fct_pattern *pattern;
    enum fct_field            field;
};

static bool is_word_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static void set_words(struct linter *l, struct words *w)
{
    const char *in = w->pattern->field[w->field];
    char *out = arena_alloc(l->arena, strlen(in) + 1);
    size_t n = 0;
    for (bool inside = false; *in; in++) {
        const bool word = is_word_byte((uint8_t)*in);
        if (word && !inside) {
            if (n) out[n++] = ' ';
            w->count++;
        }
        if (word) out[n++] = *in >= 'A' && *in <= 'Z' ? (char)(*in - 'A' + 'a') : *in;
        inside = word || (inside && *in == '\''); // don't is one word
    }
    w->text = out;
}

// All texts of one kind: payloads, or names.
static struct words *gather(struct linter *l, bool payloads, uint32_t *count)
{
    struct words *all = arena_array(l->arena, l->patterns.count * FCT_FIELDS, sizeof *all);
    uint32_t n = 0;
    for (uint64_t i = 0; i < l->patterns.count; i++)
        for (uint32_t f = 0; f < FCT_FIELDS; f++) {
            if (payloads ? !is_payload(f) : f != FCT_PATTERN) continue;
            all[n] = (struct words){.index = n, .pattern = &l->patterns.pattern[i],
                                    .field = (enum fct_field)f};
            set_words(l, &all[n++]);
        }
    *count = n;
    return all;
}

static int by_text(const void *a, const void *b)
{
    const struct words *x = a, *y = b;
    const int order = strcmp(x->text, y->text);
    return order ? order : x->index < y->index ? -1 : 1;
}

static int by_index(const void *a, const void *b)
{
    const struct words *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

static const char *place(struct arena *arena, const struct words *w)
{
    return arena_printf(arena, "%s:%llu: %s", w->pattern->file,
                        (unsigned long long)w->pattern->line, fct_field_name(w->field));
}

// Each text that an earlier one equals.
static void check_equal(struct linter *l, struct words *all, uint32_t count, const char *wanted)
{
    qsort(all, count, sizeof *all, by_text);
    for (uint32_t i = 0, first = 0; i < count; i++) {
        if (i == 0 || strcmp(all[i].text, all[first].text) != 0) {
            first = i;
            continue;
        }
        find(l, all[i].pattern, all[i].field,
             arena_printf(l->arena, "the words of %s", place(l->arena, &all[first])), wanted);
    }
    qsort(all, count, sizeof *all, by_index);
}

// ---- texts that are nearly the same

struct gram { uint64_t hash; uint32_t text; };
struct pair { uint32_t late, early; };

static int by_hash(const void *a, const void *b)
{
    const struct gram *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text;
}

static int by_pair(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->late != y->late) return x->late < y->late ? -1 : 1;
    return x->early < y->early ? -1 : x->early > y->early;
}

static uint64_t hash_bytes(const char *text, size_t bytes)
{
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u;
    return hash;
}

// Behind the `count` words that begin here.
static const char *skip_words(const char *text, uint32_t count)
{
    for (; count && *text; count--) {
        text += strcspn(text, " ");
        if (count > 1 && *text) text++;
    }
    return text;
}

// Every run of words of every text, sorted, each once a text.
static struct gram *make_grams(struct linter *l, struct words *all, uint32_t count, size_t *grams)
{
    size_t most = 0, n = 0, kept = 0;
    for (uint32_t i = 0; i < count; i++) most += all[i].count;
    struct gram *gram = arena_array(l->arena, most, sizeof *gram);
    for (uint32_t i = 0; i < count; i++) {
        const char *at = all[i].text;
        for (uint32_t w = 0; w + FCT_GRAM_WORDS <= all[i].count; w++) {
            const size_t bytes = (size_t)(skip_words(at, FCT_GRAM_WORDS) - at);
            gram[n++] = (struct gram){hash_bytes(at, bytes), i};
            at += strcspn(at, " ") + 1;
        }
    }
    if (n) qsort(gram, n, sizeof *gram, by_hash);
    for (size_t i = 0; i < n; i++) {
        if (kept && by_hash(&gram[kept - 1], &gram[i]) == 0) continue;
        all[gram[i].text].grams++;
        gram[kept++] = gram[i];
    }
    *grams = kept;
    return gram;
}

// A pair for every run of words that two texts share.
static struct pair *make_pairs(const struct gram *gram, size_t grams, size_t *pairs)
{
    struct pair *pair = NULL;
    size_t n = 0, room = 0;
    for (size_t i = 0, end; i < grams; i = end) {
        for (end = i; end < grams && gram[end].hash == gram[i].hash; end++) {}
        const size_t stop = end - i > RUN_MOST ? i + RUN_MOST : end;
        for (size_t a = i; a < stop; a++)
            for (size_t b = a + 1; b < stop; b++) {
                if (n == room) {
                    pair = os_grow(pair, room * sizeof *pair, (2 * room + 64) * sizeof *pair);
                    room = 2 * room + 64;
                }
                pair[n++] = (struct pair){gram[b].text, gram[a].text};
            }
    }
    if (n) qsort(pair, n, sizeof *pair, by_pair);
    *pairs = n;
    return pair;
}

static void check_pair(struct linter *l, const struct words *late, const struct words *early,
                       uint32_t shared)
{
    const uint32_t least = min_u32(late->grams, early->grams);
    const uint32_t percent = (uint32_t)((uint64_t)shared * 100 / least);
    if (percent < FCT_NEAR_PERCENT || strcmp(late->text, early->text) == 0) return;
    find(l, late->pattern, late->field,
         arena_printf(l->arena, "%u%% of its runs of %d words in %s", percent, FCT_GRAM_WORDS,
                      place(l->arena, early)),
         arena_printf(l->arena, "below %d%%", FCT_NEAR_PERCENT));
}

static void check_near(struct linter *l, struct words *all, uint32_t count)
{
    size_t grams, pairs;
    const struct gram *gram = make_grams(l, all, count, &grams);
    struct pair *pair = make_pairs(gram, grams, &pairs);
    for (size_t i = 0, end; i < pairs; i = end) {
        for (end = i; end < pairs && by_pair(&pair[end], &pair[i]) == 0; end++) {}
        check_pair(l, &all[pair[i].late], &all[pair[i].early], (uint32_t)(end - i));
    }
    free(pair);
}

// ---- the same beginning

static int by_opening(const void *a, const void *b)
{
    const struct gram *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->text < y->text ? -1 : 1;
}

static void check_openings(struct linter *l, const struct words *all, uint32_t count)
{
    struct gram *opening = arena_array(l->arena, count, sizeof *opening);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *end = skip_words(all[i].text, FCT_OPENING_WORDS);
        if (all[i].count < FCT_OPENING_WORDS) continue;
        opening[n].text = i;
        opening[n++].hash = hash_bytes(all[i].text, (size_t)(end - all[i].text)) + all[i].field;
    }
    if (n) qsort(opening, n, sizeof *opening, by_opening);
    for (uint32_t i = 0, first = 0; i < n; i++) {
        if (opening[i].hash != opening[first].hash) first = i;
        if (i != first + FCT_OPENINGS_MOST) continue;
        const struct words *w = &all[opening[i].text];
        const int bytes = (int)(skip_words(w->text, FCT_OPENING_WORDS) - w->text);
        find(l, w->pattern, w->field,
             arena_printf(l->arena, "\"%.*s\", the beginning of %d others", bytes, w->text,
                          FCT_OPENINGS_MOST),
             arena_printf(l->arena, "one of at most %d", FCT_OPENINGS_MOST));
    }
}

// ---- domains

static struct fct_domain_count *domain_of(struct fct_lint_report *r, const struct fct_pattern *p)
{
    for (uint32_t i = 0; i < r->domains; i++)
        if (strcmp(r->domain[i].name, p->field[FCT_DOMAIN]) == 0) return &r->domain[i];
    r->domain[r->domains] = (struct fct_domain_count){.name = p->field[FCT_DOMAIN],
                                                      .file = p->file};
    return &r->domain[r->domains++];
}

static void count_domains(struct linter *l)
{
    struct fct_lint_report *r = l->report;
    r->domain = arena_array(l->arena, l->patterns.count, sizeof *r->domain);
    r->patterns = l->patterns.count;
    for (uint64_t i = 0; i < l->patterns.count; i++) {
        const struct fct_pattern *p = &l->patterns.pattern[i];
        struct fct_domain_count *d = domain_of(r, p);
        d->patterns++;
        if (p->file == d->file) d->line = p->line;
        for (uint32_t f = 0; f < FCT_FIELDS; f++) d->bytes[f] += strlen(p->field[f]);
    }
}

static void check_balance(struct linter *l)
{
    const struct fct_lint_report *r = l->report;
    const struct fct_domain_count *largest = r->domain;
    for (uint32_t i = 0; i < r->domains; i++)
        if (r->domain[i].patterns > largest->patterns) largest = &r->domain[i];
    for (uint32_t i = 0; i < r->domains; i++) {
        const struct fct_domain_count *d = &r->domain[i];
        if (d->patterns * FCT_BALANCE_PERCENT >= largest->patterns * 100) continue;
        const struct fct_pattern at = {.file = d->file, .line = d->line};
        find(l, &at, FCT_DOMAIN,
             arena_printf(l->arena, "%llu patterns of %s beside %llu of %s",
                          (unsigned long long)d->patterns, d->name,
                          (unsigned long long)largest->patterns, largest->name),
             arena_printf(l->arena, "the largest at most %d%% of each", FCT_BALANCE_PERCENT));
    }
}

bool fct_lint(const char *const *path, int path_count, struct arena *arena,
              fct_fault_fn *finding, void *user, struct fct_lint_report *out)
{
    struct linter l = {.arena = arena, .finding = finding, .user = user, .report = out};
    uint32_t texts, names;
    *out = (struct fct_lint_report){0};
    for (int i = 0; i < path_count; i++)
        if (!fct_read_told(path[i], arena, tell, &l, &l.patterns)) return false;
    check_patterns(&l);
    struct words *text = gather(&l, true, &texts), *name = gather(&l, false, &names);
    check_equal(&l, name, names, "a name of its own");
    check_equal(&l, text, texts, "a text of its own");
    check_near(&l, text, texts);
    check_openings(&l, text, texts);
    count_domains(&l);
    check_balance(&l);
    return true;
}
