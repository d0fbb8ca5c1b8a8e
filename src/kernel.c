// SPDX-License-Identifier: MIT
// The kernels of one device: SPIR-V by name (shaders/meson.build), made on first use in the shape
// that was chosen for a size.
#include "src/kernel.h"

#include <math.h>
#include <string.h>

#include "kernel_spirv.h"
#include "src/base.h"
#include "src/kernel_shape.h"
#include "runtime/log.h"

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

struct slot {
    struct kernel kernel;
    struct slot  *next;
};

struct kernels {
    struct gpu   *gpu;
    struct arena *arena;
    struct slot  *slot[KERNEL_COUNT][3]; // one of each shape
    struct kernel_choice *choice;        // by measurement; NULL: none
    uint32_t      choice_count;
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

// ---- choosing a shape

void kernels_choose(struct kernels *kernels, const struct kernel_choice *choice, uint32_t count)
{
    kernels->choice = count ? arena_array(kernels->arena, count, sizeof *choice) : NULL;
    kernels->choice_count = count;
    if (count) memcpy(kernels->choice, choice, count * sizeof *choice);
}

static double distance(const struct kernel_size *a, const struct kernel_size *b)
{
    const double rows = log2(a->rows + 1.0) - log2(b->rows + 1.0);
    const double columns = log2(a->columns + 1.0) - log2(b->columns + 1.0);
    const double inner = log2(a->inner + 1.0) - log2(b->inner + 1.0);
    return rows * rows + 0.25 * (columns * columns + inner * inner);
}

static bool is_candidate(const struct kernel_shape *shape, const struct kernel_shape *list,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(shape, &list[i], sizeof *shape) == 0) return true;
    return false;
}

// The nearest measured choice among the candidates, else the first of them.
static struct kernel_shape nearest(const struct kernels *kernels, enum kernel_op op,
                                   enum dtype store, const struct kernel_size *size,
                                   const struct kernel_shape *list, uint32_t count)
{
    struct kernel_shape best = list[0];
    double least = INFINITY;
    for (uint32_t i = 0; i < kernels->choice_count; i++) {
        const struct kernel_choice *c = &kernels->choice[i];
        if (c->op != op || c->store != store) continue;
        const double far = distance(size, &c->size);
        if (far < least && is_candidate(&c->shape, list, count)) best = c->shape, least = far;
    }
    return best;
}

// Rows of the tile table that the grouped matmuls of a layer share.
static uint32_t tile_rows(const struct kernels *kernels, enum dtype store,
                          const struct kernel_size *size)
{
    const struct kernel_size up = {size->rows, min_u32(size->columns, size->inner),
                                   max_u32(size->columns, size->inner)};
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count =
        kernel_candidates(&kernels->gpu->caps, KERNEL_MOE_MATMUL_UP, store, &up, list);
    return nearest(kernels, KERNEL_MOE_MATMUL_UP, store, &up, list, count).rows;
}

struct kernel_shape kernels_shape(const struct kernels *kernels, enum kernel_op op,
                                  enum dtype store, const struct kernel_size *size)
{
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    uint32_t count = kernel_candidates(&kernels->gpu->caps, op, store, size, list);
    if (kernel_is_grouped(op)) {
        const uint32_t rows = tile_rows(kernels, store, size);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++)
            if (list[i].rows == rows) list[kept++] = list[i];
        count = kept ? kept : count;
    }
    return nearest(kernels, op, store, size, list, count);
}

// ---- making

static uint32_t one_subgroup(const struct gpu_caps *caps, const struct kernel_shape *shape)
{
    return caps->mask & GPU_CAP_SIZE && shape->lanes <= caps->subgroup_size;
}

static bool kernel_create(struct kernels *kernels, struct kernel *kernel)
{
    const struct kernel_info *info = kernel_info(kernel->op);
    const struct kernel_shape *s = &kernel->shape;
    const struct blob *blob = &blobs[kernel->op][kernel->store][s->variant];
    const bool flat = s->variant == KERNEL_FLAT;
    kernel->name = arena_printf(kernels->arena, "%s_%s%s%s", info->name,
                                dtype_name(kernel->store), flat ? "" : "_",
                                flat ? "" : kernel_variant_name(s->variant));
    const struct gpu_caps *caps = &kernels->gpu->caps;
    kernel->gpu = gpu_kernel_create(
        kernels->gpu,
        &(struct gpu_kernel_params){
            .name = kernel->name,
            .spirv = blob->words,
            .spirv_bytes = blob->bytes,
            .spec = {s->lanes, s->rows, s->columns, s->spread, s->depth, s->part_rows,
                     s->part_columns, s->coop[0], s->coop[1], s->coop[2], one_subgroup(caps, s)},
            .spec_count = KERNEL_SPEC_COUNT,
            .binding_count = (uint32_t)strlen(info->access),
            .push_bytes = info->push_bytes,
            .subgroup_size = caps->mask & GPU_CAP_SIZE ? caps->subgroup_size : 0,
            .ref = info->ref,
            .tag = (int)kernel->store,
        });
    return kernel->gpu != NULL;
}

const struct kernel *kernels_make(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                  const struct kernel_shape *shape)
{
    if (!kernel_exists(op, store, shape->variant)) store = DTYPE_F32; // without STORE bindings
    struct slot **at = &kernels->slot[op][store];
    for (; *at; at = &(*at)->next)
        if (memcmp(&(*at)->kernel.shape, shape, sizeof *shape) == 0) return &(*at)->kernel;
    if (store != DTYPE_F32 && !(kernels->gpu->caps.mask & GPU_CAP_STORAGE16)) {
        log_error("device %s: no 16-bit storage; use torch_dtype float32", kernels->gpu->caps.name);
        return NULL;
    }
    struct slot *slot = arena_alloc(kernels->arena, sizeof *slot);
    slot->kernel = (struct kernel){.op = op, .store = store, .shape = *shape};
    if (!kernel_create(kernels, &slot->kernel)) return NULL;
    *at = slot;
    return &slot->kernel;
}

const struct kernel *kernels_get(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                 const struct kernel_size *size)
{
    if (kernel_is_attention(op) && (size->rows == 0 || size->rows > KERNEL_MAX_HEAD_DIM)) {
        log_error("%s: head_dim %u is not between 1 and %d", kernel_info(op)->name, size->rows,
                  KERNEL_MAX_HEAD_DIM);
        return NULL;
    }
    const struct kernel_shape shape = kernels_shape(kernels, op, store, size);
    return kernels_make(kernels, op, store, &shape);
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
            if (is_candidate(&list[c], seen, seen_count)) continue;
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
