// SPDX-License-Identifier: MIT
// The answers to a task on the disk: appended while they come, read again after an interrupt, and
// written as one JSON file at the end. See eval_task.h.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "runtime/checksum.h"
#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/eval_task.h"

enum { PATH_BYTES = 4096 };

struct eval_file {
    char  out[PATH_BYTES], answers[PATH_BYTES + 16];
    FILE *stream;
};

// ---- an answer as JSON

static cJSON *numbers(const double *logp, uint32_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < count; i++) cJSON_AddItemToArray(list, cJSON_CreateNumber(logp[i]));
    return list;
}

static cJSON *answer_json(const struct eval_run *run, uint64_t index)
{
    const struct task_item *item = &run->task->item[index];
    const struct score_answer *a = &run->answers[index];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "item", (double)index);
    if (item->choice_count) {
        cJSON *tokens = cJSON_CreateArray();
        const uint32_t count = item->choice_count;
        for (uint32_t i = 0; i < count; i++)
            cJSON_AddItemToArray(tokens, cJSON_CreateNumber(a->tokens[i]));
        cJSON_AddItemToObject(json, "logp", numbers(a->logp, count));
        cJSON_AddItemToObject(json, "tokens", tokens);
    }
    if (a->cut) cJSON_AddNumberToObject(json, "cut", (double)a->cut);
    if (a->text) cJSON_AddStringToObject(json, "text", a->text);
    return json;
}

static const cJSON *field(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

static bool read_numbers(const cJSON *json, uint32_t count, struct score_answer *a)
{
    const cJSON *logp = field(json, "logp"), *tokens = field(json, "tokens");
    if (!cJSON_IsArray(logp) || !cJSON_IsArray(tokens) ||
        (uint32_t)cJSON_GetArraySize(logp) != count ||
        (uint32_t)cJSON_GetArraySize(tokens) != count)
        return false;
    const cJSON *own = logp->child, *scored = tokens->child;
    for (uint32_t i = 0; i < count; i++, own = own->next, scored = scored->next) {
        if (!cJSON_IsNumber(scored) || !(scored->valuedouble >= 0 && scored->valuedouble <= 1e9))
            return false;
        a->logp[i] = cJSON_IsNumber(own) ? own->valuedouble : NAN; // JSON knows no NaN
        a->tokens[i] = (uint32_t)scored->valuedouble;
    }
    return true;
}

static bool read_answer(const cJSON *json, struct eval_run *run)
{
    const cJSON *item = field(json, "item"), *cut = field(json, "cut");
    const char *text = cJSON_GetStringValue(field(json, "text"));
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
        item->valuedouble >= (double)run->task->count)
        return false;
    const uint64_t index = (uint64_t)item->valuedouble;
    const struct task_item *of = &run->task->item[index];
    struct score_answer *a = &run->answers[index];
    if (a->done || (of->kind == TASK_GENERATE) != (text != NULL)) return false;
    if (of->choice_count && !read_numbers(json, of->choice_count, a)) return false;
    if (cJSON_IsNumber(cut) && cut->valuedouble > 0) a->cut = (uint64_t)cut->valuedouble;
    if (text) a->text = os_strdup(text);
    return a->done = true;
}

// ---- FILE.answers.jsonl

// Which line is wrong, 0: none. A last line without its end is a torn one: *whole stops before it.
static uint64_t read_lines(const char *text, uint64_t bytes, const char *fingerprint,
                           struct eval_run *run, uint64_t *whole, bool *other)
{
    uint64_t number = 1;
    for (const char *line = text, *stop; line < text + bytes; line = stop + 1, number++) {
        stop = memchr(line, '\n', (size_t)(text + bytes - line));
        if (!stop) return 0;
        cJSON *json = cJSON_ParseWithLength(line, (size_t)(stop - line));
        const char *own = cJSON_GetStringValue(field(json, "fingerprint"));
        const bool ok = number == 1 ? own != NULL : read_answer(json, run);
        *other = number == 1 && own && strcmp(own, fingerprint) != 0;
        cJSON_Delete(json);
        if (!ok || *other) return number;
        run->resumed += number > 1;
        *whole = (uint64_t)(stop + 1 - text);
    }
    return 0;
}

