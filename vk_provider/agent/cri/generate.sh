#!/bin/sh
# Makes the gRPC stubs in this directory. Run from anywhere; PYTHON names the interpreter with the extra [dev].
set -eu
version=v0.37.2
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../../.." && pwd)
here=vk_provider/agent/cri
tools=$(dirname "$(command -v "$python")")
cd "$root"
module=$(cd / && go mod download -json "k8s.io/cri-api@$version" | sed -n 's/^\t*"Dir": "\(.*\)",*$/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$here"
cp "$module/pkg/apis/runtime/v1/api.proto" "$here/events.proto" "$work/$here/"
chmod u+w "$work/$here"/*
PATH="$tools:$PATH" "$python" -m grpc_tools.protoc -I "$work" --python_out=. --pyi_out=. --grpclib_python_out=. \
  "$here/api.proto" "$here/events.proto"
for stub in api_pb2.py api_pb2.pyi api_grpc.py; do
  { echo "# Generated from k8s.io/cri-api $version api.proto, Copyright The Kubernetes Authors, Apache-2.0 licence."
    cat "$here/$stub"; } >"$work/stub"
  cat "$work/stub" >"$here/$stub"
done
