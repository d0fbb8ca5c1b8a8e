// SPDX-License-Identifier: MIT
// What `vkmoe bench` is made of: the peaks of the device itself (bench_peaks.c), cases = a few
// steps of a plan on inputs of their own (bench.c, bench_case.c; listed in bench_dense.c,
// bench_kernels.c and bench_moe.c, at the shapes of bench_shapes.c), a MoE layer (bench_layer.c),
// whole steps of a model (bench_steps.c), the table (bench_print.c), the JSON (bench_json.c) and
// what moved since an earlier one (bench_compare.c).
//
// How a case is timed. Its steps are put into one plan again and again, until one run takes
// BENCH_MIN_MS (at most BENCH_MAX_REPEATS times), with the barriers that any plan has: an execution
// depends on the one before. Timestamps around a run, divided by the repeats, are one sample;
// without timestamps it is the host's clock. `ms` is the median of BENCH_RUNS runs and `spread` is
// the range of the middle half of them over the median: on a machine that is not alone single runs
// are slow without a reason. Two cases whose ratio is asked for are sampled in turns.
//
// GFLOP/s and GB/s are the work of the kernel table (kernel_table.c: multiplications and additions,
// least traffic) over `ms`. `peak_pct` is the larger of GFLOP/s in % of the arithmetic peak and
// GB/s in % of the copy peak: how close the kernel is to the bound of its roofline (Williams et al.
// 2009). The arithmetic peak is FMA f32, for cooperative matrices that of their type. What fits
// into caches can be above 100.
//
// What runs. Without a filter: BENCH_DEFAULT, on cards BENCH_CARD too. With a filter: all that it
// matches. A case that would take more than its share of time, by estimate, or more memory than the
// device gives is left out and counted.
#pragma once

#include "src/base.h"
#include "src/params.h"
#include "src/plan.h"
#include "src/run.h"

enum {
    BENCH_MIN_MS = 10, BENCH_RUNS = 7, BENCH_MAX_REPEATS = 2000,
    BENCH_MAX_BUFFERS = 16, BENCH_MAX_STEPS = 4, BENCH_MAX_FIELDS = 12,
};

// Input types of cooperative matrices whose sums are f32 (i8: i32).
enum bench_coop { BENCH_COOP_F16, BENCH_COOP_BF16, BENCH_COOP_I8, BENCH_COOPS };

struct bench_peaks { // doubles only
    double copy_gbps;         // read + written, the larger of the next two
    double copy_command_gbps; // the driver's copy command
    double copy_kernel_gbps;  // the cast kernel, f32 to f32
    double fma_f32_gflops;
    double fma_f16_gflops;    // 0 where the device has no f16 arithmetic
    double coop_gflops[BENCH_COOPS]; // 0 where the device does not list the type
    double upload_gbps, download_gbps; // host memory to the device and back, staging included
};

struct bench_time { double ms, spread; };

// More numbers of a whole step, as extra keys of its JSON object.
struct bench_field { const char *name; double value; };

struct bench_result {
    const char        *family, *name, *shape, *variant;
    const char        *model; // whose shape it is, "" where none's
    struct bench_time  time;
    double             flops, bytes; // of one execution
    struct bench_field field[BENCH_MAX_FIELDS];
    uint32_t           field_count;
};

// Time a kernel took in one step of a model, over all its dispatches.
struct bench_profile_row { const char *name; uint32_t count; double ms, flops, bytes; };
struct bench_profile {
    const char               *name;  // "profile tiny"
    struct bench_profile_row *row;   // slowest first
    uint32_t                  count;
    double                    ms;    // of all rows
};

struct bench {
    struct gpu          *gpu;
    struct kernels      *kernels;
    const char *filter; // parts of "family name shape variant", with '|' between; NULL: the
                        // default selection
    bool                 tuned; // kernels as measured, not by rule
    struct bench_peaks   peaks;
    struct bench_result *result;
    uint32_t             count, capacity;
    struct bench_profile profile[8];
    uint32_t             profile_count;
    uint32_t             slow, large; // cases left out for their time, for their memory
    const char          *shown;     // family that the progress showed last
    double              *normal;    // [normal_count] normal numbers that inputs are made of
    uint32_t             normal_count;
    struct arena        *arena;
};

