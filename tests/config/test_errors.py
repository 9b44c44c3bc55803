"""A wrong request ends with code 2 and one line that names what is wrong; nothing is trained or written."""

from __future__ import annotations

import pytest

TRAIN = {
    "sed=1": "unknown config key 'sed'. Did you mean 'seed'?",
    "objective.alph=1": "Did you mean 'objective.alpha'?",
    "objectiv.alpha=1": "Did you mean 'objective.alpha'?",
    "optim.learning_rate=1": "unknown config key 'optim.learning_rate'",
    "tsm.optim.lrr=1": "Did you mean 'tsm.optim.lr'?",
    "ablation=demo": "unknown config key 'ablation'",
    "stage=eq": "stage=eq: no such option. There are all, crt, ep, tsm, vanilla",
    "stage=vanila": "Did you mean 'vanilla'?",
    "data=digit": "Did you mean 'digits'?",
    "experiment=paper_dermo": "Did you mean 'paper_derma'?",
    "data=null": "data=null: no such option",
    "stage=": "stage=: no such option",
    "seed=x": "seed: Value 'x' of type 'str' could not be converted to Integer",
    "seed=1.5": "seed: Value '1.5'",
    "seed=null": "seed: ",
    "seed=": "seed: ",
    "optim.lr=fast": "optim.lr: Value 'fast'",
    "optim.lr=true": "optim.lr: Value 'True'",
    "overwrite=maybe": "overwrite: Value 'maybe' is not a valid bool",
    "stage.terms=vanilla": "stage.terms: ",
    "vlm.image_options=3": "vlm.image_options: ",
    "seed=-1": "seed: -1 is out of range; expected between 0 and 4294967295",
    "seed=99999999999": "seed: 99999999999 is out of range",
    "optim.lr=-1": "optim.lr: -1.0 is out of range; expected at least 0",
    "optim.lr=nan": "optim.lr: nan is out of range",
    "optim.connector_lr=-1": "optim.connector_lr: -1.0 is out of range",
    "optim.micro_batch_size=0": "optim.micro_batch_size: 0 is out of range; expected at least 1",
    "optim.epochs=0": "optim.epochs: 0 is out of range",
    "data.label_noise=1": "data.label_noise: 1.0 is out of range; expected between 0 and 0.99",
    "data.train_fraction=1.5": "expected between 0 and 1",
    "lora.rank=0": "lora.rank: 0 is out of range",
    "objective.rda.temperature=0": "objective.rda.temperature: 0.0 is out of range",
    "optim.schedule=cosin": "optim.schedule: 'cosin' is not one of cosine, linear",
    "launch.precision=fp8": "launch.precision: 'fp8' is not one of no, bf16, fp16",
    "objective.rda.direction=studentfirst": "Did you mean 'student_first'?",
    "stage.terms=[vanilla,foo]": "stage.terms: 'foo' is not one of vanilla, ep, rda, crt",
    "stage.pipeline=[foo]": "stage 'foo': no such stage",
    "tag=a/b": "tag: 'a/b' becomes part of a folder's name",
    "data.name=..": "data.name: '..'",
    "seed": "'seed' is not an override; write key=value",
    "seed:1": "'seed:1' is not an override",
    "=1": "'=1' is not an override",
    "--multirun": "'--multirun' is not an override",
    "seed=[1": "'seed=[1' cannot be read",
    "lora.targets=[a": "'lora.targets=[a' cannot be read",
    "objective.alpha=~1": "'objective.alpha=~1' cannot be read",
    "seed=1,2": "'seed=1,2' gives several values; one run takes one, and `vitask ablate` runs grids",
    "seed=${nothing}": "seed: Interpolation key 'nothing' not found",
    "seed=${oc.env:NO_SUCH_VARIABLE}": "seed: ",
    "+foo=1": "foo: Key 'foo' not in 'Config'",
    "~seed": "seed has no value; give seed=...",
    "hydra.foo=1": "Key 'foo' not in 'HydraConf'",
    "data=medmnist": "data.name has no value; give data.name=...",
    "data=image_folder": "data.root has no value; give data.root=...",
    "experiment=paper": "data.name has no value",
}


@pytest.mark.parametrize("override", TRAIN)
def test_train_refuses(override, cli, tmp_path):
    assert cli("train", f"out={tmp_path}", override).refuses(2, TRAIN[override])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        ("evaluate", [], "run has no value; give run=..."),
        ("evaluate", ["rum=x"], "Did you mean 'run'?"),
        ("evaluate", ["run=x", "exemplar=true"], "exemplar: 'true' is not one of on, off, both"),
        ("evaluate", ["run=x", "split=tst"], "Did you mean 'test'?"),
        ("evaluate", ["run=x", "batch_size=0"], "batch_size: 0 is out of range"),
        ("evaluate", ["run=x", "generate=perhaps"], "generate: "),
        ("evaluate", ["run=x", "+seed=1"], "unknown config key 'seed'"),
        ("evaluate", ["run=x", "~run"], "unknown config key 'run'"),
        ("evaluate", ["run=x", "hydra.run.dir=y"], "unknown config key 'hydra.run.dir'"),
        ("evaluate", ["run=x", "stage=ep"], "unknown config key 'stage'"),
        ("evaluate", ["some/folder"], "'some/folder' is not an override"),
        ("predict", ["x.png"], "run has no value"),
        ("predict", ["run=x", "exemplar=both", "x.png"], "exemplar: 'both' is not one of on, off"),
        ("bench", ["size=smal"], "size: 'smal' is not one of tiny, small, internvl2_2b. Did you mean 'small'?"),
        ("bench", ["device=gpu"], "device: 'gpu' is not one of auto, cpu, cuda, meta"),
        ("bench", ["dtype=float16"], "dtype: 'float16' is not one of auto, float32, bfloat16"),
        ("bench", ["repeats=0"], "repeats: 0 is out of range; expected at least 1"),
        ("bench", ["batch=4"], "Did you mean 'batch_size'?"),
        ("ablate", ["dem"], "no grid named 'dem'. Did you mean 'demo'?"),
        ("ablate", ["seeds=[0]"], "give the name of a grid first"),
        ("ablate", ["base"], "no grid named 'base'"),
        ("ablate", ["demo", "seed=1"], "write seeds=[0,1]"),
        ("ablate", ["demo", "seeds=1"], "seeds: "),
        ("ablate", ["demo", "seeds=[]"], "seeds: a grid needs at least one"),
        ("ablate", ["demo", "seeds=[a]"], "seeds[0]: Value 'a'"),
        ("ablate", ["demo", "workers=0"], "workers: 0 is out of range"),
        ("ablate", ["demo", "split=x"], "split: 'x' is not one of train, val, test"),
        ("ablate", ["demo", "references=[vanila]"], "references: there is no row 'vanila'. Did you mean 'vanilla'?"),
        ("ablate", ["demo", "optim.ep=1"], "Did you mean 'optim.epochs'?"),
        ("ablate", ["demo", "optim.lr=-1"], "optim.lr: -1.0 is out of range"),
    ],
)
def test_the_other_verbs_refuse(verb, arguments, text, cli):
    assert cli(verb, *arguments).refuses(2, text)
