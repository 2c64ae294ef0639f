"""One pass over splits: counts, kinds of problems with their places, lengths."""

import random

import pytest
from uprank.data.checks import characters, lengths
from uprank.data.checks.characters import LONGEST, text_problems
from uprank.data.checks.duplicates import find_contradictions
from uprank.data.checks.lengths import Lengths, measure_lengths
from uprank.data.checks.splits import CheckedSource, Shared, SourceCounts, check_splits
from uprank.data.encoding.pairs import PairEncoder
from uprank.data.groups import Group
from uprank.data.problems import Findings
from uprank.data.store import group_store as store


def group(query, positives=("p",), negatives=("n",), where="f:1", **rest):
    return Group(query, tuple(positives), tuple(negatives), where, **rest)


def look(*groups, examples=5):
    """Findings of one source."""
    findings = Findings(examples)
    check_splits({"train": [CheckedSource("f", groups)]}, findings)
    return findings


def test_counts():
    groups = [
        group("a", "pq", "nmo"),
        group("b", "p", ""),
        group("A.", "r"),
        group("a"),
        group("b", "p", "n"),
    ]
    (summary,), shared = check_splits({"train": [CheckedSource("f", groups)]}, Findings())
    assert summary == SourceCounts("train", "f", 5, 6, 6, (1, 1, 2), (0, 1, 3), 1, 3, None)
    assert shared == []
    (even,), _ = check_splits({"dev": [CheckedSource("f", [group("a", "p"), group("b", "pq")])]}, Findings())
    assert even.positives_per_group == (1, 1, 2)
    (empty,), _ = check_splits({"dev": [CheckedSource("f", [])]}, Findings())
    assert empty == SourceCounts("dev", "f", 0, 0, 0, (0, 0, 0), (0, 0, 0), 0, 0, None)


def test_repeated_queries_are_counted_over_the_sources_of_a_split():
    sources = [
        CheckedSource("f", [group("a"), group("b")]),
        CheckedSource("g", [group("c"), group("A"), group("c")]),
    ]
    summaries, _ = check_splits({"train": sources}, Findings())
    assert [(summary.path, summary.repeated) for summary in summaries] == [("f", 0), ("g", 2)]


def test_a_chunk_more_or_less_changes_nothing(monkeypatch):
    generator = random.Random(0)
    groups = [
        group(f"q {generator.randrange(30)}", f"p{generator.randrange(9)}", "nm" * (k % 3), f"f:{k}")
        for k in range(100)
    ]

    def found():
        findings = Findings(None)
        splits = {"train": [CheckedSource("f", groups[:60])], "test": [CheckedSource("g", groups[60:])]}
        return check_splits(splits, findings), findings

    whole = found()
    monkeypatch.setattr(store, "ROWS", 7)
    assert found() == whole
    assert {"leak", "duplicate passage", "duplicate row"} <= whole[1].counts.keys()


def test_every_two_splits_are_compared():
    splits = {
        "train": [
            CheckedSource("a", [group("alpha", ["one"], ["two", "three"], "a:1")]),
            CheckedSource("b", [group("beta", ["four"], where="b:1")]),
        ],
        "dev": [
            CheckedSource(
                "c", [group("beta", ["four"], ["two"], "c:1"), group("gamma", ["five"], where="c:2")]
            )
        ],
        "test": [
            CheckedSource(
                "d", [group("Alpha", ["six"], ["seven"], "d:1"), group("gamma!", ["five"], ["x"], "d:2")]
            )
        ],
    }
    findings = Findings()
    summaries, shared = check_splits(splits, findings)
    assert shared == [
        Shared("train", "dev", 1, 0, 3, 1),  # n, two, four
        Shared("train", "test", 1, 0, 0, 0),
        Shared("dev", "test", 1, 0, 1, 1),
    ]
    assert [(summary.split, summary.path) for summary in summaries] == [
        ("train", "a"),
        ("train", "b"),
        ("dev", "c"),
        ("test", "d"),
    ]
    assert sorted(findings.examples["leak"]) == [
        "a:1: query is also in test, d:1: 'alpha'",
        "b:1: query is also in dev, c:1: 'beta'",
        "c:2: query is also in test, d:2: 'gamma'",
    ]
    assert findings.counts == {"leak": 3, "shared passages": 2}


