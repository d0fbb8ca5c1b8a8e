// SPDX-License-Identifier: MIT
// Every kernel of every variant through RADV's compiler for cards that nobody here owns: its null
// devices (RADV_FORCE_FAMILY) compile without hardware. Prints one table, kernel x family: vector
// registers, spills, shared memory, bytes of code. A pipeline that does not compile or spills
// fails. 77: RADV is not there, or cannot be forced (newer Mesa).
//     radv [FAMILY...]
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/kernel.h"

enum { MOST_FAMILIES = 3, MOST_KERNELS = 512, EXIT_SKIPPED = 77 };

struct row {
    char name[96];
    struct gpu_statistics of[MOST_FAMILIES];
};

struct table {
    struct gpu   *gpu;
    struct row    row[MOST_KERNELS];
    int           rows, family, failures;
};

static void name_kernel(const struct kernel *kernel, char *name, size_t bytes)
{
    const struct kernel_shape *s = &kernel->shape;
    snprintf(name, bytes, "%s %ux%ux%u", kernel->name, s->rows, s->columns, s->spread);
    if (s->depth) snprintf(name + strlen(name), bytes - strlen(name), " d%u", s->depth);
}

// The row of a name: families may differ in shapes, so a row can have holes.
static struct row *find_row(struct table *table, const char *name)
{
    for (int i = 0; i < table->rows; i++)
        if (strcmp(table->row[i].name, name) == 0) return &table->row[i];
    if (table->rows == MOST_KERNELS) return NULL;
    struct row *row = &table->row[table->rows++];
    snprintf(row->name, sizeof row->name, "%s", name);
    for (int f = 0; f < MOST_FAMILIES; f++) row->of[f] = (struct gpu_statistics){-1, -1, -1, -1};
    return row;
}

static bool visit(void *user, const struct kernel *kernel)
{
    struct table *table = user;
    char name[96];
    name_kernel(kernel, name, sizeof name);
    struct row *row = find_row(table, name);
    struct gpu_statistics *out = row ? &row->of[table->family] : NULL;
    if (!row || !gpu_kernel_statistics(table->gpu, kernel->gpu, out) || out->registers <= 0 ||
        out->spills < 0) {
        printf("FAIL %s on %s: no statistics\n", name, table->gpu->caps.name);
        table->failures++;
        return false;
    }
    if (out->spills == 0) return true;
    printf("FAIL %s on %s: spills %lld\n", name, table->gpu->caps.name, (long long)out->spills);
    table->failures++;
    return true;
}

// False: this RADV takes no forced family.
static bool compile_family(struct table *table, const char *family)
{
    setenv("RADV_FORCE_FAMILY", family, 1);
    table->gpu = gpu_create(&(struct gpu_params){.device = "radv", .cache_dir = ""});
    if (!table->gpu) return false;
    printf("%s: %s, subgroups of %u\n", family, table->gpu->caps.name,
           table->gpu->caps.subgroup_size);
    struct kernels *kernels = kernels_create(table->gpu);
    if (!kernels_each(kernels, visit, table)) {
        printf("FAIL %s: not every kernel compiles\n", family);
        table->failures++;
    }
    kernels_destroy(&kernels);
    gpu_destroy(&table->gpu);
    return true;
}

static void print_table(const struct table *table, char **family, int families)
{
    printf("\n%-34s", "kernel, rows x columns x spread");
    for (int f = 0; f < families; f++) printf("  %8s %s", family[f], "VGPR spill  LDS   code");
    putchar('\n');
    for (int i = 0; i < table->rows; i++) {
        const struct row *row = &table->row[i];
        printf("%-34s", row->name);
        for (int f = 0; f < families; f++) {
            const struct gpu_statistics *s = &row->of[f];
            if (s->registers < 0) printf("  %8s %22s", "", "-");
            else
                printf("  %8s %4lld %5lld %4lld %6lld", "", (long long)s->registers,
                       (long long)s->spills, (long long)s->shared_bytes, (long long)s->code_bytes);
        }
        putchar('\n');
    }
    printf("%d rows, %d failures\n", table->rows, table->failures);
}

// Only RADV, wherever the distribution puts its description.
static bool only_radv(void)
{
    glob_t found;
    const bool there = glob("/usr/share/vulkan/icd.d/radeon_icd*.json", 0, NULL, &found) == 0;
    if (there) {
        setenv("VK_ICD_FILENAMES", found.gl_pathv[0], 1);
        setenv("VK_DRIVER_FILES", found.gl_pathv[0], 1);
        globfree(&found);
    }
    return there;
}

int main(int argc, char **argv)
{
    static char *all[] = {"vega10", "navi21", "gfx1100"};
    static struct table table;
    char **family = argc > 1 ? argv + 1 : all;
    const int families = argc > 1 ? argc - 1 : MOST_FAMILIES;
    if (families > MOST_FAMILIES) return 2;
    if (!only_radv()) {
        printf("skipped: no /usr/share/vulkan/icd.d/radeon_icd*.json\n");
        return EXIT_SKIPPED;
    }
    for (table.family = 0; table.family < families; table.family++) {
        if (compile_family(&table, family[table.family])) continue;
        printf("skipped: RADV cannot be forced to be %s here\n", family[table.family]);
        return table.failures ? 1 : EXIT_SKIPPED;
    }
    print_table(&table, family, families);
    return table.failures ? 1 : 0;
}
