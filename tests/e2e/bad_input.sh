#!/bin/sh
# SPDX-License-Identifier: MIT
# Everything that is wrong with what the program is given ends in exactly one line on stderr that names the
# thing, says what was found and what to do, in exit status 1 or 2, and leaves nothing half-written.
#     bad_input.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2
run=$tmp/run       # a good run folder; each test breaks a copy of it
broken=$tmp/broken
refuse_on=ref

# training is refused before anything is written
refused_train()
{
    refused "$@" --out "$tmp/new" --quiet
    [ ! -e "$tmp/new" ] || fail "$tmp/new was made"
}

good_run() { [ -d "$run" ] || must train ref "$run" --steps 2; }

copy_run()
{
    good_run
    rm -rf "$broken"
    cp -r "$run" "$broken"
}

# refused_file TEXT...: every command that reads $broken refuses it
refused_file()
{
    refused 1 "$broken" "$@" -- logits "$broken" --ids 1,2 --out "$tmp/none.npy"
    refused 1 "$broken" "$@" -- generate "$broken" --prompt a
    refused 1 "$broken" "$@" -- eval "$broken" --data "$text"
    [ ! -e "$tmp/none.npy" ] || fail 'logits were written'
}

# put OFFSET BYTES: bytes as for printf, into the broken weights
put() { printf "$2" | dd of="$broken/model.safetensors" bs=1 seek="$1" conv=notrunc 2>/dev/null; }

# edit SCRIPT: of the broken weights' header; what replaces must be as long as what is replaced
edit()
{
    sed "$1" "$run/model.safetensors" >"$broken/model.safetensors"
    [ "$(wc -c <"$run/model.safetensors")" = "$(wc -c <"$broken/model.safetensors")" ] || fail "edit $1 changed the size"
    ! cmp -s "$run/model.safetensors" "$broken/model.safetensors" || fail "edit $1 changed nothing"
}

configs()
{
    refused_train 1 nosuch.json 'no such file' -- train nosuch.json --data "$text"
    refused_train 1 "$tmp" 'is a folder' -- train "$tmp" --data "$text"
    : >"$tmp/empty.json"
    refused_train 1 empty.json 'not valid JSON' -- train "$tmp/empty.json" --data "$text"
    sed 's/"hidden_size": 16,/"hidden_size": 16/' "$config" >"$tmp/comma.json"
    refused_train 1 comma.json 'not valid JSON' 'line 5' -- train "$tmp/comma.json" --data "$text"
    sed 's/"hidden_size"/"hiden_size"/' "$config" >"$tmp/unknown.json"
    refused_train 1 unknown.json 'unknown key "hiden_size"' '"hidden_size"' -- train "$tmp/unknown.json" --data "$text"
    sed 's/"hidden_size": 16/"hidden_size": "16"/' "$config" >"$tmp/type.json"
    refused_train 1 type.json 'hidden_size: found "16"' 'a whole number' -- train "$tmp/type.json" --data "$text"
    sed '/"hidden_size"/d' "$config" >"$tmp/missing.json"
    refused_train 1 missing.json 'hidden_size: found nothing' -- train "$tmp/missing.json" --data "$text"
    while read -r set first second; do
        refused_train 1 mixed.json "--set ${set%%=*}: found $first" "$second" -- train "$config" --data "$text" --set "$set"
    done <<END
num_experts=0 0 num_experts_per_tok, 2
num_experts_per_tok=5 5 1 to 4, num_experts
num_experts_per_tok=0 0 1 to 4, num_experts
num_key_value_heads=3 3 num_attention_heads, 2
head_dim=7 7 even
seq_len=161 161 max_position_embeddings, 160
batch_size=0 0 a whole number
learning_rate=nan "nan" a number
torch_dtype=float64 "float64" "bfloat16"
model_type=gpt2 "gpt2" "mixtral"
mlp_only_layers=[2] [2] layer numbers from 0 to 1
END
    refused_train 1 num_local_experts 'at least 1' -- train assets/tiny.json --data "$text" --set num_local_experts=0
    refused_train 1 'unknown key "lr"' -- train "$config" --data "$text" --set lr=1
    refused_train 1 key=value -- train "$config" --data "$text" --set steps
    refused_train 1 vocab_size 'found 100' 'at least 259' -- train "$config" --data "$text" --set vocab_size=100 \
        --set eos_token_id=null
    # too large for any machine, in one line each
    refused_train 1 parameters -- train "$config" --data "$text" --set hidden_size=262144 --set num_experts=1000000
    refused_train 1 batch_size tokens -- train "$config" --data "$text" --set batch_size=1048576 --set seq_len=160
}

