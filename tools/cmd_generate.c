// SPDX-License-Identifier: MIT
// vkmoe generate: continue a text, or with --chat answer it, token by token as it comes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/data_chat.h"
#include "src/experts.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"

enum { DEFAULT_TOKENS = 256 };

struct generation {
    const struct cli     *cli;
    struct vkmoe_device  *device;
    struct vkmoe_model   *model;
    struct vkmoe_session *session;
    uint32_t             *ids;      // of the prompt
    uint32_t              count, most;
    uint32_t              stop[2];  // ids that end the text; in a conversation what is said
};

static bool open_all(struct generation *g)
{
    g->device = vkmoe_device_open(&g->cli->device);
    if (!g->device) return false;
    log_info("%s", vkmoe_device_choice(g->device));
    g->model = vkmoe_model_open_with(g->device, g->cli->operand[0], &g->cli->model);
    return g->model != NULL;
}

// The conversation as training shows it: behind the token that ends the text before it, the prompt
// as a user's message, and what a reply begins with.
static bool encode_chat(struct generation *g)
{
    const struct cli *cli = g->cli;
    const struct tokenizer *t = g->model->tokenizer;
    const char *prompt = cli->prompt ? cli->prompt : "", *missing = t ? chat_tag_missing(t) : "";
    const uint32_t stop = vkmoe_model_stop_id(g->model), first = stop != UINT32_MAX;
    struct chat chat = {0};
    if (missing) {
        log_error("%s: the tokenizer has no special token %s; wanted a model that was trained on "
                  "conversations", cli->operand[0], *missing ? missing : chat_tags[0]);
        return false;
    }
    const bool ok =
        (!cli->system ||
         chat_message(&chat, t, CHAT_SYSTEM, cli->system, strlen(cli->system), false)) &&
        chat_message(&chat, t, CHAT_USER, prompt, strlen(prompt), false) && chat_reply(&chat, t);
    g->count = (uint32_t)chat.encoding.count + first;
    g->ids = malloc(g->count * sizeof *g->ids);
    if (first) g->ids[0] = stop;
    if (ok) memcpy(g->ids + first, chat.encoding.id, chat.encoding.count * sizeof *g->ids);
    g->stop[1] = tokenizer_id(t, chat_tags[CHAT_END]);
    chat_free(&chat);
    return ok;
}

// An empty prompt begins a text: the token that ends the one before.
static bool encode_text(struct generation *g)
{
    const char *prompt = g->cli->prompt ? g->cli->prompt : "";
    const uint32_t stop = vkmoe_model_stop_id(g->model);
    g->count = (uint32_t)vkmoe_model_encode(g->model, prompt, NULL, 0);
    g->ids = malloc((g->count + 1) * sizeof *g->ids);
    vkmoe_model_encode(g->model, prompt, g->ids, g->count);
    if (g->count == 0 && *prompt) {
        log_error("%s: no tokenizer.json, so a prompt cannot be read", g->cli->operand[0]);
        return false;
    }
    if (g->count == 0 && stop == UINT32_MAX) {
        log_error("%s: the tokenizer has no end-of-text token to begin from; give --prompt",
                  g->cli->operand[0]);
        return false;
    }
    if (g->count == 0) g->ids[g->count++] = stop;
    return true;
}

static bool encode_prompt(struct generation *g)
{
    g->stop[0] = g->stop[1] = vkmoe_model_stop_id(g->model);
    return g->cli->chat ? encode_chat(g) : encode_text(g);
}

static bool open_session(struct generation *g)
{
    const uint32_t limit = vkmoe_model_info(g->model).max_tokens;
    if (g->count > limit) {
        log_error("--prompt: %u tokens, the model takes %u (max_position_embeddings)", g->count,
                  limit);
        return false;
    }
    g->most = g->cli->max_tokens ? g->cli->max_tokens : DEFAULT_TOKENS;
    const uint32_t room = limit - g->count + 1; // the last token need not be fed
    if (g->cli->max_tokens > room)
        log_warn("--max-tokens %u: the context of %u leaves room for %u", g->cli->max_tokens, limit,
                 room);
    if (g->most > room) g->most = room;
    g->session = vkmoe_session_open(g->model, g->count + g->most - 1);
    return g->session != NULL;
}

static void print_token(const struct generation *g, uint32_t id)
{
    char text[4096];
    const size_t bytes = vkmoe_model_decode(g->model, &id, 1, text, sizeof text);
    fwrite(text, 1, bytes < sizeof text ? bytes : sizeof text, stdout);
    fflush(stdout);
}

static bool generate(struct generation *g, uint32_t *made)
{
    if (!vkmoe_session_feed(g->session, g->ids, g->count)) return false;
    for (*made = 0; *made < g->most && !os_interrupted();) {
        uint32_t id;
        if (!vkmoe_session_sample(g->session, &g->cli->sampling, &id)) return false;
        if (id == g->stop[0] || id == g->stop[1]) break;
        print_token(g, id);
        if (++*made < g->most && !vkmoe_session_feed(g->session, &id, 1)) return false;
    }
    return true;
}

int command_generate(struct cli *cli)
{
    if (cli->operand_count != 1) {
        fprintf(stderr,
                "vkmoe generate: wants one DIR, found %d operands; see vkmoe generate --help\n",
                cli->operand_count);
        return EXIT_USAGE;
    }
    if (cli->system && !cli->chat) {
        fprintf(stderr, "vkmoe generate: --system wants --chat; see vkmoe generate --help\n");
        return EXIT_USAGE;
    }
    struct generation g = {.cli = cli};
    uint32_t made = 0;
    os_interrupt_catch();
    bool ok = open_all(&g) && encode_prompt(&g) && open_session(&g);
    const double began = os_seconds();
    if (ok && cli->prompt && !cli->chat) fputs(cli->prompt, stdout);
    ok = ok && generate(&g, &made);
    if (ok) {
        putchar('\n');
        fflush(stdout);
        log_info("%u tokens of prompt, %u made, %.1f tokens/s, %.1f MiB of device memory", g.count,
                 made, (g.count + made) / (os_seconds() - began),
                 (double)gpu_memory_peak(g.device->gpu) / 1048576.0);
        experts_tell(g.model->params->experts);
    }
    free(g.ids);
    vkmoe_session_close(&g.session);
    vkmoe_model_close(&g.model);
    vkmoe_device_close(&g.device);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
