// SPDX-License-Identifier: MIT
// routing.trace and residency.trace: written, resumed, bounded, read while they grow and at random
// places, damaged. What they tell of a run: unit_traced.c.
#include "tests/unit.h"

#include "src/trace_format.h"

static struct config make_config(uint32_t experts, uint32_t top_k)
{
    struct config c = {.num_experts = experts, .num_hidden_layers = 3, .batch_size = 2,
                       .seq_len = 16, .gradient_accumulation_steps = 1, .steps = 100,
                       .trace_mib = 1, .trace_tokens = 3};
    c.moe_layer[1] = c.moe_layer[2] = true;
    c.layer_router[1].top_k = c.layer_router[2].top_k = top_k;
    return c;
}

static const uint32_t trace_ids_of[] = {65, 70000, 0}, trace_picks_of[] = {0, 299, 300, 1, 2, 3},
                      trace_domains_of[] = {1, 3, 2}; // 3: there is none
static const float trace_gates_of[] = {0.75f, 0.25f, NAN, 0.001f, -1, 0.5f};

static const char *const names[] = {"c", "glsl", ""};

static struct trace_writer *create_trace(const char *path, const struct config *config,
                                         uint32_t last_step)
{
    return trace_create(&(struct trace_params){.path = path, .config = config, .domain = names,
                                               .domains = 3, .last_step = last_step});
}

static void write_step(struct trace_writer *w, uint32_t step, const uint32_t *ids,
                       const uint32_t *domains, const uint32_t *picks, const float *counts,
                       const float *gates)
{
    trace_ids(w, step, ids);
    trace_domains(w, step, domains);
    for (uint32_t i = 0; i < 2; i++) {
        trace_counts(w, step, i, counts);
        trace_picks(w, step, i, picks);
        trace_gates(w, step, i, gates);
    }
}

static void damage(const char *path, uint64_t at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    fputc('!', file);
    fclose(file);
}

static void write_steps(struct trace_writer *w, uint32_t first, uint32_t last)
{
    static const float counts[300] = {[1] = 3, [2] = 200, [298] = 1};
    for (uint32_t step = first; step <= last; step++) {
        assert_true(trace_wants(w, step));
        write_step(w, step, trace_ids_of, trace_domains_of, trace_picks_of, counts,
                   trace_gates_of);
        assert_true(trace_flush(w));
    }
}

static void assert_step(struct trace_reader *reader, uint32_t step)
{
    struct trace_record record;
    assert_true(trace_next(reader, &record));
    assert_true(record.step == step && record.kind == TRACE_IDS && record.count == 3);
    assert_memory_equal(record.value, trace_ids_of, sizeof trace_ids_of);
    assert_true(trace_next(reader, &record));
    assert_true(record.step == step && record.kind == TRACE_DOMAINS && record.count == 3);
    assert_true(record.value[0] == 1 && record.value[1] == TRACE_NO_DOMAIN && record.value[2] == 2);
    for (uint16_t i = 0; i < 2; i++) {
        assert_true(trace_next(reader, &record));
        assert_true(record.kind == TRACE_COUNTS && record.layer == i + 1 && record.count == 300);
        uint32_t sum = 0;
        for (uint32_t e = 0; e < 300; e++) sum += record.value[e];
        assert_true(sum == 204 && record.value[1] == 3 && record.value[2] == 200 &&
                    record.value[298] == 1);
        assert_true(trace_next(reader, &record));
        assert_true(record.kind == TRACE_PICKS && record.count == 6 && record.step == step);
        for (int n = 0; n < 6; n++)
            assert_true(record.value[n] == (n == 2 ? TRACE_NO_PICK : trace_picks_of[n]));
        assert_true(trace_next(reader, &record));
        assert_true(record.kind == TRACE_GATES && record.count == 6 && record.layer == i + 1);
        for (int n = 0; n < 6; n++) // half a level of 255, of the largest
            unit_assert_near(record.gate[n], n == 2 || n == 4 ? 0 : trace_gates_of[n], 0.0015);
    }
}

