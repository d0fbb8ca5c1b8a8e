// SPDX-License-Identifier: MIT
// config -> tensor table: the ONE list that initialisation, loading, saving, the optimizer, the
// gradient report and the tests walk. Weights lie in a flat space of elements, split into segments.
#pragma once

#include "base.h"
#include "config.h"

enum model_role {
    ROLE_EMBED,
    // of bigrams, then the same of trigrams: table, projection to hidden_size, factor
    ROLE_HASH, ROLE_HASH_PROJ, ROLE_HASH_SCALE,
    ROLE_TRIGRAM_HASH, ROLE_TRIGRAM_PROJ, ROLE_TRIGRAM_SCALE,
    ROLE_SMEAR,
    ROLE_SKIP, ROLE_MIX_RESIDUAL, ROLE_MIX_EMBED, // factors at the start of a layer
    ROLE_NORM_ATTENTION, ROLE_Q, ROLE_K, ROLE_V, ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS,
    ROLE_Q_NORM, ROLE_K_NORM, ROLE_Q_GAIN, ROLE_O, ROLE_O_BIAS, ROLE_SCALE_ATTENTION,
    ROLE_NORM_FFN,
    ROLE_GATE, ROLE_UP, ROLE_DOWN, // dense feed-forward; no gate where the body is not gated
    ROLE_UP_BIAS, ROLE_DOWN_BIAS,
    ROLE_ROUTER_HIDDEN, ROLE_ROUTER_HIDDEN_BIAS, // the mlp body's: [router_hidden_size][hidden]
    ROLE_ROUTER, ROLE_ROUTER_BIAS,               // [experts][...]: signatures of the cosine body
    ROLE_ROUTER_DOMAIN, ROLE_ROUTER_DOMAIN_BIAS, // the first of two levels: [domains][...]
    ROLE_ROUTER_CORRECTION,  // the balancing bias of sigmoid_bias
    ROLE_ROUTER_NOISE,       // noisy_topk: [experts][hidden]
    ROLE_ROUTER_TEMPERATURE, // learned: its softplus divides the logits
    ROLE_SHARED_SHARE,       // shared_expert_gate: [1][hidden]
    ROLE_SHARED_GATE, ROLE_SHARED_UP, ROLE_SHARED_DOWN, // the body beside the experts
    ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN,
    ROLE_EXPERT_UP_BIAS, ROLE_EXPERT_DOWN_BIAS,
    ROLE_SCALE_FFN,
    ROLE_NORM_FINAL, ROLE_HEAD, ROLE_HEAD_BIAS, ROLE_COUNT,
};

enum model_init { MODEL_NORMAL, MODEL_TRUNCATED, MODEL_ORTHOGONAL };

// Tensors that the optimizer treats alike; they lie side by side.
struct model_group {
    double weight_decay;
    double beta1, beta2; // beta1: the momentum of sgd and muon
    double rate;         // times the step's learning rate
    enum config_optim optim;
    bool   nesterov;
    bool   by_expert;    // an expert without a token does not move: stacks of experts only
};

struct model_tensor {
    enum model_role role;
    int32_t  layer;        // -1: none
    uint32_t experts;      // 0: one matrix [rows][cols]; else stacked [experts][rows][cols]
    uint32_t rows, cols;   // weight [out][in]; a norm is [1][cols] and has rank 1 in files; of
                           // the widest expert
    uint32_t group;        // of struct model
    bool     decay;        // weight decay applies
    bool     ruled;        // moved by a rule of its own: no gradient, no optimizer
    bool     streamed;     // a stack of experts that has no place in the flat space (experts.h)
    enum model_init init;
    double   init_std;     // 0: filled with init_value; of an orthogonal matrix the factor
    double   init_value;
    char     name[96];     // Hugging Face's; "%u" stands for the expert where experts > 0
    uint64_t count;        // elements, those of each expert's own width
    uint64_t space;        // elements that it takes of the segment: experts * rows * cols
    uint32_t segment;      // which buffer
    uint64_t offset;       // elements from the segment's start, a multiple of MODEL_ALIGN
    uint64_t m_offset;     // the same for the first moment, where it is f32
    uint64_t v_offset;     // and for the second one, which only AdamW keeps
    uint64_t draw;         // the first of its blocks of random numbers, one for DRAW_ELEMENTS of a
                           // part; the same whatever segments there are (KERNEL_ADAMW_STOCHASTIC)
    uint64_t record;       // the first of its records from the segment's first (adamw_8bit)
};

