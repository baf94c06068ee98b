"""The loop: the only file that knows the order of the stages.

    store -> search -> context -> planner -> guard -> review -> worktree -> runner -> judge -> verdict -> promote

It keeps nothing in memory that matters. Every turn looks at the world and at what happened since the last one, takes
each arrow as far as it can go, and writes each record before the next side effect; the first turn, and one from time to
time, reads all that the store says (`Agenda`). So a resume is simply the next turn.
"""

from collections.abc import Callable

from agent.clock import REAL, Clock
from agent.errors import BudgetExceeded
from agent.leading import Leading
from agent.records import Proposal
from agent.runners import ended as over_now
from agent.runners import rents
from agent.setting import Setting
from agent.steps.admit import admit, record, refresh
from agent.steps.agenda import Agenda
from agent.steps.collect import cancel_all, collect
from agent.steps.conform import Conforming
from agent.steps.decide import decide
from agent.steps.ending import NO_MORE_IDEAS, SCORELESS, Ending, close, ending, over
from agent.steps.filling import Filling
from agent.steps.learn import Learning
from agent.steps.plan import Asking
from agent.steps.promote import passed, promote
from agent.steps.recall import recall
from agent.steps.slots import Slots
from agent.steps.stuck import Stuck
from agent.steps.watch import Watch
from agent.store.lease import Lease, refuse
from agent.store.rows import Request

LOOK_S = 0.05  # between two looks at what runs and at the planners
LESSONS_S = 120.0  # at the end, for findings that are still being written
UNPAID_S = 600.0  # without money for anything, while something waits for what others set aside
BATCH = 0.001  # of a run: how long what ended or was answered waits for what comes with it
MOST_BATCH_S = 1.0
TURN_S = 1.0  # after which a turn is taken anyway: a person may have said something in the store


