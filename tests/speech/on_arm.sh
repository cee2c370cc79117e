#!/usr/bin/env bash
# Speech made by Debian's ARM Python and the ARM wheels, under qemu: is it byte for byte that of here?
# Needs Debian's packages qemu-user-static and unzip, a Debian package source, and pip with the
# package index. Takes about a minute.
#   bash tests/speech/on_arm.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:?"folder to unpack into (0.4 GB)"}
python=$here/.venv/bin/python
mkdir -p "$folder"/{lists/partial,debs,root,wheels,site}
cd "$folder"
touch status
arm=(-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 "-oDir::State::Lists=$PWD/lists"
  "-oDir::State::status=$PWD/status" -oAPT::Sandbox::User=root)
apt-get -qq "${arm[@]}" update
(cd debs && apt-get -qq "${arm[@]}" download libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 \
  libssl3 libbz2-1.0 liblzma5 python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib)
for file in debs/*.deb; do dpkg -x "$file" root; done

# The pinned versions, those with compiled code for ARM.
pinned() { grep -iE "^($1)==" "$here/constraints.txt"; }
for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
  platforms+=(--platform "${platform}_aarch64")
done
pinned 'numpy|scipy|soxr|espeakng-loader|pydantic|pydantic[-_]core|annotated-types|typing[-_]extensions|typing[-_]inspection' > pins
"$python" -m pip --disable-pip-version-check -q download --no-deps --only-binary=:all: \
  --python-version 3.11 --implementation cp "${platforms[@]}" -d wheels -r pins
for file in wheels/*.whl; do unzip -qo "$file" -d site; done

code='import platform; from ssl_bench.speech.probe import spoken; print(platform.machine(), spoken())'
PYTHONPATH="$here/workflow" "$python" -c "$code" | tee native
PYTHONPATH="$PWD/site:$here/workflow" qemu-aarch64-static -L root root/usr/bin/python3.11 -s -c "$code" | tee arm
[ "$(cut -d' ' -f2 native)" = "$(cut -d' ' -f2 arm)" ] && echo 'the same bytes'
