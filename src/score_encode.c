// SPDX-License-Identifier: MIT
// Items -> ids: where prompt and continuation meet, what a context has no room for, windows over a
// text. See score.h.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/score_internal.h"

void score_requests_free(struct score_requests *requests)
{
    struct arena *arena = requests->arena;
    arena_destroy(&arena);
    *requests = (struct score_requests){0};
}

static bool fail_at(const struct task_item *item, const char *what)
{
    log_error("%s:%llu: %s", item->file, (unsigned long long)item->line, what);
    return false;
}

static bool check_ids(const struct vkmoe_model *m, const struct task_item *item,
                      const struct encoding *e)
{
    for (size_t i = 0; i < e->count; i++) {
        if (e->id[i] < m->model->config.vocab_size) continue;
        log_error("%s:%llu: id %u of the tokenizer, vocab_size is %u; the wrong tokenizer for this "
                  "model?", item->file, (unsigned long long)item->line, e->id[i],
                  m->model->config.vocab_size);
        return false;
    }
    return e->count < UINT32_MAX / 2 || fail_at(item, "more tokens than 32 bits count");
}

// What encodes an item's texts.
struct encoder_of {
    const struct vkmoe_model *model;
    const struct task_item   *item;
    unsigned                  flags;
};

static struct encoder_of encoder_of(const struct vkmoe_model *m, const struct task *task,
                                    uint64_t index, const struct score_settings *settings)
{
    return (struct encoder_of){m, &task->item[index], settings->template ? TOKENIZER_TEMPLATE : 0};
}

static bool encode(const struct encoder_of *by, const void *text, size_t bytes,
                   struct encoding *out)
{
    return tokenizer_encode(by->model->tokenizer, text, bytes, by->flags, out) &&
           check_ids(by->model, by->item, out);
}

static void put_front(struct encoding *e, uint32_t id)
{
    e->id = realloc(e->id, (e->count + 1) * sizeof *e->id);
    memmove(e->id + 1, e->id, e->count * sizeof *e->id);
    e->id[0] = id;
    e->capacity = ++e->count;
}

// ---- prompt and continuations

static size_t common(const struct encoding *a, const struct encoding *b)
{
    size_t n = 0;
    while (n < a->count && n < b->count && a->id[n] == b->id[n]) n++;
    return n;
}

// Ids of the prompt with each choice; how many at their front are the prompt's in all of them.
static bool encode_choices(const struct encoder_of *by, struct bytes *prompt,
                           struct encoding *whole, size_t *shared)
{
    const struct task_item *item = by->item;
    struct encoding alone = {0};
    const size_t length = prompt->count;
    bool ok = encode(by, prompt->data, length, &alone);
    *shared = alone.count;
    for (uint32_t i = 0; ok && i < item->choice_count; i++) {
        prompt->count = length;
        bytes_append(prompt, item->choice[i], strlen(item->choice[i]));
        ok = encode(by, prompt->data, prompt->count, &whole[i]);
        *shared = min_u64(*shared, common(&alone, &whole[i]));
        // a choice that adds nothing but changes to the prompt's last token
        if (ok && *shared == whole[i].count && *shared) --*shared;
        if (ok && whole[i].count == 0) ok = fail_at(item, "a choice that is no token");
    }
    encoding_free(&alone);
    return ok;
}

static bool fit(const struct task_item *item, struct encoding *whole, uint32_t context,
                struct score_requests *out)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < item->choice_count; i++)
        longest = max_u64(longest, whole[i].count);
    out->cut = longest > (size_t)context + 1 ? longest - context - 1 : 0;
    if (out->cut >= out->shared) {
        log_error("%s:%llu: %zu tokens to score, the context is %u; an answer is never cut",
                  item->file, (unsigned long long)item->line, longest - out->shared, context);
        return false;
    }
    out->shared -= (uint32_t)out->cut;
    return true;
}

