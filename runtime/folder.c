// SPDX-License-Identifier: MIT
// Folders: see folder.h.
#include "runtime/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/os.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct folder_entry *)a)->name, ((const struct folder_entry *)b)->name);
}

static void append(struct folder *folder, const char *name, bool is_folder)
{
    const uint32_t n = folder->count;
    if ((n & (n - 1)) == 0) // full at each power of two
        folder->entry = os_grow(folder->entry, n * sizeof *folder->entry,
                                (n ? 2 * (size_t)n : 1) * sizeof *folder->entry);
    folder->entry[folder->count++] = (struct folder_entry){os_strdup(name), is_folder};
}

bool folder_list(const char *path, struct folder *out)
{
    *out = (struct folder){0};
    DIR *dir = opendir(path);
    if (!dir) {
        log_error("%s: cannot list the folder: %s", path, strerror(errno));
        return false;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        struct stat info, target;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        // an entry that has gone since is no error: others write in this folder too
        if (fstatat(dirfd(dir), name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISDIR(info.st_mode))
            append(out, name, true);
        else if (fstatat(dirfd(dir), name, &target, 0) == 0 && S_ISREG(target.st_mode))
            append(out, name, false);
    }
    closedir(dir);
    if (out->count) qsort(out->entry, out->count, sizeof *out->entry, by_name);
    return true;
}

void folder_free(struct folder *folder)
{
    for (uint32_t i = 0; i < folder->count; i++) free(folder->entry[i].name);
    free(folder->entry);
    *folder = (struct folder){0};
}

bool folder_has(const struct folder *folder, const char *name)
{
    const struct folder_entry key = {(char *)name, false};
    return folder->count
        && bsearch(&key, folder->entry, folder->count, sizeof key, by_name) != NULL;
}

bool folder_is(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool folder_can_write(const char *path)
{
    char *part = os_strdup(path), *slash;
    while (access(part, F_OK) != 0 && errno == ENOENT) {
        slash = strrchr(part, '/');
        if (!slash || slash == part) break;
        *slash = 0;
    }
    // what is left: a folder that is there, or a first name, to be made here or in the root
    const bool is_there = access(part, F_OK) == 0;
    const char *folder = is_there ? part : part[0] == '/' ? "/" : ".";
    const bool other = !is_there && strchr(part + 1, '/'); // a file stands in the way, for one
    const bool can = !other && folder_is(folder) && access(folder, W_OK | X_OK) == 0;
    free(part);
    return can;
}
