// SPDX-License-Identifier: MIT
// Folders that one process owns while it writes in them: lock, sync, remove, second names of files.
// Each failure logs one line with the path and the reason.
#pragma once

#include <stdbool.h>

// Takes FOLDER/.lock for this process until folder_unlock or its end, however it ends. NULL after
// one line where another process holds it. File systems without locks are used unlocked, with a
// warning.
struct folder_lock;
struct folder_lock *folder_lock(const char *folder);
void                folder_unlock(struct folder_lock **lock);
// The same for a folder that this process made and wants no more: with the lock's file goes the
// folder, unless anything else is in it.
void                folder_give_up(struct folder_lock **lock, const char *folder);

bool folder_make(const char *path);   // one new folder; it must not exist
bool folder_sync(const char *path);   // its regular files, then the folder itself
bool folder_remove(const char *path); // with all in it, no links followed; true where there is none

// FOLDER/LINK becomes a second name of FOLDER/TARGET, replacing what was there in one step: a hard
// link, where that cannot be a symbolic link, where that cannot be either a copy.
bool folder_link(const char *folder, const char *target, const char *link);
bool file_is_same(const char *a, const char *b); // both exist and are one file, by any names
bool file_remove(const char *path);              // true where there was none
bool file_copy(const char *from, const char *to); // beside, then renamed