def test_planted_leaks_are_all_found_and_nothing_else():
    generator = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randrange(4, 10))) for _ in range(500)]

    def text(number):
        return " ".join([*generator.choices(words, k=9), str(number)])

    train = [group(text(k), [f"p{k}"], [f"n{k}"], f"a:{k}") for k in range(500)]
    test = [group(text(1000 + k), [f"r{k}"], [f"s{k}"], f"b:{k}") for k in range(100)]
    planted = {
        "same": lambda query: query,
        "case": str.upper,
        "blanks": lambda query: f"  {query.replace(' ', '   ')}",
        "punctuation": lambda query: f"{query.replace(' ', ', ', 2)}?",
        "article": lambda query: f"The {query}",
        "joined": lambda query: query.replace(" ", "-", 1).replace("-", "", 1),
    }
    long = next(k for k in range(500) if len(train[k].query.split()[3]) > 6)
    planted["letter left out"] = lambda query: query.replace(word, word[:2] + word[3:])
    planted["neighbours"] = lambda query: query.replace(word, word[:2] + word[3] + word[2] + word[4:])
    for place, change in enumerate(planted.values()):
        query = train[long].query
        word = query.split()[3]
        test.append(group(change(query), ["r"], ["s"], f"b:{100 + place}"))
        findings = Findings()
        _, (shared,) = check_splits(
            {"train": [CheckedSource("a", train)], "test": [CheckedSource("b", test)]}, findings
        )
        assert shared.queries == 1, list(planted)[place]
        assert findings.counts.get("leak", 0) + findings.counts.get("misspelt leak", 0) == 1
        test.pop()
    findings = Findings()
    check_splits({"train": [CheckedSource("a", train)], "test": [CheckedSource("b", test)]}, findings)
    assert findings.counts == {}


def test_positive_and_negative_that_are_nearly_the_same():
    text = "the heart pumps blood through the body of the small animal called a mouse"
    findings = look(group("q", [text, "other"], [text + ".", text.replace("mouse", "house"), "x"], "f:7"))
    assert findings.counts == {"near-duplicate": 2}
    assert findings.examples["near-duplicate"][0].startswith("f:7: 1.00 similar: negative ")


def test_rows_that_stand_twice():
    rows = [
        group("a b", ["p", "q"], ["n"], "f:1"),
        group("c", ["p"], ["n"], "f:2"),
        group("A b!", ["Q", "p"], ["n"], "f:3"),
        group("c", ["n"], ["p"], "f:4"),  # the other way round
        group("c", ["p"], ["n", "m"], "f:5"),
    ]
    findings = look(*rows)
    assert findings.examples["duplicate row"] == ["f:3: the row stands before, f:1"]
    assert look(group("x", ["y"], ["n"]), group("y", ["x"], ["n"])).counts == {}
    assert look(*rows[:1] * 9, examples=2).counts["duplicate row"] == 8


def test_passages_that_stand_twice_in_a_row():
    findings = look(
        group("q", ["Same", "one"], ["n", "N."], "f:1"), group("n", ["q"], ["n", "other"], "f:2"), group("x")
    )
    assert findings.examples["duplicate passage"] == ["f:1: negative stands more than once: 'N.'"]
    assert findings.counts["duplicate passage"] == 1


def test_rows_of_one_query_that_contradict_each_other():
    rows = [
        group("What is it?", ["this", "that"], ["both"], "f:1"),
        group("other", ["both"], ["this"], "f:2"),
        group("what is it", ["more"], ["THIS", "new"], "f:3"),
        group("What is it", ["both"], ["x"], "f:4"),
    ]
    findings = look(*rows)
    assert findings.examples["contradiction"] == [
        "f:3: negative here and positive of the same query in f:1: 'THIS'",
        "f:4: positive here and negative of the same query in f:1: 'both'",
    ]
    assert findings.counts == {"contradiction": 2}


def test_grades_that_differ():
    findings = look(
        group("q", ["a", "b"], ["c"], "f:1", grades=(3, 1)),
        group("q", ["a", "b"], ["d"], "f:2", grades=(2, 1)),
    )
    assert findings.examples == {"different grades": ["f:2: grade 2 here and 3 in f:1: 'a'"]}
    rows = [group("q", ["a", "A"], ["c"], "f:1", grades=(3, 1)), group("q", ["b"], ["d"], "f:2")]
    assert look(*rows).counts == {"duplicate passage": 1}


