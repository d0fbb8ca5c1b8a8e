// SPDX-License-Identifier: MIT
// What stands around the two sections of a layer, as steps, forward and backward: the embeddings
// (of tokens and of hashed bigrams and trigrams, their norm, the smear gate), the start of a layer
// (U-Net skips, the mix with the embedding) and the scales of what its sections add.
#include "src/base.h"
#include "src/plan_model.h"

uint32_t network_lead(const struct config *config, enum network_mode mode)
{
    return mode == NETWORK_CACHED && config->smear_gate;
}

void network_mix(struct network *n, uint32_t rows, struct plan_range x,
                 const struct plan_range *a, struct plan_range r, const struct plan_range *b,
                 struct plan_range y)
{
    const struct push_mix push = {.rows = rows,
                                  .cols = n->config->hidden_size,
                                  .a = a ? FACTOR_COLUMN : FACTOR_ONE,
                                  .b = !r.tensor ? FACTOR_ABSENT : b ? FACTOR_COLUMN : FACTOR_ONE};
    plan_add(n->plan, KERNEL_MIX, 0, &push,
             PLAN_BIND(x, r.tensor ? r : x, a ? *a : x, b ? *b : x, y));
}

void network_add(struct network *n, struct plan_range x, struct plan_range r, struct plan_range y)
{
    network_mix(n, n->tokens, x, NULL, r, NULL, y);
}

// grad [H] += sum over tokens of dy * x
static void factor_grad(struct network *n, struct plan_range dy, struct plan_range x,
                        enum model_role role, int32_t layer)
{
    const struct push_column_sum push = {n->tokens, n->config->hidden_size, 1};
    plan_add(n->plan, KERNEL_COLUMN_SUM, 0, &push,
             PLAN_BIND(dy, x, network_grad(n, role, layer)));
}

static struct plan_range hidden_temp(const struct network *n, const char *name, int32_t layer)
{
    return network_temp(n, n->tokens, n->config->hidden_size, name, layer);
}

// ---- embeddings

static void table_rows(struct network *n, enum model_role role, struct plan_range ids,
                       uint32_t rows, uint32_t cols, struct plan_range out)
{
    const struct model_tensor *tensor = model_find(n->model, role, -1);
    const uint64_t row = (uint64_t)cols * n->store_bytes;
    const uint32_t window = network_window(n, tensor->rows, row);
    const struct plan_range table = network_weight(n, role, -1);
    for (uint32_t first = 0; first < tensor->rows; first += window) {
        const struct push_embed push = {.rows = rows,
                                        .cols = cols,
                                        .vocab = min_u32(window, tensor->rows - first),
                                        .first = first};
        plan_add(n->plan, KERNEL_EMBED, 0, &push,
                 PLAN_BIND(ids, network_rows(table, row, first, push.vocab), out));
    }
}

static enum model_role hash_role(enum model_role role, uint32_t which)
{
    return role + which * (ROLE_TRIGRAM_HASH - ROLE_HASH);
}

// x += scale * (rows of the hash table) proj^T
static void add_hash(struct network *n, uint32_t which, uint32_t rows)
{
    const uint32_t hidden = n->config->hidden_size, dim = n->config->hash_dim;
    const struct plan_range from = network_temp(n, rows, dim, "hash_rows", (int32_t)which),
                            out = network_temp(n, rows, hidden, "hash_out", (int32_t)which),
                            scale = network_weight(n, hash_role(ROLE_HASH_SCALE, which), -1);
    table_rows(n, hash_role(ROLE_HASH, which), n->io.hash[which].ids, rows, dim, from);
    network_linear(n, from, network_weight(n, hash_role(ROLE_HASH_PROJ, which), -1), out, NULL,
                   rows, hidden, dim);
    const struct push_mix push = {rows, hidden, FACTOR_ONE, FACTOR_NUMBER};
    plan_add(n->plan, KERNEL_MIX, 0, &push, PLAN_BIND(n->x, out, n->x, scale, n->x));
    n->hash_rows[which] = from;
    n->hash_out[which] = out;
}

static bool has_hash(const struct network *n, uint32_t which)
{
    return which == 0 ? n->config->bigram_hash_size > 0 : n->config->trigram_hash_size > 0;
}

static void smear_add(struct network *n, const struct push_smear *push, struct plan_range x,
                      struct plan_range y)
{
    const struct plan_range gate = network_weight(n, ROLE_SMEAR, -1);
    if (n->io.begins.tensor)
        plan_add(n->plan, KERNEL_SMEAR_WITHIN, 0, push, PLAN_BIND(x, gate, y, n->io.begins));
    else plan_add(n->plan, KERNEL_SMEAR, 0, push, PLAN_BIND(x, gate, y));
}

