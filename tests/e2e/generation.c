// SPDX-License-Identifier: MIT
// Generation against the one-pass logits, through the public interface: a prompt fed at once
// (prefill) and id by id (decode) agrees with vkmoe_model_logits to rounding, for one id, an odd
// number, exactly one chunk of the prefill, one more, and a full context. In 16 bits decoding may
// pick another expert where the router is undecided: that it is, by no more than rounding, is
// looked up in the plans. Then what sampling may and may not pick, and that it repeats.
//     generation CONFIG.json TEXT DEVICE|default
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base.h"
#include "src/evaluator.h"
#include "src/session.h"
#include "src/vkmoe.h"
#include "src/vkmoe_internal.h"

enum { VOCAB = 260, CONTEXT = 160, MADE = 40, EXPERTS = 4, PICKS = 2 };

static int failures;

#define CHECK(condition, ...)                                                   \
    do {                                                                        \
        if (!(condition)) {                                                     \
            printf("FAIL %s:%d: %s: ", __FILE__, __LINE__, #condition);         \
            printf(__VA_ARGS__);                                                \
            putchar('\n');                                                      \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static void must(bool ok, const char *what)
{
    if (ok) return;
    printf("FAIL %s\n", what);
    exit(1);
}

// Ids with repetitions, all over the vocabulary.
static void make_ids(uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) ids[i] = (i * i * 31 + i * 7 + 84) % (VOCAB - 4);
}

static double nmse(const float *a, const float *reference, size_t count)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)a[i] - reference[i]) * ((double)a[i] - reference[i]);
        power += (double)reference[i] * reference[i];
    }
    return error / power; // NaN fails every comparison
}

// ---- what the router of the only MoE layer, the last one, went by

// The logits of a plan's last router, [rows][experts], as the run before had them: its steps once
// more, from the inputs that still lie there, up to that one.
static void read_router(struct plan *plan, float *logits, size_t count)
{
    struct plan until = *plan;
    while (until.step_count > 0 && until.step[until.step_count - 1].op != KERNEL_ROUTER &&
           until.step[until.step_count - 1].op != KERNEL_TOKEN_ROUTER)
        until.step_count--;
    must(until.step_count > 0, "finding a router");
    const struct plan_step *step = &until.step[until.step_count - 1];
    const struct gpu_bind bind =
        plan_bind(plan, &step->bind[step->op == KERNEL_ROUTER ? 0 : 3]);
    struct run *run = run_create(&until);
    const uint64_t ticket = run ? run_submit(run) : 0;
    must(ticket && gpu_wait(plan->gpu, ticket) && bind.bytes >= count * sizeof *logits &&
             gpu_buffer_read(plan->gpu, bind.buffer, bind.offset, logits, count * sizeof *logits),
         "reading a router's logits");
    run_destroy(&run);
}

static void read_one_pass(struct vkmoe_model *model, const uint32_t *ids, uint32_t count,
                          float (*logits)[EXPERTS])
{
    struct vkmoe_device *device = model->device;
    struct evaluator *e =
        evaluator_create(device->gpu, device->kernels, model->params, 1, count);
    double loss;
    uint64_t targets;
    must(e && evaluator_batch(e, &(struct batch){ids, ids}, &loss, &targets), "evaluating");
    read_router(evaluator_plan(e), logits[0], (size_t)count * EXPERTS);
    evaluator_destroy(&e);
}

// The picked experts as bits, and how far the last of them is before the first that is not.
static uint32_t picked(const float *z, double *margin)
{
    uint32_t set = 0;
    double last = 0, next = -INFINITY;
    for (int pick = 0; pick < PICKS; pick++) {
        int best = -1;
        for (int e = 0; e < EXPERTS; e++)
            if (!(set >> e & 1) && (best < 0 || z[e] > z[best])) best = e;
        set |= 1u << best;
        last = z[best];
    }
    for (int e = 0; e < EXPERTS; e++)
        if (!(set >> e & 1)) next = fmax(next, z[e]);
    *margin = last - next;
    return set;
}

static double largest(const float *z, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = fmax(most, fabs(z[i]));
    return most;
}

// ---- prefill and decode against one pass

struct type {
    const char *dtype;
    double      tolerance; // of logits, as normalised mean square error
    double      unit;      // half a last place at 1
    double      shift;     // most units that a router's logit may move
};

struct worst {
    double   prefill, decode, mixed;
    double   shift, margin;   // of router logits, in units of the largest one's rounding
    uint32_t positions, ties; // decoded; of them those whose picks fell the other way
};

