// SPDX-License-Identifier: MIT
// Zero messages from VK_LAYER_KHRONOS_validation with synchronization validation over ten training
// steps with accumulation, evaluation and checkpoints, a resume, a generation and the one-pass
// logits, on a model with a dense and an MoE layer. Any message fails, and a fault that is planted
// first proves that one is seen. With `accesses` the same GPU-assisted, where the planted fault
// is a read past the end of a buffer. 77: the layer is not installed.
//     validation CONFIG.json TEXT DTYPE [accesses]
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/kernel_device.h"
#include "src/vkmoe.h"

enum { EXIT_SKIPPED = 77, COUNT = 1000 };

static struct { unsigned messages, errors; bool missing, tell; } seen;

static void take_line(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    const bool message = strncmp(line, "validation: ", 12) == 0;
    seen.messages += message;
    seen.errors += level <= VKMOE_LOG_WARN && !message;
    seen.missing |= strstr(line, "is not there: install") != NULL;
    if (seen.tell || !message) printf("%s\n", line);
}

static void must(bool ok, const char *what)
{
    if (ok) return;
    printf("FAIL %s\n", what);
    exit(1);
}

// ---- the proof that a fault is seen: a dispatch reads what the one before it writes, without a
// barrier; GPU-assisted: past the end

static bool accesses; // GPU-assisted

static struct gpu_dispatch copy(const struct kernel *kernel, const struct push_count *push,
                                struct gpu_buffer *from, struct gpu_buffer *to)
{
    struct gpu_dispatch dispatch = {
        .kernel = kernel->gpu, .push = push, .bind = {{from, 0, 4 * COUNT}, {to, 0, 4 * COUNT}}};
    kernel_info(KERNEL_CAST)->groups(push, &kernel->shape, dispatch.groups);
    return dispatch;
}

// `right`: with a barrier between the dispatches, and as many elements as the buffers have.
static uint64_t messages_of(struct gpu *gpu, struct kernels *kernels,
                            struct gpu_buffer *const buffer[3], bool right)
{
    const struct push_count push = {right || !accesses ? COUNT : 2 * COUNT};
    const uint64_t before = gpu_validation_messages(gpu);
    const struct kernel *kernel = kernels_get(kernels, KERNEL_CAST, DTYPE_F32,
            &(struct kernel_size){0});
    struct gpu_commands *commands =
        gpu_commands_create(gpu, &(struct gpu_commands_params){.name = "planted"});
    must(kernel && commands, "making commands");
    const struct gpu_dispatch first = copy(kernel, &push, buffer[0], buffer[1]);
    const struct gpu_dispatch second = copy(kernel, &push, buffer[1], buffer[2]);
    gpu_commands_dispatch(commands, &first);
    if (right || accesses) gpu_commands_barrier(commands);
    gpu_commands_dispatch(commands, &second);
    must(gpu_commands_end(commands), "recording");
    const uint64_t ticket = gpu_submit(gpu, &commands, 1);
    must(ticket && gpu_wait(gpu, ticket), "running");
    gpu_commands_destroy(gpu, &commands);
    return gpu_validation_messages(gpu) - before;
}

// False: validation is not installed.
static bool plant_fault(const char *device)
{
    struct gpu *gpu =
        gpu_create(&(struct gpu_params){.device = device,
                                        .cache_dir = "",
                                        .validate = accesses ? GPU_VALIDATION_ACCESSES
                                                             : GPU_VALIDATION_HAZARDS});
    if (!gpu && seen.missing) return false;
    must(gpu != NULL, "opening the device");
    printf("%s\n", gpu->choice);
    struct kernels *kernels = kernels_create(gpu);
    struct gpu_buffer *buffer[3];
    for (int i = 0; i < 3; i++) {
        buffer[i] = gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = "planted",
                                                                       .bytes = 4 * COUNT});
        must(buffer[i] != NULL, "making a buffer");
    }
    // 1.3.239's instrumentation makes kernels write nothing on lavapipe: the self-test tells
    if (accesses && !kernels_get(kernels, KERNEL_CAST, DTYPE_F32, &(struct kernel_size){0})) {
        printf("skipped: this layer's GPU-assisted mode breaks kernels\n");
        exit(EXIT_SKIPPED);
    }
    must(messages_of(gpu, kernels, buffer, true) == 0,
         "two dispatches with a barrier between them are right");
    const uint64_t planted = messages_of(gpu, kernels, buffer, false);
    printf("a planted fault: %llu messages\n", (unsigned long long)planted);
    if (accesses && planted == 0) {
        printf("skipped: this layer does not see a read past the end of a buffer\n");
        exit(EXIT_SKIPPED);
    }
    must(planted >= 1 && seen.messages == planted,
         "a dispatch that reads what it must not has to be told");
    for (int i = 0; i < 3; i++) gpu_buffer_destroy(gpu, &buffer[i]);
    kernels_destroy(&kernels);
    gpu_destroy(&gpu);
    return true;
}

