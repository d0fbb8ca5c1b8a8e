// SPDX-License-Identifier: MIT
// Training steps on a device: see trainer.h. The inputs of a micro-batch are one block of memory
// (batch.h), so one copy brings them; so are its results.
#include "src/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/batch.h"
#include "src/rope.h"

enum { SLOTS = 2, SETTLE_STEPS = 2 };

struct slot {
    struct gpu_buffer    *input, *output;  // [micro] input blocks; [micro + 1] result blocks
    struct gpu_commands **copy_in, **copy_out;
    uint64_t              ticket;
    uint32_t              step;
    double                finished;
    uint64_t              targets;
    struct experts_counts experts;
};

struct trainer {
    struct gpu         *gpu;
    const struct model *model;
    const struct config *config;
    struct params      *params;
    struct batch_layout layout;
    struct gpu_buffer  *input, *result, *rope;   // on the device
    struct plan        *zero_plan, *train_plan, *update_plan;
    struct run         *zero, *train, *update;
    struct slot         slot[SLOTS];
    uint32_t            submitted, collected;
    uint32_t            submits;      // of the last step
    uint32_t            micro_count, moe_layers;
    uint64_t            written;      // of experts, up to the last step
    double              average;      // of struct step_words, for steps to come
    float             **load;
    struct trainer_layer *layer;
    uint32_t          **picks, *ids;
    float             **gates;
    struct arena       *arena;
};

// ---- creation

static struct gpu_buffer *make_buffer(struct gpu *gpu, const char *name, uint64_t bytes,
                                      enum gpu_memory memory)
{
    return gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = name,
                                                              .bytes = bytes,
                                                              .memory = memory});
}

static struct gpu_commands *copy_commands(struct gpu *gpu, struct gpu_bind from, struct gpu_bind to)
{
    struct gpu_commands *commands =
        gpu_commands_create(gpu, &(struct gpu_commands_params){.name = "copy"});
    if (!commands) return NULL;
    gpu_commands_copy(commands, &from, &to);
    if (!gpu_commands_end(commands)) gpu_commands_destroy(gpu, &commands);
    return commands;
}

static bool make_slot(struct trainer *t, struct slot *slot)
{
    const uint64_t in = t->layout.input_bytes, out = t->layout.result_bytes;
    const uint32_t count = t->micro_count;
    const uint64_t all = out * (count + 1);
    if (!(slot->input = make_buffer(t->gpu, "inputs (host)", in * count, GPU_MEMORY_UPLOAD)) ||
        !(slot->output = make_buffer(t->gpu, "results (host)", all, GPU_MEMORY_READBACK)))
        return false;
    slot->copy_in = arena_array(t->arena, count, sizeof *slot->copy_in);
    slot->copy_out = arena_array(t->arena, count + 1, sizeof *slot->copy_out);
    for (uint32_t i = 0; i <= count; i++) {
        slot->copy_out[i] = copy_commands(t->gpu, (struct gpu_bind){t->result, 0, out},
                                          (struct gpu_bind){slot->output, i * out, out});
        if (!slot->copy_out[i]) return false;
        if (i == count) break;
        slot->copy_in[i] = copy_commands(t->gpu, (struct gpu_bind){slot->input, i * in, in},
                                         (struct gpu_bind){t->input, 0, in});
        if (!slot->copy_in[i]) return false;
    }
    return true;
}

static bool finish_plan(struct plan *plan, struct run **run)
{
    if (!plan_finish(plan)) return false;
    *run = run_create(plan);
    return *run != NULL;
}

static struct network_io make_io(const struct trainer *t, struct plan *plan)
{
    return batch_io(&t->layout, plan, t->input, t->result, t->rope);
}

static bool make_plans(struct trainer *t, struct kernels *kernels)
{
    const struct config *c = t->config;
    const enum dtype store = c->torch_dtype;
    t->zero_plan = plan_create(t->gpu, kernels, "zero", store);
    t->train_plan = plan_create(t->gpu, kernels, "train", store);
    t->update_plan = plan_create(t->gpu, kernels, "update", store);
    struct network_io io = make_io(t, t->zero_plan);
    network_zero(t->zero_plan, t->params, &io);
    io = make_io(t, t->update_plan);
    network_update(t->update_plan, t->params, &io);
    io = make_io(t, t->train_plan);
    struct network train =
        network_begin(t->train_plan, t->params, NETWORK_TRAIN, c->batch_size, c->seq_len, 0, &io);
    network_forward(&train);
    network_backward(&train);
    return finish_plan(t->zero_plan, &t->zero) && finish_plan(t->train_plan, &t->train) &&
           finish_plan(t->update_plan, &t->update);
}

