// SPDX-License-Identifier: MIT
// Ten training steps from a fixed seed: losses, gradient norms and every gradient tensor on the
// device against the `ref` device and against values that tools/oracle.py made with PyTorch from
// the same weights and ids.
//
//     golden CASE.json CASE.golden.json        compare
//     golden CASE.json --export DIR            write model.safetensors and batches.json for
//     tools/oracle.py
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "src/schedule.h"
#include "src/trainer.h"
#include "src/weights.h"

enum { STEPS = 10, MASK_EVERY = 17 };

struct side {
    const char     *name;
    struct gpu     *gpu;
    struct kernels *kernels;
    struct trainer *trainer;
};

static int failures;

static void expect(const char *what, int step, double got, double want, double tolerance)
{
    if (fabs(got - want) <= tolerance * fmax(fabs(want), 1e-3)) return;
    printf("FAIL step %d %s: %.9g, wanted %.9g\n", step, what, got, want);
    failures++;
}

// ---- batches: seeded ids, targets are the next id, every 17th target masked; or, with packing
// "whole", as of lessons: runs of four are scored, some sequences and a micro-batch not at all.
// Where the case keeps documents apart, one begins at every fourth token or so.

static bool is_masked(const struct config *c, uint32_t step, uint32_t micro, uint32_t place)
{
    const uint32_t row = place / c->seq_len;
    if (c->packing != CONFIG_PACKING_WHOLE) return (place + 1) % MASK_EVERY == 0;
    return place / 4 % 2 == 0 || (step + micro + row) % 3 == 0 || (step == 4 && micro == 1);
}

static void make_ids(const struct config *c, uint32_t step, uint32_t micro, uint32_t *ids,
                     uint32_t *targets)
{
    const uint32_t seq = c->seq_len;
    for (uint32_t b = 0; b < c->batch_size; b++)
        for (uint32_t i = 0; i <= seq; i++) {
            const uint32_t id =
                (uint32_t)rng_below(7, step * 100 + micro, b * 1000 + i, c->vocab_size);
            if (i < seq) ids[b * seq + i] = id;
            const uint32_t place = b * seq + i - 1;
            if (i > 0) targets[place] = is_masked(c, step, micro, place) ? KERNEL_NONE_ID : id;
        }
}

static uint32_t *make_begins(const struct config *c, uint32_t step, uint32_t micro)
{
    const uint32_t seq = c->seq_len;
    if (!c->document_boundaries) return NULL;
    uint32_t *begins = calloc(c->batch_size * seq, 4);
    for (uint32_t b = 0; b < c->batch_size; b++)
        for (uint32_t i = 0, begin = 0; i < seq; i++) {
            if (rng_below(8, step * 100 + micro, b * 1000 + i, 4) == 0) begin = i;
            begins[b * seq + i] = begin;
        }
    return begins;
}

static struct batch *make_batches(const struct config *c, uint32_t step)
{
    struct batch *batch = calloc(c->gradient_accumulation_steps, sizeof *batch);
    for (uint32_t i = 0; i < c->gradient_accumulation_steps; i++) {
        uint32_t *ids = calloc(c->batch_size * c->seq_len, 4),
                 *targets = calloc(c->batch_size * c->seq_len, 4);
        make_ids(c, step, i, ids, targets);
        batch[i] = (struct batch){ids, targets, make_begins(c, step, i)};
    }
    return batch;
}

static void free_batches(const struct config *c, struct batch *batch)
{
    for (uint32_t i = 0; i < c->gradient_accumulation_steps; i++) {
        free((void *)batch[i].ids);
        free((void *)batch[i].targets);
        free((void *)batch[i].begins);
    }
    free(batch);
}

// ---- export

static bool get_initial(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                        float *values)
{
    model_init_values(user, t, begin, count, values);
    return true;
}

static cJSON *words_json(const uint32_t *words, uint32_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < count; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(
                                       words[i] == KERNEL_NONE_ID ? -100 : (double)words[i]));
    return list;
}

