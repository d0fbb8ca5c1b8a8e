// SPDX-License-Identifier: MIT
// The table of operations: what each computes, its bindings, its push words, its reference, its
// variants and its cost. The same name everywhere: shaders/NAME.comp, src/ref/NAME.c,
// tests/check/NAME.c, the row in shaders/meson.build, the row in src/kernel.c.
//
// Notation: T tokens of one call, R rows, C columns, H hidden size, I intermediate size, V vocabulary,
// E experts, K picks a token, P = T*K pairs (token, pick), D head dimension. STORE is the storage type
// of weights and activations (f32, bf16 or f16); everything marked f32 or u32 is that in each variant.
// All arrays are row-major and dense. r = read, w = written whole, m = modified.
// Accumulation is in f32 on the device and in double in the reference; outputs are rounded once.
// No float atomics: the order of every sum is fixed, so two runs give the same bytes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dtype.h"
#include "runtime/gpu.h"

// Values that change from step to step, in a small buffer of their own (shaders/lib/step.glsl),
// so that recorded commands never change.
struct step_words {
    uint32_t step;            // optimizer step, from 1
    float    learning_rate;
    float    loss_scale;      // multiplies d loss / d logits: scale / number of valid targets in the step
    float    aux_scale;       // multiplies gradients of auxiliary losses: scale / micro-batches
    float    unscale;         // 1 / scale, applied to gradients before the norm and the update
    float    max_grad_norm;   // 0: no clipping
    float    correction1;     // 1 - beta1^step
    float    correction2;     // 1 - beta2^step
    uint32_t base;            // position in the KV cache of the first token of this call
    uint32_t length;          // valid tokens in this call (prefill may be padded)
    uint32_t segments;        // distinct token ids in the batch (embed_back)
    uint32_t seed_low, seed_high; // sampling
    float    temperature;     // 0: greedy
    uint32_t top_k;           // 0: off
    float    top_p;           // 1: off
    float    repetition_penalty; // 1: off; Keskar et al. 2019: l > 0 ? l / r : l * r for seen tokens
    uint32_t reserved[15];
};
_Static_assert(sizeof(struct step_words) == 128, "step.glsl holds the same 32 words");

#define KERNEL_NONE_ID UINT32_C(0xffffffff) // a masked target, an unused pick

