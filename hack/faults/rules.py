"""Which fault befalls which call: rules with counters, and the calls that a rule holds back.

Given: rules of the control API, and every call as the proxy sees it. Gives: the first rule that fits a call and is not used
up, counts of all calls, and holds that wait until somebody releases them. Every method may be called from any thread.
"""

import fnmatch
import itertools
import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

# Nothing is held for longer: a forgotten hold must not keep a connection for ever.
MAX_HOLD_SECONDS = 600.0
LOG_LENGTH = 20000
TARGETS = ("ec2", "kubernetes")
KINDS = {
    "throttle": "refused as too many requests; not sent",
    "error500": "refused as the server's own failure; not sent",
    "error": "refused with `status`, `code` and `message`; not sent",
    "reset": "the connection is reset; not sent",
    "delay": "sent after `seconds`",
    "hold_before": "waits unsent until released",
    "hold_after": "sent; the answer waits until released",
    "lose_response": "sent; the connection is reset in place of the answer",
    "insufficient_capacity": "CreateFleet only: an answer of errors for every pool, no instance; not sent",
    "partial": "CreateFleet only: at most `count` instances start, with an error beside them",
}
_FIELDS = {
    "target", "kind", "action", "verb", "resource", "subresource", "name", "namespace", "body", "match",
    "times", "skip", "seconds", "status", "code", "message", "count",
}  # fmt: skip


@dataclass
class Call:
    """One request on its way: what rules look at."""

    target: str
    action: str
    method: str
    path: str
    body: bytes
    # EC2: the flattened parameters. Kubernetes: resource, subresource, namespace, name.
    facts: dict[str, str]
    at: float = field(default_factory=time.time)


@dataclass
class Rule:
    """What is to happen to calls that fit; `left` None means always."""

    id: int
    fields: dict[str, Any]
    left: int | None
    skip: int
    hits: int = 0

    def fits(self, call: Call) -> bool:
        wanted = self.fields
        if wanted["target"] != call.target or not _glob(wanted.get("action"), call.action):
            return False
        if not _glob(wanted.get("verb"), call.method):
            return False
        for key in ("resource", "subresource", "name", "namespace"):
            if key in wanted and not _glob(wanted[key], call.facts.get(key, "")):
                return False
        for key, pattern in wanted.get("match", {}).items():
            if not any(fnmatch.fnmatchcase(name, key) and _glob(pattern, value) for name, value in call.facts.items()):
                return False
        pattern = wanted.get("body")
        return pattern is None or re.search(pattern, call.body.decode("utf-8", "replace")) is not None

    def row(self) -> dict[str, Any]:
        return {"id": self.id, **self.fields, "hits": self.hits, "left": self.left}


def _glob(pattern: str | None, value: str) -> bool:
    """Comma-separated patterns with * and ?; no pattern fits all."""
    return pattern is None or any(fnmatch.fnmatchcase(value, part.strip()) for part in pattern.split(","))


def _whole(request: dict[str, Any], key: str, default: int | None, least: int) -> int | None:
    value = request.get(key, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ValueError(f"{key} must be a whole number, at least {least}")
    return value


def checked(request: dict[str, Any]) -> dict[str, Any]:
    """The request as a rule's fields; ValueError says what is wrong."""
    unknown = sorted(set(request) - _FIELDS)
    if unknown:
        raise ValueError(f"a rule has no field {unknown[0]}; there are: {', '.join(sorted(_FIELDS))}")
    fields = {"target": "ec2", **request}
    if fields["target"] not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}")
    if fields.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    for key in ("action", "verb", "resource", "subresource", "name", "namespace", "body", "code", "message"):
        if key in fields and not isinstance(fields[key], str):
            raise ValueError(f"{key} must be a string")
    if "match" in fields and not (
        isinstance(fields["match"], dict) and all(isinstance(value, str) for value in fields["match"].values())
    ):
        raise ValueError("match must be an object of parameter pattern to value pattern")
    if "body" in fields:
        try:
            re.compile(fields["body"])
        except re.error as failure:
            raise ValueError(f"body is no regular expression: {failure}") from failure
    if fields["kind"] == "delay" and not (isinstance(fields.get("seconds"), (int, float)) and 0 <= fields["seconds"] <= MAX_HOLD_SECONDS):
        raise ValueError(f"delay needs seconds, at most {MAX_HOLD_SECONDS:.0f}")
    if fields["kind"] == "partial":
        fields.setdefault("count", 1)
        _whole(fields, "count", None, 1)
    if fields["kind"] in ("partial", "insufficient_capacity"):
        if fields["target"] != "ec2":
            raise ValueError(f"{fields['kind']} is a fault of ec2")
        fields["action"] = "CreateFleet"
    if fields["kind"] == "error" and not 400 <= (_whole(fields, "status", 400, 400) or 400) <= 599:
        raise ValueError("status must be from 400 to 599")
    return fields


