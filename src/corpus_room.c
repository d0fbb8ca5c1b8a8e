// SPDX-License-Identifier: MIT
// Where text and ids lie: see corpus_room.h.
#include "src/corpus_room.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/spill.h"
#include "src/base.h"

struct corpus_room {
    uint64_t         most, touch_most; // bytes in memory; looked at in files until they are left
    uint64_t         held;             // in memory
    struct arena    *arena;
    struct spill    *spill;            // NULL: all that was copied is in memory
    struct file_map *map;
    size_t           map_count;
    atomic_uint_fast64_t touched;
};

struct corpus_room *corpus_room_create(const struct config_corpus *rules)
{
    struct corpus_room *room = os_alloc(sizeof *room);
    room->most = (uint64_t)rules->data_memory_mib << 19;
    room->touch_most = room->most / 2;
    room->arena = arena_create("text");
    return room;
}

void corpus_room_destroy(struct corpus_room **room)
{
    if (!*room) return;
    for (size_t i = 0; i < (*room)->map_count; i++) file_unmap(&(*room)->map[i]);
    spill_destroy(&(*room)->spill);
    arena_destroy(&(*room)->arena);
    free((*room)->map);
    free(*room);
    *room = NULL;
}

bool corpus_folder(const char *name, char *path, size_t bytes)
{
    char folder[3800];
    if (os_cache_folder(folder, sizeof folder) &&
        snprintf(path, bytes, "%s/%s", folder, name) < (int)bytes)
        return true;
    log_error("data: no folder for caches: HOME is not set; set VKMOE_CACHE to a folder on a disk");
    return false;
}

static bool open_spill(struct corpus_room *room)
{
    char folder[4096];
    if (!corpus_folder("spill", folder, sizeof folder)) return false;
    log_debug("data: more than %llu MiB: what comes lies in a file in %s",
              (unsigned long long)(room->most >> 20), folder);
    room->spill = spill_create(folder);
    return room->spill != NULL;
}

void *corpus_room_alloc(struct corpus_room *room, uint64_t bytes)
{
    if (!room->spill && room->held + bytes <= room->most) {
        room->held += bytes;
        return arena_alloc(room->arena, bytes);
    }
    if (!room->spill && !open_spill(room)) return NULL;
    void *memory = spill_alloc(room->spill, bytes);
    corpus_room_touch(room, bytes); // what is written now is in memory too
    return memory;
}

const uint8_t *corpus_room_map(struct corpus_room *room, struct file_map *map)
{
    const size_t n = room->map_count++;
    room->map = os_grow(room->map, n * sizeof *map, (n + 1) * sizeof *map);
    room->map[n] = *map;
    *map = (struct file_map){0};
    return room->map[n].data;
}

void corpus_room_touch(struct corpus_room *room, uint64_t bytes)
{
    if (!room) return; // what was made by hand is in memory
    if (atomic_fetch_add(&room->touched, bytes) + bytes < room->touch_most) return;
    atomic_store(&room->touched, 0);
    for (size_t i = 0; i < room->map_count; i++) file_map_forget(&room->map[i]);
    if (room->spill) spill_forget(room->spill);
}

uint64_t corpus_room_most(const struct corpus_room *room) { return room->most; }

uint64_t corpus_room_filed(const struct corpus_room *room)
{
    uint64_t bytes = room->spill ? spill_bytes(room->spill) : 0;
    for (size_t i = 0; i < room->map_count; i++) bytes += room->map[i].bytes;
    return bytes;
}

uint64_t corpus_room_resident(const struct corpus_room *room)
{
    return min_u64(corpus_room_filed(room), room->touch_most);
}
