// SPDX-License-Identifier: MIT
// Manifest and index of the store: text and bytes to struct and back. Reading trusts nothing: the
// checksums find damage, the checks behind them what was never right.
#include "runtime/store_internal.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/log.h"
#include "runtime/os.h"

static const char format_name[] = "vkmoe store", index_magic[] = "VKMOEIDX",
                  sum_line[] = "  \"xxh64\": \"";
#define MOST_EXACT 9007199254740991.0 // 2^53 - 1: cJSON's numbers are doubles

static bool refuse(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool refuse(const char *name, const char *format, ...)
{
    char    text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_error("%s: %s", name, text);
    return false;
}

bool store_part_offsets(const struct store_geometry *geometry, uint64_t out[STORE_PARTS + 1])
{
    uint64_t at = 0;
    for (uint32_t p = 0; p <= STORE_PARTS; p++) {
        const uint64_t bytes = p < geometry->part_count ? geometry->part_bytes[p] : 0;
        out[p] = at;
        if (p == STORE_PARTS) break;
        if (__builtin_add_overflow(at, bytes, &at) || at > INT64_MAX / 2) return false;
        at = (at + STORE_ALIGN - 1) / STORE_ALIGN * STORE_ALIGN;
    }
    return true;
}

uint64_t store_index_entry(const struct store_geometry *geometry)
{
    return 16 + 8ull * geometry->part_count;
}

// ---- printing

static void print_identity(FILE *out, const char *identity)
{
    const char *between = "";
    for (const char *line = identity; *line; between = ", ") {
        const char *end = strchrnul(line, '\n');
        char *text = strndup(line, (size_t)(end - line));
        cJSON *string = cJSON_CreateString(text);
        char *quoted = cJSON_PrintUnformatted(string);
        fprintf(out, "%s%s", between, quoted);
        cJSON_free(quoted), cJSON_Delete(string), free(text);
        line = end + (*end != 0);
    }
}

char *store_manifest_print(const struct store_manifest *m)
{
    const struct store_geometry *g = &m->geometry;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fprintf(out, "{\n  \"format\": \"%s\",\n  \"version\": %d,\n  \"identity\": [", format_name,
            STORE_VERSION);
    print_identity(out, m->identity);
    fprintf(out, "],\n  \"keys\": %" PRIu64 ",\n  \"parts\": [", g->keys);
    for (uint32_t p = 0; p < g->part_count; p++)
        fprintf(out, "%s{\"name\": \"%s\", \"bytes\": %" PRIu64 "}", p ? ", " : "",
                g->part_name[p], g->part_bytes[p]);
    fprintf(out, "],\n  \"record_bytes\": %" PRIu64 ",\n  \"segment_records\": %" PRIu32 ",\n"
            "  \"segments\": [", g->record_bytes, g->segment_records);
    for (uint32_t s = 0; s < m->segment_count; s++)
        fprintf(out, "%s\n    {\"file\": \"segment-%08" PRIu32 ".bin\", \"records\": %" PRIu32 "}",
                s ? "," : "", m->segment[s].number, m->segment[s].records);
    fprintf(out, "%s],\n  \"index\": {\"file\": \"%s\", \"records\": %" PRIu64 ", \"bytes\": %"
            PRIu64 ", \"xxh64\": \"%016" PRIx64 "\"},\n", m->segment_count ? "\n  " : "",
            m->index_file, m->index_records, m->index_bytes, m->index_sum);
    fflush(out);
    fprintf(out, "%s%016" PRIx64 "\"\n}\n", sum_line, checksum_xxh64(text, bytes));
    fclose(out);
    return text;
}

// ---- reading of the text

// Texts of the file go into messages, so they may not hold what moves a terminal's cursor.
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

static bool take_number(const char *name, const cJSON *object, const char *key, uint64_t least,
                        uint64_t most, uint64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= MOST_EXACT) || value != floor(value))
        return refuse(name, "\"%s\" is not a whole number", key);
    *out = (uint64_t)value;
    if (*out >= least && *out <= most) return true;
    return refuse(name, "\"%s\" is %" PRIu64 ", wanted %" PRIu64 " to %" PRIu64, key, *out, least,
                  most);
}

static const char *take_text(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text && is_plain(text) ? text : NULL;
}