static void a_trace_is_read_while_it_grows(void **state)
{
    (void)state;
    const struct config c = make_config(300, 2);
    const char *path = unit_path("routing.trace");
    struct trace_writer *w = create_trace(path, &c, 0);
    assert_non_null(w);
    struct trace_reader *reader = trace_open(path);
    assert_non_null(reader);
    struct trace_record record;
    assert_false(trace_next(reader, &record));
    const struct trace_shape *shape = trace_shape(reader);
    assert_true(shape->experts == 300 && shape->layers == 2 && shape->layer[1].number == 2);
    assert_true(shape->step_tokens == 32 && shape->trace_tokens == 3 && shape->seq_len == 16);
    assert_true(shape->version == 2 && shape->domains == 3);
    for (int d = 0; d < 3; d++) assert_string_equal(shape->domain[d], names[d]);
    write_steps(w, 1, 2);
    assert_step(reader, 1);
    assert_step(reader, 2);
    assert_false(trace_next(reader, &record));
    write_steps(w, 3, 3);
    assert_step(reader, 3);
    trace_close(&w);
    trace_finish(&reader);
    unit_assert_silent();
}

static void a_resumed_trace_has_the_same_bytes(void **state)
{
    (void)state;
    const struct config c = make_config(300, 2), other = make_config(301, 2);
    const char *path = unit_path("routing.trace");
    size_t whole, bytes;
    struct trace_writer *w = create_trace(path, &c, 0);
    write_steps(w, 1, 4);
    trace_close(&w);
    char *straight = unit_read(path, &whole);
    for (size_t cut = 0; cut < 3; cut++) { // whole, torn, damaged
        if (cut == 1) assert_int_equal(truncate(path, (off_t)whole - 5), 0);
        if (cut == 2) damage(path, whole * 7 / 8);
        w = create_trace(path, &c, 2);
        write_steps(w, 3, 4);
        trace_close(&w);
        char *text = unit_read(path, &bytes);
        assert_int_equal(bytes, whole);
        assert_memory_equal(text, straight, whole);
        free(text);
    }
    w = create_trace(path, &other, 2); // another model: begun anew
    trace_close(&w);
    struct trace_record record;
    struct trace_reader *reader = trace_open(path);
    assert_int_equal(trace_shape(reader)->experts, 301);
    assert_false(trace_next(reader, &record));
    trace_finish(&reader);
    free(straight);
    unit_assert_silent();
}

// Twenty thousand experts of which a step uses a few, for a million steps; `tokens` traced ones.
static uint32_t trace_long_run(const char *path, uint32_t tokens, uint32_t *token_steps)
{
    struct config c = make_config(20480, 2);
    c.steps = 300000;
    c.trace_tokens = tokens;
    struct trace_writer *w = create_trace(path, &c, 0);
    uint32_t traced = 0, picks[64];
    float *counts = calloc(20480, sizeof *counts), gates[64];
    for (uint32_t step = 1; step <= c.steps; step++) {
        assert_true(!trace_wants_tokens(w, step) || trace_wants(w, step));
        if (!trace_wants(w, step)) continue;
        traced++;
        *token_steps += trace_wants_tokens(w, step);
        memset(counts, 0, 20480 * sizeof *counts);
        for (uint32_t i = 0; i < 64; i++) counts[rng_below(1, step, i, 20480)]++;
        for (uint32_t i = 0; i < 64; i++) picks[i] = (uint32_t)rng_below(2, step, i, 20480);
        for (uint32_t i = 0; i < 64; i++) gates[i] = (float)rng_uniform(3, step, i);
        write_step(w, step, picks, picks, picks, counts, gates);
        if (!trace_flush(w)) break;
    }
    trace_close(&w);
    free(counts);
    return traced;
}

