"""`analysis.json`: what is known of a few variants beyond their quality.

Everything is of the same rows of one split, and each figure that depends on a variant is in a mapping `by_variant`
from the variant's name, in the order of `Analysis.variants`: the chosen one first, the uncompressed one last (one
entry, where they are the same or nothing was chosen). Every `Interval` is a bootstrap interval at `confidence`;
every `drop` is paired by row and positive where the answers got worse, whatever the direction of the metric.
A part that does not apply, such as fairness without sensitive columns, is empty or None; `notes` says why where that
needs saying.
"""

from __future__ import annotations

from typing import Literal

from windlass.data.description import SplitName
from windlass.evaluation.documents import Interval
from windlass.schema import Document, Section

ANALYSIS_NAME = "analysis.json"

PerturbationKind = Literal["noise", "blur", "shift", "missing", "shuffled"]
AttackMethod = Literal["fgsm", "pgd", "random"]
Unit = Literal["grey levels", "pixels", "standard deviations"]
ErrorMeasure = Literal["error_rate", "absolute_error"]
PartName = Literal["robustness", "importance", "image_examples", "adversarial"]
"""The parts that ask for answers to changed rows."""


class Degraded(Section):
    """The main metric on changed rows."""

    quality: Interval
    drop: Interval
    """Against the same variant's answers to the same rows, unchanged."""


class Perturbation(Section):
    """One change of all rows that nobody meant badly.

    Of images: Gaussian `noise` (grey levels of 0 to 255), Gaussian `blur` and `shift` (pixels). Of tables: one column
    `missing` in every row or `shuffled` among the rows, and `noise` on all numbers at once (standard deviations).
    """

    kind: PerturbationKind
    column: str | None = None
    """Of `missing` and `shuffled`."""
    strength: float | None = None
    """Of the others, in `unit`: the standard deviation of noise and blur, how far the picture is moved."""
    unit: Unit | None = None
    by_variant: dict[str, Degraded]


class Attack(Section):
    """Rows changed on purpose, by at most `strength` in each pixel or number.

    `fgsm` is one step along the sign of the loss's gradient, `pgd` several with projection, both on the uncompressed
    torch model; the changed rows then go through each variant's engine, so the uncompressed variant is attacked with
    its own gradients and the others by transfer. `random` moves each value by `strength` up or down by chance: what
    the same size does without intent.
    """

    method: AttackMethod
    strength: float
    unit: Unit
    by_variant: dict[str, Degraded]


class Adversarial(Section):
    """Attacks by method, then by strength."""

    rows: int
    """Attacked: the first ones of the analysed rows."""
    attacks: tuple[Attack, ...]


class Condition(Section):
    """A part of a slice's definition: `value` of a category, or from `low` (included) to `high` (excluded).

    None for `low` or `high` is no bound there. All three None: the value is missing.
    """

    column: str
    """A column's name; of images `class`, `brightness` or `contrast`, both of these in grey levels."""
    value: str | None = None
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """As people read it: `city is Ulm`, `age from 41 to 55`, `income missing`."""
        if self.value is not None:
            return f"{self.column} is {self.value}"
        if self.low is not None and self.high is not None:
            return f"{self.column} from {self.low:.4g} to {self.high:.4g}"
        if self.low is not None:
            return f"{self.column} from {self.low:.4g}"
        return f"{self.column} missing" if self.high is None else f"{self.column} below {self.high:.4g}"


class Slice(Section):
    """A group of rows that is answered worse than the others."""

    conditions: tuple[Condition, ...]
    """One or two, all of which hold."""
    rows: int
    error: Interval
    """Mean error of these rows, by `Slices.measure`."""
    rest: float
    """Mean error of all other rows."""
    effect: Interval
    """`error` less `rest`."""
    p_value: float
    """One-sided, corrected for all slices that were tested (Benjamini and Hochberg, 1995)."""
    added: Interval | None
    """How much more error this variant has here than the uncompressed one; None of the uncompressed one."""


class Slices(Section):
    """The worst groups, found by the columns' values, worst first, at most ten of each variant."""

    measure: ErrorMeasure
    """`error_rate`: share of wrong classes; `absolute_error`: mean of it, in the target's unit."""
    min_rows: int
    """Smaller groups were not looked at."""
    tested: int
    """Groups looked at: what `p_value` is corrected for."""
    false_discovery_rate: float
    """Share of the shown groups that may be there by chance."""
    by_variant: dict[str, tuple[Slice, ...]]


