// SPDX-License-Identifier: MIT
// vkmoe watch without a terminal: known loads are known colours in known cells, every panel at
// every size, keys, and that what is written to a terminal makes it show the frame.
#include "tests/view/planted.h"

#include "tools/watch/watch.h"

enum { EXPERTS = 6, STEPS = 20 };
static const float uneven[EXPERTS] = {12, 0, 3, 3, 3, 3}; // of 24: 3 times, 0, 0.75 ...

static void write_run(uint32_t steps)
{
    const struct config c = planted_config(2, EXPERTS, 2, 8);
    struct trace_writer *w = planted_trace(&c);
    FILE *file = fopen(unit_path("metrics.jsonl"), "w");
    for (uint32_t step = 1; step <= steps; step++) {
        planted_step(w, &c, step, uneven);
        fprintf(file, "{\"step\": %u, \"loss\": %g, \"tokens_per_s\": 12345, \"layers\": "
                      "[{\"layer\": 0, \"entropy\": 0.9, \"max_share\": 0.5, \"dead\": 1}]}\n",
                step, 6.0 / step);
    }
    fclose(file);
    trace_close(&w);
}

static struct watch open_watch(int columns, int rows)
{
    struct watch w;
    write_run(STEPS);
    struct history *h = history_open(unit_folder);
    assert_non_null(h);
    watch_init(&w, h);
    screen_init(&w.screen, TERMINAL_TRUE, true);
    screen_resize(&w.screen, columns, rows);
    watch_poll(&w, 0);
    return w;
}

static const struct screen_cell *cell_at(const struct watch *w, int x, int y)
{
    return &w->screen.cell[y * w->screen.columns + x];
}

// The line as text, blanks where nothing stands.
static const char *line_text(const struct watch *w, int y)
{
    static char text[8192];
    size_t at = 0;
    for (int x = 0; x < w->screen.columns; x++) {
        const char *sign = cell_at(w, x, y)->text[0] ? cell_at(w, x, y)->text : " ";
        memcpy(text + at, sign, strlen(sign));
        at += strlen(sign);
    }
    text[at] = 0;
    return text;
}

static bool shows(const struct watch *w, const char *text)
{
    for (int y = 0; y < w->screen.rows; y++)
        if (strstr(line_text(w, y), text)) return true;
    return false;
}

// The line whose label on the left is this number.
static int line_of(const struct watch *w, uint32_t expert)
{
    for (int y = 3; y < w->screen.rows; y++) {
        unsigned found;
        char end;
        if (sscanf(line_text(w, y), " %u %c", &found, &end) == 2 && found == expert &&
            strstr(line_text(w, y), "▀"))
            return y;
    }
    fail_msg("no line of expert %u", expert);
    return 0;
}

static void loads_are_colours(void **state)
{
    (void)state;
    struct watch w = open_watch(120, 40);
    watch_key(&w, '2');
    watch_draw(&w, 0);
    assert_false(w.pending);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        const float load = uneven[e] * EXPERTS / 24;
        const colour wanted = load > 0 ? colour_load(load) : w.theme->dead;
        for (int x = 10; x < 90; x += 13) {
            assert_int_equal(cell_at(&w, x, line_of(&w, e))->ink, wanted);
            assert_int_equal(cell_at(&w, x, line_of(&w, e))->ground, wanted);
        }
        char number[16];
        snprintf(number, sizeof number, "%.2f", (double)load);
        assert_non_null(strstr(line_text(&w, line_of(&w, e)), number)); // the bar's
    }
    assert_true(shows(&w, "entropy  0.900") && shows(&w, "largest  50.0 %"));
    watch_key(&w, 'a'); // all layers: each cell of a layer's line
    watch_draw(&w, 0);
    for (int y = 0; y < 40; y++) {
        if (!strstr(line_text(&w, y), "layer 1")) continue;
        if (strstr(line_text(&w, y), "all layers")) continue;
        assert_int_equal(cell_at(&w, 13, y)->ground, colour_load(3));
    }
    watch_finish(&w);
    unit_assert_silent();
}

