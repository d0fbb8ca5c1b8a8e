// SPDX-License-Identifier: MIT
// The rules between the keys of a router, for all layers or for one: what each router_type needs,
// what it excludes, and what follows. A resolved router read back gives the same.
#include <math.h>

#include "src/base.h"
#include "src/config_fields.h"
#include "src/config_reader.h"

static const char *type_name(const struct config_router *router)
{
    return config_fields[config_field_find("router_type")].names[router->type];
}

static bool takes_few(const struct config_router *router) // a variable number of experts
{
    return router->type == CONFIG_ROUTER_THRESHOLD || router->type == CONFIG_ROUTER_TOP_P ||
           router->type == CONFIG_ROUTER_DYNAMIC || router->type == CONFIG_ROUTER_HIERARCHICAL;
}

// Most probabilities that can be above a threshold: fewer than its inverse.
static uint32_t most_above(const struct config *c, const struct config_router *router)
{
    if (router->sigmoid || router->threshold <= 0) return c->num_experts;
    const double most = ceil(1 / router->threshold) - 1;
    return most < c->num_experts ? max_u32((uint32_t)most, 1) : c->num_experts;
}

static uint32_t default_top_k(const struct config *c, const struct config_router *router)
{
    switch (router->type) {
    case CONFIG_ROUTER_THRESHOLD: return most_above(c, router);
    case CONFIG_ROUTER_TOP_P: case CONFIG_ROUTER_DENSE: return c->num_experts;
    case CONFIG_ROUTER_EXPERT_CHOICE: return c->num_experts;
    case CONFIG_ROUTER_DYNAMIC: return min_u32(4, c->num_experts);
    case CONFIG_ROUTER_SWITCH: case CONFIG_ROUTER_STRAIGHT_THROUGH: return 1;
    case CONFIG_ROUTER_HASH: return 1;
    case CONFIG_ROUTER_HIERARCHICAL:
        return router->domains_per_tok * min_u32(2, c->num_experts / router->n_domains);
    case CONFIG_ROUTER_TOPK: case CONFIG_ROUTER_GROUP_LIMITED: case CONFIG_ROUTER_SIGMOID_BIAS:
    case CONFIG_ROUTER_NOISY_TOPK: break;
    }
    return min_u32(2, c->num_experts);
}

static bool resolve_count(struct reader *r, struct config_router *router)
{
    const struct config *c = r->config;
    const bool one = router->type == CONFIG_ROUTER_SWITCH ||
                     router->type == CONFIG_ROUTER_STRAIGHT_THROUGH,
               all = router->type == CONFIG_ROUTER_DENSE ||
                     router->type == CONFIG_ROUTER_EXPERT_CHOICE,
               said = given(r, "num_experts_per_tok");
    if (!said && (one || all || !router->top_k)) router->top_k = default_top_k(c, router);
    if (!router->top_k || router->top_k > c->num_experts)
        return refuse(r, "num_experts_per_tok", "1 to %u, num_experts", c->num_experts);
    if (one && router->top_k != 1)
        return refuse(r, "num_experts_per_tok", "1 for router_type %s", type_name(router));
    if (all && router->top_k != c->num_experts)
        return refuse(r, "num_experts_per_tok", "num_experts, %u, for router_type %s",
                      c->num_experts, type_name(router));
    if (router->type == CONFIG_ROUTER_DYNAMIC && !router->min_k) router->min_k = 1;
    if (router->min_k && !takes_few(router))
        return refuse(r, "min_experts_per_tok",
                      "0, or router_type threshold, top_p, dynamic or hierarchical");
    if (router->min_k > router->top_k)
        return refuse(r, "min_experts_per_tok", "at most num_experts_per_tok, %u", router->top_k);
    return true;
}

static bool resolve_scores(struct reader *r, struct config_router *router)
{
    const char *const name = type_name(router);
    const bool bias = router->type == CONFIG_ROUTER_SIGMOID_BIAS;
    if (bias && given(r, "scoring_func") && !router->sigmoid)
        return refuse(r, "scoring_func", "\"sigmoid\" for router_type %s", name);
    router->sigmoid |= bias;
    if (router->sigmoid &&
        (router->type == CONFIG_ROUTER_TOP_P || router->type == CONFIG_ROUTER_DYNAMIC ||
         router->type == CONFIG_ROUTER_HIERARCHICAL))
        return refuse(r, "scoring_func", "\"softmax\" for router_type %s", name);
    if (router->sigmoid && router->z_coef > 0)
        return refuse(r, "router_z_loss_coef",
                      "0 with scoring_func sigmoid, which has no logsumexp");
    const bool divides = bias || router->type == CONFIG_ROUTER_THRESHOLD ||
                         router->type == CONFIG_ROUTER_NOISY_TOPK,
               never = router->type == CONFIG_ROUTER_SWITCH ||
                       router->type == CONFIG_ROUTER_STRAIGHT_THROUGH ||
                       router->type == CONFIG_ROUTER_EXPERT_CHOICE;
    if (divides && given(r, "norm_topk_prob") && !router->norm_topk_prob)
        return refuse(r, "norm_topk_prob", "true for router_type %s", name);
    if (never && given(r, "norm_topk_prob") && router->norm_topk_prob)
        return refuse(r, "norm_topk_prob", "false for router_type %s: its gate is the probability",
                      name);
    router->norm_topk_prob = (router->norm_topk_prob || divides) && !never;
    return true;
}

