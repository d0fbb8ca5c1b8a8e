// SPDX-License-Identifier: MIT
// Push words of the attention family, the keys of a pass, and numbers that all of it uses.
const float LOG2E = 1.44269504088896;
const float LN2 = 0.693147180559945;
const float NEVER = -3.0e38;                      // below every score; finite: no inf - inf

layout(push_constant, scalar) uniform push_words {
    uint  batch, seq, stride, heads, kv_heads, head_dim, window;
    float scale;
    uint  first, count, parts; // first, count: keys (or queries) of this pass; count 0: all
    uint  bidirectional;       // every query sees every key
};
uint pass_end(uint end) { return count == 0 ? end : min(end, first + count); }
uint window_begin(uint end) { return window != 0 && end > window ? end - window : 0; }

// The first key that query i sees, where it sees none from `end` on. DOCUMENTS_OF(b): b is the
// sequence that i counts in.
#include "within.glsl"
#ifdef WITHIN
uint begins_at;
#define DOCUMENTS_OF(b)    begins_at = b * seq;
#define KEYS_BEGIN(i, end) max(window_begin(end), begins[begins_at + (i)])
#else
#define DOCUMENTS_OF(b)
#define KEYS_BEGIN(i, end) window_begin(end)
#endif
