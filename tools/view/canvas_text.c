// SPDX-License-Identifier: MIT
// Text: DejaVu (or another font) through FreeType, each glyph rendered once and kept as coverage.
#include "tools/view/canvas_text.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"

enum { UNKNOWN = 0xfffd, ELLIPSIS = 0x2026, FACES = 3 };

struct glyph {
    uint32_t code;    // 0: free
    int      x, y, w, h; // from the pen, from the top of the line
    int      advance;
    uint8_t *cover;   // [h][w]
};

struct face { // a font at one size
    FT_Face       font;
    struct glyph *glyph; // [room], open addressing
    uint32_t      count, room;
    int           height, ascent;
};

struct canvas_fonts {
    FT_Library  library;
    char        path[FACES][1024]; // sans, bold, mono
    struct face face[FONT_COUNT];
};

static const struct { uint8_t face; float size; } sizes[FONT_COUNT] = {
    [FONT_SMALL] = {0, 11}, [FONT_TEXT] = {0, 13}, [FONT_BOLD] = {1, 13}, [FONT_TITLE] = {1, 16},
    [FONT_MONO] = {2, 14}, [FONT_MONO_SMALL] = {2, 11},
};

// ---- finding and opening fonts

static const char *const folders[] = {
    "/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu", "/usr/share/fonts/TTF",
    "/usr/share/fonts/dejavu-sans-fonts", "/usr/local/share/fonts/dejavu",
    "/usr/share/fonts/truetype", "/Library/Fonts",
};
static const char *const names[FACES] = {"DejaVuSans.ttf", "DejaVuSans-Bold.ttf",
                                         "DejaVuSansMono.ttf"};

static bool find_face(struct canvas_fonts *f, uint32_t face)
{
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        snprintf(f->path[face], sizeof f->path[face], "%s/%s", folders[i], names[face]);
        if (file_exists(f->path[face])) return true;
    }
    return false;
}

static bool find_fonts(struct canvas_fonts *f, const char *font)
{
    if (!font && !find_face(f, 0)) {
        log_error("no font: %s is not under /usr/share/fonts; wanted the package "
                  "fonts-dejavu-core or --font FILE.ttf", names[0]);
        return false;
    }
    if (font) snprintf(f->path[0], sizeof f->path[0], "%s", font);
    for (uint32_t i = 1; i < FACES; i++)
        if (font || !find_face(f, i)) snprintf(f->path[i], sizeof f->path[i], "%s", f->path[0]);
    return true;
}

struct canvas_fonts *canvas_fonts_create(const char *font)
{
    struct canvas_fonts *f = os_alloc(sizeof *f);
    if (FT_Init_FreeType(&f->library) != 0) {
        log_error("FreeType does not start: out of memory");
        f->library = NULL;
    }
    if (!f->library || !find_fonts(f, font)) canvas_fonts_destroy(&f);
    return f;
}

static void close_face(struct face *face)
{
    for (uint32_t i = 0; i < face->room; i++) free(face->glyph[i].cover);
    free(face->glyph);
    if (face->font) FT_Done_Face(face->font);
    *face = (struct face){0};
}

void canvas_fonts_destroy(struct canvas_fonts **fonts)
{
    if (!*fonts) return;
    for (uint32_t i = 0; i < FONT_COUNT; i++) close_face(&(*fonts)->face[i]);
    if ((*fonts)->library) FT_Done_FreeType((*fonts)->library);
    free(*fonts);
    *fonts = NULL;
}

// Lengths of FreeType are in 64ths of a pixel.
static int ceil_64(FT_Pos length) { return (int)((length + 63) >> 6); }

bool canvas_fonts_scale(struct canvas_fonts *f, float scale)
{
    for (uint32_t i = 0; i < FONT_COUNT; i++) {
        struct face *face = &f->face[i];
        const char *path = f->path[sizes[i].face];
        close_face(face);
        const int size = (int)(sizes[i].size * scale + 0.5f);
        int bad = FT_New_Face(f->library, path, 0, &face->font);
        if (bad) face->font = NULL;
        else bad = FT_Set_Char_Size(face->font, 0, size * 64, 0, 0);
        if (bad) {
            log_error("%s: no font that opens (FreeType error 0x%x); wanted a TrueType file", path,
                      (unsigned)bad);
            return false;
        }
        const FT_Face own = face->font;
        const FT_Fixed unit = own->size->metrics.y_scale;
        face->height = ceil_64(FT_MulFix(own->ascender - own->descender, unit));
        face->ascent = ceil_64(FT_MulFix(own->ascender, unit));
    }
    return true;
}

// ---- glyphs

static void keep_cover(struct glyph *g, const FT_Bitmap *from)
{
    g->w = (int)from->width, g->h = (int)from->rows;
    g->cover = os_alloc((size_t)g->w * (size_t)g->h + 1);
    for (int y = 0; y < g->h; y++)
        memcpy(g->cover + y * g->w, from->buffer + y * from->pitch, (size_t)g->w);
}

