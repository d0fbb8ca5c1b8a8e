// SPDX-License-Identifier: MIT
// What streaming can do on this machine, as ratios to what the machine can do at all: reads through
// the stream against a plain loop of large sequential O_DIRECT reads, uploads against memcpy, and
// how much of I/O and compute runs side by side. Each ratio is of neighbours in time, many times in
// turns: the disk and the cores are shared, and a rate from a minute ago is none.
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/gpu.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/peaks.h"
#include "runtime/os_file.h"
#include "runtime/stream.h"
#include "src/base.h"
#include "tools/bench.h"
#include "tools/bench_stream.h"

enum {
    ROUNDS = 7, TURNS = 21, MIB = 1 << 20, // TURNS: where a turn is short
    FILE_MIB = 512,        // of a file of our own
    READ_MIB = 128,        // a round
    LOOP_BYTES = 4 * MIB,  // one read of the plain loop
    RECORD_BYTES = MIB, DEPTH = STREAM_DEPTH,
    UPLOAD_MIB = 128, TURN_BYTES = UPLOAD_MIB / 4 * MIB, WAVES = 16, WAVE_MS = 10, ROWS_MOST = 16,
    RECORDS_MOST = READ_MIB * MIB / RECORD_BYTES, // a wave
};

struct ratio { double median, low, high; };

struct row {
    const char  *name, *of;
    double       gbps;    // median; 0: not a rate
    struct ratio ratio;
    uint32_t     turns;
    double       goal;    // 0: none
};

struct streaming {
    struct gpu          *gpu;
    char                 path[4096];
    bool                 own;         // the file is ours to remove
    uint64_t             bytes;       // of the file, whole records
    struct stream_choice choice;
    uint8_t             *memory;      // READ_MIB
    struct ratio         wait_ms;     // a wave that compute did not hide
    double               wave_ms;     // its compute
    struct row           row[ROWS_MOST];
    uint32_t             rows;
};

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct ratio summary(double *value, uint32_t count)
{
    qsort(value, count, sizeof *value, compare_doubles);
    return (struct ratio){value[count / 2], value[0], value[count - 1]};
}

// A row of so many pairs (at most TURNS): seconds of the thing and of what it is measured by, of
// the same bytes.
static void add_row(struct streaming *s, const char *name, const char *of, double bytes,
                    uint32_t count, const double *seconds, const double *base, double goal)
{
    double ratio[TURNS], gbps[TURNS];
    for (uint32_t i = 0; i < count; i++) {
        ratio[i] = base[i] / seconds[i];
        gbps[i] = 1e-9 * bytes / seconds[i];
    }
    s->row[s->rows++] = (struct row){name, of, bytes > 0 ? summary(gbps, count).median : 0,
                                     summary(ratio, count), count, goal};
}

// ---- the file

