// SPDX-License-Identifier: MIT
// Where device memory goes: a trainer's buffers are its weights by class, its arenas and its
// inputs, byte for byte; the printed table adds up to what the driver was asked for; an arena is
// hardly more than what lives at its fullest step; and h64lm trains within its budget.
#include "tests/unit.h"

#include "src/session.h"
#include "src/trainer.h"

enum { SLOTS = 2 }; // batches under way, as in src/trainer.c

static uint64_t class_bytes(const struct model *model, enum dtype store)
{
    uint64_t elements = 0;
    for (uint32_t s = 0; s < model->segment_count; s++) elements += model->segment_elements[s];
    return elements * (4 * 4 + (store == DTYPE_F32 ? 0 : dtype_bytes(store)));
}

static uint64_t io_bytes(const struct config *c)
{
    struct batch_layout layout = batch_layout(c, c->batch_size * c->seq_len, c->seq_len);
    batch_layout_picks(&layout, c, batch_pick_tokens(c), c->trace_tokens > 0);
    const uint64_t micro = c->gradient_accumulation_steps;
    return layout.input_bytes * (1 + SLOTS * micro) +
           layout.result_bytes * (1 + SLOTS * (micro + 1)) + 4ull * c->seq_len * c->head_dim;
}

// ---- a small trainer, really allocated

static void assert_table(const struct gpu *gpu)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    gpu_memory_print(gpu, out);
    fclose(out);
    unsigned long long sum = 0, total = 0, rest = 0, bytes;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *last = strrchr(line, ' ');
        if (!last || sscanf(last, "%llu", &bytes) != 1) continue; // the head
        if (strncmp(line, "total ", 6) == 0) total = bytes;
        else if (strncmp(line, "staging,", 8) == 0) rest = bytes;
        else if (strncmp(line, "held ", 5) == 0) assert_int_equal(bytes, gpu_memory_held(gpu));
        else if (strncmp(line, "peak ", 5) != 0) sum += bytes;
    }
    assert_int_equal(sum, total);
    assert_int_equal(total, gpu_memory_bytes(gpu));
    assert_int_equal(total + rest, gpu_memory_held(gpu));
    free(text);
}

static void every_byte_has_a_name(const char *device, const char *dtype)
{
    char set[40];
    snprintf(set, sizeof set, "torch_dtype=%s", dtype);
    const char *const sets[] = {set, "num_experts=5", "gradient_accumulation_steps=2"};
    struct config config;
    assert_true(config_read(&config, NULL, sets, COUNT_OF(sets)));
    struct gpu *gpu = gpu_create(&(struct gpu_params){.device = device, .cache_dir = ""});
    if (!gpu) skip();
    struct kernels *kernels = kernels_create(gpu);
    struct model *model = model_create(&config, 1 << 30);
    struct trainer *trainer = trainer_create(gpu, kernels, model);
    assert_non_null(trainer);
    const struct params *params = trainer_params(trainer);
    uint64_t wanted = class_bytes(model, config.torch_dtype) + io_bytes(&config) +
                      8ull * params->moves_stride * params->moves_layers;
    static const char *const plans[] = {"zero", "train", "update"};
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        uint32_t step;
        const struct plan *plan = trainer_plan(trainer, plans[i]);
        const uint64_t live = plan_peak(plan, &step);
        assert_true(live <= plan->arena_bytes && step < plan->step_count);
        wanted += plan->arena_bytes;
    }
    assert_int_equal(gpu_memory_bytes(gpu), wanted);
    assert_table(gpu);
    trainer_destroy(&trainer);
    model_destroy(&model);
    kernels_destroy(&kernels);
    assert_int_equal(gpu_memory_bytes(gpu), 0);
    gpu_destroy(&gpu);
}

static void on_the_reference(void **state)
{
    (void)state;
    every_byte_has_a_name("ref", "float32");
    every_byte_has_a_name("ref", "bfloat16");
}

static void on_the_device(void **state)
{
    (void)state;
    every_byte_has_a_name(NULL, "float32");
}

// ---- a large plan, whose weights are only said to be there

