// SPDX-License-Identifier: MIT
// The kernels of one device: SPIR-V by name (shaders/meson.build), made on first use in the shape
// that was chosen for a size, and tested once before anyone gets them.
#include "src/kernel_device.h"

#include <math.h>
#include <string.h>

#include "kernel_spirv.h"
#include "src/base.h"
#include "src/kernel_shape.h"
#include "src/selftest.h"
#include "runtime/log.h"
#include "runtime/os.h"

// ---- SPIR-V by name

struct blob { const uint32_t *words; size_t bytes; };

#define KERNEL_SPIRV(op, store, variant, array) \
    [KERNEL_##op][DTYPE_##store][KERNEL_##variant] = {spirv_##array, sizeof spirv_##array},
static const struct blob blobs[KERNEL_COUNT][3][KERNEL_VARIANTS] = {KERNEL_SPIRV_TABLE};
#undef KERNEL_SPIRV

bool kernel_exists(enum kernel_op op, enum dtype store, enum kernel_variant variant)
{
    return blobs[op][store][variant].words != NULL;
}

// ---- kernels of a device, made on first use

enum slot_state { SLOT_UNTESTED, SLOT_RIGHT, SLOT_WRONG };

struct slot {
    struct kernel   kernel;
    enum slot_state state;
    struct slot    *next;
};

struct kernels {
    struct gpu   *gpu;
    struct arena *arena;
    struct slot  *slot[KERNEL_COUNT][3]; // one of each shape
    struct kernel_choice *choice;        // by measurement; NULL: none
    uint32_t      choice_count;
    struct kernel_use *use;              // what was asked for
    uint32_t      use_count, use_capacity;
    struct kernel_fault fault;           // planted by a test
    struct kernels_report report;
};

struct kernels *kernels_create(struct gpu *gpu)
{
    struct arena *arena = arena_create("kernels");
    struct kernels *kernels = arena_alloc(arena, sizeof *kernels);
    kernels->gpu = gpu;
    kernels->arena = arena;
    return kernels;
}

void kernels_destroy(struct kernels **kernels)
{
    if (!*kernels) return;
    struct kernels *k = *kernels;
    for (int op = 0; op < KERNEL_COUNT; op++)
        for (int store = 0; store < 3; store++)
            for (struct slot *slot = k->slot[op][store]; slot; slot = slot->next)
                gpu_kernel_destroy(k->gpu, &slot->kernel.gpu);
    struct arena *arena = k->arena;
    arena_destroy(&arena);
    *kernels = NULL;
}

// ---- making

static uint32_t one_subgroup(const struct gpu_caps *caps, const struct kernel_shape *shape)
{
    return caps->mask & GPU_CAP_SIZE && shape->lanes <= caps->subgroup_size;
}

// The subgroup size to ask for, 0 where it cannot be.
static uint32_t subgroup_of(const struct gpu_caps *caps, const struct kernel_shape *shape)
{
    if (!(caps->mask & GPU_CAP_SIZE)) return 0;
    const bool coop = shape->coop[0] != 0;
    return coop ? shape->spread : caps->subgroup_size;
}

static bool kernel_create(struct kernels *kernels, struct kernel *kernel)
{
    const struct kernel_info *info = kernel_info(kernel->op);
    const struct kernel_shape *s = &kernel->shape;
    const struct kernel_fault *fault = &kernels->fault;
    const bool planted = fault->planted && fault->op == kernel->op &&
                         fault->variant == s->variant && fault->rows == s->rows;
    const enum kernel_op op = planted ? fault->instead : kernel->op;
    const enum kernel_variant from = planted && !kernel_exists(op, kernel->store, s->variant)
                                         ? KERNEL_FLAT
                                         : s->variant;
    const struct blob *blob = &blobs[op][kernel->store][from];
    const bool flat = s->variant == KERNEL_FLAT;
    kernel->name = arena_printf(kernels->arena, "%s_%s%s%s", info->name,
                                dtype_name(kernel->store), flat ? "" : "_",
                                flat ? "" : kernel_variant_name(s->variant));
    const struct gpu_caps *caps = &kernels->gpu->caps;
    struct gpu_kernel_params params = {
        .name = kernel->name,
        .spirv = blob->words,
        .spirv_bytes = blob->bytes,
        .spec = {s->lanes, s->rows, s->columns, s->spread, s->depth, s->part_rows,
                 s->part_columns, s->coop[0], s->coop[1], s->coop[2], one_subgroup(caps, s),
                 kernel_form_of(op), s->ragged},
        .spec_count = KERNEL_SPEC_COUNT,
        .binding_count = (uint32_t)strlen(info->access),
        .push_bytes = info->push_bytes,
        .subgroup_size = subgroup_of(caps, s),
        .ref = info->ref,
        .tag = (int)kernel->store,
    };
    for (uint32_t b = 0; b < params.binding_count; b++)
        if (kernel_texels(kernel->op, from) >> b & 1)
            params.texel_bytes[b] = (uint8_t)(4 * dtype_bytes(kernel->store));
    kernel->gpu = gpu_kernel_create(kernels->gpu, &params);
    return kernel->gpu != NULL;
}

void kernels_plant(struct kernels *kernels, const struct kernel_fault *fault)
{
    kernels->fault = *fault;
}

static struct slot *slot_make(struct kernels *kernels, enum kernel_op op, enum dtype store,
                              const struct kernel_shape *shape)
{
    if (!kernel_exists(op, store, shape->variant)) store = DTYPE_F32; // without STORE bindings
    struct slot **at = &kernels->slot[op][store];
    for (; *at; at = &(*at)->next)
        if (memcmp(&(*at)->kernel.shape, shape, sizeof *shape) == 0) return *at;
    if (store != DTYPE_F32 && !(kernels->gpu->caps.mask & GPU_CAP_STORAGE16)) {
        log_error("device %s: no 16-bit storage; use torch_dtype float32", kernels->gpu->caps.name);
        return NULL;
    }
    struct slot *slot = arena_alloc(kernels->arena, sizeof *slot);
    slot->kernel = (struct kernel){.op = op, .store = store, .shape = *shape};
    if (!kernel_create(kernels, &slot->kernel)) return NULL;
    return *at = slot;
}

const struct kernel *kernels_make(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                  const struct kernel_shape *shape)
{
    struct slot *slot = slot_make(kernels, op, store, shape);
    return slot ? &slot->kernel : NULL;
}

// ---- testing

static void slot_test(struct kernels *kernels, struct slot *slot)
{
    const struct kernel *k = &slot->kernel;
    char what[160];
    const double began = os_seconds();
    const enum selftest_result result =
        selftest_kernel(kernels->gpu, k, what, sizeof what);
    kernels->report.tested++;
    kernels->report.test_ms += 1e3 * (os_seconds() - began);
    if (result != SELFTEST_WRONG) {
        slot->state = result == SELFTEST_RIGHT ? SLOT_RIGHT : SLOT_UNTESTED;
        return;
    }
    kernels->report.wrong++;
    slot->state = SLOT_WRONG;
    log_warn("device %s computes %s (%u rows a tile) wrong in the self-test: %s; it is not used",
             kernels->gpu->caps.name, k->name, k->shape.rows, what);
}

bool kernels_right(struct kernels *kernels, enum kernel_op op, enum dtype store,
                   const struct kernel_shape *shape)
{
    struct slot *slot = slot_make(kernels, op, store, shape);
    if (slot && gpu_is_reference(kernels->gpu)) return true;
    if (slot && slot->state == SLOT_UNTESTED) slot_test(kernels, slot);
    return slot && slot->state == SLOT_RIGHT;
}

struct kernels_report kernels_report(const struct kernels *kernels) { return kernels->report; }

struct gpu *kernels_gpu(const struct kernels *kernels) { return kernels->gpu; }

// FNV-1a over words
uint64_t kernels_fingerprint(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int op = 0; op < KERNEL_COUNT; op++)
        for (int store = 0; store < 3; store++)
            for (int variant = 0; variant < KERNEL_VARIANTS; variant++) {
                const struct blob *blob = &blobs[op][store][variant];
                for (size_t i = 0; i < blob->bytes / 4; i++)
                    hash = (hash ^ blob->words[i]) * 0x100000001b3u;
            }
    return hash;
}

