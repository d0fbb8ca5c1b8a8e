// SPDX-License-Identifier: MIT
// One JSON object -> one item, for each of the forms that task.h names.
#include <stdio.h>
#include <string.h>

#include "src/task_internal.h"

static const cJSON *field(const cJSON *root, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(root, key);
}

static const char *keep(struct task_reader *r, const char *text)
{
    return arena_strdup(r->arena, text);
}

// A string that must be there. NULL after one line.
static const char *text_of(struct task_reader *r, const cJSON *root, const char *key)
{
    const char *text = cJSON_GetStringValue(field(root, key));
    if (text) return keep(r, text);
    task_refuse(r, "%s \"%s\"; wanted a string", field(root, key) ? "not a string:" : "no", key);
    return NULL;
}

// A string or a number that may be there: "" where it is not.
static const char *name_of(struct task_reader *r, const cJSON *root, const char *key)
{
    const cJSON *value = field(root, key);
    if (cJSON_IsString(value)) return keep(r, value->valuestring);
    if (cJSON_IsNumber(value)) return arena_printf(r->arena, "%.15g", value->valuedouble);
    return "";
}

// Strings of an array, each with `before` in front.
static bool strings_of(struct task_reader *r, const cJSON *list, const char *key,
                       const char *before, struct task_item *item)
{
    const int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 2 || count > TASK_MOST_CHOICES)
        return task_refuse(r, "\"%s\": wanted an array of 2 to %d strings, found %s", key,
                           TASK_MOST_CHOICES,
                           cJSON_IsArray(list) ? arena_printf(r->arena, "%d", count)
                           : list              ? "no array" : "nothing");
    item->choice = arena_array(r->arena, (size_t)count, sizeof *item->choice);
    for (const cJSON *at = list->child; at; at = at->next) {
        const char *text = cJSON_GetStringValue(at);
        if (!text || !*text)
            return task_refuse(r, "\"%s\"[%u] is %s; wanted text", key, item->choice_count,
                               text ? "empty" : "not a string");
        item->choice[item->choice_count++] = arena_printf(r->arena, "%s%s", before, text);
    }
    return true;
}

// The right choice as a number from 0; hellaswag's label may be a string.
static bool index_of(struct task_reader *r, const cJSON *root, const char *key,
                     struct task_item *item)
{
    const cJSON *value = field(root, key);
    double number = -1;
    char end;
    if (cJSON_IsNumber(value)) number = value->valuedouble;
    else if (!cJSON_IsString(value) || sscanf(value->valuestring, "%lf%c", &number, &end) != 1)
        return task_refuse(r, "no right answer: \"%s\" is %s; wanted a number from 0 to %u", key,
                           value ? "no number" : "not there",
                           item->choice_count - 1);
    if (!(number >= 0 && number < item->choice_count) || number != (double)(uint32_t)number)
        return task_refuse(r, "\"%s\" is %.15g, out of range; wanted 0 to %u", key, number,
                           item->choice_count - 1);
    item->answer = (uint32_t)number;
    return true;
}

// ---- ours

static bool read_stops(struct task_reader *r, const cJSON *root, struct task_item *item)
{
    const cJSON *list = field(root, "stop"), *most = field(root, "max_tokens");
    for (const cJSON *at = cJSON_IsArray(list) ? list->child : NULL; at; at = at->next) {
        const char *text = cJSON_GetStringValue(at);
        if (!text || !*text || item->stop_count == TASK_MOST_STOPS)
            return task_refuse(r, "\"stop\": wanted at most %d texts that are not empty",
                               TASK_MOST_STOPS);
        item->stop[item->stop_count++] = keep(r, text);
    }
    if (list && !cJSON_IsArray(list)) return task_refuse(r, "\"stop\": wanted an array of texts");
    if (!most) return true;
    if (!cJSON_IsNumber(most) || !(most->valuedouble >= 1 && most->valuedouble <= 1e6))
        return task_refuse(r, "\"max_tokens\": wanted a number from 1 to 1000000");
    item->max_tokens = (uint32_t)most->valuedouble;
    return true;
}

