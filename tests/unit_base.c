// SPDX-License-Identifier: MIT
// base.h and dtype.h: arenas, checked sizes, growing bytes, the random generator against
// Random123's known answers, and the 16-bit float types against rounding done in double, for every
// 16-bit value.
#include "tests/unit.h"

#include <cjson/cJSON.h>

#include "src/dtype.h"

static void arena_gives_zeroed_aligned_memory(void **state)
{
    (void)state;
    struct arena *arena = arena_create("test");
    const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 65535, 65536, 65537, 1 << 20, 3};
    uint8_t *before = NULL;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *memory = arena_alloc(arena, sizes[i]);
        assert_int_equal((uintptr_t)memory % 16, 0);
        assert_true(memory != before);
        for (size_t b = 0; b < sizes[i]; b++) assert_int_equal(memory[b], 0);
        memset(memory, 0xff, sizes[i]); // what comes later must be zero all the same
        before = memory;
    }
    assert_true(arena_bytes(arena) >= (1 << 20) + 4 * 65536);
    assert_string_equal(arena_printf(arena, "%s-%d", "layer", 7), "layer-7");
    const char *text = "text", *copy = arena_strdup(arena, text);
    assert_ptr_not_equal(copy, text);
    assert_string_equal(copy, text);
    arena_destroy(&arena);
    assert_null(arena);
    arena_destroy(&arena);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    uint64_t out = 0;
    assert_true(checked_mul(1ull << 32, (1ull << 32) - 1, &out));
    assert_true(out == 0xffffffff00000000u);
    assert_false(checked_mul(1ull << 32, 1ull << 32, &out));
    assert_true(checked_add(UINT64_MAX - 1, 1, &out));
    assert_true(out == UINT64_MAX);
    assert_false(checked_add(UINT64_MAX, 1, &out));
    assert_int_equal(ceil_div(0, 7), 0);
    assert_int_equal(ceil_div(7, 7), 1);
    assert_int_equal(ceil_div(8, 7), 2);
    assert_int_equal(ceil_div(UINT32_MAX, 2), 1u << 31); // a + b - 1 would wrap
    assert_int_equal(align_up(0, 128), 0);
    assert_int_equal(align_up(1, 128), 128);
    assert_int_equal(align_up(128, 128), 128);
}

static void bytes_grow(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    for (int i = 0; i < 1000; i++) bytes_printf(&bytes, "%03d", i);
    assert_int_equal(bytes.count, 3000);
    assert_memory_equal(bytes.data + 2994, "998999", 7); // with the zero behind
    bytes_append(&bytes, "x\0y", 3);
    assert_memory_equal(bytes.data + 3000, "x\0y", 4);
    bytes_append(&bytes, NULL, 0);
    assert_int_equal(bytes.count, 3003);
    bytes_free(&bytes);
    assert_null(bytes.data);
    assert_int_equal(bytes.count, 0);
}

static void bytes_take_json(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    bytes_printf(&bytes, "a: ");
    bytes_json(&bytes, cJSON_CreateString("\"\n\x01\\ \xc3\xa9"));
    bytes_printf(&bytes, ", ");
    bytes_json(&bytes, cJSON_Parse("{\"b\": [1, null]}"));
    assert_string_equal((const char *)bytes.data, // with the zero behind
                        "a: \"\\\"\\n\\u0001\\\\ \xc3\xa9\", {\"b\":[1,null]}");
    assert_int_equal(bytes.count, strlen((const char *)bytes.data));
    bytes_free(&bytes);
}

// Random123's kat_vectors, philox4x32 with 10 rounds; the lower word of a pair comes first.
static void philox_gives_known_answers(void **state)
{
    (void)state;
    static const struct { uint64_t key, low, high; uint32_t word[4]; } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const struct rng_block block = rng_philox(known[i].key, known[i].low, known[i].high);
        assert_memory_equal(block.word, known[i].word, sizeof block.word);
    }
    assert_true(hash_string("") == 0xcbf29ce484222325u); // FNV-1a's own test vectors
    assert_true(hash_string("a") == 0xaf63dc4c8601ec8cu);
    assert_true(hash_string("foobar") == 0x85944171f73967e8u);
}

static void random_numbers_have_their_moments(void **state)
{
    (void)state;
    enum { COUNT = 100000, BOUND = 7 };
    double uniform = 0, normal = 0, square = 0, fourth = 0;
    uint32_t histogram[BOUND] = {0};
    for (uint64_t i = 0; i < COUNT; i++) {
        const double u = rng_uniform(1, 2, i), n = rng_normal(1, 3, i);
        assert_true(u > 0 && u < 1);
        uniform += u;
        normal += n;
        square += n * n;
        fourth += n * n * n * n;
        const uint64_t below = rng_below(1, 4, i, BOUND);
        assert_true(below < BOUND);
        histogram[below]++;
    }
    // five standard errors each
    unit_assert_near(uniform / COUNT, 0.5, 5 * sqrt(1.0 / 12 / COUNT));
    unit_assert_near(normal / COUNT, 0, 5 * sqrt(1.0 / COUNT));
    unit_assert_near(square / COUNT, 1, 5 * sqrt(2.0 / COUNT));
    unit_assert_near(fourth / COUNT, 3, 5 * sqrt(96.0 / COUNT));
    for (int i = 0; i < BOUND; i++)
        unit_assert_near(histogram[i], (double)COUNT / BOUND, 5 * sqrt((double)COUNT / BOUND));
    assert_true(rng_below(1, 4, 5, 1) == 0);
    assert_true(rng_uniform(1, 2, 3) == rng_uniform(1, 2, 3));
    assert_true(rng_uniform(1, 2, 3) != rng_uniform(2, 2, 3));
    assert_true(rng_uniform(1, 2, 3) != rng_uniform(1, 3, 3));
}