class GroupRates(Section):
    """One group of a sensitive column.

    The rates are None for numbers, and where the group has no row to count them over.
    """

    group: str
    """The value, or the range of numbers, or `missing`."""
    rows: int
    accuracy: Interval | None = None
    selection_rate: Interval | None = None
    """Share answered with `positive_class`."""
    true_positive_rate: Interval | None = None
    false_positive_rate: Interval | None = None
    mean_error: Interval | None = None
    """Of numbers: answer minus target, so that a group rated too low is negative."""
    absolute_error: Interval | None = None


class GroupFairness(Section):
    """The groups of one column as one variant answers them; differences are largest minus smallest over the groups."""

    positive_class: str | None
    """The class whose rates are shown: the second of two; of more, one against the rest, the class with the largest
    equalized odds difference. None for numbers."""
    groups: tuple[GroupRates, ...]
    demographic_parity_difference: Interval | None = None
    """Of the selection rates."""
    equalized_odds_difference: Interval | None = None
    """The larger one of the differences of true and of false positive rates."""
    mean_error_difference: Interval | None = None
    """Of numbers: of the mean errors."""


class Fairness(Section):
    """One column of `evaluate.sensitive`."""

    column: str
    is_feature: bool
    """Whether the model sees the column, or it was only carried beside the features."""
    left_out: int
    """Rows in groups too small to be compared."""
    by_variant: dict[str, GroupFairness]


class ColumnImportance(Section):
    """What one column is worth: how much the main metric drops when its values are shuffled among the rows."""

    column: str
    drop: Interval
    """Mean over the draws; the interval is over rows."""
    draws: tuple[float, ...]
    """The drop of each draw."""


class Importance(Section):
    """Permutation importance (Breiman, 2001), most important first."""

    columns_left_out: int
    """Columns that are not listed: less important, or not looked at."""
    by_variant: dict[str, tuple[ColumnImportance, ...]]


class ExplainedAnswer(Section):
    """What one variant answered to an example, and because of which pixels."""

    answered: str
    probability: float
    """Of the answered class."""
    largest_influence: float
    """How far covering the most important part moves that probability, at most: a map is colored relative to it."""
    heat_map: str
    """PNG beside this document: the picture in grey; red where covering it lowers the answered class's probability,
    blue where that raises it."""


class ImageExample(Section):
    """One picture of the split."""

    row: int
    """Its position in the split, from 0."""
    picture: str
    """PNG beside this document."""
    actual: str
    by_variant: dict[str, ExplainedAnswer]


class ImageExamples(Section):
    """Pictures explained by occlusion (Zeiler and Fergus, 2014) of the served graph: right ones, then wrong ones."""

    window_pixels: int
    """Side of the square that covers a part of the picture with the mean colour of train."""
    examples: tuple[ImageExample, ...]


class LeftOut(Section):
    """A part of the analysis for which the time was too short."""

    part: PartName
    done: int
    """Changes, columns, pictures or attacks that were looked at."""
    planned: int


class Analysis(Document):
    """Named variants on some rows of one split, looked at more closely."""

    format_version: Literal[1] = 1
    variants: tuple[str, ...]
    uncompressed: str
    """One of `variants`."""
    split: SplitName
    rows: int
    """Analysed; drawn with a fixed seed where the split has more."""
    rows_of_split: int
    metric: str
    """The task's main metric, in which quality and drops are given."""
    confidence: float
    clean: dict[str, Interval]
    """The main metric of each variant on the analysed rows as they are."""
    robustness: tuple[Perturbation, ...]
    adversarial: Adversarial | None
    slices: Slices
    fairness: tuple[Fairness, ...]
    importance: Importance | None
    """Of tables."""
    image_examples: ImageExamples | None
    notes: tuple[str, ...]
    """Sentences on what was left out and why."""
    left_out: tuple[LeftOut, ...] = ()
    """Because `evaluate.analysis.max_time` was over."""

    @property
    def files(self) -> tuple[str, ...]:
        """The PNG files that lie beside the document."""
        examples = self.image_examples.examples if self.image_examples else ()
        maps = [answer.heat_map for example in examples for answer in example.by_variant.values()]
        return (*(example.picture for example in examples), *maps)
