#!/usr/bin/env bash
# The experiment on the GPUs of this machine, one process each. What follows the script's name goes to `metareward run`:
#
#     ./eight-gpus.sh --set model.path=/models/Meta-Llama-3-8B-Instruct --runs /scratch/runs
#
# GPUS: how many, 8 where not said. METAREWARD: the binary. A process that dies ends the others; torchrun starts all of them
# again, and the run goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec torchrun --standalone --nproc-per-node "${GPUS:-8}" --max-restarts 3 --no-python -- \
    "${METAREWARD:-metareward}" run "$here" --with "$here/eight-gpus.toml" "$@"
