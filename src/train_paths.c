// SPDX-License-Identifier: MIT
// The data of a run, by name: see train_paths.h.
#include "src/train_paths.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"

enum { FILE_MOST = 16 << 20 };

char *train_paths_print(const char *const *path, int count)
{
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "data");
    for (int i = 0; i < count; i++) cJSON_AddItemToArray(list, cJSON_CreateString(path[i]));
    char *printed = cJSON_PrintUnformatted(root), *own = os_alloc(strlen(printed) + 2);
    snprintf(own, strlen(printed) + 2, "%s\n", printed);
    cJSON_free(printed);
    cJSON_Delete(root);
    return own;
}

static bool parse(const cJSON *list, struct train_paths *out)
{
    const int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    const cJSON *item;
    out->path = os_alloc((size_t)(count + 1) * sizeof *out->path);
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item)) return false;
        out->path[out->count++] = os_strdup(item->valuestring);
    }
    return count > 0;
}

bool train_paths_read(const char *dir, struct train_paths *out)
{
    char path[4200];
    void *text;
    uint64_t bytes;
    *out = (struct train_paths){0};
    snprintf(path, sizeof path, "%s/data.json", dir);
    if (!file_exists(path)) return true;
    if (!file_read(path, FILE_MOST, &text, &bytes)) return false;
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    const bool ok = parse(cJSON_GetObjectItemCaseSensitive(root, "data"), out);
    if (!ok) log_error("%s: wanted {\"data\": [\"PATH\", ...]}; give --data instead", path);
    cJSON_Delete(root);
    free(text);
    return ok;
}

void train_paths_free(struct train_paths *paths)
{
    for (int i = 0; i < paths->count; i++) free((void *)paths->path[i]);
    free(paths->path);
    *paths = (struct train_paths){0};
}