static bool resume(struct eval_file *f, const char *fingerprint, struct eval_run *run,
                   void *text, uint64_t bytes, uint64_t *whole)
{
    bool other = false;
    const uint64_t wrong = read_lines(text, bytes, fingerprint, run, whole, &other);
    if (wrong) {
        log_error("%s:%llu: %s; remove it, or give another --out", f->answers,
                  (unsigned long long)wrong,
                  other ? "answers of another task, model, device or setting" : "no answer");
        return false;
    }
    if (*whole == bytes) return true;
    struct file_writer *writer = file_writer_open(f->answers);
    if (!writer) return false;
    if (file_writer_write(writer, text, *whole)) return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}

static bool print_line(struct eval_file *f, const char *line)
{
    if (fprintf(f->stream, "%s\n", line) >= 0 && fflush(f->stream) == 0) return true;
    log_error("%s: cannot write: %s", f->answers, strerror(errno));
    return false;
}

struct eval_file *eval_file_open(const char *out, const char *fingerprint, struct eval_run *run)
{
    struct eval_file *f = os_alloc(sizeof *f);
    void *text = NULL;
    uint64_t bytes = 0, whole = 0;
    char first[80];
    snprintf(f->out, sizeof f->out, "%s", out);
    snprintf(f->answers, sizeof f->answers, "%s.answers.jsonl", f->out);
    bool ok = !file_exists(f->answers) || file_read(f->answers, 0, &text, &bytes);
    if (ok && bytes) ok = resume(f, fingerprint, run, text, bytes, &whole);
    free(text);
    if (ok && !(f->stream = fopen(f->answers, "ab"))) {
        log_error("%s: cannot write: %s", f->answers, strerror(errno));
        ok = false;
    }
    snprintf(first, sizeof first, "{\"vkmoe_eval\": 1, \"fingerprint\": \"%s\"}", fingerprint);
    if (ok && whole == 0) ok = print_line(f, first);
    if (!ok) eval_file_close(&f);
    return f;
}

bool eval_file_add(struct eval_file *f, const struct eval_run *run, uint64_t index)
{
    cJSON *json = answer_json(run, index);
    char *line = cJSON_PrintUnformatted(json);
    const bool ok = print_line(f, line);
    cJSON_free(line);
    cJSON_Delete(json);
    return ok;
}

void eval_file_close(struct eval_file **file)
{
    struct eval_file *f = *file;
    if (!f) return;
    if (f->stream) fclose(f->stream);
    free(f);
    *file = NULL;
}

// ---- FILE

static void add_finite(cJSON *json, const char *key, double value)
{
    if (isfinite(value)) cJSON_AddNumberToObject(json, key, value);
    else cJSON_AddNullToObject(json, key);
}

static cJSON *metric_json(const struct score_metric *m, enum score_measure measure,
                          const char *domain)
{
    cJSON *json = cJSON_CreateObject();
    char verdict[80];
    if (domain) cJSON_AddStringToObject(json, "domain", domain);
    cJSON_AddStringToObject(json, "score", score_measure_name(measure));
    cJSON_AddNumberToObject(json, "items", (double)m->count);
    if (measure != MEASURE_TEXT) cJSON_AddNumberToObject(json, "right", (double)m->right);
    if (measure != MEASURE_TEXT) cJSON_AddNumberToObject(json, "ties", (double)m->ties);
    add_finite(json, "value", m->value);
    if (measure == MEASURE_TEXT) add_finite(json, "perplexity", m->perplexity);
    add_finite(json, "low", m->interval.low);
    add_finite(json, "high", m->interval.high);
    add_finite(json, "chance", m->chance);
    add_finite(json, "p", m->p);
    score_verdict(m, measure, verdict);
    cJSON_AddStringToObject(json, "verdict", verdict);
    return json;
}

static void add_metrics(cJSON *root, const struct eval_run *run)
{
    cJSON *scores = cJSON_AddArrayToObject(root, "scores"),
          *domains = cJSON_AddArrayToObject(root, "domains");
    const char **list = os_alloc((run->task->count + 1) * sizeof *list);
    const uint64_t count = score_domains(run->task, list);
    for (int m = 0; m < MEASURES; m++) {
        const enum score_measure measure = (enum score_measure)m;
        struct score_metric own =
            score_measure(run->task, run->answers, measure, NULL, run->vocab_size);
        if (own.count == 0) continue;
        cJSON_AddItemToArray(scores, metric_json(&own, measure, NULL));
        for (uint64_t i = 0; i < count; i++) {
            own = score_measure(run->task, run->answers, measure, list[i], run->vocab_size);
            if (own.count) cJSON_AddItemToArray(domains, metric_json(&own, measure, list[i]));
        }
    }
    free(list);
}

