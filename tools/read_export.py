#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads what `vkmoe export` wrote, with nothing but the format's description (src/export_file.h and
src/quantize.h): FILE -> a folder with config.json, tokenizer.json and model.safetensors in f32.

    tools/read_export.py FILE [FOLDER]       without FOLDER: lists the tensors

zstd is in Python 3.14, the package `zstandard` or the program `zstd`; without all three: exit status 77."""
import array, json, os, struct, subprocess, sys

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                      0x27D4EB2F165667C5)


def xxh64(data):
    """XXH64 with seed 0, as its specification has it."""
    rotate = lambda x, r: (x << r | x >> (64 - r)) & MASK
    step = lambda lane, x: rotate((lane + x * P2) & MASK, 31) * P1 & MASK
    at, size = 0, len(data)
    if size >= 32:
        a, b, c, d = (P1 + P2) & MASK, P2, 0, -P1 & MASK
        for w, x, y, z in struct.iter_unpack('<4Q', data[:size // 32 * 32]):
            a, b, c, d = step(a, w), step(b, x), step(c, y), step(d, z)
        h = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18) & MASK
        for lane in (a, b, c, d):
            h = ((h ^ step(0, lane)) * P1 + P4) & MASK
        at = size // 32 * 32
    else:
        h = P5
    h = (h + size) & MASK
    while at + 8 <= size:
        h = (rotate(h ^ step(0, struct.unpack_from('<Q', data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= size:
        h = (rotate(h ^ struct.unpack_from('<I', data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


def decompress(data):
    try:
        from compression import zstd
        return zstd.decompress(data)
    except ImportError:
        pass
    try:
        import zstandard
        return zstandard.ZstdDecompressor().decompress(data)
    except ImportError:
        pass
    try:
        return subprocess.run(['zstd', '-dcq'], input=data, stdout=subprocess.PIPE, check=True).stdout
    except FileNotFoundError:
        print('no zstd: neither Python 3.14, nor the package zstandard, nor the program zstd', file=sys.stderr)
        sys.exit(77)


def read(path):
    """The header, config.json, tokenizer.json and the plain data."""
    with open(path, 'rb') as file:
        data = file.read()
    magic, version, header_bytes, data_bytes = struct.unpack_from('<8sIIQ', data)
    assert magic == b'vkmoe-x\n' and version == 1, 'no export of version 1'
    assert xxh64(data[:-8]) == struct.unpack('<Q', data[-8:])[0], 'the checksum differs'
    header, stored = json.loads(data[24:24 + header_bytes]), data[24 + header_bytes:-8]
    plain = decompress(stored) if header['compression'] == 'zstd' else stored
    assert len(plain) == data_bytes
    config_end = header['config_bytes']
    tokenizer_end = config_end + header['tokenizer_bytes']
    return header, plain[:config_end], plain[config_end:tokenizer_end], plain


def values(tensor, plain, packing):
    """The tensor's values as an array of f32."""
    rows, cols = ([1] + tensor['shape'])[-2:]
    data, kind, count = plain[tensor['offset']:tensor['offset'] + tensor['bytes']], tensor['kind'], rows * cols
    if kind in ('f16', 'f32'):
        return array.array('f', struct.unpack('<%d%s' % (count, 'e' if kind == 'f16' else 'f'), data))
    bits = int(kind[3:])
    width = 8 if packing == 'bytes' else bits
    scales = struct.unpack_from('<%de' % rows, data)
    sign, mask, held, held_bits, at, out = 1 << bits - 1, (1 << bits) - 1, 0, 0, 2 * rows, array.array('f')
    for scale in scales:
        for _ in range(cols):
            if held_bits < width:
                held |= data[at] << held_bits
                held_bits += 8
                at += 1
            out.append(scale * (((held & mask) ^ sign) - sign))
            held >>= width
            held_bits -= width
    assert at == len(data)
    return out


def write_folder(folder, header, config, tokenizer, plain):
    os.makedirs(folder)
    table, parts, end = {}, [], 0
    for tensor in header['tensors']:
        part = values(tensor, plain, header['packing'])
        if sys.byteorder == 'big':
            part.byteswap()
        parts.append(part.tobytes())
        table[tensor['name']] = {'dtype': 'F32', 'shape': tensor['shape'],
                                 'data_offsets': [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(table).encode()
    with open(os.path.join(folder, 'model.safetensors'), 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + b''.join(parts))
    for name, text in ('config.json', config), ('tokenizer.json', tokenizer):
        if text:
            with open(os.path.join(folder, name), 'wb') as file:
                file.write(text)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    header, config, tokenizer, plain = read(sys.argv[1])
    if len(sys.argv) == 3:
        write_folder(sys.argv[2], header, config, tokenizer, plain)
        return
    for tensor in header['tensors']:
        print('%-60s %-14s %-5s %10d bytes at %d' % (tensor['name'], tensor['shape'], tensor['kind'],
                                                     tensor['bytes'], tensor['offset']))


if __name__ == '__main__':
    main()
