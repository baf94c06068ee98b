"""Context: what a language model is told of a campaign before it is asked for an idea.

`gather` takes rows of the store and gives frozen `Evidence`; `render` makes a prompt of it, by the templates in
prompts/. What others wrote is fenced as data on the way (`fence`).
"""

from agent.context.budgets import Budgets
from agent.context.evidence import CalibrationRow, Evidence, gather
from agent.context.fence import fence
from agent.context.render import Context, render

__all__ = ["Budgets", "CalibrationRow", "Context", "Evidence", "fence", "gather", "render"]
