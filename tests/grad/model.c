// SPDX-License-Identifier: MIT
// A whole two-layer model (one MoE layer, one dense, QK-norm) on the `ref` device: for every
// tensor, the gradient of the training plan against the central difference of the evaluation plan's
// loss, along the gradient tilted by noise.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/evaluator.h"
#include "src/trainer.h"

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 31, \"hidden_size\": 12, \"intermediate_size\": "
    "14, \"moe_intermediate_size\": 10,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
    "\"head_dim\": 6, \"qk_norm\": true,"
    " \"max_position_embeddings\": 16, \"num_experts\": 4, \"num_experts_per_tok\": 2, "
    "\"norm_topk_prob\": true,"
    " \"mlp_only_layers\": [1], \"initializer_range\": 0.3, \"router_aux_loss_coef\": 0, "
    "\"router_z_loss_coef\": 0,"
    " \"seq_len\": 7, \"batch_size\": 2, \"max_grad_norm\": 0, \"steps\": 1, \"seed\": 5}";

enum { TOKENS = 14 };

struct world {
    struct gpu       *gpu;
    struct kernels   *kernels;
    struct model     *model;
    struct trainer   *trainer;
    struct evaluator *evaluator;
    uint32_t          ids[TOKENS], targets[TOKENS];
};

// The evaluation plan on the same batch, through its own buffers: mean loss.
static double loss_of(struct world *w)
{
    double sum;
    uint64_t targets;
    const struct batch batch = {w->ids, w->targets};
    if (!evaluator_batch(w->evaluator, &batch, &sum, &targets)) exit(1);
    return sum / (double)targets;
}

static void shift(struct world *w, const struct model_tensor *t, const float *base,
                  const double *direction, double h)
{
    float *values = malloc(t->count * sizeof *values);
    for (uint64_t i = 0; i < t->count; i++) values[i] = (float)(base[i] + h * direction[i]);
    if (!params_write(trainer_params(w->trainer), PARAMS_MASTER, t, 0, t->count, values)) exit(1);
    free(values);
}

static double loss_at(struct world *w, const struct model_tensor *t, const float *base,
                      const double *direction, double h)
{
    shift(w, t, base, direction, h);
    return loss_of(w);
}

static double make_direction(const struct model_tensor *t, const float *gradient, double *direction)
{
    double norm = 0, along = 0;
    for (uint64_t i = 0; i < t->count; i++) norm += (double)gradient[i] * gradient[i];
    norm = sqrt(norm);
    for (uint64_t i = 0; i < t->count; i++) {
        direction[i] = gradient[i] / fmax(norm, 1e-30) +
                       0.3 * rng_normal(9, t->offset, i) / sqrt((double)t->count);
        along += direction[i] * gradient[i];
    }
    return along;
}

static bool check_tensor(struct world *w, const struct model_tensor *t)
{
    struct params *params = trainer_params(w->trainer);
    float *gradient = malloc(t->count * sizeof *gradient), *base = malloc(t->count * sizeof *base);
    double *direction = malloc(t->count * sizeof *direction);
    params_read(params, PARAMS_GRAD, t, 0, t->count, gradient);
    params_read(params, PARAMS_MASTER, t, 0, t->count, base);
    const double along = make_direction(t, gradient, direction), h = 2e-3;
    const double slope =
        (8 * (loss_at(w, t, base, direction, h) - loss_at(w, t, base, direction, -h)) -
         (loss_at(w, t, base, direction, 2 * h) - loss_at(w, t, base, direction, -2 * h))) /
        (12 * h);
    shift(w, t, base, direction, 0);
    const double error = fabs(slope - along) / fmax(fabs(along), 1e-3);
    const bool ok = along != 0 && error < 5e-3;
    printf("%-4s %-52s slope %12.6g gradient %12.6g error %8.2g\n", ok ? "ok" : "FAIL", t->name,
           slope, along, error);
    free(gradient);
    free(base);
    free(direction);
    return ok;
}

static bool open_world(struct world *w)
{
    struct config config;
    if (!config_parse(&config, "config", config_text, NULL, 0)) return false;
    for (int i = 0; i < TOKENS; i++) {
        w->ids[i] = (uint32_t)rng_below(11, 0, (uint64_t)i, 31);
        w->targets[i] = i == 3 ? KERNEL_NONE_ID : (uint32_t)rng_below(11, 1, (uint64_t)i, 31);
    }
    w->gpu = gpu_create(&(struct gpu_params){.device = "ref"});
    w->kernels = w->gpu ? kernels_create(w->gpu) : NULL;
    w->model = w->kernels ? model_create(&config, 1 << 30) : NULL;
    w->trainer = w->model ? trainer_create(w->gpu, w->kernels, w->model) : NULL;
    if (!w->trainer || !params_init(trainer_params(w->trainer))) return false;
    w->evaluator = evaluator_create(w->gpu, w->kernels, trainer_params(w->trainer), 2, 7);
    return w->evaluator != NULL;
}

int main(void)
{
    struct world w = {0};
    struct trainer_result result;
    int failures = 0, passes = 0;
    if (!open_world(&w)) return 1;
    const struct batch batch = {w.ids, w.targets};
    // a learning rate of zero leaves the weights where they are
    if (!trainer_submit(w.trainer, 1, 0, &batch) || !trainer_collect(w.trainer, &result)) return 1;
    if (fabs(result.loss - loss_of(&w)) > 1e-5) {
        printf("FAIL training loss %g, evaluation loss %g\n", result.loss, loss_of(&w));
        failures++;
    }
    for (uint32_t t = 0; t < w.model->tensor_count; t++) {
        if (check_tensor(&w, &w.model->tensor[t])) passes++;
        else failures++;
    }
    evaluator_destroy(&w.evaluator);
    trainer_destroy(&w.trainer);
    model_destroy(&w.model);
    kernels_destroy(&w.kernels);
    gpu_destroy(&w.gpu);
    printf("%d passed, %d failed\n", passes, failures);
    return failures || !passes;
}
