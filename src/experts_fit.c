// SPDX-License-Identifier: MIT
// The search for the number of slots: see experts_fit.h.
#include "src/experts_fit.h"

#include "src/base.h"

// As many as there is room for, if what is held goes on to grow as from one slot to `slots`.
static uint32_t on_line(uint64_t least, uint64_t held, uint64_t most, uint32_t slots)
{
    return (uint32_t)(1 + (most - least) * (slots - 1) / (held - least));
}

bool experts_fit_plans(const struct experts_fit_plans *p, uint32_t slots)
{
    uint64_t least = 0; // held with one slot
    bool state_out = false;
    slots = max_u32(slots, 1);
    for (uint32_t round = 0;; round++) {
        uint32_t fit = 0;
        if (!p->make(p->user, slots, state_out)) return false;
        if (round == 0 && p->budget && p->held(p->user) > p->budget) {
            p->drop(p->user);
            state_out = true;
            if (!p->make(p->user, slots, state_out)) return false;
        }
        // too many is no error where one has room
        const uint64_t held = p->held(p->user), most = p->budget;
        const bool over = round > 0 && slots > 1 && held > most;
        if (!over && (p->fits(p->user, &fit) || (round > 1 && fit >= slots))) return true;
        p->drop(p->user);
        if (!over && fit == 0) return false;
        if (round == 0) least = held;
        if (slots > 1 && held > least && most > least) fit = on_line(least, held, most, slots);
        slots = round == 0 ? max_u32(fit - fit / 8, 1)
                : round > 1 || over ? min_u32(max_u32(fit, 1), slots - 1)
                                    : fit;
    }
}
