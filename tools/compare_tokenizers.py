#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Encodes a megabyte of mixed text with vkmoe and with the package `tokenizers` and compares ids and
offsets, for files of every kind that vkmoe reads: GPT-2's and Mistral's own (--data FOLDER) and ones
made here by training with that package; then trains one with both and compares the merges; then
decodes. Needs tokenizers (pip).

    tools/compare_tokenizers.py build/tools/vkmoe [--data ../shared/data] [--bytes 1000000] [--keep DIR]
"""
import argparse
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata as age

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r'\p{N}{1,3}', r'\p{N}')
# scripts by their letters: name, first and last code point
SCRIPTS = [
    ('latin', 0x61, 0x7a), ('latin extended', 0xc0, 0x17f), ('greek', 0x391, 0x3c9), ('cyrillic', 0x410, 0x44f),
    ('armenian', 0x531, 0x556), ('hebrew', 0x5d0, 0x5ea), ('arabic', 0x621, 0x64a), ('devanagari', 0x905, 0x94d),
    ('bengali', 0x985, 0x9cd), ('gurmukhi', 0xa05, 0xa4d), ('gujarati', 0xa85, 0xacd), ('tamil', 0xb85, 0xbcd),
    ('telugu', 0xc05, 0xc39), ('malayalam', 0xd05, 0xd4d), ('thai', 0xe01, 0xe4d), ('lao', 0xe81, 0xeb0),
    ('tibetan', 0xf40, 0xf84), ('georgian', 0x10d0, 0x10fa), ('hangul', 0xac00, 0xd7a3), ('hiragana', 0x3041, 0x3096),
    ('katakana', 0x30a1, 0x30fa), ('han', 0x4e00, 0x9fa5), ('ethiopic', 0x1200, 0x135a), ('khmer', 0x1780, 0x17d3),
    ('cherokee', 0x13a0, 0x13f4), ('gothic', 0x10330, 0x1034a), ('han extension b', 0x20000, 0x2a6d6),
]
PLAIN = """The quick brown fox doesn't jump; she'll've RUN'D over 1234567 lazy dogs. I'M, WE'RE, it'ſ
for (int i = 0; i < 100; i++) {\n\tprintf("%d\\n", x[i]);   // comment\r\n}\n\n\n    return -1.5e-10;
Die Größe der Straße, où l'été, señor, Łódź, naïve café, İstanbul, ﬁne ½ ² Ⅷ ٣٤ ५६ 一二三
"""
SPACES = [' ', '  ', '   ', '\t', '\n', '\n\n', '\r\n', ' \n', '\n ', ' \t ', '\u00a0', '\u3000', '\u2028', '\u0085',
          '\u2009', '\u180e', '\u200b', '\x0b', '\x0c', '\x1c', ' ' * 20, '\n' * 7]
EMOJI = ['😀', '👩‍👩‍👧‍👦', '🏳️‍🌈', '👍🏽', '🇩🇪', '❤️', '♥', '☺️', '1️⃣', '🤷🏻‍♀️']
MARKS = ['e\u0301', 'a\u0323\u0302', 'A\u030a', 'o\u0308\u0304', 'q\u0307\u0323', '\u1100\u1161\u11a8', '\u0915\u093c',
         'か\u3099', 'n\u0303', '\u0958', '\u212b', '\u0344', '\u0301', '가\u11a8']
SPECIALS = ['<|endoftext|>', '<s>', '</s>', '<unk>', '<|im_start|>', ' <|tag|> ', '<|tag|>\n']
BROKEN = [b'\xff', b'\xc0\xaf', b'\xe2\x82', b'\xed\xa0\x80', b'\xf0\x9f\x98', b'\x80\x80', b'\xf4\x90\x80\x80', b'\xe2']


def mixed_text(count, seed):
    """Words of all scripts, spaces of all kinds, numbers, code, emoji, marks, special tokens, broken bytes."""
    rng = random.Random(seed)
    root = pathlib.Path(__file__).resolve().parent.parent
    code = ''.join((root / name).read_text() for name in ('src/base.c', 'src/tokenizer.h', 'tools/quickstart'))
    parts, size = [], 0

    def word():
        _, first, last = rng.choice(SCRIPTS)
        return ''.join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9)))

    def piece():
        kind = rng.random()
        if kind < 0.45:
            _, first, last = rng.choice(SCRIPTS)
            return ' '.join(''.join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9)))
                            for _ in range(rng.randint(1, 12)))
        if kind < 0.55:
            at = rng.randrange(len(code) - 300)
            return code[at:at + rng.randint(10, 300)]
        if kind < 0.62:
            return PLAIN[rng.randrange(len(PLAIN)):]
        if kind < 0.70:
            return str(rng.randint(0, 10 ** rng.randint(1, 12)))
        if kind < 0.76:
            return rng.choice(EMOJI) * rng.randint(1, 3)
        if kind < 0.84:
            return word() + rng.choice(MARKS) + rng.choice(MARKS + [''])
        if kind < 0.87:
            return rng.choice(SPECIALS)
        if kind < 0.92:
            return ''.join(rng.choice('.,;:!?-_"\'()[]{}<>/\\|@#$%^&*+=~`…—“”«»。、') for _ in range(rng.randint(1, 6)))
        if kind < 0.94:
            one = chr(rng.choice([rng.randint(1, 0x2fff), rng.randint(0xa000, 0xd7ff), rng.randint(0xe000, 0x1ffff)]))
            # newer characters are letters or marks to one library and not yet to the other
            return one if age.category(one) != 'Cn' and not age.combining(one) else ''
        return ''.join(rng.choice(SPACES) for _ in range(rng.randint(1, 4)))

    while size < count:
        part = piece().encode()
        if rng.random() < 0.02:
            part += rng.choice(BROKEN)
        part += rng.choice(SPACES).encode() if rng.random() < 0.7 else b''
        parts.append(part)
        size += len(part)
    return b''.join(parts)[:count]


def byte_level(tokenizer, prefix=False, trim=False, regex=True):
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim, add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split(expression, behavior='isolated', invert=False):
    return pre_tokenizers.Split(Regex(expression), behavior, invert=invert)


def train(tokenizer, text, vocab=3000, alphabet=True, special=('<|endoftext|>', '<|im_start|>'), **more):
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [], **more)
    tokenizer.train_from_iterator([text[i:i + 10000] for i in range(0, len(text), 10000)], trainer)
    return tokenizer


def change(tokenizer, **keys):
    """Options of the model that the package has no setter for, in its file."""
    data = json.loads(tokenizer.to_str())
    data['model'].update(keys)
    return Tokenizer.from_str(json.dumps(data))


def byte_fallback(tokenizer):
    data = json.loads(tokenizer.to_str())
    model = data['model']
    more = {f'<0x{b:02X}>': None for b in range(256)}
    size = max(list(model['vocab'].values()) + [t['id'] for t in data['added_tokens']]) + 1
    model['vocab'].update({text: size + i for i, text in enumerate(more)})
    model['byte_fallback'] = True
    return Tokenizer.from_str(json.dumps(data))


def make_all(data, text):
    """name, tokenizer"""
    if data and (data / 'gpt2-tokenizer').is_dir():
        folder = data / 'gpt2-tokenizer'
        for name, options in ('gpt2', {}), ('gpt2 prefix, trimmed', {'prefix': True, 'trim': True}):
            model = models.BPE.from_file(str(folder / 'vocab.json'), str(folder / 'merges.txt'))
            tokenizer = byte_level(Tokenizer(model), **options)
            tokenizer.add_special_tokens(['<|endoftext|>'])
            yield name, tokenizer
    if data and (data / 'mistral-tokenizer').is_dir():
        tokenizer = Tokenizer.from_file(str(data / 'mistral-tokenizer' / 'tokenizer.json'))
        yield 'mistral', tokenizer
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always', split=True)
        yield 'mistral, split, always', tokenizer
        tokenizer = Tokenizer.from_file(str(data / 'mistral-tokenizer' / 'tokenizer.json'))
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
        yield 'llama 2', tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(LLAMA3), pre_tokenizers.ByteLevel(False, use_regex=False)])
    train(tokenizer, text, special=['<|endoftext|>', '<|begin_of_text|>'])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single='<|begin_of_text|> $A', special_tokens=[('<|begin_of_text|>', 1)])])
    tokenizer.decoder = decoders.ByteLevel()
    yield 'llama 3', change(tokenizer, ignore_merges=True)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(QWEN), pre_tokenizers.ByteLevel(False, use_regex=False)])
    train(tokenizer, text)
    tokenizer.add_tokens([AddedToken('<|tag|>', rstrip=True, lstrip=True, normalized=False), AddedToken('printf'),
                          AddedToken('café')])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    yield 'qwen', tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    yield 'starcoder', train(tokenizer, text)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        split(r'\p{N}{1,3}'), split(r'[一-龥\u3041-\u3096゠-ヿ]+'),
        split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
              r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    yield 'deepseek', train(tokenizer, text)

    for behavior in 'removed', 'isolated', 'merged_with_previous', 'merged_with_next', 'contiguous':
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            split(r'\s', behavior), pre_tokenizers.Punctuation(behavior),
            split(r'[\p{Han}\p{Greek}]+', behavior, invert=behavior == 'isolated'),
            pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        yield f'splits, {behavior}', train(tokenizer, text, vocab=1500)

    for fuse in False, True:
        tokenizer = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=fuse))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        train(tokenizer, text.replace('<unk>', ''), vocab=2000, alphabet=False, special=['<unk>'], limit_alphabet=500)
        yield f'characters, unknown{", fused" if fuse else ""}', tokenizer
    tokenizer = Tokenizer.from_str(byte_fallback(tokenizer).to_str())
    tokenizer.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(' ', 1, 0)])
    yield 'characters, bytes', tokenizer


class Compare:
    def __init__(self, vkmoe, folder):
        self.vkmoe, self.folder, self.failed = vkmoe, folder, 0

    def check(self, good, what):
        print(f'{"ok" if good else "DIFFERS"}  {what}')
        self.failed += not good

    def run(self, *words, text=b''):
        done = subprocess.run([self.vkmoe, 'tokenizer', *map(str, words)], input=text, capture_output=True)
        if done.returncode:
            sys.exit(f'vkmoe tokenizer {" ".join(map(str, words))}: {done.stderr.decode()}')
        return done.stdout

    def encode(self, path, text, flags=('--specials', '--template')):
        out = json.loads(self.run('encode', path, *flags, '--json', text=text))
        return out['ids'], out['offsets']

    def one(self, name, tokenizer, raw):
        path = self.folder / (name.replace(' ', '-').replace(',', '') + '.json')
        tokenizer.save(str(path))
        text = raw.decode(errors='replace')  # the package takes no broken UTF-8
        started = time.time()
        wanted = tokenizer.encode(text)
        took = time.time() - started
        ids, offsets = self.encode(path, text.encode())
        same = ids == wanted.ids
        self.check(same, f'{name}: {len(wanted.ids)} ids of {len(text.encode())} bytes (package: '
                         f'{len(text.encode()) / took / 1e6:.1f} MB/s); hash {digest(wanted.ids)}')
        if not same:
            at = next((i for i, (a, b) in enumerate(zip(ids, wanted.ids)) if a != b), min(len(ids), len(wanted.ids)))
            print(f'   at {at}: {ids[at:at + 5]} {offsets[at:at + 3]}, wanted {wanted.ids[at:at + 5]} '
                  f'{wanted.tokens[at:at + 5]} {wanted.offsets[at:at + 3]}: '
                  f'{text[wanted.offsets[at][0] - 10:wanted.offsets[at][1] + 10]!r}')
        else:
            self.offsets(name, text, wanted.offsets, offsets)
        self.decode(name, path, tokenizer, raw, text)

    def offsets(self, name, text, wanted, found):
        """Ours are bytes; the package's are characters, those that a token has a part of."""
        place = []
        for i, c in enumerate(text):
            place += [i] * len(c.encode())
        place.append(len(text))
        as_characters = [(place[b], place[e - 1] + 1 if e > b else place[e]) for b, e in found]
        wrong = [i for i, (a, b) in enumerate(zip(wanted, as_characters)) if tuple(a) != b]
        self.check(not wrong, f'{name}: offsets')
        for i in wrong[:4]:
            print(f'   {len(wrong)} wrong; token {i}: {as_characters[i]}, wanted {wanted[i]}: '
                  f'{text[wanted[i][0] - 5:wanted[i][1] + 5]!r}')

    def decode(self, name, path, tokenizer, raw, text):
        ids, _ = self.encode(path, raw, ())
        back = self.run('decode', path, text=' '.join(map(str, ids)).encode())
        whole = json.loads(tokenizer.to_str())
        lossless = whole['normalizer'] is None or whole['normalizer']['type'] == 'Sequence'
        if lossless and 'removed' not in name and 'unknown' not in name and 'prefix' not in name and \
                'always' not in name:
            # a replaced space's own character comes back as a space
            self.check(back.replace('▁'.encode(), b' ') == raw.replace('▁'.encode(), b' '),
                       f'{name}: broken UTF-8 comes back byte for byte')
        ids = tokenizer.encode(text).ids
        back = self.run('decode', path, text=' '.join(map(str, ids)).encode())
        self.check(back.decode(errors='replace') == tokenizer.decode(ids), f'{name}: decodes as the package does')

    def training(self, raw):
        """The same merges as the package's trainer, with the same expression and the same order of bytes."""
        text = raw.decode(errors='replace')
        (self.folder / 'corpus.txt').write_bytes(text.encode())
        for name, expression in ('llama3', LLAMA3), ('qwen2', QWEN):
            own = self.folder / f'own-{name}.json'
            self.run('train', '--data', self.folder / 'corpus.txt', '--vocab', 4003, '--pattern', name, '--out', own)
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [split(expression), pre_tokenizers.ByteLevel(False, use_regex=False)])
            trainer = trainers.BpeTrainer(vocab_size=4000, show_progress=False, min_frequency=2,
                                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
            tokenizer.train_from_iterator([text], trainer)
            wanted, found = json.loads(tokenizer.to_str())['model'], json.loads(own.read_text())['model']
            self.check([list(m) for m in wanted['merges']] == found['merges'], f'training, {name}: '
                       f'{len(found["merges"])} merges; hash {digest(found["merges"])}')
            self.check(wanted['vocab'] == found['vocab'], f'training, {name}: vocabulary')
            self.one(f'own {name}', Tokenizer.from_file(str(own)), raw)


def fnv(numbers):
    """FNV-1a of the numbers as 32 bits each, as tests/unit_bpe.c has it."""
    value = 0xcbf29ce484222325
    for byte in b''.join(n.to_bytes(4, 'little') for n in numbers):
        value = (value ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return f'{value:016x}'


def golden(vkmoe, data, folder):
    """What the package makes of FOLDER/mixed.txt, for tests/unit_bpe.c."""
    path = folder / 'mixed.txt'
    text = mixed_text(24000, 7).decode(errors='replace')
    path.write_bytes(text.encode())
    table = {}
    for name, expression in ('gpt2', None), ('llama3', LLAMA3), ('qwen2', QWEN):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if not expression else \
            pre_tokenizers.Sequence([split(expression), pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.train_from_iterator([text], trainers.BpeTrainer(
            vocab_size=1000, show_progress=False, min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        model = json.loads(tokenizer.to_str())['model']
        merges = [model['vocab'][part] for merge in model['merges'] for part in merge]
        table[name] = {'merges': fnv(merges)}
        table[name].update(golden_encoding(tokenizer, text))
    for name, tokenizer in make_all(data, ''):
        if name == 'llama 2':
            break
        table['gpt2 file' if name == 'gpt2' else name] = golden_encoding(tokenizer, text)
    (folder / 'tokenizers.golden.json').write_text(json.dumps(table, indent=1) + '\n')


def golden_encoding(tokenizer, text):
    encoded = tokenizer.encode(text)
    return {'count': len(encoded.ids), 'ids': fnv(encoded.ids),
            'offsets': fnv([n for pair in encoded.offsets for n in pair])}


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('vkmoe')
    parser.add_argument('--data', type=pathlib.Path)
    parser.add_argument('--bytes', type=int, default=1000000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--keep', type=pathlib.Path, help='folder for the files, which else go away')
    parser.add_argument('--golden', type=pathlib.Path, help='write tests/golden/mixed.txt and its results')
    parser.add_argument('--only', help='part of a name')
    args = parser.parse_args()
    if args.golden:
        return golden(args.vkmoe, args.data, args.golden)
    with tempfile.TemporaryDirectory() as made:
        folder = args.keep or pathlib.Path(made)
        folder.mkdir(exist_ok=True, parents=True)
        raw = mixed_text(args.bytes, args.seed)
        (folder / 'mixed.txt').write_bytes(raw)
        compare = Compare(args.vkmoe, folder)
        for name, tokenizer in make_all(args.data, raw.decode(errors='replace')):
            if not args.only or args.only in name:
                compare.one(name, tokenizer, raw)
        if not args.only:
            compare.training(raw[:300000])
    sys.exit(1 if compare.failed else 0)


if __name__ == '__main__':
    main()