static bool file_make(struct streaming *s)
{
    snprintf(s->path, sizeof s->path, "vkmoe-bench-%ld.bin", (long)getpid());
    const int fd = open(s->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0;
    s->own = ok;
    for (uint64_t at = 0; ok && at < FILE_MIB; at += READ_MIB) { // not zeros, no two pages alike
        for (uint64_t i = 0; i < (uint64_t)READ_MIB * MIB / 8; i++)
            ((uint64_t *)s->memory)[i] = (i + at) * 0x9e3779b97f4a7c15u;
        ok = os_file_write_all(NULL, fd, s->memory, (size_t)READ_MIB * MIB, at * MIB, NULL);
    }
    ok = ok && fsync(fd) == 0;
    if (ok) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (!ok) log_error("%s: cannot write %d MiB: %s", s->path, FILE_MIB, os_file_reason(errno));
    if (fd >= 0) close(fd);
    s->bytes = (uint64_t)FILE_MIB * MIB;
    return ok;
}

static bool file_take(struct streaming *s, const char *file)
{
    snprintf(s->path, sizeof s->path, "%s", file);
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    const off_t bytes = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    s->bytes = bytes > 0 ? (uint64_t)bytes / RECORD_BYTES * RECORD_BYTES : 0;
    if (bytes < 0) log_error("%s: cannot read: %s", file, os_file_reason(errno));
    else if (s->bytes < (uint64_t)READ_MIB * MIB)
        log_error("%s: %llu bytes; at least %d MiB are wanted", file, (unsigned long long)bytes,
                  READ_MIB);
    if (fd >= 0) close(fd);
    return s->bytes >= (uint64_t)READ_MIB * MIB;
}

// ---- reads

// Seconds of the plain loop over READ_MIB from `from` on; negative: failed.
static double loop_read(struct streaming *s, int fd, uint64_t from)
{
    const double began = os_seconds();
    for (uint64_t at = 0; at < (uint64_t)READ_MIB * MIB; at += LOOP_BYTES)
        if (!os_file_read_all(NULL, fd, s->memory + at, LOOP_BYTES, from + at, NULL)) {
            log_error("%s: cannot read: %s", s->path, os_file_reason(errno));
            return -1;
        }
    return os_seconds() - began;
}

// The same bytes as records, in order or (stride > 1) jumping; negative: failed.
static double stream_read(struct stream *stream, int fd, uint8_t *memory, uint64_t from,
                          uint64_t stride)
{
    const uint64_t records = (uint64_t)READ_MIB * MIB / RECORD_BYTES;
    const double   began = os_seconds();
    for (uint64_t i = 0; i < records; i++) {
        const uint64_t at = i * stride % records * RECORD_BYTES;
        if (!stream_submit(stream, &(struct stream_request){.kind = STREAM_NEEDED,
                                                            .fd = fd,
                                                            .offset = from + at,
                                                            .bytes = RECORD_BYTES,
                                                            .memory = memory + at}))
            return -1;
    }
    return stream_wait_all(stream) ? os_seconds() - began : -1;
}

// Rounds of: the loop, then records in order (with a name), then records that jump.
static bool read_rounds(struct streaming *s, enum stream_backend backend, uint8_t *memory,
                        const char *in_order, const char *jumping)
{
    double loop[ROUNDS], records[ROUNDS], jumps[ROUNDS];
    const uint64_t places = (s->bytes - (uint64_t)READ_MIB * MIB) / RECORD_BYTES + 1;
    const int      fd = open(s->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    struct stream *stream = stream_create(&(struct stream_params){.backend = backend});
    bool ok = fd >= 0 && stream;
    for (int i = 0; ok && i < ROUNDS; i++) {
        const uint64_t from = (uint64_t)i * 37 * MIB / RECORD_BYTES % places * RECORD_BYTES;
        loop[i] = loop_read(s, fd, from);
        records[i] = in_order ? stream_read(stream, fd, memory, from, 1) : 1;
        jumps[i] = stream_read(stream, fd, memory, from, 47);
        ok = loop[i] > 0 && records[i] > 0 && jumps[i] > 0;
    }
    if (fd < 0) log_error("%s: cannot open with O_DIRECT: %s", s->path, os_file_reason(errno));
    stream_destroy(&stream);
    if (fd >= 0) close(fd);
    if (!ok) return false;
    const double bytes = (double)READ_MIB * MIB;
    if (!s->rows)
        add_row(s, "plain loop, O_DIRECT, 4 MiB a read", "itself", bytes, ROUNDS, loop, loop, 0);
    if (in_order)
        add_row(s, in_order, "plain loop", bytes, ROUNDS, records, loop, 0.8);
    add_row(s, jumping, "plain loop", bytes, ROUNDS, jumps, loop, 0.8);
    return true;
}

// Where the device's memory is the host's, straight into that: no copy.
static bool reads_straight(struct streaming *s)
{
    struct gpu_buffer *slots = gpu_buffer_create(
        s->gpu, &(struct gpu_buffer_params){
                    .name = "bench slots", .bytes = (uint64_t)READ_MIB * MIB, .pages = true});
    bool ok = slots != NULL;
    if (ok && slots->direct) {
        memset(slots->data, 1, (size_t)READ_MIB * MIB);
        ok = read_rounds(s, s->choice.backend, slots->data, NULL,
                         "the faster, into the device's memory");
    }
    gpu_buffer_destroy(s->gpu, &slots);
    return ok;
}

static bool reads(struct streaming *s)
{
    bool ok = read_rounds(s, STREAM_THREADS, s->memory, "threads, records of 1 MiB in order",
                          "threads, records of 1 MiB, jumping");
    if (ok && s->choice.gbps[STREAM_URING_DIRECT] > 0)
        ok = read_rounds(s, STREAM_URING, s->memory, "io_uring, records of 1 MiB in order",
                         "io_uring, records of 1 MiB, jumping");
    return ok && reads_straight(s);
}

// ---- uploads

// Record by record, so that neither side gains by a larger piece, and each in a part of the buffers
// that no cache holds any more: the others had theirs meanwhile.
static double memcpy_seconds(uint8_t *to, const uint8_t *from, uint64_t begin)
{
    const double began = os_seconds();
    for (uint64_t at = begin; at < begin + TURN_BYTES; at += RECORD_BYTES)
        memcpy(to + at, from + at, RECORD_BYTES);
    return os_seconds() - began;
}

static double write_seconds(struct gpu *gpu, struct gpu_buffer *to, const uint8_t *from,
                            uint64_t begin)
{
    const double began = os_seconds();
    for (uint64_t at = begin; at < begin + TURN_BYTES; at += RECORD_BYTES)
        if (!gpu_buffer_write(gpu, to, at, from + at, RECORD_BYTES)) return -1;
    return os_seconds() - began;
}

static double copy_seconds(struct gpu *gpu, struct gpu_buffer *to, struct gpu_buffer *from,
                           uint64_t begin)
{
    uint64_t ticket = 0;
    const double began = os_seconds();
    for (uint64_t at = begin; at < begin + TURN_BYTES; at += RECORD_BYTES) {
        const struct gpu_copy copy = {{from, at, RECORD_BYTES}, {to, at, RECORD_BYTES}};
        ticket = gpu_copy(gpu, &copy, 1, 0);
        if (!ticket) return -1;
    }
    return gpu_copy_wait(gpu, ticket) ? os_seconds() - began : -1;
}

static bool uploads(struct streaming *s)
{
    const uint64_t bytes = (uint64_t)UPLOAD_MIB * MIB;
    const bool     imports = s->gpu->caps.mask & GPU_CAP_HOSTMEM;
    double base[TURNS], written[TURNS], copied[TURNS];
    uint8_t *from = os_pages(bytes), *to = os_pages(bytes);
    memset(from, 1, bytes), memset(to, 2, bytes);
    struct gpu_buffer *device = gpu_buffer_create(
        s->gpu, &(struct gpu_buffer_params){.name = "bench upload", .bytes = bytes});
    struct gpu_buffer *staged =
        imports ? gpu_buffer_import(s->gpu, "bench staging", from, bytes) : NULL;
    if (!staged)
        staged = gpu_buffer_create(s->gpu, &(struct gpu_buffer_params){
            .name = "bench staging", .bytes = bytes, .memory = GPU_MEMORY_UPLOAD});
    bool ok = device && staged;
    for (int i = -1; ok && i < TURNS; i++) { // the first one warms up
        const int at = i < 0 ? 0 : i;
        base[at] = memcpy_seconds(to, from, 0);
        written[at] = write_seconds(s->gpu, device, from, TURN_BYTES);
        copied[at] = copy_seconds(s->gpu, device, staged, 2 * TURN_BYTES);
        base[at] = (base[at] + memcpy_seconds(to, from, 3 * TURN_BYTES)) / 2;
        ok = written[at] > 0 && copied[at] > 0;
    }
    gpu_buffer_destroy(s->gpu, &staged);
    gpu_buffer_destroy(s->gpu, &device);
    os_pages_free(from, bytes), os_pages_free(to, bytes);
    if (!ok) return false;
    add_row(s, "memcpy, records of 1 MiB", "itself", TURN_BYTES, TURNS, base, base, 0);
    add_row(s, "upload, host to device", "memcpy", TURN_BYTES, TURNS, written, base, 0.9);
    add_row(s, imports ? "upload, gpu_copy from imported pages" : "upload, gpu_copy from staging",
            "memcpy", TURN_BYTES, TURNS, copied, base, 0.9);
    return true;
}

// ---- compute and I/O side by side

struct compute {
    struct gpu_kernel   *kernel;
    struct gpu_buffer   *buffer;
    struct gpu_commands *commands;
};

static void compute_finish(struct gpu *gpu, struct compute *c)
{
    gpu_commands_destroy(gpu, &c->commands);
    gpu_buffer_destroy(gpu, &c->buffer);
    gpu_kernel_destroy(gpu, &c->kernel);
}

static bool compute_record(struct gpu *gpu, struct compute *c, uint32_t loops)
{
    const struct peaks_fma_push push = {loops, 0.5f, 0.5f};
    gpu_commands_destroy(gpu, &c->commands);
    c->commands = gpu_commands_create(gpu, &(struct gpu_commands_params){.name = "bench wave"});
    if (!c->commands) return false;
    gpu_commands_dispatch(c->commands, &(struct gpu_dispatch){
        .kernel = c->kernel, .bind = {{c->buffer, 0, c->buffer->params.bytes}}, .push = &push,
        .groups = {64, 1, 1}});
    return gpu_commands_end(c->commands);
}

static double compute_seconds(struct gpu *gpu, struct compute *c, int times)
{
    const double began = os_seconds();
    for (int i = 0; i < times; i++)
        if (!gpu_wait(gpu, gpu_submit(gpu, &c->commands, 1))) return -1;
    return os_seconds() - began;
}

// A dispatch of about WAVE_MS.
static bool compute_init(struct gpu *gpu, struct compute *c)
{
    struct gpu_kernel_params fma = peaks_fma_kernel(&gpu->caps);
    const uint32_t lanes = fma.spec[0] = gpu->caps.subgroup_size;
    *c = (struct compute){0};
    c->kernel = gpu_kernel_create(gpu, &fma);
    c->buffer = gpu_buffer_create(
        gpu, &(struct gpu_buffer_params){.name = "bench wave", .bytes = 64ull * lanes * 4});
    if (!c->kernel || !c->buffer) return false;
    double loops = 64;
    for (int tries = 0; tries < 12; tries++) { // until the quickest of three takes about so long
        if (!compute_record(gpu, c, (uint32_t)loops)) return false;
        double seconds = INFINITY;
        for (int i = 0; i < 3; i++) seconds = fmin(seconds, compute_seconds(gpu, c, 1));
        if (seconds <= 0) return false;
        const double times = 1e-3 * WAVE_MS / seconds;
        if (times > 0.8 && times < 1.25) break;
        loops = fmin(fmax(loops * fmin(times, 16), 1), 1 << 26);
    }
    return compute_record(gpu, c, (uint32_t)loops);
}

static bool wave_submit(struct streaming *s, struct stream *stream, int fd, uint64_t first,
                        uint64_t records)
{
    for (uint64_t i = first; i < first + records; i++) {
        const uint64_t at = i % (s->bytes / RECORD_BYTES) * RECORD_BYTES;
        const uint64_t slot = i % ((uint64_t)READ_MIB * MIB / RECORD_BYTES) * RECORD_BYTES;
        if (!stream_submit(stream, &(struct stream_request){STREAM_NEEDED, fd, at, RECORD_BYTES,
                                                            s->memory + slot, 0}))
            return false;
    }
    return true;
}

// WAVES of `records` each. Wave w + 1 is read while w computes; the first read and the last
// computation have no partner, so there is one of each more than there are pairs.
static double waves_seconds(struct streaming *s, struct stream *stream, int fd, struct compute *c,
                            uint64_t from, uint64_t records)
{
    const double began = os_seconds();
    for (uint64_t w = 0; w < WAVES; w++) {
        if (!wave_submit(s, stream, fd, from + w * records, records)) return -1;
        if (c && compute_seconds(s->gpu, c, 1) < 0) return -1;
        if (!stream_wait_all(stream)) return -1;
    }
    return os_seconds() - began;
}

struct overlap { double compute, io, both, wait; }; // seconds; of both: waited for reads

// One turn: each alone before and after both, so that a machine that slows down or speeds up on the
// way is the same to both sides.
static bool overlap_turn(struct streaming *s, struct stream *stream, int fd, struct compute *c,
                         uint64_t *from, uint64_t records, struct overlap *out)
{
    double seconds[5], wait = 0;
    for (int i = 0; i < 5; i++) {
        const bool computes = i == 0 || i == 4;
        const double waited = stream_stats(stream).wait_s;
        seconds[i] = computes ? compute_seconds(s->gpu, c, WAVES)
                              : waves_seconds(s, stream, fd, i == 2 ? c : NULL, *from, records);
        if (seconds[i] <= 0) return false;
        *from += computes ? 0 : WAVES * records;
        if (i == 2) wait = stream_stats(stream).wait_s - waited;
    }
    *out = (struct overlap){(seconds[0] + seconds[4]) / 2, (seconds[1] + seconds[3]) / 2,
                            seconds[2], wait};
    return true;
}

static bool overlap(struct streaming *s)
{
    double longer[TURNS], both[TURNS], wait[TURNS], wave[TURNS];
    struct overlap turn;
    struct compute c;
    const int fd = open(s->path, O_RDONLY | (s->choice.direct ? O_DIRECT : 0) | O_CLOEXEC);
    struct stream *stream = stream_create(&(struct stream_params){.backend = s->choice.backend});
    bool ok = compute_init(s->gpu, &c) && fd >= 0 && stream;
    uint64_t from = 0;
    double   records = 16; // a wave that are as long as its compute; the first turn finds it
    for (int i = -1; ok && i < TURNS; i++) {
        ok = overlap_turn(s, stream, fd, &c, &from, (uint64_t)(records + 0.5), &turn);
        if (!ok) break;
        const double equal = floor(records + 0.5) * turn.compute / turn.io;
        records = fmin(fmax(i < 0 ? equal : 0.7 * records + 0.3 * equal, 1), RECORDS_MOST);
        if (i < 0) continue;
        longer[i] = fmax(turn.compute, turn.io);
        both[i] = turn.both;
        wait[i] = 1e3 * turn.wait / WAVES;
        wave[i] = 1e3 * turn.compute / WAVES;
    }
    compute_finish(s->gpu, &c);
    stream_destroy(&stream);
    if (fd >= 0) close(fd);
    if (!ok) return false;
    add_row(s, "overlap, I/O as long as compute", "the longer", 0, TURNS, both, longer, 0.9);
    s->wait_ms = summary(wait, TURNS);
    s->wave_ms = summary(wave, TURNS).median;
    return true;
}

// ---- output

static void print(const struct streaming *s, FILE *out)
{
    fprintf(out, "file: %s, %.0f MiB%s\n", s->path, (double)s->bytes / MIB,
            s->own ? ", gone afterwards" : "");
    fprintf(out, "reads: %s\n%s\n\n", s->choice.text, gpu_copy_choice(s->gpu));
    fprintf(out, "%-38s %8s  %-11s %7s  %-15s %s\n", "", "GB/s", "measured by", "ratio",
            "lowest, highest", "goal");
    for (uint32_t i = 0; i < s->rows; i++) {
        const struct row *r = &s->row[i];
        char gbps[32] = "", goal[32] = "";
        if (r->gbps > 0) snprintf(gbps, sizeof gbps, "%.2f", r->gbps);
        if (r->goal > 0) snprintf(goal, sizeof goal, "%.2f", r->goal);
        fprintf(out, "%-38s %8s  %-11s %7.3f  %6.3f, %6.3f  %s\n", r->name, gbps, r->of,
                r->ratio.median, r->ratio.low, r->ratio.high, goal);
    }
    fprintf(out,
            "wait that compute did not hide: %.2f ms (%.2f to %.2f) beside %.1f ms of compute\n",
            s->wait_ms.median, s->wait_ms.low, s->wait_ms.high, s->wave_ms);
    fprintf(out, "ratios: medians of %d turns (reads) and %d (uploads, overlap)\n", ROUNDS, TURNS);
}

static char *to_json(const struct streaming *s)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "device", s->gpu->caps.name);
    cJSON_AddStringToObject(json, "reads", s->choice.text);
    cJSON_AddStringToObject(json, "copies", gpu_copy_choice(s->gpu));
    cJSON_AddNumberToObject(json, "file_bytes", (double)s->bytes);
    cJSON_AddNumberToObject(json, "wait_ms", s->wait_ms.median);
    cJSON_AddNumberToObject(json, "compute_ms", s->wave_ms);
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    for (uint32_t i = 0; i < s->rows; i++) {
        const struct row *r = &s->row[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", r->name);
        cJSON_AddStringToObject(one, "measured_by", r->of);
        if (r->gbps > 0) cJSON_AddNumberToObject(one, "gbps", r->gbps);
        cJSON_AddNumberToObject(one, "ratio", r->ratio.median);
        cJSON_AddNumberToObject(one, "lowest", r->ratio.low);
        cJSON_AddNumberToObject(one, "highest", r->ratio.high);
        cJSON_AddNumberToObject(one, "turns", r->turns);
        if (r->goal > 0) cJSON_AddNumberToObject(one, "goal", r->goal);
        cJSON_AddItemToArray(results, one);
    }
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    return text;
}

static bool output(const struct streaming *s, const char *json_file)
{
    if (!json_file || strcmp(json_file, "-") != 0) print(s, stdout);
    if (!json_file) return true;
    char *text = to_json(s);
    const bool ok = bench_write_text(text, json_file);
    cJSON_free(text);
    return ok;
}

bool bench_stream(struct gpu *gpu, const char *file, const char *json_file)
{
    struct streaming s = {.gpu = gpu};
    s.memory = os_pages((uint64_t)READ_MIB * MIB);
    memset(s.memory, 1, (size_t)READ_MIB * MIB); // its pages are there before anything is timed
    const bool ok = (file ? file_take(&s, file) : file_make(&s)) &&
                    stream_choose(s.path, RECORD_BYTES, 0, NULL, &s.choice) && reads(&s) &&
                    uploads(&s) && overlap(&s) && output(&s, json_file);
    if (s.own) unlink(s.path);
    os_pages_free(s.memory, (uint64_t)READ_MIB * MIB);
    return ok;
}
