// SPDX-License-Identifier: MIT
// The most multiply-adds a second that a plain shader gets from the device: CHAINS independent
// chains a lane, all in registers, no memory in the loop. For `vkmoe bench` alone;
// x -> x / 2 + 1 / 2 stays finite (and normal).
#version 450
#extension GL_EXT_control_flow_attributes : require
#ifdef HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define VALUE f16vec4
#define SCALAR float16_t
#else
#define VALUE vec4
#define SCALAR float
#endif
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(binding = 0) writeonly buffer Result { float result[]; };
layout(push_constant) uniform Push { uint loops; float factor, addend; };

const uint UNROLL = 16; // BENCH_FMA_UNROLL and BENCH_FMA_CHAINS (12) of tools/bench_peaks.c

void main()
{
    const VALUE f = VALUE(SCALAR(factor)), a = VALUE(SCALAR(addend));
    const SCALAR lane = SCALAR(float(gl_LocalInvocationIndex) * 0.0078125);
    VALUE x = VALUE(lane), y = VALUE(lane + SCALAR(0.25)), z = VALUE(lane + SCALAR(0.5));
    uint i = 0;
    do {
        [[unroll]] for (uint j = 0; j < UNROLL; j++) {
            x = fma(x, f, a);
            y = fma(y, f, a);
            z = fma(z, f, a);
        }
        i++;
    } while (i < loops);
    const VALUE sum = x + y + z;
    const uint at = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    result[at] = float(sum.x + sum.y + sum.z + sum.w);
}
