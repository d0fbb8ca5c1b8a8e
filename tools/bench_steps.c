// SPDX-License-Identifier: MIT
// Whole steps of a model: training as src/train.c drives it (submit, collect one late), prefill and
// decoding, and a profile: where the time of a step goes, kernel by kernel. The models are those of
// assets/.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_MALLINFO2
#include <malloc.h>
#endif

#include "bench_models.h"
#include "runtime/os.h"
#include "src/session.h"
#include "src/trainer.h"
#include "tools/bench.h"

enum {
    WARM_STEPS = 3,
    BATCHES = 4,
    BLOCK_STEPS = 10, // of training
    BLOCKS_LEAST = 2,
    BLOCKS_MOST = 20,
    BLOCKS_MS = 2500,
    SLOW_MS = 2500,
    STEPS_SLOW = 3, // a step that takes longer, and how many of them
    KERNEL_SAMPLES = 5,
    PREFILL_SLOW = 3, // runs of a prefill that takes long
    WARM_TOKENS = 2,
    PROFILED_CONTEXT = 512,
    GENERATED = 32,
};

struct subject {
    struct bench        *bench;
    const char          *label;   // "tiny"
    const struct config *config;
    const struct model  *model;
};

static const char *name_of(const struct subject *s, const char *what)
{
    return arena_printf(s->bench->arena, "%s %s", what, s->label);
}

// ---- plans

// The parts a plan is cut into on this device and the median time of its kernels, by a run of our
// own.
static bool run_plan(struct bench *bench, struct plan *plan, uint32_t *submits, double *kernel_ms)
{
    double ms[KERNEL_SAMPLES];
    struct run *run = run_create(plan);
    bool ok = run && bench_settle(bench, run, &ms[0]);
    for (int i = 0; i < KERNEL_SAMPLES && ok; i++) ok = bench_run_once(bench, run, &ms[i]);
    if (ok) *submits = run_submits(run);
    if (ok) *kernel_ms = bench_median(ms, KERNEL_SAMPLES).ms;
    run_destroy(&run);
    return ok;
}

// ---- training

// Bytes that the process's heap has given out, the driver's included; 0 where the C library does
// not say.
static double heap_bytes(void)
{
#ifdef HAVE_MALLINFO2
    const struct mallinfo2 info = mallinfo2();
    return (double)info.uordblks + (double)info.hblkhd;
#else
    return 0;
#endif
}

struct training {
    struct trainer *trainer;
    struct batch   *batch;   // [BATCHES][gradient_accumulation_steps]
    uint32_t        step;
    double          last;    // time of the last collect
    double          kernel_ms; // of all collected steps; NAN where they do not say
    double         *took;    // [BLOCKS_MOST * BLOCK_STEPS] milliseconds between collects
    uint32_t        took_count;
};

// Steps in blocks of BLOCK_STEPS, at most two in flight, each block from nothing in flight to
// nothing in flight.
struct times {
    uint32_t steps, blocks;
    uint64_t tokens;
    double   wall_ms;
};

static void make_batches(const struct subject *s, struct training *t)
{
    const struct config *c = s->config;
    const uint32_t tokens = c->batch_size * c->seq_len,
                   count = BATCHES * c->gradient_accumulation_steps;
    t->batch = arena_array(s->bench->arena, count, sizeof *t->batch);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *ids = arena_array(s->bench->arena, tokens + 1, sizeof *ids);
        for (uint32_t k = 0; k <= tokens; k++) ids[k] = (uint32_t)rng_below(2, i, k, c->vocab_size);
        t->batch[i] = (struct batch){ids, ids + 1};
    }
}

static bool collect(struct training *t, uint64_t *tokens)
{
    struct trainer_result result;
    if (!trainer_collect(t->trainer, &result)) return false;
    const double now = os_seconds();
    if (t->took_count < BLOCKS_MOST * BLOCK_STEPS) t->took[t->took_count++] = 1e3 * (now - t->last);
    t->last = now;
    *tokens += result.targets;
    const double kernel_ms = trainer_kernel_ms(t->trainer);
    t->kernel_ms += kernel_ms < 0 ? NAN : kernel_ms;
    return true;
}