class Loop:
    """One controller of one campaign."""

    def __init__(self, setting: Setting, show: Callable[[], None] = lambda: None, clock: Clock = REAL) -> None:
        self._setting = setting
        self._show = show
        self._clock = clock
        self._agenda = Agenda(setting, clock)
        self._slots = Slots(setting, clock)
        self._watch = Watch(setting, self._slots, clock)
        self._stuck = Stuck(setting, clock)
        self._asking = Asking(setting, clock)
        self._learning = Learning(setting, clock)
        self._conforming = Conforming(setting, clock)
        self._filling = Filling(
            setting, self._agenda, self._slots, self._conforming, self._may_plan, lambda: self._passed, clock
        )
        self._leading = Leading(setting)
        self._request: Request = ""
        self._told: Request = ""
        self._found_at: float | None = None  # since when there is nothing left but findings
        self._over: bool | None = None  # asked again when something has happened
        self._passed = False  # an idea that passed waits to be promoted

    def run(self) -> Ending:
        """Works until the budget, the target, the planner or the person says stop."""
        with self._leading.under_way() as lease:
            found = self._until_over(lease)
            close(self._setting, found)
        return found._replace(left=self._leading.left)

    def _until_over(self, lease: Lease) -> Ending:
        while (found := self._ending()) is None:
            lease.check()
            try:
                if not self._turn():
                    self._rest()
            except BudgetExceeded as error:
                if not rents(self._setting.runner):
                    raise
                self._agenda.read_runs()
                if not self._agenda.runs:
                    return Ending("finished", f"no machine can be rented any more: {error}")
                self._clock.rest(LOOK_S, TURN_S)  # what is under way elsewhere is waited for
            self._show()
        return found

    def _turn(self) -> int:
        """Takes every arrow as far as it can go; gives how much happened."""
        setting, agenda = self._setting, self._agenda
        agenda.turn()
        ended, decided = self._judge()
        happened = ended + decided
        happened += self._learn(happened)
        happened += self._conform()
        if happened or agenda.whole:
            self._asking.changed()
        happened += self._plan()
        ends = bool(self._over or self._asked())
        if decided or agenda.whole or ends or not self._may_plan():
            recall(setting, agenda.runs.values(), last=ends or not self._may_plan(), ends=ends)
        if not self._over and not self._asked():
            happened += self._filling.fill()
        if not happened and not self._over and not agenda.runs:
            self._stuck.look(self._filling.wanted(), self._slots.all())
        if happened:
            self._asking.changed()
        self._watch.look(agenda.runs)
        agenda.turned(happened)
        return happened

    def _judge(self) -> tuple[int, int]:
        """Measures, decides, promotes; gives how many runs ended, and how many ideas went on."""
        setting, agenda = self._setting, self._agenda
        due, ended = set(agenda.waiting), collect(setting, agenda.folders)
        for one in ended:
            due |= agenda.ended(one.run)
            self._slots.ended(one.run, one.slot_s, whole=one.whole)
        decided = decide(setting, None if agenda.whole else due)
        agenda.decided(decided.states)
        agenda.waiting = decided.waiting
        agenda.stalled = set(decided.stalled) if agenda.whole else (agenda.stalled - due) | decided.stalled
        went_on = len(decided.states)
        fresh = any(one.run.baseline_id is None for one in ended)
        rescored = any(one.run.purpose == "rescore" for one in ended)
        moved = 0
        if agenda.whole or fresh or rescored or self._passed or "auditing" in decided.states.values():
            moved = promote(setting)
            self._passed = passed(setting)
        if agenda.whole or moved:
            if moved:
                agenda.everything()
            went_on += moved + refresh(setting)
        scoreless = SCORELESS & set(decided.states.values()) or any(not one.whole for one in ended)
        if self._over is None or agenda.whole or fresh or scoreless or (self._over and decided.states):
            self._look()
        return len(ended), went_on

    def _look(self) -> None:
        """Whether anything new is to be planned or started at all."""
        with self._setting.store.read() as reads:
            self._over = over(self._setting, reads) is not None

    def _rest(self) -> None:
        """Until a run has ended, a planner has answered or a person has interrupted; a turn costs what a run needs."""
        setting, clock, interrupts = self._setting, self._clock, self._leading.interrupts
        until = clock.now() + TURN_S
        folders = self._agenda.folders.keys()
        while clock.now() < until and self._leading.interrupts == interrupts:
            if self._answered() or over_now(setting.runner, folders):
                batch_s = min(MOST_BATCH_S, BATCH * self._slots.shortest())
                clock.rest(batch_s, batch_s)
                return
            clock.rest(LOOK_S, TURN_S)
            self._show()

    def _answered(self) -> bool:
        """Whether something came back that is to be written down."""
        return self._asking.answered() or self._conforming.answered()

    def _conform(self) -> int:
        """Ideas whose scoring is tried against the contract."""
        found = self._conforming.collect()
        self._agenda.touch(found)
        if not self._over and not self._asked():
            self._conforming.ask(self._agenda.wanted)
        return len(found)

    def _learn(self, happened: int) -> int:
        """Writes down what verdicts taught, and asks about those that came since."""
        found = self._learning.collect()
        if (found or happened) and not self._asked():
            self._learning.ask()
        return found

    def _plan(self) -> int:
        """Asks for as many ideas as the slots will need, writes down what planners answered, and checks it.

        Before launching, so that a turn that was cut off is repeated with the same questions in the same order.
        """
        setting, answered = self._setting, 0
        while True:
            may_ask = not self._over and not self._asked()
            if may_ask:
                self._asking.ask(lambda: self._slots.ahead(self._agenda.runs.values()))
            drafts = self._asking.answers()
            recorded = [record(setting, draft) for draft in drafts]
            if drafts:
                self._asking.changed()
            answered += len(drafts)
            if not may_ask:  # what was under way is not lost; the next controller checks it
                return answered
            drafted = self._drafted() if self._agenda.whole else recorded
            admitted = [admit(setting, proposal) for proposal in drafted if proposal.state == "drafted"]
            self._agenda.touch(proposal.id for proposal in admitted)
            states = {proposal.state for proposal in admitted}
            if not drafts:
                return answered
            if not states & {"approved", "awaiting_review"}:
                self._look()  # ideas that no check lets through may come without end

    def _drafted(self) -> list[Proposal]:
        with self._setting.store.read() as reads:
            return reads.proposals(self._setting.campaign.id, {"drafted"})

    def _ending(self) -> Ending | None:
        """How the campaign ends now, if it does; what runs is let finish, or cancelled and settled, before."""
        setting, self._request = self._setting, self._agenda.hear()
        asked = self._asked()
        self._tell(asked)
        if asked == "cancel":
            self._agenda.read_runs()
            cancel_all(setting, list(self._agenda.runs.values()))
        if self._agenda.runs:
            return None
        with setting.store.read() as reads:
            if reads.runs(setting.campaign.id, states={"queued", "running"}):
                return None
            if asked:
                return Ending("stopped", "cancelled by a person" if asked == "cancel" else "stopped by a person")
            found = ending(setting, reads, may_plan=self._may_plan(), unpaid=self._unpaid())
        if found is not None and self._learning.busy():
            now = self._clock.now()
            self._found_at = now if self._found_at is None else self._found_at
            if now < self._found_at + LESSONS_S:
                return None  # what the last verdicts taught is worth a minute
        if found == NO_MORE_IDEAS and self._asking.why:
            broken = self._asking.broken
            return Ending("stopped" if broken else "finished", self._asking.why, failed=broken)
        return found

    def _may_plan(self) -> bool:
        """Whether an idea may still come."""
        return not self._asking.exhausted or self._asking.busy() > 0

    def _unpaid(self) -> bool:
        """Whether nothing can run any more for want of money. What waits for others' may still get it."""
        since_s = self._filling.unpaid_s
        return since_s is not None and (since_s > UNPAID_S or not (self._agenda.waiting or self._passed))

    def _asked(self) -> Request:
        """What a person wants: Ctrl-C here, or `agent stop` from another terminal."""
        if self._leading.interrupts > 1 or self._request == "cancel":
            return "cancel"
        return "drain" if self._leading.interrupts or self._request else ""

    def _tell(self, asked: Request) -> None:
        """Says once that it was heard, and what comes now."""
        if asked in ("", self._told):
            return
        self._told = asked
        words = {
            "drain": "planning nothing more, finishing what runs; Ctrl-C again or `agent stop --now` cancels it",
            "cancel": "cancelling what runs",
        }
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, "stopping", words[asked])


def wind_up(setting: Setting, reason: str) -> str:
    """Ends a campaign that can't go on: what runs is cancelled and settled, and every idea ends in a final state.
    Gives what could not be given back."""
    with setting.store.write() as tx:
        refuse(tx.connection, f"campaign {setting.campaign.name}")  # it would end another controller's runs
        tx.ask(setting.campaign.id, "cancel")
    left = Loop(setting).run().left
    close(setting, Ending("finished", reason))
    return left
