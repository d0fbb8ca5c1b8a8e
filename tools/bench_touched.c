// SPDX-License-Identifier: MIT
// Cost follows what is touched, not what exists: training steps of a streamed model with 64, 2,560
// and 20,480 experts in 8 domains, of which the same 64 are ever picked: a bias of the router keeps
// tokens away from all others. The rest of the model is the same, and its router is narrow, so that
// a token touches as many parameters. Steps are timed in turns, in processor time too, which tells
// on CPU drivers of a machine that is not alone.
#include <stdlib.h>
#include <time.h>

#include "runtime/os.h"
#include "src/trainer.h"
#include "tools/bench.h"

enum { SIZES = 3, WARM = 2, STEPS = 9, DOMAINS = 8, TOUCHED = 64 };

static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 512, \"hidden_size\": 512, "
    "\"intermediate_size\": 2048, \"moe_intermediate_size\": 128, \"num_hidden_layers\": 3, "
    "\"num_attention_heads\": 8, \"num_key_value_heads\": 8, \"max_position_embeddings\": 64, "
    "\"num_experts_per_tok\": 2, \"mlp_only_layers\": [0, 2], \"router_type\": \"hierarchical\", "
    "\"n_domains\": 8, \"router_body\": \"mlp\", \"router_hidden_size\": 8, "
    "\"router_bias\": true, \"seq_len\": 64, \"batch_size\": 4, \"steps\": 1, \"seed\": 5}";

struct subject {
    struct config        config;
    struct model        *model;
    struct trainer      *trainer;
    double               ms[STEPS], cpu_ms[STEPS], memory;
    uint32_t             touched;
};

// The first experts of each domain may be picked.
static bool write_bias(struct subject *s)
{
    const struct model_tensor *bias = model_find(s->model, ROLE_ROUTER_BIAS, 1);
    const uint32_t size = s->config.num_experts / DOMAINS;
    float *values = calloc(bias->count, sizeof *values);
    for (uint64_t e = 0; e < bias->count; e++)
        values[e] = e % size < TOUCHED / DOMAINS ? 0 : -1e4f;
    const bool ok = params_write(trainer_params(s->trainer), PARAMS_MASTER, bias, 0, bias->count,
                                 values);
    free(values);
    return ok;
}

static bool open_subject(struct bench *bench, struct subject *s, const char *experts)
{
    const char *const set[] = {arena_printf(bench->arena, "num_experts=%s", experts)};
    struct experts_params pool = {.slots = TOUCHED};
    const double before = (double)gpu_memory_bytes(bench->gpu);
    if (!config_parse(&s->config, "touched", config_text, set, 1)) return false;
    s->model = model_create_streamed(&s->config, bench->gpu->caps.max_allocation);
    experts_source_initial(&pool.source);
    s->trainer = s->model ? trainer_create_streamed(bench->gpu, bench->kernels, s->model, &pool)
                          : NULL;
    s->memory = (double)gpu_memory_bytes(bench->gpu) - before;
    return s->trainer && params_init(trainer_params(s->trainer)) && write_bias(s);
}

static bool step(struct subject *s, uint32_t number, double *ms, double *cpu_ms)
{
    enum { MOST_TOKENS = 256 };
    uint32_t ids[MOST_TOKENS + 1];
    struct trainer_result result;
    for (uint32_t i = 0; i <= MOST_TOKENS; i++)
        ids[i] = (uint32_t)rng_below(2, number, i, s->config.vocab_size);
    const double began = os_seconds();
    const clock_t cpu = clock();
    if (!trainer_submit(s->trainer, number, 1e-4, &(struct batch){ids, ids + 1}) ||
        !trainer_collect(s->trainer, &result))
        return false;
    *ms = 1e3 * (os_seconds() - began);
    *cpu_ms = 1e3 * (double)(clock() - cpu) / CLOCKS_PER_SEC;
    s->touched = 0;
    for (uint32_t e = 0; e < s->config.num_experts; e++) s->touched += result.load[0][e] > 0;
    return true;
}

static void add_result(struct bench *bench, struct subject *s, const struct bench_time first[2],
                       const struct bench_time time[2], double first_memory)
{
    const struct config *c = &s->config;
    struct bench_result *r =
        bench_add(bench, &(struct bench_result){.family = "step",
                                                .name = "train_step touched",
                                                .shape = arena_printf(bench->arena, "E%u",
                                                                      c->num_experts),
                                                .variant = dtype_name(c->torch_dtype),
                                                .time = time[0]});
    bench_field(r, "touched", s->touched);
    bench_field(r, "active_parameters", (double)s->model->active);
    bench_field(r, "memory_bytes", s->memory);
    bench_field(r, "cpu_ms", time[1].ms);
    bench_field(r, "time_of_first", time[0].ms / first[0].ms);
    bench_field(r, "cpu_of_first", time[1].ms / first[1].ms);
    bench_field(r, "memory_of_first", s->memory / first_memory);
}

static bool measure(struct bench *bench, struct subject s[SIZES])
{
    struct bench_time time[SIZES][2];
    for (uint32_t number = 0; number < WARM + STEPS; number++)
        for (int i = 0; i < SIZES; i++) {
            const uint32_t at = number < WARM ? 0 : number - WARM; // the first are written over
            if (!step(&s[i], number + 1, &s[i].ms[at], &s[i].cpu_ms[at])) return false;
        }
    for (int i = 0; i < SIZES; i++) {
        time[i][0] = bench_median(s[i].ms, STEPS);
        time[i][1] = bench_median(s[i].cpu_ms, STEPS);
        add_result(bench, &s[i], time[0], time[i], s[0].memory);
    }
    return true;
}

bool bench_touched(struct bench *bench)
{
    static const char *const experts[SIZES] = {"64", "2560", "20480"};
    if (!bench_wants(bench, BENCH_ASKED, "step", "train_step touched", "E64 E2560 E20480", "", ""))
        return true;
    struct subject s[SIZES] = {0};
    bool ok = true;
    for (int i = 0; i < SIZES && ok; i++) ok = open_subject(bench, &s[i], experts[i]);
    ok = ok && measure(bench, s);
    for (int i = 0; i < SIZES; i++) {
        trainer_destroy(&s[i].trainer);
        model_destroy(&s[i].model);
    }
    return ok;
}
