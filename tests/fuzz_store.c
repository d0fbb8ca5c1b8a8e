// SPDX-License-Identifier: MIT
// The readers of the store's manifest and index against damaged ones. A case is 8 bytes of length,
// the manifest, the index. The checksums of most are put right again, else nothing behind them
// would be tried. What must hold for any input: no access outside, one log line if it is refused
// and none if it is taken; a taken manifest, printed, is taken as the same; of a taken index each
// record has a place of its own inside its segment, and printed it is the same bytes.
#define FUZZ_NAME "fuzz_store"
#define FUZZ_WORDS "\"records\"", "\"bytes\"", "segment-00000002.bin", "4096", "\"xxh64\""
#include "tests/fuzz.h"

#include <inttypes.h>

#include "runtime/checksum.h"
#include "runtime/store_internal.h"

enum { LENGTH = 8, SUM_LINE = 12, SUM_TAIL = SUM_LINE + 16 + 4 };

static void check_manifest(const struct store_manifest *m)
{
    uint64_t offset[STORE_PARTS + 1];
    struct store_manifest again;
    const struct store_geometry *g = &m->geometry;
    require(g->part_count >= 1 && g->part_count <= STORE_PARTS && g->keys >= 1 &&
                g->keys <= STORE_MOST_KEYS, "a wrong geometry was taken");
    require(store_part_offsets(g, offset) && offset[STORE_PARTS] == g->record_bytes,
            "a wrong record size was taken");
    for (uint32_t i = 0; i < m->segment_count; i++)
        require(m->segment[i].records >= 1 && m->segment[i].records <= g->segment_records &&
                    (i == 0 || m->segment[i - 1].number < m->segment[i].number),
                "a wrong segment was taken");
    char *text = store_manifest_print(m);
    require(store_manifest_parse("again", text, strlen(text), &again), "its own text is refused");
    require(strcmp(m->identity, again.identity) == 0 &&
                memcmp(&m->geometry, &again.geometry, sizeof again.geometry) == 0 &&
                m->segment_count == again.segment_count && m->index_sum == again.index_sum &&
                memcmp(m->segment, again.segment, m->segment_count * sizeof *m->segment) == 0,
            "printed and read it is another");
    store_manifest_free(&again);
    free(text);
}

static void check_index(const struct store_manifest *m, const struct store_named *named,
                        const uint8_t *data, size_t size)
{
    uint64_t bytes;
    for (uint64_t i = 0; i < m->index_records; i++) {
        const struct store_named *n = &named[i];
        uint32_t s = 0;
        while (s < m->segment_count && m->segment[s].number != n->segment) s++;
        require(s < m->segment_count && n->record < m->segment[s].records &&
                    n->key < m->geometry.keys && n->parts, "a wrong place was taken");
        for (uint64_t j = 0; j < i; j++)
            require(named[j].key < n->key &&
                        (named[j].segment != n->segment || named[j].record != n->record),
                    "an overlap was taken");
    }
    void *again = store_index_print(&m->geometry, named, m->index_records, &bytes);
    require(bytes == size && memcmp(again, data, size) == 0, "printed it is another");
    free(again);
}

// Returns 1 where both were taken (libFuzzer wants 0). `fix`: the index is the one that is meant.
static int try_store(const uint8_t *data, size_t size, bool fix)
{
    uint64_t length = 0;
    if (size < LENGTH) return 0;
    memcpy(&length, data, LENGTH);
    length = min_u64(length, size - LENGTH);
    const size_t index_size = size - LENGTH - (size_t)length;
    uint8_t *text = fuzz_exact(data + LENGTH, (size_t)length),
            *index = fuzz_exact(data + LENGTH + length, index_size);
    struct store_manifest manifest;
    lines = 0;
    const bool taken = store_manifest_parse("fuzz", text, length, &manifest);
    require(lines == !taken, "not exactly one line for a refused manifest, none for a good one");
    struct store_named *named = NULL;
    if (taken) {
        check_manifest(&manifest);
        if (fix) manifest.index_sum = checksum_xxh64(index, index_size);
        lines = 0;
        named = store_index_parse("fuzz", &manifest, index, index_size);
        require(lines == !named, "not exactly one line for a refused index, none for a good one");
        if (named) check_index(&manifest, named, index, index_size);
        store_manifest_free(&manifest);
    }
    const int both = named != NULL;
    free(named), free(text), free(index);
    return both;
}

#ifdef VKMOE_LIBFUZZER

static int try_one(const uint8_t *data, size_t size)
{
    return try_store(data, size, size % 2);
}

#else

static size_t make_seed(uint8_t *out, uint64_t which)
{
    struct store_manifest_segment segment[] = {{1, 4}, {2, 3}, {7, 1}};
    struct store_manifest m = {
        .identity = which ? "hidden_size 64\nseed \"7\"\n" : "",
        .geometry = {.keys = 20, .part_bytes = {5000, 4096}, .part_name = {"weights", "state"},
                     .part_count = 1 + (uint32_t)which % 2, .segment_records = 4},
        .segment = segment, .segment_count = which == 2 ? 0 : 3,
        .index_file = "experts.index", .index_records = which == 2 ? 0 : 5};
    uint64_t offset[STORE_PARTS + 1];
    struct store_named named[5];
    for (uint32_t i = 0; i < 5; i++)
        named[i] = (struct store_named){3 * i + 1, i == 4 ? 7 : 1 + i / 3, i == 4 ? 0 : i % 3,
                                        1, {i * 0x123456789abcdefu, 0}};
    store_part_offsets(&m.geometry, offset);
    m.geometry.record_bytes = offset[STORE_PARTS];
    void *index = store_index_print(&m.geometry, named, m.index_records, &m.index_bytes);
    m.index_sum = checksum_xxh64(index, m.index_bytes);
    char *text = store_manifest_print(&m);
    const uint64_t length = strlen(text);
    memcpy(out, &length, LENGTH);
    memcpy(out + LENGTH, text, length);
    memcpy(out + LENGTH + length, index, m.index_bytes);
    const size_t size = LENGTH + length + m.index_bytes;
    free(text), free(index);
    return size;
}

// Length and checksum of the mutated manifest put right, where its last line is still there.
static void fix_manifest(uint8_t *out, size_t size)
{
    static const char line[] = "  \"xxh64\": \"";
    for (size_t at = size < SUM_TAIL ? 0 : size - SUM_TAIL; at > LENGTH; at--) {
        char digits[17];
        if (memcmp(out + at, line, sizeof line - 1) != 0) continue;
        const uint64_t length = at - LENGTH + SUM_TAIL;
        if (length > size - LENGTH) return;
        snprintf(digits, sizeof digits, "%016" PRIx64,
                 checksum_xxh64(out + LENGTH, at - LENGTH));
        memcpy(out + at + sizeof line - 1, digits, 16);
        memcpy(out, &length, LENGTH);
        return;
    }
}

static int attempt(struct mutator *m, uint8_t *data, size_t size, uint64_t which, size_t whole)
{
    (void)which, (void)whole;
    const bool fix = m && pick(m, 4) > 0;
    if (!m) require(try_store(data, size, false), "an undamaged store was refused");
    if (!m || fix) fix_manifest(data, size); // what is put right is what was right
    return try_store(data, size, fix);
}

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"stores", "taken", 3, 4, 2, make_seed, attempt};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
