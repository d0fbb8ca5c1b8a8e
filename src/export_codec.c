// SPDX-License-Identifier: MIT
// zstd and XXH64 behind export_codec.h. Compression streams in both directions: neither a model nor
// its export is ever whole in memory.
#include "src/export_codec.h"

#include "runtime/log.h"

#ifdef HAVE_EXPORT

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "runtime/os.h"

bool codec_available(const char *name)
{
    (void)name;
    return true;
}

uint64_t codec_hash(const void *data, uint64_t bytes) { return XXH64(data, bytes, 0); }

// ---- writing

enum { OUT_BYTES = 1 << 17 };

struct codec_writer {
    ZSTD_CCtx     *zstd; // NULL: level 0
    XXH64_state_t *hash;
    codec_sink_fn *sink;
    void          *user;
    uint8_t       *out;
};

static bool zstd_ok(size_t result, const char *what)
{
    if (!ZSTD_isError(result)) return true;
    log_error("zstd: %s: %s", what, ZSTD_getErrorName(result));
    return false;
}

struct codec_writer *codec_writer_create(int level, uint64_t bytes, codec_sink_fn *sink, void *user)
{
    struct codec_writer *w = os_alloc(sizeof *w);
    *w = (struct codec_writer){.sink = sink, .user = user, .hash = XXH64_createState(),
                               .out = os_alloc(OUT_BYTES)};
    XXH64_reset(w->hash, 0);
    if (level == 0) return w;
    w->zstd = ZSTD_createCCtx();
    if (!w->zstd) log_error("zstd: no memory");
    if (!w->zstd ||
        !zstd_ok(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, level), "level") ||
        !zstd_ok(ZSTD_CCtx_setPledgedSrcSize(w->zstd, bytes), "size"))
        codec_writer_destroy(&w);
    return w;
}

void codec_writer_destroy(struct codec_writer **writer)
{
    struct codec_writer *w = *writer;
    if (!w) return;
    ZSTD_freeCCtx(w->zstd);
    XXH64_freeState(w->hash);
    free(w->out);
    free(w);
    *writer = NULL;
}

bool codec_writer_raw(struct codec_writer *w, const void *data, uint64_t bytes)
{
    XXH64_update(w->hash, data, bytes);
    return w->sink(w->user, data, bytes);
}

static bool compress(struct codec_writer *w, const void *data, uint64_t bytes,
                     ZSTD_EndDirective end)
{
    ZSTD_inBuffer in = {data, bytes, 0};
    for (;;) {
        ZSTD_outBuffer out = {w->out, OUT_BYTES, 0};
        const size_t left = ZSTD_compressStream2(w->zstd, &out, &in, end);
        if (!zstd_ok(left, "compress")) return false;
        if (out.pos && !codec_writer_raw(w, w->out, out.pos)) return false;
        if (end == ZSTD_e_continue ? in.pos == in.size : left == 0) return true;
    }
}

bool codec_writer_put(struct codec_writer *w, const void *data, uint64_t bytes)
{
    return w->zstd ? compress(w, data, bytes, ZSTD_e_continue) : codec_writer_raw(w, data, bytes);
}

bool codec_writer_block(struct codec_writer *w)
{
    return !w->zstd || compress(w, NULL, 0, ZSTD_e_flush);
}

bool codec_writer_end(struct codec_writer *w)
{
    return !w->zstd || compress(w, NULL, 0, ZSTD_e_end);
}

uint64_t codec_writer_hash(const struct codec_writer *w) { return XXH64_digest(w->hash); }

// ---- reading

struct codec_reader {
    const char   *name;
    ZSTD_DCtx    *zstd; // NULL: as it is
    ZSTD_inBuffer in;
    bool          ended; // the frame is complete
};

struct codec_reader *codec_reader_create(const char *name, bool zstd, const uint8_t *data,
                                         uint64_t bytes)
{
    struct codec_reader *r = os_alloc(sizeof *r);
    *r = (struct codec_reader){.name = name, .in = {data, bytes, 0}};
    if (zstd && !(r->zstd = ZSTD_createDCtx())) {
        log_error("zstd: no memory");
        codec_reader_destroy(&r);
    }
    return r;
}

