// SPDX-License-Identifier: MIT
// The operations: what each computes, its bindings and its push words. How one is computed on a
// device is in kernel_device.h. The same name everywhere: shaders/NAME.comp, src/ref/NAME.c,
// tests/check/NAME.c, the row in shaders/meson.build, the row in src/kernel_table.c.
//
// Notation: T tokens of one call, R rows, C columns, H hidden size, I intermediate size, V
// vocabulary, E experts, K picks a token, P = T*K pairs (token, pick), D head dimension. STORE is
// the storage type of weights and activations (f32, bf16 or f16); everything marked f32 or u32 is
// that in each variant. All arrays are row-major and dense. r = read, w = written whole, m =
// modified. Accumulation is in f32 on the device and in double in the reference; outputs are
// rounded once. No float atomics: the order of every sum is fixed, so two runs give the same bytes.
#pragma once

#include <math.h>
#include <stdint.h>

// Values that change from step to step, in a small buffer of their own (shaders/lib/step.glsl),
// so that recorded commands never change.
struct step_words {
    uint32_t step;            // optimizer step, from 1
    float    learning_rate;
    float    loss_scale;      // of d loss / d logits: scale / number of valid targets in the step
    float    aux_scale;       // multiplies gradients of auxiliary losses: scale / micro-batches
    float    unscale;         // 1 / scale, applied to gradients before the norm and the update
    float    max_grad_norm;   // 0: no clipping
    float    average;         // average: how far towards the weights; 0: not in this step
    uint32_t base;            // position in the KV cache of the first token of this call
    uint32_t length;          // valid tokens in this call (prefill may be padded)
    uint32_t segments;        // distinct token ids in the batch (embed_back)
    uint32_t seed_low, seed_high; // sampling; training: the run's
    float    temperature;     // 0: greedy
    uint32_t top_k;           // 0: off
    float    top_p;           // 1: off
    float    repetition_penalty; // 1: off; seen tokens: l > 0 ? l / r : l * r (Keskar et al. 2019)
    uint32_t micro;           // which micro-batch of the step, from 0 (router_noise)
    uint32_t reserved[15];
};
_Static_assert(sizeof(struct step_words) == 128, "step.glsl holds the same 32 words");

#define KERNEL_NONE_ID UINT32_C(0xffffffff) // a masked target, an unused pick