// Decoding rounds in other places than a pass over a batch: about 16 stored values between the
// embedding and the router, each off by up to a unit, which add up like a walk to 4 units of the
// length of a router's row times that of its input, the largest logits. Seen: up to 8 units in
// bf16, 6 in f16, and 16 in f32, where sums of 24 and the driver's exp round no finer than that.

static double feed_and_compare(struct vkmoe_session *s, const uint32_t *ids, uint32_t count,
                               const float *wanted)
{
    float logits[VOCAB];
    must(vkmoe_session_feed(s, ids, count) && vkmoe_session_logits(s, logits), "feeding a session");
    return nmse(logits, wanted, VOCAB);
}

// The router's logits at one position moved by no more than rounding, so that picks that differ
// were as near; true where they do.
static bool is_tie(const float *one_pass, const float *decoded, double unit, struct worst *worst)
{
    double shift = 0, margin, other;
    for (int e = 0; e < EXPERTS; e++)
        shift = fmax(shift, fabs((double)one_pass[e] - decoded[e]) / unit);
    worst->shift = fmax(worst->shift, shift);
    if (picked(one_pass, &margin) == picked(decoded, &other)) return false;
    worst->margin = fmax(worst->margin, fmax(margin, other) / unit);
    worst->ties++;
    return true;
}

static void decode_length(struct vkmoe_model *model, struct vkmoe_session *s, const uint32_t *ids,
                          uint32_t count, const struct type *type, float (*wanted)[VOCAB],
                          struct worst *worst)
{
    static float one_pass[CONTEXT][EXPERTS];
    float decoded[EXPERTS];
    read_one_pass(model, ids, count, one_pass);
    const double unit = type->unit * largest(one_pass[0], (size_t)count * EXPERTS);
    vkmoe_session_reset(s);
    for (uint32_t i = 0; i < count; i++) {
        const double error = feed_and_compare(s, ids + i, 1, wanted[i]);
        read_router(session_plan(s->session, "decode"), decoded, EXPERTS);
        worst->positions++;
        if (!is_tie(one_pass[i], decoded, unit, worst))
            worst->decode = fmax(worst->decode, error);
    }
}

static void compare_length(struct vkmoe_model *model, uint32_t count, const struct type *type,
                           struct worst *worst)
{
    static uint32_t ids[CONTEXT];
    static float all[CONTEXT][VOCAB];
    make_ids(ids, count);
    must(vkmoe_model_logits(model, ids, count, all[0]), "the logits of all positions");
    struct vkmoe_session *s = vkmoe_session_open(model, count); // full at the end
    must(s != NULL, "opening a session");
    worst->prefill = fmax(worst->prefill, feed_and_compare(s, ids, count, all[count - 1]));
    CHECK(vkmoe_session_position(s) == count, "%u", vkmoe_session_position(s));
    decode_length(model, s, ids, count, type, all, worst);
    vkmoe_session_reset(s);
    for (uint32_t at = 0, some = 1; at < count;
         at += some, some = (some * 5 + 3) % 71 + 1) { // 1, 9, 49, 35, ...
        if (some > count - at) some = count - at;
        worst->mixed = fmax(worst->mixed, feed_and_compare(s, ids + at, some, all[at + some - 1]));
    }
    vkmoe_session_close(&s);
}

static void compare_all(struct vkmoe_model *model, const struct type *type)
{
    static const uint32_t lengths[] = {1, 2, 7, 33, 63, 64, 65, 129, CONTEXT};
    const double tolerance = type->tolerance;
    struct worst worst = {0};
    must(model->model->config.num_experts == EXPERTS, "a model of four experts");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        compare_length(model, lengths[i], type, &worst);
    printf("%-8s worst NMSE against one pass: prefill %.2e, decode %.2e, mixed %.2e (at most "
           "%.0e); router's logits %.1f units apart; %u of %u picks differ, by %.2f units\n",
           type->dtype, worst.prefill, worst.decode, worst.mixed, tolerance, worst.shift,
           worst.ties, worst.positions, worst.margin);
    CHECK(worst.shift <= type->shift, "%s: %.1f units", type->dtype, worst.shift);
    CHECK(worst.margin <= type->shift, "%s: %.1f units", type->dtype, worst.margin);
    CHECK(worst.prefill <= tolerance && worst.decode <= tolerance && worst.mixed <= tolerance, "%s",
          type->dtype);
}

// ---- sampling

static void generate(struct vkmoe_session *s, const struct vkmoe_sampling *sampling, uint32_t *out)
{
    uint32_t prompt[5];
    make_ids(prompt, 5);
    vkmoe_session_reset(s);
    must(vkmoe_session_feed(s, prompt, 5), "feeding the prompt");
    for (uint32_t i = 0; i < MADE; i++)
        must(vkmoe_session_sample(s, sampling, &out[i]) && out[i] < VOCAB &&
                 vkmoe_session_feed(s, &out[i], 1),
             "generating");
}

