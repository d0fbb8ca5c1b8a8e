// SPDX-License-Identifier: MIT
// The measured plans of a training step as JSON: see train_plan.h.
#include "src/train_plan.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "src/base.h"

static cJSON *step_json(const struct plan *plan, const struct plan_step *step, double start,
                        double ms)
{
    int layer;
    double flops, bytes;
    cJSON *json = cJSON_CreateObject();
    plan_step_cost(plan, step, &flops, &bytes);
    cJSON_AddStringToObject(json, "kernel", plan_step_name(step));
    cJSON_AddStringToObject(json, "variant", step->kind == PLAN_DISPATCH
                                                 ? kernel_variant_name(step->kernel->shape.variant)
                                                 : "");
    cJSON_AddStringToObject(json, "section", step->section);
    if (sscanf(step->section, "layer %d", &layer) == 1)
        cJSON_AddNumberToObject(json, "layer", layer);
    else cJSON_AddNullToObject(json, "layer");
    cJSON_AddNumberToObject(json, "start", start);
    cJSON_AddNumberToObject(json, "ms", ms);
    cJSON_AddNumberToObject(json, "flop", flops);
    cJSON_AddNumberToObject(json, "bytes", bytes);
    return json;
}

static cJSON *plan_json(const struct plan *plan, const double *ms, uint32_t times)
{
    cJSON *json = cJSON_CreateObject();
    double all = 0;
    cJSON_AddStringToObject(json, "name", plan->name);
    cJSON_AddNumberToObject(json, "times", times);
    cJSON *total = cJSON_AddNumberToObject(json, "ms", 0);
    cJSON *steps = cJSON_AddArrayToObject(json, "steps");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        cJSON_AddItemToArray(steps, step_json(plan, &plan->step[i], all, ms[i]));
        all += ms[i];
    }
    cJSON_SetNumberValue(total, all);
    return json;
}

char *train_plan_print(struct trainer *trainer, const struct gpu *gpu,
                       const struct config *config, const struct peaks *peaks)
{
    static const char *const names[] = {"zero", "train", "update"};
    const uint32_t micro = config->gradient_accumulation_steps, times[] = {1, micro, 1};
    const double *ms[COUNT_OF(names)];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!(ms[i] = trainer_step_ms(trainer, names[i]))) return NULL;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "device", gpu->caps.name);
    cJSON_AddStringToObject(json, "driver", gpu->caps.driver);
    cJSON_AddStringToObject(json, "store", dtype_name(config->torch_dtype));
    cJSON_AddNumberToObject(json, "tokens", (double)config->batch_size * config->seq_len * micro);
    cJSON *of_device = cJSON_AddObjectToObject(json, "peaks");
    cJSON_AddNumberToObject(of_device, "copy_gbps", peaks->copy_gbps);
    cJSON_AddNumberToObject(of_device, "fma_gflops", peaks->fma_gflops);
    cJSON *plans = cJSON_AddArrayToObject(json, "plans");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        cJSON_AddItemToArray(plans, plan_json(trainer_plan(trainer, names[i]), ms[i], times[i]));
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}