static bool resolve_threshold(struct reader *r, const struct config_router *router)
{
    const struct config *c = r->config;
    if (router->type != CONFIG_ROUTER_THRESHOLD || router->sigmoid || router->min_k) return true;
    if (router->threshold * c->num_experts < 1) return true;
    return refuse(r, "router_threshold",
                  "under 1/num_experts, %g: equal probabilities would send no token anywhere; or "
                  "min_experts_per_tok 1", 1.0 / c->num_experts);
}

static bool resolve_groups(struct reader *r, const struct config_router *router)
{
    const struct config *c = r->config;
    const bool may = router->type == CONFIG_ROUTER_GROUP_LIMITED ||
                     router->type == CONFIG_ROUTER_SIGMOID_BIAS;
    const uint32_t groups = router->n_group;
    if (groups > 1 && !may)
        return refuse(r, "n_group", "1, or router_type group_limited or sigmoid_bias");
    if (router->type == CONFIG_ROUTER_GROUP_LIMITED && groups < 2)
        return refuse(r, "n_group", "2 or more for router_type group_limited");
    if (c->num_experts % groups)
        return refuse(r, "n_group", "a divisor of num_experts, %u", c->num_experts);
    if (router->topk_group > groups)
        return refuse(r, "topk_group", "at most n_group, %u", groups);
    const uint32_t open = router->topk_group * (c->num_experts / groups);
    if (router->top_k > open && may)
        return refuse(r, "num_experts_per_tok", "at most the %u experts of topk_group groups",
                      open);
    return true;
}

static bool resolve_body(struct reader *r, struct config_router *router)
{
    const bool mlp = router->body == CONFIG_BODY_MLP;
    if (mlp && !router->hidden_size) router->hidden_size = r->config->hidden_size;
    if (!mlp && router->hidden_size)
        return refuse(r, "router_hidden_size", "0, or router_body mlp");
    if (router->body == CONFIG_BODY_COSINE && r->config->router_bias)
        return refuse(r, "router_bias", "false with router_body cosine, which has angles alone");
    return true;
}

// Domains are of equal size, and so are the shares of a token's picks. Before resolve_count.
static bool resolve_domains(struct reader *r, struct config_router *router)
{
    const struct config *c = r->config;
    const bool two_levels = router->type == CONFIG_ROUTER_HIERARCHICAL;
    if (!two_levels && router->n_domains)
        return refuse(r, "n_domains", "0, or router_type hierarchical");
    if (!two_levels && router->domains_per_tok)
        return refuse(r, "domains_per_tok", "0, or router_type hierarchical");
    if (!two_levels) return true;
    if (router->n_domains < 2 || c->num_experts % router->n_domains)
        return refuse(r, "n_domains", "2 or more, and a divisor of num_experts, %u",
                      c->num_experts);
    if (!router->domains_per_tok) router->domains_per_tok = 1;
    if (router->domains_per_tok > router->n_domains)
        return refuse(r, "domains_per_tok", "1 to %u, n_domains", router->n_domains);
    if (router->importance_coef != 0)
        return refuse(r, "router_importance_coef", "0 for router_type hierarchical");
    if (router->z_square_coef != 0)
        return refuse(r, "router_z_square_coef", "0 for router_type hierarchical");
    return true;
}

// What each of a token's domains gives: after resolve_count.
static bool resolve_shares(struct reader *r, const struct config_router *router)
{
    const uint32_t domains = router->domains_per_tok;
    if (!domains) return true;
    const uint32_t most = domains * (r->config->num_experts / router->n_domains);
    if (router->top_k % domains || router->top_k > most)
        return refuse(r, "num_experts_per_tok", "a multiple of domains_per_tok, %u, up to %u",
                      domains, most);
    if (router->min_k % domains)
        return refuse(r, "min_experts_per_tok", "a multiple of domains_per_tok, %u", domains);
    return true;
}

