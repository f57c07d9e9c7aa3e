"""The Kubernetes side of the proxy: what a call touches, and the answers that faults give in the API server's own form.

Given: a request as it came. Gives: resource, subresource, namespace and name; an action such as `PATCH nodes` or
`POST pods/eviction` to count it by; and Status objects for refusals.
"""

import json
import urllib.parse

from rules import Call, Rule

Answer = tuple[int, dict[str, str], bytes]

_ANSWERS = {
    "throttle": (429, "TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    "error500": (500, "InternalError", "Internal error occurred: fault rule"),
}


def _facts(path: str) -> dict[str, str]:
    parts = [urllib.parse.unquote(part) for part in path.split("?", 1)[0].strip("/").split("/")]
    # /api/v1/... is the core group, /apis/GROUP/VERSION/... all others; the rest (/readyz, /version) has no resource.
    if parts[0] == "api" and len(parts) > 2:
        rest = parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        rest = parts[3:]
    else:
        return {"resource": "", "subresource": "", "namespace": "", "name": ""}
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    rest += [""] * (3 - len(rest))
    return {"resource": rest[0], "subresource": rest[2], "namespace": namespace, "name": rest[1]}


def describe(method: str, path: str, headers: dict[str, str], body: bytes) -> Call:
    facts = _facts(path)
    resource = facts["resource"] or path.split("?", 1)[0]
    subresource = f"/{facts['subresource']}" if facts["subresource"] else ""
    query = urllib.parse.parse_qs(path.partition("?")[2])
    verb = "WATCH" if method == "GET" and query.get("watch", ["0"])[0] in ("1", "true") else method
    if verb == "GET" and facts["resource"] and not facts["name"]:
        verb = "LIST"
    return Call("kubernetes", f"{verb} {resource}{subresource}", method, path, body, facts)


def refusal(rule: Rule, headers: dict[str, str]) -> Answer:
    """The error answer of the kinds throttle, error500 and error."""
    status, reason, message = _ANSWERS.get(rule.fields["kind"], (400, "BadRequest", "refused by a fault rule"))
    status = rule.fields.get("status", status)
    reason, message = rule.fields.get("code", reason), rule.fields.get("message", message)
    body = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    }  # fmt: skip
    answer = {"Content-Type": "application/json"}
    if status == 429:
        answer["Retry-After"] = "1"
    return status, answer, json.dumps(body).encode()
