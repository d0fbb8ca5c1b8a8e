// SPDX-License-Identifier: MIT
// The table of configuration keys, shared by the reader (config.c) and the printer
// (config_print.c): where a key's value lives in struct config, what it may be, and what is only
// accepted because Hugging Face's files have it.
#pragma once

#include <stddef.h>

#include "src/config.h"

enum config_kind {
    CONFIG_U32, CONFIG_U64, CONFIG_F64, CONFIG_BOOL,
    CONFIG_CHOICE,  // one of `names`, stored as its index in an enum
    CONFIG_TOKEN,   // a token id or null (-1)
    CONFIG_SPECIAL, // resolved by code of its own
    CONFIG_NEUTRAL, // read by others only; any value
    CONFIG_FIXED,   // changes the mathematics: only `names[0]` (as JSON) or null is supported
};

enum config_flags {
    CONFIG_NULLABLE = 1, // null means: not given
    CONFIG_NEEDED   = 2, // must stand in every file
    CONFIG_NEEDED_HF = 4, // must stand in mixtral and qwen3_moe files: their defaults are huge
    CONFIG_MODEL    = 8, // printed in the model's part
    CONFIG_LAYER    = 16, // a member of struct config_router: may differ from layer to layer
    CONFIG_OWN      = 32, // not of mixtral and qwen3_moe: there only at its default
    CONFIG_STACK = CONFIG_MODEL | CONFIG_OWN,
};

struct config_field {
    const char        *key, *alias;
    enum config_kind   kind;
    unsigned           flags;
    size_t             offset;
    double             min, max;
    const char *const *names;   // of a choice, by enum value, then NULL
};

extern const struct config_field config_fields[];
extern const int                 config_field_count;
extern const struct config       config_defaults;

// Index into config_fields of a key or an alias, -1 if unknown.
int config_field_find(const char *key);
// The key under which the family's transformers class knows the field.
const char *config_field_key(const struct config_field *field, enum config_family family);
size_t config_field_bytes(const struct config_field *field); // of the member
