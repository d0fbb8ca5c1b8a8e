// SPDX-License-Identifier: MIT
// The viewer's pictures, on pixels: known loads give known colours in known rows, a dead and an
// overloaded expert are both seen, no text leaves its place at any size, what the mouse is over is
// told, and a run that lacks something says so.
#include "tests/view/pixels.h"
#include "tests/view/planted.h"
#include "src/tokenizer.h"
#include "tools/view/main.h"

enum { EXPERTS = 6, STEPS = 40 };
static const float uneven[EXPERTS] = {24, 0, 6, 6, 6, 6}; // of 48: 3 times a fair load, none, 0.75

static void write_metrics(uint32_t steps, bool alarm)
{
    FILE *file = fopen(unit_path("metrics.jsonl"), "wb");
    for (uint32_t step = 1; step <= steps; step++)
        fprintf(file, "{\"step\": %u, \"loss\": %g, \"lr\": 0.001, \"grad_norm\": 1.5, "
                      "\"tokens_per_s\": 1000, \"device_bytes\": 123456789, \"host_bytes\": 1e9, "
                      "\"layers\": [{\"layer\": 0, \"entropy\": 0.9, \"max_share\": 0.5, "
                      "\"max_expert\": 0%s}]}\n{\"step\": %u, \"eval_loss\": 4.5, \"bpb\": "
                      "3.5}\n",
                step, 5.0 / step, alarm && step == 20 ? ", \"alarm\": true" : "", step);
    fclose(file);
}

static void write_places(const struct config *c)
{
    struct trace_writer *w = trace_create(&(struct trace_params){
        .path = unit_path("residency.trace"), .config = c, .residency = true});
    uint8_t place[EXPERTS];
    assert_non_null(w);
    for (uint32_t step = 1; step <= STEPS; step++) {
        trace_stream(w, step, &(struct trace_stream){.hits = 3, .misses = 1, .wait_us = 1000});
        for (uint32_t e = 0; e < EXPERTS; e++) place[e] = (uint8_t)e;
        for (uint32_t l = 0; l < c->num_hidden_layers; l++) trace_residency(w, step, l, place);
        assert_true(trace_flush(w));
    }
    trace_close(&w);
}

static void write_plan(void)
{
    unit_write_text("plan.json",
        "{\"device\": \"a device with a rather long name\", \"tokens\": 1024, \"peaks\": "
        "{\"copy_gbps\": 10, \"fma_gflops\": 100}, \"plans\": [{\"name\": \"train\", \"times\": 2, "
        "\"ms\": 4, \"steps\": [{\"kernel\": \"matmul\", \"variant\": \"flat\", \"section\": "
        "\"layer 0\", \"layer\": 0, \"start\": 0, \"ms\": 3, \"flop\": 150e6, \"bytes\": 3e6}, "
        "{\"kernel\": \"norm\", \"variant\": \"flat\", \"section\": \"layer 0\", \"layer\": 0, "
        "\"start\": 3, \"ms\": 1, \"flop\": 0, \"bytes\": 5e6}]}]}");
}

// A run that has something for every panel.
static void write_run(void)
{
    const struct config c = planted_config(2, EXPERTS, 2, 24);
    struct trace_writer *w = planted_trace(&c);
    for (uint32_t step = 1; step <= STEPS; step++) planted_step(w, &c, step, uneven);
    trace_close(&w);
    write_metrics(STEPS, true);
    write_places(&c);
    write_plan();
    struct tokenizer *bytes = tokenizer_create_bytes();
    assert_true(tokenizer_save(bytes, unit_path("tokenizer.json")));
    tokenizer_destroy(&bytes);
}

static void open_view(struct view *v)
{
    struct history *h = history_open(unit_folder);
    assert_non_null(h);
    history_poll(h, 0);
    view_init(v, h);
}

static void close_view(struct view *v) { view_close(v); }

static bool alike(colour a, colour b) // a table of 256 shades lies between
{
    for (int shift = 0; shift <= 16; shift += 8)
        if (abs((int)(a >> shift & 255) - (int)(b >> shift & 255)) > 2) return false;
    return true;
}

// ---- known loads, known colours

// Heights of the runs of alike colours down a line.
struct run { colour colour; int height, y; };

static int runs_of(const struct canvas *c, int x, struct run *run, int most)
{
    int count = 0;
    for (int y = 0; y < c->height; y++) {
        const colour own = c->pixels[y * c->width + x];
        if (count && own == run[count - 1].colour) run[count - 1].height++;
        else if (count < most) run[count++] = (struct run){own, 1, y};
    }
    return count;
}

static const struct run *find_run(const struct run *run, int count, colour wanted)
{
    for (int i = 0; i < count; i++)
        if (alike(run[i].colour, wanted) && run[i].height > 8) return &run[i];
    return NULL;
}

