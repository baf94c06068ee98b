#!/usr/bin/env bash
# Installs the agent CLIs that the presets of `command:` speak to, at the versions that `make clis` tests.
# They go into FOLDER (.venv/agent-clis), 640 MB. Where npm can't, it says so: the tests then skip themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-.venv/agent-clis}"
wanted=(@anthropic-ai/claude-code@2.1.197 @openai/codex@0.169.0)
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "No npm or no node: the agent CLIs are not installed, their tests are skipped."
    exit 0
fi
[ "$(cat "$folder/.installed" 2>/dev/null)" = "${wanted[*]}" ] && exit 0
mkdir -p "$folder"
rm -f "$folder/.installed"
echo "Installing ${wanted[*]} into $folder ..."
if ! npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "${wanted[@]}"; then
    echo "npm can't install the agent CLIs: their tests are skipped."
    exit 0
fi
PATH="$folder/node_modules/.bin:$PATH"
claude --version && codex --version
echo "${wanted[*]}" >"$folder/.installed"
