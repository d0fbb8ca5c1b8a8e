// SPDX-License-Identifier: MIT
// metrics.jsonl: statistics of a step's routing, and the file they are appended to. See metrics.h.
#include "src/metrics.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"

struct metrics {
    char        *path;
    FILE        *file;
    struct bytes line;   // reused, so that a step allocates nothing once the first is written
    bool         failed;
};

void metrics_layer_fill(struct metrics_layer *out, uint32_t layer, const float *counts,
                        uint32_t experts, double balance_loss, double z_loss)
{
    *out = (struct metrics_layer){.layer = layer, .load = counts, .experts = experts,
                                  .balance_loss = balance_loss, .z_loss = z_loss,
                                  .dropped = -1, .token_entropy = NAN,
                                  .least_entropy = NAN};
    for (uint32_t e = 0; e < experts; e++) out->total += counts[e];
    for (uint32_t e = 0; e < experts; e++) {
        const double share = out->total > 0 ? counts[e] / out->total : 0;
        if (share > 0) out->entropy -= share * log(share);
        if (share > out->max_share) {
            out->max_share = share;
            out->max_expert = e;
        }
        out->dead += !(counts[e] > 0);
    }
    // one expert is always balanced
    out->entropy = experts > 1 ? out->entropy / log(experts) : 1;
}

// ---- the file

// Whether a line belongs to the run up to last_step. A line that cannot be read does not.
static bool is_kept(const char *line, size_t bytes, uint32_t last_step)
{
    cJSON *root = cJSON_ParseWithLength(line, bytes);
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(root, "step");
    const bool kept = cJSON_IsNumber(step) && step->valuedouble <= last_step;
    cJSON_Delete(root);
    return kept;
}

static bool keep_lines(struct file_writer *writer, const char *text, uint64_t bytes,
                       uint32_t last_step)
{
    const char *const end = text + bytes;
    for (const char *line = text, *stop; line < end; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) break;
        const size_t length = (size_t)(stop - line);
        if (is_kept(line, length, last_step) && !file_writer_write(writer, line, length + 1))
            return false;
    }
    return true; // what follows the last newline is a torn line
}

static bool rewrite(const char *path, uint32_t last_step)
{
    void *text = NULL;
    uint64_t bytes = 0;
    if (last_step > 0 && file_exists(path) && !file_read(path, 0, &text, &bytes)) return false;
    struct file_writer *writer = file_writer_open(path);
    bool ok = writer && (!text || keep_lines(writer, text, bytes, last_step));
    if (ok)
        ok = file_writer_commit(&writer);
    else if (writer)
        file_writer_abort(&writer);
    free(text);
    return ok;
}

struct metrics *metrics_open(const char *path, uint32_t last_step)
{
    if (!rewrite(path, last_step)) return NULL;
    FILE *file = fopen(path, "ab");
    if (!file) {
        log_error("%s: cannot append: %s", path, strerror(errno));
        return NULL;
    }
    struct metrics *metrics = os_alloc(sizeof *metrics);
    metrics->path = os_strdup(path);
    metrics->file = file;
    return metrics;
}

void metrics_close(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (!m) return;
    if (fclose(m->file) != 0 && !m->failed)
        log_error("%s: cannot write: %s", m->path, strerror(errno));
    bytes_free(&m->line);
    free(m->path);
    free(m);
    *metrics = NULL;
}

// ---- lines

// JSON knows neither infinity nor NaN.
static void add_rounded(struct bytes *line, const char *key, double value, int digits)
{
    if (isfinite(value))
        bytes_printf(line, "%s%.*g", key, digits, value);
    else
        bytes_printf(line, "%snull", key);
}

static void add_number(struct bytes *line, const char *key, double value)
{
    add_rounded(line, key, value, 9); // an f32 comes back as it was
}

static double load_of(const struct metrics_layer *layer, uint32_t expert)
{
    const double ideal = layer->total / layer->experts;
    return ideal > 0 ? layer->load[expert] / ideal : 0;
}

// The experts with most picks, the lower id first where they are equal.
static void add_top(struct bytes *line, const struct metrics_layer *layer)
{
    uint32_t top[METRICS_TOP + 1], count = 0;
    for (uint32_t e = 0; e < layer->experts; e++) {
        uint32_t at = count;
        for (; at > 0 && layer->load[e] > layer->load[top[at - 1]]; at--) top[at] = top[at - 1];
        top[at] = e;
        count = min_u32(count + 1, METRICS_TOP);
    }
    for (uint32_t i = 0; i < count; i++) {
        bytes_printf(line, "%s[%u", i ? ", " : "", top[i]);
        add_rounded(line, ", ", load_of(layer, top[i]), 4);
        bytes_printf(line, "]");
    }
}