static void make_picks(struct trainer *t)
{
    const struct batch_layout *l = &t->layout;
    t->picks = arena_array(t->arena, t->moe_layers + 1, sizeof *t->picks);
    t->ids = arena_array(t->arena, l->pick_tokens + 1, sizeof *t->ids);
    t->gates = arena_array(t->arena, t->moe_layers + 1, sizeof *t->gates);
    for (uint32_t i = 0; l->pick_tokens && i < t->moe_layers; i++) {
        t->picks[i] = arena_alloc(t->arena, batch_picks_bytes(l, i));
        if (l->gates) t->gates[i] = arena_alloc(t->arena, batch_picks_bytes(l, i));
    }
}

// What training with experts that come and go does not know yet.
static const char *unstreamable(const struct model *model)
{
    const struct config *c = &model->config;
    if (c->mlp_bias) return "mlp_bias";
    if (c->expert_optimizer == CONFIG_DENSE_EXACT) return "expert_optimizer dense-exact";
    if (config_averages(c)) return "a mean of the weights (ema_decay, swa_every)";
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *t = &model->tensor[i];
        if (!t->streamed) continue;
        const enum config_optim optim = model->group[t->group].optim;
        if (optim != CONFIG_ADAMW && optim != CONFIG_ADAMW_8BIT)
            return "an optim of experts but adamw and adamw_8bit";
        for (uint32_t j = 0; j < i; j++)
            if (model->tensor[j].role == t->role && model->tensor[j].group != t->group)
                return "param_groups that treat the experts of one layer differently";
    }
    return NULL;
}

static bool make_params(struct trainer *t, const struct experts_params *experts)
{
    const char *reason = experts ? unstreamable(t->model) : NULL;
    if (reason) log_error("experts that come and go cannot be trained with %s", reason);
    else
        t->params = params_create_within(t->gpu, t->model, experts ? experts->budget : 0,
                                         experts && experts->state_out);
    if (!experts) return t->params;
    struct experts_params own = *experts;
    if (!t->params) {
        if (own.source.close) own.source.close(own.source.user);
        return false;
    }
    own.gpu = t->gpu;
    own.model = t->model;
    own.training = true;
    t->params->experts = experts_create(&own);
    if (!t->params->experts) return false;
    t->params->experts->steps = t->params->expert_steps;
    t->params->experts->steps_stride = t->params->moves_stride;
    return true;
}

static struct trainer *create(struct gpu *gpu, struct kernels *kernels, const struct model *model,
                              const struct experts_params *experts)
{
    struct arena *arena = arena_create("trainer");
    struct trainer *t = arena_alloc(arena, sizeof *t);
    const struct config *c = &model->config;
    t->arena = arena;
    t->gpu = gpu;
    t->model = model;
    t->config = c;
    t->micro_count = c->gradient_accumulation_steps;
    t->moe_layers = config_moe_layers(c);
    t->layout = batch_layout(c, c->batch_size * c->seq_len, c->seq_len);
    batch_layout_picks(&t->layout, c, batch_pick_tokens(c),
                       c->trace_mib > 0 && c->trace_tokens > 0);
    make_picks(t);
    t->load = arena_array(arena, t->moe_layers + 1, sizeof *t->load);
    for (uint32_t i = 0; i < t->moe_layers; i++)
        t->load[i] = arena_array(arena, c->num_experts, sizeof(float));
    t->layer = arena_array(arena, t->moe_layers + 1, sizeof *t->layer);
    const uint64_t in = t->layout.input_bytes, out = t->layout.result_bytes;
    // the first that cannot be had is the one that is told
    if (!make_params(t, experts) ||
        !(t->input = make_buffer(gpu, "inputs", in, GPU_MEMORY_DEVICE)) ||
        !(t->result = make_buffer(gpu, "results", out, GPU_MEMORY_DEVICE)) ||
        !(t->rope = rope_table(gpu, c, c->seq_len)) || !make_plans(t, kernels))
        goto fail;
    for (int i = 0; i < SLOTS; i++)
        if (!make_slot(t, &t->slot[i])) goto fail;
    return t;
fail:
    trainer_destroy(&t);
    return NULL;
}

struct trainer *trainer_create(struct gpu *gpu, struct kernels *kernels, const struct model *model)
{
    return create(gpu, kernels, model, NULL);
}

struct trainer *trainer_create_streamed(struct gpu *gpu, struct kernels *kernels,
                                        const struct model *model,
                                        const struct experts_params *experts)
{
    return create(gpu, kernels, model, experts);
}

static void destroy_slot(struct trainer *t, struct slot *slot)
{
    for (uint32_t i = 0; slot->copy_in && i < t->micro_count; i++)
        gpu_commands_destroy(t->gpu, &slot->copy_in[i]);
    for (uint32_t i = 0; slot->copy_out && i <= t->micro_count; i++)
        gpu_commands_destroy(t->gpu, &slot->copy_out[i]);
    gpu_buffer_destroy(t->gpu, &slot->input);
    gpu_buffer_destroy(t->gpu, &slot->output);
}