// An operation's comment: what it computes; then its push words; then its bindings in order.
enum kernel_op {
    // x[t] = table[ids[t] - first]; an id that is not in the table gives zeros, or, where first > 0
    // (a window of a larger table, in turn after the first), leaves x[t] alone. push_embed
    // r ids u32[T], r table STORE[V][C], w x STORE[T][C]
    KERNEL_EMBED,
    // dtable[segment_id[s]] += sum of dx[order[i]], i in [segment_begin[s], segment_begin[s+1]),
    // for
    // each segment s < step.segments. push_embed
    // r step, r order u32[T], r segment_begin u32[T+1], r segment_id u32[T], r dx STORE[T][C],
    // m dtable f32[V][C]
    KERNEL_EMBED_BACK,
    // RMSNorm (Zhang & Sennrich 2019): y = x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps);
    // y may be x. weight is STORE[weights] where push.weights is a number of rows. push_norm
    // r x STORE[R][C], r weight STORE[C], w y STORE[R][C], w rstd f32[R]
    KERNEL_NORM,
    // dx (+)= rstd * (g - xhat * mean(g*xhat)), g = dy*weight, xhat = x*rstd; adds where
    // accumulate;
    // dx may be dy. push_norm
    // r x, r weight, r rstd, r dy STORE[R][C], m dx STORE[R][C]
    KERNEL_NORM_BACK,
    // dweight[c] += sum over rows of dy*x*rstd. push_norm
    // r x, r rstd, r dy, m dweight f32[C]
    KERNEL_NORM_BACK_WEIGHT,
    // y = a x + b r, by enum kernel_factor: a factor is 1, one a column, one for all, or (b) its
    // term is absent and r not read. Factors are read only where they are said to be there; y may
    // be x or r. push_mix
    // r x STORE[R][C], r r STORE[R][C], r a STORE[C] or STORE[1], r b likewise, w y STORE[R][C]
    KERNEL_MIX,
    // sum[c] += sum over rows of a[r][c] (* b[r][c] where product). push_column_sum
    // r a STORE[R][C], r b STORE[R][C], m sum f32[C]
    KERNEL_COLUMN_SUM,
    // The same with f32 a and b.
    KERNEL_COLUMN_SUMF,
    // x[r][c] *= scale * factor[c], or, where based, scale * factor[base[r] + c].
    // push_column_scale
    // r factor f32[...], r base u32[R], m x STORE[R][C]
    KERNEL_COLUMN_SCALE,
    // The same with f32 x.
    KERNEL_COLUMN_SCALEF,
    // inverse[r] = 1 / |x[r]|, 0 for a row of zeros. push_norm (rows, cols)
    // r x STORE[R][C], w inverse f32[R]
    KERNEL_ROW_INVERSE,
    // g[r] loses its part along x[r]: g -= x inverse^2 dot(g, x). What a function of the direction
    // of x alone has for a gradient, from what it would be, were |x| fixed; again it changes
    // nothing, so sums may be kept in g. push_norm (rows, cols)
    // r x STORE[R][C], r inverse f32[R], m g f32[R][C]
    KERNEL_ROW_PROJECT,
    // y[t] = (1 - g) x[first + t] + g x[first + t - 1], g = 1/(1 + exp(-gate)) by columns; the row
    // before is 0 where first is 0 and t % seq is 0. back (first 0): the gradient, dx from dy in
    // x's place: the row after instead, 0 where (t + 1) % seq is 0. push_smear
    // r x STORE[first + R][C], r gate STORE[C], w y STORE[R][C]
    KERNEL_SMEAR,
    // dgate[c] += g (1 - g) * sum over rows of dy[t] * (x[t - 1] - x[t]). push_smear
    // r x STORE[R][C], r gate STORE[C], r dy STORE[R][C], m dgate f32[C]
    KERNEL_SMEAR_BACK_GATE,
    // The two for sequences of documents, which end where a sequence does for them: `begins` as in
    // attention_within; first is 0. push_smear
    // r x STORE[R][C], r gate STORE[C], w y STORE[R][C], r begins u32[R]
    KERNEL_SMEAR_WITHIN,
    // r x, r gate, r dy STORE[R][C], m dgate f32[C], r begins u32[R]
    KERNEL_SMEAR_BACK_GATE_WITHIN,
    // Every matmul ends in the same way (lib/epilogue.glsl):
    //     c = act(scale * sum + bias[column]) (+ r where add),
    // r may be c; bias is bound always (anything of its own range) and read only where push.bias.
    // Where parts > 1 (only the forms with f32 c), workgroups z = 0 .. parts - 1 each take a share
    // of k, KERNEL_SHARE(k, parts) long (the last ones shorter or nothing), and write bare sums:
    // c is f32[parts][M][N], dense; matmul_sum or matmul_sumf then adds them and ends.
    // c = a b^T: a linear layer with weight [out][in]. push_matmul
    // r a STORE[M][K], r b STORE[N][K], r r STORE[M][N], w c STORE[M][N], r bias STORE[N]
    KERNEL_MATMUL_NT,
    // The same with f32 r and c (router logits, logits for the host, split sums).
    KERNEL_MATMUL_NTF,
    // c = a b: dX = dY W. push_matmul
    // r a STORE[M][K], r b STORE[K][N], r r STORE[M][N], w c STORE[M][N], r bias STORE[N]
    KERNEL_MATMUL_NN,
    // The same with f32 r and c.
    KERNEL_MATMUL_NNF,
    // c = a^T b: dW = dY^T X. push_matmul
    // r a STORE[K][M], r b STORE[K][N], r r f32[M][N], w c f32[M][N], r bias STORE[N]
    KERNEL_MATMUL_TN,
    // The sum of split sums, part 0 first, and the end of the matmul; k, lda, ldb are not used.
    // push_matmul
    // r partial f32[parts][M][N], r r STORE[M][N], w c STORE[M][N], r bias STORE[N]
    KERNEL_MATMUL_SUM,
    // The same with f32 r and c.
    KERNEL_MATMUL_SUMF,
    // matmul_nt and matmul_ntf for few rows (M <= 8): K across lanes.
    KERNEL_MATVEC,
    KERNEL_MATVECF,
    // Rotary positions (Su et al. 2021), half-split pairs (i, i + D/2) as in Hugging Face, at
    // position
    // step.base + t % seq: y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin; inverse rotates back (the
    // gradient); y may be x. push_rope
    // r step, r table f32[positions][D/2][2] (cos, sin), r x STORE[T][heads][D], w y
    KERNEL_ROPE,
    // cache[step.base + t] = x[t] for t < min(T, step.length), step.base + t < capacity.
    // push_cache_write
    // r step, r x STORE[T][C], m cache STORE[capacity][C]
    KERNEL_CACHE_WRITE,
    // y = x[step.length - 1]. push_embed (rows, cols)
    // r step, r x STORE[T][C], w y STORE[C]
    KERNEL_SELECT_ROW,
    // o = softmax(scale q k^T) v, online (Milakov & Gimelshein 2018; Dao et al. 2022): the S x S
    // matrix is never written; lse = log-sum-exp of the scaled scores. Query i of a sequence sees
    // keys j <= step.base + i (bidirectional: those of all valid queries), and
    // j > step.base + i - window where window > 0. Padding
    // (i >= step.length > 0) sees what query step.length - 1 sees, so that no key is read that was
    // not written. One pass is for the keys [first, first + count), count 0: all from first; a row
    // none of whose keys are among them is not touched, one with keys before `first` is merged with
    // what o and lse say of those. push_attention
    // r step, r q STORE[B*S][heads][D], r k STORE[B][stride][kv_heads][D], r v like k,
    // m o STORE[B*S][heads][D], m lse f32[B*S][heads]
    KERNEL_ATTENTION,
    // delta = sum of o*do, R = T*heads. push_norm (rows, cols)
    // r o STORE[R][D], r do STORE[R][D], w delta f32[R]
    KERNEL_ATTENTION_DELTA,
    // Gradient of the queries; stride = S, base 0; passes as in attention: a row with keys before
    // `first` adds to dq. push_attention
    // r q, r k, r v, r do STORE[B*S][heads][D], r lse, r delta, m dq STORE[B*S][heads][D]
    KERNEL_ATTENTION_BACK_Q,
    // Gradients of keys and values, summed over the heads of a group; a pass is for the queries
    // [first, first + count), and keys before `first` add. push_attention
    // r q, r k, r v, r do, r lse, r delta, m dk STORE[B*S][kv_heads][D], m dv like dk
    KERNEL_ATTENTION_BACK_KV,
    // The three for sequences of several documents: query i sees no key before the place
    // begins[i] in its sequence, where its document begins. begins never falls along a sequence
    // and is at most i. step.base 0, step.length 0 or at least S, stride = S; not bidirectional.
    // Tiles of keys that no row of a workgroup sees are not visited. push_attention
    // r step, r q, r k, r v, m o, m lse, r begins u32[B*S]
    KERNEL_ATTENTION_WITHIN,
    // r q, r k, r v, r do, r lse, r delta, m dq, r begins u32[B*S]
    KERNEL_ATTENTION_BACK_Q_WITHIN,
    // r q, r k, r v, r do, r lse, r delta, m dk, m dv, r begins u32[B*S]
    KERNEL_ATTENTION_BACK_KV_WITHIN,
    // One query at position step.base over the keys that it sees, in `parts` runs of
    // kernel_decode_chunk() keys (flash-decoding, Dao et al. 2023); the last ones may be empty.
    // With one part it writes o, else for each part that is not empty sum = {largest score / ln 2,
    // sum of exp(score - largest)} and o_part, the sum of exp(score - largest) v.
    // push_attention (batch = seq = 1)
    // r step, r q STORE[heads][D], r k cache STORE[stride][kv_heads][D], r v cache,
    // w o STORE[heads][D], w o_part f32[heads][parts][D], w sum f32[heads][parts][2]
    KERNEL_ATTENTION_DECODE,
    // o of the parts of attention_decode. push_attention
    // r step, r o_part, r sum, w o STORE[heads][D]
    KERNEL_ATTENTION_MERGE,
    // The middle of a feed-forward body: h = f(gate)*up where gated (Shazeer 2020: f = silu), else
    // h = f(gate), and up is not touched. push_activate
    // r gate STORE[n], r up STORE[n], w h STORE[n]
    KERNEL_ACTIVATE,
    // Its gradients in place: gate becomes dgate, up becomes dup, dh becomes h. push_activate
    // m gate STORE[n], m up STORE[n], m dh STORE[n]
    KERNEL_ACTIVATE_BACK,
    // x[r] *= gates[r] = 1 / (1 + exp(-logits[r])), and rows[r] = r: what moe_activate_back takes
    // for rows that are not sorted. push_gate_rows
    // r logits f32[R], m x STORE[R][C], w gates f32[R], w rows u32[R]
    KERNEL_GATE_ROWS,
    // dlogits[r] = dgates[r] * gates[r] * (1 - gates[r]). push_count
    // r dgates f32[R], r gates f32[R], w dlogits STORE[R]
    KERNEL_GATE_ROWS_BACK,
    // Routers. z = logits * inv_temperature; the scores of a token are softmax(z), lse =
    // logsumexp(z), or, where sigmoid, each 1 / (1 + exp(-z)), lse = the logarithm of their sum; q
    // = scores divided by their sum in either case. A pick that is not taken is KERNEL_NONE_ID with
    // gate 0, and comes after those that are.
    //
    // The plain router (softmax, PICK_TOP, scale 1), in one pass: ids = the K largest by (score,
    // then lowest id), falling; gates = picked scores, divided by their sum where renormalise.
    // push_router
    // r logits f32[T][E], w probs f32[T][E], w ids u32[T][K], w gates f32[T][K], w lse f32[T]
    KERNEL_ROUTER,
    // Before any router, in place: (logits * u + x softplus(noise)) / softplus(temperature), each
    // part only where its word is set: u uniform in 1 +- jitter, x normal (noisy top-k, Shazeer et
    // al. 2017). Both are of the counter-based generator, keyed by the seed, the step, the layer,
    // the token of the step and the expert: the way back and a resumed run make them again.
    // push_router_noise
    // r step, r noise f32[T][E], r temperature STORE[1], m logits f32[T][E]
    KERNEL_ROUTER_NOISE,
    // Back through it, in place: dlogits are of what it made, `logits`, then of what it took;
    // partial[t] is the token's part of the gradient of temperature. push_router_noise
    // r step, r noise, r temperature, r logits f32[T][E], m dlogits STORE[T][E],
    // w dnoise STORE[T][E], w partial f32[T]
    KERNEL_ROUTER_NOISE_BACK,
    // No router at all (Roller et al. 2021): K experts by a hash of the token's id and the layer,
    // E / K apart, gates and scores 1 / K, lse 0. push_router_hash
    // r ids u32[T], w scores f32[T][E], w picks u32[T][K], w gates f32[T][K], w lse f32[T]
    KERNEL_ROUTER_HASH,
    // Any other, in steps: the scores. push_router
    // r logits f32[T][E], w scores f32[T][E], w lse f32[T]
    KERNEL_ROUTER_SCORE,
    // What picks go by where that is not the score: score + bias, and -inf outside of the
    // `group_picks` groups of E / groups neighbours whose two largest sum to most (DeepSeek-V3,
    // 2412.19437, 2.1.2); groups 1: all are inside; at most 256. bias is read only where biased.
    // push_router
    // r scores f32[T][E], r bias STORE[E], w choice f32[T][E]
    KERNEL_ROUTER_CHOICE,
    // The picks by (choice, then lowest id), falling: K of them (PICK_TOP); while the score is
    // above `limit` (PICK_THRESHOLD), or until the scores sum to `limit` (PICK_MASS), but never
    // fewer than `least`; or all experts in order (PICK_ALL, K = E). gate = scale * score, divided
    // by the sum of those taken where renormalise; 1 where straight. push_router
    // r choice f32[T][E], r scores f32[T][E], w ids u32[T][K], w gates f32[T][K]
    KERNEL_ROUTER_PICK,
    // Expert choice (Zhou et al. 2022, 2202.09368, 3.2): each expert takes the `capacity` (1 to
    // tokens) tokens of the largest scores, the earlier one where equal. Pick e of a token is
    // expert e, its gate scale * score, or KERNEL_NONE_ID and 0 where e does not take it. What a
    // token gets depends on tokens behind it. push_router_columns
    // r scores f32[T][E], w ids u32[T][E], w gates f32[T][E]
    KERNEL_ROUTER_COLUMNS,
    // Back through the gates (straight: as if each were its score), the scores and the temperature,
    // plus the auxiliary losses times step.aux_scale: of slope, what router_losses left: slope[e] =
    // d loss / d (mean of q_e), slope[E + e] = d loss / d (sum of the gates of e); and per token
    // z_coef * mean lse^2 (ST-MoE, Zoph et al. 2022), -entropy_coef * mean -sum q log q,
    // z_square_coef * mean z^2 (over tokens and experts). Logits are read only for that last one.
    // push_router
    // r scores, r ids, r dgates f32[T][K], r lse, r slope f32[2E], r step, r logits,
    // w dlogits STORE[T][E]
    KERNEL_ROUTER_BACK,
    // entropy[t] = -sum over experts of q log q. push_router
    // r scores, r lse f32[T], w entropy f32[T]
    KERNEL_ROUTER_ENTROPY,
    // The same for rows of which each has the router of one domain, E experts of all (two levels:
    // src/plan_hierarchy.c): those from base[row] on. Their slopes are slope[base[row] + e]; there
    // is none of the gates, and no z_square_coef. push_router
    // r scores f32[R][E], r ids, r dgates f32[R][K], r lse, r slope f32[all experts], r step,
    // r base u32[R], w dlogits STORE[R][E]
    KERNEL_ROUTER_BACK_WITHIN,
    // Of each expert: its count, offsets[e + 1] - offsets[e], and its mean of q into stats
    // (kernel_router_stats), and its part of the squares into sums[e] = sum of z^2 where
    // z_square_coef, else 0; adds to what other parts left where accumulate. push_router
    // r scores, r offsets, r lse f32[T], r logits, m stats, m sums f32[E]
    KERNEL_ROUTER_STATS,
    // The same, where the rows [begin[d], begin[d + 1]) have the E experts of domain d: of all
    // domains * E experts, means over all rows; no z_square_coef. push_router
    // r scores f32[R][E], r offsets u32[domains * E + 1], r begin u32[domains + 1], m stats,
    // m sums f32[domains * E]
    KERNEL_ROUTER_STATS_WITHIN,
    // Two levels: a pair (token, domain) is a row of the second. base[inverse[p]] = ids[p] * size,
    // the first expert that the row of pair p is about. push_router_join
    // r ids u32[P], r inverse u32[P], w base u32[P]
    KERNEL_ROUTER_BASE,
    // The picks of the rows as those of tokens, r = inverse[p]: ids[p][k] = base[r] + row
    // ids[r][k], or KERNEL_NONE_ID; gates[p][k] = domain gates[p] * row gates[r][k].
    // push_router_join
    // r domain gates f32[P], r inverse, r base, r row ids u32[P][K], r row gates f32[P][K],
    // w ids u32[P][K], w gates f32[P][K]
    KERNEL_ROUTER_JOIN,
    // Back: ddomain[p] = sum over k of dgates[p][k] * row gates[r][k], drow[r][k] = dgates[p][k]
    // * domain gates[p]. push_router_join
    // r domain gates f32[P], r inverse, r row gates f32[P][K], r dgates f32[P][K],
    // w ddomain f32[P], w drow f32[P][K]
    KERNEL_ROUTER_JOIN_BACK,
    // sums[e] = sum of the gates of the rows of expert e. push_router
    // r gates f32[P], r offsets u32[E+1], r order u32[P], w sums f32[E]
    KERNEL_ROUTER_GATES,
    // After all parts: the head of stats and the slopes of the losses. f_e = count_e / sum of
    // counts, P_e = mean of q_e, I_e = sum of gates (read only where importance_coef), H = entropy:
    // balance E sum f P (Switch, Fedus et al. 2021, divided by K so that balanced = 1; where
    // global, f of the whole step so far as in 2501.11873), variance mean (P - 1/E)^2, H(P),
    // importance Var(I) / mean(I)^2 (Shazeer et al. 2017). Where `count`, the counts are added to
    // the step's. push_router_losses
    // r lse f32[T], r sums f32[E], r gate sums f32[E], r offsets of what was kept u32[E+1],
    // m stats, w slope f32[2E], r entropy f32[T]
    KERNEL_ROUTER_LOSSES,
    // Hugging Face's balance loss, E sum_e F_e P_e with F_e = picks a token and P_e = mean
    // probability, both means over all layers (load_balancing_loss_func of transformers): the
    // part of one layer into its stats, coef * E F_e added to its slope. push_router_pool
    // m stats f32[layers][stride], m slope f32[2E]
    KERNEL_ROUTER_POOL,
    // The balancing bias after a step (2408.15664): b_e += speed * sign(mean load - load_e), load
    // from stats, where norm[2] is not 0; copy is written only where copy. push_router_bias
    // r stats, r norm f32[4], m bias f32[E], w copy STORE[E]
    KERNEL_ROUTER_BIAS,
    // The same where there are no masters: bias is of the storage type, bfloat16, and rounded as
    // weights are by KERNEL_ADAMW_STOCHASTIC, element e from block draw + e / 8 on, or to nearest.
    // push_router_bias_stochastic
    // r step, r stats, r norm f32[4], m bias STORE[E]
    KERNEL_ROUTER_BIAS_STOCHASTIC,
    // Stable counting sort of the pairs p = t*K + pick by expert, in blocks of `block` pairs: first
    // how many of each block go to each expert. An id >= E is in no expert (dropped). Where
    // slices > 1, totals, zero before, becomes their sum over the blocks. push_moe_sort
    // r ids u32[P], w counts u32[blocks][E], m totals u32[E]
    KERNEL_MOE_COUNT,
    // Then where they go: counts becomes the first sorted row of (block, e). Tiles are
    // {expert, first sorted row, rows, 0} of at most tile_rows rows, experts ascending, none empty;
    // ranges are the same with all rows of an expert; a zero entry ends each. Entries 0 .. 3 of
    // indirect are {columns[i], tile count, 1, 0}, 4 and 5 {columns[i], rows[i - 4], range count,
    // 0}. One workgroup a slice of the experts; totals is not read where slices is 1.
    // push_moe_sort
    // m counts, r totals, w offsets u32[E+1], w tiles u32[max_tiles + 1][4],
    // w ranges u32[min(E, P) + 1][4], w indirect u32[6][4]
    KERNEL_MOE_SCAN,
    // Experts of different widths: the fourth word of each tile and range becomes its expert's
    // width, the inner size that is its own. What operands hold beyond it is zero (matrices are as
    // large as the widest expert's), and a grouped matmul may leave it out: of up, act and of nn
    // where it gathers the columns from there on, of nt and of nn else the sums, of tn (where b is
    // gathered) the rows or (where a is) the columns, which it then leaves alone. push_moe_widths
    // r widths u32[E], m tiles u32[tiles][4], m ranges u32[count - tiles][4]
    KERNEL_MOE_WIDTHS,
    // Then they go: order[sorted row] = pair, inverse[pair] = sorted row (KERNEL_NONE_ID: dropped).
    // push_moe_sort
    // r ids, r counts (after moe_scan), w order u32[P], w inverse u32[P]
    KERNEL_MOE_SCATTER,
    // The tiles of those experts whose matrices lie in slots first <= slots[i] < first + count, i
    // the entry of ranges: tiles, placed and indirect as moe_scan writes tiles, ranges and
    // indirect, with slots[i] - first for the expert. Where own, an expert's slot is its own number
    // and slots is not read. One workgroup. push_moe_place
    // r ranges u32[R + 1][4], r slots u32[R], w tiles u32[max_tiles + 1][4],
    // w placed u32[R + 1][4], w indirect u32[6][4]
    KERNEL_MOE_PLACE,
    // kept[p] = ids[p] where p is among the first `capacity` rows of its expert in the order of the
    // sort, that is by position, else KERNEL_NONE_ID (Switch, Fedus et al. 2021).
    // push_moe_capacity
    // r ids u32[P], r inverse u32[P], r offsets u32[E+1], w kept u32[P]
    KERNEL_MOE_CAPACITY,
    // h = f(x wgate_e^T) * (x wup_e^T), x the row of token order[i] / K; indirect over tiles;
    // gate and up are written only where save. push_moe_matmul (n = I, k = H)
    // r x STORE[T][H], r order, r tiles, r wgate STORE[E][I][H], r wup STORE[E][I][H],
    // w h STORE[P][I], w gate STORE[P][I], w up STORE[P][I]
    KERNEL_MOE_MATMUL_UP,
    // Bodies of two matrices: h = f(x w_e^T + bias_e), gate (what f was taken of) only where save.
    // bias is bound always and read only where push.bias, here and in moe_matmul_nt.
    // push_moe_matmul (n = I, k = H)
    // r x STORE[T][H], r order, r tiles, r w STORE[E][I][H], w h STORE[P][I], w gate STORE[P][I],
    // r bias STORE[E][I]
    KERNEL_MOE_MATMUL_ACT,
    // c = a w_e^T + bias_e; indirect over tiles. push_moe_matmul
    // r a STORE[P][k], r tiles, r w STORE[E][n][k], w c STORE[P][n], r bias STORE[E][n]
    KERNEL_MOE_MATMUL_NT,
    // The same with f32 c, and row i of a is a[order[i] / K]: logits of the experts of each row's
    // domain. Whatever its own rows are, it takes any tile table. push_moe_matmul
    // r a STORE[T][k], r tiles, r w STORE[E][n][k], w c f32[P][n], r bias STORE[E][n], r order
    KERNEL_MOE_MATMUL_NTF,
    // c = a w_e (+ a2 w2_e where second), one pass, written once; where gather, row i of a (not of
    // a2) is a[order[i] / K]; indirect over tiles. push_moe_matmul
    // r a STORE[P][k] or STORE[T][k], r order, r tiles, r w STORE[E][k][n], w c STORE[P][n],
    // r a2 STORE[P][k], r w2 STORE[E][k][n]
    KERNEL_MOE_MATMUL_NN,
    // c_e += a_e^T b_e over the rows of expert e; an expert without rows is not touched; gather
    // bit 0: row i of b is b[order[i] / K], bit 1: row i of a is a[order[i] / K]; indirect over
    // ranges (z). push_moe_matmul
    // r a STORE[P or T][m], r b STORE[P or T][n], r order, r ranges, m c f32[E][m][n]
    KERNEL_MOE_MATMUL_TN,
    // The middle of the experts' backward pass, in place, by pairs p at row inverse[p]: dh is the
    // gradient of h as if the gate weight g = gates[p] were 1. dgates[p] = dot(dh, h), 0 for a
    // dropped pair; then gate becomes g * dgate, up g * dup (where gated), dh g * h: what the
    // gradient of the down matrix needs. After SonicMoE (Guo et al. 2025), whose backward pass
    // keeps neither Y nor h. push_moe_activate
    // m gate STORE[P][I], m up STORE[P][I], m dh STORE[P][I], r inverse, r gates f32[P],
    // w dgates f32[P]
    KERNEL_MOE_ACTIVATE_BACK,
    // sum[e][c] += sum over the sorted rows i of expert e of a[i][c], or, where gather, of
    // gates[order[i]] * a[order[i] / K][c]; an expert without rows is not touched.
    // push_moe_column_sum
    // r a STORE[P][C] or STORE[T][C], r order, r offsets u32[E+1], r gates f32[P], m sum f32[E][C]
    KERNEL_MOE_COLUMN_SUM,
    // dgates[p] += dot(dy[p / K], bias[ids[p]]); an id >= E is no expert. push_moe_bias_back
    // r dy STORE[T][C], r ids u32[P], r bias STORE[E][C], m dgates f32[P]
    KERNEL_MOE_BIAS_BACK,
    // out[t] = sum over picks of (weighted ? gates : 1) * y[inverse[t*K + pick]] (+ r[t] where
    // add);
    // r may be out. push_moe_combine
    // r y STORE[P][H], r inverse, r gates f32[P], r r STORE[T][H], w out STORE[T][H]
    KERNEL_MOE_COMBINE,
    // loss = logsumexp(logits) - logits[target], 0 where masked; where backward, logits becomes
    // step.loss_scale * (softmax - onehot), 0 where masked. push_loss
    // r step, m logits STORE[R][V], r targets u32[R] (KERNEL_NONE_ID: masked), w loss f32[R]
    KERNEL_LOSS,
    // The same of softcap * tanh(logits / softcap), and back through it.
    KERNEL_LOSS_CAPPED,
    // x = cap * tanh(x / cap). push_softcap
    // m x f32[n]
    KERNEL_SOFTCAP,
    // out[index] (+)= sum of x; adds where accumulate. push_sum
    // r x f32[n], m out f32[...]
    KERNEL_SUM,
    // partial[index + b] = sum of squares of elements [b*block, (b+1)*block). push_sum
    // r g f32[n], m partial f32[...]
    KERNEL_GRAD_NORM,
    // The same of `matrices` gradients of `count` elements each: the sums of matrix i go to
    // partial[places[index + i] + b], where mapped (KERNEL_NONE_ID: it has none), else
    // to partial[index + i * blocks + b]; the same bytes wherever it lies. push_expert_norm
    // r g f32[matrices][count], r places u32[index + matrices], m partial f32[...]
    KERNEL_EXPERT_NORM,
    // norm = {|g| * unscale, clip factor * unscale, 1 if finite else 0, 0}; clip factor =
    // min(1, max_grad_norm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_, 1 where
    // max_grad_norm is 0. push_sum
    // r step, r partial f32[n], w norm f32[4]
    KERNEL_GRAD_CLIP,
    // Optimizers. One dispatch is for `matrices` parts of `count` elements each. Part i is number
    // first + i of a run of parts; where experts is 0 it takes the optimizer's step t = step.step,
    // else t = moves[(first + i) / per_layer * stride + (first + i) % experts], and where that is 0
    // not one byte of the part, its moments or its copy is touched (nor read). Gradients are
    // multiplied by norm[1] first; nothing moves where norm[2] is 0; the rate is
    // step.learning_rate * rate; weight decay is decoupled and comes first:
    // p *= 1 - rate * weight_decay. copy is written only where push.copy. push_optimizer
    //
    // touched[e] = 1 where expert e has rows. push_count
    // r offsets u32[E+1], m touched u32[E]
    KERNEL_EXPERT_TOUCH,
    // What touched experts do in this step: touched[i] becomes the step t of expert i, 0 where it
    // was not touched or norm[2] is 0. t = ++steps[i], or step.step where push.global (steps
    // stays). push_expert_steps
    // r step, r norm f32[4], m steps u32[n], m touched u32[n]
    KERNEL_EXPERT_STEPS,
    // own[i] = moves[places[i]], 0 where that is KERNEL_NONE_ID. push_count
    // r moves u32[...], r places u32[n], w own u32[n]
    KERNEL_EXPERT_MOVES,
    // AdamW (Loshchilov & Hutter 2019) as torch.optim.AdamW: bias corrections are 1 - beta^t.
    // r step, r norm f32[4], m p f32[n], r g f32[n], m m f32[n], m v f32[n], w copy STORE[n],
    // r moves u32[...]
    KERNEL_ADAMW,
    // The same, but the moments are in records (codes.h), ceil(count / 256) of them for each part,
    // those of the first from push.record on. p goes by the moments before they are rounded.
    // push_adamw_8bit
    // r step, r norm f32[4], m p f32[n], r g f32[n], m records u32[...][132], w copy STORE[n],
    // r moves u32[...]
    KERNEL_ADAMW_8BIT,
    // The same two without masters: p is of the storage type, bfloat16, computed with in f32 and
    // rounded up or down so that the mean of what may come is the f32 value (stochastic rounding:
    // Gupta et al. 2015, 1502.02551; of weights in bf16, Zamirai et al. 2020, 2010.06192), or to
    // nearest where push.nearest. To the 16 bits that go, element j of a part adds half j % 2 (the
    // low one first) of word j / 2 % 4 of the Philox block of counter {draw + j / 8, 0, step.step,
    // KERNEL_ROUNDING}, its key the seed; draw of part i is places[first + i] where mapped, else
    // push.draw + i * ceil(count / 8). A NaN stays one. push_adamw_stochastic (record: of codes)
    // r step, r norm f32[4], m p STORE[n], r g f32[n], m m f32[n], m v f32[n], r moves u32[...],
    // r places u32[...]
    KERNEL_ADAMW_STOCHASTIC,
    // r step, r norm f32[4], m p STORE[n], r g f32[n], m records u32[...][132], r moves u32[...],
    // r places u32[...]
    KERNEL_ADAMW_8BIT_STOCHASTIC,
    // Momentum as torch.optim.SGD's without dampening: m = beta1 m + g, the direction is m or,
    // where nesterov, g + beta1 m; p -= rate * direction.
    // r step, r norm f32[4], m p f32[n], r g f32[n], m m f32[n], w copy STORE[n], r moves
    KERNEL_SGD,
    // Muon (Jordan et al. 2024), a part is a matrix; first its momentum: m and the direction as
    // sgd's, x = the direction, 0 where norm[2] is 0; partial[matrix][i] = sum of squares of
    // MUON_BLOCK elements of x. push_muon
    // r norm f32[4], r g f32[n], m m f32[n], r moves, w x f32[n],
    // w partial f32[matrices][ceil(count / MUON_BLOCK)]
    KERNEL_MUON_MOMENTUM,
    // x /= |x| + 1e-7, the Frobenius norm of each matrix. push_muon
    // r partial, r moves, m x f32[n]
    KERNEL_MUON_SCALE,
    // For grouped matmuls over the matrices that move, `rows` rows each: tiles and ranges as
    // moe_scan writes them, matrix i at row i * rows, whatever moves; indirect = {columns, tiles,
    // 1, 0}, {columns, row_groups, ranges, 0}. push_muon
    // r moves, w tiles u32[...][4], w ranges u32[matrices + 1][4], w indirect u32[2][4]
    KERNEL_MUON_TABLES,
    // b = 3.4445 I - 4.7750 a + 2.0315 b, where b is a a: X becomes b X (X b where rows > columns),
    // one step of Newton-Schulz; matrices are [rows][rows]. push_muon
    // r moves, r a f32[matrices][rows][rows], m b like a
    KERNEL_MUON_MIX,
    // p -= rate * scale * x, after weight decay. push_muon
    // r step, r norm f32[4], r x f32[n], m p f32[n], w copy STORE[n], r moves
    KERNEL_MUON_UPDATE,
    // push_count
    // r from f32[n], w to STORE[n]
    KERNEL_CAST,
    // mean += step.average * (p - mean); where step.average is 0 neither is read, where it is 1
    // mean becomes p. push_count
    // r step, r p f32[n], m mean f32[n]
    KERNEL_AVERAGE,
    // Repetition penalty, temperature, top-k, top-p (Holtzman et al. 2020), then the inverse CDF at
    // u = rng(seed, step.base); marks seen[id]. Temperature 0: argmax, ties to the lowest id.
    // push_loss (rows 1)
    // r step, r logits f32[V], m seen u32[V] (1: in the context), w token u32[2] = {id, 0}
    KERNEL_SAMPLE,
    // What follows is for decoding, one token at a time (plan_decode.c): few dispatches, each
    // weight read once.
    // y = w norm(x): RMSNorm, then a linear layer. push_token_linear
    // r x STORE[k], r norm weight STORE[k], r w STORE[n][k], w y STORE[n]
    KERNEL_TOKEN_LINEAR,
    // The same with f32 y (router logits, logits for the host).
    KERNEL_TOKEN_LINEARF,
    // From the linear layers to attention over a cache: q = rope(norm(x q)) and, for t < min(T,
    // step.length) below the capacity, cache_k[step.base + t] = rope(norm(x k)), cache_v = x v; a
    // row of x is heads queries, then kv_heads keys, then as many values; positions as KERNEL_ROPE,
    // norm over each head with q_norm, k_norm STORE[D] where normalise. push_heads
    // r step, r table f32[positions][D/2][2], r x STORE[T][heads + 2 kv_heads][D], r q_norm,
    // r k_norm, w q STORE[T][heads][D], m cache_k STORE[capacity][kv_heads][D], m cache_v
    KERNEL_HEADS,
    // The picks of one token: logits = w norm(x), ids and gates as KERNEL_ROUTER. One workgroup:
    // for routers of few weights. push_token_router
    // r x STORE[k], r norm weight STORE[k], r w STORE[E][k], w logits f32[E], w ids u32[K],
    // w gates f32[K]
    KERNEL_TOKEN_ROUTER,
    // h[j] = act(gate_e n) * (up_e n), n = norm(x), e = min(ids[j], E - 1), j < K.
    // push_token_moe
    // r x STORE[k], r norm weight STORE[k], r ids u32[K], r gate STORE[E][n][k],
    // r up STORE[E][n][k], w h STORE[K][n]
    KERNEL_TOKEN_UP,
    // y = r + sum over j of gates[j] * (down_e h[j]), e as above; r may be y. push_token_moe
    // r h STORE[K][k], r ids u32[K], r gates f32[K], r down STORE[E][n][k], r r STORE[n],
    // w y STORE[n]
    KERNEL_TOKEN_DOWN,
    KERNEL_COUNT,
};

