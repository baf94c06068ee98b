"""Secrets out of texts: what is written down of a conversation, and errors that a person will paste somewhere.

Takes the secrets that this process knows; gives `Redactor`. Beside them it takes out what looks like a key, whoever's.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

GONE = "[redacted]"
LEAST = 8  # characters: a shorter value in the environment is no secret, and may be any word
_NAMED = re.compile(r"(?:KEYS?|TOKENS?|SECRETS?|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")  # of an address: proxies and databases are told so
_LOOKS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    # Names of a script may begin so too: a key has a digit, and some place where its letters run on.
    r"|\b(?:sk|rpa|ak|hf|ghp|gho|ghs|github_pat|xox[abps])[-_]"
    r"(?=[A-Za-z0-9_\-]{0,99}[0-9])(?=[A-Za-z0-9_\-]{0,99}?[A-Za-z0-9]{12})[A-Za-z0-9_\-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/\-]{16,}=*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Redactor:
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Of all values that their variable's name calls a secret, and of passwords in addresses."""
        found = {value for name, value in environ.items() if _NAMED.search(name)}
        found |= {login for value in environ.values() for login in _LOGIN.findall(value)}
        return cls(tuple(sorted((one for one in found if len(one) >= LEAST), key=len, reverse=True)))

    def text(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, GONE)
        return _LOOKS.sub(GONE, text)

    def value(self, value: object) -> object:
        """The same of JSON values, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value
