// SPDX-License-Identifier: MIT
// WikiText's files (Merity et al. 2016): articles one after the other, each under its title, a line
// " = Title = " between blank ones. Titles of sections have more signs (" = = Section = = ").
// "wiki:PATH" names such a file, or a folder of them; one that is called *.tokens is known.
#pragma once

#include "data_source.h"

// The path behind "wiki:", NULL: it does not begin so.
const char *wiki_path(const char *path);
// Each article, its title's line included, is a document; what stands before the first title is one
// too, where it is not blank. The text stays where it is. How many articles; 0: none was added.
uint64_t wiki_documents(struct documents *out, const char *text, uint64_t bytes);
