#!/bin/sh
# SPDX-License-Identifier: MIT
# The rules of the house that a machine can check: who may include what, the kernel table without
# holes, the form of the files. Prints `file:line: rule` for each violation. Looks at tracked files
# and at new ones in the rooms that git does not ignore; without git at all but build/ and runs/.
#     tests/rules.sh [FOLDER]
set -u
export LC_ALL=C
cd "${1:-$(dirname "$0")/..}" || exit 1

columns_most=100 # of C and GLSL; scripts and tables may be wider
c_lines_most=1000
c_lines_warn=600
rooms='.ci src shaders runtime tools tests assets'
top_level="meson.build meson_options.txt README.md LICENSE .editorconfig $rooms"
# headers of runtime/ that src/ and tools/ may include
runtime_open='checksum|spill|gpu|file|store|stream|cache|store|os|os_file|log|folder|folder_own|terminal'

list=$(mktemp) && found=$(mktemp) || exit 1
trap 'rm -f "$list" "$found"' EXIT

if ! { git ls-files && git ls-files --others --exclude-standard $rooms; } >"$list" 2>/dev/null; then
    find . \( -name build -o -name runs -o -name .git \) -prune -o -type f -print |
        sed 's|^\./||' >"$list"
fi
[ -s "$list" ] || { echo 'rules.sh: no files found'; exit 1; }

files() { grep -E "$1" "$list" | while read -r file; do [ -f "$file" ] && echo "$file"; done; }
report() { printf '%s: %s\n' "$1" "$2" >>"$found"; }
# say RULE: lines of `grep -n` become reports
say() { sed -E "s|^([^:]+:[0-9]+):.*|\1: $1|" >>"$found"; }
# forbid RULE PATTERN FILES...: no line may match
forbid()
{
    rule=$1 pattern=$2
    shift 2
    grep -nHE -- "$pattern" "$@" /dev/null | say "$rule"
}

scripts='^tools/(quickstart|check|device-bench)$|^\.ci/run$|^shaders/prebuilt/(make|embed)$'
c_files=$(files '\.[ch]$')
sources=$(files "\.([ch]|comp|glsl|py|sh|h\.in)\$|(^|/)meson(_options\.txt|\.build)\$|$scripts")
texts="$sources $(files '\.(md|json|csv)$|^LICENSE$|^\.editorconfig$')"
room() { printf '%s\n' $c_files | grep -E "$1"; }

# ---- the rooms, and the arrows between them

cut -d/ -f1 "$list" | sort -u | while read -r entry; do
    printf '%s\n' $top_level | grep -qxF -- "$entry" || [ ! -e "$entry" ] ||
        report "$entry:1" 'not a room of the house (top level)'
done
files '^\.ci/' | grep -vx '\.ci/run' | while read -r file; do
    report "$file:1" '.ci holds run and nothing else'
done

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*'
forbid 'vulkan.h and volk.h are included by runtime/vk* only' \
    "$include[<\"](vulkan/|vulkan\.h|volk)" $(printf '%s\n' $c_files | grep -v '^runtime/vk')
forbid 'runtime/ includes nothing of src, tools, tests' \
    "$include\"(\.\./)*(src|tools|tests)/" $(room '^runtime/')
forbid 'src/ includes nothing of tools, tests' "$include\"(\.\./)*(tools|tests)/" $(room '^src/')
grep -nHE "$include\"(\.\./)*runtime/" $(room '^(src|tools)/') /dev/null |
    grep -vE "\"runtime/($runtime_open)\.h\"" | say 'this header is private to runtime/'
# Vulkan's own names and its validation layer aside; _ separates words: expert_count is one
awk '{ text = $0; gsub(/VK_[A-Za-z0-9_]*|[Vv]k[A-Z][A-Za-z0-9]*|[Vv]alidation layers?/, " ", text) }
     tolower(text) ~ /(^|[^a-z])(layers?|experts?|tokens?)([^a-z]|$)/ { print FILENAME ":" FNR ":" }
' $(files '^runtime/') /dev/null | say 'the words layer, expert, token do not occur in runtime/'
vendors='0x(10[dD][eE]|1002|8086)([^0-9a-fA-F]|$)'
forbid 'vendors are told apart in runtime/vk_caps.c only' "$vendors" \
    $(room '^(src|runtime|tools)/' | grep -v '^runtime/vk_caps\.c$')

# ---- the kernel table: one name in shaders/, src/ref/, src/kernel_table.c and tests/check/

