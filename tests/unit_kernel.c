// SPDX-License-Identifier: MIT
// The kernels of a device: every operation has a self-test, all kernels that a device can be given
// pass it, and one that was planted wrong is caught, named and replaced.
#include "src/kernel_case.h"
#include "tests/unit_runtime.h"

static void every_operation_has_a_self_test(void **state)
{
    (void)state;
    for (enum kernel_op op = 0; op < KERNEL_COUNT; op++)
        if (!kernel_case_exists(op)) fail_msg("no self-test for %s", kernel_info(op)->name);
}

static bool test_one(void *user, const struct kernel *kernel)
{
    struct kernels *kernels = user;
    if (!kernels_right(kernels, kernel->op, kernel->store, &kernel->shape))
        fail_msg("%s", unit_log.last);
    return true;
}

static void all_kernels_are_right(void **state)
{
    struct round *round = *state;
    assert_true(kernels_each(round->kernels, test_one, round->kernels));
    const struct kernels_report report = kernels_report(round->kernels);
    print_message("%u kernels tested in %.0f ms\n", report.tested, report.test_ms);
    assert_int_equal(report.wrong, 0);
    assert_int_equal(unit_log.lines, 0);
}

// The candidate that would be taken is wrong: a warning names it, and the next is taken.
static void a_wrong_kernel_is_replaced(void **state)
{
    struct round *round = *state;
    const struct kernel_size size = {64, 64, 64};
    const struct kernel_shape first =
        kernels_shape(round->kernels, KERNEL_MATMUL_NT, DTYPE_F32, &size);
    kernels_destroy(&round->kernels);
    round->kernels = kernels_create(round->gpu);
    kernels_plant(round->kernels, &(struct kernel_fault){true, KERNEL_MATMUL_NT, KERNEL_MATMUL_NN,
                                                         first.variant, first.rows});
    const struct kernel *taken =
        kernels_get(round->kernels, KERNEL_MATMUL_NT, DTYPE_F32, &size);
    assert_non_null(taken);
    assert_true(taken->shape.rows != first.rows || taken->shape.variant != first.variant);
    assert_int_equal(kernels_report(round->kernels).wrong, 1);
    assert_int_equal(unit_log.lines, 1);
    assert_non_null(strstr(unit_log.last, "matmul_nt_f32"));
    assert_non_null(strstr(unit_log.last, "wrong in the self-test"));
    unit_log.lines = 0;
}

// The grouped matmuls of a layer agree on their tile even then.
static void grouped_kernels_fall_back_together(void **state)
{
    struct round *round = *state;
    const struct kernel_size up = {64, 96, 64}, down = {64, 64, 96};
    const struct kernel_shape first =
        kernels_shape(round->kernels, KERNEL_MOE_MATMUL_UP, DTYPE_F32, &up);
    kernels_destroy(&round->kernels);
    round->kernels = kernels_create(round->gpu);
    kernels_plant(round->kernels,
                  &(struct kernel_fault){true, KERNEL_MOE_MATMUL_UP, KERNEL_ACTIVATE_BACK,
                                         first.variant, first.rows});
    const struct kernel_shape shape =
        kernels_shape(round->kernels, KERNEL_MOE_MATMUL_UP, DTYPE_F32, &up);
    assert_true(shape.lanes > 0 && shape.rows != first.rows);
    assert_int_equal(
        kernels_shape(round->kernels, KERNEL_MOE_MATMUL_NT, DTYPE_F32, &down).rows, shape.rows);
    unit_log.lines = 0;
}

// No candidate is left: one line, no kernel.
static void a_kernel_without_a_way_is_refused(void **state)
{
    struct round *round = *state;
    kernels_plant(round->kernels,
                  &(struct kernel_fault){true, KERNEL_CAST, KERNEL_SUM, KERNEL_FLAT, 1});
    assert_null(kernels_get(round->kernels, KERNEL_CAST, DTYPE_F32, &(struct kernel_size){0}));
    assert_non_null(strstr(unit_log.last, "no way left to compute cast"));
    unit_log.lines = 0;
}

int main(void)
{
    struct round vulkan = {.label = "vulkan"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_a_self_test),
        ROUND(all_kernels_are_right, &vulkan),
        ROUND(a_wrong_kernel_is_replaced, &vulkan),
        ROUND(grouped_kernels_fall_back_together, &vulkan),
        ROUND(a_kernel_without_a_way_is_refused, &vulkan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
