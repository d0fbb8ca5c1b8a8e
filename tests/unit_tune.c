// SPDX-License-Identifier: MIT
// The choice of kernels by measurement: only what is right and faster for sure is taken, for a
// layer as a whole; the result is kept, taken again and added to; what is damaged or foreign is
// not; time is kept to. Times are pretended where a test is about what is made of them.
#include "runtime/file.h"
#include "src/tune.h"
#include "tests/unit_runtime.h"

static const struct kernel_size square = {64, 64, 64};

static struct kernels *fresh(struct round *round)
{
    kernels_destroy(&round->kernels);
    return round->kernels = kernels_create(round->gpu);
}

// ---- pretended times: 1 ms for all but the kernels of so many rows

enum manner { STEADY, LUCKY_AT_FIRST, NOISY };

struct pretence {
    enum kernel_op op, slow_op; // KERNEL_COUNT: all; of slow_op the same kernels take 3 ms
    uint32_t       rows;
    enum kernel_variant variant;
    enum manner    manner;
    uint32_t       calls;
};

static double pretend(void *user, const struct kernel *kernel, uint32_t run, double ms)
{
    struct pretence *p = user;
    (void)run, (void)ms;
    const bool it = kernel->shape.rows == p->rows && kernel->shape.variant == p->variant;
    if (!it || (p->op != KERNEL_COUNT && p->op != kernel->op)) return 1;
    if (kernel->op == p->slow_op) return 3;
    const uint32_t call = p->calls++;
    switch (p->manner) {
    case STEADY: return 0.5;
    case LUCKY_AT_FIRST: return call < 3 ? 0.5 : 1.01;
    case NOISY: return call % 2 ? 1.3 : 0.4;
    }
    return 1;
}

static struct tune_params params_of(const struct kernel_use *use, uint32_t count,
                                    struct pretence *pretence)
{
    return (struct tune_params){.store = DTYPE_F32, .cache_dir = unit_folder, .use = use,
                                .use_count = count, .pretend = pretence ? pretend : NULL,
                                .pretend_user = pretence};
}

static struct kernel_use use_of(enum kernel_op op, struct kernel_size size)
{
    return (struct kernel_use){op, DTYPE_F32, size, 1, 1e9};
}

// The first candidate that has other rows than the default, and its variant.
static struct kernel_shape other_than_default(struct round *round, enum kernel_op op,
                                              const struct kernel_size *size)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count =
        kernel_candidates(&round->gpu->caps, op, DTYPE_F32, size, list);
    for (uint32_t i = 1; i < count; i++)
        if (list[i].rows != list[0].rows && list[i].variant == list[0].variant) return list[i];
    fail_msg("%s has one shape only", kernel_info(op)->name);
    return list[0];
}

static uint32_t rows_of(struct round *round, enum kernel_op op, struct kernel_size size)
{
    return kernels_shape(round->kernels, op, DTYPE_F32, &size).rows;
}

// Tunes one square product, whose other shape takes what `manner` says; its rows after that.
static uint32_t tuned_rows(struct round *round, enum manner manner, struct tune_report *report)
{
    const struct kernel_shape other = other_than_default(round, KERNEL_MATMUL_NT, &square);
    struct pretence pretence = {KERNEL_MATMUL_NT, KERNEL_COUNT, other.rows, other.variant, manner};
    const struct kernel_use use = use_of(KERNEL_MATMUL_NT, square);
    const struct tune_params params = params_of(&use, 1, &pretence);
    assert_true(tune(round->kernels, &params, report));
    assert_true(report->measured > 0);
    assert_true(pretence.calls > 0 || report->wrong > 0);
    return rows_of(round, KERNEL_MATMUL_NT, square);
}

// ---- what is taken

static void a_faster_candidate_is_taken(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const uint32_t rows = other_than_default(round, KERNEL_MATMUL_NT, &square).rows;
    assert_int_equal(tuned_rows(round, STEADY, &report), rows);
    assert_int_equal(report.changed, 1);
    // near sizes follow, far ones keep their default
    struct kernel_size near = square, far = square;
    near.rows += 16;
    far.rows *= 4;
    const uint32_t far_rows = rows_of(round, KERNEL_MATMUL_NT, far);
    assert_int_equal(rows_of(round, KERNEL_MATMUL_NT, near), rows);
    fresh(round);
    assert_int_equal(rows_of(round, KERNEL_MATMUL_NT, far), far_rows);
}

static void a_lucky_candidate_is_not(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const uint32_t rows = rows_of(round, KERNEL_MATMUL_NT, square);
    assert_int_equal(tuned_rows(round, LUCKY_AT_FIRST, &report), rows);
    assert_int_equal(report.changed, 0);
}