// ---- choosing a shape

void kernels_choose(struct kernels *kernels, const struct kernel_choice *choice, uint32_t count)
{
    kernels->choice = count ? arena_array(kernels->arena, count, sizeof *choice) : NULL;
    kernels->choice_count = count;
    if (count) memcpy(kernels->choice, choice, count * sizeof *choice);
}

const struct kernel_choice *kernels_choices(const struct kernels *kernels, uint32_t *count)
{
    *count = kernels->choice_count;
    return kernels->choice;
}

double kernel_distance(const struct kernel_size *a, const struct kernel_size *b)
{
    const double rows = log2(a->rows + 1.0) - log2(b->rows + 1.0);
    const double columns = log2(a->columns + 1.0) - log2(b->columns + 1.0);
    const double inner = log2(a->inner + 1.0) - log2(b->inner + 1.0);
    return rows * rows + 0.25 * (columns * columns + inner * inner);
}

static void remove_at(struct kernel_shape *list, uint32_t *count, uint32_t index)
{
    (*count)--;
    memmove(&list[index], &list[index + 1], (*count - index) * sizeof *list);
}

// The choice for just this size, or NULL.
static const struct kernel_choice *choice_at(const struct kernels *kernels, enum kernel_op op,
                                             enum dtype store, const struct kernel_size *size)
{
    for (uint32_t i = 0; i < kernels->choice_count; i++) {
        const struct kernel_choice *c = &kernels->choice[i];
        if (c->op == op && c->store == store && memcmp(&c->size, size, sizeof *size) == 0)
            return c;
    }
    return NULL;
}