static void rows_have_the_colours_of_their_loads(bool light)
{
    struct view v;
    struct run run[400];
    write_run();
    open_view(&v);
    if (light) v.theme = theme_light();
    v.panel = PANEL_EXPERTS;
    view_go(&v, STEPS - 5); // the slider's line out of the way
    struct canvas *c = canvas_of(1280, 720, 1);
    view_draw(&v, c, 0);
    for (int x = 100; x <= 700; x += 150) {
        const int count = runs_of(c, x, run, COUNT_OF(run));
        const struct run *most = find_run(run, count, colour_load(3));
        const struct run *none = find_run(run, count, v.theme->dead);
        const struct run *rest = find_run(run, count, colour_load(0.75f));
        assert_true(most && none && rest);
        // expert 0, below it expert 1, below it the four alike
        assert_int_equal(none->y, most->y + most->height);
        assert_int_equal(rest->y, none->y + none->height);
        assert_in_range(rest->height, 4 * none->height - 4, 4 * none->height + 4);
        assert_in_range(most->height, none->height - 1, none->height + 1);
    }
    canvas_destroy(&c);
    close_view(&v);
}

static void loads_have_their_colours(void **state)
{
    (void)state;
    rows_have_the_colours_of_their_loads(false);
    rows_have_the_colours_of_their_loads(true);
}

static void a_change_is_seen_at_its_step(void **state)
{
    (void)state;
    const struct config config = planted_config(1, EXPERTS, 2, 0);
    const float later[EXPERTS] = {0, 24, 6, 6, 6, 6};
    struct trace_writer *w = planted_trace(&config);
    for (uint32_t step = 1; step <= 100; step++)
        planted_step(w, &config, step, step <= 50 ? uneven : later);
    trace_close(&w);
    struct view v;
    open_view(&v);
    v.panel = PANEL_EXPERTS;
    view_go(&v, 1);
    struct canvas *c = canvas_of(1280, 720, 1);
    view_draw(&v, c, 0);
    // along the row of expert 0: overloaded, then dead, each half of it
    int y = 0, loaded = 0, dead = 0;
    struct run run[400];
    const int count = runs_of(c, 200, run, COUNT_OF(run));
    const struct run *row = find_run(run, count, colour_load(3));
    assert_non_null(row);
    y = row->y + row->height / 2;
    for (int x = 0; x < 900; x++) { // the bars lie behind
        const colour own = c->pixels[y * c->width + x];
        loaded += alike(own, colour_load(3)), dead += own == v.theme->dead;
    }
    assert_in_range(loaded, 480, 530);
    assert_in_range(dead, 300, 530);
    canvas_destroy(&c);
    close_view(&v);
}

static void cividis_is_even(void **state)
{
    (void)state;
    // dark blue, grey, yellow; never darker than before, so that it reads without colours too
    assert_true(alike(colour_map(0), 0xff002051) && alike(colour_map(1), 0xfffdea45));
    double last = -1;
    for (int i = 0; i <= 100; i++) {
        const colour own = colour_map((float)i / 100);
        const double light = 0.2126 * pow((own >> 16 & 255) / 255.0, 2.2) +
                             0.7152 * pow((own >> 8 & 255) / 255.0, 2.2) +
                             0.0722 * pow((own & 255) / 255.0, 2.2);
        assert_true(light > last - 1e-3);
        last = light;
    }
    unit_assert_near(colour_load_share(1), 0.5, 1e-6);
    unit_assert_near(colour_load_share(4), 1, 1e-6);
}

static void places_have_their_colours(void **state)
{
    (void)state;
    struct view v;
    write_run();
    open_view(&v);
    v.panel = PANEL_RESIDENCY;
    struct canvas *c = canvas_of(1280, 720, 1);
    view_draw(&v, c, 0);
    uint32_t seen[6] = {0};
    for (int i = 0; i < c->width * c->height; i++)
        for (uint32_t p = 0; p < 6; p++) seen[p] += c->pixels[i] == v.theme->place[p];
    for (uint32_t p = 0; p < 6; p++) assert_true(seen[p] > 300); // two cells and the legend
    canvas_destroy(&c);
    close_view(&v);
}

// ---- lines by their names

static void lines_have_their_names(void **state)
{
    (void)state;
    static const char *const names[] = {"training", "held out", "device", "host"};
    static const struct { int w, h; float scale; } sizes[] = {{1280, 720, 1}, {1920, 1200, 1.5f}};
    struct view v;
    write_run();
    open_view(&v);
    struct canvas *c = canvas_of(64, 64, 1);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_true(canvas_resize(c, sizes[i].w, sizes[i].h, sizes[i].scale));
        view_draw(&v, c, 0);
        for (size_t n = 0; n < COUNT_OF(names); n++)
            assert_true(is_written(c, FONT_SMALL, v.theme->panel, v.theme->dim, names[n]));
        // of one line alone the title is the name
        assert_false(is_written(c, FONT_SMALL, v.theme->panel, v.theme->dim, "learning rate"));
    }
    canvas_destroy(&c);
    close_view(&v);
}

