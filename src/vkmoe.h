// SPDX-License-Identifier: MIT
// vkmoe: train, run and look into mixture-of-experts language models on any Vulkan device.
//
//     struct vkmoe_device *device = vkmoe_device_open(&(struct vkmoe_device_params){0});
//     struct vkmoe_model *model = vkmoe_model_open(device, "runs/tiny");
//     struct vkmoe_session *session = vkmoe_session_open(model, 256);
//     ... vkmoe_session_feed, vkmoe_session_sample ...
//     vkmoe_session_close(&session); vkmoe_model_close(&model); vkmoe_device_close(&device);
//
// Conventions. open returns NULL and other calls return false after exactly one line to the log
// that says what was found, what was wanted and what to do. close takes the address of the handle,
// accepts NULL handles and writes NULL. A zeroed params struct is the sane default. Handles are not
// thread-safe: use one device, with all that was opened on it, from one thread at a time; several
// devices may live in several threads. Strings are UTF-8; token ids are u32 below the model's
// vocabulary.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define VKMOE_API __attribute__((visibility("default")))
#else
#define VKMOE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// ---- log

enum vkmoe_log_level { VKMOE_LOG_ERROR, VKMOE_LOG_WARN, VKMOE_LOG_INFO, VKMOE_LOG_DEBUG };
typedef void vkmoe_log_fn(void *user, enum vkmoe_log_level level, const char *line);

// Sends log lines (without a newline) to `callback`; NULL: stderr. Lines above max_level are
// dropped. Process-wide.
VKMOE_API void vkmoe_log_set(vkmoe_log_fn *callback, void *user, enum vkmoe_log_level max_level);

// ---- device

struct vkmoe_device;

struct vkmoe_device_params {
    const char *device;   // NULL: the best one; "1": by index; "radeon": part of the name; "ref":
                          // scalar CPU references
    const char *caps;     // NULL, or abilities to mask, e.g. "-f16,-subgroup"
    bool        validate; // through the Vulkan validation layer: use of the interface, and hazards
    bool        validate_accesses; // the same, GPU-assisted: every access of every shader; slow
    bool        untuned;  // kernels by rule, not by measurement at first use of a device
};

VKMOE_API struct vkmoe_device *vkmoe_device_open(const struct vkmoe_device_params *params);
VKMOE_API void                 vkmoe_device_close(struct vkmoe_device **device);
// One sentence: which device was taken and why. Valid while the device is open.
VKMOE_API const char          *vkmoe_device_choice(const struct vkmoe_device *device);

// ---- model: weights of a run folder, or of a Hugging Face folder of Mixtral's or Qwen3-MoE's
// shape

struct vkmoe_model;

struct vkmoe_model_info {
    uint64_t parameters;         // all
    uint64_t active_parameters;  // that one token touches
    uint32_t vocab_size;
    uint32_t max_tokens;         // max_position_embeddings
    uint32_t layers, moe_layers, experts, experts_per_token;
};

// `path`: a folder with config.json, model.safetensors (or shards with an index) and, for text,
// tokenizer.json; or one file that `vkmoe export` wrote, which holds all three.
VKMOE_API struct vkmoe_model *vkmoe_model_open(struct vkmoe_device *device, const char *path);
// The same with other weights of a run folder, or within a part of the device's memory: experts
// that do not fit are loaded from the files when a token asks for them. So are those of a run whose
// experts lie in a store, in any case. Such a model has one session at a time.
struct vkmoe_model_params {
    const char *weights;    // "average": the mean that training kept beside them; NULL or "model"
    uint64_t device_budget; // bytes, for all of the model and its session; 0: no limit
    uint32_t expert_slots;  // experts on the device at a time; 0: as many as the budget allows
    const char *cache_policy; // who leaves when another comes: "lru" (NULL), "lfu", "lfru",
                              // "least-stale"
    const char *prefetch;     // "on": experts that the next layer may need are loaded beside the
                              // compute; "off" (NULL): when it asks for them
};
VKMOE_API struct vkmoe_model *vkmoe_model_open_with(struct vkmoe_device *device, const char *path,
                                                    const struct vkmoe_model_params *params);
VKMOE_API void                vkmoe_model_close(struct vkmoe_model **model); // after its sessions
VKMOE_API struct vkmoe_model_info vkmoe_model_info(const struct vkmoe_model *model);
// Text -> ids: writes at most `capacity`, returns how many there are. Needs the folder's tokenizer;
// without one, 0.
VKMOE_API size_t vkmoe_model_encode(const struct vkmoe_model *model, const char *text,
                                    uint32_t *ids, size_t capacity);
