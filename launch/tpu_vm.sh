#!/usr/bin/env bash
# Runs a command of fiat's on Cloud TPUs, from their creation to their end:
#   launch/tpu_vm.sh all --name mine --zone us-west4-a --bucket gs://B/fiat --topology v5e:4x4 [--spot] [--dry_run] \
#     -- train --model flan_t5_xxl --mesh fsdp=16 --data my.csv --store stores/mine --model_dir runs/mine
# The first word is one of
#   create  asks for the slice as a queued resource, and waits until it is there
#   setup   sends this code, and the files that the command names (rows, a store), and sets up on all workers
#   run     begins the command on all workers; with --recipe_a_chip, a comparison's recipes each on a chip of one host
#   follow  shows its log until it ends
#   fetch   copies the run folder here, the store, and what --output names
#   delete  gives the slice back
#   all     these one after the other; after a preemption from the beginning, where the run goes on from its checkpoint
# --dry_run prints bucket, zone and quota, and every command, and changes nothing. What asks an endpoint stays here: with
# `--beta openai:NAME` the annotation is done on this machine, and the store travels; no key does. More flags: --project,
# --runtime_version. POLL_SECONDS: between two looks at what becomes of the slice.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=launch/travel.sh
. "$(dirname "$0")/travel.sh"

name=fiat zone="" bucket="" topology="" project="" runtime_version="" spot="" recipe_a_chip=""
poll=${POLL_SECONDS:-30}
verb=${1:-}
case "$verb" in
  create | setup | run | follow | fetch | delete | all) shift ;;
  *) fail "'$verb' is no word of ours: give create, setup, run, follow, fetch, delete or all" ;;
esac
while [ $# -gt 0 ]; do
  case "$1" in
    --spot) spot=yes; shift ;;
    --recipe_a_chip) recipe_a_chip=yes; shift ;;
    --dry_run) dry_run=yes; shift ;;
    --name | --zone | --bucket | --topology | --project | --runtime_version)
      [ $# -gt 1 ] || fail "$1: what it is to be is missing"
      printf -v "${1#--}" %s "$2"
      shift 2 ;;
    --) shift; break ;;
    *) fail "$1: unknown; fiat's own words go behind --" ;;
  esac
done
split_words ${1+"$@"}
words=(${split[@]+"${split[@]}"})

[ -n "$zone" ] || fail "give --zone, such as us-west4-a"
case "$bucket" in gs://?*) bucket=${bucket%/} ;; *) fail "--bucket '$bucket': give gs://BUCKET or a folder of one" ;; esac

# The slice's name at Google's, its chips and hosts.
kind=${topology%%:*} chips=1
case "$topology" in v4:*x* | v5e:*x* | v5p:*x* | v6e:*x*) ;; *) fail "--topology '$topology': give such as v5e:4x4 or v4:2x2x2" ;; esac
IFS=x read -ra sides <<<"${topology#*:}"
for side in "${sides[@]}"; do
  case "$side" in '' | *[!0-9]*) fail "--topology '$topology': give such as v5e:4x4 or v4:2x2x2" ;; esac
  chips=$((chips * side))
done
case "$kind" in # cloud.google.com/tpu/docs: v4 and v5p are counted in cores, two a chip
  v4) type=v4-$((2 * chips)) image=tpu-ubuntu2204-base ;;
  v5p) type=v5p-$((2 * chips)) image=v2-alpha-tpuv5 ;;
  v5e) type=v5litepod-$chips image=v2-alpha-tpuv5-lite ;;
  v6e) type=v6e-$chips image=v2-alpha-tpuv6e ;;
esac
hosts=$(((chips + 3) / 4))
if [ "$chips" -le 8 ] && { [ "$kind" = v5e ] || [ "$kind" = v6e ]; }; then hosts=1; fi
if [ -n "$recipe_a_chip" ] && [ "$hosts" -gt 1 ]; then fail "--recipe_a_chip: $topology has $hosts hosts; take one of one host, such as v5e:2x4"; fi

at=(--zone "$zone")
if [ -n "$project" ]; then at+=(--project "$project"); fi
home=bucket/runs/$name # the bucket lies under ~/bucket on every worker, the run in it

cloud() { does gcloud "$@"; }
on() { # on WORKER COMMAND
  cloud compute tpus tpu-vm ssh "$name" "${at[@]}" --worker "$1" --command "$2"
}
errors=${TMPDIR:-/tmp}/fiat_$name.errors
state() { # as Google has it; NONE where there is no such slice, UNKNOWN where nobody answers (why stands in `errors`)
  local said
  if said=$(gcloud compute tpus queued-resources describe "$name" "${at[@]}" --format 'value(state.state)' 2>"$errors"); then
    echo "${said:-UNKNOWN}"
  elif grep -q 'NOT_FOUND\|was not found' "$errors"; then
    echo NONE
  else
    echo UNKNOWN
  fi
}

