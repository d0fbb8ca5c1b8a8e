// SPDX-License-Identifier: MIT
// Plots of numbers, on the pixels of the file that is saved: ticks and grid where the values are,
// curves through their points and nowhere else, bars as high as they say, cells as dark; what is
// not finite is left out, what has nothing to show is not named, and no text leaves its panel.
#include <png.h>

#include "tests/view/pixels.h"
#include "tools/plot.h"
#include "tools/view/colours.h"

enum { WIDTH = 480, HEIGHT = 320 };
static const colour first = 0xff0073b3, second = 0xffe69e00, darkest = 0xff00408c;
static const float scale = 1.1f; // of texts on a sheet

// What was saved, as a canvas. Ends the plot.
static struct canvas *picture_of(struct plot **plot)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    const char *path = unit_path("plot.png");
    assert_true(plot_save(plot, path));
    assert_null(*plot);
    assert_true(png_image_begin_read_from_file(&png, path));
    png.format = PNG_FORMAT_BGRA; // in memory as a colour lies on a machine of low bytes first
    struct canvas *c = canvas_of((int)png.width, (int)png.height, scale);
    assert_true(png_image_finish_read(&png, NULL, c->pixels, 0, NULL));
    return c;
}

static struct plot *sheet(uint32_t columns, uint32_t rows)
{
    struct plot *plot = plot_create(columns, rows, WIDTH, HEIGHT);
    assert_non_null(plot);
    return plot;
}

static colour at(const struct canvas *c, int x, int y)
{
    assert_true(x >= 0 && y >= 0 && x < c->width && y < c->height);
    return c->pixels[y * c->width + x];
}

static int farthest(colour a, colour b)
{
    int most = 0;
    for (int shift = 0; shift <= 16; shift += 8) {
        const int apart = abs((int)(a >> shift & 255) - (int)(b >> shift & 255));
        if (apart > most) most = apart;
    }
    return most;
}

// Pixels of a rectangle that are nearly of a colour: the edges of lines are mixed with what is
// below.
static int count_of(const struct canvas *c, struct rect r, colour ink)
{
    int count = 0;
    for (int y = r.y; y < r.y + r.h; y++)
        for (int x = r.x; x < r.x + r.w; x++) count += farthest(at(c, x, y), ink) < 60;
    return count;
}

// Whether there is nothing but paper.
static bool is_blank(const struct canvas *c, struct rect r)
{
    for (int y = r.y; y < r.y + r.h; y++)
        for (int x = r.x; x < r.x + r.w; x++)
            if (at(c, x, y) != theme_light()->panel) return false;
    return true;
}

// ---- the axes, found by their frame

struct axes { int left, top, right, bottom; };

// Of the panel whose upper left corner is given: the longest lines of the frame's colour.
static struct axes axes_of(const struct canvas *c, int panel_x, int panel_y)
{
    struct axes a = {-1, -1, -1, -1};
    for (int y = panel_y; y < panel_y + HEIGHT; y++)
        for (int x = panel_x, run = 0; x < panel_x + WIDTH; x++) {
            run = at(c, x, y) == theme_light()->dim ? run + 1 : 0;
            if (run < WIDTH / 3) continue;
            if (a.top < 0) a.top = y;
            a.bottom = y, a.left = x - run + 1, a.right = x;
        }
    assert_true(a.top > panel_y && a.bottom > a.top + HEIGHT / 3);
    return a;
}

// Of a value between those at the ends of an axis.
static int place(double value, double low, double high, int at_low, int at_high)
{
    return (int)lround(at_low + (value - low) / (high - low) * (at_high - at_low));
}

static struct rect around(int x, int y, int by)
{
    return (struct rect){x - by, y - by, 2 * by + 1, 2 * by + 1};
}

static bool is_text(struct canvas *c, const char *text)
{
    return is_written(c, FONT_SMALL, theme_light()->panel, theme_light()->text, text);
}

// ---- lines

static const double steps[] = {0, 50, 100}, peak[] = {0, 10, 5}, flat[] = {3, 3, 3};
// 4 % more than the values, above and below
static const double low = -0.4, high = 10.4;

static struct plot_chart chart_of(const char *title)
{
    return (struct plot_chart){title, "step", "height"};
}

