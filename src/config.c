// SPDX-License-Identifier: MIT
// JSON -> struct config. First every key is looked up and its value put into one slot per row of
// config_fields (--set replaces the slot), then values are checked and stored one by one, then the
// rules between keys are applied. So a message can always name the key, its value and its origin.
#include "src/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/base.h"
#include "src/config_fields.h"
#include "src/config_reader.h"

enum { CONFIG_MAX_FILE = 1 << 20, CONFIG_MAX_TOKENS = 1 << 24 };
#define CONFIG_MAX_PARAMETERS 0x1p42

// ---- messages

bool refuse(const struct reader *r, const char *key, const char *wanted, ...)
{
    char    text[400], found[80] = "nothing";
    va_list args;
    va_start(args, wanted);
    vsnprintf(text, sizeof text, wanted, args);
    va_end(args);
    const int row = config_field_find(key);
    if (row >= 0 && r->value[row]) {
        char *print = cJSON_PrintUnformatted(r->value[row]);
        // cJSON prints infinity as null
        const bool huge = cJSON_IsNumber(r->value[row]) && isinf(r->value[row]->valuedouble);
        snprintf(found, sizeof found, "%.60s%s", huge ? "a number too large" : print,
                 strlen(print) > 60 ? "..." : "");
        cJSON_free(print);
    }
    const bool given = row >= 0 && r->value[row];
    log_error("config %s: %s%s: found %s, wanted %s", r->name,
              row >= 0 && r->set[row] ? "--set " : "", given ? r->written[row] : key, found, text);
    return false;
}

static uint32_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    const size_t rows = strlen(a), columns = strlen(b);
    uint32_t line[LONGEST + 1];
    if (rows > LONGEST || columns > LONGEST) return LONGEST;
    for (size_t j = 0; j <= columns; j++) line[j] = (uint32_t)j;
    for (size_t i = 1; i <= rows; i++) {
        uint32_t diagonal = line[0];
        line[0] = (uint32_t)i;
        for (size_t j = 1; j <= columns; j++) {
            const uint32_t replace = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = line[j];
            line[j] = min_u32(replace, min_u32(line[j], line[j - 1]) + 1);
        }
    }
    return line[columns];
}

static bool refuse_unknown(const struct reader *r, const char *key, bool set)
{
    const char *nearest = "";
    uint32_t best = UINT32_MAX;
    for (int i = 0; i < config_field_count; i++) {
        const char *const names[] = {config_fields[i].key, config_fields[i].alias};
        for (int n = 0; n < 2 && names[n]; n++) {
            const uint32_t distance = edit_distance(key, names[n]);
            if (distance < best) best = distance, nearest = names[n];
        }
    }
    log_error("config %s: %sunknown key \"%.*s\"; the nearest known key is \"%s\"", r->name,
              set ? "--set " : "", (int)min_u64(60, strcspn(key, "\r\n\033")), key, nearest);
    return false;
}

// ---- keys -> slots

static bool same_value(const cJSON *a, const cJSON *b) { return cJSON_Compare(a, b, true); }

// A key may stand twice only under its two names with one value, as some converters write it.
static bool gather(struct reader *r, const cJSON *object)
{
    for (const cJSON *item = object->child; item; item = item->next) {
        const int row = config_field_find(item->string);
        if (row < 0) return refuse_unknown(r, item->string, false);
        if (r->value[row] && strcmp(r->written[row], item->string) == 0)
            return refuse(r, item->string, "the key only once");
        if (r->value[row] && !same_value(r->value[row], item))
            return refuse(r, r->written[row], "the same value as \"%s\"", item->string);
        r->value[row] = item;
        r->written[row] = item->string;
    }
    return true;
}

