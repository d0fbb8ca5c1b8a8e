// SPDX-License-Identifier: MIT
// The viewer against damaged run folders: metrics.jsonl, routing.trace, residency.trace and
// plan.json are mutated in turn, seeded, for a few seconds: fuzz_view [SECONDS] [SEED]. Whatever
// they hold, the folder is refused in one line or every panel is drawn, with no text outside its
// place and no access outside (run it under ASan).
#include <unistd.h>

#define FUZZ_NAME "fuzz_view"
#define FUZZ_WORDS "{\"step\": 3, ", "\"layers\": [", "{\"layer\": 0, ", "\"kernel\"", "\377\377"
#include "tests/fuzz.h"

#include "tests/fuzz_trace.h"
#include "tools/view/main.h"

enum { FILES = 4, STEPS = 3, EXPERTS = 5, TOKENS = 6 };
static const char *const names[FILES] = {"metrics.jsonl", "routing.trace", "residency.trace",
                                         "plan.json"};

static const char *path_of(char path[4200], const char *folder, const char *name)
{
    snprintf(path, 4200, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[4200];
    FILE *file = fopen(path_of(path, folder, name), "wb");
    require(file && fwrite(data, 1, size, file) == size, "cannot write");
    fclose(file);
}

static size_t read_file(const char *folder, const char *name, uint8_t *out)
{
    char path[4200];
    FILE *file = fopen(path_of(path, folder, name), "rb");
    require(file, "cannot read");
    const size_t size = fread(out, 1, MOST_BYTES, file);
    fclose(file);
    return size;
}

// ---- a whole folder

static void put_step(struct trace_writer *w, struct trace_writer *places, uint32_t step)
{
    const uint32_t ids[TOKENS] = {97, 98, 10, 195, 164, 256};
    const uint32_t domains[TOKENS] = {0, 0, 1, 1, 2, 9};
    const uint32_t picks[2 * TOKENS] = {0, 1, 2, 3, 4, 0, 1, 2, 5, 3, 4, 1};
    const float counts[EXPERTS] = {2, 0, 0, 200, 4}, gates[2 * TOKENS] = {0.5f, 0.25f};
    const uint8_t place[EXPERTS] = {3, 3, 0, 1, 5};
    trace_ids(w, step, ids);
    trace_domains(w, step, domains);
    for (uint32_t l = 0; l < 2; l++) {
        trace_counts(w, step, l, counts);
        trace_picks(w, step, l, picks);
        trace_gates(w, step, l, gates);
        trace_residency(places, step, l, place);
    }
    trace_stream(places, step, &(struct trace_stream){.hits = 3, .misses = 1});
    require(trace_flush(w) && trace_flush(places), "cannot write");
}

static void write_traces(const char *folder)
{
    static const char *const domains[] = {"c", "glsl", "json"};
    struct config c = {.num_experts = EXPERTS, .num_hidden_layers = 2, .batch_size = 1,
                       .seq_len = TOKENS, .gradient_accumulation_steps = 1, .steps = STEPS,
                       .trace_mib = 1, .trace_tokens = TOKENS};
    char path[4200];
    for (uint32_t i = 0; i < 2; i++) c.moe_layer[i] = true, c.layer_router[i].top_k = 2;
    struct trace_params params = {.path = path_of(path, folder, names[1]), .config = &c,
                                  .domain = domains, .domains = 3};
    struct trace_writer *w = trace_create(&params);
    params.path = path_of(path, folder, names[2]), params.residency = true;
    struct trace_writer *places = trace_create(&params);
    require(w && places, "cannot write");
    for (uint32_t step = 1; step <= STEPS; step++) put_step(w, places, step);
    trace_close(&w);
    trace_close(&places);
}

static void write_folder(const char *folder)
{
    static const char metrics[] =
        "{\"step\": 1, \"loss\": 5.5, \"device_bytes\": 1e6, \"layers\": [{\"layer\": 0, \"load\": "
        "[1, 2], \"entropy\": 0.5, \"max_expert\": 3, \"alarm\": true}]}\n"
        "{\"step\": 1, \"bpb\": 7}\n{\"step\": 3, \"loss\": 4, \"experts\": {\"hits\": 3}}\n";
    static const char plan[] =
        "{\"device\": \"d\", \"peaks\": {\"copy_gbps\": 10}, \"plans\": [{\"name\": \"train\", "
        "\"times\": 2, \"steps\": [{\"kernel\": \"matmul\", \"section\": \"layer 0\", \"layer\": "
        "0, \"ms\": 3, \"flop\": 1e6}, {\"kernel\": \"norm\", \"ms\": 1}]}]}";
    write_file(folder, names[0], metrics, sizeof metrics - 1);
    write_file(folder, names[3], plan, sizeof plan - 1);
    write_traces(folder);
}

// ---- a try

// Whether it was shown.
static bool try_folder(const char *folder, struct canvas *c)
{
    struct view v;
    const struct view_options o = {.folder = folder, .png = "", .layer = -1};
    lines = 0;
    if (!view_open(&v, &o)) {
        require(lines == 1, "not exactly one line for a refused folder");
        return false;
    }
    for (uint32_t p = 0; p <= PANEL_COUNT; p++) {
        v.panel = (enum panel)p;
        v.mouse = (struct view_mouse){.x = 150, .y = 100 + 20 * (int)p, .here = true};
        view_draw(&v, c, 0);
    }
    if (c->outside) fprintf(stderr, "%s\n", c->first_outside);
    require(!c->outside, "a text outside its place");
    require(lines <= 2, "more lines than files that could not be read");
    view_close(&v);
    return true;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 2;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    const char *base = getenv("TMPDIR");
    char folder[4096], path[4200];
    static uint8_t whole[FILES][MOST_BYTES], changed[MOST_BYTES];
    size_t size[FILES];
    uint64_t tries = 0, shown = 0;
    snprintf(folder, sizeof folder, "%.3900s/vkmoe-fuzz-view-XXXXXX", base ? base : "/tmp");
    require(mkdtemp(folder), "no folder");
    log_set(count_line, NULL, LOG_WARN);
    struct canvas *c = canvas_create(320, 240, 1, NULL);
    if (!c) return 77; // no font
    write_folder(folder);
    require(try_folder(folder, c), "the whole folder is refused");
    for (int i = 0; i < FILES; i++) size[i] = read_file(folder, names[i], whole[i]);
    printf("fuzz_view: seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    const clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    for (; clock() < end; tries++) {
        struct mutator m = {seed, tries, 0};
        const uint64_t file = pick(&m, FILES), times = 1 + pick(&m, 4);
        size_t count = size[file];
        memcpy(changed, whole[file], count);
        for (uint64_t i = 0; i < times; i++) count = mutate(&m, changed, count);
        if ((file == 1 || file == 2) && pick(&m, 4) > 0) fuzz_trace_checks(changed, count);
        write_file(folder, names[file], changed, count);
        shown += try_folder(folder, c);
        write_file(folder, names[file], whole[file], size[file]);
    }
    for (int i = 0; i < FILES; i++) remove(path_of(path, folder, names[i]));
    rmdir(folder);
    canvas_destroy(&c);
    printf("%llu tries, %llu shown\n", (unsigned long long)tries, (unsigned long long)shown);
    require(tries > 0 && shown > 0, "nothing was shown");
    return 0;
}