enum kernel_op {
    // 0 r ids u32[T]; 1 r table STORE[V][C]; 2 w x STORE[T][C].   push_embed. An id >= V gives zeros.
    KERNEL_EMBED,
    // 0 r step; 1 r order u32[T]; 2 r segment_begin u32[T+1]; 3 r segment_id u32[T]; 4 r dx STORE[T][C];
    // 5 m dtable f32[V][C].   push_embed. For segment s < step.segments:
    // dtable[segment_id[s]] += sum of dx[order[i]], i in [segment_begin[s], segment_begin[s+1]).
    KERNEL_EMBED_BACK,
    // 0 r x STORE[R][C]; 1 r weight STORE[C]; 2 w y STORE[R][C]; 3 w rstd f32[R].   push_norm.
    // RMSNorm (Zhang & Sennrich 2019): y = x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps). y may be x.
    KERNEL_NORM,
    // 0 r x; 1 r weight; 2 r rstd f32[R]; 3 r dy STORE[R][C]; 4 m dx STORE[R][C].   push_norm.
    // g = dy*weight; dx (+)= rstd * (g - xhat * mean(g*xhat)), xhat = x*rstd; adds where accumulate. dx may be dy.
    KERNEL_NORM_BACK,
    // 0 r x; 1 r rstd; 2 r dy; 3 m dweight f32[C].   push_norm.   dweight[c] += sum_r dy*x*rstd
    KERNEL_NORM_BACK_WEIGHT,
    // 0 r a STORE[M][K]; 1 r b STORE[N][K]; 2 r r STORE[M][N]; 3 w c STORE[M][N].   push_matmul.
    // c = a b^T (+ r where add). r may be c. Forward of a linear layer with weight [out][in].
    KERNEL_MATMUL_NT,
    // The same with f32 r and c (router logits, logits for the host).
    KERNEL_MATMUL_NTF,
    // 0 r a STORE[M][K]; 1 r b STORE[K][N]; 2 r r; 3 w c STORE[M][N].   push_matmul.   c = a b (+ r). dX = dY W.
    KERNEL_MATMUL_NN,
    // 0 r a STORE[K][M]; 1 r b STORE[K][N]; 2 r r f32[M][N]; 3 w c f32[M][N].   push_matmul.  c = a^T b (+ r). dW = dY^T X.
    KERNEL_MATMUL_TN,
    // matmul_nt and matmul_ntf for few rows (M <= 8): one lane group for some columns, K across lanes.
    KERNEL_MATVEC,
    KERNEL_MATVECF,
    // 0 r step; 1 r table f32[positions][D/2][2] (cos, sin); 2 r x STORE[T][heads][D]; 3 w y, may be x.   push_rope.
    // Su et al. 2021, half-split pairs (i, i + D/2) as in Hugging Face: position = step.base + t % seq;
    // y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin; inverse != 0 rotates back (the gradient).
    KERNEL_ROPE,
    // 0 r step; 1 r x STORE[T][C]; 2 m cache STORE[capacity][C].   push_cache_write.
    // cache[step.base + t] = x[t] for t < min(T, step.length) and step.base + t < capacity.
    KERNEL_CACHE_WRITE,
    // 0 r step; 1 r x STORE[T][C]; 2 w y STORE[C].   push_embed (rows, cols).   y = x[step.length - 1]
    KERNEL_SELECT_ROW,
    // 0 r step; 1 r q STORE[B*S][heads][D]; 2 r k STORE[B][stride][kv_heads][D]; 3 r v; 4 w o STORE[B*S][heads][D];
    // 5 w lse f32[B*S][heads].   push_attention.   Query i of sequence b sees keys j <= step.base + i, and
    // j > step.base + i - window where window > 0. o = softmax(scale q k^T) v, online (Milakov 2018; Dao 2022);
    // lse = log-sum-exp of the scaled scores. The S x S matrix is never written. Padding (i >= step.length > 0)
    // sees what query step.length - 1 sees, so that no key is read that was not written.
    KERNEL_ATTENTION,
    // 0 r o STORE[R][D]; 1 r do STORE[R][D]; 2 w delta f32[R], R = T*heads.   push_norm (rows, cols).   delta = sum o*do
    KERNEL_ATTENTION_DELTA,
    // 0 r q; 1 r k; 2 r v; 3 r do STORE[B*S][heads][D]; 4 r lse; 5 r delta; 6 w dq STORE.   push_attention, stride = S, base 0.
    KERNEL_ATTENTION_BACK_Q,
    // 0 r q; 1 r k; 2 r v; 3 r do; 4 r lse; 5 r delta; 6 w dk STORE[B*S][kv_heads][D]; 7 w dv.   push_attention.
    KERNEL_ATTENTION_BACK_KV,
    // 0 r step; 1 r q STORE[heads][D]; 2 r k cache STORE[stride][kv_heads][D]; 3 r v cache; 4 w o STORE[heads][D].
    // push_attention with batch = seq = 1: one query at position step.base over keys 0 .. step.base.
    KERNEL_ATTENTION_DECODE,
    // 0 r gate STORE[n]; 1 r up STORE[n]; 2 w h STORE[n].   push_count.   h = silu(gate)*up (Shazeer 2020)
    KERNEL_SWIGLU,
    // 0 r gate; 1 r up; 2 r dh; 3 w dgate; 4 w dup; 5 w h STORE[n].   push_count. dgate may be dh.
    KERNEL_SWIGLU_BACK,
    // 0 r logits f32[T][E]; 1 w probs f32[T][E]; 2 w ids u32[T][K]; 3 w gates f32[T][K]; 4 w lse f32[T].   push_router.
    // z = logits * inv_temperature; probs = softmax(z); lse = logsumexp(z); the K largest by (prob, then lowest id), in falling
    // order; gates = picked probs, divided by their sum where renormalise.
    KERNEL_ROUTER,
    // 0 r probs; 1 r ids; 2 r gates; 3 r dgates f32[T][K]; 4 r lse; 5 r offsets u32[E+1] (moe_scan); 6 r step;
    // 7 w dlogits STORE[T][E].   push_router. Through renormalisation, softmax, temperature, plus the auxiliary
    // losses times step.aux_scale: balance E * sum_e f_e P_e with f_e = count_e / (T K) constant, P_e = mean prob
    // (Switch, Fedus et al. 2021, divided by K so that balanced = 1), z-loss mean lse^2 (ST-MoE, Zoph et al. 2022).
    KERNEL_ROUTER_BACK,
    // 0 r probs; 1 r lse; 2 r offsets; 3 w stats f32[4 + 2E].   push_router.
    // stats = balance loss, z loss, mean token entropy / log E, 0, then count_e (as f32), then P_e.
    KERNEL_ROUTER_STATS,
    // Stable counting sort of the pairs by expert. A pair p = t*K + pick. Blocks of `block` pairs.
    // 0 r ids u32[P]; 1 w counts u32[blocks][E].   push_moe_sort.   An id >= E is in no expert (dropped).
    KERNEL_MOE_COUNT,
    // 0 m counts u32[blocks][E] -> first sorted position of (block, e); 1 w offsets u32[E+1];
    // 2 w tiles u32[max_tiles][4] = {expert, first sorted row, rows, 0}, `tile_rows` rows each, experts ascending, none empty;
    // 3 w indirect u32[4][4]: entry i = {columns[i], tile count, 1, 0}.   push_moe_sort.
    KERNEL_MOE_SCAN,
    // 0 r ids; 1 r counts after moe_scan; 2 w order u32[P]: sorted row -> pair; 3 w inverse u32[P]: pair -> sorted row
    // (KERNEL_NONE_ID for a dropped pair).   push_moe_sort.
    KERNEL_MOE_SCATTER,
    // 0 r x STORE[T][H]; 1 r order u32[P]; 2 r tiles; 3 r wgate STORE[E][I][H]; 4 r wup STORE[E][I][H]; 5 w h STORE[P][I];
    // 6 w gate STORE[P][I]; 7 w up STORE[P][I] (6 and 7 only where save).   push_moe_matmul (n = I, k = H), indirect over tiles.
    // For sorted row i of expert e: x = x[order[i] / K]; h = silu(x wgate^T) * (x wup^T).
    KERNEL_MOE_MATMUL_UP,
    // 0 r a STORE[P][k]; 1 r tiles; 2 r w STORE[E][n][k]; 3 w c STORE[P][n].   push_moe_matmul.   c = a w_e^T
    KERNEL_MOE_MATMUL_NT,
    // 0 r a STORE[P][k]; 1 r tiles; 2 r w STORE[E][k][n]; 3 m c STORE[P][n].   push_moe_matmul.   c = a w_e (+ c where add)
    KERNEL_MOE_MATMUL_NN,
    // 0 r a STORE[P][m]; 1 r b STORE[P][n] or, where gather, x STORE[T][n] read at order[i] / K; 2 r order; 3 r offsets u32[E+1];
    // 4 m c f32[E][m][n].   push_moe_matmul.   c_e += a_e^T b_e over the rows of expert e; an expert without rows is not touched.
    KERNEL_MOE_MATMUL_TN,
    // 0 r y STORE[P][H]; 1 r inverse; 2 r gates f32[P]; 3 r r STORE[T][H]; 4 w out STORE[T][H].   push_moe_combine.
    // out[t] = sum over picks of (weighted ? gates : 1) * y[inverse[t*K + pick]] (+ r[t] where add). r may be out.
    KERNEL_MOE_COMBINE,
    // 0 r dout STORE[T][H]; 1 r y STORE[P][H]; 2 r inverse; 3 r gates; 4 w dy STORE[P][H]; 5 w dgates f32[P].   push_moe_combine.
    // dy[inverse[p]] = gates[p] * dout[t]; dgates[p] = dot(dout[t], y[inverse[p]]), 0 for a dropped pair.
    KERNEL_MOE_COMBINE_BACK,
    // 0 r step; 1 m logits STORE[R][V]; 2 r targets u32[R] (KERNEL_NONE_ID: masked); 3 w loss f32[R].   push_loss.
    // loss = logsumexp(logits) - logits[target], 0 where masked; where backward, logits becomes
    // step.loss_scale * (softmax - onehot), 0 where masked.
    KERNEL_LOSS,
    // 0 r x f32[n]; 1 m out f32[...].   push_sum.   out[index] (+)= sum of x (adds where accumulate).
    KERNEL_SUM,
    // 0 r g f32[n]; 1 m partial f32[...].   push_sum.   partial[index + block] = sum of squares of block elements
    // [block*push.block, ...): ceil(n / push.block) blocks.
    KERNEL_GRAD_NORM,
    // 0 r step; 1 r partial f32[n]; 2 w norm f32[4] = {norm * unscale, clip factor * unscale, 1 if finite else 0, 0}.   push_sum.
    // clip factor = min(1, max_grad_norm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_; 1 where max_grad_norm is 0.
    KERNEL_GRAD_CLIP,
    // 0 r step; 1 r norm f32[4]; 2 m p f32[n]; 3 r g f32[n]; 4 m m f32[n]; 5 m v f32[n]; 6 w copy STORE[n] (where copy).   push_adamw.
    // AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW; nothing moves where norm[2] is 0.
    KERNEL_ADAMW,
    // 0 r from f32[n]; 1 w to STORE[n].   push_count.
    KERNEL_CAST,
    // 0 r step; 1 r logits f32[V]; 2 m seen u32[V] (1 for tokens of the context); 3 w token u32[2] = {id, 0}.   push_loss (rows 1).
    // Repetition penalty, temperature, top-k, top-p (Holtzman 2020), then the inverse CDF at
    // u = rng(seed, step.base); marks seen[id]. temperature 0: argmax, ties to the lowest id.
    KERNEL_SAMPLE,
    KERNEL_COUNT,
};

