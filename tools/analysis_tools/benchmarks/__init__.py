"""What ``benchmark.py`` measures, by command, all of it with :mod:`benchmarks.measure`."""

from benchmarks import backbones, measure, models, parts, scaling

COMMANDS: dict[str, measure.Command] = {
    'backbone': backbones.backbone,
    'model': models.model,
    'scaling': scaling.scaling,
    'adapter': parts.adapter,
    'tasks': parts.tasks,
    'precision': parts.precision,
}
