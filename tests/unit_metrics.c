// SPDX-License-Identifier: MIT
// What a run writes for people and programs: metrics.jsonl and its statistics, the progress line on
// a terminal (a pseudo-terminal here) and in a pipe, and .npy files.
#include "tests/unit.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>

#include "src/metrics.h"
#include "src/npy.h"
#include "src/progress.h"

// ---- statistics

static void layer_statistics_know_balance_and_collapse(void **state)
{
    (void)state;
    struct metrics_layer layer;
    metrics_layer_fill(&layer, 3, (const float[]){5, 5, 5, 5}, 4, 1.5, 2.5);
    unit_assert_near(layer.entropy, 1, 1e-12);
    unit_assert_near(layer.max_share, 0.25, 1e-12);
    assert_int_equal(layer.dead, 0);
    assert_int_equal(layer.layer, 3);
    assert_true(layer.balance_loss == 1.5 && layer.z_loss == 2.5 && layer.total == 20);

    metrics_layer_fill(&layer, 0, (const float[]){0, 12, 0}, 3, 0, 0);
    unit_assert_near(layer.entropy, 0, 1e-12);
    unit_assert_near(layer.max_share, 1, 1e-12);
    assert_int_equal(layer.dead, 2);

    metrics_layer_fill(&layer, 0, (const float[]){3, 1, 0, 0}, 4, 0, 0);
    unit_assert_near(layer.entropy, -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(4), 1e-12);
    assert_int_equal(layer.dead, 2);

    metrics_layer_fill(&layer, 0, (const float[]){0, 0}, 2, 0, 0); // nothing was routed
    assert_true(layer.entropy == 0 && layer.max_share == 0);
    assert_int_equal(layer.dead, 2);
    metrics_layer_fill(&layer, 0, (const float[]){7}, 1, 0, 0);
    assert_true(layer.entropy == 1 && layer.max_share == 1 && layer.dead == 0);
}

// ---- metrics.jsonl

static void write_step(struct metrics *metrics, uint32_t step, double loss)
{
    const float load[] = {6, 2, 0, 0};
    struct metrics_layer layer[2];
    for (uint32_t i = 0; i < 2; i++) metrics_layer_fill(&layer[i], 2 * i + 1, load, 4, 1.25, 0.5);
    const struct metrics_step values = {
        .step = step, .loss = loss, .lr = 0.001, .grad_norm = 0.1f, .tokens_per_s = 1234.5,
        .device_bytes = 1ull << 33, .host_bytes = 77, .device_peak = 1ull << 34,
        .host_peak = 78, .skipped = !isfinite(loss),
        .experts = {.slots = 5, .hits = 3, .misses = 1, .read_bytes = 100, .written_bytes = 200,
                    .spilled_bytes = 7, .load_ms = 1.5, .wait_ms = 0.25,
                    .load_gbps = 1.75, .copy_peak_gbps = 6.5}};
    assert_true(metrics_write_step(metrics, &values, layer, 2));
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item)) fail_msg("%s is no number", key);
    return item->valuedouble;
}