static bool read_generate(struct task_reader *r, const cJSON *root, struct task_item *item)
{
    const char *expression = cJSON_GetStringValue(field(root, "regex"));
    item->wanted = cJSON_GetStringValue(field(root, "answer"));
    if (!item->wanted == !expression)
        return task_refuse(r, "no right answer: wanted \"answer\" or \"regex\", a string, one of "
                              "them");
    item->match = expression ? TASK_REGEX : TASK_EXACT;
    item->solution = item->wanted ? keep(r, item->wanted) : NULL;
    item->wanted = keep(r, expression ? expression : item->wanted);
    if (item->match == TASK_EXACT && strspn(item->wanted, " \t\r\n") == strlen(item->wanted))
        return task_refuse(r, "no right answer: \"answer\" is empty");
    if (!read_stops(r, root, item)) return false;
    return !expression || (item->pattern = task_pattern_create(r, item->wanted));
}

static bool read_choice(struct task_reader *r, const cJSON *root, struct task_item *item)
{
    return strings_of(r, field(root, "choices"), "choices", "", item) &&
           index_of(r, root, "answer", item);
}

static bool read_texts(struct task_reader *r, const cJSON *root, struct task_item *item,
                       const char *const *key, uint32_t count)
{
    item->choice = arena_array(r->arena, count, sizeof *item->choice);
    for (item->choice_count = 0; item->choice_count < count; item->choice_count++) {
        const char *text = text_of(r, root, key[item->choice_count]);
        if (!text) return false;
        if (!*text) return task_refuse(r, "\"%s\" is empty", key[item->choice_count]);
        item->choice[item->choice_count] = text;
    }
    return true;
}

const char *task_kind_name(enum task_kind kind)
{
    static const char *const name[TASK_KINDS] = {"pairs", "choice", "generate", "text"};
    return name[kind];
}

// By the name it says, else by what is there. TASK_KINDS after one line.
static enum task_kind kind_of(struct task_reader *r, const cJSON *root)
{
    const cJSON *kind = field(root, "kind");
    for (int k = 0; cJSON_IsString(kind) && k < TASK_KINDS; k++)
        if (!strcmp(kind->valuestring, task_kind_name((enum task_kind)k))) return (enum task_kind)k;
    if (kind) {
        task_refuse(r, "\"kind\": wanted pairs, choice, generate or text");
        return TASK_KINDS;
    }
    if (field(root, "good") || field(root, "bad")) return TASK_PAIRS;
    if (field(root, "choices")) return TASK_CHOICE;
    if (field(root, "text")) return TASK_TEXT;
    if (field(root, "prompt")) return TASK_GENERATE;
    task_refuse(r, "no item: wanted \"good\" and \"bad\", \"choices\", \"text\", or \"prompt\"");
    return TASK_KINDS;
}

static bool read_own(struct task_reader *r, const cJSON *root)
{
    static const char *const pairs[] = {"good", "bad"}, *const text[] = {"text"};
    struct task_item item = {.kind = kind_of(r, root), .id = name_of(r, root, "id"),
                             .domain = name_of(r, root, "domain"), .header = "", .prompt = ""};
    bool ok = false;
    if (item.kind == TASK_KINDS) return false;
    if (field(root, "prompt") && !(item.prompt = text_of(r, root, "prompt"))) return false;
    switch (item.kind) {
    case TASK_PAIRS: ok = read_texts(r, root, &item, pairs, 2); break;
    case TASK_CHOICE: ok = read_choice(r, root, &item); break;
    case TASK_TEXT: ok = read_texts(r, root, &item, text, 1); break;
    case TASK_GENERATE: ok = read_generate(r, root, &item); break;
    case TASK_KINDS: break;
    }
    if (!ok) {
        task_pattern_destroy(&item.pattern);
        return false;
    }
    if (item.kind == TASK_PAIRS || item.kind == TASK_CHOICE)
        item.solution = item.choice[item.answer];
    return task_take(r, &item, cJSON_IsTrue(field(root, "dev")));
}

// ---- those of others

