// SPDX-License-Identifier: MIT
// What is drawn is what was routed: a run is trained (so slowly that its weights stay), its traced
// tokens go through the model once more, and what the routers pick is what the viewer tells and
// paints, expert by expert; and so for a text that the viewer has the model read.
#include "tests/unit.h"

#include "src/evaluator.h"
#include "src/vkmoe_internal.h"
#include "tools/view/main.h"

enum { EXPERTS = 8, LAYERS = 2, TOKENS = 64, STEPS = 3 };

static const char *const settings[] = {
    "hidden_size=32", "intermediate_size=16", "num_hidden_layers=2", "num_attention_heads=2",
    "num_key_value_heads=1", "head_dim=16", "seq_len=32", "batch_size=2", "learning_rate=1e-20",
    "min_learning_rate=1e-20", "weight_decay=0", "trace_tokens=64", "save_every=3",
    "router_aux_loss_coef=0"};

static void train(const char *out)
{
    static const char *const data[] = {"toy:copy,toy:sort"};
    struct vkmoe_train_outcome outcome;
    assert_true(vkmoe_train(
        &(struct vkmoe_train_params){.device = {.device = "ref", .untuned = true},
                                     .config = UNIT_SOURCE_ROOT "/assets/tiny.json",
                                     .set = settings, .set_count = COUNT_OF(settings),
                                     .steps = STEPS, .data = data, .data_count = 1, .out = out,
                                     .quiet = true}, &outcome));
}

// What the saved model's routers pick for those tokens.
static void route(const char *folder, const uint32_t *ids, uint32_t counts[LAYERS][EXPERTS])
{
    static uint32_t targets[TOKENS], picks[TOKENS * 8];
    static float gates[TOKENS * 8];
    double loss;
    uint64_t scored;
    struct vkmoe_device *device =
        vkmoe_device_open(&(struct vkmoe_device_params){.device = "ref", .untuned = true});
    struct vkmoe_model *model = device ? vkmoe_model_open(device, folder) : NULL;
    assert_non_null(model);
    struct evaluator *e =
        evaluator_create_picks(device->gpu, device->kernels, model->params, 2, 32);
    assert_true(evaluator_batch(e, &(struct batch){ids, targets}, &loss, &scored));
    memset(counts, 0, LAYERS * sizeof *counts);
    for (uint32_t l = 0; l < LAYERS; l++) {
        assert_true(evaluator_picks(e, l, picks, gates));
        for (uint32_t i = 0; i < 2 * TOKENS; i++)
            if (picks[i] < EXPERTS) counts[l][picks[i]]++;
    }
    evaluator_destroy(&e);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
}

static bool alike(colour a, colour b)
{
    for (int shift = 0; shift <= 16; shift += 8)
        if (abs((int)(a >> shift & 255) - (int)(b >> shift & 255)) > 2) return false;
    return true;
}

// Down the last step's column of a layer's map: the number told and the colour painted.
static void assert_painted(struct view *v, struct canvas *c, uint32_t layer,
                           const uint32_t counts[EXPERTS])
{
    uint32_t seen = 0;
    v->panel = PANEL_EXPERTS, v->layer = layer;
    for (int y = 60; y < 520; y += 7) {
        uint32_t number, expert, step;
        float load;
        v->mouse = (struct view_mouse){.x = 860, .y = y, .here = true};
        view_draw(v, c, 0);
        if (sscanf(v->tip, "layer %u, expert %u\nstep %u: %f", &number, &expert, &step, &load) != 4)
            continue;
        const float wanted = (float)counts[expert] * EXPERTS / (2 * TOKENS);
        assert_true(number == layer && step == STEPS && expert < EXPERTS);
        unit_assert_near(load, wanted, 0.006);
        v->mouse.here = false;
        view_draw(v, c, 0);
        const colour own = c->pixels[y * c->width + 860];
        const colour painted = counts[expert] ? colour_load(wanted) : v->theme->dead;
        if (!alike(own, painted))
            fail_msg("expert %u of layer %u: %08x, wanted %08x", expert, layer, own, painted);
        seen |= 1u << expert;
    }
    assert_int_equal(seen, (1u << EXPERTS) - 1);
}

static void what_is_drawn_is_what_was_routed(void **state)
{
    (void)state;
    const char *out = unit_path("run");
    struct history_tokens tokens;
    uint32_t counts[LAYERS][EXPERTS], told[EXPERTS];
    struct view v;
    train(out);
    struct view_options o = {.folder = out, .png = "", .layer = -1};
    assert_true(view_open(&v, &o));
    assert_true(v.history->steps == STEPS && v.history->layers == LAYERS);
    assert_true(history_tokens(v.history, STEPS - 1, &tokens));
    assert_int_equal(tokens.count, TOKENS);
    route(out, tokens.id, counts);
    struct canvas *c = canvas_create(1280, 720, 1, NULL);
    assert_non_null(c);
    view_go(&v, 1);
    for (uint32_t l = 0; l < LAYERS; l++) {
        assert_true(history_counts(v.history, STEPS - 1, l, told));
        assert_memory_equal(told, counts[l], sizeof told);
        assert_painted(&v, c, l, counts[l]);
    }
    canvas_destroy(&c);
    view_close(&v);
}

static void a_text_is_read_by_the_model(void **state)
{
    (void)state;
    const char *out = unit_path("run");
    char folder[4200], text[65];
    uint32_t counts[LAYERS][EXPERTS], told[EXPERTS];
    struct history_tokens tokens;
    struct view v;
    train(out);
    for (int i = 0; i < 63; i++) text[i] = (char)('a' + i * 7 % 26);
    text[63] = 0; // and the end of the document
    struct view_options o = {.folder = out, .png = "", .layer = -1, .device = "ref", .texts = 1,
                             .text = {unit_write_text("text.txt", text)}};
    assert_true(view_open(&v, &o));
    snprintf(folder, sizeof folder, "%s", v.own_folder);
    assert_int_equal(v.history->steps, 1);
    assert_true(history_tokens(v.history, 0, &tokens));
    assert_int_equal(tokens.count, TOKENS);
    assert_true(tokens.gate[0] && tokens.gate[0][0] > 0 && tokens.gate[0][0] <= 1);
    route(out, tokens.id, counts);
    for (uint32_t l = 0; l < LAYERS; l++) {
        assert_true(history_counts(v.history, 0, l, told));
        assert_memory_equal(told, counts[l], sizeof told);
    }
    view_close(&v);
    assert_int_not_equal(access(folder, F_OK), 0); // it goes away
    o.text[0] = unit_path("none");
    unit_log.lines = 0;
    assert_false(view_open(&v, &o));
    unit_assert_line("none", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(what_is_drawn_is_what_was_routed),
        UNIT(a_text_is_read_by_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
