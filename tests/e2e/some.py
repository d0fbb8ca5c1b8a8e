# SPDX-License-Identifier: MIT
"""SOME's published checkpoint through tools/some_convert.py and `vkmoe logits`: the logits that a forward pass written
by hand in plain Python gave. Skipped (77) where the checkpoint is not beside the project: its licence is unclear.
    some.py VKMOE SOURCE_ROOT DEVICE
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

PROGRAM, ROOT, DEVICE = sys.argv[1:]
BASE = os.path.join(os.environ.get("VKMOE_SHARED", ROOT + "/../shared"), "data/some-checkpoint/demo")
DEVICE_ARGS = [] if DEVICE == "default" else ["--device", DEVICE]


def read_npy(path):
    data = open(path, "rb").read()
    begin = 10 + struct.unpack("<H", data[8:10])[0]
    return struct.unpack(f"<{(len(data) - begin) // 4}f", data[begin:])


if not os.path.exists(BASE + ".msgpack"):
    print(f"skipped: no {BASE}.msgpack")
    sys.exit(77)
golden = json.load(open(ROOT + "/tests/golden/some-logits.json"))
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, ROOT + "/tools/some_convert.py", BASE, ROOT + "/assets/some.json", folder], check=True)
    out = folder + "/logits.npy"
    ids = ",".join(str(i) for i in golden["ids"])
    subprocess.run([PROGRAM, "logits", folder, "--ids", ids, "--out", out, "--untuned", *DEVICE_ARGS], check=True)
    logits = read_npy(out)
vocab = len(logits) // len(golden["ids"])
picks = [max(range(vocab), key=lambda v: logits[i * vocab + v]) for i in range(len(golden["ids"]))]
worst = max(abs(a - b) for a, b in zip(logits, golden["logits"]))
print(f"largest difference {worst:.2g} of {len(golden['logits'])} logits; picks {picks}")
failed = worst > 6e-5 or picks != golden["picks"]
print("FAIL" if failed else "ok")
sys.exit(failed)
