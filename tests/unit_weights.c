// SPDX-License-Identifier: MIT
// weights.h: every layout and type of file gives the same values, and a file that is not this
// model's is refused in one line before the first value is handed over.
#include "tests/unit.h"

#include "src/weights.h"

static const char *const settings[] = {
    "vocab_size=50", "hidden_size=16",        "num_attention_heads=2",    "num_key_value_heads=1",
    "head_dim=8",    "intermediate_size=24",  "moe_intermediate_size=12", "num_hidden_layers=2",
    "num_experts=3", "num_experts_per_tok=2", "mlp_only_layers=[0]",      "qk_norm=true",
    "seq_len=16"};

static struct model *make(const char *one_more)
{
    const char *set[COUNT_OF(settings) + 1];
    struct config config;
    memcpy(set, settings, sizeof settings);
    set[COUNT_OF(settings)] = one_more;
    assert_true(config_read(&config, NULL, set, COUNT_OF(settings) + (one_more != NULL)));
    return model_create(&config, 1 << 30);
}

// ---- a model's values in one array, and what a callback was given

struct store {
    const struct model *model;
    float              *value;
    uint64_t            taken, most, stop_after;
};

static struct store store_make(const struct model *model, bool initial)
{
    struct store store = {model, calloc(model->segment_elements[0], sizeof(float)),
                          .stop_after = UINT64_MAX};
    for (uint32_t i = 0; i < model->tensor_count && initial; i++)
        model_init_values(model, &model->tensor[i], 0, model->tensor[i].count,
                          store.value + model->tensor[i].offset);
    return store;
}

static bool put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values)
{
    struct store *store = user;
    assert_true(begin + count <= tensor->count);
    memcpy(store->value + tensor->offset + begin, values, count * sizeof *values);
    store->most = max_u64(store->most, count);
    store->taken += count;
    return store->taken <= store->stop_after;
}

static bool get(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                float *values)
{
    struct store *store = user;
    assert_true(begin + count <= tensor->count);
    memcpy(values, store->value + tensor->offset + begin, count * sizeof *values);
    store->most = max_u64(store->most, count);
    store->taken += count;
    return store->taken <= store->stop_after;
}

static void assert_loads(const struct model *model, const char *path, const struct store *wanted)
{
    struct store store = store_make(model, false);
    assert_true(weights_load(model, path, put, &store));
    unit_assert_silent();
    assert_int_equal(store.taken, model->parameters);
    assert_memory_equal(store.value, wanted->value, model->segment_elements[0] * sizeof(float));
    free(store.value);
}

static void assert_refused(const struct model *model, const char *path, const char *first,
                           const char *second)
{
    struct store store = store_make(model, false);
    assert_false(weights_load(model, path, put, &store));
    unit_assert_line(first, second);
    assert_int_equal(store.taken, 0); // nothing is handed over before all was compared
    free(store.value);
}

// ---- a file of any tensors: written through the library, from a list

struct list { struct safetensors_tensor tensor[64]; uint32_t count; struct bytes data; };

static void list_add(struct list *list, const char *name, enum dtype dtype, const float *values,
                     uint32_t rank, const uint64_t *shape)
{
    struct safetensors_tensor *tensor = &list->tensor[list->count++];
    assert_true(list->count <= COUNT_OF(list->tensor));
    *tensor = (struct safetensors_tensor){.name = strdup(name), .dtype = dtype, .rank = rank};
    uint64_t count = 1;
    for (uint32_t i = 0; i < rank; i++) count *= tensor->shape[i] = shape[i];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t one = 0;
        dtype_store(&one, 0, dtype, values[i]);
        bytes_append(&list->data, &one, dtype_bytes(dtype));
    }
}

static void list_matrix(struct list *list, const char *name, enum dtype dtype, const float *values,
                        uint64_t rows, uint64_t cols)
{
    list_add(list, name, dtype, values, rows ? 2 : 1,
             rows ? (uint64_t[]){rows, cols} : (uint64_t[]){cols});
}

