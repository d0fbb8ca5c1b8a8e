// SPDX-License-Identifier: MIT
// Which way of reading is fastest on a real file: each way reads at places of its own all over the
// file, in turns, because a disk's rate moves with what others do.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"
#include "runtime/stream.h"

enum { ROUNDS = 2, ROUND_MS = 16, DEPTH = 32, MEASURE_LEAST = 8 << 20, MEMORY_MOST = 64 << 20 };

static const struct {
    const char         *word, *name;
    enum stream_backend backend;
    bool                direct;
} ways[STREAM_WAYS] = {
    [STREAM_URING_DIRECT] = {"uring", "io_uring, direct", STREAM_URING, true},
    [STREAM_THREADS_DIRECT] = {"threads", "threads, direct", STREAM_THREADS, true},
    [STREAM_THREADS_CACHED] = {"cache", "page cache", STREAM_THREADS, false},
};

struct measure {
    const char    *path;
    uint64_t       bytes;                // of the file
    bool           folder;
    size_t         request;
    uint32_t       depth;
    uint8_t       *memory;               // [depth][request]
    int            fd[2];                // cached, direct; -1
    struct stream *stream[STREAM_WAYS];  // NULL: cannot
    uint64_t       moved[STREAM_WAYS];
    double         seconds[STREAM_WAYS];
    uint64_t       place;                // the next one
    uint64_t       all, room;            // read again and again; in the page cache
};

static bool measure_open(struct measure *m, const char *path)
{
    struct stat info;
    const bool found = stat(path, &info) == 0;
    if (!found || (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))) {
        log_error("%s: cannot be streamed from: %s", path,
                  found ? "it is no file" : os_file_reason(errno));
        return false;
    }
    m->path = path;
    m->folder = S_ISDIR(info.st_mode);
    m->bytes = (uint64_t)info.st_size;
    const int flags = (m->folder ? O_TMPFILE | O_RDWR : O_RDONLY) | O_CLOEXEC;
    m->fd[0] = open(path, flags, 0600);
    m->fd[1] = open(path, flags | O_DIRECT, 0600); // some file systems cannot
    if (m->fd[0] >= 0 || m->folder)
        return true;
    log_error("%s: cannot open: %s", path, os_file_reason(errno));
    return false;
}

// Streams of the ways that this machine and file system have.
static bool measure_streams(struct measure *m, int only)
{
    for (int way = 0; way < STREAM_WAYS; way++) {
        if ((only >= 0 && way != only) || (ways[way].direct && m->path && m->fd[1] < 0))
            continue;
        m->stream[way] =
            stream_create(&(struct stream_params){.backend = ways[way].backend, .depth = m->depth});
        if (!m->stream[way])
            return false;
        if (m->stream[way]->params.backend != ways[way].backend)
            stream_destroy(&m->stream[way]);
    }
    return true;
}

// Places jump by a fraction of the file that comes near to each other late (the golden section).
static uint64_t place_next(struct measure *m)
{
    const uint64_t places = (m->bytes / m->request);
    const double   at = 0.6180339887498949 * (double)m->place++;
    return (uint64_t)((at - (double)(uint64_t)at) * (double)places) * m->request;
}

static bool ask(struct measure *m, int way, uint64_t slot)
{
    return stream_submit(m->stream[way],
                         &(struct stream_request){.fd = m->fd[ways[way].direct],
                                                  .offset = place_next(m),
                                                  .bytes = m->request,
                                                  .memory = m->memory + slot * m->request,
                                                  .user = slot}) != 0;
}

static bool measure_round(struct measure *m, int way)
{
    const double       began = os_seconds();
    struct stream_done done;
    bool               ok = true;
    for (uint32_t slot = 0; slot < m->depth && ok; slot++)
        ok = ask(m, way, slot);
    while (stream_next(m->stream[way], &done)) {
        ok = ok && done.ok;
        m->moved[way] += m->request;
        if (ok && os_seconds() - began < 1e-3 * ROUND_MS)
            ok = ask(m, way, done.user);
    }
    m->seconds[way] += os_seconds() - began;
    return ok;
}