static void lines_have_the_agreed_keys(void **state)
{
    (void)state;
    const char *path = unit_path("metrics.jsonl");
    struct metrics *metrics = metrics_open(path, 0);
    assert_non_null(metrics);
    write_step(metrics, 1, 2.5);
    assert_true(metrics_write_eval(metrics, 1, 2.25, 3.25));
    char *text = unit_read(path, NULL); // before it is closed: viewers follow the growing file
    metrics_close(&metrics);
    assert_null(metrics);
    char *second = strchr(text, '\n') + 1;
    assert_int_equal(second[strlen(second) - 1], '\n');
    cJSON *step = cJSON_Parse(text), *eval = cJSON_Parse(second);
    static const char *const keys[] = {"step", "loss", "lr", "grad_norm", "tokens_per_s",
                                       "device_bytes", "host_bytes", "device_peak_bytes",
                                       "host_peak_bytes", "experts", "layers"};
    assert_int_equal(cJSON_GetArraySize(step), COUNT_OF(keys));
    for (int i = 0; i < (int)COUNT_OF(keys); i++)
        assert_string_equal(cJSON_GetArrayItem(step, i)->string, keys[i]);
    assert_true(number(step, "step") == 1 && number(step, "loss") == 2.5);
    assert_true(number(step, "device_bytes") == 8589934592.0);
    assert_true((float)number(step, "grad_norm") == 0.1f); // f32 survives
    assert_true(number(step, "device_peak_bytes") == 17179869184.0);
    assert_true(number(step, "host_peak_bytes") == 78);
    const cJSON *experts = cJSON_GetObjectItem(step, "experts");
    assert_true(number(experts, "slots") == 5 && number(experts, "hit_rate") == 0.75);
    assert_true(number(experts, "hits") == 3 && number(experts, "misses") == 1);
    assert_true(number(experts, "read_bytes") == 100 && number(experts, "written_bytes") == 200);
    assert_true(number(experts, "spilled_bytes") == 7 && number(experts, "load_ms") == 1.5);
    assert_true(number(experts, "wait_ms") == 0.25 && number(experts, "load_gbps") == 1.75);
    assert_true(number(experts, "copy_peak_gbps") == 6.5);
    assert_null(cJSON_GetObjectItem(experts, "read_peak_gbps")); // not known
    const cJSON *layers = cJSON_GetObjectItem(step, "layers");
    const cJSON *layer = cJSON_GetArrayItem(layers, 1);
    assert_int_equal(cJSON_GetArraySize(layers), 2);
    assert_true(number(layer, "layer") == 3 && number(layer, "dead") == 2);
    assert_true(number(layer, "max_share") == 0.75);
    assert_true(number(layer, "balance_loss") == 1.25 && number(layer, "z_loss") == 0.5);
    unit_assert_near(number(layer, "entropy"), 0.811278124 / 2, 1e-8);
    const cJSON *load = cJSON_GetObjectItem(layer, "load");
    assert_int_equal(cJSON_GetArraySize(load), 4);
    assert_true(cJSON_GetArrayItem(load, 0)->valuedouble == 3); // 6 of 8 picks, ideal 2
    assert_true(cJSON_GetArrayItem(load, 1)->valuedouble == 1);
    assert_true(cJSON_GetArrayItem(load, 3)->valuedouble == 0);
    assert_int_equal(cJSON_GetArraySize(eval), 3);
    assert_true(number(eval, "step") == 1 && number(eval, "eval_loss") == 2.25);
    assert_true(number(eval, "bpb") == 3.25);
    cJSON_Delete(step);
    cJSON_Delete(eval);
    free(text);
}

static void numbers_that_are_not_finite_become_null(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_open(unit_path("m.jsonl"), 0);
    write_step(metrics, 1, NAN);
    assert_true(metrics_write_eval(metrics, 1, INFINITY, -INFINITY));
    metrics_close(&metrics);
    char *text = unit_read(unit_path("m.jsonl"), NULL);
    cJSON *step = cJSON_Parse(text), *eval = cJSON_Parse(strchr(text, '\n') + 1);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(step, "loss")));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(step, "skipped")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(eval, "eval_loss")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(eval, "bpb")));
    cJSON_Delete(step);
    cJSON_Delete(eval);
    free(text);
}

static void resuming_drops_what_came_after(void **state)
{
    (void)state;
    const char *path = unit_path("m.jsonl");
    struct metrics *metrics = metrics_open(path, 0);
    for (uint32_t step = 1; step <= 3; step++) {
        write_step(metrics, step, step);
        assert_true(metrics_write_eval(metrics, step, 1, 1));
    }
    metrics_close(&metrics);
    size_t whole, kept;
    char *straight = unit_read(path, &whole);

    // killed in the middle of a line, then resumed at step 2: the same bytes come again
    FILE *file = fopen(path, "ab");
    fputs("not JSON at all\n{\"step\": 4, \"loss", file);
    fclose(file);
    metrics = metrics_open(path, 2);
    assert_non_null(metrics);
    char *text = unit_read(path, &kept);
    assert_memory_equal(text, straight, kept);
    assert_memory_equal(straight + kept, "{\"step\": 3, ", 12);
    free(text);
    write_step(metrics, 3, 3);
    assert_true(metrics_write_eval(metrics, 3, 1, 1));
    metrics_close(&metrics);
    text = unit_read(path, NULL);
    assert_string_equal(text, straight);
    free(text);
    free(straight);

    metrics = metrics_open(path, 0); // a new run begins empty
    metrics_close(&metrics);
    text = unit_read(path, &kept);
    assert_int_equal(kept, 0);
    free(text);
    metrics = metrics_open(unit_path("new.jsonl"), 7); // resumed without the file
    assert_non_null(metrics);
    metrics_close(&metrics);
    unit_assert_silent();
}

