#!/bin/sh
# Makes the machine of the guide around a program, which it then runs: its own users, hosts, logs, network and processes, in a folder that
# is thrown away. To be run within namespaces (unshare). FOLDER EVENLY PROGRAM ARGUMENT...
set -e
folder=$1 evenly=$2
shift 2
ip link set lo up
# evenly's own address, and those of the targets.
for address in 10.0.0.1 10.0.0.11 10.0.0.12; do ip addr add "$address/32" dev lo; done

mkdir -p "$folder/etc/systemd/system" "$folder/etc/logrotate.d" "$folder/etc/prometheus" "$folder/bin" "$folder/log/evenly" \
    "$folder/lib/logrotate" "$folder/opt" "$folder/home/target/release"
for file in passwd group shadow gshadow nsswitch.conf ld.so.cache login.defs logrotate.conf systemd/system.conf; do
    # Not each machine has each, nor may everybody read them.
    cp "/etc/$file" "$folder/etc/$file" 2>/dev/null || true
done
echo 127.0.0.1 localhost >"$folder/etc/hosts"
echo nameserver 10.0.0.1 >"$folder/etc/resolv.conf"
# A checkout, where commands are typed.
ln -s "$GUIDE_CHECKOUT/config" "$folder/home/config"
ln -s "$evenly" "$folder/home/target/release/evenly"
ln -s "$evenly" "$folder/bin/evenly"

mount --bind "$folder/etc" /etc
mount --bind "$folder/bin" /usr/local/bin
mount --bind "$folder/log" /var/log
mount --bind "$folder/lib" /var/lib
mount --bind "$folder/opt" /opt
mount -t tmpfs none /run
mkdir /run/tmp
export TMPDIR=/run/tmp
cd "$folder/home"
# Not by exec: this shell is process 1, which takes leave of the processes that nobody else does.
PATH="$GUIDE_CHECKOUT/tests/e2e/guide/bin:/usr/local/bin:/usr/sbin:/sbin:$PATH" "$@"
