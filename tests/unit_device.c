// SPDX-License-Identifier: MIT
// The Vulkan device from outside and at its edges: choice, caps and mask, the pipeline cache on
// disk, and what is said when there is no loader, no driver, no memory or no device any more.
#include <dirent.h>
#include <sys/wait.h>

#include "runtime/vk.h" // to play the driver: lost device, no memory

#include "unit_runtime.h"

static struct gpu *open_gpu(const char *device, const char *caps, const char *cache)
{
    unit_log.lines = 0;
    return gpu_create(&(struct gpu_params){.device = device, .caps = caps, .cache_dir = cache});
}

// ---- choice

static void devices_are_listed_and_chosen(void **state)
{
    (void)state;
    struct gpu_caps list[8];
    const int count = gpu_list(list, 8);
    assert_true(count >= 1 && count <= 8);
    assert_int_equal(gpu_list(NULL, 0), count);
    char text[16];
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%d", i);
        struct gpu *gpu = open_gpu(text, NULL, "");
        assert_non_null(gpu);
        assert_string_equal(gpu->caps.name, list[i].name);
        assert_memory_equal(gpu->caps.uuid, list[i].uuid, 16);
        assert_int_equal(gpu->caps.mask, list[i].mask);
        assert_non_null(strstr(gpu->choice, list[i].name));
        assert_non_null(strstr(gpu->choice, text));
        gpu_destroy(&gpu);
    }
    // part of the name, whatever the case
    char part[7] = {0};
    for (int i = 0; i < 6; i++)
        part[i] = (char)(list[0].name[i] ^ (list[0].name[i] >= 'a' ? 0x20 : 0));
    struct gpu *gpu = open_gpu(part, NULL, "");
    assert_non_null(gpu);
    assert_string_equal(gpu->caps.name, list[0].name);
    gpu_destroy(&gpu);
    gpu = open_gpu(gpu_type_name(list[0].type), NULL, "");
    assert_non_null(gpu);
    gpu_destroy(&gpu);
    unit_assert_silent();
    assert_null(open_gpu("no such card", NULL, ""));
    unit_assert_line("no such card", list[0].name);
    assert_null(open_gpu("99", NULL, ""));
    unit_assert_line("99", list[0].name);
}

static void two_devices_live_side_by_side(void **state)
{
    (void)state;
    struct gpu *gpu[3] = {open_gpu(NULL, NULL, ""), open_gpu("ref", NULL, ""),
                          open_gpu(NULL, "-mapped", "")};
    uint32_t word = 1, back = 0;
    for (int i = 0; i < 3; i++) {
        assert_non_null(gpu[i]);
        struct gpu_buffer *buffer = make_buffer(gpu[i], "word", 4, GPU_MEMORY_DEVICE);
        word = 17 * (uint32_t)i + 3;
        assert_true(gpu_buffer_write(gpu[i], buffer, 0, &word, 4));
        assert_true(gpu_buffer_read(gpu[i], buffer, 0, &back, 4));
        assert_int_equal(word, back);
        gpu_buffer_destroy(gpu[i], &buffer);
    }
    gpu_destroy(&gpu[0]);
    struct gpu_buffer *buffer = make_buffer(gpu[2], "word", 4, GPU_MEMORY_DEVICE);
    assert_true(gpu_buffer_write(gpu[2], buffer, 0, &word, 4));
    gpu_buffer_destroy(gpu[2], &buffer);
    gpu_destroy(&gpu[2]);
    gpu_destroy(&gpu[1]);
    unit_assert_silent();
}

// ---- caps

static bool has_matrix(const struct gpu_caps *caps, enum gpu_scalar scalar)
{
    for (uint32_t i = 0; i < caps->matrix_count; i++)
        if (caps->matrix[i].in == scalar || caps->matrix[i].out == scalar) return true;
    for (uint32_t i = 0; i < caps->flexible_count; i++)
        if (caps->flexible[i].in == scalar || caps->flexible[i].out == scalar) return true;
    return false;
}

// What goes with a cap: the second cooperative matrices stand on the first ones.
static uint32_t dependents(uint32_t cap)
{
    if (cap == GPU_CAP_COOP) return cap | GPU_CAP_COOP2 | GPU_CAP_TENSOR;
    return cap == GPU_CAP_COOP2 ? cap | GPU_CAP_TENSOR : cap;
}

