# SPDX-License-Identifier: MIT
# vkmoe watch on a terminal (a pty): what it draws, keys, another size, 256 colours, a run that goes on, and that the
# terminal is as it was after every way out; lines in a pipe; one clear line for what is wrong.
#     watch.py VKMOE CONFIG TEXT
import fcntl, os, pty, re, select, shutil, signal, struct, subprocess, sys, tempfile, termios, time

VKMOE, CONFIG, TEXT = sys.argv[1:4]
SIZE = ['--set', 'num_hidden_layers=2', '--set', 'seq_len=16', '--set', 'batch_size=2', '--set', 'final_eval_batches=1']
TAKE, BACK = b'\x1b[?1049h', b'\x1b[?1049l'
PART = re.compile(rb'\x1b\[(\??[\d;]*)([A-Za-z])|([\x20-\x7e]|[\xc0-\xff][\x80-\xbf]+)')


def fail(what):
    sys.exit(f'watch.py: {what}')


def train(out, steps, *more):
    done = subprocess.run([VKMOE, 'train', CONFIG, '--data', TEXT, '--out', out, '--device', 'ref', '--quiet', '--untuned',
                           '--steps', str(steps), *SIZE, *more], capture_output=True, text=True)
    if done.returncode != 0: fail(f'train: {done.stderr}')


class Terminal:
    def __init__(self, folder, columns=120, rows=40, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({'TERM': 'xterm-256color', 'COLORTERM': 'truecolor', 'LC_ALL': 'C.UTF-8', **env})
            while True:  # the size is set by then
                if struct.unpack('HHHH', fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))[1]: break
                time.sleep(0.01)
            os.execv(VKMOE, [VKMOE, 'watch', folder])
        self.before = termios.tcgetattr(self.fd)
        self.raw, self.cells, self.place, self.rest = b'', {}, (0, 0), b''
        self.resize(columns, rows, tell=False)

    def resize(self, columns, rows, tell=True):
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        if tell: os.kill(self.pid, signal.SIGWINCH)

    def feed(self, data):
        self.raw += data
        self.rest += data
        whole = re.sub(rb'(\x1b(\[[\x30-\x3f]*)?|[\xc0-\xff][\x80-\xbf]*)$', b'', self.rest)  # what is not may go on
        at = 0
        for part in PART.finditer(whole):
            at = part.end()
            if part.group(3):
                y, x = self.place
                self.cells[y, x] = part.group(3).decode('utf-8', 'replace')
                self.place = y, x + 1
            elif part.group(2) == b'H':
                y, x = part.group(1).split(b';')
                self.place = int(y) - 1, int(x) - 1
            elif part.group(2) == b'J':
                self.cells = {}
        self.rest = self.rest[at:]

    def text(self):
        return '\n'.join(''.join(self.cells.get((y, x), ' ') for x in range(self.columns)) for y in range(self.rows))

    def wait(self, done, what, seconds=20):
        end = time.time() + seconds
        while not done():
            if time.time() > end: fail(f'{what} never came:\n{self.text()}')
            if select.select([self.fd], [], [], 0.1)[0]:
                try: self.feed(os.read(self.fd, 65536))
                except OSError: fail(f'it ended before {what}: {self.raw[-400:]}')

    def see(self, *texts):
        self.wait(lambda: all(t in self.text() for t in texts), ' and '.join(texts))

    def key(self, key, *texts):
        os.write(self.fd, key.encode())
        self.see(*texts)

    # It ends, with this status (a signal: negative), and the terminal is as it was.
    def ends(self, wanted):
        status = None
        end = time.time() + 20
        while status is None:
            if time.time() > end: fail(f'it does not end ({wanted})')
            if select.select([self.fd], [], [], 0.05)[0]:
                try: self.raw += os.read(self.fd, 65536)
                except OSError: pass
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            if pid: status = os.waitstatus_to_exitcode(found)
        while select.select([self.fd], [], [], 0.1)[0]:
            try: data = os.read(self.fd, 65536)
            except OSError: break
            if not data: break
            self.raw += data
        if status != wanted: fail(f'status {status}, wanted {wanted}')
        self.given_back()
        os.close(self.fd)

    def given_back(self):
        back = self.raw.rfind(BACK)
        if self.raw.count(BACK) < self.raw.count(TAKE) or back < self.raw.rfind(TAKE): fail('the other screen stays')
        if self.raw.rfind(b'\x1b[?25h') < self.raw.rfind(b'\x1b[?25l'): fail('the cursor stays away')
        if self.raw.rfind(b'\x1b[?7h') < self.raw.rfind(b'\x1b[?7l'): fail('lines do not wrap again')
        if termios.tcgetattr(self.fd) != self.before: fail(f'{termios.tcgetattr(self.fd)}, was {self.before}')