static bool take_sum(const char *text, uint64_t *out)
{
    char *end;
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) return false;
    *out = strtoull(text, &end, 16);
    return true;
}

// The last line holds the checksum of all lines before it.
static bool check_sum(const char *name, const char *text, uint64_t bytes)
{
    const size_t length = sizeof sum_line - 1, tail = length + 16 + 4; // "\n}\n
    char digits[17] = "";
    uint64_t wanted = 0;
    const char *line = bytes >= tail ? text + bytes - tail : NULL;
    if (line) memcpy(digits, line + length, 16);
    if (!line || memcmp(line, sum_line, length) != 0 || memcmp(line + length + 16, "\"\n}\n", 4) ||
        !take_sum(digits, &wanted))
        return refuse(name, "does not end with the line of its checksum; was it cut short?");
    const uint64_t found = checksum_xxh64(text, (size_t)(line - text));
    if (found == wanted) return true;
    return refuse(name, "its lines have the checksum %016" PRIx64 ", its last line says %016" PRIx64
                  "; it was damaged", found, wanted);
}

static bool read_identity(const char *name, const cJSON *array, struct store_manifest *out)
{
    if (!cJSON_IsArray(array)) return refuse(name, "\"identity\" is not an array");
    size_t bytes = 0;
    FILE *text = open_memstream(&out->identity, &bytes);
    bool ok = true;
    for (const cJSON *line = array->child; line && ok; line = line->next) {
        ok = cJSON_IsString(line) && is_plain(line->valuestring);
        if (ok) fprintf(text, "%s\n", line->valuestring);
    }
    fclose(text);
    return ok || refuse(name, "\"identity\" holds what is not a line of text");
}

static bool read_parts(const char *name, const cJSON *array, struct store_geometry *g)
{
    const int count = cJSON_IsArray(array) ? cJSON_GetArraySize(array) : 0;
    uint64_t offset[STORE_PARTS + 1];
    if (count < 1 || count > STORE_PARTS)
        return refuse(name, "\"parts\": found %d, wanted 1 to %d", count, STORE_PARTS);
    for (const cJSON *part = array->child; part; part = part->next) {
        const char *text = take_text(part, "name");
        if (!text || !*text || strlen(text) >= sizeof *g->part_name)
            return refuse(name, "\"parts\": a part without a good name");
        snprintf(g->part_name[g->part_count], sizeof *g->part_name, "%s", text);
        if (!take_number(name, part, "bytes", 1, (uint64_t)1 << 48,
                         &g->part_bytes[g->part_count++]))
            return false;
    }
    store_part_offsets(g, offset);
    if (offset[STORE_PARTS] == g->record_bytes) return true;
    return refuse(name, "\"record_bytes\" is %" PRIu64 ", the parts come to %" PRIu64,
                  g->record_bytes, offset[STORE_PARTS]);
}

static bool read_segment(const char *name, const cJSON *item, struct store_manifest *out)
{
    struct store_manifest_segment *segment = &out->segment[out->segment_count];
    const char *file = take_text(item, "file");
    char again[32];
    uint64_t records;
    segment->number = file ? (uint32_t)strtoul(file + strcspn(file, "0123456789"), NULL, 10) : 0;
    snprintf(again, sizeof again, "segment-%08" PRIu32 ".bin", segment->number);
    if (!file || segment->number == 0 || strcmp(file, again) != 0)
        return refuse(name, "\"segments\": \"%.60s\" is no name of a segment",
                      file ? file : "(none)");
    if (out->segment_count && segment[-1].number >= segment->number)
        return refuse(name, "\"segments\": %s %s", file,
                      segment[-1].number == segment->number ? "stands there twice: overlapping"
                                                            : "is out of order");
    if (!take_number(file, item, "records", 0, UINT32_MAX, &records)) return false;
    if (records < 1 || records > out->geometry.segment_records)
        return refuse(name, "%s: oversized: found %" PRIu64 " records, wanted 1 to %" PRIu32, file,
                      records, out->geometry.segment_records);
    segment->records = (uint32_t)records;
    out->segment_count++;
    return true;
}

