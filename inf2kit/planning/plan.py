"""A plan: what a demand needs on a preset's instances, what it costs, and what breaks first."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path

from inf2kit import catalog
from inf2kit.errors import Inf2KitError, PlanError
from inf2kit.planning import basis as bases
from inf2kit.planning import capacity, cost, scaling
from inf2kit.planning.basis import Basis
from inf2kit.planning.capacity import Limit
from inf2kit.planning.cost import Cost
from inf2kit.planning.demand import Demand
from inf2kit.planning.prediction import Objectives, Prediction, Predictor
from inf2kit.planning.scaling import Growth, Scaling
from inf2kit.planning.times import EngineModel
from inf2kit.presets import Preset, load_preset, preset_names

#: Tokens of one prefill of the backends that compute on this machine: of one prompt or of several.
_CHUNK_TOKENS = 256


@dataclass(frozen=True)
class Situation:
    """Everything about a plan but the preset.

    Attributes:
        demand: What is asked.
        objectives: What nineteen of twenty calls must meet.
        growth: How the load changes.
        sampling: Where tokens are chosen: ``host`` or ``device``; None for where each preset chooses them.
        region: The region of the prices; None for any.
        prefills_per_step: Most prefills between two decode steps.
        seeds: Number of simulations of each figure.
        streamed: Whether answers are streamed, so that they end at the preset's ``stream_deadline_s``.
    """

    demand: Demand
    objectives: Objectives
    growth: Growth = dataclasses.field(default_factory=Growth)
    sampling: str | None = None
    region: str | None = None
    prefills_per_step: int = 1
    seeds: int = 5
    streamed: bool = False


@dataclass(frozen=True)
class Alternative:
    """Another preset of the same model, or another of its instance types.

    Attributes:
        preset: The preset's name.
        instance_type: The instance type.
        instances: Number of instances; 0 if there is no plan.
        prediction: What the demand meets there; None if there is no plan.
        cost: What they cost; None without a price or a plan.
        kind: What its figures rest on.
        reason: Why there is no plan.
    """

    preset: str
    instance_type: str
    instances: int = 0
    prediction: Prediction | None = None
    cost: Cost | None = None
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan for one preset on one instance type.

    Attributes:
        preset: The preset.
        situation: What it is for.
        basis: What its figures rest on.
        engine: Each instance's engine.
        prediction: What the demand meets on the planned instances.
        unlimited: The same where no call is cut at its deadline.
        longest_answer: New tokens that a call alone in its instance gets before its deadline or its row's
            end.
        sweep: Predictions for growing loads on the same instances.
        knee: The prediction of the sweep with the most throughput for its latency.
        limits: What a growing load breaks, in order.
        cost: What the instances cost; None without a price.
        scaling: Values for automatic scaling.
        notes: What the reader should know about the figures.
    """

    preset: Preset
    situation: Situation
    basis: Basis
    engine: EngineModel
    prediction: Prediction
    unlimited: Prediction
    longest_answer: int
    sweep: list[Prediction]
    knee: Prediction
    limits: list[Limit]
    cost: Cost | None
    scaling: Scaling
    notes: list[str]


def make(preset: Preset, situation: Situation, *, calibration: Path | None = None) -> Plan:
    """Plan for a preset, on the instance type that it has.

    Args:
        preset: The preset.
        situation: The demand and what it must meet.
        calibration: A file of ``bench load --calibrate``; by default the preset's own, if there is one.

    Raises:
        PlanError: no number of instances is enough, or nothing is known of the preset's speed.
        Inf2KitError: a file cannot be read.
    """
    longest = preset.shapes.max_context_length
    if situation.demand.mean_input > longest:
        raise PlanError(
            f"prompts have {situation.demand.mean_input:.0f} tokens on average, and {preset.name} refuses "
            f"those of more than {longest}; plan for shorter ones, or for a preset with longer rows"
        )
    basis = bases.find(preset, sampling=_sampling(preset, situation), calibration=calibration)
    engine = engine_model(preset, basis, situation)
    predictor = _predictor(preset, engine, basis, situation)
    prediction = capacity.least_instances(predictor, basis.errors)
    # Searches and sweeps need fewer simulations than the figures that are printed.
    quick = _predictor(preset, engine, basis, dataclasses.replace(situation, seeds=min(3, situation.seeds)))
    without_deadline = dataclasses.replace(engine, deadline_s=float("inf"), stream_deadline_s=None)
    endless = _predictor(preset, without_deadline, basis, situation)
    predictions = capacity.sweep(quick, prediction.instances)
    price = cost.of(prediction, predictor, preset.compute.instance_type, situation.region)
    notes = _notes(preset, basis, situation.demand)
    if price and situation.region not in (None, price.region):
        notes.append(f"no price is known in {situation.region}; that of {price.region} is shown")
    return Plan(
        preset,
        situation,
        basis,
        engine,
        prediction,
        endless.predict(prediction.instances),
        _longest_answer(preset, engine, predictor.mean_input),
        predictions,
        capacity.knee(predictions),
        capacity.limits(predictions, quick.objectives, engine.ends_s),
        price,
        scaling.plan(quick, prediction.instances, basis.errors, situation.growth),
        notes,
    )