static cJSON *whole_answer(const struct eval_run *run, uint64_t index)
{
    const struct task_item *item = &run->task->item[index];
    const struct score_answer *a = &run->answers[index];
    cJSON *json = answer_json(run, index);
    cJSON_AddStringToObject(json, "kind", task_kind_name(item->kind));
    if (*item->id) cJSON_AddStringToObject(json, "id", item->id);
    if (*item->domain) cJSON_AddStringToObject(json, "domain", item->domain);
    if (item->kind == TASK_PAIRS)
        cJSON_AddBoolToObject(json, "right", score_right(item, a, MEASURE_PAIRS));
    if (item->kind == TASK_GENERATE && item->match != TASK_SAMPLE)
        cJSON_AddBoolToObject(json, "right", score_right(item, a, MEASURE_GENERATE));
    if (item->kind != TASK_CHOICE) return json;
    cJSON_AddNumberToObject(json, "answer", item->answer);
    cJSON_AddNumberToObject(json, "picked", score_picked(item, a, MEASURE_SUM));
    cJSON_AddNumberToObject(json, "picked_per_byte", score_picked(item, a, MEASURE_BYTES));
    return json;
}

static char *print_all(const struct eval_run *run, bool with_answers)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "task", run->cli->task);
    cJSON_AddStringToObject(root, "format", task_format_name(run->task->format));
    cJSON_AddNumberToObject(root, "items", (double)run->task->count);
    cJSON_AddNumberToObject(root, "shots", run->settings.shots);
    cJSON_AddStringToObject(root, "task_fingerprint", run->task_fingerprint);
    cJSON_AddStringToObject(root, "model", run->model_path);
    cJSON_AddStringToObject(root, "model_fingerprint", run->model_fingerprint);
    cJSON_AddNumberToObject(root, "vocab_size", run->vocab_size);
    add_metrics(root, run);
    cJSON *answers = with_answers ? cJSON_AddArrayToObject(root, "answers") : NULL;
    for (uint64_t i = 0; with_answers && i < run->task->count; i++)
        cJSON_AddItemToArray(answers, whole_answer(run, i));
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

void eval_task_json(const struct eval_run *run)
{
    char *text = print_all(run, false);
    puts(text);
    cJSON_free(text);
}

static bool write_text(const char *path, const char *text, size_t bytes)
{
    struct file_writer *writer = file_writer_open(path);
    if (!writer) return false;
    if (file_writer_write(writer, text, bytes) && file_writer_write(writer, "\n", bytes != 0))
        return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}

static bool write_samples(const struct eval_file *f, const struct eval_run *run)
{
    char path[PATH_BYTES + 32];
    struct bytes all = {0};
    const size_t length = strlen(f->out);
    const bool json = length > 5 && !strcmp(f->out + length - 5, ".json");
    snprintf(path, sizeof path, "%.*s.samples.jsonl", (int)(json ? length - 5 : length), f->out);
    for (uint64_t i = 0; i < run->task->count; i++) {
        if (run->task->item[i].match != TASK_SAMPLE) continue;
        cJSON *sample = cJSON_CreateObject();
        cJSON_AddStringToObject(sample, "task_id", run->task->item[i].id);
        cJSON_AddStringToObject(sample, "completion", run->answers[i].text);
        if (all.count) bytes_printf(&all, "\n");
        bytes_json(&all, sample);
    }
    const bool ok = all.count == 0 || write_text(path, (const char *)all.data, all.count);
    if (ok && all.count) log_info("samples for the official scorer: %s", path);
    bytes_free(&all);
    return ok;
}

bool eval_file_commit(struct eval_file **file, const struct eval_run *run)
{
    struct eval_file *f = *file;
    char *text = print_all(run, true);
    bool ok = text && write_samples(f, run) && write_text(f->out, text, strlen(text));
    cJSON_free(text);
    if (ok && remove(f->answers) != 0) {
        log_error("%s: cannot remove: %s", f->answers, strerror(errno));
        ok = false;
    }
    eval_file_close(file);
    return ok;
}