static void matrices_fit_mask(const struct gpu_caps *c)
{
    assert_true(c->mask & GPU_CAP_COOP || c->matrix_count == 0);
    assert_true(c->mask & GPU_CAP_COOP2 || c->flexible_count == 0);
    assert_true(c->mask & GPU_CAP_F16 || !has_matrix(c, GPU_SCALAR_F16));
    assert_true(c->mask & GPU_CAP_BF16 || !has_matrix(c, GPU_SCALAR_BF16));
    for (uint32_t i = 0; i < c->matrix_count; i++) {
        const struct gpu_matrix *m = &c->matrix[i];
        assert_true(m->m && m->n && m->k && m->m <= 256 && m->n <= 256 && m->k <= 256);
        assert_true(m->in < GPU_SCALAR_COUNT && m->out < GPU_SCALAR_COUNT);
        assert_true(m->scope == GPU_SCOPE_SUBGROUP || c->mask & GPU_CAP_TENSOR);
    }
}

static void caps_are_masked(void **state)
{
    (void)state;
    struct gpu *gpu = open_gpu(NULL, NULL, "");
    assert_non_null(gpu);
    const struct gpu_caps all = gpu->caps;
    gpu_destroy(&gpu);
    for (unsigned bit = 0; bit < GPU_CAP_COUNT; bit++) {
        char text[64];
        snprintf(text, sizeof text, "-%s", gpu_cap_name(bit));
        gpu = open_gpu(NULL, text, "");
        assert_non_null(gpu);
        assert_int_equal(gpu->caps.mask, all.mask & ~dependents(1u << bit));
        matrices_fit_mask(&gpu->caps);
        gpu_destroy(&gpu);
    }
    gpu = open_gpu(NULL, "-f16,-timestamp, -size,", "");
    assert_non_null(gpu);
    assert_int_equal(gpu->caps.mask,
                     all.mask & ~(unsigned)(GPU_CAP_F16 | GPU_CAP_TIMESTAMP | GPU_CAP_SIZE));
    assert_true(gpu->caps.timestamp_ns == 0);
    double ms[2];
    struct gpu_commands *commands = make_commands(gpu, 2);
    gpu_commands_timestamp(commands, 0);
    assert_true(gpu_commands_end(commands));
    run_commands(gpu, commands);
    assert_false(gpu_commands_times(gpu, commands, ms));
    gpu_commands_destroy(gpu, &commands);
    gpu_destroy(&gpu);
    unit_assert_silent();
    static const char *const wrong[] = {"-nonsense", "f16", "-", "-f1", "-f16x", "-f16,+size"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_null(open_gpu(NULL, wrong[i], ""));
        unit_assert_line("caps:", "storage16");
        assert_null(open_gpu("ref", wrong[i], ""));
        unit_assert_line("caps:", "storage16");
    }
    assert_null(gpu_cap_name(GPU_CAP_COUNT));
}

static void caps_make_sense(void **state)
{
    (void)state;
    static const char *const devices[] = {NULL, "ref"};
    for (size_t i = 0; i < COUNT_OF(devices); i++) {
        struct gpu *gpu = open_gpu(devices[i], NULL, "");
        assert_non_null(gpu);
        const struct gpu_caps *c = &gpu->caps;
        assert_true(c->name[0] && c->driver[0]);
        assert_true(c->subgroup_min <= c->subgroup_size && c->subgroup_size <= c->subgroup_max);
        assert_int_equal(c->subgroup_size & (c->subgroup_size - 1), 0);
        assert_true(c->subgroup_size >= 1 && c->subgroup_size <= 128);
        assert_true(c->max_workgroup >= 128);
        assert_true(c->shared_bytes >= 16384);
        assert_true(c->push_bytes >= 128);
        assert_true(c->max_groups[0] >= 65535);
        assert_true(c->max_range >= 1 << 27 && c->max_allocation >= 1 << 30 &&
                    c->heap_bytes >= 1 << 28);
        assert_int_equal(c->offset_alignment & (c->offset_alignment - 1), 0);
        assert_int_equal(c->timestamp_ns > 0, (c->mask & GPU_CAP_TIMESTAMP) != 0);
        assert_true(!(c->mask & GPU_CAP_MAPPED) || c->unified);
        assert_int_equal(c->mask >> GPU_CAP_COUNT, 0);
        matrices_fit_mask(c);
        if (c->workarounds & GPU_WORKAROUND_HEAP_SIZE) assert_true(c->heap_bytes != 2ull << 30);
        gpu_destroy(&gpu);
    }
    unit_assert_silent();
}

// ---- pipeline cache