facts() {
  echo "bucket: $bucket, $(asked storage buckets describe "gs://$(bucket_name)" --format 'value(location)')"
  echo "zone: $zone, which has of $type: $(asked compute tpus accelerator-types list --zone "$zone" --filter "type=$type" --format 'value(type)')"
  local in_project=${project:-$(gcloud config get-value project 2>/dev/null || true)}
  echo "quota: $chips chips${spot:+, preemptible ones,} of $kind in $zone are needed; there is: $(asked alpha services quota list \
    --service tpu.googleapis.com --consumer "projects/${in_project:-PROJECT}" --flatten 'consumerQuotaLimits[].quotaBuckets[]' \
    --filter "consumerQuotaLimits.quotaBuckets.dimensions.zone=$zone" \
    --format 'value(metric, consumerQuotaLimits.quotaBuckets.effectiveLimit)')"
}
bucket_name() { local rest=${bucket#gs://}; echo "${rest%%/*}"; }
asked() { # what gcloud says, where there is one that may ask
  local said
  if said=$(CLOUDSDK_CORE_DISABLE_PROMPTS=1 gcloud "$@" 2>/dev/null </dev/null) && [ -n "$said" ]; then
    echo "$said" | tr '\n' ' ' | sed 's/ $//'
  else
    echo "not known: $(quoted gcloud "$@")"
  fi
}

check_bucket() {
  [ -z "$dry_run" ] || return 0
  local said
  if ! said=$(echo fiat | gcloud storage cp - "$bucket/may_write" 2>&1); then
    fail "$bucket cannot be written ($(echo "$said" | tail -n 1)): give a --bucket of yours, or ask for roles/storage.objectUser there"
  fi
}

create() {
  check_bucket
  cloud compute tpus queued-resources create "$name" --node-id "$name" "${at[@]}" --accelerator-type "$type" \
    --runtime-version "${runtime_version:-$image}" ${spot:+--spot} || fail "the slice was not granted: see above; --dry_run shows the quota"
  standing=yes
  if [ -n "$dry_run" ]; then
    echo "# until its state is ACTIVE, every $poll s:"
    quoted gcloud compute tpus queued-resources describe "$name" "${at[@]}" --format 'value(state.state)'
    return
  fi
  local now="" before=""
  while now=$(state); [ "$now" != ACTIVE ]; do
    case "$now" in
      FAILED | SUSPENDED | SUSPENDING | NONE) fail "the slice did not come, its state is $now: see 'gcloud compute tpus queued-resources describe $name --zone $zone', then launch/tpu_vm.sh delete" ;;
    esac
    if [ "$now" != "$before" ]; then echo "waiting for $type in $zone: $now" >&2; fi
    before=$now
    sleep "$poll"
  done
}

annotate() { # here, where the key is
  local beta
  beta=$(value_of --beta ${words[@]+"${words[@]}"})
  case "$beta" in
    openai:*)
      [ -n "$(value_of --store "${words[@]}")" ] || fail "--beta $beta without --store: its answers travel in a store"
      does "$root/.venv/bin/fiat" annotate "${words[@]:1}" || fail "the annotation did not end well; nothing was begun there" ;;
  esac
}

