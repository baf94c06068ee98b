"""A question as one text, for a program that reads nothing else.

Takes a `Question`; gives text. Who said what is a heading; a question with one message has none.
"""

import json

from agent.llm import Message, Part, Prompt, Question, Said


def system(question: Question) -> str:
    return _joined(question.system)


def conversation(question: Question) -> str:
    """What was said, oldest first."""
    if len(question.messages) == 1 and isinstance(question.messages[0], Prompt):
        return _joined(question.messages[0].parts)
    return "\n\n".join(map(_message, question.messages))


def whole(question: Question) -> str:
    """All of it: the system's words, what was said, and what the answer must be."""
    return "\n\n".join(part for part in (system(question), conversation(question), wanted(question)) if part)


def wanted(question: Question) -> str:
    """The JSON schema of the answer in words; empty where any text will do."""
    if question.schema is None:
        return ""
    schema = json.dumps(question.schema, ensure_ascii=False)
    return f"Answer with one JSON object and nothing else, no fence around it. It must fit this JSON schema:\n{schema}"


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
