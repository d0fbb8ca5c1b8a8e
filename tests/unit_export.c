// SPDX-License-Identifier: MIT
// export.h and below: packing at every width against a definition bit by bit, quantisation against
// a plain reference with its error bound, pruning counts, the choice of kinds, a model through a
// file and back, and files that are refused in one line.
#include "tests/unit.h"

#include "src/dtype.h"
#include "src/export.h"

// ---- bits

static void packing_is_its_definition(void **state)
{
    (void)state;
    static int8_t in[1001], back[1001];
    static uint8_t out[1003], wanted[1003];
    const uint64_t counts[] = {0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 1001};
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            const uint64_t count = counts[c], bytes = (count * bits + 7) / 8;
            memset(wanted, 0, sizeof wanted);
            memset(out, 0xa5, sizeof out);
            for (uint64_t i = 0; i < count; i++) {
                in[i] = (int8_t)((int)rng_below(1, bits, i, 1u << bits) - (1 << (bits - 1)));
                for (uint32_t j = 0; j < bits; j++)
                    wanted[(i * bits + j) / 8] |=
                        (uint8_t)(((uint32_t)in[i] >> j & 1u) << (i * bits + j) % 8);
            }
            quant_pack(in, count, bits, bits, out);
            assert_memory_equal(out, wanted, bytes);
            assert_int_equal(out[bytes], 0xa5); // not one byte further
            quant_unpack(out, count, bits, bits, back);
            assert_memory_equal(back, in, count);
            quant_pack(in, count, bits, 8, out);
            for (uint64_t i = 0; i < count; i++)
                assert_int_equal(out[i], (uint32_t)in[i] & ((1u << bits) - 1));
            quant_unpack(out, count, bits, 8, back);
            assert_memory_equal(back, in, count);
            uint64_t size;
            assert_true(quant_bytes((enum quant_kind)(QUANT_INT2 + bits - 2), QUANT_BITS, 1, count,
                                    &size));
            assert_int_equal(size, bytes + 2);
        }
    uint64_t size;
    assert_false(quant_bytes(QUANT_INT5, QUANT_BITS, 1ull << 32, 1ull << 32, &size));
    assert_false(quant_bytes(QUANT_F32, QUANT_BITS, 1ull << 60, 1, &size));
    assert_false(quant_bytes(QUANT_INT2, QUANT_BITS, 1ull << 63, 0, &size));
    assert_true(quant_bytes(QUANT_F16, QUANT_BITS, 3, 5, &size));
    assert_int_equal(size, 30);
}

// ---- quantiles and pruning

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double sorted_quantile(const float *values, uint64_t count, double q)
{
    float *sorted = malloc(count * sizeof *sorted);
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    const double place = q * (double)(count - 1);
    const uint64_t k = (uint64_t)floor(place), next = k + 1 < count ? k + 1 : k;
    const double value =
        sorted[k] + (place - (double)k) * ((double)sorted[next] - (double)sorted[k]);
    free(sorted);
    return value;
}

static void quantiles_are_those_of_a_sorted_list(void **state)
{
    (void)state;
    const uint64_t counts[] = {1, 2, 3, 31, 100, 1001};
    const double q[] = {0, 0.03, 0.5, 0.97, 0.9999984, 1};
    static float values[1001];
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (size_t i = 0; i < COUNT_OF(q); i++)
            for (int kind = 0; kind < 4; kind++) {
                for (uint64_t j = 0; j < counts[c]; j++)
                    values[j] = kind == 0   ? (float)rng_normal(3, c, j)
                                : kind == 1 ? (float)rng_below(3, c, j, 4) // ties
                                : kind == 2 ? (float)j
                                            : -(float)j;
                const double wanted = sorted_quantile(values, counts[c], q[i]);
                unit_assert_near(quant_quantile(values, counts[c], q[i]), wanted, 1e-12);
            }
}