static void a_noisy_candidate_is_not(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const uint32_t rows = rows_of(round, KERNEL_MATMUL_NT, square);
    assert_int_equal(tuned_rows(round, NOISY, &report), rows);
    assert_int_equal(report.changed, 0);
}

static void a_wrong_candidate_is_not(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const uint32_t rows = rows_of(round, KERNEL_MATMUL_NT, square);
    const struct kernel_shape other = other_than_default(round, KERNEL_MATMUL_NT, &square);
    kernels_plant(round->kernels, &(struct kernel_fault){true, KERNEL_MATMUL_NT, KERNEL_MATMUL_NN,
                                                         other.variant, other.rows});
    assert_int_equal(tuned_rows(round, STEADY, &report), rows);
    assert_int_equal(report.wrong, 1);
    assert_int_equal(report.changed, 0);
    assert_non_null(strstr(unit_log.last, "wrong in the self-test"));
    unit_log.lines = 0;
}

// Even where it is the default: what takes its place is what others are held against.
static void a_wrong_default_is_not(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    kernel_candidates(&round->gpu->caps, KERNEL_MATMUL_NT, DTYPE_F32, &square, list);
    kernels_plant(round->kernels, &(struct kernel_fault){true, KERNEL_MATMUL_NT, KERNEL_MATMUL_NN,
                                                         list[0].variant, list[0].rows});
    const struct kernel_use use = use_of(KERNEL_MATMUL_NT, square);
    const struct tune_params params = params_of(&use, 1, NULL);
    assert_true(tune(round->kernels, &params, &report));
    const struct kernel_shape taken =
        kernels_shape(round->kernels, KERNEL_MATMUL_NT, DTYPE_F32, &square);
    assert_true(taken.rows != list[0].rows || taken.variant != list[0].variant);
    unit_log.lines = 0;
}

// ---- layers

enum { LAYER_USES = 4 };

static void tune_layer(struct round *round, bool gated, enum kernel_op slow_op,
                       struct tune_report *report)
{
    const struct kernel_size up = {64, 96, 64}, down = {64, 64, 96};
    const struct kernel_use use[LAYER_USES] = {
        use_of(KERNEL_MOE_MATMUL_NT, down),
        use_of(gated ? KERNEL_MOE_MATMUL_UP : KERNEL_MOE_MATMUL_ACT, up),
        use_of(KERNEL_MOE_MATMUL_NN, up), use_of(KERNEL_MOE_MATMUL_NN, down)};
    const struct kernel_shape other = other_than_default(round, KERNEL_MOE_MATMUL_UP, &up);
    struct pretence pretence = {KERNEL_COUNT, slow_op, other.rows, other.variant};
    const struct tune_params params = params_of(use, LAYER_USES, &pretence);
    assert_true(tune(round->kernels, &params, report));
    for (int i = 0; i < LAYER_USES; i++)
        assert_int_equal(rows_of(round, use[i].op, use[i].size),
                         report->changed ? other.rows
                                         : rows_of(round, KERNEL_MOE_MATMUL_UP, up));
}

static void a_layer_is_judged_as_a_whole(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    tune_layer(round, true, KERNEL_COUNT, &report);
    assert_int_equal(report.changed, LAYER_USES);
    fresh(round);
    // one product that takes three times as long is more than three that take half
    struct tune_params params = params_of(NULL, 0, NULL);
    assert_true(tune_is_kept(round->kernels, &params));
    assert_int_equal(remove(report.path), 0);
    fresh(round);
    tune_layer(round, true, KERNEL_MOE_MATMUL_NT, &report);
    assert_int_equal(report.changed, 0);
}

static void so_is_one_without_a_gate(void **state)
{
    struct tune_report report;
    tune_layer(*state, false, KERNEL_COUNT, &report);
    assert_int_equal(report.changed, LAYER_USES);
}

// ---- all families, measured for real

