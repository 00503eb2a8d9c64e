"""The composed service: contained, durable where it must be, and set up with settings that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.observability.metrics import Metrics
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
GPU = yaml.safe_load((ROOT / "docker" / "compose.gpu.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DASHBOARD = json.loads((ROOT / "k8s/components/monitoring/dashboard.json").read_text(encoding="utf-8"))


def settings_of(service: dict[str, Any]) -> Settings:
    """As the process in the container reads them; variables of the host are left at their defaults."""
    given = {
        name.removeprefix("RETOUCH_").lower(): re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
        for name, value in service["environment"].items()
        if name.startswith("RETOUCH_")
    }
    return Settings(**given)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_contained(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert "privileged" not in service
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "published on this machine only"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_container_is_given_longer_to_stop_than_its_drain(name):
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings_of(SERVICES[name]).drain + 10


def test_an_api_drains_as_long_as_a_request_may_take():
    settings = settings_of(SERVICES["api"])
    assert settings.dispatch == "redis"
    assert settings.drain >= settings.timeout


def test_jobs_are_kept_and_the_cache_makes_room():
    def lines(service: dict[str, Any]) -> list[str]:
        [mount] = [volume for volume in service["volumes"] if volume.endswith("/etc/redis.conf:ro")]
        return (ROOT / mount.split(":")[0]).read_text(encoding="utf-8").splitlines()

    jobs, cache = lines(SERVICES["redis"]), lines(SERVICES["cache"])
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(jobs)
    assert {"appendonly no", "maxmemory-policy allkeys-lru"} <= set(cache)
    assert "jobs:/data" in SERVICES["redis"]["volumes"]
    api = settings_of(SERVICES["api"])
    assert (api.redis_url, api.cache_url) == ("redis://redis:6379/0", "redis://cache:6379/0")
    worker = settings_of(SERVICES["worker"])
    assert (worker.redis_url, worker.cache_url) == (api.redis_url, api.cache_url)


def test_what_is_mounted_exists():
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_probes_ask_the_ports_that_are_served():
    assert SERVICES["worker"]["healthcheck"]["test"][-1] == str(Settings().worker_port)
    assert SERVICES["api"]["ports"][0].endswith(f":{Settings().port}")
    assert 'else "8000"' in (ROOT / "docker" / "healthcheck.py").read_text(encoding="utf-8")


def test_the_gpu_file_changes_the_workers_alone():
    [(name, worker)] = GPU["services"].items()
    assert name == "worker"
    assert worker["build"]["target"] == "cuda"
    assert (
        settings_of({"environment": SERVICES[name]["environment"] | worker["environment"]}).device == "cuda"
    )
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_prometheus_finds_every_process():
    config = yaml.safe_load((ROOT / "docker/monitoring/prometheus.yml").read_text(encoding="utf-8"))
    found = {
        (name, config["port"])
        for job in config["scrape_configs"]
        for config in job["dns_sd_configs"]
        for name in config["names"]
    }
    assert found == {("api", Settings().port), ("worker", Settings().worker_port)}


ENDINGS = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def exported() -> dict[str, set[str]]:
    """Every series that the service exports, with its labels."""
    series: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.collect()
            for ending in ENDINGS[family.type]:
                labels = set(metric._labelnames) | ({"le"} if ending == "_bucket" else set())
                if family.type == "info":
                    labels |= family.samples[0].labels.keys()
                series[family.name + ending] = labels
    return series


EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_asks_for_metrics_and_labels_that_exist(expression):
    series = exported()
    names = set(re.findall(r"\bretouch_\w+", expression))
    assert names
    assert names <= set(series)
    for process in re.findall(r"\bprocess_\w+", expression):
        assert process in Metrics().exposition().decode()
    scrape = {"instance", "job"}
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        wanted = {label.strip() for label in labels.split(",")} - scrape
        assert all(wanted <= series[name] for name in names)