static void smear(struct network *n)
{
    const uint32_t lead = network_lead(n->config, n->mode);
    const struct push_smear push = {.rows = n->tokens, .cols = n->config->hidden_size,
                                    .seq = n->seq, .first = lead};
    const struct plan_range y = hidden_temp(n, "x_smeared", -1);
    smear_add(n, &push, n->x, y);
    n->x = y;
}

void network_embed(struct network *n)
{
    const struct config *c = n->config;
    const uint32_t rows = n->tokens + network_lead(c, n->mode), hidden = c->hidden_size;
    plan_section(n->plan, "embed");
    n->x = network_temp(n, rows, hidden, "x", -1);
    table_rows(n, ROLE_EMBED, n->io.ids, rows, hidden, n->x);
    for (uint32_t which = 0; which < 2; which++)
        if (has_hash(n, which)) add_hash(n, which, rows);
    n->x_embed = n->x;
    if (c->embedding_norm) {
        n->x = network_temp(n, rows, hidden, "x_normed", -1);
        n->rstd_embed = network_temp_f32(n, rows, 1, "rstd_embed", -1);
        network_norm(n, n->x_embed, NULL, n->x, n->rstd_embed, rows, hidden);
    }
    n->x_normed = n->x;
    if (c->smear_gate) smear(n);
    n->x0 = n->x;
}

// d is the gradient of the table's rows.
static void table_back(struct network *n, enum model_role role, uint32_t cols,
                       struct plan_range order, struct plan_range begin, struct plan_range id,
                       struct plan_range d)
{
    const struct model_tensor *tensor = model_find(n->model, role, -1);
    const uint32_t window = network_window(n, tensor->rows, 4ull * cols);
    const struct plan_range grad = network_grad(n, role, -1);
    for (uint32_t first = 0; first < tensor->rows; first += window) {
        const struct push_embed push = {.rows = n->tokens,
                                        .cols = cols,
                                        .vocab = min_u32(window, tensor->rows - first),
                                        .first = first};
        plan_add(n->plan, KERNEL_EMBED_BACK, 0, &push,
                 PLAN_BIND(n->io.step, order, begin, id, d,
                           network_rows(grad, 4ull * cols, first, push.vocab)));
    }
}

static void hash_back(struct network *n, uint32_t which)
{
    const uint32_t hidden = n->config->hidden_size, dim = n->config->hash_dim;
    const enum model_role proj = hash_role(ROLE_HASH_PROJ, which),
                          scale = hash_role(ROLE_HASH_SCALE, which);
    const struct plan_range dot = network_temp_f32(n, n->tokens, 1, "dot", (int32_t)which);
    const struct push_norm rows = {.rows = n->tokens, .cols = hidden};
    const struct push_column_sum one = {n->tokens, 1, 0};
    plan_add(n->plan, KERNEL_ATTENTION_DELTA, 0, &rows,
             PLAN_BIND(n->dx, n->hash_out[which], dot));
    plan_add(n->plan, KERNEL_COLUMN_SUMF, 0, &one,
             PLAN_BIND(dot, dot, network_grad(n, scale, -1)));
    const struct plan_range d_out = n->hash_out[which], number = network_weight(n, scale, -1),
                            d_rows = network_temp(n, n->tokens, dim, "d_hash", (int32_t)which);
    const struct push_mix push = {n->tokens, hidden, FACTOR_NUMBER, FACTOR_ABSENT};
    plan_add(n->plan, KERNEL_MIX, 0, &push, PLAN_BIND(n->dx, n->dx, number, number, d_out));
    network_linear_back_weight(n, d_out, n->hash_rows[which], network_grad(n, proj, -1),
                               n->tokens, hidden, dim);
    network_linear_back_input(n, d_out, network_weight(n, proj, -1), d_rows, n->tokens, hidden,
                              dim, false);
    table_back(n, hash_role(ROLE_HASH, which), dim, n->io.hash[which].order,
               n->io.hash[which].segment_begin, n->io.hash[which].segment_id, d_rows);
}

static void smear_back(struct network *n)
{
    const struct push_smear push = {.rows = n->tokens, .cols = n->config->hidden_size,
                                    .seq = n->seq, .back = 1};
    const struct plan_range gate = network_weight(n, ROLE_SMEAR, -1),
                            grad = network_grad(n, ROLE_SMEAR, -1),
                            dx = hidden_temp(n, "dx_smeared", -1);
    if (n->io.begins.tensor)
        plan_add(n->plan, KERNEL_SMEAR_BACK_GATE_WITHIN, 0, &push,
                 PLAN_BIND(n->x_normed, gate, n->dx, grad, n->io.begins));
    else
        plan_add(n->plan, KERNEL_SMEAR_BACK_GATE, 0, &push,
                 PLAN_BIND(n->x_normed, gate, n->dx, grad));
    smear_add(n, &push, n->dx, dx);
    n->dx = dx;
}