static void pruning_counts(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    static float values[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        values[i] = (float)((i * 7919) % COUNT + 1) * (i % 2 ? 1 : -1);
    assert_int_equal(quant_prune(values, COUNT, 0), 0);
    assert_int_equal(quant_prune(values, COUNT, 0.03), 300); // below 1 + 0.03 * 9999 = 300.97
    for (uint64_t i = 0; i < COUNT; i++)
        assert_true(values[i] == 0 ? (i * 7919) % COUNT + 1 <= 300 : fabsf(values[i]) > 300);
    // what is 0 already is no change, and still counts among the smallest
    assert_int_equal(quant_prune(values, COUNT, 0.03), 0);
    assert_int_equal(quant_prune(values, COUNT, 0.05), 200);
    assert_int_equal(quant_prune(values, COUNT, 1), COUNT - 500 - 1);
    for (uint64_t i = 0; i < COUNT; i++) values[i] = 2;
    assert_int_equal(quant_prune(values, COUNT, 0.5), 0); // nothing is below an equal
    assert_int_equal(quant_prune(values, 0, 0.5), 0);
    assert_int_equal(quant_prune(values, 1, 1), 0);
}

// ---- rows

// One row as PR 660 writes it, in plain steps; returns the bound of the error of what is not
// clipped.
static double reference_row(enum quant_kind kind, const float *row, uint64_t cols, double *out)
{
    static float magnitude[1001];
    const int top = (1 << (quant_bits(kind) - 1)) - 1;
    for (uint64_t i = 0; i < cols; i++) magnitude[i] = fabsf(row[i]);
    const double most = sorted_quantile(magnitude, cols, kind == QUANT_INT8 ? 0.9999984 : 1),
                 scale = dtype_f32_from_f16(dtype_f16_from_f32((float)(most / top)));
    for (uint64_t i = 0; i < cols; i++) {
        double q = nearbyint(scale > 0 ? row[i] / scale : 0);
        q = q > top ? top : q;
        q = q < -top - (kind != QUANT_INT8) ? -top - (kind != QUANT_INT8) : q;
        out[i] = q * scale;
    }
    return scale / 2;
}

static void check_rows(enum quant_packing packing)
{
    enum { ROWS = 3 };
    const uint64_t widths[] = {1, 2, 3, 7, 31, 32, 33, 257, 1001};
    static float in[ROWS * 1001], back[ROWS * 1001];
    static double wanted[1001];
    static uint8_t packed[ROWS * 1001 * 4 + 100];
    for (enum quant_kind kind = QUANT_INT2; kind <= QUANT_INT8; kind++)
        for (size_t w = 0; w < COUNT_OF(widths); w++) {
            const uint64_t cols = widths[w];
            uint64_t bytes, bad;
            for (uint64_t i = 0; i < ROWS * cols; i++) // the last row is all zeros
                in[i] = i / cols == 2 ? 0 : (float)(rng_normal(5, w, i) * (i / cols ? 0.02 : 3));
            assert_true(quant_bytes(kind, packing, ROWS, cols, &bytes));
            memset(packed, 0xa5, sizeof packed);
            assert_true(quant_encode(kind, packing, in, ROWS, cols, packed, &bad));
            assert_int_equal(packed[bytes], 0xa5);
            assert_true(quant_decode(kind, packing, packed, ROWS, cols, back, &bad));
            for (uint64_t row = 0; row < ROWS; row++) {
                const double bound = reference_row(kind, in + row * cols, cols, wanted);
                for (uint64_t i = 0; i < cols; i++) {
                    const double value = back[row * cols + i], most = fabs(in[row * cols + i]);
                    unit_assert_near(value, wanted[i], 1e-12);
                    // int8's clip and f16's rounding of the scale cut less than a thousandth
                    unit_assert_near(value, in[row * cols + i], bound + 1e-3 * most);
                }
            }
        }
}

static void rows_keep_their_bound(void **state)
{
    (void)state;
    check_rows(QUANT_BITS);
    check_rows(QUANT_BYTES);
}

static void extremes_fit_or_are_refused(void **state)
{
    (void)state;
    uint8_t packed[64];
    float back[4];
    uint64_t bad;
    const float tiny[4] = {1e-7f, -8e-7f, 3e-8f, 0}, huge[4] = {1, 2, 1e6f, 3},
                large[4] = {70000, -70000, 0, 35000};
    // scales near f16's smallest step are rounded up, so that the largest weight is not clipped
    assert_true(quant_encode(QUANT_INT5, QUANT_BITS, tiny, 1, 4, packed, &bad));
    assert_true(quant_decode(QUANT_INT5, QUANT_BITS, packed, 1, 4, back, &bad));
    for (int i = 0; i < 4; i++) unit_assert_near(back[i], tiny[i], 0x1p-24 * 0.5001);
    assert_true(quant_encode(QUANT_INT8, QUANT_BITS, huge, 1, 4, packed, &bad));
    assert_false(quant_encode(QUANT_INT2, QUANT_BITS, huge, 1, 4, packed, &bad));
    assert_false(quant_encode(QUANT_F16, QUANT_BITS, large, 2, 2, packed, &bad));
    assert_int_equal(bad, 0);
    assert_false(quant_encode(QUANT_F16, QUANT_BITS, huge, 2, 2, packed, &bad));
    assert_int_equal(bad, 2);
    assert_true(quant_encode(QUANT_F32, QUANT_BITS, huge, 2, 2, packed, &bad));
    assert_true(quant_decode(QUANT_F32, QUANT_BITS, packed, 2, 2, back, &bad));
    assert_memory_equal(back, huge, sizeof huge);
    // from a hostile file: a scale or a value that is not finite
    assert_true(quant_encode(QUANT_INT8, QUANT_BITS, large, 2, 2, packed, &bad));
    packed[3] = 0x7c;
    assert_false(quant_decode(QUANT_INT8, QUANT_BITS, packed, 2, 2, back, &bad));
    assert_int_equal(bad, 1);
    memset(packed, 0xff, sizeof packed);
    assert_false(quant_decode(QUANT_F16, QUANT_BITS, packed, 2, 2, back, &bad));
    assert_false(quant_decode(QUANT_F32, QUANT_BITS, packed, 2, 2, back, &bad));
}

// ---- names

static void kinds_go_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t elements;
        enum quant_kind kind;
        uint32_t rank;
    } rows[] = {
        {"model.embed_tokens.weight", 100000, QUANT_F16, 2},
        {"model.bigram_embed.weight", 100000, QUANT_INT6, 2},
        {"model.layers.0.self_attn.q_proj.weight", 100000, QUANT_INT6, 2},
        {"model.layers.0.self_attn.q_proj.weight", 8193, QUANT_INT6, 2},
        {"model.layers.0.self_attn.q_proj.weight", 8192, QUANT_F16, 2},
        {"model.layers.0.self_attn.k_proj.weight", 100000, QUANT_INT6, 2},
        {"model.layers.9.self_attn.k_proj.weight", 100000, QUANT_F16, 2},
        {"model.layers.0.mlp.down_proj.weight", 100000, QUANT_INT5, 2},
        {"model.layers.0.mlp.gate_proj.weight", 100000, QUANT_INT5, 2},
        {"model.layers.0.mlp.gate.weight", 100000, QUANT_F16, 2},
        {"model.layers.0.mlp.experts.31.up_proj.weight", 100000, QUANT_INT5, 2},
        {"model.layers.0.block_sparse_moe.experts.7.w1.weight", 100000, QUANT_INT5, 2},
        {"model.layers.0.block_sparse_moe.gate.weight", 100000, QUANT_F16, 2},
        {"model.layers.0.router.weight", 100000, QUANT_F16, 2},
        {"lm_head.weight", 100000, QUANT_INT8, 2},
        {"model.layers.0.input_layernorm.weight", 512, QUANT_F16, 1},
        {"model.layers.0.mlp.experts.3.up_proj.bias", 9000, QUANT_F16, 1},
        {"model.bigram.proj.weight", 65536, QUANT_INT6, 2},
        {"model.trigram.embed.weight", 100000, QUANT_INT6, 2},
        {"model.layers.0.mlp.gate.noise.weight", 100000, QUANT_F16, 2},
        {"model.layers.0.mlp.shared_expert.up_proj.weight", 100000, QUANT_INT5, 2},
    };
    struct export_rules *rules = export_rules_create(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(export_rules_kind(rules, rows[i].name, rows[i].rank, rows[i].elements, 10),
                         rows[i].kind);
    export_rules_destroy(&rules);
    rules = export_rules_create("lm_head.weight=f16,*.mlp.*proj*=int4,*=f32");
    assert_int_equal(export_rules_kind(rules, "lm_head.weight", 2, 9, 1), QUANT_F16);
    assert_int_equal(export_rules_kind(rules, "a.mlp.up_proj.weight", 2, 9, 1), QUANT_INT4);
    assert_int_equal(export_rules_kind(rules, "a.mlp.gate.weight", 1, 9, 1), QUANT_F32);
    export_rules_destroy(&rules);
    unit_assert_silent();
    static const char *const bad[] = {"", "int5", "=int5", "a=int9", "a=int5,", "a=int5,,b=f16",
                                      "a=int1", "a="};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_null(export_rules_create(bad[i]));
        unit_assert_line("--bits: found", "wanted PATTERN=KIND");
    }
    assert_true(export_is_pruned("model.embed_tokens.weight", 2, 65537));
    assert_false(export_is_pruned("model.embed_tokens.weight", 2, 65536));
    assert_false(export_is_pruned("model.layers.0.mlp.gate.weight", 2, 100000));
    assert_false(export_is_pruned("model.norm.weight", 1, 100000));
}