static bool read_segments(const char *name, const cJSON *array, struct store_manifest *out)
{
    const int count = cJSON_IsArray(array) ? cJSON_GetArraySize(array) : -1;
    if (count < 0 || count > STORE_MOST_SEGMENTS)
        return refuse(name, "\"segments\" is not an array of at most %d", STORE_MOST_SEGMENTS);
    out->segment = os_alloc(((size_t)count + 1) * sizeof *out->segment);
    for (const cJSON *item = array->child; item; item = item->next)
        if (!read_segment(name, item, out)) return false;
    return true;
}

static bool read_index_line(const char *name, const cJSON *item, struct store_manifest *out)
{
    const char *file = take_text(item, "file");
    const uint64_t entry = store_index_entry(&out->geometry);
    if (!file || !*file || strchr(file, '/') || file[0] == '.' ||
        strlen(file) >= sizeof out->index_file)
        return refuse(name, "\"index\": its file is not a plain file name");
    snprintf(out->index_file, sizeof out->index_file, "%s", file);
    if (!take_number(name, item, "records", 0, out->geometry.keys, &out->index_records) ||
        !take_number(name, item, "bytes", 0, UINT64_MAX, &out->index_bytes))
        return false;
    if (out->index_bytes != STORE_INDEX_HEADER + out->index_records * entry)
        return refuse(name, "\"index\": %" PRIu64 " bytes, %" PRIu64 " records make %" PRIu64,
                      out->index_bytes, out->index_records,
                      STORE_INDEX_HEADER + out->index_records * entry);
    return take_sum(take_text(item, "xxh64"), &out->index_sum) ||
           refuse(name, "\"index\": its \"xxh64\" is not 16 hexadecimal digits");
}

static bool read_manifest(const char *name, const cJSON *json, struct store_manifest *out)
{
    struct store_geometry *g = &out->geometry;
    const char *format = take_text(json, "format");
    uint64_t version, segment_records;
    if (!format || strcmp(format, format_name) != 0)
        return refuse(name, "\"format\" is not \"%s\"", format_name);
    if (!take_number(name, json, "version", 1, UINT32_MAX, &version)) return false;
    if (version != STORE_VERSION)
        return refuse(name, "version %" PRIu64 ", this program reads version %d", version,
                      STORE_VERSION);
    if (!read_identity(name, cJSON_GetObjectItemCaseSensitive(json, "identity"), out) ||
        !take_number(name, json, "keys", 1, STORE_MOST_KEYS, &g->keys) ||
        !take_number(name, json, "record_bytes", STORE_ALIGN, (uint64_t)1 << 50,
                     &g->record_bytes) ||
        !read_parts(name, cJSON_GetObjectItemCaseSensitive(json, "parts"), g) ||
        !take_number(name, json, "segment_records", 1, STORE_MOST_SEGMENT_RECORDS,
                     &segment_records))
        return false;
    g->segment_records = (uint32_t)segment_records;
    return read_segments(name, cJSON_GetObjectItemCaseSensitive(json, "segments"), out) &&
           read_index_line(name, cJSON_GetObjectItemCaseSensitive(json, "index"), out);
}

bool store_manifest_parse(const char *name, const void *text, uint64_t bytes,
                          struct store_manifest *out)
{
    *out = (struct store_manifest){0};
    if (!check_sum(name, text, bytes)) return false;
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const bool ok = cJSON_IsObject(json) ? read_manifest(name, json, out)
                                         : refuse(name, "not valid JSON");
    cJSON_Delete(json);
    if (!ok) store_manifest_free(out);
    return ok;
}

void store_manifest_free(struct store_manifest *manifest)
{
    free(manifest->identity);
    free(manifest->segment);
    *manifest = (struct store_manifest){0};
}

