// SPDX-License-Identifier: MIT
// safetensors.h: what is written reads back, and each way in which a file can lie is refused in one
// line that names the file and, where there is one, the tensor.
#include "tests/unit.h"

#include "src/safetensors.h"

// A file from its header's text and `data` bytes behind it; free() it.
static uint8_t *make_file(const char *header, size_t data, size_t *bytes)
{
    const size_t length = strlen(header);
    uint8_t *file = calloc(1, 8 + length + data);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data; i++) file[8 + length + i] = (uint8_t)i;
    *bytes = 8 + length + data;
    return file;
}

static struct safetensors *parse(const char *header, size_t data, uint8_t **memory)
{
    size_t bytes;
    *memory = make_file(header, data, &bytes);
    return safetensors_parse("test.safetensors", *memory, bytes);
}

static void written_files_read_back(void **state)
{
    (void)state;
    const struct safetensors_tensor tensors[] = {
        {.name = "b.weight", .dtype = DTYPE_F32, .rank = 2, .shape = {3, 5}},
        {.name = "a \"quoted\" \\ name", .dtype = DTYPE_BF16, .rank = 1, .shape = {7}},
        {.name = "scalar", .dtype = DTYPE_I64, .rank = 0},
        {.name = "empty", .dtype = DTYPE_F16, .rank = 3, .shape = {2, 0, 9}},
        {.name = "ids", .dtype = DTYPE_U8, .rank = 1, .shape = {3}},
    };
    const struct safetensors_metadata metadata[] = {{"format", "pt"}, {"step", "12"}};
    const char *path = unit_path("x.safetensors");
    uint8_t data[3 * 5 * 4 + 14 + 8 + 3];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    struct safetensors_writer *writer =
        safetensors_writer_open(path, tensors, COUNT_OF(tensors), metadata, COUNT_OF(metadata));
    assert_non_null(writer);
    assert_true(safetensors_writer_write(writer, data, 1));
    assert_true(safetensors_writer_write(writer, data + 1, sizeof data - 1));
    assert_false(access(path, F_OK) == 0); // not before it is whole
    assert_true(safetensors_writer_commit(&writer));
    assert_null(writer);
    struct safetensors *file = safetensors_open(path);
    assert_non_null(file);
    assert_int_equal(file->count, COUNT_OF(tensors));
    assert_int_equal(file->metadata_count, 2);
    assert_string_equal(file->metadata[1].key, "step");
    assert_string_equal(file->metadata[1].value, "12");
    assert_int_equal((uintptr_t)file->data % 8, 0);
    assert_int_equal(file->bytes, sizeof data);
    assert_memory_equal(file->data, data, sizeof data);
    uint64_t end = 0;
    for (size_t i = 0; i < COUNT_OF(tensors); i++) {
        const struct safetensors_tensor *tensor = safetensors_find(file, tensors[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->dtype, tensors[i].dtype);
        assert_int_equal(tensor->rank, tensors[i].rank);
        assert_memory_equal(tensor->shape, tensors[i].shape, sizeof tensor->shape);
        assert_int_equal(tensor->begin, end);
        end = tensor->end;
        assert_int_equal(tensor->end - tensor->begin,
                         tensor->count * dtype_bytes((enum dtype)tensor->dtype));
    }
    assert_null(safetensors_find(file, "b.weigh"));
    safetensors_close(&file);
    assert_null(file);
    safetensors_close(&file);
    unit_assert_silent();
}

static void unfinished_files_leave_the_old_one(void **state)
{
    (void)state;
    const struct safetensors_tensor tensor = {
        .name = "w", .dtype = DTYPE_F32, .rank = 1, .shape = {4}};
    const char *path = unit_write_text("x.safetensors", "old");
    const float values[5] = {1, 2, 3, 4, 5};
    for (int way = 0; way < 3; way++) {
        struct safetensors_writer *writer = safetensors_writer_open(path, &tensor, 1, NULL, 0);
        assert_non_null(writer);
        assert_true(safetensors_writer_write(writer, values, way == 1 ? 12 : 20));
        if (way == 0) safetensors_writer_abort(&writer);
        else assert_false(safetensors_writer_commit(&writer)); // too little, too much
        assert_null(writer);
        if (way) unit_assert_line("x.safetensors", "the header announces 16");
        char *text = unit_read(path, NULL);
        assert_string_equal(text, "old");
        free(text);
    }
    unit_assert_silent();
    assert_null(safetensors_writer_open(unit_path("none/x.safetensors"), &tensor, 1, NULL, 0));
    unit_assert_line("none/x.safetensors", "no such file or folder");
}

static void order_of_the_header_does_not_matter(void **state)
{
    (void)state;
    uint8_t *memory;
    struct safetensors *file =
        parse("{\"b\":{\"shape\":[2],\"data_offsets\":[4,6],\"dtype\":\"U8\"},\"a\":{\"dtype\":"
              "\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
              "\"q\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[6,9]}, "
              "\"__metadata__\":{\"x\":\"\"}}   \n",
              9, &memory);
    assert_non_null(file);
    assert_string_equal(file->tensor[0].name, "a");
    assert_string_equal(file->tensor[2].name, "q");
    assert_int_equal(file->tensor[2].dtype, -1);
    assert_string_equal(file->tensor[2].dtype_name, "F4");
    assert_int_equal(file->tensor[0].count, 1);
    safetensors_close(&file);
    free(memory);
    file = parse("{}", 0, &memory);
    assert_non_null(file);
    assert_null(safetensors_find(file, "a"));
    safetensors_close(&file);
    free(memory);
    unit_assert_silent();
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin        \
    "," #end "]}"

static void each_lie_is_refused_in_one_line(void **state)
{
    (void)state;
    static const struct { const char *header; size_t data; const char *first, *second; } lies[] = {
        {"", 0, "test.safetensors", "does not begin with '{'"},
        {" {}", 0, "test.safetensors", "does not begin with '{'"},
        {"[]", 0, "test.safetensors", "does not begin with '{'"},
        {"{", 0, "test.safetensors", "not valid JSON"},
        {"{} x", 0, "test.safetensors", "not valid JSON"},
        {"{}", 1, "test.safetensors", "the file holds 1"},
        {"{" T("a", "F32", "2", 0, 8) "}", 7, "tensor a", "was it cut off"},
        {"{" T("a", "F32", "2", 0, 8) "}", 9, "test.safetensors", "are 8 bytes, the file holds 9"},
        {"{" T("a", "F32", "2", 0, 7) "}", 7, "tensor a", "7 bytes of data do not make [2] of F32"},
        {"{" T("a", "F32", "2", 8, 0) "}", 8, "tensor a", "[8, 0]"},
        {"{" T("a", "F32", "2", -8, 0) "}", 8, "tensor a", "data_offsets are not"},
        {"{" T("a", "F32", "2", 0.5, 8.5) "}", 8, "tensor a", "data_offsets are not"},
        {"{" T("a", "F32", "2", 0, 1e300) "}", 8, "tensor a", "data_offsets are not"},
        {"{" T("a", "F32", "2", 0, 9007199254740991) "}", 8, "tensor a", "lie outside"},
        {"{" T("a", "F32", "2", 0, 8) "," T("b", "F32", "1", 12, 16) "}", 16, "tensor b", "a hole"},
        {"{" T("a", "F32", "2", 4, 12) "}", 12, "tensor a", "a hole"},
        {"{" T("a", "F32", "2", 0, 8) "," T("b", "F32", "2", 4, 12) "}", 12, "tensor b",
         "they overlap"},
        {"{" T("a", "F32", "2", 0, 8) "," T("b", "F32", "2", 0, 8) "}", 8, "tensor",
         "they overlap"},
        {"{" T("a", "F32", "2", 0, 8) "," T("a", "F32", "2", 8, 16) "}", 16, "tensor a",
         "stands twice"},
        {"{" T("a", "F99", "2", 0, 8) "}", 8, "tensor a", "unknown dtype \"F99\""},
        {"{" T("a", "F32", "2.5", 0, 10) "}", 10, "tensor a", "dimension 0"},
        {"{" T("a", "F32", "2,-1", 0, 8) "}", 8, "tensor a", "dimension 1"},
        {"{" T("a", "F32", "\"2\"", 0, 8) "}", 8, "tensor a", "dimension 0"},
        {"{" T("a", "F32", "1,1,1,1,1,1,1,1,2", 0, 8) "}", 8, "tensor a", "more than 8 dimensions"},
        {"{" T("a", "U8", "4294967296,4294967296", 0, 0) "}", 0, "tensor a",
         "overflows"}, // 2^64 = 0
        {"{" T("a", "F32", "2147483648,2147483648,4", 0, 0) "}", 0, "tensor a", "overflows"},
        {"{" T("a", "F32", "4611686018427387904", 0, 0) "}", 0, "tensor a",
         "dimension 0"}, // 4 * 2^62 = 0
        {"{" T("a", "F4", "3", 0, 1) "}", 1, "tensor a", "do not make"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor a",
         "exactly dtype, shape and data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, "tensor a",
         "exactly"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"dtype\":\"U8\"}}", 1, "tensor a", "exactly"},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a",
         "dtype is not a string"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, "tensor a",
         "shape is not an array"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "tensor a",
         "data_offsets are not"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":1}}", 1, "tensor a",
         "data_offsets are not"},
        {"{\"a\":[]}", 0, "tensor a", "exactly"},
        {"{\"a\\nb\":[]}", 0, "test.safetensors", "control characters"},
        {"{\"__metadata__\":{\"x\":1}}", 0, "__metadata__", "holds what is not a string"},
        {"{\"__metadata__\":[]}", 0, "test.safetensors", "__metadata__ is not one object"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "test.safetensors",
         "__metadata__ is not one object"},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        uint8_t *memory;
        struct safetensors *file = parse(lies[i].header, lies[i].data, &memory);
        if (file) fail_msg("taken: %s", lies[i].header);
        unit_assert_line(lies[i].first, lies[i].second);
        free(memory);
    }
}

static void lengths_are_not_believed(void **state)
{
    (void)state;
    static const struct { uint64_t length; size_t bytes; const char *wanted; } lengths[] = {
        {0, 0, "too few"},
        {0, 7, "too few"},
        {0, 8, "does not begin with"},
        {3, 10, "was it cut off"},
        {100000000, 10, "was it cut off"},
        {100000001, 10, "at most 100000000"},
        {UINT64_MAX, 10, "at most 100000000"},
        {UINT64_MAX - 7, 10, "at most 100000000"},
    };
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        uint8_t bytes[10] = {0};
        for (int b = 0; b < 8; b++) bytes[b] = (uint8_t)(lengths[i].length >> 8 * b);
        memcpy(bytes + 8, "{}", 2);
        const char *path = unit_write("x.safetensors", bytes, lengths[i].bytes);
        assert_null(safetensors_open(path));
        unit_assert_line(path, lengths[i].wanted);
    }
    assert_null(safetensors_open(unit_path("none.safetensors")));
    unit_assert_line("none.safetensors", "no such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(written_files_read_back),
        UNIT(unfinished_files_leave_the_old_one),
        UNIT(order_of_the_header_does_not_matter),
        UNIT(each_lie_is_refused_in_one_line),
        UNIT(lengths_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