@dataclass
class Hold:
    """A call that waits. `outcome` is set by its release: forward, or drop (the connection is reset)."""

    id: int
    rule: int
    call: Call
    phase: str
    outcome: str | None = None
    alive: Any = None

    def row(self) -> dict[str, Any]:
        call = self.call
        return {
            "id": self.id, "rule": self.rule, "phase": self.phase, "target": call.target, "action": call.action,
            "method": call.method, "path": call.path, "seconds": round(time.time() - call.at, 3),
            "clientAlive": bool(self.alive()),
        }  # fmt: skip


class Faults:
    """All rules, holds and counters of the proxy."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._rules: dict[int, Rule] = {}
        self._holds: dict[int, Hold] = {}
        self._calls: dict[str, Counter[str]] = {target: Counter() for target in TARGETS}
        self._log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        fields = checked(request)
        times, skip = _whole(request, "times", 1, 1), _whole(request, "skip", 0, 0)
        with self._changed:
            rule = Rule(next(self._ids), fields, times, skip or 0)
            self._rules[rule.id] = rule
            return rule.row()

    def rules(self) -> list[dict[str, Any]]:
        with self._changed:
            return [rule.row() for rule in self._rules.values()]

    def remove(self, rule_id: int) -> bool:
        """Removes a rule; what it holds stays held."""
        with self._changed:
            return self._rules.pop(rule_id, None) is not None

    def judge(self, call: Call) -> Rule | None:
        """Counts the call; gives the first rule that fits it, which is one hit of that rule."""
        with self._changed:
            self._calls[call.target][call.action] += 1
            for rule in self._rules.values():
                if rule.left == 0 or not rule.fits(call):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.hits += 1
                rule.left = None if rule.left is None else rule.left - 1
                self._changed.notify_all()
                return rule
            return None

    def note(self, call: Call, rule: Rule | None, status: int | None) -> None:
        """The end of a call, for the log; no status means that the client got no answer."""
        row = {
            "at": call.at, "target": call.target, "action": call.action, "method": call.method, "path": call.path,
            "status": status, "fault": rule.fields["kind"] if rule else None, "seconds": round(time.time() - call.at, 4),
        }  # fmt: skip
        with self._changed:
            self._log.append(row)

    def log(self, target: str | None) -> list[dict[str, Any]]:
        with self._changed:
            return [row for row in self._log if target in (None, row["target"])]

    def calls(self) -> dict[str, dict[str, int]]:
        with self._changed:
            return {target: dict(sorted(counter.items())) for target, counter in self._calls.items()}

    def hold(self, rule: Rule, call: Call, phase: str, alive: Any) -> str:
        """Waits in the caller's thread until released; gives the outcome."""
        deadline = time.monotonic() + MAX_HOLD_SECONDS
        with self._changed:
            hold = Hold(next(self._ids), rule.id, call, phase, alive=alive)
            self._holds[hold.id] = hold
            self._changed.notify_all()
            while hold.outcome is None and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
            del self._holds[hold.id]
            return hold.outcome or "drop"

    def holds(self, wait_seconds: float = 0.0) -> list[dict[str, Any]]:
        """The calls that are held; waits up to so many seconds for one."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            while not self._holds and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
            return [hold.row() for hold in self._holds.values()]

    def release(self, outcome: str, rule_id: int | None, hold_id: int | None) -> int:
        """Releases the named hold, the holds of a rule, or all; gives how many."""
        if outcome not in ("forward", "drop"):
            raise ValueError("outcome must be forward or drop")
        with self._changed:
            released = [
                hold
                for hold in self._holds.values()
                if hold.outcome is None and rule_id in (None, hold.rule) and hold_id in (None, hold.id)
            ]
            for hold in released:
                hold.outcome = outcome
            self._changed.notify_all()
            return len(released)

    def clear(self) -> None:
        """No rules, no holds, counters at zero. A held call whose client has gone is not sent any more."""
        with self._changed:
            self._rules.clear()
            for hold in self._holds.values():
                hold.outcome = hold.outcome or ("forward" if hold.alive() else "drop")
            for counter in self._calls.values():
                counter.clear()
            self._log.clear()
            self._changed.notify_all()
