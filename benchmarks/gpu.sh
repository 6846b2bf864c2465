#!/bin/sh
# The comparison with vLLM's own server on a GPU, without weights (benchmarks/gpu.md). Further options go to benchmarks.vs_vllm.
set -eu
cd "$(dirname "$0")/.."
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv || {
	echo "no GPU found; without one: .venv/bin/python -m benchmarks.vs_vllm --dummy tiny" >&2
	exit 1
}
exec .venv/bin/python -m benchmarks.vs_vllm --dummy qwen3-8b --streams 1 8 32 128 256 --result vs-vllm-gpu \
	--model="--gpu-memory-utilization 0.44" "$@"
