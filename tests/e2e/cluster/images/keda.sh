#!/usr/bin/env bash
# Build KEDA's operator and metrics server from the Go module proxy into a folder: keda.sh MODULE@VERSION FOLDER
set -euo pipefail
folder=$(mkdir -p "$2" && cd "$2" && pwd)
cd "$(go mod download -json "$1" | sed -n 's/^\s*"Dir": "\(.*\)",\?$/\1/p')"
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o "$folder/" ./cmd/operator ./cmd/adapter
