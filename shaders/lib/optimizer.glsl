// SPDX-License-Identifier: MIT
// What optimizers share (src/kernel.h): struct push_optimizer, which part of a dispatch a workgroup
// is for and whether that part moves. The includer binds `step`, `norm` and `moves`.
layout(push_constant) uniform Push {
    uint  count, matrices, first, experts, per_layer, stride, write_copy, nesterov;
    float rate, weight_decay, beta1, beta2, eps, log_beta1, log_beta2;
};

const uint PER_LANE = 16; // ELEMENTS_PER_LANE of src/kernel_table.c

// The elements [begin, end) that this workgroup has of a part that takes step t; 0: nothing to do.
// `quads`: they begin at a multiple of four.
struct piece { uint t, matrix, part, begin, end; bool quads; };

piece piece_of_group(uint dense_step)
{
    const uint each = LANES * PER_LANE, parts = (count + each - 1) / each;
    const uint at = group_index();
    piece own = piece(0, at / parts, at % parts, 0, 0, false);
    if (own.matrix >= matrices) return own;
    const uint index = first + own.matrix;
    own.t = dense_step;
    if (experts > 0) own.t = moves[index / per_layer * stride + index % experts];
    const uint base = own.matrix * count;
    own.begin = base + own.part * each;
    own.end = base + min(count, (own.part + 1) * each);
    own.quads = base % 4 == 0;
    return own;
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