// The model's tensors as files hold them, but those of `skip` roles.
static void list_model(struct list *list, const struct store *store, enum dtype dtype,
                       uint64_t skip)
{
    for (uint32_t i = 0; i < store->model->tensor_count; i++) {
        const struct model_tensor *t = &store->model->tensor[i];
        for (uint32_t expert = 0; expert < max_u32(t->experts, 1) && !(skip >> t->role & 1);
             expert++) {
            char name[128];
            model_tensor_name(t, expert, name, sizeof name);
            list_matrix(list, name, dtype,
                        store->value + t->offset + (uint64_t)expert * t->rows * t->cols,
                        model_tensor_rank(t) == 1 ? 0 : t->rows, t->cols);
        }
    }
}

static const char *list_write(struct list *list, const char *name)
{
    const char *path = unit_path(name);
    struct safetensors_writer *writer =
        safetensors_writer_open(path, list->tensor, list->count, NULL, 0);
    assert_non_null(writer);
    assert_true(safetensors_writer_write(writer, list->data.data, list->data.count));
    assert_true(safetensors_writer_commit(&writer));
    for (uint32_t i = 0; i < list->count; i++) free((char *)list->tensor[i].name);
    bytes_free(&list->data);
    *list = (struct list){0};
    return path;
}

static void round_to(struct store *store, enum dtype dtype)
{
    for (uint64_t i = 0; i < store->model->segment_elements[0]; i++) {
        dtype_store(&store->value[i], 0, dtype, store->value[i]);
        store->value[i] = (float)dtype_load(&store->value[i], 0, dtype);
    }
}

// ---- tests

static void saved_weights_load_back(void **state)
{
    (void)state;
    static const char *const kinds[] = {NULL, "tie_word_embeddings=true", "num_experts=7",
                                        "mlp_only_layers=[]", "mlp_gated=false"};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct model *model = make(kinds[i]);
        struct store store = store_make(model, true);
        const char *path = unit_path("model.safetensors");
        const struct safetensors_metadata metadata = {"step", "5"};
        assert_true(weights_save(model, path, get, &store, &metadata, 1));
        assert_loads(model, path, &store);
        assert_loads(model, unit_folder, &store); // finds it in the folder
        struct safetensors *file = safetensors_open(path);
        assert_string_equal(file->metadata[0].value, "pt");
        assert_string_equal(file->metadata[1].value, "5");
        safetensors_close(&file);
        free(store.value);
        model_destroy(&model);
    }
}

// Weights without masters are in the file as they are: half the bytes, every bit; moments stay f32.
static void weights_without_masters_are_bf16(void **state)
{
    (void)state;
    struct model *model = make("torch_dtype=bfloat16");
    model->config.master_weights = false;
    struct store store = store_make(model, true);
    round_to(&store, DTYPE_BF16);
    const char *path = unit_path("model.safetensors");
    assert_true(weights_save(model, path, get, &store, NULL, 0));
    assert_loads(model, path, &store);
    struct safetensors *file = safetensors_open(path);
    for (uint32_t i = 0; i < file->count; i++)
        assert_int_equal(file->tensor[i].dtype, DTYPE_BF16);
    safetensors_close(&file);
    const struct weights_part moment = {.prefix = "m.", .get = get, .user = &store};
    assert_true(weights_save_parts(model, path, &moment, 1, NULL, 0));
    file = safetensors_open(path);
    assert_int_equal(file->tensor[0].dtype, DTYPE_F32);
    safetensors_close(&file);
    free(store.value);
    model_destroy(&model);
}

static void large_tensors_go_in_chunks(void **state)
{
    (void)state;
    struct model *model = make("vocab_size=600000"); // 9.6 M elements in the embedding
    struct store store = store_make(model, true), again = store_make(model, false);
    const char *path = unit_path("model.safetensors");
    assert_true(weights_save(model, path, get, &store, NULL, 0));
    assert_int_equal(store.most, WEIGHTS_CHUNK);
    assert_true(weights_load(model, path, put, &again));
    assert_int_equal(again.most, WEIGHTS_CHUNK);
    assert_memory_equal(store.value, again.value, model->segment_elements[0] * sizeof(float));
    free(store.value), free(again.value);
    model_destroy(&model);
}