static bool train(const struct subject *s, struct training *t, uint32_t steps, uint64_t *tokens)
{
    const struct config *c = s->config;
    t->last = os_seconds();
    for (uint32_t i = 0; i < steps; i++) {
        const struct batch *batch = &t->batch[t->step % BATCHES * c->gradient_accumulation_steps];
        if (!trainer_submit(t->trainer, ++t->step, 1e-4, batch)) return false;
        if (trainer_in_flight(t->trainer) == 2 && !collect(t, tokens)) return false;
    }
    while (trainer_in_flight(t->trainer))
        if (!collect(t, tokens)) return false;
    return true;
}

// Whether a step only serves metrics.jsonl and routing.trace: what experts were picked how often
// and how surely (the losses read a part of that too), and picks and gates of some tokens.
static bool is_metrics(const struct plan *plan, const struct plan_step *step)
{
    if (step->kind == PLAN_DISPATCH)
        return step->op == KERNEL_ROUTER_STATS || step->op == KERNEL_ROUTER_ENTROPY;
    const char *to = step->kind == PLAN_COPY ? plan->tensor[step->bind[1].tensor - 1].name : "";
    return strcmp(to, "picks") == 0 || strcmp(to, "gates") == 0;
}

struct shares { double steps, metrics; };

// The share of a plan's time, first to last timestamp, that is not between its steps, each of which
// ran alone, and of that the share of the metrics; NAN without timestamps.
static bool share_in_steps(struct bench *bench, struct plan *plan, struct shares *share)
{
    *share = (struct shares){NAN, NAN};
    if (!(bench->gpu->caps.mask & GPU_CAP_TIMESTAMP)) return true;
    double *ms = arena_array(bench->arena, plan->step_count + 1, sizeof *ms);
    double sum = 0, metrics = 0, all;
    if (!run_profile(plan, ms, &all)) return false;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        sum += ms[i];
        metrics += is_metrics(plan, &plan->step[i]) ? ms[i] : 0;
    }
    *share = (struct shares){sum / all, metrics / sum};
    return true;
}

// The plans of a step, and the copies of inputs and results.
static struct bench_work work_of(const struct subject *s, struct training *t)
{
    const uint32_t micro = s->config->gradient_accumulation_steps;
    struct bench_work work = {.dispatches = 2 * micro + 1,
                              .submits = trainer_submits(t->trainer)};
    bench_add_work(&work, trainer_plan(t->trainer, "zero"), 1);
    bench_add_work(&work, trainer_plan(t->trainer, "train"), micro);
    bench_add_work(&work, trainer_plan(t->trainer, "update"), 1);
    return work;
}

static void add_training(const struct subject *s, struct training *t, struct times *times,
                         struct shares shares, double device_growth, double host_growth)
{
    struct bench *bench = s->bench;
    const struct bench_work all = work_of(s, t), *work = &all;
    const struct bench_time time = {times->wall_ms / times->steps,
                                    bench_median(t->took, t->took_count).spread};
    const double kernel_ms = t->kernel_ms / times->steps, share = kernel_ms / time.ms;
    struct bench_result *r =
        bench_add(bench, &(struct bench_result){.family = "step",
                                                .name = name_of(s, "train_step"),
                                                .shape = arena_printf(bench->arena, "B%u S%u",
                                                                      s->config->batch_size,
                                                                      s->config->seq_len),
                                                .variant = dtype_name(s->config->torch_dtype),
                                                .time = time,
                                                .flops = work->flops,
                                                .bytes = work->bytes});
    bench_field(r, "tokens_per_s", 1e3 * (double)times->tokens / times->wall_ms);
    bench_field(r, "steps", times->steps);
    bench_field(r, "kernel_ms", kernel_ms);
    bench_field(r, "kernel_share", share);
    bench_field(r, "dispatch_share", share * shares.steps);
    bench_field(r, "metrics_share", shares.metrics);
    bench_field(r, "dispatches", work->dispatches);
    bench_field(r, "submits", work->submits);
    bench_field(r, "device_growth_bytes", device_growth);
    bench_field(r, "host_growth_bytes", host_growth);
    bench_field(r, "device_bytes", (double)gpu_memory_bytes(bench->gpu));
}

static bool train_blocks(const struct subject *s, struct training *t, struct times *times)
{
    t->took_count = 0;
    t->kernel_ms = 0;
    for (uint32_t i = 0; i < times->blocks; i++) {
        const double began = os_seconds();
        if (!train(s, t, times->steps / times->blocks, &times->tokens)) return false;
        times->wall_ms += 1e3 * (os_seconds() - began);
    }
    return true;
}