// ---- a model through a file

static const char *const settings[] = {
    "vocab_size=300", "hidden_size=70",      "num_attention_heads=2",    "num_key_value_heads=1",
    "head_dim=64",    "intermediate_size=131", "moe_intermediate_size=119", "num_hidden_layers=2",
    "num_experts=3",  "num_experts_per_tok=2", "mlp_only_layers=[0]",     "seq_len=16",
    "tie_word_embeddings=false"};

struct store { const struct model *model; float *value; uint64_t taken; };

static bool put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values)
{
    struct store *store = user;
    assert_true(begin + count <= tensor->count);
    memcpy(store->value + tensor->offset + begin, values, count * sizeof *values);
    store->taken += count;
    return true;
}

static bool get(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                float *values)
{
    const struct store *store = user;
    memcpy(values, store->value + tensor->offset + begin, count * sizeof *values);
    return true;
}

// A folder with a model of all kinds of tensors, and its weights.
static struct store make_folder(const char **folder)
{
    struct config config;
    assert_true(config_read(&config, NULL, settings, COUNT_OF(settings)));
    struct model *model = model_create(&config, 1 << 30);
    struct store store = {model, calloc(model->segment_elements[0], sizeof(float)), 0};
    for (uint32_t i = 0; i < model->tensor_count; i++)
        model_init_values(model, &model->tensor[i], 0, model->tensor[i].count,
                          store.value + model->tensor[i].offset);
    char *text = config_print(&config);
    *folder = unit_folder;
    unit_write_text("config.json", text);
    assert_true(weights_save(model, unit_path("model.safetensors"), get, &store, NULL, 0));
    free(text);
    return store;
}