static char *cache_file(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir) return NULL;
    char *path = NULL;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        assert_null(path); // one file, nothing left beside it
        path = malloc(strlen(folder) + strlen(entry->d_name) + 2);
        sprintf(path, "%s/%s", folder, entry->d_name);
    }
    closedir(dir);
    return path;
}

// Opens the device with this cache folder and makes a kernel.
static void cache_round(const char *folder)
{
    struct round round = {.gpu = open_gpu(NULL, NULL, folder)};
    assert_non_null(round.gpu);
    round.kernels = kernels_create(round.gpu);
    assert_non_null(kernels_get(round.kernels, KERNEL_CAST, DTYPE_F32,
            &(struct kernel_size){0}));
    kernels_destroy(&round.kernels);
    gpu_destroy(&round.gpu);
}

static void damaged_cache(const char *folder, const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
    cache_round(folder);
    unit_assert_line(path, "ignored");
    cache_round(folder); // it was written anew
    unit_assert_silent();
}

static void pipelines_are_cached_on_disk(void **state)
{
    (void)state;
    const char *folder = unit_path("a/b/cache"); // made with its parents
    cache_round(folder);
    unit_assert_silent();
    char *path = cache_file(folder);
    assert_non_null(path);
    size_t bytes;
    char *whole = unit_read(path, &bytes);
    assert_true(bytes > 32);
    cache_round(folder);
    unit_assert_silent();
    damaged_cache(folder, path, "", 0);
    damaged_cache(folder, path, "short", 5);
    damaged_cache(folder, path, whole, bytes - 1);
    for (size_t at = 0; at < bytes; at += bytes / 7) {
        whole[at] ^= 0x40;
        damaged_cache(folder, path, whole, bytes);
        whole[at] ^= 0x40;
    }
    free(path);
    path = cache_file(folder);
    assert_non_null(path);
    free(path);
    free(whole);
}

static void an_unwritable_cache_is_no_failure(void **state)
{
    (void)state;
    const char *folder = unit_write_text("in-the-way", "a file");
    struct gpu *gpu = open_gpu(NULL, NULL, folder);
    assert_non_null(gpu);
    unit_log.lines = 0;
    gpu_destroy(&gpu);
    unit_assert_line("in-the-way", "");
    gpu = open_gpu(NULL, NULL, "");
    gpu_destroy(&gpu);
    unit_assert_silent();
}

static void the_cache_folder_is_the_users(void **state)
{
    (void)state;
    char *before = getenv("XDG_CACHE_HOME") ? strdup(getenv("XDG_CACHE_HOME")) : NULL;
    setenv("XDG_CACHE_HOME", unit_folder, 1);
    cache_round(NULL);
    char *path = cache_file(unit_path("vkmoe"));
    assert_non_null(path);
    free(path);
    if (before) setenv("XDG_CACHE_HOME", before, 1);
    else unsetenv("XDG_CACHE_HOME");
    free(before);
}

// ---- failures of the driver, played

static VkResult lost(void)
{
    return VK_ERROR_DEVICE_LOST;
}

static void a_lost_device_fails_everything_once(void **state)
{
    (void)state;
    for (int where = 0; where < 3; where++) {
        struct round round = {.gpu = open_gpu(NULL, "-mapped", "")};
        struct gpu *gpu = round.gpu;
        assert_non_null(gpu);
        round.kernels = kernels_create(gpu);
        const struct push_count push = {100};
        struct gpu_buffer *from = make_buffer(gpu, "from", 400, GPU_MEMORY_DEVICE);
        struct gpu_buffer *to = make_buffer(gpu, "to", 400, GPU_MEMORY_DEVICE);
        const struct gpu_dispatch dispatch = copy_dispatch(&round, &push, from, to);
        struct gpu_commands *commands = make_commands(gpu, 0);
        gpu_commands_dispatch(commands, &dispatch);
        assert_true(gpu_commands_end(commands));
        struct vk_gpu *vk = vk_gpu(gpu);
        uint64_t ticket = 0;
        if (where == 0) {
            vk->fn.vkQueueSubmit = (PFN_vkQueueSubmit)(void (*)(void))lost;
        } else {
            vk->fn.vkWaitSemaphores = (PFN_vkWaitSemaphores)(void (*)(void))lost;
            vk->fn.vkGetSemaphoreCounterValue =
                (PFN_vkGetSemaphoreCounterValue)(void (*)(void))lost;
        }
        ticket = gpu_submit(gpu, &commands, 1);
        assert_int_equal(ticket > 0, where > 0);
        if (where == 1) assert_false(gpu_wait(gpu, ticket));
        if (where == 2) assert_false(gpu_done(gpu, ticket));
        assert_true(gpu_lost(gpu));
        unit_assert_line("lost", gpu->caps.name);
        uint32_t word = 0;
        double ms[1];
        assert_int_equal(gpu_submit(gpu, &commands, 1), 0);
        assert_false(gpu_wait(gpu, ticket));
        assert_false(gpu_done(gpu, ticket));
        assert_false(gpu_buffer_read(gpu, to, 0, &word, 4));
        assert_false(gpu_buffer_write(gpu, to, 0, &word, 4));
        assert_false(gpu_commands_times(gpu, commands, ms));
        assert_null(
            gpu_buffer_create(gpu, &(struct gpu_buffer_params){"late", 4, GPU_MEMORY_DEVICE}));
        assert_null(gpu_commands_create(gpu, &(struct gpu_commands_params){"late", 0}));
        gpu_commands_destroy(gpu, &commands);
        gpu_buffer_destroy(gpu, &from), gpu_buffer_destroy(gpu, &to);
        kernels_destroy(&round.kernels);
        gpu_destroy(&round.gpu);
        unit_assert_silent();
    }
}

