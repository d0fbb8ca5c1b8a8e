// SPDX-License-Identifier: MIT
// The kernels of a device: every operation has a self-test, all kernels that a device can be given
// pass it, and one that was planted wrong is caught, named and replaced. coop2 is offered where all
// that it needs is there, and nowhere else.
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

// ---- coop2, on devices that are not here

// A card with all that coop2 needs, as NVIDIA's drivers describe themselves.
static struct gpu_caps tensor_card(void)
{
    struct gpu_caps caps = {.type = GPU_TYPE_DISCRETE, .mask = (1u << GPU_CAP_COUNT) - 1,
                            .subgroup_size = 32, .subgroup_min = 32, .subgroup_max = 32,
                            .shared_bytes = 49152, .max_workgroup = 1024, .offset_alignment = 16,
                            .flexible_max = 1024, .reserved_shared = 16384};
    static const uint32_t invocations[] = {0, 128, 256};
    for (enum gpu_scalar in = GPU_SCALAR_F16; in <= GPU_SCALAR_BF16; in++) {
        caps.matrix[caps.matrix_count++] =
            (struct gpu_matrix){16, 16, 16, in, GPU_SCALAR_F32, GPU_SCOPE_SUBGROUP, 0};
        for (size_t i = 0; i < COUNT_OF(invocations); i++)
            caps.flexible[caps.flexible_count++] = (struct gpu_matrix){
                i ? 32 : 16, 16, 16, in, GPU_SCALAR_F32,
                i ? GPU_SCOPE_WORKGROUP : GPU_SCOPE_SUBGROUP, invocations[i]};
    }
    return caps;
}

static const enum kernel_op coop2_ops[] = {
    KERNEL_MATMUL_NT, KERNEL_MATMUL_NTF, KERNEL_MATMUL_NN, KERNEL_MATMUL_NNF, KERNEL_MATMUL_TN,
    KERNEL_MOE_MATMUL_UP, KERNEL_MOE_MATMUL_ACT, KERNEL_MOE_MATMUL_NT, KERNEL_MOE_MATMUL_NN,
    KERNEL_MOE_MATMUL_TN};

static void fits(const struct gpu_caps *caps, enum kernel_op op, const struct kernel_shape *s)
{
    const uint32_t pairs = op == KERNEL_MOE_MATMUL_UP ? 2 : 1;
    assert_int_equal(s->rows % s->coop[0] + s->columns % s->coop[1] + s->depth % s->coop[2], 0);
    assert_true(s->lanes == 128 || s->lanes == 256);
    assert_true(s->lanes <= caps->max_workgroup && s->lanes % s->spread == 0);
    assert_true(s->rows <= caps->flexible_max && s->columns <= caps->flexible_max);
    assert_true(pairs * s->rows * s->columns <= 128 * s->lanes);
}

// How many shapes of a variant a device is offered.
static uint32_t offered(const struct gpu_caps *caps, enum dtype store, enum kernel_variant variant)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    uint32_t found = 0;
    for (size_t o = 0; o < COUNT_OF(coop2_ops); o++)
        for (uint32_t rows = 1; rows <= 4096; rows *= 16) {
            const struct kernel_size size = {rows, 1024, 1024};
            const uint32_t count = kernel_candidates(caps, coop2_ops[o], store, &size, list);
            assert_true(count < KERNEL_MAX_CANDIDATES); // none was left out for want of room
            for (uint32_t i = 0; i < count; i++) {
                if (list[i].variant != variant) continue;
                if (variant == KERNEL_COOP2) fits(caps, coop2_ops[o], &list[i]);
                found++;
            }
        }
    return found;
}

static void coop2_is_offered_where_all_is_there(void **state)
{
    (void)state;
    const struct gpu_caps caps = tensor_card();
    assert_true(offered(&caps, DTYPE_F16, KERNEL_COOP2) >= 5 * COUNT_OF(coop2_ops));
    assert_true(offered(&caps, DTYPE_BF16, KERNEL_COOP2) >= 5 * COUNT_OF(coop2_ops));
    assert_int_equal(offered(&caps, DTYPE_F32, KERNEL_COOP2), 0);
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2_STAGED), 0);
    struct kernel_shape list[KERNEL_MAX_CANDIDATES]; // unmeasured it is not the default
    const struct kernel_size size = {4096, 4096, 4096};
    kernel_candidates(&caps, KERNEL_MATMUL_NT, DTYPE_F16, &size, list);
    assert_int_equal(list[0].variant, KERNEL_COOP);
}

static void coop2_is_refused_where_something_is_missing(void **state)
{
    (void)state;
    static const enum gpu_cap needed[] = {GPU_CAP_COOP2, GPU_CAP_TENSOR, GPU_CAP_ADDRESS};
    const struct gpu_caps all = tensor_card();
    struct gpu_caps caps;
    for (size_t i = 0; i < COUNT_OF(needed); i++) {
        caps = all, caps.mask &= ~(uint32_t)needed[i];
        assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    }
    caps = all, caps.offset_alignment = 4; // tensors that begin anywhere
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all, caps.reserved_shared = caps.shared_bytes + 1;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all, caps.max_workgroup = 64;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all, caps.flexible_max = 32;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all, caps.flexible_count /= 2; // those of f16
    assert_int_equal(offered(&caps, DTYPE_BF16, KERNEL_COOP2), 0);
    assert_true(offered(&caps, DTYPE_F16, KERNEL_COOP2) > 0);
    for (uint32_t i = 0; i < caps.flexible_count; i++) caps.flexible[i].scope = GPU_SCOPE_SUBGROUP;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all;
    for (uint32_t i = 0; i < caps.flexible_count; i++) caps.flexible[i].out = GPU_SCALAR_F16;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps = all, caps.max_workgroup = 128; // fewer: none of 256 lanes (fits)
    const uint32_t some = offered(&caps, DTYPE_F16, KERNEL_COOP2);
    assert_true(some > 0 && some < offered(&all, DTYPE_F16, KERNEL_COOP2));
    caps = all, caps.reserved_shared = caps.shared_bytes; // none that gathers
    const uint32_t dense = offered(&caps, DTYPE_F16, KERNEL_COOP2);
    assert_true(dense > 0 && dense < offered(&all, DTYPE_F16, KERNEL_COOP2));
}

static void coop2_staged_is_for_cpu_drivers(void **state)
{
    (void)state;
    struct gpu_caps caps = tensor_card();
    caps.type = GPU_TYPE_CPU, caps.mask &= ~(uint32_t)GPU_CAP_TENSOR;
    caps.subgroup_size = caps.subgroup_min = caps.subgroup_max = 8;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2_STAGED), 4 * COUNT_OF(coop2_ops));
    assert_int_equal(offered(&caps, DTYPE_BF16, KERNEL_COOP2_STAGED), 0); // no module
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2), 0);
    caps.mask &= ~(uint32_t)GPU_CAP_COOP2;
    assert_int_equal(offered(&caps, DTYPE_F16, KERNEL_COOP2_STAGED), 0);
}

int main(void)
{
    struct round vulkan = {.label = "vulkan"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_a_self_test),
        cmocka_unit_test(coop2_is_offered_where_all_is_there),
        cmocka_unit_test(coop2_is_refused_where_something_is_missing),
        cmocka_unit_test(coop2_staged_is_for_cpu_drivers),
        ROUND(all_kernels_are_right, &vulkan),
        ROUND(a_wrong_kernel_is_replaced, &vulkan),
        ROUND(grouped_kernels_fall_back_together, &vulkan),
        ROUND(a_kernel_without_a_way_is_refused, &vulkan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