struct push_embed { uint32_t rows, cols, vocab, first; }; // first: id of the table's row 0
// weights: 0: weight[column]; n: row r has weight[r % n]; KERNEL_NONE_ID: no weight is read
struct push_norm { uint32_t rows, cols, accumulate; float eps; uint32_t weights; };
enum kernel_factor { FACTOR_ONE, FACTOR_COLUMN, FACTOR_NUMBER, FACTOR_ABSENT };
struct push_mix { uint32_t rows, cols, a, b; }; // enum kernel_factor
struct push_column_sum { uint32_t rows, cols, product; };
struct push_column_scale { uint32_t rows, cols, based; float scale; };
struct push_smear { uint32_t rows, cols, seq, first, back; };
// What an epilogue or a feed-forward body does to a value, by Hugging Face's names of hidden_act
// (lib/activation.glsl).
enum kernel_activation {
    ACTIVATION_NONE,
    ACTIVATION_SILU,      // x / (1 + exp(-x))
    ACTIVATION_GELU_TANH, // "gelu_pytorch_tanh", "gelu_new" (Hendrycks & Gimpel 2016)
    ACTIVATION_GELU,      // "gelu": x * Phi(x), by erf
    ACTIVATION_RELU2,     // "relu2": max(x, 0)^2 (So et al. 2021)
    ACTIVATION_COUNT,
};
struct push_matmul {
    uint32_t m, n, k, add;
    uint32_t lda, ldb, ldc; // elements from one row to the next of a, b, and of c and r; 0: dense
    uint32_t parts;         // split-K; 0 and 1: whole
    uint32_t activation, bias;
    float    scale;         // of the sum; 0 stands for 1
};
// The share of k of one of `parts`: whole steps of every variant, so that vectors stay aligned.
#define KERNEL_SHARE(k, parts) (((k) + 32 * (parts) - 1) / (32 * (parts)) * 32)
struct push_rope { uint32_t tokens, heads, head_dim, seq, inverse; };
struct push_cache_write { uint32_t rows, cols, capacity; };
struct push_attention {
    uint32_t batch, seq, stride, heads, kv_heads, head_dim, window;
    float    scale;
    uint32_t first, count; // keys, or queries (attention_back_kv), of this pass
    uint32_t parts;        // attention_decode, attention_merge
    uint32_t bidirectional; // every query sees every key: window 0, no decoding
};
struct push_count { uint32_t count; };
struct push_activate { uint32_t count, activation, gated; };
struct push_moe_activate { uint32_t pairs, cols, activation, gated; };
enum kernel_pick { PICK_TOP, PICK_THRESHOLD, PICK_MASS, PICK_ALL };
struct push_router {
    uint32_t tokens, experts, top_k, renormalise;
    float    inv_temperature;
    uint32_t total;      // tokens of all parts of the batch, what means are over; 0: tokens
    uint32_t accumulate; // router_stats: not the first part
    uint32_t sigmoid, biased, groups, group_picks;
    uint32_t pick;       // enum kernel_pick
    uint32_t least, straight;
    float    limit, scale;
    float    z_coef, entropy_coef, z_square_coef;
    uint32_t domains;    // router_stats_within
};
struct push_router_join { uint32_t pairs, picks, size; };
struct push_router_noise {
    uint32_t tokens, experts, total; // total: of all parts of the micro-batch
    uint32_t first, layer;           // first token of this part
    uint32_t noisy, learned;
    float    jitter;
};
struct push_router_hash { uint32_t tokens, experts, top_k, layer; };
struct push_router_columns { uint32_t tokens, experts, capacity; float scale; };
struct push_gate_rows { uint32_t rows, cols; };
struct push_moe_capacity { uint32_t pairs, experts, capacity; };
// The head of a layer's router statistics, f32; behind it [E] counts, [E] means of q, [E] counts of
// the whole step so far.
enum kernel_router_stats {
    ROUTER_BALANCE, ROUTER_Z, ROUTER_ENTROPY, ROUTER_POOLED, ROUTER_VARIANCE, ROUTER_MEAN_ENTROPY,
    ROUTER_IMPORTANCE, ROUTER_Z_SQUARE, // losses before their coefficients, entropies in nats
    ROUTER_LOSS_COUNT,
    ROUTER_PICKS = ROUTER_LOSS_COUNT, ROUTER_KEPT, // pairs before and after the capacity's drop
    ROUTER_LEAST_ENTROPY, // of a token; ROUTER_ENTROPY is the mean
    ROUTER_STATS_HEAD = 16,
};
struct push_router_losses {
    uint32_t tokens, experts, count, global;
    float    balance_coef, variance_coef, mean_entropy_coef, importance_coef;
};
struct push_router_pool { uint32_t tokens, experts, layers, stride, layer; float coef; };
struct push_router_bias { uint32_t experts, copy; float speed; };
struct push_router_bias_stochastic { uint32_t experts, draw, nearest; float speed; };
struct push_moe_sort {
    uint32_t pairs, experts, block, blocks, slices, tile_rows, max_tiles;
    uint32_t columns[6], rows[2]; // workgroups, by enum kernel_moe_grid
};
// Entries of indirect, of moe_scan and moe_place.
enum kernel_moe_grid {
    MOE_GRID_UP,                   // moe_matmul_up and _act: columns = inner
    MOE_GRID_DOWN,                 // moe_matmul_nt and _ntf: columns = hidden
    MOE_GRID_BACK_H, MOE_GRID_BACK_X, // moe_matmul_nn: columns = inner, = hidden
    MOE_GRID_DOWN_WEIGHT,          // moe_matmul_tn: [hidden][inner]
    MOE_GRID_UP_WEIGHT,            // moe_matmul_tn: [inner][hidden]
    MOE_GRIDS,
};
struct push_moe_place {
    uint32_t ranges, first, count, tile_rows, max_tiles; // ranges: R
    uint32_t columns[6], rows[2];                        // as push_moe_sort
    uint32_t own;
};
// m only for tn; top_k turns a pair into its token where rows are gathered
struct push_moe_matmul {
    uint32_t pairs, experts, m, n, k, top_k, save, gather, second, activation, bias;
};
struct push_moe_widths { uint32_t count, tiles, experts; };
struct push_moe_column_sum { uint32_t experts, cols, top_k, gather; };
struct push_moe_bias_back { uint32_t pairs, experts, cols, top_k; };
struct push_moe_combine { uint32_t tokens, cols, top_k, weighted, add; };
struct push_loss { uint32_t rows, vocab, backward; float softcap; };
struct push_softcap { uint32_t count; float cap; };
struct push_sum { uint32_t count, index, block, accumulate; };
struct push_token_linear { uint32_t k, n; float eps; };
struct push_heads {
    uint32_t tokens, heads, kv_heads, head_dim, capacity, normalise;
    float    eps;
};
struct push_token_router {
    uint32_t k, experts, top_k, renormalise;
    float    inv_temperature, eps;
};
struct push_token_moe { uint32_t experts, top_k, n, k, activation; float eps; };
struct push_expert_norm { uint32_t count, block, matrices, mapped, index; };
struct push_expert_steps { uint32_t count, global; };
struct push_optimizer {
    uint32_t count, matrices, first;      // elements of a part, parts, number of the first one
    uint32_t experts, per_layer, stride;  // 0: all move; parts of a layer; words of a layer's moves
    uint32_t copy, nesterov;
    float    rate, weight_decay;
    float    beta1, beta2, eps;           // beta1 is the momentum of sgd and muon
    float    log_beta1, log_beta2;        // natural logarithms
    float    scale;                       // muon: of the direction
};
struct push_adamw_8bit { struct push_optimizer each; uint32_t record; };
#define KERNEL_ROUNDING UINT32_C(0x80000001) // where other streams have a step or a name's hash
struct push_adamw_stochastic {
    struct push_optimizer each;
    uint32_t record, draw, mapped, nearest;
};
enum { MUON_BLOCK = 1024 };
struct push_muon {
    struct push_optimizer each;
    uint32_t rows, tile_rows, columns, row_groups; // of the grouped matmuls
};
// 1 - beta^t = -expm1(t log_beta): for any t without a power that rounds to 1
static inline float kernel_log_beta(double beta) { return beta > 0 ? (float)log(beta) : -1e4f; }
