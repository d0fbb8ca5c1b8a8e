// SPDX-License-Identifier: MIT
// A text through the model, with the picks of every router read back; the same text through the
// run's older checkpoints; then the statistics of what was picked.
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/checkpoint.h"
#include "src/data.h"
#include "src/evaluator.h"
#include "src/vkmoe_internal.h"
#include "src/weights.h"
#include "tools/inspect.h"

enum { BATCH_TOKENS = 1024, NONE = -1 };
#define MOST_PICKS (1ull << 26) // of all layers together

struct gather {
    struct inspect   *inspect;
    const struct config *config;
    struct data      *data;
    enum data_split   split;
    struct evaluator *evaluator;
    uint32_t          batch;    // windows
    uint32_t          windows;  // that are used, of those there are
    uint32_t         *ids, *targets, *begins, *picks; // of a batch
    float            *gates;
};

// ---- the text

// The fingerprint of the data that a run was trained on; false where its state does not say.
static bool trained_on(const char *folder, uint64_t *fingerprint)
{
    struct checkpoint_found found;
    char path[4200];
    void *text;
    uint64_t bytes;
    if (!checkpoint_find(folder, &found)) return false;
    snprintf(path, sizeof path, "%s/state.json", found.path);
    if (!file_exists(path) || !file_read(path, 64 << 20, &text, &bytes)) return false;
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "data"));
    if (data) *fingerprint = strtoull(data, NULL, 16);
    cJSON_Delete(json);
    free(text);
    return data != NULL;
}

static struct data *open_split(const struct gather *g, const struct inspect_params *params,
                               const struct tokenizer *tokenizer, double fraction)
{
    return data_open(&(struct data_params){.path = params->data,
                                           .path_count = params->data_count,
                                           .tokenizer = tokenizer,
                                           .vocab_size = g->config->vocab_size,
                                           .seq_len = g->inspect->seq_len,
                                           .packing = (enum data_packing)g->config->packing,
                                           .boundaries = g->config->document_boundaries,
                                           .held_out_fraction = fraction,
                                           .seed = g->config->seed,
                                           .corpus = fraction < 1 ? &g->config->corpus : NULL});
}

// The run's own text: what it held out. Any other: all of it.
static bool open_text(struct gather *g, const struct inspect_params *params,
                      const struct tokenizer *tokenizer)
{
    uint64_t fingerprint;
    const double fraction = g->config->held_out_fraction;
    g->split = DATA_HELD_OUT;
    if (fraction > 0 && trained_on(params->folder, &fingerprint)) {
        g->data = open_split(g, params, tokenizer, fraction);
        if (!g->data) return false;
        g->inspect->source = "the text that the run held out";
        if (data_fingerprint(g->data) == fingerprint) return true;
        data_close(&g->data);
    }
    g->inspect->source = "the whole text";
    g->data = open_split(g, params, tokenizer, 1);
    return g->data != NULL;
}

static void name_domains(struct gather *g)
{
    struct inspect *in = g->inspect;
    in->domains = data_domain_count(g->data);
    in->domain_name = arena_array(in->arena, in->domains, sizeof *in->domain_name);
    in->domain_tokens = arena_array(in->arena, in->domains, sizeof *in->domain_tokens);
    for (uint32_t d = 0; d < in->domains; d++)
        in->domain_name[d] = arena_strdup(in->arena, data_domain_name(g->data, d));
}

// ---- room