static void free_store(struct store *store)
{
    struct model *model = (struct model *)store->model;
    model_destroy(&model);
    free(store->value);
}

static bool load(const char *path, const struct model *model, struct store *out)
{
    char *config = NULL, *tokenizer = NULL;
    struct export_file *file = export_file_open(path);
    *out = (struct store){model, calloc(model->segment_elements[0], sizeof(float)), 0};
    const bool ok = file && export_read_texts(file, &config, &tokenizer) &&
                    export_read_weights(file, model, put, out);
    free(config);
    free(tokenizer);
    export_file_close(&file);
    return ok;
}

static void assert_loaded(const struct store *loaded, const struct store *wanted)
{
    const struct model *model = wanted->model;
    struct export_rules *rules = export_rules_create(NULL);
    uint64_t bad;
    assert_int_equal(loaded->taken, model->parameters);
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *t = &model->tensor[i];
        const uint64_t size = (uint64_t)t->rows * t->cols;
        float *values = malloc(size * sizeof *values);
        uint8_t *packed = malloc(size * 4 + 2 * t->rows);
        for (uint32_t e = 0; e < max_u32(t->experts, 1); e++) {
            char name[128];
            model_tensor_name(t, e, name, sizeof name);
            const enum quant_kind kind =
                export_rules_kind(rules, name, model_tensor_rank(t), size, 2);
            const uint64_t at = t->offset + e * size;
            assert_true(quant_encode(kind, QUANT_BITS, wanted->value + at, t->rows, t->cols, packed,
                                     &bad));
            assert_true(quant_decode(kind, QUANT_BITS, packed, t->rows, t->cols, values, &bad));
            assert_memory_equal(loaded->value + at, values, size * sizeof *values);
        }
        free(values);
        free(packed);
    }
    export_rules_destroy(&rules);
}