static void a_trace_is_bounded(void **state)
{
    (void)state;
    const char *path = unit_path("routing.trace");
    struct stat info;
    for (uint32_t tokens = 0; tokens <= 32; tokens += tokens ? 29 : 3) {
        uint32_t token_steps = 0;
        const uint32_t traced = trace_long_run(path, tokens, &token_steps);
        assert_int_equal(stat(path, &info), 0);
        assert_true(info.st_size <= 1 << 20 && info.st_size > 1 << 18);
        assert_true(traced > 500 && token_steps <= traced && (token_steps > 500) == (tokens > 0));
        unit_assert_silent(); // the interval was enough: it did not end early
    }
}

// ---- version 1

static void put_record(FILE *file, uint32_t step, uint16_t layer, uint8_t kind,
                       const uint8_t *payload, uint32_t bytes)
{
    struct trace_head head = {.bytes = bytes, .step = step, .layer = layer, .kind = kind};
    head.check = trace_check(&head, payload);
    fwrite(&head, sizeof head, 1, file);
    fwrite(payload, 1, bytes, file);
}

static void version_1_opens(void **state)
{
    (void)state;
    const char *path = unit_path("old.trace");
    const uint32_t words[] = {1, 44, 4, 1, 8, 2, 4, 0};
    const struct trace_layer layer = {3, 1};
    FILE *file = fopen(path, "wb");
    fwrite(trace_magic, 1, 8, file);
    fwrite(words, 1, sizeof words, file);
    fwrite(&layer, 1, sizeof layer, file);
    put_record(file, 7, TRACE_NO_LAYER, TRACE_IDS, (const uint8_t[]){65, 0x81, 1}, 3);
    put_record(file, 7, 3, TRACE_COUNTS, (const uint8_t[]){8, 0, 2}, 3);
    put_record(file, 7, 3, TRACE_PICKS, (const uint8_t[]){1, 0}, 2);
    fclose(file);
    struct trace_reader *r = trace_open(path);
    const struct trace_step *steps;
    struct trace_record record;
    assert_non_null(r);
    assert_true(trace_shape(r)->version == 1 && trace_shape(r)->domains == 0);
    assert_true(trace_index(r, &steps) == 1 && steps[0].step == 7);
    assert_true(trace_find(r, 0, 3, TRACE_COUNTS, &record) && record.value[0] == 8);
    assert_true(trace_next(r, &record) && record.kind == TRACE_IDS && record.value[1] == 129);
    assert_true(trace_find(r, 0, 3, TRACE_PICKS, &record) && record.value[0] == 0 &&
                record.value[1] == TRACE_NO_PICK);
    assert_false(trace_find(r, 0, 3, TRACE_GATES, &record));
    trace_finish(&r);
    unit_assert_silent();
}

// ---- the index

static uint64_t size_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return (uint64_t)info.st_size;
}