uint32_t kernels_parts(const struct kernels *kernels, enum kernel_op op, enum dtype store,
                       const struct kernel_size *size)
{
    const struct kernel_choice *choice = choice_at(kernels, op, store, size);
    return choice ? max_u32(choice->parts, 1) : 1;
}

const struct kernel_use *kernels_uses(const struct kernels *kernels, uint32_t *count)
{
    *count = kernels->use_count;
    return kernels->use;
}

void kernels_note(struct kernels *k, enum kernel_op op, enum dtype store,
                  const struct kernel_size *size, double flops)
{
    op = kernel_plain_of(op);
    for (uint32_t i = 0; i < k->use_count; i++)
        if (k->use[i].op == op && k->use[i].store == store &&
            memcmp(&k->use[i].size, size, sizeof *size) == 0) {
            k->use[i].count++;
            k->use[i].flops += flops;
            return;
        }
    if (k->use_count == k->use_capacity) {
        const struct kernel_use *old = k->use;
        k->use_capacity = max_u32(64, 2 * k->use_capacity);
        k->use = arena_array(k->arena, k->use_capacity, sizeof *k->use);
        if (k->use_count) memcpy(k->use, old, k->use_count * sizeof *old);
    }
    k->use[k->use_count++] = (struct kernel_use){op, store, *size, 1, flops};
}

// The nearest measured choice among the candidates, else the first of them: its index.
static uint32_t nearest(const struct kernels *kernels, enum kernel_op op, enum dtype store,
                        const struct kernel_size *size, const struct kernel_shape *list,
                        uint32_t count)
{
    uint32_t best = 0;
    double least = nextafter(KERNEL_NEAR, INFINITY);
    for (uint32_t i = 0; i < kernels->choice_count; i++) {
        const struct kernel_choice *c = &kernels->choice[i];
        const double far = kernel_distance(size, &c->size);
        if (c->op != kernel_plain_of(op) || c->store != store || far >= least) continue;
        for (uint32_t j = 0; j < count; j++)
            if (memcmp(&c->shape, &list[j], sizeof *list) == 0) best = j, least = far;
    }
    return best;
}

// The best of the list that is right on this device; lanes 0 where none is, or the device failed.
static struct kernel_shape best_right(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                      const struct kernel_size *size, struct kernel_shape *list,
                                      uint32_t count)
{
    while (count) {
        const uint32_t at = nearest(kernels, op, store, size, list, count);
        if (kernels_right(kernels, op, store, &list[at])) return list[at];
        if (gpu_lost(kernels->gpu)) break;
        remove_at(list, &count, at);
    }
    return (struct kernel_shape){0};
}