// MMLU as a JSON line: question, choices, answer, subject.
static bool read_mmlu(struct task_reader *r, const cJSON *root)
{
    struct task_item item = {.kind = TASK_CHOICE, .id = "", .domain = name_of(r, root, "subject")};
    const char *question = text_of(r, root, "question");
    if (!question || !strings_of(r, field(root, "choices"), "choices", "", &item) ||
        !index_of(r, root, "answer", &item))
        return false;
    if (item.choice_count > 26) return task_refuse(r, "\"choices\": more than 26");
    struct bytes prompt = {0};
    bytes_printf(&prompt, "%s", question);
    for (uint32_t i = 0; i < item.choice_count; i++) {
        bytes_printf(&prompt, "\n%c. %s", (int)('A' + i), item.choice[i]);
        item.choice[i] = arena_printf(r->arena, " %c", (int)('A' + i));
    }
    bytes_printf(&prompt, "\nAnswer:");
    item.prompt = keep(r, (const char *)prompt.data);
    bytes_free(&prompt);
    item.solution = item.choice[item.answer];
    item.header = arena_printf(r->arena, "The following are multiple choice questions (with "
                               "answers)%s%s.\n\n", *item.domain ? " about " : "", item.domain);
    return task_take(r, &item, false);
}

static bool label_of(struct task_reader *r, const cJSON *root, const cJSON *labels,
                     struct task_item *item)
{
    const char *key = name_of(r, root, "answerKey");
    uint32_t index = 0;
    if (!*key) return task_refuse(r, "no right answer: \"answerKey\" is not there");
    for (const cJSON *at = labels ? labels->child : NULL; at; at = at->next, index++) {
        const cJSON *label = cJSON_IsObject(at) ? field(at, "label") : at;
        if (!cJSON_IsString(label) || strcmp(label->valuestring, key) != 0) continue;
        item->answer = index;
        return index < item->choice_count ||
               task_refuse(r, "\"label\" has more entries than \"text\"");
    }
    return task_refuse(r, "\"answerKey\" is \"%s\", which is no choice's label", key);
}

// Both forms: "choices": [{"text", "label"}] inside question (AllenAI's files), or {"text": [],
// "label": []} (those of the Hugging Face hub).
static bool read_arc(struct task_reader *r, const cJSON *root)
{
    const cJSON *question = field(root, "question");
    const bool inside = cJSON_IsObject(question);
    const cJSON *choices = field(inside ? question : root, "choices");
    const char *stem = inside ? text_of(r, question, "stem") : text_of(r, root, "question");
    struct task_item item = {.kind = TASK_CHOICE, .id = name_of(r, root, "id"), .domain = "",
                             .header = ""};
    if (!stem) return false;
    cJSON *texts = inside ? cJSON_CreateArray() : NULL;
    const cJSON *first = inside && cJSON_IsArray(choices) ? choices->child : NULL;
    for (const cJSON *at = first; at; at = at->next) {
        const char *text = cJSON_GetStringValue(field(at, "text"));
        cJSON_AddItemToArray(texts, text ? cJSON_CreateString(text) : cJSON_CreateNull());
    }
    const bool ok = strings_of(r, inside ? texts : field(choices, "text"), "choices", " ", &item);
    cJSON_Delete(texts);
    if (!ok || !label_of(r, root, inside ? choices : field(choices, "label"), &item)) return false;
    item.prompt = arena_printf(r->arena, "Question: %s\nAnswer:", stem);
    item.solution = item.choice[item.answer];
    return task_take(r, &item, false);
}

// As lm-evaluation-harness does: " [title]" ends a sentence, other brackets go, so do double
// spaces that they leave.
static const char *without_brackets(struct task_reader *r, const char *text)
{
    struct bytes out = {0};
    while (*text == ' ' || *text == '\n' || *text == '\t') text++;
    for (const char *at = text; *at;) {
        const char *close = *at == '[' ? strchr(at, ']') : NULL;
        if (strncmp(at, " [title]", 8) == 0) {
            bytes_append(&out, ". ", 2);
            at += 8;
        } else if (close) {
            at = close + 1;
        } else {
            bytes_append(&out, at++, 1);
        }
    }
    char *clean = arena_alloc(r->arena, out.count + 1);
    size_t used = 0;
    for (size_t i = 0; i < out.count; i++) {
        if (out.data[i] == ' ' && i + 1 < out.count && out.data[i + 1] == ' ') i++;
        clean[used++] = (char)out.data[i];
    }
    while (used && strchr(" \n\t", clean[used - 1])) used--;
    clean[used] = 0;
    bytes_free(&out);
    return clean;
}