static bool same(struct vkmoe_session *s, const struct vkmoe_sampling *a,
                 const struct vkmoe_sampling *b)
{
    uint32_t x[MADE], y[MADE];
    generate(s, a, x);
    generate(s, b, y);
    return memcmp(x, y, sizeof x) == 0;
}

// How many ids are strictly more likely, and how likely they are together.
static uint32_t rank_of(const float *logits, uint32_t id, double temperature, double *above)
{
    double sum = 0, more = 0, top = logits[0];
    uint32_t rank = 0;
    for (int i = 1; i < VOCAB; i++) top = fmax(top, logits[i]);
    for (int i = 0; i < VOCAB; i++) {
        const double weight = exp((logits[i] - top) / temperature);
        sum += weight;
        if (logits[i] <= logits[id]) continue;
        more += weight;
        rank++;
    }
    *above = more / sum;
    return rank;
}

// Every pick lies where the options allow; returns the highest rank seen.
static uint32_t check_picks(struct vkmoe_session *s, const struct vkmoe_sampling *sampling)
{
    uint32_t prompt[3], id, highest = 0;
    float logits[VOCAB];
    make_ids(prompt, 3);
    vkmoe_session_reset(s);
    must(vkmoe_session_feed(s, prompt, 3), "feeding the prompt");
    for (int i = 0; i < MADE; i++) {
        double above;
        must(vkmoe_session_logits(s, logits) && vkmoe_session_sample(s, sampling, &id), "sampling");
        const uint32_t rank =
            rank_of(logits, id, sampling->temperature > 0 ? sampling->temperature : 1, &above);
        CHECK(!sampling->top_k || rank < sampling->top_k, "rank %u of top-k %u", rank,
              sampling->top_k);
        CHECK(sampling->top_p <= 0 || above <= sampling->top_p + 1e-5, "behind %.6f of top-p %g",
              above, sampling->top_p);
        CHECK(sampling->temperature > 0 || rank == 0, "greedy took rank %u", rank);
        highest = rank > highest ? rank : highest;
        must(vkmoe_session_feed(s, &id, 1), "feeding");
    }
    return highest;
}

static void check_sampling(struct vkmoe_model *model)
{
    const struct vkmoe_sampling greedy = {0}, hot = {.temperature = 1.5, .seed = 1},
                                other = {.temperature = 1.5, .seed = 2},
                                high = {.temperature = 1.5, .seed = UINT64_C(1) << 32 | 1};
    struct vkmoe_session *s = vkmoe_session_open(model, 5 + MADE);
    must(s != NULL, "opening a session");
    CHECK(same(s, &greedy, &greedy), "greedy text must repeat");
    CHECK(same(s, &hot, &hot), "the same seed must give the same text");
    CHECK(!same(s, &hot, &other), "another seed must give another text");
    CHECK(!same(s, &hot, &high), "the upper half of the seed counts");
    CHECK(!same(s, &greedy, &hot), "a temperature must change the text");
    CHECK(same(s, &greedy, &(struct vkmoe_sampling){.temperature = 1, .top_k = 1, .seed = 3}),
          "top-k 1 is greedy");
    CHECK(same(s, &greedy, &(struct vkmoe_sampling){.temperature = 1, .top_p = 1e-6, .seed = 3}),
          "top-p 1e-6 is greedy");
    CHECK(same(s, &hot,
               &(struct vkmoe_sampling){.temperature = 1.5,
                                        .seed = 1,
                                        .top_k = VOCAB,
                                        .top_p = 1,
                                        .repetition_penalty = 1}),
          "options that are off change nothing");
    check_picks(s, &greedy);
    const struct vkmoe_sampling five = {.temperature = 3, .top_k = 5, .seed = 4},
                                free = {.temperature = 5, .seed = 4},
                                nucleus = {.temperature = 2, .top_p = 0.5, .seed = 4};
    CHECK(check_picks(s, &five) > 0, "top-k 5 picks not only the first");
    CHECK(check_picks(s, &nucleus) > 0, "top-p picks not only the first");
    CHECK(check_picks(s, &free) >= 5, "what nothing limits goes further down");
    uint32_t made[MADE], repeats = 0;
    generate(s, &(struct vkmoe_sampling){.repetition_penalty = 100}, made);
    for (int i = 0; i < MADE; i++)
        for (int j = 0; j < i; j++) repeats += made[i] == made[j];
    CHECK(repeats == 0, "%u repeats in spite of a penalty of 100", repeats);
    generate(s, &greedy, made);
    for (int i = 0; i < MADE; i++)
        for (int j = 0; j < i; j++) repeats += made[i] == made[j];
    CHECK(repeats > 0,
          "greedy text of so small a model repeats itself, else the check above proves nothing");
    vkmoe_session_close(&s);
}

