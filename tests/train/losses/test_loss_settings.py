"""Which losses a run adds up, what they need, and what is refused before it begins."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import uprank.configs
from uprank.configs.errors import UserError
from uprank.configs.schema_train import LossSettings, TrainCommand
from uprank.configs.validate_loss import NEEDS, needs_teacher
from uprank.configs.validate_train import check_train
from uprank.data.groups import Group
from uprank.train.losses.losses import LOSSES, bce, kl, listwise
from uprank.train.losses.objective import data_problems, group_losses

SCORES = torch.tensor([0.5, -1.0, 2.0, 0.25, 1.0])
LABELS = torch.tensor([2.0, 1.0, 0.0, 1.0, 0.0])
TEACHER = torch.tensor([3.0, 1.0, -1.0, 2.0, 0.5])
OFFSETS = [0, 3, 5]
BATCH = (SCORES, LABELS, OFFSETS, TEACHER)


def settings_of(**options):
    train = {
        "positives_per_group": options.pop("positives", 1),
        "in_batch_negatives": options.pop("foreign", 0),
    }
    settings = TrainCommand(loss=LossSettings(**options))
    for name, value in train.items():
        setattr(settings.train, name, value)
    return settings


def refused(**options):
    with pytest.raises(UserError) as caught:
        check_train(settings_of(**options))
    return caught.value.problems


def test_temperature_divides_the_scores():
    found = group_losses(LossSettings(temperature=4.0), *BATCH)
    torch.testing.assert_close(found, listwise(SCORES / 4, LABELS, OFFSETS))


def test_a_weighted_sum_adds_the_losses():
    several = LossSettings(weights={"kl": 1.0, "listwise": 0.25, "bce": 2.0}, teacher_temperature=3.0)
    parts = kl(SCORES, LABELS, OFFSETS, TEACHER, teacher_temperature=3.0)
    parts = parts + 0.25 * listwise(SCORES, LABELS, OFFSETS) + 2 * bce(SCORES, LABELS, OFFSETS)
    torch.testing.assert_close(group_losses(several, *BATCH), parts)


OPTIONS = {
    "label_smoothing": 0.1,
    "positive_share": 0.5,
    "weighting": "lambdarank",
    "k": 1,
    "gain": "linear",
    "teacher_temperature": 2.0,
}


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, need in NEEDS.items() for option in need.options]
)
def test_every_option_reaches_its_loss(name, option):
    plain = group_losses(LossSettings(name), *BATCH)
    found = group_losses(LossSettings(name, **{option: OPTIONS[option]}), *BATCH)
    taught = [TEACHER] if NEEDS[name].teacher else []
    expected = LOSSES[name](SCORES, LABELS, OFFSETS, *taught, **{option: OPTIONS[option]})
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, plain)
    check_train(settings_of(name=name, positives=2, **{option: OPTIONS[option]}))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NEEDS)
def test_scores_of_half_precision_are_raised_to_fp32(name, precision):
    found = group_losses(LossSettings(name), SCORES.to(precision), *BATCH[1:])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, group_losses(LossSettings(name), *BATCH))  # these scores are exact


@pytest.mark.parametrize("name", NEEDS)
def test_every_loss_is_a_choice_of_the_group_and_starts(name):
    file = Path(uprank.configs.__file__).parent / "loss" / f"{name}.yaml"
    assert f"\nname: {name}\n" in file.read_text(encoding="utf-8")
    check_train(settings_of(name=name, positives=2))


def test_the_group_holds_nothing_else():
    folder = Path(uprank.configs.__file__).parent / "loss"
    assert {file.stem for file in folder.glob("*.yaml")} == NEEDS.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_no_chosen_loss_has_is_refused(option):
    without = next(name for name, need in NEEDS.items() if option not in need.options)
    having = next(name for name, need in NEEDS.items() if option in need.options)
    (problem,) = refused(name=without, **{option: OPTIONS[option]})
    assert problem.startswith(f"loss.{option}={OPTIONS[option]}: applies only to ")
    assert having in problem
    check_train(settings_of(weights={without: 1.0, having: 0.1}, **{option: OPTIONS[option]}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("positive_share", 0.0),
        ("positive_share", 1.0),
        ("k", 0),
        ("weighting", "ndcg"),
        ("gain", "square"),
        ("teacher_temperature", 0.0),
        ("temperature", float("nan")),
    ],
)
def test_a_value_that_no_loss_can_mean_is_refused(option, value):
    (problem,) = refused(**{option: value})
    assert problem.startswith(f"loss.{option}={value}: ")


def test_weights_that_no_run_can_mean_are_refused():
    assert refused(weights={"listwise": 0.0, "pairwise": 1.0}) == [
        "loss.weights.listwise=0.0: must be a number above 0",
        f"loss.weights=pairwise: allowed are {', '.join(NEEDS)}",
    ]
    for wrong in ("kl", ["kl", "bce"], {}):
        (problem,) = refused(weights=wrong)
        assert problem.startswith(f"loss.weights={wrong}: must be losses with weights")
    for wrong in ("much", True, None, float("inf")):
        (problem,) = refused(weights={"bce": wrong, "listwise": 2})
        assert problem.startswith(f"loss.weights.bce={wrong}: ")
    (problem,) = refused(name="bce", weights={"kl": 1.0})
    assert problem.startswith("loss.name=bce: ")
    check_train(settings_of(name="kl", weights={"kl": 1.0, "bce": 1.0}))


def test_orders_of_grades_need_two_positives_in_a_group():
    for name in ("listmle", "p_listmle"):
        (problem,) = refused(name=name)
        assert problem.startswith("train.positives_per_group=1: ")
        assert "loss=listwise" in problem


def test_foreign_passages_have_no_teacher():
    (problem,) = refused(name="kl", foreign=3)
    assert problem.startswith("train.in_batch_negatives=3: ")
    check_train(settings_of(name="ranknet", foreign=3))
    (problem,) = refused(foreign=-1)
    assert problem.startswith("train.in_batch_negatives=-1: ")


def rows(count, scored=(), grades=(1, 1)):
    return [
        Group("q", ("a", "b"), ("c",), f"train.jsonl:{n + 1}", grades, (1.0, 2.0, 0.0) if n in scored else ())
        for n in range(count)
    ]


@pytest.mark.parametrize("options", [{"name": "margin_mse"}, {"weights": {"listwise": 1.0, "kl": 0.5}}])
def test_rows_without_a_teacher_are_named_before_training(options):
    problems = data_problems(settings_of(**options), rows(14, scored=(0, 5)))
    assert len(problems) == 11
    assert [problem.split(": ")[0] for problem in problems[:5]] == [
        f"train.jsonl:{n}" for n in (2, 3, 4, 5, 7)
    ]
    assert all(
        "uprank score model.path=MODEL input=ROWS.jsonl output=SCORED.jsonl" in problem
        for problem in problems[:10]
    )
    assert problems[10].startswith("… and 2 more rows")
    assert data_problems(settings_of(**options), rows(3, scored=(0, 1, 2))) == []


def test_orders_of_grades_need_different_grades():
    settings = settings_of(name="p_listmle", positives=2)
    (problem,) = data_problems(settings, rows(3))
    assert "loss=listwise" in problem
    assert data_problems(settings, rows(3) + rows(1, grades=(1, 2))) == []


def test_the_groups_are_not_read_where_nothing_is_needed():
    class Unreadable(list):
        def __iter__(self):
            raise AssertionError

    assert data_problems(settings_of(name="lambdaloss"), Unreadable()) == []


def test_a_batch_without_a_teacher_is_refused():
    with pytest.raises(UserError, match="loss=kl: a group has no scores of a teacher"):
        group_losses(LossSettings("kl"), SCORES, LABELS, OFFSETS)
    assert not needs_teacher(LossSettings("bce"))
    assert needs_teacher(LossSettings(weights={"bce": 1.0, "margin_mse": 1.0}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=lambdaloss", "loss.k=10", "loss.weighting=ndcg_loss2++"], ["name: lambdaloss", "k: 10"]),
        (["loss.weights={kl: 1, listwise: 0.2}"], ["kl: 1\n", "listwise: 0.2\n"]),
    ],
)
def test_the_command_line_reaches_the_settings(arguments, said, tmp_path):
    given = ["model.path=x", "data.train=y", "data.dev=z", f"output={tmp_path / 'run'}", "--cfg", "job"]
    command = [sys.executable, "-m", "uprank", "train", *arguments, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in said:
        assert line in done.stdout