static void make_room(struct gather *g, uint32_t max_tokens)
{
    struct inspect *in = g->inspect;
    const struct config *c = g->config;
    uint64_t picks = 0, most_k = 1; // a token, over all layers
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i]) {
            picks += c->layer_router[i].top_k;
            most_k = max_u64(most_k, c->layer_router[i].top_k);
        }
    const uint64_t tokens = min_u64(max_tokens ? max_tokens : INSPECT_TOKENS, MOST_PICKS / picks);
    g->windows = (uint32_t)min_u64(max_u64(tokens / in->seq_len, 1),
                                   data_windows(g->data, g->split));
    in->tokens = g->windows * in->seq_len;
    in->ids = arena_array(in->arena, in->tokens, sizeof *in->ids);
    in->domain = arena_array(in->arena, in->tokens, sizeof *in->domain);
    in->document = arena_array(in->arena, in->tokens, sizeof *in->document);
    in->layer = arena_array(in->arena, config_moe_layers(c), sizeof *in->layer);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        if (!c->moe_layer[i]) continue;
        struct inspect_layer *l = &in->layer[in->layers++];
        l->number = i;
        l->top_k = c->layer_router[i].top_k;
        l->picks = arena_array(in->arena, (size_t)in->tokens * l->top_k, sizeof *l->picks);
        l->gates = arena_array(in->arena, (size_t)in->tokens * l->top_k, sizeof *l->gates);
    }
    const size_t batch = (size_t)g->batch * in->seq_len;
    g->ids = arena_array(in->arena, batch, sizeof *g->ids);
    g->targets = arena_array(in->arena, batch, sizeof *g->targets);
    g->begins = arena_array(in->arena, batch, sizeof *g->begins);
    g->picks = arena_array(in->arena, batch * most_k, sizeof *g->picks);
    g->gates = arena_array(in->arena, batch * most_k, sizeof *g->gates);
}

// ---- through the model

// Windows evenly over the text, so that all its kinds are there.
static uint64_t window_at(const struct gather *g, uint32_t index)
{
    return (uint64_t)index * data_windows(g->data, g->split) / g->windows;
}

static uint32_t load_batch(struct gather *g, uint32_t first)
{
    const uint32_t seq = g->inspect->seq_len, rows = min_u32(g->batch, g->windows - first);
    for (uint32_t b = 0; b < g->batch; b++) {
        uint32_t *ids = g->ids + (size_t)b * seq, *targets = g->targets + (size_t)b * seq;
        if (b < rows) {
            data_window_at(g->data, g->split, window_at(g, first + b), ids, targets, true);
            data_window_begins(g->data, g->split, window_at(g, first + b), 1,
                               g->begins + (size_t)b * seq);
        }
        for (uint32_t i = 0; b >= rows && i < seq; i++)
            ids[i] = g->begins[(size_t)b * seq + i] = 0, targets[i] = DATA_MASKED;
    }
    return rows;
}

// What was picked in the batch, into the layers' rows from `first` on; gates NULL: not wanted.
static bool take_picks(struct gather *g, uint32_t index, uint32_t first, uint32_t rows,
                       uint32_t *picks, float *gates)
{
    const struct inspect *in = g->inspect;
    const uint32_t k = in->layer[index].top_k;
    const size_t at = (size_t)first * in->seq_len, count = (size_t)rows * in->seq_len;
    if (!evaluator_picks(g->evaluator, index, g->picks, g->gates)) return false;
    memcpy(picks + at * k, g->picks, count * k * sizeof *picks);
    if (gates) memcpy(gates + at * k, g->gates, count * k * sizeof *gates);
    // a position that belongs to no document is not counted
    for (size_t t = at; t < at + count; t++)
        for (uint32_t i = 0; i < k && in->domain[t] >= in->domains; i++) picks[t * k + i] = NONE;
    return true;
}

// picks: of each layer, in place of the layers' own; NULL: the layers'.
static bool run_text(struct gather *g, uint32_t **picks, double *loss)
{
    struct inspect *in = g->inspect;
    uint64_t scored = 0;
    *loss = 0;
    for (uint32_t first = 0; first < g->windows; first += g->batch) {
        const uint32_t rows = load_batch(g, first);
        const struct batch batch = {g->ids, g->targets, g->begins};
        double sum;
        uint64_t targets;
        if (os_interrupted() || !evaluator_batch(g->evaluator, &batch, &sum, &targets))
            return false;
        *loss += sum;
        scored += targets;
        memcpy(in->ids + (size_t)first * in->seq_len, g->ids,
               (size_t)rows * in->seq_len * sizeof *in->ids);
        for (uint32_t i = 0; i < in->layers; i++)
            if (!take_picks(g, i, first, rows, picks ? picks[i] : in->layer[i].picks,
                            picks ? NULL : in->layer[i].gates))
                return false;
    }
    *loss /= (double)max_u64(scored, 1);
    return true;
}

static struct routing_sample sample_of(const struct inspect *in, uint32_t index,
                                       const uint32_t *picks)
{
    return (struct routing_sample){in->tokens, in->layer[index].top_k, in->experts, in->domains,
                                   picks, in->domain, in->ids, in->document};
}

