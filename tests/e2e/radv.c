// SPDX-License-Identifier: MIT
// Every kernel of every variant through RADV's compiler for cards that nobody here owns: its null
// devices (RADV_FORCE_FAMILY) compile without hardware. Prints one table, kernel x family: vector
// registers, spills, scratch and shared memory, waves a SIMD. It fails where a pipeline does not
// compile or spills, and where a hot kernel (matmuls, attention) leaves room for fewer than
// WAVES_LEAST waves on a SIMD of RDNA. 77: RADV is not there, or cannot be forced (newer Mesa).
//     radv [--list] [FAMILY...]
// --list: lines "family, driver, kernel, variant, registers, spills, scratch, shared, waves" with
// tabs between, for tools/vendors.py. RADV ends the process at a family that it does not know: each
// has a child of its own.
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/log.h"
#include "src/kernel_device.h"

// A SIMD of RDNA 2 and 3 has 16 wave slots; RADV's statistic does not know that limit (it says 32).
enum {
    MOST_FAMILIES = 8,
    MOST_KERNELS = 2048,
    EXIT_SKIPPED = 77,
    WAVES_LEAST = 4,
    WAVE_SLOTS = 16,
};

// What a child tells of one kernel; small enough for one write to a pipe.
struct entry {
    char name[96], kernel[64], driver[64];
    struct gpu_statistics of;
};

struct row {
    char name[96];
    struct gpu_statistics of[MOST_FAMILIES];
};

struct table {
    char       *family[MOST_FAMILIES];
    int         families, failures;
    bool        list, there[MOST_FAMILIES];
    struct row  row[MOST_KERNELS];
    int         rows;
};

// ---- a child: one family

struct child { struct gpu *gpu; const char *family; int out; };

static void describe(const struct kernel *kernel, char *text, size_t bytes)
{
    const struct kernel_shape *s = &kernel->shape;
    snprintf(text, bytes, "%ux%ux%u", s->rows, s->columns, s->spread);
    if (s->depth) snprintf(text + strlen(text), bytes - strlen(text), " d%u", s->depth);
}

static bool visit(void *user, const struct kernel *kernel)
{
    const struct child *child = user;
    char shape[32];
    struct entry entry = {0};
    describe(kernel, shape, sizeof shape);
    snprintf(entry.name, sizeof entry.name, "%s %s", kernel->name, shape);
    snprintf(entry.kernel, sizeof entry.kernel, "%s", kernel->name);
    snprintf(entry.driver, sizeof entry.driver, "%.63s", child->gpu->caps.driver);
    if (!gpu_kernel_statistics(child->gpu, kernel->gpu, &entry.of) || entry.of.registers <= 0 ||
        entry.of.spills < 0 || entry.of.waves <= 0) {
        printf("FAIL %s on %s: no statistics\n", entry.name, child->family);
        return false;
    }
    return write(child->out, &entry, sizeof entry) == sizeof entry;
}

// 0; 1: a kernel failed; EXIT_SKIPPED: this RADV cannot be this family.
static int compile_family(const char *family, int out, bool list)
{
    setenv("RADV_FORCE_FAMILY", family, 1);
    struct child child = {.family = family, .out = out};
    child.gpu = gpu_create(&(struct gpu_params){.device = "radv", .cache_dir = ""});
    if (!child.gpu) return EXIT_SKIPPED;
    if (!list)
        printf("%s: %s, %s, subgroups of %u\n", family, child.gpu->caps.name,
               child.gpu->caps.driver, child.gpu->caps.subgroup_size);
    struct kernels *kernels = kernels_create(child.gpu);
    const bool ok = kernels_each(kernels, visit, &child);
    kernels_destroy(&kernels);
    gpu_destroy(&child.gpu);
    return ok ? 0 : 1;
}

// ---- the table

// The row of a name: families may differ in shapes, so a row can have holes.
static struct row *find_row(struct table *table, const char *name)
{
    for (int i = 0; i < table->rows; i++)
        if (strcmp(table->row[i].name, name) == 0) return &table->row[i];
    if (table->rows == MOST_KERNELS) return NULL;
    struct row *row = &table->row[table->rows++];
    snprintf(row->name, sizeof row->name, "%s", name);
    for (int f = 0; f < MOST_FAMILIES; f++) row->of[f] = GPU_STATISTICS_NONE;
    return row;
}

static bool is_rdna(const char *family)
{
    return strncmp(family, "navi", 4) == 0 || strncmp(family, "gfx1", 4) == 0;
}

static bool is_hot(const char *kernel)
{
    static const char *const hot[] = {"matmul", "matvec", "moe_matmul", "attention"};
    for (size_t i = 0; i < sizeof hot / sizeof *hot; i++)
        if (strncmp(kernel, hot[i], strlen(hot[i])) == 0) return true;
    return false;
}

