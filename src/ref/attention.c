// SPDX-License-Identifier: MIT
// References of attention, its gradients, attention_decode and attention_merge: plain sums over the
// visible keys; `begins` (or NULL) is where documents begin, for the operations within them.
// p_ij = exp(scale q_i k_j - lse_i); delta_i = o_i do_i; ds_ij = p_ij (do_i v_j - delta_i);
// dq_i = scale sum_j ds_ij k_j; dk_j = scale sum_i ds_ij q_i; dv_j = sum_i p_ij do_i.
#include "src/kernel_attention.h"
#include "src/ref/ref.h"

struct keys { size_t first, end; }; // keys [first, end) that a query sees

// all before `end`, or the last `window` of them
static struct keys visible(size_t end, uint32_t window)
{
    return (struct keys){window && end > window ? end - window : 0, end};
}

// those of them that this pass is for
// those that the document of token `at` has
static struct keys in_document(struct keys keys, const uint32_t *begins, size_t at)
{
    return (struct keys){begins ? max_u64(keys.first, begins[at]) : keys.first, keys.end};
}

static struct keys in_pass(struct keys keys, const struct push_attention *p)
{
    const size_t end = p->count ? (size_t)p->first + p->count : keys.end;
    return (struct keys){max_u64(keys.first, p->first), min_u64(keys.end, end)};
}

static double dot(const struct gpu_ref_call *call, int a, size_t ia, int b, size_t ib,
                  uint32_t count)
{
    double sum = 0;
    for (uint32_t d = 0; d < count; d++)
        sum += ref_load(call, a, ia + d) * ref_load(call, b, ib + d);
    return sum;
}

// Attention of one query over some keys: o = sum of exp(score - most) v, sum of the factors.
struct attended { double o[KERNEL_MAX_HEAD_DIM], most, sum; };

// The query at element q of binding 1; key j is at element at + j * pitch of bindings 2 and 3.
static void attend(const struct gpu_ref_call *call, size_t q, struct keys keys, size_t at,
                   struct attended *out)
{
    const struct push_attention *p = call->push;
    const uint32_t dim = p->head_dim;
    const size_t pitch = (size_t)p->kv_heads * dim;
    double *score = calloc(keys.end, sizeof *score);
    *out = (struct attended){.most = -INFINITY};
    for (size_t j = keys.first; j < keys.end; j++) {
        score[j] = (double)p->scale * dot(call, 1, q, 2, at + j * pitch, dim);
        out->most = fmax(out->most, score[j]);
    }
    for (size_t j = keys.first; j < keys.end; j++) {
        const double factor = exp(score[j] - out->most);
        out->sum += factor;
        for (uint32_t d = 0; d < dim; d++)
            out->o[d] += factor * ref_load(call, 3, at + j * pitch + d);
    }
    free(score);
}

// o and log-sum-exp of a row; with those of earlier passes where it has them
static void finish_row(const struct gpu_ref_call *call, size_t row, const struct attended *a,
                       bool add)
{
    const uint32_t dim = ((const struct push_attention *)call->push)->head_dim;
    float *lse = (float *)call->buffer[5] + row;
    const double most = add ? fmax(a->most, (double)*lse) : a->most;
    const double mine = exp(a->most - most), before = add ? exp((double)*lse - most) : 0;
    const double sum = a->sum * mine + before;
    for (uint32_t d = 0; d < dim; d++) {
        const double old = add ? before * ref_load(call, 4, row * dim + d) : 0;
        ref_store(call, 4, row * dim + d, (a->o[d] * mine + old) / sum);
    }
    *lse = (float)(most + log(sum));
}

static void attention(const struct gpu_ref_call *call, const uint32_t *begins)
{
    const struct push_attention *p = call->push;
    const struct step_words *step = call->buffer[0];
    const uint32_t group = p->heads / p->kv_heads, valid = step->length ? step->length : p->seq;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t i = 0; i < p->seq; i++)
            for (size_t h = 0; h < p->heads; h++) {
                const size_t row = (b * p->seq + i) * p->heads + h;
                const size_t seen = p->bidirectional ? valid : min_u64(i + 1, valid);
                const size_t end = min_u64(step->base + seen, p->stride);
                const size_t at = (b * p->stride * p->kv_heads + h / group) * p->head_dim;
                const struct keys keys =
                    in_document(visible(end, p->window), begins, b * p->seq + i);
                const struct keys now = in_pass(keys, p);
                if (now.first >= now.end) continue;
                struct attended a;
                attend(call, row * p->head_dim, now, at, &a);
                finish_row(call, row, &a, keys.first < p->first);
            }
}

