#!/usr/bin/env bash
# Write requirements/*.txt anew from pyproject.toml: pinned, hashed, and without the host of any index.
# Usage: hack/lock.sh [uv's options, e.g. --upgrade-package aiohttp]
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
compile() { "$uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
    --python-version 3.11 --universal --custom-compile-command hack/lock.sh "$@"; }
compile pyproject.toml --output-file requirements/runtime.txt
compile pyproject.toml --extra sandbox --group test --group lint --group build --output-file requirements/dev.txt
compile requirements/go.in --output-file requirements/go.txt
# One platform: the engine stage runs nowhere else, and hashes of wheels for others would be most of the file.
"$uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
    --python-version 3.11 --python-platform x86_64-manylinux_2_36 --only-binary :all: --no-emit-build-options \
    --custom-compile-command hack/lock.sh --override requirements/engine-overrides.in "$@" \
    requirements/engine.in --output-file requirements/engine.txt
