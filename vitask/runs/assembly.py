"""What a VLM stage trains, put together from the configuration: training and `vitask doctor` take the very same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import set_seed
from safetensors.torch import load_file

from vitask.config.build import build_negatives, build_objective, build_placement, build_vlm
from vitask.config.exemplars import build_exemplars, build_tsm_exemplars
from vitask.errors import UsageError
from vitask.files import sampled_digest
from vitask.runs.exemplars import exemplars_of, image_set
from vitask.runs.features import prompts_and_features
from vitask.runs.folder import RunFolder, say
from vitask.runs.identity import at_stage, is_head, needs_exemplar, needs_tsm, run_folder, term_weights
from vitask.runs.out_of_fold import teacher_logits
from vitask.runs.questions import asked_in, build_questions, require_plain_texts
from vitask.runs.tuned import load_run_tsm, require_connector, require_same_tsm
from vitask.training.answers import AnswerCounts
from vitask.training.candidates import Candidates
from vitask.training.head import HeadTask, HeadTrainingData
from vitask.training.tsm_task import joint_heads
from vitask.training.vitask_data import VITaskTrainingData
from vitask.training.vitask_task import VITask
from vitask.tsm import weights_digest
from vitask.vlm.adapt import assert_trainable, trainable_groups
from vitask.vlm.classifier import VLMClassifier
from vitask.vlm.families.check import check_family
from vitask.vlm.packed import why_not_packed
from vitask.vlm.saving import load_head, load_weights

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.runs.questions import Question
    from vitask.tsm import TSM, ExemplarSource, ImageSet
    from vitask.vlm.image_cache import ImageFeatures
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompter, PromptTable

Parts = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Earlier:
    """What earlier stages give to one.

    Attributes:
        tsm: the trained TSM, if the stage needs one.
        model: the folder of the tuned VLM that it starts from, if it does.
    """

    tsm: TSM | None
    model: Path | None


@dataclass(frozen=True)
class Assembly:
    """A VLM stage, ready for the loop.

    Attributes:
        task: what the loop trains.
        data: its training split.
        vlm: the model inside.
        prompter: its tokenizer and image processor.
        questions: what is asked on each data set.
        parts: tensors and parameters of every part that trains.
        source: what gives the exemplars, if the VLM sees any.
    """

    task: VITask | HeadTask
    data: VITaskTrainingData | HeadTrainingData
    vlm: ExemplarVLM
    prompter: Prompter
    questions: list[Question]
    parts: Parts
    source: ExemplarSource | None = None


def earlier_stages(config: Config, task: TaskData) -> Earlier:
    """Load what a stage starts from.

    Raises:
        VitaskError: the TSM is not trained, is damaged, knows other labels, or is not the earlier stage's; the data has
            changed since.
    """
    tsm = None
    if needs_tsm(config):
        trained = RunFolder(run_folder(at_stage(config, "tsm")))
        tsm = load_run_tsm(trained.path, task.labels)
        trained.check_data(task)
    if not config.stage.init_from:
        return Earlier(tsm, None)
    start = RunFolder(run_folder(at_stage(config, config.stage.init_from)))
    start.check_data(task)
    if tsm is not None:
        require_same_tsm(start, tsm)
    return Earlier(tsm, start.model)


def starting_weights(vlm: ExemplarVLM, earlier: Earlier) -> dict[str, str | None]:
    """Return digests of what a stage starts from, by what a user calls it."""
    files = sorted(earlier.model.glob("**/*.safetensors")) if earlier.model else ()
    tuned = {f"{path.name} {name}": tensor for path in files for name, tensor in load_file(path).items()}
    return {
        "the VLM": vlm.base_digest,
        "the TSM": weights_digest(earlier.tsm) if earlier.tsm else None,
        "the earlier stage": sampled_digest(tuned) if tuned else None,
    }


def assemble(config: Config, task: TaskData, accelerator: Accelerator, earlier: Earlier) -> Assembly:
    """Build everything that a VLM stage trains on and with.

    Args:
        config: the run.
        task: its data; what is computed once an image is computed for its whole training split.
        accelerator: where the TSM and the vision tower run.
        earlier: what the stage starts from.

    Raises:
        UsageError: the configuration contradicts itself.
        VitaskError: earlier weights are missing or damaged, or something else would train than what should.
    """
    questions, shown = build_questions(config, task), image_set(task, "train")
    tsm = build_tsm_exemplars(config, earlier.tsm, accelerator.device) if earlier.tsm else None
    logits = tsm.logits(shown) if tsm else None
    source = build_exemplars(config, tsm) if needs_exemplar(config) else None
    if source and config.exemplar.features == "patches" and source.num_tokens == 1:
        say("exemplar.features=patches: the TSM's last map is 1 x 1, so one token, that of exemplar.features=cls")
    placement = build_placement(config.exemplar, source.num_tokens) if source else None
    set_seed(config.seed)  # only here, so that adapters start alike whether a TSM was loaded or not
    vlm, prompter = build_vlm(config, source.feature_dim if source else None, placement)
    model = VLMClassifier(vlm, len(task.labels)) if is_head(config) else None
    parts = _prepare(vlm, config, earlier.model)
    if model:
        parts |= _prepare_head(model, config, earlier.model)
    asked = asked_in(questions, task, "train", logits)
    require_plain_texts(prompter, task, "train", asked)
    prompts, features = prompts_and_features(vlm, prompter, task, asked, config, accelerator)
    if vlm.family.notice:
        say(vlm.family.notice)
        check_family(vlm.eval(), prompter.prompt(prompts.images[0], asked[0]), prompter)
    if model:
        data = HeadTrainingData(task, prompts, features)
        heads = joint_heads(task, data.targets, data.members, balanced=False)
        return Assembly(HeadTask(model, heads), data, vlm, prompter, questions, parts)
    trained, answers = _answering(config, task, vlm, prompts, features, shown, source, logits)
    return Assembly(trained, answers, vlm, prompter, questions, parts, source)


def _answering(
    config: Config,
    task: TaskData,
    vlm: ExemplarVLM,
    prompts: PromptTable,
    features: ImageFeatures | None,
    shown: ImageSet,
    source: ExemplarSource | None,
    logits: Tensor | None,
) -> tuple[VITask, VITaskTrainingData]:
    """Build the objective of a VLM that answers in words, and its training split."""
    responses = [prompts.prompter.response(answer.text) for answer in task.answers]
    objective = build_objective(config.objective, term_weights(config), responses)
    taught = teacher_logits(config, task, logits)
    data = VITaskTrainingData(
        task,
        prompts,
        responses,
        objective.branches,
        packed=_choose_packed(config.step, vlm),
        placement=vlm.placement,
        exemplars=exemplars_of(source, shown, task, "train") if source else None,
        negatives=build_negatives(config.objective.crt, task, config.seed),
        candidates=Candidates(task, config.objective.closed_set.limit, config.seed, taught),
        image_features=features,
    )
    return VITask(vlm, objective, None if task.open_ended else AnswerCounts(responses)), data


def _prepare(vlm: ExemplarVLM, config: Config, earlier: Path | None) -> Parts:
    """Load the earlier stage's weights, freeze what the stage freezes, and check that exactly the rest trains."""
    train_connector = vlm.connector is not None and config.stage.train_connector
    if vlm.connector is not None and not train_connector and not config.stage.init_from:
        raise UsageError("stage.train_connector=false: then the connector must come from an earlier stage.init_from")
    if earlier is not None:
        if vlm.connector is not None and not train_connector:
            require_connector(earlier)
        load_weights(vlm, earlier)
    if vlm.connector is not None:
        vlm.connector.requires_grad_(train_connector)
    assert_trainable(
        vlm,
        connector=train_connector,
        tower=config.vlm.train_tower,
        projector=config.vlm.train_projector,
        full=config.lora.tune == "all",
    )
    return trainable_groups(vlm)


def _prepare_head(model: VLMClassifier, config: Config, earlier: Path | None) -> Parts:
    """Load the earlier stage's linear head, if it has one; say what of it trains."""
    if earlier is not None and is_head(at_stage(config, config.stage.init_from)):
        load_head(model.classifier, earlier)
    tensors = list(model.classifier.parameters())
    return {"linear head": (len(tensors), sum(tensor.numel() for tensor in tensors))}


def _choose_packed(step: str, vlm: ExemplarVLM) -> bool:
    """Whether to train on packed batches; says so when the model cannot take them."""
    reason = why_not_packed(vlm.base) if step == "packed" else None
    if reason is not None:
        say(f"step=packed is not possible here, every branch takes a pass of its own: {reason}")
    return step == "packed" and reason is None
