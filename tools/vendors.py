# SPDX-License-Identifier: MIT
"""tools/check --vendors: a table kernel x driver of what was run or compiled here.

    vendors.py BUILD [FILTER]      FILTER: one operation of tests/check, else all

Runs: the operation checks (tests/check/check --list) on lavapipe with subgroups of 4, 8 and 16, and on
every card there is. Compiles: all kernels for AMD families through RADV without the hardware
(tests/e2e/radv --list). VKMOE_ROOTS="/path /path" names folders with a root file system whose drivers are
taken too, say a Debian with another Mesa: their own loader and libraries run the same programs, so that
nothing is installed, mounted or built. All checks run on cards and on this machine's lavapipe as it is;
the other columns are brief (tests/check/check.h), subgroups of 4 and 16 without LLVM's optimisation, as
in .ci/run. On a terminal a line for each operation and column says how far it is. A failed check, a
spill, or a hot kernel with too few waves a SIMD on RDNA is exit status 1, and a line under the table.
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

FAMILIES = ("vega10", "navi21", "gfx1100", "navi31", "gfx1201")
WIDTHS = (128, 256, 512)  # bits of lavapipe's vectors: subgroups of 4, 8, 16
USUAL = 256
LIMIT = 1800  # seconds a program may take to its next line
NOT_HERE = "not here"


class Root:
    """Programs under this machine's drivers (path None), or under those of another root file system."""

    def __init__(self, path, scratch):
        self.path, self.scratch = path, scratch

    def find(self, pattern):
        return sorted(glob.glob((self.path or "") + pattern))

    def libraries(self):
        return [folder for pattern in ("/usr/lib/*-linux-gnu*", "/usr/lib", "/usr/lib64")
                for folder in self.find(pattern) if os.path.isdir(folder)]

    def driver(self, name):
        """The description of a driver, with the path of its library as seen from here; None: not there."""
        found = self.find(f"/usr/share/vulkan/icd.d/{name}_icd*.json")
        if not found or not self.path:
            return found[0] if found else None
        with open(found[0]) as file:
            icd = json.load(file)
        library = icd["ICD"]["library_path"]
        inside = [self.path + library] if library.startswith("/") else \
            [os.path.join(folder, os.path.basename(library)) for folder in self.libraries()]
        inside = [path for path in inside if os.path.exists(path)]
        if not inside:
            return None
        icd["ICD"]["library_path"] = inside[0]
        copy = os.path.join(self.scratch, f"{len(os.listdir(self.scratch))}-{os.path.basename(found[0])}")
        with open(copy, "w") as file:
            json.dump(icd, file)
        return copy

    def run(self, program, *args, driver=None, on_line=None, **env):
        command = [program, *args]
        if self.path:
            loaders = self.find("/lib*/ld-linux*.so.*")
            if not loaders:
                return subprocess.CompletedProcess(command, 1, "", f"{self.path}: no /lib*/ld-linux*.so")
            command = [loaders[0], "--library-path", ":".join(self.libraries()), *command]
        whole = dict(os.environ, **env)
        if driver:
            whole.update(VK_DRIVER_FILES=driver, VK_ICD_FILENAMES=driver)
        return run_by_line(command, whole, on_line or (lambda line: None))


def run_by_line(command, env, on_line, limit=LIMIT):
    """subprocess.run that hands on each line of stdout as it comes, and ends what says nothing for too long."""
    lines, late = [], []
    with tempfile.TemporaryFile("w+") as errors, \
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as process:
        def watched():
            watch = threading.Timer(limit, lambda: (late.append(limit), process.kill()))
            watch.start()
            return watch

        watch = watched()
        for line in process.stdout:
            watch.cancel()
            lines.append(line)
            on_line(line)
            watch = watched()
        process.wait()
        watch.cancel()
        errors.seek(0)
        said = errors.read() + (f"nothing said for {limit} s" if late else "")
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines), said)


# ---- what the programs say


def parse_checks(text):
    """(device, {(operation, variant): cell}, failures) of `check --list`; device None: none was opened."""
    device, cells, failures = None, {}, 0
    for line in text.splitlines():
        words = line.split("\t")
        if words[0] == "device" and len(words) == 6:
            device = dict(zip(("name", "driver", "type", "subgroup", "caps"), words[1:]))
            device["caps"] = device["caps"].split()
        elif words[0] == "kernel" and len(words) == 5:
            passed, failed = int(words[3]), int(words[4])
            failures += failed
            cells[words[1], words[2]] = f"{passed} ok" if not failed else f"{failed} of {passed + failed} FAIL"
    return device, cells, failures


