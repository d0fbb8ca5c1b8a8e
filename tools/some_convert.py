#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A checkpoint of SOME (Flax: BASE.msgpack beside BASE.json) as a folder that `vkmoe logits` and `eval` open.

    tools/some_convert.py BASE CONFIG.json DIR       CONFIG.json: assets/some.json, resized to the checkpoint

Only Python's own library is used: the few kinds of msgpack that Flax writes are read by hand. Flax keeps a linear
layer as [in, out], safetensors as [out, in]; stacks of experts [E, in, out] become one matrix an expert.
"""
import array
import json
import os
import struct
import sys


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def value(self):
        kind = self.number("B")
        sizes = {0xc4: "B", 0xc5: "H", 0xc6: "I", 0xd9: "B", 0xda: "H", 0xdb: "I", 0xdc: "H", 0xdd: "I",
                 0xde: "H", 0xdf: "I", 0xc7: "B", 0xc8: "H", 0xc9: "I"}
        numbers = {0xca: "f", 0xcb: "d", 0xcc: "B", 0xcd: "H", 0xce: "I", 0xcf: "Q", 0xd0: "b", 0xd1: "h",
                   0xd2: "i", 0xd3: "q"}
        if kind < 0x80:
            return kind
        if kind >= 0xe0:
            return kind - 256
        if kind in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[kind]
        if kind in numbers:
            return self.number(numbers[kind])
        if kind < 0x90 or kind in (0xde, 0xdf):
            count = kind & 15 if kind < 0x90 else self.number(sizes[kind])
            return {self.value(): self.value() for _ in range(count)}
        if kind < 0xa0 or kind in (0xdc, 0xdd):
            count = kind & 15 if kind < 0xa0 else self.number(sizes[kind])
            return [self.value() for _ in range(count)]
        if kind < 0xc0 or kind in (0xd9, 0xda, 0xdb):
            return self.take(kind & 31 if kind < 0xc0 else self.number(sizes[kind])).decode()
        if kind in (0xc4, 0xc5, 0xc6):
            return self.take(self.number(sizes[kind]))
        if 0xd4 <= kind <= 0xd8:
            return self.extension(1 << (kind - 0xd4))
        if kind in (0xc7, 0xc8, 0xc9):
            return self.extension(self.number(sizes[kind]))
        sys.exit(f"msgpack: byte {kind:#x} at {self.at - 1} is not known here")

    def extension(self, size):
        kind = self.number("b")
        if kind != 1:
            sys.exit(f"msgpack: extension {kind}, wanted 1, an array of Flax")
        shape, dtype, data = Reader(self.take(size)).value()
        if dtype not in ("float32", b"float32"):
            sys.exit(f"an array of {dtype}, wanted float32")
        numbers = array.array("f")
        numbers.frombytes(data)
        if sys.byteorder == "big":
            numbers.byteswap()
        return list(shape), numbers


def turned(shape, numbers):
    """[in, out] as [out, in]."""
    rows, cols = shape
    return [cols, rows], array.array("f", (numbers[r * cols + c] for c in range(cols) for r in range(rows)))


def part(tensor, index):
    shape, numbers = tensor
    size = len(numbers) // shape[0]
    return shape[1:], numbers[index * size:(index + 1) * size]


def tensors(params):
    p = params["params"]
    block = p["TinyTransformerBlock_0"]
    some = block["ScanTokenSOME_0"]["SOMEBlock_0"]
    experts = next(v for k, v in some.items() if "Expert" in k)
    out = {"model.embed_tokens.weight": p["Embed_0"]["Embed_0"]["embedding"]}

    def linear(name, layer):
        out[name + ".weight"] = turned(*layer["kernel"])
        out[name + ".bias"] = layer["bias"]

    layer = "model.layers.0."
    for i, name in enumerate("qkv"):
        linear(f"{layer}self_attn.{name}_proj", block["TinySelfAttention_0"][f"Dense_{i}"])
    linear(layer + "mlp.gate", some["Router_0"]["Dense_0"])
    for e in range(experts["Dense_0"]["bias"][0][0]):
        for dense, name in (("Dense_0", "up_proj"), ("Dense_1", "down_proj")):
            linear(f"{layer}mlp.experts.{e}.{name}", {k: part(v, e) for k, v in experts[dense].items()})
    linear("lm_head", p["Dense_0"])
    return out


def write_safetensors(path, named):
    header, at = {}, 0
    for name, (shape, numbers) in named.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(numbers)]}
        at += 4 * len(numbers)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, numbers in named.values():
            if sys.byteorder == "big":
                numbers.byteswap()
            file.write(numbers.tobytes())


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    base, config_path, folder = sys.argv[1:]
    with open(base + ".msgpack", "rb") as file:
        named = tensors(Reader(file.read()).value())
    with open(config_path) as file:
        config = json.load(file)
    config["vocab_size"], config["hidden_size"] = named["model.embed_tokens.weight"][0]
    config["head_dim"] = config["hidden_size"]
    config["num_experts"] = named["model.layers.0.mlp.gate.weight"][0][0]
    inner = named["model.layers.0.mlp.experts.0.up_proj.weight"][0][0]
    config["moe_intermediate_size"] = config["intermediate_size"] = inner
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/config.json", "w") as file:
        json.dump(config, file, indent=2)
    write_safetensors(folder + "/model.safetensors", named)
    print(f"{folder}: {sum(len(n) for _, n in named.values())} parameters")


main()