static void every_type_and_layout_loads(void **state)
{
    (void)state;
    struct model *model = make(NULL);
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    const struct model_tensor *gate = model_find(model, ROLE_EXPERT_GATE, 1),
                              *up = model_find(model, ROLE_EXPERT_UP, 1),
                              *down = model_find(model, ROLE_EXPERT_DOWN, 1),
                              *router = model_find(model, ROLE_ROUTER, 1);
    const uint64_t e = gate->experts, n = gate->rows, h = gate->cols,
                   stacks = 1ull << ROLE_EXPERT_GATE | 1ull << ROLE_EXPERT_UP |
                            1ull << ROLE_EXPERT_DOWN;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct store store = store_make(model, true);
        struct list list = {0};
        round_to(&store, types[i]);
        list_model(&list, &store, types[i], 0);
        assert_loads(model, list_write(&list, "one.safetensors"), &store);
        // batched: [E][2 I][H], the gate first; buffers of old checkpoints are passed over
        struct bytes both = {0};
        for (uint64_t x = 0; x < e; x++) {
            bytes_append(&both, store.value + gate->offset + x * n * h, n * h * sizeof(float));
            bytes_append(&both, store.value + up->offset + x * n * h, n * h * sizeof(float));
        }
        list_model(&list, &store, types[i], stacks);
        list_add(&list, "model.layers.1.mlp.experts.gate_up_proj", types[i], (float *)both.data, 3,
                 (uint64_t[]){e, 2 * n, h});
        list_add(&list, "model.layers.1.mlp.experts.down_proj", types[i],
                 store.value + down->offset, 3, (uint64_t[]){e, h, n});
        list_add(&list, "model.layers.0.self_attn.rotary_emb.inv_freq", types[i], store.value, 1,
                 (uint64_t[]){4});
        assert_loads(model, list_write(&list, "batched.safetensors"), &store);
        // Mixtral's names
        list_model(&list, &store, types[i], stacks | 1ull << ROLE_ROUTER);
        list_matrix(&list, "model.layers.1.block_sparse_moe.gate.weight", types[i],
                    store.value + router->offset, e, h);
        for (uint32_t x = 0; x < e; x++) {
            char name[128];
            const struct model_tensor *const w[] = {gate, down, up};
            for (int k = 0; k < 3; k++) {
                snprintf(name, sizeof name, "model.layers.1.block_sparse_moe.experts.%u.w%d.weight",
                         x, k + 1);
                list_matrix(&list, name, types[i], store.value + w[k]->offset + x * n * h,
                            w[k]->rows, w[k]->cols);
            }
        }
        assert_loads(model, list_write(&list, "mixtral.safetensors"), &store);
        bytes_free(&both);
        free(store.value);
    }
    model_destroy(&model);
}

static void bodies_of_two_matrices_load(void **state)
{
    (void)state;
    struct model *model = make("mlp_gated=false");
    struct store store = store_make(model, true);
    const struct model_tensor *up = model_find(model, ROLE_EXPERT_UP, 1),
                              *down = model_find(model, ROLE_EXPERT_DOWN, 1);
    assert_null(model_find(model, ROLE_EXPERT_GATE, 1));
    assert_null(model_find(model, ROLE_GATE, 0));
    struct list list = {0};
    list_model(&list, &store, DTYPE_F32, 1ull << ROLE_EXPERT_UP | 1ull << ROLE_EXPERT_DOWN);
    list_add(&list, "model.layers.1.mlp.experts.up_proj", DTYPE_F32, store.value + up->offset, 3,
             (uint64_t[]){up->experts, up->rows, up->cols});
    list_add(&list, "model.layers.1.mlp.experts.down_proj", DTYPE_F32, store.value + down->offset,
             3, (uint64_t[]){down->experts, down->rows, down->cols});
    assert_loads(model, list_write(&list, "batched.safetensors"), &store);
    free(store.value);
    model_destroy(&model);
}