// Of experts with 0, 1, 2-3, 4-7 ... picks.
static void add_histogram(struct bytes *line, const struct metrics_layer *layer)
{
    uint32_t count[34] = {0}, last = 0;
    for (uint32_t e = 0; e < layer->experts; e++) {
        const uint32_t picks = (uint32_t)layer->load[e];
        const uint32_t at = picks ? 32 - (uint32_t)__builtin_clz(picks) : 0;
        count[at]++;
        last = max_u32(last, at);
    }
    for (uint32_t i = 0; i <= last; i++) bytes_printf(line, "%s%u", i ? ", " : "", count[i]);
}

static void add_load(struct bytes *line, const struct metrics_layer *layer)
{
    if (layer->experts > METRICS_LOADS) {
        bytes_printf(line, "\"load_top\": [");
        add_top(line, layer);
        bytes_printf(line, "], \"load_histogram\": [");
        add_histogram(line, layer);
        bytes_printf(line, "]");
        return;
    }
    bytes_printf(line, "\"load\": [");
    for (uint32_t e = 0; e < layer->experts; e++)
        add_rounded(line, e ? ", " : "", load_of(layer, e), 4);
    bytes_printf(line, "]");
}

static void add_routing(struct bytes *line, const struct metrics_layer *layer)
{
    const double active = 1 - (double)layer->dead / max_u32(layer->experts, 1);
    add_number(line, ", \"token_entropy\": ", layer->token_entropy);
    add_number(line, ", \"least_entropy\": ", layer->least_entropy);
    bytes_printf(line, ", \"max_expert\": %u", layer->max_expert);
    add_rounded(line, ", \"active\": ", active, 6);
    bytes_printf(line, ", \"used\": %u", layer->used);
    add_number(line, ", \"kept\": ", layer->total);
    bytes_printf(line, ", \"together\": [");
    for (uint32_t i = 0; i < layer->pairs; i++) {
        const struct metrics_pair *pair = &layer->pair[i];
        bytes_printf(line, "%s[%u, %u", i ? ", " : "", pair->low, pair->high);
        add_rounded(line, ", ", pair->share, 4);
        bytes_printf(line, "]");
    }
    bytes_printf(line, "]%s", layer->alarm ? ", \"alarm\": true" : "");
}

static void add_layer(struct bytes *line, const struct metrics_layer *layer)
{
    bytes_printf(line, "{\"layer\": %u, ", layer->layer);
    add_load(line, layer);
    add_number(line, ", \"entropy\": ", layer->entropy);
    add_number(line, ", \"max_share\": ", layer->max_share);
    bytes_printf(line, ", \"dead\": %u", layer->dead);
    add_number(line, ", \"balance_loss\": ", layer->balance_loss);
    add_number(line, ", \"z_loss\": ", layer->z_loss);
    bytes_printf(line, ", \"losses\": {");
    for (uint32_t i = 0; i < layer->losses; i++) {
        bytes_printf(line, "%s\"%s\"", i ? ", " : "", layer->loss[i].name);
        add_number(line, ": ", layer->loss[i].value);
    }
    bytes_printf(line, "}");
    if (layer->experts_per_token > 0)
        add_rounded(line, ", \"experts_per_token\": ", layer->experts_per_token, 6);
    if (layer->dropped >= 0) add_number(line, ", \"dropped\": ", layer->dropped);
    add_routing(line, layer);
    bytes_printf(line, "}");
}

// The whole line in one write: a reader of the growing file sees half a line at most for a moment.
static bool put_line(struct metrics *metrics)
{
    if (metrics->failed) return false;
    const size_t count = metrics->line.count;
    if (fwrite(metrics->line.data, 1, count, metrics->file) == count && fflush(metrics->file) == 0)
        return true;
    metrics->failed = true;
    log_error("%s: cannot write: %s; no more metrics of this run", metrics->path, strerror(errno));
    return false;
}

double metrics_hit_rate(const struct metrics_experts *experts)
{
    const uint64_t all = experts->hits + experts->misses;
    return all ? (double)experts->hits / (double)all : 1;
}

