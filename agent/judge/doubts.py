"""What does not add up in a log that is all there is of a run, as findings.

Takes a track and what the log says; gives `Finding`s. Pure. Only for tracks whose score is what the script reports:
where the judge measured, its own figures say more.
"""

from agent.judge.logs import Reported
from agent.records import Finding
from agent.track import Track


def of_log(track: Track, said: Reported) -> list[Finding]:
    """Several runs in one log, sizes that do not add up, a score that does not belong to its loss."""
    found = []
    notes = said.notes
    if said.runs:
        found.append(Finding("several_runs", "flag", said.notes[-1]))
        notes = said.notes[:-1]
    found += [Finding("log_note", "note", note) for note in notes]
    told = said.recount() if track.data.corpus == "fineweb" else None
    if told is not None:
        found.append(Finding("tokens_per_byte", "flag" if told.fine is False else "note", told.words))
    if said.bpb is not None:
        found.append(Finding("official_line", "note", f"{said.line[:200]} ({said.why})"))
    return found
