// SPDX-License-Identifier: MIT
// Answers that the model writes itself, greedily, token by token, up to a stop, the end of the text
// or the limit. The text is kept as UTF-8; it is compared, never executed.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/score_internal.h"
#include "src/session.h"
#include "src/tokenizer_internal.h"

enum { DEFAULT_TOKENS = 256 };

// What is no UTF-8, and zero bytes, become U+FFFD.
static char *clean_text(const uint8_t *text, size_t bytes)
{
    struct bytes out = {0};
    for (size_t i = 0; i < bytes;) {
        const uint32_t length = text[i] ? utf8_length(text + i, bytes - i) : 0;
        if (length) bytes_append(&out, text + i, length);
        else bytes_append(&out, "\xef\xbf\xbd", 3);
        i += length ? length : 1;
    }
    bytes_append(&out, "", 1);
    return (char *)out.data;
}

static uint32_t most_tokens(const struct task_item *item, const struct score_settings *settings,
                            uint32_t context)
{
    const uint32_t wanted = settings->max_tokens ? settings->max_tokens
                            : item->max_tokens   ? item->max_tokens
                                                 : DEFAULT_TOKENS;
    return min_u32(wanted, context > 1 ? context - 1 : 1);
}

static bool generate_from(struct vkmoe_model *m, struct session *s, const struct task_item *item,
                          const struct encoding *prompt, uint32_t most, char **text)
{
    const struct session_sampling greedy = {.top_p = 1, .repetition_penalty = 1};
    uint32_t *ids = os_alloc(most * sizeof *ids), count = 0;
    struct bytes out = {0};
    session_reset(s);
    bool ok = session_feed(s, prompt->id, (uint32_t)prompt->count);
    for (bool going = ok; going && count < most;) {
        uint32_t id;
        ok = !os_interrupted() && session_sample(s, &greedy, &id);
        if (!ok || id == tokenizer_eot(m->tokenizer)) break;
        ids[count++] = id;
        out.count = 0;
        tokenizer_decode(m->tokenizer, ids, count, &out);
        going = out.count == 0 ||
                task_stop(item, (const char *)out.data, out.count) == out.count;
        if (going && count < most) going = ok = session_feed(s, &id, 1);
    }
    if (ok) *text = clean_text(out.data, out.count ? task_stop(item, (const char *)out.data,
                                                               out.count) : 0);
    bytes_free(&out);
    free(ids);
    return ok;
}

// The room that the longest item needs, of all items, so that one that is done later takes the
// same plans.
static bool find_capacity(struct vkmoe_model *m, const struct task *task,
                          const struct score_settings *settings, uint32_t context,
                          uint32_t *capacity)
{
    struct encoding prompt = {0};
    bool ok = true;
    uint32_t most = 0;
    for (uint64_t i = 0; ok && i < task->count; i++) {
        const struct task_item *item = &task->item[i];
        uint64_t cut;
        if (item->kind != TASK_GENERATE) continue;
        const uint32_t made = most_tokens(item, settings, context);
        prompt.count = 0;
        ok = score_encode_prompt(m, task, i, settings, context - made, &prompt, &cut);
        most = max_u32(most, (uint32_t)prompt.count + made);
    }
    encoding_free(&prompt);
    *capacity = score_bucket(most, context);
    return ok;
}

static bool generate_item(struct vkmoe_model *m, struct session *session, const struct task *task,
                          uint64_t index, const struct score_settings *settings, uint32_t context,
                          struct score_answer *answer)
{
    const struct task_item *item = &task->item[index];
    const uint32_t most = most_tokens(item, settings, context);
    struct encoding prompt = {0};
    const bool ok = score_encode_prompt(m, task, index, settings, context - most, &prompt,
                                        &answer->cut) &&
                    generate_from(m, session, item, &prompt, most, &answer->text);
    encoding_free(&prompt);
    answer->done = ok;
    return ok;
}

bool score_generate(struct vkmoe_model *m, const struct task *task,
                    const struct score_settings *settings, uint32_t context,
                    struct score_answer *answers, score_done_fn *done, void *user)
{
    struct session *session = NULL;
    uint32_t capacity = 0;
    bool ok = true;
    for (uint64_t i = 0; ok && i < task->count; i++) {
        if (task->item[i].kind != TASK_GENERATE || answers[i].done) continue;
        if (!session) {
            ok = find_capacity(m, task, settings, context, &capacity) &&
                 (session = session_create(m->device->gpu, m->device->kernels, m->params,
                                           capacity));
            if (!ok) break;
        }
        ok = generate_item(m, session, task, i, settings, context, &answers[i]) && done(user, i);
    }
    session_destroy(&session);
    return ok;
}
