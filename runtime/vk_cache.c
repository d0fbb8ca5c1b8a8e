// SPDX-License-Identifier: MIT
// The pipeline cache on disk: one file a device and driver version, read at start, written beside
// and renamed at the end where it has changed. A file that is damaged or of another driver is
// ignored: it costs one compilation, never a failure.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

#define MAGIC "vkmoePC1"

// In front of the driver's bytes.
struct header {
    char     magic[8];
    uint64_t bytes, hash; // of what follows
};

static uint64_t hash_of(const uint8_t *data, uint64_t bytes) // FNV-1a 64
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < bytes; i++)
        hash = (hash ^ data[i]) * 0x100000001b3u;
    return hash;
}

static char *path_make(const struct vk_gpu *vk, const char *folder)
{
    const struct gpu_caps *caps = &vk->base.gpu.caps;
    char                   uuid[33];
    const size_t           size = strlen(folder) + sizeof uuid + 64;
    char                  *path = os_alloc(size);
    snprintf(path, size, "%s/pipelines-%s-%08" PRIx32 ".bin", folder, gpu_uuid_text(caps, uuid),
             caps->driver_version);
    return path;
}

// What is wrong with a file's contents, NULL if nothing.
static const char *fault(const struct vk_gpu *vk, const uint8_t *file, uint64_t bytes)
{
    struct header header;
    VkPipelineCacheHeaderVersionOne own;
    if (bytes < sizeof header + sizeof own)
        return "it is too short";
    memcpy(&header, file, sizeof header);
    memcpy(&own, file + sizeof header, sizeof own);
    if (memcmp(header.magic, MAGIC, sizeof header.magic) != 0)
        return "it is not a pipeline cache";
    if (header.bytes != bytes - sizeof header)
        return "its length is wrong";
    if (header.hash != hash_of(file + sizeof header, header.bytes))
        return "its contents are damaged";
    if (own.headerSize < sizeof own || own.headerVersion != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
        own.vendorID != vk->base.gpu.caps.vendor_id ||
        own.deviceID != vk->base.gpu.caps.device_id ||
        memcmp(own.pipelineCacheUUID, vk->physical.cache_uuid, VK_UUID_SIZE) != 0)
        return "it is of another driver";
    return NULL;
}

static void *load(struct vk_gpu *vk, uint64_t *bytes)
{
    void *file = NULL;
    if (!file_exists(vk->cache_path) || !file_read(vk->cache_path, 1ull << 30, &file, bytes))
        return NULL;
    const char *wrong = fault(vk, file, *bytes);
    if (!wrong)
        return file;
    log_warn("%s: ignored and written anew: %s", vk->cache_path, wrong);
    free(file);
    return NULL;
}

bool vk_cache_create(struct vk_gpu *vk, const char *folder)
{
    char     standard[4096];
    uint64_t bytes = sizeof(struct header);
    if (!folder)
        folder = os_cache_folder(standard, sizeof standard) ? standard : "";
    if (folder[0])
        vk->cache_path = path_make(vk, folder);
    uint8_t       *file = vk->cache_path ? load(vk, &bytes) : NULL;
    const size_t   skip = sizeof(struct header);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    if (file) {
        info.initialDataSize = bytes - skip;
        info.pInitialData = file + skip;
        vk->cache_hash = hash_of(file + skip, bytes - skip);
    }
    const VkResult result = vk->fn.vkCreatePipelineCache(vk->device, &info, NULL, &vk->cache);
    free(file);
    return VK_MADE(vk, vk->cache, result, "making the pipeline cache");
}

static void save(struct vk_gpu *vk)
{
    size_t size = 0;
    if (vk->fn.vkGetPipelineCacheData(vk->device, vk->cache, &size, NULL) != VK_SUCCESS || !size)
        return;
    uint8_t       *data = os_alloc(size);
    const VkResult result = vk->fn.vkGetPipelineCacheData(vk->device, vk->cache, &size, data);
    struct header  header = {.bytes = size, .hash = hash_of(data, size)};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    if (result == VK_SUCCESS && header.hash != vk->cache_hash) {
        char *folder = os_strdup(vk->cache_path);
        *strrchr(folder, '/') = 0;
        struct file_writer *writer =
            file_make_folders(folder) ? file_writer_open(vk->cache_path) : NULL;
        if (writer) {
            file_writer_write(writer, &header, sizeof header);
            file_writer_write(writer, data, size);
            file_writer_commit(&writer);
        }
        free(folder);
    }
    free(data);
}

void vk_cache_finish(struct vk_gpu *vk)
{
    if (vk->cache && vk->cache_path && !vk->base.lost)
        save(vk);
    vk->fn.vkDestroyPipelineCache(vk->device, vk->cache, NULL);
    free(vk->cache_path);
}