// Ids -> bytes of text (no terminating zero): writes at most `capacity`, returns how many there
// are.
VKMOE_API size_t vkmoe_model_decode(const struct vkmoe_model *model, const uint32_t *ids,
                                    size_t count, char *text, size_t capacity);
// The id that ends a text, or 0xffffffff.
VKMOE_API uint32_t vkmoe_model_stop_id(const struct vkmoe_model *model);
// f32 logits [count][vocab_size] of all positions of one sequence, computed in one pass.
VKMOE_API bool vkmoe_model_logits(struct vkmoe_model *model, const uint32_t *ids, uint32_t count,
                                  float *logits);

// ---- session: one sequence with its KV cache

struct vkmoe_session;

struct vkmoe_sampling {
    double   temperature;        // 0: greedy, ties to the lowest id
    uint32_t top_k;              // keep the k most likely; 0: off
    double top_p; // then the smallest set with at least this probability (Holtzman et al. 2020); 0
                  // or 1: off
    double   repetition_penalty; // on ids seen in this session (Keskar et al. 2019); 0 or 1: off
    uint64_t seed;               // same seed, same tokens
};

// capacity: most tokens that can be fed, 1 to vkmoe_model_info.max_tokens; device memory grows with
// it.
VKMOE_API struct vkmoe_session *vkmoe_session_open(struct vkmoe_model *model, uint32_t capacity);
VKMOE_API void                  vkmoe_session_close(struct vkmoe_session **session);
// Appends ids to the sequence. False where they do not fit or an id is not in the vocabulary.
VKMOE_API bool vkmoe_session_feed(struct vkmoe_session *session, const uint32_t *ids,
                                  uint32_t count);
// Draws the next id after what was fed; does not feed it. Needs at least one fed id.
VKMOE_API bool vkmoe_session_sample(struct vkmoe_session *session,
                                    const struct vkmoe_sampling *sampling, uint32_t *id);
// f32 [vocab_size]: logits after the last fed id.
VKMOE_API bool     vkmoe_session_logits(struct vkmoe_session *session, float *logits);
VKMOE_API uint32_t vkmoe_session_position(const struct vkmoe_session *session); // ids fed
VKMOE_API void vkmoe_session_reset(struct vkmoe_session *session); // back to an empty sequence

// ---- training: a whole run, from a config file to a run folder

struct vkmoe_train_params {
    struct vkmoe_device_params device;
    const char        *config;      // JSON file; keys: README
    const char *const *set;         // "key=value" overrides
    int                set_count;
    uint32_t
        steps; // total optimizer steps; 0: the config's (the schedule's horizon stays the config's)
    // text files, folders, .jsonl, .bin shards, each with a weight before it ("3*PATH") or none
    const char *const *data;
    int                data_count;  // 0: the run's own where it goes on, else the current folder
    const char        *out;         // run folder, made if missing
    const char        *tokenizer;   // a tokenizer.json; NULL: the run's own, else byte-level
    bool               resume;      // go on from the newest checkpoint in `out`
    bool check; // first compare every step of the plan with its scalar reference
    // Any of these: experts come and go between the device and a store in `out`. A run that began
    // so goes on so, with what the device has where nothing is said.
    uint64_t           device_budget; // bytes, for all of the training
    // Bytes of host memory, of any model; what would take more is refused. 0: no limit
    uint64_t           host_budget;
    uint32_t           expert_slots;  // experts on the device at a time; 0: as the budget allows
    const char        *cache_policy;  // as in vkmoe_model_params; NULL: "least-stale"
    const char        *prefetch;      // as in vkmoe_model_params
    bool               quiet;       // no progress on stderr
};

struct vkmoe_train_outcome {
    uint32_t steps;                 // optimizer steps done, over all resumes
    bool     interrupted;           // by SIGINT or SIGTERM; the checkpoint is written
    double   loss;                  // nats per token, last step
    double   held_out_bpb;          // bits per byte of the held-out text; NaN where unknown
    double order0_bpb,
        bigram_bpb; // the same text under order-0 and bigram statistics of the training text
};

VKMOE_API bool vkmoe_train(const struct vkmoe_train_params *params,
                           struct vkmoe_train_outcome *outcome);

#ifdef __cplusplus
}
#endif
