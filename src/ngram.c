// SPDX-License-Identifier: MIT
// Hashes of bigrams and trigrams: see ngram.h.
#include "src/ngram.h"

#include "src/base.h"
#include "src/kernel.h"

uint32_t ngram_size(const struct config *config, uint32_t which)
{
    return which == 0 ? config->bigram_hash_size : config->trigram_hash_size;
}

uint32_t ngram_row(const struct config *config, uint32_t which, const uint32_t *at)
{
    const uint32_t size = ngram_size(config, which);
    if (at[0] == KERNEL_NONE_ID) return KERNEL_NONE_ID;
    if (which == 0) // the last row is for a first token
        return at[-1] == KERNEL_NONE_ID ? size - 1
                                        : ((36313u * at[0]) ^ (27191u * at[-1])) % (size - 1);
    if (at[-1] == KERNEL_NONE_ID || at[-2] == KERNEL_NONE_ID) return 0;
    return (961u * at[-2] + 31u * at[-1] + at[0]) % size;
}

void ngram_rows(const struct config *config, uint32_t which, const uint32_t *ids,
                const uint32_t *begins, uint32_t count, uint32_t seq, uint32_t *rows)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t place = i % seq - (begins ? begins[i] : 0);
        const uint32_t at[] = {place > 1 ? ids[i - 2] : KERNEL_NONE_ID,
                               place > 0 ? ids[i - 1] : KERNEL_NONE_ID, ids[i]};
        rows[i] = ngram_row(config, which, at + NGRAM_BEFORE);
    }
}
