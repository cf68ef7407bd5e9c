"""How the processes of a session are found in a container, as lines of POSIX sh; used by pods.reaper and pods.signals.

A session's processes carry its id in their environment, where every child
inherits it. Nothing but sh, kill, cat, tr and grep is needed: no ps, no pgrep,
and no option of theirs that busybox lacks. What clears its environment is not found.
"""

from __future__ import annotations

VARIABLE = "BASTION_SESSION"
LEADER = "BASTION_SESSION_LEADER"
"""Holds the pid of the session's first process: what is in another process session than that left on purpose."""

NO_PROC = "no proc"
"""What a script prints where /proc cannot be read."""

SOME = f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -q '^{VARIABLE}='"
"""Whether any process carries a marker, as a command. (A busybox grep sees nothing behind a NUL.)"""

# A container may hold a thousand processes, and to fork for each takes seconds; so one cat reads the stat and the
# environ of hundreds of them, and the shell goes through what grep keeps of that. statm only sets a line apart from the
# one before it: an environment may lack its end.
# A variable may hold line ends, and what looks like another process's line behind one. So a process that seems to carry
# a marker is looked at by itself, once. A zombie has no environment left.
#
# look DIR ...: of the processes at /proc/PID that carry one of $wanted (markers, a line each), sets
#   here    " PID:MARKER ..." (markers hold no blanks, being session ids)
#   inside  " PID ..." of those in the session's own process session
#   family  " PID SID ..." their pids, and the process sessions that they are in
#   said    the stat lines of all that were looked at, and the lines of their variables
FIND = f"""
[ -r /proc/self/environ ] || {{ echo '{NO_PROC}'; exit 0; }}
LC_ALL=C
export LC_ALL
blanks=$IFS
end='
'
known=' '
read_all() {{
  files= n=0
  for d; do
    files="$files $d/stat $d/environ $d/statm" n=$((n+1))
    [ $n -lt 200 ] || {{ cat $files; files= n=0; }}
  done
  cat $files; }}
lines() {{ read_all "$@" </dev/null 2>/dev/null | tr '\\0' '\\n' | grep -e '^[0-9]* (' -e '^{VARIABLE}'; }}
stat() {{ pid=${{1%% *}}; set -- ${{1##*) }}; ppid=$2 sid=$4; }}
carries() {{
  case $known in *" $1:$2 "*) return 0 ;; esac
  {{ tr '\\0' '\\n' <"/proc/$1/environ" | grep -qxF "{VARIABLE}=$2"; }} 2>/dev/null || return 1
  known="$known$1:$2 "; }}
keep() {{
  [ -n "$marker" ] && carries "$pid" "$marker" || return 0
  case $here in *" $pid:$marker "*) return 0 ;; esac
  here="$here$pid:$marker " family="$family$pid $sid "
  [ "$sid" != "$leader" ] || inside="$inside$pid "; }}
look() {{
  here=' ' inside=' ' family=' ' pid= sid= marker= leader=
  said=$(lines "$@")
  set -f
  IFS=$end
  set -- $said
  IFS=$blanks
  set +f
  for line; do
    case $line in
    [0-9]*) keep; marker= leader=; stat "$line" ;;
    {LEADER}=*) leader=${{line#*=}} ;;
    {VARIABLE}=*) case $end$wanted$end in *"$end${{line#*=}}$end"*) marker=${{line#*=}} ;; esac ;;
    esac
  done
  keep; }}
"""
