// SPDX-License-Identifier: MIT
// vkmoe info: what a model (config or run folder) is, what the devices can do, what the plan of a
// step does.
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/log.h"

#include "src/evaluator.h"
#include "src/experts_record.h"
#include "src/export.h"
#include "tools/cli.h"
#include "tools/info.h"

enum { MAX_DEVICES = 64 };

// ---- devices

static void add_caps(cJSON *json, const struct gpu_caps *caps)
{
    cJSON *list = cJSON_AddArrayToObject(json, "caps");
    for (unsigned i = 0; i < GPU_CAP_COUNT; i++)
        if (caps->mask & 1u << i) cJSON_AddItemToArray(list, cJSON_CreateString(gpu_cap_name(i)));
}

static void add_matrices(cJSON *json, const char *name, const struct gpu_matrix *list,
                         uint32_t count)
{
    cJSON *array = cJSON_AddArrayToObject(json, name);
    for (uint32_t i = 0; i < count; i++) {
        cJSON *matrix = cJSON_CreateObject();
        cJSON_AddNumberToObject(matrix, "m", list[i].m);
        cJSON_AddNumberToObject(matrix, "n", list[i].n);
        cJSON_AddNumberToObject(matrix, "k", list[i].k);
        cJSON_AddStringToObject(matrix, "in", gpu_scalar_name(list[i].in));
        cJSON_AddStringToObject(matrix, "out", gpu_scalar_name(list[i].out));
        cJSON_AddNumberToObject(matrix, "invocations", list[i].invocations);
        cJSON_AddItemToArray(array, matrix);
    }
}

static void print_matrices(const char *name, const struct gpu_matrix *list, uint32_t count)
{
    if (!count) return;
    printf("\n   %s:", name);
    for (uint32_t i = 0; i < count; i++) {
        printf(" %ux%ux%u %s>%s", list[i].m, list[i].n, list[i].k, gpu_scalar_name(list[i].in),
               gpu_scalar_name(list[i].out));
        if (list[i].scope == GPU_SCOPE_WORKGROUP) printf(" (%u lanes)", list[i].invocations);
    }
}

static cJSON *device_json(const struct gpu_caps *c, int index)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "index", index);
    cJSON_AddStringToObject(json, "name", c->name);
    cJSON_AddStringToObject(json, "driver", c->driver);
    cJSON_AddStringToObject(json, "type", gpu_type_name(c->type));
    cJSON_AddNumberToObject(json, "heap_bytes", (double)c->heap_bytes);
    cJSON_AddNumberToObject(json, "subgroup_size", c->subgroup_size);
    cJSON_AddNumberToObject(json, "subgroup_min", c->subgroup_min);
    cJSON_AddNumberToObject(json, "subgroup_max", c->subgroup_max);
    cJSON_AddNumberToObject(json, "shared_bytes", c->shared_bytes);
    cJSON_AddNumberToObject(json, "max_workgroup", c->max_workgroup);
    cJSON_AddNumberToObject(json, "max_range", (double)c->max_range);
    cJSON_AddNumberToObject(json, "max_allocation", (double)c->max_allocation);
    cJSON_AddBoolToObject(json, "unified", c->unified);
    add_caps(json, c);
    add_matrices(json, "matrices", c->matrix, c->matrix_count);
    add_matrices(json, "flexible_matrices", c->flexible, c->flexible_count);
    return json;
}

static void print_device(const struct gpu_caps *c, int index)
{
    printf("%d  %s\n   %s, %s, Vulkan %u.%u\n", index, c->name, c->driver, gpu_type_name(c->type),
           c->api_version >> 22 & 0x7f, c->api_version >> 12 & 0x3ff);
    printf("   %.1f GiB%s, one buffer up to %.1f GiB, one binding up to %.0f MiB\n",
           (double)c->heap_bytes / (1 << 30), c->unified ? " shared with the host" : "",
           (double)c->max_allocation / (1 << 30), (double)c->max_range / (1 << 20));
    printf("   subgroups of %u (%u to %u), %u KiB shared, %u invocations a workgroup\n   caps:",
           c->subgroup_size, c->subgroup_min, c->subgroup_max, c->shared_bytes >> 10,
           c->max_workgroup);
    for (unsigned i = 0; i < GPU_CAP_COUNT; i++)
        if (c->mask & 1u << i) printf(" %s", gpu_cap_name(i));
    print_matrices("cooperative matrices", c->matrix, c->matrix_count);
    print_matrices("flexible matrices", c->flexible, c->flexible_count);
    putchar('\n');
}

