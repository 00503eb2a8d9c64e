"""What matters about the objects that a cluster gets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from models import installed
from models.checkpoints.catalogue import read_catalogue
from service.redis import keys
from service.settings import Settings
from tests.deploy.rendering import K8S, OVERLAYS, Object, read
from tests.deploy.test_compose import exported

OBJECTS = {overlay: read(overlay) for overlay in OVERLAYS}
# The Secret is made by hand, see docs/deploy.md: no password has a default.
REQUIRED_SECRETS, OPTIONAL_SECRETS = {"redis-password"}, {"api-keys", "callback-secret"}


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [found for found in OBJECTS[overlay] if found["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Object:
    [found] = [found for found in of_kind(overlay, kind) if found["metadata"]["name"] == name]
    return found


def workloads(overlay: str) -> list[Object]:
    return of_kind(overlay, "Deployment", "StatefulSet")


def parameters(*kinds: str) -> list[Any]:
    return [
        pytest.param(
            overlay, workload["spec"]["template"]["spec"], id=f"{overlay}-{workload['metadata']['name']}"
        )
        for overlay in OVERLAYS
        for workload in of_kind(overlay, *kinds)
    ]


SERVERS = parameters("Deployment", "StatefulSet")
PODS = [*SERVERS, *parameters("Job")]
OURS = [(overlay, name) for overlay in OVERLAYS for name in ("api", "worker")]


def pod(overlay: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = named(overlay, "Deployment", name)["spec"]["template"]["spec"]
    return found


def settings(overlay: str, name: str) -> Settings:
    """As the process in the pod reads them."""
    [container] = pod(overlay, name)["containers"]
    given = {}
    for source in container["envFrom"]:
        given |= named(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container["env"]:
        given[variable["name"]] = variable.get("value", "redis://secret:6379/0")
    return Settings(
        **{
            variable.removeprefix("RETOUCH_").lower(): value
            for variable, value in given.items()
            if variable.startswith("RETOUCH_")
        }
    )


@pytest.mark.parametrize(("overlay", "spec"), PODS)
def test_every_pod_is_contained(overlay, spec):
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] >= 10000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "a Service named retouch would set RETOUCH_PORT"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for volume in spec["volumes"]:
        assert set(volume) & {"configMap", "emptyDir", "persistentVolumeClaim"}
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize(("overlay", "spec"), SERVERS)
def test_every_server_has_probes(overlay, spec):
    for container in spec["containers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize(("overlay", "spec"), PODS)
def test_every_container_has_limits(overlay, spec):
    for container in spec["containers"]:
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound])
        tag = container["image"].rpartition(":")[2]
        assert tag not in ("latest", container["image"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_refuses_what_is_not_contained(overlay):
    [namespace] = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for found in OBJECTS[overlay]:
        assert found["kind"] == "Namespace" or found["metadata"]["namespace"] == namespace["metadata"]["name"]


@pytest.mark.parametrize(("overlay", "name"), OURS)
def test_a_pod_is_given_longer_to_end_than_its_drain(overlay, name):
    spec = pod(overlay, name)
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    uvicorn = 5  # what the command line adds to the drain
    assert spec["terminationGracePeriodSeconds"] >= pause + settings(overlay, name).drain + uvicorn + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_api_drains_as_long_as_a_request_may_take(overlay):
    api = settings(overlay, "api")
    assert api.dispatch == "redis"
    assert api.drain >= api.timeout
    assert api.cache_url != api.redis_url
    assert settings(overlay, "worker").cache_url == api.cache_url  # else cached answers fill the jobs' Redis


@pytest.mark.parametrize(("overlay", "name"), OURS)
def test_probes_ask_ports_that_are_served_and_liveness_asks_nothing_of_redis(overlay, name):
    [container] = pod(overlay, name)["containers"]
    port = Settings().port if name == "api" else Settings().worker_port
    assert [entry["containerPort"] for entry in container["ports"]] == [port]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_worker_may_take_minutes_to_load(overlay):
    probe = pod(overlay, "worker")["containers"][0]["startupProbe"]
    assert probe["httpGet"]["path"] == "/readyz"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_the_files_and_all_of_them_are_known(overlay):
    assert of_kind(overlay, "Secret") == []
    required, optional = set(), set()
    for workload in workloads(overlay):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["name"] == "retouch"
                    (optional if reference.get("optional") else required).add(reference["key"])
    external = {"redis-url"} if overlay == "external-redis" else set()
    assert (required, optional) == (REQUIRED_SECRETS | external, OPTIONAL_SECRETS)
    deploy = (K8S.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert [key for key in required | optional if f"--from-literal={key}=" not in deploy] == []


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_selects_something(overlay):
    pods = [*workloads(overlay), *of_kind(overlay, "Job")]
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in pods]
    for found in OBJECTS[overlay]:
        spec = found.get("spec", {})
        if found["kind"] == "Service":
            selectors = [{"matchLabels": spec["selector"]}]
        elif found["kind"] == "NetworkPolicy":
            selectors = [spec["podSelector"]]
        else:
            selectors = [spec["selector"]] if isinstance(spec.get("selector"), dict) else []
        for selector in selectors:
            assert any(selects(selector, each) for each in labels), found["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_node_can_always_be_drained(overlay):
    budgets = of_kind(overlay, "PodDisruptionBudget")
    assert {"api", "worker"} <= {budget["metadata"]["name"] for budget in budgets}
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets)


@pytest.mark.parametrize(("overlay", "name"), OURS)
def test_pods_are_spread_without_being_kept_from_running(overlay, name):
    constraints = pod(overlay, name)["topologySpreadConstraints"]
    found = {(each["topologyKey"], each["whenUnsatisfiable"]) for each in constraints}
    assert found == {
        ("kubernetes.io/hostname", "ScheduleAnyway"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    }
    labels = named(overlay, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert all(selects(each["labelSelector"], labels) for each in constraints)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whoever_is_scaled_has_no_number_of_replicas(overlay):
    """Or each `kubectl apply` would undo what the autoscaler did."""
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in named(overlay, target["kind"], target["name"])["spec"]
    scaled = {scaler["metadata"]["name"] for scaler in of_kind(overlay, "HorizontalPodAutoscaler")}
    assert "api" in scaled


# The network: nothing but what is named.


def reaches(overlay: str, source: str, target: str, port: int) -> bool:
    """Whether the policies let one workload's pods connect to another's."""
    by_name = {workload["metadata"]["name"]: workload for workload in workloads(overlay)}
    template = {name: workload["spec"]["template"] for name, workload in by_name.items()}

    def allowed(direction: str, end: str, here: str, there: str) -> bool:
        for policy in of_kind(overlay, "NetworkPolicy"):
            spec = policy["spec"]
            if not selects(spec["podSelector"], template[here]["metadata"]["labels"]):
                continue
            for rule in spec.get(direction, []):
                peers = rule.get(end)
                labels = template[there]["metadata"]["labels"]
                peer = peers is None or any(
                    "podSelector" in p and selects(p["podSelector"], labels) for p in peers
                )
                if peer and number in [numbers.get(p["port"], p["port"]) for p in rule["ports"]]:
                    return True
        return False

    numbers = {
        entry["name"]: entry["containerPort"] for entry in template[target]["spec"]["containers"][0]["ports"]
    }
    number = port
    return allowed("egress", "to", source, target) and allowed("ingress", "from", target, source)


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "gpu-keda"])
def test_pods_reach_redis_and_nothing_else(overlay):
    [default] = [p for p in of_kind(overlay, "NetworkPolicy") if p["spec"]["podSelector"] == {}]
    assert default["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {"api": 8000, "worker": 8001, "redis": 6379, "cache": 6379}
    reached = {(a, b) for a in ports for b in ports if a != b and reaches(overlay, a, b, ports[b])}
    assert reached == {("api", "redis"), ("api", "cache"), ("worker", "redis"), ("worker", "cache")}


def test_callbacks_may_leave_but_not_for_private_networks():
    policy = named("external-redis", "NetworkPolicy", "callbacks")
    [rule] = policy["spec"]["egress"]
    [peer] = rule["to"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(peer["ipBlock"]["except"])


# Public weights.


def test_a_job_alone_fetches_public_weights_and_the_others_read_them():
    job = named("external-redis", "Job", "public-weights")["spec"]["template"]["spec"]
    [container] = job["containers"]
    assert container["args"][:3] == ["weights", "pull", "--all-of"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert "readOnly" not in mounts["weights"]
    for name in ("api", "worker"):
        spec = pod("external-redis", name)
        [mount] = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "weights"]
        assert mount == {"name": "weights", "mountPath": mounts["weights"]["mountPath"], "readOnly": True}
        assert {"claimName": "weights", "readOnly": True} in [
            volume.get("persistentVolumeClaim") for volume in spec["volumes"]
        ]
    [rule] = named("external-redis", "NetworkPolicy", "public-weights")["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(rule["to"][0]["ipBlock"]["except"])


def test_the_names_to_fetch_are_in_the_catalogue():
    [config] = [
        found
        for found in of_kind("external-redis", "ConfigMap")
        if found["metadata"]["name"].startswith("public-weights")
    ]
    names = [line for line in config["data"]["models"].splitlines() if not line.startswith("#")]
    assert names
    assert all(read_catalogue()[name].commercial for name in names)


# Workers on GPUs.


@pytest.mark.parametrize("overlay", ["gpu", "gpu-keda"])
def test_a_gpu_worker_has_one_gpu_and_gives_it_up_before_the_next_one_comes(overlay):
    spec = named(overlay, "Deployment", "worker")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    [container] = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["image"].endswith("-cuda")
    assert settings(overlay, "worker").device == "cuda"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["template"][
        "spec"
    ]["tolerations"]
    assert spec["template"]["spec"]["affinity"]["nodeAffinity"]
    assert pod(overlay, "api")["containers"][0]["image"].endswith("-cpu")


def triggers(which: str) -> dict[str, dict[str, str]]:
    """Metadata of the triggers that count this, by stream."""
    found = {}
    for trigger in named("gpu-keda", "ScaledObject", "worker")["spec"]["triggers"]:
        assert trigger["type"] == "redis-streams"
        if which in trigger["metadata"]:
            found[trigger["metadata"]["stream"]] = trigger["metadata"]
    return found


def test_keda_watches_lag_and_pending_of_every_stream_that_the_workers_read():
    [container] = pod("gpu-keda", "worker")["containers"]
    assert container["args"][:2] == ["worker", "--models"]
    hosted = container["args"][2].split(",")
    assert set(hosted) <= set(installed())
    streams = {keys.stream(model, priority) for model in hosted for priority in keys.PRIORITIES}
    lag, pending = triggers("lagCount"), triggers("pendingEntriesCount")
    assert set(lag) == set(pending) == streams
    for metadata in [*lag.values(), *pending.values()]:
        assert metadata["consumerGroup"] == keys.GROUP
        assert metadata["address"] == "redis.retouch.svc:6379"
    # With a group and lagCount a trigger counts lag, whatever else it says.
    assert all("lagCount" not in metadata for metadata in pending.values())
    assert all("activationLagCount" in metadata for metadata in lag.values())


def test_keda_keeps_as_many_workers_as_hold_something():
    places = settings("gpu-keda", "worker").worker_places
    assert {metadata["pendingEntriesCount"] for metadata in triggers("pendingEntriesCount").values()} == {
        str(places)
    }


def test_keda_scales_in_slowly_and_has_an_answer_when_redis_is_away():
    spec = named("gpu-keda", "ScaledObject", "worker")["spec"]
    # Every field that is used is one that KEDA knows; its webhook is not there to say so.
    assert set(spec) <= {
        *("scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount"),
        *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
    }
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert set(spec["fallback"]) == {"failureThreshold", "replicas"}
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_keda_asks_as_the_workers_do():
    variables = {variable["name"] for variable in pod("gpu-keda", "worker")["containers"][0]["env"]}
    for metadata in triggers("lagCount").values():
        assert {metadata["usernameFromEnv"], metadata["passwordFromEnv"]} <= variables
    [rule] = named("gpu-keda", "NetworkPolicy", "keda")["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]


# Watching.


def test_every_process_is_scraped():
    endpoints = named("gpu-keda", "PodMonitor", "retouch")["spec"]["podMetricsEndpoints"]
    ports = {pod("gpu-keda", name)["containers"][0]["ports"][0]["name"] for name in ("api", "worker")}
    assert {endpoint["port"] for endpoint in endpoints} == ports


def test_alerts_ask_for_metrics_that_exist():
    [group] = named("gpu-keda", "PrometheusRule", "retouch")["spec"]["groups"]
    for rule in group["rules"]:
        names = set(re.findall(r"\bretouch_\w+", rule["expr"]))
        assert names
        assert names <= set(exported())


def test_what_operators_define_is_asked_for_by_one_overlay_alone():
    for overlay in set(OVERLAYS) - {"gpu-keda"}:
        groups = {found["apiVersion"].partition("/")[0] for found in OBJECTS[overlay]}
        assert groups <= {"v1", "apps", "autoscaling", "batch", "policy", "networking.k8s.io"}