// ---- misuse: false with one line, and the session lives on

static int lines;
static void count_line(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level <= VKMOE_LOG_WARN) lines++;
    if (level == VKMOE_LOG_ERROR && !lines) printf("%s\n", line);
}

static void check_misuse(struct vkmoe_model *model)
{
    uint32_t ids[CONTEXT + 1], id;
    float logits[VOCAB];
    make_ids(ids, CONTEXT + 1);
    vkmoe_log_set(count_line, NULL, VKMOE_LOG_INFO);
#define REFUSED(call)                                                                          \
    do {                                                                                       \
        lines = 0;                                                                             \
        const bool refused = !(call);                                                          \
        CHECK(refused && lines == 1, "refused %d, %d lines", refused, lines);                  \
    } while (0)
    REFUSED(vkmoe_session_open(model, 0));
    REFUSED(vkmoe_session_open(model, CONTEXT + 1));
    struct vkmoe_session *s = vkmoe_session_open(model, 9);
    must(s != NULL, "opening a session");
    REFUSED(vkmoe_session_sample(s, &(struct vkmoe_sampling){0}, &id));
    REFUSED(vkmoe_session_feed(s, ids, 10));
    REFUSED(vkmoe_session_feed(s, (uint32_t[]){VOCAB}, 1));
    CHECK(vkmoe_session_position(s) == 0, "%u", vkmoe_session_position(s));
    must(vkmoe_session_feed(s, ids, 9), "nine ids fit");
    REFUSED(vkmoe_session_feed(s, ids, 1));
    must(vkmoe_session_logits(s, logits) &&
             vkmoe_session_sample(s, &(struct vkmoe_sampling){0}, &id),
         "a full session samples");
    vkmoe_session_close(&s);
    vkmoe_session_close(&s); // NULL by now
    REFUSED(vkmoe_model_logits(model, ids, 0, logits));
    REFUSED(vkmoe_model_logits(model, (uint32_t[]){3, 0xffffffffu}, 2, logits));
    static float all[CONTEXT + 1][VOCAB];
    REFUSED(vkmoe_model_logits(model, ids, CONTEXT + 1, all[0]));
    vkmoe_log_set(NULL, NULL, VKMOE_LOG_WARN);
}

// ---- a trained model of each storage type

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    return remove(path);
}

static void train(const char *config, const char *text, const char *folder, const char *dtype)
{
    char set[64];
    const char *const sets[] = {set}, *const data[] = {text};
    snprintf(set, sizeof set, "torch_dtype=%s", dtype);
    struct vkmoe_train_outcome outcome;
    must(vkmoe_train(&(struct vkmoe_train_params){.device = {.device = "ref"},
                                                  .config = config,
                                                  .set = sets,
                                                  .set_count = 1,
                                                  .data = data,
                                                  .data_count = 1,
                                                  .out = folder,
                                                  .quiet = true},
                     &outcome),
         "training");
}

int main(int argc, char **argv)
{
    static const struct type types[] = {
        {"float32", 1e-9, 0x1p-24, 40}, {"float16", 1e-4, 0x1p-12, 16},
        {"bfloat16", 1e-3, 0x1p-9, 16}};
    char root[] = "/tmp/vkmoe-generation-XXXXXX", folder[64];
    if (argc != 4) return 2;
    must(mkdtemp(root) != NULL, "a temporary folder");
    vkmoe_log_set(NULL, NULL, VKMOE_LOG_WARN);
    const bool chosen = strcmp(argv[3], "default") != 0;
    struct vkmoe_device *device = vkmoe_device_open(
        &(struct vkmoe_device_params){.device = chosen ? argv[3] : getenv("VKMOE_DEVICE"),
                                      .caps = chosen ? NULL : getenv("VKMOE_CAPS"),
                                      .untuned = true});
    must(device != NULL, "opening the device");
    printf("%s\n", vkmoe_device_choice(device));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        snprintf(folder, sizeof folder, "%s/%s", root, types[i].dtype);
        train(argv[1], argv[2], folder, types[i].dtype);
        struct vkmoe_model *model = vkmoe_model_open(device, folder);
        must(model != NULL, "opening the model");
        compare_all(model, &types[i]);
        if (i == 0) check_sampling(model);
        if (i == 0) check_misuse(model);
        vkmoe_model_close(&model);
    }
    vkmoe_device_close(&device);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failures ? 1 : 0;
}
