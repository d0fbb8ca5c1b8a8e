// SPDX-License-Identifier: MIT
// The plans of a training step as tables, the memory that training takes by what it is for, and
// how a prompt would go through. A streamed model gets a slot for each expert that a step may take,
// or as many as --device-budget leaves room for, or --expert-slots.
#include <stdio.h>

#include "runtime/gpu.h"
#include "src/experts_fit.h"
#include "src/session.h"
#include "src/trainer.h"
#include "tools/info.h"

static const double MIB = 1.0 / 1048576;

// How a prompt of the longest context would go through, and what that keeps at once.
static bool print_prefill(struct gpu *gpu, struct kernels *kernels, struct params *params)
{
    struct session *s =
        session_create(gpu, kernels, params, params->model->config.max_position_embeddings);
    if (!s) return false;
    const uint32_t tokens[] = {session_chunk(s), session_short_chunk(s)};
    const char *const names[] = {"prefill", "short prefill"};
    for (size_t i = 0; i < COUNT_OF(names) && session_plan(s, names[i]); i++)
        printf("plan %s: %u tokens at once, %.2f MiB of activations\n", names[i], tokens[i],
               (double)session_plan(s, names[i])->arena_bytes * MIB);
    session_destroy(&s);
    return true;
}

// Experts that a step may take at most.
static uint32_t most_experts(const struct model *model)
{
    const struct config *c = &model->config;
    uint64_t count = 0;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i])
            count += min_u64(c->num_experts, (uint64_t)c->batch_size * c->seq_len *
                                                 c->gradient_accumulation_steps *
                                                 c->layer_router[i].top_k);
    return (uint32_t)min_u64(count, UINT32_MAX);
}

struct making {
    struct gpu         *gpu;
    struct kernels     *kernels;
    const struct model *model;
    uint64_t            budget; // 0: the slots are given
    struct trainer     *trainer;
};

static bool make_with(void *user, uint32_t slots, bool state_out)
{
    struct making *m = user;
    struct experts_params experts = {.slots = slots, .budget = m->budget, .state_out = state_out};
    experts_source_initial(&experts.source);
    m->trainer = trainer_create_streamed(m->gpu, m->kernels, m->model, &experts);
    return m->trainer != NULL;
}

static void drop(void *user)
{
    struct making *m = user;
    trainer_destroy(&m->trainer);
}

static bool fits(void *user, uint32_t *slots)
{
    const struct making *m = user;
    return experts_fit(trainer_params(m->trainer)->experts, slots);
}

static uint64_t held(void *user)
{
    const struct making *m = user;
    return gpu_memory_account(m->gpu, false).held;
}

static struct trainer *make_streamed(const struct cli *cli, struct gpu *gpu,
                                     struct kernels *kernels, const struct model *model)
{
    const uint32_t given = cli->model.expert_slots;
    const uint64_t budget = given ? 0 : cli->model.device_budget;
    struct making m = {gpu, kernels, model, budget, NULL};
    const struct experts_fit_plans plans = {budget, make_with, drop, fits, held, &m};
    if (!experts_fit_plans(&plans, given || budget ? given : most_experts(model))) drop(&m);
    return m.trainer;
}

// What of the device and of the host training takes, and what is the least that it could.
static void print_budgets(const struct cli *cli, struct gpu *gpu, const struct experts *x)
{
    const struct gpu_account device = gpu_memory_account(gpu, false),
                             host = gpu_memory_account(gpu, true);
    printf("training: %.1f MiB of the device", (double)device.held * MIB);
    if (cli->model.device_budget)
        printf(" (budget %.1f MiB)", (double)cli->model.device_budget * MIB);
    printf(", %.1f MiB of the host beside the process\n", (double)host.held * MIB);
    if (!x) return;
    const uint64_t slot = experts_slot_bytes(x), others = device.held - x->slots * slot;
    const uint32_t most = most_experts(x->model);
    printf("experts: %u slots of %.2f MiB; a step takes at most %u of %llu\n", x->slots,
           (double)slot * MIB, most, (unsigned long long)x->record.keys);
    printf("smallest device budget: %.1f MiB with one slot, %.1f MiB with one for each expert of a "
           "step\n",
           (double)(others + slot) * MIB, (double)(others + most * slot) * MIB);
}

int info_plans(const struct cli *cli, const struct model *model)
{
    static const char *const names[] = {"zero", "train", "update"};
    struct gpu *gpu =
        gpu_create(&(struct gpu_params){.device = cli->device.device, .caps = cli->device.caps});
    if (!gpu) return EXIT_FAILED;
    gpu_memory_expect(gpu, cli->model.device_budget);
    struct kernels *kernels = kernels_create(gpu);
    struct trainer *trainer = model_is_streamed(model) ? make_streamed(cli, gpu, kernels, model)
                                                       : trainer_create(gpu, kernels, model);
    for (size_t i = 0; trainer && i < COUNT_OF(names); i++)
        plan_print(trainer_plan(trainer, names[i]), stdout);
    for (size_t i = 0; trainer && i < COUNT_OF(names); i++)
        plan_print_peak(trainer_plan(trainer, names[i]), stdout);
    if (trainer) gpu_memory_print(gpu, stdout);
    if (trainer) print_budgets(cli, gpu, trainer_params(trainer)->experts);
    const bool ok = trainer && print_prefill(gpu, kernels, trainer_params(trainer));
    trainer_destroy(&trainer);
    kernels_destroy(&kernels);
    gpu_destroy(&gpu);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
