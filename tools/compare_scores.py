#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether the log-probabilities of `vkmoe eval --task` are those that PyTorch computes on the same checkpoint.

    tools/compare_scores.py DIR TASK.jsonl [--vkmoe build/tools/vkmoe] [--device NAME] [--context N]

DIR is a run of Mixtral's or Qwen3-MoE's shape, TASK.jsonl pairs, choices and texts in vkmoe's own form (src/task.h).
The ids come from the package `tokenizers`, the border between prompt and continuation from the rule in src/score.h,
both written here once more; the logits from transformers, in f32, one continuation at a time without padding. Needs
torch, transformers, tokenizers; the tests of the build do not run it. Exit status 1: something differs.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from tokenizers import Tokenizer

WORST_PER_TOKEN = 2e-5  # nats; f32 sums in another order
transformers.utils.logging.disable_progress_bar()


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def requests(item, tokenizer, eot, context):
    """(ids, how many at their end are scored), for each choice or window."""
    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False).ids
    if "text" in item:
        ids = [eot] + encode(item["text"])
        targets, end, out = len(ids) - 1, 0, []
        while end < targets:
            before, end = end, min(targets, end + context)
            begin = max(end - context, 0)
            out.append((ids[begin:end + 1], end - before))
        return out
    prompt = item.get("prompt", "")
    choices = item.get("choices") or [item["good"], item["bad"]]
    alone, whole = encode(prompt), [encode(prompt + c) for c in choices]
    shared = len(alone)
    for w in whole:
        shared = min(shared, common(alone, w), len(w) - 1)
    if shared == 0:
        whole, shared = [[eot] + w for w in whole], 1
    cut = max(max(map(len, whole)) - context - 1, 0)
    return [(w[cut:], len(w) - shared) for w in whole]


def score(model, ids, scored):
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].double()
    rows = torch.log_softmax(logits, -1)[-scored:]
    return sum(float(rows[i, t]) for i, t in enumerate(ids[-scored:]))


def ours(args):
    with tempfile.TemporaryDirectory() as temporary:
        out = str(pathlib.Path(temporary) / "out.json")
        command = [args.vkmoe, "eval", args.folder, "--task", args.task, "--out", out, "--quiet", "--log", "warn",
                   "--untuned"]
        command += ["--device", args.device] if args.device else []
        command += ["--context", str(args.context)] if args.context else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.load(open(out))["answers"]


def main():
    parser = argparse.ArgumentParser(description="compare log-probabilities with PyTorch's")
    parser.add_argument("folder")
    parser.add_argument("task")
    parser.add_argument("--vkmoe", default="build/tools/vkmoe")
    parser.add_argument("--device")
    parser.add_argument("--context", type=int)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    model = transformers.AutoModelForCausalLM.from_pretrained(args.folder, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.folder) / "tokenizer.json"))
    eot = tokenizer.token_to_id("<|endoftext|>")
    context = args.context or model.config.max_position_embeddings
    items = [json.loads(line) for line in open(args.task) if line.strip()]
    items = [i for i in items if not i.get("dev")]
    worst, tokens, failed = 0.0, 0, 0
    for item, answer in zip(items, ours(args), strict=True):
        if "logp" not in answer:
            continue
        theirs, counts = [], []
        for ids, scored in requests(item, tokenizer, eot, context):
            theirs.append(score(model, ids, scored))
            counts.append(scored)
        if "text" in item:
            theirs, counts = [sum(theirs)], [sum(counts)]
        failed += counts != answer["tokens"]
        for a, b, n in zip(theirs, answer["logp"], counts):
            worst = max(worst, abs(a - b) / n)
            tokens += n
    ok = failed == 0 and worst <= WORST_PER_TOKEN
    print(f"{'ok    ' if ok else 'FAIL  '}{len(items)} items, {tokens} tokens scored, largest difference a token "
          f"{worst:.2e} nats, {failed} items with other tokens")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