static struct canvas *draw_two(struct axes *axes)
{
    const struct plot_series series[] = {{"peak", steps, peak, 3}, {"flat", steps, flat, 3}};
    const struct plot_chart chart = chart_of("Two");
    struct plot *plot = sheet(1, 1);
    plot_lines(plot, &chart, series, COUNT_OF(series));
    struct canvas *c = picture_of(&plot);
    assert_true(c->width == WIDTH && c->height == HEIGHT);
    *axes = axes_of(c, 0, 0);
    return c;
}

static void axes_are_where_the_values_are(void **state)
{
    (void)state;
    struct axes a;
    struct canvas *c = draw_two(&a);
    const struct theme *t = theme_light();
    int ticks = 0, lines = 0;
    for (int x = a.left; x <= a.right; x++) {
        if (at(c, x, a.bottom + 3) != t->dim) continue;
        assert_in_range(x, place(20 * ticks, 0, 100, a.left, a.right) - 1,
                        place(20 * ticks, 0, 100, a.left, a.right) + 1);
        ticks++;
    }
    assert_int_equal(ticks, 6);
    for (int y = a.bottom; y >= a.top; y--) {
        if (at(c, a.left + 12, y) != t->grid) continue;
        const int wanted = place(2 * lines++, low, high, a.bottom, a.top);
        assert_in_range(y, wanted - 1, wanted + 1);
    }
    assert_int_equal(lines, 6);
    static const char *const texts[] = {"0", "20", "100", "2", "10", "peak", "flat"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!is_text(c, texts[i])) fail_msg("%s is not written", texts[i]);
    assert_false(is_text(c, "12"));
    assert_true(is_written(c, FONT_TITLE, t->panel, t->text, "Two"));
    assert_true(is_written(c, FONT_SMALL, t->panel, t->dim, "step"));
    assert_true(is_written(c, FONT_SMALL, t->panel, t->dim, "height"));
    canvas_destroy(&c);
}

static void curves_go_through_their_points(void **state)
{
    (void)state;
    static const double on[][2] = {{2, 0.4}, {25, 5}, {50, 10}, {75, 7.5}, {98, 5.2}},
                        off[][2] = {{25, 8}, {50, 5}, {75, 9}, {5, 4}};
    struct axes a;
    struct canvas *c = draw_two(&a);
    for (size_t i = 0; i < COUNT_OF(on); i++) {
        const int x = place(on[i][0], 0, 100, a.left, a.right),
                  y = place(on[i][1], low, high, a.bottom, a.top),
                  level = place(3, low, high, a.bottom, a.top);
        if (!count_of(c, around(x, y, 2), first)) fail_msg("not through %g", on[i][0]);
        if (on[i][0] != 2) assert_true(count_of(c, around(x, level, 2), second) > 0);
    }
    for (size_t i = 0; i < COUNT_OF(off); i++) {
        const int x = place(off[i][0], 0, 100, a.left, a.right),
                  y = place(off[i][1], low, high, a.bottom, a.top);
        assert_int_equal(count_of(c, around(x, y, 3), first), 0);
    }
    canvas_destroy(&c);
}

// Ink of a colour within the axes, and elsewhere, where the names are.
static void inks(const struct canvas *c, colour ink, int *inside, int *beside)
{
    const struct axes a = axes_of(c, 0, 0);
    const struct rect all = {0, 0, WIDTH, HEIGHT},
                      in = {a.left, a.top, a.right - a.left + 1, a.bottom - a.top + 1};
    *inside = count_of(c, in, ink);
    *beside = count_of(c, all, ink) - *inside;
}

static struct canvas *draw_series(const struct plot_series *series, uint32_t count)
{
    const struct plot_chart chart = chart_of("Some");
    struct plot *plot = sheet(1, 1);
    plot_lines(plot, &chart, series, count);
    return picture_of(&plot);
}

static void what_is_not_finite_is_left_out(void **state)
{
    (void)state;
    static const double x[] = {0, 1, NAN, 3, 4}, y[] = {1, NAN, 7, INFINITY, 3},
                        two_x[] = {0, 4}, two_y[] = {1, 3};
    const struct plot_series holes = {"name", x, y, 5}, whole = {"name", two_x, two_y, 2};
    struct canvas *wanted = draw_series(&whole, 1), *got = draw_series(&holes, 1);
    // nor do they stretch the axes
    assert_memory_equal(got->pixels, wanted->pixels, WIDTH * HEIGHT * sizeof *got->pixels);
    canvas_destroy(&wanted), canvas_destroy(&got);
}

