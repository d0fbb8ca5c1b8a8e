// SPDX-License-Identifier: MIT
// model.h: the parameter counts of the assets, names, places without overlap, initial values.
#include <math.h>

#include "tests/unit.h"

#include "src/model.h"

enum { SEGMENT = 128 << 20 };

static struct model *make(const char *asset, const char *const *set, int set_count,
                          uint64_t segment)
{
    char path[4096];
    struct config config;
    snprintf(path, sizeof path, "%s/assets/%s", UNIT_SOURCE_ROOT, asset);
    assert_true(config_read(&config, path, set, set_count));
    return model_create(&config, segment);
}

// H64LM's own losses in place of the balance and z-loss of its file, as assets/h64lm.md has them.
static const char *const h64lm_losses[] = {
    "router_aux_loss_coef=0", "router_z_loss_coef=0", "router_variance_coef=0.01",
    "router_mean_entropy_coef=0.002", "router_z_square_coef=0.001", "router_loss_layers=all"};

static void h64lm_has_its_losses(void **state)
{
    (void)state;
    struct model *model = make("h64lm.json", h64lm_losses, COUNT_OF(h64lm_losses), SEGMENT);
    assert_non_null(model);
    assert_int_equal(model->parameters, 249720576);
    const struct config *c = &model->config;
    assert_true(c->router.temperature == 2 && c->init == CONFIG_INIT_H64LM);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        assert_int_equal(c->moe_layer[i], i % 2); // layers 1, 3 and 5
        if (!c->moe_layer[i]) continue;
        const struct config_router *router = &c->layer_router[i];
        assert_true(router->variance_coef == 0.01 && router->mean_entropy_coef == 0.002 &&
                    router->z_square_coef == 0.001 && router->balance_coef == 0);
        assert_false(router->norm_topk_prob);
    }
    model_destroy(&model);
}

static void assets_have_their_parameters(void **state)
{
    (void)state;
    static const struct { const char *asset; uint64_t parameters, active; } wanted[] = {
        {"h64lm.json", 249720576, 249720576 - 3 * 6 * 7077888ull}, // as the run of H64LM printed
        {"tiny.json", 1054848, 465024},
        {"shakespeare-dense.json", 824960, 824960},
        {"shakespeare-moe.json", 2414208, 829056},
        {"softmoe.json", 25519185, 25519185}, // all experts on all tokens
        {"some.json", 49116, 49116},          // as many as may pass the threshold
        {"olmoe-15m.json", 15747840, 4737792},
        // 20,480 experts of three 4 x 128, their signatures, ten dense layers and one's attention
        {"arche3-small.json", 36157825, 36157825 - 20476 * 3 * 4 * 128ull},
    };
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        struct model *model = make(wanted[i].asset, NULL, 0, SEGMENT);
        assert_non_null(model);
        assert_int_equal(model->parameters, wanted[i].parameters);
        assert_int_equal(model->active, wanted[i].active);
        model_destroy(&model);
        assert_null(model);
        model_destroy(&model);
    }
    // 20,480 experts of three 51 x 2048, which no device takes as one stack
    struct config arche3;
    assert_true(config_read(&arche3, UNIT_SOURCE_ROOT "/assets/arche3.json", NULL, 0));
    struct model *streamed = model_create_streamed(&arche3, 1 << 30);
    assert_non_null(streamed);
    assert_int_equal(streamed->parameters, 7047542785);
    assert_int_equal(streamed->active, 7047542785 - 20476 * 3 * 51 * 2048ull);
    model_destroy(&streamed);
    const char *const ten[] = {"num_experts=10"}; // SOME's other checkpoint
    struct model *model = make("some.json", ten, 1, SEGMENT);
    assert_int_equal(model->parameters, 57630);
    model_destroy(&model);
}

// As PR 660 of openai/parameter-golf counts 9, 10 and 11 layers, the last two of them soft MoE.
static void soft_moe_has_its_parameters_at_any_depth(void **state)
{
    (void)state;
    static const struct { const char *layers, *dense; uint64_t parameters; } depth[] = {
        {"num_hidden_layers=9", "mlp_only_layers=[0,1,2,3,4,5,6]", 23157321},
        {"num_hidden_layers=10", "mlp_only_layers=[0,1,2,3,4,5,6,7]", 25519185},
        {"num_hidden_layers=11", "mlp_only_layers=[0,1,2,3,4,5,6,7,8]", 27880537},
        // dense: two experts of 768 are one body of 1,536, less two routers
        {"num_experts=0", "mlp_only_layers=[]", 25517137},
    };
    for (size_t i = 0; i < COUNT_OF(depth); i++) {
        struct model *model =
            make("softmoe.json", (const char *const[]){depth[i].layers, depth[i].dense}, 2,
                 SEGMENT);
        assert_int_equal(model->parameters, depth[i].parameters);
        model_destroy(&model);
    }
}

