// SPDX-License-Identifier: MIT
// Documents side by side in one sequence, for operations that do not cross from one into the next
// (-DWITHIN): begins[t] is the place in its sequence where the document of token t begins. It never
// falls along a sequence and is never past its own token.
#ifdef WITHIN
#define DOCUMENTS(b)                                                                               \
    layout(set = 0, binding = b, scalar) readonly restrict buffer begins_buffer { uint begins[]; };
#else
#define DOCUMENTS(b)
#endif