static void a_model_goes_through_a_file(void **state)
{
    (void)state;
    if (!codec_available("this test")) skip();
    const char *folder, *out = unit_path("model.vkx");
    struct store model = make_folder(&folder), loaded;
    struct export_report report, again;
    size_t bytes;
    assert_true(export_run(&(struct export_params){folder, out, .level = 0}, &report));
    free(unit_read(out, &bytes));
    assert_int_equal(report.parameters, model.model->parameters);
    assert_int_equal(report.file_bytes, bytes);
    assert_int_equal(bytes, report.header_bytes + report.data_bytes + EXPORT_HASH);
    uint64_t sum = report.text_bytes;
    for (int kind = 0; kind < QUANT_COUNT; kind++) sum += report.kind[kind].bytes;
    assert_int_equal(sum, report.data_bytes);
    // 3 experts: up, gate [119][70] and down [70][119]; dense: up, gate [131][70], down [70][131]
    const uint64_t expert = 3 * (119 * 70 * 5 / 8 + 1), dense = 3 * (131 * 70 * 5 / 8 + 1);
    assert_int_equal(report.kind[QUANT_INT5].bytes,
                     3 * (expert + 2 * (119 + 119 + 70)) + dense + 2 * (131 + 131 + 70));
    assert_int_equal(report.kind[QUANT_INT6].tensors, 4); // q and o; k and v are small
    assert_int_equal(report.kind[QUANT_INT8].bytes, 300 * 70 + 2 * 300); // the head
    assert_true(load(out, model.model, &loaded));
    assert_loaded(&loaded, &model);
    free(loaded.value);
    assert_true(export_run(&(struct export_params){folder, out, .level = 22}, &again));
    assert_true(again.file_bytes < report.file_bytes);
    assert_int_equal(again.data_bytes, report.data_bytes);
    assert_true(load(out, model.model, &loaded));
    assert_loaded(&loaded, &model);
    free(loaded.value);
    // one byte an integer: more before zstd, the same values
    const struct export_params loose = {folder, out, .level = 22, .packing = QUANT_BYTES};
    assert_true(export_run(&loose, &report));
    assert_int_equal(report.kind[QUANT_INT6].bytes, 4 * (128 * 70) + 2 * 2 * (128 + 70));
    assert_true(report.data_bytes > again.data_bytes);
    assert_true(load(out, model.model, &loaded));
    assert_loaded(&loaded, &model);
    free(loaded.value);
    // f32 is the model itself
    const struct export_params exact = {folder, out, .bits = "*=f32", .level = 1};
    assert_true(export_run(&exact, &again));
    assert_true(load(out, model.model, &loaded));
    assert_memory_equal(loaded.value, model.value,
                        model.model->segment_elements[0] * sizeof(float));
    free(loaded.value);
    unit_assert_silent();
    free_store(&model);
}

// ---- what is refused

static void fix_hash(uint8_t *bytes, size_t size)
{
    const uint64_t hash = codec_hash(bytes, size - EXPORT_HASH);
    for (int i = 0; i < EXPORT_HASH; i++)
        bytes[size - EXPORT_HASH + (size_t)i] = (uint8_t)(hash >> 8 * i);
}

static void assert_refused(const struct model *model, const uint8_t *bytes, size_t size,
                           const char *what)
{
    struct store loaded;
    assert_false(load(unit_write("bad.vkx", bytes, size), model, &loaded));
    unit_assert_line("bad.vkx: ", what);
    free(loaded.value);
}

