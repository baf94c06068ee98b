"""What lets another machine lead a campaign: its commits, which travel through the store.

Takes a store, a repository and a campaign. Each commit that a controller makes is kept in the store before its name is
written anywhere; whoever leads next unpacks those that its clone lacks, and puts the refs where the store says. All
that the clone must have is the commit that the campaign started from.
"""

from agent.errors import UserError
from agent.records import Campaign
from agent.store import Store, commits
from agent.worktree import Repository

AT_ONCE = 50  # packs in memory


def join(store: Store, repo: Repository, campaign: Campaign) -> None:
    """Brings a clone to where the campaign is, and keeps what it will add. Raises UserError where it can't."""
    with store.read() as reads:
        refs = commits.names(reads.connection, campaign.id)
        tip = commits.tip(reads.connection, campaign.id)
    if campaign.base_commit not in refs and not repo.present([campaign.base_commit]):
        raise UserError(
            f"this clone has no commit {campaign.base_commit[:10]}, which {campaign.name} starts from: fetch it from "
            "where the campaign was started (there: `git push` a branch or tag that has it), then try again"
        )
    _unpack(store, repo, campaign, list(refs))
    repo.put_refs({ref: sha for sha, ref in refs.items() if ref})
    if tip is not None:
        _put_trunk(repo, campaign, tip, {campaign.base_commit, *refs})
    repo.made = lambda sha, parent, ref: _keep(store, repo, campaign.id, sha, parent, ref)
    repo.moved = lambda name, sha: _moved(store, campaign, name, sha)


def keep_base(store: Store, repo: Repository, campaign: Campaign, parent: str) -> None:
    """A base that was made of uncommitted edits is in nobody else's clone."""
    _keep(store, repo, campaign.id, campaign.base_commit, parent, f"refs/caddie/{campaign.name}/p0")


def _keep(store: Store, repo: Repository, campaign_id: int, sha: str, parent: str, ref: str) -> None:
    pack = repo.pack(sha, parent)
    with store.write() as tx:
        commits.keep(tx, campaign_id, commits.Commit(sha, parent, ref, pack))


def _moved(store: Store, campaign: Campaign, name: str, sha: str) -> None:
    if name == campaign.name:
        with store.write() as tx:
            commits.set_tip(tx, campaign.id, sha)


def _unpack(store: Store, repo: Repository, campaign: Campaign, shas: list[str]) -> None:
    have = repo.present(shas)
    lacking = [sha for sha in shas if sha not in have]
    for start in range(0, len(lacking), AT_ONCE):
        with store.read() as reads:
            some = commits.of(reads.connection, campaign.id, lacking[start : start + AT_ONCE])
        for commit in some:
            if commit.parent and not repo.present([commit.parent]):
                raise UserError(
                    f"this clone has no commit {commit.parent[:10]}, on which {campaign.name} builds: "
                    "fetch it from the repository in which the campaign was started, then try again"
                )
            repo.unpack(commit.sha, commit.pack)


def _put_trunk(repo: Repository, campaign: Campaign, tip: str, ours: set[str]) -> None:
    """The branch of an earlier leader may be anywhere on the way; a person's own commit on it is never thrown away."""
    here = repo.trunk(campaign.name)
    if here == tip:
        return
    if here is not None and here not in ours:
        raise UserError(
            f"branch caddie/{campaign.name} is at {here[:10]}, which {campaign.name} did not make: "
            f"rename it (git branch -m caddie/{campaign.name} NAME), then try again"
        )
    repo.move_trunk(campaign.name, tip, here)
