"""MMEngine hooks that keep runs exact, complete and honest."""

from mmsigma.engine.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmsigma.engine.hooks.channels_last import ChannelsLastHook
from mmsigma.engine.hooks.checkpoint_guard import CheckpointGuardHook
from mmsigma.engine.hooks.chunked_loss import ChunkedLossHook
from mmsigma.engine.hooks.empty_panoptic import EmptyPanopticHook
from mmsigma.engine.hooks.final_test import FinalTestHook
from mmsigma.engine.hooks.label_check import LabelCheckHook
from mmsigma.engine.hooks.mean_loss import MeanLossHook
from mmsigma.engine.hooks.non_finite_loss import NonFiniteLossHook
from mmsigma.engine.hooks.panoptic_truth import PanopticTruthHook
from mmsigma.engine.hooks.pending_validation import PendingValidationHook
from mmsigma.engine.hooks.rank_check import RankCheckHook
from mmsigma.engine.hooks.same_buffers import SameBuffersHook
from mmsigma.engine.hooks.schedule_check import ScheduleCheckHook
from mmsigma.engine.hooks.step_seed import StepSeedHook
from mmsigma.engine.hooks.stop import StopHook

__all__ = [
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'CheckpointGuardHook',
    'ChunkedLossHook',
    'EmptyPanopticHook',
    'FinalTestHook',
    'LabelCheckHook',
    'MeanLossHook',
    'NonFiniteLossHook',
    'PanopticTruthHook',
    'PendingValidationHook',
    'RankCheckHook',
    'SameBuffersHook',
    'ScheduleCheckHook',
    'StepSeedHook',
    'StopHook',
]