static void repeated_layers_have_one_set_of_weights(void **state)
{
    (void)state;
    const char *const set[] = {"model_type=vkmoe", "layer_repeats=[1,2,2]", "num_hidden_layers=5"};
    const char *const plain[] = {"model_type=vkmoe", "num_hidden_layers=3"};
    struct model *repeats = make("tiny.json", set, COUNT_OF(set), SEGMENT),
                 *three = make("tiny.json", plain, COUNT_OF(plain), SEGMENT);
    assert_int_equal(repeats->parameters, three->parameters);
    assert_ptr_equal(model_find(repeats, ROLE_Q, 3), model_find(repeats, ROLE_Q, 1));
    assert_ptr_equal(model_find(repeats, ROLE_EXPERT_UP, 4),
                     model_find(repeats, ROLE_EXPERT_UP, 2));
    assert_null(model_find(repeats, ROLE_Q, 5));
    model_destroy(&repeats), model_destroy(&three);
}

// Largest difference between the products of all rows (columns, where these are fewer) and 1 or 0.
static double worst_product(const float *a, uint32_t rows, uint32_t cols, double factor)
{
    const bool wide = rows <= cols;
    const uint32_t few = wide ? rows : cols, many = wide ? cols : rows;
    double worst = 0;
    for (uint32_t i = 0; i < few; i++)
        for (uint32_t j = 0; j <= i; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < many; k++)
                sum += wide ? (double)a[i * cols + k] * (double)a[j * cols + k]
                            : (double)a[k * cols + i] * (double)a[k * cols + j];
            worst = fmax(worst, fabs(sum / (factor * factor) - (i == j)));
        }
    return worst;
}

// PR 660's: Muon for the matrices of blocks and the hash's projection, AdamW at another rate for
// tables, decay for all.
static void softmoe_trains_as_its_source(void **state)
{
    (void)state;
    struct model *model = make("softmoe.json", NULL, 0, SEGMENT);
    uint32_t muon = 0;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        const struct model_group *group = &model->group[tensor->group];
        const bool table = tensor->role == ROLE_EMBED || tensor->role == ROLE_HASH,
                   adamw = table || tensor->role == ROLE_ROUTER || model_tensor_rank(tensor) == 1;
        assert_int_equal(group->optim, adamw ? CONFIG_ADAMW : CONFIG_MUON);
        unit_assert_near(group->rate, table ? 1.5 : 1, 1e-12);
        unit_assert_near(group->weight_decay, 0.04, 1e-12);
        muon += !adamw;
    }
    assert_int_equal(muon, 10 * 4 + 8 * 2 + 2 * 2 + 1);
    const struct config *c = &model->config;
    assert_true(c->ema_decay == 0.998 && c->average_start == 0.4 && c->max_grad_norm == 0.3);
    model_destroy(&model);
}

static void orthogonal_matrices_are(void **state)
{
    (void)state;
    struct model *model = make("softmoe.json", NULL, 0, SEGMENT);
    static float value[768 * 512], part[1000];
    static const struct { enum model_role role; int32_t layer; uint32_t expert; double factor; }
        some[] = {{ROLE_Q, 3, 0, 1}, {ROLE_K, 0, 0, 1}, {ROLE_EXPERT_UP, 9, 1, 1},
                  {ROLE_HASH_PROJ, -1, 0, 0.22360679774997896}}; // 1 / sqrt(2 layers)
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        const struct model_tensor *t = model_find(model, some[i].role, some[i].layer);
        const uint64_t size = (uint64_t)t->rows * t->cols;
        model_init_values(model, t, some[i].expert * size, size, value);
        assert_true(worst_product(value, t->rows, t->cols, some[i].factor) < 1e-6);
        model_init_values(model, t, some[i].expert * size + 777, 1000, part);
        assert_memory_equal(part, value + 777, sizeof part); // any part gives the same
    }
    static const enum model_role zero[] = {ROLE_O, ROLE_DOWN, ROLE_SMEAR, ROLE_MIX_EMBED};
    for (size_t i = 0; i < COUNT_OF(zero); i++) {
        model_init_values(model, model_find(model, zero[i], zero[i] == ROLE_SMEAR ? -1 : 0), 3, 100,
                          part);
        for (int k = 0; k < 100; k++) assert_true(part[k] == 0);
    }
    model_init_values(model, model_find(model, ROLE_Q_GAIN, 0), 0, 8, part);
    assert_true(part[0] == 1.5f && part[7] == 1.5f);
    model_destroy(&model);
}

