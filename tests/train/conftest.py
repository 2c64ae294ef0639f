"""Mining and training on tiny models as the tests of this room start them."""

import json
import random

import numpy as np
import pytest
from omegaconf import OmegaConf
from uprank.configs.errors import UserError
from uprank.configs.schema_data import MineCommand, MineDataSettings
from uprank.configs.schema_train import TrainCommand
from uprank.data.groups import Group
from uprank.model.reranker import Reranker
from uprank.train.mine.command import mine
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics


def mine_into(data, output, **options):
    mine(MineCommand(data=MineDataSettings(train=str(data)), output=str(output), **options))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def make_graded_groups(count, *, negatives):
    generator = random.Random(8)
    words = ["rank", "query", "passage", "river", "stone", "light", "heart", "blood", "drug"]

    def text(most):
        return " ".join(generator.choices(words, k=generator.randrange(1, most)))

    def group(number):
        positives, others = 1 + number % 3, negatives(number)
        return Group(
            f"{text(6)} q{number}",
            tuple(f"{text(20)} {number}.{i}" for i in range(positives)),
            tuple(f"{text(40)} n{i}" for i in range(others)),
            f"row:{number}",
            tuple(generator.randrange(1, 4) for _ in range(positives)),
            tuple(generator.gauss(0, 2) for _ in range(positives + others)),
        )

    return [group(number) for number in range(count)]


@pytest.fixture(scope="session")
def graded_groups():
    """`graded_groups(count, negatives=number -> how many)`: grades 1 to 3, and scores of a teacher."""
    return make_graded_groups


@pytest.fixture(scope="session")
def mined():
    """`mined(data, output, **settings)`: the rows that `uprank mine` writes."""
    return mine_into


@pytest.fixture(scope="session")
def mine_problems():
    """`mine_problems(data, output, **settings)`: what `uprank mine` refuses."""

    def problems(data, output, **options):
        with pytest.raises(UserError) as caught:
            mine_into(data, output, **options)
        return caught.value.problems

    return problems


@pytest.fixture(scope="session")
def dense_model(bi_encoder):
    """Folder of a tiny bi-encoder."""
    return bi_encoder()


def make_settings(model, jsonl, output, **changes) -> TrainCommand:
    """Settings of a run of 6 steps on 24 groups; `train__epochs=1` changes a part of a part."""
    values = {
        "model__path": str(model),
        "model__query_tokens": 20,
        "data__train": str(jsonl[0]),
        "data__dev": str(jsonl[1]),
        "train__queries_per_step": 8,
        "train__group_size": 4,
        "train__eval_every": 2,
        "train__epochs": 2.0,
        "optim__learning_rate": 2e-3,
        "model__device": "cpu",
        "threads": 1,
        "output": str(output),
        **changes,
    }
    made = OmegaConf.structured(TrainCommand)
    for key, value in values.items():
        OmegaConf.update(made, key.replace("__", "."), value)
    made.loss.name = "listwise"
    return OmegaConf.to_object(made)


@pytest.fixture(scope="session")
def settings():
    """`settings(model, jsonl, output, **changes)` of a run of 6 steps."""
    return make_settings


@pytest.fixture(scope="session")
def run(tiny_xlmr, jsonl, tmp_path_factory):
    """Folder of a finished run that no test changes."""
    output = tmp_path_factory.mktemp("runs") / "first"
    train(make_settings(tiny_xlmr, jsonl, output))
    return output


def same_learned(first, second):
    """Equal loss curves, and equal scores up to a shift: a shift has no gradient, so Adam lets it drift."""
    losses = [[r["loss"] for r in read_metrics(f / "metrics.jsonl") if "loss" in r] for f in (first, second)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    passages = ("heart blood", "stone", "risk of rank")
    pairs = [(query, passage) for query in ("heart 1", "river") for passage in passages]
    one, two = (Reranker.load(folder / "last").score(pairs) for folder in (first, second))
    assert np.ptp(one) > 0.1
    np.testing.assert_allclose(two - two.mean(), one - one.mean(), atol=5e-3)


@pytest.fixture(scope="session")
def assert_same_learned():
    """`assert_same_learned(one_run, other_run)`."""
    return same_learned
