// SPDX-License-Identifier: MIT
// The model written as steps of a plan. `struct network` is what the sections hand to each other:
// forward (plan_forward.c) leaves in it what backward (plan_backward.c) reads; update
// (plan_update.c) is apart. Shapes: T tokens = batch * seq, H hidden, P = T*K pairs; STORE is the
// plan's storage type.
#pragma once

#include "params.h"
#include "plan.h"

enum network_mode {
    NETWORK_TRAIN,   // loss and gradients of a batch
    NETWORK_EVAL,    // loss of a batch
    NETWORK_LOGITS,  // f32 logits of all positions of one sequence
    NETWORK_CACHED,  // one sequence through the KV cache; logits of its last token
};

// What the host writes before each call (upload memory) and reads after it (readback memory).
struct network_io {
    struct plan_range step;          // struct step_words
    struct plan_range ids;           // u32 [T]; network_lead() more in front
    struct plan_range targets;       // u32 [T]: train, eval
    struct plan_range begins;        // u32 [T]: where documents begin; {0}: nothing is kept apart
    struct plan_range order, segment_begin, segment_id; // embed_back: u32 [T], [T+1], [T]
    // rows of the hash tables, for bigrams and trigrams; the same of these
    struct { struct plan_range ids, order, segment_begin, segment_id; } hash[2];
    struct plan_range loss;          // f32 [1]: sum over the tokens, accumulated
    // f32 [T]: of each token, where the host wants them; behind a cache the targets then are scored
    // and there are no logits
    struct plan_range losses;
    struct plan_range norm;          // f32 [4]: grad_clip
    struct plan_range stats;         // f32 [MoE layers][stats_stride]
    // Per MoE layer, or NULL: what its router picked for the first tokens, as many as fit the
    // range: u32, f32 [tokens][K].
    struct plan_range *picks, *gates;
    struct plan_range rope;          // f32 [positions][D/2][2]
    struct plan_range logits;        // f32: [T][V] (logits) or [V] (cached)
    struct plan_range *cache_k, *cache_v; // per layer: STORE [capacity][kv_heads*D]
};

// What a sort of pairs leaves (KERNEL_MOE_SCAN, KERNEL_MOE_SCATTER).
struct sort_values { struct plan_range offsets, tiles, ranges, indirect, order, inverse; };

// Of a router of two levels (plan_hierarchy.c): its domains, as a router of their own; the pairs
// (token, domain), sorted by domain, are the rows R of the second level.
struct hierarchy_values {
    struct plan_range  logits, probs, ids, gates, lse, slope, inverse; // [T][domains], [T][picks]
    struct sort_values sort;
    struct plan_range  base, row_ids, row_gates; // [R], [R][picks]
};

struct layer_values {
    struct plan_range x_before, x_skipped;                    // at the start of the layer: before
                                                              // and after what a skip adds
    struct plan_range x_in, rstd_attention, n_attention;      // [T][H], f32 [T], [T][H]
    struct plan_range q_raw, k_raw, rstd_q, rstd_k;           // before QK-norm, where there is one
    struct plan_range q, k, v, o, lse; // rotated [T][heads*D] ..., f32 [T][heads]
    struct plan_range y_attention, y_ffn, x_out;              // where scaled, what is; the sum
    struct plan_range d_skip;                                 // gradient of x_out by a skip
    struct plan_range x_mid, rstd_ffn, n_ffn;
    struct plan_range gate, up;                               // [T][I] dense, [P][I] MoE
    struct plan_range ids, gates, router_lse, slope;          // router
    // of its body: what the last linear layer takes; the mlp's middle; the cosine's 1 / rms of n,
    // 1 / length of each signature
    struct plan_range router_in, router_mid, router_rstd, router_inverse;
    struct plan_range *probs, *logits, *noise;                // by part of the tokens
    struct hierarchy_values domains;
    struct plan_range shared_gate, shared_up;                 // [T][I] of the body of all tokens
    struct plan_range shared_share, shared_rows;              // f32, u32 [T]: gate_rows
    // the sort before and after the capacity's drop: the same where there is none
    struct plan_range kept, wanted, wanted_order;
    struct plan_range offsets, tiles, ranges, indirect, order, inverse;
};

struct network {
    struct plan         *plan;
    const struct model  *model;
    const struct config *config;
    struct params       *params;
    struct network_io    io;
    enum network_mode    mode;
    uint32_t             batch, seq, tokens, capacity;  // capacity: positions of the KV cache
    uint32_t             store_bytes;
    uint32_t             stats_stride;  // f32 a MoE layer in io.stats
    struct layer_values *layer;
    struct plan_range    x, n_final, rstd_final;        // the residual stream as built so far
    struct plan_range    dn_final;                      // train: d loss / d n_final
    struct plan_range    dx;                            // backward: gradient of the residual stream
    struct plan_range    dy;                            // of what the section adds to it
    struct plan_range    x_embed, x_normed, rstd_embed; // embeddings' sum, its norm
    struct plan_range    hash_rows[2], hash_out[2];     // [T][hash_dim], [T][H]
    struct plan_range    x0, dx0;                       // what the layers mix in, its gradient
};