texts()
{
    mkdir "$tmp/folder" "$tmp/binaries"
    : >"$tmp/empty.txt"
    refused_train 1 nosuch.txt 'no such file' -- train "$config" --data nosuch.txt
    refused_train 1 nosuch.txt 'no such file' -- train "$config" --data "$text" nosuch.txt
    refused_train 1 empty.txt 'no text' -- train "$config" --data "$tmp/empty.txt"
    refused_train 1 folder 'no text' -- train "$config" --data "$tmp/folder"
    printf '\000\001\002' >"$tmp/binaries/a.bits"
    refused_train 1 binaries 'no text' -- train "$config" --data "$tmp/binaries"
    refused_train 1 a.bits -- train "$config" --data "$tmp/binaries/a.bits"
    printf '{"text": "good"}\n{"txt": "bad"}\n' >"$tmp/lines.jsonl"
    refused_train 1 lines.jsonl:2 'wanted {"text"' -- train "$config" --data "$tmp/lines.jsonl"
    printf 'short' >"$tmp/shard.bin"
    refused_train 1 shard.bin 'no token shard' -- train "$config" --data "$tmp/shard.bin"
    # magic 20240520, version 1, two tokens of 16 bits: one is missing; then both, of which one is not in the vocabulary
    { printf '\210\330\064\001\001\000\000\000\002\000\000\000'; head -c 1012 /dev/zero; printf '\001\000'; } >"$tmp/cut.bin"
    refused_train 1 cut.bin 'cut off' -- train "$config" --data "$tmp/cut.bin"
    { cat "$tmp/cut.bin"; printf '\377\377'; } >"$tmp/far.bin"
    refused_train 1 far.bin 'id 65535' 'vocab_size is 260' -- train "$config" --data "$tmp/far.bin"
    printf 'x' >"$tmp/one.txt"
    refused_train 1 'cannot be cut' -- train "$config" --data "$tmp/one.txt"
    good_run
    refused 1 nosuch.txt 'no such file' -- eval "$run" --data nosuch.txt
    refused 1 empty.txt 'no text' -- eval "$run" --data "$tmp/empty.txt"
}

weights()
{
    good_run
    refused_file 'no such file'
    copy_run
    rm "$broken/model.safetensors"
    refused_file 'holds neither model.safetensors'
    : >"$broken/model.safetensors"
    refused_file 'not a good safetensors file'
    for bytes in 7 8 100 3000; do # inside the length, the header
        head -c $bytes "$run/model.safetensors" >"$broken/model.safetensors"
        refused_file 'not a good safetensors file'
    done
    for bytes in 4000 20000 40847; do # inside the data
        head -c $bytes "$run/model.safetensors" >"$broken/model.safetensors"
        refused_file 'cut off'
    done
    copy_run
    printf 'tail' >>"$broken/model.safetensors"
    refused_file 'not a good safetensors file'
    for length in '\377\377\377\377\377\377\377\177' '\377\377\377\377\377\377\377\377' '\000\000\000\100' '\000\000\000\000'; do
        copy_run
        put 0 "$length"
        refused_file 'not a good safetensors file' header
    done
    copy_run
    put 8 '['
    refused_file 'not a good safetensors file'
    name=model.embed_tokens.weight
    grep -aqF "\"$name\":{\"dtype\":\"F32\",\"shape\":[260,16],\"data_offsets\":[0,16640]}" "$run/model.safetensors" ||
        fail "the header is written in another way now: $(head -c 400 "$run/model.safetensors")"
    at="\"$name\":{\"dtype\":\"F32\",\"shape\":"
    edit "1s/$at\[260,16\],\"data_offsets\":\[0,16640\]/$at[260,16],\"data_offsets\":[1,16641]/"
    refused_file "$name"
    edit "1s/$at\[260,16\],\"data_offsets\":\[0,16640\]/$at[260,16],\"data_offsets\":[0,16644]/"
    refused_file "$name"
    edit "1s/$at\[260,16\]/$at[26,160]/"
    refused_file "$name" 'shape [26][160]' 'config wants [260][16]'
    edit "1s/$at\[260,16\]/$at[-60,16]/"
    refused_file "$name" 'dimension 0 is not a whole number'
    edit "1s/\"$name\":{\"dtype\":\"F32\"/\"$name\":{\"dtype\":\"I32\"/"
    refused_file "$name" 'dtype I32' F32
    edit "1s/\"$name\":{\"dtype\":\"F32\"/\"$name\":{\"dtype\":\"Q32\"/"
    refused_file "$name" 'unknown dtype "Q32"'
    edit 's/model.norm.weight/model.Norm.weight/'
    refused_file 'model.norm.weight: missing' 'wrong checkpoint'
    edit '1s/"data_offsets":\[16640,16704\]/"data_offsets":[16576,16640]/'
    refused_file 'overlap'
    data=$(($(od -An -t u4 -N 4 "$run/model.safetensors") + 8))
    copy_run
    put $((data + 400)) '\000\000\300\177'
    refused_file 'element 100 is nan' finite
    put $((data + 400)) '\000\000\200\377'
    refused_file 'element 100 is -inf' finite
}