static void any_step_is_found(void **state)
{
    (void)state;
    const struct config c = make_config(300, 2);
    const char *path = unit_path("routing.trace");
    struct trace_writer *w = create_trace(path, &c, 0);
    struct trace_reader *r = trace_open(path);
    const struct trace_step *steps;
    struct trace_record record;
    assert_int_equal(trace_index(r, &steps), 0);
    write_steps(w, 1, 50);
    assert_int_equal(trace_index(r, &steps), 50);
    for (uint32_t i = 50; i-- > 0; i -= i % 3) {
        assert_int_equal(steps[i].step, i + 1);
        assert_true(trace_find(r, i, 2, TRACE_COUNTS, &record) && record.step == i + 1 &&
                    record.value[2] == 200);
        assert_true(trace_find(r, i, TRACE_NO_LAYER, TRACE_IDS, &record) && record.value[0] == 65);
        assert_false(trace_find(r, i, 0, TRACE_COUNTS, &record)); // a dense layer
    }
    trace_seek(r, 30);
    assert_step(r, 31);
    assert_step(r, 32);
    write_steps(w, 51, 51);
    assert_int_equal(trace_index(r, &steps), 51);
    assert_true(trace_find(r, 50, 1, TRACE_PICKS, &record) && record.step == 51);
    assert_false(trace_find(r, 51, 1, TRACE_PICKS, &record));
    trace_close(&w);
    // a torn end is not there yet
    const uint64_t whole = size_of(path);
    assert_int_equal(truncate(path, (off_t)whole - 3), 0);
    struct trace_reader *torn = trace_open(path);
    assert_int_equal(trace_index(torn, &steps), 51);
    assert_true(trace_find(torn, 50, 2, TRACE_COUNTS, &record));
    assert_false(trace_find(torn, 50, 2, TRACE_GATES, &record));
    // nor is one whose check is wrong
    damage(path, steps[20].at + 16);
    assert_false(trace_find(torn, 20, TRACE_NO_LAYER, TRACE_IDS, &record) &&
                 trace_find(torn, 22, 1, TRACE_IDS, &record));
    assert_true(trace_find(torn, 21, TRACE_NO_LAYER, TRACE_IDS, &record));
    // another run in its place
    assert_false(trace_replaced(torn));
    assert_true(trace_replaced(r)); // cut behind its back
    w = create_trace(path, &c, 0);
    assert_true(trace_replaced(torn));
    trace_close(&w);
    trace_finish(&torn);
    trace_finish(&r);
    unit_assert_silent();
}

// ---- residency

static void residency_comes_back(void **state)
{
    (void)state;
    const struct config c = make_config(20480, 2);
    const char *path = unit_path("residency.trace");
    struct trace_writer *w = trace_create(&(struct trace_params){
        .path = path, .config = &c, .residency = true});
    uint8_t *place = malloc(20480);
    const struct trace_stream stream = {1, 0, 1ull << 40, UINT64_MAX, 300, 5, 7};
    for (uint32_t step = 1; step <= 3; step++) {
        assert_false(trace_wants_tokens(w, step) && trace_tokens(w) == 0);
        for (uint32_t e = 0; e < 20480; e++) // runs of all lengths; all alike
            place[e] = (uint8_t)(step == 2 ? TRACE_NEVER
                                           : rng_below(step, 1, e < 999 ? e : e >> 6,
                                                       TRACE_PLACES));
        trace_stream(w, step, &stream);
        trace_residency(w, step, 1, place);
        assert_true(trace_flush(w));
    }
    trace_close(&w);
    struct trace_reader *r = trace_open(path);
    const struct trace_step *steps;
    struct trace_record record;
    assert_int_equal(trace_index(r, &steps), 3);
    assert_true(steps[1].bytes < 100);
    assert_true(trace_find(r, 2, 2, TRACE_RESIDENCY, &record) && record.count == 20480);
    for (uint32_t e = 0; e < 20480; e++) assert_int_equal(record.value[e], place[e]);
    assert_true(trace_find(r, 0, TRACE_NO_LAYER, TRACE_STREAM, &record));
    assert_memory_equal(&record.stream, &stream, sizeof stream);
    trace_finish(&r);
    free(place);
    unit_assert_silent();
}

static void wrong_traces_are_named(void **state)
{
    (void)state;
    assert_null(trace_open(unit_path("none")));
    unit_assert_line("none", "No such file");
    assert_null(trace_open(unit_write_text("short", "vkmoetrc")));
    unit_assert_line("short", "not a routing trace");
    char text[80] = "vkmoetrc\3";
    assert_null(trace_open(unit_write("three", text, sizeof text)));
    unit_assert_line("three", "version");
    text[8] = 1, text[12] = 17;
    assert_null(trace_open(unit_write("damaged", text, sizeof text)));
    unit_assert_line("damaged", "header");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_trace_is_read_while_it_grows),
        UNIT(a_resumed_trace_has_the_same_bytes),
        UNIT(a_trace_is_bounded),
        UNIT(version_1_opens),
        UNIT(any_step_is_found),
        UNIT(residency_comes_back),
        UNIT(wrong_traces_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
