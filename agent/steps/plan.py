"""store -> search -> context -> planner: asks for ideas ahead of time, so that no slot waits for a planner.

A planner call runs in a thread and gets a frozen `Request`; its answer is written down by the loop's own thread. What
a call still under way at the end would have said is lost with it: nothing waits for it, not even the process's exit.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from agent import review, search
from agent.clock import REAL, Clock
from agent.errors import PlannerError, SpentError
from agent.llm.redact import Redactor
from agent.planner import Planner, Request, Trial, bandit, clients, merging
from agent.records import Draft, ProposalState
from agent.script import literals
from agent.setting import Setting, known
from agent.steps.depth import depth
from agent.steps.slots import Ahead
from agent.store import Reads
from agent.store.forgotten import configurations
from agent.store.promises import paid, promises

# Ideas that wait for a slot alone; each of them was planned without knowing what runs now will show.
READY: frozenset[ProposalState] = frozenset({"drafted", "approved"})
# And those that wait for a person: nothing runs before the person has come, and nothing else waits for it.
WAITING: frozenset[ProposalState] = READY | {"awaiting_review"}
REMEMBERED = 400  # how many of the newest ideas a planner is told of, so that a long campaign does not slow down
PER_SLOT_S = 0.004  # between two looks at when slots will be free: a look costs what there are slots
CALL_S = 60.0  # what a call is believed to take before one was answered
QUICK_S = 3.0  # for which the loop waits for a planner that takes one question at a time
PAUSE_S = 30.0  # after a planner failed, before it is asked again; twice as long after each further time
MOST_PAUSE_S = 600.0
MOST_FAULTS = 3  # of its own code, in a row, after which it is asked no more


@dataclass(frozen=True)
class Asked:
    """One planner call under way."""

    n: int
    planner: Planner
    since: float
    answer: "Future[Draft | None]"


class Forgotten:
    """What the ideas set that are too old for a planner to be told of: each is read once, when it has become so old."""

    def __init__(self, campaign_id: int) -> None:
        self._campaign_id = campaign_id
        self._configurations: set[str] = set()
        self._read = 0  # the newest of them

    def before(self, reads: Reads, oldest: int) -> frozenset[str]:
        if oldest > self._read + 1:
            found = configurations(reads, self._campaign_id, after=self._read, before=oldest)
            self._configurations.update(literals.digest(knobs) for knobs in found)
            self._read = oldest - 1
        return frozenset(self._configurations)


class Asking:
    """The planner calls of one controller. A killed controller's calls are simply asked again."""

    def __init__(self, setting: Setting, clock: Clock = REAL) -> None:
        self._setting, self._clock = setting, clock
        self._asked: list[Asked] = []
        self._forgotten = Forgotten(setting.campaign.id)
        self._seconds = 0.0  # what a call takes, a running mean
        self._paused: dict[str, float] = {}  # until when a planner that failed is left alone
        self._exhausted: set[str] = set()
        self._failures: Counter[str] = Counter()  # of each planner in a row
        self._deep, self._deep_due = 0, 0.0  # how many are to be ready, and when that is asked again
        self._ready: int | None = None  # how many ideas are; None: to be asked
        self._told = False  # that ideas have to come by themselves
        self._faults: Counter[str] = Counter()
        self.why = ""
        """Why a planner that still had ideas is asked no more; empty: none did."""
        self.broken = False
        """Whether that is something that a person must mend."""

    @property
    def exhausted(self) -> bool:
        """Whether no planner has an idea left."""
        return all(planner.name in self._exhausted for planner in self._setting.planners)

    def busy(self) -> int:
        return len(self._asked)

    def answered(self) -> bool:
        """Whether there is something for `answers`."""
        return bool(self._done())

    def ask(self, ahead: Callable[[], Ahead]) -> None:
        """Starts as many calls as are needed to keep the slots fed."""
        if self._clock.now() >= self._deep_due:
            found = ahead()
            self._deep = self._ahead(found)
            self._deep_due = self._clock.now() + PER_SLOT_S * len(found.free_in)
        deep, campaign = self._deep, self._setting.campaign
        if self.exhausted or (self._ready is not None and deep <= self._ready + len(self._asked)):
            return
        if not self._free(self._under_way()) and not self._idle():  # all have their hands full
            return
        with self._setting.store.read() as reads:
            self._ready = ready = reads.count_proposals(campaign.id, READY)
            waiting = [] if campaign.review == "none" else reads.proposals(campaign.id, WAITING)
            wanted = min(deep - ready, review.room(campaign.review, waiting))
            missing = int(wanted) - len(self._asked)
            made = reads.count_proposals(campaign.id) if missing > 0 else 0
            for planner in self._with_room(reads, missing, made - 1):
                self._start(reads, planner, made + len(self._asked))
        if missing > 0 and not self._told and self._idle():
            self._told = True
            self._note("planner", f"waits for ideas of clients; {clients.HOW}")

    def changed(self) -> None:
        """Something happened: ideas that were ready may run by now, or others may be."""
        self._ready = None

    def answers(self) -> list[Draft]:
        """The drafts that came back since the last call."""
        drafts = []
        for asked in self._done():
            self._asked.remove(asked)
            try:
                draft = asked.answer.result()
            except PlannerError as error:
                self._failed(asked.planner.name, error)
                continue
            except Exception as error:  # a planner may be anybody's: its faults end nothing that runs
                self._fault(asked.planner.name, error)
                continue
            self._faults[asked.planner.name] = self._failures[asked.planner.name] = 0
            took = self._clock.now() - asked.since
            self._seconds = took if not self._seconds else 0.8 * self._seconds + 0.2 * took
            if draft is None:
                self._exhausted.add(asked.planner.name)
            else:
                drafts.append(draft)
        return drafts

    def _failed(self, name: str, error: PlannerError) -> None:
        """It is left alone for a while, longer each time, or for good where only a person can help."""
        if error.lasting:
            self._give_up(name, f"{name}: {error}", broken=not isinstance(error, SpentError))
            return
        pause = min(MOST_PAUSE_S, PAUSE_S * 2 ** self._failures[name])
        pause = max(pause, error.retry_after or 0.0)
        self._failures[name] += 1
        self._paused[name] = self._clock.now() + pause
        self._note("planner", f"{name}: {error}; asking again in {pause:.0f} s")

    def _give_up(self, name: str, words: str, *, broken: bool) -> None:
        if name not in self._exhausted:
            self._exhausted.add(name)
            self.why, self.broken = words, self.broken or broken
            self._note("planner", f"{words}; not asked again")

    def _fault(self, name: str, error: Exception) -> None:
        self._faults[name] += 1
        self._paused[name] = self._clock.now() + PAUSE_S
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = Redactor.of().text(str(error))  # it may quote anything, a key too
        words = f"planner {name} is broken: {type(error).__name__}: {said} ({where.filename}, line {where.lineno})"
        if self._faults[name] >= MOST_FAULTS:
            self._give_up(name, words, broken=True)
        else:
            self._note("planner", words)

    def _done(self) -> list[Asked]:
        """Questions that have their answer, in the order of asking; no answer waits for one that is slower."""
        return [asked for asked in self._asked if asked.answer.done()]

    def _ahead(self, ahead: Ahead) -> int:
        """How many ideas are to be ready, those that are asked for too."""
        planners = [one for one in self._setting.planners if one.name not in self._exhausted]
        quick = all(one.parallel <= 1 for one in planners)
        call_s = self._seconds or (QUICK_S if quick else CALL_S)
        found = depth(ahead.free_in, ahead.run_s, call_s, sum(one.parallel for one in planners))
        return min(len(ahead.free_in), found) if quick else found  # a quick planner wants to know all that it can

    def _with_room(self, reads: Reads, missing: int, made: int) -> list[Planner]:
        """Whom to ask, none beyond the calls it can take at once: by what their ideas have earned (`bandit`).

        Who has no idea left, failed just now or has its hands full is passed over. `made`: how many ideas there are.
        """
        chosen: list[Planner] = []
        under_way = self._under_way()
        records = bandit_records(self._setting, reads) if missing > 0 else {}
        rate = bandit.slot_s_per_usd(self._setting.campaign.caps)
        for _ in range(missing):
            free = self._free([*under_way, *chosen])
            if not free:
                break
            asked = Counter(planner.name for planner in (*under_way, *chosen))
            known = [replace(records[name], ideas=records[name].ideas + asked[name]) for name in free]
            n = made + len(under_way) + len(chosen)
            chosen.append(free[bandit.choose(known, rate, self._setting.campaign.seed, n)])
        return chosen

    def _under_way(self) -> list[Planner]:
        return [asked.planner for asked in self._asked]

    def _free(self, under_way: list[Planner]) -> dict[str, Planner]:
        """Those that can take one more call, where these are under way."""
        now = self._clock.now()
        return {
            planner.name: planner
            for planner in self._setting.planners
            if planner.name not in self._exhausted
            and now >= self._paused.get(planner.name, 0.0)
            and under_way.count(planner) < planner.parallel
        }

    def _start(self, reads: Reads, planner: Planner, n: int) -> None:
        asked = sum(one.planner is planner for one in self._asked)
        request = make_request(self._setting, reads, planner, n, asked)
        request = replace(request, forgotten=self._forgotten.before(reads, request.trials[0].proposal_id))
        if request.partner is not None and (both := merging.MERGE.propose(request)) is not None:
            answer: Future[Draft | None] = Future()
            answer.set_result(both)
            # As if it had taken what a call takes: what a planner needs is not learnt from a merge.
            self._asked.append(Asked(n, merging.MERGE, self._clock.now() - self._seconds, answer))
            return
        answer = self._clock.background(f"planner {planner.name}", partial(_draft, planner, request))
        self._asked.append(Asked(n, planner, self._clock.now(), answer))
        if planner.parallel == 1:
            # A planner that answers one question at a time is quick and wants to know its last answer first.
            with suppress(TimeoutError):
                answer.exception(QUICK_S)

    def _idle(self) -> bool:
        """Whether there is nobody left to ask: ideas have to come by themselves."""
        return all(not one.parallel or one.name in self._exhausted for one in self._setting.planners)

    def _note(self, what: str, text: str) -> None:
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, what, text)