static void all_families_are_measured(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const struct kernel_size up = {16, 48, 32}, head = {32, 2, 32};
    const struct kernel_use use[] = {
        use_of(KERNEL_MATMUL_NT, square), use_of(KERNEL_MATMUL_NTF, square),
        use_of(KERNEL_MATMUL_NN, square), use_of(KERNEL_MATMUL_NNF, square),
        use_of(KERNEL_MATMUL_TN, (struct kernel_size){8, 32, 512}),
        use_of(KERNEL_MATVEC, (struct kernel_size){1, 64, 64}),
        use_of(KERNEL_MOE_MATMUL_UP, up), use_of(KERNEL_MOE_MATMUL_TN, up),
        use_of(KERNEL_ATTENTION, head), use_of(KERNEL_ATTENTION_BACK_Q, head),
        use_of(KERNEL_ATTENTION_BACK_KV, head),
        use_of(KERNEL_NORM, (struct kernel_size){0}), // nothing to choose
    };
    const struct tune_params params = params_of(use, COUNT_OF(use), NULL);
    assert_true(tune(round->kernels, &params, &report));
    assert_int_equal(report.sizes, COUNT_OF(use) - 1);
    if (report.wrong) fail_msg("%s", unit_log.last);
    assert_int_equal(report.late, 0);
    uint32_t count, measured = 0;
    const struct kernel_choice *choice = kernels_choices(round->kernels, &count);
    for (uint32_t i = 0; i < count; i++) measured += choice[i].ms > 0 && choice[i].default_ms > 0;
    assert_int_equal(measured, COUNT_OF(use) - 1);
}

// Sizes that would take gigabytes and minutes are cut down to a run of milliseconds.
static void large_sizes_are_cut_down(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const struct kernel_use use[] = {
        use_of(KERNEL_MATMUL_NT, (struct kernel_size){65536, 4096, 32768}),
        use_of(KERNEL_MATVEC, (struct kernel_size){1, 131072, 8192}),
        use_of(KERNEL_MOE_MATMUL_NT, (struct kernel_size){1, 14336, 4096}),
        use_of(KERNEL_MOE_MATMUL_TN, (struct kernel_size){14336, 4096, 1}),
        use_of(KERNEL_ATTENTION, (struct kernel_size){64, 8, 131072}),
    };
    struct tune_params params = params_of(use, COUNT_OF(use), NULL);
    params.seconds = 8;
    assert_true(tune(round->kernels, &params, &report));
    assert_int_equal(report.sizes, COUNT_OF(use));
    assert_true(gpu_memory_peak(round->gpu) < UINT64_C(3) << 30);
    uint32_t count;
    const struct kernel_choice *choice = kernels_choices(round->kernels, &count);
    for (uint32_t i = 0; i < count; i++) assert_true(choice[i].default_ms < 1000);
}

static void time_is_kept_to(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    struct tune_params params = params_of(NULL, 0, NULL); // the whole grid
    params.seconds = 1;
    assert_true(tune(round->kernels, &params, &report));
    assert_true(report.late > 0 || report.seconds < 1);
    assert_true(report.seconds < 20); // one more kernel than there was time for, on a slow machine
    struct tune_report none;
    fresh(round);
    params.seconds = 1e-9;
    params.again = true;
    assert_true(tune(round->kernels, &params, &none));
    assert_int_equal(none.measured, 0);
    assert_int_equal(none.changed, 0);
}

// ---- what is kept

static void the_result_is_kept(void **state)
{
    struct round *round = *state;
    struct tune_report report;
    const struct kernel_use use[] = {use_of(KERNEL_MATMUL_NT, square),
                                     use_of(KERNEL_MATMUL_NN, square)};
    struct tune_params params = params_of(use, 1, NULL);
    assert_false(tune_is_kept(round->kernels, &params));
    assert_true(tune(round->kernels, &params, &report));
    assert_int_equal(report.sizes, 1);
    assert_true(file_exists(report.path));
    char *first = tune_print(round->kernels);
    assert_true(tune(fresh(round), &params, &report));
    assert_int_equal(report.sizes, 0);
    char *second = tune_print(round->kernels);
    assert_string_equal(first, second);
    // another size is added, the first stays as it is
    params.use_count = 2;
    assert_true(tune(fresh(round), &params, &report));
    assert_int_equal(report.sizes, 1);
    char *third = tune_print(round->kernels);
    assert_non_null(strstr(third, "matmul_nn\""));
    assert_non_null(strstr(third, "matmul_nt\""));
    params.again = true;
    assert_true(tune(round->kernels, &params, &report));
    assert_int_equal(report.sizes, 2);
    free(first);
    free(second);
    free(third);
}

