"""The generated tables of service/README.md are those of the code.

To write them anew: python tests/test_docs.py
"""

import re
from pathlib import Path

import pytest
import yaml

from tureen.config import Config, flag_table
from tureen.engine.metric_table import CATALOGUE
from tureen.errors import ERRORS
from tureen.ray.config import RayConfig

PAGE = Path(__file__).resolve().parents[1] / "service/README.md"


def error_table() -> str:
    rows = ["| code | HTTP | gRPC | retryable |", "|---|---|---|---|"]
    for code, kind in ERRORS.items():
        retry = "yes" if kind.retryable else "no"
        rows.append(f"| `{code}` | {kind.http_status} | {kind.grpc_status} | {retry} |")
    return "\n".join(rows)


def metric_table() -> str:
    rows = ["| metric | kind | unit | labels | buckets | meaning |", "|---|---|---|---|---|---|"]
    for metric in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        bounds = metric.buckets
        buckets = f"{len(bounds)}, {bounds[0]:g} … {bounds[-1]:g}" if bounds else ""
        rows.append(
            f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {buckets} "
            f"| {metric.text} |"
        )
    return "\n".join(rows)


def alert_table() -> str:
    rows = ["| alert | severity | when | for |", "|---|---|---|---|"]
    for group in yaml.safe_load((PAGE.parent / "ops/prometheus/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            when = rule["expr"].strip().replace("|", "\\|")
            rows.append(
                f"| `{rule['alert']}` | {rule['labels']['severity']} | `{when}` "
                f"| {rule.get('for', 'at once')} |"
            )
    return "\n".join(rows)


TABLES = {
    "flags": flag_table,
    "ray flags": lambda: flag_table(RayConfig, Config),
    "errors": error_table,
    "metrics": metric_table,
    "alerts": alert_table,
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^\n]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_table_is_current(name):
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[2] == TABLES[name]() + "\n", "run: python tests/test_docs.py"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        text = block(name).sub(lambda m, table=table: f"{m[1]}{table()}\n{m[3]}", text)
    PAGE.write_text(text, encoding="utf-8")
