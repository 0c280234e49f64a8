"""One metric on several data sets at once, and its mean over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS as ROOT_METRICS

from mmsigma.errors import DataError
from mmsigma.registry import METRICS


@METRICS.register_module()
class ByDataset(BaseMetric):
    """Another metric on each data set of a concatenation, and the mean over the data sets.

    ``cityscapes/mIoU``, ``bdd100k/mIoU``, ... and ``mIoU``, their mean: every data set counts the
    same, whatever its size. A sample belongs to the data set whose folder its image is in.

    Args:
        metric: Config of the other metric.
        folders: By name of the data set, the folder that all of its images are below.
        **kwargs: See ``mmengine.evaluator.BaseMetric``.
    """

    def __init__(self, metric: dict[str, Any], folders: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metric: BaseMetric = ROOT_METRICS.build(metric)
        self.folders = {name: Path(folder).absolute() for name, folder in folders.items()}

    @property
    def dataset_meta(self) -> dict | None:
        """What the data sets say of themselves; the same for all."""
        return self.metric.dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self.metric.dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Let the other metric see each sample, and keep what it makes of it with the data set.

        Raises:
            DataError: An image that is in none of the folders.
        """
        for sample in data_samples:
            self.metric.process(data_batch, [sample])
            name = self._name(Path(sample['img_path']).absolute())
            self.results += [(name, result) for result in self.metric.results]
            self.metric.results.clear()

    def _name(self, image: Path) -> str:
        for name, folder in self.folders.items():
            if folder in image.parents:
                return name
        raise DataError(
            f'{image} is in none of the folders that ByDataset knows: '
            f'{", ".join(map(str, self.folders.values()))}. Set val_evaluator.folders (and '
            'test_evaluator.folders) to the data_root of each data set.'
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The other metric's values by data set, and their means.

        Raises:
            DataError: A data set without any sample.
        """
        values: dict[str, float] = {}
        means: dict[str, float] = {}
        for name in self.folders:
            own = [result for other, result in results if other == name]
            if not own:
                raise DataError(f'No image of {name} was evaluated: {self.folders[name]}.')
            for key, value in self.metric.compute_metrics(own).items():
                values[f'{name}/{key}'] = value
                means[key] = means.get(key, 0.0) + value / len(self.folders)
        return {**values, **means}