def keys(run):
    t = Terminal(run)
    t.see('vkmoe watch', 'step 6', 'loss', 'experts', 'tokens', 'following')
    if b'\x1b[38;2;' not in t.raw: fail('no true colour')
    if termios.tcgetattr(t.fd)[3] & (termios.ECHO | termios.ICANON): fail('keys are echoed')
    t.key('2', 'layer 0 (1 of 2)', 'entropy', 'no pick')
    t.key('\x1b[B', 'layer 1 (2 of 2)')
    t.key('\x1b[D', 'step 5', 'held')
    t.key('\x1bOD', 'step 4')
    t.key('\x1b[H', 'step 1 ')
    t.key('\x1b[4~', 'step 6', 'following')
    t.key('a', 'all layers at step 6')
    t.key('?', 'any key goes on')
    t.key('z', 'all layers at step 6')
    t.key('\t', 'token 1 of 32')
    t.key('.', 'token 2 of 32')
    t.key('\x1b[Z', 'load over the ideal')
    t.key('6', 'ms a step')
    t.key('5', 'all experts stay on the device')
    t.key('1', 'gradient norm', 'held-out')
    t.key('\x1b[99;99~\x1b]4', 'picks over chance')  # unknown keys do nothing
    t.key(' ', 'playing')
    t.see('following')
    os.write(t.fd, b'q')
    t.ends(0)


def sizes(run):
    t = Terminal(run, COLORTERM='', LC_ALL='C')
    t.see('step 6')
    if b'\x1b[38;5;' not in t.raw or b';2;' in t.raw: fail('not the 256 colours that TERM tells of')
    if any(byte >= 0x80 for byte in t.raw): fail('signs beyond ASCII in the C locale')
    for columns, rows in ((50, 12), (200, 50), (9, 3), (1, 1), (80, 24)):
        t.raw, t.cells = b'', {}
        t.resize(columns, rows)
        # one of the size before may still be on its way, begun anew as well: the signal comes after the size
        t.wait(lambda: b'\x1b[2J' in t.raw and t.raw.endswith(b'\x1b[?2026l') and t.cells and
               all(y < rows and x < columns for y, x in t.cells), f'a frame of {columns}x{rows} with nothing outside')
    for i in range(40):  # nobody reads: signals come into a write that waits
        t.resize(200 + i % 2, 50)
        time.sleep(0.02)
    t.cells = {}
    t.resize(80, 24)
    t.see('vkmoe watch', 'step 6', 'q quit')
    os.write(t.fd, b'q')
    t.ends(0)


def ways_out(run):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT):
        t = Terminal(run)
        t.see('step 6')
        os.kill(t.pid, number)
        t.ends(-number)
    t = Terminal(run)
    t.see('step 6')
    os.write(t.fd, b'\x03')  # Ctrl-C
    t.ends(-signal.SIGINT)
    t = Terminal(run)
    t.see('step 6')
    os.write(t.fd, b'\x1a')  # Ctrl-Z, and on
    t.wait(lambda: BACK in t.raw, 'the screen that was there before')
    end = time.time() + 10
    while not os.waitpid(t.pid, os.WUNTRACED | os.WNOHANG)[0]:
        if time.time() > end: fail('Ctrl-Z does not stop it')
        time.sleep(0.02)
    t.given_back()
    t.raw, t.cells = b'', {}
    os.kill(t.pid, signal.SIGCONT)
    t.see('step 6', 'loss')
    os.write(t.fd, b'q')
    t.ends(0)


def goes_on(run):
    t = Terminal(run)
    t.key('2', 'step 6')
    train(run, 9, '--resume')
    t.see('step 9')
    t.key('\x1b[D', 'step 8')
    os.write(t.fd, b'q')
    t.ends(0)


def lines(run, folder):
    once = subprocess.run([VKMOE, 'watch', run, '--once'], capture_output=True, text=True)
    if once.returncode or not re.fullmatch(r'step 9  loss \d\S+ .*entropy \d\.\d+\n', once.stdout): fail(f'once: {once}')
    piped = subprocess.Popen([VKMOE, 'watch', run], stdout=subprocess.PIPE, text=True)
    if not piped.stdout.readline().startswith('step 9  loss'): fail('no line in a pipe')
    piped.send_signal(signal.SIGINT)
    if piped.wait(20) != 0: fail('a pipe does not end by Ctrl-C')
    dumb = Terminal(run, TERM='dumb')
    dumb.wait(lambda: b'step 9  loss' in dumb.raw, 'a line on a dumb terminal')
    if b'\x1b' in dumb.raw: fail('escapes on a dumb terminal')
    os.kill(dumb.pid, signal.SIGINT)
    dumb.ends(0)
    broken = os.path.join(folder, 'broken')
    shutil.copytree(run, broken)
    with open(os.path.join(broken, 'routing.trace'), 'r+b') as file: file.write(b'something')
    for arguments, status, text in (([folder + '/none'], 1, 'none'), ([folder + '/empty'], 1, 'empty'), ([], 2, 'run folder'),
                                    ([broken], 1, 'routing.trace')):
        os.makedirs(folder + '/empty', exist_ok=True)
        done = subprocess.run([VKMOE, 'watch', *arguments], capture_output=True, text=True)
        if done.returncode != status or done.stderr.count('\n') != 1 or text not in done.stderr: fail(f'{arguments}: {done}')


with tempfile.TemporaryDirectory() as tmp:
    run = os.path.join(tmp, 'run')
    train(run, 6)
    keys(run)
    sizes(run)
    ways_out(run)
    goes_on(run)
    lines(run, tmp)