// Grouped matmuls: over which rows, and with which matrices: those of a layer's experts, or what
// lies in some slots.
struct moe_site {
    struct plan_range tiles, ranges, indirect; // as moe_scan writes them
    struct plan_range gate, up, down;          // STORE [experts][...]; not gated: gate is up
    struct plan_range up_bias, down_bias;      // {0}: none
    struct plan_range gate_grad, up_grad, down_grad; // in training; f32
};

uint32_t network_stats_stride(const struct config *config); // head + 3E, to 256 bytes
struct network network_begin(struct plan *plan, struct params *params, enum network_mode mode,
                             uint32_t batch, uint32_t seq, uint32_t capacity,
                             const struct network_io *io);
void network_forward(struct network *network);  // plan_forward.c, up to loss or logits
// plan_decode.c: the rest of forward for one token, where the weights of q, k, v lie side by side
bool network_decodes(const struct network *network);
void network_decode(struct network *network);
void network_backward(struct network *network); // plan_backward.c, after a forward in NETWORK_TRAIN
void network_zero(struct plan *plan, struct params *params,
                  const struct network_io *io); // plan_update.c: gradients, loss
// The experts of a layer that have a token in this micro-batch, for the update.
void network_touch(struct network *n, int32_t layer);
void network_update(struct plan *plan, struct params *params,
                    const struct network_io *io); // plan_update.c: norm, clip, AdamW

// ---- what stands around the layers' two sections (plan_stack.c)
// Rows in front of the tokens that the embeddings take, for smear_gate behind a cache.
uint32_t network_lead(const struct config *config, enum network_mode mode);
void network_embed(struct network *n);                // n->x
void network_embed_back(struct network *n);           // from n->dx
void network_enter(struct network *n, int32_t layer); // skip and mix of n->x
void network_enter_back(struct network *n, int32_t layer);
void network_leave_back(struct network *n, int32_t layer); // before a layer's own backward
// y = x + scale y' by channels; and back: n->dy from n->dx
struct plan_range network_scaled(struct network *n, int32_t layer, enum model_role role,
                                 struct plan_range x, struct plan_range y, const char *name);
void network_scaled_back(struct network *n, int32_t layer, enum model_role role,
                         struct plan_range y);
// y = x + r; where factors are given, those of columns, of x and of r
void network_add(struct network *n, struct plan_range x, struct plan_range r, struct plan_range y);
void network_mix(struct network *n, uint32_t rows, struct plan_range x,
                 const struct plan_range *a, struct plan_range r, const struct plan_range *b,
                 struct plan_range y);

// ---- helpers that the sections share (plan_forward.c)
void network_norm(struct network *n, struct plan_range x, const struct plan_range *weight,
                  struct plan_range y, struct plan_range rstd, uint32_t rows, uint32_t cols);
// {0} where the model has no such tensor
struct plan_range network_weight_if(const struct network *n, enum model_role role, int32_t layer);
struct plan_range network_weight(const struct network *n, enum model_role role, int32_t layer);
// The weights of q, k and v as one [q + k + v rows][hidden]; {0} where they do not lie so.
struct plan_range network_weight_qkv(const struct network *n, int32_t layer);
struct plan_range network_grad(const struct network *n, enum model_role role, int32_t layer);
struct plan_range network_temp(const struct network *n, uint64_t rows, uint64_t cols,
                               const char *name, int32_t layer);
struct plan_range network_temp_f32(const struct network *n, uint64_t rows, uint64_t cols,
                                   const char *name, int32_t layer);
// ---- linear layers, weight [out][in] (plan_linear.c)
// y [rows][out] = x [rows][in] weight^T (+ residual, which may be y)
void network_linear(struct network *n, struct plan_range x, struct plan_range weight,
                    struct plan_range y, const struct plan_range *residual, uint32_t rows,
                    uint32_t out, uint32_t in);
// The same (+ bias [out], {0}: none).
void network_linear_bias(struct network *n, struct plan_range x, struct plan_range weight,
                         struct plan_range bias, struct plan_range y,
                         const struct plan_range *residual, uint32_t rows, uint32_t out,
                         uint32_t in);
void network_linear_bias_f32(struct network *n, struct plan_range x, struct plan_range weight,
                             struct plan_range bias, struct plan_range y, uint32_t rows,
                             uint32_t out, uint32_t in);
// grad f32 [cols] += the sum over the rows of dy
void network_bias_grad(struct network *n, struct plan_range dy, struct plan_range grad,
                       uint32_t rows, uint32_t cols);
// The same with f32 y.
void network_linear_f32(struct network *n, struct plan_range x, struct plan_range weight,
                        struct plan_range y, uint32_t rows, uint32_t out, uint32_t in);
// grad f32 [out][in] += dy^T x
void network_linear_back_weight(struct network *n, struct plan_range dy, struct plan_range x,
                                struct plan_range grad, uint32_t rows, uint32_t out, uint32_t in);
