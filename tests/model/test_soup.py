from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tureen.contracts import Calibration, Granularity
from tureen.errors import IncompatibleSoup
from tureen.model.checkpoint import load
from tureen.model.files import sha256_file
from tureen.model.manifest import Manifest, Method, ModelError, read_manifest, write_manifest
from tureen.model.schema import SchemaError
from tureen.model.soup import diff, inspect, make_soup

ROWS = [[2, 10, 11, 12, 3], [2, 40, 41, 42, 43, 44, 45, 46, 3]]
Values = Callable[..., Tensor]


def rewrite(directory: Path, out: Path, **changes: Any) -> Path:
    """A copy of a model whose manifest says something else."""
    shutil.copytree(directory, out)
    write_manifest(out, dataclasses.replace(read_manifest(out), **changes))
    return out


def head(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {"heads": (dataclasses.replace(manifest.heads[0], **changes), *manifest.heads[1:])}


@pytest.fixture(scope="module")
def full_members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return pico.bert_members(tmp_path_factory.mktemp("full"), 2, encoding="full")


@pytest.mark.parametrize("encoding", ["delta", "full"])
def test_a_soup_of_identical_checkpoints_is_the_checkpoint(
    tmp_path: Path,
    member_directories: list[Path],
    full_members: list[Path],
    values_of: Values,
    encoding: str,
):
    member = {"delta": member_directories, "full": full_members}[encoding][0]
    soup = make_soup([member] * 3, None, tmp_path / "s", "uniform")
    one = values_of(load(member).model, ROWS)
    many = values_of(load(tmp_path / "s").model, ROWS)
    assert many.shape[2] == 4
    for group in range(4):
        torch.testing.assert_close(many[:, :, group], one[:, :, 0], rtol=0, atol=1e-6)
    checkpoint = read_manifest(member)
    for ours, theirs in zip(soup.heads, checkpoint.heads, strict=True):
        assert ours.calibration.mean == pytest.approx(theirs.calibration.mean)
        assert ours.calibration.std == pytest.approx(theirs.calibration.std)
    assert soup.temperature == pytest.approx(checkpoint.temperature)
    assert [ingredient.name for ingredient in soup.ingredients] == [
        "member-0",
        "member-0-2",
        "member-0-3",
    ]


def test_the_mean_of_the_members_is_the_uniform_soup(
    tmp_path: Path, member_directories: list[Path], values_of: Values
):
    make_soup(member_directories, None, tmp_path / "s", "uniform")
    values = values_of(load(tmp_path / "s").model, ROWS)
    torch.testing.assert_close(values[:, :, 1:].mean(dim=2), values[:, :, 0], rtol=0, atol=1e-5)


def test_coefficients_permute_with_their_ingredients(
    tmp_path: Path, member_directories: list[Path], values_of: Values
):
    coefficients = [0.5, 0.3, 0.2]
    results = []
    for order in itertools.permutations(range(3)):
        out = tmp_path / "".join(map(str, order))
        make_soup(
            [member_directories[i] for i in order],
            [coefficients[i] for i in order],
            out,
            "weighted",
        )
        results.append(values_of(load(out).model, ROWS)[:, :, 0])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-5)


def test_the_weights_are_the_weighted_mean(tmp_path: Path, full_members: list[Path]):
    make_soup(full_members, [0.25, 0.75], tmp_path / "s", "weighted")
    soup = load(tmp_path / "s").model.state_dict()
    a, b = (load(member).model.state_dict() for member in full_members)
    name = "backbone.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(soup[name], 0.25 * a[name] + 0.75 * b[name], rtol=0, atol=1e-6)
    assert not torch.equal(a[name], b[name])


def test_a_soup_of_soups_multiplies_the_coefficients(
    tmp_path: Path, member_directories: list[Path]
):
    make_soup(member_directories[:2], [0.5, 0.5], tmp_path / "inner", "uniform")
    outer = make_soup([tmp_path / "inner", member_directories[2]], [0.5, 0.5], tmp_path / "s", "x")
    assert outer.coefficients == (0.25, 0.25, 0.5)
    assert [i.name for i in outer.ingredients] == ["member-0", "member-1", "member-2"]