// Parses "key=value" into `holder`, which owns the value.
static bool apply_set(struct reader *r, const char *set, cJSON *holder)
{
    const char *equals = strchr(set, '=');
    char key[80];
    if (!equals || equals == set || (size_t)(equals - set) >= sizeof key) {
        log_error("config %s: --set %.80s: wanted key=value", r->name, set);
        return false;
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - set), set);
    const int row = config_field_find(key);
    if (row < 0) return refuse_unknown(r, key, true);
    cJSON *value = cJSON_ParseWithOpts(equals + 1, NULL, true);
    if (!value) value = cJSON_CreateString(equals + 1);
    cJSON_AddItemToObject(holder, key, value);
    r->value[row] = value;
    r->written[row] = value->string;
    r->set[row] = true;
    return true;
}

static const cJSON *slot(const struct reader *r, const char *key)
{
    const cJSON *value = r->value[config_field_find(key)];
    return value && !cJSON_IsNull(value) ? value : NULL;
}

bool given(const struct reader *r, const char *key) { return slot(r, key) != NULL; }

// ---- slots -> values

static char *member(const struct reader *r, const struct config_field *field)
{
    return (char *)r->config + r->shift + field->offset;
}

static bool is_whole(const cJSON *value, double least, double most)
{
    return cJSON_IsNumber(value) && value->valuedouble >= least && value->valuedouble <= most &&
           value->valuedouble == floor(value->valuedouble);
}

static bool store_number(struct reader *r, const struct config_field *field, const cJSON *value)
{
    char *const at = member(r, field);
    const double number = value->valuedouble;
    if (field->kind == CONFIG_F64) {
        if (!cJSON_IsNumber(value) || !(number >= field->min && number <= field->max)) // NaN fails
            return refuse(r, field->key, "a number from %g to %g", field->min, field->max);
        memcpy(at, &number, sizeof number);
        return true;
    }
    if (!is_whole(value, field->min, field->max))
        return refuse(r, field->key, "a whole number from %.0f to %.0f", field->min, field->max);
    if (field->kind == CONFIG_U64) memcpy(at, &(uint64_t){(uint64_t)number}, sizeof(uint64_t));
    else memcpy(at, &(uint32_t){(uint32_t)number}, sizeof(uint32_t));
    return true;
}

static bool store_choice(struct reader *r, const struct config_field *field, const cJSON *value)
{
    char wanted[400] = "";
    for (uint32_t i = 0; field->names[i]; i++) {
        if (cJSON_IsString(value) && strcmp(value->valuestring, field->names[i]) == 0) {
            memcpy(member(r, field), &i, sizeof i);
            return true;
        }
        const size_t used = strlen(wanted);
        snprintf(wanted + used, sizeof wanted - used, "%s\"%s\"", i ? " or " : "", field->names[i]);
    }
    return refuse(r, field->key, "%s", wanted);
}

// Some families list several ids that end a text: the first one stands for them.
static bool store_token(struct reader *r, const struct config_field *field, const cJSON *value)
{
    int32_t token = -1;
    if (cJSON_IsArray(value) && value->child) value = value->child;
    if (!cJSON_IsNull(value)) {
        if (!is_whole(value, -1, 1 << 24)) return refuse(r, field->key, "a token id or null");
        token = (int32_t)value->valuedouble;
    }
    memcpy(member(r, field), &token, sizeof token);
    return true;
}

static bool check_fixed(struct reader *r, const struct config_field *field, const cJSON *value)
{
    cJSON *wanted = cJSON_Parse(field->names[0]);
    const bool same = cJSON_IsNull(value) || same_value(value, wanted);
    cJSON_Delete(wanted);
    return same || refuse(r, field->key, "%s: nothing else is supported", field->names[0]);
}

// moe_intermediate_size of groups of experts. What is alike is one width after all.
static bool store_widths(struct reader *r, const struct config_field *field, const cJSON *list)
{
    struct config *c = r->config;
    bool differ = false;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (c->width_count == CONFIG_MAX_WIDTHS || !is_whole(item, field->min, field->max))
            return refuse(r, field->key, "a whole number from %.0f to %.0f, or a list of up to %d "
                          "of them", field->min, field->max, CONFIG_MAX_WIDTHS);
        const uint32_t width = (uint32_t)item->valuedouble;
        differ |= c->width_count && width != c->expert_width[0];
        c->expert_width[c->width_count++] = width;
        c->moe_intermediate_size = max_u32(c->moe_intermediate_size, width);
    }
    if (!list->child) return refuse(r, field->key, "at least one width in the list");
    if (!differ) c->width_count = 0;
    return true;
}

