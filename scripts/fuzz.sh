#!/usr/bin/env bash
# Runs every fuzz target for a while: fuzz.sh TOOLS [SECONDS]. Needs a nightly toolchain; says so where there is none.
set -euo pipefail
tools=$1
seconds=${2:-60}
version=0.13.2

if ! rustup toolchain list 2>/dev/null | grep -q nightly; then
  echo "fuzz: no nightly toolchain; install one with: rustup toolchain install nightly" >&2
  exit 1
fi
if [ ! -x "$tools/cargo-fuzz-$version/bin/cargo-fuzz" ]; then
  cargo install --quiet --locked --version "$version" --root "$tools/cargo-fuzz-$version" cargo-fuzz
fi
export PATH="$tools/cargo-fuzz-$version/bin:$PATH"
for target in $(cargo +nightly fuzz list); do
  echo "fuzz: $target for $seconds s"
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=0 -verbosity=0
done
echo "fuzz: no findings"