void codec_reader_destroy(struct codec_reader **reader)
{
    if (!*reader) return;
    ZSTD_freeDCtx((*reader)->zstd);
    free(*reader);
    *reader = NULL;
}

static bool cut_off(const struct codec_reader *r)
{
    log_error("%s: data: ends %s; was it cut off?", r->name,
              r->ended ? "before the last tensor" : "in the middle");
    return false;
}

static bool decompress(struct codec_reader *r, ZSTD_outBuffer *out)
{
    const size_t in_before = r->in.pos, out_before = out->pos;
    const size_t left = ZSTD_decompressStream(r->zstd, out, &r->in);
    if (ZSTD_isError(left)) {
        log_error("%s: data: zstd says \"%s\" at byte %llu; a damaged file?", r->name,
                  ZSTD_getErrorName(left), (unsigned long long)r->in.pos);
        return false;
    }
    r->ended = left == 0;
    return r->in.pos != in_before || out->pos != out_before || cut_off(r);
}

bool codec_reader_get(struct codec_reader *r, void *to, uint64_t bytes)
{
    if (!r->zstd) {
        if (bytes > r->in.size - r->in.pos) return cut_off(r);
        if (bytes) memcpy(to, (const uint8_t *)r->in.src + r->in.pos, bytes);
        r->in.pos += bytes;
        return true;
    }
    ZSTD_outBuffer out = {to, bytes, 0};
    while (out.pos < out.size)
        if (r->ended ? !cut_off(r) : !decompress(r, &out)) return false;
    return true;
}

bool codec_reader_end(struct codec_reader *r)
{
    uint8_t more;
    ZSTD_outBuffer out = {&more, 1, 0};
    while (r->zstd && !r->ended && out.pos == 0)
        if (!decompress(r, &out)) return false;
    if (out.pos == 0 && r->in.pos == r->in.size) return true;
    log_error("%s: data: more bytes than the header's data_bytes", r->name);
    return false;
}

#else

static bool refuse(const char *name)
{
    log_error("%s: this build reads and writes no exports: it was made without libzstd and "
              "libxxhash; install libzstd-dev and libxxhash-dev, then build again", name);
    return false;
}

bool codec_available(const char *name) { return refuse(name); }
uint64_t codec_hash(const void *data, uint64_t bytes) { return (void)data, bytes; }

struct codec_writer *codec_writer_create(int level, uint64_t bytes, codec_sink_fn *sink, void *user)
{
    (void)level, (void)bytes, (void)sink, (void)user;
    refuse("export");
    return NULL;
}
void codec_writer_destroy(struct codec_writer **writer) { *writer = NULL; }
bool codec_writer_raw(struct codec_writer *writer, const void *data, uint64_t bytes)
{
    (void)data, (void)bytes;
    return writer != NULL;
}
bool codec_writer_put(struct codec_writer *writer, const void *data, uint64_t bytes)
{
    return codec_writer_raw(writer, data, bytes);
}
bool codec_writer_block(struct codec_writer *writer) { return writer != NULL; }
bool codec_writer_end(struct codec_writer *writer) { return writer != NULL; }
uint64_t codec_writer_hash(const struct codec_writer *writer) { return writer != NULL; }

struct codec_reader *codec_reader_create(const char *name, bool zstd, const uint8_t *data,
                                         uint64_t bytes)
{
    (void)zstd, (void)data, (void)bytes;
    refuse(name);
    return NULL;
}
void codec_reader_destroy(struct codec_reader **reader) { *reader = NULL; }
bool codec_reader_get(struct codec_reader *reader, void *out, uint64_t bytes)
{
    (void)out, (void)bytes;
    return reader != NULL;
}
bool codec_reader_end(struct codec_reader *reader) { return reader != NULL; }

#endif