static void metrics_that_cannot_be_written_give_one_line(void **state)
{
    (void)state;
    assert_null(metrics_open(unit_path("no/m.jsonl"), 0));
    unit_assert_line("m.jsonl", "no such file or folder");
    struct metrics *metrics = metrics_open(unit_path("m.jsonl"), 0);
    metrics_close(&metrics);
    if (access("/dev/full", W_OK) != 0) return;
    assert_int_equal(remove(unit_path("m.jsonl")), 0);
    metrics = metrics_open(unit_path("m.jsonl"), 0);
    // everything written from here on meets a full disk
    const int full = open("/dev/full", O_WRONLY), file = open(unit_path("m.jsonl"), O_RDONLY);
    assert_true(full >= 0 && file >= 0);
    struct stat wanted, found;
    assert_int_equal(fstat(file, &wanted), 0);
    for (int fd = 3; fd < 64; fd++)
        if (fd != file && fstat(fd, &found) == 0 && found.st_ino == wanted.st_ino
            && found.st_dev == wanted.st_dev)
            assert_int_equal(dup2(full, fd), fd);
    assert_false(metrics_write_eval(metrics, 1, 1, 1));
    unit_assert_line("m.jsonl", "No space left");
    assert_false(metrics_write_eval(metrics, 2, 1, 1));
    unit_assert_silent(); // said once
    metrics_close(&metrics);
    close(full);
    close(file);
}

// ---- .npy

static void npy_has_numpys_header(void **state)
{
    (void)state;
    static const uint64_t shapes[][2] = {{1, 1}, {3, 5}, {0, 7}, {1000, 3}};
    for (size_t s = 0; s < COUNT_OF(shapes); s++) {
        const uint64_t rows = shapes[s][0], cols = shapes[s][1];
        float *data = malloc((rows * cols + 1) * sizeof *data);
        for (uint64_t i = 0; i < rows * cols; i++) data[i] = (float)i / 3;
        assert_true(npy_write_f32(unit_path("a.npy"), data, rows, cols));
        size_t bytes;
        char *file = unit_read(unit_path("a.npy"), &bytes), dict[128];
        assert_memory_equal(file, "\x93NUMPY\x01\x00", 8);
        const size_t header = 10 + (uint8_t)file[8] + 256u * (uint8_t)file[9];
        assert_int_equal(header % 64, 0);
        assert_int_equal(file[header - 1], '\n');
        assert_int_equal(bytes, header + rows * cols * 4);
        snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }",
                 (int)rows, (int)cols);
        assert_memory_equal(file + 10, dict, strlen(dict));
        for (size_t i = 10 + strlen(dict); i < header - 1; i++) assert_int_equal(file[i], ' ');
        assert_memory_equal(file + header, data, rows * cols * 4);
        free(file);
        free(data);
    }
    assert_false(npy_write_f32(unit_path("no/a.npy"), NULL, 0, 0));
    unit_assert_line("a.npy", "no such file or folder");
    assert_false(npy_write_f32(unit_path("a.npy"), NULL, 1ull << 40, 1ull << 40));
    unit_assert_line("a.npy", "do not fit");
}

// ---- progress

static const struct progress_state sample = {
    .step = 3, .loss = 2.34567, .bits_per_byte = NAN, .tokens_per_s = 1234.4,
    .experts = 32, .experts_in_use = 24};