enum { DRAW_ELEMENTS = 8 };
enum { MODEL_ALIGN = 256 }; // elements: 512 bytes even in 16 bits; those of a record

struct model {
    struct config        config;
    struct model_tensor *tensor;       // in the order of the forward pass
    uint32_t             tensor_count;
    struct model_group  *group;        // in the order of the flat space
    uint32_t             group_count;
    uint32_t             segment_count;
    uint64_t            *segment_elements; // with alignment padding
    uint64_t            *segment_m, *segment_v; // of moments in f32
    uint64_t            *segment_records;  // of moments in codes (codes.h)
    uint64_t             parameters;   // elements of all tensors
    uint64_t             active;       // those that one token touches: embedding and head whole
    uint64_t             bytes_limit;
    struct arena        *arena;
};

// `segment_bytes`: most bytes of one f32 segment; a tensor never straddles two. Fails (one line)
// where a tensor is larger.
struct model *model_create(const struct config *config, uint64_t segment_bytes);
// The same where the experts' matrices come and go: they have no place in the flat space.
struct model *model_create_streamed(const struct config *config, uint64_t segment_bytes);
// Bytes of weights and state, of a streamed model without its experts.
struct model_memory {
    uint64_t weights;   // to generate with
    uint64_t master, copy, gradients, optimizer, average; // in training; 0: not kept
    uint64_t train;     // these together
};
struct model_memory model_memory(const struct model *model);
bool          model_is_streamed(const struct model *model);
void          model_destroy(struct model **model);
// Which of the MoE layers a layer is, counted from 0.
uint32_t model_moe_index(const struct model *model, uint32_t layer);
// NULL where the model has none (tied head, dense layer, ...). A repeated layer has the tensors of
// the layer that it repeats.
const struct model_tensor *model_find(const struct model *model, enum model_role role,
                                      int32_t layer);
// 1 for a norm ([cols] in files), 2 for a matrix and for each matrix of a stack.
uint32_t model_tensor_rank(const struct model_tensor *tensor);
// What the optimizer keeps of a tensor: moments in f32, or records.
bool     model_has_m(const struct model *model, const struct model_tensor *tensor);
bool     model_has_v(const struct model *model, const struct model_tensor *tensor);
uint64_t model_records(const struct model *model, const struct model_tensor *tensor); // 0: none
// The name that this family's files give to a role of a layer, with "%u" for the expert. False
// where it does not fit.
bool model_role_name(enum model_role role, int32_t layer, enum config_family family, char *out,
                     size_t bytes);
// The name in files of matrix `expert` (ignored where experts is 0) of the tensor.
void model_tensor_name(const struct model_tensor *tensor, uint32_t expert, char *out, size_t bytes);
// ---- stacks of experts of different widths (model_matrix.c)
// One matrix: its own size, how many elements are before it, and where it lies from the tensor's
// start; its rows are tensor->cols apart.
struct model_matrix { uint32_t rows, cols; uint64_t begin, place; };
struct model_matrix model_matrix(const struct model *model, const struct model_tensor *tensor,
                                 uint32_t expert);
bool model_is_uneven(const struct model *model, const struct model_tensor *tensor);
uint32_t model_expert_at(const struct model *model, const struct model_tensor *tensor,
                         uint64_t element); // whose element it is
// Where an element lies, from the tensor's start.
uint64_t model_place(const struct model *model, const struct model_tensor *tensor,
                     uint64_t element);
// Elements [begin, begin + count) in runs that lie side by side: `at` from begin, `place` from the
// tensor's start.
typedef void model_run_fn(void *user, uint64_t at, uint64_t place, uint64_t length);
void model_each_run(const struct model *model, const struct model_tensor *tensor, uint64_t begin,
                    uint64_t count, model_run_fn *run, void *user);
// Initial values of elements [begin, begin + count) of the tensor: counter-based, so any part in
// any order gives the same. An orthogonal matrix is made whole for any part of it: ask for whole
// ones (model_init.c).
void model_init_values(const struct model *model, const struct model_tensor *tensor, uint64_t begin,
                       uint64_t count, float *out);