static void what_is_empty_is_not_named(void **state)
{
    (void)state;
    static const double none[] = {NAN, NAN, NAN};
    const struct plot_series series[] = {
        {"nothing", steps, none, 3}, {"flat", steps, flat, 3}, {"empty", NULL, NULL, 0}};
    int inside, beside;
    struct canvas *c = draw_series(series, COUNT_OF(series));
    inks(c, second, &inside, &beside); // its colour is that of its place in the list
    assert_true(inside > 100 && beside > 10);
    inks(c, first, &inside, &beside);
    assert_true(inside == 0 && beside == 0);
    assert_true(is_text(c, "flat") && !is_text(c, "nothing") && !is_text(c, "empty"));
    canvas_destroy(&c);
    c = draw_series(series, 1); // nothing at all: axes from 0 to 1
    inks(c, first, &inside, &beside);
    assert_true(inside == 0 && beside == 0 && is_text(c, "0.6") && !is_text(c, "1.2"));
    canvas_destroy(&c);
    c = draw_series(NULL, 0);
    assert_true(is_text(c, "0.6"));
    canvas_destroy(&c);
}

static void a_single_point_is_seen(void **state)
{
    (void)state;
    static const double x[] = {0, 5, 10}, y[] = {NAN, 3, NAN};
    const struct plot_series one = {"one", x, y, 3};
    struct canvas *c = draw_series(&one, 1);
    const struct axes a = axes_of(c, 0, 0);
    const struct rect middle = around((a.left + a.right) / 2, (a.top + a.bottom) / 2, 4);
    int inside, beside;
    inks(c, first, &inside, &beside);
    assert_true(inside >= 4 && count_of(c, middle, first) == inside && beside > 10);
    canvas_destroy(&c);
}

// ---- bars and cells

static void bars_are_as_high_as_they_say(void **state)
{
    (void)state;
    const struct plot_bar bar[] = {{"a", 4, NAN, 0}, {"b", -2, 0, 1}, {"lost", NAN, 0, 0},
                                   {"d", 1, 0, 0}};
    const struct plot_chart chart = chart_of("Bars");
    struct plot *plot = sheet(1, 1);
    plot_bars(plot, &chart, bar, COUNT_OF(bar));
    struct canvas *c = picture_of(&plot);
    const struct axes a = axes_of(c, 0, 0);
    int height[COUNT_OF(bar)];
    for (int i = 0; i < (int)COUNT_OF(bar); i++) {
        const int x = a.left + (2 * i + 1) * (a.right - a.left) / (2 * (int)COUNT_OF(bar));
        const struct rect column = {x, a.top, 1, a.bottom - a.top};
        height[i] = count_of(c, column, i == 1 ? second : first);
        assert_int_equal(count_of(c, column, i == 1 ? first : second), 0);
    }
    assert_true(height[0] > 50 && height[2] == 0);
    assert_in_range(2 * height[1], height[0] - 4, height[0] + 4);
    assert_in_range(4 * height[3], height[0] - 8, height[0] + 8);
    assert_true(is_text(c, "a") && is_text(c, "b") && is_text(c, "d") && !is_text(c, "lost"));
    canvas_destroy(&c);
}

static void cells_are_as_dark_as_they_say(void **state)
{
    (void)state;
    const double value[] = {0, 1, NAN, 0.5, 0.25, 1};
    const char *const columns[] = {"red", "green", "blue"};
    const struct plot_chart chart = chart_of("Cells");
    struct plot *plot = sheet(1, 1);
    plot_grid(plot, &chart, value, 2, 3, NULL, columns);
    struct canvas *c = picture_of(&plot);
    const struct axes a = axes_of(c, 0, 0);
    for (int i = 0; i < 6; i++) { // near a corner of the cell, beside its text
        const int x = a.left + (i % 3) * (a.right - a.left) / 3 + 5,
                  y = a.top + (i / 3) * (a.bottom - a.top) / 2 + 5;
        const float dark = isfinite(value[i]) ? (float)value[i] : 0;
        const colour wanted = colour_between(theme_light()->panel, darkest, dark);
        if (farthest(at(c, x, y), wanted) > 2)
            fail_msg("cell %d is %08x, wanted %08x", i, at(c, x, y), wanted);
    }
    for (size_t i = 0; i < COUNT_OF(columns); i++) assert_true(is_text(c, columns[i]));
    assert_true(is_text(c, "1") && !is_text(c, "nan"));
    assert_true(is_written(c, FONT_SMALL, darkest, colour_on(darkest), "1"));
    canvas_destroy(&c);
}

