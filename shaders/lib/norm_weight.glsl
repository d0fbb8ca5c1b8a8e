// SPDX-License-Identifier: MIT
// What a norm multiplies by, after `weights` of its push words: 0: weight[column]; n: row r by
// weight[r % n]; NONE: nothing.
const uint NONE = 0xffffffffu;

float weight_of(uint row)
{
    return weights == 0 || weights == NONE ? 1.0 : LOAD(weight_1[row % weights]);
}
vec4  weights_at(float own, uint i) { return weights == 0 ? unpack(weight_4[i]) : vec4(own); }
float weight_at(float own, uint c)  { return weights == 0 ? LOAD(weight_1[c]) : own; }