static void a_token_stands_on_its_expert(void **state)
{
    (void)state;
    struct watch w = open_watch(100, 30);
    watch_key(&w, '3');
    watch_key(&w, '.');
    watch_draw(&w, 0);
    // ids are a, b, ...; token t takes t and t + 1; without a tokenizer an id is its number
    assert_true(shows(&w, "token 2 of 8"));
    assert_true(shows(&w, "code") || shows(&w, "prose"));
    assert_true(shows(&w, "0.50") && shows(&w, "0.33")); // gates
    for (uint32_t choice = 0; choice < 2; choice++) {
        bool found = false;
        watch_draw(&w, 0);
        for (int x = 0; x < 100; x++) found |= cell_at(&w, x, 3)->ground == colour_expert(choice);
        assert_true(found);
        assert_int_equal(cell_at(&w, 3, 3)->ground, colour_expert(choice)); // the first token
        watch_key(&w, 'c');
    }
    watch_finish(&w);
}

static void keys_move(void **state)
{
    (void)state;
    struct watch w = open_watch(100, 30);
    assert_true(w.step == STEPS && w.follow);
    watch_key(&w, KEY_LEFT);
    assert_true(w.step == STEPS - 1 && !w.follow);
    watch_key(&w, KEY_PAGE_UP);
    assert_int_equal(w.step, STEPS - 11);
    watch_key(&w, KEY_HOME);
    assert_int_equal(w.step, 1);
    watch_key(&w, KEY_LEFT);
    assert_int_equal(w.step, 1);
    watch_key(&w, '+');
    assert_true(w.last > 0 && w.last < STEPS && watch_span(&w).first == 1);
    for (int i = 0; i < 30; i++) {
        watch_key(&w, KEY_RIGHT);
        assert_true(w.step >= watch_span(&w).first && w.step <= watch_span(&w).last);
    }
    assert_true(w.step == STEPS && w.follow);
    watch_key(&w, 'x');
    assert_int_equal(watch_span(&w).last, STEPS);
    watch_key(&w, KEY_UP);
    assert_int_equal(w.layer, 1);
    watch_key(&w, KEY_DOWN);
    assert_int_equal(w.layer, 0);
    watch_key(&w, '?');
    watch_draw(&w, 0);
    assert_true(shows(&w, "any key goes on"));
    watch_key(&w, KEY_LEFT); // only ends the help
    assert_int_equal(w.step, STEPS);
    watch_key(&w, ' ');
    assert_true(w.playing && w.step == 1);
    assert_false(watch_key(&w, 'q'));
    char line[400];
    watch_go(&w, 3);
    assert_true(watch_line(&w, line, sizeof line));
    assert_non_null(strstr(line, "step 3  loss 2.0000"));
    watch_finish(&w);
}

static void every_panel_at_every_size(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {2, 3}, {7, 2}, {20, 5}, {39, 9}, {40, 12}, {80, 24},
                                   {89, 26}, {100, 15}, {132, 43}, {300, 8}, {400, 120}};
    struct watch w = open_watch(1, 1);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        screen_resize(&w.screen, sizes[i][0], sizes[i][1]);
        for (int key = '0'; key < '0' + WATCH_PANELS; key++)
            for (int way = 0; way < 8; way++) {
                w.screen.utf8 = way & 1;
                w.all_layers = way & 2;
                w.help = (way & 4) != 0;
                watch_key(&w, KEY_RESIZED);
                w.panel = (enum watch_panel)(key - '0');
                watch_draw(&w, 0);
                for (int c = 0; c < sizes[i][0] * sizes[i][1]; c++)
                    for (const char *at = w.screen.cell[c].text; *at && !w.screen.utf8; at++)
                        assert_true((unsigned char)*at < 0x80);
                screen_text_of(&w.screen);
            }
    }
    watch_finish(&w);
    unit_assert_silent();
}

// ---- a terminal that knows what is written to it

struct shown { char text[6]; bool bold; colour ink, ground; };
struct model { int columns, rows, x, y; struct shown pen, *cell; };

