// SPDX-License-Identifier: MIT
// The choice of kernels by measurement: a wrong candidate is caught and never chosen, the result is
// kept and taken again, what is damaged or foreign is not.
#include "runtime/file.h"
#include "src/tune.h"
#include "tests/unit_runtime.h"

// Enough for the first sizes; the order is fixed, so these are always the same.
static struct tune_params params_here(void)
{
    return (struct tune_params){.store = DTYPE_F32, .cache_dir = unit_folder, .seconds = 1.5};
}

static struct kernels *fresh(struct round *round)
{
    kernels_destroy(&round->kernels);
    return round->kernels = kernels_create(round->gpu);
}

static void a_wrong_candidate_is_never_chosen(void **state)
{
    struct round *round = *state;
    const struct tune_params params = params_here();
    struct tune_report report;
    const struct kernel_size size = {512, 512, 512};
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    kernel_candidates(&round->gpu->caps, KERNEL_MATMUL_NT, DTYPE_F32, &size, shape);
    kernels_plant(round->kernels, &(struct kernel_fault){true, KERNEL_MATMUL_NT, KERNEL_MATMUL_NN,
                                                         shape[0].variant, shape[0].rows});
    assert_true(tune(round->kernels, &params, &report));
    assert_true(report.wrong >= 1);
    assert_true(report.measured >= 1);
    assert_non_null(strstr(unit_log.last, "wrong in the self-test"));
    uint32_t count, of_op = 0;
    const struct kernel_choice *choice = kernels_choices(round->kernels, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (choice[i].op != KERNEL_MATMUL_NT) continue;
        of_op++;
        assert_true(choice[i].shape.rows != shape[0].rows ||
                    choice[i].shape.variant != shape[0].variant);
    }
    assert_true(of_op > 0);
}

static void the_result_is_kept(void **state)
{
    struct round *round = *state;
    struct tune_params params = params_here();
    struct tune_report report;
    assert_false(tune_is_kept(round->kernels, &params));
    assert_true(tune(round->kernels, &params, &report));
    assert_false(report.kept);
    assert_true(file_exists(report.path));
    char *first = tune_print(round->kernels);
    assert_true(tune(fresh(round), &params, &report));
    assert_true(report.kept);
    assert_int_equal(report.measured, 0);
    char *second = tune_print(round->kernels);
    assert_string_equal(first, second);
    params.again = true;
    assert_true(tune(round->kernels, &params, &report));
    assert_false(report.kept);
    assert_true(report.measured > 0);
    free(first);
    free(second);
}

static void a_damaged_file_is_measured_anew(void **state)
{
    struct round *round = *state;
    const struct tune_params params = params_here();
    struct tune_report report;
    assert_true(tune(round->kernels, &params, &report));
    FILE *file = fopen(report.path, "w");
    fputs("{\"device\": 7, \"choices\": [{}]", file);
    fclose(file);
    assert_true(tune(fresh(round), &params, &report));
    assert_false(report.kept);
    assert_true(report.measured > 0);
}

static void choices_of_others_are_refused(void **state)
{
    struct round *round = *state;
    const struct tune_params params = params_here();
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
        ROUND(a_wrong_candidate_is_never_chosen, &vulkan),
        ROUND(the_result_is_kept, &vulkan),
        ROUND(a_damaged_file_is_measured_anew, &vulkan),
        ROUND(choices_of_others_are_refused, &vulkan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
