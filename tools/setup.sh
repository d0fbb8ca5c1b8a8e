# SPDX-License-Identifier: MIT
# Shared by tools/quickstart, tools/check and .ci/run, which source it in the top folder: finds out
# what is missing, installs it where there is apt-get (Debian, Ubuntu), builds, counts tests.

mkdir -p build
[ -e build/.gitignore ] || echo '*' >build/.gitignore
log=build/setup.log
jobs=$(nproc 2>/dev/null || echo 2)
began=$(date +%s)

stage() { printf '== %s s: %s\n' "$(seconds)" "$*"; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }
seconds() { echo $(($(date +%s) - began)); }

# quiet WHAT COMMAND...: its output goes to the log, and to the screen where it fails
quiet()
{
    what=$1
    shift
    "$@" >"$log" 2>&1 </dev/null && return
    cat "$log" >&2
    fail "$what failed; its output is above and in $log"
}

# ---- packages

# A line: what to look for, the Debian package that has it, what it is for.
needs_build='
command:cc            gcc                     C compiler
header:stdio.h        libc6-dev               headers of the C library
command:meson         meson                   build system
command:ninja         ninja-build             build system
command:pkg-config    pkg-config              finds libraries
command:glslangValidator glslang-tools        shader compiler
header:vulkan/vulkan.h libvulkan-dev          Vulkan headers
header:volk.h         libvulkan-volk-dev      Vulkan function loader
header:cjson/cJSON.h  libcjson-dev            JSON
header:pcre2.h        libpcre2-dev            expressions of tokenizers
header:utf8proc.h     libutf8proc-dev         composed characters of tokenizers
header:zstd.h         libzstd-dev             compression of exports
header:xxhash.h       libxxhash-dev           checksums of exports
header:liburing.h     liburing-dev            reads and writes beside the compute
library:libvulkan.so.1 libvulkan1             Vulkan loader
driver:any            mesa-vulkan-drivers     Vulkan drivers: AMD, Intel, and the CPU (lavapipe)
'
needs_check='
header:cmocka.h       libcmocka-dev           unit tests
command:c++           g++                     the header as C++
header:png.h          libpng-dev              pictures of reports and of the viewer
header:ft2build.h     libfreetype-dev         their text
font:DejaVuSans.ttf   fonts-dejavu-core       its font
header:SDL2/SDL.h     libsdl2-dev             window of the viewer
command:Xvfb          xvfb                    a screen for its test
command:xdotool       xdotool                 keys and mouse for its test
layer:VkLayer_khronos_validation vulkan-validationlayers  Vulkan validation
'

has_header()
{
    case $1 in # cmocka.h wants others in front
    pcre2.h) printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <pcre2.h>\n' | cc -E -x c - >/dev/null 2>&1; return ;;
    ft2build.h) printf '#include <ft2build.h>\n' | cc -E $(pkg-config --cflags freetype2 2>/dev/null) -x c - >/dev/null 2>&1; return ;;
    cmocka.h) includes='stdarg.h stddef.h stdint.h setjmp.h cmocka.h' ;;
    *) includes=$1 ;;
    esac
    for include in $includes; do
        printf '#include <%s>\n' "$include"
    done | cc -E -x c - >/dev/null 2>&1
}

has_file() # NAME FOLDER...: NAME with anything behind it
{
    name=$1
    shift
    for folder; do
        for file in "$folder/$name"*.json; do [ -e "$file" ] && return 0; done
    done
    return 1
}

# where the Vulkan loader looks
vulkan_folders()
{
    for base in /usr/share /usr/local/share /etc "${HOME:-}/.local/share"; do
        echo "$base/vulkan/$1"
    done
}

has()
{
    case $1 in
    command:*) command -v "${1#*:}" >/dev/null 2>&1 ;;
    header:*) has_header "${1#*:}" ;;
    library:*) PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q "${1#*:}" ;;
    font:*) [ -n "$(find /usr/share/fonts -name "${1#*:}" 2>/dev/null)" ] ;;
    driver:*)
        [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ] || has_file '' $(vulkan_folders icd.d) ;;
    layer:*) has_file "${1#*:}" $(vulkan_folders explicit_layer.d) ;;
    esac
}

# missing LIST: the lines of it that are not there
missing()
{
    printf '%s\n' "$1" | while read -r probe package about; do
        [ -z "$probe" ] || has "$probe" || printf '%s %s %s\n' "$probe" "$package" "$about"
    done
}

apt()
{
    set -- env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=60 "$@"
    [ "$(id -u)" = 0 ] || set -- sudo "$@"
    "$@"
}

# packages LIST: installs what is missing, or says what it is
packages()
{
    needs=$1
    lack=$(missing "$needs")
    if [ -z "$lack" ]; then
        stage 'packages: all there'
    elif ! command -v apt-get >/dev/null 2>&1; then
        printf '%s\n' "$lack" | while read -r probe package about; do
            printf '  %-34s %s (Debian: %s)\n' "$probe" "$about" "$package"
        done >&2
        fail 'install the above with your package manager, then call this again'
    else
        install_packages $(printf '%s\n' "$lack" | cut -d' ' -f2)
    fi
}

install_packages()
{
    stage "packages: apt-get install $*"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "not root and no sudo; as root: apt-get install $*"
        sudo -v || fail "sudo refused; as root: apt-get install $*"
    fi
    quiet 'apt-get update' apt update -q
    quiet 'apt-get install' apt install -qy --no-install-recommends "$@"
    lack=$(missing "$needs")
    [ -z "$lack" ] || fail "installed, but still not found: $(echo $(echo "$lack" | cut -d' ' -f1))"
}

# ---- build

# build FOLDER TARGETS MESON_OPTIONS...
build()
{
    folder=$1
    targets=$2
    shift 2
    stage "build: ./$folder"
    if [ -f "$folder/build.ninja" ]; then
        [ $# = 0 ] || quiet 'meson configure' meson configure "$folder" "$@"
    else
        quiet 'meson setup' meson setup "$folder" "$@"
    fi
    quiet 'the build' ninja -C "$folder" -j "$jobs" $targets
}

# ---- tests

passed=0 failed=0 skipped=0

# count FOLDER: adds the results of the tests that just ran there
count()
{
    results=$1/meson-logs/testlog.json
    [ -s "$results" ] || return 0
    ok=$(grep -cE '"result": "(OK|EXPECTEDFAIL)"' "$results") || :
    skip=$(grep -c '"result": "SKIP"' "$results") || :
    all=$(grep -c '"result": "' "$results") || :
    passed=$((passed + ok)) skipped=$((skipped + skip)) failed=$((failed + all - ok - skip))
}

# run_tests FOLDER MESON_OPTIONS...: false where one failed
run_tests()
{
    folder=$1
    shift
    rm -f "$folder/meson-logs/testlog.json"
    tests_status=0
    meson test -C "$folder" --no-rebuild --print-errorlogs "$@" </dev/null || tests_status=$?
    count "$folder"
    return $tests_status
}

print_counts()
{
    [ $skipped = 0 ] || stage "$skipped skipped"
    printf '%d passed, %d failed\n' $passed $failed
}