def test_only_so_many_rows_are_looked_at():
    from array import array

    rows = [group("q", ["a"], ["b"], "f:1"), group("q", ["b"], ["a"], "f:2")] * 3
    keys = array("Q", [1, 1, 2, 2, 3, 3])
    findings = Findings()
    assert find_contradictions(keys, rows.__getitem__, findings, most=4) == 6
    assert findings.counts == {"contradiction": 4}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a text\twith\nlines\r\n", []),
        ("naïve café, ÉCOLE «été» — 合同 😀 Größe", []),
        ("ESPAÑA; SÃO PAULO; À la carte; Â", []),
        ("“café…”", []),
        ("«été\xa0»", []),
        ("«aquí\xa0» y «así…»", []),  # no UTF-8 at all
        ("bell\x07", ["control characters"]),
        ("zero\x00", ["control characters"]),
        ("c1 \x9d", ["control characters"]),
        ("mark\ufeff", ["control characters"]),
        ("lost \ufffd", ["broken characters"]),
        ("cafÃ©", ["broken characters"]),
        ("itâ€™s", ["broken characters"]),
        ("å\x90ˆå\x90Œ", ["control characters", "broken characters"]),
        ("ðŸ˜€", ["broken characters"]),
        ("ÐŸÑ€Ð¸", ["broken characters"]),
        ("\x07 \ufffd", ["control characters", "broken characters"]),
    ],
)
def test_odd_characters(text, kinds):
    assert [kind for kind, _ in text_problems(text, "passage")] == kinds


def test_what_was_decoded_wrongly_is_found_whatever_it_was():
    for right in ("é ü ñ", "“quoted” – dash", "合同违约", "привет", "αβγ", "😀"):
        wrong = "".join(
            bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
            for byte in right.encode()
        )
        assert "broken characters" in [kind for kind, _ in text_problems(wrong, "query")], right
        assert text_problems(right, "query") == []


def test_absurd_lengths():
    for role, most in LONGEST.items():
        assert text_problems("x" * most, role) == []
        ((kind, words),) = text_problems("x" * (most + 1), role)
        assert (kind, f"{most + 1:,}" in words) == ("long text", True)
    findings = look(group("x" * 10_001, ["y" * 10_001], ["z" * 100_001], "f:3"))
    assert findings.counts == {"long text": 2}
    assert all(
        example.startswith("f:3: ") and len(example) < 200 for example in findings.examples["long text"]
    )


def test_the_place_of_what_is_odd_is_shown():
    ((_, words),) = text_problems("a" * 50 + "\x07" + "b" * 50, "query")
    assert words == "U+0007 in query '…" + "a" * 20 + "\\x07" + "b" * 19 + "…'"
    assert characters.text_problems("x" * 30 + " cafÃ©", "query")[0][1].startswith("'…")


def test_lengths_are_those_of_whole_pairs(tiny_bert, monkeypatch):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    encoder = PairEncoder(tokenizer, query_tokens=4, max_tokens=20)
    groups = [group("rank query", [" ".join(["heart"] * n) for n in (1, 14, 15)], [" ".join(["cell"] * 95)])]
    # 2 + n + 3 special tokens: 6, 19, 20 and 100; only the last is above 20.
    assert measure_lengths(groups, encoder) == Lengths((2, 2, 2), (14, 95, 95), (19, 100, 100), 0.25, 20, 1)
    assert measure_lengths([], encoder) is None
    prompted = [group("rank", ["heart"], [], query_prompt="query query ", passage_prompt="cell ")]
    assert measure_lengths(prompted, encoder).pair == (8, 8, 8)
    monkeypatch.setattr(lengths, "SAMPLE", 3)
    monkeypatch.setattr(lengths, "CHUNK", 2)
    many = [group("rank", ["heart"], ["cell " * k]) for k in range(1, 9)]
    assert measure_lengths(many, encoder) == Lengths((1, 1, 1), (1, 7, 7), (5, 11, 11), 0.0, 20, 3)