struct push_embed { uint32_t rows, cols, vocab; };
struct push_norm { uint32_t rows, cols, accumulate; float eps; };
struct push_matmul { uint32_t m, n, k, add; };
struct push_rope { uint32_t tokens, heads, head_dim, seq, inverse; };
struct push_cache_write { uint32_t rows, cols, capacity; };
struct push_attention { uint32_t batch, seq, stride, heads, kv_heads, head_dim, window; float scale; };
struct push_count { uint32_t count; };
struct push_router {
    uint32_t tokens, experts, top_k, renormalise;
    float    inv_temperature, balance_coef, z_coef;
};
struct push_moe_sort { uint32_t pairs, experts, block, blocks, tile_rows, max_tiles, columns[4]; };
// m only for tn; top_k turns a pair into its token where rows are gathered
struct push_moe_matmul { uint32_t pairs, experts, m, n, k, top_k, save, add, gather; };
struct push_moe_combine { uint32_t tokens, cols, top_k, weighted, add; };
struct push_loss { uint32_t rows, vocab, backward; };
struct push_sum { uint32_t count, index, block, accumulate; };
struct push_adamw { uint32_t count, copy; float beta1, beta2, eps, weight_decay; };

// How a kernel is shaped for the device: specialization constants 0..4 of every shader.
struct kernel_shape {
    uint32_t lanes;   // 0: local size, the planned subgroup size
    uint32_t rows;    // 1: rows of C a lane holds (matmul family)
    uint32_t columns; // 2: columns of C a lane (matvec: a workgroup) holds
    uint32_t spread;  // 3: lanes that share out the loads of rows (matmul family; 1: each loads all)
    uint32_t depth;   // 4: head_dim of the attention family (rows, columns as in lib/attention.glsl), else 0
};

