"""The stand-in for RunPod is as the provider's own description says: thousands of requests, right and wrong ones."""

import pytest

from tests import absent
from tests.runpod import KEY, StandIn
from tests.runpod_described import SPEC

if not SPEC.is_file():
    pytest.skip("no ../shared/specs with RunPod's description here", allow_module_level=True)
absent.package("schemathesis")

import schemathesis  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from schemathesis import Case  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

PLACES = r"network-volumes(/\{id\})?|catalog/(gpus|datacenters)(/\{id\})?"
SERVED = rf"^/v2/(pods(/\{{id\}}(/action)?)?|billing/(pods|network-volumes)|{PLACES})$"
NOT_SERVED = ["updatePod", "createNetworkVolume", "updateNetworkVolume", "deleteNetworkVolume"]

schema = schemathesis.openapi.from_path(SPEC).include(path_regex=SERVED).exclude(operation_id=NOT_SERVED)


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_operation_answers_as_described(case: Case, stand: StandIn) -> None:
    if not stand.pods:
        import httpx

        body = {"name": "one", "image": "x", "gpu": {"id": "NVIDIA H200"}, "disk": 20}
        made = httpx.post(f"{stand.url}/v2/pods", json=body, headers={"Authorization": f"Bearer {KEY}"})
        assert made.status_code == 201
    # A body that matches the description may still break a rule, or ask for what is not in stock: that is a 400.
    but = [positive_data_acceptance] if case.operation.label == "POST /v2/pods" else []
    case.call_and_validate(base_url=stand.url, headers={"Authorization": f"Bearer {KEY}"}, excluded_checks=but)