void trainer_destroy(struct trainer **trainer)
{
    struct trainer *t = *trainer;
    if (!t) return;
    for (int i = 0; i < SLOTS; i++) destroy_slot(t, &t->slot[i]);
    run_destroy(&t->zero);
    run_destroy(&t->train);
    run_destroy(&t->update);
    plan_destroy(&t->zero_plan);
    plan_destroy(&t->train_plan);
    plan_destroy(&t->update_plan);
    gpu_buffer_destroy(t->gpu, &t->input);
    gpu_buffer_destroy(t->gpu, &t->result);
    gpu_buffer_destroy(t->gpu, &t->rope);
    params_destroy(&t->params);
    struct arena *arena = t->arena;
    arena_destroy(&arena);
    *trainer = NULL;
}

struct params *trainer_params(struct trainer *t) { return t->params; }
void trainer_average(struct trainer *t, double share) { t->average = share; }
uint32_t trainer_in_flight(const struct trainer *t) { return t->submitted - t->collected; }

struct plan *trainer_plan(struct trainer *t, const char *name)
{
    struct plan *plans[] = {t->zero_plan, t->train_plan, t->update_plan};
    for (size_t i = 0; i < COUNT_OF(plans); i++)
        if (strcmp(plans[i]->name, name) == 0) return plans[i];
    return NULL;
}

// ---- steps

static struct step_words step_words(const struct trainer *t, uint32_t step, double learning_rate,
                                    uint64_t targets)
{
    const struct config *c = t->config;
    const double scale = c->loss_scale > 0 ? c->loss_scale : 1;
    return (struct step_words){
        .step = step,
        .learning_rate = (float)learning_rate,
        .loss_scale = (float)(scale / (double)max_u64(targets, 1)),
        .aux_scale = (float)(scale / t->micro_count),
        .unscale = (float)(1 / scale),
        .max_grad_norm = (float)c->max_grad_norm,
        .average = (float)t->average,
        .length = t->layout.tokens,
        .seed_low = (uint32_t)c->seed,
        .seed_high = (uint32_t)(c->seed >> 32),
    };
}

static bool submit_all(struct trainer *t, struct slot *slot)
{
    struct run_queue queue = {.gpu = t->gpu};
    run_queue_run(&queue, t->zero);
    for (uint32_t i = 0; i < t->micro_count; i++) {
        run_queue_commands(&queue, slot->copy_in[i], 0);
        run_queue_run(&queue, t->train);
        run_queue_commands(&queue, slot->copy_out[i], 0);
    }
    run_queue_run(&queue, t->update);
    run_queue_commands(&queue, slot->copy_out[t->micro_count], 0);
    slot->ticket = run_queue_submit(&queue);
    t->submits = queue.submits;
    return slot->ticket != 0;
}

static bool wait_for(struct trainer *t, struct slot *slot)
{
    if (!gpu_wait(t->gpu, slot->ticket)) return false;
    if (!(slot->finished > 0)) slot->finished = os_seconds();
    return true;
}

// After the first steps everything is cut by what they really took; only then is anything recorded
// again.
static bool settle(struct trainer *t, struct slot *slot)
{
    return t->submitted > SETTLE_STEPS ||
           (wait_for(t, slot) && run_settle(t->zero) && run_settle(t->train) &&
            run_settle(t->update));
}

bool trainer_submit(struct trainer *t, uint32_t step, double learning_rate,
                    const struct batch *batch)
{
    if (trainer_in_flight(t) >= SLOTS) return false;
    struct slot *slot = &t->slot[t->submitted % SLOTS];
    slot->targets = 0;
    for (uint32_t i = 0; i < t->micro_count; i++)
        slot->targets += batch_scored(&t->layout, &batch[i]);
    struct step_words words = step_words(t, step, learning_rate, slot->targets);
    for (uint32_t i = 0; i < t->micro_count; i++, words.micro++)
        batch_fill(&t->layout, (uint8_t *)slot->input->data + i * t->layout.input_bytes, &batch[i],
                   words);
    slot->step = step;
    slot->finished = 0;
    struct experts *experts = t->params->experts;
    struct experts_counts before = {0};
    if (experts) before = experts->counts;
    before.written = t->written;
    if (!submit_all(t, slot)) return false;
    if (experts) {
        slot->experts = experts_counts_since(experts, &before);
        t->written = experts->counts.written;
    }
    t->submitted++;
    // where experts come and go the host waited for nearly all of the step, and nobody is there to
    // see its end before the next one's
    return (!experts || wait_for(t, slot)) && settle(t, slot);
}

