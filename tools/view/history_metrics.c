// SPDX-License-Identifier: MIT
// metrics.jsonl -> columns over steps. A line is scanned once, numbers go to their column, lists of
// loads are jumped over: a long run's file is hundreds of megabytes of them. See src/metrics.h.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/os.h"
#include "tools/view/history_own.h"

enum { CHUNK = 1 << 20, NAME = 64, DEPTH = 8, SERIES = 4096, LAYERS = 4096 };

// ---- columns

static void grow_rows(struct history *h, uint32_t rows)
{
    const uint32_t old = h->own->row_room;
    HISTORY_GROW(h->row_step, h->own->row_room, rows);
    if (h->own->row_room == old) return;
    for (uint32_t i = 0; i < h->series_count; i++)
        h->series[i].value = os_grow(h->series[i].value, old * sizeof(float),
                                     h->own->row_room * sizeof(float));
}

static bool begin_row(struct history *h, uint32_t step)
{
    if (h->rows && h->row_step[h->rows - 1] == step) return true;
    if (h->rows && h->row_step[h->rows - 1] > step) return false;
    grow_rows(h, h->rows + 1);
    h->row_step[h->rows++] = step;
    for (uint32_t i = 0; i < h->series_count; i++) h->series[i].value[h->rows - 1] = NAN;
    return true;
}

static struct history_series *add_series(struct history *h, const char *name, int layer)
{
    if (h->series_count == SERIES) return NULL;
    HISTORY_GROW(h->series, h->own->series_room, h->series_count + 1);
    struct history_series *s = &h->series[h->series_count++];
    *s = (struct history_series){.name = os_strdup(name), .layer = layer};
    s->value = os_alloc(h->own->row_room * sizeof *s->value);
    for (uint32_t r = 0; r < h->rows; r++) s->value[r] = NAN;
    return s;
}

// Lines have their keys in one order, so the next series is most often the one behind the last.
void history_metrics_put(struct history *h, uint32_t row, const char *name, int layer,
                         double value)
{
    for (uint32_t tried = 0; tried < h->series_count; tried++) {
        const uint32_t at = (h->own->series_hint + tried) % h->series_count;
        struct history_series *s = &h->series[at];
        if (s->layer != layer || strcmp(s->name, name) != 0) continue;
        s->value[row] = (float)value;
        h->own->series_hint = at + 1;
        return;
    }
    struct history_series *s = add_series(h, name, layer);
    if (s) s->value[row] = (float)value;
}

static void put(struct history *h, const char *name, int layer, double value)
{
    history_metrics_put(h, h->rows - 1, name, layer, value);
}

// ---- a line

struct scan {
    struct history *history;
    const char     *at, *end;
    double          expert;  // of the layer
    bool            alarm;
};

static bool take(struct scan *s, char wanted)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r')) s->at++;
    if (s->at == s->end || *s->at != wanted) return false;
    s->at++;
    return true;
}

// A string as it stands between its quotes; what is too long for `out` is cut.
static bool scan_string(struct scan *s, char *out, size_t room)
{
    size_t count = 0;
    if (!take(s, '"')) return false;
    for (; s->at < s->end && *s->at != '"'; s->at++) {
        if (*s->at == '\\' && ++s->at == s->end) return false;
        if (count + 1 < room) out[count++] = *s->at;
    }
    if (room) out[count] = 0;
    return take(s, '"');
}

// An array with all that is in it.
static bool skip_array(struct scan *s)
{
    uint32_t depth = 1;
    while (depth && s->at < s->end) {
        const char c = *s->at;
        if (c >= '+' && c <= '9') { // most of it is numbers
            s->at++;
            continue;
        }
        if (c == '"') {
            if (!scan_string(s, NULL, 0)) return false;
            continue;
        }
        depth += c == '[';
        depth -= c == ']';
        s->at++;
    }
    return depth == 0;
}

static bool scan_object(struct scan *s, const char *prefix, int layer, uint32_t depth);

// The list of layers, each an object that begins with its number.
static bool scan_layers(struct scan *s)
{
    if (take(s, ']')) return true;
    do {
        const char *start = s->at;
        char key[NAME], *stop;
        if (!take(s, '{') || !scan_string(s, key, sizeof key) || strcmp(key, "layer") != 0 ||
            !take(s, ':'))
            return false;
        const unsigned long number = strtoul(s->at, &stop, 10);
        if (number >= LAYERS || stop == s->at) return false;
        s->at = start;
        s->alarm = false, s->expert = 0;
        if (!take(s, '{') || !scan_object(s, "", (int)number, 1)) return false;
        if (!s->alarm) continue;
        struct history *h = s->history;
        HISTORY_GROW(h->alarm, h->own->alarm_room, h->alarms + 1);
        h->alarm[h->alarms++] = (struct history_alarm){h->row_step[h->rows - 1],
                                                       (uint32_t)number, (uint32_t)s->expert};
    } while (take(s, ','));
    return take(s, ']');
}

static bool scan_word(struct scan *s, const char *word)
{
    const size_t length = strlen(word);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0) return false;
    s->at += length;
    return true;
}

