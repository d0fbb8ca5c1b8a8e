// SPDX-License-Identifier: MIT
// report.md, for people, and report.json, with everything that the pictures and tables show.
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "src/vkmoe_internal.h"
#include "tools/inspect.h"

enum { EXPERTS_IN_MARKDOWN = 16 };

// ---- text of tokens

// Length of the UTF-8 character at `at`, 0 where there is none.
static size_t character(const uint8_t *at, size_t left)
{
    const size_t length = *at < 0x80 ? 1 : *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : 2;
    if (*at > 0xf4 || (*at >= 0x80 && *at < 0xc2) || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return length;
}

// On one line, valid UTF-8, without what Markdown takes for its own in a table's cell.
static char *readable(struct arena *arena, const uint8_t *text, size_t bytes)
{
    struct bytes out = {0};
    for (size_t i = 0, length; i < bytes; i += max_u64(length, 1)) {
        length = character(text + i, bytes - i);
        if (text[i] == '\n') bytes_printf(&out, "\u23ce");
        else if (text[i] == '\t') bytes_printf(&out, "\u21e5");
        else if (text[i] == '|') bytes_printf(&out, "\u00a6");
        else if (text[i] == '`') bytes_printf(&out, "'");
        else if (length == 0 || text[i] < 0x20 || text[i] == 0x7f)
            bytes_printf(&out, "\\x%02x", text[i]);
        else bytes_append(&out, text + i, length);
    }
    bytes_append(&out, "", 1);
    char *own = arena_strdup(arena, (const char *)out.data);
    bytes_free(&out);
    return own;
}

static char *token_text(const struct inspect *in, const uint32_t *ids, uint32_t count)
{
    const struct tokenizer *tokenizer = in->model->tokenizer;
    struct bytes out = {0};
    for (uint32_t i = 0; i < count; i++) {
        if (tokenizer && tokenizer_id_bytes(tokenizer, ids[i]))
            tokenizer_decode(tokenizer, &ids[i], 1, &out);
        else if (tokenizer && ids[i] == tokenizer_eot(tokenizer)) bytes_printf(&out, "<end>");
        else bytes_printf(&out, "<%u>", ids[i]);
    }
    char *text = readable(in->arena, out.data, out.count);
    bytes_free(&out);
    return text;
}

struct snippet { const char *before, *token, *after; };

// The token in its window.
static struct snippet snippet_of(const struct inspect *in, const struct inspect_token *t)
{
    const uint32_t begin = t->at - t->at % in->seq_len, end = begin + in->seq_len;
    const uint32_t from = t->at - min_u32(t->at - begin, INSPECT_CONTEXT),
                   to = min_u32(t->at + 1 + INSPECT_CONTEXT, end);
    return (struct snippet){token_text(in, in->ids + from, t->at - from),
                            token_text(in, &t->id, 1),
                            token_text(in, in->ids + t->at + 1, to - t->at - 1)};
}

// ---- Markdown

static void add_controlled(struct bytes *out, const struct routing_control *c)
{
    bytes_printf(out, " %.4f | %.4f ± %.4f | %.4f ± %.4f |", c->value, c->mean, c->deviation,
                 c->documents, c->documents_deviation);
}

static void add_layers(struct bytes *out, const struct inspect *in)
{
    bytes_printf(out, "| layer | K | load entropy | largest share | idle | used ever | I(expert; "
                      "domain) | shuffled | documents shuffled | of H(domain) | beyond the token "
                      "| shuffled | documents shuffled |\n|--:|--:|--:|:--|--:|--:|--:|:--|:--|--:|"
                      "--:|:--|:--|\n");
    for (uint32_t i = 0; i < in->layers; i++) {
        const struct inspect_layer *l = &in->layer[i];
        const struct routing_information *own = &l->information;
        bytes_printf(out,
                     "| %u | %u | %.3f | %.3f (expert %u) | %u | %u |", l->number, l->top_k,
                     l->entropy, l->max_share, l->max_expert, l->dead, l->ever);
        add_controlled(out, &own->domain);
        bytes_printf(out, " %.1f %% |",
                     own->domain_bits > 0 ? 100 * own->domain.value / own->domain_bits : 0);
        add_controlled(out, &own->given_token);
        bytes_printf(out, "\n");
    }
}

static void add_definitions(struct bytes *out)
{
    bytes_printf(
        out,
        "\nEntropy of the load over its largest value (1: even). Idle: experts that take no token "
        "of this text; used ever: experts with a pick in training. I(expert; domain): mutual "
        "information in bits, of the pairs (token, expert taken); shuffled: the same with the "
        "domains permuted over the tokens, mean ± deviation of %d, which is what chance gives. "
        "Beyond the token: I(expert; domain | token id), which a router that knows only the token "
        "in front of it cannot have; its control permutes the domains among equal tokens. "
        "Documents shuffled: each document gets the domain of another; tokens of one document go "
        "with each other, so that this control is the higher one, and what is above it is of the "
        "domain.\n\n",
        INSPECT_SHUFFLES);
}

static void add_head(struct bytes *out, const struct inspect *in, const char *folder)
{
    bytes_printf(out, "# Routing of %s\n\n", folder);
    bytes_printf(out, "%u MoE layers of %u experts on %s: %u tokens, loss %.4f nats. Domains:",
                 in->layers, in->experts, in->source, in->counted, in->loss);
    for (uint32_t d = 0; d < in->domains; d++)
        bytes_printf(out, "%s %s %.0f", d ? "," : "", in->domain_name[d], in->domain_tokens[d]);
    bytes_printf(out, " tokens.");
    if (in->experts > INSPECT_SHOWN)
        bytes_printf(out, " Of each layer the %d experts with most picks are shown; the numbers of "
                          "this table are of all.", INSPECT_SHOWN);
    if (in->layers > INSPECT_PANELS)
        bytes_printf(out, " The pictures show %d layers.", INSPECT_PANELS);
    bytes_printf(out, "\n\n");
}

static void add_picture(struct bytes *out, const char *folder, const char *name, const char *about)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4100s/%s.png", folder, name);
    if (file_exists(path)) bytes_printf(out, "![%s](%s.png)\n\n", about, name);
}

