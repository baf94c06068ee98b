#!/usr/bin/env bash
# Installs the system packages that some tests use. Without root it says what is missing; those tests then skip. So it
# does of those that this system does not have.
set -euo pipefail
packages=(git make python3-venv postgresql fonts-dejavu-core iproute2 bubblewrap openssh-server slurm-wlm munge gcc
    libc6-dev libseccomp2)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, so some tests will skip: ${missing[*]} (as root: apt-get install ${missing[*]})"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! apt-get update -qq; then
    echo "no lists of packages, so some tests will skip or say what they lack: ${missing[*]}"
    exit 0
fi
install() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
install "${missing[@]}" && exit 0
# One that this system does not have would keep all the others away.
left=()
for package in "${missing[@]}"; do
    install "$package" || left+=("$package")
done
if [ ${#left[@]} -ne 0 ]; then
    echo "can't be installed, so some tests will skip or say what they lack: ${left[*]}" >&2
fi
