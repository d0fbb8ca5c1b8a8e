// SPDX-License-Identifier: MIT
// The experts of a streamed model as steps: behind the sort the host reads which experts have rows
// (experts.h), and the bodies run in turns, each over the experts that lie in slots by then.
#include <string.h>

#include "src/base.h"
#include "src/experts.h"
#include "src/plan_model.h"

static struct push_moe_place place_push(const struct network *n, int32_t layer, uint32_t window)
{
    const struct push_moe_sort sort = network_moe_sort(n, layer);
    const struct experts *x = n->params->experts;
    struct push_moe_place push = {.ranges = min_u32(sort.experts, sort.pairs),
                                  .first = window * x->window_slots,
                                  .count = x->window_slots,
                                  .tile_rows = sort.tile_rows,
                                  .max_tiles = sort.max_tiles};
    memcpy(push.columns, sort.columns, sizeof push.columns);
    memcpy(push.rows, sort.rows, sizeof push.rows);
    return push;
}

static struct plan_range pool_of(const struct network *n, enum model_role role, uint32_t window)
{
    return experts_pool(n->params->experts, n->plan, role, window);
}

static struct moe_site window_site(struct network *n, int32_t layer, uint32_t window)
{
    const struct push_moe_place push = place_push(n, layer, window);
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const struct moe_site site = {
        .tiles = network_temp_f32(n, push.max_tiles + 1, 4, "tiles_placed", layer),
        .ranges = network_temp_f32(n, push.ranges + 1, 4, "ranges_placed", layer),
        .indirect = network_temp_f32(n, MOE_GRIDS, 4, "indirect_placed", layer),
        .gate = pool_of(n, c->mlp_gated ? ROLE_EXPERT_GATE : ROLE_EXPERT_UP, window),
        .up = pool_of(n, ROLE_EXPERT_UP, window),
        .down = pool_of(n, ROLE_EXPERT_DOWN, window),
        .up_bias = c->mlp_bias ? pool_of(n, ROLE_EXPERT_UP_BIAS, window) : (struct plan_range){0},
        .down_bias =
            c->mlp_bias ? pool_of(n, ROLE_EXPERT_DOWN_BIAS, window) : (struct plan_range){0},
    };
    plan_add(n->plan, KERNEL_MOE_PLACE, 0, &push,
             PLAN_BIND(v->ranges, experts_places(n->params->experts, n->plan, push.ranges),
                       site.tiles, site.ranges, site.indirect));
    return site;
}

void network_stream_bodies(struct network *n, int32_t layer, struct plan_range h,
                           struct plan_range y)
{
    struct experts *x = n->params->experts;
    const struct plan_range ranges = n->layer[layer].ranges;
    const uint32_t owner = config_layer_owner(n->config, (uint32_t)layer);
    plan_copy(n->plan, ranges, experts_ranges(x, n->plan, ranges.bytes));
    plan_host(n->plan, experts_visit, x, model_moe_index(n->model, owner));
    for (uint32_t w = 0; w < x->windows; w++) {
        const struct moe_site site = window_site(n, layer, w);
        network_moe_bodies(n, layer, &site, h, y);
    }
    plan_host(n->plan, NULL, NULL, 0);
}