static PFN_vkAllocateMemory allocate_really;
static uint64_t allocation_limit;

static VKAPI_ATTR VkResult VKAPI_CALL allocate_limited(VkDevice device,
                                                       const VkMemoryAllocateInfo *info,
                                                       const VkAllocationCallbacks *callbacks,
                                                       VkDeviceMemory *memory)
{
    if (info->allocationSize > allocation_limit) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return allocate_really(device, info, callbacks, memory);
}

static void out_of_memory_says_what_and_goes_on(void **state)
{
    (void)state;
    struct gpu *gpu = open_gpu(NULL, NULL, "");
    assert_non_null(gpu);
    struct gpu_buffer *held = make_buffer(gpu, "held", 3 << 20, GPU_MEMORY_DEVICE);
    struct vk_gpu *vk = vk_gpu(gpu);
    allocate_really = vk->fn.vkAllocateMemory;
    vk->fn.vkAllocateMemory = allocate_limited;
    allocation_limit = 1 << 20;
    assert_null(
        gpu_buffer_create(gpu, &(struct gpu_buffer_params){"large", 100 << 20, GPU_MEMORY_DEVICE}));
    unit_assert_line("\"large\": 100.0 MiB", "3.0 MiB");
    assert_non_null(strstr(unit_log.last, "smaller batch"));
    // no room for a block of 16 MiB, but for the buffer itself
    allocation_limit = 15 << 20;
    struct gpu_buffer *fits = make_buffer(gpu, "fits", 14 << 20, GPU_MEMORY_DEVICE);
    unit_assert_silent();
    assert_int_equal(gpu_memory_bytes(gpu), 17 << 20);
    gpu_buffer_destroy(gpu, &fits);
    gpu_buffer_destroy(gpu, &held);
    assert_int_equal(vk->block_bytes, 0);
    gpu_destroy(&gpu);
}

// A buffer that was destroyed but is in flight is waited for before memory is called out.
static void memory_in_flight_is_waited_for(void **state)
{
    (void)state;
    struct gpu *gpu = open_gpu(NULL, NULL, "");
    assert_non_null(gpu);
    struct vk_gpu *vk = vk_gpu(gpu);
    const uint64_t bytes = 64 << 20;
    gpu->caps.heap_bytes =
        100 << 20; // a CPU driver is stopped at this; others are not, and pass anyhow
    struct gpu_buffer *old = make_buffer(gpu, "old", bytes, GPU_MEMORY_DEVICE);
    struct gpu_commands *commands = make_commands(gpu, 0);
    for (int i = 0; i < 20; i++) {
        gpu_commands_fill(commands, &(struct gpu_bind){old, 0, bytes}, (uint32_t)i);
        gpu_commands_barrier(commands);
    }
    assert_true(gpu_commands_end(commands));
    assert_true(gpu_submit(gpu, &commands, 1) > 0);
    gpu_buffer_destroy(gpu, &old);
    struct gpu_buffer *new = make_buffer(gpu, "new", bytes, GPU_MEMORY_DEVICE);
    unit_assert_silent();
    gpu_commands_destroy(gpu, &commands);
    gpu_buffer_destroy(gpu, &new);
    assert_true(vk->retired_count == 0 || vk->base.submitted > vk->finished);
    gpu_destroy(&gpu);
}

