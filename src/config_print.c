// SPDX-License-Identifier: MIT
// struct config -> JSON that config_read and transformers' from_pretrained read back the same. The
// model's keys come first, as Hugging Face writes them, then the training's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base.h"
#include "src/config_fields.h"

// The shortest digits that read back as the same double, and never like an integer: transformers
// checks the type of each key.
static void print_number(struct bytes *out, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    bytes_printf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_value(struct bytes *out, const struct config_field *field, const char *at)
{
    uint32_t word = 0;
    if (field->kind == CONFIG_BOOL) word = *(const bool *)at;
    else if (field->kind != CONFIG_F64 && field->kind != CONFIG_U64) memcpy(&word, at, sizeof word);
    const bool nothing = field->kind == CONFIG_TOKEN ? (int32_t)word < 0
                                                     : field->flags & CONFIG_NULLABLE && word == 0;
    const bool number = field->kind == CONFIG_F64;
    if (number && field->flags & CONFIG_NULLABLE && *(const double *)at == 0)
        bytes_printf(out, "null");
    else if (number) print_number(out, *(const double *)at);
    else if (field->kind == CONFIG_U64)
        bytes_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at);
    else if (field->kind == CONFIG_BOOL) bytes_printf(out, word ? "true" : "false");
    else if (field->kind == CONFIG_CHOICE) bytes_printf(out, "\"%s\"", field->names[word]);
    else if (nothing) bytes_printf(out, "null");
    else bytes_printf(out, "%u", word);
}

// Dense layers as Qwen3-MoE names them, whatever pattern they were given as.
static void print_dense_layers(struct bytes *out, const struct config *config)
{
    bytes_printf(out, "[");
    const char *comma = "";
    for (uint32_t i = 0; i < config->num_hidden_layers && config->num_experts; i++)
        if (!config->moe_layer[i]) {
            bytes_printf(out, "%s%u", comma, i);
            comma = ", ";
        }
    bytes_printf(out, "]");
}

// What the routers of single layers have of their own.
static void print_layers(struct bytes *out, const struct config *config)
{
    const char *comma = "";
    bytes_printf(out, "{");
    for (uint32_t layer = 0; layer < config->num_hidden_layers; layer++) {
        const char *inner = "";
        for (int i = 0; i < config_field_count; i++) {
            const struct config_field *field = &config_fields[i];
            if (!(field->flags & CONFIG_LAYER)) continue;
            const char *const all = (const char *)config + field->offset;
            const char *const own = all + ((const char *)&config->layer_router[layer] -
                                           (const char *)&config->router);
            if (memcmp(all, own, config_field_bytes(field)) == 0) continue;
            if (!*inner) bytes_printf(out, "%s\"%u\": {", comma, layer);
            bytes_printf(out, "%s\"%s\": ", inner, field->key);
            print_value(out, field, own);
            inner = comma = ", ";
        }
        if (*inner) bytes_printf(out, "}");
    }
    bytes_printf(out, "}");
}

static void print_repeats(struct bytes *out, const struct config *c)
{
    if (!c->repeat_times) bytes_printf(out, "null");
    else bytes_printf(out, "[%u, %u, %u]", c->repeat_first, c->repeat_first + c->repeat_layers - 1,
                      c->repeat_times);
}

static void print_widths(struct bytes *out, const struct config *c)
{
    for (uint32_t i = 0; i < c->width_count; i++)
        bytes_printf(out, "%s%u", i ? ", " : "[", c->expert_width[i]);
    bytes_printf(out, "]");
}

static void print_string(struct bytes *out, const char *text)
{
    bytes_printf(out, "\"");
    for (; *text; text++) bytes_printf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    bytes_printf(out, "\"");
}