models()
{
    copy_run
    sed -i 's/"hidden_size": 16/"hidden_size": 32/' "$broken/config.json"
    refused_file shape 'wrong checkpoint'
    sed -i 's/"hidden_size": 32/"hiden_size": 32/' "$broken/config.json"
    refused_file config.json hiden_size
    rm "$broken/config.json"
    refused_file config.json 'no such file'
    copy_run # a tokenizer with more ids than the model
    sed -i 's/"id":[[:space:]]*258/"id": 300/' "$broken/tokenizer.json"
    refused_file tokenizer.json vocab_size 'is 260'
    echo '{}' >"$broken/tokenizer.json"
    refused_file tokenizer.json
    echo 'x' >"$broken/tokenizer.json"
    refused_file tokenizer.json JSON
    rm "$broken/tokenizer.json"
    refused 1 "$broken" tokenizer -- generate "$broken" --prompt a
    refused 1 "$broken" -- generate "$broken"
    long=$(head -c 161 "$text" | tr '\n' ' ')
    refused 1 '161 tokens' 'takes 160' -- generate "$run" --prompt "$long"
    ids=$(seq 1 161 | tr '\n' ',')
    refused 1 '161' '160' -- logits "$run" --ids "${ids%,}" --out "$tmp/none.npy"
    refused 1 'id 260 at position 1' 'vocab_size 260' -- logits "$run" --ids 1,260 --out "$tmp/none.npy"
    refused 1 'id 4294967295' -- logits "$run" --ids 4294967295 --out "$tmp/none.npy"
    refused 1 nosuch/none.npy 'no such file' -- logits "$run" --ids 1 --out "$tmp/nosuch/none.npy"
    [ ! -e "$tmp/none.npy" ] || fail 'logits were written'
}

usage()
{
    good_run
    for ids in '' , 1,,2 1,a -1 4294967296 1,2x; do
        refused 2 --ids -- logits "$run" --ids "$ids" --out "$tmp/none.npy"
    done
    refused 2 "wants one DIR" -- logits --ids 1 --out "$tmp/none.npy"
    refused 2 "wants one DIR" -- generate
    refused 2 "wants one DIR" -- eval "$run"
    refused 2 "wants one CONFIG.json" -- train
    refused 2 "wants one CONFIG.json" -- train a.json b.json
    refused 2 'no command "trian"' train -- trian
    refused 2 --nosuch -- train "$config" --nosuch
    refused 2 --steps 'found "x"' -- train "$config" --steps x
    refused 2 --steps 'found "-1"' -- train "$config" --steps -1
    refused 2 --temperature 'found "hot"' -- generate "$run" --temperature hot
    refused 2 --top-p 'found "2"' 'to 1' -- generate "$run" --top-p 2
    refused 2 --log 'found "loud"' -- info "$config" --log loud
    refuse_on=own
    refused 2 --prompt -- generate "$run" --prompt
    refused 2 --device -- generate "$run" --device
}

# The folder of a run: other data, another model, in use, not writable, half a checkpoint.
folders()
{
    good_run
    refused 1 "$run" 'step 2' --resume -- train "$config" --data "$text" --quiet --out "$run"
    head -c 900 "$text" >"$tmp/other.txt"
    refused 1 state.json 'other data' -- train "$config" --data "$tmp/other.txt" --quiet --out "$run" --resume --steps 4
    refused 1 state.json seq_len -- train "$config" --data "$text" --quiet --out "$run" --resume --steps 4 --set seq_len=17
    refused 1 shape 'wrong checkpoint' -- train "$config" --data "$text" --quiet --out "$run" --resume --steps 4 \
        --set intermediate_size=32
    refused 1 "$text" -- train "$config" --data "$text" --quiet --out "$text"
    refused 1 "$text" -- train "$config" --data "$text" --quiet --out "$text/run"
    refused 1 /proc/ -- train "$config" --data "$text" --quiet --out /proc/vkmoe-run # even root may not
    mkdir "$tmp/closed"
    chmod 555 "$tmp/closed"
    [ -w "$tmp/closed" ] || # root may write everywhere
        refused 1 closed/run 'ermission denied' -- train "$config" --data "$text" --quiet --out "$tmp/closed/run"
    for file in state.json optimizer.safetensors; do
        copy_run
        head -c 20 "$run/checkpoint-00000002/$file" >"$broken/checkpoint-00000002/$file"
        refused 1 "$file" -- train "$config" --data "$text" --quiet --out "$broken" --resume --steps 4
        rm "$broken/checkpoint-00000002/$file"
        refused 1 "$file" 'no such file' -- train "$config" --data "$text" --quiet --out "$broken" --resume --steps 4
    done
    # in use: the second one is refused and harms nothing
    "$vkmoe" train "$config" --data "$text" --quiet --out "$tmp/used" --device ref --steps 1000000 \
        >"$tmp/back.out" 2>"$tmp/back.err" &
    child=$!
    children=$child
    wait_for 30 test -s "$tmp/used/metrics.jsonl"
    refused 1 "$tmp/used" "in use by process $child" -- train "$config" --data "$text" --quiet --out "$tmp/used" --resume
    kill -s INT $child
    status=0
    wait $child || status=$?
    [ $status = 130 ] || fail "the run that was in the folder ended with $status"
    # and what all these were done to is as good as before
    must train ref "$run" --resume --steps 4
    must train ref "$tmp/whole" --steps 4
    same_run "$run" "$tmp/whole"
}

