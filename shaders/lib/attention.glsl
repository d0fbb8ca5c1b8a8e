// SPDX-License-Identifier: MIT
// What the attention kernels share. A team of SPLIT lanes owns HELD rows (queries, or keys in the
// gradient of k and v) and walks over the rows of the other side. A row of head_dim elements is
// spread over the team: lane `part` has its vec4s number chunk * SPLIT + part. A dot product leaves
// a part of each of the HELD sums in every lane; fold() adds them so that each row's sum ends in
// one lane, where one exp serves the row; spread() brings a value of row r back to the team.
// CPU drivers: as many lanes a row as it has vec4s, and many rows (a load costs 25 ns whatever its
// width, so one load serves them all); GPUs: 16 elements of one row a lane, all in registers.
// TILE: a workgroup of several subgroups; rows of the other side go through shared memory, TILED at
// a time, and serve all rows that the workgroup holds. head_dim is a multiple of 4.
// The includer enables GL_KHR_shader_subgroup_shuffle, _basic and GL_EXT_control_flow_attributes.
#include "pack.glsl"
layout(constant_id = 1) const uint HELD = 1;
layout(constant_id = 2) const uint SPLIT = 4;
layout(constant_id = 4) const uint HEAD_DIM = 64;
layout(constant_id = 5) const uint TILED = 16;
const uint FOLD = HELD < SPLIT ? HELD : SPLIT;    // rows whose sums are added up together
const uint OWN = HELD / FOLD;                     // rows whose scalars (maximum, ...) a lane keeps
const uint D4 = (HEAD_DIM + 3) / 4;               // vec4s a row
const uint CHUNKS = (D4 + SPLIT - 1) / SPLIT;     // vec4s a lane
const uint BLOCK = HELD == 1 ? 4 : 2;             // keys of attention.comp in flight
const bool WHOLE = HEAD_DIM % 4 == 0;             // rows are aligned to vec4
const bool EXACT = D4 % SPLIT == 0;               // no lane holds a vec4 past the row's end
#include "attention_push.glsl"

// not gl_LocalInvocationIndex: this is a constant vector to CPU drivers, and agrees with shuffles
uint lane() { return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID; }
uint part() { return gl_SubgroupInvocationID & (SPLIT - 1); }
uint team() { return lane() / SPLIT; }
#define TEAMS (LANES / SPLIT)
// The row, of those its team holds, that slot `o` of this lane's scalars belongs to.
uint own_row(uint o) { return o * FOLD + (part() & (FOLD - 1)); }

// Sums x[row] over the team, in a fixed order; each lane gets those of its own rows. Lanes first
// halve the rows they are busy with, then add what is left.
void fold(const float x[HELD], out float y[OWN])
{
    [[unroll]] for (uint o = 0; o < OWN; o++) {
        float z[FOLD];
        [[unroll]] for (uint i = 0; i < FOLD; i++) z[i] = x[o * FOLD + i];
        [[unroll]] for (uint s = 1; s < 6; s++) {
            const uint half_ = FOLD >> s;
            const bool upper = (gl_SubgroupInvocationID & half_) != 0;
            [[unroll]] for (uint i = 0; i < FOLD / 2; i++)
                if (i < half_) {
                    const float away = upper ? z[i] : z[i + half_];
                    z[i] = (upper ? z[i + half_] : z[i]) + subgroupShuffleXor(away, half_);
                }
        }
        [[unroll]] for (uint s = 0; s < 6; s++)
            if ((FOLD << s) < SPLIT) z[0] += subgroupShuffleXor(z[0], FOLD << s);
        y[o] = z[0];
    }
}

// The value of row r, from the lane that owns it.
float spread(const float y[OWN], uint r)
{
    if (FOLD == 1) return y[r];
    return subgroupShuffle(y[r / FOLD], (gl_SubgroupInvocationID & ~(SPLIT - 1)) + r % FOLD);
}

// Rows of head_dim elements: load_NAME(row, chunk) is this lane's vec4.
#define ROWS_LOAD(name)                                                                            \
    vec4 load_##name(uint row, uint chunk)                                                         \
    {                                                                                              \
        const uint at = chunk * SPLIT + part();                                                    \
        if (WHOLE) {                                                                               \
            const vec4 x = unpack(name##_4[row * D4 + min(at, D4 - 1)]);                           \
            return EXACT || at < D4 ? x : vec4(0.0);                                               \
        }                                                                                          \
        const uint one = row * HEAD_DIM, last = HEAD_DIM - 1;                                      \
        const vec4 x = vec4(LOAD(name##_1[one + min(4 * at, last)]),                               \
                            LOAD(name##_1[one + min(4 * at + 1, last)]),                           \
                            LOAD(name##_1[one + min(4 * at + 2, last)]),                           \
                            LOAD(name##_1[one + min(4 * at + 3, last)]));                          \
        return mix(vec4(0.0), x, lessThan(4 * at + uvec4(0, 1, 2, 3), uvec4(HEAD_DIM)));           \
    }

// The same for save_NAME(row, chunk, value).
#define ROWS_SAVE(name)                                                                            \
    void save_##name(uint row, uint chunk, vec4 value)                                             \
    {                                                                                              \
        const uint at = chunk * SPLIT + part();                                                    \
        if (WHOLE) {                                                                               \
            if (EXACT || at < D4) name##_4[row * D4 + at] = pack(value);                           \
            return;                                                                                \
        }                                                                                          \
        [[unroll]] for (uint i = 0; i < 4; i++)                                                    \
            if (4 * at + i < HEAD_DIM) name##_1[row * HEAD_DIM + 4 * at + i] = SAVE(value[i]);     \
    }

// Rows of the other side: TILED_ROWS(name) declares fetch_NAME(row, pitch, rows), after which
// walk_NAME(row, n, pitch, chunk) is this lane's vec4 of row + n * pitch.
#ifdef TILE
#define TILED_ROWS(name)                                                                           \
    shared PACK4 name##_tile[TILED * D4];                                                          \
    void fetch_##name(uint row, uint pitch, uint rows)                                             \
    {                                                                                              \
        for (uint e = lane(); e < TILED * D4; e += LANES)                                          \
            name##_tile[e] = name##_4[(row + min(e / D4, rows - 1) * pitch) * D4 + e % D4];        \
    }                                                                                              \
    vec4 walk_##name(uint row, uint n, uint pitch, uint chunk)                                     \
    {                                                                                              \
        const uint at = chunk * SPLIT + part();                                                    \
        const vec4 x = unpack(name##_tile[n * D4 + min(at, D4 - 1)]);                              \
        return EXACT || at < D4 ? x : vec4(0.0);                                                   \
    }
#else
#define TILED_ROWS(name)                                                                           \
    vec4 walk_##name(uint row, uint n, uint pitch, uint chunk)                                     \
    {                                                                                              \
        return load_##name(row + n * pitch, chunk);                                                \
    }
#endif

// Declare binding `b`: read, written, both.
#define ROWS_IN(b, name)  STORE_IN(b, name) ROWS_LOAD(name)
#define ROWS_OUT(b, name) STORE_OUT(b, name) ROWS_SAVE(name)
#define ROWS_IO(b, name)  STORE_IO(b, name) ROWS_LOAD(name) ROWS_SAVE(name)

float dot_add(vec4 a, vec4 b, float sum)
{
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}
