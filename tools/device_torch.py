# SPDX-License-Identifier: MIT
"""PyTorch on the same machine and at the same sizes as `vkmoe bench`, for tools/device-bench.

    device_torch.py [--json FILE] [--against FILE] [--device cuda|cpu] [--small]

Prints one line a measurement and writes FILE after each, so that a stop loses nothing. --against takes the
objects of `vkmoe bench --json`, one a line, and prints each of vkmoe's numbers in % of PyTorch's.
"""
import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F

RUNS = 7
results = []


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device, work):
    """Milliseconds: the median of RUNS after two that do not count."""
    samples = []
    for i in range(RUNS + 2):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        samples.append(1e3 * (time.perf_counter() - began))
    return statistics.median(samples[2:])


def add(args, name, ms, flops=0, moved=0, tokens=0):
    result = {"name": name, "ms": ms}
    if flops:
        result["tflops"] = 1e-9 * flops / ms
    if moved:
        result["gbps"] = 1e-6 * moved / ms
    if tokens:
        result["tokens_per_s"] = 1e3 * tokens / ms
    results.append(result)
    print("torch " + "  ".join(f"{key} {value:.4g}" if not isinstance(value, str) else f"{value:44s}"
                               for key, value in result.items()), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"torch": torch.__version__, "results": results}, file, indent=1)


def guarded(part, *args):
    """A part that this version of PyTorch or this card cannot do says so; the rest goes on."""
    try:
        part(*args)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        print(f"torch {part.__name__}: {str(error).splitlines()[0] if str(error) else type(error).__name__}", flush=True)


# ---- matmul, copy, attention


def matmuls(args):
    for dtype in (torch.float16, torch.bfloat16):
        for n in (256,) if args.small else (4096, 8192):
            a, b = (torch.randn(n, n, device=args.device).to(dtype) for _ in range(2))
            add(args, f"matmul {n} {str(dtype)[6:]}", timed(args.device, lambda: a @ b.T), 2 * n ** 3)


def copies(args):
    x = torch.empty((1 << 20) if args.small else (1 << 28), dtype=torch.uint8, device=args.device)
    y = torch.empty_like(x)
    add(args, "copy", timed(args.device, lambda: y.copy_(x)), moved=2 * x.numel())
    rows, cols = (512, 256) if args.small else (50304, 2048)
    w = torch.randn(rows, cols, device=args.device).to(torch.bfloat16)
    v = torch.randn(cols, device=args.device).to(torch.bfloat16)
    add(args, "matvec 1x50304x2048 bfloat16", timed(args.device, lambda: w @ v), moved=2 * rows * cols)


