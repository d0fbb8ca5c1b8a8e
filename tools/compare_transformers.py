#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether Hugging Face's transformers opens a run folder as it is, and computes the same logits.

    tools/compare_transformers.py DIR [--vkmoe build/tools/vkmoe] [--device NAME]

DIR is a run of Mixtral's or Qwen3-MoE's shape, or a vkmoe run of Qwen2-MoE's (top-k, a shared expert with its
gate, neither biases nor QK-norm), which is shown to transformers under that name. Loads it with from_pretrained (no key missing, none left over),
compares the logits of `vkmoe logits` at several lengths up to the whole context, lets transformers save the
model again and compares what vkmoe reads from that, and encodes a text with DIR/tokenizer.json. Needs torch,
transformers and numpy; the tests of the build do not run it. Exit status 1: something differs.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers
from tokenizers import Tokenizer

CLASSES = {"mixtral": "MixtralForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM"}
WORST_NMSE = 1e-9
transformers.utils.logging.disable_progress_bar()
failures = 0


def check(ok, text):
    global failures
    failures += not ok
    print(("ok    " if ok else "FAIL  ") + text)


def shown(folder, temporary):
    """The folder as transformers is to see it."""
    config = json.load(open(pathlib.Path(folder) / "config.json"))
    if config["model_type"] != "vkmoe":
        return folder
    check(config.get("shared_expert_gate", False) and not config["attention_bias"] and not config["qk_norm"]
          and config["router_type"] == "topk" and config["num_experts"], "the run has Qwen2-MoE's shape")
    config.update(model_type="qwen2_moe", architectures=[CLASSES["qwen2_moe"]], qkv_bias=False)
    (pathlib.Path(temporary) / "config.json").write_text(json.dumps(config))
    shutil.copy(pathlib.Path(folder) / "model.safetensors", temporary)
    return temporary


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager")
    wanted = CLASSES.get(model.config.model_type, "a class of " + ", ".join(CLASSES))
    check(type(model).__name__ == wanted, f"{folder} opens as {type(model).__name__}")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, info.get(kind, [])))
        check(not keys, f"{kind}: {', '.join(keys[:5]) or 'none'}")
    check(next(model.parameters()).dtype == torch.float32, f"parameters are {next(model.parameters()).dtype}")
    return model.eval()


def vkmoe_logits(args, folder, ids):
    with tempfile.TemporaryDirectory() as temporary:
        out = str(pathlib.Path(temporary) / "logits.npy")
        command = [args.vkmoe, "logits", folder, "--ids", ",".join(map(str, ids)), "--out", out, "--log", "warn"]
        subprocess.run(command + (["--device", args.device] if args.device else []), check=True,
                       stdout=subprocess.DEVNULL)
        return numpy.load(out)


def compare_logits(args, model, folder):
    config = model.config
    full = config.max_position_embeddings
    for count in sorted({1, 2, 7, min(64, full), full}):
        ids = [(i * i * 31 + i * 7 + 84) % config.vocab_size for i in range(count)]
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].double().numpy()
        ours = vkmoe_logits(args, folder, ids).astype(numpy.float64)
        check(ours.shape == theirs.shape, f"{count} ids: shape {ours.shape}, transformers' {theirs.shape}")
        error = numpy.abs(ours - theirs).max()
        nmse = ((ours - theirs) ** 2).sum() / (theirs ** 2).sum()
        check(nmse <= WORST_NMSE, f"{count} ids: NMSE {nmse:.2e}, largest difference {error:.2e}, "
                                  f"largest logit {numpy.abs(theirs).max():.2f}")


def compare_back(args, model, folder):
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        if model.config.model_type == "qwen2_moe":
            shutil.copy(pathlib.Path(folder) / "config.json", again)
        ids = list(range(1, 20))
        same = numpy.array_equal(vkmoe_logits(args, folder, ids), vkmoe_logits(args, again, ids))
        check(same, "saved by transformers and read by vkmoe: the same bytes of logits")


def compare_tokenizer(folder):
    text = "The quick: brown\n\tfox \u00e9\u4e2d\U0001f642 <|endoftext 0 1."
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    check(ids == list(text.encode()), f"tokenizer.json: {len(ids)} ids, a byte each")
    check(tokenizer.decode(ids) == text, "tokenizer.json: the text comes back")


def main():
    parser = argparse.ArgumentParser(description="compare a run folder with transformers")
    parser.add_argument("folder")
    parser.add_argument("--vkmoe", default="build/tools/vkmoe")
    parser.add_argument("--device")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        model = load(shown(args.folder, temporary))
    compare_logits(args, model, args.folder)
    compare_back(args, model, args.folder)
    compare_tokenizer(args.folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