static bool scan_number(struct scan *s, const char *name, int layer)
{
    char text[40], *stop;
    size_t count = 0;
    while (s->at + count < s->end && count + 1 < sizeof text &&
           strchr("+-.0123456789eE", s->at[count]) && s->at[count])
        text[count] = s->at[count], count++;
    text[count] = 0;
    const double value = strtod(text, &stop);
    if (!count || *stop) return false;
    s->at += count;
    if (strcmp(name, "max_expert") == 0 && value >= 0 && value < 4e9) s->expert = value;
    if (strcmp(name, "step") != 0 && strcmp(name, "layer") != 0)
        put(s->history, name, layer, value);
    return true;
}

static bool scan_value(struct scan *s, const char *name, int layer, uint32_t depth)
{
    if (take(s, '{')) {
        char prefix[NAME + 1];
        snprintf(prefix, sizeof prefix, "%.*s.", NAME - 1, name);
        return depth < DEPTH && scan_object(s, prefix, layer, depth + 1);
    }
    if (take(s, '['))
        return strcmp(name, "layers") == 0 && layer < 0 && depth == 0 ? scan_layers(s)
                                                                      : skip_array(s);
    while (s->at < s->end && *s->at == ' ') s->at++;
    if (s->at < s->end && *s->at == '"') return scan_string(s, NULL, 0);
    if (scan_word(s, "null") || scan_word(s, "false")) return true;
    if (!scan_word(s, "true")) return scan_number(s, name, layer);
    if (strcmp(name, "alarm") == 0) s->alarm = true;
    put(s->history, name, layer, 1);
    return true;
}

// Behind its brace, to behind its end.
static bool scan_object(struct scan *s, const char *prefix, int layer, uint32_t depth)
{
    char key[NAME], name[2 * NAME + 2];
    if (take(s, '}')) return true;
    do {
        if (!scan_string(s, key, sizeof key) || !take(s, ':')) return false;
        snprintf(name, sizeof name, "%s%s", prefix, key);
        name[NAME - 1] = 0;
        if (!scan_value(s, name, layer, depth)) return false;
    } while (take(s, ','));
    return take(s, '}');
}

bool history_metrics_line(struct history *h, const char *line, size_t bytes)
{
    struct scan s = {h, line, line + bytes, 0, false};
    char key[NAME], *stop;
    if (!take(&s, '{') || !scan_string(&s, key, sizeof key) || strcmp(key, "step") != 0 ||
        !take(&s, ':'))
        return false;
    const double step = strtod(s.at, &stop);
    if (!(step >= 1 && step < 4e9) || stop > s.end || !begin_row(h, (uint32_t)step)) return false;
    s.at = line;
    h->own->series_hint = 0;
    // what a line says before it breaks was said
    return take(&s, '{') && scan_object(&s, "", -1, 0);
}

// ---- the file

void history_metrics_clear(struct history *h)
{
    for (uint32_t i = 0; i < h->series_count; i++)
        free(h->series[i].name), free(h->series[i].value);
    h->rows = h->series_count = h->alarms = 0;
    h->own->pending.count = 0;
    h->own->metrics.at = 0;
    h->own->placed = 0;
}

void history_metrics_free(struct history *h)
{
    history_metrics_clear(h);
    if (h->own->metrics.file) fclose(h->own->metrics.file);
    bytes_free(&h->own->pending);
    free(h->series), free(h->row_step), free(h->alarm);
}

// Opens it once it is there, and again where it is another file or was cut. True where what was
// read must go.
static bool reopen(struct history_file *f)
{
    struct stat info;
    if (stat(f->path, &info) != 0) return false;
    if (f->file && info.st_ino == f->inode && info.st_dev == f->device &&
        (uint64_t)info.st_size >= f->at)
        return false;
    const bool again = f->file != NULL;
    if (f->file) fclose(f->file);
    f->file = fopen(f->path, "rb");
    f->device = info.st_dev, f->inode = info.st_ino;
    return again;
}

// Whole lines of `pending`; what is behind the last stays.
static void take_lines(struct history *h)
{
    struct bytes *p = &h->own->pending;
    const char *at = (const char *)p->data, *end = at + p->count, *stop;
    for (; at < end && (stop = memchr(at, '\n', (size_t)(end - at))); at = stop + 1)
        history_metrics_line(h, at, (size_t)(stop - at));
    const size_t rest = (size_t)(end - at);
    memmove(p->data, at, rest);
    p->count = rest;
}

bool history_metrics_poll(struct history *h, double deadline)
{
    struct history_own *own = h->own;
    bool came = false;
    if (reopen(&own->metrics)) history_metrics_clear(h), came = true;
    own->metrics_end = !own->metrics.file;
    if (!own->metrics.file) return came;
    clearerr(own->metrics.file);
    char *chunk = os_alloc(CHUNK);
    do {
        size_t count = 0;
        if (fseeko(own->metrics.file, (off_t)own->metrics.at, SEEK_SET) == 0)
            count = fread(chunk, 1, CHUNK, own->metrics.file);
        own->metrics_end = count < CHUNK;
        own->metrics.at += count;
        bytes_append(&own->pending, chunk, count);
        if (count && memchr(chunk, '\n', count)) take_lines(h), came = true;
    } while (!own->metrics_end && (deadline <= 0 || os_seconds() < deadline));
    free(chunk);
    return came;
}