setup() {
  fetch_store --skip-if-dest-has-newer-mtime # what a slice that was taken away had written there already
  annotate
  travel
  send
  # What one worker writes in the bucket the others have to see at once: nothing is cached of its names. The images'
  # own Python is older than what is needed.
  local folder=${bucket#gs://"$(bucket_name)"}
  on all "set -e; mkdir -p ~/fiat ~/bucket
command -v gcsfuse >/dev/null || { echo \"deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -c -s) main\" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null; curl -s https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null; sudo apt-get -qq update; sudo apt-get -qq install -y gcsfuse; }
mountpoint -q ~/bucket || gcsfuse --implicit-dirs --metadata-cache-ttl-secs 0 --rename-dir-limit 100000${folder:+ --only-dir ${folder#/}} $(bucket_name) ~/bucket
for python in python3.12 python3.11 python3.13 none; do ! \$python -c 'import ensurepip' 2>/dev/null || break; done
[ \$python != none ] || { python3 -m pip install --quiet --user uv; ~/.local/bin/uv python install --quiet 3.12; python=\$(~/.local/bin/uv python find 3.12); }
tar -xzf ~/bucket/code.tar.gz -C ~/fiat; cd ~/fiat; PYTHON=\$python ./launch/setup.sh tpu" || fail "setting up did not end well: see above, mend it, then launch/tpu_vm.sh setup"
}

# The script that one worker runs.
script() {
  local line
  travel
  line=$(quoted .venv/bin/fiat ${there[@]+"${there[@]}"})
  if [ "$hosts" -gt 1 ]; then line="$line --coordinator auto"; fi
  if [ -n "$recipe_a_chip" ]; then
    recipes_on_chips "$line"
  else
    echo "$line"
  fi
}

# Each recipe that trains is a run of its own in the comparison's folder, which the comparison then finds done.
recipes_on_chips() {
  local names recipe chip=0 run again=() skips="" word
  names=$(value_of --recipes "${words[@]}")
  if [ "${words[0]:-}" != compare ] || [ -z "$names" ]; then fail "--recipe_a_chip: the command is to be a compare with --recipes, by their names"; fi
  case "$(value_of --seeds "${words[@]}")" in *,*) fail "--recipe_a_chip: give one of --seeds" ;; esac
  echo "$1 --dry_run" # so that the folder is the comparison's before there is anything in it
  for word in "${there[@]:1}"; do
    if [ -n "$skips" ]; then skips=""; continue; fi
    case "$word" in --recipes | --model_dir) skips=yes ;; *) again+=("$word") ;; esac
  done
  for recipe in ${names//,/ }; do
    [ $chip -lt $chips ] || { echo wait; chip=0; }
    run="TPU_VISIBLE_CHIPS=$chip TPU_CHIPS_PER_PROCESS_BOUNDS=1,1,1 TPU_PROCESS_BOUNDS=1,1,1"
    if grep -qs "Recipe.adapter = '\(lora\|full\)'" "$root/gin/recipes/$recipe.gin"; then
      echo "$run $(quoted .venv/bin/fiat train ${again[@]+"${again[@]}"} --recipes "$recipe" --model_dir "../$home/$recipe") > ~/$recipe.log 2>&1 &"
      chip=$((chip + 1))
    fi
  done
  echo wait
  echo "$1"
}

run() {
  [ ${#words[@]} -gt 0 ] || fail "what is to be run goes behind --, such as: -- train --data my.csv"
  local text
  text=$(script) || exit 2
  on all "cd ~/fiat; rm -f ~/fiat.exit; cat > ~/fiat.sh <<'END'
$text
END
nohup bash -c 'bash ~/fiat.sh > ~/fiat.log 2>&1; echo \$? > ~/fiat.exit' >/dev/null 2>&1 &
echo \$! > ~/fiat.pid"
}

# The log of the first worker until the run ends; its exit code in `ended`, nothing where the worker is gone.
ended=""
follow() {
  # shellcheck disable=SC2016,SC2088  # all of it is for the shell there
  on 0 'tail --pid $(cat ~/fiat.pid) -n +1 -F ~/fiat.log' || true
  [ -z "$dry_run" ] || { on 0 "cat ~/fiat.exit"; return 0; }
  ended=$(on 0 "cat ~/fiat.exit" 2>/dev/null | tr -dc 0-9) || ended=""
}

delete() {
  cloud compute tpus queued-resources delete "$name" "${at[@]}" --force --quiet && standing=""
}

# The slice is gone, at the tenth try at the latest.
cleared() {
  local tries=0
  until delete || [ "$(state)" = NONE ]; do
    tries=$((tries + 1))
    if [ "$tries" = 10 ]; then return 1; fi
    sleep "$poll"
  done
}

begin() { create; setup; run; }

# Whether the slice was taken away: its state says so before it was seen in its place three times. Where nobody answers,
# nothing is known of it, and it is looked again.
preempted() {
  local seen=0 now
  while true; do
    now=$(state)
    case "$now" in
      FAILED | SUSPENDED | SUSPENDING | NONE) return 0 ;;
      ACTIVE) seen=$((seen + 1)) ;;
      UNKNOWN) echo "nothing is known of $name, looking again: $(tail -n 1 "$errors")" >&2 ;;
      *) echo "waiting for $name: $now" >&2 ;;
    esac
    if [ "$seen" = 3 ]; then return 1; fi
    sleep "$poll"
  done
}

# Whether a slice was asked for that is not given back; who leaves `all` before that is told.
standing=""
left() {
  if [ -n "$standing" ] && [ -z "$dry_run" ]; then
    echo "$name is still there or asked for, and costs: launch/tpu_vm.sh setup, run, follow, fetch or delete --name $name …" >&2
  fi
}

all() {
  [ ${#words[@]} -gt 0 ] || fail "what is to be run goes behind --, such as: -- train --data my.csv"
  trap left EXIT
  trap 'exit 130' INT TERM
  begin
  follow
  while [ -z "$dry_run" ] && [ "$ended" != 0 ] && [ "$ended" != 2 ]; do # a host that is taken away takes the others along
    if preempted; then
      echo "$name was preempted: it is asked for again, and the run goes on from its last checkpoint" >&2
      cleared || fail "$name could not be deleted: see above"
      begin
    elif [ "$ended" = 143 ]; then
      run
    elif [ -z "$ended" ]; then
      echo "the connection to $name was lost: again" >&2
      sleep "$poll"
    else
      break
    fi
    follow
  done
  fetch || echo "error: launch/tpu_vm.sh: not all was fetched: it is in $bucket/runs/$name" >&2
  cleared || fail "$name could not be deleted: see above"
  [ -z "$ended" ] || [ "$ended" = 0 ] || { echo "the run ended with exit code $ended" >&2; exit "$ended"; }
}

if [ -n "$dry_run" ]; then facts; fi
case "$verb" in
  follow)
    follow
    if [ -z "$dry_run" ]; then
      [ -n "$ended" ] || fail "$name does not answer, its state is $(state): launch/tpu_vm.sh all goes on after a preemption"
      exit "$ended"
    fi ;;
  *) "$verb" ;;
esac
