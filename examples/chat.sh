#!/usr/bin/env bash
# Asks a gateway with curl and jq, and picks the answer up after a drop: chat.sh QUESTION [URL]
set -euo pipefail

gateway=${2:-http://127.0.0.1:8080}
key=$(cat /proc/sys/kernel/random/uuid)
body=$(jq -cn --arg message "$1" '{$message, session_id: "example"}')
turn='' seq=0 status=''

events() {
  if [ -n "$turn" ]; then
    curl --silent --no-buffer --max-time 1800 "$gateway/v1/turns/$turn/events?after=$seq"
  else
    curl --silent --no-buffer --max-time 1800 "$gateway/v1/chat/stream" --header 'Content-Type: application/json' \
      --header 'Accept: application/x-ndjson' --header "Idempotency-Key: $key" --data "$body"
  fi
}

while [ -z "$status" ]; do
  while IFS= read -r line || [ -n "$line" ]; do
    seq=$(jq -r --argjson seq "$seq" '.seq // $seq' <<<"$line")
    case $(jq -r '.code // .type' <<<"$line") in
      turn.started) turn=$(jq -r .turn_id <<<"$line") ;;
      delta) jq -j .text <<<"$line" ;;
      snapshot) jq -j '"\n", .message.content' <<<"$line" ;; # In place of all there was.
      turn.finished) status=$(jq -r .status <<<"$line") ;;
      invalid_*) status=$(jq -r .detail <<<"$line") ;;
    esac
  done < <(events)
  [ -n "$status" ] || sleep 0.5
done
echo
[ "$status" = completed ] || { echo "$status" >&2; exit 1; }
