# What tpu_vm.sh and gpu.sh share; they source it. For bash 3.2, which macOS has: no associative arrays, and no empty
# array is expanded as it stands.
# shellcheck shell=bash
# shellcheck disable=SC2034  # they read it
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dry_run=""

fail() {
  echo "error: launch/$(basename "$0"): $*" >&2
  exit 2
}

# Runs a command; with --dry_run it is printed as it can be typed, and no more.
does() {
  if [ -n "$dry_run" ]; then
    quoted "$@"
  else
    "$@"
  fi
}

# Words on one line, so quoted that a shell reads them as they are here.
quoted() {
  local line="" word
  for word in "$@"; do
    case "$word" in
      *\'*) line="$line $(printf '%q' "$word")" ;;
      '' | *[!A-Za-z0-9_./:=,@%+-]*) line="$line '$word'" ;;
      *) line="$line $word" ;;
    esac
  done
  echo "${line# }"
}

# Words in which a flag and its value are two, in `split`: --data=my.csv is --data my.csv. Gin's own stay as they are.
split=()
split_words() {
  local word
  split=()
  for word in "$@"; do
    case "$word" in
      --gin.*) split+=("$word") ;;
      --[a-z]*=*) split+=("${word%%=*}" "${word#*=}") ;;
      *) split+=("$word") ;;
    esac
  done
}

# The word after a flag among a command's words, the last that there is; else nothing.
value_of() {
  local flag=$1 found="" before="" word
  shift
  for word in "$@"; do
    if [ "$before" = "$flag" ]; then found=$word; fi
    before=$word
  done
  echo "$found"
}
