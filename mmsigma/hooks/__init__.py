"""MMEngine hooks that keep runs exact, complete and honest."""

from mmsigma.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmsigma.hooks.channels_last import ChannelsLastHook
from mmsigma.hooks.checkpoint_guard import CheckpointGuardHook
from mmsigma.hooks.chunked_loss import ChunkedLossHook
from mmsigma.hooks.empty_panoptic import EmptyPanopticHook
from mmsigma.hooks.final_test import FinalTestHook
from mmsigma.hooks.label_check import LabelCheckHook
from mmsigma.hooks.mean_loss import MeanLossHook
from mmsigma.hooks.non_finite_loss import NonFiniteLossHook
from mmsigma.hooks.panoptic_truth import PanopticTruthHook
from mmsigma.hooks.pending_validation import PendingValidationHook
from mmsigma.hooks.rank_check import RankCheckHook
from mmsigma.hooks.same_buffers import SameBuffersHook
from mmsigma.hooks.step_seed import StepSeedHook
from mmsigma.hooks.stop import StopHook

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
    'StepSeedHook',
    'StopHook',
]