// Rows of the tile table that the grouped matmuls of a layer share.
static uint32_t tile_rows(struct kernels *kernels, enum dtype store,
                          const struct kernel_size *size)
{
    const struct kernel_size up = {size->rows, min_u32(size->columns, size->inner),
                                   max_u32(size->columns, size->inner)};
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count =
        kernel_candidates(&kernels->gpu->caps, KERNEL_MOE_MATMUL_UP, store, &up, list);
    return best_right(kernels, KERNEL_MOE_MATMUL_UP, store, &up, list, count).rows;
}

struct kernel_shape kernels_shape(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                  const struct kernel_size *size)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    uint32_t count = kernel_candidates(&kernels->gpu->caps, op, store, size, list);
    if (kernel_is_grouped(op)) {
        const uint32_t rows = tile_rows(kernels, store, size);
        bool has = op != KERNEL_MOE_MATMUL_NTF; // that one does any table, best its own
        for (uint32_t i = 0; i < count; i++) has |= list[i].rows == rows;
        for (uint32_t i = count; has && i-- > 0;)
            if (list[i].rows != rows) remove_at(list, &count, i);
    }
    return best_right(kernels, op, store, size, list, count);
}

const struct kernel *kernels_get(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                 const struct kernel_size *size)
{
    if (kernel_is_attention(op) && (size->rows == 0 || size->rows > KERNEL_MAX_HEAD_DIM)) {
        log_error("%s: head_dim %u is not between 1 and %d", kernel_info(op)->name, size->rows,
                  KERNEL_MAX_HEAD_DIM);
        return NULL;
    }
    const uint64_t wrong = kernels->report.wrong;
    const struct kernel_shape shape = kernels_shape(kernels, op, store, size);
    if (shape.lanes) return kernels_make(kernels, op, store, &shape);
    if (kernels->report.wrong > wrong)
        log_error("device %s has no way left to compute %s: update its driver, or choose another "
                  "--device",
                  kernels->gpu->caps.name, kernel_info(op)->name);
    return NULL;
}

// ---- all there are

// The rows, or head_dim, that between them bring out every shape an operation has.
static uint32_t shape_sizes(enum kernel_op op, const uint32_t **sizes)
{
    static const uint32_t tiles[] = {1, 4, 16, 64, 256}, head_dims[] = {32, 64, 128, 256};
    static const uint32_t any[] = {1};
    if (kernel_is_attention(op)) return *sizes = head_dims, (uint32_t)COUNT_OF(head_dims);
    if (kernel_is_matmul(op) || kernel_is_matvec(op))
        return *sizes = tiles, (uint32_t)COUNT_OF(tiles);
    return *sizes = any, 1;
}

static bool is_among(const struct kernel_shape *shape, const struct kernel_shape *list,
                     uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(shape, &list[i], sizeof *shape) == 0) return true;
    return false;
}

static bool visit_shapes(struct kernels *kernels, enum kernel_op op, enum dtype store,
                         bool (*visit)(void *user, const struct kernel *kernel), void *user)
{
    const uint32_t *rows, size_count = shape_sizes(op, &rows);
    struct kernel_shape seen[8 * KERNEL_MAX_CANDIDATES], list[KERNEL_MAX_CANDIDATES];
    uint32_t seen_count = 0;
    for (uint32_t i = 0; i < size_count; i++) {
        const struct kernel_size size = {rows[i], 1024, 1024};
        const uint32_t count = kernel_candidates(&kernels->gpu->caps, op, store, &size, list);
        for (uint32_t c = 0; c < count; c++) {
            if (is_among(&list[c], seen, seen_count)) continue;
            seen[seen_count++] = list[c];
            const struct kernel *kernel = kernels_make(kernels, op, store, &list[c]);
            if (!kernel || !visit(user, kernel)) return false;
        }
    }
    return true;
}

bool kernels_each(struct kernels *kernels, bool (*visit)(void *user, const struct kernel *kernel),
                  void *user)
{
    for (enum kernel_op op = 0; op < KERNEL_COUNT; op++)
        for (enum dtype store = 0; store < 3; store++) {
            if (!kernel_exists(op, store, KERNEL_FLAT)) continue;
            if (store && !(kernels->gpu->caps.mask & GPU_CAP_STORAGE16)) continue;
            if (!visit_shapes(kernels, op, store, visit, user)) return false;
        }
    return true;
}
