#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The independent oracle of tests/golden: the same model, losses and AdamW in PyTorch, in float64.

    build/tests/golden/golden tests/golden/CASE.json --export DIR
    tools/oracle.py tests/golden/CASE.json DIR > tests/golden/CASE.golden.json

Written from the papers and Hugging Face's conventions, not from this program's code. Only torch is needed;
the file formats are read by hand. Tests do not run this script; they read what it wrote.
"""
import json
import math
import struct
import sys

import torch

torch.set_default_dtype(torch.float64)


def read_safetensors(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, data = json.loads(file.read(size)), file.read()
    out = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
        out[name] = flat.reshape(info["shape"]).double()
    return out


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))


# by Hugging Face's names
ACTIVATIONS = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu, "gelu_new": gelu_tanh,
               "gelu_pytorch_tanh": gelu_tanh, "relu2": lambda x: x.relu().square()}


class Config:
    def __init__(self, raw):
        self.__dict__.update(raw)
        self.mixtral = raw["model_type"] == "mixtral"
        self.experts = raw.get("num_local_experts", raw.get("num_experts", 0))
        self.renormalise = True if self.mixtral else raw.get("norm_topk_prob", False)
        self.window = raw.get("sliding_window") or 0
        self.temperature = raw.get("router_temperature", 1.0)
        self.qk_norm = raw.get("qk_norm", False)
        self.act = ACTIVATIONS[raw.get("hidden_act", "silu")]
        self.gated = raw.get("mlp_gated", True)
        self.tied = raw.get("tie_word_embeddings", False)
        self.embedding_weight_decay = raw.get("embedding_weight_decay", True)

    def is_moe(self, layer):
        if self.mixtral:
            return True
        sparse_step = getattr(self, "decoder_sparse_step", 1)
        return (layer + 1) % sparse_step == 0 and layer not in getattr(self, "mlp_only_layers", [])


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """x [batch, heads, seq, dim]; pairs (i, i + dim/2) as in Hugging Face's rotate_half."""
    seq, dim = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(seq)[:, None] * frequency[None]
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    half = torch.cat([-x[..., dim // 2:], x[..., :dim // 2]], -1)
    return x * cos + half * sin


def attention(c, w, prefix, x):
    batch, seq, _ = x.shape
    heads, kv = c.num_attention_heads, c.num_key_value_heads

    def project(name, count):
        return (x @ w[prefix + name + "_proj.weight"].T).view(batch, seq, count, c.head_dim)

    q, k, v = project("q", heads), project("k", kv), project("v", kv)
    if c.qk_norm:
        q = rms_norm(q, w[prefix + "q_norm.weight"], c.rms_norm_eps)
        k = rms_norm(k, w[prefix + "k_norm.weight"], c.rms_norm_eps)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    q, k = rotate(q, c.rope_theta), rotate(k, c.rope_theta)
    k, v = (t.repeat_interleave(heads // kv, dim=1) for t in (k, v))
    i, j = torch.arange(seq)[:, None], torch.arange(seq)[None]
    seen = (j <= i) & ((i - j < c.window) if c.window else True)
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(c.head_dim)
    out = scores.masked_fill(~seen, -math.inf).softmax(-1) @ v
    return out.transpose(1, 2).reshape(batch, seq, -1) @ w[prefix + "o_proj.weight"].T


def body(c, x, weights):
    """Three matrices where gated (gate, up, down), else two."""
    if c.gated:
        gate, up, down = weights
        return (c.act(x @ gate.T) * (x @ up.T)) @ down.T
    up, down = weights
    return c.act(x @ up.T) @ down.T


def body_names(c):
    names = ("w1", "w3", "w2") if c.mixtral else ("gate_proj", "up_proj", "down_proj")
    return names if c.gated else names[1:]


def moe(c, w, layer, x):
    """Returns the output and the two auxiliary losses (Switch balance divided by k, and z)."""
    prefix = f"model.layers.{layer}." + ("block_sparse_moe." if c.mixtral else "mlp.")
    flat = x.reshape(-1, x.shape[-1])
    logits = flat @ w[prefix + "gate.weight"].T / c.temperature
    probs = logits.softmax(-1)
    gates, picks = probs.topk(c.num_experts_per_tok, -1)
    if c.renormalise:
        gates = gates / gates.sum(-1, keepdim=True)
    out = torch.zeros_like(flat)
    for e in range(c.experts):
        tokens, slot = (picks == e).nonzero(as_tuple=True)
        y = body(c, flat[tokens], [w[f"{prefix}experts.{e}.{n}.weight"] for n in body_names(c)])
        out = out.index_add(0, tokens, gates[tokens, slot, None] * y)
    share = torch.bincount(picks.flatten(), minlength=c.experts) / picks.numel()
    balance = c.experts * (share * probs.mean(0)).sum()
    z = logits.logsumexp(-1).pow(2).mean()
    return out.view_as(x), balance, z


def forward(c, w, ids):
    """Logits and the two auxiliary losses, each the mean over the MoE layers."""
    x = w["model.embed_tokens.weight"][ids]
    balance, z, layers = 0.0, 0.0, 0
    for layer in range(c.num_hidden_layers):
        p = f"model.layers.{layer}."
        x = x + attention(c, w, p + "self_attn.", rms_norm(x, w[p + "input_layernorm.weight"], c.rms_norm_eps))
        n = rms_norm(x, w[p + "post_attention_layernorm.weight"], c.rms_norm_eps)
        if c.is_moe(layer):
            y, layer_balance, layer_z = moe(c, w, layer, n)
            balance, z, layers = balance + layer_balance, z + layer_z, layers + 1
        else:
            y = body(c, n, [w[p + f"mlp.{k}.weight"] for k in body_names(c)])
        x = x + y
    x = rms_norm(x, w["model.norm.weight"], c.rms_norm_eps)
    head = w["model.embed_tokens.weight" if c.tied else "lm_head.weight"]
    return x @ head.T, balance / max(layers, 1), z / max(layers, 1)


def decays(c, name):
    """The usual groups: matrices decay, norms do not, embeddings as the config says."""
    return "norm" not in name and ("embed_tokens" not in name or c.embedding_weight_decay)


def stacked(gradients):
    """One entry per tensor of the table: experts stacked, named with %u."""
    groups = {}
    for name, value in gradients.items():
        parts = name.split(".")
        if "experts" in parts:
            parts[parts.index("experts") + 1] = "%u"
        groups.setdefault(".".join(parts), []).append(value.flatten())
    out = {}
    for name, values in groups.items():
        flat = torch.cat(values)
        out[name] = [flat.norm().item(), (flat * torch.arange(1, flat.numel() + 1).sin()).sum().item()]
    return out


def main():
    raw = json.load(open(sys.argv[1]))
    c, folder = Config(raw), sys.argv[2]
    w = {k: v.requires_grad_() for k, v in read_safetensors(folder + "/model.safetensors").items()}
    groups = [{"params": [v for k, v in w.items() if decays(c, k)], "weight_decay": c.weight_decay},
              {"params": [v for k, v in w.items() if not decays(c, k)], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(c.adam_beta1, c.adam_beta2), eps=c.adam_epsilon)
    results = []
    for step in json.load(open(folder + "/batches.json")):
        optimizer.zero_grad()
        shape = (c.batch_size, c.seq_len)
        batches = [(torch.tensor(m["ids"]).view(shape), torch.tensor(m["targets"]).view(shape)) for m in step["micro"]]
        scored = sum((targets != -100).sum() for _, targets in batches)
        total = 0.0
        for ids, targets in batches:
            logits, balance, z = forward(c, w, ids)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / scored
            total += loss.item()
            aux = c.router_aux_loss_coef * balance + c.router_z_loss_coef * z
            (loss + aux / len(batches)).backward()
        gradients = {k: v.grad.clone() for k, v in w.items()}
        norm = torch.nn.utils.clip_grad_norm_(w.values(), c.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = step["lr"]
        optimizer.step()
        results.append({"loss": total, "grad_norm": norm.item(), "gradients": stacked(gradients)})
    print("[" + ",\n".join(json.dumps(r) for r in results) + "]")


main()
