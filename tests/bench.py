# SPDX-License-Identifier: MIT
"""`vkmoe bench`: its JSON object, its table and its failures, on small benchmarks.
    bench.py VKMOE DEVICE      DEVICE: ref, or vulkan for the best one (77, skipped, where there is none)
"""
import json
import os
import subprocess
import sys
import tempfile

PROGRAM, DEVICE = sys.argv[1:]
DEVICE_ARGS = [] if DEVICE == "vulkan" else ["--device", DEVICE]
failures = 0


def bench(*args):
    return subprocess.run([PROGRAM, "bench", *DEVICE_ARGS, *args], capture_output=True, text=True)


def expect(condition, what):
    global failures
    if not condition:
        failures += 1
        print("FAILED:", what)


def close(a, b, tolerance=1e-3):
    return abs(a - b) <= tolerance * abs(b)


def measured(name, *args):
    """The object and the table of `bench --filter name`, None where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        done = bench("--filter", name, "--json", path, *args)
        expect(done.returncode == 0, f"--filter {name!r}: exit {done.returncode}: {done.stderr.strip()}")
        if done.returncode:
            return None, ""
        with open(path) as file:
            return json.load(file), done.stdout


def peak_of(result):
    """The arithmetic peak that a result is measured by."""
    if " coop_bf16" in result["variant"]:
        return "coop_bf16_gflops"
    return "coop_f16_gflops" if " coop" in result["variant"] else "fma_f32_gflops"


def check_object(found, name):
    keys = [key for key in found if key != "tuned"]
    expect(keys[:5] == ["device", "driver", "commit", "peaks", "results"], f"{name}: keys {list(found)}")
    expect(all(found[key] for key in ("device", "driver", "commit")), f"{name}: an empty device, driver or commit")
    for key in ("copy_gbps", "fma_f32_gflops", "upload_gbps", "download_gbps"):
        expect(found["peaks"][key] > 0, f"{name}: peak {key} is {found['peaks'][key]}")
    for key in ("coop_f16_gflops", "coop_bf16_gflops", "coop_i8_gops"):
        expect(found["peaks"][key] is None or found["peaks"][key] > 0, f"{name}: peak {key} is {found['peaks'][key]}")
    for result in found["results"]:
        wanted = {"name", "shape", "variant", "ms", "spread", "gflops", "gbps", "peak_pct"}
        expect(wanted <= set(result), f"{name}: {wanted - set(result)} is missing")
        expect(result["ms"] > 0 and result["spread"] >= 0, f"{name}: ms {result['ms']}, spread {result['spread']}")
        peak = 100 * max(result["gflops"] / found["peaks"][peak_of(result)], result["gbps"] / found["peaks"]["copy_gbps"])
        expect(close(result["peak_pct"], peak), f"{name}: peak_pct {result['peak_pct']}, wanted {peak}")


def check_work(result, variant, flops, moved):
    """A kernel whose work is known: the rates must be that work over the time."""
    name = result["name"]
    expect(result["variant"].startswith(variant), f"{name}: variant {result['variant']}")
    for rate, work in (("gflops", flops), ("gbps", moved)):
        expect(close(result[rate] * result["ms"] * 1e6, work),
               f"{name}: {rate} {result[rate]} for {work} in {result['ms']} ms")


def check_kernel(name, shape, variant, flops, moved, model=""):
    """A run of one kernel: one result, a table that lines up."""
    found, table = measured(f"{name} {shape} {model}{variant}")
    if not found:
        return
    check_object(found, name)
    results = found["results"]
    expect([(r["name"], r["shape"]) for r in results] == [(name, shape)], f"{name} {shape}: found {results}")
    check_work(results[0], variant, flops, moved)
    rows = [line for line in table.splitlines() if " shape " in line or f" {shape} " in line]
    expect(len(rows) == 2 and len(rows[0]) == len(rows[1]), f"{name}: the table does not line up:\n{table}")


def check_together(kernels):
    """Everything else in one run, since each run measures the peaks first: `--filter` with '|' between."""
    names = ["train_step tiny B8 S128", "profile tiny", "prefill tiny T128", "decode tiny T1 S128",
             "grouped/dense moe_matmul_nt E8 k2 T32 256x512 r8", "moe_layer forward+backward E8 k2 T1024 64x128 tiny f32"]
    names += [f"{name} {shape} {model}{variant}" for name, shape, variant, _, _, model in kernels]
    found, table = measured("|".join(names))
    if not found:
        return
    check_object(found, "together")

    def named(name, shape=None):
        return [r for r in found["results"] if r["name"] == name and shape in (None, r["shape"]) and "dense_ms" not in r]

    check_step(named("train_step tiny"))
    check_profile(found["profiles"], table)
    for name, shape in (("prefill tiny", "T128"), ("decode tiny", "T1 S128")):
        results = named(name)
        expect([r["shape"] for r in results] == [shape] and results[0]["tokens_per_s"] > 0, f"{name}: {results}")
    check_layers([r for r in found["results"] if "dense_ms" in r], named("moe_layer forward"),
                 named("moe_layer forward+backward"), table)
    for name, shape, variant, flops, moved, _ in kernels:
        results = named(name, shape)
        expect(len(results) == 1, f"{name} {shape}: {results}")
        check_work(results[0], variant, flops, moved)
        rows = [line for line in table.splitlines() if line.lstrip().startswith(f"{name} ") and f" {shape} " in line]
        heads = [line for line in table.splitlines() if " shape " in line]
        expect(len(rows) == 1 and heads and len(rows[0]) == len(heads[0]), f"{name}: the table does not line up:\n{table}")


def check_step(results):
    expect(len(results) == 1, f"train_step: {results}")
    for train in results:
        expect(train["tokens_per_s"] > 0 and train["dispatches"] > 10, f"train_step: {train}")
        expect(train["kernel_share"] > 0.05, f"train_step: kernel_share {train['kernel_share']}")
        expect(train["steps"] >= 3 and train["device_growth_bytes"] == 0, f"train_step: {train}")


def check_profile(profiles, table):
    kernels = profiles[0]["kernels"]
    expect(close(sum(kernel["share"] for kernel in kernels), 1), "profile: the shares are not 1 together")
    expect([k["ms"] for k in kernels] == sorted((k["ms"] for k in kernels), reverse=True), "profile: not sorted")
    expect("profile tiny" in table, "no profile in the table")


def check_layers(grouped, forward, both, table):
    """A grouped matmul knows the dense one of the same work; a layer has more work with its backward."""
    shapes = [r["shape"][-8:] for r in grouped]
    expect(shapes[:2] == [" r8 even", " r8 10:1"], f"grouped/dense: {shapes}")
    for r in grouped:
        expect(close(r["dense_pct"], 100 * r["dense_ms"] / r["ms"]), f"dense_pct of {r}")
    expect("% dense" in table, "no column % dense")
    work = [r["gflops"] * r["ms"] for r in forward + both]
    expect(len(work) == 2 and 2.8 < work[1] / work[0] < 3.5, f"layer: work {work}")


def check_failures():
    done = bench("--filter", "no such thing")
    expect(done.returncode == 1 and "no such thing" in done.stderr, f"unknown filter: exit {done.returncode}: {done.stderr}")
    done = bench("--filter", "sum 1024", "--json", "/no/such/folder/bench.json")
    expect(done.returncode == 1 and "/no/such/folder" in done.stderr, f"bad file: exit {done.returncode}: {done.stderr}")
    done = bench("operand")
    expect(done.returncode == 2 and "operand" in done.stderr, f"operand: exit {done.returncode}: {done.stderr}")


def check_stdout():
    done = bench("--filter", "sum 1024", "--json", "-")
    expect(done.returncode == 0, f"--json -: exit {done.returncode}")
    check_object(json.loads(done.stdout), "--json -")


# ---- --compare: two files, so that what moved is known

def result(name, ms, spread, variant="f32 flat 16x4", **more):
    return {"name": name, "shape": "8x8x8", "variant": variant, "ms": ms, "spread": spread, **more}


def result_file(folder, name, results, device="a card", **changes):
    path = os.path.join(folder, name)
    whole = {"device": device, "driver": "a driver 1.0", "commit": "abc", "peaks": {}, "results": results, **changes}
    with open(path, "w") as file:
        json.dump({key: value for key, value in whole.items() if value is not None}, file)
    return path


def check_compare(folder):
    before = result_file(folder, "before.json", [
        result("slower", 1.0, 0.02), result("faster", 3.0, 0.02), result("noisy", 1.0, 0.3),
        result("quiet", 1.0, 0.0), result("tuned", 2.0, 0.01), result("gone", 1.0, 0.0),
        result("two stores", 1.0, 0.0), result("two stores", 2.0, 0.0, "bf16 flat"),
        result("two models", 1.0, 0.0, model="tiny"), result("two models", 5.0, 0.0, model="olmoe")])
    now = result_file(folder, "now.json", [
        result("slower", 1.5, 0.02), result("faster", 1.5, 0.02), result("noisy", 1.4, 0.2),
        result("quiet", 1.01, 0.0), result("tuned", 1.0, 0.01, "f32 coop 128x64"), result("new", 1.0, 0.0),
        result("two stores", 1.0, 0.0), result("two stores", 8.0, 0.0, "bf16 flat"),
        result("two models", 1.0, 0.0, model="tiny"), result("two models", 5.0, 0.0, model="olmoe")])
    done = bench("--compare", before, now)
    expect(done.returncode == 0 and not done.stderr, f"compare: exit {done.returncode}: {done.stderr}")
    rows = [line for line in done.stdout.splitlines() if "  8x8x8  " in line]
    wanted = [("slower", "1.5000", "-50.0%", "4.0%", "slower"), ("faster", "1.5000", "+100.0%", "4.0%", "faster"),
              ("tuned", "1.0000", "+100.0%", "2.0%", "faster, was f32 flat 16x4"),
              ("two stores", "8.0000", "-300.0%", "2.0%", "slower")]
    expect(len(rows) == len(wanted), f"compare: {len(rows)} rows, wanted {len(wanted)}:\n{done.stdout}")
    for row, (name, ms, change, noise, end) in zip(rows, wanted):
        found = row.split("  ")
        expect(row.startswith(f"  {name} ") and row.endswith("  " + end), f"compare: {row!r}")
        expect(all(any(text in word for word in found) for text in (ms, change, noise)), f"compare: {row!r}")
    expect(len({row.index("8x8x8") for row in rows}) == 1, f"compare: does not line up:\n{done.stdout}")
    last = done.stdout.splitlines()[-1]
    expect(last == "9 compared: 2 faster, 2 slower, 5 within the noise; 1 only now; 1 only before", f"compare: {last!r}")


def check_compare_failures(folder):
    good = result_file(folder, "good.json", [result("a", 1.0, 0.0)])
    with open(os.path.join(folder, "text.json"), "w") as file:
        file.write("{\"device\": ")
    bad = [("text.json", "no JSON object"), ("absent.json", "absent.json")]
    for name, results, changes, wanted in (
            ("key.json", [], {"commit": None}, "\"commit\""), ("results.json", {}, {}, "\"results\""),
            ("name.json", [{"ms": 1, "spread": 0}], {}, "results[0] has no \"name\""),
            ("ms.json", [result("a", 1.0, 0.0), result("b", 0, 0.0)], {}, "results[1] (b 8x8x8)"),
            ("spread.json", [result("a", 1.0, "much")], {}, "\"spread\"")):
        result_file(folder, name, results, **changes)
        bad.append((name, wanted))
    for name, wanted in bad:
        for args in ((os.path.join(folder, name), good), (good, os.path.join(folder, name)),
                     (os.path.join(folder, name), "--filter", "sum 1024")):
            done = bench("--compare", *args)
            lines = done.stderr.strip().splitlines()
            expect(done.returncode == 1 and len(lines) == 1 and name in lines[0] and wanted in lines[0],
                   f"compare {args}: exit {done.returncode}: {done.stderr}")
    other = result_file(folder, "other.json", [result("a", 1.0, 0.0)], device="another card")
    done = bench("--compare", other, good)
    expect(done.returncode == 0 and "another card" in done.stderr, f"other device: {done.returncode}: {done.stderr}")


def check_saved(folder):
    """--save names the file; what it holds compares with the same run."""
    done = bench("--filter", "sum 1024", "--save", folder)
    files = [name for name in os.listdir(folder) if name.endswith(".json")]
    expect(done.returncode == 0 and len(files) == 1, f"--save: exit {done.returncode}: {done.stderr}: {files}")
    if len(files) == 1:
        path = os.path.join(folder, files[0])
        with open(path) as file:
            check_object(json.load(file), "--save")
        expect(files[0] == files[0].lower() and " " not in files[0] and "(" not in files[0], f"--save: {files[0]}")
        done = bench("--filter", "sum 1024", "--compare", path)
        expect(done.returncode == 0 and "1 compared" in done.stdout, f"--compare: exit {done.returncode}: {done.stdout}")
    done = bench("--filter", "sum 1024", "--save", os.path.join(folder, "absent"))
    expect(done.returncode == 1 and "absent" in done.stderr, f"--save absent: {done.returncode}: {done.stderr}")


KERNELS = [
    ("matmul_ntf", "1024x8x128", "f32", 2 * 1024 * 8 * 128, 4 * (1024 * 128 + 8 * 128 + 1024 * 8), "tiny "),
    # one token: two experts of eight are read
    ("moe_matmul_up", "E8 k2 T1 512x512", "f32", 2 * 2 * 2 * 512 * 512, 4 * (512 + 2 * 2 * 512 * 512 + 2 * 512), ""),
]
ELEMENTS = 2048 * 64
ACTIVATE = ("activate", "2048x64", "f32", 4 * ELEMENTS, 12 * ELEMENTS, "tiny ")
if DEVICE == "vulkan":
    devices = subprocess.run([PROGRAM, "info", "--devices", "--json"], capture_output=True, text=True)
    if devices.returncode or not json.loads(devices.stdout)["devices"]:
        print("no Vulkan device")
        sys.exit(77)
    check_together(KERNELS + [ACTIVATE]) # each run measures the peaks first: ten seconds of a CPU driver
else:
    check_failures()
    check_stdout()
    for check in (check_compare, check_compare_failures, check_saved):
        with tempfile.TemporaryDirectory() as here:
            check(here)
    for kernel in KERNELS + [ACTIVATE]:
        check_kernel(*kernel)
print("ok" if failures == 0 else f"{failures} failed")
sys.exit(failures != 0)