// ---- texts

// Of four panels the first alone was drawn into: all others are blank, and so are its edges.
static void assert_first_alone(struct plot *plot)
{
    struct canvas *c = picture_of(&plot);
    const struct rect other[] = {{WIDTH - 1, 0, WIDTH + 1, HEIGHT},
                                 {0, HEIGHT - 1, 2 * WIDTH, HEIGHT + 1},
                                 {0, 0, 1, HEIGHT}, {0, 0, WIDTH, 1}};
    for (size_t i = 0; i < COUNT_OF(other); i++)
        if (!is_blank(c, other[i])) fail_msg("ink at %d, %d and on", other[i].x, other[i].y);
    const struct axes a = axes_of(c, 0, 0);
    assert_true(a.right - a.left > WIDTH / 3);
    canvas_destroy(&c);
}

enum { MANY = 64 };
#define LONG_NAME "a run with a name of nearly sixty letters, as a folder may be"

static void texts_stay_in_their_panel(void **state)
{
    (void)state;
    static const double large[] = {-123456, 3e7, 123456e3}, x[] = {0, 1e6, 1e9},
                        close[] = {-123.45e-9, -123.46e-9, -123.47e-9};
    const struct plot_chart wordy = {LONG_NAME LONG_NAME, LONG_NAME LONG_NAME,
                                     LONG_NAME LONG_NAME};
    struct plot_series series[MANY];
    struct plot_bar bar[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        series[i] = (struct plot_series){LONG_NAME, x, large, 3};
        bar[i] = (struct plot_bar){LONG_NAME, large[i % 3], 0, i};
    }
    struct plot *plot = sheet(2, 2);
    plot_lines(plot, &wordy, series, MANY);
    assert_first_alone(plot);
    plot = sheet(2, 2);
    plot_lines(plot, &wordy, &(struct plot_series){"close", x, close, 3}, 1); // long ticks
    assert_first_alone(plot);
    plot = sheet(2, 2);
    plot_bars(plot, &wordy, bar, MANY);
    assert_first_alone(plot);
    for (uint32_t count = 1; count <= 3; count++) {
        plot = sheet(2, 2);
        plot_bars(plot, &wordy, bar, count);
        assert_first_alone(plot);
    }
    const char *const names[] = {LONG_NAME, LONG_NAME, LONG_NAME};
    plot = sheet(2, 2);
    plot_grid(plot, &wordy, large, 3, 1, names, names);
    assert_first_alone(plot);
}

static void nowhere_is_refused_in_one_line(void **state)
{
    (void)state;
    struct plot *plot = sheet(1, 1), *none = NULL;
    assert_false(plot_save(&plot, unit_path("no such folder/plot.png")));
    unit_assert_line("no such folder", "plot.png");
    assert_null(plot);
    const struct plot_chart chart = chart_of("None");
    plot_lines(none, &chart, NULL, 0);
    plot_bars(none, &chart, NULL, 0);
    plot_grid(none, &chart, NULL, 0, 0, NULL, NULL);
    assert_true(plot_save(&none, unit_path("none.png")));
    unit_assert_silent();
}

int main(void)
{
    struct canvas *c = canvas_create(8, 8, 1, NULL);
    if (!c) return 77; // no font
    canvas_destroy(&c);
    const struct CMUnitTest tests[] = {
        UNIT(axes_are_where_the_values_are),
        UNIT(curves_go_through_their_points),
        UNIT(what_is_not_finite_is_left_out),
        UNIT(what_is_empty_is_not_named),
        UNIT(a_single_point_is_seen),
        UNIT(bars_are_as_high_as_they_say),
        UNIT(cells_are_as_dark_as_they_say),
        UNIT(texts_stay_in_their_panel),
        UNIT(nowhere_is_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
