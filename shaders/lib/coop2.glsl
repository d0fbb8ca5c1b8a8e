// SPDX-License-Identifier: MIT
// A tile of C by one cooperative matrix of a whole workgroup (VK_NV_cooperative_matrix2): the
// driver shares ROWS x COLUMNS sums in f32 out among the lanes, brings the operands through shared
// memory of its own and cuts off what is outside of a tensor. f16, or bf16 by
// VK_KHR_shader_bfloat16.
//
// STAGED is the same without tensors and workgroups: for drivers whose matrices have any size, but
// belong to a subgroup (lavapipe of Mesa 26). What is written down here as tensors is done by
// loops through shared memory, slowly, so that all else of these kernels runs somewhere: their
// tensors' sizes and places, their gathers, their ends. The tensor instructions themselves have
// never run: no card was at hand.
//
//   TENSOR(name, last_row, last_column, stride)   rows [0, last_row), columns [0, last_column) of
//       an array, as name_cut: what is outside reads 0 and is not written; and as name_plain:
//       nothing asked for is outside
//   FETCH(matrix, array, tensor, row, rows, column, columns)   a slice of it; FETCH_TURNED: turned
//   FETCH_BY(..., at)   element (row, column) is at(row, column), whatever the array has there
//   ADD(sums, type, array, tensor, row, column)      adds ROWS x COLUMNS of the type
//   KEEP(sums, type, array, tensor, row, column)     writes them, rounded to the type
// at() of FETCH_BY is declared by GATHERED(at, array, index): array[index] by row and column.
#ifdef STORE_BF16
#define CALC bfloat16_t
#else
#define CALC float16_t
#endif
layout(constant_id = 1) const uint ROWS = 16;
layout(constant_id = 2) const uint COLUMNS = 32;
layout(constant_id = 4) const uint DEPTH = 16;

#define MATRIX(type, rows, columns, use) coopmat<type, SCOPE, rows, columns, gl_MatrixUse##use>
#define A_STEP MATRIX(CALC, ROWS, DEPTH, A)
#define B_STEP MATRIX(CALC, DEPTH, COLUMNS, B)
#define TILE(type) MATRIX(type, ROWS, COLUMNS, Accumulator)
#define SUMS TILE(float)

// STEP(at, kind) for k = begin, begin + DEPTH .. end; kind: plain where the whole step is
// inside, else cut
#define STEPS(begin, end, within, STEP)                                                            \
    {                                                                                              \
        uint from = begin;                                                                         \
        if (within)                                                                                \
            for (; from + UNROLL * DEPTH <= end; from += UNROLL * DEPTH)                           \
                [[unroll]] for (uint u = 0; u < UNROLL; u++) { STEP(from + u * DEPTH, plain) }     \
        [[dont_unroll]] for (; from < end; from += DEPTH) { STEP(from, cut) }                      \
    }

#ifndef STAGED
#define SCOPE gl_ScopeWorkgroup
const uint UNROLL = 4;
#define CLAMP gl_CooperativeMatrixClampModeConstantNV
#define TENSOR(name, last_row, last_column, stride)                                                \
    tensorLayoutNV<2, CLAMP> name##_cut = createTensorLayoutNV(2, CLAMP);                          \
    name##_cut = setTensorLayoutDimensionNV(name##_cut, last_row, last_column);                    \
    name##_cut = setTensorLayoutStrideNV(name##_cut, stride, 1);                                   \
    tensorLayoutNV<2> name##_plain = createTensorLayoutNV(2);                                      \
    name##_plain = setTensorLayoutDimensionNV(name##_plain, last_row, last_column);                \
    name##_plain = setTensorLayoutStrideNV(name##_plain, (stride) & ~7u, 1);
#define SLICE(tensor, row, rows, column, columns)                                                  \
    sliceTensorLayoutNV(tensor, row, rows, column, columns)
#define FETCH(matrix, array, tensor, row, rows, column, columns)                                   \
    coopMatLoadTensorNV(matrix, array, 0, SLICE(tensor, row, rows, column, columns));
#define TURNED createTensorViewNV(2, false, 1, 0)
#define FETCH_TURNED(matrix, array, tensor, row, rows, column, columns)                            \
    coopMatLoadTensorNV(matrix, array, 0, SLICE(tensor, row, rows, column, columns), TURNED);
#define FETCH_BY(matrix, array, tensor, row, rows, column, columns, at)                            \
    coopMatLoadTensorNV(matrix, array, 0, SLICE(tensor, row, rows, column, columns), at);
#define FETCH_TURNED_BY(matrix, array, tensor, row, rows, column, columns, at)                     \
    coopMatLoadTensorNV(matrix, array, 0, SLICE(tensor, row, rows, column, columns), TURNED, at);
