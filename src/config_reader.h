// SPDX-License-Identifier: MIT
// What the rules between keys (config.c, config_router.c) see of a file that is being read: its
// values by row of config_fields, and how to refuse one.
#pragma once

#include <cjson/cJSON.h>

#include "src/config.h"

enum { CONFIG_MAX_FIELDS = 256 };

struct reader {
    struct config *config;
    const char    *name;                       // the file, in messages
    const cJSON   *value[CONFIG_MAX_FIELDS];   // by row; NULL: not given
    const char    *written[CONFIG_MAX_FIELDS]; // the key as it was given (an alias, perhaps)
    bool           set[CONFIG_MAX_FIELDS];     // by --set
    const struct reader *outer; // of one layer: the model's, else NULL
    size_t         shift; // from the members that all layers share to those of one layer
};

// "config tiny.json: num_experts_per_tok: found 9, wanted ..."; returns false.
bool refuse(const struct reader *r, const char *key, const char *wanted, ...)
    __attribute__((format(printf, 3, 4)));
bool given(const struct reader *r, const char *key); // and not null

// config_optimizer.c: param_groups, after the keys that they default to.
bool resolve_param_groups(struct reader *r);

// config_curriculum.c: curriculum_domains.
bool resolve_curriculum(struct reader *r);

// config_router.c: the rules of one router's keys; what follows from them is filled in.
bool resolve_router(struct reader *r, struct config_router *router);
