// SPDX-License-Identifier: MIT
// param_groups: which tensors are updated by which optimizer, how fast. Whether a pattern matches
// anything is known where the tensors are (model.c). What goes by the clock. And which
// mean of the weights is kept.
#include <stdio.h>
#include <string.h>

#include "src/base.h"
#include "src/config_fields.h"
#include "src/config_reader.h"

static bool is_between(const cJSON *item, double least, double most)
{
    return cJSON_IsNumber(item) && item->valuedouble >= least && item->valuedouble <= most;
}

static bool read_match(struct reader *r, const cJSON *item, struct config_group *group)
{
    const char *text = cJSON_GetStringValue(item);
    if (!text || !*text || strlen(text) >= sizeof group->match)
        return refuse(r, "param_groups", "a \"match\" of 1 to %zu characters in each object",
                      sizeof group->match - 1);
    for (const char *at = text; *at; at++)
        if (*at < ' ' || *at > '~')
            return refuse(r, "param_groups", "plain characters in a \"match\"");
    snprintf(group->match, sizeof group->match, "%s", text);
    return true;
}

static bool read_optim(struct reader *r, const cJSON *item, struct config_group *group)
{
    const char *const *names = config_fields[config_field_find("optim")].names;
    for (int i = 0; item && names[i]; i++)
        if (cJSON_IsString(item) && strcmp(item->valuestring, names[i]) == 0) {
            group->optim = (enum config_optim)i;
            return true;
        }
    return !item || refuse(r, "param_groups", "\"adamw\", \"muon\", \"sgd\" or \"adamw_8bit\" as "
                                              "the \"optim\" of \"%s\"",
                           group->match);
}

// "betas" are AdamW's, which takes what is not for muon too; "momentum" is of the others.
static bool read_betas(struct reader *r, const cJSON *object, struct config_group *group)
{
    const cJSON *betas = cJSON_GetObjectItemCaseSensitive(object, "betas"),
                *momentum = cJSON_GetObjectItemCaseSensitive(object, "momentum");
    const cJSON *first = cJSON_GetArrayItem(betas, 0), *second = cJSON_GetArrayItem(betas, 1);
    if (momentum && !is_between(momentum, 0, 0.999999))
        return refuse(r, "param_groups", "a momentum from 0 to below 1 of \"%s\"", group->match);
    if (betas && (!cJSON_IsArray(betas) || cJSON_GetArraySize(betas) != 2 ||
                  !is_between(first, 0, 0.999999) || !is_between(second, 0, 0.9999999)))
        return refuse(r, "param_groups", "two numbers from 0 to below 1 as betas of \"%s\"",
                      group->match);
    if (momentum) group->momentum = momentum->valuedouble;
    if (betas) group->beta1 = first->valuedouble, group->beta2 = second->valuedouble;
    return true;
}

static bool check_keys(struct reader *r, const cJSON *object)
{
    static const char *const keys[] = {"match", "optim", "learning_rate", "weight_decay", "betas",
                                       "momentum"};
    for (const cJSON *item = object->child; item; item = item->next) {
        size_t at = 0;
        while (at < COUNT_OF(keys) && strcmp(keys[at], item->string) != 0) at++;
        if (at == COUNT_OF(keys))
            return refuse(r, "param_groups",
                          "match, optim, learning_rate, weight_decay, betas or momentum (not "
                          "\"%.40s\")",
                          item->string);
    }
    return true;
}

static bool read_group(struct reader *r, const cJSON *object, struct config_group *group)
{
    const struct config *c = r->config;
    *group = (struct config_group){
        .optim = c->optim, .learning_rate = c->learning_rate, .weight_decay = -1, .momentum = -1,
        .beta1 = c->adam_beta1, .beta2 = c->adam_beta2};
    if (!cJSON_IsObject(object)) return refuse(r, "param_groups", "a list of objects");
    const cJSON *rate = cJSON_GetObjectItemCaseSensitive(object, "learning_rate"),
                *decay = cJSON_GetObjectItemCaseSensitive(object, "weight_decay");
    if (!check_keys(r, object) ||
        !read_match(r, cJSON_GetObjectItemCaseSensitive(object, "match"), group) ||
        !read_optim(r, cJSON_GetObjectItemCaseSensitive(object, "optim"), group))
        return false;
    if (rate && (!is_between(rate, 0, 10) || c->learning_rate <= 0))
        return refuse(r, "param_groups",
                      "a learning_rate from 0 to 10 of \"%s\", and the key learning_rate above 0",
                      group->match);
    if (decay && !is_between(decay, 0, 10))
        return refuse(r, "param_groups", "a weight_decay from 0 to 10 of \"%s\"", group->match);
    if (rate) group->learning_rate = rate->valuedouble;
    if (decay) group->weight_decay = decay->valuedouble;
    return read_betas(r, object, group);
}

static bool check_clock(struct reader *r)
{
    const struct config *c = r->config;
    if (c->warmdown_seconds > 0 && c->warmdown_steps)
        return refuse(r, "warmdown_steps", "0, for there is warmdown_seconds, %g",
                      c->warmdown_seconds);
    if ((c->warmdown_seconds > 0 || c->warmdown_steps) && !(c->max_train_seconds > 0))
        return refuse(r, "max_train_seconds",
                      "more than 0 where there is warmdown_%s (by steps alone: lr_scheduler_type "
                      "constant_with_decay)",
                      c->warmdown_steps ? "steps" : "seconds");
    return true;
}

static bool check_average(struct reader *r)
{
    const struct config *c = r->config;
    if (c->ema_decay > 0 && c->swa_every)
        return refuse(r, "swa_every", "0, for there is ema_decay, %g, and one mean is kept",
                      c->ema_decay);
    if (c->ema_every > 1 && !(c->ema_decay > 0))
        return refuse(r, "ema_decay", "more than 0 and less than 1 where there is ema_every");
    if (c->average_start < 1 && !config_averages(c))
        return refuse(r, "average_start", "1 where there is neither ema_decay nor swa_every");
    return true;
}

// Weights in bf16 alone: what has no kernel that rounds to it.
static bool check_masters(struct reader *r)
{
    const struct config *c = r->config;
    bool others = c->optim == CONFIG_MUON || c->optim == CONFIG_SGD;
    for (uint32_t i = 0; i < c->group_count; i++)
        others |= c->group[i].optim == CONFIG_MUON || c->group[i].optim == CONFIG_SGD;
    if (c->master_weights)
        return c->stochastic_rounding ||
               refuse(r, "stochastic_rounding", "true where master_weights is true: masters are "
                                                "not rounded");
    if (c->torch_dtype != DTYPE_BF16)
        return refuse(r, "master_weights", "true, or torch_dtype bfloat16");
    if (others)
        return refuse(r, "master_weights", "true, or optim adamw or adamw_8bit for all weights");
    if (config_averages(c))
        return refuse(r, "master_weights", "true where a mean of the weights is kept (ema_decay, "
                                           "swa_every)");
    return true;
}

bool config_averages(const struct config *config)
{
    return config->ema_decay > 0 || config->swa_every > 0;
}

bool resolve_param_groups(struct reader *r)
{
    struct config *c = r->config;
    if (!check_clock(r) || !check_average(r)) return false;
    const cJSON *list =
        given(r, "param_groups") ? r->value[config_field_find("param_groups")] : NULL;
    if (list && (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > CONFIG_MAX_PARAM_GROUPS))
        return refuse(r, "param_groups", "a list of at most %d objects", CONFIG_MAX_PARAM_GROUPS);
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next)
        if (!read_group(r, item, &c->group[c->group_count++])) return false;
    return check_masters(r);
}
