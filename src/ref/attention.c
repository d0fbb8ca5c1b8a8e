// SPDX-License-Identifier: MIT
// References of attention, its gradients and attention_decode: plain sums over all visible keys.
// p_ij = exp(scale q_i k_j - lse_i); delta_i = o_i do_i; ds_ij = p_ij (do_i v_j - delta_i);
// dq_i = scale sum_j ds_ij k_j; dk_j = scale sum_i ds_ij q_i; dv_j = sum_i p_ij do_i.
#include "src/ref/ref.h"

struct keys { size_t first, end; }; // keys [first, end) that a query sees

// all before `end`, or the last `window` of them
static struct keys visible(size_t end, uint32_t window)
{
    return (struct keys){window && end > window ? end - window : 0, end};
}

static double dot(const struct gpu_ref_call *call, int a, size_t ia, int b, size_t ib,
                  uint32_t count)
{
    double sum = 0;
    for (uint32_t d = 0; d < count; d++)
        sum += ref_load(call, a, ia + d) * ref_load(call, b, ib + d);
    return sum;
}

// o = softmax(scale q k^T) v of the query at element q of bindings 1 and 4; key j is at element
// at + j * pitch of bindings 2 and 3. Returns the log-sum-exp.
static double attend(const struct gpu_ref_call *call, size_t q, struct keys keys, size_t at)
{
    const struct push_attention *p = call->push;
    const uint32_t dim = p->head_dim;
    const size_t pitch = (size_t)p->kv_heads * dim;
    double *score = calloc(keys.end, sizeof *score);
    double most = -INFINITY, sum = 0;
    for (size_t j = keys.first; j < keys.end; j++) {
        score[j] = (double)p->scale * dot(call, 1, q, 2, at + j * pitch, dim);
        most = fmax(most, score[j]);
    }
    for (size_t j = keys.first; j < keys.end; j++) sum += exp(score[j] - most);
    for (uint32_t d = 0; d < dim; d++) {
        double o = 0;
        for (size_t j = keys.first; j < keys.end; j++)
            o += exp(score[j] - most) * ref_load(call, 3, at + j * pitch + d);
        ref_store(call, 4, q + d, o / sum);
    }
    free(score);
    return most + log(sum);
}

void ref_attention(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    const struct step_words *step = call->buffer[0];
    float *lse = call->buffer[5]; // [batch*seq][heads]
    const uint32_t group = p->heads / p->kv_heads, valid = step->length ? step->length : p->seq;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t i = 0; i < p->seq; i++)
            for (size_t h = 0; h < p->heads; h++) {
                const size_t row = (b * p->seq + i) * p->heads + h;
                const size_t end = min_u64(step->base + min_u64(i + 1, valid), p->stride);
                const size_t at = (b * p->stride * p->kv_heads + h / group) * p->head_dim;
                lse[row] = (float)attend(call, row * p->head_dim, visible(end, p->window), at);
            }
}

void ref_attention_decode(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    const struct step_words *step = call->buffer[0];
    const uint32_t group = p->heads / p->kv_heads;
    const size_t end = min_u32(step->base + 1, p->stride);
    for (size_t h = 0; h < p->heads; h++)
        attend(call, h * p->head_dim, visible(end, p->window), h / group * p->head_dim);
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

void ref_attention_back_q(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    double *sum = calloc(p->head_dim, sizeof *sum);
    for (size_t b = 0; b < p->batch; b++)
        for (size_t i = 0; i < p->seq; i++)
            for (size_t h = 0; h < p->heads; h++) {
                memset(sum, 0, p->head_dim * sizeof *sum);
                const struct keys keys = visible(i + 1, p->window);
                for (size_t j = keys.first; j < keys.end; j++) {
                    const struct pair pair = pair_make(call, b, i, j, h);
                    for (size_t d = 0; d < p->head_dim; d++)
                        sum[d] += pair.dscore * ref_load(call, 1, pair.k + d);
                }
                const size_t q = ((b * p->seq + i) * p->heads + h) * p->head_dim;
                for (size_t d = 0; d < p->head_dim; d++) ref_store(call, 6, q + d, sum[d]);
            }
    free(sum);
}

// dk and dv of key j of kv head g into sum[0 .. D) and sum[D .. 2D)
static void back_key(const struct gpu_ref_call *call, size_t b, size_t j, size_t g, double *sum)
{
    const struct push_attention *p = call->push;
    const size_t dim = p->head_dim, group = p->heads / p->kv_heads;
    const size_t end = p->window ? min_u64(p->seq, j + p->window) : p->seq;
    memset(sum, 0, 2 * dim * sizeof *sum);
    for (size_t i = j; i < end; i++)
        for (size_t h = g * group; h < (g + 1) * group; h++) {
            const struct pair pair = pair_make(call, b, i, j, h);
            for (size_t d = 0; d < dim; d++) {
                sum[d] += pair.dscore * ref_load(call, 0, pair.q + d);
                sum[dim + d] += pair.prob * ref_load(call, 3, pair.q + d);
            }
        }
}

void ref_attention_back_kv(const struct gpu_ref_call *call)
{
    const struct push_attention *p = call->push;
    const size_t dim = p->head_dim;
    double *sum = calloc(2 * dim, sizeof *sum);
    for (size_t b = 0; b < p->batch; b++)
        for (size_t j = 0; j < p->seq; j++)
            for (size_t g = 0; g < p->kv_heads; g++) {
                back_key(call, b, j, g, sum);
                const size_t k = ((b * p->stride + j) * p->kv_heads + g) * dim;
                for (size_t d = 0; d < dim; d++) ref_store(call, 6, k + d, sum[d]);
                for (size_t d = 0; d < dim; d++) ref_store(call, 7, k + d, sum[dim + d]);
            }
    free(sum);
}
