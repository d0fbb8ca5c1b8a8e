// SPDX-License-Identifier: MIT
// Routing from step to step: see routing.h.
#include "src/routing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { PAIRS = 4096, SLOTS = 2 * PAIRS }; // counted a step and layer; slots: a power of two

struct layer_state {
    uint8_t *used;            // a bit an expert
    uint32_t used_count;
    uint32_t collapsed, well; // steps in a row
    bool     told;
};

struct slot { uint64_t pair; uint32_t count; }; // pair: (low << 32 | high) + 1; 0: free

struct routing {
    const struct config *config;
    struct layer_state  *layer;
    uint32_t             layers, experts;
    uint32_t            *top_k;
    struct slot         *slot;
    struct arena        *arena;
};

static size_t used_bytes(const struct routing *r) { return (r->experts + 7) / 8; }

struct routing *routing_create(const struct config *config)
{
    struct arena *arena = arena_create("routing");
    struct routing *r = arena_alloc(arena, sizeof *r);
    *r = (struct routing){.config = config, .experts = config->num_experts, .arena = arena};
    r->layer = arena_array(arena, config->num_hidden_layers, sizeof *r->layer);
    r->top_k = arena_array(arena, config->num_hidden_layers, sizeof *r->top_k);
    r->slot = arena_array(arena, SLOTS, sizeof *r->slot);
    for (uint32_t i = 0; i < config->num_hidden_layers; i++) {
        if (!config->moe_layer[i]) continue;
        r->layer[r->layers].used = arena_alloc(arena, used_bytes(r));
        r->top_k[r->layers++] = config->layer_router[i].top_k;
    }
    return r;
}

void routing_destroy(struct routing **routing)
{
    if (!*routing) return;
    struct arena *arena = (*routing)->arena;
    arena_destroy(&arena);
    *routing = NULL;
}

// ---- experts ever used

static void mark_used(const struct routing *r, struct layer_state *s, const float *counts)
{
    for (uint32_t e = 0; e < r->experts; e++) {
        const uint8_t bit = (uint8_t)(1u << e % 8);
        if (!(counts[e] > 0) || s->used[e / 8] & bit) continue;
        s->used[e / 8] |= bit;
        s->used_count++;
    }
}

// ---- pairs

static void count_pair(struct routing *r, uint32_t a, uint32_t b)
{
    const uint64_t pair = ((uint64_t)min_u32(a, b) << 32 | max_u32(a, b)) + 1;
    uint32_t at = (uint32_t)(pair * 0x9e3779b97f4a7c15u >> 40) & (SLOTS - 1);
    while (r->slot[at].pair && r->slot[at].pair != pair) at = (at + 1) & (SLOTS - 1);
    r->slot[at].pair = pair;
    r->slot[at].count++;
}

static bool comes_before(const struct slot *a, const struct slot *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static void keep_top_pairs(const struct routing *r, uint32_t tokens, struct metrics_layer *out)
{
    struct slot top[METRICS_PAIRS] = {{0}};
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct slot own = r->slot[i];
        for (uint32_t n = 0; own.pair && n < METRICS_PAIRS; n++) {
            if (top[n].pair && !comes_before(&own, &top[n])) continue;
            const struct slot other = top[n];
            top[n] = own, own = other;
        }
    }
    for (out->pairs = 0; out->pairs < METRICS_PAIRS && top[out->pairs].pair; out->pairs++) {
        const uint64_t pair = top[out->pairs].pair - 1;
        out->pair[out->pairs] = (struct metrics_pair){(uint32_t)(pair >> 32), (uint32_t)pair,
                                                      (double)top[out->pairs].count / tokens};
    }
}

static void count_pairs(struct routing *r, const struct routing_step *step,
                        struct metrics_layer *out)
{
    const uint32_t k = r->top_k[step->index], all = k * (k - 1) / 2;
    const uint32_t tokens = all ? min_u32(step->pick_tokens, PAIRS / all) : 0;
    if (!tokens) return;
    memset(r->slot, 0, SLOTS * sizeof *r->slot);
    for (uint32_t t = 0; t < tokens; t++) {
        const uint32_t *own = step->picks + (size_t)t * k;
        for (uint32_t i = 1; i < k; i++)
            for (uint32_t j = 0; j < i; j++)
                if (own[i] < r->experts && own[j] < r->experts) count_pair(r, own[i], own[j]);
    }
    keep_top_pairs(r, tokens, out);
}

