// SPDX-License-Identifier: MIT
// numpy's .npy, version 1.0 (numpy/lib/format.py): magic, version, length of the header, a Python
// dict padded with spaces so that the data begins at a multiple of 64 bytes, the data.
#include "src/npy.h"

#include <stdio.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"

enum { NPY_ALIGN = 64, NPY_PREFIX = 10 };

bool npy_write_f32(const char *path, const float *data, uint64_t rows, uint64_t cols)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats are written as they lie");
    uint64_t bytes;
    if (!checked_mul(rows, cols, &bytes) || !checked_mul(bytes, sizeof *data, &bytes)) {
        log_error("%s: %llu x %llu floats do not fit a file", path, (unsigned long long)rows,
                  (unsigned long long)cols);
        return false;
    }
    char header[2 * NPY_ALIGN];
    memset(header, ' ', sizeof header);
    const int length = snprintf(header + NPY_PREFIX, sizeof header - NPY_PREFIX,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
        (unsigned long long)rows, (unsigned long long)cols);
    header[NPY_PREFIX + length] = ' '; // over the terminating zero
    const uint64_t total = align_up(NPY_PREFIX + (uint64_t)length + 1, NPY_ALIGN);
    header[total - 1] = '\n';
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((total - NPY_PREFIX) & 0xff);
    header[9] = (char)((total - NPY_PREFIX) >> 8);

    struct file_writer *writer = file_writer_open(path);
    if (!writer) return false;
    if (file_writer_write(writer, header, total) && file_writer_write(writer, data, bytes))
        return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}
