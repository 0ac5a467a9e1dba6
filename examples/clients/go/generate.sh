#!/bin/sh
# Generates pb/ from the proto files, with the plugins that go.mod pins and any protoc:
#
#   ./generate.sh                                             protoc from PATH
#   PROTOC="python -m grpc_tools.protoc" ./generate.sh        the one of pip's grpcio-tools
set -eu
cd "$(dirname "$0")"
protos=${PROTOS:-../../../proto/proto}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go \
  google.golang.org/grpc/cmd/protoc-gen-go-grpc

data=kontiki/v1/data.proto kv=kontiki/kv/v1/kv.proto module=example.com/kontiki-kv
options="module=$module,M$data=$module/pb/data,M$kv=$module/pb/kv"
# shellcheck disable=SC2086 # a command line
${PROTOC:-protoc} -I "$protos" --plugin="$bin/protoc-gen-go" --plugin="$bin/protoc-gen-go-grpc" \
  --go_out=. --go_opt="$options" --go-grpc_out=. --go-grpc_opt="$options" $data $kv
