"""The person's git repository: candidates as commits, the campaign's branch, and nothing else touched.

Takes a folder inside a repository; gives `Repository` and `message`. Writes only `refs/caddie/*`, branches
`caddie/*`, `.git/info/exclude` and detached worktrees below `.caddie/`.
"""

from agent.worktree.commits import message
from agent.worktree.repository import Repository

__all__ = ["Repository", "message"]
