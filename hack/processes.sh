# shellcheck shell=bash
# Starts, watches and stops processes that outlive the script, all below one state folder. Sourced by hack/up and hack/down.
#
# $state/processes/NAME holds "pid starttime" of a process, $state/logs/NAME.log what it prints. A process is known
# by both figures, and only until the machine is booted again: a pid alone may have been given to somebody else by the time
# it is signalled. $state/.hack-up marks the folder as ours and names the machine's boot; only a folder with it is removed.

progress() { echo "$program: $*" >&2; }

# The state letter and the start time (clock ticks since boot) of a pid; fails when there is none.
# The command in /proc/PID/stat may hold blanks and brackets, so what counts begins after the last bracket.
stat_of() { # pid
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086 # split into fields
  set -- ${line##*) }
  echo "$1 ${20}"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

alive() { # name
  local pid started now
  [ "$(cat "$state/.hack-up" 2>/dev/null)" = "$(boot_id)" ] || return 1
  read -r pid started 2>/dev/null <"$state/processes/$1" || return 1
  now=$(stat_of "$pid") || return 1
  [ "${now#* }" = "$started" ] && [ "${now%% *}" != Z ] # a zombie has ended and waits for its parent
}

# Starts a program in the background. The file is written by the child before it becomes the program, so there is no
# moment in which a running process is not on record; a session of its own keeps Ctrl-C at the terminal from it.
# Returns when the record is there, in one piece: whoever looked earlier would take the program for ended.
spawn() { # name, program, arguments...
  local name=$1 child
  shift
  (
    pid=$BASHPID # within $(...) it would be another one
    started=$(stat_of "$pid")
    echo "$pid ${started#* }" >"$state/processes/.$name"
    mv "$state/processes/.$name" "$state/processes/$name"
    exec setsid "$@" </dev/null >>"$state/logs/$name.log" 2>&1 9>&-
  ) &
  child=$!
  disown
  until [ -e "$state/processes/$name" ]; do
    kill -0 "$child" 2>/dev/null || fail_with_log "$name" "$name could not be started"
    sleep 0.01
  done
}

# Polls a check until it succeeds; gives up after the deadline or as soon as the named process has died.
await() { # name, seconds, what is awaited, check...
  local name=$1 deadline=$((SECONDS + $2)) what=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! alive "$name"; then
      fail_with_log "$name" "$name ended before $what"
    elif [ "$SECONDS" -ge "$deadline" ]; then
      fail_with_log "$name" "not in time: $what"
    fi
    sleep 0.1
  done
}

fail_with_log() { # name, message
  progress "$2; the end of $1's log:"
  tail -n 25 "$state/logs/$1.log" 2>/dev/null | sed 's/^/    /' >&2
  exit 1
}

signal_all() { # signal, names...
  local signal=$1 name pid
  shift
  for name in "$@"; do
    if alive "$name"; then
      read -r pid _ <"$state/processes/$name"
      kill "-$signal" "$pid" 2>/dev/null || true
    fi
  done
}

any_alive() { # names...
  local name
  for name in "$@"; do alive "$name" && return; done
  return 1
}

# Asks all recorded processes to end, waits, and kills what is left after the deadline.
stop_processes() {
  local names=() record deadline
  for record in "$state"/processes/*; do
    [ -e "$record" ] && names+=("${record##*/}")
  done
  [ ${#names[@]} -gt 0 ] || return 0
  signal_all TERM "${names[@]}"
  deadline=$((SECONDS + 2)) # nothing here is worth keeping, and an API server drains its watches for long
  while any_alive "${names[@]}" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
  signal_all KILL "${names[@]}"
  deadline=$((SECONDS + 10))
  while any_alive "${names[@]}"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      progress "cannot end the processes in $state/processes"
      exit 1
    fi
    sleep 0.1
  done
}

is_ours() { [ -f "$state/.hack-up" ]; }

# Makes the state folder, or takes over an empty one. Somebody else's files would be removed with it in the end.
make_state() {
  if [ -d "$state" ] && [ -n "$(ls -A "$state")" ] && ! is_ours; then
    progress "$state is not empty and was not made by hack/up: give --state a folder of its own"
    exit 1
  fi
  mkdir -p "$state"
  chmod 700 "$state"
  boot_id >"$state/.hack-up"
  rm -rf "$state/logs" # of a run that failed
  mkdir "$state/processes" "$state/logs"
}

stop_and_remove() { # keep the logs: yes or no
  stop_processes
  if [ "$1" = yes ]; then
    find "$state" -mindepth 1 -maxdepth 1 ! -name logs ! -name .hack-up -exec rm -rf {} +
    if [ -d "$state/logs" ]; then progress "logs are kept in $state/logs"; fi
  else
    rm -rf "$state"
  fi
}

# Free loopback ports, all different. Below the range that the kernel gives to outgoing connections, so that no
# connection takes one between now and the moment its server binds it.
free_ports() { # how many; given: $python
  "$python/bin/python3" - "$1" <<'PYTHON'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", random.randint(15000, 32000)))
        held.append(candidate)
    except OSError:
        candidate.close()
print(*(s.getsockname()[1] for s in held))
PYTHON
}

# Sets cache, state and the lock that keeps two runs on one state from each other. Given: the value of --state or nothing.
open_state() { # checkout, state
  cache="${TONNAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tonnage}"
  state="${2:-$cache/run/$(printf '%s' "$1" | sha256sum | cut -c1-12)}"
  state=$(realpath -m "$state")
  mkdir -p "$cache/locks"
  exec 9>"$cache/locks/$(printf '%s' "$state" | sha256sum | cut -c1-12)"
  if ! flock --wait 180 9; then
    progress "another run holds $state"
    exit 1
  fi
}
