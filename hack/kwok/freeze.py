"""Stops and resumes the kubelets of single nodes, which KWOK cannot.

Given: a Node with the annotation `tonnage.test/kubelet: stopped`. From then on, until the annotation goes, no heartbeat
is sent and nothing happens to the node's pods: they neither start nor end, and deleted ones stay.
How: KWOK's stages skip a pod that carries the same annotation, so it is copied to the node's pods; and KWOK leaves a lease
alone that somebody else holds, so the node's lease is taken from it. A resumed kubelet finds both undone.

    freeze.py API_SERVER CA_FILE TOKEN_FILE
"""

import http.client
import json
import os
import ssl
import sys
import threading
import time
import traceback
import urllib.parse

ANNOTATION = "tonnage.test/kubelet"
HOLDER = "stopped"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
METADATA = "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"


class Api:
    """A connection to the API server; one per thread."""

    def __init__(self, server, authority, token):
        url = urllib.parse.urlsplit(server)
        context = ssl.create_default_context(cafile=authority)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the API server's own pair has not all that Python 3.13 asks for
        self.connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=60)
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def send(self, method, path, body=None, headers=None):
        headers = {**self.headers, **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            self.connection.request(method, path, body and json.dumps(body), headers)
            return self.connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def call(self, method, path, body=None, headers=None):
        """The answer's JSON, or None when the object is not there."""
        answer = self.send(method, path, body, headers)
        content = answer.read()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content)


class StoppedNodes:
    """The names of the nodes whose kubelet is stopped, kept by a watch on the nodes' metadata."""

    def __init__(self):
        self.names = set()
        self.lock = threading.Lock()

    def note(self, node, present=True):
        name = node["metadata"]["name"]
        stopped = node["metadata"].get("annotations", {}).get(ANNOTATION) == "stopped"
        with self.lock:
            if stopped and present:
                self.names.add(name)
            else:
                self.names.discard(name)

    def current(self):
        with self.lock:
            return sorted(self.names)

    def watch(self, api):
        while True:
            try:
                self.watch_once(api)
            except (OSError, ValueError, http.client.HTTPException) as failure:
                print(f"watching nodes: {failure}", flush=True)
                api.connection.close()
                time.sleep(0.5)
            except BaseException:
                traceback.print_exc()
                os._exit(1)  # without the watch nothing works, and a dead process is noticed

    def watch_once(self, api):
        listed = api.call("GET", "/api/v1/nodes", headers={"Accept": METADATA % "List"})
        with self.lock:
            self.names.clear()
        for node in listed["items"] or []:  # null when there is none
            self.note(node)
        version = listed["metadata"]["resourceVersion"]
        answer = api.send(
            "GET",
            f"/api/v1/nodes?watch=1&timeoutSeconds=50&resourceVersion={version}",
            headers={"Accept": METADATA % ""},
        )
        for line in answer:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ValueError(event["object"].get("message"))
            self.note(event["object"], event["type"] != "DELETED")
        api.connection.close()


def pods_of(api, node):
    listed = api.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
    return listed["items"] or []


def mark_pods(api, node, value):
    """Copies the annotation to the pods that do not have it yet; takes it away when `value` is None."""
    for pod in pods_of(api, node):
        metadata = pod["metadata"]
        if metadata.get("annotations", {}).get(ANNOTATION) != value:
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            api.call("PATCH", path, {"metadata": {"annotations": {ANNOTATION: value}}})


def take_lease(api, node):
    """True when the lease is held here. The pods' annotations have to be noticed before it is, so they come first."""
    lease = api.call("GET", LEASES + node)
    if lease is None:
        return False
    if lease["spec"].get("holderIdentity") != HOLDER:
        # Never renewed, so it ages as a dead kubelet's does; long, so that KWOK does not take it over.
        api.call("PATCH", LEASES + node, {"spec": {"holderIdentity": HOLDER, "leaseDurationSeconds": 10**8}})
        print(f"{node}: stopped", flush=True)
    return True


def resume(api, node):
    mark_pods(api, node, None)
    lease = api.call("GET", LEASES + node)
    if lease and lease["spec"].get("holderIdentity") == HOLDER:
        api.call("DELETE", LEASES + node)
    print(f"{node}: resumed", flush=True)


def main(server, authority, token_file):
    with open(token_file, encoding="ascii") as file:
        token = file.read().strip()
    nodes = StoppedNodes()
    threading.Thread(target=nodes.watch, args=(Api(server, authority, token),), daemon=True).start()
    api = Api(server, authority, token)
    held = set()
    while True:
        try:
            for node in nodes.current():
                mark_pods(api, node, "stopped")
                if node not in held:
                    time.sleep(0.3)
                    if take_lease(api, node):
                        held.add(node)
            for node in sorted(held.difference(nodes.current())):
                resume(api, node)
                held.discard(node)
        except (OSError, http.client.HTTPException) as failure:
            print(f"{failure}", flush=True)
        time.sleep(0.15)


if __name__ == "__main__":
    main(*sys.argv[1:])
