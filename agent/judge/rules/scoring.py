"""Rules of how validation text may be used: 1 to 11, 20. Most are proven by blind scoring, or not at all.

Each takes a `Case`; gives an `Answer`.
"""

from agent.judge.rules.ruling import Answer, Case, Rule, judged, passed, rule, unknown, violated
from agent.judge.task import HOLDOUT, UNFINISHED

MISMATCH = ("scores_not_repeated", "mean_mismatch", "surprise_mismatch", UNFINISHED)
STATE = ("replay_differs", "peek_changes_state", UNFINISHED)
SUMS = ("not_normalised", UNFINISHED)
NOT_SCORED = "only blind scoring can tell: no judge has scored it"


def _audited(case: Case) -> str:
    """What an audit without a finding proves, if it was close enough for the score to be blind."""
    proven = case.measured is not None and case.measured.trust == "blind" and case.audited
    return f"the judge asked again and found nothing: {case.audited}" if proven else ""


def _lacking(case: Case) -> str:
    if not (case.blind and case.audited):
        return NOT_SCORED
    return f"the judge asked again and found nothing, but not so that it proves anything: {case.audited}"


@rule(1, "no validation tokens in the artifact", "invalid", "a paid prefix: text that is shipped is not predicted")
def validation_in_artifact(case: Case) -> Answer:
    proof = "it needs more bits than the text holds information, which is known exactly" if case.floor else case.hidden
    lacking = "needs enough hidden documents of the same source, or text of known information content"
    lacking += "; no literal of its script is suspicious" if case.read else ""
    return judged(case, 1, ("below_floor", *HOLDOUT), proof=proof if case.blind else "", lacking=lacking)


@rule(2, "no training on validation data", "invalid", "a model that was trained on the test remembers it")
def trains_on_validation(case: Case) -> Answer:
    proof = ""
    if case.blind and case.behind("seatbelt"):
        proof = f"no validation text is within reach of training, behind {', '.join(case.walls[:6])}"
    return judged(case, 2, HOLDOUT, proof=proof, lacking="what training could read is not known")


@rule(
    3, "training and validation documents are disjoint", "invalid", "a split that went wrong put 4 of 5 into training"
)
def disjoint(case: Case) -> Answer:
    found = case.overlap
    if found is None:
        return unknown("the data it was trained on are not here")
    known = case.kind == "run"
    of = "" if known else f" of the data here ({found.data_sha[:12]}); that it was trained on these is not known"
    if found.shared == 0:
        return passed(f"no validation document stands in {found.training:,} training documents, compared by hash{of}")
    return violated("invalid" if found.spoilt and known else "flag", f"{found.words()}{of}", found.examples)


@rule(4, "no adaptation before scoring", "invalid", "epochs on validation text before it is scored violate score first")
def adapts_before(case: Case) -> Answer:
    proof = "the artifact was closed and hashed before any validation text was asked" if _audited(case) else ""
    return judged(case, 4, MISMATCH, proof=proof, lacking=_lacking(case))


@rule(
    5, "score first, in one pass", "invalid", "several passes, or the lower of two losses, score what was seen before"
)
def one_pass(case: Case) -> Answer:
    proof = f"every token was asked once and in order; {_audited(case)}" if _audited(case) else ""
    return judged(case, 5, (*MISMATCH, *STATE), proof=proof, lacking=_lacking(case))


@rule(6, "nothing is fitted to tokens before they are scored", "invalid", "a delta that is fitted on a token knows it")
def no_fitting(case: Case) -> Answer:
    return judged(case, 6, MISMATCH, proof=_audited(case), lacking=_lacking(case))


@rule(7, "probabilities sum to one", "invalid", "hashed n-gram caches summed to 277, and looked better by it")
def normalised(case: Case) -> Answer:
    return judged(case, 7, SUMS, proof=_audited(case), lacking=_lacking(case))


@rule(
    8, "mixers give a distribution over tokens", "invalid", "bytes that are mixed one by one need not add up to tokens"
)
def token_distribution(case: Case) -> Answer:
    return judged(case, 8, SUMS, proof=_audited(case), lacking=_lacking(case))


@rule(9, "no gate looks at the target", "invalid", "a mixture that depends on the token that is predicted knows it")
def no_target_gate(case: Case) -> Answer:
    return judged(case, 9, MISMATCH, proof=_audited(case), lacking=_lacking(case))


@rule(10, "documents are told apart", "policy", "tokens smeared across documents: disputed, but causal")
def across_documents(case: Case) -> Answer:
    """A choice of policy, not of correctness, so nothing of it bars anybody. No text and no log shows it: a window that
    runs on over the end of a document is written like any other."""
    asked, moved = case.across
    if not case.blind or not asked:
        return unknown(
            "only a process can tell, asked for a document's first token behind other tokens: a full audit is"
        )
    if not moved:
        return passed(f"other tokens before its start changed no answer, at {asked} documents")
    return violated("policy", f"at {moved} of {asked} documents the first answer depends on the document before")


@rule(11, "no warm-up on validation tokens", "invalid", "what warms up on the tokens to come has seen them")
def no_warm_up(case: Case) -> Answer:
    proof = "no validation token is shown before it is asked" if _audited(case) else ""
    return judged(case, 11, STATE, proof=proof, lacking=_lacking(case))


@rule(20, "the tokenizer loses nothing", "invalid", "what is not given back was not paid for")
def lossless(case: Case) -> Answer:
    proof = "every document came back from its tokens, byte for byte"
    if case.measured is not None:
        proof = next((one.text for one in case.measured.findings if one.rule == "normal_form"), proof)
    proof = proof if case.blind else ""
    return judged(case, 20, ("normal_form",), proof=proof, lacking="needs the tokenizer and the raw documents")


RULES: tuple[Rule, ...] = (
    validation_in_artifact, trains_on_validation, disjoint, adapts_before, one_pass, no_fitting, normalised,
    token_distribution, no_target_gate, across_documents, no_warm_up, lossless,
)  # fmt: skip
