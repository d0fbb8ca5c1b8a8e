// SPDX-License-Identifier: MIT
// A byte-level tokenizer.json that the package `tokenizers` reads with the same ids. No offsets are
// trimmed, no space is put in front.
#include "src/tokenizer_print.h"

#include <cjson/cJSON.h>
#include <stddef.h>

static cJSON *byte_level(void)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "ByteLevel");
    cJSON_AddFalseToObject(object, "add_prefix_space");
    cJSON_AddFalseToObject(object, "trim_offsets");
    cJSON_AddFalseToObject(object, "use_regex"); // words are found by the step before, if at all
    return object;
}

static cJSON *pre_tokenizer(const char *expression)
{
    if (!expression) return byte_level();
    cJSON *sequence = cJSON_CreateObject(), *split = cJSON_CreateObject();
    cJSON_AddStringToObject(split, "type", "Split");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(split, "pattern"), "Regex", expression);
    cJSON_AddStringToObject(split, "behavior", "Isolated");
    cJSON_AddFalseToObject(split, "invert");
    cJSON_AddStringToObject(sequence, "type", "Sequence");
    cJSON *list = cJSON_AddArrayToObject(sequence, "pretokenizers");
    cJSON_AddItemToArray(list, split);
    cJSON_AddItemToArray(list, byte_level());
    return sequence;
}

// Appending to a list of cJSON's walks to its end only through `prev`, an object's key is not
// looked for, so this takes linear time.
static void add_model(cJSON *root, const struct tokenizer_contents *c)
{
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddNullToObject(model, "dropout");
    cJSON_AddNullToObject(model, "unk_token");
    cJSON_AddNullToObject(model, "continuing_subword_prefix");
    cJSON_AddNullToObject(model, "end_of_word_suffix");
    cJSON_AddFalseToObject(model, "fuse_unk");
    cJSON_AddFalseToObject(model, "byte_fallback");
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab");
    for (uint32_t i = 0; i < c->entry_count; i++) cJSON_AddNumberToObject(vocab, c->entry[i], i);
    cJSON *merges = cJSON_AddArrayToObject(model, "merges");
    for (uint32_t i = 0; i < c->merge_count; i++) {
        const char *const pair[] = {c->entry[c->left[i]], c->entry[c->right[i]]};
        cJSON_AddItemToArray(merges, cJSON_CreateStringArray(pair, 2));
    }
}

void tokenizer_print_special(struct cJSON *added_tokens, uint32_t id, const char *text)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    cJSON *token = cJSON_CreateObject();
    cJSON_AddNumberToObject(token, "id", id);
    cJSON_AddStringToObject(token, "content", text);
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
        cJSON_AddFalseToObject(token, flags[f]);
    cJSON_AddTrueToObject(token, "special");
    cJSON_AddItemToArray(added_tokens, token);
}

char *tokenizer_print(const struct tokenizer_contents *c)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", "1.0");
    cJSON_AddNullToObject(root, "truncation");
    cJSON_AddNullToObject(root, "padding");
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens");
    for (uint32_t i = 0; i < c->special_count; i++)
        tokenizer_print_special(added, c->entry_count + i, c->special[i]);
    cJSON_AddNullToObject(root, "normalizer");
    cJSON_AddItemToObject(root, "pre_tokenizer", pre_tokenizer(c->expression));
    cJSON_AddNullToObject(root, "post_processor");
    cJSON_AddItemToObject(root, "decoder", byte_level());
    add_model(root, c);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    return text;
}