static void truncated_values_end_at_two_deviations(void **state)
{
    (void)state;
    struct model *model = make("some.json", NULL, 0, SEGMENT);
    const struct model_tensor *t = model_find(model, ROLE_Q, 0);
    static float value[64 * 64];
    double square = 0, most = 0;
    model_init_values(model, t, 0, 64 * 64, value);
    for (int i = 0; i < 64 * 64; i++) {
        square += (double)value[i] * (double)value[i];
        most = fmax(most, fabs((double)value[i]));
    }
    unit_assert_near(sqrt(square / (64 * 64)) * 8, 1, 0.05); // 1 / sqrt(fan_in)
    assert_true(most * 8 <= 2 / 0.8796 && most * 8 > 2.1);
    model_destroy(&model);
}

static void assert_name(const struct model *model, enum model_role role, int32_t layer,
                        uint32_t expert, const char *wanted)
{
    char name[128];
    const struct model_tensor *tensor = model_find(model, role, layer);
    assert_non_null(tensor);
    model_tensor_name(tensor, expert, name, sizeof name);
    assert_string_equal(name, wanted);
}

static void names_are_hugging_faces(void **state)
{
    (void)state;
    struct model *mixtral = make("tiny.json", NULL, 0, SEGMENT),
                 *h64lm = make("h64lm.json", NULL, 0, SEGMENT);
    const char *const set[] = {"model_type=qwen3_moe", "moe_intermediate_size=32",
                               "tie_word_embeddings=true"};
    struct model *qwen = make("tiny.json", set, COUNT_OF(set), SEGMENT);
    assert_name(mixtral, ROLE_EMBED, -1, 0, "model.embed_tokens.weight");
    assert_name(mixtral, ROLE_ROUTER, 3, 0, "model.layers.3.block_sparse_moe.gate.weight");
    assert_name(mixtral, ROLE_EXPERT_GATE, 0, 7,
                "model.layers.0.block_sparse_moe.experts.7.w1.weight");
    assert_name(mixtral, ROLE_EXPERT_UP, 0, 7,
                "model.layers.0.block_sparse_moe.experts.7.w3.weight");
    assert_name(mixtral, ROLE_EXPERT_DOWN, 0, 7,
                "model.layers.0.block_sparse_moe.experts.7.w2.weight");
    assert_name(mixtral, ROLE_HEAD, -1, 0, "lm_head.weight");
    assert_null(model_find(mixtral, ROLE_Q_NORM, 0));
    assert_name(qwen, ROLE_EXPERT_DOWN, 1, 5, "model.layers.1.mlp.experts.5.down_proj.weight");
    assert_name(qwen, ROLE_ROUTER, 1, 0, "model.layers.1.mlp.gate.weight");
    assert_name(qwen, ROLE_Q_NORM, 2, 0, "model.layers.2.self_attn.q_norm.weight");
    assert_null(model_find(qwen, ROLE_HEAD, -1));
    assert_name(h64lm, ROLE_GATE, 0, 0, "model.layers.0.mlp.gate_proj.weight");
    assert_name(h64lm, ROLE_EXPERT_GATE, 1, 0, "model.layers.1.mlp.experts.0.gate_proj.weight");
    assert_null(model_find(h64lm, ROLE_GATE, 1));
    assert_null(model_find(h64lm, ROLE_ROUTER, 0));
    model_destroy(&mixtral), model_destroy(&qwen), model_destroy(&h64lm);
}

static void tensors_lie_in_segments_without_overlap(void **state)
{
    (void)state;
    struct model *model =
        make("h64lm.json", NULL, 0, 99 << 20); // the head, 93.75 MiB, and little else
    uint64_t parameters = 0, end = 0;
    uint32_t segment = 0;
    assert_int_equal(model->group_count, 3); // decay, decay by expert, none
    for (uint32_t i = 0; i < model->group_count * model->tensor_count; i++) { // group by group
        const struct model_tensor *tensor = &model->tensor[i % model->tensor_count];
        if (tensor->group != i / model->tensor_count) continue;
        assert_true(model->group[tensor->group].by_expert == (tensor->experts > 0));
        assert_true((model->group[tensor->group].weight_decay > 0) == tensor->decay);
        if (tensor->segment != segment) {
            assert_int_equal(tensor->segment, segment + 1);
            assert_int_equal(model->segment_elements[segment], align_up(end, MODEL_ALIGN));
            segment++, end = 0;
        }
        assert_true(tensor->offset >= end && tensor->offset % MODEL_ALIGN == 0);
        assert_int_equal(tensor->count,
                         (uint64_t)max_u32(tensor->experts, 1) * tensor->rows * tensor->cols);
        end = tensor->offset + tensor->count;
        assert_true(end * sizeof(float) <= 99 << 20);
        assert_ptr_equal(model_find(model, tensor->role, tensor->layer), tensor);
        parameters += tensor->count;
    }
    assert_int_equal(segment + 1, model->segment_count);
    assert_int_equal(parameters, model->parameters);
    model_destroy(&model);
    assert_null(make("h64lm.json", NULL, 0, 90 << 20));
    unit_assert_line("tensor model.embed_tokens.weight", "98304000 bytes");
}