static bool store(struct reader *r, const struct config_field *field, const cJSON *value)
{
    if (cJSON_IsArray(value) && strcmp(field->key, "moe_intermediate_size") == 0)
        return store_widths(r, field, value);
    if ((field->flags & CONFIG_NULLABLE) && cJSON_IsNull(value)) return true;
    switch (field->kind) {
    case CONFIG_U32:
    case CONFIG_U64:
    case CONFIG_F64: return store_number(r, field, value);
    case CONFIG_CHOICE: return store_choice(r, field, value);
    case CONFIG_TOKEN: return store_token(r, field, value);
    case CONFIG_FIXED: return check_fixed(r, field, value);
    case CONFIG_NEUTRAL:
    case CONFIG_SPECIAL: return true;
    case CONFIG_BOOL:
        if (!cJSON_IsBool(value)) return refuse(r, field->key, "true or false");
        *(bool *)(void *)member(r, field) = cJSON_IsTrue(value);
        return true;
    }
    return false;
}

// Whether a key that the family does not know says what its model is anyway.
static bool is_default(const struct reader *r, const struct config_field *field)
{
    return memcmp((const char *)r->config + field->offset,
                  (const char *)&config_defaults + field->offset, config_field_bytes(field)) == 0;
}

static bool store_all(struct reader *r, bool from_file)
{
    for (int i = 0; i < config_field_count; i++)
        if (r->value[i] && !store(r, &config_fields[i], r->value[i])) return false;
    const bool hf = r->config->family != CONFIG_VKMOE;
    for (int i = 0; i < config_field_count; i++) {
        const unsigned needed =
            config_fields[i].flags & (CONFIG_NEEDED | (hf ? CONFIG_NEEDED_HF : 0));
        if (hf && config_fields[i].flags & CONFIG_OWN && !is_default(r, &config_fields[i]))
            return refuse(r, config_fields[i].key, "nothing for model_type %s, or model_type vkmoe",
                          config_family_name(r->config->family));
        if (from_file && needed && !r->value[i])
            return refuse(r, config_field_key(&config_fields[i], r->config->family),
                          "the key in a %s file", config_family_name(r->config->family));
    }
    return true;
}

// ---- rules between keys

// rope_parameters (transformers 5) and rope_scaling (4) may say nothing but the plain RoPE.
static bool resolve_rope(struct reader *r, const char *key)
{
    const cJSON *rope = slot(r, key);
    if (!rope) return true;
    if (!cJSON_IsObject(rope)) return refuse(r, key, "an object or null");
    for (const cJSON *item = rope->child; item; item = item->next) {
        const bool type =
            strcmp(item->string, "rope_type") == 0 || strcmp(item->string, "type") == 0;
        if (type && cJSON_IsString(item) && strcmp(item->valuestring, "default") == 0) continue;
        if (strcmp(item->string, "partial_rotary_factor") == 0 && is_whole(item, 1, 1)) continue;
        if (strcmp(item->string, "rope_theta") != 0)
            return refuse(r, key, "rope_type \"default\" and rope_theta alone; "
                                  "scaled RoPE is not supported");
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1 && item->valuedouble <= 1e12))
            return refuse(r, key, "a rope_theta from 1 to 1e12");
        const int theta = config_field_find("rope_theta");
        if (r->value[theta] && !r->set[theta] && r->config->rope_theta != item->valuedouble)
            return refuse(r, key, "the same rope_theta as the key rope_theta, %g",
                          r->config->rope_theta);
        if (!r->set[theta]) r->config->rope_theta = item->valuedouble;
    }
    return true;
}