# old_run FOLDER: of 10 steps, to be hindered at the next checkpoint
old_run()
{
    must train ref "$1" --steps 10
    cp -r "$1" "$tmp/before"
}

# after_full FOLDER: the old checkpoint is there byte for byte, opens, and goes on once there is room
after_full()
{
    for file in model.safetensors checkpoint-00000010/model.safetensors checkpoint-00000010/optimizer.safetensors \
        checkpoint-00000010/state.json; do
        same "$1/$file" "$tmp/before/$file"
    done
    [ "$(ls -d "$1"/checkpoint* | wc -l)" = 1 ] || fail "half a checkpoint is left: $(ls "$1")"
    must on ref logits "$1" --ids 1,2,3 --out "$tmp/logits.npy"
    rm -f "$tmp/logits.npy"
}

disk()
{
    old_run "$tmp/limited" # a file may have 51,200 or 102,400 bytes: too few for the moments of two steps or the weights
    status=0
    (
        trap '' XFSZ
        ulimit -f 80
        train ref "$tmp/limited" --steps 20 --resume
    ) || status=$?
    one_line 1 optimizer.safetensors 'File too large'
    after_full "$tmp/limited"
    must train ref "$tmp/limited" --steps 20 --resume
    must train ref "$tmp/whole" --steps 20
    same_run "$tmp/limited" "$tmp/whole"
    rm -rf "$tmp/before"

    mkdir "$tmp/disk"
    if ! mount -t tmpfs -o size=240k tmpfs "$tmp/disk" 2>/dev/null; then
        echo 'a full disk: not tried, for nothing can be mounted here'
        return
    fi
    trap 'umount "$tmp/disk"; clean' EXIT
    old_run "$tmp/disk/run"
    status=0
    train ref "$tmp/disk/run" --steps 20 --resume || status=$?
    one_line 1 "$tmp/disk/run" 'no space left'
    after_full "$tmp/disk/run"
    mount -o remount,size=1m "$tmp/disk"
    must train ref "$tmp/disk/run" --steps 20 --resume
    same_run "$tmp/disk/run" "$tmp/whole"
    mount -o remount,ro "$tmp/disk"
    refused 1 'ead-only' -- train "$config" --data "$text" --quiet --out "$tmp/disk/run" --resume --steps 30
    refused 1 'ead-only' -- train "$config" --data "$text" --quiet --out "$tmp/disk/new"
}

devices()
{
    good_run
    refuse_on=own
    refused_train 1 'no device "voodoo"' ref -- train "$config" --data "$text" --device voodoo
    refused 1 'no device "99"' ref -- generate "$run" --prompt a --device 99
    refused 1 '-nosuch' 'storage16' -- generate "$run" --prompt a --caps=-nosuch
    refused 1 'f16' 'storage16' -- generate "$run" --prompt a --caps f16 --device ref
    export VK_ICD_FILENAMES=/nonexistent VK_DRIVER_FILES=/nonexistent
    refused_train 1 'mesa-vulkan-drivers' '--device ref' -- train "$config" --data "$text"
    refused 1 'mesa-vulkan-drivers' '--device ref' -- generate "$run" --prompt a
    refused 1 'mesa-vulkan-drivers' -- info --devices
    must on ref generate "$run" --prompt a --max-tokens 2
}

case $case in
configs | texts | weights | models | usage | folders | disk | devices) $case ;;
*) fail "no case $case" ;;
esac
echo "$refusals refusals"
