"""The shipped rules and dashboards, without a server: what they name exists, what they say is tested."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ops.prometheus_package import programs

from tureen.engine.metric_table import CATALOGUE

HERE = Path(__file__).parent
OPS = HERE.parents[1] / "service/ops"
DASHBOARDS = sorted((OPS / "grafana").glob("*.json"))
RULES = {
    name: [
        rule
        for group in yaml.safe_load((OPS / "prometheus" / name).read_text())["groups"]
        for rule in group["rules"]
    ]
    for name in ("recording.yml", "alerts.yml")
}
RECORDED = {rule["record"] for rule in RULES["recording.yml"]}


def series() -> set[str]:
    """Every name the server exposes."""
    names = set()
    for metric in CATALOGUE:
        names.add(metric.name)
        if metric.kind == "histogram":
            parts = (
                ("_bucket", "_count", "_sum") if min(metric.buckets) >= 0 else ("_bucket", "_count")
            )
            names |= {metric.name + part for part in parts}
    return names


def panels(path: Path) -> list[dict]:
    return json.loads(path.read_text())["panels"]


def expressions() -> list[str]:
    shown = [
        target["expr"]
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel.get("targets", ())
    ]
    return [*shown, *(rule["expr"] for rule in itertools.chain(*RULES.values()))]


def test_what_is_asked_for_exists():
    assert len(expressions()) > 80
    known = series() | RECORDED
    for expression in expressions():
        names = set(re.findall(r"\btureen[_:][\w:]+", expression))
        assert names <= known, expression


def test_every_metric_is_shown_or_ruled_on():
    """A metric nobody looks at is not watched."""
    shown = " ".join(expressions())
    for metric in CATALOGUE:
        assert metric.name in shown, metric.name


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(OPS / "prometheus/prometheus.yml")),
        ("check", "rules", *(str(OPS / "prometheus" / name) for name in RULES)),
        ("test", "rules", str(HERE / "rules_test.yml")),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts(arguments):
    done = subprocess.run([programs().promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_unit_tested():
    tested = (HERE / "rules_test.yml").read_text()
    for rule in RULES["alerts.yml"]:
        assert re.search(rf"\b{rule['alert']}\b", tested), rule["alert"]
    assert "tureen:requests_refused:share5m" in tested


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    for rule in RULES["alerts.yml"]:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
    names = [rule["alert"] for rule in RULES["alerts.yml"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_are_explained_and_do_not_overlap(path):
    cells: set[tuple[int, int]] = set()
    seen = panels(path)
    assert len({panel["id"] for panel in seen}) == len(seen)
    for panel in seen:
        place = panel["gridPos"]
        own = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_variables_of_a_dashboard_are_defined():
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        defined = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval"}
        assert set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) <= defined
