// SPDX-License-Identifier: MIT
// routing.trace and residency.trace: written, resumed, bounded, read while they grow and at random
// places, damaged; and that what they tell is what the library's routers say of the same tokens.
#include "tests/unit.h"

#include <cjson/cJSON.h>

#include "src/data.h"
#include "src/evaluator.h"
#include "src/trace_format.h"
#include "src/vkmoe_internal.h"
#include "src/weights.h"

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

static void write_steps(struct trace_writer *w, uint32_t first, uint32_t last)
{
    static const float counts[300] = {[1] = 3, [2] = 200, [298] = 1};
    for (uint32_t step = first; step <= last; step++) {
        assert_true(trace_wants(w, step));
        trace_ids(w, step, trace_ids_of);
        trace_domains(w, step, trace_domains_of);
        for (uint32_t i = 0; i < 2; i++) {
            trace_counts(w, step, i, counts);
            trace_picks(w, step, i, trace_picks_of);
            trace_gates(w, step, i, trace_gates_of);
        }
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
        if (cut == 2) {
            FILE *file = fopen(path, "r+b");
            fseek(file, (long)whole * 7 / 8, SEEK_SET);
            fputc('!', file);
            fclose(file);
        }
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
        trace_ids(w, step, picks);
        trace_domains(w, step, picks);
        for (uint32_t i = 0; i < 2; i++) {
            trace_counts(w, step, i, counts);
            trace_picks(w, step, i, picks);
            trace_gates(w, step, i, gates);
        }
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
    FILE *file = fopen(path, "r+b");
    fseek(file, (long)steps[20].at + 16, SEEK_SET);
    fputc('!', file);
    fclose(file);
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

// ---- what is told is what was routed

enum { STEPS = 5, SAVED = 4, BATCH = 3, SEQ = 16, MICRO = 2, EXPERTS = 6, TOP_K = 2, LAYERS = 3 };

struct run { const char *out, *device; struct vkmoe_model *model; struct data *data; };

static void train_run_of(struct run *run)
{
    static const char *const set[] = {
        "hidden_size=32", "intermediate_size=16", "num_hidden_layers=3", "num_local_experts=6",
        "seq_len=16", "batch_size=3", "gradient_accumulation_steps=2", "save_every=4",
        "save_total_limit=9", "trace_tokens=40", "learning_rate=0.01", "warmup_steps=1",
        "final_eval_batches=1"};
    const char *const data[] = {"toy:copy,toy:sum"};
    struct vkmoe_train_outcome outcome;
    assert_true(vkmoe_train(
        &(struct vkmoe_train_params){.device = {.device = run->device, .untuned = true},
                                     .config = UNIT_SOURCE_ROOT "/assets/tiny.json",
                                     .set = set, .set_count = COUNT_OF(set), .steps = STEPS,
                                     .data = data, .data_count = 1, .out = run->out,
                                     .quiet = true},
        &outcome));
    assert_int_equal(outcome.steps, STEPS);
}

// The weights that the last step was computed with, and its data.
static void open_run(struct run *run, struct vkmoe_device *device)
{
    char path[4200];
    static const char *const data[] = {"toy:copy,toy:sum"};
    run->model = vkmoe_model_open(device, run->out);
    assert_non_null(run->model);
    snprintf(path, sizeof path, "%s/checkpoint-%08d/model.safetensors", run->out, SAVED);
    struct params_values master = {run->model->params, PARAMS_MASTER};
    assert_true(weights_load(run->model->model, path, params_put, &master));
    run->data = data_open(&(struct data_params){
        .path = data, .path_count = 1, .tokenizer = run->model->tokenizer,
        .vocab_size = run->model->model->config.vocab_size, .seq_len = SEQ,
        .held_out_fraction = run->model->model->config.held_out_fraction,
        .seed = run->model->model->config.seed});
    assert_non_null(run->data);
}

// What the routers say of the last step's tokens, from the library.
struct routed {
    uint32_t ids[MICRO * BATCH * SEQ], domains[MICRO * BATCH * SEQ];
    uint32_t picks[LAYERS][MICRO * BATCH * SEQ * TOP_K];
    float    gates[LAYERS][MICRO * BATCH * SEQ * TOP_K];
};

static void route(struct run *run, struct vkmoe_device *device, struct routed *out)
{
    struct evaluator *e = evaluator_create_picks(device->gpu, device->kernels, run->model->params,
                                                 BATCH, SEQ);
    uint32_t targets[BATCH * SEQ];
    const uint64_t first = (STEPS - 1) * MICRO * BATCH;
    assert_non_null(e);
    for (uint32_t m = 0; m < MICRO; m++) {
        uint32_t *ids = out->ids + m * BATCH * SEQ;
        double loss;
        uint64_t count;
        for (uint32_t b = 0; b < BATCH; b++) {
            const uint64_t at = first + m * BATCH + b;
            data_window(run->data, DATA_TRAIN, at, ids + b * SEQ, targets + b * SEQ);
            data_window_domains(run->data, DATA_TRAIN,
                                data_window_index(run->data, DATA_TRAIN, at),
                                out->domains + (m * BATCH + b) * SEQ, NULL);
        }
        assert_true(evaluator_batch(e, &(struct batch){ids, targets}, &loss, &count));
        for (uint32_t l = 0; l < LAYERS; l++)
            assert_true(evaluator_picks(e, l, out->picks[l] + m * BATCH * SEQ * TOP_K,
                                        out->gates[l] + m * BATCH * SEQ * TOP_K));
    }
    evaluator_destroy(&e);
}

static void assert_layer(struct trace_reader *r, uint32_t index, uint16_t layer,
                         const struct routed *routed)
{
    struct trace_record record;
    uint32_t load[EXPERTS] = {0};
    const uint32_t tokens = trace_shape(r)->trace_tokens;
    const uint32_t *picks = routed->picks[layer];
    for (uint32_t i = 0; i < MICRO * BATCH * SEQ * TOP_K; i++) load[picks[i]]++;
    assert_true(trace_find(r, index, layer, TRACE_COUNTS, &record));
    assert_memory_equal(record.value, load, sizeof load);
    assert_true(trace_find(r, index, layer, TRACE_PICKS, &record));
    assert_memory_equal(record.value, picks, tokens * TOP_K * sizeof *picks);
    assert_true(trace_find(r, index, layer, TRACE_GATES, &record));
    for (uint32_t i = 0; i < tokens * TOP_K; i++)
        unit_assert_near(record.gate[i], routed->gates[layer][i], 0.5 / 255 + 1e-5);
}

static double number(const cJSON *json, const char *key)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItem(json, key));
}