void bench_init(struct bench *bench, struct gpu *gpu, struct kernels *kernels, const char *filter);
void bench_finish(struct bench *bench);

// ---- measuring

enum bench_level {
    BENCH_DEFAULT, // runs without a filter
    BENCH_CARD,    // the same, but on CPU drivers it needs a filter that matches
    BENCH_ASKED,   // needs a filter that matches
};
// Whether the filter takes it (NULL texts are empty); if so it is shown as the work in progress.
bool bench_wants(struct bench *bench, enum bench_level level, const char *family, const char *name,
                 const char *shape, const char *model, const char *variant);
void bench_show(struct bench *bench, const char *family, const char *text); // progress on stderr
void bench_clear_progress(void); // before anything else is printed
bool bench_has_store(const struct bench *bench, enum dtype store);
bool bench_fill(struct bench *bench, struct gpu_buffer *buffer); // with zeros, on the device
// With normal numbers of `type`, the same 65,536 again and again.
bool bench_fill_normal(struct bench *bench, struct gpu_buffer *buffer, enum dtype type);
// Initial values: the config's own where there are few, else numbers of that size made faster.
bool bench_fill_params(struct bench *bench, struct params *params);
// What a plan does, by the kernel table, `times` over.
struct bench_work { double flops, bytes; uint32_t dispatches, submits; };
void bench_add_work(struct bench_work *work, const struct plan *plan, uint32_t times);
// Milliseconds of `count` samples -> median and spread.
struct bench_time bench_median(double *ms, uint32_t count);
// Submits BENCH_RUNS times after a first one that does not count; milliseconds of the fastest.
bool bench_fastest(struct bench *bench, struct gpu_commands *commands, double *ms);
// One run of a plan, waited for: milliseconds of its kernels (of the host's clock without
// timestamps).
bool bench_run_once(struct bench *bench, struct run *run, double *ms);
// Runs until the plan is cut by measurement, and once more, which gives the milliseconds.
bool bench_settle(struct bench *bench, struct run *run, double *ms);
struct bench_result *bench_add(struct bench *bench,
                               const struct bench_result *result); // copies the texts
void bench_field(struct bench_result *result, const char *name, double value);

// ---- cases: bench_case.c

enum { BENCH_DIRECT = -1, BENCH_STORE = -1 };

struct bench_step {
    enum kernel_op op;
    uint32_t       rows;
    uint8_t        push[GPU_MAX_PUSH_BYTES];
    uint32_t       bind[GPU_MAX_BINDINGS], bind_count; // buffers of the case
    int32_t        indirect;                           // buffer with the grid, or BENCH_DIRECT
};

struct bench_case_params {
    enum bench_level level;
    const char      *family, *name; // name NULL: the operation's
    const char      *model;         // NULL: no model's shape
    enum kernel_op   op;
    enum dtype       store;
    uint32_t         rows;          // as in kernels_get
    const void      *push;
    double           bytes;         // least traffic where the table's is not it; 0: the table's
};

struct bench_case {
    struct bench            *bench;
    struct bench_case_params params;
    char                     shape[64], variant[32];
    struct gpu_buffer       *buffer[BENCH_MAX_BUFFERS];
    uint32_t                 buffer_count;
    struct bench_step        step[BENCH_MAX_STEPS];
    uint32_t                 step_count;
    double                   flops, bytes; // of all steps
    bool                     failed, too_large;
    uint64_t                 memory;       // bytes of its buffers
    struct plan             *plan;         // the steps, `repeats` times
    struct run              *run;
    uint32_t                 repeats;
    double                   sample[BENCH_RUNS]; // milliseconds of one execution
};

// False where the filter does not take it, the device cannot, or it would take longer than its
// budget of time.
bool bench_case_begin(struct bench_case *c, struct bench *bench,
                      const struct bench_case_params *params, const char *shape, ...)
    __attribute__((format(printf, 4, 5)));
// The same without questions: the partner of another case, named by nobody.
void bench_case_init(struct bench_case *c, struct bench *bench,
                     const struct bench_case_params *params);
// Buffers of the case, each filled once; `type` an enum dtype or BENCH_STORE. They return the index
// to bind.
uint32_t bench_case_normal(struct bench_case *c, int type, uint64_t count, double scale);
uint32_t bench_case_zero(struct bench_case *c, int type, uint64_t count);
uint32_t bench_case_words(struct bench_case *c, const void *words,
                          uint64_t count); // u32, or 32-bit anything