static bool resolve_window(struct reader *r)
{
    const cJSON *use = slot(r, "use_sliding_window");
    if (use && !cJSON_IsBool(use)) return refuse(r, "use_sliding_window", "true or false");
    if (use && cJSON_IsTrue(use) && !r->config->sliding_window)
        return refuse(r, "sliding_window", "a number of positions");
    const bool off = use ? cJSON_IsFalse(use) : r->config->family == CONFIG_QWEN3_MOE;
    if (off) r->config->sliding_window = 0;
    return true;
}

static bool resolve_attention(struct reader *r)
{
    struct config *c = r->config;
    if (!c->num_key_value_heads) c->num_key_value_heads = c->num_attention_heads;
    if (c->num_attention_heads % c->num_key_value_heads)
        return refuse(r, "num_key_value_heads", "a divisor of num_attention_heads, %u",
                      c->num_attention_heads);
    if (!c->head_dim && c->hidden_size % c->num_attention_heads)
        return refuse(r, "num_attention_heads", "a divisor of hidden_size, %u, or the key head_dim",
                      c->hidden_size);
    if (!c->head_dim) c->head_dim = c->hidden_size / c->num_attention_heads;
    if (c->head_dim % 2 || c->head_dim > 1 << 13)
        return refuse(r, "head_dim", "an even number up to 8192, for RoPE turns pairs (it is %u)",
                      c->head_dim);
    const bool wants_norm = c->family == CONFIG_QWEN3_MOE;
    if (given(r, "qk_norm") && c->family != CONFIG_VKMOE && c->qk_norm != wants_norm)
        return refuse(r, "qk_norm", "%s for model_type %s, or model_type vkmoe",
                      wants_norm ? "true" : "false", config_family_name(c->family));
    if (c->family != CONFIG_VKMOE) c->qk_norm = wants_norm;
    if (!c->rms_norm_eps) c->rms_norm_eps = wants_norm ? 1e-6 : 1e-5;
    if (c->family == CONFIG_MIXTRAL && !given(r, "rope_theta"))
        c->rope_theta = 1e6; // MixtralConfig's default
    return resolve_rope(r, "rope_parameters") && resolve_rope(r, "rope_scaling") &&
           resolve_window(r);
}

// [first, last, times]: which layers come again, and how often they come in all.
static bool resolve_repeats(struct reader *r)
{
    struct config *c = r->config;
    const cJSON *repeats = slot(r, "layer_repeats");
    const cJSON *first = repeats ? repeats->child : NULL, *last = first ? first->next : NULL,
                *times = last ? last->next : NULL;
    if (!repeats) return true;
    if (!cJSON_IsArray(repeats) || !times || times->next || !is_whole(first, 0, 255) ||
        !is_whole(last, first->valuedouble, 255) || !is_whole(times, 2, 256))
        return refuse(r, "layer_repeats", "null or [first layer, last layer, times from 2]");
    c->repeat_first = (uint32_t)first->valuedouble;
    c->repeat_layers = (uint32_t)last->valuedouble - c->repeat_first + 1;
    c->repeat_times = (uint32_t)times->valuedouble;
    return true;
}

static bool resolve_stack(struct reader *r)
{
    struct config_fault fault;
    if (!resolve_repeats(r)) return false;
    return !config_stack_fault(r->config, &fault) || refuse(r, fault.key, "%s", fault.wanted);
}

