"""Launch files: those there are work with the loop; DeepSpeed and the like are refused, and why."""

from pathlib import Path

import pytest
import uprank.configs
import yaml
from uprank.configs.errors import UserError
from uprank.model.reranker import Reranker
from uprank.train.optim.fsdp import is_wanted, shard, sharding_problems
from uprank.train.run import train
from uprank.train.start.launchers import REFUSED, launch_problems
from uprank.train.start.preflight import read_inputs

FOLDER = Path(uprank.configs.__file__).parent / "accelerate"


def test_no_launch_file_asks_for_what_is_refused():
    files = sorted(FOLDER.glob("*.yaml"))
    assert {"cpu", "one_gpu", "multi_gpu", "multi_node", "fsdp"} <= {file.stem for file in files}
    for file in files:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert values["distributed_type"] in ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP"), file
        assert values["mixed_precision"] == "no", file
        assert not {"deepspeed_config", "parallelism_config"} & values.keys(), file
        assert values.get("fsdp_config") == ({"fsdp_version": 2} if file.stem == "fsdp" else None), file


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_started_so_is_refused_before_anything_is_loaded(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch, name
):
    assert launch_problems({name: "false"}) == launch_problems({}) == []
    monkeypatch.setenv(name, "true")
    with pytest.raises(UserError) as caught:
        train(settings(tiny_xlmr, jsonl, tmp_path / "run", optim__learning_rate=-1.0))
    assert caught.value.problems[0].startswith("started with ")
    assert "configs/accelerate/multi_gpu.yaml" in caught.value.problems[0]
    assert "optim.learning_rate=-1.0" in caught.value.problems[1]  # all at once
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP version 1"),
        ({"FSDP_VERSION": None}, "FSDP version 1"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
        ({}, None),
    ],
)
def test_of_fsdp_there_is_version_2_on_the_device(change, named):
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "false", **change}
    problems = launch_problems({key: value for key, value in asked.items() if value})
    assert len(problems) == (named is not None)
    assert all(named in problem and "configs/accelerate/fsdp.yaml" in problem for problem in problems)


def test_what_does_not_go_with_fsdp_is_refused_before_anything_is_loaded(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch
):
    refused = {
        "model__precision": "fp16", "optim__name": "adafactor", "model__lora__rank": 4, "plan": True,
    }  # fmt: skip
    given = settings(tiny_xlmr, jsonl, tmp_path / "run", **refused)
    assert sharding_problems(given) == []
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        read_inputs(given)
    for name in ("model.precision=fp16", "optim.name=adafactor", "model.lora.rank", "plan=true"):
        assert sum(problem.startswith(name) and "FSDP" in problem for problem in caught.value.problems) == 1
    assert sharding_problems(settings(tiny_xlmr, jsonl, tmp_path / "run")) == []


def test_a_model_that_is_padded_is_refused(tiny_electra):
    with pytest.raises(UserError, match="cannot be trained under FSDP"):
        shard(Reranker.load(tiny_electra, device="cpu").scorer, None)


@pytest.mark.parametrize("kind", ["fsdp", "deepspeed"])
def test_accelerate_says_so_by_the_names_that_are_looked_at(monkeypatch, kind):
    """What `accelerate launch --use_fsdp` and `--use_deepspeed` write into the processes' environment."""
    launcher = pytest.importorskip("accelerate.commands.launch")
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launcher.launch_command_parser().parse_args([f"--use_{kind}", "--num_processes", "2", "x.py"])
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False, raising=False)
    if kind == "deepspeed":
        from accelerate.utils.launch import prepare_deepspeed_cmd_env

        pytest.importorskip("deepspeed")
        environment = prepare_deepspeed_cmd_env(arguments)[1]
    else:
        arguments, *_ = launcher._validate_launch_command(arguments)
        environment = prepare_multi_gpu_env(arguments)
    assert len(launch_problems(environment)) == 1  # of FSDP its version, as accelerate's own choice is 1
    assert is_wanted({**environment, "WORLD_SIZE": "2"}) == (kind == "fsdp")
    assert not is_wanted({**environment, "WORLD_SIZE": "1"})
