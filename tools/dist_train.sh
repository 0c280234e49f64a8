#!/usr/bin/env bash
# Train on the GPUs of one or several machines, with torchrun.

set -euo pipefail

if [[ $# -lt 2 ]]; then
  cat >&2 <<'USAGE'
usage: bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]

GPUS is the number of GPUs on this machine. On several machines, run this on each, with
  NNODES       number of machines (1)
  NODE_RANK    this machine's number, from 0 (0)
  MASTER_ADDR  address of machine 0 (127.0.0.1)
  PORT         a free port of machine 0 (29500)
  MMSIGMA_WAIT seconds to wait for the other machines (45)
USAGE
  exit 2
fi

CONFIG=$1
GPUS=$2

TOOLS=$(dirname "${BASH_SOURCE[0]}")

exec "${PYTHON:-python}" "$TOOLS/dist_run.py" \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$GPUS" \
  "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