def alternatives(plan: Plan) -> list[Alternative]:
    """The same demand on the other presets of the model and on their other instance types."""
    chosen = (plan.preset.name, plan.preset.compute.instance_type)
    presets = [load_preset(name) for name in preset_names()]
    others = [preset for preset in presets if preset.model.id == plan.preset.model.id]
    if plan.preset.name not in (preset.name for preset in others):
        others.insert(0, plan.preset)
    choices = [
        preset.with_instance_type(instance_type)
        for preset in others
        for instance_type in preset.compute.instance_types
        if (preset.name, instance_type) != chosen
    ]
    return [_alternative(preset, plan.situation) for preset in choices]


def engine_model(preset: Preset, basis: Basis, situation: Situation) -> EngineModel:
    """The engine of a preset, for the simulation."""
    return EngineModel(
        basis.times,
        preset.shapes.batch_size,
        preset.serving.queue_size,
        preset.serving.deadline_s,
        situation.prefills_per_step,
        None if preset.compute.backend == "neuron" else _CHUNK_TOKENS,
        stream_deadline_s=preset.serving.stream_deadline_s if situation.streamed else None,
        engines=preset.compute.data_parallel_size,
    )


def _alternative(preset: Preset, situation: Situation) -> Alternative:
    name, instance_type = preset.name, preset.compute.instance_type
    quick = dataclasses.replace(situation, seeds=min(3, situation.seeds))
    try:
        basis = bases.find(preset, sampling=_sampling(preset, situation))
        predictor = _predictor(preset, engine_model(preset, basis, quick), basis, quick)
        prediction = capacity.least_instances(predictor, basis.errors)
    except Inf2KitError as error:
        return Alternative(name, instance_type, reason=str(error))
    price = cost.of(prediction, predictor, instance_type, situation.region)
    return Alternative(name, instance_type, prediction.instances, prediction, price, basis.kind)


def _predictor(preset: Preset, engine: EngineModel, basis: Basis, situation: Situation) -> Predictor:
    errors = basis.errors
    latency = errors.latency if situation.demand.callers else errors.open_latency
    objectives = situation.objectives.slower(latency, errors.first_token)
    return Predictor(engine, preset.shapes, situation.demand, objectives, seeds=situation.seeds)


def _longest_answer(preset: Preset, engine: EngineModel, mean_input: float) -> int:
    times, room = engine.times, preset.shapes.sequence_length - round(mean_input)
    left_s = engine.ends_s - times.prefill(round(mean_input)) - times.stall_s - times.round_trip_s
    return min(room, 1 + int(max(0.0, left_s) / times.step(1)))


def _notes(preset: Preset, basis: Basis, demand: Demand) -> list[str]:
    notes = [basis.notice] if basis.notice else []
    image = catalog.image().versions["optimum_neuron"]
    if basis.kind == "published" and f"optimum-neuron {image}" not in basis.source:
        notes.append(f"the image has optimum-neuron {image}; the figures are of another version")
    if basis.kind == "published" and preset.shapes.batch_size > 1 and not demand.callers:
        notes.append("no run with calls at random times was published for this shape")
    shapes = preset.shapes
    inputs = [demand.lengths(random.Random(seed))[0] for seed in range(1000)]  # noqa: S311
    if too_long := sum(tokens > shapes.max_context_length for tokens in inputs):
        notes.append(
            f"{too_long / len(inputs):.1%} of the prompts have more than the {shapes.max_context_length} "
            f"tokens that {preset.name} takes; such calls are refused with 422, and planned as the longest "
            "possible"
        )
    if demand.mean_input + demand.longest_new > shapes.sequence_length:
        notes.append(
            f"a row has {shapes.sequence_length} tokens, so that the longest answers end before their length"
        )
    return notes


def _sampling(preset: Preset, situation: Situation) -> str:
    return situation.sampling or preset.compute.sampling
