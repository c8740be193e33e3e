# Puts what was brought into its place; every step may be repeated, and the first that fails ends it.
# Arguments: where it was brought, where everything changing goes, where the program goes, its Python,
# the folder that all of this is below of (empty: the machine itself), the user of the agent, the release.
set -eu
staged=$1 data=$2 program=$3 python=$4 below=$5 user=$6 number=$7
umask 022

rm -rf "$staged/unpacked"
mkdir "$staged/unpacked"
tar -x -f "$staged/small.tar" -C "$staged/unpacked" --no-same-owner
mv "$staged/unpacked/repository/targets/releases" "$staged/unpacked/releases"
mkdir -p "$staged/repository/targets"
rm -rf "$staged/repository/metadata" "$staged/repository/targets/releases"
mv "$staged/unpacked/repository/metadata" "$staged/repository/metadata"
mv "$staged/unpacked/releases" "$staged/repository/targets/releases"

# The program as a whole: what runs keeps the files that it has open. The new and the old change places in one
# step (renameat2, RENAME_EXCHANGE), so that a machine without power has one of them; where a file system cannot,
# one goes before the other comes.
swap='import ctypes, os, sys
old, new = map(os.fsencode, sys.argv[1:])
sys.exit(ctypes.CDLL(None).renameat2(-100, old, -100, new, 2) != 0)'
mkdir -p "$(dirname "$program")"
rm -rf "$program.new" "$program.before"
cp -r "$staged/unpacked/program" "$program.new"
sync
if [ ! -e "$program" ] || ! "$python" -I -c "$swap" "$program" "$program.new"; then
    [ ! -e "$program" ] || mv -T "$program" "$program.before"
    mv -T "$program.new" "$program"
fi
sync
rm -rf "$program.new" "$program.before"

cp -r "$staged/unpacked/system/." "$below/"
if [ -z "$below" ]; then
    systemd-sysusers shelfkit.conf
    systemd-tmpfiles --create shelfkit.conf
    systemctl daemon-reload
else
    mkdir -p "$data/metadata" "$data/exchange" "$data/launcher" "$data/state"
fi
[ -f "$data/metadata/root.json" ] || cp "$staged/unpacked/root.json" "$data/metadata/root.json"

export PYTHONPATH="$program" SHELFKIT_RELEASES="$data"
good=$("$python" -P -m edge_agent.update status | sed -n 's/^  "good": \([0-9]*\),$/\1/p')
if [ -z "$good" ] || [ "$good" = "$number" ]; then
    "$python" -P -m edge_agent.update install "$staged/repository" --release "$number"
else
    "$python" -P -m edge_agent.update apply "$staged/repository" --release "$number"
    echo "on trial"
fi

if [ -d "$staged/boot" ]; then
    owner=
    [ -n "$below" ] || owner="--user $user"
    # shellcheck disable=SC2086 # two words, or none
    "$python" -P -m edge_agent.update agent provision --boot "$staged/boot" --data "$data" $owner
fi

if [ -z "$below" ]; then
    systemctl enable --quiet shelfkit-updater.service shelfkit-agent-launched.service
    systemctl restart shelfkit-updater.service shelfkit-agent-launched.service
fi
rm -rf "$staged"