static int export_case(struct model *model, const char *dir)
{
    char path[4096];
    const struct config *c = &model->config;
    cJSON *steps = cJSON_CreateArray();
    for (uint32_t step = 1; step <= STEPS; step++) {
        struct batch *batch = make_batches(c, step);
        cJSON *json = cJSON_CreateObject(), *micros = cJSON_AddArrayToObject(json, "micro");
        cJSON_AddNumberToObject(json, "lr", schedule_learning_rate(c, step));
        for (uint32_t i = 0; i < c->gradient_accumulation_steps; i++) {
            cJSON *micro = cJSON_CreateObject();
            cJSON_AddItemToObject(micro, "ids",
                                  words_json(batch[i].ids, c->batch_size * c->seq_len));
            cJSON_AddItemToObject(micro, "targets",
                                  words_json(batch[i].targets, c->batch_size * c->seq_len));
            if (batch[i].begins)
                cJSON_AddItemToObject(micro, "begins",
                                      words_json(batch[i].begins, c->batch_size * c->seq_len));
            cJSON_AddItemToArray(micros, micro);
        }
        cJSON_AddItemToArray(steps, json);
        free_batches(c, batch);
    }
    char *text = cJSON_PrintUnformatted(steps);
    snprintf(path, sizeof path, "%s/batches.json", dir);
    struct file_writer *writer = file_make_folders(dir) ? file_writer_open(path) : NULL;
    bool ok =
        writer && file_writer_write(writer, text, strlen(text)) && file_writer_commit(&writer);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ok = ok && weights_save(model, path, get_initial, model, NULL, 0);
    free(text);
    cJSON_Delete(steps);
    return ok ? 0 : 1;
}

// ---- comparison

static bool open_side(struct side *side, const char *device, const struct model *model)
{
    side->gpu = gpu_create(&(struct gpu_params){.device = device});
    if (!side->gpu) return false;
    side->kernels = kernels_create(side->gpu);
    side->trainer = trainer_create(side->gpu, side->kernels, model);
    return side->trainer && params_init(trainer_params(side->trainer));
}

static void close_side(struct side *side)
{
    trainer_destroy(&side->trainer);
    kernels_destroy(&side->kernels);
    gpu_destroy(&side->gpu);
}

static bool take_step(struct side *side, const struct config *c, uint32_t step,
                      struct trainer_result *result)
{
    struct batch *batch = make_batches(c, step);
    const bool ok = trainer_submit(side->trainer, step, schedule_learning_rate(c, step), batch) &&
                    trainer_collect(side->trainer, result);
    free_batches(c, batch);
    return ok;
}

static float *gradient(struct side *side, const struct model_tensor *t)
{
    float *values = calloc(t->count, sizeof *values);
    params_read(trainer_params(side->trainer), PARAMS_GRAD, t, 0, t->count, values);
    return values;
}

static void compare_gradients(int step, const struct model_tensor *t, const float *got,
                              const float *want, double scale)
{
    double error = 0, square = 1e-20;
    for (uint64_t i = 0; i < t->count; i++) {
        error += pow((double)got[i] - want[i], 2);
        square += (double)want[i] * want[i];
    }
    // relative to the tensor, or to the whole gradient where the tensor's is tiny
    if (error <= 1e-6 * fmax(square, 1e-8 * scale * scale)) return;
    printf("FAIL step %d gradient of %s: relative error %.3g against the reference device\n", step,
           t->name, sqrt(error / square));
    failures++;
}