void ref_attention(const struct gpu_ref_call *call) { attention(call, NULL); }
void ref_attention_within(const struct gpu_ref_call *call) { attention(call, call->buffer[6]); }

// ---- attention_decode and attention_merge: part i of the keys, in [head][part] arrays

static struct keys part_of(struct keys keys, const struct push_attention *p, uint32_t part)
{
    const size_t chunk = kernel_decode_chunk((uint32_t)(keys.end - keys.first), p->parts);
    const size_t first = keys.first + part * chunk;
    return (struct keys){first, min_u64(first + chunk, keys.end)};
}

void ref_attention_decode(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    const struct step_words *step = call->buffer[0];
    float *o = call->buffer[5], *sums = call->buffer[6];
    const uint32_t group = p->heads / p->kv_heads, dim = p->head_dim;
    const struct keys keys = visible(min_u32(step->base + 1, p->stride), p->window);
    for (size_t h = 0; h < p->heads; h++)
        for (uint32_t i = 0; i < p->parts; i++) {
            const struct keys part = part_of(keys, p, i);
            const size_t row = h * p->parts + i;
            struct attended a;
            if (part.first >= part.end) continue;
            attend(call, h * dim, part, h / group * dim, &a);
            if (p->parts > 1) {
                sums[2 * row] = (float)(a.most / log(2));
                sums[2 * row + 1] = (float)a.sum;
            }
            for (uint32_t d = 0; d < dim; d++)
                if (p->parts > 1) o[row * dim + d] = (float)a.o[d];
                else ref_store(call, 4, h * dim + d, a.o[d] / a.sum);
        }
}

void ref_attention_merge(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    const struct step_words *step = call->buffer[0];
    const float *o = call->buffer[1], *sums = call->buffer[2];
    const struct keys keys = visible(min_u32(step->base + 1, p->stride), p->window);
    const size_t chunk = kernel_decode_chunk((uint32_t)(keys.end - keys.first), p->parts);
    const size_t parts = (keys.end - keys.first + chunk - 1) / chunk;
    for (size_t h = 0; h < p->heads; h++) {
        const size_t row = h * p->parts;
        double most = -INFINITY, sum = 0;
        for (size_t i = 0; i < parts; i++) most = fmax(most, (double)sums[2 * (row + i)]);
        for (size_t i = 0; i < parts; i++)
            sum += exp2((double)sums[2 * (row + i)] - most) * (double)sums[2 * (row + i) + 1];
        for (size_t d = 0; d < p->head_dim; d++) {
            double x = 0;
            for (size_t i = 0; i < parts; i++)
                x += exp2((double)sums[2 * (row + i)] - most) *
                     (double)o[(row + i) * p->head_dim + d];
            ref_store(call, 3, h * p->head_dim + d, x / sum);
        }
    }
}

void ref_attention_delta(const struct gpu_ref_call *call)
{
    const struct push_norm *p = call->push;
    float *delta = call->buffer[2]; // [rows]
    for (size_t r = 0; r < p->rows; r++)
        delta[r] = (float)dot(call, 0, r * p->cols, 1, r * p->cols, p->cols);
}

// Query i of head h and key j of sequence b in the backward operations: their elements, p_ij and
// scale * ds_ij.
struct pair { size_t q, k; double prob, dscore; };

static struct pair pair_make(const struct gpu_ref_call *call, size_t b, size_t i, size_t j,
                             size_t h)
{
    const struct push_attention *p = call->push;
    const float *lse = call->buffer[4], *delta = call->buffer[5];
    const size_t row = (b * p->seq + i) * p->heads + h, group = p->heads / p->kv_heads;
    struct pair pair = {.q = row * p->head_dim};
    pair.k = ((b * p->stride + j) * p->kv_heads + h / group) * p->head_dim;
    const double score = (double)p->scale * dot(call, 0, pair.q, 1, pair.k, p->head_dim);
    const double dprob = dot(call, 3, pair.q, 2, pair.k, p->head_dim);
    pair.prob = exp(score - lse[row]);
    pair.dscore = (double)p->scale * pair.prob * (dprob - delta[row]);
    return pair;
}

