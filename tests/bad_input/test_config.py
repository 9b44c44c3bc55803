"""Values that fit their types, and do not fit each other or what they name."""

from __future__ import annotations

import pytest

from .case import bad, check, write
from .material import TRAIN

CASES = {
    "no such stage to start from": bad(TRAIN + "stage=crt | stage.init_from=epp", 2, "stage 'epp'"),
    "starts from a TSM": bad(TRAIN + "stage=vanilla | stage.init_from=tsm", 2, "stage.init_from=tsm"),
    "starts from the pipeline": bad(TRAIN + "stage=ep | stage.init_from=all", 2, "stage.init_from=all"),
    "empty pipeline": bad(TRAIN + "stage.pipeline=[]", 2, "stage.pipeline"),
    "pipeline of the pipeline": bad(TRAIN + "stage.pipeline=[all]", 2, "stage.pipeline"),
    "no weight at all": bad(TRAIN + "stage=vanilla | objective.vanilla=0", 2, "objective"),
    "infinite rate": bad(TRAIN + "stage=vanilla | optim.lr=inf", 2, "optim.lr"),
    "infinite weight": bad(TRAIN + "stage=ep | objective.alpha=inf", 2, "objective.alpha"),
    "a group that is none": bad(TRAIN + "+optimizer=adam", 2, "optimizer"),
    "a group within a group": bad(TRAIN + "tsm/optim=tiny", 2, "tsm/optim"),
    "a group that is a value": bad(TRAIN + "tsm=3", 2, "tsm=3"),
    "a dictionary for a number": bad(TRAIN + "optim={{lr:1}}", 2, "optim"),
    "a text for a list": bad(TRAIN + "lora.targets=q_proj", 2, "lora.targets"),
    "a number for a dictionary": bad(TRAIN + "tsm.model_args=3", 2, "tsm.model_args"),
    "unknown optimiser": bad(TRAIN + "stage=vanilla | optim.name=adamv", 2, "optim.name"),
    "unknown optimiser of the TSM": bad(TRAIN + "stage=tsm | tsm.optim.name=adamv", 2, "optim"),
    "unknown place in the instruction": bad(TRAIN + "data.instruction.template='Is {{it}}?'", 2, "instruction"),
    "half a place in the instruction": bad(TRAIN + "data.instruction.template='Is {{modality'", 2, "instruction"),
    "hint without a place": bad(
        TRAIN + "stage=vanilla | data.instruction.hint=true | data.instruction.hint_template='Hm.'",
        2,
        "hint template",
        "{prediction}",
    ),
    "mixture of nothing": bad(TRAIN + "data=mixture | data.members={{}}", 2, "data.members"),
    "member that is a word": bad(TRAIN + "data=mixture | data.members={{a:digits,b:digits}}", 2, "data.members.a"),
    "member with an unknown key": bad(
        TRAIN + "data=mixture | data.members={{a:{{source:digits,sed:1}},b:{{source:digits}}}}", 2, "data.members.a.sed"
    ),
    "member of an unknown source": bad(
        TRAIN + "data=mixture | data.members={{a:{{source:digit}},b:{{source:digits}}}}", 2, "data.members.a.source"
    ),
    "label texts of another number": bad(TRAIN + "data.label_texts=[a,b]", 2, "data.label_texts"),
    "label texts that are a number": bad(TRAIN + "data.label_texts=3", 2, "data.label_texts"),
    "label file that is no YAML": bad(
        TRAIN + "data.label_file={tmp}/l.yaml", 1, "l.yaml", spoil=write("l.yaml", "a: [b")
    ),
    "label file in Latin-1": bad(
        TRAIN + "data.label_file={tmp}/l.yaml", 1, "l.yaml", spoil=write("l.yaml", b"a: \xe4\n")
    ),
    "GPU that is not there": bad(TRAIN + "launch.device=cuda", 2, "launch.device"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_configuration(name, cli, places):
    CASES[name].spoil(places["tmp"])
    check(CASES[name], cli, places["tmp"], **places)