// The oracle gives the norm and the projection on sin(1), sin(2), ... of each tensor, stacked
// experts in order.
static void compare_oracle(int step, const struct model_tensor *t, const float *got,
                           const cJSON *golden, double scale)
{
    double square = 0, projection = 0;
    const cJSON *pair =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(golden, "gradients"),
                                         t->name);
    if (!cJSON_IsArray(pair)) {
        printf("FAIL step %d: the golden file has no gradient of %s\n", step, t->name);
        failures++;
        return;
    }
    for (uint64_t i = 0; i < t->count; i++) {
        square += (double)got[i] * got[i];
        projection += got[i] * sin((double)(i + 1));
    }
    const double norm = cJSON_GetArrayItem(pair, 0)->valuedouble,
                 allowed = 2e-3 * fmax(norm, 1e-3 * scale);
    if (fabs(sqrt(square) - norm) <= allowed &&
        fabs(projection - cJSON_GetArrayItem(pair, 1)->valuedouble) <= allowed)
        return;
    printf(
        "FAIL step %d gradient of %s: norm %.8g and projection %.8g, the oracle's %.8g and %.8g\n",
        step, t->name, sqrt(square), projection, norm, cJSON_GetArrayItem(pair, 1)->valuedouble);
    failures++;
}

static bool compare_step(struct side *device, struct side *ref, const struct model *model,
                         uint32_t step, const cJSON *golden)
{
    struct trainer_result a, b;
    if (!take_step(device, &model->config, step, &a) || !take_step(ref, &model->config, step, &b))
        return false;
    printf("step %2u  loss %.7f  ref %.7f  oracle %.7f  |gradient| %.6f  oracle %.6f\n", step,
           a.loss, b.loss, cJSON_GetObjectItem(golden, "loss")->valuedouble, a.grad_norm,
           cJSON_GetObjectItem(golden, "grad_norm")->valuedouble);
    expect("loss against ref", (int)step, a.loss, b.loss, 2e-5);
    expect("loss against the oracle", (int)step, a.loss,
           cJSON_GetObjectItem(golden, "loss")->valuedouble, 5e-5);
    expect("gradient norm against ref", (int)step, a.grad_norm, b.grad_norm, 5e-4);
    expect("gradient norm against the oracle", (int)step, a.grad_norm,
           cJSON_GetObjectItem(golden, "grad_norm")->valuedouble, 1e-3);
    if (a.skipped || b.skipped) failures++;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        float *got = gradient(device, &model->tensor[t]), *want = gradient(ref, &model->tensor[t]);
        compare_gradients((int)step, &model->tensor[t], got, want, b.grad_norm);
        compare_oracle((int)step, &model->tensor[t], got, golden, b.grad_norm);
        free(got);
        free(want);
    }
    return true;
}

static int compare_case(const struct model *model, const char *golden_path)
{
    void *text;
    uint64_t bytes;
    if (!file_read(golden_path, 1 << 24, &text, &bytes)) return 1;
    cJSON *golden = cJSON_ParseWithLength(text, bytes);
    struct side device = {.name = "device"}, ref = {.name = "ref"};
    bool ok = cJSON_GetArraySize(golden) == STEPS &&
              open_side(&device, getenv("VKMOE_DEVICE"), model) && open_side(&ref, "ref", model);
    const char *const plans[] = {"zero", "train", "update"};
    for (size_t i = 0; ok && i < COUNT_OF(plans); i++)
        ok = plan_verify(trainer_plan(device.trainer, plans[i]));
    for (uint32_t step = 1; ok && step <= STEPS; step++)
        ok = compare_step(&device, &ref, model, step, cJSON_GetArrayItem(golden, (int)step - 1));
    close_side(&device);
    close_side(&ref);
    cJSON_Delete(golden);
    free(text);
    printf("%d passed, %d failed\n", ok && !failures, !ok || failures);
    return !ok || failures;
}

int main(int argc, char **argv)
{
    struct config config;
    if (argc < 3 || !config_read(&config, argv[1], NULL, 0)) return 2;
    struct model *model = model_create(&config, 1 << 30);
    if (!model) return 1;
    const int status = argc == 4 && !strcmp(argv[2], "--export") ? export_case(model, argv[3])
                                                                 : compare_case(model, argv[2]);
    model_destroy(&model);
    return status;
}