check_kernel() # NAME FILE
{
    name=$1 upper=$(printf %s "$1" | tr a-z A-Z)
    at=shaders/meson.build:$(grep -n "^ *\['$name'," shaders/meson.build | head -n 1 | cut -d: -f1)
    [ -f "shaders/$2" ] || report "$at" "kernel $name: no file shaders/$2"
    grep -qE "^ *KERNEL_$upper,?\$" src/kernel.h ||
        report "$at" "kernel $name: no KERNEL_$upper in src/kernel.h"
    reference=$name
    if ! grep -qE "^ *ROW\($upper, $name," src/kernel_table.c; then # a row that shares a reference
        row="ROW_OF\($upper, $name, ([a-z0-9_]+),.*"
        reference=$(sed -nE "s/.*$row/\1/p" src/kernel_table.c)
        [ -n "$reference" ] || report "$at" "kernel $name: no row in src/kernel_table.c"
    fi
    grep -q "^REF_DECLARE($reference)" src/ref/ref.h ||
        report "$at" "kernel $name: no reference in src/ref/ref.h"
    grep -qE "^void ref_$reference\(" src/ref/*.c ||
        report "$at" "kernel $name: no ref_$reference in src/ref/"
    grep -qE "KERNEL_$upper([^A-Z0-9_]|\$)" tests/check/*.c ||
        report "$at" "kernel $name: no file of tests/check names KERNEL_$upper"
}

# "name file" from rows like ['norm', 'norm.comp', ...
kernels=$(sed -nE "s/^ *\['([a-z0-9_]+)', *'([a-z0-9_]+\.comp)'.*/\1 \2/p" shaders/meson.build)
[ -n "$kernels" ] || report shaders/meson.build:1 'no kernel table found'
printf '%s\n' "$kernels" | while read -r name file; do check_kernel "$name" "$file"; done
operations=$(sed -nE 's/^ *KERNEL_([A-Z0-9_]+),?$/\1/p' src/kernel.h | grep -vx COUNT | tr A-Z a-z)
for name in $operations; do
    printf '%s\n' "$kernels" | grep -q "^$name " ||
        report src/kernel.h:1 "KERNEL_$name: no row in shaders/meson.build"
done
for file in $(files '^shaders/[^/]*\.comp$'); do
    grep -q "'${file#shaders/}'" shaders/meson.build ||
        report "$file:1" 'not in shaders/meson.build'
done
forbid 'no float atomics (two runs give the same bytes)' shader_atomic_float $(files '^shaders/')

# ---- what library code may do

# runtime/os.c ends the process where memory is out and at the second Ctrl-C
forbid 'exit only in tools/ and tests/' '(^|[^A-Za-z0-9_])(_?exit|_Exit|quick_exit)[[:space:]]*\(' \
    $(room '^(src|runtime)/' | grep -v '^runtime/os\.c$')
never='assert[[:space:]]*\([[:space:]]*(false|0)[[:space:]]*\)'
forbid 'assert(false) is no error handling' "$never" \
    $(room '^(src|runtime|tools)/')
forbid 'main() only in tools/ and tests/' '(^|[[:space:]])main[[:space:]]*\((void|int)' \
    $(room '^(src|runtime)/')

# ---- the form of the files

for file in $sources; do
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier: MIT' ||
        report "$file:1" 'no SPDX-License-Identifier: MIT in the first line'
done
for file in $(room '\.h$'); do
    grep -q '^#pragma once$' "$file" || report "$file:1" 'header without #pragma once'
done
awk -v most="$columns_most" '
    function say(rule) { printf "%s:%d: %s\n", FILENAME, FNR, rule }
    /\t/ { say("tab") }
    /[ \r]$/ { say("space or carriage return at the end of the line") }
    FILENAME !~ /\.(c|h|comp|glsl)$/ { next }
    { text = $0; gsub(/[\200-\277]/, "", text) } # UTF-8: one character, one column
    length(text) > most { say("over " most " columns") }
' $texts >>"$found"
for file in $texts; do
    [ -s "$file" ] || report "$file:1" 'empty file'
    [ -z "$(tail -c 1 "$file")" ] ||
        report "$file:$(($(wc -l <"$file") + 1))" 'no newline at the end of the file'
done
for file in $(room '\.c$'); do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt $c_lines_most ]; then
        report "$file:$lines" "over $c_lines_most lines"
    elif [ "$lines" -gt $c_lines_warn ]; then
        echo "note: $file has $lines lines, wanted at most $c_lines_warn"
    fi
done

count=$(wc -l <"$found")
sort -u -t: -k1,1 -k2,2n -k3 "$found"
echo "$(echo $sources | wc -w) sources, $(printf '%s\n' "$kernels" | wc -l) kernels," \
    "$count violations"
[ "$count" = 0 ]
