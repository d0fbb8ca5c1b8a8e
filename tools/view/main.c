// SPDX-License-Identifier: MIT
// vkmoe-view: the routing of a run, in a window or as a picture.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/main.h"

static const char usage[] =
    "usage: vkmoe-view DIR                        a window on a run, also while it trains\n"
    "       vkmoe-view DIR --png FILE             a picture, without a screen\n"
    "       vkmoe-view DIR --text PATH ...        what its model picks for a text\n"
    "       vkmoe-view [DIR] --bench              how long frames take; without DIR of large runs\n"
    "  --panel NAME   overview, experts, tokens, specialisation, residency, plan or all\n"
    "  --step N       of the slider (default: the last)\n"
    "  --steps A-B    of the time axes (default: all)\n"
    "  --layer N      its number in the model\n"
    "  --all-layers   experts: the maps of all layers\n"
    "  --size WxH     pixels (default 1280x720)\n"
    "  --scale F      of texts and lines (default: the screen's, else 1)\n"
    "  --light        dark on light\n"
    "  --hover X,Y    (--png) as if the mouse were there\n"
    "  --device NAME  (--text) of those that vkmoe info --devices tells, or ref\n"
    "  --font FILE    another font than DejaVu\n";

static int fail_usage(const char *what, const char *value)
{
    fprintf(stderr, "vkmoe-view: %s%s%s\n%s", what, value ? ": " : "", value ? value : "", usage);
    return 2;
}

static bool parse_pair(const char *text, char between, long *a, long *b)
{
    char *end;
    *a = strtol(text, &end, 10);
    if (end == text || *end != between) return false;
    text = end + 1;
    *b = strtol(text, &end, 10);
    return end != text && !*end;
}

// Options with a value. False where it is none of them or its value makes no sense.
static bool take_value(struct view_options *o, const char *name, const char *value)
{
    char *end;
    long a, b;
    if (strcmp(name, "--png") == 0) return o->png = value, true;
    if (strcmp(name, "--device") == 0) return o->device = value, true;
    if (strcmp(name, "--text") == 0 && o->texts < (int)COUNT_OF(o->text))
        return o->text[o->texts++] = value, true;
    if (strcmp(name, "--font") == 0) return o->font = value, true;
    if (strcmp(name, "--panel") == 0) return panel_find(value, &o->panel);
    if (strcmp(name, "--step") == 0)
        return o->step = (uint32_t)strtoul(value, &end, 10), *value && !*end;
    if (strcmp(name, "--layer") == 0)
        return o->layer = (int)strtol(value, &end, 10), *value && !*end && o->layer >= 0;
    if (strcmp(name, "--scale") == 0)
        return o->scale = strtof(value, &end), !*end && o->scale >= 0.5f && o->scale <= 8;
    if (strcmp(name, "--size") == 0 && parse_pair(value, 'x', &a, &b))
        return o->width = (int)a, o->height = (int)b, a >= 64 && b >= 64 && a <= 16384 &&
                                                          b <= 16384;
    if (strcmp(name, "--steps") == 0 && parse_pair(value, '-', &a, &b))
        return o->first = (uint32_t)a, o->last = (uint32_t)b, a >= 1 && b >= a && b < 1l << 32;
    if (strcmp(name, "--hover") == 0 && parse_pair(value, ',', &a, &b))
        return o->hover_x = (int)a, o->hover_y = (int)b, o->hover = true;
    return false;
}

static bool take_flag(struct view_options *o, const char *name)
{
    if (strcmp(name, "--light") == 0) return o->light = true;
    if (strcmp(name, "--bench") == 0) return o->bench = true;
    if (strcmp(name, "--all-layers") == 0) return o->all_layers = true;
    return false;
}

int main(int argc, char **argv)
{
    struct view_options o = {.width = 1280, .height = 720, .layer = -1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) return fputs(usage, stdout) < 0;
        if (argv[i][0] != '-') {
            if (o.folder) return fail_usage("one folder is wanted, found also", argv[i]);
            o.folder = argv[i];
        } else if (!take_flag(&o, argv[i])) {
            if (i + 1 == argc || !take_value(&o, argv[i], argv[i + 1]))
                return fail_usage("not an option, or not its value", argv[i]);
            i++;
        }
    }
    if (!o.folder && !o.bench) return fail_usage("the folder of a run is wanted", NULL);
    if (o.png) return view_picture(&o) ? 0 : 1;
    if (o.bench) return view_bench(&o) ? 0 : 1;
    return view_window(&o) ? 0 : 1;
}
