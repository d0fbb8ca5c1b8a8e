# SPDX-License-Identifier: MIT
"""Sliding-window bits per byte by its definition (parameter-golf's evaluation): windows of seq_len tokens begin
every `stride` tokens; the first scores all of its tokens, each other one the last `stride`; every token counts
once. Here in plain Python from the logits of one window at a time, compared with `vkmoe eval --stride`.
    stride.py VKMOE CONFIG.json LICENSE"""
import array, json, math, os, shutil, subprocess, sys, tempfile

vkmoe, config, text_path = sys.argv[1:]
tmp = tempfile.mkdtemp()
EOT, SEQ = 256, 16


def run(*words):
    words = [vkmoe, *words, '--device', 'ref']
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    return done.returncode, done.stdout, done.stderr


def must(*words):
    status, out, err = run(*words)
    assert status == 0, '%s: status %d: %s' % (' '.join(words), status, err)
    return out


def losses(model, ids, targets):
    """Of each target, in nats, from the logits of one window."""
    path = os.path.join(tmp, 'logits.npy')
    must('logits', model, '--ids', ','.join(map(str, ids)), '--out', path)
    with open(path, 'rb') as file:
        data = file.read()
    header = int.from_bytes(data[8:10], 'little')
    logits = array.array('f', data[10 + header:])
    vocab = len(logits) // len(ids)
    out = []
    for i, target in enumerate(targets):
        row = logits[i * vocab:(i + 1) * vocab]
        most = max(row)
        out.append(most + math.log(sum(math.exp(x - most) for x in row)) - row[target])
    return out


def sliding(model, text, stride):
    stream = [EOT] + list(text) + [EOT]
    inputs, targets = stream[:-1], stream[1:]
    total, scored, begin = 0.0, 0, 0
    while True:
        end = min(begin + SEQ, len(targets))
        window = losses(model, inputs[begin:end], targets[begin:end])
        first = 0 if begin == 0 else SEQ - stride
        total += math.fsum(window[first:])
        scored += len(window[first:])
        if begin + SEQ >= len(targets):
            break
        begin += stride
    assert scored == len(targets), 'the definition must score every token once'
    return total / scored, total / math.log(2) / len(text), scored


def compare(model, text, stride, options):
    path = os.path.join(tmp, 'some.txt')
    with open(path, 'wb') as file:
        file.write(text)
    loss, bpb, scored = sliding(model, text, stride)
    found = json.loads(must('eval', model, '--data', path, '--json', '--untuned', *options))
    assert found['tokens'] == scored and found['bytes'] == len(text), found
    assert abs(found['loss'] - loss) < 1e-5 and abs(found['bpb'] - bpb) < 1e-5, (found, loss, bpb)
    print('%3d bytes, stride %2d: %.6f bits per byte, eval says %.6f' % (len(text), stride, bpb, found['bpb']))
    return bpb


def main():
    with open(text_path, 'rb') as file:
        text = file.read(1000)
    train = os.path.join(tmp, 'text.txt')
    with open(train, 'wb') as file:
        file.write(text)
    model = os.path.join(tmp, 'run')
    must('train', config, '--data', train, '--quiet', '--out', model, '--untuned')
    # whole windows, a rest, less than a window, less than a stride, one token more than a window
    results = [compare(model, text[:count], stride, ['--stride', str(stride)])
               for count, stride in ((63, 4), (70, 4), (66, 8), (13, 4), (2, 4), (16, 2), (15, 16), (30, 1))]
    assert len(set(results)) == len(results)
    plain = compare(model, text[:70], SEQ, [])
    close = compare(model, text[:70], 2, ['--stride', '2'])
    assert plain != close
    status, _, err = run('eval', model, '--data', train, '--stride', '5')
    assert status == 1 and 'wanted a divisor of the model\'s seq_len 16' in err, err


try:
    main()
finally:
    shutil.rmtree(tmp)