static void judge(struct table *table, const struct entry *entry, const char *family)
{
    if (entry->of.spills > 0) {
        fprintf(stderr, "FAIL %s on %s: spills %lld\n", entry->name, family,
                (long long)entry->of.spills);
        table->failures++;
    }
    if (is_rdna(family) && is_hot(entry->kernel) && entry->of.waves < WAVES_LEAST) {
        fprintf(stderr, "FAIL %s on %s: %lld waves a SIMD, wanted %d: %lld registers, %lld bytes "
                "of shared memory\n", entry->name, family, (long long)entry->of.waves, WAVES_LEAST,
                (long long)entry->of.registers, (long long)entry->of.shared_bytes);
        table->failures++;
    }
}

static void take(struct table *table, struct entry *entry, int family)
{
    struct gpu_statistics *s = &entry->of;
    struct row *row = find_row(table, entry->name);
    if (!row) {
        fprintf(stderr, "FAIL: more than %d kernels\n", MOST_KERNELS);
        table->failures++;
        return;
    }
    if (is_rdna(table->family[family]) && s->waves > WAVE_SLOTS) s->waves = WAVE_SLOTS;
    row->of[family] = *s;
    judge(table, entry, table->family[family]);
    if (table->list)
        printf("%s\t%s\t%s\t%s\t%lld\t%lld\t%lld\t%lld\t%lld\n", table->family[family],
               entry->driver, entry->kernel, entry->name + strlen(entry->kernel) + 1,
               (long long)s->registers, (long long)s->spills, (long long)s->scratch_bytes,
               (long long)s->shared_bytes, (long long)s->waves);
}

static void run_family(struct table *table, int f)
{
    int ends[2], status = 0;
    fflush(stdout);
    if (pipe(ends) != 0) {
        perror("pipe");
        exit(1);
    }
    const pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        const int result = compile_family(table->family[f], ends[1], table->list);
        fflush(stdout);
        _exit(result);
    }
    close(ends[1]);
    struct entry entry;
    int entries = 0;
    for (; read(ends[0], &entry, sizeof entry) == sizeof entry; entries++) take(table, &entry, f);
    close(ends[0]);
    waitpid(pid, &status, 0);
    table->there[f] = entries > 0;
    if (entries && status != 0) {
        fprintf(stderr, "FAIL %s: not every kernel compiles, wait status %d\n", table->family[f],
                status);
        table->failures++;
    }
}

static void print_table(const struct table *table)
{
    printf("\n%-36s", "VGPRs spills scratch LDS waves");
    for (int f = 0; f < table->families; f++)
        if (table->there[f]) printf("  %22s", table->family[f]);
    putchar('\n');
    for (int i = 0; i < table->rows; i++) {
        const struct row *row = &table->row[i];
        printf("%-36s", row->name);
        for (int f = 0; f < table->families; f++) {
            const struct gpu_statistics *s = &row->of[f];
            if (!table->there[f]) continue;
            if (s->registers < 0) printf("  %22s", "-");
            else
                printf("  %4lld %3lld %4lld %5lld %2lld", (long long)s->registers,
                       (long long)s->spills, (long long)s->scratch_bytes,
                       (long long)s->shared_bytes, (long long)s->waves);
        }
        putchar('\n');
    }
}

// Only RADV, wherever the distribution puts its description; VK_DRIVER_FILES chooses another.
static bool only_radv(void)
{
    if (getenv("VK_DRIVER_FILES")) return true;
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
    static char *all[] = {"vega10", "navi21", "gfx1100", "navi31", "gfx1201"};
    static struct table table;
    int first = 1, there = 0;
    if (argc > 1 && strcmp(argv[1], "--list") == 0) table.list = true, first = 2;
    char **family = argc > first ? argv + first : all;
    table.families = argc > first ? argc - first : (int)(sizeof all / sizeof *all);
    if (table.families > MOST_FAMILIES) return 2;
    if (!only_radv()) {
        printf("skipped: no /usr/share/vulkan/icd.d/radeon_icd*.json\n");
        return EXIT_SKIPPED;
    }
    for (int f = 0; f < table.families; f++) {
        table.family[f] = family[f];
        run_family(&table, f);
        there += table.there[f];
        if (!table.there[f] && !table.list)
            printf("%s: this RADV cannot be forced to be one\n", family[f]);
    }
    if (!there) return EXIT_SKIPPED;
    if (!table.list) {
        print_table(&table);
        printf("%d rows, %d failures\n", table.rows, table.failures);
    }
    return table.failures ? 1 : 0;
}
