#!/usr/bin/env bash
# Builds the fuzz targets with the compiler that is here, stable or not, and runs each for its share of the time.
#
#     fuzz/run.sh 60               all targets, 60 seconds together
#     fuzz/run.sh 600 head body    two of them
#     fuzz/run.sh repro head FILE  one input again
#     fuzz/run.sh keep head FILE   adds an input to the seeds of a target, under the name of the file
#
# fuzz/seeds has a file for each target and in it a line for each seed: a name, a space, and the bytes, of which those that
# are not printable ASCII, and the backslash, are written as in printf(1): \r, \n, \t, \\, \xHH; so is a space at either end.
# They are unpacked into fuzz/corpus (ignored by git), where inputs that reach new code are kept too; `cargo fuzz` looks
# there as well. Ends with 1 on a finding, and says how to see it again. cargo-fuzz is not needed: what it would add are
# flags that are all here.
set -euo pipefail
cd "$(dirname "$0")"

readonly TARGETS=(head framing body exchange engine)
HOST=$(rustc -vV | sed -n 's/^host: //p')
readonly HOST
readonly BUILT="target/$HOST/release"

# The coverage that libFuzzer steers by. There is no unsafe code here, so that no sanitizer is needed.
readonly COVERAGE="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"

need_compiler() {
    command -v c++ >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "fuzz: installing g++, which libFuzzer is built with"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++
    else
        echo "fuzz: libFuzzer needs a C++ compiler: sudo apt-get install -y g++" >&2
        exit 2
    fi
}

build() {
    need_compiler
    # With --target the flags are for the targets alone, not for build scripts.
    RUSTFLAGS="$(echo $COVERAGE)" cargo build --quiet --locked --release --target "$HOST"
}

# Writes each seed of a target into its corpus.
unpack() {
    local target=$1 name bytes
    mkdir -p "corpus/$target"
    while read -r name bytes; do
        printf '%b' "$bytes" >"corpus/$target/$name"
    done <"seeds/$target"
}

# Prints the line of a seed: its name, and the bytes of the file.
line_of() {
    local name=$1 file=$2 hex bytes=
    for hex in $(od -An -v -tx1 "$file"); do
        case $hex in
            0d) bytes+='\r' ;;
            0a) bytes+='\n' ;;
            09) bytes+='\t' ;;
            5c) bytes+='\\' ;;
            [2-6]? | 7[0-9a-e]) printf -v hex '%b' "\x$hex"; bytes+=$hex ;;
            *) bytes+="\x$hex" ;;
        esac
    done
    [[ $bytes != ' '* ]] || bytes="\x20${bytes:1}"
    [[ $bytes != *' ' ]] || bytes="${bytes%?}\x20"
    printf '%s %s\n' "$name" "$bytes"
}

# Runs one target for so many seconds.
fuzz() {
    local target=$1 seconds=$2 log
    log=$(mktemp)
    mkdir -p "artifacts/$target"
    unpack "$target"
    if "$BUILT/$target" "corpus/$target" \
        -max_total_time="$seconds" -max_len=4096 -timeout=25 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        local runs cover
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        cover=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
        printf 'fuzz: %-8s %9s executions in %s s, %s\n' "$target" "$runs" "$seconds" "$cover"
        rm "$log"
        return 0
    fi
    grep -vE '^#[0-9]+|^INFO' "$log" | tail -60
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    echo "fuzz: FOUND something in $target; again: fuzz/run.sh repro $target fuzz/$input"
    rm "$log"
    return 1
}

case ${1:-} in
    repro | keep) input=$(realpath --relative-to=. "$OLDPWD/$3" 2>/dev/null || echo "$3") ;;&
    repro)
        build
        exec "$BUILT/$2" "$input"
        ;;
    keep)
        line_of "$(basename "$input")" "$input" >>"seeds/$2"
        exit
        ;;
esac

seconds=${1:-60}
shift || true
[ "$#" -gt 0 ] || set -- "${TARGETS[@]}"
build
found=0
for target in "$@"; do
    fuzz "$target" "$(( (seconds + $# - 1) / $# ))" || found=1
done
exit "$found"
