// SPDX-License-Identifier: MIT
// What the end of a matmul does to a value: enum kernel_activation of src/kernel.h, for every
// matmul, dense and grouped. erf is Abramowitz & Stegun 7.1.26 (error below 1.5e-7).
vec4 erf_of(vec4 x)
{
    const vec4 t = 1.0 / (1.0 + 0.3275911 * abs(x));
    const vec4 p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 +
                   t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-x * x));
}

// tanh by exp: GLSL's overflows on some drivers beyond |x| = 44
vec4 tanh_of(vec4 x) { return 1.0 - 2.0 / (1.0 + exp(2.0 * min(x, vec4(20.0)))); }

vec4 activate(uint activation, vec4 x)
{
    switch (activation) {
    case 1: return x / (1.0 + exp(-x));
    case 2: return 0.5 * x * (1.0 + tanh_of(0.7978845608 * (x + 0.044715 * x * x * x)));
    case 3: return 0.5 * x * (1.0 + erf_of(0.70710678118 * x));
    case 4: return max(x, 0.0) * max(x, 0.0);
    }
    return x;
}
