"""One trace from the request to the batch, through Redis, told to a collector; and none unless asked for."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.observability import tracing
from service.observability.logs import FIELDS, JsonFormatter
from service.redis.wire import trace_from, upload_fields
from service.work import Deadline, UpscaleParameters, Work
from tests.service.conftest import RedisServer
from tests.service.engines import until
from tests.service.fleet import fleet_of
from tests.service.pictures import noise, png, square

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector(ThreadingHTTPServer):
    """Takes what OpenTelemetry's exporter sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.spans: list[Span] = []


class Post(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_request_is_one_trace_through_redis(collector, redis_server: RedisServer, tmp_path: Path):
    address = f"http://127.0.0.1:{collector.server_port}"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with fleet_of(redis_server, tmp_path, variables) as fleet:
        worker, api = fleet.worker("toy-fill"), fleet.api()
        worker.until_ready()
        api.until_ready()
        files = {"image": png(noise(40, 40)), "mask": png(square(40, 40))}
        answer = httpx.post(
            f"{api.url}/inpaint", files=files, headers={"traceparent": TRACEPARENT}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        wanted = {"POST /inpaint", "work", "decode", "queue", "compute", "encode"}
        until(lambda: wanted <= {span.name for span in collector.spans}, 20)
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}  # and no probe's
    by_name = {span.name: span for span in collector.spans}
    assert by_name["POST /inpaint"].parent_span_id.hex() == PARENT
    assert by_name["work"].parent_span_id == by_name["POST /inpaint"].span_id
    for stage in ("decode", "queue", "compute", "encode"):
        assert by_name[stage].parent_span_id == by_name["work"].span_id
        assert by_name[stage].start_time_unix_nano <= by_name[stage].end_time_unix_nano
    assert by_name["queue"].end_time_unix_nano <= by_name["compute"].end_time_unix_nano


def test_without_a_trace_nothing_is_carried_and_nothing_logged():
    assert tracing.carried() == {}
    assert tracing.ids() == {}


def test_a_work_takes_its_trace_along_and_a_line_names_it():
    work = Work.create("upscale", "m", "digest", UpscaleParameters(scale=2), {"image": b"x"})
    with tracing.continued({"traceparent": TRACEPARENT}, "request"):
        upload = {name.encode(): value for name, value in upload_fields(work, Deadline.after(9, "")).items()}
        record = logging.LogRecord("retouch", logging.INFO, "", 0, "said", None, None)
        setattr(record, FIELDS, {"route": "/upscale"})
        line = json.loads(JsonFormatter().format(record))
    assert trace_from(upload)["traceparent"].split("-")[1] == TRACE
    assert (line["trace_id"], line["route"]) == (TRACE, "/upscale")


@pytest.mark.parametrize("sent", [b'{"trace": 3}', b'{"trace": {"traceparent": 3}}', b"{}"])
def test_a_trace_that_is_none_is_passed_over(sent):
    assert trace_from({b"head": sent}) == {}
