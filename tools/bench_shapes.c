// SPDX-License-Identifier: MIT
// The models whose shapes are measured. Public configs: assets/tiny.json, assets/h64lm.json;
// allenai/OLMoE-1B-7B-0924, Qwen/Qwen3-30B-A3B, mistralai/Mixtral-8x7B-v0.1. Of ARCHE3 hidden size,
// number of experts, picks and sequence are published; 51 columns an expert follow from its total
// of parameters, its heads are not known and stand as OLMoE's.
#include <string.h>

#include "tools/bench.h"

enum { STACK_MOST = 1 << 30 }; // bytes of one stack of weights: they have to be filled too

const struct bench_model bench_models[BENCH_MODELS] = {
    //        hidden heads kv dim experts k inner  vocab  batch seq context logits optimizer
    [BENCH_TINY] = {"tiny", 128, 4, 2, 32, 8, 2, 64, 260, 8, 128, 512, 1024, 1 << 20,
                    BENCH_DEFAULT},
    [BENCH_H64LM] = {"h64lm", 768, 12, 4, 64, 8, 2, 3072, 32000, 1, 512, 1024, 128, 1 << 22,
                     BENCH_DEFAULT},
    [BENCH_OLMOE] = {"olmoe", 2048, 16, 16, 128, 64, 8, 1024, 50304, 2, 2048, 4096, 64, 1 << 24,
                     BENCH_CARD},
    [BENCH_QWEN3] = {"qwen3", 2048, 32, 4, 128, 128, 8, 768, 151936, 2, 2048, 4096, 64, 1 << 24,
                     BENCH_CARD},
    [BENCH_MIXTRAL] = {"mixtral", 4096, 32, 8, 128, 8, 2, 14336, 32000, 2, 2048, 4096, 64, 1 << 26,
                       BENCH_CARD},
    [BENCH_ARCHE3] = {"arche3", 2048, 16, 16, 128, 20480, 4, 51, 32000, 1, 256, 4096, 64, 1 << 24,
                      BENCH_CARD},
};

bool bench_layer_fit(struct bench *bench, const struct bench_model *model, enum dtype store,
                     struct bench_layer *layer)
{
    const struct gpu_caps *caps = &bench->gpu->caps;
    const uint64_t most = min_u64(min_u64(caps->max_range, caps->heap_bytes / 6), STACK_MOST);
    const uint64_t one = (uint64_t)model->inner * model->hidden * dtype_bytes(store);
    uint32_t experts = model->experts;
    while (experts > 1 && experts * one > most) experts /= 2;
    *layer = (struct bench_layer){model->name, experts, min_u32(model->top_k, experts),
                                  model->inner, model->hidden};
    if (experts < model->experts)
        layer->model = arena_printf(bench->arena, "%s %u/%u", model->name, experts, model->experts);
    const bool fits = experts * one <= most;
    if (!fits && bench->filter && strstr(bench->filter, model->name)) bench->large++;
    return fits;
}

enum bench_level bench_level_of(enum bench_level level, enum dtype store)
{
    if (store == DTYPE_F16) return BENCH_ASKED;
    return store == DTYPE_BF16 && level < BENCH_CARD ? BENCH_CARD : level;
}
