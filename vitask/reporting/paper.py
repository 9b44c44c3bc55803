"""The figures that the paper reports (Bai et al., arXiv 2410.06456 v1), to be put beside one's own.

Accuracy and macro-F1, as printed there; `None` where the paper gives none or a plot cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SOURCE = "arXiv 2410.06456 v1"
MEAN = "medmnist12"
"""Stands for the mean over the twelve sets."""


class Reported(NamedTuple):
    """One pair of figures of the paper."""

    accuracy: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class PaperTable:
    """One table or figure of the paper.

    Attributes:
        title: what it shows, and where it stands.
        cells: by method and mode (`tsm`: no VLM; `off`, `on`: inference without and with the exemplar) the figures by
            data set. Methods are named as in vitask's grids.
    """

    title: str
    cells: Mapping[tuple[str, str], Mapping[str, Reported]]

    def at(self, method: str, mode: str, data: str) -> Reported | None:
        """Return what is reported for a method, a mode and a data set, if anything is.

        Example:
            >>> TABLES["table1"].at("VITask", "on", "dermamnist")
            Reported(accuracy=0.877, macro_f1=0.772)
        """
        return self.cells.get((method, mode), {}).get(data)

    def difference(self, of: tuple[str, str], over: tuple[str, str], figure: str) -> float | None:
        """Return by how much one method and mode is above another, the mean over the data sets that both have.

        Example:
            >>> round(TABLES["table2"].difference(("+ RDA", "off"), ("vanilla", "off"), "accuracy"), 3)
            0.046
        """
        own, base = self.cells.get(of, {}), self.cells.get(over, {})
        pairs = [
            (getattr(own[data], figure, None), getattr(base[data], figure, None))
            for data in own
            if data in base.keys() - {MEAN}
        ]
        gains = [a - b for a, b in pairs if a is not None and b is not None]
        return sum(gains) / len(gains) if gains else None


def _row(figures: str, *names: str) -> dict[str, Reported]:
    """Read accuracy and macro-F1 in turn; a dash stands for none."""
    values = [None if word == "-" else float(word) for word in figures.split()]
    pairs = [Reported(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
    return dict(zip(names, pairs, strict=True))


MEDMNIST = (
    "pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist",
    "breastmnist", "bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist",
)  # fmt: skip
TITLES = {
    "pathmnist": "Path", "chestmnist": "Chest", "dermamnist": "Derma", "octmnist": "OCT", "pneumoniamnist": "Pneumonia",
    "retinamnist": "Retina", "breastmnist": "Breast", "bloodmnist": "Blood", "tissuemnist": "Tissue",
    "organamnist": "OrganA", "organcmnist": "OrganC", "organsmnist": "OrganS", "medmnist12": "mean of 12",
    "ham10000": "HAM10000", "aptos2019": "APTOS", "idrid": "IDRiD", "messidor": "MESSIDOR",
}  # fmt: skip
"""The paper's names of the data sets, by vitask's."""

TABLE_1 = PaperTable(
    "Table 1: MedMNIST, one model for 12 sets",
    {
        ("TSM", "tsm"): _row(
            ".933 .926 .533 .095 .846 .792 .934 .941 .968 .965 .472 .424 "
            ".897 .866 .987 .990 .697 .681 .934 .950 .869 .898 .726 .737 .816 .772",
            *MEDMNIST, "medmnist12",
        ),
        ("LLaVA-13B", "off"): _row(
            ".935 .905 .535 .073 .731 .355 .788 .786 .881 .864 .557 .279 "
            ".750 .671 .951 .832 .613 .497 .878 .855 .796 .750 .689 .621 .759 .624",
            *MEDMNIST, "medmnist12",
        ),
        ("vanilla", "off"): _row(
            ".926 .896 .523 .024 .770 .499 .726 .704 .886 .873 .590 .370 "
            ".744 .524 .931 .818 .569 .419 .828 .801 .778 .742 .635 .578 .742 .604",
            *MEDMNIST, "medmnist12",
        ),
        ("VITask", "off"): _row(
            ".939 .911 .513 .102 .810 .633 .853 .846 .888 .872 .625 .457 "
            ".846 .798 .983 .864 .643 .538 .924 .917 .889 .871 .758 .710 .806 .710",
            *MEDMNIST, "medmnist12",
        ),
        ("VITask", "on"): _row(
            ".953 .937 .517 .129 .877 .772 .952 .952 .931 .923 .632 .522 "
            ".865 .828 .991 .870 .761 .690 .955 .950 .920 .908 .809 .765 .847 .771",
            *MEDMNIST, "medmnist12",
        ),
        ("MedDr 26B", "off"): _row(
            ".519 .134 .690 .395 .692 .661 .929 .926 .878 .842 .955 .954 .846 .822",
            "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "breastmnist", "bloodmnist", "organamnist",
        ),
    },
)  # fmt: skip

_FIVE = ("chestmnist", "dermamnist", "octmnist", "retinamnist", "tissuemnist")
TABLE_2 = PaperTable(
    "Table 2: RDA and CRT, alone and together",
    {
        ("vanilla", "off"): _row(".523 .024 .770 .499 .726 .704 .590 .370 .569 .419", *_FIVE),
        ("+ RDA", "off"): _row(".517 .078 .799 .585 .844 .837 .615 .401 .632 .523", *_FIVE),
        ("+ CRT", "off"): _row(".513 .088 .786 .593 .817 .810 .593 .413 .622 .505", *_FIVE),
        ("+ RDA + CRT", "off"): _row(".513 .102 .810 .633 .853 .846 .625 .457 .643 .538", *_FIVE),
        ("joint EP alone", "on"): _row(".514 .118 .863 .725 .951 .950 .608 .489 .760 .689", *_FIVE),
        ("+ RDA", "on"): _row(".514 .123 .873 .760 .949 .950 .627 .471 .761 .691", *_FIVE),
        ("+ CRT", "on"): _row(".513 .122 .878 .774 .949 .950 .623 .509 .762 .691", *_FIVE),
        ("+ RDA + CRT", "on"): _row(".517 .129 .877 .772 .952 .952 .632 .522 .761 .690", *_FIVE),
    },
)

_EXTERNAL = ("aptos2019", "idrid", "messidor")
TABLE_3 = PaperTable(
    "Table 3: external sets, trained on RetinaMNIST",
    {
        ("TSM", "tsm"): _row(".593 .377 .398 .316 .584 .263", *_EXTERNAL),
        ("vanilla", "off"): _row(".523 .291 .417 .223 .587 .212", *_EXTERNAL),
        ("VITask", "on"): _row(".456 .336 .379 .262 .521 .321", *_EXTERNAL),
        ("VITask-plug", "on"): _row(".668 .407 .544 .359 .652 .438", *_EXTERNAL),
    },
)

FIGURE_2 = PaperTable(
    "Figure 2: exemplar prompting and its variants on HAM10000",
    {
        ("TSM", "tsm"): _row(".850 .790", "ham10000"),
        ("VLM", "off"): _row("- .531", "ham10000"),
        ("VLM*", "off"): _row("- .658", "ham10000"),
        ("EP_cls", "on"): _row(".885 .794", "ham10000"),
        ("EP_rep", "on"): _row(".669 .115", "ham10000"),
    },
)

FIGURE_4 = PaperTable(
    "Figure 4: complete and incomplete instructions on DermaMNIST, without EP at inference",
    {
        ("vanilla, complete", "off"): _row("- .531", "dermamnist"),
        ("vanilla, incomplete", "off"): _row("- .423", "dermamnist"),
        ("VITask, complete", "off"): _row("- .633", "dermamnist"),
        ("VITask, incomplete", "off"): _row("- .595", "dermamnist"),
    },
)

TABLES = {"table1": TABLE_1, "table2": TABLE_2, "table3": TABLE_3, "fig2": FIGURE_2, "fig4": FIGURE_4, "fig5": TABLE_1}
"""By the name that a grid gives in `paper`; figure 5 draws table 1."""

METHODS = {
    frozenset({"vanilla"}): "vanilla",
    frozenset({"vanilla", "ep"}): "joint EP alone",
    frozenset({"vanilla", "ep", "rda"}): "+ RDA",
    frozenset({"vanilla", "ep", "crt"}): "+ CRT",
    frozenset({"vanilla", "ep", "rda", "crt"}): "VITask",
}


def method_of(weights: Mapping[str, float]) -> str | None:
    """Name the paper's method that has just these loss terms; none for terms that the paper does not have.

    Example:
        >>> method_of({"vanilla": 1.0, "ep": 1.0, "rda": 1.0, "crt": 0.0})
        '+ RDA'
    """
    return METHODS.get(frozenset(term for term, weight in weights.items() if weight))


def reported_for(own: PaperTable | None, names: Sequence[str], mode: str, data: str) -> tuple[str, Reported] | None:
    """Find what the paper reports of a method, mode and data set, and in which table or figure.

    Args:
        own: the table or figure that is repeated, which is looked at first.
        names: what the paper may call the method.
        mode: `tsm`, `off` or `on`.
        data: the short name of the data set.

    Example:
        >>> reported_for(None, ["VITask"], "off", "dermamnist")
        ('Table 1', Reported(accuracy=0.81, macro_f1=0.633))
        >>> reported_for(None, ["+ RDA"], "off", "digits") is None
        True
    """
    for table in (own, TABLE_1, TABLE_2, TABLE_3):
        for name in names if table else ():
            if (found := table.at(name, mode, data)) is not None:
                return table.title.partition(":")[0], found
    return None