// Steps one behind the other, that together take as long as the plan; a known layer's matmul has
// its cost.
static void assert_plan(const cJSON *plan)
{
    const cJSON *step;
    double end = 0, flop = 0;
    cJSON_ArrayForEach(step, cJSON_GetObjectItem(plan, "steps")) {
        unit_assert_near(number(step, "start"), end, 1e-6);
        assert_true(number(step, "ms") >= 0 && number(step, "bytes") > 0);
        end += number(step, "ms");
        flop += number(step, "flop");
        const cJSON *layer = cJSON_GetObjectItem(step, "layer");
        const char *section = cJSON_GetStringValue(cJSON_GetObjectItem(step, "section"));
        assert_true(cJSON_IsNull(layer) ? strncmp(section, "layer", 5) != 0
                                        : layer->valuedouble == atof(section + 6));
    }
    unit_assert_near(number(plan, "ms"), end, 1e-6);
    assert_true(flop > 0 || strcmp(cJSON_GetObjectItem(plan, "name")->valuestring, "zero") == 0);
}

// plan.json, where the device has timestamps.
static void assert_plans(const char *folder)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/plan.json", folder);
    if (access(path, F_OK) != 0) return;
    char *text = unit_read(path, NULL);
    cJSON *json = cJSON_Parse(text);
    const cJSON *plan, *plans = cJSON_GetObjectItem(json, "plans");
    static const char *const order[] = {"zero", "train", "update"};
    int at = 0;
    assert_int_equal(cJSON_GetArraySize(plans), 3);
    cJSON_ArrayForEach(plan, plans) {
        assert_string_equal(cJSON_GetObjectItem(plan, "name")->valuestring, order[at]);
        assert_true(number(plan, "times") == (at++ == 1 ? MICRO : 1));
        assert_plan(plan);
    }
    assert_true(number(json, "tokens") == MICRO * BATCH * SEQ);
    assert_true(number(cJSON_GetObjectItem(json, "peaks"), "copy_gbps") > 0 &&
                number(cJSON_GetObjectItem(json, "peaks"), "fma_gflops") > 0);
    cJSON_Delete(json);
    free(text);
}

