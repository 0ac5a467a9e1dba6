# Sourced by the scripts beside it. Expects DIR, the directory of the cluster's state:
#   logs/NAME.log  run/NAME.pid  pki/  kubeconfig  nodeN/

host=10.88.0.1 # the bridge: address of every node, of the API server and of DNS, as pods see them

say() { echo "cluster: $*" >&2; }

# Starts a component in the background.
start() { # NAME COMMAND...
  local name=$1
  shift
  nohup "$@" >>"$DIR/logs/$name.log" 2>&1 </dev/null &
  echo $! >"$DIR/run/$name.pid"
}

# Waits until the command succeeds; says what a component logged if it dies or takes too long.
await() { # NAME SECONDS COMMAND...
  local name=$1 seconds=$2 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$(cat "$DIR/run/$name.pid")" 2>/dev/null; then
      fail "$name" "$name ended before it was up"
    fi
    if [ $SECONDS -ge $deadline ]; then
      fail "$name" "$name is not up after $seconds s (waited for: $*)"
    fi
    sleep 0.1
  done
}

# Ends with an error and the end of a component's log.
fail() { # NAME MESSAGE
  say "$2; the end of its log:"
  tail -n 30 "$DIR/logs/$1.log" | cut -c 1-400 | sed "s/^/  $1: /" >&2 || true
  exit 1
}
