#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The independent oracle of tests/golden: the same model, losses and AdamW in PyTorch, in float64.

    build/tests/golden/golden tests/golden/CASE.json --export DIR
    tools/oracle.py tests/golden/CASE.json DIR > tests/golden/CASE.golden.json

Written from the papers and Hugging Face's conventions, not from this program's code. Only torch is needed;
the file formats are read by hand. Tests do not run this script; they read what it wrote.
"""
import fnmatch
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
        self.raw = raw
        self.mixtral = raw["model_type"] == "mixtral"
        self.experts = raw.get("num_local_experts", raw.get("num_experts", 0))
        self.window = raw.get("sliding_window") or 0
        self.qk_norm = raw.get("qk_norm", False)
        self.act = ACTIVATIONS[raw.get("hidden_act", "silu")]
        self.gated = raw.get("mlp_gated", True)
        self.tied = raw.get("tie_word_embeddings", False)
        self.embedding_weight_decay = raw.get("embedding_weight_decay", True)
        self.normed = raw.get("norm", "rms") == "rms"
        self.weighted = self.normed and raw.get("norm_weight", True)
        self.rope = raw.get("positions", "rope") == "rope"
        self.turn = -1 if raw.get("rope_inverse", False) else 1
        self.causal = raw.get("causal", True)
        self.softcap = raw.get("logit_softcap") or 0
        self.repeats = raw.get("layer_repeats") or [0, -1, 0]
        for key in ("qk_gain", "embedding_norm", "smear_gate", "bigram_hash_size", "trigram_hash_size", "unet_skips",
                    "residual_mix", "channel_scales", "mlp_bias", "attention_bias"):
            setattr(self, key, raw.get(key) or 0)
        self.out_proj = raw.get("attention_out_proj", True)
        self.moe_layers = sum(self.is_moe(layer) for layer in range(raw["num_hidden_layers"])) if self.experts else 0
        self.expert_optimizer = raw.get("expert_optimizer", "per-expert")

    def owner(self, layer):
        """The layer whose weights this one has."""
        first, last, times = self.repeats
        span = last - first + 1
        return first + (layer - first) % span if first <= layer < first + span * times else layer

    def is_moe(self, layer):
        if not self.experts:
            return False
        if self.mixtral:
            return True
        sparse_step = getattr(self, "decoder_sparse_step", 1)
        layer = self.owner(layer)
        return (layer + 1) % sparse_step == 0 and layer not in getattr(self, "mlp_only_layers", [])


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def norm(c, w, name, x):
    if not c.normed:
        return x
    return rms_norm(x, w[name] if c.weighted else 1.0, c.rms_norm_eps)


def linear(w, name, x):
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if name + ".bias" in w else y


def rotate(x, theta, turn):
    """x [batch, heads, seq, dim]; pairs (i, i + dim/2) as in Hugging Face's rotate_half."""
    seq, dim = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, dim, 2) / dim)
    angle = turn * torch.arange(seq)[:, None] * frequency[None]
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    half = torch.cat([-x[..., dim // 2:], x[..., :dim // 2]], -1)
    return x * cos + half * sin


def attention(c, w, prefix, x):
    batch, seq, _ = x.shape
    heads, kv = c.num_attention_heads, c.num_key_value_heads

    def project(name, count):
        return linear(w, prefix + name + "_proj", x).view(batch, seq, count, c.head_dim)

    q, k, v = project("q", heads), project("k", kv), project("v", kv)
    if c.qk_norm:
        q, k = norm(c, w, prefix + "q_norm.weight", q), norm(c, w, prefix + "k_norm.weight", k)
    if c.qk_gain:
        q = q * w[prefix + "q_gain"][:, None]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if c.rope:
        q, k = rotate(q, c.rope_theta, c.turn), rotate(k, c.rope_theta, c.turn)
    k, v = (t.repeat_interleave(heads // kv, dim=1) for t in (k, v))
    i, j = torch.arange(seq)[:, None], torch.arange(seq)[None]
    seen = (j <= i) & ((i - j < c.window) if c.window else True) if c.causal else i + j >= 0
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(c.head_dim)
    if c.begins is not None:  # blocks along the diagonal
        seen = (seen & (c.begins[:, :, None] == c.begins[:, None, :]))[:, None]
    out = scores.masked_fill(~seen, -math.inf).softmax(-1) @ v
    out = out.transpose(1, 2).reshape(batch, seq, -1)
    return linear(w, prefix + "o_proj", out) if c.out_proj else out


def body(c, w, prefix, x):
    """Three matrices where gated (gate, up, down), else two."""
    if c.gated:
        gate, up, down = (prefix + n for n in body_names(c))
        return linear(w, down, c.act(linear(w, gate, x)) * linear(w, up, x))
    up, down = (prefix + n for n in body_names(c))
    return linear(w, down, c.act(linear(w, up, x)))


def body_names(c):
    names = ("w1", "w3", "w2") if c.mixtral else ("gate_proj", "up_proj", "down_proj")
    return names if c.gated else names[1:]


# the keys of a router, and what they are where a file is silent
ROUTER = {"router_type": "topk", "n_domains": 0, "domains_per_tok": 0, "router_body": "linear", "router_learn_temperature": False, "router_jitter_noise": 0.0, "capacity_factor": 0.0, "scoring_func": "softmax", "min_experts_per_tok": 0, "router_threshold": 0.05,
          "router_top_p": 0.9, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0,
          "router_bias_update_speed": 1e-3, "router_temperature": 1.0, "norm_topk_prob": False,
          "num_experts_per_tok": 0, "router_aux_loss_coef": None, "router_aux_loss_hf_coef": 0.0,
          "router_aux_loss_global": False, "router_z_loss_coef": 0.0, "router_entropy_coef": 0.0,
          "router_mean_entropy_coef": 0.0, "router_variance_coef": 0.0, "router_importance_coef": 0.0,
          "router_z_square_coef": 0.0, "router_loss_layers": "moe"}


class Router:
    """Of one layer: the file's keys, then what "layers" says of it."""
    def __init__(self, c, layer):
        own = c.raw.get("layers", {}).get(str(layer), {})
        self.__dict__.update({k: own.get(k, c.raw.get(k, v)) for k, v in ROUTER.items()})
        if c.mixtral:
            self.norm_topk_prob = True
        if self.router_aux_loss_coef is None:
            self.router_aux_loss_coef = 0.0 if self.router_type in ("sigmoid_bias", "expert_choice") else 0.01
        self.share = 1 / (c.num_hidden_layers if self.router_loss_layers == "all" else c.moe_layers)


def philox(key, counter):
    """Philox 4x32-10 (Salmon et al. 2011): two key words, four counter words -> four words."""
    key, x = list(key), list(counter)
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [b >> 32 ^ x[1] ^ key[0], b & 0xffffffff, a >> 32 ^ x[3] ^ key[1], a & 0xffffffff]
        key = [(key[0] + 0x9E3779B9) & 0xffffffff, (key[1] + 0xBB67AE85) & 0xffffffff]
    return x


def body_logits(c, r, w, name, x, hidden):
    """What the router body makes of x: the rows of `name` are weights, or directions."""
    if r.router_body == "cosine":
        cut = torch.nn.functional.normalize
        return cut(x, dim=-1) @ cut(w[name + ".weight"], dim=-1).T
    return linear(w, name, c.act(linear(w, hidden, x)) if r.router_body == "mlp" else x)


def shaken(c, r, w, prefix, layer, flat, logits, rows=None):
    """Jitter, noise (in training) and the learned temperature; `rows`: which counter a row of logits has."""
    tokens, experts = logits.shape
    rows = range(tokens) if rows is None else rows
    blocks = [[philox((c.seed & 0xffffffff, c.seed >> 32), (e, c.micro * tokens + t, layer, c.step))
               for e in range(experts)] for t in rows]
    u = ((torch.tensor(blocks) >> 9).double() + 0.5) / 2 ** 23
    normal = (-2 * u[..., 0].log()).sqrt() * (2 * math.pi * u[..., 1]).cos()
    logits = logits * (1 + r.router_jitter_noise * (2 * u[..., 2] - 1))
    if r.router_type == "noisy_topk":
        logits = logits + normal * torch.nn.functional.softplus(flat @ w[prefix + "gate.noise.weight"].T)
    if r.router_learn_temperature:
        return logits / torch.nn.functional.softplus(w[prefix + "gate.temperature"])
    return logits / r.router_temperature


def hashed(c, r, layer, ids):
    """The experts of each token by its id, as bool [tokens][experts]."""
    mask = torch.zeros(len(ids), c.experts, dtype=torch.bool)
    for t, token in enumerate(ids.tolist()):
        x = (token + layer * 0x9e3779b9) & 0xffffffff
        x = (x ^ x >> 16) * 0x85ebca6b & 0xffffffff
        x = (x ^ x >> 13) * 0xc2b2ae35 & 0xffffffff
        x ^= x >> 16
        for k in range(r.num_experts_per_tok):
            mask[t, (x + k * (c.experts // r.num_experts_per_tok)) % c.experts] = True
    return mask


def within_capacity(c, r, mask):
    """The first tokens of each expert, in order of position."""
    if not r.capacity_factor or r.router_type == "expert_choice":
        return mask
    most = math.ceil(r.capacity_factor * len(mask) * r.num_experts_per_tok / c.experts)
    return mask & (mask.long().cumsum(0) <= most)


def in_groups(r, choice):
    """DeepSeek-V3: all but the groups whose two best sum to most are out."""
    groups = choice.view(len(choice), r.n_group, -1)
    best = groups.topk(min(2, groups.shape[-1]), -1).values.sum(-1).topk(r.topk_group, -1).indices
    closed = torch.ones(len(choice), r.n_group, dtype=torch.bool).scatter(1, best, False)
    return groups.masked_fill(closed[..., None], -math.inf).flatten(1)


def taken(r, scores, choice):
    """Which experts each token takes, bool [tokens][experts]."""
    experts = scores.shape[-1]
    if r.router_type == "dense":
        return torch.ones_like(scores, dtype=torch.bool)
    if r.router_type == "expert_choice": # Zhou et al. 2022: top-k of each column, k = n c / e
        most = math.ceil((r.capacity_factor or min(2, experts)) * len(scores) / experts)
        first = scores.sort(dim=0, descending=True, stable=True).indices[:min(most, len(scores))]
        return torch.zeros_like(scores, dtype=torch.bool).scatter(0, first, True)
    one = r.router_type in ("switch", "straight_through")
    most = 1 if one else r.num_experts_per_tok or experts
    order = choice.sort(dim=-1, descending=True, stable=True).indices[:, :most]
    ranked = scores.gather(1, order)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if r.router_type == "threshold":
        keep = ranked > r.router_threshold
    if r.router_type in ("top_p", "dynamic"):
        keep = ranked.cumsum(-1) - ranked < r.router_top_p
    keep[:, :r.min_experts_per_tok] = True
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, keep)


def gates_of(r, scores, mask):
    gates = scores * mask
    if r.router_type == "straight_through": # 1 forward, backward as if it were the score
        return mask + gates - gates.detach()
    if r.norm_topk_prob or r.router_type in ("threshold", "sigmoid_bias", "noisy_topk"):
        gates = gates / gates.sum(-1, keepdim=True).clamp_min(1e-20)
    return gates * r.routed_scaling_factor


def entropy(q, eps=0.0):
    return -(q * (q + eps).clamp_min(1e-300).log()).sum(-1)


def router_losses(c, r, layer, logits, q, gates, mask):
    """Coefficient times loss, summed: of one layer, without what is over all layers."""
    counts = mask.sum(0).double()
    c.step_counts[layer] = c.step_counts.get(layer, 0) + counts
    load = c.step_counts[layer] if r.router_aux_loss_global else counts
    mean, importance, experts = q.mean(0), gates.sum(0), q.shape[-1]
    cv = importance.var(unbiased=False) / (importance.mean() ** 2 + 1e-10)
    total = r.router_aux_loss_coef * experts * (load / load.sum() * mean).sum()
    total = total + r.router_z_loss_coef * logits.logsumexp(-1).pow(2).mean()
    total = total + r.router_z_square_coef * logits.pow(2).mean()
    total = total - r.router_entropy_coef * entropy(q).mean()
    total = total - r.router_mean_entropy_coef * entropy(mean, 1e-9)
    total = total + r.router_variance_coef * (mean - 1 / experts).pow(2).mean()
    return r.share * (total + r.router_importance_coef * cv)


def two_levels(c, r, w, prefix, layer, flat):
    """A router over domains, then one over the experts of each picked domain: gates [tokens][experts], and the
    losses of both. The product of the two gates; a lone domain keeps its probability."""
    tokens, size, picked = len(flat), c.experts // r.n_domains, r.domains_per_tok or 1
    u = body_logits(c, r, w, prefix + "gate.domain", flat, prefix + "gate.hidden")
    u = shaken(c, r, w, prefix, layer + (1 << 16), flat, u)
    p = u.softmax(-1)
    chosen = p.detach().sort(dim=-1, descending=True, stable=True).indices[:, :picked]
    open_domain = torch.zeros_like(p, dtype=torch.bool).scatter(1, chosen, True)
    domain_gates = p * open_domain
    if r.norm_topk_prob and picked > 1:
        domain_gates = domain_gates / domain_gates.sum(-1, keepdim=True)
    z = body_logits(c, r, w, prefix + "gate", flat, prefix + "gate.hidden").view(tokens, r.n_domains, size)
    # the rows of the second level, by domain, then by token
    domain, token = open_domain.T.nonzero(as_tuple=True)
    z = shaken(c, r, w, prefix, layer, flat, z[token, domain])
    q = z.softmax(-1)
    order = q.detach().sort(dim=-1, descending=True, stable=True).indices[:, :r.num_experts_per_tok // picked]
    ranked = q.detach().gather(1, order)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if r.min_experts_per_tok:
        keep = ranked.cumsum(-1) - ranked < r.router_top_p
        keep[:, :r.min_experts_per_tok // picked] = True
    mask = torch.zeros_like(q, dtype=torch.bool).scatter(1, order, keep)
    row_gates = q * mask
    if r.norm_topk_prob:
        row_gates = row_gates / row_gates.sum(-1, keepdim=True)
    place = torch.zeros(tokens, r.n_domains, size)
    gates = place.index_put((token, domain), row_gates * domain_gates[token, domain, None] * r.routed_scaling_factor)
    taken = torch.zeros_like(place, dtype=torch.bool).index_put((token, domain), mask).flatten(1)
    spread = torch.zeros(len(z), r.n_domains, size).index_put((torch.arange(len(z)), domain), q).flatten(1)
    gates = gates.flatten(1)
    losses = router_losses(c, r, layer, z, spread, gates, taken)
    losses = losses + router_losses(c, r, ("domains", layer), u, p, domain_gates, open_domain)
    return gates, taken, spread.mean(0), losses


def moe(c, w, layer, x, touched):
    """Returns the output and the auxiliary losses; leaves the load for the balancing bias, and who got tokens."""
    prefix = f"model.layers.{layer}." + ("block_sparse_moe." if c.mixtral else "mlp.")
    r = Router(c, layer)
    flat = x.reshape(-1, x.shape[-1])
    if r.router_type == "hierarchical":
        gates, mask, mean, losses = two_levels(c, r, w, prefix, layer, flat)
        return experts_of(c, r, w, prefix, x, gates, mask, mean, touched), losses
    if r.router_type == "hash":
        mask = hashed(c, r, layer, c.ids)
        scores = mask.double() / r.num_experts_per_tok
        logits = scores.log()
    else:
        logits = shaken(c, r, w, prefix, layer, flat, body_logits(c, r, w, prefix + "gate", flat, prefix + "gate.hidden"))
        scores = logits.softmax(-1)
    sigmoid = r.scoring_func == "sigmoid" or r.router_type == "sigmoid_bias"
    scores = logits.sigmoid() if sigmoid else scores
    q = scores / scores.sum(-1, keepdim=True)
    choice = scores.detach()
    if r.router_type == "sigmoid_bias":
        choice = choice + w[prefix + "gate.e_score_correction_bias"].detach()
    if r.n_group > 1:
        choice = in_groups(r, choice)
    if r.router_type != "hash":
        mask = taken(r, scores, choice)
    gates = gates_of(r, scores, mask)
    out = experts_of(c, r, w, prefix, x, gates, mask, q.mean(0), touched)
    return out, router_losses(c, r, layer, logits, q, gates, mask)


def experts_of(c, r, w, prefix, x, gates, mask, mean, touched):
    flat = x.reshape(-1, x.shape[-1])
    kept = within_capacity(c, r, mask)
    out = torch.zeros_like(flat)
    for e in range(c.experts):
        tokens = kept[:, e].nonzero(as_tuple=True)[0]
        if len(tokens):
            touched.add(f"{prefix}experts.{e}.")
        y = body(c, w, f"{prefix}experts.{e}.", flat[tokens])
        out = out.index_add(0, tokens, gates[tokens, e, None] * y)
    if c.raw.get("shared_expert_intermediate_size", 0):
        shared = body(c, w, prefix + "shared_expert.", flat)
        if c.raw.get("shared_expert_gate", False): # as Qwen2MoeSparseMoeBlock
            shared = torch.sigmoid(linear(w, prefix + "shared_expert_gate", flat)) * shared
        out = out + shared
    c.pooled.append((r, mask.double().mean(0), mean))
    return out.view_as(x)


def pooled_loss(c):
    """Hugging Face's load_balancing_loss_func: its means are over the tokens of all layers."""
    fraction = sum(f for _, f, _ in c.pooled) / len(c.pooled)
    return sum(r.router_aux_loss_hf_coef * r.share * len(fraction) * (fraction * mean).sum()
               for r, _, mean in c.pooled)


def move_biases(c, w):
    for layer, load in c.step_counts.items():
        if isinstance(layer, tuple):
            continue
        r = Router(c, layer)
        if r.router_type == "sigmoid_bias":
            bias = w[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"]
            bias.data += r.router_bias_update_speed * (load.mean() - load).sign()


def shifted(x, steps):
    """x [batch, seq, ...] moved towards later places, zeros in front."""
    return torch.cat([torch.zeros_like(x[:, :steps]), x[:, :x.shape[1] - steps]], 1)


def places(c, ids):
    """[batch, seq]: of each token in its document."""
    return torch.arange(ids.shape[1])[None] - (torch.zeros_like(ids) if c.begins is None else c.begins)


def hash_rows(which, ids, size, place):
    """Table rows of the last two (the three last) tokens, as PR 660 of openai/parameter-golf hashes them."""
    before, earlier = shifted(ids, 1), shifted(ids, 2)
    if which == "bigram":
        rows = torch.bitwise_xor(36313 * ids, 27191 * before) % (size - 1)
        rows[place == 0] = size - 1
    else:
        rows = (961 * earlier + 31 * before + ids) % size
        rows[place < 2] = 0
    return rows


def embed(c, w, ids):
    x = w["model.embed_tokens.weight"][ids]
    for which in ("bigram", "trigram"):
        size, p = getattr(c, which + "_hash_size"), f"model.{which}."
        if size:
            rows = w[p + "embed.weight"][hash_rows(which, ids, size, places(c, ids))]
            x = x + w[p + "scale"] * (rows @ w[p + "proj.weight"].T)
    if c.embedding_norm:
        x = rms_norm(x, 1.0, c.rms_norm_eps)
    if c.smear_gate:
        gate = w["model.smear.gate"].sigmoid()
        x = (1 - gate) * x + gate * shifted(x, 1) * (places(c, ids) > 0)[:, :, None]
    return x


def forward(c, w, ids, touched):
    """Logits and the auxiliary losses."""
    x = x0 = embed(c, w, ids)
    aux, c.pooled, outputs, half = 0.0, [], [], c.num_hidden_layers // 2
    c.ids = ids.flatten()
    for layer in range(c.num_hidden_layers):
        p = f"model.layers.{c.owner(layer)}."
        if c.unet_skips and half <= layer < 2 * half:
            x = x + w[p + "skip_scale"] * outputs.pop()
        if c.residual_mix:
            x = w[p + "mix_residual"] * x + w[p + "mix_embed"] * x0
        y = attention(c, w, p + "self_attn.", norm(c, w, p + "input_layernorm.weight", x))
        x = x + (w[p + "attention_scale"] * y if c.channel_scales else y)
        n = norm(c, w, p + "post_attention_layernorm.weight", x)
        if c.is_moe(layer):
            y, losses = moe(c, w, c.owner(layer), n, touched)
            aux = aux + losses
        else:
            y = body(c, w, p + "mlp.", n)
        x = x + (w[p + "mlp_scale"] * y if c.channel_scales else y)
        if c.unet_skips and layer < half:
            outputs.append(x)
    x = norm(c, w, "model.norm.weight", x)
    logits = x @ w["model.embed_tokens.weight" if c.tied else "lm_head.weight"].T
    if "lm_head.bias" in w:
        logits = logits + w["lm_head.bias"]
    if c.softcap:
        logits = c.softcap * torch.tanh(logits / c.softcap)
    return logits, aux + (pooled_loss(c) if c.pooled else 0.0)


def decays(c, name, value):
    """The usual groups: matrices decay, vectors (norms, biases, factors) do not, embeddings as the config says."""
    return value.dim() > 1 and ("embed_tokens" not in name or c.embedding_weight_decay)


def expert_of(name):
    """model.layers.0.mlp.experts.3. of a tensor of an expert, else None."""
    parts = name.split(".")
    return ".".join(parts[:parts.index("experts") + 2]) + "." if "experts" in parts else None


class LazyAdamW:
    """What TensorFlow's LazyAdam and torch.optim.SparseAdam do with rows that have no gradient, whole experts at
    a time: they stay as they are, and bias correction goes by the step of all. Weight decay as AdamW."""

    def __init__(self, p, betas, eps, weight_decay):
        self.p, self.betas, self.eps, self.weight_decay = p, betas, eps, weight_decay
        self.mean, self.square = torch.zeros_like(p), torch.zeros_like(p)

    def step(self, lr, t):
        (b1, b2), p, m, v = self.betas, self.p, self.mean, self.square
        m.copy_(b1 * m + (1 - b1) * p.grad)
        v.copy_(b2 * v + (1 - b2) * p.grad ** 2)
        p.mul_(1 - lr * self.weight_decay)
        p.sub_(lr * (m / (1 - b1 ** t)) / ((v / (1 - b2 ** t)).sqrt() + self.eps))


def cells(places):
    """Dynamic quantisation (Dettmers et al. 2022): seven decades, the last one ends at 1; borders and middles."""
    borders = torch.cat([10.0 ** (i - 6) * torch.linspace(0.1, 1, places * 2 ** i + 1)[:-1] for i in range(7)])
    borders = torch.cat([borders, torch.ones(1)])
    return borders, (borders[:-1] + borders[1:]) / 2


SIGNED, UNSIGNED = cells(1), cells(2)


def to_codes_and_back(x, signed):
    """Blocks of 256, each divided by its largest magnitude (kept in f32), every value to the middle of its cell.
    Half of the largest cell is 1, which no negative value takes; half of the smallest is 0, of signed ones."""
    borders, middles = SIGNED if signed else UNSIGNED
    flat = x.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % 256)).view(-1, 256)
    factor = blocks.abs().amax(1, keepdim=True)
    factor = torch.where(factor > 1e-30, factor, torch.zeros_like(factor)).float().double()
    y = torch.where(factor > 0, blocks / factor, torch.zeros_like(blocks))
    cell = torch.bucketize(y.abs(), borders, right=True).sub(1).clamp(0, len(middles) - 1)
    out = middles[cell] * y.sign()
    out = torch.where(y.abs() < middles[0] / 2, torch.zeros_like(out), out) if signed else out
    out = torch.where(y >= (1 + middles[-1]) / 2, torch.ones_like(out), out)
    return (out * factor).flatten()[:flat.numel()].view(x.shape)


class AdamW8bit:
    """AdamW whose moments are kept in codes; the weights go by them before they are rounded."""

    def __init__(self, p, betas, eps, weight_decay):
        self.p, self.betas, self.eps, self.weight_decay, self.t = p, betas, eps, weight_decay, 0
        self.mean, self.square = torch.zeros_like(p), torch.zeros_like(p)

    def step(self, lr, t):
        (b1, b2), p = self.betas, self.p
        self.t += 1
        m = b1 * self.mean + (1 - b1) * p.grad
        v = b2 * self.square + (1 - b2) * p.grad ** 2
        p.mul_(1 - lr * self.weight_decay)
        p.sub_(lr * (m / (1 - b1 ** self.t)) / ((v / (1 - b2 ** self.t)).sqrt() + self.eps))
        self.mean, self.square = to_codes_and_back(m, True), to_codes_and_back(v, False)


class Torch:
    def __init__(self, p, **options):
        self.optimizer = torch.optim.AdamW([p], **options)

    def step(self, lr, t):
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()


class Momentum:
    """Of SGD and Muon, as torch.optim.SGD's without dampening; decoupled weight decay."""

    def __init__(self, p, momentum, nesterov, weight_decay, direction):
        self.p, self.momentum, self.nesterov, self.weight_decay = p, momentum, nesterov, weight_decay
        self.direction, self.buffer = direction, torch.zeros_like(p)

    def step(self, lr, t):
        self.buffer.mul_(self.momentum).add_(self.p.grad)
        update = self.p.grad + self.momentum * self.buffer if self.nesterov else self.buffer
        self.p.mul_(1 - lr * self.weight_decay)
        self.p.sub_(lr * self.direction(update))


def newton_schulz(g):
    """Muon (Jordan et al. 2024), as its authors' zeropower_via_newtonschulz5, not in bfloat16."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.T if g.shape[0] > g.shape[1] else x
    return x * max(1, g.shape[0] / g.shape[1]) ** 0.5


def takes_muon(name, p):
    inner = "self_attn." in name or "mlp." in name or "moe." in name
    if name.endswith("gram.proj.weight"):  # of hashed bigrams and trigrams, as PR 660
        return True
    return p.dim() == 2 and inner and (name.endswith("_proj.weight") or name.split(".")[-2] in ("w1", "w2", "w3"))


def takes_codes(c, name, p, asked_by_group):
    """As bitsandbytes: matrices of 4,096 elements and more (all experts together); tables only where asked for."""
    count = p.numel() * (c.num_experts if expert_of(name) else 1)
    return p.dim() == 2 and count >= 4096 and (asked_by_group or not name.split(".")[-2].startswith("embed"))


def make_optimizer(c, name, p):
    """The optimizer of one tensor, of one expert, and its rate as a multiple of the schedule's."""
    rule = next((g for g in c.raw.get("param_groups", []) if fnmatch.fnmatchcase(name, g["match"])), {})
    asked = rule.get("optim", c.raw.get("optim", "adamw"))
    kind = "adamw" if asked == "muon" and not takes_muon(name, p) else asked
    if asked == "adamw_8bit" and not takes_codes(c, name, p, rule.get("optim") == asked):
        kind = "adamw"
    decay = rule.get("weight_decay", c.weight_decay if decays(c, name, p) else 0.0)
    rate = rule.get("learning_rate", c.learning_rate) / c.learning_rate
    if kind in ("adamw", "adamw_8bit"):
        options = {"betas": tuple(rule.get("betas", (c.adam_beta1, c.adam_beta2))), "eps": c.adam_epsilon}
        if kind == "adamw_8bit":
            return rate, AdamW8bit(p, weight_decay=decay, **options)
        lazy = expert_of(name) and c.expert_optimizer == "lazy-global"
        return rate, (LazyAdamW if lazy else Torch)(p, weight_decay=decay, **options)
    momentum = rule.get("momentum", c.raw.get(kind + "_momentum", {"muon": 0.95, "sgd": 0.9}[kind]))
    nesterov = c.raw.get(kind + "_nesterov", kind == "muon")
    return rate, Momentum(p, momentum, nesterov, decay, newton_schulz if kind == "muon" else lambda u: u)


class Optimizers:
    """One for each tensor and each expert; those of an expert are stepped when it got a token."""

    def __init__(self, c, w):
        self.t, self.c = 0, c
        self.all = {k: make_optimizer(c, k, v) for k, v in w.items() if v.requires_grad}

    def step(self, lr, touched):
        self.t += 1
        with torch.no_grad():
            for name, (rate, optimizer) in self.all.items():
                if self.c.expert_optimizer == "dense-exact" or expert_of(name) in touched | {None}:
                    optimizer.step(rate * lr, self.t)


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
    w = {k: v.requires_grad_(not k.endswith("correction_bias"))
         for k, v in read_safetensors(folder + "/model.safetensors").items()}
    optimizer = Optimizers(c, w)
    results = []
    for c.step, step in enumerate(json.load(open(folder + "/batches.json")), 1):
        c.step_counts, touched = {}, set()
        for v in w.values():
            v.grad = torch.zeros_like(v) if v.requires_grad else None
        shape = (c.batch_size, c.seq_len)
        batches = [(torch.tensor(m["ids"]).view(shape), torch.tensor(m["targets"]).view(shape)) for m in step["micro"]]
        scored = sum((targets != -100).sum() for _, targets in batches)
        total = 0.0
        for c.micro, (ids, targets) in enumerate(batches):
            begins = step["micro"][c.micro].get("begins")
            c.begins = None if begins is None else torch.tensor(begins).view(shape)
            logits, aux = forward(c, w, ids, touched)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / scored
            total += loss.item()
            (loss + aux / len(batches)).backward()
        gradients = {k: torch.zeros_like(v) if v.grad is None else v.grad.clone() for k, v in w.items()}
        norm = torch.nn.utils.clip_grad_norm_(w.values(), c.max_grad_norm)
        optimizer.step(step["lr"], touched)
        move_biases(c, w)
        results.append({"loss": total, "grad_norm": norm.item(), "experts": len(touched),
                        "gradients": stacked(gradients)})
    print("[" + ",\n".join(json.dumps(r) for r in results) + "]")


main()