def test_delta_and_full_of_one_base_are_averaged_in_full(
    tmp_path: Path, member_directories: list[Path], full_members: list[Path], values_of: Values
):
    # both fixtures draw from one seed: member 0 is the same checkpoint, up to the fp16 of the delta
    same = make_soup([member_directories[0], full_members[0]], None, tmp_path / "s", "uniform")
    assert same.encoding == "full"
    one = values_of(load(full_members[0]).model, ROWS)
    both = values_of(load(tmp_path / "s").model, ROWS)
    torch.testing.assert_close(both[:, :, 0], one[:, :, 0], rtol=0, atol=1e-3)


def test_what_was_fitted_on_the_ingredients_is_marked_as_not_fitted(
    tmp_path: Path, member_directories: list[Path]
):
    members = []
    for i, mean in enumerate((1.0, 3.0)):
        manifest = read_manifest(member_directories[i])
        changes = head(manifest, calibration=Calibration(mean=mean, std=2.0 * mean))
        changes |= {"calibration_set": "dev", "metrics": {"accuracy": 0.7}, "temperature": mean}
        changes |= {"data_licences": ("MIT", f"licence-{i}")}
        members.append(rewrite(member_directories[i], tmp_path / str(i), **changes))
    soup = make_soup(members, [0.25, 0.75], tmp_path / "s", "weighted")
    # ¼ · 1 + ¾ · 3 = 2.5
    assert soup.heads[0].calibration == Calibration(mean=2.5, std=5.0)
    assert soup.temperature == 2.5
    assert (soup.calibration_set, soup.metrics, soup.reference) == (None, {}, ())
    assert soup.data_licences == ("MIT", "licence-0", "licence-1")
    assert (soup.model_id, soup.soup) == ("s", "weighted:2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: head(m, name="politeness"), "heads: .*'preference'.*'politeness'"),
        (lambda m: {"heads": m.heads[::-1]}, "heads: "),
        (lambda m: head(m, granularity=Granularity.SENTENCE), "granularity: .*'sentence'"),
        (lambda m: head(m, weight=0.0), "weight: .*0.4.*0.0"),
        (lambda m: head(m, combine="max"), "combine: .*'mean'.*'max'"),
        (
            lambda m: {"text": dataclasses.replace(m.text, max_windows=1)},
            r"text\.max_windows: .* has 4, .* has 1",
        ),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_differences_are_named_and_never_forced(
    tmp_path: Path, member_directories: list[Path], change: Any, message: str, force: bool
):
    manifest = read_manifest(member_directories[1])
    other = rewrite(member_directories[1], tmp_path / "other", **change(manifest))
    with pytest.raises(IncompatibleSoup, match=message):
        make_soup([member_directories[0], other], None, tmp_path / "s", "uniform", force=force)
    assert not (tmp_path / "s").exists()


def test_another_ancestor_is_refused_unless_forced(
    tmp_path: Path, member_directories: list[Path], values_of: Values
):
    (stranger,) = pico.bert_members(tmp_path / "strangers", 1, seed=5)
    pair = [member_directories[0], stranger]
    with pytest.raises(IncompatibleSoup, match=r"base: .* one pretrained ancestor"):
        make_soup(pair, None, tmp_path / "s", "uniform")
    soup = make_soup(pair, None, tmp_path / "s", "uniform", force=True)
    assert (soup.base, soup.encoding) == (None, "full")
    name = "backbone.encoder.layer.0.output.dense.weight"
    a, b, mean = (load(path).model.state_dict()[name] for path in (*pair, tmp_path / "s"))
    torch.testing.assert_close(mean, (a + b) / 2, rtol=0, atol=1e-6)


def test_without_an_ancestor_on_record_a_soup_must_be_forced(tmp_path: Path):
    members = [pico.bert_reward(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    with pytest.raises(IncompatibleSoup, match="descends from None"):
        make_soup(members, None, tmp_path / "s", "uniform")
    assert make_soup(members, None, tmp_path / "s", "uniform", force=True).soup == "uniform:2"


def test_force_does_not_reach_the_architecture(tmp_path: Path):
    one = pico.bert_reward(tmp_path / "bert")
    other = pico.llama_reward(tmp_path / "llama")
    manifest = read_manifest(one)
    other = rewrite(other, tmp_path / "other", text=manifest.text)
    with pytest.raises(IncompatibleSoup, match=r"architecture\."):
        make_soup([one, other], None, tmp_path / "s", "uniform", force=True)


def test_force_does_not_reach_shapes_nor_the_tokenizer(tmp_path: Path):
    one, two = (pico.bert_reward(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    shutil.copytree(two, tmp_path / "tokenizer")
    tokenizer = json.loads((two / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["[MASK]"] = 0
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(IncompatibleSoup, match=r"tokenizer\.model"):
        make_soup([one, tmp_path / "tokenizer"], None, tmp_path / "s", "uniform", force=True)

    manifest = read_manifest(two)
    file = two / manifest.ingredients[0].file
    tensors = load_file(file)
    tensors["backbone.embeddings.LayerNorm.bias"] = torch.zeros(5)
    save_file(tensors, file)
    changed = dataclasses.replace(manifest.ingredients[0], sha256=sha256_file(file))
    write_manifest(two, dataclasses.replace(manifest, ingredients=(changed,)))
    with pytest.raises(IncompatibleSoup, match=r"LayerNorm\.bias.* has \(32,\), .* has \(5,\)"):
        make_soup([one, two], None, tmp_path / "s", "uniform", force=True)
    assert not (tmp_path / "s").exists()


def test_what_is_asked_for_must_make_sense(tmp_path: Path, member_directories: list[Path]):
    with pytest.raises(ValueError, match="no ingredients"):
        make_soup([], None, tmp_path / "s", "uniform")
    with pytest.raises(SchemaError, match=r"add up to 2; .* divide each by their sum"):
        make_soup(member_directories[:2], [1.0, 1.0], tmp_path / "s", "weighted")
    with pytest.raises(IncompatibleSoup, match="2 checkpoints and 3 coefficients"):
        make_soup(member_directories[:2], [0.5, 0.25, 0.25], tmp_path / "s", "weighted")
    classifier = pico.bert_classifier(tmp_path / "c")
    with pytest.raises(IncompatibleSoup, match="third party"):
        make_soup([classifier, classifier], None, tmp_path / "s", "uniform")
    with pytest.raises(ModelError, match="will not be replaced"):
        make_soup(member_directories, None, classifier, "uniform")


def test_a_soup_may_replace_itself(tmp_path: Path, member_directories: list[Path]):
    make_soup(member_directories[:2], None, tmp_path / "s", "uniform")
    soup = make_soup([tmp_path / "s", member_directories[2]], [0.0, 1.0], tmp_path / "s", "greedy")
    assert soup.coefficients == (0.0, 0.0, 1.0)
    assert load(tmp_path / "s").manifest == soup


TIES = Method(name="ties", scale=0.5, density=1.0)
HALF = Method(name="task_arithmetic", scale=0.5)
TENSOR = "backbone.encoder.layer.0.output.dense.weight"


def test_another_coefficient_of_a_tureen_json_is_another_soup(
    tmp_path: Path, member_directories: list[Path], values_of: Values
):
    """Coefficients re-weigh weights: the trunk changes, so do all values and the fingerprint."""
    made = make_soup(member_directories[:2], [0.5, 0.5], tmp_path / "s", "uniform")
    changed = tuple(
        dataclasses.replace(ingredient, coefficient=coefficient)
        for ingredient, coefficient in zip(made.ingredients, (0.25, 0.75), strict=True)
    )
    other = rewrite(tmp_path / "s", tmp_path / "other", ingredients=changed)
    before, after = load(tmp_path / "s"), load(other)
    a, b = (load(path).model.state_dict()[TENSOR] for path in member_directories[:2])
    torch.testing.assert_close(after.model.state_dict()[TENSOR], 0.25 * a + 0.75 * b)
    assert before.fingerprint != after.fingerprint
    assert not torch.equal(values_of(before.model, ROWS), values_of(after.model, ROWS))


def test_weights_of_heads_leave_the_values_alone(
    tmp_path: Path, member_directories: list[Path], values_of: Values
):
    """`weights` re-weigh heads: the reward is another linear combination of the same values."""
    manifest = read_manifest(member_directories[0])
    other = rewrite(member_directories[0], tmp_path / "other", **head(manifest, weight=-3.0))
    one, two = (values_of(load(path).model, ROWS) for path in (member_directories[0], other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("encoding", ["delta", "full"])
def test_task_arithmetic_goes_half_the_way_from_the_base(
    tmp_path: Path, member_directories: list[Path], full_members: list[Path], encoding: str
):
    members = {"delta": member_directories[:2], "full": full_members}[encoding]
    made = make_soup(members, None, tmp_path / "s", "uniform", method=HALF)
    assert made.base is not None
    base = load_file(Path(made.base.repo) / "model.safetensors")[TENSOR.removeprefix("backbone.")]
    a, b = (load(path).model.state_dict()[TENSOR] for path in members)
    expected = base + 0.5 * (0.5 * (a - base) + 0.5 * (b - base))
    loaded = load(tmp_path / "s").model.state_dict()
    torch.testing.assert_close(loaded[TENSOR], expected, rtol=0, atol=1e-6)


def test_ties_keeps_what_agrees_in_sign(tmp_path: Path, member_directories: list[Path]):
    made = make_soup(member_directories[:2], None, tmp_path / "s", "ties", method=TIES)
    assert made.base is not None
    base = load_file(Path(made.base.repo) / "model.safetensors")[TENSOR.removeprefix("backbone.")]
    a, b = (load(path).model.state_dict()[TENSOR] - base for path in member_directories[:2])
    larger = torch.where(a.abs() > b.abs(), a, b)
    change = torch.where(a * b > 0, (a + b) / 2, larger)  # of two the larger decides the sign
    loaded = load(tmp_path / "s").model.state_dict()
    torch.testing.assert_close(loaded[TENSOR], base + 0.5 * change, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [TIES, HALF])
def test_what_holds_of_every_soup_holds_of_every_method(
    tmp_path: Path, member_directories: list[Path], values_of: Values, method: Method
):
    names = [member_directories[i] for i in (0, 1, 2)]
    soup = make_soup(names, [0.5, 0.3, 0.2], tmp_path / "s", "x", method=method)
    values = values_of(load(tmp_path / "s").model, ROWS)
    # heads are averaged on the trunk, whatever the trunk is
    weights = torch.tensor([0.5, 0.3, 0.2]).view(3, 1)
    mean = (weights * values[:, :, 1:]).sum(dim=2)
    torch.testing.assert_close(mean, values[:, :, 0], rtol=0, atol=1e-5)
    # coefficients permute with their ingredients
    make_soup(names[::-1], [0.2, 0.3, 0.5], tmp_path / "r", "x", method=method)
    reversed_ = values_of(load(tmp_path / "r").model, ROWS)
    torch.testing.assert_close(reversed_[:, :, 0], values[:, :, 0], rtol=0, atol=1e-5)
    # identical members have no spread
    make_soup([names[0]] * 3, None, tmp_path / "same", "x", method=method)
    same = values_of(load(tmp_path / "same").model, ROWS)
    for group in range(1, 4):
        torch.testing.assert_close(same[:, :, group], same[:, :, 0], rtol=0, atol=1e-6)
    # the members keep their lineage; the fingerprint and the manifest say how they were combined
    assert [one.lineage for one in soup.ingredients] == [{"seed": str(i)} for i in range(3)]
    make_soup(names, [0.5, 0.3, 0.2], tmp_path / "linear", "x")
    assert load(tmp_path / "linear").fingerprint != load(tmp_path / "s").fingerprint
    assert inspect(tmp_path / "s")["method"] == dataclasses.asdict(method)


@pytest.mark.parametrize("name", ["ties", "task_arithmetic"])
def test_every_method_of_identical_checkpoints_is_the_checkpoint(
    tmp_path: Path, member_directories: list[Path], values_of: Values, name: Any
):
    member = member_directories[0]
    make_soup([member] * 2, None, tmp_path / "s", "x", method=Method(name=name))
    many, one = (values_of(load(path).model, ROWS) for path in (tmp_path / "s", member))
    torch.testing.assert_close(many[:, :, 0], one[:, :, 0], rtol=0, atol=1e-5)


def test_a_soup_that_is_no_average_cannot_be_averaged_on(
    tmp_path: Path, member_directories: list[Path]
):
    make_soup(member_directories[:2], None, tmp_path / "ties", "ties", method=TIES)
    with pytest.raises(IncompatibleSoup, match=r"a soup by ties, .* give the ingredients"):
        make_soup([tmp_path / "ties", member_directories[2]], None, tmp_path / "s", "uniform")


def test_only_an_average_takes_soups_as_ingredients(tmp_path: Path, member_directories: list[Path]):
    make_soup(member_directories[:2], None, tmp_path / "inner", "uniform")
    pair = [tmp_path / "inner", member_directories[2]]
    with pytest.raises(IncompatibleSoup, match=r"is a soup of 2; ties takes single checkpoints"):
        make_soup(pair, None, tmp_path / "s", "ties", method=TIES)


def test_without_a_base_there_are_no_differences_to_it(tmp_path: Path):
    members = [pico.bert_reward(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    with pytest.raises(SchemaError, match='method is "ties" without a base'):
        make_soup(members, None, tmp_path / "s", "ties", force=True, method=TIES)
    assert not (tmp_path / "s").exists()


def test_inspect_measures_the_ingredients(tmp_path: Path, member_directories: list[Path]):
    make_soup(member_directories[:2], [0.25, 0.75], tmp_path / "s", "weighted")
    report = inspect(tmp_path / "s")
    assert (report["soup"], report["encoding"]) == ("weighted:2", "delta")
    assert [i["coefficient"] for i in report["ingredients"]] == [0.25, 0.75]
    tensors = load_file(tmp_path / "s" / "ingredients" / "0.safetensors")
    deltas = [t.double() for name, t in tensors.items() if name.startswith("backbone.")]
    norm = math.sqrt(sum(float((t**2).sum()) for t in deltas))
    assert report["ingredients"][0]["norm"] == pytest.approx(norm)
    assert report["ingredients"][0]["tensors"] == len(deltas)
    json.dumps(report)


def test_diff_measures_tensors_and_layers(tmp_path: Path, member_directories: list[Path]):
    assert diff(member_directories[0], member_directories[0]) == {
        "manifest": {},
        "tensors": {},
        "layers": {},
    }
    report = diff(*member_directories[:2])
    assert report["manifest"]["model_id"] == ["member-0", "member-1"]
    name = "backbone.encoder.layer.1.output.dense.weight"
    a, b = (load(path).model.state_dict()[name].double() for path in member_directories[:2])
    tensor = report["tensors"][name]
    assert tensor["l2"] == pytest.approx(float((a - b).norm()))
    assert tensor["relative"] == pytest.approx(float((a - b).norm() / a.norm()))
    assert tensor["max_abs"] == pytest.approx(float((a - b).abs().max()))
    layer = [t["l2"] for n, t in report["tensors"].items() if ".layer.1." in n]
    assert report["layers"]["backbone.encoder.layer.1"] == pytest.approx(math.hypot(*layer))
    json.dumps(report)


def test_diff_of_other_architectures_is_refused(tmp_path: Path, reward_directory: Path):
    with pytest.raises(IncompatibleSoup, match="one architecture"):
        diff(reward_directory, pico.llama_reward(tmp_path / "l"))