// ---- 16-bit floats

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Round to nearest even with `mantissa` stored bits, exponents from `lowest` on (below: subnormal).
static double round_to(double x, int mantissa, int lowest, double overflow)
{
    if (isnan(x) || isinf(x) || x == 0) return x;
    int exponent;
    frexp(x, &exponent);
    exponent = exponent - 1 < lowest ? lowest : exponent - 1;
    const double ulp = ldexp(1, exponent - mantissa), rounded = nearbyint(x / ulp) * ulp;
    return fabs(rounded) >= overflow ? copysign(INFINITY, x) : rounded;
}

static bool same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

struct half {
    const char *name;
    uint16_t  (*from)(float);
    float     (*to)(uint16_t);
    int         mantissa, lowest;
    double      overflow;
};

static const struct half halves[] = {
    {"bf16", dtype_bf16_from_f32, dtype_f32_from_bf16, 7, -126, 0x1p128},
    {"f16", dtype_f16_from_f32, dtype_f32_from_f16, 10, -14, 0x1p16},
};

// Every 16-bit value goes to f32 and back; its value is the one its fields spell.
static void half_floats_survive_a_round_trip(void **state)
{
    (void)state;
    for (size_t h = 0; h < COUNT_OF(halves); h++) {
        const struct half *half = &halves[h];
        const int top = half->lowest == -14 ? 31 : 255;
        for (uint32_t bits = 0; bits < 65536; bits++) {
            const float value = half->to((uint16_t)bits);
            const uint32_t exponent = bits >> half->mantissa & (uint32_t)top;
            const uint32_t fraction = bits & ((1u << half->mantissa) - 1);
            double wanted = exponent ? ldexp(fraction + (1 << half->mantissa), (int)exponent - 1)
                                     : fraction;
            wanted = ldexp(wanted, half->lowest - half->mantissa);
            if (exponent == (uint32_t)top) wanted = fraction ? NAN : INFINITY;
            if (!same(value, bits >> 15 ? -wanted : wanted))
                fail_msg("%s 0x%04x is %a, wanted %a", half->name, bits, value, wanted);
            const uint16_t back = half->from(value);
            if (isnan(value) ? !isnan(half->to(back)) : back != bits)
                fail_msg("%s 0x%04x comes back as 0x%04x", half->name, bits, back);
        }
    }
}

// Every upper half of an f32 with lower halves around every place where rounding turns.
static void half_floats_round_to_nearest_even(void **state)
{
    (void)state;
    static const uint32_t edge[] = {0, 1, 0xfff, 0x1000, 0x1001, 0x1fff};
    for (size_t h = 0; h < COUNT_OF(halves); h++)
        for (uint32_t high = 0; high < 65536; high++)
            for (uint32_t low = 0; low < 8 * COUNT_OF(edge); low++) {
                const uint32_t upper = high << 16 | (uint32_t)(low / COUNT_OF(edge)) << 13;
                const uint32_t bits = upper | edge[low % COUNT_OF(edge)];
                const float value = float_of(bits);
                const double got = halves[h].to(halves[h].from(value));
                const double wanted =
                    round_to(value, halves[h].mantissa, halves[h].lowest, halves[h].overflow);
                if (!same(got, wanted))
                    fail_msg("%s of 0x%08x is %a, wanted %a", halves[h].name, bits, got, wanted);
            }
}

static void dtypes_have_names_and_sizes(void **state)
{
    (void)state;
    static const size_t bytes[DTYPE_COUNT] = {4, 2, 2, 4, 2, 1, 8};
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_int_equal(dtype_bytes((enum dtype)i), bytes[i]);
        assert_int_equal(dtype_from_name(dtype_name((enum dtype)i)), i);
        assert_int_equal(dtype_from_name(dtype_safetensors((enum dtype)i)), i);
    }
    assert_int_equal(dtype_from_name("bfloat16"), DTYPE_BF16);
    assert_int_equal(dtype_from_name("float64"), -1);
    assert_int_equal(dtype_from_name(""), -1);
}

static void dtype_arrays_store_and_load(void **state)
{
    (void)state;
    static const double values[] = {0, -1, 1.0 / 3, 65504, 1e-7, -2.5};
    for (int d = DTYPE_F32; d <= DTYPE_F16; d++) {
        float array[COUNT_OF(values)];
        for (size_t i = 0; i < COUNT_OF(values); i++)
            dtype_store(array, i, (enum dtype)d, values[i]);
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            const double wanted = d == DTYPE_F32 ? (double)(float)values[i]
                : d == DTYPE_BF16 ? dtype_f32_from_bf16(dtype_bf16_from_f32((float)values[i]))
                                  : dtype_f32_from_f16(dtype_f16_from_f32((float)values[i]));
            assert_true(dtype_load(array, i, (enum dtype)d) == wanted);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_gives_zeroed_aligned_memory),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(bytes_grow),
        cmocka_unit_test(bytes_take_json),
        cmocka_unit_test(philox_gives_known_answers),
        cmocka_unit_test(random_numbers_have_their_moments),
        cmocka_unit_test(half_floats_survive_a_round_trip),
        cmocka_unit_test(half_floats_round_to_nearest_even),
        cmocka_unit_test(dtypes_have_names_and_sizes),
        cmocka_unit_test(dtype_arrays_store_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
