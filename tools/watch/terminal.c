// SPDX-License-Identifier: MIT
// The terminal, taken and given back: see terminal.h.
#include "tools/watch/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/log.h"

// Signal handlers see nothing else: what was there before, and what has happened.
static struct {
    struct termios        before;
    volatile sig_atomic_t taken, resized;
    char                  input[64];
    size_t                held; // bytes of input
} terminal;

// The other screen, no cursor, no line wrap; and all of it back.
static const char take_text[] = "\033[?1049h\033[?25l\033[?7l\033[2J",
                  back_text[] = "\033[0m\033[?7h\033[?25h\033[?1049l";

static const int fatal[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS, SIGFPE, SIGILL,
                            SIGABRT, SIGPIPE};

enum terminal_colours terminal_colours(void)
{
    const char *kind = getenv("COLORTERM"), *term = getenv("TERM");
    if (kind && (strstr(kind, "truecolor") || strstr(kind, "24bit"))) return TERMINAL_TRUE;
    return term && strstr(term, "-direct") ? TERMINAL_TRUE : TERMINAL_256;
}

bool terminal_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *value = getenv(names[i]);
        if (!value || !*value) continue; // the first that is set is the one that counts
        return strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "utf-8") ||
               strstr(value, "UTF8");
    }
    return false;
}

void terminal_size(int *columns, int *rows)
{
    struct winsize size = {0};
    const bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;
    *columns = told ? size.ws_col : 80;
    *rows = told ? size.ws_row : 24;
}

// ---- only what a signal handler may call

bool terminal_put(const char *text, size_t bytes)
{
    while (bytes) {
        const ssize_t put = write(STDOUT_FILENO, text, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        text += put, bytes -= (size_t)put;
    }
    return true;
}

static void enter(void)
{
    struct termios raw = terminal.before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN); // signals stay
    raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    terminal_put(take_text, sizeof take_text - 1);
    terminal.taken = 1;
    terminal.resized = 1;
}

static void leave(void)
{
    if (!terminal.taken) return;
    terminal.taken = 0;
    terminal_put(back_text, sizeof back_text - 1);
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
}

static void give_back_and_die(int number)
{
    leave();
    signal(number, SIG_DFL);
    raise(number); // comes when this handler ends
}

static void on_resize(int number)
{
    (void)number;
    terminal.resized = 1;
}

static void on_continue(int number)
{
    (void)number;
    const int before = errno;
    if (!terminal.taken) enter();
    errno = before;
}

// Stops as if nobody had asked; SIGCONT takes the terminal again.
static void on_stop(int number)
{
    (void)number;
    const int before = errno;
    leave();
    raise(SIGSTOP);
    errno = before;
}

// ---- taking

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (number == SIGWINCH) action.sa_flags = 0; // wakes poll
    sigaction(number, &action, NULL);
}

bool terminal_take(void)
{
    if (tcgetattr(STDIN_FILENO, &terminal.before) != 0) {
        log_error("stdin is no terminal: %s; wanted one for keys, or a pipe behind stdout",
                  strerror(errno));
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(fatal); i++) handle(fatal[i], give_back_and_die);
    handle(SIGWINCH, on_resize);
    handle(SIGCONT, on_continue);
    handle(SIGTSTP, on_stop);
    enter();
    atexit(terminal_give_back);
    return true;
}

void terminal_give_back(void) { leave(); }

// ---- keys

static const struct { const char *text; int key; } sequences[] = {
    {"[A", KEY_UP}, {"[B", KEY_DOWN}, {"[C", KEY_RIGHT}, {"[D", KEY_LEFT}, {"OA", KEY_UP},
    {"OB", KEY_DOWN}, {"OC", KEY_RIGHT}, {"OD", KEY_LEFT}, {"[H", KEY_HOME}, {"[F", KEY_END},
    {"OH", KEY_HOME}, {"OF", KEY_END}, {"[1~", KEY_HOME}, {"[4~", KEY_END}, {"[7~", KEY_HOME},
    {"[8~", KEY_END}, {"[5~", KEY_PAGE_UP}, {"[6~", KEY_PAGE_DOWN}, {"[Z", KEY_SHIFT_TAB},
    {"[1;2C", KEY_SHIFT_RIGHT}, {"[1;2D", KEY_SHIFT_LEFT}, {"[1;5C", KEY_SHIFT_RIGHT},
    {"[1;5D", KEY_SHIFT_LEFT}, {"OP", '?'}, {"[11~", '?'}, {"[[A", '?'},
};

// Bytes of an escape sequence behind ESC, as terminals build them.
static size_t sequence_bytes(const char *at, size_t count)
{
    if (count == 0) return 0;
    if (at[0] != '[' && at[0] != 'O') return 1;
    size_t i = 1;
    if (i < count && at[0] == '[' && at[i] == '[') i++; // the Linux console's F keys
    while (i < count && (at[i] < 0x40 || at[i] > 0x7e)) i++;
    return i < count ? i + 1 : count;
}

static int take_key(void)
{
    size_t used = 1;
    int key = (unsigned char)terminal.input[0];
    if (key == KEY_ESCAPE && terminal.held > 1) {
        const char *text = terminal.input + 1;
        const size_t bytes = sequence_bytes(text, terminal.held - 1);
        key = KEY_NONE;
        for (size_t i = 0; i < COUNT_OF(sequences); i++)
            if (bytes == strlen(sequences[i].text) && memcmp(text, sequences[i].text, bytes) == 0)
                key = sequences[i].key;
        used = 1 + bytes;
    }
    terminal.held -= used;
    memmove(terminal.input, terminal.input + used, terminal.held);
    return key;
}

static bool wait_input(int ms)
{
    struct pollfd poll_in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&poll_in, 1, ms) > 0;
}

// False: the input has ended.
static bool read_input(void)
{
    const ssize_t got = read(STDIN_FILENO, terminal.input + terminal.held,
                             sizeof terminal.input - terminal.held);
    if (got > 0) terminal.held += (size_t)got;
    return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

int terminal_key(int ms)
{
    if (terminal.resized) {
        terminal.resized = 0;
        return KEY_RESIZED;
    }
    if (terminal.held == 0) {
        if (!wait_input(ms)) return KEY_NONE; // or a signal: told the next time
        if (!read_input()) return KEY_CLOSED;
    }
    // an escape alone, or one whose rest is still on its way
    if (terminal.input[0] == KEY_ESCAPE && terminal.held < 3 && wait_input(20) && !read_input())
        return KEY_CLOSED;
    return terminal.held ? take_key() : KEY_NONE;
}
