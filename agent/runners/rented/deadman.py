"""The dead-man timer inside a machine: whoever rents it may die, the machine ends by itself at its time.

Takes the machine's name and its time; gives the texts that run there: the timer, which is started with it, and the
command that moves its time, by the machine's own clock. `tell` has that command run.
"""

from agent.errors import InfraError
from agent.runners.rented.rental import Shell

FOLDER = "$HOME/.caddie"
EVERY_S = 15


def timer(name: str, until: int, lease_s: int, *, end: str, every_s: float = EVERY_S) -> str:
    """A shell script. `end`: what ends the machine, as its provider knows. `until` is a time of whoever rents, whose
    clock may be wrong: the lease also counts from here.

    A container that is started again finds no file, and the same `until`: it gets no second lease by it.
    """
    return f"""\
f={_file(name)}
mkdir -p "${{f%/*}}"
own=$(( $(date +%s) + {int(lease_s)} ))
[ {int(until)} -lt $own ] && own={int(until)}
[ -s "$f" ] || {{ echo $own >"$f.tmp" && mv "$f.tmp" "$f"; }}
while :; do
  u=$(cat "$f" 2>/dev/null)
  case $u in ''|*[!0-9]*) u=$own;; esac
  if [ "$(date +%s)" -ge "$u" ]; then
{end}
  fi
  sleep {every_s:g}
done
"""


def rearm(name: str, seconds: float) -> str:
    """For a shell there: from now on its time is over in so many seconds."""
    return f'f={_file(name)}; echo $(( $(date +%s) + {int(seconds)} )) >"$f.tmp" && mv "$f.tmp" "$f"'


def tell(name: str, seconds: float, shell: Shell) -> None:
    """`rearm` on the machine. Should this be lost, it ends sooner, and nothing is lost but time. Raises InfraError."""
    done = shell(rearm(name, seconds))
    if done.rc != 0:
        raise InfraError(f"{name}: its timer can't be moved: {done.err[:300]}")


def _file(name: str) -> str:
    if not name or not all(letter.isalnum() or letter == "-" for letter in name):
        raise ValueError(f"{name!r} is no name of a machine")
    return f'"{FOLDER}/until-{name}"'
