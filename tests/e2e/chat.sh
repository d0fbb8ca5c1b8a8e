#!/bin/sh
# SPDX-License-Identifier: MIT
# Conversations from end to end: a model learns to answer, a resume of masks and packing is the same byte for
# byte, what is not scored changes nothing, and what cannot be is one line.
#     chat.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2
chat=$tmp/chat.jsonl

# 200 conversations: "say c" is answered "ccc", "end d" is answered "d."
conversations()
{
    awk 'BEGIN {
        for (i = 0; i < 200; i++) {
            c = substr("abcdefgh", i % 8 + 1, 1)
            ask = i % 3 ? "say " c : "end " c
            answer = i % 3 ? c c c : c "."
            printf "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}, ", ask
            printf "{\"role\": \"assistant\", \"content\": \"%s\"}]}\n", answer
        }
    }' >"$chat"
}

# taught DEVICE FOLDER OPTION...
taught()
{
    taught_device=$1 taught_out=$2
    shift 2
    on "$taught_device" train "$config" --data "$chat" --quiet --out "$taught_out" --set vocab_size=264 \
        --set seq_len=32 --set num_experts_per_tok=2 "$@"
}

# It learns what it is asked, and stops where the answer ends.
learns()
{
    conversations
    must taught ref "$tmp/run" --steps 100 --set learning_rate=0.02 --set batch_size=8
    for letter in c f; do
        must on ref generate "$tmp/run" --chat --prompt "say $letter" --temperature 0 --max-tokens 12
        [ "$(cat "$tmp/out")" = $letter$letter$letter ] || fail "say $letter was answered $(cat "$tmp/out")"
    done
    must on ref generate "$tmp/run" --chat --prompt "end b" --temperature 0 --max-tokens 12
    [ "$(cat "$tmp/out")" = b. ] || fail "end b was answered $(cat "$tmp/out")"
    must on ref inspect "$tmp/run" --data "$chat" --out "$tmp/report" --max-tokens 64
}

# Scored tokens are told apart, and eval counts what was scored.
counts()
{
    conversations
    must taught ref "$tmp/run" --steps 4 --set final_eval_batches=1
    grep -q 'chat 200): .* scored) to train on, .* scored) held out' "$tmp/err" || fail 'scored tokens are not told'
    must on ref generate "$tmp/run" --chat --system 'Be kind.' --prompt 'say a' --max-tokens 3
    must on ref eval "$tmp/run" --data "$chat" --json
    # 133 answers of three letters, 67 of two, each with its end; two bytes of text for a letter and its dot
    grep -q ' tokens, 733 of them scored$' "$tmp/err" || fail 'eval does not tell scored tokens apart'
    grep -q '"tokens": 733, "bytes": 533' "$tmp/out" || fail 'eval does not score what the assistant says'
}

resumes()
{
    conversations
    for packing in whole stream; do
        must taught ref "$tmp/whole" --steps 12 --set packing=$packing --set gradient_accumulation_steps=2
        must taught ref "$tmp/parts" --steps 5 --set packing=$packing --set gradient_accumulation_steps=2
        must taught ref "$tmp/parts" --steps 12 --set packing=$packing --set gradient_accumulation_steps=2 --resume
        same_run "$tmp/whole" "$tmp/parts"
        refuse_on=ref
        refused 1 'trained on other data' -- train "$config" --data "$chat" --quiet --out "$tmp/parts" --steps 14 \
            --resume --set vocab_size=264 --set seq_len=32 --set num_experts_per_tok=2 \
            --set packing=$([ $packing = whole ] && echo stream || echo whole)
        rm -rf "$tmp/whole" "$tmp/parts"
    done
}

# One conversation in eight has anything to score: many a batch of one window has not, and is passed over.
sparse()
{
    awk 'BEGIN {
        for (i = 0; i < 64; i++) {
            printf "{\"messages\": [{\"role\": \"user\", \"content\": \"question number %d of many\"}, ", i
            printf "{\"role\": \"assistant\", \"content\": \"ok\"}]}\n"
        }
    }' >"$chat"
    must taught ref "$tmp/whole" --steps 40 --set packing=stream --set batch_size=1 --set seq_len=8
    grep -q 'none of the targets of windows .* is scored: passed over' "$tmp/err" || fail 'it passes over without a word'
    grep -q ' batches without a scored target were passed over' "$tmp/err" || fail 'evaluation says no word'
    must taught ref "$tmp/parts" --steps 20 --set packing=stream --set batch_size=1 --set seq_len=8
    must taught ref "$tmp/parts" --steps 40 --set packing=stream --set batch_size=1 --set seq_len=8 --resume
    same_run "$tmp/whole" "$tmp/parts"
    ! grep -q '"loss": 0[,.]0*,' "$tmp/whole/metrics.jsonl" || fail 'a step without a target was taken'
}

refusals()
{
    conversations
    refuse_on=ref
    t="train $config --quiet --steps 2 --out $tmp/run --set seq_len=32"
    refused 1 'vocab_size: found 259, wanted at least 264' 'tags' -- $t --data "$chat" --set vocab_size=259
    echo '{"messages": [{"role": "bot", "content": "a"}]}' >>"$chat"
    refused 1 'chat.jsonl:201: the line message 1 has a role that is none of system, user, assistant and tool: "bot"' -- $t --data "$chat" --set vocab_size=264
    refused 1 'packing: found "tight"' '"auto" or "stream" or "whole"' -- $t --data "$chat" --set packing=tight
    must train ref "$tmp/plain" --steps 1
    refused 1 'the tokenizer has no special token <|system|>' -- generate "$tmp/plain" --chat --prompt a
    refused 1 'chat.jsonl:1: the line is a conversation, but the tokenizer has no special token' -- \
        eval "$tmp/plain" --data "$chat"
    refused 2 '--system wants --chat' -- generate "$tmp/plain" --system a --prompt b
    [ ! -e "$tmp/run" ] || fail 'a refused run left a folder'
    [ $refusals = 6 ] || fail "$refusals refusals"
}

$case