// Which layers are MoE: as Qwen3-MoE's decoder layer decides.
static bool resolve_layers(struct reader *r)
{
    struct config *c = r->config;
    const cJSON *step = slot(r, "decoder_sparse_step"), *dense = slot(r, "mlp_only_layers");
    if (step && !is_whole(step, 1, CONFIG_MAX_LAYERS))
        return refuse(r, "decoder_sparse_step", "a whole number from 1 to %d", CONFIG_MAX_LAYERS);
    if (dense && !cJSON_IsArray(dense))
        return refuse(r, "mlp_only_layers", "an array of layer numbers");
    const uint32_t every = step ? (uint32_t)step->valuedouble : 1;
    for (uint32_t i = 0; i < CONFIG_MAX_LAYERS; i++)
        c->moe_layer[i] = c->num_experts && i < c->num_hidden_layers && (i + 1) % every == 0;
    for (const cJSON *item = dense ? dense->child : NULL; item; item = item->next) {
        if (!is_whole(item, 0, c->num_hidden_layers - 1.0))
            return refuse(r, "mlp_only_layers", "layer numbers from 0 to %u",
                          c->num_hidden_layers - 1);
        c->moe_layer[(uint32_t)item->valuedouble] = false;
    }
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        c->moe_layer[i] = c->moe_layer[config_layer_owner(c, i)];
    if (c->num_experts && !config_moe_layers(c))
        return refuse(r, "mlp_only_layers", "a layer left for the %u experts, or num_experts 0",
                      c->num_experts);
    if (c->family == CONFIG_MIXTRAL && config_moe_layers(c) != c->num_hidden_layers)
        return refuse(r, dense && dense->child ? "mlp_only_layers" : "decoder_sparse_step",
                      "MoE in every layer for model_type mixtral, or model_type vkmoe");
    return true;
}

// What "layers" says of one layer: keys of routers, read as if they stood in a file of their own.
static bool read_layer(struct reader *all, const cJSON *item)
{
    char name[300], *end;
    const unsigned long layer = strtoul(item->string, &end, 10);
    snprintf(name, sizeof name, "%.200s: layers: %.16s", all->name, item->string);
    struct config *c = all->config;
    if (*end || end == item->string || layer >= c->num_hidden_layers || !c->moe_layer[layer])
        return refuse(all, "layers", "numbers of MoE layers as keys (not \"%.16s\")",
                      item->string);
    if (!cJSON_IsObject(item))
        return refuse(all, "layers", "an object of router keys for each layer");
    struct reader r = {.config = c, .name = name, .outer = all};
    r.shift = (size_t)((char *)&c->layer_router[layer] - (char *)&c->router);
    if (!gather(&r, item)) return false;
    for (int i = 0; i < config_field_count; i++) {
        if (!r.value[i]) continue;
        if (!(config_fields[i].flags & CONFIG_LAYER))
            return refuse(&r, config_fields[i].key, "only keys of routers here");
        if (!store(&r, &config_fields[i], r.value[i])) return false;
    }
    return resolve_router(&r, &c->layer_router[layer]);
}

static bool resolve_routers(struct reader *r)
{
    struct config *c = r->config;
    const cJSON *layers = slot(r, "layers");
    for (uint32_t i = 0; i < CONFIG_MAX_LAYERS; i++) c->layer_router[i] = c->router;
    if (layers && !cJSON_IsObject(layers))
        return refuse(r, "layers", "an object of layer numbers");
    if (layers && layers->child && c->family != CONFIG_VKMOE)
        return refuse(r, "layers", "nothing for model_type %s, or model_type vkmoe",
                      config_family_name(c->family));
    for (const cJSON *item = layers ? layers->child : NULL; item; item = item->next)
        if (!read_layer(r, item)) return false;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        c->layer_router[i] = c->layer_router[config_layer_owner(c, i)];
    return true;
}

