"""Normal forms of text that a tokenizer may give back in place of what it was given.

Takes a document and what was decoded; says under which forms they agree. The judge makes the forms itself: what a
candidate gives back must be exactly one of them, the same for all documents. Bytes are those of the raw text always.
"""

import unicodedata
from typing import get_args

from agent.judge.task import NormalForm

FORMS: frozenset[NormalForm] = frozenset(get_args(NormalForm))


def agreeing(document: bytes, found: bytes, forms: frozenset[NormalForm]) -> frozenset[NormalForm]:
    """Those of `forms` that allow this answer. Who gives the raw text back has lost nothing under any of them."""
    return forms if found == document else frozenset(form for form in forms if normal(document, form) == found)


def normal(document: bytes, form: NormalForm) -> bytes:
    if form == "none":
        return document
    return unicodedata.normalize("NFC" if form == "nfc" else "NFKC", document.decode()).encode()