static void tied_heads_may_be_in_the_file(void **state)
{
    (void)state;
    struct model *tied = make("tie_word_embeddings=true"), *untied = make(NULL);
    struct store store = store_make(tied, true);
    struct list list = {0};
    list_model(&list, &store, DTYPE_F32, 0);
    assert_loads(tied, list_write(&list, "without.safetensors"), &store);
    list_model(&list, &store, DTYPE_F32, 0);
    list_matrix(&list, "lm_head.weight", DTYPE_F32, store.value, 50, 16);
    assert_loads(tied, list_write(&list, "with.safetensors"), &store);
    assert_refused(untied, unit_path("without.safetensors"), "tensor lm_head.weight: missing",
                   "wrong checkpoint");
    free(store.value);
    model_destroy(&tied), model_destroy(&untied);
}

static void shards_load(void **state)
{
    (void)state;
    struct model *model = make(NULL);
    struct store store = store_make(model, true);
    struct list list = {0}, first = {0}, second = {0};
    list_model(&list, &store, DTYPE_F32, 0);
    uint64_t at = 0;
    struct bytes index = {0};
    bytes_printf(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (uint32_t i = 0; i < list.count; i++) {
        const struct safetensors_tensor *t = &list.tensor[i];
        const bool odd = i % 3 == 1;
        list_matrix(odd ? &second : &first, t->name, DTYPE_F32, (float *)(list.data.data + at),
                    t->rank == 1 ? 0 : t->shape[0], t->shape[t->rank - 1]);
        at += t->shape[0] * (t->rank == 1 ? 1 : t->shape[1]) * sizeof(float);
        bytes_printf(&index, "%s\"%s\":\"part-%d.safetensors\"", i ? "," : "", t->name,
                     odd ? 2 : 1);
    }
    bytes_printf(&index, "}}");
    list_write(&first, "part-1.safetensors");
    list_write(&second, "part-2.safetensors");
    const char *path = unit_write_text("model.safetensors.index.json", (char *)index.data);
    assert_loads(model, path, &store);
    assert_loads(model, unit_folder, &store);
    // a shard that leads elsewhere, that is not there, that lacks its tensor, that repeats one
    unit_write_text("bad.index.json", "{\"weight_map\":{\"a\":\"../part-1.safetensors\"}}");
    assert_refused(model, unit_path("bad.index.json"), "tensor a", "not a plain file name");
    unit_write_text("bad.index.json", "{\"weight_map\":{\"a\":\"part-3.safetensors\"}}");
    assert_refused(model, unit_path("bad.index.json"), "part-3.safetensors", "no such file");
    unit_write_text("bad.index.json", "{\"weight_map\":{\"a\":\"part-1.safetensors\"}}");
    assert_refused(model, unit_path("bad.index.json"), "tensor a",
                   "part-1.safetensors does not hold it");
    unit_write_text("bad.index.json", "{\"weight_map\":3}");
    assert_refused(model, unit_path("bad.index.json"), "bad.index.json", "weight_map");
    unit_write_text("bad.index.json", "{\"weight_map");
    assert_refused(model, unit_path("bad.index.json"), "bad.index.json", "not valid JSON");
    list_write(&list, "part-2.safetensors"); // holds everything
    assert_refused(model, unit_path("model.safetensors.index.json"), "part-2.safetensors",
                   "part-1.safetensors too");
    bytes_free(&index);
    free(store.value);
    model_destroy(&model);
}

static void another_models_file_is_refused(void **state)
{
    (void)state;
    struct model *model = make(NULL), *wider = make("hidden_size=18"),
                 *deeper = make("num_hidden_layers=3"), *more = make("num_experts=4"),
                 *dense = make("qk_norm=false");
    struct store store = store_make(model, true);
    struct list list = {0};
    list_model(&list, &store, DTYPE_F32, 0);
    const char *path = list_write(&list, "model.safetensors");
    assert_refused(wider, path,
                   "tensor model.embed_tokens.weight: shape [50][16], config wants [50][18]",
                   "wrong checkpoint for this config?");
    assert_refused(deeper, path,
                   "tensor model.layers.2.input_layernorm.weight (and 17 more): missing",
                   "wrong checkpoint");
    assert_refused(more, path,
                   "tensor model.layers.1.mlp.gate.weight: shape [3][16], config wants [4][16]",
                   "wrong checkpoint");
    assert_refused(dense, path, "self_attn.q_norm.weight [8]: the model has no such tensor",
                   "wrong checkpoint");
    list_model(&list, &store, DTYPE_F32, 1ull << ROLE_EXPERT_DOWN);
    list_add(&list, "model.layers.1.mlp.experts.down_proj", DTYPE_F32, store.value, 3,
             (uint64_t[]){3, 12, 16});
    assert_refused(model, list_write(&list, "turned.safetensors"),
                   "down_proj: shape [3][12][16], config wants [3][16][12]", "wrong");
    list_model(&list, &store, DTYPE_F32, 1ull << ROLE_NORM_FINAL);
    list_add(&list, "model.norm.weight", DTYPE_I64, store.value, 1, (uint64_t[]){16});
    assert_refused(model, list_write(&list, "ints.safetensors"), "model.norm.weight: dtype I64",
                   "F32, BF16 and F16");
    assert_refused(model, unit_path("none"), "none", "no such file");
    mkdir(unit_path("empty"), 0777);
    assert_refused(model, unit_path("empty"), "empty", "holds neither model.safetensors nor");
    free(store.value);
    model_destroy(&model), model_destroy(&wider), model_destroy(&deeper), model_destroy(&more),
        model_destroy(&dense);
}

static void values_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    struct model *model = make(NULL);
    const struct model_tensor *up = model_find(model, ROLE_EXPERT_UP, 1);
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct store store = store_make(model, true), again = store_make(model, false);
        struct list list = {0};
        store.value[up->offset + 2 * up->rows * up->cols + 77] = i == 1 ? INFINITY : NAN;
        list_model(&list, &store, types[i], 0);
        assert_false(weights_load(model, list_write(&list, "nan.safetensors"), put, &again));
        unit_assert_line("tensor model.layers.1.mlp.experts.2.up_proj.weight: element 77 is",
                         i == 1 ? "inf" : "nan");
        const char *path = unit_write_text("model.safetensors", "old");
        assert_false(weights_save(model, path, get, &store, NULL, 0));
        unit_assert_line("tensor model.layers.1.mlp.experts.2.up_proj.weight: element 77 is",
                         "model.safetensors");
        char *text = unit_read(path, NULL);
        assert_string_equal(text, "old");
        free(text), free(store.value), free(again.value);
    }
    model_destroy(&model);
}