static bool resolve_experts(struct reader *r)
{
    struct config *c = r->config;
    const bool mixtral = c->family == CONFIG_MIXTRAL;
    if (!c->num_experts && c->family != CONFIG_VKMOE)
        return refuse(r, mixtral ? "num_local_experts" : "num_experts",
                      "at least 1 for model_type %s", config_family_name(c->family));
    if (c->shared_expert_gate && !c->shared_intermediate_size)
        return refuse(r, "shared_expert_gate", "false without shared_expert_intermediate_size");
    if (!c->num_experts && c->router.top_k)
        return refuse(r, "num_experts", "at least num_experts_per_tok, %u", c->router.top_k);
    if (c->family == CONFIG_QWEN3_MOE && !c->moe_intermediate_size)
        return refuse(r, "moe_intermediate_size", "the key in a qwen3_moe file");
    if (!c->moe_intermediate_size) c->moe_intermediate_size = c->intermediate_size;
    if (mixtral && c->moe_intermediate_size != c->intermediate_size)
        return refuse(r, "moe_intermediate_size", "intermediate_size, %u, for model_type mixtral",
                      c->intermediate_size);
    if (c->width_count && c->family != CONFIG_VKMOE)
        return refuse(r, "moe_intermediate_size", "one number for model_type %s, or model_type "
                      "vkmoe", config_family_name(c->family));
    if (c->width_count && (!c->num_experts || c->num_experts % c->width_count))
        return refuse(r, "moe_intermediate_size", "as many widths as divide num_experts, %u (there "
                      "are %u)", c->num_experts, c->width_count);
    if (c->family != CONFIG_VKMOE && !c->mlp_gated)
        return refuse(r, "mlp_gated", "true for model_type %s, or model_type vkmoe",
                      config_family_name(c->family));
    return resolve_layers(r) && resolve_router(r, &c->router) && resolve_routers(r);
}

static bool resolve_training(struct reader *r)
{
    struct config *c = r->config;
    if (!c->seq_len) c->seq_len = min_u32(512, c->max_position_embeddings);
    if (c->seq_len > c->max_position_embeddings)
        return refuse(r, "seq_len", "at most max_position_embeddings, %u",
                      c->max_position_embeddings);
    if ((uint64_t)c->seq_len * c->batch_size > CONFIG_MAX_TOKENS)
        return refuse(r, "batch_size", "at most %d tokens a micro-batch (seq_len is %u)",
                      CONFIG_MAX_TOKENS, c->seq_len);
    if (c->corpus.max_bytes && c->corpus.max_bytes < c->corpus.min_bytes)
        return refuse(r, "max_bytes", "at least min_bytes, %llu, or 0: any",
                      (unsigned long long)c->corpus.min_bytes);
    if (!c->lr_decay_steps) c->lr_decay_steps = c->steps;
    if (!given(r, "warmup_steps")) c->warmup_steps = min_u32(100, c->lr_decay_steps / 10);
    if (c->warmup_steps > c->lr_decay_steps)
        return refuse(r, "warmup_steps", "at most lr_decay_steps, %u", c->lr_decay_steps);
    if (!given(r, "min_learning_rate"))
        c->min_learning_rate = c->lr_scheduler_type == CONFIG_COSINE ? c->learning_rate / 10 : 0;
    if (c->min_learning_rate > c->learning_rate)
        return refuse(r, "min_learning_rate", "at most learning_rate, %g", c->learning_rate);
    if (!c->loss_scale) c->loss_scale = c->torch_dtype == DTYPE_F16 ? 1024 : 1;
    return resolve_curriculum(r) && resolve_param_groups(r);
}

static bool check_tokens(struct reader *r)
{
    const struct { const char *key; int32_t token; } tokens[] = {
        {"bos_token_id", r->config->bos_token_id},
        {"eos_token_id", r->config->eos_token_id},
        {"pad_token_id", r->config->pad_token_id},
    };
    for (size_t i = 0; i < COUNT_OF(tokens); i++)
        if (tokens[i].token >= 0 && (uint32_t)tokens[i].token >= r->config->vocab_size)
            return refuse(r, tokens[i].key, "an id under vocab_size, %u", r->config->vocab_size);
    return true;
}

