#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe generate as a user meets it: it repeats, seed and options count, it stops where a text ends or the
# context is full, each token is written when it is made, and Ctrl-C ends it cleanly.
#     generate.sh VKMOE
. tests/e2e/lib.sh
run=$tmp/run
must train ref "$run" --set max_position_embeddings=4096

# say OPTION...: the text in $tmp/out
say() { must on ref generate "$run" "$@"; }
kept() { mv "$tmp/out" "$tmp/$1"; }
differ() { ! cmp -s "$tmp/$1" "$tmp/$2" || fail "$1 and $2 are the same text"; }
made() { grep -q ", $1 made, " "$tmp/err" || fail "wanted $1 made: $(tail -n 1 "$tmp/err")"; }

say --prompt 'The ' --max-tokens 50; made 50; kept greedy
say --prompt 'The ' --max-tokens 50; kept again
same "$tmp/greedy" "$tmp/again"
[ "$(head -c 4 "$tmp/greedy")" = 'The ' ] || fail 'the text begins with the prompt'
say --prompt 'The ' --max-tokens 50 --seed 9; kept again
same "$tmp/greedy" "$tmp/again"
say --prompt 'The ' --max-tokens 50 --temperature 1; kept zero
say --prompt 'The ' --max-tokens 50 --temperature 1 --seed 0; kept again
same "$tmp/zero" "$tmp/again"
say --prompt 'The ' --max-tokens 50 --temperature 1 --seed 18446744073709551615; kept seed
differ greedy zero
differ zero seed
say --prompt 'The ' --max-tokens 50 --temperature 1 --top-k 1; kept again
same "$tmp/greedy" "$tmp/again"
say --prompt 'The ' --max-tokens 50 --temperature 1 --top-k 3; kept k
differ k zero
say --prompt 'The ' --max-tokens 50 --temperature 1 --top-p 0.3; kept p
differ p zero
say --prompt 'The ' --max-tokens 50 --repetition-penalty 3; kept penalty
differ penalty greedy
# without a prompt a text begins; default is 256 tokens
say --temperature 1 --max-tokens 5
say --prompt a --temperature 1
grep -qE ', ([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-6]) made, ' "$tmp/err" || fail 'more than 256 tokens'
cp -r "$run" "$tmp/small"
sed -i 's/"max_position_embeddings": 4096/"max_position_embeddings": 20/; s/"seq_len": 16/"seq_len": 8/' "$tmp/small/config.json"
# the last token is not fed, so one more than the context holds
must on ref generate "$tmp/small" --prompt 'The ' --max-tokens 100
made 17
grep -q '^warn: --max-tokens 100: the context of 20 leaves room for 17' "$tmp/err" || fail 'it must say that the context is full'
must on ref generate "$tmp/small" --prompt '12345678901234567890' --max-tokens 1
made 1

# Documents of one letter: what follows "a" is the end of a text, and there it stops.
mkdir "$tmp/letters"
for i in 1 2 3 4 5 6 7 8; do printf a >"$tmp/letters/$i.txt"; done
must on ref train "$config" --data "$tmp/letters" --quiet --out "$tmp/stops" --steps 60 --set seq_len=4 --set learning_rate=0.02
must on ref generate "$tmp/stops" --prompt a --max-tokens 50
made 0
[ "$(cat "$tmp/out")" = a ] || fail 'the end of a text must not be printed'
must on ref generate "$tmp/stops" --max-tokens 50
made 1
[ "$(cat "$tmp/out")" = a ] || fail "an empty prompt begins a text: $(cat "$tmp/out")"

# Streaming: with a reader that goes away after ten bytes nobody gets to the end of a million tokens.
mkfifo "$tmp/pipe"
head -c 10 "$tmp/pipe" >"$tmp/first" &
status=0
"$vkmoe" generate "$run" --prompt a --max-tokens 1000000 --temperature 1 --device ref >"$tmp/pipe" 2>"$tmp/err" || status=$?
[ $status != 0 ] || fail 'all was made before the first ten bytes were read'
! grep -q 'tokens/s' "$tmp/err" || fail 'all was made before the first ten bytes were read'
[ "$(wc -c <"$tmp/first")" = 10 ] || fail 'the reader did not get its bytes'

# Ctrl-C: what was made stays, the last line ends.
"$vkmoe" generate "$run" --prompt a --max-tokens 1000000 --temperature 1 --device ref >"$tmp/out" 2>"$tmp/err" &
child=$!
children=$child
wait_for 30 test -s "$tmp/out"
kill -s INT $child
status=0
wait $child || status=$?
[ $status = 0 ] || [ $status = 130 ] || fail "Ctrl-C: exit status $status"
[ -z "$(tail -c 1 "$tmp/out")" ] || fail 'Ctrl-C leaves a line without an end'
! grep -q '^error' "$tmp/err" || fail 'Ctrl-C is no error'
