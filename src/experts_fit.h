// SPDX-License-Identifier: MIT
// How many experts get a slot where the device's memory is given as a budget and some of what a
// slot costs is known only once everything is planned: a search that plans anew for each number it
// tries, and ends.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct experts_fit_plans {
    uint64_t budget; // bytes of the device; 0: the slots are given
    // Everything that wants memory of the device, with so many slots; state_out as in
    // experts_params. False after one line; what it left is for the caller to drop.
    bool (*make)(void *user, uint32_t slots, bool state_out);
    void (*drop)(void *user);
    // Whether what is made uses the budget well, else how many slots there should be, as
    // experts_fit says (0 after one line).
    bool (*fits)(void *user, uint32_t *slots);
    uint64_t (*held)(void *user); // bytes of the device
    void *user;
};

// What all else takes is known once it is there, and some of it grows with the slots: with one slot
// first, then with a few less than seem to fit, then with as many as the first two tell; from then
// on fewer, if any other number. Where not even one has room the optimizer's state makes some.
// slots: without a budget, how many; 0 with one. False after one line, with nothing made but what
// a failed make left.
bool experts_fit_plans(const struct experts_fit_plans *plans, uint32_t slots);
