// SPDX-License-Identifier: MIT
// What optimizers share (src/kernel.h): struct push_optimizer, which part of a dispatch a workgroup
// is for and whether that part moves. The includer binds `moves`. MORE_PUSH: push words behind
// these. EACH: elements of a workgroup.
#ifndef MORE_PUSH
#define MORE_PUSH
#endif
layout(push_constant) uniform Push {
    uint  count, matrices, first, experts, per_layer, stride, write_copy, nesterov;
    float rate, weight_decay, beta1, beta2, eps, log_beta1, log_beta2, scale;
    MORE_PUSH
};

#ifndef EACH
#define EACH (LANES * 64) // OPTIMIZER_PER_LANE of src/kernel_table.c
#endif

// The elements [begin, end) that this workgroup has of a part that takes step t; 0: nothing to do.
// `quads`: they begin at a multiple of four.
struct piece { uint t, matrix, part, begin, end; bool quads; };

// The step that a part takes, 0 for none; dense_step where all move.
uint step_of(uint matrix, uint dense_step)
{
    if (experts == 0) return dense_step;
    const uint index = first + matrix;
    return moves[index / per_layer * stride + index % experts];
}

piece piece_of_group(uint dense_step)
{
    const uint each = EACH, parts = (count + each - 1) / each;
    const uint at = group_index();
    piece own = piece(0, at / parts, at % parts, 0, 0, false);
    if (own.matrix >= matrices) return own;
    own.t = step_of(own.matrix, dense_step);
    const uint base = own.matrix * count;
    own.begin = base + own.part * each;
    own.end = base + min(count, (own.part + 1) * each);
    own.quads = base % 4 == 0;
    return own;
}

// Calls four(q) for each whole quad of the piece, then one(i) for each element that is left. CPU
// drivers run a loop that is tested at its top once more with all lanes masked, and stores cost
// the same masked: hence the tests at the bottom.
#define EACH_ELEMENT(own, four, one)                                                           \
    {                                                                                          \
        const uint rest = own.quads ? own.end / 4 * 4 : own.begin;                             \
        uint q = own.begin / 4 + LANE, i = rest + LANE;                                        \
        do {                                                                                   \
            if (q < rest / 4) four(q);                                                         \
            q += LANES;                                                                        \
        } while (q < rest / 4);                                                                \
        do {                                                                                   \
            if (i < own.end) one(i);                                                           \
            i += LANES;                                                                        \
        } while (i < own.end);                                                                 \
    }

// 1 - beta^t, by the series of expm1 where 1 - exp() would cancel
float correction(uint t, float log_beta)
{
    const float x = float(t) * log_beta;
    if (x < -0.5) return 1.0 - exp(x);
    float sum = 1.0 + x / 9.0;
    sum = 1.0 + x / 8.0 * sum;
    sum = 1.0 + x / 7.0 * sum;
    sum = 1.0 + x / 6.0 * sum;
    sum = 1.0 + x / 5.0 * sum;
    sum = 1.0 + x / 4.0 * sum;
    sum = 1.0 + x / 3.0 * sum;
    sum = 1.0 + x / 2.0 * sum;
    return -x * sum;
}
