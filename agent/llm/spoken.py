"""A question as one text, for a program that reads nothing else.

Takes a `Question`; gives text. Who said what is a heading; a question with one message has none.
"""

import json

from agent.llm import Message, Part, Prompt, Question, Said
from agent.llm.values import clean_text, schema_words


def system(question: Question) -> str:
    return clean_text(_joined(question.system))


def conversation(question: Question) -> str:
    """What was said, oldest first."""
    if len(question.messages) == 1 and isinstance(question.messages[0], Prompt):
        return clean_text(_joined(question.messages[0].parts))
    return clean_text("\n\n".join(map(_message, question.messages)))


def whole(question: Question) -> str:
    """All of it: the system's words, what was said, and what the answer must be."""
    wanted = schema_words(question.schema) if question.schema is not None else ""
    return "\n\n".join(part for part in (system(question), conversation(question), wanted) if part)


def _message(message: Message) -> str:
    if isinstance(message, Prompt):
        return f"# Asked\n\n{_joined(message.parts)}"
    if isinstance(message, Said):
        calls = [f"\n\nCalled {call.name} ({call.id}): {json.dumps(call.arguments)}" for call in message.calls]
        return f"# You answered\n\n{message.text}{''.join(calls)}"
    told = [f"{result.call_id}{' failed' if result.failed else ''}:\n{result.text}" for result in message.results]
    return "\n\n".join(["# Results", *told])


def _joined(parts: tuple[Part, ...]) -> str:
    return "\n\n".join(part.text for part in parts if part.text)