static void pipes_get_plain_lines(void **state)
{
    (void)state;
    FILE *out = fopen(unit_path("out.txt"), "wb");
    struct progress *progress = progress_create(&(struct progress_params){
        .verb = "train", .out = out, .total = 100, .pipe_seconds = 3600});
    struct progress_state now = sample;
    for (now.step = 1; now.step <= 100; now.step++) progress_update(progress, &now);
    progress_pause(progress);
    progress_destroy(&progress);
    assert_null(progress);
    progress_destroy(&progress);
    fclose(out);
    char *text = unit_read(unit_path("out.txt"), NULL);
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
    const char *first = "train 1/100  loss 2.3457  1234 tokens/s  experts 75%  0s left\n";
    assert_memory_equal(text, first, strlen(first)); // then nothing until the last
    const char *last = "train 100/100  loss 2.3457  1234 tokens/s  experts 75%  0s in all\n";
    assert_string_equal(text + strlen(first), last);
    free(text);
}

static void parts_without_a_value_are_left_out(void **state)
{
    (void)state;
    FILE *out = fopen(unit_path("out.txt"), "wb");
    struct progress *progress = progress_create(&(struct progress_params){
        .verb = "eval", .out = out, .first = 5, .total = 9});
    progress_update(progress, &(struct progress_state){
        .step = 5, .loss = NAN, .bits_per_byte = 1.5});
    progress_destroy(&progress);
    fclose(out);
    char *text = unit_read(unit_path("out.txt"), NULL);
    assert_string_equal(text, "eval 5/9  held-out 1.500 bits/byte\n");
    free(text);
}

static void terminals_get_one_line_that_is_rewritten(void **state)
{
    (void)state;
    int master, slave;
    struct winsize size = {.ws_col = 30, .ws_row = 20};
    if (openpty(&master, &slave, NULL, NULL, &size) != 0) skip();
    setenv("TERM", "xterm", 1);
    FILE *out = fdopen(slave, "w");
    struct progress *progress = progress_create(&(struct progress_params){
        .verb = "train", .out = out, .total = 100});
    progress_update(progress, &sample);
    progress_pause(progress);
    progress_update(progress, &sample);
    progress_destroy(&progress);
    fclose(out);
    char text[1024] = {0};
    ssize_t got = 1; // an error, not an end, says that the other side is closed
    for (size_t count = 0; got > 0; count += got > 0 ? (size_t)got : 0)
        got = read(master, text + count, sizeof text - 1 - count);
    close(master);
    // 29 columns fit; pause erases; the end is a newline (the terminal makes CR LF of it)
    assert_string_equal(text, "\r\033[Ktrain 3/100  loss 2.3457  123" "\r\033[K"
                              "\r\033[Ktrain 3/100  loss 2.3457  123" "\r\n");
}

static void dumb_terminals_get_plain_lines(void **state)
{
    (void)state;
    int master, slave;
    if (openpty(&master, &slave, NULL, NULL, NULL) != 0) skip();
    setenv("TERM", "dumb", 1);
    FILE *out = fdopen(slave, "w");
    struct progress *progress = progress_create(&(struct progress_params){
        .verb = "train", .out = out, .total = 3, .pipe_seconds = 3600});
    progress_update(progress, &sample);
    progress_destroy(&progress);
    fclose(out);
    char text[256] = {0};
    assert_true(read(master, text, sizeof text - 1) > 0);
    assert_null(strchr(text, '\033'));
    assert_memory_equal(text, "train 3/3  loss", 15);
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(layer_statistics_know_balance_and_collapse),
        UNIT(lines_have_the_agreed_keys),
        UNIT(numbers_that_are_not_finite_become_null),
        UNIT(resuming_drops_what_came_after),
        UNIT(metrics_that_cannot_be_written_give_one_line),
        UNIT(npy_has_numpys_header),
        UNIT(pipes_get_plain_lines),
        UNIT(parts_without_a_value_are_left_out),
        UNIT(terminals_get_one_line_that_is_rewritten),
        UNIT(dumb_terminals_get_plain_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
