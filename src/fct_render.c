// SPDX-License-Identifier: MIT
// Fields between tags, and the mask: see fct_render.h, which has the grammar.
#include "src/fct_render.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

enum tag {
    TAG_OBSERVE, TAG_PRIOR, TAG_UPDATE, TAG_RIPPLE, TAG_ANALOGY, TAG_ACT, TAG_PATTERN, TAG_DOMAIN
};

// The opening tag, then the closing one.
const char *const fct_tags[FCT_TAG_TOKENS] = {
    "[OBSERVE]", "[/OBSERVE]", "[PRIOR]", "[/PRIOR]", "[UPDATE]", "[/UPDATE]", "[RIPPLE]",
    "[/RIPPLE]", "[ANALOGY]", "[/ANALOGY]", "[ACT]", "[/ACT]", "[PATTERN]", "[/PATTERN]",
    "[DOMAIN]", "[/DOMAIN]"};

// The last part is the payload.
enum { MOST_PARTS = 4 };
static const struct part { enum tag tag; enum fct_field field; } parts[FCT_TASKS][MOST_PARTS] = {
    [FCT_TASK_UPDATE] = {{TAG_OBSERVE, FCT_TRIGGER}, {TAG_PRIOR, FCT_PRIOR_BELIEF},
                         {TAG_UPDATE, FCT_UPDATE}},
    [FCT_TASK_RIPPLE] = {{TAG_OBSERVE, FCT_TRIGGER}, {TAG_UPDATE, FCT_UPDATE},
                         {TAG_RIPPLE, FCT_RIPPLE}},
    [FCT_TASK_ANALOGY] = {{TAG_PATTERN, FCT_PATTERN}, {TAG_DOMAIN, FCT_DOMAIN},
                          {TAG_OBSERVE, FCT_TRIGGER}, {TAG_ANALOGY, FCT_ANALOGY}},
    [FCT_TASK_ACT] = {{TAG_OBSERVE, FCT_TRIGGER}, {TAG_UPDATE, FCT_UPDATE},
                      {TAG_ACT, FCT_ACTION_DELTA}},
};
static const uint32_t part_count[FCT_TASKS] = {
    [FCT_TASK_UPDATE] = 3, [FCT_TASK_RIPPLE] = 3, [FCT_TASK_ANALOGY] = 4, [FCT_TASK_ACT] = 3};

const char *fct_task_name(enum fct_task task)
{
    static const char *const name[FCT_TASKS] = {
        [FCT_TASK_UPDATE] = "UPDATE", [FCT_TASK_RIPPLE] = "RIPPLE",
        [FCT_TASK_ANALOGY] = "ANALOGY", [FCT_TASK_ACT] = "ACT"};
    return name[task];
}

enum fct_field fct_task_payload(enum fct_task task)
{
    return parts[task][part_count[task] - 1].field;
}

const char *fct_tag_missing(const struct tokenizer *tokenizer)
{
    for (uint32_t i = 0; i < FCT_TAG_TOKENS; i++) {
        const uint32_t id = tokenizer_id(tokenizer, fct_tags[i]);
        if (id == TOKENIZER_NONE || !tokenizer_is_special(tokenizer, id)) return fct_tags[i];
    }
    return NULL;
}

// ---- ids

static void mark(struct fct_sequence *out, size_t from, bool scored)
{
    const size_t count = out->encoding.count;
    if (count > out->room) {
        const size_t room = count < 256 ? 512 : 2 * count;
        out->scored = os_grow(out->scored, out->room, room);
        out->room = room;
    }
    memset(out->scored + from, scored, count - from);
}

static bool add_tag(const struct tokenizer *tokenizer, uint32_t index, struct fct_sequence *out)
{
    const char *text = fct_tags[index];
    const size_t from = out->encoding.count;
    if (!tokenizer_encode(tokenizer, text, strlen(text), TOKENIZER_SPECIAL, &out->encoding))
        return false;
    mark(out, from, false);
    return true;
}

static bool add_text(const struct tokenizer *tokenizer, const char *text, bool scored,
                     struct fct_sequence *out)
{
    const size_t from = out->encoding.count;
    if (!tokenizer_encode(tokenizer, text, strlen(text), 0, &out->encoding)) return false;
    mark(out, from, scored);
    return true;
}

bool fct_render(const struct tokenizer *tokenizer, const struct fct_pattern *input,
                const struct fct_pattern *payload, enum fct_task task, struct fct_sequence *out)
{
    out->encoding.count = 0;
    for (uint32_t i = 0; i < part_count[task]; i++) {
        const struct part *part = &parts[task][i];
        const bool last = i + 1 == part_count[task];
        const char *text = (last ? payload : input)->field[part->field];
        if (!add_tag(tokenizer, 2 * part->tag, out) || !add_text(tokenizer, text, last, out) ||
            !add_tag(tokenizer, 2 * part->tag + 1, out))
            return false;
    }
    return true;
}

void fct_sequence_free(struct fct_sequence *sequence)
{
    encoding_free(&sequence->encoding);
    free(sequence->scored);
    *sequence = (struct fct_sequence){0};
}
