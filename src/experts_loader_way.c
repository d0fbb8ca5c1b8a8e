// SPDX-License-Identifier: MIT
// Records of experts on their way: which way they take, and what it could bring at most, found once
// at the start. See experts_loader.h.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/checksum.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"
#include "src/experts_loader_own.h"

enum { COPY_MEASURED_BYTES = 16 << 20 };

// A file of the store that has records; empty where there is none yet.
static void find_segment(struct store *store, char *path, size_t bytes)
{
    struct store_place place;
    char link[64];
    ssize_t length = -1;
    for (uint64_t key = 0; key < store_keys(store); key++)
        if (store_find(store, key, &place)) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", place.fd);
            length = readlink(link, path, bytes - 1);
            break;
        }
    path[length > 0 ? length : 0] = 0;
}

// What is read again and again, with all experts touched; training writes new versions, too.
static uint64_t all_bytes(const struct experts_loader *l)
{
    const struct experts_record *r = l->params.record;
    return r->keys * (l->params.whole ? 2 * r->bytes : r->weights_bytes);
}

// Whether the host can read into slots past the page cache, or as the system reads from there.
static bool can_go_straight(struct experts_loader *l)
{
    struct loader_place *p = &l->ring[0];
    if (!l->mapped) return false;
    p->pieces = l->params.pieces(l->params.user, 0, 0, p->piece);
    for (uint32_t i = 0; l->direct && i < p->pieces; i++)
        if (!p->piece[i].is_steps && !p->piece[i].buffer->direct) return false;
    return loader_straight(p, 0, l->params.record->bytes, l->straight_unit);
}

bool loader_choose_way(struct experts_loader *l)
{
    struct store *store = l->params.source->store;
    struct stream_choice choice;
    char path[4096];
    if (!store) return true;
    find_segment(store, path, sizeof path);
    if (!stream_choose(*path ? path : NULL, l->params.record->bytes, all_bytes(l), l->params.way,
                       &choice))
        return false;
    l->direct = choice.direct;
    l->peaks.read_gbps = choice.gbps[choice.way];
    l->straight_unit = l->direct ? OS_FILE_ALIGNMENT : CHECKSUM_BLOCK;
    l->straight = can_go_straight(l);
    l->stream = stream_create(
        &(struct stream_params){.backend = choice.backend, .file = l->params.file});
    if (l->stream)
        log_info("experts: records of %.1f KiB are read by %s; %s",
                 (double)l->params.record->bytes / 1024, choice.text,
                 l->straight ? "straight into their slots" : "copied into their slots");
    return l->stream != NULL;
}

// Bytes of the slot's pieces that a load fills.
static uint64_t slot_bytes(const struct loader_place *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->pieces; i++) bytes += p->piece[i].is_steps ? 0 : p->piece[i].bytes;
    return bytes;
}

// Copies records that are none, from memory that no cache holds, into the first slots, which hold
// nothing yet: once to warm up, then again.
bool loader_measure_copies(struct experts_loader *l)
{
    const uint64_t each = l->params.record->bytes, count = COPY_MEASURED_BYTES / each + 1,
                   slots = min_u64(l->params.slots, count / 4 + 1);
    uint8_t *memory = l->mapped ? os_pages(count * each) : NULL;
    struct loader_place *p = &l->ring[0];
    uint64_t bytes = 0, ticket = 0;
    double began = 0;
    if (l->mapped) memset(memory, 0, count * each); // pages of its own
    else memset(l->memory, 0, l->places * l->place_bytes);
    for (uint64_t i = 0; i < 2 * count; i++) {
        if (i == count) began = os_seconds(), bytes = 0;
        p = &l->ring[i % l->places];
        p->slot = (uint32_t)(i % slots);
        p->pieces = l->params.pieces(l->params.user, p->slot, 0, p->piece);
        bytes += slot_bytes(p);
        if (l->mapped) loader_copy_in(l, p, memory + i % count * each);
        else if (!loader_copy_to_slot(l, p)) return false;
        ticket = p->copy;
        if (!l->mapped && i + 1 == count && !gpu_copy_wait(l->params.gpu, ticket)) return false;
        p->state = LOADER_FREE;
        p->copy = l->copy[p->slot] = 0;
    }
    if (!l->mapped && !gpu_copy_wait(l->params.gpu, ticket)) return false;
    l->peaks.copy_gbps = 1e-9 * (double)bytes / fmax(os_seconds() - began, 1e-9);
    os_pages_free(memory, count * each);
    return true;
}
