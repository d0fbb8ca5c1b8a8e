// SPDX-License-Identifier: MIT
// What the tests of configs share: what is printed reads back as the same.
#pragma once

#include "tests/unit.h"

#include "src/config.h"

UNIT_HELPER void assert_round_trip(const struct config *config)
{
    char *text = config_print(config);
    struct config again;
    assert_true(config_parse(&again, "printed", text, NULL, 0));
    unit_assert_silent();
    char *text_again = config_print(&again);
    assert_string_equal(text, text_again);
    free(text), free(text_again);
}
