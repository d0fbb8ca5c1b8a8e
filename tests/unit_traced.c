// SPDX-License-Identifier: MIT
// What a run tells in routing.trace, residency.trace and plan.json: what the library's routers say
// of the same tokens, where experts were, and plans whose steps add up.
#include "tests/unit.h"

#include <cjson/cJSON.h>

#include "src/data.h"
#include "src/evaluator.h"
#include "src/trace_format.h"
#include "src/vkmoe_internal.h"
#include "src/weights.h"

// ---- what was routed

enum { STEPS = 5, SAVED = 4, BATCH = 3, SEQ = 16, MICRO = 2, EXPERTS = 6, TOP_K = 2, LAYERS = 3 };

static const char *const data[] = {"toy:copy,toy:sum"};

// slots: of the experts; 0: all stay.
static void train(const char *device, const char *out, const char *const *set, uint32_t set_count,
                  uint32_t steps, uint32_t slots)
{
    struct vkmoe_train_outcome outcome;
    assert_true(vkmoe_train(
        &(struct vkmoe_train_params){.device = {.device = device, .untuned = true},
                                     .expert_slots = slots,
                                     .config = UNIT_SOURCE_ROOT "/assets/tiny.json",
                                     .set = set, .set_count = set_count, .steps = steps,
                                     .data = data, .data_count = COUNT_OF(data), .out = out,
                                     .quiet = true},
        &outcome));
    assert_int_equal(outcome.steps, steps);
}

struct run { const char *out, *device; struct vkmoe_model *model; struct data *data; };

static void train_run_of(struct run *run)
{
    static const char *const set[] = {
        "hidden_size=32", "intermediate_size=16", "num_hidden_layers=3", "num_local_experts=6",
        "seq_len=16", "batch_size=3", "gradient_accumulation_steps=2", "save_every=4",
        "save_total_limit=9", "trace_tokens=40", "learning_rate=0.01", "warmup_steps=1",
        "final_eval_batches=1"};
    train(run->device, run->out, set, COUNT_OF(set), STEPS, 0);
}

// The weights that the last step was computed with, and its data.
static void open_run(struct run *run, struct vkmoe_device *device)
{
    char path[4200];
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
    const char *out = unit_path("streamed");
    uint32_t on_device[FEW_STEPS] = {0};
    char path[4200];
    train("ref", out, set, COUNT_OF(set), FEW_STEPS, SLOTS);
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
        UNIT(the_trace_is_what_the_routers_say),
        UNIT(experts_that_come_and_go_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