def attention(args):
    batch, heads, seq, dim = (1, 2, 128, 32) if args.small else (2, 16, 2048, 128)
    q, k, v = (torch.randn(batch, heads, seq, dim, device=args.device).to(torch.bfloat16) for _ in range(3))
    ms = timed(args.device, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    add(args, "attention causal bfloat16", ms, 2 * batch * seq * seq * heads * dim)


# ---- a layer of experts: OLMoE's, 64 experts top-8 of 1024 x 2048


def expert_layer(args):
    experts, top_k, inner, hidden, tokens = (8, 2, 32, 64, 128) if args.small else (64, 8, 1024, 2048, 4096)
    device, dtype = args.device, torch.bfloat16

    def weight(*shape):
        return (0.02 * torch.randn(*shape, device=device)).to(dtype).requires_grad_()

    gate, up, down = weight(experts, inner, hidden), weight(experts, inner, hidden), weight(experts, hidden, inner)
    router = weight(experts, hidden)
    x = torch.randn(tokens, hidden, device=device).to(dtype).requires_grad_()
    flops = 18 * tokens * top_k * inner * hidden

    def route():
        probs = F.softmax(F.linear(x, router).float(), -1)
        weights, ids = probs.topk(top_k, -1)
        return weights.to(dtype), ids

    def loop():  # as Hugging Face's eager OLMoE: a loop over the experts
        weights, ids = route()
        out = torch.zeros_like(x)
        mask = F.one_hot(ids, experts).permute(2, 1, 0)
        for e in range(experts):
            pick, token = torch.where(mask[e])
            rows = x[token]
            y = F.linear(F.silu(F.linear(rows, gate[e])) * F.linear(rows, up[e]), down[e])
            out = out.index_add(0, token, y * weights[token, pick, None])
        return out

    def grouped():
        weights, ids = route()
        order = ids.flatten().argsort(stable=True)
        offsets = torch.bincount(ids.flatten(), minlength=experts).cumsum(0).to(torch.int32)
        mm = getattr(F, "grouped_mm", None) or torch._grouped_mm
        rows = x[order // top_k]
        h = F.silu(mm(rows, gate.transpose(1, 2), offs=offsets)) * mm(rows, up.transpose(1, 2), offs=offsets)
        y = mm(h, down.transpose(1, 2), offs=offsets) * weights.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, order // top_k, y)

    def both(forward):
        for tensor in (x, gate, up, down, router):
            tensor.grad = None
        forward().backward(seed)

    seed = torch.randn(tokens, hidden, device=device).to(dtype)
    for name, forward in (("loop", loop), ("grouped", grouped)):
        guarded(lambda: add(args, f"expert layer {name} forward+backward", timed(device, lambda: both(forward)), flops,
                            tokens=tokens))


# ---- a training step of H64LM (assets/h64lm.json)


class Block(torch.nn.Module):
    def __init__(self, c, moe):
        super().__init__()
        linear = torch.nn.Linear
        self.c, self.moe = c, moe
        self.norm1, self.norm2 = (torch.nn.RMSNorm(c["hidden"], eps=1e-5) for _ in range(2))
        self.q = linear(c["hidden"], c["hidden"], bias=False)
        self.k, self.v = (linear(c["hidden"], c["kv"] * c["dim"], bias=False) for _ in range(2))
        self.o = linear(c["hidden"], c["hidden"], bias=False)
        self.router = linear(c["hidden"], c["experts"], bias=False) if moe else None
        self.experts = torch.nn.ModuleList(torch.nn.ModuleDict({
            "gate": linear(c["hidden"], c["inner"], bias=False), "up": linear(c["hidden"], c["inner"], bias=False),
            "down": linear(c["inner"], c["hidden"], bias=False)}) for _ in range(c["experts"] if moe else 1))

    def heads(self, x, count):
        return x.view(*x.shape[:2], count, self.c["dim"]).transpose(1, 2)

    def feed_forward(self, e, x):
        expert = self.experts[e]
        return expert["down"](F.silu(expert["gate"](x)) * expert["up"](x))

    def forward(self, x, cos, sin):
        c, n = self.c, self.norm1(x)
        q, k, v = self.heads(self.q(n), c["heads"]), self.heads(self.k(n), c["kv"]), self.heads(self.v(n), c["kv"])
        q, k = (t * cos + torch.cat((-t[..., c["dim"] // 2:], t[..., :c["dim"] // 2]), -1) * sin for t in (q, k))
        k, v = (t.repeat_interleave(c["heads"] // c["kv"], 1) for t in (k, v))
        o = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.o(o.transpose(1, 2).reshape(x.shape))
        n = self.norm2(x)
        if not self.moe:
            return x + self.feed_forward(0, n)
        flat = n.view(-1, n.shape[-1])
        weights, ids = F.softmax(self.router(flat).float() / 2, -1).topk(c["top_k"], -1)
        out = torch.zeros_like(flat)
        for e in range(c["experts"]):
            token, pick = torch.where(ids == e)
            y = self.feed_forward(e, flat[token]) * weights[token, pick, None].to(flat.dtype)
            out = out.index_add(0, token, y.to(out.dtype))
        return x + out.view(x.shape)


class H64LM(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = torch.nn.Embedding(c["vocab"], c["hidden"])
        self.blocks = torch.nn.ModuleList(Block(c, layer % 2 == 1) for layer in range(c["layers"]))
        self.norm = torch.nn.RMSNorm(c["hidden"], eps=1e-5)
        self.head = torch.nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(self, ids):
        half = self.c["dim"] // 2
        angle = torch.arange(ids.shape[1], device=ids.device)[:, None] * \
            10000 ** (-torch.arange(half, device=ids.device) / half)
        cos, sin = (torch.cat((f(angle), f(angle)), -1) for f in (torch.cos, torch.sin))
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))


def training(args, batch, mixed):
    c = {"hidden": 768, "heads": 12, "kv": 4, "dim": 64, "experts": 8, "top_k": 2, "inner": 3072, "vocab": 32000, "layers": 6}
    seq = 512
    if args.small:
        c.update(hidden=64, heads=4, kv=2, dim=16, inner=96, vocab=260, layers=2)
        seq = 64
    torch.manual_seed(1)
    model = H64LM(c).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
    ids = torch.randint(c["vocab"], (batch, seq + 1), device=args.device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=mixed):
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    name = f"train_step h64lm B{batch} {'bfloat16' if mixed else 'float32'}"
    add(args, name, timed(args.device, step), tokens=batch * seq)


# ---- vkmoe's numbers beside these


def best(path, name, shape, store):
    """The last result of that name, shape and storage type."""
    found = None
    with open(path) as file:
        for line in file:
            for result in json.loads(line)["results"]:
                if (result["name"], result["shape"], result["variant"].split()[0]) == (name, shape, store):
                    found = result
    return found


def compare(path):
    layer = ("moe_layer forward+backward", "E64 k8 T4096 1024x2048", "bf16")
    rows = [(f"matmul {n} {long}", ("matmul_nt", f"{n}x{n}x{n}", short))
            for n in (4096, 8192) for long, short in (("float16", "f16"), ("bfloat16", "bf16"))]
    rows += [("expert layer loop forward+backward", layer), ("expert layer grouped forward+backward", layer),
             ("train_step h64lm B1 float32", ("train_step h64lm", "B1 S512", "f32")),
             ("train_step h64lm B8 bfloat16", ("train_step h64lm-bf16", "B8 S512", "bf16")),
             ("attention causal bfloat16", ("attention", "B2 S2048 h16 kv16 d128", "bf16"))]
    times = {result["name"]: result["ms"] for result in results}
    print(f"{'':40s}  {'torch ms':>10s}  {'vkmoe ms':>10s}  {'% of torch':>10s}  variant")
    for name, wanted in rows:
        own = best(path, *wanted)
        if name in times and own:
            print(f"{name:40s}  {times[name]:10.4f}  {own['ms']:10.4f}  {100 * times[name] / own['ms']:10.1f}  {own['variant']}")
        else:
            print(f"{name:40s}  {'-' if name not in times else format(times[name], '10.4f'):>10s}  "
                  f"{'-' if not own else format(own['ms'], '10.4f'):>10s}  {'-':>10s}")
    with open(path) as file:
        for line in file:
            found = json.loads(line)
            for result in found["results"]:
                if result["name"].startswith("decode"):
                    print(f"{result['name']} {result['shape']}: {result['gbps']:.1f} GB/s, "
                          f"{100 * result['gbps'] / found['peaks']['copy_gbps']:.1f} % of copy")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--against")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="sizes for a test of this script")
    args = parser.parse_args()
    torch.manual_seed(1)
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name() if args.device == 'cuda' else 'the CPU'}")
    for part in (matmuls, copies, attention, expert_layer):
        guarded(part, args)
    guarded(training, args, 1, False)
    guarded(training, args, 2 if args.small else 8, True)
    if args.against:
        guarded(compare, args.against)
    return 0 if results and not any(math.isnan(result["ms"]) for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