bool eval_file_is(const char *path)
{
    const size_t length = strlen(path);
    return length > 5 && !strcmp(path + length - 5, ".json") && !folder_is(path);
}

static const char *take_all(const cJSON *root, struct eval_run *run)
{
    const cJSON *answers = field(root, "answers"), *vocab = field(root, "vocab_size");
    const char *task = cJSON_GetStringValue(field(root, "task_fingerprint")),
               *model = cJSON_GetStringValue(field(root, "model_fingerprint"));
    if (!task || !model || !cJSON_IsArray(answers) || !cJSON_IsNumber(vocab))
        return "not a result of vkmoe eval --task ... --out";
    if (strcmp(task, run->task_fingerprint) != 0)
        return "answers to another task, or with other --shots, --seed, --limit, --stride or "
               "--max-tokens";
    snprintf(run->model_fingerprint, sizeof run->model_fingerprint, "%s", model);
    run->vocab_size = (uint32_t)fmin(fmax(vocab->valuedouble, 1), 4e9);
    for (const cJSON *at = answers->child; at; at = at->next)
        if (!read_answer(at, run)) return "an answer that does not belong to the task";
    for (uint64_t i = 0; i < run->task->count; i++)
        if (!run->answers[i].done) return "not all items are answered";
    return NULL;
}

bool eval_file_read(const char *path, struct eval_run *run)
{
    void *text = NULL;
    uint64_t bytes;
    if (!file_read(path, 0, &text, &bytes)) return false;
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    const char *problem = root ? take_all(root, run) : "not JSON";
    if (problem) log_error("%s: %s", path, problem);
    cJSON_Delete(root);
    free(text);
    return !problem;
}

// ---- which model

enum { WHOLE = 16 << 20, EDGE = 64 << 10, BLOCK = 4096, BLOCKS = 512 };

static void add_file(struct bytes *all, const char *name, const struct file_map *map)
{
    bytes_printf(all, "%s %llu ", name, (unsigned long long)map->bytes);
    if (map->bytes <= WHOLE) {
        const uint64_t hash = checksum_xxh64(map->data, map->bytes);
        bytes_append(all, &hash, sizeof hash);
        return;
    }
    bytes_append(all, map->data, EDGE);
    bytes_append(all, map->data + map->bytes - EDGE, EDGE);
    for (uint64_t i = 0; i < BLOCKS; i++)
        bytes_append(all, map->data + map->bytes / BLOCKS * i, BLOCK);
}

static bool has_end(const char *name, const char *end)
{
    const size_t length = strlen(name), own = strlen(end);
    return length >= own && !strcmp(name + length - own, end);
}

static bool add_path(struct bytes *all, const char *path, const char *name)
{
    struct file_map map;
    if (!file_map(path, &map)) return false;
    add_file(all, name, &map);
    file_unmap(&map);
    return true;
}

// What decides over the weights: not the run's metrics and traces.
static bool add_folder(struct bytes *all, const char *path, bool store)
{
    struct folder folder;
    char full[2 * PATH_BYTES];
    bool ok = folder_list(path, &folder);
    if (!ok) return false;
    for (uint32_t i = 0; ok && i < folder.count; i++) {
        const char *name = folder.entry[i].name;
        snprintf(full, sizeof full, "%s/%s", path, name);
        if (folder.entry[i].is_folder && !strcmp(name, "experts"))
            ok = add_folder(all, full, true);
        else if (!folder.entry[i].is_folder &&
                 (store || has_end(name, ".safetensors") || !strcmp(name, "config.json") ||
                  !strcmp(name, "tokenizer.json")))
            ok = add_path(all, full, name);
    }
    folder_free(&folder);
    return ok;
}

bool eval_model_fingerprint(const char *path, const struct cli *cli, const char *device,
                            char out[17])
{
    struct bytes all = {0};
    bytes_printf(&all, "%s %s ", cli->model.weights ? cli->model.weights : "model", device);
    const bool ok = folder_is(path) ? add_folder(&all, path, false) : add_path(&all, path, "");
    snprintf(out, 17, "%016llx", (unsigned long long)checksum_xxh64(all.data, all.count));
    bytes_free(&all);
    return ok;
}
