"""Rules of the fault proxies: which requests are disturbed, how, how often, and which are held right now.

Given: rules as JSON objects. Gives: for a request the first active rule that matches it, counted; and for held requests a
ticket that ends in release or drop. A rule is used up after `times` requests and stays listed with its counters.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TARGETS = ("ec2", "kubernetes")
KINDS = ("throttle", "error", "reset", "delay", "hold_before", "hold_after", "lose_response")
_MATCH_KEYS = {"ec2": {"action", "body"}, "kubernetes": {"verb", "path", "body"}}
_KUBERNETES_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass
class Call:
    """What rules and counters look at in one request. `name` is the action, or verb and resource."""

    target: str
    name: str
    verb: str
    method: str
    path: str
    body: bytes


def _kubernetes_name(method: str, target: str) -> tuple[str, str]:
    """The Kubernetes verb, and the verb with resource and subresource, of a request to the API server."""
    url = urlsplit(target)
    parts = [unquote(part) for part in url.path.split("/") if part]
    if parts[:1] == ["api"]:
        parts = parts[2:]
    elif parts[:1] == ["apis"]:
        parts = parts[3:]
    else:
        return method.lower(), f"{method.lower()} {url.path}"
    if parts[:1] == ["namespaces"] and len(parts) > 2 and parts[2] not in ("status", "finalize"):
        parts = parts[2:]
    named = len(parts) > 1
    if method == "GET":
        watching = parse_qs(url.query).get("watch", ["false"])[0] in ("true", "1")
        verb = "watch" if watching else "get" if named else "list"
    elif method == "DELETE":
        verb = "delete" if named else "deletecollection"
    else:
        verb = _KUBERNETES_VERBS.get(method, method.lower())
    resource = "/".join([parts[0], *parts[2:]]) if parts else "discovery"
    return verb, f"{verb} {resource}"


def call_of(target: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Call:
    """How rules and counters name a request."""
    if target == "kubernetes":
        verb, name = _kubernetes_name(method, path)
        return Call(target, name, verb, method, path, body)
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if not action:
        query = body.decode("utf-8", "replace") if body else urlsplit(path).query
        action = parse_qs(query).get("Action", ["other"])[0]
    return Call(target, action, "", method, path, body)


@dataclass(eq=False)
class Held:
    """One request that waits; `verdict` becomes "release" or "drop"."""

    verdict: asyncio.Future[str]


@dataclass(eq=False)
class Rule:
    """One rule; `left` is None for a rule that never ends."""

    id: str
    target: str
    match: dict[str, str]
    kind: str
    left: int | None
    times: int | None
    status: int = 500
    code: str | None = None
    seconds: float = 0.0
    hits: int = 0
    held: list[Held] = field(default_factory=list)

    def matches(self, call: Call) -> bool:
        if self.left == 0 or call.target != self.target:
            return False
        action, verb = self.match.get("action", "*"), self.match.get("verb", "*")
        if action not in ("*", call.name) or verb not in ("*", call.verb, call.method):
            return False
        if "path" in self.match and not re.search(self.match["path"], call.path):
            return False
        return "body" not in self.match or re.search(self.match["body"].encode(), call.body, re.DOTALL) is not None

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id, "target": self.target, "match": self.match, "kind": self.kind, "status": self.status, "code": self.code,
            "seconds": self.seconds, "times": self.times, "left": self.left, "hits": self.hits, "holding": len(self.held),
        }  # fmt: skip


def _number(row: dict[str, Any], key: str, default: Any, low: float) -> Any:
    value = row.get(key, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < low):
        raise ValueError(f"{key} must be a number, {low:g} or more")
    return value


def _parse(identity: str, row: Any) -> Rule:
    if not isinstance(row, dict):
        raise ValueError("a rule must be a JSON object")
    unknown = set(row) - {"target", "match", "kind", "times", "status", "code", "seconds"}
    if unknown:
        raise ValueError(f"unknown keys of a rule: {sorted(unknown)}")
    target, kind, match = row.get("target"), row.get("kind"), row.get("match", {})
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, not {target!r}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
    if not isinstance(match, dict) or not all(isinstance(value, str) for value in match.values()):
        raise ValueError("match must be an object of strings")
    if set(match) - _MATCH_KEYS[target]:
        raise ValueError(f"match of target {target} knows {sorted(_MATCH_KEYS[target])}, not {sorted(match)}")
    for key in ("path", "body"):
        try:
            re.compile(match.get(key, ""))
        except re.error as error:
            raise ValueError(f"{key} is not a regular expression: {error}") from error
    times = _number(row, "times", None, 1)
    if times is not None and int(times) != times:
        raise ValueError("times must be a whole number or null")
    status = int(_number(row, "status", 500, 400))
    if kind == "delay" and "seconds" not in row:
        raise ValueError("a delay needs seconds")
    return Rule(identity, target, match, kind, times, times, status, row.get("code"), float(_number(row, "seconds", 0.0, 0)))


class Rules:
    """All rules, in the order in which they were made."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._last = 0

    def add(self, row: Any) -> Rule:
        """A new rule; ValueError says what is wrong with it."""
        rule = _parse(str(self._last + 1), row)
        self._last += 1
        self._rules[rule.id] = rule
        return rule

    def shown(self) -> list[dict[str, Any]]:
        return [rule.shown() for rule in self._rules.values()]

    def take(self, call: Call) -> Rule | None:
        """The rule that this request falls under, which then counts it."""
        for rule in self._rules.values():
            if rule.matches(call):
                rule.hits += 1
                if rule.left is not None:
                    rule.left -= 1
                return rule
        return None

    def release(self, identity: str) -> int:
        """Lets the requests that this rule holds now go on; later ones are still held. KeyError for an unknown rule."""
        return self._end(self._rules[identity], "release")

    def remove(self, identity: str) -> int:
        """Ends a rule; the requests it holds lose their connection. KeyError for an unknown rule."""
        return self._end(self._rules.pop(identity), "drop")

    def clear(self) -> int:
        return sum(self.remove(identity) for identity in list(self._rules))

    @staticmethod
    def _end(rule: Rule, verdict: str) -> int:
        ended = [held for held in rule.held if not held.verdict.done()]
        for held in ended:
            held.verdict.set_result(verdict)
        return len(ended)
