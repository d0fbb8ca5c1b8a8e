// SPDX-License-Identifier: MIT
// A canvas as a PNG file, through libpng; written beside and renamed.
#include <png.h>
#include <stdlib.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/canvas.h"

static void put(png_structp png, png_bytep data, size_t bytes)
{
    if (!file_writer_write(png_get_io_ptr(png), data, bytes)) png_error(png, "cannot be written");
}

static void flush(png_structp png) { (void)png; }

static void quiet(png_structp png, png_const_charp text)
{
    (void)text;
    png_longjmp(png, 1); // the failure was logged by the file
}

// Everything that longjmp leaves behind belongs to the caller.
static bool write_all(png_structp png, png_infop info, const struct canvas *c, uint8_t *row)
{
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_IHDR(png, info, (uint32_t)c->width, (uint32_t)c->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 9);
    png_set_filter(png, 0, PNG_FILTER_NONE);
    png_write_info(png, info);
    for (int y = 0; y < c->height; y++) {
        const colour *from = c->pixels + (size_t)y * (size_t)c->width;
        for (int x = 0; x < c->width; x++) {
            row[3 * x] = (uint8_t)(from[x] >> 16);
            row[3 * x + 1] = (uint8_t)(from[x] >> 8);
            row[3 * x + 2] = (uint8_t)from[x];
        }
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    return true;
}

bool canvas_save_png(const struct canvas *c, const char *path)
{
    struct file_writer *writer = file_writer_open(path);
    if (!writer) return false;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, quiet, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    uint8_t *row = os_alloc(3 * (size_t)c->width);
    bool ok = false;
    if (info) {
        png_set_write_fn(png, writer, put, flush);
        ok = write_all(png, info, c, row);
    } else {
        log_error("%s: libpng does not start", path);
    }
    if (png) png_destroy_write_struct(&png, &info);
    free(row);
    if (ok) return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}