// A hash has no logits: nothing to divide, to shake or to charge.
static bool resolve_hash(struct reader *r, const struct config_router *router)
{
    if (router->type != CONFIG_ROUTER_HASH) return true;
    const struct { const char *key; bool on; } none[] = {
        {"router_learn_temperature", router->learn_temperature},
        {"router_body", router->body != CONFIG_BODY_LINEAR},
        {"router_bias", r->config->router_bias},
        {"router_jitter_noise", router->jitter != 0},
        {"scoring_func", router->sigmoid},
        {"router_z_loss_coef", router->z_coef != 0},
        {"router_z_square_coef", router->z_square_coef != 0},
    };
    for (size_t i = 0; i < COUNT_OF(none); i++)
        if (none[i].on)
            return refuse(r, none[i].key, "nothing for router_type hash, which has no logits");
    return true;
}

// Expert choice has no other: by default two experts a token on average, the paper's EC-CF2.
static bool resolve_choice(struct reader *r, struct config_router *router)
{
    const struct config *c = r->config;
    if (!given(r, "capacity_factor") && router->capacity_factor == 0)
        router->capacity_factor = min_u32(2, c->num_experts);
    if (!(router->capacity_factor > 0 && router->capacity_factor <= c->num_experts))
        return refuse(r, "capacity_factor", "above 0 and at most num_experts, %u, for router_type "
                      "expert_choice: experts a token takes on average", c->num_experts);
    return true;
}

static bool resolve_capacity(struct reader *r, struct config_router *router)
{
    if (router->type == CONFIG_ROUTER_EXPERT_CHOICE) return resolve_choice(r, router);
    if (router->capacity_factor == 0 || router->capacity_factor >= 1) return true;
    return refuse(r, "capacity_factor", "0 (no token is dropped) or 1 and more: under 1 even "
                  "equal loads would be cut");
}

// The balance loss is on unless something else balances the loads.
static void resolve_balance(const struct reader *r, struct config_router *router)
{
    const char *const key = "router_aux_loss_coef";
    const bool balanced = router->type == CONFIG_ROUTER_SIGMOID_BIAS ||
                          router->type == CONFIG_ROUTER_EXPERT_CHOICE;
    if (given(r, key) || (r->outer && given(r->outer, key))) return;
    router->balance_coef = balanced ? 0 : config_defaults.router.balance_coef;
}

// What the model says of domains, and of an mlp's width, is not for a layer without them.
static void forget_domains(const struct reader *r, struct config_router *router)
{
    if (!r->outer) return;
    if (router->body != CONFIG_BODY_MLP && !given(r, "router_hidden_size")) router->hidden_size = 0;
    if (router->type == CONFIG_ROUTER_HIERARCHICAL) return;
    if (!given(r, "n_domains")) router->n_domains = 0;
    if (!given(r, "domains_per_tok")) router->domains_per_tok = 0;
    if (!takes_few(router) && !given(r, "min_experts_per_tok")) router->min_k = 0;
}

// What expert choice of the model says of picks and capacity is not for a layer without it.
static void forget_choice(const struct reader *r, struct config_router *router)
{
    if (!r->outer || r->config->router.type != CONFIG_ROUTER_EXPERT_CHOICE ||
        router->type == CONFIG_ROUTER_EXPERT_CHOICE)
        return;
    if (!given(r, "capacity_factor")) router->capacity_factor = 0;
    if (!given(r, "num_experts_per_tok")) router->top_k = 0;
}

bool resolve_router(struct reader *r, struct config_router *router)
{
    const struct config *c = r->config;
    const bool mixtral = c->family == CONFIG_MIXTRAL;
    if (!c->num_experts) return true;
    if (mixtral && given(r, "norm_topk_prob") && !router->norm_topk_prob)
        return refuse(r, "norm_topk_prob", "true for model_type mixtral, or model_type vkmoe");
    router->norm_topk_prob |= mixtral;
    if (c->family != CONFIG_VKMOE && router->temperature != 1)
        return refuse(r, "router_temperature", "1 for model_type %s, or model_type vkmoe",
                      config_family_name(c->family));
    forget_domains(r, router);
    forget_choice(r, router);
    resolve_balance(r, router);
    return resolve_body(r, router) && resolve_scores(r, router) &&
           resolve_domains(r, router) && resolve_count(r, router) && resolve_shares(r, router) &&
           resolve_threshold(r, router) && resolve_groups(r, router) &&
           resolve_hash(r, router) && resolve_capacity(r, router);
}

bool config_leaks(const struct config *config)
{
    for (uint32_t i = 0; i < config->num_hidden_layers; i++)
        if (config->moe_layer[i] &&
            config->layer_router[i].type == CONFIG_ROUTER_EXPERT_CHOICE)
            return true;
    return false;
}
