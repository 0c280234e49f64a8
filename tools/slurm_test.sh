#!/usr/bin/env bash
# Test as a Slurm job.

set -euo pipefail

if [[ $# -lt 4 ]]; then
  cat >&2 <<'USAGE'
usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]

  GPUS           number of GPUs (4)
  GPUS_PER_NODE  GPUs on each machine (GPUS, at most 8)
  CPUS_PER_TASK  CPU cores for each GPU (5)
  SRUN_ARGS      further arguments of srun
  PORT           port of the first machine (29500)
USAGE
  exit 2
fi

PARTITION=$1
JOB_NAME=$2
CONFIG=$3
CHECKPOINT=$4
GPUS=${GPUS:-4}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
read -ra SRUN_ARGS <<<"${SRUN_ARGS:-}"
export MASTER_PORT=${PORT:-29500} # read by mmengine

exec srun \
  --partition="$PARTITION" \
  --job-name="$JOB_NAME" \
  --gres="gpu:$GPUS_PER_NODE" \
  --ntasks="$GPUS" \
  --ntasks-per-node="$GPUS_PER_NODE" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  "${SRUN_ARGS[@]}" \
  "${PYTHON:-python}" -u "$(dirname "${BASH_SOURCE[0]}")/test.py" \
  "$CONFIG" "$CHECKPOINT" --launcher slurm "${@:5}"