// In double: ranges alone allow products of 2^70, and everybody behind this counts in 64 bits.
static bool check_size(const struct reader *r)
{
    const struct config *c = r->config;
    const double hidden = c->hidden_size, heads = c->num_attention_heads + c->num_key_value_heads;
    const double moe_layers = config_moe_layers(c),
                 dense_layers = c->num_hidden_layers - moe_layers;
    const double matrices = c->mlp_gated ? 3 : 2;
    const double parameters = 2 * hidden * c->vocab_size +
                              2 * hidden * heads * c->head_dim * c->num_hidden_layers +
                              matrices * hidden * c->intermediate_size * dense_layers +
                              matrices * hidden * c->moe_intermediate_size * c->num_experts *
                                  moe_layers +
                              matrices * hidden * c->shared_intermediate_size * moe_layers;
    if (parameters <= CONFIG_MAX_PARAMETERS) return true;
    log_error("config %s: hidden_size %u, num_hidden_layers %u, num_experts %u and the rest make "
              "%.3g parameters, wanted at most %.3g",
              r->name, c->hidden_size, c->num_hidden_layers, c->num_experts, parameters,
              CONFIG_MAX_PARAMETERS);
    return false;
}

// ---- the whole

static bool read_object(struct reader *r, const cJSON *object, cJSON *sets, const char *const *set,
                        int set_count)
{
    if (object && !gather(r, object)) return false;
    for (int i = 0; i < set_count; i++)
        if (!apply_set(r, set[i], sets)) return false;
    return store_all(r, object != NULL) && resolve_attention(r) && resolve_stack(r) &&
           resolve_experts(r) &&
           resolve_training(r) && check_tokens(r) && check_size(r);
}

static cJSON *parse_text(const char *name, const char *json)
{
    const char *end = json;
    cJSON *object = cJSON_ParseWithOpts(json, &end, true);
    if (cJSON_IsObject(object)) return object;
    uint32_t line = 1;
    for (const char *at = json; at < end; at++) line += *at == '\n';
    if (object) log_error("config %s: wanted one JSON object { \"key\": value, ... }", name);
    else
        log_error("config %s: not valid JSON: stopped in line %u at \"%.*s\"", name, line,
                  (int)min_u64(20, strcspn(end, "\r\n")), end);
    cJSON_Delete(object);
    return NULL;
}

static bool parse(struct config *config, const char *name, const char *json, const char *const *set,
                  int set_count)
{
    _Static_assert(CONFIG_MAX_FIELDS >= 96, "slots for every row");
    cJSON *object = json ? parse_text(name, json) : NULL;
    if (json && !object) return false;
    cJSON *sets = cJSON_CreateObject();
    *config = config_defaults;
    struct reader reader = {.config = config, .name = name};
    const bool ok = read_object(&reader, object, sets, set, set_count);
    cJSON_Delete(sets);
    cJSON_Delete(object);
    return ok;
}

bool config_read(struct config *config, const char *path, const char *const *set, int set_count)
{
    void *text = NULL;
    uint64_t bytes;
    if (path && !file_read(path, CONFIG_MAX_FILE, &text, &bytes)) return false;
    const bool ok = parse(config, path ? path : "defaults", text, set, set_count);
    free(text);
    return ok;
}

bool config_parse(struct config *config, const char *name, const char *json, const char *const *set,
                  int set_count)
{
    return parse(config, name, json, set, set_count);
}

const char *config_family_name(enum config_family family)
{
    return config_fields[config_field_find("model_type")].names[family];
}

uint32_t config_moe_layers(const struct config *config)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->num_hidden_layers; i++) count += config->moe_layer[i];
    return count;
}

uint32_t config_expert_width(const struct config *config, uint32_t expert)
{
    if (!config->width_count) return config->moe_intermediate_size;
    const uint32_t group = expert / (config->num_experts / config->width_count);
    return config->expert_width[min_u32(group, config->width_count - 1)];
}

uint64_t config_widths_before(const struct config *config, uint32_t expert)
{
    if (!config->width_count) return (uint64_t)config->moe_intermediate_size * expert;
    const uint32_t each = config->num_experts / config->width_count, group = expert / each;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < group; i++) sum += (uint64_t)each * config->expert_width[i];
    return group < config->width_count
               ? sum + (uint64_t)(expert % each) * config->expert_width[group] : sum;
}
