// SPDX-License-Identifier: MIT
// enum kernel_activation of src/kernel.h: values as x * factor(x), and derivatives. All through one
// exponential and one division, without branches: CPU drivers execute every side of a branch, and
// the number is a push word. With s the logistic function:
//     silu x s(x), and gelu_tanh x s(u(x)) with u = x (a + b x^2), for 1 + tanh(y) = 2 s(2 y);
//     gelu x Phi(x), Phi by Abramowitz & Stegun 7.1.26 (off by at most 7.5e-8); relu2 x max(x, 0).
const uint  GELU_TANH = 2, GELU = 3, RELU2 = 4; // 0: none, 1: silu
const float TANH_A = 1.5957691216057308, TANH_B = 0.0713548162726;

struct activated { vec4 factor, slope; };

// `f` is the same in all lanes, and not 0. Where the slope is not used, no code is left of it.
activated activation_of(uint f, vec4 x)
{
    const bvec4 erf = bvec4(f == GELU), relu2 = bvec4(f == RELU2);
    const float a = f == GELU_TANH ? TANH_A : 1.0, b = f == GELU_TANH ? TANH_B : 0.0;
    const vec4 square = x * x, positive = max(x, 0.0);
    const vec4 e = exp(mix(-x * (a + b * square), -0.5 * square, erf));
    const vec4 t = 1.0 / (1.0 + mix(e, 0.23164188 * abs(x), erf));
    const vec4 upper =
        e * t * (0.127414796 + t * (-0.142248368 +
                                    t * (0.7107068705 + t * (-0.7265760135 + t * 0.5307027145))));
    const vec4 phi = mix(upper, 1.0 - upper, greaterThanEqual(x, vec4(0.0)));
    activated y;
    y.factor = mix(mix(t, phi, erf), positive, relu2);
    const vec4 logistic = t + x * t * (1.0 - t) * (a + 3.0 * b * square);
    y.slope = mix(mix(logistic, phi + 0.39894228 * x * e, erf), 2.0 * positive, relu2);
    return y;
}

vec4 activate(uint f, vec4 x) { return x * activation_of(f, x).factor; }
