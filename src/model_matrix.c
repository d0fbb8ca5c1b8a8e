// SPDX-License-Identifier: MIT
// The matrices of a stack of experts whose widths differ: each in a place as large as the widest
// one, the rest of it zero, so that kernels find an expert by its number alone. In files and in
// numbers of elements each has its own size.
#include "src/model.h"

// 0: of neither; 1: rows, 2: columns are as many as the expert is wide
static int narrow_side(enum model_role role)
{
    if (role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP) return 1;
    return role == ROLE_EXPERT_DOWN || role == ROLE_EXPERT_UP_BIAS ? 2 : 0;
}

bool model_is_uneven(const struct model *model, const struct model_tensor *tensor)
{
    return model->config.width_count && tensor->experts && narrow_side(tensor->role);
}

struct model_matrix model_matrix(const struct model *model, const struct model_tensor *tensor,
                                 uint32_t expert)
{
    const uint64_t size = (uint64_t)tensor->rows * tensor->cols;
    struct model_matrix matrix = {.rows = tensor->rows, .cols = tensor->cols,
                                  .begin = expert * size, .place = expert * size};
    if (!model_is_uneven(model, tensor)) return matrix;
    const bool rows = narrow_side(tensor->role) == 1;
    *(rows ? &matrix.rows : &matrix.cols) = config_expert_width(&model->config, expert);
    matrix.begin = config_widths_before(&model->config, expert) *
                   (rows ? tensor->cols : tensor->rows);
    return matrix;
}

uint32_t model_expert_at(const struct model *model, const struct model_tensor *tensor,
                         uint64_t element)
{
    uint32_t low = 0, high = tensor->experts; // the last one that begins at or before it
    while (high > low + 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (model_matrix(model, tensor, middle).begin <= element) low = middle;
        else high = middle;
    }
    return low;
}

uint64_t model_place(const struct model *model, const struct model_tensor *tensor,
                     uint64_t element)
{
    if (!model_is_uneven(model, tensor)) return element;
    const struct model_matrix m =
        model_matrix(model, tensor, model_expert_at(model, tensor, element));
    const uint64_t own = element - m.begin;
    return m.place + own / m.cols * tensor->cols + own % m.cols;
}

void model_each_run(const struct model *model, const struct model_tensor *tensor, uint64_t begin,
                    uint64_t count, model_run_fn *run, void *user)
{
    const uint64_t end = begin + count;
    for (uint64_t at = begin; at < end;) {
        const struct model_matrix m =
            model_matrix(model, tensor, model_expert_at(model, tensor, at));
        const uint64_t size = (uint64_t)m.rows * m.cols, own = at - m.begin;
        // to the end of its row, or, where rows lie side by side, of its matrix
        const uint64_t left = m.cols == tensor->cols ? size - own : m.cols - own % m.cols;
        const uint64_t length = min_u64(left, end - at);
        run(user, at - begin, m.place + own / m.cols * tensor->cols + own % m.cols, length);
        at += length;
    }
}
