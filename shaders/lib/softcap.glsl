// SPDX-License-Identifier: MIT
// cap tanh(x / cap). The quotient of exponentials cancels near 0: a series there, so that small
// logits keep their digits.
float softcap_of(float x, float cap)
{
    const float z = x / cap, s = z * z, e = exp(-2.0 * abs(z));
    const float far = sign(z) * (1.0 - e) / (1.0 + e);
    const float near = z * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * 17.0 / 315.0)));
    return isnan(x) ? x : cap * (s < 0.04 ? near : far);
}