def parse_radv(text):
    """{family: (driver, {(operation, variant): cell})} of `radv --list`: the worst of all shapes and types."""
    families = {}
    for line in text.splitlines():
        words = line.split("\t")
        if len(words) != 9:
            continue
        family, driver, kernel = words[:3]
        name = re.fullmatch(r"(.*?)_(f32|bf16|f16)(?:_([a-z0-9_]+))?", kernel)
        if not name:
            continue
        registers, spills, scratch, shared, waves = map(int, words[4:])
        worst = families.setdefault(family, (driver, {}))[1].setdefault((name[1], name[3] or "flat"), [0, 0, 0, 99])
        worst[0] = max(worst[0], registers)
        worst[1] = max(worst[1], spills)
        worst[2] = max(worst[2], shared)
        worst[3] = min(worst[3], waves)
    return {family: (driver, {key: radv_cell(*worst) for key, worst in kernels.items()})
            for family, (driver, kernels) in families.items()}


def radv_cell(registers, spills, shared, waves):
    return f"{registers}r {shared}B {waves}w" + (f" {spills} SPILLED" if spills else "")


def mesa_of(driver):
    found = re.search(r"Mesa ([0-9.]+[0-9])", driver)
    return found[1] if found else driver


# ---- columns: (title, subtitle, {(operation, variant): cell} or None where it is not here)


def progress(text):
    print(f"vendors: {text}", file=sys.stderr, flush=True)


def tell_operations(title):
    """What takes the lines of `check`: on a terminal one line each operation, when its last type is through."""
    current = {"name": None, "types": [], "since": time.monotonic(), "last": 0}

    def on_line(line):
        words = line.split()
        ours = len(words) > 2 and words[0] in ("ok", "FAIL")
        if current["name"] and (not ours or words[1] != current["name"]):
            seconds = current["last"] - current["since"]
            progress(f"{title}: {current['name']} {' '.join(current['types'])}  {seconds:.1f} s")
            current.update(name=None, types=[], since=current["last"])
        if ours:
            current.update(name=words[1], last=time.monotonic())
            current["types"].append(words[2] + (" FAIL" if words[0] == "FAIL" else ""))

    return on_line if sys.stderr.isatty() else None


def check_column(root, build, title, args, icd, selected, **env):
    """(device or None, cells, what failed: lines)."""
    if root.path:
        title = f"{title}, {root.path}"
    progress(title)
    done = root.run(f"{build}/tests/check/check", "--list", *args, *selected, driver=icd,
                    on_line=tell_operations(title), **env)
    device, cells, failures = parse_checks(done.stdout)
    if device is None:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        # ended before its table: a crash is a failure, a driver that cannot be opened is not here
        if done.returncode < 0 or "seed" in done.stdout:
            return None, {}, [f"{title}: ended with {done.returncode}: {last}"]
        progress(f"{title}: not here: {last}")
        return None, {}, []
    failed = [f"{title}: {line}" for line in done.stdout.splitlines() if line.startswith("FAIL")]
    if failures or done.returncode:
        failed = failed or [f"{title}: ended with {done.returncode}, {failures} cases failed"]
    return device, cells, failed


def lavapipe_columns(root, build, selected):
    """Of this machine all subgroup sizes, of another root the usual one: what matters there is its Mesa."""
    icd = root.driver("lvp")
    columns, failures = [], []
    if not icd:
        progress(f"{root.path or 'this machine'}: not here: lavapipe")
        return columns, failures
    for width in WIDTHS if not root.path else (USUAL,):
        env = {"LP_NATIVE_VECTOR_WIDTH": str(width)}
        if width != USUAL or root.path:
            env["VKMOE_CHECK"] = "brief"
        if width != USUAL:
            env["GALLIVM_PERF"] = "nopt"
        device, cells, failed = check_column(root, build, f"lavapipe, subgroups of {width // 32}",
                                             ["--device", "llvmpipe"], icd, selected, **env)
        failures += failed
        if device:
            coop = " coop" if "coop" in device["caps"] else ""
            columns.append((f"lavapipe s{device['subgroup']}{coop}", f"Mesa {mesa_of(device['driver'])}", cells))
    return columns, failures


