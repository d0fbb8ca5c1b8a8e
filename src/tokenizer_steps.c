// SPDX-License-Identifier: MIT
// Reads the steps of a tokenizer.json: normalizer, pre_tokenizer, post_processor, decoder, and the
// added tokens. What is not in the tables here is refused by name.
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/tokenizer_pattern.h"

// GPT-2's expression, which ByteLevel means by use_regex.
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD "\\p{L}\\p{M}\\p{N}\\p{Pc}"

static const cJSON *field(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(field(object, name));
}

static bool is_null(const cJSON *item) { return !item || cJSON_IsNull(item); }

static bool is_type(const cJSON *object, const char *type)
{
    const char *found = text_of(object, "type");
    return found && strcmp(found, type) == 0;
}

static bool refuse(const char *name, const char *part, const cJSON *object, const char *supported)
{
    const char *type = text_of(object, "type");
    log_error("%s: %s: %s is not supported; supported are %s", name, part,
              SHOWN(type ? type : "what has no type"), supported);
    return false;
}

static struct slice keep(struct tokenizer *t, const char *text)
{
    return slice_of(arena_strdup(t->arena, text));
}

static bool is_flag(const cJSON *object, const char *name, bool missing)
{
    const cJSON *item = field(object, name);
    return is_null(item) ? missing : cJSON_IsTrue(item);
}

// ---- normalizer

static bool add_normal(struct tokenizer *t, const char *name, struct normal_step step)
{
    if (t->normal_count == STEPS_MOST) {
        log_error("%s: normalizer: more than %d steps", name, STEPS_MOST);
        return false;
    }
    t->normalizer[t->normal_count++] = step;
    return true;
}

static bool read_replace(struct tokenizer *t, const char *name, const cJSON *object)
{
    const char *from = text_of(field(object, "pattern"), "String"),
               *to = text_of(object, "content");
    if (from && *from && to)
        return add_normal(t, name,
                          (struct normal_step){NORMAL_REPLACE, keep(t, from), keep(t, to)});
    log_error("%s: normalizer: Replace wants {\"pattern\": {\"String\": ...}, \"content\": ...}; "
              "an expression is not supported", name);
    return false;
}

static bool read_normalizer(struct tokenizer *t, const char *name, const cJSON *object)
{
    if (is_null(object)) return true;
    if (is_type(object, "Sequence")) {
        const cJSON *item;
        cJSON_ArrayForEach(item, field(object, "normalizers"))
            if (!read_normalizer(t, name, item)) return false;
        return true;
    }
    const char *text = text_of(object, "prepend");
    if (is_type(object, "Prepend") && text)
        return add_normal(t, name,
                          (struct normal_step){.kind = NORMAL_PREPEND, .to = keep(t, text)});
    if (is_type(object, "Replace")) return read_replace(t, name, object);
    if (is_type(object, "NFC"))
        return (t->nfc || nfc_create(t, name)) &&
               add_normal(t, name, (struct normal_step){.kind = NORMAL_NFC});
    return refuse(name, "normalizer", object, "Sequence, Prepend, Replace, NFC");
}

// ---- pre_tokenizer

static bool add_split(struct tokenizer *t, const char *name, struct split_step step)
{
    if (t->split_count < STEPS_MOST && !t->byte_level) {
        t->split[t->split_count++] = step;
        return true;
    }
    pattern_destroy(&step.pattern);
    if (t->byte_level)
        log_error("%s: pre_tokenizer: a step behind ByteLevel is not supported", name);
    else
        log_error("%s: pre_tokenizer: more than %d steps", name, STEPS_MOST);
    return false;
}

static bool add_pattern(struct tokenizer *t, const char *name, struct pattern *pattern,
                        enum split_behavior behavior, bool invert)
{
    return pattern && add_split(t, name, (struct split_step){
        .kind = SPLIT_PATTERN, .pattern = pattern, .behavior = behavior, .invert = invert});
}

static bool add_expression(struct tokenizer *t, const char *name, const char *expression,
                           enum split_behavior behavior, bool invert)
{
    return add_pattern(t, name, pattern_create(name, "pre_tokenizer", expression), behavior,
                       invert);
}