// The step of params.op with params.push; its grid from the table, or from buffer `indirect`.
void bench_case_step(struct bench_case *c, const uint32_t *bind, uint32_t bind_count,
                     int32_t indirect);
// A step of another operation beside it.
void bench_case_step_of(struct bench_case *c, enum kernel_op op, const void *push,
                        const uint32_t *bind, uint32_t bind_count);
#define BENCH_BIND(...) \
    (const uint32_t[]){__VA_ARGS__}, (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / 4)
// Times it, adds its result, frees its buffers. False: the device failed, logged.
bool bench_case_run(struct bench_case *c);
// Both in turns. Only `c` becomes a result, with the field `dense_pct`: how fast it is in % of
// `dense`, from the medians of their times.
bool bench_case_run_against(struct bench_case *c, struct bench_case *dense);
// Whether a case of this work may run so often, by estimate: where not it is left out, and counted.
// Without a filter on CPU drivers the estimate is a number, so that two runs have the same cases.
bool bench_affordable(struct bench *bench, double flops, double bytes, uint32_t runs);

// ---- shapes: bench_shapes.c

struct bench_model {
    const char *name;
    uint32_t hidden, heads, kv_heads, head_dim, experts, top_k, inner, vocab;
    uint32_t batch, seq;        // of a step: tokens = batch * seq
    uint32_t context, logit_rows, parameters; // rows of one chunk of the loss; elements of one
                                              // dispatch of the optimizer
    enum bench_level level;
};
enum { BENCH_TINY, BENCH_H64LM, BENCH_OLMOE, BENCH_QWEN3, BENCH_MIXTRAL, BENCH_ARCHE3,
       BENCH_MODELS };
extern const struct bench_model bench_models[BENCH_MODELS];

// A layer of experts; where one of its weight stacks is larger than the device binds at once, than
// a sixth of its memory or than 1 GiB, with fewer experts (and fewer picks), named "mixtral 2/8".
struct bench_layer {
    const char *model;
    uint32_t experts, top_k, inner, hidden;
};
bool bench_layer_fit(struct bench *bench, const struct bench_model *model, enum dtype store,
                     struct bench_layer *layer); // false: not one expert fits
// Which storage types a card is measured in by default: f32 and bf16; a CPU f32.
enum bench_level bench_level_of(enum bench_level level, enum dtype store);

// c = a b of the dense family into a case that was begun or initialised: its buffers and its step.
void bench_dense_steps(struct bench_case *c, enum kernel_op op, uint32_t m, uint32_t n, uint32_t k);

// ---- what is measured. False: the device failed, logged.

bool bench_measure_peaks(struct bench *bench); // bench_peaks.c
bool bench_matmuls(struct bench *bench);       // bench_dense.c
bool bench_kernels(struct bench *bench); // bench_kernels.c: all other rows of the kernel table
bool bench_grouped(struct bench *bench);       // bench_moe.c
bool bench_ratios(struct bench *bench);        // bench_moe.c: grouped against dense
bool bench_layers(struct bench *bench);        // bench_layer.c
bool bench_routers(struct bench *bench);       // bench_router.c
bool bench_steps(struct bench *bench);         // bench_steps.c
bool bench_touched(struct bench *bench);       // bench_touched.c

// ---- output: bench_print.c, bench_json.c

double bench_gflops(const struct bench_result *result);
double bench_gbps(const struct bench_result *result);
// `variant`: of a result, "bf16 coop 128x64"; NULL: FMA f32.
double bench_peak_pct(const struct bench *bench, const char *variant, double gflops, double gbps);
void   bench_print(const struct bench *bench, FILE *out);
char  *bench_json(const struct bench *bench, const char *commit); // caller frees
// "llvmpipe-mesa-22.3.6": device and driver as a file name; caller frees.
char  *bench_slug(const char *device, const char *driver);

// ---- what moved: bench_compare.c

// Prints what moved between two objects of bench_json. False after one logged line where one of
// them is not such an object. `filtered`: NEW is a part on purpose, so what it lacks is not told.
bool bench_compare(const char *old_name, const char *old_json, const char *new_name,
                   const char *new_json, bool filtered, FILE *out);
