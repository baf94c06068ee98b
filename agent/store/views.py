"""The views of runs.db: what people and planners ask most, in plain SQL that SQLite and PostgreSQL both take.

Gives `VIEWS`, name to SELECT. They hold no data: they are dropped before a migration and made anew after it.
None of them scans all runs but `spend_by_use`: they read columns that are kept up to date (schema.py). `calibration`
reads the ideas of a campaign.
"""

_SCORE = """
    s.bpb, s.runs, s.mean_bpb, s.all_runs, s.best_bpb, s.total_bytes"""

_BOARD = """
    b.id AS board_id, b.track, b.rung, b.hardware_class, b.trust, b.judge_version"""

# Of a row of `proposals`: what it came to at the rung that decides, where its planner said something to compare with.
MEASURED_BYTES = """
    CASE WHEN proposals.expected_bytes IS NOT NULL THEN (
        SELECT NULLIF(MAX(s.total_bytes), 0) FROM scores s
        WHERE s.proposal_id = proposals.id AND s.deciding = 1) END"""
# Training time over the steps that the script reports: CPU time, which others on the machine disturb least; on GPUs,
# whose work is not in it, wall time.
_STEP_S = """
        SELECT NULLIF(AVG(
            CASE WHEN SUBSTR(r.hardware_class, 1, 5) = 'cuda/' THEN m.train_wall_s ELSE m.train_cpu_s END / m.steps), 0)
        FROM runs r
        JOIN measurements m ON m.run_id = r.id AND m.latest = 1 AND m.steps > 0
        JOIN campaigns d ON d.id = r.campaign_id AND d.rung = r.rung
        WHERE r.outcome = 'ok' AND r.proposal_id ="""
MEASURED_STEP = f"""
    CASE WHEN proposals.expected_step IS NOT NULL THEN ({_STEP_S} proposals.id
            AND r.baseline_id = proposals.baseline_id) / ({_STEP_S} proposals.baseline_id
            AND r.purpose = 'report') END"""