static int print_json(cJSON *json)
{
    char *text = cJSON_Print(json);
    puts(text);
    free(text);
    cJSON_Delete(json);
    return EXIT_DONE;
}

static int info_devices(const struct cli *cli)
{
    static struct gpu_caps list[MAX_DEVICES]; // large: names and texts
    const int count = gpu_list(list, MAX_DEVICES);
    if (count < 0) return EXIT_FAILED;
    cJSON *devices = cJSON_CreateArray();
    for (int i = 0; i < count && i < MAX_DEVICES; i++) {
        if (cli->json) cJSON_AddItemToArray(devices, device_json(&list[i], i));
        else print_device(&list[i], i);
    }
    if (!cli->json) {
        cJSON_Delete(devices);
        return EXIT_DONE;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "devices", devices);
    return print_json(json);
}

// ---- model

enum { MEMORY_MOST = 12 };
struct memory { const char *name; uint64_t bytes; };

// Weights and state from the tensor table alone, of a streamed model those that are always there,
// and of its experts, all or one; what activations take, `info --plan` says.
static uint32_t memory_of(const struct model *model, struct memory *out)
{
    const struct model_memory m = model_memory(model);
    uint32_t count = 0;
    out[count++] = (struct memory){"generate_weights", m.weights};
    if (m.master) out[count++] = (struct memory){"train_master", m.master};
    if (m.copy)
        out[count++] = (struct memory){m.master ? "train_compute_copy" : "train_weights", m.copy};
    out[count++] = (struct memory){"train_gradients", m.gradients};
    out[count++] = (struct memory){"train_optimizer", m.optimizer};
    if (m.average) out[count++] = (struct memory){"train_average", m.average};
    out[count++] = (struct memory){"train_total", m.train};
    struct experts_record record;
    if (model_is_streamed(model) &&
        experts_record_init(&record, model, RECORD_STATE_NONE)) {
        out[count++] = (struct memory){"experts_in_store", record.keys * record.weights_bytes};
        out[count++] = (struct memory){"expert_in_store", record.weights_bytes};
    }
    return count;
}

static uint64_t layer_parameters(const struct model *model, int32_t layer)
{
    uint64_t count = 0;
    for (uint32_t t = 0; t < model->tensor_count; t++)
        if (model->tensor[t].layer == layer) count += model->tensor[t].count;
    return count;
}

static cJSON *layer_json(const struct model *model, int32_t layer)
{
    const struct config *c = &model->config;
    const bool moe = c->moe_layer[layer];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "layer", layer);
    cJSON_AddStringToObject(json, "kind", moe ? "moe" : "dense");
    cJSON_AddNumberToObject(json, "parameters", (double)layer_parameters(model, layer));
    cJSON_AddNumberToObject(json, "intermediate_size",
                            moe ? c->moe_intermediate_size : c->intermediate_size);
    if (moe) {
        cJSON_AddNumberToObject(json, "experts", c->num_experts);
        cJSON_AddNumberToObject(json, "experts_per_token", c->layer_router[layer].top_k);
    }
    return json;
}

static int model_json(const struct model *model)
{
    struct memory memory[MEMORY_MOST];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "parameters", (double)model->parameters);
    cJSON_AddNumberToObject(json, "active_parameters", (double)model->active);
    cJSON *layers = cJSON_AddArrayToObject(json, "layers");
    for (uint32_t i = 0; i < model->config.num_hidden_layers; i++)
        cJSON_AddItemToArray(layers, layer_json(model, (int32_t)i));
    cJSON *sizes = cJSON_AddObjectToObject(json, "memory");
    const uint32_t count = memory_of(model, memory);
    for (uint32_t i = 0; i < count; i++)
        cJSON_AddNumberToObject(sizes, memory[i].name, (double)memory[i].bytes);
    return print_json(json);
}