static void print_groups(struct bytes *out, const struct config *config)
{
    const char *const *names = config_fields[config_field_find("optim")].names;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *group = &config->group[i];
        bytes_printf(out, "%s{\"match\": ", i ? ", " : "[");
        print_string(out, group->match);
        bytes_printf(out, ", \"optim\": \"%s\", \"learning_rate\": ", names[group->optim]);
        print_number(out, group->learning_rate);
        if (group->weight_decay >= 0) {
            bytes_printf(out, ", \"weight_decay\": ");
            print_number(out, group->weight_decay);
        }
        if (group->momentum >= 0) {
            bytes_printf(out, ", \"momentum\": ");
            print_number(out, group->momentum);
        }
        bytes_printf(out, ", \"betas\": [");
        print_number(out, group->beta1);
        bytes_printf(out, ", ");
        print_number(out, group->beta2);
        bytes_printf(out, "]}");
    }
    bytes_printf(out, "]");
}

static void print_domains(struct bytes *out, const struct config *config)
{
    bytes_printf(out, "{");
    for (uint32_t i = 0; i < config->domain_count; i++) {
        const struct config_domain *domain = &config->domain[i];
        if (i) bytes_printf(out, ", ");
        print_string(out, domain->name);
        bytes_printf(out, ": {\"hold_out\": %s, \"bonus\": ", domain->held_out ? "true" : "false");
        print_number(out, domain->bonus);
        bytes_printf(out, "}");
    }
    bytes_printf(out, "}");
}

static bool is_printed(const struct config_field *field, const struct config *config, unsigned part)
{
    if ((field->flags & CONFIG_MODEL) != part || field->kind == CONFIG_NEUTRAL ||
        field->kind == CONFIG_FIXED)
        return false;
    if (field->flags & CONFIG_OWN && config->family != CONFIG_VKMOE) return false;
    if (strcmp(field->key, "attention_bias") == 0) return config->family != CONFIG_MIXTRAL;
    if (strcmp(field->key, "layers") == 0 || strcmp(field->key, "layer_repeats") == 0)
        return config->family == CONFIG_VKMOE;
    if (strcmp(field->key, "param_groups") == 0) return config->group_count > 0;
    if (strcmp(field->key, "curriculum_domains") == 0) return config->domain_count > 0;
    if (field->kind == CONFIG_SPECIAL) return part && config->family != CONFIG_MIXTRAL;
    return true;
}

static void print_part(struct bytes *out, const struct config *config, unsigned part)
{
    for (int i = 0; i < config_field_count; i++) {
        const struct config_field *field = &config_fields[i];
        if (!is_printed(field, config, part)) continue;
        bytes_printf(out, ",\n  \"%s\": ", config_field_key(field, config->family));
        if (strcmp(field->key, "mlp_only_layers") == 0) print_dense_layers(out, config);
        else if (strcmp(field->key, "decoder_sparse_step") == 0) bytes_printf(out, "1");
        else if (strcmp(field->key, "layers") == 0) print_layers(out, config);
        else if (config->width_count && strcmp(field->key, "moe_intermediate_size") == 0)
            print_widths(out, config);
        else if (strcmp(field->key, "layer_repeats") == 0) print_repeats(out, config);
        else if (strcmp(field->key, "param_groups") == 0) print_groups(out, config);
        else if (strcmp(field->key, "curriculum_domains") == 0) print_domains(out, config);
        else print_value(out, field, (const char *)config + field->offset);
    }
}

char *config_print(const struct config *config)
{
    static const char *const architectures[] = {[CONFIG_VKMOE] = "VkmoeForCausalLM",
        [CONFIG_MIXTRAL] = "MixtralForCausalLM", [CONFIG_QWEN3_MOE] = "Qwen3MoeForCausalLM"};
    struct bytes out = {0};
    bytes_printf(&out, "{\n  \"architectures\": [\"%s\"]", architectures[config->family]);
    print_part(&out, config, CONFIG_MODEL);
    bytes_printf(&out, ",\n  \"attention_dropout\": 0.0");
    if (config->family == CONFIG_QWEN3_MOE)
        bytes_printf(&out, ",\n  \"use_sliding_window\": %s",
                     config->sliding_window ? "true" : "false");
    print_part(&out, config, 0);
    bytes_printf(&out, "\n}\n");
    return (char *)out.data;
}
