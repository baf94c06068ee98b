"""The meter: no call without its worst case reserved, every attempt billed, nothing secret written down."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent import budget
from agent.errors import PlannerError, SpentError
from agent.llm import Answer, Call, ModelError, Part, Price, Prompt, Question, Result, Results, Said, Tool, Usage
from agent.llm.meter import Meter, write_off
from agent.llm.redact import GONE, Redactor
from agent.records import Amount, Campaign, Caps
from agent.store import Store, open_store, talks
from agent.store.query import query
from tests.filling import add_campaign

KEY = "sk-ant-0123456789abcdefghij"
PRICE = Price(input=3.0, output=15.0, cache_read=0.3, cache_write=3.75, date="2025-11")
QUESTION = Question(
    system=(Part("You do research.", stable=True),),
    messages=(Prompt((Part("What next?"),)),),
    tools=(Tool("propose", "ends it", {"type": "object"}),),
    max_output=1000,
)
SAID = Said("hello", (Call("c1", "propose", {"title": "wider"}),))


@dataclass
class Scripted:
    """A model in this process: each turn is an answer or what it raises."""

    turns: list[Answer | BaseException] = field(default_factory=list)
    price: Price | None = PRICE
    takes_cap: bool = False
    count: int | None = None
    before: Callable[[], None] = lambda: None
    asked: list[tuple[Question, float | None]] = field(default_factory=list)
    name: str = "scripted:model"
    tools: bool = True
    max_output: int = 1000

    def most_input(self, question: Question) -> int:
        return 10_000

    def counted(self, question: Question) -> int | None:
        return self.count

    def ask(self, question: Question, usd: float | None) -> Answer:
        self.asked.append((question, usd))
        self.before()
        turn = self.turns.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        return turn


def answer(**usage: float) -> Answer:
    return Answer(SAID, Usage(**{"input": 2000, "output": 100, **usage}), "tools")  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "runs.db")
    yield opened
    opened.close()


def campaign(store: Store, **caps: float) -> Campaign:
    with store.write() as tx:
        return add_campaign(tx, caps=Caps(3600.0, **caps))  # type: ignore[arg-type]


def meter(store: Store, of: Campaign, slept: list[float] | None = None) -> Meter:
    naps = slept if slept is not None else []
    return Meter(store, of.id, Redactor((KEY,)), call_usd=0.5, sleep=naps.append)


def spent(store: Store, of: Campaign) -> tuple[Amount, Amount]:
    with store.read() as reads:
        assert budget.audit(reads, of.id) == []
        balance = reads.balance(of.id)
    return balance.settled, balance.reserved


def test_a_call_is_reserved_before_and_settled_after(store: Store) -> None:
    of = campaign(store, llm_usd=1.0)
    seen: list[Amount] = []
    model = Scripted([answer(cache_read=500, cache_write=300)], before=lambda: seen.append(spent(store, of)[1]))
    metered = meter(store, of)
    talk = metered.begin("propose", "scripted:model", "exploit")
    assert metered.ask(talk, model, QUESTION).said == SAID
    worst_usd = (10_000 * 3.75 + 1000 * 15.0) / 1e6  # the dearest way to read it all, and all that it may say
    assert seen == [Amount(llm_usd=pytest.approx(worst_usd), llm_tokens=11_000, llm_calls=1)]
    usd = (2000 * 3.0 + 500 * 0.3 + 300 * 3.75 + 100 * 15.0) / 1e6
    settled, reserved = spent(store, of)
    assert settled == Amount(llm_usd=pytest.approx(usd, abs=1e-8), llm_tokens=2900, llm_calls=1)
    assert reserved == Amount() and talk.cost == replace(settled, llm_usd=pytest.approx(usd))
    with store.read() as reads:
        (row,) = talks.calls_of(reads, talk.id)
    assert (row.state, row.cache_read_tokens, row.usd) == ("done", 500, pytest.approx(usd))


def test_the_budget_is_never_passed(store: Store) -> None:
    """Ten conversations at once; each may cost 0.0525 dollars and costs 0.0075."""
    of = campaign(store, llm_usd=0.2)
    most: list[float] = []

    def look() -> None:
        settled, reserved = spent(store, of)
        most.append(settled.llm_usd + reserved.llm_usd)

    ended: list[str] = []

    def work() -> None:
        metered = meter(store, of)
        talk = metered.begin("propose", "x")
        model = Scripted([answer() for _ in range(9)], before=look)
        try:
            for _ in range(9):
                metered.ask(talk, model, QUESTION)
        except PlannerError as error:
            ended.append(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 0.2 and len(most) >= 10
    assert ended and set(ended) <= {"PlannerError", "SpentError"}
    assert spent(store, of)[1] == Amount()


def test_what_is_left_is_counted_before_it_is_called_too_little(store: Store) -> None:
    of = campaign(store, llm_tokens=6000)
    model = Scripted([answer()], count=3000)  # 3,000 and a tenth and 500 fit, 10,000 bytes do not
    metered = meter(store, of)
    talk = metered.begin("propose", "x")
    metered.ask(talk, model, QUESTION)
    with pytest.raises(SpentError, match="does not cover another call"):
        metered.ask(talk, model, QUESTION)
    assert len(model.asked) == 1 and spent(store, of)[0].llm_tokens == 2100


def test_another_call_that_holds_the_money_is_waited_for(store: Store) -> None:
    of = campaign(store, llm_calls=1)
    metered = meter(store, of)
    inner: list[BaseException] = []

    def meanwhile() -> None:
        with pytest.raises(PlannerError) as caught:
            metered.ask(metered.begin("propose", "y"), Scripted([answer()]), QUESTION)
        inner.append(caught.value)

    metered.ask(metered.begin("propose", "x"), Scripted([answer()], before=meanwhile), QUESTION)
    assert not isinstance(inner[0], SpentError) and inner[0].retry_after  # type: ignore[attr-defined]
    with pytest.raises(SpentError):
        metered.ask(metered.begin("propose", "x"), Scripted([answer()]), QUESTION)


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (ModelError("overloaded"), 0),
        (ModelError("cut", billed="known", usage=Usage(input=700, output=30)), 730),
        (ModelError("cut", billed="unknown", usage=Usage(input=700)), 11_000),
    ],
)
def test_what_failed_is_billed_and_asked_again(store: Store, error: ModelError, tokens: int) -> None:
    of = campaign(store)
    slept: list[float] = []
    metered = meter(store, of, slept)
    talk = metered.begin("propose", "x")
    metered.ask(talk, Scripted([error, error, answer()]), QUESTION)
    settled, reserved = spent(store, of)
    assert (settled.llm_tokens, settled.llm_calls, reserved) == (2 * tokens + 2100, 3, Amount())
    assert slept == [2.0, 4.0]
    with store.read() as reads:
        rows = talks.calls_of(reads, talk.id)
    assert [row.state for row in rows] == ["failed", "failed", "done"] and rows[0].error == str(error)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ModelError("no such key", lasting=True), 1),
        (ModelError("in an hour", retry_after=3600.0), 1),
        (ModelError("overloaded", retry_after=7.0), 3),
    ],
)
def test_not_everything_is_asked_again(store: Store, error: ModelError, calls: int) -> None:
    of = campaign(store)
    slept: list[float] = []
    model = Scripted([error] * 3)
    metered = meter(store, of, slept)
    with pytest.raises(ModelError) as caught:
        metered.ask(metered.begin("propose", "x"), model, QUESTION)
    assert len(model.asked) == calls and slept == [7.0, 7.0][: calls - 1]
    assert (caught.value.retry_after, caught.value.lasting) == (error.retry_after, error.lasting)


def test_a_fault_of_ours_settles_too(store: Store) -> None:
    of = campaign(store)
    metered = meter(store, of)
    with pytest.raises(ZeroDivisionError):
        metered.ask(metered.begin("propose", "x"), Scripted([ZeroDivisionError(f"with {KEY}")]), QUESTION)
    assert spent(store, of) == (Amount(llm_usd=pytest.approx(0.0525), llm_tokens=11_000, llm_calls=1), Amount())


def test_an_answer_that_cant_be_written_down_is_not_left_open(store: Store) -> None:
    of = campaign(store)
    metered = meter(store, of)
    odd = Answer(Said("", (Call("c1", "query", {"sql": float("nan")}),)), Usage(input=5, output=5), "tools")
    with pytest.raises(ValueError, match="not JSON compliant"):
        metered.ask(metered.begin("propose", "x"), Scripted([odd]), QUESTION)
    assert spent(store, of) == (Amount(llm_usd=pytest.approx(0.0525), llm_tokens=11_000, llm_calls=1), Amount())


def test_a_program_that_takes_a_cap_is_told_it(store: Store) -> None:
    of = campaign(store, llm_usd=0.7)
    model = Scripted([answer(usd=0.31), answer(usd=0.02)], price=None, takes_cap=True)
    metered = meter(store, of)
    talk = metered.begin("propose", "x")
    metered.ask(talk, model, QUESTION)
    assert model.asked[0][1] == 0.5 and spent(store, of)[0].llm_usd == pytest.approx(0.31)
    with pytest.raises(SpentError):  # 0.39 are left, and it might take 0.50
        metered.ask(talk, model, QUESTION)


def test_a_program_that_takes_a_cap_and_says_no_price_took_all_of_it(store: Store) -> None:
    of = campaign(store, llm_usd=0.7)
    metered = meter(store, of)
    metered.ask(metered.begin("propose", "x"), Scripted([answer()], price=None, takes_cap=True), QUESTION)
    assert spent(store, of) == (Amount(llm_usd=0.5, llm_tokens=2100, llm_calls=1), Amount())


def test_a_provider_that_charges_beyond_the_worst_case_is_on_record(store: Store) -> None:
    of = campaign(store, llm_tokens=20_000)
    metered = meter(store, of)
    metered.ask(metered.begin("propose", "x"), Scripted([answer(input=30_000)]), QUESTION)
    assert spent(store, of)[0].llm_tokens == 30_100
    with store.read() as reads:
        assert "charged more than its worst case" in reads.events(of.id)[-1].text
    with pytest.raises(SpentError):
        metered.ask(metered.begin("propose", "x"), Scripted([answer()]), QUESTION)


def test_a_model_without_a_price_is_bounded_by_calls_and_tokens(store: Store) -> None:
    of = campaign(store, llm_usd=0.001, llm_calls=2)
    metered = meter(store, of)
    talk = metered.begin("propose", "x")
    model = Scripted([answer(), answer()], price=None)
    metered.ask(talk, model, QUESTION)
    metered.ask(talk, model, QUESTION)
    assert spent(store, of)[0] == Amount(llm_tokens=4200, llm_calls=2)
    with pytest.raises(SpentError):
        metered.ask(talk, model, QUESTION)
    with store.read() as reads:
        assert [row.usd for row in talks.calls_of(reads, talk.id)] == [None, None]


def test_calls_of_a_killed_controller_are_written_off_at_their_worst(store: Store) -> None:
    of = campaign(store, llm_usd=1.0)
    metered = meter(store, of)
    written: list[int] = []

    def kill() -> None:
        with store.write() as tx:
            written.append(write_off(tx, of.id, "the controller was killed"))

    talk = metered.begin("propose", "x")
    metered.ask(talk, Scripted([answer()], before=kill), QUESTION)  # its answer comes after it was written off
    kill()
    assert written == [1, 0]
    assert spent(store, of) == (Amount(llm_usd=pytest.approx(0.0525), llm_tokens=11_000, llm_calls=1), Amount())
    with store.read() as reads:
        assert [(row.state, row.error) for row in talks.calls_of(reads, talk.id)] == [
            ("lost", "the controller was killed")
        ]


def test_no_call_is_opened_after_the_campaign_has_ended(store: Store) -> None:
    """Whoever still thinks then would reserve what nobody settles."""
    of = campaign(store)
    metered = meter(store, of)
    talk = metered.begin("propose", "x")
    model = Scripted([answer(), answer()])
    metered.ask(talk, model, QUESTION)
    with store.write() as tx:
        tx.end_campaign(of.id, "finished", "enough")
    with pytest.raises(PlannerError, match="has ended"):
        metered.ask(talk, model, QUESTION)
    assert len(model.asked) == 1 and spent(store, of)[1] == Amount()


def test_a_conversation_can_be_read_again(store: Store) -> None:
    """Each call keeps what was new in its question; long texts stand once, whoever sent them."""
    of = campaign(store)
    metered = meter(store, of)
    script = "x = 1\n" * 500
    first = replace(QUESTION, system=(Part(script),))
    second = replace(first, messages=(*first.messages, SAID, Results((Result("c1", "does not apply", failed=True),))))
    model = Scripted([answer(), answer(), answer()])
    talk = metered.begin("propose", "x")
    metered.ask(talk, model, first)
    metered.ask(talk, model, second)
    metered.ask(metered.begin("propose", "x"), model, first)
    with store.read() as reads:
        one, two = talks.calls_of(reads, talk.id)
    assert one.transcript == {
        "question": {
            "messages": [{"prompt": ["What next?"]}],
            "system": [script],
            "tools": ["propose"],
        },
        "answer": {"text": "hello", "calls": [{"id": "c1", "name": "propose", "arguments": {"title": "wider"}}]},
        "stop": "tools",
    }
    assert [list(message) for message in two.transcript["question"]["messages"]] == [["said"], ["results"]]  # type: ignore[index]
    assert query(store, "SELECT COUNT(*) FROM texts").rows == ((1,),)


def test_no_secret_is_written_down(store: Store, tmp_path: Path) -> None:
    of = campaign(store)
    metered = meter(store, of)
    said = Said(f"your key is {KEY}", (Call("c", "query", {KEY: [f"SELECT '{KEY}'"]}),))
    leaking = replace(QUESTION, messages=(Prompt((Part(f"log: {KEY}"),)),))
    error = ModelError(f"401 for {KEY}", lasting=True)
    metered.ask(metered.begin("propose", "x"), Scripted([Answer(said, Usage(), "tools")]), leaking)
    with pytest.raises(ModelError) as caught:
        metered.ask(metered.begin("propose", "x"), Scripted([error]), leaking)
    assert KEY not in str(caught.value) and GONE in str(caught.value) and caught.value.__cause__ is None
    metered.end(metered.begin("propose", "x"), f"ended by {KEY}")
    with store.read() as reads:
        rows = [row for talk in (1, 2) for row in talks.calls_of(reads, talk)]
    assert all(KEY not in repr(row) and GONE in repr(row) for row in rows)
    store.close()
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefghijklmnop0123",
        "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6",
        "rpa_ABCDEFGHIJKLMNOP1234",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
        "ghp_abcdefghijklmnopqrstuvwxyz0123",
    ],
)
def test_what_looks_like_a_key_goes_whoever_it_is(text: str) -> None:
    found = Redactor().text(f"before {text} after")
    assert GONE in found and found.startswith("before ") and found.endswith(" after")
    assert text.split()[-1] not in found


@pytest.mark.parametrize(
    "name", ["hf_hub_download_from_cache", "sk_scaled_softmax_attention_2", "ak-compressed-tensors-linear"]
)
def test_what_a_script_calls_its_own_stays(name: str) -> None:
    """What a model proposes goes through here: an edit must come out as it went in."""
    assert Redactor().text(f"x = {name}(y)") == f"x = {name}(y)"


def test_what_looks_like_a_key_is_looked_for_in_bounded_time() -> None:
    started = time.monotonic()
    Redactor().text("sk-" * 130_000)
    Redactor().text("hf_" + "a-" * 200_000)
    assert time.monotonic() - started < 5.0


def test_the_environment_says_what_is_secret() -> None:
    environ = {"MY_API_KEY": "correct horse", "GH_TOKEN": "battery staple", "HOME": "/home/ann", "X_KEY": "short"}
    redact = Redactor.of(environ)
    assert redact.text("correct horse, battery staple, /home/ann, short") == f"{GONE}, {GONE}, /home/ann, short"
    assert "horse" not in repr(redact)
    environ = {"HTTPS_PROXY": "http://ann:open sesame!@proxy:3128".replace(" ", "-"), "SIGNING_KEYS": "k1-secret-words"}
    found = Redactor.of(environ).text("by ann with open-sesame! and k1-secret-words")
    assert found == f"by ann with {GONE} and {GONE}"
    assert redact.text("task-force asked: disk-usage sk-1") == "task-force asked: disk-usage sk-1"