static PFN_vkGetPhysicalDeviceProperties properties_really;

static VKAPI_ATTR void VKAPI_CALL properties_of_an_old_driver(VkPhysicalDevice device,
                                                              VkPhysicalDeviceProperties *out)
{
    properties_really(device, out);
    out->apiVersion = VK_API_VERSION_1_1;
}

static void an_old_driver_is_not_used(void **state)
{
    (void)state;
    struct vk_instance instance;
    struct vk_physical *list = NULL;
    assert_true(vk_instance_create(&instance, false));
    properties_really = vkGetPhysicalDeviceProperties;
    vkGetPhysicalDeviceProperties = properties_of_an_old_driver;
    const int count = vk_enumerate(&instance, &list);
    vkGetPhysicalDeviceProperties = properties_really;
    assert_true(count >= 1);
    for (int i = 0; i < count; i++)
        assert_string_equal(list[i].problem,
                            "its driver has Vulkan 1.1, 1.2 is needed: update the driver");
    assert_int_equal(vk_pick(list, count, NULL), -1);
    unit_assert_line("1.2 is needed", list[0].caps.name);
    assert_int_equal(vk_pick(list, 0, NULL), -1);
    unit_assert_line("no Vulkan device", "--device ref");
    free(list);
    vk_instance_destroy(&instance);
}

// ---- no driver, no loader

static void no_driver_is_one_line(void **state)
{
    (void)state;
    static const char *const names[] = {"VK_ICD_FILENAMES", "VK_DRIVER_FILES"};
    char *before[2];
    for (int i = 0; i < 2; i++) {
        before[i] = getenv(names[i]) ? strdup(getenv(names[i])) : NULL;
        setenv(names[i], "/nonexistent", 1);
    }
    assert_null(open_gpu(NULL, NULL, ""));
    unit_assert_line("mesa-vulkan-drivers", "--device ref");
    assert_int_equal(gpu_list(NULL, 0), -1);
    unit_log.lines = 0;
    struct gpu *gpu = open_gpu("ref", NULL, "");
    assert_non_null(gpu);
    gpu_destroy(&gpu);
    unit_assert_silent();
    for (int i = 0; i < 2; i++) {
        if (before[i]) setenv(names[i], before[i], 1);
        else unsetenv(names[i]);
        free(before[i]);
    }
}

// What the program does when it is started again without a loader.
static int child_without_loader(void)
{
    log_set(unit_log_line, NULL, LOG_DEBUG);
    if (open_gpu(NULL, NULL, "")) return 2;
    if (unit_log.lines != 1 || !strstr(unit_log.last, "libvulkan1") ||
        !strstr(unit_log.last, "--device ref"))
        return 3;
    struct gpu *gpu = open_gpu("ref", NULL, "");
    if (!gpu) return 4;
    gpu_destroy(&gpu);
    return 42;
}

static void no_loader_is_one_line(void **state)
{
    (void)state;
    unit_write_text("libvulkan.so.1", "not a library");
    unit_write_text("libvulkan.so", "not a library");
    const pid_t child = fork();
    if (child == 0) {
        setenv("LD_LIBRARY_PATH", unit_folder, 1);
        execl("/proc/self/exe", "unit_device", "--without-loader", (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void validation_missing_is_one_line(void **state)
{
    (void)state;
    static const char *const names[] = {"VK_LAYER_PATH", "VK_ADD_LAYER_PATH"};
    if (getenv(names[0]) || getenv(names[1])) skip();
    setenv(names[0], unit_folder, 1);
    unit_log.lines = 0;
    assert_null(round_gpu(NULL, NULL, true));
    unsetenv(names[0]);
    unit_assert_line("VK_LAYER_KHRONOS_validation", "install");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--without-loader") == 0) return child_without_loader();
    const struct CMUnitTest tests[] = {
        UNIT(devices_are_listed_and_chosen),
        UNIT(two_devices_live_side_by_side),
        UNIT(caps_are_masked),
        UNIT(caps_make_sense),
        UNIT(pipelines_are_cached_on_disk),
        UNIT(an_unwritable_cache_is_no_failure),
        UNIT(the_cache_folder_is_the_users),
        UNIT(a_lost_device_fails_everything_once),
        UNIT(out_of_memory_says_what_and_goes_on),
        UNIT(memory_in_flight_is_waited_for),
        UNIT(an_old_driver_is_not_used),
        UNIT(no_driver_is_one_line),
        UNIT(no_loader_is_one_line),
        UNIT(validation_missing_is_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