static struct glyph render(struct face *face, uint32_t code)
{
    const uint32_t shown = FT_Get_Char_Index(face->font, code)      ? code
                           : FT_Get_Char_Index(face->font, UNKNOWN) ? UNKNOWN : '?';
    struct glyph g = {.code = code};
    const FT_GlyphSlot slot = face->font->glyph;
    if (FT_Load_Char(face->font, shown, FT_LOAD_TARGET_LIGHT) != 0) return g;
    g.advance = ceil_64(slot->metrics.horiAdvance);
    if (FT_Render_Glyph(slot, FT_RENDER_MODE_NORMAL) != 0) return g;
    g.x = slot->bitmap_left, g.y = face->ascent - slot->bitmap_top;
    if (slot->bitmap.pixel_mode == FT_PIXEL_MODE_GRAY) keep_cover(&g, &slot->bitmap);
    return g;
}

static struct glyph *slot_of(struct glyph *table, uint32_t room, uint32_t code)
{
    uint32_t at = code * 2654435761u & (room - 1);
    while (table[at].code && table[at].code != code) at = (at + 1) & (room - 1);
    return &table[at];
}

static void grow(struct face *face)
{
    const uint32_t room = face->room ? 2 * face->room : 256;
    struct glyph *table = os_alloc(room * sizeof *table);
    for (uint32_t i = 0; i < face->room; i++)
        if (face->glyph[i].code) *slot_of(table, room, face->glyph[i].code) = face->glyph[i];
    free(face->glyph);
    face->glyph = table, face->room = room;
}

static const struct glyph *glyph_of(struct face *face, uint32_t code)
{
    if (2 * (face->count + 1) > face->room) grow(face);
    struct glyph *g = slot_of(face->glyph, face->room, code);
    if (g->code) return g;
    face->count++;
    *g = render(face, code);
    return g;
}

// The next character; bytes that are no UTF-8 stand for themselves as unknown.
static uint32_t next_code(const char **text)
{
    const uint8_t *at = (const uint8_t *)*text;
    const uint32_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2
                            : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
    uint32_t code = length == 1 ? at[0] : length ? at[0] & (0x7fu >> length) : UNKNOWN;
    for (uint32_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) { // torn
            *text += i;
            return UNKNOWN;
        }
        code = code << 6 | (at[i] & 0x3f);
    }
    *text += length ? length : 1;
    return code ? code : UNKNOWN;
}

// ---- texts

int canvas_line_height(const struct canvas *c, enum canvas_font font)
{
    return c->fonts->face[font].height;
}

int canvas_text_width(struct canvas *c, enum canvas_font font, const char *text)
{
    int width = 0;
    while (*text) width += glyph_of(&c->fonts->face[font], next_code(&text))->advance;
    return width;
}

static void put_glyph(struct canvas *c, const struct glyph *g, int x, int y, colour over)
{
    for (int j = 0; j < g->h; j++)
        for (int i = 0; i < g->w; i++)
            if (g->cover[j * g->w + i])
                canvas_blend(c, x + g->x + i, y + g->y + j, over, g->cover[j * g->w + i]);
}

// Where the text is cut so that it and an ellipsis fit `room`; its width with that.
static const char *cut(struct face *face, const char *text, int room, int *width)
{
    const int dots = glyph_of(face, ELLIPSIS)->advance;
    const char *end = text;
    *width = dots;
    for (const char *at = text; *at; end = at) {
        const int advance = glyph_of(face, next_code(&at))->advance;
        if (*width + advance > room) break;
        *width += advance;
    }
    return end;
}

static void check_inside(struct canvas *c, struct rect box, const char *text)
{
    c->texts++;
    if (box.x >= c->clip.x && box.y >= c->clip.y && box.x + box.w <= c->clip.x + c->clip.w &&
        box.y + box.h <= c->clip.y + c->clip.h)
        return;
    if (!c->outside++)
        snprintf(c->first_outside, sizeof c->first_outside, "\"%.60s\" at %d,%d %dx%d", text, box.x,
                 box.y, box.w, box.h);
}

int canvas_text(struct canvas *c, enum canvas_font font, struct rect box, enum canvas_align align,
                colour over, const char *text)
{
    struct face *face = &c->fonts->face[font];
    int width = canvas_text_width(c, font, text);
    const char *end = text + strlen(text);
    const int ink = face->ascent * 3 / 4; // letters with nothing below the line still fit
    if (!*text || box.h < ink || box.w <= 0) return 0;
    const bool whole = width <= box.w;
    if (!whole) end = cut(face, text, box.w, &width);
    if (end == text || width > box.w) return 0;
    const int left = align == ALIGN_LEFT ? 0 : align == ALIGN_RIGHT ? box.w - width
                                                                    : (box.w - width) / 2;
    int x = box.x + left;
    const int y = box.y + (box.h - face->height) / 2;
    check_inside(c, (struct rect){x, box.y, width, box.h < face->height ? box.h : face->height},
                 text);
    for (const char *at = text; at < end;) {
        const struct glyph *g = glyph_of(face, next_code(&at));
        put_glyph(c, g, x, y, over);
        x += g->advance;
    }
    if (!whole) put_glyph(c, glyph_of(face, ELLIPSIS), x, y, over);
    return width;
}

int canvas_print(struct canvas *c, enum canvas_font font, struct rect box, enum canvas_align align,
                 colour over, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return canvas_text(c, font, box, align, over, text);
}
