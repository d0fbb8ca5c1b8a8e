// SPDX-License-Identifier: MIT
// What lies in a folder, in an order that no file system and no locale decides.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct folder_entry {
    char *name;
    bool  is_folder; // else a regular file (or a link to one)
};

struct folder {
    struct folder_entry *entry; // sorted by the bytes of the name
    uint32_t             count;
};

// Regular files and folders; links to files are followed, links to folders are left out (they can
// lead in circles), so are sockets, pipes and devices. False after one line.
bool folder_list(const char *path, struct folder *out);
void folder_free(struct folder *folder);
bool folder_has(const struct folder *folder, const char *name);
// True where the path is a folder (through links).
bool folder_is(const char *path);
// True where files can be made in the folder, or it can be made. Silent.
bool folder_can_write(const char *path);