void network_embed_back(struct network *n)
{
    const struct config *c = n->config;
    plan_section(n->plan, "embed back");
    if (c->residual_mix) network_add(n, n->dx, n->dx0, n->dx);
    if (c->smear_gate) smear_back(n);
    if (c->embedding_norm) {
        const struct push_norm push = {.rows = n->tokens, .cols = c->hidden_size,
                                       .eps = (float)c->rms_norm_eps, .weights = KERNEL_NONE_ID};
        plan_add(n->plan, KERNEL_NORM_BACK, 0, &push,
                 PLAN_BIND(n->x_embed, n->x_embed, n->rstd_embed, n->dx, n->dx));
    }
    for (uint32_t which = 0; which < 2; which++)
        if (has_hash(n, which)) hash_back(n, which);
    table_back(n, ROLE_EMBED, c->hidden_size, n->io.order, n->io.segment_begin, n->io.segment_id,
               n->dx);
}

// ---- the start of a layer

void network_enter(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    const int32_t source = config_skip_source(n->config, (uint32_t)layer);
    v->x_before = v->x_skipped = n->x;
    if (source >= 0) {
        const struct plan_range scale = network_weight(n, ROLE_SKIP, layer);
        v->x_skipped = hidden_temp(n, "x_skipped", layer);
        network_mix(n, n->tokens, n->x, NULL, n->layer[source].x_out, &scale, v->x_skipped);
        n->x = v->x_skipped;
    }
    if (n->config->residual_mix) {
        const struct plan_range a = network_weight(n, ROLE_MIX_RESIDUAL, layer),
                                b = network_weight(n, ROLE_MIX_EMBED, layer);
        n->x = hidden_temp(n, "x_mixed", layer);
        network_mix(n, n->tokens, v->x_skipped, &a, n->x0, &b, n->x);
    }
}

static void mix_back(struct network *n, int32_t layer)
{
    const struct plan_range a = network_weight(n, ROLE_MIX_RESIDUAL, layer),
                            b = network_weight(n, ROLE_MIX_EMBED, layer);
    const struct plan_range before = n->dx0;
    factor_grad(n, n->dx, n->layer[layer].x_skipped, ROLE_MIX_RESIDUAL, layer);
    factor_grad(n, n->dx, n->x0, ROLE_MIX_EMBED, layer);
    if (!before.tensor) n->dx0 = hidden_temp(n, "dx0", -1);
    network_mix(n, n->tokens, n->dx, &b, before, NULL, n->dx0);
    network_mix(n, n->tokens, n->dx, &a, (struct plan_range){0}, NULL, n->dx);
}

void network_enter_back(struct network *n, int32_t layer)
{
    const int32_t source = config_skip_source(n->config, (uint32_t)layer);
    if (n->config->residual_mix) mix_back(n, layer);
    if (source < 0) return;
    const struct plan_range scale = network_weight(n, ROLE_SKIP, layer);
    factor_grad(n, n->dx, n->layer[source].x_out, ROLE_SKIP, layer);
    n->layer[source].d_skip = hidden_temp(n, "d_skip", source);
    network_mix(n, n->tokens, n->dx, &scale, (struct plan_range){0}, NULL,
                n->layer[source].d_skip);
}

void network_leave_back(struct network *n, int32_t layer)
{
    const struct plan_range d_skip = n->layer[layer].d_skip;
    if (d_skip.tensor) network_add(n, n->dx, d_skip, n->dx);
}

// ---- scales of what the sections add

struct plan_range network_scaled(struct network *n, int32_t layer, enum model_role role,
                                 struct plan_range x, struct plan_range y, const char *name)
{
    const struct plan_range scale = network_weight_if(n, role, layer),
                            sum = hidden_temp(n, name, layer);
    network_mix(n, n->tokens, x, NULL, y, scale.tensor ? &scale : NULL, sum);
    return sum;
}

void network_scaled_back(struct network *n, int32_t layer, enum model_role role,
                         struct plan_range y)
{
    const struct plan_range scale = network_weight_if(n, role, layer);
    n->dy = n->dx;
    if (!scale.tensor) return;
    factor_grad(n, n->dx, y, role, layer);
    n->dy = hidden_temp(n, "dy", layer);
    network_mix(n, n->tokens, n->dx, &scale, (struct plan_range){0}, NULL, n->dy);
}