// ---- the whole way

static void train(const struct vkmoe_device_params *device, char **argv, const char *folder,
                  uint32_t steps)
{
    char dtype[64];
    snprintf(dtype, sizeof dtype, "torch_dtype=%s", argv[3]);
    const char *const set[] = {dtype, "gradient_accumulation_steps=2", "save_every=5",
                               "eval_every=4"};
    const char *const data[] = {argv[2]};
    struct vkmoe_train_outcome outcome;
    const struct vkmoe_train_params params = {.device = *device,
                                              .config = argv[1],
                                              .set = set,
                                              .set_count = 4,
                                              .steps = steps,
                                              .data = data,
                                              .data_count = 1,
                                              .out = folder,
                                              .resume = steps > 10,
                                              .quiet = true};
    must(vkmoe_train(&params, &outcome) && outcome.steps == steps, "training");
}

static void use(const struct vkmoe_device_params *params, const char *folder)
{
    enum { PROMPT = 70, MADE = 10, VOCAB = 260 }; // a whole chunk of the prefill and a part of one
    static float logits[PROMPT][VOCAB];
    uint32_t ids[PROMPT], id;
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = 32 + i;
    struct vkmoe_device *device = vkmoe_device_open(params);
    struct vkmoe_model *model = device ? vkmoe_model_open(device, folder) : NULL;
    struct vkmoe_session *session = model ? vkmoe_session_open(model, PROMPT + MADE) : NULL;
    must(session && vkmoe_session_feed(session, ids, PROMPT), "feeding a session");
    for (int i = 0; i < MADE; i++) {
        const struct vkmoe_sampling sampling = {.temperature = i % 2 ? 0.8 : 0,
                                                .top_k = 20,
                                                .top_p = 0.9,
                                                .repetition_penalty = 1.1,
                                                .seed = 3};
        must(vkmoe_session_sample(session, &sampling, &id) && vkmoe_session_feed(session, &id, 1),
             "generating");
    }
    must(vkmoe_model_logits(model, ids, PROMPT, logits[0]), "the logits of all positions");
    vkmoe_session_close(&session);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    char root[] = "/tmp/vkmoe-validation-XXXXXX", folder[64];
    if (argc != 4 && argc != 5) return 2;
    accesses = argc == 5;
    const struct vkmoe_device_params device = {
        .device = getenv("VKMOE_DEVICE"),
        .caps = getenv("VKMOE_CAPS"),
        .validate = true,
        .validate_accesses = accesses,
        .untuned = true,
    };
    vkmoe_log_set(take_line, NULL, VKMOE_LOG_INFO);
    if (device.device && strcmp(device.device, "ref") == 0) {
        printf("skipped: the device is ref\n");
        return EXIT_SKIPPED;
    }
    if (!plant_fault(device.device)) return EXIT_SKIPPED;
    seen.messages = seen.errors = 0;
    seen.tell = true;
    must(mkdtemp(root) != NULL, "a temporary folder");
    snprintf(folder, sizeof folder, "%s/run", root);
    train(&device, argv, folder, 10);
    train(&device, argv, folder, 12);
    use(&device, folder);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    printf("%s: 10 steps, checkpoints, a resume, a generation: %u messages, %u other complaints\n",
           argv[3], seen.messages, seen.errors);
    return seen.messages || seen.errors ? 1 : 0;
}