static void told_is_what_was_routed(const char *device_name, const char *folder)
{
    struct run run = {.out = unit_path(folder), .device = device_name};
    static struct routed routed;
    char path[4200];
    const struct trace_step *steps;
    struct trace_record record;
    train_run_of(&run);
    struct vkmoe_device *device = vkmoe_device_open(
        &(struct vkmoe_device_params){.device = device_name, .untuned = true});
    assert_non_null(device);
    open_run(&run, device);
    route(&run, device, &routed);
    snprintf(path, sizeof path, "%s/routing.trace", run.out);
    struct trace_reader *r = trace_open(path);
    assert_int_equal(trace_index(r, &steps), STEPS);
    const uint32_t last = STEPS - 1, tokens = trace_shape(r)->trace_tokens;
    assert_int_equal(tokens, 40);
    assert_int_equal(trace_shape(r)->domains, 2);
    assert_string_equal(trace_shape(r)->domain[0], data_domain_name(run.data, 0));
    assert_true(trace_find(r, last, TRACE_NO_LAYER, TRACE_IDS, &record));
    assert_memory_equal(record.value, routed.ids, tokens * sizeof(uint32_t));
    assert_true(trace_find(r, last, TRACE_NO_LAYER, TRACE_DOMAINS, &record));
    for (uint32_t t = 0; t < tokens; t++)
        assert_int_equal(record.value[t],
                         routed.domains[t] < 2 ? routed.domains[t] : TRACE_NO_DOMAIN);
    for (uint16_t l = 0; l < LAYERS; l++) assert_layer(r, last, l, &routed);
    assert_plans(run.out);
    trace_finish(&r);
    data_close(&run.data);
    vkmoe_model_close(&run.model);
    vkmoe_device_close(&device);
    unit_assert_silent();
}

static void the_trace_is_what_the_routers_say(void **state)
{
    (void)state;
    told_is_what_was_routed("ref", "ref");
    told_is_what_was_routed(NULL, "device");
}

// ---- where experts are

// After a step is told, the next may have been submitted: who was picked up to a step has been
// somewhere, and who was not picked by the next one either nowhere.
static void assert_places(struct trace_reader *routing, struct trace_reader *residency,
                          uint32_t steps, uint16_t layer, uint32_t experts, uint32_t *on_device)
{
    uint32_t *now = calloc(experts, 4), *next = calloc(experts, 4);
    struct trace_record record;
    for (uint32_t at = 0; at < steps; at++) {
        memcpy(now, next, experts * sizeof *now);
        for (uint32_t i = at ? at + 1 : 0; i <= at + 1 && i < steps; i++) {
            assert_true(trace_find(routing, i, layer, TRACE_COUNTS, &record));
            for (uint32_t e = 0; e < experts; e++) next[e] += record.value[e];
            for (uint32_t e = 0; e < experts && i == 0; e++) now[e] += record.value[e];
        }
        assert_true(trace_find(residency, at, layer, TRACE_RESIDENCY, &record));
        for (uint32_t e = 0; e < experts; e++) {
            assert_true(now[e] == 0 || record.value[e] != TRACE_NEVER);
            assert_true(next[e] > 0 || record.value[e] == TRACE_NEVER);
            on_device[at] += record.value[e] >= TRACE_DEVICE;
        }
    }
    free(now), free(next);
}

static void experts_that_come_and_go_are_told(void **state)
{
    (void)state;
    enum { MANY = 16, SLOTS = 20, FEW_STEPS = 6 };
    static const char *const set[] = {
        "hidden_size=32", "intermediate_size=16", "num_hidden_layers=3", "num_local_experts=16",
        "seq_len=2", "batch_size=1", "learning_rate=0.01", "warmup_steps=1",
        "final_eval_batches=1"};
    const char *const data[] = {"toy:copy,toy:sum"}, *out = unit_path("streamed");
    struct vkmoe_train_outcome outcome;
    uint32_t on_device[FEW_STEPS] = {0};
    char path[4200];
    assert_true(vkmoe_train(
        &(struct vkmoe_train_params){.device = {.device = "ref", .untuned = true},
                                     .expert_slots = SLOTS,
                                     .config = UNIT_SOURCE_ROOT "/assets/tiny.json",
                                     .set = set, .set_count = COUNT_OF(set), .steps = FEW_STEPS,
                                     .data = data, .data_count = 1, .out = out, .quiet = true},
        &outcome));
    snprintf(path, sizeof path, "%s/routing.trace", out);
    struct trace_reader *routing = trace_open(path);
    snprintf(path, sizeof path, "%s/residency.trace", out);
    struct trace_reader *residency = trace_open(path);
    const struct trace_step *steps;
    struct trace_record record;
    uint64_t uses = 0, bytes = 0;
    assert_int_equal(trace_index(routing, &steps), FEW_STEPS);
    assert_int_equal(trace_index(residency, &steps), FEW_STEPS);
    for (uint16_t l = 0; l < 3; l++)
        assert_places(routing, residency, FEW_STEPS, l, MANY, on_device);
    for (uint32_t i = 0; i < FEW_STEPS; i++) {
        assert_true(on_device[i] > 0 && on_device[i] <= SLOTS);
        assert_true(trace_find(residency, i, TRACE_NO_LAYER, TRACE_STREAM, &record));
        uses += record.stream.hits + record.stream.misses;
        bytes += record.stream.bytes;
    }
    assert_true(uses >= 3 * FEW_STEPS && bytes > 0); // each layer of each step asks for some
    trace_finish(&routing);
    trace_finish(&residency);
    unit_assert_silent();
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
        UNIT(the_trace_is_what_the_routers_say),
        UNIT(experts_that_come_and_go_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
