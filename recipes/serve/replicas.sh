#!/usr/bin/env bash
# Several servers on neighbouring ports, for recipes/serve/nginx.conf; one that ends is started again.
#
#   recipes/serve/replicas.sh COUNT FIRST_PORT ARGUMENTS OF hf-reason serve ...
set -u
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
count=$1 first=$2
shift 2

keep() {
    local port=$1 server="" ending=""
    shift
    trap 'ending=yes; [ -z "$server" ] || kill -TERM "$server" 2>/dev/null' TERM INT
    while [ -z "$ending" ]; do
        "${HF_REASON:-hf-reason}" serve "$@" --port "$port" &
        server=$!
        wait "$server"
        [ -z "$ending" ] || break
        echo "the server on port $port has ended; it starts again" >&2
        sleep 1
    done
    wait "$server"  # SIGTERM lets it finish what runs
}

keepers=()
for ((number = 0; number < count; number++)); do
    keep $((first + number)) "$@" &
    keepers+=($!)
done
trap 'kill -TERM "${keepers[@]}" 2>/dev/null' TERM INT
wait
wait
