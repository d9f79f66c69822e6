#!/usr/bin/env bash
# Builds r1seg for CUDA on any x86-64 Linux, with or without a GPU.
#
#   scripts/build-cuda.sh                  target/release/r1seg
#   scripts/build-cuda.sh --bench decode   or whatever else cargo build takes
#
# CUDA_COMPUTE_CAP says for which GPUs: 90 (H100, H200) unless set. CUDAFORGE_THREADS bounds the
# kernels that are compiled at once. Needs Python with pip and venv, gcc and g++; the CUDA toolkit
# is fetched (scripts/cuda-stage). The program also runs where there is no CUDA: docs/cuda.md.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1-} == -h || ${1-} == --help ]]; then
  sed -n '2,/^set /s/^# \{0,1\}//p' scripts/build-cuda.sh
  exit
fi
environment=$(scripts/cuda-stage)
eval "$environment"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
if [[ $# == 0 ]]; then
  set -- -p r1seg-cli --bin r1seg
fi
cargo build --release --features cuda "$@"