#define ADD(sums, type, array, tensor, row, column)                                                \
    {                                                                                              \
        TILE(type) addend;                                                                         \
        FETCH(addend, array, tensor##_cut, row, ROWS, column, COLUMNS)                             \
        sums += SUMS(addend);                                                                      \
    }
#define KEEP(sums, type, array, tensor, row, column)                                               \
    coopMatStoreTensorNV(TILE(type)(sums), array, 0,                                               \
                         SLICE(tensor##_cut, row, ROWS, column, COLUMNS));
// what a tensor's element would be, which nobody reads: where it is, is told beside it
layout(buffer_reference, std430, buffer_reference_align = 2) readonly buffer Element { CALC one; };
#define GATHERED(at, array, index)                                                                 \
    CALC at(const in Element element, const in uint place[2], const in uint in_place[2])           \
    {                                                                                              \
        const uint row = place[0], column = place[1];                                              \
        return array[index];                                                                       \
    }
#else
#define SCOPE gl_ScopeSubgroup
const uint UNROLL = 1;
struct tensor { uint last_row, last_column, stride; bool clamped; };
#define TENSOR(name, last_row, last_column, stride)                                                \
    const tensor name##_cut = tensor(last_row, last_column, stride, true),                         \
                 name##_plain = tensor(last_row, last_column, stride, false);
shared CALC  stage[DEPTH * (ROWS > COLUMNS ? ROWS : COLUMNS)];
shared float stage_float[ROWS * COLUMNS];
#define EACH(row, rows, column, columns)                                                           \
    for (uint e = LANE, in_row = row + e / (columns), in_column = column + e % (columns);          \
         e < (rows) * (columns);                                                                   \
         e += LANES, in_row = row + e / (columns), in_column = column + e % (columns))
bool has(tensor t, uint row, uint column) { return row < t.last_row && column < t.last_column; }
// outside of a plain tensor nothing is right
float outside(tensor t) { return t.clamped ? 0.0 : uintBitsToFloat(0x7fc00000u); }
#define STAGE(panel, type, value, t, row, rows, column, columns)                                   \
    barrier();                                                                                     \
    EACH(row, rows, column, columns)                                                               \
        panel[e] = has(t, in_row, in_column) ? value : type(outside(t));                           \
    barrier();
#define ELEMENT(array, t) array[in_row * t.stride + in_column]
#define FETCH(matrix, array, t, row, rows, column, columns)                                        \
    STAGE(stage, CALC, ELEMENT(array, t), t, row, rows, column, columns)                           \
    coopMatLoad(matrix, stage, 0, columns, gl_CooperativeMatrixLayoutRowMajor);
#define FETCH_TURNED(matrix, array, t, row, rows, column, columns)                                 \
    STAGE(stage, CALC, ELEMENT(array, t), t, row, rows, column, columns)                           \
    coopMatLoad(matrix, stage, 0, columns, gl_CooperativeMatrixLayoutColumnMajor);
#define FETCH_BY(matrix, array, t, row, rows, column, columns, at)                                 \
    STAGE(stage, CALC, at(in_row, in_column), t, row, rows, column, columns)                       \
    coopMatLoad(matrix, stage, 0, columns, gl_CooperativeMatrixLayoutRowMajor);
#define FETCH_TURNED_BY(matrix, array, t, row, rows, column, columns, at)                          \
    STAGE(stage, CALC, at(in_row, in_column), t, row, rows, column, columns)                       \
    coopMatLoad(matrix, stage, 0, columns, gl_CooperativeMatrixLayoutColumnMajor);
#define ADD(sums, type, array, t, row, column)                                                     \
    {                                                                                              \
        SUMS addend;                                                                               \
        STAGE(stage_float, float, float(ELEMENT(array, t##_cut)), t##_cut, row, ROWS, column,      \
              COLUMNS)                                                                             \
        coopMatLoad(addend, stage_float, 0, COLUMNS, gl_CooperativeMatrixLayoutRowMajor);          \
        sums += addend;                                                                            \
    }
#define KEEP(sums, type, array, t, row, column)                                                    \
    barrier();                                                                                     \
    coopMatStore(sums, stage_float, 0, COLUMNS, gl_CooperativeMatrixLayoutRowMajor);               \
    barrier();                                                                                     \
    EACH(row, ROWS, column, COLUMNS)                                                               \
        if (has(t##_cut, in_row, in_column)) ELEMENT(array, t##_cut) = type(stage_float[e]);
#define GATHERED(at, array, index)                                                                 \
    CALC at(uint row, uint column) { return array[index]; }
#endif