static bool read_hellaswag(struct task_reader *r, const cJSON *root)
{
    struct task_item item = {.kind = TASK_CHOICE, .id = name_of(r, root, "ind"), .header = "",
                             .domain = ""};
    const char *context = text_of(r, root, "ctx"), *activity = name_of(r, root, "activity_label");
    if (!context || !strings_of(r, field(root, "endings"), "endings", "", &item) ||
        !index_of(r, root, "label", &item))
        return false;
    for (uint32_t i = 0; i < item.choice_count; i++) {
        const char *ending = without_brackets(r, item.choice[i]);
        if (!*ending) return task_refuse(r, "\"endings\"[%u] is empty", i);
        item.choice[i] = arena_printf(r->arena, " %s", ending);
    }
    item.prompt = without_brackets(
        r, arena_printf(r->arena, "%s%s%s", activity, *activity ? ": " : "", context));
    item.solution = item.choice[item.answer];
    return task_take(r, &item, false);
}

static bool read_gsm8k(struct task_reader *r, const cJSON *root)
{
    const char *question = text_of(r, root, "question"),
               *answer = question ? text_of(r, root, "answer") : NULL;
    if (!answer) return false;
    const char *mark = strstr(answer, "#### ");
    if (!mark || strcspn(mark, "0123456789") == strlen(mark))
        return task_refuse(r, "no right answer: \"answer\" does not end in #### and a number");
    const struct task_item item = {
        .kind = TASK_GENERATE, .id = "", .domain = "", .header = "",
        .prompt = arena_printf(r->arena, "Question: %s\nAnswer:", question),
        .solution = arena_printf(r->arena, " %s", answer), .match = TASK_NUMBER,
        .wanted = keep(r, mark + 4 + strcspn(mark + 4, "-.0123456789")),
        .stop = {"\n\n", "Question:"}, .stop_count = 2};
    struct task_item own = item;
    return task_take(r, &own, false);
}

static bool read_humaneval(struct task_reader *r, const cJSON *root)
{
    const char *id = text_of(r, root, "task_id"), *prompt = id ? text_of(r, root, "prompt") : NULL;
    struct task_item item = {.kind = TASK_GENERATE, .id = id, .domain = "", .header = "",
                             .prompt = prompt, .match = TASK_SAMPLE,
                             .stop = {"\nclass ", "\ndef ", "\n#", "\nif ", "\nprint"},
                             .stop_count = 5};
    if (!prompt) return false;
    if (!*prompt) return task_refuse(r, "\"prompt\" is empty");
    return task_take(r, &item, false);
}

enum task_format task_guess(const cJSON *root)
{
    if (field(root, "endings")) return TASK_HELLASWAG;
    if (field(root, "answerKey")) return TASK_ARC;
    if (field(root, "task_id") && field(root, "prompt")) return TASK_HUMANEVAL;
    if (field(root, "question") && field(root, "choices")) return TASK_MMLU;
    if (field(root, "question") && field(root, "answer")) return TASK_GSM8K;
    return TASK_OWN;
}

bool task_read_object(struct task_reader *r, const cJSON *root)
{
    switch (r->format) {
    case TASK_OWN: return read_own(r, root);
    case TASK_MMLU: return read_mmlu(r, root);
    case TASK_ARC: return read_arc(r, root);
    case TASK_HELLASWAG: return read_hellaswag(r, root);
    case TASK_GSM8K: return read_gsm8k(r, root);
    case TASK_HUMANEVAL: return read_humaneval(r, root);
    case TASK_AUTO: case TASK_PLAIN: case TASK_FORMATS: break;
    }
    return false;
}