VIEWS: dict[str, str] = {
    # One row a campaign and board: its best promoted proposal with nothing invalid in it or its ancestors,
    # measured with the trust that its track demands, inside walls that held.
    "best_valid": f"""
SELECT c.id AS campaign_id, c.name AS campaign, p.id AS proposal_id, p.title, p.commit_sha,{_SCORE},{_BOARD}
FROM campaigns c
JOIN boards b ON b.track_sha = c.track_sha AND b.track = c.track
JOIN scores s ON s.id = (
    SELECT x.id FROM scores x
    WHERE x.campaign_id = c.id AND x.promoted = 1 AND x.barred = '' AND x.deciding = 1 AND x.board_id = b.id
    ORDER BY x.bpb, x.proposal_id LIMIT 1)
JOIN proposals p ON p.id = s.proposal_id""",
    # From each campaign's base to its head, with what each step gained over the step before.
    "lineage": """
SELECT t.campaign_id, c.name AS campaign, t.step, p.id AS proposal_id, p.title, p.state, p.kind, p.planner,
    p.baseline_id, p.commit_sha, s.bpb, s.runs, s.total_bytes, s.bpb - f.bpb AS delta_bpb,
    s.total_bytes - f.total_bytes AS delta_bytes, p.tainted, p.updated AS at
FROM trunk t
JOIN campaigns c ON c.id = t.campaign_id
JOIN proposals p ON p.id = t.proposal_id
LEFT JOIN scores s ON s.proposal_id = p.id AND s.deciding = 1
LEFT JOIN scores f ON f.proposal_id = p.baseline_id AND f.board_id = s.board_id
ORDER BY t.campaign_id, t.step""",
    # Proposals by mean BPB, one board after the other: rows of different boards are never to be compared.
    # CROSS JOIN keeps SQLite from starting with all scores when one board is asked for.
    "leaderboard": f"""
SELECT{_BOARD}, b.title AS board,{_SCORE}, p.id AS proposal_id, p.title, p.state, p.planner, p.commit_sha,
    c.id AS campaign_id, c.name AS campaign
FROM boards b
CROSS JOIN scores s
JOIN proposals p ON p.id = s.proposal_id
JOIN campaigns c ON c.id = s.campaign_id
WHERE s.board_id = b.id AND s.barred = ''
ORDER BY b.id, s.bpb, s.id""",
    # Where the budget of each campaign stands.
    "spend": """
SELECT id AS campaign_id, name AS campaign, state,
    settled_gpu_s / 3600.0 AS gpu_hours, reserved_gpu_s / 3600.0 AS reserved_gpu_hours,
    cap_gpu_s / 3600.0 AS cap_gpu_hours,
    (cap_gpu_s - settled_gpu_s - reserved_gpu_s) / 3600.0 AS left_gpu_hours,
    settled_usd AS usd, reserved_usd, cap_usd, cap_usd - settled_usd - reserved_usd AS left_usd,
    settled_llm_usd AS llm_usd, reserved_llm_usd, cap_llm_usd,
    cap_llm_usd - settled_llm_usd - reserved_llm_usd AS left_llm_usd, settled_llm_tokens AS llm_tokens,
    reserved_llm_tokens, cap_llm_tokens, settled_llm_calls AS llm_calls, reserved_llm_calls, cap_llm_calls
FROM campaigns""",
    # Where every slot-second went: by why the run existed and how it ended. Reads the whole ledger.
    "spend_by_use": """
SELECT l.campaign_id, c.name AS campaign, l.what, r.purpose, r.outcome, l.state, COUNT(*) AS entries,
    SUM(l.settled_gpu_s) / 3600.0 AS gpu_hours, SUM(l.settled_usd) AS usd, SUM(l.settled_llm_usd) AS llm_usd,
    SUM(l.settled_llm_tokens) AS llm_tokens, SUM(l.settled_llm_calls) AS llm_calls
FROM ledger l
JOIN campaigns c ON c.id = l.campaign_id
LEFT JOIN runs r ON r.id = l.run_id
GROUP BY l.campaign_id, c.name, l.what, r.purpose, r.outcome, l.state""",
    # Every run that lowered the best valid BPB of its campaign and board when measured, with its bytes.
    "frontier": f"""
SELECT f.campaign_id, c.name AS campaign,{_BOARD}, f.run_id, r.title AS run, f.proposal_id, p.title, p.state,
    f.bpb, f.total_bytes, m.artifact_bytes, m.code_bytes, m.created AS at
FROM frontier_runs f
JOIN boards b ON b.id = f.board_id
JOIN campaigns c ON c.id = f.campaign_id
JOIN measurements m ON m.id = f.measurement_id
JOIN runs r ON r.id = f.run_id
JOIN proposals p ON p.id = f.proposal_id
ORDER BY f.campaign_id, f.board_id, f.measurement_id""",
    # What planners expected beside what was measured, by kind of idea. What crashed, broke a rule or was clearly worse
    # at its trial (and so has no gain) did not work. Bytes and the time of a step (as a multiple of the baseline's) are
    # compared where both are known: of `sized` and of `timed` ideas, errors being |expected - measured| / measured.
    "calibration": f"""
SELECT p.campaign_id, c.name AS campaign, p.planner, p.kind, COUNT(*) AS ideas,
    AVG(p.expected_gain) AS expected_gain, AVG(p.gain) AS measured_gain, AVG(p.confidence) AS confidence,
    AVG(p.worked) AS better, AVG((p.confidence - p.worked) * (p.confidence - p.worked)) AS brier,
    COUNT(p.measured_bytes) AS sized,
    AVG(CASE WHEN p.measured_bytes IS NOT NULL THEN p.expected_bytes END) AS expected_bytes,
    AVG(p.measured_bytes) AS measured_bytes,
    AVG(ABS(p.expected_bytes - p.measured_bytes) / p.measured_bytes) AS bytes_error,
    COUNT(p.measured_step) AS timed,
    AVG(CASE WHEN p.measured_step IS NOT NULL THEN p.expected_step END) AS expected_step,
    AVG(p.measured_step) AS measured_step,
    AVG(ABS(p.expected_step - p.measured_step) / p.measured_step) AS step_error
FROM (
    SELECT campaign_id, planner, kind, expected_gain, gain, confidence, CAST(
        CASE WHEN gain > 0 AND state NOT IN ('crashed', 'invalid') THEN 1 ELSE 0 END AS DOUBLE PRECISION) AS worked,
    CAST(expected_bytes AS DOUBLE PRECISION) AS expected_bytes,
    CAST({MEASURED_BYTES} AS DOUBLE PRECISION) AS measured_bytes,
    expected_step,{MEASURED_STEP} AS measured_step
    FROM proposals
    WHERE kind <> 'base' AND (gain IS NOT NULL OR state IN ('crashed', 'invalid', 'worse'))) p
JOIN campaigns c ON c.id = p.campaign_id
GROUP BY p.campaign_id, c.name, p.planner, p.kind""",
}


def create() -> list[str]:
    return [f"CREATE VIEW {name} AS{select}" for name, select in VIEWS.items()]


def drop() -> list[str]:
    return [f"DROP VIEW IF EXISTS {name}" for name in VIEWS]
