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


def check_object(found, name):
    expect(list(found)[:5] == ["device", "driver", "commit", "peaks", "results"], f"{name}: keys {list(found)}")
    expect(all(found[key] for key in ("device", "driver", "commit")), f"{name}: an empty device, driver or commit")
    for key in ("copy_gbps", "fma_f32_gflops", "upload_gbps", "download_gbps"):
        expect(found["peaks"][key] > 0, f"{name}: peak {key} is {found['peaks'][key]}")
    for result in found["results"]:
        wanted = {"name", "shape", "variant", "ms", "spread", "gflops", "gbps", "peak_pct"}
        expect(wanted <= set(result), f"{name}: {wanted - set(result)} is missing")
        expect(result["ms"] > 0 and result["spread"] >= 0, f"{name}: ms {result['ms']}, spread {result['spread']}")
        peak = 100 * max(result["gflops"] / found["peaks"]["fma_f32_gflops"], result["gbps"] / found["peaks"]["copy_gbps"])
        expect(close(result["peak_pct"], peak), f"{name}: peak_pct {result['peak_pct']}, wanted {peak}")


def check_kernel(name, shape, variant, flops, moved):
    """One kernel whose work is known: the rates must be that work over the time."""
    found, table = measured(f"{name} {shape} {variant}")
    if not found:
        return
    check_object(found, name)
    results = found["results"]
    expect(len(results) == 1, f"{name}: {len(results)} results")
    result = results[0]
    expect((result["name"], result["shape"]) == (name, shape), f"{name}: found {result['name']} {result['shape']}")
    expect(result["variant"].startswith(variant), f"{name}: variant {result['variant']}")
    for rate, work in (("gflops", flops), ("gbps", moved)):
        expect(close(result[rate] * result["ms"] * 1e6, work),
               f"{name}: {rate} {result[rate]} for {work} in {result['ms']} ms")
    rows = [line for line in table.splitlines() if " shape " in line or f" {shape} " in line]
    expect(len(rows) == 2 and len(rows[0]) == len(rows[1]), f"{name}: the table does not line up:\n{table}")


def check_steps():
    found, table = measured("tiny")
    if not found:
        return
    check_object(found, "tiny")
    names = [result["name"] for result in found["results"]]
    expect(names == ["train_step tiny", "prefill tiny", "decode tiny"], f"tiny: results {names}")
    for result in found["results"]:
        expect(result["tokens_per_s"] > 0 and result["dispatches"] > 10, f"{result['name']}: {result}")
        expect(result["kernel_share"] > 0.05, f"{result['name']}: kernel_share {result['kernel_share']}")
    train = found["results"][0]
    expect(train["steps"] >= 3 and train["device_growth_bytes"] == 0, f"train_step: {train}")
    kernels = found["profiles"][0]["kernels"]
    expect(close(sum(kernel["share"] for kernel in kernels), 1), "profile: the shares are not 1 together")
    expect([k["ms"] for k in kernels] == sorted((k["ms"] for k in kernels), reverse=True), "profile: not sorted")
    expect("profile tiny" in table, "no profile in the table")


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


if DEVICE == "vulkan":
    devices = subprocess.run([PROGRAM, "info", "--devices", "--json"], capture_output=True, text=True)
    if devices.returncode or not json.loads(devices.stdout)["devices"]:
        print("no Vulkan device")
        sys.exit(77)
    check_steps()
else:
    check_failures()
    check_stdout()
ELEMENTS = 2048 * 64
check_kernel("activate", "2048x64", "f32", 4 * ELEMENTS, 12 * ELEMENTS)
check_kernel("matmul_ntf", "1024x8x128", "f32", 2 * 1024 * 8 * 128, 4 * (1024 * 128 + 8 * 128 + 1024 * 8))
# one token: two experts of eight are read
check_kernel("moe_matmul_up", "E8 k2 T1 512x512", "f32", 2 * 2 * 2 * 512 * 512, 4 * (512 + 2 * 2 * 512 * 512 + 2 * 512))
print("ok" if failures == 0 else f"{failures} failed")
sys.exit(failures != 0)
