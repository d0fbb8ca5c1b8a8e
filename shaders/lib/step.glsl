// SPDX-License-Identifier: MIT
// Values that change from step to step: struct step_words of src/kernel.h, same 32 words (its
// `length` is `tokens` here: glslang 12 takes .length for the method).
struct step_words {
    uint  step;
    float learning_rate, loss_scale, aux_scale, unscale, max_grad_norm, average;
    uint  base, tokens, segments, seed_low, seed_high;
    float temperature;
    uint  top_k;
    float top_p, repetition_penalty;
    uint  micro;
    uint  reserved[15];
};