// ---- checkpoints

static void choose_checkpoints(struct inspect *in)
{
    uint64_t all[4096];
    const uint32_t count = checkpoint_list(in->folder, all, 4096);
    in->checkpoints = min_u32(count, INSPECT_CHECKPOINTS);
    for (uint32_t i = 0; i < in->checkpoints; i++) // the last one always
        in->checkpoint[i] = all[count - 1 - (uint64_t)(in->checkpoints - 1 - i) * (count - 1) /
                                                max_u32(in->checkpoints - 1, 1)];
}

// The picks of each older checkpoint on the same text, compared with the last one's.
static bool compare_checkpoints(struct gather *g)
{
    struct inspect *in = g->inspect;
    uint32_t **picks = arena_array(in->arena, in->layers, sizeof *picks);
    struct params_values master = {in->model->params, PARAMS_MASTER};
    choose_checkpoints(in);
    for (uint32_t i = 0; i < in->layers; i++) {
        if (in->checkpoints) in->layer[i].saturation[in->checkpoints - 1] = 1;
        if (in->checkpoints > 1)
            picks[i] = arena_array(in->arena, (size_t)in->tokens * in->layer[i].top_k, 4);
    }
    for (uint32_t c = 0; c + 1 < in->checkpoints; c++) {
        char path[4200];
        double loss;
        snprintf(path, sizeof path, "%.4000s/checkpoint-%08llu/model.safetensors", in->folder,
                 (unsigned long long)in->checkpoint[c]);
        if (!weights_load(in->model->model, path, params_put, &master) ||
            !run_text(g, picks, &loss))
            return false;
        for (uint32_t i = 0; i < in->layers; i++) {
            const struct routing_sample own = sample_of(in, i, picks[i]),
                                        last = sample_of(in, i, in->layer[i].picks);
            in->layer[i].saturation[c] = routing_saturation(&own, &last);
        }
    }
    return true;
}

// ---- all

static bool gather_all(struct gather *g, const struct inspect_params *params,
                       struct vkmoe_device *device)
{
    struct inspect *in = g->inspect;
    if (!open_text(g, params, in->model->tokenizer)) return false;
    name_domains(g);
    g->batch = max_u32(BATCH_TOKENS / in->seq_len, 1);
    make_room(g, params->max_tokens);
    for (uint32_t w = 0; w < g->windows; w++)
        data_window_domains(g->data, g->split, window_at(g, w),
                            in->domain + (size_t)w * in->seq_len,
                            in->document + (size_t)w * in->seq_len);
    for (uint32_t t = 0; t < in->tokens; t++) {
        if (in->domain[t] >= in->domains) continue;
        in->domain_tokens[in->domain[t]]++;
        in->counted++;
    }
    g->evaluator = evaluator_create_picks(device->gpu, device->kernels, in->model->params, g->batch,
                                          in->seq_len);
    return g->evaluator && run_text(g, NULL, &in->loss) && compare_checkpoints(g);
}

bool inspect_gather(struct inspect *in, const struct inspect_params *params,
                    struct vkmoe_device *device)
{
    struct gather g = {.inspect = in, .config = &in->model->model->config};
    in->experts = g.config->num_experts;
    in->seq_len = min_u32(g.config->seq_len, g.config->max_position_embeddings);
    const bool ok = gather_all(&g, params, device);
    evaluator_destroy(&g.evaluator);
    data_close(&g.data);
    return ok;
}

// ---- statistics

static void describe_load(const struct inspect *in, struct inspect_layer *l)
{
    for (uint32_t e = 0; e < in->experts; e++) l->kept += l->counts[e];
    for (uint32_t e = 0; e < in->experts; e++) {
        const double share = l->kept > 0 ? l->counts[e] / l->kept : 0;
        if (share > 0) l->entropy -= share * log(share);
        if (share > l->max_share) l->max_share = share, l->max_expert = e;
        l->dead += !(l->counts[e] > 0);
    }
    l->entropy = in->experts > 1 ? l->entropy / log(in->experts) : 1;
}

