// SPDX-License-Identifier: MIT
// Which kind of numbers a tensor is exported in: parameter-golf PR 660's choice, by patterns of
// names, so that it says something about any model. Its order: vectors and what is small, sensitive
// or read row by row stay f16, feed-forward matrices get 5 bits, attention and hash tables 6, the
// rest 8.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/export.h"

enum { SMALL = 8192, PRUNED_ABOVE = 65536, MOST_RULES = 64, PATTERN_BYTES = 128 };

struct rule { char pattern[PATTERN_BYTES]; enum quant_kind kind; };

static const struct rule defaults[] = {
    {"*bigram*", QUANT_INT6}, {"*trigram*", QUANT_INT6},
    {"*embed*", QUANT_F16},
    {"*.mlp.*", QUANT_INT5},  {"*.block_sparse_moe.*", QUANT_INT5}, {"*.experts.*", QUANT_INT5},
    {"*attn*", QUANT_INT6},
    {"*", QUANT_INT8},
};

static const char *const routers[] = {"*router*", "*.mlp.gate.*", "*.block_sparse_moe.gate.*",
                                      "*shared_expert_gate*"};

struct export_rules { struct rule rule[MOST_RULES]; uint32_t count; };

// `*` is any text, also none; all else is itself.
static bool matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') star = pattern++, from = name;
        else if (*pattern == *name) pattern++, name++;
        else if (star) pattern = star + 1, name = ++from;
        else return false;
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

static bool add_rule(struct export_rules *rules, const char *text, size_t bytes)
{
    char word[PATTERN_BYTES + 16];
    snprintf(word, sizeof word, "%.*s", (int)min_u64(bytes, sizeof word - 1), text);
    char *equal = strrchr(word, '=');
    const int kind = equal ? quant_from_name(equal + 1) : -1;
    if (kind < 0 || equal == word || equal - word >= PATTERN_BYTES) {
        log_error("--bits: found \"%s\", wanted PATTERN=KIND with a kind of int2 to int8, f16 or "
                  "f32, e.g. *.mlp.*=int4", word);
        return false;
    }
    if (rules->count == MOST_RULES) {
        log_error("--bits: more than %d patterns", MOST_RULES);
        return false;
    }
    struct rule *rule = &rules->rule[rules->count++];
    *equal = '\0';
    snprintf(rule->pattern, sizeof rule->pattern, "%.*s", PATTERN_BYTES - 1, word);
    rule->kind = (enum quant_kind)kind;
    return true;
}

struct export_rules *export_rules_create(const char *map)
{
    struct export_rules *rules = calloc(1, sizeof *rules);
    for (const char *at = map, *end; at; at = *end ? end + 1 : NULL) {
        end = strchr(at, ',') ? strchr(at, ',') : at + strlen(at);
        if (!add_rule(rules, at, (size_t)(end - at))) {
            export_rules_destroy(&rules);
            break;
        }
    }
    return rules;
}

void export_rules_destroy(struct export_rules **rules)
{
    free(*rules);
    *rules = NULL;
}

static bool is_router(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(routers); i++)
        if (matches(routers[i], name)) return true;
    return false;
}

// PR 660 keeps the keys of the last layer in f16.
static bool is_last_key(const char *name, uint32_t layers)
{
    char last[64];
    snprintf(last, sizeof last, "*.layers.%u.*k_proj.weight", layers - 1);
    return layers > 0 && matches(last, name);
}

enum quant_kind export_rules_kind(const struct export_rules *rules, const char *name,
                                  uint32_t rank, uint64_t elements, uint32_t layers)
{
    for (uint32_t i = 0; i < rules->count; i++)
        if (matches(rules->rule[i].pattern, name)) return rules->rule[i].kind;
    if (rank < 2 || elements <= SMALL || is_router(name) || is_last_key(name, layers))
        return QUANT_F16;
    for (size_t i = 0; i < COUNT_OF(defaults); i++)
        if (matches(defaults[i].pattern, name)) return defaults[i].kind;
    return QUANT_INT8;
}

bool export_is_pruned(const char *name, uint32_t rank, uint64_t elements)
{
    return rank == 2 && elements > PRUNED_ABOVE && !is_router(name);
}