// ---- the index

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value); // little-endian: checksum.c wants such a machine
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static int by_number(const void *a, const void *b)
{
    const struct store_manifest_segment *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int by_place(const void *a, const void *b)
{
    const struct store_named *x = a, *y = b;
    if (x->segment != y->segment) return x->segment < y->segment ? -1 : 1;
    return x->record < y->record ? -1 : x->record > y->record;
}

// No place is named twice.
static bool check_overlap(const char *name, const struct store_named *named, uint64_t count)
{
    if (count < 2) return true;
    struct store_named *sorted = os_alloc(count * sizeof *sorted);
    memcpy(sorted, named, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_place);
    bool ok = true;
    for (uint64_t i = 1; i < count && ok; i++)
        if (by_place(&sorted[i - 1], &sorted[i]) == 0)
            ok = refuse(name, "keys %" PRIu32 " and %" PRIu32 " overlap: both at record %" PRIu32
                        " of segment %" PRIu32, sorted[i - 1].key, sorted[i].key,
                        sorted[i].record, sorted[i].segment);
    free(sorted);
    return ok;
}

static bool read_named(const char *name, const struct store_manifest *m, const uint8_t *at,
                       struct store_named *out, const struct store_named *before)
{
    const struct store_geometry *g = &m->geometry;
    *out = (struct store_named){get32(at), get32(at + 4), get32(at + 8), get32(at + 12), {0}};
    for (uint32_t p = 0; p < g->part_count; p++) out->sum[p] = get64(at + 16 + 8 * p);
    if (out->key >= g->keys || (before && before->key >= out->key))
        return refuse(name, "key %" PRIu32 " stands behind key %" PRIu32 " of %" PRIu64, out->key,
                      before ? before->key : 0, g->keys);
    if (out->parts == 0 || out->parts >> g->part_count)
        return refuse(name, "key %" PRIu32 ": parts %#" PRIx32 ", the record has %" PRIu32,
                      out->key, out->parts, g->part_count);
    const struct store_manifest_segment key = {out->segment, 0},
                                       *segment = m->segment_count
        ? bsearch(&key, m->segment, m->segment_count, sizeof key, by_number) : NULL;
    if (!segment)
        return refuse(name, "key %" PRIu32 ": segment %" PRIu32 " is not in the manifest",
                      out->key, out->segment);
    if (out->record < segment->records) return true;
    return refuse(name, "key %" PRIu32 ": record %" PRIu32 " of segment %" PRIu32
                  ", which has %" PRIu32, out->key, out->record, out->segment, segment->records);
}

struct store_named *store_index_parse(const char *name, const struct store_manifest *m,
                                      const void *data, uint64_t bytes)
{
    const uint8_t *at = data;
    const uint64_t entry = store_index_entry(&m->geometry);
    if (bytes != m->index_bytes) {
        refuse(name, "%" PRIu64 " bytes, the manifest says %" PRIu64 "; was it cut short?", bytes,
               m->index_bytes);
        return NULL;
    }
    const uint64_t sum = checksum_xxh64(data, bytes);
    if (sum != m->index_sum) {
        refuse(name, "its checksum is %016" PRIx64 ", the manifest says %016" PRIx64
               "; it was damaged", sum, m->index_sum);
        return NULL;
    }
    if (memcmp(at, index_magic, 8) != 0 || get32(at + 8) != STORE_VERSION ||
        get32(at + 12) != m->geometry.part_count || get64(at + 16) != m->index_records) {
        refuse(name, "not the index that the manifest describes");
        return NULL;
    }
    struct store_named *named = os_alloc((m->index_records + 1) * sizeof *named);
    bool ok = true;
    for (uint64_t i = 0; i < m->index_records && ok; i++)
        ok = read_named(name, m, at + STORE_INDEX_HEADER + i * entry, &named[i],
                        i ? &named[i - 1] : NULL);
    if (ok && check_overlap(name, named, m->index_records)) return named;
    free(named);
    return NULL;
}

void *store_index_print(const struct store_geometry *geometry, const struct store_named *named,
                        uint64_t count, uint64_t *bytes)
{
    const uint64_t entry = store_index_entry(geometry);
    *bytes = STORE_INDEX_HEADER + count * entry;
    uint8_t *const out = os_alloc(*bytes);
    const uint32_t head[] = {STORE_VERSION, geometry->part_count};
    memcpy(out, index_magic, 8);
    memcpy(out + 8, head, sizeof head);
    memcpy(out + 16, &count, sizeof count);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *at = out + STORE_INDEX_HEADER + i * entry;
        const struct store_named *n = &named[i];
        const uint32_t word[] = {n->key, n->segment, n->record, n->parts};
        memcpy(at, word, sizeof word);
        memcpy(at + sizeof word, n->sum, 8ull * geometry->part_count);
    }
    return out;
}