static void moments_go_the_same_way(void **state)
{
    (void)state;
    struct model *model = make("num_experts=2");
    struct store m = store_make(model, true), m_again = store_make(model, false),
                 v_again = store_make(model, false);
    model->config.seed++;
    struct store v = store_make(model, true);
    const struct weights_part save[] = {{.prefix = "m.", .get = get, .user = &m},
                                        {.prefix = "v.", .get = get, .user = &v}};
    const struct weights_part load[] = {{.prefix = "m.", .put = put, .user = &m_again},
                                        {.prefix = "v.", .put = put, .user = &v_again}};
    const char *path = unit_path("optimizer.safetensors");
    assert_true(weights_save_parts(model, path, save, 2, NULL, 0));
    assert_true(weights_load_parts(model, path, load, 2));
    assert_memory_equal(m.value, m_again.value, model->segment_elements[0] * sizeof(float));
    assert_memory_equal(v.value, v_again.value, model->segment_elements[0] * sizeof(float));
    assert_false(weights_load_parts(model, path, load, 1)); // v. is left over
    unit_assert_line("tensor v.", "no such tensor");
    m.taken = 0, m.stop_after = 1000; // a callback that fails
    assert_false(weights_save_parts(model, unit_path("x.safetensors"), save, 2, NULL, 0));
    assert_int_not_equal(access(unit_path("x.safetensors"), F_OK), 0);
    free(m.value), free(v.value), free(m_again.value), free(v_again.value);
    model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(saved_weights_load_back),
        UNIT(weights_without_masters_are_bf16),
        UNIT(large_tensors_go_in_chunks),
        UNIT(every_type_and_layout_loads),
        UNIT(bodies_of_two_matrices_load),
        UNIT(tied_heads_may_be_in_the_file),
        UNIT(shards_load),
        UNIT(another_models_file_is_refused),
        UNIT(values_that_are_not_finite_are_refused),
        UNIT(moments_go_the_same_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