static void add_stats(const struct trainer *t, const float *stats, struct trainer_layer *layer,
                      float *load)
{
    for (int i = 0; i < ROUTER_LOSS_COUNT; i++)
        layer->loss[i] += (double)stats[i] / t->micro_count;
    layer->least_entropy = fmin(layer->least_entropy, (double)stats[ROUTER_LEAST_ENTROPY]);
    const float *domains = stats + network_domain_stats(t->config);
    for (int i = 0; i < ROUTER_LOSS_COUNT && t->layout.stats_stride > domains - stats; i++)
        layer->loss[i] += (double)domains[i] / t->micro_count;
    layer->picks += (double)stats[ROUTER_PICKS];
    layer->kept += (double)stats[ROUTER_KEPT];
    for (uint32_t e = 0; e < t->config->num_experts; e++) load[e] += stats[ROUTER_STATS_HEAD + e];
}

static void sum_stats(struct trainer *t, const struct slot *slot)
{
    for (uint32_t layer = 0; layer < t->moe_layers; layer++) {
        memset(t->load[layer], 0, t->config->num_experts * sizeof(float));
        t->layer[layer] = (struct trainer_layer){.least_entropy = INFINITY};
        for (uint32_t i = 0; i < t->micro_count; i++) {
            const uint8_t *block = (const uint8_t *)slot->output->data + i * t->layout.result_bytes;
            const float *stats = (const float *)(const void *)(block + t->layout.stats) +
                                 (size_t)layer * t->layout.stats_stride;
            add_stats(t, stats, &t->layer[layer], t->load[layer]);
        }
    }
}

// Of the first micro-batch.
static void read_picks(struct trainer *t, const struct slot *slot)
{
    const struct batch_layout *l = &t->layout;
    const uint8_t *in = slot->input->data, *out = slot->output->data;
    if (!l->pick_tokens) return;
    memcpy(t->ids, in + l->ids, l->pick_tokens * sizeof *t->ids);
    for (uint32_t i = 0; i < t->moe_layers; i++) {
        memcpy(t->picks[i], out + batch_picks(l, i, false), batch_picks_bytes(l, i));
        if (l->gates)
            memcpy(t->gates[i], out + batch_picks(l, i, true), batch_picks_bytes(l, i));
    }
}

bool trainer_collect(struct trainer *t, struct trainer_result *result)
{
    if (!trainer_in_flight(t)) return false;
    struct slot *slot = &t->slot[t->collected % SLOTS];
    if (!wait_for(t, slot)) return false;
    t->collected++;
    const uint8_t *block =
        (const uint8_t *)slot->output->data + t->micro_count * t->layout.result_bytes;
    float loss, norm[4];
    memcpy(&loss, block + t->layout.loss, sizeof loss);
    memcpy(norm, block + t->layout.norm, sizeof norm);
    sum_stats(t, slot);
    read_picks(t, slot);
    *result = (struct trainer_result){
        .step = slot->step,
        .loss = (double)loss / (double)max_u64(slot->targets, 1),
        .grad_norm = norm[0],
        .skipped = norm[2] == 0,
        .targets = slot->targets,
        .finished = slot->finished,
        .layers = t->moe_layers,
        .picks = (const uint32_t *const *)t->picks,
        .gates = t->layout.gates ? (const float *const *)t->gates : NULL,
        .ids = t->ids,
        .pick_tokens = t->layout.pick_tokens,
        .experts = slot->experts,
        .load = (const float *const *)t->load,
        .layer = t->layer,
    };
    return true;
}

bool trainer_check(struct trainer *t, const struct batch *batch, double tolerance)
{
    if (trainer_in_flight(t)) return false;
    struct slot *slot = &t->slot[0];
    batch_fill(&t->layout, slot->input->data, batch,
               step_words(t, 1, 0, batch_scored(&t->layout, batch)));
    const uint64_t ticket = gpu_submit(t->gpu, &slot->copy_in[0], 1) ? run_submit(t->zero) : 0;
    return ticket && gpu_wait(t->gpu, ticket) && run_check(t->train_plan, tolerance);
}

const double *trainer_step_ms(const struct trainer *t, const char *plan)
{
    const struct { const struct plan *plan; const struct run *run; } all[] = {
        {t->zero_plan, t->zero}, {t->train_plan, t->train}, {t->update_plan, t->update}};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (strcmp(all[i].plan->name, plan) == 0) return run_step_ms(all[i].run);
    return NULL;
}

uint32_t trainer_submits(const struct trainer *t) { return t->submits; }

double trainer_kernel_ms(struct trainer *t)
{
    const uint32_t back = trainer_in_flight(t);
    if (back > 0 && t->micro_count > 1) return -1;
    const double train = run_kernel_ms(t->train, back), update = run_kernel_ms(t->update, back),
                 zero = run_kernel_ms(t->zero, back);
    return train < 0 || update < 0 || zero < 0 ? -1 : train * t->micro_count + update + zero;
}