static void add_run(struct bytes *out, const struct inspect *in, const char *folder)
{
    bytes_printf(out, "## Over the run: %u steps\n\n", in->steps);
    add_picture(out, folder, "run", "entropy, largest share, idle and used experts over the run");
    for (uint32_t i = 0; i < in->alarms; i++)
        bytes_printf(out, "- step %u: layer %u had collapsed, most tokens took expert %u\n",
                     in->alarm[i].step, in->alarm[i].layer, in->alarm[i].expert);
    bytes_printf(out, "%s", in->alarms ? "\n" : "No collapse was reported.\n\n");
    if (in->checkpoints < 2) {
        bytes_printf(out, "The run kept one checkpoint, so router saturation cannot be said "
                          "(`save_total_limit` keeps more).\n\n");
        return;
    }
    bytes_printf(out, "Router saturation: of the experts taken at the end, the share that a "
                      "checkpoint takes for the same token (in brackets: 0 is chance).\n\n"
                      "| layer |");
    for (uint32_t c = 0; c < in->checkpoints; c++)
        bytes_printf(out, " %llu |", (unsigned long long)in->checkpoint[c]);
    bytes_printf(out, "\n|--:|");
    for (uint32_t c = 0; c < in->checkpoints; c++) bytes_printf(out, "--:|");
    for (uint32_t i = 0; i < in->layers; i++) {
        const struct inspect_layer *l = &in->layer[i];
        const double chance = l->kept / in->counted / in->experts;
        bytes_printf(out, "\n| %u |", l->number);
        for (uint32_t c = 0; c < in->checkpoints; c++)
            bytes_printf(out, " %.3f (%.2f) |", l->saturation[c],
                         chance < 1 ? (l->saturation[c] - chance) / (1 - chance) : 1);
    }
    bytes_printf(out, "\n\n");
}

static void add_tokens(struct bytes *out, const struct inspect *in, const struct inspect_expert *x)
{
    for (uint32_t t = 0; t < x->tokens; t++)
        bytes_printf(out, "%s`%s` %.1fx", t ? ", " : "", token_text(in, &x->token[t].id, 1),
                     x->token[t].lift);
    bytes_printf(out, " | ");
    if (!x->tokens) return;
    const struct snippet s = snippet_of(in, &x->token[0]);
    bytes_printf(out, "%s**[%s]**%s", *s.before ? arena_printf(in->arena, "`%s`", s.before) : "",
                 s.token, *s.after ? arena_printf(in->arena, "`%s`", s.after) : "");
}

static void add_experts(struct bytes *out, const struct inspect *in, const struct inspect_layer *l)
{
    const uint32_t shown = min_u32(l->shown, EXPERTS_IN_MARKDOWN);
    bytes_printf(out, "### Layer %u%s\n\n| expert | load |", l->number,
                 shown < in->experts
                     ? arena_printf(in->arena, ": the %u experts with most picks", shown) : "");
    for (uint32_t d = 0; d < in->domains; d++) bytes_printf(out, " %s |", in->domain_name[d]);
    bytes_printf(out, " tokens it takes more often than chance | where |\n|--:|--:|");
    for (uint32_t d = 0; d < in->domains; d++) bytes_printf(out, "--:|");
    bytes_printf(out, ":--|:--|\n");
    for (uint32_t i = 0; i < shown; i++) {
        const uint32_t e = l->show[i];
        bytes_printf(out, "| %u | %.2f |", e, l->counts[e] * in->experts / fmax(l->kept, 1));
        for (uint32_t d = 0; d < in->domains; d++)
            bytes_printf(out, " %.2f |", l->by_domain[(size_t)e * in->domains + d] /
                                             fmax(in->domain_tokens[d], 1));
        bytes_printf(out, " ");
        add_tokens(out, in, &l->expert[i]);
        bytes_printf(out, " |\n");
    }
    bytes_printf(out, "\n");
}

