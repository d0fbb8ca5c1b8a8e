// SPDX-License-Identifier: MIT
// Choices of kernels as JSON: for the run folder, and kept in the cache folder (tune.h).
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/base.h"
#include "src/kernel_shape.h"
#include "src/tune.h"

enum { TUNE_MOST_PARTS = 64 }; // of a split sum

// the words of a shape, in order; the variant is the last
enum { SHAPE_WORDS = sizeof(struct kernel_shape) / 4 - 1 };
_Static_assert(offsetof(struct kernel_shape, variant) == 4 * SHAPE_WORDS, "the variant is last");

static cJSON *print_choice(const struct kernel_choice *c)
{
    cJSON *json = cJSON_CreateObject();
    const double size[] = {c->size.rows, c->size.columns, c->size.inner};
    uint32_t words[SHAPE_WORDS];
    double shape[SHAPE_WORDS];
    memcpy(words, &c->shape, sizeof words);
    for (int i = 0; i < SHAPE_WORDS; i++) shape[i] = words[i];
    cJSON_AddStringToObject(json, "kernel", kernel_info(c->op)->name);
    cJSON_AddStringToObject(json, "store", dtype_name(c->store));
    cJSON_AddItemToObject(json, "size", cJSON_CreateDoubleArray(size, 3));
    cJSON_AddStringToObject(json, "variant", kernel_variant_name(c->shape.variant));
    cJSON_AddItemToObject(json, "shape", cJSON_CreateDoubleArray(shape, SHAPE_WORDS));
    if (c->parts > 1) cJSON_AddNumberToObject(json, "parts", c->parts);
    cJSON_AddNumberToObject(json, "ms", c->ms);
    cJSON_AddNumberToObject(json, "default_ms", c->default_ms);
    return json;
}

static void identify(cJSON *json, const struct kernels *kernels)
{
    const struct gpu_caps *caps = &kernels_gpu(kernels)->caps;
    char text[17];
    cJSON_AddStringToObject(json, "device", caps->name);
    cJSON_AddStringToObject(json, "driver", caps->driver);
    cJSON_AddNumberToObject(json, "caps", caps->mask);
    cJSON_AddNumberToObject(json, "subgroup", caps->subgroup_size);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)kernels_fingerprint());
    cJSON_AddStringToObject(json, "kernels", text);
}

char *tune_print(const struct kernels *kernels)
{
    uint32_t count;
    const struct kernel_choice *choice = kernels_choices(kernels, &count);
    cJSON *json = cJSON_CreateObject();
    identify(json, kernels);
    cJSON *list = cJSON_AddArrayToObject(json, "choices");
    for (uint32_t i = 0; i < count; i++) cJSON_AddItemToArray(list, print_choice(&choice[i]));
    char *text = cJSON_Print(json);
    if (!text) abort();
    cJSON_Delete(json);
    return text;
}

static const char *string_of(const cJSON *json, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
    return text ? text : "";
}

static double number_of(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static bool words_of(const cJSON *json, const char *key, uint32_t *words, int count)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(json, key), *item;
    int i = 0;
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != count) return false;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < 4294967296.0))
            return false;
        words[i++] = (uint32_t)item->valuedouble;
    }
    return true;
}

static bool parse_choice(const cJSON *json, struct kernel_choice *c)
{
    uint32_t size[3], shape[SHAPE_WORDS];
    const int op = kernel_op_from_name(string_of(json, "kernel"));
    int store = -1, variant = -1;
    for (enum dtype d = DTYPE_F32; d <= DTYPE_F16; d++)
        if (!strcmp(dtype_name(d), string_of(json, "store"))) store = (int)d;
    for (enum kernel_variant v = 0; v < KERNEL_VARIANTS; v++)
        if (!strcmp(kernel_variant_name(v), string_of(json, "variant"))) variant = (int)v;
    if (op < 0 || store < 0 || variant < 0 || !words_of(json, "size", size, 3) ||
        !words_of(json, "shape", shape, SHAPE_WORDS))
        return false;
    *c = (struct kernel_choice){.op = (enum kernel_op)op, .store = (enum dtype)store,
                                .size = {size[0], size[1], size[2]}};
    memcpy(&c->shape, shape, sizeof shape);
    c->shape.variant = (enum kernel_variant)variant;
    const double parts = number_of(json, "parts");
    if (!(parts >= 0 && parts <= TUNE_MOST_PARTS)) return false;
    c->parts = (uint32_t)parts;
    c->ms = number_of(json, "ms");
    c->default_ms = number_of(json, "default_ms");
    return true;
}

static bool is_ours(const cJSON *json, const struct kernels *kernels)
{
    cJSON *own = cJSON_CreateObject();
    identify(own, kernels);
    bool same = true;
    const cJSON *item;
    cJSON_ArrayForEach(item, own)
        same &= cJSON_Compare(item, cJSON_GetObjectItemCaseSensitive(json, item->string), true);
    cJSON_Delete(own);
    return same;
}

bool tune_take(struct kernels *kernels, const char *text, uint64_t bytes)
{
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "choices"), *item;
    const int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    struct kernel_choice *choice = calloc((size_t)count + 1, sizeof *choice);
    bool ok = json && cJSON_IsArray(list) && is_ours(json, kernels);
    int i = 0;
    cJSON_ArrayForEach(item, list) ok = ok && parse_choice(item, &choice[i++]);
    if (ok) kernels_choose(kernels, choice, (uint32_t)count);
    free(choice);
    cJSON_Delete(json);
    return ok;
}

// ---- kept

bool tune_path(const struct tune_params *params, const struct gpu_caps *caps, char *path,
               size_t size)
{
    char folder[3800], uuid[33];
    path[0] = 0;
    if (params->cache_dir) snprintf(folder, sizeof folder, "%s", params->cache_dir);
    else if (!os_cache_folder(folder, sizeof folder)) return false;
    if (!folder[0]) return false;
    snprintf(path, size, "%s/tune-%s-%08x-%x-%u.json", folder, gpu_uuid_text(caps, uuid),
             caps->driver_version, caps->mask, caps->subgroup_size);
    return true;
}

void tune_read(struct kernels *kernels, const char *path)
{
    void *text;
    uint64_t bytes;
    if (!path[0] || !file_exists(path) || !file_read(path, 1 << 20, &text, &bytes)) return;
    if (!tune_take(kernels, text, bytes))
        log_info("%s: of other kernels or damaged: measured anew", path);
    free(text);
}

void tune_write(const struct kernels *kernels, const char *path)
{
    char folder[4096], *text = tune_print(kernels);
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    struct file_writer *writer = file_make_folders(folder) ? file_writer_open(path) : NULL;
    if (writer) {
        file_writer_write(writer, text, strlen(text));
        file_writer_commit(&writer);
    }
    free(text);
}
