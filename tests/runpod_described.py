"""RunPod's own description of its interface, to hold requests and answers of the stand-in against.

It lies beside the repository (`SPEC`), not in it; where it is absent, the stand-in is held against nothing.
"""

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

from starlette.responses import Response

SPEC = Path(__file__).resolve().parents[2] / "shared" / "specs" / "runpod-v2-openapi.json"


class Description:
    """The provider's own description, to hold requests and answers against."""

    def __init__(self) -> None:
        from jsonschema import Draft202012Validator
        from referencing import Registry, Resource
        from referencing.jsonschema import DRAFT202012

        self.doc = json.loads(SPEC.read_text())
        resource = Resource.from_contents(self.doc, default_specification=DRAFT202012)
        self._registry: Any = Registry().with_resource("urn:runpod", resource)
        self._validator = Draft202012Validator

    def errors(self, name: str, value: object) -> list[str]:
        return self._errors({"$ref": f"urn:runpod#/components/schemas/{name}"}, value)

    def query(self, method: str, path: str, given: list[tuple[str, str]]) -> list[str]:
        """What is wrong with a request's parameters."""
        operation = self.doc["paths"].get(self._template(path), {}).get(method, {})
        known = set()
        for stated in operation.get("parameters", []):
            named = stated
            if "$ref" in stated:
                named = self.doc["components"]["parameters"][stated["$ref"].rsplit("/", 1)[1]]
            known.add(named["name"])
            texts = [value for name, value in given if name == named["name"]]
            if named["in"] != "query" or not texts:
                continue
            schema = self._moved(named["schema"])
            if len(texts) > 1 or (errors := self._errors(schema, _value(texts[0], self._kind(named["schema"])))):
                return errors if len(texts) == 1 else [f"{named['name']}: given {len(texts)} times"]
        return [f"{name}: no such parameter" for name, _ in given if name not in known]

    def methods(self, path: str) -> str:
        found = self.doc["paths"].get(self._template(path), {})
        return ", ".join(name.upper() for name in found if name != "parameters")

    def _kind(self, schema: dict[str, Any]) -> str:
        while "$ref" in schema:
            schema = self.doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return str(schema.get("type", "string"))

    def _moved(self, schema: dict[str, Any]) -> dict[str, Any]:
        moved: dict[str, Any] = json.loads(json.dumps(schema).replace('"#/', '"urn:runpod#/'))
        return moved

    def answer(self, method: str, path: str, response: Response) -> list[str]:
        template = self._template(path)
        if template is None:
            return [f"{method} {path}: no such path in the description"] if response.status_code < 400 else []
        operation = self.doc["paths"][template].get(method)
        if operation is None:
            return []
        said = operation["responses"].get(str(response.status_code)) or operation["responses"].get("default")
        if "$ref" in said:
            said = self.doc["components"]["responses"][said["$ref"].rsplit("/", 1)[1]]
        if "content" not in said:
            return [f"{method} {path} {response.status_code}: a body"] if response.body else []
        kind, schema = next(iter((kind, one["schema"]) for kind, one in said["content"].items()))
        if response.headers.get("content-type") != kind:
            return [f"{method} {path} {response.status_code}: is {response.headers.get('content-type')}, not {kind}"]
        moved = self._moved(schema)
        value = json.loads(bytes(response.body))
        return [f"{method} {path} {response.status_code}: {one}" for one in self._errors(moved, value)]

    def _errors(self, schema: dict[str, Any], value: object) -> list[str]:
        checker = self._validator.FORMAT_CHECKER
        found = self._validator(schema, registry=self._registry, format_checker=checker).iter_errors(value)
        return [f"{one.json_path}: {one.message[:200]}" for one in found][:5]

    def _template(self, path: str) -> str | None:
        parts = path.split("/")
        for template in self.doc["paths"]:
            names = template.split("/")
            if len(names) == len(parts) and all(n.startswith("{") or n == p for n, p in zip(names, parts, strict=True)):
                return str(template)
        return None


def _value(text: str, kind: str) -> object:
    """A parameter's text as what it should be, or as the text that it is."""
    with contextlib.suppress(ValueError):
        if kind == "integer":
            return int(text)
        if kind == "boolean":
            return {"true": True, "false": False}.get(text, text)
    return [one for one in text.split(",") if one] if kind == "array" else text


@functools.cache
def description() -> Description:
    return Description()