static void attention_back_q(const struct gpu_ref_call *call, const uint32_t *begins)
{
    const struct push_attention *p = call->push;
    double *sum = calloc(p->head_dim, sizeof *sum);
    for (size_t b = 0; b < p->batch; b++)
        for (size_t i = 0; i < p->seq; i++)
            for (size_t h = 0; h < p->heads; h++) {
                const size_t seen = p->bidirectional ? p->seq : i + 1;
                const struct keys keys =
                    in_document(visible(seen, p->window), begins, b * p->seq + i);
                const struct keys now = in_pass(keys, p);
                const size_t q = ((b * p->seq + i) * p->heads + h) * p->head_dim;
                if (now.first >= now.end) continue;
                for (size_t d = 0; d < p->head_dim; d++)
                    sum[d] = keys.first < p->first ? ref_load(call, 6, q + d) : 0;
                for (size_t j = now.first; j < now.end; j++) {
                    const struct pair pair = pair_make(call, b, i, j, h);
                    for (size_t d = 0; d < p->head_dim; d++)
                        sum[d] += pair.dscore * ref_load(call, 1, pair.k + d);
                }
                for (size_t d = 0; d < p->head_dim; d++) ref_store(call, 6, q + d, sum[d]);
            }
    free(sum);
}

void ref_attention_back_q(const struct gpu_ref_call *call) { attention_back_q(call, NULL); }
void ref_attention_back_q_within(const struct gpu_ref_call *call)
{
    attention_back_q(call, call->buffer[7]);
}

// Adds dk and dv of key j of kv head g, from these queries, to sum[0 .. D) and sum[D .. 2D).
static void back_key(const struct gpu_ref_call *call, size_t b, size_t j, size_t g,
                     struct keys queries, double *sum)
{
    const struct push_attention *p = call->push;
    const size_t dim = p->head_dim, group = p->heads / p->kv_heads;
    for (size_t i = queries.first; i < queries.end; i++)
        for (size_t h = g * group; h < (g + 1) * group; h++) {
            const struct pair pair = pair_make(call, b, i, j, h);
            for (size_t d = 0; d < dim; d++) {
                sum[d] += pair.dscore * ref_load(call, 0, pair.q + d);
                sum[dim + d] += pair.prob * ref_load(call, 3, pair.q + d);
            }
        }
}

// one past the last query of sequence b that key j's document has
static size_t last_query(const struct push_attention *p, const uint32_t *begins, size_t b,
                         size_t j)
{
    size_t end = p->window ? min_u64(p->seq, j + p->window) : p->seq;
    for (size_t i = j; begins && i < end; i++)
        if (begins[b * p->seq + i] > j) end = i;
    return end;
}

static void attention_back_kv(const struct gpu_ref_call *call, const uint32_t *begins)
{
    const struct push_attention *p = call->push;
    const size_t dim = p->head_dim;
    double *sum = calloc(2 * dim, sizeof *sum);
    for (size_t b = 0; b < p->batch; b++)
        for (size_t j = 0; j < p->seq; j++)
            for (size_t g = 0; g < p->kv_heads; g++) {
                const size_t k = ((b * p->stride + j) * p->kv_heads + g) * dim;
                const size_t end = last_query(p, begins, b, j);
                const size_t begin = p->bidirectional ? 0 : j;
                const struct keys queries = in_pass((struct keys){begin, end}, p);
                if (queries.first >= queries.end) continue;
                for (size_t d = 0; d < 2 * dim; d++)
                    sum[d] = begin >= p->first ? 0 : ref_load(call, d < dim ? 6 : 7, k + d % dim);
                back_key(call, b, j, g, queries, sum);
                for (size_t d = 0; d < dim; d++) ref_store(call, 6, k + d, sum[d]);
                for (size_t d = 0; d < dim; d++) ref_store(call, 7, k + d, sum[dim + d]);
            }
    free(sum);
}

void ref_attention_back_kv(const struct gpu_ref_call *call) { attention_back_kv(call, NULL); }
void ref_attention_back_kv_within(const struct gpu_ref_call *call)
{
    attention_back_kv(call, call->buffer[8]);
}