// dx [rows][in] = dy weight (+ dx where add)
void network_linear_back_input(struct network *n, struct plan_range dy, struct plan_range weight,
                               struct plan_range dx, uint32_t rows, uint32_t out, uint32_t in,
                               bool add);
// A table of `rows` rows in windows that one binding may cover: rows of a window, and the range of
// some of them.
uint32_t network_window(const struct network *n, uint32_t rows, uint64_t row_bytes);
struct plan_range network_rows(struct plan_range range, uint64_t row_bytes, uint32_t begin,
                               uint32_t rows);

// An operation of the attention family over `keys` keys (queries), in as many passes as it takes.
void network_attention(struct network *n, enum kernel_op op, struct push_attention push,
                       uint32_t keys, const struct plan_range *bind, uint32_t bind_count);
// o of v->q over v->k and v->v, or over the cache that holds them
void network_attend(struct network *n, int32_t layer);
// From the rows of the three linear layers, side by side, to queries and the cache.
void network_heads(struct network *n, int32_t layer, struct plan_range qkv);
uint32_t network_activation(const struct network *n); // enum kernel_activation
// Of a MoE layer: its router's keys; typical rows an expert, which pick the tile.
const struct config_router *network_router(const struct network *n, int32_t layer);
uint32_t network_moe_rows(const struct network *n, int32_t layer);
// Most tokens of an expert where there is a capacity_factor.
uint32_t network_capacity(const struct network *n, int32_t layer);
struct push_moe_matmul network_moe_push(const struct network *n, int32_t layer, uint32_t cols,
                                        uint32_t inner);
void network_moe_steps(struct network *n, int32_t layer);     // plan_moe.c
struct push_moe_sort network_moe_sort(const struct network *n, int32_t layer);
// A part of what a layer's experts do, over the rows of a site.
typedef void network_stage_fn(struct network *n, int32_t layer, const struct moe_site *site,
                              struct plan_range a, struct plan_range b);
// The same for all rows of a streamed model (plan_stream.c), in as many turns as the slots need;
// `grads`: the stage adds to the experts' gradients.
void network_stream(struct network *n, int32_t layer, network_stage_fn *stage, bool grads,
                    struct plan_range a, struct plan_range b);
// Before a step: gradients of the slots, sums of their squares.
void network_stream_zero(struct plan *plan, const struct params *params);
// f32 partial sums of the squares of all gradients, each over at most so many elements, those of
// dense tensors first (plan_update.c). Of a streamed model they outlive the plan.
enum { NETWORK_NORM_BLOCK = 1 << 14 };
struct plan_range network_squares(struct plan *plan, const struct params *params);
struct sort_values network_sort(struct network *n, int32_t layer,
                                const struct push_moe_sort *push, struct plan_range ids);
// ---- routers (plan_router.c)
// Whether decoding knows it: softmax, top-k, nothing else.
bool network_router_decodes(const struct network *n, int32_t layer);
void network_route(struct network *n, int32_t layer);       // ids and gates of n_ffn
void network_route_stats(struct network *n, int32_t layer); // after the sort: losses, slopes
// The body of its logits (plan_router_body.c): router_in [T][width] from n_ffn; what products with
// the router's matrix [experts][width] become, in place, and their gradient (STORE); where the
// gradient of router_in goes, and what it is worth to dn and to the body's own weights.
uint32_t network_router_width(const struct network *n, int32_t layer);
void network_router_body(struct network *n, int32_t layer);
struct router_products { // of x [rows][cols] with a matrix of signatures
    uint32_t          rows, cols;
    struct plan_range inverse; // of the signatures' lengths; where base is given, from there on
    struct plan_range base;    // u32 [rows] or {0}
};
void network_router_scale(struct network *n, int32_t layer, const struct router_products *p,
                          struct plan_range x, bool gradient);
struct plan_range network_router_din(struct network *n, int32_t layer, struct plan_range dn);
void network_router_body_back(struct network *n, int32_t layer, struct plan_range din,
                              struct plan_range dn);
// Two levels (plan_hierarchy.c), in place of the three above; where stats of domains lie in a
// layer's.
void network_hierarchy(struct network *n, int32_t layer);
void network_hierarchy_stats(struct network *n, int32_t layer, struct plan_range stats);
void network_hierarchy_back(struct network *n, int32_t layer, struct plan_range dgates,
                            struct plan_range dn);
uint32_t network_domain_stats(const struct config *config); // f32 in front of them
struct push_router network_router_push(const struct network *n, int32_t layer);
struct push_router_losses network_losses_push(const struct network *n, int32_t layer);
void network_route_pool(struct network *n); // before backward: losses over all layers
void network_route_back(struct network *n, int32_t layer, struct plan_range dgates,
                        struct plan_range dn); // adds to dn [T][H]
void network_route_update(struct plan *plan, struct params *params, const struct network_io *io);
// The body beside the experts, where there is one (plan_shared.c): adds to y_ffn, to dn.
void network_shared_steps(struct network *n, int32_t layer);
void network_shared_back(struct network *n, int32_t layer, struct plan_range dn);
void network_moe_back(struct network *n, int32_t layer,
                      struct plan_range dn); // plan_moe_back.c: fills dn [T][H]