def radv_columns(root, build):
    where = root.path or "this machine"
    icd = root.driver("radeon")
    if not icd:
        progress(f"{where}: not here: RADV")
        return [], []
    progress(f"RADV without hardware, {where}")
    done = root.run(f"{build}/tests/e2e/radv", "--list", *FAMILIES, driver=icd)
    families = parse_radv(done.stdout)
    failed = []
    if done.returncode == 1 or done.returncode < 0:
        lines = done.stderr.strip().splitlines()
        failed = [f"RADV, {where}: {line}" for line in lines if line.startswith("FAIL")] or \
            [f"RADV, {where}: ended with {done.returncode}: {lines[-1] if lines else 'no output'}"]
    return [(family, f"Mesa {mesa_of(families[family][0])}", families[family][1])
            for family in FAMILIES if family in families], failed


def card_columns(root, build, selected):
    done = root.run(f"{build}/tools/vkmoe", "info", "--devices", "--json")
    columns, failures = [], []
    try:
        devices = json.loads(done.stdout)["devices"]
    except (ValueError, KeyError):
        return columns, failures
    for index, device in enumerate(devices):
        if device.get("type") == "cpu":
            continue
        found, cells, failed = check_column(root, build, device["name"], ["--device", str(index)], None, selected)
        failures += failed
        if found:
            columns.append((found["name"][:18], found["driver"][:18], cells))
    return columns, failures


def missing_columns(columns):
    """What the table should have and this machine cannot give."""
    titles = [title for title, _, _ in columns]
    wanted = [(title, "no lavapipe") for title in ("lavapipe s4", "lavapipe s8", "lavapipe s16")
              if not any(found.startswith(title) for found in titles)]
    if not any(title.endswith("coop") for title in titles):
        wanted.append(("lavapipe coop", "Mesa >= 26"))
    for family in FAMILIES:
        if family not in titles:
            wanted.append((family, "Mesa >= 25" if family in ("navi31", "gfx1201") else "RADV"))
    if not any("nvidia" in title.lower() for title in titles):
        wanted.append(("NVIDIA", "no such card"))
    return [(title, why, None) for title, why in wanted]


# ---- the table


def rows_of(columns):
    rows = {}
    for _, _, cells in columns:
        for key in cells or {}:
            rows.setdefault(key[0], set()).add(key[1])
    return [(name, variant) for name in rows for variant in sorted(rows[name], key=lambda v: (v != "flat", v))]


def format_table(columns):
    """Lines of equal length."""
    rows = rows_of(columns)
    first = max([len(" ".join(row)) for row in rows] + [len("kernel")])
    lines = [["kernel".ljust(first)], [" " * first]] + [[" ".join(row).ljust(first)] for row in rows]
    for title, subtitle, cells in columns:
        texts = [title, subtitle] + [NOT_HERE if cells is None else cells.get(row, "-") for row in rows]
        width = max(map(len, texts))
        for line, text in zip(lines, texts):
            line.append(text.rjust(width))
    return ["  ".join(line) for line in lines]


LEGEND = """
n ok: checks that passed on the driver. r: vector registers, B: shared memory of a workgroup, w: waves a
SIMD, the worst of all shapes and storage types; compiled, not run. -: needs what the driver lacks, or has
no such variant. not here: not checked on this machine, for the reason at the head of the column."""


def main():
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    build, selected = os.path.abspath(sys.argv[1]), sys.argv[2:]
    columns, failures = [], []
    with tempfile.TemporaryDirectory() as scratch:
        roots = [Root(path, scratch) for path in [None, *os.environ.get("VKMOE_ROOTS", "").split()]]
        for root in roots:
            if root.path:
                progress(f"root {root.path}")
            for found, failed in (lavapipe_columns(root, build, selected), radv_columns(root, build)):
                columns += found
                failures += failed
        found, failed = card_columns(roots[0], build, selected)
        columns += found
        failures += failed
    missing = missing_columns(columns)
    print("\n".join(format_table(columns + missing)))
    print(LEGEND)
    if missing:
        print("not checked here: " + ", ".join(f"{title} ({why})" for title, why, _ in missing))
    for line in failures:
        print(line)
    print(f"{len(failures)} failures" if failures else "no failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
