#!/usr/bin/env bash
# Lays out built plugins where Sigil looks for them: stage.sh PROFILE puts target/PROFILE's plugins beside its binary, as
# ../lib/sigil/plugins. The debug profile uses target/lib; others get a folder of their own under target/stage/PROFILE,
# with the binary in bin/, so that profiles do not mix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=$1
built="${CARGO_TARGET_DIR:-target}/$profile"
if [ "$profile" = debug ]; then
  root="${CARGO_TARGET_DIR:-target}"
else
  root="${CARGO_TARGET_DIR:-target}/stage/$profile"
  mkdir -p "$root/bin"
  install -m 0755 "$built/sigil" "$root/bin/sigil"
  install -m 0755 "$built/sigil-run" "$root/bin/sigil-run"
fi
for folder in plugins/*/; do
  name=$(basename "$folder")
  [ -f "$folder/plugin.yaml" ] || continue
  to="$root/lib/sigil/plugins/$name"
  mkdir -p "$to/bin"
  install -m 0644 "$folder/plugin.yaml" "$to/plugin.yaml"
  install -m 0755 "$built/sigil-plugin-$name" "$to/bin/sigil-plugin-$name"
done
