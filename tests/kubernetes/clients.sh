#!/usr/bin/env bash
# Builds the clients of examples/clients as their README says, into target/clients:
#
#   python/kv.py   with its stubs, and python/bank.py of examples/bank
#   venv           a link to the Python that has what it imports
#   kv-go
#
# That Python is python-HASH below $KONTIKI_CACHE (default ~/.cache/kontiki-tests), outside the
# checkout: one for each list of requirements and version of Python. 40 s the first time.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
examples=$root/examples/clients out=$root/target/clients protos=$root/proto/proto
cache=${KONTIKI_CACHE:-$HOME/.cache/kontiki-tests}
say() { echo "clients.sh: $*" >&2; }

requirements=$examples/python/requirements.txt
venv=$cache/python-$({ python3 --version; cat "$requirements"; } | sha256sum | head -c 12)
mkdir -p "$cache"
(
  flock 9
  [ -e "$venv/complete" ] && exit 0
  say "Python packages ..."
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps -r "$requirements"
  touch "$venv/complete"
) 9>"$cache/.python.lock"

rm -rf "$out"
mkdir -p "$out/python"
ln -s "$venv" "$out/venv"
cp "$examples/python/kv.py" "$out/python/"
cp "$root/examples/bank/client.py" "$out/python/bank.py"
"$venv/bin/python" -m grpc_tools.protoc -I "$protos" \
  --python_out="$out/python" --grpc_python_out="$out/python" \
  kontiki/v1/data.proto kontiki/kv/v1/kv.proto

mkdir "$out/go"
cp "$examples"/go/*.go "$examples"/go/go.* "$examples/go/generate.sh" "$out/go/"
export CGO_ENABLED=0
PROTOC="$venv/bin/python -m grpc_tools.protoc" PROTOS="$protos" "$out/go/generate.sh"
cd "$out/go"
go vet .
go build -mod=readonly -buildvcs=false -trimpath -o "$out/kv-go" .