// The experts with most picks, in falling order.
static void choose_experts(struct inspect *in, struct inspect_layer *l)
{
    const uint32_t most = min_u32(in->experts, INSPECT_SHOWN);
    l->show = arena_array(in->arena, most + 1, sizeof *l->show);
    l->expert = arena_array(in->arena, most, sizeof *l->expert);
    for (uint32_t e = 0; e < in->experts; e++) {
        uint32_t at = l->shown;
        for (; at > 0 && l->counts[e] > l->counts[l->show[at - 1]]; at--)
            l->show[at] = l->show[at - 1];
        l->show[at] = e;
        l->shown = min_u32(l->shown + 1, most);
    }
}

struct tally { uint32_t count, at; float gate; }; // of an expert and a token id

static double score_of(const struct inspect_token *t) { return t->count * log2(t->lift); }

static void rank_tokens(const struct inspect *in, const struct inspect_layer *l, uint32_t place,
                        const struct tally *tally, const double *all)
{
    struct inspect_expert *x = &l->expert[place];
    const double picks = l->counts[l->show[place]];
    x->expert = l->show[place];
    for (uint32_t id = 0; id < in->model->model->config.vocab_size; id++) {
        const struct tally *own = &tally[id];
        if (!own->count) continue;
        struct inspect_token token = {id, own->count, own->at,
                                      own->count / picks / (all[id] / l->kept)};
        uint32_t at = x->tokens;
        if (token.lift <= 1) continue;
        for (; at > 0 && score_of(&token) > score_of(&x->token[at - 1]); at--)
            if (at < INSPECT_TOP) x->token[at] = x->token[at - 1];
        if (at < INSPECT_TOP) x->token[at] = token;
        x->tokens = min_u32(x->tokens + 1, INSPECT_TOP);
    }
}

// Which token ids each shown expert takes more often than the layer does, most bits first.
static void find_tokens(struct inspect *in, struct inspect_layer *l)
{
    const uint32_t vocab = in->model->model->config.vocab_size;
    uint32_t *place = os_alloc((in->experts + 1ull) * sizeof *place); // + 1
    double *all = os_alloc((vocab + 1ull) * sizeof *all);
    struct tally *tally = os_alloc((size_t)l->shown * vocab * sizeof *tally + 1);
    for (uint32_t i = 0; i < l->shown; i++) place[l->show[i]] = i + 1;
    for (uint32_t t = 0; t < in->tokens; t++)
        for (uint32_t k = 0; k < l->top_k; k++) {
            const size_t at = (size_t)t * l->top_k + k;
            if (l->picks[at] >= in->experts) continue;
            all[in->ids[t]]++;
            if (!place[l->picks[at]]) continue;
            struct tally *own = &tally[(size_t)(place[l->picks[at]] - 1) * vocab + in->ids[t]];
            if (!own->count++ || l->gates[at] > own->gate) own->at = t, own->gate = l->gates[at];
        }
    for (uint32_t i = 0; i < l->shown; i++)
        rank_tokens(in, l, i, tally + (size_t)i * vocab, all);
    free(place), free(all), free(tally);
}

void inspect_count(struct inspect *in)
{
    for (uint32_t i = 0; i < in->layers; i++) {
        struct inspect_layer *l = &in->layer[i];
        const struct routing_sample sample = sample_of(in, i, l->picks);
        l->counts = arena_array(in->arena, in->experts, sizeof *l->counts);
        l->by_domain = arena_array(in->arena, (size_t)in->experts * in->domains,
                                   sizeof *l->by_domain);
        routing_counts(&sample, l->counts, l->by_domain);
        describe_load(in, l);
        choose_experts(in, l);
        find_tokens(in, l);
        l->together = arena_array(in->arena, (size_t)l->shown * l->shown, sizeof *l->together);
        routing_together(&sample, l->show, l->shown, l->together);
        l->information = routing_information(&sample, INSPECT_SHUFFLES, 1);
    }
}

struct inspect_summary inspect_summarise(const struct inspect *in)
{
    struct inspect_summary s = {0};
    for (uint32_t i = 0; i < in->layers; i++) {
        const struct routing_information *own = &in->layer[i].information;
        s.information += own->domain.value / in->layers;
        s.shuffled += own->domain.mean / in->layers;
        s.documents += own->domain.documents / in->layers;
        s.given_token += own->given_token.value / in->layers;
        s.given_shuffled += own->given_token.mean / in->layers;
        s.given_documents += own->given_token.documents / in->layers;
        s.domain_bits += own->domain_bits / in->layers;
    }
    return s;
}