static const char *escape(struct model *m, const char *at)
{
    int number[5] = {0}, count = 0;
    const bool mode = *at == '?';
    for (at += mode; (*at >= '0' && *at <= '9') || *at == ';'; at++)
        if (*at == ';') assert_true(++count < 5);
        else number[count] = 10 * number[count] + *at - '0';
    const colour own = 0xff000000u | (colour)number[2] << 16 | (colour)number[3] << 8 |
                       (colour)number[4];
    if (*at == 'H') m->y = number[0] - 1, m->x = number[1] - 1;
    else if (*at == 'J') memset(m->cell, 0, (size_t)(m->columns * m->rows) * sizeof *m->cell);
    else if (*at == 'm' && count == 4) *(number[0] == 38 ? &m->pen.ink : &m->pen.ground) = own;
    else if (*at == 'm') m->pen.bold = number[0] == 1;
    else assert_true(mode && (*at == 'h' || *at == 'l'));
    return at + 1;
}

static void feed(struct model *m, const char *text, size_t bytes)
{
    for (const char *at = text, *end = text + bytes; at < end;) {
        if (*at == '\033') {
            assert_int_equal(at[1], '[');
            at = escape(m, at + 2);
            continue;
        }
        assert_true(m->x >= 0 && m->x < m->columns && m->y >= 0 && m->y < m->rows);
        struct shown *cell = &m->cell[m->y * m->columns + m->x++];
        *cell = m->pen;
        memset(cell->text, 0, sizeof cell->text);
        for (int i = 0; i == 0 || (at < end && ((uint8_t)*at & 0xc0) == 0x80); i++)
            cell->text[i] = *at++;
    }
}

static void assert_model(const struct model *m, const struct watch *w)
{
    for (int i = 0; i < m->columns * m->rows; i++) {
        const struct screen_cell *wanted = &w->screen.cell[i];
        const struct shown *found = &m->cell[i];
        assert_string_equal(found->text, wanted->text[0] ? wanted->text : " ");
        assert_int_equal(found->ground, wanted->ground);
        if (!wanted->text[0]) continue;
        assert_int_equal(found->ink, wanted->ink);
        assert_int_equal(found->bold, wanted->bold);
    }
}

static void what_is_written_is_the_frame(void **state)
{
    (void)state;
    struct watch w = open_watch(110, 33);
    struct model m = {.columns = 110, .rows = 33, .cell = calloc(110 * 33, sizeof *m.cell)};
    static const int keys[] = {'0', '2', KEY_LEFT, KEY_LEFT, '1', '?', 'x', '3', '.', 't', '4', '0',
                               KEY_HOME, '5', '6', '2', 'a', '+', KEY_DOWN};
    size_t whole = 0, least = SIZE_MAX;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        watch_key(&w, keys[i]);
        watch_draw(&w, 0);
        screen_text_of(&w.screen);
        feed(&m, (const char *)w.screen.out.data, w.screen.out.count);
        assert_model(&m, &w);
        if (i == 0) whole = w.screen.out.count;
        else least = w.screen.out.count < least ? w.screen.out.count : least;
    }
    assert_true(least < whole / 4); // a step: only what is other
    watch_draw(&w, 0);
    screen_text_of(&w.screen);
    assert_true(w.screen.out.count < 40); // nothing
    w.screen.colours = TERMINAL_256;
    w.screen.anew = true;
    screen_text_of(&w.screen);
    const char *text = (const char *)w.screen.out.data;
    assert_true(strstr(text, "\033[48;5;") && !strstr(text, ";2;"));
    free(m.cell);
    watch_finish(&w);
}

// A sign that is not one cell wide on every terminal is a dot; the box is never left.
static void signs_keep_their_cells(void **state)
{
    (void)state;
    struct screen s;
    screen_init(&s, TERMINAL_TRUE, true);
    screen_resize(&s, 12, 1);
    screen_clear(&s, 0xff000000u);
    const struct box first = {1, 0, 7, 1};
    assert_int_equal(screen_put(&s, first, 0xffffffffu, "a漢e\xcc\x81\xffé\t"), 7);
    static const char *const wanted[] = {"", "a", "·", "e", "·", "·", "é", "·", ""};
    for (int x = 0; x < 9; x++) assert_string_equal(s.cell[x].text, wanted[x]);
    assert_int_equal(screen_put(&s, (struct box){9, 0, 2, 1}, 0xffffffffu, "abcdef"), 2);
    assert_string_equal(s.cell[11].text, "");
    screen_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(loads_are_colours),
        UNIT(a_token_stands_on_its_expert),
        UNIT(keys_move),
        UNIT(every_panel_at_every_size),
        UNIT(what_is_written_is_the_frame),
        UNIT(signs_keep_their_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
