// SPDX-License-Identifier: MIT
// Where the random numbers of a part begin (lib/stochastic.glsl), for optimizers: the includer
// includes lib/optimizer.glsl, binds `places` and pushes `draw`, `mapped`.
uint first_draw(uint matrix)
{
    return mapped != 0 ? places[first + matrix] : draw + matrix * ((count + 7) / 8);
}
