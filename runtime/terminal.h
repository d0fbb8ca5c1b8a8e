// SPDX-License-Identifier: MIT
// Whether a stream is a terminal, and how wide.
#pragma once

#include <stdbool.h>
#include <stdio.h>

bool terminal_is(FILE *stream);
// Columns; 80 where the terminal does not say.
int  terminal_columns(FILE *stream);