// ---- sizes

static void check_sizes(struct view *v)
{
    static const struct { int w, h; float scale; } sizes[] = {
        {320, 240, 1}, {333, 251, 1}, {500, 700, 1}, {640, 480, 1}, {640, 480, 2}, {1280, 720, 1},
        {1280, 720, 1.5f}, {1920, 1080, 1.25f}, {3840, 2160, 2},
    };
    struct canvas *c = canvas_of(64, 64, 1);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (uint32_t p = 0; p <= PANEL_COUNT; p++) {
            assert_true(canvas_resize(c, sizes[i].w, sizes[i].h, sizes[i].scale));
            c->texts = c->outside = 0;
            v->panel = (enum panel)p;
            v->mouse = (struct view_mouse){.x = sizes[i].w / 2, .y = sizes[i].h / 2, .here = true};
            view_draw(v, c, 0);
            if (c->outside)
                fail_msg("%s at %d x %d: %s", panel_name((enum panel)p), sizes[i].w, sizes[i].h,
                         c->first_outside);
            assert_true(c->texts > 5);
        }
    canvas_destroy(&c);
}

static void a_text_outside_is_found(void **state)
{
    (void)state;
    struct canvas *c = canvas_of(200, 100, 1);
    const struct rect in = {10, 10, 100, 30}, out = {10, 30, 100, 20};
    const struct rect old = canvas_clip(c, in);
    assert_true(canvas_text(c, FONT_TEXT, in, ALIGN_LEFT, 0xffffffff, "inside") > 0);
    assert_int_equal(c->outside, 0);
    canvas_text(c, FONT_TEXT, out, ALIGN_LEFT, 0xffffffff, "outside");
    assert_int_equal(c->outside, 1);
    assert_non_null(strstr(c->first_outside, "outside"));
    canvas_unclip(c, old);
    // what does not fit is cut; what does not fit at all is not drawn
    const struct rect narrow = {10, 60, 40, 20}, none = {10, 60, 3, 20}, low = {10, 60, 80, 4};
    assert_in_range(canvas_text(c, FONT_TEXT, narrow, ALIGN_LEFT, ~0u, "a long text"), 10, 40);
    assert_int_equal(canvas_text(c, FONT_TEXT, none, ALIGN_LEFT, ~0u, "a long text"), 0);
    assert_int_equal(canvas_text(c, FONT_TEXT, low, ALIGN_LEFT, ~0u, "a long text"), 0);
    assert_int_equal(c->outside, 1);
    canvas_destroy(&c);
}

static void no_text_leaves_its_place(void **state)
{
    (void)state;
    struct view v;
    write_run();
    open_view(&v);
    check_sizes(&v);
    v.all_layers = true;
    v.theme = theme_light();
    view_zoom(&v, 20, 0.3);
    check_sizes(&v);
    v.help = true;
    check_sizes(&v);
    close_view(&v);
    unit_assert_silent();
}

static void runs_that_lack_something_say_so(void **state)
{
    (void)state;
    struct view v;
    write_metrics(3, false); // no trace at all
    open_view(&v);
    check_sizes(&v);
    close_view(&v);
    const struct config c = planted_config(2, EXPERTS, 1, 0); // no tokens, no metrics
    struct trace_writer *w = planted_trace(&c);
    planted_step(w, &c, 1, uneven);
    trace_close(&w);
    assert_int_equal(remove(unit_path("metrics.jsonl")), 0);
    open_view(&v);
    check_sizes(&v);
    close_view(&v);
    w = planted_trace(&c); // a run that has just begun
    trace_close(&w);
    open_view(&v);
    check_sizes(&v);
    close_view(&v);
    unit_write_text("plan.json", "{\"plans\": 3}");
    open_view(&v);
    v.panel = PANEL_PLAN;
    struct canvas *canvas = canvas_of(640, 480, 1);
    view_draw(&v, canvas, 0);
    view_draw(&v, canvas, 0);
    canvas_destroy(&canvas);
    close_view(&v);
    unit_assert_line("plan.json", "not the plans of a training step");
}

// ---- the mouse

// Whether somewhere over a panel the mouse is told that text.
static bool is_told(struct view *v, struct canvas *c, enum panel panel, const char *wanted)
{
    v->panel = panel;
    for (int y = 40; y < 660; y += 20)
        for (int x = 20; x < 1260; x += 60) {
            v->mouse = (struct view_mouse){.x = x, .y = y, .here = true};
            view_draw(v, c, 0);
            if (strstr(v->tip, wanted)) return true;
        }
    return false;
}