static void print_experts(const struct config *c, uint32_t layer)
{
    uint32_t least = c->moe_intermediate_size;
    for (uint32_t i = 0; i < c->width_count; i++) least = min_u32(least, c->expert_width[i]);
    printf("%u experts of ", c->num_experts);
    if (c->width_count) printf("%u to ", least);
    printf("%u, ", c->moe_intermediate_size);
    if (c->layer_router[layer].type == CONFIG_ROUTER_EXPERT_CHOICE)
        printf("expert choice, %g a token\n", c->layer_router[layer].capacity_factor);
    else printf("top-%u\n", c->layer_router[layer].top_k);
}

static void print_model(const struct model *model)
{
    const struct config *c = &model->config;
    struct memory memory[MEMORY_MOST];
    printf("%s: %llu parameters, %llu active a token\n", config_family_name(c->family),
           (unsigned long long)model->parameters, (unsigned long long)model->active);
    printf("  %u layers of width %u, %u heads (%u of keys and values) of %u, vocabulary %u, "
           "context %u, %s\n",
           c->num_hidden_layers, c->hidden_size, c->num_attention_heads, c->num_key_value_heads,
           c->head_dim, c->vocab_size, c->max_position_embeddings, dtype_name(c->torch_dtype));
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        printf("  layer %2u  %12llu parameters  ", i,
               (unsigned long long)layer_parameters(model, (int32_t)i));
        if (c->moe_layer[i])
            print_experts(c, i);
        else printf("dense, %u\n", c->intermediate_size);
    }
    const uint32_t count = memory_of(model, memory);
    for (uint32_t i = 0; i < count; i++)
        printf("  %-20s %10.2f MiB\n", memory[i].name, (double)memory[i].bytes / 1048576.0);
}

// ---- all

static bool read_export(const struct cli *cli, const char *path, struct config *config)
{
    char *text = NULL, *tokenizer = NULL;
    struct export_file *file = export_file_open(path);
    const bool ok = file && export_read_texts(file, &text, &tokenizer) &&
                    config_parse(config, path, text, cli->set, cli->set_count);
    free(text);
    free(tokenizer);
    export_file_close(&file);
    return ok;
}

static bool read_config(const struct cli *cli, const char *path, struct config *config)
{
    char inside[4200];
    if (export_file_is(path)) return read_export(cli, path, config);
    snprintf(inside, sizeof inside, folder_is(path) ? "%s/config.json" : "%s", path);
    return config_read(config, inside, cli->set, cli->set_count);
}

enum { SEGMENT = 31 }; // a segment of most devices takes 2^31 bytes

// Streamed where that is asked for, or where no device takes a stack of experts whole.
static struct model *make_model(const struct cli *cli, const struct config *c)
{
    const uint64_t most = UINT64_C(1) << SEGMENT,
                   stack = 4ull * c->num_experts * c->moe_intermediate_size * c->hidden_size;
    const bool streamed = cli->model.device_budget || cli->model.expert_slots || stack > most;
    return streamed && config_moe_layers(c) ? model_create_streamed(c, most)
                                            : model_create(c, most);
}

int command_info(struct cli *cli)
{
    struct config config;
    if (cli->devices) return info_devices(cli);
    if (cli->operand_count != 1) {
        fprintf(stderr,
                "vkmoe info: wants a CONFIG.json, a DIR, an export, or --devices; see vkmoe info "
                "--help\n");
        return EXIT_USAGE;
    }
    if (!read_config(cli, cli->operand[0], &config)) return EXIT_FAILED;
    struct model *model = make_model(cli, &config);
    if (!model) return EXIT_FAILED;
    int status = EXIT_DONE;
    if (cli->plan) status = info_plans(cli, model);
    else if (cli->json) status = model_json(model);
    else print_model(model);
    model_destroy(&model);
    return status;
}