static bool time_training(const struct subject *s, struct training *t)
{
    uint64_t tokens = 0;
    struct shares share;
    if (!train(s, t, WARM_STEPS, &tokens)) return false;
    const double each = t->took[WARM_STEPS - 1];
    struct times times = {.steps = STEPS_SLOW, .blocks = 1};
    if (each < SLOW_MS) {
        times.blocks =
            (uint32_t)fmin(fmax(BLOCKS_MS / each / BLOCK_STEPS, BLOCKS_LEAST), BLOCKS_MOST);
        times.steps = times.blocks * BLOCK_STEPS;
    }
    const double heap = heap_bytes(), device = (double)gpu_memory_bytes(s->bench->gpu);
    if (!train_blocks(s, t, &times)) return false;
    const double heap_growth = heap_bytes() - heap,
                 growth = (double)gpu_memory_bytes(s->bench->gpu) - device;
    if (!share_in_steps(s->bench, trainer_plan(t->trainer, "train"), &share)) return false;
    add_training(s, t, &times, share, growth, heap_growth);
    return true;
}

// ---- profile

static void profile_add(struct bench_profile *profile, const char *name, double ms, double flops,
                        double bytes)
{
    struct bench_profile_row *row = profile->row;
    while (row < profile->row + profile->count && strcmp(row->name, name) != 0) row++;
    if (row == profile->row + profile->count)
        profile->row[profile->count++] = (struct bench_profile_row){.name = name};
    row->count++;
    row->ms += ms;
    row->flops += flops;
    row->bytes += bytes;
    profile->ms += ms;
}

static bool profile_plan(struct bench *bench, struct bench_profile *profile, struct plan *plan)
{
    double *ms = arena_array(bench->arena, plan->step_count + 1, sizeof *ms);
    double all;
    if (!run_profile(plan, ms, &all) || !run_profile(plan, ms, &all))
        return false; // the first run compiles
    for (uint32_t i = 0; i < plan->step_count; i++) {
        double flops, bytes;
        plan_step_cost(plan, &plan->step[i], &flops, &bytes);
        profile_add(profile, arena_strdup(bench->arena, plan_step_name(&plan->step[i])), ms[i],
                    flops, bytes);
    }
    return true;
}

