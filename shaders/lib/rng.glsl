// SPDX-License-Identifier: MIT
// Philox 4x32-10 (Salmon et al. 2011), word for word rng_philox of src/base.h: key is the 64-bit
// seed, counter the low and the high 64-bit counter, each as (low word, high word).
uvec4 rng_philox(uvec2 key, uvec4 counter)
{
    for (int i = 0; i < 10; i++) {
        uint high0, low0, high1, low1;
        umulExtended(0xd2511f53u, counter.x, high0, low0);
        umulExtended(0xcd9e8d57u, counter.z, high1, low1);
        counter = uvec4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}

// (0, 1): the middle of one of 2^23 equal parts. Every step is exact in f32, so host and device
// agree.
float rng_unit(uint word)
{
    return float(word >> 9) * 1.1920928955078125e-7 + 5.9604644775390625e-8; // 2^-23, 2^-24
}