static void add_experts(struct bytes *line, const struct metrics_experts *x)
{
    if (!x->slots) return;
    bytes_printf(line, ", \"experts\": {\"slots\": %u, \"hits\": %llu, \"misses\": %llu", x->slots,
                 (unsigned long long)x->hits, (unsigned long long)x->misses);
    add_rounded(line, ", \"hit_rate\": ", metrics_hit_rate(x), 4);
    bytes_printf(line, ", \"prefetched\": %llu, \"prefetched_used\": %llu",
                 (unsigned long long)x->prefetched, (unsigned long long)x->prefetched_used);
    bytes_printf(line,
                 ", \"read_bytes\": %llu, \"written_bytes\": %llu, \"spilled_bytes\": %llu",
                 (unsigned long long)x->read_bytes, (unsigned long long)x->written_bytes,
                 (unsigned long long)x->spilled_bytes);
    add_rounded(line, ", \"load_ms\": ", x->load_ms, 5);
    add_rounded(line, ", \"wait_ms\": ", x->wait_ms, 5);
    if (x->load_gbps > 0) add_rounded(line, ", \"load_gbps\": ", x->load_gbps, 4);
    if (x->read_peak_gbps > 0)
        add_rounded(line, ", \"read_peak_gbps\": ", x->read_peak_gbps, 4);
    if (x->copy_peak_gbps > 0)
        add_rounded(line, ", \"copy_peak_gbps\": ", x->copy_peak_gbps, 4);
    bytes_printf(line, "}");
}

static void add_string(struct bytes *line, const char *key, const char *text)
{
    bytes_printf(line, "%s", key);
    bytes_json(line, cJSON_CreateString(text));
}

static void add_turn(struct bytes *line, const struct metrics_turn *turn)
{
    if (!turn->domain) return;
    add_string(line, ", \"turn\": {\"domain\": ", turn->domain);
    bytes_printf(line, ", \"visit\": %u, \"epoch\": %u", turn->visit, turn->epoch);
    if (turn->drawn) {
        add_number(line, ", \"reward\": ", turn->terms.reward);
        add_number(line, ", \"novelty\": ", turn->terms.novelty);
        add_number(line, ", \"weakness\": ", turn->terms.weakness);
        add_number(line, ", \"improvement\": ", turn->terms.improvement);
        add_number(line, ", \"bonus\": ", turn->terms.bonus);
    }
    bytes_printf(line, "}");
}

bool metrics_write_step(struct metrics *metrics, const struct metrics_step *step,
                        const struct metrics_layer *layer, uint32_t layer_count)
{
    struct bytes *line = &metrics->line;
    line->count = 0;
    bytes_printf(line, "{\"step\": %u", step->step);
    add_number(line, ", \"loss\": ", step->loss);
    add_number(line, ", \"lr\": ", step->lr);
    add_number(line, ", \"grad_norm\": ", step->grad_norm);
    add_number(line, ", \"tokens_per_s\": ", step->tokens_per_s);
    bytes_printf(line, ", \"device_bytes\": %llu, \"host_bytes\": %llu",
                 (unsigned long long)step->device_bytes, (unsigned long long)step->host_bytes);
    bytes_printf(line, ", \"device_peak_bytes\": %llu, \"host_peak_bytes\": %llu",
                 (unsigned long long)step->device_peak, (unsigned long long)step->host_peak);
    if (step->skipped) bytes_printf(line, ", \"skipped\": true");
    add_turn(line, &step->turn);
    add_experts(line, &step->experts);
    bytes_printf(line, ", \"layers\": [");
    for (uint32_t i = 0; i < layer_count; i++) {
        if (i > 0) bytes_printf(line, ", ");
        add_layer(line, &layer[i]);
    }
    bytes_printf(line, "]}\n");
    return put_line(metrics);
}

static bool write_eval(struct metrics *metrics, uint32_t step, const char *prefix,
                       double eval_loss, double bits_per_byte)
{
    struct bytes *line = &metrics->line;
    char key[2][40];
    snprintf(key[0], sizeof key[0], ", \"%seval_loss\": ", prefix);
    snprintf(key[1], sizeof key[1], ", \"%sbpb\": ", prefix);
    line->count = 0;
    bytes_printf(line, "{\"step\": %u", step);
    add_number(line, key[0], eval_loss);
    add_number(line, key[1], bits_per_byte);
    bytes_printf(line, "}\n");
    return put_line(metrics);
}

bool metrics_write_eval(struct metrics *metrics, uint32_t step, double eval_loss,
                        double bits_per_byte)
{
    return write_eval(metrics, step, "", eval_loss, bits_per_byte);
}

bool metrics_write_average(struct metrics *metrics, uint32_t step, double eval_loss,
                           double bits_per_byte)
{
    return write_eval(metrics, step, "average_", eval_loss, bits_per_byte);
}

bool metrics_write_domain(struct metrics *metrics, const struct metrics_domain *domain)
{
    struct bytes *line = &metrics->line;
    line->count = 0;
    bytes_printf(line, "{\"step\": %u", domain->step);
    add_string(line, ", \"domain\": ", domain->domain);
    add_string(line, ", \"at\": ", domain->at);
    add_number(line, ", \"domain_loss\": ", domain->loss);
    add_number(line, ", \"bpb\": ", domain->bits_per_byte);
    bytes_printf(line, ", \"targets\": %llu}\n", (unsigned long long)domain->targets);
    return put_line(metrics);
}