static int slower_first(const void *a, const void *b)
{
    const struct bench_profile_row *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

// Where the time of these plans goes, each run once on its own.
static bool profile_plans(const struct subject *s, const char *what, struct plan *const *plans,
                          size_t count)
{
    struct bench *bench = s->bench;
    if (bench->profile_count == COUNT_OF(bench->profile) ||
        !(bench->gpu->caps.mask & GPU_CAP_TIMESTAMP))
        return true;
    struct bench_profile *profile = &bench->profile[bench->profile_count++];
    *profile = (struct bench_profile){.name = name_of(s, what)};
    profile->row = arena_array(bench->arena, 4 * KERNEL_COUNT + 2, sizeof *profile->row);
    for (size_t i = 0; i < count; i++)
        if (!profile_plan(bench, profile, plans[i])) return false;
    qsort(profile->row, profile->count, sizeof *profile->row, slower_first);
    return true;
}

static bool profile_training(const struct subject *s, struct training *t)
{
    struct plan *const plans[] = {trainer_plan(t->trainer, "zero"),
                                  trainer_plan(t->trainer, "train"),
                                  trainer_plan(t->trainer, "update")};
    return profile_plans(s, "profile", plans, COUNT_OF(plans));
}

static bool training(const struct subject *s, bool timed, bool profiled)
{
    uint64_t tokens = 0;
    struct training t = {
        .took = arena_array(s->bench->arena, BLOCKS_MOST * BLOCK_STEPS, sizeof(double))};
    t.trainer = trainer_create(s->bench->gpu, s->bench->kernels, s->model);
    bool ok = t.trainer && bench_fill_params(s->bench, trainer_params(t.trainer));
    make_batches(s, &t);
    if (ok && timed) ok = time_training(s, &t);
    if (ok && profiled) ok = train(s, &t, 1, &tokens) && profile_training(s, &t);
    trainer_destroy(&t.trainer);
    return ok;
}

// ---- one sequence

static bool feed(struct session *session, const uint32_t *ids, uint32_t count, double *ms)
{
    const double began = os_seconds();
    const bool ok = session_feed(session, ids, count);
    *ms = 1e3 * (os_seconds() - began);
    return ok;
}

static void add_session(const struct subject *s, const char *what, const char *shape,
                        uint32_t tokens, struct bench_time time, const struct bench_work *work,
                        double kernel_ms)
{
    struct bench_result *r =
        bench_add(s->bench, &(struct bench_result){.family = "step",
                                                   .name = name_of(s, what),
                                                   .shape = shape,
                                                   .variant = dtype_name(s->config->torch_dtype),
                                                   .time = time,
                                                   .flops = work->flops,
                                                   .bytes = work->bytes});
    bench_field(r, "tokens_per_s", 1e3 * tokens / time.ms);
    bench_field(r, "kernel_ms", kernel_ms);
    bench_field(r, "kernel_share", kernel_ms / time.ms);
    bench_field(r, "dispatches", work->dispatches);
    bench_field(r, "submits", work->submits);
}

// A whole prompt, chunk by chunk; leaves it in the cache.
static bool prefill(const struct subject *s, struct session *session, const uint32_t *ids,
                    uint32_t prompt)
{
    double ms[BENCH_RUNS], kernel_ms, first;
    struct bench_work work = {0};
    if (!feed(session, ids, prompt, &first)) return false;
    session_reset(session);
    if (!feed(session, ids, prompt, &first)) return false; // now cut and recorded anew
    session_reset(session);
    const uint32_t runs = first > SLOW_MS / BENCH_RUNS ? PREFILL_SLOW : BENCH_RUNS;
    struct plan *plan = session_plan(session, "prefill");
    if (!run_plan(s->bench, plan, &work.submits, &kernel_ms)) return false;
    for (uint32_t i = 0; i < runs; i++) {
        session_reset(session);
        if (!feed(session, ids, prompt, &ms[i])) return false;
    }
    const uint32_t chunks = ceil_div(prompt, session_chunk(session));
    work.submits *= chunks;
    bench_add_work(&work, plan, chunks);
    // the plan was timed behind the whole prompt: of several chunks that says too much
    add_session(s, "prefill", arena_printf(s->bench->arena, "T%u", prompt), prompt,
                bench_median(ms, runs), &work, chunks == 1 ? kernel_ms : NAN);
    return true;
}

// Behind a prompt of `context` tokens: sample a token, feed it.
static bool decode(const struct subject *s, struct session *session, const uint32_t *ids,
                   uint32_t context)
{
    static const struct session_sampling sampling = {.temperature = 0.8, .top_k = 40, .top_p = 0.95,
                                                     .repetition_penalty = 1, .seed = 1};
    static const char *const plans[] = {"decode", "sample"};
    double ms[GENERATED], kernel_ms = 0;
    struct bench_work work = {0};
    if (session_position(session) != context) {
        session_reset(session);
        if (!session_feed(session, ids, context)) return false;
    }
    for (int i = -WARM_TOKENS; i < GENERATED; i++) { // the first are cut and recorded anew
        uint32_t id;
        const double began = os_seconds();
        if (!session_sample(session, &sampling, &id) || !session_feed(session, &id, 1))
            return false;
        if (i >= 0) ms[i] = 1e3 * (os_seconds() - began);
    }
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        uint32_t submits;
        double plan_ms;
        struct plan *plan = session_plan(session, plans[i]);
        if (!run_plan(s->bench, plan, &submits, &plan_ms)) return false;
        bench_add_work(&work, plan, 1);
        work.submits += submits;
        kernel_ms += plan_ms;
    }
    add_session(s, "decode", arena_printf(s->bench->arena, "T1 S%u", context), 1,
                bench_median(ms, GENERATED), &work, kernel_ms);
    return true;
}

// Of a chunk of the prompt, and of a token with its sampling.
static bool profile_sequence(const struct subject *s, struct session *session)
{
    struct plan *const prefill[] = {session_plan(session, "prefill")};
    struct plan *const decode[] = {session_plan(session, "decode"),
                                   session_plan(session, "sample")};
    return profile_plans(s, "profile_prefill", prefill, COUNT_OF(prefill)) &&
           profile_plans(s, "profile_decode", decode, COUNT_OF(decode));
}

// The cache is as long as what is measured: a plan's work counts all of it.
static bool sequence(const struct subject *s, struct params *params, uint32_t context,
                     bool with_prefill, bool with_decode, bool profiled)
{
    struct bench *bench = s->bench;
    uint32_t *ids = arena_array(bench->arena, context, sizeof *ids);
    for (uint32_t i = 0; i < context; i++)
        ids[i] = (uint32_t)rng_below(3, 0, i, s->config->vocab_size);
    struct session *session =
        session_create(bench->gpu, bench->kernels, params, context + GENERATED + WARM_TOKENS + 2);
    bool ok = session != NULL;
    if (ok && with_prefill) ok = prefill(s, session, ids, context);
    if (ok && with_decode) ok = decode(s, session, ids, context);
    if (ok && profiled) ok = session_feed(session, ids, 2) && profile_sequence(s, session);
    session_destroy(&session);
    return ok;
}