static bool make_requests(const struct vkmoe_model *m, const struct task_item *item,
                          struct encoding *whole, size_t shared, uint32_t context,
                          struct score_requests *out)
{
    const uint32_t eot = tokenizer_eot(m->tokenizer);
    if (shared == 0 && eot == TOKENIZER_NONE)
        return fail_at(item, "no prompt, and the tokenizer has no end-of-text token to stand for "
                             "it");
    for (uint32_t i = 0; shared == 0 && i < item->choice_count; i++) put_front(&whole[i], eot);
    out->shared = (uint32_t)max_u64(shared, 1);
    if (!fit(item, whole, context, out)) return false;
    out->count = item->choice_count;
    out->request = arena_array(out->arena, out->count, sizeof *out->request);
    for (uint32_t i = 0; i < out->count; i++) {
        const uint32_t count = (uint32_t)(whole[i].count - out->cut);
        out->request[i] = (struct score_request){
            .ids = arena_array(out->arena, count, sizeof(uint32_t)), .count = count,
            .scored = count - out->shared};
        memcpy(out->request[i].ids, whole[i].id + out->cut, count * sizeof(uint32_t));
    }
    return true;
}

static bool encode_item(const struct encoder_of *by, struct bytes *prompt, uint32_t context,
                        struct score_requests *out)
{
    const struct task_item *item = by->item;
    struct encoding whole[TASK_MOST_CHOICES] = {{0}};
    size_t shared;
    const bool ok = encode_choices(by, prompt, whole, &shared) &&
                    make_requests(by->model, item, whole, shared, context, out);
    for (uint32_t i = 0; i < item->choice_count; i++) encoding_free(&whole[i]);
    return ok;
}

// ---- texts

// Each token once: windows of `context` inputs, the first of which scores all of its targets, the
// others their last `stride`.
static void make_windows(struct encoding *all, uint32_t context, uint32_t stride,
                         struct score_requests *out)
{
    const uint32_t targets = (uint32_t)all->count - 1;
    const uint32_t after = targets > context ? targets - context : 0;
    out->count = 1 + ceil_div(after, stride);
    out->request = arena_array(out->arena, out->count, sizeof *out->request);
    uint32_t *ids = arena_array(out->arena, all->count, sizeof *ids);
    memcpy(ids, all->id, all->count * sizeof *ids);
    for (uint32_t i = 0, end = 0; i < out->count; i++) {
        const uint32_t before = end;
        end = i == 0 ? min_u32(targets, context) : min_u32(targets, before + stride);
        const uint32_t begin = end > context ? end - context : 0;
        out->request[i] = (struct score_request){
            .ids = ids + begin, .count = end - begin + 1, .scored = end - before};
    }
}

static bool encode_text(const struct encoder_of *by, uint32_t context, uint32_t stride,
                        struct score_requests *out)
{
    const struct task_item *item = by->item;
    struct encoding all = {0};
    const uint32_t eot = tokenizer_eot(by->model->tokenizer);
    bool ok = encode(by, item->choice[0], strlen(item->choice[0]), &all);
    if (ok && eot != TOKENIZER_NONE && !by->flags) put_front(&all, eot);
    if (ok && all.count < 2) ok = fail_at(item, "a text of one token that nothing stands before");
    if (ok) make_windows(&all, context, stride ? min_u32(stride, context) : context, out);
    encoding_free(&all);
    return ok;
}

bool score_encode(const struct vkmoe_model *m, const struct task *task, uint64_t index,
                  const struct score_settings *settings, uint32_t context,
                  struct score_requests *out)
{
    const struct encoder_of by = encoder_of(m, task, index, settings);
    struct bytes prompt = {0};
    *out = (struct score_requests){.arena = arena_create("requests")};
    const bool ok =
        by.item->kind == TASK_TEXT
            ? encode_text(&by, context, settings->stride, out)
            : task_prompt(task, index, settings->shots, settings->seed, &prompt) &&
                  encode_item(&by, &prompt, context, out);
    bytes_free(&prompt);
    if (!ok) score_requests_free(out);
    return ok;
}

bool score_encode_prompt(const struct vkmoe_model *m, const struct task *task, uint64_t index,
                         const struct score_settings *settings, uint32_t most,
                         struct encoding *out, uint64_t *cut)
{
    const struct encoder_of by = encoder_of(m, task, index, settings);
    const uint32_t eot = tokenizer_eot(m->tokenizer);
    struct bytes prompt = {0};
    bool ok = task_prompt(task, index, settings->shots, settings->seed, &prompt) &&
              encode(&by, prompt.data, prompt.count, out);
    bytes_free(&prompt);
    if (ok && out->count == 0) {
        if (eot == TOKENIZER_NONE) ok = fail_at(by.item, "no prompt to generate from");
        else put_front(out, eot);
    }
    *cut = ok && out->count > most ? out->count - most : 0;
    if (*cut) memmove(out->id, out->id + *cut, (out->count - *cut) * sizeof *out->id);
    out->count -= *cut;
    return ok;
}
