# SPDX-License-Identifier: MIT
"""tools/vendors.py on planted output: what it reads, what it counts as a failure, a table that lines up.
    vendors.py TOOLS
"""
import os
import sys

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import vendors  # noqa: E402

failures = 0


def expect(condition, what):
    global failures
    if not condition:
        failures += 1
        print("FAILED:", what)


CHECKS = """0, a device: the only one
subgroup size 8, seed 1
ok   matmul             f32    100 cases  error/allowed      0.1     10 ms
device\tllvmpipe (LLVM 19)\tllvmpipe Mesa 26.1.6 (LLVM 19)\tcpu\t8\tf16 subgroup coop
kernel\tmatmul_nt\tflat\t120\t0
kernel\tmatmul_nt\tcoop\t40\t2
kernel\tmatmul_nt\ttexel\t9\t0
kernel\tsum\tflat\t7\t0
1 passed, 0 failed
"""
RADV = "\n".join("\t".join(words) for words in (
    ("navi21", "radv Mesa 22.3.6", "matmul_nt_f32", "16x4x1", "96", "0", "0", "0", "10"),
    ("navi21", "radv Mesa 22.3.6", "matmul_nt_bf16", "4x4x1", "48", "0", "0", "512", "16"),
    ("navi21", "radv Mesa 22.3.6", "matmul_nt_bf16_coop", "64x64", "128", "3", "0", "9000", "5"),
    ("navi21", "radv Mesa 22.3.6", "moe_matmul_up_f16_tile", "64x64", "64", "0", "0", "16384", "4"),
    ("vega10", "radv Mesa 22.3.6", "sum_f32", "1x4x1", "8", "0", "0", "0", "9")))

device, cells, failed = vendors.parse_checks(CHECKS)
expect(device["driver"] == "llvmpipe Mesa 26.1.6 (LLVM 19)" and "coop" in device["caps"], f"device {device}")
expect(cells == {("matmul_nt", "flat"): "120 ok", ("matmul_nt", "coop"): "2 of 42 FAIL", ("matmul_nt", "texel"): "9 ok", ("sum", "flat"): "7 ok"},
       f"cells {cells}")
expect(failed == 2, f"{failed} failures, wanted 2")
expect(vendors.parse_checks("gpu: no device\n")[0] is None, "a device where there is none")
expect(vendors.mesa_of(device["driver"]) == "26.1.6", "version of Mesa")

families = vendors.parse_radv(RADV)
expect(list(families) == ["navi21", "vega10"], f"families {list(families)}")
expect(families["navi21"][1] == {("matmul_nt", "flat"): "96r 512B 10w", ("matmul_nt", "coop"): "128r 9000B 5w 3 SPILLED",
                                 ("moe_matmul_up", "tile"): "64r 16384B 4w"}, f"navi21: {families['navi21']}")

columns = [("lavapipe s8 coop", "Mesa 26.1.6", cells), ("navi21", "Mesa 22.3.6", families["navi21"][1])]
missing = [title for title, _, _ in vendors.missing_columns(columns)]
expect(missing == ["lavapipe s4", "lavapipe s16", "vega10", "gfx1100", "navi31", "gfx1201", "NVIDIA"], f"missing {missing}")
lines = vendors.format_table(columns + vendors.missing_columns(columns))
expect(len({len(line) for line in lines}) == 1, "the table does not line up:\n" + "\n".join(lines))
expect([line.split()[:2] for line in lines[2:]] == [["matmul_nt", "flat"], ["matmul_nt", "coop"], ["matmul_nt", "texel"], ["sum", "flat"],
                                                    ["moe_matmul_up", "tile"]], "rows:\n" + "\n".join(lines))
expect(lines[5].count(vendors.NOT_HERE) == 7 and lines[5].split()[4] == "-", f"cells of sum: {lines[5]!r}")

# a program that says lines, one that fails, one that does not end
seen = []
done = vendors.run_by_line(["/bin/sh", "-c", "echo one; echo two; echo why >&2; exit 3"], os.environ, seen.append)
expect(seen == ["one\n", "two\n"] and done.stdout == "one\ntwo\n", f"lines {seen}")
expect(done.returncode == 3 and done.stderr == "why\n", f"ended with {done.returncode}, {done.stderr!r}")
done = vendors.run_by_line(["/bin/sleep", "60"], os.environ, seen.append, limit=0.2)
expect(done.returncode < 0 and "nothing said" in done.stderr, f"a program that does not end: {done}")
done = vendors.run_by_line(["/bin/sh", "-c", "for i in 1 2 3 4 5; do sleep 0.2; echo $i; done"], os.environ, seen.append, limit=0.7)
expect(done.returncode == 0 and done.stdout.count("\n") == 5, f"a slow program that says how far it is: {done}")


class Planted(vendors.Root):
    """A root in which every program says TEXT and ends with CODE."""

    def __init__(self, text, code):
        super().__init__("/planted", "")
        self.text, self.code = text, code

    def run(self, program, *args, driver=None, on_line=None, **env):
        return vendors.subprocess.CompletedProcess([program], self.code, self.text, "the last words\n")


_, _, failed = vendors.check_column(Planted(CHECKS, 1), "", "lavapipe", [], None, [])
expect(len(failed) == 1 and "2 cases failed" in failed[0], f"failed checks: {failed}")
found, _, failed = vendors.check_column(Planted("subgroup size 8, seed 1\n", -11), "", "lavapipe", [], None, [])
expect(found is None and failed == ["lavapipe, /planted: ended with -11: the last words"], f"a crash: {failed}")
found, _, failed = vendors.check_column(Planted("", 1), "", "lavapipe", [], None, [])
expect(found is None and failed == [], f"a driver that is not here: {failed}")
print("ok" if failures == 0 else f"{failures} failed")
sys.exit(failures != 0)