enum { KERNEL_MAX_HEAD_DIM = 256 };

struct kernel_info {
    const char *name;
    gpu_ref_fn *ref;
    const char *access;     // one letter a binding: r, w, m
    uint32_t    push_bytes;
    // Workgroups for these push words; z = 1 unless said. NULL: indirect only.
    void   (*groups)(const void *push, const struct kernel_shape *shape, uint32_t groups[3]);
    double (*flops)(const void *push);                  // multiplications and additions
    double (*bytes)(const void *push, uint32_t store);  // least traffic; store = bytes of STORE
};
const struct kernel_info *kernel_info(enum kernel_op op);
int                       kernel_op_from_name(const char *name); // -1 if unknown

// The kernels of one device: made on first use, kept until destroyed.
struct kernels;
struct kernel {
    enum kernel_op     op;
    enum dtype         store;
    struct kernel_shape shape;
    const char        *name;   // "matmul_nt_bf16"
    struct gpu_kernel *gpu;
};
struct kernels *kernels_create(struct gpu *gpu);
void            kernels_destroy(struct kernels **kernels);
// `rows`: rows of C where the op is of the matmul family (picks the tile), head_dim for attention,
// attention_back_* and attention_decode, else 0.
const struct kernel *kernels_get(struct kernels *kernels, enum kernel_op op, enum dtype store, uint32_t rows);
// The tile that kernels_get would pick (moe_scan needs it before).
struct kernel_shape kernel_shape_for(const struct gpu_caps *caps, enum kernel_op op, uint32_t rows);
// Workgroups along the columns of a grouped matmul (moe_scan writes them into the indirect entries).
uint32_t kernel_moe_columns(enum kernel_op op, const struct kernel_shape *shape, uint32_t cols);
// Every (op, store) pair that exists for these caps, for tests: calls back for each until false.
bool kernels_each(struct kernels *kernels, bool (*visit)(void *user, const struct kernel *kernel), void *user);