static bool measure_all(struct measure *m)
{
    bool ok = true;
    m->memory = os_pages(m->depth * m->request);
    for (int round = 0; round < ROUNDS && ok; round++)
        for (int way = 0; way < STREAM_WAYS && ok; way++)
            ok = !m->stream[way] || measure_round(m, way);
    os_pages_free(m->memory, m->depth * m->request);
    return ok;
}

// ---- the choice

static void tell(const struct measure *m, struct stream_choice *out)
{
    char  *text = out->text;
    size_t room = sizeof out->text;
    text[0] = 0;
    for (int turn = 0; turn <= STREAM_WAYS; turn++) { // what was taken comes first
        const int    way = turn ? turn - 1 : (int)out->way;
        const size_t used = strlen(text);
        if (turn && (way == (int)out->way || out->gbps[way] <= 0))
            continue;
        if (out->gbps[way] > 0)
            snprintf(text + used, room - used, "%s%s %.2f GB/s", turn ? "; " : "", ways[way].name,
                     out->gbps[way]);
        else
            snprintf(text + used, room - used, "%s, not measured", ways[way].name);
    }
    if (out->gbps[out->way] > 0)
        snprintf(text + strlen(text), room - strlen(text), " (%u requests of %zu KiB at once)",
                 m->depth, m->request / 1024);
}

static void take_cache(const struct measure *m, struct stream_choice *out)
{
    out->way = STREAM_THREADS_CACHED;
    out->backend = ways[out->way].backend;
    snprintf(out->text, sizeof out->text, "%s: all of it, %.1f MiB, fits into the %.0f MiB free",
             ways[out->way].name, (double)m->all / 1048576, (double)m->room / 1048576);
}

// The first way there is; a later one where it is a tenth faster.
static bool choose(const struct measure *m, struct stream_choice *out)
{
    int best = -1;
    for (int way = 0; way < STREAM_WAYS; way++) {
        if (m->seconds[way] > 0)
            out->gbps[way] = 1e-9 * (double)m->moved[way] / m->seconds[way];
        if (m->stream[way] && (best < 0 || out->gbps[way] > 1.1 * out->gbps[best]))
            best = way;
    }
    if (best < 0)
        return false;
    out->way = (enum stream_way)best;
    out->backend = ways[best].backend;
    out->direct = ways[best].direct;
    tell(m, out);
    return true;
}

static bool way_named(const char *wanted, int *only)
{
    *only = -1;
    if (!wanted || strcmp(wanted, "auto") == 0)
        return true;
    for (int way = 0; way < STREAM_WAYS; way++)
        if (strcmp(wanted, ways[way].word) == 0)
            *only = way;
    if (*only < 0)
        log_error("stream: \"%s\" is not one of auto, uring, threads, cache", wanted);
    return *only >= 0;
}

bool stream_choose(const char *path, size_t bytes, uint64_t all, const char *wanted,
                   struct stream_choice *out)
{
    struct measure m = {.fd = {-1, -1}, .request = bytes ? bytes : STREAM_PART_BYTES};
    int            only;
    *out = (struct stream_choice){0};
    if (!way_named(wanted, &only) || (path && !measure_open(&m, path)))
        return false;
    m.request = (m.request + OS_FILE_ALIGNMENT - 1) / OS_FILE_ALIGNMENT * OS_FILE_ALIGNMENT;
    m.depth = m.request < MEMORY_MOST / DEPTH ? DEPTH : (uint32_t)(MEMORY_MOST / m.request);
    m.depth = m.depth < 2 ? 2 : m.depth;
    m.all = all;
    m.room = all ? os_memory_available() : 0;
    const bool fits = only < 0 && all && all <= m.room / 2;
    bool ok = fits || measure_streams(&m, only);
    const bool large = path && !m.folder && m.bytes >= MEASURE_LEAST && m.bytes >= m.request;
    if (ok && !fits && only < 0 && large) ok = measure_all(&m);
    if (ok && fits) take_cache(&m, out);
    else if (ok && !choose(&m, out)) {
        log_error("stream: \"%s\" cannot be had %s%s; auto takes what can", wanted,
                  path ? "for " : "here", path ? path : "");
        ok = false;
    }
    for (int way = 0; way < STREAM_WAYS; way++)
        stream_destroy(&m.stream[way]);
    for (int i = 0; i < 2; i++)
        if (m.fd[i] >= 0)
            close(m.fd[i]);
    return ok;
}
