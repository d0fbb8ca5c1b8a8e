// SPDX-License-Identifier: MIT
// The items of a task, some at a time, through batches, a shared cache, or generation: see score.h.
#include "src/score.h"

#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/score_internal.h"
#include "src/tokenizer_internal.h"

enum { BLOCK = 32 }; // items whose requests are put into batches together

struct scoring {
    struct vkmoe_model          *model;
    const struct task           *task;
    const struct score_settings *settings;
    uint32_t                     context;
    struct score_batches        *batches;
    struct score_prefix         *prefix;
    struct score_answer         *answers;
    score_done_fn               *done;
    void                        *user;
};

struct score_answer *score_answers_create(const struct task *task)
{
    struct score_answer *answers = os_alloc((task->count + 1) * sizeof *answers);
    for (uint64_t i = 0; i < task->count; i++) {
        const uint32_t choices = max_u32(task->item[i].choice_count, 1);
        answers[i].logp = os_alloc(choices * sizeof *answers[i].logp);
        answers[i].tokens = os_alloc(choices * sizeof *answers[i].tokens);
    }
    return answers;
}

void score_answers_destroy(struct score_answer **answers, const struct task *task)
{
    struct score_answer *a = *answers;
    if (!a) return;
    for (uint64_t i = 0; i < task->count; i++) {
        free(a[i].logp);
        free(a[i].tokens);
        free(a[i].text);
    }
    free(a);
    *answers = NULL;
}

// Whether the item's choices go behind a cache: by the item alone, so that it always does. With a
// sliding window the keys that a tile of queries begins with depend on where the queries are cut,
// and with them the last digits.
static bool shares(const struct scoring *s, const struct score_requests *r, bool choices)
{
    const struct config *c = &s->model->model->config;
    uint64_t apart = 0;
    if (!choices || r->count < 2 || !c->causal || config_leaks(c) || c->sliding_window)
        return false;
    if (s->settings->sharing != SCORE_SHARE_WHERE_IT_PAYS)
        return s->settings->sharing == SCORE_SHARE_ALWAYS;
    for (uint32_t i = 0; i < r->count; i++)
        apart += score_bucket(r->request[i].count - 1, s->context);
    return 2 * score_prefix_tokens(r) <= apart;
}

static void take(struct score_answer *answer, const struct score_requests *r, bool text)
{
    answer->cut = r->cut;
    for (uint32_t i = 0; i < r->count; i++) {
        const uint32_t at = text ? 0 : i;
        answer->logp[at] += r->request[i].logp;
        answer->tokens[at] += r->request[i].scored;
    }
    answer->done = true;
}

// The items of a block that share nothing; their requests side by side.
static bool run_together(struct scoring *s, struct score_requests *all, const bool *apart,
                         uint32_t count)
{
    uint64_t total = 0, at = 0;
    for (uint32_t i = 0; i < count; i++) total += apart[i] ? all[i].count : 0;
    struct score_request **request = os_alloc((total + 1) * sizeof *request);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; apart[i] && j < all[i].count; j++)
            request[at++] = &all[i].request[j];
    // experts that come and go have one reader of their slots at a time
    if (total && s->model->params->experts) score_prefix_drop(s->prefix);
    const bool ok = score_batches_run(s->batches, request, total);
    free(request);
    return ok;
}

static bool run_shared(struct scoring *s, struct score_requests *all, const bool *apart,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (apart[i]) continue;
        if (s->model->params->experts) score_batches_drop(s->batches);
        if (!score_prefix_run(s->prefix, &all[i])) return false;
    }
    return true;
}

static bool run_block(struct scoring *s, const uint64_t *index, uint32_t count)
{
    struct score_requests all[BLOCK] = {{0}};
    bool apart[BLOCK], ok = true;
    for (uint32_t i = 0; ok && i < count; i++) {
        const bool text = s->task->item[index[i]].kind == TASK_TEXT;
        ok = score_encode(s->model, s->task, index[i], s->settings, s->context, &all[i]);
        apart[i] = ok && !shares(s, &all[i], !text);
    }
    ok = ok && run_together(s, all, apart, count) && run_shared(s, all, apart, count);
    for (uint32_t i = 0; ok && i < count; i++) {
        take(&s->answers[index[i]], &all[i], s->task->item[index[i]].kind == TASK_TEXT);
        ok = s->done(s->user, index[i]);
    }
    for (uint32_t i = 0; i < count; i++) score_requests_free(&all[i]);
    return ok;
}

static bool run_choices(struct scoring *s)
{
    uint64_t index[BLOCK];
    uint32_t count = 0;
    bool ok = true;
    for (uint64_t i = 0; ok && i < s->task->count; i++) {
        if (s->task->item[i].kind != TASK_GENERATE && !s->answers[i].done) index[count++] = i;
        if (count == BLOCK || (count && i + 1 == s->task->count)) {
            ok = run_block(s, index, count);
            count = 0;
        }
    }
    return ok;
}

bool score_task(struct vkmoe_model *model, const struct task *task,
                const struct score_settings *settings, struct score_answer *answers,
                score_done_fn *done, void *user)
{
    const struct config *c = &model->model->config;
    const uint32_t context = settings->context
                                 ? min_u32(settings->context, c->max_position_embeddings)
                                 : c->max_position_embeddings;
    struct scoring s = {.model = model, .task = task, .settings = settings, .context = context,
                        .answers = answers, .done = done, .user = user};
    if (!model->tokenizer) {
        log_error("the model has no tokenizer.json, so a task cannot be read");
        return false;
    }
    if (settings->template && model->tokenizer->after_count) {
        log_error("--template: this tokenizer puts tokens behind a text too, where an answer goes "
                  "on");
        return false;
    }
    if (c->task == CONFIG_COPY) {
        log_error("task copy: this model repeats its input, it does not continue a text");
        return false;
    }
    s.batches = score_batches_create(model, context);
    s.prefix = score_prefix_create(model, context);
    bool ok = run_choices(&s);
    score_batches_destroy(&s.batches);
    score_prefix_destroy(&s.prefix);
    return ok && score_generate(model, task, settings, context, answers, done, user);
}