static void what_the_mouse_is_over_is_told(void **state)
{
    (void)state;
    static const char *const wanted[PANEL_COUNT] = {
        "training: ", "expert 0\nstep ", "gate 0.500", "times chance",
        "expert 3: on the device", "GFLOP/s, 50 %"};
    struct view v;
    write_run();
    open_view(&v);
    struct canvas *c = canvas_of(1280, 720, 1);
    for (uint32_t p = 0; p < PANEL_COUNT; p++)
        if (!is_told(&v, c, (enum panel)p, wanted[p]))
            fail_msg("panel %s never says %s", panel_name((enum panel)p), wanted[p]);
    uint32_t step;
    double loss;
    assert_true(is_told(&v, c, PANEL_OVERVIEW, "training: "));
    assert_int_equal(sscanf(v.tip, "step %u\ntraining: %lf", &step, &loss), 2);
    unit_assert_near(loss, 5.0 / step, 1e-3);
    canvas_destroy(&c);
    close_view(&v);
}

// The token that is told of at a place of the tokens' panel; -1: none.
static int token_at(struct view *v, struct canvas *c, int x, int y)
{
    int token = -1;
    v->mouse = (struct view_mouse){.x = x, .y = y, .here = true};
    view_draw(v, c, 0);
    const char *found = strstr(v->tip, ", token ");
    return found && sscanf(found, ", token %d", &token) == 1 ? token : -1;
}

static void turn_wheel(struct view *v, struct canvas *c, int wheel)
{
    v->mouse = (struct view_mouse){.x = 40, .y = 200, .here = true, .wheel = wheel};
    view_draw(v, c, 0);
    assert_int_equal(view_pending(v), v->again); // it asks for the frame that shows it
}

// The first and the last token that begin a line.
struct seen { int first, last; };

static struct seen seen_tokens(struct view *v, struct canvas *c)
{
    struct seen seen = {-1, -1};
    for (int y = 40; y < c->height - 40; y += 6) {
        const int own = token_at(v, c, 24, y);
        if (seen.first < 0) seen.first = own;
        if (own >= 0) seen.last = own;
    }
    return seen;
}

static void a_long_text_scrolls(void **state)
{
    (void)state;
    enum { TOKENS = 300 };
    const struct config config = planted_config(2, EXPERTS, 2, TOKENS);
    struct trace_writer *w = planted_trace(&config);
    planted_step(w, &config, 1, uneven);
    trace_close(&w);
    struct view v;
    open_view(&v);
    v.panel = PANEL_TOKENS;
    struct canvas *c = canvas_of(700, 600, 1), *first = canvas_of(700, 600, 1);
    view_draw(&v, first, 0);
    const struct seen top = seen_tokens(&v, c);
    assert_true(top.first == 0 && top.last > 8 && top.last < TOKENS / 2);
    turn_wheel(&v, c, -1);
    const struct seen below = seen_tokens(&v, c);
    assert_true(below.first > 0 && below.first < top.last && below.last > top.last);
    const int before = v.scroll;
    v.pages = 1;
    view_draw(&v, c, 0);
    assert_true(v.scroll > before + 300 && v.pages == 0);
    turn_wheel(&v, c, -100000); // to the end, and no further
    const int end = v.scroll;
    turn_wheel(&v, c, -1);
    assert_int_equal(v.scroll, end);
    assert_true(seen_tokens(&v, c).last >= TOKENS - 3); // of its last line
    assert_int_equal(v.layer, 0);
    turn_wheel(&v, c, 100000); // back: the same picture
    v.mouse.here = false;
    view_draw(&v, c, 0);
    assert_memory_equal(c->pixels, first->pixels, (size_t)700 * 600 * sizeof *c->pixels);
    assert_true(canvas_resize(c, 700, 12000, 1)); // all of it is seen: the wheel is the layers'
    turn_wheel(&v, c, -1);
    assert_int_equal(v.layer, 1);
    assert_int_equal(v.scroll, 0);
    canvas_destroy(&c);
    canvas_destroy(&first);
    close_view(&v);
}

int main(void)
{
    struct canvas *c = canvas_create(8, 8, 1, NULL);
    if (!c) return 77; // no font, which it has said
    canvas_destroy(&c);
    const struct CMUnitTest tests[] = {
        UNIT(loads_have_their_colours),
        UNIT(a_change_is_seen_at_its_step),
        UNIT(cividis_is_even),
        UNIT(places_have_their_colours),
        UNIT(a_text_outside_is_found),
        UNIT(no_text_leaves_its_place),
        UNIT(runs_that_lack_something_say_so),
        UNIT(what_the_mouse_is_over_is_told),
        UNIT(lines_have_their_names),
        UNIT(a_long_text_scrolls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
