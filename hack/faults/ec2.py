"""The EC2 side of the proxy: what a call is called, and the answers that faults give in EC2's own form.

Given: a request as it came. Gives: its action and flattened parameters; error answers; and for CreateFleet the answer
without capacity, or the smaller request and its answer with an error added.
"""

import json
import re
import urllib.parse
import uuid
from xml.sax.saxutils import escape

from rules import Call, Rule

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_CODE = "InsufficientInstanceCapacity"
_MESSAGE = (
    "We currently do not have sufficient {type} capacity in the Availability Zone you requested. "
    "Our system will be working on provisioning additional capacity."
)
_ANSWERS = {
    "throttle": (503, "RequestLimitExceeded", "Request limit exceeded."),
    "error500": (500, "InternalError", "An internal error has occurred"),
}
_OVERRIDE = re.compile(r"LaunchTemplateConfigs\.(\d+)\.Overrides\.(\d+)\.(\w+)")

Answer = tuple[int, dict[str, str], bytes]


def describe(method: str, path: str, headers: dict[str, str], body: bytes) -> Call:
    facts: dict[str, str] = {}
    target = headers.get("x-amz-target", "")
    if target:
        action = target.rpartition(".")[2]
        try:
            parsed = json.loads(body or b"{}")
            facts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in parsed.items()}
        except (ValueError, AttributeError):
            facts = {}
    else:
        facts = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        action = facts.get("Action", "other")
    return Call("ec2", action, method, path, body, facts)


def refusal(rule: Rule, headers: dict[str, str]) -> Answer:
    """The error answer of the kinds throttle, error500 and error."""
    status, code, message = _ANSWERS.get(rule.fields["kind"], (400, "InvalidParameterValue", "Refused by a fault rule."))
    status = rule.fields.get("status", status)
    code, message = rule.fields.get("code", code), rule.fields.get("message", message)
    request_id = str(uuid.uuid4())
    if headers.get("x-amz-target"):
        body = json.dumps({"__type": code, "message": message}).encode()
        return status, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": request_id}, body
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
    )
    return status, {"Content-Type": "text/xml;charset=UTF-8"}, xml.encode()


def _overrides(call: Call) -> list[dict[str, str]]:
    found: dict[tuple[int, int], dict[str, str]] = {}
    for key, value in call.facts.items():
        match = _OVERRIDE.fullmatch(key)
        if match:
            found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = value
    for (config, _), override in found.items():
        for key in ("LaunchTemplateId", "LaunchTemplateName", "Version"):
            value = call.facts.get(f"LaunchTemplateConfigs.{config}.LaunchTemplateSpecification.{key}")
            if value:
                override[f"template.{key}"] = value
    return [found[key] for key in sorted(found)]


def _error_item(override: dict[str, str], capacity_type: str, rule: Rule) -> str:
    code = rule.fields.get("code", _CODE)
    message = rule.fields.get("message", _MESSAGE.format(type=override.get("InstanceType", "")))
    template = "".join(
        f"<{name[0].lower()}{name[1:]}>{escape(override['template.' + name])}</{name[0].lower()}{name[1:]}>"
        for name in ("LaunchTemplateId", "LaunchTemplateName", "Version")
        if "template." + name in override
    )
    fields = "".join(
        f"<{name[0].lower()}{name[1:]}>{escape(override[name])}</{name[0].lower()}{name[1:]}>"
        for name in ("InstanceType", "SubnetId", "AvailabilityZone", "ImageId", "Priority")
        if name in override
    )
    return (
        f"<item><launchTemplateAndOverrides><launchTemplateSpecification>{template}</launchTemplateSpecification>"
        f"<overrides>{fields}</overrides></launchTemplateAndOverrides><lifecycle>{capacity_type}</lifecycle>"
        f"<errorCode>{escape(code)}</errorCode><errorMessage>{escape(message)}</errorMessage></item>"
    )


def _errors(call: Call, rule: Rule) -> str:
    capacity_type = call.facts.get("TargetCapacitySpecification.DefaultTargetCapacityType", "on-demand")
    return "".join(_error_item(override, capacity_type, rule) for override in _overrides(call))


def without_capacity(call: Call, rule: Rule) -> Answer:
    """CreateFleet's answer when no pool can serve: 200, no instance, an error for each override."""
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<CreateFleetResponse xmlns="{NAMESPACE}"><requestId>{uuid.uuid4()}</requestId>'
        f"<fleetId>fleet-{uuid.uuid4()}</fleetId><errorSet>{_errors(call, rule)}</errorSet><fleetInstanceSet/></CreateFleetResponse>"
    )
    return 200, {"Content-Type": "text/xml;charset=UTF-8"}, xml.encode()


def smaller(call: Call, rule: Rule) -> bytes:
    """The request for at most the rule's `count` instances."""
    key = "TargetCapacitySpecification.TotalTargetCapacity"
    facts = dict(call.facts)
    facts[key] = str(min(int(facts.get(key, "1")), rule.fields["count"]))
    return urllib.parse.urlencode(facts).encode()


def with_errors(answer: bytes, call: Call, rule: Rule) -> bytes:
    """The answer to the smaller request, with an error for each override beside its instances."""
    text = answer.decode()
    if "<CreateFleetResponse" not in text:
        return answer
    text = re.sub(r"<errorSet\s*/>|<errorSet>.*?</errorSet>", "", text, flags=re.DOTALL)
    return text.replace("</CreateFleetResponse>", f"<errorSet>{_errors(call, rule)}</errorSet></CreateFleetResponse>").encode()
