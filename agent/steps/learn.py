"""verdict -> store: a short finding in a model's words after each verdict: what the last idea taught the next one.

Asked of a planner that can say it, in the background; what it says is written down by the loop's own thread. Each idea
is asked about once, and again if it was taken back.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from agent.clock import Clock
from agent.errors import PlannerError
from agent.llm.redact import Redactor
from agent.planner import Learner
from agent.records import Proposal, ProposalState, Taught
from agent.setting import Setting
from agent.store import lessons, talks

# What taught something: it ran and was judged.
JUDGED: frozenset[ProposalState] = frozenset(
    {"worse", "inconclusive", "crashed", "oversize", "invalid", "promoted", "reverted"}
)
AT_ONCE = 2
PAUSE_S = 30.0  # after a failure, twice as long after each further one
MOST_FAILURES = 4
ONE_RUN = 0.5  # confidence at most of what one run says: a single run is a hint and never a ban


@dataclass(frozen=True)
class Lecture:
    """A finding that is being written."""

    teacher: Learner
    proposal: Proposal
    answer: "Future[Taught | None]"


class Learning:
    """The findings of one controller. What a killed one was writing is lost, and its cost is not."""

    def __init__(self, setting: Setting, clock: Clock) -> None:
        self._setting, self._clock = setting, clock
        self._teachers = [planner for planner in setting.planners if isinstance(planner, Learner) and planner.learns]
        self._under_way: list[Lecture] = []
        self._failures = 0  # in a row
        self._paused = 0.0  # until when nothing is asked

    def busy(self) -> bool:
        return bool(self._under_way)

    def ask(self) -> None:
        """Starts what there is to say, the oldest verdict first."""
        free = AT_ONCE - len(self._under_way)
        if not self._teachers or free <= 0 or self._clock.now() < self._paused:
            return
        teacher = self._teachers[0]
        with self._setting.store.read() as reads:
            due = talks.untaught(reads, self._setting.campaign.id, JUDGED, most=free + AT_ONCE)
            new = [reads.proposal(one) for one in due if one not in {busy.proposal.id for busy in self._under_way}]
        for proposal in new[:free]:
            answer = self._clock.background(f"lesson p{proposal.id}", partial(teacher.learn, proposal))
            self._under_way.append(Lecture(teacher, proposal, answer))

    def collect(self) -> int:
        """Writes down what came back; gives how much."""
        done = [one for one in self._under_way if one.answer.done()]
        for one in done:
            self._under_way.remove(one)
            try:
                taught = one.answer.result()
            except Exception as error:  # a planner's faults end nothing that runs
                self._failed(one.teacher, error)
                continue
            self._failures = 0
            if taught is not None:
                self._write(one.proposal, taught)
        return len(done)

    def _failed(self, teacher: Learner, error: Exception) -> None:
        """A finding is worth less than an idea: who fails again and again is asked for no more of them."""
        self._failures += 1
        if isinstance(error, PlannerError) and not error.lasting and self._failures < MOST_FAILURES:
            self._paused = self._clock.now() + max(PAUSE_S * 2 ** (self._failures - 1), error.retry_after or 0.0)
        elif teacher in self._teachers:  # it may have failed at two at once
            self._teachers.remove(teacher)
            with self._setting.store.write() as tx:
                words = (
                    f"{teacher.name} writes no more findings: {type(error).__name__}: {Redactor.of().text(str(error))}"
                )
                tx.add_event(self._setting.campaign.id, "planner", words)

    def _write(self, proposal: Proposal, taught: Taught) -> None:
        with self._setting.store.write() as tx:
            done = tx.runs(proposal.campaign_id, proposal_id=proposal.id, states={"done"})
            runs = tuple(run.id for run in done)
            decided = [run for run in done if run.rung == self._setting.track.decision.rung]
            most = ONE_RUN if len(decided) < 2 else 1.0
            new = lessons.add_lesson(
                tx,
                proposal.id,
                kind=proposal.kind,
                text=taught.text,
                confidence=min(taught.confidence, most),
                runs=runs,
                conversation_id=taught.conversation_id,
            )
            known = {one.id for one in lessons.lessons(tx, proposal.campaign_id) if one.contradicted_by is None}
            for lesson_id in set(taught.contradicts) & known - {new.id}:
                lessons.contradict(tx, lesson_id, by=new.id)
            tx.add_event(proposal.campaign_id, "lesson", f"l{new.id}: {new.text}", proposal_id=proposal.id)