// ---- the list

struct step_model {
    const char      *label, *json;
    enum bench_level level;    // BENCH_CARD: with a filter only where it names the label
    const char      *set[12];  // keys that are not the file's
};

static const uint32_t contexts[] = {128, 512, 2048};

static const struct step_model step_models[] = {
    {"tiny", BENCH_TINY_JSON, BENCH_DEFAULT, {"max_position_embeddings=2560"}},
    {"olmoe-15m", BENCH_OLMOE_15M_JSON, BENCH_CARD, {"max_position_embeddings=2560"}},
    {"h64lm", BENCH_H64LM_JSON, BENCH_CARD, {"max_position_embeddings=2560"}},
    // mixed precision, 4096 tokens a step
    {"h64lm-bf16", BENCH_H64LM_JSON, BENCH_CARD,
     {"max_position_embeddings=2560", "torch_dtype=bfloat16", "batch_size=8"}},
    // OLMoE-1B-7B with 2 of its 16 layers: 1.01 billion parameters
    {"olmoe-2of16", BENCH_TINY_JSON, BENCH_CARD,
     {"max_position_embeddings=4096", "torch_dtype=bfloat16", "hidden_size=2048",
      "intermediate_size=1024", "num_hidden_layers=2", "num_attention_heads=16",
      "num_key_value_heads=16", "head_dim=128", "num_local_experts=64", "num_experts_per_tok=8",
      "vocab_size=50304", "seq_len=512"}},
};

static bool wants(const struct subject *s, const struct step_model *m, const char *what,
                  const char *shape)
{
    const struct bench *bench = s->bench;
    if (m->level != BENCH_DEFAULT && bench->filter && !strstr(bench->filter, m->label))
        return false;
    return bench_wants(s->bench, m->level, "step", name_of(s, what), shape, NULL,
                       dtype_name(s->config->torch_dtype));
}

static bool sequences(const struct subject *s, const struct step_model *m)
{
    bool with_prefill[COUNT_OF(contexts)], with_decode[COUNT_OF(contexts)], any = false, ok = true;
    for (size_t i = 0; i < COUNT_OF(contexts); i++) {
        with_prefill[i] =
            wants(s, m, "prefill", arena_printf(s->bench->arena, "T%u", contexts[i]));
        with_decode[i] =
            wants(s, m, "decode", arena_printf(s->bench->arena, "T1 S%u", contexts[i]));
        any = any || with_prefill[i] || with_decode[i];
    }
    const bool profiled = wants(s, m, "profile_session", "");
    if (!any && !profiled) return true;
    struct params *params = params_create(s->bench->gpu, s->model, false);
    ok = params && bench_fill_params(s->bench, params);
    for (size_t i = 0; i < COUNT_OF(contexts) && ok; i++) {
        const bool here = profiled && contexts[i] == PROFILED_CONTEXT;
        if (with_prefill[i] || with_decode[i] || here)
            ok = sequence(s, params, contexts[i], with_prefill[i], with_decode[i], here);
    }
    params_destroy(&params);
    return ok;
}

static bool steps_of(struct bench *bench, const struct step_model *m)
{
    struct config config;
    int sets = 0;
    while (sets < (int)COUNT_OF(m->set) && m->set[sets]) sets++;
    if (!config_parse(&config, m->label, m->json, m->set, sets)) return false;
    if (!bench_has_store(bench, config.torch_dtype)) return true;
    struct model *model = model_create(&config, bench->gpu->caps.max_allocation);
    if (!model) return false;
    const struct subject s = {.bench = bench, .label = m->label, .config = &config, .model = model};
    bool ok = true;
    const char *shape = arena_printf(bench->arena, "B%u S%u", config.batch_size, config.seq_len);
    const bool timed = wants(&s, m, "train_step", shape), profiled = wants(&s, m, "profile", shape);
    if (timed || profiled) ok = training(&s, timed, profiled);
    ok = ok && sequences(&s, m);
    model_destroy(&model);
    return ok;
}

bool bench_steps(struct bench *bench)
{
    for (size_t i = 0; i < COUNT_OF(step_models); i++)
        if (!steps_of(bench, &step_models[i])) return false;
    return true;
}