static struct params params_of(struct gpu *gpu, const struct model *model, struct arena *arena)
{
    struct params params = {
        .gpu = gpu, .model = model, .store = model->config.torch_dtype, .training = true};
    for (int which = 0; which < PARAMS_CLASSES; which++) {
        params.buffer[which] = arena_array(arena, model->segment_count, sizeof(void *));
        for (uint32_t s = 0; s < model->segment_count; s++) {
            struct gpu_buffer *buffer = arena_alloc(arena, sizeof *buffer);
            buffer->params.bytes = model->segment_elements[s] *
                                   dtype_bytes(params_dtype(&params, (enum params_class)which));
            params.buffer[which][s] = buffer;
        }
    }
    return params;
}

static void h64lm_trains_in_six_gib(void **state)
{
    (void)state;
    static const char *const sets[] = {"torch_dtype=bfloat16", "batch_size=8"}; // of 512 tokens
    struct config config;
    assert_true(config_read(&config, UNIT_SOURCE_ROOT "/assets/h64lm.json", sets, COUNT_OF(sets)));
    struct gpu *gpu = gpu_create(&(struct gpu_params){.device = "ref"});
    struct kernels *kernels = kernels_create(gpu);
    struct model *model = model_create(&config, UINT64_C(1) << 31);
    struct arena *arena = arena_create("test");
    struct params params = params_of(gpu, model, arena);
    const struct batch_layout layout = batch_layout(&config, 4096, 4096);
    struct gpu_buffer input = {.params.bytes = layout.input_bytes},
                      result = {.params.bytes = layout.result_bytes},
                      rope = {.params.bytes = 4ull * config.seq_len * config.head_dim};
    struct plan *plan = plan_create(gpu, kernels, "train", config.torch_dtype);
    const struct network_io io = batch_io(&layout, plan, &input, &result, &rope);
    struct network train = network_begin(plan, &params, NETWORK_TRAIN, 8, 512, 0, &io);
    network_forward(&train);
    network_backward(&train);
    uint32_t step;
    assert_true(plan_finish(plan)); // the arena is taken, and never touched
    const uint64_t live = plan_peak(plan, &step);
    const double gib = 1.0 / (1 << 30);
    const double total = (double)(class_bytes(model, config.torch_dtype) + plan->arena_bytes +
                                  io_bytes(&config)) * gib;
    print_message("h64lm, 4096 tokens, bf16: %.3f GiB, of it %.3f of activations, %.3f live\n",
                  total, (double)plan->arena_bytes * gib, (double)live * gib);
    assert_true(total <= 6);
    assert_true(plan->arena_bytes <= live + live / 10);
    plan_destroy(&plan);
    model_destroy(&model);
    kernels_destroy(&kernels);
    gpu_destroy(&gpu);
    arena_destroy(&arena);
}

static void refuses_a_session(const char *const set[2], const char *first, const char *second)
{
    struct config config;
    assert_true(config_read(&config, NULL, set, 2));
    struct gpu *gpu = gpu_create(&(struct gpu_params){.device = "ref"});
    struct kernels *kernels = kernels_create(gpu);
    struct model *model = model_create(&config, 1 << 30);
    struct params *params = params_create(gpu, model, false);
    assert_null(session_create(gpu, kernels, params, 8));
    unit_assert_line(first, second);
    params_destroy(&params);
    model_destroy(&model);
    kernels_destroy(&kernels);
    gpu_destroy(&gpu);
}

// There is no last token to go on from.
static void what_sees_everything_cannot_generate(void **state)
{
    (void)state;
    static const struct { const char *set[2], *first, *second; } models[] = {
        {{"causal=false", "task=copy"}, "causal is false", "cannot generate"},
        {{"num_experts=4", "router_type=expert_choice"}, "router_type expert_choice",
         "cannot generate"},
    };
    for (size_t i = 0; i < COUNT_OF(models); i++)
        refuses_a_session(models[i].set, models[i].first, models[i].second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_the_reference),
                                       cmocka_unit_test(on_the_device),
                                       UNIT(what_sees_everything_cannot_generate),
                                       cmocka_unit_test(h64lm_trains_in_six_gib)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
