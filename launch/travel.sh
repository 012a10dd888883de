# What goes from here to a slice and back, through the bucket; tpu_vm.sh sources it. Of bash 3.2, as common.sh says.
# shellcheck shell=bash
# shellcheck disable=SC2154  # name, bucket, home, words, dry_run and root are theirs
SHIPPED=(fiat_jax gin tasks launch requirements.txt pyproject.toml README.md LICENSE) # of the code; runs and stores stay

is_path() { # is_path FLAG VALUE: whether the value is a file or folder of this machine, not a name or a text
  case "${1#--}:$2" in
    exemplars:train | beta:recorded) return 1 ;;
  esac
  case "${1#--}" in
    model | base_model | beta) [ ! -e "$root/gin/models/$2.gin" ] || return 1 ;;
    data | train | validation | test | exemplars | from | from_file | import_from | published | judge_store) ;;
    adapter | deployment | gin_file | gin_search_paths | try_instructions | try_reasoning_instructions) ;;
    *) return 1 ;;
  esac
  [ -e "${2%%\[*}" ]
}

# The words as they are there: files of this machine lie in the bucket, and so do the run folder and what --output names.
# Files of the repository itself, gin/ and tasks/, are where they are here.
sent=() there=()
travel() {
  local word path place before="" number=0
  sent=() there=()
  for word in ${words[@]+"${words[@]}"}; do
    path=${word%%\[*} # rows.jsonl[:512]
    case "$before" in
      --model_dir) there+=("../$home") ;;
      --output | --export_to) there+=("../bucket/outputs/$name/$(basename "$word")") ;;
      --store)
        place=stores/$(basename "$word")
        there+=("../bucket/$place")
        if [ -e "$word" ]; then sent+=("$word" "$place"); fi ;;
      *)
        if is_path "$before" "$word" && [ "${path#gin/}" = "$path" ] && [ "${path#tasks/}" = "$path" ]; then
          number=$((number + 1)) place=files/$number/$(basename "$path")
          sent+=("$path" "$place")
          there+=("../bucket/$place${word#"$path"}")
        else
          there+=("$word")
        fi ;;
    esac
    before=$word
  done
  if [ -z "$(value_of --model_dir ${words[@]+"${words[@]}"})" ]; then there+=(--model_dir "../$home"); fi
}

# The code, what the command names, and a run that began here.
send() {
  local code place=0 folder
  code=${TMPDIR:-/tmp}/fiat_$name.tar.gz
  does tar -czf "$code" -C "$root" "${SHIPPED[@]}"
  cloud storage cp "$code" "$bucket/code.tar.gz"
  while [ $place -lt ${#sent[@]} ]; do
    if [ -d "${sent[place]}" ]; then
      cloud storage rsync --recursive "${sent[place]}" "$bucket/${sent[place + 1]}"
    else
      cloud storage cp "${sent[place]}" "$bucket/${sent[place + 1]}"
    fi
    place=$((place + 2))
  done
  folder=$(value_of --model_dir ${words[@]+"${words[@]}"})
  if [ -n "$folder" ] && [ -d "$folder" ] && ! in_bucket "runs/$name"; then
    cloud storage rsync --recursive "$folder" "$bucket/runs/$name"
  fi
}

in_bucket() { gcloud storage ls "$bucket/$1" >/dev/null 2>&1; }

fetch_store() { # fetch_store FLAG, or nothing
  local store
  store=$(value_of --store ${words[@]+"${words[@]}"})
  if [ -n "$store" ] && { [ -n "$dry_run" ] || in_bucket "stores/$(basename "$store")"; }; then
    does mkdir -p "$store"
    cloud storage rsync --recursive ${1:+"$1"} "$bucket/stores/$(basename "$store")" "$store"
  fi
}

fetch() {
  local folder flag output
  folder=$(value_of --model_dir ${words[@]+"${words[@]}"})
  folder=${folder:-runs/$name}
  if [ "${words[0]:-}" != annotate ]; then
    does mkdir -p "$folder"
    cloud storage rsync --recursive "$bucket/runs/$name" "$folder"
  fi
  fetch_store ""
  for flag in --output --export_to; do
    output=$(value_of "$flag" ${words[@]+"${words[@]}"})
    if [ -n "$output" ]; then
      does mkdir -p "$(dirname "$output")"
      cloud storage cp --recursive "$bucket/outputs/$name/$(basename "$output")" "$(dirname "$output")"
    fi
  done
}
