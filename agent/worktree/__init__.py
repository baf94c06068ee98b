"""The person's git repository: candidates as commits, the campaign's branch, and nothing else touched.

Takes a folder inside a repository; gives `Repository`, `message` and `patch_id`. Writes only `refs/caddie/*`, branches
`caddie/*`, `.git/info/exclude` and detached worktrees below `.caddie/`.
"""

from agent.worktree.commits import message
from agent.worktree.patches import patch_id
from agent.worktree.repository import Repository

__all__ = ["Repository", "message", "patch_id"]
