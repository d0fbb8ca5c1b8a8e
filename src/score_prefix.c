// SPDX-License-Identifier: MIT
// The choices of an item behind a KV cache: what they share goes through once, then each choice
// from that place on. All tokens take one plan, so a choice is worth the same digits as if it had
// gone through alone.
#include <stdlib.h>

#include "runtime/os.h"
#include "src/score_internal.h"
#include "src/session.h"

struct score_prefix {
    struct vkmoe_model *model;
    uint32_t            context, capacity;
    struct session     *session;
    float              *losses;
};

struct score_prefix *score_prefix_create(struct vkmoe_model *model, uint32_t context)
{
    struct score_prefix *p = os_alloc(sizeof *p);
    *p = (struct score_prefix){.model = model, .context = context,
                               .losses = os_alloc(context * sizeof(float))};
    return p;
}

void score_prefix_drop(struct score_prefix *p)
{
    session_destroy(&p->session);
    p->capacity = 0;
}

void score_prefix_destroy(struct score_prefix **prefix)
{
    struct score_prefix *p = *prefix;
    if (!p) return;
    score_prefix_drop(p);
    free(p->losses);
    free(p);
    *prefix = NULL;
}

enum { CHUNK = 64 }; // of session_score

uint64_t score_prefix_tokens(const struct score_requests *requests)
{
    uint64_t tokens = align_up(requests->shared - 1, CHUNK);
    for (uint32_t i = 0; i < requests->count; i++)
        tokens += align_up(requests->request[i].scored, CHUNK);
    return tokens;
}

static bool room(struct score_prefix *p, const struct score_requests *requests)
{
    const struct vkmoe_model *m = p->model;
    uint32_t most = 0;
    for (uint32_t i = 0; i < requests->count; i++)
        most = max_u32(most, requests->request[i].count - 1);
    const uint32_t capacity = score_bucket(most, p->context);
    if (capacity > p->capacity) {
        score_prefix_drop(p);
        p->session = session_create_scoring(m->device->gpu, m->device->kernels, m->params,
                                            capacity);
        p->capacity = p->session ? capacity : 0;
    }
    return p->session != NULL;
}

static bool run_request(struct score_prefix *p, struct score_request *r)
{
    const uint32_t first = r->count - 1 - r->scored;
    if (!session_score(p->session, r->ids + first, r->ids + first + 1, r->scored, p->losses))
        return false;
    r->logp = 0;
    for (uint32_t i = 0; i < r->scored; i++) r->logp -= (double)p->losses[i];
    return true;
}

bool score_prefix_run(struct score_prefix *p, struct score_requests *requests)
{
    if (!room(p, requests)) return false;
    session_reset(p->session);
    if (!session_score(p->session, requests->request[0].ids, NULL, requests->shared - 1, NULL))
        return false;
    const struct session_place place = session_here(p->session);
    for (uint32_t i = 0; i < requests->count; i++) {
        if (os_interrupted()) return false;
        session_back(p->session, &place);
        if (!run_request(p, &requests->request[i])) return false;
    }
    return true;
}
