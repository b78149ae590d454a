"""Golden examples: answers that a version gave when it was made and has to give wherever it is loaded."""

from __future__ import annotations

import math
from typing import Any

from windlass.errors import CorruptedError
from windlass.variants.engines import Engine
from windlass.variants.rows import InvalidRowsError, rows_to_tensors
from windlass.variants.variant import GoldenExamples


class GoldenMismatchError(CorruptedError):
    """A loaded version does not give the answers that it gave when it was made; it must not serve."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the model does not reproduce its golden examples: {problem}; "
            "do not use it here, but register it again from its run"
        )
        self.problem = problem


def make(engine: Engine, rows: list[Any], *, uncompressed: Engine, tolerance: float) -> GoldenExamples:
    """Golden examples from rows as a caller sends them; each is answered alone, at batch 1.

    Raises:
        InvalidRowsError: the rows do not fit the signature.
        GoldenMismatchError: an answer is not finite.
    """
    golden = GoldenExamples(
        rows=rows, outputs=_answer(engine, rows), uncompressed=_answer(uncompressed, rows), tolerance=tolerance
    )
    for name, answers in golden.outputs.items():
        for index, answer in enumerate(answers):
            if not all(math.isfinite(value) for value in _flat(answer)):
                raise GoldenMismatchError(f"row {index} of {name} is not finite")
    return golden


def check(engine: Engine, golden: GoldenExamples) -> None:
    """Answer the golden rows at batch 1 and compare with what is recorded.

    Raises:
        GoldenMismatchError: an answer differs by more than the tolerance, absolute and relative.
    """
    expected_names = {output.name for output in engine.signature.outputs}
    if not golden.rows or golden.outputs.keys() != expected_names:
        raise GoldenMismatchError(f"they are none, or not for the outputs {sorted(expected_names)}")
    try:
        found = _answer(engine, golden.rows)
    except InvalidRowsError as error:
        raise GoldenMismatchError(f"their rows do not fit the signature: {error}") from error
    for name, answers in golden.outputs.items():
        if len(answers) != len(golden.rows):
            raise GoldenMismatchError(f"{name} has {len(answers)} answers for {len(golden.rows)} rows")
        for index, (wanted, got) in enumerate(zip(answers, found[name], strict=True)):
            _compare(name, index, _flat(wanted), _flat(got), golden.tolerance)


def _answer(engine: Engine, rows: list[Any]) -> dict[str, list[Any]]:
    answers: dict[str, list[Any]] = {output.name: [] for output in engine.signature.outputs}
    for row in rows:
        for name, tensor in engine.predict(rows_to_tensors(engine.signature, [row])).items():
            answers[name].append(tensor[0].tolist())
    return answers


def _flat(answer: object) -> list[float]:
    values = []
    for value in answer if isinstance(answer, list) else [answer]:
        if not isinstance(value, int | float):
            raise GoldenMismatchError("an answer is not a number or a list of numbers")
        values.append(float(value))
    return values


def _compare(name: str, index: int, wanted: list[float], got: list[float], tolerance: float) -> None:
    if len(wanted) != len(got):
        raise GoldenMismatchError(f"row {index} of {name} has {len(got)} values, not {len(wanted)}")
    for expected, found in zip(wanted, got, strict=True):
        # Written so that NaN is a mismatch.
        if not abs(found - expected) <= tolerance + tolerance * abs(expected):
            raise GoldenMismatchError(f"row {index} of {name} is {found:.6g}, not {expected:.6g} ± {tolerance:g}")
