// SPDX-License-Identifier: MIT
// curriculum_domains: what is said of single domains of the data. Whether the data has a domain of
// that name is known where the data is (train_curriculum.c).
#include <stdio.h>
#include <string.h>

#include "src/base.h"
#include "src/config_fields.h"
#include "src/config_reader.h"

static const char key[] = "curriculum_domains";

static bool read_values(struct reader *r, const cJSON *object, struct config_domain *domain)
{
    for (const cJSON *item = object->child; item; item = item->next) {
        const bool held_out = strcmp(item->string, "hold_out") == 0;
        if (held_out && cJSON_IsBool(item)) {
            domain->held_out = cJSON_IsTrue(item);
        } else if (strcmp(item->string, "bonus") == 0 && cJSON_IsNumber(item) &&
                   item->valuedouble >= 0 && item->valuedouble <= 1) {
            domain->bonus = item->valuedouble;
        } else {
            return refuse(r, key, "\"hold_out\": true or false and \"bonus\": 0 to 1 of \"%s\" "
                                  "(not \"%.40s\")", domain->name, item->string);
        }
    }
    return true;
}

static bool is_plain(const char *name)
{
    size_t length = 0;
    while ((uint8_t)name[length] >= ' ') length++;
    return length > 0 && !name[length] && length < sizeof(((struct config_domain *)NULL)->name);
}

static bool read_domain(struct reader *r, const cJSON *object, struct config_domain *domain)
{
    const char *name = object->string;
    if (!is_plain(name))
        return refuse(r, key, "names of 1 to %zu bytes, no control characters",
                      sizeof domain->name - 1);
    if (!cJSON_IsObject(object))
        return refuse(r, key, "an object for each domain, {\"hold_out\": true}");
    *domain = (struct config_domain){0};
    snprintf(domain->name, sizeof domain->name, "%s", name);
    return read_values(r, object, domain);
}

bool resolve_curriculum(struct reader *r)
{
    struct config *c = r->config;
    if (!given(r, key)) return true;
    const cJSON *domains = r->value[config_field_find(key)];
    if (!cJSON_IsObject(domains) || cJSON_GetArraySize(domains) > CONFIG_MAX_DOMAINS)
        return refuse(r, key, "an object of at most %d domains, {\"NAME\": {\"hold_out\": true, "
                              "\"bonus\": 0.5}}", CONFIG_MAX_DOMAINS);
    for (const cJSON *item = domains->child; item; item = item->next)
        if (!read_domain(r, item, &c->domain[c->domain_count++])) return false;
    if (c->domain_count && c->curriculum == CONFIG_NO_CURRICULUM)
        return refuse(r, key, "a curriculum beside it: fixed, random, interleaved or dopamine");
    return true;
}