static char *markdown(const struct inspect *in, const char *out_folder)
{
    struct bytes out = {0};
    add_head(&out, in, in->folder);
    add_layers(&out, in);
    add_definitions(&out);
    add_picture(&out, out_folder, "information", "information with its control, saturation");
    add_run(&out, in, out_folder);
    bytes_printf(&out, "## Experts\n\nLoad: 1 is the fair share. Of a domain: the share of its "
                       "tokens that take the expert. A token's number: how many times as often the "
                       "expert takes it as an average one.\n\n");
    add_picture(&out, out_folder, "domains", "expert by domain");
    for (uint32_t i = 0; i < in->layers; i++) add_experts(&out, in, &in->layer[i]);
    bytes_printf(&out, "## Taken together\n\nOf the tokens that take the row's expert, the share "
                       "that take the column's too; report.json has the numbers.\n\n");
    add_picture(&out, out_folder, "together", "co-activation");
    return (char *)out.data;
}

// ---- JSON

static cJSON *numbers(const double *value, uint32_t count)
{
    cJSON *array = cJSON_CreateArray();
    for (uint32_t i = 0; i < count; i++)
        cJSON_AddItemToArray(array, isfinite(value[i]) ? cJSON_CreateNumber(value[i])
                                                       : cJSON_CreateNull());
    return array;
}

static void add_control(cJSON *json, const char *key, const struct routing_control *c)
{
    cJSON *own = cJSON_AddObjectToObject(json, key);
    cJSON_AddNumberToObject(own, "bits", c->value);
    cJSON_AddNumberToObject(own, "shuffled", c->mean);
    cJSON_AddNumberToObject(own, "deviation", c->deviation);
    cJSON_AddNumberToObject(own, "documents_shuffled", c->documents);
    cJSON_AddNumberToObject(own, "documents_deviation", c->documents_deviation);
}

static cJSON *token_json(const struct inspect *in, const struct inspect_token *t)
{
    const struct snippet s = snippet_of(in, t);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "id", t->id);
    cJSON_AddNumberToObject(json, "count", t->count);
    cJSON_AddNumberToObject(json, "lift", t->lift);
    cJSON_AddStringToObject(json, "before", s.before);
    cJSON_AddStringToObject(json, "token", s.token);
    cJSON_AddStringToObject(json, "after", s.after);
    return json;
}

static cJSON *expert_json(const struct inspect *in, const struct inspect_layer *l, uint32_t place)
{
    const struct inspect_expert *x = &l->expert[place];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "expert", x->expert);
    cJSON_AddNumberToObject(json, "picks", l->counts[x->expert]);
    cJSON_AddItemToObject(json, "domains",
                          numbers(l->by_domain + (size_t)x->expert * in->domains, in->domains));
    cJSON *tokens = cJSON_AddArrayToObject(json, "tokens");
    for (uint32_t t = 0; t < x->tokens; t++)
        cJSON_AddItemToArray(tokens, token_json(in, &x->token[t]));
    cJSON_AddItemToObject(json, "together", numbers(l->together + (size_t)place * l->shown,
                                                    l->shown));
    return json;
}

static void add_curves(cJSON *json, const struct inspect_layer *l)
{
    cJSON *run = cJSON_AddObjectToObject(json, "run");
    cJSON_AddItemToObject(run, "entropy", numbers(l->entropies, INSPECT_POINTS));
    cJSON_AddItemToObject(run, "max_share", numbers(l->shares, INSPECT_POINTS));
    cJSON_AddItemToObject(run, "dead", numbers(l->idle, INSPECT_POINTS));
    cJSON_AddItemToObject(run, "used", numbers(l->used, INSPECT_POINTS));
}

