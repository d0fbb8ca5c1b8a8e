// SPDX-License-Identifier: MIT
// Examples of the toy tasks, from the counter-based generator: see data_toy.h.
#include "src/data_toy.h"

#include <stdio.h>
#include <string.h>

#include "runtime/log.h"

enum { LEAST = 4, MOST = 12 }; // symbols of an input

// random numbers of one example, in order
struct dice { uint64_t stream, index; };

static uint32_t roll(struct dice *dice, uint32_t bound)
{
    return (uint32_t)rng_below(0, dice->stream, dice->index++, bound);
}

// letters a .. h
static uint32_t letters(struct dice *dice, char *in)
{
    const uint32_t length = LEAST + roll(dice, MOST - LEAST + 1);
    for (uint32_t i = 0; i < length; i++) in[i] = (char)('a' + roll(dice, 8));
    return length;
}

static void make_copy(struct dice *dice, char *in, char *out)
{
    memcpy(out, in, letters(dice, in));
}

static void make_reverse(struct dice *dice, char *in, char *out)
{
    const uint32_t length = letters(dice, in);
    for (uint32_t i = 0; i < length; i++) out[i] = in[length - 1 - i];
}

static void make_sort(struct dice *dice, char *in, char *out)
{
    const uint32_t length = letters(dice, in);
    uint32_t written = 0;
    for (char letter = 'a'; letter <= 'h'; letter++)
        for (uint32_t i = 0; i < length; i++)
            if (in[i] == letter) out[written++] = letter;
}

// the last digit of the sum of digits
static void make_sum(struct dice *dice, char *in, char *out)
{
    const uint32_t length = LEAST + roll(dice, MOST - LEAST + 1);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < length; i++) {
        const uint32_t digit = roll(dice, 10);
        in[i] = (char)('0' + digit);
        sum += digit;
    }
    out[0] = (char)('0' + sum % 10);
}

// What closes the open brackets of three kinds, innermost first.
static void make_brackets(struct dice *dice, char *in, char *out)
{
    static const char opens[] = "([{", closes[] = ")]}";
    char stack[MOST];
    const uint32_t length = LEAST + roll(dice, MOST - LEAST + 1);
    uint32_t depth = 0;
    for (uint32_t i = 0; i < length; i++) {
        const bool close = depth > 0 && (i + 1 == length ? depth > 1 : roll(dice, 5) < 2);
        if (close) in[i] = stack[--depth];
        else {
            const uint32_t kind = roll(dice, 3);
            in[i] = opens[kind];
            stack[depth++] = closes[kind];
        }
    }
    for (uint32_t i = 0; i < depth; i++) out[i] = stack[depth - 1 - i];
}

static const struct {
    const char    *name;
    enum data_kind kind;
    void (*make)(struct dice *dice, char *in, char *out); // both are zeroed
} tasks[] = {
    {"copy", KIND_TOY_COPY, make_copy},
    {"reverse", KIND_TOY_REVERSE, make_reverse},
    {"sort", KIND_TOY_SORT, make_sort},
    {"sum", KIND_TOY_SUM, make_sum},
    {"brackets", KIND_TOY_BRACKETS, make_brackets},
};

bool toy_is(const char *path) { return strncmp(path, "toy:", 4) == 0; }

static void generate(size_t task, struct arena *arena,
                     void (*add)(void *user, enum data_kind kind, const char *text), void *user)
{
    for (uint32_t i = 0; i < TOY_EXAMPLES; i++) {
        struct dice dice = {hash_string(tasks[task].name) + i, 0};
        char in[MOST + 1] = "", out[MOST + 1] = "";
        tasks[task].make(&dice, in, out);
        add(user, tasks[task].kind, arena_printf(arena, "%s %s=%s\n", tasks[task].name, in, out));
    }
}

static bool refuse(const char *path, const char *name, size_t length)
{
    char known[100] = "";
    for (size_t i = 0; i < COUNT_OF(tasks); i++) {
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "toy:%s, ", tasks[i].name);
    }
    log_error("%.60s: no toy task \"%.*s\"; there are %sand toy:all", path,
              (int)min_u64(length, 30), name, known);
    return false;
}

bool toy_generate(const char *path, struct arena *arena,
                  void (*add)(void *user, enum data_kind kind, const char *text), void *user)
{
    for (const char *at = path; *at;) {
        const char *name = toy_is(at) ? at + 4 : at;
        const size_t length = strcspn(name, ",");
        const bool all = length == 3 && memcmp(name, "all", 3) == 0;
        bool found = false;
        for (size_t i = 0; i < COUNT_OF(tasks); i++) {
            const bool same =
                strlen(tasks[i].name) == length && memcmp(tasks[i].name, name, length) == 0;
            if (!all && !same) continue;
            generate(i, arena, add, user);
            found = true;
        }
        if (!found) return refuse(path, name, length);
        at = name + length + (name[length] == ',');
    }
    return true;
}

// ---- ids

bool ids_is(const char *path) { return strncmp(path, "ids:", 4) == 0; }

bool ids_generate(const char *path, uint32_t vocab_size, struct arena *arena,
                  void (*add)(void *user, const uint32_t *ids), void *user)
{
    if (strcmp(path, "ids:random") != 0) {
        log_error("%.60s: no such ids; there is ids:random", path);
        return false;
    }
    const uint64_t key = hash_string(path);
    for (uint64_t d = 0; d < IDS_DOCUMENTS; d++) {
        uint32_t *ids = arena_array(arena, IDS_LENGTH, sizeof *ids);
        for (uint64_t i = 0; i < IDS_LENGTH; i++)
            ids[i] = (uint32_t)rng_below(0, key, d * IDS_LENGTH + i, vocab_size);
        add(user, ids);
    }
    return true;
}