// ---- the alarm

// Between even (0) and everything on the same experts (1): the largest share of the tokens, and
// the entropy's distance.
static void collapse_of(const struct metrics_layer *l, double picks, double *share, double *entropy)
{
    const double even = picks / l->experts, least = fmax(log(picks), 0) / log(l->experts);
    *share = (l->max_share * picks - even) / (1 - even);
    *entropy = (l->entropy - least) / (1 - least);
}

static bool is_collapsed(const struct config *c, const struct metrics_layer *l, double picks)
{
    double share, entropy;
    if (l->experts < 2 || picks <= 0 || picks >= l->experts) return false;
    collapse_of(l, picks, &share, &entropy);
    // where tokens take nearly all experts, one that all take is not much above its fair share
    const bool much = l->max_share * l->experts > 1.5;
    return (much && share >= c->alarm_share) || entropy <= c->alarm_entropy;
}

static void watch(struct routing *r, const struct routing_step *step, struct metrics_layer *l)
{
    const struct config *c = r->config;
    struct layer_state *s = &r->layer[step->index];
    const double picks = l->total / step->tokens; // a token
    const bool now = is_collapsed(c, l, picks);
    s->collapsed = now ? s->collapsed + 1 : 0;
    s->well = now ? 0 : s->well + 1;
    if (s->told && s->well >= c->alarm_steps) s->told = false;
    l->alarm = !s->told && c->alarm_steps && s->collapsed >= c->alarm_steps;
    if (!l->alarm) return;
    s->told = true;
    log_warn("layer %u, step %u: routing has collapsed: expert %u takes %.0f %% of the tokens "
             "(even: %.0f %%), entropy of the load %.2f, %u experts idle, %u steps in a row; a "
             "balance loss or a lower learning rate may help",
             l->layer, step->step, l->max_expert, 100 * l->max_share * picks,
             100 * picks / l->experts, l->entropy, l->dead, s->collapsed);
}

void routing_observe(struct routing *r, const struct routing_step *step, struct metrics_layer *l)
{
    struct layer_state *s = &r->layer[step->index];
    mark_used(r, s, l->load);
    l->used = s->used_count;
    count_pairs(r, step, l);
    watch(r, step, l);
}

// ---- in checkpoints

char *routing_print(const struct routing *r)
{
    struct bytes text = {0};
    bytes_printf(&text, "[");
    for (uint32_t i = 0; i < r->layers; i++) {
        const struct layer_state *s = &r->layer[i];
        bytes_printf(&text, "%s{\"used\": \"", i ? ", " : "");
        for (size_t n = 0; n < used_bytes(r); n++) bytes_printf(&text, "%02x", s->used[n]);
        bytes_printf(&text, "\", \"collapsed\": %u, \"well\": %u, \"told\": %s}", s->collapsed,
                     s->well, s->told ? "true" : "false");
    }
    bytes_printf(&text, "]");
    return (char *)text.data;
}

static uint32_t number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const bool good = cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 4e9;
    return good ? (uint32_t)item->valuedouble : 0;
}

static bool parse_layer(const struct routing *r, struct layer_state *s, const cJSON *item)
{
    const char *used = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "used"));
    if (!used || strlen(used) != 2 * used_bytes(r)) return false;
    if (strspn(used, "0123456789abcdef") != strlen(used)) return false;
    s->used_count = 0;
    for (size_t n = 0; n < used_bytes(r); n++) {
        const char hex[] = {used[2 * n], used[2 * n + 1], 0};
        s->used[n] = (uint8_t)strtoul(hex, NULL, 16);
        s->used_count += (uint32_t)__builtin_popcount(s->used[n]);
    }
    s->collapsed = number(item, "collapsed");
    s->well = number(item, "well");
    s->told = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "told"));
    return true;
}

bool routing_parse(struct routing *r, const cJSON *json)
{
    const cJSON *item;
    uint32_t index = 0;
    if (!cJSON_IsArray(json) || cJSON_GetArraySize(json) != (int)r->layers) return false;
    cJSON_ArrayForEach(item, json) if (!parse_layer(r, &r->layer[index++], item)) return false;
    return true;
}
