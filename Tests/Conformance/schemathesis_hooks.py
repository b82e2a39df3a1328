"""What a schema can't say of valid requests, for Schemathesis: how values of one request, or of a request and
the state of the cluster, hang together. Requests that are meant to be invalid are left as they are."""

import random
import uuid

import schemathesis

DEVICES = ["api-1", "api-2"]
FUTURE = "2999-01-01T00:00:00Z"


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    make_path_known(case.path_parameters)
    make_headers_timely(case.headers)
    make_query_coherent(case.query)
    if isinstance(case.body, dict):
        make_body_coherent(case.body)


def make_path_known(parameters):
    """Half of the time what is there, so that more than 404 is seen."""
    known = {"node_id": ["self"], "device_id": DEVICES}
    for name, values in known.items():
        if name in (parameters or {}) and random.random() < 0.5:
            parameters[name] = random.choice(values)


def make_headers_timely(headers):
    # A client makes up a key for each call; one that was used for another call is refused.
    replace(headers, "Idempotency-Key", str(uuid.uuid4()))
    # A tag that is not the current one is refused with 412.
    replace(headers, "If-Match", "*")


def replace(headers, wanted, value):
    for name in list(headers or {}):
        if name.lower() == wanted.lower():
            headers[name] = value


def make_query_coherent(query):
    if not query:
        return
    # A cursor is what an earlier page of the same list gave.
    query.pop("cursor", None)
    begin, end = query.get("from"), query.get("to")
    # Without an end it is now.
    if begin is not None and (end is None or not earlier(begin, end)):
        query["from"], query["to"] = "2001-01-01T00:00:00Z", FUTURE


def earlier(begin, end):
    return str(begin)[:10] < str(end)[:10]


def make_body_coherent(body):
    if isinstance(body.get("expires_at"), str):
        body["expires_at"] = FUTURE
    # The cluster has one node.
    body.pop("redirect_to", None)
    # What stands behind a "-" has a grammar of its own.
    if "-" in str(body.get("username", "")):
        body["username"] = "alice-location-eu_west-tag-mobile"