static void weight_decay_spares_norms_and_asks_for_embeddings(void **state)
{
    (void)state;
    for (int decay = 0; decay < 2; decay++) {
        const char *const set[] = {decay ? "embedding_weight_decay=true"
                                         : "embedding_weight_decay=false"};
        struct model *model = make("tiny.json", set, 1, SEGMENT);
        for (uint32_t i = 0; i < model->tensor_count; i++) {
            const struct model_tensor *tensor = &model->tensor[i];
            const bool norm = model_tensor_rank(tensor) == 1, embed = tensor->role == ROLE_EMBED;
            assert_int_equal(tensor->decay, norm ? false : embed ? decay : true);
            assert_true(norm ? tensor->init_value == 1 && tensor->init_std == 0
                             : tensor->init_value == 0 && tensor->init_std > 0);
        }
        model_destroy(&model);
    }
}

static double deviation(const struct model *model, enum model_role role, int32_t layer)
{
    enum { N = 20000 };
    static float values[N];
    double sum = 0, squares = 0;
    model_init_values(model, model_find(model, role, layer), 1000, N, values);
    for (int i = 0; i < N; i++) sum += values[i], squares += (double)values[i] * values[i];
    assert_true(fabs(sum / N) < 4 * sqrt(squares / N / N));
    return sqrt(squares / N);
}

static void initial_values_follow_their_rules(void **state)
{
    (void)state;
    struct model *h64lm = make("h64lm.json", NULL, 0, SEGMENT),
                 *tiny = make("tiny.json", NULL, 0, SEGMENT);
    const double close = 0.02; // 4 sigma of a deviation from 20000 values
    // sigma = 0.02 sqrt(2 / (depth + 1)) / sqrt(fan_in); depth = layer + 1, head 0; embedding 0.02
    // / sqrt(768)
    unit_assert_near(deviation(h64lm, ROLE_EMBED, -1) / (0.02 / sqrt(768)), 1, close);
    unit_assert_near(deviation(h64lm, ROLE_Q, 0) / (0.02 / sqrt(768)), 1, close);
    unit_assert_near(deviation(h64lm, ROLE_EXPERT_DOWN, 5) / (0.02 * sqrt(2.0 / 7) / sqrt(3072)), 1,
                     close);
    unit_assert_near(deviation(h64lm, ROLE_HEAD, -1) / (0.02 * sqrt(2) / sqrt(768)), 1, close);
    unit_assert_near(deviation(tiny, ROLE_EXPERT_UP, 2) / 0.02, 1, close);
    unit_assert_near(deviation(tiny, ROLE_EXPERT_DOWN, 2) / (0.02 / sqrt(8)), 1, close);
    // any part in any order gives the same values, other tensors and seeds give others
    const struct model_tensor *tensor = model_find(tiny, ROLE_EXPERT_UP, 2);
    static float whole[1000], part[1000], other[1000];
    model_init_values(tiny, tensor, 0, 1000, whole);
    for (uint64_t i = 1000; i-- > 0;) model_init_values(tiny, tensor, i, 1, &part[i]);
    assert_memory_equal(whole, part, sizeof whole);
    model_init_values(tiny, model_find(tiny, ROLE_EXPERT_GATE, 2), 0, 1000, other);
    assert_memory_not_equal(whole, other, sizeof whole);
    tiny->config.seed++;
    model_init_values(tiny, tensor, 0, 1000, other);
    assert_memory_not_equal(whole, other, sizeof whole);
    model_init_values(tiny, model_find(tiny, ROLE_NORM_FINAL, -1), 5, 3, other);
    assert_true(other[0] == 1 && other[2] == 1);
    model_destroy(&h64lm), model_destroy(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(assets_have_their_parameters),
        UNIT(h64lm_has_its_losses),
        UNIT(names_are_hugging_faces),
        UNIT(tensors_lie_in_segments_without_overlap),
        UNIT(weight_decay_spares_norms_and_asks_for_embeddings),
        UNIT(initial_values_follow_their_rules),
        UNIT(soft_moe_has_its_parameters_at_any_depth),
        UNIT(repeated_layers_have_one_set_of_weights),
        UNIT(softmoe_trains_as_its_source),
        UNIT(orthogonal_matrices_are),
        UNIT(truncated_values_end_at_two_deviations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
