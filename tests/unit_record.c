// SPDX-License-Identifier: MIT
// The record of an expert: where its matrices lie, that its initial values are those of the whole
// stack bit for bit, that parts that are not stored are made up for.
#include "tests/unit.h"

#include "src/experts_record.h"

// `more`: "key=value;key=value"
static struct model *make_model(const char *more)
{
    static const char json[] =
             "{\"model_type\": \"vkmoe\", \"vocab_size\": 300, \"hidden_size\": 24, "
             "\"intermediate_size\": 40, \"moe_intermediate_size\": 36, \"num_hidden_layers\": 4, "
             "\"num_attention_heads\": 2, \"max_position_embeddings\": 64, \"num_experts\": 5, "
             "\"seed\": 7}";
    char text[200];
    const char *set[8];
    int count = 0;
    struct config config;
    snprintf(text, sizeof text, "%s", more);
    for (char *word = strtok(text, ";"); word; word = strtok(NULL, ";")) set[count++] = word;
    assert_true(config_parse(&config, "test", json, set, count));
    struct model *model = model_create(&config, UINT64_MAX);
    assert_non_null(model);
    return model;
}

static void test_layout(void **state)
{
    (void)state;
    struct model *model = make_model("torch_dtype=bfloat16;decoder_sparse_step=2");
    struct experts_record record;
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    assert_int_equal(record.matrix_count, 3);
    assert_int_equal(record.keys, 10);
    const uint64_t padded = 896; // 24 * 36 = 864
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(record.matrix[i].begin, i * padded);
    assert_int_equal(record.weights_bytes, 3 * padded * 2);
    assert_int_equal(record.array[RECORD_MASTER], 8192);
    assert_int_equal(record.array[RECORD_M], 8192 + 12 * padded);
    assert_int_equal(record.array[RECORD_V], 8192 + 24 * padded);
    assert_int_equal(record.state_bytes, 36 * padded + 8);
    assert_int_equal(record.bytes, 8192 + 32768);
    assert_int_equal(experts_record_key(&record, 1, 3), 8);
    assert_ptr_equal(experts_record_stack(&record, 1, 2), model_find(model, ROLE_EXPERT_DOWN, 3));
    assert_true(experts_record_init(&record, model, RECORD_STATE_NONE));
    assert_int_equal(record.bytes, 8192);
    assert_int_equal(record.state_bytes, 0);
    model_destroy(&model);
    model = make_model("optim=sgd;mlp_gated=false;mlp_bias=true");
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    assert_int_equal(record.matrix_count, 4);
    assert_int_equal(record.array[RECORD_MASTER], 0);
    assert_int_equal(record.array[RECORD_V], 0);
    assert_int_equal(record.state_bytes, record.elements * 4 + 8);
    model_destroy(&model);
    // moments in codes; of one matrix alone; weights without masters
    model = make_model("optim=adamw_8bit;hidden_size=64");
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    uint64_t bytes;
    assert_int_equal(record.array[RECORD_M] + record.array[RECORD_V], 0);
    assert_int_equal(record.array[RECORD_CODES], align_up(record.weights_bytes, STORE_ALIGN));
    assert_int_equal(experts_record_place(&record, RECORD_CODES, 1, &bytes),
                     record.array[RECORD_CODES] + 9 * 528); // 36 * 64 elements
    assert_int_equal(bytes, 9 * 528);
    assert_int_equal(record.state_bytes, 27 * 528 + 8);
    model_destroy(&model);
    model = make_model("hidden_size=64;torch_dtype=bfloat16;master_weights=false;"
                       "param_groups=[{\"match\": \"*experts*up*\", \"optim\": \"adamw_8bit\"}]");
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    assert_int_equal(record.array[RECORD_MASTER], 0);
    experts_record_place(&record, RECORD_CODES, 0, &bytes);
    assert_int_equal(bytes, 0);
    experts_record_place(&record, RECORD_V, 1, &bytes);
    assert_int_equal(bytes, 0);
    assert_int_equal(experts_record_place(&record, RECORD_CODES, 1, &bytes),
                     record.array[RECORD_V] + 4 * record.elements);
    // initial values are bf16 there, and still known for what they are
    uint8_t *initial = malloc(record.bytes), *scratch = malloc(record.bytes);
    experts_record_initial(&record, 3, initial);
    assert_int_equal(experts_record_parts(&record, 3, initial, scratch), 0);
    initial[0] ^= 1;
    assert_int_equal(experts_record_parts(&record, 3, initial, scratch), 1 << RECORD_WEIGHTS);
    free(initial), free(scratch);
    model_destroy(&model);
    model = make_model("num_experts=0");
    assert_false(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    unit_assert_line("no experts", "");
    model_destroy(&model);
    model = make_model("num_experts=4;moe_intermediate_size=[7,9]");
    assert_false(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    unit_assert_line("different widths", "one width");
    model_destroy(&model);
}

// All experts of all stacks at once, and each by its record.
static void check_initial(const char *more)
{
    struct model *model = make_model(more);
    struct experts_record record;
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    uint8_t *bytes = malloc(record.bytes);
    for (uint32_t layer = 0; layer < 2; layer++)
        for (uint32_t m = 0; m < record.matrix_count; m++) {
            const struct model_tensor *stack = experts_record_stack(&record, layer, m);
            const uint64_t size = record.matrix[m].count;
            float *eager = malloc(stack->count * sizeof *eager);
            float *lazy = malloc(size * sizeof *lazy);
            model_init_values(model, stack, 0, stack->count, eager);
            for (uint32_t e = 5; e-- > 0;) {
                experts_record_initial(&record, experts_record_key(&record, layer, e), bytes);
                experts_record_get(&record, bytes, RECORD_MASTER, m, 0, size, lazy);
                assert_memory_equal(lazy, eager + e * size, size * sizeof *lazy);
                experts_record_get(&record, bytes, RECORD_COMPUTE, m, 0, size, lazy);
                for (uint64_t i = 0; i < size; i++) {
                    float stored;
                    dtype_store(&stored, 0, record.store, eager[e * size + i]);
                    assert_true(lazy[i] == (float)dtype_load(&stored, 0, record.store));
                }
                experts_record_get(&record, bytes, RECORD_V, m, 0, size, lazy);
                for (uint64_t i = 0; i < size; i++) assert_true(lazy[i] == 0);
                assert_int_equal(experts_record_steps(&record, bytes), 0);
            }
            free(eager), free(lazy);
        }
    free(bytes);
    model_destroy(&model);
}

static void test_initial(void **state)
{
    (void)state;
    check_initial("");
    check_initial("torch_dtype=bfloat16");
    check_initial("torch_dtype=float16;init=lecun");
    check_initial("init=orthogonal");
    check_initial("torch_dtype=bfloat16;optim=adamw_8bit;hidden_size=64");
    check_initial("init=h64lm;mlp_gated=false;mlp_bias=true");
}

static void test_complete(void **state)
{
    (void)state;
    struct model *model = make_model("torch_dtype=bfloat16");
    struct experts_record record;
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    uint8_t *initial = malloc(record.bytes), *bytes = malloc(record.bytes);
    experts_record_initial(&record, 6, initial);
    memset(bytes, 0x77, record.bytes);
    experts_record_complete(&record, 6, 0, bytes);
    assert_memory_equal(bytes, initial, record.bytes);
    memset(bytes, 0x77, record.bytes);
    experts_record_complete(&record, 6, 3, bytes);
    for (uint64_t i = 0; i < record.bytes; i++) assert_int_equal(bytes[i], 0x77);
    // weights alone: masters are those, the rest is zero
    memcpy(bytes, initial, record.weights_bytes);
    experts_record_complete(&record, 6, 1, bytes);
    float master[36], compute[36];
    for (uint32_t m = 0; m < 3; m++) {
        experts_record_get(&record, bytes, RECORD_MASTER, m, 100, 36, master);
        experts_record_get(&record, initial, RECORD_COMPUTE, m, 100, 36, compute);
        assert_memory_equal(master, compute, sizeof master);
        experts_record_get(&record, bytes, RECORD_M, m, 100, 36, master);
        for (int i = 0; i < 36; i++) assert_true(master[i] == 0);
    }
    experts_record_set_steps(&record, bytes, 123456789012);
    assert_true(experts_record_steps(&record, bytes) == 123456789012);
    free(initial), free(bytes);
    model_destroy(&model);
}

// Opened by another config: the line says what differs.
static void test_identity(void **state)
{
    (void)state;
    static const struct { const char *more, *says; } cases[] = {
        {"seed=8", "\"seed 7\", wanted \"seed 8\""},
        {"moe_intermediate_size=32", "\"gate [36][24]\", wanted \"gate [32][24]\""},
        {"num_experts=6", "\"num_experts 5\", wanted \"num_experts 6\""},
        {"torch_dtype=bfloat16", "\"torch_dtype f32\", wanted \"torch_dtype bf16\""},
        {"torch_dtype=bfloat16;master_weights=false", "\"torch_dtype bf16 without masters\""},
        {"param_groups=[{\"match\": \"*experts*up*\", \"optim\": \"adamw_8bit\"}]",
         "wanted \"up [36][24] moments in codes\""},
        {"mlp_only_layers=[0]", "moe_layers 1 2 3"},
        {"initializer_range=0.03", "0.03"},
    };
    struct model *model = make_model("");
    struct experts_record record;
    struct store_params params;
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    char *identity = experts_record_params(&record, &params);
    params.folder = unit_path("experts");
    struct store *store = store_create(&params);
    uint8_t *bytes = malloc(record.bytes);
    experts_record_initial(&record, 12, bytes);
    assert_non_null(store);
    assert_int_equal(store_record_bytes(store), record.bytes);
    assert_true(store_write(store, 12, 3, bytes) && store_commit(store, unit_folder));
    bytes[0] ^= 1;
    struct store_place place;
    assert_true(store_find(store, 12, &place));
    assert_false(store_verify(store, &place, 0, bytes));
    unit_assert_line("layer 2, expert 2 at byte 0: its weights", "damaged");
    store_close(&store);
    free(identity);
    // who only reads weights knows of no state
    assert_true(experts_record_init(&record, model, RECORD_STATE_NONE));
    identity = experts_record_params(&record, &params);
    params.folder = unit_path("experts");
    assert_non_null(store = store_open(unit_path("experts.json"), &params, false));
    assert_int_equal(store_part_count(store), 2);
    assert_true(store_read(store, 12, 1, bytes, NULL));
    store_close(&store);
    free(identity), free(bytes);
    model_destroy(&model);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        model = make_model(cases[i].more);
        assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
        identity = experts_record_params(&record, &params);
        params.folder = unit_path("experts");
        assert_null(store_open(unit_path("experts.json"), &params, false));
        unit_assert_line("experts.json: made for another config: found", cases[i].says);
        free(identity);
        model_destroy(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {UNIT(test_layout), UNIT(test_initial), UNIT(test_complete),
                                       UNIT(test_identity)};
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