static bool read_behavior(const char *name, const cJSON *object, enum split_behavior *out)
{
    static const char *const known[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *text = text_of(object, "behavior");
    for (size_t i = 0; text && i < COUNT_OF(known); i++) {
        *out = (enum split_behavior)i;
        if (strcmp(text, known[i]) == 0) return true;
    }
    log_error("%s: pre_tokenizer: behavior: found %s, wanted Removed, Isolated, "
              "MergedWithPrevious, MergedWithNext or Contiguous", name,
              SHOWN(text ? text : "none"));
    return false;
}

static bool read_split(struct tokenizer *t, const char *name, const cJSON *object)
{
    enum split_behavior behavior;
    const cJSON *pattern = field(object, "pattern");
    const char *expression = text_of(pattern, "Regex"), *text = text_of(pattern, "String");
    if (!read_behavior(name, object, &behavior)) return false;
    const bool invert = is_flag(object, "invert", false);
    if (expression) return add_expression(t, name, expression, behavior, invert);
    if (text)
        return add_pattern(t, name, pattern_create_literal(name, "pre_tokenizer", text), behavior,
                           invert);
    log_error("%s: pre_tokenizer: Split wants \"pattern\": {\"Regex\" or \"String\": ...}", name);
    return false;
}

static bool read_byte_level(struct tokenizer *t, const char *name, const cJSON *object)
{
    if (is_flag(object, "add_prefix_space", true) &&
        !add_split(t, name, (struct split_step){.kind = SPLIT_PREFIX}))
        return false;
    if (is_flag(object, "use_regex", true) && !add_expression(t, name, GPT2, SPLIT_ISOLATED, false))
        return false;
    if (t->byte_level) {
        log_error("%s: pre_tokenizer: ByteLevel twice", name);
        return false;
    }
    return t->byte_level = true;
}

static bool read_metaspace(struct tokenizer *t, const char *name, const cJSON *object)
{
    static const char *const schemes[] = {"never", "first", "always"};
    const char *replacement = text_of(object, "replacement");
    const char *scheme = text_of(object, "prepend_scheme");
    struct split_step step = {.kind = SPLIT_METASPACE, .split = is_flag(object, "split", true),
                              .prepend = PREPEND_ALWAYS};
    bool known = !scheme;
    for (size_t i = 0; scheme && i < COUNT_OF(schemes); i++)
        if (strcmp(scheme, schemes[i]) == 0) known = true, step.prepend = (enum prepend)i;
    if (!scheme && !is_flag(object, "add_prefix_space", true)) step.prepend = PREPEND_NEVER;
    if (!known || !replacement || !*replacement) {
        log_error("%s: pre_tokenizer: Metaspace wants a replacement and a prepend_scheme never, "
                  "first or always", name);
        return false;
    }
    step.replacement = keep(t, replacement);
    return add_split(t, name, step);
}

static bool read_punctuation(struct tokenizer *t, const char *name, const cJSON *object)
{
    enum split_behavior behavior = SPLIT_ISOLATED;
    if (field(object, "behavior") && !read_behavior(name, object, &behavior)) return false;
    return add_expression(t, name, "[\\p{P}$+<=>\\^`|~]", behavior, false);
}

static bool read_pre_tokenizer(struct tokenizer *t, const char *name, const cJSON *object)
{
    if (is_null(object)) return true;
    if (is_type(object, "Sequence")) {
        const cJSON *item;
        cJSON_ArrayForEach(item, field(object, "pretokenizers"))
            if (!read_pre_tokenizer(t, name, item)) return false;
        return true;
    }
    if (is_type(object, "ByteLevel")) return read_byte_level(t, name, object);
    if (is_type(object, "Split")) return read_split(t, name, object);
    if (is_type(object, "Metaspace")) return read_metaspace(t, name, object);
    if (is_type(object, "Punctuation")) return read_punctuation(t, name, object);
    if (is_type(object, "WhitespaceSplit"))
        return add_expression(t, name, "\\s", SPLIT_REMOVED, false);
    const bool each = is_flag(object, "individual_digits", false);
    if (is_type(object, "Digits"))
        return add_expression(t, name, "\\p{N}", each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false);
    return refuse(name, "pre_tokenizer", object,
                  "Sequence, ByteLevel, Split, Metaspace, Punctuation, WhitespaceSplit, Digits");
}

// ---- post_processor

static bool template_id(const char *name, const cJSON *tokens, const char *id, uint32_t *out)
{
    const cJSON *list = field(field(tokens, id), "ids"), *first = cJSON_GetArrayItem(list, 0);
    if (cJSON_GetArraySize(list) == 1 && cJSON_IsNumber(first) && first->valuedouble >= 0 &&
        first->valuedouble < TOKENIZER_ID_LIMIT) {
        *out = (uint32_t)first->valuedouble;
        return true;
    }
    log_error("%s: post_processor: special_tokens has no single id for \"%s\"", name, SHOWN(id));
    return false;
}

static bool read_template(struct tokenizer *t, const char *name, const cJSON *object)
{
    const cJSON *item;
    bool text = false;
    cJSON_ArrayForEach(item, field(object, "single")) {
        const char *id = text_of(field(item, "SpecialToken"), "id");
        uint32_t *list = text ? t->after : t->before,
                 *count = text ? &t->after_count : &t->before_count;
        if (field(item, "Sequence") && !text) {
            text = true;
        } else if (!id || *count == TEMPLATE_MOST) {
            log_error("%s: post_processor: a template that is not special tokens (at most %d), the "
                      "text, and special tokens", name, TEMPLATE_MOST);
            return false;
        } else if (!template_id(name, field(object, "special_tokens"), id, &list[(*count)++])) {
            return false;
        }
    }
    return true;
}

static bool read_post_processor(struct tokenizer *t, const char *name, const cJSON *object)
{
    if (is_null(object)) return true;
    if (is_type(object, "Sequence")) {
        const cJSON *item;
        cJSON_ArrayForEach(item, field(object, "processors"))
            if (!read_post_processor(t, name, item)) return false;
        return true;
    }
    if (is_type(object, "TemplateProcessing")) return read_template(t, name, object);
    if (!is_type(object, "ByteLevel"))
        return refuse(name, "post_processor", object, "Sequence, ByteLevel, TemplateProcessing");
    t->trim_spans = is_flag(object, "trim_offsets", true);
    t->trim_prefix = is_flag(object, "add_prefix_space", true);
    return true;
}

// ---- decoder: checked here, applied when the vocabulary is there

static bool check_strip(const char *name, const cJSON *object, bool fused)
{
    const char *content = text_of(object, "content");
    const double start = cJSON_GetNumberValue(field(object, "start")),
                 stop = cJSON_GetNumberValue(field(object, "stop"));
    if (fused && content && *content && (start == 0 || start == 1) && stop == 0) return true;
    log_error("%s: decoder: Strip is supported behind Fuse, with start 0 or 1 and stop 0", name);
    return false;
}

static bool check_decoder(const char *name, const cJSON *object, bool *fused)
{
    const cJSON *item;
    if (is_type(object, "Sequence")) {
        cJSON_ArrayForEach(item, field(object, "decoders"))
            if (is_type(item, "Sequence") || !check_decoder(name, item, fused))
                return is_type(item, "Sequence") ? refuse(name, "decoder", item, "a flat one")
                                                 : false;
        return true;
    }
    if (is_type(object, "Fuse")) return *fused = true;
    if (is_type(object, "Strip")) return check_strip(name, object, *fused);
    if (is_type(object, "Replace") && text_of(field(object, "pattern"), "String") &&
        text_of(object, "content") && *text_of(field(object, "pattern"), "String"))
        return true;
    if (is_type(object, "Metaspace") && text_of(object, "replacement")) return true;
    if (is_type(object, "ByteLevel") || is_type(object, "ByteFallback")) return true;
    return refuse(name, "decoder", object,
                  "ByteLevel, Metaspace, and Sequence of Replace (String), ByteFallback, Fuse, "
                  "Strip");
}

static struct slice replaced(struct tokenizer *t, struct slice text, const char *from,
                             const char *to)
{
    struct bytes out = {0};
    const struct piece piece = {.text = text};
    const struct normal_step step = {NORMAL_REPLACE, slice_of(from), slice_of(to)};
    struct text_buffer buffer = {0};
    normal_apply(t, &step, &piece, false, &buffer);
    out = buffer.bytes;
    uint8_t *own = arena_alloc(t->arena, out.count + 1);
    if (out.count) memcpy(own, out.data, out.count);
    const struct slice result = {own, out.count};
    buffer_free(&buffer);
    return result;
}

static void decode_token(struct tokenizer *t, const cJSON *decoder, uint32_t id)
{
    struct token *token = &t->token[id];
    const char *from = text_of(field(decoder, "pattern"), "String"), *space = NULL;
    if (is_type(decoder, "ByteLevel")) {
        uint8_t *bytes = arena_alloc(t->arena, token->decoded.count + 1);
        size_t count = 0;
        if (text_to_bytes((const char *)token->decoded.data, bytes, &count))
            token->decoded = (struct slice){bytes, count};
    }
    if (is_type(decoder, "Replace") &&
        memmem(token->decoded.data, token->decoded.count, from, strlen(from)))
        token->decoded = replaced(t, token->decoded, from, text_of(decoder, "content"));
    if (is_type(decoder, "Metaspace")) space = text_of(decoder, "replacement");
    if (space && memmem(token->decoded.data, token->decoded.count, space, strlen(space)))
        token->decoded = replaced(t, token->decoded, space, " ");
    if (!is_type(decoder, "ByteFallback") || t->byte_level) return;
    for (uint32_t b = 0; b < 256; b++) {
        if (t->byte[b] != id) continue;
        uint8_t *byte = arena_alloc(t->arena, 1);
        *byte = (uint8_t)b;
        token->decoded = (struct slice){byte, 1};
    }
}

static void apply_one(struct tokenizer *t, const cJSON *decoder)
{
    const char *scheme = text_of(decoder, "prepend_scheme");
    if (is_type(decoder, "Strip") && cJSON_GetNumberValue(field(decoder, "start")) == 1)
        t->strip = keep(t, text_of(decoder, "content"));
    if (is_type(decoder, "Metaspace"))
        t->drop_first_spaces = scheme ? strcmp(scheme, "never") != 0
                                      : is_flag(decoder, "add_prefix_space", true);
    if (is_type(decoder, "Strip") || is_type(decoder, "Fuse")) return;
    for (uint32_t id = 0; id < t->count; id++)
        if (t->token[id].text) decode_token(t, decoder, id);
}

void decoder_apply(struct tokenizer *t, const cJSON *decoder)
{
    const cJSON *item;
    for (uint32_t id = 0; id < t->count; id++)
        if (t->token[id].text) t->token[id].decoded = slice_of(t->token[id].text);
    if (!is_type(decoder, "Sequence")) apply_one(t, decoder);
    cJSON_ArrayForEach(item, field(decoder, "decoders")) apply_one(t, item);
    for (uint32_t id = 0; id < t->count; id++)
        if (t->token[id].special) t->token[id].decoded.count = 0;
}

// ---- added tokens

static bool add_added(struct tokenizer *t, const char *name, const cJSON *item)
{
    const char *text = text_of(item, "content");
    const cJSON *number = field(item, "id");
    if (!text || !*text || !cJSON_IsNumber(number)) {
        log_error("%s: added_tokens: one without \"id\" or \"content\"", name);
        return false;
    }
    const uint32_t id = (uint32_t)number->valuedouble;
    struct token *token = &t->token[id];
    if (token->text && strcmp(token->text, text) != 0) {
        log_error("%s: added_tokens: \"%s\" has the id %u of \"%s\"", name, SHOWN(text), id,
                  SHOWN(token->text));
        return false;
    }
    const uint32_t other = vocab_find(t, slice_of(text));
    if (other != TOKENIZER_NONE && other != id && strcmp(t->token[other].text, text) == 0) {
        log_error("%s: added_tokens: \"%s\" has the id %u, but %u in model.vocab", name,
                  SHOWN(text), id, other);
        return false;
    }
    if (is_flag(item, "single_word", false)) {
        log_error("%s: added_tokens: \"%s\": single_word is not supported", name, SHOWN(text));
        return false;
    }
    if (!token->text) token->text = arena_strdup(t->arena, text);
    token->special = is_flag(item, "special", false);
    t->specials += token->special;
    struct added_tokens *list = is_flag(item, "normalized", true) ? &t->normal : &t->raw;
    list->token[list->count++] = (struct added_token){
        .content = slice_of(token->text), .id = id, .special = token->special,
        .left = is_flag(item, "lstrip", false), .right = is_flag(item, "rstrip", false)};
    return true;
}

static int by_byte_and_length(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    if (x->content.data[0] != y->content.data[0])
        return x->content.data[0] < y->content.data[0] ? -1 : 1;
    if (x->content.count != y->content.count) return x->content.count > y->content.count ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void index_added(struct added_tokens *added)
{
    qsort(added->token, added->count, sizeof *added->token, by_byte_and_length);
    for (uint32_t b = 0, i = 0; b <= 256; b++) {
        while (i < added->count && added->token[i].content.data[0] < b) i++;
        added->first[b] = i;
    }
}

// Those that are looked for in normalized text are normalized themselves.
static void normalize_added(struct tokenizer *t)
{
    for (uint32_t i = 0; i < t->normal.count; i++) {
        struct slice *content = &t->normal.token[i].content;
        for (uint32_t s = 0; s < t->normal_count; s++) {
            struct text_buffer buffer = {0};
            const struct piece piece = {.text = *content};
            normal_apply(t, &t->normalizer[s], &piece, false, &buffer);
            uint8_t *own = arena_alloc(t->arena, buffer.bytes.count + 1);
            memcpy(own, buffer.bytes.data, buffer.bytes.count);
            *content = (struct slice){own, buffer.bytes.count};
            buffer_free(&buffer);
        }
    }
}

static void find_eot(struct tokenizer *t)
{
    static const char *const known[] = {"<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>"};
    for (size_t i = 0; i < COUNT_OF(known) && t->eot == TOKENIZER_NONE; i++)
        for (uint32_t id = 0; id < t->count && t->eot == TOKENIZER_NONE; id++)
            if (t->token[id].special && strcmp(t->token[id].text, known[i]) == 0) t->eot = id;
}

bool added_read(struct tokenizer *t, const char *name, const cJSON *added)
{
    const cJSON *item;
    const uint32_t count = (uint32_t)cJSON_GetArraySize(added);
    t->raw.token = arena_array(t->arena, count, sizeof *t->raw.token);
    t->normal.token = arena_array(t->arena, count, sizeof *t->normal.token);
    cJSON_ArrayForEach(item, added)
        if (!add_added(t, name, item)) return false;
    normalize_added(t);
    index_added(&t->raw);
    index_added(&t->normal);
    for (uint32_t i = 0; i < t->before_count + t->after_count; i++) {
        const uint32_t id = i < t->before_count ? t->before[i] : t->after[i - t->before_count];
        if (id < t->count && t->token[id].text) continue;
        log_error("%s: post_processor: id %u, which no token has", name, id);
        return false;
    }
    find_eot(t);
    return true;
}

// ---- all of them

bool steps_read(struct tokenizer *t, const char *name, const cJSON *root)
{
    static const char *const none[] = {"truncation", "padding"};
    bool fused = false;
    for (size_t i = 0; i < COUNT_OF(none); i++) {
        if (is_null(field(root, none[i]))) continue;
        log_error("%s: %s: wanted null; texts are encoded whole", name, none[i]);
        return false;
    }
    return read_normalizer(t, name, field(root, "normalizer")) &&
           read_pre_tokenizer(t, name, field(root, "pre_tokenizer")) &&
           read_post_processor(t, name, field(root, "post_processor")) &&
           check_decoder(name, field(root, "decoder"), &fused);
}

void steps_destroy(struct tokenizer *t)
{
    for (uint32_t i = 0; i < t->split_count; i++) pattern_destroy(&t->split[i].pattern);
    nfc_destroy(t);
}