// `from` in the header becomes `to`, of the same length, and the checksum fits again.
static void assert_edit(const struct model *model, const uint8_t *bytes, size_t size,
                        const char *from, const char *to, const char *what)
{
    uint8_t *copy = malloc(size);
    memcpy(copy, bytes, size);
    uint8_t *at = memmem(copy, size, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    fix_hash(copy, size);
    assert_refused(model, copy, size, what);
    free(copy);
}

static void damage_is_one_line(void **state)
{
    (void)state;
    if (!codec_available("this test")) skip();
    const char *folder, *out = unit_path("model.vkx");
    struct store model = make_folder(&folder);
    struct export_report report;
    for (int level = 0; level <= 3; level += 3) {
        size_t size;
        assert_true(export_run(&(struct export_params){folder, out, .level = level}, &report));
        uint8_t *bytes = (uint8_t *)unit_read(out, &size);
        for (size_t cut = 0; cut < size; cut += cut < 40 ? 1 : size / 23)
            assert_refused(model.model, bytes, cut, cut < 8 ? "magic" : "cut off");
        for (size_t at = 24; at < size; at += size / 17) {
            bytes[at] ^= 0x10;
            assert_refused(model.model, bytes, size, "checksum");
            bytes[at] ^= 0x10;
        }
        bytes[8] = 2;
        assert_refused(model.model, bytes, size, "version: found 2, this program reads 1");
        bytes[8] = 1;
        bytes[16] ^= 1;
        fix_hash(bytes, size);
        assert_refused(model.model, bytes, size, "data_bytes");
        bytes[16] ^= 1;
        fix_hash(bytes, size);
        const size_t middle = report.header_bytes + report.text_bytes;
        if (level == 0) { // a scale that is not finite: that of the head's first row
            const size_t head = size - EXPORT_HASH - report.kind[QUANT_INT8].bytes;
            const uint8_t old = bytes[head + 1];
            bytes[head + 1] = 0x7c;
            fix_hash(bytes, size);
            assert_refused(model.model, bytes, size, "lm_head.weight: row 0 is not finite");
            bytes[head + 1] = old;
            fix_hash(bytes, size);
        } else { // a stream that ends early
            uint8_t *cut = malloc(size);
            memcpy(cut, bytes, middle);
            fix_hash(cut, middle);
            assert_refused(model.model, cut, middle, "data");
            free(cut);
        }
        static const struct { const char *from, *to, *what; } edits[] = {
            {"\"shape\":[300,70]", "\"shape\":[301,70]", "embed_tokens.weight: bytes"},
            {"\"shape\":[300,70]", "\"shape\":[70,300]", "its config wants [300][70]"},
            {"\"shape\":[300,70]", "\"shape\":[-30,70]", "embed_tokens.weight: shape"},
            {"[300,70],\"name\":\"lm_head.weight\"", "[9e15,9e15],\"name\":\"lm_head.wei\"",
             "lm_head.wei: shape: [9000000000000000][9000000000000000] of int8 overflows"},
            {"\"shape\":[70,119]", "\"shape\":[9e18,9]", "shape"},
            {"\"kind\":\"f16\"", "\"kind\":\"f64\"", "kind: found f64"},
            {"\"kind\":\"int8\"", "\"kind\":\"int7\"", "bytes: found"},
            {"lm_head.weight", "lm_heed.weight", "lm_head.weight: missing"},
            {"\"compression\":\"", "\"compressiom\":\"", "compression"},
            {"\"packing\":\"bits\"", "\"packing\":\"bats\"", "packing"},
            {"\"prune\":0", "\"prune\":7", "prune"},
            {"\"config_bytes\":", "\"config_bytez\":", "config_bytes"},
            {"\"tensors\":", "\"tensorz\":", "tensors"},
            {"\"tensors\":[", "\"tensors\":]", "not valid JSON"},
        };
        for (size_t i = 0; i < COUNT_OF(edits); i++)
            assert_edit(model.model, bytes, size, edits[i].from, edits[i].to, edits[i].what);
        free(bytes);
    }
    free_store(&model);
}

// An element too large for its kind, an interrupted or failing write: the older file stays.
static void a_failed_export_leaves_nothing(void **state)
{
    (void)state;
    if (!codec_available("this test")) skip();
    const char *folder, *out = unit_write_text("model.vkx", "old");
    struct store model = make_folder(&folder);
    struct export_report report;
    const struct model_tensor *head = model_find(model.model, ROLE_HEAD, -1);
    model.value[head->offset + 71] = 1e9f;
    assert_true(weights_save(model.model, unit_path("model.safetensors"), get, &model, NULL, 0));
    assert_false(export_run(&(struct export_params){folder, out, .level = 1}, &report));
    unit_assert_line("lm_head.weight: element 70", "--bits lm_head.weight=f32");
    const struct export_params exact = {folder, unit_path("two.vkx"),
                                        .bits = "lm_head.weight=f32"};
    assert_true(export_run(&exact, &report));
    size_t size;
    char *text = unit_read(out, &size);
    assert_string_equal(text, "old");
    free(text);
    assert_false(export_run(&(struct export_params){unit_path("none"), out}, &report));
    unit_assert_line("none", "no folder of a model");
    assert_false(export_run(&(struct export_params){folder, unit_path("no/such/file")}, &report));
    unit_assert_line("no/such", "");
    free_store(&model);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        UNIT(packing_is_its_definition),
        UNIT(quantiles_are_those_of_a_sorted_list),
        UNIT(pruning_counts),
        UNIT(rows_keep_their_bound),
        UNIT(extremes_fit_or_are_refused),
        UNIT(kinds_go_by_name),
        UNIT(a_model_goes_through_a_file),
        UNIT(damage_is_one_line),
        UNIT(a_failed_export_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
