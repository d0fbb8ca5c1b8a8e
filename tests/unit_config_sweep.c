// SPDX-License-Identifier: MIT
// Every key of the table refuses what it does not take, in one line with its name and what it
// takes: names that nobody has, numbers below the least and above the most, values of other types;
// for the whole model and, among the keys of routers, for one layer.
#include "tests/unit.h"

#include "src/config.h"
#include "src/config_fields.h"

#define EXPERTS "{\"model_type\": \"vkmoe\", \"vocab_size\": 9, \"hidden_size\": 32, " \
    "\"intermediate_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"max_position_embeddings\": 8, \"num_experts\": 4}"

static uint32_t refusals;

static void refuse(const struct config_field *field, const char *value, const char *wanted)
{
    struct config config;
    char set[200], found[200];
    for (int layer = 0; layer <= (field->flags & CONFIG_LAYER ? 1 : 0); layer++) {
        const char *const format = layer ? "layers={\"1\": {\"%s\": %s}}" : "%s=%s";
        snprintf(set, sizeof set, format, field->key, value);
        snprintf(found, sizeof found, "%s%s: found ", layer ? "layers: 1: " : "--set ", field->key);
        const char *const sets[] = {set};
        if (config_parse(&config, "test.json", EXPERTS, sets, 1)) fail_msg("%s was taken", set);
        unit_assert_line(found, wanted);
        refusals++;
    }
}

static void names(const struct config_field *field)
{
    char quoted[80];
    for (uint32_t i = 0; field->names[i]; i++) {
        snprintf(quoted, sizeof quoted, "\"%s\"", field->names[i]);
        refuse(field, "\"nobody\"", quoted); // each allowed one is in the line
    }
    refuse(field, "7", quoted);
    refuse(field, "[]", quoted);
}

static void numbers(const struct config_field *field)
{
    const bool whole = field->kind != CONFIG_F64;
    const char *const wanted = whole ? "a whole number from" : "a number from";
    char value[80];
    snprintf(value, sizeof value, "%.17g", field->min - 1);
    refuse(field, value, wanted);
    snprintf(value, sizeof value, "%.17g", field->max * 2 + 1);
    refuse(field, value, wanted);
    refuse(field, "\"many\"", wanted);
    refuse(field, "true", wanted);
    refuse(field, "1e999", wanted);
    if (whole) refuse(field, "1.5", wanted);
}

static void every_key_says_what_it_takes(void **state)
{
    (void)state;
    for (int i = 0; i < config_field_count; i++) {
        const struct config_field *field = &config_fields[i];
        switch (field->kind) {
        case CONFIG_CHOICE: names(field); break;
        case CONFIG_U32: case CONFIG_U64: case CONFIG_F64: numbers(field); break;
        case CONFIG_BOOL:
            refuse(field, "1", "true or false");
            refuse(field, "\"yes\"", "true or false");
            break;
        case CONFIG_TOKEN: refuse(field, "-2", "a token id or null"); break;
        case CONFIG_FIXED: refuse(field, "[9]", field->names[0]); break;
        case CONFIG_NEUTRAL: case CONFIG_SPECIAL: break; // not read; tests of their own
        }
    }
    assert_true(refusals > 400);
}

// A letter more: the key that was meant is named.
static void unknown_keys_are_told(void **state)
{
    (void)state;
    for (int i = 0; i < config_field_count; i++) {
        struct config config;
        char set[120], unknown[120], nearest[120];
        snprintf(set, sizeof set, "%sx=1", config_fields[i].key);
        snprintf(unknown, sizeof unknown, "unknown key \"%sx\"", config_fields[i].key);
        snprintf(nearest, sizeof nearest, "nearest known key is \"%s\"", config_fields[i].key);
        const char *const sets[] = {set};
        if (config_field_find(set) >= 0) continue;
        assert_false(config_parse(&config, "test.json", EXPERTS, sets, 1));
        unit_assert_line(unknown, nearest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_key_says_what_it_takes),
        UNIT(unknown_keys_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
