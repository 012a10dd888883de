#!/usr/bin/env bash
# Runs a command of fiat's on GPUs: of this machine, of several machines, or of a Slurm cluster:
#   launch/gpu.sh [--dry_run] -- train --model flan_t5_xl --dtype bfloat16 --data my.csv --model_dir runs/mine
#   launch/gpu.sh --nodes host0,host1 [--folder PATH] [--port 8476] -- train …
#   launch/gpu.sh --slurm 2 [--gpus_per_node 8] -- train …
# Of several machines each is reached by ssh and has this folder, or --folder, on a disk that all share; one process on
# each works with all of its GPUs. On Slurm a process has one GPU; what else srun is to know stands in its SLURM_…
# variables. A signal here stops all of them, the work saved, and the same command goes on. --dry_run prints the commands.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

nodes="" slurm="" gpus_per_node=8 port=8476 folder=$root
while [ $# -gt 0 ]; do
  case "$1" in
    --dry_run) dry_run=yes; shift ;;
    --nodes | --slurm | --gpus_per_node | --port | --folder)
      [ $# -gt 1 ] || fail "$1: what it is to be is missing"
      printf -v "${1#--}" %s "$2"
      shift 2 ;;
    --) shift; break ;;
    *) fail "$1: unknown; fiat's own words go behind --" ;;
  esac
done
[ $# -gt 0 ] || fail "what is to be run goes behind --, such as: -- train --data my.csv"
[ -z "$nodes" ] || [ -z "$slurm" ] || fail "--nodes or --slurm, not both"
for number in "$gpus_per_node" "$port" ${slurm:+"$slurm"}; do
  case "$number" in '' | *[!0-9]* | 0) fail "--slurm, --gpus_per_node and --port are numbers from 1; '$number' is none" ;; esac
done

one_node() {
  does "$root/launch/setup.sh" cuda
  does "$root/.venv/bin/fiat" "$@"
}

on_slurm() {
  does "$root/launch/setup.sh" cuda
  does srun --nodes "$slurm" --ntasks-per-node "$gpus_per_node" --gpus-per-node "$gpus_per_node" --kill-on-bad-exit=1 \
    "$root/.venv/bin/fiat" "$@"
}

# What one machine runs; its process's number is kept, so that a signal can be sent to it.
on_node() { # on_node NUMBER COMMAND…
  local number=$1
  shift
  echo "cd $(quoted "$folder") && ./launch/setup.sh cuda && echo \$\$ > .launched_$port.$number && exec .venv/bin/fiat" \
    "$(quoted "$@") --coordinator ${hosts[0]#*@}:$port --processes ${#hosts[@]} --process $number"
}

hosts=() started=()
on_nodes() {
  local number=0 code=0 ended process
  IFS=, read -ra hosts <<<"$nodes"
  trap 'ssh "${hosts[0]}" "kill -TERM \$(cat $(quoted "$folder")/.launched_$port.0)"' INT TERM # the others hear of it
  while [ $number -lt ${#hosts[@]} ]; do
    if [ -n "$dry_run" ]; then
      does ssh "${hosts[number]}" "$(on_node $number "$@")"
    else
      # shellcheck disable=SC2029  # what is to be known here is put in here
      ssh "${hosts[number]}" "$(on_node $number "$@")" &
      started+=($!)
    fi
    number=$((number + 1))
  done
  for process in ${started[@]+"${started[@]}"}; do
    while true; do
      ended=0
      wait "$process" || ended=$?
      kill -0 "$process" 2>/dev/null || break # a signal ends the waiting, not the process
    done
    if [ $code = 0 ]; then code=$ended; fi
  done
  return $code
}

if [ -n "$nodes" ]; then
  on_nodes "$@"
elif [ -n "$slurm" ]; then
  on_slurm "$@"
else
  one_node "$@"
fi