// A split sum is part of the choice, so that a resumed run adds in the same order.
static void parts_are_kept(void **state)
{
    struct round *round = *state;
    const struct kernel_choice choice = {
        KERNEL_MATMUL_TN, DTYPE_F32, square,
        kernels_shape(round->kernels, KERNEL_MATMUL_TN, DTYPE_F32, &square), 4, 1, 2};
    struct kernel_size beside = square;
    beside.inner++;
    kernels_choose(round->kernels, &choice, 1);
    char *text = tune_print(round->kernels);
    assert_int_equal(kernels_parts(fresh(round), KERNEL_MATMUL_TN, DTYPE_F32, &square), 1);
    assert_true(tune_take(round->kernels, text, strlen(text)));
    assert_int_equal(kernels_parts(round->kernels, KERNEL_MATMUL_TN, DTYPE_F32, &square), 4);
    assert_int_equal(kernels_parts(round->kernels, KERNEL_MATMUL_TN, DTYPE_F32, &beside), 1);
    assert_int_equal(kernels_parts(round->kernels, KERNEL_MATMUL_NT, DTYPE_F32, &square), 1);
    char *parts = strstr(text, "\"parts\":\t4");
    assert_non_null(parts);
    memcpy(parts, "\"parts\":\t-", strlen("\"parts\":\t-")); // no number
    assert_false(tune_take(fresh(round), text, strlen(text)));
    free(text);
}

static void a_damaged_file_is_measured_anew(void **state)
{
    struct round *round = *state;
    const struct kernel_use use = use_of(KERNEL_MATMUL_NT, square);
    const struct tune_params params = params_of(&use, 1, NULL);
    struct tune_report report;
    assert_true(tune(round->kernels, &params, &report));
    FILE *file = fopen(report.path, "w");
    fputs("{\"device\": 7, \"choices\": [{}]", file);
    fclose(file);
    assert_true(tune(fresh(round), &params, &report));
    assert_int_equal(report.sizes, 1);
}

static void count_of_other_kernels(void *user, enum log_level level, const char *line)
{
    (void)level;
    *(uint32_t *)user += strstr(line, "of other kernels or damaged") != NULL;
}

// The start of a run asks what is kept before its plans are made, and measures behind them.
static void that_is_told_once(void **state)
{
    struct round *round = *state;
    const struct kernel_use use = use_of(KERNEL_MATMUL_NT, square);
    const struct tune_params params = params_of(&use, 1, NULL);
    char path[4096];
    uint32_t lines = 0;
    bool changed;
    setenv("VKMOE_CACHE", unit_folder, 1);
    assert_true(tune_path(&params, &round->gpu->caps, path, sizeof path));
    assert_string_equal(unit_write_text(strrchr(path, '/') + 1, "{\"device\": 7}"), path);
    log_set(count_of_other_kernels, &lines, LOG_DEBUG);
    assert_false(tune_is_kept(fresh(round), &params));
    kernels_note(round->kernels, use.op, DTYPE_F32, &square, use.flops);
    assert_true(tune_at_start(round->kernels, DTYPE_F32, true, &changed));
    assert_int_equal(lines, 1);
    assert_true(tune_is_kept(fresh(round), &params)); // what was measured took its place
    assert_int_equal(lines, 1);
    unsetenv("VKMOE_CACHE");
}

static void choices_of_others_are_refused(void **state)
{
    struct round *round = *state;
    const struct kernel_use use = use_of(KERNEL_MATMUL_NT, square);
    const struct tune_params params = params_of(&use, 1, NULL);
    struct tune_report report;
    assert_true(tune(round->kernels, &params, &report));
    char *text = tune_print(round->kernels);
    assert_true(tune_take(fresh(round), text, strlen(text)));
    char *driver = strstr(text, "\"driver\"");
    assert_non_null(driver);
    driver[strlen("\"driver\":\t\"")] ^= 1;
    assert_false(tune_take(fresh(round), text, strlen(text)));
    assert_false(tune_take(round->kernels, "{}", 2));
    assert_false(tune_take(round->kernels, "[1, 2", 6));
    assert_false(tune_take(round->kernels, "", 0));
    uint32_t count;
    kernels_choices(round->kernels, &count);
    assert_int_equal(count, 0);
    free(text);
}

int main(void)
{
    struct round vulkan = {.label = "vulkan"};
    const struct CMUnitTest tests[] = {
        ROUND(a_faster_candidate_is_taken, &vulkan),
        ROUND(a_lucky_candidate_is_not, &vulkan),
        ROUND(a_noisy_candidate_is_not, &vulkan),
        ROUND(a_wrong_candidate_is_not, &vulkan),
        ROUND(a_wrong_default_is_not, &vulkan),
        ROUND(a_layer_is_judged_as_a_whole, &vulkan),
        ROUND(so_is_one_without_a_gate, &vulkan),
        ROUND(all_families_are_measured, &vulkan),
        ROUND(large_sizes_are_cut_down, &vulkan),
        ROUND(time_is_kept_to, &vulkan),
        ROUND(the_result_is_kept, &vulkan),
        ROUND(parts_are_kept, &vulkan),
        ROUND(a_damaged_file_is_measured_anew, &vulkan),
        ROUND(that_is_told_once, &vulkan),
        ROUND(choices_of_others_are_refused, &vulkan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
