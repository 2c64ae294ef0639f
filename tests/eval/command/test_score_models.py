"""The models of the command: every way to write them, every mistake at once."""

import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema import EvalModelSettings
from uprank.eval.command.models import parse_models


def settings(**values):
    from uprank.configs.schema_eval import EvalCommand

    model = values.pop("model", {})
    made = EvalCommand(data=None, output="x", **values)
    for key, value in model.items():
        setattr(made.model, key, value)
    return made


def test_models_are_parsed_with_their_own_settings():
    given = {"base": "a", "int8": {"path": "b", "backend": "onnx", "precision": "fp32", "revision": None}}
    found = parse_models(settings(models=given, model={"precision": "bf16"}))
    assert found == {
        "base": EvalModelSettings("a", precision="bf16"),
        "int8": EvalModelSettings("b", backend="onnx"),
    }
    assert parse_models(settings(models=["runs/x/best", "runs/y/best", "z"], model={"backend": "onnx"})) == {
        "x/best": EvalModelSettings("runs/x/best", backend="onnx"),
        "y/best": EvalModelSettings("runs/y/best", backend="onnx"),
        "z": EvalModelSettings("z", backend="onnx"),
    }
    alone = settings(model={"path": "runs/best", "revision": "v1"})
    assert parse_models(alone) == {"best": EvalModelSettings("runs/best", revision="v1")}
    assert parse_models(settings()) == {}


def test_wrong_models_are_named_all_at_once():
    given = {"a": {"backend": "tf", "size": 3}, "b": {"path": "x", "precision": "int4"}}
    with pytest.raises(UserError) as caught:
        parse_models(settings(models=given, model={"path": "y"}))
    assert caught.value.problems[0] == "model.path and models are both set; give one of them"
    with pytest.raises(UserError) as caught:
        parse_models(settings(models=given))
    assert caught.value.problems == [
        "models.a.size: no such setting; allowed are path, backend, precision, revision, "
        "query_prompt, passage_prompt",
        "models.a: has no path",
        "models.a.backend=tf: allowed are uprank, sentence_transformers, flag_embedding, onnx, openvino",
        "models.b.precision=int4: allowed are auto, fp32, bf16, fp16",
    ]
    with pytest.raises(UserError, match="two models are called 'x'"):
        parse_models(settings(models=["x", "x"]))
    with pytest.raises(UserError, match="allowed are"):
        parse_models(settings(models=3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": {"a": None}}, "models.a=None: allowed are PATH and {path: PATH, …}"),
        ({"models": ["x", None]}, "models.None=None: allowed are PATH"),
        ({"models": {"a": ["x"]}}, "models.a=['x']: allowed are PATH"),
        ({"models": {"a": {"path": ["x"]}}}, "models.a.path=['x']: allowed is a text"),
        ({"models": {"a": {"path": "x", "revision": {"b": 1}}}}, "models.a.revision={'b': 1}: allowed is"),
        ({"models": {"": "x"}}, "models: a name is empty"),
        ({"model": {"path": ""}}, "model.path is empty"),
    ],
)
def test_what_names_no_model(given, message):
    with pytest.raises(UserError) as caught:
        parse_models(settings(**given))
    assert len([problem for problem in caught.value.problems if problem.startswith(message)]) == 1
    assert len(caught.value.problems) == 1


def test_a_number_is_a_path():
    assert parse_models(settings(models={"a": 7})) == {"a": EvalModelSettings("7")}
