"""A grid of runs: methods x trunks x rates x seeds, each with a config of its own.

A grid file is a Python config::

    leaf = '../camvid/{method}_dinov2-s_fcn_camvid-448x336.py'   # from the grid file's folder
    methods = ['sigma', 'lora']           # or {'sigma-mean': {'tuner.gate': 'mean'}, ...}
    trunks = ['dinov2-s', 'dinov2-b']     # if there are several: for {trunk} in the leaf's name
    settings = ['../_base_/schedules/adamw_200.py']              # merged into every run, in order
    options = {'optim_wrapper.type': ...}                        # and these, by dotted name
    rates = [1e-3, 3e-3]                  # of the optimiser, and so of the head
    inner_rates = [1e-4, 3e-4]            # if given: of what trains in the backbone
    seeds = [0]
    metric = 'mIoU'                       # of the validation split; chooses the rates

A method with options of its own may have ``rates``, ``inner_rates`` and ``seeds`` of its own, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.config.digest import digest
from mmsigma.errors import InvalidSettingError, MMSigmaError, UnknownNameError, unknown

if TYPE_CHECKING:
    from mmengine.config import Config

RATE, SEED = 'optim_wrapper.optimizer.lr', 'randomness.seed'
INNER = 'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult'
_REQUIRED = ('leaf', 'methods', 'rates', 'seeds', 'metric')
_KEYS = (*_REQUIRED, 'trunks', 'settings', 'options', 'inner_rates')
_GUARDS = {
    'mmsigma.MeanLossHook',
    'mmsigma.PendingValidationHook',
    'mmsigma.RankCheckHook',
    'mmsigma.SameBuffersHook',
    'mmsigma.ScheduleCheckHook',
    'mmsigma.StopHook',
}
_AXES = ('rates', 'inner_rates', 'seeds')


@dataclass(frozen=True)
class Run:
    """One training of a grid.

    Attributes:
        method: What the grid calls it.
        rate: Learning rate of the optimiser.
        inner: That of what trains in the backbone; None where the config says it.
        seed: Seed of the run.
        config: The whole config; empty where it cannot be read.
        trunk: What the grid calls it; empty where it has only one.
        problem: Why it cannot be run; empty where nothing is known against it.
        own: Dotted names of the options that the grid gives to its method.
    """

    method: str
    rate: float
    seed: int
    config: Config
    trunk: str = ''
    problem: str = ''
    inner: float | None = None
    own: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """What the runs of all rates and seeds share."""
        return f'{self.method}_{self.trunk}' if self.trunk else self.method

    @property
    def name(self) -> str:
        """A name for files; unique in a grid."""
        inner = '' if self.inner is None else f'_inner{self.inner:g}'
        return f'{self.model}_lr{self.rate:g}{inner}_seed{self.seed}'

    @property
    def steps(self) -> int | None:
        """Of the training; None where the config counts in epochs."""
        return (self.config.get('train_cfg') or {}).get('max_iters')

    @property
    def hash(self) -> str:
        """Of the config; of an absolute path only the last two parts count.

        Hooks that only guard a run, and the grouping of its parameters, change nothing of its
        result, so they do not count: records of before configs named them stay valid.
        """
        config = self.config.to_dict()
        config['custom_hooks'] = [
            hook for hook in config.get('custom_hooks') or [] if hook['type'] not in _GUARDS
        ]
        wrapper = config.get('optim_wrapper') or {}
        if wrapper.get('constructor') == 'mmsigma.GroupedOptimWrapperConstructor':
            del wrapper['constructor']
        return digest(config)[:16]


def read(path: str | Path) -> tuple[list[Run], str]:
    """The runs of a grid file, in order, and the metric that compares them.

    A run whose config cannot be read says so as its ``problem``, and so does the one that stands
    for all runs of one name.

    Raises:
        InvalidSettingError: No such file, or a missing or empty entry.
        UnknownNameError: An entry that grids do not have.
    """
    from mmengine.config import Config

    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob('*.py'))
        raise InvalidSettingError(
            f'There is no grid {str(path)!r}; {path.parent} holds {", ".join(near) or "none"}.'
        )
    grid = Config.fromfile(path)
    for name in grid:
        if name not in _KEYS:
            raise UnknownNameError(unknown('entry of a grid', name, _KEYS))
    for name in _REQUIRED:
        if not grid.get(name):
            raise InvalidSettingError(f'Grid {path} needs `{name}`; it has {", ".join(grid)}.')
    methods = grid.methods if isinstance(grid.methods, Mapping) else {n: {} for n in grid.methods}
    if ('{trunk}' in grid.leaf) != bool(grid.get('trunks')):
        raise InvalidSettingError(
            f'Grid {path}: `trunks` and a leaf with {{trunk}} in its name belong together; given: '
            f'{grid.get("trunks")} and {grid.leaf!r}.'
        )
    runs: dict[str, Run] = {}
    for method, trunk, rate, inner, seed in _axes(grid, methods):
        own = {key: value for key, value in methods[method].items() if key not in _AXES}
        run = Run(method, float(rate), seed, Config(), trunk, inner=inner, own=tuple(own))
        if run.name in runs:
            problem = 'two runs have this name; name every method, rate and seed once'
        else:
            settings = {**own, RATE: rate, SEED: seed}
            if inner is not None:
                settings[INNER] = inner / rate
            try:
                run = replace(run, config=_config(path, grid, method, trunk, settings))
                problem = ''
            except Exception as error:  # a config is a program, with errors of any kind
                problem = describe(error)
        runs[run.name] = replace(run, problem=problem)
    return list(runs.values()), grid.metric


def _axes(
    grid: Config, methods: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, float, float | None, int]]:
    """Method, trunk, rate, inner rate and seed of each run; all of a seed before the next one."""
    found = []
    for trunk, (method, own) in product(grid.get('trunks') or [''], methods.items()):
        rates, inner, seeds = (own.get(key, grid.get(key)) for key in _AXES)
        found += [(method, trunk, *x) for x in product(rates, inner or [None], seeds)]
    return iter(sorted(found, key=lambda run: run[-1]))  # the order of what is equal stays


def describe(error: Exception) -> str:
    """An error in a line, with its kind unless it is one of ours that says enough."""
    return str(error) if isinstance(error, MMSigmaError) else f'{type(error).__name__}: {error}'


def _config(
    path: Path, grid: Config, method: str, trunk: str, options: Mapping[str, Any]
) -> Config:
    from mmengine.config import Config

    leaf = path.parent / grid.leaf.format(method=method, trunk=trunk)
    if not leaf.is_file():
        near = sorted(p.name for p in leaf.parent.glob('*.py'))[:20]
        raise InvalidSettingError(
            f'Method {method!r} of grid {path} needs {leaf}, which does not exist; its folder '
            f'holds {", ".join(near) or "nothing"}.'
        )
    config = Config.fromfile(leaf)
    for settings in grid.get('settings', []):
        config.merge_from_dict(Config.fromfile(path.parent / settings).to_dict())
    # A copy: MMEngine takes `_delete_` out of what it merges.
    config.merge_from_dict(deepcopy({**grid.get('options', {}), **options}))
    return config
