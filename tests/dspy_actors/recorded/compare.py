"""A differential run against DSPy 3.4.1: both sides in one process, on random completions and on saved files.

    python -m tests.dspy_actors.recorded.compare [seed] [rounds]

Prints each difference and their number; needs `dspy==3.4.1` beside this project. Known differences, left out: an
indented header (DSPy leaves signs of it in the value), rare line separators (DSPy makes line feeds of them) and a
completion without any header where every output may be missing (DSPy answers with `None`). Of objects: those without
any of the keys, likewise; what is no text in a `str` (Python's spelling in DSPy, JSON here, where null is refused); and
`true` for `Literal[1]` (DSPy leaves it as it is).
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError as TheirParseError

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.adapters.layout import HEADER
from dspy_actors.errors import AdapterParseError
from dspy_actors.example import Example
from dspy_actors.signature.signature import make_signature
from dspy_actors.state import PredictorState, load, save
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES
from tests.dspy_actors.recorded.record import COMPLETIONS, JSON_COMPLETIONS, plain

KINDS = (
    "str", "int", "float", "bool", "Literal['yes', 'no']", "Literal[1, 'b']", "Colour", "list[str]", "list[int]",
    "dict[str, Any]", "Optional[int]", "Optional[str]", "Place", "list[Place]", "int | str", "tuple[int, int]",
)  # fmt: skip
PIECES = (
    "[[ ## a ## ]]", "[[ ## b ## ]]", "[[ ## completed ## ]]", "[[ ## c ## ]]", "\n", "\n\n", " ", "yes", "'no'", "1",
    "2.0", "True", "null", '["x", "y"]', "[1, 2", '{"name": "Ulm"}', "{'name': 'Ulm', 'zone': 3}", "red", "GREEN",
    "text of some length", '"quoted"', "```json\n", "\n```", "b", "-4", "None", "(1, 2)", ",", "é", "\t",
)  # fmt: skip

VALUES = tuple(piece for piece in PIECES if "[[" not in piece and piece.strip())


def random_completion(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return f"[[ ## a ## ]]\n{''.join(rng.choice(VALUES) for _ in range(rng.choice((1, 1, 2, 3))))}"
    if rng.random() < 0.5:
        text = "\n\n".join(f"[[ ## {name} ## ]]\n{rng.choice(PIECES)}" for name in rng.sample("abc", rng.randint(1, 3)))
        return text + rng.choice(("", "\n\n[[ ## completed ## ]]", "\nmore"))
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 14)))


JSON_VALUES = (
    '"yes"', '"\'no\'"', "1", "2.0", "true", "null", '["x", "y"]', "[1, 2]", '{"name": "Ulm"}',
    '{"name": "Ulm", "zone": 3}', '"red"', '"GREEN"', '"text, of {some} length"', '"\\"quoted\\" \\u00fc"', '"4"',
    '"[1, 2]"', '"{\'name\': \'Ulm\'}"', "-4", '""',
)  # fmt: skip
AROUND = (("", ""), ("", "\n"), ("```json\n", "\n```"), ("Here it is:\n", ""), ("", "\nAnything else?"))


def random_object(rng: random.Random) -> str:
    """An object with some of the outputs, once each, as models write it; now and then it is cut off."""
    before, behind = rng.choice(AROUND)
    space = rng.choice(("", " ", "\n  "))
    entries = [f'{space}"{name}": {rng.choice(JSON_VALUES)}' for name in rng.sample("abc", rng.randint(0, 3))]
    text = f"{before}{{{','.join(entries)}}}{behind}"
    return text if rng.random() < 0.9 else text[: rng.randint(0, len(text))]


def read(parse: Any, signature: Any, text: str) -> Any:
    try:
        return plain(parse(signature, text))
    except (AdapterParseError, TheirParseError, TypeError):  # TypeError: DSPy looks an object up among enum members
        return "refused"


def compare_parses(seed: int, rounds: int) -> int:
    rng = random.Random(seed)
    made: dict[str, tuple[Any, Any]] = {}
    different = compared = read_by_both = 0
    recorded = [completion for _, completion in COMPLETIONS]
    for number in range(rounds):
        text = recorded[number] if number < len(recorded) else random_completion(rng)
        arrow = f"q -> a: {rng.choice(KINDS)}" + (f", b: {rng.choice(KINDS)}" if rng.random() < 0.2 else "")
        heads = [line for line in text.splitlines() if HEADER.match(line.strip())]
        if not heads or any(line[0] != "[" for line in heads):
            continue
        if arrow not in made:
            custom = {**CUSTOM_TYPES}
            made[arrow] = (make_signature(arrow, custom_types=custom), dspy.Signature(arrow, custom_types=custom))
        ours, theirs = made[arrow]
        mine, other = read(ChatAdapter().parse, ours, text), read(dspy.ChatAdapter().parse, theirs, text)
        compared += 1
        read_by_both += mine != "refused" and other != "refused"
        if repr(mine) != repr(other):
            different += 1
            print(f"{arrow}\n  {text!r}\n  ours  {mine}\n  DSPy  {other}")
    print(f"{compared} completions compared, {read_by_both} read by both")
    return different


def compare_objects(seed: int, rounds: int) -> int:
    rng = random.Random(seed)
    made: dict[str, tuple[Any, Any]] = {}
    different = read_by_both = 0
    recorded = [completion for _, completion in JSON_COMPLETIONS]
    for number in range(rounds):
        text = recorded[number] if number < len(recorded) else random_object(rng)
        arrow = f"q -> a: {rng.choice(KINDS)}" + (f", b: {rng.choice(KINDS)}" if rng.random() < 0.2 else "")
        if arrow not in made:
            custom = {**CUSTOM_TYPES}
            made[arrow] = (make_signature(arrow, custom_types=custom), dspy.Signature(arrow, custom_types=custom))
        ours, theirs = made[arrow]
        mine, other = read(JSONAdapter().parse, ours, text), read(dspy.JSONAdapter().parse, theirs, text)
        known = any(field.annotation is str for field in ours.output_fields.values()) or ("[1, 'b']" in arrow)
        if known or not any(f'"{name}"' in text for name in ours.output_fields):
            continue
        read_by_both += mine != "refused" and other != "refused"
        if repr(mine) != repr(other):
            different += 1
            print(f"{arrow}\n  {text!r}\n  ours  {mine}\n  DSPy  {other}")
    print(f"{rounds} objects compared, {read_by_both} read by both")
    return different


def compare_files(folder: Path) -> int:
    """Our files in DSPy, and DSPy's again in ours."""

    class Composed(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cot = dspy.ChainOfThought("question -> answer")
            self.many = [dspy.Predict("a: list[str] -> b: int")]

    demos = (Example(question="q", reasoning="r", answer="ü"), {"augmented": True, "question": "p", "answer": "a"})
    cot = make_signature("question -> reasoning, answer", "Be brief.").with_updated_fields("answer", desc="one word")
    lm = {"model": "openai/gpt-4o-mini", "temperature": 0.3, "api_key": "sk-x", "max_tokens": 9}
    states = {
        "cot.predict": PredictorState(cot, demos, lm),
        "many[0]": PredictorState(make_signature("a: list[str] -> b: int")),
    }
    ours, theirs = folder / "ours.json", folder / "theirs.json"
    save(ours, states)
    program = Composed()
    program.load(str(ours))
    program.save(str(theirs))
    first, second = (json.loads(path.read_text("utf-8")) for path in (ours, theirs))
    loaded = load(theirs, states)
    predictor = program.cot.predict
    checks = {
        "instructions": predictor.signature.instructions == "Be brief.",
        "description": predictor.signature.output_fields["answer"].json_schema_extra["desc"] == "one word",
        "demos": [dict(demo) for demo in predictor.demos] == [dict(demo.items()) for demo in demos],
        "lm": predictor.lm.model == "openai/gpt-4o-mini" and predictor.lm.kwargs["temperature"] == 0.3,
        "file": all(first[name][key] == second[name][key] for name in states for key in ("demos", "signature")),
        "back": loaded["cot.predict"].signature.equals(cot),
    }
    bare = folder / "bare.json"
    qa = make_signature("question -> answer", "Alone.")
    save(bare, {"self": PredictorState(qa, ({"question": "q", "answer": 1},))})
    alone = dspy.Predict("question -> answer")
    alone.load(str(bare))
    checks["bare"] = alone.signature.instructions == "Alone." and alone.demos == [{"question": "q", "answer": 1}]
    for name, holds in checks.items():
        print(f"{name}: {'the same' if holds else 'DIFFERENT'}")
    return sum(not holds for holds in checks.values())


def main() -> None:
    seed, rounds = (int(given) for given in [*sys.argv[1:], "0", "20000"][:2])
    with tempfile.TemporaryDirectory() as folder:
        different = compare_files(Path(folder))
    different += compare_parses(seed, rounds)
    different += compare_objects(seed, rounds)
    print(f"{different} differences")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