static cJSON *layer_json(const struct inspect *in, const struct inspect_layer *l)
{
    cJSON *json = cJSON_CreateObject(), *experts;
    cJSON_AddNumberToObject(json, "layer", l->number);
    cJSON_AddNumberToObject(json, "experts_per_token", l->top_k);
    cJSON_AddNumberToObject(json, "picks", l->kept);
    cJSON_AddNumberToObject(json, "entropy", l->entropy);
    cJSON_AddNumberToObject(json, "max_share", l->max_share);
    cJSON_AddNumberToObject(json, "max_expert", l->max_expert);
    cJSON_AddNumberToObject(json, "dead", l->dead);
    cJSON_AddNumberToObject(json, "domain_bits", l->information.domain_bits);
    add_control(json, "information", &l->information.domain);
    add_control(json, "given_token", &l->information.given_token);
    cJSON_AddItemToObject(json, "saturation", numbers(l->saturation, in->checkpoints));
    add_curves(json, l);
    experts = cJSON_AddArrayToObject(json, "experts"); // those that are shown, most picks first
    for (uint32_t i = 0; i < l->shown; i++)
        cJSON_AddItemToArray(experts, expert_json(in, l, i));
    return json;
}

static void add_text(cJSON *json, const struct inspect *in)
{
    cJSON *text = cJSON_AddObjectToObject(json, "text"), *domains;
    cJSON_AddStringToObject(text, "source", in->source);
    cJSON_AddNumberToObject(text, "tokens", in->counted);
    cJSON_AddNumberToObject(text, "loss", in->loss);
    domains = cJSON_AddArrayToObject(text, "domains");
    for (uint32_t d = 0; d < in->domains; d++) {
        cJSON *own = cJSON_CreateObject();
        cJSON_AddStringToObject(own, "name", in->domain_name[d]);
        cJSON_AddNumberToObject(own, "tokens", in->domain_tokens[d]);
        cJSON_AddItemToArray(domains, own);
    }
}

static void add_summary(cJSON *json, const struct inspect *in)
{
    const struct inspect_summary s = inspect_summarise(in);
    cJSON *own = cJSON_AddObjectToObject(json, "summary");
    cJSON_AddNumberToObject(own, "information", s.information);
    cJSON_AddNumberToObject(own, "shuffled", s.shuffled);
    cJSON_AddNumberToObject(own, "documents_shuffled", s.documents);
    cJSON_AddNumberToObject(own, "given_token", s.given_token);
    cJSON_AddNumberToObject(own, "given_shuffled", s.given_shuffled);
    cJSON_AddNumberToObject(own, "given_documents_shuffled", s.given_documents);
    cJSON_AddNumberToObject(own, "domain_bits", s.domain_bits);
}

static char *json_text(const struct inspect *in)
{
    cJSON *json = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(json, "run", in->folder);
    cJSON_AddNumberToObject(json, "steps", in->steps);
    cJSON_AddNumberToObject(json, "num_experts", in->experts);
    add_text(json, in);
    add_summary(json, in);
    list = cJSON_AddArrayToObject(json, "checkpoints");
    for (uint32_t c = 0; c < in->checkpoints; c++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)in->checkpoint[c]));
    list = cJSON_AddArrayToObject(json, "alarms");
    for (uint32_t i = 0; i < in->alarms; i++) {
        cJSON *own = cJSON_CreateObject();
        cJSON_AddNumberToObject(own, "step", in->alarm[i].step);
        cJSON_AddNumberToObject(own, "layer", in->alarm[i].layer);
        cJSON_AddNumberToObject(own, "expert", in->alarm[i].expert);
        cJSON_AddItemToArray(list, own);
    }
    cJSON_AddItemToObject(json, "loss", numbers(in->losses, INSPECT_POINTS));
    list = cJSON_AddArrayToObject(json, "layers");
    for (uint32_t i = 0; i < in->layers; i++)
        cJSON_AddItemToArray(list, layer_json(in, &in->layer[i]));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text) abort();
    return text;
}

// ---- files

static bool write_text(const char *folder, const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4100s/%s", folder, name);
    struct file_writer *writer = file_writer_open(path);
    if (writer && file_writer_write(writer, text, strlen(text))) return file_writer_commit(&writer);
    if (writer) file_writer_abort(&writer);
    return false;
}

bool inspect_report(const struct inspect *in, const char *out)
{
    char *text = markdown(in, out), *json = json_text(in);
    const bool ok = write_text(out, "report.md", text) && write_text(out, "report.json", json);
    free(text);
    free(json);
    return ok;
}

bool inspect_read(const char *report, struct inspect_summary *summary)
{
    void *text;
    uint64_t bytes;
    if (!file_exists(report) || !file_read(report, 0, &text, &bytes)) return false;
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(json, "summary");
    const struct { const char *key; double *value; } all[] = {
        {"information", &summary->information}, {"shuffled", &summary->shuffled},
        {"given_token", &summary->given_token}, {"given_shuffled", &summary->given_shuffled},
        {"documents_shuffled", &summary->documents},
        {"given_documents_shuffled", &summary->given_documents},
        {"domain_bits", &summary->domain_bits}};
    bool ok = true;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(own, all[i].key);
        ok = ok && cJSON_IsNumber(item);
        *all[i].value = ok ? item->valuedouble : NAN;
    }
    cJSON_Delete(json);
    free(text);
    return ok;
}
