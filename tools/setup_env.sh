#!/usr/bin/env bash
# Makes the project's environment in .venv; nothing else does.
#
#   bash tools/setup_env.sh [base|ops]
#
#   base  torch, the OpenMMLab packages and what the demo needs (default)
#   ops   base, the test and development tools, and mmcv's compiled operators
#         (detection, Mask2Former and point sampling need them)
#
# A second run returns at once; to look again, remove .venv/.mmsigma-*.
# PYTHON          the Python to build on (>= 3.10); else python3.11, 3.12, 3.10, python3
# MMSIGMA_CACHE   where the compiled mmcv wheel is kept; default ~/.cache/mmsigma
# MAX_JOBS        compiler processes; default: one per core

set -euo pipefail

# Newer torch does not build mmcv's operators (it wants C++20), and other torchvision builds do
# not load on a machine without a GPU. mmcv's own pin is in setup.py.
TORCH=2.11.0
TORCHVISION=0.26.0
SETUPTOOLS='setuptools>=80,<82'

LEVEL=${1:-base}
if [[ $# -gt 1 || ($LEVEL != base && $LEVEL != ops) ]]; then
  echo "usage: bash tools/setup_env.sh [base|ops]" >&2
  exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
SCRIPT=tools/setup_env.sh
VENV=.venv
PY=$VENV/bin/python
LOG=$VENV/setup.log
CHILD=

# --- Nothing to do? ------------------------------------------------------------------------

HASH=$(cat "$SCRIPT" setup.py | cksum | cut -d ' ' -f 1)

# The stamp holds the folder it was made for: a venv that was moved or copied does not work.
is_ready() {
  local level
  for level in "$LEVEL" ops; do
    if [[ -f $VENV/.mmsigma-$level-$HASH && $(<"$VENV/.mmsigma-$level-$HASH") == "$PWD" ]]; then
      "$PY" -c '' 2>/dev/null && return
    fi
  done
  return 1
}

say_ready() {
  echo "setup_env: .venv is ready ($LEVEL), set-up time $SECONDS s"
}

if is_ready; then
  say_ready
  exit
fi

# --- Reporting -----------------------------------------------------------------------------

MARK=1 # the log line at which the last command starts
STEP=0
STEPS=5
[[ $LEVEL == base ]] || STEPS=6

step() {
  STEP=$((STEP + 1))
  printf '[%d/%d] %4d s  %s\n' "$STEP" "$STEPS" "$SECONDS" "$*"
}

# fail WHAT [ADVICE]: say what failed and what to do; without advice, the log's end tells.
fail() {
  {
    echo
    echo "setup_env: $1"
    if [[ $# -eq 1 ]]; then
      echo "--- the end of $LOG"
      last_output | tail -n 25
      echo "---"
    fi
    echo "What to do: ${2:-$(advice)}"
  } >&2
  exit 1
}

# last_output: the log from the last command on.
last_output() {
  tail -n "+$MARK" "$LOG" | grep -v 'is ignored: ' || true
}

log_has() {
  last_output | grep -iE "$1" >/dev/null # not -q: it would stop reading and break the pipe
}

# log_command COMMAND...: head what follows in the log.
log_command() {
  printf '\n$ %s\n' "$*" >>"$LOG"
  MARK=$(wc -l <"$LOG")
}

# advice: the usual causes, read from the log.
advice() {
  if log_has 'no space left on device'; then
    echo "free about 10 GB on this disk, then run this again."
  elif log_has 'fatal error: Python\.h'; then
    echo "apt install python3-dev, then run this again."
  elif log_has '(g\+\+|gcc|c\+\+)[^ ]*.*(not found|no such file)'; then
    echo "apt install g++, then run this again."
  elif log_has 'cuda version.*mismatches|cuda_home environment variable is not set'; then
    echo "the CUDA compiler does not fit this torch; compile for the CPU only, by hiding the GPU:" \
      "CUDA_VISIBLE_DEVICES= bash $SCRIPT $LEVEL"
  elif log_has 'killed (signal|process)|signal terminated program cc1plus|\(killed\)'; then
    echo "the compiler ran out of memory; run this again with MAX_JOBS=1."
  elif log_has 'connection|timed out|name resolution|ssl|no matching distribution'; then
    echo "check the network and pip's index ('pip config list'), then run this again; what is" \
      "installed stays. If the index lacks a version for $("$PY" --version), choose another" \
      "Python: remove .venv and set PYTHON=..."
  else
    echo "read $LOG; if .venv itself is damaged, remove it, then run this again."
  fi
}

# run EXPECTED COMMAND...: run with all output in the log, and say every 30 s that it still does.
run() {
  local expected=$1 start=$SECONDS beat=30
  shift
  log_command "$@"
  set -m # a process group of its own, so that an interrupted set-up leaves no compiler running
  "$@" >>"$LOG" 2>&1 </dev/null &
  CHILD=$!
  set +m
  while kill -0 "$CHILD" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - start >= beat)); then
      printf '      %4d s  still running for %d s (%s)\n' "$SECONDS" "$beat" "$expected"
      beat=$((beat + 30))
    fi
  done
  local status=0
  wait "$CHILD" || status=$?
  CHILD=
  return "$status"
}

pip_install() {
  run "$1" "$PY" -m pip install --disable-pip-version-check --no-input "${@:2}"
}

# The whole group of a child that is still running goes with the script.
# shellcheck disable=SC2317  # called by trap
clean_up() {
  [[ -z $CHILD ]] || kill -- "-$CHILD" 2>/dev/null || true
  rm -rf "$VENV/wheel"
}

# --- One at a time -------------------------------------------------------------------------

if command -v flock >/dev/null; then
  exec 9<"$SCRIPT" # the script itself is the lock file: it is always there
  if ! flock -n 9; then
    echo "setup_env: another set-up of this folder is running; waiting for it"
    flock 9
    if is_ready; then
      say_ready
      exit
    fi
  fi
fi
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- mmcv ----------------------------------------------------------------------------------

MMCV=$(sed -n "s/.*onedl-mmcv==\([0-9.]*\).*/\1/p" setup.py)

has_mmcv() {
  "$PY" -c "from importlib.metadata import version; assert version('onedl-mmcv') == '$MMCV'" \
    2>/dev/null
}

has_ops() {
  log_command "$PY" -c 'from mmcv.ops import nms'
  "$PY" -c 'from mmcv.ops import nms' >>"$LOG" 2>&1
}

# wheel_folder: pip's own cache knows neither torch's version nor whether the operators are in
# the wheel, so compiled wheels get a folder that says both.
wheel_folder() {
  "$PY" - "${MMSIGMA_CACHE:-$HOME/.cache/mmsigma}" "$TORCH" 2>/dev/null <<'PYTHON'
import sys

from torch.cuda import is_available
from torch.utils.cpp_extension import CUDA_HOME

cache, torch = sys.argv[1:]
cuda = '-cuda' if CUDA_HOME and is_available() else ''
print(f'{cache}/wheels/torch-{torch}-cp{sys.version_info[0]}{sys.version_info[1]}{cuda}')
PYTHON
}

cached_wheel() {
  local wheel
  for wheel in "$(wheel_folder)/onedl_mmcv-$MMCV-"*.whl; do
    [[ -f $wheel ]] && echo "$wheel" && return
  done
  return 1
}

install_wheel() {
  pip_install 'a few seconds' --force-reinstall --no-deps "$1" ||
    fail "could not install $1"
}

# install_mmcv: with operators if a wheel has been compiled before, else without.
install_mmcv() {
  local wheel
  if has_mmcv; then
    return
  elif wheel=$(cached_wheel); then
    install_wheel "$wheel"
  else
    # pip's isolated build sees no torch, and so compiles nothing. No cache: see wheel_folder.
    pip_install 'about 20 s' --no-cache-dir --no-deps "onedl-mmcv==$MMCV" ||
      fail "could not install onedl-mmcv $MMCV"
  fi
}

install_ops() {
  local wheel folder
  if has_ops; then
    return
  elif wheel=$(cached_wheel); then
    install_wheel "$wheel"
    has_ops || fail "the operators in $wheel do not load" \
      "remove that file and run this again to compile it anew."
    return
  fi
  command -v "${CXX:-g++}" >/dev/null || fail "no C++ compiler (${CXX:-g++})" \
    "apt install g++, then run this again."
  folder=$(wheel_folder)
  # Without nvcc a visible GPU would make the build stop: compile for the CPU.
  [[ $folder == *-cuda ]] || export CUDA_VISIBLE_DEVICES=
  echo "               compiling them: 10 to 15 min on 2 cores, once for this torch and Python"
  run '10 to 15 min on 2 cores' env MAX_JOBS="${MAX_JOBS:-$(nproc 2>/dev/null || echo 2)}" \
    "$PY" -m pip wheel --disable-pip-version-check --no-input --no-cache-dir \
    --no-build-isolation --no-deps --wheel-dir "$VENV/wheel" "onedl-mmcv==$MMCV" ||
    fail "could not compile mmcv's operators"
  wheel=$(echo "$VENV/wheel/"*.whl)
  install_wheel "$wheel"
  has_ops || fail "mmcv was compiled, but its operators do not load"
  # Only a wheel that has just worked is kept, and mv makes it appear whole.
  mkdir -p "$folder"
  cp "$wheel" "$folder/.partial-$$"
  mv "$folder/.partial-$$" "$folder/${wheel##*/}"
}

# --- Python --------------------------------------------------------------------------------

find_python() {
  local python
  for python in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.10 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  return 1
}

make_venv() {
  local python
  "$PY" -m pip --version >/dev/null 2>&1 && return
  python=$(find_python) || fail "no Python >= 3.10 found" \
    "apt install python3 python3-venv, or name one: PYTHON=... bash $SCRIPT $LEVEL"
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv or ensurepip" "apt install python3-venv, then run this again."
  "$python" -m venv --clear "$VENV" || fail "$python could not make .venv" "see the lines above."
}

# --- The steps -----------------------------------------------------------------------------

step "Python environment in .venv"
make_venv
: >"$LOG"
"$PY" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail ".venv has $("$PY" --version), but 3.10 is the oldest that works" \
    "remove .venv, then run this again."

step "pip and build tools"
pip_install 'about 10 s' --upgrade pip || fail "could not upgrade pip"
pip_install 'about 10 s' "$SETUPTOOLS" wheel ninja packaging psutil ||
  fail "could not install the build tools"

step "torch $TORCH, torchvision $TORCHVISION"
pip_install 'about 2 min, several GB' "torch==$TORCH" "torchvision==$TORCHVISION" ||
  fail "could not install torch $TORCH"

step "mmsigma with the OpenMMLab packages"
install_mmcv
cat >"$VENV/constraints.txt" <<CONSTRAINTS
torch==$TORCH
torchvision==$TORCHVISION
$SETUPTOOLS
CONSTRAINTS
EXTRAS=openmmlab,demo
[[ $LEVEL == base ]] || EXTRAS+=,tests,dev
pip_install 'about 2 min' --constraint "$VENV/constraints.txt" --editable ".[$EXTRAS]" ||
  fail "could not install mmsigma[$EXTRAS]"

# opencv-python and opencv-python-headless both come along and share one folder. On a machine
# without the graphics libraries only the headless one loads, so let it have the last word.
if ! "$PY" -c 'import cv2' >>"$LOG" 2>&1; then
  CV=$("$PY" -c "from importlib.metadata import version; print(version('opencv-python'))")
  pip_install 'a few seconds' --force-reinstall --no-deps "opencv-python-headless==$CV" ||
    fail "could not install opencv-python-headless $CV"
fi

MODULES=(torch torchvision timm mmengine mmcv mmseg)
if [[ $LEVEL == ops ]]; then
  step "mmcv's compiled operators"
  install_ops
  MODULES+=(mmdet mmpretrain)
fi

step "check"
log_command import "${MODULES[@]}"
"$PY" -W ignore - "${MODULES[@]}" 2>>"$LOG" <<'PYTHON' || fail "the installed packages do not import"
import importlib
import platform
import sys

found = [f'Python {platform.python_version()}']
for name in sys.argv[1:]:
    found.append(f'{name} {importlib.import_module(name).__version__}')
print('               ' + ', '.join(found))
PYTHON

rm -f "$VENV/.mmsigma-$LEVEL-"*
echo "$PWD" >"$VENV/.mmsigma-$LEVEL-$HASH"
say_ready