def bandit_records(setting: Setting, reads: Reads) -> dict[str, bandit.Record]:
    """What each planner has done, by its name; nothing is read where there is but one."""
    names = [planner.name for planner in setting.planners]
    several = len(names) > 1
    ideas = promises(reads, setting.campaign.id) if several else []
    found = bandit.records(names, ideas, paid(reads, setting.campaign.id) if several else {})
    return {record.planner: record for record in found}


def _draft(planner: Planner, request: Request) -> Draft | None:
    return merging.noted(planner.propose(request), request)


def make_request(setting: Setting, reads: Reads, planner: Planner, n: int, asked: int = 0) -> Request:
    """What a planner gets to read: a pure function of the store's rows and the number of the question."""
    campaign, repo = setting.campaign, setting.repo
    trials = tuple(Trial.of(row) for row in reads.trials(campaign.id, newest=REMEMBERED))
    head = reads.head(campaign.id)
    rule, first = setting.track.decision, trials[0].proposal_id if trials else 0
    snapshot = search.snapshot(
        head.id,
        trials,
        modes=planner.modes,
        min_gain=rule.min_gain,
        sigma=rule.prior_sigma,
        combined=search.pairs_in(reads.combined(campaign.id, first)),
    )
    choice = search.choose(snapshot, seed=campaign.seed, n=n)
    source = reads.proposal(choice.source_id)
    partner = None if choice.with_id is None else reads.proposal(choice.with_id)
    paths = setting.track.script.editable
    return Request(
        track=setting.track,
        campaign=campaign,
        mode=choice.mode,
        head=head,
        source=source,
        files=repo.files(known(source.commit), paths),
        head_files=repo.files(known(head.commit), paths),
        trials=trials,
        seed=campaign.seed,
        n=n,
        made=reads.count_by(campaign.id, planner.name) + asked,
        partner=partner,
        partner_files={} if partner is None else repo.files(known(partner.commit), paths),
    )
